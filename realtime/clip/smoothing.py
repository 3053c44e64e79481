"""Smoothing that looks both ways: of a file, what comes next is known.

A filter that only looks back has to choose between trembling and lag. This one averages over a
tenth of a second to either side where the difference is no more than the detector's noise, which
the clip itself tells, and lets through what is more: so there is no lag, and a blink of four frames
keeps its depth.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.core.reading import FaceReading
from livepuppet.realtime.motion.parts import Origin, Similarity, rigid_indices

#: Standard deviation in seconds of the average in quiet parts.
QUIET_SECONDS = 0.12

#: Weights of the five neighbours (Savitzky and Golay's, of second order) in parts that move.
LIVELY = np.array([-3, 12, 17, 12, -3]) / 35

#: Where a value is off its average by so many of the deviations that noise alone would cause, the
#: average counts for all, and for nothing.
NOISE, MOTION = 1.5, 4.0

#: Deviations of noise are at most this share of a signal's own, so that one that never rests is not
#: taken for noise.
MOST_NOISE = 0.25


def smooth(values: np.ndarray, step: float, strength: float = 1.0) -> np.ndarray:
    """Smooth signals over time.

    Args:
        values: (N, G, D), N samples of G vectors; each vector's numbers move together.
        step: seconds between samples.
        strength: of the average in quiet parts, 0 to 2; 0 leaves all as it is.

    Returns:
        (N, G, D).
    """
    count = len(values)
    if count < 5 or strength <= 0 or step <= 0:
        return values
    sigma = max(QUIET_SECONDS * strength / step, 0.3)
    reach = max(2, min(int(np.ceil(2.5 * sigma)), count - 1))
    offsets = np.arange(-reach, reach + 1)
    quiet = np.exp(-0.5 * (offsets / sigma) ** 2)
    quiet /= quiet.sum()
    lively = np.zeros(len(quiet))
    lively[reach - 2 : reach + 3] = LIVELY
    unit = np.zeros(len(quiet))
    unit[reach] = 1.0
    smoothed = np.empty(values.shape)
    # One vector after the other: temporary arrays of all of a long video would be large.
    for group in range(values.shape[1]):
        smoothed[:, group] = _smoothed(values[:, group : group + 1], quiet, lively, unit)[:, 0]
    return smoothed


def _smoothed(values: np.ndarray, quiet: np.ndarray, lively: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """`values` (N, G, D), each where it is quiet averaged with the weights `quiet`, where it moves
    with `lively`, and where it jumps with `unit`.
    """
    noise = _noise(values)
    mean, near = _filtered(values, quiet), _filtered(values, lively)
    moving = _beyond(near - mean, noise * float(np.linalg.norm(lively - quiet)))
    sudden = _beyond(values - near, noise * float(np.linalg.norm(unit - lively)))
    near = near + sudden[..., None] * (values - near)
    return mean + np.maximum(moving, sudden)[..., None] * (near - mean)


def _noise(values: np.ndarray) -> np.ndarray:
    """Standard deviation (G,) of each vector's noise, from how much samples differ from the mean of
    their neighbours: the median, which what happens now and then does not change.
    """
    bend = values[2:] - 2 * values[1:-1] + values[:-2]
    bend = np.sqrt(np.square(bend).sum(-1))
    found = np.median(bend, axis=0) / (0.6745 * np.sqrt(6))
    own = np.sqrt(values.var(axis=0).sum(-1))
    return np.minimum(found, MOST_NOISE * own) + 1e-9


def _filtered(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means around each sample, the first and last one repeated beyond the ends."""
    reach = len(weights) // 2
    padded = np.concatenate([values[:1].repeat(reach, 0), values, values[-1:].repeat(reach, 0)])
    count = len(values)
    found = np.zeros_like(values, np.float64)
    for index, weight in enumerate(weights):
        found += weight * padded[index : index + count]
    return found


def _beyond(difference: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """0 where differences (N, G, D) are noise, 1 where they are motion, and softly in between."""
    size = np.sqrt(np.square(difference).sum(-1)) / noise
    share = np.clip((size - NOISE) / (MOTION - NOISE), 0.0, 1.0)
    share = share * share * (3 - 2 * share)
    # What happens there has a beginning and an end.
    before, after = np.roll(share, 1, 0), np.roll(share, -1, 0)
    before[0], after[-1] = share[0], share[-1]
    widest = np.maximum(np.maximum(before, after), share)
    padded = np.concatenate([widest[:1], widest, widest[-1:]])
    return np.maximum(share, (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)


def smooth_keypoints(
    keypoints: list[Keypoints],
    step: float,
    names: tuple[str, ...],
    strength: float = 1.0,
    matrices: Matrices = "jacobian",
) -> list[Keypoints]:
    """Smooth the keypoints and readings of one shot: the head's motion and, apart from it, what the
    face does.

    Args:
        keypoints: of one frame after another, in one square.
        step: seconds between frames.
        strength: see `smooth`.
    """
    if len(keypoints) < 5 or strength <= 0:
        return keypoints
    points = np.stack([one.points for one in keypoints]).astype(np.float64)
    origin = Origin.of(np.median(points, axis=0), rigid_indices(names))
    heads = [origin.fit(one) for one in points]
    size = float(np.sqrt(points[0].var(axis=0).sum())) or 1.0
    head = np.array([[*one.shift, size * one.angle, size * np.log(one.scale)] for one in heads])
    head[:, 2] = np.unwrap(head[:, 2], period=2 * np.pi * size)
    readings = [one.reading for one in keypoints]
    all_anchored = all(one is not None and one.anchors is not None for one in readings)
    anchored = np.stack([_places(one, all_anchored) for one in keypoints])
    face = np.stack([one.undo(where) for one, where in zip(heads, anchored, strict=True)])
    # Place, tilt and size each have noise of their own.
    head = np.concatenate(
        [smooth(head[:, None, :2], step, strength)[:, 0], smooth(head[:, 2:, None], step, strength)[..., 0]],
        1,
    )
    face = smooth(face, step, strength)
    jacobians = np.stack([one.jacobians for one in keypoints]).astype(np.float64)
    jacobians = smooth(jacobians.reshape(*jacobians.shape[:2], 4), step, strength).reshape(jacobians.shape)
    numbers = _smooth_readings(readings, step, strength)
    smoothed = []
    for index, one in enumerate(keypoints):
        x, y, tilt, grown = head[index].tolist()
        steady = Similarity(heads[0].centre, np.array([x, y]), tilt / size, float(np.exp(grown / size)))
        places = steady.apply(face[index]).astype(np.float32)
        reading, anchors = numbers[index], places[len(one.points) :]
        if reading is not None and len(anchors):
            reading = replace(reading, anchors=anchors)
        smoothed.append(
            replace(
                one,
                points=places[: len(one.points)],
                jacobians=jacobians[index].astype(np.float32),
                reading=reading,
            )
        )
    return smoothed


def _places(one: Keypoints, anchored: bool) -> np.ndarray:
    """Points (K, 2), and the anchors of the reading if wanted."""
    if not anchored or one.reading is None or one.reading.anchors is None:
        return one.points.astype(np.float64)
    return np.concatenate([one.points, one.reading.anchors]).astype(np.float64)


def _smooth_readings(
    readings: list[FaceReading | None], step: float, strength: float
) -> list[FaceReading | None]:
    known = [one for one in readings if one is not None]
    if len(known) != len(readings):
        return readings
    # Anchors are places, and go with the keypoints.
    numbers = np.stack([replace(one, anchors=None).numbers() for one in known]).astype(np.float64)
    rows = smooth(numbers[..., None], step, strength)[..., 0]
    return [
        replace(FaceReading.of_numbers(row), anchors=one.anchors)
        for row, one in zip(rows, known, strict=True)
    ]
