"""Decode still pictures of every format with Pillow: turns, colour profiles, depths and modes, and a
bound on memory before anything is decoded.

Pillow is imported with the first picture that needs it. What it cannot read goes to OpenCV (TIFF
with several channels of floating point or 32 bits, Radiance HDR), and what neither reads is left to
the caller.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np

from livepuppet.core.orientation import upright

if TYPE_CHECKING:
    from PIL import Image

#: Pixels up to which a picture is decoded: 8000 x 8000 take 500 to 700 MB on the way.
LARGEST_PIXELS = 64_000_000

#: JPEG is decoded smaller where it has more, up to this (telephones write 200 million). Progressive
#: ones are not: they need memory for all coefficients whatever comes out.
LARGEST_JPEG_PIXELS = 256_000_000

#: Bytes up to which a file is taken for a picture; most formats are read as a whole.
LARGEST_FILE, LARGEST_TIFF = 256 << 20, 1 << 30

#: Pictures of 16 bits are rounded to 8 up to this size; above it Pillow's cut ones are good enough.
_ROUNDED_PIXELS = 25_000_000

#: A profile that moves no colour by more levels than this is sRGB under another name.
_SAME_COLOURS = 1

#: Rows that are converted at a time.
_STRIP = 256

#: How files begin, and what Pillow calls their format. Only these are handed to it: it also knows
#: some that start other programs (EPS).
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\x01\0", "ICO"),
    (b"icns", "ICNS"),
    (b"8BPS", "PSD"),
    (b"qoif", "QOI"),
)
_RADIANCE = (b"#?RADIANCE", b"#?RGBE")

#: Chunks of a PNG that change no pixel.
_PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"sBIT", b"bKGD"}


class Refused(Exception):
    """The picture is damaged, too large or needs a package; the message goes on after its name."""


def format_of(head: bytes) -> str | None:
    """Pillow's name of the format of a file that begins with `head`, or None for none of those it is
    given.
    """
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456f" and head[2:3].isspace():
        return "PPM"
    if head[4:8] == b"ftyp":
        brands = {head[k : k + 4] for k in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIF"
    return None


def read_still(file: BinaryIO) -> tuple[np.ndarray, int] | None:
    """Decode a picture.

    Returns:
        uint8 RGB (H, W, 3) or, where anything in it is transparent, RGBA (H, W, 4), upright, in
        sRGB; and how many pixels in a row became one. None for a format that is not known here.

    Raises:
        Refused: it is damaged, too large, or a package is missing.
        OSError: it cannot be read from the disk.
    """
    head = file.read(256)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    kind = format_of(head)
    if kind is None and not head.startswith(_RADIANCE):
        return None
    most = LARGEST_TIFF if kind == "TIFF" else LARGEST_FILE
    if size > most:
        raise Refused(f"is larger than {most >> 20} MB, the most that is read of a picture: save it smaller")
    if kind is None:
        return _read_radiance(file.read()), 1
    if kind == "PNG":
        plain = _plain_png(file)
        if plain is not None:
            return plain, 1
    return _read_with_pillow(file, kind)


def _refuse_size(width: int, height: int, most: int = LARGEST_PIXELS) -> None:
    if width * height > most:
        raise Refused(
            f"has {width} x {height} pixels, and {most // 1_000_000} million are the most that can be read: "
            "save it smaller"
        )


def _plain_png(file: BinaryIO) -> np.ndarray | None:
    """A whole PNG of 8 bits without profile, turn or transparent colour, decoded by OpenCV: the
    usual avatar, for which a start need not wait for Pillow. Anything else is None.
    """
    data = file.read()
    file.seek(0)
    place, kinds = 8, []
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind not in _PLAIN_CHUNKS or end > len(data):
            return None
        if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return None
        kinds.append(kind)
        place = end
        if kind == b"IEND":
            break
    if len(kinds) < 3 or kinds[0] != b"IHDR" or kinds[-1] != b"IEND":
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    # 2 is RGB, 6 RGBA.
    if depth != 8 or colour not in (2, 6) or interlaced or width * height > LARGEST_PIXELS:
        return None
    stored = _opencv(data)
    if stored is None or stored.shape != (height, width, 3 if colour == 2 else 4):
        return None
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB if colour == 2 else cv2.COLOR_BGRA2RGBA)


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Without the lines that OpenCV writes to standard error."""
    # OpenCV 4.11 has the two calls at its top.
    logging: Any = getattr(cv2.utils, "logging", cv2)
    before = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _opencv(data: bytes) -> np.ndarray | None:
    """The stored pixels, not turned, or None."""
    with _quiet_opencv(), suppress(cv2.error):
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None


def _read_radiance(data: bytes) -> np.ndarray:
    found = re.search(rb"\n([-+][XY]) (\d{1,9}) ([-+][XY]) (\d{1,9})\n", data[:65536])
    if not found:
        raise Refused("is damaged or incomplete: get it anew, or save it as PNG or JPEG")
    _refuse_size(int(found[4]), int(found[2]))
    stored = _opencv(data)
    if stored is None:
        raise Refused("is damaged or incomplete: get it anew, or save it as PNG or JPEG")
    return cv2.cvtColor(to_8_bit(stored), cv2.COLOR_BGR2RGB)


def _read_with_pillow(file: BinaryIO, kind: str) -> tuple[np.ndarray, int]:
    try:
        image = _opened(file, kind)
    except Refused:
        raise
    # Decoders of damaged files raise whatever they stumble over, here and below.
    except Exception as error:
        if kind == "TIFF":
            stored = _tiff_with_opencv(file)
            if stored is not None:
                return stored, 1
        raise Refused(f"is not a picture that can be read ({_reason(error)}): {_REMEDY}") from error
    try:
        with image:
            return _decoded(image, file, kind)
    except Refused:
        raise
    except MemoryError as error:
        raise Refused(f"needs more memory than there is: {_REMEDY}") from error
    except Exception as error:
        if kind == "JPEG" and isinstance(error, OSError):
            whole = _jpeg_without_end(file)
            if whole is not None:
                return whole
        raise Refused(f"is damaged or incomplete ({_reason(error)}): {_REMEDY}") from error


def _jpeg_without_end(file: BinaryIO) -> tuple[np.ndarray, int] | None:
    """A JPEG that lacks nothing but its end marker, as some cameras write it; None where pixels are
    missing.

    Decoders fill what is missing with what they guess. Here bytes of noise stand in the way, once:
    a whole picture does not care what comes after it.
    """
    file.seek(0)
    data = file.read()
    found = []
    for noise in (b"", b"\x5a\x93\x2e\x71" * 64):
        ended = io.BytesIO(data + noise + b"\xff\xd9")
        try:
            with _opened(ended, "JPEG") as image:
                found.append(_decoded(image, ended, "JPEG"))
        except Exception:
            return None
    return found[0] if np.array_equal(found[0][0], found[1][0]) else None


#: How TIFF names L*a*b*: CIE, ICC and ITU.
_LAB = (8, 9, 10)

_REMEDY = "open it in a picture program and save it as PNG or JPEG"


def _reason(error: Exception) -> str:
    """What a decoder says, on one line and not too long."""
    said = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
    # Pillow names files that it cannot identify by the object that it read from.
    return "it is damaged or something else" if "<_io." in said else said[:100].rstrip(".")


@cache
def pillow() -> Any:
    """Pillow's `Image`. It takes 30 ms to import, and most starts need none."""
    from PIL import Image

    # Remarks about odd tags and large pictures would go to standard error.
    warnings.filterwarnings("ignore", module=r"PIL\.", append=True)
    return Image


@cache
def _heif() -> None:
    """Teach Pillow to read HEIF, if there is a package for it."""
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener(thumbnails=False)


def _opened(file: BinaryIO, kind: str) -> Image.Image:
    """By its header alone, and not too large."""
    Image = pillow()
    if kind == "HEIF":
        _heif()
        if kind not in Image.OPEN:
            raise Refused("is a HEIC picture, which needs the package pillow-heif: pip install pillow-heif")
    if kind == "JPEG":
        # Without Pillow's own bound, as it can be decoded smaller.
        from PIL.JpegImagePlugin import JpegImageFile

        image = JpegImageFile(file)
        progressive = "progressive" in image.info or "progression" in image.info
        _refuse_size(*image.size, LARGEST_PIXELS if progressive else LARGEST_JPEG_PIXELS)
        return image
    try:
        image = Image.open(file, formats=[kind])
    except Image.DecompressionBombError as error:
        raise Refused(
            f"has more than the {LARGEST_PIXELS // 1_000_000} million pixels that can be read: save it smaller"
        ) from error
    _refuse_size(*image.size)
    return image


def _decoded(image: Image.Image, file: BinaryIO, kind: str) -> tuple[np.ndarray, int]:
    reduced = 1
    while kind == "JPEG" and image.width * image.height > LARGEST_PIXELS * reduced**2:
        reduced *= 2
    if reduced > 1:
        image.draft(None, (-(-image.width // reduced), -(-image.height // reduced)))
    # 16 bits per channel, of which Pillow keeps the upper 8. Gray ones it has whole.
    deep = image.mode in ("RGB", "RGBA", "LA", "RGBX") and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )
    # Pillow turns TIFF in loading, and forgets that it was turned.
    turned = False
    if kind == "TIFF":
        turned = image.tag_v2.get(0x0112, 1) != 1  # type: ignore[attr-defined]
        _refuse_misread_tiff(image.tag_v2)  # type: ignore[attr-defined]
    image.load()
    orientation = image.getexif().get(0x0112, 1)
    picture = _rounded(file, image.size) if deep and not turned else None
    if picture is None:
        picture = _as_rgb(image, kind)
    elif image.info.get("icc_profile"):
        change = _to_srgb(image.info["icc_profile"], "RGB")
        picture[..., :3] = _pixels(pillow().fromarray(picture[..., :3]), "RGB", change)
    return upright(picture, orientation), reduced


def _rounded(file: BinaryIO, size: tuple[int, int]) -> np.ndarray | None:
    """A picture of 16 bits per channel, whole as Pillow has seen, as uint8 RGB(A); None where OpenCV
    cannot read it.
    """
    if size[0] * size[1] > _ROUNDED_PIXELS:
        return None
    file.seek(0)
    stored = _opencv(file.read())
    if stored is None or stored.dtype != np.uint16 or stored.shape[1::-1] != size or stored.ndim != 3:
        return None
    return cv2.cvtColor(to_8_bit(stored), cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _refuse_misread_tiff(tags: Any) -> None:
    """Raise Refused for TIFFs that Pillow and OpenCV show in wrong colours, and say nothing about it."""
    several, bits = tags.get(277, 1) > 1, max(tags.get(258, (1,)))
    if tags.get(284, 1) == 2 and several and bits > 8:
        # Pillow reads the lower bytes of channels that are stored one after the other, OpenCV the first channel as if it were all.
        raise Refused(f"keeps its channels apart, which is read at 8 bits only: {_REMEDY}")
    if several and bits == 8 and 2 in tags.get(339, (1,)):
        # Pillow takes them for unsigned ones.
        raise Refused(
            f"stores its colours as signed numbers, which is understood of gray ones only: {_REMEDY}"
        )
    if tags.get(262) in _LAB and bits > 8:
        raise Refused(f"stores L*a*b* colours of {bits} bits, which are read at 8 bits only: {_REMEDY}")


def _tiff_with_opencv(file: BinaryIO) -> np.ndarray | None:
    """TIFFs whose pixels Pillow has no mode for, bounded by their own header."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        file.seek(0)
        tags = ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        width, height, channels = int(tags[256]), int(tags[257]), int(tags.get(277, 1))
        bits = max(int(bit) for bit in tags.get(258, (8,)))
        _refuse_misread_tiff(tags)
        _refuse_size(width, height)
        if width * height * channels * bits // 8 > 8 * _ROUNDED_PIXELS:
            _refuse_size(width, height, _ROUNDED_PIXELS)
    except Refused:
        raise
    except Exception:
        return None
    file.seek(0)
    stored = _opencv(file.read())
    if stored is None or not stored.size:
        return None
    codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    stored = to_8_bit(stored)
    if stored.ndim == 2 or stored.shape[2] == 1:
        stored = 255 - stored if tags.get(262) == 0 and bits > 8 else stored
        return cv2.cvtColor(stored, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(stored, codes[stored.shape[2]]) if stored.shape[2] in codes else None


def _as_rgb(image: Image.Image, kind: str) -> np.ndarray:
    """A loaded picture of any mode as uint8 RGB or RGBA, in sRGB, not turned yet."""
    mode = image.mode
    # Of TIFF: 1 is unsigned, 2 signed.
    signed = image.tag_v2.get(339, (1,))[0] == 2 if kind == "TIFF" else False  # type: ignore[attr-defined]
    if mode in ("I", "F") or mode.startswith("I;") or (mode == "L" and signed):
        return _deep_gray(image, kind, signed)
    if mode in ("LA", "PA", "RGBA", "La", "RGBa") or image.info.get("transparency") is not None:
        shown = "RGBA"
    elif mode in ("L", "LAB", "CMYK"):
        shown = mode
    else:
        shown = "L" if mode == "1" else "RGB"
    return _pixels(image, shown, _to_srgb(image.info.get("icc_profile"), shown))


def _deep_gray(image: Image.Image, kind: str, signed: bool) -> np.ndarray:
    """One channel of 16 or 32 bits or floating point, or one that is signed."""
    values = np.asarray(image)
    # TIFF may be big-endian.
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == np.uint8:
        values = values.view(np.int8)
    elif values.dtype == np.int32 and kind == "TIFF" and not signed:
        values = values.view(np.uint32)
    if values.dtype.kind in "iu" and kind != "TIFF" and values.min() >= 0 and values.max() <= 65535:
        # PNG and PGM say that 65535 is white, whatever type they come in.
        values = values.astype(np.uint16)
    elif values.dtype.kind == "f":
        # Scientific TIFF is seldom in 0..1; nothing says what white is, so the brightest pixel is.
        values = np.where(np.isfinite(values), values, 0)
        if values.max() > 1 or values.min() < 0:
            values = (values - values.min()) / (float(values.max()) - float(values.min()) or 1.0)
    gray = to_8_bit(values)
    if kind == "TIFF" and image.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
        # Scanners and X-rays: 0 is white. Pillow and OpenCV know that of 8 bits alone.
        gray = 255 - gray
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and values.dtype == np.uint16 and (values == transparent).any():
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        return np.dstack([gray, gray, gray, alpha])
    return np.dstack([gray, gray, gray])


def to_8_bit(picture: np.ndarray) -> np.ndarray:
    """uint8 of the same shape from uint8, uint16 (0..65535) or floating point (0..1, clipped)."""
    if picture.dtype == np.uint8:
        return picture
    floating = np.issubdtype(picture.dtype, np.floating)
    least, most = 0.0, 1.0 if floating else 65535.0
    if not floating and picture.dtype != np.uint16:
        # Signed or 32-bit integers (scientific TIFF): nothing says what white is, so the brightest
        # pixel is.
        least, most = float(picture.min()), float(picture.max())
    result = np.empty(picture.shape, np.uint8)
    for top in range(0, len(picture), _STRIP):
        strip = picture[top : top + _STRIP].astype(np.float64)
        strip = np.nan_to_num(strip) if floating else strip
        strip = (strip - least) * (255 / max(most - least, 1e-9))
        result[top : top + _STRIP] = np.rint(np.clip(strip, 0, 255))
    return result


def _pixels(image: Image.Image, mode: str, change: Any) -> np.ndarray:
    """Of a loaded picture: uint8 RGB or RGBA (H, W, 3 or 4).

    Strip by strip: large pictures are in memory twice then, not five times.

    Args:
        mode: L, RGB, RGBA, CMYK or LAB, in which `change` expects it.
        change: to sRGB, see `_to_srgb`, or None.
    """
    result = np.empty((image.height, image.width, 4 if mode == "RGBA" else 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        strip = strip if strip.mode == mode else strip.convert(mode)
        rows = result[top : top + _STRIP]
        if mode == "RGBA":
            rows[...] = np.asarray(strip)
            if change is not None:
                rows[..., :3] = np.asarray(change.apply(strip.convert("RGB")))
        else:
            strip = change.apply(strip) if change is not None else strip
            strip = strip.convert("RGB") if strip.mode != "RGB" else strip
            rows[...] = np.asarray(strip)
    return result


def _to_srgb(profile: bytes | None, mode: str) -> Any:
    """LittleCMS's transform from what a profile means in L, RGB, RGBA, CMYK or LAB, to RGB; None where
    there is nothing to do. A profile that is damaged, or one of other colours (a gray one of an RGB
    picture), is no profile.
    """
    spaces = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}
    if not profile and mode != "LAB":
        return None
    # ImportError: a Pillow without LittleCMS.
    with suppress(ImportError):
        from PIL import ImageCms

        srgb = ImageCms.createProfile("sRGB")
        if mode == "LAB":
            return ImageCms.buildTransform(ImageCms.createProfile("LAB"), srgb, "LAB", "RGB")
        assert profile is not None
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if getattr(own.profile, "xcolor_space", "").strip() != spaces[mode]:
                return None
            change = ImageCms.buildTransform(
                own,
                srgb,
                "RGB" if mode == "RGBA" else mode,
                "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            return None if spaces[mode] == "RGB" and _changes_nothing(change) else change
    return None


def _changes_nothing(change: Any) -> bool:
    """Whether a transform is that of sRGB itself, as most pictures carry it: then every pixel stays
    as it is.
    """
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps), -1, 3)
    changed = np.asarray(change.apply(pillow().fromarray(colours)))
    return int(np.abs(changed.astype(int) - colours).max()) <= _SAME_COLOURS
