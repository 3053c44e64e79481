"""Read video files, animated images and folders of pictures, frame by frame, at their own times.

The only reader of videos: the live path, `animate` and training use it. Where their copies
differed, this is decided: a damaged packet costs its own frames and the rest is read; pixels that
are not square are widened; rotation is applied; GIF and APNG are decoded by FFmpeg, and animated
WebP, which FFmpeg cannot read, by Pillow. What shows under transparent pixels is the caller's
choice (`behind`): gray live, white in training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError

from livepuppet.core.errors import UserError
from livepuppet.core.frames import FrameConverter, open_input
from livepuppet.core.images import BEHIND_ALPHA, list_images, over_gray, read_image
from livepuppet.core.names import ffmpeg_name, is_pipe, is_url, path_of, shown
from livepuppet.core.numbers import checked_number
from livepuppet.core.stills import pillow
from livepuppet.core.timeline import LONGEST_STILL, Timeline, default_sound, moving_pictures

#: Frames per second of a folder of pictures, and of files that do not say.
DEFAULT_RATE = Fraction(25)

#: Seconds after which a silent network source counts as gone.
NETWORK_TIMEOUT = 10.0

#: Pixels of a frame up to which it is decoded: 8K. Decoders keep a dozen frames.
LARGEST_FRAME = 8192 * 4608


@dataclass(frozen=True)
class Frame:
    """One frame of a source. `numpy.asarray(frame)` is its image.

    Attributes:
        image: uint8 RGB (H, W, 3).
        time: seconds since the source's first frame, exact.
        captured: `time.perf_counter()` at which it came out of the source.
        duration: seconds it is meant to be shown, where the source says.
    """

    image: np.ndarray
    time: Fraction
    captured: float
    duration: Fraction | None = None

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.image, dtype) if copy else np.asarray(self.image, dtype)


class Clip:
    """A video file, GIF or URL that FFmpeg reads. Iterate over it once: every frame, in order, in
    constant memory.

    A clip that breaks off or is damaged ends early instead of raising, so that what was made from
    it can be finished; `broken` then says what happened.

    Attributes:
        rate: average frames per second.
        time_base: seconds per tick of the clip's own clock; all frame times are multiples of it.
        length: number of frames as far as the file tells (a guess for some formats), or None.
        seconds: duration as far as the file tells, or None.
        endless: whether it is a stream that goes on for ever, as far as FFmpeg can tell.
        width, height: of the coded pictures, in pixels; frames of a turned clip, or of one whose
            pixels are not square, differ.
        start: seconds by which the clip's clock is ahead of `Frame.time`; None before the first
            frame.
        broken: after the iteration, a sentence about what is missing, or None.

    Args:
        path: of the file, or an address.
        options: for FFmpeg's demuxer.
        behind: gray level under transparent pixels.

    Raises:
        UserError: if it cannot be opened or has no picture.
    """

    def __init__(
        self, path: str | os.PathLike, options: dict[str, str] | None = None, behind: int = BEHIND_ALPHA
    ):
        path = path_of(path, "the driving video")
        self.path = path
        self._convert = FrameConverter(behind, str(path))
        self.name = shown(path)
        remote = is_url(path)
        #: Whether it can be read once only, and so not looked at again.
        self.is_pipe = not remote and is_pipe(path)
        if not remote and not self.is_pipe and not Path(path).is_file():
            raise UserError(f"There is no file {path}: check the name of the driving video.")
        try:
            timeout = NETWORK_TIMEOUT if remote else None
            self._container = open_input(
                ffmpeg_name(path), options={**_bound(), **(options or {})}, timeout=timeout
            )
        except (FFmpegError, OSError, ValueError) as error:
            remedy = (
                "check the address, and that the stream is running"
                if remote
                else "a pipe is read once, from front to back, which this format may not allow: send MPEG-TS or "
                "Matroska, or give a file"
                if self.is_pipe
                else "it is damaged, incomplete or something else"
            )
            raise UserError(f"{self.name} cannot be read as a video ({_reason(error)}): {remedy}.") from error
        stream = moving_pictures(self._container)
        if stream is None:
            self._container.close()
            raise UserError(
                f"{self.name} has no moving picture in it: give a video, a GIF or a folder of pictures."
            )
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > LARGEST_FRAME:
            self._container.close()
            raise _too_large(self.name, width, height)
        self._sound = default_sound(self._container)
        # Also of frames that grow on the way.
        stream.codec_context.options = _bound()
        self.endless = remote and self._goes_on_for_ever()
        # Decoding several frames at a time is faster, and hands each on only when later ones have
        # come: for a stream that comes in real time this would be one frame of delay per processor.
        stream.thread_type = "SLICE" if self.endless else "AUTO"
        # Each has a frame in its hands.
        stream.codec_context.thread_count = _threads(width * height)
        self._stream = stream
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
        self.time_base = Fraction(stream.time_base or 1 / self.rate)
        self.seconds = float(self._container.duration / av.time_base) if self._container.duration else None
        self.length = self._promised() or (round(self.seconds * self.rate) if self.seconds else None)
        self.start: Fraction | None = None
        self.broken: str | None = None
        self.has_sound = self._sound is not None and not self.is_pipe
        self.width, self.height = width, height

    def _goes_on_for_ever(self) -> bool:
        container = self._container
        # A file that a web server sends has a size, even where its length in time is unknown. A
        # playlist has one too. (Of a stream, PyAV 19 says None, older ones a negative number.)
        sized = container.size is not None and container.size > 0
        return container.duration is None and (not sized or "hls" in container.format.name)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """Frames in order, once.

        Args:
            wanted: numbers of frames, from 0. The others are decoded, as they must be, but not
                converted to RGB.
        """
        count, damaged, trouble, last = 0, 0, None, None
        streams = [self._stream] if self._sound is None else [self._stream, self._sound]
        packets, timeline = self._container.demux(streams), Timeline(self._container, self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (FFmpegError, OSError) as error:
                trouble = _reason(error)
                break
            timeline.place(packet)
            # Not `packet.stream_index`: the last packet of each stream, at which the decoder hands out
            # what it still holds, has 0 there.
            if packet.stream.index != self._stream.index:
                continue
            try:
                frames = packet.decode()
            except (FFmpegError, OSError):
                # One bad packet costs its own frames; the decoder goes on at the next.
                damaged += 1
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                now = _seconds(frame.pts, frame.time_base)
                if now is None:
                    now = last + 1 / self.rate if last is not None else Fraction(0)
                if last is not None and now <= last:
                    # Two frames cannot have one time; broken muxers write such.
                    now = last + self.time_base
                if self.start is None:
                    self.start = now
                last = now
                count += 1
                if wanted is not None and count - 1 not in wanted:
                    continue
                duration = _seconds(frame.duration or None, frame.time_base)
                yield Frame(self._image(frame), now - self.start, time.perf_counter(), duration)
        shown = 0.0 if last is None or self.start is None else float(last + 1 / self.rate - self.start)
        self.broken = self._what_is_missing(count, shown, damaged, trouble)

    def image_at(self, seconds: float, most: int = 300) -> np.ndarray | None:
        """The image shown `seconds` after the beginning, uint8 RGB (H, W, 3), by a jump; None past
        the end.

        Args:
            most: frames decoded after the key frame before that time; then the last of them is
                taken.

        Raises:
            FFmpegError, OSError: the clip is damaged there.
        """
        target = (self._container.start_time or 0) / av.time_base + seconds
        self._container.seek(int(target * av.time_base))
        for number, frame in enumerate(self._container.decode(self._stream)):
            if number >= most or frame.time is None or frame.time >= target:
                return self._image(frame)
        return None

    def count(self) -> int:
        """Number of frames. Where the header does not say, the file is read once, and nothing is
        decoded.

        Raises:
            FFmpegError, OSError: the clip is damaged.
        """
        promised = self._promised()
        if promised:
            return promised
        with open_input(ffmpeg_name(self.path)) as container:
            stream = container.streams[self._stream.index]
            return sum(packet.size > 0 for packet in container.demux(stream))

    def _promised(self) -> int:
        """How many frames the header says there are to see, or 0. An edit list, as a telephone's
        "trim" writes it, leaves out some of those that are stored.
        """
        stream = self._stream
        frames, base = stream.frames, stream.time_base
        if not frames or not stream.duration or not base:
            return frames
        if frames - stream.duration * base * self.rate < Fraction(3, 2):
            return frames
        return sum(not entry.is_discard for entry in stream.index_entries) or frames

    def _image(self, frame: av.VideoFrame) -> np.ndarray:
        return self._square_pixels(self._convert(frame))

    def _square_pixels(self, picture: np.ndarray) -> np.ndarray:
        """Widen pictures whose pixels are not square (DV, DVD).

        Less than a tenth does not matter to a face, and is mostly a tag that a careless crop left
        behind; such pictures stay as they are, pixel by pixel.
        """
        ratio = self._stream.sample_aspect_ratio
        if not ratio or abs(ratio - 1) < Fraction(1, 10) or not Fraction(1, 4) < ratio < 4:
            return picture
        height, width = picture.shape[:2]
        return cv2.resize(
            picture, (max(1, round(width * float(ratio))), height), interpolation=cv2.INTER_LINEAR
        )

    def _what_is_missing(self, count: int, shown: float, damaged: int, trouble: str | None) -> str | None:
        promised = self._promised()
        complete = count >= promised - 2 if promised else self._reaches_its_end(shown)
        if trouble is None and not damaged and complete:
            return None
        of = f" of {promised}" if promised else ""
        why = f" ({trouble})" if trouble else f" ({damaged} damaged packets)" if damaged else ""
        return f"{self.name} is damaged or incomplete: {count}{of} frames could be read{why}"

    def _reaches_its_end(self, shown: float) -> bool:
        """Whether any stream goes on for as long as the header says (Matroska promises no number of
        frames).

        Args:
            shown: seconds of pictures. Where they fall short, the sound may still be longer by
                right; only then the file is read again.
        """
        end, enough = shown, (self.seconds or 0.0) - 0.5
        if end >= enough or is_url(self.path) or self.is_pipe or self._container.format.name == "gif":
            return True
        with (
            suppress(FFmpegError, OSError),
            open_input(ffmpeg_name(self.path)) as container,
        ):
            begin = (container.start_time or 0) / av.time_base
            for packet in container.demux():
                if packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - begin)
        return end >= enough

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AnimatedWebP:
    """An animated WebP, read by Pillow: FFmpeg reads its first picture at most. The attributes are
    those of `Clip`.

    Raises:
        UserError: if it cannot be read.
    """

    has_sound = False
    endless = False
    start = Fraction(0)

    def __init__(self, path: Path, behind: int = BEHIND_ALPHA):
        self.path, self.name, self._behind = path, str(path), behind
        try:
            self._image = pillow().open(path, formats=["WEBP"])
        # Decoders of damaged files raise whatever they stumble over.
        except Exception as error:
            raise UserError(
                f"{path} cannot be read as a video ({_reason(error)}): it is damaged, incomplete or something else."
            ) from error
        self.width, self.height = self._image.size
        if self.width * self.height > LARGEST_FRAME:
            self._image.close()
            raise _too_large(self.name, self.width, self.height)
        self.length = getattr(self._image, "n_frames", 1)
        self.time_base = Fraction(1, 1000)
        self.rate = DEFAULT_RATE
        self.seconds: float | None = None
        self.broken: str | None = None

    def count(self) -> int:
        """Number of frames."""
        return self.length

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, wanted: Container[int] | None = None) -> Iterator[Frame]:
        """As `Clip.frames`."""
        now = Fraction(0)
        for number in range(self.length):
            try:
                self._image.seek(number)
                rgba = np.asarray(self._image.convert("RGBA"))
            except Exception as error:
                self.broken = (
                    f"{self.name} is damaged or incomplete: {number} of {self.length} frames could be read "
                    f"({_reason(error)})"
                )
                return
            milliseconds = round(self._image.info.get("duration") or 0)
            duration = Fraction(min(max(1, milliseconds), 1000 * LONGEST_STILL), 1000)
            if wanted is None or number in wanted:
                yield Frame(over_gray(rgba, self._behind), now, time.perf_counter(), duration)
            now += duration

    def close(self) -> None:
        self._image.close()

    def __enter__(self) -> AnimatedWebP:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _is_animated_webp(path: str | Path) -> bool:
    """Told from the header: RIFF, then a `VP8X` chunk whose second flag from below says that
    pictures follow.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(21)
    except OSError:
        return False
    return len(head) == 21 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


class ImageSequence:
    """A folder of pictures as a video, in natural order. The attributes are those of `Clip`; there
    is no sound.

    Raises:
        UserError: if the folder holds no picture.
    """

    has_sound = False
    start = Fraction(0)

    def __init__(self, folder: Path, rate: Fraction | None = None, behind: int = BEHIND_ALPHA):
        self.path = folder
        self._behind = behind
        self.name = str(folder)
        self.files = list_images(Path(folder))
        self.rate = Fraction(rate or DEFAULT_RATE)
        self.time_base = 1 / self.rate
        self.length = len(self.files)
        self.seconds = float(self.length / self.rate)
        self.broken: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        for index, file in enumerate(self.files):
            try:
                picture = read_image(file, self._behind)
            except UserError:
                self.broken = f"{file} is not a picture that can be read: {index} of {self.length} frames came before it"
                return
            yield Frame(picture, index / self.rate, time.perf_counter(), 1 / self.rate)

    def close(self) -> None:
        pass

    def __enter__(self) -> ImageSequence:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


#: What `open_video` returns: `name`, `rate`, `time_base`, `length`, `seconds`, `start`, `has_sound`
#: and `broken`, see `Clip`.
Video = Clip | AnimatedWebP | ImageSequence


def open_video(
    path: str | os.PathLike, rate: float | Fraction | None = None, behind: int = BEHIND_ALPHA
) -> Video:
    """Open a video file, animated image, URL or folder of pictures, to be iterated over once.

        with open_video("talk.mp4") as video:
            for frame in video:
                frame.image, frame.time        # RGB uint8 (H, W, 3), seconds since the first frame

    Args:
        path: of the file or folder, or an address.
        rate: frames per second of a folder of pictures, which has none of its own; 25 by default.
        behind: gray level under transparent pixels.

    Raises:
        UserError: if it is none of these.
    """
    path = path_of(path, "the driving video")
    if not is_url(path) and Path(path).is_dir():
        if rate is not None:
            checked_number("rate", rate, 0.1, 1000)
        known = None if rate is None else Fraction(rate).limit_denominator(1001)
        return ImageSequence(Path(path), known, behind)
    if not is_url(path) and not is_pipe(path) and _is_animated_webp(path):
        return AnimatedWebP(Path(path), behind)
    return Clip(path, behind=behind)


def _too_large(name: str, width: int, height: int) -> UserError:
    return UserError(
        f"{name} has frames of {width} x {height} pixels, and {LARGEST_FRAME // 1_000_000} million are the most that can "
        "be read: save it smaller."
    )


def _bound() -> dict[str, str]:
    """FFmpeg's option for `LARGEST_FRAME`."""
    return {"max_pixels": str(LARGEST_FRAME)}


def _threads(pixels: int) -> int:
    """How many threads decode frames of so many pixels: as many as there are processors, and in 4K no
    more than four, in 8K no more than two.
    """
    return max(1, min(os.cpu_count() or 1, 16, max(2, 4 * 3840 * 2160 // max(1, pixels))))


def _seconds(ticks: int | None, time_base: Fraction | None) -> Fraction | None:
    return None if ticks is None or time_base is None else ticks * time_base


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
