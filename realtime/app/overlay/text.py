"""Text on pictures: any string, smooth, quick enough for every frame."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

#: Tried in turn for characters that the font that comes with Pillow lacks; Pillow looks in the
#: system's font folders.
_OTHER_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "DejaVuSans.ttf",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
)

Colour = tuple[int, int, int]


@lru_cache(maxsize=32)
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # where Pillow has FreeType, as all wheels have
    return font


def _shows(font, character: str) -> bool:
    """Whether `font` has `character`: a missing one is drawn like one that no font has."""
    return character.isspace() or _drawn(font, character) != _drawn(font, "\U0010fffe")


def _drawn(font, character: str) -> bytes:
    from PIL import Image, ImageDraw

    picture = Image.new("L", (40, 40))
    ImageDraw.Draw(picture).text((4, 4), character, fill=255, font=font)
    return picture.tobytes()


@lru_cache(maxsize=1024)
def _drawable(character: str) -> tuple[str, str | None]:
    """`character`, or the nearest to it that some font here has, and that font: None is the one
    that Pillow brings.
    """
    from PIL import ImageFont

    if character.isascii() or _shows(_font(16), character):
        return character, None
    for name in _OTHER_FONTS:
        try:
            if _shows(ImageFont.truetype(name, 16), character):
                return character, name
        except OSError:
            continue
    plain = unicodedata.normalize("NFKD", character)[0]
    return (plain if plain.isascii() else "?"), None


@lru_cache(maxsize=64)
def _named_font(name: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(name, size)


def _runs(text: str, size: int) -> list[tuple[str, FreeTypeFont]]:
    """`text` in pieces that one font can draw, with the font of each."""
    runs: list[tuple[str, str | None]] = []
    for wanted in text:
        character, name = _drawable(wanted)
        if runs and runs[-1][1] == name:
            runs[-1] = (runs[-1][0] + character, name)
        else:
            runs.append((character, name))
    return [(piece, _named_font(name, size) if name else _font(size)) for piece, name in runs]


def _clean(text: str) -> str:
    """Without characters that would end the line or show as boxes, such as line breaks in file
    names.
    """
    return "".join(character if character.isprintable() else " " for character in text)


@lru_cache(maxsize=512)
def text_mask(text: str, size: int) -> np.ndarray:
    """`text` as opacity, uint8 (height of a line, width), read-only; `line_height(size)` high
    whatever is in it.
    """
    from PIL import Image, ImageDraw

    runs = _runs(_clean(text), size)
    width = sum(int(np.ceil(font.getlength(piece))) for piece, font in runs)
    height = line_height(size)
    picture = Image.new("L", (max(1, width + 1), height))
    draw = ImageDraw.Draw(picture)
    x, baseline = 0, round(size * 1.02)
    for piece, font in runs:
        draw.text((x, baseline), piece, fill=255, font=font, anchor="ls")
        x += int(np.ceil(font.getlength(piece)))
    mask = np.asarray(picture)
    mask.flags.writeable = False
    return mask


def line_height(size: int) -> int:
    """Of text of `size` pixels, in pixels: the distance from one line to the next."""
    return round(size * 1.35)


def text_width(text: str, size: int) -> int:
    """In pixels."""
    return text_mask(text, size).shape[1]


def shortened(text: str, size: int, width: int) -> str:
    """`text`, with dots for its middle where it is wider than `width` pixels: names differ at
    either end.
    """
    if text_width(text, size) <= width:
        return text
    keep = len(text) - 1
    while keep > 1:
        keep = min(keep - 1, round(keep * 0.95))
        shorter = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if text_width(shorter, size) <= width:
            return shorter
    return "…"


def wrapped(text: str, size: int, width: int) -> list[str]:
    """`text` in lines of at most `width` pixels, broken at spaces; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(shortened(word, size, width))
    return lines


def blend(
    picture: np.ndarray, mask: np.ndarray, x: int, y: int, colour: Colour, opacity: float = 1.0
) -> None:
    """Lay `colour` (RGB) over `picture` uint8 RGB (H, W, 3), in place, as far as `mask` uint8 (h,
    w) says.

    Args:
        x, y: where the mask's upper left corner goes; what lies outside the picture is left out.
    """
    height, width = picture.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + mask.shape[1], width), min(y + mask.shape[0], height)
    if left >= right or top >= bottom:
        return
    part = picture[top:bottom, left:right]
    share = mask[top - y : bottom - y, left - x : right - x].astype(np.uint16)
    if opacity != 1:
        share = (share * round(opacity * 256)) >> 8
    # 0..255 to 0..256, so that full opacity gives the colour itself.
    share = (share + (share >> 7))[..., None]
    mixed = part * (256 - share)
    mixed += share * np.array(colour, np.uint16)
    np.right_shift(mixed, 8, out=mixed)
    part[...] = mixed


def draw_text(
    picture: np.ndarray,
    text: str,
    x: int,
    y: int,
    size: int,
    colour: Colour = (255, 255, 255),
    align: str = "left",
    opacity: float = 1.0,
) -> int:
    """Write one line into `picture` uint8 RGB (H, W, 3), in place.

    Digits are all equally wide, so right-aligned figures stand still while they change.

    Args:
        x, y: the line's upper left corner, or upper middle or right one as `align` says.
        size: of the letters, in pixels.
        align: `left`, `center` or `right`.

    Returns:
        The line's width in pixels.
    """
    if not text:
        return 0
    mask = text_mask(text, size)
    width = mask.shape[1]
    blend(picture, mask, x - {"left": 0, "center": width // 2, "right": width}[align], y, colour, opacity)
    return width


@lru_cache(maxsize=64)
def rounded(width: int, height: int, radius: int) -> np.ndarray:
    """A rectangle with round, smooth corners as opacity, uint8 (height, width), read-only."""
    scale = 4
    radius = max(0, min(radius, width // 2, height // 2))
    mask = np.zeros((height, width), np.uint8)
    if radius == 0:
        mask[:] = 255
    else:
        mask[radius : height - radius] = 255
        mask[:, radius : width - radius] = 255
        corner = np.zeros((radius * scale, radius * scale), np.uint8)
        cv2.circle(corner, (radius * scale - 1, radius * scale - 1), radius * scale, 255, -1)
        corner = cv2.resize(corner, (radius, radius), interpolation=cv2.INTER_AREA)
        mask[:radius, :radius] = corner
        mask[:radius, width - radius :] = corner[:, ::-1]
        mask[height - radius :, :radius] = corner[::-1]
        mask[height - radius :, width - radius :] = corner[::-1, ::-1]
    mask.flags.writeable = False
    return mask
