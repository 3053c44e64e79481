"""Keypoints of a face that holds still, is noisy, turned or darkened, and confidence where there is
no face.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from livepuppet.model.lite import LANDMARKS
from livepuppet.train.data.reading import at_size
from livepuppet.train.deform import Deformation
from livepuppet.train.losses.reconstruction import downsample
from livepuppet.train.metrics.faces.clips import STILL, middle
from livepuppet.train.metrics.inference import batches, device_of, evaluating
from livepuppet.train.webcam import webcam

#: Noise of a webcam indoors: of reading (levels of 255), and of light (its square per level).
READ_NOISE, LIGHT_NOISE = 2.0, 0.12


@torch.no_grad()
def detect_all(model, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Keypoints (T, K, 2) in pixels of frames uint8 RGB (T, S, S, 3), and confidence (T, K) if the
    model has it.
    """
    sure = hasattr(model, "detect_with_confidence")
    points, confidence = [], []
    with evaluating(model):
        for batch in batches(frames):
            batch = batch.to(device_of(model))
            found = model.detect_with_confidence(batch) if sure else model.detect(batch)
            points.append(found[0].float().cpu().numpy())
            if sure:
                confidence.append(found[2].float().cpu().numpy())
    pixels = (np.concatenate(points) + 1) * (frames.shape[1] - 1) / 2
    return pixels, np.concatenate(confidence) if sure else None


def still_drift(points: np.ndarray, flow: np.ndarray) -> float | None:
    """Mean step of keypoints (T, K, 2) between neighbouring frames where the face holds still, in
    pixels.

    Args:
        flow: (T - 1, S, S, 2) of `optical_flow`.

    Returns:
        None where it never holds still: fewer than three steps with a mean flow below `STILL`.
    """
    side = flow.shape[1]
    amount = np.linalg.norm(flow[:, middle(side)], axis=-1).mean(1) * 256 / side
    still = amount < STILL
    if still.sum() < 3:
        return None
    return float(np.linalg.norm(np.diff(points, axis=0)[still], axis=-1).mean())


def noise_jitter(model, image: np.ndarray, count: int = 8, seed: int = 11) -> float:
    """Root mean square step of keypoints, in pixels, of one uint8 RGB (S, S, 3) under a webcam's
    noise, drawn anew.
    """
    random = np.random.default_rng(seed)
    light = np.broadcast_to(image.astype(np.float32), (count, *image.shape))
    deviation = np.sqrt(READ_NOISE**2 + LIGHT_NOISE * light)
    noisy = light + deviation * random.standard_normal(light.shape, np.float32)
    points, _ = detect_all(model, noisy.round().clip(0, 255).astype(np.uint8))
    return float(np.sqrt(np.square(np.diff(points, axis=0)).sum(-1).mean()))


def shuffled(image: np.ndarray, tiles: int = 8, seed: int = 2) -> np.ndarray:
    """An image uint8 RGB (S, S, 3) cut into tiles x tiles squares in a random order: its colours,
    and no face.
    """
    side = image.shape[0] // tiles
    rows = image[: side * tiles, : side * tiles].reshape(tiles, side, tiles, side, 3).swapaxes(1, 2)
    order = np.random.default_rng(seed).permutation(tiles * tiles)
    mixed = rows.reshape(-1, side, side, 3)[order].reshape(tiles, tiles, side, side, 3).swapaxes(1, 2)
    return at_size(mixed.reshape(1, side * tiles, side * tiles, 3), image.shape[0])[0]


def faceless(size: int, seed: int = 3) -> np.ndarray:
    """Images uint8 RGB (6, size, size, 3) without any face: plain, shaded, noise fine and coarse,
    stripes, boxes.
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    coarse = cv2.resize(
        random.random((6, 6, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    boxes = np.full((size, size, 3), 0.7)
    for _ in range(8):
        left, top, width, height = (random.random(4) * [0.8, 0.8, 0.4, 0.4] * size).astype(int)
        boxes[top : top + height, left : left + width] = random.random(3)
    images = [
        np.full((size, size, 3), 0.5),
        np.repeat((0.2 + 0.6 * x)[..., None], 3, -1),
        random.random((size, size, 3)),
        coarse,
        np.repeat((0.5 + 0.4 * np.sin(40 * (x + 0.5 * y)))[..., None], 3, -1),
        boxes,
    ]
    return (np.stack(images) * 255).round().clip(0, 255).astype(np.uint8)


@torch.no_grad()
def tracking_metrics(model, frames: np.ndarray, flow: np.ndarray) -> dict[str, float]:
    """How well keypoints of a lite model follow a face; lengths in pixels of the model's images.

    Args:
        frames: uint8 RGB (T, S, S, 3), neighbours in time.
        flow: of `optical_flow`.

    Returns:
        "wander px": how far a keypoint is from where it was found, when the image is turned,
        darkened or noisy; "flow error px" and "flow slope" of keypoints' motion against the flow at
        their places (1 is right);
        "lip range px", "lid range px": between the 2nd and 98th percentile of the gap.
    """
    rng = torch.Generator().manual_seed(3)
    half = (frames.shape[1] - 1) / 2
    points, apart = [], []
    with evaluating(model):
        for image in batches(frames):
            image = downsample(image, 2)
            found = model.detector.from_half(image)[0]
            points.append(found)
            for strength in (0.0, 0.0, 0.5, 0.5):
                change = Deformation.similarity(len(image), rng, image, 0.12, 0.12, 0.06)
                seen = (
                    webcam(change.warp_image(image), rng, strength) if strength else change.warp_image(image)
                )
                again = change.points(model.detector.from_half(seen)[0])
                apart.append((again - found).norm(dim=-1).mean().item() * half)
    points = torch.cat(points).numpy()
    pixels = (points + 1) * half
    moved = np.diff(pixels, axis=0)
    places = pixels[:-1].round().clip(0, frames.shape[1] - 1).astype(int)
    true = flow[np.arange(len(flow))[:, None], places[..., 1], places[..., 0]]

    def gap(lower: str, upper: str) -> float:
        rows = [[k for k, name in enumerate(LANDMARKS) if word in name] for word in (lower, upper)]
        below, above = (pixels[:, k, 1].mean(1) for k in rows)
        low, high = np.percentile(below - above, (2, 98))
        return float(high - low)

    return {
        "wander px": float(np.mean(apart)),
        "flow error px": float(np.linalg.norm(moved - true, axis=-1).mean()),
        "flow slope": float((moved * true).sum() / max(float((true * true).sum()), 1e-6)),
        "lip range px": gap("lower lip", "upper lip"),
        "lid range px": gap("lower lid", "upper lid"),
    }
