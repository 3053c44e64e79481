"""Relative motion transfer in PyTorch, in batches: the twin of `core.transfer`, which a test
compares it with.
"""

from __future__ import annotations

from torch import Tensor

from livepuppet.core.matrices import Matrices
from livepuppet.core.transfer import Variance
from livepuppet.model.geometry import inverse_2x2

#: Points (B, K, 2) and Jacobians or covariances (B, K, 2, 2).
Keypoints = tuple[Tensor, Tensor]


def transfer(
    driving: Keypoints,
    initial: Keypoints,
    avatar: Keypoints,
    scale: float | Tensor = 1.0,
    matrices: Matrices = "jacobian",
    variance: Variance = "source",
) -> Keypoints:
    """The driver's motion since `initial`, put onto the avatar (FOMM, Eq. 14-15; Monkey-Net, Eq.
    7).

    Args:
        driving, initial, avatar: batches of one size, or of one.
        scale: of the motion; a number, or (B, 1, 1).
        matrices: what the keypoints' matrices are.
        variance: what becomes of covariances: the avatar's own (`source`) or the driver's
            (`driving`).
    """
    points = avatar[0] + scale * (driving[0] - initial[0])
    if matrices == "jacobian":
        return points, driving[1] @ inverse_2x2(initial[1]) @ avatar[1]
    if variance == "relative":
        raise ValueError("covariances are changed relatively in core.transfer only")
    return points, (driving if variance == "driving" else avatar)[1]
