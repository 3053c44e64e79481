"""Under load quality steps down before time does, one named step after another, and up again when
there is room.

Judged by the delay from capture to hand-over and by the frames that were dropped, in windows of the
frames' own time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

#: Seconds of frames that are judged together, and the fewest of them.
WINDOW, FEWEST = 2.0, 8

#: A frame is late after this many intervals of the camera. In a calm window none of so many is, and
#: the 95th percentile lies within `ROOM` intervals.
LATE, ROOM = 2.0, 1.5

#: Shares of frames late or dropped at which quality steps down, and up to which a window is calm.
MANY, FEW = 0.1, 0.03

#: Calm windows in a row before a step is taken back. After one that had to be taken again within
#: `REGRETTED` windows so many times as many, up to `MOST_CALM`.
CALM, REGRETTED, PATIENCE_GROWS, MOST_CALM = 4, 4, 2, 64


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


#: In the order in which they are taken.
STEPS = (
    Step(
        "close-ups",
        "eyes and mouth are analysed every other frame",
        "eyes and mouth are analysed in every frame",
    ),
    Step(
        "detail", "the picture is drawn at half its resolution", "the picture is drawn at its full resolution"
    ),
)


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
        self._calm, self._needed = 0, CALM
        self._since_up = REGRETTED

    def add(self, captured: float, delay: float, dropped: int, interval: float | None) -> int:
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
        assert self._began is not None
        if interval is not None and captured - self._began >= WINDOW and len(self._delays) >= FEWEST:
            self._judge(np.array(self._delays) / interval, dropped - self._dropped)
            self._begin(captured, dropped)
        return self.level

    def restart(self) -> None:
        """Judge nothing by what has been until now: the camera was away, or something was changed."""
        self._began = None
        self._calm = 0

    def _begin(self, captured: float, dropped: int) -> None:
        self._began, self._dropped = captured, dropped
        self._delays = []

    def _judge(self, delays: np.ndarray, dropped: int) -> None:
        """By the delays of a window's frames, in intervals of the camera."""
        self._since_up += 1
        lost = (int((delays > LATE).sum()) + dropped) / (len(delays) + dropped)
        if lost > MANY:
            self._calm = 0
            if self.level == len(STEPS):
                return
            if self._since_up <= REGRETTED:
                # Going up was premature.
                self._needed = min(PATIENCE_GROWS * self._needed, MOST_CALM)
            self.level += 1
        elif lost <= FEW and np.percentile(delays, 95) <= ROOM:
            self._calm += 1
            if self._calm >= self._needed and self.level:
                self.level -= 1
                self._calm, self._since_up = 0, 0
            elif self._calm >= MOST_CALM:
                self._needed = CALM
        else:
            self._calm = 0
