"""How many people one device can move at once, at 30 frames per second each, when their frames go
through it in batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from livepuppet.benchmarks.workers import Worker, WorkerError
from livepuppet.core.errors import UserError
from livepuppet.realtime.engines import usable_cores

#: Frames per second of every stream. A batch has to be done before the next one comes.
RATE = 30.0

#: People at a time that are tried.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def measure(
    weights: Path,
    device: str,
    precision: str | None,
    batch: int,
    threads: int | None = None,
    seconds: float = 3.0,
    gate: bool = True,
) -> dict:
    """One batch size, in a process of its own.

    The batch holds a frame of each person; every person has an avatar with features and keypoints
    in the device's memory and gets a picture back. Decoding, framing and composing are each
    person's own computer's.

    Returns:
        batch, ms (median, p95, ...) per batch, fps of all people together, streams: whole ones at
            `RATE`; or error.
    """
    asked = {"batch": batch, "device": device, "precision": precision}
    try:
        with Worker(
            "livepuppet.benchmarks.model_times:Timed",
            engine="torch",
            model=str(weights),
            device=device,
            precision=precision,
            threads=threads or usable_cores() or None,
            batch=batch,
            gate=gate,
            only=["frame"],
        ) as timed:
            ms = timed("block", call="frame", seconds=seconds)
            ready = timed.ready
    except (UserError, WorkerError) as error:
        return {**asked, "error": str(error)}
    return {**asked, **ready, **figures(batch, ms)}


def figures(batch: int, ms: Sequence[float]) -> dict:
    """What the milliseconds of batches say.

    Streams are counted where the slow batches (the 95th percentile) are done before the next one
    comes: then as many as the frames per second give. Where they are not, nobody's picture would be
    in time, and there are none.
    """
    from livepuppet.benchmarks.timing import summary

    spread = summary(ms)
    fps = 1000 * batch / spread["median"]
    in_time = spread["p95"] <= 1000 / RATE
    return {
        "ms": spread,
        "fps": round(fps, 1),
        "in_time": in_time,
        "streams": int(fps / RATE) if in_time else 0,
    }


def sweep(batches: Sequence[int] = (), **arguments) -> Iterator[dict]:
    """`measure` for one batch size after another, until memory is out.

    Args:
        batches: by default `BATCHES`, until a batch takes ten times as long as it may.
    """
    for batch in batches or BATCHES:
        row = measure(batch=batch, **arguments)
        yield row
        if "error" in row or (not batches and row["ms"]["median"] > 10 * 1000 / RATE):
            return


def best(rows: Sequence[dict]) -> dict | None:
    """The row with the most streams; of equal ones the fastest to answer."""
    good = [row for row in rows if "error" not in row]
    return max(good, key=lambda row: (row["streams"], -row["ms"]["median"]), default=None)


def heading() -> list[str]:
    """The first lines of the Markdown table."""
    return [
        "| model | device | precision | people per batch | ms per batch (p95) | frames per second | streams of 30 FPS |",
        "|---|---|---|--:|--:|--:|--:|",
    ]


def line(name: str, row: dict) -> str:
    """A row of it."""
    head = f"| {name} | {row['device']} | {row['precision'] or '-'} | {row['batch']} |"
    if "error" in row:
        return f"{head} {row['error'].replace('|', '/')} | | |"
    late = "" if row["in_time"] else " (a batch takes longer than a frame lasts)"
    return f"{head} {row['ms']['median']:.2f} ({row['ms']['p95']:.2f}) | {row['fps']:,.0f} | {row['streams']}{late} |"
