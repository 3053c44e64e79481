"""Draw a bundle's reference with float32 PyTorch: engines are compared with it before they are
used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reference import Reference
from livepuppet.core.transfer import transfer
from livepuppet.model.base import Model
from livepuppet.model.calls import Detect, Encode, Render


@torch.no_grad()
def draw(model: Model, avatar: np.ndarray, frames: Sequence[np.ndarray]) -> Reference:
    """What the model finds in pictures and draws of them.

    The avatar is drawn at rest and with the movement of each frame since the first; then the first
    frame, with the same.

    Args:
        model: in evaluation mode, on the CPU, in float32; the readable one, not `optimise`d.
        avatar: RGB uint8 (S, S, 3).
        frames: of one clip, RGB uint8 (S, S, 3); at least two.
    """
    detect, encode = Detect(model), Encode(model)
    pictures = np.stack([avatar, *frames])
    found = [[value[0].numpy() for value in detect(torch.from_numpy(picture))[:2]] for picture in pictures]
    kind = model.preset.matrices
    avatar_keypoints, first, *later = (Keypoints(*pair) for pair in found)
    motions = [(0, avatar_keypoints)]
    motions += [(0, transfer(moved, first, avatar_keypoints, matrices=kind)) for moved in later]
    motions += [(1, transfer(moved, first, first, matrices=kind)) for moved in later]
    features = {index: encode(torch.from_numpy(pictures[index])) for index in (0, 1)}
    render = Render(model, list(model.encode(torch.zeros(1, 3, *pictures.shape[1:3]))))
    drawn = []
    for index, target in motions:
        keypoints = map(torch.from_numpy, (*found[index], target.points, target.jacobians))
        drawn.append(render(*features[index], *keypoints)[0].numpy())
    return Reference(
        pictures=pictures,
        points=np.stack([points for points, _ in found]),
        matrices=np.stack([matrices for _, matrices in found]),
        avatars=np.array([index for index, _ in motions], dtype=np.int64),
        driving_points=np.stack([target.points for _, target in motions]),
        driving_matrices=np.stack([target.jacobians for _, target in motions]),
        drawn=np.stack(drawn),
    )
