"""The engine of a camera's machine whose pictures another one draws."""

from __future__ import annotations

from typing import Any

from livepuppet.core.engine import Engine
from livepuppet.realtime.remote.painter import RemotePainter


class RemoteEngine:
    """Looks by itself, and has pictures drawn elsewhere: `Animator` hands poses to `painter` instead of drawing them.

    Args:
        local: looks, and does whatever else an engine is asked for.
        painter: draws.
    """

    name = "remote"

    def __init__(self, local: Engine, painter: RemotePainter):
        self._local, self.painter = local, painter
        self.provider = f"drawn by another machine, seen by {local.provider}"
        self.reason = "as asked for"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)
