"""The same convolutions with fewer multiplications, or with shapes that fill a processor's
registers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livepuppet.export.optimise.phases import interleave
from livepuppet.model import blocks

#: Which taps of a 3x3 kernel fall on which of two coarse pixels, for the even and the odd of the
#: fine ones. Fine pixel 2 i sees the fine pixels 2 i - 1, 2 i, 2 i + 1, which are copies of the
#: coarse ones i - 1, i, i.
_TAPS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


def phase_kernels(weight: Tensor) -> Tensor:
    """3x3 kernels (O, I, 3, 3) behind a nearest-neighbour doubling as 2x2 ones before it: (2, 2, O,
    I, 2, 2).

    The first two indices are the phase: the row's and the column's parity in the fine picture.
    """
    taps = _TAPS.to(weight)
    return torch.einsum("pay,qbx,oiyx->pqoiab", taps, taps, weight)


class PhaseConvolution(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution, as four 2x2 convolutions at the coarse
    size.

    Four multiplications per fine pixel instead of nine. (1, I, H, W) to (1, O, 2 H, 2 W).
    """

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__()
        self.relu = relu
        kernels = phase_kernels(conv.weight.detach())
        self.phases = nn.ModuleList()
        for row in (0, 1):
            for column in (0, 1):
                self.phases.append(shaped(kernels[row, column], conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for index, phase in enumerate(self.phases):
            row, column = divmod(index, 2)
            # A fine picture's zero padding is one fine pixel: it enters where the coarse neighbour
            # lies outside.
            part = phase(F.pad(x, (1 - column, column, 1 - row, row)))
            parts.append(F.relu(part) if self.relu else part)
        return F.pixel_shuffle(torch.stack(parts, 2).flatten(1, 2), 2)


def split_upsampling(model: nn.Module) -> None:
    """Every `UpBlock` by phases, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, blocks.UpBlock):
                conv = child.conv
                if isinstance(child.norm, nn.BatchNorm2d):
                    conv = fuse_conv_bn_eval(conv, child.norm)
                setattr(parent, name, PhaseConvolution(conv, relu=True))


class PairedConvolution(nn.Module):
    """A convolution with few outputs, over squares of 2x2 pixels: four times the outputs, at stride
    2.

    Vectors hold 8 or 16 outputs, so 3 channels waste most of each. The kernel grows by one row and
    column of zeros, which is less. (1, I, H, W) to (1, O, H, W).
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        outputs, inputs, side, _ = conv.weight.shape
        weight = conv.weight.new_zeros(outputs, 2, 2, inputs, side + 1, side + 1)
        for row in (0, 1):
            for column in (0, 1):
                weight[:, row, column, :, row : row + side, column : column + side] = conv.weight.detach()
        assert conv.bias is not None
        self.conv = shaped(weight.flatten(0, 2), conv.bias.repeat_interleave(4), 2, side // 2)

    def forward(self, x: Tensor) -> Tensor:
        return interleave(self.conv(x))


def taking(conv: nn.Conv2d, order: Tensor) -> nn.Conv2d:
    """The convolution for inputs in another order."""
    return shaped(conv.weight[:, order], conv.bias, conv.stride, conv.padding)


def joined(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Two convolutions of the same input as one, outputs one after the other."""
    assert first.bias is not None and second.bias is not None
    weight, bias = torch.cat([first.weight, second.weight]), torch.cat([first.bias, second.bias])
    return shaped(weight, bias, first.stride, first.padding)


@torch.no_grad()
def shaped(
    weight: Tensor,
    bias: Tensor | None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
) -> nn.Conv2d:
    """A convolution of these weights (O, I, H, W)."""
    outputs, inputs, height, width = weight.shape
    # torch annotates what its own Conv2d.stride and .padding are, but not that it takes them.
    conv = nn.Conv2d(
        inputs,
        outputs,
        (height, width),
        stride,  # pyright: ignore[reportArgumentType]
        padding,  # pyright: ignore[reportArgumentType]
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    conv.weight.copy_(weight)
    if bias is not None and conv.bias is not None:
        conv.bias.copy_(bias)
    return conv.eval()


@torch.no_grad()
def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer of these weights (O, I)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer.eval()
