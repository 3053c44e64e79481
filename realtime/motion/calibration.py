"""How well the driver's pose fits the avatar's, and which frame to take as D1.

Relative motion (Eq. 14-15) shows the driver's movement *since D1* on the avatar. Where D1 is tilted, looks aside, has
its mouth open or its eyes shut, everything that follows is wrong by that much. So the best of several frames is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.eyes import lid_pairs, openings
from livepuppet.realtime.motion.parts import median

#: Differences in pose that bring the fit down to exp(-1/2), each of its own kind: tilt in radians; where the nose is
#: between the eyes, and how far down to the mouth, in eye distances; opening of the mouth in mouth widths; opening of
#: the eyes as a share; the whole shape, over its size. People and avatars differ in all but the first by nature, which
#: the *free* amounts allow for.
TOLERANCES = {"tilt": 0.15, "aside": 0.12, "nod": 0.14, "mouth": 0.15, "eyes": 0.35, "shape": 0.25}
FREE = {"tilt": 0.02, "aside": 0.02, "nod": 0.05, "mouth": 0.03, "eyes": 0.1, "shape": 0.12}

#: Eyes this far open (in eye distances) are open, whatever the avatar's are.
ORDINARY_EYES = 0.13

#: Mean confidence from which on it does not matter any more.
SURE = 0.7


@dataclass(frozen=True)
class PoseIndices:
    """Where the landmarks that tell a pose are among the keypoints."""

    lids: np.ndarray
    irises: tuple[int, int]
    nose: int
    corners: tuple[int, int]
    lips: tuple[int, int]


def pose_indices(names: Sequence[str]) -> PoseIndices | None:
    """Indices of the landmarks by name, or None where one is missing."""
    names = list(names)
    lids = lid_pairs(names)
    try:
        return PoseIndices(
            lids,
            (names.index("left iris"), names.index("right iris")),
            names.index("nose tip"),
            (names.index("left mouth corner"), names.index("right mouth corner")),
            (names.index("upper lip"), names.index("lower lip")),
        )
    except ValueError:
        return None


def pose(points: np.ndarray, where: PoseIndices) -> dict[str, float]:
    """What a face of `points` (K, 2) does, whatever its place and size.

    Returns:
        tilt: of the line between the eyes, radians. aside: of the nose from the middle of the face, in eye distances,
        as when the head turns. nod: of the nose between eyes and mouth, 0 to 1. mouth: its opening in mouth widths.
        eyes: their opening in eye distances, the less open one.
    """
    eyes = points[where.lids].astype(np.float64).sum(axis=1) / 2
    middle, line = (eyes[0] + eyes[1]) / 2, eyes[1] - eyes[0]
    length = max(float(np.hypot(*line)), 1e-6)
    along = line / length
    down = np.array([-along[1], along[0]])
    corners = points[list(where.corners)].astype(np.float64)
    mouth, nose = (corners[0] + corners[1]) / 2 - middle, points[where.nose] - middle
    depth = mouth @ down
    depth = np.copysign(max(abs(depth), 0.1 * length), depth)
    width = max(float(np.hypot(*(corners[1] - corners[0]))), 0.2 * length)
    gap = (points[where.lips[1]] - points[where.lips[0]]) @ down
    return {
        "tilt": float(np.arctan2(line[1], line[0])),
        # Half the way down, the middle of a face that looks straight is half the way from the eyes' to the mouth's.
        "aside": float((nose - mouth / 2) @ along / length),
        "nod": float(nose @ down / depth),
        "mouth": float(gap / width),
        "eyes": float(openings(points, where.lids).min()),
    }


def normal_shape(points: np.ndarray) -> np.ndarray:
    """`points` (K, 2) moved to mean 0 and RMS radius 1."""
    away = points - points.sum(axis=0) / len(points)
    return away / max(float(np.sqrt((away * away).sum() / len(away))), 1e-6)


def shape_distance(points: np.ndarray, other: np.ndarray) -> float:
    """Median distance between two keypoint sets (K, 2), each moved to mean 0 and RMS radius 1.

    Procrustes without the rotation, which counts as misfit: a head tilted in D1 tilts all that follows. The median,
    because some keypoints (a collar, a chin under a beard) say little about the pose.
    """

    off = normal_shape(points) - normal_shape(other)
    return median(np.hypot(off[:, 0], off[:, 1]))


class Fit:
    """Scores drivers' poses against one avatar's.

    Args:
        avatar: keypoints of the still picture.
        names: of the keypoints; without them only the whole shape counts.
    """

    def __init__(self, avatar: Keypoints, names: Sequence[str] = ()):
        self._points = avatar.points
        self._where = pose_indices(names)
        self._pose = pose(avatar.points, self._where) if self._where else None

    def misfits(self, driving: Keypoints) -> dict[str, float]:
        """Differences of the driver's pose from the avatar's, in units of `TOLERANCES` beyond `FREE`; 0 is none."""
        differences = {"shape": shape_distance(driving.points, self._points)}
        if self._where:
            now = pose(driving.points, self._where)
            for name in ("tilt", "aside", "nod", "mouth"):
                differences[name] = now[name] - self._pose[name]
            # As wide as the avatar's would ask the impossible of small eyes: only eyes nearly shut are a fault.
            wanted = min(self._pose["eyes"], ORDINARY_EYES)
            differences["eyes"] = max(0.0, 1 - now["eyes"] / wanted) if wanted > 0.05 else 0.0
        return {
            name: max(0.0, abs(value) - FREE[name]) / TOLERANCES[name] for name, value in differences.items()
        }

    def __call__(self, driving: Keypoints) -> float:
        """The fit in [0, 1]: exp(-1/2 sum of squared misfits), times how sure the detector is where it says so."""
        total = sum(value * value for value in self.misfits(driving).values())
        sure = 1.0 if driving.confidence is None else min(1.0, float(np.mean(driving.confidence)) / SURE)
        return float(np.exp(-0.5 * total)) * sure


@dataclass
class BestFrame:
    """The best of the frames it is shown.

    Attributes:
        fit: of the best so far; -1 before the first.
        keypoints: of the best so far.
    """

    fit: float = -1.0
    keypoints: Keypoints | None = field(default=None)

    def show(self, keypoints: Keypoints, fit: float) -> None:
        """Consider one more frame."""
        if fit > self.fit:
            self.fit, self.keypoints = fit, keypoints
