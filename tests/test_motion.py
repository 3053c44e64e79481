"""Relative transfer: the paper's equations, the published tool's numbers, and inputs that have no answer."""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.transfer import SCALE_LIMITS, hull_area, inverse_2x2, movement_scale, transfer


def random_keypoints(seed: int, count: int = 10) -> Keypoints:
    random = np.random.default_rng(seed)
    points = random.uniform(-0.8, 0.8, (count, 2)).astype(np.float32)
    jacobians = (np.eye(2) + random.normal(0, 0.2, (count, 2, 2))).astype(np.float32)
    return Keypoints(points, jacobians)


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "parity" / "golden_vox-256.npz")


def golden_keypoints(golden, name: str) -> Keypoints:
    return Keypoints(golden[f"kp_{name}_value"], golden[f"kp_{name}_jacobian"])


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("adapt", [True, False])
def test_published_tool_in_all_modes(golden, relative, adapt):
    avatar, initial, driving = (
        golden_keypoints(golden, name) for name in ("source", "driving_initial", "driving")
    )
    scale = movement_scale(avatar, initial) if adapt else 1.0
    result = transfer(driving, initial, avatar, scale, relative)
    expected = golden_keypoints(golden, f"norm_r{int(relative)}a{int(adapt)}")
    np.testing.assert_allclose(result.points, expected.points, atol=2e-5, rtol=0)
    np.testing.assert_allclose(result.jacobians, expected.jacobians, atol=2e-5, rtol=0)
    assert result.points.dtype == result.jacobians.dtype == np.float32


def test_published_hull_areas(golden):
    for name in ("source", "driving_initial"):
        assert hull_area(golden[f"kp_{name}_value"]) == pytest.approx(
            float(golden[f"hull_area_{name}"]), rel=1e-5
        )


def test_hull_area_ignores_inner_points_and_order():
    square = np.array([[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5], [0.2, 0.3], [0.25, 0.25]], np.float32)
    assert hull_area(square) == pytest.approx(0.25)
    assert hull_area(square[[5, 2, 0, 3, 1, 4]]) == pytest.approx(0.25)


def test_a_driver_who_does_not_move_gives_the_avatar():
    avatar, initial = random_keypoints(1), random_keypoints(2)
    result = transfer(initial, initial, avatar, scale=1.7)
    np.testing.assert_allclose(result.points, avatar.points, atol=1e-6)
    np.testing.assert_allclose(result.jacobians, avatar.jacobians, atol=1e-5)


def test_an_avatar_that_is_the_driver_follows_exactly():
    driving, initial = random_keypoints(3), random_keypoints(4)
    result = transfer(driving, initial, initial)
    np.testing.assert_allclose(result.points, driving.points, atol=1e-6)
    np.testing.assert_allclose(result.jacobians, driving.jacobians, atol=1e-5)


def test_scale_is_the_ratio_of_lengths():
    initial = random_keypoints(5)
    avatar = Keypoints(initial.points * 1.5 - 0.1, initial.jacobians)
    assert movement_scale(avatar, initial) == pytest.approx(1.5, rel=1e-5)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((10, 2)),
        np.stack([np.linspace(-1, 1, 10), np.linspace(-1, 1, 10)], 1),
        np.array([[0.1, 0.2]]),
        np.array([[0.1, 0.2], [0.3, 0.1]]),
        np.full((10, 2), np.nan),
    ],
    ids=["one place", "on a line", "one point", "two points", "not numbers"],
)
def test_degenerate_hulls_do_not_scale(points):
    flat = Keypoints(points.astype(np.float32), np.tile(np.eye(2, dtype=np.float32), (len(points), 1, 1)))
    assert movement_scale(flat, random_keypoints(6)) == 1.0
    assert movement_scale(random_keypoints(6), flat) == 1.0


def test_scale_is_bounded():
    tiny = random_keypoints(7)
    tiny = Keypoints(tiny.points * 0.02, tiny.jacobians)
    assert movement_scale(random_keypoints(7), tiny) == SCALE_LIMITS[1]


def test_inverse():
    matrices = random_keypoints(8).jacobians
    np.testing.assert_allclose(
        inverse_2x2(matrices) @ matrices, np.tile(np.eye(2), (10, 1, 1)), rtol=0, atol=1e-5
    )
    assert inverse_2x2(matrices).dtype == np.float32
    assert np.isfinite(inverse_2x2(np.zeros((3, 2, 2), np.float32))).all()


def test_absolute_mode_returns_the_driving_keypoints_themselves():
    driving = random_keypoints(9)
    assert transfer(driving, random_keypoints(10), random_keypoints(11), 2.0, relative=False) is driving
