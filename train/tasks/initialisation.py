"""Initial weights that depend on the data."""

from __future__ import annotations

import torch
from torch import nn

from livepuppet.train.data.clips import ClipSet

#: Pairs over which the mean is taken.
PAIRS = 64

#: Bounds of the mean: beyond them the sigmoid's slope is too small to learn from.
DARKEST, BRIGHTEST = 0.05, 0.95


@torch.no_grad()
def start_from_mean_colour(model: nn.Module, data: ClipSet) -> None:
    """Set a fresh generator's output bias so that it starts from the data's mean colour instead of
    gray.

    A generator ends in a sigmoid, so untrained it outputs gray. Where nearly all of an image has
    one dark or bright colour, it first learns that colour by driving its last features up in the
    background; rectified, these are zero on the objects, which stay gray for hundreds of steps.
    With the mean colour in the bias nothing of this has to be learned.

    Args:
        model: whose `generator.final` is the convolution before its sigmoid; other models are left
            unchanged.
        data: clips of the model's size.
    """
    final = getattr(getattr(model, "generator", None), "final", None)
    if not isinstance(final, nn.Conv2d) or final.out_channels != 3 or final.bias is None:
        return
    source, _ = data.load(data.draw(PAIRS, torch.Generator().manual_seed(0)))
    mean = source.mean((0, 2, 3)).clamp(DARKEST, BRIGHTEST)
    final.bias.copy_(torch.logit(mean))
