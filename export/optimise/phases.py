"""Pixels by phase, the four parities of row and column, and pixels put together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def interleave(phases: Tensor) -> Tensor:
    """Phases (B, 4 C, H, W) to (B, C, 2 H, 2 W), as `pixel_shuffle` does.

    In two steps, each of which onnxruntime runs several times faster than the one step.
    """
    batch, channels, height, width = phases.shape
    lines = phases.reshape(batch * channels // 2, 2, height * width).transpose(1, 2)
    lines = lines.reshape(batch * channels // 4, 2, height, 2 * width).transpose(1, 2)
    return lines.reshape(batch, channels // 4, 2 * height, 2 * width)


def spreading(coarse: int, fine: int, align_corners: bool) -> Tensor:
    """Bilinear interpolation from `coarse` to `fine` places as a matrix (2, fine / 2, coarse) of
    float64, even places first.
    """
    line = torch.eye(coarse, dtype=torch.float64)[None]
    line = F.interpolate(line, size=fine, mode="linear", align_corners=align_corners)[0].t()
    return torch.stack([line[0::2], line[1::2]]).contiguous()


def spread(maps: Tensor, matrix: Tensor) -> Tensor:
    """A map (h, w) at a finer size, by phase, (2, 2, H / 2, W / 2), with the matrix of `spreading`."""
    return (matrix @ maps)[:, None] @ matrix.transpose(1, 2)[None]
