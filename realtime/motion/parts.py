"""The part of the motion that the whole head makes (place, tilt, size), split from what the face
does.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices, carried, inverse_2x2

#: Landmarks that move with the skull more than with the face. (Mouth and chin speak, upper lids
#: blink, the collar is the body's.)
RIGID_WORDS = ("lower lid", "iris", "brow", "nose", "forehead")

#: A landmark that is this share of the face's size off the fit counts half: brows rise, and
#: detectors err.
TOLERANCE = 0.08

#: Rounds of reweighting. A second changes the fit by less than the detector's own error.
ROUNDS = 1


@dataclass(frozen=True)
class Similarity:
    """The map p -> centre + shift + scale R(angle) (p - centre) of the plane.

    Attributes:
        centre: float64 (2,), the point that only `shift` moves.
        shift: float64 (2,), in [-1, 1] units.
        angle: radians; positive turns x towards y, clockwise in a picture.
        scale: factor, above 0.
    """

    centre: np.ndarray
    shift: np.ndarray
    angle: float
    scale: float

    @property
    def matrix(self) -> np.ndarray:
        """Its linear part, float64 (2, 2)."""
        cosine, sine = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        return np.array([[cosine, -sine], [sine, cosine]])

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map points (K, 2)."""
        return (points - self.centre) @ self.matrix.T + (self.centre + self.shift)

    def undo(self, points: np.ndarray) -> np.ndarray:
        """Map points (K, 2) back."""
        cosine, sine = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        return (points - self.centre - self.shift) @ np.array([[cosine, -sine], [sine, cosine]]) + self.centre

    def damped(self, shift: float = 1.0, turn: float = 1.0, zoom: float = 1.0) -> Similarity:
        """The same motion with its three parts taken by gains; 0 locks a part. Scales are damped as
        logarithms.
        """
        return Similarity(self.centre, shift * self.shift, turn * self.angle, self.scale**zoom)


def identity(centre: np.ndarray) -> Similarity:
    """The map that moves nothing."""
    return Similarity(np.asarray(centre, np.float64), np.zeros(2), 0.0, 1.0)


def rigid_indices(names: Sequence[str]) -> np.ndarray | None:
    """Which of the named keypoints sit on the skull; None (use all) where names say too little."""
    chosen = [index for index, name in enumerate(names) if any(word in name for word in RIGID_WORDS)]
    return np.array(chosen) if len(chosen) >= 4 else None


def _complex(points: np.ndarray) -> np.ndarray:
    """(x, y) as x + iy: float (K, 2) to complex128 (K,)."""
    return np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]


@dataclass(frozen=True)
class Origin:
    """Points that similarities are fitted from, with what depends on them alone. D1 is the same for
    many frames.

    Attributes:
        chosen: indices of the points to go by; all if None.
        centre: their mean.
        away: complex128 (N,), from there; x + iy, so that a rotation with scaling is one factor.
        size: their mean squared distance from there.
    """

    chosen: np.ndarray | None
    centre: complex
    away: np.ndarray
    size: float

    @classmethod
    def of(cls, points: np.ndarray, chosen: np.ndarray | None = None) -> Origin:
        """From points (K, 2)."""
        p = _complex(points if chosen is None else points[chosen])
        centre = complex(p.sum()) / len(p)
        p = p - centre
        return cls(chosen, centre, p, float(np.vdot(p, p).real) / len(p))

    def fit(self, target: np.ndarray, rounds: int = ROUNDS) -> Similarity:
        """See `fit_similarity`."""
        q = _complex(target if self.chosen is None else target[self.chosen])
        p, centre, size, count = self.away, self.centre, self.size, len(q)
        # Plain least squares first; p has mean 0.
        offset = complex(q.sum()) / count
        if size < 1e-8:
            shift = offset - centre
            return Similarity(
                np.array([centre.real, centre.imag]), np.array([shift.real, shift.imag]), 0.0, 1.0
            )
        factor = complex(np.vdot(p, q)) / (count * size)
        for _ in range(rounds):
            off = q - (factor * p + offset)
            # numpy's stub does not know that sums of complex arrays are complex.
            away_squared = off.real**2 + off.imag**2  # pyright: ignore[reportAttributeAccessIssue]
            weights = 1 / (1 + away_squared / (TOLERANCE**2 * size))
            total = float(weights.sum())
            p_mean, q_mean = complex(weights @ p) / total, complex(weights @ q) / total
            away = p - p_mean
            weighted = weights * away
            factor = complex(np.vdot(weighted, q - q_mean)) / max(np.vdot(weighted, away).real, 1e-12)
            offset = q_mean - factor * p_mean
        shift = offset - centre
        return Similarity(
            np.array([centre.real, centre.imag]),
            np.array([shift.real, shift.imag]),
            cmath.phase(factor),
            max(float(abs(factor)), 1e-3),
        )


def fit_similarity(
    origin: np.ndarray, target: np.ndarray, chosen: np.ndarray | None = None, rounds: int = ROUNDS
) -> Similarity:
    """The similarity that carries `origin` (K, 2) to `target` (K, 2) best, by reweighted least
    squares.

    Weights are smooth functions of the distances, so the fit follows the points without jumps.
    Points that lie all in one place give a pure shift.

    Args:
        chosen: indices of the points to go by; all if None.
        rounds: of reweighting; 0 is plain least squares.
    """
    return Origin.of(origin, chosen).fit(target, rounds)


def damp(
    driving: Keypoints,
    motion: Similarity,
    shift: float = 1.0,
    turn: float = 1.0,
    zoom: float = 1.0,
    matrices: Matrices = "jacobian",
) -> Keypoints:
    """`driving` with the head's own motion since D1 taken by gains 0 (locked) to 1 (as it is).

    Args:
        motion: `fit_similarity(initial.points, driving.points, rigid)`.
        shift, turn, zoom: gains of place, tilt in the picture's plane, and size.
        matrices: what the keypoints' matrices are.

    Returns:
        `driving` itself where all gains are 1. Matrices turn and grow with the points.
    """
    if shift == turn == zoom == 1.0:
        return driving
    wanted = motion.damped(shift, turn, zoom)
    points = wanted.apply(motion.undo(driving.points))
    change = wanted.matrix @ inverse_2x2(motion.matrix)
    moved = carried(change, driving.jacobians, matrices)
    reading = driving.reading
    if reading is not None:
        # Its pose in the frame stays what was read: the rig damps that itself.
        reading = reading.mapped(lambda points: wanted.apply(motion.undo(points)))
    return Keypoints(points.astype(np.float32), moved.astype(np.float32), driving.confidence, reading)


def median(values: np.ndarray) -> float:
    """Of (N,) numbers, the upper one of two; `np.median` takes 25 us."""
    return float(np.sort(values)[len(values) // 2])
