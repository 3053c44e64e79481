"""Under load quality steps down before time does, one named step after another, and up again when
there is room.

Judged by the delay from capture to hand-over and by the frames that were dropped, in windows of the
frames' own time. There is room for a step back up where frames would still be in time if they took
as much longer as that costs, which is known from when it was last done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

#: Seconds of frames that are judged together, and the fewest of them.
WINDOW, FEWEST = 2.0, 8

#: A frame is late after this many intervals of the camera. One that keeps its stages busy for more
#: than this share of an interval leaves no time for the next.
LATE, FULL = 2.0, 0.95

#: Shares of frames late or dropped at which quality steps down, and up to which there is room.
MANY, FEW = 0.1, 0.03

#: Windows with room in a row before a step is taken back. After one that had to be taken again
#: within `REGRETTED` windows twice as many, up to `MOST_CALM`; as before after as many at full quality.
CALM, REGRETTED, MOST_CALM = 2, 3, 16

#: Share of the canvas's resolution at which rigs are drawn where there is no time for all of it. Half
#: saves little more, and is two thirds as sharp.
DETAIL = 0.6


@dataclass(frozen=True)
class Step:
    """Something that is left out.

    Attributes:
        name: in figures.
        told: in the window and the log.
        ended: the same once it is not left out any more.
    """

    name: Literal["close-ups", "detail"]
    told: str
    ended: str


#: In the order in which they are taken: what costs least for the time that it saves comes first.
STEPS = (
    Step(
        "close-ups",
        "eyes and mouth are analysed every other frame",
        "eyes and mouth are analysed in every frame",
    ),
    Step(
        "detail",
        "the picture is drawn at six tenths of its resolution",
        "the picture is drawn at its full resolution",
    ),
)


@dataclass(frozen=True)
class Effort:
    """What one frame took.

    Attributes:
        planning, painting: seconds.
        core: seconds of a core, of both.
        overlaps: whether the next frame is planned while this one is painted.
    """

    planning: float
    painting: float
    core: float
    overlaps: bool

    @property
    def seconds(self) -> float:
        return self.planning + self.painting

    @property
    def period(self) -> float:
        """Seconds after which the next one can be taken."""
        return max(self.planning, self.painting) if self.overlaps else self.seconds


class LoadControl:
    """Tells how many of `STEPS` are in force.

    Attributes:
        level: so many.
    """

    def __init__(self):
        self.level = 0
        self._began: float | None = None
        self._dropped = 0
        self._delays: list[float] = []
        self._efforts: list[Effort] = []
        #: Median seconds of a core per frame, by level, when it was last in force.
        self._costs: list[float | None] = [None] * (len(STEPS) + 1)
        self._calm, self._needed = 0, CALM
        self._since_up = REGRETTED

    def add(self, captured: float, delay: float, dropped: int, interval: float | None, effort: Effort) -> int:
        """Count one frame.

        Args:
            captured: seconds of any clock.
            delay: from its capture to its hand-over.
            dropped: frames so far for which there was no time.
            interval: between frames of the camera; None where it is not known yet.

        Returns:
            `level` from now on.
        """
        if self._began is None:
            self._begin(captured, dropped)
        self._delays.append(delay)
        self._efforts.append(effort)
        assert self._began is not None
        if interval is not None and captured - self._began >= WINDOW and len(self._delays) >= FEWEST:
            self._judge(np.array(self._delays), self._efforts, dropped - self._dropped, interval)
            self._begin(captured, dropped)
        return self.level

    def restart(self) -> None:
        """Judge nothing by what has been until now: the camera was away, or something was changed."""
        self._began = None
        self._calm = 0

    def _begin(self, captured: float, dropped: int) -> None:
        self._began, self._dropped = captured, dropped
        self._delays, self._efforts = [], []

    def _judge(self, delays: np.ndarray, efforts: list[Effort], dropped: int, interval: float) -> None:
        """By the frames of a window."""
        self._since_up += 1
        self._costs[self.level] = cost = float(np.median([effort.core for effort in efforts]))
        latest = LATE * interval
        if _lost(delays, latest, dropped) > MANY:
            self._calm = 0
            if self.level == len(STEPS):
                return
            if self._since_up <= REGRETTED:
                # Going up was premature.
                self._needed = min(2 * self._needed, MOST_CALM)
            self.level += 1
            return
        if not self.level:
            self._calm += 1
            if self._calm >= MOST_CALM:
                self._needed = CALM
            return
        before = self._costs[self.level - 1]
        # Beside other programs everything takes longer than its work.
        core = max(sum(effort.core for effort in efforts), 1e-9)
        stretch = max(sum(effort.seconds for effort in efforts) / core, 1.0)
        longer = 0.0 if before is None else stretch * max(before - cost, 0.0)
        period = float(np.median([effort.period for effort in efforts])) + longer
        if period > FULL * interval or _lost(delays + longer, latest, dropped) > FEW:
            self._calm = 0
            return
        self._calm += 1
        if self._calm >= self._needed:
            self.level -= 1
            self._calm, self._since_up = 0, 0


def _lost(delays: np.ndarray, latest: float, dropped: int) -> float:
    """The share of frames later than that or dropped."""
    return (int((delays > latest).sum()) + dropped) / (len(delays) + dropped)
