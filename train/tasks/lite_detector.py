"""Stage 1: the keypoint detector learns exact landmarks of procedural puppets.

Rendering gives supervision that photographs cannot. The detector finds real eyes, lips and noses
though it never saw one, because blur, noise, tint and random deformations make a photograph one
more style.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.model.geometry import inverse_2x2
from livepuppet.model.lite import LANDMARKS, REFINED_KEYPOINTS, LitePuppet
from livepuppet.train.deform import Deformation, blurred_others, mirror
from livepuppet.train.device import send
from livepuppet.train.losses.reconstruction import downsample
from livepuppet.train.puppets.identities import FACTORS, draw_identities, draw_motions, generator
from livepuppet.train.puppets.pairs import Pairs, Puppets
from livepuppet.train.puppets.renderer import render
from livepuppet.train.tasks.puppets import PuppetTask
from livepuppet.train.webcam import webcam

#: The keypoint that each keypoint becomes in a mirror.
PARTNER = [
    LANDMARKS.index(name.replace("left", "@").replace("right", "left").replace("@", "right"))
    for name in LANDMARKS
]

#: Loss weights by words of landmarks' names: expressive parts move least and matter most. An iris
#: moves by four pixels where a head moves by forty.
_PARTS = {"iris": 4.0, "lid": 3.0, "lip": 2.0, "mouth": 2.0, "brow": 2.0}
WEIGHT = [max((weight for part, weight in _PARTS.items() if part in name), default=1.0) for name in LANDMARKS]

#: Scale of `robust_point_loss`, in [-1, 1] units: one pixel of 256.
TOLERANCE = 0.008

#: Expressions as differences of keypoints: weight, and coefficient of each landmark ("@" is either
#: side).
EXPRESSION_FEATURES = (
    (2.0, {"@ upper lid": 1.0, "@ lower lid": -1.0}),
    (3.0, {"@ iris": 1.0, "@ lower lid": -1.0}),
    (2.5, {"@ brow": 1.0, "@ lower lid": -1.0}),
    (3.5, {"@ mouth corner": 1.0, "upper lip": -0.5, "lower lip": -0.5}),
    (1.5, {"left mouth corner": 1.0, "right mouth corner": -1.0}),
    (1.5, {"upper lip": 1.0, "lower lip": -1.0}),
)

#: Extra weight of falling short of an expression's change. An uncertain detector answers with the
#: mean of what is possible, and the mean of "smiles" and "does not" is half a smile on every face.
UNDERSHOOT = 2.0

#: Weight of changes of occluded facial landmarks.
HIDDEN = 0.3

#: Change of pose (radians, and the logarithm of the scale) at which an expression counts half as
#: much.
TURN = 0.2


def _expression_features() -> tuple[Tensor, Tensor]:
    """Coefficients (F, K) of `EXPRESSION_FEATURES` and weights (F, 1)."""
    rows, weights = [], []
    for weight, parts in EXPRESSION_FEATURES:
        for side in ("left", "right") if any("@" in name for name in parts) else ("",):
            row = torch.zeros(len(LANDMARKS))
            for name, value in parts.items():
                row[LANDMARKS.index(name.replace("@", side))] = value
            rows.append(row)
            weights.append(weight)
    return torch.stack(rows), torch.tensor(weights)[:, None]


def undershoot(found: Tensor, true: Tensor) -> Tensor:
    """By how much changes (..., 2) fall short of the true ones, along these (...,); 0 where they do
    not.
    """
    length = true.norm(dim=-1).clamp_min(1e-6)
    return (length - (found * true).sum(-1) / length).clamp_min(0)


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.expand_as(value).sum().clamp_min(1e-6)


def robust_point_loss(error: Tensor) -> Tensor:
    """Logarithmic in errors above `TOLERANCE`: it matters more that nearly right points become
    right.
    """
    return TOLERANCE * torch.log1p(error / TOLERANCE)


class DetectorTask(PuppetTask):
    """Supervises points, Jacobians, and *changes* of points from one pose of a puppet to another.

    Live, only changes count (FOMM, Eq. 14): a detector may place every lid a pixel too high, but
    must not see half of a blink. Trained on positions alone it does, for the mean is a safe answer.
    So images come in pairs of one puppet, under the same random deformation and different webcam
    effects, and the change between the two is supervised, too; that of facial landmarks relative to
    each other once more, with an asymmetric penalty on falling short.

    Args:
        model: whose `detector` is trained.
        pool: puppets to train on.
        batch: images per step, two of each pair.
    """

    name = "detector"

    def __init__(self, model: LitePuppet, pool: Puppets, batch: int = 32):
        super().__init__(model, pool, batch)
        self.trained = model.detector
        device = next(model.parameters()).device
        self.weight = torch.tensor(WEIGHT, device=device)[None, :, None]
        self.partner = torch.tensor(PARTNER, device=device)
        self.pose = torch.tensor(
            [FACTORS.index(name) for name in ("yaw", "pitch", "roll", "scale")], device=device
        )
        self.parts, self.part_weight = (value.to(device) for value in _expression_features())
        # Occlusion matters for facial landmarks only: those of skull and body can be inferred.
        self.guessed = torch.tensor([k in REFINED_KEYPOINTS for k in range(len(LANDMARKS))], device=device)[
            None, :, None
        ]

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        self.pool.refresh_sometimes(rng)
        pairs = self.pool.pairs(max(1, self.batch // 2), rng, still=0.05, with_flow=False)
        image = torch.cat([pairs.source, pairs.driving])
        image = downsample(image, image.shape[-1] // (self.model.config.size // 2))
        points = torch.cat([pairs.source_points, pairs.driving_points])
        jacobians = torch.cat([pairs.source_jacobians, pairs.driving_jacobians])
        half = len(pairs.source)
        flipped = mirror(image, points, jacobians, PARTNER)
        side = send((torch.rand(half, generator=rng) < 0.5).repeat(2).view(-1, 1, 1), points.device)
        image = torch.where(side[..., None], flipped[0], image)
        points = torch.where(side, flipped[1], points)
        jacobians = torch.where(side[..., None], flipped[2], jacobians)
        change = _deformation(half, rng, points)
        image = webcam(change.warp_image(image, blurred_others(image)), rng)
        # In float32: bfloat16 is too coarse for a soft-argmax that has to locate a lid.
        found, found_jacobians, first = self.model.detector.coarse_and_refined(image)
        weight = self.weight.to(points)
        # Points outside of the image cannot be found.
        inside = (points.abs().amax(-1, keepdim=True) < 1.05).to(points) * change.inside(points)
        # FOMM's Eq. 11 with the truth in place of a detection: T(p') = p, T'(p') J' = J.
        seen = change.points(found)
        error = (seen - points).abs()
        rough = (change.points(first) - points).abs()
        true, shown = points[half:] - points[:half], seen[half:] - seen[:half]
        moved = true - shown
        both = inside[half:] * inside[:half]
        visible = torch.cat([pairs.source_seen, pairs.driving_seen])[..., None]
        # Mirrored with the image.
        visible = torch.where(side, visible.index_select(1, self.partner), visible)
        # An eye behind hair has no change to learn: with full weight the detector learns to hedge
        # everywhere, with none irises wander under closed lids.
        plain = both * torch.where(self.guessed, (visible[half:] * visible[:half]).clamp_min(HIDDEN), 1.0)
        carried = change.jacobians(found.detach()) @ found_jacobians
        # As in Eq. 15: the later Jacobian times the inverse of the first.
        turned = carried[half:] @ inverse_2x2(carried[:half]) - jacobians[half:] @ inverse_2x2(
            jacobians[:half]
        )
        return {
            "points": 10 * _mean(error, weight * inside)
            + 10 * _mean(robust_point_loss(error), weight * inside),
            "coarse points": 5 * _mean(rough, weight * inside),
            "changes": 10 * _mean(moved.abs(), weight * plain)
            + 20 * _mean(robust_point_loss(moved.abs()), weight * plain),
            "expression": self._expression(shown, true, plain, pairs),
            "jacobians": 0.7 * _mean((carried - jacobians).abs(), inside[..., None]),
            "turns": 0.3 * _mean(turned.abs().clamp(max=2), both[..., None]),
        }

    def _expression(self, shown: Tensor, true: Tensor, visible: Tensor, pairs: Pairs) -> Tensor:
        """Changes of lids, irises, brows and lips relative to each other; small ones cost more
        (`UNDERSHOOT`).
        """
        shown, true = self.parts @ shown, self.parts @ true
        # A feature is visible if all its keypoints are.
        hidden = (self.parts != 0).to(visible) @ (1 - visible)
        turned = (pairs.driving_motion.values - pairs.source_motion.values)[:, self.pose].abs().sum(1)
        weight = self.part_weight * (hidden < 0.5) / (1 + (turned / TURN).square())[:, None, None]
        error = (shown - true).abs().sum(-1, keepdim=True) + UNDERSHOOT * undershoot(shown, true)[..., None]
        return 10 * _mean(error, weight)


def _deformation(pairs: int, rng: torch.Generator, like: Tensor) -> Deformation:
    """The same random deformation and framing, good or bad, for both images of each pair: (2 *
    pairs) rows.
    """
    change = Deformation.random(pairs, rng, like, affine=0.06, spline=0.004)
    zoom = Deformation.framing(pairs, rng, like)
    affine = torch.cat(
        [
            zoom.affine[:, :, :2] @ change.affine[:, :, :2],
            (zoom.affine[:, :, :2] @ change.affine[:, :, 2:]) + zoom.affine[:, :, 2:],
        ],
        -1,
    )
    assert change.weights is not None
    return Deformation(affine.repeat(2, 1, 1), change.control, change.weights.repeat(2, 1, 1))


@torch.no_grad()
def detector_error(model: LitePuppet, image: Tensor, points: Tensor, jacobians: Tensor) -> dict[str, float]:
    """Mean error of keypoints, in pixels of the image, per landmark and over all, and of Jacobians.

    Args:
        image: (B, 3, S, S).
        points, jacobians: the truth.
    """
    was = model.training
    model.eval()
    found, found_jacobians = model.detect(image)
    model.train(was)
    pixels = (found - points).norm(dim=-1).mean(0) * (image.shape[-1] - 1) / 2
    eye = torch.eye(2).to(jacobians)
    result = {"mean px": pixels.mean().item()}
    result |= {name + " px": value for name, value in zip(LANDMARKS, pixels.tolist(), strict=True)}
    result["jacobian"] = (eye - inverse_2x2(jacobians) @ found_jacobians).abs().mean().item()
    return result


@torch.no_grad()
def draw_test(count: int, seed: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, S, S) of different puppets in different poses, with exact points and Jacobians."""
    rng = generator(seed)
    identities, motions = draw_identities(count, rng), draw_motions(count, rng)
    drawn = [render(identities[k : k + 1], motions[k : k + 1], size) for k in range(count)]
    images, points, jacobians = (
        torch.cat([getattr(one, name) for one in drawn]) for name in ("picture", "points", "jacobians")
    )
    return images, points, jacobians
