"""The messages between a camera's machine and one that draws for it, over one websocket.

Words are JSON objects in text messages, everything else is binary and begins with a letter:

* to whoever draws: `N` numbers (`numbers`), `A` an avatar (`pack_avatar`), `K` the number of a picture that arrived; words
  `canvas`, `show` (an avatar's hash) and `key` (the next picture has to stand alone);
* back: `P` a picture (`PICTURE`); words `welcome`, `need` and `ready` (an avatar's hash), `error`.
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

#: Of the protocol. Others are refused.
VERSION = 1

#: What a websocket of ours offers, and the path.
PATH = "/draw"

#: Bytes of a message, in either direction: a picture of an avatar may have 2048 x 2048 pixels.
LARGEST_MESSAGE = 20 << 20

#: Bytes of words.
LARGEST_WORDS = 8192

#: Sides of a canvas, in pixels.
LEAST_SIDE, MOST_SIDE = 16, 3840

#: Before a picture: the number of the frame that it shows, its codec, 1 where it stands alone, and the seconds that whoever
#: draws took for it.
PICTURE = struct.Struct("<cIBBf")

NUMBER = struct.Struct("<cI")

_LENGTH = struct.Struct("<cI")


class BadMessage(ValueError):
    """A message that cannot be understood, or is out of bounds."""


@dataclass(frozen=True)
class Canvas:
    """What is drawn on. Attributes as of `Compositor`; `rig` as of `Animator`."""

    width: int
    height: int
    fit: str = "letterbox"
    paste: bool = True
    background: str = "as-is"
    sharp: bool = True
    rig: str = "on"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its pictures."""
        return self.height, self.width, 4 if self.background == "alpha" else 3

    def words(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, words: Any) -> Canvas:
        """Raises BadMessage."""
        try:
            canvas = cls(**words)
        except TypeError as error:
            raise BadMessage("canvas") from error
        for side in (canvas.width, canvas.height):
            if type(side) is not int or not LEAST_SIDE <= side <= MOST_SIDE:
                raise BadMessage("canvas size")
        texts = (canvas.fit, canvas.background, canvas.rig)
        if not all(isinstance(text, str) and len(text) <= 40 for text in texts):
            raise BadMessage("canvas words")
        if type(canvas.paste) is not bool or type(canvas.sharp) is not bool:
            raise BadMessage("canvas switches")
        return canvas


def words_of(text: str) -> dict[str, Any]:
    """The JSON object of a text message. Raises BadMessage."""
    if len(text) > LARGEST_WORDS:
        raise BadMessage("length")
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMessage("no JSON") from error
    if not isinstance(words, dict):
        raise BadMessage("no object")
    return words


def pack_avatar(avatar: Avatar) -> tuple[str, bytes]:
    """An avatar as a message, and its hash."""
    picture = cv2.cvtColor(avatar.original, cv2.COLOR_RGB2BGR)
    if avatar.matte is not None:
        picture = np.dstack([picture, avatar.matte])
    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    if not done:
        raise OSError("the avatar could not be compressed")
    words = json.dumps(
        {
            "square": [avatar.square.x, avatar.square.y, avatar.square.side],
            "others": [[other.x, other.y, other.side] for other in avatar.others],
        }
    ).encode()
    body = words + data.tobytes()
    return hashlib.sha256(body).hexdigest(), _LENGTH.pack(b"A", len(words)) + body


def unpack_avatar(message: bytes, size: int) -> tuple[str, Avatar]:
    """The hash and the avatar of such a message, for a model of `size`. Raises BadMessage."""
    if not _LENGTH.size < len(message) <= LARGEST_MESSAGE:
        raise BadMessage("length")
    _, length = _LENGTH.unpack_from(message)
    body = message[_LENGTH.size :]
    if length > min(LARGEST_WORDS, len(body)):
        raise BadMessage("length")
    words, data = words_of(body[:length].decode("utf-8", "replace")), body[length:]
    square, others = _square(words.get("square")), words.get("others", [])
    if not isinstance(others, list) or len(others) > 32:
        raise BadMessage("others")
    # Sides stand at a fixed place, so that nothing larger is ever decoded.
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
