"""The One-Euro filter: steady when still, quick when moving, never beyond; and the command that measures it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from livepuppet.benchmarks import jitter
from livepuppet.core.keypoints import Keypoints
from livepuppet.model.lite import LANDMARKS as NAMES
from livepuppet.realtime.motion.smoothing import Smoother
from livepuppet.train.metrics.camera_noise import camera_noise

POINTS = np.array(
    [
        [-0.2, -0.06],
        [0.2, -0.06],
        [-0.2, 0.0],
        [0.2, 0.0],
        [-0.2, -0.03],
        [0.2, -0.03],
        [-0.22, -0.18],
        [0.22, -0.18],
        [0.0, 0.15],
        [-0.14, 0.32],
        [0.14, 0.32],
        [0.0, 0.3],
        [0.0, 0.34],
        [0.0, 0.55],
        [0.0, -0.4],
        [0.0, 0.8],
    ],
    np.float32,
)


def face(offset=0.0) -> Keypoints:
    return Keypoints((POINTS + offset).astype(np.float32), np.tile(np.eye(2, dtype=np.float32), (16, 1, 1)))


def run(track, rate=30.0, strength=1.0, names=NAMES):
    smoother = Smoother(names)
    return [smoother(keypoints, index / rate, strength) for index, keypoints in enumerate(track)]


def noisy(count: int, deviation=0.004) -> list[Keypoints]:
    random = np.random.default_rng(0)
    return [
        Keypoints(
            (POINTS + random.normal(0, deviation, POINTS.shape)).astype(np.float32),
            (np.eye(2) + random.normal(0, 0.01, (16, 2, 2))).astype(np.float32),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("names", [NAMES, ()], ids=["named", "unnamed"])
def test_a_still_face_is_at_least_three_times_steadier(names):
    track = noisy(150)
    smoothed = run(track, names=names)
    for part in ("points", "jacobians"):
        before, after = (np.stack([getattr(k, part) for k in some])[30:] for some in (track, smoothed))
        assert np.diff(after, axis=0).std() < np.diff(before, axis=0).std() / 3
        # Steady, and in the right place.
        np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=0.005)


def test_known_moves_are_late_by_less_than_a_frame_and_never_overshoot():
    facts = jitter.made_up(face(), NAMES, 1.0)
    assert 0 < facts["ramp_ms"] < 33 and 0 < facts["nod_ms"] < 33
    assert facts["blink_kept"] > 0.9
    assert facts["overshoot"] < 1e-6
    # The measure itself can fail.
    assert jitter.made_up(face(), NAMES, 30.0)["ramp_ms"] > 33


def test_strength_sets_how_much():
    track = noisy(90)

    def left(strength):
        return np.diff(np.stack([k.points for k in run(track, strength=strength)])[30:], axis=0).std()

    assert left(0) > left(0.3) > left(1) > left(2)
    off = run(track, strength=0)
    assert all(one is other for one, other in zip(off, track, strict=True))


@pytest.mark.parametrize("rate", [10, 25, 60, 120])
def test_any_frame_rate_settles_in_the_same_time(rate):
    """A jump of one lip is followed to nine tenths within a tenth of a second, however many frames that is."""
    track = [face() for _ in range(rate)] + [face(np.eye(16)[:, 12:13] * [0.0, 0.15]) for _ in range(rate)]
    moved = np.stack([k.points for k in run(track, float(rate))])[:, 12, 1] - POINTS[12, 1]
    assert moved[rate + max(1, round(0.1 * rate))] > 0.13
    assert moved.max() <= 0.15 + 1e-6


def test_one_keypoint_that_hesitates_is_held_back():
    track = [face(np.eye(16)[:, 13:14] * [0.0, 0.06 * (index in range(5, 300, 3))]) for index in range(200)]
    chin = np.stack([k.points for k in run(track)])[60:, 13, 1]
    assert np.abs(np.diff(chin)).max() < 0.06 / 4


def test_frames_far_apart_and_clocks_that_run_back_start_over():
    smoother = Smoother(NAMES)
    smoother(face(), 10.0)
    for time in (12.0, 3.0):
        there = face(0.3)
        assert smoother(there, time) is there
        smoother(face(), time + 0.03)
    # Two frames of one time are no reason to divide by zero.
    again = smoother(face(0.1), 3.03)
    assert np.isfinite(again.points).all()


def test_a_crop_that_moves_does_not_stir_a_still_face():
    """The same noise, seen through a square that slides and shrinks, is filtered as if it had not."""
    track = noisy(80)
    still = run(track)
    smoother = Smoother(NAMES)
    factor, shift = 1.0, np.zeros(2, np.float32)
    for index, keypoints in enumerate(track):
        seen = replace(keypoints, points=(keypoints.points * factor + shift).astype(np.float32))
        result = smoother(seen, index / 30)
        back = (result.points - shift) / factor
        np.testing.assert_allclose(back, still[index].points, atol=5e-4)
        grow, slide = np.float32(1.002), np.float32([0.01, -0.004])
        smoother.remap(lambda old, grow=grow, slide=slide: replace(old, points=old.points * grow + slide))
        factor, shift = factor * grow, shift * grow + slide


def test_lag_is_measured_to_a_fraction_of_a_frame():
    time = np.arange(100) / 25
    assert jitter.lag(np.sin(3 * time), np.sin(3 * (time - 0.05)), 25.0) == pytest.approx(0.05, abs=0.002)
    assert jitter.lag(np.sin(3 * time), np.sin(3 * time), 25.0) == pytest.approx(0.0, abs=0.002)
    assert jitter.lag(np.zeros(100), np.zeros(100), 25.0) == 0.0


def test_jitter_is_measured_in_pixels():
    points = np.zeros((10, 4, 2))
    points[::2, :, 0] = 2 / 255
    assert jitter.jitter(points, 256) == pytest.approx(1.0)


def test_webcam_noise_is_seeded_and_about_right():
    gray = np.full((64, 64, 3), 128, np.uint8)
    one, two = (camera_noise(gray, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert 1.5 < one.astype(float).std() < 6


def test_the_default_model_on_the_bundled_clip():
    """The figures of issue 5, with the model that is shipped."""
    facts = jitter.jitter_figures(stills=2)
    assert facts["ratio"] > 3
    assert facts["worst_lag_ms"] < 33
    assert facts["blink_kept"] > 0.85 and facts["lips_kept"] > 0.85
    lines = jitter.jitter_lines(facts)
    assert "driving" in lines[2] and any("times steadier" in line for line in lines)
