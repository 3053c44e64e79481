"""What pictures of puppets are drawn with: rays, ellipsoids, anti-aliased layers and the box that a
head fills.

A head fills a third of most pictures, so what belongs to the head is drawn on a canvas of its own,
cut out around it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.train.puppets.identities import Identity, Motion
from livepuppet.train.puppets.rig import head_pose, per_pixel


def mix(below: Tensor, above: Tensor, alpha: Tensor) -> Tensor:
    """Lay a colour (B, 3, ...) over another with coverage (B, H, W)."""
    return torch.lerp(below, above.expand_as(below), alpha.expand(-1, *below.shape[2:])[:, None])


def sample(texture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A mirrored texture (B, C, h, w) at (x, y) (B, H, W)."""
    return F.grid_sample(
        texture, torch.stack([x, y], -1), mode="bilinear", padding_mode="reflection", align_corners=True
    )


def normal_at(point, middle, radii) -> list[Tensor]:
    """Outward direction, not of unit length, of an ellipsoid at a point of its surface."""
    return [(p - m) / (r * r) for p, m, r in zip(point, middle, radii, strict=True)]


class Rays:
    """Rays through a grid of picture points, in the head's frame.

    Args:
        identity, motion: B rows.
        grid: (B, H, W, 2) or (1, H, W, 2) picture points.
        step: distance of two pixels, in picture units.
    """

    def __init__(self, identity: Identity, motion: Motion, grid: Tensor, step: float):
        centre, scale, turn = head_pose(identity, motion)
        qx = (grid[..., 0] - per_pixel(centre[:, 0], 3)) / per_pixel(scale, 3)
        qy = (grid[..., 1] - per_pixel(centre[:, 1], 3)) / per_pixel(scale, 3)
        t = [[per_pixel(turn[:, i, j], 3) for j in range(3)] for i in range(3)]
        self.origin = [t[0][k] * qx + t[1][k] * qy for k in range(3)]
        self.direction = [t[2][k] for k in range(3)]
        # One pixel in head units, for anti-aliasing.
        self.pixel = per_pixel(step / scale, 3)

    def at(self, t: Tensor) -> list[Tensor]:
        return [o + d * t for o, d in zip(self.origin, self.direction, strict=True)]

    def ellipsoid(self, middle, radii) -> tuple[Tensor, Tensor, Tensor]:
        """Front hit of an ellipsoid: ray parameter, coverage in [0, 1] and how far outside the ray
        passes.

        A ray that misses reports its nearest approach, so that values stay smooth across the
        silhouette.
        """
        a = b = c = torch.zeros(())
        for o, d, m, r in zip(self.origin, self.direction, middle, radii, strict=True):
            inverse = 1.0 / (r * r)
            a = a + d * d * inverse
            b = b + (o - m) * d * inverse
            c = c + (o - m).square() * inverse
        nearest = (c - b * b / a).clamp(min=1e-6).sqrt()
        root = ((1 - nearest.square()).clamp(min=0) / a).sqrt()
        return root - b / a, self.coverage(nearest, radii), nearest

    def coverage(self, nearest: Tensor, radii) -> Tensor:
        """Anti-aliased coverage of an ellipsoid whose surface the ray passes at `nearest`."""
        size = (radii[0] + radii[1]) / 2
        return (0.5 + (1 - nearest) * size / self.pixel).clamp(0, 1)


class Canvas:
    """Layers laid over one another, with what each pixel shows; see `renderer.Rendering` for the
    fields.
    """

    def __init__(self, picture: Tensor, surface: Tensor, layer: Tensor):
        self.picture, self.surface, self.layer = picture, surface, layer

    def put(self, paint: Tensor, coverage: Tensor, points, kind: int) -> None:
        """Lay paint (B, 3, ...) over the canvas; its points become those of the surface where it
        covers.
        """
        self.picture = mix(self.picture, paint, coverage)
        over = coverage > 0.5
        points = torch.stack([p.expand(self.layer.shape) for p in points], 1)
        self.surface = torch.where(over[:, None], points, self.surface)
        self.layer = torch.where(over, kind, self.layer)


class Box:
    """A box of pixels, of one size but another place in each picture.

    Args:
        left, top: (B,) int64.
        height, width: in pixels.
        size: side of the pictures.
    """

    def __init__(self, left: Tensor, top: Tensor, height: int, width: int, size: int):
        self.height, self.width, self.size = height, width, size
        rows = top[:, None] + torch.arange(height, device=top.device)
        columns = left[:, None] + torch.arange(width, device=left.device)
        self.index = (rows[:, :, None] * size + columns[:, None, :]).flatten(1)

    def cut(self, planes: Tensor) -> Tensor:
        """(B or 1, C, S, S) to the boxes (B, C, h, w)."""
        batch, channels = len(self.index), planes.shape[1]
        flat = planes.flatten(2).expand(batch, -1, -1)
        return flat.gather(2, self.index[:, None].expand(-1, channels, -1)).view(
            batch, channels, self.height, self.width
        )

    def paste(self, planes: Tensor, boxes: Tensor) -> Tensor:
        """Put boxes (B, C, h, w) back into planes (B, C, S, S), which may be overwritten."""
        index = self.index[:, None].expand(-1, planes.shape[1], -1)
        return planes.flatten(2).scatter(2, index, boxes.flatten(2)).view(planes.shape)


def bounding_box(bounds: list[list[float]], size: int, device) -> Box:
    """The boxes of one size that hold the given bounds.

    Args:
        bounds: per picture left, right, top, bottom in pixels, not yet cut to the picture.
        size: side of the pictures.
    """
    sides = [[min(max(round(value), 0), size - 1) for value in row] for row in bounds]

    def length(low: int, high: int) -> int:
        longest = max(row[high] - row[low] + 1 for row in sides)
        return min(size, -(-longest // 8) * 8)

    width, height = length(0, 1), length(2, 3)
    left = torch.tensor([min(row[0], size - width) for row in sides]).to(device, non_blocking=True)
    top = torch.tensor([min(row[2], size - height) for row in sides]).to(device, non_blocking=True)
    return Box(left, top, height, width, size)
