"""The screen as a source: what the text means, with a fake screen everywhere and a real X server where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from livepuppet.core.errors import UserError
from livepuppet.realtime.inputs import screen as module
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.opening import open_source
from livepuppet.realtime.inputs.screen import Screen, is_screen, list_monitors, parse_region

#: The desktop, a first monitor, and a second one to the left of it.
MONITORS = [
    {"left": -800, "top": 0, "width": 2080, "height": 720},
    {"left": 0, "top": 0, "width": 1280, "height": 720},
    {"left": -800, "top": 100, "width": 800, "height": 600},
]


class FakeScreen:
    """As much of mss as is used: a screen of one colour, given as (blue, green, red, unused)."""

    colour = (10, 20, 240, 255)
    fails = 0

    def __init__(self):
        self.monitors = MONITORS

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def grab(self, region):
        if FakeScreen.fails:
            FakeScreen.fails -= 1
            raise OSError("XGetImage() failed")
        height, width = region["height"], region["width"]
        picture = np.broadcast_to(np.array(self.colour, np.uint8), (height, width, 4))
        return types.SimpleNamespace(bgra=picture.tobytes(), height=height, width=width)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", types.SimpleNamespace(MSS=FakeScreen))
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(FakeScreen, "fails", 0)


def test_what_the_text_means():
    assert is_screen("screen") and is_screen("screen:2") and not is_screen("screencast.mp4")
    assert parse_region("screen", MONITORS) == parse_region("screen:1", MONITORS) == MONITORS[1]
    assert parse_region("screen:2", MONITORS) == MONITORS[2]
    region = {"left": -700, "top": 5, "width": 640, "height": 480}
    assert parse_region("screen:-700,5,640x480", MONITORS) == region


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("screen:3", r"no monitor 3: give screen:1 to screen:2"),
        ("screen:0", "no monitor 0"),
        ("screen:left", "is not screen, screen:N or screen:X,Y,WxH"),
        ("screen:1,2,3", "is not screen"),
        ("screen:900,0,640x480", "lies outside the desktop of 2080x720"),
        ("screen:-801,0,64x48", "lies outside"),
        ("screen:0,0,0x10", "choose a smaller one"),
    ],
)
def test_regions_that_make_no_sense(text, message):
    with pytest.raises(UserError, match=message):
        parse_region(text, MONITORS)


def test_the_screen_comes_in_rgb_at_its_rate(fake):
    source = open_source("screen:10,20,64x48", camera_rate=100)
    assert isinstance(source, Screen) and source.rate == 100
    stop, frames = threading.Event(), []
    for frame in source.frames(stop):
        frames.append(frame)
        if len(frames) == 11:
            stop.set()
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image[0, 0].tolist() == [240, 20, 10]
    # Paced: ten intervals of 10 ms, less the one that may be caught up.
    assert frames[-1].captured - frames[0].captured >= 0.08
    assert source.trouble is None


def test_a_screen_that_fails_is_tried_again(fake):
    capture = Capture(open_source("screen", camera_rate=200))
    assert capture.take(5) is not None
    FakeScreen.fails = 30
    end = time.monotonic() + 10
    while not (said := capture.trouble):
        assert time.monotonic() < end
    assert "cannot be read now (XGetImage() failed)" in said
    while capture.trouble:
        assert time.monotonic() < end
        capture.take(0.01)
    assert not capture.ended
    capture.close()


def test_a_black_screen_is_said_and_a_still_one_is_right(fake, monkeypatch):
    monkeypatch.setattr("livepuppet.realtime.inputs.watch.BLACK_SECONDS", 0.02)
    monkeypatch.setattr("livepuppet.realtime.inputs.watch.FROZEN_SECONDS", 0.02)
    for wayland, remedy in (("wayland", "choose an X11 session"), ("x11", "privacy settings")):
        monkeypatch.setenv("XDG_SESSION_TYPE", wayland)
        source, stop, said = Screen("screen", 500), threading.Event(), []
        for count, _ in enumerate(source.frames(stop)):
            said.append(source.trouble)
            monkeypatch.setattr(FakeScreen, "colour", (0, 0, 0, 255) if count > 50 else (9, 99, 9, 255))
            if source.trouble or count > 1000:
                stop.set()
        assert remedy in said[-1] and said[:50] == [None] * 50


def test_without_the_package_the_command_to_install_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(UserError, match=r"pip install 'livepuppet\[screen\]'"):
        Screen("screen")
    assert list_monitors() == []


def test_without_a_screen_there_is_one_sentence(monkeypatch):
    pytest.importorskip("mss")
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a screen")
    monkeypatch.setenv("DISPLAY", ":97")
    with pytest.raises(UserError, match=r"The screen cannot be read here .* desktop session"):
        Screen("screen")
    assert list_monitors() == []


@pytest.fixture
def x_server(monkeypatch):
    """A real X server with one monitor of 320x240, and nothing on it."""
    pytest.importorskip("mss")
    if not shutil.which("Xvfb"):
        pytest.skip("needs Xvfb")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    monkeypatch.setenv("DISPLAY", f":{number}")
    monkeypatch.delenv("XAUTHORITY", raising=False)
    yield
    server.terminate()
    server.wait(10)


def test_a_real_screen(x_server):
    assert list_monitors() == [(320, 240)]
    capture = Capture(open_source("screen:8,8,160x120", camera_rate=60))
    frame = capture.take(10)
    assert frame.image.shape == (120, 160, 3) and frame.image.dtype == np.uint8
    # The root window of a bare X server is black.
    end = time.monotonic() + 10
    while not (said := capture.trouble):
        assert time.monotonic() < end
        capture.take(0.1)
    assert "only black" in said
    assert capture.measured_rate == pytest.approx(60, rel=0.5)
    capture.close()
    with pytest.raises(UserError, match="outside the desktop of 320x240"):
        open_source("screen:300,0,64x64")
