"""Sharp sampling at the price of a linear one."""

from __future__ import annotations

import cv2
import numpy as np

#: Pixels of the largest picture that is enlarged.
LARGEST = 120_000


class Sampler:
    """A picture that is sampled at other places in every frame.

    OpenCV's cubic remap takes fifteen times as long as its linear one (10 ms and 0.6 for 325 x 456 pixels on one core). A
    linear sample of the picture enlarged twice, cubically and once, is nearly as sharp; four channels are faster than three.

    Large pictures are not enlarged: their pixels are finer than their edges, and would not fit into a core's cache.

    Args:
        picture: uint8 RGB (h, w, 3).
    """

    def __init__(self, picture: np.ndarray):
        self._times = 2 if picture.shape[0] * picture.shape[1] <= LARGEST else 1
        if self._times > 1:
            picture = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        self._pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The colours at pixels (x, y), float32 (h, w) each: uint8 (h, w, 4), the last channel of no meaning."""
        if self._times > 1:
            # Pixel centres: the first one of two lies a quarter before.
            x, y = 2 * x + np.float32(0.5), 2 * y + np.float32(0.5)
        return cv2.remap(self._pixels, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
