"""Pictures that pages bring, and those that this machine offers: bounded, and decoded as data."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.avatar import LONGEST_SIDE, Avatar
from livepuppet.realtime.avatars import avatar_of, load_avatars
from livepuppet.realtime.remote.protocol import BadMessage

#: Side of a thumbnail in pixels, which is shown large until the picture moves, and pictures that are offered.
THUMBNAIL, MOST_OFFERED = 480, 60


def read_picture(data: bytes, size: int) -> Avatar:
    """The avatar of a PNG with 8 bits, for a model of `size`. Raises BadMessage."""
    # Width and height stand at a fixed place (IHDR comes first), so nothing larger is ever decoded.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 33:
        raise BadMessage("no PNG")
    width, height = struct.unpack_from(">II", data, 16)
    if not (16 <= width <= LONGEST_SIDE and 16 <= height <= LONGEST_SIDE):
        raise BadMessage("size of the picture")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8 or picture.ndim != 3:
        raise BadMessage("no picture")
    if picture.shape[:2] != (height, width):
        raise BadMessage("size of the picture")
    code = cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return avatar_of(cv2.cvtColor(picture, code), size)


def thumbnail_of(avatar: Avatar) -> bytes:
    """JPEG of the avatar's middle, square."""
    picture = avatar.original
    side = min(picture.shape[:2])
    top = min((picture.shape[0] - side) // 2, side // 8)
    left = (picture.shape[1] - side) // 2
    small = cv2.resize(
        picture[top : top + side, left : left + side], (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA
    )
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()


def load_offered(paths: Sequence[Path], size: int) -> tuple[list[tuple[str, Avatar, bytes]], list[str]]:
    """Names, avatars and thumbnails of pictures, or of folders of pictures; and a sentence for each that was skipped. Raises UserError."""
    found, skipped = [], []
    for path in paths:
        several, left_out = load_avatars(path, size)
        found += several
        skipped += left_out
    skipped += [f"{avatar.name} is one too many." for avatar in found[MOST_OFFERED:]]
    return [
        (Path(avatar.name).stem, avatar, thumbnail_of(avatar)) for avatar in found[:MOST_OFFERED]
    ], skipped
