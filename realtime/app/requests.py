"""What a running session can be asked over HTTP, whichever server the request came in by.

GET  /state                        what goes on, as JSON
POST /do/next                      any action of `actions.ACTIONS`; {"value": ...} or ?value=... where it takes one
GET  /do/next                      the same, for programs that can only open an address
POST /avatar {"name": "cat"}       or {"number": 2}
POST /set {"strength": 0.8, "mirror": true}
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from livepuppet.core.errors import UserError

#: Of a request's body, in bytes.
LARGEST_BODY = 4096


class Refusal(Exception):
    """An answer other than "done": a status and one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


def same_token(shown: str, token: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(shown.strip().encode("utf-8", "replace"), token.encode())


def bearer(authorization: str, query: Mapping[str, Sequence[str]]) -> str:
    """The token that a request shows: in its `Authorization` header, else in its address."""
    kind, _, shown = authorization.partition(" ")
    return shown if kind.lower() == "bearer" else (query.get("token") or [""])[0]


def parse_body(data: bytes) -> dict:
    """The JSON object that a request brings; empty where it brings none. Raises Refusal."""
    if not data.strip():
        return {}
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body has to be JSON.") from None
    if not isinstance(body, dict):
        raise Refusal(400, 'The body has to be a JSON object, as in {"name": "cat"}.')
    return body


def refused(error: Exception) -> tuple[int, dict]:
    """Status and answer for what a request failed with."""
    if isinstance(error, Refusal):
        return error.status, {"error": str(error)}
    if isinstance(error, UserError):
        return 400, {"error": str(error)}
    return 500, {"error": f"It failed ({type(error).__name__}: {error})."}


def as_json(answer: Any) -> bytes:
    """Raises ValueError for what cannot be said as JSON."""
    return json.dumps(answer, default=str).encode() + b"\n"


class Requests:
    """Answers requests; who may ask has been checked.

    Args:
        post: called as `post(action, value)` with what is to be done. It has to return at once, and
            raises UserError for what it does not know or a value that does not fit. Called in
            several threads.
        state: called for what goes on, as plain values for JSON. Called in several threads.
        actions: names that `post` knows; those of `actions.ACTIONS` by default.
        check: `check(action, value)` raises UserError for a value that does not fit;
            `actions.checked` by default.
    """

    def __init__(
        self,
        post: Callable[[str, Any], None],
        state: Callable[[], Mapping],
        actions: Collection[str] | None = None,
        check: Callable[[str, Any], Any] | None = None,
    ):
        if actions is None or check is None:
            from livepuppet.realtime.app import actions as known

            actions = known.ACTIONS if actions is None else actions
            check = known.checked if check is None else check
        self._post, self._state = post, state
        self._actions, self._check = tuple(actions), check

    def answer(
        self, method: str, parts: Sequence[str], query: Mapping[str, Sequence[str]], body: dict
    ) -> dict:
        """What a request gets, as plain values for JSON.

        Args:
            method: `GET` or `POST`.
            parts: of the path, unquoted.
            query, body: what came along.

        Raises:
            Refusal, UserError: see `refused`.
        """
        match (method, list(parts)):
            case "GET", ["state"]:
                return dict(self._state())
            case (("GET" | "POST"), ["do", action]):
                return self._do(action, _value(query, body))
            case "POST", ["avatar"]:
                return self._avatar(body)
            case "POST", ["set"]:
                return self._set(body)
            case "GET", ["avatar" | "set"]:
                raise Refusal(405, f"/{parts[0]} wants POST with a JSON body.")
        raise Refusal(404, "There is GET /state, POST /do/ACTION, POST /avatar and POST /set.")

    def _do(self, action: str, value: Any) -> dict:
        if action not in self._actions:
            known = ", ".join(sorted(self._actions))
            raise Refusal(404, f"There is no action '{action[:40]}': there is {known}.")
        self._post(action, value)
        return {"done": action}

    def _avatar(self, body: dict) -> dict:
        given = {name: value for name, value in body.items() if name in ("name", "number")}
        if len(given) != 1 or len(body) != 1:
            raise Refusal(400, 'Give {"name": "cat"} or {"number": 2}.')
        [(kind, value)] = given.items()
        names = list(self._state().get("avatars", ()))
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
        self._post("select", value)
        return {"done": "select"}

    def _set(self, body: dict) -> dict:
        if not body:
            raise Refusal(400, 'Give what to set, as in {"strength": 0.8}.')
        for name, value in body.items():
            if name not in self._actions:
                raise Refusal(404, f"There is nothing called '{name[:40]}' to set.")
            if value is None:
                raise Refusal(400, f"{name} needs a value.")
            # All of them before the first is done.
            self._check(name, value)
        for name, value in body.items():
            self._post(name, value)
        return {"done": list(body)}


def _value(query: Mapping[str, Sequence[str]], body: dict) -> Any:
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
