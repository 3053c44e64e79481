"""Pictures on disk: read whatever people have as plain 8-bit RGB, and write PNG."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.names import is_pipe
from livepuppet.core.stills import LARGEST_PIXELS, Refused, read_still

#: File names taken for pictures when a folder is listed. A single file is read whatever its name
#: is.
IMAGE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".jp2"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".hdr", ".heic", ".heif", ".hif"),
}

#: What transparent pixels show. Live: a light gray, which adds no colour of its own to hair and
#: shoulders. In training: white, as the published data sets (MGif) have it; results stay comparable
#: with theirs.
BEHIND_ALPHA, BEHIND_ALPHA_IN_TRAINING = 200, 255


def natural_key(path: Path | str) -> list:
    """Sort key that puts frame2.png before frame10.png, of a path's last part or of a name."""
    name = path if isinstance(path, str) else path.name
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"(\d+)", name)]


def list_images(folder: Path) -> list[Path]:
    """The pictures directly inside `folder`, in natural order, hidden files left out.

    Raises:
        UserError: if the folder cannot be listed or holds no picture.
    """
    try:
        names = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        ]
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read ({error.strerror}): check its name.") from error
    if not names:
        raise UserError(f"The folder {folder} holds no pictures: put PNG, JPEG or WebP files into it.")
    return sorted(names, key=natural_key)


def over_gray(rgba: np.ndarray, behind: int = BEHIND_ALPHA) -> np.ndarray:
    """Lay straight-alpha `rgba` uint8 (H, W, 4) over the gray level `behind`; uint8 RGB (H, W, 3)."""
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    result = np.empty((*rgba.shape[:2], 3), np.uint8)
    # In strips: a large picture in floating point would take four times its own memory.
    for top in range(0, len(rgba), 256):
        strip = rgba[top : top + 256]
        alpha = strip[..., 3:].astype(np.float32) / 255
        result[top : top + 256] = np.rint(strip[..., :3] * alpha + behind * (1 - alpha))
    return result


def read_image_and_alpha(
    path: Path, behind: int = BEHIND_ALPHA, strict: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a picture of any format, depth, colour space and orientation.

    Args:
        behind: gray level under transparent pixels.
        strict: refuse formats that only FFmpeg reads, which fills what is missing of a damaged file
            with gray: good enough for an avatar, wrong for training.

    Returns:
        uint8 RGB (H, W, 3), upright and in sRGB, transparency laid over the gray level `behind`;
        and the transparency itself, uint8 (H, W) from 0 (nothing) to 255, or None for a picture that
        is opaque throughout.

    Raises:
        UserError: if it is missing, not a picture, damaged, or too large.
    """
    still = read_still_image(path, behind, strict)
    return still.image, still.alpha


@dataclass(frozen=True, eq=False)
class StillImage:
    """A picture that was read.

    Attributes:
        image, alpha: see `read_image_and_alpha`.
        reduced: how many of the file's pixels in a row became one; more than 1 only of JPEGs of more
            than 64 million pixels.
    """

    image: np.ndarray
    alpha: np.ndarray | None
    reduced: int = 1


def read_still_image(path: Path, behind: int = BEHIND_ALPHA, strict: bool = False) -> StillImage:
    """As `read_image_and_alpha`, with what was done to the picture. Raises UserError."""
    path = Path(path)
    if is_pipe(path):
        raise UserError(f"{path} is a pipe, which can be read once only: give the picture as a file.")
    try:
        with path.open("rb") as file:
            found = read_still(file)
    except Refused as error:
        raise UserError(f"{path} {error}.") from error
    except OSError as error:
        raise UserError(
            f"The picture {path} cannot be read ({error.strerror}): check its name and permissions."
        ) from error
    picture, reduced = found or (None, 1)
    if picture is None and not strict:
        from livepuppet.core.frames import first_frame

        picture = first_frame(path, {"max_pixels": str(LARGEST_PIXELS)})
    if picture is None or 0 in picture.shape:
        raise UserError(
            f"{path} is not a picture that can be read: open it in a picture program and save it as PNG or JPEG."
        )
    image, alpha = (picture, None) if picture.shape[2] == 3 else split_alpha(picture, behind)
    return StillImage(image, alpha, reduced)


def split_alpha(rgba: np.ndarray, behind: int = BEHIND_ALPHA) -> tuple[np.ndarray, np.ndarray | None]:
    """Straight-alpha uint8 RGBA (H, W, 4) as `read_image_and_alpha` returns it."""
    alpha = np.ascontiguousarray(rgba[..., 3])
    return over_gray(rgba, behind), None if alpha.min() == 255 else alpha


def read_image(path: Path, behind: int = BEHIND_ALPHA, strict: bool = False) -> np.ndarray:
    """As `read_image_and_alpha`, the picture alone: uint8 RGB (H, W, 3). Raises UserError."""
    return read_image_and_alpha(path, behind, strict)[0]


def encode_png(image: np.ndarray) -> bytes:
    """uint8 RGB (H, W, 3) or RGBA (H, W, 4) as the content of a PNG. Raises OSError where it is no
    such image.
    """
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    # Compression 1: several times as fast as the best, and a third larger at most.
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, code), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise OSError(0, "the image could not be compressed")
    return data.tobytes()


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) or RGBA (H, W, 4) without loss. Raises OSError like `open`."""
    path.write_bytes(encode_png(image))
