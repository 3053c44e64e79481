"""Drawn people: proportions of cartoons, animals and robots, flat colours, ink. All truth stays exact.

Proportions are changes of space, applied to everything after the expression: closed lids stay closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Warp:
    """A smooth change of space round a centre.

    Attributes:
        centre: (3,).
        inner: share of the radii within which the change is whole.
        radii: (3,) beyond which there is none.
        scale: (3,) factors about the centre.
        shift: (3,).
    """

    centre: np.ndarray
    inner: float
    radii: np.ndarray
    scale: np.ndarray
    shift: np.ndarray

    def __call__(self, places: np.ndarray) -> np.ndarray:
        offset = places - self.centre
        x, y, z = (offset / self.radii).T
        away = x * x + y * y + z * z
        near = np.flatnonzero(away < 1)
        share = np.clip((1 - np.sqrt(away[near])) / (1 - self.inner), 0, 1)
        share = (share * share * (3 - 2 * share))[:, None]
        found = places.astype(np.float32)
        found[near] += share * (offset[near] * (self.scale - 1) + self.shift)
        return found


def warp(centre, inner, radii, scale, shift=(0.0, 0.0, 0.0)) -> Warp:
    return Warp(
        *(
            np.asarray(x, np.float32) if k != 1 else x
            for k, x in enumerate((centre, inner, radii, scale, shift))
        )
    )


def apply(person, rng: np.random.Generator) -> None:
    """Turn a person into a character."""
    from livepuppet.train.people.person import vertex_table

    table = vertex_table(person.assets)

    def at(name: str) -> np.ndarray:
        return person.base[table[name]].astype(float)

    joints = person.joints
    unit = float(np.linalg.norm(joints["eye.L"] - joints["eye.R"]))
    kind = rng.choice(["anime", "cartoon", "animal", "robot", "portrait"], p=[0.32, 0.28, 0.13, 0.09, 0.18])
    nose, chin = at("nose tip"), at("chin")
    warps = []
    big = {
        "anime": rng.uniform(1.35, 1.9),
        "cartoon": rng.uniform(1.1, 1.7),
        "portrait": rng.uniform(1.0, 1.15),
    }.get(kind, rng.uniform(1.0, 1.5))
    for letter, sign in (("L", 1), ("R", -1)):
        warps.append(
            warp(
                joints[f"eye.{letter}"] + np.array([sign * 0.02 * unit, 0, 0.1 * unit]),
                # A plateau that ends abruptly would fold what lies round large eyes.
                0.25,
                np.array([0.64, 0.68, 0.8]) * unit,
                (big * 0.96, big * rng.uniform(0.95, 1.15), 0.75 if kind == "anime" else 0.9),
                (0, -0.04 * unit, 0),
            )
        )
    nose_middle = nose + np.array([0, 0, -0.1 * unit])
    if kind == "anime":
        warps.append(
            warp(nose_middle, 0.2, np.array([0.45, 0.5, 0.5]) * unit, (0.5, 0.6, 0.55), (0, 0, -0.12 * unit))
        )
        warps.append(
            warp(
                chin + np.array([0, 0.3 * unit, -0.6 * unit]),
                0.1,
                np.array([1.5, 1.1, 1.6]) * unit,
                (rng.uniform(0.65, 0.85), rng.uniform(0.85, 1.0), 0.95),
                (0, rng.uniform(0, 0.12) * unit, 0),
            )
        )
    if kind == "cartoon":
        warps.append(
            warp(
                nose_middle,
                0.25,
                np.array([0.6, 0.55, 0.7]) * unit,
                rng.uniform(0.6, 1.8, 3),
                (0, 0, rng.uniform(-0.1, 0.25) * unit),
            )
        )
        warps.append(
            warp(
                chin + np.array([0, 0.2 * unit, -0.5 * unit]),
                0.1,
                np.array([1.7, 1.2, 1.7]) * unit,
                (rng.uniform(0.7, 1.4), rng.uniform(0.8, 1.3), 1.0),
            )
        )
        mouth = 0.5 * (at("upper lip") + at("lower lip"))
        warps.append(
            warp(
                mouth,
                0.4,
                np.array([0.95, 0.5, 0.7]) * unit,
                (rng.uniform(0.8, 1.35), rng.uniform(0.9, 1.3), 1.0),
            )
        )
    if kind == "animal":
        mouth = 0.5 * (at("upper lip") + at("lower lip"))
        warps.append(
            warp(
                mouth + np.array([0, 0.1 * unit, -0.3 * unit]),
                0.3,
                np.array([0.95, 0.85, 1.0]) * unit,
                (1.0, 0.9, 1.4),
                (0, 0.02 * unit, rng.uniform(0.25, 0.6) * unit),
            )
        )
        warps.append(warp(nose, 0.3, np.array([0.4, 0.35, 0.5]) * unit, (1.3, 0.7, 0.8)))
        for name, sign in (("left ear middle", -1), ("right ear middle", 1)):
            warps.append(
                warp(
                    at(name),
                    0.2,
                    np.array([0.5, 0.8, 0.8]) * unit,
                    (rng.uniform(1.3, 2.2), rng.uniform(1.4, 2.4), 1.0),
                    (sign * 0.1 * unit, rng.uniform(0.1, 0.9) * unit, 0),
                )
            )
    size = {"robot": rng.uniform(1.0, 1.15), "portrait": 1.0}.get(kind, rng.uniform(1.0, 1.35))
    warps.append(
        warp(
            (at("crown") + chin) / 2,
            0.55,
            np.array([5, 3.4, 5]) * unit,
            (size,) * 3,
            (0, 0.35 * (size - 1) * unit, 0),
        )
    )
    person.warps = warps
    _paint(person.look, kind, rng)
    if any(part.kind == "hair" for part in person.parts) and not person.look.combed_back:
        # Drawn hair has an edge, below which no scalp is seen.
        person.look.details["scalp"] = 0.0
    person.kind = kind


def _paint(look, kind: str, rng: np.random.Generator) -> None:
    look.style = str(rng.choice(["cel", "ink", "paint"], p=[0.45, 0.25, 0.30]))
    natural = np.array([0.9, 0.58, 0.42]) * rng.uniform(0.25, 1.1)
    odd = rng.random(3) ** 1.2 * 0.9 + 0.05
    likely = {"anime": 0.92, "cartoon": 0.85, "portrait": 0.97}.get(kind, 0.4)
    # Other colours are paler than those of plastic.
    odd = 0.7 * odd + 0.3 * odd.mean()
    look.flat_colour = natural if rng.random() < likely else odd
    look.flat = (
        0.95
        if kind == "robot"
        else rng.uniform(0.75, 1.0)
        if look.style != "paint"
        else rng.uniform(0.3, 0.9)
    )
    look.shade = np.clip(np.array([0.62, 0.55, 0.66]) + rng.normal(0, 0.08, 3), 0.3, 0.9)
    # Skin in a greenish shade is ill.
    look.shade[1] = min(look.shade[1], look.shade[0] - 0.04)
    rng.random(1 + (look.style == "cel"))
    look.ink = np.array([0.005, 0.005, 0.008]) if rng.random() < 0.7 else look.flat_colour * 0.08
    if rng.random() < 0.5:
        look.hair = 0.3 * look.hair + 0.7 * np.clip(rng.random(3) ** 1.3, 0.03, 1)
    look.beard = look.hair
    look.hair_tips = look.hair * rng.uniform(0.8, 1.6)
    look.brow, look.brow_density = look.hair * 0.22, 1.0
    # Of its own generator: what else characters are does not depend on it.
    own = np.random.default_rng([look.seed, 11])
    # What has no lines is a model of plastic, not a drawing.
    look.outline = own.uniform(0.009, 0.022) * (0.6 if look.style == "paint" else 1.0)
    look.lines, look.pen = own.uniform(0.65, 0.95), own.uniform(0.0030, 0.0044)
    # Two strokes of one colour; eyes are outlined, and few have lashes besides.
    look.brows.solid, look.brows.hairs = 0.97, 40
    look.details["liner"] = own.uniform(0.7, 1.0)
    look.lash_density = own.uniform(0.5, 1.0) if own.random() < 0.5 else 0.0
    look.tone = look.flat_colour * 0.8
    look.teeth = np.ones(3) * rng.uniform(0.85, 1.0)
    details = look.details
    for name in ("blotches", "pores", "circles", "freckles", "moles", "wrinkles", "stubble"):
        details[name] = float(details[name]) * 0.3
    details["lips"] = max(details["lips"], rng.uniform(0, 0.8) * (rng.random() < 0.5))
    if kind == "anime" or rng.random() < 0.5:
        look.iris |= {
            "drawn": 1.0,
            "colour": rng.random(3) ** 1.2,
            "size": rng.uniform(0.55, 0.74),
            "pupil": rng.uniform(0.3, 0.55),
            "oval": rng.uniform(0.75, 1.0),
            "white": 1.0,
            "red": 0.0,
        }
    elif rng.random() < 0.25:
        # Dots for eyes.
        look.iris |= {
            "drawn": 1.0,
            "colour": np.full(3, 0.01),
            "size": rng.uniform(0.45, 0.6),
            "pupil": 1.0,
            "white": 1.0,
            "red": 0.0,
        }
