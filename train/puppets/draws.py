"""Seeded draws in batches, which identities and motions are made of: numbers, colours, textures."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    """A CPU generator: draws are the same on every device."""
    return torch.Generator().manual_seed(seed)


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """(B,) channels in [0, 1] to RGB (B, 3) in [0, 1]."""
    offsets = torch.tensor([5.0, 3.0, 1.0])
    k = (offsets + hue[:, None] * 6.0) % 6.0
    ramp = torch.minimum(torch.minimum(k, 4.0 - k), torch.ones_like(k)).clamp(min=0.0)
    return value[:, None] * (1.0 - saturation[:, None] * ramp)


class Draw:
    """Named random draws for a batch, from one generator."""

    def __init__(self, batch: int, rng: torch.Generator):
        self.batch, self.rng = batch, rng

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(self.batch, *shape, generator=self.rng)

    def normal(self, mean: float, deviation: float, low: float = -math.inf, high: float = math.inf) -> Tensor:
        return (mean + deviation * torch.randn(self.batch, generator=self.rng)).clamp(low, high)

    def chance(self, probability: float | Tensor) -> Tensor:
        return (torch.rand(self.batch, generator=self.rng) < probability).float()

    def colour(self, saturation: tuple[float, float], value: tuple[float, float]) -> Tensor:
        return hsv_to_rgb(self.uniform(0, 1), self.uniform(*saturation), self.uniform(*value))

    def texture(self, size: int, octaves: int, channels: int = 3) -> Tensor:
        """Smooth noise (B, channels, size, size) of about unit deviation."""
        total = torch.zeros(self.batch, channels, size, size)
        for octave in range(octaves):
            cells = max(2, size >> (octaves - 1 - octave))
            noise = torch.randn(self.batch, channels, cells, cells, generator=self.rng)
            total += torch.nn.functional.interpolate(
                noise, size=(size, size), mode="bicubic", align_corners=True
            ) * (0.75**octave)
        return total / total.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)


@functools.cache
def _spread(cells: int, size: int) -> Tensor:
    """The matrix (size, cells) of bicubic interpolation from end to end."""
    return torch.nn.functional.interpolate(
        torch.eye(cells)[None, None], size=(size, cells), mode="bicubic", align_corners=True
    )[0, 0]


def smooth(noise: Tensor, size: int) -> Tensor:
    """Bicubic interpolation of (B, C, h, w) to (B, C, size, size), as two products: many times
    faster than the usual.
    """
    return _spread(noise.shape[-2], size) @ noise @ _spread(noise.shape[-1], size).T


def grain(d: Draw, size: int, octaves: int, channels: int = 1) -> Tensor:
    """Smooth noise (B, channels, size, size) of unit deviation as `Draw.texture`'s, made faster;
    fine noise is grey.
    """
    total = torch.zeros(d.batch, channels, size, size)
    for octave in range(octaves):
        cells = max(2, size >> (octaves - 1 - octave))
        own = channels if octave < octaves - 2 else 1
        noise = torch.randn(d.batch, own, cells, cells, generator=d.rng)
        total += smooth(noise, size) * (0.75**octave)
    return total / total.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)


def pattern(d: Draw, kind: Tensor, size: int) -> Tensor:
    """What may be painted on a skin: textures (B, 3, size, size) of zero mean and about unit
    deviation.

    Args:
        d: the draws.
        kind: (B,) int64: 0 mottled as in photographs, 1 brush strokes or fur, 2 hatching, 3 patches
            of paint, 4 stripes, 5 spots, 6 plates with seams; for evaluation 7 rings, 8 chequers, 9
            waves.
        size: side.
    """
    total = torch.zeros(d.batch, 3, size, size)
    side = torch.linspace(-1, 1, size)
    y, x = side[:, None].expand(size, size), side[None].expand(size, size)
    for which in range(10):
        rows = (kind == which).nonzero()[:, 0]
        if len(rows):
            total[rows] = _pattern(Draw(len(rows), d.rng), which, size, x, y)
    total = total - total.mean(dim=(1, 2, 3), keepdim=True)
    return total / total.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)


def _pattern(d: Draw, which: int, size: int, x: Tensor, y: Tensor) -> Tensor:
    def vary(low: float, high: float) -> Tensor:
        return d.uniform(low, high)[:, None, None, None]

    def stretch(rows: int, columns: int, channels: int = 1) -> Tensor:
        return smooth(torch.randn(d.batch, channels, rows, columns, generator=d.rng), size)

    if which == 0:
        noise = grain(d, size, 6, 3)
        return torch.lerp(noise, noise.mean(1, keepdim=True) * 1.6, vary(0.4, 1.0))
    if which == 1:
        strokes = stretch(size // 2, size // 12, 3) + 0.6 * stretch(size // 5, size // 20, 3)
        return torch.lerp(strokes, strokes.mean(1, keepdim=True) * 1.6, vary(0.3, 1.0))
    colour = d.colour((0.0, 0.8), (0.5, 1.0))[:, :, None, None]
    if which == 2:
        lines = torch.sin(2 * math.pi * vary(8, 22) * (x + 0.03 * stretch(6, 6)))
        return colour * lines.clamp(-0.3, 1) * (0.3 + stretch(5, 5)).clamp(0, 1)
    if which == 3:
        return torch.tanh(6 * grain(d, size, 5, 3)) * torch.rand(d.batch, 3, 1, 1, generator=d.rng)
    if which == 4:
        bands = torch.sin(2 * math.pi * vary(1.5, 6) * (x + 0.10 * stretch(5, 5)))
        return colour * torch.tanh(4 * (bands - vary(-0.5, 0.5)))
    if which == 5:
        return -colour * (stretch(size // 3, size // 3) - vary(0.7, 1.4)).clamp(min=0)
    if which == 6:
        count = 4 + int(torch.randint(4, (1,), generator=d.rng))
        plates = torch.nn.functional.interpolate(
            torch.randn(d.batch, 1, count, count, generator=d.rng), size=(size, size), mode="nearest"
        )
        edge = torch.maximum((x * count / 2 * math.pi).cos().abs(), (y * count / 2 * math.pi).cos().abs())
        return colour * (0.4 * plates - 2.5 * (edge > 0.985))
    if which == 7:
        centre = vary(-0.5, 0.5)
        radius = ((x - centre).square() + (y - vary(-0.5, 0.5)).square()).sqrt()
        return colour * torch.tanh(3 * torch.sin(2 * math.pi * vary(3, 9) * radius))
    if which == 8:
        rate = vary(6, 20)
        return colour * torch.tanh(8 * (rate * x).sin() * (rate * y).sin())
    waves = (vary(6, 18) * (x + 0.1 * (vary(5, 12) * y).sin())).sin()
    return colour * waves + torch.rand(d.batch, 3, 1, 1, generator=d.rng) * (vary(5, 14) * y).cos()
