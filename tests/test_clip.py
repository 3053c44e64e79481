"""Files that are looked through before they are drawn: faces, shots, the neutral pose, smoothing."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from media import read_clip, write_clip, write_picture

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import EYE_NUMBERS, HEAD_NUMBERS, MOUTH_AMOUNTS, MOUTH_NUMBERS, FaceReading
from livepuppet.core.square import Square
from livepuppet.core.video import Frame, open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animate import OFFLINE, animate
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.clip.neutral import faults
from livepuppet.realtime.clip.plan import clock, plan
from livepuppet.realtime.clip.shots import Cuts
from livepuppet.realtime.clip.smoothing import HEAD_SIZES, SIZE_CUTOFFS, smooth, smooth_head
from livepuppet.realtime.clip.survey import Survey, Watcher, _Place, check_face, look_through
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.rig.close_ups import EYE_AT
from livepuppet.realtime.rig.pose import (
    CLOSE_NOD_GAIN,
    CLOSE_TURN_GAIN,
    SKULL_MIDDLE,
    PoseTracker,
    head_in_space,
    joined,
)
from livepuppet.realtime.rig.template import head_template

#: Moments of the bundled clip: at rest, mouth wide open, head turned aside.
REST, OPEN, TURNED = range(12), range(278, 284), range(110, 116)

GRAY = np.full((180, 320, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def engine():
    return load_engine("onnx", threads=1)


@pytest.fixture(scope="module")
def clip():
    """The bundled clip's frames at those moments, by number."""
    wanted = {*REST, *OPEN, *TURNED}
    with open_video(bundled.DRIVING) as video:
        return {
            number: frame.image for number, frame in zip(sorted(wanted), video.frames(wanted), strict=True)
        }


@pytest.fixture(scope="module")
def look(engine):
    """Look through pictures as `animate` does, without close-ups."""

    def through(pictures, rate=25, **options) -> Survey:
        frames = [
            Frame(picture, Fraction(index, rate), 0.0, Fraction(1, rate))
            for index, picture in enumerate(pictures)
        ]

        class Video(list):
            start, broken = Fraction(0), None

        return look_through(Video(frames), Watcher(engine, lambda image, square, found: found, **options))

    return through


@pytest.fixture(scope="module")
def small_avatar(tmp_path_factory):
    picture = cv2.imread(str(bundled.AVATAR))[..., ::-1]
    small = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
    return write_picture(tmp_path_factory.mktemp("avatar") / "avatar.png", small)


def planned(engine, survey, neutral="auto", **options):
    return plan(survey, engine.keypoint_names, engine.size, neutral, **options)


def beside(face: np.ndarray, x: int, side: int = 150, height: int = 180, width: int = 320) -> np.ndarray:
    """A wide gray picture with a face at `x`."""
    picture = np.full((height, width, 3), 90, np.uint8)
    small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    left, right = max(x, 0), min(x + side, width)
    picture[20 : 20 + side, left:right] = small[:, left - x : right - x]
    return picture


def card() -> np.ndarray:
    picture = np.full((180, 320, 3), 230, np.uint8)
    cv2.putText(picture, "MY VIDEO", (60, 100), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20, 20, 20), 2)
    return picture


# Cuts.


def test_cuts_are_seen_and_motion_is_none(clip):
    moving = [beside(clip[0], 40 + 3 * step) for step in range(12)]
    elsewhere = [beside(clip[0], 150 + 3 * step)[:, ::-1] for step in range(4)]
    cuts = Cuts()
    assert [cuts.see(picture) for picture in (*moving, *elsewhere)] == [False] * 12 + [True] + [False] * 3


def test_a_cut_in_every_frame_is_no_cut_any_more():
    random = np.random.default_rng(0)
    cuts = Cuts()
    seen = [cuts.see(np.full((90, 160, 3), random.integers(0, 255, 3), np.uint8)) for _ in range(40)]
    assert sum(seen[3:]) <= 2


def test_a_dissolve_is_a_cut_where_it_ends_and_fading_light_is_none(clip):
    light = np.linspace(60, 200, 320, dtype=np.float32)[None, :, None].repeat(180, 0)
    one = [beside(clip[REST[step % 12]], 20) for step in range(34)]
    other = [
        beside(clip[REST[step % 12]], 150)[:, ::-1] * 0.5 + light * (0.3, 0.5, 0.6) for step in range(34)
    ]
    for blended in (10, 18):
        shares = np.clip((np.arange(34) - 8) / blended, 0, 1)[:, None, None, None]
        pictures = ((1 - shares) * one + shares * other).astype(np.uint8)
        cuts = Cuts()
        seen = [number for number, picture in enumerate(pictures) if cuts.see(picture)]
        assert len(seen) == 1 and 0 <= seen[0] - (8 + blended) <= 2
        # A size that changes in the middle of it.
        cuts = Cuts()
        assert [cuts.see(picture) for picture in (*pictures[: 8 + blended], *pictures[:2, ::2, ::2])][
            -2:
        ] == [True, False]
        dimmed = (other * (1 - 0.6 * shares)).astype(np.uint8)
        cuts = Cuts()
        assert not any(cuts.see(picture) for picture in dimmed)


# What is seen.


def test_a_title_card_then_a_face_at_the_side(engine, look, clip):
    seen = look([card()] * 15 + [beside(clip[number], 165) for number in REST])
    assert [one.keypoints is not None for one in seen.seen] == [False] * 15 + [True] * 12
    made = planned(engine, seen)
    assert made.sentences == (
        "Neutral pose from 0:00.6, where that face is first seen.",
        "No face from 0:00.0 to 0:00.6: the picture rests there.",
    )
    assert made.shown[15].begins is not None and sum(one.begins is not None for one in made.shown) == 1
    # The square is around the face, 75 pixels from the picture's middle.
    square = made.shown[15].square
    assert abs(square.x + square.side / 2 - 240) < 20 and 100 < square.side < 190


def test_a_jump_cut_keeps_the_person_and_starts_the_square_anew(engine, look, clip):
    here = [beside(clip[number], 10) for number in REST[:8]]
    there = [beside(clip[number], 160) for number in REST[4:]]
    seen = look(here + there)
    assert {one.shot for one in seen.seen} == {0, 1}
    made = planned(engine, seen)
    assert made.sentences == ()
    begins = [one.begins for one in made.shown if one.begins is not None]
    assert len(begins) == 2
    # The same pose, where the head is in either square.
    assert np.abs(begins[0].points - begins[1].points).max() < 0.12
    assert made.shown[8].square.x - made.shown[7].square.x == pytest.approx(150, abs=25)
    assert np.abs(made.shown[8].driving.points - begins[1].points).max() < 0.1


def test_a_shot_has_the_head_in_the_middle_however_small_the_jump(engine, look, clip):
    here = [beside(clip[number], 60) for number in REST[:8]]
    there = [cv2.convertScaleAbs(beside(clip[number], 72), alpha=0.8) for number in REST[:6]]
    seen = look(here + there)
    assert {one.shot for one in seen.seen} == {0, 1}
    shown = planned(engine, seen).shown
    assert 6 < shown[8].square.x - shown[0].square.x < 18
    assert np.abs(shown[8].driving.points - shown[8].begins.points).max() < 0.06


def test_a_square_that_was_put_around_a_turned_face_is_put_right(engine, look, clip):
    turned = [beside(clip[TURNED[step % 6]], 140) for step in range(13)]
    straight = [beside(clip[REST[step % 12]], 140) for step in range(40)]
    found, wanted = look(turned + straight).seen[-1], look(straight).seen[-1]
    assert abs(found.square.x - wanted.square.x) < 10 and abs(found.square.side - wanted.square.side) < 20
    assert found.keypoints.confidence.mean() > wanted.keypoints.confidence.mean() - 0.05


def test_another_person_gets_a_neutral_pose_of_their_own(engine, look, clip):
    other = cv2.cvtColor(cv2.flip(clip[0], 1), cv2.COLOR_RGB2BGR)
    wider = cv2.resize(other, (256, 330))[40:296]
    seen = look([beside(clip[number], 10) for number in REST[:8]] + [beside(wider, 160)] * 8)
    made = planned(engine, seen)
    _, second = [one.begins for one in made.shown if one.begins is not None]
    assert np.array_equal(second.points, made.shown[8].driving.points)
    assert any("of another face" in sentence for sentence in made.sentences)


def test_a_clip_that_cuts_every_frame_or_has_one_frame(engine, look, clip):
    random = np.random.default_rng(1)
    shots = [random.integers(0, 255, (60, 80, 3), np.uint8) for _ in range(6)]
    assert not look(shots).has_face
    made = planned(engine, look([clip[0]]))
    assert len(made.shown) == 1 and made.shown[0].begins is not None


def test_one_face_in_another_room_at_every_cut_is_one_person(engine, look, clip):
    random, pictures = np.random.default_rng(3), []
    for step in range(36):
        colours = random.integers(0, 255, (6, 8, 3), np.uint8)
        room = cv2.resize(colours, (640, 360), interpolation=cv2.INTER_LINEAR)
        side = int(random.integers(170, 300))
        x, y = int(random.integers(0, 640 - side)), int(random.integers(0, 360 - side))
        face = clip[REST[step // 2 % len(REST)]]
        room[y : y + side, x : x + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        pictures.append(room)
    made = planned(engine, look(pictures))
    assert len([one for one in made.shown if one.begins is not None]) > 2
    assert {one.person for one in made.shown} == {0}
    assert not any("another face" in sentence for sentence in made.sentences)


def test_a_head_that_leaps_from_frame_to_frame_does_what_it_does_in_its_place(engine, look, clip):
    pictures = [beside(clip[REST[step]], (20, 130, 60, 160)[step % 4]) for step in range(12)]
    made = planned(engine, look(pictures))
    assert any("somewhere else in nearly every frame from 0:00" in sentence for sentence in made.sentences)
    heads = np.array([one.driving.points.mean(axis=0) for one in made.shown if one.driving is not None])
    assert len(heads) > 5 and np.ptp(heads, axis=0).max() < 0.1
    # A slide show may have its heads anywhere.
    slow = planned(engine, look(pictures, rate=5))
    assert not any("every frame" in sentence for sentence in slow.sentences)


def test_someone_who_walks_across_is_followed(engine, look, clip):
    pictures = [beside(clip[REST[step % 12]], 10 + 5 * step) for step in range(31)]
    made = planned(engine, look(pictures))
    assert all(one.driving is not None for one in made.shown)
    places = np.array([one.square.x + one.square.side / 2 for one in made.shown])
    assert places[-1] - places[0] > 100
    # Without a swing: the square's steps are even, and the head stays near its place in it.
    steps = np.diff(places)
    assert steps.min() > 0 and steps.max() < 3 * np.median(steps)
    heads = np.array([one.driving.points.mean(axis=0) for one in made.shown])
    assert np.ptp(heads[:, 0]) < 0.35


def test_a_face_on_its_head_and_one_that_never_moves_are_said(engine, look, clip):
    upright = [clip[number] for number in REST]
    over = planned(engine, look([picture[::-1].copy() for picture in upright]))
    assert any("upside down from 0:00.0" in sentence for sentence in over.sentences)
    assert planned(engine, look(upright)).sentences == ()
    printed = planned(engine, look(upright[:1] * 6, rate=5))
    assert any("never moves" in sentence and "--face" in sentence for sentence in printed.sentences)
    speaking = [*upright[:4], *(clip[number] for number in OPEN[:2])]
    assert planned(engine, look(speaking, rate=5)).sentences == ()


def test_a_small_face_on_its_head_is_said(tmp_path, engine, look, small_avatar, clip):
    upright = [beside(clip[number], 20) for number in REST[:3]]
    over = [picture[::-1, ::-1].copy() for picture in upright]
    turned = write_clip(tmp_path / "turned.mp4", over, rate=25)
    with pytest.raises(UserError, match=r"one that is upside down at 0:00\.0: turn the video first"):
        animate(small_avatar, turned, tmp_path / "o.mp4", engine=engine)
    assert not (tmp_path / "o.mp4").exists()
    # Where the right way up follows, that drives, and nothing is wrong with it.
    assert look([*over, *upright]).upside_down is None


@pytest.mark.parametrize(
    "yaw, pitch, opening", [(0.5, 0.0, 0.0), (-0.4, 0.2, 0.0), (0.0, -0.25, 0.0), (0.0, 0.0, 0.5)]
)
def test_a_head_that_turns_nods_or_opens_its_mouth_has_not_left(engine, yaw, pitch, opening):
    names = [name for name in engine.keypoint_names if name in head_template().landmarks]
    places = np.array([head_template().landmarks[name] for name in names])

    def seen(yaw: float, pitch: float, opening: float) -> Keypoints:
        turned = places + [(0, opening * (name in ("lower lip", "chin")), 0) for name in names]
        turned = (turned - SKULL_MIDDLE) @ joined(np.array([-pitch, yaw]), 0.0).T
        reading = FaceReading(
            *(np.zeros(shape, np.float32) for shape in ((2, EYE_NUMBERS), MOUTH_NUMBERS, HEAD_NUMBERS))
        )
        reading.head[:2] = yaw / CLOSE_TURN_GAIN, pitch / CLOSE_NOD_GAIN
        matrices = np.eye(2, dtype=np.float32)[None].repeat(len(names), 0)
        return Keypoints((0.4 * turned[:, :2]).astype(np.float32), matrices, None, reading)

    for place, unit in (head_in_space(seen(*pose), names) for pose in ((0, 0, 0), (yaw, pitch, opening))):
        assert np.abs(place).max() < 0.01 and abs(unit / 0.4 - 1) < 0.05
    square = _Place(Square(100, 100, 200), names, (400, 400, 3))
    for pose in ((0, 0, 0), *[(yaw, pitch, opening)] * 5):
        square.follow(seen(*pose), 400, 400)
    assert square.square == Square(100, 100, 200)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (9, 2, 3)])
def test_pictures_of_a_few_pixels_show_no_face(look, shape):
    assert not look([np.full(shape, 200, np.uint8)] * 3).has_face


def test_one_of_two_faces_drives(look, clip):
    two = [beside(clip[number], 0, 140) for number in REST[:3]]
    for picture in two:
        picture[20:160, 170:310] = picture[20:160, 0:140][:, ::-1]
    for face, middle in (("left", 70), ("right", 240), (1, 70), ("2", 240)):
        square = look(two, face=face).seen[-1].square
        assert abs(square.x + square.side / 2 - middle) < 25, face
    assert not look(two, face=3).has_face
    with pytest.raises(UserError, match="largest, left, right"):
        check_face("0")


# The neutral pose.


@pytest.mark.parametrize(
    "begin, said", [(OPEN, "an open mouth"), (TURNED, "a turned head")], ids=["open", "turned"]
)
def test_a_bad_start_is_no_neutral_pose(engine, look, clip, begin, said):
    survey = look([clip[number] for number in (*begin, *REST)])
    made = planned(engine, survey)
    assert len(made.sentences) == 1 and f"(0:00.0 has {said})" in made.sentences[0]
    neutral = made.shown[0].begins
    # Nearly the pose that the clip's own neutral start has.
    usual = planned(engine, look([clip[number] for number in REST])).shown[0].begins
    assert np.abs(neutral.points - usual.points).max() < 0.06
    first = planned(engine, survey, "first")
    assert first.sentences == () and np.array_equal(
        first.shown[0].begins.points, first.shown[0].driving.points
    )


def test_a_good_start_stays_the_neutral_pose(engine, look, clip):
    made = planned(engine, look([clip[number] for number in (*REST, *OPEN)]))
    assert made.sentences == ()
    assert np.array_equal(made.shown[0].begins.points, made.shown[0].driving.points)


def test_a_moment_as_neutral_pose(engine, look, clip):
    survey = look([card()] * 5 + [beside(clip[number], 60) for number in REST])
    made = planned(engine, survey, 0.4)
    assert np.array_equal(made.shown[5].begins.points, made.shown[10].driving.points)
    with pytest.raises(UserError, match=r"No face is seen at 0:00\.1"):
        planned(engine, survey, 0.1)
    with pytest.raises(UserError, match=r"ends at 0:00\.7"):
        planned(engine, survey, 9.0)


def test_how_moments_are_written():
    assert [clock(seconds) for seconds in (0, 3.24, 59.97, Fraction(601, 10))] == [
        "0:00.0",
        "0:03.2",
        "1:00.0",
        "1:00.1",
    ]


def test_eyes_that_are_narrow_most_of_the_time_are_still_known_open(look, engine, clip):
    """What they do most is not what they do at rest, where close-ups tell."""
    survey = look([clip[REST[0]]] * 12)
    eyes = np.zeros((2, EYE_NUMBERS), np.float32)
    rest = FaceReading(
        eyes, np.zeros(MOUTH_NUMBERS, np.float32), np.zeros(HEAD_NUMBERS, np.float32), np.zeros((8, 2))
    )
    seen = []
    for number, one in enumerate(survey.seen):
        opening, blink = (0.28, 0.0) if number < 4 else (0.12, 0.5)
        reading = replace(rest, eyes=eyes + 0)
        reading.eyes[:, 0], reading.eyes[:, EYE_AT["eyeBlink"]] = opening, blink
        seen.append(replace(one, keypoints=replace(one.keypoints, reading=reading)))
    wrong = faults(seen, engine.keypoint_names)
    assert not wrong["shut"][:4].any() and (wrong["shut"][4:] > 2).all() and not wrong["wide"].any()
    # One glance aside is a fault; who always seems to look there is as they are.
    seen[3].keypoints.reading.eyes[:, EYE_AT["eyeLookIn"]] = 0.9, 0.0
    assert np.flatnonzero(faults(seen, engine.keypoint_names)["gaze"]).tolist() == [3]
    for one in seen:
        one.keypoints.reading.eyes[:, EYE_AT["eyeLookIn"]] = 0.9, 0.0
    assert not faults(seen, engine.keypoint_names)["gaze"].any()


def with_mouths(survey, mouths):
    """The frames of `survey`, with what close-ups read of their lips: a dictionary of numbers each, by name, "gap" and "width"."""
    eyes = np.full((2, EYE_NUMBERS), 0.0, np.float32)
    eyes[:, 0] = 0.28
    seen = []
    for one, lips in zip(survey.seen, map(dict, mouths), strict=True):
        mouth = np.zeros(MOUTH_NUMBERS, np.float32)
        mouth[:2] = lips.pop("gap", 0.0), lips.pop("width", 0.85)
        for name, value in lips.items():
            mouth[4 + MOUTH_AMOUNTS.index(name)] = value
        reading = FaceReading(eyes, mouth, np.zeros(HEAD_NUMBERS, np.float32), np.zeros((8, 2)))
        seen.append(replace(one, keypoints=replace(one.keypoints, reading=reading)))
    return replace(survey, seen=seen)


def smiling(share: float, gap: float = 0.0) -> dict[str, float]:
    return {"mouthSmileLeft": share, "mouthSmileRight": share, "gap": gap}


def test_lips_at_rest_are_known_where_most_frames_show_others(look, engine, clip):
    survey = look([clip[REST[0]]] * 12)
    found = with_mouths(survey, [smiling(0.6, 0.1)] * 8 + [smiling(0.05)] * 4)
    wrong = faults(found.seen, engine.keypoint_names)
    assert (wrong["lips"][:8] > 2).all() and not wrong["lips"][8:].any()
    assert (wrong["mouth"][:8] > 0.5).all() and not wrong["mouth"][8:].any()
    made = planned(engine, found, smoothing=0)
    assert made.sentences == ("Neutral pose from 0:00.4 (0:00.0 has a mouth that smiles or speaks).",)
    # A mouth that seems to smile a little all the time is as it is.
    always = with_mouths(survey, [smiling(0.15)] * 12)
    assert not faults(always.seen, engine.keypoint_names)["lips"].any()
    assert planned(engine, always, smoothing=0).sentences == ()


def test_pouting_lips_are_no_rest_though_nothing_is_read_of_them(look, engine, clip):
    survey = look([clip[REST[0]]] * 12)
    mouths = [{"width": 0.55} for _ in range(3)]
    mouths += [{"width": 0.85} for _ in range(6)] + [{"width": 0.5, "gap": 0.3} for _ in range(3)]
    wrong = faults(with_mouths(survey, mouths).seen, engine.keypoint_names)
    assert (wrong["width"][:3] > 2).all() and not wrong["width"][3:9].any()


def test_lips_that_never_rest_are_measured_from_where_they_would(look, engine, clip):
    survey = look([clip[REST[0]]] * 12)
    found = with_mouths(survey, [smiling(0.7, 0.2)] * 8 + [smiling(0.5, 0.12)] * 4)
    made = planned(engine, found, smoothing=0)
    assert made.sentences[-1] == "The lips never rest: where they would is estimated."
    initial, chosen = made.shown[0].begins, found.seen[8].keypoints
    assert np.array_equal(initial.points, chosen.points)
    mouth = initial.reading.mouth
    assert 0 < mouth[4 + MOUTH_AMOUNTS.index("mouthSmileLeft")] <= 0.2 and 0 <= mouth[0] <= 0.03
    # The papers' D1 stays what it is.
    assert np.array_equal(
        planned(engine, found, "first", smoothing=0).shown[0].begins.reading.mouth,
        found.seen[0].keypoints.reading.mouth,
    )


# What is played, not worked through.


@pytest.mark.parametrize("mirror", [False, True])
def test_an_animator_looks_ahead_in_a_file(tmp_path, engine, small_avatar, clip, mirror):
    turned = [
        np.ascontiguousarray(clip[number][:, ::-1] if mirror else clip[number]) for number in (*OPEN, *REST)
    ]
    driving = write_clip(
        tmp_path / "in.mp4", [card()] * 5 + [beside(face, 165) for face in turned for _ in range(4)]
    )
    animator = Animator(small_avatar, engine=engine, mirror=mirror)
    at_rest = animator.draw_at_rest()
    sentence = animator.take_neutral(driving)
    assert sentence is not None and "has an open mouth" in sentence
    changes, drawn = [], []
    with open_video(driving) as video:
        for frame in video:
            drawn.append(animator(frame))
            changes.append(np.abs(drawn[-1].astype(int) - at_rest).mean())
    # At rest before there is a face, open where the driver is, and near rest in the end.
    assert not any(changes[:4]) and max(changes[10:20]) > 2 * changes[-1]
    assert animator.take_neutral(driving, "first") is None
    with pytest.raises(UserError, match="ends at"):
        animator.take_neutral(driving, 99)
    with pytest.raises(UserError, match="No face is seen at"):
        animator.take_neutral(driving, 0.0)


def test_a_session_with_a_file_has_no_countdown(tmp_path, engine, small_avatar, clip):
    driving = write_clip(tmp_path / "in.mp4", [clip[number] for number in (*OPEN, *REST, *REST)])
    said = []
    chosen = {"avatar": str(small_avatar), "driving": str(driving), "outputs": ("none",), "size": "64x64"}
    chosen = merge(Settings(), {**chosen, "enabled": False})

    def session(**options):
        return Session(chosen, engine, frames=1, keyboard=False, notify=said.append, **options)

    with session() as running:
        running.run()
    assert any(sentence.startswith("Neutral pose from") for sentence in said)
    assert running.live.stats.frames == 1 and "taken (fit" not in " ".join(said)
    with pytest.raises(UserError, match="driving file"):
        session(neutral="auto", source=Pretended())


class Pretended:
    """A source that is no file."""

    name, rate, note, trouble, silence = "pretended", 25.0, None, None, None

    def frames(self, stop):
        return iter(())

    def close(self):
        pass


# A single picture.


def test_a_single_picture_gives_its_pose_as_it_is(tmp_path, engine, small_avatar, clip):
    own = cv2.imread(str(small_avatar))[..., ::-1]
    drawn = []
    for name, picture in (("own", own), ("open", clip[OPEN[2]]), ("turned", clip[TURNED[3]])):
        driving = write_picture(tmp_path / f"{name}.png", np.ascontiguousarray(picture))
        result = animate(small_avatar, driving, tmp_path / name, engine=engine)
        assert result.frames == 1 and "its pose is given as it is" in result.sentences[0]
        drawn.append(cv2.imread(str(tmp_path / name / "000000.png"))[..., ::-1].astype(int))
    change = [np.abs(picture - own).mean() for picture in drawn]
    # Its own picture leaves the avatar as it is.
    assert change[0] < 0.5 < 2 < min(change[1:])
    assert animate(small_avatar, driving, tmp_path / "first", engine=engine, neutral="first").sentences == ()


# Smoothing.


def signal(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A quiet value with a blink of four frames and a movement of a second, and the same with noise."""
    clean = np.zeros(count)
    clean[60:64] = (0.5, 1, 1, 0.5)
    clean[120:145] = np.sin(np.linspace(0, np.pi, 25))
    return clean, clean + np.random.default_rng(3).normal(0, 0.02, count)


def test_smoothing_takes_trembling_and_leaves_blinks():
    clean, noisy = signal()
    smoothed = smooth(noisy[:, None, None], 1 / 25)[:, 0, 0]
    quiet = np.r_[8:52, 72:112, 155:192]
    assert np.abs(smoothed - clean)[quiet].std() < 0.5 * np.abs(noisy - clean)[quiet].std()
    assert smoothed[60:64].max() > 0.97
    # Where it was, and as high: no lag.
    assert smoothed[115:150].max() > 0.97
    assert np.correlate(smoothed[110:155], clean[105:160], "valid").argmax() == 5


def test_rare_large_errors_of_a_still_head_are_noise_where_so_much_is_granted():
    random = np.random.default_rng(3)
    # Mostly steady, and off by three times as much in a frame now and then; then a real turn.
    values = 0.001 * random.standard_normal((200, 1, 1))
    values[10:120:11] += 0.007
    values[150:] += 0.1
    plain, granted = smooth(values, 1 / 25), smooth(values, 1 / 25, least=0.004)
    assert np.abs(plain[:140]).max() > 0.006 and np.abs(granted[:140]).max() < 0.003
    assert abs(granted[149, 0, 0]) < 0.01 and granted[150, 0, 0] > 0.09
    # Each vector has its own.
    both = smooth(np.concatenate([values, values], axis=1), 1 / 25, least=np.array([0.0, 0.004]))
    assert np.array_equal(both, np.concatenate([plain, granted], axis=1))


def test_a_head_that_holds_still_is_held_and_its_swings_keep_their_height_and_moment():
    random, times = np.random.default_rng(5), np.arange(250) / 25
    noise = 0.002 * random.standard_normal(250)

    def smoothed(values):
        return smooth_head(values[:, None], 1 / 25, 1.0, (0.0009, 0.0026))[:, 0]

    assert np.diff(smoothed(noise)).std() < 0.35 * np.diff(noise).std()
    # Four degrees to either side, once to three times a second.
    for rate in (1, 2, 3):
        swings = np.where(np.abs(times - 5) < 1, np.radians(4) * np.sin(2 * np.pi * rate * (times - 4)), 0)
        found = smoothed(swings + noise)[105:146]
        share = [
            found @ swings[105 + lag : 146 + lag] / (swings[105:146] @ swings[105:146]) for lag in (-1, 0, 1)
        ]
        assert share[1] > 0.95 and np.argmax(share) == 1
    # Someone who comes nearer by a sixth within half a second, and back; steps of a size that blinks are read to make.
    nearer = 0.15 * np.exp(-0.5 * ((times - 5) / 0.3) ** 2)
    blinks = 0.015 * (np.abs(times - 2) < 0.08)
    sizes = smooth_head((nearer + blinks)[:, None], 1 / 25, 1.0, HEAD_SIZES, SIZE_CUTOFFS)[:, 0]
    assert sizes[125] > 0.97 * nearer[125] and np.argmax(sizes) == 125
    assert np.abs(np.diff(sizes[:75])).max() < 0.3 * 0.015
    line = 0.1 * times
    assert np.allclose(smoothed(line), line) and np.array_equal(smoothed(line[:4]), line[:4])


def test_a_head_trembles_less_and_its_face_does_as_before(engine, look, clip):
    random, still = np.random.default_rng(6), look([clip[REST[0]]] * 40)
    rolls = np.radians(0.25) * random.standard_normal(40)
    seen = []
    for one, roll in zip(still.seen, rolls, strict=True):
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        turned = replace(one.keypoints, points=(one.keypoints.points @ turn.T).astype(np.float32))
        seen.append(replace(one, keypoints=turned))

    def told(smoothing):
        made = planned(engine, replace(still, seen=seen), "first", smoothing=smoothing)
        tracker = PoseTracker(engine.keypoint_names, made.shown[0].begins)
        assert made.shown[0].begins is not None
        assert np.array_equal(made.shown[0].begins.points, made.shown[0].driving.points)
        return np.array([tracker.pose(one.driving).angles[2] for one in made.shown])

    assert np.diff(told(1.0)).std() < 0.35 * np.diff(told(0.0)).std()


def test_smoothing_may_be_off_and_knows_no_direction():
    _, noisy = signal()
    values = noisy[:, None, None]
    assert smooth(values, 1 / 25, 0.0) is values
    assert np.allclose(smooth(values[::-1], 1 / 25)[::-1], smooth(values, 1 / 25))


# Whole videos.


def test_a_video_says_what_it_did_and_rests_without_a_face(tmp_path, engine, small_avatar, clip):
    driving = write_clip(
        tmp_path / "in.mp4", [card()] * 13 + [beside(clip[number], 165) for number in (*REST[:2], *OPEN)]
    )
    done = []
    result = animate(
        small_avatar,
        driving,
        tmp_path / "out.mp4",
        engine=engine,
        progress=lambda count, total: done.append((count, total)),
    )
    assert result.frames == 21 and "No face from 0:00.0 to 0:00.5" in result.sentences[-1]
    assert done[-1] == (21, 21) and [count for count, _ in done] == [step / 2 for step in range(1, 43)]
    pictures, _ = read_clip(tmp_path / "out.mp4")
    still = np.abs(pictures[12].astype(int) - pictures[1]).mean()
    moved = np.abs(pictures[20].astype(int) - pictures[1]).mean()
    assert still < 0.5 < moved


def test_a_video_without_a_face_is_refused_unless_the_crop_says_so(
    livepuppet, tmp_path, small_avatar, engine
):
    driving = write_clip(tmp_path / "in.mp4", [GRAY] * 4)
    arguments = ("animate", "--avatar", small_avatar, "--driving", driving, "--output", tmp_path / "out.mp4")
    result = livepuppet(*arguments, "--engine", "onnx", "--threads", 1)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "No face is found anywhere in" in result.stderr and "--crop" in result.stderr
    assert not (tmp_path / "out.mp4").exists()
    meant = animate(small_avatar, driving, tmp_path / "out.mp4", engine=engine, crop="full")
    assert meant.frames == 4


@pytest.mark.parametrize(
    "options", [{"crop": "nan,0,10"}, {"avatar_crop": "somewhere"}, {"rig": "maybe"}, {"face": "nobody"}]
)
def test_bad_options_are_refused_before_an_engine_is_loaded(tmp_path, small_avatar, monkeypatch, options):
    driving = write_clip(tmp_path / "in.mp4", [GRAY] * 4)
    monkeypatch.setattr("livepuppet.realtime.animate.load_engine", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(UserError):
        animate(small_avatar, driving, tmp_path / "out.mp4", **options)


def test_a_number_beyond_the_faces_says_how_many_there_are(tmp_path, engine, small_avatar, clip):
    driving = write_clip(tmp_path / "in.mp4", [beside(clip[number], 90) for number in REST[:4]])
    with pytest.raises(UserError, match=r"no face number 2 in .* at most one can be seen"):
        animate(small_avatar, driving, tmp_path / "out.mp4", engine=engine, face=2)


def test_a_picture_as_neutral_pose(tmp_path, engine, small_avatar, clip):
    picture = write_picture(tmp_path / "me.png", clip[0])
    driving = write_clip(tmp_path / "in.mp4", [clip[number] for number in OPEN])
    drawn = {}
    for neutral in ("first", picture):
        animate(small_avatar, driving, tmp_path / "out.mp4", engine=engine, neutral=neutral)
        drawn[neutral] = read_clip(tmp_path / "out.mp4")[0][0]
    # The mouth is open from the first frame on.
    change = np.abs(drawn["first"].astype(int) - drawn[picture])
    assert change[128:].mean() > 0.5
    for bad in ("nowhere.png", "9:99:99x", "nan", float("inf")):
        with pytest.raises(UserError, match="neither auto, first"):
            animate(small_avatar, driving, tmp_path / "out.mp4", engine=engine, neutral=bad)
    with pytest.raises(UserError, match="No face is found in"):
        blank = write_picture(tmp_path / "blank.png", GRAY)
        animate(small_avatar, driving, tmp_path / "out.mp4", engine=engine, neutral=blank)


def test_as_published_is_the_first_frame_and_the_model_alone(tmp_path, engine, small_avatar, clip):
    driving = write_clip(tmp_path / "in.mp4", [clip[number] for number in (*OPEN[:2], *REST[:1])])
    animate(small_avatar, driving, tmp_path / "out", engine=engine, as_published=True)
    machine = Animator(
        small_avatar,
        engine=engine,
        settings=replace(OFFLINE, smoothing=0, lost_to_neutral=False),
        crop="full",
        avatar_crop="center",
        rig="off",
    )
    with open_video(driving) as video:
        expected = [machine(frame) for frame in video]
    for file, picture in zip(sorted((tmp_path / "out").iterdir()), expected, strict=True):
        assert np.array_equal(cv2.imread(str(file))[..., ::-1], picture)


def test_the_same_face_that_was_lost_is_the_same_person(engine, look, clip):
    """However it is turned, and its square, once it is found again."""
    survey = look([beside(clip[number], 80) for number in REST] + [GRAY] * 8)
    seen = list(survey.seen)
    other = look([beside(cv2.resize(clip[number], (256, 330))[40:296, ::-1], 95) for number in TURNED]).seen
    for number, one in enumerate(other):
        at = seen[12].time + Fraction(number, 25)
        seen[12 + number] = replace(one, shot=1, time=at, colours=one.colours + 60)
    for cuts, people in ((frozenset({0}), {0}), (frozenset({0, 1}), {0, 1})):
        made = planned(engine, Survey(seen[:18], survey.start, None, [(180, 320)] * 2, cuts))
        assert {one.person for one in made.shown if one.driving is not None} == people
        assert made.shown[12].begins is not None and made.shown[12].cut is (1 in cuts)


def test_a_face_that_is_lost_for_a_moment_is_the_same_shot(engine, look, clip):
    """And what is drawn holds still there."""
    hidden = [beside(clip[number], 80) for number in REST]
    for picture in hidden[4:7]:
        picture[:] = 90
    survey = look(hidden)
    assert survey.seen[-1].keypoints is not None
    made = planned(engine, survey)
    assert [one.driving is None for one in made.shown[4:7]] == [True] * 3
    assert made.sentences == ()


# Many at once.


def test_folders_of_pictures_and_of_videos(livepuppet, tmp_path, small_avatar, clip):
    avatars, drivings = tmp_path / "avatars", tmp_path / "drivings"
    avatars.mkdir()
    drivings.mkdir()
    picture = cv2.imread(str(small_avatar))[..., ::-1]
    write_picture(avatars / "one.png", picture)
    write_picture(avatars / "two.png", np.ascontiguousarray(picture[:, ::-1]))
    (avatars / "broken.png").write_bytes(b"no picture")
    write_clip(drivings / "talk.mp4", [clip[number] for number in REST[:3]])
    write_clip(drivings / "walls.mp4", [GRAY] * 3)
    command = ("animate", "--engine", "onnx", "--threads", 1, "--side", 256)
    out = tmp_path / "out"
    result = livepuppet(*command, "--avatar", avatars, "--driving", drivings / "talk.mp4", "--output", out)
    assert result.returncode == 1 and "Wrote 2 of 3 videos" in result.stdout, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("broken.mp4  not made: ") and lines[1].startswith("one.mp4          3 frames")
    assert sorted(file.name for file in out.iterdir()) == ["one.mp4", "two.mp4"]
    assert [len(read_clip(file)[0]) for file in out.iterdir()] == [3, 3]
    both = tmp_path / "both"
    result = livepuppet(*command, "--avatar", avatars / "one.png", "--driving", drivings, "--output", both)
    assert result.returncode == 1 and "walls.mp4  not made: No face is found" in result.stdout
    assert [file.name for file in both.iterdir()] == ["talk.mp4"]
    result = livepuppet(*command, "--avatar", avatars, "--driving", drivings, "--output", out / "x.mp4")
    assert result.returncode == 2 and "need a folder" in result.stderr


def test_a_given_crop_goes_along_when_the_pictures_change_their_size(look, clip):
    wide = GRAY.copy()
    wide[20:148, 150:278] = cv2.resize(clip[0], (128, 128), interpolation=cv2.INTER_AREA)
    half = cv2.resize(wide, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    survey = look([wide] * 2 + [half] * 2 + [wide] * 2, crop="150,20,128")
    sides = [one.square.side for one in survey.seen]
    assert sides == [128, 128, 64, 64, 128, 128]
    assert survey.seen[2].square == survey.seen[0].square.scaled(0.5).whole()
    assert survey.sizes == [(180, 320), (90, 160), (180, 320)]
