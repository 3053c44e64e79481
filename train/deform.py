"""Random deformations with known derivatives, for equivariance (FOMM, Eq. 9-13)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import in_float32, inverse_2x2, make_grid, warp
from livepuppet.train.device import send


def _normal(rng: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    # Drawn on the CPU, so that a seed means the same on every device.
    return _numbers(torch.randn(*shape, generator=rng), like)


def _numbers(drawn: Tensor, like: Tensor) -> Tensor:
    return send(drawn, like.device).to(like.dtype)


def _between(low: float, high: float, numbers: Tensor) -> Tensor:
    return low + (high - low) * numbers


class Deformation:
    """A batch of random affine plus thin-plate-spline maps T of the plane.

    A deformed image shows at z what the original shows at T(z).

    Args:
        affine: (B, 2, 3).
        control: (P, 2) control points; None for a purely affine map.
        weights: (B, P, 2) of the splines.
    """

    def __init__(self, affine: Tensor, control: Tensor | None = None, weights: Tensor | None = None):
        self.affine, self.control, self.weights = affine, control, weights

    def rows(self, part: slice) -> Deformation:
        """The maps of some rows of the batch."""
        weights = None if self.weights is None else self.weights[part]
        return Deformation(self.affine[part], self.control, weights)

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
        """As the paper draws them: Gaussian noise on the identity's six numbers, and on the control
        points' weights.
        """
        eye = torch.eye(2, 3, dtype=like.dtype, device=like.device)
        matrix = eye + affine * _normal(rng, like, batch, 2, 3)
        control = make_grid(points, points, like.device, like.dtype).reshape(-1, 2)
        return cls(matrix, control, spline * _normal(rng, like, batch, points * points, 2))

    @classmethod
    def similarity(
        cls, batch: int, rng: torch.Generator, like: Tensor, angle: float, log_scale: float, shift: float
    ) -> Deformation:
        """Random rotation, scale and translation, uniform up to the given amounts (radians, natural
        log, image units).
        """
        return cls(
            _similarity(send(torch.rand(batch, 4, generator=rng), like.device), angle, log_scale, shift)
        )

    @classmethod
    def framing(
        cls,
        batch: int,
        rng: torch.Generator,
        like: Tensor,
        angle: float = 0.3,
        log_scale: float = 0.25,
        shift: float = 0.15,
        bad: float = 0.25,
    ) -> Deformation:
        """`similarity`, but a share `bad` is framed as badly as people sit in front of webcams.

        One third each: far away (the face half as large) and off-centre; too close (half as large
        again, cut by the edges); and off-centre by up to half of the image. Use `inside` to leave
        out keypoints that are cut off, and give `warp_image` something to put behind.
        """
        numbers = torch.rand(batch, 6, generator=rng)
        kind = torch.where(numbers[:, 4] < bad, (3 * numbers[:, 5]).long() + 1, 0)
        sent = _numbers(torch.cat([numbers[:, :4], torch.eye(4)[kind]], 1), like)
        usual, far, near, aside = sent[:, 4:].split(1, 1)
        # The map's scale above 1 makes faces smaller.
        kinds = [
            (usual, _similarity(sent[:, :4], angle, log_scale, shift)),
            (far, _similarity(sent[:, :4], angle, 0.25, 0.8, middle=0.45)),
            (near, _similarity(sent[:, :4], angle, 0.15, 0.35, middle=-0.3)),
            (aside, _similarity(sent[:, :4], angle, 0.15, 0.5)),
        ]
        return cls(torch.stack([one[..., None] * affine for one, affine in kinds]).sum(0))

    @in_float32
    def points(self, z: Tensor) -> Tensor:
        """T(z) for z (B, N, 2)."""
        result = z @ self.affine[:, :, :2].transpose(1, 2) + self.affine[:, None, :, 2]
        if self.control is not None and self.weights is not None:
            square = (z[:, :, None] - self.control).square().sum(-1)
            result = result + (square * torch.log(square + 1e-6)) @ self.weights
        return result

    @in_float32
    def jacobians(self, z: Tensor) -> Tensor:
        """dT/dz at z (B, N, 2): (B, N, 2, 2)."""
        result = self.affine[:, None, :, :2].expand(-1, z.shape[1], -1, -1)
        if self.control is not None and self.weights is not None:
            offset = z[:, :, None] - self.control
            square = offset.square().sum(-1)
            slope = torch.log(square + 1e-6) + square / (square + 1e-6)
            gradient = 2 * offset * slope[..., None]
            result = result + torch.einsum("bpi,bnpj->bnij", self.weights, gradient)
        return result

    @in_float32
    def sources(self, points: Tensor) -> Tensor:
        """Where points (B, N, 2) of the original lie in the deformed image: the inverse of T,
        nearly for splines.
        """
        back = inverse_2x2(self.affine[:, :, :2])

        def linear(p: Tensor) -> Tensor:
            return (p - self.affine[:, None, :, 2]) @ back.transpose(1, 2)

        z = linear(points)
        if self.control is not None:
            for _ in range(3):
                z = z + linear(points) - linear(self.points(z))
        return z

    def inside(self, points: Tensor, margin: float = 0.03) -> Tensor:
        """1 where a point (B, N, 2) of the original is still seen in the deformed image, else 0;
        (B, N, 1).
        """
        return (self.sources(points).abs().amax(-1, keepdim=True) < 1 + margin).to(points)

    def warp_image(self, image: Tensor, behind: Tensor | None = None) -> Tensor:
        """The deformed image, (B, C, H, W).

        Args:
            image: the originals.
            behind: what is seen beyond their edges, as large as they are; None mirrors them, as in
                the paper.
        """
        batch, _, height, width = image.shape
        # The map is smooth, so every fourth point is enough; the splines' logarithms are expensive.
        rows, columns = height // 4 + 1, width // 4 + 1
        grid = make_grid(rows, columns, image.device, image.dtype).reshape(1, -1, 2).expand(batch, -1, -1)
        coarse = self.points(grid).view(batch, rows, columns, 2).permute(0, 3, 1, 2)
        fine = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
        if behind is None:
            return warp(image, fine.permute(0, 2, 3, 1), "reflection")
        beyond = (fine.abs().amax(1, keepdim=True) - 1) * (min(height, width) / 2)
        return torch.lerp(warp(image, fine.permute(0, 2, 3, 1), "border"), behind, beyond.clamp(0, 1))


def _similarity(numbers: Tensor, angle: float, log_scale: float, shift: float, middle: float = 0.0) -> Tensor:
    """Turns, sizes and shifts (B, 2, 3) from numbers (B, 4) in [0, 1)."""
    a = _between(-angle, angle, numbers[:, 0])
    s = _between(middle - log_scale, middle + log_scale, numbers[:, 1]).exp()
    cos, sin = s * a.cos(), s * a.sin()
    t = _between(-shift, shift, numbers[:, 2:4])
    return torch.stack([torch.stack([cos, -sin, t[:, 0]], -1), torch.stack([sin, cos, t[:, 1]], -1)], 1)


def blurred_others(image: Tensor) -> Tensor:
    """For each image (B, 3, S, S) a blurred other one of the batch, to show beyond its edges."""
    side = image.shape[-1]
    small = F.adaptive_avg_pool2d(image, 6).roll(1, 0)
    return F.interpolate(small, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def mirror(
    image: Tensor, points: Tensor, jacobians: Tensor, partner: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Flip images left to right with their keypoints; `partner[k]` is the keypoint that k becomes."""
    flip = torch.linspace(-1.0, 1.0, 2, dtype=points.dtype, device=points.device)
    sign = flip[:, None] * flip[None, :]
    order = send(torch.tensor(partner), points.device)
    return (
        image.flip(-1),
        (points * flip).index_select(1, order),
        (jacobians * sign).index_select(1, order),
    )
