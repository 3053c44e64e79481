"""The Frechet distance between two sets of activations (FID where they are Inception's), in float64
without scipy.
"""

from __future__ import annotations

import numpy as np


class Moments:
    """Mean and covariance of rows that arrive bit by bit, in float64."""

    def __init__(self):
        self.count = 0
        self.sum: np.ndarray | float = 0.0
        self.square: np.ndarray | float = 0.0
        self.origin: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Take rows (N, D) into account."""
        rows = rows.astype(np.float64)
        if self.origin is None:
            # Sums of squares about a point near the mean; about zero they would lose the digits
            # that matter.
            self.origin = rows.mean(0)
        rows = rows - self.origin
        self.count += len(rows)
        self.sum = self.sum + rows.sum(0)
        self.square = self.square + rows.T @ rows

    def gaussian(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and unbiased covariance (D, D) of at least two rows."""
        assert self.origin is not None
        mean = self.sum / self.count
        covariance = (self.square - self.count * np.outer(mean, mean)) / (self.count - 1)
        return mean + self.origin, covariance


def frechet_distance(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians, each mean (D,) and covariance
    (D, D).

    tr (C1 C2)^(1/2) is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric: two
    eigen-decompositions, never a complex number.
    """
    (mean1, covariance1), (mean2, covariance2) = first, second
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = root @ covariance2 @ root
    trace = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    gap = mean1 - mean2
    return float(max(gap @ gap + np.trace(covariance1) + np.trace(covariance2) - 2 * trace, 0.0))
