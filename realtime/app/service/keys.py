"""Who may use a service, and how much of it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import tomlkit
from tomlkit.exceptions import ParseError

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.requests import same_token


@dataclass(frozen=True)
class Limits:
    """What one key may use.

    Attributes:
        sessions: at the same time.
        minutes: a day, of all its sessions together; days are UTC's.
        pixels: of a canvas.
        avatars: that one session may bring.
    """

    sessions: int = 4
    minutes: int = 24 * 60
    pixels: int = 1920 * 1080
    avatars: int = 64


def read_limits(path: Path | None) -> dict[str, Limits]:
    """Names and limits of a TOML file, a table for each key; without a file one key without a name.

    Raises:
        UserError: it cannot be read, or something in it is none of ours.
    """
    if path is None:
        return {"": Limits()}
    try:
        tables = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise UserError(f"The keys cannot be read from {path} ({error}).") from error
    known = [field.name for field in fields(Limits)]
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} has to be a table: write [{name}] and its limits below.")
        for limit, value in table.items():
            if limit not in known:
                raise UserError(f"{path}: [{name}] has no limit {limit}: choose among {', '.join(known)}.")
            if type(value) is not int or value < 0:
                raise UserError(f"{path}: {limit} of [{name}] has to be a whole number.")
    if not tables:
        raise UserError(f"{path} names no key: write [NAME] into it, and limits below.")
    return {name: Limits(**table) for name, table in tables.items()}


class Keys:
    """Everybody's tokens and limits.

    Args:
        secret: of the service; tokens are made of it.
        limits: by the key's name.
    """

    def __init__(self, secret: str, limits: Mapping[str, Limits]):
        self._secret, self._limits = secret.encode(), dict(limits)
        self._tokens = {name: self._made_of(f"key {name}") for name in limits}
        #: That workers show to the directory.
        self.worker_token = self._made_of("worker")

    def token(self, name: str) -> str:
        """Always the same for the same secret and name."""
        return self._tokens[name]

    def limits(self, name: str) -> Limits:
        return self._limits[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._limits)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None where it is nobody's."""
        found = [name for name, known in self._tokens.items() if same_token(token, known)]
        return found[0] if found else None

    def alias(self, name: str) -> str:
        """What tickets, workers and the store call a key."""
        return self._made_of(f"alias {name}")[:16]

    def of_alias(self, alias: str) -> str | None:
        return next((name for name in self._limits if self.alias(name) == alias), None)

    def _made_of(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
