"""The moved square in its canvas: exact where nothing moves, seamless where something does."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from media import gradient

from livepuppet.core import threads
from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.square import Square, cut
from livepuppet.realtime.compositing import compositor
from livepuppet.realtime.compositing.compositor import Compositor, _Rigs, parse_background
from livepuppet.realtime.compositing.matte import blurred_background, figure_colours, find_matte

SIZE = 64


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB with soft shapes, as pictures have."""
    noise = (
        np.random.default_rng(seed).integers(0, 255, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    )
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def avatar_of(original: np.ndarray, square: Square, matte: np.ndarray | None = None) -> Avatar:
    return Avatar("a.png", cut(original, square, SIZE), None, original, square, matte)


def identity(cells: int = 16) -> np.ndarray:
    across = np.linspace(-1, 1, cells)
    return np.dstack(np.meshgrid(across, across)).astype(np.float32)


def moved_right(pixels: float, cells: int = 16) -> np.ndarray:
    """The grid of a square whose content moves right by so many of its own pixels."""
    grid = identity(cells)
    grid[..., 0] -= 2 * pixels / (SIZE - 1)
    return grid


def composed(
    stage: Compositor, avatar: Avatar, square: np.ndarray, grid: np.ndarray | None = None
) -> np.ndarray:
    stage.prepare(avatar, wait=True)
    stage.set_avatar(avatar)
    # What an earlier picture left in the buffer must not show.
    out = np.full(stage.shape, 77, np.uint8)
    stage.compose(square, grid, out)
    return out


def at_rest(stage: Compositor, avatar: Avatar) -> np.ndarray:
    stage.prepare(avatar, wait=True)
    stage.set_avatar(avatar)
    out = np.full(stage.shape, 77, np.uint8)
    stage.at_rest(out)
    return out


def test_a_square_avatar_is_letterboxed_pixel_by_pixel():
    avatar = avatar_of(gradient(SIZE, SIZE), Square(0, 0, SIZE))
    moved = smooth(SIZE, SIZE)
    stage = Compositor(2 * SIZE, SIZE)
    out = composed(stage, avatar, moved)
    assert np.array_equal(out[:, 32:96], moved)
    assert not out[:, :32].any() and not out[:, 96:].any()
    assert np.array_equal(at_rest(stage, avatar)[:, 32:96], avatar.image)
    assert not stage.needs_deformation


def test_filling_leaves_no_bars():
    avatar = avatar_of(smooth(SIZE, SIZE), Square(0, 0, SIZE))
    out = composed(Compositor(2 * SIZE, SIZE, fit="fill"), avatar, np.full((SIZE, SIZE, 3), 200, np.uint8))
    assert (out == 200).all()


def test_filling_keeps_the_square_in_the_middle_as_far_as_the_picture_reaches():
    tall = avatar_of(smooth(400, 100), Square(18, 60, SIZE))
    stage = Compositor(100, 100, fit="fill")
    out = at_rest(stage, tall)
    assert np.array_equal(out, tall.original[42:142])
    assert np.array_equal(at_rest(stage, avatar_of(tall.original, Square(18, 0, SIZE))), tall.original[:100])


@pytest.mark.parametrize("paste", [True, False])
@pytest.mark.parametrize("fit", ["letterbox", "fill"])
@pytest.mark.parametrize("square", [Square(90, 40, 120), Square(-20, -10, 150), Square(0, 0, 240)])
def test_with_no_motion_the_avatar_comes_back_exactly(paste, fit, square):
    avatar = avatar_of(smooth(240, 300), square)
    stage = Compositor(320, 240, fit=fit, paste=paste)
    assert np.array_equal(composed(stage, avatar, avatar.image, identity()), at_rest(stage, avatar))
    assert stage.needs_deformation


def test_outside_the_square_nothing_is_touched():
    avatar = avatar_of(smooth(240, 320), Square(100, 60, 120))
    for grid in (None, moved_right(6)):
        stage = Compositor(320, 240)
        out = composed(stage, avatar, smooth(SIZE, SIZE, 1), grid)
        outside = np.ones((240, 320), bool)
        outside[60:180, 100:220] = False
        assert np.array_equal(out[outside], avatar.original[outside])
        assert np.abs(out[110:130, 150:170].astype(int) - avatar.original[110:130, 150:170]).mean() > 5


@pytest.mark.parametrize("bends", [True, False])
def test_the_pasted_square_shows_no_seam(bends):
    # A plain picture whose square turns brighter: across any edge the brightness may change by small steps only.
    avatar = avatar_of(np.full((240, 320, 3), 60, np.uint8), Square(100, 60, 120))
    out = composed(
        Compositor(320, 240), avatar, np.full((SIZE, SIZE, 3), 180, np.uint8), identity() if bends else None
    )
    assert out[120, 160, 0] == 180 and out[0, 0, 0] == 60
    rows, columns = (
        np.abs(np.diff(out[..., 0].astype(int), axis=0)),
        np.abs(np.diff(out[..., 0].astype(int), axis=1)),
    )
    # Falling by 120 within 19 pixels, smoothly: 1.5 times the mean slope at most, and rounding.
    assert max(rows.max(), columns.max()) <= 1.5 * 120 / 19 + 3


def test_without_bending_the_square_fades_into_the_picture_as_floating_point_would():
    avatar = avatar_of(smooth(240, 320), Square(100, 60, 120))
    square = smooth(SIZE, SIZE, 1)
    out = composed(Compositor(320, 240, sharp=False), avatar, square)
    large = cv2.resize(square, (120, 120), interpolation=cv2.INTER_CUBIC).astype(float)
    ramp = np.clip(np.minimum(np.arange(120) + 0.5, 119.5 - np.arange(120)) / 120 / 0.16, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    weight = (ramp[:, None] * ramp)[..., None]
    expected = avatar.original.astype(float)
    expected[60:180, 100:220] += weight * (large - expected[60:180, 100:220])
    assert np.abs(out - expected).max() <= 1.6


def test_edges_that_lie_on_the_pictures_edge_are_not_softened():
    avatar = avatar_of(np.full((120, 320, 3), 60, np.uint8), Square(100, 0, 120))
    out = composed(Compositor(320, 120), avatar, np.full((SIZE, SIZE, 3), 180, np.uint8))
    assert out[0, 160, 0] == out[119, 160, 0] == 180 and out[60, 101, 0] < 70


def test_bending_moves_the_files_own_pixels():
    # Fine stripes, which the model's small square cannot hold.
    original = np.zeros((256, 256, 3), np.uint8)
    original[:, ::8] = original[:, 1::8] = 255
    avatar = avatar_of(original, Square(0, 0, 256))
    pixels = 2
    bent = cv2.warpAffine(
        avatar.image,
        np.float32([[1, 0, pixels], [0, 1, 0]]),
        (SIZE, SIZE),
        borderMode=cv2.BORDER_REPLICATE,
    )
    stage = Compositor(256, 256)
    out = composed(stage, avatar, bent, moved_right(pixels))
    expected = np.roll(original, pixels * 4, axis=1)
    inner = np.s_[:, 32:-32]
    assert np.abs(out[inner].astype(int) - expected[inner]).mean() < 2
    soft = composed(Compositor(256, 256, sharp=False), avatar, bent)
    assert np.abs(soft[inner].astype(int) - expected[inner]).mean() > 40


def test_what_the_model_paints_is_added():
    avatar = avatar_of(np.full((256, 256, 3), 100, np.uint8), Square(0, 0, 256))
    painted = avatar.image.copy()
    painted[24:40, 24:40] = (250, 100, 20)
    out = composed(Compositor(256, 256), avatar, painted, identity())
    assert out[128, 128].tolist() == [250, 100, 20] and out[20, 20].tolist() == [100, 100, 100]


def test_where_the_grid_has_other_cells_than_the_picture():
    avatar = avatar_of(smooth(256, 256), Square(0, 0, 256))
    bent = cv2.warpAffine(
        avatar.image, np.float32([[1, 0, 3], [0, 1, 0]]), (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE
    )
    outs = [composed(Compositor(256, 256), avatar, bent, moved_right(3, cells)) for cells in (2, 7, 16, 64)]
    for out in outs[1:]:
        assert np.abs(out.astype(int) - outs[0]).max() <= 3


def test_switching_back_costs_nothing():
    first, second = (avatar_of(smooth(240, 320, seed), Square(100, 60, 120)) for seed in (1, 2))
    stage = Compositor(320, 240)
    stage.prepare(first)
    stage.prepare(second)
    stage.set_avatar(first)
    layers = stage._layers
    stage.set_avatar(second)
    assert stage._layers is not layers
    stage.set_avatar(first)
    assert stage._layers is layers


def test_ready_avatars_are_limited_in_number():
    stage = Compositor(64, 64)
    for seed in range(40):
        stage.set_avatar(avatar_of(smooth(64, 64, seed), Square(0, 0, 64)))
    assert len(stage._kept) <= 10


def test_paste_can_be_switched():
    avatar = avatar_of(smooth(240, 320), Square(100, 60, 120))
    stage = Compositor(320, 240)
    stage.set_avatar(avatar)
    stage.paste = False
    out = np.empty(stage.shape, np.uint8)
    stage.at_rest(out)
    assert not out[:, :40].any()
    assert (
        np.abs(out[1:-1:2, 41:279:2].astype(int) - cut(avatar.original, avatar.square, 120)[:-1, :-1]).mean()
        < 30
    )
    stage.paste = True
    stage.at_rest(out)
    assert np.array_equal(out, avatar.original)


# Backgrounds


def figure(height: int = 240, width: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """A red disc before stripes, and its matte."""
    matte = cv2.circle(
        np.zeros((height, width), np.uint8), (width // 2, height // 2), 50, 255, -1, cv2.LINE_AA
    )
    stripes = np.zeros((height, width, 3), np.uint8)
    stripes[:, ::2] = (20, 60, 90)
    share = matte[..., None] / 255
    return np.rint(stripes * (1 - share) + np.array([200, 30, 30]) * share).astype(np.uint8), matte


def test_a_colour_replaces_the_background_and_the_bars():
    original, matte = figure()
    avatar = avatar_of(original, Square(80, 40, 160), matte)
    out = at_rest(Compositor(400, 240, background="#00ff00"), avatar)
    assert (out[:, :40] == (0, 255, 0)).all() and (out[5, 45] == (0, 255, 0)).all()
    assert out[120, 200].tolist() == [200, 30, 30]
    # No rim of the old background: between red and green nothing is blue.
    assert out[..., 2].max() <= 34


@pytest.mark.parametrize("background", ["#00ff00", "blur", "alpha"])
def test_the_matte_moves_with_the_figure(background):
    original, matte = figure()
    avatar = avatar_of(original, Square(80, 40, 160), matte)
    bent = cv2.warpAffine(
        avatar.image, np.float32([[1, 0, 6], [0, 1, 0]]), (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE
    )
    stage = Compositor(320, 240, background=background)
    out = composed(stage, avatar, bent, moved_right(6))
    rest = at_rest(stage, avatar)
    assert stage.needs_deformation

    def middle(picture):
        seen = picture[..., 3] > 128 if background == "alpha" else picture[..., 0] > 120
        return np.flatnonzero(seen.any(axis=0)).mean()

    # Six of the square's pixels are fifteen of the canvas's.
    assert middle(out) - middle(rest) == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize("bends", [True, False])
@pytest.mark.parametrize("background", ["#3060c0", "blur"])
def test_figure_and_background_are_mixed_as_floating_point_would(background, bends):
    original, matte = figure()
    avatar = avatar_of(original, Square(80, 40, 160), matte)
    grid, square = moved_right(6), smooth(SIZE, SIZE, 1)
    # What is mixed, from a canvas that keeps its alpha.
    clear = composed(Compositor(320, 240, background="alpha"), avatar, square, grid if bends else None)
    stage = Compositor(320, 240, background=background)
    out = composed(stage, avatar, square, grid if bends else None)
    behind = stage._layers.behind
    inside = np.s_[40:200, 80:240]
    share = clear[inside][..., 3:] / 255
    expected = clear[inside][..., :3] * share + behind * (1 - share)
    assert np.abs(out[inside] - expected).max() <= 1.6
    assert 0.1 < share.mean() < 0.9


def test_blur_leaves_the_figure_and_no_stripes():
    original, matte = figure()
    out = at_rest(Compositor(320, 240, background="blur"), avatar_of(original, Square(80, 40, 160), matte))
    assert np.abs(np.diff(out[10:40, :, 1].astype(int), axis=1)).max() <= 3
    assert out[120, 160].tolist() == [200, 30, 30]
    # No red halo beside the disc.
    assert out[120, 160 + 60, 0] < 40


def test_alpha_is_straight_and_the_bars_are_clear():
    original, matte = figure()
    stage = Compositor(400, 240, background="alpha")
    out = at_rest(stage, avatar_of(original, Square(80, 40, 160), matte))
    assert stage.shape == (240, 400, 4)
    assert not out[:, :40, 3].any() and np.array_equal(out[:, 40:360, 3], matte)
    rim = (out[..., 3] > 40) & (out[..., 3] < 250)
    # The rim's colours are the disc's own.
    assert rim.any() and np.abs(out[rim][:, 0].astype(int) - 200).mean() < 15


def test_backgrounds_can_be_changed_while_running():
    original, matte = figure()
    avatar = avatar_of(original, Square(80, 40, 160), matte)
    stage = Compositor(320, 240)
    stage.set_avatar(avatar)
    out = np.empty(stage.shape, np.uint8)
    stage.background = "Green"
    stage.at_rest(out)
    assert stage.background == "#00ff00" and (out[0, 0] == (0, 255, 0)).all()
    stage.background = "as-is"
    stage.at_rest(out)
    assert np.array_equal(out, original)
    with pytest.raises(UserError, match="at the start"):
        stage.background = "alpha"
    clear = Compositor(320, 240, background="alpha")
    clear.set_avatar(avatar)
    clear.background = "blue"
    out = np.empty(clear.shape, np.uint8)
    clear.compose(avatar.image, identity(), out)
    assert (out[..., 3] == 255).all() and (out[0, 0, :3] == (0, 0, 255)).all()


def test_until_the_figure_is_found_the_background_stays(monkeypatch):
    import threading

    go_on, begun = threading.Event(), threading.Event()
    original, matte = figure()

    def slowly(picture, square):
        begun.set()
        assert go_on.wait(20)
        return matte

    monkeypatch.setattr("livepuppet.realtime.compositing.compositor.find_matte", slowly)
    avatar = avatar_of(original, Square(80, 40, 160))
    stage = Compositor(320, 240)
    stage.set_avatar(avatar)
    stage.background = "#00ff00"
    out = np.empty(stage.shape, np.uint8)
    stage.at_rest(out)
    assert begun.wait(20) and np.array_equal(out, original)
    go_on.set()
    for _ in range(500):
        stage.at_rest(out)
        if not np.array_equal(out, original):
            break
        threading.Event().wait(0.02)
    assert (out[0, 0] == (0, 255, 0)).all()


def test_figures_are_looked_for_one_after_another_the_shown_one_first(monkeypatch):
    import threading

    go_on, begun, order = threading.Event(), threading.Event(), []

    def slowly(picture, square):
        order.append(int(picture[0, 0, 0]))
        begun.set()
        assert go_on.wait(20)
        return np.full(picture.shape[:2], 255, np.uint8)

    monkeypatch.setattr("livepuppet.realtime.compositing.compositor.find_matte", slowly)
    avatars = [avatar_of(np.full((64, 64, 3), level, np.uint8), Square(0, 0, 64)) for level in range(4)]
    stage = Compositor(64, 64, background="blur")
    for avatar in avatars:
        stage.prepare(avatar)
    assert begun.wait(20)
    stage.set_avatar(avatars[3])
    go_on.set()
    for _ in range(500):
        if len(order) == 4 and not stage._mattes._working:
            break
        threading.Event().wait(0.02)
    assert order == [0, 3, 1, 2]


@pytest.mark.parametrize(
    ("text", "background"),
    [("As-Is", "as-is"), (" blur ", "blur"), ("green", "#00ff00"), ("#A0b1C2", "#a0b1c2")],
)
def test_backgrounds_as_people_write_them(text, background):
    assert parse_background(text) == background


@pytest.mark.parametrize("text", ["", "pink", "#12345", "00ff00", "#gg0000"])
def test_unknown_backgrounds_get_a_sentence(text):
    with pytest.raises(UserError, match="is unknown"):
        Compositor(64, 64, background=text)


def test_unknown_fits_get_a_sentence():
    with pytest.raises(UserError, match="letterbox or fill"):
        Compositor(64, 64, fit="stretch")


# Mattes


def portrait() -> tuple[np.ndarray, np.ndarray]:
    """A head and shoulders in their own colours before a bluish wall, and where they are."""
    rng = np.random.default_rng(3)
    picture = np.full((200, 200, 3), (120, 140, 190), np.int16)
    truth = np.zeros((200, 200), np.uint8)
    cv2.ellipse(truth, (100, 105), (38, 50), 0, 0, 360, 1, -1)
    cv2.fillPoly(truth, [np.array([[85, 150], [115, 150], [180, 199], [20, 199]])], 2)
    cv2.ellipse(truth, (100, 70), (44, 34), 0, 180, 360, 3, -1)
    for value, colour in ((1, (224, 172, 140)), (2, (90, 30, 40)), (3, (50, 30, 20))):
        picture[truth == value] = colour
    picture += rng.integers(-8, 8, picture.shape, dtype=np.int16)
    return np.clip(picture, 0, 255).astype(np.uint8), truth > 0


def test_a_figure_is_found_with_hair_and_shoulders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "one"))
    picture, truth = portrait()
    matte = find_matte(picture, Square(20, 10, 160))
    found = matte > 128
    assert matte.shape == picture.shape[:2] and matte.dtype == np.uint8
    assert (found & truth).sum() / (found | truth).sum() > 0.93
    # Remembered; a cache that is damaged or lost changes nothing.
    (kept,) = (tmp_path / "one").rglob("*.json")
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "grabCut", None)
        assert np.array_equal(matte, find_matte(picture, Square(20, 10, 160)))
    for damaged in ("{", "7", '"ab"'):
        kept.write_text(damaged)
        assert np.array_equal(matte, find_matte(picture, Square(20, 10, 160)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))
    assert np.array_equal(matte, find_matte(picture, Square(20, 10, 160)))


@pytest.mark.parametrize("shape", [(200, 200), (3, 5), (1, 1)])
def test_where_no_figure_stands_out_all_of_it_is_one(shape):
    matte = find_matte(np.full((*shape, 3), 90, np.uint8), Square(0, 0, min(shape)))
    assert matte.shape == shape and (matte == 255).all()


def test_a_square_far_outside_does_no_harm():
    matte = find_matte(smooth(80, 120), Square(-500, 900, 50))
    assert matte.shape == (80, 120)


def test_colours_under_soft_edges_are_the_figures():
    original, matte = figure()
    colours = figure_colours(original, matte)
    rim = (matte > 60) & (matte < 200)
    assert (
        np.abs(colours[rim].astype(int) - (200, 30, 30)).mean()
        < np.abs(original[rim].astype(int) - (200, 30, 30)).mean() / 2
    )
    assert np.array_equal(colours[matte == 255], original[matte == 255])


def test_the_blurred_background_closes_behind_the_figure():
    original, matte = figure()
    blurred = blurred_background(original, matte, 0.02)
    assert blurred.shape == original.shape and blurred[120, 160, 0] < 30
    assert blurred_background(original, None, 0.02)[120, 160, 0] > 100


def test_a_rig_that_is_awaited_is_waited_for_and_others_are_not():
    finish = threading.Event()

    def build(key, avatar, face):
        finish.wait(10)
        if face is None:
            raise ValueError("no face")
        return face

    rigs = _Rigs(build)
    one, other = (SimpleNamespace(name=name) for name in ("one", "other"))
    rigs.begin(1, one, "its rig", awaited=True)
    assert rigs.get(2, other, "another") is None
    threading.Timer(0.05, finish.set).start()
    assert rigs.get(1, one, "its rig") == "its rig"
    # One that cannot be made is not waited for either.
    rigs.begin(3, other, None, awaited=True)
    assert rigs.get(3, other, None) is None


def test_rigs_in_hand_are_finished_when_python_ends_and_no_others_begun(monkeypatch):
    monkeypatch.setattr(compositor, "_ending", threading.Event())
    monkeypatch.setattr(threads, "_running", {})
    begun, go, made = threading.Event(), threading.Event(), []

    def build(key, avatar, face):
        begun.set()
        assert go.wait(10)
        made.append(face)

    rigs, avatar = _Rigs(build), SimpleNamespace(name="one")
    rigs.begin(1, avatar, "first")
    rigs.begin(2, avatar, "second")
    assert begun.wait(10)
    threading.Timer(0.05, go.set).start()
    threads.end_threads()
    assert made == ["first"]
