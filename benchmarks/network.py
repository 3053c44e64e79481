"""How every way to another machine bears a network that delays and loses packets: many runs of each, over a wire of TUN devices."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from livepuppet.benchmarks import browser, call_live
from livepuppet.benchmarks.latency import through_a_loopback
from livepuppet.benchmarks.wire import ADDRESSES, wire
from livepuppet.core.errors import UserError
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.connection import ServerAddress
from livepuppet.realtime.remote.engine import RemoteEngine
from livepuppet.realtime.remote.renderer import RemoteRenderer

REMOTE, SEND, STREAM = "run --engine remote", "send", "send, without UDP"
PAGE, PAGE_VP8, PAGE_JPEG = "in a browser, H.264", "in a browser, VP8", "in a browser, JPEG"
_QUERIES = {PAGE: "?codec=h264", PAGE_VP8: "?codec=vp8", PAGE_JPEG: "?codec=jpeg"}
WAYS = (REMOTE, PAGE, PAGE_VP8, PAGE_JPEG, SEND, STREAM)

#: What a run may be late by, p95 in milliseconds, up to so many percent lost; and the longest pause.
BOUNDS = ((0.0, 150.0), (3.0, 150.0), (5.0, 250.0))
MOST_PAUSE = 500.0

SIZE, RATE, SKIP = "640x480", 30.0, 1.5

HEADING = (
    "| way | lost % | runs within bounds | p50 ms, median | p95 ms, median, worst | longest pause ms, median, worst | pictures a second | first, last tenth of a run ms |",
    "|---|--:|--:|--:|--:|--:|--:|--:|",
)


def measure(way: str, runs: int, seconds: float, round_trip: float, loss: float) -> Iterator[dict]:
    """A row for each run of one of `WAYS`.

    Args:
        seconds: of each run.
        round_trip, loss: of the wire, in milliseconds and percent.

    Raises:
        UserError: something that is needed is missing here.
    """
    if way == REMOTE:
        found = _remote(runs, seconds, round_trip, loss)
    elif way in _QUERIES:
        found = browser.in_a_browser(seconds, [(way, _QUERIES[way])] * runs, round_trip, loss, SKIP)
    else:
        how = "connection" if way == STREAM else ""
        found = (call_live.measure(seconds, SIZE, round_trip, loss, how) for _ in range(runs))
    for one in found:
        spread = one.get("ms") or one["delay_ms"]
        pause = one["pause_ms"] if "pause_ms" in one else one["longest_pause_ms"]
        most = next((bound for most_lost, bound in BOUNDS if loss <= most_lost), float("inf"))
        yield {
            "way": way,
            "loss": loss,
            "round_trip_ms": round_trip,
            "p50": spread["p50"],
            "p95": spread["p95"],
            "pause_ms": pause,
            "rate": one["frames"] / seconds,
            "first_last_ms": one.get("first_last_ms") or [one["first_ms"], one["last_ms"]],
            "within": spread["p95"] <= most and pause <= MOST_PAUSE,
        }


def line(rows: Sequence[dict]) -> str:
    """A row of the Markdown table, for all runs of a way at one loss."""
    middles, late, pauses, rates = (
        [row[name] for row in rows] for name in ("p50", "p95", "pause_ms", "rate")
    )
    ends = (statistics.median(row["first_last_ms"][end] for row in rows) for end in (0, -1))
    return (
        f"| {rows[0]['way']} | {rows[0]['loss']:g} | {sum(row['within'] for row in rows)} of {len(rows)} | "
        f"{statistics.median(middles):.0f} | {statistics.median(late):.0f}, {max(late):.0f} | "
        f"{statistics.median(pauses):.0f}, {max(pauses):.0f} | {statistics.median(rates):.0f} | "
        f"{', '.join(f'{end:.0f}' for end in ends)} |"
    )


def _remote(runs: int, seconds: float, round_trip: float, loss: float) -> Iterator[dict]:
    with tempfile.TemporaryDirectory() as folder, wire(round_trip, loss) as laid:
        here, there = laid.prefixes
        with browser.serving(here, Path(folder), "--listen", ADDRESSES[0]) as address:
            command = [*there, sys.executable, "-m", __spec__.name, address, str(runs), str(seconds)]
            environment = {**os.environ, "LIVEPUPPET_TIMING": "off"}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            assert process.stdout is not None
            try:
                for _ in range(runs):
                    told = process.stdout.readline()
                    if not told:
                        raise UserError("The camera's machine ended early: see above.")
                    yield json.loads(told)
            finally:
                process.kill()
                process.wait()


def _live(address: str, runs: str, seconds: str) -> None:
    """The camera's machine."""
    engine = load_engine("onnx", threads=1, use="detect")
    for _ in range(int(runs)):
        machine = RemoteEngine(engine, RemoteRenderer(ServerAddress.parse(address), engine.model_name))
        row = through_a_loopback(machine, float(seconds) + SKIP, RATE, SIZE, skip=SKIP)
        machine.close()
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    _live(*sys.argv[1:])
