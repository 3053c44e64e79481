"""Where a video cuts from one shot to the next."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

#: Frames are compared at this size (width, height).
SMALL = (48, 27)

#: A cut changes pixels by at least so many levels on average, and by this factor more than the
#: frames before it changed. Of ten people who talk and shake their heads, close up, the fastest
#: frame changes by 11 levels, and by at most 3 times as much as one of the frames before it.
LEAST_CHANGE, SUDDEN = 7.0, 4.5

#: How many frames before are asked, the change that even still pictures are granted, and the one
#: that is taken for usual before a second frame has told.
BEFORE, STILL, UNKNOWN = 6, 0.6, 4.0


class Cuts:
    """Watches for cuts, from frame to frame."""

    def __init__(self):
        self._last: np.ndarray | None = None
        self._shape: tuple[int, ...] | None = None
        self._changes: deque[float] = deque(maxlen=BEFORE)

    def see(self, image: np.ndarray) -> bool:
        """Whether the next frame uint8 RGB (H, W, 3) begins another shot. The first one does not."""
        small = cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        shape, self._shape = self._shape, image.shape
        if last is None:
            return False
        change = float(np.abs(small - last).mean())
        usual = max(self._changes, default=UNKNOWN)
        self._changes.append(change)
        return shape != image.shape or (change > LEAST_CHANGE and change > SUDDEN * max(usual, STILL))

    @property
    def picture(self) -> np.ndarray:
        """The newest frame, float32 RGB at the size of `SMALL`."""
        assert self._last is not None
        return self._last
