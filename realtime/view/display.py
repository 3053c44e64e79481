"""The finished picture: the moved square on a canvas of fixed size, and what is written over it for the person."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

#: Side of the driver's picture in the corner, in heights of the canvas.
PREVIEW = 0.3

#: Colours are RGB.
TEXT = (255, 255, 255)
SHADE = 0.45


class Canvas:
    """A picture of fixed size with a square in the middle and black bars, made anew in the same memory every time.

    Args:
        width, height: in pixels.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.side = min(width, height)
        left, top = (width - self.side) // 2, (height - self.side) // 2
        self.picture = np.zeros((height, width, 3), np.uint8)
        self._square = self.picture[top : top + self.side, left : left + self.side]

    def compose(self, square: np.ndarray) -> np.ndarray:
        """Set uint8 RGB (S, S, 3) into the middle. Returns the canvas, which the next call overwrites."""
        if square.shape[0] == self.side:
            self._square[:] = square
        else:
            shrinks = square.shape[0] > self.side
            cv2.resize(
                square,
                (self.side, self.side),
                dst=self._square,
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
            )
        return self.picture


def _shade(picture: np.ndarray, x: int, y: int, width: int, height: int) -> None:
    """Darken a part of `picture` in place, so that text stands out on anything."""
    part = picture[max(y, 0) : y + height, max(x, 0) : x + width]
    cv2.convertScaleAbs(part, dst=part, alpha=SHADE)


def _line_height(picture: np.ndarray) -> int:
    return max(14, picture.shape[0] // 28)


def draw_lines(picture: np.ndarray, lines: Sequence[str], x: int = 8, y: int = 8) -> None:
    """Write `lines` into `picture` uint8 RGB, in place, on a darkened ground, their top left corner at (x, y)."""
    if not lines:
        return
    height = _line_height(picture)
    scale = height / 32
    thickness = max(1, round(scale * 1.4))
    font = cv2.FONT_HERSHEY_SIMPLEX
    width = max(cv2.getTextSize(line, font, scale, thickness)[0][0] for line in lines)
    _shade(picture, x - 4, y - 4, width + 12, height * len(lines) + 10)
    for row, line in enumerate(lines):
        place = (x + 2, y + round(height * (row + 0.75)))
        cv2.putText(picture, line, place, font, scale, TEXT, thickness, cv2.LINE_AA)


def draw_help(picture: np.ndarray, bindings: Sequence[tuple[str, str]]) -> None:
    """The list of keys in the middle of `picture` uint8 RGB, in place: (label, what it does) in two columns."""
    height = _line_height(picture)
    scale = height / 32
    thickness = max(1, round(scale * 1.4))
    font = cv2.FONT_HERSHEY_SIMPLEX

    def widest(column: int) -> int:
        return max(cv2.getTextSize(binding[column], font, scale, thickness)[0][0] for binding in bindings)

    gap = height
    width, total = widest(0) + gap + widest(1), height * len(bindings)
    x, y = (picture.shape[1] - width) // 2, (picture.shape[0] - total) // 2
    _shade(picture, x - gap, y - gap // 2, width + 2 * gap, total + gap)
    _shade(picture, x - gap, y - gap // 2, width + 2 * gap, total + gap)
    for row, (label, text) in enumerate(bindings):
        line = y + round(height * (row + 0.75))
        cv2.putText(picture, label, (x, line), font, scale, TEXT, thickness, cv2.LINE_AA)
        cv2.putText(picture, text, (x + widest(0) + gap, line), font, scale, TEXT, thickness, cv2.LINE_AA)


def draw_preview(picture: np.ndarray, driver: np.ndarray) -> None:
    """The driver's square, small in the lower left corner of `picture` uint8 RGB, in place."""
    side = round(picture.shape[0] * PREVIEW)
    edge = max(4, picture.shape[0] // 90)
    place = picture[-side - edge : -edge, edge : edge + side]
    place[:] = cv2.resize(driver, (side, side), interpolation=cv2.INTER_AREA)
    cv2.rectangle(
        picture,
        (edge - 1, picture.shape[0] - side - edge - 1),
        (edge + side, picture.shape[0] - edge),
        TEXT,
        1,
    )


def draw_message(picture: np.ndarray, text: str) -> None:
    """One line at the bottom in the middle of `picture` uint8 RGB, in place, clear of the driver's picture."""
    height = _line_height(picture)
    scale = height / 32
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, round(scale * 1.4)))[0][0]
    x = max((picture.shape[1] - width) // 2, round(picture.shape[0] * PREVIEW) + height)
    draw_lines(picture, [text], min(x, max(4, picture.shape[1] - width - 12)), picture.shape[0] - 2 * height)
