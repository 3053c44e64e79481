"""The procedural puppet renderer: pure torch, seeded, in batches, on any device.

Every pixel casts an orthographic ray into the head's own frame and meets a few ellipsoids (cranium, jaw, nose, ears,
hair). Features are painted where the ray hits, in the rest coordinates of `rig.Face`, so foreshortening, shading and
expression need no projection code. Edges are anti-aliased by their signed distance in pixels.

Besides the picture it reports, per pixel, *which point of the puppet* is seen, from which `true_flow` tells exactly
where that point lies in another picture of the same puppet and whether it is visible there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import make_grid, warp
from livepuppet.train.puppets.identities import Identity, Motion
from livepuppet.train.puppets.rig import Face, body_pose, head_pose, landmarks, per_pixel

#: What a pixel shows. RIGID is hair, ears, hat, glasses: whatever turns with the head but has no expression.
BACKGROUND, BODY, RIGID, SKIN, EYEBALL, MOUTH = range(6)

#: Two surface points nearer than this (head units) are the same point.
SAME_POINT = 0.07


@dataclass
class Rendering:
    """A batch of puppets seen.

    Attributes:
        picture: (B, 3, S, S) RGB in [0, 1].
        surface: (B, 3, S, S) the puppet's point under each pixel, in the coordinates of its layer.
        layer: (B, S, S) int64, one of BACKGROUND ... MOUTH.
        points, jacobians: exact keypoints (B, K, 2) and local affine parts (B, K, 2, 2); see `rig.landmarks`.
    """

    picture: Tensor
    surface: Tensor
    layer: Tensor
    points: Tensor
    jacobians: Tensor


def _mix(below: Tensor, above: Tensor, alpha: Tensor) -> Tensor:
    """Lay a colour (B, 3, ...) over another with coverage (B, H, W)."""
    return torch.lerp(below, above.expand_as(below), alpha.expand(-1, *below.shape[2:])[:, None])


class _Rays:
    """Rays through a grid of picture points, in the head's frame."""

    def __init__(self, identity: Identity, motion: Motion, grid: Tensor):
        centre, scale, turn = head_pose(identity, motion)
        self.scale = scale
        qx = (grid[None, ..., 0] - per_pixel(centre[:, 0], 3)) / per_pixel(scale, 3)
        qy = (grid[None, ..., 1] - per_pixel(centre[:, 1], 3)) / per_pixel(scale, 3)
        t = [[per_pixel(turn[:, i, j], 3) for j in range(3)] for i in range(3)]
        self.origin = [t[0][k] * qx + t[1][k] * qy for k in range(3)]
        self.direction = [t[2][k] for k in range(3)]
        # One pixel in head units, for anti-aliasing.
        self.pixel = per_pixel(2.0 / (grid.shape[0] - 1) / scale, 3)

    def at(self, t: Tensor) -> list[Tensor]:
        return [o + d * t for o, d in zip(self.origin, self.direction, strict=True)]

    def ellipsoid(self, middle, radii) -> tuple[Tensor, Tensor, Tensor]:
        """Front hit of an ellipsoid: ray parameter, coverage in [0, 1] and how far outside the ray passes.

        A ray that misses reports its nearest approach, so that values stay smooth across the silhouette.
        """
        a = b = c = 0.0
        for o, d, m, r in zip(self.origin, self.direction, middle, radii, strict=True):
            inverse = 1.0 / (r * r)
            a = a + d * d * inverse
            b = b + (o - m) * d * inverse
            c = c + (o - m).square() * inverse
        nearest = (c - b * b / a).clamp(min=1e-6).sqrt()
        root = ((1 - nearest.square()).clamp(min=0) / a).sqrt()
        size = (radii[0] + radii[1]) / 2
        coverage = (0.5 + (1 - nearest) * size / self.pixel).clamp(0, 1)
        return root - b / a, coverage, nearest


def _normal(point, middle, radii) -> list[Tensor]:
    return [(p - m) / (r * r) for p, m, r in zip(point, middle, radii, strict=True)]


def _sample(texture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A mirrored texture (B, C, h, w) at (x, y) (B, H, W)."""
    return F.grid_sample(
        texture, torch.stack([x, y], -1), mode="bilinear", padding_mode="reflection", align_corners=True
    )


def _paint_skin(identity: Identity, face: Face, u, v, eye, mouth, x, y, pixel):
    """Colours of the face (B, 3, H, W) at rest coordinates, with eyes and mouth; and coverage of both openings."""

    def soft(distance):
        return (0.5 + distance / pixel).clamp(0, 1)

    def colour(name):
        return per_pixel(getattr(identity, name), 4)

    side_u = u.abs() - face.eye_x
    rest, _ = face.knots(u)
    brow, upper, lower, lips = rest[1], rest[2], rest[3], rest[5]
    lens, mouth_lens = face.eye_lens(u), face.mouth_lens(u)

    skin = colour("skin").expand(-1, -1, *u.shape[1:])
    # Make-up or shade on the lids, blush, muzzle, beard: soft blobs in rest coordinates, so they move with the skin.
    lid_shade = (
        face.eye_shadow
        * torch.exp(-(side_u / (1.1 * face.eye_width)).square())
        * torch.exp(-((v - upper + 0.05) / 0.07).square())
    )
    skin = _mix(skin, colour("eye_shadow_colour"), lid_shade)
    cheek = face.blush * torch.exp(
        -((u.abs() - 0.42) / 0.16).square() - ((v - face.eye_y - 0.34) / 0.12).square()
    )
    skin = _mix(skin, skin * torch.tensor([1.0, 0.72, 0.72], device=u.device).view(1, 3, 1, 1), cheek)
    muzzle = face.muzzle * torch.sigmoid((0.36 - (u.square() + ((v - 0.55) / 1.1).square()).sqrt()) / 0.04)
    skin = _mix(skin, 0.25 * skin + 0.75, muzzle)
    jaw_line = torch.sigmoid((v - 0.40 - 0.9 * (0.55 - u.abs()).clamp(min=0) + 0.12) / 0.05)
    around_mouth = torch.sigmoid((u.abs() - 1.25 * face.mouth_width) / 0.03) + torch.sigmoid(
        (v - lips - 0.11) / 0.02
    )
    skin = _mix(skin, colour("brow_colour"), face.beard * (jaw_line * around_mouth).clamp(0, 1) * 0.85)
    moustache = torch.exp(-((v - lips + 0.11) / 0.045).square()) * torch.sigmoid(
        (face.mouth_width * 1.1 - u.abs()) / 0.02
    )
    skin = _mix(skin, colour("brow_colour"), face.moustache * moustache)
    # Shade that every face has: eye sockets, beside the nose, under the lower lip.
    socket = torch.exp(-((side_u + 0.03) / 0.19).square() - ((v - upper + 0.02) / 0.11).square())
    fold = torch.exp(
        -((u.abs() - 0.13 - 0.45 * (v - face.eye_y - face.nose_y)) / 0.045).square()
    ) * torch.exp(-((v - face.eye_y - face.nose_y - 0.10) / 0.10).square())
    chin_fold = torch.exp(-(u / 0.16).square() - ((v - lips - 0.15) / 0.035).square())
    skin = skin * (1 - face.relief * (0.55 * socket + 0.35 * fold + 0.5 * chin_fold))[:, None]
    detail = _sample(identity.texture, u, v)
    skin = skin * (1 + per_pixel(identity.texture_gain, 4) * detail)

    # Nose: nostrils, or an animal's.
    nose_v = v - face.eye_y - face.nose_y
    nostril = torch.exp(
        -((u.abs() - 0.075 * face.nose_size) / 0.035).square() - ((nose_v - 0.075) / 0.022).square()
    )
    under = torch.exp(-(u / 0.11).square() - ((nose_v - 0.09) / 0.025).square()) * 0.4
    skin = _mix(
        skin, colour("line_colour"), (face.nostril * (nostril + under)).clamp(0, 1) * (1 - face.animal_nose)
    )
    snout = soft(0.10 - (u.abs() * 0.9 + (nose_v - 0.02).clamp(min=0) * 0.7 + (-nose_v).clamp(min=0) * 1.6))
    skin = _mix(skin, colour("line_colour") * 0.5, snout * face.animal_nose)

    # Brows, lid crease, lash line.
    taper = (1 - (side_u / 0.22).square()).clamp(min=0).sqrt()
    skin = _mix(skin, colour("brow_colour"), soft(face.brow_thick * taper - (v - brow).abs()) * (taper > 0))
    near_eye = (1 - (side_u / (1.12 * face.eye_width)).square()).clamp(min=0)
    crease = torch.exp(-((v - upper + 0.055 * near_eye) / 0.012).square()) * near_eye.sqrt()
    skin = _mix(skin, colour("line_colour"), face.lid_crease * crease)
    lash = soft(face.lid_line - (v - upper + face.lid_line).abs()) * (lens > 0)
    skin = _mix(skin, colour("line_colour"), lash * 0.95)
    low_lash = soft(0.35 * face.lid_line - (v - lower - 0.35 * face.lid_line).abs()) * (lens > 0)
    skin = _mix(skin, colour("line_colour"), low_lash * 0.6)

    # Lips around the line where they meet.
    upper_lip = soft(
        face.lip_upper * mouth_lens.square() * (1 - 0.25 * torch.exp(-(u / 0.05).square())) - (lips - v)
    ) * (v < lips)
    lower_lip = soft(face.lip_lower * mouth_lens - (v - lips)) * (v >= lips)
    both = ((upper_lip + lower_lip) * (mouth_lens > 0)).clamp(0, 1) * face.lip_strength
    skin = _mix(skin, colour("lip_colour") * (1 + 0.12 * (v >= lips).float()[:, None]), both)
    seam = soft(face.lip_line - (v - lips).abs()) * (mouth_lens > 0)
    skin = _mix(skin, colour("line_colour"), seam * 0.9)

    # The inside of the mouth: teeth fixed to the head, tongue to the jaw.
    inside = colour("inside").expand_as(skin)
    depth_from_upper = y - (lips - 0.22 * 0.34 * face.open * mouth_lens)
    teeth_edge = 0.075 - 0.05 * (u / face.mouth_width).square()
    inside = _mix(
        inside,
        (colour("teeth") * torch.tensor([1.0, 0.97, 0.9], device=u.device).view(1, 3, 1, 1)).expand_as(skin),
        soft(teeth_edge - depth_from_upper) * (face.teeth > 0),
    )
    tongue_y = face.mouth_y + 0.34 * 0.78 * face.open + 0.02
    tongue = soft(0.14 - ((u * 0.75).square() + (y - tongue_y).square()).sqrt())
    inside = _mix(inside, colour("tongue"), tongue)
    mouth_cover = (0.5 + mouth / pixel).clamp(0, 1) * (mouth > -0.5) * (mouth > 0)
    skin = _mix(skin, inside, mouth_cover)

    # The eyeball: sclera, iris, pupil, a highlight that stays with the light, the upper lid's shadow.
    gaze_x, gaze_y = face.gaze(u)
    ball_x = u - torch.where(u < 0, -face.eye_x, face.eye_x) - gaze_x
    ball_y = y - face.eye_y - gaze_y
    radius = (ball_x.square() + ball_y.square()).sqrt()
    ball = colour("sclera").expand_as(skin)
    ball = _mix(ball, colour("iris_colour"), soft(face.iris - radius))
    ball = _mix(ball, colour("iris_colour") * 0.35, soft(0.016 - (radius - face.iris).abs()) * 0.8)
    ball = _mix(ball, torch.full_like(skin, 0.03), soft(face.iris * face.pupil - radius))
    shadow = torch.exp(-eye.clamp(min=0) / 0.03) * (y < face.eye_y)
    ball = ball * (1 - 0.35 * shadow[:, None])
    light = per_pixel(identity.light, 4)
    spot_x = ball_x + gaze_x * 0.5 - 0.3 * face.iris * light[:, 0].sign()
    spot_y = ball_y + gaze_y * 0.5 + 0.35 * face.iris
    ball = _mix(
        ball,
        torch.full_like(skin, 1.0),
        soft(0.28 * face.iris - (spot_x.square() + spot_y.square()).sqrt()) * 0.9,
    )
    eye_cover = (0.5 + eye / pixel).clamp(0, 1) * (eye > 0)
    skin = _mix(skin, ball, eye_cover)
    return skin, eye_cover, mouth_cover, (ball_x, ball_y)


def _background(identity: Identity, grid: Tensor) -> Tensor:
    x, y = grid[None, ..., 0], grid[None, ..., 1]

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    along = x * field("background_angle").cos() + y * field("background_angle").sin()
    mixture = (0.5 + 0.4 * along).clamp(0, 1)
    stripes = field("background_stripes")
    mixture = torch.where(
        stripes > 0, 0.5 + 0.5 * torch.sin(along * stripes * 3.1416).mul(4).clamp(-1, 1), mixture
    )
    back = _mix(
        per_pixel(identity.background_a, 4).expand(-1, -1, *mixture.shape[1:]),
        per_pixel(identity.background_b, 4),
        mixture,
    )
    box = [per_pixel(identity.box[:, k], 3) for k in range(4)]
    pixel = 2.0 / (grid.shape[0] - 1)
    inside = torch.minimum(box[2] - (x - box[0]).abs(), box[3] - (y - box[1]).abs())
    back = _mix(back, per_pixel(identity.box_colour, 4), (0.5 + inside / pixel).clamp(0, 1) * field("box_on"))
    noise = _sample(identity.background_texture, x.expand_as(mixture), y.expand_as(mixture))
    return back + per_pixel(identity.background_noise, 4) * noise


def _body(identity: Identity, motion: Motion, grid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Neck and shoulders, flat: colour, coverage and body coordinates."""
    centre, scale = body_pose(identity, motion)
    x = (grid[None, ..., 0] - per_pixel(centre[:, 0], 3)) / per_pixel(scale, 3)
    y = (grid[None, ..., 1] - per_pixel(centre[:, 1], 3)) / per_pixel(scale, 3)
    pixel = per_pixel(2.0 / (grid.shape[0] - 1) / scale, 3)

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    top, width, neck = field("shoulder_y"), field("shoulder_width"), field("neck_width")
    slope = top + 0.30 * (x.abs() / width).square()
    shoulders = torch.minimum(y - slope, (1.25 * width - x.abs()) * 0.8)
    flare = neck + 0.25 * (y - top + 0.1).clamp(min=0)
    neck_inside = torch.minimum(flare - x.abs(), y - 0.45)
    cloth = (0.5 + shoulders / pixel).clamp(0, 1)
    throat = (0.5 + neck_inside / pixel).clamp(0, 1)
    opening = (
        0.5
        + torch.minimum(neck * 0.95 - x.abs() - 0.6 * (y - top).clamp(min=0), top + field("collar_depth") - y)
        / pixel
    ).clamp(0, 1)
    shade = (1 - 0.30 * torch.exp(-((y - 0.95) / 0.3).square())) * (
        1 - 0.25 * (x / 1.2).square().clamp(max=1)
    )
    skin = per_pixel(identity.skin, 4) * 0.86
    detail = _sample(identity.background_texture.flip(-1), x * 0.8, y * 0.8)
    wear = per_pixel(identity.clothes, 4) * (1 + 0.15 * per_pixel(identity.texture_gain > 0.03, 4) * detail)
    trim = (
        0.5
        + (
            0.05
            - (
                torch.minimum(
                    neck * 0.95 - x.abs() - 0.6 * (y - top).clamp(min=0), top + field("collar_depth") - y
                )
            ).abs()
        )
        / pixel
    ).clamp(0, 1)
    wear = _mix(wear, per_pixel(identity.collar, 4), trim)
    colour = _mix(skin.expand_as(wear), wear, cloth * (1 - opening))
    return colour * shade[:, None], torch.maximum(cloth, throat), x, y


@torch.no_grad()
def render(identity: Identity, motion: Motion, size: int) -> Rendering:
    """Draw puppets.

    Args:
        identity: B rows, on any device.
        motion: B rows, on the same device.
        size: S, the side in pixels.

    Returns:
        The pictures with their truth; see `Rendering`.
    """
    device = identity.eye_x.device
    grid = make_grid(size, size, device)
    rays = _Rays(identity, motion, grid)
    pixel = rays.pixel
    face = Face(identity, motion, 3)
    zero = torch.zeros(len(identity), size, size, device=device)

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    def colour(name):
        return per_pixel(getattr(identity, name), 4)

    light = [per_pixel(identity.light[:, k], 3) for k in range(3)]
    turn = head_pose(identity, motion)[2]
    # The light stays with the room, so it turns against the head.
    light = [sum(per_pixel(turn[:, j, k], 3) * light[j] for j in range(3)) for k in range(3)]
    ambient = field("ambient")

    def shaded(paint: Tensor, normal) -> Tensor:
        length = (normal[0].square() + normal[1].square() + normal[2].square()).clamp(min=1e-6).rsqrt()
        diffuse = ((normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]) * length).clamp(min=0)
        stepped = torch.sigmoid((diffuse - 0.45) / 0.03) * 0.8
        diffuse = torch.where(field("cel") > 0, stepped, diffuse)
        gloss = field("gloss") * diffuse**12
        return paint * (ambient + (1 - ambient) * 1.15 * diffuse)[:, None] + gloss[:, None]

    picture = _background(identity, grid)
    surface = torch.stack([grid[None, ..., 0] + zero, grid[None, ..., 1] + zero, zero], 1)
    layer = torch.zeros(len(identity), size, size, dtype=torch.int64, device=device)

    def put(paint, coverage, points, kind):
        nonlocal picture, surface, layer
        picture = _mix(picture, paint, coverage)
        over = coverage > 0.5
        surface = torch.where(over[:, None], torch.stack([p.expand_as(zero) for p in points], 1), surface)
        layer = torch.where(over, torch.full_like(layer, kind), layer)

    width = field("head_width")
    cranium = (0.0, -0.15, -0.10), (width, 0.92, 0.88)
    thick = field("hair_thick")
    hair = (0.0, -0.19, -0.14), (width * thick, 0.92 * thick, 0.90 * thick)
    drop = 0.5 * 0.68 * 0.34 * face.open
    jaw = (0.0, 0.34 + drop, 0.10), (field("jaw_width"), field("jaw_length") + drop, 0.66)

    def strands(point, amount=1.0):
        lines = _sample(identity.hair_texture, point[0] * 2.2 + point[2] * 0.7, point[1] * 0.35)[:, 0]
        return 1 + amount * field("hair_texture_gain") * lines

    # Long hair behind the neck.
    fall = field("long_hair_length")
    middle, radii = (0.0, -0.1 + 0.5 * fall, -0.35), (width * 1.22, 0.75 + 0.5 * fall, 0.55)
    t, cover, _ = rays.ellipsoid(middle, radii)
    point = rays.at(t)
    back_cover = cover * field("long_hair")
    put(
        shaded(colour("hair") * (0.8 * strands(point))[:, None], _normal(point, middle, radii)),
        back_cover,
        point,
        RIGID,
    )

    paint, cover, bx, by = _body(identity, motion, grid)
    put(paint * (0.72 + 0.28 * ambient)[:, None], cover, (bx, by, zero), BODY)

    # Ears: people's at the sides, animals' on top.
    for sign in (-1.0, 1.0):
        size_ear = field("ear_size")
        middle = (sign * (width + 0.02), 0.05, -0.12)
        radii = (0.11 * size_ear + 0.01, 0.21 * size_ear + 0.01, 0.10)
        t, cover, _ = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        put(
            shaded(colour("skin") * 0.92, _normal(point, middle, radii)),
            cover * (size_ear > 0.1),
            point,
            RIGID,
        )
        tall = field("animal_ear_size")
        middle = (sign * field("animal_ear_x"), -0.95, -0.15)
        radii = (0.24 * tall, 0.42 * tall, 0.14)
        t, cover, near = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        ear = _mix(
            colour("skin").expand(-1, -1, size, size) * 0.95, colour("skin") * 0.6 + 0.2, (near < 0.6).float()
        )
        put(shaded(ear, _normal(point, middle, radii)), cover * field("animal_ear"), point, RIGID)

    # The head: cranium, jaw and nose, melted together.
    tc, cc, near_c = rays.ellipsoid(*cranium)
    tj, cj, near_j = rays.ellipsoid(*jaw)
    tc, tj = tc - 6 * (near_c - 1).clamp(min=0), tj - 6 * (near_j - 1).clamp(min=0)
    w = torch.sigmoid((tj - tc) / 0.06)
    t = w * tj + (1 - w) * tc
    point = rays.at(t)
    normal = [
        w * j + (1 - w) * c for j, c in zip(_normal(point, *jaw), _normal(point, *cranium), strict=True)
    ]
    nose = (
        (0.0, field("eye_y") + field("nose_y") - 0.07, 0.74),
        (0.13 * field("nose_size") + 0.02, 0.24, 0.22 * field("nose_size") + 0.02),
    )
    tn, cn, near_n = rays.ellipsoid(*nose)
    tn = tn - 4 * (near_n - 1).clamp(min=0)
    wn = torch.sigmoid((tn - t) / 0.025)
    point_n = rays.at(tn)
    t = wn * tn + (1 - wn) * t
    normal = [wn * n + (1 - wn) * m for n, m in zip(_normal(point_n, *nose), normal, strict=True)]
    cover = torch.maximum(torch.maximum(cc, cj), cn)
    point = rays.at(t)
    head_t = t
    u, v, eye, mouth = face.rest(point[0], point[1])
    # Eyes and mouth are painted on the front only; at the back of a turned head the same (x, y) is hair.
    front = (point[2] > 0.0).float()
    eye, mouth = (
        torch.where(front > 0, eye, -torch.ones_like(eye)),
        torch.where(front > 0, mouth, -torch.ones_like(mouth)),
    )
    skin, eye_cover, mouth_cover, ball = _paint_skin(
        identity, face, u, v, eye, mouth, point[0], point[1], pixel
    )
    lit = shaded(skin, normal)
    # Eyeballs and teeth sit in shade and shine of their own; keep most of their own colour.
    lit = _mix(
        lit, skin * (0.55 + 0.45 * ambient)[:, None], torch.maximum(0.6 * eye_cover, 0.8 * mouth_cover)
    )
    edge = torch.minimum(near_c, near_j)
    line = ((edge - 1 + field("outline") * 1.6) / 0.02).clamp(0, 1) * (field("outline") > 0)
    lit = _mix(lit, colour("line_colour") * 0.6, line * (1 - wn))
    put(lit, cover, (u, v, point[2]), SKIN)
    put(
        lit,
        cover * (eye_cover > 0.5),
        (ball[0] + torch.where(u < 0, -face.eye_x, face.eye_x), ball[1] + face.eye_y, point[2]),
        EYEBALL,
    )
    put(lit, cover * (mouth_cover > 0.5), (point[0], point[1], point[2]), MOUTH)

    # Hair over the cranium, down to a hairline with strands; a hat is its upper part in another colour.
    t, cover, near = rays.ellipsoid(*hair)
    hx, hy, hz = hair_point = rays.at(t)
    ragged = _sample(identity.hair_texture, hx * 2.2 + hz * 0.7, zero - 0.6)[:, 0]
    part = hx - field("hair_part")
    line = (
        field("hair_line")
        + field("hair_sides") * (hx.abs() - 0.42).clamp(min=0) * 1.6
        + field("hair_fringe") * torch.cos(part.abs().clamp(max=1.5) * 2.1)
    )
    line = line + 0.35 * field("hair_strands") * ragged
    behind = (-hz - 0.02).clamp(min=0) * 3.0
    hair_cover = (0.5 + (line + behind - hy) / (pixel * 1.5)).clamp(0, 1) * field("hair_on")
    hat = (0.5 + (field("hat_line") + 0.05 - hy) / pixel).clamp(0, 1) * field("hat_on")
    visible = cover * torch.sigmoid((t - head_t) / 0.01 + 4) * torch.maximum(hair_cover, hat)
    band = torch.exp(-((hy - field("hat_line")) / 0.05).square())
    hair_paint = _mix(
        colour("hair") * strands(hair_point)[:, None], colour("hat_colour") * (1 - 0.5 * band)[:, None], hat
    )
    lit = shaded(hair_paint, _normal(hair_point, *hair))
    line = ((near - 1 + field("outline") * 1.6) / 0.02).clamp(0, 1) * (field("outline") > 0)
    lit = _mix(lit, colour("line_colour") * 0.4, line)
    put(lit, visible, hair_point, RIGID)

    # Glasses: rims on a plane before the eyes, which gives the right parallax.
    depth = 0.93
    forward = rays.direction[2].clamp(min=0.2)
    t = (depth - rays.origin[2]) / forward
    gx, gy, _ = glass_point = rays.at(t)
    size_g = field("glasses_size")
    dx, dy = (
        (gx.abs() - field("eye_x") - 0.01) / size_g,
        (gy - field("eye_y") - 0.02) / (size_g * field("glasses_square")),
    )
    power = 2.0 + 4.0 * (field("glasses_square") < 0.9).float()
    ring = ((dx.abs() + 1e-4) ** power + (dy.abs() + 1e-4) ** power) ** (1 / power) - 1
    rim = (0.5 + (field("glasses_rim") - ring.abs() * size_g) / pixel).clamp(0, 1)
    bridge = (0.5 + (field("glasses_rim") - (gy - field("eye_y") + 0.02).abs()) / pixel).clamp(0, 1) * (
        gx.abs() < field("eye_x") - size_g + 0.02
    )
    rim = torch.maximum(rim, bridge) * field("glasses_on")
    put(colour("glasses_colour").expand_as(picture), rim, glass_point, RIGID)

    picture = picture * colour("light_colour") * colour("exposure")
    points, jacobians = landmarks(identity, motion)
    return Rendering(picture.clamp(0, 1), surface, layer, points, jacobians)


@torch.no_grad()
def true_flow(
    identity: Identity, driving: Rendering, source_motion: Motion, source: Rendering
) -> tuple[Tensor, Tensor]:
    """Where each pixel of the driving picture lies in the source picture of the same puppets.

    Args:
        identity: B rows.
        driving, source: renderings of the same size S of `identity`.
        source_motion: the motion `source` was drawn with.

    Returns:
        flow: (B, S, S, 2) sampling grid into the source, (x, y) in [-1, 1].
        visible: (B, S, S) 1 where the point can be seen in the source, else 0.
    """
    centre, scale, turn = head_pose(identity, source_motion)
    face = Face(identity, source_motion, 3)
    a, b, c = driving.surface.unbind(1)
    layer = driving.layer
    x, y = face.posed(a, b)
    skin, ball = layer == SKIN, layer == EYEBALL
    gaze_x, gaze_y = face.gaze(a)
    x = torch.where(skin, x, torch.where(ball, a + gaze_x, a))
    y = torch.where(skin, y, torch.where(ball, b + gaze_y, b))
    seen = torch.stack([x, y, c], -1) @ turn[:, None, :2].transpose(-1, -2)
    head = centre[:, None, None] + scale[:, None, None, None] * seen
    body_centre, body_scale = body_pose(identity, source_motion)
    body = body_centre[:, None, None] + body_scale[:, None, None, None] * torch.stack([a, b], -1)
    flat = torch.stack([a, b], -1)
    kind = layer[..., None]
    flow = torch.where(kind == BACKGROUND, flat, torch.where(kind == BODY, body, head))
    there = warp(source.surface, flow)
    there_layer = F.grid_sample(
        source.layer[:, None].float() + 1, flow, mode="nearest", padding_mode="zeros", align_corners=True
    )[:, 0]
    # Depth counts less: a dropping jaw takes the chin's surface along.
    weights = torch.tensor([1.0, 1.0, 0.3], device=there.device).view(1, 3, 1, 1)
    distance = ((there - driving.surface) * weights).square().sum(1).sqrt()
    # Glasses have no thickness and hair is coarse: their own layer is enough.
    near = (distance < SAME_POINT) | (layer == RIGID) | (layer == BODY) | (layer == BACKGROUND)
    visible = (there_layer - 1 == layer.float()) & near & (flow.abs().amax(-1) <= 1)
    return flow, visible.float()
