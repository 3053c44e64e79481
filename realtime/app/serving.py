"""What `livepuppet serve` does: it draws for cameras of other machines, each in a session of its own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.control import control_token
from livepuppet.realtime.app.studio.access import PROTOCOL, Access
from livepuppet.realtime.app.studio.server import Server
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.remote.numbers import Asked, BadNumbers, NoBase, Unpacker
from livepuppet.realtime.remote.pictures import Encoder, encoder_of
from livepuppet.realtime.remote.protocol import (
    LARGEST_MESSAGE,
    NUMBER,
    PATH,
    PICTURE,
    VERSION,
    BadMessage,
    Canvas,
    unpack_avatar,
    words_of,
)

logger = logging.getLogger(__name__)

#: Seconds within which a client has to have said what it wants, and after which a silent one is gone.
HELLO_SECONDS, IDLE_SECONDS = 3.0, 60.0

#: Messages a second of one client, on average over two seconds.
MOST_MESSAGES = 300

#: Words that wait for a client who does not read.
MOST_WAITING = 32

#: Avatars that one session keeps, and pictures on their way that the client has not told the arrival of.
MOST_AVATARS, IN_FLIGHT = 4, 2


def token_for(person: str) -> str:
    """A person's token: always the same on this computer, and known to nobody else. Raises UserError."""
    return hmac.new(control_token("serve").encode(), person.encode(), hashlib.sha256).hexdigest()


class Drawer:
    """Draws for one client, in a thread of its own.

    Args:
        engine: shared by all.
        lock: to be held while it is used.
        canvas: what is drawn on.
        send: called from the thread with a message, bytes or words.
    """

    def __init__(
        self, engine: Engine, lock: threading.Lock, canvas: Canvas, send: Callable[[bytes | dict], None]
    ):
        self._engine, self._lock, self._send = engine, lock, send
        self._canvas = canvas
        self._compositor = Compositor(
            canvas.width, canvas.height, canvas.fit, canvas.paste, canvas.background, canvas.sharp
        )
        self._encoder: Encoder = encoder_of(canvas.shape)
        self._animator: Animator | None = None
        self._by_rig = False
        self._known: OrderedDict[str, None] = OrderedDict()
        self._picture = np.empty(canvas.shape, np.uint8)
        self._commands: deque[tuple[str, Any]] = deque()
        self._newest: tuple[int, Asked] | None = None
        self._sent, self._arrived, self._key = 0, 0, True
        self._waiting: deque[int] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = start_thread(self._run, "drawer", self._stop)

    # Called by the server's thread.

    def ask(self, number: int, asked: Asked) -> None:
        """Draw this next, instead of what waits."""
        with self._changed:
            self._newest = number, asked
            self._changed.notify()

    def command(self, what: str, value: Any = None) -> None:
        """`avatar` (a message), `show` (a hash), `canvas` (a `Canvas`), `key`. What waits to be drawn is of the time before."""
        with self._changed:
            if len(self._commands) >= 8:
                raise BadMessage("too many commands")
            self._commands.append((what, value))
            self._newest = None
            self._changed.notify()

    def arrived(self, number: int) -> None:
        """That picture is there, and those before it."""
        with self._changed:
            while self._waiting and self._waiting[0] <= number:
                self._waiting.popleft()
            self._changed.notify()

    def close(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(3)

    # Its own thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                ready = self._newest is not None and len(self._waiting) < IN_FLIGHT
                if not (self._commands or ready):
                    self._changed.wait(0.5)
                    continue
                command = self._commands.popleft() if self._commands else None
                job = None
                if command is None:
                    job, self._newest = self._newest, None
            try:
                if command is not None:
                    self._do(*command)
                elif job is not None and self._animator is not None:
                    self._draw(*job)
            except (LivePuppetError, BadMessage) as error:
                self._send({"error": str(error)})
            except Exception as error:
                logger.exception("A session could not be drawn.")
                self._send({"error": f"It could not be drawn ({type(error).__name__})."})

    def _do(self, what: str, value: Any) -> None:
        if what == "key":
            self._key = True
        elif what == "canvas":
            self._compositor.paste, self._compositor.sharp = value.paste, value.sharp
            self._compositor.background = value.background
        elif what == "avatar":
            self._take(*unpack_avatar(value, self._engine.size))
        elif what == "show":
            if value in self._known and self._animator is not None:
                self._show(value)
            else:
                self._send({"need": value})

    def _take(self, digest: str, avatar: Any) -> None:
        with self._lock:
            if self._animator is None:
                self._animator = Animator(
                    avatar, engine=self._engine, size=self._compositor, rig=self._canvas.rig
                )
            elif digest not in self._known:
                self._animator.add(len(self._animator), avatar)
        self._known[digest] = None
        self._show(digest)
        while len(self._known) > MOST_AVATARS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._animator.remove(self._animator.names.index(oldest[:16]))

    def _show(self, digest: str) -> None:
        assert self._animator is not None
        self._known.move_to_end(digest)
        self._animator.select(digest[:16])
        self._key = True
        self._by_rig = self._animator.drawn_by_rig
        self._send({"ready": digest, "keypoints": not self._by_rig})

    def _draw(self, number: int, asked: Asked) -> None:
        assert self._animator is not None
        began = time.perf_counter()
        # A rig is this session's own.
        with nullcontext() if self._by_rig else self._lock:
            self._animator.draw_asked(asked.motion, asked.keypoints, asked.rests, self._picture)
        key, self._key = self._key, False
        data = self._encoder.encode(self._picture, key)
        head = PICTURE.pack(b"P", number, self._encoder.codec, key, time.perf_counter() - began)
        with self._changed:
            self._waiting.append(number)
        self._send(head + data)


class Service:
    """Draws for clients that know the token, until closed.

    Args:
        engine: loaded; its `encode` and `render` draw what rigs do not.
        tokens: of everybody who may come.
        address, port: to listen at; port 0 takes a free one.
        secure: files of certificate and key, for TLS; None only on this computer.
        places: sessions at the same time.

    Attributes:
        port: where it listens.
        sessions: how many there are.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Sequence[str],
        address: str = "127.0.0.1",
        port: int = 0,
        secure: Any = None,
        places: int = 4,
    ):
        self._engine, self._places = engine, places
        self._lock = threading.Lock()
        self.sessions = 0
        app = Starlette(routes=[WebSocketRoute(PATH, self._serve)])
        access = Access(app, tokens, open_to=secure is not None, secure=secure is not None)
        self._server = Server(access, address, port, logger.warning, secure, LARGEST_MESSAGE)
        self.port = self._server.port

    def address(self, host: str, token: str, fingerprint: str | None) -> str:
        """For `--server`; `host` as addresses have it. What stands behind # is never sent by itself."""
        pinned = "" if fingerprint is None else f"&fingerprint={fingerprint.replace(':', '').lower()}"
        return f"{'https' if pinned else 'http'}://{host}:{self.port}/#token={token}{pinned}"

    def close(self) -> None:
        """Stop listening and end every session."""
        self._server.close()

    async def _serve(self, socket: WebSocket) -> None:
        await socket.accept(PROTOCOL)
        if self.sessions >= self._places:
            await _say(socket, {"error": f"All {self._places} places are taken: try again later."})
            await socket.close(1013)
            return
        self.sessions += 1
        drawer: Drawer | None = None
        outgoing = _Outgoing()
        sending = asyncio.ensure_future(outgoing.run(socket))
        try:
            canvas = await asyncio.wait_for(self._hello(socket), HELLO_SECONDS)
            new = lambda: Drawer(self._engine, self._lock, canvas, outgoing.put_from_elsewhere)  # noqa: E731
            drawer = await asyncio.get_running_loop().run_in_executor(None, new)
            assert drawer is not None
            outgoing.put({"welcome": VERSION, "engine": self._engine.name, "model": self._engine.model_name})
            await self._listen(socket, drawer, canvas, outgoing)
        except (WebSocketDisconnect, asyncio.TimeoutError, RuntimeError, KeyError):
            pass
        except (BadMessage, BadNumbers, UserError) as error:
            sentence = str(error) if isinstance(error, UserError) else f"It is not understood: {error}."
            await _say(socket, {"error": sentence})
        finally:
            self.sessions -= 1
            sending.cancel()
            if drawer is not None:
                await asyncio.get_running_loop().run_in_executor(None, drawer.close)
            with suppress(Exception):
                await socket.close()

    async def _hello(self, socket: WebSocket) -> Canvas:
        words = words_of(await socket.receive_text())
        if words.get("version") != VERSION:
            raise UserError("Both machines need the same version of livepuppet.")
        if words.get("model") != self._engine.model_name:
            raise UserError(f"This machine draws with {self._engine.model_name}: give both the same --model.")
        return Canvas.of(words.get("canvas"))

    async def _listen(self, socket: WebSocket, drawer: Drawer, canvas: Canvas, outgoing: _Outgoing) -> None:
        unpacker, bucket, last = Unpacker(), 2.0 * MOST_MESSAGES, time.monotonic()
        while True:
            message = await asyncio.wait_for(socket.receive(), IDLE_SECONDS)
            if message["type"] != "websocket.receive":
                return
            now = time.monotonic()
            bucket, last = min(bucket + MOST_MESSAGES * (now - last), 2.0 * MOST_MESSAGES) - 1, now
            if bucket < 0:
                raise UserError("Too many messages came.")
            data = message.get("bytes")
            if data is None:
                self._obey(words_of(message["text"]), drawer, canvas)
            elif data[:1] == b"N":
                try:
                    told = unpacker.unpack(data[1:])
                except NoBase:
                    outgoing.put({"alone": True})
                    continue
                drawer.ask(told.number, told.asked)
            elif data[:1] == b"A":
                drawer.command("avatar", data)
            elif data[:1] == b"K" and len(data) == NUMBER.size:
                drawer.arrived(NUMBER.unpack(data)[1])
            else:
                raise BadMessage("kind")

    @staticmethod
    def _obey(words: dict, drawer: Drawer, canvas: Canvas) -> None:
        if "canvas" in words:
            wanted = Canvas.of(words["canvas"])
            if (wanted.shape, wanted.fit, wanted.rig) != (canvas.shape, canvas.fit, canvas.rig):
                raise BadMessage("another canvas")
            drawer.command("canvas", wanted)
        elif isinstance(words.get("show"), str) and len(words["show"]) == 64:
            drawer.command("show", words["show"])
        elif words.get("key") is True:
            drawer.command("key")
        # Anything else is of a later version.


class _Outgoing:
    """Messages on their way to one client."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | dict] = asyncio.Queue()

    def put(self, message: bytes | dict) -> None:
        # Pictures are few, because each is acknowledged; complaints need not be.
        if isinstance(message, bytes) or self._queue.qsize() < MOST_WAITING:
            self._queue.put_nowait(message)

    def put_from_elsewhere(self, message: bytes | dict) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.put, message)

    async def run(self, socket: WebSocket) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            while True:
                message = await self._queue.get()
                if isinstance(message, dict):
                    await _say(socket, message)
                else:
                    await socket.send_bytes(message)


async def _say(socket: WebSocket, words: dict) -> None:
    with suppress(Exception):
        await socket.send_text(json.dumps(words))
