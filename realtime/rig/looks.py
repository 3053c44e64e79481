"""The landmarks of a still picture, seen in several squares and a mirror: one look errs, their middle seldom does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from livepuppet.core.square import Square, cut
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.framing.seek import homed

#: How the square around the face is widened, and shifted in its sides, for looks that are seldom grossly wrong: faces are
#: then as large as in the model's training.
WIDE = ((1.5, 0.0, 0.0), (1.3, 0.03, 0.03), (1.15, -0.03, -0.02))

#: Closer looks, which are nearer to the edges where they are not wrong altogether.
CLOSE = ((0.85, 0.0, 0.0), (0.65, 0.0, -0.02))

#: A close look counts for a landmark within this of the wide ones', in distances between the eyes.
NEAR = 0.12

#: Of a face, mostly, the looks' middle confidence is at least this; of what is none it was 0.47 at most.
SURE_OF_FACE = 0.6


@dataclass(frozen=True)
class Landmarks:
    """Where the model's landmarks lie in a picture.

    Attributes:
        names: of the points.
        points: float32 (K, 2), in the picture's pixels.
        spread: float32 (K,), the looks' middle disagreement on each, in pixels.
        confidence: float32 (K,) in [0, 1]; 1 where the model does not say.
    """

    names: tuple[str, ...]
    points: np.ndarray
    spread: np.ndarray
    confidence: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """The point (2,) of this name."""
        return self.points[self.names.index(name)]


def swapped_sides(names: Sequence[str]) -> list[int]:
    """Where each name's opposite is: of "left iris" the place of "right iris"."""
    names = list(names)
    other = [name.replace("left", "@").replace("right", "left").replace("@", "right") for name in names]
    return [names.index(name) if name in names else place for place, name in enumerate(other)]


def look(engine: Engine, picture: np.ndarray, square: Square) -> Landmarks:
    """The landmarks of the face in `square` of `picture` uint8 RGB (H, W, 3), from a dozen looks."""
    size, names = engine.size, tuple(engine.keypoint_names)
    swap = swapped_sides(names)

    def points_in(where: Square, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
        where = where.whole()
        crop = cut(picture, where, size)
        found = engine.detect(np.ascontiguousarray(crop[:, ::-1]) if mirror else crop)
        sure = np.ones(len(names), np.float32) if found.confidence is None else found.confidence
        at = (found.points.astype(np.float64) + 1) / 2 * (size - 1)
        if mirror:
            at, sure = np.stack([size - 1 - at[:, 0], at[:, 1]], 1)[swap], sure[swap]
        # Pixel centres: the square's first pixel of many becomes one of few.
        return (at + 0.5) * (where.side / size) - 0.5 + (where.x, where.y), sure

    home = _home(engine, picture, square)

    def seen(base: Square, ways) -> tuple[np.ndarray, np.ndarray]:
        found = [
            points_in(base.zoomed(zoom).shifted(right, down), mirror)
            for zoom, right, down in ways
            for mirror in (False, True)
        ]
        return tuple(np.stack(values) for values in zip(*found, strict=True))

    points, sure = seen(home, WIDE)
    if home != square:
        others = seen(square, WIDE[1:2])
        points, sure = np.concatenate([points, others[0]]), np.concatenate([sure, others[1]])
    # A look that is sure of most of the face sees a face; the others may see anything.
    trust = sure.mean(axis=1, keepdims=True) ** 4
    anchor = _weighted_middle(points, sure * trust, points[int(np.argmax(trust))])
    confidence = (sure * trust).sum(0) / max(float(trust.sum()), 1e-9)
    eyes = [names.index(f"{side} iris") for side in ("left", "right")]
    unit = max(float(np.linalg.norm(anchor[eyes[0]] - anchor[eyes[1]])), 1.0)
    close, close_sure = seen(home, CLOSE)
    near = np.linalg.norm(close - anchor, axis=2) < NEAR * unit
    points, sure = (
        np.concatenate([points, close]),
        np.concatenate([sure * trust, 1.5 * trust.max() * close_sure * near]),
    )
    fused = _weighted_middle(points, sure, anchor)
    # Beside looks that are sure of a face, those that see none do not count.
    weight = sure if np.median(confidence) >= SURE_OF_FACE else np.ones_like(sure)
    spread = _weighted_median(np.linalg.norm(points - fused, axis=2), weight)
    return Landmarks(names, fused.astype(np.float32), spread.astype(np.float32), confidence)


def _home(engine: Engine, picture: np.ndarray, square: Square) -> Square:
    """`square`, moved onto the face by the model's own landmarks."""
    search = homed(square, picture, engine.detect, engine.size, engine.keypoint_names)
    while True:
        try:
            next(search)
        except StopIteration as done:
            return done.value


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of (N, K) over N with weights (N, K): half of the weight is below."""
    order = np.argsort(values, axis=0)
    values, weight = (np.take_along_axis(one, order, axis=0) for one in (values, weight + 1e-6))
    half = (np.cumsum(weight, axis=0) >= 0.5 * weight.sum(0)).argmax(axis=0)
    return np.take_along_axis(values, half[None], axis=0)[0]


def _weighted_middle(points: np.ndarray, weight: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Geometric median of (N, K, 2) over N with weights (N, K): Weiszfeld's rounds from `start`."""
    middle = start
    for _ in range(5):
        distance = np.linalg.norm(points - middle, axis=2)
        share = (weight + 1e-3) / np.maximum(distance, 0.5)
        middle = (points * share[..., None]).sum(0) / share.sum(0)[:, None]
    return middle
