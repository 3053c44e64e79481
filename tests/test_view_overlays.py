"""What is written over the picture: legible on anything, inside the picture at any size."""

from __future__ import annotations

import numpy as np
import pytest
from media import gradient

from livepuppet.core.square import Square
from livepuppet.realtime.app import keys
from livepuppet.realtime.app.overlay import screens, text
from livepuppet.realtime.app.overlay.screens import (
    ACCENT,
    ALERT,
    CameraView,
    OutputLine,
    Overlay,
    Slider,
    Status,
    draw,
    draw_banner,
    draw_help,
    draw_message,
    draw_sliders,
    draw_status,
)

HELP = tuple((binding.group, binding.label, binding.help) for binding in keys.BINDINGS)
STATUS = Status(
    29.9,
    30.0,
    (34.2, 41.7, 52.3),
    (("wait", 2.1), ("crop", 0.6), ("detect", 2.2), ("render", 24.1), ("compose", 1.4)),
    12,
    3,
    1,
    (
        OutputLine("window", "29.8 FPS"),
        OutputLine("recording.mp4", "The disk is full: free some space.", True),
    ),
)
EVERYTHING = (
    Overlay(),
    Overlay(
        status=STATUS,
        camera=CameraView(gradient(48, 64), Square(20, 10, 20)),
        driver=gradient(32, 32),
        ghost=gradient(64, 64),
        flip=True,
        fit=0.7,
        message="Avatar 3 of 12: a picture.png",
        sliders=(Slider("strength", 1.2, 0, 2, True), Slider("smoothing", 0.3)),
    ),
    Overlay(mode="looking", camera=CameraView(gradient(48, 64))),
    Overlay(mode="counting", driver=gradient(32, 32), ghost=gradient(32, 32), fit=0.5, countdown=(1.2, 3.0)),
    Overlay(mode="counting", hint="A hint.", countdown=(0.0, 0.0)),
    Overlay(mode="frozen", camera=CameraView(gradient(64, 48), Square(-30, 40, 90)), ghost=gradient(16, 16)),
    Overlay(mode="lost"),
    Overlay(mode="no picture", trouble="The camera is gone: plug it in again."),
    Overlay(help=HELP),
)


def gray(width: int = 640, height: int = 360) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where `picture` has that colour, about."""
    return np.abs(picture.astype(int) - colour).max(axis=2) < 40


@pytest.mark.parametrize(
    "size", [(1280, 720), (640, 360), (320, 240), (64, 64), (720, 1280), (16, 16), (1920, 200)]
)
@pytest.mark.parametrize("overlay", EVERYTHING, ids=lambda overlay: overlay.mode)
def test_everything_can_be_drawn_at_any_size(size, overlay):
    picture = gray(*size)
    draw(picture, overlay)
    assert overlay == EVERYTHING[0] or picture.std() > 1


def test_an_empty_overlay_draws_nothing():
    picture = gray()
    draw(picture, Overlay())
    assert (picture == 128).all()


def test_a_snapshot_is_not_changed_by_drawing():
    driver, camera, ghost = gradient(32, 32), gradient(48, 64), gradient(64, 64)
    overlay = Overlay(driver=driver, camera=CameraView(camera, Square(20, 10, 20)), ghost=ghost, flip=True)
    draw(gray(), overlay)
    assert np.array_equal(driver, gradient(32, 32)) and np.array_equal(camera, gradient(48, 64))
    assert np.array_equal(ghost, gradient(64, 64))


@pytest.mark.parametrize("size", [(1280, 720), (960, 540), (640, 360)])
def test_thirty_rows_of_help_fit(size):
    rows = HELP + tuple(
        ("More", str(number), "what this does, in some words") for number in range(30 - len(HELP))
    )
    picture = gray(*size)
    draw_help(picture, rows)
    # The panel leaves a rim of the darkened picture all round.
    rim = (picture[0], picture[-1], picture[:, 0], picture[:, -1])
    assert all((line == picture[0, 0]).all() for line in rim)
    assert near(picture, ACCENT).any()


def test_help_is_shown_alone():
    alone, among = gray(), gray()
    draw(alone, Overlay(help=HELP))
    draw(among, Overlay(help=HELP, status=STATUS, message="Something."))
    assert np.array_equal(alone, among)


def test_digits_stand_still_while_they_change():
    one, other = gray(), gray()
    draw_status(one, STATUS)
    draw_status(other, Status(11.1, 11.1, (11.1, 11.2, 11.3), STATUS.stages, 12, 3, 1, STATUS.outputs))
    assert text.text_width("1111.1", 20) == text.text_width("8409.7", 20)
    # The panel is the same, whatever is in it.
    assert np.array_equal((one != 128).any(axis=(0, 2)), (other != 128).any(axis=(0, 2)))
    assert np.array_equal((one != 128).any(axis=(1, 2)), (other != 128).any(axis=(1, 2)))


def test_a_failed_output_is_red_and_says_why():
    fine, failed = gray(), gray()
    draw_status(fine, Status(outputs=(OutputLine("window", "30 FPS"),)))
    draw_status(failed, Status(outputs=(OutputLine("window", "The window was closed.", True),)))
    assert not near(fine, ALERT).any() and near(failed, ALERT).sum() > 20
    assert (failed != 128).sum() > (fine != 128).sum()


def test_a_message_keeps_clear_of_the_preview():
    picture = gray()
    draw_message(picture, "A few words", 300)
    changed = np.flatnonzero((picture != 128).any(axis=(0, 2)))
    assert changed[0] >= 300
    picture = gray()
    draw_message(picture, "A few words")
    changed = np.flatnonzero((picture != 128).any(axis=(0, 2)))
    assert abs((changed[0] + changed[-1]) / 2 - 320) < 3


def test_a_long_message_is_broken_into_lines_and_stays_inside():
    picture = gray()
    draw_message(
        picture, "A message that is by far longer than the picture is wide, and so has to be broken. " * 2
    )
    assert (picture[:, :4] == 128).all() and (picture[:, -4:] == 128).all() and (picture[-4:] == 128).all()


def test_sliders_show_their_share():
    def filled(value):
        picture = gray()
        draw_sliders(picture, [Slider("strength", value, 0.0, 2.0, True)])
        return near(picture, ACCENT).sum()

    assert filled(0.0) < filled(0.5) < filled(1.0) < filled(2.0) == filled(3.0)


def test_a_banner_is_opaque_on_a_transparent_picture():
    picture = np.zeros((360, 640, 4), np.uint8)
    draw_banner(picture, "The camera is gone: plug it in again.", alert=True)
    shown = picture[..., 3] == 255
    assert shown.any() and not shown[-100:].any()
    assert near(picture[..., :3], ALERT).any() and not picture[~shown].any()


def test_flipping_is_a_mirror():
    driver = np.zeros((64, 64, 3), np.uint8)
    driver[:, :32] = 255
    plain, flipped = gray(), gray()
    draw(plain, Overlay(driver=driver))
    draw(flipped, Overlay(driver=driver, flip=True))
    tile = np.s_[270:340, 14:100]
    left, right = plain[tile][:, :20].mean(), flipped[tile][:, :20].mean()
    assert left > 200 > 60 > right


def test_the_ghost_shows_the_avatars_shape_on_the_driver():
    ghost = np.full((64, 64, 3), 200, np.uint8)
    ghost[20:44, 20:44] = 20
    driver = np.full((64, 64, 3), 128, np.uint8)
    mixed = screens._with_ghost(driver, ghost, False)
    assert mixed[32, 32].mean() < 110 < mixed[5, 5].mean()
    assert np.array_equal(screens._with_ghost(driver, None, False), driver)


def test_the_crop_is_marked_in_the_camera_picture():
    picture = gray(1280, 720)
    draw(picture, Overlay(camera=CameraView(np.full((240, 320, 3), 90, np.uint8), Square(100, 50, 120))))
    assert near(picture, ACCENT).sum() > 100


# Text


def test_any_string_can_be_written():
    for string in (
        "",
        " ",
        "plain",
        "Łódź, São Paulo, naïve",
        "Привет 漢字 🦙",
        "line\nbreak\x07",
        "\u200f\ufffe",
        "é" * 300,
    ):
        mask = text.text_mask(string, 18)
        assert mask.shape[0] == text.line_height(18) and mask.dtype == np.uint8
        text.draw_text(gray(), string, -20, -5, 18)


def test_accents_are_written():
    plain, accented = text.text_mask("a", 40), text.text_mask("ä", 40)
    assert accented.any() and plain.any()
    # What no font here has is written as something near, or as a question mark.
    assert text._drawable("\ue123")[0] == "?"


def test_text_is_kept_short_enough():
    name = "a very long name of an avatar that somebody gave it.png"
    short = text.shortened(name, 16, 150)
    assert (
        text.text_width(short, 16) <= 150
        and short.startswith("a ve")
        and short.endswith("png")
        and "…" in short
    )
    assert text.shortened("short", 16, 150) == "short"
    for line in text.wrapped(name + " " + "x" * 200, 16, 150):
        assert text.text_width(line, 16) <= 150


def test_alignment():
    def span(align):
        picture = np.zeros((40, 300, 3), np.uint8)
        text.draw_text(picture, "HHH", 150, 5, 20, align=align)
        columns = np.flatnonzero(picture.any(axis=(0, 2)))
        return columns[0], columns[-1]

    assert span("left")[0] >= 150 and span("right")[1] <= 150
    assert abs(sum(span("center")) / 2 - 150) < 3


def test_blending_reaches_both_ends():
    picture = gray(10, 10)
    mask = np.zeros((10, 10), np.uint8)
    mask[:, 5:] = 255
    text.blend(picture, mask, 0, 0, (255, 0, 7))
    assert (picture[:, :5] == 128).all() and (picture[:, 5:] == (255, 0, 7)).all()


def test_panels_have_round_corners_and_are_cut_off_at_edges():
    picture = gray()
    screens.panel(picture, 100, 100, 200, 80, 20, (0, 0, 0), 0.5)
    assert (picture[140, 200] == 64).all() and (picture[100, 100] == 128).all() and (picture[99] == 128).all()
    screens.panel(picture, -50, -50, 100, 100, 20)
    screens.panel(picture, 600, 340, 100, 100, 20)
    screens.panel(picture, 5000, 0, 100, 100, 20)
    assert (picture[0, 0] < 60).all() and (picture[-1, -1] < 60).all()
