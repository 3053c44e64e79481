"""Pictures on their way: H.264 or VP8 without delay, or JPEG. Alpha travels below the picture, as gray."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

#: Codecs, by their byte in `protocol.PICTURE`.
JPEG, H264, VP8 = 0, 1, 2

#: Their names, as browsers are told them.
NAMES = {"jpeg": JPEG, "h264": H264, "vp8": VP8}

#: Quantizer of H.264, and where packets are lost, so that a picture takes few of them. Constant, since x264 keeps 2 MB a session for
#: its constant rate factor, and takes a fifth longer, for no better pictures in as many bytes.
QP, LOSSY_QP = 20, 28

#: Bits a second beyond which the quantizer grows, by how much, and bytes that may be beyond it until then.
MAX_BIT_RATE, COARSER, MOST_BEYOND = 16_000_000, 4, 500_000

#: Pictures after which it shrinks again where they took less than this share of those bits: finer ones take 1.6 times as many.
FINER_AFTER, FINER_BELOW = 300, 0.4

#: Longer side of a JPEG for a page where packets are lost.
LOSSY_LONGEST = 400

#: Quality of JPEG, and bits a second of VP8: usually, and where packets are lost.
JPEG_QUALITY, LOSSY_JPEG_QUALITY = 88, 50
VP8_BIT_RATE, LOSSY_VP8_BIT_RATE = 4_000_000, 700_000

#: Pixels of a camera's picture.
MOST_PIXELS = 1280 * 1280

#: Slices of a picture, coded side by side: the most, and the pixels for which another one pays.
MOST_SLICES, SLICE_PIXELS = 4, 200_000


class BadPicture(ValueError):
    """What came is no picture of the agreed size, or refers to one that is missing."""


class VideoEncoder(Protocol):
    codec: int
    #: Whether its pictures are small, for a network that loses packets.
    lossy: bool

    def encode(self, picture: np.ndarray, key: bool) -> bytes:
        """Compress RGB or RGBA uint8 (H, W, 3 or 4). `key`: so that it can be decoded without earlier ones."""
        ...


class JpegEncoder:
    """Every picture is a key picture."""

    codec = JPEG

    def __init__(self, lossy: bool = False):
        self.lossy = lossy

    def encode(self, picture: np.ndarray, key: bool = True) -> bytes:
        swapped = cv2.cvtColor(_stacked(picture), cv2.COLOR_RGB2BGR)
        quality = LOSSY_JPEG_QUALITY if self.lossy else JPEG_QUALITY
        done, data = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise OSError("the picture could not be compressed")
        return data.tobytes()


class H264Encoder:
    """x264 without look-ahead and B pictures: every picture comes out of the call that it went into.

    Args:
        shape: of the pictures, (H, W, 3 or 4).
        threads: of the processor, each of which codes a slice.
        lossy: small pictures, for a network that loses packets.

    Raises:
        OSError: PyAV has no such encoder here.
    """

    codec = H264

    def __init__(self, shape: tuple[int, ...], threads: int = 1, lossy: bool = False):
        self.lossy, self._threads = lossy, threads
        self._size = _coded_size(shape)
        self._quantizer = LOSSY_QP if lossy else QP
        self._finest = self._quantizer
        self._number = self._beyond = 0
        self._open()

    def _open(self) -> None:
        """Begin with a key picture. Raises OSError."""
        # Pictures with this quantizer, and their bytes.
        self._pictures = self._bytes = 0
        height, width = self._size
        try:
            self._context = av.CodecContext.create("libx264", "w")
            self._context.width, self._context.height = width, height
            self._context.pix_fmt, self._context.time_base = "yuv420p", Fraction(1, 30)
            self._context.framerate = Fraction(30)
            # With tune=zerolatency x264 makes slices of its threads, which delay nothing.
            self._context.thread_count = max(
                1, min(self._threads, MOST_SLICES, height * width // SLICE_PIXELS)
            )
            self._context.options = {
                "preset": "ultrafast",
                "tune": "zerolatency",
                "qp": str(self._quantizer),
                # Key pictures are made when somebody asks for one.
                "g": "100000",
            }
            self._context.open()
        except (FFmpegError, ValueError) as error:
            raise OSError(f"there is no H.264 encoder here ({error})") from error

    def encode(self, picture: np.ndarray, key: bool) -> bytes:
        if self._beyond > MOST_BEYOND and self._quantizer + COARSER <= 51:
            self._quantizer, self._beyond = self._quantizer + COARSER, 0
            self._open()
        elif self._pictures >= FINER_AFTER:
            if self._quantizer > self._finest and self._bytes < FINER_BELOW * self._pictures * (
                MAX_BIT_RATE / 240
            ):
                self._quantizer -= COARSER
                self._open()
            self._pictures = self._bytes = 0
        frame = _as_frame(picture, self._number, key)
        self._number += 1
        data = b"".join(bytes(packet) for packet in self._context.encode(frame))
        self._beyond = max(self._beyond + len(data) - MAX_BIT_RATE // 240, 0)
        self._pictures, self._bytes = self._pictures + 1, self._bytes + len(data)
        return data


class Vp8Encoder:
    """libvpx without look-ahead. As `H264Encoder`; it takes more of the processor, and every browser decodes it."""

    codec = VP8

    def __init__(self, shape: tuple[int, ...], threads: int = 1, lossy: bool = False):
        self.lossy = lossy
        height, width = _coded_size(shape)
        try:
            self._context = av.CodecContext.create("libvpx", "w")
            self._context.width, self._context.height = width, height
            self._context.pix_fmt, self._context.time_base = "yuv420p", Fraction(1, 30)
            self._context.framerate = Fraction(30)
            self._context.bit_rate = LOSSY_VP8_BIT_RATE if lossy else VP8_BIT_RATE
            self._context.thread_count = max(1, min(threads, MOST_SLICES, height * width // SLICE_PIXELS))
            self._context.options = {
                "deadline": "realtime",
                "cpu-used": "12",
                "lag-in-frames": "0",
                "auto-alt-ref": "0",
                "crf": "30" if lossy else "10",
                "qmin": "4",
                "qmax": "56" if lossy else "48",
                "g": "100000",
            }
            self._context.open()
        except (FFmpegError, ValueError) as error:
            raise OSError(f"there is no VP8 encoder here ({error})") from error
        self._number = 0

    def encode(self, picture: np.ndarray, key: bool) -> bytes:
        frame = _as_frame(picture, self._number, key)
        self._number += 1
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


def open_encoder(
    shape: tuple[int, ...], threads: int = 1, codecs: Sequence[str] = ("h264",), lossy: bool = False
) -> VideoEncoder:
    """The first codec of `codecs` that PyAV has here, else JPEG. `lossy`: small pictures, for a network that loses packets."""
    for codec in codecs:
        with suppress(OSError):
            if codec == "h264":
                return H264Encoder(shape, threads, lossy)
            if codec == "vp8":
                return Vp8Encoder(shape, threads, lossy)
    return JpegEncoder(lossy)


class DecodedPicture:
    """A picture whose colours are converted only where it is shown: one that is overtaken costs nothing more.

    Args:
        shape: of the picture, (H, W, 3 or 4).
        source: a frame in yuv420p, or an array BGR uint8.
    """

    def __init__(self, shape: tuple[int, ...], source: av.VideoFrame | np.ndarray):
        self.shape = shape
        self._source = source

    def write(self, out: np.ndarray) -> None:
        """Write RGB or RGBA uint8 of `shape` into `out`."""
        if isinstance(self._source, np.ndarray):
            _convert(self._source, cv2.COLOR_BGR2RGB, out)
        else:
            _convert(self._source.to_ndarray(), cv2.COLOR_YUV2RGB_I420, out)


class VideoDecoder:
    """Decodes pictures of one size, of any codec.

    Args:
        shape: of the pictures, (H, W, 3 or 4).
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self._context: av.VideoCodecContext | None = None

    def decode(self, codec: int, data: bytes) -> DecodedPicture:
        """Raises BadPicture."""
        if codec == JPEG:
            return DecodedPicture(self.shape, self._decode_jpeg(data))
        if codec == H264:
            return DecodedPicture(self.shape, self._decode_h264(data))
        raise BadPicture("codec")

    def _decode_jpeg(self, data: bytes) -> np.ndarray:
        size = _stacked_size(self.shape)
        # Nothing larger is ever decoded.
        if _jpeg_size(data) != size:
            raise BadPicture("no JPEG of that size")
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if found is None or found.shape[:2] != size:
            raise BadPicture("no JPEG of that size")
        return found

    def _decode_h264(self, data: bytes) -> av.VideoFrame:
        height, width = _coded_size(self.shape)
        if self._context is None:
            self._context = av.CodecContext.create("h264", "r")
            # Threads over pictures would each hold one back.
            self._context.thread_type, self._context.thread_count = "SLICE", 1
            self._context.options = {"flags": "low_delay", "max_pixels": str(_macroblocks(height, width))}
        try:
            frames = self._context.decode(av.Packet(data))
        except FFmpegError as error:
            raise BadPicture(str(error)) from error
        if not frames:
            raise BadPicture("a picture before it is missing")
        frame = frames[-1]
        if (frame.height, frame.width) != (height, width) or frame.format.name != "yuv420p":
            raise BadPicture("size or format")
        return frame


class CameraDecoder:
    """Decodes a camera's pictures, whose size may change at a key picture. One codec at a time."""

    def __init__(self) -> None:
        self._contexts: dict[int, av.VideoCodecContext] = {}

    def decode(self, codec: int, data: bytes) -> np.ndarray:
        """A picture, uint8 RGB (H, W, 3). Raises BadPicture."""
        return self.picture(self.feed(codec, data))

    def feed(self, codec: int, data: bytes) -> av.VideoFrame | np.ndarray:
        """The same, whose colours are not converted: one that is overtaken needs no more. Raises BadPicture."""
        if codec == JPEG:
            size = _jpeg_size(data)
            if size is None or size[0] * size[1] > MOST_PIXELS:
                raise BadPicture("no JPEG, or too large")
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if found is None or found.shape[0] * found.shape[1] > MOST_PIXELS:
                raise BadPicture("no JPEG")
            return found
        if codec not in (H264, VP8):
            raise BadPicture("codec")
        context = self._contexts.get(codec)
        if context is None:
            context = av.CodecContext.create("h264" if codec == H264 else "vp8", "r")
            context.thread_type, context.thread_count = "SLICE", 1
            # Whole macroblocks, with an edge around.
            context.options = {"flags": "low_delay", "max_pixels": str(_macroblocks(1280, 1280))}
            self._contexts[codec] = context
        try:
            frames = context.decode(av.Packet(data))
        except FFmpegError as error:
            raise BadPicture(str(error)) from error
        if not frames:
            raise BadPicture("a picture before it is missing")
        frame = frames[-1]
        if frame.width * frame.height > MOST_PIXELS or min(frame.width, frame.height) < 16:
            raise BadPicture("size")
        return frame

    @staticmethod
    def picture(fed: av.VideoFrame | np.ndarray) -> np.ndarray:
        """uint8 RGB (H, W, 3) of what `feed` returned."""
        if isinstance(fed, np.ndarray):
            return cv2.cvtColor(fed, cv2.COLOR_BGR2RGB)
        if fed.format.name == "yuv420p" and not (fed.width % 2 or fed.height % 2):
            return cv2.cvtColor(fed.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
        return fed.to_ndarray(format="rgb24")


def _as_frame(picture: np.ndarray, number: int, key: bool) -> av.VideoFrame:
    """A picture for an encoder. OpenCV converts in a quarter of the time that swscale takes; the frame borrows its planes."""
    planes = np.asarray(cv2.cvtColor(_padded(_stacked(picture)), cv2.COLOR_RGB2YUV_I420), np.uint8)
    frame = av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, 30)
    frame.pict_type = PictureType.I if key else PictureType.NONE
    return frame


def _stacked_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the picture with its alpha below."""
    return shape[0] * (2 if shape[2] == 4 else 1), shape[1]


def _coded_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """The same, even as yuv420p needs it, and rows by four as PyAV needs them to borrow planes."""
    height, width = _stacked_size(shape)
    return height + -height % 4, width + width % 2


def _macroblocks(height: int, width: int) -> int:
    """Pixels of a picture in whole macroblocks of 16 x 16, with the edge of one more on every side."""
    return (height + 64) * (width + 64)


def _stacked(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] == 3:
        return picture
    return np.vstack([picture[..., :3], np.repeat(picture[..., 3:], 3, 2)])


def _padded(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if not (height % 4 or width % 2):
        return np.ascontiguousarray(picture)
    return np.pad(picture, ((0, -height % 4), (0, width % 2), (0, 0)), mode="edge")


def _convert(source: np.ndarray, code: int, out: np.ndarray) -> None:
    """Write `source`, converted, cropped and unstacked, into `out` (H, W, 3 or 4)."""
    height, width, depth = out.shape
    stacked = (*_stacked_size(out.shape), 3)
    coded_height = source.shape[0] * 2 // 3 if code == cv2.COLOR_YUV2RGB_I420 else source.shape[0]
    fits = (coded_height, source.shape[1], 3) == stacked
    if depth == 3 and fits and out.flags.c_contiguous:
        cv2.cvtColor(source, code, dst=out)
        return
    picture = cv2.cvtColor(source, code)[: stacked[0], :width]
    if depth == 3:
        np.copyto(out, picture)
    else:
        out[..., :3] = picture[:height]
        out[..., 3] = picture[height:, :, 1]


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in a JPEG's frame header; None where there is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
