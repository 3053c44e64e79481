"""Frames without a picture: a face in numbers, and a sketch of it for whoever shows what drives."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from livepuppet.core.video import Frame
from livepuppet.realtime.rig.amounts import INDEX
from livepuppet.realtime.rig.told import FacePose

#: Side of the sketch, in pixels; paper, lines, and what is inside a mouth.
SIDE, PAPER, INK, INSIDE = 256, (34, 37, 43), (205, 214, 224), (120, 62, 70)

#: Pixels of an eye distance.
UNIT = 62.0

_ANGLES = np.linspace(0, 2 * np.pi, 25)[:-1]
_COS, _SIN, _BROW = np.cos(_ANGLES), np.sin(_ANGLES), np.array([-0.28, 0.0, 0.28])


@dataclass(frozen=True)
class FaceFrame(Frame):
    """A face at one moment. Its `image` is a sketch of it.

    Attributes:
        face: what drives.
    """

    face: FacePose = field(default_factory=FacePose.rest)


def sketch(face: FacePose) -> np.ndarray:
    """The face as lines, uint8 RGB (SIDE, SIDE, 3), as a camera would see it: not mirrored."""
    picture = np.full((SIDE, SIDE, 3), PAPER, np.uint8)
    if not face.seen:
        return picture
    amounts, rotation = face.amounts, face.head.rotation
    middle = np.array([SIDE / 2, 0.4 * SIDE])

    def of(name: str) -> float:
        return float(amounts[INDEX[name]])

    def line(
        x, y, z: float | np.ndarray = 0.0, closed: bool = False, fill: tuple[int, int, int] | None = None
    ) -> None:
        points = np.stack(np.broadcast_arrays(x, y, z), 1) @ rotation.T
        places = np.clip(points[:, :2] * UNIT + middle, -SIDE, 2 * SIDE).astype(np.int32)
        if fill is not None:
            cv2.fillPoly(picture, [places], fill)
        cv2.polylines(picture, [places], closed, INK, 2)

    jaw = 0.25 * max(of("jawOpen"), 0.0)
    line(1.25 * _COS, 0.5 + (1.5 + jaw * (_SIN > 0)) * _SIN, -0.5, True)
    for side, x in (("Right", -0.5), ("Left", 0.5)):
        outward = 1 if side == "Left" else -1
        high = 0.17 * (1 - of("eyeBlink" + side)) * (1 + 0.5 * of("eyeWide" + side))
        line(x + 0.27 * _COS, high * _SIN, 0.0, True)
        right = outward * (of("eyeLookOut" + side) - of("eyeLookIn" + side))
        down = of("eyeLookDown" + side) - of("eyeLookUp" + side)
        if high > 0.05:
            line(x + 0.13 * right + 0.06 * _COS, 0.08 * down + 0.06 * _SIN, 0.02, True, INK)
        brow = -0.36 - 0.14 * max(of("browOuterUp" + side), of("browInnerUp")) + 0.08 * of("browDown" + side)
        line(x + _BROW, brow + 0.2 * np.abs(_BROW), 0.1)
    line(np.array([0.0, 0.09, -0.08]), np.array([0.2, 0.62, 0.64]), np.array([0.25, 0.45, 0.4]))
    smile = 0.5 * (
        of("mouthSmileLeft") + of("mouthSmileRight") - of("mouthFrownLeft") - of("mouthFrownRight")
    )
    wide = 0.4 * (1 + 0.4 * max(smile, 0.0) + 0.25 * of("mouthStretchLeft") - 0.4 * of("mouthPucker"))
    gap = 0.6 * max(of("jawOpen") - of("mouthClose"), 0.0)
    lips = 1.15 + np.where(_SIN > 0, gap, 0.03) * _SIN - 0.16 * smile * _COS**2
    line(wide * _COS, lips, 0.12, True, INSIDE)
    return picture
