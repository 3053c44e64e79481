"""What other cameras show, for the list in which one is chosen."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.studio.feeds import to_jpeg
from livepuppet.realtime.inputs.cameras import CameraInfo
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.webcam import Camera

#: Seconds after which a camera that nobody looks at is switched off again.
IDLE = 5.0

#: So many are open at once; a USB controller carries few.
MOST_OPEN = 2

#: Asked of a camera: thumbnails need no more.
SIZE, RATE, WIDTH = (640, 360), 15.0, 240

#: Seconds to wait for a picture.
PATIENCE = 2.0


class Previews:
    """Opens cameras while somebody looks at their thumbnails. Thread safe."""

    def __init__(self):
        self._open: dict[int, Capture] = {}
        self._asked: dict[int, float] = {}
        self._lock = threading.Lock()
        self._ended = False

    def jpeg(self, info: CameraInfo) -> bytes:
        """A picture of the camera now.

        Raises:
            UserError: it cannot be opened, or delivers nothing.
        """
        with self._lock:
            if self._ended:
                raise UserError("The studio ends.")
            self._asked[info.number] = time.monotonic()
            capture = self._open.get(info.number)
            if capture is None:
                self._make_room()
                capture = self._open[info.number] = Capture(Camera(info, *SIZE, RATE))
                self._look_again()
            frame = capture.take(PATIENCE)
            if frame is None:
                raise UserError(f"The {capture.source.name} delivers no pictures: plug it in again.")
            return to_jpeg(frame.image, WIDTH)

    def release(self, number: int | None = None) -> None:
        """Switch a camera off, or all of them."""
        with self._lock:
            for known in [number] if number is not None else list(self._open):
                self._close(known)

    def close(self) -> None:
        self._ended = True
        self.release()

    def _make_room(self) -> None:
        while len(self._open) >= MOST_OPEN:
            self._close(min(self._open, key=lambda number: self._asked[number]))

    def _close(self, number: int) -> None:
        capture = self._open.pop(number, None)
        if capture is not None:
            with suppress(Exception):
                capture.close()

    def _close_idle(self) -> None:
        with self._lock:
            for number in list(self._open):
                if time.monotonic() - self._asked[number] >= IDLE - 0.1:
                    self._close(number)
            left = bool(self._open) and not self._ended
        if left:
            self._look_again()

    def _look_again(self) -> None:
        timer = threading.Timer(IDLE, self._close_idle)
        timer.daemon = True
        timer.start()
