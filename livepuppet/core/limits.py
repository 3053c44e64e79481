"""Keep keypoints where the generator still makes sense: softly, and without touching ordinary
motion.

Below a *knee* nothing changes, to the bit; beyond it values are bent towards a limit that they
never reach, with a continuous slope, so that nothing stops with a jerk.
"""

from __future__ import annotations

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices, bounded, inverse_2x2

#: Where bending begins and ends, as |x| or |y| in [-1, 1] units. A keypoint that the avatar itself
#: has further out may stay there, and go as much further. (Collars and chins are at the edge of
#: ordinary crops; detectors say 1 at most.)
EDGE_KNEE, EDGE = 1.0, 1.1

#: The same for singular values of a Jacobian against the avatar's: how much a local motion
#: stretches and squeezes.
STRETCH_KNEE, STRETCH = 2.0, 3.0
SQUEEZE_KNEE, SQUEEZE = 0.4, 0.2

#: Smallest and largest eigenvalue of a covariance: a deviation of half a pixel in 64, and one of
#: half the picture. Detectors stay within; an extrapolated strength may not, nor stay positive at
#: all.
SMALLEST_VARIANCE, LARGEST_VARIANCE = 2.5e-4, 1.0


def _bent(excess: np.ndarray, room: float) -> np.ndarray:
    """Maps excess >= 0 into [0, room) with slope 1 at 0."""
    return room * np.tanh(excess / room)


def limit_points(points: np.ndarray, avatar: np.ndarray) -> np.ndarray:
    """`points` (K, 2) held at the picture, next to the avatar's `avatar` (K, 2); itself where all
    are well inside.
    """
    away = np.abs(points)
    knee = np.maximum(EDGE_KNEE, np.abs(avatar))
    if not (away > knee).any():
        return points
    held = np.where(away > knee, knee + _bent(np.maximum(away - knee, 0.0), EDGE - EDGE_KNEE), away)
    return np.copysign(held, points).astype(points.dtype)


def limit_jacobians(
    jacobians: np.ndarray, avatar: np.ndarray, inverse: np.ndarray | None = None
) -> np.ndarray:
    """`jacobians` (K, 2, 2) whose change against the avatar's (K, 2, 2) neither folds nor stretches
    too far.

    The singular values s1 >= |s2| of J J_avatar^-1, s2 with the sign of the determinant, are
    brought between `SQUEEZE` and `STRETCH`; what is within the knees is returned as it is. So the
    result's determinant has the avatar's sign.

    Args:
        inverse: of `avatar`, where it is known.
    """
    change = jacobians @ (inverse_2x2(avatar) if inverse is None else inverse)
    # A 2x2 matrix is a scaled rotation (even) and a scaled reflection (odd); their sizes' sum and
    # difference are the singular values, so no decomposition is needed.
    a, b, c, d = change.reshape(-1, 4).T
    even, odd = ((a + d) + 1j * (c - b)) / 2, ((a - d) + 1j * (c + b)) / 2
    q, r = np.abs(even), np.abs(odd)
    largest, smallest = q + r, q - r
    if largest.max(initial=1.0) <= STRETCH_KNEE and smallest.min(initial=1.0) >= SQUEEZE_KNEE:
        return jacobians
    large, small = _within(largest), _within(smallest)
    even = even * ((large + small) / 2 / np.maximum(q, 1e-9))
    odd = odd * ((large - small) / 2 / np.maximum(r, 1e-9))
    even = np.where(q < 1e-9, (large + small) / 2, even)
    limited = np.stack(
        [
            np.stack([np.real(even) + np.real(odd), np.imag(odd) - np.imag(even)], -1),
            np.stack([np.imag(odd) + np.imag(even), np.real(even) - np.real(odd)], -1),
        ],
        -2,
    )
    touched = (largest > STRETCH_KNEE) | (smallest < SQUEEZE_KNEE)
    return np.where(touched[:, None, None], limited @ avatar, jacobians).astype(jacobians.dtype)


def _within(values: np.ndarray) -> np.ndarray:
    low = SQUEEZE_KNEE - _bent(np.maximum(SQUEEZE_KNEE - values, 0.0), SQUEEZE_KNEE - SQUEEZE)
    high = STRETCH_KNEE + _bent(np.maximum(values - STRETCH_KNEE, 0.0), STRETCH - STRETCH_KNEE)
    return np.where(values < SQUEEZE_KNEE, low, np.where(values > STRETCH_KNEE, high, values))


def limit(
    keypoints: Keypoints,
    avatar: Keypoints,
    matrices: Matrices = "jacobian",
    inverse: np.ndarray | None = None,
) -> Keypoints:
    """Keypoints to render, held where an avatar with keypoints `avatar` can follow; the same object
    if untouched.

    With covariances the points go wherever they are moved: a head stays in the picture, but a thing
    may leave it, and with some of its keypoints held at the edge it would be torn there instead.

    Args:
        inverse: of the avatar's Jacobians, where they are known.
    """
    points = keypoints.points
    if matrices == "jacobian":
        points = limit_points(points, avatar.points)
        limited = limit_jacobians(keypoints.jacobians, avatar.jacobians, inverse)
    else:
        limited = bounded(keypoints.jacobians, SMALLEST_VARIANCE, LARGEST_VARIANCE)
    if points is keypoints.points and limited is keypoints.jacobians:
        return keypoints
    return Keypoints(points, limited, keypoints.confidence)
