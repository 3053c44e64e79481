"""How well a file's neutral pose is found: clips that begin at a bad moment, against exact truth.

Each clip is a rendered person's performance after a few frames of a bad start. What the rig is told of the performance is
compared with what it is told of the same performance after a neutral start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import numpy as np

from livepuppet.core.video import Frame, Video
from livepuppet.realtime.animate import OFFLINE
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.clip.plan import plan, ranges
from livepuppet.realtime.clip.survey import Survey, Watcher, look_through
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.rig.amounts import INDEX
from livepuppet.realtime.rig.driver import RigDriver
from livepuppet.train.metrics.reading import QUANTITIES, RATE, Performance

#: Frames of a start, and of the performance after it.
BEGINNING, LENGTH = 6, 100

#: What is compared, and by how much the response after a bad start may differ.
COMPARED, WITHIN = ("turn", "nod", "open", "blink", "smile"), 0.05


@dataclass(frozen=True, eq=False)
class Started:
    """One person's performance and ways to begin it.

    Attributes:
        performance: angles and amounts since the person's neutral pose.
        starts: frames uint8 RGB (BEGINNING, S, S, 3) to show before it, by name; "neutral" is one.
    """

    performance: Performance
    starts: dict[str, np.ndarray]


def start_responses(
    people: list[Started], engine: Engine, neutrals: Sequence[str] = ("auto", "first")
) -> Iterator[tuple[str, str, dict[str, float]]]:
    """What each clip's response is, person by person and start by start.

    Args:
        neutrals: how D1 is chosen, see `realtime.clip.plan.plan`.

    Yields:
        For each of `neutrals`: it, the start's name, and the response in each of `COMPARED`: the slope of what is read over the
        truth; 1 is right.
    """
    animator = Animator(
        people[0].performance.frames[0],
        engine=engine,
        settings=replace(OFFLINE, smoothing=0.0),
        crop="full",
        avatar_crop="center",
        size=(64, 64),
    )
    for one in people:
        true = _compared(one.performance.angles, one.performance.amounts)
        for name, start in one.starts.items():
            survey = look_through(
                cast(Video, _Pictures(np.concatenate([start, one.performance.frames]))),
                Watcher(animator.engine, animator.look_closer),
            )
            for neutral in neutrals:
                read = _compared(*_told(animator, survey, neutral, len(start)))
                yield neutral, name, {key: _slope(read[key], true[key]) for key in COMPARED}


def _slope(read: np.ndarray, true: np.ndarray) -> float:
    return float(np.cov(read, true)[0, 1] / max(true.var(ddof=1), 1e-9))


class _Pictures(list[Frame]):
    """Frames as a video that is read from its beginning to its end."""

    start, broken = Fraction(0), None

    def __init__(self, pictures: np.ndarray):
        step = Fraction(1, round(RATE))
        super().__init__(Frame(one, index * step, 0.0, step) for index, one in enumerate(pictures))


def _told(animator: Animator, survey: Survey, neutral: str, skipped: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles (T, 3) and amounts (T, 52) that a rig is told of all frames but those `skipped`."""
    engine, reader = animator.engine, RigDriver(animator.engine.keypoint_names)
    made = plan(survey, engine.keypoint_names, engine.size, neutral, matrices=engine.matrices)
    known = ranges(made, engine.keypoint_names)
    angles, amounts = [], []
    for one in made.shown:
        if one.begins is not None:
            animator.begin_shot(one.begins, False, cut=one.cut)
            reader.range = known.get(one.person, reader.range)
        motion = None
        if one.driving is not None:
            animator.retargeter.move(one.driving, float(one.time))
            told = animator.retargeter.transferred
            motion = None if told is None else reader.motion(told, animator.keypoints, animator.settings)
        shown = None if motion is None else motion.amounts
        angles.append(motion.pose.angles if motion is not None else (0.0, 0.0, 0.0))
        amounts.append(np.zeros(len(INDEX), np.float32) if shown is None else shown)
    return np.array(angles[skipped:]), np.stack(amounts[skipped:])


def _compared(angles: np.ndarray, amounts: np.ndarray) -> dict[str, np.ndarray]:
    found = {name: of(angles, amounts) for name, of in QUANTITIES.items()}
    found["blink"] = (found["blink left"] + found["blink right"]) / 2
    return {name: found[name] for name in COMPARED}
