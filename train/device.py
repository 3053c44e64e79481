"""Random numbers and their way to the device that trains, without either waiting for the other.

What decides is drawn on the processor, so that a seed means the same everywhere; grain that fills whole pictures is drawn
where the pictures are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device | str) -> Tensor:
    """A processor's tensor on `device`. From pinned memory a graphics card takes it without anybody waiting."""
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
