"""A webcam moves a picture into a virtual camera, on real V4L2 devices, in the virtual machine of `camera_vm`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import camera_vm
import cv2
import numpy as np
import tiny_bundle
from media import gradient, write_picture

SESSION = Path(__file__).parent / "session.sh"

pytestmark = camera_vm.MARKS


def session(tmp_path: Path, driving: str, frames: int, read: int, clip: Path | None = None) -> Path:
    """Run session.sh in the machine; returns the folder with frames/, stats.json and the logs."""
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny-64")
    avatar = write_picture(tmp_path / "avatar.png", gradient(64, 64) // 2 + 40)
    out = tmp_path / "out"
    result = camera_vm.run(
        out,
        *("bash", SESSION, driving, frames, read, avatar, bundle),
        *([clip] if clip else []),
        PYTHON=sys.executable,
    )
    logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(out.glob("*.log")))
    assert result.returncode == 0, f"{result.stdout[-2000:]}{result.stderr[-2000:]}\n{logs}"
    return out


def check(out: Path, frames: int, read: int) -> None:
    facts = json.loads((out / "stats.json").read_text())
    assert facts["frames"] == frames and facts["output"] == ["virtual:/dev/video9"]
    pictures = [cv2.imread(str(file)) for file in sorted((out / "frames").iterdir())]
    assert len(pictures) == read
    # The virtual camera is black until the first picture comes, and a reader may be there before.
    pictures = pictures[int(pictures[0].max() < 12) :]
    for picture in pictures:
        assert picture.shape == (240, 320, 3)
        # Black bars, and the avatar's square between them.
        assert picture[:, :36].max() < 12 and picture[:, 284:].max() < 12
        assert picture[:, 44:276].mean() > 50
    assert len({picture.tobytes() for picture in pictures}) > 1
    assert np.ptp([picture.mean() for picture in pictures]) > 0.2


def test_a_webcam_moves_a_picture_that_another_process_reads(tmp_path):
    out = session(tmp_path, "0", frames=150, read=5)
    check(out, 150, 5)
    devices = (out / "devices.txt").read_text()
    assert "0  vivid" in devices and "640x480" in devices
    assert "/dev/video9  puppet" in devices and "virtual:/dev/video9" in devices


def test_a_face_from_a_camera_found_by_its_name(tmp_path, shared):
    out = session(tmp_path, "camera:webcam", frames=60, read=4, clip=shared / "clips" / "face03.mp4")
    check(out, 60, 4)
    assert "No face found" not in (out / "run.log").read_text()
