"""The engine of a camera's machine whose pictures another one draws."""

from __future__ import annotations

import os
from typing import Any

from livepuppet.core.engine import Engine, Precision
from livepuppet.core.errors import UserError
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.painter import Address, RemotePainter

#: What `--engine` calls it.
REMOTE = "remote"


def load_remote(
    server: str | None,
    model: str | os.PathLike | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
) -> RemoteEngine:
    """An engine that looks here and draws at `server`.

    Args:
        server: the address that `livepuppet serve` prints.
        model, threads, device, precision: of what looks, as of `load_engine`; the model has to be the server's, too.

    Raises:
        UserError: there is no address, or nobody who draws.
    """
    if not server:
        raise UserError("Say who draws: --server with the address that livepuppet serve prints there.")
    address = Address.of(server)
    local = load_engine(None, model, threads, device, precision, use="detect")
    return RemoteEngine(local, RemotePainter(address, local.model_name))


class RemoteEngine:
    """Looks by itself, and has pictures drawn elsewhere: `Animator` hands poses to `painter` instead of drawing them.

    Args:
        local: looks, and does whatever else an engine is asked for.
        painter: draws.
    """

    name = REMOTE

    def __init__(self, local: Engine, painter: RemotePainter):
        self._local, self.painter = local, painter
        self.provider = f"{local.provider}, drawn at {painter.place}"
        self.reason = "as asked for"

    def close(self) -> None:
        """Let go of the other machine."""
        self.painter.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)
