"""Pictures for whoever watches: compressed once, only while somebody does, in threads that the live
loop never waits for.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
import time as clock
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.square import Square
from livepuppet.core.threads import start_thread
from livepuppet.core.video import Frame
from livepuppet.realtime.outputs.base import Output

#: 0..100. At 85 a face shows no blocks, and a picture of 1280 x 720 takes 60 to 90 kB.
QUALITY = 85

#: Pictures per second, at most: of the moving picture; of the camera while somebody looks how they
#: are framed, and otherwise, when it only shows that it is on.
MOST_RATE, CAMERA_RATE, CAMERA_IDLE_RATE = 31.0, 15.0, 4.0

#: Seconds that a page on this computer takes to show a picture above which it gets fewer of them, and
#: below which more, down to so many per second: it then draws on cores that the live loop needs.
PAGE_SLOW, PAGE_FAST, LEAST_RATE = 0.045, 0.03, 12.0

#: Widths between which a watcher may choose, in pixels. A smaller picture than it asks for would be
#: blurred, a larger one would be shrunk by the page, which costs it more than it costs us.
LEAST_WIDTH, MOST_WIDTH = 64, 8192

#: How soon a page that opens while the source stands still gets its first picture.
REPEAT_SECONDS = 0.25

#: How many may watch one feed.
MOST_WATCHERS = 32

#: What precedes every JPEG: number, flags, milliseconds of capture on the session's clock, and the
#: driver's square (x, y, side; in widths and heights of the picture, side in widths).
HEADER = struct.Struct("<IId3f4x")

#: Flag: the lower half of the picture is the upper half's alpha, in gray.
ALPHA = 1


@dataclass(frozen=True)
class Shot:
    """One compressed picture.

    Attributes:
        number: from 1, growing.
        captured: `time.perf_counter()` of the driving frame.
        jpeg: its data.
        alpha: see `ALPHA`.
        square: of the driver, see `HEADER`; zeros where there is none.
    """

    number: int
    captured: float
    jpeg: bytes
    alpha: bool = False
    square: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def message(self) -> bytes:
        """As it goes over the wire."""
        flags = ALPHA if self.alpha else 0
        return HEADER.pack(self.number, flags, self.captured * 1000, *self.square) + self.jpeg


class Watcher:
    """Somebody who watches a feed, until closed.

    Args:
        width: that the picture is shown at, in pixels; 0 for the whole picture.
        alpha: wants the alpha, where there is any.
        wake: called from another thread whenever there is a new shot. It has to return at once.
    """

    def __init__(self, feed: Feed, width: int, alpha: bool, wake: Callable[[], None]):
        self.wake, self._feed = wake, feed
        self.kind = (_clamped(width), alpha)
        #: Whether the person looks at it just now: the pointer is there.
        self.near = False
        #: Pictures per second that it gets, at most.
        self.rate = MOST_RATE
        self._took, self._served = 0.0, -1e9

    def resize(self, width: int) -> None:
        """It is shown at another width from now on."""
        self.kind = (_clamped(width), self.kind[1])

    def shown_after(self, seconds: float) -> None:
        """A page on this computer took so long to show a picture: it gets as many as it has time for."""
        self._took += 0.15 * (seconds - self._took)
        if self._took > PAGE_SLOW:
            self.rate = max(0.97 * self.rate, LEAST_RATE)
        elif self._took < PAGE_FAST:
            self.rate = min(1.01 * self.rate, MOST_RATE)

    def due(self, now: float) -> bool:
        """Whether it is to get a picture at `now`."""
        return now - self._served >= 0.9 / self.rate

    def served(self, now: float) -> None:
        """It got one. On average it gets its rate, whatever the pictures' own is."""
        self._served = max(self._served + 1 / self.rate, now - 1 / self.rate)

    def newest(self, after: int = 0) -> Shot | None:
        """The newest shot, unless its number is `after`."""
        shot = self._feed.shots.get(self.kind)
        return None if shot is None or shot.number <= after else shot

    def close(self) -> None:
        self._feed.forget(self)


def _clamped(width: int) -> int:
    return min(max(width, LEAST_WIDTH), MOST_WIDTH) if width > 0 else 0


class Feed:
    """Keeps the newest picture for its watchers.

    Args:
        rate: pictures per second, at most.

    Attributes:
        rate: as given; it may change.
        shots: the newest of every kind that is watched.
    """

    def __init__(self, rate: float):
        self.rate = rate
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()
        self.shots: dict[tuple[int, bool], Shot] = {}
        self._number, self._encoded = 0, -1e9

    def watch(self, wake: Callable[[], None], width: int = 0, alpha: bool = False) -> Watcher:
        """Raises UserError where too many watch already."""
        watcher = Watcher(self, width, alpha, wake)
        with self._lock:
            if len(self._watchers) >= MOST_WATCHERS:
                raise UserError(f"{MOST_WATCHERS} pages watch already: close some.")
            self._watchers = (*self._watchers, watcher)
            if len(self._watchers) == 1:
                # What was made for somebody who watched before is old.
                self.shots = {}
        return watcher

    def forget(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)

    @property
    def watched(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def due(self) -> bool:
        """Whether a picture is to be compressed now."""
        now = clock.perf_counter()
        return now - self._encoded >= 0.9 / self.rate and any(one.due(now) for one in self._watchers)

    def publish(
        self, picture: np.ndarray, captured: float, square: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> None:
        """Compress a picture, uint8 RGB or RGBA, for everybody, and wake them.

        Raises:
            OSError: it cannot be compressed.
        """
        self._encoded = now = clock.perf_counter()
        watchers = self._watchers
        self._number += 1
        due = {watcher.kind for watcher in watchers if watcher.due(now)}
        # What others got stays; widths that nobody asks for any more go, and with them their pictures.
        shots = {one.kind: self.shots[one.kind] for one in watchers if one.kind in self.shots}
        for kind in due:
            width, alpha = kind
            alpha = alpha and picture.shape[2] == 4
            shots[kind] = Shot(self._number, captured, to_jpeg(picture, width, alpha), alpha, square)
        self.shots = shots
        for watcher in watchers:
            if watcher.kind in due:
                watcher.served(now)
                watcher.wake()


def to_jpeg(picture: np.ndarray, width: int = 0, alpha: bool = False) -> bytes:
    """uint8 RGB or RGBA (H, W, 3 or 4) as JPEG.

    Args:
        width: make it smaller to this width, where it is wider; 0 leaves it.
        alpha: put the alpha below, as a second picture; else it is laid over black.

    Raises:
        OSError: it cannot be compressed.
    """
    if 0 < width < picture.shape[1]:
        picture = _shrunk(picture, width)
    if alpha:
        # Straight colours, so that edges do not darken twice.
        below = cv2.cvtColor(picture[..., 3], cv2.COLOR_GRAY2BGR)
        bgr = np.vstack([cv2.cvtColor(picture, cv2.COLOR_RGBA2BGR), below])
    elif picture.shape[2] == 4:
        bgr = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGBA2mRGBA), cv2.COLOR_RGBA2BGR)
    else:
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise OSError("the picture could not be compressed")
    return data.tobytes()


def _shrunk(picture: np.ndarray, width: int) -> np.ndarray:
    """To a width in pixels, at the same aspect. Halved exactly as often as that goes, the rest
    bilinear: 1280 x 720 to 748 takes .8 ms, where averaging over fractions of pixels takes 6.
    """
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    while picture.shape[1] >= 2 * width and not (picture.shape[0] % 2 or picture.shape[1] % 2):
        half = picture.shape[1] // 2, picture.shape[0] // 2
        picture = cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
    if picture.shape[1] == width:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


class PictureFeed(Feed, Output):
    """The finished picture: an output like others, whose thread compresses."""

    name = "studio"
    takes_alpha = True
    interval = REPEAT_SECONDS

    def __init__(self):
        super().__init__(MOST_RATE)
        self._began = 0.0
        self._last: tuple[np.ndarray, float] | None = None
        self._kept = -1e9

    def begins(self, at: float) -> None:
        self._began = at

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        captured = self._began + float(time)
        if self.due():
            self.publish(picture, captured)
        now = clock.perf_counter()
        if now - self._kept >= REPEAT_SECONDS:
            # Whoever comes while the source stands still sees this one.
            self._kept, self._last = now, (picture.copy(), captured)

    def repeat(self) -> bool:
        waits = any(watcher.newest() is None for watcher in self._watchers)
        if waits and self._last is not None:
            self.publish(*self._last)
        return False


class CameraFeed(Feed):
    """The camera's picture with the driver's square, compressed in a thread of its own.

    Args:
        square: of the driver, in the frame's pixels; None where there is none.
        framing: whether somebody needs to see how they sit in it just now.
    """

    def __init__(self, square: Callable[[], Square | None], framing: Callable[[], bool]):
        super().__init__(CAMERA_RATE)
        self._square, self._framing = square, framing
        self._offered: Frame | None = None
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = start_thread(self._run, "camera feed", self._stopped)

    def offer(self, frame: Frame) -> None:
        """The newest frame. Never waits; what it costs while nobody watches is this call."""
        if self._watchers:
            wanted = self._framing() or any(watcher.near for watcher in self._watchers)
            self.rate = CAMERA_RATE if wanted else CAMERA_IDLE_RATE
        if self.due():
            with self._changed:
                self._offered = frame
                self._changed.notify()

    def close(self) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(3)

    def _run(self) -> None:
        if sys.platform.startswith("linux"):
            # A thumbnail has time; the moving picture has not.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        while not self._stopped.is_set():
            with self._changed:
                if self._offered is None:
                    self._changed.wait(0.5)
                frame, self._offered = self._offered, None
            if frame is not None:
                with suppress(OSError):
                    self.publish(frame.image, frame.captured, self._shares(frame.image))

    def _shares(self, image: np.ndarray) -> tuple[float, float, float]:
        square, (height, width) = self._square(), image.shape[:2]
        if square is None:
            return (0.0, 0.0, 0.0)
        return square.x / width, square.y / height, square.side / width
