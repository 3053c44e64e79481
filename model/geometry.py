"""Grids, 2x2 matrices, heat-maps and warps, shared by all networks.

Coordinates are (x, y) in [-1, 1] with -1 and 1 at the centres of the outermost pixels
(`align_corners=True`), everywhere. The published FOMM weights were trained with that convention
(PyTorch 1.0 knew no other).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

#: Smallest absolute determinant that `inverse_2x2` divides by.
MINIMUM_DETERMINANT = 1e-6


def in_float32(function: Function) -> Function:
    """Decorator: run `function` in float32 inside `torch.autocast`.

    In 16 bits a position is off by up to a pixel of 256. Without autocast nothing changes, so
    exported graphs are the same.
    """

    @functools.wraps(function)
    def exact(*arguments, **settings):
        kind = next(value.device.type for value in arguments if isinstance(value, Tensor))
        if not torch.is_autocast_enabled(kind):
            return function(*arguments, **settings)
        with torch.autocast(kind, enabled=False):
            return function(*(_exact(value) for value in arguments), **settings)

    return cast(Function, exact)


def _exact(value):
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def make_grid(height: int, width: int, device=None, dtype=torch.float32) -> Tensor:
    """The identity sampling grid, (height, width, 2) as (x, y)."""
    x = torch.linspace(-1.0, 1.0, width, device=device, dtype=dtype)
    y = torch.linspace(-1.0, 1.0, height, device=device, dtype=dtype)
    return torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)], dim=-1)


def inverse_2x2(matrices: Tensor) -> Tensor:
    """Inverse of (..., 2, 2) matrices in closed form.

    `torch.linalg.inv` exports badly to ONNX and stalls a GPU stream. A determinant nearer to zero
    than `MINIMUM_DETERMINANT` is replaced by that value with its sign kept, so the result is always
    finite.
    """
    a, b, c, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 0], matrices[..., 1, 1]
    determinant = a * d - b * c
    sign = torch.where(determinant < 0, -1.0, 1.0).to(matrices.dtype)
    determinant = sign * determinant.abs().clamp_min(MINIMUM_DETERMINANT)
    adjugate = torch.stack([torch.stack([d, -b], dim=-1), torch.stack([-c, a], dim=-1)], dim=-2)
    return adjugate / determinant[..., None, None]


def gaussian_heatmaps(points: Tensor, grid: Tensor, variance: float | Tensor) -> Tensor:
    """Gaussians (B, K, H, W) of peak 1 around points (B, K, 2) on a grid (H, W, 2) of `make_grid`
    (FOMM, Eq. 6).

    A product of a row and a column: H + W exponentials per keypoint instead of H * W.

    Args:
        variance: in squared units of [-1, 1]; of each keypoint as (K, 1).
    """
    across = torch.exp(-0.5 / variance * (grid[0, :, 0] - points[:, :, :1]).square())
    down = torch.exp(-0.5 / variance * (grid[:, 0, 1] - points[:, :, 1:]).square())
    return down[:, :, :, None] * across[:, :, None, :]


def covariance_heatmaps(points: Tensor, covariances: Tensor, grid: Tensor) -> Tensor:
    """Gaussians (B, K, H, W) of peak 1 with a shape of their own (Monkey-Net, Eq. 3, without its
    normalising constant).

    Args:
        points: (B, K, 2).
        covariances: (B, K, 2, 2), symmetric and positive definite, in squared units of [-1, 1].
        grid: (H, W, 2) of `make_grid`.
    """
    inverse = inverse_2x2(covariances)[:, :, None, None]
    across = grid[0, :, 0] - points[:, :, :1]
    down = grid[:, 0, 1] - points[:, :, 1:]
    x, y = across[:, :, None, :], down[:, :, :, None]
    form = inverse[..., 0, 0] * x.square() + inverse[..., 1, 1] * y.square()
    form = form + (inverse[..., 0, 1] + inverse[..., 1, 0]) * (x * y)
    return torch.exp(-0.5 * form)


#: Standard scores (z) of a heat-map's peak that mean confidence 0 and 1. In the default detector,
#: noise, walls and cloth peak at 3.5 (at most 4) on average over the keypoints, real faces at 4.5
#: to 5.1.
CONFIDENCE_Z_RANGE = (3.0, 5.4)


def peak_confidence(logits: Tensor) -> Tensor:
    """Confidence (B, K) in [0, 1] from the logits of heat-maps (B, K, H, W): how far their peaks
    stand out.

    The peak's standard score within its own map, mapped from `CONFIDENCE_Z_RANGE` to [0, 1]. The
    softmax itself says little: at these temperatures a wall's heat-maps are as peaky as a face's.
    The score does not depend on the logits' offset and scale, which training leaves free, nor on
    the temperature.
    """
    flat = logits.flatten(2).float()
    mean = flat.mean(-1)
    deviation = (flat - mean[..., None]).square().mean(-1).sqrt()
    # A constant map has no peak; the bound keeps the division finite.
    score = (flat.amax(-1) - mean) / deviation.clamp_min(1e-6)
    low, high = CONFIDENCE_Z_RANGE
    return ((score - low) / (high - low)).clamp(0.0, 1.0)


#: Logits so far below the largest of a map are nothing beside it, in 32 bits too.
NEGLIGIBLE = 60.0


def map_softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis, without denormal numbers: processors take ten times as long with
    these as with others.
    """
    return torch.maximum(logits, logits.amax(-1, keepdim=True) - NEGLIGIBLE).softmax(-1)


def soft_argmax(heatmaps: Tensor, grid: Tensor) -> Tensor:
    """Expected position (B, K, 2) under heat-maps (B, K, H, W) that sum to one, on a grid (H, W,
    2).
    """
    return (heatmaps[..., None] * grid[None, None]).sum(dim=(2, 3))


def soft_covariance(heatmaps: Tensor, points: Tensor, grid: Tensor, smallest: float = 0.0) -> Tensor:
    """Covariances (B, K, 2, 2) of heat-maps (B, K, H, W) that sum to one, around their means
    (Monkey-Net, Eq. 2).

    Args:
        points: (B, K, 2) of `soft_argmax`.
        smallest: least eigenvalue. If it is smaller, the difference is added to the diagonal, so
            that a heat-map of a single pixel becomes a small disc with a finite inverse. (The
            published code scales the whole matrix, which turns points into needles.)
    """
    x = grid[..., 0] - points[:, :, 0, None, None]
    y = grid[..., 1] - points[:, :, 1, None, None]
    xx, xy, yy = ((heatmaps * product).sum((2, 3)) for product in (x * x, x * y, y * y))
    # A perfectly round heat-map would make the root's slope infinite.
    least = (xx + yy) / 2 - ((xx - yy).square() / 4 + xy.square() + 1e-12).sqrt()
    more = (smallest - least).clamp_min(0)
    return torch.stack([torch.stack([xx + more, xy], -1), torch.stack([xy, yy + more], -1)], -2)


def resize_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """A sampling grid (B, h, w, 2) at another size (B, height, width, 2); the identity stays the
    identity.
    """
    if grid.shape[1:3] == (height, width):
        return grid
    planes = grid.permute(0, 3, 1, 2)
    return F.interpolate(planes, size=(height, width), mode="bilinear", align_corners=True).permute(
        0, 2, 3, 1
    )


def warp(image: Tensor, grid: Tensor, padding: str = "zeros") -> Tensor:
    """Sample (B, C, H, W) bilinearly at grid (B, H', W', 2). The identity grid returns the image
    exactly.
    """
    return F.grid_sample(image, grid, mode="bilinear", padding_mode=padding, align_corners=True)
