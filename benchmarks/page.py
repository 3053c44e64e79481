"""Delay from the camera until the studio's page has drawn the picture, in a real browser on this machine, and what an
open page costs the live loop, beside what the window does.

The page tells the age of every picture when it has drawn it: by the capture time that travels with the picture, and by
the session's clock, which the page asks for every second and corrects by half of the quickest answer's way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from livepuppet.benchmarks.latency import ClockCamera, clocked
from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.app.session import Session, parse_size
from livepuppet.realtime.engines import Engine

#: Names of programs that can show the page.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

#: What the loop is measured with, in this order: nothing at both ends, to see what else the machine did.
KINDS = ("none", "window", "studio", "closed", "panel", "none")

#: Seconds at the beginning that do not count.
SKIP = 4.0

#: Of the browser, in pixels.
WINDOW = 1366, 768


def browser_path() -> str:
    """Where Chromium is. Raises UserError where there is none."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError("The page is measured in Chromium: install it (Debian: sudo apt install chromium).")
    return browser


@contextmanager
def open_page(address: str) -> Iterator[None]:
    """A page in a browser without a window. Raises UserError where there is none."""
    try:
        from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("The page is measured by the package playwright: pip install playwright.") from error
    browser = browser_path()
    with sync_playwright() as driver:
        shown = driver.chromium.launch(executable_path=browser, args=["--headless=new", "--no-sandbox"])
        try:
            page = shown.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]})
            page.goto(address)
            yield
        finally:
            shown.close()


@contextmanager
def display() -> Iterator[None]:
    """A screen for windows: the one that is there, or Xvfb's. Raises UserError where there is neither."""
    if os.environ.get("DISPLAY") or os.name == "nt":
        yield
        return
    program = shutil.which("Xvfb")
    if program is None:
        raise UserError("The window needs a desktop, or Xvfb (Debian: sudo apt install xvfb).")
    read, write = os.pipe()
    screen = (
        program,
        "-displayfd",
        str(write),
        "-screen",
        "0",
        f"{WINDOW[0]}x{WINDOW[1]}x24",
        "-nolisten",
        "tcp",
    )
    process = subprocess.Popen(screen, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with open(read) as told:
            number = told.readline().strip()
        if not number:
            raise UserError("Xvfb did not start: run it by hand to see why.")
        os.environ["DISPLAY"] = f":{number}"
        yield
    finally:
        os.environ.pop("DISPLAY", None)
        process.terminate()
        process.wait()


def through_a_page(engine: Engine, seconds: float, rate: float, size: str, kind: str) -> dict:
    """One run.

    Args:
        kind: of `KINDS`: `none` (no studio), `window` (the live window instead), `closed` (a studio that nobody looks
            at), or the page that is open.

    Returns:
        frames and frames per second of the loop, its delay and the page's as p50/p95/p99 in milliseconds.
    """
    camera = ClockCamera(*parse_size(size), rate, 10 * seconds + 60, timed=False)
    with tempfile.TemporaryDirectory() as folder, display() if kind == "window" else nullcontext():
        shutil.copy(bundled.AVATAR, Path(folder) / "avatar.png")
        outputs = ({"none": "none", "window": "window"}.get(kind, "studio"),)
        wanted = {"size": size, "avatar": folder, "outputs": outputs, "port": 0, "adapt": False}
        with clocked(wanted, engine, source=camera) as session:
            if kind == "window":
                return _beside_the_window(session, seconds)
            thread = threading.Thread(target=session.live.run, name="live")
            thread.start()
            try:
                if kind in ("studio", "panel"):
                    assert session.studio is not None
                    with open_page(session.studio.address_of(f"/{kind}")):
                        return _measured(session, seconds, kind)
                return _measured(session, seconds, kind)
            finally:
                session.live.stop()
                thread.join()


def _beside_the_window(session: Session, seconds: float) -> dict:
    """The window has the main thread, as window systems want."""
    rows: list[dict] = []

    def measure() -> None:
        rows.append(_measured(session, seconds, "window"))
        session.live.stop()

    thread = threading.Thread(target=measure, name="measure")
    thread.start()
    session.run()
    thread.join()
    return rows[0]


def _measured(session: Session, seconds: float, kind: str) -> dict:
    time.sleep(SKIP)
    stats, page = session.live.stats, session.studio and session.studio.controller.page_delay
    frames, began = stats.frames, time.perf_counter()
    loop_before, page_before = stats.latency.copy(), page.copy() if page else None
    time.sleep(seconds)
    elapsed = time.perf_counter() - began
    drawn = page.since(page_before) if page and page_before is not None else None
    return {
        "kind": kind,
        "frames": stats.frames - frames,
        "fps": round((stats.frames - frames) / elapsed, 2),
        "loop_ms": stats.latency.since(loop_before).summary(),
        "drawn": drawn.count if drawn else 0,
        "page_ms": drawn.summary() if drawn and drawn.count else {},
    }


def line(row: dict) -> str:
    """A row of the Markdown table."""

    def spread(values: dict) -> str:
        return " / ".join(f"{values[f'p{percent}']:.0f}" for percent in (50, 95)) if values else "–"

    return f"| {row['kind']} | {row['fps']:.1f} | {spread(row['loop_ms'])} | {row['drawn']} | {spread(row['page_ms'])} |"


HEADING = (
    "| page | loop FPS | loop delay p50 / p95 ms | drawn | page delay p50 / p95 ms |",
    "|---|--:|--:|--:|--:|",
)
