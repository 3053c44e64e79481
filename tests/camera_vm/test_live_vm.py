"""A whole session on real V4L2 devices, in the virtual machine of `camera_vm`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import camera_vm
import numpy as np
import tiny_bundle
from media import write_picture

SCRIPT = Path(__file__).parent / "whole_session.py"

pytestmark = camera_vm.MARKS


def test_switch_reset_unplug_and_a_consumer_that_comes_and_goes(tmp_path):
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny-64")
    avatars = tmp_path / "avatars"
    avatars.mkdir()
    for name, colour in (("1 red.png", (200, 30, 30)), ("2 blue.png", (30, 30, 200))):
        picture = np.full((64, 64, 3), colour, np.uint8)
        picture[::8] = 120
        write_picture(avatars / name, picture)
    out = tmp_path / "out"
    result = camera_vm.run(out, sys.executable, SCRIPT, avatars, bundle, timeout=570)
    log = (out / "run.log").read_text() if (out / "run.log").exists() else ""
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:] + log
    facts = json.loads((out / "facts.json").read_text())
    for step in (
        *("live", "first avatar", "second avatar", "goes on after a reset"),
        *("goes on without a consumer", "a consumer comes back"),
        *("gone", "pictures go on", "banner", "back", "goes on"),
    ):
        assert facts[step] is True, (step, facts, log)
    assert "is gone: plug it in again" in facts["trouble"] and facts["trouble after"] is None
    assert facts["avatar after"] == "2 blue.png"
    assert facts["outputs"][0]["failures"] == 0
    assert facts["exit status"] == 0 and facts["a second run"] == 0
    assert "Traceback" not in log
