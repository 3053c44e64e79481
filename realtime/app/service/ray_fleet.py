"""Workers as Ray's actors, over the nodes of a Ray cluster. Ray starts, places and heals them; pictures never go through it."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from dataclasses import replace
from typing import Any

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.service.fleet import DRAINED_SECONDS
from livepuppet.realtime.app.service.running import RunningWorker, WorkerOptions

logger = logging.getLogger(__name__)

#: For `ray start --head`: a dead node is noticed within two seconds; the defaults take sixteen.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 2,
}

#: The namespace of the actors.
NAMESPACE = "livepuppet"


class WorkerActor:
    """A worker within an actor's process. Its constructor takes no session: one that is started again begins empty."""

    def __init__(self, name: str, options: WorkerOptions):
        import ray  # pyright: ignore[reportMissingImports]

        node = ray.get_runtime_context().get_node_id()
        self._running = RunningWorker(name, replace(options, node=options.node or node))

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def node(self) -> str:
        """Ray's name of its node."""
        import ray  # pyright: ignore[reportMissingImports]

        return ray.get_runtime_context().get_node_id()

    def drain(self) -> None:
        """Have the sessions go elsewhere, and end."""
        self._running.worker.drain()
        self._running.close()


class RayFleet:
    """Workers as named actors of a Ray cluster.

    Args:
        options: of every worker.
        address: of the cluster; None: a cluster of this machine alone.
        cores, cards: of a worker.
        prefix: of the actors' names.

    Raises:
        UserError: Ray is missing, or there is no cluster.
    """

    def __init__(
        self,
        options: WorkerOptions,
        address: str | None = None,
        cores: float = 1.0,
        cards: float = 0.0,
        prefix: str = "worker",
    ):
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                "Several machines need the package ray: pip install 'livepuppet[service]'."
            ) from error
        self._ray: Any = ray
        self._options, self._cores, self._cards, self._prefix = options, cores, cards, prefix
        self._numbers = itertools.count(1)
        self._actors: dict[str, Any] = {}
        try:
            if not ray.is_initialized():
                here = {"_system_config": dict(HEALTH), "include_dashboard": False} if address is None else {}
                ray.init(address, namespace=NAMESPACE, log_to_driver=False, **here)
        except (ConnectionError, ValueError) as error:
            raise UserError(
                f"No Ray cluster answers at {address}: start one with ray start --head."
            ) from error

    @property
    def names(self) -> tuple[str, ...]:
        """Of workers that shall be."""
        return tuple(self._actors)

    def actor(self, name: str) -> Any:
        """Its handle."""
        return self._actors[name]

    def scale(self, count: int) -> None:
        """Start or drain workers until there are so many. One for which the cluster has no room waits until it has."""
        for _ in range(count - len(self._actors)):
            name = f"{self._prefix}-{next(self._numbers)}"
            made = self._ray.remote(
                num_cpus=self._cores,
                num_gpus=self._cards,
                max_restarts=-1,
                # Sessions outlive the program that started their workers, which finds them again by name.
                lifetime="detached",
                scheduling_strategy="SPREAD",
                name=name,
                get_if_exists=True,
                namespace=NAMESPACE,
                # While it drains it is asked for other things, too.
                max_concurrency=4,
            )(WorkerActor)
            self._actors[name] = made.remote(name, self._options)
        for name in list(self._actors)[count:]:
            actor = self._actors.pop(name)
            threading.Thread(target=self._drain, args=(actor,), name="draining", daemon=True).start()

    def _drain(self, actor: Any) -> None:
        try:
            self._ray.get(actor.drain.remote(), timeout=DRAINED_SECONDS)
        except Exception as error:
            logger.warning("A worker did not drain (%s): it is ended.", type(error).__name__)
        self._ray.kill(actor)

    def close(self) -> None:
        """End all of them; their sessions go nowhere."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
