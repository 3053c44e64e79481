"""3x3 convolutions by Winograd's minimal filtering, F(4x4, 3x3) of Lavin and Gray (arXiv
1509.09308): a quarter of the multiplications.

A square of 4x4 outputs depends on 6x6 inputs. In another basis the convolution of the two is a
product of 36 numbers, each of which is a matrix product over channels: 36 multiplications per
channel and square instead of 144. Runtimes have no such convolution on processors; as matrix
products in the graph it is twice as fast as theirs from 64 channels on. Rounding grows by the
change of basis, to some 1e-5 of the largest value: nothing in 32 bits, too much in 16.

Pixels stand in the rows of a matrix (pixels, C), ordered so that those of equal place in their
square lie together. Nothing between convolutions cares about their order, so it is left that way
from the first to the last of a chain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livepuppet.model import blocks

#: The changes of basis of inputs, of filters, and back of outputs; for the points 0, 1, -1, 2, -2
#: and infinity.
_INPUTS = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_FILTERS = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUTS = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]

#: Sides of a square of outputs, and of the inputs that it depends on.
SQUARE, REACH = 4, 6


class Convolution(nn.Module):
    """A 3x3 convolution with a padding of 1, (pixels, I) to (pixels, O) in the order of `Chain`.

    Args:
        conv: what is replaced.
        neighbours: of `neighbours`.
    """

    inputs: Tensor
    outputs: Tensor
    neighbours: Tensor

    def __init__(self, conv: nn.Conv2d, neighbours: Tensor):
        super().__init__()
        assert conv.bias is not None
        weight = conv.weight.detach()
        basis, inputs, outputs = (
            torch.tensor(matrix, dtype=torch.float64) for matrix in (_FILTERS, _INPUTS, _OUTPUTS)
        )
        filters = torch.einsum("ay,bx,oiyx->abio", basis, basis, weight.double()).flatten(0, 1)
        self.filters = nn.Parameter(filters.to(weight).contiguous())
        self.bias = nn.Parameter(conv.bias.detach().clone())
        self.register_buffer("inputs", torch.kron(inputs, inputs).to(weight), persistent=False)
        self.register_buffer("outputs", torch.kron(outputs, outputs).to(weight), persistent=False)
        self.register_buffer("neighbours", neighbours, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # A row of zeros is what lies outside of the picture.
        squares = F.pad(x, (0, 0, 0, 1)).index_select(0, self.neighbours).reshape(REACH**2, -1)
        products = (self.inputs @ squares).reshape(REACH**2, -1, x.shape[1]) @ self.filters
        return (self.outputs @ products.flatten(1)).reshape(len(x), -1) + self.bias


def order(side: int) -> Tensor:
    """Pixels (side * side) of a square picture, by place in their square of 4x4, then by square."""
    squares = torch.arange(side * side).reshape(side // SQUARE, SQUARE, side // SQUARE, SQUARE)
    return squares.permute(1, 3, 0, 2).flatten()


def neighbours(side: int) -> Tensor:
    """Where the 6x6 inputs of each square stand, (36 * squares), by place, then by square; outside
    is `side * side`.
    """
    where = torch.empty(side * side, dtype=torch.int64)
    where[order(side)] = torch.arange(side * side)
    where = F.pad(where.reshape(side, side), (1, 1, 1, 1), value=side * side)
    steps = range(REACH)
    return torch.cat(
        [where[y : y + side : SQUARE, x : x + side : SQUARE].flatten() for y in steps for x in steps]
    )


class PreActivated(nn.Module):
    """`blocks.ResidualBlock`, on pixels in rows."""

    scale: Tensor
    shift: Tensor

    def __init__(self, block: blocks.ResidualBlock, neighbours: Tensor):
        super().__init__()
        norm, conv = block.norm1, block.conv1
        if isinstance(block.norm2, nn.BatchNorm2d):
            conv = fuse_conv_bn_eval(conv, block.norm2)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", norm.bias.detach() - norm.running_mean * scale, persistent=False)
        self.first = Convolution(conv, neighbours)
        self.second = Convolution(block.conv2, neighbours)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x * self.scale + self.shift))))


class Chain(nn.Module):
    """Residual blocks one after the other, (1, C, side, side) to the same.

    Args:
        chain: what is replaced.
        side: of its pictures, a multiple of 4.
    """

    way: Tensor
    back: Tensor

    def __init__(self, chain: nn.Sequential, side: int):
        super().__init__()
        self.side = side
        places, way = neighbours(side), order(side)
        self.blocks = nn.Sequential(
            *(PreActivated(block, places) for block in chain if isinstance(block, blocks.ResidualBlock))
        )
        self.register_buffer("way", way, persistent=False)
        self.register_buffer("back", torch.argsort(way), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x[0].flatten(1).t().index_select(0, self.way)
        pixels = self.blocks(pixels).index_select(0, self.back)
        return pixels.t().reshape(1, -1, self.side, self.side)
