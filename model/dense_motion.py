"""Dense motion from sparse local motions (FOMM, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from livepuppet.model.blocks import AntiAlias, Hourglass
from livepuppet.model.geometry import gaussian_heatmaps, in_float32, inverse_2x2, make_grid, warp


class DenseMotion(nn.Module):
    """Combines K local affine motions and a still background into one backward flow and an
    occlusion map.

    Args:
        size: side of the square images, in pixels; the motion's is size / reduction.
        num_keypoints: K.
        expansion, maximum, num_blocks: the hourglass's width at full size, its widest level, its
            levels.
        reduction: whole factor between image and motion.
        variance: of the Gaussians that tell the network where keypoints are, in squared units of
            [-1, 1].
        occlusion: whether an occlusion map is predicted.
    """

    grid: Tensor

    def __init__(
        self,
        size: int,
        num_keypoints: int,
        expansion: int,
        maximum: int,
        num_blocks: int,
        reduction: int,
        variance: float,
        occlusion: bool = True,
    ):
        super().__init__()
        self.variance = variance
        self.hourglass = Hourglass((num_keypoints + 1) * 4, expansion, maximum, num_blocks)
        self.mask = nn.Conv2d(self.hourglass.out_channels, num_keypoints + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.out_channels, 1, 7, padding=3) if occlusion else None
        self.down = AntiAlias(3, reduction)
        side = size // reduction
        self.register_buffer("grid", make_grid(side, side), persistent=False)

    def thumbnail(self, avatars: Tensor) -> Tensor:
        """The avatar as `forward` wants it: (B, 3, S, S) to (B, 3, h, w)."""
        return self.down(avatars)

    @in_float32
    def sparse_motions(
        self,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> Tensor:
        """K backward flows (B, K, h, w, 2), each right in its keypoint's neighbourhood (FOMM, Eq.
        4-5).

        z -> p_S + J_S J_D^-1 (z - p_D)
        """
        matrices = source_jacobians @ inverse_2x2(driving_jacobians)
        offsets = self.grid - driving_points[:, :, None, None]
        # (B, K, 1, 1, 2, 2) times (B, K, h, w, 2), written out: a batched 2x2 matmul per pixel is
        # slow everywhere.
        x = matrices[:, :, None, None, :, 0] * offsets[..., 0:1]
        y = matrices[:, :, None, None, :, 1] * offsets[..., 1:2]
        return x + y + source_points[:, :, None, None]

    def forward(
        self,
        thumbnail: Tensor,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """Flow from the driving pose back to the source (FOMM, Eq. 6-7).

        Args:
            thumbnail: (B, 3, h, w) of `thumbnail`.
            source_points, driving_points: (B, K, 2).
            source_jacobians, driving_jacobians: (B, K, 2, 2).

        Returns:
            `deformation` (B, h, w, 2): where in the source, as (x, y) in [-1, 1], each output pixel
            comes from; `mask` (B, K + 1, h, w): weights of the background (first) and the K
            motions, of sum 1;
            `occlusion_map` (B, 1, h, w): 1 what the source shows, 0 what has to be invented (ones
            if not predicted); `sparse_deformed` (B, K + 1, 3, h, w): the thumbnail under each
            motion.
        """
        batch, keypoints = driving_points.shape[:2]
        height, width = thumbnail.shape[2:]
        motions = self.sparse_motions(source_points, source_jacobians, driving_points, driving_jacobians)

        # All K warps in one sampling from one image, as one tall grid, so that the image is not
        # repeated K times.
        moved = warp(thumbnail, motions.reshape(batch, keypoints * height, width, 2))
        moved = moved.reshape(batch, 3, keypoints, height, width).transpose(1, 2)
        # The background does not move, so its warp is the thumbnail.
        sparse_deformed = torch.cat([thumbnail[:, None], moved], dim=1)

        difference = gaussian_heatmaps(driving_points, self.grid, self.variance) - gaussian_heatmaps(
            source_points, self.grid, self.variance
        )
        heatmaps = torch.cat([torch.zeros_like(difference[:, :1]), difference], dim=1)
        evidence = torch.cat([heatmaps[:, :, None], sparse_deformed], dim=2)

        features = self.hourglass(evidence.reshape(batch, (keypoints + 1) * 4, height, width))
        # Weights of positions, so in 32 bits even under autocast.
        mask = torch.softmax(self.mask(features).float(), dim=1)
        deformation = mask[:, 0, :, :, None] * self.grid + (mask[:, 1:, ..., None] * motions).sum(dim=1)
        if self.occlusion is None:
            occlusion_map = torch.ones_like(mask[:, :1])
        else:
            occlusion_map = torch.sigmoid(self.occlusion(features))
        return {
            "deformation": deformation,
            "mask": mask,
            "occlusion_map": occlusion_map,
            "sparse_deformed": sparse_deformed,
        }
