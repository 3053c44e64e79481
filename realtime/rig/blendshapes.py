"""Amounts of the mouth by its points: blendshapes, fitted.

Points of a close-up are read more exactly than amounts are (rendered people: within .01 face units, where a whole frown lowers a corner by
.09), and a unit of ARKit's moves the lips of all people alike. So amounts are those that put the driver's neutral lips where the lips are
seen, a regularised non-negative least squares; what the network says of amounts is where they are drawn to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from livepuppet.core.reading import FaceReading
from livepuppet.realtime.rig.pose import joined

#: How far a point may be off, in face units, and by how much an amount may differ from what the network says.
POINT_NOISE, AMOUNT_NOISE = 0.02, 0.25

#: The same of what is measured in another way beside: openings, and how far a mouth is drawn aside.
MEASURED_NOISE = 0.06

#: Amounts below this are noise.
LEAST = 0.04

#: Highest amount.
MOST = 1.6

#: Steps of the solver: accelerated projected gradients.
STEPS = 24


@dataclass(frozen=True, eq=False)
class MouthBlendshapes:
    """What expression units do to `MOUTH_POINTS` of an average face, in face units: x to the picture's right, y down, z towards the viewer.

    Attributes:
        names: of the U units.
        moves: float64 (U, 20, 3), of each at 1.
        depth: float64 (20,), z of the points at rest.
    """

    names: tuple[str, ...]
    moves: np.ndarray
    depth: np.ndarray


@cache
def mouth_blendshapes() -> MouthBlendshapes:
    """Those that come with livepuppet (MakeHuman's expression units, CC0; see `data/rig/README.md`)."""
    path = Path(__file__).parent.parent / "data" / "rig" / "mouth-blendshapes.npz"
    with np.load(path) as data:
        names = tuple(str(name) for name in data["names"])
        # What is less is nobody's.
        moves, depth = (data[name].astype(np.float64).round(4) for name in ("moves", "depth"))
        return MouthBlendshapes(names, moves, depth)


def fit(
    now: FaceReading, rest: FaceReading, prior: np.ndarray, noise: np.ndarray, lowest: np.ndarray
) -> np.ndarray:
    """Amounts of the units of `mouth_blendshapes`, float64 (U,).

    Args:
        now, rest: the face, and the same one at rest; both with lips.
        prior: (U,), what amounts are believed to be before lips have been looked at.
        noise: (U,), by how much.
        lowest: (U,), up to 0.
    """
    assert now.lips is not None and rest.lips is not None
    shapes = mouth_blendshapes()
    turned, before = (joined(np.array([-float(one.head[1]), float(one.head[0])]), 0.0) for one in (now, rest))
    # The neutral lips in space, and then as the head is turned now.
    flat = rest.lips.astype(np.float64) - shapes.depth[:, None] * before[:2, 2]
    neutral = np.column_stack([flat @ np.linalg.inv(before[:2, :2]).T, shapes.depth]) @ turned[:2].T
    # Where the crop lies tells nothing of the lips.
    moved = _centred(now.lips - neutral).ravel()
    moves = _centred(shapes.moves @ turned[:2].T).reshape(len(prior), -1)
    weight = np.square(POINT_NOISE / noise)
    matrix = moves @ moves.T
    matrix[np.diag_indices(len(prior))] += weight
    target = moves @ moved + weight * prior - LEAST * np.square(POINT_NOISE / AMOUNT_NOISE)
    step = 1 / np.abs(matrix).sum(1).max()
    matrix *= step
    target *= step
    found = ahead = np.clip(prior, lowest, MOST)
    pace = 1.0
    for _ in range(STEPS):
        after = np.minimum(np.maximum(ahead - matrix @ ahead + target, lowest), MOST)
        further = 0.5 + 0.5 * float(np.sqrt(1 + 4 * pace * pace))
        ahead = after + ((pace - 1) / further) * (after - found)
        found, pace = after, further
    return found


def _centred(points: np.ndarray) -> np.ndarray:
    return points - points.mean(-2, keepdims=True)
