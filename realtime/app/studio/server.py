"""The server of studio and remote rendering: uvicorn in a thread of its own, with bounds on everything a client can do."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.studio.access import STUDIO, Wording
from livepuppet.realtime.remote.connection import hurry

logger = logging.getLogger(__name__)

#: Connections that are open at the same time, websockets included: a few pages have six each. And
#: of those, of one other machine.
MOST_CONNECTIONS, MOST_OF_ONE_MACHINE = 64, 24

#: Seconds within which a connection has to have sent a request's headers, and shaken hands for TLS.
FIRST_REQUEST_SECONDS = 3.0

#: Seconds after which a client that reads nothing of its answer is cut.
SLOW_READER_SECONDS = 10.0

#: Seconds without a byte after which one whose request was refused half read is cut, and seconds
#: after which it is in any case.
LINGER_SECONDS, THROWING_SECONDS = 1.0, 20.0

#: Bytes of the rest that are taken and thrown away, of a request that says how long it is, and of
#: one that does not: who is cut while it sends may never see the answer.
MOST_THROWN_AWAY, MOST_UNANNOUNCED = 256 << 20, 16 << 20

#: Bytes of a request's headers.
LARGEST_HEADERS = 16 << 10

#: Of a message that a page sends by websocket.
LARGEST_MESSAGE = 4096


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP, which also turns away who comes too many, and cuts who says nothing."""

    #: Connections of this server, websockets included, by their transports, oldest first.
    open: dict[asyncio.BaseTransport, BoundedProtocol]
    report: Callable[[str], None]
    #: Of all machines, and of one other.
    most: tuple[int, int]
    _slow: asyncio.TimerHandle | None = None
    _lingering: asyncio.TimerHandle | None = None
    _answered = False
    _thrown_away = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        for gone in [one for one in self.open if one.is_closing()]:
            del self.open[gone]
        self._machine = str((transport.get_extra_info("peername") or ("",))[0])
        self._refused = not self._has_room()
        if self._refused:
            transport.abort()
            return
        self.open[transport] = self
        super().connection_made(transport)
        self._deadline = self.loop.call_later(FIRST_REQUEST_SECONDS, self._cut_silent)

    def _has_room(self) -> bool:
        """Whether this one may come in. Where all places are taken, the oldest connection that
        asks for nothing makes room: who only keeps places keeps nobody out.
        """
        most, most_of_this = self.most
        of_this = sum(one._machine == self._machine for one in self.open.values())
        if of_this >= most_of_this and not is_loopback(self._machine):
            self.report(f"there are {most_of_this} connections of {self._machine} already")
            return False
        if len(self.open) < most:
            return True
        self.report(f"there are {most} connections already")
        idle = next((one for one in self.open.values() if one.is_idle), None)
        if idle is None:
            return False
        del self.open[idle.transport]
        idle.transport.abort()
        return True

    @property
    def is_idle(self) -> bool:
        """Whether it asks for nothing now: not yet (`scope` is set with the first request), no more
        (what comes is the rest of a refused request), or not again so far.
        """
        if self.transport.get_protocol() is not self:
            return False  # a websocket
        return (
            self.scope is None or self._answered or (self.cycle is not None and self.cycle.response_complete)
        )

    def _cut_silent(self) -> None:
        if self.scope is None and not self.transport.is_closing():
            self.report("a connection sent no request in time")
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if not self._answered:
            super().data_received(data)
            return
        self._thrown_away += len(data)
        announced = self.scope is not None and any(
            name == b"content-length" for name, _ in self.scope["headers"]
        )
        if self._thrown_away > (MOST_THROWN_AWAY if announced else MOST_UNANNOUNCED):
            self.transport.abort()
        elif self._lingering is not None:
            self._linger()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._refused:
            return
        for timer in (self._deadline, self._slow, self._lingering):
            if timer is not None:
                timer.cancel()
        self.open.pop(self.transport, None)
        super().connection_lost(exc)

    def eof_received(self) -> None:
        if not self._refused:
            super().eof_received()

    def on_response_complete(self) -> None:
        if self.cycle is None or not self.cycle.more_body:
            super().on_response_complete()
            return
        # It was refused before it was read, and uvicorn would read the rest to its end, however long.
        self._answered = True
        self.flow.resume_reading()
        self._throw_away_the_rest()

    def _throw_away_the_rest(self) -> None:
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger()
        self._deadline.cancel()
        self._deadline = self.loop.call_later(THROWING_SECONDS, self.transport.abort)

    def _linger(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingering = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow = self.loop.call_later(SLOW_READER_SECONDS, self._cut_slow)

    def resume_writing(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        super().resume_writing()

    def _cut_slow(self) -> None:
        self.report("a client read nothing of what it asked for")
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self.report("a request was no HTTP, or its headers were too long")
        # uvicorn closes at once: what of the request is still on its way would then have the answer
        # thrown away before the client has read it.
        body = msg.encode("ascii", "replace")
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self._answered = True
        self._throw_away_the_rest()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's websocket, which also cuts who reads nothing."""

    _slow: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow = self.loop.call_later(SLOW_READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._not_slow()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._not_slow()
        super().connection_lost(exc)

    def _not_slow(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's, whose TLS waits as short a time for hands as for requests: it gives a minute."""

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", FIRST_REQUEST_SECONDS)
        return await super().create_server(*arguments, **options)


class _Config(uvicorn.Config):
    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        return _Loop


class Server:
    """Serves an ASGI application until closed.

    Args:
        app: the application.
        address, port: to listen at; port 0 takes a free one.
        report: called with what was refused on the way, in words.
        certificate: files of certificate and key, for TLS.
        largest_message: of websockets, in bytes.
        wording: in what people read.
        most_connections: at the same time, and of those of one other machine.

    Attributes:
        port: where it listens.

    Raises:
        UserError: the port is taken, or the address is none of this computer's.
    """

    def __init__(
        self,
        app: Any,
        address: str,
        port: int,
        report: Callable[[str], None],
        certificate: tuple[Path, Path] | None = None,
        largest_message: int = LARGEST_MESSAGE,
        wording: Wording = STUDIO,
        most_connections: tuple[int, int] = (MOST_CONNECTIONS, MOST_OF_ONE_MACHINE),
    ):
        self._wording = wording
        self._socket = _listen(address, port, wording)
        self.port: int = self._socket.getsockname()[1]

        # What its connections share is the server's own.
        shared = {"open": {}, "report": staticmethod(report), "most": most_connections}
        config = _Config(
            app,
            http=type("Protocol", (BoundedProtocol,), shared),
            ws=BoundedWebSocket,
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws_max_size=largest_message,
            ws_per_message_deflate=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=LARGEST_HEADERS,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
        # Also the lowest version of TLS, which uvicorn leaves to OpenSSL.
        config.load()
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=wording.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:
            logger.exception("The %s ended.", self._wording.name)

    def close(self) -> None:
        """Stop listening and cut what is open. Safe to call twice."""
        self._server.should_exit = True
        self._thread.join(2)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(3)
        self._socket.close()


def is_loopback(address: str) -> bool:
    """Whether it is an address of this computer that no other one can have."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def is_ours(address: str) -> bool:
    """Whether this computer has that address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _listen(address: str, port: int, wording: Wording) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is said: without it, messages wait for acknowledgements of those before.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif os.name != "nt":
            # Only ends the wait for a port that was just used.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hurry(listening)
        listening.bind((address, port))
        listening.listen(32)
    except (OSError, OverflowError) as error:
        listening.close()
        if not is_ours(address):
            raise UserError(
                f"{address} is no address of this computer: give one that it has, or 0.0.0.0 for all of them."
            ) from error
        raise UserError(
            f"The {wording.name} cannot listen at {address}, port {port} ({getattr(error, 'strerror', None) or error}): stop "
            f"the other livepuppet, or {wording.port_remedy}."
        ) from error
    listening.set_inheritable(False)
    return listening
