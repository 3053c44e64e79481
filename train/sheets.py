"""Picture sheets: what training and evaluation look like, as PNG files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from livepuppet.train.lite.animator import transfer
from livepuppet.train.lite.responses import Probe


def to_picture(batch: Tensor) -> np.ndarray:
    """(B, 3, H, W) RGB in [0, 1] to uint8 RGB (H, B * W, 3), side by side."""
    pictures = (batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.concatenate(list(pictures), axis=1)


def write(path: Path, picture: np.ndarray) -> None:
    """Write uint8 RGB as a PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")


@torch.no_grad()
def probe_sheet(model, probes: list[Probe], count: int = 2) -> np.ndarray:
    """A column per factor and puppet; rows: avatar, truth, driven by itself, by another puppet, the bare warp."""
    was = model.training
    model.eval()
    columns = []
    for probe in probes:
        for k in range(min(count, len(probe.source))):
            one = slice(k, k + 1)
            avatar, own = model.detect(probe.source[one]), model.detect(probe.truth[one])
            driver = model.detect(probe.driver[one]), model.detect(probe.driver_after[one])
            features = model.encode(probe.source[one])
            moved = model.render(features, *avatar, *own)
            across = model.render(features, *avatar, *transfer(avatar, *driver))["prediction"]
            shown = [
                probe.source[one],
                probe.truth[one],
                moved["prediction"],
                across,
                moved.get("warped", across),
            ]
            column = np.concatenate([to_picture(picture) for picture in shown], axis=0)
            column = np.ascontiguousarray(column)
            cv2.putText(
                column, probe.factor, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 4, cv2.LINE_AA
            )
            cv2.putText(
                column, probe.factor, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 1, cv2.LINE_AA
            )
            columns.append(column)
    model.train(was)
    return np.concatenate(columns, axis=1)
