"""Steady keypoints without delay: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012).

A low-pass whose cutoff rises with speed: what rests is held still, what moves passes. It is a
moving average with weights that are never negative, so it cannot overshoot.

The head's motion (place, tilt, size, fitted over all keypoints) and the face's (each keypoint
within the head) are filtered apart. A detector errs per keypoint; over sixteen of them the errors
average out, so the head may follow at once where a single keypoint may not. Parameters were chosen
with `livepuppet bench jitter`, which prints what they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.realtime.motion.parts import Origin, Similarity, fit_similarity, rigid_indices

#: Cutoff at rest (hertz), and hertz more per [-1, 1] unit a second, of the head and of keypoints
#: within it.
HEAD_REST, HEAD_RISE = 0.5, 25.0
FACE_REST, FACE_RISE = 0.5, 12.0

#: The same for Jacobians, whose entries are about 1. Covariances are brought there by their mean
#: over the first keypoints.
JACOBIAN_REST, JACOBIAN_RISE = 0.5, 3.0

#: Cutoffs of the speeds themselves. The paper's 1 Hz would open the filter after a blink is over.
HEAD_SPEED, FACE_SPEED = 4.0, 5.0

#: A detector that hesitates between two places jumps back and forth, which is no motion but looks
#: fast. Steps that turn back on the last one are remembered (hertz), and weigh so much against the
#: speed.
FLICKER_MEMORY, FLICKER_GUARD = 0.5, 14.0

#: What differs by name. Lids and lips are the fastest that a face has; a blink, which does turn
#: back, must not be taken for flicker; chin and collar, which a detector finds worst, move slowly.
RISE_OF = {"upper lid": 8.0, "lip": 3.0, "chin": 0.5, "collar": 0.5}
SPEED_OF = {"upper lid": 20.0, "lip": 10.0}
GUARD_OF = {"upper lid": 10.0, "lip": 20.0}

#: After so many seconds without a frame, or a clock that runs back, the past says nothing: start
#: over.
LONGEST_GAP = 0.5


@overload
def share(cutoff: float, seconds: float) -> float: ...
@overload
def share(cutoff: np.ndarray, seconds: float) -> np.ndarray: ...
def share(cutoff: np.ndarray | float, seconds: float) -> np.ndarray | float:
    """Weight in (0, 1) of a new sample, `seconds` after the last, in an exponential average with
    `cutoff` hertz.
    """
    turn = 2 * np.pi * cutoff * seconds
    return turn / (1 + turn)


class OneEuro:
    """The filter for rows of numbers that move together: one cutoff per row.

    Args:
        rest: cutoff at rest in hertz, as all of these (N,), one per row.
        rise: hertz more for each unit of speed per second.
        speed: cutoff of the speed in hertz.
        guard: weight of flicker against the speed.
    """

    def __init__(self, rest: np.ndarray, rise: np.ndarray, speed: np.ndarray, guard: np.ndarray):
        self.rest, self.rise, self.speed, self.guard = rest, rise, speed[:, None], guard
        self.value: np.ndarray | None = None

    def __call__(self, value: np.ndarray, seconds: float, strength: float = 1.0) -> np.ndarray:
        """The filtered value.

        Args:
            value: (N, D), the new sample.
            seconds: since the last one.
            strength: divides the cutoffs; above 0.
        """
        if self.value is None:
            self.value = self._raw = value
            self._rate = self._step = np.zeros_like(value)
            self._flicker = np.zeros(len(value))
            return value
        step = (value - self._raw) / seconds
        self._raw = value
        self._rate = self._rate + share(self.speed, seconds) * (step - self._rate)
        turned = np.maximum(-(step * self._step).sum(-1), 0.0)
        self._flicker = self._flicker + share(FLICKER_MEMORY, seconds) * (turned - self._flicker)
        self._step = step
        speed = (self._rate * self._rate).sum(-1)
        speed = speed / np.sqrt(speed + self.guard * self._flicker + 1e-12)
        cutoff = self.rest + self.rise * speed
        filtered = self.value + share(cutoff / strength, seconds)[:, None] * (value - self.value)
        self.value = filtered
        return filtered

    def rescale(self, factor: np.ndarray) -> None:
        """Go on in units of which one old unit has `factor` (N,)."""
        assert self.value is not None
        self._flicker = self._flicker * factor**2
        factor = factor[:, None]
        self.value, self._raw = self.value * factor, self._raw * factor
        self._rate, self._step = self._rate * factor, self._step * factor

    def shift(self, by: np.ndarray) -> None:
        """Go on with an origin moved so that `by` (N, D) is added to every sample."""
        assert self.value is not None
        self.value, self._raw = self.value + by, self._raw + by


def _by_name(names: Sequence[str], values: dict[str, float], other: float) -> np.ndarray:
    """For each name, the value of the first word in it, or `other`."""
    return np.array(
        [next((value for word, value in values.items() if word in name), other) for name in names]
    )


class Smoother:
    """Filters keypoints from frame to frame, at any frame rate.

    Args:
        names: of the keypoints, where they have any.
        matrices: what their matrices are. The filter averages with positive weights, so covariances
            stay covariances.
    """

    def __init__(self, names: Sequence[str] = (), matrices: Matrices = "jacobian"):
        self._matrices = matrices
        self._rigid = rigid_indices(names)
        self._speed = _by_name(names, SPEED_OF, FACE_SPEED) if names else FACE_SPEED
        self._rise = FACE_RISE * _by_name(names, RISE_OF, 1.0) if names else FACE_RISE
        self._guard = _by_name(names, GUARD_OF, FLICKER_GUARD) if names else FLICKER_GUARD
        self.restart()

    def restart(self) -> None:
        """Forget the past; the next keypoints pass as they are."""
        self._time: float | None = None
        self._last: Keypoints | None = None

    def remap(self, change: Callable[[Keypoints], Keypoints]) -> None:
        """Go on in other coordinates: `change` turns keypoints of the old crop into those of the
        new one.
        """
        values = self._rows.value if self._last is not None else None
        if self._last is None or values is None:
            return
        before = Keypoints(
            self._reference.astype(np.float32),
            self._unit * values[self._jacobians].reshape(-1, 2, 2),
        )
        after = change(before)
        move = fit_similarity(before.points, after.points, rounds=0)
        self._reference, self._scale = after.points.astype(np.float64), self._scale * move.scale
        self._origin = Origin.of(self._reference, self._rigid)
        grown = np.linalg.norm(after.jacobians) / max(np.linalg.norm(before.jacobians), 1e-9)
        factor = np.full(len(values), move.scale)
        factor[self._jacobians] = grown
        self._rows.rescale(factor)
        by = np.zeros_like(values)
        by[self._face, :2] = move.apply(np.zeros((1, 2)))
        self._rows.shift(by)
        self._last = change(self._last)

    def _start(self, keypoints: Keypoints) -> None:
        points, anchors = _points_of(keypoints)
        self._reference = points
        self._scale = float(np.sqrt(points.var(axis=0).sum())) or 1.0
        self._origin = Origin.of(points, self._rigid)
        # One filter for all: the head's row, then a row of the face for each keypoint and each anchor
        # of its reading (half empty), then their matrices'.
        count, more = len(points), len(anchors)
        self._points, self._face = slice(1, 1 + count), slice(1, 1 + count + more)
        self._jacobians = slice(1 + count + more, 1 + 2 * count + more)

        def rows(head: float, face: np.ndarray | float, anchor: float, jacobian: float) -> np.ndarray:
            values = np.full(1 + 2 * count + more, head)
            values[self._face], values[self._points], values[self._jacobians] = anchor, face, jacobian
            return values

        self._rows = OneEuro(
            rows(HEAD_REST, FACE_REST, FACE_REST, JACOBIAN_REST),
            rows(HEAD_RISE, self._rise, FACE_RISE, JACOBIAN_RISE),
            rows(HEAD_SPEED, self._speed, FACE_SPEED, FACE_SPEED),
            rows(FLICKER_GUARD, self._guard, FLICKER_GUARD, FLICKER_GUARD),
        )
        self._last = keypoints
        self._unit = 1.0
        if self._matrices == "covariance":
            self._unit = max(float(keypoints.jacobians.trace(axis1=1, axis2=2).mean() / 2), 1e-6)
        # The filters begin with what they are given first.
        self._filter(points, anchors, keypoints.jacobians, 1 / 30, 1.0)

    def __call__(self, keypoints: Keypoints, time: float, strength: float = 1.0) -> Keypoints:
        """The filtered keypoints at `time` seconds; themselves where `strength` (0 to 2) is 0."""
        if strength <= 0:
            self.restart()
            return keypoints
        seconds = None if self._time is None else time - self._time
        self._time = time
        points, anchors = _points_of(keypoints)
        last = self._last
        if (
            seconds is None
            or last is None
            or not 0 <= seconds <= LONGEST_GAP
            or len(anchors) != len(_points_of(last)[1])
        ):
            self._start(keypoints)
            return keypoints
        points, anchors, jacobians = self._filter(
            points, anchors, keypoints.jacobians, max(seconds, 1e-3), strength
        )
        # The amounts of readings are filtered where they are used (`realtime.rig.driver`), each by
        # its own kind.
        reading = keypoints.reading
        if reading is not None and len(anchors):
            reading = replace(reading, anchors=anchors.astype(np.float32))
        self._last = replace(
            keypoints,
            points=points.astype(np.float32),
            jacobians=jacobians.astype(np.float32),
            reading=reading,
        )
        return self._last

    def _filter(
        self, points, anchors, jacobians, seconds: float, strength: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        motion = self._origin.fit(points, rounds=0)
        # Tilt and size in the length by which they move a keypoint, so that one speed speaks for
        # all.
        tilt, size = self._scale * motion.angle, self._scale * math.log(motion.scale)
        if self._rows.value is not None:
            # An angle may pass through half a turn; the filter must not.
            turn = 2 * math.pi * self._scale
            tilt += turn * round((self._rows.value[0, 2] - tilt) / turn)
        rows = np.zeros((1 + 2 * len(points) + len(anchors), 4))
        rows[0, :2], rows[0, 2], rows[0, 3] = motion.shift, tilt, size
        rows[self._face, :2] = motion.undo(np.concatenate([points, anchors]))
        rows[self._jacobians] = jacobians.reshape(-1, 4)
        rows[self._jacobians] /= self._unit
        rows = self._rows(rows, seconds, strength)
        _, _, tilt, size = rows[0].tolist()
        steady = Similarity(motion.centre, rows[0, :2], tilt / self._scale, math.exp(size / self._scale))
        jacobians = self._unit * rows[self._jacobians]
        moved = steady.apply(rows[self._face, :2])
        return moved[: len(points)], moved[len(points) :], jacobians.reshape(-1, 2, 2)


def _points_of(keypoints: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints, and anchors of their reading (none of them where there is none): float64 (K, 2), (A, 2)."""
    reading = keypoints.reading
    anchors = np.zeros((0, 2)) if reading is None or reading.anchors is None else reading.anchors
    return keypoints.points.astype(np.float64), anchors.astype(np.float64)
