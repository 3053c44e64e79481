"""Lids that close: the opening of the driver's eyes, as a share of their own, put onto the
avatar's.

Eq. 14 moves the avatar's upper lid as far as the driver's. Eyes that are larger than the driver's
then stay half open, smaller ones turn inside out. So each eye of the avatar is opened to

    its own opening * the driver's opening now / the driver's opening in D1

along its own axis, from its lower lid up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.motion.parts import Similarity

#: Openings of D1 below this share of the eyes' distance belong to shut eyes, against which nothing
#: can be measured.
SMALLEST_OPENING = 0.06

#: Most that an eye is opened beyond the avatar's own opening.
WIDEST = 1.35

#: Detectors seldom bring the lids together: on real blinks the default one's gap ends between 0.3
#: and 0.5 of the open eye's. This ratio counts as shut.
SHUT_AT = 0.3

#: Exponent of how closing is shown: above 1, the small changes that are mostly noise show less than
#: their size.
EMPHASIS = 1.3


def lid_pairs(names: Sequence[str]) -> np.ndarray | None:
    """Indices (2, 2) of (upper, lower) lid of the left and of the right eye; None where they are
    not among the names.
    """
    try:
        return np.array(
            [[names.index(f"{side} {lid} lid") for lid in ("upper", "lower")] for side in ("left", "right")]
        )
    except ValueError:
        return None


def openings(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How far the two eyes are open, (2,): the lids' distance across the line of the eyes, over the
    eyes' distance.

    Negative where a detector puts the upper lid below the lower one. Tilt and size of the head do
    not matter.
    """
    # Four points: plain numbers are ten times as fast as arrays.
    (left, left_lower), (right, right_lower) = points[pairs].tolist()
    x = (right[0] + right_lower[0] - left[0] - left_lower[0]) / 2
    y = (right[1] + right_lower[1] - left[1] - left_lower[1]) / 2
    length = max(math.hypot(x, y), 1e-6)
    return np.array(
        [
            (x * (lower[1] - upper[1]) - y * (lower[0] - upper[0])) / length**2
            for upper, lower in ((left, left_lower), (right, right_lower))
        ]
    )


def open_ratio(now: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """The driver's openings over those in D1, (2,) in [0, `WIDEST`]; 1 for eyes that were shut in
    D1.
    """

    def ratio(now: float, initial: float) -> float:
        share = now / initial if initial > SMALLEST_OPENING else 1.0
        if share >= 1:
            return min(share, WIDEST)
        return 1 - min((1 - share) / (1 - SHUT_AT), 1.0) ** EMPHASIS

    return np.array([ratio(*eye) for eye in zip(now.tolist(), initial.tolist(), strict=True)])


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
    turn = head.matrix.tolist()
    points = moved.points.copy()
    for (upper, lower), open_by in zip(pairs.tolist(), ratio.tolist(), strict=True):
        wanted = min(max(1 + max(gain, 1.0) * (open_by - 1), 0.0), WIDEST)
        (upper_x, upper_y), (lower_x, lower_y) = avatar.points[upper].tolist(), avatar.points[lower].tolist()
        across, down = lower_x - upper_x, lower_y - upper_y
        x, y = moved.points[lower].tolist()
        place = np.array(
            [
                x - wanted * (turn[0][0] * across + turn[0][1] * down),
                y - wanted * (turn[1][0] * across + turn[1][1] * down),
            ],
            np.float32,
        )
        points[upper] += np.float32(min(gain, 1.0)) * (place - points[upper])
    return Keypoints(points, moved.jacobians, moved.confidence)
