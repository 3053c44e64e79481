"""Stage 1: the keypoint detector learns exact landmarks of procedural puppets.

Minutes on a CPU. Supervision only rendering can give: real eyes, lips and noses are found afterwards though none was
ever seen, because blur, noise, tint and random deformation make a photograph one more style.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.model.geometry import inverse_2x2
from livepuppet.model.lite import LANDMARKS, LitePuppet
from livepuppet.train.deform import Deformation, mirror, webcam
from livepuppet.train.losses import shrink
from livepuppet.train.puppets.identities import draw_identities, draw_motions, generator
from livepuppet.train.puppets.pool import PuppetPool
from livepuppet.train.puppets.renderer import render

#: The keypoint that each keypoint becomes in a mirror.
PARTNER = [
    LANDMARKS.index(name.replace("left", "@").replace("right", "left").replace("@", "right"))
    for name in LANDMARKS
]

#: Lids and lips move least and matter most.
WEIGHT = [2.0 if "lid" in name or "lip" in name or "iris" in name else 1.0 for name in LANDMARKS]


class DetectorTask:
    """Points and Jacobians against the exact ones, under random deformations and webcam effects.

    Args:
        model: whose `detector` is trained.
        pool: puppets to train on.
        batch: pictures per step.
    """

    name = "detector"

    def __init__(self, model: LitePuppet, pool: PuppetPool, batch: int = 32):
        self.model, self.pool, self.batch = model, pool, batch
        self.trained = model.detector

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        self.pool.refresh_sometimes(rng)
        picture, points, jacobians = self.pool.pictures_with_truth(self.batch, rng)
        picture = shrink(picture, 2)
        flipped = mirror(picture, points, jacobians, PARTNER)
        side = (torch.rand(self.batch, generator=rng) < 0.5).view(-1, 1, 1)
        picture = torch.where(side[..., None], flipped[0], picture)
        points = torch.where(side, flipped[1], points)
        jacobians = torch.where(side[..., None], flipped[2], jacobians)
        change = Deformation.random(self.batch, rng, points, affine=0.06, spline=0.004)
        zoom = Deformation.similarity(self.batch, rng, points, angle=0.3, log_scale=0.25, shift=0.15)
        change.affine = torch.cat(
            [
                zoom.affine[:, :, :2] @ change.affine[:, :, :2],
                (zoom.affine[:, :, :2] @ change.affine[:, :, 2:]) + zoom.affine[:, :, 2:],
            ],
            -1,
        )
        picture = webcam(change.picture(picture), rng)
        # In float32: bfloat16's eight bits are too few for a soft-argmax that is to find a lid's height.
        found, found_jacobians = self.model.detector.from_half(picture)
        weight = torch.tensor(WEIGHT)[None, :, None]
        # Eq. 11 with the truth in place of the detector's own answer: T(p') = p, T'(p') J' = J.
        error = (change.points(found) - points).abs()
        inside = (points.abs().amax(-1, keepdim=True) < 1.05).float()
        value = (error * weight * inside).sum() / (weight * inside).expand_as(error).sum()
        carried = change.jacobians(found.detach()) @ found_jacobians
        return {
            "points": 20 * value,
            "jacobians": 1.0 * ((carried - jacobians).abs() * inside[..., None]).mean(),
        }


@torch.no_grad()
def detector_error(model: LitePuppet, picture: Tensor, points: Tensor, jacobians: Tensor) -> dict[str, float]:
    """Mean error of keypoints, in pixels of the picture, per landmark and over all, and of Jacobians.

    Args:
        picture: (B, 3, S, S).
        points, jacobians: the truth.
    """
    was = model.training
    model.eval()
    found, found_jacobians = model.detect(picture)
    model.train(was)
    pixels = (found - points).norm(dim=-1).mean(0) * (picture.shape[-1] - 1) / 2
    eye = torch.eye(2)
    result = {"mean px": pixels.mean().item()}
    result |= {name + " px": value for name, value in zip(LANDMARKS, pixels.tolist(), strict=True)}
    result["jacobian"] = (eye - inverse_2x2(jacobians) @ found_jacobians).abs().mean().item()
    return result


@torch.no_grad()
def draw_test(count: int, seed: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) of puppets of their own in poses of their own, with exact points and Jacobians."""
    rng = generator(seed)
    identities, motions = draw_identities(count, rng), draw_motions(count, rng)
    drawn = [render(identities[k : k + 1], motions[k : k + 1], size) for k in range(count)]
    return tuple(
        torch.cat([getattr(one, name) for one in drawn]) for name in ("picture", "points", "jacobians")
    )
