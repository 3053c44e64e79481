"""Train the close-up networks (`model.close_up`) on crops of rendered people with exact points and amounts.

Crops are cut once, wider than the network's and as sharp as a camera's (`CropPool`), then framed at random: the coarse
keypoints that place them live are off by a few pixels. As in the detector's training, pictures come in pairs of one
identity, and *changes* count beside places: live, amounts are relative to the driver's own neutral pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.core.reading import (
    EYE_AMOUNTS,
    EYE_POINTS,
    HEAD_AMOUNTS,
    HEAD_POINTS,
    MOUTH_AMOUNTS,
    MOUTH_POINTS,
)
from livepuppet.model.close_up import (
    EYE,
    HEAD,
    HEAD_MIRROR,
    HEAD_POINT_MIRROR,
    HEAD_SIGNS,
    MOUTH,
    MOUTH_MIRROR,
    MOUTH_POINT_MIRROR,
    CloseUp,
    CloseUpConfig,
)
from livepuppet.model.geometry import warp
from livepuppet.realtime.rig.close_ups import EYE_SIDE, HEAD_SIDE, MOUTH_SIDE
from livepuppet.train.deform import Deformation, blurred_others
from livepuppet.train.loop.task import Task
from livepuppet.train.webcam import webcam

#: Stored crops show this many times the square that the network sees, so that random framing has something to show.
MARGIN = 1.5

#: Side of stored crops in pixels.
STORED = 112

#: Errors of points about this size, in units of the crop's [-1, 1], count most; 0.016 is half a pixel of 64.
TOLERANCE = 0.016

#: Errors below this count by their square. Of amounts, most are zero in most faces: an absolute error is least at their
#: median, which is zero, a squared one at their mean. Angles err to both sides alike.
AMOUNT_SQUARED, ANGLE_SQUARED = 0.3, 0.03

#: Weight of each point and each amount.
EYE_POINT_WEIGHT = tuple(
    2.5 if name == "iris" else 2.0 if name in ("upper", "lower") else 1.0 for name in EYE_POINTS
)
EYE_AMOUNT_WEIGHT = tuple(
    {"eyeBlink": 3.0, "eyeSquint": 0.7, "eyeWide": 1.0}.get(name, 2.0 if "Look" in name else 0.7)
    for name in EYE_AMOUNTS
)
MOUTH_AMOUNT_WEIGHT = tuple(
    3.0
    if name == "jawOpen"
    else 1.5
    if any(word in name for word in ("Smile", "Pucker", "Funnel", "tongue"))
    else 0.7
    for name in MOUTH_AMOUNTS
)
HEAD_AMOUNT_WEIGHT = tuple(
    6.0 if name in ("yaw", "pitch") else 3.0 if name == "roll" else 1.0 for name in HEAD_AMOUNTS
)


@dataclass(frozen=True)
class Kind:
    """One kind of crop: its network, weights of points and amounts, side in face units, and what mirroring does to both."""

    config: CloseUpConfig
    points: tuple[str, ...]
    amounts: tuple[str, ...]
    point_weight: tuple[float, ...]
    amount_weight: tuple[float, ...]
    side: float
    mirror: tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]] | None = None


KINDS = {
    "eye": Kind(EYE, EYE_POINTS, EYE_AMOUNTS, EYE_POINT_WEIGHT, EYE_AMOUNT_WEIGHT, EYE_SIDE),
    "mouth": Kind(
        MOUTH,
        MOUTH_POINTS,
        MOUTH_AMOUNTS,
        (1.0,) * len(MOUTH_POINTS),
        MOUTH_AMOUNT_WEIGHT,
        MOUTH_SIDE,
        (MOUTH_POINT_MIRROR, MOUTH_MIRROR, (1.0,) * len(MOUTH_AMOUNTS)),
    ),
    "head": Kind(
        HEAD,
        HEAD_POINTS,
        HEAD_AMOUNTS,
        (1.0,) * len(HEAD_POINTS),
        HEAD_AMOUNT_WEIGHT,
        HEAD_SIDE,
        (HEAD_POINT_MIRROR, HEAD_MIRROR, HEAD_SIGNS),
    ),
}


@dataclass
class Crops:
    """A batch of crops of one kind: `picture` (B, 3, S, S) in [0, 1]; `points` (B, P, 2); `amounts` (B, A); `seen` (B,)."""

    picture: Tensor
    points: Tensor
    amounts: Tensor
    seen: Tensor


class CropPool:
    """Crops of a folder of shards, in memory as bytes.

    A shard holds, of N pictures in groups of `poses` of one identity: `eyes` uint8 (N, 2, S, S, 3), the right one
    mirrored; `eye_points` (N, 2, 9, 2) in [-1, 1] of the stored crop; `eye_amounts` (N, 2, 9); `eye_seen` (N, 2), the
    share of the eye that nothing hides; `mouths`, `mouth_points`, `mouth_amounts`, `mouth_seen` and `heads`, `head_points`, ... likewise, (N, ...).

    Args:
        folder: of `crops-*.npz`.
        poses: pictures per identity.
        shards: how many at most; None for all.
    """

    def __init__(self, folder: Path, poses: int = 4, shards: int | None = None, skip: int = 0):
        self.poses = poses
        paths = sorted(folder.glob("crops-*.npz"))[skip:][:shards]
        if not paths:
            raise FileNotFoundError(f"{folder} holds no crops; draw some first.")
        parts: dict[str, list[np.ndarray]] = {}
        for path in paths:
            with np.load(path) as shard:
                for name in shard.files:
                    if name != "stamp":
                        parts.setdefault(name, []).append(shard[name])
        self.data = {name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()}
        self.groups = len(self.data["eyes"]) // poses

    def pairs(self, batch: int, rng: torch.Generator, kind: str) -> Crops:
        """2 x batch crops of one of `KINDS`: first those of one pose, then those of another of the same identities."""
        group = torch.randint(self.groups, (batch,), generator=rng)
        first = torch.randint(self.poses, (batch,), generator=rng)
        second = (first + torch.randint(1, self.poses, (batch,), generator=rng)) % self.poses
        rows = torch.cat([group * self.poses + first, group * self.poses + second])
        pick = (rows,)
        if kind == "eye":
            pick = (rows, torch.randint(2, (batch,), generator=rng).repeat(2))
        data = self.data
        return Crops(
            data[f"{kind}s"][pick].permute(0, 3, 1, 2).float() / 255,
            data[f"{kind}_points"][pick].float(),
            data[f"{kind}_amounts"][pick].float(),
            data[f"{kind}_seen"][pick].float(),
        )


def framed(
    crops: Crops, size: int, rng: torch.Generator, wild: bool = True, roll: int | None = None
) -> Crops:
    """Crops as the network sees them: cut out of the stored ones at random, through a webcam.

    Both pictures of a pair get the same framing up to a small difference, as frame follows frame.

    Args:
        roll: the amount that is an angle against the crop's axes, if one is.
    """
    batch = len(crops.picture)
    half = batch // 2
    like = crops.picture
    if wild:
        base = Deformation.similarity(half, rng, like, angle=0.22, log_scale=0.2, shift=0.14).affine.repeat(
            2, 1, 1
        )
        jitter = Deformation.similarity(batch, rng, like, angle=0.04, log_scale=0.04, shift=0.03).affine
        stretch = torch.eye(2) + 0.06 * torch.randn(half, 2, 2, generator=rng)
        affine = torch.cat(
            [
                base[:, :, :2] @ jitter[:, :, :2] @ stretch.repeat(2, 1, 1),
                base[:, :, :2] @ jitter[:, :, 2:] + base[:, :, 2:],
            ],
            -1,
        )
    else:
        affine = torch.eye(2, 3).repeat(batch, 1, 1)
    affine = affine / MARGIN
    change = Deformation(affine)
    grid = change.points(_grid(size).expand(batch, -1, -1)).view(batch, size, size, 2)
    picture = warp(crops.picture, grid, "border")
    points = change.sources(crops.points)
    if wild:
        picture = _coarse(picture, rng)
        picture = webcam(_lit(picture, rng), rng)
        picture = _hidden(picture, rng)
    amounts = crops.amounts
    if roll is not None:
        amounts = amounts.clone()
        amounts[:, roll] -= torch.atan2(affine[:, 1, 0], affine[:, 0, 0])
    return Crops(picture, points, amounts, crops.seen)


def _grid(size: int) -> Tensor:
    line = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(1, -1, 2)


def _coarse(picture: Tensor, rng: torch.Generator) -> Tensor:
    """A third of the crops come from small faces: fewer pixels, enlarged."""
    batch, _, side, _ = picture.shape
    chosen = (torch.rand(batch, generator=rng) < 0.35).nonzero()[:, 0]
    if len(chosen):
        small = int(side * (0.35 + 0.5 * torch.rand(1, generator=rng).item()))
        rows = F.interpolate(picture[chosen], size=(small, small), mode="area")
        picture = picture.clone()
        picture[chosen] = F.interpolate(rows, size=(side, side), mode="bilinear", align_corners=False)
    return picture


def _lit(picture: Tensor, rng: torch.Generator) -> Tensor:
    """Light from a side, and colours as no two cameras have them."""
    batch = len(picture)
    slope = 0.35 * torch.randn(batch, 2, generator=rng)
    line = torch.linspace(-1, 1, picture.shape[-1])
    shade = slope[:, :1, None] * line[None, None, :] + slope[:, 1:, None] * line[None, :, None]
    gain = (0.25 * torch.randn(batch, 1, 1, 1, generator=rng)).exp() * (
        0.08 * torch.randn(batch, 3, 1, 1, generator=rng)
    ).exp()
    return (picture * gain * (1 + shade[:, None]).clamp(0.3, 1.7)).clamp(0, 1)


def _hidden(picture: Tensor, rng: torch.Generator) -> Tensor:
    """Now and then a plain bar lies across a part of the crop: a strand, a rim, a finger, a cable."""
    batch, _, side, _ = picture.shape
    line = torch.linspace(-1, 1, side)
    angle = 3.14159 * torch.rand(batch, 1, 1, generator=rng)
    offset = 1.6 * torch.rand(batch, 1, 1, generator=rng) - 0.8
    width = 0.02 + 0.1 * torch.rand(batch, 1, 1, generator=rng).square()
    chosen = (torch.rand(batch, 1, 1, generator=rng) < 0.15).float()
    away = (angle.cos() * line[None, None] + angle.sin() * line[None, :, None] - offset).abs()
    cover = ((width - away) * side / 2).clamp(0, 1)[:, None] * chosen[:, None]
    colour = torch.rand(batch, 3, 1, 1, generator=rng) * 0.8
    return torch.lerp(picture, colour.expand_as(picture), cover)


class CloseUpTask(Task):
    """Points, amounts and their changes, of one kind of crop.

    Args:
        kind: "eye" or "mouth".
        pool: to train on.
        batch: crops per step, half of them the second ones of a pair.
    """

    def __init__(self, kind: str, pool: CropPool, batch: int = 64):
        self.name = f"close-up-{kind}"
        self.kind, self.pool, self.batch = kind, pool, batch
        self.of = KINDS[kind]
        self.roll = roll_of(kind)
        self.size = self.of.config.size
        self.model = self.trained = CloseUp(self.of.config)
        self.point_weight = torch.tensor(self.of.point_weight)[None, :, None]
        self.amount_weight = torch.tensor(self.of.amount_weight)[None]
        angles = ("yaw", "pitch", "roll")
        self.squared = torch.tensor(
            [ANGLE_SQUARED if name in angles else AMOUNT_SQUARED for name in self.of.amounts]
        )

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        crops = self.pool.pairs(self.batch // 2, rng, self.kind)
        if self.of.mirror is not None:
            crops = _mirrored(
                crops, torch.rand(self.batch // 2, generator=rng).repeat(2) < 0.5, *self.of.mirror
            )
        crops = framed(crops, self.size, rng, roll=self.roll)
        picture, seen = crops.picture, crops.seen
        # A tenth shows something else, so that "this is no eye" can be said.
        other = torch.rand(len(picture), generator=rng) < 0.08
        picture = torch.where(other[:, None, None, None], blurred_others(picture).flip(-2), picture)
        seen = torch.where(other, 0.0, seen)
        points, amounts, sure = self.model(picture)
        weight = (seen[:, None, None] * 0.9 + 0.1) * self.point_weight * (~other[:, None, None])
        inside = (crops.points.abs().amax(-1, keepdim=True) < 1.1).float()
        half = len(picture) // 2
        error = (points - crops.points).abs()
        shown, true = points[half:] - points[:half], crops.points[half:] - crops.points[:half]
        both = (weight * inside)[half:] * (weight * inside)[:half] / self.point_weight
        told, really = amounts[half:] - amounts[:half], crops.amounts[half:] - crops.amounts[:half]
        amount_weight = self.amount_weight * (seen[:, None] * 0.95 + 0.05) * (~other[:, None])
        change_weight = amount_weight[half:] * amount_weight[:half] / self.amount_weight
        return {
            "points": 3 * _mean(error, weight * inside) + 4 * _mean(_robust(error), weight * inside),
            "point changes": 6 * _mean(_robust((shown - true).abs()), both),
            "amounts": 3 * _mean(_huber(amounts - crops.amounts, self.squared), amount_weight),
            "amount changes": 3 * _mean(_huber(told - really, self.squared), change_weight),
            "sure": 0.1 * F.binary_cross_entropy_with_logits(sure[:, 0], (seen > 0.5).float()),
        }


def roll_of(kind: str) -> int | None:
    """The place of the amount that is an angle against the crop's axes."""
    return KINDS[kind].amounts.index("roll") if "roll" in KINDS[kind].amounts else None


def _mirrored(crops: Crops, chosen: Tensor, points, amounts, signs) -> Crops:
    """Crops flipped left to right where chosen, with the points and amounts that trade places, and signs that change."""
    flip = torch.tensor([-1.0, 1.0])
    return Crops(
        torch.where(chosen[:, None, None, None], crops.picture.flip(-1), crops.picture),
        torch.where(chosen[:, None, None], crops.points[:, points] * flip, crops.points),
        torch.where(chosen[:, None], crops.amounts[:, amounts] * torch.tensor(signs), crops.amounts),
        crops.seen,
    )


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.expand_as(value).sum().clamp_min(1e-6)


def _huber(error: Tensor, squared: Tensor) -> Tensor:
    """The absolute error less `squared` / 2, and the square where it is smaller than `squared`."""
    size = error.abs()
    return torch.where(size < squared, size.square() / (2 * squared), size - squared / 2)


def _robust(error: Tensor) -> Tensor:
    return TOLERANCE * torch.log1p(error / TOLERANCE)


@torch.no_grad()
def close_up_scores(
    model: nn.Module, pool: CropPool, kind: str, seed: int = 3, batches: int = 16
) -> dict[str, float]:
    """Of crops never trained on: point error in face units, and per amount the slope and correlation of changes."""
    of, was = KINDS[kind], model.training
    model.eval()
    rng = torch.Generator().manual_seed(seed)
    errors, told, really = [], [], []
    for _ in range(batches):
        crops = framed(pool.pairs(32, rng, kind), of.config.size, rng, roll=roll_of(kind))
        points, amounts, _ = model(crops.picture)
        seen = crops.seen > 0.6
        errors.append((points - crops.points).norm(dim=-1)[seen])
        pair = seen[:32] & seen[32:]
        told.append((amounts[32:] - amounts[:32])[pair])
        really.append((crops.amounts[32:] - crops.amounts[:32])[pair])
    model.train(was)
    error = torch.cat(errors) * of.side / 2
    scores = {"point error": error.mean().item(), "median": error.median().item()}
    scores |= {name: error[:, k].mean().item() for k, name in enumerate(of.points) if kind == "eye"}
    told, really = torch.cat(told), torch.cat(really)
    for k, name in enumerate(of.amounts):
        x, y = really[:, k], told[:, k]
        if x.std() > 1e-3:
            scores[f"{name} slope"] = ((x * y).sum() / (x * x).sum()).item()
            scores[f"{name} r"] = torch.corrcoef(torch.stack([x, y]))[0, 1].item()
    return scores
