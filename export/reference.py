"""What float32 PyTorch draws, kept beside the graphs: engines are compared with it before they are used.

The file is read by `realtime/engines/gate.py`, whose `Reference` has the same fields; no code is shared, because the
live path imports no torch and this folder does not import the live path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from livepuppet.model.calls import Detect, Encode, Render

#: Name of the file in a bundle.
FILE = "reference.npz"


def relative_transfer(
    driving: tuple[np.ndarray, np.ndarray],
    initial: tuple[np.ndarray, np.ndarray],
    source: tuple[np.ndarray, np.ndarray],
    matrices: str = "jacobian",
) -> tuple[np.ndarray, np.ndarray]:
    """The driver's movement since its first frame, put onto the source (FOMM, Eq. 14-15; Monkey-Net, Eq. 7).

        points    = source + (driving - initial)
        Jacobians = J_driving  J_initial^-1  J_source;  covariances are the source's own

    Args:
        driving, initial, source: points float32 (K, 2) and matrices float32 (K, 2, 2) each.
        matrices: what those are, as `Preset.matrices`.

    Returns:
        The points and matrices to render, float32.
    """
    points = source[0] + (driving[0] - initial[0])
    if matrices == "covariance":
        return points.astype(np.float32), source[1]
    # A Jacobian that cannot be inverted says nothing about the change; the source then keeps its own.
    singular = np.abs(np.linalg.det(initial[1].astype(np.float64))) < 1e-6
    before = np.where(singular[:, None, None], np.eye(2), initial[1].astype(np.float64))
    change = np.where(singular[:, None, None], np.eye(2), driving[1] @ np.linalg.inv(before))
    return points.astype(np.float32), (change @ source[1]).astype(np.float32)


@torch.no_grad()
def draw(model: nn.Module, avatar: np.ndarray, frames: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What the model finds in pictures and draws of them.

    The avatar is drawn at rest and with the movement of each frame since the first; then the first frame, with the same.

    Args:
        model: in evaluation mode, on the CPU, in float32; the readable one, not `optimise`d.
        avatar: RGB uint8 (S, S, 3).
        frames: of one clip, RGB uint8 (S, S, 3); at least two.

    Returns:
        pictures: uint8 RGB (N, S, S, 3), the avatar first.
        points, matrices: float32 (N, K, 2) and (N, K, 2, 2), found in them.
        avatars: int64 (M,), which picture is moved.
        driving_points, driving_matrices: float32 (M, K, 2) and (M, K, 2, 2), whereto.
        drawn: uint8 RGB (M, S, S, 3).
    """
    detect, encode = Detect(model), Encode(model)
    pictures = np.stack([avatar, *frames])
    found = [[value[0].numpy() for value in detect(torch.from_numpy(picture))[:2]] for picture in pictures]
    kind = model.preset.matrices
    first, later = found[1], found[2:]
    motions = [(0, *found[0])]
    motions += [(0, *relative_transfer(moved, first, found[0], kind)) for moved in later]
    motions += [(1, *relative_transfer(moved, first, first, kind)) for moved in later]
    features = {index: encode(torch.from_numpy(pictures[index])) for index in (0, 1)}
    render = Render(model, list(model.encode(torch.zeros(1, 3, *pictures.shape[1:3]))))
    drawn = []
    for index, *motion in motions:
        keypoints = (torch.from_numpy(array) for array in (*found[index], *motion))
        drawn.append(render(*features[index], *keypoints)[0].numpy())
    return {
        "pictures": pictures,
        "points": np.stack([points for points, _ in found]),
        "matrices": np.stack([matrices for _, matrices in found]),
        "avatars": np.array([index for index, *_ in motions], dtype=np.int64),
        "driving_points": np.stack([points for _, points, _ in motions]),
        "driving_matrices": np.stack([matrices for *_, matrices in motions]),
        "drawn": np.stack(drawn),
    }


def write_reference(path: Path, reference: dict[str, np.ndarray]) -> None:
    """Write what `draw` returned as an `.npz` of plain arrays."""
    np.savez_compressed(path, **reference)
