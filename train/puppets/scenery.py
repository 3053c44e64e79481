"""What is behind, below and before a head: walls, rooms and other people, clothes, hands and
microphones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.train.puppets.canvas import mix, sample
from livepuppet.train.puppets.identities import Identity, Motion
from livepuppet.train.puppets.rig import body_pose, head_pose, per_pixel


def background(identity: Identity, has: set[str], grid: Tensor) -> Tensor:
    """What is behind the puppets (B, 3, S, S) at picture points (1, S, S, 2)."""
    x, y = grid[..., 0], grid[..., 1]

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    along = x * field("background_angle").cos() + y * field("background_angle").sin()
    mixture = (0.5 + 0.4 * along).clamp(0, 1)
    stripes = field("background_stripes")
    mixture = torch.where(
        stripes > 0, 0.5 + 0.5 * torch.sin(along * stripes * 3.1416).mul(4).clamp(-1, 1), mixture
    )
    back = mix(
        per_pixel(identity.background_a, 4).expand(-1, -1, *mixture.shape[1:]),
        per_pixel(identity.background_b, 4),
        mixture,
    )
    box = [per_pixel(identity.box[:, k], 3) for k in range(4)]
    pixel = 2.0 / (grid.shape[1] - 1)
    inside = torch.minimum(box[2] - (x - box[0]).abs(), box[3] - (y - box[1]).abs())
    back = mix(back, per_pixel(identity.box_colour, 4), (0.5 + inside / pixel).clamp(0, 1) * field("box_on"))
    if "room" in has:
        back = _room(identity, back, x, y, pixel)
    if "background_noise" in has:
        noise = sample(identity.background_texture, x.expand_as(mixture), y.expand_as(mixture))
        back = back + per_pixel(identity.background_noise, 4) * noise
    if "other" in has:
        back = _other_person(identity, back, x, y, pixel)
    return back


def _room(identity: Identity, back: Tensor, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Boxes and discs with frames: windows, doors, pictures, shelves, lamps; sharp or out of focus."""
    soft = pixel + per_pixel(identity.room_blur, 3)
    on = per_pixel(identity.room, 3)
    for k in range(identity.rooms.shape[1]):
        cx, cy, width, height, disc, frame = (per_pixel(identity.rooms[:, k, j], 3) for j in range(6))
        dx, dy = (x - cx).abs(), (y - cy).abs()
        inside = torch.where(
            disc > 0, height - (dx.square() + dy.square()).sqrt(), torch.minimum(width - dx, height - dy)
        )
        inside = torch.minimum(inside, 10 * width)
        colours = identity.room_colours[:, k, :, None, None]
        cover = (0.5 + inside / soft).clamp(0, 1) * on
        paint = mix(
            colours[:, 3:].expand_as(back), colours[:, :3], (0.5 + (inside - frame) / soft).clamp(0, 1)
        )
        back = mix(back, paint, cover)
    return back


def _other_person(identity: Identity, back: Tensor, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Someone else at the edge of the picture, who never moves."""
    cx, cy, scale = (per_pixel(identity.other_place[:, k], 3) for k in range(3))
    x, y, step = (x - cx) / scale, (y - cy) / scale, pixel / scale
    on = per_pixel(identity.other, 3)

    def disc(dx: float, dy: float, rx: float, ry: float) -> Tensor:
        away = (((x - dx) / rx).square() + ((y - dy) / ry).square()).sqrt()
        return (0.5 + (1 - away) * min(rx, ry) / step).clamp(0, 1) * on

    skin, hair = per_pixel(identity.other_skin, 4), per_pixel(identity.other_hair, 4)
    back = mix(back, hair, disc(0.0, -0.20, 0.80, 0.98))
    back = mix(back, skin * 0.8, disc(0.0, 1.0, 0.36, 0.6))
    back = mix(back, per_pixel(identity.collar, 4) * 0.8, disc(0.0, 2.4, 1.4, 1.2))
    back = mix(back, skin, disc(0.0, 0.05, 0.66, 0.93))
    back = mix(back, hair, disc(0.0, -0.72, 0.64, 0.34))
    for side in (-0.27, 0.27):
        back = mix(back, skin * 0.3, disc(side, 0.0, 0.10, 0.06))
        back = mix(back, hair, disc(side, -0.2, 0.15, 0.025))
    back = mix(back, skin * 0.7, disc(0.0, 0.36, 0.09, 0.05))
    return mix(
        back,
        skin * torch.tensor([0.8, 0.45, 0.45], device=x.device).view(1, 3, 1, 1),
        disc(0.0, 0.58, 0.22, 0.05),
    )


def body(
    identity: Identity, motion: Motion, has: set[str], grid: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Neck and shoulders, flat: colour (B, 3, S, S), coverage and body coordinates (B, S, S)."""
    centre, scale = body_pose(identity, motion)
    x = (grid[..., 0] - per_pixel(centre[:, 0], 3)) / per_pixel(scale, 3)
    y = (grid[..., 1] - per_pixel(centre[:, 1], 3)) / per_pixel(scale, 3)
    pixel = per_pixel(2.0 / (grid.shape[1] - 1) / scale, 3)

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
    detail = sample(identity.background_texture.flip(-1), x * 0.8, y * 0.8)
    wear = per_pixel(identity.clothes, 4) * (1 + 0.15 * per_pixel(identity.texture_gain > 0.03, 4) * detail)
    if "cloth_stripes" in has:
        rate = field("cloth_stripes")
        wear = wear * (1 - 0.35 * (rate > 0) * (0.5 + 0.5 * torch.tanh(4 * (rate * y).sin())))[:, None]
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
    wear = mix(wear, per_pixel(identity.collar, 4), trim)
    if "jacket" in has:
        wear = _jacket(identity, wear, x, y - top, neck, pixel)
    colour = mix(skin.expand_as(wear), wear, cloth * (1 - opening))
    colour = colour * shade[:, None]
    if "cast" in has:
        colour = colour * (1 - field("cast") * _chin_shadow(identity, motion, grid) * 0.9)[:, None]
    if "scarf" in has:
        folds = 1 + 0.2 * torch.sin(14 * (y + 0.25 * x.square()))
        # A roll of cloth: an ellipse around the neck, lower in front.
        around = (neck + 0.20) * (
            1 - ((x / (neck + 0.20)).square() + ((y - top + 0.12) / 0.24).square()).sqrt()
        )
        scarf = (0.5 + around / pixel).clamp(0, 1) * field("scarf")
        colour = mix(colour, per_pixel(identity.hat_colour, 4) * folds[:, None], scarf)
        throat = torch.maximum(throat, scarf)
    return colour, torch.maximum(cloth, throat), x, y


def _jacket(identity: Identity, wear: Tensor, x: Tensor, y: Tensor, neck: Tensor, pixel: Tensor) -> Tensor:
    """A jacket open over a shirt, and a tie; y from the shoulders' top."""

    def soft(inside: Tensor) -> Tensor:
        return (0.5 + inside / pixel).clamp(0, 1)

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    edge = (neck * 1.05 - 0.55 * y).clamp(min=0.02)
    front = soft(edge - x.abs()) * field("jacket")
    wear = mix(wear, per_pixel(identity.collar, 4), front)
    lapel = soft(0.02 - (x.abs() - edge).abs()) + soft(0.012 - (x.abs() - edge - 0.22 + 0.2 * y).abs()) * (
        y > 0
    )
    wear = mix(wear, per_pixel(identity.clothes, 4) * 0.6, lapel.clamp(0, 1) * 0.8 * field("jacket"))
    knot = torch.minimum(0.06 + 0.05 * (y - 0.1).clamp(min=0) - x.abs(), y - 0.02)
    return mix(wear, per_pixel(identity.hat_colour, 4), soft(knot) * field("tie"))


def _chin_shadow(identity: Identity, motion: Motion, grid: Tensor) -> Tensor:
    """Depth (B, S, S) of the shadow that the head casts on neck and chest."""
    centre, scale, turn = head_pose(identity, motion)
    # Shifted from the chin, away from the light.
    chin = centre + scale[:, None] * 0.55 * turn[:, :2, 1]
    chin = chin + scale[:, None] * torch.stack([-0.25 * identity.light[:, 0], 0.22 + 0 * scale], 1)
    dx = (grid[..., 0] - per_pixel(chin[:, 0], 3)) / per_pixel(scale * identity.jaw_width, 3)
    dy = (grid[..., 1] - per_pixel(chin[:, 1], 3)) / per_pixel(0.62 * scale, 3)
    return torch.sigmoid((1 - (dx.square() + dy.square()).sqrt()) / 0.06)


#: How strongly each factor sways what is held before the face: poses, and a little of talking.
_SWAY = (2.3, -1.7, 2.9, 4.1, -3.7, 3.1, 1.9, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def occluder_centre(identity: Identity, motion: Motion) -> Tensor:
    """Where a hand or microphone is (B, 2), in picture units.

    It moves with the motion's numbers but not like the head, so that nothing of the head tells
    where it went.
    """
    amount = motion.values @ motion.values.new_tensor(_SWAY)
    sway = torch.stack([amount.sin(), (1.3 * amount).cos() - 1], 1)
    return identity.occluder_place[:, :2] + identity.occluder_sway[:, None] * sway


def occluder(identity: Identity, motion: Motion, grid: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A hand or a microphone before the face: colour, coverage and coordinates from its centre, as
    `body`'s.
    """
    centre = occluder_centre(identity, motion)
    ox, oy = grid[..., 0] - per_pixel(centre[:, 0], 3), grid[..., 1] - per_pixel(centre[:, 1], 3)
    size, angle = per_pixel(identity.occluder_place[:, 2], 3), per_pixel(identity.occluder_place[:, 3], 3)
    pixel = 2.0 / (grid.shape[1] - 1) / size
    x = (ox * angle.cos() + oy * angle.sin()) / size
    y = (oy * angle.cos() - ox * angle.sin()) / size

    def rod(ax: float, ay: float, bx: float, by: float, radius: float) -> Tensor:
        """Depth inside a capsule from a to b."""
        length = (bx - ax) ** 2 + (by - ay) ** 2
        along = (((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length).clamp(0, 1)
        return radius - ((x - ax - along * (bx - ax)).square() + (y - ay - along * (by - ay)).square()).sqrt()

    fingers = [
        rod(-0.45, -0.3, -0.62, -1.25, 0.17),
        rod(-0.15, -0.4, -0.20, -1.55, 0.18),
        rod(0.17, -0.4, 0.22, -1.50, 0.18),
        rod(0.47, -0.3, 0.62, -1.15, 0.16),
        rod(0.5, 0.35, 1.05, -0.35, 0.19),
    ]
    palm = torch.maximum(rod(-0.1, 0.0, 0.1, 0.1, 0.62), rod(0.0, 0.5, 0.0, 8.0, 0.42))
    hand = palm
    for finger in fingers:
        hand = torch.maximum(hand, finger)
    # Fingers are darker at their sides.
    relief = 0.62 + 0.38 * (torch.stack([*fingers, palm * 0.6]).amax(0) / 0.14).clamp(0, 1)
    ball, stem = rod(0.0, -0.2, 0.0, 0.2, 0.55), rod(0.0, 0.6, 0.0, 9.0, 0.25)
    mesh = (
        0.75
        + 0.25 * (x * 22).sin() * (y * 22).sin()
        + 0.5 * torch.exp(-((x + 0.2).square() + (y + 0.3).square()) / 0.04)
    )
    microphone = torch.where(ball > stem, mesh, 0.8 + 0 * mesh)
    kind = per_pixel(identity.occluder_kind, 3) > 0
    inside = torch.where(kind, torch.maximum(ball, stem), hand)
    paint = per_pixel(identity.occluder_colour, 4) * torch.where(kind, microphone, relief)[:, None]
    cover = (0.5 + inside / pixel).clamp(0, 1) * per_pixel(identity.occluder, 3)
    return paint, cover, ox, oy
