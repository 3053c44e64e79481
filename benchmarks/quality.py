"""What quality is paid for speed: the live path in fewer bits and with the steps of the load control, beside all of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.engine import Precision
from livepuppet.core.errors import LivePuppetError
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.load import DETAIL

#: What is compared: name, precision, every which frame is looked at closely, and the share of the resolution at which rigs draw.
SETUPS: tuple[tuple[str, Precision, int, float], ...] = (
    ("float32", "float32", 1, 1.0),
    ("int8", "int8", 1, 1.0),
    ("first step", "float32", 2, 1.0),
    ("both steps", "float32", 2, DETAIL),
)

#: Seconds until a rig of less detail has to be made.
_MAKING = 30.0


@dataclass(frozen=True)
class Quality:
    """One setup beside the first, over all clips.

    Attributes:
        setup: its name.
        response, correlation: of expression amounts, their change since the first frame; 1 is the same.
        amounts: mean difference of amounts, which go from 0 to 1.
        degrees: mean difference of the head's angles.
        levels: mean difference of the pictures.
        sharpness: variance of the pictures' Laplacian, as a share.
    """

    setup: str
    response: float
    correlation: float
    amounts: float
    degrees: float
    levels: float
    sharpness: float

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Shown:
    """Of one clip: amounts (T, 52), angles (T, 3) in radians, gray pictures uint8 (T, H, W)."""

    amounts: np.ndarray
    angles: np.ndarray
    pictures: list[np.ndarray]

    @property
    def sharpness(self) -> float:
        return float(np.mean([cv2.Laplacian(picture, cv2.CV_32F).var() for picture in self.pictures]))


def measure(
    clips: Sequence[Path] = (), engine: str | None = None, seconds: float = 4.0, side: int = 720
) -> list[Quality | tuple[str, str]]:
    """Every one of `SETUPS` that is here, on the bundled avatar.

    Args:
        clips: of faces; by default the bundled one.
        engine: see `load_engine`.
        seconds: of each clip.
        side: of the picture.

    Returns:
        a `Quality` each; or (setup, why there is none).

    Raises:
        LivePuppetError: a clip cannot be read, or shows no face.
    """
    videos = [_beginning(clip, seconds) for clip in clips or (bundled.DRIVING,)]
    first: list[_Shown] = []
    rows: list[Quality | tuple[str, str]] = []
    for name, precision, every, detail in SETUPS:
        try:
            animator = Animator(bundled.AVATAR, engine=engine, precision=precision, size=side)
        except LivePuppetError as error:
            if not first:
                raise
            rows.append((name, str(error)))
            continue
        shown = [_shown(animator, frames, every, detail) for frames in videos]
        first = first or shown
        rows.append(_compared(name, shown, first))
    return rows


def _beginning(clip: Path, seconds: float) -> list:
    with open_video(clip) as video:
        return list(itertools.takewhile(lambda frame: frame.time < seconds, video))


def _shown(animator: Animator, frames: list, every: int, detail: float) -> _Shown:
    assert animator.compositor is not None
    animator.begin_anew()
    animator.look_every, animator.compositor.detail = every, 1.0
    drawing = animator.plan(frames[0]).drawing
    if detail < 1 and drawing is not None and drawing.rig is not None:
        # Rigs of less detail are made beside, and drawn from then on.
        animator.compositor.detail, end = detail, time.perf_counter() + _MAKING
        while time.perf_counter() < end:
            now = animator.plan(frames[0]).drawing
            if now is not None and now.rig is not None and now.rig.shape != drawing.rig.shape:
                break
            time.sleep(0.05)
        animator.begin_anew()
    amounts, angles, pictures = [], [], []
    for frame in frames:
        result = animator.step(frame)
        pictures.append(cv2.cvtColor(np.ascontiguousarray(result.image[..., :3]), cv2.COLOR_RGB2GRAY))
        motion = None if result.drawing is None else result.drawing.motion
        read = None if motion is None else motion.amounts
        amounts.append(np.zeros(52, np.float32) if read is None else read.copy())
        angles.append(motion.pose.angles if motion is not None else (0.0, 0.0, 0.0))
        animator.track(result, frame)
    return _Shown(np.stack(amounts), np.array(angles), pictures)


def _compared(name: str, shown: list[_Shown], first: list[_Shown]) -> Quality:
    pairs = list(zip(shown, first, strict=True))
    now, true = (
        np.concatenate([(one.amounts - one.amounts[0]).ravel() for one in of]) for of in (shown, first)
    )
    return Quality(
        name,
        float(now @ true / max(float(true @ true), 1e-9)),
        float(np.corrcoef(now, true)[0, 1]) if now.std() and true.std() else float("nan"),
        float(np.mean([np.abs(one.amounts - other.amounts).mean() for one, other in pairs])),
        float(np.degrees(np.mean([np.abs(one.angles - other.angles).mean() for one, other in pairs]))),
        float(
            np.mean(
                [
                    cv2.absdiff(*both).mean()
                    for one, other in pairs
                    for both in zip(one.pictures, other.pictures, strict=True)
                ]
            )
        ),
        float(np.mean([one.sharpness / max(other.sharpness, 1e-9) for one, other in pairs])),
    )


def heading() -> list[str]:
    """The first lines of the Markdown table."""
    return [
        "| | amounts: response (correlation) | difference, 0 to 1 | pose | picture | sharpness |",
        "|---|--:|--:|--:|--:|--:|",
    ]


def line(row: Quality | tuple[str, str]) -> str:
    """A row of it."""
    if isinstance(row, tuple):
        return f"| {row[0]} | {row[1].replace('|', '/')} |" + " |" * 4
    return (
        f"| {row.setup} | {row.response:.3f} ({row.correlation:.3f}) | {row.amounts:.4f} | {row.degrees:.2f}° | "
        f"{row.levels:.2f} levels | {row.sharpness:.2f} |"
    )
