"""The engine of the camera's machine whose pictures another machine renders."""

from __future__ import annotations

import os

import numpy as np

from livepuppet.core.engine import Engine, Features, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.call import CallSender
from livepuppet.realtime.remote.connection import ServerAddress
from livepuppet.realtime.remote.renderer import RemoteRenderer

#: Its name in `--engine`.
REMOTE = "remote"


def load_remote(
    server: str | None,
    model: str | os.PathLike | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
) -> RemoteEngine:
    """An engine that detects here and renders at `server`.

    Args:
        server: the address that `livepuppet serve` prints.
        model, threads, device, precision: of what detects, see `load_engine`; the server needs the same model.

    Raises:
        UserError: there is no address, or nobody answers there.
    """
    address = server_address(server)
    local = load_engine(None, model, threads, device, precision, use="detect")
    return RemoteEngine(local, RemoteRenderer(address, local.model_name))


def server_address(server: str | None) -> ServerAddress:
    """The address that was given. Raises UserError."""
    if not server:
        raise UserError(
            "Say which machine renders: give --server the address that livepuppet serve prints there."
        )
    return ServerAddress.parse(server)


class RemoteEngine:
    """Detects by itself. `Animator` gives poses to `renderer` instead of calling `render`, which, too, runs here.

    Args:
        local: detects.
        renderer: renders, or sends to somebody who does.
    """

    name = REMOTE

    def __init__(self, local: Engine, renderer: RemoteRenderer | CallSender):
        self.local, self.renderer = local, renderer
        self.device, self.providers = local.device, local.providers
        self.precision: Precision = local.precision
        self.matrices: Matrices = local.matrices
        self.provider = f"{local.provider}, rendered at {renderer.place}"
        self.reason = "as asked for"
        self.model_name, self.size = local.model_name, local.size
        self.num_keypoints, self.keypoint_names = local.num_keypoints, local.keypoint_names

    @property
    def deforms(self) -> bool:
        return self.local.deforms

    def detect(self, frame: np.ndarray) -> Keypoints:
        return self.local.detect(frame)

    def encode(self, avatar: np.ndarray) -> Features:
        return self.local.encode(avatar)

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        return self.local.render(features, avatar_keypoints, keypoints)

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.local.render_deformation(features, avatar_keypoints, keypoints)

    def close(self) -> None:
        """End the session at the server."""
        self.renderer.close()
