"""Train the close-up networks (`model.close_up`) on crops of rendered people with exact points and amounts.

Crops are cut once, wider than the network's and as sharp as a camera's (`CropPool`), then framed at random: the coarse
keypoints that place them live are off by a few pixels. As in the detector's training, pictures come in pairs of one
identity, and *changes* count beside places: live, amounts are relative to the driver's own neutral pose.
"""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.core.errors import UserError
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
from livepuppet.model.geometry import make_grid, warp
from livepuppet.realtime.rig.close_ups import EYE_SIDE, HEAD_SIDE, MOUTH_SIDE
from livepuppet.train.deform import Deformation, blurred_others
from livepuppet.train.device import send
from livepuppet.train.loop.task import Task
from livepuppet.train.webcam import webcam

#: Stored crops show this many times the square that the network sees, so that random framing has something to show.
MARGIN = 1.5

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
    {"eyeBlink": 3.0}.get(name, 3.0 if "Look" in name else 2.5 if "brow" in name else 1.0)
    for name in EYE_AMOUNTS
)
MOUTH_AMOUNT_WEIGHT = tuple(
    3.0
    if name == "jawOpen"
    else 1.5
    if any(
        word in name
        for word in ("Smile", "Pucker", "Funnel", "tongue", "mouthLeft", "mouthRight", "UpperUp", "LowerDown")
    )
    else 0.7
    for name in MOUTH_AMOUNTS
)
HEAD_AMOUNT_WEIGHT = tuple(
    6.0 if name in ("yaw", "pitch") else 3.0 if name == "roll" else 1.0 for name in HEAD_AMOUNTS
)


@dataclass(frozen=True)
class Kind:
    """One kind of crop: its network, weights of points and amounts, side in face units, what mirroring does to
    both, and the side of stored crops in pixels."""

    config: CloseUpConfig
    points: tuple[str, ...]
    amounts: tuple[str, ...]
    point_weight: tuple[float, ...]
    amount_weight: tuple[float, ...]
    side: float
    mirror: tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]] | None = None
    stored: int = 112


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
        168,
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
    """Crops of one kind of a folder of shards, as bytes in the memory of a device.

    A shard holds, of N pictures in groups of `poses` of one identity: `eyes` uint8 (N, 2, S, S, 3), the right one
    mirrored; `eye_points` (N, 2, 9, 2) in [-1, 1] of the stored crop; `eye_amounts` (N, 2, 9); `eye_seen` (N, 2), the
    share of the eye that nothing hides; `mouths`, `mouth_points`, `mouth_amounts`, `mouth_seen` and `heads`, `head_points`, ... likewise, (N, ...).

    Args:
        folder: of `crops-*.npz`.
        kind: of `KINDS`.
        device: where the crops are kept, and those of a batch are.
        shards: how many at most; None for all.
        skip: how many to leave out before.

    Raises:
        UserError: the folder holds no shards, or shards that do not go together.
    """

    def __init__(
        self,
        folder: Path,
        kind: str,
        device: torch.device | str = "cpu",
        shards: int | None = None,
        skip: int = 0,
    ):
        self.kind, self.device = kind, torch.device(device)
        paths = sorted(folder.glob("crops-*[0-9].npz"))[skip:][:shards]
        if not paths:
            raise UserError(
                f"{folder} holds no crops; draw some first (python -m livepuppet.train.people.crops)."
            )
        names = (f"{kind}s", f"{kind}_points", f"{kind}_amounts", f"{kind}_seen")

        def load(path: Path) -> tuple[int, list[Tensor]]:
            try:
                with np.load(path) as shard:
                    # Shards of old do not say how many poses they have of each identity.
                    poses = int(shard["poses"]) if "poses" in shard else 4
                    return poses, [torch.from_numpy(shard[name]).to(self.device) for name in names]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{path} is no shard of crops ({error}): delete it.") from error

        # Reading and checking bytes hold no lock of Python's.
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(load, paths))
        shapes = {tuple(tuple(part.shape[1:]) for part in parts) for _, parts in found}
        if len(shapes) > 1:
            raise UserError(f"{folder} holds crops of several versions: draw all of them anew.")
        self.pictures, self.points, self.amounts, self.seen = (
            torch.cat(parts) for parts in zip(*(parts for _, parts in found), strict=True)
        )
        self.points, self.amounts, self.seen = self.points.float(), self.amounts.float(), self.seen.float()
        # Shards may have other numbers of poses: of each identity its first picture, and how many there are.
        sizes = [poses for poses, parts in found for _ in range(len(parts[0]) // poses)]
        self.sizes = torch.tensor(sizes)
        self.starts = self.sizes.cumsum(0) - self.sizes

    def pairs(self, batch: int, rng: torch.Generator) -> Crops:
        """2 x batch crops: first those of one pose, then those of another of the same identities.

        Args:
            rng: a CPU generator.
        """
        group = torch.randint(len(self.sizes), (batch,), generator=rng)
        start, size = self.starts[group], self.sizes[group]
        # Any pose, and any other one.
        one, further = torch.rand(2, batch, generator=rng)
        first = (one * size).long()
        second = (first + 1 + (further * (size - 1)).long()) % size
        rows = send(torch.cat([start + first, start + second]), self.device)
        pick = (rows,)
        if self.kind == "eye":
            pick = (rows, send(torch.randint(2, (batch,), generator=rng).repeat(2), self.device))
        return Crops(
            self.pictures[pick].permute(0, 3, 1, 2).float() / 255,
            self.points[pick],
            self.amounts[pick],
            self.seen[pick],
        )


def _drawn(batch: int, columns: int, rng: torch.Generator, device: torch.device) -> list[Tensor]:
    """Random numbers in [0, 1) as `columns` vectors (B, 1, 1, 1) on a device, sent in one go."""
    return list(send(torch.rand(columns, batch, 1, 1, 1, generator=rng), device))


def framed(
    crops: Crops, size: int, rng: torch.Generator, wild: bool = True, roll: int | None = None
) -> Crops:
    """Crops as the network sees them: cut out of the stored ones at random, through a webcam.

    Both pictures of a pair get the same framing up to a small difference, as frame follows frame.

    Args:
        rng: a CPU generator.
        roll: the amount that is an angle against the crop's axes, if one is.
    """
    batch = len(crops.picture)
    half = batch // 2
    like = crops.picture
    device = like.device
    if wild:
        base = Deformation.similarity(half, rng, like, angle=0.22, log_scale=0.2, shift=0.14).affine.repeat(
            2, 1, 1
        )
        jitter = Deformation.similarity(batch, rng, like, angle=0.04, log_scale=0.04, shift=0.03).affine
        stretch = send(torch.eye(2) + 0.06 * torch.randn(half, 2, 2, generator=rng), device)
        affine = torch.cat(
            [
                base[:, :, :2] @ jitter[:, :, :2] @ stretch.repeat(2, 1, 1),
                base[:, :, :2] @ jitter[:, :, 2:] + base[:, :, 2:],
            ],
            -1,
        )
    else:
        affine = torch.eye(2, 3, device=device).repeat(batch, 1, 1)
    affine = affine / MARGIN
    change = Deformation(affine)
    grid = change.points(make_grid(size, size, device).view(1, -1, 2).expand(batch, -1, -1))
    picture = warp(crops.picture, grid.view(batch, size, size, 2), "border")
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


def _coarse(picture: Tensor, rng: torch.Generator) -> Tensor:
    """A third of the crops come from small faces: fewer pixels, enlarged."""
    batch, _, side, _ = picture.shape
    chosen = (torch.rand(batch, generator=rng) < 0.35).nonzero()[:, 0]
    # A few sizes per batch: large batches would else see one size a step.
    for part in chosen.chunk(4 if batch >= 256 else 1):
        if not len(part):
            continue
        small = int(side * (0.35 + 0.5 * torch.rand(1, generator=rng).item()))
        part = send(part, picture.device)
        rows = F.interpolate(picture[part], size=(small, small), mode="area")
        picture = picture.index_copy(
            0, part, F.interpolate(rows, size=(side, side), mode="bilinear", align_corners=False)
        )
    return picture


def _lit(picture: Tensor, rng: torch.Generator) -> Tensor:
    """Light from a side, and colours as no two cameras have them."""
    drawn = send(torch.randn(len(picture), 6, 1, 1, generator=rng), picture.device)
    line = torch.linspace(-1, 1, picture.shape[-1], device=picture.device)
    shade = 0.35 * (drawn[:, :1] * line + drawn[:, 1:2] * line[:, None])
    gain = (0.25 * drawn[:, 2:3] + 0.08 * drawn[:, 3:]).exp()
    return (picture * gain * (1 + shade).clamp(0.3, 1.7)).clamp(0, 1)


def _hidden(picture: Tensor, rng: torch.Generator) -> Tensor:
    """Now and then a plain bar lies across a part of the crop: a strand, a rim, a finger, a cable."""
    batch, _, side, _ = picture.shape
    angle, offset, width, chosen, *colour = _drawn(batch, 7, rng, picture.device)
    line = torch.linspace(-1, 1, side, device=picture.device)
    angle, offset, width = 3.14159 * angle, 1.6 * offset - 0.8, 0.02 + 0.1 * width.square()
    away = (angle.cos() * line + angle.sin() * line[:, None] - offset).abs()
    cover = ((width - away) * side / 2).clamp(0, 1) * (chosen < 0.15)
    return torch.lerp(picture, (0.8 * torch.cat(colour, 1)).expand_as(picture), cover)


class CloseUpTask(Task):
    """Points, amounts and their changes, of one kind of crop.

    Args:
        pool: to train on; its kind is the network's, and its device that of the training.
        batch: crops per step, half of them the second ones of a pair.
    """

    def __init__(self, pool: CropPool, batch: int = 64):
        self.name = f"close-up-{pool.kind}"
        self.pool, self.batch = pool, batch
        self.of, self.roll = KINDS[pool.kind], roll_of(pool.kind)
        self.size, device = self.of.config.size, pool.device
        self.model = self.trained = CloseUp(self.of.config).to(device)
        # As convolutions of few channels want it, on a GPU and (1.5 times as fast) on a CPU.
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.point_weight = torch.tensor(self.of.point_weight, device=device)[None, :, None]
        self.amount_weight = torch.tensor(self.of.amount_weight, device=device)[None]
        angles = ("yaw", "pitch", "roll")
        self.squared = torch.tensor(
            [ANGLE_SQUARED if name in angles else AMOUNT_SQUARED for name in self.of.amounts], device=device
        )
        self.mirror = None if self.of.mirror is None else _Mirror.of(*self.of.mirror, device)

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        half, device = self.batch // 2, self.pool.device
        crops = self.pool.pairs(half, rng)
        if self.mirror is not None:
            flipped = torch.rand(half, generator=rng).repeat(2) < 0.5
            crops = self.mirror.flipped(crops, send(flipped, device))
        with torch.no_grad():
            crops = framed(crops, self.size, rng, roll=self.roll)
        picture, seen = crops.picture, crops.seen
        # A tenth shows something else, so that "this is no eye" can be said.
        other = send(torch.rand(len(picture), generator=rng) < 0.08, device)
        picture = torch.where(other[:, None, None, None], blurred_others(picture).flip(-2), picture)
        seen = torch.where(other, 0.0, seen)
        points, amounts, sure = self.model(picture.contiguous(memory_format=torch.channels_last))
        weight = (seen[:, None, None] * 0.9 + 0.1) * self.point_weight * (~other[:, None, None])
        inside = (crops.points.abs().amax(-1, keepdim=True) < 1.1).float()
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


@dataclass
class _Mirror:
    """Which points (P,) and amounts (A,) trade places in a mirrored crop, and signs (A,); on a device."""

    points: Tensor
    amounts: Tensor
    signs: Tensor
    flip: Tensor

    @classmethod
    def of(cls, points, amounts, signs, device: torch.device) -> _Mirror:
        return cls(*(torch.tensor(one, device=device) for one in (points, amounts, signs, (-1.0, 1.0))))

    def flipped(self, crops: Crops, chosen: Tensor) -> Crops:
        """Crops flipped left to right where chosen (B,)."""
        return Crops(
            torch.where(chosen[:, None, None, None], crops.picture.flip(-1), crops.picture),
            torch.where(chosen[:, None, None], crops.points[:, self.points] * self.flip, crops.points),
            torch.where(chosen[:, None], crops.amounts[:, self.amounts] * self.signs, crops.amounts),
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
    model: nn.Module, pool: CropPool, seed: int = 3, batches: int = 16, pairs: int = 32
) -> dict[str, float]:
    """Of crops never trained on: point error in face units, and per amount the slope and correlation of changes."""
    of, was = KINDS[pool.kind], model.training
    model.eval()
    rng = torch.Generator().manual_seed(seed)
    errors, told, really = [], [], []
    for _ in range(batches):
        crops = framed(pool.pairs(pairs, rng), of.config.size, rng, roll=roll_of(pool.kind))
        points, amounts, _ = model(crops.picture)
        seen = crops.seen > 0.6
        errors.append((points - crops.points).norm(dim=-1)[seen])
        pair = seen[:pairs] & seen[pairs:]
        told.append((amounts[pairs:] - amounts[:pairs])[pair])
        really.append((crops.amounts[pairs:] - crops.amounts[:pairs])[pair])
    model.train(was)
    error = torch.cat(errors).cpu() * of.side / 2
    scores = {"point error": error.mean().item(), "median": error.median().item()}
    scores |= {name: error[:, k].mean().item() for k, name in enumerate(of.points) if pool.kind == "eye"}
    told, really = torch.cat(told).cpu(), torch.cat(really).cpu()
    for k, name in enumerate(of.amounts):
        x, y = really[:, k], told[:, k]
        if x.std() > 1e-3:
            scores[f"{name} slope"] = ((x * y).sum() / (x * x).sum()).item()
            scores[f"{name} r"] = torch.corrcoef(torch.stack([x, y]))[0, 1].item()
    return scores
