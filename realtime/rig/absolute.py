"""The pose of a single picture, with no other moment of its driver to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import HEAD_AMOUNTS, FaceReading
from livepuppet.realtime.rig.close_ups import EYE_AT
from livepuppet.realtime.rig.pose import HeadPose, PoseTracker, orientation

#: The most of a blink from which the opening of the same eye at rest can be told.
MOST_SHUT = 0.7


def neutral_behind(driving: Keypoints, avatar: Keypoints, names: Sequence[str]) -> Keypoints | None:
    """D1 for which `driving` gives the avatar its pose absolutely: the driver's own face, turned as
    the avatar's is, with the avatar's expression.

    Args:
        driving, avatar: with what close-ups read of them.
        names: of the keypoints.

    Returns:
        None where one of them was not read closely, or the keypoints are no face's.
    """
    mine, theirs = driving.reading, avatar.reading
    tracker = PoseTracker(names, driving)
    if mine is None or theirs is None or mine.anchors is None or not tracker.usable:
        return None
    back = HeadPose(1.0, orientation(theirs) @ orientation(mine).T, np.zeros(2))
    points, anchors = tracker.rigid(back), tracker.rigid_anchors(back)
    # A landmark without depth, as a collar's, stays.
    points = np.where(np.isfinite(points), points, driving.points)
    head = mine.head.copy()
    pose = slice(0, HEAD_AMOUNTS.index("roll") + 1)
    head[pose] = theirs.head[pose]
    return replace(
        driving,
        points=points.astype(np.float32),
        reading=FaceReading(
            np.stack([_open(*eyes) for eyes in zip(mine.eyes, theirs.eyes, strict=True)]),
            theirs.mouth,
            head,
            None if anchors is None else anchors.astype(np.float32),
        ),
    )


def _open(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """One eye's numbers with the driver's own opening at rest, and all else as the avatar has it."""
    blink = EYE_AT["eyeBlink"]
    rest = theirs.copy()
    # Wide and narrow eyes are people's own; how far they are shut is not.
    rest[0] = mine[0] / (1 - float(np.clip(mine[blink], 0, MOST_SHUT)))
    rest[blink] = 0.0
    return rest
