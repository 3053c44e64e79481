"""The three calls as modules with unbatched uint8 images in and out: what exporters take.

Keypoints and deformations keep their batch of one, and engines drop it. Without it these outputs
would be views of values that the networks go on with, which OpenVINO computes wrongly; see
`export.graphs.check_graph`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from livepuppet.model.base import Model

DETECT_OUTPUTS = ("points", "jacobians", "confidence")
RENDER_OUTPUTS = ("prediction", "deformation")
KEYPOINT_INPUTS = ("source_points", "source_jacobians", "driving_points", "driving_jacobians")


def to_model(image: Tensor) -> Tensor:
    """RGB uint8 (S, S, 3) to a batch of one, float (1, 3, S, S) in [0, 1]."""
    return image.permute(2, 0, 1)[None].float() / 255


def to_image(batch: Tensor) -> Tensor:
    """Float (1, 3, S, S) in [0, 1] to RGB uint8 (S, S, 3), rounded to the nearest level."""
    return (batch[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)


class Detect(nn.Module):
    """`frame` uint8 (S, S, 3) to `points` (1, K, 2), `jacobians` (1, K, 2, 2) and `confidence` (1,
    K).
    """

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.detect_with_confidence(to_model(frame))


class Encode(nn.Module):
    """`avatar` uint8 (S, S, 3) to the model's features, in the order of their names, with their
    batch of one.
    """

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, avatar: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.encode(to_model(avatar)).values())


class Render(nn.Module):
    """The features, then `KEYPOINT_INPUTS` without a batch, to `RENDER_OUTPUTS`: uint8 (S, S, 3)
    and float (1, h, w, 2).
    """

    def __init__(self, model: Model, feature_names: list[str]):
        super().__init__()
        self.model = model
        self.feature_names = feature_names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.feature_names)
        features = dict(zip(self.feature_names, inputs[:count], strict=True))
        keypoints = [tensor[None] for tensor in inputs[count:]]
        drawn = self.model.render(features, *keypoints)
        return to_image(drawn["prediction"]), drawn["deformation"]


def example_inputs(model: Model) -> dict[str, tuple[Tensor, ...]]:
    """Inputs of the right shapes for `Detect`, `Encode` and `Render`, by the call's name, on the
    model's device.

    A black image, and keypoints that all lie in the middle.
    """
    device = next(model.parameters()).device
    size, keypoints = model.preset.size, model.preset.num_keypoints
    image = torch.zeros(size, size, 3, dtype=torch.uint8, device=device)
    with torch.no_grad():
        features = model.encode(to_model(image))
    points = torch.zeros(keypoints, 2, device=device)
    jacobians = torch.eye(2, device=device).repeat(keypoints, 1, 1)
    # Four separate tensors: exporters merge arguments that share memory.
    motion = (points, jacobians, points.clone(), jacobians.clone())
    return {"detect": (image,), "encode": (image,), "render": (*features.values(), *motion)}
