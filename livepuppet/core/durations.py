"""Percentiles of any number of durations, in constant memory."""

from __future__ import annotations

import math

import numpy as np

#: Neighbouring bins differ by half a percent, so no percentile is off by more.
_RATIO = math.log(1.005)
_SHORTEST = 1e-6
_BINS = round(math.log(1e9) / _RATIO)


class Durations:
    """Any number of durations, of which percentiles are wanted.

    A histogram with logarithmic bins from a microsecond to a quarter of an hour, each half a
    percent wide.
    """

    def __init__(self):
        self._counts = np.zeros(_BINS, np.int64)
        self.count = 0
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        index = int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _RATIO)
        self._counts[min(index, _BINS - 1)] += 1
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    def copy(self) -> Durations:
        """As they are now."""
        copied = Durations()
        copied._counts[:] = self._counts
        copied.count, copied.total, copied.longest = self.count, self.total, self.longest
        return copied

    def since(self, before: Durations) -> Durations:
        """Those that were added after `before` was copied from these. The longest is of all."""
        later = self.copy()
        later._counts -= before._counts
        later.count -= before.count
        later.total -= before.total
        return later

    def percentile(self, percent: float) -> float:
        """In seconds; 0 where nothing was added."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_SHORTEST * math.exp((index + 0.5) * _RATIO), self.longest)

    def summary(self) -> dict[str, float]:
        """p50, p95, p99, mean and max in milliseconds."""
        values = {f"p{percent}": self.percentile(percent) for percent in (50, 95, 99)}
        values["mean"] = self.total / self.count if self.count else 0.0
        values["max"] = self.longest
        return {name: round(seconds * 1000, 3) for name, seconds in values.items()}
