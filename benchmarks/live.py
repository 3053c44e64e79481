"""The whole live loop, per engine: camera to output at 720p, alone and beside another busy process.

A simulated webcam sends MJPEG frames of the bundled clip, which are decoded as a real one's are; a
real session frames, detects, moves, renders and composes them; an output converts them as the
virtual camera does. The delay is read off a clock in the picture, see `latency`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from livepuppet.benchmarks import clock
from livepuppet.benchmarks.latency import ClockCamera, Loopback, Recorder, clocked
from livepuppet.benchmarks.soak import BUSY
from livepuppet.benchmarks.workers import Worker, WorkerError
from livepuppet.core.engine import Precision
from livepuppet.core.errors import UserError
from livepuppet.core.memory import peak_bytes, resident_bytes
from livepuppet.core.video import Frame
from livepuppet.realtime.app.session import parse_size
from livepuppet.realtime.engines import load_engine

#: Seconds at the beginning that do not count: framing, caches, the processor's clock.
SKIP = 1.5

#: Seconds between looks at what threads have had of the cores.
LOOK_EVERY = 0.5

#: Percentiles of the delay that are kept, for the plot.
PERCENTILES = (*range(0, 100, 2), 99, 100)


class Cores(Recorder):
    """Live statistics that also tell how much of a core each thread takes.

    Args:
        skip: seconds after the first frame before which nothing counts.
    """

    def __init__(self, skip: float):
        super().__init__()
        self._skip, self._looked = skip, 0.0
        self._first: tuple[int, dict[str, float]] | None = None
        self._last: tuple[int, dict[str, float]] | None = None

    def add(self, captured: float, marks: dict[str, float], handed_over: float) -> None:
        super().add(captured, marks, handed_over)
        if self.seconds < self._skip or handed_over - self._looked < LOOK_EVERY:
            return
        self._looked, seconds = handed_over, _core_seconds()
        self._first = self._first or (self.frames, seconds)
        # Once the camera has ended nobody knows any more what it took.
        if seconds and self._first[1].keys() <= seconds.keys():
            self._last = self.frames, seconds

    @property
    def milliseconds(self) -> dict[str, float]:
        """Of a core, per frame that was shown: by thread of Python's, of the `others`, which libraries start, and of `all`. Empty where
        the system does not tell (only Linux does), and after too short a run.
        """
        if self._first is None or self._last is None or self._first[0] == self._last[0]:
            return {}
        (frames, before), (later, after) = self._first, self._last
        passed = {name: after[name] - before.get(name, 0.0) for name in after}
        passed["others"] = 2 * passed["all"] - sum(passed.values())
        return {name: round(1e3 * seconds / (later - frames), 2) for name, seconds in passed.items()}


def _core_seconds() -> dict[str, float]:
    """What each of Python's threads has had of the cores until now, and `all` of this process."""
    found: dict[str, float] = {}
    for thread in threading.enumerate():
        with suppress(OSError):
            told = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
            found[thread.name] = found.get(thread.name, 0.0) + int(told.split()[0]) / 1e9
    return {**found, "all": time.process_time()} if found else {}


class EagerCamera(ClockCamera):
    """A camera that always has the next frame ready: how fast everything behind it can go.

    A frame is captured when the loop has taken the one before it, and decoded while the loop works
    on that.

    Args:
        width, height, seconds: of `ClockCamera`.
    """

    def __init__(self, width: int, height: int, seconds: float):
        super().__init__(width, height, 30.0, seconds, timed=False)
        self.name = f"simulated camera {width}x{height}, as fast as it goes"
        self.taken = threading.Event()

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        begin = time.perf_counter()
        while time.perf_counter() - begin < self.seconds and not stop.is_set():
            picture = self.decoded(self.made)
            captured = time.perf_counter()
            clock.paint(picture, int(captured / clock.TICK))
            self.made += 1
            self.taken.clear()
            yield Frame(picture, Fraction(captured - begin), captured)
            # So that a session that has ended is noticed.
            while not self.taken.wait(0.05) and not stop.is_set():
                pass


class LiveRun:
    """One run, in a `Worker`.

    Args:
        engine, model, device, precision, threads: see `load_engine`.
        rate: of the camera in frames per second; None for as fast as it goes.
        seconds: length.
        size: of camera and output, WIDTHxHEIGHT.
        sharp: bend the avatar's own pixels, as is the default.
        adapt: leave details out while there is too little time, as is the default.
        skip: seconds at the beginning that do not count.

    Attributes:
        ready: fps, dropped, delay_ms (p50, p95, p99), delays_ms (at `PERCENTILES`), stages_ms, core_ms
            (see `Cores.milliseconds`), memory_mb (the most), resident_mb (at the end), and what ran.
    """

    def __init__(
        self,
        engine: str | None = None,
        model: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        rate: float | None = 30.0,
        seconds: float = 15.0,
        size: str = "1280x720",
        sharp: bool = True,
        adapt: bool = True,
        skip: float = SKIP,
    ):
        path = Path(model) if model else None
        # The session's rig draws, as is the default.
        machine = load_engine(engine, path, threads, device, precision, use="detect")
        width, height = parse_size(size)
        if rate is None:
            camera = EagerCamera(width, height, seconds)
        else:
            camera = ClockCamera(width, height, rate, seconds)
        far, recorder = Loopback(), Cores(skip)
        with clocked(
            {"size": size, "sharp": sharp, "adapt": adapt}, machine, source=camera, outputs=[far]
        ) as session:
            session.live.stats = recorder
            if isinstance(camera, EagerCamera):
                _tell_when_taken(session.live.capture, camera)
            session.run()
            resident = resident_bytes()
        if session.live.stats.errors:
            raise UserError(f"Frames failed: {next(iter(session.live.stats.errors))}.")
        self.ready = {
            "model": machine.model_name,
            "engine": machine.name,
            "device": machine.device,
            "precision": machine.precision,
            "provider": machine.provider,
            "rate": rate,
            "size": size,
            "sharp": sharp,
            "adapt": adapt,
            **figures(far.readings, recorder, skip),
            "stages_ms": {name: durations.summary() for name, durations in recorder.stages.items()},
            "core_ms": recorder.milliseconds,
            "dropped": recorder.dropped,
            "reduced": dict(recorder.reduced),
            "memory_mb": round(peak_bytes() / 1e6, 1),
            "resident_mb": round(resident / 1e6, 1),
        }


def _tell_when_taken(capture, camera: EagerCamera) -> None:
    """Wake the camera whenever the loop takes a frame from the slot."""
    take = capture.take

    def taking(timeout: float) -> Frame | None:
        frame = take(timeout)
        if frame is not None:
            camera.taken.set()
        return frame

    capture.take = taking


def figures(readings: Sequence[tuple[int, float, float]], recorder: Recorder, skip: float) -> dict:
    """FPS and delays of the frames that went through the model, after `skip` seconds.

    Args:
        readings: of `Loopback`.
    """
    animated = [reading for reading in readings if reading[0] in recorder.model]
    kept = [reading for reading in animated if reading[2] - animated[0][2] >= skip]
    if len(kept) < 2:
        raise UserError("Too few frames came through: give a longer --seconds.")
    delays = 1000 * np.array([reading[1] for reading in kept])
    return {
        "frames": len(kept),
        "fps": round((len(kept) - 1) / (kept[-1][2] - kept[0][2]), 2),
        "delay_ms": {
            f"p{percent}": round(float(np.percentile(delays, percent)), 2) for percent in (50, 95, 99)
        },
        "delays_ms": [round(float(value), 2) for value in np.percentile(delays, PERCENTILES)],
    }


def measure(busy: bool = False, **arguments) -> dict:
    """One run in a process of its own, with another one beside it that keeps a core busy if `busy`.

    Args:
        arguments: of `LiveRun`.

    Returns:
        `LiveRun.ready` with `busy`; or the arguments with `error`, why there are no figures.
    """
    beside = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        with Worker("livepuppet.benchmarks.live:LiveRun", **arguments) as worker:
            return {**worker.ready, "busy": busy}
    except (UserError, WorkerError) as error:
        return {**arguments, "busy": busy, "error": str(error)}
    finally:
        if beside is not None:
            beside.kill()
            beside.wait()


def heading() -> list[str]:
    """The first lines of the Markdown table."""
    return [
        "| engine | device | precision | camera | beside | FPS | dropped | delay p50 / p95 / p99 ms | memory MB (peak) |",
        "|---|---|---|---|---|--:|--:|--:|--:|",
    ]


def line(row: dict) -> str:
    """A row of it."""
    camera = "as fast as it goes" if row["rate"] is None else f"{row['rate']:g} FPS"
    beside = "a busy process" if row["busy"] else "-"
    head = f"| {row['engine']} | {row.get('device') or '-'} | {row.get('precision') or '-'} | {camera} | {beside} |"
    if "error" in row:
        return f"{head} {row['error'].replace('|', '/')} |" + " |" * 3
    delays = " / ".join(f"{row['delay_ms'][name]:.1f}" for name in ("p50", "p95", "p99"))
    return f"{head} {row['fps']:.1f} | {row['dropped']} | {delays} | {row['resident_mb']:.0f} ({row['memory_mb']:.0f}) |"
