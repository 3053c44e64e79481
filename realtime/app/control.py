"""Remote control of a running session over HTTP, for a Stream Deck or a script. On this computer
only.

    GET  /state                        what goes on, as JSON
    POST /do/next                      any action of `actions.ACTIONS`; {"value": ...} or ?value=... where it takes one
    GET  /do/next?token=TOKEN          the same, for programs that can only open an address
    POST /avatar {"name": "cat"}       or {"number": 2}
    POST /set {"strength": 0.8, "mirror": true}

Every request carries the token, as `Authorization: Bearer TOKEN` or `?token=TOKEN`. A page in a
browser cannot get at
it: it does not know the token, its Host header gives away a name that was bent to 127.0.0.1, and it
may not read.

The server is the standard library's until the studio brings an ASGI server: five routes, no
dependency, and nothing to import for who does not use it.
"""

from __future__ import annotations

import hmac
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

DEFAULT_PORT = 8643

#: Of a request's body, in bytes.
LARGEST_BODY = 4096

#: Requests answered at the same time, and connections that may wait for their turn.
WORKERS, MOST_CONNECTIONS = 4, 16

#: A connection that takes longer is cut, so that nobody can hold the server by being slow.
MOST_SECONDS = 5.0

_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def token_path() -> Path:
    return settings.config_folder() / "control.token"


def port_path() -> Path:
    """Says at which port the running session listens."""
    return settings.config_folder() / "control.port"


def control_token() -> str:
    """The token, made on first use and kept in a file that only its owner may read.

    Raises:
        UserError: it can be neither read nor written.
    """
    path = token_path()
    try:
        token = path.read_text(encoding="ascii").strip()
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            # Somebody else may have read it: it is worth nothing any more.
            token = ""
    except FileNotFoundError:
        token = ""
    except (OSError, ValueError) as error:
        raise UserError(
            f"The token of the control server cannot be read from {path} ({error}): delete that file."
        ) from error
    if len(token) < 32:
        token = secrets.token_urlsafe(32)
        settings.write_file(path, token.encode() + b"\n", mode=0o600)
    return token


class Refusal(Exception):
    """An answer other than "done": a status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


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
        if actions is None or check is None:
            from livepuppet.realtime.app import actions as known

            actions = known.ACTIONS if actions is None else actions
            check = known.checked if check is None else check
        if len(token) < 16:
            raise ValueError("the token is too short to protect anything")
        try:
            self._server = _Server(("127.0.0.1", port), _Handler, post, state, token, tuple(actions), check)
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
        # Only a help for `livepuppet control`: a read-only folder must not stop the session.
        with suppress(UserError):
            settings.write_file(port_path(), f"{self.port}\n".encode(), mode=0o600)

    def close(self) -> None:
        """Stop listening and cut what is open. Safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(3)
        self._server.server_close()
        with suppress(OSError, ValueError):
            # Another session may have written its own by now.
            if number_of(port_path().read_text(), whole=True) == self.port:
                port_path().unlink()


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
        post: Callable[[str, Any], None],
        state: Callable[[], Mapping],
        token: str,
        actions: tuple[str, ...],
        check: Callable[[str, Any], Any],
    ):
        self.post, self.state, self.token = post, state, token
        self.actions, self.check = actions, check
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
        except Refusal as refusal:
            status, answer = refusal.status, {"error": str(refusal)}
        except UserError as error:
            status, answer = 400, {"error": str(error)}
        except OSError:
            raise
        except Exception as error:
            status, answer = 500, {"error": f"It failed ({type(error).__name__}: {error})."}
        self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        try:
            data = json.dumps(answer, default=str).encode() + b"\n"
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
        match (self.command, parts):
            case "GET", ["state"]:
                return dict(self.server.state())
            case (("GET" | "POST"), ["do", action]):
                return self._do(action, _value(query, body))
            case "POST", ["avatar"]:
                return self._avatar(body)
            case "POST", ["set"]:
                return self._set(body)
            case "GET", ["avatar" | "set"]:
                raise Refusal(405, f"/{parts[0]} wants POST with a JSON body.")
        raise Refusal(404, "There is GET /state, POST /do/ACTION, POST /avatar and POST /set.")

    def _check_sender(self, query: Mapping[str, list[str]]) -> None:
        host = self.headers.get("Host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if name.lower() not in _HOSTS:
            raise Refusal(403, "Ask for 127.0.0.1 or localhost.")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in (f"http://{host}", "null"):
            raise Refusal(403, "Web pages of other places may not use this server.")
        kind, _, shown = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            shown = query.get("token", [""])[0]
        if not hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self.server.token.encode()):
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
        data = self.rfile.read(size) if size else b""
        if not data.strip():
            return {}
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise Refusal(400, "The body has to be JSON.") from None
        if not isinstance(body, dict):
            raise Refusal(400, 'The body has to be a JSON object, as in {"name": "cat"}.')
        return body

    def _do(self, action: str, value: Any) -> dict:
        if action not in self.server.actions:
            known = ", ".join(sorted(self.server.actions))
            raise Refusal(404, f"There is no action '{action[:40]}': there is {known}.")
        self.server.post(action, value)
        return {"done": action}

    def _avatar(self, body: dict) -> dict:
        given = {name: value for name, value in body.items() if name in ("name", "number")}
        if len(given) != 1 or len(body) != 1:
            raise Refusal(400, 'Give {"name": "cat"} or {"number": 2}.')
        [(kind, value)] = given.items()
        names = list(self.server.state().get("avatars", ()))
        if kind == "number":
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise Refusal(400, "The number of an avatar is a whole number from 1.")
            if names and value > len(names):
                raise Refusal(400, f"There is no avatar {value}: the last one is {len(names)}.")
        else:
            if not isinstance(value, str) or not value:
                raise Refusal(400, "The name of an avatar is a text.")
            if names and not any(value.casefold() in name.casefold() for name in names):
                raise Refusal(400, f"There is no avatar '{value[:80]}': there is {', '.join(names)}.")
        self.server.post("select", value)
        return {"done": "select"}

    def _set(self, body: dict) -> dict:
        if not body:
            raise Refusal(400, 'Give what to set, as in {"strength": 0.8}.')
        for name, value in body.items():
            if name not in self.server.actions:
                raise Refusal(404, f"There is nothing called '{name[:40]}' to set.")
            if value is None:
                raise Refusal(400, f"{name} needs a value.")
            # All of them before the first is done.
            self.server.check(name, value)
        for name, value in body.items():
            self.server.post(name, value)
        return {"done": list(body)}


def _value(query: Mapping[str, list[str]], body: dict) -> Any:
    """The value of an action: JSON in the body, or in the address, where plain words stand for
    themselves.
    """
    if set(body) - {"value"}:
        raise Refusal(400, 'An action takes nothing but {"value": ...}.')
    if "value" in body:
        return body["value"]
    if "value" not in query:
        return None
    return read_value(query["value"][0])


def read_value(text: str) -> Any:
    """What somebody typed: true, false, a number, or the text itself. `on` and `off` are true and
    false.
    """
    words = {"on": True, "yes": True, "off": False, "no": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = json.loads(text.lower() if text.lower() in ("true", "false") else text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (bool, int, float)) and text.isascii() else text


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
