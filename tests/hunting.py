"""Property tests: a short set that is the same every time in the suite, and for as long as one likes with

    LIVEPUPPET_HUNT=3600 python -m pytest tests/test_damage.py

whose seconds are shared by all such tests of the run, with other examples each time.
"""

from __future__ import annotations

import faulthandler
import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings

SECONDS = float(os.environ.get("LIVEPUPPET_HUNT") or 0)

#: Seconds after which one example counts as hanging, and ends the run with a traceback.
HANGS = 120

#: Megabytes that one example may need.
MOST_MEMORY = 1000

_hunts: list[str] = []

_QUIET = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


def hunted(examples: int, **strategies) -> Callable:
    """As `given`, with `examples` in the suite, or as many as fit into `LIVEPUPPET_HUNT` seconds."""

    def decorate(function: Callable) -> Callable:
        _hunts.append(function.__name__)
        test = given(**strategies)(function)
        if not SECONDS:
            return settings(max_examples=examples, derandomize=True, **_QUIET)(test)

        @functools.wraps(function)
        def hunt(**fixtures):
            began, number, number_of_examples = time.monotonic(), 0, 0
            first_seed = time.time_ns() % 10**9
            while time.monotonic() - began < SECONDS / len(_hunts):
                again = settings(max_examples=200, **_QUIET)(given(**strategies)(function))
                seed(first_seed + number)(again)(**fixtures)
                number, number_of_examples = number + 1, number_of_examples + 200
            sys.__stderr__.write(
                f"{function.__name__}: about {number_of_examples} examples from seed {first_seed}\n"
            )

        hunt.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
        return hunt

    return decorate


@contextmanager
def bounded() -> Iterator[None]:
    """One example: it must not hang, nor need more memory than `MOST_MEMORY`."""
    before = _peak(reset=True)
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
    if before is not None:
        needed = _peak() - before
        assert needed < MOST_MEMORY, f"needs {needed} MB"


def _peak(reset: bool = False) -> int | None:
    """Megabytes that this process has had at most since the last `reset`; None where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024
