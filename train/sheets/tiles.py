"""Images side by side: conversion, labels, tiles, and the PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from livepuppet.core.images import write_png

#: Side of an image on a sheet of many, in pixels.
SIDE = 176


def to_image(batch: Tensor) -> np.ndarray:
    """(B, 3, H, W) RGB in [0, 1] to uint8 RGB (H, B * W, 3), side by side."""
    images = (batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.concatenate(list(images), axis=1)


def write(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB as a PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, image)


def labelled(image: np.ndarray, text: str) -> np.ndarray:
    """A copy of uint8 RGB (H, W, 3) with a short text in its upper left corner, white with a dark
    edge.
    """
    image = np.ascontiguousarray(image)
    if image.flags.writeable is False or image.base is not None:
        image = image.copy()
    scale = image.shape[0] / 360
    place = (round(14 * scale), round(38 * scale))
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
    return image


def small(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A square image uint8 RGB brought to (side, side, 3)."""
    if image.shape[0] == side:
        return image
    way = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(image, (side, side), interpolation=way)


def tiled(rows: Sequence[Sequence[np.ndarray | None]], side: int = SIDE, line: int = 2) -> np.ndarray:
    """Square images uint8 RGB in rows and columns, thin white lines between them; None leaves a
    place white.
    """
    height = len(rows) * (side + line) - line
    width = max(len(row) for row in rows) * (side + line) - line
    sheet = np.full((height, width, 3), 255, np.uint8)
    for top, row in enumerate(rows):
        for left, image in enumerate(row):
            if image is not None:
                y, x = top * (side + line), left * (side + line)
                sheet[y : y + side, x : x + side] = small(image, side)
    return sheet
