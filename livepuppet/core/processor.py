"""What the system tells about its processor.

Read from /proc/cpuinfo, in 0.3 ms. py-cpuinfo starts processes for it (0.4 s of CPU time), and
psutil, whose import takes 0.14 s without its bytecode, tells neither name nor instructions: so
neither is a dependency.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

CPUINFO, STAT = Path("/proc/cpuinfo"), Path("/proc/stat")


def cpuinfo(key: str, path: Path | None = None) -> str:
    """The first processor's entry of that name; empty where the system has none.

    Args:
        key: such as "model name" or "flags".
        path: another file than /proc/cpuinfo.
    """
    try:
        lines = (path or CPUINFO).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    entries = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in entries if name.strip() == key), "")


def processor_name() -> str:
    """As people know it where the system tells, else its architecture."""
    return cpuinfo("model name") or platform.processor() or platform.machine()


def processor_flags() -> frozenset[str]:
    """Names of its instruction sets, as Linux calls them (`avx2`, `avx512_bf16`, ARM's `bf16`);
    elsewhere none.
    """
    return frozenset((cpuinfo("flags") or cpuinfo("Features")).split())


def idle_seconds(path: Path | None = None) -> float | None:
    """How long the cores that this process may use have had nothing to do, or only what gives way to everything else, all together,
    since the system started; None where it does not say (only Linux does).

    Args:
        path: another file than /proc/stat.
    """
    try:
        lines = (path or STAT).read_text().splitlines()
        names = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
        # user, nice, system, idle, iowait
        told = [line.split()[1:6] for line in lines if line.partition(" ")[0] in names]
        return sum(int(count) for core in told for count in (core[1], *core[3:5])) / ticks
    except (OSError, ValueError, AttributeError, IndexError):
        return None
