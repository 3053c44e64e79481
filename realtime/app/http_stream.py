"""The picture for browsers on this computer, such as OBS's browser source: JPEG after JPEG over
HTTP.

The server is the standard library's until the studio brings an ASGI server; see `control`.
"""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import name as system
from urllib.parse import urlsplit

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.realtime.outputs.base import Output

DEFAULT_PORT = 8642

#: 0..100; at 90 a face shows no blocks, and a 720p picture takes about a hundred kilobytes.
QUALITY = 90

#: Names of this computer that a request may be meant for. A page elsewhere whose name was pointed
#: at 127.0.0.1 asks by its own name (DNS rebinding), and gets nothing.
_HOSTS = ("127.0.0.1", "localhost")

#: Seconds a client may take over one picture, and seconds it waits for the first.
_PATIENCE = 10.0

_BOUNDARY = b"livepuppet-picture"

#: The picture alone, on nothing, as large as the window. It asks again when the program was started
#: anew.
PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>livepuppet</title>
<style>
html, body { margin: 0; height: 100%; background: transparent; overflow: hidden }
img { width: 100vw; height: 100vh; object-fit: contain; display: block }
</style>
<img id="picture" src="/stream.mjpg" alt="">
<script>
const picture = document.getElementById("picture");
picture.onerror = () => setTimeout(() => { picture.src = "/stream.mjpg?" + Date.now() }, 1000);
</script>
</html>
"""


class HttpStream(Output):
    """`/` is a bare page with the moving picture, `/stream.mjpg` the picture itself, `/frame.jpg`
    one of it.

    Only programs on this computer can ask, and no page of another site can read it. A picture is
    encoded once, however many watch, and not at all while nobody does; slow clients miss pictures.

    Args:
        width, height: of the pictures, in pixels.
        port: 0 takes any that is free.

    Attributes:
        port: where it listens, at 127.0.0.1.

    Raises:
        UserError: if the port is taken.
    """

    #: Also how soon a client that comes while the source stands still gets its first picture.
    interval = 0.25

    def __init__(self, width: int, height: int, port: int = DEFAULT_PORT):
        self._bgr = np.zeros((height, width, 3), np.uint8)
        self._is_new = True
        self._watching = 0
        self._jpeg: bytes | None = None
        self._number = 0
        self._ended = False
        self._changed = threading.Condition()
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"Port {port} cannot be used for HTTP ({getattr(error, 'strerror', None) or error}): another program, or "
                "another livepuppet, has it; give another, as in http:8643."
            ) from error
        self._server.stream = self
        self.port = self._server.server_address[1]
        self.name = f"http://127.0.0.1:{self.port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True).start()

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR, dst=self._bgr)
        self._is_new = True
        self._encode()

    def repeat(self) -> bool:
        """Nothing is sent twice; but who began to watch while the source stood still gets the last
        picture now.
        """
        self._encode()
        return False

    def _encode(self) -> None:
        if not self._watching or not self._is_new:
            return
        self._is_new = False
        ok, data = cv2.imencode(".jpg", self._bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not ok:
            raise OSError("the picture could not be compressed")
        with self._changed:
            self._jpeg = data.tobytes()
            self._number += 1
            self._changed.notify_all()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Pictures are encoded while somebody is in here."""
        with self._changed:
            # What was encoded for somebody who watched before is old.
            if not self._watching:
                self._jpeg = None
                self._is_new = True
            self._watching += 1
        try:
            yield
        finally:
            with self._changed:
                self._watching -= 1

    def next(self, seen: int = 0) -> tuple[int, bytes] | None:
        """The number and JPEG of the newest picture once it is another than `seen`; None at the
        end, or if none comes.
        """
        deadline = clock.monotonic() + _PATIENCE
        with self._changed:
            while not self._ended and (self._jpeg is None or self._number == seen):
                left = deadline - clock.monotonic()
                if left <= 0:
                    # A source that stands still shows what it showed, and so finds out who went
                    # away.
                    return (self._number, self._jpeg) if self._jpeg is not None else None
                self._changed.wait(left)
            return None if self._ended or self._jpeg is None else (self._number, self._jpeg)

    def close(self) -> None:
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # On Windows this would let two programs share one port.
    allow_reuse_address = system != "nt"
    stream: HttpStream

    def handle_error(self, request, client_address) -> None:
        """Clients that break off are no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server: _Server
    server_version, sys_version = "livepuppet", ""

    def log_message(self, *arguments) -> None:
        """The terminal belongs to the person."""

    def do_GET(self) -> None:
        if not self._is_meant_for_us():
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        answer = {"/": self._page, "/stream.mjpg": self._stream, "/frame.jpg": self._frame}.get(
            urlsplit(self.path).path
        )
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            answer()

    def _is_meant_for_us(self) -> bool:
        host, _, port = self.headers.get("Host", "").partition(":")
        from_elsewhere = self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        return host.lower() in _HOSTS and port in ("", str(self.server.stream.port)) and not from_elsewhere

    def _begin(self, kind: str, length: int | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.end_headers()

    def _page(self) -> None:
        self._begin("text/html; charset=utf-8", len(PAGE))
        self.wfile.write(PAGE)

    def _frame(self) -> None:
        stream = self.server.stream
        with stream.watching():
            picture = stream.next()
        if picture is None:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        self._begin("image/jpeg", len(picture[1]))
        self.wfile.write(picture[1])

    def _stream(self) -> None:
        stream = self.server.stream
        self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")
        with stream.watching():
            self.wfile.write(b"--" + _BOUNDARY)
            seen = 0
            while (picture := stream.next(seen)) is not None:
                seen, jpeg = picture
                # The boundary follows at once: browsers show a part only when they have seen its
                # end.
                head = f"\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                self.wfile.write(head + jpeg + b"\r\n--" + _BOUNDARY)
            self.wfile.write(b"--\r\n")
