"""The three calls that every network has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from livepuppet.model.presets import Preset


class Model(nn.Module):
    """Base class of the networks: keypoints of a frame, features of an avatar, and a moved avatar.

    Attributes:
        config: sizes of the network; a frozen dataclass.
        preset: what it was built from; set by `presets.build`.
    """

    config: Any
    preset: Preset

    def detect(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints of frames (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, K, 2) as (x, y) in [-1, 1] and matrices (B, K, 2, 2): Jacobians or
            covariances.
        """
        raise NotImplementedError

    def detect_with_confidence(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`detect`, and each keypoint's confidence (B, K) in [0, 1]; see
        `geometry.peak_confidence`.
        """
        raise NotImplementedError

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """Everything that depends on the avatars (B, 3, S, S), RGB in [0, 1], alone, in a fixed
        order.
        """
        raise NotImplementedError

    def render(
        self,
        features: dict[str, Tensor],
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """The avatars in the driving pose.

        Returns:
            at least `prediction` (B, 3, S, S), RGB in [0, 1], and `deformation` (B, h, w, 2): where
            in the source, as (x, y) in [-1, 1], each pixel comes from.
        """
        raise NotImplementedError
