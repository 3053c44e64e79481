"""Sound for recordings made live: from a microphone or the driving file, each sample where its
picture is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError, InvalidDataError

from livepuppet.core.errors import UserError
from livepuppet.core.frames import open_input
from livepuppet.core.names import ffmpeg_name, is_pipe, path_of
from livepuppet.core.timeline import Timeline, default_sound, moving_pictures
from livepuppet.realtime.outputs.sound import AAC_RATES, add_aac, audible, playable

#: Seconds by which sound may lag behind the pictures before silence takes its place: a device that
#: delivers nothing must not hold back the pictures, which the muxer keeps until it has sound to go
#: with them.
MOST_LAG = 0.5

#: Seconds of drift between the sound card's clock and the computer's that are put right at once, by
#: a little silence or by leaving a little out. Less is not noticed (ITU-R BT.1359: 45 ms early to
#: 125 ms late go undetected).
MOST_DRIFT = 0.02

#: A sample farther than this from where the last one ended is no drift but a gap.
_GAP = 0.1

#: Weight of a new reading in the running mean of the drift: a device's own times tremble by
#: milliseconds.
_DRIFT_WEIGHT = 0.02


class SoundFeed(Protocol):
    """Where samples come from.

    Attributes:
        rate: samples per second, one that AAC knows.
        channels: 1 or 2.
    """

    rate: int
    channels: int

    def read(self, until: float) -> list[tuple[float, np.ndarray]]:
        """What has come since the last call and begins before `until`, without waiting.

        Returns:
            Pieces in order: `time.perf_counter()` of the first sample, and float32 (channels, n) in
                [-1, 1].
        """
        ...

    def close(self) -> None:
        """Release the device or file."""
        ...


class LiveSound:
    """Encodes what a feed delivers, so that it is heard when the pictures of its time are seen.

    Stands in the place of a `Soundtrack` in a `VideoFile`.
    """

    def __init__(self, feed: SoundFeed):
        self._feed = feed
        self._origin: float | None = None
        self._position = 0
        self._drift = 0.0

    def join(self, output: OutputContainer) -> None:
        """Add the stream to `output`, before anything is written to it."""
        self._output = output
        self._stream = add_aac(output, self._feed.rate, self._feed.channels)

    def begins(self, at: float) -> None:
        """Told the `time.perf_counter()` that is the pictures' time 0."""
        self._origin = at

    def advance(self, time: Fraction) -> None:
        """Write the sound there is up to `time`, in seconds since the first picture."""
        if self._origin is None:
            return
        for at, samples in self._feed.read(self._origin + float(time)):
            self._place(at - self._origin, samples)
        self._silence_until(round((float(time) - MOST_LAG) * self._feed.rate))

    def _place(self, at: float, samples: np.ndarray) -> None:
        """Write `samples` at `at` seconds, or after the last ones where that is nearly there."""
        error = at - self._position / self._feed.rate
        self._drift += _DRIFT_WEIGHT * (error - self._drift)
        shift = 0.0
        if not self._position or abs(error) > _GAP:
            shift = error
        elif abs(self._drift) > MOST_DRIFT:
            shift = self._drift
        if shift:
            self._drift = 0.0
            count = round(shift * self._feed.rate)
            self._silence_until(self._position + count)
            samples = samples[:, max(0, -count) :]
        self._encode(samples)

    def _silence_until(self, position: int) -> None:
        """Fill up to `position`, in pieces that need little memory."""
        while position > self._position:
            count = min(position - self._position, self._feed.rate)
            self._encode(np.zeros((self._feed.channels, count), np.float32))

    def _encode(self, samples: np.ndarray) -> None:
        if not samples.shape[1]:
            return
        layout = "mono" if self._feed.channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audible(samples)), format="fltp", layout=layout
        )
        frame.rate = self._feed.rate
        frame.pts, frame.time_base = self._position, Fraction(1, self._feed.rate)
        self._position += samples.shape[1]
        self._output.mux(self._stream.encode(frame))

    def finish(self, time: Fraction) -> None:
        """Write the sound up to `time` and what the encoder still holds."""
        self.advance(time)
        self._silence_until(round(float(time) * self._feed.rate))
        self._output.mux(self._stream.encode(None))

    def close(self) -> None:
        self._feed.close()


class FileSound:
    """The sound of a driving file that is played at its own pace, looped or not. A file without pictures begins with its sound.

    Args:
        name: path of the file.
        loop: it begins anew with its pictures.

    Raises:
        UserError: if there is no sound in it.
    """

    def __init__(self, name: str, loop: bool = False):
        self._name, self._loop = name, loop
        try:
            with open_input(ffmpeg_name(name)) as container:
                stream = default_sound(container)
                if stream is None:
                    raise IndexError
                self.rate = stream.rate if stream.rate in AAC_RATES else AAC_RATES[-1]
                self.channels = min(2, stream.codec_context.channels)
                self._start, self._length = _picture_times(container, loop)
        except (FFmpegError, OSError, IndexError) as error:
            raise UserError(f"{name} has no sound that can be read: record without --sound.") from error
        self._begin: float | None = None
        self._pieces: Generator[tuple[float, np.ndarray], None, None] | None = self._decode()
        self._waiting: tuple[float, np.ndarray] | None = None

    def played(self, position: Fraction, captured: float) -> None:
        """Tell it that the picture at `position` was played at `captured`: of the first picture, or
        of each.

        Args:
            position: seconds since the file's first picture, going on over rounds (`Frame.time`).
            captured: `time.perf_counter()` (`Frame.captured`).
        """
        begin = captured - float(position)
        # No picture is played early. One that comes later than others by much tells of a pause.
        if self._begin is None or begin < self._begin or begin > self._begin + 2 * _GAP:
            self._begin = begin

    @property
    def span(self) -> tuple[Fraction, float | None]:
        """When it begins on the file's clock, and for how many seconds it goes on; None where the file does not tell."""
        return self._start, self._length if math.isfinite(self._length) else None

    @property
    def ended(self) -> bool:
        """Whether all of it was read."""
        return self._pieces is None

    def read(self, until: float) -> list[tuple[float, np.ndarray]]:
        pieces = []
        while self._begin is not None and self._pieces is not None:
            if self._waiting is None:
                self._waiting = next(self._pieces, None)
                if self._waiting is None:
                    self._pieces = None
                    break
            position, samples = self._waiting
            if self._begin + position >= until:
                break
            pieces.append((self._begin + position, samples))
            self._waiting = None
        return pieces

    def _decode(self) -> Generator[tuple[float, np.ndarray], None, None]:
        """Seconds since the first picture of the first round, and the samples there. Damaged sound
        ends early, and a round without any is the last one.
        """
        layout = "mono" if self.channels == 1 else "stereo"
        round_begins = 0.0
        while True:
            resampler = av.AudioResampler(format="fltp", layout=layout, rate=self.rate)
            empty = True
            with (
                suppress(FFmpegError, OSError),
                open_input(ffmpeg_name(self._name)) as container,
            ):
                for frame in _decoded(container):
                    for piece in resampler.resample(playable(frame)):
                        assert piece.time_base is not None
                        at = float((piece.pts or 0) * piece.time_base - self._start)
                        samples = piece.to_ndarray()
                        before = max(0, round(-at * self.rate))
                        if math.isfinite(self._length):
                            samples = samples[:, : max(0, round((self._length - at) * self.rate))]
                        if before < samples.shape[1]:
                            empty = False
                            yield round_begins + at + before / self.rate, samples[:, before:]
            if empty or not self._loop or not 0 < self._length < math.inf:
                return
            round_begins += self._length

    def close(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None


def _decoded(container: InputContainer) -> Iterator[av.AudioFrame]:
    """The sound that plays, on the same clock as the pictures."""
    sound, picture = default_sound(container), moving_pictures(container)
    assert sound is not None
    timeline, end = Timeline(container, picture), None
    for packet in container.demux([sound] if picture is None else [picture, sound]):
        timeline.place(packet)
        # Not `packet.stream_index`, which is 0 for the last packet of each stream.
        if packet.stream.index != sound.index:
            continue
        with suppress(InvalidDataError):
            for frame in packet.decode():
                assert isinstance(frame, av.AudioFrame)
                if frame.pts is not None and frame.time_base:
                    begins, lasts = frame.pts * frame.time_base, Fraction(frame.samples, frame.sample_rate)
                    # At a join, sound may overlap with what came before.
                    if end is not None and begins + lasts / 2 < end:
                        continue
                    end = begins + lasts
                yield frame


def _picture_times(container: InputContainer, whole: bool) -> tuple[Fraction, float]:
    """When the first picture is shown on the file's clock, and for how many seconds pictures
    follow; of a file without any, the same of its sound.

    Args:
        whole: read through files that do not tell how long they are (Matroska), or whose time may
            start anew (MPEG-TS), instead of answering infinity.
    """
    stream = moving_pictures(container) or default_sound(container)
    if stream is None:
        raise IndexError
    pictures = isinstance(stream, av.VideoStream)
    frame = 1 / Fraction(stream.average_rate or 25) if pictures else Fraction(0)
    known = stream.duration * stream.time_base if stream.duration and stream.time_base else None
    # A trim leaves out some of the stored frames, and may end within one.
    if (
        pictures
        and known is not None
        and (not stream.frames or abs(known - stream.frames * frame) >= frame / 2)
    ):
        known = None
    start = end = None
    timeline = Timeline(container, stream if isinstance(stream, av.VideoStream) else None)
    for index, packet in enumerate(container.demux(stream)):
        timeline.place(packet)
        if packet.pts is not None and packet.time_base is not None and not packet.is_discard:
            at = packet.pts * packet.time_base
            lasts = packet.duration * packet.time_base if packet.duration else frame
            start = at if start is None else min(start, at)
            end = at + lasts if end is None else max(end, at + lasts)
        # The first packet need not be the first picture: some are stored out of order.
        if index >= 16 and (known is not None or not whole) and start is not None:
            break
    start = start or Fraction(0)
    if known is None and whole and end is not None:
        known = end - start
    return start, float(known) if known is not None else math.inf


def open_sound(text: str, driving: str, loop: bool = False) -> SoundFeed | None:
    """What a recording's sound comes from.

    Args:
        text: `auto` (the driving file's, where it has any), `none`, `microphone` or
            `microphone:NAME`.
        driving: what drives the picture; cameras and streams have no sound here.
        loop: the driving file is looped.

    Raises:
        UserError: if the microphone cannot be opened, or for another `text`.
    """
    kind, _, device = text.partition(":")
    driving = path_of(driving, "what drives")
    if text == "none":
        return None
    if text == "auto":
        with suppress(UserError):
            # What cannot be read twice has its pictures read alone.
            return FileSound(driving, loop) if os.path.isfile(driving) and not is_pipe(driving) else None
        return None
    if kind == "microphone":
        from livepuppet.realtime.outputs.microphone import Microphone

        return Microphone(device or None)
    raise UserError(f"There is no sound '{text}': give auto, none, microphone or microphone:NAME.")
