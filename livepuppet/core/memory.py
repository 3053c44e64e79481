"""How much memory this process has taken."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

#: `M_ARENA_MAX` of glibc's malloc.h.
_ARENA_MAX = -8


def resident_bytes() -> int:
    """In RAM now; 0 where the system does not say (only Linux does)."""
    return _of_status("VmRSS")


def peak_bytes() -> int:
    """The most that was in RAM at any time; 0 where the system does not say (Windows)."""
    if found := _of_status("VmHWM"):
        return found
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def give_back() -> None:
    """Give memory that is free again back to the system, where the C library keeps it (Linux's does); in some milliseconds."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def share_one_heap() -> None:
    """Have all threads allocate from one heap, where the C library gives each its own (Linux's does): for a process of many threads
    that run in turn. Before they begin.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def _of_status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
