"""Where a fresh network starts from."""

from __future__ import annotations

import torch
from torch import nn

from livepuppet.train.data.clips import ClipSet

#: Pairs whose mean colour is taken.
LOOKED_AT = 64

#: Bounds of the mean: beyond them the sigmoid's slope is too small to learn from.
DARKEST, BRIGHTEST = 0.05, 0.95


@torch.no_grad()
def paint_mean_colour(model: nn.Module, data: ClipSet) -> None:
    """Have a fresh generator paint the mean colour of the data instead of gray.

    A generator ends in a sigmoid, so untrained it paints gray. Where nearly all of a picture is one dark or bright colour
    its first lesson is to paint that, and it learns it by driving its last features up wherever nothing is; rectified,
    they are zero on the things themselves, which stay gray for hundreds of steps. With the mean colour in the last bias
    that lesson is learned before the first step.

    Args:
        model: whose `generator.final` is the convolution before its sigmoid; others are left as they are.
        data: clips of the model's size.
    """
    final = getattr(getattr(model, "generator", None), "final", None)
    if not isinstance(final, nn.Conv2d) or final.out_channels != 3 or final.bias is None:
        return
    source, _ = data.load(data.draw(LOOKED_AT, torch.Generator().manual_seed(0)))
    mean = source.mean((0, 2, 3)).clamp(DARKEST, BRIGHTEST)
    final.bias.copy_(torch.logit(mean))
