"""Clips of procedural puppets with exact landmarks: AKD against the truth instead of a detector's
opinion.
"""

from __future__ import annotations

import numpy as np

from livepuppet.train.metrics.reconstruct import to_images
from livepuppet.train.puppets.identities import draw_identities, generator, scripted_clip
from livepuppet.train.puppets.renderer import render


class PuppetClips:
    """Performances of puppets, rendered on demand; an `evaluation.Clips`.

    Args:
        size: S, in pixels.
        seed: of identities and performances; never one of training.
        clips: how many.
        length: frames of each, at `RATE`.
    """

    #: Frames a second.
    RATE = 12

    def __init__(self, size: int, seed: int, clips: int = 12, length: int = 36):
        self.size, self.seed, self.length = size, seed, length
        self.identities = draw_identities(clips, generator(seed))
        self.names = [f"puppet {k} of seed {seed}" for k in range(clips)]
        self.skipped: list[str] = []
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, k: int) -> np.ndarray:
        """RGB uint8 (T, S, S, 3)."""
        return self._clip(k)[0]

    def truth(self, k: int) -> np.ndarray:
        """Exact landmarks (T, 16, 2) of `model.lite.LANDMARKS`, (x, y) in pixels."""
        return self._clip(k)[1]

    def _clip(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self._drawn is None or self._drawn[0] != k:
            motion = scripted_clip(self.length, self.RATE, self.seed + k)
            one = self.identities[k : k + 1]
            drawn = [render(one, motion[t : t + 1], self.size) for t in range(self.length)]
            images = np.concatenate([to_images(part.picture) for part in drawn])
            points = np.concatenate([part.points.numpy() for part in drawn])
            self._drawn = (k, images, (points.astype(np.float64) + 1) * (self.size - 1) / 2)
        return self._drawn[1:]
