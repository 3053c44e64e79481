"""Write H.264 in MP4 that browsers play: yuv420p, BT.709 with its tags.

The only encoder setup: recordings (`realtime.outputs.video`), clips cut for training and clips of
rendered heads use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from livepuppet.core.errors import UserError
from livepuppet.core.files import Replacement
from livepuppet.core.names import ffmpeg_name

#: H.264 encoders in the order they are tried; which are there depends on the PyAV build.
ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf")

#: Seconds from one keyframe to the next.
KEYFRAME_SECONDS = 2

#: Bits per second of encoders that have no constant quality.
BIT_RATE = 8_000_000

#: ITU-T H.273 number of BT.709, for matrix, primaries and transfer; and FFmpeg's of video levels,
#: 16 to 235.
BT709 = 1
LIMITED_RANGE = 1


def add_h264_stream(
    container: OutputContainer,
    width: int,
    height: int,
    rate: Fraction,
    quality: int = 16,
    preset: str = "medium",
    tune: str | None = None,
    time_base: Fraction | None = None,
) -> VideoStream:
    """A stream of pictures of `width` x `height` pixels; odd sizes are made even, see `to_yuv`.

    Args:
        rate: pictures per second.
        quality: constant rate factor, where the encoder has one: 12 is visually lossless, 23 usual
            on the web.
        preset, tune: of libx264.
        time_base: seconds per tick; by default 1 / rate.

    Raises:
        UserError: this PyAV has no encoder.
    """
    encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise UserError(
            "This PyAV has no H.264 encoder: install it from PyPI with pip install --force-reinstall av."
        )
    stream = container.add_stream(encoder, rate=Fraction(rate).limit_denominator(1001))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = width + width % 2, height + height % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    if time_base is not None:
        stream.time_base = context.time_base = time_base
    context.gop_size = max(1, round(KEYFRAME_SECONDS * rate))
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE
    if encoder == "libx264":
        stream.options = {"preset": preset, "crf": str(quality), **({"tune": tune} if tune else {})}
    else:
        context.bit_rate = BIT_RATE
    return stream


def to_yuv(image: np.ndarray) -> av.VideoFrame:
    """uint8 RGB (H, W, 3) as a frame to encode; where H or W is odd, the last row or column is
    repeated.
    """
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    # A view of the image; it is read in the next line.
    frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


class VideoWriter:
    """An MP4 of a constant rate that appears under its name only when it is whole.

        with VideoWriter(Path("clip.mp4"), Fraction(25)) as writer:
            writer.write(image)

    Leaving the block with an error discards the file.

    Args:
        path: of the file; one that is there is replaced.
        rate: pictures per second.
        quality, preset: see `add_h264_stream`.

    Raises:
        UserError: this PyAV has no encoder.
        OSError, FFmpegError: the file cannot be written.
    """

    def __init__(self, path: Path, rate: Fraction | int, quality: int = 16, preset: str = "medium"):
        self.path = Path(path)
        self._rate, self._quality, self._preset = Fraction(rate), quality, preset
        self._replacement = Replacement(path)
        self._container = av.open(
            ffmpeg_name(self._replacement.part), "w", format="mp4", options={"movflags": "faststart"}
        )
        self._stream: VideoStream | None = None

    def write(self, image: np.ndarray) -> None:
        """uint8 RGB (H, W, 3), always of the same size."""
        if self._stream is None:
            height, width = image.shape[:2]
            self._stream = add_h264_stream(
                self._container, width, height, self._rate, self._quality, self._preset
            )
        self._container.mux(self._stream.encode(to_yuv(image)))

    def close(self) -> None:
        """Finish the file and put it in its place."""
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            self._replacement.commit()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()
        self._replacement.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: Fraction | int,
    quality: int = 16,
    preset: str = "medium",
) -> None:
    """Write frames uint8 RGB (H, W, 3) as a video. Arguments and errors as of `VideoWriter`."""
    with VideoWriter(path, rate, quality, preset) as writer:
        for frame in frames:
            writer.write(frame)
