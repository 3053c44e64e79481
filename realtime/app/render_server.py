"""What `livepuppet serve` runs: it renders for cameras of other machines, each in a session of its own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from livepuppet.core.engine import Engine
from livepuppet.core.errors import UserError
from livepuppet.realtime.app.clients import BROKEN, Bucket, ClientConnection, Subflows, invitation, token_of
from livepuppet.realtime.app.control import control_token
from livepuppet.realtime.app.remote_page.page import page_routes
from livepuppet.realtime.app.remote_page.protocol import LARGEST_PICTURE, PAGE_PATH, PAGE_VERSION, RECEIPT
from livepuppet.realtime.app.remote_page.session import Offered, PageSession
from livepuppet.realtime.app.render_session import RenderSession, SharedEngine, Watcher
from livepuppet.realtime.app.studio.access import PROTOCOL, Access, Wording
from livepuppet.realtime.app.studio.server import MOST_CONNECTIONS, MOST_OF_ONE_MACHINE, Server
from livepuppet.realtime.outputs.badge import BADGE_TEXT, COMMENT, XMP
from livepuppet.realtime.remote.packets import BadPacket, PacketDecoder, StalePacket, UnknownBase
from livepuppet.realtime.remote.protocol import (
    ACKNOWLEDGE,
    CLOCK_REPLY,
    CLOCK_REQUEST,
    LARGEST_MESSAGE,
    PATH,
    VERSION,
    BadMessage,
    Canvas,
    parse_json,
)
from livepuppet.realtime.remote.subflows import SUBFLOWS
from livepuppet.realtime.remote.video import NAMES

logger = logging.getLogger(__name__)

#: Seconds within which a client has to say hello, after which a silent one is cut (an avatar may take as long on its way), and for
#: which the session of one whose connection broke is kept.
HELLO_SECONDS, IDLE_SECONDS, KEPT_SECONDS = 3.0, 60.0, 20.0

#: Messages a second of one client, on average over two seconds, and of avatars.
MOST_MESSAGES, MOST_AVATARS_A_SECOND = 600.0, 1.0

#: For people.
WORDING = Wording(
    "render server",
    "copy the address that livepuppet serve prints",
    "choose another port with livepuppet serve --port NUMBER",
)

#: A client's name for its session.
SESSION = re.compile("[0-9a-f]{32}")


def token_for(person: str) -> str:
    """A person's token, always the same on this computer. Raises UserError."""
    return hmac.new(control_token("serve").encode(), person.encode(), hashlib.sha256).hexdigest()


@dataclass
class Place:
    """One of the server's places.

    Attributes:
        key: the client's token and its name for its session: nobody finds another one's.
        session: None until the client's canvas is known; a page's is there at once.
        connection: None while the client is away.
        left: when it went, by `time.monotonic()`.
    """

    key: tuple[str, str]
    session: RenderSession | PageSession | None = None
    connection: ClientConnection | None = None
    left: float = 0.0


def connections(places: int) -> tuple[int, int]:
    """Connections at the same time, and of one machine, for so many places: who comes again, and who is refused, needs one, too."""
    each = SUBFLOWS + 3
    return max(MOST_CONNECTIONS, each * places), max(MOST_OF_ONE_MACHINE, each * places)


class RenderServer:
    """Renders for clients that know a token, until closed.

    Args:
        engine: loaded; renders what rigs do not.
        tokens: of everybody who may come; or what says whether one is known.
        address, port: to listen at; port 0 takes a free one.
        certificate: files of certificate and key, for TLS; None only on this computer.
        places: sessions at the same time.
        watcher: of all sessions.
        page: serve the page, too, by which a browser sends its camera, with these pictures to move.
        names: that the certificate is for, beside this computer's.

    Attributes:
        port: where it listens.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Sequence[str] | Callable[[str], bool],
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        places: int = 4,
        watcher: Watcher | None = None,
        page: Sequence[Offered] | None = None,
        names: Sequence[str] = (),
    ):
        self._engine: Any = SharedEngine(engine)
        self._most_places = places
        self._watcher = watcher
        #: By their keys. Belongs to the server's thread.
        self._places: dict[tuple[str, str], Place] = {}
        self._subflows = Subflows()
        self._offered = page or ()
        routes: list[BaseRoute] = [WebSocketRoute(PATH, self._serve)]
        if page is not None:
            routes += [WebSocketRoute(PAGE_PATH, self._serve_page), *page_routes(page)]
        secure = certificate is not None
        access = Access(
            Starlette(routes=routes),
            tokens,
            secure,
            secure,
            wording=WORDING,
            open_pages=page is not None,
            names=names,
        )
        self._server = Server(
            access, address, port, self._report, certificate, LARGEST_MESSAGE, WORDING, connections(places)
        )
        self.port = self._server.port

    @property
    def sessions(self) -> int:
        """How many there are, of clients that are away for a moment, too."""
        return len(self._places)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(place.connection is not None for place in list(self._places.values()))

    def address(self, host: str, token: str, fingerprint: str | None) -> str:
        """What `--server` takes.

        Args:
            host: as addresses have it.
            fingerprint: of the certificate, as `tls.certificate` returns it; None without TLS.
        """
        return invitation(host, self.port, token, fingerprint)

    def close(self) -> None:
        """Stop listening and end every session."""
        self._server.close()
        for place in list(self._places.values()):
            if place.session is not None:
                place.session.close()
        self._places.clear()

    # The server's thread.

    def _report(self, what: str) -> None:
        logger.warning("The render server refused a client: %s.", what)

    async def _serve(self, socket: WebSocket) -> None:
        async def begin(shown: str, hello: dict, connection: ClientConnection) -> Place:
            place = self._take_place(shown, self._checked(hello), hello, connection)
            connection.send({"welcome": VERSION, "engine": self._engine.name})
            return place

        await self._converse(socket, begin, self._listen)

    async def _serve_page(self, socket: WebSocket) -> None:
        async def begin(shown: str, hello: dict, connection: ClientConnection) -> Place:
            if hello.get("version") != PAGE_VERSION:
                raise UserError("This page is of another version: load it again.")
            codecs = hello.get("codecs")
            if not isinstance(codecs, list) or not all(codec in NAMES for codec in codecs):
                raise BadMessage("codecs")
            # Other clients' names are digits alone, so neither finds the other's session.
            place = self._take_place(shown, f"page {_session_of(hello)}", hello, connection)
            made = None
            if place.session is None:
                echo = hello.get("echo") is True
                made = place.session = PageSession(self._engine, self._offered, codecs, echo)
            welcome = {
                "welcome": PAGE_VERSION,
                "codecs": list(NAMES),
                "offered": [one.name for one in self._offered],
                "words": {"badge": BADGE_TEXT, "comment": COMMENT, "xmp": XMP.decode()},
                "resumed": made is None,
            }
            connection.send(welcome)
            if made is not None:
                made.attach(connection.send_from_elsewhere, lambda: connection.lossy)
            return place

        await self._converse(socket, begin, self._listen_to_page)

    async def _converse(
        self,
        socket: WebSocket,
        begin: Callable[[str, dict, ClientConnection], Awaitable[Place]],
        listen: Callable[[ClientConnection, Any], Awaitable[bool]],
    ) -> None:
        await socket.accept(PROTOCOL)
        connection, shown = ClientConnection(socket, MOST_MESSAGES), token_of(socket)
        place = None
        orderly = False
        try:
            hello = parse_json(await asyncio.wait_for(socket.receive_text(), HELLO_SECONDS))
            if "subflow" in hello:
                await self._subflows.serve(shown, hello, socket)
                return
            self._subflows.offer(shown, hello, connection)
            place = await begin(shown, hello, connection)
            orderly = await listen(connection, place)
        except (WebSocketDisconnect, asyncio.TimeoutError, asyncio.CancelledError, RuntimeError, KeyError):
            pass
        except (BadMessage, BadPacket, UserError) as error:
            orderly = True
            reason = str(error) if isinstance(error, UserError) else f"It is not understood: {error}."
            await connection.say_last({"error": reason})
        finally:
            self._subflows.end(connection)
            if place is not None:
                self._leave(place, connection, orderly)
            await connection.close()

    def _checked(self, hello: dict) -> str:
        """The client's name for its session. Raises UserError and BadMessage."""
        if hello.get("version") != VERSION:
            raise UserError("Both machines need the same version of livepuppet.")
        if hello.get("model") != self._engine.model_name:
            raise UserError(
                f"This machine has the model {self._engine.model_name}: give both the same --model."
            )
        return _session_of(hello)

    def _take_place(self, token: str, session: str, hello: dict, connection: ClientConnection) -> Place:
        """Its old place, or a free one. Raises UserError."""
        place = self._find_place(token, session, hello)
        self._places[place.key] = place
        if place.connection is not None:
            # Its end has not come here yet: the network of the camera's machine has changed, say.
            place.connection.abandon()
        place.connection = connection
        if place.session is not None:
            place.session.attach(connection.send_from_elsewhere, lambda: connection.lossy)
        return place

    def _find_place(self, token: str, session: str, hello: dict) -> Place:
        place = self._places.get((token, session))
        if place is None:
            self._make_room(len(self._places), self._most_places)
            place = Place((token, session))
        return place

    def _make_room(self, taken: int, most: int) -> None:
        """End the session of whoever is away longest where all places are taken. Raises UserError."""
        if taken < most:
            return
        away = [(place.left, key) for key, place in self._places.items() if place.connection is None]
        if not away:
            raise UserError(f"All {most} places are taken: try again later.")
        self._end(min(away)[1])

    def _frame_comes(self, place: Place) -> None:
        """Before it is rendered. Raises UserError."""

    def _avatar_comes(self, place: Place, message: bytes) -> None:
        """Before it is looked at. Raises UserError."""

    def _leave(self, place: Place, connection: ClientConnection, orderly: bool) -> None:
        if place.session is not None:
            place.session.detach(connection.send_from_elsewhere)
        if place.connection is not connection:
            return
        place.connection, place.left = None, time.monotonic()
        if orderly or place.session is None:
            self._end(place.key)
            return

        def forget() -> None:
            gone = place.connection is None and time.monotonic() - place.left >= KEPT_SECONDS - 0.1
            if gone and self._places.get(place.key) is place:
                self._end(place.key)

        asyncio.get_running_loop().call_later(KEPT_SECONDS, forget)

    def _end(self, key: tuple[str, str]) -> None:
        """Free a place; its avatars are gone with it."""
        place = self._places.pop(key, None)
        if place is not None and place.session is not None:
            asyncio.get_running_loop().run_in_executor(None, place.session.close)

    async def _listen(self, connection: ClientConnection, place: Place) -> bool:
        """Do what the client says. Returns whether it has taken leave, or has to."""
        packets, avatars = PacketDecoder(), Bucket(MOST_AVATARS_A_SECOND)
        while True:
            message = await connection.receive(IDLE_SECONDS)
            received = time.perf_counter()
            if message["type"] != "websocket.receive":
                return message.get("code") not in BROKEN
            data = message.get("bytes")
            if data is None:
                await self._obey(parse_json(message["text"]), connection, place)
                continue
            kind = data[:1]
            if kind == b"T" and len(data) == CLOCK_REQUEST.size:
                sent = CLOCK_REQUEST.unpack(data)[1]
                connection.send(CLOCK_REPLY.pack(b"T", sent, received, time.perf_counter()))
                continue
            if not isinstance(place.session, RenderSession):
                raise BadMessage("no canvas")
            if kind == b"N":
                try:
                    packet = packets.decode(data[1:])
                except StalePacket:
                    continue
                except UnknownBase:
                    connection.send({"no_base": True})
                    continue
                self._frame_comes(place)
                place.session.request(packet.number, packet.request)
            elif kind == b"K" and len(data) == ACKNOWLEDGE.size:
                place.session.acknowledge(ACKNOWLEDGE.unpack(data)[1])
            elif kind == b"A":
                avatars.take()
                self._avatar_comes(place, data)
                place.session.command("avatar", data)
            else:
                raise BadMessage("kind")

    async def _obey(self, message: dict, connection: ClientConnection, place: Place) -> None:
        # Messages of a later version are skipped.
        if "canvas" in message:
            await self._use_canvas(Canvas.from_json(message["canvas"]), connection, place)
        elif not isinstance(place.session, RenderSession):
            raise BadMessage("no canvas")
        elif isinstance(message.get("show"), str) and len(message["show"]) == 64:
            place.session.command("show", message["show"])
        elif message.get("key") is True:
            place.session.command("key")

    async def _use_canvas(self, canvas: Canvas, connection: ClientConnection, place: Place) -> None:
        session = place.session
        if isinstance(session, RenderSession):
            known = session.canvas
            if (known.shape, known.fit, known.rig) == (canvas.shape, canvas.fit, canvas.rig):
                session.command("canvas", canvas)
                return
        if session is not None:
            place.session = None
            await asyncio.get_running_loop().run_in_executor(None, session.close)
            if place.connection is not connection:
                raise WebSocketDisconnect
        made = RenderSession(self._engine, canvas, self._watcher)
        made.attach(connection.send_from_elsewhere, lambda: connection.lossy)
        place.session = made

    # Pages.

    async def _listen_to_page(self, connection: ClientConnection, place: Place) -> bool:
        """Do what a page says. Returns whether it has taken leave, or has to."""
        session = place.session
        assert isinstance(session, PageSession)
        pictures = Bucket(MOST_AVATARS_A_SECOND)
        while True:
            message = await connection.receive(IDLE_SECONDS)
            received = time.perf_counter()
            if message["type"] != "websocket.receive":
                return message.get("code") not in BROKEN
            data = message.get("bytes")
            if data is None:
                _obey_page(parse_json(message["text"]), session)
                continue
            kind = data[:1]
            if kind == b"T" and len(data) == CLOCK_REQUEST.size:
                sent = CLOCK_REQUEST.unpack(data)[1]
                connection.send(CLOCK_REPLY.pack(b"T", sent, received, time.perf_counter()))
            elif kind == b"V":
                number = session.camera(data)
                if not connection.acknowledges:
                    connection.send(RECEIPT.pack(b"R", number))
            elif kind == b"K" and len(data) == ACKNOWLEDGE.size:
                session.acknowledge(ACKNOWLEDGE.unpack(data)[1])
            elif kind == b"A" and len(data) <= LARGEST_PICTURE:
                pictures.take()
                session.command("picture", (hashlib.sha256(data[1:]).hexdigest(), data[1:]))
            else:
                raise BadMessage("kind")


def _obey_page(message: dict, session: PageSession) -> None:
    """Raises BadMessage."""
    for name, value in message.items():
        # What a later version says is skipped.
        if name == "show" and isinstance(value, str) and len(value) <= 64:
            session.command("show", value)
        elif (
            (name == "mirror" and isinstance(value, bool))
            or (name == "do" and value in ("neutral", "find"))
            or name in ("settings", "neutral")
        ):
            session.command(name, value)
        elif name == "key" and value is True:
            session.command("key")


def _session_of(hello: dict) -> str:
    """The client's name for its session. Raises BadMessage."""
    session = hello.get("session")
    if not isinstance(session, str) or not SESSION.fullmatch(session):
        raise BadMessage("session")
    return session
