"""The First Order Motion Model (Siarohin et al., NeurIPS 2019, arXiv 2003.00196), tensor for tensor
as published.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from livepuppet.model.base import Model
from livepuppet.model.dense_motion import DenseMotion
from livepuppet.model.generator import Generator
from livepuppet.model.geometry import peak_confidence
from livepuppet.model.keypoint_detector import KeypointDetector


@dataclass(frozen=True)
class FommConfig:
    """Shape of a first-order model. The defaults are those of the published `vox-256` and its
    siblings.

    `*_expansion` is a network's width at its finest level, `*_maximum` that of its widest;
    `*_reduction` is the whole factor by which the detector's and the motion's images are smaller
    than the frame.
    """

    size: int = 256
    num_keypoints: int = 10
    detector_expansion: int = 32
    detector_maximum: int = 1024
    detector_blocks: int = 5
    detector_reduction: int = 4
    detector_padding: int = 0
    temperature: float = 0.1
    jacobian_maps: int = 10
    motion_expansion: int = 64
    motion_maximum: int = 1024
    motion_blocks: int = 5
    motion_reduction: int = 4
    motion_variance: float = 0.01
    occlusion: bool = True
    generator_expansion: int = 64
    generator_maximum: int = 512
    generator_down_blocks: int = 2
    generator_residual_blocks: int = 6

    def __post_init__(self):
        for part, reduction, blocks in (
            ("detector", self.detector_reduction, self.detector_blocks),
            ("motion", self.motion_reduction, self.motion_blocks),
            ("generator", 1, self.generator_down_blocks),
        ):
            step = reduction * 2**blocks
            if self.size <= 0 or self.size % step:
                raise ValueError(f"size {self.size} is not a multiple of {step}, which the {part} needs")
        if self.jacobian_maps not in (0, 1, self.num_keypoints):
            raise ValueError(f"jacobian_maps is {self.jacobian_maps}; it can be 0, 1 or num_keypoints")
        if self.size // self.detector_reduction + 2 * self.detector_padding <= 6:
            raise ValueError(f"size {self.size} leaves no heat-map after the detector's 7x7 heads")


class FOMM(Model):
    """First-order motion model. Speaks the three calls of every model here: `detect`, `encode`,
    `render`.
    """

    def __init__(self, config: FommConfig):
        super().__init__()
        self.config = config
        self.kp_detector = KeypointDetector(
            size=config.size,
            num_keypoints=config.num_keypoints,
            expansion=config.detector_expansion,
            maximum=config.detector_maximum,
            num_blocks=config.detector_blocks,
            reduction=config.detector_reduction,
            temperature=config.temperature,
            jacobian_maps=config.jacobian_maps,
            padding=config.detector_padding,
        )
        self.generator = Generator(
            expansion=config.generator_expansion,
            maximum=config.generator_maximum,
            num_down_blocks=config.generator_down_blocks,
            num_residual_blocks=config.generator_residual_blocks,
            dense_motion=DenseMotion(
                size=config.size,
                num_keypoints=config.num_keypoints,
                expansion=config.motion_expansion,
                maximum=config.motion_maximum,
                num_blocks=config.motion_blocks,
                reduction=config.motion_reduction,
                variance=config.motion_variance,
                occlusion=config.occlusion,
            ),
        )

    def detect(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, K, 2) as (x, y) in [-1, 1] and Jacobians (B, K, 2, 2) of frames (B, 3, S, S),
        RGB in [0, 1].
        """
        points, jacobians, _, _ = self.kp_detector(frames)
        return points, jacobians

    def detect_with_confidence(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `detect` returns, and how sure of each keypoint (B, K) in [0, 1]; see
        `geometry.peak_confidence`.
        """
        points, jacobians, _, logits = self.kp_detector(frames)
        return points, jacobians, peak_confidence(logits)

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """Everything that depends on the avatars (B, 3, S, S), RGB in [0, 1], alone; opaque, in a
        fixed order.
        """
        return self.generator.encode(avatars)

    def render(
        self,
        features: dict[str, Tensor],
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """The avatars in the driving pose.

        Args:
            features: of `encode`.
            source_points, driving_points: (B, K, 2) as (x, y) in [-1, 1].
            source_jacobians, driving_jacobians: (B, K, 2, 2).

        Returns:
            `prediction` (B, 3, S, S), RGB in [0, 1]; `deformation` (B, h, w, 2), `mask` (B, K + 1,
            h, w), `occlusion_map` (B, 1, h, w) and `sparse_deformed` (B, K + 1, 3, h, w) as
            `DenseMotion` explains them.
        """
        return self.generator.render(
            features, source_points, source_jacobians, driving_points, driving_jacobians
        )
