"""What a render server keeps for one client: its avatars, its encoder, and a thread that renders its newest frame."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.engine import Engine, Features
from livepuppet.core.errors import LivePuppetError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.threads import start_thread
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.flow import Flow
from livepuppet.realtime.app.turns import Rhythm, Turns
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines.cores import usable_cores
from livepuppet.realtime.remote.packets import RenderRequest
from livepuppet.realtime.remote.protocol import PICTURE, BadMessage, Canvas, unpack_avatar
from livepuppet.realtime.remote.video import JPEG, VideoEncoder, open_encoder
from livepuppet.realtime.rig.sharing import one_avatar

logger = logging.getLogger(__name__)

#: Avatars that a session keeps, and those and other commands that wait.
MOST_AVATARS, MOST_COMMANDS = 4, 8

#: Frames a second of one client.
MOST_FRAMES = 60.0

#: Sends a message, bytes or JSON, to the client, and whether it is a picture that needs none before it; may be called from any thread.
Send = Callable[..., None]


class Watcher(Protocol):
    """Is told what a session does, from its thread or the server's."""

    def drew(self, waited: float, rendered: float, encoded: float, size: int) -> None:
        """A picture of `size` bytes; seconds."""

    def replaced(self) -> None:
        """A frame waited until a newer one came."""


class SharedEngine:
    """An engine for several threads: one call at a time, so that nobody waits for more than one of somebody else's.

    Attributes:
        turns: of the sessions, at rendering.
    """

    def __init__(self, engine: Engine):
        self._engine, self._lock = engine, threading.Lock()
        self.turns = Turns(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def detect(self, frame: np.ndarray) -> Keypoints:
        with self._lock:
            return self._engine.detect(frame)

    def encode(self, avatar: np.ndarray) -> Features:
        with self._lock:
            return self._engine.encode(avatar)

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        with self._lock:
            return self._engine.render(features, avatar_keypoints, keypoints)

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            return self._engine.render_deformation(features, avatar_keypoints, keypoints)


@dataclass(frozen=True, eq=False)
class _Frame:
    number: int
    request: RenderRequest
    received: float


class RenderSession:
    """Renders for one client, in a thread of its own, and outlives its connections.

    Args:
        engine: whose turns the session takes.
        canvas: what is composed on; its shape, fit and rig stay.
        watcher: of what it does.

    Attributes:
        guest: it has the turns that others leave, see `Turns`.
    """

    def __init__(self, engine: SharedEngine, canvas: Canvas, watcher: Watcher | None = None):
        self._engine: Any = engine
        self.canvas, self._watcher = canvas, watcher
        self._compositor = Compositor(
            canvas.width, canvas.height, canvas.fit, canvas.paste, canvas.background, canvas.sharp
        )
        #: None until a frame comes: a spare's session needs none.
        self._encoder: VideoEncoder | None = None
        self._lossy: Callable[[], bool] = lambda: False
        self._animator: Animator | None = None
        self._drawn_by_rig = False
        self._avatars: OrderedDict[str, None] = OrderedDict()
        self._send: Send | None = None
        self._commands: deque[tuple[str, Any]] = deque()
        self._newest: _Frame | None = None
        self._flow = Flow()
        self._key_wanted = True
        self._due = 0.0
        self._rhythm = Rhythm()
        #: Pictures until it gives way to others.
        self._welcome = 0
        self.guest = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = start_thread(self._run, "render session", self._stop)

    @property
    def guest(self) -> bool:
        return self._guest

    @guest.setter
    def guest(self, guest: bool) -> None:
        # Its first picture is late already.
        self._guest, self._welcome = guest, 1
        (self._engine.turns.forget if guest else self._engine.turns.expect)(self._rhythm)

    # Called by the server's thread.

    def attach(self, send: Send, lossy: Callable[[], bool] = lambda: False) -> None:
        """Answer to this connection from now on, which may say that its network loses packets. What waits is of the one before."""
        with self._changed:
            self._send, self._newest, self._key_wanted = send, None, True
            self._lossy = lossy
            self._commands.clear()
            self._flow.clear()

    def detach(self, send: Send) -> None:
        """The connection of `send` is gone."""
        with self._changed:
            if self._send == send:
                self._send, self._newest = None, None

    def request(self, number: int, request: RenderRequest) -> None:
        """Render this frame next, instead of the one that waits."""
        with self._changed:
            if self._newest is not None and self._watcher is not None:
                self._watcher.replaced()
            self._newest = _Frame(number, request, time.perf_counter())
            self._rhythm.came(self._newest.received)
            self._changed.notify()

    def command(self, name: str, value: Any = None) -> None:
        """`avatar` (a message), `show` (a hash), `canvas` (of the same shape) or `key`. The frame that waits is given up.

        Raises:
            BadMessage: too much waits.
        """
        with self._changed:
            names = [waiting for waiting, _ in self._commands]
            if len(names) >= MOST_COMMANDS or (name == "avatar" and name in names):
                raise BadMessage("too many commands")
            self._commands.append((name, value))
            self._newest = None
            self._changed.notify()

    def acknowledge(self, number: int) -> None:
        """The client has that picture, and those before it."""
        with self._changed:
            self._flow.acknowledged(number)
            self._changed.notify()

    def close(self) -> None:
        """End the thread; the avatars are gone with it."""
        self._stop.set()
        self._engine.turns.forget(self._rhythm)
        with self._changed:
            self._changed.notify()
        self._thread.join(3)

    # The session's own thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                frame = command = None
                if self._commands:
                    command = self._commands.popleft()
                elif self._newest is not None and self._flow.is_open:
                    early = self._due - time.perf_counter()
                    if early > 0:
                        self._changed.wait(early)
                        continue
                    frame, self._newest = self._newest, None
                    self._due = time.perf_counter() + 1 / MOST_FRAMES
                else:
                    self._changed.wait(0.5)
                send = self._send
            if send is None:
                continue
            try:
                if command is not None:
                    self._execute(send, *command)
                elif frame is not None and self._animator is not None:
                    self._render(send, self._animator, frame)
            except (LivePuppetError, BadMessage) as error:
                send({"error": str(error)})
            except Exception as error:
                logger.exception("A session could not be rendered.")
                send({"error": f"It could not be rendered ({type(error).__name__})."})

    def _execute(self, send: Send, name: str, value: Any) -> None:
        if name == "key":
            self._key_wanted = True
        elif name == "canvas":
            self.canvas = value
            self._compositor.paste, self._compositor.sharp = value.paste, value.sharp
            self._compositor.background = value.background
        elif name == "avatar":
            digest, avatar = unpack_avatar(value, self._engine.size)
            self._show(send, self._add(digest, one_avatar(digest, avatar)))
        elif value in self._avatars:
            self._show(send, value)
        else:
            send({"need": value})

    def _add(self, digest: str, avatar: Avatar) -> str:
        if self._animator is None:
            self._animator = Animator(avatar, engine=self._engine, size=self._compositor, rig=self.canvas.rig)
        elif digest not in self._avatars:
            self._animator.add(len(self._animator), avatar, wait=True)
        self._avatars[digest] = None
        return digest

    def _show(self, send: Send, digest: str) -> None:
        assert self._animator is not None
        self._avatars.move_to_end(digest)
        self._animator.select(_name_of(digest))
        while len(self._avatars) > MOST_AVATARS:
            oldest, _ = self._avatars.popitem(last=False)
            self._animator.remove(self._animator.names.index(_name_of(oldest)))
        self._key_wanted = True
        send({"ready": digest, "keypoints": not self._animator.drawn_by_rig})

    def _render(self, send: Send, animator: Animator, frame: _Frame) -> None:
        with self._engine.turns.take(self.canvas.shape, self.guest and not self._welcome) as picture:
            self._welcome = 0
            frame = self._newer(frame)
            began = time.perf_counter()
            request = frame.request
            animator.render_request(request.motion, request.keypoints, request.at_rest, picture)
            rendered = time.perf_counter()
            encoder = self._encoder
            if encoder is None or encoder.lossy != self._lossy():
                encoder = open_encoder(self.canvas.shape, usable_cores() or 1, lossy=self._lossy())
                self._encoder, self._key_wanted = encoder, True
            key, self._key_wanted = self._key_wanted, False
            data = encoder.encode(picture, key)
            encoded = time.perf_counter()
        spent = began - frame.received, rendered - began, encoded - rendered
        head = PICTURE.pack(b"P", frame.number, encoder.codec, key, frame.received, *spent)
        with self._changed:
            self._flow.sent(frame.number)
        send(head + data, encoder.codec == JPEG)
        if self._watcher is not None:
            self._watcher.drew(*spent, len(head) + len(data))

    def _newer(self, frame: _Frame) -> _Frame:
        """What came while this one waited for its turn, or this one."""
        with self._changed:
            newer, self._newest = self._newest, None
        if newer is None:
            return frame
        if self._watcher is not None:
            self._watcher.replaced()
        return newer


def _name_of(digest: str) -> str:
    """Of an avatar: `unpack_avatar` gives it this one."""
    return digest[:16]
