"""Pictures on disk: read whatever people have as plain 8-bit RGB, and write PNG."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from livepuppet.core.errors import UserError

if TYPE_CHECKING:
    import av

#: File names taken for pictures when a folder is listed. A single file is read whatever its name
#: is.
IMAGE_SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".jp2"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".hdr", ".heic"),
}

#: How files begin of which no second look is needed: JPEG has no alpha, PNG says where it is
#: turned.
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

#: What transparent pixels show. Live: a light gray, which adds no colour of its own to hair and
#: shoulders. In training: white, as the published data sets (MGif) have it; results stay comparable
#: with theirs.
BEHIND_ALPHA, BEHIND_ALPHA_IN_TRAINING = 200, 255


def natural_key(path: Path | str) -> list:
    """Sort key that puts frame2.png before frame10.png, of a path's last part or of a name."""
    name = path if isinstance(path, str) else path.name
    return [int(part) if part.isdigit() else part.casefold() for part in re.split(r"(\d+)", name)]


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


def to_8_bit(picture: np.ndarray) -> np.ndarray:
    """uint8 of the same shape from uint8, uint16 (0..65535) or floating point (0..1, clipped)."""
    if picture.dtype == np.uint8:
        return picture
    if np.issubdtype(picture.dtype, np.floating):
        return np.rint(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
    if picture.dtype == np.uint16:
        return np.rint(picture / 257.0).astype(np.uint8)
    # Signed or 32-bit integers (scientific TIFF): nothing says what white is, so the brightest
    # pixel is.
    shifted = picture.astype(np.float64) - picture.min()
    return np.rint(shifted * (255 / max(shifted.max(), 1))).astype(np.uint8)


def over_gray(rgba: np.ndarray, behind: int = BEHIND_ALPHA) -> np.ndarray:
    """Lay straight-alpha `rgba` uint8 (H, W, 4) over the gray level `behind`; uint8 RGB (H, W, 3)."""
    if rgba[..., 3].min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)


def _turn_like(alpha: np.ndarray, stored: np.ndarray, upright: np.ndarray) -> np.ndarray:
    """Give `alpha` (H, W) the turn or flip that leads from the pixels `stored` to `upright` (EXIF
    orientation).
    """
    for quarter_turns in range(4):
        for flip in (False, True):

            def turned(pixels, quarter_turns=quarter_turns, flip=flip):
                return np.rot90(np.fliplr(pixels) if flip else pixels, quarter_turns)

            candidate = turned(stored)
            if candidate.shape == upright.shape and np.array_equal(candidate, upright):
                return turned(alpha)
    return alpha if alpha.shape == upright.shape[:2] else alpha.T


def _imdecode(buffer: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(buffer, flags)
    except cv2.error:
        return None


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    """uint8 RGB (H, W, 3) or RGBA (H, W, 4), upright, or None where OpenCV cannot read `data`.

    OpenCV turns pictures by their EXIF tag only where it also drops alpha, so a picture with
    transparency is decoded both ways. The file's name plays no part: the format is told from the
    bytes.
    """
    buffer = np.frombuffer(data, np.uint8)
    if data.startswith(_PNG) and b"eXIf" not in data:
        # Nothing to turn: once is enough.
        stored = _imdecode(buffer, cv2.IMREAD_UNCHANGED)
        if stored is None:
            return None
        codes = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
        return to_8_bit(cv2.cvtColor(stored, codes[2 if stored.ndim == 2 else stored.shape[2]]))
    try:
        upright = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if upright is None:
            return None
        stored = None if data.startswith(_JPEG) else cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    rgb = to_8_bit(cv2.cvtColor(upright, cv2.COLOR_BGR2RGB))
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4:
        return rgb
    alpha = _turn_like(stored[..., 3], stored[..., :3], upright)
    return np.dstack([rgb, to_8_bit(alpha)])


def frame_to_rgb(frame: av.VideoFrame, behind: int = BEHIND_ALPHA) -> np.ndarray:
    """A decoded video frame as uint8 RGB (H, W, 3): colours by the frame's own tags, alpha over the
    gray level `behind`, turned upright.
    """
    picture = _frame_pixels(frame)
    return over_gray(picture, behind) if picture.shape[2] == 4 else picture


def _frame_pixels(frame: av.VideoFrame) -> np.ndarray:
    """uint8 RGB (H, W, 3) or, where the frame has transparency, RGBA (H, W, 4); upright."""
    has_alpha = any(component.is_alpha for component in frame.format.components)
    # pal8 hides its alpha in the palette.
    picture = frame.to_ndarray(format="rgba" if has_alpha or frame.format.name == "pal8" else "rgb24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def _decode_with_pyav(path: Path) -> np.ndarray | None:
    """The first frame of anything FFmpeg reads, as uint8 RGB or RGBA, or None."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(os.path.abspath(path)) as container:
            return next((_frame_pixels(frame) for frame in container.decode(video=0)), None)
    except (FFmpegError, IndexError, ValueError):
        return None


def read_image_and_alpha(
    path: Path, behind: int = BEHIND_ALPHA, strict: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a picture of any format, depth and orientation.

    Args:
        behind: gray level under transparent pixels.
        strict: refuse a file that is cut short. FFmpeg, which reads what OpenCV does not, fills the
            rest with gray: good enough for an avatar, wrong for training.

    Returns:
        uint8 RGB (H, W, 3), upright by its EXIF tag, transparency laid over the gray level
        `behind`; and the transparency itself, uint8 (H, W) from 0 (nothing) to 255, or None for a
        picture that is opaque throughout.

    Raises:
        UserError: if it is missing, not a picture, or damaged.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The picture {path} cannot be read ({error.strerror}): check its name and permissions."
        ) from error
    picture = _decode_with_opencv(data) if data else None
    if picture is None and data and not strict:
        picture = _decode_with_pyav(path)
    if picture is None or 0 in picture.shape:
        raise UserError(
            f"{path} is not a picture that can be read: open it in a picture program and save it as PNG or JPEG."
        )
    return (picture, None) if picture.shape[2] == 3 else split_alpha(picture, behind)


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
