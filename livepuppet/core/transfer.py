"""Motion between two sets of keypoints, in NumPy: what happens between `detect` and `render` (FOMM,
section 3.4).

Pure functions of a few dozen numbers, so that they run on any host, next to any engine, in
microseconds. Coordinates are those of `Keypoints`: (x, y) in [-1, 1].
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.limits import limit_jacobians
from livepuppet.core.matrices import Matrices, carried, change_of_extent, inverse_2x2

#: A hull smaller than this (the whole picture has an area of 4) says nothing about the size of a
#: face.
SMALLEST_HULL = 1e-4

#: Movement scales outside these limits come from a hull that is not a face's; they would fling the
#: keypoints away.
SCALE_LIMITS = (0.1, 10.0)

#: What becomes of covariances in relative transfer; see `transfer`.
Variance = Literal["source", "driving", "relative"]
VARIANCES: tuple[Variance, ...] = get_args(Variance)


def hull_area(points: np.ndarray) -> float:
    """Area of the convex hull of `points` (K, 2), in squared units of the [-1, 1] picture; 0 if it
    is degenerate.
    """
    points = np.asarray(points, dtype=np.float32)
    if len(points) < 3 or not np.isfinite(points).all():
        return 0.0
    # The hull's corners are chosen in float32 and summed in float64: on float32 sums the error of
    # the area would be larger than the keypoints' own tolerance.
    corners = cv2.convexHull(points).reshape(-1, 2).astype(np.float64)
    x, y = (corners - corners.mean(axis=0)).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def movement_scale(avatar: Keypoints, initial: Keypoints) -> float:
    """How much larger the avatar's face is than the driver's: sqrt(hull area of avatar) / sqrt(hull
    area of D1).

    Computed once per (avatar, D1) pair, never per frame. 1.0 where either hull is degenerate (fewer
    than three points, all on a line, not finite), and held within `SCALE_LIMITS`.
    """
    avatar_area, initial_area = hull_area(avatar.points), hull_area(initial.points)
    if min(avatar_area, initial_area) < SMALLEST_HULL:
        return 1.0
    return float(np.clip(np.sqrt(avatar_area) / np.sqrt(initial_area), *SCALE_LIMITS))


def transfer(
    driving: Keypoints,
    initial: Keypoints,
    avatar: Keypoints,
    scale: float = 1.0,
    relative: bool = True,
    matrices: Matrices = "jacobian",
    variance: Variance = "source",
    carry: np.ndarray | None = None,
) -> Keypoints:
    """The keypoints to render: the driver's movement since D1, put onto the avatar (FOMM, Eq.
    14-15; Monkey-Net, Eq. 7).

        points    = avatar + scale * (driving - initial)
        jacobians = J_driving  J_initial^-1  J_avatar

    Covariances are, by `variance`,
        source: the avatar's. Whatever stands still in the driver stands still in the picture.
        driving: the driver's, as the authors' code has it by default. What differs between the two
            figures themselves shows as if it moved, at rest too.
        relative: the avatar's under the local change since D1, A Sigma_avatar A^T with A
            Sigma_initial A^T = Sigma_driving. Where the matrices commute (blobs that only grow,
            say) this is Sigma_driving Sigma_initial^-1 Sigma_avatar, which the authors' code
            computes and, where it is none, makes symmetric and positive afterwards.

    Args:
        driving: of the current frame, K keypoints.
        initial: of D1, the frame in which the driver's pose is taken to be the avatar's.
        avatar: of the still picture.
        scale: `movement_scale(avatar, initial)`, or 1.0 to move by the driver's own amount.
        relative: False returns `driving` unchanged (absolute mode: the avatar takes the driver's
            very shape and place).
        matrices: what the keypoints' matrices are.
        variance: of covariances only.
        carry: J_initial^-1 J_avatar, (K, 2, 2), where it is known.
    """
    if not relative:
        return driving
    points = avatar.points + np.float32(scale) * (driving.points - initial.points)
    if matrices == "jacobian":
        carry = inverse_2x2(initial.jacobians) @ avatar.jacobians if carry is None else carry
        moved = driving.jacobians @ carry
    elif variance == "relative":
        change = change_of_extent(driving.jacobians, initial.jacobians)
        # A keypoint that was a dot in D1 and is a blur now would blow up the avatar's.
        change = limit_jacobians(change, np.broadcast_to(np.eye(2), change.shape))
        moved = carried(change, avatar.jacobians, matrices)
    else:
        moved = driving.jacobians if variance == "driving" else avatar.jacobians
    return Keypoints(points.astype(np.float32), moved.astype(np.float32))
