"""The camera's end where many machines render: which of them does, and who takes over.

A service answers the hello with the worker that renders for us and a warm spare. The spare is told the session, too, so that it
renders the next frame where the worker is lost.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from livepuppet.core.errors import UserError
from livepuppet.realtime.remote.client import CLOCK_SECONDS, SILENCE, RemoteClient
from livepuppet.realtime.remote.clock import ClockOffset
from livepuppet.realtime.remote.connection import CONNECT_SECONDS, Connection, ServerAddress
from livepuppet.realtime.remote.protocol import BadMessage, parse_json
from livepuppet.realtime.remote.standby import Described, Prepared, Standby, Worker

logger = logging.getLogger(__name__)

#: Seconds between signs of life while a spare is ready, and of silence after which it takes over: at least, and in round trips.
READY_CLOCK_SECONDS, READY_SILENCE, READY_SILENCE_ROUND_TRIPS = 0.1, 0.3, 3.0

#: Seconds that the last pictures of a worker that hands over are waited for.
LAST_PICTURES = 0.3

#: Longest seconds until a service that is full is asked again.
MOST_BUSY = 5.0


class Busy(UserError):
    """All places are taken. Attributes: for about how many seconds."""

    def __init__(self, sentence: str, seconds: float):
        super().__init__(sentence)
        self.seconds = seconds


class ServiceClient(RemoteClient):
    """A `RemoteClient` of a service, or of one machine."""

    def __init__(self, address: ServerAddress, model: str):
        #: Who renders; None while that is the machine of the address.
        self._worker: Worker | None = None
        self._lost: str | None = None
        self._standby: Standby | None = None
        self._moving = False
        self._busy = 0.0
        super().__init__(address, model)

    def close(self) -> None:
        """End the session. Safe to call twice."""
        if self._standby is not None:
            self._standby.close()
        super().close()

    @property
    def worker(self) -> str | None:
        """The name of who renders; None where that is the machine of the address."""
        return None if self._worker is None else self._worker.name

    @property
    def spare(self) -> str | None:
        """The name of who could take over now."""
        ready = None if self._standby is None else self._standby.ready
        return None if ready is None else ready.name

    @property
    def _spare_ready(self) -> bool:
        return self.spare is not None

    @property
    def _clock_seconds(self) -> float:
        return READY_CLOCK_SECONDS if self._spare_ready else CLOCK_SECONDS

    @property
    def _silence(self) -> float:
        if not self._spare_ready:
            return SILENCE
        round_trip = self.clock.round_trip
        longer = READY_SILENCE_ROUND_TRIPS * round_trip if round_trip == round_trip else 0.0
        return min(max(READY_SILENCE, longer), SILENCE)

    # Connecting.

    def _connected(self) -> Connection:
        worker = self._worker
        try:
            connection, move = self._asked(lost=self._lost)
        except Busy as busy:
            self._busy = busy.seconds
            raise
        except UserError:
            if worker is None:
                raise
            # The service is gone, its workers go on.
            connection, move = self._introduced(worker.address), None
        if move is not None:
            connection.close()
            worker, spare = move
            connection = self._introduced(worker.address)
            self._serve_from(worker)
            self._use_spare(spare)
        self._lost, self._heard = None, time.monotonic()
        return connection

    def _asked(self, **more: Any) -> tuple[Connection, tuple[Worker, Worker | None] | None]:
        """A connection to the address that we were given, and where it sends us. Raises UserError."""
        connection = self._introduced(self._address, **{name: value for name, value in more.items() if value})
        self._heard = time.monotonic()
        try:
            message = connection.receive(CONNECT_SECONDS)
            told = parse_json(message) if isinstance(message, str) else {}
            if "move" in told:
                return connection, _moved(told["move"])
            if "refused" in told:
                sentence = f"{self._address.place}: {str(told['refused'])[:300]}"
                raise Busy(sentence, float(told["busy"])) if "busy" in told else UserError(sentence)
        except UserError:
            connection.close()
            raise
        except (ConnectionError, ValueError, TypeError) as error:
            logger.debug("The server said nothing that can be understood (%s).", error)
            return connection, None
        if message is not None:
            self._take(connection, message)
        return connection, None

    def _back_off(self) -> None:
        if self._busy:
            self._stop.wait(min(self._busy, MOST_BUSY))
            self._busy = 0.0
        super()._back_off()

    def _serve_from(self, worker: Worker) -> None:
        self._worker, self.place = worker, worker.address.place

    # The spare.

    def _use_spare(self, spare: Worker | None) -> None:
        standby = self._standby
        if standby is None:
            standby = self._standby = Standby(self._describe, self._find_spare, self._introduced_to_spare)
        standby.use(spare)

    def _describe(self) -> Described | None:
        with self._changed:
            return self._described() if self._shown else None

    def _described(self) -> Described | None:
        """With `_changed` held."""
        return None if self._avatar is None else Described(tuple(self._canvas_told()), *self._avatar[1:])

    def _canvas_told(self) -> list[dict]:
        """What to say of the canvas on a new connection; with `_changed` held."""
        return []

    def _find_spare(self) -> Worker | None:
        worker = self._worker
        with suppress(UserError):
            connection, move = self._asked(at=None if worker is None else worker.name)
            connection.close()
            return None if move is None else move[1]
        return None

    def _introduced_to_spare(self, address: ServerAddress) -> Connection:
        return self._introduced(address, standby=True)

    # The reading thread.

    def _keep_alive(self, connection: Connection) -> None:
        if self._moving and self._spare_ready:
            self._hand_over(connection)
            return
        super()._keep_alive(connection)

    def _lose(self, connection: Connection) -> None:
        self._lost = None if self._worker is None else self._worker.name
        prepared = None if self._standby is None else self._standby.take()
        if prepared is None:
            super()._lose(connection)
            return
        logger.info("%s is lost: %s takes over.", self._lost, prepared.worker.name)
        self._adopt(prepared)
        connection.cut()

    def _hand_over(self, connection: Connection) -> None:
        """Go on with the new worker once every picture of the old one has come."""
        assert self._standby is not None
        with self._sending:
            last, deadline = self._number, time.monotonic() + LAST_PICTURES
            with suppress(ConnectionError):
                while not self._has(last) and (left := deadline - time.monotonic()) > 0:
                    message = connection.receive(left)
                    if message is not None:
                        self._take(connection, message)
            prepared = self._standby.take()
            if prepared is None:
                return
            self._adopt(prepared)
        connection.close()

    def _has(self, number: int) -> bool:
        """Whether that picture, or a newer one, has come."""
        return True

    def _adopt(self, prepared: Prepared) -> None:
        """Have this worker render from now on."""
        with self._changed:
            now = self._described()
            self._serve_from(prepared.worker)
            self._connection, self._moving = prepared.connection, False
            self._packets.forget()
            self.clock = ClockOffset()
            self._heard = time.monotonic()
            opening = self._opening()
            if now is not None and now == prepared.described:
                self._ready, self.wants_keypoints = now.digest, prepared.keypoints
            elif now is not None:
                self._ready = None
                for message in (*opening, {"show": now.digest}):
                    prepared.connection.send(message)
            self._changed.notify_all()

    def _obey(self, connection: Connection, message: dict) -> None:
        if "move" in message:
            worker, _ = _moved(message["move"])
            self._use_spare(worker)
            self._moving = True
        super()._obey(connection, message)


def _moved(told: Any) -> tuple[Worker, Worker | None]:
    """Worker and spare. Raises BadMessage."""
    if not isinstance(told, dict):
        raise BadMessage("move")
    worker = Worker.from_json(told.get("to"))
    if worker is None:
        raise BadMessage("move")
    return worker, Worker.from_json(told.get("spare"))
