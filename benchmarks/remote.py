"""What it costs to have pictures drawn by another machine: here by another process of this one, through all of the network's layers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.painter import Address, RemotePainter

#: Seconds that the other process may take to begin, and to have the avatar ready.
PATIENCE = 120.0

#: Frames at the beginning that do not count.
SKIP = 15

HEADING = (
    "| drawn | frames | p50 / p95 / p99 ms | bytes up per frame | kbit/s down |",
    "|---|--:|--:|--:|--:|",
)


@contextmanager
def served() -> Iterator[Address]:
    """A `livepuppet serve` of its own. Raises UserError where it does not begin."""
    command = [sys.executable, "-m", "livepuppet", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "--server" in line:
                yield Address.of(line.split("'")[1])
                break
        else:
            raise UserError("livepuppet serve did not start: run it by hand to see why.")
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def beside_local(engine: Engine, seconds: float, rate: float, size: tuple[int, int]) -> list[dict]:
    """Frames of the bundled clip, drawn here and there in turns, at a steady rate.

    Returns:
        Rows for `here`, `there`, and `there, at rest`, where nothing is drawn: what the way alone takes.
    """
    with served() as address:
        painter = RemotePainter(address, engine.model_name)
        here = Animator(bundled.AVATAR, engine=engine, size=size)
        there = Animator(bundled.AVATAR, engine=RemoteEngine(engine, painter), size=size)
        try:
            return _measured(here, there, painter, seconds, rate)
        finally:
            painter.close()


def _measured(
    here: Animator, there: Animator, painter: RemotePainter, seconds: float, rate: float
) -> list[dict]:
    frames = [frame.image for frame in open_video(bundled.DRIVING)]
    began = time.perf_counter()
    while not painter.delay.count:
        if time.perf_counter() - began > PATIENCE:
            raise UserError(f"No picture came ({painter.trouble}).")
        there(frames[0])
    there.reset()
    rows = []
    spent = {"here": Durations(), "there": Durations(), "there, at rest": Durations()}
    sent = painter.bytes_up, painter.bytes_down, painter.frames
    picture, number, due = here(frames[0]), 0, time.perf_counter()
    while number < SKIP or number < seconds * rate:
        frame, number = frames[number % len(frames)], number + 1
        there.resting = number % 4 == 0
        plans = here.plan(frame, number / rate), there.plan(frame, number / rate)
        for animator, plan in ((here, plans[0]), (there, plans[1])):
            began = time.perf_counter()
            animator.paint(plan, picture)
            kind = "here" if animator is here else ("there, at rest" if there.resting else "there")
            if number > SKIP:
                spent[kind].add(time.perf_counter() - began)
        due = max(due + 1 / rate, time.perf_counter())
        time.sleep(max(due - time.perf_counter(), 0))
    up, down, count = painter.bytes_up - sent[0], painter.bytes_down - sent[1], painter.frames - sent[2]
    for kind, durations in spent.items():
        row = {"kind": kind, "frames": durations.count, "ms": durations.summary()}
        if kind == "there":
            row |= {"bytes_up": round(up / count, 1), "kbit_down": round(down / count * rate * 8 / 1000)}
        rows.append(row)
    return rows


def line(row: dict) -> str:
    """A row of the Markdown table."""
    spread = " / ".join(f"{row['ms'][f'p{percent}']:.1f}" for percent in (50, 95, 99))
    return f"| {row['kind']} | {row['frames']} | {spread} | {row.get('bytes_up', '–')} | {row.get('kbit_down', '–')} |"
