"""Every program in examples/, run on the bundled avatar. Devices that are not here are stood in for."""

from __future__ import annotations

import importlib.util
import itertools
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import read_clip, write_clip, write_picture

import livepuppet
from livepuppet.realtime import bundled

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def driving(tmp_path_factory):
    """The first frames of the bundled clip."""
    with livepuppet.open_video(bundled.DRIVING) as video:
        images = [frame.image for frame in itertools.islice(video, 4)]
    return write_clip(tmp_path_factory.mktemp("driving") / "driving.mp4", images)


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    tests = Path(__file__).read_text()
    assert all(f'example("{path.stem}")' in tests for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_without_arguments_it_says_what_it_takes(path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path)])
    with pytest.raises(SystemExit, match=f"python {path.name}"):
        runpy.run_path(str(path), run_name="__main__")


def test_animate_file(tmp_path, driving, capsys):
    example("animate_file").main(str(bundled.AVATAR), str(driving), str(tmp_path / "moved.mp4"))
    assert len(read_clip(tmp_path / "moved.mp4")[0]) == 4
    assert capsys.readouterr().out.startswith("4 frames")


def test_batch_folder(tmp_path, driving, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(bundled.AVATAR.read_bytes())
    (pictures / "b.png").write_bytes(b"broken")
    example("batch_folder").main(str(pictures), str(driving), str(tmp_path / "videos"))
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["a.mp4"]
    assert "b.png is left out" in capsys.readouterr().err


def test_own_network(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    frames = []
    for right in (0, 24):
        frame = np.full((256, 256, 3), 128, np.uint8)
        frame[80:176, 80 + right : 176 + right] = noise
        frames.append(frame)
    avatar = write_picture(tmp_path / "avatar.png", frames[0])
    driving = tmp_path / "driving"
    driving.mkdir()
    for index, frame in enumerate(frames):
        write_picture(driving / f"{index}.png", frame)
    example("own_network").main(str(avatar), str(driving), str(tmp_path / "out"))
    first, second = (
        cv2.cvtColor(cv2.imread(str(tmp_path / "out" / name)), cv2.COLOR_BGR2RGB).astype(int)
        for name in ("000000.png", "000001.png")
    )
    assert np.abs(first - frames[0]).max() <= 1
    # The avatar has followed the driver by 24 pixels.
    assert np.abs(second - frames[1]).mean() < 0.3 * np.abs(second - frames[0]).mean()


def test_webcam_window(driving, monkeypatch):
    shown, keys = [], iter([-1, ord(" "), -1, -1, 27])
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    example("webcam_window").main(str(bundled.AVATAR), str(driving))
    assert shown and all(picture.shape == (512, 512, 3) for picture in shown)


def test_virtual_camera(driving, monkeypatch, capsys):
    sent = []

    class Camera:
        device = "/dev/video9"

        def __init__(self, width, height):
            self.shape = (height, width, 3)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def send(self, picture):
            assert picture.shape == self.shape and picture.dtype == np.uint8
            sent.append(picture)

    monkeypatch.setattr(livepuppet, "VirtualCamera", Camera)
    example("virtual_camera").main(str(bundled.AVATAR), str(driving))
    assert sent and "/dev/video9" in capsys.readouterr().out


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES.glob("*.py")])
def test_examples_are_of_one_screen(name):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 60 and all(len(line) <= 120 for line in lines)
