"""What a model in training shows: source, driving, result, what moves and what is hidden."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import warp

#: Narrower images are enlarged to this on the sheet, so that keypoints can be told apart.
SHOWN = 128


@torch.no_grad()
def motion_sheet(model, source: Tensor, driving: Tensor) -> np.ndarray:
    """A sheet of how `model` reconstructs driving frames, uint8 RGB (rows * S', B * S', 3).

    Rows: source and driving with their keypoints, the result, the source under the dense motion
    alone, and the occlusion map where the model has one (white: the source shows it).

    Args:
        model: with the three calls; its mode is left as it was found.
        source, driving: (B, 3, S, S) RGB in [0, 1], on any device.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    source, driving = source.to(device), driving.to(device)
    source_keypoints, keypoints = model.detect(source), model.detect(driving)
    output = model.render(model.encode(source), *source_keypoints, *keypoints)
    for module, training in modes.items():
        module.training = training
    rows = [
        _with_keypoints(_enlarged(source), source_keypoints[0]),
        _with_keypoints(_enlarged(driving), keypoints[0]),
        _row(_enlarged(output["prediction"])),
        _row(_enlarged(warp(source, _full_size(output["deformation"].float(), source), "border"))),
    ]
    if "occlusion_map" in output:
        rows.append(_row(_enlarged(output["occlusion_map"].float().expand(-1, 3, -1, -1), source.shape[-1])))
    return np.concatenate(rows, axis=0)


def _full_size(deformation: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(
        deformation.permute(0, 3, 1, 2), size=image.shape[2:], mode="bilinear", align_corners=True
    ).permute(0, 2, 3, 1)


def _enlarged(images: Tensor, side: int | None = None) -> Tensor:
    side = max(side or images.shape[-1], SHOWN)
    if images.shape[-1] == side:
        return images.float().cpu()
    return F.interpolate(images.float().cpu(), size=(side, side), mode="nearest")


def _row(images: Tensor) -> np.ndarray:
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.concatenate(list(pixels), axis=1)


def _with_keypoints(images: Tensor, points: Tensor) -> np.ndarray:
    row = np.ascontiguousarray(_row(images))
    side = images.shape[-1]
    pixels = (points.float().cpu().numpy() + 1) * (side - 1) / 2
    count = points.shape[1]
    hues = np.stack([np.arange(count) * (180 / count), np.full(count, 255), np.full(count, 255)], -1)
    colours = cv2.cvtColor(hues.astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0].tolist()
    for column, those in enumerate(pixels):
        for (x, y), colour in zip(those, colours, strict=True):
            centre = (round(float(x)) + column * side, round(float(y)))
            cv2.circle(row, centre, 4, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(row, centre, 3, colour, -1, cv2.LINE_AA)
    return row
