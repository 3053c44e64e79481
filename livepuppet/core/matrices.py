"""The 2x2 matrix beside each point: a Jacobian (FOMM) or the covariance of a heat-map (Monkey-Net),
in NumPy.

A Jacobian is a map of the point's neighbourhood; near the identity where nothing is turned or
stretched. A covariance is the extent of a blob in squared units of [-1, 1], symmetric and positive
definite; mostly between 0.001 and 0.3. Under a change of coordinates p -> A p + b they become A J
and A Sigma A^T.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Matrices = Literal["jacobian", "covariance"]

#: Matrices whose determinant is closer to zero than this have no inverse worth using.
SMALLEST_DETERMINANT = 1e-6


def inverse_2x2(matrices: np.ndarray, smallest: float = SMALLEST_DETERMINANT) -> np.ndarray:
    """Closed-form inverses of `matrices` (..., 2, 2), with the same dtype.

    A determinant nearer to zero than `smallest` is replaced by that value with its sign, so the
    result is always finite for finite input.
    """
    a, b = matrices[..., 0, 0], matrices[..., 0, 1]
    c, d = matrices[..., 1, 0], matrices[..., 1, 1]
    determinant = a * d - b * c
    guarded = np.where(np.abs(determinant) < smallest, np.copysign(smallest, determinant), determinant)
    # Written cell by cell: this runs for every frame, and stacking costs four times as much.
    inverse = np.empty(np.shape(matrices), np.result_type(guarded, np.float32))
    inverse[..., 0, 0], inverse[..., 0, 1] = d / guarded, -b / guarded
    inverse[..., 1, 0], inverse[..., 1, 1] = -c / guarded, a / guarded
    return inverse.astype(matrices.dtype, copy=False)


def carried(change: np.ndarray, matrices: np.ndarray, kind: Matrices) -> np.ndarray:
    """`matrices` (..., 2, 2) under the linear change of coordinates `change` (..., 2, 2)."""
    moved = change @ matrices
    return moved if kind == "jacobian" else moved @ np.swapaxes(change, -1, -2)


def bounded(covariances: np.ndarray, low: float, high: float) -> np.ndarray:
    """Symmetric `covariances` (..., 2, 2) with eigenvalues brought into [low, high]; itself where
    they all are.
    """
    a, b, d = covariances[..., 0, 0], covariances[..., 0, 1], covariances[..., 1, 1]
    middle, apart = (a + d) / 2, np.hypot((a - d) / 2, b)
    if (middle - apart >= low).all() and (middle + apart <= high).all():
        return covariances
    large, small = np.clip(middle + apart, low, high), np.clip(middle - apart, low, high)
    # Sigma - middle is `apart` times a reflection, which keeps the directions.
    turned = (covariances - middle[..., None, None] * np.eye(2)) / np.maximum(apart, 1e-12)[..., None, None]
    limited = ((large + small) / 2)[..., None, None] * np.eye(2) + ((large - small) / 2)[
        ..., None, None
    ] * turned
    return limited.astype(covariances.dtype)


def square_root(covariances: np.ndarray) -> np.ndarray:
    """The symmetric positive definite root of positive definite `covariances` (..., 2, 2), float64.

    For 2x2: (Sigma + s) / t with s = sqrt(det Sigma), t = sqrt(trace Sigma + 2 s) (Cayley and
    Hamilton).
    """
    a, b = covariances[..., 0, 0].astype(np.float64), covariances[..., 0, 1].astype(np.float64)
    d = covariances[..., 1, 1].astype(np.float64)
    s = np.sqrt(np.maximum(a * d - b * b, 0.0))
    t = np.sqrt(np.maximum(a + d + 2 * s, 1e-12))
    root = np.empty(covariances.shape, np.float64)
    root[..., 0, 0], root[..., 0, 1] = (a + s) / t, b / t
    root[..., 1, 0], root[..., 1, 1] = b / t, (d + s) / t
    return root


def change_of_extent(now: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """The local map that carries blobs of covariance `initial` (..., 2, 2) to those of `now`,
    float64.

    A = Sigma_now^(1/2) Sigma_initial^(-1/2), so A Sigma_initial A^T = Sigma_now. (A turn of a round
    blob leaves no trace in its covariance, nor does it in A.)
    """
    return square_root(now) @ inverse_2x2(square_root(initial), 1e-9)
