"""The words and tags by which a recording says that its picture is synthetic."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

#: The words in the picture.
BADGE_TEXT = "synthetic video · livepuppet"

#: The sentence in the file's tags.
COMMENT = "Synthetic video: a picture moved by a person's face, made with livepuppet. It does not show a real event."

#: IPTC's code for media made with a trained model (IPTC Photo Metadata Standard, Digital Source
#: Type).
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

#: XMP that says so, as IPTC lays down (Extension Schema, property DigitalSourceType).
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}" xmp:CreatorTool="livepuppet">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{COMMENT}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>""".encode()

#: Tags of a video file, by FFmpeg's names.
VIDEO_TAGS = {"title": "Synthetic video (livepuppet)", "comment": COMMENT, "description": COMMENT}

#: The box in which an MP4 carries XMP (XMP Specification, part 3).
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")

#: White on a dark panel that lets a little of the picture through: legible on whatever lies below.
_TEXT_COLOUR, _PANEL_COLOUR, _PANEL_OPACITY = 245, 16, 0.62


class Badge:
    """A small panel with words for the lower right corner, rendered once.

    Args:
        width, height: of the pictures, in pixels.
        text: one line.

    Attributes:
        box: rows and columns it covers, as two slices; beginning and ending on even numbers, as
            chroma planes need.
    """

    def __init__(self, width: int, height: int, text: str = BADGE_TEXT):
        from PIL import Image, ImageDraw, ImageFont

        size = max(9.0, min(width, height) / 36)
        while True:
            font = ImageFont.load_default(size)
            left, _, right, _ = font.getbbox(text)
            # Pillow's own font is a FreeTypeFont wherever Pillow was built with FreeType, as all
            # wheels are.
            assert isinstance(font, ImageFont.FreeTypeFont)
            ascent, descent = font.getmetrics()
            panel_width = round(right - left + 1.3 * size)
            panel_height = round(ascent + descent + 0.5 * size)
            margin = round(0.6 * size)
            if panel_width + 2 * margin <= width or size <= 5:
                break
            size *= 0.9
        # Drawn at four times the size and shrunk: smooth corners.
        scale = 4
        panel = Image.new("L", (panel_width * scale, panel_height * scale), 0)
        ImageDraw.Draw(panel).rounded_rectangle(
            (0, 0, panel_width * scale - 1, panel_height * scale - 1),
            radius=0.28 * panel_height * scale,
            fill=255,
        )
        panel = panel.resize((panel_width, panel_height), Image.Resampling.BOX)
        words = Image.new("L", (panel_width, panel_height), 0)
        ImageDraw.Draw(words).text(
            ((panel_width - right + left) / 2 - left, (panel_height - ascent - descent) / 2), text, 255, font
        )
        panel_alpha = np.asarray(panel, np.float32) / 255 * _PANEL_OPACITY
        word_alpha = np.asarray(words, np.float32) / 255
        # Words over panel over picture, as one colour (gray) and one opacity per pixel.
        keep = (1 - panel_alpha) * (1 - word_alpha)
        gray = _PANEL_COLOUR * panel_alpha * (1 - word_alpha) + _TEXT_COLOUR * word_alpha

        x, y = width - margin - panel_width, height - margin - panel_height
        x0, y0, x1, y1 = (max(0, v) // 2 * 2 for v in (x, y, width - margin + 1, height - margin + 1))
        self.box = slice(y0, y1), slice(x0, x1)
        rows, columns = y1 - y0, x1 - x0
        self._keep = np.ones((rows, columns), np.float32)
        self._add = np.zeros((rows, columns), np.float32)
        down, along = max(0, y) - y0, max(0, x) - x0
        part = slice(down, min(rows, down + panel_height)), slice(along, min(columns, along + panel_width))
        inside = slice(0, part[0].stop - down), slice(0, part[1].stop - along)
        self._keep[part], self._add[part] = keep[inside], gray[inside]
        # The same for BT.709 or BT.601 in limited range: gray is 16 + gray * 219 / 255, its chroma
        # 128.
        self._add_luma = self._add * (219 / 255) + 16 * (1 - self._keep)
        self._keep_chroma = self._keep.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
        self._add_chroma = 128 * (1 - self._keep_chroma)

    def draw(self, picture: np.ndarray) -> None:
        """Draw into uint8 RGB (H, W, 3), or RGBA (H, W, 4), whose badge becomes opaque where it
        covers.
        """
        part = picture[self.box]
        part[..., :3] = part[..., :3] * self._keep[..., None] + (self._add + 0.5)[..., None]
        if picture.shape[2] == 4:
            part[..., 3] = part[..., 3] * self._keep + (255 * (1 - self._keep) + 0.5)

    def draw_on_planes(self, luma: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        """Draw into a YUV 4:2:0 picture in limited range: uint8 (H, W), and two of (H / 2, W / 2)."""
        part = luma[self.box]
        part[:] = part * self._keep + (self._add_luma + 0.5)
        half = tuple(slice(side.start // 2, side.stop // 2) for side in self.box)
        for plane in (u, v):
            part = plane[half]
            part[:] = part * self._keep_chroma + (self._add_chroma + 0.5)


def xmp_box() -> bytes:
    """A top-level MP4 box with `XMP`, to be put at the end of a file."""
    return struct.pack(">I", 24 + len(XMP)) + b"uuid" + _XMP_BOX + XMP


def tagged_png(data: bytes) -> bytes:
    """A PNG with the tags put in after its header."""
    chunks: Sequence[tuple[bytes, bytes]] = (
        (b"tEXt", b"Comment\0" + COMMENT.encode("latin-1")),
        (b"tEXt", b"Software\0livepuppet"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    )
    # Signature (8), then the IHDR chunk (4 + 4 + 13 + 4).
    return data[:33] + b"".join(_png_chunk(*chunk) for chunk in chunks) + data[33:]


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
