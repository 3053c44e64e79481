"""Pictures on their way from whoever draws: H.264 without delay, or JPEG. Transparency travels below the picture, in gray."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType

#: Codecs, by the byte that says which one a picture is in.
JPEG, H264 = 0, 1

#: Constant quality of H.264 (x264's CRF), at most so many bits a second; and of JPEG.
CRF, MOST_BITS, QUALITY = 19, 16_000_000, 88


class BadPicture(ValueError):
    """What came is no picture of the size that was agreed on."""


class Encoder(Protocol):
    codec: int

    def encode(self, picture: np.ndarray, key: bool) -> bytes:
        """uint8 RGB or RGBA (H, W, 3 or 4), compressed. `key` has it stand alone."""
        ...


class JpegEncoder:
    """Every picture stands alone."""

    codec = JPEG

    def encode(self, picture: np.ndarray, key: bool = True) -> bytes:
        done, data = cv2.imencode(".jpg", _stacked(picture)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise OSError("the picture could not be compressed")
        return data.tobytes()


class H264Encoder:
    """Every picture comes out at once, and goes by the one before.

    Args:
        shape: of the pictures, (H, W, 3 or 4).

    Raises:
        OSError: this PyAV has no such encoder.
    """

    codec = H264

    def __init__(self, shape: tuple[int, ...], rate: int = 30):
        height, width = _even(shape)
        try:
            self._context = av.CodecContext.create("libx264", "w")
            self._context.width, self._context.height = width, height
            self._context.pix_fmt, self._context.time_base = "yuv420p", Fraction(1, 1000)
            self._context.framerate = Fraction(rate)
            self._context.thread_count = 1
            self._context.options = {
                "preset": "ultrafast",
                "tune": "zerolatency",
                "crf": str(CRF),
                "maxrate": str(MOST_BITS),
                "bufsize": str(MOST_BITS // 4),
                "g": "100000",
            }
            self._context.open()
        except (FFmpegError, ValueError) as error:
            raise OSError(f"there is no H.264 encoder here ({error})") from error
        self._number = 0

    def encode(self, picture: np.ndarray, key: bool) -> bytes:
        # OpenCV converts in a quarter of the time that swscale takes.
        planes = np.asarray(cv2.cvtColor(_padded(_stacked(picture)), cv2.COLOR_RGB2YUV_I420), np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, 1000)
        self._number += 33
        frame.pict_type = PictureType.I if key else PictureType.NONE
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class Decoder:
    """Pictures of one size, of any codec.

    Args:
        shape: of the pictures, (H, W, 3 or 4).
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self._context: av.VideoCodecContext | None = None

    def decode(self, codec: int, data: bytes) -> np.ndarray:
        """uint8 RGB or RGBA of `shape`. Raises BadPicture."""
        height, width, depth = self.shape
        tall = height * (2 if depth == 4 else 1)
        if codec == JPEG:
            # Nothing larger is ever decoded.
            if _jpeg_size(data) != (tall, width):
                raise BadPicture("no JPEG of that size")
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if found is None or found.shape[:2] != (tall, width):
                raise BadPicture("no JPEG of that size")
            return _unstacked(np.ascontiguousarray(found[..., ::-1]), self.shape)
        if codec != H264:
            raise BadPicture("codec")
        if self._context is None:
            context = av.CodecContext.create("h264", "r")
            context.thread_count = 1
            context.options = {"flags": "low_delay"}
            self._context = context
        try:
            frames = self._context.decode(av.Packet(data))
        except FFmpegError as error:
            raise BadPicture(str(error)) from error
        if not frames:
            raise BadPicture("it does not stand alone")
        frame = frames[-1]
        if (frame.height, frame.width) != _even(self.shape):
            raise BadPicture("size")
        if frame.format.name != "yuv420p":
            raise BadPicture("format")
        picture = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
        return _unstacked(picture[:tall, :width], self.shape)


def encoder_of(shape: tuple[int, ...]) -> Encoder:
    """H.264 where it can be had, else JPEG."""
    try:
        return H264Encoder(shape)
    except OSError:
        return JpegEncoder()


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width, as the frame header says; None where there is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _even(shape: tuple[int, ...]) -> tuple[int, int]:
    height = shape[0] * (2 if shape[2] == 4 else 1)
    return height + height % 2, shape[1] + shape[1] % 2


def _stacked(picture: np.ndarray) -> np.ndarray:
    if picture.shape[2] == 3:
        return picture
    return np.vstack([picture[..., :3], np.repeat(picture[..., 3:], 3, 2)])


def _padded(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return np.ascontiguousarray(picture)
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _unstacked(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if shape[2] == 3:
        return picture
    height = shape[0]
    return np.dstack([picture[:height], picture[height:, :, 1]])
