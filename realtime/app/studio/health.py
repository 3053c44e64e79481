"""What `livepuppet doctor` warns of, with its remedies, found in a process of its own: looking takes
seconds, in which the live loop must not wait.

python -m livepuppet.realtime.app.studio.health        # prints JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

#: Seconds that looking may take on a busy machine.
PATIENCE = 90

#: Chapters that say nothing about a session that runs: it needs no window, asking it would ask
#: ourselves, and its engine is known.
LEFT_OUT = ("Screen", "Settings", "Engines")


def look() -> list[dict]:
    """`verdict`, `text` and `remedy` of everything that is not in order."""
    from livepuppet.realtime.app.commands.doctor import chapters
    from livepuppet.realtime.app.doctor import checks

    found = [
        finding
        for title, check in chapters(quick=True)
        if title not in LEFT_OUT
        for finding in checks.examine(title, check).findings
        if finding.verdict != "OK"
    ]
    found.sort(key=lambda finding: finding.verdict != "FAIL")
    return [
        {
            "verdict": finding.verdict,
            "text": checks.redacted(finding.text.rstrip(".") + "."),
            "remedy": checks.redacted(finding.remedy),
        }
        for finding in found
    ]


def look_beside() -> list[dict] | None:
    """`look`, in another process; None where that fails."""
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        result = subprocess.run(
            [sys.executable, "-m", __name__],
            capture_output=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        return json.loads(result.stdout)
    return None


def _yield_to_the_loop() -> None:
    """Run only while nothing else wants a core: at a low priority Linux would still take slices off the loop."""
    with suppress(OSError):
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        elif hasattr(os, "nice"):
            os.nice(15)


if __name__ == "__main__":
    _yield_to_the_loop()
    print(json.dumps(look()))
