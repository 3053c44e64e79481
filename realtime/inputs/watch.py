"""Whether a camera shows a picture at all: black ones and frozen ones, noticed for the price of a
few microseconds.
"""

from __future__ import annotations

import cv2
import numpy as np

#: Seconds for which a picture must be black or still before it is said. Cameras begin with dark
#: pictures by right.
BLACK_SECONDS, FROZEN_SECONDS = 2.0, 2.0

#: A sample brighter than this is not black. Black is 16 where a driver mistakes the range, and dark
#: noise reaches 30.
BLACK_LEVEL = 32

#: Share of brighter samples that a black picture may have: hot pixels, the light around a badly
#: fitting shutter.
BLACK_SHARE = 0.01

#: A sample that differs by so little has not changed: an encoder rewrites a frozen picture almost
#: exactly. A sensor's noise moves some sample by more in every frame.
STILL_DIFFERENCE = 1

#: Samples along each side. Enough that noise shows in some of them, few enough to cost nothing.
_SAMPLES = 32


class ImageWatch:
    """Looks at every picture of one source, and says when it is black or stands still.

    Args:
        black: the sentence for a black picture, or None where black is right.
        frozen: the sentence for a picture that stands still, or None where that is right, as for a
            screen.
    """

    def __init__(self, black: str | None = None, frozen: str | None = None):
        self._black, self._frozen = black, frozen
        self.start_over()

    def start_over(self) -> None:
        """Forget what was seen: the source has just come (back)."""
        self._still: np.ndarray | None = None
        self._still_since = 0.0
        self._black_since: float | None = None

    def look(self, picture: np.ndarray, now: float) -> str | None:
        """Take one more picture into account.

        Args:
            picture: uint8 (H, W, 3).
            now: seconds, of any clock that goes forward.

        Returns:
            what is wrong with the pictures until now, or None.
        """
        height, width = picture.shape[:2]
        samples = np.ascontiguousarray(picture[:: -(-height // _SAMPLES), :: -(-width // _SAMPLES)])
        return self._look_for_black(samples, now) or self._look_for_stillness(samples, now)

    def _look_for_black(self, samples: np.ndarray, now: float) -> str | None:
        if np.count_nonzero(samples > BLACK_LEVEL) > BLACK_SHARE * samples.size:
            self._black_since = None
            return None
        if self._black_since is None:
            self._black_since = now
        return self._black if now - self._black_since >= BLACK_SECONDS else None

    def _look_for_stillness(self, samples: np.ndarray, now: float) -> str | None:
        # Compared with the first of the still pictures, not with the last, so that slow change
        # counts as change.
        still, self._still = self._still, samples
        if still is None or still.shape != samples.shape:
            self._still_since = now
            return None
        if cv2.absdiff(samples, still).max() > STILL_DIFFERENCE:
            self._still_since = now
            return None
        self._still = still
        return self._frozen if now - self._still_since >= FROZEN_SECONDS else None
