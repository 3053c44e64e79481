"""An address as a QR code on the terminal, for a phone's camera."""

from __future__ import annotations

import cv2
import numpy as np

#: Upper and lower half of a character's cell: dark or light.
_HALVES = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}


def qr_code(text: str) -> str:
    """`text` as lines of half blocks, light on dark as terminals are, with its quiet zone."""
    modules = np.asarray(cv2.QRCodeEncoder.create().encode(text))
    light = np.pad(modules > 0, 3, constant_values=True).astype(int)
    light = np.pad(light, ((0, len(light) % 2), (0, 0)))
    return "\n".join(
        "".join(_HALVES[pair] for pair in zip(upper.tolist(), lower.tolist(), strict=True))
        for upper, lower in zip(light[::2], light[1::2], strict=True)
    )
