"""Sheets of what was shown: columns of clips, rows of source, driving and result with the keypoints
drawn.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from livepuppet.train.metrics.reconstruct import ClipResult

#: Images smaller than this are enlarged to it, by whole factors, so that keypoints can be told
#: apart.
SMALLEST_SIDE = 128


def sheet(shown: Sequence[ClipResult], moments: int = 2) -> np.ndarray:
    """RGB uint8: for each clip `moments` columns, frames at even distances, the last one included.

    Rows: source with its keypoints, driving frame with its own, result with those it was rendered
    with, result alone.
    """
    columns = []
    for one in shown:
        for t in np.linspace(0, len(one.result) - 1, moments + 1).round().astype(int)[1:]:
            columns.append(
                np.concatenate(
                    [
                        _with_points(one.source, one.source_points),
                        _with_points(one.driving[t], one.driving_points[t]),
                        _with_points(one.result[t], one.moved_points[t]),
                        _with_points(one.result[t], np.zeros((0, 2))),
                    ]
                )
            )
    return np.concatenate(columns, axis=1)


def _with_points(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    side = image.shape[0]
    factor = max(1, -(-SMALLEST_SIDE // side))
    drawn = np.ascontiguousarray(image.repeat(factor, 0).repeat(factor, 1))
    for k, (x, y) in enumerate(np.nan_to_num(points)):
        hue = colorsys.hsv_to_rgb(k / len(points), 1.0, 1.0)
        centre = [
            round(float(np.clip(value, -2, 2) + 1) / 2 * (side - 1) * factor + (factor - 1) / 2)
            for value in (x, y)
        ]
        cv2.circle(drawn, centre, 4, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(drawn, centre, 3, tuple(round(255 * part) for part in hue), -1, cv2.LINE_AA)
    drawn[:, -1] = drawn[-1] = 64  # a thin line between images on black
    return drawn
