"""Train `model.matting` on rendered people, drawn people and puppets with exact mattes, depth and plates.

Everything happens on the training device: pictures are held there as bytes, figures are laid over other backgrounds, framed
anew and recoloured. Numbers are drawn on the CPU, so that a seed means the same everywhere.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import inverse_2x2, make_grid, warp
from livepuppet.model.lite import LANDMARKS
from livepuppet.model.matting import Matting, MattingConfig, face_bell
from livepuppet.train.device import grain, send
from livepuppet.train.loop.task import Task
from livepuppet.train.people.mattes import SIDE

#: Share of puppets in a batch.
PUPPETS = 0.2

#: First seed of puppets' generators: above those of pools.
FIRST_PUPPET = 1 << 30

_IRISES = [LANDMARKS.index("left iris"), LANDMARKS.index("right iris")]


@dataclass
class Mattes:
    """Rows of pictures with their truth, floats, on one device.

    Attributes:
        pictures, backgrounds, plates: (B, 3, S, S) in [0, 1]; plates show the body and the background without the head.
        alphas: (B, 3, S, S) of figure, head, body without the head.
        depth: (B, 1, S, S) in eye distances, and `deep` whether it is known there.
        faces: (B, 3), the middle between the irises in [-1, 1], and their distance.
        whole: (B,), 1 where plates, body and depth are known, 0 for puppets.
        inside: (B, 1, S, S), 1 within the picture.
    """

    pictures: Tensor
    backgrounds: Tensor
    plates: Tensor
    alphas: Tensor
    depth: Tensor
    deep: Tensor
    faces: Tensor
    whole: Tensor
    inside: Tensor


class MattePool:
    """Shards of `train.people.mattes` as bytes on a device.

    Args:
        folders: of `mattes-*.npz`.
        device: where they are held.
        shards: how many at most.
    """

    def __init__(self, folders: list[Path], device: torch.device | str = "cpu", shards: int | None = None):
        paths = [
            path
            for folder in folders
            for path in sorted(folder.glob("mattes-*.npz"))
            if ".partial" not in path.name
        ]
        if not paths:
            raise FileNotFoundError(f"{folders[0]} holds no mattes; draw some first.")
        self.device = torch.device(device)
        parts: dict[str, list[Tensor]] = {}
        with ThreadPoolExecutor(12) as pool:
            for arrays in pool.map(_read, paths[:shards]):
                for name, value in arrays.items():
                    parts.setdefault(name, []).append(torch.from_numpy(value).to(self.device))
        self.data: dict[str, Tensor] = {}
        for name in list(parts):
            self.data[name] = torch.cat(parts.pop(name))
        self.count = len(self.data["pictures"])

    def rows(self, chosen: Tensor) -> Mattes:
        """The rows `chosen` (B,), int64 of the CPU."""
        at = send(chosen, self.device)

        def image(name: str) -> Tensor:
            return self.data[name][at].permute(0, 3, 1, 2).float() / 255

        depth = F.interpolate(
            self.data["depth"][at].float()[:, None].nan_to_num(-99.0), size=(SIDE, SIDE), mode="nearest"
        )
        ones = torch.ones(len(chosen), device=self.device)
        return Mattes(
            image("pictures"),
            image("backgrounds"),
            image("plates"),
            image("alphas"),
            depth,
            (depth > -90).float(),
            self.data["faces"][at],
            ones,
            torch.ones_like(depth),
        )


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as shard:
        return {name: shard[name] for name in shard.files}


class PuppetMattes:
    """Puppets with the mattes of figure and head, drawn on the device and kept as bytes.

    Args:
        device: where they are drawn and kept.
        count: how many.
        seed: of all.
        setting: of `puppets.identities.SETTINGS`.
    """

    @torch.no_grad()
    def __init__(self, device: torch.device | str, count: int = 512, seed: int = 0, setting: str = "rich"):
        from livepuppet.train.puppets.identities import (
            Identity,
            Motion,
            draw_groups,
            draw_identities,
            generator,
        )
        from livepuppet.train.puppets.renderer import BACKGROUND, BODY, OCCLUDER, render

        self.device = torch.device(device)
        pictures, layers, faces = [], [], []
        fresh = 16
        for first in range(0, count, fresh):
            rng = generator(FIRST_PUPPET + seed * 65536 + first)
            identity = draw_identities(fresh, rng, setting)
            fields = {name: value.to(self.device) for name, value in identity.fields.items()}
            motion = Motion(draw_groups(fresh, 1, rng, setting).values.to(self.device))
            drawn = render(Identity(fields), motion, SIDE)
            pictures.append((drawn.picture.permute(0, 2, 3, 1) * 255).round().byte())
            layer = drawn.layer
            figure = layer != BACKGROUND
            body = (layer == BODY) | (layer == OCCLUDER)
            layers.append(torch.stack([figure, figure & ~body, body], -1).byte() * 255)
            irises = drawn.points[:, _IRISES]
            across = (irises[:, 1] - irises[:, 0]).norm(dim=-1, keepdim=True)
            faces.append(torch.cat([irises.mean(1), across], 1))
        self.pictures, self.layers, self.faces = torch.cat(pictures), torch.cat(layers), torch.cat(faces)
        self.count = len(self.pictures)

    def rows(self, chosen: Tensor) -> Mattes:
        """The rows `chosen` (B,), int64 of the CPU."""
        at = send(chosen, self.device)
        picture = self.pictures[at].permute(0, 3, 1, 2).float() / 255
        alphas = F.avg_pool2d(
            F.pad(self.layers[at].permute(0, 3, 1, 2).float() / 255, [1] * 4, mode="replicate"), 3, 1
        )
        zero = torch.zeros_like(picture[:, :1])
        return Mattes(
            picture,
            picture,
            picture,
            alphas,
            zero,
            zero,
            self.faces[at].float(),
            torch.zeros(len(at), device=self.device),
            torch.ones_like(zero),
        )


def _joined(one: Mattes, other: Mattes) -> Mattes:
    return Mattes(
        *(torch.cat([getattr(one, name), getattr(other, name)]) for name in one.__dataclass_fields__)
    )


def before_others(rows: Mattes, rng: torch.Generator) -> Mattes:
    """Half of the people stand before another one's background or picture, or before colours of chance."""
    batch = len(rows.pictures)
    like = rows.pictures
    kind = send(torch.rand(batch, generator=rng), like.device)[:, None, None, None]
    order = send(torch.randperm(batch, generator=rng), like.device)
    other = torch.where(kind < 0.12, rows.pictures[order], rows.backgrounds[order])
    coarse = 2 ** int(torch.randint(1, 6, (), generator=rng))
    noise = F.interpolate(
        grain((batch, 3, coarse, coarse), rng, like.device), size=like.shape[-2:], mode="bilinear"
    )
    mean = send(torch.rand(batch, 3, 1, 1, generator=rng), like.device)
    spread = send(0.3 * torch.rand(batch, 1, 1, 1, generator=rng).square(), like.device)
    other = torch.where((kind > 0.35), (mean + spread * noise).clamp(0, 1), other)
    other = _blurred(other, rng)
    swap = ((kind < 0.55) & (rows.whole[:, None, None, None] > 0)).float()
    new = torch.lerp(rows.backgrounds, other, swap)
    figure, body = rows.alphas[:, :1], rows.alphas[:, 2:]
    rows.pictures = (rows.pictures + (1 - figure) * (new - rows.backgrounds) * swap).clamp(0, 1)
    rows.plates = (rows.plates + (1 - body) * (new - rows.backgrounds) * swap).clamp(0, 1)
    rows.backgrounds = new
    return rows


def _blurred(picture: Tensor, rng: torch.Generator) -> Tensor:
    """All rows out of focus by one random amount; half of the time by none."""
    factor = int(torch.tensor([1, 1, 2, 4, 8])[torch.randint(5, (), generator=rng)])
    if factor == 1:
        return picture
    small = F.avg_pool2d(picture, factor)
    return F.interpolate(small, size=picture.shape[-2:], mode="bilinear", align_corners=False)


def framed(rows: Mattes, rng: torch.Generator) -> Mattes:
    """Turned, scaled, shifted and mirrored; what then lies beyond the picture is gray and named."""
    batch, _, side, _ = rows.pictures.shape
    device = rows.pictures.device
    angle = 0.12 * torch.randn(batch, generator=rng)
    scale = (0.18 * torch.randn(batch, generator=rng) - 0.03).exp()
    tall = (0.04 * torch.randn(batch, generator=rng)).exp()
    flip = torch.where(torch.rand(batch, generator=rng) < 0.5, -1.0, 1.0)
    shift = 0.16 * torch.randn(batch, 2, generator=rng)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    affine = torch.stack([cosine * flip * tall, -sine, sine * flip * tall, cosine], -1).view(batch, 2, 2)
    affine, shift = send(affine, device), send(shift, device)
    grid = make_grid(side, side, device).view(1, -1, 2) @ affine.transpose(1, 2) + shift[:, None]
    grid = grid.view(batch, side, side, 2)
    maps = torch.cat([rows.pictures, rows.backgrounds, rows.plates, rows.alphas, rows.inside], 1)
    maps = warp(maps, grid, "zeros")
    inside = maps[:, -1:]
    # Beyond the edges nothing is known.
    inside = (inside > 0.99).float()
    gray = 0.5 * (1 - inside)
    deep = F.grid_sample(torch.cat([rows.depth, rows.deep], 1), grid, mode="nearest", align_corners=True)
    inverse = inverse_2x2(affine)
    centre = ((rows.faces[:, :2] - shift)[:, None] @ inverse.transpose(1, 2))[:, 0]
    faces = torch.cat([centre, rows.faces[:, 2:] / send(scale, device)[:, None]], 1)
    return Mattes(
        maps[:, :3] * inside + gray,
        maps[:, 3:6] * inside + gray,
        maps[:, 6:9] * inside + gray,
        maps[:, 9:12],
        deep[:, :1],
        deep[:, 1:] * inside,
        faces,
        rows.whole,
        inside,
    )


def recoloured(rows: Mattes, rng: torch.Generator) -> Mattes:
    """Other colours for picture and plates alike; grain, blur and few levels for the picture alone."""
    batch, device = len(rows.pictures), rows.pictures.device

    def some(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=rng)

    def share(of: float) -> Tensor:
        return (torch.rand(batch, 1, 1, 1, generator=rng) < of).float()

    gain = (0.15 * some(3, 1, 1)).exp() * (0.2 * some(1, 1, 1)).exp()
    gamma = (0.25 * some(1, 1, 1)).exp()
    mixing = torch.eye(3) + 0.12 * some(3, 3)
    # Now and then colours that no skin has, or none.
    odd = torch.rand(batch, 1, 1, generator=rng)
    mixing = torch.where(odd < 0.06, torch.softmax(2 * some(3, 3), -1), mixing)
    mixing = torch.where(odd > 0.88, torch.tensor([0.3, 0.59, 0.11]).expand(3, 3), mixing)
    levels = torch.where(
        share(0.12) > 0, 3 + 5 * torch.rand(batch, 1, 1, 1, generator=rng), torch.tensor(255.0)
    )
    turned = share(0.02)
    gain, gamma, mixing, levels, turned = (
        send(value, device) for value in (gain, gamma, mixing, levels, turned)
    )

    def colour(picture: Tensor) -> Tensor:
        mixed = torch.einsum("bij,bjhw->bihw", mixing, picture)
        mixed = (mixed.clamp(0, 1) + 1e-4).pow(gamma) * gain
        mixed = torch.lerp(mixed, 1 - mixed, turned).clamp(0, 1)
        return (mixed * levels).round() / levels

    inside = rows.inside
    gray = 0.5 * (1 - inside)
    picture, background, plate = (
        colour(value) * inside + gray for value in (rows.pictures, rows.backgrounds, rows.plates)
    )
    strength = send(0.06 * torch.rand(batch, 1, 1, 1, generator=rng).pow(3), device)
    soft = _blurred(picture, rng) if float(torch.rand((), generator=rng)) < 0.4 else picture
    picture = (soft + strength * grain(tuple(picture.shape), rng, device)).clamp(0, 1) * inside + gray
    rows.pictures, rows.backgrounds, rows.plates = picture, background, plate
    return rows


class MattingTask(Task):
    """Mattes, depth and plates.

    Args:
        pool: people to train on.
        puppets: the same of puppets; None for people alone.
        batch: pictures per step.
        config: of the network.
    """

    name = "matting"

    def __init__(
        self,
        pool: MattePool,
        puppets: PuppetMattes | None = None,
        batch: int = 32,
        config: MattingConfig | None = None,
    ):
        self.pool, self.puppets, self.batch = pool, puppets, batch
        self.model: Matting = Matting(config)
        self.model.to(pool.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.trained = self.model
        self.betas = (0.9, 0.99)

    @torch.no_grad()
    def examples(self, rng: torch.Generator, batch: int) -> Mattes:
        """A batch as the network sees it."""
        others = 0 if self.puppets is None else round(PUPPETS * batch)
        # Positions in 16 bits would be wrong by pixels, whatever the training around computes in.
        with torch.autocast(self.pool.device.type, enabled=False):
            rows = self.pool.rows(torch.randint(self.pool.count, (batch - others,), generator=rng))
            rows = before_others(rows, rng)
            if self.puppets is not None and others:
                chosen = torch.randint(self.puppets.count, (others,), generator=rng)
                rows = _joined(rows, self.puppets.rows(chosen))
            return recoloured(framed(rows, rng), rng)

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        rows = self.examples(rng, self.batch)
        found = self.model.logits(inputs_of(rows, rng)).float()
        inside, whole = rows.inside, rows.whole[:, None, None, None]
        known = torch.cat([inside, inside, inside * whole], 1)
        alpha = found[:, :3].sigmoid()
        bce = F.binary_cross_entropy_with_logits(found[:, :3], rows.alphas, reduction="none")
        losses = {
            "alpha": 2 * _mean((alpha - rows.alphas).abs(), known),
            "cross entropy": 0.5 * _mean(bce, known),
            "alpha edges": 2 * _mean(_edges(alpha, rows.alphas), known),
        }
        deep = rows.deep * whole
        losses["depth"] = 0.3 * _mean(_huber(found[:, 3:4] - rows.depth, 0.1), deep)
        losses["depth edges"] = 0.6 * _mean(_edges(found[:, 3:4], rows.depth).clamp(max=1), deep)
        body, torso = rows.alphas[:, 2:], found[:, 4:].sigmoid()
        # The plate is the body over the background: where the body covers all, its own colour.
        weight = body.square() * (0.1 + rows.alphas[:, 1:2]) * whole * inside
        losses["torso"] = 1.5 * _mean((torso - rows.plates).abs(), weight)
        return losses


def inputs_of(rows: Mattes, rng: torch.Generator) -> Tensor:
    """What the network is given, its faces a little beside."""
    batch, device = len(rows.pictures), rows.pictures.device
    off = send(0.12 * torch.randn(batch, 2, generator=rng), device) * rows.faces[:, 2:]
    unit = rows.faces[:, 2] * send((0.12 * torch.randn(batch, generator=rng)).exp(), device)
    bell = face_bell(rows.faces[:, :2] + off, unit, rows.pictures.shape[-1])
    inputs = torch.cat([rows.pictures, bell, rows.inside], 1)
    return inputs.contiguous(memory_format=torch.channels_last)


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.expand_as(value).sum().clamp_min(1e-3)


def _huber(error: Tensor, squared: float) -> Tensor:
    size = error.abs()
    return torch.where(size < squared, size.square() / (2 * squared), size - squared / 2)


def _edges(found: Tensor, true: Tensor) -> Tensor:
    """Differences of slopes, at two scales, of the full size."""
    total = torch.zeros_like(found)
    for step in (1, 4):
        off = found - true
        across = F.pad((off[..., :, step:] - off[..., :, :-step]).abs(), [0, step, 0, 0])
        down = F.pad((off[..., step:, :] - off[..., :-step, :]).abs(), [0, 0, 0, step])
        total = total + (across + down) / (2 * step)
    return total


@torch.no_grad()
def matting_scores(model: Matting, pool: MattePool, seed: int = 5, count: int = 96) -> dict[str, float]:
    """Of people never trained on, as they were drawn: mean errors of alphas, of depth, and of plates where they are hidden."""
    was = model.training
    model.eval()
    chosen = torch.linspace(0, pool.count - 1, min(count, pool.count)).long()
    totals: dict[str, list[float]] = {}
    for part in chosen.split(32):
        rows = pool.rows(part)
        bell = face_bell(rows.faces[:, :2], rows.faces[:, 2], SIDE)
        alpha, depth, torso = model(torch.cat([rows.pictures, bell, rows.inside], 1))
        scores = {
            "figure": (alpha[:, :1] - rows.alphas[:, :1]).abs().mean(),
            "head": (alpha[:, 1:2] - rows.alphas[:, 1:2]).abs().mean(),
            "body": (alpha[:, 2:] - rows.alphas[:, 2:]).abs().mean(),
            "depth": _mean((depth - rows.depth).abs(), rows.deep),
            "torso": _mean((torso - rows.plates).abs(), rows.alphas[:, 2:].square() * rows.alphas[:, 1:2]),
        }
        for name, value in scores.items():
            totals.setdefault(name, []).append(float(value))
    model.train(was)
    return {name: float(np.mean(values)) for name, values in totals.items()}
