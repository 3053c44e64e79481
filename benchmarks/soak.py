"""Hours of running, in short: what memory, delay and losses do over time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np

from livepuppet.benchmarks.latency import ClockCamera, Loopback, clocked
from livepuppet.core.memory import resident_bytes
from livepuppet.realtime.app.session import parse_size
from livepuppet.realtime.engines import Engine


def open_files() -> int:
    """File descriptors of this process; 0 where the system does not say."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


@dataclass(frozen=True)
class Sample:
    """What went on in one interval.

    Attributes:
        minute: since the start, at the interval's end.
        memory: resident, in bytes.
        frames, dropped: animated and overtaken in the interval.
        p50, p95: of the delay in the interval, in milliseconds.
        threads, files: open at its end.
        beside: whether the busy process was there for most of it.
        reduced: steps by which quality was reduced then, see `livepuppet.realtime.app.load`.
    """

    minute: float
    memory: int
    frames: int
    dropped: int
    p50: float
    p95: float
    threads: int
    files: int
    beside: bool = False
    reduced: int = 0


#: A process that does nothing but keep one core busy.
BUSY = "while True: pass"


class Guest:
    """A process that keeps one core busy, and comes and goes.

    Args:
        seconds: for so long it is away, and then there.
    """

    def __init__(self, seconds: float):
        self._seconds, self._process = seconds, None
        self._came: float | None = None
        self._stayed = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guest", daemon=True)

    @property
    def there(self) -> bool:
        return self._process is not None

    def stayed(self) -> float:
        """Seconds for which it has been there until now."""
        came, stayed = self._came, self._stayed
        return stayed if came is None else stayed + time.perf_counter() - came

    def __enter__(self) -> Guest:
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            self._process = subprocess.Popen([sys.executable, "-c", BUSY])
            self._came = time.perf_counter()
            try:
                self._end.wait(self._seconds)
            finally:
                self._process.kill()
                self._process.wait()
                self._process = None
                self._came, self._stayed = None, self.stayed()


class Sampler(threading.Thread):
    """Takes a sample of a running session at even intervals, until stopped.

    Args:
        live: the session's loop.
        readings: a list to which the far end of an output adds (ticks, seconds of delay, time).
        interval: seconds.
        show: called with each sample.
        guest: beside the session.
    """

    def __init__(
        self, live, readings: list, interval: float, show=lambda sample: None, guest: Guest | None = None
    ):
        super().__init__(name="sampler", daemon=True)
        self.live, self.readings, self.interval, self.show = live, readings, interval, show
        self.guest = guest
        self.samples: list[Sample] = []
        self._end = threading.Event()

    def run(self) -> None:
        begin, frames, dropped, stayed = time.perf_counter(), 0, 0, 0.0
        while not self._end.wait(self.interval):
            # The list is read and emptied, so that measuring is not what grows.
            taken = len(self.readings)
            delays = np.array([reading[1] for reading in self.readings[:taken]]) * 1000
            del self.readings[:taken]
            state = self.live.state()
            before, stayed = stayed, 0.0 if self.guest is None else self.guest.stayed()
            sample = Sample(
                round((time.perf_counter() - begin) / 60, 2),
                resident_bytes(),
                state["frames"] - frames,
                state["dropped"] - dropped,
                round(float(np.percentile(delays, 50)), 2) if taken else 0.0,
                round(float(np.percentile(delays, 95)), 2) if taken else 0.0,
                threading.active_count(),
                open_files(),
                stayed - before > self.interval / 2,
                len(state["reduced"]),
            )
            frames, dropped = state["frames"], state["dropped"]
            self.samples.append(sample)
            self.show(sample)

    def stop(self) -> None:
        self._end.set()
        self.join(timeout=5)


def verdict(samples: list[Sample]) -> dict:
    """Beginning and end of a run: means over its first and last tenth, the very first interval left
    out.

    Returns:
        memory_mb, p50_ms and p95_ms as [first, last]; frames and dropped in all; memory_mb_per_hour
        by a straight line.
    """
    rest = samples[1:] or samples
    end = max(1, len(rest) // 10)

    def ends(value):
        return [
            round(float(np.mean([value(sample) for sample in part])), 2) for part in (rest[:end], rest[-end:])
        ]

    minutes = np.array([sample.minute for sample in rest])
    memory = np.array([sample.memory for sample in rest]) / 1e6
    slope = np.polyfit(minutes / 60, memory, 1)[0] if len(rest) > 2 else 0.0
    return {
        "minutes": samples[-1].minute if samples else 0.0,
        "memory_mb": ends(lambda sample: sample.memory / 1e6),
        "memory_mb_per_hour": round(float(slope), 2),
        "p50_ms": ends(lambda sample: sample.p50),
        "p95_ms": ends(lambda sample: sample.p95),
        "frames": sum(sample.frames for sample in samples),
        "dropped": sum(sample.dropped for sample in samples),
        "threads": [rest[0].threads, rest[-1].threads],
        "files": [rest[0].files, rest[-1].files],
    }


def soak(
    engine: Engine,
    minutes: float,
    rate: float = 30.0,
    size: str = "1280x720",
    outputs: Sequence[str] = (),
    interval: float = 60.0,
    show: Callable[[Sample], None] = lambda sample: None,
    guest: float | None = None,
) -> dict:
    """Run a live session for long, with a simulated camera and a loopback output, and say what
    changed.

    Args:
        rate: of the camera; above what the machine can do it runs at full speed.
        outputs: further ones, as `livepuppet run --output` takes them.
        interval: seconds per sample.
        show: called with each sample.
        guest: of a `Guest`, which is beside it; None for none.

    Returns:
        `verdict` and the samples; frames by what was reduced in them.
    """
    camera, far = ClockCamera(*parse_size(size), rate, 60 * minutes, timed=False), Loopback()
    wanted = {"size": size, "outputs": tuple(outputs)}
    with ExitStack() as stack:
        session = stack.enter_context(clocked(wanted, engine, source=camera, outputs=[far]))
        beside = None if guest is None else stack.enter_context(Guest(guest))
        sampler = Sampler(session.live, far.readings, interval, show, beside)
        sampler.start()
        session.run()
        sampler.stop()
    errors = sum(session.live.stats.errors.values())
    return {
        "rate": rate,
        **verdict(sampler.samples),
        "errors": errors,
        "reduced": dict(session.live.stats.reduced),
        "lost_in_camera": camera.lost,
        "samples": [asdict(sample) for sample in sampler.samples],
    }
