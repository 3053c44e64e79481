"""Which packages are installed, and what to install where one is missing or cannot be loaded."""

from __future__ import annotations

import functools
import os
import re
import sys
from contextlib import suppress
from types import TracebackType

#: Package that is imported -> what brings it, and what it needs of the system on Linux and Windows.
_BRINGS = {
    "av": "av",
    "click": "click",
    "cv2": "opencv-python",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "PIL": "pillow",
    "platformdirs": "platformdirs",
    "pyvirtualcam": "pyvirtualcam",
    "safetensors": "safetensors",
    "tomlkit": "tomlkit",
    "torch": "torch",
    "tqdm": "tqdm",
    "yaml": "pyyaml",
}

_RUNTIME = "install the Microsoft Visual C++ Redistributable (aka.ms/vs/17/release/vc_redist.x64.exe)"


def failed_package(error: ImportError) -> str | None:
    """Which package an import failed in, by the name that is imported; None where it is none that
    livepuppet needs.
    """
    missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing and missing != "livepuppet":
        return missing
    innermost, last = None, ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0]
        # Python's own importing stands between any two.
        last = last if module == "importlib" else module
        # OpenCV fails where NumPy does.
        innermost = module if module in _BRINGS else innermost
        trace = trace.tb_next
    named = (error.name or "").split(".")[0]
    if named in _BRINGS:
        return named
    # click calls what livepuppet then imports in vain.
    return None if last == "livepuppet" else innermost


def remedy_for(package: str, reason: str = "") -> str:
    """What to install, as a part of a sentence.

    Args:
        package: of `failed_package`.
        reason: the import's own message; empty where it is missing.
    """
    brings = _BRINGS.get(package, package)
    brings = "'opencv-python<5'" if package == "cv2" else brings
    again = f"pip install --force-reinstall {brings}" if reason else f"pip install {brings}"
    if package == "cv2" and any(
        library in reason for library in ("libGL", "libgthread", "libglib", "libxcb")
    ):
        return (
            "install the system's libraries (Debian and Ubuntu: sudo apt install libgl1 libglib2.0-0), or pip uninstall "
            "opencv-python, then pip install 'opencv-python-headless<5' for a machine without a screen"
        )
    if sys.platform == "win32" or "DLL" in reason:
        return f"{_RUNTIME}, then {again}"
    return again


def import_sentence(error: ImportError) -> str | None:
    """The sentence that says which package cannot be loaded, why, and what to install; None where
    the error is of livepuppet itself.
    """
    package = failed_package(error)
    if package is None:
        return None
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"The package '{package}' is missing: {remedy_for(package)}."
    reason = reason_of(error)
    return f"The package '{package}' is installed but cannot be loaded ({reason}): {remedy_for(package, reason)}."


def reason_of(error: BaseException) -> str:
    """What the system's loader said, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "it does not say why").rstrip(".")[:200]


def version_of(package: str) -> str | None:
    """The version of an installed distribution; None without one.

    `importlib.metadata` says the same, but to import it takes nearly as long as to import OpenCV.
    """
    return _installed().get(_normal(package))


@functools.cache
def _installed() -> dict[str, str]:
    """Versions of all distributions, by the names of the folders that describe them."""
    found: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for name in os.listdir(folder or "."):
                described = re.fullmatch(r"(.+?)-([^-]+)(-py[0-9.]+)?\.(dist|egg)-info", name)
                if described:
                    found.setdefault(_normal(described[1]), described[2])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
