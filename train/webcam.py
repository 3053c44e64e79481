"""What webcams do to pictures, for training: a real frame should be just one more puppet.

In the order in which it happens: light falls on the scene and something comes before it, the lens and the motion blur it,
the sensor adds noise, the camera's processor sets the tone, and the wire compresses. Each effect takes the rows of a batch
that were drawn for it, so what is rare costs little. All amounts are drawn on the processor in one table and sent once.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import in_float32, make_grid
from livepuppet.train.device import grain, send
from livepuppet.train.losses import shrink

#: Numbers per picture that `webcam` draws.
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


class _Dice:
    """A table of random numbers in [0, 1): on the processor to decide by, on the device to compute with.

    Args:
        batch: rows.
        rng: a CPU generator.
        device: where the pictures are.
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

    def some(self, probability: float, picture: Tensor, effect) -> None:
        """Replace the pictures that are drawn, in place, by `effect(them, dice)`."""
        chosen = (self.here[self._column(1)][0] < probability).nonzero()[:, 0]
        if len(chosen):
            self.rows = send(chosen, self.device)
            picture.index_copy_(0, self.rows, effect(picture.index_select(0, self.rows), self))
            self.rows = None


def _hand(picture: Tensor, dice: _Dice) -> Tensor:
    """A hand, a microphone or a lock of hair: a soft blob of one colour somewhere."""
    grid = make_grid(*picture.shape[-2:], picture.device)[None]
    centre, radius = dice.uniform(-1.0, 1.0, 2), dice.uniform(0.06, 0.3, 2)
    distance = ((grid[..., 0] - centre[:, 0]) / radius[:, 0]).square() + (
        (grid[..., 1] - centre[:, 1]) / radius[:, 1]
    ).square()
    return torch.lerp(
        picture, dice.uniform(0, 1, 3).expand_as(picture), torch.sigmoid((1 - distance[:, None]) * 8)
    )


def _light(picture: Tensor, dice: _Dice) -> Tensor:
    """Light from one side, hard as a window's or soft as a lamp's, each side in a tint of its own."""
    grid = make_grid(*picture.shape[-2:], picture.device)
    angle = dice.uniform(0, 2 * math.pi)
    along = angle.cos() * grid[..., 0] + angle.sin() * grid[..., 1]
    side = torch.sigmoid((along - dice.uniform(-0.5, 0.5)) / dice.uniform(0.08, 0.7))
    dark = dice.uniform(0.25, 0.95) * (1 + dice.uniform(-0.1, 0.1, 3))
    bright = dice.uniform(0.9, 1.45) * (1 + dice.uniform(-0.1, 0.1, 3))
    return picture * torch.lerp(dark, bright, side)


def _smear(picture: Tensor, dice: _Dice) -> Tensor:
    """Blur along a line of up to 7 pixels: the head moved while the shutter was open."""
    count = len(picture)
    offset = torch.arange(-3.0, 4.0, device=picture.device)
    angle, length = dice.uniform(0, math.pi), dice.uniform(0.5, 3.2)
    x, y = offset[None, None, None], offset[None, None, :, None]
    along = (x * angle.cos() + y * angle.sin()).abs()
    across = (y * angle.cos() - x * angle.sin()).abs()
    kernel = (length + 0.5 - along).clamp(0, 1) * (1 - across).clamp(0, 1)
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    # One group per picture; the colours of each go through as a batch does.
    rows = F.pad(picture, (3, 3, 3, 3), mode="replicate").transpose(0, 1)
    return F.conv2d(rows, kernel.to(picture), groups=count).transpose(0, 1)


def _soft(picture: Tensor, dice: _Dice) -> Tensor:
    """A little out of focus."""
    for dim in (2, 3):
        before = torch.cat([picture.narrow(dim, 0, 1), picture.narrow(dim, 0, picture.shape[dim] - 1)], dim)
        after = torch.cat([picture.narrow(dim, 1, picture.shape[dim] - 1), picture.narrow(dim, -1, 1)], dim)
        picture = torch.lerp(picture, (before + after) / 2, dice.uniform(0, 0.67))
    return picture


def _coarse(picture: Tensor, dice: _Dice) -> Tensor:
    """A picture of half or a quarter of the resolution, enlarged."""
    side = picture.shape[-1]
    small = shrink(picture, 2)
    coarser = F.interpolate(shrink(small, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    small = torch.lerp(small, coarser, dice.uniform(-0.6, 1).clamp(min=0))
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def _dark(picture: Tensor, dice: _Dice) -> Tensor:
    """Too little light, and the camera's gain turned up: dim, pale, and noisy in blotches."""
    gray = picture.mean(1, keepdim=True)
    picture = torch.lerp(picture, gray.expand_as(picture), dice.uniform(0, 0.6))
    return picture * dice.uniform(0.2, 0.75) + dice.uniform(0, 0.1)


def _overexposed(picture: Tensor, dice: _Dice) -> Tensor:
    """Too much light: what is bright is white."""
    return (picture * dice.uniform(1.2, 1.9) + dice.uniform(-0.05, 0.1)).clamp(max=1)


def _vignette(picture: Tensor, dice: _Dice) -> Tensor:
    grid = make_grid(*picture.shape[-2:], picture.device)
    return picture * (1 - dice.uniform(0.1, 0.4) * grid.square().sum(-1))


def _bands(picture: Tensor, dice: _Dice) -> Tensor:
    """Lamps that flicker, seen by a shutter that rolls."""
    down = make_grid(picture.shape[-2], 1, picture.device)[..., 1]
    wave = torch.sin(dice.uniform(2, 16) * down + dice.uniform(0, 2 * math.pi))
    return picture * (1 + dice.uniform(0.03, 0.15) * wave)


def _few_levels(picture: Tensor, dice: _Dice) -> Tensor:
    levels = dice.uniform(10, 40)
    return (picture.clamp(0, 1) * levels).round() / levels


@functools.lru_cache(maxsize=8)
def _cosines(side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The orthonormal DCT (side, side), colours (3, 3) and quantisation (3, side, side) in units of [0, 1]."""
    k = torch.arange(side, dtype=torch.float64)
    dct = torch.cos(math.pi / side * (k[None, :] + 0.5) * k[:, None]) * math.sqrt(2 / side)
    dct[0] /= math.sqrt(2)
    table = torch.tensor([LUMINANCE, CHROMINANCE, CHROMINANCE], dtype=torch.float64)
    # Of a smaller block the coefficients are smaller, too, and stand for the same frequencies per pixel.
    table = F.interpolate(table[None], size=(side, side), mode="bilinear", align_corners=True)[0] * side / 8
    colours = torch.tensor(LUMA)
    return send(dct.float(), device), send(colours, device), send((table / 255).float(), device)


def compress(picture: Tensor, coarseness: Tensor, side: int = 8) -> Tensor:
    """Round a picture's cosine coefficients in blocks, as JPEG and webcams' MJPG do.

    Args:
        picture: (B, 3, H, W) RGB in [0, 1]; H and W multiples of `side`.
        coarseness: (B, 1, 1, 1) on JPEG's tables: 1 is quality 50, 5 is quality 10.
        side: of the blocks.
    """
    batch, _, height, width = picture.shape
    dct, colours, table = _cosines(side, picture.device)
    yuv = torch.matmul(colours, (picture - 0.5).flatten(2)).view(batch, 3, height, width // side, side)
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
def webcam(picture: Tensor, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Pictures as a webcam would deliver them; they stay in place, so keypoints do.

    Args:
        picture: (B, 3, H, W) RGB in [0, 1], on any device; H and W multiples of 8.
        rng: a CPU generator.
        strength: 0 nothing, 1 as much as bad webcams do: scales amounts, and for rare effects how often they come.
    """
    if strength <= 0:
        return picture
    batch, _, height, width = picture.shape
    dice, s = _Dice(batch, rng, picture.device), strength
    block = 4 if torch.rand((), generator=rng) < 0.6 else 8
    row, column = torch.randint(block, (2,), generator=rng).tolist()
    # A copy of one's own, on which everything works in place: memory is what this costs.
    picture = picture.clone(memory_format=torch.contiguous_format)

    # The scene.
    dice.some(0.25 * s, picture, _hand)
    dice.some(0.40 * s, picture, _light)
    # The lens.
    dice.some(0.15 * s, picture, _smear)
    dice.some(0.15 * s, picture, _coarse)
    dice.some(0.45 * s, picture, _soft)
    dice.some(0.20 * s, picture, _vignette)
    # The sensor.
    dim = (dice.there[dice.next] < 0.2 * s)[:, None, None, None]
    dice.some(0.20 * s, picture, _dark)
    dice.some(0.10 * s, picture, _overexposed)
    dice.some(0.08 * s, picture, _bands)
    noisy = s * (dice.uniform(0, 1).square() + 0.7 * dim)
    noise = grain((batch, 3, height, width), rng, picture.device)
    blotches = grain((batch, 3, height // 4, width // 4), rng, picture.device)
    blotches *= dice.uniform(-0.5, 1).clamp(min=0) * 0.8
    noise += F.interpolate(blotches, size=(height, width), mode="bilinear", align_corners=False)
    # More where it is bright, as light comes in grains.
    picture.addcmul_(noise, noisy * (0.02 + 0.055 * picture.clamp(0, 1)))
    # The camera's processor: exposure for what is too dark, colours, gamma, contrast.
    picture *= (0.16 / picture.mean((1, 2, 3), keepdim=True).clamp(min=0.02)).clamp(1, 4)
    picture = torch.matmul(_colours(dice, s), picture.flatten(2)).view_as(picture)
    picture = picture.clamp_(1e-4, 1).pow_(torch.exp(s * dice.uniform(-0.45, 0.45)))
    contrast, brightness = 1 + s * dice.uniform(-0.35, 0.25), s * dice.uniform(-0.12, 0.12)
    picture.mul_(contrast).add_(0.5 - 0.5 * contrast + brightness)
    # The wire.
    dice.some(0.05 * s, picture, _few_levels)

    def compressed(some: Tensor, dice: _Dice) -> Tensor:
        shifted = some.clamp(0, 1).roll((row, column), (2, 3))
        return compress(shifted, dice.uniform(-1.6, 1.6).exp(), block).roll((-row, -column), (2, 3))

    dice.some(0.35 * s, picture, compressed)
    assert dice.next <= COLUMNS
    return picture.clamp_(0, 1)


def _colours(dice: _Dice, s: float) -> Tensor:
    """White balance and saturation as matrices (B, 3, 3)."""
    warm, tint = s * dice.uniform(-0.3, 0.3) * dice.uniform(0, 1), s * dice.uniform(-0.12, 0.12, 3)
    balance = torch.cat([warm.exp(), torch.ones_like(warm), (-warm).exp()], 1) * (1 + tint)
    vivid = (1 + s * dice.uniform(-0.4, 0.4)) * (dice.uniform(0, 1) >= 0.1 * s)
    eye = torch.eye(3, device=warm.device)
    return (vivid * eye + (1 - vivid) / 3)[:, 0] * balance[..., 0].transpose(1, 2)
