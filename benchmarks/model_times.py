"""How long the three calls take, per engine, device, precision and batch, beside PyTorch as it
comes, in the same run.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np

from livepuppet.benchmarks import peaks, timing
from livepuppet.benchmarks.subjects import Subject, work_of
from livepuppet.benchmarks.workers import Worker, WorkerError
from livepuppet.core.engine import Features, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.images import read_image
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.memory import peak_bytes, resident_bytes
from livepuppet.core.square import centred_square, cut
from livepuppet.core.transfer import movement_scale, transfer
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import STAGES, Engine, load_engine, usable_cores

#: Frames of the moving avatar, over and over.
CLIP_FRAMES = 64

#: Bytes of one value that a network reads or writes.
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}

#: A frame is detect, transfer and render; encode runs once per avatar.
CALLS = (*STAGES, "frame")


class Timed:
    """An engine whose calls are timed, in a `Worker`.

    Args:
        engine, device, precision, threads: see `load_engine`.
        model: path of a bundle or of weights.
        batch: people at a time; above 1 only where the engine takes several.
        plain: PyTorch as it comes, without what makes it fast.
        gate: see `load_engine`.
        only: of `CALLS`, which to warm up; all by default.

    Attributes:
        ready: what runs, as its engine says.
    """

    def __init__(
        self,
        engine: str | None,
        model: str | None,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        batch: int = 1,
        plain: bool = False,
        gate: bool = True,
        only: Sequence[str] = CALLS,
    ):
        before = resident_bytes()
        if plain:
            if model is None:
                raise ValueError("plain PyTorch needs weights")
            self.engine = plain_engine(Path(model), device, threads)
        else:
            self.engine = load_engine(
                engine, Path(model) if model else None, threads, device, precision, gate=gate
            )
        if batch > 1 and not hasattr(self.engine, "render_many"):
            raise UserError(
                f"The {self.engine.name} engine takes one picture at a time: leave --batch out, or use --engine torch."
            )
        self._before = before
        self._calls = calls_of(self.engine, batch)
        for call in only:  # warm-up: caches, buffers, compilers
            for _ in range(timing.FEWEST):
                self._calls[call]()
        self.ready = {
            "model": self.engine.model_name,
            "engine": self.engine.name,
            "device": self.engine.device,
            "precision": self.engine.precision,
            "provider": self.engine.provider,
        }

    def block(self, call: str, seconds: float) -> list[float]:
        """Milliseconds of one of `CALLS` after another, see `timing.block`."""
        return timing.block(self._calls[call], seconds)

    def memory(self) -> float:
        """MB that loading and running the engine added at most to a process that had Python, NumPy
        and OpenCV.
        """
        return round((peak_bytes() - self._before) / 1e6, 1)


def plain_engine(weights: Path, device: str | None, threads: int | None) -> Engine:
    """The yardstick: float32 PyTorch as it comes."""
    from livepuppet.realtime.engines.pytorch import TorchEngine

    return TorchEngine(weights, device=device, threads=threads, plain=True)


class BatchEngine(Engine, Protocol):
    """An engine that also runs several people's frames at once."""

    def detect_many(self, frames: np.ndarray) -> list[Keypoints]: ...

    def render_many(
        self,
        features: Sequence[Features],
        avatar_keypoints: Sequence[Keypoints],
        keypoints: Sequence[Keypoints],
    ) -> np.ndarray: ...


def moving_pictures(size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The bundled avatar, and frames in which it tilts and goes around, uint8 (size, size, 3) each.

    No clip: engines are timed where no decoder of video is installed, too.
    """
    avatar = read_image(bundled.AVATAR)
    avatar = cut(avatar, centred_square(*avatar.shape[:2]), size)
    frames = []
    for turn in 2 * np.pi * np.arange(CLIP_FRAMES) / CLIP_FRAMES:
        affine = cv2.getRotationMatrix2D((size / 2, size / 2), 8 * np.sin(turn), 1.0)
        affine[:, 2] += 0.06 * size * np.array([np.cos(turn), np.sin(2 * turn)])
        frames.append(cv2.warpAffine(avatar, affine, (size, size), borderMode=cv2.BORDER_REPLICATE))
    return avatar, frames


def calls_of(engine: Engine, batch: int = 1) -> dict[str, Any]:
    """`CALLS` as functions without arguments, for `batch` people, on pictures that move.

    For more than one the engine has to be a `BatchEngine`.
    """
    avatar, frames = moving_pictures(engine.size)
    features, keypoints, initial = engine.encode(avatar), engine.detect(avatar), engine.detect(frames[0])
    scale = movement_scale(keypoints, initial)
    turn = itertools.count()

    def moved(driving: Keypoints) -> Keypoints:
        return transfer(driving, initial, keypoints, scale, matrices=engine.matrices)

    last = moved(engine.detect(frames[-1]))
    if batch == 1:

        def frame() -> None:
            driving = engine.detect(frames[next(turn) % len(frames)])
            engine.render(features, keypoints, moved(driving))

        return {
            "detect": lambda: engine.detect(frames[next(turn) % len(frames)]),
            "encode": lambda: engine.encode(avatar),
            "render": lambda: engine.render(features, keypoints, last),
            "frame": frame,
        }
    people = [np.stack(frames[start : start + batch]) for start in range(0, len(frames) - batch + 1, batch)]
    people = people or [np.stack([frames[index % len(frames)] for index in range(batch)])]
    all_features, all_keypoints = [features] * batch, [keypoints] * batch
    several = cast(BatchEngine, engine)

    def frames_of_all() -> None:
        driving = several.detect_many(people[next(turn) % len(people)])
        several.render_many(all_features, all_keypoints, [moved(one) for one in driving])

    return {
        "detect": lambda: several.detect_many(people[next(turn) % len(people)]),
        "encode": lambda: engine.encode(avatar),
        "render": lambda: several.render_many(all_features, all_keypoints, [last] * batch),
        "frame": frames_of_all,
    }


@dataclass(frozen=True)
class Row:
    """One way to run a model.

    Attributes:
        model, engine, device, precision, provider: what ran.
        random: whether the weights are made up.
        plain: whether it is PyTorch as it comes, the yardstick.
        batch, threads: people at a time, and threads of the CPU.
        ms: milliseconds per call of `CALLS` (for the whole batch): median, p95, least, repeats.
        fps: frames per second, of all people.
        memory_mb: what the engine added to its process at most.
        gflop: floating-point operations per person's frame; None where they could not be counted.
        gflops, gbytes: those per second, and GB moved per second if every operator reads and writes
            memory.
        share_of_peak, share_of_bandwidth: of what the machine was measured to reach. Caches lift
            the second above 1.
        ratio: how many times as fast as the yardstick's frames; None where there is none.
        error: why there are no figures.
    """

    model: str
    engine: str
    device: str
    precision: str
    provider: str = ""
    random: bool = False
    plain: bool = False
    batch: int = 1
    threads: int = 0
    ms: dict[str, dict[str, float]] = field(default_factory=dict)
    fps: float | None = None
    memory_mb: float | None = None
    gflop: float | None = None
    gflops: float | None = None
    share_of_peak: float | None = None
    gbytes: float | None = None
    share_of_bandwidth: float | None = None
    ratio: float | None = None
    error: str | None = None

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def measure(
    subject: Subject,
    engine: str,
    device: str,
    precision: str,
    batch: int = 1,
    threads: int | None = None,
    yardstick: Worker | None = None,
    machine_peaks: dict | None = None,
    blocks: int = 5,
    seconds: float = 1.0,
    plain: bool = False,
) -> Row:
    """One row, measured in a process of its own and in turn with the yardstick.

    Args:
        yardstick: a `Timed` of `plain_engine` on the same device; sleeps while others are measured.
        machine_peaks: of `peaks.Peaks`, for the device.
        blocks: so often everything is measured, in turn.
        seconds: of one block of frames; a call alone gets a third.
        plain: measure the yardstick's kind itself.
    """
    threads = usable_cores() if threads is None else threads
    asked: dict[str, Any] = {
        "model": subject.name,
        "engine": engine,
        "device": device,
        "precision": precision,
    }
    asked.update(random=subject.random, plain=plain, batch=batch, threads=threads)
    try:
        with Worker(
            "livepuppet.benchmarks.model_times:Timed",
            engine=engine,
            model=str(subject.path_for(engine)),
            device=device,
            precision=precision,
            threads=threads or None,
            batch=batch,
            plain=plain,
            gate=not subject.random,
        ) as timed:
            times: dict[str, list[list[float]]] = {call: [] for call in CALLS}
            theirs = []
            for _ in range(blocks):
                for call in STAGES:
                    times[call].append(timed("block", call=call, seconds=seconds / 3))
                times["frame"].append(timed("block", call="frame", seconds=seconds))
                if yardstick is not None:
                    theirs.append(yardstick("block", call="frame", seconds=seconds))
            memory, asked["provider"] = timed("memory"), timed.ready["provider"]
    except (UserError, WorkerError) as error:
        return Row(**asked, error=str(error))
    ms = {call: timing.summary([value for block in times[call] for value in block]) for call in CALLS}
    per_frame = ms["frame"]["median"] / batch
    ratio = (
        timing.ratio([[value / batch for value in block] for block in times["frame"]], theirs)
        if theirs
        else None
    )
    rates: dict[str, Any] = _rates(subject, engine, precision, ms, per_frame, machine_peaks)
    return Row(
        **asked,
        ms=ms,
        fps=round(1000 / per_frame, 2),
        memory_mb=memory,
        ratio=None if ratio is None else round(ratio, 3),
        **rates,
    )


def _rates(
    subject: Subject, engine: str, precision: str, ms: dict, per_frame: float, machine_peaks: dict | None
) -> dict[str, float]:
    """The work of a frame against the time that it took, and against what the machine can do."""
    work = work_of(subject, engine)
    if not work:
        return {}
    frame = work["detect"] + work["render"]
    rates = {
        "gflop": round(frame.flop / 1e9, 3),
        "gflops": round(frame.flop / per_frame / 1e6, 1),
        "gbytes": round(frame.values * BYTES[precision] / per_frame / 1e6, 2),
    }
    peak = peaks.best(machine_peaks, precision)
    if peak:
        rates["share_of_peak"] = round(rates["gflops"] / peak[0], 3)
    if machine_peaks:
        rates["share_of_bandwidth"] = round(rates["gbytes"] / machine_peaks["gbytes"], 3)
    return rates


def heading() -> list[str]:
    """The first lines of the Markdown table."""
    return [
        "| model | engine | device | precision | batch | detect ms | encode ms | render ms | frame ms (p95) | FPS | "
        "× plain PyTorch | GFLOP/s (of peak) | GB/s (of copy) | memory MB |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]


def line(row: Row) -> str:
    """A row of it."""
    name = f"{row.model} (random weights)" if row.random else row.model
    engine = f"{row.engine}, plain" if row.plain else row.engine
    head = f"| {name} | {engine} | {row.device} | {row.precision} | {row.batch} |"
    if row.error or row.fps is None:
        return f"{head} {(row.error or '').replace('|', '/')} |" + " |" * 8
    calls = " | ".join(f"{row.ms[call]['median']:.{_digits(row.ms[call]['median'])}f}" for call in STAGES)
    frame = row.ms["frame"]
    digits = _digits(frame["median"])
    return (
        f"{head} {calls} | {frame['median']:.{digits}f} ({frame['p95']:.{digits}f}) | {row.fps:.{0 if row.fps >= 20 else 1}f} | "
        f"{_or_dash(row.ratio, '{:.2f}')} | {_with_share(row.gflops, row.share_of_peak)} | "
        f"{_with_share(row.gbytes, row.share_of_bandwidth)} | {row.memory_mb:.0f} |"
    )


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 5 else 2


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _with_share(value: float | None, share: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.{_digits(value) if value >= 5 else 1}f}"
    return text + ("" if share is None else f" ({100 * share:.0f}%)")
