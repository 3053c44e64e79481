"""Video files that browsers play."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.plane import VideoPlane

from livepuppet.core.errors import UserError
from livepuppet.core.files import replacing
from livepuppet.core.names import ffmpeg_name
from livepuppet.core.video_writer import KEYFRAME_SECONDS, add_h264_stream, to_yuv
from livepuppet.realtime.outputs.badge import VIDEO_TAGS, Badge, xmp_box
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.live_sound import LiveSound
from livepuppet.realtime.outputs.sound import Soundtrack

#: Ticks per second of recordings made live, where pictures come when they come.
LIVE_CLOCK = Fraction(1, 90_000)


class VideoFile(Output):
    """H.264 in MP4 that browsers play: yuv420p, BT.709 with its tags, index at the front.

    While it grows, the file consists of fragments, one per keyframe, so that what was written plays
    even if the program is killed or the disk runs full. `close` turns it into an ordinary MP4.

    Args:
        path: ends in one of `VIDEO_SUFFIXES`.
        width, height: of the pictures, in pixels; odd sizes are made even by repeating the last row
            or column.
        rate: pictures per second, for the encoder's planning; times are those of `write`.
        time_base: seconds per tick; times are rounded to it.
        live: prefer a fast encoder setting to a small file.
        sound: goes alongside the pictures.
        synthetic: draw the badge into every picture, and say in the file's tags and XMP that they
            are synthetic.

    Raises:
        UserError: if the file cannot be made.
    """

    queue = 8
    kept = True

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        rate: Fraction = Fraction(30),
        time_base: Fraction = LIVE_CLOCK,
        live: bool = False,
        sound: Soundtrack | LiveSound | None = None,
        synthetic: bool = False,
    ):
        self.path = Path(path)
        self.name = str(path)
        self._sound = sound
        self._time_base = time_base
        self._last: tuple[int, Fraction] | None = None
        self._key_due: Fraction | None = Fraction(0) if live else None
        self._badge = Badge(width + width % 2, height + height % 2) if synthetic else None
        if not self.path.parent.is_dir():
            raise UserError(
                f"The folder {self.path.parent} does not exist: make it, or choose another --output."
            )
        try:
            # FFmpeg opens the file with the first picture only; people want to know before.
            self.path.open("ab").close()
            self._container: OutputContainer | None = av.open(
                ffmpeg_name(self.path),
                "w",
                format="mov" if self.path.suffix.lower() == ".mov" else "mp4",
                options={
                    "movflags": "frag_keyframe+delay_moov+default_base_moof",
                    "video_track_timescale": str(_ticks(time_base)),
                    # Otherwise a killed program takes along what FFmpeg has not yet handed to the
                    # system.
                    "flush_packets": "1",
                },
            )
        except (FFmpegError, OSError) as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): choose another --output or free the place."
            ) from error
        if synthetic:
            self._container.metadata.update(VIDEO_TAGS)
        # Live, nothing may pile up in the encoder: what it holds back is lost when the program is
        # killed.
        self._stream = add_h264_stream(
            self._container,
            width,
            height,
            Fraction(rate),
            quality=20 if live else 16,
            preset="superfast" if live else "medium",
            tune="zerolatency" if live else None,
            time_base=time_base,
        )
        if sound is not None:
            sound.join(self._container)

    def begins(self, at: float) -> None:
        if self._sound is not None:
            self._sound.begins(at)

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        frame = to_yuv(picture)
        if self._badge is not None:
            self._badge.draw_on_planes(*map(_plane, frame.planes))
        if self._key_due is not None and time >= self._key_due:
            # By the clock, as a slow computer takes long over the pictures that the encoder counts.
            frame.pict_type = PictureType.I
            self._key_due = time + KEYFRAME_SECONDS
        tick = round(time / self._time_base)
        if self._last is not None:
            tick = max(tick, self._last[0] + 1)
        frame.pts, frame.time_base = tick, self._time_base
        if duration:
            frame.duration = max(1, round(duration / self._time_base))
        container = self._container
        if container is None:
            raise UserError(f"{self.path} was closed: nothing can be written to it any more.")
        try:
            if self._sound is not None:
                self._sound.advance(time)
            container.mux(self._stream.encode(frame))
        except (FFmpegError, OSError) as error:
            self._abandon()
            raise UserError(
                f"{self.path} cannot be written any further ({error.strerror}): free some space or choose another "
                "--output; what was written until now stays there and plays."
            ) from error
        self._last = (tick, duration or Fraction(0))

    def _abandon(self) -> None:
        """Leave the file as the fragments that were written."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(FFmpegError, OSError):
                container.close()
            with suppress(OSError):
                _cut_after_last_fragment(self.path)
        if self._sound is not None:
            self._sound.close()

    def close(self) -> None:
        if self._container is None:
            return
        if self._last is None:
            self._abandon()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            return
        tick, duration = self._last
        try:
            self._container.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.finish(tick * self._time_base + duration)
            container, self._container = self._container, None
            container.close()
        except (FFmpegError, OSError) as error:
            self._abandon()
            raise UserError(
                f"{self.path} could not be finished ({error.strerror}): free some space; what was written until then "
                "stays there and plays."
            ) from error
        if self._sound is not None:
            self._sound.close()
        _index_at_front(self.path)
        if self._badge is not None:
            _append(self.path, xmp_box())


def _plane(plane: VideoPlane) -> np.ndarray:
    """The samples of a plane, uint8 (H, W), to be changed in place."""
    # PyAV's planes have the buffer protocol, its stubs have not.
    samples = np.frombuffer(plane, np.uint8)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return samples.reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _cut_after_last_fragment(path: Path) -> None:
    """Shorten a fragmented MP4 to its whole fragments: some players stumble over half a picture at
    the end.
    """
    with path.open("r+b") as file:
        length = file.seek(0, os.SEEK_END)
        place = whole = 0
        while place + 8 <= length:
            file.seek(place)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))
            if size < 8 or place + size > length:
                break
            place += size
            # A fragment is its index, `moof`, and its samples, `mdat`.
            whole = place if kind == b"mdat" else whole
        if whole:
            file.truncate(whole)


def _append(path: Path, data: bytes) -> None:
    """Put `data` at the end of a file, or leave the file as it is where there is no room: the tags
    say it as well.
    """
    with suppress(OSError):
        length = path.stat().st_size
        try:
            with path.open("ab") as file:
                file.write(data)
        except OSError:
            os.truncate(path, length)


def _ticks(time_base: Fraction) -> int:
    """Ticks per second of the MP4's clock, in which `time_base` is a whole number; at least 10000,
    as players like.
    """
    ticks = time_base.denominator
    return ticks * -(-10_000 // ticks)


def _index_at_front(path: Path) -> None:
    """Rewrite a fragmented MP4 as an ordinary one with the index in front, without touching the
    coded pictures.

    Where there is no room for the copy, the fragments stay: they play as well.
    """
    try:
        with replacing(path) as copy, av.open(ffmpeg_name(path)) as source:
            clock = max(int(1 / stream.time_base) for stream in source.streams.video)
            options = {"movflags": "faststart", "video_track_timescale": str(clock)}
            with av.open(
                ffmpeg_name(copy),
                "w",
                format=source.format.name.split(",")[0] if path.suffix == ".mov" else "mp4",
                options=options,
            ) as target:
                target.metadata.update(
                    {tag: source.metadata[tag] for tag in VIDEO_TAGS if tag in source.metadata}
                )
                streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.stream = streams[packet.stream.index]
                        target.mux(packet)
    except (FFmpegError, OSError):
        # What was written is there, and plays.
        return
