"""Find a face with the model's own detector, where no cascade sees one or none is installed (OpenCV 5)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import numpy as np

from livepuppet.realtime.framing.follow import SURE
from livepuppet.realtime.framing.refine import face_middle, refined_square
from livepuppet.realtime.framing.square import Square, cut
from livepuppet.realtime.keypoints import Keypoints

#: Between one size of square and the next, and between neighbours as a share of their side. The default model's
#: landmarks still find home from squares half or twice as large as the right one, a third of the side away.
ZOOM_STEP = 1.6
STRIDE = 0.4

#: Sides of the squares searched, as shares of the picture's shorter side: at most, at least.
LARGEST, SMALLEST = 1.0, 0.24

#: How many of the most confident squares are looked at closely, and how often each is moved.
FINALISTS = 3
ROUNDS = 3

Detect = Callable[[np.ndarray], Keypoints]


def confidence(keypoints: Keypoints) -> float:
    """Mean over the keypoints; 0 where the model does not tell."""
    return 0.0 if keypoints.confidence is None else float(np.mean(keypoints.confidence))


def grid(height: int, width: int) -> list[Square]:
    """The squares to try in a picture, large to small, evenly over it."""
    squares, side = [], LARGEST * min(height, width)
    while side >= SMALLEST * min(height, width):
        rows, columns = (
            np.linspace(0, length - side, int(np.ceil((length - side) / (STRIDE * side))) + 1)
            for length in (height, width)
        )
        squares += [Square(float(x), float(y), float(side)) for y in rows for x in columns]
        side /= ZOOM_STEP
    return squares


def homed(
    square: Square,
    picture: np.ndarray,
    detect: Detect,
    size: int,
    names: Sequence[str],
    limited: bool = False,
) -> Generator[None, None, tuple[Square, float, bool]]:
    """Generator: move `square` onto the face in it, by its landmarks, as long as their confidence does not fall.

    Yields after every detection. Returns the square, its confidence and whether its landmarks look like a face's.
    `limited` is for squares that are nearly right; see `refined_square`.
    """
    keypoints = detect(cut(picture, square, size))
    yield
    for _ in range(ROUNDS):
        moved = refined_square(square, keypoints, names, limited)
        if moved == square or not _touches(moved, picture):
            break
        found = detect(cut(picture, moved, size))
        yield
        # Landmarks on a small, blurred face may shrink the square until nothing of the head is left.
        if confidence(found) < confidence(keypoints) - 0.05:
            break
        square, keypoints = moved, found
    return square, confidence(keypoints), face_middle(keypoints, names) is not None


def seek(
    picture: np.ndarray, detect: Detect, size: int, names: Sequence[str]
) -> Generator[None, None, Square | None]:
    """Generator: the square of the most confident face in `picture` uint8 RGB (H, W, 3), or None.

    Yields after every detection (about 60 for a webcam's frame), so that the caller can spread them over frames.

    Args:
        detect: of an engine whose keypoints are landmarks with these `names` and tell their confidence.
        size: of the engine's pictures.
    """
    scores = []
    squares = grid(*picture.shape[:2])
    for square in squares:
        scores.append(confidence(detect(cut(picture, square, size))))
        yield
    best, most = None, SURE
    for index in np.argsort(scores)[::-1][:FINALISTS]:
        if scores[index] < 0.7 * SURE:
            break
        square, sure, plausible = yield from homed(squares[index], picture, detect, size, names)
        if plausible and sure > most:
            best, most = square, sure
    return best


def _touches(square: Square, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    x, y = square.x + square.side / 2, square.y + square.side / 2
    return 0 < x < width and 0 < y < height
