"""Which engine runs when none is asked for: the fastest steady one of those that draw right, timed
once per machine, model and version.

Engines are timed in turn, a few frames each, so that what else goes on in the machine slows all of
them alike. What was found is kept in the user's cache; later starts read it.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from livepuppet.core.cache import cache_folder, key_of, remember, remembered
from livepuppet.core.engine import Engine, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.core.images import read_image
from livepuppet.core.memory import resident_bytes
from livepuppet.core.square import centred_square, cut
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.engines.cores import usable_cores
from livepuppet.realtime.engines.quality_gate import machine_info

KIND = "fastest-engine"

#: Set to "off", the first engine that works runs, untimed: for installations that want the same one
#: everywhere.
VARIABLE = "LIVEPUPPET_TIMING"

#: Engines are timed in so many rounds, each for so many seconds and at least so many frames. One
#: that the first round finds so many times as slow as the fastest is left alone.
ROUNDS, SECONDS, FEWEST, HOPELESS = 4, 0.15, 3, 2.0

#: What is slower has to be so in more than this share of the rounds, in each of which both were timed one after the other. While
#: rounds say neither that nor the contrary, up to so many are added.
MAJORITY, MORE_ROUNDS = 0.75, 4

#: As slow is what is not slower in its usual frames but so many times as slow in its slow ones: within a round those are few, and mostly
#: chance.
SHAKY = 1.5

#: Once loading has taken so many seconds, what is loaded has to do: a first start is not to last.
LOADING = 8.0

#: What people gain nothing by: the usual engine stays unless another is faster by this factor.
MARGIN = 1.1

#: Where engines are as fast but for that, one that takes so many megabytes less than another runs. Alone in a process they differ by
#: more: what one leaves behind is used again by the next.
SPARED = 25.0

#: A start waits so long for another one that is timing.
PATIENCE = 30.0

#: What runs per frame: all of the model, or `detect` alone where a rig draws.
Use = Literal["frame", "detect"]
USES: tuple[Use, ...] = ("detect", "frame")


@dataclass(frozen=True)
class Way:
    """An engine with device and precision, see `load_engine`."""

    name: str
    device: str
    precision: Precision

    def __str__(self) -> str:
        device = "" if self.device == "cpu" else f" {self.device}"
        return f"{self.name}{device} {self.precision}"


@dataclass(frozen=True)
class Timing:
    """How long an engine takes.

    Attributes:
        name, device, precision: which.
        detect, frame: milliseconds of `detect`, and of `detect` and `render`: median and 95th
            percentile, of the round in the middle.
        memory: megabytes by which the process grew while it was loaded and first run, the most of all that run on the
            same library, which the first of them loads; None where that cannot be said.
        rounds: `detect` and `frame` of each round.
    """

    name: str
    device: str
    precision: Precision
    detect: tuple[float, float]
    frame: tuple[float, float]
    memory: float | None = None
    rounds: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = ()

    @property
    def way(self) -> Way:
        return Way(self.name, self.device, self.precision)

    def cost(self, use: Use) -> float:
        """Milliseconds halfway between the usual frame and the slow one: of two engines that are as
        fast, the steadier.
        """
        median, slow = self.detect if use == "detect" else self.frame
        return (median + slow) / 2


def ranking(timings: Sequence[Timing], use: Use) -> list[Timing]:
    """The engine to run, then what to fall back to, best first.

    Of engines that are about as fast, those that take clearly more memory come later, and of what is left the first of `timings`
    runs: which of them was a little faster this time is chance.

    Args:
        timings: the usual engine first, then always in the same order.
        use: where a rig draws, engines that detect as fast as the fastest are told apart by memory, then by
            whole frames, which avatars without a face take.
    """
    order = sorted(timings, key=lambda timing: (timing.cost(use), timing.cost("frame")))
    if use == "detect" and order:
        near = _lean(_as_fast(timings, order[0], (use,)))
        order = [*sorted(near, key=lambda timing: timing.cost("frame")), *(t for t in order if t not in near)]
    if order:
        alike = _lean(_as_fast(timings, order[0], (use, "frame")))
        best = next(timing for timing in timings if timing in alike)
        order.remove(best)
        order.insert(0, best)
    return order


def _as_fast(timings: Sequence[Timing], best: Timing, uses: Sequence[Use]) -> list[Timing]:
    """Those that are no slower than `best`, or hardly, or not for sure."""
    return [timing for timing in timings if not any(_slower(timing, best, use) for use in uses)]


def _slower(timing: Timing, other: Timing, use: Use) -> bool:
    """Whether it is clearly slower: by more than `MARGIN`, nearly every time."""
    share = _share_slower(timing, other, use)
    if share is None:
        return timing.cost(use) > MARGIN * other.cost(use)
    return share > MAJORITY


def _share_slower(timing: Timing, other: Timing, use: Use) -> float | None:
    """The share of rounds in which it was slower by more than `MARGIN`, or shaky; None where both have too few.

    What else goes on in the machine comes and goes: within a round it slows both alike.
    """
    which = USES.index(use)
    pairs = [(one[which], two[which]) for one, two in zip(timing.rounds, other.rounds, strict=False)]
    if len(pairs) < ROUNDS:
        return None
    usual = sum(one[0] > MARGIN * two[0] for one, two in pairs)
    shaky = sum(sum(one) > SHAKY * sum(two) for one, two in pairs)
    return max(usual, shaky) / len(pairs)


def _undecided(timings: Sequence[Timing]) -> bool:
    """Whether more rounds may tell which is slower than the fastest."""
    return any(_undecided_for(timings, use) for use in USES)


def _undecided_for(timings: Sequence[Timing], use: Use) -> bool:
    best = min(timings, key=lambda timing: timing.cost(use))
    shares = [_share_slower(timing, best, use) for timing in timings]
    return any(share is not None and 1 - MAJORITY < share <= MAJORITY for share in shares)


def _lean(timings: Sequence[Timing]) -> list[Timing]:
    """Without those that take clearly more memory than another."""
    least = min((timing.memory for timing in timings if timing.memory is not None), default=0.0)
    return [timing for timing in timings if timing.memory is None or timing.memory < least + SPARED]


def reason(order: Sequence[Timing], use: Use) -> str:
    """Why the first of a `ranking` runs, for people; the figures are those that decided."""
    if len(order) < 2:
        return "the only engine here"
    what = "to read a face" if use == "detect" else "a frame"
    figures = ", ".join(
        f"{timing.way} {(timing.detect if use == 'detect' else timing.frame)[0]:.1f} ms" for timing in order
    )
    return f"best of {len(order)} here (timed, {what}: {figures})"


class Stopwatch:
    """Times one engine on the bundled avatar, moving.

    Args:
        engine: loaded; it has passed the gate.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        image = read_image(AVATAR)
        image = cut(image, centred_square(*image.shape[:2]), engine.size)
        # Not the pose at rest: that might be drawn without computing.
        self._frames = [np.ascontiguousarray(np.roll(image, shift, 1)) for shift in (2, 5, 8)]
        self._keypoints, self._features = engine.detect(image), engine.encode(image)
        self._times: list[list[tuple[float, float]]] = []
        self._run(self._frames[0])  # buffers, threads, clocks

    def round(self, seconds: float = SECONDS, fewest: int = FEWEST) -> None:
        """Time frames for so many seconds, and at least so many."""
        end, times = time.perf_counter() + seconds, []
        while len(times) < fewest or time.perf_counter() < end:
            times.append(self._run(self._frames[len(times) % len(self._frames)]))
        self._times.append(times)

    def _run(self, frame: np.ndarray) -> tuple[float, float]:
        """Milliseconds of `detect`, and of all."""
        began = time.perf_counter()
        keypoints = self._engine.detect(frame)
        detected = time.perf_counter()
        self._engine.render(self._features, self._keypoints, keypoints)
        return 1000 * (detected - began), 1000 * (time.perf_counter() - began)

    def timing(self) -> Timing:
        """What the rounds so far say."""
        # Rounds, median and slow, of `detect` and of all.
        found = np.array([np.percentile(times, (50, 95), axis=0) for times in self._times])
        detect, frame = _pair(np.median(found, axis=0))
        rounds = tuple(_pair(one) for one in found)
        engine = self._engine
        return Timing(engine.name, engine.device, engine.precision, detect, frame, rounds=rounds)


def _pair(found: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """What `detect` and all take, usually and at times, of (2, 2)."""
    (detect, frame), (slow_detect, slow_frame) = found.round(3).tolist()
    return (detect, slow_detect), (frame, slow_frame)


def timed(engines: Sequence[Engine], rounds: int = ROUNDS) -> list[Timing]:
    """Times engines in turn; those that the first round finds hopeless only then; a few times more where it is close."""
    watches = [Stopwatch(engine) for engine in engines]
    left = list(watches)
    for number in range(rounds + MORE_ROUNDS):
        found = [watch.timing() for watch in left] if number else []
        if number == 1:
            detect = min(timing.cost("detect") for timing in found)
            frame = min(timing.cost("frame") for timing in found)
            left = [
                watch
                for watch, timing in zip(left, found, strict=True)
                if timing.cost("detect") <= HOPELESS * detect or timing.cost("frame") <= HOPELESS * frame
            ]
        if number >= rounds and not _undecided(found):
            break
        for watch in left:
            watch.round()
    return [watch.timing() for watch in watches]


def enabled() -> bool:
    """Whether engines are timed at all."""
    return os.environ.get(VARIABLE, "").lower() not in ("off", "0", "no")


def inputs_of(model: Path, device: str | None, precision: str | None, threads: int | None) -> dict[str, Any]:
    """All that the choice depends on. Raises OSError where the model cannot be read."""
    return {
        "model": sha256(model / "bundle.json"),
        "asked": [device, precision],
        "threads": usable_cores() if threads is None else threads,
        **machine_info(),
    }


@dataclass(frozen=True)
class Kept:
    """What a start found.

    Attributes:
        timings: of engines that work, the usual one first.
        left_out: those that did not.
    """

    timings: tuple[Timing, ...]
    left_out: tuple[Way, ...] = ()


def kept(inputs: dict[str, Any]) -> Kept | None:
    """What an earlier start found; None where none has."""
    try:
        found = remembered(KIND, inputs)
        timings = tuple(
            Timing(
                one["name"],
                one["device"],
                one["precision"],
                tuple(one["detect"]),
                tuple(one["frame"]),
                one["memory"],
                tuple((tuple(detect), tuple(frame)) for detect, frame in one["rounds"]),
            )
            for one in found["timings"]
        )
        return Kept(timings, tuple(Way(*one) for one in found["left_out"])) if timings else None
    except (KeyError, TypeError, ValueError):
        return None


def keep(inputs: dict[str, Any], timings: Sequence[Timing], left_out: Sequence[Way] = ()) -> None:
    """Have `kept` tell this from now on."""
    ways = [[way.name, way.device, way.precision] for way in left_out]
    remember(KIND, inputs, {"timings": [asdict(timing) for timing in timings], "left_out": ways})


def forget(inputs: dict[str, Any]) -> None:
    """Have the next start time anew."""
    keep(inputs, ())


@contextmanager
def alone(inputs: dict[str, Any]) -> Iterator[bool]:
    """Be the only start that times these engines: several at once would slow each other down.

    Yields:
        False where another start was still at it after `PATIENCE` seconds, or where nothing can be
        kept, so that every start would have to time them.
    """
    try:
        path = cache_folder(KIND) / f"{key_of(inputs)}.lock"
        file = path.open("a")
    except (OSError, UserError):
        yield False
        return
    with file:
        end, got = time.monotonic() + PATIENCE, _lock(file)
        while not got and time.monotonic() < end:
            time.sleep(0.1)
            got = _lock(file)
        yield got


def _lock(file: Any) -> bool:
    """Take the lock on an open file, which ends with it or with the process; False where another
    has it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        import msvcrt

        with suppress(OSError):
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
            return True
        return False
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


class Journal:
    """Remembers which engine is being tried, so that one that ends the process is known the next
    time.

    Args:
        inputs: of `inputs_of`.
    """

    def __init__(self, inputs: dict[str, Any]):
        self._inputs = {"tried": inputs}

    def crashed(self) -> Way | None:
        """What was being tried when an earlier start ended."""
        with suppress(KeyError, TypeError):
            found = remembered(KIND, self._inputs)
            return Way(*found) if found else None
        return None

    def trying(self, way: Way | None) -> None:
        """From now on this; None when it has gone well."""
        remember(KIND, self._inputs, None if way is None else [way.name, way.device, way.precision])


def load_and_time(
    ways: Sequence[Way], inputs: dict[str, Any], load: Callable[[Way], Engine | None]
) -> list[tuple[Engine, Timing]]:
    """Load what can be, while there is time, and time it.

    Args:
        ways: the usual one first.
        load: an engine that passed the gate, or None for one that did not.
    """
    journal, engines, grown, begin = Journal(inputs), [], [], time.monotonic()
    # Close-ups are read with it, whichever engine runs: it is no part of what one of them takes.
    with suppress(ImportError):
        importlib.import_module("onnxruntime")
    try:
        for way in ways:
            if engines and time.monotonic() - begin > LOADING:
                break
            journal.trying(way)
            before = resident_bytes()
            engine = load(way)
            if engine is not None:
                Stopwatch(engine)
                engines.append(engine)
                grown.append((resident_bytes() - before) / 1e6 if before else None)
    finally:  # an exception, or somebody's Ctrl-C, is no crash
        journal.trying(None)
    # Where there is one, nothing is to be chosen.
    timings = timed(engines) if len(engines) > 1 else [_untimed(engine) for engine in engines]
    most: dict[str, float] = {}
    for engine, memory in zip(engines, grown, strict=True):
        if memory is not None:
            most[engine.name] = max(memory, most.get(engine.name, 0.0))
    timings = [replace(timing, memory=most.get(timing.name)) for timing in timings]
    return list(zip(engines, timings, strict=True))


def _untimed(engine: Engine) -> Timing:
    return Timing(engine.name, engine.device, engine.precision, (0.0, 0.0), (0.0, 0.0))
