"""People sink into their chairs: notice that the head rests elsewhere than in D1, and follow
slowly.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from livepuppet.core import matrices
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.realtime.motion.parts import Similarity

#: Samples of the head's motion, this many seconds apart, over this many seconds.
EVERY, SPAN = 0.5, 10.0
SAMPLES = round(SPAN / EVERY)

#: The head rests if all its samples but a tenth are this near to their median, in [-1, 1] units;
#: the face is neutral if it is this near to D1's, over its size.
RESTS, NEUTRAL = 0.05, 0.2

#: A resting head nearer than this to D1's is where it should be.
ENOUGH = 0.03

#: Seconds in which D1 goes there: too slow to be taken for motion.
EASE = 4.0


class Drift:
    """Where D1 should go so that a resting head is the avatar at rest."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        self._samples: deque[tuple[np.ndarray, float]] = deque(maxlen=SAMPLES)
        self._last: float | None = None

    def watch(self, head: Similarity, oddness: float, size: float, time: float) -> Similarity | None:
        """Take one frame into account.

        Args:
            head: the head's motion since D1.
            oddness: how far the face's own shape is from D1's, over its size (`presence.oddness`).
            size: RMS radius of the face in D1, by which tilt and size count as lengths.
            time: seconds.

        Returns:
            The motion that a head at rest has had since D1, if it rests and that is worth a
            correction, or None.
        """
        if self._last is None or not EVERY <= time - self._last <= 10 * EVERY:
            if self._last is not None and 0 <= time - self._last < EVERY:
                return None
            self._samples.clear()
        self._last = time
        place = np.array([*head.shift, size * head.angle, size * np.log(head.scale)])
        self._samples.append((place, oddness))
        if len(self._samples) < SAMPLES:
            return None
        places = np.array([place for place, _ in self._samples])
        middle = np.median(places, axis=0)
        apart = np.sqrt(((places - middle) ** 2).sum(axis=1))
        odd = float(np.median([odd for _, odd in self._samples]))
        if np.percentile(apart, 90) > RESTS or odd > NEUTRAL or np.hypot.reduce(middle) < ENOUGH:
            return None
        return Similarity(head.centre, middle[:2], middle[2] / size, float(np.exp(middle[3] / size)))


def carried(initial: Keypoints, head: Similarity, kind: Matrices = "jacobian") -> Keypoints:
    """D1 with the head's motion in it."""
    points, moved = head.apply(initial.points), matrices.carried(head.matrix, initial.jacobians, kind)
    reading = None if initial.reading is None else initial.reading.mapped(head.apply, head.angle)
    return Keypoints(points.astype(np.float32), moved.astype(np.float32), initial.confidence, reading)
