"""Shared by metrics: frames as batches, evaluation mode, optical flow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import Tensor


def to_batch(frames: np.ndarray) -> Tensor:
    """uint8 RGB (B, S, S, 3) to float (B, 3, S, S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def batches(frames: np.ndarray, most: int = 16) -> Iterator[Tensor]:
    for start in range(0, len(frames), most):
        yield to_batch(frames[start : start + most])


def device_of(model) -> torch.device:
    """Where a model computes; the CPU for one without parameters."""
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards each module is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def gray(frames: np.ndarray) -> list[np.ndarray]:
    """uint8 RGB (T, S, S, 3) to T images uint8 (S, S)."""
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


def flow_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where each pixel of `one` uint8 (S, S) went in `other`, by dense inverse search: float32 (S,
    S, 2) in pixels.
    """
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(one, other, None)  # pyright: ignore[reportCallIssue, reportArgumentType]


def optical_flow(frames: np.ndarray) -> np.ndarray:
    """Dense inverse search flow between neighbouring frames: float (T - 1, S, S, 2) in pixels."""
    images = gray(frames)
    return np.stack([flow_between(*pair) for pair in itertools.pairwise(images)])
