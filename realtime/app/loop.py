"""The live loop: newest frame in, moved picture out, with nothing waiting in between."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.processor import idle_seconds
from livepuppet.core.video import Frame
from livepuppet.realtime.animator import NO_FACE, Animator, Plan, Timings
from livepuppet.realtime.app import actions
from livepuppet.realtime.app.avatar_folder import AvatarFolder, Change
from livepuppet.realtime.app.load import DETAIL, FAST, STEPS, Effort, LoadControl, Step
from livepuppet.realtime.app.overlay.screens import draw_banner
from livepuppet.realtime.app.overlay.snapshot import Snapshots
from livepuppet.realtime.app.power import PowerWatch
from livepuppet.realtime.app.stage import Stage
from livepuppet.realtime.app.stats import LiveStats, RecentRate
from livepuppet.realtime.app.window import Window
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines.cores import usable_cores
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.live_sound import FileSound
from livepuppet.realtime.outputs.pool import FramePool, Lease

if TYPE_CHECKING:
    from livepuppet.realtime.remote.renderer import RemoteRenderer

logger = logging.getLogger(__name__)

#: Seconds for which a message stays in the window.
MESSAGE_SECONDS = 4.0

#: Longest wait for a frame before keys, avatars and the source's health are looked after again.
_TAKE_SECONDS = 0.05

#: While the source delivers nothing, the outputs get the last picture with a banner so many seconds
#: apart.
_BANNER_SECONDS = 0.2

#: What a person in front of a window can do where no face is found.
_NO_FACE_HELP = ": press C to look again, W/S/I/J/K/L to adjust."

#: What is said first, where the source has nothing better to say.
LOOKING = "Looking for your face: look straight ahead, with a neutral expression."

#: How much the newest frame counts in what planning usually takes.
_PLANNING_SHARE = 0.2

#: A stage that fails on so many frames in a row will not recover.
MOST_FAILURES = 100

#: On so few cores the loop's own threads are enough: one that has OpenCV share out a picture would wait until the other share gets a
#: core. On two cores of a Xeon, at 60 frames a second: .6 ± .3 ms of a core less per frame, 1.3 ± .8 ms less delay.
FEW_CORES = 2


@dataclass(frozen=True, eq=False)
class _Job:
    """A frame on its way to the outputs.

    Attributes:
        plan: of `frame`.
        taken, planned: `time.perf_counter()` at which it was taken from the camera's slot, and
            passed on.
        core: seconds in between in which the thread had a core.
        counts: of the capture, when it was taken.
        number: of frames before it.
    """

    frame: Frame
    plan: Plan
    taken: float
    planned: float
    core: float
    counts: tuple[int, int]
    number: int


class LiveLoop:
    """One live session. Call `run` once, in a thread of its own where there is a window.

    Until the driver's face is framed and its neutral pose taken, the outputs show the avatar as it
    is.

    One thread takes frames, reads the face and plans the picture; another paints it and hands it
    over. The first begins with the newest frame just in time to be done when the second is. Where
    another machine renders, several threads wait for its pictures instead.

    Args:
        animator: with its avatars encoded, and a compositor.
        capture: running.
        fanout: of the opened outputs.
        window: shows pictures and messages to the person; None without one.
        folder: tells of avatars that come, go and change while running; None for a fixed set.
        frames: end after so many animated frames; None goes on until the source ends or somebody
            stops it.
        carry: called with every frame's picture and the finished one, for what has to travel around
            the network.
        sounds: of the driving file, which follow its pictures.
        overlap: paint in a thread of its own; by default where there is more than one core.
        adapt: leave details out while there is too little time, see `load`.
        notify: called with what the person should know, one sentence at a time.
    """

    def __init__(
        self,
        animator: Animator,
        capture: Capture,
        fanout: Fanout,
        window: Window | None = None,
        folder: AvatarFolder | None = None,
        frames: int | None = None,
        carry: Callable[[np.ndarray, np.ndarray], None] | None = None,
        sounds: Sequence[FileSound] = (),
        notify: Callable[[str], None] = logger.info,
        overlap: bool | None = None,
        adapt: bool = True,
    ):
        self.animator, self.capture = animator, capture
        self.fanout, self.window, self.folder = fanout, window, folder
        self.frames_wanted, self._carry, self._notify_elsewhere = frames, carry, notify
        self._sounds = sounds
        self.pool = FramePool(self.compositor.shape)
        self.stats = LiveStats()
        self.rate = RecentRate()
        self.show = actions.Shown()
        self.countdown = animator.settings.countdown
        self._snapshots = Snapshots(self)
        self.stopping = False
        self.message, self.message_until = "", 0.0
        self._posted: deque[tuple[str, Any]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        #: Called with every camera frame once its picture was handed over. It has to return at once.
        self.watch: Callable[[Frame], None] | None = None
        self._start: float | None = None
        self._before = (0, 0)
        self.trouble: str | None = None
        self._banner_at = 0.0
        self._last: Lease | None = None
        self._failures = 0
        self._errors: Counter[str] = Counter()
        self._counting = threading.Lock()
        overlap = usable_cores() != 1 if overlap is None else overlap
        self._painting: Stage[_Job] = Stage(self._paint, "painting" if overlap else None)
        self._jobs = 0
        #: The newest frame that was handed over, and frames that came too late for that.
        self._handed_over, self._overtaken = -1, 0
        self._handing_over = threading.Lock()
        self._painting.workers = self._workers
        #: The address of a machine that can render; see `rendering`.
        self.server: str | None = None
        self._planning = 0.0
        #: Frames per second that the camera was last seen to deliver; 0 before that.
        self._camera_rate = 0.0
        self._load = LoadControl(idle_seconds) if adapt else None
        #: What the load control has told last.
        self._steps, self._level = STEPS, 0
        self._power = PowerWatch()

    @property
    def compositor(self) -> Compositor:
        """The animator's, which a live session always has."""
        assert self.animator.compositor is not None
        return self.animator.compositor

    @property
    def reduced(self) -> tuple[Step, ...]:
        """What is left out now for want of time."""
        return tuple(step for step in self._steps[: self._level] if self._saves(step))

    def _saves(self, step: Step) -> bool:
        """Whether leaving it out saves time: nobody looks closely at numbers."""
        return step.name != "close-ups" or not (self.animator.is_told or self.animator.is_asked)

    # What other threads call.

    def stop(self) -> None:
        """End after the frame in hand. May be called from a signal handler or another thread."""
        self.stopping = True

    def post(self, action: str, value: Any = None) -> None:
        """Have the loop do something before its next frame: a name of `actions.ACTIONS`, with its
        value if it takes one.

        Raises:
            UserError: there is no such action, or the value does not fit it. Nothing is posted
                then.
        """
        self._posted.append((action, actions.checked(action, value)))

    def call(self, step: Callable[[], None]) -> None:
        """Have the loop do `step` before its next frame. A UserError of it is told to the person."""
        self._calls.append(step)

    def press(self, key: str) -> None:
        """Post what `key`, a name of `keys.BINDINGS`, stands for. Other keys do nothing."""
        bound = actions.bound(key)
        if bound is not None:
            self._posted.append(bound)

    def state(self) -> dict:
        """What goes on, for a control client or a report; plain values."""
        latency, animator = self.stats.latency, self.animator
        return {
            "mode": self.mode,
            "avatar": animator.avatar.name,
            "number": animator.index + 1,
            "avatars": animator.names,
            "mirror": animator.mirror,
            "background": self.compositor.background,
            "paste": self.compositor.paste,
            "sharp": self.compositor.sharp,
            "fit": round(float(animator.retargeter.fit), 3),
            "sliders": {name: getattr(animator.settings, name) for name in actions.SLIDERS},
            "search": animator.settings.search,
            "follow": animator.follow,
            "engine": {
                "name": animator.engine.name,
                "precision": animator.engine.precision,
                "reason": animator.engine.reason,
            },
            "remote": None if animator.renderer is None else animator.renderer.figures(),
            "fps": round(self.rate.fps, 1),
            "camera_fps": round(self.capture.measured_rate or 0.0, 1),
            "delay_ms": latency.summary(),
            "frames": self.stats.frames,
            "dropped": self.counts()[1],
            "reduced": [step.told for step in self.reduced],
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
        if self.animator.is_asked:
            return "at rest" if self.animator.resting else "live"
        if not (self.animator.framing.settled or self.animator.is_told):
            return "looking"
        return "at rest" if self.animator.resting else self.animator.retargeter.state

    # What the loop's thread does.

    def notify(self, text: str) -> None:
        """Tell the person: in the window where there is one, and on the terminal."""
        self.message, self.message_until = text, time.perf_counter() + MESSAGE_SECONDS
        self._notify_elsewhere(text)

    def run(self) -> LiveStats:
        """Go on until stopped, the wanted number of frames, the source's end, or the window's.

        Raises:
            UserError: if the source fails for good, or every frame does. `stats` then holds what
                was done until then.
        """
        with _few_threads():
            return self._run()

    def _run(self) -> LiveStats:
        self.notify(getattr(self.capture.source, "greeting", None) or LOOKING)
        self._painting.start()
        try:
            while not self.stopping:
                self._between_frames()
                if not self._painting.ready(self._planning, _TAKE_SECONDS):
                    continue
                frame = self.capture.take(_TAKE_SECONDS)
                taken = time.perf_counter()
                if frame is None:
                    if self.capture.ended:
                        # An error of the reading thread comes out of the slot only once the frames
                        # are used up.
                        self.capture.take(0)
                        break
                    self._while_waiting(taken)
                    continue
                self._banner_at = 0.0
                self._guard(self._process_frame, frame, taken)
                if self.frames_wanted is not None:
                    self._painting.drain()
                    if self.stats.frames >= self.frames_wanted:
                        break
            self._painting.drain()
        finally:
            self._painting.close()
            self.stats.captured, self.stats.dropped = self.counts()
            self.stats.errors = dict(self._errors)
        return self.stats

    def _guard(self, step: Callable, *arguments: Any) -> None:
        """Do `step`. What goes wrong is said once and counted; only a stage that always fails ends
        the session.
        """
        try:
            step(*arguments)
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            with self._counting:
                self._failures += 1
                self._errors[reason] += 1
                first = self._errors[reason] == 1
            if first:
                self.notify(f"A frame failed and was left out ({reason.rstrip('.')}); going on.")
            if self._failures >= MOST_FAILURES:
                raise UserError(
                    f"{MOST_FAILURES} frames in a row failed ({reason.rstrip('.')}): restart, and report it with the "
                    "output of livepuppet doctor."
                ) from error

    def _between_frames(self) -> None:
        if self._posted or self._calls:
            # What is being painted is of the time before.
            self._painting.drain()
        while self._calls:
            try:
                self._calls.popleft()()
            except UserError as error:
                self.notify(str(error))
        while self._posted:
            action, value = self._posted.popleft()
            try:
                actions.do(self, action, value)
            except UserError as error:
                self.notify(str(error))
        if self.folder is not None:
            for sentence in self.folder.messages():
                self.notify(sentence)
            for change in self.folder.changes(self.animator.index):
                self._painting.drain()
                self._guard(self._change_avatar, change)

        if self._load is not None and (self._load.steps, self._load.level) != (self._steps, self._level):
            self._painting.drain()
            self._set_level(self._load.steps, self._load.level)
        self.animator.look_every = self._look_every

    def switch(self, capture: Capture, countdown: float) -> Capture:
        """Take frames from another source, in the loop's thread: the face is looked for anew, and its
        neutral pose taken after `countdown` seconds.

        Returns:
            The one before, which the caller closes.
        """
        so_far, before = self.counts(), self.capture
        self.capture = capture
        self.capture.every = self._every
        captured, dropped = capture.counts()
        self._before = captured - so_far[0], dropped - so_far[1] + self._overtaken
        self._planning, self._banner_at = 0.0, 0.0
        if self._load is not None:
            self._load.restart()
        self.countdown = countdown
        self.animator.begin_anew(countdown)
        return before

    @property
    def _workers(self) -> int:
        return 1 if self.animator.renderer is None else self.animator.renderer.frames_on_the_way

    def use_renderer(self, renderer: RemoteRenderer | None) -> None:
        """Render on another machine from now on, or here (None), in the loop's thread."""
        self._painting.drain()
        self.animator.use_renderer(renderer)
        self._painting.workers = self._workers
        if self._load is not None:
            self._load.restart()

    def _set_level(self, steps: tuple[Step, ...], level: int) -> None:
        """Have so many of `steps` in force, and say so."""
        before = self.reduced
        self._steps, self._level = steps, level
        for step in self.reduced:
            if step not in before:
                why = self._power.reason()
                self.notify(f"The computer is busy: {step.told}.{f' {why}' if why else ''}")
        for step in reversed(before):
            if step not in self.reduced:
                self.notify(f"There is time again: {step.ended}.")
        self.capture.every = self._every
        self.animator.look_every = self._look_every
        self.compositor.detail = DETAIL if any(step.name == "detail" for step in self.reduced) else 1.0

    @property
    def _every(self) -> int:
        """Of how many of the camera's frames one is shown."""
        return max((step.every for step in self.reduced), default=1)

    @property
    def _look_every(self) -> int:
        """Of how many frames one is looked at closely: of a fast camera's, no more per second than of a usual one's."""
        usual = 2 if self._camera_rate > FAST * self._every else 1
        return 2 * usual if any(step.name == "close-ups" for step in self.reduced) else usual

    def _change_avatar(self, change: Change) -> None:
        if change.kind == "removed":
            self.animator.remove(change.index)
        elif change.kind == "added":
            self.animator.add(change.index, change.avatar)
            self.notify(f"New avatar: {change.avatar.name}.")
        else:
            self.animator.replace(change.index, change.avatar)
            self.notify(f"Avatar {change.avatar.name} was read again.")

    def _process_frame(self, frame: Frame, taken: float) -> None:
        """One frame, from the slot to the painting thread."""
        busy, counts = time.thread_time(), self.capture.counts()
        for sound in self._sounds:
            sound.played(frame.time, frame.captured)
        self._report_source_problem(self.capture.trouble)
        plan = self.animator.plan(frame, frame.captured)
        planned = time.perf_counter()
        self._planning += _PLANNING_SHARE * (planned - taken - self._planning)
        busy = time.thread_time() - busy
        self._painting.put(_Job(frame, plan, taken, planned, busy, counts, self._jobs))
        self._jobs += 1
        for message in self.animator.events():
            self.notify(f"{message[:-1]}{_NO_FACE_HELP}" if message == NO_FACE else message)
        if plan.framed:
            self.animator.track(plan, frame, frame.captured)

    # What the painting thread does; the loop's own where there is none.

    def _paint(self, job: _Job) -> None:
        self._guard(self._paint_frame, job)

    def _paint_frame(self, job: _Job) -> None:
        """One frame, from its plan to the outputs."""
        began, busy = time.perf_counter(), time.thread_time()
        lease = self.pool.take()
        try:
            result = self.animator.paint(job.plan, lease.picture)
            composed = time.perf_counter()
            with self._handing_over:
                self._failures = 0
                if result.fresh and job.number > self._handed_over:
                    self._handed_over = job.number
                    self._hand_over(lease, job.frame, job.plan.driving_square)
                    core = job.core + time.thread_time() - busy
                    self._count_frame(job, result.timings, began, composed, core)
                else:
                    # Another machine was too late. The outputs hold the last picture.
                    self._overtaken += bool(self.stats.frames)
                    self._show_person(lease, job.frame, job.plan.driving_square)
        finally:
            lease.release()

    def _count_frame(self, job: _Job, timings: Timings, began: float, composed: float, core: float) -> None:
        """It was handed over just now."""
        handed_over = time.perf_counter()
        if job.plan.framed:
            self.rate.tick(handed_over)
        if job.plan.moved:
            if not self.stats.frames:
                # Figures begin here: what went by before the neutral pose was taken is nobody's loss.
                captured, dropped = job.counts
                self._before = (captured - 1, dropped)
            self._count(job, timings, began, composed, handed_over)
            self._judge(job, began, handed_over, core)

    def _count(self, job: _Job, timings: Timings, began: float, composed: float, handed_over: float) -> None:
        marks = {
            "wait": job.taken - job.frame.captured,
            "crop": timings.crop,
            "detect": timings.detect,
            "render": timings.render,
            "slot": began - job.planned,
            "compose": timings.compose,
            "output": handed_over - composed,
        }
        self.stats.add(job.frame.captured, marks, handed_over)
        for step in self.reduced:
            self.stats.reduced[step.name] = self.stats.reduced.get(step.name, 0) + 1
        self._camera_rate = self.capture.measured_rate or 0.0

    def _judge(self, job: _Job, began: float, handed_over: float, core: float) -> None:
        """Tell the load control what the frame took."""
        # Leaving out details here would not help another machine that renders.
        if self._load is None or self.animator.renderer is not None:
            return
        rate, captured = self._camera_rate, job.frame.captured
        # Threads that wait for a graphics card look like threads that wait for a core.
        known = core if self.animator.engine.device == "cpu" else None
        effort = Effort(job.planned - job.taken, handed_over - began, self._painting.overlaps, known)
        # What a network took is no reason to leave out details.
        late = handed_over - getattr(job.frame, "arrived", captured)
        self._load.add(captured, late, self.counts()[1], 1 / rate if rate else None, effort)

    # What the loop's thread does beside, and both.

    def _report_source_problem(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                self.notify(trouble)

    def _while_waiting(self, now: float) -> None:
        """The source delivers nothing: hold the last picture, and say on it why it stands still."""
        trouble = self.capture.trouble
        self._report_source_problem(trouble)
        if trouble is None or now - self._banner_at < _BANNER_SECONDS:
            return
        self._banner_at = now
        self._painting.drain()
        if self._load is not None:
            self._load.restart()
        lease = self.pool.take()
        try:
            if self._last is None:
                self.animator.draw_at_rest(lease.picture)
            else:
                np.copyto(lease.picture, self._last.picture)
            draw_banner(lease.picture, trouble, alert=True)
            self.fanout.submit(lease, self._elapsed(now), None)
            if self.window is not None:
                self.window.offer(lease, self._snapshots.overlay(None, None), now)
        finally:
            lease.release()

    def _hand_over(self, lease: Lease, frame: Frame, square: np.ndarray) -> None:
        """Give the finished picture to every output and to the window, none of which is waited for."""
        lease.hold()
        if self._last is not None:
            self._last.release()
        self._last = lease
        if self._carry is not None:
            self._carry(frame.image, lease.picture)
        self.fanout.submit(lease, self._elapsed(frame.captured), frame.captured)
        self._show_person(lease, frame, square)

    def _show_person(self, lease: Lease, frame: Frame, square: np.ndarray) -> None:
        """Show the picture to the person in front, in the window and to whoever watches."""
        if self.window is not None:
            self.window.offer(lease, self._snapshots.overlay(frame, square), frame.captured)
        if self.watch is not None:
            self.watch(frame)

    def _elapsed(self, at: float) -> Fraction:
        """Seconds since the first picture."""
        self._start = at if self._start is None else self._start
        return Fraction(at - self._start)

    def counts(self) -> tuple[int, int]:
        """Frames captured and dropped since the first one that moved the avatar."""
        captured, dropped = self.capture.counts()
        return captured - self._before[0], dropped - self._before[1] + self._overtaken


@contextmanager
def _few_threads() -> Iterator[None]:
    """OpenCV without threads of its own where there are but `FEW_CORES`."""
    before = cv2.getNumThreads()
    if 0 < usable_cores() <= FEW_CORES:
        cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
