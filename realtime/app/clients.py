"""What servers of other machines know of one client: its connection, and how much it may send."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.websockets import WebSocket, WebSocketDisconnect

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.studio.access import TOKEN_PROTOCOL
from livepuppet.realtime.remote.protocol import ACKNOWLEDGE, BadMessage
from livepuppet.realtime.remote.subflows import (
    COPIES,
    MOST_UNACKNOWLEDGED,
    NUDGE,
    SUBFLOWS,
    SubflowReceiver,
    SubflowSender,
)

#: Messages that wait for a client who does not read.
MOST_WAITING = 32

#: Codes of a websocket that ended without a word (RFC 6455, section 7.4).
BROKEN = (None, 1005, 1006)


def invitation(host: str, port: int, token: str, fingerprint: str | None) -> str:
    """What `remote.connection.ServerAddress` takes.

    Args:
        host: as addresses have it.
        fingerprint: of the certificate, as `tls.certificate` returns it; None without TLS.
    """
    pinned = "" if fingerprint is None else f"&fingerprint={fingerprint.replace(':', '').lower()}"
    # What stands behind # is never sent, and so never logged.
    return f"{'https' if pinned else 'http'}://{host}:{port}/#token={quote(token)}{pinned}"


@dataclass
class Bucket:
    """At most so many messages a second, on average over two seconds."""

    rate: float
    tokens: float = field(init=False)
    filled: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.tokens = 2 * self.rate

    def take(self) -> None:
        """Count one. Raises UserError where it is one too many."""
        now = time.monotonic()
        self.tokens = min(self.tokens + self.rate * (now - self.filled), 2 * self.rate) - 1
        self.filled = now
        if self.tokens < 0:
            raise UserError("Too many messages came.")


class ClientConnection:
    """The messages of one client, over one connection or several subflows. Belongs to the server's thread, but for what says otherwise.

    Args:
        socket: of the first subflow, from which the hello was not yet read.
        most: messages a second that the client may send.
    """

    def __init__(self, socket: WebSocket, most: float):
        self.socket = socket
        self._loop = asyncio.get_running_loop()
        self._subflows = [_Subflow(socket)]
        self._serving = asyncio.current_task()
        self._messages = Bucket(most)
        self._incoming: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(8)
        self._reading: asyncio.Task | None = None
        self._received, self._sender = SubflowReceiver(), None
        self._timer: asyncio.TimerHandle | None = None
        #: Sent pictures by the numbers of their messages, and what the client would say to each.
        self._pictures: deque[tuple[int, bytes]] = deque(maxlen=MOST_UNACKNOWLEDGED)
        #: The subflow of the message that is answered now.
        self._answered = 0

    def number(self) -> None:
        """Messages that have to arrive in order are numbered from now on, for subflows."""
        self._sender = SubflowSender(lambda subflow, data: self._subflows[subflow].queue.put_nowait(data))

    async def receive(self, seconds: float) -> dict[str, Any]:
        """The next message, as ASGI has it, of any subflow.

        Raises:
            asyncio.TimeoutError: none comes in time.
            UserError: the client sends too much.
            BadMessage: it is malformed.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read(0))
        self._answered, message = await asyncio.wait_for(self._incoming.get(), seconds)
        if isinstance(message, Exception):
            raise message
        return message

    async def serve_subflow(self, socket: WebSocket) -> None:
        """Use a further subflow until it ends. Raises BadMessage where there are enough."""
        if self._sender is None or len(self._subflows) >= SUBFLOWS:
            raise BadMessage("subflow")
        self._subflows.append(_Subflow(socket))
        number = len(self._subflows) - 1
        await socket.send_text(json.dumps({"subflow": True}))
        self._sender.subflows = len(self._subflows)
        await self._read(number)

    @property
    def acknowledges(self) -> bool:
        """Whether every message is acknowledged, so that no picture of the client's needs a receipt."""
        return self._sender is not None

    @property
    def lossy(self) -> bool:
        """Whether the network loses packets; any thread may ask."""
        return self._sender is not None and self._sender.lossy

    def send(self, message: bytes | dict, alone: bool = False) -> None:
        """Send soon. What a client does not read is dropped: pictures are acknowledged, so only one that lies gets so far.

        Args:
            alone: a picture that needs none before it.
        """
        if self._sender is None or (isinstance(message, bytes) and message[:1] != b"P"):
            self._subflows[self._answered].say(message)
            return
        try:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            number = self._sender.send(data, self._loop.time(), alone)
            if isinstance(message, bytes):
                self._pictures.append((number, ACKNOWLEDGE.pack(b"K", _numbered(message))))
        except BadMessage:
            self.abandon()
        self._check_in(0.0 if self._timer is None else None)

    def send_from_elsewhere(self, message: bytes | dict, alone: bool = False) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.send, message, alone)

    def end_from_elsewhere(self, message: dict) -> None:
        """Send a message, and close the connection."""

        async def ending() -> None:
            await self.say_last(message)
            await self.close()

        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(ending(), self._loop)

    async def say_last(self, message: dict) -> None:
        """Send a message before the connection is closed."""
        self._subflows[0].sending.cancel()
        with suppress(Exception):
            await asyncio.wait_for(self.socket.send_text(json.dumps(message)), 1.0)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
        for subflow in list(self._subflows):
            subflow.sending.cancel()
            with suppress(Exception):
                await asyncio.wait_for(subflow.socket.close(), 1.0)

    def abandon(self) -> None:
        """The client has another connection, or reads nothing."""
        if self._serving is not None:
            self._serving.cancel()

    async def _read(self, subflow: int) -> None:
        """Hand out what a subflow brings, until it ends."""
        socket = self._subflows[subflow].socket
        try:
            while True:
                message = await socket.receive()
                if message["type"] != "websocket.receive":
                    await self._incoming.put((subflow, message))
                    return
                self._messages.take()
                data = message.get("bytes") or b""
                if self._sender is None or data[:1] not in (b"M", b"S", b"m", NUDGE):
                    await self._incoming.put((subflow, message))
                elif data[:1] == b"m":
                    newest = self._sender.arrived(data, self._loop.time())
                    receipt = None
                    while self._pictures and self._pictures[0][0] <= newest:
                        receipt = self._pictures.popleft()[1]
                    if receipt is not None:
                        await self._incoming.put((subflow, {**message, "bytes": receipt}))
                elif data[:1] in (b"M", b"S"):
                    turn = self._received.take(data, self._loop.time())
                    answer = self._received.acknowledgement(data, subflow, self._sender.measured)
                    for way in self._ways(subflow) if turn else (subflow,):
                        self._subflows[way].say(answer)
                    for one in turn:
                        await self._incoming.put((subflow, {**message, "bytes": one}))
        except (BadMessage, UserError, RuntimeError) as error:
            await self._incoming.put((subflow, error))

    def _ways(self, subflow: int) -> Sequence[int]:
        """Where packets are lost, two subflows, for what is small: what one of them holds up is not missed; else this one."""
        now = self._loop.time()
        if self._sender is None or not self._sender.lossy:
            return (subflow,)
        return self._sender.free(now, subflow)[:COPIES]

    def _check_in(self, seconds: float | None) -> None:
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._sender is not None:
            self._check_in(self._sender.check(self._loop.time()))


class _Subflow:
    """A websocket, and what waits to be sent over it."""

    def __init__(self, socket: WebSocket):
        self.socket = socket
        self.queue: asyncio.Queue[bytes | dict] = asyncio.Queue()
        self.sending = asyncio.ensure_future(self._send_all())

    def say(self, message: bytes | dict) -> None:
        """Send what is not missed where the other end does not read."""
        if self.queue.qsize() < MOST_WAITING:
            self.queue.put_nowait(message)

    async def _send_all(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                message = await self.queue.get()
                if isinstance(message, dict):
                    await self.socket.send_text(json.dumps(message))
                else:
                    await self.socket.send_bytes(message)


class Subflows:
    """The connections of a server that may have further subflows, found by whoever knows a connection's token and secret."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], ClientConnection] = {}

    def offer(self, token: str, hello: dict, connection: ClientConnection) -> None:
        """A connection began. Raises BadMessage."""
        secret = hello.get("subflows")
        if secret is None:
            return
        if not isinstance(secret, str) or not _SECRET.fullmatch(secret) or (token, secret) in self._open:
            raise BadMessage("subflows")
        self._open[token, secret] = connection
        connection.number()

    async def serve(self, token: str, hello: dict, socket: WebSocket) -> None:
        """Use a socket as a subflow until it ends. Raises BadMessage where its connection is not known."""
        connection = self._open.get((token, str(hello["subflow"])))
        if connection is None:
            raise BadMessage("subflow")
        await connection.serve_subflow(socket)

    def end(self, connection: ClientConnection) -> None:
        """A connection ended."""
        for key in [key for key, one in self._open.items() if one is connection]:
            del self._open[key]


_SECRET = re.compile("[0-9a-f]{32}")


def _numbered(picture: bytes) -> int:
    """A picture's number, which follows its kind."""
    return ACKNOWLEDGE.unpack_from(picture)[1]


def token_of(socket: WebSocket) -> str:
    """What a client has shown."""
    offered = [text for text in socket.scope["subprotocols"] if text.startswith(TOKEN_PROTOCOL)]
    return "".join(offered[:1]).removeprefix(TOKEN_PROTOCOL)
