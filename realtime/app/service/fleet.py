"""What starts, heals and scales workers: processes of this machine, or Ray's actors on many."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Protocol

from livepuppet.core.threads import start_thread
from livepuppet.realtime.app.service.running import WorkerOptions, log_json, run_worker

logger = logging.getLogger(__name__)

#: Seconds between looks at the workers, at least between two starts of one that dies at once, and within which one that drains ends.
LOOK_SECONDS, AGAIN_SECONDS, DRAINED_SECONDS = 0.1, 1.0, 40.0


class Fleet(Protocol):
    """Workers with names of their own. A worker that dies is started again; sessions do not wait for that, spares take them over."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of workers that shall be."""
        ...

    def scale(self, count: int) -> None:
        """Start or drain workers until there are so many."""

    def close(self) -> None:
        """End all of them; their sessions go nowhere."""


class ProcessFleet:
    """Workers as processes of this machine.

    Args:
        options: of every worker.
        prefix: of their names.
    """

    def __init__(self, options: WorkerOptions, prefix: str = "worker"):
        self._options, self._prefix = options, prefix
        self._numbers = itertools.count(1)
        # Threads do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._processes: dict[str, BaseProcess] = {}
        self._started: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = start_thread(self._heal, "fleet", self._stop)

    @property
    def names(self) -> tuple[str, ...]:
        """Of workers that shall be."""
        with self._lock:
            return tuple(self._processes)

    def pid(self, name: str) -> int | None:
        """Of its process now."""
        with self._lock:
            return self._processes[name].pid

    def scale(self, count: int) -> None:
        """Start or drain workers until there are so many."""
        with self._lock:
            for _ in range(count - len(self._processes)):
                self._start(f"{self._prefix}-{next(self._numbers)}")
            leaving = [self._processes.pop(name) for name in list(self._processes)[count:]]
        for process in leaving:
            _terminate(process)
            threading.Thread(target=_await, args=(process,), name="draining", daemon=True).start()

    def close(self) -> None:
        """End all of them; their sessions go nowhere."""
        self._stop.set()
        self._thread.join(3)
        with self._lock:
            processes = list(self._processes.values())
            self._processes.clear()
        for process in processes:
            process.kill()
        for process in processes:
            process.join(3)

    # With the lock held.

    def _start(self, name: str) -> None:
        process = self._context.Process(target=_run, args=(name, self._options), name=name, daemon=True)
        process.start()
        self._processes[name], self._started[name] = process, time.monotonic()

    def _heal(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with self._lock:
                for name, process in list(self._processes.items()):
                    recent = time.monotonic() - self._started[name] < AGAIN_SECONDS
                    if not process.is_alive() and not recent:
                        logger.warning("Worker %s ended (%s): it is started again.", name, process.exitcode)
                        self._start(name)


def _terminate(process: BaseProcess) -> None:
    # Not with the lock of `multiprocessing`: it may just be starting.
    with suppress(ProcessLookupError, ValueError):
        process.terminate()


def _await(process: BaseProcess) -> None:
    process.join(DRAINED_SECONDS)
    if process.is_alive():
        process.kill()


def _run(name: str, options: WorkerOptions) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_json()
    run_worker(name, options, stopped)
