"""Who may talk to the studio: the right names, the right pages, the right token.

An ASGI layer in front of everything. A request passes if

- its Host is a name of this computer, so that no name bent to it (DNS rebinding) works;
- it comes from no page of another place, by Origin and Sec-Fetch-Site;
- it shows the token: in `Authorization: Bearer`, in `?token=`, or among the protocols that a
  websocket offers. Pages and their files may show a cookie instead, because a browser asks for them
  by itself. Cookies know no ports, so another program on this computer may get to see it: it opens
  nothing but those files, which hold nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from livepuppet.realtime.app.requests import Refusal, bearer, same_token

logger = logging.getLogger(__name__)

COOKIE = "livepuppet"

#: A websocket offers these two protocols: our name, and the token behind a prefix.
PROTOCOL, TOKEN_PROTOCOL = "livepuppet", "token."

#: Everything the page may load, and from where: from here, and nothing inline.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)

#: Addresses of pages; and where their files lie. These alone take the cookie.
PAGES = ("/", "/studio", "/panel")
STATIC = "/static/"

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Wording:
    """What a server calls itself, and what it has people do.

    Attributes:
        name: behind "the".
        token_remedy: where the token is wrong.
        port_remedy: where the port is taken.
    """

    name: str
    token_remedy: str
    port_remedy: str


STUDIO = Wording(
    "studio",
    "open the address that livepuppet studio shows",
    "choose another port with livepuppet settings set port NUMBER",
)


class Access:
    """Checks requests and websockets before `app` sees them.

    Args:
        token: that everything has to show; several of them for several people; or what says whether one is known.
        open_to: addresses of other machines may be used as Host, too (the server listens for them).
        secure: it speaks TLS.
        wording: in what people read.
        open_pages: pages and their files need no token, and links to them may stand anywhere: for a page that holds nothing,
            and whose token stands behind # in its address, where nobody gets to see it.
        names: by which other machines may ask for it, too, in lower case.
    """

    def __init__(
        self,
        app: Any,
        token: str | Sequence[str] | Callable[[str], bool],
        open_to: bool = False,
        secure: bool = False,
        wording: Wording = STUDIO,
        open_pages: bool = False,
        names: Collection[str] = (),
    ):
        self._app, self._wording, self._open_pages = app, wording, open_pages
        self._tokens: tuple[str, ...] = ()
        if callable(token):
            self._knows = token
        else:
            self._tokens = (token,) if isinstance(token, str) else tuple(token)
            self._knows = self._is_token
        self._open_to, self._secure = open_to, secure
        self._names = {*names, *names_of_this_computer()} if open_to else set()
        self._reported: set[str] = set()
        #: How many were refused.
        self.refused = 0

    @property
    def cookie(self) -> str:
        """Made of the token, which cannot be had from it."""
        return hmac.new(self._tokens[0].encode(), b"studio page", hashlib.sha256).hexdigest()

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), errors="surrogateescape")
        try:
            self._check_sender(headers, scope)
            by_address = self._check_token(scope, headers, query)
        except Refusal as refusal:
            self.refused += 1
            self.report(refusal)
            await _refuse(scope, receive, send, refusal)
            return
        if by_address and scope["path"] in PAGES and scope["type"] == "http":
            await self._enter(scope, send, query)
            return
        await self._app(scope, receive, _with_headers(send, self._secure))

    def report(self, refusal: Refusal) -> None:
        """Log a kind of refusal once: a thousand attempts are one line."""
        sentence = str(refusal)
        if sentence not in self._reported:
            self._reported.add(sentence)
            logger.warning("The %s refused a request: %s", self._wording.name, sentence)

    def _check_sender(self, headers: Mapping[str, str], scope: dict) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refusal(403, "Ask for 127.0.0.1 or localhost.")
        origin = headers.get("origin")
        if origin is not None and origin != f"{'https' if self._secure else 'http'}://{host}":
            raise Refusal(403, "Web pages of other places may not use this server.")
        followed = self._open_pages and scope["path"] == "/" and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not followed:
            raise Refusal(403, "Web pages of other places may not use this server.")

    def _is_ours(self, host: str) -> bool:
        name = (host if host.endswith("]") else host.rsplit(":", 1)[0]).lower()
        if name in _LOCAL:
            return True
        # An address is no name, so nobody can have bent it to us.
        return self._open_to and (name in self._names or _is_address(name))

    def _check_token(self, scope: dict, headers: Mapping[str, str], query: Mapping[str, list[str]]) -> bool:
        """Returns whether the token stood in the address. Raises Refusal."""
        shown = bearer(headers.get("authorization", ""), {})
        if not shown and scope["type"] == "websocket":
            shown = next(
                (
                    offered.removeprefix(TOKEN_PROTOCOL)
                    for offered in scope.get("subprotocols", ())
                    if offered.startswith(TOKEN_PROTOCOL)
                ),
                "",
            )
        by_address = not shown and "token" in query
        if by_address:
            shown = query["token"][0]
        if self._knows(shown):
            return by_address
        path = scope["path"]
        asks_for_page = scope["type"] == "http" and (path in PAGES or path.startswith(STATIC))
        if asks_for_page and self._open_pages and not shown:
            return False
        if asks_for_page and self._tokens and not shown:
            given = _cookies(headers.get("cookie", "")).get(COOKIE, "")
            if same_token(given, self.cookie):
                return False
        raise Refusal(401, f"The token is missing or wrong: {self._wording.token_remedy}.")

    def _is_token(self, shown: str) -> bool:
        return bool(sum(same_token(shown, token) for token in self._tokens))

    async def _enter(self, scope: dict, send: Any, query: Mapping[str, list[str]]) -> None:
        """Give the page its cookie, and take the token out of what the address bar and the history
        show: the part behind # is never sent, and the page removes it at once.
        """
        cookie = f"{COOKIE}={self.cookie}; HttpOnly; SameSite=Strict; Path=/"
        cookie += "; Secure" if self._secure else ""
        target = f"{scope['path']}#token={quote(query['token'][0])}"
        headers = [
            (b"location", target.encode()),
            (b"set-cookie", cookie.encode()),
            (b"content-length", b"0"),
        ]
        send = _with_headers(send, self._secure)
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def names_of_this_computer() -> Collection[str]:
    """What other machines of the network may call it."""
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local", name.partition(".")[0]} - {""}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _headers(scope: dict) -> dict[str, str]:
    """Names in lower case. Of a name that is there twice, an attempt to be read in two ways, nothing
    is believed.
    """
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        found[key] = value.decode("latin-1") if key not in found else "\0"
    return found


def _cookies(header: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name: value for name, _, value in pairs}


def _with_headers(send: Any, secure: bool) -> Any:
    async def sending(message: dict) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message.get("headers", ())}
            added = [pair for pair in HEADERS if pair[0] not in given]
            if secure:
                added.append((b"strict-transport-security", b"max-age=86400"))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sending


async def _refuse(scope: dict, receive: Any, send: Any, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        # Before it was accepted this is an answer 403.
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)[:100]})
        return
    body = json.dumps({"error": str(refusal)}).encode() + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    send = _with_headers(send, False)
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
