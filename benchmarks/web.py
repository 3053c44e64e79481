"""The page of `livepuppet web` in a browser on this machine, beside the same by Python in the same run."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from livepuppet.benchmarks.page import WINDOW, browser_path
from livepuppet.core.errors import UserError
from livepuppet.core.square import Square, cut
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import in_frame, in_square
from livepuppet.realtime.app.web.serve import open_server
from livepuppet.realtime.app.web.site import write_site
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.engines.onnx import OnnxEngine
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.rig.close_ups import CloseUps
from livepuppet.realtime.rig.driver import RigDriver
from livepuppet.realtime.rig.finding import contours_of
from livepuppet.realtime.rig.rig import Face, Rig

#: Seconds for loading, and at the beginning of a run that do not count.
PATIENCE, SKIP = 120.0, 4.0

#: What draws: the picture's rig, or the network in two precisions.
WAYS = ("rig", "int8", "float32")

#: Steps of a frame, as the page calls them.
STAGES = ("cut", "detect", "look", "render")

#: The simulated camera, and the square of it that is driven by.
CAMERA, SQUARE = (1280, 720), Square(384, 104, 512)

HEADING = (
    "| where | drawn by | threads | crop ms | landmarks ms | close-ups ms | draw ms | frames per second | delay p50 / p95 ms |",
    "|---|---|--:|--:|--:|--:|--:|--:|--:|",
)


def _frames() -> list[np.ndarray]:
    """The bundled driver before a plain wall, uint8 RGB (720, 1280, 3)."""
    frames = []
    with open_video(str(bundled.DRIVING)) as video:
        for frame in video:
            picture = np.full((CAMERA[1], CAMERA[0], 3), 90, np.uint8)
            x, y, side = int(SQUARE.x), int(SQUARE.y), int(SQUARE.side)
            picture[y : y + side, x : x + side] = cv2.resize(frame.image, (side, side))
            frames.append(picture)
    return frames


@contextmanager
def _page(folder: Path, runtime: Path | None, frames: list[np.ndarray]):
    """A function that opens the page with a query and gives it, its camera being `frames`."""
    try:
        from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("The page is measured by the package playwright: pip install playwright.") from error
    browser = browser_path()
    camera = folder / "camera.mjpeg"
    with open(camera, "wb") as file:
        for picture in frames:
            file.write(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
    write_site(folder / "site", runtime=runtime)
    arguments = ["--headless=new", "--no-sandbox", "--use-fake-ui-for-media-stream"]
    arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with open_server(folder / "site", 0) as server, sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = driver.chromium.launch(executable_path=browser, args=arguments)

        def opened(query: str):
            page = shown.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]})
            page.goto(f"http://localhost:{server.server_address[1]}/{query}")
            deadline = time.monotonic() + PATIENCE
            while not page.evaluate("document.body.dataset.ready === 'true'"):
                if time.monotonic() > deadline:
                    raise UserError(f"The page did not start: {page.inner_text('#loading')}")
                time.sleep(0.1)
            return page

        try:
            yield opened
        finally:
            shown.close()
            server.shutdown()


def in_the_browser(opened, way: str, seconds: float) -> dict:
    """One run of the page, its camera at its own rate."""
    page = opened("" if way == "rig" else f"?network&precision={way}")
    try:
        page.click("#start-camera")
        deadline = time.monotonic() + PATIENCE
        while page.evaluate("document.querySelector('#mode').dataset.mode !== 'live'"):
            if time.monotonic() > deadline:
                raise UserError("The page saw no face: this machine is too busy to measure.")
            time.sleep(0.1)
        time.sleep(SKIP)
        model = page.evaluate("livepuppet.model()")
        page.evaluate(
            "for (const name in livepuppet.stages) livepuppet.stages[name] = 0; livepuppet.all = [];"
        )
        began = time.perf_counter()
        time.sleep(seconds)
        elapsed = time.perf_counter() - began
        stages, delays = page.evaluate("[livepuppet.stages, livepuppet.all]")
    finally:
        page.close()
    if not stages["frames"]:
        raise UserError("The page drew nothing: give a longer --seconds.")
    return {
        "where": "browser",
        "drawn_by": way,
        "threads": model["threads"],
        **{f"{name}_ms": stages[name] / stages["frames"] for name in STAGES},
        "fps": stages["frames"] / elapsed,
        "delay_ms": {f"p{share}": float(np.percentile(delays, share)) for share in (50, 95)},
        "gate": model["quality"],
        "load_ms": model["loading"],
        "gate_ms": model["gate"],
    }


def in_python(frames: list[np.ndarray], way: str, threads: int, seconds: float) -> dict:
    """The same steps in Python, one frame after the other; no camera, no page."""
    draw = _rig(threads) if way == "rig" else _network(way, threads)
    taken: list[tuple[float, ...]] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken) < 20:
        times = [time.perf_counter(), *draw(frames[len(taken) % len(frames)], len(taken) / 30)]
        taken.append(tuple(after - before for before, after in pairwise(times)))
    means = 1000 * np.array(taken[5:]).mean(axis=0)
    return {
        "where": "Python",
        "drawn_by": way,
        "threads": threads,
        **{f"{name}_ms": value for name, value in zip(STAGES, means.tolist(), strict=True)},
    }


def _network(precision: str, threads: int) -> Callable[[np.ndarray, float], tuple[float, ...]]:
    """A function that draws a frame, and tells when each of `STAGES` was done."""
    engine = OnnxEngine(bundled.MODEL, threads, precision=precision)  # pyright: ignore[reportArgumentType]
    avatar = load_avatar(bundled.EXAMPLE, engine.size)
    own, features = engine.detect(avatar.image), engine.encode(avatar.image)

    def draw(frame: np.ndarray, _: float) -> tuple[float, ...]:
        square = cut(frame, SQUARE, engine.size, quick=True)
        cropped = time.perf_counter()
        driving = engine.detect(square)
        detected = time.perf_counter()
        engine.render(features, own, driving)
        return cropped, detected, detected, time.perf_counter()

    return draw


def _rig(threads: int) -> Callable[[np.ndarray, float], tuple[float, ...]]:
    """The same by the picture's rig."""
    engine = OnnxEngine(bundled.MODEL, threads, precision="float32")
    avatar = load_avatar(bundled.EXAMPLE, engine.size)
    names, own = tuple(engine.keypoint_names), engine.detect(avatar.image)
    contours, _ = contours_of(engine, avatar.original, avatar.square, avatar.path)
    rig = Rig(avatar.original, Face(own, names, engine.size, avatar.square, contours, "on"), avatar.square)
    place = SQUARE, engine.size, CAMERA[0], False
    close_ups, driver = CloseUps(names, threads=threads), RigDriver(names)
    retargeter = Retargeter(names, settings=MotionSettings(countdown=0))
    retargeter.set_avatar(own)
    out = np.empty(rig.shape, np.uint8)

    def draw(frame: np.ndarray, moment: float) -> tuple[float, ...]:
        square = cut(frame, SQUARE, engine.size, quick=True)
        cropped = time.perf_counter()
        driving = engine.detect(square)
        detected = time.perf_counter()
        look = close_ups(frame, in_frame(driving.points, *place))
        if look is not None:
            anchors = in_square(look.anchors, *place).astype(np.float32)
            driving = replace(driving, reading=replace(look.reading, anchors=anchors))
        retargeter.move(driving, moment)
        looked = time.perf_counter()
        if retargeter.transferred is not None:
            rig.draw(driver.motion(retargeter.transferred, own, retargeter.settings), out)
        return cropped, detected, looked, time.perf_counter()

    return draw


def measure(seconds: float, runtime: Path | None = None):
    """Rows, as they are found: each way in the browser, then the same in Python."""
    frames = _frames()
    with tempfile.TemporaryDirectory() as folder, _page(Path(folder), runtime, frames) as opened:
        for way in WAYS:
            row = in_the_browser(opened, way, seconds)
            yield row
            yield in_python(frames, way, row["threads"], seconds / 4)


def line(row: dict) -> str:
    """A row of the Markdown table."""
    delay, rate = row.get("delay_ms"), row.get("fps")
    ends = f"{rate:.1f} | {delay['p50']:.0f} / {delay['p95']:.0f}" if rate and delay else "– | –"
    return (
        f"| {row['where']} | {row['drawn_by']} | {row['threads']} | "
        + " | ".join(f"{row[f'{name}_ms']:.1f}" for name in STAGES)
        + f" | {ends} |"
    )
