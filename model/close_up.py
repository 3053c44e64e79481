"""Close-up networks: fine landmarks and named amounts of one eye, of the mouth or of the head, from an upright crop.

In the frame that the keypoint detector sees, an eye is 25 pixels wide and gaze is a fraction of a cell of its heat-map.
The camera's own frame has two to three times that. `crop_affine` places four crops by the coarse keypoints, in the
face's own frame (upright, scaled by the face); `CloseUp` reads each: points by a soft-argmax over heat-maps, and amounts
under ARKit's names. Right eyes are mirrored, so that one network reads both. About 17 MMAC a crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.model.geometry import in_float32, make_grid
from livepuppet.model.lite import UNet

#: Points of an eye, from the corner at the temple over the upper lid, and its iris; right eyes are seen mirrored.
EYE_POINTS = (
    "outer corner",
    "upper outer",
    "upper",
    "upper inner",
    "inner corner",
    "lower inner",
    "lower",
    "lower outer",
    "iris",
)

#: Points of the mouth, clockwise from the picture's left: twelve of the lips' outline, eight of the opening's.
MOUTH_POINTS = tuple(f"outer lip {k}" for k in range(12)) + tuple(f"inner lip {k}" for k in range(8))

#: Amounts of one eye, by ARKit's names without the side, each in [0, 1].
EYE_AMOUNTS = (
    "eyeBlink",
    "eyeLookDown",
    "eyeLookIn",
    "eyeLookOut",
    "eyeLookUp",
    "eyeSquint",
    "eyeWide",
    "browDown",
    "browOuterUp",
)

#: Amounts of the mouth, by ARKit's names, each in [0, 1]. "Left" is the person's left, as in ARKit.
MOUTH_AMOUNTS = (
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "cheekPuff",
    "tongueOut",
)

#: Points of the head; "left" is the picture's left, jaw points go from the left ear over the chin.
HEAD_POINTS = (
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
    *(f"{side} brow {end}" for side in ("left", "right") for end in ("outer end", "inner end")),
    "nose bridge",
    "left nostril",
    "right nostril",
    "jaw 0",
    "jaw 4",
    "jaw 8",
    "jaw 12",
    "jaw 16",
)

#: The head's pose against the crop's axes in radians (yaw: the nose goes right; pitch: it goes down; roll: clockwise), and
#: amounts by ARKit's names.
HEAD_AMOUNTS = (
    "yaw",
    "pitch",
    "roll",
    "browInnerUp",
    "browDownLeft",
    "browDownRight",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
)


def _other_side(name: str) -> str:
    for one, other in (("Left", "Right"), ("left", "right")):
        if one in name or other in name:
            return name.replace(one, "@").replace(other, one).replace("@", other)
    return f"jaw {16 - int(name[4:])}" if name.startswith("jaw ") else name


#: Places of amounts and points that trade places in a mirrored crop, and amounts that change their sign.
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
        hidden: units between pooled features and amounts.
        softargmax_temperature: of the heat-maps' softmax.
    """

    points: int
    amounts: int
    size: int = 64
    channels: tuple[int, ...] = (24, 32, 48, 64)
    hidden: int = 64
    softargmax_temperature: float = 1.0


EYE = CloseUpConfig(len(EYE_POINTS), len(EYE_AMOUNTS))
MOUTH = CloseUpConfig(len(MOUTH_POINTS), len(MOUTH_AMOUNTS))
HEAD = CloseUpConfig(len(HEAD_POINTS), len(HEAD_AMOUNTS))


class CloseUp(nn.Module):
    """Reads one kind of crop.

    Points are a heat-map's soft-argmax plus an offset predicted from the whole crop: what is hidden (a lid behind a
    rim, a lip behind a hand) has no peak of its own.
    """

    def __init__(self, config: CloseUpConfig):
        super().__init__()
        self.config = config
        channels = config.channels
        self.network = UNet(3, channels, kernel=5, stride=2)
        self.heatmaps = nn.Conv2d(channels[0], config.points, 3, 1, 1)
        side = config.size // 2
        self.register_buffer("grid", make_grid(side, side).flatten(0, 1), persistent=False)
        self.read = nn.Sequential(
            nn.Linear(channels[-1] * 4 + 2 * config.points, config.hidden),
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

    @in_float32
    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read crops (B, 3, S, S), RGB in [0, 1].

        Returns:
            points (B, P, 2) in [-1, 1] of the crop; amounts (B, A), about [0, 1] (angles in radians) and not clipped; logits
            (B, 1) of whether this is an eye (a mouth, a head) that can be seen.
        """
        features = self.network(crops - 0.5)
        logits = self.heatmaps(features[-1]).flatten(2) / self.config.softargmax_temperature
        points = logits.softmax(-1) @ self.grid
        pooled = F.adaptive_avg_pool2d(features[0], 2).flatten(1)
        read = self.read(torch.cat([pooled, points.flatten(1)], 1))
        points = points + 0.1 * self.offsets(read).view_as(points)
        return points, self.amounts(read), self.sure(read)


#: Side of an eye's crop, of the mouth's and of the head's, in face units; see `face_frame`.
EYE_SIDE, MOUTH_SIDE, HEAD_SIDE = 0.8, 1.25, 2.8

#: How far below the middle between the eyes the middle of the head's crop lies, in face units.
HEAD_FALL = 0.5

#: How far above the iris the middle of an eye's crop lies, in face units: the upper lid travels, the lower one hardly.
EYE_RISE = 0.06


def face_frame(left_eye: Tensor, right_eye: Tensor, mouth: Tensor) -> tuple[Tensor, Tensor]:
    """The face's upright frame by three points (B, 2) each, x to the right and y down, in any unit.

    Returns:
        across (B, 2), one face unit along the line of the eyes, and unit (B, 1): the larger of the eyes' distance and 0.95
        of that from eyes to mouth, so that a face that turns aside or nods keeps its scale.
    """
    between = right_eye - left_eye
    down = mouth - (left_eye + right_eye) / 2
    # The eye line alone tips with yaw and roll together; the line down to the mouth steadies it.
    turned = torch.stack([down[:, 1], -down[:, 0]], -1)
    across = F.normalize(F.normalize(between, dim=-1) + 0.5 * F.normalize(turned, dim=-1), dim=-1)
    unit = torch.maximum(between.norm(dim=-1), 0.95 * down.norm(dim=-1))[:, None]
    return across * unit, unit


def crop_affine(centre: Tensor, across: Tensor, side: float, mirrored: bool = False) -> Tensor:
    """Affine maps (B, 2, 3) from a crop's [-1, 1] to the frame's, for a square of `side` face units about `centre`.

    Args:
        centre: (B, 2) in the frame's unit.
        across: (B, 2) of `face_frame`.
        side: of the square, in face units.
        mirrored: left and right trade places in the crop, as for eyes in the picture's right half.
    """
    x = across * (side / 2)
    y = torch.stack([-x[:, 1], x[:, 0]], -1)
    if mirrored:
        x = -x
    return torch.stack([x, y, centre], -1)
