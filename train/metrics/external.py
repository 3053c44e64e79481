"""Detectors and embeddings that the user supplies: the papers' AKD, MKR, AED and FID are measured
with other people's networks, which are not ours to ship.

Two forms:

* `FILE.onnx`, run by onnxruntime. One input: RGB in [0, 1], float32 or float16, (1 or N, 3, H, W)
  of any fixed H and W, to which images are resized; where H and W are free they stay as they are.
  Landmarks: a first output (N, L, 2), (x, y) in pixels of that input or in [0, 1] of it, NaN where
  there is none, and if there is a second output, visibility (N, L), 0.5 and more being visible.
  Embeddings and activations: a first output (N, D) (axes of length 1 behind D are dropped).
* `MODULE:FUNCTION`, the user's own Python from the working folder: `function(images)` with uint8
  RGB (N, H, W, 3) returns landmarks (N, L, 2) in pixels of the images, NaN where there is none, or
  a pair of these and visibility (N, L); or embeddings (N, D).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.errors import LivePuppetError

#: Landmarks whose values all lie within this are taken as shares of the image, others as pixels.
SHARES = (-0.5, 1.5)

#: Confidence from which on the default model's detector counts as having found a landmark.
LITE_CONFIDENCE = 0.25

#: uint8 RGB (N, H, W, 3) -> points (N, L, 2) in pixels of the images and visible (N, L) bool.
FindLandmarks = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

#: uint8 RGB (N, H, W, 3) -> float (N, D).
Embed = Callable[[np.ndarray], np.ndarray]


class ExternalError(LivePuppetError, ValueError):
    """A detector or an embedding that cannot be used; the message is one sentence."""


def landmark_finder(given: str) -> FindLandmarks:
    """The detector called `given`: "lite" (the default model's, for faces), FILE.onnx or
    MODULE:FUNCTION.

    Raises:
        ExternalError: it cannot be loaded; later, that what it returns has another shape than is
            documented above.
    """
    if given == "lite":
        return _lite()
    if _is_onnx(given):
        network = _Onnx(given)

        def find(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            outputs, (width, height) = network(images)
            points, visible = _landmarks(outputs[: 2 if len(outputs) > 1 else 1], len(images), given)
            known = points[np.isfinite(points)]
            shares = known.size and SHARES[0] <= known.min() and known.max() <= SHARES[1]
            # Pixel p of w is at (p + 0.5) / w of the way, whatever w.
            scale = np.array([images.shape[2], images.shape[1]]) / (
                1 if shares else np.array([width, height])
            )
            offset = 0.0 if shares else 0.5
            return (points + offset) * scale - 0.5, visible

        return find
    function = _function(given)

    def call(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answer = _called(function, given, images)
        return _landmarks(answer if isinstance(answer, tuple) else (answer,), len(images), given)

    return call


def embedding(given: str) -> Embed:
    """The embedding or activation called `given`: FILE.onnx or MODULE:FUNCTION. Raises as
    `landmark_finder`.
    """
    if _is_onnx(given):
        network = _Onnx(given)
        return lambda images: _vectors(network(images)[0][0], len(images), given)
    function = _function(given)
    return lambda images: _vectors(_called(function, given, images), len(images), given)


def _landmarks(parts: tuple | list, count: int, given: str) -> tuple[np.ndarray, np.ndarray]:
    points = np.asarray(parts[0], np.float64)
    if points.ndim != 3 or points.shape[0] != count or points.shape[2] != 2:
        raise ExternalError(
            f"{given} returned landmarks of shape {points.shape} for {count} images; they have to be ({count}, L, 2)."
        )
    visible = np.isfinite(points).all(-1)
    if len(parts) > 1:
        seen = np.asarray(parts[1], np.float64)
        if seen.shape != points.shape[:2]:
            raise ExternalError(
                f"{given} returned visibility of shape {seen.shape} beside landmarks of shape {points.shape}; it has to be "
                f"{points.shape[:2]}."
            )
        visible &= seen >= 0.5
    return points, visible  # pyright: ignore[reportReturnType]


def _vectors(answer, count: int, given: str) -> np.ndarray:
    vectors = np.asarray(answer, np.float64)
    if vectors.ndim > 2 and all(length == 1 for length in vectors.shape[2:]):
        vectors = vectors.reshape(vectors.shape[:2])
    if vectors.ndim != 2 or len(vectors) != count:
        raise ExternalError(
            f"{given} returned an array of shape {vectors.shape} for {count} images; it has to be ({count}, D)."
        )
    if not np.isfinite(vectors).all():
        raise ExternalError(f"{given} returned numbers that are not finite; look for the cause in it.")
    return vectors


def _is_onnx(given: str) -> bool:
    return given.lower().endswith(".onnx")


class _Onnx:
    """A network in a file: images to its outputs, and the (width, height) that it saw."""

    def __init__(self, path: str):
        import onnxruntime

        self.path = path
        if not Path(path).is_file():
            raise ExternalError(f"There is no file {path}: give an ONNX file or MODULE:FUNCTION.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common, public base
            raise ExternalError(
                f"{path} is not a network that onnxruntime can run: export it again."
            ) from error
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if (
            len(inputs) != 1
            or len(shape) != 4
            or (shape[1] not in (3, None) and not isinstance(shape[1], str))
        ):
            raise ExternalError(
                f"{path} has to take one input (N, 3, H, W), RGB in [0, 1]; it takes {shape}."
            )
        if inputs[0].type not in ("tensor(float)", "tensor(float16)"):
            raise ExternalError(
                f"{path} takes {inputs[0].type}; it has to take float32 or float16 in [0, 1]."
            )
        self.name, self.type = inputs[0].name, np.float16 if "16" in inputs[0].type else np.float32
        self.batch, _, self.height, self.width = (
            length if isinstance(length, int) and length > 0 else None for length in shape
        )

    def __call__(self, images: np.ndarray) -> tuple[list[np.ndarray], tuple[int, int]]:
        height, width = self.height or images.shape[1], self.width or images.shape[2]
        if images.shape[1:3] != (height, width):
            how = cv2.INTER_AREA if images.shape[1] > height else cv2.INTER_LINEAR
            images = np.stack([cv2.resize(one, (width, height), interpolation=how) for one in images])
        tensor = (images.transpose(0, 3, 1, 2) / np.float32(255)).astype(self.type)
        size, parts = self.batch or len(tensor), []
        for start in range(0, len(tensor), size):
            part = tensor[start : start + size]
            short = size - len(part)
            part = np.concatenate([part, part[-1:].repeat(short, 0)]) if short else part
            try:
                outputs = self.session.run(None, {self.name: np.ascontiguousarray(part)})
            except Exception as error:
                raise ExternalError(
                    f"{self.path} cannot be run on images of {width} x {height}: export it with the size that it needs."
                ) from error
            parts.append([np.asarray(output)[: size - short] for output in outputs])
        return [np.concatenate(output) for output in zip(*parts, strict=True)], (width, height)


def _function(given: str) -> Callable:
    module, _, name = given.partition(":")
    if not module or not name:
        raise ExternalError(f"'{given}' is neither FILE.onnx nor MODULE:FUNCTION: give one of them.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ExternalError(f"The module {module} of '{given}' cannot be imported ({error}).") from error
    except AttributeError as error:
        raise ExternalError(f"The module {module} has no function '{name}'.") from error


def _called(function: Callable, given: str, images: np.ndarray):
    try:
        return function(images)
    except Exception as error:
        raise ExternalError(
            f"{given} failed on {len(images)} images: {type(error).__name__}: {error}."
        ) from error


def _lite() -> FindLandmarks:
    """The detector of the default model that comes with the package: 16 landmarks of a face
    (`model.lite.LANDMARKS`).
    """
    import torch

    from livepuppet.train.metrics.reconstruct import to_tensor

    model = _lite_model()
    size = model.preset.size

    def find(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            frames = to_tensor(images, torch.zeros(()))
            if frames.shape[-1] != size:
                frames = torch.nn.functional.interpolate(
                    frames, (size, size), mode="bilinear", antialias=True
                )
            points, _, confidence = model.detect_with_confidence(frames)
        # [-1, 1] spans the outermost centres of the resized image's pixels.
        pixels = (points.numpy().astype(np.float64) + 1) * (size - 1) / 2
        scale = np.array([images.shape[2], images.shape[1]]) / size
        return (pixels + 0.5) * scale - 0.5, confidence.numpy() >= LITE_CONFIDENCE

    return find


@functools.cache
def _lite_model():
    from livepuppet.model import checkpoint

    # A folder of files, found without importing the package that holds it.
    found = importlib.util.find_spec("livepuppet.realtime")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / "data" / "lite-256" / "lite-256.safetensors"
        if path.is_file():
            return checkpoint.load(path)
    raise ExternalError("The default model's weights are not in this installation: install livepuppet again.")
