"""Motions as planes: x and y apart, each a row and a column added."""

from __future__ import annotations

import torch
from torch import Tensor


def affine_planes(matrices: Tensor, shift: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (B, K, h, w) of the maps z -> A z + b on a grid (h, w, 2), from their six numbers each.

    Args:
        matrices, shift: A (B, K, 2, 2) and b (B, K, 2).
    """
    across, down = grid[0, :, 0], grid[:, 0, 1]
    x, y = (
        (matrices[:, :, i, :1] * across + shift[:, :, i : i + 1])[:, :, None, :]
        + (matrices[:, :, i, 1:] * down)[:, :, :, None]
        for i in (0, 1)
    )
    return x, y


def blended(
    logits: Tensor, x: Tensor, y: Tensor, grid: Tensor, still_first: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax over candidates, and the motions' mean under it.

    Args:
        logits: (B, K + 1, h, w), that of standing still first or last.
        x, y: of the K motions, (B, K, h, w).
        grid: (h, w, 2).

    Returns:
        Weights (B, K + 1, h, w), and the mean's x and y (B, h, w).
    """
    # Divided once at the end, instead of in each plane.
    weights = torch.exp(logits - logits.amax(1, keepdim=True))
    total = weights.sum(1, keepdim=True)
    count = x.shape[1]
    moving, still = (
        (weights[:, 1:], weights[:, 0]) if still_first else (weights[:, :count], weights[:, count])
    )
    flow_x = ((moving * x).sum(1) + still * grid[..., 0]) / total[:, 0]
    flow_y = ((moving * y).sum(1) + still * grid[..., 1]) / total[:, 0]
    return weights / total, flow_x, flow_y
