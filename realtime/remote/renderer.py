"""The camera's end of a session: motion goes to the machine that renders, pictures come back."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.durations import Durations
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.packets import RenderRequest
from livepuppet.realtime.remote.protocol import ACKNOWLEDGE, PICTURE, Canvas
from livepuppet.realtime.remote.service_client import ServiceClient
from livepuppet.realtime.remote.video import BadPicture, DecodedPicture, VideoDecoder

#: Seconds that a picture is waited for: at least, in round trips, and at most.
PATIENCE, PATIENCE_ROUND_TRIPS, MOST_PATIENCE = 0.25, 3.0, 1.0

#: Where the time between a frame's packet and its picture goes.
STAGES = ("up", "wait", "render", "encode", "down", "decode")

#: What `RemoteRenderer.render` says of the picture: it is this frame's; a newer frame's picture has come meanwhile; none came in
#: time, and it is an earlier frame's; there is none yet. A `CallSender`, too, says that it has sent the frame, of which no picture comes.
Outcome = Literal["new", "overtaken", "old", "none", "sent"]


class RemoteRenderer(ServiceClient):
    """Has another machine render frames. Several threads may call `render` at the same time, so that several frames are on their
    way.

    Args:
        address, model: see `RemoteClient`; of one machine, or of a service.

    Attributes:
        delay: seconds from a frame's packet to its decoded picture; `stages` is what they were spent on, by clocks that are
            aligned.
        bytes_down: of pictures.

    Raises:
        UserError: see `Connection`.
    """

    frames_on_the_way = 4

    def __init__(self, address: ServerAddress, model: str):
        self.delay = Durations()
        self.stages = {stage: Durations() for stage in STAGES}
        self.bytes_down = 0
        self._canvas: Canvas | None = None
        self._decoder: VideoDecoder | None = None
        self._newest: tuple[int, DecodedPicture] | None = None
        super().__init__(address, model)

    # Called by those who want pictures.

    def render(
        self, avatar: Avatar, canvas: Canvas, request: RenderRequest, captured: float, out: np.ndarray
    ) -> Outcome:
        """Have a frame rendered, and wait for its picture for a moment.

        Args:
            avatar, canvas: what is rendered, and how.
            request: its pose.
            captured: when the camera took it, in seconds.
            out: uint8 `canvas.shape`; the picture is written there, unless there is none.
        """
        began = time.perf_counter()
        with self._sending:
            self._synchronise(avatar, canvas)
            number, connection = self._send_frame(request, captured, began)
        deadline = began + self._patience
        while connection is not None and self._is_lost(number, connection, deadline):
            with self._sending:
                number, connection = self._send_frame(request, captured, began)
        with self._changed:
            newest = self._newest
        if newest is None or connection is None or newest[0] < number:
            return _written(newest, out, "old")
        return _written(newest, out, "new" if newest[0] == number else "overtaken")

    def _is_lost(self, number: int, connection: Connection, deadline: float) -> bool:
        """Wait for a frame's picture. Returns whether none comes since another machine has taken over, for which it still is the newest."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._arrived(number) or self._connection is not connection or self._ready is None,
                deadline - time.perf_counter(),
            )
            taken_over = self._shown and self._connection is not connection
            return taken_over and number == self._number and not self._arrived(number)

    def _send_frame(
        self, request: RenderRequest, captured: float, began: float
    ) -> tuple[int, Connection | None]:
        """Send it to whoever renders now; with `_sending` held. Returns its number and where it went; None where nobody renders the
        present avatar.
        """
        with self._changed:
            connection = self._connection
            if connection is None or not self._shown:
                return self._number, None
            self._number += 1
            number = self._number
            packet = self._packets.encode(number, int(captured * 1e4), request)
            self._remember(number, began)
            self.bytes_up += len(packet)
            self.frames += 1
        connection.send(b"N" + packet)
        return number, connection

    def figures(self) -> dict:
        """Delay and rates so far, for JSON; times in milliseconds."""
        return {
            "server": self.place,
            "frames": self.frames,
            "bytes_up_per_frame": round(self.bytes_up / max(self.frames, 1), 1),
            "bytes_down_per_frame": round(self.bytes_down / max(self.delay.count, 1)),
            "round_trip_ms": _milliseconds(self.clock.round_trip),
            "clock_offset_ms": _milliseconds(self.clock.offset),
            "delay_ms": self.delay.summary(),
            "stages_ms": {stage: durations.summary() for stage, durations in self.stages.items()},
        }

    def sentence(self) -> str:
        """The same for people."""
        figures = self.figures()
        stages = ", ".join(f"{stage} {spread['p50']:.1f}" for stage, spread in figures["stages_ms"].items())
        delay = figures["delay_ms"]
        return (
            f"Rendered at {self.place}: packet to picture p50 {delay['p50']:.1f} ms, p95 {delay['p95']:.1f} ms (median {stages}); "
            f"round trip {figures['round_trip_ms']} ms; {figures['bytes_up_per_frame']:.0f} bytes up and "
            f"{figures['bytes_down_per_frame']:,} down a frame."
        )

    @property
    def _patience(self) -> float:
        round_trip = self.clock.round_trip
        longer = PATIENCE_ROUND_TRIPS * round_trip if round_trip == round_trip else 0.0
        return min(max(PATIENCE, longer), MOST_PATIENCE)

    def _has(self, number: int) -> bool:
        with self._changed:
            return number == 0 or self._arrived(number)

    def _arrived(self, number: int) -> bool:
        return self._newest is not None and self._newest[0] >= number

    # With `_changed` held.

    def _canvas_changed(self, canvas: Canvas) -> list[dict]:
        if self._canvas == canvas:
            return []
        if self._canvas is None or self._canvas.shape != canvas.shape:
            self._newest, self._ready = None, None
            self._decoder = VideoDecoder(canvas.shape)
        self._canvas = canvas
        return [{"canvas": canvas.as_dict()}]

    def _opening(self) -> list[dict]:
        if self._canvas is not None:
            self._decoder = VideoDecoder(self._canvas.shape)
        return self._canvas_told()

    def _canvas_told(self) -> list[dict]:
        return [] if self._canvas is None else [{"canvas": self._canvas.as_dict()}]

    # The reading thread.

    def _take(self, connection: Connection, message: bytes | str) -> None:
        if isinstance(message, bytes) and message[:1] == b"P" and len(message) >= PICTURE.size:
            self._take_picture(connection, message)
        else:
            super()._take(connection, message)

    def _take_picture(self, connection: Connection, message: bytes) -> None:
        arrived = time.perf_counter()
        _, number, codec, _, received, waited, rendered, encoded = PICTURE.unpack_from(message)
        decoder = self._decoder
        if decoder is None:
            return
        connection.send(ACKNOWLEDGE.pack(b"K", number))
        connection.widen()
        try:
            picture = decoder.decode(codec, message[PICTURE.size :])
        except BadPicture:
            connection.send({"key": True})
            return
        decoded = time.perf_counter()
        with self._changed:
            if self._connection is not connection or self._decoder is not decoder:
                return
            self._packets.acknowledged(number)
            self._newest = number, picture
            self.problem, self._refusal, self._failures = None, None, 0
            sent = self._sent_at.pop(number, None)
            self.bytes_down += len(message)
            self._changed.notify_all()
        if sent is not None:
            self.delay.add(decoded - sent)
            left = received + waited + rendered + encoded
            offset = self.clock.offset
            seconds = (received - offset - sent, waited, rendered, encoded, arrived - left + offset)
            if offset == offset:
                for stage, spent in zip(STAGES, (*seconds, decoded - arrived), strict=True):
                    self.stages[stage].add(spent)


def _written(picture: tuple[int, DecodedPicture] | None, out: np.ndarray, outcome: Outcome) -> Outcome:
    if picture is None or picture[1].shape != out.shape:
        return "none"
    picture[1].write(out)
    return outcome


def _milliseconds(seconds: float) -> float | None:
    return round(seconds * 1000, 2) if seconds == seconds else None
