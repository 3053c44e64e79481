"""What Prometheus reads, and what tells Kubernetes whether we live. No label names a person, a session or a key."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.studio.access import Wording
from livepuppet.realtime.app.studio.server import Server

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest  # pyright: ignore[reportMissingImports]
    from prometheus_client.exposition import CONTENT_TYPE_LATEST  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise UserError(
        "The service needs the package prometheus_client: pip install 'livepuppet[service]'."
    ) from error

logger = logging.getLogger(__name__)

#: Upper bounds of histograms, in seconds.
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)

WORDING = Wording("metrics server", "none is needed", "choose another port with --metrics-port")


class WorkerMetrics:
    """Of one worker; a `render_session.Watcher`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge("livepuppet_sessions", "Sessions.", ["state"], registry=self.registry)
        self.places = Gauge("livepuppet_session_places", "Places.", ["kind"], registry=self.registry)
        self.ready_seconds = Gauge(
            "livepuppet_worker_ready_seconds", "From the start to the first place.", registry=self.registry
        )
        self._frames = Counter("livepuppet_frames", "Frames.", ["result"], registry=self.registry)
        self._stages = Histogram(
            "livepuppet_stage_seconds",
            "Seconds of a frame's stages.",
            ["stage"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._bytes = Counter("livepuppet_bytes", "Bytes.", ["direction", "kind"], registry=self.registry)

    def drew(self, waited: float, rendered: float, encoded: float, size: int) -> None:
        self._frames.labels("drawn").inc()
        for stage, seconds in (("wait", waited), ("render", rendered), ("encode", encoded)):
            self._stages.labels(stage).observe(seconds)
        self._bytes.labels("down", "picture").inc(size)

    def replaced(self) -> None:
        self._frames.labels("replaced").inc()


class DirectoryMetrics:
    """Of a directory."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge(
            "livepuppet_service_sessions", "Sessions of all workers.", registry=self.registry
        )
        self.places = Gauge("livepuppet_service_places", "Places of all workers.", registry=self.registry)
        self.workers = Gauge("livepuppet_service_workers", "Workers that live.", registry=self.registry)
        self.admissions = Counter(
            "livepuppet_admissions", "Answers to clients.", ["result"], registry=self.registry
        )
        self.recoveries = Counter(
            "livepuppet_recoveries", "Sessions elsewhere.", ["cause"], registry=self.registry
        )


class MetricsServer:
    """Answers /metrics, /healthz and /readyz, to whoever reaches that address: no place for the internet.

    Args:
        registry: of the metrics.
        ready: whether clients may come.
        refresh: called before the metrics are read.
        targets: where those of workers are read, for Prometheus' `http_sd_configs`, at /targets.
        address, port: to listen at; port 0 takes a free one.

    Raises:
        UserError: it cannot listen there.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        refresh: Callable[[], None],
        address: str = "127.0.0.1",
        port: int = 0,
        targets: Callable[[], list[str]] | None = None,
    ):
        async def metrics(_: Request) -> Response:
            refresh()
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

        async def alive(_: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def is_ready(_: Request) -> Response:
            return (
                PlainTextResponse("ready\n") if ready() else PlainTextResponse("not ready\n", status_code=503)
            )

        routes = [Route("/metrics", metrics), Route("/healthz", alive), Route("/readyz", is_ready)]
        if targets is not None:

            async def told(_: Request) -> Response:
                return JSONResponse([{"targets": targets()}])

            routes.append(Route("/targets", told))
        self._server = Server(Starlette(routes=routes), address, port, logger.warning, wording=WORDING)
        self.port = self._server.port

    def close(self) -> None:
        self._server.close()
