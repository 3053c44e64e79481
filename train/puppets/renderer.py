"""The procedural puppet renderer: pure torch, seeded, in batches, on any device.

Every pixel casts an orthographic ray into the head's own frame and meets a few ellipsoids (cranium,
jaw, nose, ears, hair). Features are painted where the ray hits, in the rest coordinates of
`rig.Face`, so foreshortening, shading and expression need no projection code. Edges are
anti-aliased by their signed distance in pixels.

Besides the picture it reports, per pixel, *which point of the puppet* is seen, from which
`true_flow` tells exactly where that point lies in another picture of the same puppet and whether it
is visible there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import make_grid, warp
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.device import send
from livepuppet.train.puppets import scenery
from livepuppet.train.puppets.canvas import Canvas, Rays, bounding_box, mix, normal_at, sample
from livepuppet.train.puppets.identities import Identity, Motion
from livepuppet.train.puppets.painting import paint_skin
from livepuppet.train.puppets.rig import (
    JAW_DROP,
    MUZZLE_FALL,
    Face,
    body_pose,
    head_pose,
    landmarks,
    muzzle_shape,
    per_pixel,
)

#: Raised with each change that alters pictures: a pool drawn by another number shows other puppets.
RENDERER = 6

#: What a pixel shows. RIGID is hair, ears, hat, glasses: whatever turns with the head but has no
#: expression. OCCLUDER is a hand or a microphone before the face, which moves on its own or not at
#: all.
BACKGROUND, BODY, RIGID, SKIN, EYEBALL, MOUTH, OCCLUDER = range(7)

#: Pixels that `render` draws at once on a CPU.
CPU_PIXELS = 1 << 15

#: Two surface points nearer than this (head units) are the same point.
SAME_POINT = 0.07


@dataclass
class Rendering:
    """A batch of puppets seen.

    Attributes:
        picture: (B, 3, S, S) RGB in [0, 1].
        surface: (B, 3, S, S) the puppet's point under each pixel, in the coordinates of its layer.
        layer: (B, S, S) int64, one of BACKGROUND ... OCCLUDER.
        points, jacobians: exact keypoints (B, K, 2) and local affine parts (B, K, 2, 2); see
            `rig.landmarks`.
    """

    picture: Tensor
    surface: Tensor
    layer: Tensor
    points: Tensor
    jacobians: Tensor


def _mix(below: Tensor, above: Tensor, alpha: Tensor) -> Tensor:
    """Lay a colour (B, 3, ...) over another with coverage (B, H, W)."""
    return torch.lerp(below, above.expand_as(below), alpha.expand(-1, *below.shape[2:])[:, None])


def _rows_with(identity: Identity, motion: Motion, size: int) -> tuple[set[str], list[list[float]]]:
    """What the batch needs: names of fields that are not zero in some row, and the heads' bounds in
    pixels.

    The only thing that render waits for the device for.
    """
    fields = identity.fields
    names = [name for name, value in fields.items() if name in _OPTIONAL]
    flags = torch.stack([(fields[name] != 0).flatten().any() for name in names]).float()
    bounds = _head_bounds(identity, motion, size)
    numbers = torch.cat([flags, bounds.flatten()]).tolist()
    has = {name for name, flag in zip(names, numbers, strict=False) if flag}
    return has, [numbers[k : k + 4] for k in range(len(names), len(numbers), 4)]


#: Fields whose parts cost nothing where no row of the batch has them.
_OPTIONAL = frozenset(
    [
        "animal_ear",
        "antenna",
        "background_noise",
        "ball_shade",
        "beard_grain",
        "brim",
        "bun",
        "cast",
        "cel",
        "cloth_stripes",
        "ear_point",
        "fill",
        "fur",
        "glasses_on",
        "hair_curl",
        "hair_on",
        "hatch",
        "hat_on",
        "headphones",
        "iris_rays",
        "jacket",
        "lash_wing",
        "lens_shine",
        "locks",
        "long_hair",
        "metal",
        "muzzle_depth",
        "occluder",
        "other",
        "patch",
        "philtrum",
        "rim",
        "room",
        "scarf",
        "teeth_detail",
        "texture_turn",
        "tint",
        "wet",
        "wrap",
        "wrinkles",
    ]
)


def _head_bounds(identity: Identity, motion: Motion, size: int) -> Tensor:
    """Left, right, top, bottom (B, 4) in pixels of all that turns with the head."""
    f = identity
    width, one = f.head_width, torch.ones_like(f.head_width)
    zero = 0 * one
    thick = f.hair_thick + 2 * f.hair_curl
    fall = f.long_hair_length
    tall = f.animal_ear_size * f.animal_ear
    spread = f.eye_x + f.glasses_size * 1.2 + 0.05
    sides = (-one, one)
    # Middle, radii and whether it is there.
    ellipsoids = [
        (zero, -0.19 * one, -0.14 * one, width * thick + 0.03, 0.92 * thick + 0.03, 0.90 * thick + 0.03, one),
        (zero, 0.40 * one, 0.10 * one, f.jaw_width + 0.03, f.jaw_length + 0.24, 0.70 * one, one),
        (
            zero,
            f.eye_y + f.nose_y - 0.07 + 0.24 - f.nose_long,
            0.76 * one,
            0.2 * f.nose_broad * f.nose_size,
            f.nose_long,
            0.3 * f.nose_size + 0.1,
            one,
        ),
        (
            zero,
            f.mouth_y - 0.13,
            0.58 * one,
            0.5 * one,
            0.35 * one,
            0.3 + 0.3 * f.muzzle_depth,
            f.muzzle_depth,
        ),
        (zero, -0.1 + 0.5 * fall, -0.35 * one, width * 1.22, 0.75 + 0.5 * fall, 0.55 * one, f.long_hair),
        (zero, f.eye_y, 0.93 * one, 1.42 * spread, 1.5 * f.glasses_size + 0.05, 0.01 * one, f.glasses_on),
        (f.bun_place[:, 0], f.bun_place[:, 1], f.bun_place[:, 2], f.bun, f.bun, f.bun, f.bun),
        (zero, f.hat_line + 0.02, 0.75 * one, 0.9 * width, 0.08 * one, 0.56 * one, f.brim),
        (zero, -0.15 * one, -0.08 * one, width + 0.16, 1.17 * one, 1.05 * one, f.headphones),
        (zero, -1.35 * one, -0.10 * one, 0.1 * one, 0.40 * one, 0.1 * one, f.antenna),
    ]
    for side in sides:
        ear = f.ear_size
        ellipsoids += [
            (
                side * (width + 0.02),
                0.05 * one,
                -0.12 * one,
                0.11 * ear + 0.03,
                0.21 * ear + 0.03,
                0.12 * one,
                one,
            ),
            (
                side * f.animal_ear_x,
                -0.95 * one,
                -0.15 * one,
                0.24 * tall,
                0.42 * tall,
                0.14 * one,
                f.animal_ear,
            ),
            (
                side * (width + 0.02),
                -0.25 + 0.5 * f.locks_length,
                0.05 * one,
                f.locks_width + 0.03,
                0.38 + 0.5 * f.locks_length,
                0.3 * one,
                f.locks,
            ),
            (
                side * (width + 0.10),
                0.08 * one,
                -0.05 * one,
                0.13 * one,
                0.27 * one,
                0.25 * one,
                f.headphones,
            ),
        ]
    table = torch.stack([torch.stack(row, -1) for row in ellipsoids], 1)
    there = (table[..., 6:] > 0).float()
    centre, scale, turn = head_pose(identity, motion)
    middle = (table[..., :3] * there) @ turn[:, :2].transpose(1, 2)
    reach = ((table[..., 3:6] * there).square() @ turn[:, :2].square().transpose(1, 2)).sqrt()
    low = (middle - reach).amin(1) * scale[:, None] + centre
    high = (middle + reach).amax(1) * scale[:, None] + centre
    low, high = (low + 1) / 2 * (size - 1) - 4, (high + 1) / 2 * (size - 1) + 4
    return torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], 1)


class _Shading:
    """Light on surfaces of the head: a key light that stays with the room, and what rich puppets
    add to it.
    """

    def __init__(self, identity: Identity, motion: Motion, has: set[str], rays: Rays):
        self.identity, self.has, self.rays = identity, has, rays
        turn = head_pose(identity, motion)[2]

        def turned(direction: Tensor) -> list[Tensor]:
            # Lights stay with the room, so they turn against the head.
            parts = [per_pixel(direction[:, k], 3) for k in range(3)]
            nothing = torch.zeros(())
            return [
                sum((per_pixel(turn[:, j, k], 3) * parts[j] for j in range(3)), nothing) for k in range(3)
            ]

        self.key, self.fill = turned(identity.light), turned(identity.fill_from)
        self.ambient = per_pixel(identity.ambient, 3)

    def __call__(self, paint: Tensor, normal, point=None) -> Tensor:
        """Paint (B, 3, ...) in the light that falls on surfaces with these normals (not of unit
        length).
        """
        has, ambient, light = self.has, self.ambient, self.key

        def field(name):
            return per_pixel(getattr(self.identity, name), 3)

        def colour(name):
            return per_pixel(getattr(self.identity, name), 4)

        length = (normal[0].square() + normal[1].square() + normal[2].square()).clamp(min=1e-6).rsqrt()
        diffuse = (normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]) * length
        if "wrap" in has:
            diffuse = (diffuse + field("wrap")) / (1 + field("wrap"))
        diffuse = diffuse.clamp(min=0)
        if "cel" in has:
            stepped = torch.sigmoid((diffuse - 0.45) / 0.03) * 0.8
            diffuse = torch.where(field("cel") > 0, stepped, diffuse)
        gloss = field("gloss") * diffuse**12
        if "hatch" in has and point is not None:
            lines = ((point[0] + 0.8 * point[1]) * (6.2832 / field("hatch_step"))).sin()
            dark = torch.sigmoid((lines - 3 * diffuse + 0.8) / 0.2)
            diffuse = diffuse * (1 - field("hatch").sign() * 0.9 * dark)
        shade = ambient + (1 - ambient) * 1.15 * diffuse
        if "metal" in has:
            bands = ((7 * normal[1] + 3 * normal[0]) * length).sin()
            shade = shade * (1 + 0.6 * field("metal") * bands)
        lit = paint * shade[:, None] + gloss[:, None]
        if "fill" in has:
            second = (normal[0] * self.fill[0] + normal[1] * self.fill[1] + normal[2] * self.fill[2]) * length
            lit = lit + paint * colour("fill") * second.clamp(min=0)[:, None]
        if "rim" in has:
            d = self.rays.direction
            facing = (normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2]) * length
            lit = lit + colour("rim") * ((1 - facing.clamp(0, 1)) ** 3)[:, None]
        return lit


@torch.no_grad()
def render(identity: Identity, motion: Motion, size: int) -> Rendering:
    """Draw puppets.

    Args:
        identity: B rows, on any device.
        motion: B rows, on the same device.
        size: S, the side in pixels.

    Returns:
        The pictures with their truth; see `Rendering`. They do not depend on what else is in the
        batch.
    """
    if identity.eye_x.device.type == "cpu":
        # A processor does best with few pixels at once, in boxes that fit the heads.
        few = max(1, CPU_PIXELS // size**2)
        if few < len(identity):
            rows = torch.arange(len(identity)).split(few)
            parts = [vars(_render(identity[some], motion[some], size)) for some in rows]
            return Rendering(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return _render(identity, motion, size)


def _render(identity: Identity, motion: Motion, size: int) -> Rendering:
    device = identity.eye_x.device
    grid = make_grid(size, size, device)[None]
    has, bounds = _rows_with(identity, motion, size)
    zero = torch.zeros(len(identity), size, size, device=device)
    ground = torch.stack([grid[..., 0] + zero, grid[..., 1] + zero, zero], 1)
    frame = Canvas(scenery.background(identity, has, grid), ground, zero.long())
    paint, cover, bx, by = scenery.body(identity, motion, has, grid)
    paint = paint * (0.72 + 0.28 * per_pixel(identity.ambient, 3))[:, None]
    clothes = (paint, cover, (bx, by, zero), BODY)

    box = bounding_box(bounds, size, device)
    head = Canvas(box.cut(frame.picture), box.cut(frame.surface), box.cut(frame.layer[:, None])[:, 0])
    grids = box.cut(grid.movedim(-1, 1)).movedim(1, -1)
    cut_points = box.cut(torch.stack([bx, by, zero], 1)).unbind(1)
    _draw_head(
        head,
        identity,
        motion,
        has,
        Rays(identity, motion, grids, 2.0 / (size - 1)),
        (box.cut(paint), box.cut(cover[:, None])[:, 0], cut_points, BODY),
    )
    frame.put(*clothes)
    frame = Canvas(
        box.paste(frame.picture, head.picture),
        box.paste(frame.surface, head.surface),
        box.paste(frame.layer[:, None], head.layer[:, None])[:, 0],
    )
    if "occluder" in has:
        paint, cover, ox, oy = scenery.occluder(identity, motion, grid)
        frame.put(paint, cover, (ox, oy, zero), OCCLUDER)

    picture = frame.picture * per_pixel(identity.light_colour, 4) * per_pixel(identity.exposure, 4)
    points, jacobians = landmarks(identity, motion)
    return Rendering(picture.clamp(0, 1), frame.surface, frame.layer, points, jacobians)


def _draw_head(
    canvas: Canvas, identity: Identity, motion: Motion, has: set[str], rays: Rays, clothes
) -> None:
    """Draw all that turns with the head, and the body (`clothes`: arguments of `Canvas.put`) at its
    place in depth.
    """
    pixel = rays.pixel
    face = Face(identity, motion, 3)
    shaded = _Shading(identity, motion, has, rays)
    zero = torch.zeros_like(canvas.layer, dtype=torch.float32)

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    def colour(name):
        return per_pixel(getattr(identity, name), 4)

    def strands(point, amount=1.0):
        across = point[0] * field("strand_x") + point[2] * field("strand_z")
        if "texture_turn" in has:
            across = across + point[1] * field("strand_skew")
        lines = sample(identity.hair_texture, across, point[1] * field("strand_y"))[:, 0]
        return 1 + amount * field("hair_texture_gain") * lines

    def lump(middle, radii, paint, on, before: Tensor | None = None, strand: float = 0.0) -> None:
        """An ellipsoid of one colour, in front of `before` (ray parameters) where that is given."""
        t, cover, _ = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        if strand:
            paint = paint * strands(point, strand)[:, None]
        if before is not None:
            cover = cover * torch.sigmoid((t - before) / 0.01 + 4)
        canvas.put(shaded(paint, normal_at(point, middle, radii)), cover * on, point, RIGID)

    width = field("head_width")
    cranium = (0.0, -0.15, -0.10), (width, 0.92, 0.88)
    thick = field("hair_thick")
    hair = (0.0, -0.19, -0.14), (width * thick, 0.92 * thick, 0.90 * thick)
    drop = JAW_DROP * face.open
    jaw = (0.0, 0.34 + drop, 0.10), (field("jaw_width"), field("jaw_length") + drop, 0.66)

    if "long_hair" in has:  # behind the neck
        fall = field("long_hair_length")
        middle, radii = (0.0, -0.1 + 0.5 * fall, -0.35), (width * 1.22, 0.75 + 0.5 * fall, 0.55)
        t, cover, near = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        if "hair_curl" in has:
            rough = sample(identity.hair_texture, point[0] * 1.3, point[1] * 1.3)[:, 0]
            cover = rays.coverage(near + field("hair_curl") * rough, radii)
        canvas.put(
            shaded(colour("hair") * (0.8 * strands(point))[:, None], normal_at(point, middle, radii)),
            cover * field("long_hair"),
            point,
            RIGID,
        )
    if "bun" in has:
        place, radius = identity.bun_place, field("bun") + 1e-3
        middle = tuple(per_pixel(place[:, k], 3) for k in range(3))
        lump(middle, (radius, radius, radius), colour("hair"), field("bun") > 0, strand=1.0)
    if "antenna" in has:
        lump((0.0, -1.3, -0.1), (0.025, 0.32, 0.025), colour("gadget_colour"), field("antenna"))
        lump((0.0, -1.62, -0.1), (0.08, 0.08, 0.08), colour("iris_colour"), field("antenna"))

    canvas.put(*clothes)

    # Ears: people's at the sides, animals' on top.
    for sign in (-1.0, 1.0):
        size_ear = field("ear_size")
        middle = (sign * (width + 0.02), 0.05, -0.12)
        radii = (0.11 * size_ear + 0.01, 0.21 * size_ear + 0.01, 0.10)
        t, cover, near = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        ear = colour("skin") * 0.92
        if "cast" in has:
            ear = ear * (1 - field("cast") * 0.7 * torch.sigmoid((0.62 - near) / 0.06))[:, None]
        canvas.put(shaded(ear, normal_at(point, middle, radii)), cover * (size_ear > 0.1), point, RIGID)
        if "animal_ear" not in has:
            continue
        tall = field("animal_ear_size")
        middle = (sign * field("animal_ear_x"), -0.95, -0.15)
        radii = (0.24 * tall, 0.42 * tall, 0.14)
        t, cover, near = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        if "ear_point" in has:
            # A triangle within the ellipse.
            below = (point[1] - middle[1]) / radii[1] + 0.95
            inside = 0.62 * radii[0] * below - (point[0] - middle[0]).abs()
            pointed = torch.minimum(cover, (0.5 + inside / pixel).clamp(0, 1))
            cover = torch.where(field("ear_point") > 0, pointed, cover)
            near = torch.where(field("ear_point") > 0, 0.9 - 2.2 * inside.clamp(min=0) / radii[0], near)
        ear = mix(
            colour("skin").expand(-1, -1, *near.shape[1:]) * 0.95,
            colour("skin") * 0.6 + 0.2,
            (near < 0.6).float(),
        )
        canvas.put(shaded(ear, normal_at(point, middle, radii)), cover * field("animal_ear"), point, RIGID)

    # The head: cranium, jaw and nose, melted together.
    tc, cc, near_c = rays.ellipsoid(*cranium)
    tj, cj, near_j = rays.ellipsoid(*jaw)
    tc, tj = tc - 6 * (near_c - 1).clamp(min=0), tj - 6 * (near_j - 1).clamp(min=0)
    w = torch.sigmoid((tj - tc) / 0.06)
    t = w * tj + (1 - w) * tc
    point = rays.at(t)
    normal = [
        w * j + (1 - w) * c for j, c in zip(normal_at(point, *jaw), normal_at(point, *cranium), strict=True)
    ]
    cover = torch.maximum(cc, cj)
    edge = torch.minimum(near_c, near_j)
    if "fur" in has:
        # The contour is ragged where fur stands off.
        rough = sample(identity.hair_texture, point[0] * 4 + point[1] * 1.5, point[1] * 4 - point[0] * 1.5)[
            :, 0
        ]
        furry = torch.maximum(
            rays.coverage(near_c + field("fur") * (0.4 * rough - 0.2), cranium[1]),
            rays.coverage(near_j + field("fur") * (0.4 * rough - 0.2), jaw[1]),
        )
        cover = torch.where(field("fur") > 0, furry, cover)
    if "muzzle_depth" in has:
        muzzle = muzzle_shape(identity, 3)
        tm, cm, near_m = rays.ellipsoid(*muzzle)
        there = (field("muzzle_depth") > 0).float()
        tm = tm - MUZZLE_FALL * (near_m - 1).clamp(min=0)
        wm = torch.sigmoid((tm - t) / 0.05) * (near_m < 1.3) * there
        normal = [wm * m + (1 - wm) * n for m, n in zip(normal_at(rays.at(tm), *muzzle), normal, strict=True)]
        t = wm * tm + (1 - wm) * t
        cover = torch.maximum(cover, cm * there)
    nose = (
        (0.0, field("eye_y") + field("nose_y") - 0.07 - (field("nose_long") - 0.24), 0.74),
        (
            (0.13 * field("nose_size") + 0.02) * field("nose_broad"),
            field("nose_long"),
            0.22 * field("nose_size") + 0.02,
        ),
    )
    tn, cn, near_n = rays.ellipsoid(*nose)
    tn = tn - 4 * (near_n - 1).clamp(min=0)
    wn = torch.sigmoid((tn - t) / field("nose_soft"))
    point_n = rays.at(tn)
    t = wn * tn + (1 - wn) * t
    normal = [wn * n + (1 - wn) * m for n, m in zip(normal_at(point_n, *nose), normal, strict=True)]
    cover = torch.maximum(cover, cn)
    point = rays.at(t)
    head_t = t
    u, v, eye, mouth, knots = face.rest_with_knots(point[0], point[1])
    # Eyes and mouth are painted on the front only; at the back of a turned head the same (x, y) is
    # hair.
    front = (point[2] > 0.0).float()
    eye, mouth = (
        torch.where(front > 0, eye, -torch.ones_like(eye)),
        torch.where(front > 0, mouth, -torch.ones_like(mouth)),
    )

    def hair_line(x: Tensor, ragged: Tensor) -> Tensor:
        """Height down to which hair covers the head at x."""
        part = x - field("hair_part")
        line = (
            field("hair_line")
            + field("hair_sides") * (x.abs() - field("hair_temple")).clamp(min=0) * 1.6
            + field("hair_fringe") * torch.cos(part.abs().clamp(max=1.5) * 2.1)
        )
        if "texture_turn" in has:
            line = (
                line
                + field("hair_tilt") * x.clamp(-0.6, 0.6)
                + field("hair_curtain") * part.abs().clamp(max=0.6)
            )
        return line + 0.35 * field("hair_strands") * ragged

    def raggedness(x: Tensor, z: Tensor) -> Tensor:
        across = x * field("strand_x") + z * field("strand_z")
        return sample(identity.hair_texture, across, zero - 0.6)[:, 0]

    over = None
    if "cast" in has and "hair_on" in has:
        over = hair_line(point[0], raggedness(point[0], point[2]))
    skin, eye_cover, mouth_cover, ball = paint_skin(
        identity, face, has, knots, (u, v, eye, mouth, point[1]), pixel, shaded.key, over
    )
    lit = shaded(skin, normal, point)
    # Eyeballs and teeth sit in shade and shine of their own; keep most of their own colour.
    lit = mix(
        lit,
        skin * (0.55 + 0.45 * shaded.ambient)[:, None],
        torch.maximum(0.6 * eye_cover, 0.8 * mouth_cover),
    )
    line = ((edge - 1 + field("outline") * 1.6) / 0.02).clamp(0, 1) * (field("outline") > 0)
    lit = mix(lit, colour("line_colour") * 0.6, line * (1 - wn))
    canvas.put(lit, cover, (u, v, point[2]), SKIN)
    # The same paint: only what the pixel shows changes.
    for opening, points, kind in (
        (
            eye_cover,
            (ball[0] + torch.where(u < 0, -face.eye_x, face.eye_x), ball[1] + face.eye_y, point[2]),
            EYEBALL,
        ),
        (mouth_cover, (point[0], point[1], point[2]), MOUTH),
    ):
        canvas.put(lit, cover * (opening > 0.5), points, kind)

    # Hair over the cranium, down to a hairline with strands; a hat is its upper part in another
    # colour.
    if "hair_on" in has or "hat_on" in has:
        t, cover, near = rays.ellipsoid(*hair)
        hx, hy, hz = hair_point = rays.at(t)
        if "hair_curl" in has:
            rough = sample(identity.hair_texture, hx * 1.3 + 0.7 * hz, hy * 1.3)[:, 0]
            near = near + field("hair_curl") * rough * (1 - field("hat_on"))
            cover = rays.coverage(near, hair[1])
        line = hair_line(hx, raggedness(hx, hz))
        behind = (-hz - 0.02).clamp(min=0) * 3.0
        hair_cover = (0.5 + (line + behind - hy) / (pixel * 1.5)).clamp(0, 1) * field("hair_on")
        hat = (0.5 + (field("hat_line") + 0.05 - hy) / pixel).clamp(0, 1) * field("hat_on")
        visible = cover * torch.sigmoid((t - head_t) / 0.01 + 4) * torch.maximum(hair_cover, hat)
        band = torch.exp(-((hy - field("hat_line")) / 0.05).square())
        hair_paint = mix(
            colour("hair") * strands(hair_point)[:, None],
            colour("hat_colour") * (1 - 0.5 * band)[:, None],
            hat,
        )
        lit = shaded(hair_paint, normal_at(hair_point, *hair))
        line = ((near - 1 + field("outline") * 1.6) / 0.02).clamp(0, 1) * (field("outline") > 0)
        lit = mix(lit, colour("line_colour") * 0.4, line)
        canvas.put(lit, visible, hair_point, RIGID)
    if "locks" in has:
        _draw_locks(canvas, identity, rays, shaded, strands, head_t)
    if "brim" in has:
        middle = (0.0, field("hat_line") + 0.02, 0.75)
        lump(middle, (0.85 * width, 0.05, 0.52), colour("hat_colour") * 0.85, field("brim"), before=head_t)
    if "headphones" in has:
        _draw_headphones(canvas, identity, rays, shaded, lump, head_t)
    if "glasses_on" in has:
        _draw_glasses(canvas, identity, has, rays)


def _draw_locks(
    canvas: Canvas, identity: Identity, rays: Rays, shaded: _Shading, strands, head_t: Tensor
) -> None:
    """Hair that falls beside the cheeks and over the shoulders; the cloth of a hood."""

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    length = field("locks_length")
    for sign in (-1.0, 1.0):
        middle = (sign * (field("head_width") + 0.02), -0.25 + 0.5 * length, 0.05)
        radii = (field("locks_width"), 0.38 + 0.5 * length, 0.30)
        t, _, near = rays.ellipsoid(middle, radii)
        point = rays.at(t)
        ends = sample(identity.hair_texture, point[0] * field("strand_x") * 1.5, 0 * point[1] + sign * 0.3)[
            :, 0
        ]
        bottom = length - 0.25 + 0.5 * field("hair_strands") * ends
        cover = rays.coverage(near + (0.03 + field("hair_curl")) * ends, radii)
        cover = cover * (0.5 + (bottom - point[1]) / (4 * rays.pixel)).clamp(0, 1)
        cover = cover * torch.sigmoid((t - head_t) / 0.01 + 4) * field("locks")
        paint = per_pixel(identity.hair, 4) * strands(point)[:, None]
        canvas.put(shaded(paint, normal_at(point, middle, radii)), cover, point, RIGID)


def _draw_headphones(
    canvas: Canvas, identity: Identity, rays: Rays, shaded: _Shading, lump, head_t: Tensor
) -> None:
    def field(name):
        return per_pixel(getattr(identity, name), 3)

    paint, on = per_pixel(identity.gadget_colour, 4), field("headphones")
    middle, radii = (0.0, -0.15, -0.08), (field("head_width") + 0.14, 1.14, 1.02)
    t, cover, _ = rays.ellipsoid(middle, radii)
    point = rays.at(t)
    band = torch.minimum(0.07 - (point[2] - middle[2]).abs(), 0.05 - point[1])
    cover = cover * (0.5 + band / rays.pixel).clamp(0, 1) * torch.sigmoid((t - head_t) / 0.01 + 4) * on
    canvas.put(shaded(paint, normal_at(point, middle, radii)), cover, point, RIGID)
    # From the front the band is seen on edge: the same band as a ring in its plane.
    forward = rays.direction[2].clamp(min=0.2)
    t = (middle[2] - rays.origin[2]) / forward
    x, y, _ = point = rays.at(t)
    ring = ((x / radii[0]).square() + ((y - middle[1]) / radii[1]).square()).sqrt() - 0.98
    edge = torch.minimum(0.045 - ring.abs() * radii[1], 0.05 - y)
    cover = (0.5 + edge / rays.pixel).clamp(0, 1) * torch.sigmoid((t - head_t) / 0.01 + 4) * on
    canvas.put(paint * (0.4 + 0.6 * shaded.ambient)[:, None], cover, point, RIGID)
    for sign in (-1.0, 1.0):
        lump((sign * (field("head_width") + 0.10), 0.08, -0.05), (0.10, 0.24, 0.22), paint, on, before=head_t)


def _draw_glasses(canvas: Canvas, identity: Identity, has: set[str], rays: Rays) -> None:
    """Rims on a plane before the eyes, which gives the right parallax; lenses with tint and
    reflections.
    """

    def field(name):
        return per_pixel(getattr(identity, name), 3)

    pixel = rays.pixel
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
    if "tint" in has or "lens_shine" in has:
        inside = (0.5 - ring * size_g / pixel).clamp(0, 1) * field("glasses_on")
        canvas.picture = mix(canvas.picture, per_pixel(identity.tint_colour, 4), inside * field("tint"))
        slant = dx - 0.6 * dy
        shine = torch.exp(-((slant - 0.3) / 0.16).square()) + 0.6 * torch.exp(
            -((slant - 0.72) / 0.07).square()
        )
        white = torch.ones_like(canvas.picture[:, :, :1, :1])
        canvas.picture = mix(canvas.picture, white, inside * (field("lens_shine") * shine).clamp(0, 1))
    rim = (0.5 + (field("glasses_rim") - ring.abs() * size_g) / pixel).clamp(0, 1)
    bridge = (0.5 + (field("glasses_rim") - (gy - field("eye_y") + 0.02).abs()) / pixel).clamp(0, 1) * (
        gx.abs() < field("eye_x") - size_g + 0.02
    )
    rim = torch.maximum(rim, bridge) * field("glasses_on")
    canvas.put(per_pixel(identity.glasses_colour, 4), rim, glass_point, RIGID)


def visible_keypoints(
    points: Tensor, layer: Tensor, hiding: tuple[int, ...] = (BACKGROUND, OCCLUDER)
) -> Tensor:
    """(B, K) 1 where a keypoint lies in the picture, under none of the layers `hiding`, and, for
    irises, on an eye that is open.

    Args:
        points: exact keypoints (B, K, 2) in [-1, 1].
        layer: (B, S, S) of `Rendering`, of any side.
    """
    side = layer.shape[-1]
    inside = (points.abs() <= 1).all(-1)
    cells = ((points + 1) * (side - 1) / 2).round().long().clamp(0, side - 1)
    there = layer.flatten(1).gather(1, cells[..., 1] * side + cells[..., 0])
    hidden = torch.stack([there == kind for kind in hiding]).any(0)
    iris = send(torch.tensor(["iris" in name for name in LANDMARKS]), points.device)
    return (inside & ~hidden & (~iris | (there == EYEBALL))).float()


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
    held = flat + scenery.occluder_centre(identity, source_motion)[:, None, None]
    kind = layer[..., None]
    flow = torch.where(kind == BACKGROUND, flat, torch.where(kind == BODY, body, head))
    flow = torch.where(kind == OCCLUDER, held, flow)
    there = warp(source.surface, flow)
    there_layer = F.grid_sample(
        source.layer[:, None].float() + 1, flow, mode="nearest", padding_mode="zeros", align_corners=True
    )[:, 0]
    # Depth counts less: a dropping jaw takes the chin's surface along.
    weights = torch.tensor([1.0, 1.0, 0.3], device=there.device).view(1, 3, 1, 1)
    distance = ((there - driving.surface) * weights).square().sum(1).sqrt()
    # Glasses have no thickness and hair is coarse: their own layer is enough.
    near = (distance < SAME_POINT) | (layer == RIGID) | (layer == BODY) | (layer == BACKGROUND)
    near = near | (layer == OCCLUDER)
    visible = (there_layer - 1 == layer.float()) & near & (flow.abs().amax(-1) <= 1)
    return flow, visible.float()
