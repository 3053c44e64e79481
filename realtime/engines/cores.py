"""How many threads a model is worth."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Networks this small share out badly among many threads (a guess beyond 2, which were measured),
#: and the camera, the encoder and the browser want cores too.
MOST_THREADS = 8


def usable_cores() -> int:
    """Physical cores that this process may use, at most `MOST_THREADS`; 0, onnxruntime's own
    choice, if unknown.

    Two threads on one core's hyper-threads slow dense convolutions down, so siblings count once.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(cpu)
    count = len(cores)
    # A container's share of the machine, as "quota period" in microseconds per period, or "max
    # period".
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return min(count, MOST_THREADS)
