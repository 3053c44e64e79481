"""`livepuppet`, `run`, `devices` and `demo`, run as people run them, and what they say when something is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_bundle
from media import gradient, read_clip, red_picture, write_clip, write_picture

from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.app.cli import COMMANDS
from livepuppet.realtime.app.commands import demo
from livepuppet.realtime.app.commands.devices import mode_lines, report
from livepuppet.realtime.app.commands.run import run_live
from livepuppet.realtime.app.session import parse_size
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.inputs import cameras
from livepuppet.realtime.inputs.opening import open_source
from livepuppet.realtime.inputs.v4l2 import Mode, list_devices

CLI = [sys.executable, "-m", "livepuppet"]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def avatar(tmp_path):
    return write_picture(tmp_path / "avatar.png", gradient(64, 64))


@pytest.fixture
def driving(tmp_path):
    return write_clip(tmp_path / "driving.mp4", [red_picture(level) for level in range(100, 180, 2)], rate=50)


def process(*arguments) -> subprocess.CompletedProcess:
    """The command line in a process of its own, see the fixture `livepuppet` for the other way."""
    command = [*CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def chosen(avatar, driving, **more) -> Settings:
    """Settings for a run without a person."""
    given = {
        "avatar": str(avatar),
        "driving": str(driving),
        "outputs": ("none",),
        "crop": "full",
        "enabled": False,
    }
    return merge(Settings(), {**given, **more})


def assert_one_sentence(result: subprocess.CompletedProcess, *parts: str) -> None:
    """Exit status 2, and the last line on standard error says what to do; no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr and result.stderr.count("livepuppet: ") == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("livepuppet: ") and last.endswith("."), result.stderr
    for part in parts:
        assert part in last


def test_help_lists_every_command():
    result = process("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", ["animate", "run", "devices", "demo"])
def test_every_command_explains_itself(livepuppet, command):
    result = livepuppet(command, "--help")
    assert result.returncode == 0 and "Usage: livepuppet" in result.stdout


def test_a_slip_in_a_command_is_met_with_the_nearest(livepuppet):
    assert "did you mean animate?" in livepuppet("anmate").stderr
    assert "There is no command 'xyz'." in livepuppet("xyz").stderr


def test_starting_is_lean():
    script = (
        "import sys; import livepuppet.realtime.app.commands.run, livepuppet.realtime.app.commands.demo;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'onnxruntime', 'pyvirtualcam', 'PIL'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_run_drives_a_picture_and_writes_the_figures(tmp_path, avatar, driving, bundle):
    stats = tmp_path / "stats.json"
    result = process(
        *(
            "run",
            "--avatar",
            avatar,
            "--driving",
            driving,
            "--model",
            bundle,
            "--size",
            "320x180",
            "--stats",
            stats,
        ),
        *(
            "--output",
            tmp_path / "out.mp4",
            "--output",
            tmp_path / "frames",
            "--frames",
            20,
            "--loop",
            "--crop",
            "full",
        ),
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads(stats.read_text())
    assert facts["frames"] == 20
    assert facts["engine"] in ("onnx", "openvino") and "CPU" in facts["provider"] and facts["model"] == "tiny"
    assert facts["captured"] >= 20 and facts["dropped"] >= 0 and facts["fps"] > 0
    for figure in ("p50", "p95", "p99"):
        assert 0 < facts["latency_ms"][figure] < 10_000
    assert "20 frames" in result.stderr and "p99" in result.stderr
    pictures, _ = read_clip(tmp_path / "out.mp4")
    # More than was animated: the avatar at rest until the neutral pose was taken.
    assert len(pictures) == len(list((tmp_path / "frames").iterdir())) >= 20
    assert pictures[0].shape == (180, 320, 3)
    assert pictures[0][:, :60].max() <= 2 and pictures[-1][:, 80:240].mean() > 60


def test_run_ends_with_the_file(tmp_path, avatar, driving, bundle):
    live = run_live(chosen(avatar, driving), bundle).live
    assert live.capture.ended and live.stats.frames > 0
    assert live.stats.frames + live.stats.dropped == live.stats.captured


def test_run_with_a_folder_of_avatars(tmp_path, driving, bundle, capfd):
    folder = tmp_path / "avatars"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        write_picture(folder / name, gradient(100, 80))
    (folder / "c.png").write_bytes(b"broken")
    session = run_live(chosen(folder, driving), bundle, frames=3)
    assert session.animator.names == ["a.png", "b.png"]
    assert "c.png" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly(tmp_path, avatar, driving, bundle, number):
    output, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    arguments = (
        "run",
        "--avatar",
        avatar,
        "--driving",
        driving,
        "--loop",
        "--model",
        bundle,
        "--output",
        output,
    )
    process = subprocess.Popen(
        [*CLI, *map(str, (*arguments, "--stats", stats, "--size", "128x96", "--crop", "full"))],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (output.exists() and output.stat().st_size > 2000):
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "frames" in errors and "Traceback" not in errors
    assert len(read_clip(output)[0]) >= json.loads(stats.read_text())["frames"] > 0


def test_no_camera(livepuppet, avatar, bundle):
    for camera in ("77", "camera:no such name", "no such name"):
        result = livepuppet(
            "run", "--avatar", avatar, "--driving", camera, "--model", bundle, "--output", "none"
        )
        assert_one_sentence(result, "There is no camera", "livepuppet devices")


def test_a_missing_driving_file(avatar, bundle):
    """With the process's own exit status."""
    result = process(
        "run", "--avatar", avatar, "--driving", "nowhere.mp4", "--model", bundle, "--output", "none"
    )
    assert_one_sentence(result, "There is no file nowhere.mp4")


@pytest.mark.skipif(
    any(device.loopback for device in list_devices()), reason="there is a virtual camera here"
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="says what Linux needs")
def test_no_virtual_camera(livepuppet, avatar, driving, bundle):
    for output in ("virtual", "virtual:/dev/video77"):
        result = livepuppet(
            "run", "--avatar", avatar, "--driving", driving, "--model", bundle, "--output", output
        )
        assert_one_sentence(result, "modprobe v4l2loopback")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_no_display(livepuppet, monkeypatch, avatar, driving, bundle):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for display in (None, ":97"):
        if display:
            monkeypatch.setenv("DISPLAY", display)
        result = livepuppet("run", "--avatar", avatar, "--driving", driving, "--model", bundle)
        assert_one_sentence(result, "No window can be opened", "--output FILE.mp4")


@pytest.mark.parametrize("output", ["nowhere/out.mp4", "out.avi", "driving.mp4/frames", "driving.mp4"])
def test_outputs_that_cannot_be_written(livepuppet, tmp_path, avatar, driving, bundle, output):
    result = livepuppet(
        "run", "--avatar", avatar, "--driving", driving, "--model", bundle, "--output", tmp_path / output
    )
    assert_one_sentence(result)
    assert read_clip(driving)[0]


def test_figures_that_cannot_be_written(livepuppet, tmp_path, avatar, driving, bundle):
    arguments = ("--avatar", avatar, "--driving", driving, "--model", bundle, "--output", "none")
    assert_one_sentence(
        livepuppet("run", *arguments, "--stats", tmp_path / "nowhere" / "s.json"), "does not exist"
    )


@pytest.mark.parametrize("size", ["1280", "1281x720", "0x0", "axb", "100000x2"])
def test_bad_sizes(size):
    with pytest.raises(UserError, match="1280x720"):
        parse_size(size)


def test_a_driving_file_that_breaks_off_keeps_recording_and_figures(livepuppet, tmp_path, avatar, bundle):
    random = np.random.default_rng(0)
    noise = [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(60)]
    driving = write_clip(tmp_path / "driving.mp4", noise, rate=20, options={"movflags": "faststart"})
    driving.write_bytes(driving.read_bytes()[: driving.stat().st_size // 2])
    output, stats = tmp_path / "out.mp4", tmp_path / "stats.json"
    result = livepuppet(
        *(
            "run",
            "--avatar",
            avatar,
            "--driving",
            driving,
            "--model",
            bundle,
            "--output",
            output,
            "--stats",
            stats,
        ),
        *("--size", "128x96", "--crop", "full"),
    )
    assert_one_sentence(result, "damaged or incomplete")
    assert len(read_clip(output)[0]) > 3
    assert json.loads(stats.read_text())["frames"] > 3


def test_a_clip_too_short_to_animate(livepuppet, tmp_path, avatar, bundle):
    driving = write_clip(tmp_path / "driving.mp4", [red_picture(100)])
    result = livepuppet(
        "run", "--avatar", avatar, "--driving", driving, "--model", bundle, "--output", "none"
    )
    assert_one_sentence(result, "longer one")


def test_our_own_virtual_camera_is_no_source(avatar, bundle):
    for output in ("virtual:/dev/video9", "virtual:9"):
        with pytest.raises(UserError, match="is the output"):
            run_live(chosen(avatar, "/dev/video9", outputs=(output,)), bundle)


def test_microphones_are_listed_by_name(monkeypatch):
    from livepuppet.realtime.outputs import microphone

    inputs = [
        {"index": 0, "name": "Speakers", "max_input_channels": 0},
        {"index": 1, "name": "Webcam", "max_input_channels": 2},
        {"index": 2, "name": "Headset", "max_input_channels": 1},
        {"index": 3, "name": "Webcam", "max_input_channels": 2},
    ]
    device = SimpleNamespace(query_devices=lambda: inputs, default=SimpleNamespace(device=(2, 0)))
    monkeypatch.setattr(microphone, "_sounddevice", lambda: device)
    assert microphone.list_microphones() == ["Headset", "Webcam"]
    assert "  Headset" in report([], "Linux", microphones=["Headset"])
    monkeypatch.setattr(microphone, "_sounddevice", lambda: None)
    assert microphone.list_microphones() == []


def test_devices_says_what_to_do(livepuppet):
    result = livepuppet("devices")
    assert result.returncode == 0
    assert "Cameras" in result.stdout and "Virtual cameras" in result.stdout


WEBCAM = cameras.CameraInfo(
    0,
    "Desk camera",
    "/dev/video0",
    modes=(
        Mode("MJPG", 640, 480, (30.0,)),
        Mode("MJPG", 1280, 720, (60.0, 30.0)),
        Mode("YUYV", 640, 480, (30.0,)),
        Mode("NV12", 640, 480, (30.0,)),
    ),
)
PUPPET = cameras.CameraInfo(9, "puppet", "/dev/video9", capture=False, virtual=True)


def test_the_report_tells_cameras_from_virtual_ones():
    lines = report([WEBCAM, PUPPET], "Linux")
    assert lines[1] == "  0  Desk camera"
    assert lines[2].strip() == "MJPG: 1280x720 at 60, 640x480 at 30"
    assert lines[3].strip() == "YUYV, NV12: 640x480 at 30"
    assert "virtual:/dev/video9" in lines[-1] and "free" in lines[-1]
    assert mode_lines(PUPPET) == []


@pytest.mark.parametrize(
    ("system", "word"), [("Linux", "modprobe"), ("Windows", "OBS Studio"), ("Darwin", "OBS Studio")]
)
def test_the_report_says_how_to_get_a_virtual_camera(system, word):
    text = "\n".join(report([], system))
    assert word in text and "--driving FILE" in text


def test_cameras_are_found_by_number_path_and_part_of_the_name(monkeypatch):
    locked = cameras.CameraInfo(2, "Locked", "/dev/video2", problem="Permission denied")
    twin = cameras.CameraInfo(3, "Desk lamp", "/dev/video3")
    monkeypatch.setattr(cameras, "list_cameras", lambda: [WEBCAM, PUPPET, locked, twin])
    for text in ("0", "/dev/video0", "camera:desk cam", "Desk CAMERA"):
        assert cameras.find_camera(text) is WEBCAM
    for text, message in (
        ("desk", "give the number"),
        ("locked", "Permission denied"),
        ("9", "no program feeds yet"),
        ("7", r"there is 0 \(Desk camera\)"),
    ):
        with pytest.raises(UserError, match=message):
            cameras.find_camera(text)


def test_files_win_over_camera_names(tmp_path, driving):
    source = open_source(str(driving), (640, 480), 30)
    assert source.name == str(driving)
    source.close()


def test_demo_without_camera_writes_a_video(tmp_path, monkeypatch, avatar, driving, bundle, capsys):
    monkeypatch.setattr(bundled, "AVATAR", avatar)
    monkeypatch.setattr(bundled, "DRIVING", driving)
    monkeypatch.setattr("livepuppet.realtime.engines.loading.MODEL", bundle)
    monkeypatch.setattr(demo, "list_cameras", list)
    monkeypatch.chdir(tmp_path)
    demo.demo.main([], standalone_mode=False)
    said = capsys.readouterr()
    video = tmp_path / demo.VIDEO_NAME
    assert str(video) in said.out and "frames per second" in said.out
    assert "there is no camera" in said.err
    assert read_clip(video)[0][0].shape == (512, 1536, 3)


def test_demo_falls_back_where_the_camera_fails(tmp_path, monkeypatch, avatar, driving, bundle, capsys):
    monkeypatch.setattr(bundled, "AVATAR", avatar)
    monkeypatch.setattr(bundled, "DRIVING", driving)
    monkeypatch.setattr("livepuppet.realtime.engines.loading.MODEL", bundle)
    monkeypatch.setattr(demo, "list_cameras", lambda: [WEBCAM])
    monkeypatch.setattr(demo, "display_problem", lambda: None)

    def fails(*arguments, **options):
        raise UserError("The camera is busy: close the other program.")

    monkeypatch.setattr(demo, "run_live", fails)
    monkeypatch.chdir(tmp_path)
    demo.demo.main([], standalone_mode=False)
    assert "busy" in capsys.readouterr().err
    assert (tmp_path / demo.VIDEO_NAME).exists()


def test_demo_writes_elsewhere_when_it_must(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert demo.place_for_video().parent != Path.cwd()


def test_a_recording_that_failed_is_the_status_and_the_last_sentence(
    livepuppet, tmp_path, avatar, driving, bundle
):
    (tmp_path / "000002.png").write_bytes(b"somebody's")
    arguments = (
        "run",
        "--avatar",
        avatar,
        "--driving",
        driving,
        "--model",
        bundle,
        "--countdown",
        "0",
        "--loop",
    )
    result = livepuppet(
        *arguments, "--output", tmp_path, "--output", "none", "--frames", "12", "--no-remember"
    )
    assert result.returncode == 2
    assert "000002.png is there already" in result.stderr.splitlines()[-1]
    assert (tmp_path / "000002.png").read_bytes() == b"somebody's"


@pytest.mark.parametrize("option", ["--avatar", "--driving", "--output"])
def test_an_empty_name_is_one_sentence(livepuppet, tmp_path, monkeypatch, avatar, driving, option):
    monkeypatch.chdir(tmp_path)
    given = {"--avatar": avatar, "--driving": driving, "--output": "o.mp4", option: ""}
    for command in ("run", "animate"):
        result = livepuppet(command, *(word for pair in given.items() for word in pair))
        assert result.returncode == 2 and "is empty" in result.stderr and result.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"avatar.png", "driving.mp4"}


def test_figures_are_never_written_over_what_is_read(livepuppet, tmp_path, avatar, driving, bundle):
    arguments = ("run", "--avatar", avatar, "--driving", driving, "--model", bundle, "--output", "none")
    (tmp_path / "link.json").symlink_to(driving)
    result = livepuppet(*arguments, "--stats", tmp_path / "link.json")
    assert result.returncode == 2 and "is the driving video itself" in result.stderr
