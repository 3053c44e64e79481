"""The first puppets, whose meaning never changes: a seed draws what it always drew.

The bundled demo pictures come from here, and `rich` starts from here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from livepuppet.train.puppets.draws import Draw, hsv_to_rgb


def plain_fields(d: Draw, textures: bool = True) -> dict[str, Tensor]:
    """Draw puppets: people, cartoons, animals and robots, in several styles. See `Identity` for
    what comes out.

    Without `textures`, which cost most, those fields are left out.
    """
    batch, rng = d.batch, d.rng
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
    if textures:
        f["texture"] = d.texture(64, 5)
    rough = torch.where(d.chance(0.10) > 0, d.uniform(0.10, 0.35), d.uniform(0.01, 0.09))
    f["texture_gain"] = torch.where(style == 2, rough, rough * d.chance(0.4))
    if textures:
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
    if textures:
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
    return f
