"""Puppets of many kinds: what "rich" and "foreign" draw on top of the plain puppets.

Each function gets the plain fields and returns those that it changes. Whatever a plain puppet lacks
has a neutral value (`neutral_fields`) with which the renderer draws exactly what it drew before.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from livepuppet.train.puppets.draws import Draw, grain, hsv_to_rgb, pattern

#: Boxes and discs of a room behind the puppet.
ROOM = 6

#: Fields that plain puppets lack, with the values that change nothing. Vectors are colours, RGB.
NEUTRAL: dict[str, float | tuple[float, ...]] = {
    # Skin: turn and scale of its texture, and a second colour painted where the texture is high.
    "texture_turn": 0.0,
    "texture_scale": 1.0,
    "patch": 0.0,
    "patch_from": 0.0,
    "patch_colour": (0.0, 0.0, 0.0),
    "wrinkles": 0.0,
    "goatee": 0.0,
    "beard_grain": 0.0,
    "philtrum": 0.0,
    "snout_size": 1.0,
    "fur": 0.0,
    "muzzle_depth": 0.0,
    "ear_point": 0.0,
    # Eyes and mouth.
    "ball_shade": 0.0,
    "iris_rays": 0.0,
    "wet": 0.0,
    "lash_wing": 0.0,
    "teeth_detail": 0.0,
    # Chin: its landmark's height at rest, and whether its depth follows the dropping jaw.
    "chin": 0.96,
    "chin_follows": 0.0,
    # Nose.
    "nose_broad": 1.0,
    "nose_long": 0.24,
    "nose_soft": 0.025,
    # Light.
    "fill": (0.0, 0.0, 0.0),
    "fill_from": (0.0, 0.0, 1.0),
    "rim": (0.0, 0.0, 0.0),
    "wrap": 0.0,
    "metal": 0.0,
    "cast": 0.0,
    "hatch": 0.0,
    "hatch_step": 0.05,
    # Hair.
    "strand_x": 2.2,
    "strand_y": 0.35,
    "strand_z": 0.7,
    "strand_skew": 0.0,
    "hair_tilt": 0.0,
    "hair_curtain": 0.0,
    "hair_temple": 0.42,
    "hair_curl": 0.0,
    "locks": 0.0,
    "locks_width": 0.2,
    "locks_length": 1.0,
    "bun": 0.0,
    "bun_place": (0.0, -1.0, -0.4),
    # Things worn.
    "brim": 0.0,
    "headphones": 0.0,
    "gadget_colour": (0.1, 0.1, 0.1),
    "antenna": 0.0,
    "tint": 0.0,
    "tint_colour": (0.0, 0.0, 0.0),
    "lens_shine": 0.0,
    "jacket": 0.0,
    "tie": 0.0,
    "scarf": 0.0,
    "cloth_stripes": 0.0,
    # Behind and before the puppet.
    "room": 0.0,
    "room_blur": 0.0,
    "other": 0.0,
    "other_place": (1.0, 0.0, 0.5),
    "other_skin": (0.5, 0.4, 0.3),
    "other_hair": (0.1, 0.1, 0.1),
    "occluder": 0.0,
    "occluder_kind": 0.0,
    "occluder_place": (0.0, 0.0, 0.2, 0.0),
    "occluder_sway": 0.0,
    "occluder_colour": (0.5, 0.4, 0.3),
}


def neutral_fields(batch: int) -> dict[str, Tensor]:
    """The values of `NEUTRAL` for each of `batch` puppets: (B,) or (B, C)."""
    fields = {
        name: torch.tensor(value).repeat(batch, *[1] * (isinstance(value, tuple)))
        for name, value in NEUTRAL.items()
    }
    fields["rooms"] = torch.zeros(batch, ROOM, 6)
    fields["room_colours"] = torch.zeros(batch, ROOM, 6)
    return fields


def _choose(d: Draw, *weights: float) -> Tensor:
    """(B,) int64: an index drawn by weights."""
    return torch.multinomial(torch.tensor(weights), d.batch, True, generator=d.rng)


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Rows of (B, ...) by a condition (B,)."""
    return torch.where(condition.reshape(-1, *[1] * (yes.dim() - 1)) > 0, yes, no)


def rich_fields(d: Draw, f: dict[str, Tensor]) -> dict[str, Tensor]:
    """What people use as avatars and look like before a webcam, as widely as a renderer of this
    kind can.
    """
    one = torch.ones(d.batch)
    r: dict[str, Tensor] = {}
    animal = (f["animal_nose"] > 0).float()
    # 0 photograph, 1 soft 3-D, 2 painting, 3 cel, 4 flat vector drawing, 5 statue, 6 robot.
    look = _choose(d, 0.44, 0.16, 0.15, 0.08, 0.10, 0.03, 0.04)
    photo, soft, painted, cel, flat, statue, robot = ((look == k).float() for k in range(7))
    drawn = cel + flat
    human = 1 - animal

    # Framing: heads small in the picture, cut by its edge, off centre.
    r["base_scale"] = torch.where(d.chance(0.6) > 0, d.uniform(0.50, 0.76), d.uniform(0.40, 0.95))
    r["base_x"] = d.normal(0, 0.09, -0.34, 0.34)
    r["base_y"] = d.normal(-0.02, 0.10, -0.32, 0.30)

    # Proportions.
    r["head_width"] = (f["head_width"] * d.normal(1.0, 0.05, 0.88, 1.14)).clamp(0.54, 0.98)
    r["jaw_width"] = r["head_width"] * d.uniform(0.66, 0.98)
    r["jaw_length"] = (f["jaw_length"] * d.normal(1.0, 0.05, 0.88, 1.12)).clamp(0.44, 0.8)
    r["chin"] = (0.34 + r["jaw_length"] - 0.06).clamp(max=0.98)
    r["chin_follows"] = one
    r["nose_broad"] = d.uniform(0.8, 1.45)
    r["nose_long"] = d.uniform(0.19, 0.36)
    r["nose_soft"] = torch.where(drawn > 0, 0.025 * one, d.uniform(0.03, 0.09))
    tiny = flat * d.chance(0.5)
    r["nose_size"] = torch.where(tiny > 0, d.uniform(0.2, 0.5), f["nose_size"] * d.uniform(0.8, 1.1))
    photographic = photo + statue + robot
    # Eyes of photographs are narrower than those of drawings, some drawings have dots.
    narrow = torch.where(photographic * human > 0, d.uniform(0.62, 1.0), one)
    r["eye_height"] = f["eye_height"] * narrow
    dots = (flat + 0.4 * cel) * d.chance(0.3)
    r["eye_width"] = torch.where(dots > 0, d.uniform(0.07, 0.10), f["eye_width"])
    r["eye_height"] = torch.where(dots > 0, r["eye_width"] * d.uniform(0.9, 1.25), r["eye_height"])
    r["iris"] = torch.where(dots > 0, r["eye_height"] * 1.4, r["eye_height"] * d.uniform(0.85, 1.25))
    # An iris is wider than a narrow opening.
    natural_iris = torch.maximum(r["iris"], r["eye_width"] * d.uniform(0.36, 0.45))
    r["iris"] = torch.where(photographic * human > 0, natural_iris, r["iris"])
    r["pupil"] = torch.where(dots > 0, one, d.uniform(0.3, 0.65))
    dark_eyes = d.chance(0.35) * d.uniform(0.1, 0.5)
    r["iris_colour"] = f["iris_colour"] * torch.where(dark_eyes > 0, dark_eyes, one)[:, None]
    r["iris_colour"] = _where(dots, 0.05 + 0 * r["iris_colour"], r["iris_colour"])
    r["sclera"] = f["sclera"] * torch.where(photographic > 0, d.uniform(0.7, 0.98), one)[:, None]
    r["sclera"] = _where(dots, 0.06 + 0 * r["sclera"], r["sclera"])
    r["ball_shade"] = (photo + soft + painted) * d.uniform(0.1, 0.6)
    r["iris_rays"] = d.chance(0.6) * d.uniform(0.1, 0.6)
    r["wet"] = (photo + soft + painted) * d.chance(0.7) * d.uniform(0.2, 0.8)
    r["lash_wing"] = d.chance(0.3) * d.uniform(0.3, 1.0)
    r["teeth"] = torch.where(d.chance(0.9) > 0, d.uniform(0.55, 1.0), 0 * one)
    r["teeth_detail"] = torch.where(drawn > 0, d.chance(0.3), d.chance(0.9)) * d.uniform(0.2, 0.8)
    r["inside"] = f["inside"] * d.uniform(0.3, 1.1)[:, None]
    r["wrinkles"] = d.chance(0.75) * d.uniform(0.1, 0.8) * (1 - flat)
    r["lid_crease"] = d.uniform(0.0, 0.8)
    r["relief"] = torch.where(flat > 0, 0 * one, d.uniform(0.05, 0.7))
    r["brow_thick"] = d.uniform(0.012, 0.05)
    r["lip_strength"] = f["lip_strength"] * torch.where(flat * d.chance(0.5) > 0, 0 * one, one)

    # Animals: a muzzle that stands out, noses of several sizes, pointed ears, fur.
    r["muzzle_depth"] = animal * d.chance(0.75) * d.uniform(0.3, 1.0)
    r["snout_size"] = torch.where(animal > 0, d.uniform(0.7, 1.7), one)
    r["philtrum"] = animal * d.uniform(0.2, 1.0)
    r["ear_point"] = d.chance(0.6)
    r["animal_ear"] = torch.where(animal > 0, one, d.chance(0.02))
    r["fur"] = animal * d.chance(0.8) * d.uniform(0.03, 0.12)
    r["lip_strength"] = r["lip_strength"] * (1 - 0.8 * animal)

    # Colours of statues, robots and old photographs.
    gray = ((photo + painted + drawn) * d.chance(0.08)).clamp(max=1)
    stone = hsv_to_rgb(d.uniform(0.02, 0.16), d.uniform(0.0, 0.35), d.uniform(0.35, 0.95))
    metal = hsv_to_rgb(d.uniform(0, 1), d.uniform(0.0, 0.25), d.uniform(0.3, 0.9))
    skin = _where(statue, stone, _where(robot, metal, f["skin"]))
    skin = _where(gray, skin.mean(1, keepdim=True).expand(-1, 3), skin)
    # Vector drawings have light, even skin more often than the plain draws.
    r["skin"] = skin = (skin * d.normal(1.0, 0.07, 0.8, 1.2)[:, None]).clamp(0.03, 1.0)
    for name in ("iris_colour", "sclera"):
        r[name] = _where(statue, skin * d.uniform(0.75, 1.1)[:, None], r[name])
        r[name] = _where(gray, r[name].mean(1, keepdim=True).expand(-1, 3), r[name])
    r["pupil"] = torch.where(statue > 0, 0 * one, r["pupil"])
    glow = robot * d.chance(0.5)
    r["iris_colour"] = _where(glow, d.colour((0.3, 1.0), (0.8, 1.0)), r["iris_colour"])
    black_line = flat * d.chance(0.5) + 0.3 * cel
    r["line_colour"] = _where(
        d.chance(0.5) * black_line, 0.03 + 0 * skin, skin * d.uniform(0.08, 0.5)[:, None]
    )
    r["lip_colour"] = torch.lerp(
        (skin * torch.tensor([0.92, 0.58, 0.58])) * d.uniform(0.7, 1.1)[:, None],
        d.colour((0.5, 1.0), (0.4, 0.9)),
        (d.chance(0.15) * d.uniform(0.3, 0.9) * human)[:, None],
    )
    r["lip_colour"] = _where(statue + gray, skin * d.uniform(0.75, 0.98)[:, None], r["lip_colour"])
    r["eye_shadow_colour"] = (
        skin * d.uniform(0.3, 0.9)[:, None] * (0.6 + 0.4 * d.colour((0.0, 0.6), (0.5, 1.0)))
    )

    # Skin: anything may be painted on it. 0 mottled, 1 strokes, 2 hatching, 3 patches, 4 stripes, 5
    # spots, 6 plates.
    kind = _choose(d, 0.42, 0.16, 0.08, 0.10, 0.06, 0.12, 0.06)
    # Most people's skin is nearly even.
    kind = torch.where(photo * human * d.chance(0.6) > 0, 0, kind)
    kind = torch.where(robot * d.chance(0.7) > 0, 6, kind)
    kind = torch.where(animal * d.chance(0.5) > 0, torch.where(d.chance(0.5) > 0, 1, 4), kind)
    r["texture"] = pattern(d, kind, 96)
    r["texture_turn"] = d.uniform(-math.pi, math.pi)
    r["texture_scale"] = d.uniform(0.8, 2.2)
    quiet, loud = d.uniform(0.005, 0.07), d.uniform(0.06, 0.30)
    gain = torch.where(d.chance(0.30 - 0.18 * photo) > 0, loud, quiet)
    r["texture_gain"] = gain * torch.where(flat > 0, d.chance(0.35), torch.where(cel > 0, d.chance(0.6), one))
    r["patch"] = d.chance(0.12 - 0.06 * photo) * d.uniform(0.3, 1.0)
    r["patch_from"] = d.uniform(0.3, 1.6)
    r["patch_colour"] = d.colour((0.0, 0.9), (0.05, 1.0))

    # Hair.
    natural = hsv_to_rgb(d.uniform(0.02, 0.13), d.uniform(0.0, 0.75), d.uniform(0.02, 0.85) ** 1.5)
    hair = _where(d.chance(0.10 + 0.15 * drawn), d.colour((0.2, 0.9), (0.2, 1.0)), natural)
    hair = _where(gray, hair.mean(1, keepdim=True).expand(-1, 3), hair)
    hair = _where(statue, skin * d.uniform(0.7, 1.1)[:, None], hair)
    hood = d.chance(0.05) * human
    r["hair"] = hair = _where(hood, d.colour((0.0, 0.8), (0.05, 1.0)), hair)
    r["brow_colour"] = _where(d.chance(0.25) + hood, natural * 0.6, hair * d.uniform(0.4, 0.95)[:, None])
    r["brow_colour"] = _where(animal * d.chance(0.6), skin * 0.9, r["brow_colour"])
    hairy = torch.maximum(torch.where(animal > 0, d.chance(0.15), d.chance(0.90)) * (1 - 0.8 * robot), hood)
    r["hair_on"] = hairy
    curly = d.chance(0.22)
    r["hair_thick"] = torch.where(curly > 0, d.uniform(1.10, 1.38), d.uniform(1.03, 1.20)) + 0.08 * hood
    r["hair_curl"] = torch.where(curly > 0, d.uniform(0.03, 0.08), d.uniform(0.0, 0.025)) * (1 - hood)
    r["strand_x"] = torch.where(curly > 0, d.uniform(1.2, 3.0), d.uniform(1.5, 4.5))
    r["strand_y"] = torch.where(curly > 0, d.uniform(1.0, 3.0), d.uniform(0.1, 0.7))
    r["strand_skew"] = d.normal(0, 0.8, -2, 2)
    r["strand_z"] = d.uniform(0.4, 1.5)
    r["hair_texture"] = grain(d, 64, 5)
    r["hair_texture_gain"] = (
        torch.where(flat > 0, d.chance(0.4), one) * d.uniform(0.06, 0.30) * (1 - 0.8 * hood)
    )
    r["hair_line"] = torch.where(hood > 0, d.uniform(-0.62, -0.45), d.normal(-0.52, 0.10, -0.78, -0.3))
    r["hair_temple"] = d.uniform(0.36, 0.62)
    r["hair_sides"] = torch.where(d.chance(0.5) > 0, d.uniform(0.2, 1.5), d.uniform(1.5, 6.0))
    r["hair_part"] = d.normal(0.0, 0.3, -0.6, 0.6)
    bangs = d.chance(0.45) * (1 - hood)
    curtain = d.chance(0.3) * (1 - bangs)
    r["hair_fringe"] = bangs * d.uniform(0.0, 0.35)
    r["hair_tilt"] = d.normal(0, 0.22, -0.6, 0.6) * (1 - hood)
    r["hair_curtain"] = curtain * d.uniform(0.2, 1.1)
    r["hair_strands"] = torch.where(d.chance(0.4) > 0, d.uniform(0.3, 1.1), d.uniform(0.02, 0.35)) * (
        1 - hood
    )
    # Hair may reach the brows, and now and then an eye, but a face stays a face.
    reach = (
        r["hair_fringe"] + 0.35 * r["hair_tilt"].abs() + 0.35 * r["hair_curtain"] + 0.25 * r["hair_strands"]
    )
    allowed = (f["eye_y"] - 0.12 - r["hair_line"]) * d.uniform(0.5, 1.25)
    shrink = (allowed / reach.clamp_min(1e-3)).clamp(max=1)
    for name in ("hair_fringe", "hair_tilt", "hair_curtain", "hair_strands"):
        r[name] = r[name] * shrink
    long = torch.maximum(hairy * d.chance(0.40) * (1 - animal), hood)
    r["long_hair"] = long
    r["long_hair_length"] = torch.where(hood > 0, d.uniform(0.9, 1.3), d.uniform(0.4, 1.8))
    r["locks"] = long * torch.maximum(d.chance(0.75), hood)
    r["locks_width"] = d.uniform(0.13, 0.27)
    r["locks_length"] = torch.where(hood > 0, d.uniform(0.75, 1.0), d.uniform(0.5, 1.9))
    r["bun"] = hairy * d.chance(0.10) * d.uniform(0.2, 0.42)
    r["bun_place"] = torch.stack([d.normal(0, 0.12), d.uniform(-1.25, -0.9), d.uniform(-0.6, 0.1)], 1)

    # Hats, caps, headphones, antennas; glasses with tint and shine; beards.
    r["hat_on"] = d.chance(0.10) * (1 - hood)
    r["brim"] = r["hat_on"] * d.chance(0.5)
    r["headphones"] = d.chance(0.07)
    r["gadget_colour"] = d.colour((0.0, 0.7), (0.03, 0.95))
    r["antenna"] = robot * d.chance(0.5)
    glasses = d.chance(0.24)
    r["glasses_on"] = glasses
    r["glasses_rim"] = torch.where(d.chance(0.5) > 0, d.uniform(0.006, 0.016), d.uniform(0.014, 0.04))
    r["glasses_colour"] = _where(d.chance(0.5), 0.06 + 0 * skin, d.colour((0.0, 0.7), (0.0, 0.8)))
    r["tint"] = (
        glasses * torch.where(d.chance(0.25) > 0, d.uniform(0.1, 0.6), 0.0) + glasses * d.chance(0.06) * 0.35
    )
    r["tint_colour"] = d.colour((0.0, 0.7), (0.0, 0.35))
    r["lens_shine"] = glasses * d.chance(0.5) * d.uniform(0.1, 0.6)
    r["beard"] = human * d.chance(0.22) * d.uniform(0.15, 1.0)
    r["goatee"] = d.chance(0.35)
    r["beard_grain"] = d.uniform(0.0, 0.8)
    r["moustache"] = human * torch.where(r["beard"] > 0, d.chance(0.7), d.chance(0.10)) * d.uniform(0.2, 1.0)

    # Light: a key light, a fill from elsewhere, a rim; shadows that the nose, the hair and the chin
    # cast.
    r["flat"], r["cel"] = flat, cel
    r["outline"] = torch.where(drawn > 0, d.chance(0.65), d.chance(0.05)) * d.uniform(0.008, 0.035)
    r["ambient"] = torch.where(flat > 0, 0.97 * one, d.uniform(0.38, 0.88))
    r["gloss"] = torch.where(soft + photo > 0, d.chance(0.6) * d.uniform(0.0, 0.25), 0 * one) + robot * 0.4
    r["wrap"] = torch.where(drawn > 0, 0 * one, d.uniform(0.0, 0.8))
    shading = 1 - drawn
    tint = 0.6 + 0.4 * d.colour((0.0, 0.8), (0.7, 1.0))
    r["fill"] = tint * (shading * d.chance(0.7) * d.uniform(0.05, 0.35))[:, None]
    angle, height = d.uniform(-1.5, 1.5), d.uniform(-1.0, 0.9)
    r["fill_from"] = torch.stack([angle.sin() * height.cos(), height.sin(), angle.cos() * height.cos()], 1)
    r["rim"] = (0.5 + 0.5 * d.colour((0.0, 0.6), (0.6, 1.0))) * (
        shading * d.chance(0.25) * d.uniform(0.1, 0.6)
    )[:, None]
    r["metal"] = robot * d.chance(0.7) * d.uniform(0.2, 0.7)
    r["cast"] = shading * d.chance(0.75) * d.uniform(0.1, 0.6) + cel * d.chance(0.4) * 0.3

    # Cameras expose for the face: more light, shorter exposure.
    bright = r["ambient"] + (1 - r["ambient"]) * (0.85 + 0.2 * r["wrap"]) + 0.55 * r["fill"].mean(1)
    r["exposure"] = (d.normal(1.0, 0.14, 0.55, 1.3) / bright).clamp(0.4, 1.4)

    # Clothes.
    r["jacket"] = d.chance(0.25)
    r["tie"] = r["jacket"] * d.chance(0.5)
    r["scarf"] = d.chance(0.06)
    r["cloth_stripes"] = d.chance(0.2) * d.uniform(8, 40)
    dark_clothes = d.chance(0.4)
    r["clothes"] = f["clothes"] * torch.where(dark_clothes > 0, d.uniform(0.1, 0.6), one)[:, None]
    r["shoulder_width"] = d.uniform(0.95, 1.8)
    r["neck_width"] = r["jaw_width"] * d.uniform(0.58, 0.92)

    # Behind: plain walls, gradients, rooms; other people.
    plain_wall = torch.maximum(d.chance(0.25), flat * d.chance(0.4))
    r["background_b"] = _where(
        plain_wall,
        f["background_a"],
        torch.lerp(f["background_a"], f["background_b"], d.uniform(0.1, 1.0)[:, None]),
    )
    r["background_noise"] = (1 - plain_wall) * d.chance(0.5) * d.uniform(0.0, 0.07)
    noise = grain(d, 48, 4, 3)
    r["background_texture"] = torch.lerp(
        noise, noise.mean(1, keepdim=True) * 1.6, d.uniform(0.6, 1.0)[:, None, None, None]
    )
    r["background_stripes"] = (1 - plain_wall) * d.chance(0.06) * d.uniform(3, 14)
    r["box_on"] = 0 * one
    r["room"] = (1 - plain_wall) * d.chance(0.75)
    r["room_blur"] = torch.where(d.chance(0.5) > 0, d.uniform(0.0, 0.12), 0 * one)
    r["rooms"], r["room_colours"] = _rooms(d)
    r["other"] = d.chance(0.09)
    side = torch.where(d.chance(0.5) > 0, 1.0, -1.0)
    r["other_place"] = torch.stack(
        [side * d.uniform(0.75, 1.15), d.uniform(-0.5, 0.6), d.uniform(0.2, 0.5)], 1
    )
    r["other_skin"] = hsv_to_rgb(d.uniform(0.015, 0.085), d.uniform(0.2, 0.6), d.uniform(0.3, 0.95))
    r["other_hair"] = natural.flip(0)

    # Before the face: a hand (0) or a microphone (1).
    r["occluder"] = d.chance(0.07)
    r["occluder_kind"] = d.chance(0.5)
    r["occluder_place"] = torch.stack(
        [
            r["base_x"] + d.normal(0, 0.35, -0.8, 0.8),
            r["base_y"] + d.uniform(0.25, 0.85),
            d.uniform(0.10, 0.22),
            d.normal(0, 0.5, -1.2, 1.2),
        ],
        1,
    )
    r["occluder_sway"] = d.chance(0.6) * d.uniform(0.05, 0.35)
    r["occluder_colour"] = _where(r["occluder_kind"], d.colour((0.0, 0.3), (0.03, 0.5)), skin * 0.95)
    return r


def _rooms(d: Draw) -> tuple[Tensor, Tensor]:
    """Boxes and discs behind the puppet, large ones first.

    Returns:
        boxes: (B, ROOM, 6): centre x, y, half width, half height, whether round, width of a frame.
        colours: (B, ROOM, 6): of the inside and of the frame, RGB.
    """
    n = ROOM
    size = torch.linspace(1.0, 0.35, n) * d.uniform(0.5, 1.0, 1)
    # Shelves are wide, doors and windows tall, lamps round.
    long = d.uniform(-1.2, 1.2, n).exp()
    width, height = 0.42 * size * long, 0.42 * size / long
    round_ = (torch.rand(d.batch, n, generator=d.rng) < 0.2).float()
    width = torch.where(round_ > 0, height.clamp(max=0.3), width)
    height = torch.where(round_ > 0, width, height)
    there = (torch.rand(d.batch, n, generator=d.rng) < 0.75).float()
    frame = (torch.rand(d.batch, n, generator=d.rng) < 0.5).float() * d.uniform(0.01, 0.06, n)
    boxes = torch.stack(
        [
            d.uniform(-1.2, 1.2, n),
            d.uniform(-1.2, 0.9, n),
            width * there - (1 - there),
            height,
            round_,
            frame,
        ],
        2,
    )
    tone = d.uniform(0.05, 1.0, n)[..., None] * (
        1 - d.uniform(0.0, 0.5, n)[..., None] * torch.rand(d.batch, n, 3, generator=d.rng)
    )
    rim = tone * d.uniform(0.3, 1.5, n)[..., None]
    return boxes, torch.cat([tone, rim.clamp(max=1)], 2)


def foreign_fields(d: Draw, f: dict[str, Tensor]) -> dict[str, Tensor]:
    """Faces that no training draws: other proportions, shading, textures and backgrounds. For
    evaluation only.
    """
    r = rich_fields(d, f)
    # Longer and rounder heads, longer noses, wider mouths.
    long = d.chance(0.5)
    r["head_width"] = r["head_width"] * torch.where(long > 0, d.uniform(0.82, 0.90), d.uniform(1.10, 1.22))
    r["jaw_width"] = r["head_width"] * d.uniform(0.60, 1.05)
    r["nose_long"] = d.uniform(0.36, 0.46)
    r["nose_broad"] = torch.where(d.chance(0.5) > 0, d.uniform(0.6, 0.8), d.uniform(1.45, 1.75))
    r["mouth_width"] = f["mouth_width"] * d.uniform(1.15, 1.35)
    r["lip_upper"], r["lip_lower"] = f["lip_upper"] * 1.3, f["lip_lower"] * 1.3
    # Two coloured lights, strong shadows, hatched by the light.
    r["flat"], r["cel"] = torch.zeros(d.batch), torch.zeros(d.batch)
    r["ambient"] = d.uniform(0.25, 0.5)
    r["fill"] = d.colour((0.5, 1.0), (0.8, 1.0)) * d.uniform(0.3, 0.6)[:, None]
    r["exposure"] = d.normal(1.0, 0.1, 0.8, 1.2)
    r["cast"] = d.uniform(0.6, 0.9)
    r["hatch"] = d.chance(0.5) * d.uniform(0.2, 0.5)
    r["hatch_step"] = d.uniform(0.03, 0.07)
    # Rings, chequers and waves instead of mottles and strokes.
    r["texture"] = pattern(d, 7 + _choose(d, 1.0, 1.0, 1.0), 96)
    r["texture_gain"] = d.chance(0.7) * d.uniform(0.02, 0.14)
    r["patch"] = d.chance(0.2) * d.uniform(0.3, 0.9)
    # Behind: rings or chequers, no rooms.
    r["room"], r["background_noise"] = torch.zeros(d.batch), d.chance(0.8) * d.uniform(0.03, 0.14)
    r["background_texture"] = pattern(d, 7 + _choose(d, 1.0, 1.0, 1.0), 48)
    r["background_stripes"] = torch.zeros(d.batch)
    return r
