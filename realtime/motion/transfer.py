"""Motion between two sets of keypoints, in NumPy: what happens between `detect` and `render` (FOMM, section 3.4).

Pure functions of a few dozen numbers, so that they run on any host, next to any engine, in microseconds.
Coordinates are those of `Keypoints`: (x, y) in [-1, 1].
"""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.realtime.keypoints import Keypoints

#: A hull smaller than this (the whole picture has an area of 4) says nothing about the size of a face.
SMALLEST_HULL = 1e-4

#: Movement scales outside these limits come from a hull that is not a face's; they would fling the keypoints away.
SCALE_LIMITS = (0.1, 10.0)

#: Jacobians whose determinant is closer to zero than this have no inverse worth using.
SMALLEST_DETERMINANT = 1e-6


def hull_area(points: np.ndarray) -> float:
    """Area of the convex hull of `points` (K, 2), in squared units of the [-1, 1] picture; 0 if it is degenerate."""
    points = np.asarray(points, dtype=np.float32)
    if len(points) < 3 or not np.isfinite(points).all():
        return 0.0
    # The hull's corners are chosen in float32 and summed in float64: on float32 sums the error of the area
    # would be larger than the keypoints' own tolerance.
    corners = cv2.convexHull(points).reshape(-1, 2).astype(np.float64)
    x, y = (corners - corners.mean(axis=0)).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def movement_scale(avatar: Keypoints, initial: Keypoints) -> float:
    """How much larger the avatar's face is than the driver's: sqrt(hull area of avatar) / sqrt(hull area of D1).

    Computed once per (avatar, D1) pair, never per frame. 1.0 where either hull is degenerate (fewer than three
    points, all on a line, not finite), and held within `SCALE_LIMITS`.
    """
    avatar_area, initial_area = hull_area(avatar.points), hull_area(initial.points)
    if min(avatar_area, initial_area) < SMALLEST_HULL:
        return 1.0
    return float(np.clip(np.sqrt(avatar_area) / np.sqrt(initial_area), *SCALE_LIMITS))


def inverse_2x2(matrices: np.ndarray) -> np.ndarray:
    """Closed-form inverses of `matrices` (..., 2, 2), with the same dtype.

    A determinant nearer to zero than `SMALLEST_DETERMINANT` is replaced by that value with its sign, so the result
    is always finite for finite input.
    """
    a, b = matrices[..., 0, 0], matrices[..., 0, 1]
    c, d = matrices[..., 1, 0], matrices[..., 1, 1]
    determinant = a * d - b * c
    guarded = np.where(
        np.abs(determinant) < SMALLEST_DETERMINANT,
        np.copysign(SMALLEST_DETERMINANT, determinant),
        determinant,
    )
    # Written cell by cell: this runs for every frame, and stacking costs four times as much.
    inverse = np.empty(np.shape(matrices), np.result_type(guarded, np.float32))
    inverse[..., 0, 0], inverse[..., 0, 1] = d / guarded, -b / guarded
    inverse[..., 1, 0], inverse[..., 1, 1] = -c / guarded, a / guarded
    return inverse.astype(matrices.dtype, copy=False)


def transfer(
    driving: Keypoints, initial: Keypoints, avatar: Keypoints, scale: float = 1.0, relative: bool = True
) -> Keypoints:
    """The keypoints to render: the driver's movement since D1, put onto the avatar (FOMM, Eq. 14-15).

        points    = avatar + scale * (driving - initial)
        jacobians = J_driving  J_initial^-1  J_avatar

    Args:
        driving: of the current frame, K keypoints.
        initial: of D1, the frame in which the driver's pose is taken to be the avatar's.
        avatar: of the still picture.
        scale: `movement_scale(avatar, initial)`, or 1.0 to move by the driver's own amount.
        relative: False returns `driving` unchanged (absolute mode: the avatar takes the driver's very shape and place).
    """
    if not relative:
        return driving
    points = avatar.points + np.float32(scale) * (driving.points - initial.points)
    change = driving.jacobians @ inverse_2x2(initial.jacobians)
    return Keypoints(points.astype(np.float32), (change @ avatar.jacobians).astype(np.float32))
