"""Which frame of a clip becomes D1: the one in which the driver's face is most at rest.

Relative motion shows how the driver moves away from D1. Live, D1 is the best of a countdown; of a
file, every frame can be asked. The papers take the first, whatever it shows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.names import path_of
from livepuppet.core.numbers import number_of, quoted
from livepuppet.core.reading import EYE_NUMBERS, HEAD_AMOUNTS, MOUTH_AMOUNTS
from livepuppet.realtime.clip.track import Seen
from livepuppet.realtime.motion.calibration import SURE, pose, pose_indices
from livepuppet.realtime.motion.parts import Origin, rigid_indices
from livepuppet.realtime.rig.close_ups import EYE_AT

#: What is wrong with a frame, beyond *free*, in units of which one costs 1 and two cost 4. Openings
#: of the mouth and its width are in mouth widths (or face units, of close-ups), openings of the
#: eyes in shares of the driver's usual one, what lips do in shares of the most that they can, gaze in shares of what eyes can do, angles in radians, places in sides of the square, speed
#: in sides per second, sharpness as a share of the clip's.
FREE = {
    "mouth": 0.02,
    "width": 0.05,
    "lips": 0.08,
    "shut": 0.10,
    "wide": 0.10,
    "gaze": 0.25,
    "turn": 0.06,
    "tilt": 0.03,
    "nod": 0.05,
    "place": 0.03,
    "speed": 0.06,
    "sure": 0.0,
    "blur": 0.3,
    "order": 0.0,
}
UNIT = {
    "mouth": 0.08,
    "width": 0.10,
    "lips": 0.12,
    "shut": 0.20,
    "wide": 0.20,
    "gaze": 0.25,
    "turn": 0.14,
    "tilt": 0.10,
    "nod": 0.12,
    "place": 0.10,
    "speed": 0.30,
    "sure": 0.10,
    "blur": 0.15,
    "order": 0.34,
}

#: What people call it.
SAID = {
    "mouth": "an open mouth",
    "width": "a mouth that smiles or speaks",
    "lips": "a mouth that smiles or speaks",
    "shut": "eyes that are not fully open",
    "wide": "wide eyes",
    "gaze": "eyes that look aside",
    "turn": "a turned head",
    "tilt": "a tilted head",
    "nod": "a nodding head",
    "place": "the head elsewhere",
    "speed": "a head in motion",
    "sure": "a face that is hard to read",
    "blur": "a blurred face",
    "order": "a face that is hard to read",
}

#: Lips rest where they do in this share of the frames, but never further apart than the second number, in units of "mouth"; eyes are
#: as far open as in this share, for models that read nothing closely.
RESTING_LIPS, SHUT_LIPS, OPEN_EYES = 0.15, 0.03, 0.7

#: Shut lips are as wide at rest as in this share of the frames that show them: some are narrower as they speak.
SHUT_WIDTH = 0.65

#: What a mouth at rest does not do, by close-ups; some mouths seem to do a little of it all the time, as in this share of the frames,
#: and no more than that.
LIPS = (
    *("mouthSmile", "mouthFrown", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthPress"),
    *("mouthPucker", "mouthFunnel", "mouthLeft", "mouthRight"),
)
ALWAYS, AT_MOST = 0.1, 0.2

#: Eyes are open as usual where close-ups see no more of a blink than this beyond the least (people
#: with narrow eyes seem to blink a little all the time), and no wide eyes; in so many frames.
BLINKS, WIDE, FEW = 0.1, 0.15, 3

#: Lips that are at fault by more than this in the best frame, in the same units, never rest: D1 has those that the driver would have.
NO_REST = 0.4

#: Neighbours on either side that share in a frame's cost.
NEIGHBOURS = 2

#: The first frame is taken, as in the papers, unless another costs this much less.
WORTH = 0.5


def moment_or_picture(neutral: str | float | os.PathLike) -> str | float | Path:
    """`neutral` as `auto`, `first`, seconds, or the path of a picture. Raises UserError."""
    if neutral in ("auto", "first"):
        return str(neutral)
    with suppress(ValueError):
        if isinstance(neutral, (int, float)):
            return number_of(neutral, 0)
        text = path_of(neutral, "the picture of the neutral pose")
        if os.path.isfile(text):
            return Path(text)
        minutes, _, seconds = text.rpartition(":")
        return 60 * number_of(minutes or "0", 0) + number_of(seconds, 0)
    raise UserError(
        f"The neutral pose {quoted(neutral)} is neither auto, first, seconds (3.2 or 0:03.2) nor a picture that is there."
    )


@dataclass(frozen=True)
class Choice:
    """A frame for D1.

    Attributes:
        index: among the frames asked.
        instead_of: what is wrong with the first frame, where that is not taken.
        lips: the most that D1's `FaceReading.mouth` may be, (M,); None where the frame shows lips at rest.
    """

    index: int
    instead_of: str | None = None
    lips: np.ndarray | None = None


def faults(seen: Sequence[Seen], names: Sequence[str]) -> dict[str, np.ndarray]:
    """What is wrong with each of N frames with a face, in units of `UNIT` beyond `FREE`: (N,) each.

    Args:
        seen: in order, all of one person.
        names: of the keypoints, which are landmarks.
    """
    where = pose_indices(names)
    assert where is not None
    count = len(seen)
    first = _face(seen[0])
    points, sure = np.empty((count, *first.points.shape)), np.empty(count)
    values = {name: np.empty(count) for name in pose(first.points, where)}
    read, yaw = np.zeros(count, bool), np.zeros(count, np.float32)
    eyes_read = np.zeros((count, 2, EYE_NUMBERS), np.float32)
    gaps, lip_widths = np.zeros(count, np.float32), np.zeros(count, np.float32)
    mouths = np.zeros((count, len(MOUTH_AMOUNTS)), np.float32)
    # One frame after the other: all of a long video's would take much memory.
    for index, face in enumerate(map(_face, seen)):
        points[index], sure[index] = face.points, _sure(face)
        for name, value in pose(face.points, where).items():
            values[name][index] = value
        if face.reading is not None:
            read[index] = True
            eyes_read[index], (gaps[index], lip_widths[index]) = face.reading.eyes, face.reading.mouth[:2]
            mouths[index] = face.reading.mouth[4 : 4 + len(MOUTH_AMOUNTS)]
            yaw[index] = face.reading.head[HEAD_AMOUNTS.index("yaw")]
    left, right = (points[:, index] for index in where.corners)
    width = np.hypot(*(right - left).T) / np.maximum(_size(points), 1e-6)
    width = width / max(float(np.median(width)), 1e-3)
    mouth, eyes = values["mouth"], values["eyes"]
    usual = float(np.quantile(eyes, OPEN_EYES))
    resting = float(np.quantile(mouth, RESTING_LIPS))
    wide, gaze, lips = np.full(count, np.inf), np.zeros(count), np.zeros(count)
    if read.all():
        # Close-ups see lips and lids better than landmarks do, and know what a mouth at rest looks like: in some clips none rests.
        mouth, lips = gaps, _busy(mouths)
        resting = min(float(np.quantile(mouth, RESTING_LIPS)), SHUT_LIPS)
        # What is not read of pouting lips, or of a jaw that drops behind shut ones, is seen by how narrow they are.
        shut = mouth <= resting + FREE["mouth"]
        width = np.ones(count)
        if shut.sum() >= FEW:
            width = lip_widths / max(float(np.quantile(lip_widths[shut], SHUT_WIDTH)), 1e-3)
        eyes = eyes_read[:, :, 0].min(axis=1)
        usual = _usual_opening(eyes_read, usual)
        # Large eyes seem to be wide all the time.
        wide = eyes_read[:, :, EYE_AT["eyeWide"]].mean(axis=1)
        wide = 2 * (wide - np.median(wide))
        gaze = _aside(eyes_read)
        values["turn"] = (values["turn"] + yaw) / 2
    usual = max(usual, 1e-3)
    found = {
        "mouth": np.maximum(mouth - resting, 0.0),
        "width": np.abs(width - 1),
        "lips": lips,
        "shut": np.maximum(1 - eyes / usual, 0.0),
        "wide": np.maximum(np.minimum(eyes / usual - 1, wide), 0.0),
        "gaze": gaze,
        "turn": np.abs(values["turn"]),
        "tilt": np.abs(values["tilt"]),
        "nod": np.abs(values["nod"] - np.median(values["nod"])),
        "place": _wandered(seen, points),
        "speed": _speeds(seen, points, names),
        "sure": _unsure(sure),
        "blur": _blur(seen),
        "order": _disorder(points, values, names),
    }
    return {name: np.maximum(np.abs(value) - FREE[name], 0.0) / UNIT[name] for name, value in found.items()}


def _sides(name: str) -> list[int]:
    """Where an amount of the mouth is among `MOUTH_AMOUNTS`: on one side, or on both."""
    sides = (name, name + "Left", name + "Right")
    return [MOUTH_AMOUNTS.index(side) for side in sides if side in MOUTH_AMOUNTS]


def _usual(own: np.ndarray) -> float:
    """What of an amount (N,) is there all the time."""
    return min(max(float(np.quantile(own, ALWAYS)), 0.0), AT_MOST)


def _busy(mouths: np.ndarray) -> np.ndarray:
    """How much lips of `MOUTH_AMOUNTS` (N, 29) do that those at rest do not: (N,)."""
    total = np.zeros(len(mouths))
    for name in LIPS:
        own = mouths[:, _sides(name)].mean(axis=1)
        total += np.square(np.maximum(own - _usual(own), 0.0))
    return np.sqrt(total)


def _resting_lips(seen: Sequence[Seen]) -> np.ndarray | None:
    """`Choice.lips` of someone whose lips never rest; None where close-ups do not read all of `seen`."""
    readings = [_face(one).reading for one in seen]
    mouths = np.stack([one.mouth for one in readings if one is not None] or [np.zeros(0)])
    if len(mouths) < len(readings):
        return None
    most = np.full(mouths.shape[1], np.inf, np.float32)
    most[0] = min(max(float(np.quantile(mouths[:, 0], ALWAYS)), 0.0), SHUT_LIPS)
    for name in ("jawOpen", *LIPS):
        for index in _sides(name):
            most[4 + index] = _usual(mouths[:, 4 + index])
    return most


def _usual_opening(eyes: np.ndarray, otherwise: float) -> float:
    """How far eyes (N, 2, EYE_NUMBERS) are open while they are open as usual, the less open one. Who looks down, or
    narrows them, for most of a clip opens them now and then.
    """
    blink, wide = (eyes[:, :, EYE_AT[name]].mean(axis=1) for name in ("eyeBlink", "eyeWide"))
    awake = (blink <= np.quantile(blink, 0.1) + BLINKS) & (wide <= WIDE)
    return float(np.median(eyes[awake, :, 0].min(axis=1))) if awake.sum() >= FEW else otherwise


def _aside(eyes: np.ndarray) -> np.ndarray:
    """How far eyes (N, 2, EYE_NUMBERS) look aside, up or down, both alike: (N,), 1 is as far as they can. Of who seems to look
    there all the time, from there.
    """
    look = {name: eyes[:, :, EYE_AT[f"eyeLook{name}"]] for name in ("In", "Out", "Up", "Down")}
    inwards = look["In"] - look["Out"]
    ways = (inwards[:, 0] - inwards[:, 1]) / 2, (look["Down"] - look["Up"]).mean(axis=1)
    return np.hypot(*(np.minimum(np.abs(way), np.abs(way - np.median(way))) for way in ways))


def most_at_rest(seen: Sequence[Seen], names: Sequence[str]) -> Choice:
    """The frame of `seen`, all of one person and with a face, that is to be D1."""
    wrong = faults(seen, names)
    cost = np.sum([value**2 for value in wrong.values()], axis=0)
    padded = np.pad(cost, NEIGHBOURS, mode="edge")
    around = np.mean([padded[k : k + len(cost)] for k in range(2 * NEIGHBOURS + 1)], axis=0)
    total = cost + 0.5 * around
    best = int(np.argmin(total))
    if total[0] < total[best] + WORTH:
        best = 0
    lips = _resting_lips(seen) if max(wrong["mouth"][best], wrong["lips"][best]) > NO_REST else None
    if best == 0:
        return Choice(0, lips=lips)
    worst = max(wrong, key=lambda name: wrong[name][0] - wrong[name][best])
    return Choice(best, SAID[worst], lips)


def _face(one: Seen) -> Keypoints:
    assert one.keypoints is not None
    return one.keypoints


def _size(points: np.ndarray) -> np.ndarray:
    return np.sqrt(points.var(axis=1).sum(-1))


def _unsure(sure: np.ndarray) -> np.ndarray:
    """By how much the detector is less sure of each face than it mostly is: what is the same for all frames says
    nothing of which is best.
    """
    return np.maximum(min(SURE, float(np.median(sure))) - sure, 0.0)


def _sure(face: Keypoints) -> float:
    return 1.0 if face.confidence is None else float(np.mean(face.confidence))


def _wandered(seen: Sequence[Seen], points: np.ndarray) -> np.ndarray:
    """How far the head is from where it mostly is in its shot, in sides of the square."""
    places = points.mean(axis=1) / 2
    away = np.zeros(len(seen))
    shots = np.array([one.shot for one in seen])
    for shot in np.unique(shots):
        chosen = shots == shot
        away[chosen] = np.hypot(*(places[chosen] - np.median(places[chosen], axis=0)).T)
    return away


def _speeds(seen: Sequence[Seen], points: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Of the head from frame to frame, the mean of before and after, in sides per second."""
    rigid = rigid_indices(names)
    chosen = points if rigid is None else points[:, rigid]
    speeds = np.full(len(seen) - 1, np.nan)
    for index, (one, after) in enumerate(pairwise(seen)):
        passed = float(after.time - one.time)
        if one.shot == after.shot and one.square == after.square and 0 < passed < 0.5:
            moved = np.hypot(*(chosen[index + 1] - chosen[index]).T) / 2
            speeds[index] = float(np.median(moved)) / passed
    known = speeds[np.isfinite(speeds)]
    speeds = np.where(np.isfinite(speeds), speeds, np.median(known) if len(known) else 0.0)
    padded = np.pad(speeds, 1, mode="edge") if len(speeds) else np.zeros(2)
    return (padded[:-1] + padded[1:]) / 2


def _blur(seen: Sequence[Seen]) -> np.ndarray:
    """How much less sharp than the sharper frames each one is, as a share."""
    sharpness = np.array([one.sharpness for one in seen])
    return np.maximum(1 - np.sqrt(sharpness / max(float(np.quantile(sharpness, 0.75)), 1e-6)), 0.0)


def _disorder(points: np.ndarray, values: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """1 where lips, lids or mouth and nose are in no possible order, or the face is at the edge of
    its square, else 0.
    """
    bad = (values["mouth"] < -0.15) | (values["eyes"] < -0.03) | (np.abs(points).max(axis=(1, 2)) > 1.15)
    if "nose tip" in names:
        # The corners at the nostrils: the detector took another pair of dark spots for the mouth.
        nose = list(names).index("nose tip")
        origin = Origin.of(np.median(points, axis=0))
        upright = np.empty_like(points)
        for index, one in enumerate(points):
            upright[index] = origin.fit(one).undo(one)
        mouth = [list(names).index(f"{side} mouth corner") for side in ("left", "right")]
        fall = upright[:, mouth, 1].mean(axis=1) - upright[:, nose, 1]
        bad |= fall < 0.35 * max(float(np.median(fall)), 1e-6)
    return bad.astype(float)
