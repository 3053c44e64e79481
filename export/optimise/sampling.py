"""Bilinear sampling as gathers: the form that onnxruntime runs fast.

onnxruntime's GridSample visits channels one by one and computes every place anew for each. Here a
place is computed once, and what lies there is fetched as one run of memory: all channels of one
pixel (`Rows`), or four pixels of a picture of few channels (`Patches`). Such tables are made once
per avatar. The numbers are those of `geometry.warp`; a batch is of one.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import warp


class Grid:
    """How a square picture is sampled: `geometry.warp`, behind three calls that the other ways
    share.

    Args:
        side: of the picture, in pixels.
        padding: what lies outside, "zeros" or "border".
    """

    def __init__(self, side: int, padding: str):
        self.side = side
        self.padding = padding

    def table(self, picture: Tensor) -> Tensor:
        """What `sample` wants, of a picture (1, C, side, side)."""
        return picture

    def picture(self, table: Tensor, channels: int) -> Tensor:
        """The picture again."""
        return table

    def sample(self, table: Tensor, x: Tensor, y: Tensor, share: Tensor | None = None) -> Tensor:
        """(C, *places) at places in [-1, 1], whose x and y are of any one shape; times `share`, of
        that shape, if given.
        """
        places = torch.stack([x, y], -1).reshape(1, -1, x.shape[-1], 2)
        found = warp(table, places, self.padding).reshape(-1, *x.shape)
        return found if share is None else found * share


class Rows(Grid):
    """By four gathers of all channels of one pixel: for features."""

    def __init__(self, side: int, padding: str):
        super().__init__(side, padding)
        # With a frame of zeros, zeros outside are no special case: places are held within it, as
        # "border" holds them within the picture.
        self.frame = 1 if padding == "zeros" else 0
        self.step = side + 2 * self.frame

    def table(self, picture: Tensor) -> Tensor:
        """(step^2, C)."""
        return _by_pixel(F.pad(picture, (self.frame,) * 4))

    def picture(self, table: Tensor, channels: int) -> Tensor:
        inside = slice(self.frame, self.frame + self.side)
        whole = table[:, :channels].t().reshape(1, channels, self.step, self.step)
        return whole[:, :, inside, inside]

    def sample(self, table: Tensor, x: Tensor, y: Tensor, share: Tensor | None = None) -> Tensor:
        first, across, down = self._places(x.flatten(), y.flatten())
        # Four weights per place are cheap beside four products of all channels; that way there are
        # no differences to take.
        lower = down if share is None else down * share.flatten()
        upper = (1 if share is None else share.flatten()) - lower
        lower_right, upper_right = lower * across, upper * across
        corners = (
            (0, upper - upper_right),
            (1, upper_right),
            (self.step, lower - lower_right),
            (self.step + 1, lower_right),
        )
        found = (table.index_select(0, first + offset) * weight[:, None] for offset, weight in corners)
        return _by_channel(functools.reduce(torch.add, found), x.shape)

    def _places(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Index of the upper left one of four pixels, and the way from it to the place."""
        ways = []
        for place in (x, y):
            scale = (self.side - 1) / 2
            place = (place * scale + (scale + self.frame)).clamp(0, self.step - 1)
            # The last pixel is reached from the one before it, so that there always are four.
            first = place.floor().clamp(max=self.step - 2)
            ways.append((first, place - first))
        (left, across), (top, down) = ways
        # In whole numbers: a runtime that computes in 16 bits would point beside the table, or
        # outside.
        return top.to(torch.int64) * self.step + left.to(torch.int64), across, down


class Patches(Rows):
    """By one gather of four pixels: for pictures of few channels."""

    def table(self, picture: Tensor) -> Tensor:
        """(step^2, 4 C): each pixel, its neighbours to the right, below, and below to the right."""
        # Pixels of the last row and column have no such neighbours, and are nobody's first.
        wide = F.pad(picture, (self.frame, self.frame + 1, self.frame, self.frame + 1))
        corners = [wide[:, :, i : i + self.step, j : j + self.step] for i in (0, 1) for j in (0, 1)]
        return _by_pixel(torch.cat(corners, 1))

    def sample(self, table: Tensor, x: Tensor, y: Tensor, share: Tensor | None = None) -> Tensor:
        first, across, down = self._places(x, y)
        found = _by_channel(table.index_select(0, first.flatten()), x.shape)
        half, channels = len(found) // 2, len(found) // 4
        found = found[:half] + (found[half:] - found[:half]) * down
        found = found[:channels] + (found[channels:] - found[:channels]) * across
        return found if share is None else found * share


def _by_pixel(picture: Tensor) -> Tensor:
    return picture[0].flatten(1).t().contiguous()


def _by_channel(pixels: Tensor, shape: torch.Size) -> Tensor:
    # As many dimensions as the picture has: OpenVINO is slow with a plain transposition of two.
    return pixels.reshape(*shape, -1).permute(-1, *range(len(shape)))
