"""Threads that end before Python does."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable

#: Seconds to wait for a thread when Python ends: one may hang in a driver.
PATIENCE = 3.0

_running: weakref.WeakKeyDictionary[threading.Thread, threading.Event] = weakref.WeakKeyDictionary()


def start_thread(work: Callable[[], object], name: str, stop: threading.Event) -> threading.Thread:
    """Start a daemon thread for which `stop` is set, and which is waited for, when Python ends.

    A daemon thread that is still in OpenCV at that moment aborts the process.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    _running[thread] = stop
    thread.start()
    return thread


@atexit.register
def end_threads() -> None:
    """Ask all of them to stop, and wait."""
    threads = dict(_running)
    for stop in threads.values():
        stop.set()
    for thread in threads:
        thread.join(PATIENCE)
