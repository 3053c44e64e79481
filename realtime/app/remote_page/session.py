"""What the server keeps for one page: the driver, the picture that is moved, codecs, and a thread that does the newest frame."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.engine import Engine
from livepuppet.core.errors import LivePuppetError
from livepuppet.core.threads import COMPUTING, start_thread
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.flow import Flow
from livepuppet.realtime.app.remote_page.pictures import read_picture
from livepuppet.realtime.app.remote_page.protocol import CAMERA, LARGEST_CAMERA, PICTURE
from livepuppet.realtime.app.settings.schema import NeutralPose
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines.cores import usable_cores
from livepuppet.realtime.framing.crop import Framing, Square
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.remote.protocol import BadMessage
from livepuppet.realtime.remote.video import JPEG, LOSSY_LONGEST, BadPicture, CameraDecoder, open_encoder

logger = logging.getLogger(__name__)

#: What a page may change of the motion.
PAGE_SETTINGS = ("strength", "smoothing", "shift", "turn", "zoom", "eyes")

#: Longest and shortest longer side of what is rendered, in pixels.
LONGEST, SHORTEST = 720, 256

#: Pictures to move that a session keeps ready, and the camera's that wait to be decoded, which a page that knows its receipts
#: never exceeds.
MOST_AVATARS, MOST_WAITING = 3, 12

#: Pictures a second of one page.
MOST_FRAMES = 60.0

#: Seconds between two states that are told.
STATE_SECONDS = 0.2

#: Sends a message, bytes or JSON, to the page, and whether it is a picture that needs none before it; may be called from any thread.
Send = Callable[..., None]


@dataclass(frozen=True)
class Offered:
    """A picture that every page may move. Attributes: name; the avatar; thumbnail (JPEG)."""

    name: str
    avatar: Avatar
    thumbnail: bytes


@dataclass(frozen=True, eq=False)
class _Frame:
    number: int
    captured: float
    received: float
    #: As `CameraDecoder.feed` returned it.
    fed: Any


class PageSession:
    """Reads and renders for one page, in a thread of its own, and outlives its connections.

    Args:
        engine: for several threads.
        offered: pictures of the server's own.
        codecs: that the page decodes, best first.
        echo: send the camera's picture back instead.
    """

    def __init__(
        self,
        engine: Engine,
        offered: Sequence[Offered],
        codecs: Sequence[str] = ("h264",),
        echo: bool = False,
    ):
        self._engine, self._offered, self.codecs, self._echo = engine, offered, tuple(codecs), echo
        self._settings, self._mirror = MotionSettings(), False
        self._saved: tuple[NeutralPose, Square] | None = None
        #: By what they are called, those that were shown last at the end.
        self._animators: OrderedDict[str, Animator] = OrderedDict()
        self._shown = self._wanted = ""
        self._making: str | None = None
        self._framing = Framing("auto", engine=engine, background=True)
        self._decoder, self._encoder = CameraDecoder(), None
        self._picture: np.ndarray | None = None
        self._number, self._newest_number = 0, -1
        self._time = -math.inf
        self._state: dict = {}
        self._told = 0.0
        self._neutral_told: Any = None
        self._broken = True
        self._due = 0.0
        # What follows is shared, and guarded by `_changed`.
        self._send: Send | None = None
        self._lossy: Callable[[], bool] = lambda: False
        self._coded: deque[tuple[tuple, bytes, float]] = deque()
        self._commands: deque[tuple[str, Any]] = deque()
        self._made: list[tuple[str, Animator]] = []
        self._flow = Flow()
        self._key_wanted = True
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = start_thread(self._run, "page session", self._stop)

    # Called by the server's thread.

    def attach(self, send: Send, lossy: Callable[[], bool] = lambda: False) -> None:
        """Answer to this connection from now on, which may say that its network loses packets."""
        with self._changed:
            self._send, self._key_wanted, self._lossy = send, True, lossy
            self._coded.clear()
            self._flow.clear()
            self._commands.append(("connected", None))
            self._changed.notify()

    def detach(self, send: Send) -> None:
        """The connection of `send` is gone."""
        with self._changed:
            if self._send == send:
                self._send = None
                self._coded.clear()

    def camera(self, message: bytes) -> int:
        """A picture of the camera. Returns its number. Raises BadMessage."""
        if not CAMERA.size < len(message) <= LARGEST_CAMERA:
            raise BadMessage("length")
        head = CAMERA.unpack_from(message)
        if not math.isfinite(head[4]):
            raise BadMessage("time")
        with self._changed:
            if len(self._coded) >= MOST_WAITING:
                # It comes in faster than it is decoded: begin again with a key picture.
                self._coded.clear()
                self._commands.append(("broken", None))
            self._coded.append((head, message[CAMERA.size :], time.perf_counter()))
            self._changed.notify()
        return head[1]

    def command(self, name: str, value: Any = None) -> None:
        """`show` (an id), `picture` (an id and a PNG or JPEG), `settings`, `mirror`, `do`, `neutral` or `key`. Raises BadMessage."""
        with self._changed:
            if len(self._commands) >= 32:
                raise BadMessage("too many commands")
            self._commands.append((name, value))
            self._changed.notify()

    def acknowledge(self, number: int) -> None:
        """The page has that picture, and those before it."""
        with self._changed:
            self._flow.acknowledged(number)
            self._changed.notify()

    def close(self) -> None:
        """End the thread; the pictures are gone with it."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(3)

    # The session's own thread.

    def _run(self) -> None:
        frame: _Frame | None = None
        while not self._stop.is_set():
            with self._changed:
                ready = frame is not None and self._flow.is_open
                if not (self._coded or self._commands or self._made or ready):
                    self._changed.wait(0.5)
                coded, self._coded = list(self._coded), deque()
                commands, self._commands = list(self._commands), deque()
                made, self._made = self._made, []
                send, is_open = self._send, self._flow.is_open
            if send is None:
                # What was said before it went still holds.
                for name, value in commands:
                    self._guarded(lambda message: None, self._execute, name, value)
                frame = None
                continue
            for name, value in commands:
                self._guarded(send, self._execute, name, value)
            for name, animator in made:
                self._guarded(send, self._show_made, name, animator)
            frame = self._decoded(send, coded) or frame
            if frame is None or not is_open:
                continue
            early = self._due - time.perf_counter()
            if early > 0:
                self._stop.wait(early)
            self._due = max(self._due, time.perf_counter() - 1 / MOST_FRAMES) + 1 / MOST_FRAMES
            self._guarded(send, self._render, frame)
            frame = None

    def _guarded(self, send: Send, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(send, *arguments)
        except (LivePuppetError, BadMessage) as error:
            sentence = str(error) if isinstance(error, LivePuppetError) else f"It is not understood: {error}."
            send({"said": [sentence]})
        except Exception as error:
            logger.exception("A page's session could not be served.")
            send({"said": [f"It could not be done ({type(error).__name__})."]})

    def _decoded(self, send: Send, coded: Sequence[tuple[tuple, bytes, float]]) -> _Frame | None:
        """The newest of these pictures; all before it are decoded, since it is told by what changed."""
        keys = [at for at, (head, _, _) in enumerate(coded) if head[3]]
        newest = None
        for head, data, received in coded[keys[-1] if keys else 0 :]:
            _, number, codec, key, captured = head
            follows = number == (self._newest_number + 1) & 0xFFFFFFFF
            if not key and (self._broken or not follows):
                if not self._broken:
                    send({"key": True})
                self._broken = True
                continue
            try:
                fed = self._decoder.feed(codec, data)
            except BadPicture:
                send({"key": True})
                self._broken = True
                continue
            self._broken, self._newest_number = False, number
            newest = _Frame(number, captured, received, fed)
        return newest

    def _execute(self, send: Send, name: str, value: Any) -> None:
        if name == "connected":
            self._broken, self._state, self._neutral_told = True, {}, None
            if self._shown:
                send({"ready": self._shown, "rig": self._animators[self._shown].has_rig})
        elif name == "broken":
            if not self._broken:
                send({"key": True})
            self._broken = True
        elif name == "key":
            self._key_wanted = True
        elif name == "show":
            self._show(send, value)
        elif name == "picture":
            called, data = value
            if called == self._wanted and called not in self._animators:
                self._make(called, read_picture(data, self._engine.size))
        elif name == "settings":
            self._settings = _changed_settings(self._settings, value)
            for animator in self._animators.values():
                animator.settings = self._settings
        elif name == "mirror":
            self._mirror = value
            for animator in self._animators.values():
                animator.set_mirror(value)
        elif name == "do":
            self._do(value)
        elif name == "neutral":
            self._saved = _parsed_neutral(value)

    def _do(self, what: str) -> None:
        animator = self._animators.get(self._shown)
        if animator is None:
            return
        if what == "neutral":
            animator.reset(self._settings.countdown)
        else:
            animator.begin_anew(self._settings.countdown)

    # Pictures to move.

    def _show(self, send: Send, called: str) -> None:
        self._wanted = called
        if called in self._animators:
            self._show_made(send, called, self._animators[called])
        elif called.startswith("offered "):
            number = called.removeprefix("offered ")
            if not (number.isdecimal() and len(number) < 5 and int(number) < len(self._offered)):
                raise BadMessage("no such picture")
            self._make(called, self._offered[int(number)].avatar)
        else:
            send({"need": called})

    def _make(self, called: str, avatar: Avatar) -> None:
        """Prepare a picture beside, while another one moves."""
        if self._making is not None:
            # Told again when that is done.
            return
        self._making = called
        start_thread(lambda: self._make_beside(called, avatar), "making an avatar", self._stop, COMPUTING)

    def _make_beside(self, called: str, avatar: Avatar) -> None:
        try:
            made = Animator(
                avatar, engine=self._engine, crop=self._framing, size=_canvas(avatar), settings=self._settings
            )
            made.warm_up()
        except Exception as error:
            reason = (
                str(error)
                if isinstance(error, LivePuppetError)
                else "It cannot be used as a picture to move."
            )
            if not isinstance(error, LivePuppetError):
                logger.exception("A picture could not be prepared.")
            with self._changed:
                self._making, send = None, self._send
                if self._wanted != called:
                    self._commands.append(("show", self._wanted))
                    self._changed.notify()
            if send is not None:
                send({"said": [reason]})
            return
        with self._changed:
            self._made.append((called, made))
            self._making = None
            self._changed.notify()

    def _show_made(self, send: Send, called: str, animator: Animator) -> None:
        before = self._animators.get(self._shown)
        self._animators[called] = animator
        self._animators.move_to_end(called)
        while len(self._animators) > MOST_AVATARS:
            self._animators.popitem(last=False)
        if self._wanted != called:
            # Another one was chosen meanwhile.
            self._show(send, self._wanted)
            return
        if before is not None and before is not animator:
            animator.take_over(before)
        else:
            animator.settings, animator.mirror = self._settings, self._mirror
        self._shown = called
        self._key_wanted = True
        send({"ready": called, "rig": animator.has_rig})

    # Frames.

    def _render(self, send: Send, frame: _Frame) -> None:
        animator = None if self._echo else self._animators.get(self._shown)
        if animator is None and not self._echo:
            return
        began = time.perf_counter()
        image = self._decoder.picture(frame.fed)
        if animator is None:
            picture = image
        else:
            picture = self._moved(send, animator, image, frame)
        rendered = time.perf_counter()
        changed = self._picture is None or self._picture.shape != picture.shape
        lossy = self._lossy()
        if self._encoder is None or changed or self._encoder.lossy != lossy:
            self._encoder = open_encoder(picture.shape, usable_cores() or 1, self.codecs, lossy)
            self._key_wanted = True
        self._picture = picture
        with self._changed:
            key, self._key_wanted = self._key_wanted or self._encoder.codec == JPEG, False
        data = self._encoder.encode(
            _small(picture) if lossy and self._encoder.codec == JPEG else picture, key
        )
        encoded = time.perf_counter()
        self._number = (self._number + 1) & 0xFFFFFFFF
        head = PICTURE.pack(
            *(b"P", self._number, frame.number, self._encoder.codec, key, frame.captured, frame.received),
            *(began - frame.received, rendered - began, encoded - rendered),
        )
        with self._changed:
            self._flow.sent(self._number)
        send(head + data, self._encoder.codec == JPEG)

    def _moved(self, send: Send, animator: Animator, image: np.ndarray, frame: _Frame) -> np.ndarray:
        if self._saved is not None:
            (pose, square), self._saved = self._saved, None
            known = pose.keypoints(self._engine.model_name, self._engine.num_keypoints)
            if known is not None and animator.retargeter.initial is None:
                self._framing.begin_at(square, image.shape[:2])
                animator.saved_pose = known, square
        # Clocks of pages go back when the device sleeps.
        self._time = (
            max(frame.captured, self._time + 1e-3) if frame.captured > self._time - 1 else frame.captured
        )
        assert animator.compositor is not None
        out = self._picture
        if out is None or out.shape != animator.compositor.shape:
            out = np.empty(animator.compositor.shape, np.uint8)
        result = animator.step(image, self._time, out)
        animator.track(result, image, self._time)
        self._tell(send, animator, image)
        return result.image

    def _tell(self, send: Send, animator: Animator, image: np.ndarray) -> None:
        """What the driver does, where that is news."""
        said = animator.events()
        if said:
            send({"said": said})
        now = time.monotonic()
        if now - self._told < STATE_SECONDS:
            return
        self._told = now
        state, square = _state_of(animator, image.shape), self._framing.square
        if state != self._state:
            self._state = state
            send({"state": state})
        initial = animator.retargeter.initial
        settled = initial is not None and state["mode"] == "live" and not state["left"]
        if settled and square is not None and initial is not self._neutral_told:
            self._neutral_told = initial
            pose = asdict(NeutralPose.of(initial, self._engine.model_name))
            send({"neutral": {**pose, "square": [square.x, square.y, square.side]}})


def _small(picture: np.ndarray) -> np.ndarray:
    """At most `LOSSY_LONGEST` pixels wide and high."""
    scale = LOSSY_LONGEST / max(picture.shape[:2])
    return picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale)


def _state_of(animator: Animator, shape: tuple[int, ...]) -> dict:
    square, retargeter = animator.framing.square, animator.retargeter
    known = square is not None
    return {
        "mode": retargeter.state if known else "looking",
        "left": math.ceil(retargeter.countdown_left) if known else 0,
        "fit": round(100 * retargeter.fit) if known and retargeter.state == "counting" else None,
        "initial_fit": round(100 * retargeter.initial_fit),
        "square": None if square is None else _share(square, shape),
    }


def _share(square: Square, shape: tuple[int, ...]) -> list[float]:
    """Its place as shares of the frame's width, height and width."""
    return [round(square.x / shape[1], 3), round(square.y / shape[0], 3), round(square.side / shape[1], 3)]


def _canvas(avatar: Avatar) -> Compositor:
    """The avatar's own shape, as large as is drawn in time. Sides are multiples of 4, as codecs have it."""
    height, width = avatar.original.shape[:2]
    scale = min(max(max(height, width), SHORTEST), LONGEST) / max(height, width)
    sides = (max(64, 4 * round(side * scale / 4)) for side in (width, height))
    return Compositor(*sides, fit="fill")


def _changed_settings(settings: MotionSettings, changes: Any) -> MotionSettings:
    """Raises BadMessage and UserError."""
    if not isinstance(changes, Mapping) or not set(changes) <= set(PAGE_SETTINGS):
        raise BadMessage("settings")
    if not all(type(value) in (int, float) for value in changes.values()):
        raise BadMessage("settings")
    return replace(settings, **changes)


def _parsed_neutral(told: Any) -> tuple[NeutralPose, Square]:
    """The neutral pose that a server told. Raises BadMessage."""
    names = {field.name for field in fields(NeutralPose)}
    if not isinstance(told, dict) or not isinstance(told.get("of_model"), str):
        raise BadMessage("neutral")
    try:
        arrays = {name: np.array(told[name], np.float32) for name in ("points", "jacobians", "reading")}
        square = np.array(told["square"], np.float64)
        flat = np.concatenate([*(array.ravel() for array in arrays.values()), square.ravel()])
    except (KeyError, ValueError, TypeError) as error:
        raise BadMessage("neutral") from error
    shapes = [array.shape[1:] for array in arrays.values()]
    if shapes != [(2,), (2, 2), ()] or square.shape != (3,) or flat.size > 2000 or square[2] < 1:
        raise BadMessage("neutral")
    if not (np.isfinite(flat).all() and abs(flat).max() < 1e5):
        raise BadMessage("neutral")
    pose = {name: value for name, value in told.items() if name in names and name not in arrays}
    pose |= {name: array.tolist() for name, array in arrays.items()}
    return NeutralPose(**{**pose, "reuse": False}), Square(*square.tolist())
