"""FOMM's training (Siarohin et al., NeurIPS 2019, arXiv 2003.00196, sections 3.2 to 3.4) and its
ablations (Table 1).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from livepuppet.model.base import Model
from livepuppet.model.discriminator import Discriminator, DiscriminatorConfig
from livepuppet.model.geometry import gaussian_heatmaps, make_grid, resize_grid, warp
from livepuppet.model.presets import Preset
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.deform import Deformation
from livepuppet.train.loop.distributed import rank_slice
from livepuppet.train.loop.prefetch import Prefetcher
from livepuppet.train.loop.task import Task
from livepuppet.train.losses.adversarial import (
    discriminator_loss,
    feature_matching,
    frozen,
    generator_loss,
)
from livepuppet.train.losses.equivariance import equivariance_loss
from livepuppet.train.losses.perceptual import PyramidLoss
from livepuppet.train.losses.reconstruction import pyramid_l1
from livepuppet.train.losses.weights import LossWeights

#: The published random deformations: standard deviation of the affine part's six numbers and of the
#: splines' weights, and control points per side.
AFFINE_DEVIATION, SPLINE_DEVIATION, CONTROL_POINTS = 0.05, 0.005, 5

#: Rows of Table 1, each with one thing more than the row before it.
ABLATIONS = ("baseline", "pyramid", "occlusion", "jacobian-without-eq12", "full")


def ablate(preset: Preset, name: str, weights: LossWeights = LossWeights()) -> tuple[Preset, LossWeights]:  # noqa: B008 (frozen)
    """The network and the losses of one row of FOMM's Table 1; each row adds one thing to the row
    before it.

    `baseline`: keypoints without Jacobians, no occlusion map, the loss at full resolution alone;
    `pyramid`: the loss over the pyramid; `occlusion`: the occlusion map; `jacobian-without-eq12`:
    Jacobians that only the images teach; `full`: Jacobians under Eq. 12 as well.

    Args:
        preset: of a first-order model.
        name: one of `ABLATIONS`.
        weights: of the whole method.

    Returns:
        the preset to build, which a checkpoint carries, and the weights to train it with.

    Raises:
        ValueError: there is no such row, or the preset is another kind of network.
    """
    if name not in ABLATIONS:
        raise ValueError(f"no ablation is called '{name}'; there are {', '.join(ABLATIONS)}")
    if preset.kind != "fomm":
        raise ValueError(f"{preset.name} is no first-order model: the ablations of FOMM's Table 1 need one")
    row = ABLATIONS.index(name)
    config = preset.config
    if row < ABLATIONS.index("occlusion"):
        config = replace(config, occlusion=False)
    if row < ABLATIONS.index("jacobian-without-eq12"):
        config = replace(config, jacobian_maps=0)
    if row < ABLATIONS.index("pyramid"):
        weights = replace(weights, pyramid_levels=1)
    if row < ABLATIONS.index("full"):
        weights = replace(weights, equivariance_jacobian=0.0)
    return replace(preset, config=config), weights


class FommTask(Task):
    """Reconstruct the driving frame from another frame of its clip; keypoints follow known
    deformations.

    Losses: perceptual over a pyramid of 1, 1/2, 1/4, 1/8 (Eq. 9); equivariance of points (Eq. 11)
    and of Jacobians (Eq. 12-13); with a discriminator also least-squares adversarial and feature
    matching.

    Several processes draw the same numbers, and each takes its slice of the batch.

    Args:
        model: a first-order model, or any with the three calls and Jacobians.
        data: the clips.
        batch: pairs per step, over all processes.
        weights: of the parts. Without an adversarial loss there is no feature matching either,
            whatever its weights, as in the published code.
        perceptual: of `perceptual.choose`; the substitute if None.
        discriminator: its shape; None for the default one. Built only where `weights.generator_gan`
            is not 0.

    Raises:
        ValueError: the discriminator does not fit on the images, or sees more or fewer keypoints
            than there are.
    """

    name = "fomm"
    model: Model
    discriminator: Discriminator | None
    shared_batches = True

    def __init__(
        self,
        model: Model,
        data: ClipSet | Prefetcher,
        batch: int,
        weights: LossWeights = LossWeights(),  # noqa: B008 (frozen)
        perceptual: nn.Module | None = None,
        discriminator: DiscriminatorConfig | None = None,
    ):
        self.model = self.trained = model
        self.data, self.batch, self.weights = data, batch, weights
        self.prefetcher = data if isinstance(data, Prefetcher) else None
        self.device = next(model.parameters()).device
        self.perceptual = (perceptual or PyramidLoss()).to(self.device)
        self.discriminator = None
        if weights.generator_gan:
            self.discriminator = _build_discriminator(
                model.preset, discriminator or DiscriminatorConfig(), weights
            ).to(self.device)
            size = model.preset.size
            self._grid = make_grid(size, size, self.device)
        self._last: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """Into training mode: batch statistics, and the discriminator's power iteration."""
        self.model.train()
        if self.discriminator is not None:
            self.discriminator.train()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts, weighted, of this process's share of the batch."""
        choices = self.data.draw(self.batch, rng)
        like = torch.empty(0, device=self.device)
        change = Deformation.random(self.batch, rng, like, AFFINE_DEVIATION, SPLINE_DEVIATION, CONTROL_POINTS)
        part = rank_slice(self.batch)
        source, driving = (image.to(self.device) for image in self.data.load(choices[part]))
        change = change.rows(part)

        source_keypoints, keypoints = self.model.detect(source), self.model.detect(driving)
        output = self.model.render(self.model.encode(source), *source_keypoints, *keypoints)
        prediction = output["prediction"].float()
        points, jacobians = keypoints
        self._last = {
            "driving": driving,
            "prediction": prediction.detach(),
            "points": points.detach(),
            "jacobians": jacobians.detach(),
        }

        parts = {}
        if any(self.weights.perceptual):
            parts |= self.perceptual(prediction, driving, self.weights.pyramid_levels)
        if self.weights.warped:
            size = self.model.preset.size
            carried = warp(source, resize_grid(output["deformation"].float(), size, size))
            parts["warped"] = self.weights.warped * pyramid_l1(carried, driving, self.weights.pyramid_levels)
        if self.discriminator is not None:
            parts |= self._adversarial(self.discriminator, prediction, driving, points)
        if self.weights.equivariance_value or self.weights.equivariance_jacobian:
            parts |= self._equivariance(change, driving, points, jacobians)
        return parts

    def discriminator_losses(self) -> dict[str, Tensor]:
        """The discriminator's loss on the images that `losses` saw last."""
        assert self.discriminator is not None
        heatmaps = self._heatmaps(self.discriminator, self._last["points"])
        _, drawn = self.discriminator(self._last["prediction"], heatmaps)
        _, real = self.discriminator(self._last["driving"], heatmaps)
        return {"discriminator": self.weights.discriminator_gan * discriminator_loss(real, drawn)}

    def diagnostics(self) -> dict[str, float]:
        """Of the last batch: `spread`, the mean deviation of the keypoints of one image from each
        other, in units of [-1, 1], and `determinant`, the largest |det J|.
        """
        if not self._last:
            return {}
        points, jacobians = self._last["points"].float(), self._last["jacobians"].float()
        determinant = (
            jacobians[..., 0, 0] * jacobians[..., 1, 1] - jacobians[..., 0, 1] * jacobians[..., 1, 0]
        )
        return {
            "spread": points.std(dim=1, correction=0).mean().item(),
            "determinant": determinant.abs().max().item(),
        }

    def _adversarial(
        self, discriminator: Discriminator, prediction: Tensor, driving: Tensor, points: Tensor
    ) -> dict[str, Tensor]:
        # The keypoints must not learn to please the discriminator.
        heatmaps = self._heatmaps(discriminator, points.detach())
        with frozen(discriminator):
            drawn_maps, drawn = discriminator(prediction, heatmaps)
            with torch.no_grad():
                real_maps, _ = discriminator(driving, heatmaps)
        parts = {"adversarial": self.weights.generator_gan * generator_loss(drawn)}
        if any(self.weights.feature_matching):
            parts["features"] = feature_matching(real_maps, drawn_maps, self.weights.feature_matching)
        return parts

    def _heatmaps(self, discriminator: Discriminator, points: Tensor) -> Tensor | None:
        config = discriminator.config
        return gaussian_heatmaps(points, self._grid, config.variance) if config.heatmaps else None

    def _equivariance(
        self, change: Deformation, driving: Tensor, points: Tensor, jacobians: Tensor
    ) -> dict[str, Tensor]:
        deformed_points, deformed_jacobians = self.model.detect(change.warp_image(driving))
        # In 32 bit whatever the networks run in: keypoints are compared to thousandths of an image.
        with torch.autocast(self.device.type, enabled=False):
            value, jacobian = equivariance_loss(
                change,
                points.float(),
                jacobians.float(),
                deformed_points.float(),
                deformed_jacobians.float(),
            )
        parts = {}
        if self.weights.equivariance_value:
            parts["equivariance value"] = self.weights.equivariance_value * value
        # A network without Jacobians has nothing to learn here.
        if self.weights.equivariance_jacobian and jacobians.requires_grad:
            parts["equivariance jacobian"] = self.weights.equivariance_jacobian * jacobian
        return parts


def _build_discriminator(preset: Preset, config: DiscriminatorConfig, weights: LossWeights) -> Discriminator:
    config.side(preset.size)
    if config.heatmaps not in (0, preset.num_keypoints):
        raise ValueError(
            f"the discriminator sees {config.heatmaps} keypoints and {preset.name} has {preset.num_keypoints}: "
            "give it as many, or none."
        )
    if any(weights.feature_matching) and len(weights.feature_matching) != config.blocks:
        raise ValueError(
            f"{len(weights.feature_matching)} weights of feature matching for {config.blocks} blocks of the "
            "discriminator: give one for each."
        )
    return Discriminator(config)
