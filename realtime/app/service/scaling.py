"""How many workers there shall be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Share of places in use above which workers are added, and seconds for which it has to last; a refusal adds one at once.
BUSY, BUSY_SECONDS = 0.7, 10.0

#: Share below which one worker is drained, and seconds for which that has to last.
IDLE, IDLE_SECONDS = 0.4, 300.0

#: Workers for each warm one that is kept free; at least one.
WARM = 8


@dataclass
class Scaling:
    """Decides from what a directory knows.

    Attributes:
        least, most: workers.
    """

    least: int
    most: int
    _busy_since: float | None = field(default=None, init=False)
    _idle_since: float | None = field(default=None, init=False)
    _refused: int = field(default=0, init=False)

    def wanted(self, workers: int, places: int, used: int, refused: int, now: float) -> int:
        """How many workers there shall be.

        Args:
            workers: that there shall be so far.
            places, used: of those that live.
            refused: clients, since the start.
            now: seconds.
        """
        more, self._refused = refused > self._refused, refused
        share = used / places if places else 0.0
        each = places / workers if workers and places else 1.0
        self._busy_since = (
            (self._busy_since if self._busy_since is not None else now) if share > BUSY else None
        )
        # What would remain has to be enough.
        left = used / (places - each) if places > each else 1.0
        self._idle_since = (
            (self._idle_since if self._idle_since is not None else now) if left < IDLE else None
        )
        wanted = workers
        if more or (self._busy_since is not None and now - self._busy_since >= BUSY_SECONDS):
            wanted = max(workers + 1, math.ceil(used / BUSY / each) + math.ceil(workers / WARM))
            self._busy_since = None
        elif self._idle_since is not None and now - self._idle_since >= IDLE_SECONDS:
            wanted, self._idle_since = workers - 1, now
        return min(max(wanted, self.least), self.most)
