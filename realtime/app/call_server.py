"""What `livepuppet receive` runs: it takes a sender's avatar and numbers, and has the live loop of its own session draw them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import re
import select
import socket
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.app.clients import BROKEN, Bucket, ClientConnection, Subflows, invitation, token_of
from livepuppet.realtime.app.control import control_token
from livepuppet.realtime.app.studio.access import PROTOCOL, Access, Wording
from livepuppet.realtime.app.studio.server import Server
from livepuppet.realtime.remote.call import CALL_PATH, TICKS, Receipt
from livepuppet.realtime.remote.datagrams import LONGEST, ForeignDatagram, Keys, Seal
from livepuppet.realtime.remote.packets import BadPacket, PacketDecoder, StalePacket, UnknownBase
from livepuppet.realtime.remote.protocol import (
    CLOCK_REPLY,
    CLOCK_REQUEST,
    LARGEST_MESSAGE,
    VERSION,
    BadMessage,
    parse_json,
    unpack_avatar,
)
from livepuppet.realtime.remote.receiving import CallSource

if TYPE_CHECKING:
    from livepuppet.realtime.app.loop import LiveLoop

logger = logging.getLogger(__name__)

#: Seconds within which a sender has to say hello, after which a silent one is cut (an avatar may take as long on its way), and for which
#: the place of one whose connection broke is kept for it.
HELLO_SECONDS, IDLE_SECONDS, KEPT_SECONDS = 3.0, 60.0, 20.0

#: Messages a second of one sender, datagrams among them, on average over two seconds, and avatars.
MOST_MESSAGES, MOST_AVATARS_A_SECOND = 150.0, 1.0

#: Foreign datagrams a second that are looked at without a pause, and the pause after each further one.
MOST_FOREIGN, PAUSE = 1000.0, 0.002

#: Avatars of a sender that are kept.
MOST_AVATARS = 4

#: Seconds between receipts, at least: about every second packet.
RECEIPT_SECONDS = 0.055

#: A packet that is said to be older came from a clock that is not known yet.
OLDEST = 5.0

WORDING = Wording(
    "receiver",
    "copy the address that livepuppet receive prints",
    "choose another port with livepuppet receive --port NUMBER",
)

WAITING = "Nobody sends yet: run livepuppet send on the other machine, as it is printed here."
LEFT = "The sender has left."
BROKE = "The connection to the sender broke: it is waited for."

#: Of the avatar that is shown while there is none.
_PAPER, _SIDE = (34, 37, 43), 512

_SESSION = re.compile("[0-9a-f]{32}")


def call_token() -> str:
    """The token of whoever may send, always the same on this computer. Raises UserError."""
    return hmac.new(control_token("receive").encode(), b"sender", hashlib.sha256).hexdigest()


def nobody(size: int) -> Avatar:
    """What is shown while nobody sends, for a model of `size`."""
    whole = np.full((_SIDE, _SIDE, 3), _PAPER, np.uint8)
    return Avatar("nobody", np.full((size, size, 3), _PAPER, np.uint8), None, whole)


class CallServer:
    """Receives from one sender at a time that knows the token, until closed.

    Args:
        live: draws; its source is `source`, and its only avatar `nobody`.
        source: is fed.
        token: of whoever may send.
        address, port: to listen at, for the connection and for datagrams; port 0 takes a free one.
        certificate: files of certificate and key, for TLS; None only on this computer.

    Attributes:
        port: where it listens.
        datagrams, foreign: good ones so far, and others.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(
        self,
        live: LiveLoop,
        source: CallSource,
        token: str,
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
    ):
        self._live, self._source = live, source
        self._connection: ClientConnection | None = None
        #: The sender's name for its session, while its place is kept.
        self._session: str | None = None
        self._left = -math.inf
        self._call: _Call | None = None
        self._subflows = Subflows()
        #: Belongs to the live loop's thread, as the animator's avatars do.
        self._avatars: OrderedDict[str, None] = OrderedDict()
        self._delay, self._delay_known = 0.0, -math.inf
        self.datagrams = self.foreign = 0
        app = Starlette(routes=[WebSocketRoute(CALL_PATH, self._serve)])
        secure = certificate is not None
        access = Access(app, token, open_to=secure, secure=secure, wording=WORDING)
        self._server = Server(access, address, port, self._report, certificate, LARGEST_MESSAGE, WORDING)
        self.port = self._server.port
        self._socket = _datagram_socket(address, self.port)
        self._stop = threading.Event()
        self._thread = start_thread(self._read_datagrams, "datagrams", self._stop)

    def address(self, host: str, token: str, fingerprint: str | None) -> str:
        """What `livepuppet send --to` takes. Arguments: as of `clients.invitation`."""
        return invitation(host, self.port, token, fingerprint)

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(3)
        self._server.close()

    # The server's thread.

    def _report(self, what: str) -> None:
        logger.warning("The receiver refused a sender: %s.", what)

    async def _serve(self, websocket: WebSocket) -> None:
        await websocket.accept(PROTOCOL)
        connection, shown = ClientConnection(websocket, MOST_MESSAGES), token_of(websocket)
        orderly = False
        try:
            hello = parse_json(await asyncio.wait_for(websocket.receive_text(), HELLO_SECONDS))
            if "subflow" in hello:
                await self._subflows.serve(shown, hello, websocket)
                return
            self._subflows.offer(shown, hello, connection)
            self._begin(self._checked(hello), connection)
            orderly = await self._listen(connection)
        except (WebSocketDisconnect, asyncio.TimeoutError, asyncio.CancelledError, RuntimeError, KeyError):
            pass
        except (BadMessage, BadPacket, LivePuppetError) as error:
            orderly = True
            reason = str(error) if isinstance(error, LivePuppetError) else f"It is not understood: {error}."
            await connection.say_last({"error": reason})
        finally:
            self._subflows.end(connection)
            self._end(connection, orderly)
            await connection.close()

    def _checked(self, hello: dict) -> str:
        """The sender's name for its session. Raises UserError and BadMessage."""
        model = self._live.animator.engine.model_name
        if hello.get("version") != VERSION:
            raise UserError("Both machines need the same version of livepuppet.")
        if hello.get("model") != model:
            raise UserError(f"This machine has the model {model}: give both the same --model.")
        session = hello.get("session")
        if not isinstance(session, str) or not _SESSION.fullmatch(session):
            raise BadMessage("session")
        return session

    def _begin(self, session: str, connection: ClientConnection) -> None:
        """Give the place to this sender. Raises UserError."""
        if self._connection is not None:
            if self._session != session:
                raise UserError("Somebody sends already: try again later.")
            # Its end has not come here yet: the network of the sender's machine has changed, say.
            self._connection.abandon()
        elif self._session != session:
            # Nothing of an earlier sender is kept for another one.
            self._forget()
        keys = Keys.make()
        self._session, self._connection = session, connection
        self._call = _Call(keys, connection)
        connection.send(
            {
                "welcome": VERSION,
                "engine": self._live.animator.engine.name,
                "datagrams": {"port": self._socket.getsockname()[1], **keys.as_dict()},
            }
        )

    def _end(self, connection: ClientConnection, orderly: bool) -> None:
        if self._connection is not connection:
            return
        self._connection, self._call, self._left = None, None, time.monotonic()
        self._source.stopped(LEFT if orderly else BROKE)
        if orderly:
            self._forget()
            return

        def forget() -> None:
            if self._connection is None and time.monotonic() - self._left >= KEPT_SECONDS - 0.1:
                self._source.stopped(LEFT)
                self._forget()

        asyncio.get_running_loop().call_later(KEPT_SECONDS, forget)

    def _forget(self) -> None:
        """Delete what a sender has brought."""
        self._session = None
        self._live.call(self._show_nobody)

    async def _listen(self, connection: ClientConnection) -> bool:
        """Do what the sender says. Returns whether it has taken leave, or has to."""
        call, avatars = self._call, Bucket(MOST_AVATARS_A_SECOND)
        assert call is not None
        wanted: str | None = None
        while True:
            message = await connection.receive(IDLE_SECONDS)
            received = time.perf_counter()
            if message["type"] != "websocket.receive":
                return message.get("code") not in BROKEN
            call.messages.take()
            data = message.get("bytes")
            if data is None:
                told = parse_json(message["text"])
                if isinstance(told.get("show"), str) and len(told["show"]) == 64:
                    digest = wanted = str(told["show"])
                    self._live.call(lambda digest=digest: self._show(connection, digest))
                elif "clock" in told:
                    call.set_clock(told["clock"])
            elif data[:1] == b"T" and len(data) == CLOCK_REQUEST.size:
                sent = CLOCK_REQUEST.unpack(data)[1]
                connection.send(CLOCK_REPLY.pack(b"T", sent, received, time.perf_counter()))
            elif data[:1] == b"N":
                receipt = self._take(call, data[1:], received)
                if receipt is not None:
                    connection.send(b"K" + receipt)
            elif data[:1] == b"A":
                avatars.take()
                digest, avatar = await asyncio.get_running_loop().run_in_executor(
                    None, unpack_avatar, data, self._live.animator.engine.size
                )
                if digest != wanted:
                    raise BadMessage("avatar")
                self._live.call(lambda digest=digest, avatar=avatar: self._add(connection, digest, avatar))
            else:
                raise BadMessage("kind")

    # The server's thread, and that of datagrams.

    def _take(self, call: _Call, packet: bytes, received: float) -> bytes | None:
        """Have a packet drawn. Returns a receipt where one is due. Raises BadPacket."""
        with call.lock:
            if self._call is not call:
                return None
            try:
                found = call.packets.decode(packet)
            except StalePacket:
                return None
            except UnknownBase:
                if received - call.complained > 0.1:
                    call.complained = received
                    call.connection.send_from_elsewhere({"no_base": True})
                return None
            call.came += 1
            self._source.put(found.request, call.captured(found.sent, received))
            if received - call.receipted < RECEIPT_SECONDS:
                return None
            call.receipted = received
            held = time.perf_counter() - received
            return Receipt(found.number, received, held, call.came, self._usual_delay(received)).pack()

    def _usual_delay(self, now: float) -> float:
        if now - self._delay_known > 1.0:
            latency, self._delay_known = self._live.stats.latency, now
            self._delay = latency.summary().get("p50", 0.0) / 1000 if latency.count else 0.0
        return self._delay

    # The thread of datagrams.

    def _read_datagrams(self) -> None:
        patience = Bucket(MOST_FOREIGN)
        with self._socket:
            while not self._stop.is_set():
                if not select.select([self._socket], [], [], 0.25)[0]:
                    continue
                # What an unreachable sender answers comes out here, too.
                with suppress(OSError):
                    datagram, sender = self._socket.recvfrom(LONGEST + 1)
                    self._take_datagram(datagram, sender, time.perf_counter(), patience)

    def _take_datagram(self, datagram: bytes, sender: tuple, received: float, patience: Bucket) -> None:
        call = self._call
        try:
            if call is None:
                raise ForeignDatagram("nobody sends")
            number, body = call.up.open(datagram)
            call.messages.take()
            receipt = self._take(call, number.to_bytes(4, "little") + body, received)
        except (ForeignDatagram, BadPacket):
            self.foreign += 1
            self._wait_out(patience)
            return
        except UserError:
            # More than may be: what comes too fast is not looked at.
            return
        self.datagrams += 1
        if receipt is not None:
            call.receipts += 1
            # A sender's address may change; whoever replays its packets from another one has none that is new.
            self._socket.sendto(call.down.close(call.receipts, receipt), sender)

    def _wait_out(self, patience: Bucket) -> None:
        """Whoever floods this port shall not take the time in which pictures are drawn: the sender then goes over its connection."""
        try:
            patience.take()
        except UserError:
            time.sleep(PAUSE)

    # The live loop's thread.

    def _add(self, connection: ClientConnection, digest: str, avatar: Avatar) -> None:
        if self._connection is not connection:
            return
        try:
            if digest not in self._avatars:
                # What packets have to hold depends on its rig.
                self._live.animator.add(len(self._live.animator), avatar, wait=True)
            self._avatars[digest] = None
        except LivePuppetError as error:
            connection.send_from_elsewhere({"error": str(error)})
            return
        self._show(connection, digest)

    def _show(self, connection: ClientConnection, digest: str) -> None:
        if self._connection is not connection:
            return
        if digest not in self._avatars:
            connection.send_from_elsewhere({"need": digest})
            return
        animator = self._live.animator
        self._avatars.move_to_end(digest)
        animator.select(digest[:16])
        while len(self._avatars) > MOST_AVATARS:
            oldest, _ = self._avatars.popitem(last=False)
            animator.remove(animator.names.index(oldest[:16]))
        parts = animator.shown_residuals
        connection.send_from_elsewhere(
            {"ready": digest, "keypoints": parts is None, "rig": animator.has_rig, "parts": parts}
        )

    def _show_nobody(self) -> None:
        animator = self._live.animator
        animator.select(0)
        while len(animator) > 1:
            animator.remove(1)
        self._avatars.clear()


class _Call:
    """One connection of a sender, with its datagrams."""

    def __init__(self, keys: Keys, connection: ClientConnection):
        self.connection = connection
        self.up, self.down = Seal(keys.call, keys.up), Seal(keys.call, keys.down)
        self.packets, self.messages = PacketDecoder(), Bucket(MOST_MESSAGES)
        self.lock = threading.Lock()
        self.came = self.receipts = 0
        self.receipted = self.complained = -math.inf
        self._offset: float | None = None

    def set_clock(self, offset: object) -> None:
        """What our clock shows more than the sender's, in seconds. Raises BadMessage."""
        if not isinstance(offset, (int, float)) or not math.isfinite(offset) or abs(offset) > 1e9:
            raise BadMessage("clock")
        self._offset = float(offset)

    def captured(self, sent: int, received: float) -> float:
        """When a frame was taken, by our clock, from its 32 bits of the sender's."""
        if self._offset is None:
            return received
        age = (int((received - self._offset) * TICKS) - sent) & 0xFFFFFFFF
        return received - age / TICKS if age < OLDEST * TICKS else received


def _datagram_socket(address: str, port: int) -> socket.socket:
    """At this port, or another one where it is taken. Raises UserError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    for number in (port, 0):
        try:
            opened.bind((address, number))
            break
        except OSError as error:
            if not number:
                opened.close()
                raise UserError(f"There is no UDP port at {address} ({error.strerror or error}).") from error
    opened.setblocking(False)
    return opened
