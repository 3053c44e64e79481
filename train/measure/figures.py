"""Figures over a set of clips: each measure is shown clip after clip, then says what it found.

All are means over frames, as the papers' scripts take them: a long clip counts more than a short one.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from livepuppet.train.measure.reenact import Shown


class Measure(Protocol):
    """What `evaluation.evaluate` calls."""

    def add(self, shown: Shown) -> None:
        """Take one clip into account."""

    def figures(self) -> dict[str, float]:
        """Name with unit -> value, over all clips so far."""


class Pixels:
    """L1 of reconstruction, against copying the source and against the bare warp. Pictures in [0, 1]."""

    def __init__(self):
        self.rows: dict[str, list[np.ndarray]] = {"L1": [], "L1 copy": [], "L1 warp": []}

    def add(self, shown: Shown) -> None:
        for name, values in zip(self.rows, (shown.l1, shown.copy, shown.warp), strict=True):
            if values is not None:
                self.rows[name].append(values)

    def figures(self) -> dict[str, float]:
        return {name: float(np.concatenate(rows).mean()) for name, rows in self.rows.items() if rows}
