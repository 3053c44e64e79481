"""Delay from camera to output, end to end, by a clock in the picture that travels around the
network.

What counts is the time from the moment a frame exists in the camera until the finished picture of
that frame can be read at the far end of an output. The clock is painted with the first and read at
the second, so nothing in between can be forgotten: decoding, waiting, framing, model, composing,
conversion, hand-over.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from livepuppet.benchmarks import clock
from livepuppet.core.errors import UserError
from livepuppet.core.video import Frame, open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.app.session import Session, parse_size
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.app.stats import LiveStats
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.inputs.cameras import list_cameras

#: JPEG quality of the simulated camera: what webcams send, about 100 kB at 720p.
CAMERA_QUALITY = 85

#: So many frames of the clip are shown over and over: four seconds, 10 MB at 720p.
CLIP_FRAMES = 100

#: Share of a run at its beginning and at its end that are compared to tell whether the delay grows.
ENDS = 0.1


class ClockCamera:
    """A webcam as far as one can be simulated: MJPEG frames of the bundled clip at a steady rate,
    decoded as they come.

    A frame is captured when it is due, as in a camera; decoding comes after and counts as delay.
    Frames for which the reader comes too late are lost, as a driver loses them.

    Args:
        width, height: of the frames, in pixels.
        rate: frames per second.
        seconds: ends after so long.
        timed: keep `decode`, which grows; not for hours.

    Attributes:
        every: see `LiveSource`.
        made, lost: frames delivered, and frames for which the reader came too late.
        decode: seconds that decoding took, by the frame's ticks.
    """

    def __init__(self, width: int, height: int, rate: float, seconds: float, timed: bool = True):
        self.timed = timed
        self.name = f"simulated camera {width}x{height} at {rate:g}"
        self.rate, self.seconds = float(rate), seconds
        self.made = self.lost = 0
        self.every = 1
        self.decode: dict[int, float] = {}
        first = itertools.islice(open_video(bundled.DRIVING), CLIP_FRAMES)
        self._pictures = [_as_webcam(frame.image, width, height) for frame in first]

    def frames(self, stop: threading.Event) -> Iterator[Frame | None]:
        begin, number = time.perf_counter(), 0
        while number / self.rate < self.seconds:
            due = begin + number / self.rate
            if stop.wait(max(0.0, due - time.perf_counter())):
                return
            if number % self.every:
                number += 1
                yield None
                continue
            began = time.perf_counter()
            picture = self.decoded(number)
            clock.paint(picture, int(due / clock.TICK))
            if self.timed:
                self.decode[int(due / clock.TICK)] = time.perf_counter() - began
            self.made += 1
            yield Frame(picture, Fraction(number) / Fraction(self.rate), due)
            late = max(number + 1, int(np.ceil((time.perf_counter() - begin) * self.rate)))
            self.lost += late - number - 1
            number = late

    def decoded(self, number: int) -> np.ndarray:
        """The picture of that number, uint8 RGB (H, W, 3), from its JPEG."""
        data = self._pictures[number % len(self._pictures)]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        pass


def _as_webcam(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The clip's square in the middle of a webcam's frame, as the JPEG a webcam would send."""
    side = min(width, height)
    frame = cv2.resize(cv2.blur(picture, (31, 31)), (width, height), interpolation=cv2.INTER_LINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    frame[top : top + side, left : left + side] = cv2.resize(
        picture, (side, side), interpolation=cv2.INTER_CUBIC
    )
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, CAMERA_QUALITY]
    )
    return data


class Loopback:
    """An output whose far end is here: converts each picture as the virtual camera does, and reads
    the clock off it.

    Attributes:
        readings: (ticks painted, seconds of delay, time of the reading) per picture.
        unreadable: pictures whose clock could not be read.
    """

    name, takes_alpha, queue = "loopback", False, 1

    def __init__(self):
        self.readings: list[tuple[int, float, float]] = []
        self.unreadable = 0

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        planes = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        self.read(planes[: picture.shape[0]])

    def read(self, luma: np.ndarray) -> None:
        """Take one picture, as its luma plane uint8 (H, W)."""
        arrived = time.perf_counter()
        ticks = clock.read(luma)
        if ticks is None:
            self.unreadable += 1
        elif not self.readings or ticks != self.readings[-1][0]:
            # A picture that is sent again, because no newer one came, is not late.
            self.readings.append((ticks, arrived - ticks * clock.TICK, arrived))

    def close(self) -> None:
        pass


class Recorder(LiveStats):
    """Live statistics that also keep what every frame took in the model."""

    def __init__(self):
        super().__init__()
        self.model: dict[int, float] = {}

    def add(self, captured: float, marks: dict[str, float], handed_over: float) -> None:
        super().add(captured, marks, handed_over)
        self.model[int(captured / clock.TICK)] = marks["detect"] + marks["render"]


def _percentiles(seconds: np.ndarray) -> dict[str, float]:
    if not len(seconds):
        return {}
    return {
        f"p{percent}": round(float(np.percentile(seconds, percent)) * 1000, 2) for percent in (50, 95, 99)
    }


def figures(
    readings: list[tuple[int, float, float]],
    model: dict[int, float],
    decode: dict[int, float] | None = None,
    skip: float = 1.0,
) -> dict:
    """What the readings of one run say, in milliseconds.

    Args:
        readings: of `Loopback`.
        model: seconds in the model by the frame's ticks; empty where frames cannot be told apart,
            as behind a driver.
        decode: seconds in which the camera's JPEG was decoded, likewise; none where the camera
            sends none.
        skip: seconds at the beginning that do not count (caches and the processor's clock warm up).

    Returns:
        frames; delay, model, decode and added (delay less those two, frame by frame: waiting,
        framing, motion, composing, conversion, threads) as p50/p95/p99; jitter: of the delay (p95 -
        p50) and of the interval between pictures (standard deviation); first and last: median delay
        of the run's ends; pause: the longest interval.
    """
    # Pictures of the avatar at rest, before the neutral pose was taken, went through no model.
    readings = [reading for reading in readings if reading[0] in model] if model else readings
    if readings:
        begin = readings[0][2]
        readings = [reading for reading in readings if reading[2] - begin >= skip]
    delay = np.array([reading[1] for reading in readings])
    arrived = np.array([reading[2] for reading in readings])
    of_model = np.array([model[reading[0]] for reading in readings] if model else [])
    of_decoding = np.array([decode[reading[0]] for reading in readings] if decode else [])
    added = delay - of_model - (of_decoding if decode else 0.0) if model else np.array([])
    end = max(1, int(len(delay) * ENDS))
    return {
        "frames": len(delay),
        "delay_ms": _percentiles(delay),
        "model_ms": _percentiles(of_model),
        "decode_ms": _percentiles(of_decoding),
        "added_ms": _percentiles(added),
        "jitter_ms": {
            "delay_p95_less_p50": round(float(np.percentile(delay, 95) - np.median(delay)) * 1000, 2),
            "interval_deviation": round(float(np.diff(arrived).std()) * 1000, 2) if len(delay) > 2 else 0.0,
        }
        if len(delay)
        else {},
        "first_ms": round(float(np.median(delay[:end])) * 1000, 2) if len(delay) else None,
        "last_ms": round(float(np.median(delay[-end:])) * 1000, 2) if len(delay) else None,
        "pause_ms": round(float(np.diff(arrived).max()) * 1000, 1) if len(delay) > 1 else None,
    }


def clocked(settings: dict[str, Any], engine: Engine, **parts: Any) -> Session:
    """A live session with default settings and `settings`, through which the clock travels.

    It has nothing that listens, remembers or waits for a person, and begins at once.

    Args:
        parts: of `Session`.
    """
    chosen = merge(
        Settings(),
        {
            "avatar": str(bundled.AVATAR),
            "outputs": (),
            "enabled": False,
            "countdown": 0.0,
            **settings,
        },
    )
    return Session(chosen, engine, carry=clock.carry, keyboard=False, notify=lambda sentence: None, **parts)


def through_a_loopback(
    engine: Engine,
    seconds: float,
    rate: float,
    size: str = "1280x720",
    sharp: bool = True,
    frames: int | None = None,
    skip: float = 1.0,
) -> dict:
    """The delay from a simulated camera, through the real live session, to an output whose far end
    is here.

    Args:
        sharp: bend the avatar's own pixels, as is the default.
        frames: end earlier, after so many.
        skip: see `figures`.

    Returns:
        `figures`, with rate, frames made, lost and dropped.
    """
    camera, far, recorder = ClockCamera(*parse_size(size), rate, seconds), Loopback(), Recorder()
    wanted = {"size": size, "sharp": sharp}
    with clocked(wanted, engine, source=camera, outputs=[far], frames=frames) as session:
        session.live.stats = recorder
        session.run()
        facts = figures(far.readings, recorder.model, camera.decode, skip)
    return {
        "rate": rate,
        "sharp": sharp,
        **facts,
        "made": camera.made,
        "dropped": recorder.dropped,
        "lost_in_camera": camera.lost,
        "unreadable": far.unreadable,
    }


class FarEnd(threading.Thread):
    """Reads a virtual camera as another program does, and the clock off each picture.

    Args:
        device: such as /dev/video9.
    """

    def __init__(self, device: str):
        super().__init__(name="far end", daemon=True)
        self._device, self._end, self.loopback = device, threading.Event(), Loopback()

    def run(self) -> None:
        capture = cv2.VideoCapture()
        # With exclusive_caps the device cannot be read before somebody writes to it.
        while not self._end.is_set() and not capture.open(self._device, cv2.CAP_V4L2):
            self._end.wait(0.2)
        while not self._end.is_set():
            ok, picture = capture.read()
            if ok:
                self.loopback.read(picture[..., 1])
        capture.release()

    def stop(self) -> None:
        self._end.set()
        self.join(timeout=5)


def through_devices(
    engine: Engine, feed: str, read: str, seconds: float, rate: float, size: str = "1280x720"
) -> dict:
    """The delay from a real V4L2 camera to the far end of a real virtual camera.

    Args:
        feed: a v4l2loopback device that another process feeds with pictures with a clock; it is the
            camera.
        read: the virtual camera, a v4l2loopback device.

    Returns:
        `figures`, without the model's share of single frames: the driver gives them times of its
        own.
    """
    width, height = parse_size(size)
    recorder, far = Recorder(), FarEnd(read)
    feeder = subprocess.Popen(
        [sys.executable, "-m", "livepuppet.benchmarks.feed_clock", feed, str(width), str(height), str(rate)]
    )
    try:
        wait_for_camera(feed)
        wanted = {"size": size, "driving": feed, "camera_size": size, "outputs": (f"virtual:{read}",)}
        with clocked(wanted, engine) as session:
            session.live.stats = recorder
            far.start()
            threading.Timer(seconds, session.live.stop).start()
            session.run()
            far.stop()
    finally:
        feeder.kill()
    return {
        "rate": rate,
        **figures(far.loopback.readings, {}),
        "model_ms": _percentiles(np.array(list(recorder.model.values()))),
        "dropped": recorder.dropped,
        "unreadable": far.loopback.unreadable,
    }


def wait_for_camera(device: str, patience: float = 60.0) -> None:
    """Wait until a device that is being fed can be read. Raises UserError if that does not happen."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if any(camera.path == device and camera.capture for camera in list_cameras()):
            return
        time.sleep(0.2)
    raise UserError(f"{device} did not become a camera: give a v4l2loopback device that nothing else feeds.")
