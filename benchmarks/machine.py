"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys

from livepuppet.core.processor import processor_flags, processor_name

#: Packages whose versions change speed.
PACKAGES = (
    "livepuppet",
    "numpy",
    "opencv-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "torch-tensorrt",
)

#: What a processor may have that makes networks fast, by the names in /proc/cpuinfo.
FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
    "bf16",
)


def describe() -> dict:
    """Processor with what of `FLAGS` it has, cores that this process may use, graphics cards,
    system and versions.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "-"
    flags = processor_flags()
    return {
        "processor": processor_name(),
        "cores": cores,
        "flags": [flag for flag in FLAGS if flag in flags],
        "gpus": graphics_cards(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
        **versions,
    }


def graphics_cards() -> list[str]:
    """NVIDIA's, each with its driver's version, as its own tool tells; an empty list where there is
    none.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    question = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    cards = [line.split(",") for line in answer.splitlines() if "," in line]
    return [f"{name.strip()} (driver {version.strip()})" for name, version in cards]


def sentence(machine: dict) -> str:
    """The machine in one line, for the top of a table: what `describe` found."""
    flags = f" ({', '.join(machine['flags'])})" if machine.get("flags") else ""
    cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
    parts = [f"{machine['processor']}{flags}, {cores}", *machine.get("gpus", ())]
    parts += [f"{name} {machine[name]}" for name in PACKAGES[3:] if machine.get(name, "-") != "-"]
    return ", ".join(parts)
