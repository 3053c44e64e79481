"""How well the driver's pose fits the avatar's, and which frame to take as D1.

Relative motion (Eq. 14-15) shows the driver's movement *since D1* on the avatar. Where D1 is
tilted, looks aside, has its mouth open or its eyes shut, everything that follows is wrong by that
much. So the best of several frames is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.motion.eyes import lid_pairs, openings
from livepuppet.realtime.motion.parts import median

#: Differences in pose that bring the fit down to exp(-1/2), each of its own kind: tilt, turn and
#: nod in radians; opening of the mouth in mouth widths; opening of the eyes as a share; the whole
#: shape, over its size. People and avatars differ in all of them by nature, and detectors err,
#: which the *free* amounts allow for.
TOLERANCES = {"tilt": 0.12, "turn": 0.15, "nod": 0.12, "mouth": 0.15, "eyes": 0.35, "shape": 0.25}
FREE = {"tilt": 0.02, "turn": 0.04, "nod": 0.06, "mouth": 0.03, "eyes": 0.1, "shape": 0.12}

#: How a face turns and nods, read from where its landmarks are against the eyes, across and down,
#: in distances from the eyes to the mouth: what sticks out moves against what lies back. Least
#: squares over 3000 procedural puppets, whose pose is known; the turn explains 96 % of theirs, the
#: nod 61 %, since faces differ in length too.
TURN = {"nose tip": 0.89, "upper lip": 0.37, "chin": -0.58}
NOD = {"nose tip": 0.69, "chin": -0.20}

#: Eyes this far open (in eye distances) are open, whatever the avatar's are.
ORDINARY_EYES = 0.13

#: Mean confidence from which on it does not matter any more.
SURE = 0.7


@dataclass(frozen=True)
class PoseIndices:
    """Where the landmarks that tell a pose are among the keypoints."""

    lids: np.ndarray
    corners: tuple[int, int]
    upper_lip: int
    lower_lip: int
    turn: tuple[np.ndarray, np.ndarray]
    nod: tuple[np.ndarray, np.ndarray]


def pose_indices(names: Sequence[str]) -> PoseIndices | None:
    """Indices of the landmarks by name (and weights in `turn` and `nod`), or None where one is
    missing.
    """
    names = list(names)

    def weighted(weights: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([names.index(name) for name in weights]), np.array(list(weights.values()))

    lids = lid_pairs(names)
    if lids is None:
        return None
    try:
        corners = names.index("left mouth corner"), names.index("right mouth corner")
        lips = names.index("upper lip"), names.index("lower lip")
        return PoseIndices(lids, corners, *lips, weighted(TURN), weighted(NOD))
    except ValueError:
        return None


def pose(points: np.ndarray, where: PoseIndices) -> dict[str, float]:
    """What a face of `points` (K, 2) does, whatever its place and size.

    Returns:
        tilt, turn, nod: of the head, radians (nod but for a constant). mouth: its opening in mouth
        widths. eyes: their opening in eye distances, the less open one.
    """
    eyes = points[where.lids].astype(np.float64).sum(axis=1) / 2
    middle, line = (eyes[0] + eyes[1]) / 2, eyes[1] - eyes[0]
    length = max(float(np.hypot(*line)), 1e-6)
    along = line / length
    down = np.array([-along[1], along[0]])
    left, right = points[list(where.corners)].astype(np.float64)
    depth = max(float(((left + right) / 2 - middle) @ down), 0.3 * length)
    width = max(float(np.hypot(*(right - left))), 0.2 * length)
    gap = (points[where.lower_lip] - points[where.upper_lip]) @ down

    def read(weighted: tuple[np.ndarray, np.ndarray], axis: np.ndarray) -> float:
        indices, weights = weighted
        return float(weights @ ((points[indices] - middle) @ axis) / depth)

    return {
        "tilt": float(np.arctan2(line[1], line[0])),
        "turn": read(where.turn, along),
        "nod": read(where.nod, down),
        "mouth": float(gap / width),
        "eyes": float(openings(points, where.lids).min()),
    }


def normal_shape(points: np.ndarray) -> np.ndarray:
    """`points` (K, 2) moved to mean 0 and RMS radius 1."""
    away = points - points.sum(axis=0) / len(points)
    return away / max(float(np.sqrt((away * away).sum() / len(away))), 1e-6)


def shape_distance(points: np.ndarray, other: np.ndarray) -> float:
    """Median distance of `points` (K, 2), moved to mean 0 and RMS radius 1, from `other` (K, 2),
    which is so already.

    Procrustes without the rotation, which counts as misfit: a head tilted in D1 tilts all that
    follows. The median, because some keypoints (a collar, a chin under a beard) say little about
    the pose.
    """

    off = normal_shape(points) - other
    return median(np.hypot(off[:, 0], off[:, 1]))


class Fit:
    """Scores drivers' poses against one avatar's.

    Args:
        avatar: keypoints of the still picture.
        names: of the keypoints; without them only the whole shape counts.
    """

    def __init__(self, avatar: Keypoints, names: Sequence[str] = ()):
        self._shape = normal_shape(avatar.points)
        self._where = pose_indices(names)
        self._pose = pose(avatar.points, self._where) if self._where else None

    def misfits(self, driving: Keypoints) -> dict[str, float]:
        """Differences of the driver's pose from the avatar's, in units of `TOLERANCES` beyond
        `FREE`; 0 is none.
        """
        differences = {"shape": shape_distance(driving.points, self._shape)}
        if self._where and self._pose:
            now = pose(driving.points, self._where)
            for name in ("tilt", "turn", "nod", "mouth"):
                differences[name] = now[name] - self._pose[name]
            # As wide as the avatar's would ask the impossible of small eyes: only eyes nearly shut
            # are a fault.
            wanted = min(self._pose["eyes"], ORDINARY_EYES)
            differences["eyes"] = max(0.0, 1 - now["eyes"] / wanted) if wanted > 0.05 else 0.0
        return {
            name: max(0.0, abs(value) - FREE[name]) / TOLERANCES[name] for name, value in differences.items()
        }

    def __call__(self, driving: Keypoints) -> float:
        """The fit in [0, 1]: exp(-1/2 sum of squared misfits), times how sure the detector is where
        it says so.
        """
        total = sum(value * value for value in self.misfits(driving).values())
        sure = 1.0 if driving.confidence is None else min(1.0, float(np.mean(driving.confidence)) / SURE)
        return float(np.exp(-0.5 * total)) * sure


#: Of the frames of a countdown, one in which the head is this far, in [-1, 1] units, from where it
#: mostly is has its fit brought down to exp(-1/2): a head that turns wanders, and the landmarks of
#: a turned face look much like a straight one's.
WANDERED = 0.13

#: Frames beyond this many are left out; ten seconds of a fast camera.
MOST_CANDIDATES = 1200


@dataclass
class Candidates:
    """Frames of which one becomes D1."""

    seen: list[tuple[Keypoints, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.seen)

    def add(self, keypoints: Keypoints, fit: float) -> None:
        if len(self.seen) < MOST_CANDIDATES:
            self.seen.append((keypoints, fit))

    def best(self) -> Keypoints:
        """The best fit among those in which the head is where it mostly is. ValueError if there is
        none at all.
        """
        places = np.array([keypoints.points.reshape(-1) for keypoints, _ in self.seen])
        away = ((places - np.median(places, axis=0)) ** 2).sum(axis=1) / (
            len(self.seen[0][0].points) * WANDERED**2
        )
        scores = np.array([fit for _, fit in self.seen]) * np.exp(-0.5 * away)
        return self.seen[int(np.argmax(scores))][0]

    def remap(self, change: Callable[[Keypoints], Keypoints]) -> None:
        """The crop went elsewhere; see `Retargeter.remap`."""
        self.seen = [(change(keypoints), fit) for keypoints, fit in self.seen]
