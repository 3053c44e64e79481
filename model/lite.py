"""`lite-256`: the first-order motion model with an order of magnitude less work, made for a laptop's CPU.

The mathematics is FOMM's (local affine motions around keypoints, masks, occlusion); the networks are small stride-2
U-Nets with added skips. What differs from the paper, and why:

* Jacobians are averaged over a 16 x 16 grid: their maps are smooth, and a sixteenth of the pixels is a sixteenth of
  the work. They are bounded, J = I + 1.5 tanh(raw / 1.5), because unbounded ones explode early in training.
* Keypoints are named facial landmarks (lids, irises, lips among them), so that training can supervise them.
* Heat-maps are read at a high temperature, what is expressive with a second, closer look; see `KeypointDetector.locate`.
  At FOMM's 0.1 they become so sharp that their soft-argmax steps from cell to cell (4 pixels). Only training without
  supervision reads them so, which needs it to begin at all.
* One more motion is offered beside the K local ones: the head's own (`HeadMotion`), the affine map that fits all rigid
  landmarks best plus a parallax that grows with the depth of a head's shape. Hair and the head's outline, far from any
  keypoint, follow it.
* The dense motion network adds a small residual flow (Monkey-Net's idea), because a closing lid is not an affine motion.
* The picture is a blend of generated pixels and the *avatar warped at full resolution*, which keeps its fine texture.
* With no motion there is nothing to generate: residual flow and blend are gated by how far the keypoints moved, so an
  avatar at rest comes back exactly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.model.geometry import (
    gaussian_heatmaps,
    in_float32,
    inverse_2x2,
    make_grid,
    peak_confidence,
    soft_argmax,
    warp,
)

#: What each keypoint is, in order. "left" is the picture's left.
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
        size: side of the pictures; a multiple of 64.
        num_keypoints: K.
        detector_channels: channels at 1/4, 1/8, 1/16, 1/32 and 1/64 of the size.
        motion_channels: channels at 1/4, 1/8, 1/16 and 1/32.
        generator_channels: channels at 1/4 and 1/8.
        generator_blocks: residual blocks at 1/4 and at 1/8.
        temperature: of the heat-maps' softmax in training without supervision, and of the Jacobians' weights always.
        reading_temperature: of the softmax by which keypoints are located otherwise.
        close_temperature: the same for the second look, at lids, irises, brows and mouth.
        close_window: standard deviation, in cells of the heat-map, of the Gaussian that bounds the second look.
        heatmap_variance: of the Gaussians shown to the dense motion network (FOMM, Eq. 6), in squared [-1, 1] units.
        residual_limit: largest residual flow, in [-1, 1] units.
        motion_threshold: keypoint motion, in [-1, 1] units, from which on pixels may be generated freely.
        head_channels: hidden units of the network that refines the head's motion; 0 for the affine fit alone.
        homes: each keypoint's motion is preferred around its keypoint, by a strength and a width that are learned.
        own_threshold: how far a keypoint moves otherwise than the head, in [-1, 1] units, from which on that preference is full;
            0 for always.
    """

    size: int = 256
    num_keypoints: int = 16
    detector_channels: tuple[int, ...] = (32, 32, 64, 128, 128)
    motion_channels: tuple[int, ...] = (32, 64, 96, 128)
    generator_channels: tuple[int, int] = (64, 96)
    generator_blocks: tuple[int, int] = (2, 3)
    temperature: float = 0.1
    reading_temperature: float = 1.4
    close_temperature: float = 0.6
    close_window: float = 2.0
    heatmap_variance: float = 0.005
    residual_limit: float = 0.12
    motion_threshold: float = 0.01
    head_channels: int = 0
    homes: bool = False
    own_threshold: float = 0.0


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
        inputs: channels of the picture, whose side is that of the first level.
        channels: channels per level, fine to coarse.
        kernel: of the first convolution.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], kernel: int = 3, stride: int = 1):
        super().__init__()
        self.first = ConvNorm(inputs, channels[0], kernel, stride)
        pairs = list(itertools.pairwise(channels))
        self.down = nn.ModuleList(ConvNorm(a, b, 3, 2) for a, b in pairs)
        self.middle = ConvNorm(channels[-1], channels[-1])
        self.up = nn.ModuleList(ConvNorm(b, a) for a, b in reversed(pairs))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the decoder, coarse to fine; the last has the first level's side."""
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
    """Two convolutions without normalisation: pictures keep their own brightness, and small batches train alike."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)
        # Starts near the identity, as a deep chain without normalisation must.
        with torch.no_grad():
            self.second.weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


#: Landmarks that get a second look: those by which a face speaks. A lid or a brow travels few cells, and what softening
#: takes from it is a part of every blink. Skull and body travel far, and are steadier after the first look alone.
CLOSE = tuple(
    index
    for index, name in enumerate(LANDMARKS)
    if any(word in name for word in ("lid", "iris", "brow", "mouth", "lip"))
)


class KeypointDetector(nn.Module):
    """Heat-maps at 1/4 of the size from the frame at 1/2; soft-argmax; Jacobians as heat-map-weighted averages.

    In training mode points are the soft-argmax at the training temperature; otherwise, and in training with exact
    landmarks (`with_first_look`), they are what `locate` reads from the same heat-maps.
    """

    def __init__(self, config: LiteConfig):
        super().__init__()
        self.temperature = config.temperature
        self.reading_temperature = config.reading_temperature
        self.close_temperature = config.close_temperature
        self.num_keypoints = config.num_keypoints
        channels = config.detector_channels
        self.network = UNet(3, channels, kernel=5, stride=2)
        self.heatmaps = nn.Conv2d(channels[0], config.num_keypoints, 5, 1, 2)
        self.jacobians = nn.Conv2d(channels[2], 4 * config.num_keypoints, 3, 1, 1)
        nn.init.zeros_(self.jacobians.weight)
        nn.init.zeros_(self.jacobians.bias)
        side = config.size // 4
        self.register_buffer("grid", make_grid(side, side), persistent=False)
        self.close_deviation = config.close_window * 2 / (side - 1)
        # Of the points of the first look followed by those of the second: which one each keypoint takes.
        taken = list(range(config.num_keypoints))
        for place, index in enumerate(CLOSE):
            taken[index] = config.num_keypoints + place
        self.register_buffer("close", torch.tensor(CLOSE), persistent=False)
        self.register_buffer("taken", torch.tensor(taken), persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints of frames (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, K, 2) in [-1, 1]; Jacobians (B, K, 2, 2); heat-maps (B, K, S/4, S/4) before their softmax, over
            the temperature of the Jacobians' weights.
        """
        return self._read(F.avg_pool2d(frames, 2))

    def with_first_look(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `from_half` returns, and the points (B, K, 2) of the first look, for training."""
        _, jacobians, logits = self._read(frames)
        heights = logits * self.temperature
        return self.locate(heights), jacobians, self._expected(heights / self.reading_temperature)

    def from_half(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, K, 2) in [-1, 1] and Jacobians (B, K, 2, 2) of frames already brought to (B, 3, S/2, S/2)."""
        points, jacobians, _ = self._read(frames)
        return points, jacobians

    def locate(self, heights: Tensor) -> Tensor:
        """Points (B, K, 2) in [-1, 1] of heat-maps (B, K, H, W) before any temperature, to a fraction of a cell.

        Two looks. The first weighs the whole map at a temperature at which neighbouring cells share the weight, and so
        moves with the face instead of stepping, and leans over gradually where a map has two peaks instead of jumping.
        It also pulls a little towards where a landmark usually is. The second, at `CLOSE` ones, weighs the map at a
        lower temperature under a Gaussian about the first: nearer to the peak, and blind to peaks elsewhere.
        """
        first = self._expected(heights / self.reading_temperature)
        place = first.index_select(1, self.close)
        across = (self.grid[0, :, 0] - place[:, :, :1]) / self.close_deviation
        down = (self.grid[:, 0, 1] - place[:, :, 1:]) / self.close_deviation
        window = -0.5 * (across.square()[:, :, None, :] + down.square()[:, :, :, None])
        second = self._expected(heights.index_select(1, self.close) / self.close_temperature + window)
        return torch.cat([first, second], 1).index_select(1, self.taken)

    def _expected(self, logits: Tensor) -> Tensor:
        return logits.flatten(2).softmax(-1) @ self.grid.flatten(0, 1)

    @in_float32
    def _read(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.network(frames - 0.5)
        heights = self.heatmaps(features[-1])
        logits = heights / self.temperature
        batch, k, height, width = logits.shape
        heatmaps = logits.flatten(2).softmax(-1).view(batch, k, height, width)
        points = soft_argmax(heatmaps, self.grid) if self.training else self.locate(heights)
        coarse = F.avg_pool2d(heatmaps, 4) * 16.0
        maps = self.jacobians(features[-3])
        maps = maps.view(batch, k, 4, height // 4, width // 4)
        raw = (coarse[:, :, None] * maps).sum((-1, -2)).view(batch, k, 2, 2)
        eye = torch.eye(2, dtype=raw.dtype, device=raw.device)
        return points, eye + 1.5 * torch.tanh(raw / 1.5), logits


#: Landmarks that move with the skull more than with the face, by which the head's own motion is fitted.
RIGID = tuple(
    index
    for index, name in enumerate(LANDMARKS)
    if any(word in name for word in ("lower lid", "brow", "nose", "corner", "forehead"))
)

#: Weight of "no change" in that fit, in squared [-1, 1] units; the landmarks' own variance is about 0.05.
STIFFNESS = 1e-3


@in_float32
def rigid_motion(
    source_points: Tensor, driving_points: Tensor, rigid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The affine map z -> A z + b that carries rigid driving landmarks to the source's best, least squares.

    Args:
        source_points, driving_points: (B, K, 2).
        rigid: `RIGID` as a tensor beside the points. Made anew it would be copied to a graphics card in every call, which
            waits for the card, and which a CUDA graph cannot hold.

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
    """Each keypoint's own affine map z -> A z + b, A (B, K, 2, 2) and b (B, K, 2), of two keypoint sets (FOMM, Eq. 4)."""
    affine = source_jacobians @ inverse_2x2(driving_jacobians)
    return affine, source_points - (affine @ driving_points[..., None])[..., 0]


#: A head in the units of its face, the distance from eyes to mouth: its half width and half height.
HEAD_RADII = (1.30, 1.75)

#: Landmarks between which that distance is measured.
LIDS, CORNERS = (
    tuple(index for index, name in enumerate(LANDMARKS) if word in name) for word in ("lid", "corner")
)


class HeadMotion(nn.Module):
    """How a head turns as a whole: z -> A z + b + d(z) c.

    Points of a turning head move by their depth, which no affine map of the picture shows: the nose overtakes the eyes, the
    ears stay behind. Seen from afar a rigid motion is affine in (x, y, depth), and the depth d of an ellipsoid is near enough to a
    head's. A and b are first those of `rigid_motion`; a small network reads from the shape of all keypoints how they
    should differ, how strong the parallax c is, and where the ellipsoid's middle lies. It is all zero where no keypoint moved.

    Args:
        num_keypoints: K.
        channels: hidden units.
    """

    def __init__(self, num_keypoints: int, channels: int):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(8 * num_keypoints + 4, channels),
            nn.ReLU(),
            nn.Linear(channels, channels),
            nn.ReLU(),
            nn.Linear(channels, 10),
        )
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)
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
            A (B, 2, 2), b (B, 2) and c (B, 2); and the ellipsoid: its middle (B, 2) in the driving picture, and F (B, 2, 2)
            by which d(z) = sqrt(1 - |F (z - middle)|^2).
        """
        batch = len(driving_points)
        eyes = driving_points.index_select(1, self.lids).mean(1)
        mouth = driving_points.index_select(1, self.corners).mean(1)
        down = mouth - eyes
        unit = down.square().sum(1, keepdim=True).clamp_min(1e-4).sqrt()
        # The face's frame in the driving picture: right and down, of length 1.
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
        # The correction of A turns about the eyes, not about the picture's middle.
        offset = offset + offset_change - (turned @ eyes[..., None])[..., 0]
        radii = torch.cat([upright[:, :1] / HEAD_RADII[0], upright[:, 1:] / HEAD_RADII[1]], 1)
        return matrix, offset, parallax, middle, radii / unit[:, None]


def depth_map(middle: Tensor, frame: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """d(z) of `HeadMotion` (B, H, W) on a grid of columns `across` (W,) and rows `down` (H,); 0 outside."""
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
def apart(
    source_points: Tensor, driving_points: Tensor, matrix: Tensor, offset: Tensor, bend: Tensor | None
) -> Tensor:
    """How far (B, K) the map z -> A z + b + bend carries driving keypoints beside the source's (B, K, 2); bend (B, K, 2) or None."""
    carried = driving_points @ matrix.transpose(1, 2) + offset[:, None]
    if bend is not None:
        carried = carried + bend
    # A square root's slope at zero is infinite.
    return (source_points - carried).square().sum(-1).clamp_min(1e-12).sqrt()


def _depth(squared: Tensor) -> Tensor:
    # Not to the very edge, where a root is infinitely steep.
    return (1 - squared).clamp_min(1e-3).sqrt() - 1e-3**0.5


#: By words of landmarks' names, the strength (in tens of logits) and the logarithm of the power of a Gaussian with which their own
#: motion is preferred at first. An iris's is the strongest, for all around it pulls elsewhere, and wide enough for the whole iris:
#: the change lies at its rim.
STARTING_HOMES = {
    "iris": (2.2, 0.4),
    "brow": (0.6, 0.0),
    "lip": (0.5, 0.5),
    "corner": (0.4, 0.8),
    "lid": (0.3, 0.9),
}


class Homes(nn.Module):
    """How much each keypoint's own motion is preferred around the keypoint, before the network has looked.

    The network sees where keypoints *moved*. Where those are that hardly did, it would have to find in the picture, and the
    few cells of an eye are too little of a loss to learn it from: with exact keypoints, the motion of a moving iris was exact and
    never chosen. Two numbers per keypoint say so at once. A face's parts start with theirs (`STARTING_HOMES`): learned from
    nothing, they came half-way in a thousand steps.

    Args:
        num_keypoints: K.
    """

    def __init__(self, num_keypoints: int):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(num_keypoints))
        self.sharpness = nn.Parameter(torch.ones(num_keypoints))
        with torch.no_grad():
            for index, name in enumerate(LANDMARKS[:num_keypoints]):
                for word, start in STARTING_HOMES.items():
                    if word in name:
                        self.strength[index], self.sharpness[index] = start

    def forward(self, driving_points: Tensor, grid: Tensor, variance: float) -> Tensor:
        """Logits to add (B, K, H, W), for driving keypoints (B, K, 2).

        Args:
            grid: (H, W, 2) of `make_grid`.
            variance: of the Gaussians of which these are powers.
        """
        narrow = gaussian_heatmaps(driving_points, grid, variance / self.sharpness.exp()[:, None])
        # Ten times: a step of the optimiser is made for weights, and logits are larger.
        return (10 * self.strength[:, None, None]) * narrow


class DenseMotion(nn.Module):
    """Masks over K local motions, the head's and none, a residual flow and an occlusion map (FOMM, Eq. 4-7).

    Works at 1/4 of the size.
    """

    def __init__(self, config: LiteConfig):
        super().__init__()
        k = config.num_keypoints
        self.variance = config.heatmap_variance
        self.residual_limit = config.residual_limit
        self.threshold = config.motion_threshold
        self.own_threshold = config.own_threshold
        self.network = UNet(4 * k + 6, config.motion_channels)
        self.turning = HeadMotion(k, config.head_channels) if config.head_channels else None
        self.head = nn.Conv2d(config.motion_channels[0], k + 5, 5, 1, 2)
        nn.init.normal_(self.head.weight, std=0.005)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.bias[k + 2] = 2.0  # visible until shown otherwise
        self.homes = Homes(k) if config.homes else None
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
        affine, shift, gate, parallax, depth, own = self.candidates(
            source_points, source_jacobians, driving_points, driving_jacobians
        )
        count = affine.shape[1]
        # A row and a column added: a matrix product per pixel costs more than the six numbers it works on.
        across, down = self.grid[0, :, 0], self.grid[:, 0, 1]
        motions = torch.stack(
            [
                (affine[:, :, i, :1] * across + shift[:, :, i : i + 1])[:, :, None, :]
                + (affine[:, :, i, 1:] * down)[:, :, :, None]
                for i in range(2)
            ],
            dim=-1,
        )
        if parallax is not None:
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
        mask = self.preferences(head[:, : count + 1], driving_points, own).softmax(1)
        # Only what moves may bend: no residual where no keypoint moved, so no motion gives the identity exactly.
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

    def preferences(self, logits: Tensor, driving_points: Tensor, own: Tensor) -> Tensor:
        """What the masks (B, K + 2, H, W) are the softmax of.

        Args:
            logits: (B, K + 2, H, W) what the network says.
            driving_points: (B, K, 2).
            own: (B, K) of `candidates`.
        """
        if self.homes is None:
            return logits
        k = driving_points.shape[1]
        homes = own[:, :, None, None] * self.homes(driving_points, self.grid, self.variance)
        return torch.cat([logits[:, :k] + homes, logits[:, k:]], 1)

    def candidates(
        self,
        source_points: Tensor,
        source_jacobians: Tensor,
        driving_points: Tensor,
        driving_jacobians: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor]:
        """The motions among which the masks choose, as numbers.

        Returns:
            A (B, K + 1, 2, 2) and b (B, K + 1, 2) of the K local motions (FOMM, Eq. 4) and the head's; the gate (B,), from 0
            where nothing moved to 1; with a head network, the parallax c (B, 2) and the depth map (B, H, W) it goes by; and how
            far each keypoint moves on its own (B, K), from 0, as the head does, to 1.
        """
        # Eq. 4: T_k(z) = p_S + J_S J_D^-1 (z - p_D).
        affine, shift = local_motions(source_points, source_jacobians, driving_points, driving_jacobians)
        turned = (affine - torch.eye(2, dtype=affine.dtype, device=affine.device)).abs().amax((1, 2, 3))
        moved = (driving_points - source_points).abs().amax((1, 2)) + 0.2 * turned
        gate = (moved / self.threshold).clamp(max=1.0)
        matrix, offset = rigid_motion(source_points, driving_points, self.rigid)
        parallax = depth = None
        if self.turning is not None:
            matrix, offset, parallax, middle, frame = self.turning(
                source_points, driving_points, affine, matrix, offset, gate
            )
            depth = depth_map(middle, frame, self.grid[0, :, 0], self.grid[:, 0, 1])
        own = torch.ones_like(driving_points[..., 0])
        if self.own_threshold:
            bend = None
            if parallax is not None:
                bend = depth_at(middle, frame, driving_points)[..., None] * parallax[:, None]
            distance = apart(source_points, driving_points, matrix, offset, bend)
            own = (distance / self.own_threshold).clamp(max=1.0)
        affine, shift = torch.cat([affine, matrix[:, None]], 1), torch.cat([shift, offset[:, None]], 1)
        return affine, shift, gate, parallax, depth, own


#: How much of the blend is taken away where the avatar shows the point.
PAINT_LIMIT = 0.8


class Generator(nn.Module):
    """Features of the avatar once; per frame: warp them, paint what they lack, blend with the warped avatar (Eq. 8)."""

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
            self.last.bias.zero_()
            self.last.bias[12:] = -2.0

    def encode(self, avatars: Tensor) -> Tensor:
        x = F.relu(self.encode_half(F.pixel_unshuffle(avatars - 0.5, 2)))
        return self.encode_blocks(F.relu(self.encode_quarter(x)))

    def forward(
        self,
        features: Tensor,
        picture: Tensor,
        motion: dict[str, Tensor],
        window: tuple[int, int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Paint the pictures, or only a part of them.

        Args:
            features: of `encode`.
            picture: the avatars (B, 3, S, S).
            motion: of `DenseMotion`.
            window: top, left and side of a square in cells of the flow; training saves work so. None is everything.
        """
        flow, occlusion, difference = motion["deformation"], motion["occlusion_map"], motion["difference"]
        side = picture.shape[-1]
        full_flow = F.interpolate(
            flow.permute(0, 3, 1, 2), size=(side, side), mode="bilinear", align_corners=True
        )
        if window is not None:
            top, left, cells = window
            rows, columns = slice(top, top + cells), slice(left, left + cells)
            flow, occlusion = flow[:, rows, columns], occlusion[:, :, rows, columns]
            difference = difference[:, :, rows, columns]
            full_flow = full_flow[:, :, 4 * top : 4 * (top + cells), 4 * left : 4 * (left + cells)]
        warped_picture = warp(picture, full_flow.permute(0, 2, 3, 1), "border")
        x = warp(features, flow, "border") * occlusion
        x = F.relu(self.join(torch.cat([x, difference], 1)))
        deep = self.coarse_blocks(F.relu(self.down(x)))
        x = x + F.interpolate(self.up(deep), scale_factor=2.0, mode="nearest")
        x = self.fine_blocks(x)
        x = F.interpolate(F.relu(self.expand(x)), scale_factor=2.0, mode="nearest")
        x = F.relu(self.merge(torch.cat([x, F.pixel_unshuffle(warped_picture - 0.5, 2)], 1)))
        x = F.pixel_shuffle(self.last(x), 2).float()
        painted = 0.5 + x[:, :3]
        # Painting is for what the avatar does not show. Elsewhere it may only tint: left alone it would paint a
        # blurred mean over every sharp eye whose place is a pixel off.
        shown = F.interpolate(occlusion, scale_factor=4.0, mode="bilinear", align_corners=False)
        blend = torch.sigmoid(x[:, 3:]) * motion["gate"] * (1 - PAINT_LIMIT * shown)
        prediction = torch.lerp(warped_picture, painted, blend.expand(-1, 3, -1, -1))
        if not self.training:
            prediction = prediction.clamp(0, 1)
        return {"prediction": prediction, "warped": warped_picture, "blend": blend, "painted": painted}


class LitePuppet(nn.Module):
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
        """Frames (B, 3, S, S) RGB in [0, 1] to points (B, K, 2) in [-1, 1] and Jacobians (B, K, 2, 2)."""
        points, jacobians, _ = self.detector(frames)
        return points, jacobians

    def detect_with_confidence(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `detect` returns, and how sure of each keypoint (B, K) in [0, 1]; see `geometry.peak_confidence`."""
        points, jacobians, logits = self.detector(frames)
        return points, jacobians, peak_confidence(logits)

    def encode(self, avatars: Tensor) -> dict[str, Tensor]:
        """Avatars (B, 3, S, S) RGB in [0, 1] to everything that depends on them alone.

        Returns:
            picture (B, 3, S, S), thumbnail (B, 3, S/4, S/4), features (B, C, S/4, S/4).
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
            prediction (B, 3, S, S) RGB in [0, 1]; deformation (B, S/4, S/4, 2), a sampling grid; occlusion_map
            (B, 1, S/4, S/4), 1 where the avatar shows the point; mask (B, K + 2, S/4, S/4), the head's motion and none last;
            warped, the avatar under the deformation; blend, the share of generated pixels.
        """
        motion = self.motion(
            features["thumbnail"], source_points, source_jacobians, driving_points, driving_jacobians
        )
        return {**motion, **self.generator(features["features"], features["picture"], motion)}
