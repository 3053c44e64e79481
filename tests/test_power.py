"""Why a computer is slower than it was."""

from __future__ import annotations

import platform

import pytest

from livepuppet.realtime.app import power
from livepuppet.realtime.app.power import HOT, PowerWatch, on_battery


@pytest.fixture(autouse=True)
def _linux(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")


def supply(root, name, **values):
    folder = root / "sys/class/power_supply" / name
    folder.mkdir(parents=True, exist_ok=True)
    for key, value in values.items():
        (folder / key).write_text(f"{value}\n")


def throttle(root, count):
    folder = root / "sys/devices/system/cpu/cpu0/thermal_throttle"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core_throttle_count").write_text(f"{count}\n")


def test_a_computer_without_a_battery_has_no_reason(tmp_path):
    assert not on_battery(tmp_path) and PowerWatch(tmp_path).reason() is None


@pytest.mark.parametrize(
    ("status", "online", "expected"),
    [("Discharging", 0, True), ("Charging", 1, False), ("Not charging", 1, False), ("Discharging", 1, False)],
)
def test_the_battery_feeds_it(tmp_path, status, online, expected):
    supply(tmp_path, "BAT0", type="Battery", status=status)
    supply(tmp_path, "AC", type="Mains", online=online)
    assert on_battery(tmp_path) == expected


def test_the_battery_of_a_mouse_does_not(tmp_path):
    supply(tmp_path, "hidpp_battery_0", type="Battery", status="Discharging", scope="Device")
    assert not on_battery(tmp_path)


def test_heat_counts_since_the_last_time(tmp_path):
    throttle(tmp_path, 3)
    watch = PowerWatch(tmp_path)
    assert watch.reason() is None
    throttle(tmp_path, 7)
    assert watch.reason() == HOT
    assert watch.reason() is None
    throttle(tmp_path, "nonsense")
    assert watch.reason() is None


def test_windows_and_macs_are_asked_in_their_own_ways(monkeypatch, tmp_path):
    class Kernel:
        def GetSystemPowerStatus(self, status):
            status.raw = bytes([self.line]) + bytes(11)
            return 1

    class Windll:
        kernel32 = Kernel()

    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(power.ctypes, "windll", Windll, raising=False)
    for Kernel.line, expected in ((0, True), (1, False), (255, False)):
        assert on_battery() == expected
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    for told, expected in (
        ("Now drawing from 'Battery Power'", True),
        ("Now drawing from 'AC Power'", False),
    ):
        monkeypatch.setattr(
            power.subprocess,
            "run",
            lambda *_, told=told, **__: power.subprocess.CompletedProcess([], 0, told, ""),
        )
        assert on_battery() == expected
