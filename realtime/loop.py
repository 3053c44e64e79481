"""The live loop: newest frame in, moved picture out, with nothing waiting in between."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from livepuppet.realtime import actions
from livepuppet.realtime.avatars import AvatarFolder, Change
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing.crop import Framing, Square
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.clips import Frame
from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.live_sound import FileSound
from livepuppet.realtime.outputs.pool import FramePool, Lease
from livepuppet.realtime.outputs.window import Window
from livepuppet.realtime.puppet import Puppet, Step
from livepuppet.realtime.snapshot import Snapshots
from livepuppet.realtime.stats import LiveStats, RecentRate
from livepuppet.realtime.view.overlays import draw_banner
from livepuppet.realtime.view.stage import Stage

#: Seconds for which a message stays in the window.
MESSAGE_SECONDS = 4.0

#: Longest wait for a frame before keys, avatars and the source's health are looked after again.
_TAKE_SECONDS = 0.05

#: While the source delivers nothing, the outputs get the last picture with a banner so many seconds apart.
_BANNER_SECONDS = 0.2

#: A stage that fails on so many frames in a row will not recover.
MOST_FAILURES = 100


class Live:
    """One live session. Call `run` once, in a thread of its own where there is a window.

    Until the driver's face is framed and its neutral pose taken, the outputs show the avatar as it is.

    Args:
        puppet: with its avatars encoded.
        capture: running.
        framing: fresh.
        stage: sets the moved square into the finished picture.
        fanout: of the opened outputs.
        window: shows pictures and messages to the person; None without one.
        folder: tells of avatars that come, go and change while running; None for a fixed set.
        mirror: flip the driver left to right, as a mirror does.
        frames: end after so many animated frames; None goes on until the source ends or somebody stops it.
        carry: called with every frame's picture and the finished one, for what has to travel around the network.
        sounds: of the driving file, which follow its pictures.
        say: called with what the person should know, one sentence at a time.
    """

    def __init__(
        self,
        puppet: Puppet,
        capture: Capture,
        framing: Framing,
        stage: Stage,
        fanout: Fanout,
        window: Window | None = None,
        folder: AvatarFolder | None = None,
        mirror: bool = False,
        frames: int | None = None,
        carry: Callable[[np.ndarray, np.ndarray], None] | None = None,
        sounds: Sequence[FileSound] = (),
        say: Callable[[str], None] = print,
    ):
        self.puppet, self.mover, self.capture, self.framing = puppet, puppet.mover, capture, framing
        self.stage, self.fanout, self.window, self.folder = stage, fanout, window, folder
        self.mirror, self.frames_wanted, self._carry, self._say_aloud = mirror, frames, carry, say
        self._sounds = sounds
        self.pool = FramePool(stage.shape)
        self.stats = LiveStats()
        self.rate = RecentRate()
        self.show = actions.Shown()
        self.countdown = self.mover.settings.countdown
        self._snapshots = Snapshots(self)
        #: D1 and the crop it belongs to, to begin with instead of a countdown.
        self.saved_pose: tuple[Keypoints, Square] | None = None
        self.stopping = False
        self.resting = False
        self.message, self.message_until = "", 0.0
        self._posted: deque[tuple[str, Any]] = deque()
        self._start: float | None = None
        self._before = (0, 0)
        self._framed = False
        self.trouble: str | None = None
        self._banner_at = 0.0
        self._last: Lease | None = None
        self._failures = 0
        self._errors: Counter[str] = Counter()

    # What other threads call.

    def stop(self) -> None:
        """End after the frame in hand. May be called from a signal handler or another thread."""
        self.stopping = True

    def post(self, action: str, value: Any = None) -> None:
        """Have the loop do something before its next frame: a name of `actions.ACTIONS`, with its value if it takes one.

        Raises:
            UserError: there is no such action, or the value does not fit it. Nothing is posted then.
        """
        self._posted.append((action, actions.checked(action, value)))

    def press(self, key: str) -> None:
        """Post what `key`, a name of `keys.BINDINGS`, stands for. Other keys do nothing."""
        bound = actions.bound(key)
        if bound is not None:
            self._posted.append(bound)

    def state(self) -> dict:
        """What goes on, for a control client or a report; plain values."""
        latency = self.stats.latency
        return {
            "mode": self.mode,
            "avatar": self.puppet.avatar.name,
            "number": self.puppet.index + 1,
            "avatars": self.puppet.names,
            "mirror": self.mirror,
            "background": self.stage.background,
            "paste": self.stage.paste,
            "fit": round(float(self.mover.fit), 3),
            "sliders": {name: getattr(self.mover.settings, name) for name in actions.SLIDERS},
            "search": self.mover.settings.search,
            "follow": self.framing.following,
            "fps": round(self.rate.fps, 1),
            "camera_fps": round(self.capture.measured_rate or 0.0, 1),
            "delay_ms": latency.summary(),
            "frames": self.stats.frames,
            "dropped": self.counts()[1],
            "errors": self.failed,
            "trouble": self.trouble,
            "outputs": [output.as_dict() for output in self.fanout.states()],
        }

    @property
    def failed(self) -> int:
        """Frames left out because something went wrong with them."""
        return sum(self._errors.values())

    @property
    def sliders_shown(self) -> bool:
        return time.perf_counter() < self.show.sliders_until

    def show_sliders(self) -> None:
        """Show the sliders in the window, for a while."""
        self.show.sliders_until = time.perf_counter() + MESSAGE_SECONDS

    @property
    def mode(self) -> str:
        """`no picture`, `looking`, `counting`, `at rest`, `frozen`, `lost` or `live`."""
        if self._banner_at:
            return "no picture"
        if not self.framing.settled:
            return "looking"
        return "at rest" if self.resting else self.mover.state

    # What the loop's thread does.

    def say(self, text: str) -> None:
        """Tell the person: in the window where there is one, and on the terminal."""
        self.message, self.message_until = text, time.perf_counter() + MESSAGE_SECONDS
        self._say_aloud(text)

    def run(self) -> LiveStats:
        """Go on until stopped, the wanted number of frames, the source's end, or the window's.

        Raises:
            UserError: if the source fails for good, or every frame does. `stats` then holds what was done until then.
        """
        self.say("Looking for your face: look straight ahead, with a neutral expression.")
        try:
            while not self.stopping:
                self._between_frames()
                frame = self.capture.take(_TAKE_SECONDS)
                taken = time.perf_counter()
                if frame is None:
                    if self.capture.ended:
                        # An error of the reading thread comes out of the slot only once the frames are used up.
                        self.capture.take(0)
                        break
                    self._while_waiting(taken)
                    continue
                self._banner_at = 0.0
                self._survive(self._turn, frame, taken)
                if self.frames_wanted is not None and self.stats.frames >= self.frames_wanted:
                    break
        finally:
            self.stats.captured, self.stats.dropped = self.counts()
            self.stats.errors = dict(self._errors)
        return self.stats

    def _survive(self, step: Callable, *arguments: Any) -> None:
        """Do `step`. What goes wrong is said once and counted; only a stage that always fails ends the session."""
        try:
            step(*arguments)
            self._failures = 0
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self._failures += 1
            self._errors[reason] += 1
            if self._errors[reason] == 1:
                self.say(f"A frame failed and was left out ({reason.rstrip('.')}); going on.")
            if self._failures >= MOST_FAILURES:
                raise UserError(
                    f"{MOST_FAILURES} frames in a row failed ({reason.rstrip('.')}): restart, and report it with the "
                    "output of livepuppet doctor."
                ) from error

    def _between_frames(self) -> None:
        while self._posted:
            action, value = self._posted.popleft()
            try:
                actions.do(self, action, value)
            except UserError as error:
                self.say(str(error))
        if self.folder is not None:
            for sentence in self.folder.sentences():
                self.say(sentence)
            for change in self.folder.changes(self.puppet.index):
                self._survive(self._change_avatar, change)

    def _change_avatar(self, change: Change) -> None:
        if change.kind == "removed":
            self.puppet.remove(change.index)
            return
        self.stage.prepare(change.avatar)
        if change.kind == "added":
            self.puppet.add(change.index, change.avatar)
            self.say(f"New avatar: {change.avatar.name}.")
        else:
            self.puppet.replace(change.index, change.avatar)
            self.say(f"Avatar {change.avatar.name} was read again.")
        self.stage.set_avatar(self.puppet.avatar)

    def _turn(self, frame: Frame, taken: float) -> None:
        """One frame, from the slot to the outputs."""
        for sound in self._sounds:
            sound.played(frame.time, frame.captured)
        self._hear(self.capture.trouble)
        if not self.framing.look(frame.picture):
            self._framed = False
            self._show_avatar_at_rest(frame)
            return
        if not self._framed:
            self._begin_with(frame)
        square = self._cut(frame)
        cropped = time.perf_counter()
        step = self.puppet.move(square, frame.captured, self.stage.needs_deformation)
        moved = time.perf_counter()
        lease = self.pool.take()
        try:
            if step.moved and not self.resting:
                self.stage.compose(step.picture, step.deformation, lease.picture)
            else:
                self.stage.at_rest(lease.picture)
            composed = time.perf_counter()
            self._hand_over(lease, frame, square)
        finally:
            lease.release()
        handed_over = time.perf_counter()
        for sentence in self.mover.events():
            self.say(sentence)
        self._follow(step, frame)
        self.rate.tick(handed_over)
        if not step.moved:
            return
        if not self.stats.frames:
            # Figures begin here: what went by before the neutral pose was taken is nobody's loss.
            captured, dropped = self.capture.counts()
            self._before = (captured - 1, dropped)
        marks = {
            "wait": taken - frame.captured,
            "crop": cropped - taken,
            "detect": step.detect_seconds,
            "render": step.render_seconds,
            "compose": composed - moved,
            "output": handed_over - composed,
        }
        self.stats.add(frame.captured, marks, handed_over)

    def _hear(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                self.say(trouble)

    def _begin_with(self, frame: Frame) -> None:
        """The driver has just been framed, anew or for the first time."""
        self._framed = True
        self.mover.frame_changed()
        if self.saved_pose is not None:
            (pose, square), self.saved_pose = self.saved_pose, None
            try:
                self.mover.initial = self._in_new_crop(pose, square, self.framing.square.whole())
            except ValueError:
                self.say("The saved neutral pose cannot be used, so a new one is taken.")
        if self.framing.crop == "auto" and not self.framing.faces:
            self.say(
                "No face found, so the middle of the picture is used: press C to look again, W/S/I/J/K/L to adjust."
            )

    def _cut(self, frame: Frame) -> np.ndarray:
        square = self.framing.cut(frame.picture, self.puppet.engine.size)
        return cv2.flip(square, 1) if self.mirror else square

    def _while_waiting(self, now: float) -> None:
        """The source delivers nothing: hold the last picture, and say on it why it stands still."""
        trouble = self.capture.trouble
        self._hear(trouble)
        if trouble is None or now - self._banner_at < _BANNER_SECONDS:
            return
        self._banner_at = now
        lease = self.pool.take()
        try:
            if self._last is None:
                self.stage.at_rest(lease.picture)
            else:
                np.copyto(lease.picture, self._last.picture)
            draw_banner(lease.picture, trouble, alert=True)
            self.fanout.submit(lease, self._elapsed(now), None)
            if self.window is not None:
                self.window.offer(lease, self._snapshots.overlay(None, None), now)
        finally:
            lease.release()

    def _show_avatar_at_rest(self, frame: Frame) -> None:
        lease = self.pool.take()
        try:
            self.stage.at_rest(lease.picture)
            self._hand_over(lease, frame, self._cut(frame) if self.window else None)
        finally:
            lease.release()

    def _follow(self, step: Step, frame: Frame) -> None:
        """Let the crop follow the head, after the frame is out."""
        driving = step.driving
        if self.mirror:
            driving = replace(driving, points=driving.points * np.float32([-1, 1]))
        self.reframe(self.framing.follow(driving, frame.captured))
        if self.mover.state == "lost":
            self.framing.lost(frame.picture, frame.captured)

    def reframe(self, change: tuple[Square, Square] | None) -> None:
        """Tell the mover that the crop went from one square to another, so that D1 stays the pose it was."""
        if change is None:
            return
        self.mover.remap(lambda keypoints: self._in_new_crop(keypoints, *change))

    def _in_new_crop(self, keypoints: Keypoints, old: Square, new: Square) -> Keypoints:
        if self.mirror:
            old, new = _mirrored(old), _mirrored(new)
        return reexpressed(keypoints, old, new, self.puppet.engine.size, self.puppet.engine.matrices)

    def _hand_over(self, lease: Lease, frame: Frame, square: np.ndarray | None) -> None:
        """Give the finished picture to every output and to the window, none of which is waited for."""
        lease.hold()
        if self._last is not None:
            self._last.release()
        self._last = lease
        if self._carry is not None:
            self._carry(frame.picture, lease.picture)
        self.fanout.submit(lease, self._elapsed(frame.captured), frame.captured)
        if self.window is not None:
            self.window.offer(lease, self._snapshots.overlay(frame, square), frame.captured)

    def _elapsed(self, at: float) -> Fraction:
        """Seconds since the first picture."""
        self._start = at if self._start is None else self._start
        return Fraction(at - self._start)

    def counts(self) -> tuple[int, int]:
        """Frames captured and dropped since the first one that moved the avatar."""
        captured, dropped = self.capture.counts()
        return captured - self._before[0], dropped - self._before[1]


def _mirrored(square: Square) -> Square:
    """The square in a picture that is flipped left to right, up to a common shift."""
    return replace(square, x=-square.x - square.side)
