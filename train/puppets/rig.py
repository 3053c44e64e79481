"""How a puppet's face moves: the head's pose and the expression, both exactly invertible.

The skin is painted once, in *rest* coordinates (u, v): the face with open eyes and closed mouth. An
expression moves it by a warp that acts down each column of the face as a piecewise-linear function
between *knots* (forehead, brow, upper lid, lower lid, cheek, upper lip, lower lip, chin) after a
widening or narrowing of the mouth. So lids really cover the eye with lid skin, lips part, and where
any point of one picture lies in another is known in closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.model.lite import LANDMARKS
from livepuppet.train.puppets.identities import Identity, Motion

#: Scale of a typical head; keypoint Jacobians are measured against a head of this size.
REFERENCE_SCALE = 0.62


def per_pixel(value: Tensor, dimensions: int) -> Tensor:
    """(B,) or (B, C) with trailing dimensions of size 1 up to `dimensions`."""
    return value.reshape(value.shape + (1,) * (dimensions - value.dim()))


def rotation(motion: Motion) -> Tensor:
    """Head-to-camera rotations (B, 3, 3): yaw about y, then pitch about x, then roll in the
    picture.
    """
    cy, sy = motion.yaw.cos(), motion.yaw.sin()
    cp, sp = motion.pitch.cos(), motion.pitch.sin()
    cr, sr = motion.roll.cos(), motion.roll.sin()
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)

    def matrix(*rows):
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)

    yaw = matrix((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
    pitch = matrix((one, zero, zero), (zero, cp, sp), (zero, -sp, cp))
    roll = matrix((cr, -sr, zero), (sr, cr, zero), (zero, zero, one))
    return roll @ pitch @ yaw


def head_pose(identity: Identity, motion: Motion) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (B, 2) in picture units, scale (B,) of a head unit, and rotation (B, 3, 3)."""
    centre = torch.stack([identity.base_x + motion.shift_x, identity.base_y + motion.shift_y], dim=1)
    return centre, identity.base_scale * motion.scale.exp(), rotation(motion)


def body_pose(identity: Identity, motion: Motion) -> tuple[Tensor, Tensor]:
    """Centre (B, 2) and scale (B,) of the body, which follows the head half way."""
    centre = torch.stack(
        [
            identity.base_x + 0.5 * motion.shift_x + 0.06 * motion.yaw,
            identity.base_y + 0.5 * motion.shift_y,
        ],
        dim=1,
    )
    return centre, identity.base_scale * (0.5 * motion.scale).exp()


class Face:
    """The expression of one batch, evaluated at points of a fixed rank.

    Args:
        identity, motion: B rows.
        dimensions: rank of the point tensors that the methods get: 3 for (B, H, W), 2 for (B, N).
    """

    def __init__(self, identity: Identity, motion: Motion, dimensions: int):
        self.dimensions = dimensions
        self._fields: dict[str, Tensor] = {}
        self.identity, self.motion = identity, motion

    def __getattr__(self, name: str) -> Tensor:
        # Any field of the identity or the motion, shaped to broadcast over the points.
        fields = self.__dict__["_fields"]
        if name not in fields:
            owner = self.identity if name in self.identity.fields else self.motion
            fields[name] = per_pixel(getattr(owner, name), self.dimensions)
        return fields[name]

    def eye_lens(self, u: Tensor) -> Tensor:
        """Half-ellipse profile of the eye opening at rest column u: 1 at the eye's middle, 0 beyond
        its corners.
        """
        offset = (u.abs() - self.eye_x) / self.eye_width
        return (1 - offset.square()).clamp(min=0).sqrt()

    def mouth_lens(self, u: Tensor) -> Tensor:
        """The same for the mouth."""
        return (1 - (u / self.mouth_width).square()).clamp(min=0).sqrt()

    def by_side(self, u: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return torch.where(u < 0, left, right)

    def knots(self, u: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rest heights and offsets of the eight knots at rest columns u, each broadcastable to u."""
        lens, lips = self.eye_lens(u), self.mouth_lens(u)
        slanted = self.eye_y + self.eye_slant * (u.abs() - self.eye_x).clamp(-0.3, 0.3)
        blink = self.by_side(u, self.blink_left, self.blink_right)
        brow_raise = self.by_side(u, self.brow_left, self.brow_right)
        near_brow = torch.exp(-((u.abs() - self.eye_x) / 0.30).square())
        arch = self.brow_arch * (1 - ((u.abs() - self.eye_x) / 0.25).square().clamp(max=1))
        brow = self.eye_y - self.brow_gap - arch
        brow_offset = -0.085 * brow_raise * near_brow * (1 - 0.25 * blink.clamp(min=0))
        height = self.eye_height * lens
        lift = self.smile * (0.16 * (u / self.mouth_width).square().clamp(max=1.4) - 0.035)
        near_mouth = torch.exp(-(u / (1.9 * self.mouth_width)).square().square())
        lift = lift * near_mouth
        line = self.mouth_y + self.mouth_curve * (u / self.mouth_width).square().clamp(max=1.4)
        gap = self.open * 0.34
        drop = 0.68 * gap * torch.exp(-(u / 0.75).square().square())
        rest = [
            brow - 0.30,
            brow,
            slanted - height,
            slanted + 0.85 * height,
            (self.eye_y + self.nose_y + 0.12) * torch.ones_like(u),
            line,
            line,
            torch.full_like(u, 0.98),
        ]
        offset = [
            torch.zeros_like(u),
            brow_offset,
            1.42 * height * blink,
            -0.43 * height * blink.clamp(min=0),
            torch.zeros_like(u),
            -0.22 * gap * lips - lift,
            0.78 * gap * lips - lift,
            drop,
        ]
        return rest, offset

    def _widening(self, u: Tensor, y: Tensor) -> Tensor:
        """Relative widening of the mouth's surroundings at posed height y."""
        amount = 0.20 * self.smile.clamp(min=-0.4) - 0.34 * self.pucker - 0.08 * self.open
        middle = self.mouth_y + 0.12 * self.open
        window = torch.exp(-((y - middle) / 0.24).square() - (u / 0.55).square())
        return amount * window

    def rest(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Posed face points to rest coordinates.

        Returns:
            u, v: rest coordinates. In the eye and mouth openings v is meaningless.
            eye, mouth: signed depth inside the opening, positive inside (head units).
        """
        return self.rest_with_knots(x, y)[:4]

    def rest_with_knots(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
        """`rest`, and the rest heights of the knots at u, which painting needs too."""
        u = x / (1 + self._widening(x, y))
        rest, offset = self.knots(u)
        posed = [r + o for r, o in zip(rest, offset, strict=True)]
        v = _through(y, posed, rest)
        eye = torch.minimum(y - posed[2], posed[3] - y)
        eye = torch.where(self.eye_lens(u) > 0, eye, torch.full_like(eye, -1.0))
        mouth = torch.minimum(y - posed[5], posed[6] - y)
        mouth = torch.where(self.mouth_lens(u) > 0, mouth, torch.full_like(mouth, -1.0))
        return u, v, eye, mouth, rest

    def posed(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Rest coordinates of skin to posed face points; the inverse of `rest` on skin."""
        rest, offset = self.knots(u)
        y = _through(v, rest, [r + o for r, o in zip(rest, offset, strict=True)])
        x = u
        for _ in range(4):
            x = u * (1 + self._widening(x, y))
        return x, y

    def gaze(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Shift of the iris on the eyeball, in head units."""
        return 0.45 * self.eye_width * self.gaze_x + 0 * u, 0.40 * self.eye_height * self.gaze_y + 0 * u


def _through(value: Tensor, origin: list[Tensor], target: list[Tensor]) -> Tensor:
    """The piecewise-linear function with values `target` at `origin`; beyond its ends it shifts by
    the end's offset.
    """
    result = value + (target[0] - origin[0])
    for k in range(len(origin) - 1):
        length = (origin[k + 1] - origin[k]).clamp(min=1e-4)
        along = target[k] + (value - origin[k]) * ((target[k + 1] - target[k]) / length)
        result = torch.where(value >= origin[k], along, result)
    return torch.where(value >= origin[-1], value + (target[-1] - origin[-1]), result)


#: How far the jaw's ellipsoid drops, and grows, when the mouth opens fully.
JAW_DROP = 0.5 * 0.68 * 0.34


def surface_depth(
    identity: Identity, x: Tensor, y: Tensor, drop: Tensor | float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth z of the face's front and its slopes dz/dx, dz/dy at face points (B, N) (cranium, jaw
    and muzzle).

    `drop` (B, 1) is how far the jaw's ellipsoid has dropped and grown with the open mouth.
    """
    width, jaw = per_pixel(identity.head_width, 2), per_pixel(identity.jaw_width, 2)
    length = per_pixel(identity.jaw_length, 2)

    def ellipsoid(cy, cz, rx, ry, rz):
        inside = (1 - (x / rx).square() - ((y - cy) / ry).square()).clamp(min=0.02)
        root = inside.sqrt()
        return cz + rz * root, -rz * x / rx.square() / root, -rz * (y - cy) / ry**2 / root

    zc, xc, yc = ellipsoid(-0.15, -0.10, width, 0.92, 0.88)
    zj, xj, yj = ellipsoid(0.34 + drop, 0.10, jaw, length + drop, 0.66)
    w = torch.sigmoid((zj - zc) / 0.06)
    z, z_x, z_y = w * zj + (1 - w) * zc, w * xj + (1 - w) * xc, w * yj + (1 - w) * yc

    (_, my, mz), (rx, ry, rz) = muzzle_shape(identity, 2)
    outside = ((x / rx).square() + ((y - my) / ry).square()).sqrt()
    zm, xm, ym = ellipsoid(my, mz, rx, ry, rz)
    w = torch.sigmoid((zm - MUZZLE_FALL * (outside - 1).clamp(min=0) - z) / 0.05)
    w = w * (outside < 1.3) * (per_pixel(identity.muzzle_depth, 2) > 0)
    return w * zm + (1 - w) * z, w * xm + (1 - w) * z_x, w * ym + (1 - w) * z_y


#: How fast a muzzle falls behind the face beside it, in head units per radius.
MUZZLE_FALL = 5.0


def muzzle_shape(identity: Identity, dimensions: int):
    """Middle and radii of the ellipsoid that is an animal's muzzle, in head units."""
    depth, broad = per_pixel(identity.muzzle_depth, dimensions), per_pixel(identity.mouth_width, dimensions)
    middle = (0.0, per_pixel(identity.mouth_y, dimensions) - 0.13, 0.58)
    return middle, (1.15 * broad + 0.06, 0.30 + 0 * broad, 0.24 + 0.30 * depth)


def landmarks(identity: Identity, motion: Motion) -> tuple[Tensor, Tensor]:
    """Exact keypoints and local affine parts.

    Returns:
        points: (B, K, 2) in [-1, 1] as (x, y), in the order of `LANDMARKS`.
        jacobians: (B, K, 2, 2): derivative of the picture position by face coordinates at rest,
            over `REFERENCE_SCALE` (FOMM, Eq. 4: the reference frame is the puppet's rest face seen
            from the front).
    """
    batch = len(identity)
    face = Face(identity, motion, 2)
    one = torch.ones(batch, 1, dtype=identity.eye_x.dtype, device=identity.eye_x.device)
    ex, ey, eh = face.eye_x, face.eye_y, face.eye_height
    brow_y = ey - face.brow_gap - face.brow_arch
    # Rest positions of the skin landmarks; the infinitesimal steps put each on its own side of an
    # opening.
    step = 2e-4
    u = torch.cat(
        [-ex, ex, -ex, ex, -ex, ex, -ex, ex, 0 * ex, -face.mouth_width, face.mouth_width, *[0 * ex] * 4], 1
    )
    v = torch.cat(
        [
            *[ey - eh - step] * 2,
            *[ey + 0.85 * eh + step] * 2,
            *[ey] * 2,
            *[brow_y] * 2,
            (ey + face.nose_y),
            *[face.mouth_y + face.mouth_curve] * 2,
            face.mouth_y - step,
            face.mouth_y + step,
            face.chin,
            (ey - face.brow_gap - 0.22),
        ],
        1,
    )
    x, y = face.posed(u, v)
    # Stretch of the skin beside each landmark, by differences on the skin's side of it.
    side = torch.ones_like(v)
    side[:, :2] = side[:, 11:12] = -1  # slices: a list of indices would be sent to a GPU each time
    h = 0.02
    x_v, y_v = face.posed(u, v + side * h)
    x_u, y_u = face.posed(u + h, v)
    local = torch.stack(
        [
            torch.stack([(x_u - x) / h, (x_v - x) / (side * h)], -1),
            torch.stack([(y_u - y) / h, (y_v - y) / (side * h)], -1),
        ],
        -2,
    )
    # The irises ride on the eyeball, not on the skin; lids, lips and corners move up and down with
    # the openings, and only their own vertical stretch is kept, so that a corner's kink does not
    # become a shear.
    gaze_x, gaze_y = face.gaze(x)
    iris = torch.zeros_like(x)
    iris[:, 4:6] = 1
    x = torch.where(iris > 0, u + gaze_x, x)
    y = torch.where(iris > 0, v + gaze_y, y)
    stretch = torch.diag_embed(torch.stack([local[..., 0, 0], local[..., 1, 1]], -1))
    stretch = torch.where(iris[..., None, None] > 0, torch.eye(2, device=x.device), stretch).clamp(0.35, 2.2)
    stretch = stretch * torch.eye(2, device=x.device)

    z, z_x, z_y = surface_depth(identity, x, y, JAW_DROP * face.open * face.chin_follows)
    nose = torch.zeros_like(z)
    nose[:, 8] = 1
    bare = z + nose * 0.20 * face.nose_size
    # Noses of other lengths and on muzzles: the ellipsoid's own depth, melted with the face as the
    # renderer does it.
    off = (0.07 + face.nose_long - 0.24) / face.nose_long
    tip = 0.74 + (1 - off.square()).clamp(min=0).sqrt() * (0.22 * face.nose_size + 0.02)
    tip = z + torch.sigmoid((tip - z) / face.nose_soft) * (tip - z)
    shaped = (face.muzzle_depth > 0) | (face.nose_long != 0.24)
    z = torch.where(shaped & (nose > 0), tip, bare)
    z_x, z_y = z_x * (1 - nose), z_y * (1 - nose)
    centre, scale, turn = head_pose(identity, motion)
    position = torch.stack([x, y, z], -1) @ turn[:, :2].transpose(1, 2)
    points = centre[:, None] + scale[:, None, None] * position
    slope = torch.stack([z_x, z_y], -1).clamp(-1.2, 1.2)
    tangent = turn[:, None, :2, :2] + turn[:, None, :2, 2:] * slope[..., None, :]
    jacobians = (scale / REFERENCE_SCALE)[:, None, None, None] * (tangent @ stretch)

    body_centre, body_scale = body_pose(identity, motion)
    collar = body_centre + body_scale[:, None] * torch.stack([0 * one[:, 0], identity.shoulder_y + 0.02], -1)
    collar_jacobian = (body_scale / REFERENCE_SCALE)[:, None, None] * torch.eye(2, device=x.device)
    points = torch.cat([points, collar[:, None]], 1)
    jacobians = torch.cat([jacobians, collar_jacobian[:, None]], 1)
    assert points.shape[1] == len(LANDMARKS)
    return points, jacobians
