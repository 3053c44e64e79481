"""Building blocks of the first-order model, with the module names of the published checkpoints.

All take and return float tensors (B, C, H, W). Convolution, batch norm, ReLU in that order, unless
said otherwise.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def channels(expansion: int, maximum: int, level: int) -> int:
    """Width of level `level` of a network that doubles its channels per level up to a maximum."""
    return min(maximum, expansion * 2**level)


class AntiAlias(nn.Module):
    """Gaussian blur and subsampling by an integer factor, with zero padding; 1 is the identity.

    The blur's sigma is (reduction - 1) / 2, its side 2 round(4 sigma) + 1 (13 pixels for a
    reduction of 4). The kernel is stored with the weights, as in published checkpoints.
    """

    weight: Tensor

    def __init__(self, in_channels: int, reduction: int):
        super().__init__()
        self.reduction = reduction
        sigma = (reduction - 1) / 2
        radius = round(4 * sigma)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        bell = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)).square())
        kernel = bell[:, None] * bell[None, :]
        kernel = (kernel / kernel.sum()).float().expand(in_channels, 1, -1, -1).clone()
        # Published networks without a reduction store no kernel.
        self.register_buffer("weight", kernel, persistent=reduction != 1)

    def forward(self, image: Tensor) -> Tensor:
        if self.reduction == 1:
            return image
        # A strided convolution blurs only the pixels that are kept.
        padding = self.weight.shape[-1] // 2
        return F.conv2d(image, self.weight, stride=self.reduction, padding=padding, groups=image.shape[1])


class SameBlock(nn.Module):
    """Convolution at constant resolution."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DownBlock(SameBlock):
    """Convolution, then 2x2 average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class UpBlock(SameBlock):
    """Nearest-neighbour doubling, then convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class ResidualBlock(nn.Module):
    """Two pre-activated convolutions beside an identity connection."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))


class HourglassEncoder(nn.Module):
    """`num_blocks` halvings. Returns all levels, the input first."""

    def __init__(self, in_channels: int, expansion: int, maximum: int, num_blocks: int):
        super().__init__()
        widths = [in_channels] + [channels(expansion, maximum, level + 1) for level in range(num_blocks)]
        self.down_blocks = nn.ModuleList(DownBlock(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        return levels


class HourglassDecoder(nn.Module):
    """`num_blocks` doublings, each followed by the concatenation of the encoder's level of that
    size.
    """

    def __init__(self, expansion: int, maximum: int, num_blocks: int):
        super().__init__()
        self.up_blocks = nn.ModuleList(
            UpBlock(
                # Every block but the first is fed its predecessor's output and a skip of the same
                # width.
                channels(expansion, maximum, level + 1) * (1 if level == num_blocks - 1 else 2),
                channels(expansion, maximum, level),
            )
            for level in reversed(range(num_blocks))
        )

    def forward(self, levels: list[Tensor]) -> Tensor:
        out = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            out = torch.cat([block(out), skip], dim=1)
        return out


class Hourglass(nn.Module):
    """U-Net (Newell et al., 2016) that returns `out_channels` = expansion + in_channels maps at the
    input's size.
    """

    def __init__(self, in_channels: int, expansion: int, maximum: int, num_blocks: int):
        super().__init__()
        self.encoder = HourglassEncoder(in_channels, expansion, maximum, num_blocks)
        self.decoder = HourglassDecoder(expansion, maximum, num_blocks)
        self.out_channels = min(expansion, maximum) + in_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))
