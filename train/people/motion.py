"""How people move: the puppets' factors, and beside them expression units by ARKit's names.

A motion is a `puppets.identities.Motion` with more columns: the puppets' `FACTORS`, then `EXTRA`. `amounts` turns a row
into what each of ARKit's 52 units does, which is also part of the truth of a picture.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from livepuppet.realtime.rig.amounts import NAMES
from livepuppet.train.puppets.draws import Draw
from livepuppet.train.puppets.identities import FACTORS, Motion, draw_groups, draw_motions

#: Units that no factor moves, or that move beside it, in [0, 1]. Left and right are the person's.
EXTRA = (
    "browInnerUp",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeWideLeft",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthClose",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthFunnel",
    "mouthLeft",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)

#: Columns of a person's motion.
COLUMNS = FACTORS + EXTRA

#: How far the jaw opens at least for a tongue that is put out whole.
TONGUE_ROOM = 0.5

#: Angles of the eyeball, in radians, at a gaze of 1: sideways, and up or down.
GAZE = (0.56, 0.31)


def widen(values: Tensor) -> Tensor:
    """Rows of the puppets' factors, (..., 15), as rows of `COLUMNS`; rows that are wide already as they are."""
    missing = len(COLUMNS) - values.shape[-1]
    return torch.cat([values, values.new_zeros(*values.shape[:-1], missing)], -1) if missing else values


def neutral(count: int = 1) -> Motion:
    """Looking straight ahead with open eyes and a closed mouth."""
    return Motion(torch.zeros(count, len(COLUMNS)))


def _beside(rows: int, rng: torch.Generator, likely: float) -> Tensor:
    """Amounts (rows, len(EXTRA)): most zero, pairs of sides mostly alike."""
    d = Draw(rows, rng)
    values = torch.zeros(rows, len(EXTRA))
    column = {name: k for k, name in enumerate(EXTRA)}
    for name in EXTRA:
        if name.endswith("Right") and name[:-5] + "Left" in column and name not in ("jawRight", "mouthRight"):
            left = values[:, column[name[:-5] + "Left"]]
            alone = d.chance(likely * 0.4) * d.uniform(0.1, 0.9)
            one_sided = d.chance(0.25)
            values[:, column[name]] = torch.where(left > 0, left * (1 - one_sided), alone)
            continue
        strength = {"tongueOut": 0.5, "mouthClose": 0.3, "cheekPuff": 0.8}.get(name, 0.75)
        share = {"tongueOut": 0.4, "browInnerUp": 2.0, "eyeWideLeft": 0.7, "jawForward": 0.5}.get(name, 1.0)
        values[:, column[name]] = d.chance(likely * share) * d.uniform(0.05, 1.0) * strength
    for left, right in (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight")):
        values[:, column[right]] *= values[:, column[left]] == 0
    return values


def _speaking(rows: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Speech-like mouths: opening (rows,), and amounts (rows, len(EXTRA)) of what lips do beside it."""
    d = Draw(rows, rng)
    kind = torch.multinomial(torch.tensor([0.28, 0.22, 0.18, 0.14, 0.10, 0.08]), rows, True, generator=rng)
    column = {name: k for k, name in enumerate(EXTRA)}
    values = torch.zeros(rows, len(EXTRA))
    strength = d.uniform(0.5, 1.0)
    # a, e/i, o/u, m/b/p, f/v, l/th
    opening = torch.tensor([0.55, 0.22, 0.25, 0.0, 0.08, 0.25])[kind] * strength
    shapes = (
        {"mouthLowerDownLeft": 0.3, "mouthUpperUpLeft": 0.25},
        {"mouthStretchLeft": 0.5, "mouthUpperUpLeft": 0.3, "mouthLowerDownLeft": 0.4, "mouthDimpleLeft": 0.3},
        {"mouthFunnel": 0.75},
        {"mouthPressLeft": 0.5, "mouthRollUpper": 0.25, "mouthRollLower": 0.3},
        {"mouthRollLower": 0.6, "mouthUpperUpLeft": 0.45},
        {"tongueOut": 0.28, "mouthUpperUpLeft": 0.3, "mouthLowerDownLeft": 0.3},
    )
    for k, shape in enumerate(shapes):
        for name, amount in shape.items():
            pair = (name, name.replace("Left", "Right"))
            for one in dict.fromkeys(pair):
                values[:, column[one]] += (kind == k) * strength * amount
    return opening, values


def draw_people_motions(batch: int, rng: torch.Generator, expression_only: float = 0.0) -> Motion:
    """Poses and expressions as `draw_motions` has them, with units beside the factors."""
    motion = draw_motions(batch, rng, expression_only).values
    speaks = torch.rand(batch, generator=rng) < 0.25
    opening, shapes = _speaking(batch, rng)
    beside = _beside(batch, rng, 0.07)
    return Motion(_with_speech(motion, beside, speaks, opening, shapes))


def _with_speech(motion: Tensor, beside: Tensor, speaks: Tensor, opening: Tensor, shapes: Tensor) -> Tensor:
    motion = motion.clone()
    for name, value in (("open", opening), ("pucker", torch.zeros_like(opening))):
        k = FACTORS.index(name)
        motion[:, k] = torch.where(speaks, value, motion[:, k])
    k = FACTORS.index("smile")
    motion[:, k] = torch.where(speaks, motion[:, k] * 0.5, motion[:, k])
    extra = torch.where(speaks[:, None], shapes, beside)
    return torch.cat([motion, extra.clamp(0, 1)], 1)


def draw_people_groups(groups: int, poses: int, rng: torch.Generator) -> Motion:
    """`poses` motions for each of `groups` people: the lively groups of the puppets, with units beside the factors.

    In a fifth of the groups one unit alone changes, all else held.
    """
    motion = draw_groups(groups, poses, rng, "rich").values
    rows = groups * poses
    speaks = (torch.rand(groups, 1, generator=rng) < 0.3).repeat(1, poses)
    # A group that varies one factor keeps it the only one: columns of `motion` that are alike in all poses say so.
    grouped = motion.view(groups, poses, -1)
    changing = ((grouped - grouped[:, :1]).abs().amax(1) > 1e-6).sum(1)
    single = changing <= 2
    speaks &= ~single[:, None]
    opening, shapes = _speaking(rows, rng)
    beside = _beside(rows, rng, 0.07).view(groups, poses, -1)
    beside = torch.where(single[:, None, None], beside[:, :1].expand_as(beside), beside)
    wide = _with_speech(motion, beside.reshape(rows, -1), speaks.reshape(-1), opening, shapes)
    wide = wide.view(groups, poses, -1)
    alone = torch.rand(groups, generator=rng) < 0.2
    which = torch.randint(len(EXTRA), (groups,), generator=rng)
    amounts = (1.3 * torch.rand(groups, poses, generator=rng) - 0.15).clamp(0, 1)
    held = wide[:, :1].repeat(1, poses, 1)
    for g in range(groups):
        names = [EXTRA[int(which[g])]]
        if names[0].endswith(("Left", "Right")) and torch.rand((), generator=rng) < 0.6:
            partner = names[0].replace("Left", "@").replace("Right", "Left").replace("@", "Right")
            names += [partner] if not names[0].startswith(("jaw", "mouthLeft", "mouthRight")) else []
        for name in names:
            held[g, 1:, len(FACTORS) + EXTRA.index(name)] = amounts[g, 1:]
    return Motion(torch.where(alone[:, None, None], held, wide).reshape(rows, -1))


#: What a vivid mouth does, and how often: one of these at a time, since no face does two of them fully. Pairs of sides are
#: named by their left one.
MOUTH_SHAPES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.16, ("pucker",)),
    (0.11, ("mouthFunnel",)),
    (0.17, ("smile",)),
    (0.07, ("mouthFrownLeft",)),
    (0.07, ("mouthStretchLeft",)),
    (0.05, ("mouthPressLeft",)),
    (0.08, ("mouthRollLower", "mouthRollUpper")),
    (0.06, ("mouthShrugLower", "mouthShrugUpper")),
    (0.12, ("cheekPuff",)),
    (0.11, ("tongueOut",)),
)

#: How far lips that bare the teeth are drawn up and down, in units.
BARED = 2.0


def draw_vivid_groups(groups: int, poses: int, rng: torch.Generator, likely: float = 0.6) -> Motion:
    """`draw_people_groups`, of which a share `likely` of the poses does something as strongly as faces can: wide turns of the
    head, gaze to its ends, blinks of every degree, and units that people seldom use, each evenly from 0 to 1.
    """
    values = draw_people_groups(groups, poses, rng).values
    vivid = _vivid(values, rng)
    return Motion(torch.where(torch.rand(len(values), 1, generator=rng) < likely, vivid, values))


def _vivid(motion: Tensor, rng: torch.Generator) -> Tensor:
    """What rows of motions (B, len(COLUMNS)) become; shift and scale stay."""
    d = Draw(len(motion), rng)
    m = {name: motion[:, k].clone() for k, name in enumerate(COLUMNS)}
    for name in ("open", "smile", "pucker", "blink_left", "blink_right", *EXTRA):
        m[name] = torch.zeros(len(motion))

    def even(low: float = 0.0, high: float = 1.0) -> Tensor:
        # The ends a little more often than by chance.
        return low + (high - low) * (1.2 * d.uniform(0, 1) - 0.1).clamp(0, 1)

    def add(name: str, amount: Tensor) -> None:
        """To a unit, or to a pair of sides: of two in five to one of them only."""
        if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):
            side = d.uniform(0, 1)
            m[name] = torch.maximum(m[name], amount * (side < 0.8))
            other = name[:-4] + "Right"
            m[other] = torch.maximum(m[other], amount * (side > 0.2))
        else:
            m[name] = torch.maximum(m[name], amount)

    turned = d.chance(0.6) > 0
    yaw = even(-0.7, 0.7)
    # Who looks over the shoulder does not look at the ceiling as well.
    pitch = even(-0.44, 0.44) * (1 - 0.7 * yaw.abs())
    for name, value in (("yaw", yaw), ("pitch", pitch), ("roll", d.normal(0, 0.15, -0.45, 0.45))):
        m[name] = torch.where(turned, value, m[name])
    gazes = d.chance(0.6) > 0
    for name in ("gaze_x", "gaze_y"):
        m[name] = torch.where(gazes, even(-1, 1), m[name])

    # Eyes: shut to some degree (one of them only, in a quarter), else wide or squinting, else open.
    doing, one = d.uniform(0, 1), d.uniform(0, 1)
    shut = (doing < 0.5) * even()
    m["blink_left"], m["blink_right"] = shut * (one > 0.12), shut * (one < 0.88)
    add("eyeWideLeft", ((doing > 0.5) & (doing < 0.7)) * even())
    add("eyeSquintLeft", ((doing > 0.7) & (doing < 0.92)) * even())

    brow = d.chance(0.6) * even(-1, 1)
    m["brow_left"] = brow
    m["brow_right"] = torch.where(d.chance(0.35) > 0, d.chance(0.6) * even(-1, 1), brow)
    # `amounts` adds to these what brows, smile and opening do to them.
    raised = (0.5 * (m["brow_left"] + m["brow_right"])).clamp(min=0)
    add("browInnerUp", d.chance(0.25) * even() * (1 - 0.8 * raised))
    add("noseSneerLeft", d.chance(0.2) * even())

    # The mouth: its opening, one shape, and now and then something aside.
    m["open"] = d.chance(0.5) * even()
    amount, place, begin = even(), d.uniform(0, 1), 0.0
    for share, names in MOUTH_SHAPES:
        doing = (place >= begin) & (place < begin + share)
        begin += share
        for name in names:
            own = amount if name == names[0] else even()
            if name == "smile":
                m[name] = doing * (1.6 * own - 0.6)
            else:
                add(name, doing * own)
    # Cheeks are blown up behind shut lips; lips that roll in, press or purse do not gape; a tongue needs room.
    tight = torch.stack(
        [
            m[name]
            for name in ("mouthRollLower", "mouthRollUpper", "mouthPressLeft", "mouthPressRight", "pucker")
        ]
    )
    m["open"] = m["open"] * (m["cheekPuff"] == 0) * (1 - 0.75 * tight.amax(0))
    m["open"] = torch.where(m["tongueOut"] > 0, m["open"].clamp(min=0.25), m["open"])
    round_ = torch.stack(
        [m[name] for name in ("pucker", "mouthFunnel", "cheekPuff", "mouthRollLower", "mouthRollUpper")]
    ).amax(0)
    smiling = m["smile"].clamp(min=0)
    for name in ("mouthUpperUpLeft", "mouthLowerDownLeft", "mouthDimpleLeft"):
        add(name, d.chance(0.12) * even() * (1 - round_) * (1 - 0.5 * m["open"] - 0.5 * smiling))
    # Teeth that are shown, by a smile or without one, and mostly clenched: real lips part further than one unit of theirs.
    bares = d.chance(0.4) * (round_ == 0) * (m["tongueOut"] == 0)
    much = even(0.3, BARED)
    for name in ("mouthUpperUpLeft", "mouthLowerDownLeft"):
        add(name, bares * much * d.uniform(0.6, 1.0))
    m["open"] = torch.where((bares > 0) & (d.chance(0.75) > 0), 0.12 * m["open"], m["open"])
    add("cheekSquintLeft", d.chance(0.2) * even() * (1 - 0.35 * smiling))
    sideways = d.uniform(0, 1)
    for k, name in enumerate(("mouthLeft", "mouthRight", "jawLeft", "jawRight")):
        add(name, (sideways >= 0.09 * k) * (sideways < 0.09 * k + 0.09) * even())
    add("jawForward", d.chance(0.06) * even())
    add("mouthClose", d.chance(0.12) * even() * 0.85 * m["open"])
    return torch.stack([m[name] for name in COLUMNS], 1)


def amounts(motion: np.ndarray, blink: tuple[float, float] = (1.0, 1.0)) -> dict[str, float]:
    """What each of ARKit's units does in a motion.

    Args:
        motion: (len(COLUMNS),) one row.
        blink: how far eyeBlinkLeft and eyeBlinkRight close the eyes of this face wholly; see `rig.Person`.

    Returns:
        name -> amount; those that are left out are 0.
    """
    m = dict(zip(COLUMNS, motion.tolist(), strict=True))
    found: dict[str, float] = {name: m[name] for name in EXTRA if m[name] > 1e-4}

    def add(name: str, value: float) -> None:
        if abs(value) > 1e-4:
            found[name] = found.get(name, 0.0) + value

    opening, smile, pucker = max(m["open"], 0.0), m["smile"], max(m["pucker"], 0.0)
    # Lips that are held together over an open jaw show no teeth.
    jaw = 0.80 * opening
    apart = 1 - min(m["mouthClose"] / max(jaw, 1e-3), 1.0)
    smiling, sad = max(smile, 0.0), max(-smile, 0.0)
    # A broad smile parts the lips.
    broad = max(smiling - 0.35, 0.0) * (1 - pucker)
    add("jawOpen", jaw + 0.10 * broad)
    # A tongue needs room.
    add("jawOpen", max(TONGUE_ROOM * m["tongueOut"] - found.get("jawOpen", 0.0), 0.0))
    for side in ("Left", "Right"):
        add(f"mouthSmile{side}", 0.9 * smiling)
        add(f"mouthFrown{side}", sad)
        add(f"cheekSquint{side}", 0.35 * smiling)
        # Teeth show: lips leave them where one smiles or opens the mouth.
        add(f"mouthUpperUp{side}", 0.90 * broad + 0.45 * opening * (1 - pucker) * apart)
        add(f"mouthLowerDown{side}", 0.75 * broad + 0.28 * opening * (1 - pucker) * apart)
    add("mouthPucker", 1.2 * pucker)
    add("mouthFunnel", 0.1 * pucker)
    # The puppets' left is the picture's left, the person's right.
    for side, place, closed in (("Right", "left", blink[1]), ("Left", "right", blink[0])):
        shut = m[f"blink_{place}"]
        add(f"eyeBlink{side}", shut * closed)
        brow = m[f"brow_{place}"]
        add(f"browOuterUp{side}", max(brow, 0.0))
        add(f"browDown{side}", 0.75 * max(-brow, 0.0))
        seen = 1 - min(max(shut, 0.0), 1.0)
        add(f"eyeLookUp{side}", 1.15 * max(-m["gaze_y"], 0.0) * seen)
        add(f"eyeLookDown{side}", max(m["gaze_y"], 0.0) * seen)
        outwards = m["gaze_x"] * (1 if side == "Left" else -1)
        add(f"eyeLookOut{side}", max(outwards, 0.0) * seen)
        add(f"eyeLookIn{side}", max(-outwards, 0.0) * seen)
        # A closed eye neither squints nor widens.
        for name in (f"eyeWide{side}", f"eyeSquint{side}"):
            if name in found:
                found[name] *= seen
    add("browInnerUp", 0.8 * max(0.5 * (m["brow_left"] + m["brow_right"]), 0.0))
    if "mouthClose" in found:
        found["mouthClose"] = min(found["mouthClose"], found.get("jawOpen", 0.0))
    return found


def amounts_row(motion: np.ndarray) -> np.ndarray:
    """Amounts of a motion in the order of `realtime.rig.amounts.NAMES`, float32 (52,): blinks at 1 are shut eyes on every face."""
    found = amounts(motion)
    return np.array([found.get(name, 0.0) for name in NAMES], np.float32)


def scripted_people_clip(frames: int, rate: float = 25.0, seed: int = 0) -> Motion:
    """The puppets' scripted performance with speech-like lips."""
    from livepuppet.train.puppets.identities import scripted_clip

    wide = widen(scripted_clip(frames, rate, seed).values)
    t = torch.arange(frames) / rate
    opening = wide[:, FACTORS.index("open")]
    wave = torch.sin(2 * math.pi * 1.3 * t + 0.7)
    for name, amount in (("mouthFunnel", wave.clamp(min=0)), ("mouthStretchLeft", (-wave).clamp(min=0))):
        for one in dict.fromkeys((name, name.replace("Left", "Right"))):
            wide[:, len(FACTORS) + EXTRA.index(one)] = 0.5 * amount * (opening > 0.05) * opening
    return Motion(wide)
