"""Stage 2: dense motion and generator learn to move puppets by keypoints, the detector held.

FOMM's losses (multi-scale reconstruction) and what only rendering can give: the true flow, the true visibility, and
pairs across identities: the puppet is driven by *another* puppet's motion under relative transfer (Eq. 14-15), and the
picture it should become is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.geometry import gaussian_heatmaps, inverse_2x2, make_grid
from livepuppet.model.lite import LANDMARKS, LitePuppet
from livepuppet.train.deform import webcam
from livepuppet.train.losses import dissimilarity, gradients, pyramid_l1, shrink, weighted_mean
from livepuppet.train.puppets.pool import Pairs, PuppetPool
from livepuppet.train.puppets.rig import landmarks

#: Keypoints around which a picture's error counts more, and how much more.
EYES = [k for k, name in enumerate(LANDMARKS) if "iris" in name]
MOUTH = [k for k, name in enumerate(LANDMARKS) if "lip" in name or "mouth" in name]
EYE_WEIGHT, MOUTH_WEIGHT = 8.0, 5.0

#: Shares of steps that paint the whole picture, and, of the others, a window anywhere instead of near the middle.
WHOLE, ANYWHERE = 0.05, 0.25

#: Deviation of keypoints that the driver's detector leaves, in [-1, 1] units.
DETECTOR_NOISE = 0.004


def spread(points: Tensor) -> Tensor:
    """A length (B,) that grows with the keypoint set as the square root of its hull's area does: det(cov)^(1/4)."""
    centred = points - points.mean(1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / points.shape[1]
    return (
        (covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1].square()).clamp_min(1e-8).pow(0.25)
    )


def transfer(
    avatar: tuple[Tensor, Tensor], initial: tuple[Tensor, Tensor], driving: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Relative transfer in batches (FOMM, Eq. 14-15), each argument points (B, K, 2) and Jacobians (B, K, 2, 2)."""
    scale = (spread(avatar[0]) / spread(initial[0]))[:, None, None]
    points = avatar[0] + scale * (driving[0] - initial[0])
    return points, driving[1] @ inverse_2x2(initial[1]) @ avatar[1]


def importance(points: Tensor, size: int) -> Tensor:
    """Loss weights (B, 1, size, size): 1, more around eyes and mouth."""
    grid = make_grid(size, size, points.device)
    eyes = gaussian_heatmaps(points[:, EYES], grid, 0.008).amax(1, keepdim=True)
    mouth = gaussian_heatmaps(points[:, MOUTH].mean(1, keepdim=True), grid, 0.016)
    return 1 + EYE_WEIGHT * eyes + MOUTH_WEIGHT * mouth


class AnimatorTask:
    """Move puppets and compare with the truth.

    Args:
        model: whose `motion` and `generator` are trained; its detector is held.
        pool: puppets to train on.
        batch: pairs per step.
        motion_only: train the dense motion network alone, at a quarter of the size (cheap).
        half: run convolutions in bfloat16, which processors that have it do twice as fast; the rest stays float32.
    """

    def __init__(
        self,
        model: LitePuppet,
        pool: PuppetPool,
        batch: int = 8,
        motion_only: bool = False,
        half: bool = True,
    ):
        self.half = half
        self.model, self.pool, self.batch, self.motion_only = model, pool, batch, motion_only
        self.name = "motion" if motion_only else "animator"
        self.trained = torch.nn.ModuleList([model.motion] + ([] if motion_only else [model.generator]))
        model.detector.requires_grad_(False)

    def prepare(self) -> None:
        """Modes: the detector's statistics stay, and so do the motion network's once pictures are trained."""
        self.model.train()
        self.model.detector.eval()
        if not self.motion_only:
            self.model.motion.eval()

    def keypoints(
        self, pairs: Pairs, rng: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Source and driving keypoints: as detected, or carried over from another puppet in the same motion."""
        with torch.no_grad():
            source = self.model.detector.from_half(webcam(shrink(pairs.source, 2), rng, 0.3))
            driving = self.model.detector.from_half(webcam(shrink(pairs.driving, 2), rng, 0.3))
            # Nothing moved in a still pair: the same keypoints, as the live tool has on its first frame.
            still = (pairs.source_motion.values == pairs.driving_motion.values).all(1)[:, None, None]
            other = torch.roll(torch.arange(len(pairs.identity)), 1)
            driver = pairs.identity[other]
            initial, later = landmarks(driver, pairs.source_motion), landmarks(driver, pairs.driving_motion)
            noise = DETECTOR_NOISE * torch.randn(later[0].shape, generator=rng)
            cross = transfer(source, initial, (later[0] + noise, later[1]))
            use_cross = (torch.rand(len(driver), generator=rng) < 0.5)[:, None, None]
            half_still = still & (torch.rand(len(driver), 1, 1, generator=rng) < 0.7)
            points = torch.where(use_cross, cross[0], driving[0])
            jacobians = torch.where(use_cross[..., None], cross[1], driving[1])
            points = torch.where(half_still, source[0], points)
            jacobians = torch.where(half_still[..., None], source[1], jacobians)
        return source, (points, jacobians)

    def window(self, rng: torch.Generator, cells: int) -> tuple[int, int, int]:
        """A square (top, left, side) of half of `cells` a side to paint: a quarter of the work, mostly on the face; the whole now and then."""
        if torch.rand((), generator=rng) < WHOLE:
            return 0, 0, cells
        half = cells // 2
        if torch.rand((), generator=rng) < ANYWHERE:
            low, high = 0, half
        else:
            low, high = half // 4, 3 * half // 4
        top, left = torch.randint(low, high + 1, (2,), generator=rng).tolist()
        return top, left, half

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        self.pool.refresh_sometimes(rng)
        pairs = self.pool.pairs(self.batch, rng)
        source, driving = self.keypoints(pairs, rng)
        visible = pairs.visible[:, None]
        small_weight = importance(pairs.driving_points, visible.shape[-1])
        with torch.autocast(pairs.source.device.type, torch.bfloat16, enabled=self.half):
            motion = self.model.motion(shrink(pairs.source, 4), *source, *driving)
            if not self.motion_only:
                window = self.window(rng, visible.shape[-1])
                features = self.model.generator.encode(pairs.source)
                painted = self.model.generator(features, pairs.source, motion, window)
        error = (motion["deformation"] - pairs.flow).abs().sum(-1)[:, None]
        # What moves counts more than the background, which is half of the picture and easily right.
        rest = make_grid(*pairs.flow.shape[1:3], pairs.flow.device)
        moving = ((pairs.flow - rest).norm(dim=-1)[:, None] / 0.1).clamp(max=1)
        parts = {
            "flow": 6 * weighted_mean(error.clamp(max=0.5), visible * small_weight * (0.4 + 1.6 * moving)),
            "occlusion": 0.2 * F.binary_cross_entropy(motion["occlusion_map"], visible, weight=small_weight),
        }
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
        parts["gradients"] = 8 * gradients(prediction, target, weight=weight)
        parts["ssim"] = 0.7 * dissimilarity(prediction, target, weight=weight)
        parts["warp"] = 2 * weighted_mean((warped - target).abs(), seen * weight)
        parts["painted"] = 2 * weighted_mean(
            (painted["painted"] - target).abs(), weight * (0.1 + blend.detach())
        )
        # What the avatar shows should come from the avatar: painting it costs a little.
        parts["blend"] = 0.4 * weighted_mean(blend, seen * weight)
        return parts
