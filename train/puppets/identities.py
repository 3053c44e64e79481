"""Who a procedural puppet is and how it moves: seeded draws of identities and motions, and scripted
clips.

Everything is a batch of tensors; a row is one puppet. Lengths are in *head units* (about half a
head's height), x to the right, y down, z towards the viewer, as seen in the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from livepuppet.train.puppets.draws import Draw, generator
from livepuppet.train.puppets.plain import plain_fields
from livepuppet.train.puppets.rich import foreign_fields, neutral_fields, rich_fields

#: Columns of a motion. Angles in radians, shifts in picture units ([-1, 1] is the picture), the
#: rest are amounts: 0 is neutral; 1 is fully open, smiling, puckered, closed (blink), raised
#: (brow); gaze is in [-1, 1].
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


#: From which distribution puppets are drawn. "plain": the first one, never changed. "rich": what is
#: trained on. "foreign": for evaluation only; other proportions, shading, textures and backgrounds
#: than any training draws.
SETTINGS = ("plain", "rich", "foreign")

#: People of meshes, drawn by another renderer (`train.people`): photo-like ones, drawn ones, and
#: three of the first to one of the second, to train on.
PEOPLE = ("people", "people-drawn", "people-mix")


def draw_identities(batch: int, rng: torch.Generator, setting: str = "plain") -> Identity:
    """Draw puppets that differ as people's avatars do: people, cartoons, animals and robots, in
    several styles.

    Args:
        batch: how many.
        rng: the generator, on the CPU.
        setting: one of `SETTINGS`.

    Raises:
        ValueError: for another setting.
    """
    if setting not in SETTINGS:
        raise ValueError(f"There is no setting {setting!r} of puppets; use {', '.join(SETTINGS)}.")
    d = Draw(batch, rng)
    fields = plain_fields(d, textures=setting == "plain") | neutral_fields(batch)
    if setting == "rich":
        fields |= rich_fields(d, fields)
    elif setting == "foreign":
        fields |= foreign_fields(d, fields)
    return Identity(fields)


def draw_motions(batch: int, rng: torch.Generator, expression_only: float = 0.0) -> Motion:
    """Draw poses and expressions.

    Args:
        batch: how many.
        rng: the generator.
        expression_only: share of rows whose head stays straight and still.
    """
    d = Draw(batch, rng)
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
    """A driving performance: neutral first frame, then turns, nods, tilts, talking, blinks, a wink,
    gaze and brows.

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


#: What changes alone in the groups of `draw_groups` that vary one thing: columns, and range on
#: either side.
SINGLE = {
    "yaw": (("yaw",), -0.75, 0.75),
    "pitch": (("pitch",), -0.42, 0.42),
    "roll": (("roll",), -0.45, 0.45),
    "shift": (("shift_x", "shift_y"), -0.28, 0.28),
    "scale": (("scale",), -0.22, 0.22),
    "open": (("open",), 0.0, 1.0),
    "smile": (("smile",), -0.7, 1.0),
    "pucker": (("pucker",), 0.0, 1.0),
    "blink": (("blink_left", "blink_right"), 0.0, 1.0),
    "wink": (("blink_left", "blink_right"), 0.0, 1.0),
    "gaze": (("gaze_x", "gaze_y"), -1.0, 1.0),
    "brow": (("brow_left", "brow_right"), -0.7, 1.0),
}


def draw_groups(groups: int, poses: int, rng: torch.Generator, setting: str = "plain") -> Motion:
    """Motions for training: `poses` motions for each of `groups` identities, (groups * poses) rows.

    "plain": in 40 % of the groups the head stays where it is and only the face moves, so that large
    motions do not drown blinks and lips. Else: see `_lively_groups`.

    Raises:
        ValueError: for a setting that is none of `SETTINGS`.
    """
    if setting not in SETTINGS:
        raise ValueError(f"There is no setting {setting!r} of puppets; use {', '.join(SETTINGS)}.")
    motion = draw_motions(groups * poses, rng).values.view(groups, poses, len(FACTORS))
    if setting != "plain":
        return Motion(_lively_groups(motion, rng).reshape(groups * poses, len(FACTORS)))
    pose = FACTORS.index("scale") + 1
    same = torch.rand(groups, generator=rng) < 0.4
    sway = 0.06 * torch.randn(groups, poses, pose, generator=rng) * motion[:, :, :pose].std(dim=(0, 1))
    motion[:, :, :pose] = torch.where(same[:, None, None], motion[:, :1, :pose] + sway, motion[:, :, :pose])
    return Motion(motion.reshape(groups * poses, len(FACTORS)))


def _lively_groups(motion: Tensor, rng: torch.Generator) -> Tensor:
    """Motions (groups, poses, factors) like people's: 35 % free, 30 % with a still head, 35 % that
    vary one thing.

    Free heads move as necks do: a turn shifts the head sideways and tilts it, leaning in comes with
    a shift, talking with small nods. In half of the groups the first pose is nearly neutral, since
    live use starts there.
    """
    groups, poses, _ = motion.shape
    column = {name: k for k, name in enumerate(FACTORS)}
    pose = column["scale"] + 1

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng)

    share = uniform(groups)
    neutral = uniform(groups) < 0.5
    calm = motion[:, 0] * 0.12
    for name in ("blink_left", "blink_right", "open", "pucker"):
        calm[:, column[name]] = calm[:, column[name]].clamp(max=0.02)
    motion[:, 0] = torch.where(neutral[:, None], calm, motion[:, 0])

    free = motion.clone()
    free[..., column["shift_x"]] += 0.16 * motion[..., column["yaw"]] * uniform(groups, 1)
    free[..., column["roll"]] += 0.25 * motion[..., column["yaw"]] * (uniform(groups, 1) - 0.5)
    free[..., column["shift_y"]] += 0.20 * motion[..., column["pitch"]] * uniform(groups, 1)
    free[..., column["shift_y"]] += 0.35 * motion[..., column["scale"]] * uniform(groups, 1)
    free[..., column["pitch"]] += 0.10 * motion[..., column["open"]] * (uniform(groups, 1) - 0.3)

    # The head stays; a still head never holds perfectly still.
    deviation = torch.tensor([0.012, 0.010, 0.008, 0.006, 0.005, 0.005])
    face = motion.clone()
    face[..., :pose] = motion[:, :1, :pose] + deviation * torch.randn(groups, poses, pose, generator=rng)

    # One thing changes over its range; all else stays exactly as it is in the first pose.
    single = motion[:, :1].repeat(1, poses, 1)
    which = torch.randint(len(SINGLE), (groups,), generator=rng)
    amount, left = uniform(groups, poses, 2), uniform(groups, 1) < 0.5
    # The ends of the range are drawn more often than they would be by chance.
    amount = (1.3 * amount - 0.15).clamp(0, 1)
    for k, (name, (columns, low, high)) in enumerate(SINGLE.items()):
        for j, factor in enumerate(columns):
            own = amount[..., j if name in ("shift", "gaze") else 0]
            value = low + (high - low) * own
            if name == "wink":
                value = torch.where(left == (j == 0), value, single[..., column[factor]].clamp(max=0.1))
            single[..., column[factor]] = torch.where(
                (which == k)[:, None], value, single[..., column[factor]]
            )
    # In groups that start neutral the first pose stays so.
    single[:, 0] = torch.where(neutral[:, None], motion[:, 0], single[:, 0])

    kind = share[:, None, None]
    return torch.where(kind < 0.35, free, torch.where(kind < 0.65, face, single))
