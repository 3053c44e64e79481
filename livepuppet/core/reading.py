"""What close-ups of a face tell: points and named amounts of its eyes, its mouth and its head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

#: Points of an eye, from the corner at the temple over the upper lid, and its iris; right eyes are
#: seen mirrored.
EYE_POINTS = (
    "outer corner",
    "upper outer",
    "upper",
    "upper inner",
    "inner corner",
    "lower inner",
    "lower",
    "lower outer",
    "iris",
)

#: Points of the mouth, clockwise from the picture's left: twelve of the lips' outline, eight of the
#: opening's.
MOUTH_POINTS = tuple(f"outer lip {k}" for k in range(12)) + tuple(f"inner lip {k}" for k in range(8))

#: Amounts of one eye, by ARKit's names without the side, each in [0, 1].
EYE_AMOUNTS = (
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "browDown",
    "browOuterUp",
)

#: Amounts of the mouth, by ARKit's names, each in [0, 1]. "Left" is the person's left, as in ARKit.
MOUTH_AMOUNTS = (
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "cheekPuff",
    "tongueOut",
)

#: Points of the head; "left" is the picture's left, jaw points go from the left ear over the chin.
HEAD_POINTS = (
    "left iris",
    "right iris",
    "left brow",
    "right brow",
    "nose tip",
    "left mouth corner",
    "right mouth corner",
    "upper lip",
    "lower lip",
    "chin",
    "forehead",
    *(f"{side} brow {end}" for side in ("left", "right") for end in ("outer end", "inner end")),
    "nose bridge",
    "left nostril",
    "right nostril",
    "jaw 0",
    "jaw 4",
    "jaw 8",
    "jaw 12",
    "jaw 16",
)

#: The head's pose against the crop's axes in radians (yaw: the nose goes right; pitch: it goes
#: down; roll: clockwise), and amounts by ARKit's names.
HEAD_AMOUNTS = (
    "yaw",
    "pitch",
    "roll",
    "browInnerUp",
    "browDownLeft",
    "browDownRight",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
)

#: Points that sit on the skull whatever the face does, by which its pose is measured: corners of the
#: picture's left and right eye (at the temple, at the nose), then of the head.
ANCHORS = (
    *("left outer corner", "left inner corner", "right outer corner", "right inner corner"),
    *("nose bridge", "nose tip", "left nostril", "right nostril"),
)

#: What is measured of the head's points: how high the middle and the inner end of the picture's left
#: and right brow are above the line of the eyes, in distances of the eyes as they would be if the head
#: did not turn aside.
HEAD_MEASURES = ("left brow", "left inner brow", "right brow", "right inner brow")

#: How many numbers a `FaceReading` has of each eye: the opening between its lids and the iris's
#: place along and across the eye, all in widths of the eye; then `EYE_AMOUNTS`, and how sure it is.
EYE_NUMBERS = 3 + len(EYE_AMOUNTS) + 1

#: Of the mouth: opening between the lips, width, rise of the left and right corner (the picture's
#: left) above the lips' middle, all in face units; then `MOUTH_AMOUNTS`, and how sure it is.
MOUTH_NUMBERS = 4 + len(MOUTH_AMOUNTS) + 1

#: Of the head: `HEAD_AMOUNTS`, whose roll is the one in the frame, `HEAD_MEASURES`, and how sure it is.
HEAD_NUMBERS = len(HEAD_AMOUNTS) + len(HEAD_MEASURES) + 1


@dataclass(frozen=True, eq=False)
class FaceReading:
    """What close-ups of one frame tell of a face. Amounts are the network's own: about [0, 1], of
    no one's neutral face yet.

    Attributes:
        eyes: float32 (2, EYE_NUMBERS), the picture's left eye first.
        mouth: float32 (MOUTH_NUMBERS,).
        head: float32 (HEAD_NUMBERS,).
        anchors: float32 (len(ANCHORS), 2), where they are, in the units of the keypoints beside;
            None of a reading that was kept by a version without them.
        lips: float32 (len(MOUTH_POINTS), 2), where they are in the mouth's upright crop, in face
            units; None likewise, and where they are somebody else's.
    """

    eyes: np.ndarray
    mouth: np.ndarray
    head: np.ndarray
    anchors: np.ndarray | None = None
    lips: np.ndarray | None = None

    def towards(self, other: FaceReading, share: float) -> FaceReading:
        """This one, and `share` of the way to `other`."""
        weight = np.float32(share)

        def between(one: np.ndarray | None, two: np.ndarray | None) -> np.ndarray | None:
            return None if one is None or two is None else one + weight * (two - one)

        return FaceReading(
            self.eyes + weight * (other.eyes - self.eyes),
            self.mouth + weight * (other.mouth - self.mouth),
            self.head + weight * (other.head - self.head),
            between(self.anchors, other.anchors),
            between(self.lips, other.lips),
        )

    def mapped(self, change: Callable[[np.ndarray], np.ndarray], angle: float = 0.0) -> FaceReading:
        """The face elsewhere in the frame.

        Args:
            change: a similarity, of points (N, 2).
            angle: by which it rolls the face, in radians, clockwise.
        """
        head = self.head.copy()
        head[HEAD_AMOUNTS.index("roll")] += angle
        anchors = None if self.anchors is None else change(self.anchors).astype(np.float32)
        return replace(self, head=head, anchors=anchors)

    def numbers(self) -> np.ndarray:
        """All of it as one vector, float32."""
        places = [part.ravel() for part in (self.anchors, self.lips) if part is not None]
        return np.concatenate([self.eyes.ravel(), self.mouth, self.head, *places])

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> FaceReading:
        """The reverse of `numbers`.

        Raises:
            ValueError: of a vector of another length, or with numbers that are not finite.
        """
        numbers = np.asarray(numbers, np.float32)
        short, anchored, lipped = (
            2 * EYE_NUMBERS + MOUTH_NUMBERS + HEAD_NUMBERS,
            2 * len(ANCHORS),
            2 * len(MOUTH_POINTS),
        )
        rest = len(numbers) - short if numbers.ndim == 1 else -1
        if rest not in (0, anchored, lipped, anchored + lipped) or not np.isfinite(numbers).all():
            raise ValueError("this is no reading of a face")
        first = anchored if rest in (anchored, anchored + lipped) else 0
        ends = [2 * EYE_NUMBERS, 2 * EYE_NUMBERS + MOUTH_NUMBERS, short, short + first]
        eyes, mouth, head, *places = np.split(numbers, ends)
        anchors, lips = (part.reshape(-1, 2) if len(part) else None for part in places)
        return cls(eyes.reshape(2, EYE_NUMBERS), mouth, head, anchors, lips)
