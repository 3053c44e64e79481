"""From the command to the first frame, and where the time goes: `livepuppet run`, in a fresh
process, again and again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.app.settings import FOLDER_VARIABLE

#: Marks of `startup_marks`, in the order in which they come, and what ended there.
PHASES = {
    "python": "Python itself",
    "imports": "imports",
    "model": "model loaded",
    "gate": "quality gate",
    "avatar": "avatar read and encoded",
    "warm-up": "one frame to warm up",
    "session": "clip, outputs and the rest opened",
    "first picture": "first picture out, the avatar at rest",
    "face": "the driver's face found",
    "first animated": "first animated picture out",
}

#: A start that takes longer hangs.
PATIENCE = 600.0


def command(arguments: Sequence[str] = (), driving: Path = bundled.DRIVING) -> list[str]:
    """Of `livepuppet run`: the bundled clip moves the bundled avatar into no output, and nobody is
    waited for.

    The neutral pose is the first frame's, without the seconds of the countdown: they are the
    person's.
    """
    fixed = f"run --driving {driving} --avatar {bundled.AVATAR} --output none --frames 1 --countdown 0 --neutral first --no-remember"
    return [*fixed.split(), "--no-control", *arguments]


def once(arguments: Sequence[str], cache: Path, home: Path) -> dict:
    """One start.

    Args:
        arguments: further ones of `livepuppet run`, such as its engine.
        cache: folder for what engines keep.
        home: folder for settings and the marks.

    Returns:
        phases: seconds of each of `PHASES`; total: of all; memory_mb: the most that the process
        took, and processor_seconds, of all its threads until it had ended, or None where the system
        does not tell.

    Raises:
        UserError: the command failed, with its own sentence.
    """
    marks = home / "marks.json"
    marks.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        # As in an installation, whose code pip has compiled; in a checkout nothing is written.
        "PYTHONPYCACHEPREFIX": str(home / "bytecode"),
        "XDG_CACHE_HOME": str(cache),
        FOLDER_VARIABLE: str(home),
    }
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "livepuppet.benchmarks.startup_marks", str(marks), *command(arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    status, memory, busy = _wait(process)
    if status or not marks.exists():
        last = said.strip().splitlines()[-1:] or [f"it ended with status {status}"]
        raise UserError(f"The command did not start: {last[0]}")
    return {**phases(json.loads(marks.read_text()), begin), "memory_mb": memory, "processor_seconds": busy}


def phases(marks: dict[str, float], begin: float) -> dict:
    """Seconds from mark to mark; a mark that never came counts with the next."""
    found, before = {}, begin
    # The first picture may come after the face is found.
    for name, at in sorted(
        ((name, marks[name]) for name in PHASES if name in marks), key=lambda mark: mark[1]
    ):
        found[name] = round(at - before, 4)
        before = at
    return {"phases": found, "total": round(before - begin, 4)}


def _wait(process: subprocess.Popen) -> tuple[int, float | None, float | None]:
    """Exit status, the most memory that the process took, in MB, and the processor's seconds, where
    the system tells.
    """
    if not hasattr(os, "wait4"):
        return process.wait(PATIENCE), None, None
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    memory = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return process.returncode, round(memory, 1), round(used.ru_utime + used.ru_stime, 3)


def measure(arguments: Sequence[str] = (), runs: int = 5) -> dict:
    """Starts with nothing kept by engines (cold), then with what the first of them kept (warm).

    Files are in the system's memory both times: how fast a disk is is not measured.

    Returns:
        cold and warm: what `once` returns, the median over `runs`, and totals, one by one.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        once(arguments, home / "before", home)  # files into memory, code into bytecode
        cold = [once(arguments, home / f"cold-{number}", home) for number in range(runs)]
        once(arguments, home / "warm", home)
        warm = [once(arguments, home / "warm", home) for _ in range(runs)]
    return {"cold": _middle(cold), "warm": _middle(warm)}


def _middle(starts: Sequence[dict]) -> dict:
    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return None if len(known) < len(values) else round(float(np.median(known)), 4)

    return {
        "total": middle([start["total"] for start in starts]),
        "phases": {
            name: middle([start["phases"].get(name, 0.0) for start in starts]) for name in starts[0]["phases"]
        },
        "memory_mb": middle([start["memory_mb"] for start in starts]),
        "processor_seconds": middle([start["processor_seconds"] for start in starts]),
        "totals": [start["total"] for start in starts],
    }


def heading() -> list[str]:
    """The first lines of the Markdown table."""
    return [
        "| engine | cache | command to first animated frame s (least - most) | of which | processor s | peak memory MB |",
        "|---|---|--:|---|--:|--:|",
    ]


def lines(engine: str, facts: dict) -> list[str]:
    """Rows of it: cold, then warm."""
    rows = []
    for cache in ("cold", "warm"):
        one = facts[cache]
        parts = ", ".join(f"{PHASES[name]} {seconds:.2f}" for name, seconds in one["phases"].items())
        told = one["memory_mb"] is not None
        used = f"{one['processor_seconds']:.2f} | {one['memory_mb']:.0f}" if told else "- | -"
        spread = f"{one['total']:.2f} ({min(one['totals']):.2f} - {max(one['totals']):.2f})"
        rows.append(f"| {engine} | {cache} | {spread} | {parts} | {used} |")
    return rows
