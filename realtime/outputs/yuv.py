"""YUV 4:2:0, as cameras deliver and video programs read it."""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.core.errors import UserError

#: Layouts: three planes, or the luma plane and one of U and V in turn.
LAYOUTS = ("i420", "nv12")


class Yuv420:
    """Turns RGB into YUV 4:2:0 in one buffer that is used again and again.

    OpenCV's matrix is ITU-R BT.601 in limited range (Y 16..235, U and V 16..240). That is what
    readers of webcams assume, as no tag travels with the pictures.

    Args:
        width, height: even, in pixels.
        layout: `i420` (Y, then U, then V) or `nv12` (Y, then U and V in turn).

    Attributes:
        data: uint8 (height * 3 / 2, width), contiguous: the planes one after the other. Black
            before the first picture.
        luma: its first plane, uint8 (height, width).

    Raises:
        UserError: for odd sizes.
    """

    def __init__(self, width: int, height: int, layout: str = "i420"):
        if width % 2 or height % 2:
            raise UserError(f"The size {width}x{height} cannot be sent: give even numbers, as in 1280x720.")
        if layout not in LAYOUTS:
            raise UserError(f"There is no pixel format '{layout}': give {' or '.join(LAYOUTS)}.")
        self.layout = layout
        self.data = np.full((height * 3 // 2, width), 128, np.uint8)
        self.luma = self.data[:height]
        self.luma[:] = 16
        self._planar = self.data if layout == "i420" else self.data.copy()
        half = height // 2, width // 2
        self._chroma = list(self._planar[height:].reshape(2, *half))
        self._interleaved = self.data[height:].reshape(*half, 2)

    def convert(self, picture: np.ndarray) -> np.ndarray:
        """Fill `data` with uint8 RGB (height, width, 3), and return it."""
        cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420, dst=self._planar)
        if self.layout == "nv12":
            np.copyto(self.luma, self._planar[: len(self.luma)])
            cv2.merge(self._chroma, self._interleaved)
        return self.data
