"""Where the machine that renders is, and a connection to it and no other."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import queue
import secrets
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from livepuppet.core.errors import UserError
from livepuppet.realtime.remote.protocol import LARGEST_MESSAGE, PATH
from livepuppet.realtime.remote.subflows import COPIES, NUDGE, SUBFLOWS, SubflowReceiver

#: Of the package websockets, which has news of connections that are cut while something arrives: `Connection.receive` says so.
_UNHEARD = logging.getLogger("livepuppet.websockets")
_UNHEARD.addHandler(logging.NullHandler())
_UNHEARD.propagate = False

#: Seconds that connecting may take, and each of its steps.
CONNECT_SECONDS = 2.0


#: Of Linux (tcp.h), which Python does not name: few packets on their way are sent again after the same time each time, not after
#: twice as long.
TCP_THIN_LINEAR_TIMEOUTS = 16


#: Seconds after which a connection ends whose other end acknowledges nothing: of several, one alone may be dead.
UNACKNOWLEDGED_SECONDS = 10


def hurry(wire: socket.socket) -> None:
    """Have messages sent at once, and what was lost again soon; on a socket that listens, for those that it accepts."""
    with suppress(OSError):
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            wire.setsockopt(socket.IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNACKNOWLEDGED_SECONDS)


@dataclass(frozen=True)
class ServerAddress:
    """What `livepuppet serve` and `receive` print.

    Attributes:
        host, port: where it listens.
        token: proves that we may use it.
        fingerprint: SHA-256 of its certificate in lower-case hexadecimal digits; None without TLS, on this computer.
    """

    host: str
    port: int
    token: str = field(repr=False)
    fingerprint: str | None

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """From `https://HOST:PORT/#token=...&fingerprint=...`. Raises UserError."""
        wrong = UserError(
            "The address of the other machine has to be copied whole, as it is printed there: "
            "https://HOST:PORT/#token=...&fingerprint=..."
        )
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError:
            raise wrong from None
        values = {name: found[0] for name, found in parse_qs(parts.fragment).items()}
        token, fingerprint = values.get("token", ""), values.get("fingerprint", "").replace(":", "").lower()
        if parts.scheme not in ("http", "https") or not parts.hostname or not port or not token:
            raise wrong
        if parts.scheme == "http":
            if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
                raise UserError("Without TLS only this computer can be asked: give the https address.")
            return cls(parts.hostname, port, token, None)
        if len(fingerprint) != 64 or set(fingerprint) - set("0123456789abcdef"):
            raise wrong
        return cls(parts.hostname, port, token, fingerprint)

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection:
    """A websocket to a server, and further subflows where those are wanted. Any thread may send, one receives.

    Args:
        address: of the server.
        path: of the websocket.
        program: what people start over there.

    Attributes:
        secret: what the hello has to say as "subflows" for `widen`.

    Raises:
        UserError: nobody answers there, it is another machine, or it refuses.
    """

    def __init__(self, address: ServerAddress, path: str = PATH, program: str = "livepuppet serve"):
        self._asked = (address, path, program)
        self.secret = secrets.token_hex(16)
        #: Guards the subflows.
        self._lock = Lock()
        self._subflows = [_connect(*self._asked)]
        self._wide = self._closed = self._numbered = False
        self._incoming: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._received, self._turn = SubflowReceiver(), deque()
        #: The subflow that brought the last numbered message, and that of the last message that stands alone.
        self._heard = self._rotated = 0

    @property
    def peer(self) -> str:
        """The server's address, without a port."""
        return self._subflows[0].socket.getpeername()[0]

    @property
    def subflows(self) -> int:
        """How many there are."""
        return len(self._subflows)

    def widen(self) -> None:
        """Open further subflows, soon; called by the thread that receives, after the server has answered. Safe to call again."""
        if not self._wide:
            self._wide = True
            self._pump(0, self._subflows[0])
            Thread(target=self._open_subflows, name="subflows", daemon=True).start()

    def send(self, message: bytes | dict) -> None:
        """Send bytes, or a JSON object. A connection that is broken is found out by `receive`."""
        if message[:1] == b"K" and self._numbered if isinstance(message, bytes) else False:
            # A numbered picture was acknowledged already.
            return
        self._send_over(
            self._subflows_for(message), json.dumps(message) if isinstance(message, dict) else message
        )

    def receive(self, seconds: float) -> bytes | str | None:
        """The next message; None where none comes in time. Raises ConnectionError where it is broken."""
        deadline = time.monotonic() + seconds
        try:
            while not self._turn:
                left = max(deadline - time.monotonic(), 0.0)
                subflow, message = (
                    self._incoming.get(timeout=left)
                    if self._wide
                    else (0, self._subflows[0].recv(timeout=left))
                )
                if isinstance(message, Exception):
                    raise message
                if message == NUDGE:
                    continue
                if not isinstance(message, bytes) or message[:1] not in (b"M", b"S"):
                    return message
                self._numbered = True
                turn = self._received.take(message, time.monotonic())
                self._turn.extend(turn)
                self._heard = subflow
                answer = self._received.acknowledgement(message, subflow)
                self._send_over(self._ways if turn else (subflow,), answer)
        except (TimeoutError, queue.Empty):
            return None
        except Exception as error:
            raise ConnectionError(str(error)) from error
        message = self._turn.popleft()
        return message.decode() if message[:1] == b"{" else message

    def close(self) -> None:
        """Take leave, and cut it. `receive` then raises."""
        # Its thread ends by itself; a server that is gone is not waited for.
        Thread(target=self._close, name="closing", daemon=True).start()

    def cut(self) -> None:
        """As `close`, without a word: the server keeps the session for a while."""
        for subflow in list(self._subflows):
            with suppress(Exception):
                subflow.socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
        for subflow in list(self._subflows):
            with suppress(Exception):
                subflow.close()

    def _send_over(self, subflows: Sequence[int], data: bytes | str) -> None:
        for subflow in subflows:
            with suppress(Exception):
                self._subflows[subflow].send(data)

    @property
    def _ways(self) -> Sequence[int]:
        """Where packets are lost, two subflows, for what is small: what one of them holds up is not missed; else the last that
        worked.
        """
        copies = COPIES if self._received.lossy(time.monotonic()) else 1
        return [
            (self._heard + step) % len(self._subflows) for step in range(min(copies, len(self._subflows)))
        ]

    def _subflows_for(self, message: bytes | dict) -> Sequence[int]:
        if message == {"key": True}:
            return (self._heard,)
        if isinstance(message, dict) or message[:1] == b"A":
            # In order.
            return (0,)
        if message[:1] in (b"N", b"T"):
            # Each stands alone: a subflow that is held up takes a few of them, not all.
            copies = min(COPIES if self._received.lossy(time.monotonic()) else 1, len(self._subflows))
            turn = [(self._rotated + step) % len(self._subflows) for step in range(1, copies + 1)]
            self._rotated = turn[-1]
            return turn
        return self._ways

    def _open_subflows(self) -> None:
        with suppress(UserError):
            for _ in range(1, SUBFLOWS):
                subflow = _connect(*self._asked)
                if not _joined(subflow, self.secret):
                    subflow.close()
                    return
                with self._lock:
                    if self._closed:
                        subflow.close()
                        return
                    self._subflows.append(subflow)
                    self._pump(len(self._subflows) - 1, subflow)

    def _pump(self, number: int, subflow: Any) -> None:
        def pump() -> None:
            try:
                while True:
                    self._incoming.put((number, subflow.recv()))
            except Exception as error:
                self._incoming.put((number, error))

        Thread(target=pump, name="subflow", daemon=True).start()


def _joined(subflow: Any, secret: str) -> bool:
    """Whether the server takes it for a subflow of the connection with this secret."""
    with suppress(Exception):
        subflow.send(json.dumps({"subflow": secret}))
        return json.loads(subflow.recv(timeout=CONNECT_SECONDS)) == {"subflow": True}
    return False


def _connect(address: ServerAddress, path: str, program: str) -> Any:
    try:
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect
    except ImportError as error:
        raise UserError(
            "Drawing elsewhere needs the package websockets: pip install 'livepuppet[studio]'."
        ) from error
    place = address.place
    try:
        plain = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
    except OSError as error:
        raise UserError(
            f"Nobody answers at {place} ({error.strerror or error}): start {program} there, and let the firewall pass it."
        ) from error
    wire = plain
    try:
        hurry(plain)
        if address.fingerprint is not None:
            wire = _secured(plain, address)
        # The token is shown only once it is known to whom.
        opening = connect(
            f"ws://{place}{path}",
            sock=wire,
            subprotocols=["livepuppet", f"token.{address.token}"],  # type: ignore[list-item]
            compression=None,
            max_size=LARGEST_MESSAGE,
            open_timeout=CONNECT_SECONDS,
            close_timeout=0.2,
            ping_interval=None,
            logger=_UNHEARD,
        )
        # Entered, as newer websockets want it; `Connection` closes it.
        return opening.__enter__()
    except InvalidStatus as error:
        wire.close()
        raise UserError(f"{place} refuses: copy the address again, with its token.") from error
    except (OSError, WebSocketException, TimeoutError) as error:
        wire.close()
        raise UserError(f"{place} is no {program}, or of another version ({error}).") from error


def _secured(plain: socket.socket, address: ServerAddress) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # No authority vouches for the certificate: it is pinned by its fingerprint.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wire = context.wrap_socket(plain)
    found = hashlib.sha256(wire.getpeercert(binary_form=True) or b"").hexdigest()
    if not hmac.compare_digest(found, address.fingerprint or ""):
        wire.close()
        raise UserError(
            f"The certificate of {address.host} is not the one of its address: somebody may listen on the way. Copy the "
            "address again from the machine that renders."
        )
    return wire
