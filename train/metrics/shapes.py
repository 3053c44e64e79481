"""Exact truth without a detector: one flat-coloured shape on black, as in the data set *shapes*.

Place, size and colour follow from a threshold, so AKD (in pixels), MKR (the shape is gone or has
shrunk to nothing) and an identity error (its colour) need no weights of anyone. And the model's own
geometry can be asked: where does its deformation say that the shape came from (*landing*), and do
its keypoints move as the shape does (*follow*)?
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.core.errors import LivePuppetError
from livepuppet.train.metrics.reconstruct import ClipResult

#: A pixel belongs to the shape if it has at least this share of the shape's brightness.
THRESHOLD = 0.5

#: What keeps less than this share of the shape's true area has shrunk to nothing, what covers more
#: than the other has run all over the image: the shape is missing.
SMALLEST, LARGEST = 0.25, 4.0

#: A source whose brightest channel is below this (of 255) shows no shape.
DARKEST = 24.0


@dataclass(frozen=True)
class Shapes:
    """The shape in each of T images.

    Attributes:
        mask: bool (T, H, W).
        centre: (T, 2), its centroid as (x, y) in pixels; NaN where there is none.
        area: (T,) pixels.
        colour: (T, 3) mean RGB in [0, 1]; NaN where there is none.
    """

    mask: np.ndarray
    centre: np.ndarray
    area: np.ndarray
    colour: np.ndarray


def brightness(image: np.ndarray) -> float:
    """Of the shape in RGB uint8 (H, W, 3): its brightest channel, 0 to 255."""
    return float(image.max())


def find(images: np.ndarray, level: float) -> Shapes:
    """The shape in RGB uint8 (T, H, W, 3): every pixel whose brightest channel is above `THRESHOLD`
    * level.

    `level` comes from the true image (`brightness`), so that a shape painted too dark is found
    missing.
    """
    mask = images.max(-1) > THRESHOLD * level
    area = mask.sum((1, 2)).astype(np.float64)
    height, width = mask.shape[1:]
    weight = np.where(area > 0, 1.0, np.nan) / np.maximum(area, 1)
    x = mask.sum(1) @ np.arange(width) * weight
    y = mask.sum(2) @ np.arange(height) * weight
    colour = (images * mask[..., None]).sum((1, 2)) / 255 * weight[:, None]
    return Shapes(mask, np.stack([x, y], -1), area, colour)


class ShapeError(LivePuppetError, ValueError):
    """Images that do not show one coloured shape on black."""


class ShapeMetric:
    """Figures of a coloured shape.

    * `AKD px`: from the result's shape to the true one, where there is one.
    * `MKR`: share of frames in which the result's is missing.
    * `colour error`: Euclidean, RGB in [0, 1]; what AED is on faces.
    * `area ratio`: of the result's to the true one.
    * `landing px`: from the deformation's answer, averaged over the true shape's pixels, to the
      source's shape; `landing copy px`: of a model that moves nothing. Reconstruction only.
    * `follow ...`: per keypoint, over all frames: correlation with the true centroid and slope (1
      is as far as the shape), each clip's own mean taken out first. The best keypoint's and the
      median one's.
    * `AKD copy px`: of a model that shows the source as it is.
    * `scored`: share of frames whose true place can be said: a shape may be nearly black, and in
      animation it may have to leave the image.
    """

    def __init__(self):
        self.rows: dict[str, list[np.ndarray]] = {}
        self.found, self.frames, self.all = 0, 0, 0
        self.moments: np.ndarray | None = None
        self.dark = ""

    def add(self, shown: ClipResult) -> None:
        level = brightness(shown.source)
        if level < DARKEST:
            # Some of the set's colours are nearly black, so that the shape cannot be located.
            self.all += len(shown.driving)
            self.dark = self.dark or shown.name
            return
        source = find(shown.source[None], level)
        driving = find(shown.driving, brightness(shown.driving))
        result = find(shown.result, level)
        if source.area[0] > 0.5 * source.mask[0].size:
            raise ShapeError(
                f"--landmarks shapes needs one bright thing on black; {shown.name} has no black background."
            )
        truth, scored = self._truth(shown, source, driving)
        ratio = result.area / source.area[0]
        there = (ratio >= SMALLEST) & (ratio <= LARGEST)
        self.frames += int(scored.sum())
        self.found += int((scored & there).sum())
        self.all += len(scored)
        both = scored & there
        self._note("AKD px", np.linalg.norm(result.centre - truth, axis=1)[both])
        self._note("AKD copy px", np.linalg.norm(source.centre - truth, axis=1)[scored])
        self._note("colour error", np.linalg.norm(result.colour - source.colour, axis=1)[both])
        self._note("area ratio", ratio[scored])
        if shown.relative is None:
            if shown.deformation is not None:
                landing = landing_points(shown.deformation, driving.mask)
                self._note("landing px", np.linalg.norm(landing - source.centre, axis=1)[scored])
                self._note("landing copy px", np.linalg.norm(driving.centre - source.centre, axis=1)[scored])
            self._follow(shown.driving_points, driving.centre, driving.mask.shape[-1], scored)

    def figures(self) -> dict[str, float]:
        if self.dark and not self.rows:
            raise ShapeError(
                f"--landmarks shapes needs one bright thing on black; the first frame of {self.dark} shows none."
            )
        found = {
            name: float(np.concatenate(rows).mean())
            for name, rows in self.rows.items()
            if sum(map(len, rows))
        }
        found["MKR"] = 1 - self.found / max(self.frames, 1)
        found["scored"] = self.frames / max(self.all, 1)
        if self.moments is not None:
            across, own, true = self.moments
            correlation = across / np.sqrt(np.maximum(own * true, 1e-12))
            slope = across / np.maximum(true, 1e-12)
            best = int(correlation.argmax())
            found |= {
                "follow correlation best": float(correlation[best]),
                "follow slope best": float(slope[best]),
                "follow correlation median": float(np.median(correlation)),
                "follow slope median": float(np.median(slope)),
            }
        return found

    def _truth(self, shown: ClipResult, source: Shapes, driving: Shapes) -> tuple[np.ndarray, np.ndarray]:
        """Where the shape should be (T, 2), and the frames (T,) in which that can be said."""
        scored = driving.area > 0
        if not shown.relative:
            return driving.centre, scored
        truth = source.centre + driving.centre - driving.centre[:1]
        # Only where the whole shape is in the image; cut at its edge, its centroid would lie
        # elsewhere.
        radius, side = np.sqrt(source.area[0] / np.pi), driving.mask.shape[-1]
        inside = (truth > radius - 0.5).all(1) & (truth < side - 0.5 - radius).all(1)
        return truth, scored & inside

    def _note(self, name: str, values: np.ndarray) -> None:
        self.rows.setdefault(name, []).append(values)

    def _follow(self, points: np.ndarray, centre: np.ndarray, side: int, scored: np.ndarray) -> None:
        if scored.sum() < 2:
            return
        own = (points[scored] + 1) * (side - 1) / 2
        own = own - own.mean(0)
        true = (centre[scored] - centre[scored].mean(0))[:, None]
        moments = np.stack(
            [
                (own * true).sum((0, 2)),
                np.square(own).sum((0, 2)),
                np.broadcast_to(np.square(true).sum((0, 2)), own.shape[1]),
            ]
        )
        self.moments = moments if self.moments is None else self.moments + moments


def landing_points(deformation: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Where masked pixels come from, on average: deformation (T, h, w, 2), mask (T, S, S) to (T, 2)
    in pixels.

    The deformation is brought to the image's size as the generator does (bilinear, corners
    aligned); NaN where the mask is empty.
    """
    side = mask.shape[-1]
    answers = np.full((len(mask), 2), np.nan)
    for k, (flow, inside) in enumerate(zip(deformation, mask, strict=True)):
        ys, xs = np.nonzero(inside)
        if len(xs):
            # Pixel p of S lies at p * (w - 1) / (S - 1) of w cells: both grids have their outermost
            # centres at -1 and 1.
            columns = (xs * ((flow.shape[1] - 1) / (side - 1))).astype(np.float32)
            rows = (ys * ((flow.shape[0] - 1) / (side - 1))).astype(np.float32)
            taken = cv2.remap(
                flow.astype(np.float32),
                columns[None],
                rows[None],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            answers[k] = (taken[0].mean(0) + 1) * (side - 1) / 2
    return answers
