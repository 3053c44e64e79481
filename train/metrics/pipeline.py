"""What a person sees: the whole program's picture (close-ups, rig, layers; `Animator`) against exact truth."""

from __future__ import annotations

import os
from collections.abc import Callable

import cv2
import numpy as np
import torch

from livepuppet.realtime.animator import Animator
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.train.metrics.responses import Probe, response

#: Frames for which the driver stays as it is, so that no filter's delay is measured.
SETTLED = 10

#: Half the width of the band round a head's outline, in pixels of 256.
BAND = 8


def pipeline_responses(
    probes: list[Probe],
    model: str | os.PathLike | None = None,
    engine: str | Engine | None = None,
    rig: str = "on",
    shown: Callable[[str, int, list[np.ndarray]], object] = lambda factor, row, pictures: None,
) -> dict[str, dict[str, float]]:
    """Responses and errors per factor, as `responses.responses` has them, of the finished pictures.

    Args:
        probes: of `responses.draw_probes` or `people.evaluation.draw_people_probes`.
        model, engine, rig: see `Animator`.
        shown: called with each probe's factor, row, and [driver at rest, driver, avatar, truth, what was drawn], uint8 RGB.

    Returns:
        "cross", "explained", "l1", "copy" as there; of people also "outline" and "outline copy", mean absolute error within
        `BAND` pixels of the true head's outline, of the drawn picture and of the avatar left alone, and "background", that
        of the drawn picture where truth and avatar show the same background.
    """
    animators: dict[tuple[int, int], Animator] = {}
    table = {}
    for probe in probes:
        rows: dict[str, list[float]] = {}
        for k in range(len(probe.source)):
            source, truth, before, after = (
                _levels(one[k]) for one in (probe.source, probe.truth, probe.driver, probe.driver_after)
            )
            key = (id(probe.source), k)
            if key not in animators:
                animators[key] = Animator(
                    source,
                    model,
                    engine=engine,
                    settings=MotionSettings(countdown=0.0, smoothing=0.0),
                    crop="full",
                    avatar_crop="center",
                    size=source.shape[1::-1],
                    rig=rig,
                )
            animator = animators[key]
            animator.reset()
            for _ in range(2):
                animator(before)
            for _ in range(SETTLED):
                drawn = animator(after)
            shown(probe.factor, k, [before, after, source, truth, drawn])
            for name, value in _figures(source, truth, drawn, probe, k).items():
                rows.setdefault(name, []).append(value)
        table[probe.factor] = {name: float(np.nanmean(values)) for name, values in rows.items()}
    return table


def pipeline_sheet(
    rows: list[tuple[str, int, list[np.ndarray]]], side: int = 192, people: int = 4
) -> np.ndarray:
    """The pictures that `shown` was called with as one, uint8 RGB: a column per factor, and for each of the first few people
    driver at rest, driver, avatar, truth, what was drawn."""
    columns: dict[str, list[np.ndarray]] = {}
    for factor, row, pictures in rows:
        if row < people:
            columns.setdefault(factor, []).extend(
                cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in pictures
            )
    return np.hstack([np.vstack(column) for column in columns.values()])


def _figures(
    source: np.ndarray, truth: np.ndarray, drawn: np.ndarray, probe: Probe, k: int
) -> dict[str, float]:
    one, true, mine = (
        torch.from_numpy(image.astype(np.float32) / 255)[None] for image in (source, truth, drawn)
    )
    row = {
        "cross": response(one, mine, one, true),
        "l1": (mine - true).abs().mean().item(),
        "copy": (one - true).abs().mean().item(),
        "explained": 1 - ((mine - true).square().sum() / (one - true).square().sum().clamp_min(1e-6)).item(),
    }
    head, empty = getattr(probe, "head", None), getattr(probe, "empty", None)
    if head is None or empty is None:
        return row
    from livepuppet.train.people.evaluation import band

    near = band(head[k].numpy(), BAND * len(source) / 256)
    wrong, left = ((x - true).abs().mean(-1)[0].numpy() for x in (mine, one))
    still = (empty[k].numpy() > 0) & (left < 1 / 255)
    return row | {
        "outline": wrong[near].mean() if near.any() else np.nan,
        "outline copy": left[near].mean() if near.any() else np.nan,
        "background": wrong[still].mean() if still.any() else np.nan,
    }


def _levels(picture: torch.Tensor) -> np.ndarray:
    """A picture (3, H, W) in [0, 1] as uint8 RGB (H, W, 3)."""
    return np.ascontiguousarray((255 * picture.permute(1, 2, 0).clamp(0, 1)).round().byte().numpy())
