"""Whether the computer itself slows down: on battery, or because it is hot."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

#: Seconds that a program of the system may take to answer.
_PATIENCE = 2.0

BATTERY = "The computer runs on battery: plug in the charger."
HOT = "The processor is hot and slows itself down: let it cool."


class PowerWatch:
    """Tells why a computer that was fast enough is not any more.

    Args:
        root: of the file system, for tests.
    """

    def __init__(self, root: Path = Path("/")):
        self._root = root
        self._throttled = throttle_count(root)

    def reason(self) -> str | None:
        """A sentence with what to do, or None. Heat counts from one call to the next."""
        before, self._throttled = self._throttled, throttle_count(self._root)
        if on_battery(self._root):
            return BATTERY
        return HOT if self._throttled > before else None


def on_battery(root: Path = Path("/")) -> bool:
    """Whether the battery feeds the computer; False where nobody knows."""
    system = platform.system()
    if system == "Windows":
        # SYSTEM_POWER_STATUS: its first byte, ACLineStatus, is 0 on battery.
        status = ctypes.create_string_buffer(12)
        kernel = ctypes.windll.kernel32  # pyright: ignore[reportAttributeAccessIssue]
        return bool(kernel.GetSystemPowerStatus(status)) and status.raw[0] == 0
    if system == "Darwin":
        with suppress(OSError, subprocess.SubprocessError):
            words = ["pmset", "-g", "batt"]
            told = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE).stdout
            return "'Battery Power'" in told
        return False
    supplies = list((root / "sys/class/power_supply").glob("*"))
    # Batteries of mice and headphones feed no computer.
    own = [supply for supply in supplies if _read(supply / "scope") != "Device"]
    if any(_read(supply / "online") == "1" for supply in own if _read(supply / "type") != "Battery"):
        return False
    return any(_read(supply / "status") == "Discharging" for supply in own)


def throttle_count(root: Path = Path("/")) -> int:
    """How often Linux has seen the processor slow down for heat since it was started; 0 where it does not count."""
    found = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = (_read(path) for path in found)
    return sum(int(count) for count in counts if count.isdigit())


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""
