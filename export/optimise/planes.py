"""Motions as planes: x and y apart, each a row and a column added."""

from __future__ import annotations

import torch
from torch import Tensor


def affine_planes(matrices: Tensor, shift: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (B, K, h, w) of the maps z -> A z + b on a grid (h, w, 2), from their six numbers
    each.

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


def blended(logits: Tensor, x: Tensor, y: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax over candidates, and the motions' mean under it.

    Args:
        logits: (B, K + 1, h, w), that of standing still first.
        x, y: of the K motions, (B, K, h, w).
        grid: (h, w, 2).

    Returns:
        Weights (B, K + 1, h, w), and the mean's x and y (B, h, w).
    """
    # Divided once at the end, instead of in each plane.
    weights = torch.exp(logits - logits.amax(1, keepdim=True))
    total = weights.sum(1, keepdim=True)
    still, moving = weights[:, 0], weights[:, 1:]
    flow_x = ((moving * x).sum(1) + still * grid[..., 0]) / total[:, 0]
    flow_y = ((moving * y).sum(1) + still * grid[..., 1]) / total[:, 0]
    return weights / total, flow_x, flow_y


#: Bound of the logits where no maximum is subtracted. e^60 times a few hundred planes is still far
#: below float32's largest number, and what is e^-60 of something is nothing.
LIMIT = 60.0


def blended_maps(logits: Tensor, numbers: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """`blended`, of maps that are sums of a few planes: their numbers are summed under the weights,
    by one matrix product.

    Logits beyond `LIMIT` count as that.

    Args:
        logits: (K + 1, h, w), that of standing still last.
        numbers: (2, K, P): x and y of each map as sums of P planes.
        table: the planes (P, h * w); the first two are those of x and y on the grid.

    Returns:
        The mean's x and y (h, w).
    """
    planes, (height, width) = len(table), logits.shape[1:]
    weights = torch.exp(logits.clamp(-LIMIT, LIMIT)).flatten(1)
    still = torch.eye(2, planes).to(numbers)[:, None]
    sums = torch.cat([numbers, still], 1).transpose(1, 2) @ weights
    flow = (sums * table).sum(1) / weights.sum(0)
    x, y = flow.reshape(2, height, width)
    return x, y
