"""Sharp sampling at the price of a linear one."""

from __future__ import annotations

import cv2
import numpy as np

#: A picture is enlarged once by `LARGER` / `SMALLER`, cubically, and sharpened by `SHARPEN` against a blur of 3 x 3. Sampled
#: linearly it then is as sharp as a cubic sample of the picture itself, wherever between two pixels, and takes a quarter of its
#: time. Enlarged more, it falls out of a core's cache: by 2 it takes half as long again.
LARGER, SMALLER, SHARPEN = 5, 4, 0.42

#: A place in the picture is `SCALE` place + `OFFSET` in the enlarged one: pixel centres are whole numbers, and its outermost
#: pixels are there twice, so that the picture ends where its last pixel does.
SCALE, OFFSET = LARGER / SMALLER, (LARGER / SMALLER - 1) / 2 + 1

#: So many pixels around a changed one change in the enlarged picture, and around those so many more are looked at.
REACH, MARGIN = 3, 4

#: What is looked at around changed pixels, at most.
AROUND = REACH + MARGIN + SMALLER


class Sampler:
    """A picture that is sampled at other places in every frame.

    Args:
        picture: uint8 RGB (h, w, 3) or RGBA (h, w, 4).
        changes: keep its `pixels`.

    Attributes:
        origin: row and column of the enlarged picture from which on it is kept.
    """

    def __init__(self, picture: np.ndarray, changes: bool = False):
        if picture.shape[2] == 3:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        height, width = picture.shape[:2]
        whole = cv2.copyMakeBorder(picture, 0, -height % SMALLER, 0, -width % SMALLER, cv2.BORDER_REPLICATE)
        self._whole = whole if changes else None
        # First row and column of that, and how large it was.
        self._first, self._size = (0, 0), whole.shape[:2]
        self.origin = (0, 0)
        rows, columns = (size // SMALLER * LARGER for size in whole.shape[:2])
        self._fine = np.empty((rows + 2, columns + 2, 4), np.uint8)
        self._enlarge(whole, slice(0, height), slice(0, width))

    def pixels(self, rows: slice, columns: slice) -> np.ndarray:
        """A view of these, uint8 RGBA. What is written there is seen once it has been refreshed."""
        assert self._whole is not None
        top, left = self._first
        return self._whole[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def shrink(self, seen: tuple[slice, slice], changing: tuple[slice, slice]) -> None:
        """Forget what is not needed.

        Args:
            seen: rows and columns beyond which nothing is seen of the picture.
            changing: rows and columns beyond which no pixel changes.
        """
        kept = []
        for part, size, count in zip(seen, self._size, self._fine.shape, strict=False):
            start, stop = (
                (part.start - MARGIN) * LARGER // SMALLER,
                (part.stop + MARGIN) * LARGER // SMALLER + 2,
            )
            kept.append(slice(max(start, 0), count if part.stop + MARGIN >= size else stop))
        self.origin = (kept[0].start, kept[1].start)
        self._fine = self._fine[tuple(kept)].copy()
        if self._whole is None:
            return
        around = [
            slice(max(part.start - AROUND, 0), min(part.stop + AROUND, size))
            for part, size in zip(changing, self._size, strict=True)
        ]
        self._first = (around[0].start, around[1].start)
        self._whole = self._whole[tuple(around)].copy()

    def refresh(self, rows: slice, columns: slice) -> None:
        """These of the `pixels` have changed."""
        assert self._whole is not None
        self._enlarge(self._whole, rows, columns)

    def _enlarge(self, whole: np.ndarray, rows: slice, columns: slice) -> None:
        inner, outer = [], []
        for wanted, size in zip((rows, columns), self._size, strict=True):
            start = max(wanted.start - REACH, 0) // SMALLER * SMALLER
            stop = min(-(-(wanted.stop + REACH) // SMALLER) * SMALLER, size)
            inner.append((start, stop))
            outer.append((max(start - MARGIN, 0), min(stop + MARGIN, size)))
        (top, bottom), (left, right) = outer
        first_row, first_column = self._first
        part = whole[top - first_row : bottom - first_row, left - first_column : right - first_column]
        extent = ((right - left) // SMALLER * LARGER, (bottom - top) // SMALLER * LARGER)
        larger = cv2.resize(part, extent, interpolation=cv2.INTER_CUBIC)
        larger = cv2.addWeighted(larger, 1 + SHARPEN, cv2.blur(larger, (3, 3)), -SHARPEN, 0)
        fine = [slice(start // SMALLER * LARGER, stop // SMALLER * LARGER) for start, stop in inner]
        part = [
            slice((start - first) // SMALLER * LARGER, (stop - first) // SMALLER * LARGER)
            for (start, stop), (first, _) in zip(inner, outer, strict=True)
        ]
        down, across = (
            slice(one.start + 1 - first, one.stop + 1 - first)
            for one, first in zip(fine, self.origin, strict=True)
        )
        self._fine[down, across] = larger[tuple(part)]
        for axis, edge, beside in ((0, 0, 1), (0, -1, -2), (1, 0, 1), (1, -1, -2)):
            if inner[axis][edge] in (0, self._size[axis]):
                pixels = self._fine if axis == 0 else self._fine.swapaxes(0, 1)
                pixels[edge] = pixels[beside]

    def sample(self, places: np.ndarray, border: int, out: np.ndarray | None = None) -> np.ndarray:
        """The colours at `places` of the enlarged picture, float32 (h, w, 2): uint8 RGBA (h, w, 4), in `out` if that is given.

        Args:
            border: what is beyond the picture, as for `cv2.remap`.
        """
        return cv2.remap(self._fine, places, None, cv2.INTER_LINEAR, dst=out, borderMode=border)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The colours at pixels (x, y), float32 (h, w) each, of the edge beyond it: uint8 RGBA (h, w, 4)."""
        return self.at_enlarged(
            np.float32(SCALE) * x + np.float32(OFFSET), np.float32(SCALE) * y + np.float32(OFFSET)
        )

    def at_enlarged(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The same at places of the enlarged picture."""
        return cv2.remap(self._fine, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
