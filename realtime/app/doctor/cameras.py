"""The doctor's look at cameras and virtual cameras, system by system."""

from __future__ import annotations

import os
import platform
import plistlib
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from livepuppet.realtime.app.commands.devices import mode_lines
from livepuppet.realtime.app.doctor.checks import Ask, Chapter, Finding, ask_program, read
from livepuppet.realtime.inputs.cameras import CameraInfo, list_cameras
from livepuppet.realtime.outputs.virtual_camera import VIRTUAL_CAMERA_HELP

_JOIN_VIDEO = "sudo usermod -aG video $USER, then log out and in again."

#: Programs that keep cameras open without using them.
_HARMLESS = ("pipewire", "wireplumber", "pulseaudio", "livepuppet")

#: Below this many frames per second at the usual size, a camera is slower than the model.
_SLOW_CAMERA = 20


def cameras(root: Path = Path("/"), found: Sequence[CameraInfo] | None = None) -> Chapter:
    """Cameras with their modes, and why one may not deliver.

    Args:
        root: of the file system with /proc.
        found: by `list_cameras` where None.
    """
    found = list_cameras() if found is None else found
    info: list[tuple[str, str]] = []
    findings: list[Finding] = []
    for camera in found:
        if _is_virtual(camera, root):
            continue
        info.append((str(camera.number), f"{camera.name}{f' at {camera.bus}' if camera.bus else ''}"))
        info += [("", line) for line in mode_lines(camera)]
        findings.append(_camera_finding(camera, holders(camera.path, root)))
    if not findings:
        info.append(("none", "no real camera was found"))
        findings.append(
            Finding(
                "WARN",
                "There is no camera",
                "Plug one in, close programs that use it, and allow camera access in the system's privacy settings; a "
                "video drives as well (--driving FILE).",
            )
        )
    return Chapter("Cameras", tuple(info), tuple(findings))


def _is_virtual(camera: CameraInfo, root: Path) -> bool:
    """Whether a program feeds it. Of a device that may not be opened only the system's files tell."""
    folder = root / "sys/devices/virtual/video4linux" / Path(camera.path).name
    return camera.virtual or bool(camera.path and camera.problem and folder.is_dir())


def _camera_finding(camera: CameraInfo, programs: list[str]) -> Finding:
    name = f"Camera {camera.number} ({camera.name})"
    if camera.problem:
        denied = "ermission" in camera.problem or "ermitted" in camera.problem
        remedy = (
            _JOIN_VIDEO if denied and platform.system() == "Linux" else "Close other programs that use it."
        )
        return Finding("FAIL", f"{name} cannot be opened ({camera.problem})", remedy)
    if programs:
        return Finding(
            "WARN",
            f"{name} is open in {' and '.join(programs)}",
            "Close that program if no picture comes: a camera serves one at a time.",
        )
    if not camera.capture:
        return Finding("WARN", f"{name} cannot be read now", "Unplug it and plug it in again.")
    rates = [
        max(mode.rates) for mode in camera.modes if mode.rates and (mode.width, mode.height) == (1280, 720)
    ]
    if rates and max(rates) < _SLOW_CAMERA:
        return Finding(
            "WARN",
            f"{name} gives only {max(rates):g} frames per second at 1280x720",
            "Use --camera-size 640x480, or another USB port without a hub.",
        )
    return Finding("OK", f"{name} can be opened")


def holders(device: str, root: Path = Path("/")) -> list[str]:
    """Names of the programs that have the device file open, as far as this user may see. Linux
    only.
    """
    if not device:
        return []
    names = set()
    for process in (root / "proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):
            if any(os.readlink(link) == device for link in (process / "fd").iterdir()):
                name = read(process / "comm")
                if name and not name.startswith(_HARMLESS):
                    names.add(name)
    return sorted(names)


def virtual_camera(
    root: Path = Path("/"), found: Sequence[CameraInfo] | None = None, ask: Ask = ask_program
) -> Chapter:
    """The driver through which other programs get the picture, on this system."""
    system = platform.system()
    if system == "Linux":
        return v4l2loopback(root, list_cameras() if found is None else found, ask)
    if system == "Windows":
        return windows_drivers(_registry_value)
    if system == "Darwin":
        return mac_drivers(root, ask)
    return Chapter("Virtual camera", (("system", system),))


# Linux


def v4l2loopback(root: Path, found: Sequence[CameraInfo], ask: Ask = ask_program) -> Chapter:
    """The kernel module: there, loaded, with which options; and its devices."""
    module = root / "sys/module/v4l2loopback"
    secure = secure_boot(root, ask)
    info = [("Secure Boot", {True: "on", False: "off", None: "unknown or not there"}[secure])]
    if not module.is_dir():
        info.insert(0, ("v4l2loopback", "not loaded"))
        # Adds what it learns of the module to the info.
        findings = _not_loaded(root, ask, secure, info)
        return Chapter("Virtual camera", tuple(info), tuple(findings))
    # Not every build tells its version while it is loaded.
    version = read(module / "version") or _module_fields(ask(["modinfo", "v4l2loopback"])).get(
        "version", "unknown"
    )
    info.insert(0, ("v4l2loopback", f"loaded, version {version}"))
    info += [
        (name, value)
        for name in ("exclusive_caps", "max_buffers", "max_openers", "devices", "card_label", "video_nr")
        if (value := _parameter(module, name))
    ]
    findings = []
    for camera in found:
        if _is_virtual(camera, root):
            info.append((camera.path, _device_info(root, camera)))
            findings.append(_device_finding(camera, holders(camera.path, root)))
    if not findings:
        findings.append(
            Finding(
                "WARN",
                "v4l2loopback is loaded, but has no device",
                "sudo modprobe -r v4l2loopback, then sudo modprobe v4l2loopback exclusive_caps=1 card_label=livepuppet.",
            )
        )
    return Chapter("Virtual camera", tuple(info), tuple(findings))


def _module_fields(about: str | None) -> dict[str, str]:
    """What modinfo printed, by name."""
    return dict(re.findall(r"^(\w+):\s+(.*)$", about or "", re.MULTILINE))


def _parameter(module: Path, name: str) -> str:
    """An option of the module; what was not given is left out of lists such as `Y,Y,N,N,N,N,N,N`."""
    text = read(module / "parameters" / name)
    return re.sub(r"(,(\(null\)|-1))+$", "", text) if text not in ("(null)", "-1") else ""


def _device_info(root: Path, camera: CameraInfo) -> str:
    folder = root / "sys/devices/virtual/video4linux" / Path(camera.path).name
    parts = [camera.name]
    buffers, form, state = read(folder / "buffers"), read(folder / "format"), read(folder / "state")
    parts += [f"{buffers} buffers"] if buffers else []
    parts += [f"format {form}"] if form else []
    parts += [state] if state else []
    return ", ".join(parts)


def _device_finding(camera: CameraInfo, programs: list[str]) -> Finding:
    name = f"{camera.path} ({camera.name})"
    if camera.problem:
        return Finding("FAIL", f"{name} cannot be opened ({camera.problem})", _JOIN_VIDEO)
    if camera.capture and camera.output:
        return Finding(
            "WARN",
            f"{name} has exclusive_caps=0: Chrome, Zoom and others do not list it",
            "sudo modprobe -r v4l2loopback, then sudo modprobe v4l2loopback exclusive_caps=1 card_label=livepuppet.",
        )
    if camera.capture:
        by = f" by {' or '.join(programs)}" if programs else " by another program"
        return Finding(
            "WARN",
            f"{name} is fed{by} now",
            "Stop that program if livepuppet is to feed it, or use another device.",
        )
    return Finding("OK", f"{name} is free: --output virtual:{camera.path}")


def _not_loaded(root: Path, ask: Ask, secure: bool | None, info: list[tuple[str, str]]) -> list[Finding]:
    about = ask(["modinfo", "v4l2loopback"])
    if about is None:
        sources = [*(root / "usr/src").glob("v4l2loopback-*"), *(root / "var/lib/dkms").glob("v4l2loopback")]
        if sources:
            return [
                Finding(
                    "WARN",
                    f"v4l2loopback is installed, but not built for this kernel ({platform.release()})",
                    "Install the kernel's headers (Debian, Ubuntu: sudo apt install linux-headers-$(uname -r)), then sudo "
                    "dkms autoinstall.",
                )
            ]
        help = VIRTUAL_CAMERA_HELP["Linux"]
        return [Finding("WARN", "There is no virtual camera driver", f"{help[0].upper()}{help[1:]}.")]
    fields = _module_fields(about)
    info.append(
        ("module", f"version {fields.get('version', 'unknown')}, signed by {fields.get('signer', 'nobody')}")
    )
    if secure and "signer" not in fields:
        return [
            Finding(
                "FAIL",
                "Secure Boot is on and v4l2loopback is not signed, so that the kernel refuses it",
                "Enrol the key that DKMS signs with: sudo mokutil --import /var/lib/dkms/mok.pub, restart, choose 'Enroll "
                "MOK', then sudo dkms install --force v4l2loopback/VERSION; or turn Secure Boot off.",
            )
        ]
    remedy = "sudo modprobe v4l2loopback exclusive_caps=1 card_label=livepuppet."
    if secure:
        remedy += " If that says 'Key was rejected', enrol the key: sudo mokutil --import /var/lib/dkms/mok.pub, restart."
    return [Finding("WARN", "v4l2loopback is installed, but not loaded", remedy)]


def secure_boot(root: Path = Path("/"), ask: Ask = ask_program) -> bool | None:
    """Whether Secure Boot is on; None where nobody says."""
    for variable in (root / "sys/firmware/efi/efivars").glob("SecureBoot-*"):
        with suppress(OSError):
            # Four bytes of attributes, then the value (UEFI, 3.3).
            data = variable.read_bytes()
            if len(data) >= 5:
                return data[4] == 1
    state = ask(["mokutil", "--sb-state"]) or ""
    if "SecureBoot enabled" in state:
        return True
    return False if "SecureBoot disabled" in state else None


# Windows

_OBS_FILTER = r"CLSID\{A3FCE0F5-3493-419F-958A-ABA1250EC20B}"
_UNITY_FILTER = r"CLSID\{5C2CD55C-92AD-4999-8666-912BD3E70010}"
_CONSENT = r"Software\Microsoft\Windows\CurrentVersion\CapabilityAccessManager\ConsentStore\webcam"

#: Hive, path, name of the value -> its text, an empty one for a key without, or None where there is
#: no such key.
Registry = Callable[[str, str, str], str | None]


def _registry_value(hive: str, path: str, name: str) -> str | None:
    import winreg

    if sys.platform != "win32":  # type checkers know `winreg` on Windows alone
        return None
    try:
        with winreg.OpenKey(getattr(winreg, hive), path) as key:
            try:
                return str(winreg.QueryValueEx(key, name)[0])
            except OSError:
                return ""
    except OSError:
        return None


def windows_drivers(value: Registry) -> Chapter:
    """OBS's or Unity Capture's filter, and whether Windows lets programs use the camera."""
    obs = value("HKEY_CLASSES_ROOT", _OBS_FILTER, "") is not None
    unity = value("HKEY_CLASSES_ROOT", _UNITY_FILTER, "") is not None
    info = [
        ("OBS virtual camera", "registered" if obs else "missing"),
        ("Unity Capture", "registered" if unity else "missing"),
    ]
    findings = []
    if obs or unity:
        findings.append(
            Finding(
                "OK", f"{'The OBS virtual camera' if obs else 'Unity Capture'} is installed: --output virtual"
            )
        )
    else:
        help = VIRTUAL_CAMERA_HELP["Windows"]
        findings.append(Finding("WARN", "There is no virtual camera driver", f"{help[0].upper()}{help[1:]}."))
    for path, whom in ((_CONSENT, "programs"), (rf"{_CONSENT}\NonPackaged", "desktop programs")):
        consent = value("HKEY_CURRENT_USER", path, "Value")
        info.append((f"camera for {whom}", consent or "not said"))
        if consent == "Deny":
            findings.append(
                Finding(
                    "FAIL",
                    f"Windows does not let {whom} use the camera",
                    "Allow it in Settings, Privacy & security, Camera.",
                )
            )
            break
    return Chapter("Virtual camera", tuple(info), tuple(findings))


# macOS


def mac_drivers(root: Path = Path("/"), ask: Ask = ask_program) -> Chapter:
    """OBS, and whether its camera extension was started and allowed once."""
    app = root / "Applications/OBS.app/Contents/Info.plist"
    if not app.is_file():
        help = VIRTUAL_CAMERA_HELP["Darwin"]
        return Chapter(
            "Virtual camera",
            (("OBS", "not in Applications"),),
            (Finding("WARN", "OBS Studio is not installed", f"{help[0].upper()}{help[1:]}."),),
        )
    with app.open("rb") as stream:
        version = str(plistlib.load(stream).get("CFBundleShortVersionString", "unknown"))
    listed = ask(["systemextensionsctl", "list"])
    lines = [line for line in (listed or "").splitlines() if "com.obsproject" in line]
    state = next(
        (found[1] for line in lines if (found := re.search(r"\[([^\]]+)\]\s*$", line))), "not installed"
    )
    if listed is None:
        state = "unknown"
    info = (("OBS", version), ("camera extension", state))
    major = version.split(".")[0]
    if major.isdecimal() and int(major) < 30:
        finding = Finding("WARN", f"OBS {version} is too old for this", "Install OBS Studio 30 or newer.")
    elif state == "activated enabled":
        finding = Finding("OK", f"The virtual camera of OBS {version} is allowed: --output virtual")
    elif listed is None:
        finding = Finding("WARN", "Whether the virtual camera of OBS is allowed could not be found out")
    else:
        finding = Finding(
            "WARN",
            f"The virtual camera of OBS was not started and allowed yet ({state})",
            "Start OBS, press 'Start Virtual Camera', allow its extension in System Settings, then stop it there.",
        )
    return Chapter("Virtual camera", info, (finding,))
