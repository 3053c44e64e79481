"""A person's clicks on the page that `livepuppet web` writes, in a real browser, and its pictures against Python's.

Needs Chromium, Playwright, and onnxruntime-web, which no test fetches: LIVEPUPPET_ONNXRUNTIME_WEB names its folder, and
LIVEPUPPET_AXE_CORE that of axe-core, for the test of what assistive technology finds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from media import gradient, write_picture
from PIL import Image

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reference import THRESHOLDS
from livepuppet.core.video import open_video
from livepuppet.realtime.app.web.serve import open_server
from livepuppet.realtime.app.web.site import write_site
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.bundled import AVATAR, DRIVING, EXAMPLE, MODEL
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.outputs.badge import COMMENT, SOURCE_TYPE

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the browser is driven by Playwright: pip install playwright"
)
RUNTIME = os.environ.get("LIVEPUPPET_ONNXRUNTIME_WEB")
AXE = os.environ.get("LIVEPUPPET_AXE_CORE")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not RUNTIME,
        reason="LIVEPUPPET_ONNXRUNTIME_WEB is not set to node_modules/onnxruntime-web (npm install onnxruntime-web@1.30.0)",
    ),
]

#: Seconds that anything may take here, and that a rig may.
PATIENCE, MAKING = 120, 400


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "under" / "a path"
    return write_site(folder, runtime=Path(RUNTIME)).folder


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


class Browser:
    """Chromium with a camera, and a site at `address`."""

    def __init__(self, context, address: str):
        self.context, self.address = context, address
        self.requests: list[str] = []
        self.troubles: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))

    def open(self, query: str = "", says: str | None = None) -> playwright.Page:
        """`says` is what the page says before it is ready, and not for long."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", lambda told: told.type == "error" and self.troubles.append(told.text))
        page.goto(self.address + query)
        if says is not None:
            page.get_by_text(says).wait_for()
        shows(page, "document.body?.dataset.ready === 'true'")
        return page


@contextlib.contextmanager
def browsing(
    site: Path,
    camera: Path | None,
    plain: bool = False,
    width: int = 1366,
    height: int = 768,
    allowed: bool = True,
    workers: Literal["allow", "block"] = "allow",
    scheme: Literal["dark", "light"] = "dark",
    host: str = "localhost",
):
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium (Debian: apt install chromium)")
    server = open_server(site.parent.parent, 0)
    if plain:
        # As hosts that send no headers of ours.
        handler = server.RequestHandlerClass.func
        server.RequestHandlerClass = type(
            "Plain", (handler,), {"end_headers": super(handler, handler).end_headers}
        )
        folder = str(site.parent.parent)
        handler = server.RequestHandlerClass
        server.RequestHandlerClass = lambda *arguments: handler(*arguments, directory=folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless=new", "--no-sandbox", "--mute-audio", "--no-proxy-server"]
    options += ["--host-resolver-rules=MAP another.test 127.0.0.1"]
    if camera is not None:
        options += ["--use-fake-ui-for-media-stream"] if allowed else ["--deny-permission-prompts"]
        options += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    try:
        with playwright.sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=found, args=options)
            context = chromium.new_context(
                viewport={"width": width, "height": height},
                permissions=["camera", "microphone"] if allowed else [],
                service_workers=workers,
                color_scheme=scheme,
            )
            address = f"http://{host}:{server.server_address[1]}/under/a%20path/"
            yield Browser(context, address)
            chromium.close()
    finally:
        server.shutdown()
        server.server_close()


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def shows(page, expression):
    """Wait until an expression is true in the page. (Playwright's own waiting would need eval, which the page forbids.)"""

    def holds():
        with contextlib.suppress(playwright.Error):  # the page is being loaded again
            return page.evaluate(expression)

    until(holds)


def examples(page) -> int:
    return page.evaluate("Number(document.querySelector('#picture').dataset.examples || 0)")


def frames(page) -> int:
    return page.evaluate("Number(document.querySelector('#picture').dataset.frames || 0)")


#: How many rigs the browser keeps.
KEPT = """() => new Promise((resolve) => {
    indexedDB.open("livepuppet").onsuccess = ({ target }) => {
        target.result.transaction("rigs").objectStore("rigs").count().onsuccess = (told) => resolve(told.target.result);
    };
})"""


def test_from_the_link_to_a_recording_of_an_added_picture(site, camera, tmp_path):
    with browsing(site, camera) as browser:
        page = browser.open()
        assert page.evaluate("crossOriginIsolated")
        assert page.evaluate("document.documentElement.scrollHeight") <= 768
        assert page.evaluate("document.documentElement.scrollWidth") <= 1366
        # Something moves before anybody does.
        until(lambda: examples(page) > 3)
        assert frames(page) == 0 and page.locator("#start").is_visible()
        page.get_by_text("an example moves it").wait_for()

        # The camera starts, the countdown takes the neutral pose, the picture moves.
        page.get_by_role("button", name="Start camera").click()
        shows(page, "document.querySelector('#mode').dataset.mode === 'live'")
        before = frames(page)
        until(lambda: frames(page) > before + 5)
        assert page.locator("#start").is_hidden() and page.locator("#square").is_visible()
        page.get_by_role("button", name="Take neutral pose").click()
        page.locator("#countdown").wait_for(state="visible")
        page.locator("#countdown").wait_for(state="hidden")
        shows(page, "document.querySelector('#fit').textContent.includes('Neutral pose: ')")

        # A slider by keyboard, and back; mirror by its key.
        page.get_by_label("Strength", exact=True).focus()
        for _ in range(4):
            page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.querySelector('#slider-strength').value") == "0.8"
        page.get_by_role("button", name="Reset Strength").click()
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("m")
        page.get_by_role("button", name="Mirror", pressed=True).wait_for()

        # A picture of one's own, and what is none.
        own = cv2.imread(str(AVATAR))[..., ::-1].copy()
        write_picture(tmp_path / "My own.png", cv2.resize(own, (400, 400)))
        page.set_input_files("#files", tmp_path / "My own.png")
        page.get_by_role("button", name="My own", pressed=True).wait_for()
        # Its rig is made here; what has no face is drawn by the network. Both say so.
        page.get_by_text("Preparing this picture").wait_for()
        # Its head moves before eyes, mouth and background are ready.
        page.get_by_text("It moves already").wait_for()
        before = frames(page)
        until(lambda: frames(page) > before + 2)
        assert (
            page.locator("#making").is_visible()
            and page.get_by_role("button", name="Transparent").is_disabled()
        )
        page.locator("#making").wait_for(state="hidden", timeout=MAKING * 1000)
        assert page.evaluate("document.querySelector('#engine').textContent.startsWith('rig, ')")
        assert page.get_by_role("button", name="Transparent").is_enabled()
        # It is kept: the same picture again is not worked out again.
        until(lambda: page.evaluate(KEPT) == 1)
        write_picture(tmp_path / "Again.png", cv2.resize(own, (400, 400)))
        page.evaluate("document.querySelector('#engine').textContent = ''")
        page.set_input_files("#files", tmp_path / "Again.png")
        shows(page, "document.querySelector('#engine').textContent.startsWith('rig, ')")
        assert page.evaluate(KEPT) == 1
        before = frames(page)
        until(lambda: frames(page) > before + 2)
        # Whatever it is, something moves.
        write_picture(tmp_path / "wall.png", gradient(48, 3000))
        page.set_input_files("#files", tmp_path / "wall.png")
        page.get_by_text("No face was found in wall").wait_for(timeout=MAKING * 1000)
        page.get_by_text("for other backgrounds").wait_for()
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        page.set_input_files("#files", tmp_path / "broken.png")
        page.get_by_text("broken.png cannot be read here").wait_for()
        before = frames(page)
        until(lambda: frames(page) > before + 2)

        # A snapshot with nothing behind the figure.
        page.keyboard.press("1")
        page.get_by_role("button", name="example", pressed=True).wait_for()
        page.get_by_role("button", name="Transparent").click()
        before = frames(page)
        until(lambda: frames(page) > before + 2)
        with page.expect_download() as saved:
            page.get_by_role("button", name="Snapshot").click()
        saved.value.save_as(tmp_path / "snapshot.png")
        picture = cv2.imread(str(tmp_path / "snapshot.png"), cv2.IMREAD_UNCHANGED)
        assert picture.shape == (512, 512, 4)
        assert picture[:20, :20, 3].max() == 0 and picture[256, 256, 3] == 255
        with Image.open(tmp_path / "snapshot.png") as tagged:
            assert tagged.text["Comment"] == COMMENT and SOURCE_TYPE in tagged.text["XML:com.adobe.xmp"]

        # A recording.
        page.get_by_role("button", name="As is").click()
        page.get_by_role("button", name="Record").click()
        before = frames(page)
        until(lambda: frames(page) > before + 10)
        with page.expect_download() as saved:
            page.locator("#record").click()
        video = tmp_path / saved.value.suggested_filename
        saved.value.save_as(video)
        with open_video(str(video)) as recorded:
            shown = [frame.image for frame in recorded]
        assert len(shown) > 3 and shown[-1].shape[:2] == (512, 512) and shown[-1].std() > 20
        # It says so in the picture: white words on a dark panel.
        corner = shown[-1][480:506, 330:506].astype(int)
        assert corner.max() > 200 and np.median(corner) < 120
        if video.suffix == ".mp4":
            assert SOURCE_TYPE.encode() in video.read_bytes()

        # The picture alone, and back; the keys; the end.
        page.keyboard.press("p")
        assert page.locator("header").is_hidden()
        page.keyboard.press("Escape")
        page.keyboard.press("h")
        page.get_by_text("take the neutral pose", exact=True).wait_for()
        page.get_by_role("button", name="Close").click()
        page.locator("#stop").click()
        page.get_by_role("button", name="Start camera").wait_for()
        before = examples(page)
        until(lambda: examples(page) > before + 3)
        assert browser.troubles == []


def test_the_network_draws_where_no_rig_can_be_made(site, camera, tmp_path):
    with browsing(site, camera) as browser:
        browser.context.route("**/encoding/modules.js", lambda route: route.abort())
        page = browser.open()
        shutil.copy(AVATAR, tmp_path / "own.png")
        page.set_input_files("#files", tmp_path / "own.png")
        page.get_by_text("own could not be prepared, so it is drawn in a simpler way").wait_for()
        page.get_by_text("This picture is drawn in a simpler way").wait_for()
        assert "network, int8" in page.locator("#engine").text_content()
        page.get_by_role("button", name="Start camera").click()
        until(lambda: frames(page) > 3)


def test_nothing_leaves_and_it_works_without_a_connection(site, camera):
    with browsing(site, camera, plain=True) as browser:
        # A host without headers: the service worker isolates the page.
        page = browser.open("?threads=2")
        assert page.evaluate("crossOriginIsolated")
        shows(page, "document.querySelector('#engine').textContent.includes('threads')")
        assert all(url.startswith((browser.address, "blob:")) for url in browser.requests)
        told = json.loads((site / "files.js").read_text().removeprefix("self.SITE = ").rstrip(";\n"))
        kept = (
            f"caches.open('livepuppet {told['version']}').then((one) => one.keys()).then((all) => all.length)"
        )
        shows(page, f"{kept}.then((count) => count >= {len(told['shell']) + len(told['rest'])})")

        browser.requests.clear()
        page.get_by_role("button", name="Start camera").click()
        until(lambda: frames(page) > 10)
        page.get_by_role("button", name="Take neutral pose").click()
        page.get_by_role("button", name="Blurred").click()
        page.locator("#countdown").wait_for(state="hidden")
        assert [url for url in browser.requests if not url.startswith("blob:")] == []

        page.close()
        browser.context.set_offline(True)
        page = browser.open()
        page.get_by_role("button", name="Start camera").click()
        until(lambda: frames(page) > 3)
        assert browser.troubles == []


def test_what_goes_wrong_is_said_and_the_page_goes_on(site, tmp_path):
    with browsing(site, None) as browser:
        page = browser.open("?threads=1")
        page.get_by_role("button", name="Start camera").click()
        page.get_by_text("There is no camera: connect one").wait_for()
        # What went wrong stays until somebody has read it, or begins something else.
        page.get_by_role("button", name="Dismiss").click()
        page.get_by_text("There is no camera: connect one").wait_for(state="hidden")
        (tmp_path / "notes.mp4").write_bytes(b"no video" * 100)
        page.set_input_files("#clip-file", tmp_path / "notes.mp4")
        page.get_by_text("notes.mp4 cannot be played here").wait_for()
        (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(500))
        page.set_input_files("#files", tmp_path / "photo.heic")
        page.get_by_text("photo.heic cannot be read here").wait_for()
        page.get_by_text("notes.mp4 cannot be played here").wait_for(state="hidden")
        page.evaluate(
            """() => {
                const dropped = new DataTransfer();
                dropped.items.add(new File([new Uint8Array(100 << 20)], "huge.png", { type: "image/png" }));
                document.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
            }"""
        )
        page.get_by_text("huge.png is larger than 64 MB").wait_for()
        page.get_by_role("button", name="Try it with a clip").click()
        until(lambda: frames(page) > 3)
        assert browser.troubles == []


def test_a_browser_that_lacks_something_says_what_and_nothing_can_be_pressed(site):
    with browsing(site, None) as browser:
        browser.context.add_init_script("delete window.OffscreenCanvas")
        page = browser.context.new_page()
        page.goto(browser.address)
        page.get_by_text("it lacks OffscreenCanvas. Open the page in a current Chrome").wait_for()
        page.get_by_text("cannot start").wait_for()
        pressable = "[...document.querySelectorAll('main :is(button, select, input)')].filter((one) => one.offsetParent && !one.matches(':disabled, [inert] *'))"
        assert page.evaluate(f"{pressable}.map((one) => one.id)") == []


def test_a_camera_that_goes_away_can_come_back(site, camera):
    with browsing(site, camera) as browser:
        page = browser.open()
        page.get_by_role("button", name="Start camera").click()
        until(lambda: frames(page) > 3)
        # A recording stands still while its tab is hidden.
        page.get_by_role("button", name="Record").click()
        for hidden in ("true", "false"):
            page.evaluate(
                f"Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
        page.get_by_text("The recording stood still while this tab was hidden").wait_for()
        page.locator("#record").click()
        # As a browser tells of a camera that was pulled out.
        page.evaluate(
            "document.querySelector('#video').srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))"
        )
        page.get_by_text("The camera stopped: connect it again").wait_for()
        before = frames(page)
        page.get_by_role("button", name="Start camera").click()
        until(lambda: frames(page) > before + 3)
        assert browser.troubles == []


def test_without_leave_and_without_threads_it_says_so_and_goes_on(site, camera):
    with browsing(site, camera, plain=True, allowed=False, workers="block") as browser:
        page = browser.open(says="Pictures move slower here")
        assert not page.evaluate("crossOriginIsolated")
        page.get_by_role("button", name="Start camera").click()
        page.get_by_text("The browser keeps the camera from this page").wait_for()
        page.get_by_role("button", name="Try it with a clip").click()
        until(lambda: frames(page) > 3)
        assert browser.troubles == []


def test_an_address_that_is_not_secure_has_no_camera_and_goes_on(site, camera):
    with browsing(site, camera, host="another.test") as browser:
        page = browser.open(says="need a secure address")
        assert not page.evaluate("isSecureContext")
        until(lambda: examples(page) > 3)
        page.get_by_text("need a secure address").wait_for(state="hidden")
        page.get_by_role("button", name="Start camera").click()
        page.get_by_text("need a secure address").wait_for()
        page.get_by_role("button", name="Try it with a clip").click()
        until(lambda: frames(page) > 3)


def test_the_pictures_are_pythons(site, camera):
    def told(points, jacobians):
        return {"points": points.ravel().tolist(), "jacobians": jacobians.ravel().tolist()}

    avatar = load_avatar(EXAMPLE)
    engine = load_engine("onnx", MODEL, precision="float32")
    own = engine.detect(avatar.image)
    features = engine.encode(avatar.image)
    random = np.random.default_rng(1)
    with browsing(site, camera) as browser:
        page = browser.open("?precision=float32&network")
        shows(page, "livepuppet.model().precision === 'float32'")
        assert page.evaluate("livepuppet.model().quality")["pixelsMax"] <= 2
        for amount in (0.0, 0.02, 0.05):
            points = own.points + random.normal(0, amount, own.points.shape).astype(np.float32)
            jacobians = own.jacobians + random.normal(0, amount, own.jacobians.shape).astype(np.float32)
            expected = engine.render(features, own, Keypoints(points, jacobians))
            found = page.evaluate(
                """async ({ own, points, jacobians }) => {
                    const { Engine, prepareRuntime } = await import(new URL("engine.js", location.href).href);
                    const { fetched, unpacked } = await import(new URL("fetching.js", location.href).href);
                    const { RUNTIME } = await import(new URL("engine.js", location.href).href);
                    prepareRuntime(1, await unpacked(await fetched(RUNTIME)));
                    const bundle = JSON.parse(new TextDecoder().decode(await fetched("./model/bundle.json")));
                    const graphs = {};
                    const { unhalved } = await import(new URL("halves.js", location.href).href);
                    for (const [stage, { file }] of Object.entries(bundle.graphs)) graphs[stage] = await fetched(`./model/${file}`);
                    graphs.detect = unhalved(graphs.detect);
                    const engine = (self.tested ??= await Engine.open(bundle, "float32", graphs));
                    const picture = await createImageBitmap(await (await fetch("./avatars/00-square.webp")).blob());
                    const canvas = new OffscreenCanvas(256, 256).getContext("2d");
                    canvas.drawImage(picture, 0, 0);
                    const { data } = canvas.getImageData(0, 0, 256, 256);
                    const square = new Uint8Array(256 * 256 * 3).map((_, at) => data[4 * Math.floor(at / 3) + (at % 3)]);
                    const found = await engine.detect(square);
                    const keypoints = ({ points, jacobians }) => ({ points: Float32Array.from(points), jacobians: Float32Array.from(jacobians) });
                    const { pixels } = await engine.render(await engine.encode(square), keypoints(own), keypoints({ points, jacobians }));
                    return { points: [...found.points], pixels: [...pixels] };
                }""",
                {"own": told(own.points, own.jacobians), **told(points, jacobians)},
            )
            # The page finds faces with weights in 16 bits.
            assert (
                np.abs(np.array(found["points"]) - own.points.ravel()).max() < THRESHOLDS["float16"].keypoints
            )
            off = np.abs(np.array(found["pixels"]) - expected.ravel().astype(int))
            assert off.max() <= 2, f"{off.max()} levels"


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844), (844, 390)])
def test_everything_has_a_name_and_fingers_hit_it(site, camera, width, height):
    with browsing(site, camera, width=width, height=height) as browser:
        page = browser.open()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, select, input:not([hidden]), canvas')].filter((element) =>
                !element.textContent.trim() && !element.getAttribute('aria-label') && !element.labels?.length
                && !element.getAttribute('aria-labelledby') && element.getAttribute('aria-hidden') !== 'true')
                .map((element) => element.outerHTML)"""
        )
        assert nameless == []
        if width < 1000:
            small = page.evaluate(
                """[...document.querySelectorAll('button, select, .toggle, input[type=range]')]
                    .filter((element) => element.offsetParent && element.getBoundingClientRect().height < 44)
                    .map((element) => element.outerHTML)"""
            )
            assert small == []


class Firefox:
    """Firefox without a screen, by its Marionette protocol: messages of JSON, each after its length and a colon."""

    def __init__(self, path: str, profile: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (profile / "user.js").write_text(f'user_pref("marionette.port", {port});')
        self.process = subprocess.Popen(
            [path, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            env={**os.environ, "HOME": str(profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.told = until(lambda: self._connected(port)).makefile("rwb")
        self._read()
        self.call("WebDriver:NewSession")

    @staticmethod
    def _connected(port: int) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        return None

    def _read(self):
        length = b""
        while (digit := self.told.read(1)) != b":":
            length += digit
        return json.loads(self.told.read(int(length)))

    def call(self, name: str, **given):
        message = json.dumps([0, 1, name, given]).encode()
        self.told.write(b"%d:%s" % (len(message), message))
        self.told.flush()
        _, _, error, found = self._read()
        assert error is None, error
        return found

    def evaluate(self, expression: str):
        return self.call("WebDriver:ExecuteScript", script=f"return {expression}", args=[])["value"]


def test_firefox_opens_and_draws(site, tmp_path):
    found = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
    if found is None:
        pytest.skip("there is no Firefox (Debian: apt install firefox-esr)")
    with open_server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        firefox = Firefox(found, tmp_path)
        try:
            firefox.call("WebDriver:Navigate", url=f"http://localhost:{server.server_address[1]}/")
            until(lambda: firefox.evaluate("document.body.dataset.ready === 'true'"))
            assert firefox.evaluate("crossOriginIsolated")
            until(lambda: examples(firefox) > 3)
            firefox.evaluate("document.querySelector('#start-demo').click()")
            until(lambda: frames(firefox) > 3)
            assert firefox.evaluate("document.querySelector('#engine').textContent").startswith("rig, ")
        finally:
            firefox.process.terminate()
            firefox.process.wait(PATIENCE)
            server.shutdown()


@pytest.mark.skipif(
    not AXE, reason="LIVEPUPPET_AXE_CORE is not set to node_modules/axe-core (npm install axe-core)"
)
@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 800, "light"), (390, 844, "dark")])
def test_axe_finds_nothing_serious(site, camera, width, height, scheme, tmp_path):
    axe = (Path(AXE) / "axe.min.js").read_text(encoding="utf-8")
    found = []

    def look(page, state: str) -> None:
        page.evaluate(f"{axe}; null")
        violations = page.evaluate(
            """axe.run().then(({ violations }) =>
                violations.map(({ impact, id, nodes }) => [impact, id, ...nodes.map(({ html }) => html.slice(0, 200))]))"""
        )
        found.extend((state, *one) for one in violations if one[0] in ("serious", "critical"))

    with browsing(site, camera, width=width, height=height, scheme=scheme) as browser:
        page = browser.open()
        until(lambda: examples(page) > 3)
        look(page, "start")
        page.get_by_role("button", name="Start camera").click()
        until(lambda: frames(page) > 3)
        look(page, "live")
        page.get_by_role("button", name="Record").click()
        page.locator("#recording").wait_for(state="visible")
        look(page, "recording")
        with page.expect_download():
            page.locator("#record").click()
        page.get_by_role("button", name="Transparent").click()
        look(page, "recorded, without a background")
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        page.set_input_files("#files", tmp_path / "broken.png")
        page.get_by_text("broken.png cannot be read here").wait_for()
        look(page, "a picture that cannot be read")
        page.set_input_files("#files", AVATAR)
        page.locator("#making").wait_for(state="visible")
        look(page, "a rig in the making")
        page.locator("#keys").dispatch_event("click")
        page.get_by_role("heading", name="Keyboard shortcuts").wait_for()
        look(page, "keys")
        page.get_by_role("button", name="Close").click()
        page.locator("#stop").click()
        # It would be gone before anybody has looked.
        page.evaluate("document.querySelector('#countdown').hidden = false")
        page.evaluate("document.querySelector('#countdown b').textContent = '2'")
        look(page, "counting down")
        page.evaluate("document.querySelector('#clean').click()")
        look(page, "the picture alone")
    with browsing(site, None, width=width, height=height, scheme=scheme, workers="block") as browser:
        browser.context.route("**/runtime/*.packed", lambda route: route.abort())
        page = browser.context.new_page()
        page.goto(browser.address)
        page.get_by_role("button", name="Reload the page").wait_for()
        look(page, "not loaded")
    assert found == []
