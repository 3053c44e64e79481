"""What smoothing a file does: how much heads that hold still tremble, beside their own motion; and what is left of blinks and syllables.

The driver's own motion is optical flow on forehead, nose and cheeks, from frame to frame. A face is held still where its head and
its parts move least; what is read of a head as lids and lips move is an error of another kind, which no smoothing takes away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animate import OFFLINE
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.clip.plan import Plan, plan
from livepuppet.realtime.clip.smoothing import smooth
from livepuppet.realtime.clip.survey import Survey, Watcher
from livepuppet.realtime.clip.track import Seen, Track
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.rig.amounts import INDEX, CloseUpReader
from livepuppet.realtime.rig.pose import PoseTracker, split

#: What of a head's motion is compared: radians, a logarithm, and eye distances.
PARTS: tuple[str, ...] = ("roll", "size", "across", "down")

#: A face is held still where, over so many frames, its head moves less than in this share of the clip, and then its parts so.
AROUND, STILLEST = 9, 0.5

#: A blink, or a syllable, is a peak of so much or more above what is around it, so many frames to either side.
LEAST_PEAK, BESIDE = {"blink": 0.4, "syllable": 0.1}, 8

#: Discs on the skull, where skin moves with the head: how far below the eyes' middle, or below the nose's tip, and aside, and
#: their radius, all in eye distances.
_DISCS = (
    (False, -0.75, 0.0, 0.45),
    (False, 0.35, 0.0, 0.22),
    (True, 0.0, 0.0, 0.28),
    (True, 0.0, 0.45, 0.25),
    (True, 0.0, -0.45, 0.25),
)

HEADING = (
    "Trembling of a face that is held still, as shares of the driver's own: with smoothing (without). Height of peaks and their lag in"
    " frames, of those without smoothing.",
    "",
    "| clip | still frames | " + " | ".join(PARTS) + " | blinks, height | lag | syllables, height | lag |",
    "|---|--:|" + "--:|" * len(PARTS) + "--:|--:|--:|--:|",
)


@dataclass(frozen=True)
class Row:
    """One clip.

    Attributes:
        clip: its name.
        still: frames in which the face is held still.
        trembling, unsmoothed: RMS step from frame to frame in these frames over that of the driver's own, by part.
        peaks: of blinks and syllables their number, and the medians of their height (a share) and lag (frames).
    """

    clip: str
    still: int
    trembling: dict[str, float]
    unsmoothed: dict[str, float]
    peaks: dict[str, tuple[int, float, float]]


def measure(engine: Engine, clips: Sequence[Path]) -> Iterator[Row]:
    """Look through each clip, and compare what the rig would be told with smoothing and without.

    Raises:
        LivePuppetError: a clip cannot be read, or shows no face in some frame.
    """
    animator = Animator(bundled.AVATAR, engine=engine, settings=OFFLINE, crop="full", size=64)
    for clip in clips:
        survey, flow = _looked(animator, clip)
        smoothed, plain = (
            _told(
                plan(survey, engine.keypoint_names, engine.size, "auto", strength, matrices=engine.matrices),
                engine,
            )
            for strength in (1.0, 0.0)
        )
        still = _still(flow, survey)
        own = _rms(flow[still])
        peaks = {
            name: _peaks(plain[1][:, column], smoothed[1][:, column], least)
            for column, (name, least) in enumerate(LEAST_PEAK.items())
        }
        steps = (_rms(np.diff(told[0], axis=0)[still]) / own for told in (smoothed, plain))
        trembling, unsmoothed = (dict(zip(PARTS, step.tolist(), strict=True)) for step in steps)
        yield Row(clip.name, int(still.sum()), trembling, unsmoothed, peaks)


def line(row: Row) -> str:
    cells = [f"{row.trembling[part]:.2f} ({row.unsmoothed[part]:.2f})" for part in PARTS]
    for count, height, lag in row.peaks.values():
        cells += [f"{height:.2f} of {count}", f"{lag:+.2f}"] if count else ["-", "-"]
    return f"| {row.clip} | {row.still} | " + " | ".join(cells) + " |"


def medians(rows: Sequence[Row]) -> str:
    """The table's last line, over clips."""
    parts = [
        f"{np.median([row.trembling[part] for row in rows]):.2f} ({np.median([row.unsmoothed[part] for row in rows]):.2f})"
        for part in PARTS
    ]
    for name in LEAST_PEAK:
        own = [row.peaks[name] for row in rows if row.peaks[name][0]]
        parts += [
            f"{np.median([one[place] for one in own]):{form}}" if own else "-"
            for place, form in ((1, ".2f"), (2, "+.2f"))
        ]
    return "| median | | " + " | ".join(parts) + " |"


def _looked(animator: Animator, clip: Path) -> tuple[Survey, np.ndarray]:
    """A clip, and by how much its head moves from frame to frame: (N - 1, parts)."""
    watcher, seen, flow = Watcher(animator.engine, animator.look_closer), Track(), []
    before: np.ndarray | None = None
    with open_video(str(clip)) as video:
        for frame in video:
            one = watcher.see(frame)
            if one.keypoints is None:
                raise UserError(
                    f"No face is seen at {float(frame.time):.1f} s of {clip}: give clips of a face that stays."
                )
            gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
            if before is not None:
                flow.append(_flow(before, gray, one, animator.engine.keypoint_names))
            seen.append(one)
            before = gray
    if len(seen) < 2 * AROUND:
        raise UserError(f"{clip} is too short: give clips of a second or more.")
    return Survey(seen, None, None, watcher.sizes, frozenset(watcher.cuts)), np.array(flow)


def _flow(before: np.ndarray, now: np.ndarray, seen: Seen, names: Sequence[str]) -> tuple[float, ...]:
    """How the head of `seen` moved since the frame before, gray pictures both: (parts,)."""
    assert seen.keypoints is not None and seen.square is not None
    places = (seen.keypoints.points.astype(np.float64) + 1) / 2 * seen.square.side + (
        seen.square.x,
        seen.square.y,
    )
    at = dict(zip(names, places, strict=True))
    irises = [at["left iris"], at["right iris"]]
    middle, apart = np.mean(irises, axis=0), float(np.hypot(*(irises[1] - irises[0])))
    down = (at["nose tip"] - middle) / max(float(np.hypot(*(at["nose tip"] - middle))), 1e-6)
    across, mask = np.array([down[1], -down[0]]), np.zeros_like(now)
    for of_nose, below, aside, radius in _DISCS:
        centre = (at["nose tip"] if of_nose else middle) + apart * (below * down + aside * across)
        cv2.circle(
            mask, (round(float(centre[0])), round(float(centre[1]))), max(round(radius * apart), 1), 255, -1
        )
    points = cv2.goodFeaturesToTrack(before, 120, 0.003, 3, mask=mask)
    if points is None:
        return (0.0,) * len(PARTS)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, now, points, None, winSize=(21, 21), maxLevel=3)  # type: ignore[call-overload]
    back, _, _ = cv2.calcOpticalFlowPyrLK(now, before, moved, None, winSize=(21, 21), maxLevel=3)  # type: ignore[call-overload]
    good = (found.ravel() == 1) & (np.hypot(*(back - points).reshape(-1, 2).T) < 0.3)
    turn = (
        cv2.estimateAffinePartial2D(points[good], moved[good], ransacReprojThreshold=1.0)[0]
        if good.sum() > 3
        else None
    )
    if turn is None:
        return (0.0,) * len(PARTS)
    shift = (turn[:, :2] @ middle + turn[:, 2] - middle) / apart
    return (
        math.atan2(turn[1, 0], turn[0, 0]),
        math.log(math.hypot(turn[0, 0], turn[1, 0])),
        float(shift[0]),
        float(shift[1]),
    )


def _told(made: Plan, engine: Engine) -> tuple[np.ndarray, np.ndarray]:
    """What a rig would be told of each frame: the head's place (N, parts), and how far eyes are shut and the jaw is open (N, 2)."""
    heads, parts, reader = [], [], CloseUpReader()
    tracker: PoseTracker | None = None
    for one in made.shown:
        if one.begins is not None:
            tracker = PoseTracker(engine.keypoint_names, one.begins)
            if one.begins.reading is not None:
                reader.set_neutral(one.begins.reading)
        assert tracker is not None and one.driving is not None and one.driving.reading is not None
        pose, amounts = tracker.pose(one.driving), reader.read(one.driving.reading)
        heads.append((split(pose.rotation)[1], math.log(pose.scale), *(pose.shift / tracker.unit)))
        blink = (amounts[INDEX["eyeBlinkLeft"]] + amounts[INDEX["eyeBlinkRight"]]) / 2
        parts.append((blink, amounts[INDEX["jawOpen"]]))
    return np.array(heads), np.array(parts, np.float64)


def _still(flow: np.ndarray, survey: Survey) -> np.ndarray:
    """Between which frames the face is held still: bool (N - 1,)."""
    speed = _around(np.sqrt(np.square(flow[:, (0, 2, 3)]).sum(axis=1)))
    readings = [one.keypoints.reading for one in survey.seen if one.keypoints is not None]
    numbers = np.array(
        [replace(one, anchors=None).numbers() for one in readings if one is not None], np.float64
    )
    busy = _around(np.abs(np.diff(smooth(numbers[..., None], 1 / 25)[..., 0], axis=0)).mean(axis=1))
    still = speed <= np.quantile(speed, STILLEST)
    return still & (busy <= np.quantile(busy[still], STILLEST))


def _around(values: np.ndarray) -> np.ndarray:
    return np.convolve(np.pad(values, AROUND // 2, mode="edge"), np.full(AROUND, 1 / AROUND), "valid")


def _rms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(values).mean(axis=0)) + 1e-9


def _peaks(plain: np.ndarray, smoothed: np.ndarray, least: float) -> tuple[int, float, float]:
    """Of the peaks of `plain` (N,): their number, and the medians of their height in `smoothed` (a share) and of their lag (frames)."""
    heights, lags = [], []
    for index in range(1, len(plain) - 1):
        low, high = max(index - BESIDE, 0), min(index + BESIDE + 1, len(plain))
        around, after = plain[low:high], smoothed[low:high]
        rise = plain[index] - _foot(around, index - low)
        if plain[index] < around.max() or rise < least:
            continue
        foot = _foot(after, index - low)
        heights.append((after.max() - foot) / rise)
        lags.append(_middle(after) - _middle(around))
    return (
        (len(heights), float(np.median(heights)), float(np.median(lags)))
        if heights
        else (0, math.nan, math.nan)
    )


def _foot(around: np.ndarray, index: int) -> float:
    """What a peak at `index` rises from."""
    return float(max(around[: index + 1].min(), around[index:].min()))


def _middle(peak: np.ndarray) -> float:
    """Where the upper half of a peak has its middle."""
    above = np.maximum(peak - (peak.max() + peak.min()) / 2, 0.0)
    return float((above * np.arange(len(peak))).sum() / max(float(above.sum()), 1e-9))
