"""The engine of a camera's machine whose pictures another one draws."""

from __future__ import annotations

import os

import numpy as np

from livepuppet.core.engine import Engine, Features, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
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
    """Looks by itself, and has pictures drawn elsewhere: `Animator` hands poses to `painter` instead of drawing them. Whatever else
    an engine is asked for is done here.

    Args:
        local: looks.
        painter: draws.
    """

    name = REMOTE

    def __init__(self, local: Engine, painter: RemotePainter):
        self._local, self.painter = local, painter
        self.device, self.providers = local.device, local.providers
        self.precision: Precision = local.precision
        self.matrices: Matrices = local.matrices
        self.provider = f"{local.provider}, drawn at {painter.place}"
        self.reason = "as asked for"
        self.model_name, self.size = local.model_name, local.size
        self.num_keypoints, self.keypoint_names = local.num_keypoints, local.keypoint_names

    @property
    def deforms(self) -> bool:
        return self._local.deforms

    def detect(self, frame: np.ndarray) -> Keypoints:
        return self._local.detect(frame)

    def encode(self, avatar: np.ndarray) -> Features:
        return self._local.encode(avatar)

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        return self._local.render(features, avatar_keypoints, keypoints)

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._local.render_deformation(features, avatar_keypoints, keypoints)

    def close(self) -> None:
        """Let go of the other machine."""
        self.painter.close()
