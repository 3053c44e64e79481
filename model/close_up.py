"""Close-up networks: fine landmarks and named amounts of one eye, of the mouth or of the head, from
an upright crop.

`realtime.rig.close_ups` places and cuts the crops. Points are read by a soft-argmax over heat-maps,
amounts have ARKit's names. An eye's crop takes 11 MMAC, a mouth's 14, a head's 23.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.core.reading import (
    EYE_AMOUNTS,
    EYE_POINTS,
    HEAD_AMOUNTS,
    HEAD_POINTS,
    MOUTH_AMOUNTS,
    MOUTH_POINTS,
)
from livepuppet.model.geometry import in_float32, make_grid
from livepuppet.model.lite import UNet


def _other_side(name: str) -> str:
    for one, other in (("Left", "Right"), ("left", "right")):
        if one in name or other in name:
            return name.replace(one, "@").replace(other, one).replace("@", other)
    return f"jaw {16 - int(name[4:])}" if name.startswith("jaw ") else name


#: Places of amounts and points that trade places in a mirrored crop, and amounts that change their
#: sign.
MOUTH_MIRROR = tuple(MOUTH_AMOUNTS.index(_other_side(name)) for name in MOUTH_AMOUNTS)
HEAD_MIRROR = tuple(HEAD_AMOUNTS.index(_other_side(name)) for name in HEAD_AMOUNTS)
HEAD_SIGNS = tuple(-1.0 if name in ("yaw", "roll") else 1.0 for name in HEAD_AMOUNTS)
MOUTH_POINT_MIRROR = (6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 16, 15, 14, 13, 12, 19, 18, 17)
HEAD_POINT_MIRROR = tuple(HEAD_POINTS.index(_other_side(name)) for name in HEAD_POINTS)


@dataclass(frozen=True)
class CloseUpConfig:
    """Sizes of one close-up network.

    Attributes:
        points: P, number of points.
        amounts: A, number of amounts.
        size: side of the crop in pixels; a multiple of 32.
        channels: channels at 1/2, 1/4, 1/8 and 1/16 of the size.
        heatmap_level: whose size the heat-maps have; 0 for 1/2, 1 for 1/4.
        cells: side of the coarsest features that amounts are read from; it divides size / 16.
        hidden: units between pooled features and amounts.
        softargmax_temperature: of the heat-maps' softmax.
    """

    points: int
    amounts: int
    size: int = 64
    channels: tuple[int, ...] = (24, 32, 48, 64)
    heatmap_level: int = 0
    cells: int = 4
    hidden: int = 128
    softargmax_temperature: float = 1.0


EYE = CloseUpConfig(len(EYE_POINTS), len(EYE_AMOUNTS))
MOUTH = CloseUpConfig(len(MOUTH_POINTS), len(MOUTH_AMOUNTS), channels=(24, 32, 48, 80))
#: Brows and cheeks are small in a head's crop, so it has more pixels.
HEAD = CloseUpConfig(len(HEAD_POINTS), len(HEAD_AMOUNTS), 96, (24, 32, 64, 96), heatmap_level=1, cells=3)


class CloseUp(nn.Module):
    """Reads one kind of crop.

    Points are a heat-map's soft-argmax plus an offset predicted from the whole crop: what is hidden
    (a lid behind a rim, a lip behind a hand) has no peak of its own.
    """

    def __init__(self, config: CloseUpConfig):
        super().__init__()
        self.config = config
        channels = config.channels
        level = config.heatmap_level
        self.network = UNet(3, channels, kernel=5, stride=2, left_out=level)
        self.heatmaps = nn.Conv2d(channels[level], config.points, 3, 1, 1)
        side = config.size // 2 >> level
        self.register_buffer("grid", make_grid(side, side).flatten(0, 1), persistent=False)
        self.read = nn.Sequential(
            nn.Linear(channels[-1] * config.cells**2 + 2 * config.points, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
        )
        self.amounts = nn.Linear(config.hidden, config.amounts)
        self.offsets = nn.Linear(config.hidden, 2 * config.points)
        self.sure = nn.Linear(config.hidden, 1)
        for layer in (self.offsets, self.sure):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read crops (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, P, 2) in [-1, 1] of the crop; amounts (B, A), about [0, 1] (angles in
            radians) and not clipped; logits (B, 1) of whether this is an eye (a mouth, a head) that
            can be seen.
        """
        features = self.network(crops - 0.5)
        return self._read(features[0], features[-1])

    @in_float32
    def _read(self, coarse: Tensor, fine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.heatmaps(fine).flatten(2) / self.config.softargmax_temperature
        points = logits.softmax(-1) @ self.grid
        pooled = F.avg_pool2d(coarse, self.config.size // 16 // self.config.cells).flatten(1)
        read = self.read(torch.cat([pooled, points.flatten(1)], 1))
        points = points + 0.1 * self.offsets(read).view_as(points)
        return points, self.amounts(read), self.sure(read)


def _unit(crops: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) as (B, 3, S, S) in [0, 1]."""
    return crops.permute(0, 3, 1, 2).float() / 255


class Eyes(nn.Module):
    """An eye's network alone as a graph, with the inputs and outputs that it has in `CloseUps`."""

    def __init__(self, eye: CloseUp):
        super().__init__()
        self.eye = eye

    def forward(self, eyes: Tensor) -> tuple[Tensor, ...]:
        """Read uint8 crops (2, S, S, 3); returns points, amounts and logits, as `CloseUp`."""
        return self.eye(_unit(eyes))


class CloseUps(nn.Module):
    """The three networks as one graph, over the crops that `realtime.rig.close_ups.CloseUps` cuts."""

    def __init__(self, eye: CloseUp, mouth: CloseUp, head: CloseUp):
        super().__init__()
        self.eye, self.mouth, self.head = eye, mouth, head

    def forward(self, eyes: Tensor, mouth: Tensor, head: Tensor) -> tuple[Tensor, ...]:
        """Read uint8 crops, (2, S, S, 3) of the left eye and the right one (mirrored), and (1, S, S, 3)
        of the mouth and of the head; S is each kind's own.

        Returns:
            Of the eyes (2 rows), the mouth (1) and the head (1): points, amounts, logits, as
                `CloseUp`.
        """
        return (*self.eye(_unit(eyes)), *self.mouth(_unit(mouth)), *self.head(_unit(head)))
