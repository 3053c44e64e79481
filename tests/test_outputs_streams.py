"""Pictures for other programs: virtual cameras, browsers on this computer, pipes; and their colours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from media import gradient, red_picture

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.http_stream import HttpStream
from livepuppet.realtime.app.live_outputs import open_live_output
from livepuppet.realtime.inputs import v4l2
from livepuppet.realtime.outputs import v4l2_writer
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.opening import Nowhere
from livepuppet.realtime.outputs.pipe import RawPipe, parse_pipe
from livepuppet.realtime.outputs.pool import FramePool
from livepuppet.realtime.outputs.virtual_camera import VirtualCamera
from livepuppet.realtime.outputs.yuv import Yuv420

#: Red, green, blue, yellow, gray, skin, white and black.
COLOURS = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((128, 128, 128), (200, 150, 120), (255,) * 3, (0,) * 3),
]


def stripes(side=32):
    return np.concatenate([np.full((side, side, 3), colour, np.uint8) for colour in COLOURS], axis=1)


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("layout", "ffmpeg", "opencv"),
    [("i420", "yuv420p", cv2.COLOR_YUV2RGB_I420), ("nv12", "nv12", cv2.COLOR_YUV2RGB_NV12)],
)
def test_readers_see_the_colours(layout, ffmpeg, opencv):
    picture = stripes()
    data = Yuv420(256, 32, layout).convert(picture)
    assert data.shape == (48, 256) and data.flags.c_contiguous
    # Two programs' decoders, both taking an untagged picture for BT.601 in limited range.
    frame = av.VideoFrame.from_ndarray(data, format=ffmpeg)
    for read in (cv2.cvtColor(data, opencv), frame.to_ndarray(format="rgb24")):
        assert np.abs(read[16, 16::32].astype(int) - COLOURS).max() <= 2


def test_yuv_is_made_in_one_buffer_and_black_at_first():
    yuv = Yuv420(8, 4, "nv12")
    assert cv2.cvtColor(yuv.data, cv2.COLOR_YUV2RGB_NV12).max() == 0
    assert yuv.convert(gradient(4, 8)) is yuv.convert(gradient(4, 8))
    assert np.array_equal(yuv.luma, Yuv420(8, 4).convert(gradient(4, 8))[:4])
    for size in ((7, 4), (8, 3)):
        with pytest.raises(UserError, match="even numbers"):
            Yuv420(*size)
    with pytest.raises(UserError, match="i420 or nv12"):
        Yuv420(8, 4, "yuyv")


class FakeBackend:
    """What pyvirtualcam asks of a back end; keeps the frames."""

    def __init__(self, *, width, height, fps, fourcc, device, **options):
        if device not in (None, "test"):
            raise RuntimeError(f"no device {device}")
        self.frames, self.size, self.fourcc = [], (width, height), fourcc
        FakeBackend.last, self.fail, self.closed = self, False, False

    def close(self):
        self.closed = True

    def send(self, frame):
        if self.fail:
            raise RuntimeError("it was unloaded")
        self.frames.append(frame.copy())

    def device(self):
        return "test"

    def native_fourcc(self):
        return None


@pytest.fixture
def fake_virtual_camera(monkeypatch):
    pytest.importorskip("pyvirtualcam")
    import pyvirtualcam.camera

    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"fake": FakeBackend})
    monkeypatch.setattr("platform.system", lambda: "Windows")


@pytest.mark.parametrize("layout", ["i420", "nv12"])
def test_pyvirtualcam_gets_yuv(fake_virtual_camera, layout):
    import pyvirtualcam

    camera = open_live_output("virtual:test", 32, 16, 30, pixel_format=layout)
    assert isinstance(camera, VirtualCamera) and (camera.name, camera.device) == ("virtual:test", "test")
    assert camera.interval == pytest.approx(1 / 30) and not camera.takes_alpha
    camera.write(gradient(16, 32), Fraction(0))
    assert camera.repeat()
    camera.close()
    backend = FakeBackend.last
    expected = Yuv420(32, 16, layout).convert(gradient(16, 32))
    assert len(backend.frames) == 2
    assert all(np.array_equal(frame.reshape(24, 32), expected) for frame in backend.frames)
    assert backend.closed
    assert backend.fourcc == pyvirtualcam.camera.encode_fourcc(
        getattr(pyvirtualcam.PixelFormat, layout.upper()).value
    )


def test_a_virtual_camera_that_goes_comes_back(fake_virtual_camera):
    camera, said, pool = VirtualCamera(32, 16, 1, "test"), [], FramePool((16, 32, 3))
    camera.retry = 0.01
    fanout = Fanout([camera], said.append)
    first = FakeBackend.last
    first.fail = True

    def submit():
        lease = pool.take()
        lease.picture[:] = 200
        fanout.submit(lease, Fraction(0), None)
        lease.release()

    submit()
    wait_for(lambda: len(said) == 2)
    assert "test takes no pictures any more (it was unloaded)" in said[0] and said[1].endswith("is back.")
    assert first.closed and FakeBackend.last is not first
    submit()
    wait_for(lambda: fanout.states()[0].written == 1)
    fanout.close()


@pytest.mark.parametrize(("system", "word"), [("Linux", "modprobe"), ("Windows", "OBS"), ("Darwin", "OBS")])
def test_no_virtual_camera_says_what_to_install(fake_virtual_camera, monkeypatch, system, word):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(v4l2, "list_devices", list)
    with pytest.raises(UserError, match=word):
        VirtualCamera(32, 16, device="other")
    if system == "Linux":
        with pytest.raises(
            UserError, match=r"There is no virtual camera that can be fed \(no device is there\)"
        ):
            VirtualCamera(32, 16)
        with pytest.raises(UserError, match=r"virtual camera 97 cannot be opened \(No such file"):
            VirtualCamera(32, 16, device="97")


def test_which_device_is_fed(monkeypatch):
    def device(number, name, capture=False, output=True, loopback=True):
        return v4l2.Device(f"/dev/video{number}", number, name, "x", capture, output, loopback)

    devices = [
        device(0, "HD Webcam", capture=True, output=False, loopback=False),
        device(8, "first", capture=True, output=False),
        device(9, "Puppet"),
    ]
    monkeypatch.setattr(v4l2, "list_devices", lambda: devices)
    assert v4l2_writer.find_device(None) == "/dev/video9"
    assert v4l2_writer.find_device("9") == v4l2_writer.find_device("puppet") == "/dev/video9"
    # That it is no virtual camera is found out in opening it.
    assert v4l2_writer.find_device("/dev/video0") == "/dev/video0"
    for taken in ("8", "/dev/video8", "first"):
        with pytest.raises(OSError, match="another program feeds it"):
            v4l2_writer.find_device(taken)
    with pytest.raises(OSError, match="no virtual camera has that name"):
        v4l2_writer.find_device("webcam")


@pytest.fixture
def stream():
    stream = HttpStream(64, 32, port=0)
    yield stream
    stream.close()


def get(stream, path, host=None, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{stream.port}{path}", headers=headers)
    if host:
        request.add_header("Host", host)
    return urllib.request.urlopen(request, timeout=20)


def feed(stream, stop, level=lambda count: 100):
    """Writes pictures until told to stop; the count of those written."""
    counted = [0]

    def run():
        while not stop.is_set():
            stream.write(np.full((32, 64, 3), level(counted[0]), np.uint8), Fraction(0))
            counted[0] += 1
            time.sleep(0.005)

    threading.Thread(target=run, daemon=True).start()
    return counted


def read_parts(response, count):
    """The first `count` JPEGs of a multipart stream, decoded as RGB."""
    pictures = []
    while len(pictures) < count:
        line = response.readline()
        assert line, "the stream ended"
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
            assert response.readline() == b"\r\n"
            data = np.frombuffer(response.read(length), np.uint8)
            pictures.append(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
            # The boundary has come along with the picture: browsers show it only then.
            assert response.readline() == b"\r\n" and response.read(2) == b"--"
    return pictures


def test_browsers_get_a_page_a_stream_and_a_picture(stream):
    stop = threading.Event()
    feed(stream, stop, lambda count: (3 * count) % 256)
    page = get(stream, "/")
    assert page.headers["Content-Type"].startswith("text/html") and b"/stream.mjpg" in page.read()
    with get(stream, "/stream.mjpg") as response, get(stream, "/stream.mjpg?1") as another:
        assert response.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        for watcher in (response, another):
            pictures = read_parts(watcher, 4)
            assert all(picture.shape == (32, 64, 3) for picture in pictures)
            assert len({int(picture.mean()) for picture in pictures}) > 1
    with get(stream, "/frame.jpg") as response:
        picture = cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (32, 64, 3)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(stream, "/other")
    stop.set()


def test_colours_of_the_stream(stream):
    stream.write(np.tile(np.uint8([200, 120, 40]), (32, 64, 1)), Fraction(0))
    threading.Timer(0.1, stream.repeat).start()
    # The source stands still: who comes now still gets the last picture.
    with get(stream, "/frame.jpg") as response:
        data = np.frombuffer(response.read(), np.uint8)
    assert np.abs(cv2.imdecode(data, cv2.IMREAD_COLOR)[16, 32, ::-1].astype(int) - [200, 120, 40]).max() <= 4


def test_nothing_is_encoded_while_nobody_watches(stream, monkeypatch):
    encoded, really = [], cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *arguments: encoded.append(1) or really(*arguments))
    for _ in range(5):
        stream.write(gradient(32, 64), Fraction(0))
        stream.repeat()
    assert not encoded
    with stream.watching(), stream.watching():
        stream.write(gradient(32, 64), Fraction(0))
        assert not stream.repeat()
        assert stream.next()[0] == 1
    assert len(encoded) == 1
    stream.write(gradient(32, 64), Fraction(0))
    assert len(encoded) == 1


def test_a_slow_client_misses_pictures_and_holds_up_nobody(stream):
    with socket.create_connection(("127.0.0.1", stream.port)) as client:
        client.sendall(f"GET /stream.mjpg HTTP/1.0\r\nHost: 127.0.0.1:{stream.port}\r\n\r\n".encode())
        wait_for(lambda: stream._watching == 1)
        random = np.random.default_rng(0)
        picture = random.integers(0, 255, (32, 64, 3), np.uint8)
        # Far more than the sockets' buffers hold; it never reads.
        for _ in range(3000):
            stream.write(picture, Fraction(0))
        with stream.watching():
            stream.write(red_picture(0)[:32], Fraction(0))
            assert stream.next()[0] == 3001
    stream.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:{port}"},
        {"host": "127.0.0.1.evil.example:{port}"},
        {"host": "127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_no_web_page_can_read_it(stream, headers):
    headers = {name: value.format(port=stream.port) for name, value in headers.items()}
    for path in ("/", "/stream.mjpg", "/frame.jpg"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(stream, path, **headers)
    for host in ("localhost", f"localhost:{stream.port}", f"127.0.0.1:{stream.port}"):
        response = get(stream, "/", host=host, **{"Sec-Fetch-Site": "same-origin"})
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in response.headers


def test_it_listens_on_this_computer_alone_and_frees_its_port(stream):
    assert (
        stream._server.server_address[0] == "127.0.0.1" and stream.name == f"http://127.0.0.1:{stream.port}/"
    )
    with pytest.raises(UserError, match=f"Port {stream.port} cannot be used"):
        HttpStream(64, 32, port=stream.port)
    stream.close()
    again = HttpStream(64, 32, port=stream.port)
    again.close()
    again.close()


def test_closing_ends_the_streams(stream):
    stop = threading.Event()
    feed(stream, stop)
    with get(stream, "/stream.mjpg") as response:
        read_parts(response, 1)
        stream.close()
        # The rest, and then the end.
        assert response.read().endswith(b"--\r\n")
    stop.set()


def test_outputs_by_name(tmp_path):
    assert isinstance(open_live_output("none", 64, 64, 30), Nowhere)
    for text in ("http:port", "http:0", "http:70000"):
        with pytest.raises(UserError, match="has no port"):
            open_live_output(text, 64, 64, 30)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stream = open_live_output(f"http:{port}", 64, 64, 30)
    assert isinstance(stream, HttpStream) and stream.port == port
    stream.close()
    with pytest.raises(ValueError, match="main thread"):
        open_live_output("window", 64, 64, 30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("rgb24", None)),
        ("nv12", ("nv12", None)),
        ("a/pipe", ("rgb24", "a/pipe")),
        ("rgba:a/pipe", ("rgba", "a/pipe")),
    ],
)
def test_how_a_pipe_is_named(text, expected):
    pixel_format, path = parse_pipe(text)
    assert (pixel_format, str(path) if path else None) == expected


PIPE = """
import sys, numpy as np
from fractions import Fraction
from livepuppet.realtime.app.live_outputs import open_live_output
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.pool import FramePool
output = open_live_output(sys.argv[1], 64, 32, 30)
fanout = Fanout([output], lambda text: print("said:", text, file=sys.stderr))
print("this must not be in the pictures", flush=True)
import os; os.system("echo nor this")
pool = FramePool((32, 64, int(sys.argv[2])))
for count in range(int(sys.argv[3])):
    lease = pool.take()
    lease.picture[:] = np.load(sys.argv[4])
    fanout.submit(lease, Fraction(count, 30), None)
    lease.release()
    while fanout.states()[0].written + fanout.states()[0].lost + fanout.states()[0].failures <= count:
        pass
fanout.close()
"""


@pytest.mark.parametrize(
    ("form", "channels"), [("rgb24", 3), ("rgba", 3), ("rgba", 4), ("yuv420p", 3), ("nv12", 3)]
)
def test_raw_pictures_and_nothing_else_on_standard_output(tmp_path, form, channels):
    picture = np.dstack([gradient(32, 64), np.full((32, 64), 7, np.uint8)])[..., :channels]
    np.save(tmp_path / "picture.npy", picture)
    result = subprocess.run(
        [sys.executable, "-c", PIPE, f"pipe:{form}", str(channels), "3", str(tmp_path / "picture.npy")],
        capture_output=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert b"this must not" in result.stderr and b"nor this" in result.stderr
    rgb = np.ascontiguousarray(picture[..., :3])
    opaque = np.full((32, 64), 255, np.uint8)
    expected = {
        "rgb24": rgb,
        "rgba": picture if channels == 4 else np.dstack([rgb, opaque]),
        "yuv420p": Yuv420(64, 32).convert(rgb),
        "nv12": Yuv420(64, 32, "nv12").convert(rgb),
    }[form]
    assert result.stdout == expected.tobytes() * 3


def test_a_reader_that_goes_away_is_said_once(tmp_path):
    np.save(tmp_path / "picture.npy", gradient(32, 64))
    process = subprocess.Popen(
        [sys.executable, "-c", PIPE, "pipe", "3", "2000", str(tmp_path / "picture.npy")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(64 * 32 * 3)
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 0
    assert error.count("said:") == 1 and "standard output is gone" in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes in folders here")
def test_readers_of_a_named_pipe_come_and_go(tmp_path):
    place, said, pool = tmp_path / "pictures", [], FramePool((32, 64, 3))
    output = open_live_output(f"pipe:{place}", 64, 32, 30)
    output.retry = 0.01
    fanout, stop = Fanout([output], said.append), threading.Event()

    def run():
        while not stop.is_set():
            lease = pool.take()
            lease.picture[:] = gradient(32, 64)
            fanout.submit(lease, Fraction(0), None)
            lease.release()
            time.sleep(0.005)

    feeder = threading.Thread(target=run)
    feeder.start()
    wait_for(lambda: said)
    assert "Nobody reads" in said[0]
    for _ in range(2):
        with place.open("rb") as reader:
            for _ in range(3):
                assert reader.read(64 * 32 * 3) == gradient(32, 64).tobytes()
        wait_for(lambda: "is gone" in said[-1])
    stop.set()
    feeder.join()
    fanout.close()
    assert [sentence.split()[-1] for sentence in said[1:]] == ["back.", "again.", "back.", "again."]


def test_pipes_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="no pixel format 'bgr'"):
        RawPipe(64, 32, "bgr", tmp_path / "x")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="no pipe"):
        RawPipe(64, 32, path=tmp_path / "file")
    with pytest.raises(UserError, match="cannot be made"):
        RawPipe(64, 32, path=tmp_path / "nowhere" / "x")
    assert (tmp_path / "file").read_text() == "mine"
