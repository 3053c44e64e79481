"""What servers of other machines know of one client: its connection, and how much it may send."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.websockets import WebSocket, WebSocketDisconnect

from livepuppet.core.errors import UserError

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
    """The messages on their way to one client. Belongs to the server's thread, but for `send_from_elsewhere`."""

    def __init__(self, socket: WebSocket):
        self.socket = socket
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | dict] = asyncio.Queue(MOST_WAITING)
        self._sending = asyncio.ensure_future(self._send_all())
        self._serving = asyncio.current_task()

    def send(self, message: bytes | dict) -> None:
        """Send soon. What a client does not read is dropped: pictures are acknowledged, so only one that lies gets so far."""
        with suppress(asyncio.QueueFull):
            self._queue.put_nowait(message)

    def send_from_elsewhere(self, message: bytes | dict) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.send, message)

    def end_from_elsewhere(self, message: dict) -> None:
        """Send a message, and close the connection."""

        async def ending() -> None:
            await self.say_last(message)
            await self.close()

        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(ending(), self._loop)

    async def say_last(self, message: dict) -> None:
        """Send a message before the connection is closed."""
        self._sending.cancel()
        with suppress(Exception):
            await asyncio.wait_for(self.socket.send_text(json.dumps(message)), 1.0)

    async def close(self) -> None:
        self._sending.cancel()
        with suppress(Exception):
            await asyncio.wait_for(self.socket.close(), 1.0)

    def abandon(self) -> None:
        """The client has another connection."""
        if self._serving is not None:
            self._serving.cancel()

    async def _send_all(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                message = await self._queue.get()
                if isinstance(message, dict):
                    await self.socket.send_text(json.dumps(message))
                else:
                    await self.socket.send_bytes(message)
