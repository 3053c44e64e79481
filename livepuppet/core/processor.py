"""What the system tells about its processor.

Read from /proc/cpuinfo, in 0.3 ms. py-cpuinfo starts processes for it (0.4 s of CPU time), and
psutil, whose import takes 0.14 s without its bytecode, tells neither name nor instructions: so
neither is a dependency.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


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
