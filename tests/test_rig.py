"""The rig of eyes and mouth: amounts, contours, layers, sidecars. The faces are drawn here, or are puppets."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import pytest

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.realtime.app.rig_window import RigEditor
from livepuppet.realtime.rig import dark_eyes, eye_fit, lip_fit, sidecar
from livepuppet.realtime.rig.amounts import INDEX, NAMES, LandmarkReader, amounts, bounded, mirrored, zeros
from livepuppet.realtime.rig.contours import (
    Contours,
    EyeContours,
    MouthContours,
    _Axes,
    _fit_mouth,
    _plain_mouth,
    find_contours,
    without_lenses,
)
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.editing import handles, nearest, switched
from livepuppet.realtime.rig.editing import moved as dragged
from livepuppet.realtime.rig.eyes import EyeAmounts, Eyes
from livepuppet.realtime.rig.looks import Landmarks
from livepuppet.realtime.rig.mouth import NODES, TONGUE, Mouth, MouthAmounts, MouthBend, MouthLayers
from livepuppet.realtime.rig.patches import paste
from livepuppet.realtime.rig.pose import HeadPose
from livepuppet.realtime.rig.rig import Face, Rig
from livepuppet.realtime.rig.rims import find_rims
from livepuppet.realtime.rig.sheet import draw_sheet
from livepuppet.realtime.rig.teeth import draw_row

SIDE = 400
SKIN, WHITE, IRIS, LIP = (224, 178, 150), (246, 244, 240), (60, 84, 120), (186, 84, 84)
EYES = {"left": (135, 165), "right": (265, 165)}
LANDMARKS = (
    *("left upper lid", "right upper lid", "left lower lid", "right lower lid", "left iris", "right iris"),
    *(
        "left brow",
        "right brow",
        "nose tip",
        "left mouth corner",
        "right mouth corner",
        "upper lip",
        "lower lip",
    ),
    *("chin", "forehead", "collar"),
)


def _lens(x: float, y: float, half: float, up: float, low: float, count: int = 17):
    u = np.linspace(-1, 1, count)
    bump = np.maximum(1 - u**2, 0) ** 0.8
    along = x + half * u
    return np.column_stack([along, y - up * bump]), np.column_stack([along, y + low * bump])


def drawn_face() -> tuple[np.ndarray, Contours]:
    """A drawn face, to paint on, and where its edges are."""
    picture, contours = _drawn_face()
    return picture.copy(), contours


@cache
def _drawn_face() -> tuple[np.ndarray, Contours]:
    scale = 4
    big = np.full((SIDE * scale, SIDE * scale, 3), (120, 140, 150), np.uint8)

    def fill(points: np.ndarray, colour) -> None:
        cv2.fillPoly(big, [np.rint(points * scale).astype(np.int32)], colour)

    cv2.ellipse(big, (200 * scale, 215 * scale), (150 * scale, 190 * scale), 0, 0, 360, SKIN, -1)
    eyes = {}
    for side, (x, y) in EYES.items():
        upper, lower = _lens(x, y, 30, 14, 10)
        outline = np.concatenate([upper, lower[::-1]])
        layer = big.copy()
        fill(outline, WHITE)
        cv2.circle(big, (x * scale, y * scale), 12 * scale, IRIS, -1)
        cv2.circle(big, (x * scale, y * scale), 5 * scale, (12, 12, 14), -1)
        inside = cv2.fillPoly(
            np.zeros(big.shape[:2], np.uint8), [np.rint(outline * scale).astype(np.int32)], 1
        )
        big[inside == 0] = layer[inside == 0]
        cv2.polylines(big, [np.rint(upper * scale).astype(np.int32)], False, (50, 34, 30), 3 * scale)
        crease = upper - np.column_stack([0 * upper[:, 0], 8 * np.sin(np.linspace(0, np.pi, 17))])
        eyes[side] = EyeContours(
            *(a.astype(np.float32) for a in (upper, lower, crease, np.array([x, y]))), radius=12.0
        )
    up, low = _lens(200, 300, 46, 13, 17)
    fill(np.concatenate([up, low[::-1]]), LIP)
    line = np.column_stack([np.linspace(154, 246, 17), np.full(17, 300.0)])
    cv2.polylines(big, [np.rint(line * scale).astype(np.int32)], False, (96, 36, 40), 2 * scale)
    mouth = MouthContours(
        *(a.astype(np.float32) for a in (up, line, line, low)), chin=np.array([200, 395], np.float32)
    )
    picture = cv2.resize(big, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return picture, Contours(SIDE, SIDE, eyes["left"], eyes["right"], mouth)


def narrower(mouth: MouthContours, share: float) -> MouthContours:
    """The drawn face's mouth, of which this share of its width is left."""
    names = ("outer_upper", "inner_upper", "inner_lower", "outer_lower")
    across, middle = np.float32([share, 1]), np.float32([200, 300])
    return replace(mouth, **{name: (getattr(mouth, name) - middle) * across + middle for name in names})


def smiling_face() -> tuple[np.ndarray, Contours]:
    """The same with lips that stand open over white teeth, one pixel further than the contours say."""
    picture, contours = drawn_face()
    x = np.linspace(154, 246, 17)
    bow = 1 - ((x - 200) / 46) ** 2
    upper, lower, rim = (np.column_stack([x, 300 + deep * bow]).astype(np.float32) for deep in (0, 9, 24))
    further = np.array([0, 1])
    for points, colour in (((upper, rim), LIP), ((upper - further, lower + further), (236, 232, 224))):
        outline = np.concatenate([points[0], points[1][::-1]])
        cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], colour)
    mouth = replace(contours.mouth, inner_upper=upper, inner_lower=lower, outer_lower=rim)
    return picture, replace(contours, mouth=mouth)


def landmarks_of(contours: Contours, off: float = 0.0) -> Landmarks:
    """The model's landmarks of the drawn face, each `off` pixels away from where it belongs."""
    places = {
        "nose tip": (200, 240), "chin": (200, 385), "forehead": (200, 80), "collar": (200, 399),
        "left brow": (135, 130), "right brow": (265, 130), "upper lip": (200, 299), "lower lip": (200, 301),
        "left mouth corner": (154, 300), "right mouth corner": (246, 300),
    }  # fmt: skip
    for side, (x, y) in EYES.items():
        places |= {f"{side} iris": (x, y), f"{side} upper lid": (x, y - 14), f"{side} lower lid": (x, y + 10)}
    rng = np.random.default_rng(4)
    angle = rng.uniform(0, 2 * np.pi, len(LANDMARKS))
    points = np.array([places[name] for name in LANDMARKS]) + off * np.column_stack(
        [np.cos(angle), np.sin(angle)]
    )
    count = len(LANDMARKS)
    return Landmarks(
        LANDMARKS, points.astype(np.float32), np.full(count, 2.0, np.float32), np.ones(count, np.float32)
    )


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, Contours]:
    return drawn_face()


def both(name: str, value: float = 1.0) -> dict[str, float]:
    return {name + "Left": value, name + "Right": value}


@cache
def eyes_and_mouth() -> tuple[Eyes, Mouth]:
    """Of the drawn face."""
    return Eyes(*drawn_face()), Mouth(*drawn_face())


def moved(face, **values) -> np.ndarray:
    patches = [patch for part in eyes_and_mouth() for patch in part.draw(amounts(values))]
    return paste(face[0].copy(), patches)


def dark_middle(picture: np.ndarray, side: str) -> float:
    """Column of the iris: the middle of what is dark in the eye's box."""
    x, y = EYES[side]
    box = picture[y - 7 : y + 8, x - 28 : x + 29].astype(float).mean(2)
    weight = np.maximum(150 - box, 0)
    return float((weight.sum(0) * np.arange(-28, 29)).sum() / weight.sum())


@pytest.mark.parametrize("scale", np.linspace(0.06, 0.3, 33).round(4).tolist())
def test_tiny_eyes_have_lashes_in_a_grid_of_their_own(scale):
    picture, contours = drawn_face()
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    eyes = Eyes(small, contours.mapped(scale))
    for layers in eyes.layers.values():
        assert layers.hang_alpha.shape == (len(layers.lash_rows), len(layers.lash_u))
    shut = paste(small.copy(), eyes.draw(amounts(both("eyeBlink"))))
    assert shut.shape == small.shape


# Amounts.


def test_amounts_are_arkits_and_bounded():
    assert len(NAMES) == len(set(NAMES)) == 52
    vector = amounts(jawOpen=3, eyeBlinkLeft=-1)
    assert vector[INDEX["jawOpen"]] == 1 and vector[INDEX["eyeBlinkLeft"]] == 0
    assert amounts({"jawOpen": -0.5})[INDEX["jawOpen"]] == -0.5
    assert np.array_equal(bounded(np.full(52, np.nan)), zeros())
    with pytest.raises(UserError, match="ARKit"):
        amounts(jawOpenn=1)
    with pytest.raises(UserError, match="not a number"):
        amounts(jawOpen=float("nan"))


def test_a_mirror_swaps_sides_and_nothing_else():
    vector = amounts(eyeBlinkLeft=0.7, mouthRight=0.4, jawOpen=0.2)
    assert np.array_equal(mirrored(vector), amounts(eyeBlinkRight=0.7, mouthLeft=0.4, jawOpen=0.2))
    assert np.array_equal(mirrored(mirrored(vector)), vector)


def _read(change: dict[str, tuple[float, float]]) -> np.ndarray:
    marks = landmarks_of(None)
    reader = LandmarkReader(marks.names)

    def keypoints(points: np.ndarray) -> Keypoints:
        return Keypoints(
            (points / SIDE * 2 - 1).astype(np.float32), np.zeros((len(points), 2, 2), np.float32)
        )

    reader.set_neutral(keypoints(marks.points))
    points = marks.points.copy()
    for name, offset in change.items():
        points[marks.names.index(name)] += offset
    return reader.read(keypoints(points))


def test_a_neutral_driver_moves_nothing():
    assert np.abs(_read({})).max() < 1e-4


def test_the_reader_tells_blink_gaze_and_opening_apart():
    blink = _read({"left upper lid": (0, 22)})
    assert blink[INDEX["eyeBlinkRight"]] == 1 and blink[INDEX["eyeBlinkLeft"]] < 0.05
    gaze = _read({"left iris": (8, 0), "right iris": (8, 0)})
    assert gaze[INDEX["eyeLookInRight"]] > 0.4 and gaze[INDEX["eyeLookOutLeft"]] > 0.4
    assert gaze[INDEX["eyeBlinkLeft"]] < 0.05
    half = _read({"left upper lid": (0, 11), "right upper lid": (0, 4)})
    assert abs(half[INDEX["eyeBlinkRight"]] - half[INDEX["eyeBlinkLeft"]]) < 0.15
    opened = _read({"lower lip": (0, 40)})
    assert 0.3 < opened[INDEX["jawOpen"]] < 0.6


# Contours.


def _curve_error(found: np.ndarray, true: np.ndarray) -> float:
    distances = np.linalg.norm(found[:, None] - true[None], axis=2)
    return float(distances.min(1).mean())


@pytest.mark.parametrize("off", [0.0, 5.0])
def test_contours_find_the_edges_of_a_drawn_face(face, off):
    picture, true = face
    found = find_contours(picture, landmarks_of(true, off))
    unit = 130.0
    for side in ("left", "right"):
        eye, wanted = getattr(found, side), getattr(true, side)
        assert eye.sure, eye.reason
        for name in ("upper", "lower"):
            dense = np.column_stack(
                [
                    np.interp(np.linspace(0, 16, 200), np.arange(17), getattr(wanted, name)[:, k])
                    for k in (0, 1)
                ]
            )
            assert _curve_error(getattr(eye, name), dense) < 0.03 * unit
        assert np.linalg.norm(eye.iris - wanted.iris) < 0.03 * unit
        assert abs(eye.radius - wanted.radius) < 0.03 * unit
    assert found.mouth.sure
    dense = np.column_stack([np.linspace(154, 246, 200), np.full(200, 300.0)])
    assert _curve_error(found.mouth.inner_upper, dense) < 0.03 * unit


def test_no_landmarks_is_no_rig_and_says_so(face):
    found = find_contours(face[0], None)
    assert found.left is None and found.mouth is None and len(found.notes) == 3
    assert Eyes(face[0], found).draw(amounts(eyeBlinkLeft=1)) == []
    assert Mouth(face[0], found).draw(amounts(jawOpen=1)) == []
    assert draw_sheet(face[0], found).ndim == 3


def test_a_tiny_face_is_unsure(face):
    picture, true = face
    small = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA)
    marks = landmarks_of(true)
    marks = Landmarks(marks.names, (marks.points + 0.5) * 0.08 - 0.5, marks.spread * 0.08, marks.confidence)
    found = find_contours(small, marks)
    assert not found.left.sure and not found.mouth.sure
    assert all("too small" in note for note in found.notes)


# Layers.


def test_lenses_of_dark_glasses_are_no_eyes():
    def eye(x: float, radius: float) -> EyeContours:
        curve = np.column_stack([np.linspace(x - radius, x + radius, 17), np.full(17, 50.0)]).astype(
            np.float32
        )
        return EyeContours(
            curve, curve + np.float32([0, 4]), curve - np.float32([0, 4]), np.float32([x, 50]), radius
        )

    large = without_lenses(eye(100, 21), eye(200, 21))
    assert all(one.sure for one in large)
    lenses = without_lenses(eye(100, 30), eye(200, 25))
    assert not any(one.sure for one in lenses) and "dark glasses" in lenses[0].reason
    assert without_lenses(None, eye(200, 30))[1].sure


def test_at_rest_the_picture_is_itself_to_the_bit(face):
    assert np.array_equal(moved(face), face[0])
    picture, contours = face
    eyes, mouth = Eyes(picture, contours), Mouth(picture, contours)
    eyes.draw(amounts(both("eyeBlink")))
    mouth.draw(amounts(jawOpen=1))
    assert eyes.draw(zeros()) == [] and mouth.draw(zeros()) == []


def test_a_small_amount_changes_little(face):
    change = np.abs(moved(face, **both("eyeBlink", 0.01), jawOpen=0.002).astype(int) - face[0])
    assert change.mean() < 0.2


def test_a_whole_blink_covers_eye_and_iris_with_skin(face):
    shut = moved(face, **both("eyeBlink"))
    for x, y in EYES.values():
        # All of the opening but for its lower edge, where the lashes are.
        box = shut[y - 10 : y + 2, x - 18 : x + 19].astype(float)
        assert np.abs(np.median(box, axis=(0, 1)) - SKIN).max() < 22
        whole = shut[y - 14 : y + 12, x - 30 : x + 31].astype(float)
        assert (np.abs(whole - WHITE).max(2) < 12).mean() < 0.01


def test_old_lashes_go_where_the_lid_goes(face):
    """Also those that stand out beyond the corner: a closed lid is skin above its line."""
    picture, contours = face
    picture = picture.copy()
    for (x, y), sign in zip(EYES.values(), (-1, 1), strict=True):
        for k in range(4):
            start = (x + sign * (22 + 3 * k), y - 8 + 2 * k)
            cv2.line(picture, start, (start[0] + sign * 8, start[1] - 8), (40, 30, 28), 2, cv2.LINE_AA)
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink"))))
    for x, y in EYES.values():
        above = shut[y - 24 : y - 4, x - 40 : x + 41].astype(int)
        assert np.abs(above - SKIN).max(2).max() < 45
        assert np.abs(np.diff(above.mean(2), axis=0)).max() < 16


def test_lashes_beyond_a_corner_leave_with_the_lid_and_no_copy_stays(face):
    picture, contours = face
    picture = picture.copy()
    places = []
    for (x, y), sign in zip(EYES.values(), (-1, 1), strict=True):
        cv2.line(picture, (x + sign * 27, y - 2), (x + sign * 40, y - 8), (40, 30, 28), 3, cv2.LINE_AA)
        places.append((slice(y - 14, y), slice(*sorted((x + sign * 32, x + sign * 39)))))
    eyes = Eyes(picture, contours)
    first: list[float] = []
    before: list[float] = []
    for amount in np.linspace(0, 0.6, 7):
        drawn = paste(picture.copy(), eyes.draw(amounts(both("eyeBlink", float(amount)))))
        dark = [np.maximum(np.mean(SKIN) - drawn[place].astype(float).mean(2), 0).sum() for place in places]
        # They fade and are not torn in two.
        assert not before or all(one <= 1.05 * other for one, other in zip(dark, before, strict=True))
        first, before = first or dark, dark
    assert max(before) < 0.15 * min(first)


@pytest.mark.parametrize("amount", [0.3, 0.5])
def test_the_line_along_a_lid_that_comes_down_is_no_thicker_than_at_rest(amount):
    picture, contours = shaded_lids(False)
    drawn = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink", amount))))

    def thick(shown: np.ndarray, x: int, y: int) -> float:
        # Before the white beside the iris.
        column = shown[y - 22 : y + 10, [*range(x - 22, x - 16), *range(x + 17, x + 23)]]
        return float((column.astype(float).mean(2) < 85).sum(0).mean())

    for x, y in EYES.values():
        assert 1 < thick(drawn, x, y) < thick(picture, x, y) + 1


@pytest.mark.parametrize("amount", [0.25, 0.5])
def test_heavy_lashes_leave_no_gray_patch_on_a_lid_that_comes_down(amount):
    """Skin unfolds in their place early: drawn out, they would shade all of the lid."""
    picture, contours = shaded_lids(False)
    picture = uneven(picture)
    for eye in (contours.left, contours.right):
        for x, y in eye.upper[2:-2]:
            tip = (round(16 * (x + 0.12 * (x - eye.iris[0]))), round(16 * (y - 7)))
            cv2.line(picture, (round(16 * x), round(16 * y)), tip, (46, 36, 34), 2, cv2.LINE_AA, 4)
    drawn = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink", amount))))
    for x, y in EYES.values():
        # Between the old lashes' tips and feet.
        lid = drawn[y - 20 : y - 13, x - 18 : x + 19].astype(float).mean(2)
        assert np.median(lid) > 0.85 * np.mean(SKIN)
        assert np.percentile(lid, 10) > 0.75 * np.mean(SKIN)


def uneven(picture: np.ndarray) -> np.ndarray:
    """The picture with a real skin's light and dark places."""
    noise = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 1, picture.shape[:2]), (0, 0), 3.0)
    return np.clip(picture * (1 + 0.08 * noise / noise.std())[..., None], 0, 255).astype(np.uint8)


def test_make_up_that_runs_into_the_shade_of_hair_leaves_with_the_lid(face):
    """It is darker than the shade, which stays."""
    contours = face[1]
    picture = uneven(face[0])
    x, y = EYES["right"]
    shade = np.clip(1 - 0.09 * (np.arange(SIDE) - (x + 22)), 0.3, 1)
    picture = (picture * shade[None, :, None]).astype(np.uint8)
    wing = np.array([(x + 16, y - 12), (x + 30, y - 1), (x + 42, y - 3), (x + 42, y - 16)])
    cv2.fillPoly(picture, [16 * wing], (12, 9, 9), cv2.LINE_AA, 4)
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink"))))
    place = slice(y - 15, y - 7), slice(x + 24, x + 36)
    assert (picture[place].max(2) < 20).mean() > 0.6
    assert (shut[place].max(2) < 40).mean() < 0.05
    # Beyond it nothing changes.
    np.testing.assert_array_equal(shut[:, x + 62 :], picture[:, x + 62 :])


@pytest.mark.parametrize("amount", [0.15, 0.3, 0.45, 0.6, 0.8, 1.0])
def test_a_line_of_lashes_runs_along_a_real_lid_all_the_way_down(amount):
    """From corner to corner, and a little past the outer one."""
    picture, contours = shaded_lids(False)
    picture = uneven(picture)
    eyes = Eyes(picture, contours)
    drawn = paste(picture.copy(), eyes.draw(amounts(both("eyeBlink", amount))))
    light = cv2.GaussianBlur(drawn.astype(np.float32).mean(2), (0, 0), 0.7)
    for side, layers in eyes.layers.items():
        assert layers.fine == 1
        (wanted, patch), (h, w) = layers._last, layers.v.shape
        assert wanted.blink == pytest.approx(amount, abs=0.01)
        shown = light[patch.top : patch.top + h, patch.left : patch.left + w]
        near = np.abs(layers.v - layers._edges(wanted)[0]) < 0.05 * layers.width
        outward = layers.u if side == "right" else 1 - layers.u
        first, last = (int(np.abs(outward - place).mean(0).argmin()) for place in (0.2, 1.0))
        darkest = np.where(near, shown, 255).min(0)[slice(*sorted((first, last)))]
        assert (darkest < 0.72 * np.mean(SKIN)).mean() > 0.97


def test_an_iris_that_turns_up_is_seen_to_be_up_below_a_lid_that_comes_down(face):
    """A part of it is left, with white below."""

    def seen(**values) -> list[np.ndarray]:
        shown = moved(face, **values)
        return [
            np.abs(shown[y - 16 : y + 16, x - 30 : x + 31].astype(int) - IRIS).max(2) < 40
            for x, y in EYES.values()
        ]

    shut = both("eyeBlink", 0.4)
    for ahead, up in zip(seen(**shut), seen(**shut, **both("eyeLookUp")), strict=True):
        assert up.sum() > 0.45 * ahead.sum() > 0
        assert np.flatnonzero(up.any(1))[-1] < np.flatnonzero(ahead.any(1))[-1] - 1


def shaded_lids(folds: bool) -> tuple[np.ndarray, Contours]:
    """The drawn face with a lid of its own colour between lashes and a fold of a dark line, and with grain."""
    picture, contours = drawn_face()
    picture = picture.copy()
    for eye in (contours.left, contours.right):
        upper = np.rint(eye.upper * 16).astype(np.int32)
        fold = np.rint((eye.upper - (0, 10)) * 16).astype(np.int32)
        cv2.fillPoly(picture, [np.concatenate([fold, upper[::-1]])], LID, cv2.LINE_AA, 4)
        cv2.polylines(picture, [upper], False, (50, 34, 30), 3, cv2.LINE_AA, 4)
        if folds:
            cv2.polylines(picture, [fold], False, (120, 80, 66), 2, cv2.LINE_AA, 4)
    noise = np.random.default_rng(7).normal(0, 5, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8), contours


#: A lid's make-up.
LID = (150, 140, 190)


@pytest.mark.parametrize("amount", [0.5, 1.0])
def test_a_drawn_lid_goes_on_smoothly_under_a_fold_that_stays(amount):
    picture, contours = shaded_lids(True)
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink", amount))))
    for x, y in EYES.values():
        # Where lashes and iris were there is lid, with the grain of the skin beside it.
        lid = shut[y - 17 : y - 8, x - 9 : x + 10].astype(float)
        colour = np.median(lid, axis=(0, 1))
        assert (np.minimum(SKIN, LID) - 8 < colour).all() and (colour < np.maximum(SKIN, LID) + 8).all()
        assert 2 < np.std(lid - cv2.GaussianBlur(lid, (0, 0), 2)) < 8
        # The fold is where it was.
        column = shut[y - 34 : y - 16, x - 3 : x + 4].astype(float).mean((1, 2))
        before = picture[y - 34 : y - 16, x - 3 : x + 4].astype(float).mean((1, 2))
        assert abs(int(column.argmin()) - int(before.argmin())) <= 1
        assert column.min() < before.min() + 25


def test_a_lid_without_a_fold_goes_over_into_the_skin_above_without_an_edge():
    picture, contours = drawn_face()
    # Light falls from the left.
    light = np.linspace(1.1, 0.7, SIDE)[None, :, None]
    picture = np.clip(picture * light, 0, 255).astype(np.uint8)
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink"))))
    for x, y in EYES.values():
        lid = shut[y - 30 : y + 2, x - 16 : x + 17].astype(float)
        assert np.abs(np.diff(lid, axis=0)).max() < 8
        ratio = lid / (np.array(SKIN) * light[:, x - 16 : x + 17])
        assert np.abs(np.median(ratio, axis=(0, 1)) - 1).max() < 0.08


def test_a_blink_closes_step_by_step():
    picture, contours = shaded_lids(False)
    eyes = Eyes(picture, contours)
    steps = [
        paste(picture.copy(), eyes.draw(amounts(both("eyeBlink", amount)))).astype(float)
        for amount in np.linspace(0, 1, 17)
    ]
    whole = np.abs(steps[-1] - steps[0]).mean()
    for one, other in pairwise(steps):
        assert np.abs(other - one).mean() < 0.35 * whole
    for x, y in EYES.values():
        box = slice(y - 14, y + 11), slice(x - 30, x + 31)
        open_ = [(np.abs(step[box] - WHITE).max(2) < 45).sum() for step in steps[1:]]
        assert all(later <= earlier + 6 for earlier, later in pairwise(open_))
        assert open_[-1] == 0


def test_whites_of_both_eyes_are_alike_and_keep_their_own_marks(face):
    picture, contours = face
    picture = picture.copy()
    (left, y), (right, _) = EYES["left"], EYES["right"]
    # One white is darker; the other has a gray mark beside the iris.
    box = picture[y - 14 : y + 11, right - 30 : right + 31]
    white = np.abs(box.astype(int) - WHITE).max(2) < 12
    box[white] = (196, 194, 190)
    mark = slice(y - 2, y + 4), slice(left + 18, left + 20)
    picture[mark] = (200, 198, 195)
    moved = paste(
        picture.copy(), Eyes(picture, contours).draw(amounts(eyeLookOutRight=1.0, eyeLookInLeft=1.0))
    ).astype(float)
    # They look to the left: what the irises leave.
    seen = [moved[y - 1 : y + 4, x - 2 : x + 5].mean((0, 1)) for x in (left, right)]
    assert np.abs(seen[0] - seen[1]).max() < 14
    assert moved[mark].mean() < moved[y - 2 : y + 4, left + 8 : left + 12].mean() - 8


def test_an_iris_is_a_disc_where_the_white_shows_through_its_rim(face):
    """Contours are a pixel or two off: what is white within them does not go along."""
    picture, contours = face
    off = {
        side: replace(eye, iris=eye.iris + np.float32((2.5, 0)))
        for side, eye in (("left", contours.left), ("right", contours.right))
    }
    contours = replace(contours, **off)
    moved = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeWide"))))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    for eye in off.values():
        far = np.hypot(columns - eye.iris[0], rows - eye.iris[1])
        ring = (far > 8) & (far < 10.5) & (rows > eye.iris[1] - 8) & (rows < eye.iris[1] + 7)
        assert (np.abs(moved[ring].astype(int) - IRIS).max(1) < 60).mean() > 0.97


def test_what_lies_before_the_eyeball_stays_while_it_turns(face):
    """A corner's red and a lower line are the lid's, wherever the iris is."""
    picture, contours = face[0].copy(), face[1]
    x, y = EYES["left"]
    red = (186, 70, 66)
    corner = contours.left.lower[-3:]
    cv2.fillPoly(
        picture, [np.rint(np.concatenate([corner, contours.left.upper[-3:][::-1]])).astype(np.int32)], red
    )
    turned = paste(
        picture.copy(), Eyes(picture, contours).draw(amounts(eyeLookInRight=1.0, eyeLookOutLeft=1.0))
    )
    place = slice(y - 2, y + 3), slice(x + 26, x + 29)
    assert np.abs(turned[place].astype(int) - picture[place]).mean() < 12
    # The iris has moved all the same.
    assert np.abs(turned[y, x - 6].astype(int) - WHITE).max() < 40


def test_drawn_lights_go_along_with_a_drawn_iris(face):
    picture, contours = face[0].copy(), face[1]
    for x, y in EYES.values():
        cv2.circle(picture, (x + 5, y - 2), 2, (255, 255, 255), -1)
    turned = paste(
        picture.copy(), Eyes(picture, contours).draw(amounts(eyeLookOutRight=1.0, eyeLookInLeft=1.0))
    )
    for x, y in EYES.values():
        row = turned[y - 4 : y + 1, x - 18 : x + 4].astype(int).min(2).max(0)
        dark = np.flatnonzero(row < 130)
        # Between dark and dark there is a light.
        assert row[dark[0] : dark[-1]].max() > 200


def test_a_light_iris_ends_where_its_white_begins(monkeypatch):
    """Not at its pupil's rim."""
    theta = np.float32([0, 0, 0.3, 0.1, 0.1, 0, 0, 0.9, 0, 0, 0.08])
    crop = np.full((eye_fit.HEIGHT, eye_fit.WIDTH, 3), (206, 160, 138), np.uint8)
    eye, middle = np.full_like(crop, (236, 232, 228)), (eye_fit.WIDTH // 2, eye_fit.HEIGHT // 2)
    cv2.circle(eye, middle, round(0.12 * eye_fit.PER_D), (190, 172, 110), -1)
    cv2.circle(eye, middle, round(0.075 * eye_fit.PER_D), (10, 8, 8), -1)
    edges = [
        np.column_stack([k[0] for k in eye_fit.place(theta[None], eye_fit.U[None], rows)])
        for rows in eye_fit.heights(theta[None])
    ]
    outline = np.rint(np.concatenate([edges[0], edges[1][::-1]])).astype(np.int32)
    inside = cv2.fillPoly(np.zeros(crop.shape[:2], np.uint8), [outline], 1) > 0
    crop[inside] = eye[inside]
    maps, fits = (eye_fit.EyeMaps(crop),) * 2, [eye_fit.EyeFit(theta, 1.0, 1.0, 1.0, 1.0)] * 2
    for iris in eye_fit.refine_irises(maps, fits):
        assert 0.11 < iris[2] < 0.135
    # Its rim alone is the clearer one.
    monkeypatch.setattr(eye_fit, "PUPIL", -1.0)
    assert eye_fit.refine_irises(maps, fits)[0][2] < 0.1


def test_a_thick_rim_over_the_eye_stays_in_front_of_the_lid(face):
    picture, contours = face
    picture = picture.copy()
    for x, y in EYES.values():
        picture[y - 33 : y - 25, x - 60 : x + 61] = (12, 12, 14)
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink"))))
    for x, y in EYES.values():
        rim = slice(y - 32, y - 26), slice(x - 60, x + 61)
        assert np.abs(shut[rim].astype(int) - picture[rim]).max() < 12
        assert np.abs(np.median(shut[y - 10 : y + 2, x - 18 : x + 19], axis=(0, 1)) - SKIN).max() < 30


def with_glasses(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The drawn face with thin round glasses close under its eyes, and where their rims are."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    for x, y in EYES.values():
        cv2.ellipse(mask, (x, y - 6), (46, 24), 0, 0, 360, 255, 3, cv2.LINE_AA)
    cv2.line(mask, (EYES["left"][0] + 44, EYES["left"][1] - 6), (EYES["right"][0] - 44, 169), 255, 5)
    share = mask[..., None] / 255
    return np.rint(picture * (1 - share) + np.array(colour) * share).astype(np.uint8), mask > 250


@pytest.mark.parametrize("amount", [both("eyeBlink"), both("eyeSquint"), both("eyeLookDown")])
def test_thin_rims_of_their_own_colour_stay_in_front_of_lids(face, amount):
    picture, rims = with_glasses(face[0], (190, 40, 60))
    drawn = paste(picture.copy(), Eyes(picture, face[1]).draw(amounts(amount)))
    below = rims.copy()
    for x, y in EYES.values():
        below[: y + 13, x - 40 : x + 41] = False
    assert below.sum() > 100
    assert np.percentile(np.abs(drawn[below].astype(int) - picture[below]).max(1), 95) < 24


def test_a_dark_side_of_a_face_is_no_rim(face):
    """Nothing crosses the nose's bridge there."""
    picture = face[0].copy()
    assert find_rims(picture, *(np.array(place) for place in EYES.values())) is None
    picture[90:150, 40:190] = (20, 14, 12)
    assert find_rims(picture, *(np.array(place) for place in EYES.values())) is None
    glasses, _ = with_glasses(face[0], (30, 30, 34))
    assert find_rims(glasses, *(np.array(place) for place in EYES.values())).dark


@pytest.fixture(scope="module")
def animal(face) -> tuple[np.ndarray, Contours]:
    """Round dark eyes with lights in light fur, and the contours that are found there."""
    picture = face[0].copy()
    picture[110:220, 85:315] = SKIN
    for x, y in EYES.values():
        cv2.ellipse(picture, (x, y), (22, 25), 0, 0, 360, (38, 28, 24), -1, cv2.LINE_AA)
        cv2.circle(picture, (x + 7, y - 9), 4, (240, 240, 236), -1, cv2.LINE_AA)
    return picture, find_contours(picture, landmarks_of(face[1], 6.0))


def test_round_dark_eyes_are_found_whole(animal):
    for eye, (x, y) in zip((animal[1].left, animal[1].right), EYES.values(), strict=True):
        assert eye.sure
        assert np.hypot(*(eye.iris - (x, y))) < 3
        assert abs(eye.upper[:, 1].min() - (y - 25)) < 4 and abs(eye.lower[:, 1].max() - (y + 25)) < 4
        assert abs(eye.upper[0, 0] - (x - 22)) < 5 and abs(eye.upper[-1, 0] - (x + 22)) < 5


def test_large_dark_irises_leave_people_their_whites(face):
    """Of which little is seen in the corners, under dark lashes."""
    picture = face[0].copy()
    picture[110:220, 85:315] = SKIN
    halves = []
    for x, y in EYES.values():
        upper, lower = _lens(x, y, 28, 13, 12)
        inside = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.rint(16 * np.concatenate([upper, lower[::-1]])).astype(np.int32)], 1, 8, 4)
        eye = np.full_like(picture, 150)
        cv2.circle(eye, (x, y), 17, (44, 30, 26), -1, cv2.LINE_AA)
        picture[inside > 0] = eye[inside > 0]
        cv2.polylines(picture, [np.rint(16 * upper).astype(np.int32)], False, (40, 30, 28), 3, cv2.LINE_AA, 4)
    contours = find_contours(picture, landmarks_of(face[1], 2.0))
    for eye, (x, _) in zip((contours.left, contours.right), EYES.values(), strict=True):
        halves += [x - eye.upper[0, 0], eye.upper[-1, 0] - x]
    assert min(halves) > 23


def test_a_lid_closes_over_the_whole_of_a_round_eye(animal):
    picture, contours = animal
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink"))))
    for x, y in EYES.values():
        around = shut[y - 30 : y + 31, x - 28 : x + 29].astype(int).mean(2)
        # One line is left of it.
        assert (around < np.mean(SKIN) - 50).mean() < 0.09
    narrow = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeSquint"))))
    for x, y in EYES.values():
        assert np.abs(narrow[y + 27 : y + 40, x - 20 : x + 21].astype(int) - SKIN).max() < 30


@pytest.mark.parametrize("colour", [(24, 18, 16), (216, 168, 140)])
def test_eyes_without_a_white_get_none(face, colour):
    """As a dog's or a statue's: they turn as they are."""
    picture, contours = face
    picture = picture.copy()
    for eye in (contours.left, contours.right):
        opening = np.rint(np.concatenate([eye.upper, eye.lower[::-1]])).astype(np.int32)
        cv2.fillPoly(picture, [opening], colour, cv2.LINE_AA)
    away = paste(
        picture.copy(), Eyes(picture, contours).draw(amounts({"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}))
    )
    for x, y in EYES.values():
        assert np.abs(away[y - 8 : y + 6, x - 18 : x + 19].astype(int) - colour).max() < 44


@pytest.mark.parametrize("skin", [SKIN, (70, 40, 30)])
def test_a_closed_lid_has_one_line_from_corner_to_corner(face, skin):
    picture, contours = face
    picture = picture.copy()
    picture[(np.abs(picture.astype(int) - SKIN).max(2) < 8)] = skin
    shut = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink"))))
    for x, y in EYES.values():
        lid = shut[y - 4 : y + 16, x - 20 : x + 21].astype(float).mean(2)
        assert (lid.min(0) < 0.75 * np.mean(skin)).all()


def test_wide_eyes_show_more_white_under_the_same_lid(face):
    wide = moved(face, **both("eyeWide"))
    for x, y in EYES.values():
        box = slice(y - 26, y + 16), slice(x - 30, x + 31)
        was, now = ((np.abs(p[box].astype(int) - WHITE).max(2) < 30).sum() for p in (face[0], wide))
        # Not a stare.
        assert 1.1 * was < now < 1.4 * was
        # The line along the lid goes up with it.
        column = wide[y - 26 : y, x - 3 : x + 4].astype(float).mean((1, 2))
        still = face[0][y - 26 : y, x - 3 : x + 4].astype(float).mean((1, 2))
        assert int((column < 110).argmax()) < int((still < 110).argmax()) - 1


def test_the_line_along_a_lid_that_opens_wide_leaves_no_copy_in_the_corners(face):
    picture, contours = face
    picture = picture.copy()
    for eye in (contours.left, contours.right):
        below = np.rint((eye.upper + np.array([0, 2.5])) * 16).astype(np.int32)
        cv2.polylines(picture, [below], False, (40, 28, 24), 7, cv2.LINE_AA, 4)
    wide = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeWide"))))
    for x, y in EYES.values():
        for columns in (slice(x - 24, x - 20), slice(x + 21, x + 25)):
            was, now = ((p[y - 30 : y + 8, columns].mean(2) < 120).sum(0).mean() for p in (picture, wide))
            assert now < was + 1


def test_wide_eyes_open_further_where_the_lid_hangs_over_the_iris(face):
    """By three tenths of their height at most; where it only touches the iris by less."""
    picture, contours = face
    rises = []
    for radius in (12.0, 17.0):
        sides = {side: replace(getattr(contours, side), radius=radius) for side in EYES}
        layers = Eyes(picture, replace(contours, **sides)).layers
        rises += [[one.rise / one.tall for one in layers.values()]]
    assert all(0.13 < touched < 0.2 < over <= 0.3 for touched, over in zip(*rises, strict=True))


def test_lower_lids_rise_as_far_as_peoples(face):
    """By three tenths of the opening in a squint; they follow an eye that looks up by half of its way."""
    for layers in Eyes(*face).layers.values():
        middle = np.abs(layers.u - 0.5) < 0.1
        for wanted, least, most in (
            (EyeAmounts(0, 0, 1, 0, 0), 0.28, 0.38),
            (EyeAmounts(0, 0, 0, 0, -1), 0.5 * layers.to_up / layers.tall, 0.6 * layers.to_up / layers.tall),
        ):
            lower = layers._edges(wanted)[1]
            assert least < np.median(((layers.low - lower) / layers.span)[middle]) < most


@pytest.mark.parametrize("heights", [(14, 10), (15, 5), (9, 7)])
def test_lids_of_a_squint_and_a_blink_that_begins_stay_curves(heights):
    """So that they do not cut the iris straight: the lower lid still hangs, the upper one is still an arch."""
    picture, contours = narrowed_eyes(*heights)
    for layers in Eyes(picture, contours).layers.values():

        def bow(edge: np.ndarray, layers=layers) -> float:
            """How much lower the edge is in its middle than a quarter further out, in pixels."""
            at, height = layers._column(edge)
            return float(np.interp(0.5, at, height) - np.interp([0.15, 0.85], at, height).mean())

        assert bow(layers._edges(EyeAmounts(0, 0, 1, 0, 0))[1]) > 0.15 * bow(layers.low) > 0
        assert bow(layers._edges(EyeAmounts(0.3, 0, 0, 0, 0))[0]) < 0.15 * bow(layers.up) < 0


def narrowed_eyes(up: float, low: float) -> tuple[np.ndarray, Contours]:
    """The drawn face with eyes that are open less far: skin lies over the rest of them."""
    picture, contours = drawn_face()
    sides = {}
    for side, (x, y) in EYES.items():
        eye = getattr(contours, side)
        upper, lower = _lens(x, y, 30, up, low)
        covered = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(
            covered,
            [
                np.rint(
                    np.concatenate([eye.upper - np.array([0, 3]), eye.lower[::-1] + np.array([0, 2])])
                ).astype(int)
            ],
            1,
        )
        cv2.fillPoly(covered, [np.rint(np.concatenate([upper, lower[::-1]])).astype(int)], 0)
        picture[covered > 0] = SKIN
        cv2.polylines(picture, [np.rint(upper * 16).astype(int)], False, (50, 34, 30), 3, cv2.LINE_AA, 4)
        crease = upper - np.column_stack([0 * upper[:, 0], 8 * np.sin(np.linspace(0, np.pi, 17))])
        curves = {"upper": upper, "lower": lower, "crease": crease}
        sides[side] = replace(eye, **{name: curve.astype(np.float32) for name, curve in curves.items()})
    return picture, replace(contours, **sides)


@pytest.mark.parametrize("heights", [(14, 10), (9, 7), (6, 5)])
@pytest.mark.parametrize("gaze", [
    {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}, {"eyeLookInRight": 1.0, "eyeLookOutLeft": 1.0},
])  # fmt: skip
def test_of_irises_that_turn_aside_most_is_still_seen(heights, gaze):
    """Two thirds of what is seen of them at rest, less what they are narrowed: nobody has an eye that is white all over."""
    picture, contours = narrowed_eyes(*heights)
    turned = paste(picture.copy(), Eyes(picture, contours).draw(amounts(gaze)))
    for x, y in EYES.values():
        # Within the line along the upper lid.
        upper, lower = _lens(x, y, 30, heights[0] - 2, heights[1])
        inside = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.rint(np.concatenate([upper, lower[::-1]])).astype(int)], 1)
        rest, aside = ((p.mean(2) < 150) & (inside > 0) for p in (picture, turned))
        assert aside.sum() > 0.62 * rest.sum()
        # They do turn.
        assert abs(np.nonzero(aside)[1].mean() - np.nonzero(rest)[1].mean()) > 0.4 * 12


def test_irises_turn_as_far_as_peoples(face):
    for layers in Eyes(*face).layers.values():
        assert min(layers.to_left, layers.to_right) > 1.25 * layers.radius
        # Not out of the opening.
        assert max(layers.iris_u + layers.to_right, layers.width - layers.iris_u + layers.to_left) < (
            layers.width - 0.8 * layers.radius
        )
        assert 0.7 * layers.radius < layers.to_up < 0.8 * layers.radius


def test_looking_aside_leaves_the_lashes_as_they_are(face):
    """The line along the upper lid is the picture's own, also where the iris was before it."""
    picture, contours = face
    picture = picture.copy()
    for eye in (contours.left, contours.right):
        below = np.rint((eye.upper + np.array([0, 3])) * 16).astype(np.int32)
        cv2.polylines(picture, [below[1:-1]], False, (40, 28, 24), 7, cv2.LINE_AA, 4)
    turned = paste(
        picture.copy(), Eyes(picture, contours).draw(amounts(eyeLookInLeft=1.0, eyeLookOutRight=1.0))
    )
    for eye in (contours.left, contours.right):
        for x, y in np.rint(eye.upper[4:-4] + np.array([0, 2])).astype(int):
            assert turned[y, x].mean() < 60


def test_both_eyes_look_aside_along_the_same_line(face):
    """However their corners lie, as those of upturned eyes: neither iris goes up or down."""
    picture, contours = face

    def upturned(eye, sign: int) -> EyeContours:
        rise = sign * 0.25 * (eye.iris[0] - np.stack([eye.upper[:, 0], eye.lower[:, 0], eye.crease[:, 0]]))
        return replace(
            eye,
            **{
                name: (curve - np.column_stack([0 * off, off])).astype(np.float32)
                for name, curve, off in zip(
                    ("upper", "lower", "crease"), (eye.upper, eye.lower, eye.crease), rise, strict=True
                )
            },
        )

    tilted = replace(contours, left=upturned(contours.left, 1), right=upturned(contours.right, -1))
    turned = paste(
        picture.copy(), Eyes(picture, tilted).draw(amounts(eyeLookInLeft=0.6, eyeLookOutRight=0.6))
    )
    heights = []
    for x, y in EYES.values():
        pupil = turned[y - 12 : y + 13, x - 20 : x + 21].astype(int).max(2) < 40
        heights.append(float(np.nonzero(pupil)[0].mean()))
    assert abs(heights[0] - heights[1]) < 2.5


def test_a_drawn_white_stays_white(face):
    turned = moved(face, eyeLookInLeft=1.0, eyeLookOutRight=1.0)
    for x, y in EYES.values():
        beside = turned[y - 4 : y + 5, x + 4 : x + 16].astype(int)
        assert np.abs(beside - WHITE).max() < 26


def test_what_looks_alike_is_not_drawn_again_and_nothing_creeps(face):
    eyes, found = Eyes(*face), []
    for blink in np.arange(0.3, 0.4, 0.004):
        patch = next(iter(eyes.draw(amounts(eyeBlinkLeft=float(blink)))))
        shown = found[-1][0] if found and found[-1][1] is patch else float(blink)
        assert abs(shown - blink) <= 0.015
        found.append((shown, patch))
    assert 5 <= len({id(patch) for _, patch in found}) <= 13 < len(found)


def test_an_eye_looks_the_same_whatever_it_showed_before(face):
    eyes = Eyes(*face)
    for amount in (0.4, 0.1, 1.0, 0.7, 0.2):
        values = amounts(both("eyeBlink", amount))
        one, other = (paste(face[0].copy(), each.draw(values)) for each in (eyes, Eyes(*face)))
        assert np.array_equal(one, other)


def test_a_wink_moves_one_eye(face):
    wink = moved(face, eyeBlinkRight=1.0)
    assert np.array_equal(wink[:, 205:], face[0][:, 205:])
    assert not np.array_equal(wink[:, :200], face[0][:, :200])


@pytest.mark.parametrize(("sign", "values"), [
    (1, {"eyeLookInRight": 0.8, "eyeLookOutLeft": 0.8}), (-1, {"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8}),
])  # fmt: skip
def test_gaze_moves_both_irises_the_same_way(face, sign, values):
    turned = moved(face, **values)
    for side in EYES:
        assert sign * (dark_middle(turned, side) - dark_middle(face[0], side)) > 5
        assert sign * (dark_middle(turned, side)) < 22


def test_closed_is_closed_however_far_the_eyes_are_open_at_rest(face):
    """Fixed ends: the same whole blink for an avatar that squints."""
    picture, contours = face
    shut = moved(face, **both("eyeBlink"))
    half = paste(picture.copy(), Eyes(picture, contours).draw(amounts(both("eyeBlink", 0.5))))
    x, y = EYES["left"]
    for drawn in (shut, half):
        assert np.abs(drawn.astype(int) - picture)[y - 14 : y + 12, x - 30 : x + 31].max() > 60
    assert (shut[y, x].astype(int) - IRIS).max() > 60


def test_an_opening_mouth_shows_its_inside_and_drops_the_chin(face):
    opened = moved(face, jawOpen=0.6)
    middle = opened[300:335, 195:206].astype(float).mean(2)
    assert middle.min() < 80
    assert np.array_equal(opened[:200], face[0][:200])
    # The lower lip is still there, lower.
    below = opened[330:380, 196:205].astype(float)
    assert (np.abs(below - LIP).max(2) < 30).any()


def test_what_an_iris_leaves_is_as_light_as_the_white_beside_it(face):
    """No bright rim along lids or where the iris was, also in eyes that lie in the shade."""
    picture, contours = face
    picture = picture.copy()
    for x, y in EYES.values():
        box = picture[y - 15 : y + 16, x - 30 : x + 31]
        box[box.min(2) > 215] = 90
    gaze = amounts(eyeLookInLeft=1.0, eyeLookOutRight=1.0)
    drawn = paste(picture.copy(), Eyes(picture, contours).draw(gaze))
    for x, y in EYES.values():
        # Both irises went to the picture's left, and the right half of the opening is white.
        box = drawn[y - 6 : y + 7, x + 2 : x + 20].astype(float).mean(2)
        assert box.min() > 70 and box.max() < 125


def test_teeth_are_rigid(face):
    """The upper teeth stand where they stand, however far the mouth is open."""
    picture, contours = face
    rows = []
    for value in (0.5, 0.9):
        mouth = Mouth(picture, contours)
        mouth.layers.drawn = False
        drawn = paste(picture.copy(), mouth.draw(amounts(jawOpen=value)))
        column = drawn[290:330, 190:197].astype(float).min(2).mean(1)
        # The upper ones' lower edge: below it is dark, and further down are lower teeth and lip.
        bright = column > 120
        first = int(bright.argmax())
        rows.append(290 + first + int((~bright[first:]).argmax()))
    assert abs(rows[0] - rows[1]) <= 2


def test_an_open_mouth_is_round(face):
    """Its corners sink about half-way; one that hardly opens does so in the middle."""
    picture, contours = face
    layers = Mouth(picture, contours).layers
    for value, least, most in ((0.1, 0.0, 0.35), (1.0, 0.25, 0.6)):
        offset, _ = layers._offsets(MouthAmounts.of(amounts(jawOpen=value)))
        nodes = NODES
        moved = layers._rest + offset
        gap = moved[:, 3] - moved[:, 2]
        middle, near, corner = (int(np.abs(nodes - place).argmin()) for place in (0.0, 0.85, 1.0))
        assert gap[middle] == gap.max()
        sunk = (moved[corner, 2] - moved[middle, 2]) / gap[middle]
        assert least <= sunk <= most
        if value < 0.2:
            assert gap[near] < 0.35 * gap[middle]


def _mouth_with(value: float, **named) -> tuple[Mouth, np.ndarray]:
    """The drawn face's mouth as of a photograph, and its picture with this opening."""
    picture, contours = drawn_face()
    mouth = Mouth(picture, contours)
    mouth.layers.drawn = False
    return mouth, paste(picture.copy(), mouth.draw(amounts(jawOpen=value, **named)))


def test_corners_come_inward_and_end_in_a_smooth_lens(face):
    """No chopped corners: the opening is highest in the middle and falls to nothing, column by column."""
    mouth, drawn = _mouth_with(1.0)
    still = np.abs(drawn.astype(int) - LIP).max(2) < 40
    inside = (drawn[290:380].astype(int).sum(2) < 400) & ~still[290:380]
    heights = inside.sum(0)[130:270]
    columns = np.flatnonzero(heights > 1)
    assert np.ptp(columns) < 0.95 * mouth.layers.width
    left = heights[columns[0] : 70]
    assert (np.diff(cv2.blur(left[None].astype(np.float32), (5, 1))[0]) > -2.5).all()
    assert left[0] < 0.4 * heights.max()


def test_a_mouth_opens_relative_to_the_face_not_to_its_width(face):
    """Fixed ends: a small mouth in the same face opens about as far, as its chin allows."""
    _, contours = face
    mouth = contours.mouth
    middle = mouth.inner_upper[8]
    small = {
        name: (middle + (getattr(mouth, name) - middle) * (0.7, 1.0)).astype(np.float32)
        for name in ("outer_upper", "inner_upper", "inner_lower", "outer_lower")
    }
    contours = replace(contours, mouth=replace(mouth, **small))
    assert Mouth(face[0], contours).layers.drop > 0.9 * Mouth(*face).layers.drop


def test_a_short_chin_goes_down_with_the_lip_and_stays_a_chin(face):
    """A mouth close to the chin opens nearly as far as others, and never down to the chin's edge."""
    picture, contours = face
    lowest = float(contours.mouth.outer_lower[:, 1].max())
    near = replace(contours.mouth, chin=np.array([200, lowest + 24], np.float32))
    layers = Mouth(picture, replace(contours, mouth=near)).layers
    assert layers.drop > 1.1 * layers.chin
    offset, _ = layers._offsets(MouthAmounts.of(amounts(jawOpen=1.0)))
    middle = len(offset) // 2
    lip, chin = (layers._rest + offset)[middle, 4:6]
    assert chin - lip > 0.4 * (layers._rest[middle, 5] - layers._rest[middle, 4])


def test_a_smile_leaves_skin_below_a_near_nose(face):
    """The nose stays: of the little skin below it some is left, and the corners go up all the same."""
    picture, contours = face
    mouth, lids = contours.mouth, np.concatenate([contours.left.lower, contours.right.lower])
    smile = MouthAmounts.of(amounts(both("mouthSmile")))
    for off in (0, 55):
        layers = MouthLayers(picture, mouth, 130.0, lids=lids + np.array([0, off], np.float32))
        offset, _ = layers._offsets(smile)
        room = layers._rest[:, 1] - layers._rest[:, 0]
        middle = np.abs(NODES) < 0.6
        assert (room + offset[:, 1])[middle].min() > 0.2 * room[middle].min()
        assert offset[np.abs(NODES - 1).argmin(), 2] < 0


def test_a_mouth_in_the_dark_is_dark_inside():
    picture, contours = drawn_face()
    rough = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 1))
    light = np.clip(picture + rough, 0, 255).astype(np.uint8)
    dark = light.copy()
    dark[270:350, 130:270] //= 6
    none = replace(contours, mouth=replace(contours.mouth, teeth="none"))
    tongues = [Mouth(shown, none).layers.tongue.mean() for shown in (light, dark)]
    assert tongues[1] < 0.35 * tongues[0]
    assert tongues[1] < 1.2 * dark[270:350, 130:270].mean()


def test_a_drawn_mouths_inside_is_flat():
    """Red, white, dark, an outline, and nothing that divides the white."""
    picture, contours = drawn_face()
    mouth = Mouth(picture, contours)
    assert mouth.layers.drawn
    drawn = paste(picture.copy(), mouth.draw(amounts(jawOpen=0.8)))
    top = int(mouth.layers.top + mouth.layers.origin[1])
    band = drawn[top - 4 : top + 6, 185:216].astype(int)
    white = np.abs(band - mouth.layers.teeth).max(2) < 6
    assert white.any(0).all()
    assert np.abs(np.diff(white.sum(0))).max() <= 1 and white.sum() > 60
    assert (np.abs(np.diff(white.astype(int), axis=0)).sum(0) <= 2).all()


@pytest.mark.parametrize("kind", ["even", "broad", "pointed"])
@pytest.mark.parametrize("upper", [True, False])
def test_rows_of_teeth_have_no_seams(kind, upper):
    row = draw_row(kind, upper, 3.0)
    inward = -1 if upper else 1
    front = row.light[round(row.edge + inward * 12), int(row.middle) - 27 : int(row.middle) + 28]
    assert front.min() > 0.7 and np.abs(np.diff(front)).max() < 0.1
    assert row.alpha[round(row.edge + inward * 12), int(row.middle)] == 1
    assert np.allclose(row.light[:, 20:-20], row.light[:, ::-1][:, 20:-20], atol=0.05)


def test_teeth_are_not_gray_beside_the_skin(face):
    mouth, drawn = _mouth_with(0.6)
    row = int(mouth.layers.top + mouth.layers.origin[1])
    teeth = drawn[row - 1 : row + 4, 190:211].astype(int)
    assert np.median(teeth.mean(2)) > 185
    assert np.median(teeth[..., 0] - teeth[..., 2]) > 4


def test_lips_that_hardly_part_shade_the_teeth_behind_them(face):
    """A little opening is dark, with teeth in the shade in its upper part; they get their light as it grows."""
    lightest = []
    for much in (0.1, 0.2, 0.4):
        mouth, drawn = _mouth_with(much)
        layers = mouth.layers
        upper, lower = (layers_edge(layers, much, knot) for knot in (2, 3))
        column = drawn[round(upper) : round(lower) + 1, 193:198].astype(int).mean(1)
        lightest.append(column[: round(0.75 * len(column))].mean(1).max())
        # Dark or red beside the lower lip, and no part of it gray: shaded teeth are as warm as the mouth.
        assert column[round(0.6 * len(column)) : -3, 1].min() < 65
        assert (column[:, 0] - column[:, 2]).min() > 10
    assert lightest[0] < 125 < 150 < lightest[1] < lightest[2]


def test_a_tongue_lies_over_the_lower_lip(face):
    mouth, without = _mouth_with(0.3)
    _, drawn = _mouth_with(0.3, tongueOut=1.0)
    edge = int(layers_edge(mouth.layers, 0.3))
    change = np.abs(drawn.astype(int) - without).max(2)
    tip = edge + int(mouth.layers.tongue_length)
    assert change[edge + 3 : tip - 4, 190:211].max(1).min() > 8
    assert change[tip + 12 :].max() == 0


def test_a_tongue_comes_out_below_the_upper_teeth(face):
    """They stand in front of it, as light as without it, along its whole width."""
    mouth, without = _mouth_with(0.4)
    _, drawn = _mouth_with(0.4, tongueOut=1.0)
    layers = mouth.layers
    edge = layers.top + layers.origin[1] + layers._teeth_line
    half = round(1.3 * TONGUE * layers.width)
    teeth = slice(round(edge) - 8, round(edge) - 3), slice(200 - half, 201 + half)
    assert without[teeth].mean() > 120
    assert np.abs(drawn[teeth].astype(int) - without[teeth]).max() < 8


def test_a_tongue_is_round_has_a_groove_and_comes_out_of_the_dark(face):
    mouth, drawn = _mouth_with(0.3, tongueOut=1.0)
    layers, light = mouth.layers, drawn.astype(int).mean(2)
    edge, half = int(layers_edge(layers, 0.3)), TONGUE * layers.width
    row = light[edge + 10]
    middle, beside, side = (
        max(row[round(200 + place * half)], row[round(200 - place * half)]) for place in (0, 0.4, 0.85)
    )
    # Lightest between its groove and its sides, which turn away.
    assert beside > middle + 10 and beside > side + 20
    # From the dark of the mouth to the lip without a step.
    column = light[edge - 14 : edge + 6, round(200 + 0.4 * half)]
    assert column[-1] > column[0] + 40 and np.diff(column).max() < 22
    # No stub below its tip.
    tip = edge + int(layers.tongue_length)
    below = np.abs(drawn[tip + 3 : tip + 12].astype(int) - _mouth_with(0.3)[1][tip + 3 : tip + 12]).max(2)
    assert below.max() < 60


def gaping_face() -> tuple[np.ndarray, Contours]:
    """The drawn face with a mouth that stands wide open, its lower lip like a V."""
    picture, contours = drawn_face()
    x = np.linspace(154, 246, 17)
    flat = np.column_stack([x, np.full(17, 300.0)]).astype(np.float32)
    lower, rim = (
        np.column_stack([x, 300 + deep * (1 - np.abs(x - 200) / 46)]).astype(np.float32) for deep in (56, 70)
    )
    for points, colour in ((rim, LIP), (lower, (70, 30, 32))):
        outline = np.concatenate([flat, points[::-1]])
        cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], colour)
    mouth = replace(contours.mouth, inner_upper=flat, inner_lower=lower, outer_lower=rim)
    return picture, replace(contours, mouth=replace(mouth, chin=np.float32([200, 399])))


def test_a_mouth_that_gapes_purses_to_a_ring():
    """It does not shut as it stands, like a V with its corners at the upper lip."""
    layers = Mouth(*gaping_face()).layers
    offset, aside = layers._offsets(MouthAmounts.of(amounts(mouthPucker=1.0)))
    s = np.array([0.0, 0.7, 0.98])
    upper, lower = (np.interp(s, NODES, (layers._rest + offset)[:, knot]) for knot in (2, 3))
    left, right = np.interp([-1, 1], NODES, aside)
    wide, tall = layers.width + right - left, lower[0] - upper[0]
    assert wide < 0.75 * layers.width and 0.4 < tall / wide < 0.8
    # What is left of its own inside is too little to be known: what is drawn is seen.
    picture = gaping_face()[0].copy()
    picture[306:330, 185:216] = (90, 200, 90)
    grain = np.random.default_rng(3).normal(0, 8, picture.shape)
    mouth = Mouth((picture + grain).clip(0, 255).astype(np.uint8), gaping_face()[1])
    for pucker, green in ((0.0, True), (1.0, False)):
        drawn = paste(picture.copy(), mouth.draw(amounts(jawOpen=0.2, mouthPucker=pucker))).astype(int)
        assert ((drawn[290:360, 170:230, 1] - drawn[290:360, 170:230, 0]).max() > 60) == green
    # As far above its corners as below them.
    assert abs((upper[0] + lower[0]) / 2 - (upper[2] + lower[2]) / 2) < 0.12 * tall
    assert 0.5 * tall < lower[1] - upper[1] < 0.8 * tall
    # Cheeks beyond the corners are not creased along the mouth.
    beyond = np.abs(NODES) > 2
    assert np.abs(np.diff(offset[beyond, 2:5], axis=1)).max() < 0.02 * layers.width


def test_lips_that_purse_leave_the_folds_of_the_cheeks_where_they_are():
    layers = eyes_and_mouth()[1].layers
    for values in ({"mouthPucker": 1.0}, {"jawOpen": 1.0}):
        offset, aside = layers._offsets(MouthAmounts.of(amounts(values)))
        corner, fold = np.interp([1.0, 1.55], NODES, aside)
        assert corner < -2 and abs(fold) < 0.2 * abs(corner)
        if "jawOpen" in values:
            corner, fold = np.interp([0.9, 1.7], NODES, offset[:, 2])
            assert corner > 5 and fold < 0.2 * corner


def test_a_tongue_grows_narrower_from_the_teeth_to_its_tip(face):
    mouth, drawn = _mouth_with(0.3, tongueOut=1.0)
    edge = int(layers_edge(mouth.layers, 0.3))
    tip = edge + int(mouth.layers.tongue_length)
    # Redder than the skin and lighter than the dark.
    red = (drawn[..., 0].astype(int) > 1.6 * drawn[..., 1]) & (drawn[..., 0] > 90)
    reach = np.array([np.ptp(np.flatnonzero(row)) for row in red[edge + 8 : tip - 2, 150:251]])
    assert np.diff(reach).max() <= 1 and reach[0] > 0.42 * mouth.layers.width
    assert reach[: len(reach) // 2].min() > 0.8 * reach[0] and reach[-1] < 0.6 * reach[0]


def test_a_tongue_that_hardly_shows_is_round_and_begins_inside():
    """Its tip comes from behind the lower lip, and nothing jumps as it does."""
    mouth, without = _mouth_with(0.5)
    edge = int(layers_edge(mouth.layers, 0.5))
    seen = [_mouth_with(0.5, tongueOut=value)[1].astype(int) for value in (0.02, 0.04, 0.2, 0.5)]
    changes = [np.abs(one - before).max() for before, one in zip([without, *seen], seen, strict=False)]
    assert changes[0] < 12 and changes[1] < 16
    # Not over the lip yet, and then with a round tip.
    assert np.abs(seen[2] - without)[edge + 3 :].max() < 8
    out = np.abs(seen[3] - without).max(2)[edge + 3 :] > 40
    tips = [int(out[:, x].sum()) for x in (200, 216)]
    assert tips[0] > tips[1] + 2


def test_a_tongue_goes_aside_with_the_mouth_and_not_beyond_its_corners():
    for values, sign in (({"mouthLeft": 1.0}, 1), ({"mouthRight": 1.0, "jawRight": 1.0}, -1)):
        _, without = _mouth_with(0.4, mouthPucker=0.5, **values)
        mouth, drawn = _mouth_with(0.4, mouthPucker=0.5, tongueOut=0.8, **values)
        columns = np.flatnonzero((np.abs(drawn.astype(int) - without).max(2) > 20).any(0))
        middle = (columns[0] + columns[-1]) / 2 - 200
        assert 0.1 * mouth.layers.width < sign * middle < 0.4 * mouth.layers.width
        assert np.ptp(columns) < 0.5 * mouth.layers.width


def test_a_tongue_in_a_mouth_that_gapes_has_no_straight_end():
    picture, contours = gaping_face()
    picture = (picture + np.random.default_rng(3).normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8)
    mouth = Mouth(picture, contours)
    drawn = paste(picture.copy(), mouth.draw(amounts(tongueOut=1.0))).astype(int)
    change = cv2.GaussianBlur(np.abs(drawn - picture).mean(2).astype(np.float32), (0, 0), 2)
    # Inside, above the lip's edge in the middle: the tongue's back is round, and fades away.
    top = [int((change[302:352, x] > 12).argmax()) for x in (200, 188, 212)]
    assert not mouth.layers.drawn and 0 < top[0] < min(top[1:]) - 2
    assert np.abs(np.diff(change[302:340, 200])).max() < 12


def test_a_little_opening_of_a_muzzle_shows():
    """Hairs hang over the first part of the way, which is shorter for it."""
    layers = muzzle()[1].layers
    gaps = []
    for value in (0.1, 0.3, 1.0):
        offset, _ = layers._offsets(MouthAmounts.of(amounts(jawOpen=value)))
        gaps.append(float((offset[:, 3] - offset[:, 2]).max()))
    assert gaps[0] > 0.12 * gaps[2] and 0.32 * gaps[2] < gaps[1] < 0.5 * gaps[2]


def test_lips_without_teeth_are_hardly_drawn_up():
    layers = muzzle()[1].layers
    offset, _ = layers._offsets(MouthAmounts.of(amounts(both("mouthUpperUp"))))
    assert 0 < (offset[:, 3] - offset[:, 2]).max() < 0.08 * layers.width


def test_the_wet_side_of_a_lower_lip_is_no_opening():
    """As red as the lip: an opening ends above it, and one that shows teeth down to the lip stays."""
    theta = np.float32([-0.4, 0, 0.4, 0, 0, 0.12, 0.06, 0.1, 0])
    curves = [rows[0] for rows in lip_fit.curves(theta[None])]
    outer_upper, upper, lower, outer = curves
    y, x = np.mgrid[0 : lip_fit.HEIGHT, 0 : lip_fit.WIDTH]
    u, v = (x - lip_fit.WIDTH / 2) / lip_fit.PER_D / 0.4, (y - lip_fit.HEIGHT / 2) / lip_fit.PER_D
    edges = [
        np.interp(u, lip_fit.U, rows)
        for rows in (outer_upper, upper, upper + 0.35 * (lower - upper), lower, outer)
    ]
    for teeth, share in ((edges[2], 0.35), (edges[3], 1.0)):
        crop = np.full((lip_fit.HEIGHT, lip_fit.WIDTH, 3), SKIN, np.uint8)
        inside = np.abs(u) < 1
        crop[inside & (v > edges[0]) & (v < edges[4])] = LIP
        crop[inside & (v > edges[1]) & (v < edges[3])] = (168, 60, 62)
        crop[inside & (v > edges[1]) & (v < teeth)] = (236, 228, 214)
        found = lip_fit.without_flesh(lip_fit.LipMaps(crop, 0.8), theta, upper, lower, outer)
        open_ = ((found - upper) / np.maximum(lower - upper, 1e-3))[8:-8]
        assert np.abs(open_ - share).max() < 0.12


def test_a_line_is_followed_to_where_it_ends():
    """Corners that landmarks have too low come to the line's dark ends."""
    theta = np.float32([-0.4, 0.035, 0.4, 0.035, 0, 0, 0.06, 0.1, 0])
    crop = np.full((lip_fit.HEIGHT, lip_fit.WIDTH, 3), SKIN, np.uint8)
    row, middle = lip_fit.HEIGHT // 2, lip_fit.WIDTH // 2
    cv2.line(crop, (middle - 48, row), (middle + 48, row), (60, 20, 24), 3)
    line = lip_fit.follow(lip_fit.LipMaps(crop, 0.8), theta, np.zeros(len(lip_fit.U)), "line")
    assert np.abs(line + 0.035).max() < 0.017


def test_a_line_that_curls_at_its_end_is_bent_to_it():
    """As pens draw corners; where nothing darker is there it stays."""
    theta = np.float32([-0.4, 0, 0.4, 0, 0, 0, 0.06, 0.1, 0])
    row, middle = lip_fit.HEIGHT // 2, lip_fit.WIDTH // 2
    crop = np.full((lip_fit.HEIGHT, lip_fit.WIDTH, 3), SKIN, np.uint8)
    line = np.zeros(len(lip_fit.U))
    for left, curl in ((middle - 48, 0.0), (middle - 36, 0.045)):
        drawn = crop.copy()
        cv2.line(drawn, (left, row), (middle + 48, row), (60, 20, 24), 3)
        cv2.line(drawn, (left, row), (middle - 48, row - round(curl * lip_fit.PER_D)), (60, 20, 24), 3)
        found = lip_fit.curled(lip_fit.LipMaps(drawn, 0.8), theta, line)
        assert abs(found[0] + curl) < 0.02 and np.abs(found[8:]).max() == 0 and (found[0] == 0) == (curl == 0)


def test_the_inside_of_a_mouth_with_gray_lips_is_red_unless_the_picture_is_gray():
    picture, contours = drawn_face()
    lips = np.abs(picture.astype(int) - LIP).max(2) < 30
    picture[lips] = picture[lips].mean(1, keepdims=True).astype(np.uint8)
    gray = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    for shown, red in ((picture, True), (gray, False)):
        tongue = Mouth(shown, contours).layers.tongue_out
        assert tongue[0] > 1.3 * tongue[1] if red else np.ptp(tongue) < 1


def test_the_dark_line_of_shut_lips_does_not_stay_at_their_edges():
    """It is the gap's, and neither lip's: where they part both are as light as they are beside it."""
    picture, contours = drawn_face()
    mouth = Mouth(picture, contours)
    mouth.layers.paint = lambda *inside: None
    column = paste(picture.copy(), mouth.draw(amounts(jawOpen=0.5)))[292:340, 200]
    assert picture[292:340, 200].astype(int).sum(1).min() < 240
    assert column.astype(int).sum(1).min() > 0.9 * sum(LIP)


def test_lips_are_cut_sharply_from_the_inside():
    """From the lip's own colour into the dark within a few pixels, at the sides as well as in the middle."""
    mouth, drawn = _mouth_with(0.8, mouthUpperUpLeft=0.0)
    layers = mouth.layers
    row = round(layers_edge(layers, 0.8) - 0.5 * layers.drop * 0.8)
    light = drawn[row, layers.left :].astype(int).mean(1)
    dark = light < 60
    assert dark.sum() > 0.6 * layers.width
    first = int(dark.argmax())
    assert light[first - 6] > 95


def test_a_smile_parts_the_lips_hardly_and_raised_lips_bare_teeth():
    """ARKit's smile is one of shut lips: whoever shows teeth says so by other amounts."""
    layers = eyes_and_mouth()[1].layers
    gaps = []
    for values in (
        both("mouthSmile", 0.4),
        both("mouthSmile"),
        both("mouthSmile") | both("mouthUpperUp", 0.6) | both("mouthLowerDown", 0.5),
    ):
        offset, _ = layers._offsets(MouthAmounts.of(amounts(values)))
        gaps.append(float((offset[:, 3] - offset[:, 2]).max()) / layers.width)
    assert gaps[0] < 0.005 and 0.01 < gaps[1] < 0.03 and 0.08 < gaps[2] < 0.2


def test_a_smile_bares_teeth_not_gums():
    _, drawn = _mouth_with(
        0.0, **both("mouthSmile"), **both("mouthUpperUp", 0.6), **both("mouthLowerDown", 0.5)
    )
    light = drawn[270:305, 190:211].astype(int)
    bare = (light.min(2) > 120) & (np.ptp(light, axis=2) < 60)
    assert bare.any(axis=0).all() and bare.sum(0).min() >= 4


def test_a_mouth_that_shows_its_teeth_bares_few_more():
    layers = eyes_and_mouth()[1].layers
    sides = ("mouthUpperUpLeft", "mouthUpperUpRight", "mouthLowerDownLeft", "mouthLowerDownRight")
    bares = MouthAmounts.of(amounts(**dict.fromkeys(sides, 1.0)))

    def gap() -> float:
        offset = layers._offsets(bares)[0]
        return float((offset[:, 3] - offset[:, 2]).max()) / layers.width

    shut = gap()
    layers.shows_teeth = True
    assert shut > 0.18 and gap() < 0.3 * shut


@pytest.mark.parametrize("values", [{"jawOpen": -1.0}, {"mouthClose": 1.0}, {"mouthPucker": 1.0}])
def test_lips_that_smile_meet_in_a_dark_line_without_teeth(values):
    picture, contours = smiling_face()
    mouth = Mouth(picture, contours)
    assert mouth.layers.own and mouth.layers.shows_teeth
    assert picture[295:325, 175:226].min(2).max() > 200
    drawn = paste(picture.copy(), mouth.draw(amounts(values)))[285:325, 186:215].astype(int)
    assert drawn.min(2).max() < 175
    assert drawn.mean(2).min(0).max() < 112


def test_teeth_of_a_drawing_stay_whole_where_its_mouth_opens():
    """The dark begins below them, and does not lie over them as a veil."""
    picture, contours = smiling_face()
    mouth = Mouth(picture, contours)
    drawn = paste(picture.copy(), mouth.draw(amounts(jawOpen=0.06)))[298:320, 190:211].astype(int)
    levels = drawn.mean(2)
    veiled = (levels > 130) & (levels < 215) & (np.ptp(drawn, axis=2) < 40)
    assert mouth.layers.drawn and veiled.sum(0).max() <= 2


def test_corners_go_where_peoples_do():
    """Pressed lips take theirs aside and up, on their side only; a mouth that goes aside the one in front; puffed cheeks take both in."""
    picture, contours = drawn_face()
    layers = Mouth(picture, contours).layers

    def corners(**named) -> np.ndarray:
        offset, aside = layers._offsets(MouthAmounts.of(amounts(**named)))
        return np.array([np.interp([-1, 1], NODES, line) for line in (aside, offset[:, 2])]) / layers.width

    (left_aside, right_aside), (left_down, right_down) = corners(mouthPressLeft=1.0)
    assert right_aside > 0.08 and right_down < -0.08 and abs(left_aside) < 0.02 and abs(left_down) < 0.02
    (left_aside, right_aside), (left_down, right_down) = corners(mouthLeft=1.0)
    assert left_aside > 0.1 and right_aside > 0.1 and right_down < -0.02 and abs(left_down) < 0.02
    (left_aside, right_aside), _ = corners(cheekPuff=1.0)
    assert left_aside > 0.02 and right_aside < -0.02


def test_wide_lips_purse_further():
    """A mouth that is wide, since it smiles, becomes nearly as narrow as others."""
    picture, contours = drawn_face()
    shares = []
    for wider in (1.0, 1.6):
        layers = Mouth(picture, replace(contours, mouth=narrower(contours.mouth, wider))).layers
        _, aside = layers._offsets(MouthAmounts.of(amounts(mouthPucker=1.0)))
        left, right = np.interp([-1, 1], NODES, aside)
        shares.append(1 + (right - left) / layers.width)
    assert 0.7 < shares[0] < 0.74 and 0.55 < shares[1] < 0.62


def test_skin_beside_a_smile_is_shaded_along_its_fold_unless_it_is_drawn():
    picture, contours = drawn_face()
    assert Mouth(picture, contours).layers.folds is None
    grain = picture + np.random.default_rng(3).normal(0, 8, picture.shape)
    picture = grain.clip(0, 255).astype(np.uint8)
    mouth = Mouth(picture, contours)
    shaded = paste(picture.copy(), mouth.draw(amounts(mouthSmileLeft=1.0))).astype(int)
    mouth.layers.folds = None
    plain = paste(picture.copy(), mouth.draw(amounts(mouthSmileLeft=1.0)))
    darker = (plain - shaded).mean(2)
    # The face's own left is to the picture's right: between nose and mouth, and nowhere else.
    assert darker[:, :215].max() == 0 and darker.min() >= 0
    rows, columns = np.nonzero(darker > 4)
    assert 5 < darker.max() < 40
    assert rows.min() > 225 and rows.max() < 325 and columns.max() < 200 + 46 + 0.45 * mouth.layers.unit
    # Softly.
    assert np.abs(np.diff(cv2.GaussianBlur(darker, (0, 0), 1.5), axis=1)).max() < 4


def test_small_muzzles_open_as_far_as_faces_are_large_and_grow_broader():
    picture, contours = drawn_face()
    mouth = replace(narrower(contours.mouth, 0.55), teeth="none")
    layers = Mouth(picture, replace(contours, mouth=mouth)).layers
    offset, aside = layers._offsets(MouthAmounts.of(amounts(jawOpen=1.0)))
    left, right = np.interp([-1, 1], NODES, aside)
    assert (offset[:, 3] - offset[:, 2]).max() > 0.3 * layers.unit
    assert right - left > 0.15 * layers.width


def test_a_mouth_that_is_a_dark_line_shows_no_teeth():
    """As animals are drawn."""
    picture, contours = drawn_face()
    dark = picture.copy()
    dark[(np.abs(picture.astype(int) - LIP).max(2) < 40)] = (40, 22, 20)
    for one, rows in ((picture, 2), (dark, 0)):
        mouth = Mouth(one, replace(contours, mouth=replace(contours.mouth, teeth="even")))
        assert len(mouth.layers._placed_teeth(MouthAmounts.of(amounts(jawOpen=0.5)), 30, 285, 315)) == rows


def test_a_funnel_leaves_the_corners_shut():
    layers = eyes_and_mouth()[1].layers
    offset, _ = layers._offsets(MouthAmounts.of(amounts(mouthFunnel=1.0, jawOpen=0.3)))
    gap = np.interp([0, 0.975], NODES, offset[:, 3] - offset[:, 2])
    assert gap[0] > 0.25 * layers.width and gap[1] < 0.01 * layers.width


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_a_drawing_with_a_little_noise_is_one(noise):
    picture, contours = drawn_face()
    picture = picture.copy()
    for x in (*range(105, 150, 6), *range(251, 300, 6)):
        cv2.line(picture, (x, 240), (x, 370), (40, 20, 20), 2)
    noisy = picture + np.random.default_rng(3).normal(0, noise, picture.shape)
    assert Mouth(noisy.clip(0, 255).astype(np.uint8), contours).layers.drawn
    grain = picture + np.random.default_rng(3).normal(0, 8, picture.shape)
    assert not Mouth(grain.clip(0, 255).astype(np.uint8), contours).layers.drawn


@pytest.mark.parametrize(("told", "most"), [({"jawOpen": 1.0}, 1.01), ({"mouthPucker": 1.0}, 0.7)])
def test_a_half_turned_mouth_goes_no_further_in_on_its_far_side(face, told, most):
    picture, contours = face
    eye = contours.left
    narrow = {
        name: (eye.iris + (getattr(eye, name) - eye.iris) * (0.75, 1)).astype(np.float32)
        for name in ("upper", "lower", "crease")
    }
    layers = Mouth(picture, replace(contours, left=replace(eye, **narrow))).layers
    _, aside = layers._offsets(MouthAmounts.of(amounts(told)))
    left, right = np.interp([-1, 1], NODES, aside)
    assert -right > 0.03 * layers.width and 0 <= left < most * -right
    _, aside = Mouth(picture, contours).layers._offsets(MouthAmounts.of(amounts(told)))
    assert abs(aside[0] + aside[-1]) < 1e-3


def _bend(layers, **named) -> tuple[MouthBend, np.ndarray]:
    """The mouth's motion, and how far each node's source lies away, by the lip that is nearer."""
    nodes = np.meshgrid(*layers._lattice.nodes)
    bend = layers.bend(MouthAmounts.of(amounts(**named)), layers._lattice, *nodes)
    return bend, np.where((bend.to_upper < bend.to_lower)[..., None], bend.upper, bend.lower)


def test_a_mouth_that_goes_far_aside_leaves_the_outline_and_takes_each_column_from_where_it_was():
    layers = eyes_and_mouth()[1].layers
    named = {"mouthPucker": 1.0, "mouthLeft": 1.0, **both("mouthFrown")}
    bend, _ = _bend(layers, **named)
    _, aside = layers._offsets(MouthAmounts.of(amounts(**named)))
    away = np.abs(NODES) * layers.half / layers.unit
    assert np.abs(aside).max() > 0.25 * layers.width
    assert np.abs(aside[away > 1.1]).max() < 1e-3
    # Along the lips' line, where all goes aside: a column that has moved is where it is seen.
    row = np.abs(bend.down[:, 0] - layers._line).argmin()
    s, seen = bend.s[row], bend.across[row] / layers.half
    free = bend.inside[row] > 0.999
    window = np.exp(-np.square(np.maximum(bend.down[row] - layers._line, 0) * 2 / layers.width))
    moved = np.interp(s, NODES, aside) / layers.half * window
    np.testing.assert_allclose((s + moved)[free], seen[free], atol=0.02)
    assert np.all(np.diff(s) > 0)


@pytest.mark.parametrize(
    "named", [both("mouthSmile"), {"mouthSmileLeft": 1.0}, {"mouthRight": 1.0}, both("mouthFrown")]
)
def test_what_lies_beyond_the_corners_goes_along_smoothly_and_the_nose_stays(named):
    """No shear across the mouth's line, no crease where it ends, no nose that is pushed about."""
    layers = eyes_and_mouth()[1].layers
    bend, shift = _bend(layers, **named)
    beyond = np.abs(bend.s) > 1.05
    down, across = (np.abs(np.diff(shift, axis=axis)).max(2) for axis in (0, 1))
    assert down[beyond[1:] & beyond[:-1]].max() < 0.85 * layers.block
    assert across[beyond[:, 1:] & beyond[:, :-1]].max() < 0.85 * layers.block
    nose = (bend.down < -layers._nose_above - layers.block) & (np.abs(bend.across) < 0.2 * layers.width)
    assert np.abs(shift[nose]).max() < 0.04 * layers.width


def test_a_jaw_aside_takes_the_lower_lip_and_the_chin_along():
    layers = eyes_and_mouth()[1].layers
    bend, shift = _bend(layers, jawLeft=1.0)
    middle = np.abs(bend.across) < 0.3 * layers.width
    for down in (0.25 * layers.width, 0.9 * layers.chin):
        # To the face's own left is to the picture's right.
        moved = -shift[middle & (np.abs(bend.down - down) < layers.block)][:, 0] / layers.width
        assert 0.1 < np.median(moved) < 0.2
    above = middle & (bend.down < -0.1 * layers.width)
    assert np.abs(shift[above]).max(initial=0) < 0.03 * layers.width


def test_an_open_mouth_shuts_along_its_whole_length():
    picture, contours = drawn_face()
    mouth = contours.mouth
    angular = mouth.inner_upper + np.column_stack(
        [np.zeros(17), 34 * np.minimum(1, 2.2 * (1 - np.abs(np.linspace(-1, 1, 17))))]
    )
    wide = replace(
        mouth,
        inner_lower=angular.astype(np.float32),
        outer_lower=(angular + np.float32([0, 12])).astype(np.float32),
    )
    layers = Mouth(picture, replace(contours, mouth=wide)).layers
    offset, _ = layers._offsets(MouthAmounts.of(amounts(jawOpen=-1.0)))
    gap = (layers._rest + offset)[:, 3] - (layers._rest + offset)[:, 2]
    assert np.abs(gap).max() < 0.02 * layers.width
    # The chin goes up with it.
    assert offset[len(offset) // 2, 5] < -0.3 * layers.gap


def _furry(line: np.ndarray) -> np.ndarray:
    """The drawn face with fur instead of lips, and a dark `line` (N, 2) that is its mouth."""
    picture, _ = drawn_face()
    picture = picture.copy()
    fur = np.float32((205, 180, 160)) + np.random.default_rng(2).normal(0, 14, (130, 200, 1))
    picture[250:380, 100:300] = cv2.GaussianBlur(fur.clip(0, 255).astype(np.uint8), (0, 0), 1.2)
    cv2.polylines(
        picture, [np.rint(line * 16).astype(np.int32)], False, (90, 60, 55), 3, cv2.LINE_AA, shift=4
    )
    return picture


def test_a_mouth_without_lips_opens_along_its_line():
    u = np.linspace(-1, 1, 21)
    line = np.column_stack([206 + 42 * u, 302 + 14 * np.abs(u) ** 1.5])
    _, contours = drawn_face()
    marks = landmarks_of(contours, 4.0)
    names = ("left mouth corner", "right mouth corner", "upper lip", "lower lip")
    found = _plain_mouth(_furry(line), marks, _Axes.of(marks), np.stack([marks[name] for name in names]), ())
    assert found is not None and found.sure and found.teeth == "none"
    unit = EYES["right"][0] - EYES["left"][0]
    assert _curve_error(found.inner_upper, line) < 0.04 * unit
    assert np.array_equal(found.inner_upper, found.inner_lower)


@pytest.mark.parametrize("side", [0, 1])
def test_a_line_that_was_found_on_one_side_goes_on_to_the_other(side):
    crop = np.full((lip_fit.HEIGHT, lip_fit.WIDTH, 3), (200, 170, 140), np.uint8)
    x = np.arange(-60, 61)
    line = np.column_stack([lip_fit.WIDTH / 2 + x, lip_fit.HEIGHT / 2 + 12 - 0.002 * x**2])
    cv2.polylines(crop, [np.rint(line * 16).astype(np.int32)], False, (70, 50, 40), 4, cv2.LINE_AA, 4)
    maps = lip_fit.LipMaps(crop, 0.8)
    ends = np.array([-0.15, 0.5]) if side == 0 else np.array([-0.5, 0.15])
    heights = 0.1 - 0.002 * lip_fit.PER_D * ends**2
    theta = np.array([ends[0], heights[0], ends[1], heights[1], 0, 0, 0.04, 0.06, 0])
    found = lip_fit.widened(maps, theta, 0.0)
    reached = np.abs(found[[0, 2]])
    assert abs(reached[side] - 0.375) < 1e-3 and reached[1 - side] == 0.5
    assert abs(found[1 + 2 * side] - (0.1 - 0.002 * lip_fit.PER_D * 0.375**2)) < 0.03
    assert np.allclose(lip_fit.widened(maps, found, 0.0), found)


def test_corners_are_where_the_line_ends():
    crop = np.full((lip_fit.HEIGHT, lip_fit.WIDTH, 3), (200, 170, 140), np.uint8)
    middle = np.array([lip_fit.WIDTH / 2, lip_fit.HEIGHT / 2])
    line = middle + np.column_stack([np.arange(-48, 37), 0.1 * np.arange(-48, 37)])
    cv2.polylines(crop, [np.rint(line * 16).astype(np.int32)], False, (90, 50, 40), 3, cv2.LINE_AA, 4)
    theta = np.float32([-0.34, -0.034, 0.3, 0.03, 0, 0, 0.05, 0.08, 0])
    ends = lip_fit.ends(lip_fit.LipMaps(crop, 0.7), theta, np.zeros(len(lip_fit.U)))
    assert np.abs(ends[0] - line[0]).max() < 3.0
    # This side's line ends where the fit does.
    assert np.abs(ends[1] - line[-1]).max() < 3.0


def test_the_lower_lip_of_a_wide_open_mouth_is_where_red_ends():
    """A jaw that drops makes an angular opening, which is none of the family that is searched."""
    crop = np.full((lip_fit.HEIGHT, lip_fit.WIDTH, 3), (214, 168, 130), np.uint8)
    middle = np.array([lip_fit.WIDTH / 2, lip_fit.HEIGHT / 2 - 20])
    outside = np.array([[-50, 0], [-30, 62], [-12, 78], [12, 78], [30, 62], [50, 0], [0, -12]])
    inside = np.array([[-46, 0], [-22, 55], [-8, 64], [8, 64], [22, 55], [46, 0], [0, -4]])
    for points, colour in ((outside, (190, 92, 90)), (inside, (70, 40, 40))):
        cv2.fillPoly(crop, [np.rint((points + middle) * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)
    maps = lip_fit.LipMaps(crop, 0.8)
    theta = np.float32([-0.4, -20 / 120, 0.4, -20 / 120, 0, 0.3, 0.05, 0.1, 0])
    _, line, inner, outer = (rows[0] for rows in lip_fit.curves(theta[None]))
    found, edge = lip_fit.lower_lip(maps, theta, line, inner, outer)
    u = 48 * lip_fit.U
    true = np.interp(u, outside[:6, 0], outside[:6, 1]) / lip_fit.PER_D
    assert np.median(np.abs(edge - true)[3:-3]) < 0.03 and np.abs(outer - true).max() > 0.2
    assert abs(found[15] - 64 / lip_fit.PER_D) < 0.05
    gray = np.repeat(crop[..., 1:2], 3, 2)
    assert lip_fit.lower_lip(lip_fit.LipMaps(gray, 0.8), theta, line, inner, outer)[1] is outer


@cache
def muzzle() -> tuple[np.ndarray, Mouth]:
    """A furry face, and its mouth without lips along a bent line."""
    line = np.column_stack([np.linspace(150, 250, 17), 300 + 16 * np.linspace(-1, 1, 17) ** 2]).astype(
        np.float32
    )
    picture, contours = _furry(line), drawn_face()[1]
    plain = replace(
        contours.mouth,
        **dict.fromkeys(("inner_upper", "inner_lower"), line),
        outer_upper=line - np.float32([0, 6]) * np.sin(np.linspace(0, np.pi, 17))[:, None].astype(np.float32),
        outer_lower=line + np.float32([0, 8]) * np.sin(np.linspace(0, np.pi, 17))[:, None].astype(np.float32),
        teeth="none",
    )
    return picture, Mouth(picture, replace(contours, mouth=plain))


@pytest.mark.parametrize("value", [0.3, 1.0])
def test_a_muzzles_upper_edge_hangs_in_a_bow_and_the_jaw_goes_down_as_a_whole(value):
    layers = muzzle()[1].layers
    offset, aside = layers._offsets(MouthAmounts.of(amounts(jawOpen=value)))
    inner = np.abs(NODES) < 0.7
    gap = (layers._rest + offset)[:, 3] - (layers._rest + offset)[:, 2]
    hangs = offset[inner, 2]
    assert -0.02 * layers.width < hangs.min() and 0.03 < hangs.max() / layers.width < 0.1
    assert hangs.argmax() == pytest.approx(len(hangs) // 2, abs=3)
    assert gap.max() < 0.65 * layers.width
    open_ = np.ptp(NODES[gap > 0.02 * gap.max()]) / 2
    assert 0.7 < open_ < 0.9 and gap[np.abs(NODES) < 0.4].min() > 0.85 * gap.max()
    assert np.abs(aside).max() < 0.02 * layers.width
    middle = len(offset) // 2
    assert offset[middle, 5] > 0.5 * offset[middle, 3]


def test_hairs_hang_over_a_muzzles_opening():
    """Its upper edge is no cut: streaks of its own fur reach into the dark, unlike ones."""
    picture, mouth = muzzle()
    drawn = paste(picture.copy(), mouth.draw(amounts(jawOpen=0.8)))
    columns = drawn[296:330, 175:226].astype(int).mean(2)
    ends = (columns < 90).argmax(0)
    assert np.ptp(ends) >= 2 and ends.std() > 0.5
    assert np.abs(np.diff(columns, axis=0)).max() < 110


def test_fur_without_a_mouth_is_left_alone():
    nothing = np.zeros((1, 2))
    _, contours = drawn_face()
    found = find_contours(_furry(nothing), landmarks_of(contours)).mouth
    assert not found.sure


def _paint_teeth(picture: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Part the drawn face's lips over teeth of this colour."""
    inside = np.concatenate([_lens(200, 300, 40, 9, 0)[0], _lens(200, 300, 40, 9, 0)[1][::-1]])
    cv2.fillPoly(picture, [np.rint(inside * 16).astype(np.int32)], (22, 12, 12), cv2.LINE_AA, 4)
    for k in range(-3, 3):
        corner = (200 + 9 * k + 1, 293 + abs(k) // 2)
        cv2.rectangle(picture, corner, (corner[0] + 6, 299), colour, -1)


def test_teeth_in_the_dark_are_not_shown_to_the_light():
    """Of a mouth that opens they would be rotten."""
    shown = []
    for colour in ((120, 80, 76), (60, 40, 38)):
        picture, contours = drawn_face()
        _paint_teeth(picture, colour)
        upper, lower = (curve.astype(np.float32) for curve in _lens(200, 300, 40, 9, 0))
        found = replace(contours.mouth, inner_upper=upper, inner_lower=lower, teeth="even")
        mouth = Mouth(picture, replace(contours, mouth=found))
        assert mouth.layers.own
        shown.append(
            paste(
                picture.copy(), mouth.draw(amounts(jawOpen=0.4, mouthUpperUpLeft=0.5, mouthUpperUpRight=0.5))
            )
        )
    # Skin is warmer than teeth are.
    white, dark = (int((one[285:330, 170:230].min(2) > 165).sum()) for one in reversed(shown))
    assert white > 100 and dark < 0.2 * white


def test_a_mouth_that_shows_dark_teeth_stands_open():
    """Between lips that hardly part the search finds the teeth's lower edge first; a shut line stays one."""
    for teeth in (False, True):
        picture, contours = drawn_face()
        if teeth:
            _paint_teeth(picture, (120, 80, 76))
        marks = landmarks_of(contours)
        names = ("left mouth corner", "right mouth corner", "upper lip", "lower lip")
        maps, _, fit = _fit_mouth(picture, np.stack([marks[name] for name in names]), _Axes.of(marks), ())
        shut = fit.theta.copy()
        shut[[4, 6]] += shut[5]
        shut[5] = 0
        assert (lip_fit.parted(maps, shut)[5] > 0.04) == teeth
        found = find_contours(picture, marks).mouth
        gap = float((found.inner_lower - found.inner_upper)[:, 1].max())
        assert found.sure and (gap > 5 if teeth else gap < 2)
        if teeth:
            layers = Mouth(picture, replace(contours, mouth=found)).layers
            assert layers.own and layers.shows_teeth
            # The other row is of their colour.
            assert layers.teeth.max() < 160


@pytest.mark.parametrize("name", ["mouthSmile", "mouthFrown"])
def test_one_sided_smiles_and_frowns_move_one_corner(face, name):
    layers = eyes_and_mouth()[1].layers
    offset, _ = layers._offsets(MouthAmounts.of(amounts({name + "Left": 1.0})))
    left, middle, right = (int(np.abs(NODES - place).argmin()) for place in (-0.95, 0.0, 0.95))
    moved = np.abs(offset[:, 2])
    # The face's left is the picture's right.
    assert moved[right] > 0.1 * layers.width and moved[left] < 0.1 * moved[right]
    assert moved[middle] < 0.5 * moved[right]


@pytest.mark.parametrize(
    "name", ["mouthLeft", "mouthRight", "mouthPucker", "mouthFunnel", "mouthRollLower", "cheekPuff"]
)
def test_shapes_show(face, name):
    change = np.abs(moved(face, **{name: 1.0}).astype(int) - face[0]).max(2)
    assert (change > 25).sum() > 150


def test_lower_teeth_show_little_above_their_lip(face):
    picture, contours = face
    mouth = Mouth(picture, contours)
    mouth.layers.drawn = False
    drawn = paste(picture.copy(), mouth.draw(amounts(jawOpen=1.0)))
    lip = layers_edge(mouth.layers, 1.0)
    column = drawn[:, 190:197].astype(float).min(2).mean(1)
    inside = column[int(lip - 0.5 * mouth.layers.width) : int(lip - 0.14 * mouth.layers.width)]
    assert inside.max() < 100


def layers_edge(layers, opening, knot=3):
    """The row of the lower lip's inner edge, or of another knot, in the middle of a mouth that is level."""
    offset, _ = layers._offsets(MouthAmounts.of(amounts(jawOpen=opening)))
    middle = len(offset) // 2
    return layers.top + layers.origin[1] + (layers._rest + offset)[middle, knot]


def test_smile_and_pucker_move_the_corners(face):
    for values, sign in ((both("mouthSmile"), 1), ({"mouthPucker": 1.0}, -1)):
        drawn = moved(face, **values).astype(int)
        lips = (np.abs(drawn - LIP).max(2) < 40)[270:335]
        columns = np.flatnonzero(lips.any(0))
        still = (np.abs(face[0].astype(int) - LIP).max(2) < 40)[270:335]
        before = np.flatnonzero(still.any(0))
        assert sign * (np.ptp(columns) - np.ptp(before)) > 4


@pytest.mark.parametrize("name", NAMES)
def test_every_amount_stays_inside_its_rectangle(name):
    for patch in [patch for part in eyes_and_mouth() for patch in part.draw(amounts({name: 1.0}))]:
        height, width = patch.rgb.shape[:2]
        assert (
            patch.left >= 0 and patch.left + width <= SIDE and patch.top >= 0 and patch.top + height <= SIDE
        )


def test_contours_at_the_pictures_edge_do_not_tear(face):
    picture, contours = face
    cut = np.ascontiguousarray(picture[150:330, 110:300])
    shifted = contours.mapped(1.0, 110, 150)
    drawn = paste(cut.copy(), Eyes(cut, shifted).draw(amounts(both("eyeBlink"))))
    drawn = paste(drawn, Mouth(cut, shifted).draw(amounts(jawOpen=1.0)))
    assert drawn.shape == cut.shape


def test_mapped_contours_draw_the_same_at_twice_the_size(face):
    picture, contours = face
    twice = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    wanted = amounts(both("eyeBlink", 0.7) | {"jawOpen": 0.3})
    large = contours.mapped(2.0)
    drawn = paste(twice.copy(), Eyes(twice, large).draw(wanted) + Mouth(twice, large).draw(wanted))
    small = cv2.resize(drawn, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - moved(face, **both("eyeBlink", 0.7), jawOpen=0.3)).mean() < 1.0


# All of it.


def _brow_row(picture: np.ndarray, x: int) -> float:
    """Where the drawn brow above the eye at column `x` is."""
    dark = np.maximum(120 - picture[85:140, x - 6 : x + 7].astype(float).mean(2), 0)
    return float((dark.sum(1) * np.arange(85, 140)).sum() / dark.sum())


def test_brows_follow_their_amounts_and_eyes_stay():
    picture, contours = drawn_face()
    picture = picture.copy()
    for x, _ in EYES.values():
        cv2.ellipse(picture, (x, 116), (30, 4), 0, 0, 360, (60, 40, 30), -1, cv2.LINE_AA)
    marks = landmarks_of(contours)
    marks.points[[LANDMARKS.index("left brow"), LANDMARKS.index("right brow")], 1] = 116
    keypoints = Keypoints(
        ((marks.points / (SIDE - 1)) * 2 - 1).astype(np.float32),
        np.zeros((len(marks.points), 2, 2), np.float32),
    )
    square = Square(0, 0, SIDE)
    rig = Rig(picture, Face(keypoints, LANDMARKS, SIDE, square, contours), square)

    def drawn(**values) -> np.ndarray:
        out = np.empty(rig.shape, np.uint8)
        rig.draw(RigMotion(HeadPose.rest(), np.zeros((len(LANDMARKS), 2)), amounts(values)), out)
        return out

    assert np.array_equal(drawn(), picture)
    # The face's left is the picture's right.
    one = drawn(browOuterUpLeft=1.0)
    still = [_brow_row(picture, x) for x, _ in EYES.values()]
    assert still[1] - _brow_row(one, 265) > 10 and abs(still[0] - _brow_row(one, 135)) < 1.5
    assert still[0] - _brow_row(drawn(browInnerUp=1.0), 135) > 6
    down = drawn(**both("browDown"))
    assert all(_brow_row(down, x) - row > 5 for (x, _), row in zip(EYES.values(), still, strict=True))
    # Ends go by themselves: inner ones, which are the nearer ones of both brows, and outer ones.
    inner, outer = drawn(browInnerUp=1.0), drawn(**both("browOuterUp"))
    for x, sign in ((135, 1), (265, -1)):
        for picture_, up in ((inner, sign), (outer, -sign)):
            rises = [_brow_row(picture, x + k) - _brow_row(picture_, x + k) for k in (22 * up, -22 * up)]
            assert rises[0] > rises[1] + 4
    for moved_ in (one, down):
        for side in EYES:
            assert abs(dark_middle(moved_, side) - dark_middle(picture, side)) < 1.5
    x, y = EYES["right"]
    iris = [np.abs(p[y - 16 : y + 17, x].astype(int) - IRIS).max(1) < 30 for p in (picture, one)]
    (top, bottom), (top_now, bottom_now) = ((k.argmax(), len(k) - k[::-1].argmax()) for k in iris)
    assert abs(bottom_now - bottom) <= 4 and abs(top_now - top) <= 7


def test_brows_above_a_rim_leave_it_where_it_is():
    picture, contours = drawn_face()
    picture = picture.copy()
    for x, y in EYES.values():
        cv2.ellipse(picture, (x, 108), (30, 4), 0, 0, 360, (120, 70, 40), -1, cv2.LINE_AA)
        picture[y - 33 : y - 25, x - 60 : x + 61] = (12, 12, 14)
    marks = landmarks_of(contours)
    marks.points[[LANDMARKS.index("left brow"), LANDMARKS.index("right brow")], 1] = 108
    keypoints = Keypoints(
        ((marks.points / (SIDE - 1)) * 2 - 1).astype(np.float32),
        np.zeros((len(marks.points), 2, 2), np.float32),
    )
    square = Square(0, 0, SIDE)
    rig = Rig(picture, Face(keypoints, LANDMARKS, SIDE, square, contours), square)
    out = np.empty(rig.shape, np.uint8)
    wanted = amounts(both("browOuterUp") | {"browInnerUp": 1.0})
    rig.draw(RigMotion(HeadPose.rest(), np.zeros((len(LANDMARKS), 2)), wanted), out)
    for x, y in EYES.values():
        rim = [p[y - 45 : y - 15, x - 40 : x + 41].astype(int).max(2) < 60 for p in (picture, out)]
        assert (rim[0] != rim[1]).mean() < 0.04


# Sidecars.


def test_a_sidecar_goes_round(face, tmp_path):
    picture, contours = face
    path = sidecar.sidecar_path(tmp_path / "me.png")
    assert path.name == "me.rig.json"
    sidecar.write_sidecar(path, contours, picture)
    again = sidecar.read_sidecar(path, picture)
    assert path.stat().st_size < 16384
    wanted = amounts(both("eyeBlink") | {"jawOpen": 0.4})
    for part in (Eyes, Mouth):
        one, other = (paste(picture.copy(), part(picture, c).draw(wanted)) for c in (contours, again))
        assert np.abs(one.astype(int) - other).mean() < 0.05
    sidecar.write_sidecar(path, again, picture)
    assert sidecar.read_sidecar(path, picture).left.upper.tolist() == again.left.upper.tolist()


def _hostile(text: dict):
    """Sidecars that say what cannot be, each with a name."""

    def changed(*keys, value):
        copy = json.loads(json.dumps(text))
        place = copy
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        return json.dumps(copy)

    yield "no json", "{"
    yield "a list", "[]"
    yield "nested", "[" * 5000
    yield "another version", changed("livepuppet rig", value=2)
    yield "true version", changed("livepuppet rig", value=True)
    yield "another picture", changed("picture", "checksum", value="00")
    yield "another size", changed("picture", "width", value=1)
    yield "outside", changed("left", "upper", 3, value=[1e6, 0])
    yield "not a number", changed("left", "upper", 3, value=[float("nan"), 0])
    yield "infinite", changed("mouth", "chin", value=[float("inf"), 0])
    yield "a million points", changed("left", "upper", value=[[0, 0]] * 1000000)
    yield "few points", changed("left", "lower", value=[[0, 0]])
    yield "text for a point", changed("mouth", "inner_upper", 0, value="ab")
    yield "upside down", changed("left", "upper", value=text["left"]["lower"][::-1])
    yield (
        "crossed",
        changed("mouth", "outer_upper", value=[[x, y + 80] for x, y in text["mouth"]["outer_upper"]]),
    )
    yield (
        "no width",
        changed("right", value={**text["right"], **{k: [[9, 9]] * 17 for k in ("upper", "lower", "crease")}}),
    )
    yield "huge iris", changed("left", "radius", value=300)
    yield "negative iris", changed("left", "radius", value=-1)
    yield "chin above", changed("mouth", "chin", value=[200, 100])
    yield "teeth", changed("mouth", "teeth", value="../../etc/passwd")
    yield "sure", changed("left", "sure", value=1)
    yield "strength", changed("strength", value={"left": 99})
    yield "other strength", changed("strength", value={"nose": 1})
    yield "missing", changed("left", value={"upper": []})
    yield "long reason", changed("mouth", "reason", value="x" * 5000)


def test_hostile_sidecars_give_a_sentence_each(face, tmp_path):
    picture, contours = face
    path = tmp_path / "me.rig.json"
    text = json.loads(sidecar.to_json(contours, picture))
    for name, hostile in _hostile(text):
        path.write_text(hostile)
        with pytest.raises(UserError) as error:
            sidecar.read_sidecar(path, picture)
        assert "me.rig.json" in str(error.value) and str(error.value).count("\n") == 0, name
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError):
        sidecar.read_sidecar(path, picture)
    with pytest.raises(UserError, match="cannot be read"):
        sidecar.read_sidecar(tmp_path / "none.rig.json", picture)


def test_fuzzed_sidecars_are_refused_or_drawn(face):
    picture, contours = face
    text = sidecar.to_json(contours, picture)
    rng = np.random.default_rng(11)
    wanted = amounts(both("eyeBlink") | {"jawOpen": 1.0})
    used = 0
    for _ in range(120):
        data = bytearray(text.encode())
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(0, len(data)))
            data[place] = int(rng.choice([*b'0123456789.-,[]{}:"e', int(rng.integers(0, 256))]))
        try:
            found = sidecar.from_json(bytes(data), picture)
        except ValueError:
            continue
        used += 1
        drawn = paste(picture.copy(), Eyes(picture, found).draw(wanted) + Mouth(picture, found).draw(wanted))
        assert drawn.shape == picture.shape
    assert used > 0


def test_a_sidecar_that_cannot_be_written_says_so(face, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        sidecar.write_sidecar(tmp_path / "file" / "me.rig.json", face[1], face[0])


def test_find_uses_the_models_landmarks(face, monkeypatch):
    """`find` on a model without a face's landmarks, and on a picture in which there is no face."""
    from livepuppet.realtime.rig import finding

    class Engine:
        keypoint_names = ()
        size = 64

    assert finding.find(Engine(), face[0], Square(0, 0, SIDE)).left is None
    scattered = landmarks_of(None)
    scattered = Landmarks(scattered.names, scattered.points, scattered.spread * 100, scattered.confidence)
    monkeypatch.setattr(finding, "look", lambda *args: scattered)
    monkeypatch.setattr(Engine, "keypoint_names", LANDMARKS)
    assert finding.find(Engine(), face[0], Square(0, 0, SIDE)).left is None


# By hand.


def test_a_dragged_handle_takes_its_curve_along_and_no_other(face):
    contours = face[1]
    handle = next(h for h in handles(contours) if (h.part, h.name, h.index) == ("left", "lower", 8))
    changed = dragged(contours, handle, handle.at[0], handle.at[1] + 6)
    assert changed.left.lower[8, 1] == contours.left.lower[8, 1] + 6
    assert np.array_equal(changed.left.lower[[0, 4, 12, 16]], contours.left.lower[[0, 4, 12, 16]])
    assert np.array_equal(changed.left.upper, contours.left.upper) and changed.right is contours.right


def test_a_dragged_corner_is_all_curves_corner(face):
    contours = face[1]
    handle = next(
        h for h in handles(contours) if (h.part, h.index) == ("mouth", 0) and h.name == "outer_upper"
    )
    changed = dragged(contours, handle, handle.at[0] - 5, handle.at[1]).mouth
    for name in ("outer_upper", "inner_upper", "inner_lower", "outer_lower"):
        assert np.allclose(getattr(changed, name)[0], getattr(contours.mouth, name)[0] - (5, 0))


def test_dragging_makes_sure_and_keeps_inside(face):
    contours = switched(face[1], "left")
    assert not contours.left.sure and "by hand" in contours.notes[0]
    handle = nearest(contours, 135, 165, 5)
    assert handle.name == "iris"
    changed = dragged(contours, handle, -500, 1e9)
    assert changed.left.sure and changed.left.iris.tolist() == [0, SIDE - 1]
    assert nearest(contours, 5, 5, 3) is None


def test_the_editor_drags_previews_undoes_and_refuses_the_impossible(face):
    picture, contours = face
    editor = RigEditor(picture, contours)
    place = next(h for h in handles(contours) if (h.part, h.name, h.index) == ("right", "upper", 8)).at
    x, y = (place[0] - editor.left) * editor.scale, (place[1] - editor.top) * editor.scale
    still = editor.draw()
    editor.press(x, y)
    editor.drag(x, y - 20)
    editor.release()
    assert editor.contours.right.upper[8, 1] < contours.right.upper[8, 1]
    assert editor.saved() is not None
    editor.key(" ")
    assert editor.draw().shape == still.shape and not np.array_equal(editor.draw(), still)
    editor.preview = 0
    editor.press(x, y - 20)
    editor.drag(x, y + 400)
    assert editor.saved() is None and "upside down" in editor.message
    editor.key("u")
    editor.key("u")
    assert editor.contours is contours
    editor.key("3")
    assert not editor.contours.mouth.sure
    with pytest.raises(UserError, match="no face"):
        RigEditor(picture, Contours(SIDE, SIDE))


def test_the_command_keeps_and_uses_a_rig(face, tmp_path):
    """Sheet and contours are written; in the sheet the head is a layer over its body, as it is in the end."""
    from click.testing import CliRunner

    from livepuppet.core.images import write_png
    from livepuppet.realtime.app.commands.rig import rig

    picture, contours = face
    write_png(tmp_path / "me.png", picture)
    sidecar.write_sidecar(tmp_path / "me.rig.json", contours, picture)
    result = CliRunner().invoke(
        rig,
        [
            str(tmp_path / "me.png"),
            *("--sheet", str(tmp_path / "s.png")),
            *("--contours", str(tmp_path / "c.png")),
        ],
        catch_exceptions=False,
    )
    assert result.exit_code == 0 and "left eye, right eye, mouth" in result.output
    sheet = cv2.imread(str(tmp_path / "s.png"))[..., ::-1]
    flat = draw_sheet(picture, contours)
    assert sheet.shape == flat.shape and np.abs(sheet.astype(int) - flat).mean() < 8
    assert cv2.imread(str(tmp_path / "c.png")).shape == picture.shape


def fur(shadow: bool) -> eye_fit.EyeMaps:
    """A crop of a round dark eye in light fur, with or without the shadow of a brow beside it."""
    crop = np.full((eye_fit.HEIGHT, eye_fit.WIDTH, 3), (232, 224, 214), np.uint8)
    middle = (eye_fit.WIDTH // 2, eye_fit.HEIGHT // 2)
    if shadow:
        cv2.ellipse(
            crop, (middle[0] - 16, middle[1] - 8), (36, 30), 0, 0, 360, (156, 118, 102), -1, cv2.LINE_AA
        )
    cv2.circle(crop, middle, 28, (60, 36, 30), -1, cv2.LINE_AA)
    return eye_fit.EyeMaps(crop)


def test_dark_eyes_are_of_one_size():
    """A shadow that one of them lies in belongs to neither."""
    middle = np.array([eye_fit.WIDTH, eye_fit.HEIGHT]) / 2
    eyes = dark_eyes.dark_eyes([fur(False), fur(True)], [middle, middle])
    assert eyes is not None
    assert all(abs(eye.width - 57) < 6 for eye in eyes)


def test_an_opening_ends_where_it_looks_like_skin():
    crop = np.full((eye_fit.HEIGHT, eye_fit.WIDTH, 3), (250, 226, 208), np.uint8)
    x, y = eye_fit.WIDTH // 2, eye_fit.HEIGHT // 2
    cv2.ellipse(crop, (x - 6, y), (34, 22), 0, 0, 360, (250, 250, 252), -1, cv2.LINE_AA)
    cv2.circle(crop, (x - 6, y), 18, (120, 70, 30), -1, cv2.LINE_AA)
    maps = eye_fit.EyeMaps(crop)
    # From where the white begins to far beyond where it ends.
    theta = np.float32([0.03, 0, 0.29, 0.13, 0.13, 0, 0, 0.6, -0.04, 0, 0.11])
    up, low = (rows[0] for rows in eye_fit.heights(theta[None]))
    ends = eye_fit.opening_ends(maps, theta, up, low)
    assert ends[0] == -1 and 0.35 < ends[1] < 0.8
    columns, up, low = eye_fit.ended(up, low, ends)
    assert columns[-1] == np.float32(ends[1]) and abs(up[-1] - low[-1]) < 1e-4 and (low >= up).all()


def test_teeth_are_of_stone_where_eyes_are_too():
    """Lips may have the skin's hue on a living face; a face whose whites have it as well is carved."""
    for carved in (False, True):
        picture, contours = drawn_face()
        for colour, light in ((LIP, 0.7), (WHITE, 1.0)):
            if colour is LIP or carved:
                at = np.abs(picture.astype(int) - colour).max(2) < 40
                picture[at] = np.round(light * np.array(SKIN))
        teeth = Mouth(picture, contours).layers.teeth
        assert (np.ptp(teeth / teeth.max()) > 0.25) == carved
