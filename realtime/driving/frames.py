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
    unit = 62.0
    middle = np.array([SIDE / 2, 0.4 * SIDE])

    def at(x: float, y: float, z: float) -> tuple[int, int]:
        place = (rotation @ np.array([x, y, z]))[:2] * unit + middle
        return round(float(np.clip(place[0], -SIDE, 2 * SIDE))), round(
            float(np.clip(place[1], -SIDE, 2 * SIDE))
        )

    def of(name: str) -> float:
        return float(amounts[INDEX[name]])

    def lines(points: list[tuple[int, int]], closed: bool = False) -> None:
        cv2.polylines(picture, [np.array(points, np.int32)], closed, INK, 2, cv2.LINE_AA)

    angles = np.linspace(0, 2 * np.pi, 33)[:-1]
    jaw = 0.25 * max(of("jawOpen"), 0.0)
    lines(
        [at(1.25 * np.cos(a), 0.5 + (1.5 + (jaw if np.sin(a) > 0 else 0)) * np.sin(a), -0.5) for a in angles],
        True,
    )
    for side, x in (("Right", -0.5), ("Left", 0.5)):
        high = 0.17 * (1 - of("eyeBlink" + side)) * (1 + 0.5 * of("eyeWide" + side))
        lines([at(x + 0.27 * np.cos(a), high * np.sin(a), 0.0) for a in angles[::2]], True)
        outward = 1 if side == "Left" else -1
        right = outward * (of("eyeLookOut" + side) - of("eyeLookIn" + side))
        down = of("eyeLookDown" + side) - of("eyeLookUp" + side)
        if high > 0.05:
            cv2.circle(picture, at(x + 0.13 * right, 0.08 * down, 0.02), 5, INK, -1, cv2.LINE_AA)
        brow = -0.36 - 0.14 * max(of("browOuterUp" + side), of("browInnerUp")) + 0.08 * of("browDown" + side)
        lines([at(x + d, brow + 0.05 * abs(d) * 4, 0.1) for d in (-0.28, 0.0, 0.28)])
    lines([at(0.0, 0.2, 0.25), at(0.09, 0.62, 0.45), at(-0.08, 0.64, 0.4)])
    smile = 0.5 * (of("mouthSmileLeft") + of("mouthSmileRight")) - 0.5 * (
        of("mouthFrownLeft") + of("mouthFrownRight")
    )
    wide = 0.4 * (1 + 0.4 * max(smile, 0.0) + 0.25 * of("mouthStretchLeft") - 0.4 * of("mouthPucker"))
    gap = 0.6 * max(of("jawOpen") - of("mouthClose"), 0.0)
    mouth = [
        at(
            wide * np.cos(a),
            1.15 + (gap if np.sin(a) > 0 else 0.03) * np.sin(a) - 0.16 * smile * np.cos(a) ** 2,
            0.12,
        )
        for a in angles
    ]
    cv2.fillPoly(picture, [np.array(mouth, np.int32)], INSIDE, cv2.LINE_AA)
    lines(mouth, True)
    return picture
