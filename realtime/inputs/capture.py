"""Live driving: what a source is, and the thread that reads it into one slot in which the newest
frame wins.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from livepuppet.core.threads import start_thread
from livepuppet.core.video import Frame

logger = logging.getLogger(__name__)

#: A source that is meant to go on for ever and says nothing for so many seconds is in trouble.
SILENCE_SECONDS = 2.0

#: Frames over whose intervals the true rate is measured: two seconds of a common camera.
_RATE_FRAMES = 60

#: Intervals that are measured as one. Timers tick every few milliseconds, and a tick on 33 would be
#: a tenth.
_RATE_SPAN = 8


class LiveSource(Protocol):
    """Something that delivers frames at its own pace.

    Attributes:
        name: how to speak of it.
        rate: frames per second it says it delivers; a hint, see `Capture.measured_rate`.

    Five more may be there:

    Attributes:
        trouble: one sentence about what is wrong now (unplugged, black, frozen) and what to do, or
            None. Such a source does not end; it goes on when it can, and `trouble` is None again.
        silence: the sentence to say when nothing comes for `SILENCE_SECONDS`; None where that is
            right.
        note: one sentence about what differs from what was asked for, or None.
        greeting: one sentence that is said first, instead of that a face is looked for, or None.
        every: of so many frames one is wanted; the others need not be decoded, and None is delivered in their place. It changes.
    """

    @property
    def name(self) -> str: ...

    @property
    def rate(self) -> float: ...

    def frames(self, stop: threading.Event) -> Iterator[Frame | None]:
        """Frames as they come, until the source ends or `stop` is set. Raises UserError where it
        fails for good.
        """
        ...

    def close(self) -> None:
        """Release it; `frames` must have ended."""
        ...


class Capture:
    """Reads a live source in a thread of its own and keeps its newest frame for whoever asks.

    Anything longer than one slot would be a queue, and a queue in front of a slower stage is delay
    that never goes away. A frame that nobody took before the next came counts as dropped.

    Attributes:
        source: what is read.
        captured: frames read so far, without those that `every` leaves out.
        dropped: frames overwritten before anybody took them.
    """

    def __init__(self, source: LiveSource):
        self.source = source
        self.captured = self.dropped = 0
        self._every = 1
        self._slot: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._heard = time.perf_counter()
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = start_thread(self._read, "capture", self._stop)

    def _read(self) -> None:
        try:
            for number, frame in enumerate(self.source.frames(self._stop)):
                with self._changed:
                    self._heard = time.perf_counter()
                    self._times.append(self._heard if frame is None else frame.captured)
                    if frame is None or (not hasattr(self.source, "every") and number % self._every):
                        continue
                    self.captured += 1
                    self.dropped += self._slot is not None
                    self._slot = frame
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    @property
    def every(self) -> int:
        """Of so many frames one is kept. May be set at any time."""
        return self._every

    @every.setter
    def every(self, count: int) -> None:
        self._every = count
        if hasattr(self.source, "every"):
            self.source.every = count  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def ended(self) -> bool:
        """Whether there will be no further frame."""
        with self._changed:
            return self._ended and self._slot is None

    @property
    def trouble(self) -> str | None:
        """One sentence about what is wrong with the source just now and what to do, or None.

        The source goes on by itself when it can. Silence is noticed here, by the clock, because the
        thread that reads may hang in a driver.
        """
        with self._changed:
            quiet = 0.0 if self._ended else time.perf_counter() - self._heard
        told = getattr(self.source, "trouble", None)
        return told or (getattr(self.source, "silence", None) if quiet > SILENCE_SECONDS else None)

    @property
    def measured_rate(self) -> float | None:
        """Frames per second as they really come, or None before there are enough to tell.

        The median over the last spans of a few frames' capture times, which neither one late frame
        nor a pause disturbs. Drivers state a rate that they do not keep, in dim light above all.
        """
        with self._changed:
            times = list(self._times)
        if len(times) < 5:
            return None
        span = min(_RATE_SPAN, len(times) // 2)
        seconds = statistics.median(
            after - before for before, after in zip(times, times[span:], strict=False)
        )
        return span / seconds if seconds > 0 else None

    def counts(self) -> tuple[int, int]:
        """How many frames were taken or dropped so far, and how many of them dropped; not the one
        in the slot.
        """
        with self._changed:
            return self.captured - (self._slot is not None), self.dropped

    def take(self, timeout: float) -> Frame | None:
        """The newest frame, waiting up to `timeout` seconds for one; None if there is none (see
        `ended`, `trouble`).

        Raises:
            UserError: once the frames before it are used up, what the source failed with.
        """
        with self._changed:
            if self._slot is None and not self._ended:
                self._changed.wait(timeout)
            frame, self._slot = self._slot, None
            if frame is None and self._error is not None:
                error, self._error = self._error, None
                raise error
            return frame

    def __iter__(self) -> Iterator[Frame]:
        """The newest frame, again and again, until the source ends; frames that came meanwhile are
        skipped.

        Raises:
            UserError: the source fails for good.
        """
        trouble = None
        while not self.ended:
            frame = self.take(0.5)
            if frame is not None:
                yield frame
            if self.trouble != trouble:
                trouble = self.trouble
                if trouble:
                    logger.warning("%s", trouble)
        # What it failed with comes out of the slot once the frames are used up.
        self.take(0)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and release the source. A driver that hangs is left to its thread."""
        self._stop.set()
        self._thread.join(timeout=3)
        if not self._thread.is_alive():
            self.source.close()
