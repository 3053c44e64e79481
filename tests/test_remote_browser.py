"""A person's taps on the page of `livepuppet serve`, in a real browser with a camera. Needs Chromium and Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import write_picture
from PIL import Image

from livepuppet.core.video import open_video
from livepuppet.realtime.app import settings
from livepuppet.realtime.bundled import AVATAR, DRIVING
from livepuppet.realtime.outputs.badge import COMMENT

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the browser is driven by Playwright: pip install playwright"
)

pytestmark = pytest.mark.slow

#: Seconds that anything may take here.
PATIENCE = 120


@pytest.fixture(scope="module")
def camera(tmp_path_factory) -> Path:
    """The bundled driver as a camera of 1280 x 720 that begins again at its end."""
    path = tmp_path_factory.mktemp("camera") / "driver.mjpeg"
    with open_video(str(DRIVING)) as video, open(path, "wb") as file:
        for number, frame in enumerate(video):
            if number == 90:
                break
            picture = np.full((720, 1280, 3), 90, np.uint8)
            picture[104:616, 384:896] = cv2.resize(frame.image, (512, 512))
            file.write(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
    return path


@contextlib.contextmanager
def serving(folder: Path, *options: str):
    """`livepuppet serve`, and the address that it prints."""
    environment = {**os.environ, settings.FOLDER_VARIABLE: str(folder), "LIVEPUPPET_TIMING": "off"}
    command = [sys.executable, "-m", "livepuppet", "serve", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield next(line for line in process.stderr if "--server" in line).split("'")[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@contextlib.contextmanager
def browsing(camera: Path, width: int = 1366, height: int = 768):
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium)")
    options = ["--headless=new", "--no-sandbox", "--mute-audio", "--use-fake-ui-for-media-stream"]
    options += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=options)
        context = chromium.new_context(
            viewport={"width": width, "height": height}, permissions=["camera"], ignore_https_errors=True
        )
        yield context
        chromium.close()


def opened(context, address: str, query: str = ""):
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.goto(address.replace("/#", f"/{query}#"))
    shows(page, "document.body?.dataset.ready === 'true'")
    return page


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def shows(page, expression):
    def holds():
        with contextlib.suppress(playwright.Error):
            return page.evaluate(expression)

    until(holds)


def frames(page) -> int:
    return page.evaluate("livepuppet.shown")


def moves(page):
    before = frames(page)
    until(lambda: frames(page) > before + 5)


def test_one_tap_and_a_picture_moves(camera, tmp_path):
    own = tmp_path / "pictures"
    own.mkdir()
    write_picture(own / "mine.png", cv2.imread(str(AVATAR))[..., ::-1].copy())
    with serving(tmp_path, "--port", "0", "--avatar", str(own)) as address, browsing(camera) as context:
        page = opened(context, address)
        # The token is nowhere to be seen, and what leaves the device is said before the camera starts.
        assert "token" not in page.url
        host = address.split("/")[2]
        assert host in page.inner_text("#promise") and host in page.inner_text("#leaves")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366
        page.get_by_role("button", name="mine", pressed=True).wait_for()
        assert page.evaluate("livepuppet.camera().sent") == 0

        page.get_by_role("button", name="Start camera").click()
        shows(page, "document.querySelector('#mode').dataset.mode === 'live'")
        moves(page)
        assert page.locator("#start").is_hidden() and page.locator("#square").is_visible()
        page.get_by_role("button", name="Take neutral pose").click()
        page.locator("#countdown").wait_for(state="visible")
        page.locator("#countdown").wait_for(state="hidden")

        page.get_by_label("Strength", exact=True).focus()
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        page.get_by_role("button", name="Mirror").click()
        moves(page)

        # A picture of one's own, taller than wide, and what is none.
        picture = cv2.imread(str(AVATAR))[..., ::-1]
        write_picture(tmp_path / "My own.png", cv2.resize(picture, (512, 512))[:, 64:448].copy())
        page.set_input_files("#files", tmp_path / "My own.png")
        page.get_by_role("button", name="My own", pressed=True).wait_for()
        shows(page, "document.querySelector('#picture').width < document.querySelector('#picture').height")
        moves(page)
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        page.set_input_files("#files", tmp_path / "broken.png")
        page.get_by_text("broken.png cannot be read here").wait_for()

        with page.expect_download() as saved:
            page.get_by_role("button", name="Snapshot").click()
        saved.value.save_as(tmp_path / "snapshot.png")
        with Image.open(tmp_path / "snapshot.png") as tagged:
            assert tagged.text["Comment"] == COMMENT
            assert tagged.size[0] < tagged.size[1] and np.asarray(tagged).std() > 20
        page.get_by_role("button", name="Record").click()
        moves(page)
        with page.expect_download() as saved:
            page.locator("#record").click()
        video = tmp_path / saved.value.suggested_filename
        saved.value.save_as(video)
        with open_video(str(video)) as recorded:
            shown = [frame.image for frame in recorded]
        assert len(shown) > 2 and shown[-1].std() > 20

        page.locator("#stop").click()
        page.get_by_role("button", name="Start camera").wait_for()
        sent = page.evaluate("livepuppet.camera().sent")
        time.sleep(0.5)
        assert page.evaluate("livepuppet.camera().sent") == sent
        assert page.troubles == []


@pytest.mark.parametrize("codec", ["h264", "vp8", "jpeg"])
def test_a_phone_by_every_codec_over_tls(camera, tmp_path, codec):
    with (
        serving(tmp_path, "--port", "0", "--listen", "127.0.0.1") as address,
        browsing(camera, 390, 844) as context,
    ):
        page = opened(context, address, f"?codec={codec}")
        assert address.startswith("https://") and page.evaluate("isSecureContext")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("livepuppet.way.up") == page.evaluate("livepuppet.way.down") == codec
        page.get_by_role("button", name="Start camera").tap() if page.evaluate(
            "'ontouchstart' in self"
        ) else page.get_by_role("button", name="Start camera").click()
        shows(page, "document.querySelector('#mode').dataset.mode === 'live'")
        moves(page)
        assert page.troubles == []


def test_a_server_that_was_restarted_is_told_everything_again(camera, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with browsing(camera) as context:
        with serving(tmp_path, "--port", port) as address:
            page = opened(context, address)
            page.get_by_role("button", name="Start camera").click()
            shows(page, "document.querySelector('#mode').dataset.mode === 'live'")
            page.evaluate(
                "livepuppet.link().addEventListener('told', ({ detail }) => detail.state && (self.modes ??= []).push(detail.state.mode))"
            )
            # The neutral pose is told once the countdown is over.
            moves(page)
        page.get_by_text("connecting again").wait_for()
        page.evaluate("self.modes = []")
        with serving(tmp_path, "--port", port):
            moves(page)
            shows(page, "document.querySelector('#mode').dataset.mode === 'live'")
            assert "counting" not in page.evaluate("self.modes")
        assert page.troubles == []


def test_an_address_without_its_token_says_so(camera, tmp_path):
    with serving(tmp_path, "--port", "0") as address, browsing(camera) as context:
        page = context.new_page()
        page.goto(address.partition("#")[0])
        page.get_by_text("This address lacks its token").wait_for()
        assert page.get_by_role("button", name="Start camera").is_disabled()


def test_the_benchmark_prints_what_each_way_takes(livepuppet):
    if shutil.which("chromium") is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium)")
    result = livepuppet("bench", "latency", "--browser", "--seconds", "2")
    assert "| H.264, moved picture |" in result.stdout and "| JPEG both ways |" in result.stdout, (
        result.stderr
    )
