"""The engine that runs weights with PyTorch, on a processor or a graphics card."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

from livepuppet.realtime.engines.seam import STAGES, Features, Precision, checked_numbers, checked_picture
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.matrices import Matrices

#: Devices and precisions that PyTorch is offered for.
CHOICES: tuple[tuple[str, Precision], ...] = (
    ("cpu", "float32"),
    ("cpu", "bfloat16"),
    ("cuda", "float32"),
    ("cuda", "float16"),
    ("cuda", "bfloat16"),
    ("mps", "float32"),
)


def what_is_missing(device: str, precision: Precision) -> str | None:
    """The sentence that says why PyTorch cannot compute so, and how it could; None where it can."""
    if importlib.util.find_spec("torch") is None:
        return "The torch engine needs PyTorch: pip install 'livepuppet[train]', or use --engine onnx."
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "This PyTorch finds no CUDA card: install the CUDA build of PyTorch and the card's driver, or use --device cpu."
    if device == "mps" and not torch.backends.mps.is_available():
        return "This PyTorch finds no Apple graphics (mps): use --device cpu."
    return None


class TorchEngine:
    """Runs weights with PyTorch, on a GPU where there is one.

    Args:
        weights: file that `livepuppet train` or `livepuppet import` wrote.
        device: `cpu`, `cuda`, ...; by default `cuda` where PyTorch can use it.
        threads: of the CPU, for the whole process; PyTorch's own choice by default.

    Raises:
        UserError: PyTorch is missing, the device is, or the file is not such weights.
    """

    name = "torch"
    deforms = True

    def __init__(
        self,
        weights: str | os.PathLike,
        device: str | None = None,
        threads: int | None = None,
        precision: Precision | None = None,
    ):
        try:
            import torch

            from livepuppet.model.checkpoint import CheckpointError, load
        except ModuleNotFoundError as error:
            raise UserError(
                f"The torch engine needs the package '{error.name}': install it with pip install 'livepuppet[train]', "
                "or use --engine onnx."
            ) from error
        self._torch = torch
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self._model = load(weights).to(self._device)
        except CheckpointError as error:
            raise UserError(str(error)) from error
        except (
            RuntimeError,
            AssertionError,
        ) as error:  # what torch says of devices that it does not know or have
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"PyTorch cannot use the device '{device}': {reason}; use --device cpu."
            ) from error
        preset = self._model.preset
        self.model_name: str = preset.name
        self.size: int = preset.size
        self.num_keypoints: int = preset.num_keypoints
        self.keypoint_names: tuple[str, ...] = tuple(preset.keypoint_names)
        self.matrices: Matrices = preset.matrices
        self.device = self._device.type
        self.precision: Precision = precision or "float32"
        self.provider: str = f"PyTorch {self._device}"
        self.providers = dict.fromkeys(STAGES, self.provider)

    def detect(self, frame: np.ndarray) -> Keypoints:
        """See `Engine.detect`."""
        with self._torch.inference_mode():
            found = self._model.detect_with_confidence(self._to_model(frame))
        points, jacobians, confidence = (value[0].float().cpu().numpy() for value in found)
        return Keypoints(points, jacobians, confidence)

    def encode(self, avatar: np.ndarray) -> Features:
        """See `Engine.encode`."""
        with self._torch.inference_mode():
            return self._model.encode(self._to_model(avatar))

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """See `Engine.render`."""
        return self.render_deformation(features, avatar_keypoints, keypoints)[0]

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.render_deformation`."""
        numbers = checked_numbers(avatar_keypoints, self.num_keypoints) + checked_numbers(
            keypoints, self.num_keypoints
        )
        with self._torch.inference_mode():
            batch = [self._torch.from_numpy(array)[None].to(self._device) for array in numbers]
            drawn = self._model.render(features, *batch)
            picture = drawn["prediction"][0].permute(1, 2, 0) * 255
            picture = picture.round().clamp(0, 255).to(self._torch.uint8)
            return picture.cpu().numpy(), drawn["deformation"][0].float().cpu().numpy()

    def _to_model(self, picture: np.ndarray):
        tensor = self._torch.from_numpy(checked_picture(picture, self.size)).to(self._device)
        return tensor.permute(2, 0, 1)[None].float() / 255
