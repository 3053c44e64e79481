"""What the studio's page can see and do, beside the actions that keys and scripts have."""

from __future__ import annotations

import datetime
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from livepuppet.core.avatar import Avatar
from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.realtime.app import actions, keys, settings
from livepuppet.realtime.app.avatar_folder import AvatarFolder
from livepuppet.realtime.app.live_outputs import is_file_output
from livepuppet.realtime.app.settings import RULES
from livepuppet.realtime.app.stats import STAGES
from livepuppet.realtime.app.studio import health, uploads
from livepuppet.realtime.app.studio.feeds import CameraFeed, PictureFeed, to_jpeg
from livepuppet.realtime.app.studio.previews import Previews
from livepuppet.realtime.inputs.cameras import CameraInfo, is_camera, list_cameras
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.screen import is_screen
from livepuppet.realtime.inputs.webcam import Camera
from livepuppet.realtime.outputs.base import Output

if TYPE_CHECKING:
    from livepuppet.realtime.app.session import Session

#: Side of an avatar's thumbnail, in pixels.
THUMBNAIL = 176

#: Seconds for which the state stands, however many ask; and over which recent figures are taken.
STATE_SECONDS, RECENT_SECONDS = 0.1, 1.0

#: What outputs can be switched, and recordings' sound.
SWITCHED, SOUNDS = ("virtual", "recording"), ("auto", "none", "microphone")

#: Modes of the session in which a person looks at how they sit in the camera's picture.
FRAMING_MODES = ("looking", "counting", "lost", "no picture")

#: What moves by itself all the time: pages are told of it less often than of what somebody did.
FIGURES = ("recent", "fps", "camera_fps", "delay_ms", "frames", "dropped", "fit", "outputs", "page_delay_ms")

#: Seconds of the countdown after another camera was chosen.
COUNTDOWN = 2.0

#: Stands for what the session began with, where that is no camera: a clip, a stream, the screen.
FIRST = "first"

#: What can be chosen to drive without a camera, as `--driving` takes it.
WITHOUT_CAMERA = ("microphone", "mouse", "microphone+mouse", "phone", "openseeface")

#: How avatars can be sorted.
SORTS = ("name", "newest")

#: Actions by which the values of a profile are applied while the session runs.
PROFILE_ACTIONS = {
    "source.mirror": "mirror",
    "framing.follow": "follow",
    "picture.background": "background",
    "picture.paste": "paste",
    "picture.sharp": "sharp",
    "motion.search": "search",
    **{f"motion.{name}": name for name in actions.SLIDERS},
}


class Controller:
    """The running session, as pages see it. Every method may be called from any thread.

    Args:
        session: opened.
        obs_address: where the clean picture is, with the token.
    """

    def __init__(self, session: Session, obs_address: Callable[[], str]):
        self._session, self._live = session, session.live
        self._obs_address = obs_address
        self.pictures = PictureFeed()
        self.camera = CameraFeed(
            lambda: self._live.animator.framing.square, lambda: self._live.mode in FRAMING_MODES
        )
        self.previews = Previews()
        #: From the capture of a frame until a page had drawn its picture, as pages tell.
        self.page_delay = Durations()
        self._changing = threading.Lock()
        self._keys: weakref.WeakKeyDictionary[Avatar, int] = weakref.WeakKeyDictionary()
        self._next_key = itertools.count(1)
        self._thumbnails: dict[int, bytes] = {}
        self._state: tuple[float, dict] = (-1e9, {})
        self._recent = _Recent(self._live.stats.latency, self._live.stats.stages)
        self._sort, self._sound = "name", session.settings.output.sound.partition(":")[0]
        #: What drives, as `--driving` takes it; what did at the start, and its name.
        self._driving = self._first = session.settings.source.driving
        self._first_name = self._live.capture.source.name
        self._switched: dict[str, Output] = {}
        self._recording_since: float | None = None
        self._recorded: str | None = None
        self._failures: dict[str, str] = {}
        self._findings: list[dict] | None = None
        self._looking = False
        for text, output in session.opened:
            kind = "virtual" if text.partition(":")[0] == "virtual" else "recording"
            if kind == "virtual" or is_file_output(text):
                self._switched[kind] = output
        if "recording" in self._switched:
            self._recording_since = time.monotonic()
        session.fanout.add(self.pictures)
        self._live.watch = self.camera.offer

    def close(self) -> None:
        """Let go of cameras, and of the session. The picture's feed belongs to the fan-out."""
        self._live.watch = None
        self.camera.close()
        self.previews.close()

    # What is.

    def state(self) -> dict:
        """Everything that moves, as plain values for JSON."""
        now = time.perf_counter()
        made, state = self._state
        if now - made < STATE_SECONDS:
            return state
        live = self._live
        square = live.animator.framing.square
        retargeter = live.animator.retargeter
        counting = live.mode == "counting"
        state = {
            **live.state(),
            "countdown": round(retargeter.countdown_left, 2) if counting else None,
            "countdown_of": max(live.countdown, retargeter.countdown_left) if counting else None,
            "neutral_fit": round(float(retargeter.initial_fit), 3),
            "source": {"name": live.capture.source.name, "id": self._source_id()},
            "framed": square is not None,
            "recent": self._recent.figures(now),
            "sound": self._sound,
            "sort": self._sort,
            "row": self._row(),
            "switches": {kind: self._switch_state(kind) for kind in SWITCHED},
            "shown": {
                **{
                    name: getattr(live.show, name)
                    for name in ("preview", "ghost", "status", "help", "slider")
                },
                "sliders": live.sliders_shown,
            },
            "pointer": bool(getattr(live.capture.source, "needs_pointer", False)),
            "messages": [{"number": number, "text": text} for number, text in tuple(self._session.told)],
            "watching": self.pictures.watched,
            "page_delay_ms": self.page_delay.summary(),
        }
        self._state = (now, state)
        return state

    def described(self) -> dict:
        """What does not change while the session runs."""
        compositor = self._live.compositor
        return {
            "sliders": [
                {
                    "name": name,
                    "help": RULES[f"motion.{name}"].help,
                    "low": low,
                    "high": high,
                    "step": step,
                    "default": RULES[f"motion.{name}"].default,
                }
                for name, (low, high, step) in actions.SLIDERS.items()
            ],
            "help": {rule.name: rule.help for rule in RULES.values()},
            "keys": [asdict(binding) for binding in keys.BINDINGS],
            "stages": list(STAGES),
            "sounds": list(SOUNDS),
            "sorts": list(SORTS),
            "size": [compositor.width, compositor.height],
            "alpha": compositor.shape[2] == 4,
            "obs": self._obs_address(),
            "folder": str(self._folder.path),
            "largest_upload": uploads.LARGEST_UPLOAD,
            "suffixes": sorted(uploads.IMAGE_SUFFIXES),
        }

    # Avatars.

    @property
    def _folder(self) -> AvatarFolder:
        """What a session with a page always has."""
        assert self._session.folder is not None
        return self._session.folder

    def _row(self) -> list[dict]:
        """The avatars in order; the one in use is the session's `number`."""
        return [
            {"name": avatar.name, "key": self._key(avatar), "added": _added(avatar)}
            for avatar in tuple(self._folder.avatars)
        ]

    def _key(self, avatar: Avatar) -> int:
        """Stands for this very avatar: another after its file was changed."""
        if avatar not in self._keys:
            self._keys[avatar] = next(self._next_key)
        return self._keys[avatar]

    def thumbnail(self, key: int) -> bytes:
        """JPEG of an avatar's square. Raises UserError."""
        for avatar in tuple(self._folder.avatars):
            if self._key(avatar) == key:
                return self._thumbnail(key, avatar)
        raise UserError("That avatar is gone.")

    def _thumbnail(self, key: int, avatar: Avatar) -> bytes:
        if key not in self._thumbnails:
            present = {self._key(one) for one in tuple(self._folder.avatars)}
            self._thumbnails = {known: data for known, data in self._thumbnails.items() if known in present}
            small = cv2.resize(avatar.image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
            self._thumbnails[key] = to_jpeg(small)
        return self._thumbnails[key]

    def ghost(self) -> bytes:
        """The present avatar's square as JPEG, mirrored as the driver is."""
        animator = self._live.animator
        image = animator.avatar.image
        return to_jpeg(cv2.flip(image, 1) if animator.mirror else image)

    @property
    def avatars_folder(self) -> Path:
        """Where pictures are stored. Raises UserError where the session has a single file."""
        folder = self._folder.path
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder, so nothing can be added: start with --avatar FOLDER.")
        return folder

    def sort(self, order: str) -> None:
        if order not in SORTS:
            raise UserError(f"Avatars are sorted by {' or '.join(SORTS)}.")
        self._sort = order

    def remove_avatar(self, name: str) -> None:
        """Put it aside. Where it is in use, the next one is taken first. Raises UserError."""
        names = self._live.animator.names
        if len(names) < 2:
            raise UserError("The last avatar stays: add another one first.")
        uploads.remove(self.avatars_folder, name)
        if self._live.animator.avatar.name == name:
            self._live.post("next")

    def restore_avatar(self, name: str) -> None:
        uploads.restore(self.avatars_folder, name)

    # Outputs.

    def switch_output(self, kind: str, on: bool) -> None:
        """Open or close the virtual camera, or a recording.

        Raises:
            UserError: it cannot be opened, or not be finished.
        """
        if kind not in SWITCHED:
            raise UserError(f"There is no output '{kind[:40]}' to switch: there is {' and '.join(SWITCHED)}.")
        with self._changing:
            present = self._switched.get(kind)
            self._failures.pop(kind, None)
            try:
                if on and present is None:
                    self._open(kind)
                elif not on and present is not None:
                    self._close(kind, present)
            except UserError as error:
                self._failures[kind] = str(error)
                raise
        self._state = (-1e9, {})

    def _open(self, kind: str) -> None:
        text = "virtual" if kind == "virtual" else str(_recording_path())
        output = self._session.open_output(text, self._sound)
        self._session.fanout.add(output)
        self._switched[kind] = output
        if kind == "recording":
            self._recording_since, self._recorded = time.monotonic(), text

    def _close(self, kind: str, output: Output) -> None:
        del self._switched[kind]
        if kind == "recording":
            self._recording_since = None
        self._session.close_output(output)

    def _switch_state(self, kind: str) -> dict:
        output = self._switched.get(kind)
        fares = None if output is None else self._session.fanout.state_of(output)
        state: dict[str, Any] = {
            "on": output is not None,
            "name": "" if output is None else output.name,
            "problem": (fares.failed if fares is not None else None) or self._failures.get(kind),
        }
        if kind == "recording":
            since = self._recording_since
            state["seconds"] = None if since is None else int(time.monotonic() - since)
            state["file"] = self._recorded
        return state

    def choose_sound(self, sound: str) -> None:
        """Of the next recording. Raises UserError."""
        if sound not in SOUNDS:
            raise UserError(f"The sound of recordings is {', '.join(SOUNDS[:-1])} or {SOUNDS[-1]}.")
        self._sound = sound

    # Sources.

    def sources(self) -> list[dict]:
        """Every camera, what drove when the session began if it was none, and what needs no camera."""
        present, current = self._live.capture.source, self._source_id()
        found = [self._camera(info) for info in list_cameras() if info.capture or info.problem]
        ours = {output.device for output in self._switched.values()}
        found = [one for one in found if one["path"] not in ours or not one["path"]]
        if self._first_is_other:
            first = {"id": FIRST, "name": self._first_name, "present": current == FIRST, "problem": None}
            found.insert(0, first)
        found += [
            {"id": kind, "name": kind, "present": current == kind, "problem": None, "without": True}
            for kind in WITHOUT_CAMERA
        ]
        if not any(one["present"] for one in found):
            found.insert(0, {"id": current, "name": present.name, "present": True, "problem": None})
        for one in found:
            if one["present"]:
                one["size"], one["rate"] = self._measured()
        return found

    @property
    def _first_is_other(self) -> bool:
        """Whether the session began with something that the list of sources does not have by itself."""
        first = self._first
        return not (is_camera(first) or first in WITHOUT_CAMERA)

    def _source_id(self) -> str:
        source = self._live.capture.source
        if isinstance(source, Camera):
            return str(source.info.number)
        return FIRST if self._driving == self._first and self._first_is_other else self._driving

    def _camera(self, info: CameraInfo) -> dict:
        present = self._live.capture.source
        best = max(info.modes, key=lambda mode: mode.width * mode.height, default=None)
        return {
            "id": str(info.number),
            "name": info.name,
            "path": info.path,
            "virtual": info.virtual,
            "present": isinstance(present, Camera) and present.info.number == info.number,
            "problem": info.problem or None,
            "size": f"{best.width}x{best.height}" if best else None,
            "rate": max(best.rates, default=None) if best else None,
        }

    def _measured(self) -> tuple[str | None, float | None]:
        source, rate = self._live.capture.source, self._live.capture.measured_rate
        given = getattr(source, "given", None)
        return f"{given[0]}x{given[1]}" if given else None, round(rate, 1) if rate else None

    def source_thumbnail(self, number: int) -> bytes:
        """JPEG of a camera that does not drive now. Raises UserError."""
        info = next((info for info in list_cameras() if info.number == number), None)
        if info is None or info.problem or not info.capture:
            raise UserError(f"There is no camera {number} that can be read.")
        if any(output.device == info.path for output in self._switched.values() if info.path):
            raise UserError(f"{info.name} is fed by livepuppet itself.")
        return self.previews.jpeg(info)

    def switch_source(self, text: str) -> None:
        """Drive with another camera, or anything that --driving takes but a file of this computer; or
        again with what the session began with (`FIRST`).

        Raises:
            UserError: it cannot be opened; the one before goes on.
        """
        with self._changing:
            if text == self._source_id():
                return
            if text == FIRST and self._first_is_other:
                text = self._first
            elif not (is_camera(text) or is_screen(text) or text in WITHOUT_CAMERA):
                raise UserError(
                    "Only cameras, screens and what drives without one can be chosen by the page."
                )
            self.previews.release()
            capture = Capture(self._session.open_source(text))
            before = _taken_over(self._live, capture)
            before.close()
            self._driving = text
            self._session.source_changed(text, capture)

    # Profiles.

    def profiles(self) -> list[str]:
        return settings.profiles()

    def apply_profile(self, name: str) -> None:
        """Take over what a profile says of sliders, switches, background and avatar. Its camera and
        size count when the program is started with it.

        Raises:
            UserError: there is none of that name, or it cannot be read.
        """
        if name not in settings.profiles():
            raise UserError(f"There is no profile '{name[:60]}'.")
        wanted = settings.load(name)
        for key, action in PROFILE_ACTIONS.items():
            self._live.post(action, settings.value_of(wanted, key))
        if wanted.avatar.selected in self._live.animator.names:
            self._live.post("select", wanted.avatar.selected)

    def save_profile(self, name: str) -> None:
        """Keep the session's settings under a name. Raises UserError."""
        if settings.profile_name(name) is None:
            raise UserError("Give the profile a name.")
        settings.save(self._session.settings_now(), name)

    # The doctor.

    def findings(self, again: bool = False) -> dict:
        """Warnings with remedies, and whether they are being looked for."""
        with self._changing:
            if (again or self._findings is None) and not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="doctor", daemon=True).start()
        return {"looking": self._looking, "findings": self._findings or []}

    def _look(self) -> None:
        found = health.look_beside()
        self._findings = self._findings or [] if found is None else found
        self._looking = False


class _Recent:
    """Percentiles of the last second, from figures that count from the beginning."""

    def __init__(self, latency: Durations, stages: dict[str, Durations]):
        self._latency, self._stages = latency, stages
        self._made = -1e9
        self._figures: dict = {}
        self._take()

    def _take(self) -> None:
        self._before = self._latency.copy()
        self._stages_before = {name: durations.copy() for name, durations in self._stages.items()}

    def figures(self, now: float) -> dict:
        """p50 and p95 of the delay and the median of every stage, in milliseconds; None without a
        frame.
        """
        if now - self._made >= RECENT_SECONDS:
            self._made = now
            delay = self._latency.since(self._before)
            stages = {
                name: round(durations.since(self._stages_before[name]).percentile(50) * 1000, 2)
                for name, durations in self._stages.items()
            }
            self._figures = {
                "p50": round(delay.percentile(50) * 1000, 1) if delay.count else None,
                "p95": round(delay.percentile(95) * 1000, 1) if delay.count else None,
                "stages": stages,
            }
            self._take()
        return self._figures


def _added(avatar: Avatar) -> float:
    try:
        return avatar.path.stat().st_mtime if avatar.path is not None else 0.0
    except OSError:
        return 0.0


def _recording_path() -> Path:
    """A new name in the videos' folder. Raises UserError."""
    import platformdirs

    folder = platformdirs.user_videos_path() / "livepuppet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): free some space.") from error
    stamp = datetime.datetime.now().strftime("%Y-%m-%d %H.%M.%S")
    return uploads.free_path(folder, f"livepuppet {stamp}.mp4")


def _taken_over(live: Any, capture: Capture) -> Capture:
    """Have the loop take its frames from `capture`, and wait until it does. Returns the one before.

    Raises:
        UserError: the session ended meanwhile.
    """
    done = threading.Event()
    before: list[Capture] = []

    def switch() -> None:
        before.append(live.switch(capture, COUNTDOWN))
        done.set()

    live.call(switch)
    while not done.wait(0.2):
        if live.stopping:
            capture.close()
            raise UserError("The session ends.")
    return before[0]
