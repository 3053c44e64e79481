"""The head's motion apart from the face's, limits, and lids that close."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_motion_smoothing import NAMES, POINTS, face

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.limits import EDGE, STRETCH, limit, limit_jacobians, limit_points
from livepuppet.realtime.motion.eyes import follow_lids, lid_pairs, open_ratio, openings
from livepuppet.realtime.motion.parts import Similarity, damp, fit_similarity, identity, rigid_indices


def moved(shift=(0.0, 0.0), angle=0.0, scale=1.0) -> Similarity:
    return Similarity(POINTS.mean(axis=0).astype(np.float64), np.array(shift), angle, scale)


def test_a_known_motion_is_found():
    truth = moved((0.1, -0.05), 0.3, 1.2)
    for chosen in (None, rigid_indices(NAMES)):
        found = fit_similarity(POINTS, truth.apply(POINTS), chosen)
        np.testing.assert_allclose(found.matrix, truth.matrix, atol=1e-6)
        np.testing.assert_allclose(found.apply(POINTS), truth.apply(POINTS), atol=1e-6)
        np.testing.assert_allclose(found.undo(truth.apply(POINTS)), POINTS, atol=1e-6)


def test_a_face_that_speaks_and_blinks_does_not_move_the_head():
    speaking = POINTS.copy()
    speaking[[12, 13], 1] += 0.15
    speaking[[0, 1], 1] += 0.06
    speaking[[9, 10], 0] += [0.04, -0.04]
    head = fit_similarity(POINTS, speaking, rigid_indices(NAMES))
    np.testing.assert_allclose(head.apply(POINTS), POINTS, atol=1e-6)


def test_one_wild_landmark_hardly_moves_the_head():
    wild = POINTS.copy()
    wild[14] += 0.5
    plain, robust = (fit_similarity(POINTS, wild, rounds=rounds) for rounds in (0, 1))
    assert np.abs(robust.apply(POINTS) - POINTS).max() < np.abs(plain.apply(POINTS) - POINTS).max() / 2


@pytest.mark.parametrize("count", [1, 2, 5])
def test_points_in_one_place_give_a_shift(count):
    there = np.full((count, 2), 0.3)
    head = fit_similarity(there, there + 0.1)
    np.testing.assert_allclose(head.apply(there), there + 0.1)
    assert head.angle == 0 and head.scale == 1


def test_full_gains_change_nothing_at_all():
    driving = face(0.1)
    head = fit_similarity(POINTS, driving.points)
    assert damp(driving, head) is driving


@pytest.mark.parametrize("part", ["shift", "turn", "zoom"])
def test_a_locked_part_stays_and_the_others_go_on(part):
    truth = moved((0.1, -0.05), 0.2, 1.15)
    driving = Keypoints(
        truth.apply(POINTS).astype(np.float32), (truth.matrix @ face().jacobians).astype(np.float32)
    )
    head = fit_similarity(POINTS, driving.points)
    left = fit_similarity(POINTS, damp(driving, head, **{part: 0.0}).points)
    expected = {
        "shift": moved((0, 0), 0.2, 1.15),
        "turn": moved((0.1, -0.05), 0.0, 1.15),
        "zoom": moved((0.1, -0.05), 0.2, 1.0),
    }[part]
    np.testing.assert_allclose(left.apply(POINTS), expected.apply(POINTS), atol=1e-5)
    # Jacobians turn and grow along.
    np.testing.assert_allclose(
        damp(driving, head, **{part: 0.0}).jacobians, np.tile(expected.matrix, (16, 1, 1)), atol=1e-5
    )


def test_a_locked_head_still_speaks():
    truth = moved((0.1, -0.05), 0.2, 1.15)
    speaking = POINTS.copy()
    speaking[12, 1] += 0.1
    driving = replace(face(), points=truth.apply(speaking).astype(np.float32))
    rigid = rigid_indices(NAMES)
    still = damp(driving, fit_similarity(POINTS, driving.points, rigid), 0.0, 0.0, 0.0)
    np.testing.assert_allclose(still.points, speaking, atol=1e-5)


# Limits.


def test_ordinary_keypoints_are_not_touched():
    driving, avatar = face(0.05), face()
    assert limit(driving, avatar) is driving


def test_points_never_leave_far_and_bend_smoothly():
    avatar = np.zeros((1, 2), np.float32)
    reach = np.linspace(-3, 3, 601)
    held = np.array([limit_points(np.float32([[value, 0]]), avatar)[0, 0] for value in reach])
    assert np.abs(held).max() <= EDGE + 1e-6
    steps = np.diff(held)
    assert (steps >= -1e-6).all() and steps.max() < 0.0101  # grows everywhere, and jumps nowhere


def test_an_avatar_at_the_edge_comes_back_exactly():
    avatar = replace(face(), points=POINTS * 1.3)
    assert limit(avatar, avatar) is avatar


def test_jacobians_neither_fold_nor_explode():
    random = np.random.default_rng(0)
    wild = random.normal(0, 3, (500, 2, 2)).astype(np.float32)
    avatar = (np.eye(2) + random.normal(0, 0.15, (500, 2, 2))).astype(np.float32)
    held = limit_jacobians(wild, avatar)
    change = held @ np.linalg.inv(avatar)
    values = np.linalg.svd(change, compute_uv=False)
    assert values.max() <= STRETCH + 1e-3 and values.min() >= 0.2 - 1e-3
    assert (np.linalg.det(change) > 0).all()
    # What was within bounds is the same to the bit.
    before = np.linalg.svd(wild @ np.linalg.inv(avatar), compute_uv=False)
    kept = (before[:, 0] < 1.99) & (before[:, 1] > 0.41) & (np.linalg.det(wild @ np.linalg.inv(avatar)) > 0)
    assert kept.sum() > 3
    np.testing.assert_array_equal(held[kept], wild[kept])


def test_jacobian_limits_are_continuous():
    eye = np.eye(2, dtype=np.float32)[None]
    turned = np.float32([[[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]]])
    last = None
    for amount in np.linspace(-0.9, 5, 1181):
        held = limit_jacobians((turned @ np.diag([amount, 1.0]).astype(np.float32)).astype(np.float32), eye)
        assert last is None or np.abs(held - last).max() < 0.02
        last = held


# Lids.


def shut(amount: float) -> Keypoints:
    points = POINTS.copy()
    points[[0, 1], 1] += 0.06 * amount
    return replace(face(), points=points)


def big_eyed() -> Keypoints:
    points = POINTS.copy()
    points[[0, 1], 1] = -0.15
    return replace(face(), points=points)


def gap(keypoints: Keypoints) -> np.ndarray:
    return keypoints.points[[2, 3], 1] - keypoints.points[[0, 1], 1]


def test_openings_do_not_mind_tilt_size_or_place():
    pairs = lid_pairs(NAMES)
    truth = moved((0.1, 0.1), 0.4, 0.7)
    np.testing.assert_allclose(
        openings(truth.apply(POINTS).astype(np.float32), pairs), openings(POINTS, pairs), atol=1e-5
    )
    assert lid_pairs(("nose tip",)) is None and lid_pairs(()) is None


def test_big_eyes_close_when_small_eyes_do():
    """The driver's lids travel 0.06 and the avatar's are 0.15 apart: by Eq. 14 they would stay 0.09 apart."""
    pairs, avatar = lid_pairs(NAMES), big_eyed()
    now, initial = (openings(k.points, pairs) for k in (shut(1.0), face()))
    by_paper = replace(avatar, points=avatar.points + shut(1.0).points - POINTS)
    closed = follow_lids(by_paper, avatar, open_ratio(now, initial), pairs, identity(np.zeros(2)))
    assert gap(by_paper).min() > 0.08
    np.testing.assert_allclose(gap(closed), 0, atol=1e-5)
    assert (
        follow_lids(by_paper, avatar, open_ratio(now, initial), pairs, identity(np.zeros(2)), 0.0) is by_paper
    )


def test_open_eyes_stay_the_avatars_own():
    pairs, avatar = lid_pairs(NAMES), big_eyed()
    own = openings(POINTS, pairs)
    same = follow_lids(avatar, avatar, open_ratio(own, own), pairs, identity(np.zeros(2)))
    np.testing.assert_allclose(same.points, avatar.points, atol=1e-7)


def test_closing_goes_smoothly_from_open_to_shut():
    pairs = lid_pairs(NAMES)
    ratios = np.array(
        [
            open_ratio(openings(shut(amount).points, pairs), openings(POINTS, pairs))[0]
            for amount in np.linspace(-1, 1.3, 231)
        ]
    )
    assert (np.diff(ratios) <= 1e-6).all() and np.abs(np.diff(ratios)).max() < 0.03
    assert ratios.min() == 0 and ratios.max() <= 1.35


def test_eyes_shut_in_d1_measure_nothing():
    pairs = lid_pairs(NAMES)
    ratio = open_ratio(openings(POINTS, pairs), openings(shut(1.0).points, pairs))
    np.testing.assert_array_equal(ratio, 1)


def test_a_wink_closes_one_eye_of_a_tilted_head():
    pairs, avatar = lid_pairs(NAMES), big_eyed()
    winking = POINTS.copy()
    winking[0, 1] += 0.06
    head = moved((0.1, 0.0), 0.3, 1.1)
    driving = head.apply(winking)
    ratio = open_ratio(openings(driving, pairs), openings(POINTS, pairs))
    turned = replace(avatar, points=head.apply(avatar.points).astype(np.float32))
    result = follow_lids(turned, avatar, ratio, pairs, head)
    distance = np.linalg.norm(result.points[pairs[:, 0]] - result.points[pairs[:, 1]], axis=1)
    assert distance[0] < 1e-5 and distance[1] == pytest.approx(0.15 * 1.1, abs=0.002)
