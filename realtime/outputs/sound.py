"""The driving video's sound, carried over into the animated one."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError

from livepuppet.core.frames import open_input
from livepuppet.core.names import ffmpeg_name
from livepuppet.core.timeline import Timeline, default_sound, moving_pictures

#: Codecs that every browser plays inside an MP4; their packets are copied as they are.
COPIED = frozenset(["aac", "mp3", "mp3float"])

#: Sample rates that AAC knows. Anything else is resampled to the last one.
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


#: Layouts of more channels (7.1) have no names that mixers know.
MOST_CHANNELS = 8


#: What integer samples reach, by FFmpeg's names of them.
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


def add_aac(output: OutputContainer, rate: int, channels: int) -> av.AudioStream:
    """A new AAC stream; more than one channel becomes stereo."""
    stream = output.add_stream("aac", rate=rate, layout="mono" if channels == 1 else "stereo")
    stream.codec_context.bit_rate = 96_000 if channels == 1 else 160_000
    return stream


def playable(frame: av.AudioFrame) -> av.AudioFrame:
    """`frame` as encoders and mixers take it: samples are finite and within [-1, 1], and more channels than
    a layout names become their mean. Most frames are such, and returned as they are.
    """
    channels, kind = frame.layout.nb_channels, frame.format.name.removesuffix("p")
    floating = kind in ("flt", "dbl")
    if not floating and channels <= MOST_CHANNELS:
        return frame
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, channels).T
    if floating:
        samples = audible(samples)
    else:
        samples = samples.astype(np.float32)
        samples = (samples - 128 if kind == "u8" else samples) / FULL_SCALE[kind]
    layout = frame.layout.name
    if channels > MOST_CHANNELS:
        samples, layout = samples.mean(axis=0, keepdims=True), "mono"
    made = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", layout)
    made.rate, made.pts, made.time_base = frame.sample_rate, frame.pts, frame.time_base
    return made


def audible(samples: np.ndarray) -> np.ndarray:
    """Floating point samples without what an encoder refuses: NaN is silence, and nothing is louder than 1."""
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1.0, 1.0)


class Soundtrack:
    """The sound stream of a video that players play, read alongside the pictures and in constant
    memory. Where the file's time starts anew, it goes on with the pictures.

    Args:
        name: path or URL of the video.
        start: seconds on the video's clock that become 0 (`Clip.start`). Sound before that is left
            out.
    """

    def __init__(self, name: str, start: Fraction):
        self._source = open_input(ffmpeg_name(name))
        stream, picture = default_sound(self._source), moving_pictures(self._source)
        if stream is None:
            self._source.close()
            raise IndexError(f"{name} has no sound")
        self._stream, self._start = stream, start
        # Pictures are read along, since the clock is one for both.
        self._timeline = Timeline(self._source, picture)
        streams = [stream] if picture is None else [picture, stream]
        self._packets: Iterator[av.Packet] | None = self._source.demux(streams)
        self._end = Fraction(0)
        self._waiting: av.Packet | None = None
        self._target: av.AudioStream | None = None
        codec = self._stream.codec_context
        # AAC in a transport stream carries its set-up in every packet instead of up front, which
        # MP4 does not take.
        self.copied = codec.name in COPIED and (codec.name != "aac" or bool(codec.extradata))

    def join(self, output: OutputContainer) -> None:
        """Add the stream to `output`, before anything is written to it."""
        self._output = output
        if self.copied:
            self._target = output.add_stream_from_template(self._stream)
        else:
            rate = self._stream.rate if self._stream.rate in AAC_RATES else AAC_RATES[-1]
            self._target = add_aac(output, rate, self._stream.codec_context.channels)

    def begins(self, at: float) -> None:
        """A file's sound has its place by the file's own clock."""

    def advance(self, time: Fraction) -> None:
        """Write all sound that begins before `time`, in seconds since the first picture."""
        while self._packets is not None:
            packet = self._waiting
            if packet is None:
                try:
                    packet = self._waiting = next(self._packets)
                except (StopIteration, FFmpegError, OSError):
                    # Damaged sound ends early; the pictures say whether the file is broken.
                    self._packets = None
                    return
                self._timeline.place(packet)
            if packet.stream_index == self._stream.index and packet.size:
                if packet.pts is None:
                    packet.pts = round((self._end + self._start) / packet.time_base)
                begins = packet.pts * packet.time_base - self._start
                lasts = (packet.duration or 0) * packet.time_base
                if begins >= time:
                    return
                # At a join, sound may overlap by a few packets with what came before.
                if begins >= 0 and begins + lasts / 2 >= self._end:
                    self._end = begins + lasts
                    self._write(packet)
            self._waiting = None

    def _write(self, packet: av.Packet) -> None:
        assert self._target is not None and packet.pts is not None
        if self.copied:
            packet.pts -= round(self._start / packet.time_base)
            packet.dts = packet.pts
            packet.stream = self._target
            self._output.mux(packet)
            return
        try:
            frames = packet.decode()
        except FFmpegError:
            return
        for decoded in frames:
            assert isinstance(decoded, av.AudioFrame)
            frame = playable(decoded)
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._start / frame.time_base)
            self._output.mux(self._target.encode(frame))

    def finish(self, time: Fraction) -> None:
        """Write the sound up to `time` and what the encoder still holds."""
        self.advance(time)
        if not self.copied and self._target is not None:
            self._output.mux(self._target.encode(None))

    def close(self) -> None:
        self._source.close()
