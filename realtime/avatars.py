"""Read the still pictures that are moved, and choose the square of them that moves."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.avatar import LONGEST_SIDE, Avatar
from livepuppet.core.cache import remember, remembered
from livepuppet.core.errors import UserError
from livepuppet.core.images import list_images, read_still_image, split_alpha
from livepuppet.core.names import local_path
from livepuppet.core.packages import version_of
from livepuppet.core.square import Square, centred_square, cut, parse_square
from livepuppet.realtime.framing.faces import find_faces, square_around, square_for

#: A face that is smaller than this share of the likeliest one is taken for a mistake.
SMALLEST_BESIDE = 0.35


def check_avatar_crop(crop: str) -> None:
    """Raises UserError where `crop` is nothing that `load_avatar` takes, of whatever picture."""
    if crop not in ("auto", "face", "left", "right", "center") and not crop.isdecimal():
        parse_square(crop)


def choose_square(picture: np.ndarray, crop: str) -> tuple[Square, tuple[Square, ...]]:
    """The square of `picture` uint8 RGB (H, W, 3) that `crop` asks for, see `load_avatar`; and boxes
    of faces beside the one that it is put around. Raises UserError.
    """
    height, width = picture.shape[:2]
    if crop == "center":
        return centred_square(height, width), ()
    if crop not in ("auto", "face", "left", "right") and not crop.isdecimal():
        return parse_square(crop), ()
    faces = _faces_of(picture)
    if crop.isdecimal() and not 1 <= int(crop) <= len(faces):
        shown = {0: "no face", 1: "one face"}.get(len(faces), f"{len(faces)} faces")
        raise UserError(
            f"The picture shows {shown} that can be told, and not a number {int(crop)} from the left: "
            "choose another, or give X,Y,SIDE."
        )
    if not faces:
        return centred_square(height, width), ()
    in_order = sorted(faces, key=lambda face: face.x + face.side / 2)
    named = {"auto": faces[0], "face": faces[0], "left": in_order[0], "right": in_order[-1]}
    face = named.get(crop) or in_order[int(crop) - 1]
    others = tuple(other for other in faces if other is not face)
    if crop == "auto" and not others:
        return square_for([face], height, width), ()
    return square_around(face, height, width), others


def _faces_of(picture: np.ndarray) -> list[Square]:
    """`find_faces`, which takes up to half a second, of this very picture only once: the next start
    remembers them. Without those that are too small beside the first to be meant.
    """
    inputs = {
        "picture": [picture.shape, hashlib.blake2b(np.ascontiguousarray(picture).data).hexdigest()],
        "all": True,
        "versions": [cv2.__version__, version_of("livepuppet")],
    }
    try:
        return [Square(*(float(value) for value in face)) for face in remembered("faces", inputs)]
    except (KeyError, ValueError, TypeError):
        found = find_faces(picture)
    faces = [face for face in found if face.side >= SMALLEST_BESIDE * found[0].side]
    remember("faces", inputs, [[face.x, face.y, face.side] for face in faces])
    return faces


def load_avatar(path: str | os.PathLike, size: int = 256, crop: str = "auto") -> Avatar:
    """Read any picture and cut a square of it.

    Args:
        path: of the picture.
        size: S, the model's side in pixels. A picture of exactly that size is taken pixel by pixel.
        crop: `auto` (as `face`, but a square picture that a face fills stays whole), `face` (the
            head with margin, where a face is found; else the centre), `left`, `right` or a number
            from the left (the head of that face of several), `center` (the largest centred square)
            or `X,Y,SIDE` in pixels of the upright picture.

    Raises:
        UserError: if the picture cannot be read, the crop lies outside it, or there are not as many
            faces.
    """
    path = local_path(path, "the avatar")
    still = read_still_image(path)
    return _cut_avatar(path.name, still.image, still.alpha, size, crop, path, still.reduced)


def avatar_of(picture: np.ndarray, size: int, crop: str = "auto", name: str = "picture") -> Avatar:
    """As `load_avatar`, of pixels instead of a file.

    Args:
        picture: uint8 RGB (H, W, 3), or RGBA with straight alpha (H, W, 4).

    Raises:
        UserError: if it is neither, or the crop lies outside it.
    """
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8 or not picture.size:
        raise UserError(
            f"An avatar has to be RGB or RGBA uint8 (H, W, 3 or 4), not {picture.dtype} {picture.shape}: convert it first."
        )
    if picture.shape[2] == 3:
        return _cut_avatar(name, np.ascontiguousarray(picture), None, size, crop)
    return _cut_avatar(name, *split_alpha(picture), size, crop)


def _cut_avatar(
    name: str,
    picture: np.ndarray,
    matte: np.ndarray | None,
    size: int,
    crop: str,
    path: Path | None = None,
    reduced: int = 1,
) -> Avatar:
    square, others = choose_square(picture, crop)
    if reduced > 1 and "," in crop:
        # In pixels of the file, which are not those of a huge JPEG that was read smaller.
        square = square.scaled(1 / reduced)
    # `cut` takes whole pixels: what it took is what has to be put back.
    square = Square(round(square.x), round(square.y), max(1, round(square.side)))
    small = cut(picture, square, size)
    factor = LONGEST_SIDE / max(picture.shape[:2])
    if factor < 1:
        extent = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
        picture = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA)
        matte = None if matte is None else cv2.resize(matte, extent, interpolation=cv2.INTER_AREA)
        square, others = square.scaled(factor), tuple(other.scaled(factor) for other in others)
    return Avatar(name, small, path, picture, square, matte, others)


def load_avatars(path: Path, size: int, crop: str = "auto") -> tuple[list[Avatar], list[str]]:
    """One picture, or every picture of a folder in natural order.

    Returns:
        The avatars, at least one, and a sentence for each file of a folder that was skipped.

    Raises:
        UserError: if there is not a single readable picture.
    """
    path = local_path(path, "the avatar")
    if not path.is_dir():
        return [load_avatar(path, size, crop)], []
    avatars, skipped = [], []
    for file in list_images(path):
        try:
            avatars.append(load_avatar(file, size, crop))
        except UserError as error:
            skipped.append(str(error))
    if not avatars:
        raise nothing_readable(path)
    return avatars, skipped


def nothing_readable(folder: Path) -> UserError:
    """What to raise where a folder has no picture that can be read."""
    return UserError(f"No picture in the folder {folder} can be read: put PNG or JPEG files into it.")
