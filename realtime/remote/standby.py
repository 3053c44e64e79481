"""A second worker of a service that knows the session, too, and takes it over where the first one is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from livepuppet.core.errors import UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.protocol import CLOCK_REQUEST, BadMessage, parse_json

#: Seconds between signs of life, and within which they are answered; and between attempts to find a spare, at first and at most.
ALIVE_SECONDS, ANSWER_SECONDS = 0.5, 2.0
FIND_SECONDS, MOST_FIND_SECONDS = 0.5, 8.0

#: Seconds that a spare may take to prepare an avatar, and in which it is looked whether to stop.
PREPARING, STEP = 60.0, 0.02


@dataclass(frozen=True)
class Worker:
    """One worker of a service. Attributes: its name, and where it is, with the ticket that it takes."""

    name: str
    address: ServerAddress

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from others, whatever its ticket is."""
        return self.name, self.address.place

    @classmethod
    def from_json(cls, value: object) -> Worker | None:
        """None stays None. Raises BadMessage."""
        if value is None:
            return None
        if not isinstance(value, dict) or not all(
            isinstance(value.get(key), str) for key in ("name", "address")
        ):
            raise BadMessage("worker")
        try:
            return cls(value["name"][:80], ServerAddress.parse(value["address"]))
        except UserError as error:
            raise BadMessage("address") from error


@dataclass(frozen=True)
class Described:
    """What a session is. Attributes: messages that open it; its avatar's hash, and the message that brings it."""

    opening: tuple[dict, ...]
    digest: str
    avatar: bytes


@dataclass(frozen=True)
class Prepared:
    """A worker that is ready to take over. Attributes: the connection to it; what it is ready for; whether it needs keypoints."""

    worker: Worker
    connection: Connection
    described: Described
    keypoints: bool


class Standby:
    """Keeps a spare worker ready, in a thread of its own.

    Args:
        describe: the session; None before it has an avatar.
        find: asks the service for a spare; None where there is none now.
        introduce: connects to a worker and says hello. Raises UserError.
    """

    def __init__(
        self,
        describe: Callable[[], Described | None],
        find: Callable[[], Worker | None],
        introduce: Callable[[ServerAddress], Connection],
    ):
        self._describe, self._find, self._introduce = describe, find, introduce
        #: Guards what follows.
        self._changed = threading.Condition()
        self._wanted: Worker | None = None
        self._prepared: Prepared | None = None
        self._taken: Connection | None = None
        self._stop = threading.Event()
        self._thread = start_thread(self._run, "standby", self._stop)

    @property
    def ready(self) -> Worker | None:
        """The spare that could take over now."""
        prepared = self._prepared
        return None if prepared is None else prepared.worker

    def use(self, worker: Worker | None) -> None:
        """Prepare this one; None: ask for one."""
        with self._changed:
            if worker is not None and self._wanted is not None and worker.place == self._wanted.place:
                # It is being prepared, or ready, with another ticket.
                return
            self._wanted = worker
            if self._prepared is not None and self._prepared.worker != worker:
                self._prepared.connection.close()
                self._prepared = None
            self._changed.notify()

    def take(self) -> Prepared | None:
        """The spare, of which nothing is kept here; None where none is ready."""
        with self._changed:
            prepared, self._prepared, self._wanted = self._prepared, None, None
            self._taken = None if prepared is None else prepared.connection
            self._changed.notify()
        return prepared

    def close(self) -> None:
        """Let the spare go. Safe to call twice."""
        self._stop.set()
        self.use(None)
        self._thread.join(3)

    # The thread.

    def _run(self) -> None:
        pause = FIND_SECONDS
        while not self._stop.is_set():
            described = self._describe()
            if described is None:
                self._stop.wait(STEP)
                continue
            worker = self._wanted or self._find()
            try:
                if worker is None:
                    raise ConnectionError
                self._keep(worker, described)
                pause = FIND_SECONDS
            except (UserError, ConnectionError, BadMessage):
                with self._changed:
                    if self._wanted == worker:
                        self._wanted = None
                self._stop.wait(pause)
                pause = min(2 * pause, MOST_FIND_SECONDS)

    def _keep(self, worker: Worker, described: Described) -> None:
        """Prepare a worker and keep it so until it is taken, or another is wanted. Raises what `_prepare` does."""
        with self._changed:
            self._wanted = worker
        connection = self._introduce(worker.address)
        try:
            while self._wanted == worker and not self._stop.is_set():
                keypoints = self._prepare(connection, described)
                with self._changed:
                    if self._wanted == worker:
                        self._prepared = Prepared(worker, connection, described, keypoints)
                described = self._watch(connection, described) or described
        finally:
            with self._changed:
                if self._prepared is not None and self._prepared.connection is connection:
                    self._prepared = None
                if self._taken is not connection:
                    connection.close()

    def _prepare(self, connection: Connection, described: Described) -> bool:
        """Tell it the session. Returns whether it needs keypoints."""
        for message in (*described.opening, {"show": described.digest}):
            connection.send(message)
        deadline = time.monotonic() + PREPARING
        while time.monotonic() < deadline and not self._stop.is_set():
            message = connection.receive(ANSWER_SECONDS)
            if not isinstance(message, str):
                connection.send(CLOCK_REQUEST.pack(b"T", 0.0))
                continue
            told = parse_json(message)
            if told.get("need") == described.digest:
                connection.send(described.avatar)
            elif told.get("ready") == described.digest:
                return bool(told.get("keypoints"))
            elif "error" in told:
                raise ConnectionError(told["error"])
        raise ConnectionError("silence")

    def _watch(self, connection: Connection, described: Described) -> Described | None:
        """Wait until the session is another one, which is returned, or it is taken. Only this thread reads meanwhile, and whoever
        takes the connection reads what is left.
        """
        asked = heard = time.monotonic()
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait(ALIVE_SECONDS)
                if self._prepared is None:
                    return None
                now = self._describe()
                if now is not None and now != described:
                    self._prepared = None
                    return now
                if time.monotonic() - asked < ALIVE_SECONDS:
                    continue
                asked = time.monotonic()
                connection.send(CLOCK_REQUEST.pack(b"T", 0.0))
                # Held: nobody may take a connection from which another thread reads. It answers at once, or is not alive.
                if connection.receive(ANSWER_SECONDS / 20) is not None:
                    heard = time.monotonic()
                elif asked - heard > ANSWER_SECONDS:
                    raise ConnectionError("silence")
        return None
