"""What it adds to have another machine render: here another process of this one, so that everything but the network is in it."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from livepuppet.benchmarks.latency import through_a_loopback
from livepuppet.core.durations import Durations
from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.engines import Engine, load_engine
from livepuppet.realtime.remote.connection import ServerAddress
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.renderer import RemoteRenderer

#: Seconds that a server may take to start, and to have the avatar ready.
PATIENCE = 120.0

#: Frames at the beginning that do not count.
SKIP = 15

#: JPEG quality of frames and pictures where JPEG goes both ways: OpenCV's own, as avatarify has it.
JPEG_QUALITY = 95

#: Length of a message.
_LENGTH = struct.Struct("<I")

HERE, REMOTE, JPEG = "here", "remote", "JPEG both ways"

STEP_HEADING = (
    "| rendered | frames | frame to picture p50 / p95 / p99 ms | bytes up a frame | bytes down a frame |",
    "|---|--:|--:|--:|--:|",
)
LIVE_HEADING = (
    "| rendered | frames | camera to output p50 / p95 / p99 ms | dropped |",
    "|---|--:|--:|--:|",
)


@contextmanager
def serving(port: int = 0) -> Iterator[ServerAddress]:
    """A `livepuppet serve` of its own, which is killed at the end. Raises UserError where it does not start."""
    with _process("livepuppet", "serve", "--port", str(port)) as lines:
        for line in lines:
            if "--server" in line:
                yield ServerAddress.parse(line.split("'")[1])
                return
    raise UserError("livepuppet serve did not start: run it by hand to see why.")


@contextmanager
def _process(*arguments: str) -> Iterator[Iterator[str]]:
    """A Python process of its own, and what it writes on standard error."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield iter(process.stderr)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def frame_to_picture(engine: Engine, seconds: float, rate: float, size: tuple[int, int]) -> list[dict]:
    """The bundled clip's frames, each of them rendered here, remotely, and with JPEG both ways, one after the other: whatever
    else the machine does meets all of them alike.

    Args:
        rate: frames per second, at most.
    """
    with serving() as address, jpeg_server(engine, size) as through_jpeg:
        renderer = RemoteRenderer(address, engine.model_name)
        try:
            here = Animator(bundled.AVATAR, engine=engine, size=size)
            remote = Animator(bundled.AVATAR, engine=RemoteEngine(engine, renderer), size=size)
            ways = {HERE: here, REMOTE: remote, JPEG: through_jpeg}
            return _in_turn(ways, renderer, seconds, rate)
        finally:
            renderer.close()


def _in_turn(
    ways: dict[str, Callable[[np.ndarray], np.ndarray]], renderer: RemoteRenderer, seconds: float, rate: float
) -> list[dict]:
    frames = [frame.image for frame in open_video(bundled.DRIVING)]
    began = time.perf_counter()
    while not renderer.delay.count:
        if time.perf_counter() - began > PATIENCE:
            raise UserError(f"No picture came ({renderer.problem}).")
        ways[REMOTE](frames[0])
    spent = {way: Durations() for way in ways}
    number, due = 0, time.perf_counter()

    def counted() -> tuple[int, int, int, int]:
        return renderer.bytes_up, renderer.bytes_down, renderer.frames, renderer.delay.count

    before = counted()
    end = due + seconds
    while number < 2 * SKIP or time.perf_counter() < end:
        frame, number = frames[number % len(frames)], number + 1
        for way, animate in ways.items():
            began = time.perf_counter()
            animate(frame)
            if number > SKIP:
                spent[way].add(time.perf_counter() - began)
        due = max(due + 1 / rate, time.perf_counter())
        time.sleep(max(due - time.perf_counter(), 0))
    up, down, sent, received = (int(now) - int(then) for now, then in zip(counted(), before, strict=True))
    sizes = {REMOTE: (up / max(sent, 1), down / max(received, 1)), JPEG: ways[JPEG].sizes}  # type: ignore[attr-defined]
    return [
        {
            "kind": f"{way}, frame to picture",
            "way": way,
            "frames": durations.count,
            "ms": durations.summary(),
            "bytes_up": round(sizes[way][0], 1) if way in sizes else None,
            "bytes_down": round(sizes[way][1]) if way in sizes else None,
        }
        for way, durations in spent.items()
    ]


def live(engine: Engine, seconds: float, rate: float, size: str) -> list[dict]:
    """The live loop from a simulated camera to an output whose far end is here, by a clock in the picture: see
    `latency.through_a_loopback`.
    """
    rows = []
    with serving() as address:
        for way in (HERE, REMOTE, HERE, REMOTE):
            machine = engine
            if way == REMOTE:
                machine = RemoteEngine(engine, RemoteRenderer(address, engine.model_name))
            figures = through_a_loopback(machine, seconds / 2, rate, size)
            row = {"kind": f"{way}, live", "way": way, **figures}
            if isinstance(machine, RemoteEngine):
                row["remote"] = machine.renderer.figures()
                machine.close()
            rows.append(row)
    return rows


def recoveries(engine: Engine, size: tuple[int, int], times: int = 3) -> list[dict]:
    """Seconds without a new picture, at 30 frames a second, after the connection was cut; and after the server was killed, from
    when the next one listens.
    """
    frames = [frame.image for frame in open_video(bundled.DRIVING)]
    seconds: dict[str, list[float]] = {"connection cut": [], "server restarted": []}
    with serving() as address:
        renderer = RemoteRenderer(address, engine.model_name)
        remote = Animator(bundled.AVATAR, engine=RemoteEngine(engine, renderer), size=size)
        _until_fresh(remote, frames)
        for _ in range(times):
            connection = renderer._connection
            assert connection is not None
            connection.cut()
            seconds["connection cut"].append(_until_fresh(remote, frames))
    for _ in range(times):
        remote.step(frames[0])
        with serving(address.port):
            seconds["server restarted"].append(_until_fresh(remote, frames))
    renderer.close()
    return [
        {"kind": f"pictures again, {what}", "what": what, "seconds": [round(one, 3) for one in found]}
        for what, found in seconds.items()
    ]


def _until_fresh(animator: Animator, frames: list[np.ndarray]) -> float:
    """Seconds until another machine has rendered a frame."""
    began, number = time.perf_counter(), 0
    while not animator.step(frames[number % len(frames)]).fresh:
        if time.perf_counter() - began > PATIENCE:
            raise UserError("No picture came.")
        number += 1
        time.sleep(max(began + number / 30 - time.perf_counter(), 0))
    return time.perf_counter() - began


def recovery_line(row: dict) -> str:
    """For people."""
    return f"Pictures again, {row['what']}: {', '.join(f'{one:.2f}' for one in row['seconds'])} s."


def step_line(row: dict) -> str:
    """A row of the first Markdown table."""
    spread = " / ".join(f"{row['ms'][f'p{percent}']:.1f}" for percent in (50, 95, 99))
    sizes = (f"{row[name]:,.0f}" if row[name] is not None else "–" for name in ("bytes_up", "bytes_down"))
    return f"| {row['way']} | {row['frames']} | {spread} | {' | '.join(sizes)} |"


def live_line(row: dict) -> str:
    """A row of the second."""
    spread = " / ".join(f"{row['delay_ms'].get(f'p{percent}', 0):.1f}" for percent in (50, 95, 99))
    return f"| {row['way']} | {row['frames']} | {spread} | {row['dropped'] + row['lost_in_camera']} |"


def stages_line(row: dict) -> str:
    """Where the time of a remote row went, for people."""
    stages = row["remote"]["stages_ms"]
    told = ", ".join(f"{name} {spread['p50']:.1f} / {spread['p95']:.1f}" for name, spread in stages.items())
    return f"Packet to picture p50 / p95 ms: {told}; round trip {row['remote']['round_trip_ms']} ms."


# JPEG both ways, as avatarify has it: the frame goes up, and the other machine does everything.


class _ThroughJpeg:
    """Animates frames at a `jpeg_server`."""

    def __init__(self, wire: socket.socket):
        self._wire = wire
        self._up = self._down = self._frames = 0

    @property
    def sizes(self) -> tuple[float, float]:
        """Bytes up and down, a frame."""
        return self._up / self._frames, self._down / self._frames

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        data = _compressed(frame)
        _send(self._wire, data)
        picture = _receive(self._wire)
        assert picture is not None
        self._up, self._down, self._frames = (
            self._up + len(data),
            self._down + len(picture),
            self._frames + 1,
        )
        return _decompressed(picture)


@contextmanager
def jpeg_server(engine: Engine, size: tuple[int, int]) -> Iterator[_ThroughJpeg]:
    """A process of its own with the same engine, which takes frames and returns pictures of `size`. Raises UserError where it does not start."""
    arguments = (*map(str, size), engine.name, engine.precision)
    with _process("livepuppet.benchmarks.remote", *arguments) as lines:
        port = next((line for line in lines if line.strip().isdigit()), None)
        if port is None:
            raise UserError(
                "The server for JPEG did not start: run python -m livepuppet.benchmarks.remote 1280 720 onnx float32."
            )
        with socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            through = _ThroughJpeg(wire)
            yield through


def _serve_jpeg(width: str, height: str, engine: str, precision: Any) -> None:
    machine = load_engine(engine, precision=precision, use="detect")
    animator = Animator(bundled.AVATAR, engine=machine, size=(int(width), int(height)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], file=sys.stderr, flush=True)
        wire, _ = listening.accept()
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (data := _receive(wire)) is not None:
            _send(wire, _compressed(animator(_decompressed(data))))


def _compressed(picture: np.ndarray) -> bytes:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes()


def _decompressed(data: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _send(wire: socket.socket, data: bytes) -> None:
    wire.sendall(_LENGTH.pack(len(data)) + data)


def _receive(wire: socket.socket) -> bytes | None:
    head = wire.recv(_LENGTH.size, socket.MSG_WAITALL)
    if len(head) < _LENGTH.size:
        return None
    return wire.recv(_LENGTH.unpack(head)[0], socket.MSG_WAITALL)


if __name__ == "__main__":
    _serve_jpeg(*sys.argv[1:])
