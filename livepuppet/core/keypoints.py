"""The value that travels between `detect` and `render`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livepuppet.core.reading import FaceReading


@dataclass(frozen=True)
class Keypoints:
    """Where the local motions sit in one picture, and their first-order part.

    Attributes:
        points: float32 (K, 2), (x, y) in [-1, 1]; -1 and 1 are the centres of the outermost pixels.
        jacobians: float32 (K, 2, 2), row-major d(x, y) / d(reference x, y) (FOMM, Eq. 4). Of models
            whose `Engine.matrices` is "covariance", the heat-maps' covariances in squared units
            instead (Monkey-Net, Eq. 2).
        confidence: float32 (K,) in [0, 1], how sure the detector is of each; None where the model
            does not say.
        reading: what close-ups of the face tell beside; None where nobody looked.
    """

    points: np.ndarray
    jacobians: np.ndarray
    confidence: np.ndarray | None = None
    reading: FaceReading | None = None
