"""Smoothing that looks both ways: of a file, what comes next is known.

A filter that only looks back has to choose between trembling and lag. This one averages over a
tenth of a second to either side where the difference is no more than the detector's noise, which
the clip itself tells, and lets through what is more: so there is no lag, and a blink of four frames
keeps its depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.core.reading import EYE_NUMBERS, MOUTH_NUMBERS, FaceReading
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

#: Deviation of the noise that is granted at least, in half sides of the square: of the head's place, tilt and size, and of a
#: landmark on the skull. Most frames err by less, some by far more, as in a blink, and the head is not to go along.
HEAD_NOISE, SKULL_NOISE = 0.002, 0.006

#: Cut-offs in hertz of a head's own motion, which has a mass and no blinks: where it holds still, and where it moves; and of its size,
#: since nobody comes nearer in a tenth of a second, but the size is read a few hundredths larger or smaller as lids and lips move.
HEAD_CUTOFFS, SIZE_CUTOFFS = (3.5, 7.0), (1.5, 3.5)

#: What lies between the two cut-offs is noise up to the first of these (RMS over `HEAD_SECONDS` to either side), and motion from the
#: second on: of roll in radians and of the place in eye distances; of the size's logarithm; and of turns and nods in radians.
HEAD_ROLLS, HEAD_SIZES, HEAD_TURNS, HEAD_SECONDS = (0.0009, 0.0026), (0.004, 0.012), (0.0018, 0.0052), 0.16

#: The longest half of a kernel, in frames.
LONGEST_KERNEL = 100

#: Words in the names of landmarks on the skull. Irises and brows sit there too, but move by themselves.
ON_SKULL = ("lower lid", "nose", "forehead")


def smooth(
    values: np.ndarray, step: float, strength: float = 1.0, least: float | np.ndarray = 0.0
) -> np.ndarray:
    """Smooth signals over time.

    Args:
        values: (N, G, D), N samples of G vectors; each vector's numbers move together.
        step: seconds between samples.
        strength: of the average in quiet parts, 0 to 2; 0 leaves all as it is.
        least: deviation of noise that is granted at least, to all vectors or to each: (G,).

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
    granted = np.broadcast_to(least, values.shape[1])
    # One vector after the other: temporary arrays of all of a long video would be large.
    for group in range(values.shape[1]):
        part = slice(group, group + 1)
        smoothed[:, part] = _smoothed(values[:, part], quiet, lively, unit, granted[part])
    return smoothed


def smooth_head(
    values: np.ndarray,
    step: float,
    strength: float,
    bounds: tuple[float, float],
    cutoffs: tuple[float, float] = HEAD_CUTOFFS,
) -> np.ndarray:
    """Smooth a head's motion over time.

    Args:
        values: (N, D), each column by itself.
        step: seconds between samples.
        strength: divides the cut-offs, 0 to 2; 0 leaves all as it is.
        bounds, cutoffs: as of `HEAD_ROLLS` and `HEAD_CUTOFFS`.

    Returns:
        (N, D).
    """
    if len(values) < 5 or strength <= 0 or step <= 0:
        return values
    still, moves = (_low_pass(values, step, cutoff / strength) for cutoff in cutoffs)
    reach = max(1, round(HEAD_SECONDS / step))
    off = np.pad(np.square(moves - still), ((reach, reach), (0, 0)), "edge")
    weights = np.full(2 * reach + 1, 1 / (2 * reach + 1))
    off = np.sqrt(np.stack([np.convolve(column, weights, "valid") for column in off.T], axis=1))
    share = np.clip((off - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 1.0)
    return still + share * (moves - still)


def _low_pass(values: np.ndarray, step: float, cutoff: float) -> np.ndarray:
    """(N, D) without what is above `cutoff` Hz, by the kernel of Whittaker's smoother of third order: no lag, and parabolas stay."""
    reach = min(max(3, int(np.ceil(1.6 / (cutoff * step)))), LONGEST_KERNEL)
    penalty = (2 * np.sin(min(np.pi * cutoff * step, np.pi / 2))) ** -6.0
    third = np.diff(np.eye(4 * reach + 1), n=3, axis=0)
    kernel = np.linalg.inv(np.eye(4 * reach + 1) + penalty * third.T @ third)[
        2 * reach, reach : 3 * reach + 1
    ]
    padded = np.pad(values, ((reach, reach), (0, 0)), "reflect", reflect_type="odd")
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], axis=1)


def _smoothed(
    values: np.ndarray, quiet: np.ndarray, lively: np.ndarray, unit: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """`values` (N, G, D), each where it is quiet averaged with the weights `quiet`, where it moves
    with `lively`, and where it jumps with `unit`; noise is at least `least` (G,).
    """
    noise = np.maximum(_noise(values), least)
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
    keypoints: Sequence[Keypoints | None],
    step: float,
    names: tuple[str, ...],
    strength: float = 1.0,
    matrices: Matrices = "jacobian",
) -> Iterator[Keypoints]:
    """Smooth the keypoints and readings of one shot: the head's motion and, apart from it, what the
    face does.

    Args:
        keypoints: of one frame after another, in one square; none is None.
        step: seconds between frames.
        strength: see `smooth`.

    Returns:
        One after another, since all of a long video's would take much memory.
    """
    if len(keypoints) < 5 or strength <= 0:
        yield from (_known(one) for one in keypoints)
        return
    first, count = _known(keypoints[0]), len(keypoints)
    all_read = all(_known(one).reading is not None for one in keypoints)
    anchored = all(len(_places(_known(one), True)) > len(first.points) for one in keypoints)
    points = np.stack([_known(one).points for one in keypoints]).astype(np.float64)
    origin = Origin.of(np.median(points, axis=0), rigid_indices(names))
    centre = np.array([origin.centre.real, origin.centre.imag])
    size = float(np.sqrt(points[0].var(axis=0).sum())) or 1.0
    head, face = np.empty((count, 4)), np.empty((count, len(_places(first, anchored)), 2))
    jacobians = np.empty((count, len(first.points), 4), np.float32)
    numbers = np.empty((count, len(_numbers(first)) if all_read else 0), np.float32)
    for index, one in enumerate(map(_known, keypoints)):
        place = origin.fit(points[index])
        head[index] = *place.shift, size * place.angle, size * np.log(place.scale)
        face[index] = place.undo(_places(one, anchored))
        jacobians[index] = one.jacobians.reshape(-1, 4)
        if all_read:
            numbers[index] = _numbers(one)
    del points
    head[:, 2] = np.unwrap(head[:, 2], period=2 * np.pi * size)
    # Place, tilt and size each have noise of their own.
    head[:, :2] = smooth(head[:, None, :2], step, strength, HEAD_NOISE)[:, 0]
    head[:, 2:] = smooth(head[:, 2:, None], step, strength, HEAD_NOISE)[..., 0]
    # Eye corners and nose, by landmarks and by anchors, tell the head's pose; lips, lids and brows do as they like.
    least = np.full(face.shape[1], SKULL_NOISE)
    for index, name in enumerate(names):
        if not any(word in name for word in ON_SKULL):
            least[index] = 0.0
    face = smooth(face, step, strength, least)
    _smooth_in_place(jacobians, step, strength)
    if all_read:
        # Yaw, pitch and roll.
        turned = 2 * EYE_NUMBERS + MOUTH_NUMBERS + np.arange(3)
        angles = smooth_head(numbers[:, turned].astype(np.float64), step, strength, HEAD_TURNS)
    _smooth_in_place(numbers[..., None], step, strength)
    if all_read:
        numbers[:, turned] = angles
    for index, one in enumerate(map(_known, keypoints)):
        x, y, tilt, grown = head[index].tolist()
        steady = Similarity(centre, np.array([x, y]), tilt / size, float(np.exp(grown / size)))
        places = steady.apply(face[index]).astype(np.float32)
        reading = one.reading
        if reading is not None and all_read:
            reading = replace(FaceReading.of_numbers(numbers[index]), anchors=reading.anchors)
        if reading is not None and anchored:
            reading = replace(reading, anchors=places[len(one.points) :])
        yield replace(
            one,
            points=places[: len(one.points)],
            jacobians=jacobians[index].reshape(-1, 2, 2),
            reading=reading,
        )


def _known(one: Keypoints | None) -> Keypoints:
    assert one is not None
    return one


def _smooth_in_place(values: np.ndarray, step: float, strength: float) -> None:
    """`smooth` of float32 (N, G, D), one vector after the other: all of a long video in float64 would be large."""
    for group in range(values.shape[1]):
        part = slice(group, group + 1)
        values[:, part] = smooth(values[:, part].astype(np.float64), step, strength)


def _places(one: Keypoints, anchored: bool) -> np.ndarray:
    """Points (K, 2), and the anchors of the reading if wanted."""
    if not anchored or one.reading is None or one.reading.anchors is None:
        return one.points.astype(np.float64)
    return np.concatenate([one.points, one.reading.anchors]).astype(np.float64)


def _numbers(one: Keypoints) -> np.ndarray:
    """Of the reading, but for its anchors, which are places, and go with the keypoints."""
    assert one.reading is not None
    return replace(one.reading, anchors=None).numbers()
