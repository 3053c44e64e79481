"""Monkey-Net's training (Siarohin et al., CVPR 2019, arXiv 1812.08861, sections 3.1 to 3.3) and its
ablations (Table 2).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from livepuppet.model.base import Model
from livepuppet.model.discriminator import Discriminator, DiscriminatorConfig
from livepuppet.model.geometry import covariance_heatmaps, make_grid
from livepuppet.model.presets import Preset
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.loop.distributed import rank_slice
from livepuppet.train.loop.prefetch import Prefetcher
from livepuppet.train.loop.task import Task
from livepuppet.train.losses.adversarial import (
    discriminator_loss,
    feature_matching,
    frozen,
    generator_loss,
)
from livepuppet.train.losses.weights import MONKEYNET, LossWeights

#: Table 2's rows -> what is changed in the whole network.
ABLATIONS: dict[str, dict[str, bool]] = {
    "no-flow": {"flow": False},
    "no-residual": {"residual": False},
    "no-coarse": {"coarse": False},
    "no-covariance": {"covariance": False},
    "no-source": {"source_in_motion": False},
    "full": {},
}


def needs_discriminator(weights: LossWeights) -> bool:
    """Whether the weights ask for a discriminator: for anything but the images' own difference."""
    return bool(weights.generator_gan or any(weights.feature_matching[1:]))


def without_discriminator(weights: LossWeights) -> LossWeights:
    """The same weights without a discriminator: half the work per step, and blurred where the
    outcome is open.
    """
    return replace(weights, feature_matching=weights.feature_matching[:1], generator_gan=0.0)


def ablate(preset: Preset, name: str) -> Preset:
    """The network of one row of Monkey-Net's Table 2. Unlike FOMM's table, each row takes one thing
    from the whole.

    `no-flow`: skip connections are not warped; `no-residual`, `no-coarse`: half of the flow;
    `no-covariance`: every keypoint is the same disc; `no-source`: the motion network sees heat-maps
    alone; `full`: everything.

    Raises:
        ValueError: there is no such row, or the preset is another kind of network.
    """
    if name not in ABLATIONS:
        raise ValueError(f"no ablation is called '{name}'; there are {', '.join(ABLATIONS)}")
    if preset.kind != "monkeynet":
        raise ValueError(f"{preset.name} is no Monkey-Net: the ablations of Monkey-Net's Table 2 need one")
    return replace(preset, config=replace(preset.config, **ABLATIONS[name]))


def with_keypoints(preset: Preset, count: int) -> Preset:
    """The preset with another number of unsupervised keypoints, of a first-order model or a
    Monkey-Net.

    Raises:
        ValueError: `count` is below 1, or the keypoints are landmarks with names.
    """
    if count < 1:
        raise ValueError(f"a model needs at least one keypoint, not {count}")
    if preset.keypoint_names:
        raise ValueError(f"the keypoints of {preset.name} are landmarks: their number cannot be changed")
    changes = {"num_keypoints": count}
    # As many maps of Jacobians as keypoints, or one for all of them, or none.
    if getattr(preset.config, "jacobian_maps", 0) > 1:
        changes["jacobian_maps"] = count
    return replace(preset, num_keypoints=count, config=replace(preset.config, **changes))


class MonkeyNetTask(Task):
    """Reconstruct the driving frame from another frame of its clip.

    Losses: L1 of the image and of the discriminator's feature maps (`reconstruction`, Eq. 6), the
    generator's adversarial loss (`adversarial`), and, if weighted, L1 of the warped source
    (`warped`). The discriminator sees heat-maps of the driving keypoints beside the image.
    Keypoints learn from all of the generator's losses, also through the discriminator, but not from
    the discriminator's own.

    Several processes draw the same numbers, and each takes its slice of the batch.

    Args:
        model: a Monkey-Net.
        data: the clips.
        batch: pairs per step, over all processes.
        weights: of the parts. The first of `feature_matching` is the image's; a later one that is
            not 0 needs a discriminator, as `generator_gan` does. Perceptual and equivariance
            weights are not used.
        discriminator: its shape; None for the published one, with as many blocks as there are
            weights for. One that sees keypoints sees all of the model's, whatever number it names.

    Raises:
        ValueError: the model is another kind of network, or the discriminator does not fit on the
            images or the weights.
    """

    name = "monkeynet"
    model: Model
    discriminator: Discriminator | None
    shared_batches = True
    betas = (0.5, 0.999)

    def __init__(
        self,
        model: Model,
        data: ClipSet | Prefetcher,
        batch: int,
        weights: LossWeights = MONKEYNET,
        discriminator: DiscriminatorConfig | None = None,
    ):
        preset = model.preset
        if preset.kind != "monkeynet":
            raise ValueError(f"{preset.name} is no Monkey-Net, whose training this is")
        self.model = self.trained = model
        self.data, self.batch, self.weights = data, batch, weights
        self.prefetcher = data if isinstance(data, Prefetcher) else None
        self.device = next(model.parameters()).device
        self.discriminator = None
        if needs_discriminator(weights):
            config = discriminator or published_discriminator(preset, len(weights.feature_matching) - 1)
            self.discriminator = _build_discriminator(preset, config, weights).to(self.device)
            self._grid = make_grid(preset.size, preset.size, self.device)
        self._last: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """Into training mode."""
        self.model.train()
        if self.discriminator is not None:
            self.discriminator.train()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts, weighted, of this process's share of the batch."""
        choices = self.data.draw(self.batch, rng)[rank_slice(self.batch)]
        source, driving = (image.to(self.device) for image in self.data.load(choices))
        # In one batch, so that both are normalised by the same statistics, which must not move a
        # keypoint.
        points, covariances = self.model.detect(torch.cat([source, driving]))
        (source_points, points), (source_covariances, covariances) = points.chunk(2), covariances.chunk(2)
        output = self.model.render(
            self.model.encode(source), source_points, source_covariances, points, covariances
        )
        prediction = output["prediction"].float()
        self._last = {
            "driving": driving,
            "prediction": prediction.detach(),
            "points": points.detach(),
            "covariances": covariances.detach(),
        }
        weights = self.weights
        if self.discriminator is None:
            parts = {"reconstruction": weights.feature_matching[0] * (prediction - driving).abs().mean()}
        else:
            heatmaps = self._heatmaps(self.discriminator, points, covariances)
            with frozen(self.discriminator):
                drawn_maps, drawn = self.discriminator(prediction, heatmaps)
                with torch.no_grad():
                    real_maps, _ = self.discriminator(driving, heatmaps)
            parts = {"reconstruction": feature_matching(real_maps, drawn_maps, weights.feature_matching)}
            if weights.generator_gan:
                parts["adversarial"] = weights.generator_gan * generator_loss(drawn)
        if weights.warped:
            parts["warped"] = weights.warped * (output["warped"].float() - driving).abs().mean()
        return parts

    def discriminator_losses(self) -> dict[str, Tensor]:
        """The discriminator's loss on the images and keypoints that `losses` saw last."""
        assert self.discriminator is not None
        heatmaps = self._heatmaps(self.discriminator, self._last["points"], self._last["covariances"])
        _, drawn = self.discriminator(self._last["prediction"], heatmaps)
        _, real = self.discriminator(self._last["driving"], heatmaps)
        return {"discriminator": self.weights.discriminator_gan * discriminator_loss(real, drawn)}

    def diagnostics(self) -> dict[str, float]:
        """Of the last batch: `spread`, the mean deviation of the keypoints of one image from each
        other, in units of [-1, 1]. Nothing before the first.
        """
        if not self._last:
            return {}
        return {"spread": self._last["points"].float().std(dim=1, correction=0).mean().item()}

    def _heatmaps(self, discriminator: Discriminator, points: Tensor, covariances: Tensor) -> Tensor | None:
        if not discriminator.config.heatmaps:
            return None
        # In 32 bit whatever the networks run in: inverses of covariances of a pixel's width.
        with torch.autocast(self.device.type, enabled=False):
            return covariance_heatmaps(points.float(), covariances.float(), self._grid)


def published_discriminator(preset: Preset, blocks: int = 4) -> DiscriminatorConfig:
    """Monkey-Net's discriminator for a preset: 32 channels doubling up to 256, and a heat-map for
    every keypoint.
    """
    return DiscriminatorConfig.monkeynet(
        expansion=32, maximum=256, blocks=blocks, heatmaps=preset.num_keypoints
    )


def _build_discriminator(preset: Preset, config: DiscriminatorConfig, weights: LossWeights) -> Discriminator:
    config.side(preset.size)
    if config.heatmaps:
        config = replace(config, heatmaps=preset.num_keypoints)
    maps = config.blocks + config.image_first
    if len(weights.feature_matching) != maps:
        raise ValueError(
            f"{len(weights.feature_matching)} weights of the reconstruction for {maps} maps of the discriminator: "
            "give one for each."
        )
    return Discriminator(config)
