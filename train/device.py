"""Random numbers for the training device, without stalls.

Decisions are drawn on the CPU, so that a seed means the same on every device; noise of whole images
is drawn on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device | str) -> Tensor:
    """A processor's tensor on `device`. From pinned memory a GPU takes it without anybody waiting."""
    device = torch.device(device)
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def grain(shape: tuple[int, ...], rng: torch.Generator, device: torch.device | str) -> Tensor:
    """Standard normal noise, float32. Seeded by `rng`, but another one on each kind of device."""
    device = torch.device(device)
    if device.type != "cuda":
        return send(torch.randn(shape, generator=rng), device)
    seed = int(torch.randint(1 << 62, (), generator=rng))
    own = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=own, device=device)
