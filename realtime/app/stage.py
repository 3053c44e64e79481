"""A stage of the live loop in threads of its own, in front of which nothing queues."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from livepuppet.core.threads import start_thread

Job = TypeVar("Job")

#: Seconds after which a thread that waits looks whether Python ends.
_IDLE = 0.5

#: How much the newest job counts in what one usually takes.
_SHARE = 0.2

#: A thread that gets a core for less than this share of its time shares it with other programs.
STARVED = 0.6


class Stage(Generic[Job]):
    """Does one job after another. One thread puts jobs, and asks before it begins to prepare one.

    Args:
        work: does a job. What it raises comes out of the next `put` or `drain`.
        name: of the thread; None to do each job at once, in the thread that puts it: on one core
            two threads would only wait for each other.

    Attributes:
        workers: jobs that are done at the same time, in threads of their own: more than one only
            where they wait for something else than this computer's cores. Change it only while
            nothing is done.
    """

    def __init__(self, work: Callable[[Job], None], name: str | None):
        self._work, self._name = work, name
        self.workers = 1
        self._slot: list[Job] = []
        self._begun: list[float] = []
        # Until cores are seen to be idle, they are not.
        self._usual, self._core = 0.0, 0.0
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads, if there are to be any and they do not run yet."""
        while self._name is not None and len(self._threads) < self.workers:
            self._ending.clear()
            self._threads.append(start_thread(self._run, self._name, self._ending))

    def put(self, job: Job) -> None:
        """Have a job done. Waits for the one that waits, if there is one."""
        if self._name is None:
            self._work(job)
            return
        self.start()
        with self._changed:
            while self._slot:
                self._changed.wait(_IDLE)
            self._raise()
            self._slot.append(job)
            self._changed.notify_all()

    def ready(self, lead: float, timeout: float) -> bool:
        """Wait until a job that is prepared from now on, for `lead` seconds, need not wait: what is
        prepared sooner is older when it is its turn. Where no core is idle, wait for the job in
        hand: what is prepared beside would slow it down, and delay both.

        Returns:
            False where it would still have to wait after `timeout` seconds.
        """
        end = time.perf_counter() + timeout
        with self._changed:
            while True:
                now = time.perf_counter()
                left = math.inf if self._starved or self.workers > 1 else self._left(now) - lead
                if not self._slot and (left <= 0 or len(self._begun) < self.workers):
                    return True
                if now >= end:
                    return False
                self._changed.wait(min(end - now, max(left, 0.0) or _IDLE))

    def drain(self) -> None:
        """Wait until every job is done."""
        with self._changed:
            while self._threads and (self._slot or self._begun):
                self._changed.wait(_IDLE)
            self._raise()

    def close(self) -> None:
        """Finish what waits, and end the threads. What the work raises is lost. Safe to call twice."""
        self._ending.set()
        with self._changed:
            self._changed.notify_all()
        while self._threads:
            self._threads.pop().join()

    @property
    def overlaps(self) -> bool:
        """Whether the next job is prepared while one is done."""
        return self._name is not None and (self.workers > 1 or not self._starved)

    @property
    def _starved(self) -> bool:
        return self._core < STARVED

    def _left(self, now: float) -> float:
        """Seconds that the job in hand will take, if it takes as long as they usually do."""
        return max(self._begun[0] + self._usual - now, 0.0) if self._begun else 0.0

    @property
    def _may_begin(self) -> bool:
        return bool(self._slot) and len(self._begun) < self.workers

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ending.is_set() and not self._may_begin:
                    self._changed.wait(_IDLE)
                if not self._slot:
                    return
                job, began = self._slot.pop(), time.perf_counter()
                self._begun.append(began)
                busy = time.thread_time()
                self._changed.notify_all()
            try:
                self._work(job)
            except BaseException as error:
                self._error = error
            finally:
                with self._changed:
                    took = max(time.perf_counter() - began, 1e-6)
                    self._usual += (_SHARE if self._usual else 1.0) * (took - self._usual)
                    self._core += _SHARE * ((time.thread_time() - busy) / took - self._core)
                    self._begun.remove(began)
                    self._changed.notify_all()
