"""The doctor, on made-up machines: trees of system files, lists of cameras, answers of programs."""

from __future__ import annotations

import importlib.util
import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import settings
from livepuppet.realtime.app.cli import main
from livepuppet.realtime.app.commands import doctor as command
from livepuppet.realtime.app.doctor import cameras, checks, engines
from livepuppet.realtime.app.doctor.checks import Chapter, Finding
from livepuppet.realtime.inputs.cameras import CameraInfo
from livepuppet.realtime.inputs.v4l2 import Mode

SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
WEBCAM = CameraInfo(0, "Desk camera", "/dev/video0", modes=(Mode("MJPG", 1280, 720, (30.0, 15.0)),))
PUPPET = CameraInfo(9, "puppet", "/dev/video9", capture=False, virtual=True, output=True)


def put(root: Path, path: str, content: str | bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content.encode() if isinstance(content, str) else content)


def loaded(root: Path) -> Path:
    """With the module as kernels show it."""
    put(root, "sys/module/v4l2loopback/version", "0.13.2\n")
    for name, value in {
        "exclusive_caps": "Y,Y,N,N,N,N,N,N",
        "card_label": "puppet,(null),(null)",
        "max_buffers": "2",
        "video_nr": "9,-1,-1",
        "devices": "-1",
    }.items():
        put(root, f"sys/module/v4l2loopback/parameters/{name}", value + "\n")
    put(root, "sys/devices/virtual/video4linux/video9/format", "YU12:640x360@30\n")
    put(root, "sys/devices/virtual/video4linux/video9/buffers", "2\n")
    return root


def answers(**known: str):
    """Programs by name, with what they print; others are not installed."""
    return lambda words: known.get(words[0])


def only(chapter: Chapter) -> Finding:
    assert len(chapter.findings) == 1, chapter.findings
    return chapter.findings[0]


def replaced(camera: CameraInfo, **values) -> CameraInfo:
    import dataclasses

    return dataclasses.replace(camera, **values)


# The virtual camera on Linux


def test_a_loaded_module_with_a_free_device(tmp_path):
    chapter = cameras.v4l2loopback(loaded(tmp_path), [WEBCAM, PUPPET], answers())
    assert only(chapter) == Finding("OK", "/dev/video9 (puppet) is free: --output virtual:/dev/video9")
    info = dict(chapter.info)
    assert info["v4l2loopback"] == "loaded, version 0.13.2"
    assert info["exclusive_caps"] == "Y,Y,N,N,N,N,N,N" and info["max_buffers"] == "2"
    assert info["card_label"] == "puppet" and info["video_nr"] == "9" and "devices" not in info
    assert info["/dev/video9"] == "puppet, 2 buffers, format YU12:640x360@30"


@pytest.mark.parametrize(
    ("values", "verdict", "text", "remedy"),
    [
        ({"capture": True, "output": True}, "WARN", "exclusive_caps=0.*Chrome", "exclusive_caps=1"),
        ({"capture": True, "output": False}, "WARN", "is fed by another program", "Stop that program"),
        ({"problem": "Permission denied"}, "FAIL", "Permission denied", "usermod -aG video"),
    ],
)
def test_devices_with_a_trap(tmp_path, values, verdict, text, remedy):
    import re

    found = only(cameras.v4l2loopback(loaded(tmp_path), [replaced(PUPPET, **values)], answers()))
    assert found.verdict == verdict and re.search(text, found.text) and remedy in found.remedy


def test_a_device_that_may_not_be_opened_is_known_by_the_systems_files(tmp_path):
    """Its driver could not be asked, so it is not listed as virtual."""
    locked = replaced(PUPPET, virtual=False, problem="Permission denied")
    found = only(cameras.v4l2loopback(loaded(tmp_path), [locked], answers()))
    assert found.verdict == "FAIL" and "usermod" in found.remedy
    assert "no camera" in only(cameras.cameras(tmp_path, [locked])).text


def test_a_module_that_does_not_tell_its_version(tmp_path):
    (loaded(tmp_path) / "sys/module/v4l2loopback/version").unlink()
    for known, version in (({"modinfo": UNSIGNED}, "0.12.7"), ({}, "unknown")):
        chapter = cameras.v4l2loopback(tmp_path, [PUPPET], answers(**known))
        assert dict(chapter.info)["v4l2loopback"] == f"loaded, version {version}"


def test_a_loaded_module_without_devices(tmp_path):
    assert "no device" in only(cameras.v4l2loopback(loaded(tmp_path), [WEBCAM], answers())).text


def test_no_driver_at_all(tmp_path):
    found = only(cameras.v4l2loopback(tmp_path, [], answers()))
    assert found.verdict == "WARN" and "v4l2loopback-dkms" in found.remedy


def test_a_driver_that_was_not_built_for_this_kernel(tmp_path):
    put(tmp_path, "usr/src/v4l2loopback-0.12.7/dkms.conf", "")
    found = only(cameras.v4l2loopback(tmp_path, [], answers()))
    assert "not built for this kernel" in found.text and "linux-headers" in found.remedy


SIGNED = "filename: /lib/v4l2loopback.ko\nversion:        0.12.7\nsigner:         DKMS module signing key\n"
UNSIGNED = "filename: /lib/v4l2loopback.ko\nversion:        0.12.7\n"


@pytest.mark.parametrize(
    ("about", "state", "verdict", "said"),
    [
        (UNSIGNED, "SecureBoot enabled\n", "FAIL", "kernel refuses it"),
        (SIGNED, "SecureBoot enabled\n", "WARN", "mokutil --import"),
        (UNSIGNED, "SecureBoot disabled\n", "WARN", "sudo modprobe v4l2loopback"),
    ],
)
def test_a_driver_that_is_not_loaded(tmp_path, about, state, verdict, said):
    chapter = cameras.v4l2loopback(tmp_path, [], answers(modinfo=about, mokutil=state))
    assert only(chapter).verdict == verdict
    assert said in only(chapter).text + only(chapter).remedy
    assert "version 0.12.7" in dict(chapter.info)["module"]


@pytest.mark.parametrize(("last", "expected"), [(1, True), (0, False)])
def test_secure_boot_is_read_from_the_firmware(tmp_path, last, expected):
    put(tmp_path, SECURE_BOOT, bytes([6, 0, 0, 0, last]))
    assert cameras.secure_boot(tmp_path, answers(mokutil="SecureBoot enabled")) is expected
    put(tmp_path, SECURE_BOOT, b"\6\0")
    assert cameras.secure_boot(tmp_path, answers()) is None


# Cameras


def test_cameras_with_their_modes(tmp_path):
    chapter = cameras.cameras(tmp_path, [WEBCAM, PUPPET])
    assert only(chapter) == Finding("OK", "Camera 0 (Desk camera) can be opened")
    assert ("", "MJPG: 1280x720 at 30") in chapter.info and not any(
        "puppet" in value for _, value in chapter.info
    )


def test_no_camera(tmp_path):
    assert "--driving FILE" in only(cameras.cameras(tmp_path, [PUPPET])).remedy


@pytest.mark.parametrize(
    ("values", "verdict", "said"),
    [
        ({"problem": "Permission denied"}, "FAIL", "Permission denied"),
        ({"problem": "Device or resource busy"}, "FAIL", "Close other programs"),
        ({"modes": (Mode("YUYV", 1280, 720, (10.0, 5.0)),)}, "WARN", "--camera-size 640x480"),
        ({"capture": False}, "WARN", "Unplug it"),
    ],
)
def test_cameras_with_a_trap(tmp_path, values, verdict, said):
    found = only(cameras.cameras(tmp_path, [replaced(WEBCAM, **values)]))
    assert found.verdict == verdict and said in found.text + found.remedy


@pytest.mark.skipif(os.name != "posix", reason="links as Unix has them")
def test_the_program_that_has_the_camera_open_is_named(tmp_path):
    for number, name, device in (
        (11, "zoom", "/dev/video0"),
        (12, "pipewire", "/dev/video0"),
        (13, "vlc", "/dev/video1"),
    ):
        put(tmp_path, f"proc/{number}/comm", f"{name}\n")
        (tmp_path / f"proc/{number}/fd").mkdir()
        (tmp_path / f"proc/{number}/fd/3").symlink_to(device)
    (tmp_path / "proc/14").mkdir()
    found = only(cameras.cameras(tmp_path, [WEBCAM]))
    assert found.verdict == "WARN" and found.text.endswith("is open in zoom")
    fed = replaced(PUPPET, path="/dev/video1", capture=True, output=False)
    assert "fed by vlc" in only(cameras.v4l2loopback(loaded(tmp_path), [fed], answers())).text


# Windows and macOS


def test_windows_drivers_and_privacy():
    allowed = {("HKEY_CURRENT_USER", cameras._CONSENT, "Value"): "Allow"}
    assert "OBS Studio" in only(cameras.windows_drivers(lambda *key: allowed.get(key))).remedy
    installed = {**allowed, ("HKEY_CLASSES_ROOT", cameras._OBS_FILTER, ""): ""}
    assert only(cameras.windows_drivers(lambda *key: installed.get(key))).verdict == "OK"
    denied = {**installed, ("HKEY_CURRENT_USER", rf"{cameras._CONSENT}\NonPackaged", "Value"): "Deny"}
    findings = cameras.windows_drivers(lambda *key: denied.get(key)).findings
    assert [finding.verdict for finding in findings] == ["OK", "FAIL"]
    assert "desktop programs" in findings[1].text and "Privacy" in findings[1].remedy


@pytest.mark.parametrize(
    ("version", "listed", "verdict", "said"),
    [
        (
            "31.0.2",
            "*\t*\tX\tcom.obsproject.obs-studio.mac-camera-extension (1/1)\tOBS\t[activated enabled]\n",
            "OK",
            "",
        ),
        ("31.0.2", "com.obsproject.x\t[activated waiting for user]\n", "WARN", "waiting for user"),
        ("31.0.2", "0 extension(s)\n", "WARN", "Start Virtual Camera"),
        ("29.1", "", "WARN", "30 or newer"),
        ("31.0.2", None, "WARN", "could not be found out"),
    ],
)
def test_obs_on_macos(tmp_path, version, listed, verdict, said):
    put(
        tmp_path,
        "Applications/OBS.app/Contents/Info.plist",
        plistlib.dumps({"CFBundleShortVersionString": version}),
    )
    known = {} if listed is None else {"systemextensionsctl": listed}
    chapter = cameras.mac_drivers(tmp_path, answers(**known))
    assert only(chapter).verdict == verdict and said in only(chapter).text + only(chapter).remedy
    assert dict(chapter.info)["OBS"] == version


def test_no_obs_on_macos(tmp_path):
    assert "not installed" in only(cameras.mac_drivers(tmp_path, answers())).text


# Software and machine


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (("opencv-python", "opencv-contrib-python-headless"), "over each other"),
        (("opencv-python-headless",), "cannot open windows"),
        (
            ("opencv-python", "onnxruntime", "onnxruntime-gpu"),
            "onnxruntime and onnxruntime-gpu are installed over",
        ),
    ],
)
def test_packages_that_do_not_go_together(monkeypatch, installed, said):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    chapter = checks.software(lambda package: "1.0" if package in installed else None)
    assert only(chapter).verdict == "WARN" and said in only(chapter).text
    assert ("av", "missing") in chapter.info


def test_opencv_that_lacks_something(monkeypatch):
    import cv2

    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    monkeypatch.setattr(cv2.data, "haarcascades", "/nowhere/")
    texts = [finding.text for finding in checks.opencv().findings]
    assert any("without windows" in text for text in texts) and any("without face" in text for text in texts)


def test_no_encoder(monkeypatch):
    monkeypatch.setattr("av.codecs_available", {"h264", "png"})
    chapter = checks.recording()
    assert only(chapter).verdict == "WARN" and ("used", "none") in chapter.info


@pytest.mark.parametrize(
    ("driver", "governor", "preference", "profile", "slow"),
    [
        ("acpi-cpufreq", "powersave", "", "", True),
        ("acpi-cpufreq", "schedutil", "", "", False),
        ("intel_pstate", "powersave", "balance_performance", "balanced", False),
        ("intel_pstate", "powersave", "power", "", True),
        ("intel_cpufreq", "schedutil", "", "low-power", True),
        ("", "", "", "", False),
    ],
)
def test_power_saving(tmp_path, monkeypatch, driver, governor, preference, profile, slow):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr("livepuppet.realtime.engines.usable_cores", lambda: 4)
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    for name, value in (
        (f"{folder}/scaling_driver", driver),
        (f"{folder}/scaling_governor", governor),
        (f"{folder}/energy_performance_preference", preference),
        ("sys/firmware/acpi/platform_profile", profile),
    ):
        if value:
            put(tmp_path, name, value + "\n")
    put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name\t: Fast Chip 9000\n")
    put(tmp_path, "proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
    chapter = checks.machine(tmp_path)
    assert bool(chapter.findings) == slow
    info = dict(chapter.info)
    assert info["processor"] == "Fast Chip 9000" and info["memory"] == "16.0 GiB, 8.0 free"


def test_a_busy_machine_with_one_core(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (50.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr("livepuppet.realtime.engines.usable_cores", lambda: 1)
    texts = " ".join(finding.text for finding in checks.machine(tmp_path).findings)
    assert "load 50.0 on 2" in texts and "Only one core" in texts


@pytest.mark.parametrize(
    ("read", "drawn", "cores", "verdict", "said"),
    [
        (9.0, 1000 / 60, 2, "OK", "30 frames"),
        (9.0, 15.0, 1, "OK", "30 frames"),
        (20.0, 1000 / 24.4, 2, "OK", "24 frames"),
        (20.0, 30.0, 1, "WARN", "20 frames"),
        (50.0, 10.0, 0, "WARN", "20 frames"),
        (9.0, 1000 / 0.07, 2, "FAIL", "0.1 frames"),
    ],
)
def test_what_the_speed_means(read, drawn, cores, verdict, said):
    found = engines._speed_finding(read, drawn, cores, "onnx")
    assert found.verdict == verdict and f"up to {said}" in found.text
    assert ("up to 60 from a faster one" in found.text) == (drawn == 1000 / 60)
    # What takes no time is no remedy.
    assert ("--size" in found.remedy) == (verdict != "OK" and drawn > read)


class FakeSession:
    def __init__(self, *providers):
        self.get_providers = lambda: list(providers)


def test_onnxruntime_gpu_that_silently_computes_on_the_processor(monkeypatch):
    monkeypatch.setattr(
        engines, "version_of", lambda package: "1.2" if package == "onnxruntime-gpu" else None
    )
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    for given, count in (("CPUExecutionProvider", 1), ("CUDAExecutionProvider", 0)):
        monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, given=given, **__: FakeSession(given))
        info = []
        assert len(engines._graphics_card(False, info)) == count
        assert ("cannot" in info[0][1]) == bool(count)


def test_every_engine_is_listed_and_measured_or_says_what_it_lacks():
    chapter = engines.engines(seconds=0.0)
    info = dict(chapter.info)
    assert (
        "all stages CPUExecutionProvider" in info["onnx cpu float32"] and "render" in info["onnx cpu float32"]
    )
    if importlib.util.find_spec("openvino"):
        assert "OpenVINO CPU f32" in info["openvino cpu float32"] and "ms" in info["openvino cpu float32"]
    lacking = " ".join(value for name, value in chapter.info if name == "not here")
    assert "onnx directml" in lacking and "pip install" in lacking
    assert any("frames per second" in finding.text for finding in chapter.findings)
    quick = dict(engines.engines(quick=True).info)
    assert "render" not in quick["onnx cpu float32"] and not any(name.startswith("torch") for name in quick)


def test_an_engine_that_draws_wrong_is_said_to_be_refused(monkeypatch):
    from livepuppet.realtime.engines import loading

    def refuses(engine, path):
        if engine.name == "onnx":
            raise UserError("It draws nonsense.")

    monkeypatch.setattr(loading, "_pass", refuses)
    chapter = engines.engines(quick=True)
    assert dict(chapter.info)["onnx cpu float32"] == "refused: It draws nonsense."
    assert any(finding.verdict == "WARN" and "onnx cpu" in finding.text for finding in chapter.findings)


# Settings


def test_settings_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    chapter = checks.settings_file()
    assert only(chapter).verdict == "OK" and "not there yet" in dict(chapter.info)["file"]
    assert list(tmp_path.iterdir()) == []
    settings.settings_path().write_text("[motion]\nwobble = 1\nstrength = 0.5\n[profile.secret.motion]\n")
    chapter = checks.settings_file()
    assert "wobble" in only(chapter).text and dict(chapter.info)["not at their default"] == "motion.strength"
    assert "secret" not in str(chapter)
    settings.settings_path().write_text("[motion]\nstrength = 'loud'\n")
    assert only(checks.settings_file()).verdict == "FAIL"


def test_a_running_session_is_asked(tmp_path, monkeypatch):
    from livepuppet.realtime.app import control

    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    state = {"mode": "live", "fps": 29.9, "avatar": "my boss", "delay_ms": {"p50": 40.5}}
    server = control.ControlServer(lambda *_: None, lambda: state, control.control_token(), 0)
    try:
        running = dict(checks.settings_file().info)["running session"]
    finally:
        server.close()
    assert (
        "mode live" in running
        and "29.9" in running
        and "delay_ms p50 40.5" in running
        and "boss" not in running
    )


# The whole


def test_a_check_that_breaks_does_not_end_the_others():
    def breaks():
        raise RuntimeError("no\nluck")

    found = only(checks.examine("Cameras", breaks))
    assert found.verdict == "WARN" and "RuntimeError: no luck" in found.text


def test_programs_that_are_missing_fail_or_hang(monkeypatch):
    assert checks.ask_program(["livepuppet-no-such-program"]) is None
    assert checks.ask_program([sys.executable, "-c", "raise SystemExit(1)"]) is None
    assert checks.ask_program([sys.executable, "-c", "print('fine')"]).strip() == "fine"
    monkeypatch.setattr(checks, "PATIENCE", 0.2)
    assert checks.ask_program([sys.executable, "-c", "import time; time.sleep(60)"]) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/.config/x", "~/.config/x"),
        ("/home/annabelle/x", "~/x"),
        ("/home/bert/x and C:\\Users\\Bert\\y", "~/x and ~\\y"),
        ("/Users/bert/Library", "~/Library"),
        ("anna on annas-pc (Anna)", "USER on HOST (USER)"),
        ("annals", "annals"),
        ("Anna's iPhone Camera", "somebody's iPhone Camera"),
        ("Bert’s iPad Camera", "somebody's iPad Camera"),
        ("/homes", "/homes"),
    ],
)
def test_nobody_is_named(text, expected):
    assert checks.redacted(text, "/home/anna", "anna", "annas-pc") == expected


def test_short_and_common_names_are_left():
    assert checks.redacted("root al /root/x /", "/", "root", "al") == "root al /root/x /"


@pytest.fixture
def made_up(monkeypatch):
    """The command with these findings instead of this machine's."""

    def use(*findings):
        chapter = Chapter("Things", (("name", "value"), ("long name", str(Path.home() / "x"))), findings)
        monkeypatch.setattr(
            command, "chapters", lambda quick, server: [("Things", lambda: chapter), ("Odd", lambda: 1 / 0)]
        )

    return use


def test_the_command_prints_and_writes_the_same(tmp_path, capsys, made_up):
    made_up(Finding("WARN", "A is odd", "Do b."), Finding("OK", "c is fine"))
    main(["doctor", "--report", str(tmp_path / "report.txt")])
    said = capsys.readouterr()
    report = (tmp_path / "report.txt").read_text(encoding="utf-8")
    assert report == said.out
    lines = report.splitlines()
    assert lines[:3] == [
        "Things",
        "  name       value",
        f"  long name  {checks.redacted(str(Path.home() / 'x'))}",
    ]
    assert lines.index("  OK    c is fine.") < lines.index("  WARN  A is odd.")
    assert "        -> Do b." in lines and "ZeroDivisionError" in report
    assert lines[-1].startswith("2 WARN.")


def test_the_command_fails_where_something_fails(capsys, made_up):
    made_up(Finding("FAIL", "A is broken", "Mend it."))
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    assert caught.value.code == 1
    assert "1 FAIL and 1 WARN." in capsys.readouterr().out


def test_a_report_that_cannot_be_written(tmp_path, capsys, made_up):
    made_up()
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--report", str(tmp_path / "nowhere" / "report.txt")])
    assert caught.value.code == 2
    assert "choose another --report" in capsys.readouterr().err


def test_nothing_is_sent_to_the_makers_of_onnxruntime(tmp_path):
    """With its telemetry on, it keeps an identifier and a queue in the home folder."""
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_", "CI"))
    }
    result = subprocess.run(
        [sys.executable, "-m", "livepuppet", "doctor", "--quick"],
        env={**environment, **home},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert re.search(r"its telemetry +off", result.stdout), result.stderr
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


def test_on_this_machine(tmp_path, monkeypatch, capsys):
    """Nothing breaks, whatever is here."""
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    try:
        main(["doctor", "--quick"])
    except SystemExit as stop:
        assert stop.code == 1
    said = capsys.readouterr().out
    assert "could not be looked at" not in said
    for title, _ in command.chapters(True):
        assert f"{title}\n" in said
