"""D1: which frame is taken, what replaces it, and what becomes of the picture when there is no face."""

from __future__ import annotations

from dataclasses import asdict, replace

import av
import numpy as np
import pytest
from test_motion_smoothing import NAMES, POINTS, face

from livepuppet.core.images import read_image
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.transfer import movement_scale, transfer
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.framing.crop import centred_square, cut
from livepuppet.realtime.motion.calibration import Candidates, Fit
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings

#: Eq. 14-15 and nothing else.
PLAIN = MotionSettings(smoothing=0.0, eyes=0.0, countdown=0.0)


def changed(**offsets: tuple[float, float]) -> Keypoints:
    """The face with some landmarks moved, by name with _ for spaces."""
    points = POINTS.copy()
    for name, offset in offsets.items():
        points[NAMES.index(name.replace("_", " "))] += np.float32(offset)
    return replace(face(), points=points)


SPEAKING = changed(lower_lip=(0, 0.15), chin=(0, 0.12))
BLINKING = changed(left_upper_lid=(0, 0.055), right_upper_lid=(0, 0.055))
ASIDE = changed(nose_tip=(0.1, 0), upper_lip=(0.06, 0), lower_lip=(0.06, 0), chin=(0.02, 0))


def tilted(angle: float) -> Keypoints:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Keypoints((POINTS @ turn.T).astype(np.float32), (turn @ face().jacobians).astype(np.float32))


def sure(keypoints: Keypoints, confidence: float) -> Keypoints:
    return replace(keypoints, confidence=np.full(16, confidence, np.float32))


def mover(settings: MotionSettings = PLAIN, names=NAMES) -> Retargeter:
    made = Retargeter(names, settings)
    made.set_avatar(face())
    return made


# The fit.


def test_the_avatars_own_pose_fits_best():
    fit = Fit(face(), NAMES)
    assert fit(face()) == pytest.approx(1.0)
    for worse in (SPEAKING, BLINKING, ASIDE, tilted(0.3), tilted(-0.3)):
        assert fit(worse) < 0.7


def test_place_and_size_do_not_matter():
    fit = Fit(face(), NAMES)
    assert fit(replace(face(), points=POINTS * np.float32(0.8) + np.float32(0.1))) > 0.99


def test_unsure_keypoints_fit_less():
    fit = Fit(face(), NAMES)
    assert fit(sure(face(), 0.9)) == pytest.approx(1.0)
    assert fit(sure(face(), 0.35)) == pytest.approx(0.5, abs=0.01)


def test_without_names_the_shape_counts():
    fit = Fit(face())
    assert fit(face()) == pytest.approx(1.0) and fit(tilted(0.6)) < fit(tilted(0.3)) < 1


def test_of_equal_poses_the_one_where_the_head_mostly_is():
    candidates = Candidates()
    away = face(0.3)
    candidates.add(away, 0.8)
    for _ in range(10):
        candidates.add(face(), 0.75)
    assert candidates.best() is not away


# The mover.


def test_plain_settings_are_the_papers_equations():
    random = np.random.default_rng(1)
    made = mover()
    avatar = Keypoints(
        (0.8 * POINTS).astype(np.float32),
        (np.eye(2) + random.normal(0, 0.1, (16, 2, 2))).astype(np.float32),
    )
    made.set_avatar(avatar)
    made.move(face(), 0.0)
    for index in range(5):
        driving = Keypoints(
            (POINTS + random.normal(0, 0.02, POINTS.shape)).astype(np.float32),
            (np.eye(2) + random.normal(0, 0.1, (16, 2, 2))).astype(np.float32),
        )
        expected = transfer(driving, face(), avatar, movement_scale(avatar, face()))
        result = made.move(driving, 0.04 * (index + 1))
        np.testing.assert_array_equal(result.points, expected.points)
        np.testing.assert_array_equal(result.jacobians, expected.jacobians)


def test_absolute_mode_hands_the_pose_over():
    made = mover(replace(PLAIN, relative=False))
    made.move(face(), 0.0)
    np.testing.assert_array_equal(made.move(SPEAKING, 0.04).points, SPEAKING.points)


def test_strength_scales_all_motion():
    for strength, share in ((0.0, 0.0), (0.5, 0.5), (2.0, 2.0)):
        made = mover(replace(PLAIN, strength=strength))
        made.move(face(), 0.0)
        result = made.move(SPEAKING, 0.04)
        np.testing.assert_allclose(result.points - POINTS, share * (SPEAKING.points - POINTS), atol=1e-6)


def test_settings_go_into_a_file_and_back():
    settings = MotionSettings(strength=1.4, search=True)
    assert MotionSettings(**asdict(settings)) == settings


def test_without_a_countdown_the_first_frame_is_d1():
    made = mover()
    assert made.state == "counting" and made.initial is None
    np.testing.assert_array_equal(made.move(ASIDE, 7.0).points, POINTS)
    assert made.state == "live" and made.initial is ASIDE


def test_a_countdown_takes_the_best_frame():
    made = mover(replace(PLAIN, countdown=1.0))
    frames = [ASIDE, tilted(0.2), SPEAKING, face(), BLINKING, SPEAKING]
    for index, keypoints in enumerate(frames):
        assert made.move(keypoints, 5 + index * 0.2) is None or index == 5
    assert made.state == "live"
    np.testing.assert_array_equal(made.initial.points, POINTS)
    assert made.initial_fit == pytest.approx(1.0)
    assert any("Neutral pose" in sentence for sentence in made.events()) and made.events() == []


def test_a_countdown_waits_for_a_face_but_not_for_ever():
    made = mover(replace(PLAIN, countdown=1.0))
    for step in range(20):
        assert made.move(sure(SPEAKING, 0.1), 0.1 * step) is None
    assert made.move(sure(face(), 0.8), 2.0) is not None
    assert made.initial.confidence[0] > 0.5
    made.reset(1.0)
    assert all(made.move(sure(face(), 0.1), 3 + 0.1 * step) is None for step in range(55))
    assert made.move(sure(face(), 0.1), 9.5) is not None


def test_reset_takes_the_next_frame():
    made = mover()
    made.move(ASIDE, 0.0)
    made.reset()
    np.testing.assert_array_equal(made.move(face(), 0.04).points, POINTS)
    np.testing.assert_array_equal(made.initial.points, POINTS)


def test_another_avatar_moves_at_once_and_d1_stays():
    made = mover()
    made.move(face(), 0.0)
    other = replace(face(), points=(POINTS * 0.5).astype(np.float32))
    made.set_avatar(other)
    np.testing.assert_array_equal(made.initial.points, POINTS)
    np.testing.assert_allclose(made.move(face(), 0.04).points, other.points, atol=1e-6)


def test_a_saved_d1_holds_through_the_first_framing_and_no_other():
    made = mover(replace(PLAIN, countdown=2.0))
    made.initial = face()
    made.frame_changed()
    assert made.state == "live"
    np.testing.assert_allclose(made.move(SPEAKING, 0.0).points, SPEAKING.points, atol=1e-6)
    made.frame_changed()
    made.move(SPEAKING, 0.1)
    assert made.initial is SPEAKING


def test_a_saved_d1_of_another_model_is_refused():
    made = mover()
    with pytest.raises(ValueError, match="16 keypoints"):
        made.initial = Keypoints(POINTS[:10], face().jacobians[:10])
    with pytest.raises(ValueError, match="finite"):
        made.initial = replace(face(), points=np.full_like(POINTS, np.inf))


def test_search_goes_over_to_a_better_d1_without_a_jump():
    made = mover(replace(PLAIN, search=True))
    made.move(ASIDE, 0.0)
    last, steps = made.move(face(), 0.04), []
    for index in range(2, 30):
        now = made.move(face(), 0.04 * index)
        steps.append(np.abs(now.points - last.points).max())
        last = now
    assert max(steps) < 0.03  # the nose is 0.1 off
    np.testing.assert_allclose(last.points, POINTS, atol=1e-6)
    np.testing.assert_array_equal(made.initial.points, POINTS)
    assert [sentence for sentence in made.events() if "better" in sentence]


def test_search_keeps_a_good_d1_and_off_is_off():
    for settings, first in ((replace(PLAIN, search=True), face()), (PLAIN, ASIDE)):
        made = mover(settings)
        made.move(first, 0.0)
        for index in range(1, 30):
            made.move([face(), SPEAKING, face(0.01)][index % 3], 0.04 * index)
        np.testing.assert_array_equal(made.initial.points, first.points)


def test_one_good_frame_is_no_reason_to_change():
    made = mover(replace(PLAIN, search=True))
    made.move(ASIDE, 0.0)
    for index in range(1, 20):
        made.move(face() if index % 4 == 0 else ASIDE, 0.04 * index)
    np.testing.assert_array_equal(made.initial.points, ASIDE.points)


@pytest.mark.parametrize("follow", [True, False])
def test_a_head_that_settles_elsewhere_is_followed_slowly(follow):
    made = mover(replace(PLAIN, follow_drift=follow))
    made.move(face(), 0.0)
    sunk, steps = face(np.float32([0.02, 0.1])), []
    last = made.move(sunk, 0.1)
    for index in range(2, 200):
        now = made.move(sunk, 0.1 * index)
        steps.append(np.abs(now.points - last.points).max())
        last = now
    assert max(steps) < 0.01
    off = np.abs(last.points - POINTS).max()
    assert off < 0.01 if follow else off > 0.09


def test_a_head_that_keeps_moving_is_not_followed():
    made = mover(replace(PLAIN, follow_drift=True))
    made.move(face(), 0.0)
    for index in range(1, 200):
        made.move(face(np.float32([0.2 * np.sin(0.1 * index), 0.1])), 0.1 * index)
    np.testing.assert_array_equal(made.initial.points, POINTS)


def test_a_lost_face_brings_the_avatar_to_rest_and_back():
    made = mover()
    made.move(sure(face(), 0.8), 0.0)
    moving = made.move(sure(SPEAKING, 0.8), 0.04)
    # Nonsense with no confidence does not pull at the avatar, not even at first.
    wild = sure(tilted(2.0), 0.1)
    np.testing.assert_array_equal(made.move(wild, 0.08).points, moving.points)
    states, offs = [], []
    for index in range(3, 40):
        offs.append(np.abs(made.move(wild, 0.04 * index).points - POINTS).max())
        states.append(made.state)
    assert states[0] == "live" and states[-1] == "lost"
    assert offs[-1] < 1e-6 and np.abs(np.diff(offs)).max() < 0.03
    assert sum("No face" in sentence for sentence in made.events()) == 1
    back = [
        np.abs(made.move(sure(SPEAKING, 0.8), 1.6 + 0.04 * index).points - POINTS).max()
        for index in range(20)
    ]
    assert made.state == "live" and back[0] < 0.01 and back[-1] == pytest.approx(0.15, abs=1e-5)


def test_a_short_doubt_is_no_loss():
    made = mover()
    made.move(sure(face(), 0.8), 0.0)
    for index in range(1, 60):
        made.move(sure(face(), 0.1 if index % 10 < 5 else 0.8), 0.04 * index)
        assert made.state == "live"


def test_shapes_tell_where_confidence_is_missing():
    made = mover()
    made.move(face(), 0.0)
    heap = replace(face(), points=np.random.default_rng(0).uniform(-1, 1, POINTS.shape).astype(np.float32))
    for index in range(1, 30):
        made.move(heap, 0.04 * index)
    assert made.state == "lost"
    for extreme in (SPEAKING, BLINKING, ASIDE, tilted(0.6), face(0.4)):
        fresh = mover()
        fresh.move(face(), 0.0)
        for index in range(1, 30):
            fresh.move(extreme, 0.04 * index)
        assert fresh.state == "live"


def test_models_that_are_never_sure_are_measured_against_themselves():
    made = mover()
    for index in range(40):
        made.move(sure(face(), 0.2), 0.04 * index)
        assert made.state == "live"
    for index in range(40, 60):
        made.move(sure(face(), 0.05), 0.04 * index)
    assert made.state == "lost"


@pytest.mark.parametrize("countdown", [0.0, 1.0])
def test_a_neutral_pose_of_black_frames_lasts_until_there_is_a_face(countdown):
    made = mover()
    made.reset(countdown)
    black = sure(replace(face(), points=np.zeros_like(POINTS)), 0.0)
    for index in range(200):
        made.move(black, 0.04 * index)
    made.events()
    for index in range(200, 230):
        made.move(sure(face(), 0.8), 0.04 * index)
    np.testing.assert_allclose(made.initial.points, face().points, atol=1e-6)
    assert made.state == "live" and made.events()[0] == "Neutral pose taken anew, as there is a face now."


def test_freezing_holds_the_picture_and_goes_on_softly():
    made = mover()
    made.move(face(), 0.0)
    held = made.move(SPEAKING, 0.04)
    made.freeze(True)
    assert made.state == "frozen" and made.move(face(), 0.5) is held
    made.freeze(False)
    first, last = made.move(face(), 1.0), made.move(face(), 1.4)
    assert np.abs(first.points - held.points).max() < 1e-6
    np.testing.assert_allclose(last.points, POINTS, atol=1e-6)


def test_numbers_that_are_none_hold_the_last_picture():
    made = mover()
    made.move(face(), 0.0)
    held = made.move(SPEAKING, 0.04)
    broken = replace(face(), points=np.full_like(POINTS, np.nan))
    assert made.move(broken, 0.08) is held
    np.testing.assert_array_equal(made.move(SPEAKING, 0.12).points, held.points)


def test_a_crop_that_moves_leaves_the_picture_where_it_is():
    made = mover(replace(PLAIN, smoothing=1.0))
    made.move(face(), 0.0)
    before = made.move(SPEAKING, 0.04)

    def other_crop(keypoints):
        return replace(keypoints, points=keypoints.points + np.float32([0.2, -0.1]))

    made.remap(other_crop)
    after = made.move(other_crop(SPEAKING), 0.08)
    assert np.abs(after.points - before.points).max() < np.abs(SPEAKING.points - POINTS).max()
    np.testing.assert_allclose(made.initial.points, other_crop(face()).points, atol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 10])
def test_models_without_names_or_with_few_keypoints(count):
    random = np.random.default_rng(2)
    points = random.uniform(-0.6, 0.6, (count, 2)).astype(np.float32)
    made = Retargeter((), MotionSettings(countdown=0.2, shift=0.5, search=True, follow_drift=True))
    own = Keypoints(points, np.tile(np.eye(2, dtype=np.float32), (count, 1, 1)))
    made.set_avatar(own)
    for index in range(30):
        driving = replace(own, points=(points + 0.002 * index).astype(np.float32))
        result = made.move(driving, index / 30)
    assert np.isfinite(result.points).all() and result.points.shape == (count, 2)


def test_moving_without_an_avatar_is_a_mistake():
    with pytest.raises(ValueError, match="set_avatar"):
        Retargeter(NAMES).move(face(), 0.0)


# With the real model.


def _track(engine, clip) -> list[Keypoints]:
    with av.open(str(clip)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [
        engine.detect(cut(picture, centred_square(*picture.shape[:2]), engine.size)) for picture in pictures
    ]


def _wrong(engine, avatar: Keypoints, track: list[Keypoints], countdown: float, true: Keypoints) -> float:
    """By how many pixels the avatar's landmarks are off, on average, for want of the true neutral pose."""
    made = Retargeter(engine.keypoint_names, MotionSettings(countdown=countdown))
    made.set_avatar(avatar)
    for index, keypoints in enumerate(track):
        made.move(keypoints, index / 25)
    off = movement_scale(avatar, true) * (made.initial.points - true.points)
    return float(np.linalg.norm(off, axis=1).mean() * (engine.size - 1) / 2)


def test_a_bad_first_frame_does_not_ruin_the_session():
    """The bundled clip begins with the neutral pose; here its driver looks aside first, and then comes to it."""
    engine = load_engine("onnx", threads=1)
    picture = read_image(bundled.AVATAR)
    avatar = engine.detect(cut(picture, centred_square(*picture.shape[:2]), engine.size))
    track = _track(engine, bundled.DRIVING)[:61]
    true = track[0]
    late = track[60:44:-1] + track[:40]
    first, best = (_wrong(engine, avatar, late, countdown, true) for countdown in (0.0, 2.0))
    assert first > 12
    assert best < first / 2 and best < 8


def test_a_countdown_is_better_than_the_first_frame_on_real_faces(shared):
    """From anywhere in two clips, against the median of the person's landmarks."""
    engine = load_engine("onnx", threads=1)
    picture = read_image(bundled.AVATAR)
    avatar = engine.detect(cut(picture, centred_square(*picture.shape[:2]), engine.size))
    first, best = [], []
    for name in ("face05", "face08"):
        track = _track(engine, shared / "clips" / f"{name}.mp4")
        middle = np.median([keypoints.points for keypoints in track], axis=0).astype(np.float32)
        true = Keypoints(middle, track[0].jacobians)
        for start in range(0, len(track) - 75, 15):
            part = track[start : start + 60]
            first.append(_wrong(engine, avatar, part, 0.0, true))
            best.append(_wrong(engine, avatar, part, 2.0, true))
    assert np.mean(best) < 0.85 * np.mean(first)
