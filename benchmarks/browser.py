"""Delay of the page of `livepuppet serve`: a browser on this machine sends its camera and shows what comes back, over loopback or a
wire that delays and loses packets.

The page tells, for each picture, how long ago the camera took it: both times are of its own clock.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np

from livepuppet.benchmarks.page import WINDOW, browser_path
from livepuppet.benchmarks.wire import ADDRESSES, wire
from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled

#: Seconds that anything may take to begin, and of a run that do not count.
PATIENCE, SKIP = 120.0, 3.0

#: The simulated camera: width and height.
CAMERA = (640, 480)

#: Ways: name, and what the page's address asks for.
ECHO, MOVED = "echo", "moved picture"
WAYS = (
    (f"H.264, {ECHO}", "?echo&codec=h264"),
    (f"VP8, {ECHO}", "?echo&codec=vp8"),
    (f"JPEG, {ECHO}", "?echo&codec=jpeg"),
    (f"H.264, {MOVED}", "?codec=h264"),
)

HEADING = (
    "| way, in a browser | frames per second | camera to picture on the page p50 / p95 / p99 ms | longest pause ms | left out by "
    "the page | kbit/s up, down |",
    "|---|--:|--:|--:|--:|--:|",
)


def in_a_browser(
    seconds: float,
    ways: Sequence[tuple[str, str]],
    round_trip: float | None = None,
    loss: float = 0.0,
    skip: float = SKIP,
) -> Iterator[dict]:
    """A row for each way.

    Args:
        seconds: of each.
        ways: as `WAYS`.
        round_trip: in milliseconds, of a wire; None is loopback.
        loss: in percent, of the wire, in either direction.
        skip: seconds of each that do not count.

    Raises:
        UserError: the browser, what drives it, or the wire is missing.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        laid = None if round_trip is None else stack.enter_context(wire(round_trip, loss))
        here, there = ([], []) if laid is None else laid.prefixes
        listen = [] if laid is None else ["--listen", ADDRESSES[0]]
        address = stack.enter_context(serving(here, folder, *listen))
        context = stack.enter_context(_browser(there, folder))
        for name, query in ways:
            yield {
                "kind": f"browser, {name}",
                "way": name,
                **_measured(context, address, query, seconds, skip),
            }


def line(row: dict) -> str:
    """A row of the Markdown table."""
    spread = " / ".join(f"{row['ms'][f'p{percent}']:.1f}" for percent in (50, 95, 99))
    rates = f"{row['kbit_s_up']:,.0f}, {row['kbit_s_down']:,.0f}"
    return f"| {row['way']} | {row['rate']:.1f} | {spread} | {row['pause_ms']:.0f} | {row['dropped']} | {rates} |"


def summary(rows: Sequence[dict]) -> list[str]:
    """The worst of several runs of each way, for people."""
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        late, pauses = ([row[name] for row in own] for name in ("ms", "pause_ms"))
        lines.append(
            f"{way}: {len(own)} runs, p95 {min(one['p95'] for one in late):.0f} to {max(one['p95'] for one in late):.0f} ms, "
            f"longest pauses {min(pauses):.0f} to {max(pauses):.0f} ms."
        )
    return lines


@contextmanager
def serving(prefix: list[str], folder: Path, *options: str) -> Iterator[str]:
    """A `livepuppet serve` of its own, started by a command that begins with `prefix`. Yields its address. Raises UserError."""
    command = [*prefix, sys.executable, "-m", "livepuppet", "serve", "--port", "0", *options]
    environment = {**os.environ, "LIVEPUPPET_CONFIG": str(folder / "settings")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        for text in process.stderr:
            if "--server" in text:
                yield text.split("'")[1]
                return
        raise UserError("livepuppet serve did not start: run it by hand to see why.")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextmanager
def _browser(prefix: list[str], folder: Path):
    """A context of Chromium whose camera is the bundled driver; at the far end of a wire with `prefix`."""
    try:
        from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("The page is measured by the package playwright: pip install playwright.") from error
    program = browser_path()
    if prefix:
        script = folder / "browser"
        script.write_text(f'#!/bin/sh\nexec {" ".join(prefix)} {program} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        program = str(script)
    camera = folder / "camera.mjpeg"
    with open_video(str(bundled.DRIVING)) as video, open(camera, "wb") as file:
        for frame in video:
            picture = np.full((CAMERA[1], CAMERA[0], 3), 60, np.uint8)
            picture[:, 80:560] = cv2.resize(frame.image, (480, 480))
            file.write(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
    arguments = ["--headless=new", "--no-sandbox", "--use-fake-ui-for-media-stream"]
    arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as driver:
        shown = driver.chromium.launch(executable_path=program, args=arguments)
        try:
            yield shown.new_context(
                viewport={"width": WINDOW[0], "height": WINDOW[1]},
                permissions=["camera"],
                ignore_https_errors=True,
            )
        finally:
            shown.close()


def _measured(context, address: str, query: str, seconds: float, skip: float) -> dict:
    page = context.new_page()
    page.goto(address.replace("/#", f"/{query}#"))
    _until(page, "document.body?.dataset.ready === 'true'")
    page.click("#start-camera")
    _until(page, "livepuppet.shown > 0")
    if ECHO not in query:
        _until(page, "document.querySelector('#mode').dataset.mode === 'live'")
    time.sleep(skip)
    figures = "[livepuppet.link().bytesUp, livepuppet.link().bytesDown, livepuppet.camera().left]"
    before = page.evaluate(f"(livepuppet.at = [], livepuppet.all = [], {figures})")
    began = time.perf_counter()
    time.sleep(seconds)
    after = page.evaluate(figures)
    delays, shown = page.evaluate("[livepuppet.all, livepuppet.at]")
    spent = time.perf_counter() - began
    page.close()
    if len(delays) < 3:
        raise UserError("Hardly a picture came back: give a longer --seconds.")
    up, down, left = (now - then for now, then in zip(after, before, strict=True))
    return {
        "frames": len(delays),
        "rate": len(delays) / spent,
        "ms": {f"p{percent}": float(np.percentile(delays, percent)) for percent in (50, 95, 99)},
        "pause_ms": float(np.diff(shown).max()),
        "first_last_ms": [float(np.median(part)) for part in np.array_split(delays, 10)[::9] if len(part)],
        "dropped": int(left),
        "kbit_s_up": up * 8 / 1000 / spent,
        "kbit_s_down": down * 8 / 1000 / spent,
    }


def _until(page, expression: str) -> None:
    deadline = time.perf_counter() + PATIENCE
    while True:
        with suppress(Exception):
            if page.evaluate(expression):
                return
        if time.perf_counter() > deadline:
            raise UserError("The page does not show a moving picture.")
        time.sleep(0.05)
