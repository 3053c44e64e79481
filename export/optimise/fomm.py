"""The first-order model in forms that cost less. Every class here computes what the one that it replaces does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.export.optimise.convolutions import aligned, joined, missing, taking
from livepuppet.export.optimise.planes import affine_planes, blended
from livepuppet.export.optimise.sampling import Grid, Patches, Rows
from livepuppet.model.dense_motion import DenseMotion
from livepuppet.model.generator import Generator
from livepuppet.model.geometry import gaussian_heatmaps, in_float32, inverse_2x2
from livepuppet.model.keypoint_detector import KeypointDetector


class JoinedDetector(nn.Module):
    """`KeypointDetector` with both heads in one convolution.

    Args:
        detector: what is replaced.
        fill: fill its inputs up to a multiple of four channels.
    """

    def __init__(self, detector: KeypointDetector, fill: bool):
        super().__init__()
        self.temperature = detector.temperature
        self.jacobian_maps = detector.jacobian_maps
        self.keypoints = detector.kp.out_channels
        self.down = detector.down
        self.predictor = detector.predictor
        self.fill = missing(detector.kp.in_channels) if fill else 0
        self.heads = aligned(joined(detector.kp, detector.jacobian), self.fill)
        self.register_buffer("grid", detector.grid, persistent=False)

    @in_float32
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `KeypointDetector` returns."""
        features = self.predictor(self.down(frames))
        maps = self.heads(F.pad(features, (0, 0, 0, 0, 0, self.fill)))
        logits, maps = maps[:, : self.keypoints], maps[:, self.keypoints :]
        batch, keypoints, height, width = logits.shape
        heatmaps = torch.softmax(logits.flatten(2) / self.temperature, dim=2)
        # Sums over pixels as matrix products: of the grid, and of each keypoint's maps.
        points = heatmaps @ self.grid.flatten(0, 1)
        maps = maps.reshape(batch, self.jacobian_maps, 4, height * width)
        jacobians = (maps @ heatmaps[..., None]).reshape(batch, keypoints, 2, 2)
        return points, jacobians, heatmaps.reshape(logits.shape), logits


class PlanarMotion(nn.Module):
    """`DenseMotion` by planes: x and y of each motion apart, each a row and a column added. A batch is of one.

    Args:
        motion: what is replaced.
        gathers: sample the thumbnail by `Patches`, of which `thumbnail` then returns the table.
    """

    def __init__(self, motion: DenseMotion, gathers: bool):
        super().__init__()
        self.variance = motion.variance
        self.down = motion.down
        self.hourglass = motion.hourglass
        self.sampling = (Patches if gathers else Grid)(motion.grid.shape[0], "zeros")
        self.heads = joined(motion.mask, motion.occlusion) if motion.occlusion is not None else motion.mask
        self.register_buffer("grid", motion.grid, persistent=False)
        # As published, the evidence is a heat-map and three colours per candidate. Here all heat-maps come first, then
        # all reds, all greens, all blues. The first convolution sees it, and the heads by the last skip.
        count = motion.mask.out_channels
        order = torch.arange(4 * count).reshape(count, 4).t().flatten()
        first = self.hourglass.encoder.down_blocks[0]
        first.conv = taking(first.conv, order)
        before = self.heads.in_channels - 4 * count
        self.heads = taking(self.heads, torch.cat([torch.arange(before), before + order]))

    def thumbnail(self, avatars: Tensor) -> Tensor:
        """See `DenseMotion.thumbnail`; a table where gathers are used."""
        return self.sampling.table(self.down(avatars))

    @in_float32
    def planes(
        self,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """x and y (B, K, h, w) of `DenseMotion.sparse_motions`."""
        matrices = source_jacobians @ inverse_2x2(driving_jacobians)
        shift = source_points - (matrices * driving_points[:, :, None]).sum(-1)
        return affine_planes(matrices, shift, self.grid)

    def forward(
        self,
        thumbnail: Tensor,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """What `DenseMotion` returns, without `sparse_deformed`."""
        keypoints = driving_points.shape[1]
        x, y = self.planes(source_points, source_jacobians, driving_points, driving_jacobians)
        moved = self.sampling.sample(thumbnail, x[0], y[0])[None]
        still = self.sampling.picture(thumbnail, 3)
        pictures = torch.cat([still[:, :, None], moved], 2).flatten(1, 2)
        difference = gaussian_heatmaps(driving_points, self.grid, self.variance) - gaussian_heatmaps(
            source_points, self.grid, self.variance
        )
        # The background's heat-map, zero everywhere, fills the channels up to a multiple of four, without which
        # onnxruntime's convolutions are slower.
        evidence = torch.cat([torch.zeros_like(difference[:, :1]), difference, pictures], 1)
        maps = self.heads(self.hourglass(evidence))
        mask, flow_x, flow_y = blended(maps[:, : keypoints + 1].float(), x, y, self.grid, still_first=True)
        return {
            "deformation": torch.stack([flow_x, flow_y], -1),
            "mask": mask,
            "occlusion_map": torch.sigmoid(maps[:, keypoints + 1 :])
            if maps.shape[1] > keypoints + 1
            else torch.ones_like(mask[:, :1]),
        }


class RowsGenerator(nn.Module):
    """`Generator` that samples features by `Rows`; a batch is of one."""

    def __init__(self, generator: Generator):
        super().__init__()
        motion = generator.dense_motion_network
        self.sampling = Rows(
            motion.grid.shape[0] * motion.down.reduction // 2 ** len(generator.down_blocks), "zeros"
        )
        self.dense_motion_network = motion
        self.first = generator.first
        self.down_blocks = generator.down_blocks
        self.bottleneck = generator.bottleneck
        self.up_blocks = generator.up_blocks
        self.final = generator.final

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """See `Generator.encode`; features as a table of `Rows`."""
        features = self.first(avatars)
        for block in self.down_blocks:
            features = block(features)
        return {
            "source_features": self.sampling.table(features),
            "thumbnail": self.dense_motion_network.thumbnail(avatars),
        }

    def render(self, features: dict[str, Tensor], *keypoints: Tensor) -> dict[str, Tensor]:
        """See `Generator.render`."""
        motion = self.dense_motion_network(features["thumbnail"], *keypoints)
        deformation, occlusion_map = motion["deformation"].permute(0, 3, 1, 2), motion["occlusion_map"]
        side = self.sampling.side
        if deformation.shape[2] != side:
            resize = {"size": (side, side), "mode": "bilinear", "align_corners": False}
            deformation = F.interpolate(deformation, **resize)
            occlusion_map = F.interpolate(occlusion_map, **resize)
        x, y = deformation[0]
        out = self.sampling.sample(features["source_features"], x, y)[None] * occlusion_map
        out = self.bottleneck(out)
        for block in self.up_blocks:
            out = block(out)
        return {"prediction": torch.sigmoid(self.final(out)), **motion}
