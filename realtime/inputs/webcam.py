"""A webcam as a live source, which may be unplugged and come back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.video import Frame
from livepuppet.realtime.inputs.cameras import CameraInfo, backend, find_again, list_cameras
from livepuppet.realtime.inputs.watch import ImageWatch

#: Seconds that OpenCV waits in the driver for one picture. Its own ten are too long to notice that
#: a camera is gone, and a loopback device that is held open cannot be fed anew.
DRIVER_TIMEOUT = 2
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(DRIVER_TIMEOUT))

#: Seconds that a camera may take to its first picture; capture cards find their signal slowly.
FIRST_PICTURE_SECONDS = 8.0

#: A camera that fails for so many seconds is gone. Single bad pictures (a damaged JPEG) are no
#: reason.
PATIENCE_SECONDS = 1.0

#: Seconds between looks whether a camera that is gone has come back.
RETRY_SECONDS = 0.5

#: A driver's capture time is believed where it lies so many seconds in the past at most; some run
#: on other clocks.
OLDEST_STAMP = 1.0


def parse_pixel_format(text: str) -> str:
    """Four letters such as MJPG, YUYV or NV12, in capitals. Raises UserError if it is anything
    else.
    """
    code = text.strip().upper()
    if len(code) != 4 or not code.isascii() or not code.isalnum():
        raise UserError(
            f"The pixel format '{text}' is not four letters, as MJPG or YUYV: livepuppet devices lists what each "
            "camera has."
        )
    return code


class Camera:
    """A webcam, read through OpenCV. When it is unplugged it is looked for, by name and socket,
    until it is back.

    Args:
        info: of `find_camera`.
        width, height, rate: to ask for; the camera takes the nearest it has.
        pixel_format: to ask for, as four letters. MJPG, because raw pictures of 1280x720 do not fit
            through USB 2 at 30 per second; a camera without it keeps its own.

    Attributes:
        trouble, silence, note, every: see `LiveSource`.
        given: width, height and pixel format that the camera really delivers; the format is empty
            where the system does not say.

    Raises:
        UserError: if it cannot be opened or delivers nothing.
    """

    def __init__(
        self,
        info: CameraInfo,
        width: int = 1280,
        height: int = 720,
        rate: float = 30.0,
        pixel_format: str = "MJPG",
    ):
        self.info = info
        self.trouble: str | None = None
        self.every = 1
        self._asked = (width, height, parse_pixel_format(pixel_format))
        self._asked_rate = rate
        self._capture = self._open()
        self._twins = [camera for camera in list_cameras() if camera.name == info.name]
        self.rate = self._capture.get(cv2.CAP_PROP_FPS) or rate
        if not 1 <= self.rate <= 240:
            self.rate = rate
        self._watch = ImageWatch(
            f"The {self.name} shows only black: open its shutter, uncover the lens, or make light.",
            f"The {self.name} shows the same picture all the time: unplug it and plug it in again, or close the "
            "program that feeds it.",
        )

    @property
    def name(self) -> str:
        return f"camera {self.info}"

    @property
    def silence(self) -> str:
        return (
            f"The {self.name} delivers no pictures: plug it in again, and close other programs that use it."
        )

    def _open(self, stop: threading.Event | None = None) -> cv2.VideoCapture:
        """Open `info` with what was asked for, and wait for its first picture. Raises UserError."""
        width, height, pixel_format = self._asked
        # The format comes first: the size is then looked for among those of this format. All of it
        # before the first picture is asked for, as some drivers restart their stream for each wish,
        # or ignore it.
        capture = cv2.VideoCapture(
            self.info.number,
            backend(),
            [
                *(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixel_format)),
                *(cv2.CAP_PROP_FRAME_WIDTH, width),
                *(cv2.CAP_PROP_FRAME_HEIGHT, height),
                *(cv2.CAP_PROP_FPS, round(self._asked_rate)),
            ],
        )
        if not capture.isOpened():
            # Some back ends refuse a parameter list with a wish they cannot grant.
            capture.open(self.info.number, backend())
        picture = _first_picture(capture, stop)
        if picture is None:
            capture.release()
            raise UserError(
                f"The {self.name} delivers no pictures: close other programs that use it, plug it in again, and allow "
                "camera access in the system's privacy settings."
            )
        height, width = picture.shape[:2]
        self.given = (width, height, _letters(capture.get(cv2.CAP_PROP_FOURCC)))
        return capture

    @property
    def note(self) -> str | None:
        """What the camera delivers, in a sentence, where it is not what it was asked for."""
        asked, given = self._asked, self.given
        if given[:2] == asked[:2] and given[2] in ("", asked[2]):
            return None
        return (
            f"The {self.name} gives {given[0]}x{given[1]} {given[2]}".rstrip()
            + f" instead of {asked[0]}x{asked[1]} {asked[2]}; livepuppet devices lists what it has."
        )

    def frames(self, stop: threading.Event) -> Iterator[Frame | None]:
        first = None
        while not stop.is_set():
            for picture, captured in self._pictures(stop):
                if picture is None:
                    yield None
                    continue
                first = captured if first is None else first
                self.trouble = self._watch.look(picture, captured)
                yield Frame(picture, Fraction(captured - first), captured)
            if stop.is_set():
                return
            self.trouble = f"The {self.name} is gone: plug it in again, or start the program that feeds it."
            # Released at once: a node that is held open keeps its number taken, and a loopback its
            # feeder out.
            self._capture.release()
            self._wait_until_back(stop)
            self._watch.start_over()

    def _pictures(self, stop: threading.Event) -> Iterator[tuple[np.ndarray | None, float]]:
        """RGB pictures with their capture times, until the camera fails for too long; None for those that are left out."""
        good, number = time.perf_counter(), 0
        while not stop.is_set():
            # `grab` waits for the picture; decoding comes after, and counts as delay. Pictures that
            # are dropped are decoded, too: 4 ms for a 720p JPEG on this thread cost less than the
            # loop's waiting for them.
            asked = time.perf_counter()
            grabbed = self._capture.grab()
            captured, number = time.perf_counter(), number + 1
            if grabbed and number % self.every:
                good = captured
                yield None, captured
                continue
            ok, picture = self._capture.retrieve() if grabbed else (False, None)
            if ok and picture is not None:
                good = time.perf_counter()
                # DirectShow waits in `retrieve`.
                captured = good if backend() == cv2.CAP_DSHOW else self._stamp(captured)
                yield _rgb(picture), captured
            elif (
                captured - asked >= DRIVER_TIMEOUT
                or time.perf_counter() - good > PATIENCE_SECONDS
                or (self.info.path and not os.path.exists(self.info.path))
            ):
                return
            else:
                stop.wait(0.01)

    def _stamp(self, captured: float) -> float:
        """The driver's own capture time where there is one: what the picture waited in the driver
        is delay, too.

        V4L2 stamps with the clock that `perf_counter` reads on Linux; whoever does not comes out
        far off.
        """
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return stamp if 0 <= captured - stamp < OLDEST_STAMP else captured

    def _wait_until_back(self, stop: threading.Event) -> None:
        while not stop.is_set():
            found = find_again(self.info, self._twins)
            if found is not None:
                before, self.info = self.info, found
                try:
                    self._capture = self._open(stop)
                    return
                except UserError:
                    self.info = before
            stop.wait(RETRY_SECONDS)

    def close(self) -> None:
        self._capture.release()


def _first_picture(capture: cv2.VideoCapture, stop: threading.Event | None) -> np.ndarray | None:
    end = time.perf_counter() + FIRST_PICTURE_SECONDS
    while capture.isOpened() and time.perf_counter() < end and not (stop and stop.is_set()):
        ok, picture = capture.read()
        if ok and picture is not None:
            return picture
        time.sleep(0.02)
    return None


def _letters(fourcc: float) -> str:
    """Four letters of a pixel format's number, or an empty text where it is none."""
    code = int(fourcc) if fourcc == fourcc else 0
    letters = (code & 0xFFFF_FFFF).to_bytes(4, "little").decode("ascii", errors="replace").strip("\0 ")
    return letters if letters.isalnum() else ""


def _rgb(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB if picture.ndim == 2 else cv2.COLOR_BGR2RGB)
