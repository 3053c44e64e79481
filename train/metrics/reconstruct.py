"""Reconstruction and animation of clips: the frames that every metric is computed on (FOMM and
Monkey-Net, section 4).

*Reconstruction*: the clip's first frame is the source, each of its frames is the driving one,
keypoints are taken as they are; the truth is the driving frame. *Animation*: the source is the
first frame of another clip, keypoints move relatively (FOMM, Eq. 14-15; Monkey-Net, Eq. 7); there
is no truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.core.matrices import Matrices
from livepuppet.model.geometry import warp
from livepuppet.model.transfer import transfer

#: Fields of a `ClipResult` that not every model and mode has.
OPTIONAL = ("deformation", "l1", "copy", "warp")


@dataclass(frozen=True)
class ClipResult:
    """One clip as a model shows it. Images are RGB uint8, keypoints (x, y) in [-1, 1].

    Attributes:
        name: of the clip, or of the pair.
        source: (S, S, 3).
        driving, result: (T, S, S, 3).
        source_points (K, 2), driving_points (T, K, 2): as detected; `moved_points` (T, K, 2): as
            rendered.
        deformation: float32 (T, h, w, 2), where in the source each pixel comes from; None where the
            model has none.
        l1, copy: (T,) mean absolute difference to the driving frame, images in [0, 1], of the
            result before it is rounded and of the source; None in animation, where the driving
            frame is not the truth.
        warp: as `l1`, of the source under the deformation alone; None too where there is no
            deformation.
        relative: whether keypoints were moved relatively; None in reconstruction.
        truth: (T, L, 2) exact landmarks of the driving frames, (x, y) in pixels; None where nobody
            knows them.
    """

    name: str
    source: np.ndarray
    driving: np.ndarray
    result: np.ndarray
    source_points: np.ndarray
    driving_points: np.ndarray
    moved_points: np.ndarray
    deformation: np.ndarray | None
    l1: np.ndarray | None = None
    copy: np.ndarray | None = None
    warp: np.ndarray | None = None
    relative: bool | None = None
    truth: np.ndarray | None = None


def to_tensor(images: np.ndarray, like: Tensor) -> Tensor:
    """RGB uint8 (B, S, S, 3) to float (B, 3, S, S) in [0, 1], where `like` is."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(like.device)
    return batch.permute(0, 3, 1, 2).to(like.dtype) / 255


def to_images(batch: Tensor) -> np.ndarray:
    """Float (B, 3, S, S) in [0, 1] to RGB uint8 (B, S, S, 3)."""
    return (batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def show(
    model,
    name: str,
    source: np.ndarray,
    driving: np.ndarray,
    mode: str = "reconstruction",
    batch: int = 8,
    truth: np.ndarray | None = None,
) -> ClipResult:
    """Render a clip.

    Args:
        model: of `presets.build`, in evaluation mode, on any device.
        name: what to call it.
        source: RGB uint8 (S, S, 3).
        driving: RGB uint8 (T, S, S, 3); its first frame is D1.
        mode: "reconstruction" (driving frames are the truth, keypoints absolute), "relative" or
            "absolute".
        batch: frames at a time.
        truth: exact landmarks of the driving frames, passed on.
    """
    like = next(model.parameters())
    avatar = to_tensor(source[None], like)
    features, own = model.encode(avatar), model.detect(avatar)
    matrices: Matrices = getattr(model.preset, "matrices", "jacobian")
    initial = None
    parts: dict[str, list[np.ndarray]] = {
        key: [] for key in ("result", "driving", "moved", "deformation", "l1", "copy", "warp")
    }
    for start in range(0, len(driving), batch):
        frames = to_tensor(driving[start : start + batch], like)
        count = len(frames)
        found = model.detect(frames)
        if initial is None:
            initial = tuple(part[:1] for part in found)
        moved = found
        if mode == "relative":
            # Covariances are the driver's own, as in Monkey-Net's published settings.
            moved = transfer(found, initial, own, matrices=matrices, variance="driving")
        output = model.render(
            {key: value.expand(count, *value.shape[1:]) for key, value in features.items()},
            *(part.expand(count, *part.shape[1:]) for part in own),
            *moved,
        )
        prediction, deformation = output["prediction"], output.get("deformation")
        parts["result"].append(to_images(prediction))
        parts["driving"].append(found[0].float().cpu().numpy())
        parts["moved"].append(moved[0].float().cpu().numpy())
        if deformation is not None:
            parts["deformation"].append(deformation.float().cpu().numpy())
        if mode == "reconstruction":
            parts["l1"].append(_difference(prediction, frames))
            parts["copy"].append(_difference(avatar, frames))
            bent = bare_warp(output, avatar)
            if bent is not None:
                parts["warp"].append(_difference(bent, frames))
    optional = {key: np.concatenate(parts[key]) if parts[key] else None for key in OPTIONAL}
    return ClipResult(
        name=name,
        source=source,
        driving=driving,
        result=np.concatenate(parts["result"]),
        source_points=own[0][0].float().cpu().numpy(),
        driving_points=np.concatenate(parts["driving"]),
        moved_points=np.concatenate(parts["moved"]),
        deformation=optional["deformation"],
        l1=optional["l1"],
        copy=optional["copy"],
        warp=optional["warp"],
        relative=None if mode == "reconstruction" else mode == "relative",
        truth=truth,
    )


def bare_warp(output: dict[str, Tensor], avatar: Tensor) -> Tensor | None:
    """The source (1 or B, 3, S, S) under a render's deformation alone, nothing painted: (B, 3, S,
    S), or None.
    """
    if "warped" in output and output["warped"].shape[-2:] == avatar.shape[-2:]:
        return output["warped"]
    if "deformation" not in output:
        return None
    grid = F.interpolate(
        output["deformation"].permute(0, 3, 1, 2), avatar.shape[-2:], mode="bilinear", align_corners=True
    ).permute(0, 2, 3, 1)
    return warp(avatar.expand(len(grid), *avatar.shape[1:]), grid)


def _difference(images: Tensor, truth: Tensor) -> np.ndarray:
    """Mean absolute difference per frame, in float64 so that no sum over a large set drifts."""
    return (images - truth).abs().double().mean((1, 2, 3)).cpu().numpy()
