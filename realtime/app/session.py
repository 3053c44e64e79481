"""A whole live session: everything that the settings name, opened in order, and released whatever
happens.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.names import is_pipe, is_url, keep_apart, local_path, path_of, same_file
from livepuppet.core.numbers import is_whole
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.avatar_folder import AvatarFolder
from livepuppet.realtime.app.keys import TerminalKeys
from livepuppet.realtime.app.live_outputs import is_file_output, is_studio, open_live_output
from livepuppet.realtime.app.loop import LiveLoop
from livepuppet.realtime.app.overlay.screens import draw
from livepuppet.realtime.app.settings import NeutralPose, Settings, settings_path
from livepuppet.realtime.app.window import Window
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.clip.neutral import moment_or_picture
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.driving.opening import is_face, open_any
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.framing.crop import Framing, Square
from livepuppet.realtime.inputs.cameras import is_camera
from livepuppet.realtime.inputs.capture import Capture, LiveSource
from livepuppet.realtime.inputs.playback import Playback
from livepuppet.realtime.motion.calibration import pose_indices
from livepuppet.realtime.motion.retargeter import NO_VARIANCE
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.fanout import Fanout, close_all
from livepuppet.realtime.outputs.live_sound import FileSound, SoundFeed, open_sound
from livepuppet.realtime.outputs.opening import is_video_name
from livepuppet.realtime.outputs.v4l2_writer import find_device

if TYPE_CHECKING:
    from livepuppet.realtime.app.studio.studio import Studio

logger = logging.getLogger(__name__)

#: Limits of the output's size, in pixels: cameras and encoders take no more.
SMALLEST_SIZE, LARGEST_SIZE = 16, 4096

#: Seconds between two looks at the terminal where there is no window to wait for.
_TERMINAL_SECONDS = 0.02


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from `1280x720`; even, as cameras and videos need. Raises UserError."""
    width, _, height = text.lower().partition("x")
    if not (is_whole(width) and is_whole(height)):
        raise UserError(f"The size '{text[:60]}' is not WIDTHxHEIGHT in pixels, as in 1280x720.")
    size = int(width), int(height)
    if any(side % 2 or not SMALLEST_SIZE <= side <= LARGEST_SIZE for side in size):
        raise UserError(
            f"The size {text} cannot be sent: give even numbers from {SMALLEST_SIZE} to {LARGEST_SIZE}, as in 1280x720."
        )
    return size


#: Sentences kept for a page that opens later.
MOST_TOLD = 30

#: A clip's neutral pose is looked for in no more than this share of it.
COUNTDOWN_OF_CLIP = 0.25


class Session:
    """Opens everything in its constructor; use it in a `with` block, and call `run` once.

    Args:
        settings: what to open.
        engine: loaded.
        source: instead of the one that the settings name.
        avatar: instead of those that the settings name, until the animator is given another one.
        outputs: beside those that the settings name.
        frames: end after so many animated frames.
        carry: see `LiveLoop`.
        pixel_format: of a virtual camera, `i420` or `nv12`.
        neutral: where D1 is taken in a driving file: `auto`, `first`, seconds, or a picture; see `animate`. By default
            `auto` for files of faces. A camera has its countdown.
        keyboard: take keys from the terminal.
        listen: address at which the studio listens for other machines, too; None for this one alone.
        server: address of a machine that can render, as `livepuppet serve` prints it.
        notify: called with one sentence at a time, from any thread.

    Raises:
        UserError: something cannot be opened. What was open is then released.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        source: LiveSource | None = None,
        *,
        avatar: Avatar | None = None,
        outputs: Sequence[Output] = (),
        frames: int | None = None,
        carry: Callable[[np.ndarray, np.ndarray], None] | None = None,
        pixel_format: str = "i420",
        neutral: str | float | None = None,
        keyboard: bool = True,
        listen: str | None = None,
        server: str | None = None,
        notify: Callable[[str], None] = logger.info,
    ):
        self.settings = settings
        #: The last sentences told, with their numbers: for pages that open later.
        self.told: deque[tuple[int, str]] = deque(maxlen=MOST_TOLD)
        self._notify = notify = _remembering(self.told, notify)
        self._studio_port = studio_port(settings.output.outputs)
        self._pixel_format = pixel_format
        self._neutral = None if neutral is None else moment_or_picture(neutral)
        self._file_sounds: list[FileSound] = []
        self._feed_of: dict[Output, FileSound] = {}
        width, height = parse_size(settings.picture.size)
        _keep_own_output_out(settings)
        with ExitStack() as stack:
            picture = settings.picture
            compositor = Compositor(
                width, height, picture.fit, picture.paste, picture.background, picture.sharp
            )
            self._chosen = ""
            self.folder: AvatarFolder | None = None
            avatars = [avatar] if avatar is not None else self._open_avatars(settings, engine, stack)
            self.source, capture = self._open_source(settings, source, stack)
            if settings.motion.variance != MotionSettings.variance and engine.matrices != "covariance":
                self._notify(NO_VARIANCE.format(engine.model_name))
            self.animator = self._encode(engine, avatars, compositor)
            self._select(self._chosen)
            self.animator.warm_up(is_face(path_of(settings.source.driving, "what drives")))
            self._take_saved_pose(settings)
            #: What was opened of the settings' outputs, with how they are written.
            self.opened: list[tuple[str, Output]] = []
            # Until the fan-out owns them.
            waiting = self.opened
            stack.callback(lambda: close_all([output for _, output in waiting]))
            for text in settings.output.outputs:
                if text != "window" and not is_studio(text):
                    waiting.append((text, self.open_output(text)))
            self.window = None
            if "window" in settings.output.outputs:
                self.window = Window(width, height, draw)
                if getattr(self.source, "needs_pointer", False):
                    self.window.pointed = getattr(self.source, "point", None)
                stack.callback(self.window.close)
            self.fanout = Fanout([*(output for _, output in waiting), *outputs], notify)
            self.opened, waiting = list(waiting), []
            stack.callback(self.fanout.close)
            self.terminal = TerminalKeys() if keyboard else None
            if self.terminal is not None:
                stack.callback(self.terminal.close)
            self.live = LiveLoop(
                self.animator,
                capture(),
                self.fanout,
                self.window,
                self.folder,
                frames,
                carry,
                self._file_sounds,
                notify,
                adapt=picture.adapt,
            )
            self.live.server = server
            stack.callback(self._leave_server)
            self.studio: Studio | None = None
            if self._studio_port is not None:
                self.studio = self._open_studio(self._studio_port, listen)
                stack.callback(self.studio.close)
            else:
                self._control(settings, stack)
            #: Whether somebody can press keys.
            self.interactive = (
                self.window is not None
                or self.studio is not None
                or bool(self.terminal and self.terminal.active)
            )
            self._stack = stack.pop_all()

    def _motion_settings(self) -> MotionSettings:
        """The part of the settings that moves keypoints."""
        settings, seconds = self.settings.motion, getattr(self.source, "seconds", None)
        if self._neutral == "first":
            return replace(settings, countdown=0.0)
        if not seconds:
            return settings
        return replace(settings, countdown=min(settings.countdown, COUNTDOWN_OF_CLIP * seconds))

    def _open_avatars(self, settings: Settings, engine: Engine, stack: ExitStack) -> list[Avatar]:
        wanted = settings.avatar.avatar
        path = local_path(wanted, "the avatar") if wanted else AVATAR
        self._chosen = settings.avatar.selected
        if self._studio_port is not None and not path.is_dir() and (path.exists() or not wanted):
            # Pictures can be added, which takes a folder.
            from livepuppet.realtime.app.studio.uploads import own_folder

            path, name = own_folder(path, bool(wanted))
            self._chosen = name if wanted else self._chosen
        with progress_bar("Reading avatars", path.is_dir()) as progress:
            folder = AvatarFolder(path, engine.size, settings.avatar.avatar_crop, progress)
        self.folder = folder
        stack.callback(folder.close)
        for sentence in folder.messages():
            self._notify(sentence)
        return list(folder.avatars)

    def _encode(self, engine: Engine, avatars: list[Avatar], compositor: Compositor) -> Animator:
        done = itertools.count(1)
        with progress_bar("Preparing avatars", len(avatars) > 1) as progress:
            return Animator(
                avatars,
                engine=engine,
                settings=self._motion_settings(),
                crop=self._framing(engine),
                size=compositor,
                mirror=self.settings.source.mirror,
                rig=self.settings.picture.rig,
                progress=lambda avatar: progress(next(done), len(avatars)),
            )

    def _select(self, name: str) -> None:
        if name in self.animator.names:
            self.animator.select(name)
        # The first picture has the wanted background already; the other avatars' figures are looked
        # for beside.
        compositor = self.animator.compositor
        assert compositor is not None
        compositor.prepare(self.animator.avatar, wait=True)
        compositor.set_avatar(self.animator.avatar)

    def _open_source(self, settings: Settings, source: LiveSource | None, stack: ExitStack):
        """The source, and a function that starts to read it once everything else is open."""
        if source is None:
            try:
                source = self.open_source(settings.source.driving)
            except UserError as error:
                if self._studio_port is None or not is_camera(settings.source.driving):
                    raise
                from livepuppet.realtime.app.studio.waiting import Waiting

                source = Waiting(str(error))
        opened = source
        self._captures: list[Capture] = []
        # Once it is read, the source belongs to the thread that reads it.
        stack.callback(lambda: self._captures[0].close() if self._captures else opened.close())

        def start() -> Capture:
            self._captures.append(Capture(opened))
            note = getattr(opened, "note", None)
            if note:
                self._notify(note)
            return self._captures[0]

        return source, start

    def open_source(self, driving: str) -> LiveSource:
        """What drives, as the settings want it. Raises UserError."""
        wanted = self.settings.source
        return open_any(
            driving,
            parse_size(wanted.camera_size),
            wanted.camera_rate,
            wanted.pixel_format,
            wanted.loop,
            own_cameras(self.settings.output.outputs),
            wanted.face_listen,
        )

    def source_changed(self, driving: str, capture: Capture) -> None:
        """The loop takes its frames from `capture` now, which belongs to this session."""
        self.source, self._captures[0] = capture.source, capture
        self.settings = replace(self.settings, source=replace(self.settings.source, driving=driving))
        note = getattr(capture.source, "note", None)
        if note:
            self._notify(note)

    def open_output(self, text: str, sound: str | None = None) -> Output:
        """An output for this session's pictures.

        Args:
            text: as of `--output`.
            sound: of a recording; by default as the settings want it.

        Raises:
            UserError: it cannot be opened.
        """
        width, height = parse_size(self.settings.picture.size)
        feed = None
        if is_file_output(text) and is_video_name(text):
            # Each recording has a feed of its own.
            feed = self._sound(sound)
        output = open_live_output(
            text,
            width,
            height,
            self.source.rate,
            synthetic=self.settings.output.badge,
            sound=feed,
            pixel_format=self._pixel_format,
        )
        if isinstance(feed, FileSound):
            self._file_sounds.append(feed)
            self._feed_of[output] = feed
        return output

    def close_output(self, output: Output) -> None:
        """Finish an output and close it, while the others go on. Raises UserError."""
        try:
            self.fanout.remove(output)
        finally:
            sound = self._feed_of.pop(output, None)
            if sound is not None:
                self._file_sounds.remove(sound)

    def _sound(self, sound: str | None) -> SoundFeed | None:
        """What a recording's sound comes from: a voice that moves the mouth is heard, too."""
        wanted = self.settings
        text, driving, loop = sound or wanted.output.sound, wanted.source.driving, wanted.source.loop
        if text == "auto" and is_face(path_of(driving, "what drives")):
            microphone = getattr(self.source, "microphone", None)
            if microphone is not None:
                return microphone.branch()
            driving = str(getattr(self.source, "sound", None) or driving)
        return open_sound(text, driving, loop)

    def _framing(self, engine: Engine) -> Framing:
        wanted = self.settings.framing
        framing = Framing(wanted.crop, engine=engine, background=True)
        framing.following = wanted.follow
        framing.adjustment = (wanted.crop_zoom, wanted.crop_right, wanted.crop_down)
        return framing

    def _take_saved_pose(self, settings: Settings) -> None:
        """Begin with the last session's neutral pose, where that is wanted and there is one of this
        model.
        """
        engine = self.animator.engine
        if not settings.neutral.reuse or is_face(path_of(settings.source.driving, "what drives")):
            self._choose_neutral(settings.source.driving, engine)
            return
        pose = settings.neutral.keypoints(engine.model_name, engine.num_keypoints)
        if pose is not None and settings.framing.square:
            self.animator.saved_pose = pose, Square(*settings.framing.square)
        else:
            self._notify("There is no neutral pose of a session with this model, so a new one is taken.")

    def _choose_neutral(self, driving: str, engine: Engine) -> None:
        """D1 of a driving file. A camera's, and that of models of other things, is taken as it comes."""
        if not isinstance(self.source, Playback) or is_url(driving) or is_pipe(driving):
            if self._neutral is not None:
                raise UserError(
                    "--neutral chooses a moment of a driving file, and this is none: leave it out; what is read once has a "
                    "countdown."
                )
            return
        if self._neutral is None and pose_indices(engine.keypoint_names) is None:
            return
        with progress_bar(f"Looking through {Path(driving).name}", True) as progress:
            length = round(self.source.seconds or 0)
            sentence = self.animator.take_neutral(
                driving, self._neutral or "auto", advanced=lambda seconds: progress(round(seconds), length)
            )
        if sentence:
            self._notify(sentence)

    def _open_studio(self, port: int, listen: str | None) -> Studio:
        try:
            from livepuppet.realtime.app.studio.studio import Studio
        except ImportError as error:
            raise UserError(
                "The studio needs the packages of its extra: pip install 'livepuppet[studio]'."
            ) from error
        return Studio(self, port or None, listen)

    def _control(self, settings: Settings, stack: ExitStack) -> None:
        if not settings.control.enabled:
            return
        from livepuppet.realtime.app.control import ControlServer, control_token

        try:
            server = ControlServer(self.live.post, self.live.state, control_token(), settings.control.port)
        except UserError as error:
            # A second livepuppet beside this one is no reason not to run.
            self._notify(str(error))
        else:
            stack.callback(server.close)

    def _leave_server(self) -> None:
        if self.animator.renderer is not None:
            self.animator.renderer.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error) -> None:
        """Release everything. An output that could not be finished is heard, unless something worse
        ended the session.
        """
        try:
            self._stack.close()
        except UserError:
            if error[0] is None:
                raise

    def run(self) -> None:
        """Go on until the source ends, somebody stops it, or a signal does. `live` then holds the
        figures.

        Raises:
            UserError: if the source fails for good.
        """
        if self.interactive:
            self._notify("Press H for the list of keys, X to take your neutral pose anew, Q to quit.")
        failure: list[BaseException] = []

        def loop() -> None:
            try:
                self.live.run()
            except BaseException as error:
                failure.append(error)

        with stopped_by_signals(self.live):
            # Window systems want the main thread for their windows, so the loop gets one of its
            # own.
            thread = threading.Thread(target=loop, name="live", daemon=True)
            thread.start()
            while thread.is_alive():
                self._pump_ui(thread)
        if failure:
            raise failure[0]

    def _pump_ui(self, thread: threading.Thread) -> None:
        for key in self.terminal.read() if self.terminal is not None else ():
            self.live.press(key)
        if self.window is None:
            thread.join(_TERMINAL_SECONDS)
            return
        key = self.window.pump()
        if key is not None:
            self.live.press(key)
        if self.window.closed:
            self.live.stop()

    def settings_now(self) -> Settings:
        """The settings with what the person changed while running, for the next session."""
        animator, before = self.animator, self.settings
        zoom, right, down = animator.framing.adjustment
        square = animator.framing.square
        return replace(
            before,
            source=replace(before.source, mirror=animator.mirror),
            framing=replace(
                before.framing,
                follow=animator.follow,
                crop_zoom=round(zoom, 3),
                crop_right=round(right, 3),
                crop_down=round(down, 3),
                square=()
                if square is None or animator.is_told
                else tuple(round(value, 1) for value in (square.x, square.y, square.side)),
            ),
            avatar=replace(before.avatar, selected=animator.avatar.name),
            picture=replace(
                before.picture,
                paste=self.live.compositor.paste,
                sharp=self.live.compositor.sharp,
                background=self.live.compositor.background,
            ),
            motion=replace(animator.settings, countdown=before.motion.countdown),
            # A face in numbers has no pose in a camera's picture that could be begun with.
            neutral=before.neutral
            if animator.is_told
            else replace(
                NeutralPose.of(animator.retargeter.initial, animator.engine.model_name),
                reuse=before.neutral.reuse,
            ),
        )


def _remembering(told: deque[tuple[int, str]], notify: Callable[[str], None]) -> Callable[[str], None]:
    """`notify`, which also keeps what it tells, numbered."""
    numbers = itertools.count(1)

    def tell(sentence: str) -> None:
        told.append((next(numbers), sentence))
        notify(sentence)

    return tell


def studio_port(outputs: Sequence[str]) -> int | None:
    """The port of the studio among the outputs, 0 for the settings' own; None without a studio.
    Raises UserError.
    """
    for text in outputs:
        if is_studio(text):
            port = text.partition(":")[2]
            if port and not (is_whole(port) and 0 < int(port) < 65_536):
                raise UserError(f"The output {text} has no port: give studio, or a number as in studio:8650.")
            return int(port) if port else 0
    return None


@contextmanager
def progress_bar(title: str, wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, which is told how much of how much is done; nothing elsewhere, or where
    none is wanted.
    """
    if not wanted or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from tqdm import tqdm  # 0.02 s

    with tqdm(desc=title, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def own_cameras(outputs: Sequence[str]) -> tuple[str, ...]:
    """The virtual cameras among the outputs; where none is named, the one that will be fed."""
    devices = [text.partition(":")[2] for text in outputs if text.partition(":")[0] == "virtual"]
    if sys.platform.startswith("linux"):
        for index, device in enumerate(devices):
            # What is wrong with it is said when it is opened.
            with suppress(OSError):
                devices[index] = find_device(device or None)
    return tuple(device for device in devices if device)


def _keep_own_output_out(settings: Settings) -> None:
    driving = path_of(settings.source.driving, "what drives")
    files: list[str] = []
    for text in settings.output.outputs:
        kind, _, device = text.partition(":")
        number = device.removeprefix("/dev/video")
        if kind == "virtual" and device and number == driving.removeprefix("/dev/video"):
            raise UserError(f"{device} is the output: drive from another camera.")
        if is_file_output(text):
            name = path_of(text, "the output")
            keep_apart(name, inputs_of(settings))
            if any(same_file(name, other) for other in files):
                raise UserError(f"The output {text} is given twice: choose another name for one of them.")
            files.append(name)


def inputs_of(settings: Settings) -> dict[str, str | os.PathLike | None]:
    """What a session reads, by what it is: nothing of it may be written over."""
    avatar = settings.avatar.avatar
    return {
        "the driving video": path_of(settings.source.driving, "what drives"),
        "the avatar": path_of(avatar, "the avatar") if avatar else None,
        "the settings file": settings_path(),
    }


@contextmanager
def stopped_by_signals(live: LiveLoop) -> Iterator[None]:
    """Ctrl-C and SIGTERM end `live` after the frame in hand; a second Ctrl-C interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        if live.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        live.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
