"""Does a bundle draw the same pixels as the PyTorch model it came from?

Stricter than the gate (`core.reference`), whose figures and phrases it shares: this asks whether
the exported graphs are the model, on motions far outside a face's, with the deformation and the
confidence.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from livepuppet.core.reference import exceeded, pixel_errors
from livepuppet.export.graphs import (
    DETECT_OUTPUTS,
    KEYPOINT_INPUTS,
    RENDER_OUTPUTS,
    Detect,
    Encode,
    ExportError,
    Render,
)
from livepuppet.model.base import Model


@dataclass(frozen=True)
class Tolerances:
    """Largest differences that pass: of keypoints, of the sampling grid, of pixels in levels of 0
    to 255.
    """

    keypoints: float = 1e-4
    deformation: float = 1e-3
    pixels_max: float = 2.0
    pixels_mean: float = 0.05


@dataclass(frozen=True)
class Parity:
    """Largest differences found.

    Attributes:
        keypoints: of points, matrices and confidence.
        deformation: of the sampling grid, whose units are halves of the picture.
        pixels_max: of a single pixel, in levels of 0 to 255.
        pixels_mean: average of the worst picture, in levels.
        contrast: standard deviation of the pictures drawn, in levels. An untrained model draws a
            near plain gray, in which equal pixels prove little.
        cases: pictures drawn.
    """

    keypoints: float
    deformation: float
    pixels_max: float
    pixels_mean: float
    contrast: float
    cases: int

    def failures(self, allowed: Tolerances) -> list[str]:
        """What is off, as phrases; empty where the bundle passes. Not-a-number counts as off."""
        return exceeded(self, allowed)

    def to_dict(self) -> dict:
        """For `bundle.json`."""
        return asdict(self)


def sample_pictures(size: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """Seeded pictures uint8 (size, size, 3) with a photograph's falling spectrum and some hard
    edges.

    Noise alone would not do: its warps are gray, and hide errors of sampling.
    """
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    amplitude = 1 / np.maximum(frequency, 1 / size) ** 1.4
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    pictures = []
    for _ in range(count):
        noise = np.fft.rfft2(random.standard_normal((3, size, size)))
        layer = np.fft.irfft2(noise * amplitude, s=(size, size))
        layer = layer / layer.std() * 0.2 + random.uniform(0.3, 0.7, (3, 1, 1))
        # A head and its features: ellipses of plain colour.
        for scale in (0.6, 0.15, 0.12, 0.1):
            cx, cy = random.uniform(-0.3, 0.3, 2)
            a, b = scale * random.uniform(0.7, 1.3, 2)
            inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
            layer = np.where(inside, 0.3 * layer + 0.7 * random.uniform(0, 1, (3, 1, 1)), layer)
        pictures.append((layer.clip(0, 1).transpose(1, 2, 0) * 255).round().astype(np.uint8))
    return pictures


def sample_motions(
    points: np.ndarray, own: np.ndarray, count: int, seed: int = 0, matrices: str = "jacobian"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Seeded driving keypoints around given ones: none, then from slight to far outside the
    picture.

    Args:
        points, own: of the avatar, (K, 2) and its matrices (K, 2, 2).
        matrices: what those are, as `Preset.matrices`; covariances stay symmetric and positive.

    Returns:
        `count` pairs of points and matrices.
    """
    random = np.random.default_rng(seed)
    motions = [(points, own)]
    for strength in np.linspace(0.1, 1.0, max(count - 1, 0)):
        shift = random.normal(0, 0.3 * strength, (1, 2)) + random.normal(0, 0.1 * strength, points.shape)
        angles = random.normal(0, 0.6 * strength, len(points))
        turn = np.stack(
            [np.stack([np.cos(angles), -np.sin(angles)], -1), np.stack([np.sin(angles), np.cos(angles)], -1)],
            -2,
        )
        stretch = np.exp(random.normal(0, 0.2 * strength, (len(points), 1, 1)))
        change = stretch * turn
        moved = change @ own
        if matrices == "covariance":
            moved = moved @ change.swapaxes(1, 2)
        motions.append((points + shift, moved))
    return [(p.astype(np.float32), m.astype(np.float32)) for p, m in motions[:count]]


@torch.no_grad()
def measure(model: Model, folder: Path, pictures: int = 4, motions: int = 4, seed: int = 0) -> Parity:
    """Run the graphs in `folder` and the model on the same pictures and motions.

    `render` gets the features that the bundle's own `encode` computed, as in the live engine, but
    PyTorch's keypoints, so that the figure for pixels does not hide behind, or suffer from, the one
    for keypoints.

    Args:
        model: in evaluation mode, on the CPU, in float32.
        folder: with `detect.onnx`, `encode.onnx`, `render.onnx`.
        pictures, motions: how many of each; all pairs are tried.

    Raises:
        ExportError: a graph does not run at all.
    """
    try:
        detect, encode, render = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
            for name in ("detect", "encode", "render")
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ExportError(
            f"onnxruntime cannot read the exported graphs: {str(error).splitlines()[0]}"
        ) from error
    names = [output.name for output in encode.get_outputs()]
    taken = {entry.name for entry in render.get_inputs()}
    reference_detect, reference_encode = Detect(model), Encode(model)
    reference_render = Render(model, names)

    keypoint_errors, grid_errors, errors, contrasts = [], [], [], []
    for index, picture in enumerate(sample_pictures(model.preset.size, pictures, seed)):
        tensor = torch.from_numpy(picture)
        truth = [value.numpy() for value in reference_detect(tensor)]
        found = detect.run(DETECT_OUTPUTS, {"frame": picture})
        keypoint_errors += [np.abs(a - b).max() for a, b in zip(truth, found, strict=True)]

        features = reference_encode(tensor)
        own_features = encode.run(None, {"avatar": picture})
        own_points, own_matrices = truth[0][0], truth[1][0]
        driven = sample_motions(own_points, own_matrices, motions, seed + index, model.preset.matrices)
        for points, moved in driven:
            keypoints = (own_points, own_matrices, points, moved)
            drawing = reference_render(*features, *map(torch.from_numpy, keypoints))
            expected, grid = (value.numpy() for value in drawing)
            feed = dict(zip((*names, *KEYPOINT_INPUTS), (*own_features, *keypoints), strict=True))
            fed = {name: value for name, value in feed.items() if name in taken}
            drawn, drawn_grid = map(np.asarray, render.run(RENDER_OUTPUTS, fed))
            grid_errors.append(np.abs(drawn_grid - grid).max())
            errors.append(pixel_errors(drawn, expected))
            contrasts.append(expected.std())
    return Parity(
        keypoints=float(np.max(keypoint_errors)),
        deformation=float(np.max(grid_errors)),
        pixels_max=float(np.max(errors)),
        pixels_mean=float(max(error.mean() for error in errors)),
        contrast=float(np.mean(contrasts)),
        cases=len(errors),
    )
