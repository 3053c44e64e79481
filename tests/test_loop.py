"""The puppet, the live loop, its keys and its figures, with an engine whose results can be computed."""

from __future__ import annotations

import itertools
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from media import gradient, red_picture

from livepuppet.realtime import keys
from livepuppet.realtime.avatars import Avatar
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing.crop import Framing, Square
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.clips import Frame
from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.loop import Live, close_all
from livepuppet.realtime.puppet import Puppet
from livepuppet.realtime.stats import Durations, LiveStats
from livepuppet.realtime.view.display import Canvas, draw_help, draw_lines, draw_message, draw_preview

SIZE = 32
EYE = np.tile(np.eye(2, dtype=np.float32), (4, 1, 1))
CORNERS = np.array([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]], np.float32)


class RedEngine:
    """Keypoints move right with the picture's red; the rendering is the avatar shifted right by that much."""

    name, provider, model_name, size, num_keypoints, keypoint_names = "fake", "NumPy", "red", SIZE, 4, ()

    def __init__(self):
        self.encoded = 0

    def detect(self, frame):
        assert frame.shape == (SIZE, SIZE, 3) and frame.dtype == np.uint8
        return Keypoints(CORNERS + np.float32([frame[..., 0].mean() / 255, 0]), EYE)

    def encode(self, avatar):
        self.encoded += 1
        return avatar

    def render(self, features, avatar_keypoints, keypoints):
        moved = (keypoints.points - avatar_keypoints.points)[:, 0].mean()
        return np.roll(features, round(float(moved) * SIZE / 2), axis=1)


class Script:
    """A live source of given pictures, `gap` seconds apart."""

    name, rate = "script", 100.0

    def __init__(self, pictures, gap=0.0, fail=None):
        self.pictures, self.gap, self.fail, self.closed = pictures, gap, fail, False

    def frames(self, stop):
        for index, picture in enumerate(self.pictures):
            if stop.wait(self.gap):
                return
            yield Frame(picture, Fraction(index, 100), time.perf_counter())
        if self.fail:
            raise self.fail

    def close(self):
        self.closed = True


class Kept:
    """An output that keeps copies."""

    name = "kept"

    def __init__(self):
        self.pictures, self.times, self.closed = [], [], False

    def write(self, picture, time, duration=None):
        self.pictures.append(picture.copy())
        self.times.append(time)

    def close(self):
        self.closed = True


def avatar(level: int = 0) -> Avatar:
    picture = gradient(SIZE, SIZE)
    picture[..., 2] = level
    return Avatar(f"{level}.png", picture)


def live(pictures, gap=0.03, crop="full", avatars=1, **options) -> tuple[Live, Kept]:
    kept = Kept()
    puppet = Puppet(RedEngine(), [avatar(index * 20) for index in range(avatars)])
    capture = Capture(Script(pictures, gap))
    options.setdefault("canvas", Canvas(2 * SIZE, SIZE))
    return Live(puppet, capture, Framing(crop), [kept], say=lambda text: None, **options), kept


def test_the_puppet_moves_by_what_the_driver_moved_since_the_first_frame():
    puppet = Puppet(RedEngine(), [avatar()])
    assert np.array_equal(puppet.move(red_picture(102, SIZE)).picture, avatar().picture)
    step = puppet.move(red_picture(102 + 51, SIZE))
    # A fifth of the range is 0.2 in keypoint units, which is 3.2 of 32 pixels.
    assert np.array_equal(step.picture, np.roll(avatar().picture, 3, axis=1))
    puppet.reset()
    assert np.array_equal(puppet.move(red_picture(153, SIZE)).picture, avatar().picture)


def test_absolute_mode_takes_the_drivers_place():
    puppet = Puppet(RedEngine(), [avatar()], relative=False)
    own = avatar().picture[..., 0].mean() / 255
    expected = round((102 / 255 - own) * SIZE / 2)
    assert np.array_equal(
        puppet.move(red_picture(102, SIZE)).picture, np.roll(avatar().picture, expected, axis=1)
    )


def test_avatars_are_encoded_once_and_switched_at_once():
    engine = RedEngine()
    seen = []
    puppet = Puppet(engine, [avatar(level) for level in (0, 20, 40)], progress=seen.append)
    assert engine.encoded == 3 and len(seen) == 3
    puppet.move(red_picture(100, SIZE))
    initial = puppet.initial
    puppet.select(-1)
    assert puppet.index == 2 and puppet.avatar.name == "40.png"
    assert puppet.move(red_picture(100, SIZE)).picture[0, 0, 2] == 40
    puppet.select(3)
    assert puppet.index == 0
    assert engine.encoded == 3 and puppet.initial is initial


def test_scale_follows_the_faces_sizes():
    class Small(RedEngine):
        def detect(self, frame):
            points = super().detect(frame)
            # The driver, told from the avatar by its flat green, has half the avatar's face.
            return Keypoints(points.points * 0.5, EYE) if frame[..., 1].std() == 0 else points

    frames = red_picture(0, SIZE), red_picture(102, SIZE)
    for adapt, pixels in ((True, 6), (False, 3)):
        puppet = Puppet(Small(), [avatar()], adapt_scale=adapt)
        puppet.move(frames[0])
        assert np.array_equal(puppet.move(frames[1]).picture, np.roll(avatar().picture, pixels, axis=1))


def test_the_loop_shows_every_frame_of_a_slow_source_letterboxed():
    session, kept = live([red_picture(level, SIZE) for level in (0, 102, 204)])
    stats = session.run()
    session.capture.close()
    # The frame in which the driver was framed shows the avatar at rest.
    assert stats.frames == 2 and len(kept.pictures) == 3
    assert all(picture.shape == (SIZE, 2 * SIZE, 3) for picture in kept.pictures)
    assert all((picture[:, :16] == 0).all() and (picture[:, 48:] == 0).all() for picture in kept.pictures)
    assert np.array_equal(kept.pictures[0][:, 16:48], avatar().picture)
    assert np.array_equal(kept.pictures[1][:, 16:48], avatar().picture)
    assert np.array_equal(kept.pictures[2][:, 16:48], np.roll(avatar().picture, 6, axis=1))
    assert kept.times == sorted(kept.times)


def test_figures_are_counted():
    session, _ = live([red_picture(100, SIZE)] * 12, gap=0.01)
    stats = session.run()
    session.capture.close()
    facts = stats.as_dict()
    assert stats.captured == stats.frames + stats.dropped
    assert (
        facts["latency_ms"]["p50"]
        <= facts["latency_ms"]["p95"]
        <= facts["latency_ms"]["p99"]
        <= facts["latency_ms"]["max"]
    )
    assert set(facts["stages_ms"]) == {"wait", "crop", "detect", "render", "compose", "output"}
    assert facts["fps"] > 20
    assert "frames" in stats.sentence()


def test_a_slow_loop_drops_frames_instead_of_queueing_them():
    session, kept = live([red_picture(100, SIZE)] * 60, gap=0.005)
    write = kept.write
    kept.write = lambda *arguments: (time.sleep(0.05), write(*arguments))
    stats = session.run()
    session.capture.close()
    assert stats.dropped > 20
    assert stats.captured == stats.frames + stats.dropped
    # Whatever was shown was never older than one frame and one turn of the loop.
    assert stats.latency.percentile(50) < 0.1


def test_the_wanted_number_of_frames_ends_it():
    session, _ = live(itertools.repeat(red_picture(100, SIZE)), gap=0.002, frames=5)
    assert session.run().frames == 5
    session.capture.close()


def test_stop_from_another_thread():
    session, _ = live(itertools.repeat(red_picture(100, SIZE)), gap=0.002)
    threading.Timer(0.2, session.stop).start()
    began = time.perf_counter()
    session.run()
    session.capture.close()
    assert time.perf_counter() - began < 5
    assert session.capture.source.closed


def test_a_source_that_fails_is_heard_and_the_figures_stay():
    kept = Kept()
    puppet = Puppet(RedEngine(), [avatar()])
    capture = Capture(
        Script([red_picture(100, SIZE)] * 4, 0.03, UserError("The camera is gone: plug it in."))
    )
    session = Live(puppet, capture, Framing("full"), [kept], Canvas(64, 32), say=lambda text: None)
    with pytest.raises(UserError, match="camera is gone"):
        session.run()
    capture.close()
    assert session.stats.frames == 3 and session.stats.captured == 3


def test_mirror_flips_the_driver():
    picture = red_picture(0, SIZE)
    picture[:, : SIZE // 2, 0] = 250
    seen = []

    class Sees(RedEngine):
        def detect(self, frame):
            seen.append(frame.copy())
            return super().detect(frame)

    puppet = Puppet(Sees(), [avatar()])
    session = Live(
        puppet,
        Capture(Script([picture] * 3, 0.03)),
        Framing("full"),
        [Kept()],
        Canvas(64, 32),
        mirror=True,
        say=lambda text: None,
    )
    session.run()
    session.capture.close()
    assert np.array_equal(seen[-1], picture[:, ::-1])


def test_keys():
    session, _ = live([red_picture(100, SIZE)] * 3, avatars=3)
    session.run()
    session.capture.close()
    puppet, framing = session.puppet, session.framing
    for key, index in (
        ("d", 1),
        ("right", 2),
        ("right", 0),
        ("a", 2),
        ("left", 1),
        ("3", 2),
        ("9", 2),
        ("1", 0),
    ):
        session.press(key)
        assert puppet.index == index, key
    assert puppet.initial is not None
    session.press("x")
    assert puppet.initial is None
    for key, expected in (
        ("w", Square(0, 0, SIZE).zoomed(1 / 1.06)),
        ("s", Square(0, 0, SIZE)),
        ("l", Square(0.03 * SIZE, 0, SIZE)),
        ("j", Square(0, 0, SIZE)),
        ("k", Square(0, 0.03 * SIZE, SIZE)),
        ("i", Square(0, 0, SIZE)),
    ):
        puppet.initial = CORNERS
        session.press(key)
        assert (framing.square.x, framing.square.y, framing.square.side) == pytest.approx(
            (expected.x, expected.y, expected.side), abs=1e-6
        ), key
        assert puppet.initial is None
    for key, name in (("m", "mirror"), ("p", "show_preview"), ("f", "show_status"), ("h", "show_help")):
        before = getattr(session, name)
        session.press(key)
        assert getattr(session, name) is not before
    session.press("c")
    assert not framing.settled
    session.press("ä")
    assert not session.stopping
    session.press("q")
    assert session.stopping


def test_every_key_does_something():
    session, _ = live([])
    for binding in keys.BINDINGS:
        assert binding.action == "select" or callable(getattr(session, f"_do_{binding.action}"))
    session.capture.close()
    assert len(keys.ACTIONS) == sum(len(binding.keys) for binding in keys.BINDINGS)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-1, None),
        (ord("x"), "x"),
        (ord("X"), "x"),
        (27, "escape"),
        (65361, "left"),
        (65363, "right"),
        (2424832, "left"),
        (0x100000 | ord("q"), "q"),
        (65505, None),
    ],
)
def test_window_key_codes(code, name):
    assert keys.name_of_code(code) == name


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("Xq", ["x", "q"]),
        ("\x1b[C\x1b[D", ["right", "left"]),
        ("\x1b", ["escape"]),
        ("\x1b[5~", []),
        ("a\x1bOC", ["a", "right"]),
    ],
)
def test_terminal_keys(text, names):
    assert keys.names_in_text(text) == names


def test_keys_from_a_real_terminal():
    pty = pytest.importorskip("pty")
    import os
    import sys

    master, slave = pty.openpty()
    script = (
        "import time; from livepuppet.realtime.keys import TerminalKeys; keys = TerminalKeys(); print('ready', flush=True)\n"
        "got = []\n"
        "while len(got) < 3: got += keys.read(); time.sleep(0.01)\n"
        "keys.close(); print(got, flush=True)"
    )
    import subprocess

    # A session of its own, with the pseudo-terminal as its controlling terminal.
    starter = (
        f"import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); exec({script!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter], stdin=slave, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    os.write(master, b"x\x1b[Cq")
    output, _ = process.communicate(timeout=20)
    assert output.strip() == "['x', 'right', 'q']"


def test_percentiles_are_exact_to_a_percent():
    durations = Durations()
    values = np.random.default_rng(0).lognormal(-4, 1, 5000)
    for value in values:
        durations.add(value)
    for percent in (50, 95, 99):
        assert durations.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=0.01)
    assert durations.percentile(100) == pytest.approx(values.max(), rel=0.01)
    assert LiveStats().as_dict()["fps"] == 0


def test_canvas_keeps_its_memory_and_its_bars():
    canvas = Canvas(128, 72)
    first = canvas.compose(gradient(64, 64))
    assert canvas.compose(red_picture(200)) is first
    assert first.shape == (72, 128, 3)
    assert (first[:, :28] == 0).all() and (first[:, 100:] == 0).all() and (first[:, 28:100, 0] == 200).all()
    tall = Canvas(64, 128).compose(red_picture(200))
    assert (tall[:32] == 0).all() and (tall[32:96, :, 0] == 200).all()


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (320, 240), (64, 64), (720, 1280)])
def test_overlays_fit_any_size(width, height):
    picture = np.full((height, width, 3), 128, np.uint8)
    draw_preview(picture, gradient(256, 256))
    draw_lines(picture, ["30.0 FPS", "line"])
    draw_help(picture, [(binding.label, binding.help) for binding in keys.BINDINGS])
    draw_message(picture, "A message that may well be longer than the picture is wide")
    assert picture.std() > 5


def test_one_output_that_fails_does_not_keep_others_open():
    class Fails(Kept):
        def close(self):
            raise UserError("disk full")

    kept = Kept()
    with pytest.raises(UserError, match="disk full"):
        close_all([Fails(), kept])
    assert kept.closed
