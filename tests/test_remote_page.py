# ruff: noqa: E402
"""The page of `livepuppet serve`: what the server does for a page, and a person's taps in a real browser."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
import tiny_bundle
from media import gradient, write_picture

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'studio' is not installed")
client = pytest.importorskip("websockets.sync.client", reason="the extra 'studio' is not installed")

from websockets.exceptions import InvalidStatus

from livepuppet.core.errors import UserError
from livepuppet.core.images import encode_png
from livepuppet.realtime.app.remote_page.page import FILES
from livepuppet.realtime.app.remote_page.pictures import load_offered, read_picture
from livepuppet.realtime.app.remote_page.protocol import CAMERA, PAGE_PATH, PAGE_VERSION, PICTURE, RECEIPT
from livepuppet.realtime.app.remote_page.qr import qr_code
from livepuppet.realtime.app.remote_page.session import Offered, _changed_settings, _parsed_neutral
from livepuppet.realtime.app.render_server import RenderServer
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.remote.protocol import ACKNOWLEDGE, CLOCK_REPLY, CLOCK_REQUEST, BadMessage
from livepuppet.realtime.remote.video import (
    H264,
    JPEG,
    VP8,
    BadPicture,
    CameraDecoder,
    H264Encoder,
    JpegEncoder,
    Vp8Encoder,
)

TOKEN = "t" * 40
ENCODERS = {
    "h264": lambda shape: H264Encoder(shape),
    "vp8": lambda shape: Vp8Encoder(shape),
    "jpeg": lambda shape: JpegEncoder(),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return load_engine(
        "onnx", tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64"), threads=1
    )


@pytest.fixture
def server(engine, tmp_path):
    write_picture(tmp_path / "one.png", gradient(64, 64))
    offered, _ = load_offered([tmp_path], engine.size)
    server = RenderServer(engine, [TOKEN], places=2, page=[Offered(*one) for one in offered])
    yield server
    server.close()


class Page:
    """What a page does, without a browser."""

    def __init__(self, server, codecs=("h264",), up="h264", token=TOKEN, session=None, **more):
        self.session = session or secrets.token_hex(16)
        self.socket = client.connect(
            f"ws://127.0.0.1:{server.port}{PAGE_PATH}",
            subprotocols=["livepuppet", f"token.{token}"],
            compression=None,
            open_timeout=20,
            close_timeout=1,
            max_size=1 << 24,
        ).__enter__()
        self.say({"version": PAGE_VERSION, "session": self.session, "codecs": list(codecs), **more})
        self.told: list[dict] = []
        self.receipts: list[int] = []
        self.up, self.number, self.encoder = up, 0, None
        self.decoder = CameraDecoder()

    def say(self, message):
        self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    def hear(self, seconds=20.0):
        """The next picture's header and pixels, or what was told."""
        message = self.socket.recv(timeout=seconds)
        if isinstance(message, str):
            self.told.append(json.loads(message))
            return self.told[-1]
        if message[:1] == b"R":
            self.receipts.append(RECEIPT.unpack(message)[1])
            return {}
        if message[:1] == b"T":
            return {"clock": CLOCK_REPLY.unpack(message)}
        head = PICTURE.unpack_from(message)
        self.say(ACKNOWLEDGE.pack(b"K", head[1]))
        return {"head": head, "pixels": self.decoder.decode(head[3], message[PICTURE.size :])}

    def until(self, name):
        deadline = time.monotonic() + 30
        while name not in (message := self.hear()):
            assert time.monotonic() < deadline, f"no {name} came"
        return message

    def film(self, picture, key=False):
        """Send a picture of the camera."""
        if self.encoder is None:
            self.encoder, key = ENCODERS[self.up](picture.shape), True
        data = self.encoder.encode(picture, key)
        head = CAMERA.pack(b"V", self.number, self.encoder.codec, key, time.perf_counter())
        self.number += 1
        self.say(head + data)

    def until_pictured(self, picture, name="head"):
        """Film the same until something comes."""
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, f"no {name} came"
            self.film(picture)
            with contextlib.suppress(TimeoutError):
                while name not in (message := self.hear(0.1)):
                    pass
                return message

    def close(self):
        self.socket.close()


@pytest.fixture
def page(server):
    pages = []

    def opened(**options):
        pages.append(Page(server, **options))
        return pages[-1]

    yield opened
    for one in pages:
        one.close()


@pytest.mark.parametrize("codec", ["h264", "vp8", "jpeg"])
def test_every_codec_goes_there_and_back(page, codec):
    one = page(codecs=(codec,), up=codec, echo=True)
    welcome = one.until("welcome")
    assert set(welcome["codecs"]) == {"h264", "vp8", "jpeg"} and welcome["offered"] == ["one"]
    assert "synthetic" in welcome["words"]["badge"] and welcome["resumed"] is False
    picture = cv2.GaussianBlur(gradient(96, 128), (0, 0), 3)
    answer = one.until_pictured(picture)
    assert answer["head"][3] == {"h264": H264, "vp8": VP8, "jpeg": JPEG}[codec]
    assert answer["pixels"].shape == picture.shape
    assert np.abs(answer["pixels"].astype(int) - picture).mean() < 4
    assert one.receipts[0] == 0


def test_a_picture_moves_and_the_page_is_told_what_the_driver_does(page):
    one = page()
    one.say({"show": "offered 0"})
    assert one.until("ready")["ready"] == "offered 0"
    answer = one.until_pictured(gradient(96, 128))
    # Small pictures are drawn larger, in their own shape.
    assert answer["pixels"].shape == (256, 256, 3)
    state = one.until_pictured(gradient(96, 128), "state")["state"]
    assert state["mode"] in ("looking", "counting")
    one.say(CLOCK_REQUEST.pack(b"T", 1.5))
    assert one.until("clock")["clock"][1] == 1.5


def test_a_picture_of_ones_own_is_sent_once_and_by_hash(page):
    one = page()
    png = encode_png(gradient(80, 40))
    digest = hashlib.sha256(png).hexdigest()
    one.say({"show": digest})
    assert one.until("need")["need"] == digest
    one.say(b"A" + png)
    assert one.until("ready")["ready"] == digest
    assert one.until_pictured(gradient(96, 128))["pixels"].shape == (256, 128, 3)
    one.say({"show": "offered 0"})
    assert one.until("ready")["ready"] == "offered 0"
    one.told.clear()
    one.say({"show": digest})
    assert one.until("ready")["ready"] == digest
    assert not any("need" in told for told in one.told)
    # Another picture than was asked for is not taken.
    one.say({"show": "0" * 64})
    one.until("need")
    one.say(b"A" + png)
    one.say({"show": "offered 0"})
    assert one.until("ready")["ready"] == "offered 0"


def test_pictures_are_bounded_before_they_are_decoded():
    png = bytearray(encode_png(gradient(40, 40)))
    assert read_picture(bytes(png), 64).image.shape == (64, 64, 3)
    png[16:20] = (1 << 20).to_bytes(4, "big")
    for damaged in (
        bytes(png),
        b"",
        b"\x89PNG\r\n\x1a\n",
        encode_png(gradient(40, 40))[:60],
        b"\xff\xd8\xff",
    ):
        with pytest.raises(BadMessage):
            read_picture(damaged, 64)


def test_what_is_lost_is_asked_for_as_a_key_picture(page):
    one = page(echo=True)
    one.until_pictured(gradient(96, 128))
    one.number += 1
    one.film(gradient(96, 128))
    assert one.until("key")["key"] is True
    one.film(gradient(96, 128), key=True)
    one.until("head")
    one.say(CAMERA.pack(b"V", one.number, H264, 1, 0.0) + b"nothing of the kind")
    assert one.until("key")["key"] is True
    one.encoder = None
    one.until_pictured(gradient(96, 128))


def test_a_camera_that_turns_is_followed(page):
    one = page(echo=True)
    assert one.until_pictured(gradient(96, 128))["pixels"].shape == (96, 128, 3)
    one.encoder = None
    deadline = time.monotonic() + 20
    while one.until_pictured(gradient(128, 96))["pixels"].shape != (128, 96, 3):
        assert time.monotonic() < deadline


def test_a_camera_is_bounded():
    decoder = CameraDecoder()
    large = H264Encoder((1408, 1408, 3)).encode(gradient(1408, 1408), True)
    for codec, data in ((H264, large), (JPEG, b"\xff\xd8\xff"), (VP8, b"12345678"), (7, b"")):
        with pytest.raises(BadPicture):
            decoder.decode(codec, data)
    data = JpegEncoder().encode(gradient(1408, 1408))
    with pytest.raises(BadPicture):
        decoder.decode(JPEG, data)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"?",
        b"V" + bytes(14),
        CAMERA.pack(b"V", 0, H264, 1, float("nan")) + b"x",
        CAMERA.pack(b"V", 0, H264, 1, 0.0) + bytes(1 << 20),
        "no JSON",
    ],
)
def test_who_sends_nonsense_loses_the_connection_and_nobody_else_notices(page, message):
    good, bad = page(echo=True), page()
    good.until_pictured(gradient(96, 128))
    bad.until("welcome")
    bad.say(message)
    assert "not understood" in bad.until("error")["error"]
    good.film(gradient(96, 128), key=True)
    good.until("head")


def test_settings_and_neutral_poses_are_checked():
    settings = MotionSettings()
    assert _changed_settings(settings, {"strength": 0.5}).strength == 0.5
    for wrong in ({"countdown": 1}, {"strength": "1"}, {"strength": True}, [], None):
        with pytest.raises(BadMessage):
            _changed_settings(settings, wrong)
    with pytest.raises(UserError):
        _changed_settings(settings, {"strength": 5})
    pose = {
        "of_model": "m",
        "points": [[0, 0]],
        "jacobians": [[[1, 0], [0, 1]]],
        "reading": [],
        "square": [0, 0, 9],
    }
    assert _parsed_neutral(pose)[1].side == 9
    for changed in (
        {"points": [[0]]},
        {"square": [0, 0]},
        {"square": [0, 0, -1]},
        {"points": [[float("inf"), 0]]},
        {"reading": [0] * 3000},
        {"of_model": 1},
        {"jacobians": "x"},
    ):
        with pytest.raises(BadMessage):
            _parsed_neutral({**pose, **changed})


def test_a_page_finds_its_session_again_and_nobody_elses(page):
    one = page()
    one.say({"show": "offered 0"})
    one.until("ready")
    one.socket.socket.close()
    again = page(session=one.session)
    assert again.until("welcome")["resumed"] is True
    assert again.until("ready")["ready"] == "offered 0"
    assert page().until("welcome")["resumed"] is False
    # Two places are taken, and this is a third page.
    assert "places are taken" in page().until("error")["error"]


def test_the_pages_files_need_no_token_and_pictures_do(server):
    def fetch(path, **headers):
        with urlopen(Request(f"http://127.0.0.1:{server.port}{path}", headers=headers), timeout=20) as answer:
            return answer, answer.read()

    answer, body = fetch("/")
    assert b"<canvas" in body
    assert "camera=(self)" in answer.headers["permissions-policy"]
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    for name, path in FILES.items():
        assert fetch(f"/static/{name}")[1] == path.read_bytes()
    # A link to the page may stand anywhere; nothing else of it may be used from elsewhere.
    fetch("/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"})
    assert fetch("/offered/0.jpg", Authorization=f"Bearer {TOKEN}")[1][:2] == b"\xff\xd8"
    for path, headers in (
        ("/offered/0.jpg", {}),
        ("/static/main.js", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"}),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"}),
        ("/", {"Host": "elsewhere.example"}),
        ("/static/../render_server.py", {}),
    ):
        with pytest.raises(HTTPError):
            fetch(path, **headers)


def test_a_page_needs_the_token(server):
    with pytest.raises(InvalidStatus):
        Page(server, token="wrong")


def test_the_modules_of_the_page_are_all_there():
    for name, path in FILES.items():
        if name.endswith(".js"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("import "):
                    assert line.split('"')[1].removeprefix("./") in FILES


def test_a_phone_reads_the_code():
    text = "https://192.168.1.20:7471/#token=" + "5" * 64 + "&fingerprint=" + "a" * 64
    lines = qr_code(text).splitlines()
    assert len({len(line) for line in lines}) == 1
    halves = {" ": (0, 0), "▄": (0, 1), "▀": (1, 0), "█": (1, 1)}
    rows = np.array([[halves[letter] for letter in line] for line in lines])
    picture = np.stack([rows[..., 0], rows[..., 1]], 1).reshape(-1, rows.shape[1]).astype(np.uint8)
    seen = np.pad(np.kron(255 * picture, np.ones((6, 6), np.uint8)), 12)
    assert cv2.QRCodeDetector().detectAndDecode(seen)[0] == text
