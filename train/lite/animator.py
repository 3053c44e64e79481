"""Stage 2: dense motion and generator learn to move puppets by keypoints, the detector held.

FOMM's losses (multi-scale reconstruction) and what only rendering can give: the true flow, the true visibility, and
pairs across identities: the puppet is driven by *another* puppet's motion under relative transfer (Eq. 14-15), and the
picture it should become is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livepuppet.model.discriminator import Discriminator, DiscriminatorConfig
from livepuppet.model.geometry import gaussian_heatmaps, inverse_2x2, make_grid
from livepuppet.model.lite import LANDMARKS, LitePuppet
from livepuppet.train.deform import webcam
from livepuppet.train.device import grain, send
from livepuppet.train.losses import dissimilarity, gradients, pyramid_l1, shrink, weighted_mean
from livepuppet.train.papers.adversarial import feature_matching, fooled, judged_only, told_apart
from livepuppet.train.puppets.pool import Pairs, PuppetPool

#: Keypoints around which a picture's error counts more, and how much more.
EYES = [k for k, name in enumerate(LANDMARKS) if "iris" in name]
MOUTH = [k for k, name in enumerate(LANDMARKS) if "lip" in name or "mouth" in name]
EYE_WEIGHT, MOUTH_WEIGHT = 8.0, 5.0

#: Shares of steps that paint the whole picture, and, of the others, a window anywhere instead of near the middle.
WHOLE, ANYWHERE = 0.05, 0.25

#: Deviation of keypoints that the driver's detector leaves, in [-1, 1] units.
DETECTOR_NOISE = 0.004

#: Where a pair's driving keypoints come from: shares of another puppet's exact change, and of its own exact change. The
#: others are detected in the driving picture. Exact changes are what a better detector than today's would see: the motion network
#: should believe a small motion of a lip instead of making up for a detector that sees half of it.
OTHERS, OWN = 0.45, 0.25

#: Errors of a flow around this size, in [-1, 1] units, count most: an eighth of a pixel less matters little to the eye, and so
#: does a wrong pixel's being two pixels more wrong.
TOLERANCE = 0.008

#: The discriminator of the last stage, on windows of half the picture's side; and the weights of its two losses. Small against
#: reconstruction: it is to sharpen what is painted, not to invent.
RIVAL = DiscriminatorConfig(expansion=16, maximum=128, blocks=3)
FEATURES, ADVERSARIAL = 1.0, 0.02


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
    # Slices and sums, since a list of indices would be sent to a graphics card each time, which waits for it.
    eyes = torch.stack([points[:, k] for k in EYES], 1)
    mouth = torch.stack([points[:, k] for k in MOUTH], 1).mean(1, keepdim=True)
    eyes = gaussian_heatmaps(eyes, grid, 0.008).amax(1, keepdim=True)
    mouth = gaussian_heatmaps(mouth, grid, 0.016)
    return 1 + EYE_WEIGHT * eyes + MOUTH_WEIGHT * mouth


class AnimatorTask:
    """Move puppets and compare with the truth.

    Args:
        model: whose `motion` and `generator` are trained; its detector is held.
        pool: puppets to train on.
        batch: pairs per step.
        motion_only: train the dense motion network alone, at a quarter of the size (cheap). The pool's pictures may then be
            of half the model's size.
        half: run convolutions in bfloat16, which processors that have it do twice as fast; the rest stays float32.
        adversarial: a discriminator judges what is painted, and its features are matched (FOMM's published `vox-adv` does
            so from a finished training on): for the last part of a training, when pictures are right but soft.
    """

    def __init__(
        self,
        model: LitePuppet,
        pool: PuppetPool,
        batch: int = 8,
        motion_only: bool = False,
        half: bool = True,
        adversarial: bool = False,
    ):
        if motion_only and adversarial:
            raise ValueError("a discriminator judges pictures: the motion network alone makes none")
        self.half = half
        self.model, self.pool, self.batch, self.motion_only = model, pool, batch, motion_only
        self.name = "motion" if motion_only else "polish" if adversarial else "animator"
        device = next(model.parameters()).device
        self.rival = Discriminator(RIVAL).to(device) if adversarial else None
        self._judged: tuple[Tensor, Tensor] | None = None
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
        """Source keypoints as detected; driving ones by exact changes, another puppet's or its own, or as detected (`OTHERS`, `OWN`)."""
        with torch.no_grad():
            factor = pairs.source.shape[-1] // (self.model.config.size // 2)
            source = self.model.detector.from_half(webcam(shrink(pairs.source, factor), rng, 0.3))
            count, place = len(pairs.source), pairs.flow.device
            kind = torch.rand(count, generator=rng)
            other = send(kind < OTHERS, place)[:, None, None]
            exact = (
                *(pairs.source_points, pairs.source_jacobians),
                *(pairs.driving_points, pairs.driving_jacobians),
            )
            exact = [
                torch.where(other if value.dim() == 3 else other[..., None], theirs, value)
                for theirs, value in zip(pairs.others, exact, strict=True)
            ]
            initial, later = exact[:2], exact[2:]
            noise = DETECTOR_NOISE * grain(tuple(later[0].shape), rng, place)
            points, jacobians = transfer(source, initial, (later[0] + noise, later[1]))
            seen = (kind >= OTHERS + OWN).nonzero()[:, 0]
            if len(seen):
                seen = send(seen, place)
                found = self.model.detector.from_half(webcam(shrink(pairs.driving[seen], factor), rng, 0.3))
                points = points.index_copy(0, seen, found[0])
                jacobians = jacobians.index_copy(0, seen, found[1])
            # Nothing moved in a still pair: mostly the same keypoints, as the live tool has on its first frame.
            same = (pairs.source_motion.values == pairs.driving_motion.values).all(1)
            still = (same & send(torch.rand(count, generator=rng) < 0.8, place))[:, None, None]
            points = torch.where(still, source[0], points)
            jacobians = torch.where(still[..., None], source[1], jacobians)
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

    def flow_losses(self, motion: dict[str, Tensor], pairs: Pairs, weight: Tensor) -> dict[str, Tensor]:
        """How far flow, choice of motions and occlusion map are from the truth.

        Args:
            motion: of `DenseMotion`.
            weight: (B, 1, S/4, S/4), more where a face speaks.
        """
        visible = pairs.visible[:, None]
        rest = make_grid(*pairs.flow.shape[1:3], pairs.flow.device)
        moved = (pairs.flow - rest).norm(dim=-1)[:, None]
        error = (motion["deformation"] - pairs.flow).abs().sum(-1)[:, None]
        # What moves counts more than the background, which is half of the picture and easily right; far motions for the
        # distance, near ones for landing where they should.
        far = visible * weight * (0.4 + 1.6 * (moved / 0.1).clamp(max=1))
        # What a face does beside turning is small, short and in few pixels: it counts more again.
        own = (pairs.flow - motion["motions"][:, -1].detach()).norm(dim=-1)[:, None]
        own = (own / 0.02).clamp(max=1) * (moved / 0.01).clamp(max=1)
        near = visible * weight * (0.3 + 1.2 * (moved / 0.02).clamp(max=1) + 5 * own)
        # Each motion on offer, by how well it alone would do: masks learn what a pixel belongs to, instead of mixing wrong
        # motions into a right mean.
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
        source, driving = self.keypoints(pairs, rng)
        visible = pairs.visible[:, None]
        small_weight = importance(pairs.driving_points, visible.shape[-1])
        with torch.autocast(pairs.source.device.type, torch.bfloat16, enabled=self.half):
            thumbnail = shrink(pairs.source, pairs.source.shape[-1] // visible.shape[-1])
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
        parts["gradients"] = 8 * gradients(prediction, target, weight=weight)
        parts["ssim"] = 0.7 * dissimilarity(prediction, target, weight=weight)
        parts["warp"] = 2 * weighted_mean((warped - target).abs(), seen * weight)
        parts["painted"] = 2 * weighted_mean(
            (painted["painted"] - target).abs(), weight * (0.1 + blend.detach())
        )
        # What the avatar shows should come from the avatar: painting it costs a little.
        parts["blend"] = 0.4 * weighted_mean(blend, seen * weight)
        if self.rival is not None:
            self._judged = prediction.detach(), target
            with judged_only(self.rival):
                drawn, verdict = self.rival(prediction)
                with torch.no_grad():
                    real, _ = self.rival(target)
            parts["features"] = FEATURES * feature_matching(real, drawn, [1.0] * len(drawn))
            parts["adversarial"] = ADVERSARIAL * fooled(verdict)
        return parts

    def rival_losses(self) -> dict[str, Tensor]:
        """The discriminator's part, on the pictures that `losses` painted last."""
        prediction, target = self._judged
        _, drawn = self.rival(prediction)
        _, real = self.rival(target)
        return {"rival": told_apart(real, drawn)}
