"""What is read of a driver, against exact truth: rendered people who perform before a webcam.

Nothing is drawn of an avatar: measured is what the live path hands to the rig, with its own
smoothing: turns, nods and named amounts since the first frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livepuppet.realtime.animator import Animator
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.rig.amounts import INDEX
from livepuppet.realtime.rig.pose import HeadPose
from livepuppet.train.metrics.camera_noise import camera_noise

#: Frames a second, and of one performance.
RATE, LENGTH = 25.0, 150

#: Frames of a face that holds still, of which the first are left out until filters have settled.
STILL, SETTLING = 60, 20

#: A person who does less than this of something, in its own unit, says nothing of it.
LEAST = 0.02


@dataclass(frozen=True, eq=False)
class Performance:
    """One person before a camera.

    Attributes:
        frames: uint8 RGB (T, S, S, 3), without noise.
        angles: float64 (T, 3), yaw, pitch and roll of the head since the first frame, in radians.
        amounts: float32 (T, 52) since the first frame.
    """

    frames: np.ndarray
    angles: np.ndarray
    amounts: np.ndarray


def _amount(*names: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The mean of amounts; those that begin with '-' count negatively."""
    signs = [-1.0 if name.startswith("-") else 1.0 for name in names]
    columns = [INDEX[name.lstrip("-")] for name in names]
    pairs = max(sum(sign > 0 for sign in signs), 1)
    return lambda angles, amounts: amounts[:, columns].astype(np.float64) @ np.array(signs) / pairs


#: What is looked at, from angles and amounts of T frames: (T,).
QUANTITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "turn": lambda angles, amounts: angles[:, 0],
    "nod": lambda angles, amounts: angles[:, 1],
    "roll": lambda angles, amounts: angles[:, 2],
    "open": _amount("jawOpen"),
    "smile": _amount("mouthSmileLeft", "mouthSmileRight"),
    "pucker": _amount("mouthPucker"),
    "blink left": _amount("eyeBlinkLeft"),
    "blink right": _amount("eyeBlinkRight"),
    "look aside": _amount("eyeLookOutLeft", "eyeLookInRight", "-eyeLookInLeft", "-eyeLookOutRight"),
    "look down": _amount("eyeLookDownLeft", "eyeLookDownRight", "-eyeLookUpLeft", "-eyeLookUpRight"),
    "brow": _amount("browOuterUpLeft", "browOuterUpRight", "-browDownLeft", "-browDownRight"),
}


def reading_figures(
    performances: list[Performance], engine: str | Engine | None = None, smoothing: float = 1.0, seed: int = 0
) -> dict[str, dict[str, float]]:
    """How well and how steadily each of `QUANTITIES` is read.

    Args:
        performances: of several people.
        engine: see `Animator`.
        smoothing: as live.
        seed: of the camera's noise.

    Returns:
        per quantity "response", the read change since the first frame projected on the true one (1 is right); "r", the
        correlation over a performance, mean over people; "stray", RMS of what is read where the truth is at rest
        (below `LEAST`); "trembling", RMS step from frame to frame while the person holds still. Angles in radians.
    """
    animator = Animator(
        performances[0].frames[0],
        engine=engine,
        settings=MotionSettings(countdown=0.0, smoothing=smoothing),
        crop="full",
        avatar_crop="center",
        size=(64, 64),
    )
    random = np.random.default_rng(seed)
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in QUANTITIES}
    steps: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for one in performances:
        read = _read(animator, [camera_noise(frame, random) for frame in one.frames])
        still = _read(animator, [camera_noise(one.frames[0], random) for _ in range(STILL)])
        for name, of in QUANTITIES.items():
            rows[name].append((of(*read), of(one.angles, one.amounts)))
            steps[name].append(float(np.square(np.diff(of(*still)[SETTLING:])).mean()))
    return {name: _scores(rows[name]) | {"trembling": np.sqrt(np.mean(steps[name]))} for name in QUANTITIES}


def _read(animator: Animator, frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Angles (T, 3) and amounts (T, 52) of frames, of which the first is D1."""
    animator.reset()
    animator.plan(frames[0], 0.0)
    angles, amounts = [], []
    for index, frame in enumerate(frames):
        drawing = animator.plan(frame, (index + 1) / RATE).drawing
        motion = None if drawing is None else drawing.motion
        if motion is None or motion.amounts is None:
            angles.append(HeadPose.rest().angles)
            amounts.append(np.zeros(len(INDEX), np.float32))
            continue
        angles.append(motion.pose.angles)
        amounts.append(motion.amounts)
    return np.array(angles), np.stack(amounts)


def _scores(rows: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    moved = [(read, true) for read, true in rows if true.std() > LEAST]
    together = [float(np.corrcoef(read + 1e-9 * true, true)[0, 1]) for read, true in moved]
    read, true = (np.concatenate(column) for column in zip(*rows, strict=True))
    rest = np.abs(true) < LEAST
    return {
        "response": float((read * true).sum() / max(np.square(true).sum(), 1e-9)),
        "r": float(np.mean(together)) if together else float("nan"),
        "stray": float(np.sqrt(np.square(read[rest]).mean())) if rest.any() else float("nan"),
    }
