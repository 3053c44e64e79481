"""A whole session from settings, and what it leaves for the next one."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import tiny_bundle
from media import gradient, red_picture, write_clip, write_picture

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import control, settings
from livepuppet.realtime.app.session import Session, own_cameras
from livepuppet.realtime.app.settings import NeutralPose, Settings, merge
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.framing.crop import Square
from livepuppet.realtime.outputs.base import Output


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return load_engine(
        "onnx", tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64"), threads=1
    )


@pytest.fixture
def chosen(tmp_path):
    """Settings for a folder of two avatars, driven by a clip that turns red, over and over."""
    folder = tmp_path / "avatars"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        write_picture(folder / name, gradient(64, 64))
    clip = write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in range(60, 200, 10)], rate=50)
    return merge(
        Settings(),
        {
            "avatar": str(folder),
            "driving": str(clip),
            "loop": True,
            "crop": "full",
            "size": "160x96",
            "outputs": ("none",),
            "countdown": 0.0,
            "enabled": False,
        },
    )


def session(chosen, engine, **options) -> Session:
    return Session(chosen, engine, keyboard=False, notify=lambda sentence: None, **options)


def test_what_was_changed_is_remembered_and_comes_back(chosen, engine):
    with session(chosen, engine, frames=5) as first:
        for action, value in (
            ("select", 2),
            ("mirror", True),
            ("strength", 0.7),
            ("background", "blur"),
            ("paste", False),
        ):
            first.live.post(action, value)
        first.run()
        for _ in range(2):
            first.live.post("closer")
        first.live.post("shift_right")
        first.live._between_frames()
        square = first.animator.framing.square
        after = first.settings_now()
    differs = settings.changed(chosen, after)
    assert {"avatar.selected", "source.mirror", "motion.strength", "picture.background"} <= set(differs)
    assert after.neutral.of_model == "tiny" and len(after.neutral.points) == 4
    with session(after, engine, frames=2) as second:
        second.run()
        assert second.animator.avatar.name == "b.png" and second.animator.mirror
        assert second.animator.retargeter.settings.strength == 0.7
        assert second.animator.compositor.background == "blur" and not second.animator.compositor.paste
        now = second.animator.framing.square
        assert (now.x, now.y, now.side) == pytest.approx((square.x, square.y, square.side), abs=0.2)


def test_a_saved_neutral_pose_is_taken_up_in_the_new_crop(chosen, engine):
    points = tiny_bundle.POINTS * 0.5
    pose = NeutralPose(
        reuse=True,
        of_model="tiny",
        points=tuple(map(tuple, points.tolist())),
        jacobians=tuple(((1.0, 0.0), (0.0, 1.0)) for _ in range(4)),
    )
    saved = merge(chosen, {"square": (16.0, 16.0, 32.0), "countdown": 30.0})
    saved = replace(saved, neutral=pose)
    with session(saved, engine, frames=3) as running:
        running.run()
        # Half the side in the old crop is a quarter in one twice as large, and it began without a countdown.
        initial = running.animator.retargeter.initial
        assert np.abs(initial.points - points * 0.5).max() < 0.02
        assert running.animator.framing.square == Square(0, 0, 64)


def test_a_pose_of_another_model_is_not_taken(chosen, engine):
    said = []
    other = replace(chosen, neutral=NeutralPose(reuse=True, of_model="other", points=((0.0, 0.0),)))
    with Session(other, engine, frames=2, keyboard=False, notify=said.append) as running:
        running.run()
    assert any("no neutral pose" in sentence for sentence in said)


def test_it_listens_to_a_script(chosen, engine):
    chosen = merge(chosen, {"enabled": True, "port": 0})
    with session(chosen, engine) as running:
        thread = threading.Thread(target=running.live.run)
        thread.start()
        try:
            port, token = control.running_port(), control.control_token()

            def ask(path, body=None):
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}{path}",
                    data=json.dumps(body).encode() if body is not None else None,
                    headers={"Authorization": f"Bearer {token}"},
                )
                return json.loads(urllib.request.urlopen(request, timeout=10).read())

            ask("/avatar", {"name": "b"})
            ask("/set", {"strength": 0.5})
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                state = ask("/state")
                if state["avatar"] == "b.png" and state["sliders"]["strength"] == 0.5:
                    break
                time.sleep(0.05)
            assert state["avatar"] == "b.png" and state["sliders"]["strength"] == 0.5
            ask("/do/quit", {})
            thread.join(20)
            assert not thread.is_alive()
        finally:
            running.live.stop()
            thread.join(20)


def test_several_outputs_beside_each_other(chosen, engine, tmp_path):
    class Kept(Output):
        name = "kept"

        def __init__(self):
            self.shapes = set()

        def write(self, picture, time, duration=None):
            self.shapes.add(picture.shape)

    kept = Kept()
    chosen = merge(chosen, {"outputs": ("none", str(tmp_path / "out.mp4"), str(tmp_path / "frames"))})
    with session(chosen, engine, outputs=[kept], frames=10) as running:
        running.run()
    assert kept.shapes == {(96, 160, 3)}
    assert (tmp_path / "out.mp4").stat().st_size > 0 and len(list((tmp_path / "frames").iterdir())) >= 10
    assert [state.failed for state in running.fanout.states()] == [None] * 4


def test_what_was_opened_is_released_when_something_cannot_be(chosen, engine):
    threads = threading.active_count()
    chosen = merge(chosen, {"outputs": ("none", "nowhere/out.mp4")})
    with pytest.raises(UserError, match="nowhere"):
        session(chosen, engine)
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_virtual_cameras_among_the_outputs():
    assert own_cameras(("window", "none", "virtual:/dev/video9")) == ("/dev/video9",)


def test_the_command_remembers_when_asked(livepuppet, chosen, engine):
    arguments = ["run", "--model", engine._folder, "--profile", "test", "--size", "160x96"]
    arguments += ["--avatar", chosen.avatar.avatar, "--driving", chosen.source.driving]
    arguments += ["--output", "none", "--crop", "full", "--frames", "3", "--no-control", "--countdown", "0"]
    for remember, known in (("--no-remember", False), ("--remember", True)):
        result = livepuppet(*arguments, remember)
        assert result.returncode == 0, result.stderr
        assert ("test" in settings.profiles()) is known
    kept = settings.load("test")
    assert kept.avatar.avatar == chosen.avatar.avatar and kept.picture.size == "160x96"
    assert kept.neutral.of_model == "tiny"
    # What was only meant for this run is not kept.
    assert kept.motion.countdown == Settings().motion.countdown and kept.output.outputs == ("window",)
