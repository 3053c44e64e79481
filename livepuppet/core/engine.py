"""The seam: three calls that run a model, whatever runs it."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices

#: What the network computes in. Positions (grids, keypoints, heat-maps' softmax) stay float32 in
#: all of them.
Precision = Literal["float32", "float16", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8")

#: Every engine, and what it runs: a bundle (folder) or weights (.safetensors).
ENGINES = {"onnx": "bundle", "openvino": "bundle", "torch": "weights", "tensorrt": "weights"}

#: The three calls, in the order in which they are first made.
STAGES = ("detect", "encode", "render")

#: What `encode` returns: known to the engine that made it, and to nobody else.
Features = Any


class BrokenEngine(UserError):
    """An engine that is here and should run, but raises or draws something else. The message is one
    sentence for people.
    """


class Engine(Protocol):
    """Runs one model. Belongs to one thread at a time.

    Attributes:
        name: `onnx`, `openvino`, `torch` or `tensorrt`.
        device: `cpu`, `cuda`, `gpu`, ...; what was asked for, or chosen.
        precision: what the networks compute in, see `Precision`.
        provider: what really computes, as its runtime calls it; one line for people.
        providers: the same for each of `STAGES`.
        model_name: the preset's name.
        size: S, side of the square pictures in pixels.
        num_keypoints: K.
        keypoint_names: K names where keypoints are landmarks, else empty.
        matrices: what `Keypoints.jacobians` holds: "jacobian", or "covariance" for a Monkey-Net.
        reason: why this engine runs and no other, in a few words for people; empty where
            `load_engine` did not choose.
    """

    name: str
    device: str
    precision: Precision
    provider: str
    providers: dict[str, str]
    model_name: str
    size: int
    num_keypoints: int
    keypoint_names: tuple[str, ...]
    matrices: Matrices
    reason: str

    @property
    def deforms(self) -> bool:
        """Whether `render_deformation` can be called; bundles of an older livepuppet do not tell."""
        ...

    def detect(self, frame: np.ndarray) -> Keypoints:
        """Keypoints of a picture, RGB uint8 (S, S, 3). ValueError for any other shape or type.

        Their mean confidence tells a face (lite-256: 0.6 to 0.85, in the dark 0.4) from none
        (below 0.4, mostly 0.2).
        """
        ...

    def encode(self, avatar: np.ndarray) -> Features:
        """Everything that depends on the avatar alone, RGB uint8 (S, S, 3). ValueError for any
        other shape or type.
        """
        ...

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """The avatar of `features`, which has `avatar_keypoints`, moved to `keypoints`: RGB uint8
        (S, S, 3).
        """
        ...

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `render` returns, and where in the avatar each place of it came from.

        Returns:
            RGB uint8 (S, S, 3); float32 (h, w, 2), a sampling grid at the model's own resolution:
            (x, y) in the avatar's square, -1 and 1 being the centres of the outermost pixels, which
            it may leave.

        Raises:
            UserError: the bundle is of an older livepuppet, whose graphs did not tell.
        """
        ...


def first_line(error: BaseException) -> str:
    """What went wrong, without the rest of a runtime's message and without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def checked_image(picture: np.ndarray, size: int) -> np.ndarray:
    """The picture, contiguous in memory. ValueError unless it is RGB uint8 (size, size, 3)."""
    if not isinstance(picture, np.ndarray) or picture.shape != (size, size, 3) or picture.dtype != np.uint8:
        found = (
            f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        )
        raise ValueError(f"a picture has to be RGB uint8 ({size}, {size}, 3), not {found}")
    return np.ascontiguousarray(picture)


def checked_numbers(keypoints: Keypoints, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points float32 (K, 2) and matrices float32 (K, 2, 2), contiguous. ValueError unless K is
    `count`.
    """
    points = np.ascontiguousarray(keypoints.points, dtype=np.float32)
    jacobians = np.ascontiguousarray(keypoints.jacobians, dtype=np.float32)
    if points.shape != (count, 2) or jacobians.shape != (count, 2, 2):
        raise ValueError(
            f"this model has {count} keypoints, so points ({count}, 2) and matrices ({count}, 2, 2), "
            f"not {points.shape} and {jacobians.shape}"
        )
    return points, jacobians
