"""Live driving: a thread that reads the source, and one slot in which the newest frame wins."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import cv2

from livepuppet.realtime.errors import UserError
from livepuppet.realtime.inputs.cameras import CameraInfo, backend
from livepuppet.realtime.inputs.clips import Clip, Frame, PictureSequence, is_url, open_clip

#: A camera that delivers nothing for so many reads in a row is gone.
PATIENCE_READS = 30


class LiveSource(Protocol):
    """Something that delivers frames at its own pace.

    Attributes:
        name: how to speak of it.
        rate: frames per second it says it delivers; a hint.
    """

    name: str
    rate: float

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        """Frames as they come, until the source ends or `stop` is set. Raises UserError where it fails."""

    def close(self) -> None:
        """Release it; `frames` must have ended."""


class Camera:
    """A webcam, read through OpenCV.

    Args:
        info: of `find_camera`.
        width, height, rate: to ask for; the camera takes the nearest it has.

    Raises:
        UserError: if it cannot be opened or delivers nothing.
    """

    def __init__(self, info: CameraInfo, width: int = 1280, height: int = 720, rate: float = 30.0):
        self.name = f"camera {info.number} ({info.name})"
        # MJPG because raw pictures of this size do not fit through USB 2 at full rate. As parameters of the
        # constructor: set one by one afterwards, some drivers restart their stream for each or ignore the format.
        # A camera without MJPG keeps its own format.
        self._capture = cv2.VideoCapture(
            info.number,
            backend(),
            [
                *(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
                *(cv2.CAP_PROP_FRAME_WIDTH, width),
                *(cv2.CAP_PROP_FRAME_HEIGHT, height),
                *(cv2.CAP_PROP_FPS, round(rate)),
            ],
        )
        if not self._capture.isOpened():
            # Some back ends refuse a parameter list with a wish they cannot grant.
            self._capture.open(info.number, backend())
        if not self._capture.isOpened() or not self._capture.grab():
            self._capture.release()
            raise UserError(
                f"The {self.name} delivers no pictures: close other programs that use it, plug it in again, and allow "
                "camera access in the system's privacy settings."
            )
        self.rate = self._capture.get(cv2.CAP_PROP_FPS) or rate
        if not 1 <= self.rate <= 240:
            self.rate = rate

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        first, misses = None, 0
        while not stop.is_set():
            # `grab` waits for the picture; decoding comes after, and counts as delay.
            grabbed = self._capture.grab()
            captured = time.perf_counter()
            ok, picture = self._capture.retrieve() if grabbed else (False, None)
            if not ok or picture is None:
                misses += 1
                if misses >= PATIENCE_READS:
                    raise UserError(
                        f"The {self.name} stopped delivering pictures: plug it in again and restart."
                    )
                stop.wait(0.01)
                continue
            misses = 0
            first = captured if first is None else first
            if picture.ndim == 2:
                picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
            rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            yield Frame(rgb, Fraction(captured - first), captured)

    def close(self) -> None:
        self._capture.release()


class Playback:
    """A video file, folder or network stream as if it were a camera: every frame at its own time.

    Args:
        source: path or URL.
        loop: start again at the end (files only).

    Raises:
        UserError: if it cannot be opened.
    """

    def __init__(self, source: str, loop: bool = False):
        self.name = source
        self._loop = loop
        # What FFmpeg gathers before it starts would stay as delay. A file that a web server sends needs that, though.
        streams = is_url(source) and not source.startswith(("http://", "https://"))
        options = {"fflags": "nobuffer", "rtsp_transport": "tcp"} if streams else None
        self._clip: Clip | PictureSequence = Clip(source, options) if options else open_clip(source)
        self.rate = float(self._clip.rate)
        # A stream without an end brings its own pace, and waiting would only add delay.
        self._paced = self._clip.seconds is not None

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        begin, shift = None, Fraction(0)
        while True:
            end = shift
            for frame in self._clip:
                if stop.is_set():
                    return
                begin = time.perf_counter() if begin is None else begin
                if self._paced and stop.wait(
                    max(0.0, begin + float(shift + frame.time) - time.perf_counter())
                ):
                    return
                end = shift + frame.time + (frame.duration or 1 / self._clip.rate)
                yield Frame(frame.picture, shift + frame.time, time.perf_counter(), frame.duration)
            if self._clip.broken:
                raise UserError(f"{self._clip.broken}; repair or replace the driving video.")
            if not self._loop or not self._paced or end == shift:
                return
            shift = end
            self._clip.close()
            self._clip = open_clip(self.name)

    def close(self) -> None:
        self._clip.close()


class Capture:
    """Reads a live source in a thread of its own and keeps its newest frame for whoever asks.

    Anything longer than one slot would be a queue, and a queue in front of a slower stage is delay that never goes
    away. A frame that nobody took before the next came counts as dropped.

    Attributes:
        captured: frames read so far.
        dropped: frames overwritten before anybody took them.
    """

    def __init__(self, source: LiveSource):
        self.source = source
        self.captured = self.dropped = 0
        self._slot: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for frame in self.source.frames(self._stop):
                with self._changed:
                    self.captured += 1
                    self.dropped += self._slot is not None
                    self._slot = frame
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    @property
    def ended(self) -> bool:
        """Whether there will be no further frame."""
        with self._changed:
            return self._ended and self._slot is None

    def counts(self) -> tuple[int, int]:
        """How many frames were taken or dropped so far, and how many of them dropped; not the one in the slot."""
        with self._changed:
            return self.captured - (self._slot is not None), self.dropped

    def take(self, timeout: float) -> Frame | None:
        """The newest frame, waiting up to `timeout` seconds for one; None if there is none (then see `ended`).

        Raises:
            UserError: once the frames before it are used up, what the source failed with.
        """
        with self._changed:
            if self._slot is None and not self._ended:
                self._changed.wait(timeout)
            frame, self._slot = self._slot, None
            if frame is None and self._error is not None:
                error, self._error = self._error, None
                raise error
            return frame

    def close(self) -> None:
        """Stop reading and release the source. A driver that hangs is left to its thread."""
        self._stop.set()
        self._thread.join(timeout=3)
        if not self._thread.is_alive():
            self.source.close()
