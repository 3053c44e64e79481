"""Monkey-Net (Siarohin et al., CVPR 2019, arXiv 1812.08861), the zeroth-order ancestor of the
first-order model.

Keypoints are the means of heat-maps, and each carries the heat-map's covariance instead of a
Jacobian. Movement between two sets of keypoints becomes a dense flow, by which the skip connections
of a U-Net are warped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.model.base import Model
from livepuppet.model.blocks import (
    AntiAlias,
    Hourglass,
    HourglassEncoder,
    ResidualBlock,
    UpBlock,
    channels,
)
from livepuppet.model.geometry import (
    covariance_heatmaps,
    in_float32,
    make_grid,
    peak_confidence,
    resize_grid,
    soft_argmax,
    soft_covariance,
    warp,
)


@dataclass(frozen=True)
class MonkeyNetConfig:
    """Shape of a Monkey-Net; by default the one published for moving GIFs of 128 pixels.

    Attributes:
        size: side S of the square images, in pixels.
        num_keypoints: K.
        *_expansion, *_maximum, *_blocks: width at full size, widest level and levels of the three
            U-Nets.
        *_reduction: the detector's and the motion network's images are smaller by these whole
            factors.
        temperature: of the softmax that makes heat-maps.
        smallest_variance: least eigenvalue of a covariance, in squared units of [-1, 1].
        motion_group_blocks: 1x1 convolutions in front of the motion network, one group per
            candidate motion.
        refinement_blocks: residual blocks at full size, after the generator's U-Net.
        flow: False leaves the skip connections unwarped ("no F" in the paper's Table 2).
        coarse: False drops the flow composed of keypoint movements ("no F_coarse").
        residual: False drops the flow added to it ("no F_residual").
        covariance: False draws every keypoint as a disc of `fixed_variance` ("no Sigma").
        source_in_motion: False keeps the shifted images from the motion network ("no x").
    """

    size: int = 128
    num_keypoints: int = 10
    detector_expansion: int = 32
    detector_maximum: int = 1024
    detector_blocks: int = 5
    detector_reduction: int = 2
    temperature: float = 0.1
    smallest_variance: float = 0.001
    motion_expansion: int = 32
    motion_maximum: int = 1024
    motion_blocks: int = 5
    motion_reduction: int = 2
    motion_group_blocks: int = 2
    generator_expansion: int = 32
    generator_maximum: int = 1024
    generator_blocks: int = 6
    refinement_blocks: int = 4
    flow: bool = True
    coarse: bool = True
    residual: bool = True
    covariance: bool = True
    fixed_variance: float = 0.01
    source_in_motion: bool = True

    def __post_init__(self):
        for part, reduction, blocks in (
            ("detector", self.detector_reduction, self.detector_blocks),
            ("motion", self.motion_reduction, self.motion_blocks),
            ("generator", 1, self.generator_blocks),
        ):
            step = reduction * 2**blocks
            if self.size <= 0 or self.size % step:
                raise ValueError(f"size {self.size} is not a multiple of {step}, which the {part} needs")
        if self.flow and not (self.coarse or self.residual):
            raise ValueError("a flow needs its coarse or its residual part; flow=False leaves it out")


class CovarianceDetector(nn.Module):
    """Finds K points, each with the covariance of its heat-map (Monkey-Net, section 3.2)."""

    grid: Tensor

    def __init__(self, config: MonkeyNetConfig):
        super().__init__()
        self.config = config
        self.down = AntiAlias(3, config.detector_reduction)
        self.predictor = Hourglass(
            3, config.detector_expansion, config.detector_maximum, config.detector_blocks
        )
        self.kp = nn.Conv2d(self.predictor.out_channels, config.num_keypoints, 3, padding=1)
        side = config.size // config.detector_reduction
        self.register_buffer("grid", make_grid(side, side), persistent=False)

    @in_float32
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keypoints of frames (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, K, 2) as (x, y) in [-1, 1] (Eq. 1); covariances (B, K, 2, 2) (Eq. 2);
            heat-maps (B, K, h, w), each of sum 1; the same before their softmax and temperature.
        """
        logits = self.kp(self.predictor(self.down(frames)))
        batch, keypoints, height, width = logits.shape
        heatmaps = torch.softmax(logits.flatten(2) / self.config.temperature, dim=2)
        heatmaps = heatmaps.reshape(batch, keypoints, height, width)
        points = soft_argmax(heatmaps, self.grid)
        if self.config.covariance:
            covariances = soft_covariance(heatmaps, points, self.grid, self.config.smallest_variance)
        else:
            disc = self.config.fixed_variance * torch.eye(2, dtype=points.dtype, device=points.device)
            covariances = disc.expand(batch, keypoints, 2, 2)
        return points, covariances, heatmaps, logits


@in_float32
def mixed(weights: Tensor, shifts: Tensor) -> Tensor:
    """The shift (B, H, W, 2) of each pixel: shifts (B, K, 2) weighed by (B, K, H, W)."""
    return torch.einsum("bkhw,bkc->bhwc", weights, shifts)


class MonkeyMotion(nn.Module):
    """Flow from keypoint movements: masked translations plus a residual (Monkey-Net, section 3.3)."""

    grid: Tensor

    def __init__(self, config: MonkeyNetConfig):
        super().__init__()
        self.config = config
        candidates = config.num_keypoints + 1
        per_candidate = 1 + 3 * config.source_in_motion
        width = candidates * per_candidate
        self.down = AntiAlias(3, config.motion_reduction)
        # Candidate motions are processed separately before they are compared.
        self.groups = nn.ModuleList(
            nn.Conv2d(width, width, 1, groups=candidates) for _ in range(config.motion_group_blocks)
        )
        self.hourglass = Hourglass(
            width, config.motion_expansion, config.motion_maximum, config.motion_blocks
        )
        self.mask = (
            nn.Conv2d(self.hourglass.out_channels, candidates, 3, padding=1) if config.coarse else None
        )
        self.residual = nn.Conv2d(self.hourglass.out_channels, 2, 3, padding=1) if config.residual else None
        # Training starts from little motion.
        for head in filter(None, (self.mask, self.residual)):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # pyright: ignore[reportArgumentType]
        if self.mask is not None:
            with torch.no_grad():
                self.mask.bias[0] = 2.0  # pyright: ignore[reportOptionalSubscript]
        side = config.size // config.motion_reduction
        self.register_buffer("grid", make_grid(side, side), persistent=False)

    def forward(
        self, thumbnail: Tensor, source_points: Tensor, driving_points: Tensor, difference: Tensor
    ) -> dict[str, Tensor]:
        """Backward flow from the driving pose to the source.

        Args:
            thumbnail: the source, (B, 3, h, w); looked at with `source_in_motion` alone.
            source_points, driving_points: (B, K, 2).
            difference: heat-maps of the driving minus those of the source keypoints, (B, K, h, w).

        Returns:
            `deformation` (B, h, w, 2), where in the source each pixel comes from; with the coarse
            flow also `mask` (B, K + 1, h, w), weights of standing still (first) and of the K
            movements, of sum 1.
        """
        batch, keypoints = driving_points.shape[:2]
        height, width = difference.shape[2:]
        shifts = source_points - driving_points
        heat = torch.cat([torch.zeros_like(difference[:, :1]), difference], dim=1)[:, :, None]
        if self.config.source_in_motion:
            # All K shifted images in one sampling from one image, as one tall grid.
            grids = (self.grid + shifts[:, :, None, None]).reshape(batch, keypoints * height, width, 2)
            moved = warp(thumbnail, grids).reshape(batch, 3, keypoints, height, width).transpose(1, 2)
            heat = torch.cat([heat, torch.cat([thumbnail[:, None], moved], dim=1)], dim=2)
        evidence = heat.reshape(batch, -1, height, width)
        for group in self.groups:
            evidence = F.leaky_relu(group(evidence), 0.2)
        features = self.hourglass(evidence)

        result: dict[str, Tensor] = {}
        deformation = self.grid.expand(batch, -1, -1, -1)
        if self.mask is not None:
            result["mask"] = torch.softmax(self.mask(features).float(), dim=1)
            deformation = deformation + mixed(result["mask"][:, 1:], shifts)
        if self.residual is not None:
            deformation = deformation + self.residual(features).float().permute(0, 2, 3, 1)
        return {"deformation": deformation, **result}


class DeformableGenerator(nn.Module):
    """A U-Net with warped skip connections and heat-maps of the keypoints' movement (Monkey-Net,
    section 3.3).
    """

    def __init__(self, config: MonkeyNetConfig):
        super().__init__()
        embedding = config.num_keypoints
        widths = [3] + [
            channels(config.generator_expansion, config.generator_maximum, level + 1)
            for level in range(config.generator_blocks)
        ]
        self.encoder = HourglassEncoder(
            3, config.generator_expansion, config.generator_maximum, config.generator_blocks
        )
        outs = [config.generator_expansion, *widths[1:-1]]
        self.up_blocks = nn.ModuleList()
        before = 0
        for fine, skip in zip(reversed(outs), reversed(widths[1:]), strict=True):
            self.up_blocks.append(UpBlock(before + skip + embedding, fine))
            before = fine
        width = before + 3 + embedding
        self.refinement = nn.Sequential(*(ResidualBlock(width) for _ in range(config.refinement_blocks)))
        self.final = nn.Conv2d(width, 3, 1)

    def encode(self, avatars: Tensor) -> list[Tensor]:
        """The skip connections, the image itself first."""
        return self.encoder(avatars)

    def forward(self, skips: list[Tensor], deformation: Tensor | None, difference: Tensor) -> Tensor:
        """The image (B, 3, S, S) in [0, 1].

        Args:
            skips: of `encode`.
            deformation: (B, h, w, 2), or None to leave them as they are.
            difference: heat-maps of the driving minus those of the source keypoints, (B, K, h, w).
        """
        joined = []
        for skip in skips:
            height, width = skip.shape[2:]
            if deformation is not None:
                # Sampled in the grid's 32 bits, not in the network's 16: a position is off by a
                # pixel there.
                skip = warp(skip.to(deformation.dtype), resize_grid(deformation, height, width))
            joined.append(torch.cat([skip, _fit(difference, height)], dim=1))
        out = joined[-1]
        for block, skip in zip(self.up_blocks, reversed(joined[:-1]), strict=True):
            out = torch.cat([block(out), skip], dim=1)
        return torch.sigmoid(self.final(self.refinement(out)))


def _fit(maps: Tensor, side: int) -> Tensor:
    """Resize square maps: area averages downwards, so that small heat-maps do not fall between
    pixels.
    """
    if maps.shape[-1] == side:
        return maps
    if maps.shape[-1] > side:
        return F.avg_pool2d(maps, maps.shape[-1] // side)
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=True)


class MonkeyNet(Model):
    """Speaks the three calls of every model here: `detect`, `encode`, `render`; matrices are
    covariances.
    """

    grid: Tensor

    def __init__(self, config: MonkeyNetConfig):
        super().__init__()
        self.config = config
        self.kp_detector = CovarianceDetector(config)
        self.motion = MonkeyMotion(config) if config.flow else None
        self.generator = DeformableGenerator(config)
        side = config.size // config.motion_reduction
        self.register_buffer("grid", make_grid(side, side), persistent=False)

    def detect(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, K, 2) as (x, y) in [-1, 1] and covariances (B, K, 2, 2) of frames (B, 3, S,
        S), RGB in [0, 1].
        """
        points, covariances, _, _ = self.kp_detector(frames)
        return points, covariances

    def detect_with_confidence(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `detect` returns, and how sure of each keypoint (B, K) in [0, 1]; see
        `geometry.peak_confidence`.
        """
        points, covariances, _, logits = self.kp_detector(frames)
        return points, covariances, peak_confidence(logits)

    def heatmaps(self, points: Tensor, covariances: Tensor, grid: Tensor | None = None) -> Tensor:
        """Keypoints as Gaussians (B, K, h, w) (Monkey-Net, Eq. 3), on the motion network's grid by
        default.
        """
        return covariance_heatmaps(points, covariances, self.grid if grid is None else grid)

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """Everything that depends on the avatars (B, 3, S, S), RGB in [0, 1], alone; opaque, in a
        fixed order.
        """
        features = {f"skip{level}": skip for level, skip in enumerate(self.generator.encode(avatars))}
        if self.motion is not None and self.config.source_in_motion and self.config.motion_reduction > 1:
            # At full size it is the picture itself.
            features["thumbnail"] = self.motion.down(avatars)
        return features

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
            source_jacobians, driving_jacobians: (B, K, 2, 2), covariances here.

        Returns:
            `prediction` (B, 3, S, S), RGB in [0, 1]; `warped`, the avatars under the flow alone;
            `deformation` (B, h, w, 2), the identity without a flow; with the coarse flow also
            `mask` (B, K + 1, h, w).
        """
        skips = [features[f"skip{level}"] for level in range(self.config.generator_blocks + 1)]
        difference = self.heatmaps(driving_points, driving_jacobians) - self.heatmaps(
            source_points, source_jacobians
        )
        if self.motion is None:
            deformation = self.grid.expand(len(difference), -1, -1, -1)
            prediction = self.generator(skips, None, difference)
            return {"prediction": prediction, "deformation": deformation, "warped": skips[0]}
        motion = self.motion(features.get("thumbnail", skips[0]), source_points, driving_points, difference)
        deformation = motion["deformation"]
        size = self.config.size
        return {
            "prediction": self.generator(skips, deformation, difference),
            "warped": warp(skips[0].to(deformation.dtype), resize_grid(deformation, size, size)),
            **motion,
        }
