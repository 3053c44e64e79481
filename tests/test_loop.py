"""The animator, the live loop, its actions and its figures, with an engine whose results can be computed."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
from media import gradient, red_picture

from livepuppet.core.avatar import Avatar
from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.video import Frame
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app import actions, keys, loop
from livepuppet.realtime.app.avatar_folder import Change
from livepuppet.realtime.app.loop import LiveLoop
from livepuppet.realtime.app.stats import LiveStats
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.framing.crop import Framing, Square
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.fanout import Fanout

SIZE = 32
EYE = np.tile(np.eye(2, dtype=np.float32), (4, 1, 1))
CORNERS = np.array([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]], np.float32)

#: Eq. 14-15 and nothing else.
PLAIN = MotionSettings(smoothing=0, countdown=0, lost_to_neutral=False)


class RedEngine:
    """Keypoints move right with the picture's red; the rendering is the avatar shifted right by that much."""

    name, provider, model_name, size, num_keypoints, keypoint_names = "fake", "NumPy", "red", SIZE, 4, ()
    deforms, matrices, device, precision, reason = False, "jacobian", "cpu", "float32", "the only engine here"

    def __init__(self):
        self.encoded = 0

    def detect(self, frame):
        assert frame.shape == (SIZE, SIZE, 3) and frame.dtype == np.uint8
        return Keypoints(CORNERS + np.float32([frame[..., 0].mean() / 510 - 0.25, 0]), EYE)

    def encode(self, avatar):
        self.encoded += 1
        return avatar

    def render(self, features, avatar_keypoints, keypoints):
        moved = (keypoints.points - avatar_keypoints.points)[:, 0].mean()
        return np.roll(features, round(float(moved) * SIZE), axis=1)


class Script:
    """A live source of given pictures, `gap` seconds apart. An entry that is an exception is raised instead."""

    name, rate = "script", 100.0

    def __init__(self, pictures, gap=0.0):
        self.pictures, self.gap, self.closed, self.trouble = pictures, gap, False, None

    def frames(self, stop):
        for index, picture in enumerate(self.pictures):
            if isinstance(picture, Exception):
                raise picture
            if isinstance(picture, (str, type(None))):
                self.trouble = picture
                if stop.wait(0.6 if picture else 0):
                    return
                continue
            if stop.wait(self.gap):
                return
            yield Frame(picture, Fraction(index, 100), time.perf_counter())

    def close(self):
        self.closed = True


class Kept(Output):
    """An output that keeps copies."""

    name, queue = "kept", 1000

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


def animator_of(*avatars, engine=None, **settings) -> Animator:
    settings = replace(PLAIN, **settings)
    return Animator(avatars or [avatar()], engine=engine or RedEngine(), settings=settings, crop="full")


def live(
    pictures, gap=0.03, avatars=1, output=None, engine=None, said=None, mirror=False, **options
) -> tuple[LiveLoop, Kept]:
    """A session over scripted pictures. Run it with `finish`."""
    kept = output or Kept()
    animator = Animator(
        [avatar(index * 20) for index in range(avatars)],
        engine=engine or RedEngine(),
        settings=PLAIN,
        crop=Framing("full"),
        size=Compositor(2 * SIZE, SIZE),
        mirror=mirror,
    )
    notify = (lambda sentence: None) if said is None else said.append
    session = LiveLoop(
        animator,
        Capture(Script(pictures, gap)),
        Fanout([kept], notify),
        notify=notify,
        **options,
    )
    return session, kept


def finish(session: LiveLoop) -> LiveStats:
    """Run it to its end and close what it uses."""
    try:
        return session.run()
    finally:
        session.capture.close()
        session.fanout.close()


def test_the_avatar_moves_by_what_the_driver_moved_since_the_first_frame():
    animator = animator_of()
    assert np.array_equal(animator.step(red_picture(102, SIZE)).image, avatar().picture)
    step = animator.step(red_picture(102 + 51, SIZE), 0.1)
    # A fifth of the range is 0.1 in keypoint units, which the engine turns into 3.2 pixels.
    assert np.array_equal(step.image, np.roll(avatar().picture, 3, axis=1))
    animator.reset()
    assert np.array_equal(animator.step(red_picture(153, SIZE), 0.2).image, avatar().picture)


def test_absolute_mode_takes_the_drivers_place():
    animator = animator_of(relative=False)
    own = avatar().picture[..., 0].mean() / 255
    expected = round((102 / 255 - own) * SIZE / 2)
    assert np.array_equal(
        animator.step(red_picture(102, SIZE)).image, np.roll(avatar().picture, expected, axis=1)
    )


def test_while_counting_down_the_avatar_rests():
    animator = animator_of(countdown=1.0)
    steps = [
        animator.step(red_picture(level, SIZE), at)
        for level, at in ((0, 0.0), (200, 0.5), (0, 1.1), (51, 1.2))
    ]
    assert [step.moved for step in steps[:2]] == [False, False] and steps[-1].moved
    assert np.array_equal(steps[1].image, avatar().picture)


def test_avatars_are_encoded_once_and_switched_at_once():
    engine = RedEngine()
    animator = animator_of(*[avatar(level) for level in (0, 20, 40)], engine=engine)
    assert engine.encoded == 3
    animator.step(red_picture(100, SIZE))
    initial = animator.retargeter.initial
    animator.select(-1)
    assert animator.index == 2 and animator.avatar.name == "40.png"
    assert animator.step(red_picture(100, SIZE), 0.1).image[0, 0, 2] == 40
    animator.select(3)
    assert animator.index == 0
    assert engine.encoded == 3 and animator.retargeter.initial is initial


def test_avatars_come_and_go_under_the_one_in_use():
    animator = animator_of(*[avatar(level) for level in (0, 20, 40)])
    animator.select(1)
    animator.add(0, avatar(10))
    assert animator.names == ["10.png", "0.png", "20.png", "40.png"] and animator.avatar.name == "20.png"
    animator.remove(0)
    animator.remove(animator.index)
    assert animator.names == ["0.png", "20.png", "40.png"] and animator.avatar.name == "20.png"
    animator.replace(1, avatar(99))
    assert animator.step(red_picture(0, SIZE)).image[0, 0, 2] == 99


def test_scale_follows_the_faces_sizes():
    class Small(RedEngine):
        def detect(self, frame):
            points = super().detect(frame)
            # The driver, told from the avatar by its flat green, has half the avatar's face.
            return Keypoints(points.points * 0.5, EYE) if frame[..., 1].std() == 0 else points

    frames = red_picture(0, SIZE), red_picture(102, SIZE)
    for adapt, pixels in ((True, 6), (False, 3)):
        animator = animator_of(engine=Small(), adapt_scale=adapt)
        animator.step(frames[0])
        assert np.array_equal(animator.step(frames[1], 0.1).image, np.roll(avatar().picture, pixels, axis=1))


def test_the_loop_shows_every_frame_of_a_slow_source_letterboxed():
    session, kept = live([red_picture(level, SIZE) for level in (0, 102, 204)])
    stats = finish(session)
    assert stats.frames == 3 and len(kept.pictures) == 3
    assert all(picture.shape == (SIZE, 2 * SIZE, 3) for picture in kept.pictures)
    assert all((picture[:, :16] == 0).all() and (picture[:, 48:] == 0).all() for picture in kept.pictures)
    for picture, pixels in zip(kept.pictures, (0, 6, 13), strict=True):
        assert np.array_equal(picture[:, 16:48], np.roll(avatar().picture, pixels, axis=1))
    assert kept.times == sorted(kept.times)


def test_figures_are_counted():
    session, _ = live([red_picture(100, SIZE)] * 12, gap=0.01)
    stats = finish(session)
    facts = stats.as_dict()
    assert stats.captured == stats.frames + stats.dropped
    latency = facts["latency_ms"]
    assert latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert set(facts["stages_ms"]) == {"wait", "crop", "detect", "render", "slot", "compose", "output"}
    assert facts["errors"] == {}
    assert "frames" in stats.sentence()
    state = session.state()
    assert state["mode"] == "live" and state["avatar"] == "0.png" and state["frames"] == stats.frames
    assert [output["name"] for output in state["outputs"]] == ["kept"]


def test_a_slow_loop_drops_frames_instead_of_queueing_them():
    class Slow(RedEngine):
        def render(self, *arguments):
            time.sleep(0.05)
            return super().render(*arguments)

    session, _ = live([red_picture(100, SIZE)] * 60, gap=0.005, engine=Slow())
    stats = finish(session)
    assert stats.dropped > 20
    assert stats.captured == stats.frames + stats.dropped


def test_a_slow_output_slows_nothing():
    kept = Kept()
    kept.queue = 1
    write = kept.write
    kept.write = lambda *arguments: (time.sleep(0.2), write(*arguments))
    session, _ = live([red_picture(100, SIZE)] * 40, gap=0.01, output=kept)
    stats = finish(session)
    assert stats.frames > 3 * len(kept.pictures)
    assert session.fanout.states()[0].skipped > 10


def test_the_wanted_number_of_frames_ends_it():
    session, _ = live(itertools.repeat(red_picture(100, SIZE)), gap=0.002, frames=5)
    assert finish(session).frames == 5


def test_stop_from_another_thread():
    session, _ = live(itertools.repeat(red_picture(100, SIZE)), gap=0.002)
    threading.Timer(0.2, session.stop).start()
    finish(session)
    assert session.capture.source.closed


def test_a_source_that_fails_for_good_is_heard_and_the_figures_stay():
    session, _ = live([red_picture(100, SIZE)] * 4 + [UserError("The clip is damaged: repair it.")])
    with pytest.raises(UserError, match="clip is damaged"):
        finish(session)
    assert session.stats.frames == 4 and session.stats.captured == 4


def test_while_the_camera_is_away_the_outputs_hold_the_last_picture_and_say_so():
    said = []
    session, kept = live(
        [red_picture(0, SIZE), red_picture(102, SIZE), "The camera is gone: plug it in again.", None]
        + [red_picture(204, SIZE)] * 3,
        said=said,
    )
    finish(session)
    assert said.count("The camera is gone: plug it in again.") == 1
    held = [
        picture for picture in kept.pictures if not np.array_equal(picture[:, :16], np.zeros((SIZE, 16, 3)))
    ]
    # Something is written over the bars; the pictures before and after carry nothing.
    assert held
    assert not kept.pictures[0][:, :16].any() and not kept.pictures[-1][:, :16].any()
    assert np.array_equal(kept.pictures[-1][:, 16:48], np.roll(avatar().picture, 13, axis=1))


def test_one_bad_frame_is_said_once_and_survived():
    class Stumbles(RedEngine):
        def render(self, features, avatar_keypoints, keypoints):
            if keypoints.points[0, 0] > 0:
                raise RuntimeError("out of memory")
            return super().render(features, avatar_keypoints, keypoints)

    said = []
    session, kept = live(
        [red_picture(level, SIZE) for level in (0, 250, 250, 0, 51)], said=said, engine=Stumbles()
    )
    stats = finish(session)
    assert stats.frames == 3 and len(kept.pictures) == 3
    assert stats.errors == {"RuntimeError: out of memory": 2}
    assert sum("out of memory" in sentence for sentence in said) == 1


def test_a_stage_that_always_fails_ends_the_session(monkeypatch):
    class Broken(RedEngine):
        def render(self, *arguments):
            raise RuntimeError("no device")

    monkeypatch.setattr(loop, "MOST_FAILURES", 5)
    session, _ = live(itertools.repeat(red_picture(100, SIZE)), gap=0.002, engine=Broken())
    with pytest.raises(UserError, match=r"5 frames in a row failed .*no device"):
        finish(session)


def test_mirror_flips_the_driver():
    picture = red_picture(0, SIZE)
    picture[:, : SIZE // 2, 0] = 250
    seen = []

    class Sees(RedEngine):
        def detect(self, frame):
            seen.append(frame.copy())
            return super().detect(frame)

    session, _ = live([picture] * 3, engine=Sees(), mirror=True)
    finish(session)
    assert np.array_equal(seen[-1], picture[:, ::-1])


def pressed(session: LiveLoop, *names: str) -> None:
    """Press keys, and let the loop do what they stand for."""
    for name in names:
        session.press(name)
    session._between_frames()


def test_keys():
    session, _ = live([red_picture(100, SIZE)] * 3, avatars=3)
    finish(session)
    animator = session.animator
    framing, retargeter = animator.framing, animator.retargeter
    for key, index in (("d", 1), ("d", 2), ("d", 0), ("a", 2), ("a", 1), ("3", 2), ("9", 2), ("1", 0)):
        pressed(session, key)
        assert animator.index == index, key
    for key, expected in (
        ("w", Square(0, 0, SIZE).zoomed(1 / actions.ZOOM_STEP)),
        ("s", Square(0, 0, SIZE)),
        ("right", Square(0.03 * SIZE, 0, SIZE)),
        ("j", Square(0, 0, SIZE)),
        ("k", Square(0, 0.03 * SIZE, SIZE)),
        ("up", Square(0, 0, SIZE)),
    ):
        pressed(session, key)
        assert (framing.square.x, framing.square.y, framing.square.side) == pytest.approx(
            (expected.x, expected.y, expected.side), abs=1e-6
        ), key
        # D1 goes with the crop instead of being lost.
        assert retargeter.initial is not None
    for key, name in (("p", "preview"), ("o", "status"), ("h", "help"), ("g", "ghost")):
        before = getattr(session.show, name)
        pressed(session, key)
        assert getattr(session.show, name) is not before
    pressed(session, "m")
    assert session.animator.mirror
    pressed(session, "f", "v")
    assert retargeter.settings.search and retargeter.state == "frozen"
    pressed(session, "v", "0")
    assert session.mode == "at rest"
    pressed(session, "e", "-")
    assert retargeter.settings.strength == pytest.approx(0.9)
    pressed(session, "e", "-")
    assert session.show.slider == "smoothing" and retargeter.settings.smoothing == 0
    pressed(session, "b")
    assert session.animator.compositor.background == "blur"
    pressed(session, "u")
    assert not session.animator.compositor.paste
    pressed(session, "c")
    assert not framing.settled
    pressed(session, "ä")
    assert not session.stopping
    pressed(session, "q")
    assert session.stopping


def test_the_crop_moves_and_the_avatar_does_not():
    class Seen(RedEngine):
        """The face is where the picture is red: keypoints sit on it, as far as the crop shows."""

        def detect(self, frame):
            rows, columns = np.nonzero(frame[..., 0] > 200)
            if not len(rows):
                return super().detect(frame)
            centre = np.float32([columns.mean(), rows.mean()]) * 2 / (SIZE - 1) - 1
            return Keypoints(CORNERS * 0.3 + centre, EYE)

    picture = np.zeros((4 * SIZE, 4 * SIZE, 3), np.uint8)
    picture[56:72, 56:72, 0] = 255
    engine = Seen()
    for mirror in (False, True):
        session, _ = live([], engine=engine, mirror=mirror)
        session.animator.framing = Framing(f"32,32,{2 * SIZE}")
        first = session.animator.step(picture, 0.0).driving_square
        pressed(session, "l", "l", "k")
        moved = session.animator.step(picture, 0.1)
        assert not np.array_equal(first, moved.driving_square)
        expected = session.animator.keypoints.points
        assert np.abs(moved.keypoints.points - expected).max() < 0.02
        session.capture.close()
        session.fanout.close()


def test_what_others_ask_for_is_checked_at_once():
    session, _ = live([red_picture(100, SIZE)] * 2, avatars=2)
    finish(session)
    session.post("strength", 0.5)
    session.post("select", "20")
    session.post("mirror", True)
    session.post("background", "green")
    session._between_frames()
    assert session.animator.retargeter.settings.strength == 0.5 and session.animator.avatar.name == "20.png"
    assert session.animator.mirror and session.animator.compositor.background == "#00ff00"
    for action, value, sentence in (
        ("strength", 3, "from 0 to 2"),
        ("strength", "much", "from 0 to 2"),
        ("mirror", "yes", "true or false"),
        ("explode", None, "no action 'explode'"),
        ("reset", 5, "takes no value"),
        ("select", None, "number or by its name"),
        ("background", "loud", "unknown"),
    ):
        with pytest.raises(UserError, match=sentence):
            session.post(action, value)
    session.post("select", "nobody")
    session._between_frames()
    assert session.animator.avatar.name == "20.png" and "no avatar 'nobody'" in session.message


def test_avatars_dropped_in_while_running():
    class Folder:
        def __init__(self):
            self.waiting = [Change("added", 0, avatar(60)), Change("removed", 2, avatar(20))]

        def messages(self):
            return ["broken.png is not a picture."] if self.waiting else []

        def changes(self, shown=None):
            waiting, self.waiting = self.waiting, []
            return waiting

    said = []
    session, _ = live([red_picture(100, SIZE)] * 2, avatars=2, folder=Folder(), said=said)
    finish(session)
    assert session.animator.names == ["60.png", "0.png"] and session.animator.avatar.name == "0.png"
    assert "broken.png is not a picture." in said and any("60.png" in sentence for sentence in said)


def test_every_key_does_something():
    for binding in keys.BINDINGS:
        assert binding.action in actions.ACTIONS
    assert len(keys.ACTIONS) == sum(len(binding.keys) for binding in keys.BINDINGS)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (-1, None),
        (ord("x"), "x"),
        (ord("X"), "x"),
        (27, "escape"),
        (65361, "left"),
        (65362, "up"),
        (65363, "right"),
        (65364, "down"),
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
        "import time; from livepuppet.realtime.app.keys import TerminalKeys; keys = TerminalKeys(); print('ready', flush=True)\n"
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


def test_what_others_have_the_loop_do_is_done_between_frames():
    said, done = [], []
    session, _ = live([red_picture(100, SIZE)] * 3, said=said)

    def refuse():
        raise UserError("It cannot be done: leave it.")

    session.call(lambda: done.append(threading.current_thread()))
    session.call(refuse)
    finish(session)
    assert done == [threading.current_thread()] and "It cannot be done: leave it." in said


@pytest.mark.parametrize(("cores", "threads"), [(2, 1), (4, 3), (0, 3)])
def test_on_few_cores_opencv_has_no_threads_of_its_own_while_the_loop_runs(monkeypatch, cores, threads):
    before, seen = cv2.getNumThreads(), []
    monkeypatch.setattr(loop, "usable_cores", lambda: cores)
    cv2.setNumThreads(3)
    try:
        session, _ = live([red_picture(100, SIZE)] * 3)
        session.call(lambda: seen.append(cv2.getNumThreads()))
        finish(session)
        assert (seen, cv2.getNumThreads()) == ([threads], 3)
    finally:
        cv2.setNumThreads(before)


def test_another_source_is_framed_anew_and_counts_go_on():
    session, kept = live([red_picture(100, SIZE)] * 6)
    frames = []
    session.watch = frames.append
    finish(session)
    before, counts = session.capture, session.counts()
    assert session.switch(Capture(Script([red_picture(200, SIZE)] * 6, 0.03)), 0.0) is before
    assert session.counts()[0] >= counts[0] and not session.animator.framing.settled
    session.fanout = Fanout([kept])
    finish(session)
    # The first frame of the other source is its neutral pose.
    assert session.animator.retargeter.initial is not None
    assert np.array_equal(kept.pictures[-1][:, 16:48], avatar().picture)
    assert frames and frames[-1].image[0, 0, 0] == 200


def test_durations_of_late():
    durations = Durations()
    for _ in range(50):
        durations.add(0.1)
    before = durations.copy()
    for _ in range(50):
        durations.add(0.01)
    assert durations.since(before).percentile(95) == pytest.approx(0.01, rel=0.01)
    assert durations.percentile(95) == pytest.approx(0.1, rel=0.01) and before.count == 50
