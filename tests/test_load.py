"""Quality steps down before time does, and up again: by frames' own times, without a clock."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from media import red_picture
from test_loop import SIZE, animator_of, finish, live, pressed

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import (
    ANCHORS,
    EYE_NUMBERS,
    HEAD_AMOUNTS,
    HEAD_NUMBERS,
    MOUTH_NUMBERS,
    FaceReading,
)
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator, _carried
from livepuppet.realtime.app import load
from livepuppet.realtime.app.load import STEPS, LoadControl
from livepuppet.realtime.app.power import BATTERY, PowerWatch

INTERVAL = 1 / 30


class Camera:
    """Frames of a camera, and the control that judges them."""

    def __init__(self):
        self.control, self.now, self.dropped = LoadControl(), 0.0, 0
        self.levels: list[int] = []

    def run(self, windows: float, delay: float, every: int = 1) -> list[int]:
        """So many windows in which frames take `delay` intervals, and all but each `every`th is dropped.

        Returns:
            Levels, without repetitions.
        """
        begin = len(self.levels)
        frames = round(windows * load.WINDOW / INTERVAL)
        for number in range(frames):
            self.now += INTERVAL
            if number % every:
                self.dropped += 1
                continue
            self.levels.append(self.control.add(self.now, delay * INTERVAL, self.dropped, INTERVAL))
        found = self.levels[begin:]
        return [level for index, level in enumerate(found) if not index or found[index - 1] != level]


def test_all_is_well():
    camera = Camera()
    assert camera.run(50, 0.9) == [0]


@pytest.mark.parametrize(("delay", "every"), [(2.5, 1), (1.0, 2)])
def test_late_or_dropped_frames_step_down_one_by_one_and_no_further(delay, every):
    assert Camera().run(20, delay, every) == [0, 1, 2] and len(STEPS) == 2


def test_single_late_frames_are_none_of_its_business():
    camera = Camera()
    for _ in range(40):
        assert camera.run(0.5, 0.9) == [0]
        camera.run(0.02, 3.0)
    assert camera.levels[-1] == 0


def test_steps_are_taken_back_when_there_is_room():
    camera = Camera()
    camera.run(6, 3.0)
    # Less than late is not yet room.
    assert camera.run(20, 1.8) == [2]
    assert camera.run(20, 0.8) == [2, 1, 0]


def test_going_up_too_soon_is_learnt_from():
    camera = Camera()
    camera.run(1.5, 3.0)
    assert camera.control.level == 1
    ups = []
    for _ in range(5):
        # One step down there is room, without it there is none.
        windows = 0
        while camera.control.level and windows < 200:
            camera.run(1, 0.8)
            windows += 1
        ups.append(windows)
        while not camera.control.level:
            camera.run(1, 3.0)
    assert ups == sorted(ups) and ups[0] <= 3 * load.CALM and ups[-1] > 8 * load.CALM
    # And forgotten after long calm.
    camera.run(2 * load.MOST_CALM + 80, 0.8)
    assert camera.control.level == 0 and camera.control._needed == load.CALM


def test_a_process_that_comes_and_goes_every_20_seconds():
    camera = Camera()
    seen = []
    for _ in range(6):
        for busy in (True, False):
            for _ in range(10):
                slow = (
                    (2.4, 1.6, 0.9)[camera.control.level] if busy else (0.9, 0.7, 0.5)[camera.control.level]
                )
                camera.run(1, slow)
            seen.append(camera.control.level)
    # While it is there, frames are in time; in between all is drawn.
    late = [level for level in seen[::2] if level == 0]
    assert not late and 0 in seen[1::2]


def test_without_a_known_rate_nothing_is_judged():
    control = LoadControl()
    assert {control.add(at / 30, 1.0, 0, None) for at in range(300)} == {0}


def test_what_was_before_a_pause_does_not_count():
    camera = Camera()
    camera.run(0.9, 3.0)
    camera.control.restart()
    assert camera.run(0.9, 3.0) == [0] and camera.run(0.5, 3.0) == [0, 1]


# What the steps do


def reading(level: float, anchors: np.ndarray) -> FaceReading:
    numbers = (2, EYE_NUMBERS), (MOUTH_NUMBERS,), (HEAD_NUMBERS,)
    return FaceReading(*(np.full(shape, level, np.float32) for shape in numbers), anchors)


def test_what_a_look_told_goes_along_with_the_face():
    generator = np.random.default_rng(0)
    points = generator.normal(0, 0.3, (22, 2)).astype(np.float32)
    anchors = generator.normal(0, 0.3, (len(ANCHORS), 2)).astype(np.float32)
    jacobians = np.tile(np.eye(2, dtype=np.float32), (22, 1, 1))
    angle, scale, shift = 0.2, 1.1, np.float32([0.1, -0.05])
    turn = np.float32([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    before = Keypoints(points, jacobians, reading=reading(0.3, anchors))
    carried = _carried(before, scale * points @ turn + shift)
    assert np.allclose(carried.anchors, scale * anchors @ turn + shift, atol=1e-5)
    assert carried.head[HEAD_AMOUNTS.index("roll")] == pytest.approx(0.5, abs=1e-5)
    assert np.array_equal(carried.mouth, before.reading.mouth)
    assert np.allclose(_carried(before, points).anchors, anchors, atol=1e-6)


def test_eyes_and_mouth_are_looked_at_in_every_second_frame():
    animator, looks = animator_of(), []

    def looks_closer(image, square, driving):
        looks.append(1)
        anchors = np.zeros((len(ANCHORS), 2), np.float32)
        return Keypoints(driving.points, driving.jacobians, reading=reading(len(looks) / 10, anchors))

    animator.look_closer = looks_closer

    def told(frames):
        plans = [animator.plan(red_picture(100, SIZE)) for _ in range(frames)]
        return [round(10 * float(plan.driving.reading.mouth[0])) for plan in plans]

    assert told(3) == [1, 2, 3]
    animator.look_every = 2
    assert told(5) == [3, 4, 4, 5, 5]
    animator.look_every = 1
    assert told(2) == [6, 7]


def test_rigs_are_drawn_at_half_resolution_and_back():
    animator = Animator(bundled.AVATAR, engine="onnx", threads=1, size=160)
    compositor = animator.compositor
    prepared = animator._prepared[0]
    # No head: what is drawn differs in the face alone.
    frames = [frame.image for frame in itertools.islice(open_video(bundled.DRIVING), 0, 12, 11)]

    def drawn():
        return animator.paint(plan).image.astype(int)

    animator.step(frames[0], 0.0)
    plan = animator.plan(frames[1], 0.1)
    whole = drawn()
    assert plan.drawing.rig.shape == (160, 160, 3)
    compositor.detail = 0.5
    end = time.monotonic() + 60
    while compositor.rig(prepared.avatar, prepared.face).shape[0] == 160 and time.monotonic() < end:
        time.sleep(0.02)  # the old one is drawn until the new one is made
    half = animator.plan(frames[1], 0.1)
    assert half.drawing.rig.shape == (80, 80, 3)
    soft = animator.paint(half).image.astype(int)
    assert soft.shape == whole.shape and 0.2 < np.abs(soft - whole).mean() < 6
    compositor.detail = 1.0
    assert compositor.rig(prepared.avatar, prepared.face) is plan.drawing.rig
    assert np.array_equal(drawn(), whole)


def test_the_loop_takes_steps_says_so_and_takes_them_back(monkeypatch):
    said = []
    session, _ = live([red_picture(100, SIZE)] * 3, said=said)
    finish(session)
    animator, compositor = session.animator, session.compositor
    monkeypatch.setattr(PowerWatch, "reason", lambda watch: BATTERY)
    for level, every, detail in ((1, 2, 1.0), (2, 2, 0.5), (1, 2, 1.0), (0, 1, 1.0)):
        session._load.level = level
        pressed(session)
        assert (animator.look_every, compositor.detail) == (every, detail)
        assert session.state()["reduced"] == [step.told for step in STEPS[:level]]
    busy, room = (
        [text for text in said if text.startswith(start)] for start in ("The computer is busy", "There is")
    )
    assert all(text.endswith(BATTERY) for text in busy)
    assert len(busy) == len(room) == 2 and STEPS[1].told in busy[1] and STEPS[1].ended in room[0]


def test_steps_are_counted_and_can_be_turned_off():
    session, _ = live([red_picture(100, SIZE)] * 4)
    session._load.level = 1
    stats = finish(session)
    assert stats.as_dict()["reduced"] == {"close-ups": stats.frames}
    assert "with reduced close-ups" in stats.sentence()
    session, _ = live([red_picture(100, SIZE)] * 4, adapt=False)
    assert finish(session).reduced == {} and session.reduced == ()
