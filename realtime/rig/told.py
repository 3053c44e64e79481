"""A face that was told in numbers instead of seen: by a phone, a tracker, a microphone, a script.

Rigs take these numbers as they are. Whatever goes by keypoints (Eq. 14-15, smoothing, presence, a network that draws) gets
those of a neutral face in the same pose: the generic head's landmarks, moved by the lengths with which `LandmarkReader` reads
amounts off a detector's. Its D1 is that head at rest, so that nothing has to be calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.rig import amounts as rig_amounts
from livepuppet.realtime.rig.amounts import (
    BROADEST,
    BROW_DOWN,
    BROW_UP,
    CORNER_DOWN,
    CORNER_UP,
    GAZE_SIDEWAYS,
    GAZE_VERTICAL,
    INDEX,
    NARROWEST,
    SIGNED,
    WIDE_AT,
    WIDE_OPEN,
    bounded,
    mirrored,
)
from livepuppet.realtime.rig.pose import HeadPose, depth_slopes, joined, split
from livepuppet.realtime.rig.template import head_template

#: Amounts that were this large in D1 say little: what is left up to 1 is no longer stretched.
MOST_REST = 0.7


@dataclass(frozen=True, eq=False)
class FacePose:
    """A face in numbers. Stands where a reading of close-ups stands in `Keypoints.reading`.

    Attributes:
        amounts: float32 (52,) of `amounts.NAMES`, each in [0, 1] ([-1, 1] for `SIGNED`). "Left" is the face's own left.
        head: rotation and scale of the head, and its shift in its own eye distances; x to the picture's right, y down, z to the viewer.
        own_rest: all zeros are its rest. Otherwise (a phone, that hangs somewhere, and a person's own face) rest is what it is
            in D1.
        seen: whether whoever tells it sees a face now.
    """

    amounts: np.ndarray
    head: HeadPose
    own_rest: bool = True
    seen: bool = True

    #: Close-ups have anchors; this has none.
    anchors: ClassVar[None] = None

    @classmethod
    def of(
        cls,
        amounts: Mapping[str, float] | np.ndarray | None = None,
        *,
        yaw: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
        scale: float = 1.0,
        **named: float,
    ) -> FacePose:
        """A face from named amounts and angles.

            animator(FacePose.of(jawOpen=0.4, eyeBlinkLeft=1, yaw=0.2))

        Args:
            amounts, named: by ARKit's names, or a vector (52,).
            yaw, pitch, roll: of the head in radians: the nose goes to the picture's right, the nose goes down, clockwise.
            shift: to the right and down, in eye distances.
            scale: above 0; larger is nearer.

        Raises:
            UserError: for a name that ARKit does not have, or what is not a finite number.
        """
        if isinstance(amounts, np.ndarray):
            vector = bounded(amounts)
        else:
            vector = rig_amounts.amounts(amounts, **named)
        numbers = [yaw, pitch, roll, *shift, scale]
        if not all(math.isfinite(number) for number in numbers) or scale <= 0:
            raise UserError("A head's pose has to be finite numbers, and its scale above 0.")
        rotation = joined(np.array([-pitch, yaw], np.float64), roll)
        return cls(vector, HeadPose(float(scale), rotation, np.array(shift, np.float64)))

    @classmethod
    def rest(cls) -> FacePose:
        """Nothing moves."""
        return cls(rig_amounts.zeros(), HeadPose.rest())

    def since(self, initial: FacePose) -> FacePose:
        """How far this face is from another, D1: what was there already is taken off, and a whole amount stays whole."""
        was = np.clip(initial.amounts, 0.0, MOST_REST)
        change = (self.amounts - was) / np.where(self.amounts > was, 1 - was, 1.0)
        change = np.where(_SIGNED, change, np.maximum(change, 0.0))
        head, rest = self.head, initial.head
        shift = head.scale / rest.scale * head.shift - rest.shift
        moved = HeadPose(head.scale / rest.scale, head.rotation @ rest.rotation.T, shift)
        return FacePose(bounded(change), moved, True, self.seen)

    def mirrored(self) -> FacePose:
        """The face in a mirror."""
        flip = np.diag([-1.0, 1.0, 1.0])
        head = self.head
        head = HeadPose(head.scale, flip @ head.rotation @ flip, head.shift * (-1.0, 1.0))
        return replace(self, amounts=mirrored(self.amounts), head=head)

    # What readings do, too.

    def towards(self, other: FacePose, share: float) -> FacePose:
        """This one, and `share` of the way to `other`."""

        def mixed(one, two):
            return one + share * (two - one)

        (tilt, roll), (tilt2, roll2) = split(self.head.rotation), split(other.head.rotation)
        head = HeadPose(
            mixed(self.head.scale, other.head.scale),
            joined(mixed(tilt, tilt2), mixed(roll, roll2)),
            mixed(self.head.shift, other.head.shift),
        )
        return replace(other, amounts=mixed(self.amounts, other.amounts).astype(np.float32), head=head)

    def mapped(self, change: Callable[[np.ndarray], np.ndarray], angle: float = 0.0) -> FacePose:
        """Itself: it has no place in a frame."""
        return self

    def numbers(self) -> np.ndarray:
        """None that a settings file would keep: rest is its own, or of this very day's phone."""
        return np.zeros(0, np.float32)


_SIGNED = np.array([name in SIGNED for name in rig_amounts.NAMES])

#: Eye distance of the neutral face, and the place of the middle between its irises, in the units of keypoints.
UNIT, EYES_AT = 0.36, (0.0, -0.15)

#: Where landmarks are that the generic head does not have, in its units: they are the body's, and stay.
BODY = (0.0, 2.5, 0.0)

#: How far the chin goes with the lower lip.
CHIN_SHARE = 0.5

#: How much of a smile is in the corners' rise; the rest is in the mouth's width, as `LandmarkReader` has it.
SMILE_RISE = 0.75

#: By how much a whole funnel narrows the mouth, as a share of its width.
FUNNEL = 0.2


class NeutralFace:
    """Keypoints of the generic head in any pose.

    Args:
        names: of the keypoints.

    Attributes:
        unit: its eye distance, in their units.
    """

    unit = UNIT

    def __init__(self, names: Sequence[str]):
        template = head_template().landmarks
        self._index = {name: index for index, name in enumerate(names)}
        self._rest = np.array([template.get(name, BODY) for name in names], np.float64)
        self._body = np.array([name not in template for name in names])
        known = [name for name in names if name in template]
        self._slopes = np.zeros((len(names), 2))
        self._slopes[~self._body] = depth_slopes(known, np.eye(3))

    def keypoints(self, face: FacePose) -> Keypoints:
        """Those of `face`, which is their reading; as sure of themselves as whoever tells it is that there is a face."""
        head, points = face.head, self._rest + self._moved(face.amounts)
        turned = head.scale * ((points @ head.rotation.T)[:, :2] + head.shift)
        turned[self._body] = points[self._body, :2]
        flat, deep = head.rotation[:2, :2], head.rotation[:2, 2]
        local = head.scale * (flat[None] + deep[None, :, None] * self._slopes[:, None, :])
        local[self._body] = np.eye(2)
        placed = (turned * self.unit + EYES_AT).astype(np.float32)
        sure = np.full(len(points), 1.0 if face.seen else 0.0, np.float32)
        return Keypoints(placed, local.astype(np.float32), sure, face)  # type: ignore[arg-type]

    def _moved(self, amounts: np.ndarray) -> np.ndarray:
        """By how far landmarks leave their places on the head, float64 (K, 3), in eye distances."""
        by = np.zeros_like(self._rest)

        def of(name: str) -> float:
            return float(amounts[INDEX[name]])

        def move(name: str, x: float = 0.0, y: float = 0.0) -> None:
            if name in self._index:
                by[self._index[name], :2] += (x, y)

        gap = WIDE_OPEN * max(of("jawOpen") - of("mouthClose"), 0.0)
        aside = 0.12 * (of("mouthLeft") - of("mouthRight"))
        move("lower lip", aside, gap)
        move(
            "chin", 0.12 * (of("jawLeft") - of("jawRight")), CHIN_SHARE * WIDE_OPEN * max(of("jawOpen"), 0.0)
        )
        narrow = NARROWEST * of("mouthPucker") + FUNNEL * of("mouthFunnel")
        # The picture's left is the face's right.
        for side, place, outward in (("Right", "left", -1), ("Left", "right", 1)):
            inner, outer = (f"{place} {lid} lid" for lid in ("upper", "lower"))
            if inner in self._index and outer in self._index:
                open_by = float(self._rest[self._index[outer], 1] - self._rest[self._index[inner], 1])
                shut, wide = of("eyeBlink" + side), (WIDE_AT - 1) * of("eyeWide" + side)
                move(inner, y=open_by * (0.9 * shut - wide * (1 - shut)))
                move(outer, y=-open_by * 0.1 * shut)
            look = outward * (of("eyeLookOut" + side) - of("eyeLookIn" + side))
            up = of("eyeLookUp" + side) - of("eyeLookDown" + side)
            move(f"{place} iris", GAZE_SIDEWAYS * look, -GAZE_VERTICAL * up)
            brow = of("browOuterUp" + side) + 0.5 * of("browInnerUp")
            move(f"{place} brow", y=-BROW_UP * min(brow, 1.0) + BROW_DOWN * of("browDown" + side))
            smile = of("mouthSmile" + side)
            broader = BROADEST * (2 * (1 - SMILE_RISE) * smile + of("mouthStretch" + side)) - narrow
            width = float(self._rest[self._index.get(f"{place} mouth corner", 0), 0]) * outward
            rise = CORNER_UP * SMILE_RISE * smile - CORNER_DOWN * of("mouthFrown" + side)
            move(f"{place} mouth corner", outward * width * broader + aside, -rise)
        move("upper lip", aside)
        return by
