"""The papers' figures that need a detector or an embedding: AKD, MKR, AED and FID."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from livepuppet.train.metrics.external import Embed, ExternalError, FindLandmarks
from livepuppet.train.metrics.frechet import Moments, frechet_distance
from livepuppet.train.metrics.reconstruct import ClipResult

#: Images at a time.
BATCH = 32


def _in_batches(function: Callable[[np.ndarray], Any], images: np.ndarray) -> Any:
    parts = [function(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    return np.concatenate(parts)


class LandmarkMetric:
    """Average keypoint distance and missing keypoint rate of reconstruction (Monkey-Net, section
    4.1).

    * `AKD px`: mean distance, in pixels of the image, over landmarks found in both the driving
    frame and the result.
    * `MKR`: of the landmarks found in the driving frame, the share that is not found in the result.
    * `AKD copy px`: of a model that shows the source as it is.
    * `found`: share of all landmarks that are found in driving frames at all.

    Where the true landmarks are known (`ClipResult.truth`), distances are to these, and `AKD
    detector px` is what the detector itself is off on the driving frames. Animation has no truth:
    nothing is measured then.
    """

    def __init__(self, find: FindLandmarks):
        self.find = find
        self.distance, self.both, self.missing, self.expected, self.all = 0.0, 0, 0, 0, 0
        self.own, self.own_count = 0.0, 0
        self.copy, self.copy_count = 0.0, 0

    def add(self, shown: ClipResult) -> None:
        if shown.relative is not None:
            return
        truth, expected = _in_batches(self.find, shown.driving)
        points, visible = _in_batches(self.find, shown.result)
        if shown.truth is not None:
            if shown.truth.shape != truth.shape:
                raise ExternalError(
                    f"These clips' true landmarks are {shown.truth.shape[1]}, the detector finds {truth.shape[1]}: use "
                    "--landmarks lite."
                )
            off = np.linalg.norm(truth - shown.truth, axis=-1)[expected]
            self.own, self.own_count = self.own + float(off.sum()), self.own_count + off.size
            truth = shown.truth
        still, there = self.find(shown.source[None])
        off = np.linalg.norm(still - truth, axis=-1)[expected & there]
        self.copy, self.copy_count = self.copy + float(off.sum()), self.copy_count + off.size
        both = expected & visible
        self.distance += float(np.linalg.norm(points - truth, axis=-1)[both].sum())
        self.both += int(both.sum())
        self.missing += int((expected & ~visible).sum())
        self.expected += int(expected.sum())
        self.all += expected.size

    def figures(self) -> dict[str, float]:
        found: dict[str, float] = {}
        if self.both:
            found["AKD px"] = self.distance / self.both
        if self.copy_count:
            found["AKD copy px"] = self.copy / self.copy_count
        if self.expected:
            found["MKR"] = self.missing / self.expected
        if self.own_count:
            found["AKD detector px"] = self.own / self.own_count
        if self.all:
            found["found"] = self.expected / self.all
        return found


class IdentityMetric:
    """`AED`: mean Euclidean distance of an identity embedding, result to driving frame; in
    animation, to the source.
    """

    def __init__(self, embed: Embed):
        self.embed, self.sum, self.count = embed, 0.0, 0

    def add(self, shown: ClipResult) -> None:
        wanted = shown.driving if shown.relative is None else shown.source[None]
        gap = _in_batches(self.embed, shown.result) - _in_batches(self.embed, wanted)
        self.sum += float(np.linalg.norm(gap, axis=1).sum())
        self.count += len(gap)

    def figures(self) -> dict[str, float]:
        return {"AED": self.sum / self.count} if self.count else {}


class FrechetMetric:
    """`FID`: Frechet distance between activations of the results and those of the driving frames.

    Attributes:
        notes: what has to be said of the figure, as sentences, after `figures`.
    """

    def __init__(self, activations: Embed):
        self.activations, self.notes = activations, []
        self.real, self.made = Moments(), Moments()

    def add(self, shown: ClipResult) -> None:
        self.real.add(_in_batches(self.activations, shown.driving))
        self.made.add(_in_batches(self.activations, shown.result))

    def figures(self) -> dict[str, float]:
        if self.made.count < 2:
            return {}
        dimensions = 0 if self.made.origin is None else len(self.made.origin)
        if self.made.count <= dimensions:
            self.notes = [
                f"FID of {self.made.count} frames with {dimensions} activations is not to be compared with others: "
                "take more frames than activations."
            ]
        return {"FID": frechet_distance(self.real.gaussian(), self.made.gaussian())}
