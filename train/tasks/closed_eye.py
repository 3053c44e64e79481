"""Train `model.closed_eye` on eyes of rendered people with exact closed lids.

Both pictures of a pair are framed and recoloured alike; the open one alone gets a camera's grain and blur. Numbers are drawn on the
CPU, so that a seed means the same everywhere.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.core.errors import UserError
from livepuppet.core.reading import EYE_POINTS
from livepuppet.model.closed_eye import ClosedEye
from livepuppet.realtime.rig.closed_eyes import HEIGHT, WIDTH
from livepuppet.train.device import grain, send
from livepuppet.train.loop.task import Task

#: Differences between open and closed above this count as changes, in [0, 1]; they weigh so much more.
CHANGED, WEIGHT = 0.04, 8.0

#: Points of the upper and the lower lid, from corner to corner.
UPPER = tuple(
    EYE_POINTS.index(name) for name in ("inner corner", "upper inner", "upper", "upper outer", "outer corner")
)
LOWER = tuple(
    EYE_POINTS.index(name) for name in ("inner corner", "lower inner", "lower", "lower outer", "outer corner")
)


class EyePool:
    """Shards of `train.people.closed_eyes` as bytes on a device.

    Raises:
        UserError: the folder holds none that can be used.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        paths = sorted(folder.glob("eyes-*[0-9].npz"))
        if not paths:
            raise UserError(
                f"{folder} holds no eyes; draw some first (python -m livepuppet.train.people.closed_eyes)."
            )
        found = []
        for path in paths:
            try:
                with np.load(path) as shard:
                    found.append(
                        [torch.from_numpy(shard[name]) for name in ("open", "closed", "lids", "met")]
                    )
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} is no shard of eyes ({error}): delete it.") from error
        self.opened, self.closed, self.lids, self.met = (
            torch.cat(parts).to(self.device) for parts in zip(*found, strict=True)
        )

    def __len__(self) -> int:
        return len(self.opened)

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Open and closed eyes (B, 3, H, W) in [0, 1], and points of their lids (B, 8, 2) in pixels."""
        chosen = send(chosen, self.device)
        opened, closed = (
            part[chosen].permute(0, 3, 1, 2).float() / 255 for part in (self.opened, self.closed)
        )
        return opened, closed, self.lids[chosen], self.met[chosen]


def heights(points: Tensor) -> Tensor:
    """How far down a lid's curve through `points` (B, 5, 2) lies in each column, (B, WIDTH), smoothly; beyond the corners as there."""
    column = torch.arange(WIDTH, device=points.device, dtype=torch.float32)
    x, y = points[..., 0].contiguous(), points[..., 1]
    right = torch.searchsorted(x, column.expand(len(x), -1).contiguous()).clamp(1, 4)
    x0, x1 = x.gather(1, right - 1), x.gather(1, right)
    y0, y1 = y.gather(1, right - 1), y.gather(1, right)
    share = ((column - x0) / (x1 - x0).clamp(min=1e-3)).clamp(0, 1)
    curve = y0 + (y1 - y0) * share
    # Between few points lids are round.
    across = ((column - x[:, :1]) / (x[:, 4:] - x[:, :1]).clamp(min=1.0)).clamp(0, 1)
    line = y[:, :1] + (y[:, 4:] - y[:, :1]) * across
    bell = torch.exp(-0.5 * (torch.arange(-9, 10, device=points.device) / 3.0).square())
    soft = F.conv1d(F.pad((curve - line)[:, None], (9, 9), "replicate"), (bell / bell.sum())[None, None])[
        :, 0
    ]
    return line + 1.06 * soft


def shown(opened: Tensor, lids: Tensor, met: Tensor) -> Tensor:
    """What the network sees: (B, 5, H, W)."""
    row = torch.arange(HEIGHT, device=opened.device, dtype=torch.float32)[:, None]
    column = torch.arange(WIDTH, device=opened.device, dtype=torch.float32)
    upper, lower = lids[:, UPPER], lids[:, LOWER]
    inside = (column >= upper[:, :1, 0]) & (column <= upper[:, 4:, 0])
    above = (row - heights(upper)[:, None] + 0.5).clamp(0, 1)
    below = (heights(lower)[:, None] - row + 0.5).clamp(0, 1)
    lid = (heights(met[:, UPPER])[:, None] - row + 0.5).clamp(0, 1)
    masks = torch.stack([above * below, lid], 1) * inside[:, None, None]
    return torch.cat([opened, masks], 1)


def closed_eye_loss(drawn: Tensor, eye: Tensor, closed: Tensor) -> dict[str, Tensor]:
    """Colours and their gradients at three scales, most where lids change the picture; and a price of what is drawn anew elsewhere."""
    change = (eye[:, :3] - closed).abs().mean(1, keepdim=True)
    weight = 1 + WEIGHT * F.avg_pool2d((change > CHANGED).float(), 5, 1, 2)
    colours, share = drawn[:, :3], drawn[:, 3:]
    edges = colours.new_zeros(())
    for scale in (1, 2, 4):
        one, two, counts = (F.avg_pool2d(value, scale) for value in (colours, closed, weight))
        for axis in (2, 3):
            off = (one.diff(dim=axis) - two.diff(dim=axis)).abs()
            edges = edges + (off * counts.narrow(axis, 1, off.shape[axis])).mean()
    idle = 1 - F.avg_pool2d((change > 0.5 * CHANGED).float(), 9, 1, 4)
    return {
        "colours": 2 * ((colours - closed).abs() * weight).mean(),
        "edges": 2 * edges,
        "share": 0.2 * (share * idle).mean(),
    }


class ClosedEyeTask(Task):
    """Closed lids.

    Args:
        pool: of eyes to train on.
        batch: eyes per step.
    """

    name = "closed-eye"

    def __init__(self, pool: EyePool, batch: int = 32):
        self.pool, self.batch = pool, batch
        self.model: ClosedEye = ClosedEye()
        self.model.to(pool.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.trained = self.model
        self.betas = (0.9, 0.99)

    @torch.no_grad()
    def examples(self, rng: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
        """What the network sees of a batch, (B, 5, H, W), and what it should draw, (B, 3, H, W)."""
        with torch.autocast(self.pool.device.type, enabled=False):
            opened, closed, lids, met = self.pool.rows(torch.randint(len(self.pool), (batch,), generator=rng))
            opened, closed, lids, met = _framed(opened, closed, lids, met, rng)
            opened, closed = _recoloured(opened, closed, rng)
            return shown(opened, lids, met), closed

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        eye, closed = self.examples(rng, self.batch)
        drawn = self.model(eye.contiguous(memory_format=torch.channels_last)).float()
        return closed_eye_loss(drawn, eye, closed)


def _framed(
    opened: Tensor, closed: Tensor, lids: Tensor, met: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turned, enlarged and moved a little: contours that are found on an avatar are not exact."""
    batch, device = len(opened), opened.device
    numbers = torch.randn(batch, 4, generator=rng)
    angle, scale = 0.05 * numbers[:, 0], (0.06 * numbers[:, 1]).exp()
    turn = (
        torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
        * scale[:, None, None]
    )
    middle = torch.tensor([0.5 * WIDTH, 0.57 * HEIGHT])
    shift = 2 * numbers[:, 2:] + middle - (turn @ middle)
    turn, shift = send(turn, device), send(shift, device)
    row, column = torch.meshgrid(
        torch.arange(HEIGHT, device=device), torch.arange(WIDTH, device=device), indexing="ij"
    )
    places = torch.stack([column, row], -1).float().view(1, -1, 2) - shift[:, None]
    places = places @ torch.linalg.inv(turn).transpose(1, 2)
    grid = 2 * places / torch.tensor([WIDTH - 1.0, HEIGHT - 1.0], device=device) - 1
    both = F.grid_sample(
        torch.cat([opened, closed], 1),
        grid.view(batch, HEIGHT, WIDTH, 2),
        padding_mode="border",
        align_corners=True,
    )
    lids, met = (points @ turn.transpose(1, 2) + shift[:, None] for points in (lids, met))
    lids = lids + 0.7 * send(torch.randn(lids.shape, generator=rng), device)
    met = met + 0.5 * send(torch.randn(met.shape, generator=rng), device)
    return both[:, :3], both[:, 3:], lids, met


def _recoloured(opened: Tensor, closed: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Other colours and light for both, as blurred as each other; grain and few levels for the open one."""
    batch, device = len(opened), opened.device

    def some(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=rng)

    def chance(share: float) -> Tensor:
        return torch.rand(batch, 1, 1, 1, generator=rng) < share

    mixing = torch.eye(3) + 0.1 * some(3, 3)
    odd = torch.rand(batch, 1, 1, generator=rng)
    mixing = torch.where(odd < 0.12, torch.softmax(2 * some(3, 3), -1), mixing)
    mixing = torch.where(odd > 0.85, torch.tensor([0.3, 0.59, 0.11]).expand(3, 3), mixing)
    gain, gamma = (0.25 * some(1, 1, 1) + 0.1 * some(3, 1, 1)).exp(), (0.25 * some(1, 1, 1)).exp()
    light = F.interpolate(some(1, 3, 4), size=(HEIGHT, WIDTH), mode="bicubic", align_corners=False)
    light = 0.25 * torch.rand(batch, 1, 1, 1, generator=rng) * light
    # Sockets lie in the shade, or are made up.
    column, row = (torch.linspace(-1, 1, side) for side in (WIDTH, HEIGHT))
    middle, wide = 0.25 * some(2, 1, 1, 1), 0.25 + 0.6 * torch.rand(batch, 2, 1, 1, generator=rng)
    across, down = (column - middle[:, 0]) / wide[:, :1], (row[:, None] - middle[:, 1]) / wide[:, 1:]
    depth = torch.where(chance(0.5), 1.4 * torch.rand(batch, 1, 1, 1, generator=rng) - 0.2, torch.tensor(0.0))
    light = light - depth * (-0.5 * (across.square() + down.square())).exp()
    gain = gain * light.exp()
    mixing, gain, gamma = (send(value, device) for value in (mixing, gain, gamma))

    def coloured(picture: Tensor) -> Tensor:
        mixed = torch.einsum("bij,bjhw->bihw", mixing, picture).clamp(0, 1)
        return ((mixed + 1e-4).pow(gamma) * gain).clamp(0, 1)

    opened, closed = coloured(opened), coloured(closed)
    # Small faces are enlarged.
    width = 0.5 + 1.1 * float(torch.rand((), generator=rng))
    bell = torch.exp(-0.5 * (torch.arange(-4, 5) / width).square())
    kernel = send((bell[:, None] * bell / bell.sum() ** 2).expand(3, 1, 9, 9).contiguous(), device)
    soft = send(chance(0.4).float(), device)
    opened, closed = (
        torch.lerp(one, F.conv2d(F.pad(one, (4,) * 4, "replicate"), kernel, groups=3), soft)
        for one in (opened, closed)
    )
    strength = send(0.03 * torch.rand(batch, 1, 1, 1, generator=rng) * chance(0.5), device)
    opened = opened + strength * grain(tuple(opened.shape), rng, device)
    levels = send(
        torch.where(chance(0.1), 4 + 12 * torch.rand(batch, 1, 1, 1, generator=rng), torch.tensor(255.0)),
        device,
    )
    return (opened.clamp(0, 1) * levels).round() / levels, closed


@torch.no_grad()
def closed_eye_scores(network: ClosedEye, pool: EyePool, most: int = 512) -> dict[str, float]:
    """Mean absolute errors in [0, 1] where lids change the picture: of what is drawn, and of the open eye; and beyond."""
    eye, closed = [], []
    for first in range(0, min(len(pool), most), 64):
        opened, truth, lids, met = pool.rows(torch.arange(first, min(first + 64, len(pool), most)))
        eye.append(shown(opened, lids, met))
        closed.append(truth)
    drawn = torch.cat([network(part).float() for part in eye])
    seen, truth = torch.cat(eye)[:, :3], torch.cat(closed)
    changed = ((seen - truth).abs().mean(1) > CHANGED).float()
    off, before = ((one - truth).abs().mean(1) for one in (drawn[:, :3], seen))
    return {
        "lids": float((off * changed).sum() / changed.sum()),
        "open": float((before * changed).sum() / changed.sum()),
        "beyond": float((off * (1 - changed)).sum() / (1 - changed).sum()),
    }
