"""Augmentation of pairs of frames, the same for both frames, as in FOMM's and Monkey-Net's
training.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augment:
    """How pairs are varied. The defaults are what every published schedule shares: both flips.

    Attributes:
        flip: mirror half of the pairs left to right.
        time_flip: exchange source and driving in half of the pairs; without it the source is the
            earlier frame.
        brightness, contrast, saturation: each is multiplied by a factor from [1 - x, 1 + x].
        hue: turned by a share of the colour circle from [-x, x], at most 0.5.
        resize: range of factors by which images are resized before the network's size is cut out
            again, at a random place (edges repeated where they became smaller). (1, 1) leaves them.
        rotation: turned by an angle from [-x, x] in degrees.
    """

    flip: bool = True
    time_flip: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    resize: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0

    def __call__(self, pair: np.ndarray, seed: int) -> np.ndarray:
        """Vary `pair` uint8 RGB (2, S, S, 3), source and driving, as `seed` says. The input stays
        as it is.
        """
        rng = np.random.default_rng(seed)
        # All numbers are drawn in any case, so that one setting does not change the others' draws.
        time_flip, flip = rng.random(2) < 0.5
        factors = rng.uniform(-1, 1, 4)
        scale, angle = rng.uniform(*self.resize), rng.uniform(-1, 1) * self.rotation
        place = rng.random(2)
        if self.time_flip and time_flip:
            pair = pair[::-1]
        if self.flip and flip:
            pair = pair[:, :, ::-1]
        if self.resize != (1.0, 1.0) or angle:
            pair = _moved(pair, scale, angle, place)
        if any((self.brightness, self.contrast, self.saturation, self.hue)):
            pair = self._jittered(pair, factors)
        return pair

    def _jittered(self, pair: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Colours, both frames in one go so that they stay alike."""
        count, size = pair.shape[:2]
        image = np.ascontiguousarray(pair).reshape(count * size, size, 3)
        brightness, contrast, saturation = (
            max(0.0, 1 + strength * draw)
            for strength, draw in zip(
                (self.brightness, self.contrast, self.saturation), draws[:3], strict=True
            )
        )
        # Brightness: c x. Contrast: c x + (1 - c) mean gray. Saturation: c x + (1 - c) gray(x). All
        # linear: one matrix.
        gray = np.array([0.299, 0.587, 0.114])
        matrix = saturation * np.eye(3) + (1 - saturation) * gray
        mean = float(np.array(cv2.mean(image)[:3]) @ gray) * brightness
        matrix = np.column_stack([contrast * brightness * matrix, np.full(3, (1 - contrast) * mean)])
        image = cv2.transform(image, matrix)
        turn = round(256 * self.hue * draws[3])
        if turn:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
            hsv[..., 0] += np.uint8(turn % 256)
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
        return image.reshape(pair.shape)


def _moved(pair: np.ndarray, scale: float, angle: float, place: np.ndarray) -> np.ndarray:
    """Both images resized by `scale`, turned by `angle` degrees and cut at `place` in [0, 1]^2, by
    one resampling.
    """
    size = pair.shape[1]
    middle = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    # The window may lie anywhere in the resized image, or that anywhere in the window where it is
    # the smaller one.
    matrix[:, 2] += (place - 0.5) * (size * (1 - scale))
    return np.stack(
        [
            cv2.warpAffine(
                frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            for frame in np.ascontiguousarray(pair)
        ]
    )
