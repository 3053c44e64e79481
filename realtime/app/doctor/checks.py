"""What a helper would ask for: the machine, the software, the model's speed, and the traps that
people fall into.

Every check is a function that returns a `Chapter`; `examine` runs one so that a check that breaks
says so, and the others go on. Checks that read the system's files take the root folder, and those
that ask other programs take the function that does, so that both can be tested on any machine.
Cameras are in `cameras`, engines in `engines`.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from livepuppet.core.packages import failed_package, reason_of, remedy_for
from livepuppet.core.processor import cpuinfo
from livepuppet.realtime.app.power import on_battery

Verdict = Literal["OK", "WARN", "FAIL"]

#: Asks another program: takes its words, returns what it wrote, or None where it is missing, fails
#: or hangs.
Ask = Callable[[list[str]], str | None]

#: Seconds that another program may take.
PATIENCE = 8


@dataclass(frozen=True)
class Finding:
    """One line of the verdict.

    Attributes:
        verdict: FAIL for what is surely wrong, WARN for what will be in the way of some.
        text: what was found, without a full stop.
        remedy: what to do, a sentence; empty where nothing is to be done.
    """

    verdict: Verdict
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Chapter:
    """What one check found.

    Attributes:
        title: its heading.
        info: pairs of name and value, for the report.
        findings: for the verdict.
    """

    title: str
    info: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()


def examine(title: str, check: Callable[[], Chapter]) -> Chapter:
    """Run a check. One that breaks is a finding, not the end."""
    try:
        return check()
    except Exception as error:
        package = failed_package(error) if isinstance(error, ImportError) else None
        if package is not None:
            reason = "" if isinstance(error, ModuleNotFoundError) else reason_of(error)
            what = f"is installed but cannot be loaded ({reason})" if reason else "is missing"
            remedy = remedy_for(package, reason)
            finding = Finding("FAIL", f"The package '{package}' {what}", f"{remedy[0].upper()}{remedy[1:]}.")
        else:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            finding = Finding(
                "WARN", f"{title}: this could not be looked at ({reason})", "Report it, please."
            )
        return Chapter(title, findings=(finding,))


def ask_program(words: list[str]) -> str | None:
    """See `Ask`. Programs of administrators are found although people's PATH leaves them out."""
    path = os.environ.get("PATH", os.defpath)
    if os.name == "posix":
        path = os.pathsep.join([path, "/usr/sbin", "/sbin"])
    try:
        result = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": path, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout if result.returncode == 0 else None


def read(path: Path) -> str:
    """The text of one of the system's files, or nothing where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip().strip("\0")
    except OSError:
        return ""


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# Software


def software(versions: Callable[[str], str | None] = version_of) -> Chapter:
    """Versions of everything that takes part, and combinations that do not work."""
    info = [
        ("livepuppet", versions("livepuppet") or "not installed as a package"),
        ("Python", f"{platform.python_version()}, {platform.python_implementation()}, {platform.machine()}"),
        ("system", _system()),
    ]
    needed = ["numpy", "opencv-python", "onnxruntime", "av", "pillow", "tomlkit"]
    # Linux has v4l2loopback, which we write to ourselves.
    needed += ["pyvirtualcam"] if platform.system() != "Linux" else []
    for package in needed:
        info.append((package, versions(package) or "missing"))
    optional = (
        "torch",
        "mss",
        "sounddevice",
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "opencv-python-headless",
    )
    optional += ("opencv-contrib-python", "opencv-contrib-python-headless")
    info += [(package, version) for package in optional if (version := versions(package))]
    findings = [*_opencv_packages(versions), *_runtime_packages(versions)]
    if platform.system() != "Linux" and not versions("pyvirtualcam"):
        findings.append(
            Finding(
                "WARN", "pyvirtualcam is missing, so there is no virtual camera", "pip install pyvirtualcam."
            )
        )
    if sys.maxsize < 2**32:
        findings.append(Finding("FAIL", "This Python is a 32-bit one", "Install a 64-bit Python."))
    if not any(finding.verdict != "OK" for finding in findings):
        findings.append(Finding("OK", f"livepuppet {info[0][1]} on Python {platform.python_version()}"))
    return Chapter("Software", tuple(info), tuple(findings))


def _system() -> str:
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if platform.system() == "Linux":
        try:
            name = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            name = "Linux"
        return f"{name}, kernel {platform.release()}"
    return platform.platform()


def _opencv_packages(versions: Callable[[str], str | None]) -> list[Finding]:
    names = (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    )
    installed = [name for name in names if versions(name)]
    if len(installed) > 1:
        # They all write into the same folder; the last one installed wins.
        return [
            Finding(
                "WARN",
                f"{' and '.join(installed)} are installed over each other",
                f"pip uninstall {' '.join(installed)}, then pip install 'opencv-python<5'.",
            )
        ]
    if installed and "headless" in installed[0]:
        return [
            Finding(
                "WARN",
                f"{installed[0]} cannot open windows",
                f"pip uninstall {installed[0]}, then pip install 'opencv-python<5'.",
            )
        ]
    return []


def _runtime_packages(versions: Callable[[str], str | None]) -> list[Finding]:
    names = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
    installed = [name for name in names if versions(name)]
    if len(installed) > 1:
        return [
            Finding(
                "WARN",
                f"{' and '.join(installed)} are installed over each other",
                f"pip uninstall {' '.join(installed)}, then install the one that you want.",
            )
        ]
    return []


def opencv() -> Chapter:
    """What this OpenCV can do: cameras, windows, and the cascades that find faces."""
    import cv2

    registry = cv2.videoio_registry
    cameras = [registry.getBackendName(number) for number in registry.getCameraBackends()]
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    window = gui[1] if gui else "unknown"
    info = [("version", cv2.__version__), ("cameras by", ", ".join(cameras)), ("windows by", window)]
    findings = []
    if window == "NONE":
        findings.append(
            Finding(
                "WARN",
                "This OpenCV was built without windows",
                "pip install --force-reinstall 'opencv-python<5', or use --output virtual.",
            )
        )
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    cascade = Path(folder) / "haarcascade_frontalface_default.xml"
    has_cascade = hasattr(cv2, "CascadeClassifier") and bool(folder) and cascade.is_file()
    info.append(("face cascades", "there" if has_cascade else "missing"))
    if not has_cascade:
        findings.append(
            Finding(
                "WARN",
                f"OpenCV {cv2.__version__} came without face cascades, so that faces are sought by the model alone",
                "pip install 'opencv-python<5' finds small faces better.",
            )
        )
    wanted = {"Linux": "V4L2", "Windows": "DSHOW", "Darwin": "AVFOUNDATION"}.get(platform.system())
    if wanted and wanted not in cameras:
        findings.append(
            Finding(
                "FAIL",
                f"This OpenCV cannot read cameras here ({wanted} is missing)",
                "pip install --force-reinstall 'opencv-python<5'.",
            )
        )
    if not findings:
        findings.append(Finding("OK", f"OpenCV {cv2.__version__} with windows, cameras and face cascades"))
    return Chapter("OpenCV", tuple(info), tuple(findings))


def recording() -> Chapter:
    """What PyAV can write."""
    import av

    from livepuppet.core.video_writer import ENCODERS

    codecs = sorted(name for name in av.codecs_available if "264" in name)
    usable = [name for name in ENCODERS if name in av.codecs_available]
    info = (
        ("PyAV", av.__version__),
        ("H.264", ", ".join(codecs) or "none"),
        ("used", usable[0] if usable else "none"),
    )
    if usable:
        return Chapter("Recording", info, (Finding("OK", f"Recordings are made by {usable[0]}"),))
    return Chapter(
        "Recording",
        info,
        (
            Finding(
                "WARN",
                "This PyAV has no H.264 encoder, so nothing can be recorded",
                "pip install --force-reinstall av.",
            ),
        ),
    )


# Machine


def machine(root: Path = Path("/")) -> Chapter:
    """Processor, cores, memory, and whether the machine saves power."""
    from livepuppet.realtime.engines import usable_cores

    cores = usable_cores() or os.cpu_count() or 1
    info = [
        ("processor", _processor(root)),
        ("cores", f"{cores} used by the model, {os.cpu_count()} threads in all"),
        ("memory", _memory(root)),
    ]
    findings = _power(root, info)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if hasattr(os, "getloadavg"):
        info.append(("load", f"{busy:.1f} in the last minute"))
    if busy > 0.75 * (os.cpu_count() or 1):
        findings.append(
            Finding(
                "WARN",
                f"Other programs keep the processor busy (load {busy:.1f} on {os.cpu_count()} threads)",
                "Close what you do not need while livepuppet runs.",
            )
        )
    if cores < 2:
        findings.append(
            Finding(
                "WARN",
                "Only one core is to be had",
                "The model, the camera and the call share it: expect few frames.",
            )
        )
    return Chapter("Machine", tuple(info), tuple(findings))


def _processor(root: Path) -> str:
    if found := cpuinfo("model name", root / "proc/cpuinfo"):
        return found
    if platform.system() == "Darwin":
        name = ask_program(["sysctl", "-n", "machdep.cpu.brand_string"])
        if name:
            return name.strip()
    return platform.processor() or platform.machine()


def _memory(root: Path) -> str:
    text = read(root / "proc/meminfo")
    total = re.search(r"^MemTotal:\s*(\d+)", text, re.MULTILINE)
    free = re.search(r"^MemAvailable:\s*(\d+)", text, re.MULTILINE)
    if total:
        free_text = f", {int(free[1]) / 2**20:.1f} free" if free else ""
        return f"{int(total[1]) / 2**20:.1f} GiB{free_text}"
    if platform.system() == "Darwin":
        size = ask_program(["sysctl", "-n", "hw.memsize"])
        if size and size.strip().isdecimal():
            return f"{int(size) / 2**30:.1f} GiB"
    return "unknown"


def _power(root: Path, info: list[tuple[str, str]]) -> list[Finding]:
    """Governors that hold the clock down, and the battery. What drivers of recent processors call powersave is their
    ordinary mode.
    """
    folder = root / "sys/devices/system/cpu/cpu0/cpufreq"
    driver, governor = read(folder / "scaling_driver"), read(folder / "scaling_governor")
    preference = read(folder / "energy_performance_preference")
    profile = read(root / "sys/firmware/acpi/platform_profile")
    if governor:
        info.append(("clock", ", ".join(text for text in (driver, governor, preference) if text)))
    if profile:
        info.append(("power profile", profile))
    own = driver in ("intel_pstate", "amd-pstate-epp")
    if on_battery(root):
        info.append(("power", "battery"))
    slow = preference == "power" if own else governor in ("powersave", "conservative")
    if slow or profile in ("low-power", "quiet"):
        return [
            Finding(
                "WARN",
                "The system saves power, which costs frames per second",
                "Plug in the charger and choose the balanced or performance profile (powerprofilesctl set balanced).",
            )
        ]
    return []


def screen() -> Chapter:
    """Whether a window can be opened."""
    from livepuppet.realtime.app.window import display_problem

    session = os.environ.get("XDG_SESSION_TYPE") or ("" if platform.system() == "Linux" else "desktop")
    problem = display_problem()
    info = (("session", session or "none named"), ("window", problem or "can be opened"))
    if problem:
        finding = Finding(
            "WARN",
            f"No window can be opened ({problem})",
            "Run on a desktop, or choose --output virtual, http or FILE.mp4.",
        )
    else:
        finding = Finding("OK", "A window can be opened")
    return Chapter("Screen", info, (finding,))


# Settings


def settings_file() -> Chapter:
    """Whether the settings can be read. Says nothing of what is in them but what they are called."""
    from livepuppet.core.errors import UserError
    from livepuppet.realtime.app import control, settings

    path = settings.settings_path()
    info = [("file", f"{path}{'' if path.exists() else ' (not there yet)'}")]
    notes: list[str] = []
    try:
        loaded = settings.load(notify=notes.append)
        names = settings.profiles()
        for name in names:
            settings.load(name)
    except UserError as error:
        return Chapter("Settings", tuple(info), (Finding("FAIL", str(error).rstrip(".")),))
    different = settings.changed(settings.Settings(), loaded)
    info.append(("not at their default", ", ".join(different) or "none"))
    info.append(("profiles", str(len(names))))
    info.append(("running session", _running_session(control)))
    findings = [Finding("WARN", note.rstrip(".")) for note in notes]
    return Chapter("Settings", tuple(info), tuple(findings or [Finding("OK", "The settings can be read")]))


def _running_session(control: Any) -> str:
    from livepuppet.core.errors import UserError

    # Asking makes no token where none was made yet: then nothing runs that could be asked.
    if not control.token_path().exists():
        return "none"
    try:
        state = control.ask("state")
    except UserError:
        return "none"
    known = ("mode", "fps", "camera_fps", "delay_ms", "frames", "dropped", "errors", "trouble")
    return ", ".join(f"{name} {_plain(state[name])}" for name in known if name in state)


def _plain(value: Any) -> str:
    return (
        " ".join(f"{name} {number}" for name, number in value.items())
        if isinstance(value, dict)
        else str(value)
    )


# The text


def redacted(text: str, home: str | None = None, user: str | None = None, host: str | None = None) -> str:
    """Without what says who it is: home folders become ~, names of the user and the computer are
    blanked.

    Args:
        home, user, host: those of this machine by default.
    """
    home = str(Path.home()) if home is None else home
    if user is None:
        try:
            user = getpass.getuser()
        except (OSError, KeyError, ImportError):
            user = ""
    host = platform.node() if host is None else host
    if len(home) > 1:
        text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
    text = re.sub(r"(?i)(/home/|/Users/|[A-Z]:\\Users\\)[^/\\\s]+", "~", text)
    for name, instead in ((user, "USER"), (host, "HOST")):
        # Short names are parts of ordinary words, and root is nobody's.
        if len(name) >= 3 and name not in ("root", "user", "localhost"):
            text = re.sub(rf"(?i)(?<![\w]){re.escape(name)}(?![\w])", instead, text)
    # Phones that serve as cameras are called after their owner.
    return re.sub(r"\b\w+['’]s (?=iPhone|iPad|iPod|Mac|Pixel|Galaxy|Camera)", "somebody's ", text)
