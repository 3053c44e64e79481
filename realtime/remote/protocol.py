"""The messages between the camera's machine (client) and the one that renders (server), over one websocket.

Text messages are JSON objects, binary ones begin with a letter.

To the server:
    {"version", "model", "session"}             hello; `session` is 128 random bits in hexadecimal digits, by which a client whose
                                                connection broke finds its session again. To a service, with "at", the name of the
                                                worker that renders now, or "lost", of one that is gone; to a warm spare, with
                                                {"standby": true}: it prepares the avatar, and takes over with the first motion
    {"canvas"}, {"show": hash}, {"key": true}   compose on this canvas; switch to an avatar; send a key picture
    A                                           an avatar (`pack_avatar`)
    N                                           motion of one frame (`packets`)
    K                                           a picture has arrived (`ACKNOWLEDGE`), on a single connection
    T                                           clock request (`CLOCK_REQUEST`), also the sign of life
To the client:
    {"welcome", "engine"}, {"error"}            hello is accepted; what is wrong, a sentence
    {"need": hash}, {"ready": hash, "keypoints"}  send this avatar; it is shown, and whether frames need keypoints
    {"move": {"to", "spare"}}                   of a service: go to this worker, and know that spare, {"name", "address"} each
    {"refused", "busy": seconds}                 of a service: why it has no place; taken for about so long
    {"no_base": true}                           the last packet could not be decoded
    P                                           a picture (`PICTURE`)
    T                                           clock reply (`CLOCK_REPLY`)
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from livepuppet.core.avatar import LONGEST_SIDE, Avatar
from livepuppet.core.square import Square, cut

#: Of the protocol; both ends need the same.
VERSION = 1

#: Of the websocket.
PATH = "/render"

#: Longest message in bytes, in either direction: an avatar may have 2048 x 2048 pixels.
LARGEST_MESSAGE = 20 << 20

#: Longest JSON object in bytes.
LARGEST_JSON = 8192

#: Sides of a canvas, in pixels.
LEAST_SIDE, MOST_SIDE = 16, 4096

#: Before the data of a picture: kind, number of its frame, codec, 1 for a key picture, when the frame's packet was received in
#: seconds of the server's clock, and the seconds that it then waited, that rendering took, and encoding.
PICTURE = struct.Struct("<cIBBdfff")

#: Kind, and number of the picture.
ACKNOWLEDGE = struct.Struct("<cI")

#: Kind, and when it was sent, in seconds of the client's clock.
CLOCK_REQUEST = struct.Struct("<cd")

#: Kind, the time of the request, and when that was received and answered, in seconds of the server's clock.
CLOCK_REPLY = struct.Struct("<cddd")

_AVATAR = struct.Struct("<cI")


class BadMessage(ValueError):
    """A message that is malformed or out of bounds."""


@dataclass(frozen=True)
class Canvas:
    """What pictures are composed on. Attributes as `Compositor`'s; `rig` as `Animator`'s."""

    width: int
    height: int
    fit: str = "letterbox"
    paste: bool = True
    background: str = "as-is"
    sharp: bool = True
    rig: str = "on"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its pictures, (H, W, 3 or 4)."""
        return self.height, self.width, 4 if self.background == "alpha" else 3

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Canvas:
        """Raises BadMessage."""
        try:
            canvas = cls(**value)
        except TypeError as error:
            raise BadMessage("canvas") from error
        for side in (canvas.width, canvas.height):
            if type(side) is not int or not LEAST_SIDE <= side <= MOST_SIDE:
                raise BadMessage("canvas size")
        texts = (canvas.fit, canvas.background, canvas.rig)
        if not all(isinstance(text, str) and len(text) <= 40 for text in texts):
            raise BadMessage("canvas options")
        if type(canvas.paste) is not bool or type(canvas.sharp) is not bool:
            raise BadMessage("canvas switches")
        return canvas


def parse_json(text: str) -> dict[str, Any]:
    """The JSON object of a text message. Raises BadMessage."""
    if len(text) > LARGEST_JSON:
        raise BadMessage("length")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage("no JSON") from error
    if not isinstance(value, dict):
        raise BadMessage("no object")
    return value


def pack_avatar(avatar: Avatar) -> tuple[str, bytes]:
    """SHA-256 of an avatar in hexadecimal digits, and the message that brings it. Its name does not travel."""
    picture = cv2.cvtColor(avatar.original, cv2.COLOR_RGB2BGR)
    if avatar.matte is not None:
        picture = np.dstack([picture, avatar.matte])
    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not done:
        raise OSError("the avatar could not be compressed")
    geometry = json.dumps(
        {
            "square": [avatar.square.x, avatar.square.y, avatar.square.side],
            "others": [[other.x, other.y, other.side] for other in avatar.others],
        }
    ).encode()
    body = geometry + data.tobytes()
    return hashlib.sha256(body).hexdigest(), _AVATAR.pack(b"A", len(geometry)) + body


def unpack_avatar(message: bytes, size: int) -> tuple[str, Avatar]:
    """SHA-256 and avatar of a message, for a model of `size`. Raises BadMessage."""
    if not _AVATAR.size < len(message) <= LARGEST_MESSAGE:
        raise BadMessage("length")
    _, length = _AVATAR.unpack_from(message)
    body = message[_AVATAR.size :]
    if length > min(LARGEST_JSON, len(body)):
        raise BadMessage("length")
    geometry, data = parse_json(body[:length].decode("utf-8", "replace")), body[length:]
    square, others = _square(geometry.get("square")), geometry.get("others", [])
    if not isinstance(others, list) or len(others) > 32:
        raise BadMessage("others")
    # Width and height stand at a fixed place (IHDR comes first), so nothing larger is ever decoded.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise BadMessage("no PNG")
    width, height = struct.unpack_from(">II", data, 16)
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE):
        raise BadMessage("too large")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8 or picture.ndim != 3:
        raise BadMessage("no picture")
    if picture.shape[:2] != (height, width):
        raise BadMessage("size")
    original = np.ascontiguousarray(picture[..., 2::-1])
    matte = np.ascontiguousarray(picture[..., 3]) if picture.shape[2] == 4 else None
    if not (-width <= square.x <= width and -height <= square.y <= height):
        raise BadMessage("square")
    if not 1 <= square.side <= 2 * LONGEST_SIDE:
        raise BadMessage("square")
    digest = hashlib.sha256(body).hexdigest()
    return digest, Avatar(
        digest[:16],
        cut(original, square, size),
        None,
        original,
        square,
        matte,
        tuple(_square(other) for other in others),
    )


def _square(values: Any) -> Square:
    if not isinstance(values, list) or len(values) != 3:
        raise BadMessage("square")
    if not all(type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e5 for value in values):
        raise BadMessage("square")
    return Square(*values)
