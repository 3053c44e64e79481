"""How late a call is, whose sender and receiver are two processes of this machine, over loopback or a wire that loses packets."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.benchmarks.wire import ADDRESSES, wire
from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.outputs.base import Output

#: Seconds that either process may take until pictures come.
PATIENCE = 90.0

#: Seconds at the beginning that do not count.
SKIP = 2.0

HEADING = (
    "| way | frames | camera to output p50 / p95 / p99 / max ms | longest pause ms | payload kbit/s | on the wire kbit/s | lost |",
    "|---|--:|--:|--:|--:|--:|--:|",
)


def measure(
    seconds: float, size: str, round_trip: float | None = None, loss: float = 0.0, way: str = ""
) -> dict:
    """One call.

    Args:
        seconds: for which it counts.
        size: of the picture, WIDTHxHEIGHT.
        round_trip: in milliseconds, of a wire; None is loopback.
        loss: in percent, of the wire.
        way: `connection` keeps datagrams away.

    Returns:
        Delays by the machine's one clock, pauses, rates; `aligned_ms` is the median delay by clocks that the call has aligned itself.
    """
    with ExitStack() as stack:
        laid = None if round_trip is None else stack.enter_context(wire(round_trip, loss))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here, there = laid.prefixes if laid is not None else ([], [])
        listen = ADDRESSES[1] if laid is not None else "127.0.0.1"
        environment = {**os.environ, "LIVEPUPPET_CONFIG": str(folder), "LIVEPUPPET_TIMING": "off"}
        receiving = [*there, sys.executable, "-m", __spec__.name, "receive", listen, size]
        receiver = stack.enter_context(_process(receiving, environment))
        assert receiver.stdout is not None and receiver.stdin is not None
        address = receiver.stdout.readline().strip()
        if not address.startswith("http"):
            raise UserError("The receiver did not start: run livepuppet receive by hand to see why.")
        sending = [*here, sys.executable, "-m", __spec__.name, "send", address, way or "any"]
        sender = stack.enter_context(_process(sending, environment))
        assert sender.stdout is not None and sender.stdin is not None
        if receiver.stdout.readline().strip() != "live":
            raise UserError("No picture came: try again with more time, or without --loss.")
        time.sleep(SKIP + seconds)
        shown = json.loads(_finished(receiver))
        sent = json.loads(_finished(sender))
    captured = sent.pop("captured")
    spent = _delays(captured, shown["written"])
    times = [at for at, _ in shown["written"] if at >= shown["written"][0][0] + SKIP]
    percentiles = np.percentile(spent, (50, 95, 99, 100)) * 1000
    return {
        "way": "loopback" if round_trip is None else f"{round_trip:g} ms, {loss:g} % lost",
        "frames": len(spent),
        "delay_ms": dict(zip(("p50", "p95", "p99", "max"), percentiles.round(1).tolist(), strict=True)),
        "aligned_ms": shown["aligned_ms"],
        "first_last_ms": [round(1000 * statistics.median(part), 1) for part in _tenths(spent)],
        "longest_pause_ms": round(1000 * float(np.diff(times).max()), 1),
        **sent,
        "wire": laid.counts if laid is not None else None,
    }


def _delays(captured: list[list[float]], written: list[list[float]]) -> list[float]:
    """Seconds from capture to output of each picture, by the number that its frame carries."""
    taken: dict[float, float] = dict(captured)  # type: ignore[arg-type]
    begin = written[0][0] + SKIP
    return [at - taken[number] for at, number in written if at >= begin and number in taken]


def _tenths(values: list[float]) -> tuple[list[float], list[float]]:
    part = max(len(values) // 10, 1)
    return values[:part], values[-part:]


def line(row: dict) -> str:
    """A row of the Markdown table."""
    spread = " / ".join(f"{row['delay_ms'][name]:.0f}" for name in ("p50", "p95", "p99", "max"))
    return (
        f"| {row['way']} ({row['used']}) | {row['frames']} | {spread} | {row['longest_pause_ms']:.0f} | {row['payload_kbit_s']} | "
        f"{row['wire_kbit_s']} | {row['lost']:.1%} |"
    )


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _finished(process: subprocess.Popen) -> str:
    """What a process says once its input is closed."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None and stdout is not None
    stdin.close()
    return stdout.readline()


# The two processes. Both have one clock, so a frame's number tells how late its picture is; the call knows nothing of that.


class _Written(Output):
    """Notes when each picture is written, and of which frame it is."""

    name = "bench"

    def __init__(self, number: Any):
        self._number, self.written = number, []

    def write(self, picture: np.ndarray, time_: Fraction, duration: Fraction | None = None) -> None:
        number = self._number()
        if number is None:
            return
        if not self.written:
            print("live", flush=True)
        self.written.append((time.perf_counter(), number))


def _receive(listen: str, size: str) -> None:
    from livepuppet.realtime.app.call_server import WAITING, CallServer, call_token, nobody
    from livepuppet.realtime.app.session import Session
    from livepuppet.realtime.app.settings import Settings, merge
    from livepuppet.realtime.app.studio.tls import certificate
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.remote import packets
    from livepuppet.realtime.remote.receiving import CallSource

    engine = load_engine("onnx", threads=1)
    source = CallSource(WAITING)
    newest: list[int | None] = [None]

    class Numbered(packets.PacketDecoder):
        """Tells of which packet the request is."""

        def decode(self, packet: bytes) -> packets.Packet:
            found = super().decode(packet)
            numbers[id(found.request)] = found.number
            kept.append(found.request)
            del kept[:-200]
            return found

    from livepuppet.realtime.app import call_server

    numbers: dict[int, int] = {}
    kept: list[packets.RenderRequest] = []
    call_server.PacketDecoder = Numbered  # type: ignore[misc]
    settings = merge(Settings(), {"size": size, "outputs": ("none",), "enabled": False, "sound": "none"})
    settings = replace(settings, motion=replace(settings.motion, countdown=0.0))
    output = _Written(lambda: newest[0])
    with Session(
        settings, engine, source=source, avatar=nobody(engine.size), outputs=[output], keyboard=False
    ) as session:
        plan = session.animator.plan

        def planned(frame, time=None):
            made = plan(frame, time)
            newest[0] = numbers.get(id(frame.request)) if made.moved else None
            return made

        session.animator.plan = planned  # type: ignore[method-assign]
        token = call_token()
        files = fingerprint = None
        if listen != "127.0.0.1":
            *pair, fingerprint = certificate(listen)
            files = (pair[0], pair[1])
        server = CallServer(session.live, source, token, listen, 0, files)
        print(server.address(listen, token, fingerprint), flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), session.live.stop()), daemon=True).start()
        session.run()
        server.close()
        aligned = session.live.stats.latency.summary().get("p50")
    print(json.dumps({"written": output.written, "aligned_ms": aligned}), flush=True)


def _send(address: str, way: str) -> None:
    from livepuppet.realtime.app.session import Session
    from livepuppet.realtime.app.settings import Settings, merge
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.remote.call import CallSender
    from livepuppet.realtime.remote.connection import ServerAddress
    from livepuppet.realtime.remote.engine import RemoteEngine

    captured: list[tuple[int, float]] = []

    class Noted(CallSender):
        def render(self, avatar, canvas, request, at, out):
            before = self._number
            found = super().render(avatar, canvas, request, at, out)
            if self._number != before:
                captured.append((self._number, at))
            return found

        def _open_datagrams(self, connection, told) -> None:
            if way != "connection":
                super()._open_datagrams(connection, told)

    local = load_engine("onnx", threads=1, use="detect")
    sender = Noted(ServerAddress.parse(address), local.model_name)
    chosen = {
        "driving": str(bundled.DRIVING),
        "loop": True,
        "outputs": ("none",),
        "enabled": False,
        "sound": "none",
    }
    engine = RemoteEngine(local, sender)
    with Session(merge(Settings(), chosen), engine, neutral="first", keyboard=False) as session:
        threading.Thread(target=lambda: (sys.stdin.read(), session.live.stop()), daemon=True).start()
        session.run()
        figures = sender.figures()
    wanted = (
        "payload_kbit_s",
        "wire_kbit_s",
        "wire_up_kbit_s",
        "frames_per_second",
        "held_back",
        "lost",
        "round_trip_ms",
    )
    print(
        json.dumps(
            {**{name: figures[name] for name in wanted}, "used": figures["way"], "captured": captured}
        ),
        flush=True,
    )


if __name__ == "__main__":
    {"receive": _receive, "send": _send}[sys.argv[1]](*sys.argv[2:])
