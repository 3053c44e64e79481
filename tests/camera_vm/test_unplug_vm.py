"""Real V4L2 devices that come and go, in the virtual machine of `camera_vm`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import camera_vm

SCRIPT = Path(__file__).parent / "unplug.py"

pytestmark = camera_vm.MARKS


def facts(out: Path, what: str) -> dict:
    """Run one scene of unplug.py in the machine; returns what it wrote down."""
    result = camera_vm.run(out, sys.executable, SCRIPT, "/out", what, timeout=300)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    return json.loads((out / "facts.json").read_text())


def test_a_camera_is_unplugged_and_plugged_in_again(tmp_path):
    seen = facts(tmp_path, "unplug")
    # The machine is emulated: it may be slower than its camera, never faster.
    assert 0 < seen["rate"] < 33 and seen["trouble before"] is None
    assert "camera 0 (vivid) is gone: plug it in again" in seen["gone"]
    assert seen["number free"] and not seen["ended"] and seen["listed while gone"] == []
    assert seen["frame after"] == [360, 640, 3] and seen["trouble after"] is None
    assert "same picture all the time" in seen["still"]
    assert "only black" in seen["black"]
    assert seen["moving"] == "none"


def test_a_camera_comes_back_under_another_number(tmp_path):
    seen = facts(tmp_path, "moved")
    assert seen["first"] == "camera 0 (vivid)" and "is gone" in seen["gone"]
    assert seen["back"] == "camera 1 (vivid)" and seen["trouble after"] is None


def test_what_a_camera_really_gives(tmp_path):
    seen = facts(tmp_path, "formats")
    for pixel_format in ("YUYV", "NV12"):
        assert seen[pixel_format] == {"given": [640, 360, pixel_format], "note": None}
    # This one has no MJPG.
    assert "instead of 640x360 MJPG" in seen["MJPG"]["note"]
    assert "instead of 10000x10000 YUYV" in seen["huge"]["note"]
    assert "is the output" in seen["/dev/video9"] and "is the output" in seen["9"]


def test_a_fed_camera_whose_program_ends_and_comes_back(tmp_path):
    seen = facts(tmp_path, "feeder")
    assert seen["before"] == seen["after"] == [240, 320, 3]
    assert "is gone" in seen["gone"] and "is gone" in seen["still gone"]
    # Held open by us, the device would have refused it.
    assert seen["feeder lives"] and seen["trouble after"] is None
