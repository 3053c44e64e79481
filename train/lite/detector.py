"""Stage 1: the keypoint detector learns exact landmarks of procedural puppets.

Minutes on a CPU. Supervision only rendering can give: real eyes, lips and noses are found afterwards though none was
ever seen, because blur, noise, tint and random deformation make a photograph one more style.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livepuppet.model.geometry import inverse_2x2
from livepuppet.model.lite import CLOSE, LANDMARKS, LitePuppet
from livepuppet.train.deform import Deformation, blurred_others, mirror, webcam
from livepuppet.train.device import send
from livepuppet.train.losses import shrink
from livepuppet.train.puppets.identities import FACTORS, draw_identities, draw_motions, generator
from livepuppet.train.puppets.pairs import Pairs
from livepuppet.train.puppets.pool import PuppetPool
from livepuppet.train.puppets.renderer import render

#: The keypoint that each keypoint becomes in a mirror.
PARTNER = [
    LANDMARKS.index(name.replace("left", "@").replace("right", "left").replace("@", "right"))
    for name in LANDMARKS
]

#: By what a face speaks moves least and matters most: an iris goes four pixels where a head goes forty.
_PARTS = {"iris": 4.0, "lid": 3.0, "lip": 2.0, "mouth": 2.0, "brow": 2.0}
WEIGHT = [max((weight for part, weight in _PARTS.items() if part in name), default=1.0) for name in LANDMARKS]

#: Errors around this size, in [-1, 1] units, count most (one pixel of 256): beyond, a wrong point's being more wrong matters less than
#: a nearly right one's landing.
TOLERANCE = 0.008

#: What a face says by, as differences of keypoints: weight, and coefficient of each landmark ("@" is either side).
_SAYINGS = (
    (2.0, {"@ upper lid": 1.0, "@ lower lid": -1.0}),
    (3.0, {"@ iris": 1.0, "@ lower lid": -1.0}),
    (2.5, {"@ brow": 1.0, "@ lower lid": -1.0}),
    (3.5, {"@ mouth corner": 1.0, "upper lip": -0.5, "lower lip": -0.5}),
    (1.5, {"left mouth corner": 1.0, "right mouth corner": -1.0}),
    (1.5, {"upper lip": 1.0, "lower lip": -1.0}),
)

#: How much dearer it is to see less of such a change than there is than to see more. A detector that is not sure answers with the
#: middle of what might be, and the middle between "smiles" and "does not" is half a smile, on every face.
UNDERSHOOT = 2.0

#: Weight of changes of a face's parts that cannot be seen.
HIDDEN = 0.3

#: Change of pose (radians, and the logarithm of the scale) beside which an expression counts half as much.
TURN = 0.2


def _sayings() -> tuple[Tensor, Tensor]:
    """Coefficients (F, K) of `_SAYINGS` and weights (F, 1)."""
    rows, weights = [], []
    for weight, parts in _SAYINGS:
        for side in ("left", "right") if any("@" in name for name in parts) else ("",):
            row = torch.zeros(len(LANDMARKS))
            for name, value in parts.items():
                row[LANDMARKS.index(name.replace("@", side))] = value
            rows.append(row)
            weights.append(weight)
    return torch.stack(rows), torch.tensor(weights)[:, None]


def undershoot(found: Tensor, true: Tensor) -> Tensor:
    """How far changes (..., 2) fall short of the true ones along these (...,); 0 where they go as far, or farther."""
    length = true.norm(dim=-1).clamp_min(1e-6)
    return (length - (found * true).sum(-1) / length).clamp_min(0)


def _mean(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.expand_as(value).sum().clamp_min(1e-6)


def _landing(error: Tensor) -> Tensor:
    return TOLERANCE * torch.log1p(error / TOLERANCE)


class DetectorTask:
    """Points and Jacobians against the exact ones, and *changes* of points from one pose of a puppet to another.

    Live, only changes count (FOMM, Eq. 14): a detector may place every lid of a face a pixel too high, but not see half of a
    blink. Trained on places alone it does, for a mean place is a safe answer. So pictures come in pairs of one puppet, under one
    random deformation and different webcam effects, and the difference of the answers is held against the true one; that of a
    face's parts against each other once more, where falling short is dearer than going too far.

    Args:
        model: whose `detector` is trained.
        pool: puppets to train on.
        batch: pictures per step, half of them first and half of them second ones of a pair.
    """

    name = "detector"

    def __init__(self, model: LitePuppet, pool: PuppetPool, batch: int = 32):
        self.model, self.pool, self.batch = model, pool, batch
        self.trained = model.detector
        device = next(model.parameters()).device
        self.weight = torch.tensor(WEIGHT, device=device)[None, :, None]
        self.partner = torch.tensor(PARTNER, device=device)
        self.pose = torch.tensor(
            [FACTORS.index(name) for name in ("yaw", "pitch", "roll", "scale")], device=device
        )
        self.parts, self.part_weight = (value.to(device) for value in _sayings())
        # Skull and body are felt through hair and hats; a face's parts are seen or guessed.
        self.guessed = torch.tensor([k in CLOSE for k in range(len(LANDMARKS))], device=device)[None, :, None]

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        self.pool.refresh_sometimes(rng)
        pairs = self.pool.pairs(max(1, self.batch // 2), rng, still=0.05, with_flow=False)
        picture = torch.cat([pairs.source, pairs.driving])
        picture = shrink(picture, picture.shape[-1] // (self.model.config.size // 2))
        points = torch.cat([pairs.source_points, pairs.driving_points])
        jacobians = torch.cat([pairs.source_jacobians, pairs.driving_jacobians])
        half = len(pairs.source)
        flipped = mirror(picture, points, jacobians, PARTNER)
        side = send((torch.rand(half, generator=rng) < 0.5).repeat(2).view(-1, 1, 1), points.device)
        picture = torch.where(side[..., None], flipped[0], picture)
        points = torch.where(side, flipped[1], points)
        jacobians = torch.where(side[..., None], flipped[2], jacobians)
        change = _deformation(half, rng, points)
        picture = webcam(change.picture(picture, blurred_others(picture)), rng)
        # In float32: bfloat16's eight bits are too few for a soft-argmax that is to find a lid's height.
        found, found_jacobians, first = self.model.detector.with_first_look(picture)
        weight = self.weight.to(points)
        # What the puppet's own picture or the new framing cut away, nobody can find.
        inside = (points.abs().amax(-1, keepdim=True) < 1.05).to(points) * change.inside(points)
        # Eq. 11 with the truth in place of the detector's own answer: T(p') = p, T'(p') J' = J.
        seen = change.points(found)
        error = (seen - points).abs()
        rough = (change.points(first) - points).abs()
        true, shown = points[half:] - points[:half], seen[half:] - seen[:half]
        moved = true - shown
        both = inside[half:] * inside[:half]
        visible = torch.cat([pairs.source_seen, pairs.driving_seen])[..., None]
        # Mirrored with the picture.
        visible = torch.where(side, visible.index_select(1, self.partner), visible)
        # An eye behind hair has no change to be learnt: asked for one, the detector learns to hedge everywhere. Asked for nothing,
        # it lets irises dance under closed lids.
        plain = both * torch.where(self.guessed, (visible[half:] * visible[:half]).clamp_min(HIDDEN), 1.0)
        carried = change.jacobians(found.detach()) @ found_jacobians
        # As Eq. 15 uses them: the later by the inverse of the first.
        turned = carried[half:] @ inverse_2x2(carried[:half]) - jacobians[half:] @ inverse_2x2(
            jacobians[:half]
        )
        return {
            "points": 10 * _mean(error, weight * inside) + 10 * _mean(_landing(error), weight * inside),
            "first look": 5 * _mean(rough, weight * inside),
            "changes": 10 * _mean(moved.abs(), weight * plain)
            + 20 * _mean(_landing(moved.abs()), weight * plain),
            "expression": self._expression(shown, true, plain, pairs),
            "jacobians": 0.7 * _mean((carried - jacobians).abs(), inside[..., None]),
            "turns": 0.3 * _mean(turned.abs().clamp(max=2), both[..., None]),
        }

    def _expression(self, shown: Tensor, true: Tensor, visible: Tensor, pairs: Pairs) -> Tensor:
        """What a face says: changes of lids, irises, brows and lips against each other, too small ones dearer (`UNDERSHOOT`)."""
        shown, true = self.parts @ shown, self.parts @ true
        # A part is seen if all its keypoints are.
        hidden = (self.parts != 0).to(visible) @ (1 - visible)
        turned = (pairs.driving_motion.values - pairs.source_motion.values)[:, self.pose].abs().sum(1)
        weight = self.part_weight * (hidden < 0.5) / (1 + (turned / TURN).square())[:, None, None]
        error = (shown - true).abs().sum(-1, keepdim=True) + UNDERSHOOT * undershoot(shown, true)[..., None]
        return 10 * _mean(error, weight)


def _deformation(pairs: int, rng: torch.Generator, like: Tensor) -> Deformation:
    """The same random deformation and framing, good or bad, for both pictures of each pair: (2 * pairs) rows."""
    change = Deformation.random(pairs, rng, like, affine=0.06, spline=0.004)
    zoom = Deformation.framing(pairs, rng, like)
    affine = torch.cat(
        [
            zoom.affine[:, :, :2] @ change.affine[:, :, :2],
            (zoom.affine[:, :, :2] @ change.affine[:, :, 2:]) + zoom.affine[:, :, 2:],
        ],
        -1,
    )
    return Deformation(affine.repeat(2, 1, 1), change.control, change.weights.repeat(2, 1, 1))


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
    eye = torch.eye(2).to(jacobians)
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
