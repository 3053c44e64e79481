"""Threads that end before Python does."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable

#: Seconds to wait for a thread when Python ends: one may hang in a driver.
PATIENCE = 3.0

#: The same for one that computes, and so comes to its end on the busiest machine.
COMPUTING = 60.0

_running: weakref.WeakKeyDictionary[threading.Thread, tuple[threading.Event, float]] = (
    weakref.WeakKeyDictionary()
)


def start_thread(
    work: Callable[[], object], name: str, stop: threading.Event, patience: float = PATIENCE
) -> threading.Thread:
    """Start a daemon thread for which `stop` is set, and which is waited for, when Python ends.

    A daemon thread that is still in OpenCV at that moment aborts the process.

    Args:
        patience: seconds to wait.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    _running[thread] = (stop, patience)
    thread.start()
    return thread


@atexit.register
def end_threads() -> None:
    """Ask all of them to stop, and wait."""
    threads = dict(_running)
    for stop, _ in threads.values():
        stop.set()
    for thread, (_, patience) in threads.items():
        thread.join(patience)
