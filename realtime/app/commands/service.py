"""`livepuppet service`: render for many people."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.commands.options import engine_options
from livepuppet.realtime.app.commands.run import notify
from livepuppet.realtime.engines import Precision
from livepuppet.realtime.engines.cores import usable_cores

#: What to do with an address.
_INVITATION = "For {key}:\n  livepuppet run --engine remote --server '{address}'"

#: Of the service's secret, which all its machines share.
SECRET_VARIABLE = "LIVEPUPPET_SERVICE_SECRET"

#: Where it listens by default, workers do, and where metrics are read.
PORT, WORKER_PORT, METRICS_PORT = 7472, 7500, 9472

#: Seconds between looks at how many workers are needed.
LOOK_SECONDS = 1.0


@click.command(short_help="Render for many people, on many workers.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="An address of this computer that clients reach, or 0.0.0.0 for all; with TLS. [default: this computer alone]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one."
)
@click.option(
    "--workers",
    type=click.IntRange(0, 4096),
    help="Workers at the start, and at least. [default: one for each core]",
)
@click.option(
    "--most-workers", type=click.IntRange(1, 4096), help="Workers at most. [default: as many as --workers]"
)
@click.option(
    "--worker-port",
    type=click.IntRange(0, 65535),
    default=WORKER_PORT,
    show_default=True,
    help="The first port of workers, which clients reach, too; each takes the next free one.",
)
@click.option(
    "--places",
    type=click.IntRange(1, 1024),
    help="Sessions of one worker. [default: 70 % of what is measured at the start]",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.toml",
    help="Names and limits of those who may come. [default: one key]",
)
@click.option(
    "--store",
    metavar="FILE|redis://...",
    help="Where the directory keeps minutes and places. [default: in memory]",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Start workers on this Ray cluster (auto finds it) instead of as processes of this machine.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=METRICS_PORT,
    show_default=True,
    help="Of /metrics, /healthz, /readyz and /targets, on --metrics-address; workers take free ones.",
)
@click.option(
    "--metrics-address",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Not to be reached from the internet.",
)
@engine_options
def service(
    listen: str | None,
    port: int,
    workers: int | None,
    most_workers: int | None,
    worker_port: int,
    places: int | None,
    keys: Path | None,
    store: str | None,
    ray: str | None,
    metrics_port: int,
    metrics_address: str,
    model: Path | None,
    engine: str | None,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
) -> None:
    """Render for many people, until stopped: a directory that places their sessions, and workers that render them.

    Clients are those of livepuppet serve: run --engine remote with an address that is printed here.
    """
    try:
        from livepuppet.realtime.app.service.directory import Directory
        from livepuppet.realtime.app.service.directory_server import DirectoryServer
        from livepuppet.realtime.app.service.fleet import Fleet, ProcessFleet
        from livepuppet.realtime.app.service.keys import Keys, read_limits
        from livepuppet.realtime.app.service.metrics import MetricsServer
        from livepuppet.realtime.app.service.ray_fleet import RayFleet
        from livepuppet.realtime.app.service.running import WorkerOptions, log_json
        from livepuppet.realtime.app.service.scaling import Scaling
        from livepuppet.realtime.app.service.store import open_store
        from livepuppet.realtime.app.service.tickets import Signer
        from livepuppet.realtime.app.studio.studio import checked_address, reachable
        from livepuppet.realtime.app.studio.tls import certificate
    except ImportError as error:
        raise UserError("The service needs more packages: pip install 'livepuppet[service]'.") from error
    from livepuppet.realtime.app.control import control_token

    secret = os.environ.get(SECRET_VARIABLE) or control_token("service")
    files = fingerprint = None
    address = "127.0.0.1"
    if listen is not None:
        address = checked_address(listen)
        certificate_file, key_file, fingerprint = certificate(address)
        files = certificate_file, key_file
    log_json()
    known = Keys(secret, read_limits(keys))
    directory = Directory(known, open_store(store), Signer(secret))
    server = DirectoryServer(directory, known, address, port, files)
    metrics = MetricsServer(
        server.metrics.registry,
        lambda: server.ready,
        server.refresh,
        metrics_address,
        metrics_port,
        server.targets,
    )
    least = workers if workers is not None else (usable_cores() or 1)
    options = WorkerOptions(
        server.workers_address(reachable(address), fingerprint),
        secret,
        listen=listen,
        port=worker_port,
        places=places,
        model=model,
        engine=engine,
        device=device,
        precision=precision,
        pinned=device in (None, "cpu"),
        metrics_address=metrics_address,
        metrics_port=0,
    )
    fleet: Fleet
    if ray is None:
        fleet = ProcessFleet(options)
    else:
        fleet = RayFleet(options, ray, cards=0.0 if options.pinned else 1.0)
    stopped = threading.Event()
    with suppress(ValueError):
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    scaling = Scaling(least, max(most_workers or least, least))
    try:
        fleet.scale(least)
        for name in known.names:
            invitation = server.address(reachable(address), name, fingerprint)
            notify(_INVITATION.format(address=invitation, key=name or "everybody"))
        while not stopped.wait(LOOK_SECONDS):
            wanted = scaling.wanted(
                len(fleet.names), directory.places, directory.used, directory.refused, time.monotonic()
            )
            if wanted != len(fleet.names):
                fleet.scale(wanted)
    except KeyboardInterrupt:
        raise UserError("stopped.") from None
    finally:
        fleet.close()
        metrics.close()
        server.close()
