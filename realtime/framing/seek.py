"""Find a face with the model's own detector, where no cascade sees one or none is installed (OpenCV
5).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square, cut
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.framing.refine import LARGEST_ZOOM, MIDDLE_HEIGHT, face_middle, refined_square

#: Between one size of square and the next, and between neighbours as a share of their side. The
#: default model's landmarks still find home from squares half or twice as large as the right one, a
#: third of the side away.
ZOOM_STEP = 1.7
STRIDE = 0.5

#: Sides of the squares searched, as shares of the picture's shorter side: at most, at least.
LARGEST, SMALLEST = 1.0, 0.3

#: Mean confidence below which there is no face in a square: 0.6 to 0.85 with one in it.
LEAST = 0.45

#: And at least this in one of the squares around it.
FACE = 0.6

#: How many of the most confident places are looked at closely, and how often each is moved.
FINALISTS = 4
ROUNDS = 5

#: A face's landmarks stay where they are when the square around it is moved and widened; what is
#: seen in clouds and cloth goes along. Middle disagreement of a keypoint, in spreads of the
#: keypoints: of faces 0.05 to 0.15, of others mostly above 0.4.
CONSISTENT = 0.25

#: How the square is widened and shifted (in sides) to see that.
TRIALS = ((1.0, 0.0, 0.0), (1.25, 0.06, 0.06), (1.5, -0.08, 0.0))

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
    square: Square, picture: np.ndarray, detect: Detect, size: int, names: Sequence[str]
) -> Generator[None, None, Square]:
    """Generator: move `square` onto the face in it, by its landmarks. Yields after every detection."""
    for _ in range(ROUNDS):
        keypoints = detect(cut(picture, square, size))
        yield
        moved = refined_square(square, keypoints, names, limited=False)
        if moved == square:
            # No face by its landmarks, but they gather where it may be: half outside the square,
            # say.
            x, y = (keypoints.points.mean(axis=0) + 1) / 2 - (0.5, MIDDLE_HEIGHT)
            moved = square.shifted(float(x), float(y))
        if not _touches(moved, picture):
            break
        settled = np.hypot(moved.x - square.x, moved.y - square.y) < 0.03 * square.side
        square = moved
        if settled:
            break
    return square


@dataclass(frozen=True)
class Trial:
    """A square that was tried, and what was found in it."""

    square: Square
    keypoints: Keypoints

    @property
    def sure(self) -> float:
        return confidence(self.keypoints)


def trials(
    square: Square, picture: np.ndarray, detect: Detect, size: int
) -> Generator[None, None, list[Trial]]:
    """Generator: `square` moved and widened in the ways of `TRIALS`. Yields after every detection."""
    tried = []
    for zoom, right, down in TRIALS:
        other = square.zoomed(zoom).shifted(right, down)
        tried.append(Trial(other, detect(cut(picture, other, size))))
        yield
    return tried


def disagreement(tried: Sequence[Trial], size: int) -> float:
    """How far apart the landmarks of several squares lie in the picture, in spreads of the
    landmarks.

    The middle one of all pairs, since the narrowest square is too blurred to be read in a small
    face, and the widest too coarse.
    """
    first = tried[0].square
    sets = [reexpressed(trial.keypoints, trial.square, first, size).points for trial in tried]
    found = []
    for one, other in itertools.combinations(sets, 2):
        spread = np.sqrt(np.square(one - one.mean(axis=0)).sum(axis=1).mean())
        found.append(np.median(np.linalg.norm(one - other, axis=1)) / max(spread, 1e-3))
    return float(np.median(found))


def seek(
    picture: np.ndarray, detect: Detect, size: int, names: Sequence[str]
) -> Generator[None, None, Square | None]:
    """Generator: the square of the most confident face in `picture` uint8 RGB (H, W, 3), or None.

    Yields after every detection (50 to 80 for a webcam's frame), so that the caller can spread them
    over frames.

    Args:
        detect: of an engine whose keypoints are landmarks with these `names` and tell their
            confidence.
        size: of the engine's pictures.
    """
    squares, scores = grid(*picture.shape[:2]), []
    for square in squares:
        scores.append(confidence(detect(cut(picture, square, size))))
        yield
    tried: list[Square] = []
    for index in np.argsort(scores)[::-1]:
        if scores[index] < LEAST or len(tried) == FINALISTS:
            break
        if any(_same_place(squares[index], other) for other in tried):
            continue
        tried.append(squares[index])
        square = yield from homed(squares[index], picture, detect, size, names)
        seen = yield from trials(square, picture, detect, size)
        best = max(seen, key=lambda trial: trial.sure)
        # The surest has the last word on where the face is, and whether it is one.
        if (
            disagreement(seen, size) < CONSISTENT
            and min(trial.sure for trial in seen) >= LEAST
            and best.sure >= FACE
            and face_middle(best.keypoints, names) is not None
        ):
            found = refined_square(best.square, best.keypoints, names, limited=False)
            # The landmarks of a small, blurred face lie too wide, and would give too tight a
            # square.
            return found.zoomed(max(1.0, best.square.side / LARGEST_ZOOM / found.side))
    return None


def _same_place(one: Square, other: Square) -> bool:
    apart = np.hypot(
        one.x + one.side / 2 - other.x - other.side / 2, one.y + one.side / 2 - other.y - other.side / 2
    )
    return bool(one.side == other.side and apart < 0.5 * one.side)


def _touches(square: Square, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    x, y = square.x + square.side / 2, square.y + square.side / 2
    return 0 < x < width and 0 < y < height
