"""Faces in numbers: as keypoints of a neutral face, and through the animator, with a rig and without."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tiny_bundle
from media import gradient

from livepuppet import Animator, FacePose, LivePuppetError, MotionSettings, load_engine
from livepuppet.realtime.animator import ALWAYS_RELATIVE
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.driving.frames import FaceFrame, sketch
from livepuppet.realtime.rig.amounts import INDEX, NAMES, LandmarkReader
from livepuppet.realtime.rig.pose import PoseTracker
from livepuppet.realtime.rig.told import NeutralFace


@pytest.fixture(scope="module")
def engine():
    return load_engine("onnx", threads=1)


@pytest.fixture(scope="module")
def animator(engine):
    """The bundled avatar, drawn by its rig, as still as possible."""
    return Animator(AVATAR, engine=engine, size=192, settings=MotionSettings(countdown=0, smoothing=0))


def shown(animator: Animator, face: FacePose, start: float = 0.0) -> np.ndarray:
    """The picture once `face` has been there for a while."""
    for k in range(4):
        picture = animator(face, start + k / 10)
    return picture.astype(np.int32)


def test_keypoints_of_a_neutral_face_are_read_as_what_was_told(engine):
    names = list(engine.keypoint_names)
    neutral = NeutralFace(names)
    rest = neutral.keypoints(FacePose.rest())
    for told in (
        {"jawOpen": 0.6},
        {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
        {"browOuterUpRight": 0.7},
        {"browDownLeft": 0.7},
        {"eyeLookOutLeft": 0.5, "eyeLookInRight": 0.5},
        {"eyeLookUpLeft": 0.5, "eyeLookUpRight": 0.5},
        {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8},
        {"mouthPucker": 0.6},
        {"mouthFrownRight": 0.5},
        {"mouthLeft": 0.5},
    ):
        reader = LandmarkReader(names)
        reader.set_neutral(rest)
        read = reader.read(neutral.keypoints(FacePose.of(told)))
        for name, value in told.items():
            assert read[INDEX[name]] == pytest.approx(value, abs=0.15), (name, read[INDEX[name]])


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
def test_the_pose_of_a_neutral_face_can_be_measured(engine, angle):
    neutral = NeutralFace(engine.keypoint_names)
    tracker = PoseTracker(engine.keypoint_names, replace(neutral.keypoints(FacePose.rest()), reading=None))
    told = FacePose.of(**{angle: 0.25}, shift=(0.2, -0.1), scale=1.1)
    found = tracker.pose(replace(neutral.keypoints(told), reading=None))
    # The tracker's gains are for detectors, which see less than there is.
    assert dict(zip(("yaw", "pitch", "roll"), found.angles, strict=True))[angle] == pytest.approx(
        0.25, rel=0.5
    )
    assert found.scale == pytest.approx(1.1, abs=0.05)
    assert found.shift / neutral.unit == pytest.approx([0.22, -0.11], abs=0.06)


def test_a_neutral_face_rests_to_the_bit_and_what_is_told_moves_it(animator):
    rest = shown(animator, FacePose.rest())
    assert np.array_equal(rest, animator.draw_at_rest())
    assert animator.retargeter.state == "live" and animator.is_told
    for start, face in enumerate(
        (FacePose.of(jawOpen=0.5), FacePose.of(yaw=0.3), FacePose.of(shift=(0.2, 0))), 1
    ):
        assert np.abs(shown(animator, face, 10.0 * start) - rest).mean() > 0.5
    assert np.array_equal(shown(animator, FacePose.rest(), 90.0), rest)


#: What the rig of the bundled avatar does not draw.
NOT_DRAWN = {"jawForward"}


def test_every_amount_that_the_rig_draws_changes_the_picture(animator):
    rest = shown(animator, FacePose.rest())
    # What goes with an open mouth, or takes one back, is seen in one.
    opened = shown(animator, FacePose.of(jawOpen=0.5), 10.0)
    still = set()
    for index, name in enumerate(NAMES):
        with_open = name in ("mouthClose", "tongueOut")
        told = {name: 1.0, **({"jawOpen": 0.5} if with_open else {})}
        change = shown(animator, FacePose.of(told), 20.0 + 10 * index) - (opened if with_open else rest)
        if np.abs(change).max() < 8:
            still.add(name)
    assert still == NOT_DRAWN


def test_settings_hold_for_told_faces_too(animator):
    face = FacePose.of(jawOpen=0.5, yaw=0.3)
    rest = animator.draw_at_rest().astype(np.int32)
    whole = np.abs(shown(animator, face) - rest).mean()
    animator.settings = MotionSettings(countdown=0, smoothing=0, strength=0.3)
    try:
        assert np.abs(shown(animator, face, 10.0) - rest).mean() < 0.7 * whole
        animator.settings = MotionSettings(countdown=0, smoothing=0, relative=False)
        shown(animator, face, 20.0)
        assert ALWAYS_RELATIVE in animator.events() and animator.settings.relative
        animator.retargeter.freeze(True)
        frozen = shown(animator, FacePose.rest(), 30.0)
        assert np.abs(frozen - rest).mean() > 0.5
        animator.retargeter.freeze(False)
        shown(animator, FacePose.rest(), 31.0)
        assert np.array_equal(shown(animator, FacePose.rest(), 33.0), rest)
    finally:
        animator.settings = MotionSettings(countdown=0, smoothing=0)


def test_the_rest_of_a_phone_is_its_first_face(animator):
    animator.reset()
    own = FacePose.of(
        mouthSmileLeft=0.2, mouthSmileRight=0.2, yaw=0.2, pitch=-0.3, shift=(1.0, 0.5), scale=0.8
    )
    own = FacePose(own.amounts, own.head, own_rest=False)
    rest = animator.draw_at_rest().astype(np.int32)
    assert np.abs(shown(animator, own) - rest).max() <= 1
    more = FacePose.of(mouthSmileLeft=1, mouthSmileRight=1)
    since = FacePose(more.amounts, own.head, own_rest=False).since(own)
    assert since.amounts[INDEX["mouthSmileLeft"]] == pytest.approx(1.0) and not since.head.shift.any()
    # Away: the picture goes home by itself.
    told = FacePose.of(jawOpen=0.8, yaw=0.5)
    away = FacePose(told.amounts, told.head, own_rest=False, seen=False)
    shown(animator, FacePose(told.amounts, own.head, own_rest=False), 5.0)
    for k in range(40):
        picture = animator(away, 6.0 + k / 10)
    assert np.abs(picture.astype(np.int32) - rest).max() <= 1 and animator.retargeter.state == "lost"
    animator.reset()


def test_a_mirror_shows_the_other_side():
    face = FacePose.of(eyeBlinkLeft=1, yaw=0.2, roll=0.1, shift=(0.3, 0.1))
    other = face.mirrored()
    assert other.amounts[INDEX["eyeBlinkRight"]] == 1 and other.head.shift.tolist() == [-0.3, 0.1]
    yaw, pitch, roll = other.head.angles
    assert (yaw, roll) == pytest.approx((-0.2, -0.1)) and pitch == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("rig", ["off", "face"])
def test_where_no_rig_draws_the_model_moves_by_keypoints(engine, rig):
    animator = Animator(AVATAR, engine=engine, rig=rig, settings=MotionSettings(countdown=0, smoothing=0))
    # The model draws what it was given only roughly.
    rest = shown(animator, FacePose.rest())
    turned = shown(animator, FacePose.of(roll=0.2, jawOpen=0.6), 10.0)
    assert np.abs(turned - rest).mean() > 2


def test_keypoints_without_names_come_from_a_drawn_face(tmp_path):
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny")
    engine = load_engine("onnx", bundle, threads=1)
    animator = Animator(gradient(64, 64), engine=engine)
    animator(FacePose.rest(), 0.0)
    rest = animator.retargeter.initial
    animator(FacePose.of(shift=(0.6, 0.0), jawOpen=1.0), 0.1)
    assert rest is not None and animator.retargeter.initial is rest
    assert animator._actor is not None and animator.retargeter.state == "live"


def test_a_picture_may_follow_a_told_face(engine):
    animator = Animator(AVATAR, engine=engine, rig="off", crop="full")
    shown(animator, FacePose.of(jawOpen=0.4))
    size = engine.size
    animator(np.full((size, size, 3), 90, np.uint8), 50.0)
    assert not animator.is_told and not isinstance(animator.retargeter.initial.reading, FacePose)
    shown(animator, FacePose.rest(), 60.0)
    assert animator.is_told


@pytest.mark.parametrize(
    "told, sentence",
    [
        ({"smile": 1}, "no amount"),
        ({"jawOpen": "wide"}, "not a number"),
        ({"yaw": float("nan")}, "finite"),
        ({"scale": 0}, "above 0"),
    ],
)
def test_bad_numbers_are_a_sentence(told, sentence):
    with pytest.raises(LivePuppetError, match=sentence):
        FacePose.of(**told)


def test_a_frame_brings_its_face_and_a_sketch_of_it(animator):
    face = FacePose.of(jawOpen=0.5, yaw=0.2)
    frame = FaceFrame(sketch(face), Fraction(0), 0.0, face=face)
    plan = animator.plan(frame, 200.0)
    assert plan.driving_square is frame.image and frame.image.dtype == np.uint8
    assert not np.array_equal(sketch(face), sketch(FacePose.rest()))
