"""Stages 2 to 4: dense motion and generator learn to animate puppets; the detector is frozen.

FOMM's multi-scale reconstruction, and what only rendering can give: the true flow, the true
visibility, and cross-identity pairs, in which the puppet is driven by *another* puppet's motion
under relative transfer (Eq. 14-15) and the result is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.discriminator import Discriminator, DiscriminatorConfig
from livepuppet.model.geometry import gaussian_heatmaps, make_grid
from livepuppet.model.lite import LANDMARKS, LitePuppet
from livepuppet.model.transfer import Keypoints, transfer
from livepuppet.train.device import grain, send
from livepuppet.train.losses.adversarial import (
    discriminator_loss,
    feature_matching,
    frozen,
    generator_loss,
)
from livepuppet.train.losses.reconstruction import (
    downsample,
    gradient_loss,
    pyramid_l1,
    ssim_loss,
    weighted_mean,
)
from livepuppet.train.puppets.pairs import Pairs, Puppets
from livepuppet.train.tasks.puppets import PuppetTask
from livepuppet.train.webcam import webcam

#: Keypoints around which an image's error has more weight, and how much more.
EYES = [k for k, name in enumerate(LANDMARKS) if "iris" in name]
MOUTH = [k for k, name in enumerate(LANDMARKS) if "lip" in name or "mouth" in name]
EYE_WEIGHT, MOUTH_WEIGHT = 8.0, 5.0

#: Share of steps that generate the whole image; of the others, share of windows anywhere instead of
#: near the centre.
WHOLE, ANYWHERE = 0.05, 0.25

#: Standard deviation of the driving keypoints' noise, as left by a detector, in [-1, 1] units.
DETECTOR_NOISE = 0.004

#: Sources of driving keypoints: share of another puppet's exact change, and of the same puppet's
#: exact change; the rest is detected in the driving image. Exact changes are what a perfect
#: detector would see: the motion network should trust small motions of a lip instead of amplifying
#: what a detector misses.
CROSS_IDENTITY, SAME_IDENTITY = 0.45, 0.25

#: Scale of the robust flow loss, in [-1, 1] units: one pixel of 256.
TOLERANCE = 0.008

#: The discriminator of the last stage, on windows of half the image's side, and the weights of its
#: two losses: small, so that it sharpens without inventing.
DISCRIMINATOR = DiscriminatorConfig(expansion=16, maximum=128, blocks=3)
FEATURES, ADVERSARIAL = 1.0, 0.02


def keypoint_scale(points: Tensor) -> Tensor:
    """Scale (B,) of a keypoint set, proportional to the square root of its hull's area:
    det(cov)^(1/4).
    """
    centred = points - points.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / points.shape[1]
    return (
        (covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1].square()).clamp_min(1e-8).pow(0.25)
    )


def scaled_transfer(driving: Keypoints, initial: Keypoints, avatar: Keypoints) -> Keypoints:
    """Eq. 14-15 with the movement scaled by the two sets' sizes, as live; by their spread instead
    of their convex hulls, which cannot be computed in batches.
    """
    scale = (keypoint_scale(avatar[0]) / keypoint_scale(initial[0]))[:, None, None]
    return transfer(driving, initial, avatar, scale)


def importance(points: Tensor, size: int) -> Tensor:
    """Loss weights (B, 1, size, size): 1, more around eyes and mouth."""
    grid = make_grid(size, size, points.device)
    # Slices, because a list of indices would be copied to the GPU in every call, which stalls the
    # stream.
    eyes = torch.stack([points[:, k] for k in EYES], 1)
    mouth = torch.stack([points[:, k] for k in MOUTH], 1).mean(1, keepdim=True)
    eyes = gaussian_heatmaps(eyes, grid, 0.008).amax(1, keepdim=True)
    mouth = gaussian_heatmaps(mouth, grid, 0.016)
    return 1 + EYE_WEIGHT * eyes + MOUTH_WEIGHT * mouth


class AnimatorTask(PuppetTask):
    """Animates puppets and compares with the truth.

    Args:
        model: whose `motion` and `generator` are trained; its detector is frozen.
        pool: puppets to train on.
        batch: pairs per step.
        motion_only: train the dense motion network alone, at a quarter of the size. The pool's
            images may then have half the model's size.
        half: run convolutions in bfloat16, twice as fast on CPUs that have it; the rest stays
            float32.
        adversarial: with a discriminator and feature matching, for the last stage, when images are
            right but soft (FOMM's published `vox-adv` likewise continues a finished training).
    """

    discriminator: Discriminator | None

    def __init__(
        self,
        model: LitePuppet,
        pool: Puppets,
        batch: int = 8,
        motion_only: bool = False,
        half: bool = True,
        adversarial: bool = False,
    ):
        if motion_only and adversarial:
            raise ValueError("a discriminator judges images: the motion network alone makes none")
        self.half = half
        super().__init__(model, pool, batch)
        self.motion_only = motion_only
        self.name = "motion" if motion_only else "polish" if adversarial else "animator"
        device = next(model.parameters()).device
        self.discriminator = Discriminator(DISCRIMINATOR).to(device) if adversarial else None
        self._last: tuple[Tensor, Tensor] | None = None
        self.trained = torch.nn.ModuleList([model.motion] + ([] if motion_only else [model.generator]))
        model.detector.requires_grad_(False)

    def prepare(self) -> None:
        """Hold the detector's batch statistics, and the motion network's once images are trained."""
        self.model.train()
        self.model.detector.eval()
        if not self.motion_only:
            self.model.motion.eval()

    def keypoints(
        self, pairs: Pairs, rng: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Source keypoints as detected; driving ones by exact changes or as detected (see
        `CROSS_IDENTITY`).
        """
        assert pairs.others is not None
        with torch.no_grad():
            factor = pairs.source.shape[-1] // (self.model.config.size // 2)
            source = self.model.detector.from_half(webcam(downsample(pairs.source, factor), rng, 0.3))
            count, place = len(pairs.source), pairs.source.device
            kind = torch.rand(count, generator=rng)
            other = send(kind < CROSS_IDENTITY, place)[:, None, None]
            exact = (
                *(pairs.source_points, pairs.source_jacobians),
                *(pairs.driving_points, pairs.driving_jacobians),
            )
            mixed = [
                torch.where(other if value.dim() == 3 else other[..., None], theirs, value)
                for theirs, value in zip(pairs.others, exact, strict=True)
            ]
            initial, later = (mixed[0], mixed[1]), (mixed[2], mixed[3])
            noise = DETECTOR_NOISE * grain(tuple(later[0].shape), rng, place)
            points, jacobians = scaled_transfer((later[0] + noise, later[1]), initial, source)
            seen = (kind >= CROSS_IDENTITY + SAME_IDENTITY).nonzero()[:, 0]
            if len(seen):
                seen = send(seen, place)
                found = self.model.detector.from_half(
                    webcam(downsample(pairs.driving[seen], factor), rng, 0.3)
                )
                points = points.index_copy(0, seen, found[0])
                jacobians = jacobians.index_copy(0, seen, found[1])
            # Still pairs mostly get identical keypoints, as live in the first frame.
            same = (pairs.source_motion.values == pairs.driving_motion.values).all(1)
            still = (same & send(torch.rand(count, generator=rng) < 0.8, place))[:, None, None]
            points = torch.where(still, source[0], points)
            jacobians = torch.where(still[..., None], source[1], jacobians)
        return source, (points, jacobians)

    def window(self, rng: torch.Generator, cells: int) -> tuple[int, int, int]:
        """A window (top, left, side) of half of `cells`, mostly on the face; now and then all of
        them.
        """
        if torch.rand((), generator=rng) < WHOLE:
            return 0, 0, cells
        half = cells // 2
        if torch.rand((), generator=rng) < ANYWHERE:
            low, high = 0, half
        else:
            low, high = half // 4, 3 * half // 4
        top, left = torch.randint(low, high + 1, (2,), generator=rng).tolist()
        return top, left, half

    def flow_losses(self, motion: dict[str, Tensor], pairs: Pairs, weight: Tensor) -> dict[str, Tensor]:
        """Losses of flow, masks and occlusion map against the truth.

        Args:
            motion: of `DenseMotion`.
            weight: (B, 1, S/4, S/4) of `importance`.
        """
        assert pairs.flow is not None and pairs.visible is not None
        visible = pairs.visible[:, None]
        side = pairs.flow.shape[1]
        rest = make_grid(side, side, pairs.flow.device)
        moved = (pairs.flow - rest).norm(dim=-1)[:, None]
        error = (motion["deformation"] - pairs.flow).abs().sum(-1)[:, None]
        # Motion has more weight than the background, which is half of the image and easy. L1 is
        # dominated by large motions, the logarithm by precision.
        far = visible * weight * (0.4 + 1.6 * (moved / 0.1).clamp(max=1))
        # Non-rigid motion of a face is small and in few pixels: more weight again.
        own = (pairs.flow - motion["motions"][:, -1].detach()).norm(dim=-1)[:, None]
        own = (own / 0.02).clamp(max=1) * (moved / 0.01).clamp(max=1)
        near = visible * weight * (0.3 + 1.2 * (moved / 0.02).clamp(max=1) + 5 * own)
        # Each candidate motion by its own error: masks learn what a pixel belongs to, instead of
        # mixing wrong motions into a right mean.
        still = rest.expand_as(pairs.flow)[:, None]
        offered = torch.cat([motion["motions"], still], 1) - pairs.flow[:, None]
        alone = torch.log1p(offered.abs().sum(-1) / TOLERANCE)
        return {
            "flow": 5 * weighted_mean(error.clamp(max=0.5), far),
            "landing": 0.25 * weighted_mean(torch.log1p(error / TOLERANCE), near),
            "choice": 0.1 * weighted_mean((motion["mask"] * alone).sum(1, keepdim=True), near),
            "occlusion": 0.2
            * F.binary_cross_entropy(motion["occlusion_map"].float(), visible, weight=weight),
        }

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        self.pool.refresh_sometimes(rng)
        pairs = self.pool.pairs(self.batch, rng)
        assert pairs.visible is not None
        source, driving = self.keypoints(pairs, rng)
        visible = pairs.visible[:, None]
        small_weight = importance(pairs.driving_points, visible.shape[-1])
        with torch.autocast(pairs.source.device.type, torch.bfloat16, enabled=self.half):
            thumbnail = downsample(pairs.source, pairs.source.shape[-1] // visible.shape[-1])
            motion = self.model.motion(thumbnail, *source, *driving)
            if not self.motion_only:
                window = self.window(rng, visible.shape[-1])
                features = self.model.generator.encode(pairs.source)
                painted = self.model.generator(features, pairs.source, motion, window)
        parts = self.flow_losses(motion, pairs, small_weight)
        if self.motion_only:
            return parts
        top, left, cells = window
        rows, columns = slice(4 * top, 4 * (top + cells)), slice(4 * left, 4 * (left + cells))
        target = pairs.driving[:, :, rows, columns]
        weight = importance(pairs.driving_points, pairs.driving.shape[-1])[:, :, rows, columns]
        seen = visible[:, :, top : top + cells, left : left + cells]
        seen = F.interpolate(seen, scale_factor=4.0, mode="nearest")
        prediction, warped, blend = painted["prediction"], painted["warped"], painted["blend"]
        parts["pyramid"] = 10 * pyramid_l1(prediction, target, weight=weight)
        parts["gradients"] = 8 * gradient_loss(prediction, target, weight=weight)
        parts["ssim"] = 0.7 * ssim_loss(prediction, target, weight=weight)
        parts["warp"] = 2 * weighted_mean((warped - target).abs(), seen * weight)
        parts["painted"] = 2 * weighted_mean(
            (painted["painted"] - target).abs(), weight * (0.1 + blend.detach())
        )
        # What the avatar shows should come from the avatar: generating it costs a little.
        parts["blend"] = 0.4 * weighted_mean(blend, seen * weight)
        if self.discriminator is not None:
            self._last = prediction.detach(), target
            with frozen(self.discriminator):
                drawn, verdict = self.discriminator(prediction)
                with torch.no_grad():
                    real, _ = self.discriminator(target)
            parts["features"] = FEATURES * feature_matching(real, drawn, [1.0] * len(drawn))
            parts["adversarial"] = ADVERSARIAL * generator_loss(verdict)
        return parts

    def discriminator_losses(self) -> dict[str, Tensor]:
        """The discriminator's loss on the images that `losses` generated last."""
        assert self.discriminator is not None and self._last is not None
        prediction, target = self._last
        _, drawn = self.discriminator(prediction)
        _, real = self.discriminator(target)
        return {"discriminator": discriminator_loss(real, drawn)}
