"""The head as a surface with depth: pose in space, layers, one sampling."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.realtime.compositing.matte import _with_what_hangs_on
from livepuppet.realtime.motion.retargeter import Transferred
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.contours import Contours, MouthContours
from livepuppet.realtime.rig.driver import RigDriver, _BlinkHold
from livepuppet.realtime.rig.head import EDGE, Head, HeadState, _Sheet
from livepuppet.realtime.rig.lattice import Lattice
from livepuppet.realtime.rig.layers import (
    FigureLayers,
    _beyond_the_body,
    _first_below,
    _in_one_piece,
    _torso,
    _with_half_seen_parts,
    _without_beside,
    behind,
    compose_layers,
    fill,
    split_layers,
)
from livepuppet.realtime.rig.matting import Portrait
from livepuppet.realtime.rig.mouth import Mouth, MouthAmounts
from livepuppet.realtime.rig.patches import Patch
from livepuppet.realtime.rig.pose import HeadPose, PoseTracker, depth_slopes, joined, place, split
from livepuppet.realtime.rig.surface import build_surface
from livepuppet.realtime.rig.template import head_template

NAMES = tuple(head_template().landmarks)
LANDMARKS = np.array([head_template().landmarks[name] for name in NAMES])


def turned(yaw=0.0, pitch=0.0, roll=0.0):
    return joined(np.array([-pitch, yaw]), roll)


def seen(rotation, scale=0.25, shift=(0.0, -0.1)):
    """Keypoints of the template's head in a pose, with its Jacobians left alone."""
    points = scale * (LANDMARKS @ rotation.T)[:, :2] + shift
    return Keypoints(points.astype(np.float32), np.tile(np.eye(2, dtype=np.float32), (len(NAMES), 1, 1)))


def figure(size=256):
    """A head and shoulders on a ramp; with its landmarks in pixels."""
    unit, middle = size * 0.2, np.array([size * 0.5, size * 0.42])
    across, down = np.meshgrid(np.arange(size), np.arange(size))
    picture = np.dstack([60 + across * 0.2, 90 + down * 0.3, 140 + 0 * across]).astype(np.uint8)
    matte = np.zeros((size, size), np.uint8)
    cv2.ellipse(
        matte,
        (round(middle[0]), round(middle[1] + 0.2 * unit)),
        (round(1.3 * unit), round(1.8 * unit)),
        0,
        0,
        360,
        255,
        -1,
        cv2.LINE_AA,
    )
    cv2.rectangle(matte, (round(size * 0.2), round(size * 0.85)), (round(size * 0.8), size), 255, -1)
    cv2.rectangle(matte, (round(size * 0.42), round(size * 0.7)), (round(size * 0.58), size), 255, -1)
    noise = np.random.default_rng(1).integers(0, 50, (size, size, 3))
    skin = cv2.GaussianBlur((np.array([200, 150, 120]) + noise).astype(np.uint8), (3, 3), 0)
    share = matte[..., None] / 255
    picture = np.rint(skin * share + picture * (1 - share)).astype(np.uint8)
    return picture, matte, middle + unit * LANDMARKS[:, :2]


SQUARE = Square(0, 0, 256)


@pytest.fixture(scope="module")
def head():
    picture, _, landmarks = figure()
    return Head(picture, SQUARE, landmarks, NAMES)


def drawn(head, pose, **state):
    out = np.empty(head.shape, np.uint8)
    head.draw(HeadState(pose, **state), out)
    return out


def test_a_rotation_is_its_tilt_and_its_roll():
    for tilt, roll in (((0.3, -0.2), 0.4), ((0.0, 0.0), -1.0), ((-0.5, 0.1), 0.0)):
        found_tilt, found_roll = split(joined(np.array(tilt), roll))
        np.testing.assert_allclose(found_tilt, tilt, atol=1e-9)
        assert found_roll == pytest.approx(roll, abs=1e-9)


@pytest.mark.parametrize("first", [turned(), turned(0.35, 0.1), turned(-0.3, -0.1, 0.2)])
def test_the_pose_since_d1_is_found_whatever_d1_is(first):
    tracker = PoseTracker(NAMES, seen(first))
    for yaw, pitch, roll in ((0.4, 0.0, 0.0), (-0.4, 0.0, 0.1), (0.0, 0.35, 0.0), (0.0, -0.3, -0.3)):
        motion = turned(yaw, pitch, roll)
        now = seen(motion @ first, 0.27, (0.06, -0.05))
        # Local maps of the template's own surface, turned alike.
        slopes = depth_slopes(NAMES, first)
        local = 1.08 * (motion[:2, :2] + motion[:2, 2][None, :, None] * slopes[:, None, :])
        pose = tracker.pose(Keypoints(now.points, local.astype(np.float32)))
        found = pose.angles
        # Damped, since so few points tell little, and enlarged, since detectors fall short.
        for value, truth in zip(found, (yaw, pitch, roll), strict=True):
            assert abs(value - truth) < 0.06 + 0.35 * abs(truth)
        assert pose.scale == pytest.approx(1.08, rel=0.04)


def test_d1_itself_is_rest():
    keypoints = seen(turned(0.2, 0.1))
    tracker = PoseTracker(NAMES, keypoints)
    assert not tracker.pose(keypoints).moves
    again = Keypoints(keypoints.points.copy(), keypoints.jacobians.copy())
    assert np.abs(tracker.pose(again).rotation - np.eye(3)).max() < 1e-6


def test_noise_turns_no_head():
    keypoints, rng = seen(turned()), np.random.default_rng(0)
    tracker = PoseTracker(NAMES, keypoints)
    angles = [
        tracker.pose(
            Keypoints(
                keypoints.points + rng.normal(0, 0.004, (len(NAMES), 2)).astype(np.float32),
                keypoints.jacobians,
            )
        ).angles
        for _ in range(40)
    ]
    assert np.degrees(np.std(angles, axis=0)).max() < 1.0


def test_a_heap_of_points_has_no_pose():
    heap = Keypoints(np.zeros((len(NAMES), 2), np.float32), seen(turned()).jacobians)
    tracker = PoseTracker(NAMES, heap)
    assert not tracker.usable and not tracker.pose(seen(turned(0.3))).moves
    assert place(np.zeros((4, 2)), ("a", "b", "c", "d")) is None
    with pytest.raises(ValueError):
        Head(np.zeros((64, 64, 3), np.uint8), Square(0, 0, 64), np.zeros((len(NAMES), 2)), NAMES)


def test_layers_give_the_picture_back_to_the_bit():
    picture, matte, landmarks = figure()
    layers = split_layers(picture, SQUARE, landmarks, 51.0, matte)
    assert layers.matte is not None and layers.why is None
    np.testing.assert_array_equal(cv2.add(layers.colours, behind(layers.plate, layers.alpha)), picture)
    assert layers.alpha[140, 128] == 255 and layers.alpha[10, 10] == 0
    # Nothing of the figure is left behind.
    across, down = np.meshgrid(np.arange(256), np.arange(256))
    ramp = np.dstack([60 + across * 0.2, 90 + down * 0.3, 140 + 0 * across])
    assert np.abs(layers.plate[:200] - ramp[:200]).max() < 14


def test_another_person_beside_is_not_moved():
    picture, matte, landmarks = figure()
    right = Square(200, 90, 100)
    layers = split_layers(picture, SQUARE, landmarks, 51.0, matte, others=(right,))
    assert layers.matte[140, 128] == 255 and not layers.matte[90:190, 205:].any()
    # A print on one's own chest is no other person.
    below = Square(110, 225, 30)
    whole = split_layers(picture, SQUARE, landmarks, 51.0, matte).alpha
    np.testing.assert_array_equal(
        split_layers(picture, SQUARE, landmarks, 51.0, matte, others=(below,)).alpha, whole
    )


def test_a_picture_without_a_figure_is_one_layer():
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)
    picture = 100 + noise // 4
    layers = split_layers(picture, Square(0, 0, 128), figure(128)[2], 25.0)
    assert layers.matte is None and "one layer" in layers.why
    head = Head(picture, Square(0, 0, 128), figure(128)[2], NAMES, layers=layers)
    out = drawn(head, HeadPose(1.0, turned(0.3), np.array([4.0, 0.0])))
    assert (out != picture).any()
    np.testing.assert_array_equal(out[0], picture[0])
    np.testing.assert_array_equal(drawn(head, HeadPose.rest()), picture)


def test_blocks_that_are_not_looked_at_show_nothing_of_a_layer(head, monkeypatch):
    poses = [
        HeadPose(1.0, turned(0.2, 0.1, 0.05), np.array([5.3, 2.1])),
        HeadPose(0.6, turned(-0.4, 0.3, 0.5), np.array([-30.2, 20.4])),
        HeadPose(1.5, turned(0.45, -0.3, -0.3), np.array([40.7, 50.2])),
    ]
    pictures = [drawn(head, pose) for pose in poses]
    monkeypatch.setattr(
        _Sheet, "seen", lambda sheet, source: np.full(np.subtract(source.shape[:2], 1), EDGE, np.uint8)
    )
    for pose, picture in zip(poses, pictures, strict=True):
        # Places are rounded to 32nds of a pixel in another order.
        off = cv2.absdiff(drawn(head, pose), picture).max(axis=2)
        assert off.max() <= 4 and (off > 1).mean() < 1e-3


@pytest.mark.parametrize("shift", [(70.0, 0.0), (-70.0, 0.0), (0.0, 60.0), (0.0, -60.0)])
def test_what_goes_far_leaves_nothing_behind(head, shift, monkeypatch):
    pose = HeadPose(1.0, turned(0.1), np.array(shift))
    picture = drawn(head, pose)
    for sheet in head._sheets:
        monkeypatch.setattr(sheet, "layer", None)
    assert cv2.absdiff(drawn(head, pose), picture).max() <= 4


@pytest.mark.parametrize("layered", [True, False])
def test_every_pixel_is_written(layered):
    picture, matte, landmarks = figure()
    landmarks = 0.5 * (landmarks - 128) + 128  # far from the edges: strips begin and end within the picture
    unit, box = 25.6, Square(64, 64, 128)
    layers = None if layered else FigureLayers(None, picture, picture, why="one layer")
    head = Head(picture, box, landmarks, NAMES, matte, layers=layers)
    poses = [turned(0.3), turned(-0.2, 0.1), turned(0, 0.2, 0.1)]
    for pose in [HeadPose(1.0, rotation, np.array([0.1 * unit, 0.0])) for rotation in poses]:
        one, other = (np.full(head.shape, level, np.uint8) for level in (0, 255))
        for out in (one, other):
            head.draw(HeadState(pose), out)
        np.testing.assert_array_equal(one, other)


def test_holes_are_filled_smoothly():
    picture, _, _ = figure()
    hole = np.zeros((256, 256), bool)
    hole[20:60, 20:60] = True
    filled = fill(picture, hole)
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert np.abs(filled.astype(int) - picture)[hole].max() <= 8
    np.testing.assert_array_equal(fill(picture, np.zeros_like(hole)), picture)


def test_rest_is_the_picture_and_next_to_rest_too(head):
    picture = figure()[0]
    np.testing.assert_array_equal(drawn(head, HeadPose.rest()), picture)
    np.testing.assert_array_equal(drawn(head, HeadPose(1.0, np.eye(3), np.array([1e-6, 0.0]))), picture)


def test_a_shifted_head_is_shifted_and_the_background_stays(head):
    picture = figure()[0]
    out = drawn(head, HeadPose(1.0, np.eye(3), np.array([10.0, 0.0])))
    moved, before = out[60:150, 110:150].astype(int), picture[60:150, 100:140].astype(int)
    assert np.abs(moved - before).mean() < 3
    np.testing.assert_array_equal(out[:30, :20], picture[:30, :20])
    # No ghost of the old outline: where it was there is background now.
    assert np.abs(out[100, 62:66].astype(int) - (72, 120, 140)).max() < 16


def test_every_pose_stays_bounded(head):
    for pose in (
        HeadPose(1.0, turned(1.2), np.zeros(2)),
        HeadPose(3.0, turned(-0.5, 0.9, 2.0), np.array([300.0, -300.0])),
        HeadPose(0.2, turned(0.4, -0.9), np.array([-50.0, 0.0])),
    ):
        field = head.surface.inverse(head.surface.displacement(pose))
        assert np.isfinite(field).all()
        drawn(head, pose)


def test_turns_are_held_softly():
    far, further = (
        HeadPose(1.0, turned(0.6), np.zeros(2)).held(0.45),
        HeadPose(1.0, turned(1.2), np.zeros(2)).held(0.45),
    )
    assert 0.3 < far.angles[0] < further.angles[0] < 0.45
    near = HeadPose(1.0, turned(0.25, 0.1, 1.0), np.zeros(2))
    assert near.held(0.45) is near


def test_the_nose_overtakes_the_ears():
    _, matte, landmarks = figure()
    surface = build_surface(matte.shape, landmarks, NAMES, matte)
    field = surface.displacement(HeadPose(1.0, turned(0.3), np.zeros(2)))[..., 0]
    cell, unit, (x, y) = surface.cell, surface.unit, surface.centre

    def at(u, v):
        return field[round((y + v * unit) / cell + 0.5), round((x + u * unit) / cell + 0.5)] / unit

    assert at(0, 0.62) > 0.08 > at(0.5, 0.1) > at(1.2, 0.1)
    assert at(-1.2, 0.1) < -0.15


def test_ears_that_were_seen_far_in_front_come_along_with_the_face():
    _, matte, landmarks = figure()
    turn = HeadPose(1.0, turned(0.3), np.zeros(2))
    relief = np.dstack([np.full((64, 64), -0.1), np.ones((64, 64))]).astype(np.float32)
    plain, seen = (build_surface(matte.shape, landmarks, NAMES, matte, given) for given in (None, relief))
    unit, (x, y), cell = plain.unit, plain.centre, plain.cell
    column, row = round((x + 1.1 * unit) / cell + 0.5), round((y - 1.1 * unit) / cell + 0.5)
    at = [surface.displacement(turn)[row, column, 0] / unit for surface in (plain, seen)]
    assert at[1] > at[0] + 0.05


def test_a_face_is_as_deep_as_it_was_seen_and_its_eyes_stay_in_their_plane():
    _, matte, landmarks = figure()
    down = np.arange(64)[:, None] / 64 * 256
    relief = np.dstack([np.tile(-0.3 + 0.003 * (down - 107), (1, 64)), np.ones((64, 64))]).astype(np.float32)
    plain, seen = (build_surface(matte.shape, landmarks, NAMES, matte, given) for given in (None, relief))
    unit, (x, y), cell = plain.unit, plain.centre, plain.cell
    column, cheek, eye = (round(at / cell + 0.5) for at in (x + 0.5 * unit, y + 0.9 * unit, y))
    # Wherever the whole of it lies, the seen cheek is this much nearer than the eyes.
    wanted = unit * 0.003 * 0.9 * unit
    off = [abs(surface.depth[cheek, column] - wanted) for surface in (plain, seen)]
    assert off[1] < 0.5 * off[0]
    assert abs(seen.depth[eye, column] - plain.depth[eye, column]) < 0.08 * unit


def test_what_comes_nearer_grows():
    """A head that nods to a camera close by: its forehead grows as its chin shrinks, about the eyes."""
    _, matte, landmarks = figure()
    surface = build_surface(matte.shape, landmarks, NAMES, matte)
    rotation = turned(pitch=0.2)
    moved = surface.displacement(HeadPose(1.0, rotation, np.zeros(2))) / surface.unit
    (x, y), cell = surface.centre, surface.cell
    for down in (-1.2, 1.0):
        row = round((y + down * surface.unit) / cell + 0.5)
        left, right = (round((x + side * surface.unit) / cell + 0.5) for side in (-0.6, 0.6))
        apart = surface.across[row, right] - surface.across[row, left]
        grown = (moved[row, right, 0] - moved[row, left, 0]) * surface.unit / apart
        assert grown == pytest.approx(-np.sin(0.2) * down / 8, abs=0.01)
    eyes = surface.sampled(moved, np.array([[[x, y]]], np.float32))
    assert np.abs(eyes).max() < 0.1


def test_small_turns_may_be_steeper():
    """Slopes that would fold in the largest turn are kept in a small one, and nothing folds in between."""
    _, matte, landmarks = figure()
    surface = build_surface(matte.shape, landmarks, NAMES, matte)
    slopes = [np.abs(np.diff(planes, axis=-1)).max() / surface.cell for planes in surface.turning]
    assert slopes[0] > 1.3 * slopes[1]
    for angle in (0.1, 0.2, 0.28, 0.36, 0.45):
        for rotation in (turned(angle), turned(-angle), turned(0, 0.7 * angle), turned(0, -0.7 * angle)):
            moved = surface.displacement(HeadPose(1.0, rotation, np.zeros(2))) / surface.cell
            for axis in (0, 1):
                assert np.diff(moved[..., axis], axis=1 - axis).min() > -0.75


def test_the_inverse_leads_back(head):
    surface = head.surface
    forward = surface.displacement(HeadPose(1.03, turned(0.35, -0.15, 0.1), np.array([5.0, 3.0])))
    source = surface.inverse(forward)
    there = source + surface.sampled(forward, source)
    inner = np.s_[4:-4, 4:-4]
    assert np.abs(there - np.dstack([surface.across, surface.down]))[inner].max() < 0.6


def test_brows_rise_and_nothing_else_does(head):
    picture = figure()[0]
    residuals = np.zeros((len(NAMES), 2))
    residuals[[NAMES.index("left brow"), NAMES.index("right brow")], 1] = -8.0
    field = head._residual(residuals)
    assert field[..., 1].min() < -5 and field[..., 1].max() <= 0
    out = drawn(head, HeadPose.rest(), residuals=residuals)
    assert (out != picture).any()
    np.testing.assert_array_equal(out[180:], picture[180:])


def test_skin_that_is_stretched_to_twice_its_length_keeps_its_order():
    landmarks = figure()[2]
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 256, 1).repeat(3, 2)
    head = Head(ramp, SQUARE, landmarks, NAMES)
    # Rows between 100 and 120 are stretched upwards, as between a lid and a brow that is raised; above them all goes along.
    down = head.surface.down
    rise = 22 * np.clip((120 - down) / 20, 0, 1) * np.clip(down / 60, 0, 1)
    brows = np.ascontiguousarray(np.dstack([0 * rise, -rise]), np.float32)
    column = drawn(head, HeadPose.rest(), brows=brows)[:, 128, 0].astype(int)
    assert (np.diff(column[40:200]) >= 0).all()
    # A forward map: what was at 110 is at 99.
    assert column[99] == pytest.approx(110, abs=1.5) and column[89] == pytest.approx(105, abs=2)
    np.testing.assert_array_equal(column[122:], np.arange(122, 256))


def test_patches_are_laid_over_and_taken_away(head):
    picture = figure()[0]
    rng = np.random.default_rng(3)
    patch = Patch(rng.integers(0, 255, (20, 30, 3), np.uint8), np.full((20, 30), 255, np.uint8), 110, 90)
    out = drawn(head, HeadPose.rest(), patches=[patch])
    np.testing.assert_array_equal(out[patch.place], patch.rgb)
    out[patch.place] = picture[patch.place]
    np.testing.assert_array_equal(out, picture)
    np.testing.assert_array_equal(drawn(head, HeadPose(1.0, np.eye(3), np.array([1e-6, 0.0]))), picture)


def test_without_a_background_pictures_have_alpha():
    picture, matte, landmarks = figure()
    head = Head(picture, SQUARE, landmarks, NAMES, matte, "alpha")
    assert head.shape == (256, 256, 4)
    rest = drawn(head, HeadPose.rest())
    np.testing.assert_array_equal(rest[..., 3], matte)
    moved = drawn(head, HeadPose(1.0, turned(), np.array([10.0, 0.0])))
    assert moved[100, 60, 3] == 0 and moved[140, 128, 3] == 255


def test_another_background_is_seen_round_the_figure():
    picture, matte, landmarks = figure()
    green = np.zeros_like(picture)
    green[..., 1] = 255
    head = Head(picture, SQUARE, landmarks, NAMES, matte, green)
    for pose in (HeadPose.rest(), HeadPose(1.0, turned(0.1), np.array([5.0, 0.0]))):
        out = drawn(head, pose)
        np.testing.assert_array_equal(out[5, 5], (0, 255, 0))
        assert np.abs(out[150, 128].astype(int) - picture[150, 128]).max() < 60


def test_the_surface_covers_pictures_of_any_size():
    for shape in ((37, 90), (720, 405), (64, 64)):
        landmarks = np.array([shape[1] / 2, shape[0] * 0.4]) + min(shape) * 0.15 * LANDMARKS[:, :2]
        surface = build_surface(shape, landmarks, NAMES, np.full(shape, 255, np.uint8))
        source = surface.inverse(surface.displacement(HeadPose.rest()))
        np.testing.assert_allclose(source, np.dstack([surface.across, surface.down]), atol=1e-4)


def test_recorded_states_are_drawn_as_they_were():
    """The reference for whoever draws rigs elsewhere: a puppet's picture, states of its head, and what they look like."""
    folder = Path(__file__).parent / "reference" / "rig"
    facts = json.loads((folder / "states.json").read_text())
    picture = cv2.cvtColor(cv2.imread(str(folder / "avatar.png")), cv2.COLOR_BGR2RGB)
    wanted = cv2.cvtColor(cv2.imread(str(folder / "pictures.png")), cv2.COLOR_BGR2RGB)
    names = tuple(facts["landmarks"])
    head = Head(picture, Square(*facts["square"]), np.array(list(facts["landmarks"].values())), names)
    for index, state in enumerate(facts["states"]):
        rotation = turned(state["yaw"], state["pitch"], state["roll"])
        residuals = np.zeros((len(names), 2))
        residuals[["brow" in name for name in names], 1] = state["brows"]
        out = drawn(
            head, HeadPose(state["scale"], rotation, np.array(state["shift"], float)), residuals=residuals
        )
        small = cv2.resize(out, (64, 64), interpolation=cv2.INTER_AREA)
        off = np.abs(small.astype(int) - wanted[:, 64 * index : 64 * (index + 1)])
        assert off.mean() < 0.5 and np.percentile(off, 99) <= 6, f"state {index}: {off.mean():.2f}"


def test_a_turned_head_folds_nowhere():
    """What lies side by side stays so, as far as heads turn and nod about the neck's lower end."""
    _, matte, landmarks = figure()
    surface = build_surface(matte.shape, landmarks, NAMES, matte)
    for rotation in (turned(0.45), turned(-0.45), turned(pitch=0.35), turned(pitch=-0.35), turned(roll=0.3)):
        shift = -(rotation @ surface.pivot - surface.pivot)[:2]
        moved = surface.displacement(HeadPose(1.0, rotation, shift)) / surface.cell
        for axis in (0, 1):
            assert np.diff(moved[..., axis], axis=1 - axis).min() > -0.75


def test_a_turn_squeezes_one_side_less_than_it_stretches_the_other():
    """A seen depth that ends in a cliff is a slope where it turns away, and steeper where it comes forward; both turns alike."""
    _, matte, landmarks = figure()
    near = np.full((64, 64), -1.4)
    near[8:30, 18:46] = 0.0
    relief = np.dstack([near, np.ones((64, 64))]).astype(np.float32)
    surface = build_surface(matte.shape, landmarks, NAMES, matte, relief)
    above = surface.down[1:, 1:] < surface.centre[1] - 0.8 * surface.unit
    slopes = [np.diff(plane, axis=1)[1:][above] / surface.cell for plane in surface.turning[1, :2]]
    for slope, squeezed, stretched in ((slopes[0], -1, 1), (-slopes[1], -1, 1)):
        assert (squeezed * slope).max() < 1.36 < 1.9 < (stretched * slope).max() < 2.51


def test_the_neck_turns_about_its_own_axis():
    """A head that turns about its neck leaves neck and shoulders where they are."""
    _, matte, landmarks = figure()
    surface = build_surface(matte.shape, landmarks, NAMES, matte)
    for rotation in (turned(0.3), turned(-0.3), turned(roll=0.3)):
        shift = -(rotation @ surface.pivot - surface.pivot)[:2]
        moved = surface.displacement(HeadPose(1.0, rotation, shift)) / surface.unit
        down = (surface.down - surface.centre[1]) / surface.unit
        across = (surface.across - surface.centre[0]) / surface.unit
        below = (down > 2.9) & (np.abs(across) < 0.6)
        shoulders = (down > 2.2) & (np.abs(across) > 1.4) & (np.abs(across) < 2.2)
        assert np.abs(moved[below]).max() < 0.12
        assert np.abs(moved[shoulders]).max() < 0.12
        nose = (np.abs(down - 0.5) < 0.15) & (np.abs(across) < 0.15)
        assert np.abs(moved[nose][:, 0]).min() > 0.3


def test_a_chin_that_goes_down_is_looked_for_where_there_was_none():
    chin, side = 330, 480
    middle, unit = np.array([200.0, 165.0]), 110.0
    alpha = np.zeros((side, 400), np.uint8)
    alpha[:chin] = 255
    picture = np.full((side, 400, 3), (215, 165, 140), np.uint8)

    def curve(sag):
        x = np.linspace(-45, 45, 17)
        return np.column_stack([200 + x, 285 + sag * (1 - np.square(x / 45))]).astype(np.float32)

    contours = MouthContours(curve(-12), curve(0), curve(0), curve(12), np.array([200, chin], np.float32))
    layers = Mouth(picture, Contours(400, side, mouth=contours)).layers
    opened = MouthAmounts.of(amounts(jawOpen=1.0))
    lattice = Lattice.over(0, 100, 400, side, layers.block)
    bend = layers.bend(opened, lattice, *np.meshgrid(*lattice.nodes))
    surface = build_surface(picture.shape[:2], middle + unit * LANDMARKS[:, :2], NAMES, alpha)
    sheet = _Sheet(np.dstack([picture, alpha]), surface)
    down = float(layers._offsets(opened)[0][312, 5])
    assert down > 3 * surface.cell
    column = 200 // surface.cell + 1
    lowest = []
    for used in (None, bend):
        sheet.move(surface.still, used)
        lowest.append(np.flatnonzero(sheet.seen(surface.still)[:, column])[-1] * surface.cell)
    assert lowest[0] < chin + 3 * surface.cell
    assert abs(lowest[1] - lowest[0] - down) < 2 * surface.cell


def test_what_hangs_on_a_figure_before_a_plain_background_belongs_to_it():
    picture = np.full((120, 100, 3), (20, 20, 30), np.uint8)
    figure = np.zeros((120, 100), np.uint8)
    cv2.ellipse(figure, (50, 50), (20, 28), 0, 0, 360, 1, -1)
    picture[figure > 0] = (220, 180, 150)
    # A scarf beside the head, and something else far away.
    picture[50:110, 68:76] = (230, 210, 90)
    picture[100:108, 10:18] = (230, 210, 90)
    found = _with_what_hangs_on(figure, picture, Square(0, 0, 100))
    assert found[60:100, 70:74].all() and not found[:, :25].any()
    assert (found >= figure).all()
    # Where the background is full of things, nothing is added.
    busy = picture.copy()
    busy[20:100, 8:26] = busy[20:60, 80:92] = (90, 200, 90)
    np.testing.assert_array_equal(_with_what_hangs_on(figure, busy, Square(0, 0, 100)), figure)


def test_noise_of_a_white_wall_beside_the_figure_is_no_veil_of_it():
    """What is one level short of white could only be explained by something opaque."""
    rng = np.random.default_rng(5)
    picture = np.clip(250 + rng.integers(-5, 6, (140, 120, 1)) + np.zeros(3), 0, 255).astype(np.uint8)
    matte = np.zeros((140, 120), np.uint8)
    cv2.circle(matte, (60, 70), 34, 255, -1, cv2.LINE_AA)
    picture = np.where((matte > 127)[..., None], (90, 60, 50), picture).astype(np.uint8)
    layers = compose_layers(picture, matte, 12, sure=True)
    beside = cv2.dilate(matte, np.ones((5, 5), np.uint8)) == 0
    assert layers.alpha[beside].max() < 20
    np.testing.assert_array_equal(cv2.add(layers.colours, behind(layers.plate, layers.alpha)), picture)


def test_a_glow_around_a_sure_outline_is_background_and_strands_of_hair_are_not():
    side, band = 200, 16
    y, x = np.mgrid[0:side, 0:side]
    away = np.hypot(x - 100, y - 110) - 50
    picture = (30 + 120 * np.exp(-np.maximum(away, 0) / 30))[..., None].repeat(3, 2).astype(np.uint8)
    matte = np.where(away < 0, 255, 0).astype(np.uint8)
    picture[matte > 0] = (200, 150, 130)
    layers = compose_layers(picture, matte, band, sure=True)
    beyond = away > 0.6 * band
    assert np.array_equal(layers.plate[beyond], picture[beyond])
    assert layers.alpha[beyond].max() == 0
    picture[...] = np.where(matte[..., None] > 0, picture, 20)
    strand = slice(26, 60), slice(99, 101)
    picture[strand] = 190
    layers = compose_layers(picture, matte, band, sure=True)
    assert layers.plate[strand].max() < 60 and layers.alpha[strand].min() > 100
    assert np.array_equal(cv2.add(layers.colours, behind(layers.plate, layers.alpha)), picture)


def test_an_ear_that_the_network_has_half_seen_goes_with_the_figure():
    picture = np.full((256, 256, 3), (150, 180, 220), np.uint8)
    matte = np.zeros((256, 256), np.uint8)
    matte[90:, 60:200] = 255
    ear, cloud = (slice(20, 90), slice(160, 190)), (slice(20, 90), slice(70, 100))
    picture[matte > 0], picture[ear], picture[cloud] = (220, 210, 200), (200, 120, 110), (160, 190, 225)
    levels = np.zeros((256, 256, 3), np.uint8)
    levels[ear] = levels[cloud] = 40
    levels[matte > 0] = 255
    portrait = Portrait(levels, np.zeros((256, 256)), np.eye(3)[:2], np.ones((256, 256), bool))
    found = _with_half_seen_parts(picture, portrait, matte, 10)
    assert found[25:90, 163:187].min() > 240
    assert found[20:84, 70:100].max() == 0 and (found >= matte).all()


def test_what_touches_the_head_where_nobody_was_seen_is_no_part_of_it():
    """A picture's frame on a calm wall."""
    picture = np.full((200, 200, 3), 120, np.uint8)
    matte = np.zeros((200, 200), np.uint8)
    cv2.circle(matte, (100, 120), 50, 255, -1)
    picture[matte > 0] = (200, 150, 130)
    frame = slice(66, 82), slice(145, 165)
    picture[frame] = (190, 160, 70)
    seen = matte > 0
    assert compose_layers(picture, matte, 20, sure=True).matte[frame].max() == 255
    assert compose_layers(picture, matte, 20, sure=True, half=seen).matte[frame].max() == 0


def test_a_chin_that_was_read_on_the_neck_does_not_hide_the_head():
    levels = np.full((256, 256, 3), 255, np.uint8)
    levels[200:, :, 1] = 0
    portrait = Portrait(levels, np.zeros((256, 256)), np.eye(3)[:2], np.ones((256, 256), bool))
    face = np.array([(100.0 + k, 100.0) for k in range(16)])
    face[:2, 1] = 230
    assert portrait.holds(face)
    face[:6, 1] = 230
    assert not portrait.holds(face)


@pytest.mark.parametrize("shreds", [True, False])
def test_what_is_left_of_a_background_in_shreds_is_none(shreds):
    """Somebody fills the picture, or the figure was not told from what is behind it."""
    levels = np.full((256, 256, 3), 255, np.uint8)
    levels[: 60 if shreds else 120, :80] = 0
    levels[:90, 240:] = 0
    portrait = Portrait(levels, np.zeros((256, 256)), np.eye(3)[:2], np.ones((256, 256), bool))
    assert portrait.sure != shreds


def test_what_is_wide_and_unlike_a_calm_background_is_not_seen_through():
    """A quiff that the matte hardly has is opaque like the rest of the hair; a textured wall stays what it is."""
    side, band = 200, 20
    picture = np.full((side, side, 3), 120, np.uint8)
    matte = np.zeros((side, side), np.uint8)
    cv2.circle(matte, (100, 120), 50, 255, -1)
    picture[matte > 0] = (200, 150, 130)
    quiff = slice(55, 90), slice(85, 115)
    picture[quiff][matte[quiff] == 0] = (190, 160, 70)
    matte[quiff] = np.maximum(matte[quiff], 20)
    layers = compose_layers(picture, matte, band, sure=True)
    assert layers.matte[60:85, 90:110].min() == 255 and layers.alpha[60:85, 90:110].min() == 255
    np.testing.assert_array_equal(cv2.add(layers.colours, behind(layers.plate, layers.alpha)), picture)
    wall = np.random.default_rng(0).integers(60, 180, (side // 8, side // 8, 3), np.uint8)
    wall = np.where(matte[..., None] > 0, picture, cv2.resize(wall, (side, side)))
    plain = np.where(matte == 20, 0, matte).astype(np.uint8)
    np.testing.assert_array_equal(compose_layers(wall, plain, band, sure=True).matte, plain)


def test_a_neck_goes_on_behind_the_head_in_its_own_colours_and_stays_when_that_moves():
    side, band, cut = 200, 20, 110
    own = np.full((side, side, 3), (90, 70, 60), np.uint8)
    own[:cut] = (220, 170, 150)
    own[cut:, 100:] = (140, 100, 90)
    alpha = np.full((side, side), 255, np.uint8)
    alpha[:, :60] = alpha[cut - 20 :, :80] = 0
    # The head's share ends ten pixels below the jaw.
    share = np.zeros((side, side), np.float32)
    share[: cut + 10] = 1
    hidden = share > 0
    below = _first_below(hidden)
    torso = _torso(own, alpha, hidden, below, band)
    assert np.array_equal(torso[cut + 10 :], own[cut + 10 :])
    assert np.abs(torso[cut + 5, 85].astype(int) - (90, 70, 60)).max() < 4
    assert np.abs(torso[cut - 40, 150].astype(int) - (140, 100, 90)).max() < 12
    picture = own.copy()
    up, anywhere = below - np.arange(side)[:, None], np.ones((side, side), bool)
    left = _beyond_the_body(share, picture, torso, up, anywhere, band)
    # The strip of neck below the jaw is none of the head's, and the jaw is.
    assert left[cut + 5, 120:180].max() < 0.05 and left[cut - 5, 120:180].min() > 0.95
    assert left[: cut - 30].min() == 1
    # A hair on the neck and a jaw that is the neck's colour in a few columns make neither spikes nor notches.
    picture[cut : cut + 10, 140:144] = 20
    torso[cut - 12 : cut, 160:166] = picture[cut - 12 : cut, 160:166]
    left = _beyond_the_body(share, picture, torso, up, anywhere, band)
    assert left[cut + 5, 120:180].max() < 0.05 and left[cut - 5, 120:180].min() > 0.95


def test_what_lies_beside_the_head_and_looks_as_the_body_stays_with_it():
    picture = np.full((60, 60, 3), (200, 160, 140), np.uint8)
    picture[20:, 30:] = (30, 40, 120)
    picture[20:23, :30] = (60, 40, 30)
    hidden = np.zeros((60, 60), bool)
    hidden[:24] = True
    left = _without_beside(hidden, hidden & (np.arange(60)[:, None] < 10), picture, 4)
    # A collar goes on up to the jaw; a jaw's drawn outline has a colour of its own.
    assert not left[20:24, 35:].any()
    assert left[20:23, :20].all() and left[:10].all()


def test_a_figure_has_one_head():
    share = np.zeros((100, 100), np.float32)
    share[10:50, 30:70] = share[80:90, 40:50] = share[12:20, 80:90] = 1
    matte = np.zeros((100, 100), np.uint8)
    matte[10:50, 30:70] = matte[50:, 20:80] = matte[12:20, 80:90] = 255
    share[20:25, 40:45], share[70, 40:50] = 0, 0.3
    found = _in_one_piece(share, matte)
    assert found[10:50, 30:70].min() == 1 and found[80:90, 40:50].max() == 0
    assert found[70].max() == 0
    # What hangs in the air is hair.
    assert found[12:20, 80:90].min() == 1


def test_a_blink_does_not_nod_the_head_and_a_turn_goes_on():
    hold = _BlinkHold()

    def shown(k: int, tilt, blink: float) -> HeadPose:
        pose = HeadPose(1 + 0.02 * blink, joined(np.array(tilt), 0.0), np.array([0.0, 0.01 * blink]))
        return hold(pose, blink, 0.5, k / 30)

    blinks = [0, 0, 0.3, 0.8, 1, 0.9, 0.5, 0.1, 0, 0]
    poses = [shown(k, (0.04 * b, 0.0), b) for k, b in enumerate(blinks)]
    assert max(abs(pose.angles[1]) for pose in poses) < 0.012
    assert max(abs(pose.scale - 1) for pose in poses) < 0.006
    assert max(abs(pose.shift[1]) for pose in poses) < 0.003
    # A head that turns far while it blinks turns, and is where it is soon after.
    turned = [shown(10 + k, (0.0, min(0.05 * k, 0.4)), blinks[k] if k < 10 else 0) for k in range(40)]
    assert turned[6].angles[0] > 0.2 and abs(turned[-1].angles[0] - 0.4) < 0.005
    # Open eyes hold nothing, to the bit.
    pose = HeadPose(1.02, joined(np.array([0.03, 0.02]), 0.01), np.array([0.1, 0.0]))
    assert _BlinkHold()(pose, 0.05, 0.5, 0.0) is pose


def test_a_turned_avatar_moves_as_far_as_one_of_its_size_that_faces_the_viewer():
    """A turned face is narrow, which says nothing about its size: heads move by eye distances in space."""
    still, moved = seen(turned(), 0.2, (0, 0)), seen(turned(), 0.2, (0.1, 0))
    told = Transferred(moved, still, 0.0, 0.8, 1.0, None)
    for yaw, size in ((0.0, 0.2), (0.6, 0.2), (0.0, 0.3)):
        motion = RigDriver(NAMES).motion(told, seen(turned(yaw), size), MotionSettings(smoothing=0.0))
        np.testing.assert_allclose(motion.pose.shift, (0.1 * size / 0.2, 0), atol=0.006)


def test_a_chin_close_to_the_lower_edge_of_the_picture_rises_with_its_head():
    """The body is held where the edge cuts it, and turns to the neck's depth below the chin; a head of its own does neither."""
    size, unit = 256, 64.0
    landmarks = np.array([size * 0.5, size * 0.45]) + unit * LANDMARKS[:, :2]
    matte = np.full((size, size), 255, np.uint8)
    matte[:, :30] = matte[:, -30:] = 0
    surface = build_surface(matte.shape, landmarks, NAMES, matte)
    head = matte.copy()
    head[round(landmarks[NAMES.index("chin"), 1]) :] = 0
    rotation = turned(pitch=-0.25)
    pose = HeadPose(1.0, rotation, -(rotation @ surface.pivot - surface.pivot)[:2])
    at = landmarks[[NAMES.index("chin"), NAMES.index("upper lip")]][None].astype(np.float32)
    places = LANDMARKS[[NAMES.index("chin"), NAMES.index("upper lip")]] * unit
    there = places @ rotation.T
    # Seen from eight eye distances.
    there[:, 1] *= 1 + (there[:, 2] - places[:, 2]) / (8 * unit)
    wanted = (there - places)[:, 1] + pose.shift[1]
    moved = [each.sampled(each.displacement(pose), at)[0, :, 1] for each in (surface, surface.of_head(head))]
    assert wanted.max() < -0.2 * unit
    np.testing.assert_allclose(moved[1], wanted, atol=0.07 * unit)
    assert moved[0][0] - wanted[0] > 0.1 * unit
