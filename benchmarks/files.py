"""What it takes to look a file through before its first picture is drawn: `animate` in two passes, beside one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livepuppet.core.memory import peak_bytes
from livepuppet.core.video import Video, open_video
from livepuppet.realtime.animate import Film
from livepuppet.realtime.animator import AvatarLike
from livepuppet.realtime.engines import Engine

HEADING = (
    "| frames | frame | written | two passes s | one pass s | two / one | processor, two / one | peak memory MB |",
    "|--:|---|---|--:|--:|--:|--:|--:|",
)


@dataclass(frozen=True)
class Passes:
    """One video's figures.

    Attributes:
        frames, size: of the video, its size as `WIDTHxHEIGHT`.
        side_by_side: whether the driver is shown, too, for which the video is decoded twice.
        two, one: seconds in two passes and in one, the least of some rounds.
        ratio, processor: two passes over one, of seconds and of processor seconds; medians over rounds.
        peak: bytes of memory until then.
    """

    frames: int
    size: str
    side_by_side: bool
    two: float
    one: float
    ratio: float
    processor: float
    peak: int


class ReadOnce(Film):
    """A video that is drawn as it comes, as streams are."""

    def open(self) -> Video:
        clip = super().open()
        setattr(clip, "endless", True)  # noqa: B010 - of videos it is an attribute, of folders a constant
        return clip


def measure(engine: Engine, avatar: AvatarLike, driving: str, rounds: int = 3) -> Iterator[Passes]:
    """Animate `driving` in two passes and in one, in turn, without showing the driver and with it."""
    with open_video(driving) as video:
        height, width = next(iter(video)).image.shape[:2]
    for side_by_side in (False, True):
        two, one = [], []
        for turn in range(rounds):
            # Whoever is first in one round is second in the next.
            ways = ((Film, two), (ReadOnce, one))
            for kind, found in ways if turn % 2 == 0 else ways[::-1]:
                frames, *took = _drawn(kind(driving, side_by_side=side_by_side), engine, avatar)
                found.append(took)
        ratio, processor = np.median(np.array(two) / np.array(one), axis=0)
        yield Passes(
            frames,
            f"{width}x{height}",
            side_by_side,
            min(took[0] for took in two),
            min(took[0] for took in one),
            float(ratio),
            float(processor),
            peak_bytes(),
        )


def _drawn(film: Film, engine: Engine, avatar: AvatarLike) -> tuple[int, float, float]:
    """Frames, seconds and processor seconds of one video."""
    with tempfile.TemporaryDirectory() as folder:
        began, worked = time.perf_counter(), time.process_time()
        with film.open() as clip:
            made = film.draw(clip, avatar, engine, str(Path(folder, "out.mp4")), lambda done, total: None)
        return made.frames, time.perf_counter() - began, time.process_time() - worked


def line(row: Passes) -> str:
    return (
        f"| {row.frames} | {row.size} | {'side by side' if row.side_by_side else 'the result'} | {row.two:.1f} | {row.one:.1f} | "
        f"{row.ratio:.3f} | {row.processor:.3f} | {row.peak / 1e6:.0f} |"
    )
