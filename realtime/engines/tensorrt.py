"""The engine that runs weights with TensorRT, compiled by torch-tensorrt for the card that is there.

Written against torch-tensorrt 2.13.0 and TensorRT 11.0, which could not be run yet: neither compiling nor running has been
seen on a card. Everything before them is tested: the exported programs (`programs`), their types and operators, and
what is kept of them on disk.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from livepuppet.core.cache import cache_folder, key_of
from livepuppet.core.engine import STAGES, Precision
from livepuppet.core.files import sha256, write_atomically
from livepuppet.realtime.engines.pytorch import TorchEngine
from livepuppet.realtime.engines.pytorch import unavailable_reason as torch_unavailable_reason

if TYPE_CHECKING:
    from livepuppet.model.base import Model

logger = logging.getLogger(__name__)

PRECISIONS: tuple[Precision, ...] = ("float32", "float16")

#: Older ones take types by `enabled_precisions`, and may compute in others than the program's.
OLDEST = (2, 13)


def unavailable_reason(precision: Precision = "float16", device: str = "cuda") -> str | None:
    """The sentence that says why TensorRT cannot be used, and how it could; None where it can."""
    if importlib.util.find_spec("torch_tensorrt") is None or importlib.util.find_spec("tensorrt") is None:
        return (
            "The tensorrt engine is not installed: on Linux or Windows (x86-64) with an NVIDIA card, pip install "
            "'livepuppet[tensorrt]'; or use --engine torch."
        )
    version = importlib.metadata.version("torch_tensorrt")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return f"The tensorrt engine needs torch-tensorrt 2.13 or newer, and this is {version}: pip install --upgrade 'livepuppet[tensorrt]'."
    if not device.startswith("cuda"):
        return f"TensorRT runs on NVIDIA cards alone, not on '{device}'; use --device cuda."
    if precision not in PRECISIONS:
        return (
            f"The tensorrt engine does not compute in {precision}; use --precision {', '.join(PRECISIONS)}."
        )
    return torch_unavailable_reason(device, precision)


class TensorRtEngine(TorchEngine):
    """Runs weights with TensorRT. What is not a network (bytes to floats and back, CUDA graphs, copies) is `TorchEngine`'s.

    The first start on a card compiles for minutes; what comes out is kept in the user's cache, and compiled anew when the card,
    the driver, a version or the model is another.

    Args:
        weights: file that `livepuppet train` or `livepuppet import` wrote.
        device: `cuda`, `cuda:1`, ...
        precision: float16 by default. Positions are float32 in either.
        notify: told that compiling will take a while; by default the log, as a warning, which commands show.

    Raises:
        UserError: TensorRT, a card or the precision is missing, or the file is not such weights.
    """

    name = "tensorrt"

    def __init__(
        self,
        weights: str | os.PathLike,
        device: str | None = None,
        threads: int | None = None,
        precision: Precision | None = None,
        *,
        notify: Callable[[str], None] = logger.warning,
    ):
        self._notify = notify
        super().__init__(weights, device=device or "cuda", threads=threads, precision=precision or "float16")

    def _unavailable_reason(self, device: str) -> str | None:
        return unavailable_reason(self.precision, device)

    def _prepare(self, weights: str | os.PathLike | Model) -> None:
        assert isinstance(weights, (str, os.PathLike))
        from livepuppet.model.norms import without_norms
        from livepuppet.realtime.engines.plans import Plan, PlannedModel, build_plan
        from livepuppet.realtime.engines.programs import examples, feature_names

        dtype = None if self.precision == "float32" else getattr(self._torch, self.precision)
        model, checksum, machine = (
            without_norms(self._model),
            sha256(Path(weights)),
            card_description(self._device),
        )
        plans = {}
        for stage in STAGES:
            path = plan_path({**machine, "weights": checksum, "precision": self.precision, "stage": stage})
            inputs = examples(model, stage, dtype)
            content = read_plan(path)
            if content is not None:
                with contextlib.suppress(ValueError):  # what TensorRT does not take is built again
                    plans[stage] = Plan(content, self._device, inputs)
                    continue
            self._notify(
                f"Compiling '{stage}' for {machine['card']} with TensorRT, once for this card and model: "
                "this takes a few minutes."
            )
            content = build_plan(model, stage, dtype, str(cache_folder("tensorrt") / "timing.cache"))
            write_plan(path, content)
            plans[stage] = Plan(content, self._device, inputs)
        self._model = PlannedModel(model.preset, feature_names(model), plans)

    def _active_provider(self, plain: bool, compile: bool) -> str:
        card = self._torch.cuda.get_device_name(self._device)
        return f"TensorRT {importlib.metadata.version('tensorrt')} {self._device} ({card}) {self.precision} CUDA graphs"


def card_description(device) -> dict[str, str]:
    """Everything of the machine that a plan depends on.

    Args:
        device: a `torch.device` of CUDA.
    """
    import torch

    card = torch.cuda.get_device_properties(device)
    return {
        "card": card.name,
        "capability": f"{card.major}.{card.minor}",
        "driver": driver_version(),
        **{
            package: importlib.metadata.version(package)
            for package in ("tensorrt", "torch_tensorrt", "torch", "livepuppet")
        },
    }


def driver_version() -> str:
    """Of the NVIDIA driver, as the system tells it; empty where it does not."""
    with contextlib.suppress(OSError):
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()
    return ""


def plan_path(description: dict[str, str]) -> Path:
    """Where the plan for this card, model and precision is kept: another file as soon as any part is another."""
    return cache_folder("tensorrt") / f"{key_of(description)}.plan"


def read_plan(path: Path) -> bytes | None:
    """The plan, or None where there is none, or none that may be trusted: TensorRT does as a plan says, so it has to be the
    user's own file, which nobody else could write."""
    try:
        with path.open("rb") as file:
            if hasattr(os, "getuid"):
                found = os.fstat(file.fileno())
                if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return None
            return file.read()
    except OSError:
        return None


def write_plan(path: Path, content: bytes) -> None:
    """Keep the plan, for the user alone to write; complete or not at all. A full disk costs the next start its time only."""
    with contextlib.suppress(OSError):
        write_atomically(path, content, mode=0o600)
