"""Keypoints' motion and the model's dense motion against optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from livepuppet.train.metrics.faces.clips import FaceClip, middle
from livepuppet.train.metrics.inference import device_of, evaluating, to_batch

#: Keypoints left out of the face's mean motion: they are often covered, or, the irises, move by
#: themselves.
NOT_FACE = ("collar", "chin", "forehead", "iris")


@dataclass(frozen=True)
class Followed:
    """What keypoints did, and what optical flow says they should have done. In pixels of the
    model's images.

    Attributes:
        face, face_flow: (N, 2) mean motion of the keypoints, and of the flow in the inner face.
        points, flow: (N, K, 2) each keypoint's motion, and the flow at its place.
        believed: bool (N, K), whether the flow there is to be believed.
        error, still_error: end-point error of the model's dense motion, and of none, in the middle
            of the image.
        names: of the keypoints.
    """

    face: np.ndarray
    face_flow: np.ndarray
    points: np.ndarray
    flow: np.ndarray
    believed: np.ndarray
    error: float | None
    still_error: float
    names: tuple[str, ...]


@torch.no_grad()
def follow(model, clip: FaceClip) -> Followed:
    """Let a model watch the pairs of a clip; its dense motion is that from the earlier frame, as
    source, to the later.
    """
    size, device = clip.frames.shape[1], device_of(model)
    half, inside = (size - 1) / 2, middle(size)
    names = tuple(getattr(model.preset, "keypoint_names", ()) or ())
    facial = [k for k, name in enumerate(names) if not any(word in name for word in NOT_FACE)]
    earlier, later, errors, still = [], [], [], []
    place = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).astype(np.float32)
    with evaluating(model):
        for k, first in enumerate(clip.first):
            source, driving = (
                to_batch(clip.frames[number : number + 1]).to(device) for number in (first, first + clip.step)
            )
            own, moved = model.detect(source), model.detect(driving)
            earlier.append((own[0][0].float().cpu().numpy() + 1) * half)
            later.append((moved[0][0].float().cpu().numpy() + 1) * half)
            counts = inside & clip.back_agrees[k]
            if not counts.any():
                continue
            still.append(np.linalg.norm(clip.back[k][counts], axis=-1).mean())
            output = model.render(model.encode(source), *own, *moved)
            if "deformation" in output:
                flow = output["deformation"].float().cpu().permute(0, 3, 1, 2)
                flow = torch.nn.functional.interpolate(
                    flow, (size, size), mode="bilinear", align_corners=True
                )
                shown = (flow[0].permute(1, 2, 0).numpy() + 1) * half - place
                errors.append(np.linalg.norm(shown - clip.back[k], axis=-1)[counts].mean())
    earlier, later = np.stack(earlier), np.stack(later)
    cells = earlier.round().clip(0, size - 1).astype(int)
    rows = np.arange(len(cells))[:, None]
    chosen = facial or list(range(earlier.shape[1]))
    return Followed(
        face=(later - earlier)[:, chosen].mean(1),
        face_flow=_inner_flow(clip, earlier[:, chosen]),
        points=later - earlier,
        flow=clip.there[rows, cells[..., 1], cells[..., 0]],
        believed=clip.there_agrees[rows, cells[..., 1], cells[..., 0]],
        error=float(np.mean(errors)) if errors else None,
        still_error=float(np.mean(still)) if still else 0.0,
        names=names,
    )


def _inner_flow(clip: FaceClip, points: np.ndarray) -> np.ndarray:
    """Mean flow (N, 2) in the box of facial keypoints (N, k, 2) in pixels, where it is to be
    believed.
    """
    size, found = clip.frames.shape[1], []
    for k, one in enumerate(points):
        low = np.floor(one.min(0)).clip(0, size - 2).astype(int)
        high = np.maximum(np.ceil(one.max(0)).clip(0, size - 1).astype(int), low + 1)
        box = slice(low[1], high[1] + 1), slice(low[0], high[0] + 1)
        flow, believed = clip.there[k][box], clip.there_agrees[k][box]
        found.append(flow[believed].mean(0) if believed.any() else flow.mean((0, 1)))
    return np.stack(found)


def flow_correlation(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Correlation (Pearson's) and slope (through the origin: 1 is as far as the flow) of motions
    (N, 2), across and down.
    """
    figures = {}
    for axis, name in enumerate("xy"):
        a, b = found[:, axis].astype(np.float64), true[:, axis].astype(np.float64)
        spread = a.std() * b.std()
        across = ((a - a.mean()) * (b - b.mean())).mean()
        figures[f"correlation {name}"] = float(across / spread) if spread > 1e-9 else 0.0
        figures[f"slope {name}"] = float((a * b).sum() / max(float((b * b).sum()), 1e-9))
    return figures


def pooled(followed: Sequence[Followed]) -> dict[str, float]:
    """Agreement over the pairs of all clips, of the face as a whole and of single keypoints, and
    mean end-point errors.
    """
    figures = flow_correlation(
        np.concatenate([one.face for one in followed]), np.concatenate([one.face_flow for one in followed])
    )
    single = flow_correlation(
        np.concatenate([one.points[one.believed] for one in followed]),
        np.concatenate([one.flow[one.believed] for one in followed]),
    )
    figures |= {f"single {name}": value for name, value in single.items()}
    errors = [one.error for one in followed if one.error is not None]
    if errors:
        figures["flow error px"] = float(np.mean(errors))
    figures["no motion px"] = float(np.mean([one.still_error for one in followed]))
    return figures


def by_keypoint(followed: Sequence[Followed]) -> dict[str, dict[str, float]]:
    """Agreement of each keypoint over the pairs of all clips."""
    table = {}
    for k, name in enumerate(followed[0].names):
        rows = [(one.points[one.believed[:, k], k], one.flow[one.believed[:, k], k]) for one in followed]
        found, true = (np.concatenate([row[side] for row in rows]) for side in (0, 1))
        if len(found):
            table[name] = flow_correlation(found, true)
    return table
