"""Webcam augmentation: makes rendered images look as webcams deliver them.

Effects follow the physical order: light and occluders, lens and motion blur, sensor noise, the
camera's tone mapping, compression. Each effect is applied to the rows of a batch that were drawn
for it, so rare ones cost little. All amounts are drawn on the CPU in one table and sent once:
libraries of augmentations (kornia) draw per effect, each of which stalls a GPU.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import in_float32, make_grid
from livepuppet.train.device import grain, send
from livepuppet.train.losses.reconstruction import downsample

#: Numbers per image that `webcam` draws.
COLUMNS = 72

#: Luminance and chrominance quantisation of JPEG at quality 50 (ITU-T T.81, Annex K).
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)

#: RGB to luminance and two chrominances (ITU-R BT.601, full range, without offsets).
LUMA = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


class _RandomTable:
    """A table of random numbers in [0, 1), on the CPU for decisions and on the device for
    computations.

    Args:
        batch: rows.
        rng: a CPU generator.
        device: where the images are.
    """

    def __init__(self, batch: int, rng: torch.Generator, device: torch.device):
        self.here = torch.rand(COLUMNS, batch, generator=rng)
        self.there = send(self.here, device)
        self.next, self.device = 0, device
        self.rows: Tensor | None = None

    def _column(self, count: int) -> slice:
        self.next += count
        return slice(self.next - count, self.next)

    def uniform(self, low: float, high: float, channels: int = 1) -> Tensor:
        """(B, channels, 1, 1), of the rows of the effect at work if there is one."""
        numbers = self.there[self._column(channels)]
        if self.rows is not None:
            numbers = numbers.index_select(1, self.rows)
        return (low + (high - low) * numbers.T)[..., None, None]

    def some(self, probability: float, image: Tensor, effect) -> None:
        """Replace the images that are drawn, in place, by `effect(them, random)`."""
        chosen = (self.here[self._column(1)][0] < probability).nonzero()[:, 0]
        if len(chosen):
            self.rows = send(chosen, self.device)
            image.index_copy_(0, self.rows, effect(image.index_select(0, self.rows), self))
            self.rows = None


def _hand(image: Tensor, random: _RandomTable) -> Tensor:
    """A hand, a microphone or a lock of hair: a soft blob of one colour somewhere."""
    grid = make_grid(image.shape[-2], image.shape[-1], image.device)[None]
    centre, radius = random.uniform(-1.0, 1.0, 2), random.uniform(0.06, 0.3, 2)
    distance = ((grid[..., 0] - centre[:, 0]) / radius[:, 0]).square() + (
        (grid[..., 1] - centre[:, 1]) / radius[:, 1]
    ).square()
    return torch.lerp(
        image, random.uniform(0, 1, 3).expand_as(image), torch.sigmoid((1 - distance[:, None]) * 8)
    )


def _light(image: Tensor, random: _RandomTable) -> Tensor:
    """Light from one side, hard as a window's or soft as a lamp's, each side in a tint of its own."""
    grid = make_grid(image.shape[-2], image.shape[-1], image.device)
    angle = random.uniform(0, 2 * math.pi)
    along = angle.cos() * grid[..., 0] + angle.sin() * grid[..., 1]
    side = torch.sigmoid((along - random.uniform(-0.5, 0.5)) / random.uniform(0.08, 0.7))
    dark = random.uniform(0.25, 0.95) * (1 + random.uniform(-0.1, 0.1, 3))
    bright = random.uniform(0.9, 1.45) * (1 + random.uniform(-0.1, 0.1, 3))
    return image * torch.lerp(dark, bright, side)


def _smear(image: Tensor, random: _RandomTable) -> Tensor:
    """Blur along a line of up to 7 pixels: the head moved while the shutter was open."""
    count = len(image)
    offset = torch.arange(-3.0, 4.0, device=image.device)
    angle, length = random.uniform(0, math.pi), random.uniform(0.5, 3.2)
    x, y = offset[None, None, None], offset[None, None, :, None]
    along = (x * angle.cos() + y * angle.sin()).abs()
    across = (y * angle.cos() - x * angle.sin()).abs()
    kernel = (length + 0.5 - along).clamp(0, 1) * (1 - across).clamp(0, 1)
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    # One group per image; the colours of each go through as a batch does.
    rows = F.pad(image, (3, 3, 3, 3), mode="replicate").transpose(0, 1)
    return F.conv2d(rows, kernel.to(image), groups=count).transpose(0, 1)


def _soft(image: Tensor, random: _RandomTable) -> Tensor:
    """A little out of focus."""
    for dim in (2, 3):
        before = torch.cat([image.narrow(dim, 0, 1), image.narrow(dim, 0, image.shape[dim] - 1)], dim)
        after = torch.cat([image.narrow(dim, 1, image.shape[dim] - 1), image.narrow(dim, -1, 1)], dim)
        image = torch.lerp(image, (before + after) / 2, random.uniform(0, 0.67))
    return image


def _coarse(image: Tensor, random: _RandomTable) -> Tensor:
    """An image of half or a quarter of the resolution, enlarged."""
    side = image.shape[-1]
    small = downsample(image, 2)
    coarser = F.interpolate(downsample(small, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    small = torch.lerp(small, coarser, random.uniform(-0.6, 1).clamp(min=0))
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def _dark(image: Tensor, random: _RandomTable) -> Tensor:
    """Too little light, and the camera's gain turned up: dim, pale, and noisy in blotches."""
    gray = image.mean(1, keepdim=True)
    image = torch.lerp(image, gray.expand_as(image), random.uniform(0, 0.6))
    return image * random.uniform(0.2, 0.75) + random.uniform(0, 0.1)


def _overexposed(image: Tensor, random: _RandomTable) -> Tensor:
    """Too much light: what is bright is white."""
    return (image * random.uniform(1.2, 1.9) + random.uniform(-0.05, 0.1)).clamp(max=1)


def _vignette(image: Tensor, random: _RandomTable) -> Tensor:
    grid = make_grid(image.shape[-2], image.shape[-1], image.device)
    return image * (1 - random.uniform(0.1, 0.4) * grid.square().sum(-1))


def _bands(image: Tensor, random: _RandomTable) -> Tensor:
    """Lamps that flicker, seen by a shutter that rolls."""
    down = make_grid(image.shape[-2], 1, image.device)[..., 1]
    wave = torch.sin(random.uniform(2, 16) * down + random.uniform(0, 2 * math.pi))
    return image * (1 + random.uniform(0.03, 0.15) * wave)


def _few_levels(image: Tensor, random: _RandomTable) -> Tensor:
    levels = random.uniform(10, 40)
    return (image.clamp(0, 1) * levels).round() / levels


@functools.lru_cache(maxsize=8)
def _cosines(side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The orthonormal DCT (side, side), colours (3, 3) and quantisation (3, side, side) in units of
    [0, 1].
    """
    k = torch.arange(side, dtype=torch.float64)
    dct = torch.cos(math.pi / side * (k[None, :] + 0.5) * k[:, None]) * math.sqrt(2 / side)
    dct[0] /= math.sqrt(2)
    table = torch.tensor([LUMINANCE, CHROMINANCE, CHROMINANCE], dtype=torch.float64)
    # Of a smaller block the coefficients are smaller, too, and stand for the same frequencies per
    # pixel.
    table = F.interpolate(table[None], size=(side, side), mode="bilinear", align_corners=True)[0] * side / 8
    colours = torch.tensor(LUMA)
    return send(dct.float(), device), send(colours, device), send((table / 255).float(), device)


def compress(image: Tensor, coarseness: Tensor, side: int = 8) -> Tensor:
    """Round an image's cosine coefficients in blocks, as JPEG and webcams' MJPG do.

    Args:
        image: (B, 3, H, W) RGB in [0, 1]; H and W multiples of `side`.
        coarseness: (B, 1, 1, 1) on JPEG's tables: 1 is quality 50, 5 is quality 10.
        side: of the blocks.
    """
    batch, _, height, width = image.shape
    dct, colours, table = _cosines(side, image.device)
    yuv = torch.matmul(colours, (image - 0.5).flatten(2)).view(batch, 3, height, width // side, side)
    # Along rows, then along columns, each as one product of a long matrix with a small one.
    along = (yuv @ dct.T).view(batch, 3, height // side, side, width // side, side).transpose(3, 5)
    step = (table.transpose(1, 2)[:, None, :, None] * coarseness[..., None, None]).clamp_min(1 / 255)
    coefficients = ((along.contiguous() @ dct.T) / step).round_() * step
    along = (coefficients @ dct).transpose(3, 5).contiguous()
    yuv = (along @ dct).view(batch, 3, height, width)
    red = yuv[:, :1] + 1.402 * yuv[:, 2:]
    green = yuv[:, :1] - 0.344136 * yuv[:, 1:2] - 0.714136 * yuv[:, 2:]
    blue = yuv[:, :1] + 1.772 * yuv[:, 1:2]
    return torch.cat([red, green, blue], 1) + 0.5


@torch.no_grad()
@in_float32
def webcam(image: Tensor, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Images as a webcam would deliver them; they stay in place, so keypoints do.

    Args:
        image: (B, 3, H, W) RGB in [0, 1], on any device; H and W multiples of 8.
        rng: a CPU generator.
        strength: 0 nothing, 1 as much as bad webcams do: scales amounts, and for rare effects how
            often they come.
    """
    if strength <= 0:
        return image
    batch, _, height, width = image.shape
    random, s = _RandomTable(batch, rng, image.device), strength
    block = 4 if torch.rand((), generator=rng) < 0.6 else 8
    row, column = torch.randint(block, (2,), generator=rng).tolist()
    # A copy of one's own, on which everything works in place: memory is what this costs.
    image = image.clone(memory_format=torch.contiguous_format)

    # The scene.
    random.some(0.25 * s, image, _hand)
    random.some(0.40 * s, image, _light)
    # The lens.
    random.some(0.15 * s, image, _smear)
    random.some(0.15 * s, image, _coarse)
    random.some(0.45 * s, image, _soft)
    random.some(0.20 * s, image, _vignette)
    # The sensor.
    dim = (random.there[random.next] < 0.2 * s)[:, None, None, None]
    random.some(0.20 * s, image, _dark)
    random.some(0.10 * s, image, _overexposed)
    random.some(0.08 * s, image, _bands)
    noisy = s * (random.uniform(0, 1).square() + 0.7 * dim)
    noise = grain((batch, 3, height, width), rng, image.device)
    blotches = grain((batch, 3, height // 4, width // 4), rng, image.device)
    blotches *= random.uniform(-0.5, 1).clamp(min=0) * 0.8
    noise += F.interpolate(blotches, size=(height, width), mode="bilinear", align_corners=False)
    # More where it is bright, as light comes in grains.
    image.addcmul_(noise, noisy * (0.02 + 0.055 * image.clamp(0, 1)))
    # The camera's processor: exposure for what is too dark, colours, gamma, contrast.
    image *= (0.16 / image.mean((1, 2, 3), keepdim=True).clamp(min=0.02)).clamp(1, 4)
    image = torch.matmul(_colours(random, s), image.flatten(2)).view_as(image)
    image = image.clamp_(1e-4, 1).pow_(torch.exp(s * random.uniform(-0.45, 0.45)))
    contrast, brightness = 1 + s * random.uniform(-0.35, 0.25), s * random.uniform(-0.12, 0.12)
    image.mul_(contrast).add_(0.5 - 0.5 * contrast + brightness)
    # The wire.
    random.some(0.05 * s, image, _few_levels)

    def compressed(some: Tensor, random: _RandomTable) -> Tensor:
        shifted = some.clamp(0, 1).roll((row, column), (2, 3))
        return compress(shifted, random.uniform(-1.6, 1.6).exp(), block).roll((-row, -column), (2, 3))

    random.some(0.35 * s, image, compressed)
    assert random.next <= COLUMNS
    return image.clamp_(0, 1)


def _colours(random: _RandomTable, s: float) -> Tensor:
    """White balance and saturation as matrices (B, 3, 3)."""
    warm, tint = s * random.uniform(-0.3, 0.3) * random.uniform(0, 1), s * random.uniform(-0.12, 0.12, 3)
    balance = torch.cat([warm.exp(), torch.ones_like(warm), (-warm).exp()], 1) * (1 + tint)
    vivid = (1 + s * random.uniform(-0.4, 0.4)) * (random.uniform(0, 1) >= 0.1 * s)
    eye = torch.eye(3, device=warm.device)
    return (vivid * eye + (1 - vivid) / 3)[:, 0] * balance[..., 0].transpose(1, 2)
