"""A still picture as a webcam has it from frame to frame."""

from __future__ import annotations

import cv2
import numpy as np

#: A webcam indoors: noise of reading (levels of 255), of light (its square per level), the lamp's
#: flicker (share).
READ_NOISE, LIGHT_NOISE, FLICKER = 2.0, 0.12, 0.006
JPEG_QUALITY = 80


def camera_noise(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """`picture` uint8 RGB (H, W, 3) as a webcam would have it once more: noise, flicker, JPEG."""
    light = picture.astype(np.float32) * (1 + random.normal(0, FLICKER))
    deviation = np.sqrt(READ_NOISE**2 + LIGHT_NOISE * np.maximum(light, 0))
    noisy = light + deviation * random.standard_normal(picture.shape, np.float32)
    noisy = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])
