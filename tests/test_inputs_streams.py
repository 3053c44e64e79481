"""Network cameras over real connections on loopback: MJPEG by HTTP, RTSP over TCP; broken off and back."""

from __future__ import annotations

import io
import struct
import threading
import time
from contextlib import suppress
from fractions import Fraction
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

import av
import cv2
import numpy as np
import pytest
from media import red_picture, write_clip

from livepuppet.core.errors import UserError
from livepuppet.core.video import open_video
from livepuppet.realtime.inputs import playback as module
from livepuppet.realtime.inputs.capture import Capture
from livepuppet.realtime.inputs.opening import open_source
from livepuppet.realtime.inputs.playback import Playback, Stream


def jpeg(level: int) -> bytes:
    return cv2.imencode(".jpg", red_picture(level)[..., ::-1])[1].tobytes()


class NetworkCamera:
    """A web server on loopback that serves a folder, and at /stream endless MJPEG while it is `on`.

    Attributes:
        sent: when each picture went out, by its level of red.
    """

    def __init__(self, folder, interval: float = 0.005):
        self.on, self.level, self.sent, self.connections = True, None, {}, 0
        camera = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                if self.path != "/stream":
                    return super().do_GET()
                if not camera.on:
                    return self.send_error(503)
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                levels = (level for _ in iter(int, 1) for level in range(0, 256, 4))
                with suppress(OSError):
                    while camera.on:
                        level = next(levels) if camera.level is None else camera.level
                        picture = jpeg(level)
                        head = (
                            f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                        )
                        camera.sent[level] = time.perf_counter()
                        self.wfile.write(head.encode() + picture + b"\r\n")
                        time.sleep(interval)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.on = False
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def web(tmp_path):
    camera = NetworkCamera(tmp_path)
    yield camera
    camera.close()


@pytest.fixture
def slow_web(tmp_path):
    camera = NetworkCamera(tmp_path, interval=0.05)
    yield camera
    camera.close()


def wait_for(condition, seconds: float = 10.0):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)
    return result


def test_a_video_from_a_web_server_has_an_end(tmp_path, web):
    write_clip(tmp_path / "clip.mp4", [red_picture(100)] * 5, rate=50)
    source = open_source(f"{web.address}/clip.mp4")
    assert isinstance(source, Playback)
    assert len(list(source.frames(threading.Event()))) == 5
    source.close()
    assert len(list(open_video(f"{web.address}/clip.mp4"))) == 5


def test_a_cameras_stream_comes_at_its_own_pace(web):
    web.level = 120
    source = open_source(f"{web.address}/stream")
    assert isinstance(source, Stream) and source.endless
    stop, frames = threading.Event(), []
    for frame in source.frames(stop):
        frames.append(frame)
        if len(frames) == 60:
            stop.set()
    source.close()
    assert frames[0].image[0, 0, 0] == pytest.approx(120, abs=4)
    # FFmpeg takes such a stream for 25 pictures per second; nobody waits for that, and its times are not believed.
    assert frames[-1].captured - frames[0].captured < 2.0
    for frame in frames:
        assert float(frame.time) == pytest.approx(frame.captured - frames[0].captured)


def test_a_stream_hands_every_picture_on_before_the_next_has_come(slow_web):
    source = open_source(f"{slow_web.address}/stream")
    stop, newest = threading.Event(), []
    for count, frame in enumerate(source.frames(stop)):
        level = round(frame.image[0, 0, 0] / 4) * 4
        # The first ones were sent while FFmpeg found out what the stream is.
        if count > 8:
            newest.append(max(slow_web.sent, key=slow_web.sent.get) == level)
        if count == 24:
            stop.set()
    source.close()
    # A decoder that keeps pictures until later ones have come never gives the newest.
    assert np.mean(newest) > 0.6, newest


def test_only_files_are_decoded_several_pictures_at_a_time(tmp_path, web):
    # H.264 then comes out as many pictures late as there are processors.
    for address, kind in (("stream", "SLICE"), ("clip.mp4", "AUTO")):
        write_clip(tmp_path / "clip.mp4", [red_picture(100)] * 5)
        clip = open_video(f"{web.address}/{address}")
        assert clip._stream.thread_type.name == kind
        clip.close()


def test_a_stream_that_breaks_off_is_taken_up_again(web, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    capture = Capture(open_source(f"{web.address}/stream"))
    before = wait_for(lambda: capture.take(1))
    assert capture.trouble is None
    web.on = False
    assert "broke off: it is taken up again" in wait_for(lambda: capture.trouble)
    wait_for(lambda: capture.take(0.1) is None)
    assert not capture.ended
    web.on = True
    after = wait_for(lambda: capture.take(1))
    assert capture.trouble is None and web.connections >= 2
    assert after.time > before.time
    capture.close()
    assert capture.ended


def test_a_stream_that_shows_one_picture_is_said(web, monkeypatch):
    monkeypatch.setattr("livepuppet.realtime.inputs.watch.FROZEN_SECONDS", 0.1)
    monkeypatch.setattr("livepuppet.realtime.inputs.watch.BLACK_SECONDS", 0.1)
    web.level = 120
    capture = Capture(open_source(f"{web.address}/stream"))
    assert "the same picture all the time" in wait_for(lambda: capture.trouble)
    web.level = None
    wait_for(lambda: capture.trouble is None)
    capture.close()


def test_an_address_where_nothing_is(web):
    with pytest.raises(UserError, match="check the address"):
        open_source(f"{web.address}/nothing.mp4")
    with pytest.raises(UserError, match=r"rtsp://me:\.\.\.@127.* cannot be read as a video"):
        open_source("rtsp://me:secret@127.0.0.1:9/live")


def transport_stream(levels) -> bytes:
    """MPEG-2 pictures of these levels of red as an MPEG transport stream, 25 per second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"bf": "0", "g": "5"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(red_picture(level), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class RtspHandler(StreamRequestHandler):
    """As much of RTSP (RFC 2326) as a player needs that wants its pictures over the same TCP connection."""

    SDP = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
    )

    def handle(self):
        while True:
            lines = []
            while line := self.rfile.readline().decode().strip():
                lines.append(line)
            if not lines:
                return
            method = lines[0].split()[0]
            headers = dict(line.split(": ", 1) for line in lines[1:])
            answer = {"CSeq": headers["CSeq"], "Session": "1"}
            body = ""
            if method == "OPTIONS":
                answer["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
            elif method == "DESCRIBE":
                body = self.SDP
                answer |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
            elif method == "SETUP":
                self.server.transports.append(headers["Transport"])
                answer["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
            text = "".join(f"{name}: {value}\r\n" for name, value in answer.items())
            self.wfile.write(f"RTSP/1.0 200 OK\r\n{text}\r\n{body}".encode())
            if method == "PLAY":
                return self.play()

    def play(self):
        piece = 7 * 188
        with suppress(OSError):
            for number, start in enumerate(range(0, len(self.server.data), piece)):
                payload = self.server.data[start : start + piece]
                # RTP (RFC 3550): version 2, payload type 33 is a transport stream (RFC 3551).
                header = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 90, 1)
                self.wfile.write(struct.pack(">cBH", b"$", 0, 12 + len(payload)) + header + payload)
                time.sleep(0.002)
            # Nothing more comes, and the connection stays: the silence of a camera that hangs.
            self.server.silent.wait(20)


def test_rtsp_comes_over_tcp(monkeypatch):
    ThreadingTCPServer.allow_reuse_address = True
    server = ThreadingTCPServer(("127.0.0.1", 0), RtspHandler)
    server.daemon_threads = True
    server.data, server.transports, server.silent = transport_stream(range(250)), [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        source = open_source(f"rtsp://127.0.0.1:{server.server_address[1]}/live")
        assert isinstance(source, Stream) and source.endless
        capture = Capture(source)
        frame = wait_for(lambda: capture.take(1))
        assert frame.image.shape == (64, 64, 3)
        assert frame.image[..., 1].mean() == pytest.approx(100, abs=8)
        assert server.transports and "TCP" in server.transports[0]
        wait_for(lambda: capture.captured > 100)
        monkeypatch.setattr("livepuppet.realtime.inputs.capture.SILENCE_SECONDS", 0.2)
        assert "delivers no pictures" in wait_for(lambda: capture.trouble)
        server.silent.set()
        capture.close()
    finally:
        server.silent.set()
        server.shutdown()
        server.server_close()
