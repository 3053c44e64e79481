"""Evaluation over a set of clips, as the papers do it: reconstruction of each, or animation of
pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from livepuppet.train.data.reading import DataError
from livepuppet.train.metrics.pixels import Metric
from livepuppet.train.metrics.reconstruct import ClipResult, show


class Clips(Protocol):
    """What is needed of a set of clips; `train.data.clips.ClipSet` is one.

    One whose exact landmarks are known has `truth(k)`, (T, L, 2) in pixels, as well.
    """

    skipped: list[str]

    @property
    def names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def frames(self, k: int) -> np.ndarray:
        """Clip k as RGB uint8 (T, S, S, 3)."""
        ...


def spread(clips: int, limit: int | None = None) -> list[int]:
    """Numbers of `limit` clips at even distances over the set, or of all."""
    if limit is None or limit >= clips:
        return list(range(clips))
    return [k * clips // limit for k in range(limit)]


def random_pairs(clips: int, count: int, seed: int) -> list[tuple[int, int]]:
    """`count` pairs (source, driving) of two different clips each, no pair twice, the same for the
    same seed.

    Raises:
        ValueError: fewer than two clips.
    """
    if clips < 2:
        raise ValueError(
            "Animation takes the source from one clip and the motion from another: give at least two."
        )
    every = clips * (clips - 1)
    numbers = np.random.default_rng(seed).choice(every, min(count, every), replace=False).tolist()
    return [(n // (clips - 1), (n // (clips - 1) + 1 + n % (clips - 1)) % clips) for n in numbers]


def reconstructions(
    model, clips: Clips, numbers: Iterable[int], every: int = 1, batch: int = 8
) -> Iterable[ClipResult]:
    """Reconstruct each clip from its own first frame; of every n frames (`every`) the first is
    rendered.

    A clip that cannot be read is left out and named in `clips.skipped`.
    """
    for k in numbers:
        try:
            frames = clips.frames(k)[::every]
        except DataError as error:
            clips.skipped.append(str(error))
            continue
        exact = getattr(clips, "truth", None)
        truth = exact(k)[::every] if exact else None
        yield show(model, clips.names[k], frames[0], frames, "reconstruction", batch, truth)


def animations(
    model,
    clips: Clips,
    pairs: Iterable[tuple[int, int]],
    relative: bool = True,
    every: int = 1,
    batch: int = 8,
) -> Iterable[ClipResult]:
    """The first frame of each pair's source clip, moved by its driving clip. Otherwise as
    `reconstructions`.
    """
    for source, driving in pairs:
        name = f"{clips.names[source]} by {clips.names[driving]}"
        try:
            first, frames = clips.frames(source)[0], clips.frames(driving)[::every]
        except DataError as error:
            clips.skipped.append(str(error))
            continue
        yield show(model, name, first, frames, "relative" if relative else "absolute", batch)


def score(
    shown: Iterable[ClipResult],
    measures: Sequence[Metric],
    keep: int = 0,
    tick: Callable[[], object] | None = None,
) -> tuple[dict[str, float], dict[str, int], list[ClipResult]]:
    """Show every clip to every measure.

    Returns:
        the figures; counts of clips and frames; the first `keep` clips, for a sheet.

    Raises:
        DataError: there was no clip.
    """
    kept: list[ClipResult] = []
    clips = frames = 0
    for one in shown:
        for measure in measures:
            measure.add(one)
        if len(kept) < keep:
            kept.append(one)
        clips, frames = clips + 1, frames + len(one.result)
        if tick:
            tick()
    if not clips:
        raise DataError("None of the clips could be read; look at the sentences above.")
    figures: dict[str, float] = {}
    for measure in measures:
        figures |= measure.figures()
    return figures, {"clips": clips, "frames": frames}, kept
