"""The numbers that move a rig: ARKit's 52 blend shapes, which phones, trackers and this detector all speak.

An amount says how far the driver is from a neutral face, on the way to a fixed end: `eyeBlinkLeft` 1 is a shut eye on
every avatar, however far its eyes are open at rest; 0 is the avatar as it is. "Left" is the face's own left, as ARKit
has it: the right half of a picture that is not mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import HEAD_AMOUNTS, HEAD_MEASURES, MOUTH_AMOUNTS, FaceReading
from livepuppet.realtime.motion.eyes import lid_pairs, openings
from livepuppet.realtime.rig.blendshapes import AMOUNT_NOISE, MEASURED_NOISE, fit, mouth_blendshapes
from livepuppet.realtime.rig.close_ups import EYE_AT
from livepuppet.realtime.rig.ramps import smooth


def _sides(*names: str) -> tuple[str, ...]:
    return tuple(name + side for name in names for side in ("Left", "Right"))


#: ARKit's names. Each runs from 0 to 1, but for those in `SIGNED`.
NAMES = (
    *_sides("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide"),
    *("jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker"),
    *("mouthLeft", "mouthRight"),
    *_sides("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_sides("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown"),
    *("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff"),
    *_sides("cheekSquint", "noseSneer"),
    "tongueOut",
)

#: Place of each name in the vector.
INDEX = {name: index for index, name in enumerate(NAMES)}

#: Amounts that may be negative, down to -1: a driver whose mouth stands open in D1 closes it below the avatar's rest.
SIGNED = ("jawOpen",)

_LOWEST = np.array([-1.0 if name in SIGNED else 0.0 for name in NAMES], np.float32)

#: A name that says nothing of the picture's contents may not be endless either, where it comes from outside.
_LONGEST_NAME = 40


def zeros() -> np.ndarray:
    """The avatar as it is: float32 (52,)."""
    return np.zeros(len(NAMES), np.float32)


def amounts(values: Mapping[str, float] | None = None, /, **named: float) -> np.ndarray:
    """A vector of amounts from names, what is not named being 0.

    Returns:
        float32 (52,), clipped to [0, 1] ([-1, 1] for `SIGNED`).

    Raises:
        UserError: for a name that ARKit does not have, or a value that is not a finite number.
    """
    vector = zeros()
    for name, value in {**(values or {}), **named}.items():
        if name not in INDEX:
            raise UserError(
                f"There is no amount called '{str(name)[:_LONGEST_NAME]}': use ARKit's names, as in jawOpen or eyeBlinkLeft."
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"The amount {name} is not a number: give one between 0 and 1.")
        vector[INDEX[name]] = number
    return bounded(vector)


def bounded(vector: np.ndarray) -> np.ndarray:
    """`vector` (52,) within its ranges, as float32; what is not finite becomes 0."""
    vector = np.nan_to_num(np.asarray(vector, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(vector, _LOWEST, 1.0)


def mirrored(vector: np.ndarray) -> np.ndarray:
    """The amounts of the face in a mirror."""
    return vector[_MIRROR]


def _opposite(name: str) -> str:
    for one, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(one):
            return name[: -len(one)] + other
    return name


_MIRROR = np.array([INDEX[_opposite(name)] for name in NAMES])


# What the landmarks of the default model tell. Lengths are in distances between the eyes (D).

#: Openings of D1 below this belong to shut eyes, against which nothing can be measured.
SMALLEST_OPENING = 0.04

#: Detectors seldom bring the lids together: below this share of the open eye's opening it counts as shut.
SHUT_AT = 0.3

#: Changes of an opening up to this share are the detector's noise.
CALM = 0.1

#: Differences of the two eyes' blinks from which, and at which wholly, one is believed to wink.
WINKS = (0.5, 0.7)

#: How fast the driver's usual opening is learnt, as a share of it per frame, and how far from D1's it may be: D1 may have
#: been taken with eyes wide open, and eyes stay shut for seconds.
LEARNT, USUAL = 0.02, (0.62, 1.2)

#: An eye that is open by this factor more than in D1 is wide open.
WIDE_AT = 1.45

#: The iris's travel, in D, from straight ahead to the end of what eyes can do: sideways, up and down.
GAZE_SIDEWAYS, GAZE_VERTICAL = 0.11, 0.09

#: The lips' distance, in D, of a mouth that is open as far as it goes.
WIDE_OPEN = 0.75

#: Changes of the mouth's width that are a whole smile (with the corners raised) and a whole pucker, as shares.
BROADEST, NARROWEST = 0.3, 0.35

#: The corners' rise of a whole smile, and fall of a whole frown, in D.
CORNER_UP, CORNER_DOWN = 0.16, 0.12

#: The brows' rise and fall, in D, of a whole `browOuterUp` and `browDown`.
BROW_UP, BROW_DOWN = 0.16, 0.09


@dataclass(frozen=True)
class _Face:
    """Measures of one set of landmarks, in distances between the eyes along and across the face's own axes."""

    openings: tuple[float, float]
    gaze: tuple[tuple[float, float], tuple[float, float]]
    gap: float
    width: float
    corners: tuple[float, float]
    aside: float
    brows: tuple[float, float]


class LandmarkReader:
    """Reads amounts off the default model's landmarks, relative to the driver's own neutral face.

    Args:
        names: of the keypoints.

    Raises:
        ValueError: if the names lack one of the face's.
    """

    def __init__(self, names: Sequence[str]):
        self._names = list(names)
        pairs = lid_pairs(self._names)
        if pairs is None:
            raise ValueError("these keypoints name no lids")
        self._pairs = pairs
        index = self._names.index
        self._iris = [index("left iris"), index("right iris")]
        self._brows = [index("left brow"), index("right brow")]
        self._corners = [index("left mouth corner"), index("right mouth corner")]
        self._lips = index("upper lip"), index("lower lip")
        self._nose = index("nose tip")
        self._neutral: _Face | None = None
        self._usual: list[float] = []

    def set_neutral(self, keypoints: Keypoints) -> None:
        """Measure from this face, D1, on."""
        self._neutral = self._measure(keypoints.points)
        self._usual = list(self._neutral.openings)

    def read(self, keypoints: Keypoints) -> np.ndarray:
        """How far this face is from the neutral one: float32 (52,). The first face read is neutral, unless one was set."""
        now = self._measure(keypoints.points)
        if self._neutral is None:
            self._neutral, self._usual = now, list(now.openings)
        rest, found = self._neutral, {}
        # The picture's left is the face's right.
        for place, side in enumerate(("Right", "Left")):
            self._read_eye(found, side, 1 if side == "Right" else -1, now, rest, place)
            up = rest.brows[place] - now.brows[place]
            found["browOuterUp" + side], found["browDown" + side] = up / BROW_UP, -up / BROW_DOWN
            lift = rest.corners[place] - now.corners[place]
            broader = now.width / rest.width - 1
            found["mouthSmile" + side] = max(lift / CORNER_UP, 0.0) + 0.5 * max(broader / BROADEST, 0.0)
            found["mouthFrown" + side] = -lift / CORNER_DOWN
            found["mouthStretch" + side] = 0.5 * broader / BROADEST
        _together(found)
        found["browInnerUp"] = 0.5 * (found["browOuterUpLeft"] + found["browOuterUpRight"])
        found["jawOpen"] = _opened(now.gap, rest.gap)
        found["mouthPucker"] = (1 - now.width / rest.width) / NARROWEST
        aside = (now.aside - rest.aside) / 0.12
        found["mouthRight"], found["mouthLeft"] = -aside, aside
        vector = zeros()
        for name, value in found.items():
            vector[INDEX[name]] = value
        return bounded(vector)

    def _read_eye(self, found: dict, side: str, inward: int, now: _Face, rest: _Face, place: int) -> None:
        neutral, opening = rest.openings[place], now.openings[place]
        if neutral > SMALLEST_OPENING:
            share = opening / self._usual[place]
            found["eyeBlink" + side] = (1 - share - CALM) / (1 - SHUT_AT - CALM)
            found["eyeWide" + side] = (share - 1 - CALM) / (WIDE_AT - 1 - CALM)
            # The running 80th percentile: up by 4 where the eye is opener, down by 1 where not.
            step = LEARNT * neutral * (0.8 if share > 1 else -0.2)
            self._usual[place] = min(max(self._usual[place] + step, USUAL[0] * neutral), USUAL[1] * neutral)
        (x, y), (x0, y0) = now.gaze[place], rest.gaze[place]
        sideways, down = inward * (x - x0) / GAZE_SIDEWAYS, (y - y0) / GAZE_VERTICAL
        found["eyeLookIn" + side], found["eyeLookOut" + side] = sideways, -sideways
        found["eyeLookDown" + side], found["eyeLookUp" + side] = down, -down

    def _measure(self, points: np.ndarray) -> _Face:
        # A dozen points: complex numbers are ten times as fast as arrays.
        z = [complex(x, y) for x, y in points.tolist()]
        middles = [(z[upper] + z[lower]) / 2 for upper, lower in self._pairs.tolist()]
        axis = middles[1] - middles[0]
        if abs(axis) < 1e-6:
            axis = 1e-6 + 0j
        face = [(point - (middles[0] + middles[1]) / 2) / axis for point in z]
        lower = [face[pair[1]] for pair in self._pairs.tolist()]
        gaze = tuple(
            ((face[iris] - (middle - (middles[0] + middles[1]) / 2) / axis).real, (face[iris] - lid).imag)
            for iris, middle, lid in zip(self._iris, middles, lower, strict=True)
        )
        left, right = (face[corner] for corner in self._corners)
        upper_lip, lower_lip = (face[lip] for lip in self._lips)
        # Corners against the upper lip, which opening hardly moves; brows against the line of the eyes.
        return _Face(
            tuple(openings(points, self._pairs).tolist()),
            gaze,
            lower_lip.imag - upper_lip.imag,
            max(abs(right - left), 1e-3),
            (left.imag - upper_lip.imag, right.imag - upper_lip.imag),
            (left.real + right.real) / 2 - face[self._nose].real,
            tuple(face[brow].imag for brow in self._brows),
        )


#: Lids of close-ups meet: below this share of the open eye's opening it counts as shut.
CLOSE_SHUT_AT = 0.1

#: A blink lasts four frames, and cameras smear it: what is read of the deepest one is this much short of shut.
CLOSE_BLINK_GAIN = 1.25

#: By how much two eyes are shut differently that wink; how far the less shut one of them is shut, and how far a head is turned, in
#: radians, where lids are taken to be equally far down all the same; and what share of their difference is the reader's then.
CLOSE_WINK, CLOSE_BOTH_SHUT, CLOSE_LIDS_TURNED, CLOSE_LIDS_ALIKE = (0.2, 0.45), (0.2, 0.45), (0.25, 0.5), 0.75

#: The iris's travel sideways, in widths of the eye, from straight ahead to the end of what eyes can do.
CLOSE_SIDEWAYS = 0.3

#: Up and down the iris travels less than its place is uncertain by, and lids go with it: the network's own amounts say more, and
#: so many of its travel's widths are added to them.
CLOSE_VERTICAL = 2.0

#: How far an eye can look down whose upper lid has not come down, and how much further for each share of its opening that it has.
CLOSE_DOWN_OPEN, CLOSE_DOWN_LOWERED = 0.3, 2.5

#: By which share of its opening an eye seems to be less open that looks aside as far as eyes can: lids arch over the iris.
CLOSE_ARCH = 0.15

#: Eyes look the same way: of what one differs from both by, this share is believed, and all of it from where on they cross.
CLOSE_OWN_GAZE, CLOSE_CROSSED = 0.25, (0.5, 0.9)

#: How much a shut eye counts of what both look at.
CLOSE_BEHIND_LID = 0.05

#: By how much the lips part, in face units, where `jawOpen` goes from 0 to 1 (rendered people).
CLOSE_OPEN = 0.48

#: Which share of an open jaw is read by that gap; the rest by the network's own amount, which is too small on real people.
CLOSE_GAP = 0.75

#: By how much lips part that are drawn up or down by 1, in face units (rendered people).
CLOSE_BARED = {"mouthUpperUp": 0.072, "mouthLowerDown": 0.057}

#: How far the jaw of a whole grin is read to be open, and from which and to which opening that is less and less so.
CLOSE_GRIN, CLOSE_GRIN_ENDS = 0.22, (0.25, 0.6)

#: Changes of an amount up to this much are the network's noise, for those that are read as amounts alone, the tongue, and those that
#: are fitted.
CLOSE_CALM, CLOSE_TONGUE_CALM, CLOSE_FIT_CALM = 0.04, 0.15, 0.05


#: A mouth drawn wholly aside, in eye distances; what less is the reader's noise; and the share of the nose's own error that the
#: mouth shares where the head's turn is misread.
CLOSE_ASIDE, CLOSE_ASIDE_CALM, CLOSE_LIKE_NOSE = 0.13, 0.04, 0.6

#: Turns of the head, in radians, from which and at which none of these is believed any more.
CLOSE_TURNED = 0.2, 0.45

#: Some faces are read to go further than faces do.
STRONGEST = 1.6

_BLINKS = [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]

_HIGHEST = np.array([1.0 if name.startswith("eyeBlink") else STRONGEST for name in NAMES], np.float32)


class CloseUpReader:
    """Reads amounts of eyes, brows and mouth off close-ups (`core.reading`), relative to the driver's own neutral face.

    Cheeks and nose are left at 0: the networks that ship do not read them. The mouth's points tell more of it than its amounts do
    (`blendshapes`), and landmarks tell how far it is drawn aside.

    Args:
        names: of the keypoints beside the readings.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._rows = [list(names).index(name) for name in SHAPE] if set(SHAPE) <= set(names) else []
        self._neutral: FaceReading | None = None
        self._usual = np.ones(2)
        self._brows = np.zeros((2, 3))
        self._fitted = fitted()

    def set_neutral(self, reading: FaceReading) -> None:
        """Measure from this face, D1, on."""
        self._neutral = reading
        self._brows = np.zeros((2, 3))
        self._usual = np.maximum(reading.eyes[:, 0].astype(np.float64), CLOSE_SMALLEST)

    def read(self, reading: FaceReading, beyond: np.ndarray | None = None, turn: float = 0.0) -> np.ndarray:
        """How far this face is from the neutral one: float32 (52,), up to `STRONGEST` (blinks up to 1), which `range.DriverRange`
        makes use of. The first face read is neutral, unless one was set.

        Args:
            beyond: float (K, 2), by how far keypoints have moved beyond what the head did since then, in eye distances and in the
                neutral face's frame; None where that is not known.
            turn: of the head since then, in radians.
        """
        if self._neutral is None:
            self.set_neutral(reading)
        rest, found = self._neutral, zeros()
        change = reading.mouth - rest.mouth
        amounts = change[4 : 4 + len(MOUTH_AMOUNTS)]
        found[_CLOSE_MOUTH] = _calmed(amounts) * _CLOSE_GAIN
        # Of mouths that speak some tongue is read that nobody puts out.
        found[INDEX["tongueOut"]] = _calmed(amounts[MOUTH_AMOUNTS.index("tongueOut")], CLOSE_TONGUE_CALM)
        jaw = INDEX["jawOpen"]
        # Lips that bare the teeth part without the jaw.
        parted = sum(
            0.5 * share * max(float(found[INDEX[name + "Left"]] + found[INDEX[name + "Right"]]), 0.0)
            for name, share in CLOSE_BARED.items()
        )
        found[jaw] += CLOSE_GAP * ((float(change[0]) - parted) / CLOSE_OPEN - found[jaw])
        if beyond is not None and self._rows:
            self._read_aside(found, beyond[self._rows], turn)
        if reading.lips is not None and rest.lips is not None:
            self._read_lips(found, reading, rest)
        # Of a grin part of its gap is read as the jaw's, though the teeth are shut.
        bared = 0.5 * min(
            float(found[INDEX[name + "Left"]] + found[INDEX[name + "Right"]]) for name in CLOSE_BARED
        )
        shut = min(max(float(found[jaw]), 0.0), CLOSE_GRIN * max(bared, 0.0))
        found[jaw] -= shut * float(smooth(*reversed(CLOSE_GRIN_ENDS), found[jaw]))
        arched = _arched(_inwards(reading.eyes - rest.eyes))
        # The picture's left is the face's right.
        for place, side in enumerate(("Right", "Left")):
            now, was = reading.eyes[place], rest.eyes[place]
            change = now - was
            for name, at in _CLOSE_EYE.items():
                found[INDEX[name + side]] = _calmed(change[at])
            self._read_eye(found, side, now, was, place, arched[place])
        self._even_lids(found, turn)
        self._read_gaze(found, reading.eyes, rest.eyes)
        self._read_brows(found, reading.eyes - rest.eyes, reading.head - rest.head, turn)
        return np.clip(np.nan_to_num(found), _LOWEST, _HIGHEST)

    def _read_lips(self, found: np.ndarray, now: FaceReading, rest: FaceReading) -> None:
        """By the mouth's points: see `blendshapes.fit`."""
        of = self._fitted
        # What is gone of D1's own smile is less than none.
        lowest = np.minimum(CLOSE_CALM - of["gains"] * rest.mouth[of["columns"]], 0.0)
        lowest[of["unseen"]] = 0.0
        lowest[of["measured"]] = -1.0
        before = found[of["places"]]
        amounts = _calmed(fit(now, rest, before, of["noise"], lowest), CLOSE_FIT_CALM)
        found[of["places"]] = np.where(of["measured"] | of["unseen"], before, amounts)

    @staticmethod
    def _read_aside(found: np.ndarray, beyond: np.ndarray, turn: float) -> None:
        """How far the mouth is drawn aside, by landmarks of `SHAPE` beyond the head's motion."""
        left, right, upper, nose = beyond[:, 0].tolist()
        believed = float(smooth(*reversed(CLOSE_TURNED), abs(turn)))
        aside = 0.5 * upper + 0.25 * (left + right) - CLOSE_LIKE_NOSE * nose
        aside = believed * float(_calmed(aside, CLOSE_ASIDE_CALM)) / CLOSE_ASIDE
        # To the picture's right is to the face's own left.
        found[INDEX["mouthLeft"]] += aside
        found[INDEX["mouthRight"]] -= aside

    def _read_brows(self, found: np.ndarray, eyes: np.ndarray, head: np.ndarray, turn: float) -> None:
        """By where brows are against the eyes, and what the eyes' close-ups tell. Of a head that nods down they come down, too."""
        nodded = CLOSE_BROW_NODDED * float(head[_HEAD_AT["pitch"]])
        now = np.empty((2, 3))
        for place, name in enumerate(("left", "right")):
            middle, inner = (
                float(_calmed(head[_HEAD_AT[part]] + nodded, CLOSE_PLACE_CALM))
                for part in (f"{name} brow", f"{name} inner brow")
            )
            up, down = (float(_calmed(eyes[place, EYE_AT[part]])) for part in ("browOuterUp", "browDown"))
            now[place] = (
                middle / CLOSE_BROW_UP + up,
                -inner / CLOSE_BROW_DOWN + down,
                0.5 * (inner / CLOSE_BROW_IN + 0.5 * up),
            )
        # The corners of an eye that shuts are not where they were: its brow goes with the other one, and while both are shut
        # brows return slowly.
        shut = smooth(*CLOSE_BROW_SHUT, found[[INDEX["eyeBlinkRight"], INDEX["eyeBlinkLeft"]]])[:, None]
        unseen = (1 - shut[::-1]) * now[::-1] + shut[::-1] * CLOSE_BROW_KEPT * self._brows
        self._brows = shut * unseen + (1 - shut) * now
        # In perspective brows rise and fall where the head turns, differently on each face.
        brows = self._brows * float(smooth(*reversed(CLOSE_BROW_TURNED), abs(turn)))
        for place, side in enumerate(("Right", "Left")):
            found[INDEX["browOuterUp" + side]], found[INDEX["browDown" + side]] = brows[place, :2]
        found[INDEX["browInnerUp"]] = brows[:, 2].sum()

    @staticmethod
    def _even_lids(found: np.ndarray, turn: float) -> None:
        """Lids go down together, but in winks; what is read of both differs most where a head is turned."""
        shut = found[_BLINKS]
        alike = max(
            1 - float(smooth(*CLOSE_WINK, float(np.ptp(shut)))),
            float(smooth(*CLOSE_BOTH_SHUT, float(shut.min()))),
            float(smooth(*CLOSE_LIDS_TURNED, abs(turn))),
        )
        found[_BLINKS] = shut + CLOSE_LIDS_ALIKE * alike * (shut.mean() - shut)

    def _read_eye(
        self, found: np.ndarray, side: str, now: np.ndarray, was: np.ndarray, place: int, arched: float
    ) -> None:
        change = now - was
        share = float(now[0]) / self._usual[place] * (1 + arched)
        by_lids = (1 - share - CALM) / (1 - CLOSE_SHUT_AT - CALM)
        blink = EYE_AT["eyeBlink"]
        by_amount = float(change[blink]) / max(1 - float(was[blink]), 0.3)
        found[INDEX["eyeBlink" + side]] = max(CLOSE_BLINK_GAIN * 0.5 * (by_lids + by_amount), 0.0)
        step = LEARNT * self._neutral.eyes[place, 0] * (0.8 if share > 1 else -0.2)
        low, high = (limit * max(float(was[0]), CLOSE_SMALLEST) for limit in USUAL)
        self._usual[place] = min(max(self._usual[place] + step, low), high)

    @staticmethod
    def _read_gaze(found: np.ndarray, now: np.ndarray, was: np.ndarray) -> None:
        """Of the numbers of both eyes, once their blinks are known."""
        change = (now - was).astype(np.float64)
        inwards = _inwards(change)
        # To the picture's right.
        aside = inwards * (1, -1)
        down = (
            change[:, EYE_AT["eyeLookDown"]] - change[:, EYE_AT["eyeLookUp"]] + CLOSE_VERTICAL * change[:, 2]
        )
        shut = np.clip(found[[INDEX["eyeBlinkRight"], INDEX["eyeBlinkLeft"]]], 0.0, 1.0)
        weights = 1 - (1 - CLOSE_BEHIND_LID) * shut
        own = CLOSE_OWN_GAZE + (1 - CLOSE_OWN_GAZE) * float(smooth(*CLOSE_CROSSED, abs(aside[0] - aside[1])))
        # Both lids follow a look down: who seems to look down with open lids looks aside, or was misread in D1.
        opening = now[:, 0] / np.maximum(was[:, 0], CLOSE_SMALLEST)
        lowered = float((1 - opening * (1 + _arched(inwards))).min())
        down = np.minimum(down, CLOSE_DOWN_OPEN + CLOSE_DOWN_LOWERED * max(lowered, 0.0))
        # What a shut eye looks at is not seen.
        own = own * (1 - shut)
        both = np.average(aside, weights=weights)
        aside = both + own * (aside - both)
        both = np.average(down, weights=weights)
        down = both + CLOSE_OWN_GAZE * (1 - shut) * (down - both)
        for place, (side, inward) in enumerate((("Right", 1), ("Left", -1))):
            sideways = inward * aside[place]
            found[INDEX["eyeLookIn" + side]], found[INDEX["eyeLookOut" + side]] = sideways, -sideways
            found[INDEX["eyeLookDown" + side]], found[INDEX["eyeLookUp" + side]] = down[place], -down[place]


def _inwards(change: np.ndarray) -> np.ndarray:
    """How far eyes look towards the nose, (2,), by what has changed of their numbers (2, EYE_NUMBERS)."""
    return 0.5 * (
        change[:, 1] / CLOSE_SIDEWAYS + change[:, EYE_AT["eyeLookIn"]] - change[:, EYE_AT["eyeLookOut"]]
    )


def _arched(inwards: np.ndarray) -> np.ndarray:
    """Which share of its opening an eye seems to be less open, since it looks aside."""
    return CLOSE_ARCH * np.minimum(np.abs(inwards), 1.0)


#: An eye that was open by less, in its widths, was shut in D1.
CLOSE_SMALLEST = 0.08

#: Landmarks that tell where the mouth is, and where the nose is.
SHAPE = "left mouth corner", "right mouth corner", "upper lip", "nose tip"

#: Places of the close-ups' amounts among all.
_CLOSE_MOUTH = [INDEX[name] for name in MOUTH_AMOUNTS]

#: The networks read less than there is of what they are not sure of (rendered people that they have never seen). Part of it is taken back;
#: all of it would be noise.
_CLOSE_GAIN = np.array(
    [
        1.5
        if any(part in name for part in ("Funnel", "Frown", "Roll"))
        else 1.3
        if "Pucker" in name
        else 1.2
        if "Smile" in name
        else 1.0
        for name in MOUTH_AMOUNTS
    ],
    np.float32,
)


def fitted() -> dict[str, Any]:
    """Of the units that are fitted to the mouth's points: `places` among all amounts, `columns` in a row of `FaceReading.mouth` and the
    latter's `gains`; which are `measured` in another way beside, which are but told apart from the others (`unseen`); the `noise` of each.
    """
    names = mouth_blendshapes().names
    columns = [MOUTH_AMOUNTS.index(name) for name in names]
    measured = np.isin(names, ("jawOpen", "mouthLeft", "mouthRight"))
    return {
        "places": np.array([INDEX[name] for name in names]),
        "columns": 4 + np.array(columns),
        "gains": _CLOSE_GAIN[columns],
        "measured": measured,
        "unseen": np.isin(names, ("jawLeft", "jawRight")),
        "noise": np.where(measured, MEASURED_NOISE, AMOUNT_NOISE),
    }


#: What is read as an amount of one eye alone.
_CLOSE_EYE = {name: EYE_AT[name] for name in ("eyeSquint", "eyeWide")}


#: How far a brow rises, its inner end falls and its inner end rises where the amount goes from 0 to 1, in distances of the eyes,
#: and how far it falls while the head nods by a radian.
CLOSE_BROW_UP, CLOSE_BROW_DOWN, CLOSE_BROW_IN, CLOSE_BROW_NODDED = 0.08, 0.06, 0.12, 0.25

#: Turns of the head, in radians, from which and at which brows are not believed any more.
CLOSE_BROW_TURNED = 0.1, 0.4

#: Blinks from which, and at which wholly, an eye's brow is not to be measured; and how much of a brow's last place is kept per frame.
CLOSE_BROW_SHUT, CLOSE_BROW_KEPT = (0.4, 0.75), 0.95

#: As `CLOSE_CALM`, of places of brows, in distances of the eyes.
CLOSE_PLACE_CALM = 0.02

#: Places in `FaceReading.head`.
_HEAD_AT = {name: index for index, name in enumerate((*HEAD_AMOUNTS, *HEAD_MEASURES))}


def _calmed(change: np.ndarray | float, calm: float = CLOSE_CALM) -> np.ndarray:
    """Small changes made smaller, without a step."""
    size = np.abs(change)
    return np.where(size < 2 * calm, change * size / (4 * calm), change - np.sign(change) * calm)


def _together(found: dict) -> None:
    """Eyes close together, or one of them closes for good: what lies between is the detector's error
    more often than not.
    """
    names = "eyeBlinkLeft", "eyeBlinkRight"
    if not all(name in found for name in names):
        return
    left, right = (min(max(found[name], 0.0), 1.0) for name in names)
    apart = min(max((abs(left - right) - WINKS[0]) / (WINKS[1] - WINKS[0]), 0.0), 1.0)
    middle, own = (left + right) / 2, 0.25 + 0.75 * apart
    found[names[0]], found[names[1]] = middle + own * (left - middle), middle + own * (right - middle)


def _opened(now: float, rest: float) -> float:
    """How far a mouth went from its rest to wide open (up to 1), or to shut (down to -1)."""
    rest = max(rest, 0.0)
    if now >= rest:
        return (now - rest) / max(WIDE_OPEN - rest, 0.1)
    # Lips that rest on each other have a thickness, which is no opening.
    return (now - rest) / rest if rest > 0.08 else 0.0
