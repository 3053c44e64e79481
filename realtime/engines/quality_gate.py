"""The quality gate: an engine that does not draw what float32 PyTorch draws is refused.

Runtimes differ in ways that no error tells: TensorRT's parser once sampled with *nearest*, 16 bits
may reach the sampling grid, a driver may be broken. So every bundle carries a few pictures, motions
and what float32 PyTorch drew of them, and an engine has to draw the same the first time that it is
used on a machine.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from livepuppet.core import cache
from livepuppet.core.bundle import check_file
from livepuppet.core.engine import BrokenEngine, Engine, first_line
from livepuppet.core.packages import version_of
from livepuppet.core.processor import cpuinfo
from livepuppet.core.reference import THRESHOLDS, Quality, Reference, compare


def check_engine(engine: Engine, reference: Path, checksum: str) -> Quality:
    """Let the engine through, or raise. What was found once for these versions on this processor is
    not tried again.

    Args:
        reference: the bundle's `reference.npz`.
        checksum: of it.

    Raises:
        BrokenEngine: the engine raises, or does not draw what it should.
        UserError: the reference is damaged.
    """
    quality = remembered(engine, checksum)
    if quality is None:
        check_file(reference, checksum)
        expected = Reference.load(reference)
        with _named(engine, "fails on the model's own pictures"):
            quality = compare(engine, expected)
        remember(engine, checksum, quality)
    if failures := quality.failures(THRESHOLDS[engine.precision]):
        raise BrokenEngine(
            f"The engine {engine.name} ({engine.provider}) does not draw what float32 PyTorch draws: "
            f"{'; '.join(failures)}. Use another --engine or --precision, or update it."
        )
    return quality


def draw_once(engine: Engine) -> None:
    """What stands in for the gate where a model has no reference: the engine draws a black picture,
    of whatever content.

    Raises:
        BrokenEngine: it raises.
    """
    picture = np.zeros((engine.size, engine.size, 3), np.uint8)
    with _named(engine, "fails on a black picture"):
        keypoints = engine.detect(picture)
        engine.render(engine.encode(picture), keypoints, keypoints)


@contextlib.contextmanager
def _named(engine: Engine, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the engine's runtime, whose exceptions share no base class
        raise BrokenEngine(
            f"The engine {engine.name} ({engine.provider}) {what}: {first_line(error)}. Use another --engine or "
            "--precision, or update it."
        ) from error


def remembered(engine: Engine, checksum: str) -> Quality | None:
    """What was found of this engine, for this reference, these graphs, versions and this processor;
    else None.
    """
    try:
        return Quality(**cache.remembered("gate", _inputs(engine, checksum)))
    except (KeyError, TypeError):
        return None


def remember(engine: Engine, checksum: str, quality: Quality) -> None:
    """Have `check_engine` go by this quality from now on. A cache that cannot be written is no
    error.
    """
    cache.remember("gate", _inputs(engine, checksum), asdict(quality))


def _inputs(engine: Engine, checksum: str) -> dict:
    """All that may change what an engine draws."""
    return {
        "engine": [engine.name, engine.device, engine.precision, engine.providers],
        "graphs": getattr(engine, "fingerprint", ""),
        "reference": checksum,
        **machine_info(),
    }


def machine_info() -> dict:
    """Versions of all that computes, the processor and the graphics cards."""
    return {
        "versions": _versions(),
        "machine": [platform.machine(), platform.processor(), _processor(), _cards()],
    }


def _versions() -> dict[str, str]:
    """Of packages that compute."""
    packages = ("livepuppet", "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "openvino", "torch")
    versions = {package: version_of(package) for package in packages}
    return {package: version for package, version in versions.items() if version is not None}


def _processor() -> str:
    # Its name, and what it can do: a virtual machine may hide instructions from one day to the
    # next.
    return f"{cpuinfo('model name')}; {cpuinfo('flags')}"


def _cards() -> list[str]:
    """NVIDIA's driver and cards, as Linux tells them; elsewhere nothing, and the versions of
    packages have to do.
    """
    found = []
    for path in sorted(Path("/proc/driver/nvidia").glob("gpus/*/information")):
        with contextlib.suppress(OSError):
            found += [line for line in path.read_text().splitlines() if line.startswith("Model")]
    with contextlib.suppress(OSError):
        found.append(Path("/proc/driver/nvidia/version").read_text())
    return found
