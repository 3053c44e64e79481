"""Buffers with leases, and outputs that neither wait for one another nor stop one another."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from livepuppet.core.errors import UserError
from livepuppet.realtime.outputs import fanout as fanout_module
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.fanout import Fanout, close_all
from livepuppet.realtime.outputs.pool import FramePool

SHAPE = (4, 6, 3)


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


class Kept(Output):
    """Keeps what it gets; waits in `write` until let through."""

    def __init__(self, name="kept", open_gate=True, queue=1):
        self.name, self.queue = name, queue
        self.levels, self.times, self.began = [], [], []
        self.repeats = self.closed = self.reopened = 0
        self.gate = threading.Event()
        self.inside = threading.Event()
        self.fail: Exception | None = None
        if open_gate:
            self.gate.set()

    def begins(self, at):
        self.began.append(at)

    def write(self, picture, time, duration=None):
        self.inside.set()
        self.gate.wait(20)
        if self.fail is not None:
            raise self.fail
        assert len(np.unique(picture)) == 1
        self.levels.append(int(picture[0, 0, 0]))
        self.shape = picture.shape
        self.times.append(time)

    def repeat(self):
        if self.fail is not None:
            raise self.fail
        self.repeats += 1
        return True

    def reopen(self):
        if self.fail is not None:
            raise self.fail
        self.reopened += 1

    def close(self):
        self.closed += 1


def submit(fanout, pool, level, captured=0.0):
    lease = pool.take()
    lease.picture[:] = level
    fanout.submit(lease, Fraction(level, 10), captured)
    lease.release()


def test_a_buffer_is_used_again_once_nobody_holds_it():
    pool = FramePool(SHAPE)
    lease = pool.take()
    picture = lease.picture
    assert picture.shape == SHAPE and picture.dtype == np.uint8
    lease.hold()
    lease.release()
    assert pool.take().picture is not picture and pool.held == 2
    lease.release()
    assert pool.held == 1
    with pytest.raises(RuntimeError, match="released"):
        _ = lease.picture
    assert pool.take().picture is picture and pool.made == 2


def test_a_lease_is_not_used_after_its_release():
    lease = FramePool(SHAPE).take()
    lease.release()
    with pytest.raises(RuntimeError, match="released"):
        lease.release()
    with pytest.raises(RuntimeError, match="released"):
        lease.hold()


def test_a_slow_output_gets_the_newest_and_holds_up_nobody():
    slow, quick, pool = Kept("slow", open_gate=False), Kept("quick"), FramePool(SHAPE)
    fanout = Fanout([slow, quick])
    submit(fanout, pool, 1)
    slow.inside.wait(10)
    wait_for(lambda: quick.levels == [1])
    for level in range(2, 8):
        submit(fanout, pool, level)
        wait_for(lambda level=level: level in quick.levels)
    assert slow.levels == []
    slow.gate.set()
    wait_for(lambda: len(slow.levels) == 2)
    fanout.close()
    # What it was busy with was not overwritten; of the others only the last was kept.
    assert slow.levels == [1, 7] and quick.levels == list(range(1, 8))
    states = fanout.states()
    assert [(state.name, state.written, state.skipped) for state in states] == [
        ("slow", 2, 5),
        ("quick", 7, 0),
    ]
    assert pool.held == 0 and pool.made <= 4
    assert slow.closed == quick.closed == 1


def test_a_recording_keeps_pictures_it_is_late_for():
    slow, pool = Kept("recording", open_gate=False, queue=4), FramePool(SHAPE)
    fanout = Fanout([slow])
    submit(fanout, pool, 0)
    slow.inside.wait(10)
    for level in range(1, 7):
        submit(fanout, pool, level)
    threading.Timer(0.1, slow.gate.set).start()
    # What waits is written before it is closed.
    fanout.close()
    assert slow.levels == [0, 3, 4, 5, 6] and slow.times[-1] == Fraction(6, 10)
    assert fanout.states()[0].skipped == 2 and pool.held == 0


def test_delay_runs_from_the_capture_to_the_end_of_the_write():
    output, pool = Kept(), FramePool(SHAPE)
    fanout = Fanout([output])
    submit(fanout, pool, 1, time.perf_counter() - 5)
    wait_for(lambda: output.levels == [1])
    submit(fanout, pool, 2, None)
    wait_for(lambda: output.levels == [1, 2])
    fanout.close()
    state = fanout.states()[0]
    # A picture that shows no driving frame has no delay.
    assert 5000 <= state.delay_ms["max"] < 60_000 and state.delay_ms["p50"] > 4900
    assert state.as_dict()["written"] == 2


def test_an_output_learns_when_time_0_was():
    output, pool = Kept(), FramePool(SHAPE)
    fanout = Fanout([output])
    submit(fanout, pool, 20, 102.0)
    wait_for(lambda: output.levels == [20])
    submit(fanout, pool, 30, 103.5)
    wait_for(lambda: output.levels == [20, 30])
    fanout.close()
    assert output.began == [100.0]


def test_a_failing_output_is_said_once_closed_and_stops_nobody():
    bad, good, said, pool = Kept("bad"), Kept("good"), [], FramePool(SHAPE)
    bad.fail = UserError("The disk is full: free some space.")
    fanout = Fanout([bad, good], said.append)
    for level in range(5):
        submit(fanout, pool, level)
        wait_for(lambda level=level: level in good.levels)
    wait_for(lambda: bad.closed)
    submit(fanout, pool, 9)
    wait_for(lambda: 9 in good.levels)
    fanout.close()
    assert said == ["The disk is full: free some space."]
    state = fanout.states()[0]
    assert state.failed == said[0] and state.failures == 1 and state.written == 0 and state.lost >= 1
    assert state.lost + state.failures + state.skipped == 6
    assert bad.closed == 1 and pool.held == 0 and fanout.states()[1].failed is None


def test_an_output_that_can_come_back_does():
    output, said, pool = Kept("camera"), [], FramePool(SHAPE)
    output.retry = 0.01
    output.fail = UserError("The camera is gone.")
    fanout = Fanout([output], said.append)
    submit(fanout, pool, 1)
    wait_for(lambda: fanout.states()[0].failed)
    submit(fanout, pool, 2)
    output.fail = None
    wait_for(lambda: output.reopened)
    wait_for(lambda: fanout.states()[0].failed is None)
    submit(fanout, pool, 3)
    wait_for(lambda: output.levels == [3])
    fanout.close()
    assert said == ["The camera is gone.", "The output camera is back."]
    assert fanout.states()[0].lost == 1 and output.closed == 1 and pool.held == 0


def test_an_unforeseen_error_costs_one_picture(monkeypatch):
    monkeypatch.setattr(fanout_module, "MOST_FAILURES", 3)
    output, said, pool = Kept("odd"), [], FramePool(SHAPE)
    output.fail = ZeroDivisionError("by zero")
    fanout = Fanout([output], said.append)
    for count in (1, 2):
        submit(fanout, pool, 0)
        wait_for(lambda count=count: fanout.states()[0].failures == count)
    assert len(said) == 1 and "ZeroDivisionError" in said[0] and not output.closed
    output.fail = None
    submit(fanout, pool, 5)
    wait_for(lambda: output.levels == [5])
    output.fail = ZeroDivisionError("by zero")
    for count in (3, 4, 5):
        submit(fanout, pool, 0)
        wait_for(lambda count=count: fanout.states()[0].failures == count)
    wait_for(lambda: output.closed)
    fanout.close()
    assert "was closed" in fanout.states()[0].failed


def test_the_last_picture_is_sent_again_where_readers_expect_a_rate():
    output, pool = Kept(), FramePool(SHAPE)
    output.interval = 0.01
    fanout = Fanout([output])
    wait_for(lambda: output.repeats >= 2)
    submit(fanout, pool, 1)
    wait_for(lambda: output.levels == [1])
    before = output.repeats
    wait_for(lambda: output.repeats >= before + 3)
    fanout.close()
    assert fanout.states()[0].repeated == output.repeats and fanout.states()[0].written == 1


def test_no_repetition_where_nobody_minds():
    output = Kept()
    fanout = Fanout([output])
    time.sleep(0.1)
    fanout.close()
    assert output.repeats == 0


def test_alpha_goes_to_those_who_take_it_and_over_black_to_the_rest():
    with_alpha, without, third = Kept("with"), Kept("without"), Kept("third")
    with_alpha.takes_alpha = True
    pool = FramePool((4, 6, 4))
    fanout = Fanout([with_alpha, without, third])
    for _ in range(3):
        lease = pool.take()
        lease.picture[:] = 128
        fanout.submit(lease, Fraction(0), None)
        lease.release()
        wait_for(lambda: pool.held == 0)
    fanout.close()
    assert with_alpha.shape == (4, 6, 4) and with_alpha.levels == [128] * 3
    assert without.shape == (4, 6, 3) and without.levels == third.levels == [64] * 3


def test_closing_leaves_one_that_hangs_and_closes_the_others(monkeypatch):
    monkeypatch.setattr(fanout_module, "CLOSING_PATIENCE", 0.05)
    hanging, good, pool = Kept("hanging", open_gate=False), Kept("good"), FramePool(SHAPE)
    fanout = Fanout([hanging, good])
    submit(fanout, pool, 1)
    hanging.inside.wait(10)
    with pytest.raises(UserError, match="hanging hangs"):
        fanout.close()
    assert good.closed == 1 and not hanging.closed
    hanging.gate.set()
    # Now that it goes on, it can be closed; nothing is submitted any more.
    wait_for(lambda: hanging.levels == [1])
    fanout.close()
    assert hanging.closed == 1 and good.closed == 1
    submit(fanout, pool, 2)
    assert pool.held == 0


def test_all_are_closed_before_the_first_error_comes_out():
    outputs = [Kept("a"), Kept("b"), Kept("c")]

    def fail():
        raise UserError("b could not be finished")

    outputs[1].close = fail
    with pytest.raises(UserError, match="b could not be finished"):
        Fanout(outputs).close()
    assert outputs[0].closed == outputs[2].closed == 1
    with pytest.raises(UserError, match="b could not be finished"):
        close_all(outputs)
    assert outputs[0].closed == outputs[2].closed == 2


def test_outputs_come_and_go_while_pictures_flow():
    pool, first, later = FramePool(SHAPE), Kept("first"), Kept("later")
    fanout = Fanout([first])
    submit(fanout, pool, 1)
    fanout.add(later)
    wait_for(lambda: first.levels == [1])
    submit(fanout, pool, 2)
    wait_for(lambda: later.levels == [2] and fanout.state_of(later).written == 1)
    fanout.remove(later)
    fanout.remove(later)
    assert later.closed == 1 and fanout.state_of(later) is None and len(fanout) == 1
    submit(fanout, pool, 3)
    wait_for(lambda: first.levels[-1] == 3)
    fanout.close()
    assert later.levels == [2] and not pool.held
