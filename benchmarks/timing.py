"""Milliseconds of a call, and what is said of many of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

#: A block of measurements has at least so many, however long they take.
FEWEST = 3


def block(call: Callable[[], object], seconds: float, most: int = 1000) -> list[float]:
    """Milliseconds of one call after another, for about `seconds`: at least `FEWEST`, at most
    `most`.
    """
    times, begin = [], time.perf_counter()
    while len(times) < FEWEST or (len(times) < most and time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile, least and number of them."""
    return {
        "median": round(float(np.median(times)), 4),
        "p95": round(float(np.percentile(times, 95)), 4),
        "least": round(float(np.min(times)), 4),
        "repeats": len(times),
    }


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """How many times as fast ours is: the median over blocks that were measured in turn, of the
    medians' quotients.

    What else goes on in the machine slows neighbouring blocks down alike, and so cancels.
    """
    return float(np.median([np.median(b) / np.median(a) for a, b in zip(ours, theirs, strict=True)]))
