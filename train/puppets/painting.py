"""The face as painted on a head: skin, brows, lids, lips, the inside of the mouth, eyeballs."""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.train.puppets.canvas import mix, sample
from livepuppet.train.puppets.identities import Identity
from livepuppet.train.puppets.rig import Face, per_pixel


def paint_skin(
    identity: Identity,
    face: Face,
    has: set[str],
    rest: list[Tensor],
    place: tuple[Tensor, ...],
    pixel: Tensor,
    light: list[Tensor],
    hair_line: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Colours of the face.

    Args:
        identity: B rows.
        face: their expression.
        has: names of the fields that are not neutral in some row.
        rest: heights of the knots at u; see `Face.rest_with_knots`.
        place: u, v (rest coordinates), depths inside eye and mouth openings, posed y: each (B, H,
            W).
        pixel: of one pixel, in head units.
        light: direction of the key light in the head's frame, for the shadows that it casts.
        hair_line: (B, H, W) height of the hairline, where hair casts a shadow.

    Returns:
        Colours (B, 3, H, W), coverage of the eye and of the mouth openings (B, H, W), and
        coordinates on the eyeball.
    """
    u, v, eye, mouth, y = place

    def soft(distance):
        return (0.5 + distance / pixel).clamp(0, 1)

    def colour(name):
        return per_pixel(getattr(identity, name), 4)

    side_u = u.abs() - face.eye_x
    brow, upper, lower, lips = rest[1], rest[2], rest[3], rest[5]
    lens, mouth_lens = face.eye_lens(u), face.mouth_lens(u)

    skin = colour("skin").expand(-1, -1, *u.shape[1:])
    # Make-up or shade on the lids, blush, muzzle, beard: soft blobs in rest coordinates, so they
    # move with the skin.
    lid_shade = (
        face.eye_shadow
        * torch.exp(-(side_u / (1.1 * face.eye_width)).square())
        * torch.exp(-((v - upper + 0.05) / 0.07).square())
    )
    skin = mix(skin, colour("eye_shadow_colour"), lid_shade)
    cheek = face.blush * torch.exp(
        -((u.abs() - 0.42) / 0.16).square() - ((v - face.eye_y - 0.34) / 0.12).square()
    )
    skin = mix(skin, skin * torch.tensor([1.0, 0.72, 0.72], device=u.device).view(1, 3, 1, 1), cheek)
    muzzle = face.muzzle * torch.sigmoid((0.36 - (u.square() + ((v - 0.55) / 1.1).square()).sqrt()) / 0.04)
    skin = mix(skin, 0.25 * skin + 0.75, muzzle)
    if "patch" in has or "texture_turn" in has:
        turn, reach = face.texture_turn, face.texture_scale
        cos, sin = reach * turn.cos(), reach * turn.sin()
        detail = sample(identity.texture, cos * u - sin * v, sin * u + cos * v)
        patch = face.patch * torch.sigmoid((detail[:, 0] - face.patch_from) / 0.15)
        skin = mix(skin, colour("patch_colour"), patch)
    else:
        detail = sample(identity.texture, u, v)
    jaw_line = torch.sigmoid((v - 0.40 - 0.9 * (0.55 - u.abs()).clamp(min=0) + 0.12) / 0.05)
    around_mouth = torch.sigmoid((u.abs() - 1.25 * face.mouth_width) / 0.03) + torch.sigmoid(
        (v - lips - 0.11) / 0.02
    )
    beard = face.beard * (jaw_line * around_mouth).clamp(0, 1) * 0.85
    if "beard_grain" in has:
        beard = beard * (1 - face.goatee * torch.sigmoid((u.abs() - 1.1 * face.mouth_width) / 0.03))
        grain = sample(identity.hair_texture, u * 3.0, v * 1.5)[:, 0]
        beard = beard * (1 + face.beard_grain * grain).clamp(0, 1)
    skin = mix(skin, colour("brow_colour"), beard)
    moustache = torch.exp(-((v - lips + 0.11) / 0.045).square()) * torch.sigmoid(
        (face.mouth_width * 1.1 - u.abs()) / 0.02
    )
    skin = mix(skin, colour("brow_colour"), face.moustache * moustache)
    # Shade that every face has: eye sockets, beside the nose, under the lower lip.
    socket = torch.exp(-((side_u + 0.03) / 0.19).square() - ((v - upper + 0.02) / 0.11).square())
    fold = torch.exp(
        -((u.abs() - 0.13 - 0.45 * (v - face.eye_y - face.nose_y)) / 0.045).square()
    ) * torch.exp(-((v - face.eye_y - face.nose_y - 0.10) / 0.10).square())
    chin_fold = torch.exp(-(u / 0.16).square() - ((v - lips - 0.15) / 0.035).square())
    skin = skin * (1 - face.relief * (0.55 * socket + 0.35 * fold + 0.5 * chin_fold))[:, None]
    skin = skin * (1 + per_pixel(identity.texture_gain, 4) * detail)

    # Nose: nostrils, or an animal's.
    nose_v = v - face.eye_y - face.nose_y
    nostril = torch.exp(
        -((u.abs() - 0.075 * face.nose_size) / 0.035).square() - ((nose_v - 0.075) / 0.022).square()
    )
    under = torch.exp(-(u / 0.11).square() - ((nose_v - 0.09) / 0.025).square()) * 0.4
    skin = mix(
        skin, colour("line_colour"), (face.nostril * (nostril + under)).clamp(0, 1) * (1 - face.animal_nose)
    )
    snout = soft(
        0.10 * face.snout_size
        - (u.abs() * 0.9 + (nose_v - 0.02).clamp(min=0) * 0.7 + (-nose_v).clamp(min=0) * 1.6)
    )
    skin = mix(skin, colour("line_colour") * 0.5, snout * face.animal_nose)

    if "philtrum" in has:
        split = soft(0.008 - u.abs()) * (nose_v > 0) * (v < lips)
        skin = mix(skin, colour("line_colour") * 0.6, split * face.philtrum)
    if "wrinkles" in has:
        skin = skin * _wrinkles(face, u, v, rest, nose_v)[:, None]
    if "cast" in has:
        skin = skin * _cast_shadows(face, u, v, y, nose_v, light, hair_line)[:, None]

    # Brows, lid crease, lash line.
    taper = (1 - (side_u / 0.22).square()).clamp(min=0).sqrt()
    skin = mix(skin, colour("brow_colour"), soft(face.brow_thick * taper - (v - brow).abs()) * (taper > 0))
    near_eye = (1 - (side_u / (1.12 * face.eye_width)).square()).clamp(min=0)
    crease = torch.exp(-((v - upper + 0.055 * near_eye) / 0.012).square()) * near_eye.sqrt()
    skin = mix(skin, colour("line_colour"), face.lid_crease * crease)
    lash = soft(face.lid_line - (v - upper + face.lid_line).abs()) * (lens > 0)
    if "lash_wing" in has:
        # Lashes longer towards the temple.
        outer = ((u.abs() - face.eye_x) / face.eye_width).clamp(0, 1.25)
        wing = face.lid_line * (1 + 1.2 * face.lash_wing * outer)
        height = upper - 0.05 * face.lash_wing * outer.square()
        lash = torch.maximum(
            lash,
            soft(wing - (v - height + wing).abs()) * (outer > 0.2) * (outer < 1.2) * (face.lash_wing > 0),
        )
    skin = mix(skin, colour("line_colour"), lash * 0.95)
    low_lash = soft(0.35 * face.lid_line - (v - lower - 0.35 * face.lid_line).abs()) * (lens > 0)
    skin = mix(skin, colour("line_colour"), low_lash * 0.6)

    # Lips around the line where they meet.
    upper_lip = soft(
        face.lip_upper * mouth_lens.square() * (1 - 0.25 * torch.exp(-(u / 0.05).square())) - (lips - v)
    ) * (v < lips)
    lower_lip = soft(face.lip_lower * mouth_lens - (v - lips)) * (v >= lips)
    both = ((upper_lip + lower_lip) * (mouth_lens > 0)).clamp(0, 1) * face.lip_strength
    skin = mix(skin, colour("lip_colour") * (1 + 0.12 * (v >= lips).float()[:, None]), both)
    seam = soft(face.lip_line - (v - lips).abs()) * (mouth_lens > 0)
    skin = mix(skin, colour("line_colour"), seam * 0.9)

    # The inside of the mouth: teeth fixed to the head, tongue to the jaw.
    inside = colour("inside").expand_as(skin)
    depth_from_upper = y - (lips - 0.22 * 0.34 * face.open * mouth_lens)
    teeth_edge = 0.075 - 0.05 * (u / face.mouth_width).square()
    inside = mix(
        inside,
        (colour("teeth") * torch.tensor([1.0, 0.97, 0.9], device=u.device).view(1, 3, 1, 1)).expand_as(skin),
        soft(teeth_edge - depth_from_upper) * (face.teeth > 0),
    )
    if "teeth_detail" in has:
        inside = _teeth_detail(identity, face, inside, u, y, depth_from_upper, teeth_edge, soft)
    tongue_y = face.mouth_y + 0.34 * 0.78 * face.open + 0.02
    tongue = soft(0.14 - ((u * 0.75).square() + (y - tongue_y).square()).sqrt())
    inside = mix(inside, colour("tongue"), tongue)
    mouth_cover = (0.5 + mouth / pixel).clamp(0, 1) * (mouth > -0.5) * (mouth > 0)
    skin = mix(skin, inside, mouth_cover)

    # The eyeball: sclera, iris, pupil, a highlight that stays with the light, the upper lid's
    # shadow.
    gaze_x, gaze_y = face.gaze(u)
    ball_x = u - torch.where(u < 0, -face.eye_x, face.eye_x) - gaze_x
    ball_y = y - face.eye_y - gaze_y
    radius = (ball_x.square() + ball_y.square()).sqrt()
    ball = colour("sclera").expand_as(skin)
    ball = mix(ball, colour("iris_colour"), soft(face.iris - radius))
    ball = mix(ball, colour("iris_colour") * 0.35, soft(0.016 - (radius - face.iris).abs()) * 0.8)
    ball = mix(ball, torch.full_like(skin, 0.03), soft(face.iris * face.pupil - radius))
    if "iris_rays" in has:
        rays = (
            torch.sin(9 * torch.atan2(ball_y, ball_x))
            * (radius < face.iris)
            * (radius > face.iris * face.pupil)
        )
        ball = (
            ball
            * (
                1
                + face.iris_rays
                * (0.25 * rays + 0.5 * (ball_y / face.iris).clamp(-1, 1) * (radius < face.iris))
            )[:, None]
        )
    if "ball_shade" in has:
        # An eyeball is round: darker towards the corners and under the upper lid.
        corner = ((ball_x + gaze_x) / face.eye_width).square()
        ball = (
            ball * (1 - face.ball_shade * (0.6 * corner + torch.exp(-eye.clamp(min=0) / 0.05) * 0.3))[:, None]
        )
    shadow = torch.exp(-eye.clamp(min=0) / 0.03) * (y < face.eye_y)
    ball = ball * (1 - 0.35 * shadow[:, None])
    key = per_pixel(identity.light, 4)
    spot_x = ball_x + gaze_x * 0.5 - 0.3 * face.iris * key[:, 0].sign()
    spot_y = ball_y + gaze_y * 0.5 + 0.35 * face.iris
    ball = mix(
        ball,
        torch.full_like(skin, 1.0),
        soft(0.28 * face.iris - (spot_x.square() + spot_y.square()).sqrt()) * 0.9,
    )
    if "wet" in has:
        rim = torch.exp(-((posed_low(face, u) - y) / 0.012).square()) * face.wet * 0.5
        ball = mix(ball, torch.full_like(skin, 1.0), rim.clamp(0, 1))
    eye_cover = (0.5 + eye / pixel).clamp(0, 1) * (eye > 0)
    skin = mix(skin, ball, eye_cover)
    return skin, eye_cover, mouth_cover, (ball_x, ball_y)


def posed_low(face: Face, u: Tensor) -> Tensor:
    """Height of the open lower lid at columns u, in head units."""
    return face.eye_y + 0.85 * face.eye_height * face.eye_lens(u)


def _wrinkles(face: Face, u, v, rest, nose_v) -> Tensor:
    """Brightness of the folds that a smile draws beside the nose and raised brows draw on the
    forehead.
    """
    smile = 0.25 + 0.75 * face.smile.clamp(0, 1)
    edge = 0.14 + 0.55 * (nose_v - 0.04)
    along = torch.sigmoid((nose_v + 0.02) / 0.02) * torch.sigmoid((0.30 - nose_v) / 0.03)
    fold = torch.exp(-((u.abs() - edge) / 0.016).square()) * along * smile
    raised = torch.where(u < 0, face.brow_left, face.brow_right).clamp(0, 1)
    height = (v - rest[1] + 0.06) * 42
    lines = (0.5 + 0.5 * height.sin()).square() * torch.exp(-((v - rest[1] + 0.17) / 0.08).square())
    frown = torch.where(u < 0, face.brow_left, face.brow_right).clamp(-1, 0)
    between = torch.exp(-((u.abs() - 0.055) / 0.014).square() - ((v - rest[1]) / 0.07).square())
    return 1 - face.wrinkles * (0.5 * fold + 0.35 * lines * (0.12 + raised) - 0.5 * between * frown)


def _cast_shadows(face: Face, u, v, y, nose_v, light, hair_line) -> Tensor:
    """Brightness under the shadows of the nose, of the brows' ridge and of the hair."""
    aside, down = -light[0].clamp(-0.9, 0.9), (-light[1]).clamp(-0.2, 0.9)
    nose = torch.exp(
        -((u - 0.20 * aside) / 0.085).square() - ((nose_v - 0.02 - 0.12 * down) / 0.12).square()
    ) * torch.sigmoid((u * aside.sign() - 0.03) / 0.025)
    under = torch.exp(-(u / 0.13).square() - ((nose_v - 0.13) / 0.045).square()) * down.clamp(min=0)
    # The flank of the nose's bridge that looks away from the light, from the brows down to the tip.
    height = -nose_v / face.nose_y.clamp(min=0.05)
    flank = torch.exp(-((u - (0.075 + 0.03 * (1 - height)) * aside.sign()) / 0.04).square())
    flank = flank * torch.sigmoid((1.05 - height) / 0.12) * torch.sigmoid((height - 0.05) / 0.08)
    total = 0.8 * nose * aside.abs() + 0.6 * under + 0.45 * flank * (0.3 + 0.7 * aside.abs())
    if hair_line is not None:
        total = total + 0.7 * torch.sigmoid((hair_line + 0.07 - y) / 0.025) * face.hair_on
    return 1 - face.cast * total.clamp(0, 1)


def _teeth_detail(identity: Identity, face: Face, inside, u, y, depth, edge, soft) -> Tensor:
    """Gaps between the teeth, a lower row, dark corners of the mouth."""
    across = (u / (0.30 * face.mouth_width)) * 3.1416
    gap = torch.exp(-((across.cos().abs() - 0.0) / 0.16).square())
    gums = (0.35 * (depth / edge).clamp(0, 1) + 0.5) * gap
    inside = inside * (1 - face.teeth_detail * 0.6 * gums * soft(edge - depth))[:, None]
    floor = face.mouth_y + 0.78 * 0.34 * face.open * face.mouth_lens(u)
    row = soft(0.045 - (floor - y)) * torch.sigmoid((face.teeth_detail - 0.5) / 0.02) * (face.teeth > 0)
    inside = mix(inside, per_pixel(identity.teeth, 4).expand_as(inside) * 0.85, row * (1 - 0.6 * gap))
    corner = (u / face.mouth_width).square().clamp(0, 1)
    return inside * (1 - 0.7 * face.teeth_detail * corner.square())[:, None]
