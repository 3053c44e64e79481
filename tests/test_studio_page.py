"""A person's clicks on the studio's page, in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tiny_bundle
from media import gradient, red_picture, write_clip, write_picture

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="the browser is driven by Playwright: pip install playwright"
)

pytestmark = pytest.mark.slow

#: Seconds that anything may take here.
PATIENCE = 40


@pytest.fixture
def page():
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=browser, args=["--headless=new", "--no-sandbox", "--mute-audio"]
        )
        context = chromium.new_context(
            viewport={"width": 1366, "height": 768}, permissions=["clipboard-read", "clipboard-write"]
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        chromium.close()


@pytest.fixture
def studio(tmp_path):
    """`livepuppet studio` in a process of its own, with a looped clip as the camera; the address that it prints."""
    (tmp_path / "avatars").mkdir()
    write_picture(tmp_path / "avatars" / "first.png", gradient(64, 64))
    levels = [*range(60, 200, 10), *range(200, 60, -10)]
    clip = write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in levels], rate=25)
    bundle = tiny_bundle.write_bundle(tmp_path / "tiny-64")
    environment = {
        **os.environ,
        "LIVEPUPPET_CONFIG": str(tmp_path / "config"),
        "XDG_VIDEOS_DIR": str(tmp_path / "videos"),
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "livepuppet", "studio", "--no-open", "--driving", clip, "--loop"),
            *("--avatar", tmp_path / "avatars", "--model", bundle, "--engine", "onnx", "--crop", "full"),
            *("--size", "320x180", "--countdown", "0", "--control-port", "0"),
        ],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if line.startswith("The studio is at "):
                break
        else:
            pytest.fail("it did not start")
        yield line.split()[-1], process
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stderr.close()


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def shows(page, expression):
    """Wait until an expression is true in the page. (Playwright's own waiting would need eval, which the page forbids.)"""
    until(lambda: page.evaluate(expression))


def pixels(page) -> np.ndarray:
    """What the page shows of the moving picture, from a screenshot."""
    data = np.frombuffer(page.locator("#picture").screenshot(), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int)


def test_from_the_address_to_a_recording_of_an_added_picture(page, studio, tmp_path):
    address, process = studio
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: message.type == "error" and troubles.append(message.text))

    # The token is out of sight, and everything is on one screen.
    page.goto(address)
    shows(page, "document.querySelectorAll('#grid li').length === 1")
    assert "token" not in page.url and page.url.endswith("/studio")
    assert page.evaluate("document.documentElement.scrollHeight") <= 768
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366
    shows(page, "document.querySelector('#page-delay').textContent.includes('ms')")

    # The picture moves.
    number = "Number(document.querySelector('#picture').dataset.number)"
    before = page.evaluate(number)
    shows(page, f"{number} > {before + 10}")

    # A picture is added, shown at once, and looks like what was added.
    green = np.zeros((64, 64, 3), np.uint8)
    green[..., 1] = gradient(64, 64)[..., 0] // 2 + 120
    write_picture(tmp_path / "A new one.png", green)
    page.set_input_files("#files", tmp_path / "A new one.png")
    page.get_by_role("button", name="A new one", pressed=True, exact=True).wait_for()
    until(lambda: pixels(page)[..., 1].mean() > pixels(page)[..., 2].mean() + 20)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    page.set_input_files("#files", tmp_path / "broken.png")
    page.get_by_text("broken.png is not a picture").first.wait_for()

    # Neutral pose, with its countdown.
    page.get_by_role("button", name="Take neutral pose").click()
    page.locator("#countdown").wait_for(state="visible")
    page.locator("#countdown").wait_for(state="hidden")

    # A slider by keyboard alone, reset; switches; the state of another page is the same.
    slider = page.get_by_label("Strength", exact=True)
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Mirror").click()
    other = page.context.new_page()
    other.goto(address)
    other.get_by_role("button", name="Mirror", pressed=True).wait_for()
    shows(other, "Number(document.querySelector('#slider-strength').value) === 0.8")
    other.close()
    page.get_by_role("button", name="Reset Strength").click()
    shows(page, "Number(document.querySelector('#slider-strength').value) === 1")

    # Without a camera, and back to the clip, which shows itself only while it drives.
    for choice, name in (("Mouse pointer", "pointer"), ("clip.mp4", "clip.mp4")):
        page.locator("#choose").click()
        page.locator("#sources .source", has_text=choice).click()
        shows(page, f"document.querySelector('#source-name').textContent.includes('{name}')")
        page.locator("#sources-dialog").wait_for(state="hidden")

    # Keys as in the window: the first avatar, the list of keys.
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("d")
    page.get_by_role("button", name="first", pressed=True, exact=True).wait_for()
    page.keyboard.press("h")
    page.get_by_text("take this moment for the neutral pose (D1)").wait_for()
    page.get_by_role("button", name="Close").click()

    # A recording, by its switch; a reload loses nothing.
    recording = page.get_by_role("switch", name="Recording")
    recording.click()
    page.locator("#recording[aria-checked=true]").wait_for()
    page.reload()
    page.locator("#recording[aria-checked=true]").wait_for()
    page.get_by_text("0:02").wait_for()
    page.get_by_role("switch", name="Recording").click()
    page.locator("#recording[aria-checked=false]").wait_for()
    [file] = (tmp_path / "videos" / "livepuppet").iterdir()
    capture = cv2.VideoCapture(str(file))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) > 10 and capture.read()[0]
    shows(page, f"document.querySelector('#recording-state').textContent === '{file.name}'")

    # The address for OBS shows the picture alone.
    page.get_by_role("button", name="Copy address").click()
    page.get_by_text("Copied").wait_for()
    clean = page.context.new_page()
    clean.goto(page.evaluate("navigator.clipboard.readText()"))
    shows(clean, "Number(document.querySelector('#picture').dataset.number) > 0")
    assert clean.locator("body > *").count() == 1
    clean.close()

    # A closed page stops nothing.
    page.goto("about:blank")
    time.sleep(0.5)
    assert process.poll() is None
    assert [text for text in troubles if "400" not in text] == []


def test_what_went_wrong_outlives_what_went_well_and_no_dialog_covers_it(page, studio):
    address, _ = studio
    page.goto(address)
    shows(page, "document.querySelectorAll('#grid li').length === 1")
    told, place = page.evaluate(
        """async () => {
            const { toast } = await import('/static/dom.js');
            const toasts = document.querySelector('#toasts');
            toasts.replaceChildren();
            toast('wrong', { bad: true });
            for (const text of ['one', 'two', 'three']) toast(text);
            const told = [...toasts.children].map((box) => box.textContent);
            document.querySelector('#keys-dialog').showModal();
            toast('four');
            return [told, toasts.parentElement.id];
        }"""
    )
    assert told == ["wrong", "two", "three"]
    assert place == "keys-dialog"
    page.get_by_role("button", name="Close").click()
    shows(page, "document.querySelector('#toasts').parentElement === document.body")


@pytest.mark.parametrize(
    ("path", "width", "height"), [("studio", 1366, 768), ("studio", 390, 844), ("panel", 400, 600)]
)
def test_everything_has_a_name_and_fingers_hit_it(page, studio, path, width, height):
    address, _ = studio
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address.replace("/studio?", f"/{path}?"))
    shows(page, "document.querySelectorAll('#sliders input').length > 3")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, select, input:not([hidden]), canvas')].filter((element) =>
            !element.textContent.trim() && !element.getAttribute('aria-label') && !element.labels?.length
            && !element.getAttribute('aria-labelledby') && element.getAttribute('aria-hidden') !== 'true')
            .map((element) => element.outerHTML)"""
    )
    assert nameless == []
    if path == "studio" and width < 500:
        small = page.evaluate(
            """[...document.querySelectorAll('button, select, .toggle, input[type=range]')]
                .filter((element) => element.offsetParent && element.getBoundingClientRect().height < 44)
                .map((element) => element.outerHTML)"""
        )
        assert small == []
