"""One parser for numbers: the command line, settings, control and Python refuse the same."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import livepuppet
from livepuppet.core.errors import UserError
from livepuppet.core.numbers import checked_number, is_whole, number_of
from livepuppet.core.square import parse_square
from livepuppet.realtime.app import actions, settings
from livepuppet.realtime.app.session import parse_size
from livepuppet.realtime.inputs.screen import parse_region

WRONG = [
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1_0",
    "１２",
    "²",
    "½",
    "0x10",
    "",
    "9" * 5000,
    "1 2",
    "1,5",
    None,
    True,
    [1],
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: str(value)[:10])
def test_what_is_no_number(wrong):
    for whole in (False, True):
        with pytest.raises(ValueError):
            number_of(wrong, whole=whole)
        with pytest.raises(UserError, match=r"^--rate has to be a") as caught:
            checked_number("--rate", wrong, whole=whole)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value", ["8", " 8 ", "8.0", "+8", "0.8e1", "80E-1", 8, 8.0, np.float32(8), np.int64(8), Fraction(8)]
)
def test_numbers(value):
    assert number_of(value) == 8.0 and isinstance(number_of(value), float)
    assert number_of(value, 8, 8, whole=True) == 8 and isinstance(number_of(value, whole=True), int)
    with pytest.raises(ValueError):
        number_of(value, 9)


@pytest.mark.parametrize("huge", [10**400, -(10**400), math.inf, 2**63, 1e300])
def test_numbers_that_are_too_large(huge):
    with pytest.raises(ValueError):
        number_of(huge, whole=True)


def test_whole_texts():
    assert is_whole("08") and not any(is_whole(text) for text in ("", "-1", "²", "１", "9" * 5000, "1.0"))


@pytest.mark.parametrize(
    "crop", ["nan,0,10", "inf,0,10", "0,0,1e400", "１２,０,１０", "1_0,0,100", "0,0,0", "1,2", "0,0,1e300"]
)
def test_crops(crop):
    with pytest.raises(UserError, match="is not X,Y,SIDE"):
        parse_square(crop)


@pytest.mark.parametrize("text", ["１２８０x７２０", "²00x200", "9" * 5000 + "x2", "nanx2"])
def test_sizes(text):
    with pytest.raises(UserError):
        parse_size(text)
    with pytest.raises(UserError):
        settings.parse(settings.RULES["picture.size"], text)
    with pytest.raises(UserError):
        parse_region("screen:" + text, [{"left": 0, "top": 0, "width": 9, "height": 9}] * 2)


@pytest.mark.parametrize("value", ["nan", "０.８", "1_0e-1", "1e400"])
def test_settings_typed(value):
    for key in ("motion.strength", "control.port", "source.camera_rate"):
        with pytest.raises(UserError, match=f"{key} has to be a"):
            settings.parse(settings.RULES[key], value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**400, "0.8", True, None])
def test_settings_and_python(value):
    with pytest.raises(UserError, match=r"motion\.strength has to be a number from 0 to 2"):
        settings.check(settings.RULES["motion.strength"], value)
    if not isinstance(value, str):
        with pytest.raises(UserError, match="strength has to be a number from 0 to 2"):
            livepuppet.MotionSettings(strength=value)
        with pytest.raises(UserError, match="strength is a number from 0 to 2"):
            actions.checked("strength", value)


@pytest.mark.parametrize(
    "toml", ["strength = nan", "strength = inf", "strength = 1" + "0" * 400, "strength = " + "1" * 5000]
)
def test_settings_in_the_file(tmp_path, monkeypatch, toml):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "settings.toml").write_text(f"[motion]\n{toml}\n")
    with pytest.raises(UserError, match=r"settings\.toml"):
        settings.load()


def test_lists_in_lists_are_no_settings(tmp_path, monkeypatch):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "settings.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(UserError, match="is no TOML"):
        settings.load()


@pytest.mark.parametrize("line", ['avatar = "C:\\Users\\me.png"', 'avatar = "C:\\new\\table.png"'])
def test_a_windows_path_that_is_no_toml_has_a_hint(tmp_path, monkeypatch, line):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "settings.toml").write_text(f"[avatar]\n{line}\n")
    with pytest.raises(UserError, match=r"line 2.*single quotes, as in 'C:\\Users\\me.png'"):
        settings.load()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--rate", value) for value in ("nan", "inf", "１２", "1_0", "0", "")),
        *(("--side", value) for value in ("nan", "1e400", "１２８", "64.5", "99999999999999999999")),
        *(("--threads", value) for value in ("0", "99999999999999999999", "²")),
        *(("--crop", value) for value in ("nan,0,10", "inf,0,10")),
        *(("--avatar-crop", value) for value in ("nan,0,10", "0,inf,10")),
        *(("--neutral", value) for value in ("nan", "-1", "1:nan", "１")),
        *(("--face", value) for value in ("nan", "0", "²", "１")),
    ],
)
def test_the_command_line(livepuppet, tmp_path, option, value):
    from livepuppet.realtime import bundled

    found = livepuppet(
        *("animate", "--avatar", bundled.AVATAR, "--driving", bundled.DRIVING, "--engine", "onnx"),
        *("--output", tmp_path / "o.mp4", option, value),
    )
    assert (
        found.returncode == 2 and found.stderr.startswith("livepuppet: ") and found.stderr.count("\n") == 1
    ), found.stderr
    assert not list(tmp_path.iterdir())


def test_python_takes_the_same_numbers(tmp_path):
    from livepuppet.realtime import bundled

    for options in (
        {"rate": math.nan},
        {"side": 10**400},
        {"neutral": math.nan},
        {"face": 10**400},
        {"threads": 0},
    ):
        with pytest.raises(UserError):
            livepuppet.animate(bundled.AVATAR, bundled.DRIVING, tmp_path / "o.mp4", engine="onnx", **options)
    with pytest.raises(UserError):
        livepuppet.open_video(tmp_path, rate=math.nan)
