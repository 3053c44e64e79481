"""Device and mixed-precision selection."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import torch

from livepuppet.train.loop.errors import TrainingError

#: What `--precision` takes.
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

_TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA's GPU if there is one), `cpu`, `cuda` or `mps` (Apple's GPU).

    Raises:
        TrainingError: PyTorch finds no such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("PyTorch finds no GPU here: give --device cpu, or install PyTorch for your GPU.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise TrainingError("PyTorch finds no Apple GPU here: give --device cpu.")
    return torch.device(name)


@dataclass
class Precision:
    """How losses are computed. Convolutions run in 16 bits; grids, keypoints and weights stay in
    32.

    Attributes:
        name: "fp32", "bf16" or "fp16".
        device: of the computations.
        scaler: scales the loss so that small gradients survive fp16; does nothing otherwise.
    """

    name: str
    device: torch.device
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self):
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")

    def autocast(self):
        """The context in which losses are computed."""
        kind = _TYPES[self.name]
        if kind is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, kind)

    def __str__(self) -> str:
        return f"{_device_name(self.device)}, {self.name}"


def choose_precision(name: str, device: torch.device) -> Precision:
    """`auto`: bf16 on GPUs that have it, else fp32."""
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        name = "bf16" if fast else "fp32"
    return Precision(name, device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU {torch.cuda.get_device_name(device)}"
    return f"CPU with {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"
