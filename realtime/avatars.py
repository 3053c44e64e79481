"""The still pictures that are moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing.crop import centred_square, cut, find_face, parse_square, square_around
from livepuppet.realtime.pictures import list_pictures, read_picture


@dataclass(frozen=True)
class Avatar:
    """A still picture, cut to the model's size.

    Attributes:
        name: its file's name.
        picture: uint8 RGB (S, S, 3).
    """

    name: str
    picture: np.ndarray


def load_avatar(path: Path, size: int, crop: str = "center") -> Avatar:
    """Read any picture and cut a square of it.

    Args:
        path: of the picture.
        size: S, the model's side in pixels. A picture of exactly that size is taken pixel by pixel.
        crop: `center` (the largest centred square), `face` (the head with margin, where a face is found; else the
            centre) or `X,Y,SIDE` in pixels of the upright picture.

    Raises:
        UserError: if the picture cannot be read or the crop lies outside it.
    """
    path = Path(path)
    picture = read_picture(path)
    if crop == "center":
        square = centred_square(*picture.shape[:2])
    elif crop == "face":
        face = find_face(picture)
        square = square_around(face, *picture.shape[:2]) if face else centred_square(*picture.shape[:2])
    else:
        square = parse_square(crop)
    return Avatar(path.name, cut(picture, square, size))


def load_avatars(path: Path, size: int, crop: str = "center") -> tuple[list[Avatar], list[str]]:
    """One picture, or every picture of a folder in natural order.

    Returns:
        The avatars, at least one, and a sentence for each file of a folder that was skipped.

    Raises:
        UserError: if there is not a single readable picture.
    """
    path = Path(path)
    if not path.is_dir():
        return [load_avatar(path, size, crop)], []
    avatars, skipped = [], []
    for file in list_pictures(path):
        try:
            avatars.append(load_avatar(file, size, crop))
        except UserError as error:
            skipped.append(str(error))
    if not avatars:
        raise UserError(f"No picture in the folder {path} can be read: put PNG or JPEG files into it.")
    return avatars, skipped
