"""The camera's end of a session: motion goes to the machine that renders, pictures come back."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from typing import Literal

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.remote.clock import ClockOffset
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.packets import PacketEncoder, RenderRequest
from livepuppet.realtime.remote.protocol import (
    ACKNOWLEDGE,
    CLOCK_REPLY,
    CLOCK_REQUEST,
    PICTURE,
    VERSION,
    Canvas,
    pack_avatar,
    parse_json,
)
from livepuppet.realtime.remote.video import BadPicture, DecodedPicture, VideoDecoder

logger = logging.getLogger(__name__)

#: Seconds that a picture is waited for: at least, in round trips, and at most.
PATIENCE, PATIENCE_ROUND_TRIPS, MOST_PATIENCE = 0.25, 3.0, 1.0

#: Seconds between clock requests, and without any message after which the connection counts as broken; and while the server
#: prepares an avatar, which may keep all its cores.
CLOCK_SECONDS, SILENCE, SILENCE_PREPARING = 0.25, 1.0, 10.0

#: Seconds before the second attempt to connect again, more before each further one, and at most.
RETRY, MOST_RETRY = 0.1, 0.5

#: Seconds that the first avatar may take to be prepared over there.
PREPARING = 60.0

#: Frames on their way whose times are kept.
_KEPT_TIMES = 64

#: Where the time between a frame's packet and its picture goes.
STAGES = ("up", "wait", "render", "encode", "down", "decode")

#: What `RemoteRenderer.render` says of the picture: it is this frame's; a newer frame's picture has come meanwhile; none came in
#: time, and it is an earlier frame's; there is none yet.
Outcome = Literal["new", "overtaken", "old", "none"]


class RemoteRenderer:
    """Has another machine render frames, and connects again where the connection breaks.

    Everything that makes the session is kept here, so a server that was restarted is told all of it again. Several threads may
    call `render` at the same time, so that several frames are on their way.

    Args:
        address: of the machine that renders.
        model: the preset's name, which has to be the same there.

    Attributes:
        place: host and port of that machine.
        problem: one sentence while no pictures come, else None.
        wants_keypoints: whether requests need keypoints, since no rig draws the present avatar.
        clock: the server's.
        delay: seconds from a frame's packet to its decoded picture; `stages` is what they were spent on, by clocks that are
            aligned.
        frames, bytes_up, bytes_down: sent frames, and bytes of packets and pictures.

    Raises:
        UserError: see `Connection`.
    """

    def __init__(self, address: ServerAddress, model: str):
        self._address, self._model = address, model
        self.place = address.place
        self.problem: str | None = None
        #: What the server says is wrong.
        self._refusal: str | None = None
        self.wants_keypoints = False
        self.clock = ClockOffset()
        self.delay = Durations()
        self.stages = {stage: Durations() for stage in STAGES}
        self.frames = self.bytes_up = self.bytes_down = 0
        #: The server's name for this session, which nobody else knows.
        self._session = secrets.token_hex(16)
        self._packets = PacketEncoder()
        self._number = 0
        self._sent_at: OrderedDict[int, float] = OrderedDict()
        self._canvas: Canvas | None = None
        self._avatar: tuple[Avatar, str, bytes] | None = None
        self._ready: str | None = None
        self._decoder: VideoDecoder | None = None
        self._newest: tuple[int, DecodedPicture] | None = None
        #: Guards everything above; notified when a picture or a reply came.
        self._changed = threading.Condition()
        #: Held while something is sent of which the order matters.
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._failures = 0
        self._heard = self._asked_clock = time.monotonic()
        self._connection: Connection | None = self._connected()
        self._thread = start_thread(self._run, "remote", self._stop)

    # Called by those who want pictures.

    def prepare(self, avatar: Avatar, canvas: Canvas) -> None:
        """Wait until the server has prepared the first avatar.

        Raises:
            UserError: it refuses, or takes too long.
        """
        with self._sending:
            self._synchronise(avatar, canvas)
        with self._changed:
            self._changed.wait_for(lambda: self._ready is not None or self._refusal is not None, PREPARING)
            if self._ready is None:
                raise UserError(
                    self._refusal
                    or self.problem
                    or f"{self.place} does not begin to render: look at what livepuppet serve prints there."
                )

    def render(self, avatar: Avatar, canvas: Canvas, request: RenderRequest, out: np.ndarray) -> Outcome:
        """Have a frame rendered, and wait for its picture for a moment.

        Args:
            avatar, canvas: what is rendered, and how.
            request: its pose.
            out: uint8 `canvas.shape`; the picture is written there, unless there is none.
        """
        with self._sending:
            self._synchronise(avatar, canvas)
            with self._changed:
                connection = self._connection
                ready = connection is not None and self._avatar is not None and self._ready == self._avatar[1]
                if not ready:
                    newest = self._newest
                else:
                    self._number += 1
                    number, began = self._number, time.perf_counter()
                    packet = self._packets.encode(number, int(began * 1e4), request)
                    self._remember(number, began)
                    self.bytes_up += len(packet)
                    self.frames += 1
            if connection is not None and ready:
                connection.send(b"N" + packet)
        if not ready:
            return _written(newest, out, "old")
        with self._changed:
            self._changed.wait_for(lambda: self._arrived(number) or self._ready is None, self._patience)
            newest = self._newest
        if newest is None or newest[0] < number:
            return _written(newest, out, "old")
        return _written(newest, out, "new" if newest[0] == number else "overtaken")

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

    def close(self) -> None:
        """End the session. Safe to call twice."""
        self._stop.set()
        with self._changed:
            connection = self._disconnected()
        if connection is not None:
            connection.close()
        self._thread.join(3)

    @property
    def _patience(self) -> float:
        round_trip = self.clock.round_trip
        longer = PATIENCE_ROUND_TRIPS * round_trip if round_trip == round_trip else 0.0
        return min(max(PATIENCE, longer), MOST_PATIENCE)

    def _arrived(self, number: int) -> bool:
        return self._newest is not None and self._newest[0] >= number

    def _remember(self, number: int, began: float) -> None:
        self._sent_at[number] = began
        while len(self._sent_at) > _KEPT_TIMES:
            self._sent_at.popitem(last=False)

    # With `_sending` held.

    def _synchronise(self, avatar: Avatar, canvas: Canvas) -> None:
        """Tell the server of another canvas or avatar."""
        if self._avatar is None or self._avatar[0] is not avatar:
            packed = (avatar, *pack_avatar(avatar))
        else:
            packed = self._avatar
        with self._changed:
            connection, messages = self._connection, []
            if self._canvas != canvas:
                messages.append({"canvas": canvas.as_dict()})
                if self._canvas is None or self._canvas.shape != canvas.shape:
                    self._newest, self._ready = None, None
                    self._decoder = VideoDecoder(canvas.shape)
            if messages or packed is not self._avatar:
                messages.append({"show": packed[1]})
            self._canvas, self._avatar = canvas, packed
        if connection is not None:
            for message in messages:
                connection.send(message)

    # With `_changed` held.

    def _disconnected(self) -> Connection | None:
        """Forget the connection; whoever calls this closes it."""
        connection, self._connection, self._ready = self._connection, None, None
        self._changed.notify_all()
        return connection

    # The reading thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = self._connection
            if connection is None:
                self._connect()
                continue
            try:
                self._keep_alive(connection)
                message = connection.receive(CLOCK_SECONDS)
            except ConnectionError:
                self._lose(connection)
                continue
            if message is None:
                continue
            self._heard = time.monotonic()
            try:
                self._take(connection, message)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("The server sent a message that cannot be understood (%s).", error)

    def _keep_alive(self, connection: Connection) -> None:
        """Ask for the server's time now and then. Raises ConnectionError where nothing comes back any more."""
        now = time.monotonic()
        prepared = self._avatar is not None and self._ready == self._avatar[1]
        if now - self._heard > (SILENCE if prepared else SILENCE_PREPARING):
            raise ConnectionError("silence")
        if now - self._asked_clock >= CLOCK_SECONDS:
            self._asked_clock = now
            connection.send(CLOCK_REQUEST.pack(b"T", time.perf_counter()))

    def _lose(self, connection: Connection) -> None:
        with self._changed:
            if self._connection is connection:
                self._disconnected()
            if self.problem is None and not self._stop.is_set():
                self.problem = f"The connection to {self.place} broke: connecting again."
        connection.cut()
        self._back_off()

    def _connect(self) -> None:
        try:
            connection = self._connected()
        except UserError as error:
            self.problem = str(error)
            self._back_off()
            return
        with self._changed:
            if self._stop.is_set():
                connection.close()
                return
            self._packets.forget()
            self.clock = ClockOffset()
            self._connection = connection
            if self._canvas is not None and self._avatar is not None:
                self._decoder = VideoDecoder(self._canvas.shape)
                # Before any packet: those wait for an avatar that is ready.
                connection.send({"canvas": self._canvas.as_dict()})
                connection.send({"show": self._avatar[1]})

    def _connected(self) -> Connection:
        """A new connection on which we have said who we are. Raises UserError."""
        connection = Connection(self._address)
        connection.send({"version": VERSION, "model": self._model, "session": self._session})
        self._heard = time.monotonic()
        return connection

    def _back_off(self) -> None:
        self._stop.wait(min(RETRY * self._failures, MOST_RETRY))
        self._failures += 1

    def _take(self, connection: Connection, message: bytes | str) -> None:
        if isinstance(message, str):
            self._obey(connection, parse_json(message))
        elif message[:1] == b"P" and len(message) >= PICTURE.size:
            self._take_picture(connection, message)
        elif message[:1] == b"T" and len(message) == CLOCK_REPLY.size:
            _, sent, received, answered = CLOCK_REPLY.unpack(message)
            self.clock.add(sent, received, answered, time.perf_counter())

    def _take_picture(self, connection: Connection, message: bytes) -> None:
        arrived = time.perf_counter()
        _, number, codec, _, received, waited, rendered, encoded = PICTURE.unpack_from(message)
        decoder = self._decoder
        if decoder is None:
            return
        connection.send(ACKNOWLEDGE.pack(b"K", number))
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

    def _obey(self, connection: Connection, message: dict) -> None:
        reply: bytes | None = None
        with self._changed:
            avatar = self._avatar
            if "need" in message and avatar is not None and message["need"] == avatar[1]:
                reply = avatar[2]
            elif "ready" in message:
                self._ready, self.wants_keypoints = str(message["ready"]), bool(message.get("keypoints"))
            elif message.get("no_base") is True:
                self._packets.forget()
            elif "error" in message:
                self.problem = self._refusal = f"{self.place}: {str(message['error'])[:300]}"
            self._changed.notify_all()
        if reply is not None:
            connection.send(reply)
            # That may have taken long.
            self._heard = time.monotonic()


def _written(picture: tuple[int, DecodedPicture] | None, out: np.ndarray, outcome: Outcome) -> Outcome:
    if picture is None or picture[1].shape != out.shape:
        return "none"
    picture[1].write(out)
    return outcome


def _milliseconds(seconds: float) -> float | None:
    return round(seconds * 1000, 2) if seconds == seconds else None
