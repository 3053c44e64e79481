"""The equivariance loss of the first-order model (FOMM, Eq. 11-13)."""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.model.geometry import in_float32, inverse_2x2
from livepuppet.train.deform import Deformation


@in_float32
def equivariance_loss(
    deformation: Deformation,
    points: Tensor,
    jacobians: Tensor,
    deformed_points: Tensor,
    deformed_jacobians: Tensor,
) -> tuple[Tensor, Tensor]:
    """Keypoints must follow a known deformation (FOMM, Eq. 11 for points, Eq. 12-13 for Jacobians).

    Args:
        deformation: T, with which the deformed image was made.
        points, jacobians: keypoints of the original image, detected or true.
        deformed_points, deformed_jacobians: detected in the deformed image.

    Returns:
        |p - T(p')| and |1 - J^-1 T'(p') J'|, means over everything.
    """
    value = (points - deformation.points(deformed_points)).abs().mean()
    carried = deformation.jacobians(deformed_points) @ deformed_jacobians
    eye = torch.eye(2, dtype=points.dtype, device=points.device)
    return value, (eye - inverse_2x2(jacobians) @ carried).abs().mean()
