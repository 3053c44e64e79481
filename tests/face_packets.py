"""Packets as phones and trackers send them, written from the formats' description: fixtures for those that read them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from livepuppet.realtime.driving.packets import FEATURES, LIVE_LINK
from livepuppet.realtime.rig.amounts import NAMES


def ifacialmocap(
    amounts: Mapping[str, float], head=(0.0, 0.0, 0.0, 0.0, 0.0, -0.5), between: str = "-"
) -> bytes:
    """iFacialMocap's text: every amount in per cent, the head's angles in degrees and its place in metres."""

    def short(name: str) -> str:
        for side in ("Left", "Right"):
            if name.endswith(side) and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
                return name.removesuffix(side) + "_" + side[0]
        return name

    told = [f"{short(name)}{between}{round(100 * amounts.get(name, 0))}" for name in NAMES]
    eyes = ["rightEye#1.5,2.5,0.1", "leftEye#1.5,-2.5,-0.1"]
    return "|".join([*told, "=head#" + ",".join(map(str, head)), *eyes, ""]).encode("ascii")


def live_link(amounts: Mapping[str, float], yaw=0.0, pitch=0.0, roll=0.0, face: bool = True) -> bytes:
    """Live Link Face's packet, version 6; without a face it ends early."""
    uuid, name = b"A8F1C7D2-0000-4000-8000-1234567890AB", "Telefon é".encode()
    begin = struct.pack(">BI", 6, len(uuid)) + uuid + struct.pack(">I", len(name)) + name
    begin += struct.pack(">IfII", 17, 0.25, 60, 1)
    if not face:
        return begin
    values = [amounts.get(name, 0.0) for name in LIVE_LINK[: len(NAMES)]]
    return begin + struct.pack(">B61f", len(LIVE_LINK), *values, yaw, pitch, roll, *(0.0,) * 6)


def openseeface(
    features: Mapping[str, float] | None = None,
    eyes=(1.0, 1.0),
    angles=(180.0, 0.0, 90.0),
    place=(0.0, 0.0, -3.0),
    gaze=(0.0, 0.0),
    found: bool = True,
    faces: int = 1,
) -> bytes:
    """OpenSeeFace's packet.

    Args:
        features: by name.
        eyes: how far the right and the left one are open.
        angles, place: as its camera sees them.
        gaze: of both pupils, to the picture's right and down, in widths of the eye.
        found: whether it has found the face in space.
        faces: so many of them, one after the other.
    """
    points = np.full((68, 2), 200.0)
    for (left, right, pupil), x in (((36, 39, 66), 100.0), ((42, 45, 67), 160.0)):
        points[left], points[right] = (120.0, x), (120.0, x + 30)
        points[pupil] = (120 + 30 * gaze[1], x + 15 + 30 * gaze[0])
    one = struct.pack("<di2f2f", 1.5, 0, 640.0, 480.0, *eyes)
    one += struct.pack("<Bf4f3f3f", found, 3.2, 0.0, 0.0, 0.0, 1.0, *angles, *place)
    one += (
        struct.pack("<68f", *(0.9,) * 68)
        + struct.pack("<136f", *points.ravel())
        + struct.pack("<210f", *(0.1,) * 210)
    )
    one += struct.pack("<14f", *((features or {}).get(name, 0.0) for name in FEATURES))
    return one * faces
