"""Whether the driver's face is there, from the detector's confidence and the shape of what it
found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.motion.parts import Similarity, median


@dataclass(frozen=True)
class Thresholds:
    """When a face counts as lost, and as found again. The gaps between the two keep it from
    flapping.

    Measured with lite-256: mean confidence over each of ten clips of real faces is 0.58 to 0.83; of
    noise, plain colours and patterns it is below 0.4. Where a model's confidence is lower as such,
    D1's own sets the bar.

    Attributes:
        lost_below, found_above: mean confidence.
        lost_share, found_share: the same as shares of D1's, where that is less.
        odd, usual: median distance from D1's shape, place, tilt and size removed, over the face's
            size. (Real faces stay below 0.35; these catch only what is no face at all, for models
            that tell no confidence.)
        sizes: smallest and largest size against D1's.
        patience: seconds of absence before the picture goes to rest.
        rest: seconds that it takes to come to rest, and back to life.
    """

    lost_below: float = 0.42
    found_above: float = 0.5
    lost_share: float = 0.6
    found_share: float = 0.7
    odd: float = 0.55
    usual: float = 0.45
    sizes: tuple[float, float] = (0.4, 2.5)
    patience: float = 0.4
    rest: float = 0.5

    @classmethod
    def none(cls) -> Thresholds:
        """Nothing ever counts as lost: for models of things that have neither a face's shape nor
        its confidence.
        """
        return cls(lost_below=-1.0, found_above=-1.0, odd=np.inf, usual=np.inf, sizes=(0.0, np.inf))


def oddness(keypoints: Keypoints, initial: Keypoints, head: Similarity) -> float:
    """Median distance of the keypoints from D1's moved by `head`, over the RMS radius of the face
    so moved.
    """
    off = keypoints.points - head.apply(initial.points)
    away = initial.points - initial.points.sum(axis=0) / len(initial.points)
    size = head.scale * float(np.sqrt((away * away).sum() / len(away)))
    return median(np.hypot(off[:, 0], off[:, 1])) / max(size, 1e-6)


def mean_confidence(keypoints: Keypoints) -> float | None:
    """Of all keypoints; None where the model does not say."""
    sure = keypoints.confidence
    return None if sure is None else float(sure.sum()) / len(sure)


class Presence:
    """Watches whether the face is there.

    Attributes:
        here: what the last frame says, with hysteresis.
        lost: True once it has not been there for `thresholds.patience`.
        oddness: of the last frame, see `oddness`.
        life: 1 the picture moves with the driver, 0 it is at rest, in between it is on its way.
    """

    def __init__(self, thresholds: Thresholds | None = None):
        self.thresholds = thresholds or Thresholds()
        self.restart()

    def restart(self) -> None:
        self.here, self.lost, self.life, self.oddness = True, False, 1.0, 0.0
        self._gone: float | None = None
        self._time: float | None = None

    def there(self, keypoints: Keypoints, initial: Keypoints | None, head: Similarity | None) -> bool:
        """Whether `keypoints` look like a face; more is asked of one that was not there before.

        Args:
            initial: D1, if there is one; without, confidence alone decides.
            head: the head's motion since D1.
        """
        limits = self.thresholds
        sure = mean_confidence(keypoints)
        if sure is not None:
            bar, part = (
                (limits.lost_below, limits.lost_share)
                if self.here
                else (limits.found_above, limits.found_share)
            )
            usual = mean_confidence(initial) if initial is not None else None
            if sure < (bar if usual is None else min(bar, part * usual)):
                return False
        if initial is None or head is None:
            return True
        smallest, largest = limits.sizes
        if not smallest < head.scale < largest:
            return False
        self.oddness = oddness(keypoints, initial, head)
        return self.oddness < (limits.odd if self.here else limits.usual)

    def update(
        self, keypoints: Keypoints, initial: Keypoints | None, head: Similarity | None, time: float
    ) -> None:
        """Take one frame, at `time` seconds, into account."""
        elapsed = 0.0 if self._time is None else min(max(time - self._time, 0.0), 1.0)
        self._time = time
        self.here = self.there(keypoints, initial, head)
        if self.here:
            self._gone, self.lost = None, False
        else:
            self._gone = time if self._gone is None or time < self._gone else self._gone
            self.lost = time - self._gone >= self.thresholds.patience
        step = elapsed / self.thresholds.rest
        self.life = min(max(self.life + (-step if self.lost else step), 0.0), 1.0)
