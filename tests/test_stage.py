"""The live loop's two threads: a frame is begun just in time, and changes wait for what is being painted."""

from __future__ import annotations

import threading

import pytest
from media import red_picture
from test_loop import SIZE, RedEngine, finish, live

from livepuppet.realtime.app import stage as stage_module
from livepuppet.realtime.app.stage import Stage

#: Seconds after which a test that hangs fails.
PATIENCE = 20.0


class Held:
    """Work that is held up until it is let go."""

    def __init__(self):
        self.done, self.began, self.go = [], threading.Semaphore(0), threading.Event()

    def __call__(self, job):
        self.began.release()
        assert self.go.wait(PATIENCE)
        self.done.append(job)


class Clock:
    """Stands in for `time` until somebody moves it; threads get this share of a core."""

    def __init__(self, core=1.0):
        self.now, self.core = 0.0, core

    def perf_counter(self):
        return self.now

    def thread_time(self):
        return self.core * self.now


def test_a_job_is_prepared_just_in_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stage_module, "time", clock)
    work = Held()
    stage = Stage(work, "test")
    stage._core = 1.0
    assert stage.ready(lead=0.01, timeout=0)
    stage.put(1)
    assert work.began.acquire(timeout=PATIENCE)
    clock.now = 0.05  # so long it takes
    work.go.set()
    stage.drain()
    work.go.clear()
    stage.put(2)
    assert work.began.acquire(timeout=PATIENCE)
    # 50 ms are left of the one in hand, and 10 are needed.
    assert not stage.ready(lead=0.01, timeout=0)
    clock.now = 0.089
    assert not stage.ready(lead=0.01, timeout=0)
    clock.now = 0.091
    assert stage.ready(lead=0.01, timeout=0)
    stage.put(3)
    # It takes longer than usual, and one is prepared: no other is begun.
    clock.now = 0.2
    assert not stage.ready(lead=0.01, timeout=0)
    work.go.set()
    stage.drain()
    assert work.done == [1, 2, 3]
    stage.close()


def test_where_no_core_is_idle_nothing_is_prepared_beside(monkeypatch):
    clock = Clock(core=0.2)
    monkeypatch.setattr(stage_module, "time", clock)
    stage = Stage(lambda job: setattr(clock, "now", clock.now + 0.05), "test")
    for job in range(8):
        assert stage.ready(lead=0.04, timeout=0)
        stage.put(job)
        stage.drain()
    work = Held()
    stage._work = work
    stage.put(8)
    assert work.began.acquire(timeout=PATIENCE)
    clock.now += 0.045
    assert not stage.ready(lead=0.04, timeout=0)
    work.go.set()
    stage.drain()
    assert stage.ready(lead=0.04, timeout=0)
    # Room again.
    clock.core, stage._work = 1.0, lambda job: setattr(clock, "now", clock.now + 0.05)
    for job in range(8):
        stage.put(job)
        stage.drain()
    work = stage._work = Held()
    stage.put(9)
    assert work.began.acquire(timeout=PATIENCE)
    clock.now += 0.02
    assert stage.ready(lead=0.04, timeout=0)
    work.go.set()
    stage.close()


def test_closing_does_what_waits():
    work = Held()
    stage = Stage(work, "test")
    stage.put(1)
    assert work.began.acquire(timeout=PATIENCE)
    stage.put(2)
    work.go.set()
    stage.close()
    stage.close()
    assert work.done == [1, 2]
    # It can go on afterwards.
    stage.put(3)
    stage.drain()
    stage.close()
    assert work.done == [1, 2, 3]


@pytest.mark.parametrize("name", ["test", None])
def test_what_the_work_raises_is_heard_once(name):
    def work(job):
        raise KeyError(job)

    stage = Stage(work, name)
    with pytest.raises(KeyError, match="1"):
        stage.put(1)
        stage.drain()
    stage.drain()
    stage.close()


def test_without_a_thread_jobs_are_done_at_once():
    done = []
    stage = Stage(lambda job: done.append((job, threading.current_thread())), None)
    stage.put(1)
    stage.put(2)
    stage.drain()
    assert done == [(1, threading.current_thread()), (2, threading.current_thread())]


def test_a_face_is_read_while_the_frame_before_is_painted():
    class Counts(RedEngine):
        seen, third = 0, threading.Event()

        def detect(self, frame):
            if frame[..., 1].std() == 0:  # the driver's, not the avatar's
                self.seen += 1
                if self.seen == 3:
                    self.third.set()
            return super().detect(frame)

    engine = Counts()
    session, kept = live([red_picture(100, SIZE)] * 5, engine=engine, overlap=True)
    session._painting._core = 1.0
    paint, painted = session.animator.paint, []

    def waits(plan, out=None):
        if len(painted) == 1:
            assert engine.third.wait(PATIENCE)
        painted.append(threading.current_thread().name)
        return paint(plan, out)

    session.animator.paint = waits
    stats = finish(session)
    assert set(painted) == {"painting"} and stats.frames == len(kept.pictures)
    assert stats.captured == stats.frames + stats.dropped and not stats.errors


def test_an_avatar_is_changed_between_pictures_only():
    session, _ = live([red_picture(100, SIZE)] * 6, avatars=2, overlap=True)
    paint, select = session.animator.paint, session.animator.select
    painting, clashes = threading.Lock(), []

    def paints(plan, out=None):
        with painting:
            result = paint(plan, out)
            # The next frame is planned with another avatar wanted.
            session.post("select", "20" if session.animator.avatar.name == "0.png" else "0")
            return result

    def selects(which):
        clashes.append(painting.locked())
        select(which)

    session.animator.paint, session.animator.select = paints, selects
    stats = finish(session)
    assert not stats.errors and clashes and not any(clashes)


def test_with_one_core_there_is_one_thread(monkeypatch):
    monkeypatch.setattr("livepuppet.realtime.app.loop.usable_cores", lambda: 1)
    session, kept = live([red_picture(100, SIZE)] * 3)
    threads = []
    write = session.animator.paint
    session.animator.paint = lambda *given: (threads.append(threading.current_thread()), write(*given))[1]
    stats = finish(session)
    assert stats.frames == len(kept.pictures) == 3 and set(threads) == {threading.current_thread()}
