"""All metrics of one clip of a face."""

from __future__ import annotations

import numpy as np

from livepuppet.train.metrics.faces.clips import FaceClip, subsample
from livepuppet.train.metrics.faces.following import Followed, pooled
from livepuppet.train.metrics.faces.reconstruction import mouth_opening, reconstruction
from livepuppet.train.metrics.faces.stability import detect_all, noise_jitter, shuffled, still_drift
from livepuppet.train.metrics.inference import optical_flow


def clip_metrics(
    model, clip: FaceClip, followed: Followed, count: int = 24
) -> dict[str, float | bool | None]:
    """All figures of one clip; names with "px" are in pixels of the model's images. What cannot be
    said is left out.
    """
    points, confidence = detect_all(model, clip.frames)
    row: dict[str, float | bool | None] = {"frames": len(clip.frames), "movement px": clip.movement}
    row |= reconstruction(model, clip.frames[:1], subsample(clip.frames[1:], count))
    row |= pooled([followed])
    row["moves"] = clip.moves
    row["better than no motion"] = None
    if clip.moves and followed.error is not None:
        row["better than no motion"] = followed.error < followed.still_error
    row |= mouth_opening(model, clip.frames, points)
    row["still wander px"] = still_drift(points, optical_flow(clip.frames))
    row["noise wander px"] = noise_jitter(model, clip.frames[0])
    if confidence is not None:
        row["confidence"] = float(confidence.mean())
        tiles = np.stack([shuffled(frame) for frame in subsample(clip.frames, 3)])
        shuffled_confidence = detect_all(model, tiles)[1]
        assert shuffled_confidence is not None
        row["confidence, shuffled"] = float(shuffled_confidence.mean())
    return {name: value for name, value in row.items() if value is not None}
