"""Animate a still picture from driving frames: framing, detection, retargeting, rendering and compositing in one call."""

from __future__ import annotations

import logging
import os
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.images import read_image
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.names import local_path
from livepuppet.core.numbers import quoted
from livepuppet.core.reading import FaceReading
from livepuppet.core.square import cut
from livepuppet.core.video import Frame, open_video
from livepuppet.realtime.avatars import avatar_of, load_avatar
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines import Engine, Features, Precision, load_engine
from livepuppet.realtime.framing.crop import Framing, Square
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.motion.calibration import pose_indices
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.rig.absolute import neutral_behind
from livepuppet.realtime.rig.close_ups import PLACING, CloseUps
from livepuppet.realtime.rig.driver import RigDriver, RigMotion
from livepuppet.realtime.rig.finding import contours_of
from livepuppet.realtime.rig.range import DriverRange
from livepuppet.realtime.rig.rig import MODES, Face, Rig
from livepuppet.realtime.rig.shut_mouth import at_rest
from livepuppet.realtime.rig.told import FacePose, NeutralFace

if TYPE_CHECKING:
    from livepuppet.realtime.remote.call import CallSender
    from livepuppet.realtime.remote.packets import RenderRequest
    from livepuppet.realtime.remote.protocol import Canvas
    from livepuppet.realtime.remote.renderer import Outcome, RemoteRenderer

logger = logging.getLogger(__name__)

#: Seconds between frames that come without a time.
FRAME_SECONDS = 1 / 30

#: The event where the driver's face was looked for in vain.
NO_FACE = "No face found, so the middle of the picture is used."

#: What models of other things are told that are to choose D1.
NO_LANDMARKS = (
    "The neutral pose can be chosen for files of faces, and models that know a face's parts: "
    "leave --neutral out, or say first."
)

#: How avatars are drawn where nobody says, see `Animator`.
DEFAULT_RIG = "on"

#: Said where a face in numbers meets a setting that has no meaning for it.
ALWAYS_RELATIVE = (
    "A face in numbers moves the avatar relative to rest: absolute poses are for pictures of a driver."
)

#: What `Animator` takes for an avatar.
AvatarLike = str | os.PathLike | np.ndarray | Avatar


@dataclass(frozen=True)
class Timings:
    """Seconds that each stage of one frame took."""

    crop: float = 0.0
    detect: float = 0.0
    retarget: float = 0.0
    render: float = 0.0
    compose: float = 0.0


@dataclass(frozen=True, eq=False)
class PreparedAvatar:
    """An avatar with everything that depends on it alone.

    Attributes:
        given: the picture.
        avatar: as it rests, which is what moves: with a mouth that stood open shut.
        keypoints: its own keypoints.
        encode: of the engine.
        face: for its rig; None where there is no face, or no rig is wanted.
    """

    given: Avatar
    avatar: Avatar
    keypoints: Keypoints
    encode: Callable[[np.ndarray], Features]
    face: Face | None = None

    @cached_property
    def features(self) -> Features:
        """What `Engine.encode` makes of it. A rig that draws everything needs none."""
        return self.encode(self.avatar.image)

    @property
    def drawn_by_rig(self) -> bool:
        """Whether the model draws it for want of anything better only."""
        return self.face is not None and self.face.mode == "on"


@dataclass(frozen=True, eq=False)
class Drawing:
    """An avatar in one pose, as the model draws it, or as its rig is going to.

    Attributes:
        square: uint8 RGB (S, S, 3); None where a rig draws.
        deformation: float32 (h, w, 2), the sampling grid that the model used (see `Engine.render_deformation`), or None
            where it was not needed or the engine does not tell.
        rig, motion: draw it, or eyes and mouth over it; None where the model has drawn all.
        keypoints: the avatar's, for a machine that renders it; None where it is drawn here.
    """

    square: np.ndarray | None
    deformation: np.ndarray | None = None
    rig: Rig | None = None
    motion: RigMotion | None = None
    keypoints: Keypoints | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """What a driving frame asks for, before anything is painted. Attributes as `Result`'s.

    Attributes:
        rests: show the avatar as it is.
        timings: seconds per stage until now.
        time: of the frame, in seconds.
    """

    driving_square: np.ndarray
    framed: bool
    driving: Keypoints | None
    keypoints: Keypoints | None
    drawing: Drawing | None
    rests: bool
    timings: Timings
    time: float = 0.0

    @property
    def moved(self) -> bool:
        """See `Result.moved`."""
        return self.keypoints is not None


@dataclass(frozen=True, eq=False)
class Result:
    """What one driving frame gave.

    Attributes:
        image: the finished picture, uint8 RGB (H, W, 3); RGBA (H, W, 4) with a transparent background.
        driving_square: the square of the driving frame that the model saw, uint8 RGB (S, S, 3), flipped if mirrored.
        framed: whether that square has been settled on; until then the avatar is shown at rest.
        driving: the driver's keypoints in that square; None while not framed.
        keypoints: the avatar's keypoints after retargeting; None while the avatar is at rest.
        drawing: the square as the model drew it; None while the avatar is at rest.
        timings: seconds per stage.
        fresh: whether the image is this frame's: another machine that renders may have been too late for it.
    """

    image: np.ndarray
    driving_square: np.ndarray
    framed: bool
    driving: Keypoints | None
    keypoints: Keypoints | None
    drawing: Drawing | None
    timings: Timings
    fresh: bool = True

    @property
    def moved(self) -> bool:
        """Whether the avatar was animated: the driver is framed, and there is a neutral pose."""
        return self.keypoints is not None


class Animator:
    """Animates one of several avatars, each encoded once.

        animator = Animator("me.png")
        for frame in open_video("talk.mp4"):
            image = animator(frame)

    The first frame in which the driver is framed becomes D1, the driver's neutral pose: the avatar moves by how the
    driver moves away from it (FOMM, Eq. 14-15). Belongs to one thread at a time.

    Args:
        avatar: a picture file of any format, an array uint8 RGB (H, W, 3) or RGBA (H, W, 4), an `Avatar`, or several of
            these, of which `select` chooses one.
        model: an exported bundle (folder) or weights (.safetensors); None is the bundled model.
        engine: `onnx`, `openvino`, `torch` or `tensorrt`, or an engine that is loaded; None is the best one here; `remote`
            renders on another machine.
        server: the address of that machine, as `livepuppet serve` prints it there.
        device, precision, threads: see `load_engine`.
        settings: how the driver's motion is shown; by default `MotionSettings(countdown=0)`.
        crop: the square of the driving frames: `auto` (around the face), `full` (the largest in the middle), `X,Y,SIDE`
            in pixels, or a `Framing`.
        avatar_crop: the square of the avatar that moves: `auto` (around the face where there is one), `face`, `center`
            or `X,Y,SIDE` in pixels. Not for an `Avatar`, which has its square.
        size: of the pictures returned. None: the model's own square. A number: a square with that side, in which the
            avatar's own pixels are moved, so that it stays as sharp as its file. (width, height): a canvas with the
            whole avatar picture. Or a `Compositor`.
        background: `as-is`, `blur`, a colour as `#00ff00`, or `alpha` (pictures are then RGBA). Needs a `size`.
        mirror: flip the driver left to right.
        follow: let a square that was put around a face follow the head slowly; for cameras.
        rig: `on` draws avatars by a rig with depth, at the picture's own resolution, instead of by the model; `eyes`, `mouth`
            and `face` (both) draw these over the model's picture; `off` leaves all to the model. By default `on`. It takes a
            model whose keypoints are landmarks, and an avatar with a face; others are drawn by the model.
        progress: called with each avatar once it is ready.

    Attributes:
        engine, framing, retargeter, compositor: the parts; `compositor` is None where the model's square is returned.
        mirror, follow: as above; may be set at any time.
        resting: show the avatar at rest while the driver is still being watched.
        look_every: look closely at the driver's eyes and mouth in every so manieth frame; in between they stay as they were.

    Raises:
        LivePuppetError: the avatar, the model or an option cannot be used. The message says what to do.
    """

    def __init__(
        self,
        avatar: AvatarLike | Sequence[AvatarLike],
        model: str | os.PathLike | None = None,
        *,
        engine: str | Engine | None = None,
        server: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        settings: MotionSettings | None = None,
        crop: str | Framing = "auto",
        avatar_crop: str = "auto",
        size: int | tuple[int, int] | Compositor | None = None,
        background: str = "as-is",
        mirror: bool = False,
        follow: bool = False,
        rig: str | None = None,
        progress: Callable[[Avatar], object] = lambda avatar: None,
    ):
        if engine == "remote":
            from livepuppet.realtime.remote.engine import load_remote

            engine = load_remote(server, model, threads, device, precision)
        if engine is None or isinstance(engine, str):
            use = "detect" if (rig or DEFAULT_RIG) == "on" else "frame"
            engine = load_engine(engine, model, threads, device, precision, use=use)
        self.engine: Engine = engine
        if settings is None:
            settings = MotionSettings(countdown=0.0)
        self.retargeter = Retargeter(engine.keypoint_names, settings, matrices=engine.matrices)
        self.framing = Framing(crop, looks=1, engine=engine) if isinstance(crop, str) else crop
        self.framing.following = follow if isinstance(crop, str) else self.framing.following
        self.compositor = _compositor(size, background)
        self.mirror, self.resting = mirror, False
        self.look_every = 1
        self._last_look: tuple[Keypoints, int] | None = None
        self._rig_driver = _rig_driver(engine, rig)
        self._rig_mode = rig or DEFAULT_RIG
        #: Renders on another machine; None where this one does. See `use_renderer`.
        self.renderer: RemoteRenderer | CallSender | None = getattr(engine, "renderer", None)
        self._problem: str | None = None
        #: Where the model's own square is returned, rigs draw on a canvas of that size.
        self._rig_canvas = self.compositor or Compositor(engine.size, engine.size, paste=False)
        #: D1 and the square it belongs to, to begin with instead of the first frame.
        self.saved_pose: tuple[Keypoints, Square] | None = None
        self._framed = False
        #: Whether the last frame was a face in numbers.
        self._is_told = False
        self._is_asked = False
        self._neutral_face: NeutralFace | None = None
        self._actor: Animator | None = None
        #: Seconds of a driving file before which it is known to show no face.
        self._face_from = 0.0
        self._events: list[str] = []
        self._time = 0.0
        self._prepared: list[PreparedAvatar] = []
        several = [avatar] if isinstance(avatar, AvatarLike) else list(avatar)
        if not several:
            raise UserError("There is no avatar: give at least one picture.")
        for one in several:
            loaded = load_any(one, engine.size, avatar_crop)
            self._prepared.append(self._prepare(loaded))
            progress(loaded)
        self._current = 0
        self.select(0)
        if self.renderer is not None:
            self.renderer.prepare(self.avatar, self.remote_canvas())

    @cached_property
    def _close_ups(self) -> CloseUps | None:
        """What looks closely at the driver, where a rig wants it. One that only renders for another machine has no driver."""
        return _close_ups(self.engine) if self._rig_driver is not None else None

    # Avatars.

    def __len__(self) -> int:
        return len(self._prepared)

    @property
    def index(self) -> int:
        """Number of the present avatar, from 0."""
        return self._current

    @property
    def avatar(self) -> Avatar:
        """The present avatar."""
        return self._prepared[self._current].avatar

    @property
    def keypoints(self) -> Keypoints:
        """The present avatar's own keypoints."""
        return self._prepared[self._current].keypoints

    @property
    def names(self) -> list[str]:
        """Of all avatars, in order."""
        return [prepared.avatar.name for prepared in self._prepared]

    def select(self, which: int | str) -> None:
        """Switch to another avatar, by its number (from 0, counted round the end) or name. D1 stays: it is the driver's.

        Raises:
            LivePuppetError: there is none of that name.
        """
        if isinstance(which, str):
            if which not in self.names:
                raise UserError(f"There is no avatar {quoted(which)}: there is {', '.join(self.names)}.")
            which = self.names.index(which)
        self._current = which % len(self._prepared)
        self.retargeter.set_avatar(self.keypoints)
        if self._rig_driver is not None:
            self._rig_driver.restart()
        self._rig_canvas.set_avatar(self.avatar)

    def add(self, index: int, avatar: Avatar, wait: bool = False) -> None:
        """Encode one more avatar and put it at `index`. The selection stays on the same picture.

        Args:
            wait: for its rig, too, which takes a second or two.
        """
        self._prepared.insert(index, self._prepare(avatar, wait))
        self._current += index <= self._current

    def replace(self, index: int, avatar: Avatar) -> None:
        """Encode `avatar` and put it in the place of another."""
        self._prepared[index] = self._prepare(avatar)
        if index == self._current:
            self.select(index)

    def remove(self, index: int) -> None:
        """Forget an avatar. The last one, and the present one, stay."""
        if len(self._prepared) > 1 and index != self._current:
            del self._prepared[index]
            self._current -= index < self._current

    def use_renderer(self, renderer: RemoteRenderer | None) -> None:
        """Render on another machine from now on, or here (None). D1 stays. Here, the present avatar's rig is waited for."""
        avatars, self.renderer = [prepared.given for prepared in self._prepared], renderer
        if renderer is None:
            present = self._prepare(avatars[self._current], wait=True)
            self._prepared = [
                present if index == self._current else self._prepare(avatar)
                for index, avatar in enumerate(avatars)
            ]
            self.retargeter.set_avatar(self.keypoints)

    def _prepare(self, avatar: Avatar, wait: bool = False) -> PreparedAvatar:
        keypoints = self.engine.detect(avatar.image)
        if self.renderer is not None:
            return PreparedAvatar(avatar, avatar, keypoints, self.engine.encode)
        face, given = None, avatar
        if self._rig_driver is not None:
            face = self._face_of(avatar, keypoints)
        if face is not None:
            avatar, face = at_rest(self.engine, avatar, face)
            keypoints = face.keypoints
        # Rigs are made beside; the first picture that needs one waits for the first.
        wait = wait or not self._prepared
        self._rig_canvas.prepare(avatar, wait=wait and face is not None, face=face)
        prepared = PreparedAvatar(given, avatar, keypoints, self.engine.encode, face)
        if not prepared.drawn_by_rig:
            _ = prepared.features
        return prepared

    def _face_of(self, avatar: Avatar, keypoints: Keypoints) -> Face | None:
        """What the avatar's rig goes by; None where its keypoints are no face's."""
        names = tuple(self.engine.keypoint_names)
        face = Face(keypoints, names, self.engine.size, avatar.square, others=avatar.others)
        if not face.usable:
            return None
        contours, messages = contours_of(self.engine, avatar.original, avatar.square, avatar.path)
        for message in messages:
            logger.info("%s: %s", avatar.name, message)
        return replace(face, contours=contours, mode=self._rig_mode)

    # The driver.

    @property
    def is_asked(self) -> bool:
        """Whether the animator of another machine says what is drawn now."""
        return self._is_asked

    @property
    def is_told(self) -> bool:
        """Whether a face in numbers drives now, instead of a picture."""
        return self._is_told

    @property
    def settings(self) -> MotionSettings:
        """How the driver's motion is shown; may be replaced at any time."""
        return self.retargeter.settings

    @settings.setter
    def settings(self, settings: MotionSettings) -> None:
        self.retargeter.settings = settings

    @property
    def follow(self) -> bool:
        return self.framing.following

    @follow.setter
    def follow(self, wanted: bool) -> None:
        self.framing.following = wanted

    def reset(self, countdown: float = 0.0) -> None:
        """Take D1 anew: the next frame, or the best of the next `countdown` seconds."""
        self.retargeter.reset(countdown)

    def begin_anew(self, countdown: float = 0.0) -> None:
        """Frames are another camera's, or another driver's, from now on: the face is looked for anew, and D1 is the best
        of `countdown` seconds after it was found.
        """
        self.framing.search_again()
        self.saved_pose, self._face_from, self._framed = None, 0.0, False
        self._last_look = None
        if self._rig_driver is not None:
            self._rig_driver.restart()
        self.retargeter.reset(countdown)

    def take_over(self, other: Animator) -> None:
        """Go on with the driver of `other`, an animator of the same engine that is not used any more: with its framing, neutral
        pose and settings, and with what it has learned of the driver.
        """
        self.framing, self.settings, self.mirror = other.framing, other.settings, other.mirror
        self.look_every, self.resting = other.look_every, other.resting
        self.__dict__["_close_ups"] = other._close_ups
        if self._rig_driver is not None and other._rig_driver is not None:
            self._rig_driver.range = other._rig_driver.range
        pose, square = other.retargeter.initial, other.framing.square
        counting = other.retargeter.state == "counting"
        self.saved_pose = None if pose is None or square is None or counting else (pose, square)
        self._framed = False

    def take_neutral(
        self,
        driving: str | os.PathLike,
        neutral: str | float | os.PathLike = "auto",
        face: str | int = "largest",
        advanced: Callable[[float], None] = lambda seconds: None,
    ) -> str | None:
        """Choose D1 for a driving file before its frames come, from what its first minute shows.

            animator = Animator("me.png")
            animator.take_neutral("talk.mp4")
            for frame in open_video("talk.mp4"): ...

        Args:
            driving, neutral, face: as of `animate`.
            advanced: called with the seconds of the file that were looked at.

        Returns:
            A sentence that says which moment was taken; None where it is the first frame with a face, as without this
            call, or where no face is seen.

        Raises:
            LivePuppetError: the model's keypoints are no landmarks, the file cannot be read, or shows no face where D1
                is to be taken.
        """
        from livepuppet.realtime.clip.ahead import look_ahead
        from livepuppet.realtime.clip.neutral import moment_or_picture
        from livepuppet.realtime.clip.survey import Watcher

        wanted = moment_or_picture(neutral)
        if wanted == "first":
            return None
        if pose_indices(self.engine.keypoint_names) is None:
            raise UserError(NO_LANDMARKS)
        if isinstance(wanted, Path):
            wanted = self.pose_in(wanted)

        def look_closer(image: np.ndarray, square: Square, found: Keypoints) -> Keypoints:
            return self.look_closer(image, square, found, mirrored=False)

        crop = self.framing.crop
        watcher = Watcher(self.engine, look_closer, crop, face)
        names, size = tuple(self.engine.keypoint_names), self.engine.size
        with open_video(os.fspath(driving)) as video:
            ahead = look_ahead(video, watcher, names, size, wanted, self.mirror, crop != "auto", advanced)
        if ahead is None:
            return None
        square = ahead.square
        if self.mirror:
            square = replace(square, x=ahead.shape[1] - square.x - square.side)
        self.framing.begin_at(square, ahead.shape)
        self.saved_pose, self._face_from = (ahead.neutral, square), ahead.begins
        return ahead.sentence

    def pose_in(self, picture: str | os.PathLike) -> Keypoints:
        """The keypoints of the face in a picture file, in a square around it. Raises LivePuppetError."""
        from livepuppet.realtime.clip.survey import Finder

        image = read_image(local_path(picture, "the picture of the neutral pose"))
        square = Finder(self.engine)(image)
        if square is None:
            raise UserError(f"No face is found in {picture}: choose a picture of the driver for --neutral.")
        if self.mirror:
            image, square = cv2.flip(image, 1), replace(square, x=image.shape[1] - square.x - square.side)
        found = self.engine.detect(cut(image, square, self.engine.size))
        return self.look_closer(image, square, found, mirrored=False)

    def set_mirror(self, wanted: bool) -> None:
        """Flip the driver, or stop doing so. D1 is then taken anew."""
        if wanted != self.mirror:
            self.mirror = wanted
            self.retargeter.frame_changed()

    def zoom(self, factor: float) -> None:
        """Make the driver's square `factor` times as large. D1 stays the pose it was."""
        if self._is_told:
            return
        self._reframed(self.framing.zoom(factor))

    def shift(self, right: float, down: float) -> None:
        """Move the driver's square by shares of its side, `right` as the person sees it. D1 stays the pose it was."""
        if self._is_told:
            return
        self._reframed(self.framing.shift(-right if self.mirror else right, down))

    def events(self) -> list[str]:
        """Messages for the person since the last call: whether a face was found, that D1 was taken, and the like."""
        messages, self._events = self._events + self.retargeter.events(), []
        problem = None if self.renderer is None else self.renderer.problem
        if problem != self._problem:
            messages += [problem] if problem else ["Pictures come again."]
            self._problem = problem
        return messages

    # Frames.

    def warm_up(self, told: bool = False) -> None:
        """Run once what draws, so that the first frame is not the slow one. Leaves D1 alone.

        Args:
            told: faces in numbers will drive, without a countdown in which rigs could be made.
        """
        if told:
            self.step(FacePose.rest(), 0.0)
            self._is_told = self._framed = False
            self.retargeter.reset(self.settings.countdown)
            return
        _ = self._close_ups
        prepared = self._prepared[self._current]
        if not prepared.drawn_by_rig:  # else `detect` has run, and is all that will
            self.engine.render(prepared.features, prepared.keypoints, prepared.keypoints)

    def __call__(self, frame: np.ndarray | Frame | FacePose, time: float | None = None) -> np.ndarray:
        """The avatar moved as in the driving `frame`.

        Args:
            frame: uint8 RGB (H, W, 3) of any size, or a `Frame` of `open_video`, `open_camera` or `open_driving`; or a face in
                numbers, which needs no picture.
            time: when it was captured, in seconds of any clock, growing from call to call. By default the frame's own, or
                a thirtieth of a second after the last one's.

        Returns:
            uint8 RGB (H, W, 3), or RGBA with a transparent background. Never changed by later calls.

        Raises:
            LivePuppetError: it is no such frame.
        """
        result = self.step(frame, time)
        self.track(result, frame)
        return result.image

    def step(
        self, frame: np.ndarray | Frame | FacePose, time: float | None = None, out: np.ndarray | None = None
    ) -> Result:
        """As `__call__`, with everything that was found on the way. Call `track` once the picture has been handed over.

        Args:
            frame, time: as above.
            out: the picture is written there, shape `compositor.shape`; by default into a new array.

        Raises:
            LivePuppetError: it is no such frame.
        """
        return self.paint(self.plan(frame, time), out)

    def plan(self, frame: np.ndarray | Frame | FacePose, time: float | None = None) -> Plan:
        """The first half of `step`: everything but the picture. `paint` makes that, in another thread if need be, while the next
        frame is planned; nothing else of this animator may be called there, and no avatar be changed meanwhile.
        """
        began = clock.perf_counter()
        request = getattr(frame, "request", None)
        self._is_asked = request is not None
        if request is not None:
            return self._plan_asked(request, self._timed(frame, time), began)
        face = told_by(frame)
        if face is not None:
            sketch = frame.image if isinstance(frame, Frame) else None
            return self._plan_told(face, sketch, self._timed(frame, time), began)
        assert not isinstance(frame, FacePose)
        image, time = self._checked(frame, time)
        if self._is_told:
            # D1 was a face in numbers, in no frame.
            self._is_told = self._framed = False
            self.framing.search_again(as_found=False)
        framed = self.framing.look(image) and not self._before_face(frame)
        if framed and not self._framed:
            self._begin()
        self._framed = framed
        square = self.cut(image)
        cropped = clock.perf_counter()
        if not framed:
            return Plan(square, False, None, None, None, True, Timings(cropped - began), time)
        present = self.framing.square
        assert present is not None
        driving = self._watched(image, present, self.engine.detect(square))
        detected = clock.perf_counter()
        keypoints, drawing, retargeted = self._moved(driving, time)
        timings = Timings(
            cropped - began, detected - cropped, retargeted - detected, clock.perf_counter() - retargeted
        )
        return Plan(square, True, driving, keypoints, drawing, drawing is None or self.resting, timings, time)

    def _plan_asked(self, request: RenderRequest, time: float, began: float) -> Plan:
        """`plan` of what the animator of another machine wants."""
        drawing = None if self.resting else self._asked(request.motion, request.keypoints, request.at_rest)
        moved = None if request.at_rest else request.keypoints or self.keypoints
        square = np.zeros((self.engine.size,) * 2 + (3,), np.uint8)
        timings = Timings(render=clock.perf_counter() - began)
        return Plan(square, True, None, moved, drawing, drawing is None, timings, time)

    def _plan_told(self, face: FacePose, sketch: np.ndarray | None, time: float, began: float) -> Plan:
        """`plan` of a face in numbers: as keypoints of a neutral face in its pose, which carry the numbers for rigs."""
        if self.mirror and not face.own_rest:
            face = face.mirrored()
        if not self.settings.relative:
            self.settings = replace(self.settings, relative=True)
            self._events.append(ALWAYS_RELATIVE)
        driving = self._as_keypoints(face)
        if not self._is_told:
            self._is_told = self._framed = True
            whole = Square(0, 0, self.engine.size)
            self.framing.begin_at(whole, (self.engine.size, self.engine.size))
            self.retargeter.frame_changed()
        if face.own_rest and (self.retargeter.state == "counting" or self.retargeter.initial is None):
            self.retargeter.initial = self._as_keypoints(FacePose.rest())
        square = np.zeros((self.engine.size,) * 2 + (3,), np.uint8) if sketch is None else sketch
        detected = clock.perf_counter()
        keypoints, drawing, retargeted = self._moved(driving, time)
        timings = Timings(0.0, detected - began, retargeted - detected, clock.perf_counter() - retargeted)
        return Plan(square, True, driving, keypoints, drawing, drawing is None or self.resting, timings, time)

    def _as_keypoints(self, face: FacePose) -> Keypoints:
        """What the model would find in a neutral face in the pose of `face`.

        Landmarks are known where they are. Keypoints that a model has learnt by itself are only known to its detector, which is
        shown the face that comes with livepuppet, drawn by its rig.
        """
        names = self.engine.keypoint_names
        if pose_indices(names) is not None and self.engine.matrices == "jacobian":
            self._neutral_face = self._neutral_face or NeutralFace(names)
            return self._neutral_face.keypoints(face)
        if self._actor is None:
            self._actor = Animator(AVATAR, size=self.engine.size)
            self._actor.settings = replace(self._actor.settings, smoothing=0.0)
        found = self.engine.detect(self._actor(replace(face, own_rest=True, seen=True)))
        if face.seen:
            return found
        return replace(found, confidence=np.zeros(len(found.points), np.float32))

    def paint(self, plan: Plan, out: np.ndarray | None = None) -> Result:
        """The second half of `step`.

        Args:
            plan: of the present avatar.
            out: as above.
        """
        began = clock.perf_counter()
        picture, fresh = self._show(plan.drawing, plan.rests, out, plan.time)
        timings = replace(plan.timings, compose=clock.perf_counter() - began)
        return Result(
            picture,
            plan.driving_square,
            plan.framed,
            plan.driving,
            plan.keypoints,
            plan.drawing,
            timings,
            fresh,
        )

    def move(self, driving: Keypoints, time: float, out: np.ndarray | None = None) -> np.ndarray:
        """The present avatar moved by a driver whose keypoints were found elsewhere.

        Args:
            driving: in a square of their frame.
            time: of that frame, in seconds.
            out: as `step`.

        Returns:
            As `__call__`.
        """
        _, drawing, _ = self._moved(driving, time)
        return self._show(drawing, self.resting, out, time)[0]

    def begin_shot(
        self, neutral: Keypoints, at_rest: bool, own: DriverRange | None = None, cut: bool = False
    ) -> None:
        """The next `move` shows another shot of the driver, or another driver.

        Args:
            neutral: D1 from now on.
            at_rest: the avatar was at rest until now.
            own: how far the driver's face goes, where that is known.
            cut: it begins with a cut, so that the picture need not go over to it.
        """
        self.retargeter.begin_shot(neutral, at_rest, cut)
        if self._rig_driver is not None and own is not None:
            self._rig_driver.range = own

    def neutral_behind(self, driving: Keypoints) -> Keypoints | None:
        """D1 for which `driving` gives the present avatar its pose absolutely; None where only absolute
        keypoints do.
        """
        avatar = self.avatar
        own = self.look_closer(avatar.original, avatar.square, self.keypoints, mirrored=False)
        return neutral_behind(driving, own, self.engine.keypoint_names)

    def _watched(self, image: np.ndarray, square: Square, driving: Keypoints) -> Keypoints:
        """`look_closer`, or what the last look told, carried along with the face; see `look_every`."""
        if self._last_look is not None and self._last_look[1] < self.look_every:
            before, frames = self._last_look
            self._last_look = before, frames + 1
            return replace(driving, reading=_carried(before, driving.points))
        driving = self.look_closer(image, square, driving)
        self._last_look = None if driving.reading is None else (driving, 1)
        return driving

    def _moved(self, driving: Keypoints, time: float) -> tuple[Keypoints | None, Drawing | None, float]:
        """The avatar's keypoints, what is drawn, and when the first was known."""
        keypoints = self.retargeter.move(driving, time)
        retargeted = clock.perf_counter()
        drawing = self._draw(self._prepared[self._current], keypoints) if keypoints is not None else None
        return keypoints, drawing, retargeted

    def _show(
        self, drawing: Drawing | None, at_rest: bool, out: np.ndarray | None, time: float
    ) -> tuple[np.ndarray, bool]:
        """The finished picture, and whether it is the one of `drawing`."""
        if self.renderer is not None:
            out = np.empty(self._rig_canvas.shape, np.uint8) if out is None else out
            outcome = self._render_remotely(self.renderer, drawing, at_rest, time, out)
            return out, outcome in ("new", "sent")
        return self.draw_at_rest(out) if drawing is None or at_rest else self._compose(drawing, out), True

    def look_closer(
        self, image: np.ndarray, square: Square, driving: Keypoints, mirrored: bool | None = None
    ) -> Keypoints:
        """`driving`, found in `square` of `image` uint8 RGB (H, W, 3), with what close-ups of the frame tell, where a rig
        wants it.

        Args:
            mirrored: whether the square was flipped; by default as `mirror` says.
        """
        if self._close_ups is None:
            return driving
        mirrored = self.mirror if mirrored is None else mirrored
        place = square.whole(), self.engine.size, image.shape[1], mirrored
        look = self._close_ups(image, in_frame(driving.points, *place), mirrored)
        if look is None:
            return driving
        anchors = in_square(look.anchors, *place).astype(np.float32)
        return replace(driving, reading=replace(look.reading, anchors=anchors))

    def track(
        self, result: Plan | Result, frame: np.ndarray | Frame | FacePose, time: float | None = None
    ) -> None:
        """Let the driver's square follow the head, and look for a face that was lost. Takes effect with the next frame.

        Args:
            result: what `step` or `plan` made of `frame`.
            time: as given to `step`.
        """
        driving = result.driving
        if driving is None or isinstance(frame, FacePose) or told_by(frame) is not None:
            return
        time = self._time if time is None else time
        if self.mirror:
            driving = replace(driving, points=driving.points * np.array([-1, 1], np.float32))
        self._reframed(self.framing.follow(driving, time))
        if self.retargeter.state == "lost":
            self.framing.lost(_image_of(frame), time)

    def cut(self, image: np.ndarray, size: int | None = None) -> np.ndarray:
        """The driver's square of `image` uint8 RGB (H, W, 3), as the model sees it: uint8 RGB (size, size, 3).

        Args:
            size: by default the model's.
        """
        square = self.framing.cut(image, size or self.engine.size)
        return cv2.flip(square, 1) if self.mirror else square

    def draw_at_rest(self, out: np.ndarray | None = None) -> np.ndarray:
        """The present avatar as it is, written into `out` where that is given."""
        if self.compositor is None:
            return _copied(self.avatar.image, out)
        out = np.empty(self.compositor.shape, np.uint8) if out is None else out
        self.compositor.at_rest(out)
        return out

    def draw(self, keypoints: Keypoints) -> np.ndarray:
        """The present avatar in a pose that no driver gave, as the model draws it (the rig reads drivers alone).

        Args:
            keypoints: target keypoints, in the avatar's square.

        Returns:
            uint8 RGB (H, W, 3), or RGBA with a transparent background.
        """
        prepared = self._prepared[self._current]
        return self._compose(self._drawn_by_model(prepared, keypoints), None)

    def _draw(self, prepared: PreparedAvatar, keypoints: Keypoints) -> Drawing:
        """The avatar moved to `keypoints`. Everything that draws the moving square stands between here and `_compose`."""
        told, driver = self.retargeter.transferred, self._rig_driver
        if driver is None or told is None or (prepared.face is None and self.renderer is None):
            return self._drawn(prepared, keypoints, None)
        motion = driver.motion(told, prepared.keypoints, self.settings)
        return self._drawn(prepared, keypoints, motion, driver.usable)

    def _drawn(
        self, prepared: PreparedAvatar, keypoints: Keypoints, motion: RigMotion | None, usable: bool = True
    ) -> Drawing:
        """Args: as of `_draw`; motion: for its rig, if there is any; usable: it says where the head is."""
        if self.renderer is not None:
            return Drawing(None, motion=motion if usable else None, keypoints=keypoints)
        if motion is not None and prepared.face is not None:
            rig = self._rig_canvas.rig(prepared.avatar, prepared.face)
            if rig is not None and rig.head is not None and usable:
                return Drawing(None, rig=rig, motion=motion)
            if rig is not None and rig.head is None and self.engine.deforms:
                keypoints = rig.without_drawn(prepared.keypoints, keypoints)
                drawn = self.engine.render_deformation(prepared.features, prepared.keypoints, keypoints)
                return Drawing(*drawn, rig=rig, motion=motion)
        return self._drawn_by_model(prepared, keypoints)

    @property
    def drawn_by_rig(self) -> bool:
        """Whether the present avatar is drawn by a rig alone, which needs no keypoints."""
        return self.shown_residuals is not None

    @property
    def has_rig(self) -> bool:
        """Whether something of the present avatar is drawn by a rig."""
        return self._prepared[self._current].face is not None

    @property
    def shown_residuals(self) -> list[int] | None:
        """Keypoints of whose residuals the rig shows something, beside amounts; None where no rig draws everything."""
        prepared = self._prepared[self._current]
        if not prepared.drawn_by_rig or prepared.face is None:
            return None
        rig = self._rig_canvas.rig(prepared.avatar, prepared.face)
        return None if rig is None or rig.head is None else rig.shown_residuals

    def render_request(
        self, motion: RigMotion | None, keypoints: Keypoints | None, at_rest: bool, out: np.ndarray
    ) -> None:
        """Draw what the animator of another machine wants, into `out`: see `remote.packets.RenderRequest`."""
        drawing = self._asked(motion, keypoints, at_rest)
        if drawing is None:
            self.draw_at_rest(out)
        else:
            self._compose(drawing, out)

    def _asked(self, motion: RigMotion | None, keypoints: Keypoints | None, at_rest: bool) -> Drawing | None:
        """What another machine's animator wants; None where that is the avatar at rest."""
        prepared = self._prepared[self._current]
        if at_rest or (keypoints is None and not (motion is not None and self.drawn_by_rig)):
            return None
        known = prepared.keypoints if keypoints is None else keypoints
        return self._drawn(prepared, known, motion)

    def _render_remotely(
        self,
        renderer: RemoteRenderer | CallSender,
        drawing: Drawing | None,
        at_rest: bool,
        time: float,
        out: np.ndarray,
    ) -> Outcome:
        from livepuppet.realtime.remote.packets import RenderRequest

        request = RenderRequest(at_rest=True)
        if drawing is not None and not at_rest:
            wanted = drawing.motion is None or renderer.wants_keypoints
            request = RenderRequest(drawing.motion, drawing.keypoints if wanted else None)
        outcome = renderer.render(self.avatar, self.remote_canvas(), request, time, out)
        if outcome in ("none", "sent"):
            self._rig_canvas.at_rest(out)
        return outcome

    def remote_canvas(self) -> Canvas:
        """The canvas, for a machine that renders on it."""
        from livepuppet.realtime.remote.protocol import Canvas

        on = self._rig_canvas
        return Canvas(on.width, on.height, on.fit, on.paste, on.background, on.sharp, self._rig_mode)

    def _drawn_by_model(self, prepared: PreparedAvatar, keypoints: Keypoints) -> Drawing:
        if self.compositor is not None and self.compositor.needs_deformation and self.engine.deforms:
            return Drawing(*self.engine.render_deformation(prepared.features, prepared.keypoints, keypoints))
        return Drawing(self.engine.render(prepared.features, prepared.keypoints, keypoints))

    def _compose(self, drawing: Drawing, out: np.ndarray | None) -> np.ndarray:
        """The finished picture: the square itself, or set into the canvas."""
        if drawing.rig is not None and drawing.motion is not None:
            out = np.empty(self._rig_canvas.shape, np.uint8) if out is None else out
            if drawing.square is None:
                self._rig_canvas.compose_rig(drawing.rig, drawing.motion, out)
            else:
                patches = drawing.rig.patches(drawing.motion)
                self._rig_canvas.compose(drawing.square, drawing.deformation, out, patches)
            return out
        assert drawing.square is not None
        if self.compositor is None:
            return _copied(drawing.square, out)
        out = np.empty(self.compositor.shape, np.uint8) if out is None else out
        self.compositor.compose(drawing.square, drawing.deformation, out)
        return out

    def _checked(self, frame: np.ndarray | Frame, time: float | None) -> tuple[np.ndarray, float]:
        """The frame's pixels and time."""
        image = _image_of(frame)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"A driving frame has to be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}: convert it first."
            )
        return image, self._timed(frame, time)

    def _timed(self, frame: np.ndarray | Frame | FacePose, time: float | None) -> float:
        """When `frame` was captured, as given or as it says."""
        if time is None:
            time = float(frame.time) if isinstance(frame, Frame) else self._time + FRAME_SECONDS
        self._time = time
        return time

    def _before_face(self, frame: np.ndarray | Frame) -> bool:
        """Whether a driving file that was looked at shows no face yet."""
        return isinstance(frame, Frame) and float(frame.time) < self._face_from

    def _begin(self) -> None:
        """The driver has just been framed, anew or for the first time."""
        self.retargeter.frame_changed()
        if self.saved_pose is not None:
            (pose, square), self.saved_pose = self.saved_pose, None
            present = self.framing.square
            assert present is not None
            try:
                self.retargeter.initial = self._in_new_square(pose, square, present.whole())
            except ValueError:
                self._events.append("The saved neutral pose cannot be used, so a new one is taken.")
        if self.framing.crop == "auto" and not self.framing.faces:
            self._events.append(NO_FACE)

    def _reframed(self, change: tuple[Square, Square] | None) -> None:
        """The driver's square went from one to another: D1 stays the pose it was."""
        if change is not None:
            self.retargeter.remap(lambda keypoints: self._in_new_square(keypoints, *change))

    def _in_new_square(self, keypoints: Keypoints, old: Square, new: Square) -> Keypoints:
        if self.mirror:
            old, new = _mirrored(old), _mirrored(new)
        return reexpressed(keypoints, old, new, self.engine.size, self.engine.matrices)


def _carried(before: Keypoints, points: np.ndarray) -> FaceReading | None:
    """The reading of a face whose keypoints have gone to `points` (K, 2)."""
    if before.reading is None:
        return None
    old, new = (where.astype(np.float64) @ np.array([1, 1j]) for where in (before.points, points))
    spread = old - old.mean()
    turn = complex(np.vdot(spread, new - new.mean()) / max(float(np.vdot(spread, spread).real), 1e-12))

    def change(places: np.ndarray) -> np.ndarray:
        moved = turn * (places @ np.array([1, 1j]) - old.mean()) + new.mean()
        return np.column_stack([moved.real, moved.imag])

    return before.reading.mapped(change, float(np.angle(turn)))


def told_by(frame: np.ndarray | Frame | FacePose) -> FacePose | None:
    """The face in numbers that a frame is, or brings; None of a picture."""
    return frame if isinstance(frame, FacePose) else getattr(frame, "face", None)


def _image_of(frame: np.ndarray | Frame) -> np.ndarray:
    return frame.image if isinstance(frame, Frame) else np.asarray(frame)


def _copied(picture: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    if out is None:
        return picture.copy()
    np.copyto(out, picture)
    return out


def _compositor(size: int | tuple[int, int] | Compositor | None, background: str) -> Compositor | None:
    if isinstance(size, Compositor):
        return size
    if size is None:
        if background != "as-is":
            raise UserError(f"The background '{background}' needs a size: give size=720, say.")
        return None
    if isinstance(size, int):
        return Compositor(size, size, paste=False, background=background)
    return Compositor(*size, background=background)


def load_any(avatar: AvatarLike, size: int, crop: str) -> Avatar:
    """As `load_avatar`, of anything that `Animator` takes."""
    if isinstance(avatar, Avatar):
        return avatar
    if isinstance(avatar, np.ndarray):
        return avatar_of(avatar, size, crop)
    return load_avatar(avatar, size, crop)


def _mirrored(square: Square) -> Square:
    """The square in a picture that is flipped left to right, up to a common shift."""
    return replace(square, x=-square.x - square.side)


def in_frame(points: np.ndarray, square: Square, size: int, width: int, mirrored: bool) -> np.ndarray:
    """Keypoints (K, 2) of a square cut at `size`, as pixels of the frame, `width` pixels wide, that it was cut from.

    Args:
        mirrored: the square was flipped left to right; the pixels are then those of the flipped frame.
    """
    pixels = ((points.astype(np.float64) + 1) / 2 * (size - 1) + 0.5) * (square.side / size) - 0.5
    left = width - square.x - square.side if mirrored else square.x
    return pixels + np.array([left, square.y])


def in_square(pixels: np.ndarray, square: Square, size: int, width: int, mirrored: bool) -> np.ndarray:
    """The reverse of `in_frame`."""
    left = width - square.x - square.side if mirrored else square.x
    inside = (pixels - np.array([left, square.y]) + 0.5) * (size / square.side) - 0.5
    return inside * 2 / (size - 1) - 1


def _close_ups(engine: Engine) -> CloseUps | None:
    """What looks closely at the driver; None where the keypoints cannot place it."""
    placed = set(PLACING) <= set(engine.keypoint_names)
    return CloseUps(engine.keypoint_names) if placed else None


def check_rig(rig: str | None) -> None:
    """Raises UserError where `rig` is not one of `MODES`."""
    if rig not in (None, *MODES):
        raise UserError(f"The rig '{rig}' is unknown: use {', '.join(MODES)}.")


def _rig_driver(engine: Engine, rig: str | None) -> RigDriver | None:
    """What drives rigs; None where there are none."""
    check_rig(rig)
    landmarks = "nose tip" in engine.keypoint_names and engine.matrices == "jacobian"
    if (rig or DEFAULT_RIG) == "off" or not landmarks:
        return None
    return RigDriver(engine.keypoint_names)
