"""What a face does by itself: it blinks, looks about, breathes, and its head is never still, least of all while it talks.

All of it comes from one seed, so that two runs over the same sound are the same.
"""

from __future__ import annotations

import math

import numpy as np

from livepuppet.realtime.rig.amounts import INDEX

#: Seconds between blinks; the share of them that is followed by another one, and after how many seconds.
BLINKS, DOUBLE, SECOND = (3.0, 6.0), 0.16, (0.28, 0.42)

#: Seconds in which lids close, stay shut, and open.
CLOSING, SHUT, OPENING = 0.075, 0.03, 0.16

#: Seconds between looks elsewhere, how far those go (shares of what eyes can do), and how often eyes come back to the viewer.
LOOKS, FAR, BACK, SACCADE = (0.9, 3.2), (0.22, 0.1), 0.6, 0.03

#: A breath in seconds; by how much the head rises with it, in eye distances, and comes nearer.
BREATH, RISE, NEARER = 4.2, 0.012, 0.004

#: A head at rest sways by this much, in radians of yaw, pitch and roll, in these frequencies (Hz); and by how much more while
#: its mouth speaks.
SWAY, SWAYS, TALK = np.array([0.022, 0.012, 0.012]), (0.07, 0.13, 0.29), 1.3

#: While it speaks, it takes a new pose every so many seconds, this far away at most, as fast as a spring of this frequency.
POSES, REACH, SPRING = (1.2, 3.0), np.array([0.11, 0.06, 0.06]), 4.5

#: A stressed syllable nods by this much, in radians, and lifts the brows by this amount.
NOD, BROWS = 0.07, 0.3

#: Seconds over which the voice is averaged for its stress, and against which.
STRESS, CONTEXT = 0.12, 0.9


class Liveliness:
    """Blinks, looks, breath and sway over time. One thread at a time.

    Args:
        seed: of its chance.

    Attributes:
        head: float64 (3,), yaw, pitch and roll in radians: to the picture's right, down, clockwise.
        shift: downwards, in eye distances.
        scale: of the head.
    """

    def __init__(self, seed: int = 0):
        self._random = np.random.default_rng(seed)
        self._phases = self._random.uniform(0, 2 * math.pi, (len(SWAYS), 3))
        self._time: float | None = None
        self._now = 0.0
        self._blink_at, self._last_was_single = self._random.uniform(0.8, BLINKS[1]), True
        self._look_at, self._target, self._gaze = self._random.uniform(*LOOKS), np.zeros(2), np.zeros(2)
        self._pose_at, self._pose, self._goal, self._speed = 0.0, np.zeros(3), np.zeros(3), np.zeros(3)
        self._talk = self._short = self._long = 0.0
        self.head, self.shift, self.scale = np.zeros(3), 0.0, 1.0

    def update(self, time: float, speaking: float = 0.0, open_by: float = 0.0) -> None:
        """Go on to `time` seconds of any growing clock.

        Args:
            speaking: whether the mouth speaks, 0 to 1.
            open_by: how far it is open, 0 to 1.
        """
        passed = 0.0 if self._time is None else min(max(time - self._time, 0.0), 0.25)
        self._time = time
        self._now += passed
        self._talk += _share(passed, 0.5) * (speaking - self._talk)
        self._short += _share(passed, STRESS) * (open_by - self._short)
        self._long += _share(passed, CONTEXT) * (open_by - self._long)
        self._look(passed)
        self._turn(passed)
        breath = math.sin(2 * math.pi * self._now / BREATH)
        self.shift, self.scale = -RISE * breath, 1 + NEARER * breath
        waves = [
            np.sin(2 * math.pi * hertz * self._now + row)
            for hertz, row in zip(SWAYS, self._phases, strict=True)
        ]
        sway = SWAY * (1 + TALK * self._talk) * sum(waves) / math.sqrt(len(SWAYS))
        self.head = sway + self._pose + np.array([0.0, NOD * self.stress - 0.006 * breath, 0.0])

    @property
    def stress(self) -> float:
        """How much louder this syllable is than those around it, about -0.5 to 0.5."""
        return self._talk * (self._short - self._long)

    def write(self, amounts: np.ndarray, eyes: bool = True) -> None:
        """Blinks, and with `eyes` looks, into `amounts` (52,), in place."""
        blink = self._blink()
        for side in ("Left", "Right"):
            at = INDEX["eyeBlink" + side]
            amounts[at] = max(amounts[at], blink)
            amounts[INDEX["browOuterUp" + side]] += 0.5 * BROWS * max(self.stress, 0.0)
        amounts[INDEX["browInnerUp"]] += BROWS * max(self.stress, 0.0)
        if eyes:
            look(amounts, *self._gaze)

    def _blink(self) -> float:
        since = self._now - self._blink_at
        if since < 0:
            return 0.0
        if since < CLOSING:
            return _eased(since / CLOSING)
        if since < CLOSING + SHUT:
            return 1.0
        opening = (since - CLOSING - SHUT) / OPENING
        if opening >= 1:
            again = self._random.random() < DOUBLE and self._last_was_single
            self._last_was_single = not again
            self._blink_at = self._now + self._random.uniform(*(SECOND if again else BLINKS))
            return 0.0
        return 1 - _eased(opening)

    def _look(self, passed: float) -> None:
        if self._now >= self._look_at:
            self._look_at = self._now + self._random.uniform(*LOOKS)
            back = self._random.random() < BACK
            self._target = np.zeros(2) if back else self._random.normal(0, 0.5, 2).clip(-1, 1) * FAR
        self._gaze = self._gaze + _share(passed, SACCADE) * (self._target - self._gaze)

    def _turn(self, passed: float) -> None:
        if self._now >= self._pose_at:
            self._pose_at = self._now + self._random.uniform(*POSES)
            self._goal = self._random.uniform(-1, 1, 3) * REACH
        # Critically damped, in steps that stay stable.
        for _ in range(4):
            pull = SPRING**2 * (self._talk * self._goal - self._pose) - 2 * SPRING * self._speed
            self._speed = self._speed + passed / 4 * pull
            self._pose = self._pose + passed / 4 * self._speed


def look(amounts: np.ndarray, right: float, down: float) -> None:
    """Both eyes to the picture's right and down, by shares of what eyes can do, into `amounts` (52,)."""
    for side, outward in (("Left", right), ("Right", -right)):
        amounts[INDEX["eyeLookOut" + side]] = max(outward, 0.0)
        amounts[INDEX["eyeLookIn" + side]] = max(-outward, 0.0)
        amounts[INDEX["eyeLookDown" + side]] = max(down, 0.0)
        amounts[INDEX["eyeLookUp" + side]] = max(-down, 0.0)


def _share(passed: float, seconds: float) -> float:
    return 1 - math.exp(-passed / seconds)


def _eased(share: float) -> float:
    return share * share * (3 - 2 * share)
