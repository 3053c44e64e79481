"""The square around the driver's face: found, steady, adjustable, and left alone where the input is a crop."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from media import gradient

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.video import open_video
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
from livepuppet.realtime.framing.follow import DEAD_BAND, HOME_FRAMES, Follower, reexpressed
from livepuppet.realtime.framing.refine import EYES_TO_MOUTH, MIDDLE_HEIGHT, face_middle, refined_square
from livepuppet.realtime.framing.seek import grid

#: Where the driver's head is in the raw clips, by eye: a box the square must hold, and the largest side allowed.
HEADS = {
    "face07_720x1280.mp4": ((150, 200, 580, 830), 900),
    "face10_1280x720.mp4": ((610, 30, 910, 430), 720),
    "webcam_a_640x480.mp4": ((270, 90, 345, 190), 200),
    "webcam_b_640x480.mp4": ((275, 25, 350, 115), 200),
}


def settled(path, crop="auto") -> Framing:
    framing = Framing(crop)
    for frame in open_video(path):
        if framing.look(frame.image):
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
    picture = next(iter(open_video(path))).image
    assert np.array_equal(framing.cut(picture, 256), picture)


def test_the_square_stays_once_it_is_settled(shared):
    framing = settled(shared / "clips" / "raw" / "webcam_a_640x480.mp4")
    before = framing.square
    for frame in list(open_video(shared / "clips" / "raw" / "webcam_b_640x480.mp4"))[::20]:
        assert framing.look(frame.image)
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


@pytest.mark.parametrize("side", [129, 140, 161, 192, 201, 255, 383, 384, 500])
def test_the_quick_cut_is_of_the_same_size_and_place(side):
    # A slope shows whether it was moved: 1/100 of a level is a thousandth of the size.
    slope = np.linspace(20, 230, side)[None, :, None] + np.zeros((side, 1, 3))
    picture = np.rint(slope + np.random.default_rng(0).uniform(-0.5, 0.5, slope.shape)).astype(np.uint8)
    # Beyond the size of the square nothing may be seen.
    larger = np.full((side + 20, side + 30, 3), 255, np.uint8)
    larger[10 : side + 10, 20 : side + 20] = picture
    quick, slow = (cut(larger, Square(20, 10, side), 64, quick=quick).astype(int) for quick in (True, False))
    assert quick.shape == (64, 64, 3)
    off = (quick - slow)[:, 1:-1]
    assert np.abs(off).max() <= 2 and abs(off.mean()) < 0.3


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


def test_a_crop_far_larger_than_the_picture_is_a_slip():
    picture = np.zeros((48, 64, 3), np.uint8)
    assert cut(picture, Square(0, 0, 4 * 64), 32).shape == (32, 32, 3)
    with pytest.raises(UserError, match="far larger than the picture of 64x48"):
        cut(picture, Square(0, 0, 99999), 32)


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


# --- following ---


def test_what_was_found_in_one_square_is_the_same_place_in_another():
    """A pixel of the picture, seen from two squares: found by brightness, not by the formula under test."""
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[196:204, 216:224] = 255

    def seen(square):
        shade = cut(picture, square, 128)[..., 0].astype(float)
        y, x = np.mgrid[-1:1:128j, -1:1:128j]
        return np.array([[(x * shade).sum(), (y * shade).sum()]]) / shade.sum()

    old, new = Square(100, 120, 256), Square(180, 150, 128)
    eye = np.eye(2, dtype=np.float32)[None]
    found = Keypoints(seen(old).astype(np.float32), eye, np.ones(1, np.float32))
    moved = reexpressed(found, old, new, 128)
    assert moved.points == pytest.approx(seen(new), abs=2e-3)
    assert moved.jacobians == pytest.approx(2 * eye)
    assert moved.points.dtype == np.float32 and moved.confidence is found.confidence
    back = reexpressed(moved, new, old, 128)
    assert back.points == pytest.approx(found.points, abs=1e-6)


def head(square: Square, x: float, y: float, size: float, sure: float | None = 0.8) -> Keypoints:
    """Four keypoints of a head at (x, y) in the picture, as they would be found in `square`."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2
    points = (corners + np.array([x - square.x, y - square.y])) / square.side * 2 - 1
    confidence = None if sure is None else np.full(4, sure, np.float32)
    return Keypoints(points.astype(np.float32), np.tile(np.eye(2, dtype=np.float32), (4, 1, 1)), confidence)


def follow(follower, square, seconds, place, start=0.0, sure=0.8, rate=30):
    """Squares while the head goes along `place(t)`: (x, y, size) in pixels."""
    path = [square]
    for k in range(round(seconds * rate)):
        at = start + k / rate
        path.append(follower.move(path[-1], head(path[-1], *place(at), sure), at))
    return path


def test_a_head_that_talks_and_nods_does_not_move_the_square():
    square = Square(100, 100, 200)
    reach = 0.9 * DEAD_BAND[0] * 200

    def place(t):
        return (200 + (t > 1) * reach * np.sin(4 * t), 210 + 3 * np.sin(9 * t), 80 + 6 * np.sin(7 * t))

    path = follow(Follower(), square, 8, place)
    assert set(path) == {square}


@pytest.mark.parametrize("sure", [0.8, None])
def test_a_head_that_moves_away_is_followed_slowly_and_brought_back(sure):
    square = Square(100, 100, 200)
    path = follow(Follower(), square, 10, lambda t: (200 + (t > 1) * 60, 210, 80), sure=sure)
    assert path[-1].x == pytest.approx(160, abs=6) and path[-1].y == pytest.approx(100, abs=1)
    assert path[-1].side == 200
    xs = np.array([step.x for step in path])
    assert (np.diff(xs) >= 0).all() and np.diff(xs).max() < 0.06 * 200
    # Not within a second of anything: slower than the speed limit.
    assert np.abs(xs[30:] - xs[:-30]).max() < 0.4 * 200
    assert path[-1] == path[-60]  # and then it rests


def test_a_head_that_comes_closer_widens_the_square():
    square = Square(100, 100, 200)
    path = follow(Follower(), square, 20, lambda t: (200, 210, 80 * (1.5 if t > 1 else 1.0)))
    assert path[-1].side == pytest.approx(300, rel=0.08)
    # The head keeps its place in the square.
    assert (210 - path[-1].y) / path[-1].side == pytest.approx(0.55, abs=0.03)


def test_nothing_is_followed_where_there_is_no_face():
    square = Square(100, 100, 200)
    follower = Follower()
    follow(follower, square, 1, lambda t: (200, 210, 80))
    path = follow(follower, square, 5, lambda t: (280, 210, 80), start=1.0, sure=0.2)
    assert set(path) == {square}


def test_the_difference_that_is_transferred_survives_the_square_that_follows():
    framing = Framing(patience=1)
    framing._shape, framing.square, framing.faces = (480, 640), Square(100, 100, 200), [Square(150, 150, 100)]
    initial, changes = None, 0
    for k in range(300):
        keypoints = head(framing.square.whole(), 200 + 60 * (k > 30), 210, 80)
        initial = initial or keypoints
        change = framing.follow(keypoints, k / 30)
        if change is not None:
            initial, changes = reexpressed(initial, *change), changes + 1
    keypoints = head(framing.square.whole(), 260, 210, 80)
    assert 5 < changes < 20 and framing.square.x == pytest.approx(160, abs=6)
    # 60 pixels of a square of 200 are 0.6 of the picture's half side, wherever the square is.
    assert keypoints.points - initial.points == pytest.approx(np.tile([0.6, 0.0], (4, 1)), abs=0.01)


def test_the_square_follows_no_further_than_the_edge_and_not_where_it_was_given():
    framing = Framing(patience=1)
    framing._shape, framing.square, framing.faces = (480, 640), Square(430, 100, 200), [Square(480, 150, 100)]
    for k in range(400):
        framing.follow(head(framing.square.whole(), 530 + 100 * (k > 30), 210, 80), k / 30)
    assert 640 < framing.square.x + framing.square.side < 640 + 0.2 * 200
    given = Framing("10,20,30")
    given.look(gradient(90, 160))
    assert all(
        given.follow(head(given.square, 20 + 20 * (k > 30), 30, 10), k / 30) is None for k in range(200)
    )


def test_absorbing_crawls_and_tells_nobody():
    framing = Framing(patience=1)
    framing._shape, framing.square, framing.faces = (480, 640), Square(100, 100, 200), [Square(150, 150, 100)]
    framing.follower.absorb = True
    before = framing.square
    places = []
    for k in range(300):
        assert framing.follow(head(framing.square, 200 + 60 * (k > HOME_FRAMES), 210, 80), k / 30) is None
        places.append(framing.square.x)
    assert places[-1] > before.x + 20
    assert np.abs(np.array(places[30:]) - places[:-30]).max() <= 0.0601 * 200


def test_keys_tell_how_the_cut_changed():
    framing = Framing("full")
    assert framing.zoom(0.5) is None and framing.shift(1, 1) is None
    framing.look(gradient(100, 200))
    assert framing.zoom(0.5) == (Square(50, 0, 100), Square(75, 25, 50))
    assert framing.shift(0.1, 0) == (Square(75, 25, 50), Square(80, 25, 50))
    assert framing.shift(0, 0) is None


# --- the detector as a face finder ---


class Disc:
    """An engine whose faces are red discs: equivariant, and as sure as the disc is red and within the square."""

    size, keypoint_names = 64, NAMES

    def __init__(self, sure: float = 0.9):
        self.sure, self.calls = sure, 0

    def detect(self, picture):
        self.calls += 1
        red = (picture[..., 0] > 200) & (picture[..., 1] < 80)
        if red.mean() < 0.02:
            found = face_at(0.5, 0.5, 0.2)
            return Keypoints(found.points, found.jacobians, np.full(7, 0.1, np.float32))
        y, x = np.nonzero(red)
        found = face_at(x.mean() / 63, y.mean() / 63, 0.8 * np.sqrt(red.mean() / np.pi))
        return Keypoints(found.points, found.jacobians, np.full(7, self.sure, np.float32))


def with_disc(x: int, y: int, radius: int, height: int = 240, width: int = 320) -> np.ndarray:
    picture = np.full((height, width, 3), 120, np.uint8)
    cv2.circle(picture, (x, y), radius, (255, 0, 0), -1)
    return picture


@pytest.fixture
def no_cascade(monkeypatch):
    """As with OpenCV 5."""
    monkeypatch.setattr(framing_module, "find_face", lambda picture: None)


def around(framing: Framing, x: float, y: float) -> bool:
    """Whether the square holds (x, y) near where faces have their middle."""
    square = framing.square
    right, down = (x - square.x) / square.side, (y - square.y) / square.side
    return abs(right - 0.5) < 0.15 and abs(down - MIDDLE_HEIGHT) < 0.15


@pytest.mark.parametrize(("x", "y", "radius"), [(80, 100, 30), (240, 150, 40), (160, 110, 25)])
def test_the_detector_finds_a_face_where_no_cascade_does(no_cascade, x, y, radius):
    framing = Framing(looks=2, engine=Disc())
    picture = with_disc(x, y, radius)
    assert [framing.look(picture) for _ in range(2)] == [False, True]
    assert framing.from_face and around(framing, x, y)


def test_the_detector_says_where_there_is_none(no_cascade):
    framing = Framing(patience=2, engine=Disc())
    assert [framing.look(gradient(240, 320) // 2) for _ in range(2)] == [False, True]
    assert not framing.faces and not framing.from_face


def test_a_fold_of_cloth_that_a_cascade_takes_for_a_face_is_refused(monkeypatch):
    monkeypatch.setattr(framing_module, "find_face", lambda picture: Square(20, 120, 60))
    framing = Framing(looks=1, engine=Disc())
    framing.look(with_disc(240, 90, 30))
    assert around(framing, 240, 90)


def test_an_older_bundle_without_confidence_leaves_it_to_the_cascade(monkeypatch):
    monkeypatch.setattr(framing_module, "find_face", lambda picture: Square(80, 60, 60))

    class Old(Disc):
        def detect(self, picture):
            found = super().detect(picture)
            return Keypoints(found.points, found.jacobians)

    framing = Framing(looks=1, engine=Old())
    assert framing.look(np.full((240, 320, 3), 120, np.uint8)) and len(framing.faces) == 1


def test_the_grid_covers_the_picture():
    squares = grid(480, 640)
    assert all(
        square.x >= 0 and square.y >= 0 and square.x + square.side <= 640 and square.y + square.side <= 480
        for square in squares
    )
    for side in {square.side for square in squares}:
        xs = sorted({square.x for square in squares if square.side == side})
        assert xs[0] == 0 and xs[-1] + side == pytest.approx(640)
        assert max(np.diff(xs), default=0) <= 0.5 * side + 1e-6
    assert len(squares) < 60


def _looks(framing, picture, enough):
    """Look until `enough()`, at most for ten seconds."""
    for _ in range(2000):
        framing.look(picture)
        if enough():
            return
        time.sleep(0.005)
    pytest.fail("never")


def test_in_the_background_a_look_is_a_few_detections_and_settles_alike(no_cascade):
    engine = Disc()
    framing = Framing(looks=1, engine=engine, background=True)
    picture = with_disc(240, 150, 40)
    most = 0
    for _ in range(2000):
        before = engine.calls
        if framing.look(picture):
            break
        most = max(most, engine.calls - before)
        time.sleep(0.002)
    assert around(framing, 240, 150)
    assert 0 < most <= framing_module.STEPS_PER_FRAME


def test_two_faces_that_agree_settle_a_live_square_and_others_do_not(monkeypatch):
    disc = Square(100, 50, 100)
    for second, looks in ((disc.shifted(0.05, 0), 2), (disc.shifted(0.3, 0), 3), (disc.zoomed(1.3), 3)):
        faces = iter([disc, second, second, second])
        monkeypatch.setattr(framing_module, "find_face", lambda picture, faces=faces: next(faces))
        monkeypatch.setattr(framing_module, "confidence", lambda keypoints: 1.0)
        framing = Framing(engine=Disc(), background=True)
        _looks(framing, gradient(240, 320), lambda framing=framing: framing.settled)
        assert len(framing.faces) == looks
    # Without landmarks, which put a square right, more are wanted.
    monkeypatch.setattr(framing_module, "find_face", lambda picture: disc)
    framing = Framing(background=True)
    _looks(framing, gradient(240, 320), lambda: framing.settled)
    assert len(framing.faces) == framing.looks


def test_a_live_search_goes_on_with_the_frame_in_which_a_look_ended(monkeypatch):
    looked = []

    def find(picture):
        looked.append(int(picture[0, 0, 0]))
        return Square(80, 60, 60)

    monkeypatch.setattr(framing_module, "find_face", find)
    framing = Framing(looks=2, background=True)
    number = 0
    while not framing.faces:
        framing.look(np.full((240, 320, 3), number % 200, np.uint8))
        time.sleep(0.002)
        number += 1
    _looks(framing, np.full((240, 320, 3), 255, np.uint8), lambda: framing.settled)
    assert looked == [0, (number - 1) % 200]


def test_a_failing_search_does_not_stop_the_next(monkeypatch):
    faces = iter([RuntimeError("no memory"), Square(80, 60, 60)])

    def find(picture):
        face = next(faces)
        if isinstance(face, Exception):
            raise face
        return face

    monkeypatch.setattr(framing_module, "find_face", find)
    framing = Framing(looks=1, background=True)
    with pytest.raises(RuntimeError):
        _looks(framing, gradient(240, 320), lambda: framing.settled)
    _looks(framing, gradient(240, 320), lambda: framing.settled)


def test_a_driver_lost_for_seconds_is_looked_for_and_framed_anew(no_cascade):
    framing = Framing(looks=1, engine=Disc())
    framing.look(with_disc(80, 100, 30))
    here = framing.square
    gone, elsewhere = np.full((240, 320, 3), 120, np.uint8), with_disc(240, 120, 30)
    for k in range(60):
        framing.lost(elsewhere, k / 30)
    assert framing.square == here  # not yet
    for k in range(60, 120):
        framing.lost(gone, k / 30)
    assert framing.square == here  # nobody anywhere
    framing.lost(with_disc(80, 100, 30), 4.0)
    assert framing.square == here  # the same place: a hand before the face, say
    framing.lost(elsewhere, 4.03)
    assert not framing.settled
    assert framing.look(elsewhere) and around(framing, 240, 120)


def test_a_face_lost_now_and_then_is_not_looked_for(no_cascade):
    framing = Framing(looks=1, engine=Disc())
    framing.look(with_disc(80, 100, 30))
    for k in range(20):
        framing.lost(with_disc(240, 120, 30), 2.0 * k)
    assert framing.settled


@pytest.mark.parametrize("name", ["face07_720x1280.mp4", "face10_1280x720.mp4"])
def test_the_shipped_detector_frames_real_drivers_without_a_cascade(shared, no_cascade, name):
    from livepuppet.realtime.engines import load_engine

    framing = Framing(looks=1, engine=load_engine("onnx", threads=1))
    framing.look(next(iter(open_video(shared / "clips" / "raw" / name))).image)
    (left, top, right, bottom), largest = HEADS[name]
    square = framing.square
    assert framing.from_face and square.side <= 1.1 * largest
    assert square.x <= left and square.y <= top
    assert square.x + square.side >= right and square.y + square.side >= bottom


def test_the_shipped_detector_tells_faces_from_none(shared):
    from livepuppet.export.parity import sample_pictures
    from livepuppet.realtime.engines import load_engine

    engine = load_engine("onnx", threads=1)

    def sure(picture):
        return float(engine.detect(picture).confidence.mean())

    faces = [sure(next(iter(open_video(shared / "clips" / f"face{n:02d}.mp4"))).image) for n in range(1, 11)]
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    none = [sure(picture) for picture in [*sample_pictures(256, 8), noise, np.zeros_like(noise)]]
    assert min(faces) > 0.6 and np.mean(none) < 0.4 and max(none) < min(faces)


@pytest.mark.parametrize("side", [257, 300, 358, 359, 411, 500, 640, 720, 767, 768, 1024, 1500, 2160])
def test_shrinking_fast_is_shrinking_by_area(side):
    noise = np.random.default_rng(side).integers(0, 255, (side // 4 + 1, side // 4 + 1, 3), np.uint8)
    picture = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    fast = cut(picture, Square(0, 0, side), 256)
    slow = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
    assert fast.shape == slow.shape
    assert np.abs(fast.astype(int) - slow).mean() < 4 and abs(fast.mean() - slow.mean()) < 0.3
    # Single-pixel stripes, which no camera shows, come back as coarse ones less than without any averaging.
    if side >= 720:
        stripes = np.zeros((side, side, 3), np.uint8)
        stripes[:, ::2] = 255
        plain = cv2.resize(stripes, (256, 256), interpolation=cv2.INTER_LINEAR)
        assert cut(stripes, Square(0, 0, side), 256).std() <= 0.75 * plain.std()


def test_a_given_crop_goes_along_when_the_source_changes_its_size():
    framing = Framing("100,50,400")
    assert framing.look(np.zeros((720, 1280, 3), np.uint8)) and framing.square == Square(100, 50, 400)
    # Another shape: the middle stays at its share of height and width.
    assert framing.look(np.zeros((360, 360, 3), np.uint8))
    assert framing.square == Square(300 / 1280 * 360 - 100, 250 / 720 * 360 - 100, 200)
    assert framing.cut(np.zeros((360, 360, 3), np.uint8), 64).shape == (64, 64, 3)
    assert framing.look(np.zeros((720, 1280, 3), np.uint8))
    assert framing.square.whole() == Square(100, 50, 400)
