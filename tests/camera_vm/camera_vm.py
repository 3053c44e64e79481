"""The virtual machine with real V4L2 devices. It takes minutes, so tests need LIVEPUPPET_CAMERA_VM, which names its runner.

    LIVEPUPPET_CAMERA_VM=.../camera-vm/run python -m pytest tests/camera_vm

The runner's usage: run --out DIR --timeout SECONDS -- COMMAND, with a simulated webcam at /dev/video0 and v4l2loopback
devices at /dev/video8 ("webcam") and /dev/video9 ("puppet"), both with exclusive_caps=1.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUNNER = os.environ.get("LIVEPUPPET_CAMERA_VM")

#: The user's own, where the runner keeps its kernel; tests otherwise leave it alone.
_CACHE = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))

MARKS = [
    pytest.mark.camera_vm,
    pytest.mark.skipif(
        not RUNNER, reason="takes minutes: set LIVEPUPPET_CAMERA_VM to the camera VM's runner"
    ),
]


def run(out: Path, *command: object, timeout: int = 540, **environment: str) -> subprocess.CompletedProcess:
    """Run a command in the machine, whose /out is the folder `out`."""
    return subprocess.run(
        [str(part) for part in (RUNNER, "--out", out, "--timeout", timeout, "--", *command)],
        env={**os.environ, "OPENCV_LOG_LEVEL": "ERROR", "XDG_CACHE_HOME": _CACHE, **environment},
        capture_output=True,
        text=True,
    )
