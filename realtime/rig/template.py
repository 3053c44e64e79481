"""A generic head in space: what is known of depth before any picture has been looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

#: Steps of the stored numbers per eye distance.
_POINT_STEPS, _NORMAL_STEPS = 2000.0, 127.0


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """An average head, in units of its eye distance: x to the picture's right, y down, z towards the viewer.

    Attributes:
        points: float64 (N, 3), the outer surface of face, skull and ears, about evenly; the origin lies between the irises.
        normals: float64 (N, 3), outward.
        landmarks: keypoint's name -> float64 (3,); "left" is the picture's left.
    """

    points: np.ndarray
    normals: np.ndarray
    landmarks: dict[str, np.ndarray]


@cache
def head_template() -> HeadTemplate:
    """The head that comes with livepuppet (MakeHuman's base mesh, CC0; see `data/rig/README.md`)."""
    path = Path(__file__).parent.parent / "data" / "rig" / "head.npz"
    with np.load(path) as data:
        names = [str(name) for name in data["names"]]
        landmarks = data["landmarks"] / _POINT_STEPS
        return HeadTemplate(
            data["points"] / _POINT_STEPS,
            data["normals"] / _NORMAL_STEPS,
            dict(zip(names, landmarks, strict=True)),
        )
