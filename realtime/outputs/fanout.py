"""Every output in a thread of its own, with a slot in which the newest picture wins."""

from __future__ import annotations

import logging
import threading
import time as clock
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.pool import FramePool, Lease

logger = logging.getLogger(__name__)

#: Seconds an output may take over the picture in hand when everything is closed; then it is left to
#: its thread.
CLOSING_PATIENCE = 3.0

#: An output that fails on so many pictures in a row, in ways nobody foresaw, will not recover.
MOST_FAILURES = 100


@dataclass(frozen=True)
class OutputState:
    """How one output fares.

    Attributes:
        name: of the output.
        written: new pictures it took.
        skipped: pictures overtaken by newer ones while it was busy.
        repeated: pictures sent once more because no new one came.
        lost: pictures that came while it was out of order.
        failures: how often it failed.
        failed: one sentence while it is out of order, else None.
        kept: whether it is a recording.
        delay_ms: from a picture's capture to the end of its write: p50, p95, p99, mean and max in
            milliseconds.
    """

    name: str
    written: int
    skipped: int
    repeated: int
    lost: int
    failures: int
    failed: str | None
    delay_ms: dict[str, float]
    kept: bool = False

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


class Fanout:
    """Hands pictures to several outputs, none of which is waited for and none of which slows or
    stops another.

    Args:
        outputs: opened, each of another kind or place. They belong to this from now on.
        notify: called from the outputs' threads with what the person should know, one sentence at a
            time.
    """

    def __init__(self, outputs: Iterable[Output], notify: Callable[[str], None] = logger.warning):
        self._over_black, self._notify = _OverBlack(), notify
        #: Replaced as a whole, so that who goes through it needs no lock.
        self._lanes = tuple(_Lane(output, notify) for output in outputs)
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._lanes)

    def add(self, output: Output) -> None:
        """One more output, which gets the next picture. It belongs to this from now on."""
        with self._changing:
            self._lanes = (*self._lanes, _Lane(output, self._notify))

    def remove(self, output: Output) -> None:
        """Finish what waits for it and close it; the others go on. Nothing where it is not here.

        Raises:
            UserError: it could not be finished.
        """
        with self._changing:
            gone = [lane for lane in self._lanes if lane.output is output]
            self._lanes = tuple(lane for lane in self._lanes if lane.output is not output)
        for lane in gone:
            lane.end()
            lane.close(CLOSING_PATIENCE)

    def state_of(self, output: Output) -> OutputState | None:
        """How one output fares; None where it is not here."""
        return next((lane.state() for lane in self._lanes if lane.output is output), None)

    def submit(self, lease: Lease, time: Fraction, captured: float | None) -> None:
        """Give one picture to every output. Never waits; the lease is held for as long as an output
        needs it.

        Args:
            lease: of uint8 RGB (H, W, 3) or RGBA (H, W, 4), which nobody changes any more.
            time: seconds since the first picture, growing.
            captured: `time.perf_counter()` of the driving frame; None for a picture that shows
                none, whose delay means nothing.
        """
        submission = _Submission(lease, time, captured, self._over_black)
        for lane in self._lanes:
            lane.put(submission)
        submission.release()

    def states(self) -> list[OutputState]:
        """How the outputs fare, in their order."""
        return [lane.state() for lane in self._lanes]

    def close(self) -> None:
        """Finish what waits for the recordings, end the threads, and close every output. Safe to
        call twice.

        Raises:
            UserError: the first failure to finish, once all others were closed.
        """
        for lane in self._lanes:
            lane.end()
        deadline = clock.monotonic() + CLOSING_PATIENCE
        errors = []
        for lane in self._lanes:
            try:
                lane.close(max(0.0, deadline - clock.monotonic()))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def close_all(outputs: Sequence[Output]) -> None:
    """Close every one of them, then raise the first error that one of them ended with."""
    errors = []
    for output in outputs:
        try:
            output.close()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


class _OverBlack:
    """Lays RGBA over black, into buffers that are used again."""

    def __init__(self):
        #: Of pictures with premultiplied alpha, and of opaque ones.
        self._pools: tuple[FramePool, FramePool] | None = None
        self._lock = threading.Lock()

    def __call__(self, picture: np.ndarray) -> Lease:
        with self._lock:
            if self._pools is None or self._pools[0].shape != picture.shape:
                self._pools = FramePool(picture.shape), FramePool((*picture.shape[:2], 3))
            premultiplied, opaque = self._pools
            between, result = premultiplied.take(), opaque.take()
        cv2.cvtColor(picture, cv2.COLOR_RGBA2mRGBA, dst=between.picture)
        cv2.cvtColor(between.picture, cv2.COLOR_RGBA2RGB, dst=result.picture)
        between.release()
        return result


class _Submission:
    """One picture on its way, shared by the lanes. Whoever makes it holds it."""

    __slots__ = ("_holders", "_lock", "_opaque", "_over_black", "captured", "lease", "time")

    def __init__(self, lease: Lease, time: Fraction, captured: float | None, over_black: _OverBlack):
        self.lease, self.time, self.captured = lease.hold(), time, captured
        self._over_black = over_black
        self._opaque: Lease | None = None
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self.lease.release()
            if self._opaque is not None:
                self._opaque.release()

    def picture(self, with_alpha: bool) -> np.ndarray:
        """RGBA only where that is wanted and there; laid over black once for all who do not."""
        picture = self.lease.picture
        if with_alpha or picture.shape[2] == 3:
            return picture
        with self._lock:
            if self._opaque is None:
                self._opaque = self._over_black(picture)
            return self._opaque.picture


class _Lane:
    """One output, its thread, what waits for it and what became of the rest."""

    def __init__(self, output: Output, notify: Callable[[str], None]):
        self.output, self._notify = output, notify
        self.delay = Durations()
        self.written = self.skipped = self.repeated = self.lost = self.failures = 0
        self.failed: str | None = None
        # Outputs of tests and benchmarks need no more than a name, `write` and `close`.
        self._interval: float | None = getattr(output, "interval", None)
        self._retry: float | None = getattr(output, "retry", None)
        self._with_alpha: bool = getattr(output, "takes_alpha", False)
        self._most_waiting: int = max(1, getattr(output, "queue", 1))
        self._begins: Callable[[float], None] | None = getattr(output, "begins", None)
        self._waiting: deque[_Submission] = deque()
        self._changed = threading.Condition()
        self._ending = self._closed = False
        self._in_a_row = 0
        self._notified: set[str] = set()
        self._due = clock.monotonic() + 1.5 * self._interval if self._interval else None
        self._thread = threading.Thread(target=self._run, name=f"output {output.name}", daemon=True)
        self._thread.start()

    # What the loop's thread calls.

    def put(self, submission: _Submission) -> None:
        overtaken = None
        with self._changed:
            if self._ending:
                return
            if self.failed is not None:
                self.lost += 1
                return
            submission.hold()
            if len(self._waiting) >= self._most_waiting:
                overtaken = self._waiting.popleft()
                self.skipped += 1
            self._waiting.append(submission)
            self._changed.notify()
        if overtaken is not None:
            overtaken.release()

    def state(self) -> OutputState:
        return OutputState(
            self.output.name,
            self.written,
            self.skipped,
            self.repeated,
            self.lost,
            self.failures,
            self.failed,
            self.delay.summary(),
            getattr(self.output, "kept", False),
        )

    def end(self) -> None:
        """Take no more. What waits is still written where every picture counts, dropped where only
        the newest does.
        """
        with self._changed:
            self._ending = True
            dropped = [] if self._most_waiting > 1 else list(self._waiting)
            if dropped:
                self._waiting.clear()
            self._changed.notify()
        for submission in dropped:
            submission.release()

    def close(self, patience: float) -> None:
        self._thread.join(patience)
        if self._thread.is_alive():
            # Closing what its thread still uses could hang or crash us as well.
            raise UserError(
                f"The output {self.output.name} hangs and was left as it is: check what reads it, or its disk."
            )
        if not self._closed:
            self._closed = True
            self.output.close()

    # What its own thread does.

    def _run(self) -> None:
        while True:
            submission = self._next()
            if submission is not None:
                self._attempt(self._write, submission)
            elif self._ending:
                return
            elif self.failed is not None:
                self._try_again()
            elif self._due is not None:
                self._attempt(self._repeat)

    def _next(self) -> _Submission | None:
        """The next picture, or None when it is time for something else: the end, another attempt,
        or a repetition.
        """
        with self._changed:
            while not self._waiting and not self._ending:
                if self._due is None:
                    self._changed.wait()
                    continue
                left = self._due - clock.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            return self._waiting.popleft() if self._waiting else None

    def _write(self, submission: _Submission) -> None:
        try:
            if self._begins is not None:
                at = submission.captured if submission.captured is not None else clock.perf_counter()
                self._begins(at - float(submission.time))
                self._begins = None
            self.output.write(submission.picture(self._with_alpha), submission.time)
            if submission.captured is not None:
                self.delay.add(clock.perf_counter() - submission.captured)
            self.written += 1
            if self._interval:
                self._due = clock.monotonic() + 1.5 * self._interval
        finally:
            submission.release()

    def _repeat(self) -> None:
        assert self._interval is not None
        self._due = clock.monotonic() + self._interval
        self.repeated += bool(self.output.repeat())

    def _attempt(self, step: Callable, *arguments: _Submission) -> None:
        """Do `step`. What it raises is said once and counted, and never reaches another output."""
        try:
            step(*arguments)
            self._in_a_row = 0
        except UserError as error:
            self._fail(str(error))
        except Exception as error:
            self._in_a_row += 1
            sentence = f"The output {self.output.name} failed on a picture ({type(error).__name__}: {error})."
            if self._in_a_row >= MOST_FAILURES:
                self._fail(f"The output {self.output.name} was closed ({error}): choose another --output.")
            else:
                self.failures += 1
                self._notify_once(sentence)

    def _fail(self, sentence: str) -> None:
        """It can take no more: let go of what waits, and close it or plan another attempt."""
        with self._changed:
            self.failures += 1
            self.failed = sentence
            waiting, self._waiting = list(self._waiting), deque()
            self.lost += len(waiting)
            self._due = clock.monotonic() + self._retry if self._retry else None
        for submission in waiting:
            submission.release()
        self._notify_once(sentence)
        if not self._retry:
            self._closed = True
            with suppress(Exception):
                self.output.close()

    def _try_again(self) -> None:
        try:
            self.output.reopen()
        except Exception:
            assert self._retry is not None
            self._due = clock.monotonic() + self._retry
            return
        self._notify(f"The output {self.output.name} is back.")
        with self._changed:
            self.failed = None
            self._notified.clear()
            self._due = clock.monotonic() + 1.5 * self._interval if self._interval else None

    def _notify_once(self, sentence: str) -> None:
        if sentence not in self._notified:
            self._notified.add(sentence)
            self._notify(sentence)
