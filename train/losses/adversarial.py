"""Least-squares adversarial losses (Mao et al., 2017) and feature matching, as both papers use
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor, nn


def generator_loss(drawn: Tensor) -> Tensor:
    """The generator's loss: how far the discriminator's map (B, 1, h, w) of drawn images is from 1,
    'real'.
    """
    return (1 - drawn).square().mean()


def discriminator_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """The discriminator's loss: its maps (B, 1, h, w) should be 1 for real images and 0 for drawn
    ones.
    """
    return (1 - real).square().mean() + drawn.square().mean()


def feature_matching(real: Sequence[Tensor], drawn: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted sum over feature maps of the mean absolute difference (Wang et al., 2018).

    Args:
        real, drawn: the discriminator's maps of the two images; nothing is learned through `real`.
        weights: one per map; maps of weight 0 are skipped.

    Raises:
        ValueError: the numbers of maps and weights differ.
    """
    if not len(real) == len(drawn) == len(weights):
        raise ValueError(f"{len(weights)} weights of feature matching for {len(drawn)} maps")
    total = drawn[0].new_zeros(())
    for of_real, of_drawn, weight in zip(real, drawn, weights, strict=True):
        if weight:
            total = total + weight * (of_drawn - of_real.detach()).abs().mean()
    return total


@contextlib.contextmanager
def frozen(discriminator: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through the discriminator but not to its parameters."""
    discriminator.requires_grad_(False)
    try:
        yield
    finally:
        discriminator.requires_grad_(True)
