"""The address of a service: tells clients which worker renders for them, and workers what to do."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.clients import invitation
from livepuppet.realtime.app.render_server import HELLO_SECONDS, SESSION
from livepuppet.realtime.app.requests import same_token
from livepuppet.realtime.app.service.directory import SILENT, Directory, Full, Report
from livepuppet.realtime.app.service.keys import Keys
from livepuppet.realtime.app.service.metrics import DirectoryMetrics
from livepuppet.realtime.app.studio.access import PROTOCOL, TOKEN_PROTOCOL, Access, Wording
from livepuppet.realtime.app.studio.server import Server
from livepuppet.realtime.remote.protocol import PATH, VERSION, BadMessage, parse_json

logger = logging.getLogger(__name__)

#: Of the workers' websocket.
WORKERS_PATH = "/workers"

#: Longest report in bytes: a worker of a card has hundreds of sessions.
LARGEST_REPORT = 1 << 20

#: Connections at the same time, and of one machine: clients stay for a moment, workers for good.
MOST_CONNECTIONS = 4096, 1024

WORDING = Wording(
    "service", "copy the address that livepuppet service prints", "choose another port with --port NUMBER"
)


class DirectoryServer:
    """Answers clients and workers until closed.

    Args:
        directory: places them.
        keys: whose tokens are known.
        address, port: to listen at; port 0 takes a free one.
        certificate: files of certificate and key, for TLS; None only on this computer.

    Attributes:
        port: where it listens.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(
        self,
        directory: Directory,
        keys: Keys,
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
    ):
        self._directory, self._keys = directory, keys
        self.metrics = DirectoryMetrics()
        app = Starlette(
            routes=[WebSocketRoute(PATH, self._place), WebSocketRoute(WORKERS_PATH, self._follow)]
        )
        secure = certificate is not None
        access = Access(app, self._knows, open_to=secure, secure=secure, wording=WORDING)
        self._server = Server(
            access, address, port, self._report, certificate, LARGEST_REPORT, WORDING, MOST_CONNECTIONS
        )
        self.port = self._server.port

    def address(self, host: str, key: str, fingerprint: str | None) -> str:
        """What `--server` takes, for the key of that name."""
        return invitation(host, self.port, self._keys.token(key), fingerprint)

    def workers_address(self, host: str, fingerprint: str | None) -> str:
        """What workers report to."""
        return invitation(host, self.port, self._keys.worker_token, fingerprint)

    @property
    def ready(self) -> bool:
        """Whether somebody could be placed."""
        return self._directory.workers > 0

    def refresh(self) -> None:
        """Bring the metrics up to date."""
        self.metrics.sessions.set(self._directory.used)
        self.metrics.places.set(self._directory.places)
        self.metrics.workers.set(self._directory.workers)

    def targets(self) -> list[str]:
        """Hosts and ports where metrics of workers are read."""
        return self._directory.metrics

    def close(self) -> None:
        self._server.close()

    # The server's thread.

    def _knows(self, token: str) -> bool:
        return same_token(token, self._keys.worker_token) or self._keys.name_of(token) is not None

    def _report(self, what: str) -> None:
        logger.warning("The service refused a client: %s.", what)

    async def _place(self, socket: WebSocket) -> None:
        key = self._keys.name_of(_shown(socket))
        await socket.accept(PROTOCOL)
        with suppress(WebSocketDisconnect, RuntimeError, asyncio.TimeoutError, KeyError):
            if key is not None:
                hello = await asyncio.wait_for(socket.receive_text(), HELLO_SECONDS)
                await socket.send_json(self._answer(key, hello))
            await asyncio.wait_for(socket.close(), 1.0)

    def _answer(self, key: str, text: str) -> dict:
        try:
            hello = parse_json(text)
            session, at, lost = (hello.get(name) for name in ("session", "at", "lost"))
            if hello.get("version") != VERSION:
                raise UserError("Both machines need the same version of livepuppet.")
            if not isinstance(session, str) or not SESSION.fullmatch(session):
                raise BadMessage("session")
            if not all(
                value is None or (isinstance(value, str) and len(value) <= 80) for value in (at, lost)
            ):
                raise BadMessage("worker")
            placement = self._directory.place(key, session, at, lost)
        except Full as full:
            self.metrics.admissions.labels("busy").inc()
            return {"busy": round(full.seconds, 1), "refused": str(full)}
        except UserError as error:
            self.metrics.admissions.labels("refused").inc()
            return {"refused": str(error)}
        except BadMessage as error:
            return {"refused": f"It is not understood: {error}."}
        if lost is not None:
            self.metrics.recoveries.labels("placed").inc()
        elif at is not None:
            self.metrics.recoveries.labels("spare").inc()
        else:
            self.metrics.admissions.labels("placed").inc()
        return placement.told()

    async def _follow(self, socket: WebSocket) -> None:
        """A worker reports until it is gone."""
        if not same_token(_shown(socket), self._keys.worker_token):
            await socket.close()
            return
        await socket.accept(PROTOCOL)
        name = None
        try:
            while True:
                message = await asyncio.wait_for(socket.receive_json(), 4 * SILENT)
                report = Report(**message)
                if name is None:
                    name = report.name
                    logger.info("Worker %s on %s has %d places.", name, report.node, report.places)
                await socket.send_json(asdict(self._directory.report(report)))
        except (WebSocketDisconnect, RuntimeError, asyncio.TimeoutError, KeyError):
            pass
        except (ValueError, TypeError) as error:
            logger.warning(
                "A worker reported what cannot be understood (%s): has it the same version?", error
            )
        finally:
            if name is not None:
                logger.info("Worker %s is gone.", name)
                self._directory.lost(name)


def _shown(socket: WebSocket) -> str:
    offered = [text for text in socket.scope["subprotocols"] if text.startswith(TOKEN_PROTOCOL)]
    return "".join(offered[:1]).removeprefix(TOKEN_PROTOCOL)
