"""Metrics over a set of clips, and L1 among them: each is given clip after clip, then returns its
figures.

All are means over frames, as the papers' scripts take them: a long clip counts more than a short
one.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from livepuppet.train.metrics.reconstruct import ClipResult


class Metric(Protocol):
    """What `evaluation.evaluate` calls."""

    def add(self, shown: ClipResult) -> None:
        """Take one clip into account."""

    def figures(self) -> dict[str, float]:
        """Name with unit -> value, over all clips so far."""
        ...


class PixelMetric:
    """L1 of reconstruction, against copying the source and against the bare warp. Images in [0, 1]."""

    def __init__(self):
        self.rows: dict[str, list[np.ndarray]] = {"L1": [], "L1 copy": [], "L1 warp": []}

    def add(self, shown: ClipResult) -> None:
        for name, values in zip(self.rows, (shown.l1, shown.copy, shown.warp), strict=True):
            if values is not None:
                self.rows[name].append(values)

    def figures(self) -> dict[str, float]:
        return {name: float(np.concatenate(rows).mean()) for name, rows in self.rows.items() if rows}
