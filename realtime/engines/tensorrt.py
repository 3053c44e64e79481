"""The engine that runs weights with TensorRT through torch-tensorrt."""

from __future__ import annotations

import importlib.util
import os

from livepuppet.realtime.engines.seam import Precision
from livepuppet.realtime.errors import UserError

PRECISIONS: tuple[Precision, ...] = ("float32", "float16")


def what_is_missing(precision: Precision = "float16") -> str | None:
    """The sentence that says why TensorRT cannot be used, and how it could; None where it can."""
    if importlib.util.find_spec("torch_tensorrt") is None:
        return (
            "The tensorrt engine is not installed: pip install 'livepuppet[tensorrt]', or use --engine torch."
        )
    return None


class TensorRtEngine:
    """See `Engine`."""

    def __init__(
        self, weights: str | os.PathLike, device: str | None = None, precision: Precision | None = None
    ):
        raise UserError(what_is_missing() or "The tensorrt engine is being written.")
