"""The README's lines of Python on a real V4L2 device, in the virtual machine of `camera_vm`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import camera_vm
import tiny_bundle
from media import gradient, write_picture

pytestmark = camera_vm.MARKS

SCRIPT = Path(__file__).parent / "library.py"


def test_a_camera_moves_a_picture_from_python(tmp_path):
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny-64")
    avatar = write_picture(tmp_path / "avatar.png", gradient(64, 64) // 2 + 40)
    # See session.sh.
    result = camera_vm.run(
        tmp_path / "out", sys.executable, SCRIPT, avatar, bundle, NPY_DISABLE_CPU_FEATURES="X86_V3"
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    facts = json.loads((tmp_path / "out" / "facts.json").read_text())
    assert facts["shapes"] == [[64, 64, 3]] * 5 and set(facts["types"]) == {"uint8"}
    assert facts["times"] == sorted(facts["times"]) and facts["times"][0] < facts["times"][-1]
    assert facts["spread"] > 5
