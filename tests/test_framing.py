"""The square around the driver's face: found, steady, adjustable, and left alone where the input is a crop."""

from __future__ import annotations

import numpy as np
import pytest
from media import gradient

from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing import crop as framing_module
from livepuppet.realtime.framing.crop import (
    Framing,
    Square,
    centred_square,
    cut,
    find_face,
    square_around,
    square_for,
)
from livepuppet.realtime.framing.refine import EYES_TO_MOUTH, MIDDLE_HEIGHT, face_middle, refined_square
from livepuppet.realtime.inputs.clips import open_clip
from livepuppet.realtime.keypoints import Keypoints

#: Where the driver's head is in the raw clips, by eye: a box the square must hold, and the largest side allowed.
HEADS = {
    "face07_720x1280.mp4": ((150, 200, 580, 830), 900),
    "face10_1280x720.mp4": ((610, 30, 910, 430), 720),
    "webcam_a_640x480.mp4": ((270, 90, 345, 190), 200),
    "webcam_b_640x480.mp4": ((275, 25, 350, 115), 200),
}


def settled(path, crop="auto") -> Framing:
    framing = Framing(crop)
    for frame in open_clip(path):
        if framing.look(frame.picture):
            break
    framing.settle()
    return framing


@pytest.mark.parametrize("name", HEADS)
def test_the_whole_head_of_the_driver_is_in_the_square(shared, name):
    framing = settled(shared / "clips" / "raw" / name)
    (left, top, right, bottom), largest = HEADS[name]
    square = framing.square
    assert square.x <= left and square.y <= top
    assert square.x + square.side >= right and square.y + square.side >= bottom
    assert square.side <= largest


@pytest.mark.parametrize("number", [1, 4, 6, 9, 10])
def test_face_crops_pass_untouched(shared, number):
    path = shared / "clips" / f"face{number:02d}.mp4"
    framing = settled(path)
    assert framing.square == Square(0, 0, 256) and not framing.from_face
    picture = next(iter(open_clip(path))).picture
    assert np.array_equal(framing.cut(picture, 256), picture)


def test_the_square_stays_once_it_is_settled(shared):
    framing = settled(shared / "clips" / "raw" / "webcam_a_640x480.mp4")
    before = framing.square
    for frame in list(open_clip(shared / "clips" / "raw" / "webcam_b_640x480.mp4"))[::20]:
        assert framing.look(frame.picture)
    assert framing.square == before


def test_no_face_gives_the_middle():
    assert find_face(gradient(90, 160)) is None
    framing = Framing(patience=3)
    assert [framing.look(gradient(90, 160)) for _ in range(4)] == [False, False, True, True]
    assert framing.square == Square(35, 0, 90) and not framing.from_face


def test_one_wild_detection_does_not_move_the_square(monkeypatch):
    faces = iter(
        [
            Square(100, 60, 40),
            Square(102, 61, 41),
            Square(5, 5, 150),
            None,
            Square(99, 60, 40),
            Square(101, 59, 39),
        ]
    )
    monkeypatch.setattr(framing_module, "find_face", lambda picture: next(faces))
    framing = Framing()
    picture = gradient(200, 320)
    looks = [framing.look(picture) for _ in range(6)]
    assert looks == [False] * 5 + [True]
    assert framing.square == square_around(Square(100, 60, 40), 200, 320)


def test_a_small_face_in_a_square_video_is_cropped():
    face = Square(100, 80, 60)
    assert square_for([face], 512, 512) == square_around(face, 512, 512)
    assert square_for([Square(100, 80, 300)], 512, 512) == centred_square(512, 512)
    assert square_for([], 512, 512) == centred_square(512, 512)


def test_the_square_stays_inside_where_the_head_allows():
    near_edge = square_around(Square(10, 200, 100), 720, 1280)
    assert near_edge.x == 0 and near_edge.side == pytest.approx(180)
    large = square_around(Square(100, 150, 450), 720, 1280)
    assert large.side == 720 and large.y == 0


def test_full_and_given_crops_look_for_nothing(monkeypatch):
    monkeypatch.setattr(framing_module, "find_face", lambda picture: pytest.fail("looked for a face"))
    full, given = Framing("full"), Framing("10,20,30")
    assert full.look(gradient(90, 160)) and full.square == Square(35, 0, 90)
    assert given.look(gradient(90, 160)) and given.square == Square(10, 20, 30)


@pytest.mark.parametrize("text", ["", "face", "1,2", "1,2,0", "1,2,-5", "a,b,c", "1,2,nan"])
def test_bad_crops_get_a_sentence(text):
    with pytest.raises(UserError, match="X,Y,SIDE"):
        Framing(text)


def test_cut_is_exact_where_nothing_is_to_be_scaled():
    picture = gradient(120, 160)
    assert np.array_equal(cut(picture, Square(20, 30, 64), 64), picture[30:94, 20:84])


@pytest.mark.parametrize("size", [16, 40, 64])
def test_beyond_the_edge_the_outermost_pixels_are_repeated(size):
    picture = gradient(60, 60)
    result = cut(picture, Square(-20, -20, 40), size)
    assert result.shape == (size, size, 3)
    half = size // 2
    assert np.abs(result[:half, :half].astype(int) - picture[0, 0]).max() <= 12
    assert np.abs(result[-1, -1].astype(int) - picture[19, 19]).max() <= 12


def test_cut_outside_the_picture_gets_a_sentence():
    with pytest.raises(UserError, match="outside the picture of 60x50"):
        cut(gradient(50, 60), Square(100, 0, 20), 64)


def test_a_person_can_zoom_and_shift_within_reason():
    framing = Framing("full")
    framing.look(gradient(100, 200))
    framing.zoom(0.5)
    assert framing.square == Square(75, 25, 50)
    framing.shift(0.1, -0.2)
    assert framing.square == Square(80, 15, 50)
    for _ in range(100):
        framing.zoom(1.2)
        framing.shift(0.3, 0.3)
    assert framing.square.side <= 400
    assert framing.cut(gradient(100, 200), 32).shape == (32, 32, 3)
    for _ in range(100):
        framing.zoom(0.8)
    assert framing.square.side >= 10
    assert framing.cut(gradient(100, 200), 32).shape == (32, 32, 3)


def test_another_picture_size_starts_the_search_over():
    framing = Framing("full")
    framing.look(gradient(100, 200))
    framing.look(gradient(300, 200))
    assert framing.square == Square(0, 50, 200)


NAMES = (
    "left iris",
    "right iris",
    "left mouth corner",
    "right mouth corner",
    "upper lip",
    "lower lip",
    "chin",
)


def face_at(x: float, y: float, distance: float) -> Keypoints:
    """Landmarks of a face whose middle is at (x, y), in shares of the picture; its eyes `distance` above its mouth."""
    eyes, mouth = y - distance / 2, y + distance / 2
    half = 0.45 * distance
    points = [(x - half, eyes), (x + half, eyes), (x - half, mouth), (x + half, mouth)]
    points += [(x, mouth - 0.02), (x, mouth + 0.02), (x, mouth + distance / 2)]
    return Keypoints(np.array(points, np.float32) * 2 - 1, np.tile(np.eye(2, dtype=np.float32), (7, 1, 1)))


def test_landmarks_give_the_middle_of_the_face():
    middle, distance = face_middle(face_at(0.4, 0.6, 0.25), NAMES)
    assert middle == pytest.approx([0.4, 0.6], abs=1e-5)
    assert distance == pytest.approx(0.25, abs=1e-5)


def test_refinement_puts_the_face_where_crops_have_it():
    square = Square(100, 50, 200)
    refined = refined_square(square, face_at(0.45, 0.55, 0.25), NAMES)
    # The face's middle in the frame, seen from the refined square.
    x, y = (100 + 0.45 * 200 - refined.x) / refined.side, (50 + 0.55 * 200 - refined.y) / refined.side
    assert (x, y) == pytest.approx((0.5, MIDDLE_HEIGHT), abs=1e-4)
    assert 0.25 * 200 / refined.side == pytest.approx(EYES_TO_MOUTH, abs=1e-4)


@pytest.mark.parametrize(
    "keypoints",
    [
        face_at(0.9, 0.6, 0.25),
        face_at(0.5, 0.5, 0.45),
        face_at(0.5, 0.5, 0.05),
        face_at(0.5, 0.5, -0.25),
        Keypoints(face_at(0.5, 0.5, 0.25).points[:, ::-1], face_at(0.5, 0.5, 0.25).jacobians),
    ],
    ids=["far away", "too large", "too small", "upside down", "lying"],
)
def test_implausible_landmarks_change_nothing(keypoints):
    square = Square(100, 50, 200)
    assert refined_square(square, keypoints, NAMES) == square


def test_models_without_landmarks_change_nothing():
    assert refined_square(Square(1, 2, 30), face_at(0.5, 0.5, 0.25), ()) == Square(1, 2, 30)
