"""Which loss stands in best for VGG-19's features: small first-order models trained alike but for
that loss.

On clips of one bright thing on black (the set *shapes*), where the truth is known: a model is
judged by what it draws of clips that it has not seen, and by whether its motion is the thing's.
Training losses are not compared: they differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from livepuppet.model.base import Model
from livepuppet.model.geometry import make_grid, warp
from livepuppet.model.presets import PRESETS, Preset, build
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.losses.perceptual import (
    VGG19,
    FeatureLoss,
    PerceptualError,
    PyramidLoss,
    cached_vgg,
    read_vgg,
)
from livepuppet.train.tasks.fomm import FommTask

#: Name -> loss, made with a seed for its random weights.
CANDIDATES: dict[str, Callable[[int], nn.Module]] = {
    "L1 pyramid": lambda seed: PyramidLoss(10, 0, 0),
    "L1 pyramid + gradients": lambda seed: PyramidLoss(10, 5, 0),
    "L1 pyramid + gradients + SSIM": lambda seed: PyramidLoss(10, 5, 1),
    "random VGG-19, a quarter wide": lambda seed: FeatureLoss(VGG19.random(seed, 4), "random features"),
    "random VGG-19": lambda seed: FeatureLoss(VGG19.random(seed), "random features"),
    "VGG-19": lambda seed: _vgg(),
}

#: Those that a CPU can afford, and that need nobody's weights.
USUAL = ("L1 pyramid", "L1 pyramid + gradients + SSIM", "random VGG-19, a quarter wide")

#: `fomm-64` at half the size inside and half as wide, so that hundreds of steps take a minute or
#: two.
SMALL = Preset(
    "fomm-64",
    64,
    4,
    replace(
        PRESETS["fomm-64"].config,
        detector_reduction=2,
        detector_maximum=64,
        motion_reduction=2,
        motion_maximum=64,
        generator_expansion=8,
        generator_maximum=32,
        generator_residual_blocks=2,
    ),
)

#: A pixel belongs to the thing from this brightness of its brightest channel on.
THRESHOLD = 0.15


def _vgg() -> nn.Module:
    path = cached_vgg()
    if path is None:
        raise PerceptualError(
            "torch's cache has no VGG-19: train once with --download-vgg, or leave this loss out."
        )
    return FeatureLoss(read_vgg(path), "VGG-19")


@dataclass(frozen=True)
class Row:
    """What one training came to.

    Attributes:
        loss: name of the candidate.
        seed: of everything random.
        steps, batch: of the training.
        ms: processor milliseconds per step.
        l1: of what is drawn for unseen clips, times 1000, all pixels.
        copy: the same of the source frame as it is.
        landing: pixels between where the motion says that the thing came from and where it was.
        still: the same of a model that moves nothing.
        correlation, slope: of the motion at the thing against the thing's true motion, both
            coordinates; 1 is right.
    """

    loss: str
    seed: int
    steps: int
    batch: int
    ms: float
    l1: float
    copy: float
    landing: float
    still: float
    correlation: float
    slope: float


def centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """The bright thing's centroid (B, 2) as (x, y) in [-1, 1], and its mask (B, 1, H, W), of images
    (B, 3, H, W).
    """
    mask = (images.amax(1, keepdim=True) > THRESHOLD).float()
    grid = make_grid(images.shape[2], images.shape[3]).permute(2, 0, 1)
    return (mask * grid).sum((2, 3)) / mask.sum((2, 3)).clamp_min(1), mask


@torch.no_grad()
def judge(model: Model, source: Tensor, driving: Tensor) -> dict[str, float]:
    """The figures of `Row` for pairs (B, 3, S, S) of clips that show one bright thing on black."""
    model.eval()
    output = model.render(model.encode(source), *model.detect(source), *model.detect(driving))
    (before, _), (after, mask) = centres(source), centres(driving)
    deformation = output["deformation"].permute(0, 3, 1, 2)
    size = driving.shape[2:]
    at_pixels = warp(deformation, make_grid(size[0], size[1]).expand(len(source), -1, -1, -1))
    landed = (at_pixels * mask).sum((2, 3)) / mask.sum((2, 3)).clamp_min(1)
    predicted, true = (landed - after).flatten(), (before - after).flatten()
    pixels = (size[0] - 1) / 2
    return {
        "l1": 1000 * (output["prediction"] - driving).abs().mean().item(),
        "copy": 1000 * (source - driving).abs().mean().item(),
        "landing": pixels * (landed - before).norm(dim=1).mean().item(),
        "still": pixels * (after - before).norm(dim=1).mean().item(),
        "correlation": torch.corrcoef(torch.stack([predicted, true]))[0, 1].item(),
        "slope": ((predicted * true).sum() / true.square().sum()).item(),
    }


def train_one(
    data: ClipSet,
    unseen: ClipSet,
    name: str,
    seed: int,
    steps: int,
    batch: int,
    preset: Preset = SMALL,
    rate: float = 1e-3,
) -> Row:
    """Train one model with one loss and judge it."""
    torch.manual_seed(seed)
    # torch's stub knows `to` of one tensor's memory format, not of a module's.
    model = build(preset).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    task = FommTask(model, data, batch, perceptual=CANDIDATES[name](seed))
    optimiser = torch.optim.Adam(model.parameters(), rate, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps * 3 // 4], 0.1)
    rng = torch.Generator().manual_seed(seed)
    task.prepare()
    begin = time.process_time()
    for _ in range(steps):
        parts = task.losses(rng)
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    ms = 1000 * (time.process_time() - begin) / steps
    # The same pairs for everyone, whatever the seed.
    pairs = unseen.pairs(256, torch.Generator().manual_seed(1))
    return Row(name, seed, steps, batch, ms, **judge(model, *pairs))


def compare(folder: Path, names: tuple[str, ...], seeds: int, steps: int, batch: int) -> Iterator[Row]:
    """A row per candidate and seed, as they come.

    Raises:
        DataError: `folder` has no clips, in its `train` and `test` parts if there are such.
    """
    data, unseen = ClipSet(folder, SMALL.size), ClipSet(folder, SMALL.size, part="test")
    for name in names:
        for seed in range(seeds):
            yield train_one(data, unseen, name, seed, steps, batch)


def heading() -> tuple[str, str]:
    """The first lines of the Markdown table."""
    return (
        "| loss | seed | steps of batch | L1 x 1000 | landing px | correlation | slope | ms per step |",
        "|---|---|---|---|---|---|---|---|",
    )


def line(row: Row) -> str:
    """A row in Markdown."""
    return (
        f"| {row.loss} | {row.seed} | {row.steps} of {row.batch} | {row.l1:.2f} | {row.landing:.2f} | "
        f"{row.correlation:.2f} | {row.slope:.2f} | {row.ms:.0f} |"
    )


def closing_line(rows: list[Row]) -> str:
    """What a model that does nothing would get."""
    return f"| the source as it is | - | - | {rows[0].copy:.2f} | {rows[0].still:.2f} | - | 0 | - |"


def as_json(rows: list[Row]) -> list[dict]:
    """The rows as JSON takes them."""
    return [asdict(row) for row in rows]
