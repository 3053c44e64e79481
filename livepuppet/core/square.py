"""A square of a picture, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import number_of

#: Pixels within which a square of a picture lies, wherever it was typed.
FARTHEST = 1_000_000


#: Sides of a square that may be cut, in longer sides of its picture. A slip of the keyboard leaves no face to be seen.
LARGEST_CUT = 4


@dataclass(frozen=True)
class Square:
    """A square of a picture, in its pixels; it may reach beyond the edges.

    Attributes:
        x, y: left and top edge.
        side: width and height, at least 1.
    """

    x: float
    y: float
    side: float

    def whole(self) -> Square:
        """In whole pixels: what `cut` really takes."""
        return Square(round(self.x), round(self.y), max(1, round(self.side)))

    def scaled(self, factor: float) -> Square:
        """The same square of a picture `factor` times as large."""
        return Square(self.x * factor, self.y * factor, self.side * factor)

    def zoomed(self, factor: float) -> Square:
        """About the same centre, `factor` times as large (below 1: the face appears larger)."""
        side = max(16.0, self.side * factor)
        return Square(self.x + (self.side - side) / 2, self.y + (self.side - side) / 2, side)

    def shifted(self, right: float, down: float) -> Square:
        """Moved by shares of its own side."""
        return replace(self, x=self.x + right * self.side, y=self.y + down * self.side)

    def carried(self, before: tuple[int, int], after: tuple[int, int]) -> Square:
        """The same place of a picture of another size, (height, width) `before` and `after`: the middle
        by shares of height and width, the side by the shorter edge.
        """
        side = max(1.0, self.side * min(after) / min(before))
        x = (self.x + self.side / 2) * after[1] / before[1]
        y = (self.y + self.side / 2) * after[0] / before[0]
        return Square(x - side / 2, y - side / 2, side)

    def overlap(self, other: Square) -> float:
        """Intersection over union."""
        width = min(self.x + self.side, other.x + other.side) - max(self.x, other.x)
        height = min(self.y + self.side, other.y + other.side) - max(self.y, other.y)
        both = max(0.0, width) * max(0.0, height)
        return both / (self.side**2 + other.side**2 - both)


def centred_square(height: int, width: int) -> Square:
    """The largest square in the middle of a picture."""
    side = min(height, width)
    return Square((width - side) // 2, (height - side) // 2, side)


def parse_square(text: str) -> Square:
    """`X,Y,SIDE` in pixels. Raises UserError if it is anything else."""
    try:
        x, y, side = (number_of(part, -FARTHEST, FARTHEST) for part in text.split(","))
        if side < 1:
            raise ValueError
    except ValueError:
        raise UserError(f"The crop '{text[:60]}' is not X,Y,SIDE in pixels, as in 420,40,560.") from None
    return Square(x, y, side)


def cut(picture: np.ndarray, square: Square, size: int, quick: bool = False) -> np.ndarray:
    """The square of `picture` uint8 (H, W, 3), resized to uint8 (size, size, 3).

    Beyond the edges the outermost pixels are repeated. A square that already has the right size is
    copied, not resampled, so that its pixels stay as they are.

    Args:
        quick: see `shrunk`.
    """
    height, width = picture.shape[:2]
    whole = square.whole()
    left, top, side = int(whole.x), int(whole.y), int(whole.side)
    inner = picture[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if side > max(LARGEST_CUT * max(height, width), 64):
        raise UserError(
            f"The crop {left},{top},{side} is far larger than the picture of {width}x{height} pixels: give X,Y,SIDE within it."
        )
    if inner.size == 0:
        raise UserError(f"The crop {left},{top},{side} lies outside the picture of {width}x{height} pixels.")
    border = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
    if any(border):
        # Shrink first: repeating edges is then a matter of `size` pixels, not of the camera's.
        scale = size / side
        if scale < 1:
            before = [round(edge * scale) for edge in (border[0], border[2])]
            extent = [
                max(1, min(round(length * scale), size - start))
                for length, start in zip(inner.shape[:2], before, strict=True)
            ]
            small = shrunk(inner, extent[1], extent[0], quick)
            return cv2.copyMakeBorder(
                small,
                before[0],
                size - before[0] - extent[0],
                before[1],
                size - before[1] - extent[1],
                cv2.BORDER_REPLICATE,
            )
        inner = cv2.copyMakeBorder(inner, *border, borderType=cv2.BORDER_REPLICATE)
    if side == size:
        return np.ascontiguousarray(inner)
    if side > size:
        return shrunk(inner, size, size, quick)
    return cv2.resize(inner, (size, size), interpolation=cv2.INTER_CUBIC)


def shrunk(picture: np.ndarray, width: int, height: int, quick: bool = False) -> np.ndarray:
    """`picture` uint8 (H, W, 3) in a smaller size, without aliasing.

    OpenCV averages areas fast (by 4) only where 2 or 4 whole pixels become one. So the nearest size
    of which that is true is made first; what comes out is within half a level of the slow way (54
    dB or more).

    Args:
        quick: for what only a detector sees: the picture is halved first and the rest is left to
            neighbouring pixels. Takes 0.4 of the time for a camera of 720p, a tenth for one of
            1080p, and differs by two levels; `lite-256`'s keypoints move by 0.05 pixels in 256.
    """
    ratio = max(picture.shape[1] / width, picture.shape[0] / height)
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    if quick and ratio < 6 and rows > height and columns > width:
        half = cv2.resize(picture[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
        # The exact factors, as a last odd pixel was left out. What they make of the halves rounds
        # to the size wanted.
        across, down = 2 * width / picture.shape[1], 2 * height / picture.shape[0]
        return cv2.resize(half, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
    times = 1 if ratio < 1.4 else 2 if ratio < 3 else 4
    if ratio > 6 or times == 1:
        # Rare and slow, or so near that neighbouring pixels are enough.
        way = cv2.INTER_AREA if ratio > 6 else cv2.INTER_LINEAR
        return cv2.resize(picture, (width, height), interpolation=way)
    if picture.shape[:2] != (times * height, times * width):
        picture = cv2.resize(picture, (times * width, times * height), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
