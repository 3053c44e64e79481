"""Frames reconstructed from a clip's first one, and how much of a mouth's opening is shown."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.geometry import make_grid
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.losses.reconstruction import weighted_mean
from livepuppet.train.metrics.inference import batches, device_of, evaluating, to_batch
from livepuppet.train.tasks.lite_animator import importance

#: A clip shows an open mouth if the lips' gap grows by this share of the mouth's width.
OPENS = 0.3

MOUTH = ("left mouth corner", "right mouth corner", "upper lip", "lower lip")


@torch.no_grad()
def reconstruction(model, sources: np.ndarray, frames: np.ndarray) -> dict[str, float]:
    """How near a model comes to frames, driven by them: mean absolute errors in [0, 1], over all
    sources and frames.

    Args:
        sources: uint8 RGB (N, S, S, 3), the same person.
        frames: uint8 RGB (T, S, S, 3), which drive and should be shown.

    Returns:
        "L1"; "warp L1" of the bare warp; "copy L1" of the source left alone; "face L1", weighted
        towards eyes and mouth; "mouth response", the shown change around the mouth projected on the
        true one: 1 is right, 0 nothing. L1 alone rewards a mouth that hedges.
    """
    rows, shown_change, true_change = [], 0.0, 0.0
    device = device_of(model)
    with evaluating(model):
        for source in sources:
            source = to_batch(source[None]).to(device)
            features, avatar = model.encode(source), model.detect(source)
            for truth in batches(frames, 1):
                truth = truth.to(device)
                driving = model.detect(truth)
                shown = model.render(features, *avatar, *driving)
                weight = importance(driving[0], truth.shape[-1])
                mouth = around_mouth(driving[0], truth.shape[-1])
                change = mouth * (truth - source)
                shown_change += (change * (shown["prediction"] - source)).sum().item()
                true_change += (change * (truth - source)).sum().item()
                rows.append(
                    [
                        (shown["prediction"] - truth).abs().mean().item(),
                        (shown["warped"] - truth).abs().mean().item(),
                        (source - truth).abs().mean().item(),
                        weighted_mean((shown["prediction"] - truth).abs(), weight).item(),
                    ]
                )
    figures = dict(zip(("L1", "warp L1", "copy L1", "face L1"), np.mean(rows, 0).tolist(), strict=True))
    return figures | {"mouth response": shown_change / max(true_change, 1e-9)}


def around_mouth(points: Tensor, size: int) -> Tensor:
    """Weights (B, 1, size, size): a Gaussian of the mouth's width around the middle of corners and
    lips (B, K, 2).
    """
    left, right, upper, lower = (points[:, LANDMARKS.index(name)] for name in MOUTH)
    centre = (left + right + upper + lower)[:, None] / 4
    width = (right - left).norm(dim=-1).clamp(0.05, 0.5)
    grid = make_grid(size, size).to(points)
    return torch.exp(
        -0.5 * (grid - centre[:, :, None]).square().sum(-1) / (width[:, None, None] / 2).square()
    )[:, None]


def mouth_opening(model, frames: np.ndarray, points: np.ndarray, count: int = 4) -> dict[str, float]:
    """How much of a mouth's opening is shown.

    Args:
        frames: uint8 RGB (T, S, S, 3).
        points: (T, K, 2) in pixels, detected in them.

    Returns:
        "lip gap px", between its 2nd and 98th percentile; "lip gap", the same over the mouth's
        width; and where that is at least `OPENS`, "open mouth response": of `count` frames with the
        widest gap, from one with a small one.
    """
    left, right, upper, lower = (points[:, LANDMARKS.index(name)] for name in MOUTH)
    gap = np.linalg.norm(lower - upper, axis=-1)
    low, high = np.percentile(gap, (2, 98))
    width = float(np.median(np.linalg.norm(right - left, axis=-1)))
    figures = {"lip gap px": float(high - low), "lip gap": float((high - low) / max(width, 1.0))}
    if figures["lip gap"] >= OPENS:
        order = np.argsort(gap)
        shut, wide = order[len(order) // 20], order[-count:]
        figures["open mouth response"] = reconstruction(model, frames[shut : shut + 1], frames[wide])[
            "mouth response"
        ]
    return figures
