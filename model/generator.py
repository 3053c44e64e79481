"""The occlusion-aware generator (FOMM, section 3.3), split into what an avatar costs once and what
a frame costs.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.model.blocks import DownBlock, ResidualBlock, SameBlock, UpBlock, channels
from livepuppet.model.dense_motion import DenseMotion
from livepuppet.model.geometry import warp


class Generator(nn.Module):
    """Encodes an image, warps the features, hides what the image does not show, and decodes
    (Johnson et al., 2016).

    Args:
        expansion, maximum: width at full size and the widest level.
        num_down_blocks: halvings between image and features.
        num_residual_blocks: residual blocks after the warp.
        dense_motion: the network that predicts the warp; a part of the generator in published
            checkpoints.
    """

    def __init__(
        self,
        expansion: int,
        maximum: int,
        num_down_blocks: int,
        num_residual_blocks: int,
        dense_motion: DenseMotion,
    ):
        super().__init__()
        widths = [channels(expansion, maximum, level) for level in range(num_down_blocks + 1)]
        self.dense_motion_network = dense_motion
        self.first = SameBlock(3, widths[0], kernel_size=7)
        self.down_blocks = nn.ModuleList(DownBlock(fine, coarse) for fine, coarse in pairwise(widths))
        self.bottleneck = nn.Sequential(
            OrderedDict((f"r{i}", ResidualBlock(widths[-1])) for i in range(num_residual_blocks))
        )
        self.up_blocks = nn.ModuleList(UpBlock(coarse, fine) for coarse, fine in pairwise(reversed(widths)))
        self.final = nn.Conv2d(widths[0], 3, 7, padding=3)

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """What depends on the avatars (B, 3, S, S) in [0, 1] alone: feature maps and the motion's
        thumbnail.
        """
        features = self.first(avatars)
        for block in self.down_blocks:
            features = block(features)
        return {"source_features": features, "thumbnail": self.dense_motion_network.thumbnail(avatars)}

    def render(
        self,
        features: dict[str, Tensor],
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """The avatars in the driving pose: `prediction` (B, 3, S, S) in [0, 1], and all that
        `DenseMotion` returns.

        xi' = occlusion * warp(xi, deformation) (FOMM, Eq. 8), then decoded.
        """
        motion = self.dense_motion_network(
            features["thumbnail"], source_points, source_jacobians, driving_points, driving_jacobians
        )
        source_features = features["source_features"]
        deformation, occlusion_map = motion["deformation"], motion["occlusion_map"]
        if deformation.shape[1:3] != source_features.shape[2:]:
            resize = {"size": source_features.shape[2:], "mode": "bilinear", "align_corners": False}
            deformation = F.interpolate(deformation.permute(0, 3, 1, 2), **resize).permute(0, 2, 3, 1)
            occlusion_map = F.interpolate(occlusion_map, **resize)
        out = warp(source_features, deformation) * occlusion_map
        out = self.bottleneck(out)
        for block in self.up_blocks:
            out = block(out)
        return {"prediction": torch.sigmoid(self.final(out)), **motion}
