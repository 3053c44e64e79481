"""The keypoint detector of the first-order model (FOMM, section 3.1 and supplementary A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from livepuppet.model.blocks import AntiAlias, Hourglass
from livepuppet.model.geometry import in_float32, make_grid, soft_argmax


class KeypointDetector(nn.Module):
    """Finds K points and the motion's Jacobian around each, without supervision.

    Args:
        size: side of the square frames, in pixels.
        num_keypoints: K.
        expansion, maximum, num_blocks: the hourglass's width at full size, its widest level, its
            levels.
        reduction: the hourglass works on frames smaller by this whole factor.
        temperature: of the softmax that makes heat-maps; low is peaky.
        jacobian_maps: K, or 1 for a single map of matrices that all keypoints read; 0 for a
            zeroth-order model, whose Jacobians are the identity.
        padding: of the two 7x7 heads. The published networks use none, so heat-maps lose 6 pixels.
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
        temperature: float,
        jacobian_maps: int,
        padding: int = 0,
    ):
        super().__init__()
        self.temperature = temperature
        self.jacobian_maps = jacobian_maps
        self.down = AntiAlias(3, reduction)
        self.predictor = Hourglass(3, expansion, maximum, num_blocks)
        self.kp = nn.Conv2d(self.predictor.out_channels, num_keypoints, 7, padding=padding)
        if jacobian_maps:
            self.jacobian = nn.Conv2d(self.predictor.out_channels, 4 * jacobian_maps, 7, padding=padding)
            # Training starts from identity Jacobians everywhere.
            nn.init.zeros_(self.jacobian.weight)
            with torch.no_grad():
                self.jacobian.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(jacobian_maps))  # pyright: ignore[reportOptionalMemberAccess]
        side = size // reduction + 2 * padding - 6
        self.register_buffer("grid", make_grid(side, side), persistent=False)

    @in_float32
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keypoints of frames (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, K, 2) as (x, y) in [-1, 1]; Jacobians (B, K, 2, 2); heat-maps (B, K, h, w),
            each of sum 1; the same before their softmax and temperature.
        """
        features = self.predictor(self.down(frames))
        logits = self.kp(features)
        batch, keypoints, height, width = logits.shape
        heatmaps = torch.softmax(logits.flatten(2) / self.temperature, dim=2)
        heatmaps = heatmaps.reshape(batch, keypoints, height, width)
        points = soft_argmax(heatmaps, self.grid)
        if not self.jacobian_maps:
            identity = torch.eye(2, dtype=points.dtype, device=points.device)
            return points, identity.expand(batch, keypoints, 2, 2), heatmaps, logits
        # Each matrix is the average of its map, weighted by the keypoint's heat-map.
        maps = self.jacobian(features).reshape(batch, self.jacobian_maps, 4, height, width)
        jacobians = (heatmaps[:, :, None] * maps).sum(dim=(3, 4))
        return points, jacobians.reshape(batch, keypoints, 2, 2), heatmaps, logits
