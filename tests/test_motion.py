"""Relative transfer: the paper's equations, the published tool's numbers, and inputs that have no answer."""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.limits import LARGEST_VARIANCE, SMALLEST_VARIANCE, STRETCH, limit
from livepuppet.core.matrices import carried, change_of_extent, square_root
from livepuppet.core.square import Square
from livepuppet.core.transfer import (
    SCALE_LIMITS,
    VARIANCES,
    hull_area,
    inverse_2x2,
    movement_scale,
    transfer,
)
from livepuppet.realtime.app.settings import RULES
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.motion import drift
from livepuppet.realtime.motion.parts import Similarity, damp, fit_similarity
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.motion.smoothing import Smoother


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


# Covariances (Monkey-Net).


def random_covariances(seed: int, count: int = 10, smallest: float = 0.001) -> Keypoints:
    """Keypoints whose matrices are blobs from a pixel to a third of the picture wide."""
    random = np.random.default_rng(seed)
    angle = random.uniform(0, np.pi, count)
    turn = np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], -2
    )
    sizes = np.exp(random.uniform(np.log(smallest), np.log(0.3), (count, 2)))
    covariances = turn * sizes[:, None, :] @ turn.swapaxes(1, 2)
    return Keypoints(random.uniform(-0.8, 0.8, (count, 2)).astype(np.float32), covariances.astype(np.float32))


def assert_covariances(matrices: np.ndarray) -> None:
    """Symmetric and positive definite."""
    np.testing.assert_allclose(matrices, matrices.swapaxes(1, 2), atol=1e-6)
    assert np.linalg.eigvalsh(matrices.astype(np.float64)).min() > 0


def test_square_roots_and_changes_of_extent():
    now, initial = random_covariances(1).jacobians, random_covariances(2).jacobians
    root = square_root(now)
    assert_covariances(root)
    np.testing.assert_allclose(root @ root, now, atol=1e-6)
    change = change_of_extent(now, initial)
    np.testing.assert_allclose(change @ initial @ change.swapaxes(1, 2), now, atol=1e-5)
    np.testing.assert_allclose(change_of_extent(now, now), np.tile(np.eye(2), (10, 1, 1)), atol=1e-5)


def test_points_move_alike_whatever_the_variance():
    driving, initial, avatar = (random_covariances(seed) for seed in (1, 2, 3))
    for variance in VARIANCES:
        moved = transfer(driving, initial, avatar, 1.5, matrices="covariance", variance=variance)
        expected = avatar.points + 1.5 * (driving.points - initial.points)
        np.testing.assert_allclose(moved.points, expected, atol=1e-6)
        assert_covariances(moved.jacobians)
        assert moved.jacobians.dtype == np.float32


def test_variance_is_the_avatars_or_the_drivers():
    driving, initial, avatar = (random_covariances(seed) for seed in (1, 2, 3))

    def of(variance):
        return transfer(driving, initial, avatar, matrices="covariance", variance=variance).jacobians

    np.testing.assert_array_equal(of("source"), avatar.jacobians)
    np.testing.assert_array_equal(of("driving"), driving.jacobians)
    assert transfer(driving, initial, avatar, relative=False, matrices="covariance") is driving


def test_relative_variance():
    initial, avatar = random_covariances(2, smallest=0.05), random_covariances(3, smallest=0.05)
    # A driver at rest leaves the avatar at rest; an avatar that is the driver follows exactly.
    rest = transfer(initial, initial, avatar, matrices="covariance", variance="relative")
    np.testing.assert_allclose(rest.jacobians, avatar.jacobians, atol=1e-5)
    driving = Keypoints(initial.points, random_covariances(4, smallest=0.1).jacobians)
    own = transfer(driving, initial, initial, matrices="covariance", variance="relative")
    np.testing.assert_allclose(own.jacobians, driving.jacobians, atol=1e-5)
    # Blobs that only grow: Sigma_driving Sigma_initial^-1 Sigma_avatar, as written.
    grown = Keypoints(initial.points, 1.7 * initial.jacobians)
    moved = transfer(grown, initial, avatar, matrices="covariance", variance="relative").jacobians
    product = grown.jacobians @ inverse_2x2(initial.jacobians) @ avatar.jacobians
    np.testing.assert_allclose(moved, product, atol=1e-4)


def test_a_dot_that_becomes_a_blur_does_not_blow_up_the_avatars():
    eye = np.tile(np.eye(2, dtype=np.float32), (1, 1, 1))
    dot, blur, avatar = (Keypoints(np.zeros((1, 2), np.float32), size * eye) for size in (0.001, 0.3, 0.02))
    moved = transfer(blur, dot, avatar, matrices="covariance", variance="relative").jacobians
    assert 0.02 < moved[0, 0, 0] < 0.02 * STRETCH**2


def test_limits_of_covariances():
    avatar = random_covariances(1)
    assert limit(avatar, avatar, "covariance") is avatar
    # A Jacobian's limits would take each of these for a fold or a squeeze.
    tiny = random_covariances(5)
    assert limit(tiny, tiny, "covariance") is tiny
    # Strength 2 can extrapolate beyond what is a covariance at all.
    broken = Keypoints(avatar.points, 2 * random_covariances(2).jacobians - avatar.jacobians)
    assert np.linalg.eigvalsh(broken.jacobians).min() < 0
    held = limit(broken, avatar, "covariance")
    sizes = np.linalg.eigvalsh(held.jacobians)
    assert sizes.min() >= SMALLEST_VARIANCE * 0.99 and sizes.max() <= LARGEST_VARIANCE * 1.01
    fine = np.linalg.eigvalsh(broken.jacobians).min(axis=1) > SMALLEST_VARIANCE
    np.testing.assert_allclose(held.jacobians[fine], broken.jacobians[fine], atol=1e-6)
    assert fine.any() and held.jacobians.dtype == np.float32


def test_matrices_under_a_change_of_coordinates():
    jacobians, covariances = random_keypoints(1).jacobians, random_covariances(2).jacobians
    turn = np.array([[0.0, -2.0], [2.0, 0.0]])
    np.testing.assert_allclose(carried(turn, jacobians, "jacobian"), turn @ jacobians)
    moved = carried(turn, covariances, "covariance")
    # A quarter turn and a doubling: the extents change places and are four times as large.
    np.testing.assert_allclose(moved[:, 0, 0], 4 * covariances[:, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(moved[:, 0, 1], -4 * covariances[:, 1, 0], rtol=1e-5)


def test_the_heads_own_motion_turns_and_grows_covariances():
    """`damp` with everything locked undoes a similarity; `drift.carried` and `reexpressed` make one."""
    initial = random_covariances(3)
    head = Similarity(initial.points.mean(0).astype(float), np.array([0.1, 0.05]), 0.4, 1.3)
    driving = drift.carried(initial, head, "covariance")
    assert_covariances(driving.jacobians)
    fitted = fit_similarity(initial.points, driving.points)
    locked = damp(driving, fitted, 0.0, 0.0, 0.0, "covariance")
    np.testing.assert_allclose(locked.points, initial.points, atol=1e-5)
    np.testing.assert_allclose(locked.jacobians, initial.jacobians, atol=1e-5)

    smaller = reexpressed(initial, Square(0, 0, 100), Square(0, 0, 200), 64, "covariance")
    np.testing.assert_allclose(smaller.jacobians, initial.jacobians / 4, rtol=1e-5)
    there_and_back = reexpressed(smaller, Square(0, 0, 200), Square(0, 0, 100), 64, "covariance")
    np.testing.assert_allclose(there_and_back.jacobians, initial.jacobians, rtol=1e-5)


def test_covariances_are_smoothed_whatever_their_size():
    """Their entries are small; taken for Jacobians they would hardly move."""
    random = np.random.default_rng(0)
    start = random_covariances(1, smallest=0.02)

    def last(size: float, kind: str) -> np.ndarray:
        smoother = Smoother((), kind)
        for step in range(30):
            grown = size * (1 + 0.05 * step) * start.jacobians
            out = smoother(Keypoints(start.points, grown.astype(np.float32)), step / 30)
        assert_covariances(out.jacobians)
        return out.jacobians / size

    of_small = last(0.05, "covariance")
    np.testing.assert_allclose(of_small, last(1.0, "covariance"), rtol=1e-3)
    wanted = (1 + 0.05 * 29) * start.jacobians
    assert np.abs(of_small - wanted).max() < 0.5 * np.abs(last(0.05, "jacobian") - wanted).max()
    # Noise leaves them what they are, and in another crop they go on from where they were.
    smoother = Smoother((), "covariance")
    for step in range(20):
        out = smoother(random_covariances(int(random.integers(1000))), step / 30)
        assert_covariances(out.jacobians)
    smoother.remap(lambda old: reexpressed(old, Square(0, 0, 100), Square(0, 0, 200), 64, "covariance"))
    calm = Keypoints(out.points / 2, out.jacobians / 4)
    np.testing.assert_allclose(smoother(calm, 20 / 30).jacobians, calm.jacobians, rtol=0.35, atol=1e-4)


def mover_of_covariances(**settings) -> Retargeter:
    wanted = MotionSettings(smoothing=0, countdown=0, lost_to_neutral=False, **settings)
    made = Retargeter((), wanted, matrices="covariance")
    made.set_avatar(random_covariances(3, 4))
    return made


def test_a_driver_at_rest_leaves_the_avatar_at_rest():
    """With the avatar's own variance, whatever extent the driver's keypoints have."""
    made, driver = mover_of_covariances(), random_covariances(1, 4)
    blurred = Keypoints(driver.points, 3 * driver.jacobians)
    for time, seen in enumerate((driver, blurred)):
        moved = made.move(seen, time / 30)
        np.testing.assert_allclose(moved.points, random_covariances(3, 4).points, atol=1e-6)
        np.testing.assert_array_equal(moved.jacobians, random_covariances(3, 4).jacobians)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_mover_keeps_covariances(relative, variance, strength):
    made = mover_of_covariances(relative=relative, variance=variance, strength=strength, turn=0.5)
    for step in range(12):
        moved = made.move(random_covariances(50 + step, 4), step / 30)
        assert_covariances(moved.jacobians)
        assert made.state == "live"


def test_things_that_are_no_faces_are_followed():
    """Keypoints that part are no face's, and a face's mover holds the last frame; a Monkey-Net's goes on."""
    made = mover_of_covariances()
    first = random_covariances(1, 4)
    made.move(first, 0.0)
    apart = Keypoints(
        first.points * np.float32([-1, 1]) * np.array([[0.1], [2], [3], [-1]], np.float32), first.jacobians
    )
    moved = made.move(apart, 0.03)
    # Neither held at the edge, nor scaled by what the keypoints' hulls make of the two sizes.
    expected = random_covariances(3, 4).points + apart.points - first.points
    assert np.abs(expected).max() > 1.2
    np.testing.assert_allclose(moved.points, expected, atol=1e-5)


def test_the_setting_knows_every_variance():
    rule = RULES["motion.variance"]
    assert (rule.choices, rule.default) == (VARIANCES, MotionSettings.variance)


def test_what_is_kept_with_d1_is_d1s_and_the_avatars():
    """Whoever changes in between, the result is that of the equations worked out anew."""
    mover = Retargeter(settings=MotionSettings(countdown=0.0, smoothing=0.0, search=False))
    drivers = [random_keypoints(seed) for seed in range(40, 46)]

    def expected(driving, initial, avatar):
        scale = movement_scale(avatar, initial)
        return limit(transfer(driving, initial, avatar, scale), avatar)

    def check(driving, initial, avatar):
        # Times so close that nothing eases, and so far that nothing is lost.
        moved, wanted = mover.move(driving, 1.0), expected(driving, initial, avatar)
        np.testing.assert_allclose(moved.points, wanted.points, atol=1e-5)
        np.testing.assert_allclose(moved.jacobians, wanted.jacobians, atol=1e-4)

    near = [Keypoints(drivers[0].points + 0.01 * k, drivers[0].jacobians * (1 + 0.02 * k)) for k in range(4)]
    mover.set_avatar(drivers[1])
    check(near[0], near[0], drivers[1])
    check(near[1], near[0], drivers[1])
    mover.set_avatar(drivers[2])
    check(near[2], near[0], drivers[2])
    mover.initial = near[3]
    check(near[1], near[3], drivers[2])
    mover.reset()
    check(near[2], near[2], drivers[2])
    check(near[0], near[2], drivers[2])
