"""What a directory keeps when it ends: where sessions are, and how long each key has rendered today."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, Protocol

from livepuppet.core.errors import UserError

#: Seconds for which the place of a session that says nothing is kept, and times of a key.
KEPT, KEPT_TIMES = 60.0, 2 * 86400.0


class Store(Protocol):
    """Keys go by their aliases, days are UTC's."""

    def put(self, session: str, worker: str, key: str) -> None:
        """Remember where a session is."""

    def find(self, session: str) -> str | None:
        """The worker where it was last."""
        ...

    def remove(self, session: str) -> None:
        """Forget it."""

    def add_seconds(self, key: str, seconds: float) -> None:
        """Count time of today."""

    def seconds(self, key: str) -> float:
        """Of today."""
        ...

    def close(self) -> None: ...


def open_store(where: str | None) -> Store:
    """A Redis (`redis://...`, `rediss://...`), a file for SQLite, or memory alone.

    Raises:
        UserError: it cannot be opened.
    """
    if where is not None and where.startswith(("redis://", "rediss://")):
        return RedisStore(_redis(where))
    try:
        return SQLiteStore(where)
    except sqlite3.Error as error:
        raise UserError(f"The directory's store cannot be opened at {where} ({error}).") from error


class SQLiteStore:
    """For one directory. Belongs to one thread."""

    def __init__(self, path: str | Path | None = None):
        self._database = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False)
        self._database.isolation_level = None
        # What the last second held is told again by the workers.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS sessions (session TEXT PRIMARY KEY, worker TEXT, key TEXT, seen REAL)"
        )
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS times (key TEXT, day TEXT, seconds REAL, PRIMARY KEY (key, day))"
        )

    def put(self, session: str, worker: str, key: str) -> None:
        now = time.time()
        self._database.execute("REPLACE INTO sessions VALUES (?, ?, ?, ?)", (session, worker, key, now))
        self._database.execute("DELETE FROM sessions WHERE seen < ?", (now - KEPT,))

    def find(self, session: str) -> str | None:
        row = self._database.execute("SELECT worker FROM sessions WHERE session = ?", (session,)).fetchone()
        return None if row is None else row[0]

    def remove(self, session: str) -> None:
        self._database.execute("DELETE FROM sessions WHERE session = ?", (session,))

    def add_seconds(self, key: str, seconds: float) -> None:
        self._database.execute(
            "INSERT INTO times VALUES (?, ?, ?) ON CONFLICT (key, day) DO UPDATE SET seconds = seconds + excluded.seconds",
            (key, _today(), seconds),
        )

    def seconds(self, key: str) -> float:
        row = self._database.execute(
            "SELECT seconds FROM times WHERE key = ? AND day = ?", (key, _today())
        ).fetchone()
        return 0.0 if row is None else row[0]

    def close(self) -> None:
        self._database.close()


class RedisStore:
    """For several directories.

    Args:
        client: of the package `redis`.
    """

    def __init__(self, client: Any):
        self._client = client

    def put(self, session: str, worker: str, key: str) -> None:
        self._client.set(f"livepuppet:session:{session}", worker, ex=int(KEPT))

    def find(self, session: str) -> str | None:
        found = self._client.get(f"livepuppet:session:{session}")
        return None if found is None else found.decode()

    def remove(self, session: str) -> None:
        self._client.delete(f"livepuppet:session:{session}")

    def add_seconds(self, key: str, seconds: float) -> None:
        name = f"livepuppet:seconds:{key}:{_today()}"
        self._client.incrbyfloat(name, seconds)
        self._client.expire(name, int(KEPT_TIMES))

    def seconds(self, key: str) -> float:
        return float(self._client.get(f"livepuppet:seconds:{key}:{_today()}") or 0.0)

    def close(self) -> None:
        self._client.close()


def _redis(where: str) -> Any:
    try:
        import redis  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("Redis needs the package redis: pip install 'livepuppet[service]'.") from error
    client = redis.Redis.from_url(where, socket_timeout=1.0)
    try:
        client.ping()
    except redis.RedisError as error:
        raise UserError(
            "The Redis of the directory does not answer: start it, or leave --store out."
        ) from error
    return client


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())
