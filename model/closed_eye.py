"""An eye with its lids closed, drawn from the same eye as a picture shows it.

Runs once per eye of an avatar (`realtime.rig.closed_eyes`). About 0.2 GMAC.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the input: RGB, the opening between the lids, and what lies above the line where they are to meet.
INPUTS = 5

#: Means are at least this, in [0, 1].
DARKEST = 0.02

#: Below this mean difference of ratios between colours a picture counts as gray or of one tint.
HUES = 0.006

#: Channels of the output: RGB, and how far a pixel is no longer the picture's.
OUTPUTS = 4


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.ReLU6())


class ClosedEye(nn.Module):
    """A small U-Net (Ronneberger et al., 2015) without normalisation, which sees and draws ratios to the mean of what is around the eye, of
    each colour: light and dark skin, gray pictures and tinted light are the same to it.

    Args:
        channels: at the full size, 1/2, 1/4, ...; sides of the frame are multiples of 2 to the power of their number.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 24, 40, 56, 56)):
        super().__init__()
        self.stem = _convolution(INPUTS, channels[0])
        self.down = nn.ModuleList(_convolution(a, b, 2) for a, b in itertools.pairwise(channels))
        self.middle = _convolution(channels[-1], channels[-1])
        self.up = nn.ModuleList(_convolution(b + a, a) for a, b in itertools.pairwise(channels))
        self.out = nn.Conv2d(channels[0], OUTPUTS, 3, 1, 1)

    def forward(self, eye: Tensor) -> Tensor:
        """Close an eye.

        Args:
            eye: (B, 5, H, W): RGB in [0, 1], upright, the inner corner on the left; the opening between the lids, 1 in it; what lies
                above the line where they are to meet, 1 there, between the corners.

        Returns:
            (B, 4, H, W): RGB, about [0, 1], with closed lids and without lashes; how far each pixel differs from the picture, in [0, 1].
        """
        # What is seen of the eyeball says nothing of its lid, nor does the fringe that contours miss.
        opening = eye[:, 3:4]
        around = 1 - F.max_pool2d(opening, 5, 1, 2)
        tone = (eye[:, :3] * around).mean((2, 3), keepdim=True) / around.mean((2, 3), keepdim=True)
        tone = tone.clamp(min=DARKEST)
        skin = (eye[:, :3] / tone - 1) * around
        levels = [self.stem(torch.cat([skin, eye[:, 3:]], 1))]
        for block in self.down:
            levels.append(block(levels[-1]))
        x = self.middle(levels.pop())
        for block in reversed(self.up):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), levels.pop()], 1))
        x = self.out(x)
        share = torch.maximum(x[:, 3:].sigmoid(), 1 - around)
        drawn = x[:, :3]
        # Pictures without colours, or of one, get none.
        gray, hues = (
            drawn.mean(1, keepdim=True),
            (skin - skin.mean(1, keepdim=True)).abs().mean((1, 2, 3), keepdim=True),
        )
        drawn = gray + (drawn - gray) * (hues / HUES).clamp(max=1)
        return torch.cat([(skin + share * (drawn - skin) + 1) * tone, share], 1)
