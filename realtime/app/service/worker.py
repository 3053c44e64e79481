"""One worker of a service: a render server whose clients show tickets, and which reports to the directory."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from livepuppet.core.engine import Engine
from livepuppet.core.errors import UserError
from livepuppet.core.threads import start_thread
from livepuppet.realtime.app.clients import ClientConnection
from livepuppet.realtime.app.render_server import Place, RenderServer
from livepuppet.realtime.app.render_session import RenderSession
from livepuppet.realtime.app.service.directory import REPORT_SECONDS, Report
from livepuppet.realtime.app.service.directory_server import WORKERS_PATH
from livepuppet.realtime.app.service.metrics import WorkerMetrics
from livepuppet.realtime.app.service.tickets import BadTicket, Signer, Ticket
from livepuppet.realtime.remote.connection import Connection, ServerAddress
from livepuppet.realtime.remote.protocol import Canvas

logger = logging.getLogger(__name__)

#: Share of what a worker could render that is given away as places: the rest is for those who take over from another one.
GIVEN_AWAY = 0.7

#: Standbys for every place, and sessions whose avatars are counted.
STANDBYS, REMEMBERED = 4, 4096

#: Seconds in which the sessions of a worker that drains have to be gone, and the first pause after a directory was not reached.
DRAIN_SECONDS, RETRY_SECONDS = 30.0, 0.2


@dataclass
class WorkerPlace(Place):
    """Attributes: what its client may do; whether another worker renders for it."""

    ticket: Ticket | None = None
    standby: bool = False


class Worker(RenderServer):
    """Renders for clients with tickets, and reports to the directory until closed.

    Args:
        engine: loaded; renders what rigs do not.
        secret: of the service.
        name: of this worker, never that of another one.
        node: the machine that it would be lost with.
        directory: where it reports to.
        host: by which clients find this machine.
        address, port, certificate, places: see `RenderServer`.
        fingerprint: of the certificate.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(
        self,
        engine: Engine,
        secret: str,
        name: str,
        node: str,
        directory: ServerAddress,
        host: str = "127.0.0.1",
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        fingerprint: str | None = None,
        places: int = 4,
    ):
        self.metrics = WorkerMetrics()
        self._signer = Signer(secret)
        self._name, self._node, self._host, self._fingerprint = name, node, host, fingerprint
        self._directory = directory
        self.draining = False
        #: Host and port where the metrics are read.
        self.metrics_place: str | None = None
        #: Hashes of what each session has brought, however often it came.
        self._brought: OrderedDict[str, set[bytes]] = OrderedDict()
        self._stop = threading.Event()
        super().__init__(engine, self._signer.knows, address, port, certificate, places, self.metrics)
        self._thread = start_thread(self._report_on, "reports", self._stop)

    @property
    def ready(self) -> bool:
        """Whether somebody may come."""
        return not self.draining

    def refresh(self) -> None:
        """Bring the metrics up to date."""
        active = len(self._active())
        self.metrics.sessions.labels("active").set(active)
        self.metrics.sessions.labels("standby").set(len(self._places) - active)
        self.metrics.places.labels("used").set(active)
        self.metrics.places.labels("free").set(max(self._most_places - active, 0))

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take nobody any more, have everybody go elsewhere, and wait until they have."""
        self.draining = True
        deadline = time.monotonic() + seconds
        while self._active() and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self) -> None:
        """Stop listening and end every session."""
        self._stop.set()
        super().close()
        self._thread.join(3)

    # The server's thread.

    def _active(self) -> dict[tuple[str, str], WorkerPlace]:
        places = list(self._places.items())
        return {key: place for key, place in places if isinstance(place, WorkerPlace) and _renders(place)}

    def _find_place(self, token: str, session: str, hello: dict) -> Place:
        try:
            ticket = self._signer.read(token)
        except BadTicket as error:
            raise UserError(str(error)) from error
        if ticket.session != session:
            raise UserError("This ticket is another session's.")
        key, standby = (ticket.key, session), hello.get("standby") is True
        place = self._places.get(key)
        if isinstance(place, WorkerPlace):
            place.ticket, place.standby = ticket, standby
            return place
        if self.draining:
            raise UserError("This worker takes nobody any more.")
        if not standby:
            self._admit()
        self._make_room(len(self._places), STANDBYS * self._most_places + self._most)
        return WorkerPlace(key, ticket=ticket, standby=standby)

    @property
    def _most(self) -> int:
        """Sessions with those that take over."""
        return math.ceil(self._most_places / GIVEN_AWAY)

    def _admit(self) -> None:
        if len(self._active()) >= self._most:
            raise UserError("All places of this worker are taken.")

    def _frame_comes(self, place: Place) -> None:
        assert isinstance(place, WorkerPlace)
        if place.standby:
            self._admit()
            place.standby = False
            if isinstance(place.session, RenderSession):
                place.session.guest = True
            logger.info("A session came from another worker.")

    def _avatar_comes(self, place: Place, message: bytes) -> None:
        assert isinstance(place, WorkerPlace) and place.ticket is not None
        brought = self._brought.setdefault(place.key[1], set())
        while len(self._brought) > REMEMBERED:
            self._brought.popitem(last=False)
        brought.add(hashlib.sha256(message).digest())
        if len(brought) > place.ticket.avatars:
            raise UserError(f"A session may bring {place.ticket.avatars} avatars.")

    async def _use_canvas(self, canvas: Canvas, connection: ClientConnection, place: Place) -> None:
        assert isinstance(place, WorkerPlace) and place.ticket is not None
        if canvas.width * canvas.height > place.ticket.pixels:
            raise UserError(
                f"This key's pictures may have {place.ticket.pixels:,} pixels: choose a smaller --size."
            )
        await super()._use_canvas(canvas, connection, place)

    # The reporting thread.

    def _described(self) -> Report:
        active = self._active()
        return Report(
            self._name,
            self._node,
            self._host,
            self.port,
            self._fingerprint,
            self._most_places,
            {session: alias for alias, session in active},
            len(self._places) - len(active),
            self.draining,
            self.metrics_place,
            [session for (_, session), place in active.items() if _is_guest(place)],
        )

    def _report_on(self) -> None:
        pause = RETRY_SECONDS
        while not self._stop.is_set():
            try:
                connection = Connection(self._directory, WORKERS_PATH, "livepuppet service")
            except UserError as error:
                logger.warning("The directory is not reached (%s); sessions go on.", error)
                self._stop.wait(pause)
                pause = min(2 * pause, 5.0)
                continue
            pause = RETRY_SECONDS
            try:
                self._report_to(connection)
            except (ConnectionError, ValueError, KeyError, TypeError) as error:
                logger.warning("The directory does not answer (%s); sessions go on.", error)
            connection.close()

    def _obey_orders(self, orders: dict[str, Any]) -> None:
        for key, place in self._active().items():
            connection = place.connection
            if connection is None:
                continue
            if key[1] in orders["end"]:
                connection.end_from_elsewhere({"error": orders["end"][key[1]]})
            elif key[1] in orders["move"]:
                connection.send_from_elsewhere({"move": orders["move"][key[1]]})
            elif key[1] in orders["settled"] and isinstance(place.session, RenderSession):
                place.session.guest = False

    def _report_to(self, connection: Connection) -> None:
        while not self._stop.is_set():
            connection.send(asdict(self._described()))
            message = connection.receive(4 * REPORT_SECONDS)
            if not isinstance(message, str):
                raise ConnectionError("silence")
            orders = json.loads(message)
            self._obey_orders(orders)
            # A worker that drains is in a hurry.
            self._stop.wait(REPORT_SECONDS / 5 if self.draining else REPORT_SECONDS)


def _is_guest(place: WorkerPlace) -> bool:
    return isinstance(place.session, RenderSession) and place.session.guest


def _renders(place: WorkerPlace) -> bool:
    return not place.standby and place.connection is not None
