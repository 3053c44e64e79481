"""The first-order model in forms that cost less. Every class here computes what the one that it
replaces does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.export.optimise.convolutions import joined, taking
from livepuppet.export.optimise.planes import affine_planes, blended
from livepuppet.export.optimise.sampling import Grid, Patches, Rows
from livepuppet.model.blocks import DownBlock
from livepuppet.model.dense_motion import DenseMotion
from livepuppet.model.generator import Generator
from livepuppet.model.geometry import gaussian_heatmaps, in_float32, inverse_2x2
from livepuppet.model.keypoint_detector import KeypointDetector


class PooledDetector(nn.Module):
    """`KeypointDetector` whose Jacobians are pooled before their convolution.

    A Jacobian is the mean of a convolution's output under a heat-map. Both are linear, so it is as
    well the convolution of the features' mean: 40 numbers instead of 40 maps. The mean is taken at
    every offset of the kernel.
    """

    grid: Tensor

    def __init__(self, detector: KeypointDetector):
        super().__init__()
        self.temperature = detector.temperature
        self.down = detector.down
        self.predictor = detector.predictor
        self.kp = detector.kp
        assert detector.jacobian.bias is not None
        self.side = detector.jacobian.kernel_size[0]
        assert isinstance(detector.kp.padding, tuple)
        self.padding = detector.kp.padding * 2
        keypoints = detector.kp.out_channels
        self.weight = nn.Parameter(detector.jacobian.weight.reshape(keypoints, 4, -1).detach().clone())
        self.bias = nn.Parameter(detector.jacobian.bias.reshape(keypoints, 4).detach().clone())
        self.register_buffer("grid", detector.grid, persistent=False)

    @in_float32
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `KeypointDetector` returns."""
        features = self.predictor(self.down(frames))
        logits = self.kp(features)
        heatmaps = torch.softmax(logits.flatten(2) / self.temperature, dim=2).reshape(logits.shape)
        # A sum over pixels as a matrix product.
        points = heatmaps.flatten(2) @ self.grid.flatten(0, 1)
        means = pooled(F.pad(features, self.padding), heatmaps, self.side)
        jacobians = (self.weight @ means[..., None])[..., 0] + self.bias
        return points, jacobians.unflatten(-1, (2, 2)), heatmaps, logits


def pooled(features: Tensor, heatmaps: Tensor, side: int) -> Tensor:
    """Sums of features under heat-maps, at every offset of a kernel of that side.

    Args:
        features: (B, C, h + side - 1, w + side - 1).
        heatmaps: (B, K, h, w).

    Returns:
        (B, K, C * side * side), in the order of a convolution's weights.
    """
    width = heatmaps.shape[-1]
    # Columns are moved in the features. Rows are moved in the heat-maps, where that is a shift of
    # the whole line.
    columns = torch.stack([features[..., x : x + width] for x in range(side)], 2).flatten(3).flatten(1, 2)
    lines = heatmaps.flatten(2)
    moved = [F.pad(lines, (y * width, (side - 1 - y) * width)) for y in range(side)]
    sums = torch.cat(moved, 1) @ columns.transpose(1, 2)
    sums = sums.unflatten(1, (side, -1)).unflatten(3, (-1, side))
    return sums.permute(0, 2, 3, 1, 4).flatten(2)


class PlanarMotion(nn.Module):
    """`DenseMotion` by planes: x and y of each motion apart, each a row and a column added. A batch
    is of one.

    Args:
        motion: what is replaced.
        gathers: sample the thumbnail by `Patches`, of which `thumbnail` then returns the table.
    """

    grid: Tensor

    def __init__(self, motion: DenseMotion, gathers: bool):
        super().__init__()
        self.variance = motion.variance
        self.down = motion.down
        self.hourglass = motion.hourglass
        self.sampling = (Patches if gathers else Grid)(motion.grid.shape[0], "zeros")
        self.heads = joined(motion.mask, motion.occlusion) if motion.occlusion is not None else motion.mask
        self.register_buffer("grid", motion.grid, persistent=False)
        # As published, the evidence is a heat-map and three colours per candidate. Here all
        # heat-maps come first, then all reds, all greens, all blues. The first convolution sees it,
        # and the heads by the last skip.
        count = motion.mask.out_channels
        order = torch.arange(4 * count).reshape(count, 4).t().flatten()
        first = self.hourglass.encoder.down_blocks[0]
        assert isinstance(first, DownBlock)
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
        # The background's heat-map, zero everywhere, fills the channels up to a multiple of four,
        # without which onnxruntime's convolutions are slower.
        evidence = torch.cat([torch.zeros_like(difference[:, :1]), difference, pictures], 1)
        maps = self.heads(self.hourglass(evidence))
        mask, flow_x, flow_y = blended(maps[:, : keypoints + 1].float(), x, y, self.grid)
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
