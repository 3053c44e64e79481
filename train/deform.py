"""Random deformations with known derivatives, for equivariance (FOMM, Eq. 9-13), and photometric augmentation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import in_float32, make_grid, warp


def _normal(rng: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    # Drawn on the CPU, so that a seed means the same on every device.
    return torch.randn(*shape, generator=rng).to(like)


def _uniform(rng: torch.Generator, like: Tensor, low: float, high: float, *shape: int) -> Tensor:
    return (low + (high - low) * torch.rand(*shape, generator=rng)).to(like)


class Deformation:
    """A batch of random affine plus thin-plate-spline maps T of the plane.

    A deformed picture shows at z what the original shows at T(z).

    Args:
        affine: (B, 2, 3).
        control: (P, 2) control points; None for a purely affine map.
        weights: (B, P, 2) of the splines.
    """

    def __init__(self, affine: Tensor, control: Tensor | None = None, weights: Tensor | None = None):
        self.affine, self.control, self.weights = affine, control, weights

    @classmethod
    def random(
        cls,
        batch: int,
        rng: torch.Generator,
        like: Tensor,
        affine: float = 0.05,
        spline: float = 0.005,
        points: int = 5,
    ) -> Deformation:
        """As the paper draws them: Gaussian noise on the identity's six numbers, and on the control points' weights."""
        eye = torch.eye(2, 3).to(like)
        matrix = eye + affine * _normal(rng, like, batch, 2, 3)
        control = make_grid(points, points).reshape(-1, 2).to(like)
        return cls(matrix, control, spline * _normal(rng, like, batch, points * points, 2))

    @classmethod
    def similarity(
        cls, batch: int, rng: torch.Generator, like: Tensor, angle: float, log_scale: float, shift: float
    ) -> Deformation:
        """Random turns, sizes and shifts, uniform up to the given amounts (radians, natural log, picture units)."""
        a = _uniform(rng, like, -angle, angle, batch)
        s = _uniform(rng, like, -log_scale, log_scale, batch).exp()
        t = _uniform(rng, like, -shift, shift, batch, 2)
        rows = torch.stack(
            [torch.stack([s * a.cos(), -s * a.sin()], -1), torch.stack([s * a.sin(), s * a.cos()], -1)], 1
        )
        return cls(torch.cat([rows, t[..., None]], -1))

    @in_float32
    def points(self, z: Tensor) -> Tensor:
        """T(z) for z (B, N, 2)."""
        result = z @ self.affine[:, :, :2].transpose(1, 2) + self.affine[:, None, :, 2]
        if self.control is not None:
            square = (z[:, :, None] - self.control).square().sum(-1)
            result = result + (square * torch.log(square + 1e-6)) @ self.weights
        return result

    @in_float32
    def jacobians(self, z: Tensor) -> Tensor:
        """dT/dz at z (B, N, 2): (B, N, 2, 2)."""
        result = self.affine[:, None, :, :2].expand(-1, z.shape[1], -1, -1)
        if self.control is not None:
            offset = z[:, :, None] - self.control
            square = offset.square().sum(-1)
            slope = torch.log(square + 1e-6) + square / (square + 1e-6)
            gradient = 2 * offset * slope[..., None]
            result = result + torch.einsum("bpi,bnpj->bnij", self.weights, gradient)
        return result

    def picture(self, picture: Tensor) -> Tensor:
        """The deformed picture, (B, C, H, W); beyond the edge the picture is mirrored, as in the paper."""
        batch, _, height, width = picture.shape
        # The map is smooth: every fourth point is enough, and the splines' logarithms are what costs.
        rows, columns = height // 4 + 1, width // 4 + 1
        grid = make_grid(rows, columns).to(picture).reshape(1, -1, 2).expand(batch, -1, -1)
        coarse = self.points(grid).view(batch, rows, columns, 2).permute(0, 3, 1, 2)
        fine = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
        return warp(picture, fine.permute(0, 2, 3, 1), "reflection")


def mirror(
    picture: Tensor, points: Tensor, jacobians: Tensor, partner: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Flip pictures left to right with their keypoints; `partner[k]` is the keypoint that k becomes."""
    flip = torch.tensor([-1.0, 1.0]).to(points)
    sign = flip[:, None] * flip[None, :]
    return picture.flip(-1), (points * flip)[:, partner], (jacobians * sign)[:, partner]


def webcam(picture: Tensor, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """What a webcam does to a picture (B, 3, H, W) in [0, 1]: exposure, gamma, tint, gray, blur, noise, a hand before it.

    Args:
        picture: the pictures.
        rng: a CPU generator.
        strength: 0 nothing, 1 as much as bad webcams do.
    """
    batch, _, height, width = picture.shape

    def chance(probability: float) -> Tensor:
        return (torch.rand(batch, 1, 1, 1, generator=rng) < probability).to(picture)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return _uniform(rng, picture, low, high, batch, channels, 1, 1)

    s = strength
    gray = picture.mean(1, keepdim=True)
    picture = torch.lerp(picture, gray.expand_as(picture), (chance(0.15) * s).expand_as(picture))
    picture = torch.lerp(gray.expand_as(picture), picture, 1 + s * uniform(-0.4, 0.4).expand_as(picture))
    picture = picture.clamp(1e-4, 1) ** torch.exp(s * uniform(-0.45, 0.45))
    picture = (picture - 0.5) * (1 + s * uniform(-0.35, 0.25)) + 0.5 + s * uniform(-0.12, 0.12)
    picture = picture * (1 + s * uniform(-0.12, 0.12, 3))
    # A hand, a microphone or a lock of hair: soft blobs of one colour somewhere.
    grid = make_grid(height, width).to(picture)[None]
    centre, radius = uniform(-1.0, 1.0, 2), uniform(0.06, 0.3, 2)
    distance = ((grid[..., 0] - centre[:, 0]) / radius[:, 0]).square() + (
        (grid[..., 1] - centre[:, 1]) / radius[:, 1]
    ).square()
    blob = torch.sigmoid((1 - distance[:, None]) * 8) * chance(0.25 * s)
    picture = torch.lerp(picture, uniform(0, 1, 3).expand_as(picture), blob.expand_as(picture))
    blurred = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
    picture = torch.lerp(picture, blurred, (chance(0.5) * uniform(0, 1) * s).expand_as(picture))
    noise = torch.randn(batch, 3, height, width, generator=rng).to(picture)
    return (picture + 0.07 * s * uniform(0, 1).square() * noise).clamp(0, 1)
