"""Who a procedural puppet is and how it moves: seeded draws of identities and motions, and scripted clips.

Everything is a batch of tensors; a row is one puppet. Lengths are in *head units* (about half a head's height),
x to the right, y down, z towards the viewer, as seen in the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Columns of a motion. Angles in radians, shifts in picture units ([-1, 1] is the picture), the rest are amounts:
#: 0 is neutral; 1 is fully open, smiling, puckered, closed (blink), raised (brow); gaze is in [-1, 1].
FACTORS = (
    "yaw",
    "pitch",
    "roll",
    "shift_x",
    "shift_y",
    "scale",
    "open",
    "smile",
    "pucker",
    "blink_left",
    "blink_right",
    "gaze_x",
    "gaze_y",
    "brow_left",
    "brow_right",
)


@dataclass
class Motion:
    """Poses and expressions, one row each.

    Attributes:
        values: float32 (B, len(FACTORS)); `scale` is the natural logarithm of a factor.
    """

    values: Tensor

    def __getattr__(self, name: str) -> Tensor:
        if name in FACTORS:
            return self.values[:, FACTORS.index(name)]
        raise AttributeError(name)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows) -> Motion:
        return Motion(self.values[rows])

    def replace(self, **amounts: Tensor | float) -> Motion:
        """The same motions with some factors set."""
        values = self.values.clone()
        for name, amount in amounts.items():
            values[:, FACTORS.index(name)] = amount
        return Motion(values)

    def to(self, device) -> Motion:
        return Motion(self.values.to(device))


@dataclass
class Identity:
    """What stays when a puppet moves: proportions, colours, textures, light and background.

    Attributes:
        fields: name -> float32 tensor whose first dimension is the batch.
    """

    fields: dict[str, Tensor]

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["fields"][name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __len__(self) -> int:
        return len(self.fields["eye_x"])

    def __getitem__(self, rows) -> Identity:
        return Identity({name: value[rows] for name, value in self.fields.items()})

    def to(self, device) -> Identity:
        return Identity({name: value.to(device) for name, value in self.fields.items()})


def generator(seed: int) -> torch.Generator:
    """A CPU generator: draws are the same on every device."""
    return torch.Generator().manual_seed(seed)


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """(B,) channels in [0, 1] to RGB (B, 3) in [0, 1]."""
    offsets = torch.tensor([5.0, 3.0, 1.0])
    k = (offsets + hue[:, None] * 6.0) % 6.0
    ramp = torch.minimum(torch.minimum(k, 4.0 - k), torch.ones_like(k)).clamp(min=0.0)
    return value[:, None] * (1.0 - saturation[:, None] * ramp)


class _Draw:
    """Named random draws for a batch, from one generator."""

    def __init__(self, batch: int, rng: torch.Generator):
        self.batch, self.rng = batch, rng

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(self.batch, *shape, generator=self.rng)

    def normal(self, mean: float, deviation: float, low: float = -math.inf, high: float = math.inf) -> Tensor:
        return (mean + deviation * torch.randn(self.batch, generator=self.rng)).clamp(low, high)

    def chance(self, probability: float) -> Tensor:
        return (torch.rand(self.batch, generator=self.rng) < probability).float()

    def colour(self, saturation: tuple[float, float], value: tuple[float, float]) -> Tensor:
        return hsv_to_rgb(self.uniform(0, 1), self.uniform(*saturation), self.uniform(*value))

    def texture(self, size: int, octaves: int, channels: int = 3) -> Tensor:
        """Smooth noise (B, channels, size, size) of about unit deviation."""
        total = torch.zeros(self.batch, channels, size, size)
        for octave in range(octaves):
            cells = max(2, size >> (octaves - 1 - octave))
            noise = torch.randn(self.batch, channels, cells, cells, generator=self.rng)
            total += torch.nn.functional.interpolate(
                noise, size=(size, size), mode="bicubic", align_corners=True
            ) * (0.75**octave)
        return total / total.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)


def draw_identities(batch: int, rng: torch.Generator) -> Identity:
    """Draw puppets that differ as people's avatars do: people, cartoons, animals and robots, in several styles."""
    d = _Draw(batch, rng)
    one = torch.ones(batch)
    f: dict[str, Tensor] = {}

    # Which family: 0 human, 1 big-eyed cartoon, 2 animal, 3 fantasy or robot.
    family = torch.multinomial(torch.tensor([0.62, 0.16, 0.12, 0.10]), batch, True, generator=rng)
    cartoon, animal, fantasy = ((family == k).float() for k in (1, 2, 3))

    # Proportions.
    f["head_width"] = d.normal(0.685, 0.05, 0.56, 0.85) + 0.09 * cartoon + 0.16 * animal
    f["jaw_width"] = f["head_width"] * d.uniform(0.68, 0.95)
    f["jaw_length"] = d.normal(0.64, 0.05, 0.48, 0.80) - 0.10 * animal
    f["eye_x"] = d.normal(0.305, 0.028, 0.23, 0.40) + 0.05 * (cartoon + animal)
    f["eye_y"] = d.normal(0.05, 0.04, -0.06, 0.16) + 0.06 * cartoon
    f["eye_width"] = d.normal(0.15, 0.018, 0.10, 0.21) * (1 + 0.35 * cartoon + 0.1 * animal)
    f["eye_height"] = f["eye_width"] * d.uniform(0.36, 0.62) * (1 + 0.7 * cartoon + 0.5 * animal)
    f["eye_slant"] = d.normal(0.0, 0.12, -0.3, 0.3)
    f["iris"] = f["eye_height"] * d.uniform(0.78, 1.15) * (1 - 0.12 * cartoon)
    f["pupil"] = d.uniform(0.3, 0.6)
    f["brow_gap"] = d.normal(0.215, 0.03, 0.15, 0.30) + 0.6 * (f["eye_height"] - 0.08).clamp(min=0)
    f["brow_arch"] = d.uniform(-0.02, 0.07)
    f["brow_thick"] = d.uniform(0.012, 0.055)
    f["nose_y"] = d.normal(0.30, 0.035, 0.2, 0.4)
    f["nose_size"] = d.uniform(0.7, 1.3) * (1 - 0.5 * cartoon)
    f["mouth_y"] = torch.maximum(d.normal(0.62, 0.035, 0.52, 0.72), f["eye_y"] + f["nose_y"] + 0.21)
    f["mouth_width"] = d.normal(0.255, 0.04, 0.16, 0.36)
    f["mouth_curve"] = d.normal(-0.018, 0.028, -0.08, 0.05)
    f["lip_upper"] = d.uniform(0.02, 0.075)
    f["lip_lower"] = d.uniform(0.025, 0.095)
    f["lip_strength"] = d.uniform(0.1, 1.0) * (1 - 0.7 * animal)
    f["lip_line"] = d.uniform(0.008, 0.022)
    f["lid_line"] = d.uniform(0.008, 0.03) * (1 + 0.8 * cartoon)
    f["lid_crease"] = d.uniform(0.0, 0.6)
    f["nostril"] = d.uniform(0.1, 0.8)
    f["ear_size"] = d.uniform(0.7, 1.3) * (1 - animal)
    f["animal_ear"] = torch.maximum(animal, d.chance(0.03))
    f["animal_ear_x"] = d.uniform(0.35, 0.65)
    f["animal_ear_size"] = d.uniform(0.7, 1.4)
    f["muzzle"] = animal * d.uniform(0.3, 1.0)
    f["animal_nose"] = animal

    # Style: 0 flat, 1 cel-shaded, 2 soft.
    style = torch.multinomial(torch.tensor([0.13, 0.17, 0.70]), batch, True, generator=rng)

    # Colours.
    tone = d.uniform(0, 1) ** 1.25
    human_skin = hsv_to_rgb(
        d.uniform(0.015, 0.085),
        (0.22 + 0.42 * tone + 0.06 * d.normal(0, 1)).clamp(0.1, 0.75),
        1.0 - 0.62 * tone**1.8,
    )
    fur = hsv_to_rgb(d.uniform(0.02, 0.13), d.uniform(0.0, 0.6), d.uniform(0.25, 1.0))
    odd = d.colour((0.0, 0.8), (0.3, 1.0))
    gray = ((cartoon == 0) & (animal == 0)).float() * d.chance(0.08)
    skin = torch.where(animal[:, None] > 0, fur, torch.where(fantasy[:, None] > 0, odd, human_skin))
    f["skin"] = torch.where(gray[:, None] > 0, skin.mean(1, keepdim=True).expand(-1, 3), skin)
    f["iris_colour"] = d.colour((0.1, 0.8), (0.1, 0.75))
    f["sclera"] = hsv_to_rgb(d.uniform(0, 0.15), d.uniform(0.0, 0.12), d.uniform(0.72, 1.0))
    f["lip_colour"] = (f["skin"] * torch.tensor([0.92, 0.55, 0.55])) * d.uniform(0.65, 1.1)[:, None]
    f["line_colour"] = f["skin"] * d.uniform(0.05, 0.5)[:, None]
    f["inside"] = hsv_to_rgb(d.uniform(0.95, 1.02) % 1.0, d.uniform(0.3, 0.85), d.uniform(0.05, 0.35))
    f["tongue"] = hsv_to_rgb(d.uniform(0.95, 1.03) % 1.0, d.uniform(0.35, 0.7), d.uniform(0.4, 0.85))
    f["teeth"] = d.chance(0.8) * d.uniform(0.4, 1.0)
    natural = hsv_to_rgb(d.uniform(0.02, 0.13), d.uniform(0.0, 0.75), d.uniform(0.04, 0.9) ** 1.3)
    f["hair"] = torch.where(d.chance(0.18)[:, None] > 0, d.colour((0.2, 0.9), (0.2, 1.0)), natural)
    f["brow_colour"] = f["hair"] * d.uniform(0.4, 0.9)[:, None]
    f["clothes"] = d.colour((0.0, 0.8), (0.05, 1.0))
    f["collar"] = d.colour((0.0, 0.6), (0.05, 1.0))
    f["collar_depth"] = d.uniform(-0.1, 0.45)

    # Hair, hat, glasses, beard.
    hairy = d.chance(0.88) * (1 - 0.7 * animal)
    f["hair_on"] = hairy
    f["hair_thick"] = d.uniform(1.05, 1.2)
    f["hair_line"] = d.normal(-0.46, 0.10, -0.75, -0.25)
    f["hair_sides"] = d.uniform(0.2, 1.3)
    f["hair_part"] = d.normal(0.0, 0.25, -0.6, 0.6)
    f["hair_fringe"] = d.uniform(0.0, 0.20)
    f["hair_strands"] = d.uniform(0.03, 0.35)
    f["long_hair"] = hairy * d.chance(0.42)
    f["long_hair_length"] = d.uniform(0.5, 1.5)
    f["hat_on"] = d.chance(0.10)
    f["hat_line"] = d.uniform(-0.62, -0.40)
    f["hat_colour"] = d.colour((0.0, 0.9), (0.05, 1.0))
    f["glasses_on"] = d.chance(0.2)
    f["glasses_size"] = d.uniform(0.20, 0.28)
    f["glasses_square"] = d.uniform(0.75, 1.0)
    f["glasses_rim"] = d.uniform(0.012, 0.04)
    f["glasses_colour"] = d.colour((0.0, 0.6), (0.0, 0.6))
    f["beard"] = d.chance(0.16) * d.uniform(0.2, 1.0)
    f["moustache"] = d.chance(0.14) * d.uniform(0.3, 1.0)
    f["blush"] = d.chance(0.4) * d.uniform(0.0, 0.5)
    f["eye_shadow"] = d.chance(0.45) * d.uniform(0.0, 0.7)
    f["relief"] = d.uniform(0.0, 0.75) * (style != 0)
    f["eye_shadow_colour"] = (
        f["skin"] * d.uniform(0.3, 0.9)[:, None] * (0.6 + 0.4 * d.colour((0.0, 0.6), (0.5, 1.0)))
    )

    # Style and light.
    f["flat"] = (style == 0).float()
    f["cel"] = (style == 1).float()
    f["outline"] = torch.maximum((style != 2).float() * d.chance(0.75), d.chance(0.06)) * d.uniform(
        0.012, 0.035
    )
    f["ambient"] = torch.where(style == 0, 0.95 * one, d.uniform(0.42, 0.85))
    light_angle, light_height = d.normal(0, 0.8, -1.4, 1.4), d.normal(-0.35, 0.35, -1.1, 0.5)
    f["light"] = torch.stack(
        [
            light_angle.sin() * light_height.cos(),
            light_height.sin(),
            light_angle.cos() * light_height.cos(),
        ],
        dim=1,
    )
    f["light_colour"] = 1 + 0.07 * torch.randn(batch, 3, generator=rng)
    f["gloss"] = (style == 2).float() * d.uniform(0.0, 0.25)
    f["exposure"] = d.normal(1.06, 0.14, 0.6, 1.35)
    f["texture"] = d.texture(64, 5)
    rough = torch.where(d.chance(0.10) > 0, d.uniform(0.10, 0.35), d.uniform(0.01, 0.09))
    f["texture_gain"] = torch.where(style == 2, rough, rough * d.chance(0.4))
    f["hair_texture"] = d.texture(48, 4, 1)
    f["hair_texture_gain"] = d.uniform(0.05, 0.4)

    # Body and background (picture units).
    f["shoulder_width"] = d.uniform(0.75, 1.25)
    f["shoulder_y"] = d.uniform(1.05, 1.4)
    f["neck_width"] = d.uniform(0.30, 0.48)
    f["background_a"] = d.colour((0.0, 0.6), (0.05, 1.0))
    f["background_b"] = d.colour((0.0, 0.6), (0.05, 1.0))
    f["background_angle"] = d.uniform(0, 2 * math.pi)
    f["background_stripes"] = d.chance(0.15) * d.uniform(3, 14)
    f["background_noise"] = d.chance(0.6) * d.uniform(0.0, 0.2)
    noise = d.texture(48, 4)
    f["background_texture"] = torch.lerp(
        noise, noise.mean(1, keepdim=True) * 1.6, d.uniform(0.3, 1.0)[:, None, None, None]
    )
    f["box"] = torch.stack(
        [d.uniform(-1.3, 1.3), d.uniform(-1.3, 0.6), d.uniform(0.1, 0.5), d.uniform(0.1, 0.9)], dim=1
    )
    f["box_colour"] = d.colour((0.0, 0.6), (0.05, 1.0))
    f["box_on"] = d.chance(0.4)

    # Where the neutral head sits: framed as the papers' crops are, give or take.
    f["base_x"] = d.normal(0.0, 0.05, -0.15, 0.15)
    f["base_y"] = d.normal(-0.02, 0.06, -0.2, 0.15)
    f["base_scale"] = d.uniform(0.54, 0.78)
    return Identity(f)


def draw_motions(batch: int, rng: torch.Generator, expression_only: float = 0.0) -> Motion:
    """Draw poses and expressions.

    Args:
        batch: how many.
        rng: the generator.
        expression_only: share of rows whose head stays straight and still.
    """
    d = _Draw(batch, rng)
    still = 1 - d.chance(expression_only)
    # A third of all heads look nearly straight at the camera, as people in calls do.
    calm = torch.where(d.chance(0.35) > 0, 0.35, 1.0) * still
    shared_blink = torch.where(
        d.chance(0.42) > 0, d.uniform(0.3, 1.25).clamp(max=1), d.normal(0.0, 0.12, -0.25, 0.3)
    )
    wink = d.chance(0.12)
    side = d.chance(0.5)
    other = d.normal(0.05, 0.1, -0.2, 0.3)
    speaks = d.chance(0.6)
    opening = speaks * d.uniform(0.0, 1.0) ** 1.3
    gazes = d.chance(0.65)
    brow = d.chance(0.5) * d.normal(0.15, 0.5, -0.7, 1.0)
    values = {
        "yaw": d.normal(0, 0.30, -0.75, 0.75) * calm,
        "pitch": d.normal(0, 0.16, -0.42, 0.42) * calm,
        "roll": d.normal(0, 0.14, -0.45, 0.45) * calm,
        "shift_x": d.normal(0, 0.10, -0.28, 0.28) * still,
        "shift_y": d.normal(0, 0.07, -0.2, 0.2) * still,
        "scale": d.normal(0, 0.08, -0.2, 0.2) * still,
        "open": opening,
        "smile": d.normal(0.15, 0.45, -0.7, 1.0),
        "pucker": d.chance(0.3) * d.uniform(0, 1),
        "blink_left": torch.where((wink * side) > 0, other, shared_blink),
        "blink_right": torch.where((wink * (1 - side)) > 0, other, shared_blink),
        "gaze_x": gazes * d.normal(0, 0.5, -1, 1),
        "gaze_y": gazes * d.normal(0, 0.4, -0.9, 0.9),
        "brow_left": brow,
        "brow_right": torch.where(d.chance(0.1) > 0, -brow, brow),
    }
    return Motion(torch.stack([values[name] for name in FACTORS], dim=1))


def scripted_clip(frames: int, rate: float = 25.0, seed: int = 0) -> Motion:
    """A driving performance: neutral first frame, then turns, nods, tilts, talking, blinks, a wink, gaze and brows.

    Band-limited in time, so it looks like a person and not like noise.
    """
    rng = generator(seed)
    t = torch.arange(frames) / rate
    fade = (t / 0.8).clamp(0, 1)

    def wander(deviation: float, hertz: float) -> Tensor:
        phases = torch.rand(5, generator=rng) * 2 * math.pi
        rates = hertz * (0.35 + 1.3 * torch.rand(5, generator=rng))
        waves = torch.sin(2 * math.pi * rates[:, None] * t + phases[:, None]) - torch.sin(phases[:, None])
        return deviation * fade * waves.mean(0) * 1.6

    def bump(start: float, length: float) -> Tensor:
        return torch.sin(math.pi * ((t - start) / length).clamp(0, 1)) ** 2

    period = max(frames / rate, 1.0)
    act = period / 8
    turn = bump(0.6 * act, 1.6 * act) - bump(2.0 * act, 1.6 * act)
    speech = (bump(3.2 * act, 3.2 * act) * (0.5 + 0.5 * torch.sin(2 * math.pi * 2.6 * t)) ** 1.2).clamp(0, 1)
    blinks = sum((bump(1.1 + 2.3 * k, 0.36) for k in range(int(period / 2.3) + 1)), torch.zeros(frames))
    wink = bump(6.6 * act, 0.9)
    values = {
        "yaw": 0.5 * turn + wander(0.10, 0.4),
        "pitch": 0.22 * bump(2.9 * act, 0.9 * act) + wander(0.07, 0.4),
        "roll": -0.22 * bump(5.4 * act, 1.2 * act) + wander(0.06, 0.35),
        "shift_x": wander(0.06, 0.3),
        "shift_y": wander(0.03, 0.3),
        "scale": 0.10 * bump(4.2 * act, 1.6 * act) + wander(0.03, 0.2),
        "open": (0.75 * speech + 0.95 * bump(7.05 * act, 0.8 * act)).clamp(0, 1),
        "smile": 0.15 + 0.7 * bump(5.8 * act, 1.5 * act) * fade,
        "pucker": 0.5 * bump(4.4 * act, 0.7 * act),
        "blink_left": (blinks + wink).clamp(0, 1),
        "blink_right": blinks.clamp(0, 1),
        "gaze_x": 0.7 * (bump(0.2 * act, 0.9 * act) - bump(2.6 * act, 0.9 * act)) + wander(0.2, 0.6),
        "gaze_y": wander(0.2, 0.5),
        "brow_left": 0.8 * bump(7.0 * act, 0.9 * act) + wander(0.2, 0.5),
        "brow_right": 0.8 * bump(7.0 * act, 0.9 * act) + wander(0.2, 0.5),
    }
    return Motion(torch.stack([values[name] for name in FACTORS], dim=1).float())


def draw_groups(groups: int, poses: int, rng: torch.Generator) -> Motion:
    """Motions for training: `poses` motions for each of `groups` identities, (groups * poses) rows.

    In 40 % of the groups the head stays where it is and only the face moves, so that large motions do not drown
    blinks and lips.
    """
    motion = draw_motions(groups * poses, rng).values.view(groups, poses, len(FACTORS))
    pose = FACTORS.index("scale") + 1
    same = torch.rand(groups, generator=rng) < 0.4
    sway = 0.06 * torch.randn(groups, poses, pose, generator=rng) * motion[:, :, :pose].std(dim=(0, 1))
    motion[:, :, :pose] = torch.where(same[:, None, None], motion[:, :1, :pose] + sway, motion[:, :, :pose])
    return Motion(motion.reshape(groups * poses, len(FACTORS)))
