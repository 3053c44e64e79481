# ruff: noqa: E402
"""The studio's server over real connections, with a real session behind it: what it does, and whom it refuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import ssl
import struct
import threading
import time
import zlib

import cv2
import numpy as np
import pytest
import tiny_bundle
from media import gradient, red_picture, write_clip, write_picture

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'studio' is not installed")
client = pytest.importorskip("websockets.sync.client", reason="the extra 'studio' is not installed")

from websockets.exceptions import InvalidStatus, WebSocketException

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import control, settings
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.app.studio import server as server_module
from livepuppet.realtime.app.studio import uploads
from livepuppet.realtime.app.studio.access import CONTENT_POLICY
from livepuppet.realtime.app.studio.feeds import (
    CAMERA_IDLE_RATE,
    CAMERA_RATE,
    HEADER,
    LEAST_RATE,
    LEAST_WIDTH,
    MOST_RATE,
    Feed,
    to_jpeg,
)
from livepuppet.realtime.engines import load_engine


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return load_engine(
        "onnx", tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64"), threads=1
    )


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """Settings for a folder of two avatars, driven by a clip that turns red, over and over."""
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "config"))
    monkeypatch.setenv("XDG_VIDEOS_DIR", str(tmp_path / "videos"))
    folder = tmp_path / "avatars"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        write_picture(folder / name, gradient(64, 64))
    clip = write_clip(tmp_path / "clip.mp4", [red_picture(level) for level in range(60, 200, 10)], rate=50)
    return merge(
        Settings(),
        {
            "avatar": str(folder),
            "driving": str(clip),
            "loop": True,
            "crop": "full",
            "size": "160x96",
            "outputs": ("studio",),
            "countdown": 0.0,
            "port": 0,
        },
    )


@contextlib.contextmanager
def running(chosen, engine, **options):
    """A session that runs in a thread, with its studio."""
    with Session(chosen, engine, keyboard=False, notify=lambda sentence: None, **options) as session:
        thread = threading.Thread(target=session.live.run)
        thread.start()
        try:
            yield session
        finally:
            session.live.stop()
            thread.join(20)


@pytest.fixture
def session(chosen, engine):
    with running(chosen, engine) as session:
        yield session


def ask(session, method, path, body=None, **headers):
    """Status, answer and headers; with token and Host unless `headers` say otherwise (None leaves one out)."""
    port = session.studio.port
    sent = {"Host": f"127.0.0.1:{port}", "Authorization": f"Bearer {control.control_token()}", **headers}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if data is not None and "Content-Length" not in headers:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        response = connection.getresponse()
        data = response.read()
        kind = response.getheader("Content-Type", "")
        return response.status, json.loads(data) if "json" in kind else data, response
    finally:
        connection.close()


def state(session):
    return ask(session, "GET", "/api/state")[1]


def watch(session, path, token=None, origin=None, **options):
    token = control.control_token() if token is None else token
    port = session.studio.port
    return client.connect(
        f"ws://127.0.0.1:{port}{path}",
        subprotocols=["livepuppet", f"token.{token}"],
        origin=origin,
        proxy=None,
        **options,
    )


def goes_on(session, frames=3):
    """The loop makes further frames."""
    before = session.live.stats.frames
    wait_for(lambda: session.live.stats.frames >= before + frames)


# What it does.


def test_control_commands_work_as_with_every_session(session, livepuppet):
    assert control.running_port() == session.studio.port
    for arguments in (("avatar", "b"), ("set", "strength=0.5", "sharp=off"), ("mirror", "on")):
        result = livepuppet("control", *arguments)
        assert result.returncode == 0, result.stderr
    wait_for(lambda: state(session)["avatar"] == "b.png" and state(session)["mirror"])
    told = json.loads(livepuppet("control", "state").stdout)
    assert told["sliders"]["strength"] == 0.5 and told["sharp"] is False
    assert livepuppet("control", "dance").returncode == 2
    assert ask(session, "GET", f"/do/next?token={control.control_token()}", Authorization=None)[0] == 200
    wait_for(lambda: state(session)["avatar"] == "a.png")


def test_an_address_with_the_token_opens_the_page_and_loses_the_token(session):
    for page in ("/studio", "/panel", "/"):
        status, _, response = ask(
            session, "GET", f"{page}?token={control.control_token()}", Authorization=None
        )
        assert status == 303 and response.getheader("Location").startswith(f"{page}#token=")
        cookie = response.getheader("Set-Cookie")
        assert control.control_token() not in cookie
        for word in ("HttpOnly", "SameSite=Strict"):
            assert word in cookie
        given = cookie.partition(";")[0]
        status, html, response = ask(session, "GET", page, Authorization=None, Cookie=given)
        assert status == 200 and response.getheader("Content-Security-Policy") == CONTENT_POLICY
        # No exception of the policy is needed: nothing is inline, nothing comes from elsewhere.
        for inline in (b"<style", b" style=", b"<script>", b" onclick=", b"http://", b"https://"):
            assert inline not in html, inline
    # Cookies know no ports: this one shows nothing and does nothing.
    for method, path in (("GET", "/api/state"), ("GET", "/frame.jpg"), ("POST", "/do/next")):
        assert ask(session, method, path, Authorization=None, Cookie=given)[0] == 401


def test_the_moving_picture_by_websocket_newest_first(session):
    with watch(session, "/ws/picture?width=100") as socket:
        seen = []
        for _ in range(4):
            data = socket.recv(timeout=20)
            number, flags, captured, *_ = HEADER.unpack(data[: HEADER.size])
            picture = cv2.imdecode(np.frombuffer(data[HEADER.size :], np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape == (60, 100, 3) and not flags
            assert 0 <= time.perf_counter() - captured / 1000 < 20
            socket.send(json.dumps({"drawn": number, "age": 12.5}))
            seen.append(number)
        assert seen == sorted(set(seen))
        socket.send(json.dumps({"ping": 7}))
        while isinstance(answer := socket.recv(timeout=20), bytes):
            pass
        assert json.loads(answer)["pong"] == 7
    wait_for(lambda: session.studio.controller.page_delay.count >= 3)
    wait_for(lambda: session.studio.controller.pictures.watched == 0)


def test_a_picture_comes_as_large_as_the_page_says_that_it_is_shown(session):
    def width_of(data):
        return cv2.imdecode(np.frombuffer(data[HEADER.size :], np.uint8), cv2.IMREAD_COLOR).shape[1]

    with watch(session, "/ws/picture?width=70") as socket:
        assert width_of(socket.recv(timeout=20)) == 70
        # One that does not say it is sent whole; never larger than it is, never nothing.
        for asked, sent in ((120, 120), (0, 160), (99999, 160), (-5, 160), (1, LEAST_WIDTH)):
            socket.send(json.dumps({"width": asked}))

            def shown(sent=sent):
                data = socket.recv(timeout=20)
                socket.send(json.dumps({"drawn": HEADER.unpack(data[: HEADER.size])[0]}))
                return width_of(data) == sent

            wait_for(shown)


def test_the_camera_is_smooth_only_while_somebody_looks_at_it(session):
    camera = session.studio.controller.camera
    wait_for(lambda: session.live.mode == "live")
    with watch(session, "/ws/camera") as socket:
        wait_for(lambda: camera.rate == CAMERA_IDLE_RATE)
        socket.send(json.dumps({"near": True}))
        wait_for(lambda: camera.rate == CAMERA_RATE)
        socket.send(json.dumps({"near": False}))
        wait_for(lambda: camera.rate == CAMERA_IDLE_RATE)


def test_a_page_that_has_no_time_gets_fewer_pictures_and_others_all():
    feed = Feed(MOST_RATE)
    slow, fast = feed.watch(lambda: None, 64), feed.watch(lambda: None)
    for _ in range(100):
        slow.shown_after(0.08)
        fast.shown_after(0.01)
    assert (slow.rate, fast.rate) == (LEAST_RATE, MOST_RATE)
    served = [0, 0]
    for tick in range(300):
        for place, watcher in enumerate((slow, fast)):
            if watcher.due(tick / 30):
                watcher.served(tick / 30)
                served[place] += 1
    assert served[1] >= 299 and 110 <= served[0] <= 130
    # It has time again.
    for _ in range(200):
        slow.shown_after(0.01)
    assert slow.rate == MOST_RATE
    feed.publish(np.zeros((72, 128, 3), np.uint8), 1.0)
    before = slow.newest(), fast.newest()
    slow.rate = 0.01
    time.sleep(1 / MOST_RATE)
    feed.publish(np.zeros((72, 128, 3), np.uint8), 2.0)
    assert slow.newest() is before[0] and fast.newest().captured == 2.0


@pytest.mark.parametrize("size", [(720, 1280), (721, 1283), (540, 960)])
@pytest.mark.parametrize("width", [748, 321, 64])
def test_smaller_pictures_keep_their_aspect_and_their_colours(size, width):
    rows, columns = np.indices(size, dtype=np.float32)
    picture = np.stack([255 * columns / size[1], 255 * rows / size[0], np.full(size, 90.0)], -1)
    small = cv2.imdecode(np.frombuffer(to_jpeg(picture.astype(np.uint8), width), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (round(size[0] * width / size[1]), width, 3)
    expected = cv2.resize(picture, (width, small.shape[0]), interpolation=cv2.INTER_AREA)
    assert np.abs(small[..., ::-1] - expected).mean() < 2


def test_nothing_is_encoded_while_nobody_watches(session, monkeypatch):
    encoded = []
    really = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *arguments: encoded.append(1) or really(*arguments))
    goes_on(session, 10)
    assert not encoded
    assert ask(session, "GET", "/frame.jpg")[0] == 200
    assert encoded


def test_the_camera_with_the_drivers_square(session):
    with watch(session, "/ws/camera") as socket:
        data = socket.recv(timeout=20)
    _, _, _, x, y, side = HEADER.unpack(data[: HEADER.size])
    assert (x, y, side) == (0, 0, 1)
    assert cv2.imdecode(np.frombuffer(data[HEADER.size :], np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)


def test_transparency_travels_below_the_picture(chosen, engine):
    with (
        running(merge(chosen, {"background": "alpha"}), engine) as session,
        watch(session, "/ws/picture?alpha=1") as socket,
    ):
        data = socket.recv(timeout=20)
        assert HEADER.unpack(data[: HEADER.size])[1] == 1
        picture = cv2.imdecode(np.frombuffer(data[HEADER.size :], np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (192, 160, 3)
        # Chroma of the row above bleeds into the first.
        below = picture[97:]
        assert np.abs(below - below[..., :1].astype(int)).max() <= 2


def test_mjpeg_for_programs_without_websockets(session):
    connection = http.client.HTTPConnection("127.0.0.1", session.studio.port, timeout=20)
    connection.request("GET", f"/stream.mjpg?token={control.control_token()}")
    response = connection.getresponse()
    assert response.getheader("Content-Type").startswith("multipart/x-mixed-replace")
    for _ in range(2):
        while not (line := response.readline()).lower().startswith(b"content-length:"):
            assert line
        response.readline()
        data = np.frombuffer(response.read(int(line.split(b":")[1])), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (96, 160, 3)
    connection.close()


def test_two_pages_see_the_same_state_and_a_closed_one_stops_nothing(session):
    with watch(session, "/ws/state") as one, watch(session, "/ws/state") as other:
        assert ask(session, "POST", "/set", {"strength": 1.7})[0] == 200
        for socket in (one, other):
            wait_for(lambda socket=socket: json.loads(socket.recv(timeout=20))["sliders"]["strength"] == 1.7)
    goes_on(session)


def test_avatars_are_added_shown_and_put_aside(session, tmp_path):
    data = (tmp_path / "avatars" / "a.png").read_bytes()
    status, answer, _ = ask(session, "POST", "/api/avatars?name=new%20one.PNG", data)
    assert (status, answer) == (200, {"stored": "new one.png"})
    row = wait_for(lambda: len(state(session)["row"]) == 3 and state(session)["row"])
    key = next(one["key"] for one in row if one["name"] == "new one.png")
    status, thumbnail, _ = ask(session, "GET", f"/api/avatars/{key}.jpg")
    assert status == 200 and cv2.imdecode(np.frombuffer(thumbnail, np.uint8), cv2.IMREAD_COLOR) is not None
    assert ask(session, "GET", "/api/avatars/999.jpg")[0] == 404
    assert ask(session, "POST", "/avatar", {"name": "new one"})[0] == 200
    wait_for(lambda: state(session)["avatar"] == "new one.png")
    assert ask(session, "POST", "/api/do", {"what": "remove", "value": "new one.png"})[0] == 200
    wait_for(lambda: len(state(session)["row"]) == 2)
    assert (tmp_path / "avatars" / "removed" / "new one.png").read_bytes() == data
    assert ask(session, "POST", "/api/do", {"what": "restore", "value": "new one.png"})[0] == 200
    wait_for(lambda: len(state(session)["row"]) == 3)


def test_without_a_folder_pictures_are_copied_into_one_of_the_settings(chosen, engine, tmp_path):
    single = merge(chosen, {"avatar": str(tmp_path / "avatars" / "b.png")})
    for _ in range(2):
        with running(single, engine) as session:
            assert state(session)["avatars"] == ["b.png"]
            assert session.folder.path == tmp_path / "config" / "avatars"


def test_a_recording_is_switched_on_and_off(session, tmp_path):
    def switched(on):
        return ask(session, "POST", "/api/do", {"what": "output", "value": {"kind": "recording", "on": on}})

    assert switched(True)[0] == 200
    wait_for(lambda: state(session)["switches"]["recording"]["seconds"] is not None)
    wait_for(lambda: any(one["kept"] and one["written"] > 5 for one in state(session)["outputs"]))
    assert switched(False)[0] == 200
    told = state(session)["switches"]["recording"]
    assert not told["on"] and told["problem"] is None
    [file] = (tmp_path / "videos" / "livepuppet").iterdir()
    assert str(file) == told["file"]
    capture = cv2.VideoCapture(str(file))
    assert capture.read()[0]
    assert [one["name"] for one in state(session)["outputs"]] == ["studio"]


def test_an_output_that_cannot_be_opened_says_why(session, monkeypatch):
    def no_camera(text, sound=None):
        raise UserError("There is no virtual camera: install one.")

    monkeypatch.setattr(session, "open_output", no_camera)
    status, answer, _ = ask(
        session, "POST", "/api/do", {"what": "output", "value": {"kind": "virtual", "on": True}}
    )
    assert status == 400 and "install one" in answer["error"]
    told = state(session)["switches"]["virtual"]
    assert not told["on"] and "install one" in told["problem"]
    goes_on(session)


def test_the_source_is_switched_while_running(session, tmp_path, monkeypatch):
    from livepuppet.realtime.inputs.playback import Playback

    other = write_clip(tmp_path / "other.mp4", [red_picture(250)] * 10, rate=25)
    monkeypatch.setattr(session, "open_source", lambda text: Playback(str(other), loop=True))
    before = session.live.capture
    assert ask(session, "POST", "/api/do", {"what": "source", "value": "3"})[0] == 200
    assert session.live.capture is not before and not before._thread.is_alive()
    wait_for(lambda: state(session)["mode"] == "live")
    goes_on(session)
    assert session.settings_now().source.driving == "3"
    captured, dropped = session.live.counts()
    assert captured >= dropped >= 0
    source = ask(session, "GET", "/api/sources")[1]["sources"][0]
    assert source["present"] and "other.mp4" in source["name"]


def test_the_clip_that_drove_at_first_can_be_chosen_again(session, monkeypatch):
    opened, open_source = [], session.open_source

    def instead(text):
        opened.append(text)
        return open_source(session.settings.source.driving)

    monkeypatch.setattr(session, "open_source", instead)
    assert ask(session, "POST", "/api/do", {"what": "source", "value": "mouse"})[0] == 200
    listed = ask(session, "GET", "/api/sources")[1]["sources"]
    assert [one["id"] for one in listed if one["present"]] == ["mouse"]
    assert listed[0]["id"] == "first" and "clip.mp4" in listed[0]["name"]
    assert ask(session, "POST", "/api/do", {"what": "source", "value": "first"})[0] == 200
    assert opened[0] == "mouse" and opened[1].endswith("clip.mp4")
    assert ask(session, "GET", "/api/sources")[1]["sources"][0]["present"]
    goes_on(session)


def test_a_port_that_was_asked_for_is_no_other(chosen, engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked = merge(chosen, {"outputs": (f"studio:{port}", "none")})
        with pytest.raises(UserError, match=f"port {port}"), running(asked, engine):
            pass


def test_an_address_of_another_computer_is_not_listened_at():
    with pytest.raises(UserError, match="no address of this computer"):
        server_module.Server(None, "203.0.113.1", 0, print)


@pytest.mark.parametrize(
    "wrong", [{"avatar": "/nowhere/pictures"}, {"driving": "/nowhere/clip.mp4"}], ids=["avatar", "driving"]
)
def test_what_is_not_there_is_said_at_the_start(chosen, engine, wrong):
    with pytest.raises(UserError, match="/nowhere/"), running(merge(chosen, wrong), engine):
        pass


def test_an_upload_that_stalls_holds_up_no_other(session):
    picture = cv2.imencode(".png", gradient(32, 32))[1].tobytes()
    with socket.create_connection(("127.0.0.1", session.studio.port)) as slow:
        head = f"POST /api/avatars?name=slow.png HTTP/1.1\r\nHost: 127.0.0.1:{session.studio.port}\r\n"
        head += f"Authorization: Bearer {control.control_token()}\r\nContent-Length: 1000\r\n\r\nabc"
        slow.sendall(head.encode())
        assert ask(session, "POST", "/api/avatars?name=good.png", picture)[0] == 200


def test_only_cameras_and_screens_can_be_chosen_by_the_page(session):
    for text in ("/etc/passwd", "../clip.mp4", "http://127.0.0.1/x", "-", "concat:a"):
        status, answer, _ = ask(session, "POST", "/api/do", {"what": "source", "value": text})
        assert status == 400 and "camera" in answer["error"]
    goes_on(session)


def test_without_a_camera_the_studio_opens_and_says_so(chosen, engine):
    with running(merge(chosen, {"driving": "camera:there is none of this name"}), engine) as session:
        told = wait_for(lambda: state(session)["trouble"])
        assert "There is no camera" in told
        assert ask(session, "GET", "/frame.jpg")[0] == 200


def test_profiles_are_kept_and_taken_over(session):
    assert ask(session, "POST", "/set", {"strength": 0.3, "mirror": True})[0] == 200
    wait_for(lambda: state(session)["mirror"])
    assert ask(session, "POST", "/api/do", {"what": "save profile", "value": "quiet"})[0] == 200
    assert ask(session, "GET", "/api/profiles")[1] == {"profiles": ["quiet"]}
    assert ask(session, "POST", "/set", {"strength": 2, "mirror": False})[0] == 200
    wait_for(lambda: not state(session)["mirror"])
    assert ask(session, "POST", "/api/do", {"what": "apply profile", "value": "quiet"})[0] == 200
    wait_for(lambda: state(session)["mirror"] and state(session)["sliders"]["strength"] == 0.3)
    assert ask(session, "POST", "/api/do", {"what": "apply profile", "value": "loud"})[0] == 400


def test_what_the_page_is_told_of_the_settings(session):
    told = ask(session, "GET", "/api/description")[1]
    assert {slider["name"] for slider in told["sliders"]} == set(state(session)["sliders"])
    assert all(slider["help"] and slider["low"] < slider["high"] for slider in told["sliders"])
    assert told["obs"].startswith(f"http://127.0.0.1:{session.studio.port}/?token=")
    assert told["size"] == [160, 96] and len(told["keys"]) > 20


# Whom it refuses.


@pytest.mark.parametrize(
    "shown", [None, "Bearer ", "Bearer " + "u" * 43, "Basic " + "t" * 43, "Bearer tökén"]
)
def test_without_the_token_nothing(session, shown):
    encoded = shown and shown.encode("latin-1")
    for method, path in (
        *(("GET", path) for path in ("/", "/studio", "/panel", "/static/texts.js", "/api/state", "/state")),
        *(("GET", path) for path in ("/frame.jpg", "/stream.mjpg", "/api/avatars/1.jpg", "/nowhere")),
        ("POST", "/api/avatars?name=a.png"),
        ("POST", "/do/next"),
    ):
        status, answer, _ = ask(session, method, path, Authorization=encoded)
        assert status == 401 and control.control_token() not in str(answer)
    for path in ("/ws/state", "/ws/picture", "/ws/camera"):
        with pytest.raises(InvalidStatus), watch(session, path, token="u" * 43):
            pass


def test_a_thousand_wrong_tokens_are_one_line(session, caplog):
    with caplog.at_level(logging.WARNING, logger="livepuppet"):
        connection = http.client.HTTPConnection("127.0.0.1", session.studio.port, timeout=20)
        for number in range(1000):
            connection.request("GET", "/api/state", headers={"Authorization": f"Bearer {number:043}"})
            response = connection.getresponse()
            assert response.status == 401 and response.read()
        connection.close()
    assert session.studio.access.refused >= 1000
    assert sum("token" in record.message for record in caplog.records) == 1
    goes_on(session)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": None},
        {"Host": ""},
        {"Host": "evil.example"},
        {"Host": "evil.example:8643"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "10.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_and_names_of_other_places_are_refused(session, headers):
    for method, path in (("GET", "/studio"), ("GET", "/api/state"), ("POST", "/do/next")):
        status, _, response = ask(session, method, path, **headers)
        # Without any Host it is not even HTTP.
        assert status == (400 if headers.get("Host", "") is None else 403)
        assert not response.getheader("Access-Control-Allow-Origin")
    if "Origin" in headers:
        with pytest.raises(InvalidStatus), watch(session, "/ws/picture", origin=headers["Origin"]):
            pass


def test_the_same_place_may_ask(session):
    origin = f"http://127.0.0.1:{session.studio.port}"
    assert ask(session, "GET", "/api/state", Origin=origin, **{"Sec-Fetch-Site": "same-origin"})[0] == 200
    with watch(session, "/ws/state", origin=origin) as socket:
        assert json.loads(socket.recv(timeout=20))["mode"]


def test_a_header_given_twice_is_not_believed(session):
    with socket.create_connection(("127.0.0.1", session.studio.port), timeout=20) as raw:
        token = control.control_token()
        raw.sendall(
            f"GET /api/state?token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\n"
            f"Origin: http://127.0.0.1\r\n\r\n".encode()
        )
        assert raw.recv(12).endswith(b"403")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../routes.py",
        "/static/%2e%2e/routes.py",
        "/static/..%2froutes.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/..\\routes.py",
        "/../../etc/passwd",
        "/api/avatars/..%2f..%2fetc%2fpasswd.jpg",
    ],
)
def test_paths_lead_nowhere_else(session, path):
    status, answer, _ = ask(session, "GET", path)
    assert status == 404 and b"import" not in json.dumps(answer).encode()


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.png",
        "..\\..\\evil.png",
        "/etc/evil.png",
        ".hidden.png",
        "a\0b.png",
        "line\nbreak.png",
        "con.png",
        "ä" * 300 + ".png",
        " . .png",
        "\u202egnp.exe.png",
    ],
)
def test_names_of_uploads_are_safe(tmp_path, name):
    safe = uploads.safe_name(name)
    assert safe.endswith(".png") and len(safe) <= 90 and safe[0] not in ". "
    assert not set(safe) & set('/\\\0\n\u202e:*?"<>|')
    assert (tmp_path / safe).parent == tmp_path and safe.lower() != "con.png"
    for wrong in ("evil.exe", "evil.png.html", "", "png", ".."):
        with pytest.raises(UserError, match="named like a picture"):
            uploads.safe_name(wrong)


def test_uploads_stay_in_the_folder_and_are_pictures(session, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*") if "config" not in path.parts)
    data = (tmp_path / "avatars" / "a.png").read_bytes()
    status, answer, _ = ask(session, "POST", "/api/avatars?name=..%2F..%2Fevil.png", data)
    assert (status, answer) == (200, {"stored": "evil.png"})
    (tmp_path / "avatars" / "evil.png").unlink()
    for name, body, message in (
        ("evil.html", data, "not named like a picture"),
        ("evil.png", b"<script>alert(1)</script>", "evil.png is not a picture"),
        ("evil.png", data[: len(data) // 2], "evil.png"),
        ("evil.png", b"", "evil.png"),
        ("evil.svg", b"<svg/>", "not named like a picture"),
    ):
        status, answer, _ = ask(session, "POST", f"/api/avatars?name={name}", body)
        assert status == 400 and message in answer["error"] and str(tmp_path) not in answer["error"]
    assert sorted(path for path in tmp_path.rglob("*") if "config" not in path.parts) == before


def test_ten_gigabytes_are_refused_announced_or_not(session, tmp_path):
    status, answer, _ = ask(
        session, "POST", "/api/avatars?name=big.png", b"", **{"Content-Length": str(10 << 30)}
    )
    assert status == 413 and "larger than 32 MB" in answer["error"]
    sent = 0
    with socket.create_connection(("127.0.0.1", session.studio.port), timeout=20) as raw:
        raw.sendall(
            f"POST /api/avatars?name=big.png HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            f"Authorization: Bearer {control.control_token()}\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        with pytest.raises(OSError):
            while sent < 10 << 10:
                raw.sendall(piece)
                sent += 1
    # What lies in the sockets' buffers comes on top.
    assert sent < 64
    assert not list((tmp_path / "avatars").glob(".upload*"))
    goes_on(session)


def test_an_upload_that_is_too_large_is_answered_though_it_was_sent_whole(session):
    status, answer, _ = ask(session, "POST", "/api/avatars?name=big.png", bytes(40 << 20))
    assert status == 413 and "larger than 32 MB" in answer["error"]
    # Also for who has no token.
    assert ask(session, "POST", "/api/avatars?name=big.png", bytes(40 << 20), Authorization=None)[0] == 401
    goes_on(session)


def bomb(side=60_000):
    """A PNG of 60 000 x 60 000 pixels in some kilobytes of zeros."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 22)))
        + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_before_it_is_decoded(session, tmp_path):
    status, answer, _ = ask(session, "POST", "/api/avatars?name=bomb.png", bomb())
    assert status == 400 and "million pixels" in answer["error"]
    assert not (tmp_path / "avatars" / "bomb.png").exists()
    goes_on(session)


def test_the_folder_takes_no_more_than_it_can_show(session, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_AVATARS", 2)
    data = (tmp_path / "avatars" / "a.png").read_bytes()
    status, answer, _ = ask(session, "POST", "/api/avatars?name=c.png", data)
    assert status == 400 and "2 avatars already" in answer["error"]


def test_two_hundred_sockets_are_too_many_and_hold_nobody_up(session, monkeypatch, caplog):
    monkeypatch.setattr(server_module, "FIRST_REQUEST_SECONDS", 1.0)
    sockets = []
    with caplog.at_level(logging.WARNING, logger="livepuppet"):
        for _ in range(200):
            sockets.append(socket.create_connection(("127.0.0.1", session.studio.port), timeout=20))
        goes_on(session)
        # Each is cut: the ones too many at once, the silent ones a little later.
        for one in sockets:
            with contextlib.suppress(ConnectionError):
                assert one.recv(1) == b""
    for one in sockets:
        one.close()
    assert state(session)["mode"] == "live"
    assert sum("connections already" in record.message for record in caplog.records) == 1
    assert sum("no request in time" in record.message for record in caplog.records) == 1


def test_whoever_keeps_all_places_without_asking_keeps_nobody_out(session, monkeypatch):
    monkeypatch.setattr(server_module, "FIRST_REQUEST_SECONDS", 60.0)
    monkeypatch.setattr(server_module, "LINGER_SECONDS", 60.0)
    refused = b"POST /set HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{"
    for begun in (b"", b"GET / HTTP/1.1\r\nX: ", refused):
        with contextlib.ExitStack() as stack:
            for _ in range(server_module.MOST_CONNECTIONS + 8):
                address = ("127.0.0.1", session.studio.port)
                one = stack.enter_context(socket.create_connection(address, timeout=20))
                with contextlib.suppress(ConnectionError):
                    one.sendall(begun)
                    if begun is refused:
                        assert one.recv(4096)[9:12] in (b"401", b"")
            for _ in range(3):
                assert ask(session, "GET", "/api/state")[0] == 200


def test_one_other_machine_takes_not_all_places(monkeypatch):
    class Transport:
        aborted = False

        def __init__(self, address):
            self.address = address

        def get_extra_info(self, name):
            return (self.address, 1) if name == "peername" else None

        def abort(self):
            self.aborted = True

        def is_closing(self):
            return self.aborted

        def get_protocol(self):
            return None

    told = []

    class Protocol(server_module.BoundedProtocol):
        open, report, scope = {}, staticmethod(told.append), {}
        most = (server_module.MOST_CONNECTIONS, server_module.MOST_OF_ONE_MACHINE)

        def __init__(self, address):
            # Busy, as websockets are.
            self.transport, self._machine = Transport(address), address

    def come(address):
        new = Protocol(address)
        if welcome := new._has_room():
            new.open[new.transport] = new
        return welcome

    most = server_module.MOST_OF_ONE_MACHINE
    assert [come("203.0.113.5") for _ in range(most + 2)] == [True] * most + [False] * 2
    assert come("203.0.113.6") and "203.0.113.5" in told[0]
    assert all(come("127.0.0.1") for _ in range(server_module.MOST_CONNECTIONS - most - 1))
    # Nobody of these is idle, so the next one has to wait.
    assert not come("127.0.0.1")


def test_a_reader_that_reads_nothing_is_cut(session, monkeypatch):
    monkeypatch.setattr(server_module, "SLOW_READER_SECONDS", 0.5)
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", session.studio.port))
        raw.sendall(
            f"GET /stream.mjpg?token={control.control_token()} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        )
        pictures = session.studio.controller.pictures
        wait_for(lambda: pictures.watched == 1)
        noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
        for _ in range(12):
            # Larger than the buffers between us, so that it does not take minutes.
            pictures.publish(noise, 0.0)
            time.sleep(0.02)
        wait_for(lambda: pictures.watched == 0)
    # One that acknowledges nothing gets two pictures, and no more.
    with watch(session, "/ws/picture", max_queue=None) as silent:
        got = 0
        with contextlib.suppress(TimeoutError):
            while True:
                silent.recv(timeout=0.5)
                got += 1
        assert got == 2
        with watch(session, "/ws/picture") as other:
            assert other.recv(timeout=20)
    goes_on(session)


def test_floods_of_headers_and_of_messages_are_cut(session, caplog):
    with caplog.at_level(logging.WARNING, logger="livepuppet"):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", session.studio.port), timeout=20) as raw:
                with contextlib.suppress(ConnectionError):
                    raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
                    for number in range(20_000):
                        raw.sendall(b"X-Flood-%d: %s\r\n" % (number, b"x" * 100))
                with contextlib.suppress(ConnectionError):
                    assert raw.recv(4096)[9:12] in (b"400", b"")
    assert sum("headers were too long" in record.message for record in caplog.records) == 1
    with pytest.raises(WebSocketException), watch(session, "/ws/picture") as socket_:
        socket_.send("x" * 100_000)
        for _ in range(100):
            socket_.recv(timeout=20)
    with watch(session, "/ws/state") as socket_:
        socket_.send("[1, 2")
        with pytest.raises(WebSocketException):
            for _ in range(100):
                socket_.recv(timeout=20)
    goes_on(session)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[1]", {}, 400),
        (b"[" * 4000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b" " * 5000, {}, 413),
        (b"{}", {"Content-Length": "two"}, 400),
        (b"{}", {"Content-Length": "-1"}, 400),
    ],
)
def test_bad_bodies(session, body, headers, status):
    for path in ("/set", "/api/do"):
        assert ask(session, "POST", path, body, **headers)[0] == status


def test_what_is_no_command_of_the_page(session):
    for body in (
        {},
        {"what": "source"},
        {"what": "dance", "value": "x"},
        {"what": "output", "value": "recording"},
        {"what": "output", "value": {"kind": "recording", "on": "yes"}},
        {"what": "output", "value": {"kind": "/etc/passwd", "on": True}},
        {"what": "remove", "value": "../config/control.token"},
        {"what": "remove", "value": "nothing.png"},
        {"what": "restore", "value": "../a.png"},
        {"what": "sound", "value": "loud"},
        {"what": "save profile", "value": "\n"},
    ):
        status, answer, _ = ask(session, "POST", "/api/do", body)
        assert status in (400, 404) and answer["error"].endswith(".")
    assert len(state(session)["row"]) == 2


# Other machines.


def test_other_machines_get_tls_and_need_the_token_all_the_same(chosen, engine, tmp_path):
    pytest.importorskip("cryptography")
    with running(chosen, engine, listen="0.0.0.0") as session:
        studio = session.studio
        assert studio.address.startswith("https://") and len(studio.fingerprint) == 95
        context = ssl.create_default_context(cafile=str(tmp_path / "config" / "studio-certificate.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", studio.port, timeout=20, context=context)
        connection.request("GET", "/api/state")
        assert connection.getresponse().status == 401
        connection.close()
        for host, status in (("192.168.1.20", 200), ("evil.example", 403), (socket.gethostname(), 200)):
            connection = http.client.HTTPSConnection("127.0.0.1", studio.port, timeout=20, context=context)
            token = f"Bearer {control.control_token()}"
            connection.request("GET", "/api/state", headers={"Host": host, "Authorization": token})
            assert connection.getresponse().status == status
            connection.close()
        # Nothing is answered without encryption.
        with socket.create_connection(("127.0.0.1", studio.port), timeout=20) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in raw.recv(100)
    first = studio.fingerprint
    key = tmp_path / "config" / "studio-key.pem"
    assert key.stat().st_mode & 0o077 == 0
    with running(chosen, engine, listen="0.0.0.0") as session:
        assert session.studio.fingerprint == first
    for wrong in ("evil.example", "", "300.1.1.1"):
        with pytest.raises(UserError, match="no address to listen at"):
            Session(chosen, engine, keyboard=False, listen=wrong)


def test_it_listens_on_this_computer_alone_otherwise(session):
    assert session.studio._server._socket.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_is_no_reason_not_to_run(chosen, engine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running(merge(chosen, {"port": port}), engine) as session:
            assert session.studio.port != port and state(session)["mode"]


def test_how_it_is_named_among_the_outputs(chosen, engine):
    for text in ("studio:port", "studio:0", "studio:70000"):
        with pytest.raises(UserError, match="has no port"):
            Session(merge(chosen, {"outputs": (text,)}), engine, keyboard=False)


def test_runs_without_a_studio_import_none_of_it():
    import subprocess
    import sys

    script = (
        "import sys; import livepuppet.realtime.app.commands.run, livepuppet.realtime.app.commands.studio;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'starlette', 'uvicorn', 'anyio', 'websockets'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"
