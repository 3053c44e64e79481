"""Lids that close: the opening of the driver's eyes, as a share of their own, put onto the avatar's.

Eq. 14 moves the avatar's upper lid as far as the driver's. Eyes that are larger than the driver's then stay half open,
smaller ones turn inside out. So each eye of the avatar is opened to

    its own opening * the driver's opening now / the driver's opening in D1

along its own axis, from its lower lid up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.parts import Similarity

#: Openings of D1 below this share of the eyes' distance belong to shut eyes, against which nothing can be measured.
SMALLEST_OPENING = 0.06

#: Most that an eye is opened beyond the avatar's own opening.
WIDEST = 1.35

#: Detectors seldom bring the lids together: on real blinks the default one's gap ends between 0.3 and 0.5 of the open
#: eye's. This ratio counts as shut.
SHUT_AT = 0.3

#: Exponent of how closing is shown: above 1, the small changes that are mostly noise show less than their size.
EMPHASIS = 1.3


def lid_pairs(names: Sequence[str]) -> np.ndarray | None:
    """Indices (2, 2) of (upper, lower) lid of the left and of the right eye; None where they are not among the names."""
    try:
        return np.array(
            [[names.index(f"{side} {lid} lid") for lid in ("upper", "lower")] for side in ("left", "right")]
        )
    except ValueError:
        return None


def openings(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How far the two eyes are open, (2,): the lids' distance across the line of the eyes, over the eyes' distance.

    Negative where a detector puts the upper lid below the lower one. Tilt and size of the head do not matter.
    """
    upper, lower = points[pairs[:, 0]], points[pairs[:, 1]]
    middle = (upper + lower) / 2
    line = (middle[1] - middle[0]).astype(np.float64)
    length = max(float(np.hypot(*line)), 1e-6)
    across = np.array([-line[1], line[0]]) / length
    return ((lower - upper) @ across) / length


def open_ratio(now: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """The driver's openings over those in D1, (2,) in [0, `WIDEST`]; 1 for eyes that were shut in D1."""
    usable = initial > SMALLEST_OPENING
    ratio = np.where(usable, now / np.where(usable, initial, 1.0), 1.0)
    closing = np.clip((1 - ratio) / (1 - SHUT_AT), 0.0, 1.0) ** EMPHASIS
    return np.where(ratio < 1, 1 - closing, np.minimum(ratio, WIDEST))


def follow_lids(
    moved: Keypoints,
    avatar: Keypoints,
    ratio: np.ndarray,
    pairs: np.ndarray,
    head: Similarity,
    gain: float = 1.0,
) -> Keypoints:
    """`moved`, in which the avatar's upper lids stand where the driver's `ratio` has them.

    Args:
        moved: the avatar's keypoints by Eq. 14-15.
        avatar: of the still picture.
        ratio: `open_ratio`.
        pairs: `lid_pairs`.
        head: the head's motion that is in `moved`, which turns and grows the eyes.
        gain: 0 leaves `moved` as it is, 1 is the ratio, 2 doubles its distance from 1.
    """
    if gain <= 0:
        return moved
    wanted = np.clip(1 + max(gain, 1.0) * (ratio - 1), 0.0, WIDEST)
    rest = avatar.points[pairs[:, 1]] - avatar.points[pairs[:, 0]]
    upper = moved.points[pairs[:, 1]] - wanted[:, None] * (rest @ head.matrix.T)
    points = moved.points.copy()
    points[pairs[:, 0]] += np.float32(min(gain, 1.0)) * (upper - points[pairs[:, 0]]).astype(np.float32)
    return Keypoints(points, moved.jacobians, moved.confidence)
