"""Portrait matting: figure, head and body of a still picture, the figure's depth, and the body behind the head.

Runs once per avatar (`realtime.rig.matting`), so it may take a tenth of a second. About 3 GMAC.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the output, in order.
OUTPUTS = ("figure", "head", "body", "depth", *("torso",) * 3)

#: Channels of the input: RGB, where the face is, what lies inside the picture.
INPUTS = 5

#: Width of the bell that says where the face is, in eye distances.
FACE_WIDTH = 0.8


@dataclass(frozen=True)
class MattingConfig:
    """Sizes of the network.

    Attributes:
        size: side of the square that it sees, in pixels; a multiple of 32.
        stem: channels at the full size.
        channels: channels at 1/2, 1/4, ... of the size.
    """

    size: int = 256
    stem: int = 16
    channels: tuple[int, ...] = (32, 64, 112, 160, 192)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int = 1):
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Matting(nn.Module):
    """A U-Net (Ronneberger et al., 2015) with residual blocks."""

    def __init__(self, config: MattingConfig | None = None):
        super().__init__()
        self.config = config = config or MattingConfig()
        widths = (config.stem, *config.channels)
        self.stem = _convolution(INPUTS, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(before, after, 2), _Residual(after, 2 if level >= 3 else 1))
            for level, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.join = nn.ModuleList(
            _convolution(below + above, above) for above, below in itertools.pairwise(widths)
        )
        self.mix = nn.ModuleList(
            _Residual(width) if level else _convolution(width, width)
            for level, width in enumerate(widths[:-1])
        )
        self.out = nn.Conv2d(widths[0], len(OUTPUTS), 3, 1, 1)

    def logits(self, inputs: Tensor) -> Tensor:
        """Of `INPUTS` channels (B, 5, S, S), RGB in [0, 1]: (B, len(OUTPUTS), S, S), before `forward`'s squashing."""
        levels = [self.stem(inputs - 0.5)]
        for block in self.down:
            levels.append(block(levels[-1]))
        x = levels.pop()
        for join, mix in zip(reversed(self.join), reversed(self.mix), strict=True):
            skip = levels.pop()
            x = mix(join(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1)))
        return self.out(x)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at a square of a picture.

        Args:
            inputs: (B, 5, S, S): RGB in [0, 1]; a bell of `FACE_WIDTH` about the middle between the
                irises, 1 there; 1 inside the picture, 0 beyond its edges, where RGB is 0.5.

        Returns:
            alpha (B, 3, S, S) of the figure, of its head with hair and hat, and of the body as it
            goes on behind the head; depth (B, 1, S, S) of the figure towards the viewer from the
            plane of the eyes, in eye distances; torso (B, 3, S, S), the body's colours, also behind
            the head, RGB in [0, 1].
        """
        found = self.logits(inputs).float()
        return found[:, :3].sigmoid(), found[:, 3:4], found[:, 4:].sigmoid()


def face_bell(centre: Tensor, unit: Tensor, size: int) -> Tensor:
    """The input's fourth channel (B, 1, S, S) for faces at `centre` (B, 2) in [-1, 1] with eye distances `unit` (B,)."""
    line = torch.linspace(-1, 1, size, device=centre.device)
    x, y = line[None, None, :] - centre[:, 0, None, None], line[None, :, None] - centre[:, 1, None, None]
    return (-(x * x + y * y) / (2 * (FACE_WIDTH * unit[:, None, None]).square())).exp()[:, None]
