"""Programs that read the virtual camera come, go, crash and come back, in the virtual machine of `camera_vm`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import camera_vm
import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "consumers.py"

pytestmark = camera_vm.MARKS

COLOURS = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((128, 128, 128), (200, 150, 120), (255,) * 3, (0,) * 3),
]


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    out = tmp_path_factory.mktemp("consumers")
    result = camera_vm.run(out, sys.executable, SCRIPT)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-2000:]
    return json.loads((out / "consumers.json").read_text())


@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_readers_come_and_go_and_always_get_the_picture(facts, layout):
    facts = facts[layout]
    assert facts["device"] == "/dev/video9"
    assert np.max(facts["first"]["stripes"]) <= 4
    for read in (*facts["in turn"], facts["after a kill"], *facts["at once"], facts["standing still"]):
        assert "error" not in read, read
        assert read["shape"] == [240, 320, 3]
        assert np.abs(np.subtract(read["stripes"], COLOURS)).max() <= 3
    assert all(read["bands"] > 1 for read in (*facts["in turn"], *facts["at once"]))
    assert facts["standing still"]["bands"] == 1
    # Ours noticed nothing of all that.
    assert facts["said"] == [] and facts["state"]["failures"] == 0 and facts["state"]["failed"] is None
    assert facts["repeated"] >= 8 and facts["state"]["written"] > 20


def test_the_device_is_a_camera_only_while_it_is_fed_and_by_one_program(facts):
    for layout in ("i420", "nv12"):
        assert facts[layout]["before"]["output"] and not facts[layout]["before"]["capture"]
        assert facts[layout]["fed"]["capture"] and facts[layout]["announced"] == [[10.0]]
        assert all("another program feeds it" in sentence for sentence in facts[layout]["taken"])
        assert facts[layout]["after"]["output"] and not facts[layout]["after"]["capture"]
    assert "no virtual camera" in facts["webcam refused"]
