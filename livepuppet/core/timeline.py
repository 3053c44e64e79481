"""One clock for a file whose time starts anew: two recordings joined, a counter that wrapped, a
camera that was switched off in between.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition

#: A step forward of more seconds than this is a join: in formats that are cut and joined byte by
#: byte, and in any other, where a picture may stand still for long by right.
LONGEST_STEP, LONGEST_STILL = 10, 600

#: FFmpeg's names of the former.
_JOINED = ("mpegts", "mpeg", "mpegvideo", "flv", "rtsp", "rtp", "hls")

#: Seconds by which pictures that are stored out of order may step back.
_REORDERED = Fraction(1)

#: What a stream is for that is no moving picture: a cover, chapter pictures.
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def moving_pictures(container: InputContainer) -> av.VideoStream | None:
    """The video stream that players show, or None: covers and previews are never the clip."""
    moving = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & _STILL
    ]
    best = container.streams.best("video")
    return next((stream for stream in moving if stream is best), moving[0] if moving else None)


def default_sound(container: InputContainer) -> av.AudioStream | None:
    """The sound stream that players play: the first that is marked as default, or else the first."""
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    marked = [stream for stream in known if stream.disposition & Disposition.default]
    return next(iter(marked or known), None)


class Timeline:
    """Puts the packets of a file on one clock that never runs backwards.

    Where a stream's time steps back, or far forward, its packets go on where the file has ended
    until then. The shift is the same for pictures and sound, so that they stay together; each may
    take it up at another packet. Readers of the same file that see all packets of the same streams
    come to the same clock.

    Args:
        container: whose packets they are.
        picture: the stream of moving pictures, if any.
    """

    def __init__(self, container: InputContainer, picture: av.VideoStream | None):
        joined = any(name in _JOINED for name in container.format.name.split(","))
        self._longest = LONGEST_STEP if joined else LONGEST_STILL
        rate = picture.average_rate or picture.guessed_rate if picture is not None else None
        self._frame = 1 / Fraction(rate or 25)
        #: Seconds to add, of one join after the other.
        self._shifts = [Fraction(0)]
        self._end: Fraction | None = None
        #: Of each stream: its last time as it was, how far back the next may step, and which shift it
        #: has come to.
        self._last: dict[int, tuple[Fraction, Fraction, int]] = {}

    def place(self, packet: av.Packet) -> None:
        """Shift the times of the next packet, in place."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        base = packet.time_base
        if stamp is None or not base:
            return
        raw = stamp * Fraction(base)
        shown = raw if packet.pts is None else packet.pts * Fraction(base)
        lasts = packet.duration * Fraction(base) if packet.duration else Fraction(0)
        if not 0 < lasts < 1:
            lasts = self._frame
        # Packets come in the order of decoding; where only the times of showing are known, they step
        # back by right.
        slack = lasts / 2 if packet.dts is not None else _REORDERED
        number = 0
        if packet.stream_index in self._last:
            last, slack_before, number = self._last[packet.stream_index]
            if not -max(slack, slack_before) <= raw - last <= self._longest:
                number = self._next(number, shown)
        self._last[packet.stream_index] = (raw, slack, number)
        shift = self._shifts[number]
        self._end = max(shown + shift + lasts, self._end if self._end is not None else shown + shift + lasts)
        if shift:
            ticks = round(shift / Fraction(base))
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    def _next(self, number: int, shown: Fraction) -> int:
        """Which shift comes after `number` for a packet at `shown` seconds: the one that another
        stream has come to at this join, or a new one.
        """
        assert self._end is not None
        for other in range(number + 1, len(self._shifts)):
            if abs(shown + self._shifts[other] - self._end) < self._longest / 2:
                return other
        self._shifts.append(self._end - shown)
        return len(self._shifts) - 1
