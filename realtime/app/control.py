"""Remote control of a running session over HTTP, for a Stream Deck or a script. On this computer
only; `requests` has what can be asked.

Every request carries the token, as `Authorization: Bearer TOKEN` or `?token=TOKEN`. A page in a
browser cannot get at it: it does not know the token, its Host header gives away a name that was bent
to 127.0.0.1, and it may not read.

The server is the standard library's, because every installation has `livepuppet control`: four
routes, no dependency. Where the studio runs, its server answers the same requests at the same port
instead.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import stat
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import number_of
from livepuppet.realtime.app import settings
from livepuppet.realtime.app.requests import (
    LARGEST_BODY,
    Refusal,
    Requests,
    as_json,
    bearer,
    parse_body,
    refused,
    same_token,
)

DEFAULT_PORT = 8643

#: Requests answered at the same time, and connections that may wait for their turn.
WORKERS, MOST_CONNECTIONS = 4, 16

#: A connection that takes longer is cut, so that nobody can hold the server by being slow.
MOST_SECONDS = 5.0

_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def token_path(name: str = "control") -> Path:
    return settings.config_folder() / f"{name}.token"


def port_path() -> Path:
    """Says at which port the running session listens."""
    return settings.config_folder() / "control.port"


def control_token(name: str = "control") -> str:
    """The token, made on first use and kept in a file that only its owner may read.

    Args:
        name: of the server that asks for it.

    Raises:
        UserError: it can be neither read nor written.
    """
    path = token_path(name)
    try:
        token = path.read_text(encoding="ascii").strip()
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            # Somebody else may have read it: it is worth nothing any more.
            token = ""
    except FileNotFoundError:
        token = ""
    except (OSError, ValueError) as error:
        raise UserError(
            f"The token of the {name} server cannot be read from {path} ({error}): delete that file."
        ) from error
    if len(token) < 32:
        token = secrets.token_urlsafe(32)
        settings.write_file(path, token.encode() + b"\n", mode=0o600)
    return token


def remember_port(port: int) -> None:
    """Write down where the session listens. Only a help for `livepuppet control`: a read-only folder
    must not stop the session.
    """
    with suppress(UserError):
        settings.write_file(port_path(), f"{port}\n".encode(), mode=0o600)


def forget_port(port: int) -> None:
    """Remove what `remember_port` wrote, unless another session has written its own by now."""
    with suppress(OSError, ValueError):
        if number_of(port_path().read_text(), whole=True) == port:
            port_path().unlink()


class ControlServer:
    """Listens on 127.0.0.1 until closed.

    Args:
        post: called as `post(action, value)` with what is to be done. It has to return at once, and
            raises UserError for what it does not know or a value that does not fit. Called in
            several threads.
        state: called for what goes on, as plain values for JSON. Called in several threads.
        token: what every request has to show.
        port: 0 takes a free one.
        actions: names that `post` knows; those of `actions.ACTIONS` by default.
        check: `check(action, value)` raises UserError for a value that does not fit;
            `actions.checked` by default.

    Raises:
        UserError: the port is taken.
    """

    def __init__(
        self,
        post: Callable[[str, Any], None],
        state: Callable[[], Mapping],
        token: str,
        port: int = DEFAULT_PORT,
        actions: Collection[str] | None = None,
        check: Callable[[str, Any], Any] | None = None,
    ):
        if len(token) < 16:
            raise ValueError("the token is too short to protect anything")
        try:
            self._server = _Server(
                ("127.0.0.1", port), _Handler, Requests(post, state, actions, check), token
            )
        except OSError as error:
            raise UserError(
                f"The control server cannot listen at port {port} ({error.strerror}), perhaps because another livepuppet "
                "runs: stop it, or choose another with livepuppet settings set port NUMBER."
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.25,), name="control", daemon=True
        )
        self._thread.start()
        remember_port(self.port)

    def close(self) -> None:
        """Stop listening and cut what is open. Safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(3)
        self._server.server_close()
        forget_port(self.port)


class _Server(HTTPServer):
    """One thread accepts, a few answer; slow clients time out, excess connections are refused."""

    # Elsewhere this only ends the wait for a port that was just used; on Windows it would share it
    # with others.
    allow_reuse_address = os.name != "nt"
    allow_reuse_port = False
    request_queue_size = 8

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        requests: Requests,
        token: str,
    ):
        self.requests, self.token = requests, token
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="control")
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if sys.platform == "win32":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        # Not HTTPServer's own, which asks the name service who we are.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: socket.socket, client_address) -> None:
        with self._lock:
            full = len(self._open) >= MOST_CONNECTIONS
            if not full:
                self._open[request] = time.monotonic()
        if full:
            self.shutdown_request(request)
            return
        self._pool.submit(self._answer, request, client_address)

    def _answer(self, request: socket.socket, client_address) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            # The connection broke: there is nobody left to tell.
            pass
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)

    def service_actions(self) -> None:
        self._cut(time.monotonic() - MOST_SECONDS)

    def _cut(self, before: float) -> None:
        with self._lock:
            late = [connection for connection, began in self._open.items() if began < before]
            for connection in late:
                # Its place is free before it sees its end, whenever a worker comes to it.
                del self._open[connection]
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def server_close(self) -> None:
        super().server_close()
        self._cut(float("inf"))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def handle_error(self, request, client_address) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    # One request, one connection: nothing to keep open, and a body that was not read cannot become
    # the next request.
    protocol_version = "HTTP/1.0"
    timeout = MOST_SECONDS
    server: _Server

    def version_string(self) -> str:
        return "livepuppet"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: addresses may hold the token."""

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        try:
            status, answer = 200, self._answer()
        except OSError:
            raise
        except Exception as error:
            status, answer = refused(error)
        self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        try:
            data = as_json(answer)
        except ValueError:
            status, data = 500, b'{"error": "What goes on cannot be said as JSON."}\n'
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself, in our manner."""
        self._send(int(code), {"error": message or "That is no request this server knows."})

    def _answer(self) -> Any:
        address = urlsplit(self.path)
        query = parse_qs(address.query, errors="surrogateescape")
        self._check_sender(query)
        parts = [unquote(part, errors="surrogateescape") for part in address.path.split("/") if part]
        body = self._body()
        return self.server.requests.answer(self.command, parts, query, body)

    def _check_sender(self, query: Mapping[str, list[str]]) -> None:
        host = self.headers.get("Host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if name.lower() not in _HOSTS:
            raise Refusal(403, "Ask for 127.0.0.1 or localhost.")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in (f"http://{host}", "null"):
            raise Refusal(403, "Web pages of other places may not use this server.")
        shown = bearer(self.headers.get("Authorization", ""), query)
        if not same_token(shown, self.server.token):
            raise Refusal(401, "The token is missing or wrong: see livepuppet control token.")

    def _body(self) -> dict:
        """The JSON object that came along; empty where none did."""
        if self.headers.get("Transfer-Encoding"):
            raise Refusal(411, "Send the body with its Content-Length.")
        length = self.headers.get("Content-Length", "0")
        try:
            size = number_of(length, 0, whole=True)
        except ValueError:
            raise Refusal(400, "Content-Length has to be a number.") from None
        if size > LARGEST_BODY:
            raise Refusal(413, f"The body is larger than {LARGEST_BODY} bytes.")
        return parse_body(self.rfile.read(size) if size else b"")


# The client.


def running_port() -> int:
    """Where the session that runs listens, as it wrote down; else the port of the settings."""
    with suppress(OSError, ValueError):
        return number_of(port_path().read_text(), 1, 65535, whole=True)
    with suppress(UserError):
        return settings.load().control.port or DEFAULT_PORT
    return DEFAULT_PORT


def address_of(path: str, port: int | None = None) -> str:
    """`http://127.0.0.1:8643/do/next`; `path` is already quoted."""
    return f"http://127.0.0.1:{running_port() if port is None else port}/{path}"


def do_path(action: str, value: str | None = None, token: str | None = None) -> str:
    """`do/next?token=...`, quoted."""
    query = {name: text for name, text in (("value", value), ("token", token)) if text is not None}
    path = quote(action, safe="", errors="surrogateescape")
    return f"do/{path}" + (f"?{urlencode(query, errors='surrogateescape')}" if query else "")


def ask(path: str, body: Mapping | None = None, method: str | None = None, port: int | None = None) -> Any:
    """Ask the session that runs on this computer.

    Args:
        path: such as `state` or `do/next`.
        body: sent as JSON.
        method: POST with a body, else GET, by default.
        port: found by itself by default.

    Returns:
        Its answer, from JSON.

    Raises:
        UserError: nothing runs, or it refused; in its own words.
    """
    request = urllib.request.Request(
        address_of(path, port),
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {control_token()}", "Content-Type": "application/json"},
        method=method or ("GET" if body is None else "POST"),
    )
    # Not through a proxy that is set for the web.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=MOST_SECONDS) as response:
            return json.loads(response.read(1 << 20))
    except urllib.error.HTTPError as error:
        with error:
            try:
                sentence = json.loads(error.read(1 << 16))["error"]
            except (ValueError, KeyError, TypeError, OSError):
                sentence = f"Something that is not livepuppet answers there ({error.code})."
        raise UserError(sentence) from None
    except (ValueError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ConnectionRefusedError) or not isinstance(error, urllib.error.URLError):
            reason = "nothing answers"
        raise UserError(
            f"No livepuppet that can be controlled runs here ({reason}): start livepuppet run first, with control.enabled "
            "not set to false."
        ) from None
