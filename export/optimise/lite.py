"""`lite-256` in forms that onnxruntime and OpenVINO run faster. A batch is of one.

Every class computes what the one that it replaces does, as far as `render` and its graph need it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.export.optimise.convolutions import taking
from livepuppet.export.optimise.phases import interleave, spread, spreading
from livepuppet.export.optimise.planes import affine_planes, blended
from livepuppet.export.optimise.sampling import Grid, Patches, Rows
from livepuppet.model.geometry import gaussian_heatmaps
from livepuppet.model.lite import (
    PAINT_LIMIT,
    DenseMotion,
    Generator,
    LitePuppet,
)


class PlanarMotion(nn.Module):
    """`DenseMotion` by planes.

    Args:
        motion: what is replaced.
        gathers: sample the thumbnail by `Patches`.
    """

    def __init__(self, motion: DenseMotion, gathers: bool):
        super().__init__()
        self.motion = motion
        self.sampling = (Patches if gathers else Grid)(motion.grid.shape[0], "border")
        first = motion.network.first
        keypoints = (first[0].in_channels - 6) // 4
        # The moved thumbnails come colour by colour, not motion by motion.
        moved = torch.arange(3 * (keypoints + 1)).reshape(keypoints + 1, 3).t().flatten() + keypoints
        order = torch.arange(first[0].in_channels)
        order[keypoints : keypoints + len(moved)] = moved
        first[0] = taking(first[0], order)

    def forward(
        self,
        table: Tensor,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """What `DenseMotion` returns.

        Args:
            table: the thumbnail, as `sampling` wants it.
        """
        net, grid = self.motion, self.motion.grid
        affine, shift, gate, parallax, depth = net.candidates(
            source_points, source_jacobians, driving_points, driving_jacobians
        )
        count = affine.shape[1]
        x, y = affine_planes(affine, shift, grid)
        if parallax is not None:
            x, y = (
                torch.cat([plane[:, :-1], plane[:, -1:] + parallax[:, i, None, None, None] * depth], 1)
                for i, plane in enumerate((x, y))
            )
        warped = self.sampling.sample(table, x[0], y[0]).flatten(0, 1)[None]
        difference = gaussian_heatmaps(driving_points, grid, net.variance) - gaussian_heatmaps(
            source_points, grid, net.variance
        )
        evidence = torch.cat([difference, warped, self.sampling.picture(table, 3)], 1)
        features = net.network(evidence)[-1]
        head = net.head(features).float()
        logits = net.preferences(head[:, : count + 1], driving_points)
        mask, flow_x, flow_y = blended(logits, x, y, grid, still_first=False)
        gate = gate[:, None, None, None]
        residual = net.residual_limit * torch.tanh(head[:, count + 2 :]) * gate
        return {
            "deformation": torch.stack([flow_x + residual[:, 0], flow_y + residual[:, 1]], -1),
            "mask": mask,
            "occlusion_map": torch.sigmoid(head[:, count + 1 : count + 2]),
            "difference": difference,
            "gate": gate,
        }


class PhaseGenerator(nn.Module):
    """`Generator` that treats the full picture by phases, as its convolutions do.

    The avatar is sampled by phase and blended by phase; only the finished picture is put together.

    Args:
        generator: what is replaced.
        gathers: sample by `Patches` and `Rows`.
    """

    def __init__(self, generator: Generator, gathers: bool):
        super().__init__()
        size = generator.config.size
        self.generator = generator
        self.pictures = (Patches if gathers else Grid)(size, "border")
        self.features = (Rows if gathers else Grid)(size // 4, "border")
        weight = generator.last.weight
        for name, align_corners in (("flow_spread", True), ("map_spread", False)):
            matrix = spreading(size // 4, size, align_corners).to(weight)
            self.register_buffer(name, matrix, persistent=False)

    def encode(self, avatars: Tensor) -> Tensor:
        """See `Generator.encode`; as a table."""
        return self.features.table(self.generator.encode(avatars))

    def forward(self, features: Tensor, table: Tensor, motion: dict[str, Tensor]) -> dict[str, Tensor]:
        """`prediction` of `Generator`.

        Args:
            features: of `encode`.
            table: the avatar, as `pictures` wants it.
            motion: of `DenseMotion`.
        """
        net, half = self.generator, self.pictures.side // 2
        flow, occlusion = motion["deformation"][0], motion["occlusion_map"]
        places = (spread(flow[..., axis], self.flow_spread) for axis in (0, 1))
        # Colours, then phases: the order of `pixel_unshuffle`.
        picture = self.pictures.sample(table, *places).reshape(1, 12, half, half)
        x = self.features.sample(features, flow[..., 0], flow[..., 1])[None] * occlusion
        x = F.relu(net.join(torch.cat([x, motion["difference"]], 1)))
        deep = net.coarse_blocks(F.relu(net.down(x)))
        x = x + F.interpolate(net.up(deep), scale_factor=2.0, mode="nearest")
        x = net.fine_blocks(x)
        x = F.interpolate(F.relu(net.expand(x)), scale_factor=2.0, mode="nearest")
        x = F.relu(net.merge(torch.cat([x, picture - 0.5], 1)))
        x = net.last(x).float()
        shown = spread(occlusion[0, 0], self.map_spread).reshape(1, 4, half, half)
        blend = torch.sigmoid(x[:, 12:]) * (motion["gate"] * (1 - PAINT_LIMIT * shown))
        prediction = picture + (0.5 + x[:, :12] - picture) * torch.cat([blend] * 3, 1)
        return {"prediction": interleave(prediction).clamp(0, 1)}


class FastLite(LitePuppet):
    """`LitePuppet` of the parts above, whose features are tables.

    Args:
        model: what is replaced; its modules become part of this.
        planes: the motion by `PlanarMotion`.
        phases: the generator by `PhaseGenerator`.
        gathers: in both, sample by gathers.
    """

    def __init__(self, model: LitePuppet, planes: bool, phases: bool, gathers: bool):
        nn.Module.__init__(self)
        self.config, self.preset = model.config, model.preset
        self.detector = model.detector
        self.motion = PlanarMotion(model.motion, gathers) if planes else model.motion
        self.generator = PhaseGenerator(model.generator, gathers) if phases else model.generator

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """See `LitePuppet.encode`: picture, thumbnail and features, each as the part that samples it wants it."""
        thumbnail = F.avg_pool2d(avatars, 4)
        motion, generator = self.motion, self.generator
        return {
            "picture": generator.pictures.table(avatars) if hasattr(generator, "pictures") else avatars,
            "thumbnail": motion.sampling.table(thumbnail) if hasattr(motion, "sampling") else thumbnail,
            "features": generator.encode(avatars),
        }
