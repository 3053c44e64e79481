"""The still image that is moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livepuppet.core.square import Square, centred_square

#: Longest side of the whole image that is kept beside the square, in pixels: more than any output
#: shows.
LONGEST_SIDE = 2048


@dataclass(frozen=True, eq=False)
class Avatar:
    """A still image (the papers' source): the square that the model moves, and the whole image
    around it.

    Attributes:
        name: its file's name.
        image: the square, uint8 RGB (S, S, 3). (`picture`, its name until 0.2, still reads it.)
        path: of the file, or None.
        original: the whole image, upright, uint8 RGB (H, W, 3), its longer side at most
            `LONGEST_SIDE`. By default the square itself.
        square: where `image` lies in `original`, in its pixels; it may reach beyond the edges. By
            default all of it.
        matte: the file's transparency, uint8 (H, W) like `original`, 255 where the figure is; None
            for an opaque file.
        others: boxes of other people's faces in `original`, which stay as they are.
    """

    name: str
    image: np.ndarray
    path: Path | None = None
    # Filled in below where they are not given.
    original: np.ndarray = None  # type: ignore[assignment]
    square: Square = None  # type: ignore[assignment]
    matte: np.ndarray | None = None
    others: tuple[Square, ...] = ()

    def __post_init__(self):
        if self.original is None:
            object.__setattr__(self, "original", self.image)
        if self.square is None:
            object.__setattr__(self, "square", centred_square(*self.original.shape[:2]))

    @property
    def picture(self) -> np.ndarray:
        """The earlier name of `image`."""
        return self.image
