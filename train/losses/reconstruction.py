"""Losses. Images are (B, 3, H, W) RGB in [0, 1]; every function returns a scalar."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def weighted_mean(value: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of `value`, weighted by a non-negative map that broadcasts to it."""
    if weight is None:
        return value.mean()
    return (value * weight).sum() / weight.expand_as(value).sum().clamp_min(1e-6)


def downsample(image: Tensor, factor: int) -> Tensor:
    """Mean over squares of `factor` pixels. On a CPU several times faster than `avg_pool2d` for few
    channels.
    """
    batch, channels, height, width = image.shape
    rows = image.reshape(batch, channels, height // factor, factor, width).mean(3)
    return rows.reshape(batch, channels, height // factor, width // factor, factor).mean(4)


def pyramid_l1(prediction: Tensor, target: Tensor, levels: int = 4, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference over an average-pooling pyramid."""
    total = prediction.new_zeros(())
    for level in range(levels):
        if level:
            prediction, target = downsample(prediction, 2), downsample(target, 2)
            weight = None if weight is None else downsample(weight, 2)
        total = total + weighted_mean((prediction - target).abs(), weight)
    return total / levels


def gradient_loss(
    prediction: Tensor, target: Tensor, levels: int = 3, weight: Tensor | None = None
) -> Tensor:
    """Mean absolute difference of horizontal and vertical differences over a pyramid: edges where
    they belong.
    """
    total = prediction.new_zeros(())
    for level in range(levels):
        if level:
            prediction, target = downsample(prediction, 2), downsample(target, 2)
            weight = None if weight is None else downsample(weight, 2)
        error = prediction - target
        across = weighted_mean(error.diff(dim=-1).abs(), None if weight is None else weight[..., 1:])
        down = weighted_mean(error.diff(dim=-2).abs(), None if weight is None else weight[..., 1:, :])
        total = total + across + down
    return total / levels


def ssim_loss(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - SSIM of the gray images with a 7 x 7 box window (Wang et al., 2004)."""
    prediction, target = prediction.mean(1, keepdim=True), target.mean(1, keepdim=True)

    def blur(x):
        return F.avg_pool2d(F.avg_pool2d(x, (7, 1), 1), (1, 7), 1)

    mean_p, mean_t = blur(prediction), blur(target)
    var_p = blur(prediction.square()) - mean_p.square()
    var_t = blur(target.square()) - mean_t.square()
    both = blur(prediction * target) - mean_p * mean_t
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_p * mean_t + c1) * (2 * both + c2)) / (
        (mean_p.square() + mean_t.square() + c1) * (var_p + var_t + c2)
    )
    return weighted_mean(1 - ssim, None if weight is None else weight[..., 3:-3, 3:-3])
