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
from livepuppet.realtime.app.load import DETAIL, STEPS, STEPS_FAST, Effort, LoadControl
from livepuppet.realtime.app.power import BATTERY, PowerWatch

INTERVAL = 1 / 30

#: Milliseconds of a core, by level: of decoding; of planning; of painting.
DECODING, PLANNING, PAINTING = 7.0, (10.5, 9.0, 9.0), (15.5, 15.5, 11.0)

#: The same where full quality takes longer than anybody expects.
DEAR = (24.0, 9.0, 9.0)

#: Everything takes so much longer beside a process that wants a core: too long for all of it, for one step less, for two.
GUESTS = {"small": 1.33, "usual": 1.45, "large": 2.0}


class Machine:
    """A camera, a computer, and the control that judges what comes out. Newest frames win, and nothing queues.

    Args:
        overlaps: one frame is planned while another is painted.
        cold: frames take so many times as long in the half second after a change of level.
        cores: of the computer, where it tells how long they are idle.
        contended: how many times as long frames take that are planned while others are painted.
    """

    def __init__(
        self,
        overlaps: bool = False,
        interval: float = INTERVAL,
        unsteady: float = 0.06,
        cold: float = 1.0,
        cores: int | None = None,
        contended: float = 1.0,
    ):
        self.overlaps, self.interval, self.cores = overlaps, interval, cores
        self.control = LoadControl(lambda: None if cores is None else self.idle)
        #: Cores that a guest keeps busy, and seconds of all cores in which there was nothing to do.
        self.guest, self.idle = 0, 0.0
        self.cold, self.changed, self.contended = cold, -1.0, contended
        self.planning = PLANNING
        self.noise = np.random.default_rng(0).lognormal(0, unsteady, 4096)
        self.number = self.dropped = 0
        self.free = 0.0
        self.levels: list[int] = []
        self.delays: list[float] = []

    def run(self, seconds: float, stretch: float = 1.0) -> list[int]:
        """So long, while everything takes `stretch` times as long as its work.

        Returns:
            Levels, without repetitions.
        """
        begin, end = len(self.levels), self.number + round(seconds / self.interval)
        while self.number < end:
            start = max(self.free, self._decoded(self.number, stretch))
            while self._decoded(self.number + self.control.every, stretch) <= start:
                self.number, self.dropped = self.number + self.control.every, self.dropped + 1
            names = [step.name for step in self.control.steps[: self.control.level]]
            busy = 1e-3 * stretch * self.noise[self.number % len(self.noise)]
            if self.levels[-2:-1] not in ([], self.levels[-1:]):
                self.changed = start
            if start - self.changed < 0.5 and self.changed > 0:
                busy *= self.cold
            if self.control.every == 1:
                busy *= self.contended
            planning = self.planning["close-ups" in names] * busy
            painting = PAINTING[2 * ("detail" in names)] * busy
            core = None if self.cores is None else (planning + painting) / stretch
            effort = Effort(planning, painting, self.overlaps, core)
            self.free = start + effort.period
            if self.cores is not None:
                passed = self.control.every * self.interval
                self.idle += max((self.cores - self.guest) * passed - (planning + painting) / stretch, 0)
            captured = self.number * self.interval
            delay = start + effort.seconds - captured
            self.delays.append(delay)
            self.levels.append(self.control.add(captured, delay, self.dropped, self.interval, effort))
            self.number += self.control.every
        found = self.levels[begin:]
        return [level for index, level in enumerate(found) if not index or found[index - 1] != level]

    def _decoded(self, number: int, stretch: float) -> float:
        return number * self.interval + 1e-3 * DECODING * stretch


@pytest.mark.parametrize("overlaps", [False, True])
def test_all_is_well(overlaps):
    assert Machine(overlaps).run(100) == [0]


@pytest.mark.parametrize("stretch", [2.0, 4.0])
def test_late_and_dropped_frames_step_down_one_by_one_and_no_further(stretch):
    assert Machine().run(20, stretch) == [0, 1, 2] and len(STEPS) == 2


def test_single_late_frames_are_none_of_its_business():
    machine = Machine()
    for _ in range(20):
        machine.run(2.0)
        machine.run(0.06, 3.0)
    assert set(machine.levels) == {0}


@pytest.mark.parametrize("unsteady", [0.0, 0.06, 0.15])
def test_steps_are_taken_back_within_seconds_after_the_guest_has_left(unsteady):
    machine = Machine(unsteady=unsteady)
    assert machine.run(20, GUESTS["usual"])[-1] == 2
    assert machine.run(2 * load.WINDOW * (load.CALM + 1)) == [2, 1, 0]
    assert machine.run(60) == [0]


@pytest.mark.parametrize(("guest", "levels"), [("small", {1}), ("usual", {2}), ("large", {2})])
def test_what_would_not_fit_is_not_tried_while_the_guest_stays(guest, levels):
    machine = Machine()
    machine.run(10, GUESTS[guest])
    assert set(machine.run(120, GUESTS[guest])) == levels


def test_with_a_step_left_out_frames_are_in_time():
    machine = Machine()
    machine.run(10, GUESTS["usual"])
    machine.delays.clear()
    machine.run(60, GUESTS["usual"])
    assert np.percentile(machine.delays, 95) < 2 * INTERVAL


def test_a_process_that_comes_and_goes_every_20_seconds():
    machine, full = Machine(), []
    for _ in range(6):
        machine.run(20, GUESTS["usual"])
        assert machine.control.level
        machine.run(20)
        assert not machine.control.level
        full.append(np.mean(np.array(machine.levels) == 0))
    # Of the time without it, more than half is at full quality, to the end.
    assert full[-1] > 0.3 and full[-1] > 0.8 * full[1]


@pytest.mark.parametrize("away", [9, 10, 12, 14])
@pytest.mark.parametrize("guest", GUESTS)
def test_a_guest_that_comes_soon_after_a_step_was_taken_back_is_no_reason_to_wait_longer(guest, away):
    """Seen in a soak: the guest came within `REGRETTED` windows, and from then on steps waited longer than it was away."""
    machine = Machine()
    for _ in range(8):
        machine.run(20, GUESTS[guest])
        before = machine.control.level
        assert before
        machine.run(away)
        assert machine.control.level < before
    assert machine.control._needed == [load.CALM] * len(STEPS)


def test_a_start_that_stalls_is_no_load():
    """A rig is waited for, once, in the first second."""
    machine = Machine()
    machine.run(0.3)
    machine.control.add(machine.number / 30, 1.6, 45, INTERVAL, Effort(1.57, 0.03, True))
    machine.number, machine.dropped, machine.free = machine.number + 46, 45, 0.0
    assert machine.run(20) == [0]


def test_pictures_that_are_cold_after_a_step_are_no_reason_to_regret_it():
    """Seen at 1080p beside a process that comes and goes: steps that were taken back were taken again for the few
    late frames right after, and from then on waited longer than the process was away.
    """
    machine = Machine(overlaps=True, unsteady=0.1, cold=2.2)
    for _ in range(4):
        assert machine.run(20, 1.6 * GUESTS["usual"])[-1] == 2
        machine.run(12, 1.6)
        assert machine.run(8, 1.6) == [0]


def test_steps_come_back_on_a_computer_that_is_only_just_fast_enough():
    """Full quality keeps the painting thread busy for most of a frame's time, and some frames are late."""
    machine = Machine(overlaps=True, unsteady=0.15)
    for _ in range(4):
        assert machine.run(20, 1.6 * GUESTS["usual"])[-1] == 2
        assert machine.run(20, 1.6)[-1] == 0


def test_what_was_measured_beside_a_guest_says_nothing_of_the_time_without_it():
    """It comes while all is well, grows, and goes: what full quality took then was measured at its worst."""
    machine = Machine()
    machine.run(10)
    for stretch in (1.2, 1.6, 2.5, 4.0):
        machine.run(4, stretch)
    assert machine.control.level == 2
    assert machine.run(2 * load.WINDOW * (load.CALM + 1)) == [2, 1, 0]


def test_going_up_in_vain_waits_longer_each_time_and_not_once_there_is_more_time():
    machine = Machine()
    machine.planning = DEAR
    machine.run(10)
    assert machine.control.level == 1
    machine.run(300)
    up = np.flatnonzero(np.diff(machine.levels) < 0)
    waits = np.diff(up) * INTERVAL
    assert len(up) >= 4 and waits[-1] > 2 * waits[0] and machine.control._needed[0] <= load.MOST_CALM
    # Now the same picture takes less, as with a smaller avatar.
    while machine.control.level == 0:
        machine.run(load.WINDOW)
    machine.planning = PLANNING
    machine.run(load.WINDOW * (load.CALM + 1), 0.75)
    assert machine.control.level == 0
    # And all is forgotten once it went well.
    machine.run(load.WINDOW * (load.REGRETTED + 1), 0.75)
    assert machine.control._needed == [load.CALM] * len(STEPS)


def test_without_a_known_rate_nothing_is_judged():
    control, effort = LoadControl(), Effort(0.5, 0.5, False)
    assert {control.add(at / 30, 1.0, 0, None, effort) for at in range(300)} == {0}


def test_what_was_before_a_pause_does_not_count():
    machine = Machine()
    machine.run(0.4, 3.0)
    machine.control.restart()
    assert machine.run(0.4, 3.0) == [0] and machine.run(1.0, 3.0) == [0, 1]


def test_a_window_ends_once_it_is_lost():
    """At 60 frames a second beside a guest, half a second of late frames is enough to know."""
    machine = Machine(overlaps=True, interval=1 / 60)
    assert machine.run(0.8, 2.0) == [0, 1]
    assert machine.control.steps[0].name == "rate"


#: On this computer all frames of a camera of 60 a second are in time while one is planned and another painted, and half of them
#: where both share a core.
QUICK = 0.8


def test_of_a_fast_camera_every_other_frame_is_left_out_first():
    machine = Machine(interval=1 / 60)
    assert machine.run(6, QUICK) == [0, 1] and machine.control.every == 2
    machine.delays.clear()
    assert machine.run(20, QUICK) == [1]
    assert np.percentile(machine.delays, 95) < 2 / 60


def test_the_rate_is_tried_again_only_once_a_core_is_idle():
    """Beside a guest half the frames take no longer than without it, since none is planned while another is painted."""
    machine = Machine(overlaps=False, interval=1 / 60, cores=2)
    machine.guest = 1
    machine.run(6, QUICK)
    machine.overlaps = True
    assert machine.run(60, QUICK) == [1]
    machine.guest = 0
    assert machine.run(load.WINDOW * (load.CALM + 1), QUICK) == [1, 0]
    assert machine.run(60, QUICK) == [0]


def test_a_fast_camera_is_shown_whole_where_nobody_notices_its_delay():
    machine = Machine(overlaps=True, interval=1 / 60)
    assert machine.run(60, 0.95) == [0]
    assert 2 / 60 < np.percentile(machine.delays, 90) < load.NOTICED


def test_a_rate_that_would_not_fit_is_not_tried_again():
    machine = Machine(overlaps=True, interval=1 / 60, cores=2, contended=1.25)
    assert machine.run(10, 0.95) == [0, 1]
    assert machine.run(120, 0.95) == [1]
    # What takes less fits.
    assert machine.run(load.WINDOW * (load.CALM + 1), 0.75) == [1, 0]
    assert machine.run(60, 0.75) == [0]


def test_another_camera_has_other_steps():
    machine = Machine(interval=1 / 60)
    assert machine.run(6, QUICK)[-1] == 1
    machine.interval, machine.number = 1 / 30, machine.number // 2
    machine.control.restart()
    machine.run(3)
    assert machine.control.steps == STEPS and machine.control.level == 0


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


def test_of_a_fast_camera_every_other_frame_is_looked_at_closely():
    session, _ = live([red_picture(100, SIZE)] * 3)
    finish(session)
    for steps, rate, level, looks in (
        *((STEPS, 30.0, 0, 1), (STEPS, 30.0, 1, 2)),
        *((STEPS_FAST, 60.0, 0, 2), (STEPS_FAST, 60.0, 1, 1), (STEPS_FAST, 60.0, 2, 2)),
    ):
        session._camera_rate, session._steps, session._level = rate, steps, level
        assert session._look_every == looks


def test_rigs_are_drawn_at_less_resolution_and_back():
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
    compositor.detail = DETAIL
    end = time.monotonic() + 60
    while compositor.rig(prepared.avatar, prepared.face).shape[0] == 160 and time.monotonic() < end:
        time.sleep(0.02)  # the old one is drawn until the new one is made
    less = animator.plan(frames[1], 0.1)
    assert less.drawing.rig.shape == (96, 96, 3)
    soft = animator.paint(less).image.astype(int)
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
    for level, every, detail in ((1, 2, 1.0), (2, 2, DETAIL), (1, 2, 1.0), (0, 1, 1.0)):
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
