"""Files, folders and network streams as live sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from livepuppet.core.errors import UserError
from livepuppet.core.names import is_pipe, is_url
from livepuppet.core.video import Clip, Frame, open_video
from livepuppet.realtime.inputs.watch import ImageWatch

#: Seconds between attempts to open a stream that broke off.
RETRY_SECONDS = 1.0

#: What makes FFmpeg hand a network camera's pictures on without gathering them first, over a
#: transport that loses none. Without effect on files, and unknown options are ignored by the
#: protocols that have no use for them.
_STREAM_OPTIONS = {"fflags": "nobuffer", "rtsp_transport": "tcp"}


class Playback:
    """A video file (also one that a web server sends) or a folder as if it were a camera: every
    frame at its own time.

    Args:
        source: path or URL.
        loop: start again at the end.

    Attributes:
        seconds: its length, as far as the file tells, or None.
        has_sound: whether there is sound in it.

    Raises:
        UserError: if it cannot be opened.
    """

    trouble = silence = note = None
    greeting = "Looking for the driver's face."

    def __init__(self, source: str, loop: bool = False):
        if loop and is_pipe(source):
            raise UserError(
                f"{source} is a pipe, which can be read once only: leave --loop out, or give a file."
            )
        self._source = source
        self._loop = loop
        self._clip = open_video(source)
        self.name = self._clip.name
        self.rate = float(self._clip.rate)
        self.seconds, self.has_sound = self._clip.seconds, self._clip.has_sound

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        begin, shift = None, Fraction(0)
        while True:
            end = shift
            for frame in self._clip:
                if stop.is_set():
                    return
                begin = time.perf_counter() if begin is None else begin
                if stop.wait(max(0.0, begin + float(shift + frame.time) - time.perf_counter())):
                    return
                end = shift + frame.time + (frame.duration or 1 / self._clip.rate)
                yield replace(frame, time=shift + frame.time, captured=time.perf_counter())
            if self._clip.broken:
                raise UserError(f"{self._clip.broken}; repair or replace the driving video.")
            if not self._loop or end == shift:
                return
            shift = end
            self._clip.close()
            self._clip = open_video(self._source)

    def close(self) -> None:
        self._clip.close()


class Stream:
    """A network camera (RTSP, MJPEG over HTTP, and what else FFmpeg reads) that goes on for ever.

    Frames come as they arrive, never paced: waiting would only add delay. A stream that breaks off
    is opened again and again until it is back.

    Args:
        url: its address.

    Attributes:
        endless: whether it really goes on for ever, as far as FFmpeg can tell.

    Raises:
        UserError: if it cannot be opened now.
    """

    note = None

    def __init__(self, url: str):
        self._url = url
        self._clip: Clip | None = Clip(url, _STREAM_OPTIONS)
        self.name = self._clip.name
        self.rate = float(self._clip.rate)
        self.endless = self._clip.endless
        self.trouble: str | None = None
        self.silence = (
            f"The stream {self.name} delivers no pictures: check that it is running, and the network."
        )
        self._watch = ImageWatch(
            f"The stream {self.name} shows only black: uncover its lens, or open its shutter.",
            f"The stream {self.name} shows the same picture all the time: check the camera that feeds it.",
        )

    def frames(self, stop: threading.Event) -> Iterator[Frame]:
        first = None
        while not stop.is_set():
            if self._clip is None:
                self._open_again()
                if self._clip is None:
                    stop.wait(RETRY_SECONDS)
                    continue
            for frame in self._clip:
                if stop.is_set():
                    return
                first = frame.captured if first is None else first
                self.trouble = self._watch.look(frame.image, frame.captured)
                # The times in such streams are often made up (25 per second, whatever comes);
                # arrival is not.
                yield replace(frame, time=Fraction(frame.captured - first), duration=None)
            self.trouble = f"The stream {self.name} broke off: it is taken up again as soon as it is back."
            self._clip.close()
            self._clip = None
            # One that accepts and then ends at once must not be asked without pause.
            stop.wait(RETRY_SECONDS)

    def _open_again(self) -> None:
        try:
            self._clip = Clip(self._url, _STREAM_OPTIONS)
            self._watch.start_over()
        except UserError:
            self._clip = None

    def close(self) -> None:
        if self._clip is not None:
            self._clip.close()


def open_playback(source: str, loop: bool = False) -> Playback | Stream:
    """A file, a folder, or what an address leads to: a video with an end, or a camera's endless
    stream.

    Raises:
        UserError: if it cannot be opened.
    """
    if not is_url(source):
        return Playback(source, loop)
    stream = Stream(source)
    if stream.endless:
        return stream
    stream.close()
    return Playback(source, loop)
