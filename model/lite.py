"""`lite-256`: the first-order motion model at a tenth of the cost, for a laptop's CPU.

The mathematics is FOMM's (local affine motions around keypoints, masks, occlusion map); the
networks are small stride-2 U-Nets with additive skips. What differs from the paper, and why:

* Jacobians are averaged over a 16 x 16 grid: their maps are smooth, and a sixteenth of the pixels
  is a sixteenth of the work. They are bounded, J = I + 1.5 tanh(raw / 1.5), because unbounded ones
  explode early in training.
* Keypoints are named facial landmarks (lids, irises, lips among them), so training can supervise
  them.
* The soft-argmax has a high temperature, and a local refinement for the expressive landmarks; see
  `KeypointDetector.locate`. At FOMM's 0.1 heat-maps become so sharp that keypoints jump from cell
  to cell (4 pixels). Only training without supervision uses it, which does not start otherwise.
* Beside the K local motions there is the head's (`HeadMotion`): the affine map that best fits all
  rigid landmarks, plus a parallax proportional to the depth of an ellipsoid. Hair and the head's
  outline, far from any keypoint, follow it.
* A small residual flow is added (as in Monkey-Net), because a closing lid is not an affine motion.
* The image is a blend of generated pixels and the *avatar warped at full resolution*, which keeps
  its fine texture.
* Residual flow and blend are gated by how far the keypoints moved, so an avatar at rest comes back
  exactly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.model.base import Model
from livepuppet.model.geometry import (
    gaussian_heatmaps,
    in_float32,
    inverse_2x2,
    make_grid,
    map_softmax,
    peak_confidence,
    soft_argmax,
    warp,
)

#: What each keypoint is, in order. "left" is the image's left.
LANDMARKS = (
    "left upper lid",
    "right upper lid",
    "left lower lid",
    "right lower lid",
    "left iris",
    "right iris",
    "left brow",
    "right brow",
    "nose tip",
    "left mouth corner",
    "right mouth corner",
    "upper lip",
    "lower lip",
    "chin",
    "forehead",
    "collar",
)


@dataclass(frozen=True)
class LiteConfig:
    """Sizes of the lite network.

    Attributes:
        size: side of the images; a multiple of 64.
        num_keypoints: K.
        detector_channels: channels at 1/4, 1/8, 1/16, 1/32 and 1/64 of the size.
        motion_channels: channels at 1/4, 1/8, 1/16 and 1/32.
        generator_channels: channels at 1/4 and 1/8.
        generator_blocks: residual blocks at 1/4 and at 1/8.
        temperature: of the heat-maps' softmax in training without supervision, and for the
            Jacobians.
        softargmax_temperature: of the softmax that locates keypoints otherwise.
        refinement_temperature: the same for the refinement of lids, irises, brows and mouth.
        refinement_window: standard deviation, in cells of the heat-map, of the refinement's
            Gaussian window.
        heatmap_variance: of the Gaussians shown to the dense motion network (FOMM, Eq. 6), in
            squared [-1, 1] units.
        residual_limit: largest residual flow, in [-1, 1] units.
        motion_threshold: keypoint motion, in [-1, 1] units, above which the gate is fully open.
        head_channels: hidden units of the network that refines the head's motion; 0 for the affine
            fit alone.
        mask_prior: add a learned prior to the masks' logits around each keypoint
            (`KeypointMaskPrior`).
        non_rigid_threshold: non-rigid motion of a keypoint, in [-1, 1] units, at which its prior is
            at full strength; 0 for full strength always.
    """

    size: int = 256
    num_keypoints: int = 16
    detector_channels: tuple[int, ...] = (32, 32, 64, 128, 128)
    motion_channels: tuple[int, ...] = (32, 64, 96, 128)
    generator_channels: tuple[int, int] = (64, 96)
    generator_blocks: tuple[int, int] = (2, 3)
    temperature: float = 0.1
    softargmax_temperature: float = 1.4
    refinement_temperature: float = 0.6
    refinement_window: float = 2.0
    heatmap_variance: float = 0.005
    residual_limit: float = 0.12
    motion_threshold: float = 0.01
    head_channels: int = 0
    mask_prior: bool = False
    non_rigid_threshold: float = 0.0


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """Stride-2 encoder and nearest-upsampling decoder whose skips are added, not concatenated.

    Args:
        inputs: channels of the image, whose side is that of the first level.
        channels: channels per level, fine to coarse.
        kernel: of the first convolution.
        stride: of the first convolution.
        left_out: how many levels the decoder leaves out, from the fine end.
    """

    def __init__(
        self, inputs: int, channels: tuple[int, ...], kernel: int = 3, stride: int = 1, left_out: int = 0
    ):
        super().__init__()
        self.first = ConvNorm(inputs, channels[0], kernel, stride)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(ConvNorm(a, b, 3, 2) for a, b in pairs)
        self.middle = ConvNorm(channels[-1], channels[-1])
        self.up = nn.ModuleList(ConvNorm(b, a) for a, b in reversed(pairs[left_out:]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the decoder, coarse to fine; the last has the side of the finest level that is
        not left out.
        """
        skips = [self.first(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = self.middle(skips.pop())
        features = [x]
        for up in self.up:
            x = F.interpolate(up(x), scale_factor=2.0, mode="nearest") + skips.pop()
            features.append(x)
        return features


class ResidualBlock(nn.Module):
    """Two convolutions without normalisation, which preserves brightness and makes small batches
    train like large ones.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        # Starts near the identity, as a deep chain without normalisation must.
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


#: Landmarks that are refined: the expressive ones. A lid or a brow moves by a few cells only, and a
#: soft estimate loses a part of every blink. Head and body move far, and are steadier unrefined.
REFINED_KEYPOINTS = tuple(
    index
    for index, name in enumerate(LANDMARKS)
    if any(word in name for word in ("lid", "iris", "brow", "mouth", "lip"))
)


class KeypointDetector(nn.Module):
    """Heat-maps at 1/4 of the size from the frame at 1/2; soft-argmax; Jacobians as
    heat-map-weighted averages.

    In training mode points are the soft-argmax at `temperature`; otherwise, and when training on
    exact landmarks (`coarse_and_refined`), they come from `locate`.
    """

    grid: Tensor
    refined: Tensor
    selected: Tensor

    def __init__(self, config: LiteConfig):
        super().__init__()
        self.temperature = config.temperature
        self.softargmax_temperature = config.softargmax_temperature
        self.refinement_temperature = config.refinement_temperature
        self.num_keypoints = config.num_keypoints
        channels = config.detector_channels
        self.network = UNet(3, channels, kernel=5, stride=2)
        self.heatmaps = nn.Conv2d(channels[0], config.num_keypoints, 5, 1, 2)
        self.jacobians = nn.Conv2d(channels[2], 4 * config.num_keypoints, 3, 1, 1)
        nn.init.zeros_(self.jacobians.weight)
        nn.init.zeros_(self.jacobians.bias)  # pyright: ignore[reportArgumentType]
        side = config.size // 4
        self.register_buffer("grid", make_grid(side, side), persistent=False)
        self.refinement_deviation = config.refinement_window * 2 / (side - 1)
        # Coarse points followed by refined ones: which of them each keypoint takes.
        selected = list(range(config.num_keypoints))
        for place, index in enumerate(REFINED_KEYPOINTS):
            selected[index] = config.num_keypoints + place
        self.register_buffer("refined", torch.tensor(REFINED_KEYPOINTS), persistent=False)
        self.register_buffer("selected", torch.tensor(selected), persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints of frames (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, K, 2) in [-1, 1]; Jacobians (B, K, 2, 2); logits of the heat-maps (B, K, S/4,
            S/4), divided by `temperature`.
        """
        return self._read(F.avg_pool2d(frames, 2))

    def coarse_and_refined(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `from_half` returns, and the coarse points (B, K, 2), for training."""
        _, jacobians, scaled = self._read(frames)
        logits = scaled * self.temperature
        return self.locate(logits), jacobians, self._expected(logits / self.softargmax_temperature)

    def from_half(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, K, 2) in [-1, 1] and Jacobians (B, K, 2, 2) of frames at half size (B, 3, S/2,
        S/2).
        """
        points, jacobians, _ = self._read(frames)
        return points, jacobians

    def locate(self, logits: Tensor) -> Tensor:
        """Points (B, K, 2) in [-1, 1] of heat-map logits (B, K, H, W), to a fraction of a cell.

        The coarse estimate is the expectation over the whole map at a temperature at which
        neighbouring cells share the weight: it moves with the face instead of jumping from cell to
        cell, and shifts gradually where a map has two peaks. It is biased a little towards where a
        landmark usually is. `REFINED_KEYPOINTS` are refined: a lower temperature under a Gaussian
        window about the coarse estimate gets closer to the peak, and ignores peaks elsewhere.
        """
        coarse = self._expected(logits / self.softargmax_temperature)
        centre = coarse.index_select(1, self.refined)
        across = (self.grid[0, :, 0] - centre[:, :, :1]) / self.refinement_deviation
        down = (self.grid[:, 0, 1] - centre[:, :, 1:]) / self.refinement_deviation
        window = -0.5 * (across.square()[:, :, None, :] + down.square()[:, :, :, None])
        refined = self._expected(logits.index_select(1, self.refined) / self.refinement_temperature + window)
        return torch.cat([coarse, refined], 1).index_select(1, self.selected)

    def _expected(self, logits: Tensor) -> Tensor:
        return map_softmax(logits.flatten(2)) @ self.grid.flatten(0, 1)

    @in_float32
    def _read(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.network(frames - 0.5)
        logits = self.heatmaps(features[-1])
        scaled = logits / self.temperature
        batch, k, height, width = scaled.shape
        heatmaps = map_softmax(scaled.flatten(2)).view(batch, k, height, width)
        points = soft_argmax(heatmaps, self.grid) if self.training else self.locate(logits)
        coarse = F.avg_pool2d(heatmaps, 4) * 16.0
        maps = self.jacobians(features[-3])
        maps = maps.view(batch, k, 4, height // 4, width // 4)
        raw = (coarse[:, :, None] * maps).sum((-1, -2)).view(batch, k, 2, 2)
        eye = torch.eye(2, dtype=raw.dtype, device=raw.device)
        return points, eye + 1.5 * torch.tanh(raw / 1.5), scaled


#: Landmarks that move with the skull, by which the head's motion is fitted.
RIGID = tuple(
    index
    for index, name in enumerate(LANDMARKS)
    if any(word in name for word in ("lower lid", "brow", "nose", "corner", "forehead"))
)

#: Regularisation of that fit towards the identity, in squared [-1, 1] units; the landmarks'
#: variance is about 0.05.
STIFFNESS = 1e-3


@in_float32
def rigid_motion(
    source_points: Tensor, driving_points: Tensor, rigid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Least-squares affine map z -> A z + b from the rigid driving landmarks to the source's.

    Args:
        source_points, driving_points: (B, K, 2).
        rigid: `RIGID` as a tensor on the points' device. Created here it would be copied to the GPU
            in every call, which stalls the stream and cannot be captured in a CUDA graph.

    Returns:
        A (B, 2, 2) and b (B, 2); exactly the identity where nothing moved.
    """
    if rigid is None:
        rigid = torch.tensor(RIGID, device=source_points.device)
    source, driving = source_points.index_select(1, rigid), driving_points.index_select(1, rigid)
    source_mean, driving_mean = source.mean(1, keepdim=True), driving.mean(1, keepdim=True)
    source, driving = source - source_mean, driving - driving_mean
    stiffness = STIFFNESS * torch.eye(2, dtype=source.dtype, device=source.device)
    across = source.transpose(1, 2) @ driving / len(RIGID) + stiffness
    matrix = across @ inverse_2x2(driving.transpose(1, 2) @ driving / len(RIGID) + stiffness)
    return matrix, source_mean[:, 0] - (matrix @ driving_mean.transpose(1, 2))[..., 0]


@in_float32
def local_motions(
    source_points: Tensor, source_jacobians: Tensor, driving_points: Tensor, driving_jacobians: Tensor
) -> tuple[Tensor, Tensor]:
    """Local affine maps z -> A z + b, A (B, K, 2, 2) and b (B, K, 2), of two keypoint sets (FOMM,
    Eq. 4).
    """
    affine = source_jacobians @ inverse_2x2(driving_jacobians)
    return affine, source_points - (affine @ driving_points[..., None])[..., 0]


#: Half width and half height of a head, in units of the distance from eyes to mouth.
HEAD_RADII = (1.30, 1.75)

#: Landmarks between which that distance is measured.
LIDS, CORNERS = (
    tuple(index for index, name in enumerate(LANDMARKS) if word in name) for word in ("lid", "corner")
)


class HeadMotion(nn.Module):
    """Motion of the head as a whole: z -> A z + b + d(z) c.

    Points of a turning head move by their depth, which no affine map of the image can express: the
    nose overtakes the eyes, the ears lag behind. Under weak perspective a rigid motion is affine in
    (x, y, depth), and a head's depth d is close to an ellipsoid's. A and b start as those of
    `rigid_motion`; from the keypoints a small network predicts corrections to them, the parallax c,
    and the ellipsoid's centre. All of it is zero where no keypoint moved.

    Args:
        num_keypoints: K.
        channels: hidden units.
    """

    lids: Tensor
    corners: Tensor

    def __init__(self, num_keypoints: int, channels: int):
        super().__init__()
        last = nn.Linear(channels, 10)
        self.network = nn.Sequential(
            nn.Linear(8 * num_keypoints + 4, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            last,
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("lids", torch.tensor(LIDS), persistent=False)
        self.register_buffer("corners", torch.tensor(CORNERS), persistent=False)

    @in_float32
    def forward(
        self,
        source_points: Tensor,
        driving_points: Tensor,
        affine: Tensor,
        matrix: Tensor,
        offset: Tensor,
        gate: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The head's motion between two keypoint sets.

        Args:
            source_points, driving_points: (B, K, 2).
            affine: (B, K, 2, 2) of `local_motions`.
            matrix, offset: of `rigid_motion`.
            gate: (B,) from 0, nothing moved, to 1.

        Returns:
            A (B, 2, 2), b (B, 2) and c (B, 2); and the ellipsoid: its centre (B, 2) in the driving
            image, and F (B, 2, 2), so that d(z) = sqrt(1 - |F (z - centre)|^2).
        """
        batch = len(driving_points)
        eyes = driving_points.index_select(1, self.lids).mean(1)
        mouth = driving_points.index_select(1, self.corners).mean(1)
        down = mouth - eyes
        unit = down.square().sum(1, keepdim=True).clamp_min(1e-4).sqrt()
        # The face's frame in the driving image: right and down, of length 1.
        down = down / unit
        right = torch.stack([down[:, 1], -down[:, 0]], 1)
        upright = torch.stack([right, down], 1)
        shape = ((driving_points - eyes[:, None]) @ upright.transpose(1, 2)) / unit[:, None]
        fitted = driving_points @ matrix.transpose(1, 2) + offset[:, None]
        missed = ((source_points - fitted) @ upright.transpose(1, 2)) / unit[:, None]
        eye = torch.eye(2, dtype=affine.dtype, device=affine.device)
        change = upright[:, None] @ (affine - eye) @ upright.transpose(1, 2)[:, None]
        turn = upright @ (matrix - eye) @ upright.transpose(1, 2)
        evidence = [shape.flatten(1), 4 * missed.flatten(1), change.flatten(1), turn.flatten(1)]
        found = self.network(torch.cat(evidence, 1))
        moved = gate[:, None]
        back = upright.transpose(1, 2)
        turned = back @ (moved * 0.3 * found[:, :4]).view(batch, 2, 2) @ upright
        matrix = matrix + turned
        shift, parallax, middle = (found[:, k : k + 2, None] for k in (4, 6, 8))
        offset_change = (back @ shift)[..., 0] * unit * moved
        parallax = (back @ parallax)[..., 0] * unit * moved
        middle = eyes + (back @ (0.6 * torch.tanh(middle)))[..., 0] * unit
        # The correction of A rotates about the eyes, not about the image's centre.
        offset = offset + offset_change - (turned @ eyes[..., None])[..., 0]
        radii = torch.cat([upright[:, :1] / HEAD_RADII[0], upright[:, 1:] / HEAD_RADII[1]], 1)
        return matrix, offset, parallax, middle, radii / unit[:, None]


def depth_map(middle: Tensor, frame: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """d(z) of `HeadMotion` (B, H, W) on a grid of columns `across` (W,) and rows `down` (H,); 0
    outside.
    """
    offset = -(frame @ middle[..., None])
    u, v = (
        (frame[:, i, :1] * across + offset[:, i])[:, None, :] + (frame[:, i, 1:] * down)[:, :, None]
        for i in (0, 1)
    )
    return _depth(u.square() + v.square())


@in_float32
def depth_at(middle: Tensor, frame: Tensor, points: Tensor) -> Tensor:
    """d(z) of `HeadMotion` (B, N) at points (B, N, 2)."""
    return _depth(((points - middle[:, None]) @ frame.transpose(1, 2)).square().sum(-1))


@in_float32
def affine_residual(
    source_points: Tensor, driving_points: Tensor, matrix: Tensor, offset: Tensor, bend: Tensor | None
) -> Tensor:
    """Distance (B, K) of the source keypoints from the driving ones under the head's motion: their
    non-rigid motion.

    Args:
        source_points, driving_points: (B, K, 2).
        matrix, offset, bend: the head's motion z -> A z + b + bend; bend (B, K, 2) or None.
    """
    carried = driving_points @ matrix.transpose(1, 2) + offset[:, None]
    if bend is not None:
        carried = carried + bend
    # A square root's slope at zero is infinite.
    return (source_points - carried).square().sum(-1).clamp_min(1e-12).sqrt()


def _depth(squared: Tensor) -> Tensor:
    # Clamped, because the root's slope is infinite at the edge.
    return (1 - squared).clamp_min(1e-3).sqrt() - 1e-3**0.5


#: Initial prior by words of landmarks' names: its strength (in tens of logits), and the logarithm
#: of the power to which the keypoint's Gaussian is raised. An iris's is the strongest, because
#: everything around it moves differently, and wide enough for the whole iris: what changes is at
#: its rim.
INITIAL_MASK_PRIOR = {
    "iris": (2.2, 0.4),
    "brow": (0.6, 0.0),
    "lip": (0.5, 0.5),
    "corner": (0.4, 0.8),
    "lid": (0.3, 0.9),
}


class KeypointMaskPrior(nn.Module):
    """A prior on the masks: around a keypoint, its own motion is more likely.

    The network sees where keypoints *moved*. Those that hardly moved it would have to find in the
    image, and the few cells of an eye are too small a part of the loss to learn that from: with
    exact keypoints, the motion of an iris was exact and never chosen. Two parameters per keypoint
    solve this. Facial landmarks start from `INITIAL_MASK_PRIOR`: from zero, they got half-way in a
    thousand steps.

    Args:
        num_keypoints: K.
    """

    def __init__(self, num_keypoints: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(num_keypoints))
        self.sharpness = nn.Parameter(torch.ones(num_keypoints))
        with torch.no_grad():
            for index, name in enumerate(LANDMARKS[:num_keypoints]):
                for word, start in INITIAL_MASK_PRIOR.items():
                    if word in name:
                        self.strength[index], self.sharpness[index] = start

    def forward(self, driving_points: Tensor, grid: Tensor, variance: float) -> Tensor:
        """Logits to add (B, K, H, W), for driving keypoints (B, K, 2).

        Args:
            grid: (H, W, 2) of `make_grid`.
            variance: of the Gaussians before they are raised to a power.
        """
        narrow = gaussian_heatmaps(driving_points, grid, variance / self.sharpness.exp()[:, None])
        # Scaled by 10: the optimiser's step size suits weights, and logits are larger.
        return (10 * self.strength[:, None, None]) * narrow


class DenseMotion(nn.Module):
    """Masks over K local motions, the head's motion and no motion; residual flow; occlusion map
    (FOMM, Eq. 4-7).

    Works at 1/4 of the size.
    """

    grid: Tensor
    rigid: Tensor

    def __init__(self, config: LiteConfig):
        super().__init__()
        k = config.num_keypoints
        self.variance = config.heatmap_variance
        self.residual_limit = config.residual_limit
        self.threshold = config.motion_threshold
        self.non_rigid_threshold = config.non_rigid_threshold
        self.network = UNet(4 * k + 6, config.motion_channels)
        self.head_motion = HeadMotion(k, config.head_channels) if config.head_channels else None
        self.head = nn.Conv2d(config.motion_channels[0], k + 5, 5, 1, 2)
        nn.init.normal_(self.head.weight, std=0.005)
        nn.init.zeros_(self.head.bias)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            self.head.bias[k + 2] = 2.0  # visible until shown otherwise  # pyright: ignore[reportOptionalSubscript]
        self.mask_prior = KeypointMaskPrior(k) if config.mask_prior else None
        side = config.size // 4
        self.register_buffer("grid", make_grid(side, side), persistent=False)
        self.register_buffer("rigid", torch.tensor(RIGID), persistent=False)

    def forward(
        self,
        thumbnail: Tensor,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        batch = len(driving_points)
        height, width = self.grid.shape[:2]
        affine, shift, gate, parallax, depth, non_rigid = self.candidates(
            source_points, source_jacobians, driving_points, driving_jacobians
        )
        count = affine.shape[1]
        # A row plus a column: a matrix product per pixel would cost more.
        across, down = self.grid[0, :, 0], self.grid[:, 0, 1]
        motions = torch.stack(
            [
                (affine[:, :, i, :1] * across + shift[:, :, i : i + 1])[:, :, None, :]
                + (affine[:, :, i, 1:] * down)[:, :, :, None]
                for i in range(2)
            ],
            dim=-1,
        )
        if parallax is not None and depth is not None:
            turned = motions[:, -1:] + parallax[:, None, None, None] * depth[:, None, :, :, None]
            motions = torch.cat([motions[:, :-1], turned], 1)
        warped = warp(
            thumbnail[:, None].expand(-1, count, -1, -1, -1).reshape(batch * count, 3, height, width),
            motions.reshape(batch * count, height, width, 2),
            "border",
        ).view(batch, 3 * count, height, width)
        difference = gaussian_heatmaps(driving_points, self.grid, self.variance) - gaussian_heatmaps(
            source_points, self.grid, self.variance
        )
        features = self.network(torch.cat([difference, warped, thumbnail], 1))[-1]
        head = self.head(features).float()  # flows need float32, whatever the convolutions ran in
        mask = self.mask_logits(head[:, : count + 1], driving_points, non_rigid).softmax(1)
        # No residual where no keypoint moved, so that no motion gives the identity exactly.
        gate = gate[:, None, None, None]
        residual = self.residual_limit * torch.tanh(head[:, count + 2 :]) * gate
        flow = (mask[:, :count, :, :, None] * motions).sum(1) + mask[:, count, :, :, None] * self.grid
        flow = flow + residual.permute(0, 2, 3, 1)
        return {
            "deformation": flow,
            "mask": mask,
            "occlusion_map": torch.sigmoid(head[:, count + 1 : count + 2]),
            "difference": difference,
            "gate": gate,
            "motions": motions,
        }

    def mask_logits(self, logits: Tensor, driving_points: Tensor, non_rigid: Tensor) -> Tensor:
        """The network's mask logits (B, K + 2, H, W) plus the prior.

        Args:
            logits: (B, K + 2, H, W), of the network.
            driving_points: (B, K, 2).
            non_rigid: (B, K) of `candidates`.
        """
        if self.mask_prior is None:
            return logits
        k = driving_points.shape[1]
        prior = non_rigid[:, :, None, None] * self.mask_prior(driving_points, self.grid, self.variance)
        return torch.cat([logits[:, :k] + prior, logits[:, k:]], 1)

    def candidates(
        self,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
        """Parameters of the motions among which the masks choose.

        Returns:
            A (B, K + 1, 2, 2) and b (B, K + 1, 2) of the K local motions (FOMM, Eq. 4) and the
            head's; the gate (B,), 0 where nothing moved, up to 1; with a head network, the parallax
            c (B, 2) and its depth map (B, H, W); and non-rigid motion (B, K), from 0, with the
            head, to 1.
        """
        # Eq. 4: T_k(z) = p_S + J_S J_D^-1 (z - p_D).
        affine, shift = local_motions(source_points, source_jacobians, driving_points, driving_jacobians)
        turned = (affine - torch.eye(2, dtype=affine.dtype, device=affine.device)).abs().amax((1, 2, 3))
        moved = (driving_points - source_points).abs().amax((1, 2)) + 0.2 * turned
        gate = (moved / self.threshold).clamp(max=1.0)
        matrix, offset = rigid_motion(source_points, driving_points, self.rigid)
        parallax = depth = None
        if self.head_motion is not None:
            matrix, offset, parallax, middle, frame = self.head_motion(
                source_points, driving_points, affine, matrix, offset, gate
            )
            depth = depth_map(middle, frame, self.grid[0, :, 0], self.grid[:, 0, 1])
        non_rigid = torch.ones_like(driving_points[..., 0])
        if self.non_rigid_threshold:
            bend = None
            if parallax is not None:
                bend = depth_at(middle, frame, driving_points)[..., None] * parallax[:, None]
            distance = affine_residual(source_points, driving_points, matrix, offset, bend)
            non_rigid = (distance / self.non_rigid_threshold).clamp(max=1.0)
        affine, shift = torch.cat([affine, matrix[:, None]], 1), torch.cat([shift, offset[:, None]], 1)
        return affine, shift, gate, parallax, depth, non_rigid


#: Share by which the blend is reduced where the avatar shows the point.
PAINT_LIMIT = 0.8


class Generator(nn.Module):
    """Encodes the avatar once; per frame warps its features, inpaints, and blends with the warped
    avatar (FOMM, Eq. 8).
    """

    def __init__(self, config: LiteConfig):
        super().__init__()
        fine, coarse = config.generator_channels
        self.config = config
        self.encode_half = nn.Conv2d(12, 32, 3, 1, 1)
        self.encode_quarter = nn.Conv2d(32, fine, 3, 2, 1)
        self.encode_blocks = nn.Sequential(ResidualBlock(fine), ResidualBlock(fine))
        self.join = nn.Conv2d(fine + config.num_keypoints, fine, 3, 1, 1)
        self.down = nn.Conv2d(fine, coarse, 3, 2, 1)
        self.coarse_blocks = nn.Sequential(
            *[ResidualBlock(coarse) for _ in range(config.generator_blocks[1])]
        )
        self.up = nn.Conv2d(coarse, fine, 3, 1, 1)
        self.fine_blocks = nn.Sequential(*[ResidualBlock(fine) for _ in range(config.generator_blocks[0])])
        self.expand = nn.Conv2d(fine, 32, 3, 1, 1)
        self.merge = nn.Conv2d(32 + 12, 32, 3, 1, 1)
        self.last = nn.Conv2d(32, 16, 3, 1, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        with torch.no_grad():
            # Channels 12-15 are the blend: start from the warped avatar.
            self.last.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
            self.last.bias[12:] = -2.0  # pyright: ignore[reportOptionalSubscript]

    def encode(self, avatars: Tensor) -> Tensor:
        x = F.relu(self.encode_half(F.pixel_unshuffle(avatars - 0.5, 2)))
        return self.encode_blocks(F.relu(self.encode_quarter(x)))

    def forward(
        self,
        features: Tensor,
        image: Tensor,
        motion: dict[str, Tensor],
        window: tuple[int, int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Generate the images, or a window of them.

        Args:
            features: of `encode`.
            image: the avatars (B, 3, S, S).
            motion: of `DenseMotion`.
            window: top, left and side of a square in cells of the flow, which saves work in
                training; None for all.
        """
        flow, occlusion, difference = motion["deformation"], motion["occlusion_map"], motion["difference"]
        side = image.shape[-1]
        full_flow = F.interpolate(
            flow.permute(0, 3, 1, 2), size=(side, side), mode="bilinear", align_corners=True
        )
        if window is not None:
            top, left, cells = window
            rows, columns = slice(top, top + cells), slice(left, left + cells)
            flow, occlusion = flow[:, rows, columns], occlusion[:, :, rows, columns]
            difference = difference[:, :, rows, columns]
            full_flow = full_flow[:, :, 4 * top : 4 * (top + cells), 4 * left : 4 * (left + cells)]
        warped_image = warp(image, full_flow.permute(0, 2, 3, 1), "border")
        x = warp(features, flow, "border") * occlusion
        x = F.relu(self.join(torch.cat([x, difference], 1)))
        deep = self.coarse_blocks(F.relu(self.down(x)))
        x = x + F.interpolate(self.up(deep), scale_factor=2.0, mode="nearest")
        x = self.fine_blocks(x)
        x = F.interpolate(F.relu(self.expand(x)), scale_factor=2.0, mode="nearest")
        x = F.relu(self.merge(torch.cat([x, F.pixel_unshuffle(warped_image - 0.5, 2)], 1)))
        x = F.pixel_shuffle(self.last(x), 2).float()
        painted = 0.5 + x[:, :3]
        # Generated pixels are for what the avatar does not show. Elsewhere they may only tint:
        # otherwise they cover every sharp eye that is a pixel off with a blurred mean.
        shown = F.interpolate(occlusion, scale_factor=4.0, mode="bilinear", align_corners=False)
        blend = torch.sigmoid(x[:, 3:]) * motion["gate"] * (1 - PAINT_LIMIT * shown)
        prediction = torch.lerp(warped_image, painted, blend.expand(-1, 3, -1, -1))
        if not self.training:
            prediction = prediction.clamp(0, 1)
        return {"prediction": prediction, "warped": warped_image, "blend": blend, "painted": painted}


class LitePuppet(Model):
    """The lite model behind the three calls.

    Args:
        config: its sizes.
    """

    def __init__(self, config: LiteConfig | None = None):
        super().__init__()
        self.config = config or LiteConfig()
        self.detector = KeypointDetector(self.config)
        self.motion = DenseMotion(self.config)
        self.generator = Generator(self.config)

    def detect(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, 3, S, S) RGB in [0, 1] to points (B, K, 2) in [-1, 1] and Jacobians (B, K, 2,
        2).
        """
        points, jacobians, _ = self.detector(frames)
        return points, jacobians

    def detect_with_confidence(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `detect` returns, and each keypoint's confidence (B, K) in [0, 1]; see
        `geometry.peak_confidence`.
        """
        points, jacobians, logits = self.detector(frames)
        return points, jacobians, peak_confidence(logits)

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """Everything that depends on the avatars (B, 3, S, S) RGB in [0, 1] alone.

        Returns:
            image (B, 3, S, S), thumbnail (B, 3, S/4, S/4), features (B, C, S/4, S/4).
        """
        return {
            "picture": avatars,
            "thumbnail": F.avg_pool2d(avatars, 4),
            "features": self.generator.encode(avatars),
        }

    def render(
        self,
        features: dict[str, Tensor],
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> dict[str, Tensor]:
        """Move the encoded avatars.

        Returns:
            prediction (B, 3, S, S) RGB in [0, 1]; deformation (B, S/4, S/4, 2), a sampling grid;
            occlusion_map (B, 1, S/4, S/4), 1 where the avatar shows the point; mask (B, K + 2, S/4,
            S/4), the head's motion and no motion last; warped, the avatar under the deformation;
            blend, the share of generated pixels.
        """
        motion = self.motion(
            features["thumbnail"], source_points, source_jacobians, driving_points, driving_jacobians
        )
        return {**motion, **self.generator(features["features"], features["picture"], motion)}
