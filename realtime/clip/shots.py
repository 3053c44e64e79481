"""Where a video cuts from one shot to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

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


#: A dissolve blends two pictures: those between them lie on the line from one to the other, asked at quarters of the way over so
#: many frames. Asked is the picture's edge, of so many pixels at the size of `SMALL`, where a head that moves is mostly not. It
#: changes by at least so many levels, and not by light alone; what lies off the line is at most this share of it.
BLENDS, EDGE, BLENDED, OFF_THE_LINE = (8, 16, 24), 4, 10.0, 0.12

#: It has ended where a frame changes by less than this share of what a frame of it does on average.
ENDED = 0.3


class Cuts:
    """Watches for cuts, from frame to frame, and for dissolves, which count as cuts where they end."""

    def __init__(self):
        self._last: np.ndarray | None = None
        #: The edges of the frames before, and by how much a frame of a dissolve that goes on changes them.
        self._edges: deque[np.ndarray] = deque(maxlen=max(BLENDS) + 1)
        self._dissolving, self._waited = 0.0, 0
        self._shape: tuple[int, ...] | None = None
        self._changes: deque[float] = deque(maxlen=BEFORE)

    def see(self, image: np.ndarray) -> bool:
        """Whether the next frame uint8 RGB (H, W, 3) begins another shot. The first one does not."""
        small = cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        shape, self._shape = self._shape, image.shape
        if shape != image.shape:
            self._forget_dissolve()
        self._edges.append(_edge(small))
        if last is None:
            return False
        change = float(np.abs(small - last).mean())
        usual = max(self._changes, default=UNKNOWN)
        self._changes.append(change)
        cut = shape != image.shape or (change > LEAST_CHANGE and change > SUDDEN * max(usual, STILL))
        ended = self._dissolve_ended()
        if cut:
            self._forget_dissolve()
        return cut or ended

    def _dissolve_ended(self) -> bool:
        edges = self._edges
        rate = max((_blend(edges, count) / count for count in BLENDS if count < len(edges)), default=0.0)
        if rate:
            self._dissolving, self._waited = rate, 0
        if not self._dissolving:
            return False
        self._waited += 1
        ended = float(np.abs(edges[-1] - edges[-2]).mean()) <= ENDED * self._dissolving
        if ended or self._waited > min(BLENDS):
            # A camera that pans on hides the end.
            self._forget_dissolve()
        return ended

    def _forget_dissolve(self) -> None:
        self._edges.clear()
        self._dissolving, self._waited = 0.0, 0

    @property
    def picture(self) -> np.ndarray:
        """The newest frame, float32 RGB at the size of `SMALL`."""
        assert self._last is not None
        return self._last


def _edge(small: np.ndarray) -> np.ndarray:
    """The pixels (N, 3) along the sides and the top of a picture at the size of `SMALL`: shoulders move below."""
    inner = small[EDGE:, EDGE:-EDGE]
    kept = np.ones(small.shape[:2], bool)
    kept[EDGE:, EDGE : EDGE + inner.shape[1]] = False
    return small[kept]


def _blend(edges: Sequence[np.ndarray], count: int) -> float:
    """By how many levels the last `count` frames change, if that is a dissolve; else 0."""
    before, way = edges[-1 - count], edges[-1] - edges[-1 - count]
    size = float(np.abs(way).mean())
    if size < BLENDED:
        return 0.0
    for share in (0.25, 0.5, 0.75):
        step = edges[-1 - count + round(share * count)] - before
        gone = float((step * way).sum() / np.square(way).sum())
        if abs(gone - share) > 0.12 or float(np.abs(step - gone * way).mean()) > OFF_THE_LINE * size:
            return 0.0
    # Light that fades has the same picture, darker.
    centred = before - before.mean(axis=0)
    gain = (centred * (edges[-1] - edges[-1].mean(axis=0))).sum(axis=0) / np.maximum(
        np.square(centred).sum(axis=0), 1
    )
    lit = np.abs(edges[-1] - edges[-1].mean(axis=0) - gain * centred).mean()
    return size if float(lit) > 0.3 * size else 0.0
