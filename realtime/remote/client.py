"""The camera's end of a connection: motion goes to another machine, which renders it, and to which everything is told again where the
connection breaks.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from typing import Any

from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.remote.clock import ClockOffset
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.packets import PacketEncoder
from livepuppet.realtime.remote.protocol import (
    CLOCK_REPLY,
    CLOCK_REQUEST,
    PATH,
    VERSION,
    Canvas,
    pack_avatar,
    parse_json,
)

logger = logging.getLogger(__name__)

#: Seconds between clock requests, and without any message after which the connection counts as broken; and while the server
#: prepares an avatar, which may keep all its cores.
CLOCK_SECONDS, SILENCE, SILENCE_PREPARING = 0.25, 1.0, 10.0

#: Seconds before the second attempt to connect again, more before each further one, and at most.
RETRY, MOST_RETRY = 0.1, 0.5

#: Seconds that the first avatar may take to be prepared over there.
PREPARING = 60.0

#: Frames on their way whose times are kept.
_KEPT_TIMES = 64


class RemoteClient:
    """Connects to the machine that renders, tells it the avatar, and connects again where the connection breaks.

    Everything that makes the session is kept here, so a server that was restarted is told all of it again.

    Args:
        address: of the machine that renders.
        model: the preset's name, which has to be the same there.

    Attributes:
        place: host and port of that machine.
        problem: one sentence while no pictures come, else None.
        wants_keypoints: whether requests need keypoints, since no rig draws the present avatar.
        clock: the server's.
        frames, bytes_up: sent frames, and bytes of their packets.

    Raises:
        UserError: see `Connection`.
    """

    #: Of the websocket, and what people start over there.
    path, program = PATH, "livepuppet serve"

    #: Frames that may be on their way at the same time, each waited for by a thread.
    frames_on_the_way = 1

    def __init__(self, address: ServerAddress, model: str):
        self._address, self._model = address, model
        self.place = address.place
        self.problem: str | None = None
        #: What the server says is wrong.
        self._refusal: str | None = None
        self.wants_keypoints = False
        self.clock = ClockOffset()
        self.frames = self.bytes_up = 0
        #: The server's name for this session, which nobody else knows.
        self._session = secrets.token_hex(16)
        self._packets = PacketEncoder()
        self._number = 0
        self._sent_at: OrderedDict[int, float] = OrderedDict()
        self._avatar: tuple[Avatar, str, bytes] | None = None
        self._ready: str | None = None
        #: Guards everything above; notified when a picture or a reply came.
        self._changed = threading.Condition()
        #: Held while something is sent of which the order matters.
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._failures = 0
        self._heard = self._asked_clock = time.monotonic()
        self._connection: Connection | None = None
        self._connection = self._connected()
        self._thread = start_thread(self._run, "remote", self._stop)

    # Called by those who have frames.

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
                    or f"{self.place} does not begin to render: look at what {self.program} prints there."
                )

    def close(self) -> None:
        """End the session. Safe to call twice."""
        self._stop.set()
        with self._changed:
            connection = self._disconnected()
        if connection is not None:
            connection.close()
        self._thread.join(3)

    # With `_sending` held.

    def _synchronise(self, avatar: Avatar, canvas: Canvas) -> None:
        """Tell the server of another canvas or avatar."""
        if self._avatar is None or self._avatar[0] is not avatar:
            packed = (avatar, *pack_avatar(avatar))
        else:
            packed = self._avatar
        with self._changed:
            connection, messages = self._connection, self._canvas_changed(canvas)
            if messages or packed is not self._avatar:
                messages.append({"show": packed[1]})
            self._avatar = packed
        if connection is not None:
            for message in messages:
                connection.send(message)

    # With `_changed` held.

    def _canvas_changed(self, canvas: Canvas) -> list[dict]:
        """What to say of a canvas, where it is another one."""
        return []

    def _opening(self) -> list[dict]:
        """What to say first on a new connection, before the avatar."""
        return []

    @property
    def _shown(self) -> bool:
        """Whether the server renders the present avatar."""
        return self._connection is not None and self._avatar is not None and self._ready == self._avatar[1]

    def _remember(self, number: int, began: float) -> None:
        self._sent_at[number] = began
        while len(self._sent_at) > _KEPT_TIMES:
            self._sent_at.popitem(last=False)

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
                message = connection.receive(self._clock_seconds)
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
        if now - self._heard > (self._silence if prepared else SILENCE_PREPARING):
            raise ConnectionError("silence")
        if now - self._asked_clock >= self._clock_seconds:
            self._ask_clock(connection, now)

    def _ask_clock(self, connection: Connection, now: float) -> None:
        self._asked_clock = now
        connection.send(CLOCK_REQUEST.pack(b"T", time.perf_counter()))

    @property
    def _clock_seconds(self) -> float:
        return CLOCK_SECONDS

    @property
    def _silence(self) -> float:
        return SILENCE

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
            if self._avatar is not None:
                # Before any packet: those wait for an avatar that is ready.
                for message in (*self._opening(), {"show": self._avatar[1]}):
                    connection.send(message)

    def _connected(self) -> Connection:
        """A new connection on which we have said who we are. Raises UserError."""
        connection = self._introduced(self._address)
        self._heard = time.monotonic()
        return connection

    def _introduced(self, address: ServerAddress, **more: Any) -> Connection:
        connection = Connection(address, self.path, self.program)
        hello = {
            "version": VERSION,
            "model": self._model,
            "session": self._session,
            "subflows": connection.secret,
        }
        connection.send({**hello, **more})
        return connection

    def _back_off(self) -> None:
        self._stop.wait(min(RETRY * self._failures, MOST_RETRY))
        self._failures += 1

    def _take(self, connection: Connection, message: bytes | str) -> None:
        """A message of the server. Raises ValueError, KeyError or TypeError where it is malformed."""
        if isinstance(message, str):
            self._obey(connection, parse_json(message))
        elif message[:1] == b"T" and len(message) == CLOCK_REPLY.size:
            _, sent, received, answered = CLOCK_REPLY.unpack(message)
            self.clock.add(sent, received, answered, time.perf_counter())

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
