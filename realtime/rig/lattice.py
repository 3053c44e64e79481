"""Lattices: what is smooth is worked out at nodes a few pixels apart, and enlarged to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Lattice:
    """Nodes in the middles of square blocks of pixels.

    Attributes:
        left, top: the first pixel of the first block.
        rows, columns: of nodes.
        block: side of a block, in pixels.
    """

    left: int
    top: int
    rows: int
    columns: int
    block: int

    @classmethod
    def over(cls, left: int, top: int, right: int, bottom: int, block: int) -> Lattice:
        """One that covers these pixels, and less than a block to the right and below."""
        return cls(left, top, -(-(bottom - top) // block), -(-(right - left) // block), block)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the pixels."""
        return (
            slice(self.top, self.top + self.rows * self.block),
            slice(self.left, self.left + self.columns * self.block),
        )

    @property
    def nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels at which they stand: float32 x (columns,) and y (rows,)."""
        return tuple(
            ((np.arange(count) + 0.5) * self.block - 0.5 + start).astype(np.float32)
            for count, start in ((self.columns, self.left), (self.rows, self.top))
        )

    def part(self, nodes: Sequence[slice]) -> Lattice:
        """The lattice of these rows and columns."""
        rows, columns = nodes
        return Lattice(
            self.left + columns.start * self.block,
            self.top + rows.start * self.block,
            rows.stop - rows.start,
            columns.stop - columns.start,
            self.block,
        )

    def pixels(self, nodes: Sequence[slice]) -> tuple[slice, slice]:
        """The pixels of these rows and columns of nodes, counted from the lattice's first one."""
        rows, columns = (slice(part.start * self.block, part.stop * self.block) for part in nodes)
        return rows, columns

    def around(self, chosen: np.ndarray) -> tuple[slice, slice] | None:
        """Rows and columns of nodes with all that are `chosen`, bool (rows, columns), and those beside them; None without any."""
        box = box_of(chosen)
        if box is None:
            return None
        rows, columns = (
            slice(max(part.start - 1, 0), min(part.stop + 1, count))
            for part, count in zip(box, chosen.shape, strict=True)
        )
        return rows, columns

    def enlarged(self, plane: np.ndarray, nodes: Sequence[slice] | None = None) -> np.ndarray:
        """`plane` float32 (rows, columns[, C]) at the pixels of these nodes, of all by default: float32 (h, w[, C])."""
        if nodes is None:
            nodes = slice(0, self.rows), slice(0, self.columns)
        # As if all had been enlarged: with the nodes beside.
        outer = [
            slice(max(part.start - 1, 0), min(part.stop + 1, count))
            for part, count in zip(nodes, plane.shape, strict=False)
        ]
        extent = [(part.stop - part.start) * self.block for part in reversed(outer)]
        large = cv2.resize(plane[tuple(outer)], extent, interpolation=cv2.INTER_LINEAR)
        rows, columns = (
            slice((part.start - whole.start) * self.block, (part.stop - whole.start) * self.block)
            for part, whole in zip(nodes, outer, strict=True)
        )
        return large[rows, columns]

    def sampled(self, plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """`plane` float32 (rows, columns) at pixels (x, y), float32 (h, w) each; beyond its nodes as at the last one."""
        scale = np.float32(1 / self.block)
        x = (x - np.float32(self.left - 0.5)) * scale - np.float32(0.5)
        y = (y - np.float32(self.top - 0.5)) * scale - np.float32(0.5)
        return cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def box_of(chosen: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns that hold all that is `chosen`, bool (h, w); None without any."""
    down, across = chosen.any(axis=1).tobytes(), chosen.any(axis=0).tobytes()
    if 1 not in down:
        return None
    return slice(down.find(1), down.rfind(1) + 1), slice(across.find(1), across.rfind(1) + 1)
