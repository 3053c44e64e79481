"""What phones and trackers send: iFacialMocap's text, Live Link Face's and OpenSeeFace's binary packets, as faces.

The formats are facts of public programs, written down here in own words:

* iFacialMocap (https://www.ifacialmocap.com/for-developer/): text, `name-37|...|=head#x,y,z,X,Y,Z|rightEye#...|leftEye#...|`.
  Amounts are 0 to 100 (version 2 writes `name&37`), sides `_L` and `_R`; angles in degrees about ARKit's axes (x to the
  person's left, y up, z out of the face), places in metres. It sends after it was sent `START` at port 49983.
* Live Link Face, version 6 (as github.com/JimWest/PyLiveLinkFace reads it): big-endian; u8 version, string uuid, string name
  (u32 length, bytes), u32 frame, f32 subframe, u32 rate, u32 divisor, u8 61, and 61 f32 in `LIVE_LINK`'s order, the head's
  angles in radians. Without a face it ends before the count.
* OpenSeeFace (github.com/emilianavt/OpenSeeFace, facetracker.py and Unity/OpenSee.cs): little-endian, 1785 bytes for each face,
  `OPENSEEFACE`. Its camera has x down and y right, and a face that looks straight at it has the angles (180, 0, 90).

Everything is checked: length, count, finite, in range. What does not fit is a `BadPacket`, and nothing else comes out.
"""

from __future__ import annotations

import math
import struct

import cv2
import numpy as np

from livepuppet.realtime.rig.amounts import INDEX, NAMES, bounded, zeros
from livepuppet.realtime.rig.pose import HeadPose
from livepuppet.realtime.rig.ramps import smooth
from livepuppet.realtime.rig.told import FacePose

#: Ports at which they send by themselves.
IFACIALMOCAP_PORT, LIVE_LINK_PORT, OPENSEEFACE_PORT = 49983, 11111, 11573

#: What makes iFacialMocap send.
START = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"

#: The longest packet that is looked at: OpenSeeFace's of four faces. iFacialMocap's have 1 kB.
LONGEST = 8192

#: Pieces of a text that are looked at.
MOST_PIECES = 200

#: A person's eyes are this far apart, in metres.
EYE_DISTANCE = 0.063

#: How far from a phone a face usually is, in metres; any other distance is taken by D1.
USUAL_DEPTH = 0.5

#: Angles beyond a turn (radians), places farther away than this (metres or a model's units), and amounts outside these are no
#: face's. Amounts a little outside their range are held in it.
MOST_ANGLE, MOST_AWAY, AMOUNTS = 2 * math.pi, 100.0, (-0.5, 2.0)

#: Names of the values of a Live Link packet, in order; the nine after ARKit's are angles.
LIVE_LINK = (
    *(
        name + side
        for side in ("Left", "Right")
        for name in (
            "eyeBlink",
            "eyeLookDown",
            "eyeLookIn",
            "eyeLookOut",
            "eyeLookUp",
            "eyeSquint",
            "eyeWide",
        )
    ),
    *("jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker"),
    *("mouthLeft", "mouthRight"),
    *(
        name + side
        for name in ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch")
        for side in ("Left", "Right")
    ),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(
        name + side
        for name in ("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown")
        for side in ("Left", "Right")
    ),
    *("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff"),
    *("cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
    *("HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll"),
    *("RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
)
_LIVE_LINK_AT = np.array([INDEX[name] for name in LIVE_LINK[: len(NAMES)]])

#: An OpenSeeFace face: time, number, width and height of the camera's picture, right and left eye open, 3D found, its error,
#: quaternion, angles in degrees about x, y and z, place; confidence of 68 landmarks, these as (row, column), 70 points in
#: space, and the features.
OPENSEEFACE = struct.Struct("<di2f2fBf4f3f3f68f136f210f14f")

#: Its features, in order, each 0 at rest, 1 or -1 as far as this person goes.
FEATURES = (
    *("eye_l", "eye_r", "eyebrow_steepness_l", "eyebrow_updown_l", "eyebrow_quirk_l"),
    *("eyebrow_steepness_r", "eyebrow_updown_r", "eyebrow_quirk_r"),
    *("mouth_corner_updown_l", "mouth_corner_inout_l", "mouth_corner_updown_r", "mouth_corner_inout_r"),
    *("mouth_open", "mouth_wide"),
)

#: Of its landmarks, those of each eye (corners, pupil), the person's right one first.
_EYES = ((36, 39, 66), (42, 45, 67))

#: How far a pupil goes from the middle of its eye, in widths of the eye, sideways and vertically, as far as eyes go.
_PUPIL = (0.28, 0.2)

#: `jawOpen` of OpenSeeFace's mouth that is open as far as it has seen it.
_MOUTH_OPEN = 0.7

#: The distance between the pupils of OpenSeeFace's model, in its units.
_MODEL_EYES = 0.42

#: How far away it usually is, in those.
_MODEL_DEPTH = 3.0


class BadPacket(ValueError):
    """A packet that is none of those above."""


def phone_face(packet: bytes) -> FacePose:
    """The face of an iFacialMocap or a Live Link Face packet, whichever it is. Raises `BadPacket`."""
    if not packet or len(packet) > LONGEST:
        raise BadPacket("length")
    return live_link_face(packet) if packet[0] < 32 else ifacialmocap_face(packet)


def ifacialmocap_face(packet: bytes) -> FacePose:
    """The face of an iFacialMocap packet. Raises `BadPacket`."""
    try:
        text = packet.decode("ascii")
    except UnicodeDecodeError:
        raise BadPacket("no text") from None
    pieces = text.split("|")
    if len(pieces) > MOST_PIECES:
        raise BadPacket("too many values")
    vector, known, seen = zeros(), 0, True
    angles, place = np.zeros(3), np.zeros(3)
    for piece in pieces:
        name, between, values = piece.lstrip("=").partition("#")
        if between:
            if name != "head":
                continue  # eyes: ARKit's amounts say the same
            head = [_number(value) for value in values.split(",", 6)[:6]]
            if len(head) not in (3, 6):
                raise BadPacket("head")
            angles = np.radians(head[:3])
            place[: len(head) - 3] = head[3:]
            continue
        name, between, value = piece.lstrip("=").partition("&" if "&" in piece else "-")
        if not between:
            continue
        if name == "trackingStatus":
            seen = _number(value) != 0
            continue
        for short, side in (("_L", "Left"), ("_R", "Right")):
            if name.endswith(short):
                name = name[:-2] + side
        if name in INDEX:
            vector[INDEX[name]] = _amount(_number(value) / 100)
            known += 1
    if not known:
        raise BadPacket("no amounts")
    # ARKit's x is the picture's, its y goes up; metres.
    shift = np.array([place[0], -place[1]]) / EYE_DISTANCE
    scale = USUAL_DEPTH / max(abs(float(place[2])), 0.1) if place[2] else 1.0
    _check_pose(angles, place)
    return FacePose(
        bounded(vector), HeadPose(scale, _turned(angles[1], angles[0], angles[2]), shift), False, seen
    )


def live_link_face(packet: bytes) -> FacePose:
    """The face of a Live Link Face packet. Raises `BadPacket`."""
    if len(packet) > LONGEST:
        raise BadPacket("length")
    if packet[:1] != b"\x06":
        raise BadPacket("version")
    at = 1
    for most in (64, 256):
        if at + 4 > len(packet):
            raise BadPacket("length")
        (length,) = struct.unpack_from(">I", packet, at)
        at += 4 + length
        if length > most or at > len(packet):
            raise BadPacket("length")
    at += 16
    if at >= len(packet) or packet[at] == 0:
        return FacePose(zeros(), HeadPose.rest(), False, False)
    if packet[at] != len(LIVE_LINK) or len(packet) != at + 1 + 4 * len(LIVE_LINK):
        raise BadPacket("count")
    values = np.array(struct.unpack_from(f">{len(LIVE_LINK)}f", packet, at + 1))
    if not np.isfinite(values).all():
        raise BadPacket("not finite")
    vector = zeros()
    low, high = AMOUNTS
    told = values[: len(NAMES)]
    if told.min() < low or told.max() > high:
        raise BadPacket("range")
    vector[_LIVE_LINK_AT] = np.clip(told, 0, 1)
    yaw, pitch, roll = values[len(NAMES) : len(NAMES) + 3]
    _check_pose(values[len(NAMES) :], np.zeros(3))
    return FacePose(bounded(vector), HeadPose(1.0, _turned(yaw, -pitch, roll), np.zeros(2)), False)


def openseeface_face(packet: bytes) -> FacePose:
    """The first face of an OpenSeeFace packet. Raises `BadPacket`."""
    if not packet or len(packet) % OPENSEEFACE.size or len(packet) > LONGEST:
        raise BadPacket("length")
    values = np.array(OPENSEEFACE.unpack_from(packet), np.float64)
    if not np.isfinite(values).all():
        raise BadPacket("not finite")
    width, height, right_open, left_open, found = values[2:7]
    if not (0 < width < 20000 and 0 < height < 20000 and min(right_open, left_open) >= -0.5):
        raise BadPacket("range")
    angles, place = np.radians(values[12:15]), values[15:18]
    points, features = values[86:222].reshape(68, 2), dict(zip(FEATURES, values[432:446], strict=True))
    if max(right_open, left_open) > 2 or np.abs(points).max() > 1e5 or np.abs(values[432:446]).max() > 100:
        raise BadPacket("range")
    _check_pose(angles, place)
    if not found:
        return FacePose(zeros(), HeadPose.rest(), False, False)
    vector = zeros()

    def put(name: str, value: float) -> None:
        vector[INDEX[name]] = min(max(value, 0.0), 1.0)

    for side, short, opened in (("Right", "r", right_open), ("Left", "l", left_open)):
        put("eyeBlink" + side, float(smooth(0.75, 0.2, opened)))
        put("eyeWide" + side, 0.5 * features["eye_" + short] * opened)
        brow, corner = features["eyebrow_updown_" + short], features["mouth_corner_updown_" + short]
        put("browOuterUp" + side, brow)
        put("browDown" + side, -brow)
        # Corners are measured from the upper lip, downwards.
        put("mouthSmile" + side, -corner)
        put("mouthFrown" + side, corner)
        put("mouthStretch" + side, 0.5 * (features["mouth_wide"] + features["mouth_corner_inout_" + short]))
    put("browInnerUp", 0.5 * (features["eyebrow_updown_l"] + features["eyebrow_updown_r"]))
    put("jawOpen", _MOUTH_OPEN * features["mouth_open"])
    put("mouthPucker", -features["mouth_wide"])
    for name, value in _gaze(points).items():
        put(name, value)
    rotation = _IN_PICTURE @ _about(*angles) @ _IN_PICTURE.T @ _AHEAD.T
    depth = max(abs(float(place[2])), 0.1)
    shift = np.array([place[1], place[0]]) / _MODEL_EYES
    return FacePose(bounded(vector), HeadPose(_MODEL_DEPTH / depth, rotation, shift), False)


def _gaze(points: np.ndarray) -> dict[str, float]:
    """Where OpenSeeFace's pupils are between the corners of their eyes; `points` (68, 2) are (row, column)."""
    found = {}
    for side, (outer, inner, pupil) in zip(("Right", "Left"), _EYES, strict=True):
        one, other, at = (complex(points[k, 1], points[k, 0]) for k in (outer, inner, pupil))
        across = other - one
        if abs(across) < 1:
            continue
        off = (at - (one + other) / 2) / across
        # To the picture's right, which is outwards for the person's left eye.
        right = off.real / _PUPIL[0] * (1 if side == "Left" else -1)
        found["eyeLookOut" + side], found["eyeLookIn" + side] = right, -right
        down = off.imag / _PUPIL[1]
        found["eyeLookDown" + side], found["eyeLookUp" + side] = down, -down
    return found


def _number(text: str) -> float:
    """A finite number in plain digits."""
    if len(text) > 24:
        raise BadPacket("number")
    try:
        number = float(text)
    except ValueError:
        raise BadPacket("number") from None
    if not math.isfinite(number):
        raise BadPacket("not finite")
    return number


def _amount(value: float) -> float:
    if not AMOUNTS[0] <= value <= AMOUNTS[1]:
        raise BadPacket("range")
    return min(max(value, 0.0), 1.0)


def _check_pose(angles: np.ndarray, place: np.ndarray) -> None:
    if np.abs(angles).max() > MOST_ANGLE or np.abs(place).max() > MOST_AWAY:
        raise BadPacket("range")


def _axis(axis: int, angle: float) -> np.ndarray:
    about = np.zeros(3)
    about[axis] = angle
    return cv2.Rodrigues(about)[0]


def _about(x: float, y: float, z: float) -> np.ndarray:
    """The rotation about x, then y, then z, as OpenCV's RQDecomp3x3 takes one apart."""
    return _axis(2, z) @ _axis(1, y) @ _axis(0, x)


def _turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Of right-handed angles about ARKit's axes (x to the picture's right, y up, z to the viewer): a rotation in the picture's,
    whose y goes down, float64 (3, 3).
    """
    down = np.diag([1.0, -1.0, 1.0])
    return down @ _axis(1, yaw) @ _axis(0, pitch) @ _axis(2, roll) @ down


#: OpenSeeFace's axes (down, right, away) in the picture's (right, down, to the viewer).
_IN_PICTURE = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])

#: A face that looks straight at it.
_AHEAD = _IN_PICTURE @ _about(math.pi, 0.0, math.pi / 2) @ _IN_PICTURE.T
