"""A worker in a process of its own: whatever starts it gives it nothing but what is here."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from livepuppet.core.engine import Precision
from livepuppet.core.memory import share_one_heap
from livepuppet.realtime.app.service.capacity import measured_places
from livepuppet.realtime.app.service.metrics import MetricsServer
from livepuppet.realtime.app.service.worker import Worker
from livepuppet.realtime.app.studio.studio import reachable
from livepuppet.realtime.app.studio.tls import certificate
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.connection import ServerAddress

logger = logging.getLogger(__name__)

#: Workers of one machine whose ports follow each other.
MOST_WORKERS = 512


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is started with; nothing of it is a session's.

    Attributes:
        directory: where it reports to, an address as `DirectoryServer.workers_address` makes it.
        secret: of the service.
        node: the machine that it would be lost with; None: this computer's name.
        listen: an address of the machine that clients reach; None: this computer alone, without TLS.
        port: the first that is tried; 0 takes a free one.
        places: sessions; None: as many as it is measured to render in time, times `GIVEN_AWAY`.
        model, engine, device, precision: see `load_engine`.
        pinned: it is held to one core, which no other worker of this computer takes.
        metrics_port: of 127.0.0.1, or of `metrics_address`; 0 takes a free one, None has none.
    """

    directory: str
    secret: str
    node: str | None = None
    listen: str | None = None
    port: int = 0
    places: int | None = None
    model: Path | None = None
    engine: str | None = None
    device: str | None = None
    precision: Precision | None = None
    pinned: bool = True
    metrics_address: str = "127.0.0.1"
    metrics_port: int | None = None


class RunningWorker:
    """A worker of this process, and its metrics.

    Args:
        name: never that of another worker.
        options: what it is started with.

    Raises:
        UserError: it cannot be started.
    """

    def __init__(self, name: str, options: WorkerOptions):
        began = time.perf_counter()
        self._core = claim_core() if options.pinned else None
        if options.pinned:
            # Heaps of their own would cost 4 MB a session.
            share_one_heap()
        engine = load_engine(
            options.engine, options.model, 1 if options.pinned else None, options.device, options.precision
        )
        places = options.places or measured_places(engine)
        address, files, fingerprint = "127.0.0.1", None, None
        if options.listen is not None:
            address = options.listen
            certificate_file, key, fingerprint = certificate(address)
            files = certificate_file, key
        self.worker = Worker(
            engine,
            options.secret,
            name,
            options.node or socket.gethostname(),
            ServerAddress.parse(options.directory),
            reachable(address),
            address,
            first_free(address, options.port),
            files,
            fingerprint,
            places,
        )
        self.metrics: MetricsServer | None = None
        if options.metrics_port is not None:
            self.metrics = MetricsServer(
                self.worker.metrics.registry,
                lambda: self.worker.ready,
                self.worker.refresh,
                options.metrics_address,
                options.metrics_port,
            )
            host = reachable(options.metrics_address)
            self.worker.metrics_place = f"{host}:{self.metrics.port}"
        self.worker.metrics.ready_seconds.set(time.perf_counter() - began)

    def close(self) -> None:
        """End every session."""
        self.worker.close()
        if self.metrics is not None:
            self.metrics.close()


def run_worker(name: str, options: WorkerOptions, stopped: threading.Event) -> None:
    """Run a worker until told to stop; its sessions then go elsewhere first.

    Raises:
        UserError: it cannot be started.
    """
    running = RunningWorker(name, options)
    try:
        stopped.wait()
        running.worker.drain()
    finally:
        running.close()


def first_free(address: str, port: int) -> int:
    """The first free port from `port` on, among so many as a machine may have workers."""
    for tried in range(port, min(port + MOST_WORKERS, 65536) if port else 0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, tried))
            return tried
    return 0


def claim_core() -> IO[bytes] | None:
    """Hold this process to a core that no other worker of this computer has; the file that says so has to stay open. None where
    all of them are taken, or the system cannot do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"livepuppet-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for core in sorted(os.sched_getaffinity(0)):
        held = (folder / str(core)).open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.close()
            continue
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {core})
        return held
    logger.warning("Every core has a worker: this one shares them.")
    return None


class JsonLines(logging.Formatter):
    """A line of JSON for each message; no message holds a picture, a name or a token."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "module": record.name.removeprefix("livepuppet."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_json() -> None:
    """Log to standard error, as `JsonLines`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger("livepuppet")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False
