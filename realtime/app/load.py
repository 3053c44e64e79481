"""Under load quality steps down before time does, one named step after another, and up again when
there is room.

Judged by the delay from capture to hand-over and by the frames that were dropped, in windows of the
frames' own time. There is room for a step back up where frames would still be in time if their
stages took as much longer as the step saves. What it saves is known, as a share of what the stages
take now: what they took before it was taken was measured beside whatever kept the computer busy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

#: Seconds of frames that are judged together, and the fewest of them.
WINDOW, FEWEST = 2.0, 8

#: Seconds after a change of level that are not judged: the first pictures find nothing in the caches.
SETTLING = 0.7

#: A frame that comes so many seconds late waited for something that leaving out details does not hasten: a
#: rig that was being made, a computer that slept.
STALLED = 1.0

#: A frame is late after this many intervals of the camera, and not before so many seconds: that picture and sound are apart is
#: noticed from there on (ITU-R BT.1359), and half a fast camera's frames would be a high price for less. One that keeps its
#: stages busy for more than this share of an interval leaves no time for the next.
LATE, NOTICED, FULL = 2.0, 0.045, 0.95

#: Shares of frames late or dropped at which quality steps down, at once or in two windows in a row, and up to
#: which there is room.
MOST, MANY, FEW = 0.25, 0.1, 0.05

#: Windows with room in a row before a step is taken back. One that has to be taken again within
#: `REGRETTED` windows waits twice as long for its next chance, up to `MOST_CALM`: unless frames
#: then take less than this share of what they took when it was tried in vain.
CALM, REGRETTED, MOST_CALM, FASTER = 2, 3, 16, 0.85

#: Where what a step has nothing to do with takes so many times as long as before it was taken back, it is taken again because of
#: something else that came: that is nothing to wait longer for. As told by this last share of a window.
SLOWER, LAST = 1.2, 0.25

#: A camera that is faster than this shows more frames a second than calls do, and than eyes and mouth are worth looking at
#: closely.
FAST = 45.0

#: A step is taken back only where cores have been idle for so many times what that takes more of them.
ROOM = 1.2

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
        planning, painting: how many times as long both stages take once it is taken back; where that shows more frames, because
            they wait for each other's turns.
        every: of so many frames of the camera one is shown.
    """

    name: Literal["rate", "close-ups", "detail"]
    told: str
    ended: str
    planning: float = 1.0
    painting: float = 1.0
    every: int = 1


#: In the order in which they are taken: what costs least for the time that it saves comes first.
STEPS = (
    Step(
        "close-ups",
        "eyes and mouth are analysed half as often",
        "eyes and mouth are analysed as often as before",
        planning=1.2,
    ),
    Step(
        "detail",
        "the picture is drawn at six tenths of its resolution",
        "the picture is drawn at its full resolution",
        painting=1.4,
    ),
)

#: The same for a camera that is faster than `FAST`: half its frames at full resolution are seen before all of them without.
STEPS_FAST = (
    Step(
        "rate",
        "every other frame of the camera is shown",
        "every frame of the camera is shown",
        planning=1.25,
        painting=1.25,
        every=2,
    ),
    *STEPS,
)


@dataclass(frozen=True)
class Effort:
    """What one frame took.

    Attributes:
        planning, painting: seconds.
        overlaps: whether the next frame is planned while this one is painted.
        core: seconds of both in which they had a core; None where that says nothing, as of a graphics card's work.
    """

    planning: float
    painting: float
    overlaps: bool
    core: float | None = None

    @property
    def seconds(self) -> float:
        return self.planning + self.painting

    @property
    def period(self) -> float:
        """Seconds after which the next one can be taken."""
        return max(self.planning, self.painting) if self.overlaps else self.seconds

    def beside(self, step: Step) -> float:
        """Seconds of the stage that `step` has nothing to do with."""
        return self.painting if step.planning > step.painting else self.planning

    def without(self, step: Step) -> Effort:
        """What it would have taken had `step` been taken back."""
        whole = Effort(step.planning * self.planning, step.painting * self.painting, self.overlaps)
        # To wait takes no core.
        longer = whole.seconds / max(self.seconds, 1e-9) if step.every == 1 else 1.0
        return replace(whole, core=None if self.core is None else longer * self.core)


class LoadControl:
    """Tells how many steps are in force.

    Args:
        idle: tells for how many seconds cores have had nothing to do, all together; None where nobody knows.

    Attributes:
        steps: those that there are, in their order: `STEPS`, or `STEPS_FAST`.
        level: so many of them are in force.
    """

    def __init__(self, idle: Callable[[], float | None] = lambda: None):
        self._idle = idle
        self._use(STEPS)
        self._began: float | None = None
        self._dropped = self._late = 0
        self._idle_before: float | None = None
        self._delays: list[float] = []
        self._efforts: list[Effort] = []
        self._calm = 0
        #: Whether too many were late in the window before.
        self._warned = False
        #: Nothing captured before that is judged.
        self._from = -math.inf
        #: The step that was taken back last, windows ago, and seconds per frame before that; of all, and of what it has
        #: nothing to do with.
        self._trial: tuple[int, float, float] | None = None
        self._since_trial = 0

    def _use(self, steps: tuple[Step, ...]) -> None:
        self.steps, self.level = steps, 0
        #: By step: windows with room that it waits for, and median seconds per frame when it was
        #: last tried to do without it, where that was in vain.
        self._needed = [CALM] * len(steps)
        self._in_vain: list[float | None] = [None] * len(steps)

    @property
    def every(self) -> int:
        """Of so many frames of the camera one is shown."""
        return max((step.every for step in self.steps[: self.level]), default=1)

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
        if delay > STALLED:
            self.restart()
            return self.level
        if self._began is None or captured < self._from:
            self._begin(captured, dropped)
        self._delays.append(delay)
        self._efforts.append(effort)
        assert self._began is not None
        if interval is None:
            return self.level
        self._late += delay > _latest(interval)
        if len(self._delays) < FEWEST:
            return self.level
        # Of a whole window's frames too many are late already.
        hopeless = self._late + dropped - self._dropped > MOST * WINDOW / (self.every * interval)
        if captured - self._began >= WINDOW or hopeless:
            before = self.level
            idle = self._idle()
            if idle is not None and self._idle_before is not None:
                idle = (idle - self._idle_before) / max(captured - self._began, 1e-3)
            self._judge(np.array(self._delays), self._efforts, dropped - self._dropped, interval, idle)
            if self.level != before:
                self._from = captured + SETTLING
            self._begin(captured, dropped)
        return self.level

    def restart(self) -> None:
        """Judge nothing by what has been until now: the camera was away, or something was changed."""
        self._began = None
        self._calm, self._warned = 0, False

    def _begin(self, captured: float, dropped: int) -> None:
        self._began, self._dropped, self._late = captured, dropped, 0
        self._idle_before = self._idle()
        self._delays, self._efforts = [], []

    def _judge(
        self, delays: np.ndarray, efforts: list[Effort], dropped: int, interval: float, idle: float | None
    ) -> None:
        """By the frames of a window, and by how many cores have been idle in it."""
        steps = STEPS_FAST if FAST * interval < 1 else STEPS
        if steps is not self.steps:
            # Another camera, or the same in other light.
            self._use(steps)
            self._trial, self._calm, self._warned = None, 0, False
        self._since_trial += 1
        latest = _latest(interval)
        lost = _lost(delays, latest, dropped)
        again, self._warned = self._warned, lost > MANY
        if lost > MANY:
            self._calm = 0
            if self.level < len(self.steps) and (again or lost > MOST):
                self._step_down(efforts)
            return
        if self._since_trial > REGRETTED:
            self._trial_went_well()
        if not self.level:
            return
        step = self.steps[self.level - 1]
        whole = [effort.without(step) for effort in efforts]
        longer = np.array([after.seconds - now.seconds for after, now in zip(whole, efforts, strict=True)])
        period = float(np.median([effort.period for effort in whole]))
        every = max((other.every for other in self.steps[: self.level - 1]), default=1)
        # Cores that the frames take now, and then.
        now, then = (
            sum(effort.core or 0.0 for effort in some) / (len(some) * count * interval)
            for some, count in ((efforts, self.every), (whole, every))
        )
        if (
            period > FULL * every * interval
            or _lost(delays + longer, latest, dropped) > FEW
            or (idle is not None and idle < ROOM * (then - now))
        ):
            self._calm = 0
            return
        self._calm += 1
        seconds = float(np.median([effort.seconds for effort in efforts]))
        in_vain = self._in_vain[self.level - 1]
        faster = in_vain is not None and seconds < FASTER * in_vain
        if self._calm >= (CALM if faster else self._needed[self.level - 1]):
            self._trial_went_well()
            self.level -= 1
            beside = float(np.median([effort.beside(step) for effort in whole]))
            self._trial, self._since_trial, self._calm = (self.level, seconds, beside), 0, 0

    def _trial_went_well(self) -> None:
        if self._trial is not None:
            step = self._trial[0]
            self._needed[step], self._in_vain[step], self._trial = CALM, None, None

    def _step_down(self, efforts: list[Effort]) -> None:
        if self._trial is not None and self._trial[0] == self.level and self._since_trial <= REGRETTED:
            step, seconds, beside = self._trial
            last = efforts[-max(1, round(LAST * len(efforts))) :]
            now = float(np.median([effort.beside(self.steps[step]) for effort in last]))
            if now < SLOWER * beside:
                # Doing without this step was premature.
                self._needed[step] = min(2 * self._needed[step], MOST_CALM)
                self._in_vain[step] = seconds
        self._trial, self._warned = None, False
        self.level += 1


def _latest(interval: float) -> float:
    """Seconds after which a frame is late."""
    return max(LATE * interval, NOTICED)


def _lost(delays: np.ndarray, latest: float, dropped: int) -> float:
    """The share of frames later than that or dropped."""
    return (int((delays > latest).sum()) + dropped) / (len(delays) + dropped)
