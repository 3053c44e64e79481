"""Who a person is: shape, parts and looks, drawn from a seed; and how the rig moves them.

The expression moves the base mesh; parts follow the base vertices that they hang on; then bones turn everything. So lids,
lashes, brows and teeth stay together, and every vertex's place is known in every pose.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from livepuppet.model.lite import LANDMARKS
from livepuppet.train.people import extras, landmarks, lips
from livepuppet.train.people.assets import (
    BONES,
    LEFT_EYE,
    LOWER_TEETH,
    RIGHT_EYE,
    TONGUE,
    UPPER_TEETH,
    Assets,
    Mesh,
)
from livepuppet.train.people.motion import GAZE, amounts
from livepuppet.train.people.paint import Brows, draw_brows
from livepuppet.train.puppets.identities import FACTORS
from livepuppet.train.puppets.rig import REFERENCE_SCALE

#: Eye distance of a typical puppet in head units; keypoint Jacobians are in these.
EYE_DISTANCE = 0.629

#: Pairs of base vertices along x, y, z, by whose distances expression units are scaled to a head.
RULERS = ((5399, 11998, 0), (791, 881, 1), (962, 5320, 2))

#: How far the upper teeth's edge lies below the upper lip's at rest, the lower's below and behind the upper's, and how much of
#: the lower teeth a lower lip bares at most, in decimetres of the base head.
BITE, OVERBITE, OVERJET, BARED = 0.030, 0.012, 0.035, 0.060

#: The tongue at rest: how far below the lower teeth's edge and behind its place on the base mesh, and how high it is of that.
#: It is the base mesh's from this amount of tongueOut on.
TONGUE_BELOW, TONGUE_BACK, TONGUE_HEIGHT, TONGUE_FREE = 0.035, 0.05, 0.55, 0.35

#: A tongue that is put out whole reaches so far beyond the base mesh's, narrows to this share, and bends down over the lip
#: with this radius up to this angle; decimetres of the base head, and radians. There it is thicker by a factor, and its groove
#: is so deep.
TONGUE_REACH, TONGUE_WIDTH, TONGUE_BEND, TONGUE_STEEP = 0.20, 0.86, 0.17, 1.05
TONGUE_THICK, TONGUE_GROOVE = 1.12, 0.022

#: Units whose moves in the meshes alone are not what faces do -> what is moved for one of it. A funnel's lips come forward and
#: round; alone, the middles of the lips part before the teeth. A jaw that comes forward takes its lip up to the other one.
#: Cheeks that rise take the lower lids along, noses that wrinkle the upper lip, eyes that look up the upper lids; lips that are
#: pressed together become thin.
MIXED: dict[str, dict[str, float]] = {
    "mouthFunnel": {"mouthFunnel": 0.4, "mouthPucker": 1.2, "jawOpen": 0.35},
    "jawForward": {"jawForward": 1.85, "mouthShrugLower": 0.6},
    "jawLeft": {"jawLeft": 2.0, "mouthShrugLower": 0.2},
    "jawRight": {"jawRight": 2.0, "mouthShrugLower": 0.2},
    "browInnerUp": {"browInnerUp": 1.35},
    "cheekPuff": {"cheekPuff": 1.25, "mouthPressLeft": 0.2, "mouthPressRight": 0.2},
} | {
    name + side: {one + side if one[-1] != "*" else one[:-1]: share for one, share in mixed.items()}
    for side in ("Left", "Right")
    for name, mixed in {
        "cheekSquint": {"cheekSquint": 1.0, "eyeSquint": 0.7},
        "noseSneer": {"noseSneer": 1.5, "mouthUpperUp": 0.35, "cheekSquint": 0.5},
        "mouthDimple": {"mouthDimple": 1.5, "mouthStretch": 0.3},
        "mouthPress": {"mouthPress": 0.7, "mouthRollUpper*": 0.3, "mouthRollLower*": 0.3},
        "eyeLookUp": {"eyeLookUp": 1.0, "eyeWide": 0.45},
        "eyeLookDown": {"eyeLookDown": 0.85},
    }.items()
}

#: Units that move the skin over the eyeballs.
ROUND_EYES = ("eyeBlink", "eyeSquint", "eyeWide", "eyeLookUp", "eyeLookDown", "cheekSquint")

#: How a turn of the head is shared out among the bones of the neck.
NECK = (("neck01", 0.16), ("neck02", 0.18), ("neck03", 0.20), ("head", 0.46))

#: How far collars stand off the neck, in decimetres.
COLLAR = 0.04

#: Kinds of parts that belong to the head wholly.
OF_HEAD = frozenset(
    [
        "eye",
        "teeth",
        "tongue",
        "lash",
        "hair",
        "strands",
        "fur",
        "hat",
        "glasses",
        "lens",
        "phones",
        "ring",
    ]
)

#: Names of landmarks whose Jacobian looks at one side of an opening alone: +1 above, -1 below.
ONE_SIDED = {"upper lid": 1, "lower lid": -1, "upper lip": 1, "lower lip": -1}


@dataclass
class Look:
    """What a person looks like, apart from shape. Colours are linear RGB.

    Attributes:
        skin: name of a skin, None to paint one from `tone`.
        tone: flat colour of the skin where there is no texture.
        gain: factor on the texture's colour.
        details: amounts for `paint`: freckles, stubble, wrinkles, make-up ...
        iris: numbers for `paint.iris`.
        hair, brow, cloth, ...: colours.
        combed_back: name of a mesh of hair that is combed back from the forehead, None for all others.
        cloth_hue: cosine and sine of a turn of the texture's hues times their saturation, and its brightness.
        lip_tint: factor on the skin's colour; lip_colour: of paint.
        brows: their shape; brow_density, lash_density: factors on the opacity of their hairs.
        style: "" photo-like, "cel", "ink", "paint"; see `stylise`.
        outline: width of a drawing's outline, decimetres; lines, pen: opacity and width (over the picture's side) of the lines
            within it; ink: their colour.
    """

    skin: str | None = None
    tone: np.ndarray = field(default_factory=lambda: np.array([0.5, 0.3, 0.2]))
    gain: np.ndarray = field(default_factory=lambda: np.ones(3))
    details: dict[str, float] = field(default_factory=dict)
    iris: dict[str, float | np.ndarray] = field(default_factory=dict)
    lip_tint: np.ndarray = field(default_factory=lambda: np.array([0.85, 0.58, 0.58]))
    lip_colour: np.ndarray = field(default_factory=lambda: np.array([0.5, 0.1, 0.1]))
    hair: np.ndarray = field(default_factory=lambda: np.array([0.1, 0.07, 0.05]))
    combed_back: str | None = None
    hair_tips: np.ndarray = field(default_factory=lambda: np.array([0.1, 0.07, 0.05]))
    beard: np.ndarray = field(default_factory=lambda: np.array([0.1, 0.07, 0.05]))
    brow: np.ndarray = field(default_factory=lambda: np.array([0.05, 0.035, 0.03]))
    brows: Brows = field(default_factory=lambda: draw_brows(np.random.default_rng(0), False, 0.0))
    brow_density: float = 0.9
    lash_density: float = 1.5
    teeth: np.ndarray = field(default_factory=lambda: np.array([0.9, 0.87, 0.78]))
    cloth: np.ndarray = field(default_factory=lambda: np.array([0.4, 0.4, 0.4]))
    cloth_second: np.ndarray = field(default_factory=lambda: np.array([0.8, 0.8, 0.8]))
    cloth_pattern: int = 0
    cloth_scale: float = 8.0
    cloth_textured: bool = True
    cloth_hue: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0, 1.0]))
    gloss: float = 0.4
    seed: int = 0
    style: str = ""
    flat: float = 0.0
    flat_colour: np.ndarray = field(default_factory=lambda: np.ones(3))
    shade: np.ndarray = field(default_factory=lambda: np.array([0.62, 0.55, 0.66]))
    outline: float = 0.0
    lines: float = 0.0
    pen: float = 0.0
    ink: np.ndarray = field(default_factory=lambda: np.array([0.02, 0.02, 0.03]))
    part_colours: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Framing:
    """How the camera sees the person, the same in all poses.

    Attributes:
        eyes: distance of the eyes, over the picture's side.
        view: vertical angle of view, radians: 0.7 is a webcam near by, 0.3 a portrait.
        place: (x, y) of the middle between the eyes at rest, in [-1, 1].
        height, side: angles from which the camera looks, radians.
        roll: of the camera.
    """

    eyes: float = 0.2
    view: float = 0.6
    place: tuple[float, float] = (0.0, -0.15)
    height: float = 0.0
    side: float = 0.0
    roll: float = 0.0


@dataclass
class Posed:
    """A person in one pose.

    Attributes:
        vertices: (n, 3) of all parts.
        head: (3, 4) what the bones do to the head: its rigid pose in the room.
        irises: (2, 3) fronts of the person's right (picture's left) and left eyeball.
        units: ARKit's amounts.
        shut: whether the lips touch, so that teeth and tongue need not be drawn.
        inner: places of `Person.inner`.
        collar: (9,) the turn of the body at the collar.
        place: (n,) row in `vertices` of each vertex of the person, -1 where it was not asked for.
    """

    vertices: np.ndarray
    head: np.ndarray
    irises: np.ndarray
    units: dict[str, float]
    shut: bool
    inner: np.ndarray
    collar: np.ndarray
    place: np.ndarray


@dataclass
class Vertices:
    """Some vertices of a person and what moves them.

    Attributes:
        place: row among these of each vertex of the person, -1 for those left out.
        rest: (n, 3).
        single, several: rows that hang on one base vertex and on three, those, and their weights.
        balls: letter of an eye -> rows of the eyeball; rows of skin near it, and how near that may come.
        of_head, bent: rows that the head's bone moves alone, and the others, whose shares are in `skinning` (bones, rows).
    """

    place: np.ndarray
    rest: np.ndarray
    single: tuple[np.ndarray, np.ndarray, np.ndarray]
    several: tuple[np.ndarray, np.ndarray, np.ndarray]
    balls: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    of_head: np.ndarray
    bent: np.ndarray
    skinning: np.ndarray


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """First about y, then x, then z; right-handed, in radians."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def about(turn: np.ndarray, centre: np.ndarray, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """The 4x4 matrix of a turn about a centre, then a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre - turn @ centre + np.asarray(shift)
    return matrix


class Person:
    """One person: meshes put together, ready to be posed and drawn.

    Attributes:
        assets: where the parts come from.
        base: (N, 3) the base mesh in this person's shape.
        parts: in drawing order.
        look, framing: see there.
        starts: first vertex of each part; one more at the end.
        ranges: first and last triangle of each part.
        corners: (m,) vertex of each corner; uv: (m, 2); triangles: (t, 3) corners.
        rest: (n, 3) vertices before any motion.
        skinning: (n, len(BONES)).
        headness: (n,) 1 for what belongs to the head.
        joints: name -> place.
        blink: amounts of eyeBlinkLeft and eyeBlinkRight at which this person's lids meet.
    """

    def __init__(self, assets: Assets, base: np.ndarray, parts: list[Mesh], look: Look, framing: Framing):
        self.assets, self.base, self.parts, self.look, self.framing = assets, base, parts, look, framing
        self.warps: list = []
        self.joints = {name: base[rows].mean(0) for name, rows in assets.joints.items()}
        self.scale = np.array(
            [abs(base[a, k] - base[b, k]) / abs(assets.base[a, k] - assets.base[b, k]) for a, b, k in RULERS],
            np.float32,
        )
        self._set_teeth()
        self._join()
        self._find_landmarks()
        self._fit_eyes()

    # ---------------------------------------------------------------------------------------------------------- assembly

    def _set_teeth(self) -> None:
        """Teeth where this person's lips are, the upper ones before the lower ones, and a tongue that rests behind these.

        The base mesh's stand edge to edge at the lips' line, so that an open mouth bares the lower ones alone, and its tongue
        fills the mouth.
        """
        table = vertex_table(self.assets)
        base = self.base = self.base.copy()
        upper, lower = (table[f"{row} teeth middle"] for row in ("upper", "lower"))
        lips = [table[name] for name in ("upper lip", "lower lip")]
        high, far = self.scale[1:]
        # No tooth stands before the lips' inner sides.
        front = base[lips, 2].min() - 0.05 * far
        base[UPPER_TEETH] += (
            0,
            base[lips[0], 1] - BITE * high - base[upper, 1],
            min(0.0, front - base[upper, 2]),
        )
        shift = base[upper] - (0, OVERBITE * high, OVERJET * far) - base[lower]
        base[LOWER_TEETH] += (0, shift[1], min(shift[2], 0.0))
        base[TONGUE] += (0, shift[1], min(shift[2], 0.0))
        tip = base[table["tongue tip"]]
        down = (TONGUE_HEIGHT - 1) * (base[TONGUE, 1] - tip[1])
        down += base[lower, 1] - TONGUE_BELOW * high - tip[1]
        #: What takes the tongue (226, 3) to where it rests.
        self.tongue_rest = np.stack(
            [np.zeros_like(down), down, np.full_like(down, -TONGUE_BACK * far)], 1
        ).astype(np.float32)
        #: Base vertices of the lower lip's and of the lower teeth's edge.
        self.lower_edges = lips[1], lower

    def _join(self) -> None:
        places, skinning, corners, uv, triangles, anchors, weights, head = ([] for _ in range(8))
        self.starts, self.ranges = [0], []
        first_corner = first_triangle = 0
        covered = np.zeros(len(self.base), bool)
        for part in self.parts:
            if part.kind == "cloth":
                covered[part.hides] = True
        for part in self.parts:
            place = part.place(self.base).astype(np.float32)
            if part.kind == "cloth":
                place = self._off_the_neck(place)
            weight = self._skinning_of(part, place)
            own = part.triangles
            if part.kind == "skin" and covered.any():
                bare = ~covered[part.anchors[part.corners[own], 0]].all(1)
                own = own[bare]
            if part.kind == "skin":
                # Those of the head first: the body can be drawn alone.
                of_head = self._of_head(weight)[part.corners[own]].mean(1) > 0.5
                #: Rows of the mesh's triangles that are drawn.
                self.skin_rows = np.concatenate([np.flatnonzero(of_head), np.flatnonzero(~of_head)])
                if covered.any():
                    self.skin_rows = np.flatnonzero(bare)[self.skin_rows]
                own = part.triangles[self.skin_rows]
                self.head_triangles = int(of_head.sum())
            places.append(place)
            skinning.append(weight)
            anchors.append(part.anchors)
            weights.append(part.weights)
            head.append(
                np.ones(len(place), np.float32)
                if part.kind in OF_HEAD
                else self._of_head(weight)
                if part.kind == "skin"
                else np.zeros(len(place), np.float32)
            )
            corners.append(part.corners + self.starts[-1])
            uv.append(part.uv)
            triangles.append(own + first_corner)
            self.ranges.append((first_triangle, first_triangle + len(own)))
            self.starts.append(self.starts[-1] + len(place))
            first_corner += len(part.corners)
            first_triangle += len(own)
        self.rest = np.concatenate(places)
        self.skinning = np.concatenate(skinning).astype(np.float32)
        self.headness = np.concatenate(head)
        self.anchors = np.concatenate(anchors)
        self.anchor_weights = np.concatenate(weights).astype(np.float32)
        self.corners = np.concatenate(corners)
        self.uv = np.concatenate(uv).astype(np.float32)
        self.triangles = np.concatenate(triangles).astype(np.int32)
        #: Vertices of each triangle.
        self.faces = self.corners[self.triangles]

    def _off_the_neck(self, place: np.ndarray) -> np.ndarray:
        """Clothes (n, 3) whose collar stands a little off the neck, which would come through it."""
        neck = self.joints["neck01"]
        out = place[:, [0, 2]] - neck[[0, 2]]
        away = np.maximum(np.hypot(*out.T), 1e-3)
        share = extras.smooth(1.3, 0.8, away) * extras.smooth(-0.9, -0.4, place[:, 1] - neck[1])
        found = place.copy()
        found[:, [0, 2]] += COLLAR * (share / away)[:, None] * out
        return found

    @staticmethod
    def _of_head(weight: np.ndarray) -> np.ndarray:
        upper = weight[:, [BONES.index("neck03"), BONES.index("head")]].sum(1)
        return np.clip((upper - 0.35) / 0.3, 0, 1).astype(np.float32)

    def _skinning_of(self, part: Mesh, place: np.ndarray) -> np.ndarray:
        head = np.zeros((len(place), len(BONES)), np.float32)
        head[:, -1] = 1
        if part.kind in ("glasses", "lens", "hat", "phones", "ring", "eye", "teeth", "tongue"):
            return head
        if part.kind in ("hand", "microphone"):
            head[:, -1], head[:, 0] = 0, 1
            return head
        if part.kind in ("hair", "strands"):
            # Hair on the scalp goes with the head; what hangs over the shoulders lies on them.
            skull, neck = self.joints["head"][1], self.joints["neck01"][1]
            share = np.clip((place[:, 1] - (neck - 0.3)) / (skull - neck + 0.3), 0, 1)[:, None]
            torso = np.zeros_like(head)
            torso[:, 0] = 1
            return share * head + (1 - share) * torso
        known = self.assets.meshes.get(part.name) is part
        cache = self.assets.__dict__.setdefault("_part_skinning", {})
        if part.name not in cache or not known:
            weight = np.einsum("nkb,nk->nb", self.assets.skinning[part.anchors], np.abs(part.weights))
            weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-6)
            if not known:
                return weight
            cache[part.name] = weight
        return cache[part.name]

    def _find_landmarks(self) -> None:
        table = vertex_table(self.assets)
        own = np.full(len(self.base), -1)
        body = self.parts[0]
        own[body.anchors[:, 0]] = np.arange(len(body.anchors))
        #: Row of each base vertex among the skin's vertices, -1 if the skin has it not.
        self.own = own
        # Teeth and tongue are landmarks on the base mesh's own, which other meshes are fitted to.
        self.coarse = np.array([own[table[name]] if name in table else -1 for name in LANDMARKS])
        self.fine_base = np.array([table.get(name, -1) for name in landmarks.FINE])
        self._inner_rows = np.flatnonzero((own[np.maximum(self.fine_base, 0)] < 0) & (self.fine_base >= 0))
        #: Base vertices of landmarks that are no part of the skin.
        self.inner = self.fine_base[self._inner_rows]

    def _fit_eyes(self) -> None:
        """Sizes of the eyeballs, which skin slides on them, and how far lids go until they meet."""
        table = vertex_table(self.assets)
        self.balls = {}
        #: Blink -> base vertices of the upper lid and of the lower one below them, and how much nearer one of it takes them.
        self.lids: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        blink = []
        eyes = next(k for k, part in enumerate(self.parts) if part.kind == "eye")
        rows = np.arange(self.starts[eyes], self.starts[eyes + 1])
        for letter, side, name in (("L", "right", "Left"), ("R", "left", "Right")):
            centre = self.joints[f"eye.{letter}"]
            mine = rows[(self.rest[rows, 0] > 0) == (letter == "L")]
            radius = float(np.median(np.linalg.norm(self.rest[mine] - centre, axis=1)))
            vertices, moves = self.assets.units[f"eyeBlink{name}"]
            near = [
                rows[np.linalg.norm(moved, axis=1) > 0.004]
                for rows, moved in (self.assets.units[unit + name] for unit in ROUND_EYES)
            ]
            lid = self.own[np.unique(np.concatenate(near))]
            lid = lid[(lid >= 0)]
            away = np.linalg.norm(self.rest[lid] - centre, axis=1)
            keep = (away < 1.5 * radius) & (self.rest[lid, 2] > centre[2] - 0.1 * radius)
            #: Rows of the eyeball, its centre and radius, skin near it and how near that may come.
            self.balls[letter] = (mine, centre, radius, lid[keep], np.minimum(away[keep], 1.08 * radius))
            upper, lower = (
                np.array([table[f"{side} eye {lid}{end}"] for end in (" outer", "", " inner")])
                for lid in ("upper", "lower")
            )
            closes = np.zeros(len(self.base))
            closes[vertices] = moves[:, 1] * self.scale[1]
            self.lids[f"eyeBlink{name}"] = upper, lower, np.maximum(closes[lower] - closes[upper], 1e-3)
            blink.append(float(np.clip(self._until_shut(f"eyeBlink{name}"), 0.5, 1.8)))
        self.blink = (blink[0], blink[1])

    # ------------------------------------------------------------------------------------------------------------- moving

    def express(
        self, units: dict[str, float], gaze: tuple[float, float], vertices: Vertices | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (n, 3) before bones turn them, base vertices that landmarks need, fronts of the eyeballs (2, 3).

        Args:
            vertices: which ones, all of them where nothing is given.
        """
        some = vertices or self.vertices
        moved = np.zeros_like(self.base)
        mixed: dict[str, float] = {}
        for name, amount in units.items():
            for one, share in MIXED.get(name, {name: 1.0}).items():
                by = amount * share
                if one == "jawOpen" != name:
                    # No jaw goes further than it can.
                    by = min(by, max(1 - units.get("jawOpen", 0.0), 0.0))
                mixed[one] = mixed.get(one, 0.0) + by
        # Lids last: how far they go until they meet depends on all else.
        for name, by in sorted(mixed.items(), key=lambda item: item[0] in self.lids):
            if name in self.lids:
                by = min(by, self._until_shut(name, moved))
            elif name.startswith("cheekSquint"):
                # Further up, cheeks would pass through the lower lids.
                by = min(by, 1.0)
            unit, moves = self.assets.units[name]
            moved[unit] += moves * (self.scale * np.float32(by))
        if units.get("mouthFunnel", 0.0) > 0:
            rows, moves = self._round_lips
            moved[rows] += moves * np.float32(units["mouthFunnel"])
        moved[TONGUE] += self.tongue_rest * np.float32(1 - min(units.get("tongueOut", 0.0) / TONGUE_FREE, 1))
        # Where the lip goes further down than teeth are high, the jaw goes with it; a funnel hides them.
        lip, teeth = (self.base[row, 1] + moved[row, 1] for row in self.lower_edges)
        bared = BARED * (1 - 1.7 * min(units.get("mouthFunnel", 0.0), 1.0))
        follow = max(teeth - lip - bared * self.scale[1], 0.0)
        moved[LOWER_TEETH, 1] -= follow
        moved[TONGUE, 1] -= follow
        if units.get("tongueOut", 0.0) > 0:
            self._over_the_lip(moved, units["tongueOut"])
        # Eyeballs turn as balls; their units shear them.
        moved[LEFT_EYE] = moved[RIGHT_EYE] = 0
        places = some.rest.copy()
        rows, anchors, weights = some.single
        places[rows] += np.take(moved, anchors, 0) * weights
        rows, anchors, weights = some.several
        places[rows] += (np.take(moved, anchors, 0) * weights).sum(1)
        fronts = []
        for letter in "RL":
            centre, radius = self.balls[letter][1:3]
            mine, lid, least = some.balls[letter]
            turn = rotation(GAZE[1] * gaze[1], GAZE[0] * gaze[0], 0).astype(np.float32)
            places[mine] = (places[mine] - centre) @ turn.T + centre
            fronts.append(centre + turn @ np.array([0, 0, radius], np.float32))
            # Lids slide over the ball instead of through it.
            offset = places[lid] - centre
            away = np.maximum(np.linalg.norm(offset, axis=1), 1e-6)
            places[lid] = centre + offset * np.maximum(1, least / away)[:, None]
        inner = self.base[self.inner] + moved[self.inner]
        fronts = np.stack(fronts).astype(np.float32)
        for warp in self.warps:
            places, inner, fronts = warp(places), warp(inner), warp(fronts)
        return places, inner, fronts

    @functools.cached_property
    def _round_lips(self) -> tuple[np.ndarray, np.ndarray]:
        """What moves which base vertices besides the units of a whole funnel; see `lips.rounded`."""
        moved = np.zeros_like(self.base)
        for name, share in MIXED["mouthFunnel"].items():
            rows, moves = self.assets.units[name]
            moved[rows] += moves * (self.scale * np.float32(share))
        return lips.rounded(self.assets, self.base, vertex_table(self.assets)["upper lip"], moved)

    def _until_shut(self, name: str, moved: np.ndarray | None = None) -> float:
        """The amount of a blink (eyeBlinkLeft, ...) at which the lids meet, where the base mesh is moved (N, 3) already; below 0 if
        they lie upon each other without it.
        """
        upper, lower, closing = self.lids[name]
        gap = self.base[upper, 1] - self.base[lower, 1]
        if moved is not None:
            gap = gap + moved[upper, 1] - moved[lower, 1]
        need = gap / closing
        return float(0.7 * need[1] + 0.3 * need.max() + 0.03)

    def _over_the_lip(self, moved: np.ndarray, out: float) -> None:
        """Lift a tongue that is put out over lower teeth and lip, and let its end hang down; `moved` (N, 3) is of the base mesh."""
        high, far = self.scale[1:]
        tongue = self.base[TONGUE] + moved[TONGUE]
        lip, teeth = (self.base[row] + moved[row] for row in self.lower_edges)
        # From a root that stays.
        share = np.clip((tongue[:, 2] - teeth[2] + 0.45 * far) / (0.45 * far), 0, 1)
        share = share * share * (3 - 2 * share)
        tongue[:, 2] += TONGUE_REACH * far * out * out * share
        # Its end is round, and along its middle runs a groove.
        tip = np.clip(1 - (tongue[:, 2].max() - tongue[:, 2]) / (0.20 * far), 0, 1)
        tongue[:, 0] *= 1 - out * share * (1 - TONGUE_WIDTH * np.sqrt(1 - 0.8 * tip * tip))
        middle = np.exp(-((tongue[:, 0] / (0.035 * far)) ** 2))
        tongue[:, 1] -= TONGUE_GROOVE * high * out * share * middle * (1 - tip)
        beyond = tongue[:, 2] > teeth[2]
        if beyond.any():
            edge = max(lip[1], teeth[1]) + 0.012 * high
            tongue[:, 1] += max(edge - tongue[beyond, 1].min(), 0.0) * share
            # Beyond the lip it bends down about an axis across it.
            radius = TONGUE_BEND * far
            along = np.maximum(tongue[:, 2] - lip[2], 0)
            angle = np.minimum(along / radius, TONGUE_STEEP)
            above = radius + TONGUE_THICK * (tongue[:, 1] - edge)
            straight = along - radius * angle
            there = along > 0
            bent_y = edge - radius + above * np.cos(angle) - straight * np.sin(angle)
            bent_z = lip[2] + above * np.sin(angle) + straight * np.cos(angle)
            tongue[there, 1], tongue[there, 2] = bent_y[there], bent_z[there]
        moved[TONGUE] = tongue - self.base[TONGUE]

    @functools.cached_property
    def vertices(self) -> Vertices:
        """All of them."""
        return self._some(np.arange(len(self.rest)))

    @functools.cached_property
    def _of_landmarks(self) -> Vertices:
        """Those that `LANDMARKS` and their Jacobians follow from."""
        near, _, _ = self._neighbours
        return self._some(np.unique(np.concatenate([near.reshape(-1), self.coarse[self.coarse >= 0]])))

    def _some(self, rows: np.ndarray) -> Vertices:
        place = np.full(len(self.rest), -1)
        place[rows] = np.arange(len(rows))
        anchors, weights = self.anchors[rows], self.anchor_weights[rows]
        several = weights[:, 1:].any(1)
        single = ~several & (weights[:, 0] != 0)
        of_head = self.skinning[rows, -1] == 1
        balls = {}
        for letter, (mine, _, _, lid, least) in self.balls.items():
            there = place[lid] >= 0
            balls[letter] = place[mine][place[mine] >= 0], place[lid[there]], least[there]
        return Vertices(
            place,
            self.rest[rows],
            (np.flatnonzero(single), anchors[single, 0], weights[single, :1]),
            (np.flatnonzero(several), anchors[several], weights[several][..., None]),
            balls,
            np.flatnonzero(of_head),
            np.flatnonzero(~of_head),
            np.ascontiguousarray(self.skinning[rows][~of_head].T),
        )

    def bones(self, motion: dict[str, float]) -> np.ndarray:
        """(len(BONES), 4, 4): what each bone does to its vertices."""
        joints = self.joints
        span = self.span
        waist = joints["torso"] - np.array([0, 0.6, 0])
        lever = float(self.eyes[1] - waist[1])
        across = motion["shift_x"] * span / 2
        nearer = self.distance * (1 - np.exp(-motion["scale"]))
        lean_x, lean_z = 0.3 * nearer / lever, -0.7 * across / lever
        shift = np.array([0.3 * across, -0.8 * motion["shift_y"] * span / 2, 0.7 * nearer])
        lean = rotation(lean_x, 0, lean_z)
        torso = about(lean, waist, shift)
        found = {"torso": torso}
        for letter, sign in (("L", 1), ("R", -1)):
            found[f"clavicle.{letter}"] = torso
            shoulder = torso @ about(rotation(0, 0, -0.12 * sign), joints[f"shoulder01.{letter}"])
            found[f"shoulder01.{letter}"] = shoulder
            found[f"upperarm01.{letter}"] = shoulder @ about(
                rotation(0, 0, -self.arms * sign), joints[f"upperarm01.{letter}"]
            )
        last = torso
        for bone, share in NECK:
            turn = rotation(-motion["pitch"] * share, motion["yaw"] * share, -motion["roll"] * share)
            rise = np.zeros(3)
            if bone == "neck01":
                # The head keeps the turn that was asked for, whatever the body leans.
                turn = lean.T @ turn
                rise[1] = -0.2 * motion["shift_y"] * span / 2
            last = last @ about(turn, joints[bone], rise)
            found[bone] = last
        return np.stack([found[bone] for bone in BONES])

    #: How far the upper arms hang down from the base mesh's A-pose.
    arms = 0.62

    @functools.cached_property
    def eyes(self) -> np.ndarray:
        """The middle between the eyes at rest."""
        return (self.joints["eye.L"] + self.joints["eye.R"]) / 2

    @functools.cached_property
    def span(self) -> float:
        """The picture's height at the head's distance, in decimetres."""
        return float(np.linalg.norm(self.joints["eye.L"] - self.joints["eye.R"])) / self.framing.eyes

    @property
    def distance(self) -> float:
        """Of the camera from the eyes."""
        return self.span / 2 / np.tan(self.framing.view / 2)

    @functools.cached_property
    def camera(self) -> tuple[np.ndarray, np.ndarray]:
        """The clip matrix (4, 4) and the camera's place (3,). Clip coordinates x and y are the picture's, y up."""
        framing, half = self.framing, self.span / 2
        turn = rotation(framing.height, framing.side, 0)
        # The camera turns about the eyes, so that these stay at their place in the picture.
        view = np.eye(4)
        view[:3, :3] = rotation(0, 0, framing.roll) @ turn
        view[:3, 3] = -view[:3, :3] @ self.eyes + np.array(
            [framing.place[0] * half, -framing.place[1] * half, -self.distance]
        )
        near, far = self.distance * 0.35, self.distance * 1.7 + 3
        focal = 1 / np.tan(framing.view / 2)
        lens = np.array(
            [
                [focal, 0, 0, 0],
                [0, focal, 0, 0],
                [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
                [0, 0, -1, 0],
            ]
        )
        return lens @ view, -view[:3, :3].T @ view[:3, 3]

    def pose(self, motion: np.ndarray) -> Posed:
        """The person in a motion (len(COLUMNS),)."""
        return self._pose(motion, self.vertices)

    def landmarks_in(self, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`coarse_points` in a motion (len(COLUMNS),), without the rest of the person."""
        return self.coarse_points(self._pose(motion, self._of_landmarks))

    def _pose(self, motion: np.ndarray, some: Vertices) -> Posed:
        values = dict(zip(FACTORS, motion.tolist(), strict=False))
        units = amounts(motion, self.blink)
        closed = [max(values["blink_left"], 0), max(values["blink_right"], 0)]
        calm = 1 - min(closed) if min(closed) < 1 else 0.0
        places, inner, fronts = self.express(units, (values["gaze_x"] * calm, values["gaze_y"] * calm), some)
        bones = self.bones(values)[:, :3].astype(np.float32)
        head = bones[-1]
        # No product of matrices: BLAS would wake all its threads for it.
        table = np.einsum("bt,bn->tn", bones.reshape(len(BONES), 12), some.skinning)
        vertices = np.empty_like(places)
        vertices[some.of_head] = places[some.of_head] @ head[:, :3].T + head[:, 3]
        x, y, z = places[some.bent].T
        vertices[some.bent] = np.stack(
            [row[0] * x + row[1] * y + row[2] * z + row[3] for row in table.reshape(3, 4, -1)], 1
        )
        coarse = some.place[self.coarse]
        upper, lower = (vertices[coarse[LANDMARKS.index(name)]] for name in ("upper lip", "lower lip"))
        return Posed(
            vertices,
            head,
            fronts @ head[:, :3].T + head[:, 3],
            units,
            bool(np.linalg.norm(upper - lower) < 0.03 * self.scale[1]),
            inner @ head[:, :3].T + head[:, 3],
            self.skinning[self.coarse[LANDMARKS.index("collar")]] @ bones[..., :3].reshape(len(BONES), 9),
            some.place,
        )

    # -------------------------------------------------------------------------------------------------------------- truth

    def coarse_points(self, posed: Posed) -> tuple[np.ndarray, np.ndarray]:
        """Points (K, 2) in [-1, 1] and Jacobians (K, 2, 2) of `LANDMARKS`, as `puppets.rig.landmarks` has them."""
        places = self.coarse_places(posed)
        points, _ = project(self.camera[0], places)
        return points, self._jacobians(posed, places)

    def coarse_places(self, posed: Posed) -> np.ndarray:
        """Places (K, 3) of `LANDMARKS` in the room."""
        places = posed.vertices[posed.place[np.maximum(self.coarse, 0)]].copy()
        for k, name in enumerate(LANDMARKS):
            if "iris" in name:
                places[k] = posed.irises[0 if "left" in name else 1]
        return places

    def _jacobians(self, posed: Posed, places: np.ndarray) -> np.ndarray:
        rows, inverse, unit = self._neighbours
        near, _ = project(self.camera[0], posed.vertices[posed.place[rows.reshape(-1)]])
        near = near.reshape(*rows.shape, 2).astype(np.float64)
        near -= near.mean(1, keepdims=True)
        found = (inverse @ near).transpose(0, 2, 1)
        # Of a rigid piece of the head, or of the body under the collar.
        step, count, collar = 0.02, len(LANDMARKS), LANDMARKS.index("collar")
        turns = np.repeat(posed.head[None, :, :3], count, 0)
        turns[collar] = posed.collar.reshape(3, 3)
        moved = step * np.stack([turns[:, :, 0], -turns[:, :, 1]], 1)
        trio = np.concatenate([places[:, None], places[:, None] + moved], 1)
        there, _ = project(self.camera[0], trio.reshape(-1, 3))
        there = there.reshape(count, 3, 2)
        rigid = ((there[:, 1:] - there[:, :1]) / step * unit).transpose(0, 2, 1)
        stiff = [k for k, name in enumerate(LANDMARKS) if "iris" in name or name == "collar"]
        found[stiff] = rigid[stiff]
        # As the puppets' stretches are held.
        relative = np.linalg.solve(rigid, found)
        u, s, v = np.linalg.svd(relative)
        return (rigid @ (u * s.clip(0.35, 2.2)[:, None]) @ v / REFERENCE_SCALE).astype(np.float32)

    @functools.cached_property
    def _neighbours(self):
        """Skin vertices (K, 24) near each landmark, what turns their places into a derivative by the face at rest, and its unit."""
        rest, _, _ = self.express({}, (0.0, 0.0))
        eyes = [rest[ball[0]].mean(0) for ball in self.balls.values()]
        unit = float(np.linalg.norm(eyes[0] - eyes[1])) / EYE_DISTANCE
        skin = np.arange(self.starts[1])
        # Those that the jaw or the neck moves are near enough.
        skin = skin[self.rest[skin, 1] > self.rest[self.coarse[LANDMARKS.index("collar")], 1] - 0.8]
        rows, offsets = [], []
        for k, name in enumerate(LANDMARKS):
            centre = rest[max(self.coarse[k], 0)]
            offset = rest[skin] - centre
            away = np.sqrt(np.einsum("ij,ij->i", offset, offset))
            side = next((sign for word, sign in ONE_SIDED.items() if word in name), 0)
            if side:
                away = away + 9 * ((rest[skin, 1] - centre[1]) * side < -1e-4)
                away = away + 9 * (rest[skin, 2] < centre[2] - 0.08)
            near = skin[np.argpartition(away, 24)[:24]]
            offset = (rest[near, :2] - rest[near, :2].mean(0)) * np.array([1, -1]) / unit
            rows.append(near)
            offsets.append(offset)
        return np.stack(rows), np.linalg.pinv(np.stack(offsets), rcond=0.05), unit

    def fine_points(self, posed: Posed) -> tuple[np.ndarray, np.ndarray]:
        """Places (F, 3) of `landmarks.FINE` in the room, and their points (F, 2) in the picture."""
        base_rows = np.maximum(self.fine_base, 0)
        places = posed.vertices[np.maximum(self.own[base_rows], 0)].copy()
        # Teeth and tongue are no part of the skin.
        places[self._inner_rows] = posed.inner
        for k, name in enumerate(landmarks.FINE):
            if name in landmarks.IRISES:
                places[k] = posed.irises[landmarks.IRISES.index(name)]
        return places, project(self.camera[0], places)[0]


def vertex_table(assets: Assets) -> dict[str, int]:
    """`landmarks.find`, once per set of assets."""
    found = assets.__dict__.get("_landmarks")
    if found is None:
        found = assets.__dict__["_landmarks"] = landmarks.find(assets)
    return found


def project(camera: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 3) in the picture: points (n, 2) in [-1, 1], y down, and distances (n,) along the camera's axis."""
    rows = camera[[0, 1, 3]]
    q = places @ rows[:, :3].T + rows[:, 3]
    return (q[:, :2] / (q[:, 2:] * np.array([1, -1]))).astype(np.float32), q[:, 2].astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- drawing


#: Deviation of local targets, by folder.
DEVIATIONS = {
    "asym": 0.08,
    "cheek": 0.20,
    "chin": 0.18,
    "ears": 0.24,
    "eyebrows": 0.18,
    "eyes": 0.16,
    "forehead": 0.15,
    "head": 0.10,
    "mouth": 0.19,
    "neck": 0.15,
    "nose": 0.18,
}

#: Ranges of a head's measures over the distance of its eyes. What lies beyond is drawn anew, up to so many times.
RANGES = {
    "mouth": (0.63, 0.90),
    "lips to chin": (0.57, 0.82),
    "eyes to chin": (1.66, 2.06),
    "eyes to crown": (1.62, 2.12),
    "bridge to nose tip": (0.47, 0.69),
    "face": (2.28, 2.62),
    "ears": (2.60, 3.22),
    "nose before lips": (0.07, 0.35),
    "chin behind lips": (0.16, 0.35),
}
REDRAWN = 8

#: Ends of names that are opposites: a negative value takes the first, a positive one the second.
OPPOSITES = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)

#: Natural colours of hair, linear RGB, and how often they come with dark and with light skin.
HAIR = np.array(
    [
        [0.020, 0.016, 0.014],
        [0.055, 0.035, 0.024],
        [0.12, 0.07, 0.040],
        [0.23, 0.14, 0.075],
        [0.42, 0.29, 0.15],
        [0.27, 0.09, 0.035],
        [0.30, 0.30, 0.30],
        [0.50, 0.485, 0.46],
    ]
)
HAIR_DARK = np.array([0.64, 0.25, 0.06, 0.01, 0.005, 0.01, 0.02, 0.005])
HAIR_LIGHT = np.array([0.15, 0.25, 0.22, 0.13, 0.10, 0.07, 0.05, 0.03])
HAIR_OLD = np.array([0.4, 0.5, 0.6, 0.6, 0.6, 0.5, 5, 6])


@functools.lru_cache(maxsize=4)
def _families(names: tuple[str, ...]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Pairs of opposite targets by what they share, and those without an opposite."""
    known, pairs, single = set(names), {}, []
    for name in names:
        if name.startswith("macro/") or "breast" in name or "trunk" in name:
            continue
        for low, high in OPPOSITES:
            if name.endswith(low) and name[: -len(low)] + high in known:
                pairs[name[: -len(low)]] = (name, name[: -len(low)] + high)
                break
            if name.endswith(high) and name[: -len(high)] + low in known:
                break
        else:
            single.append(name)
    return pairs, single


@dataclass
class Origin:
    """What the macro targets mix: shares that add up to 1 each."""

    ethnicity: dict[str, float]
    sex: dict[str, float]
    age: dict[str, float]
    muscle: dict[str, float]
    weight: dict[str, float]

    @property
    def male(self) -> bool:
        return self.sex["male"] > 0.5

    @property
    def old(self) -> float:
        return self.age["old"]

    @property
    def child(self) -> float:
        return self.age["child"]


def _draw_origin(rng: np.random.Generator) -> Origin:
    names = ("african", "asian", "caucasian")
    shares = np.zeros(3)
    shares[rng.choice(3, p=[0.26, 0.30, 0.44])] = 1
    if rng.random() < 0.35:
        shares = 0.6 * shares + 0.4 * rng.dirichlet([1, 1, 1])
    male = float(np.clip((rng.random() < 0.5) * 0.8 + rng.random() * 0.2, 0, 1))
    if rng.random() < 0.12:
        male = rng.random()
    when, t = rng.choice(4, p=[0.13, 0.44, 0.28, 0.15]), rng.random()
    age = {"child": 0.0, "young": 1.0, "old": 0.0}
    if when == 0:
        age = {"child": 0.3 + 0.7 * t, "young": 0.7 - 0.7 * t, "old": 0.0}
    elif when > 1:
        old = (0.15 + 0.45 * t) if when == 2 else (0.6 + 0.4 * t)
        age = {"child": 0.0, "young": 1 - old, "old": old}

    def three(value: float) -> dict[str, float]:
        value = float(np.clip(value, 0, 1))
        return {
            "min": max(0.0, 1 - 2 * value),
            "average": 1 - abs(2 * value - 1),
            "max": max(0.0, 2 * value - 1),
        }

    return Origin(
        dict(zip(names, shares.tolist(), strict=True)),
        {"female": 1 - male, "male": male},
        age,
        three(rng.normal(0.5, 0.2)),
        three(rng.normal(0.5, 0.25)),
    )


def _shape(assets: Assets, origin: Origin, rng: np.random.Generator) -> np.ndarray:
    """The base mesh (N, 3) of a random person."""
    amount: dict[str, float] = {}
    for sex, s in origin.sex.items():
        for age, a in origin.age.items():
            for name, e in origin.ethnicity.items():
                amount[f"macro/{name}-{sex}-{age}"] = e * s * a
            for muscle, m in origin.muscle.items():
                for weight, w in origin.weight.items():
                    amount[f"macro/universal-{sex}-{age}-{muscle}muscle-{weight}weight"] = s * a * m * w
    pairs, single = _families(tuple(assets.shapes))
    # The two sides of a face are nearly alike.
    common: dict[tuple[str, str], float] = {}

    def both_sides(folder: str, name: str, drawn: float) -> float:
        return common.setdefault((folder, name[2:] if name[:2] in ("l-", "r-") else name), drawn)

    for shared, (low, high) in pairs.items():
        folder, name = shared.split("/")
        deviation = DEVIATIONS[folder]
        if "trans" in name and folder in ("head", "neck"):
            deviation = 0.10
        if "jaw-drop" in name:
            deviation = 0.15
        value = both_sides(folder, name, deviation * np.clip(rng.normal(), -2, 2)) + rng.normal(0, 0.05)
        value = float(np.clip(value, -1, 1))
        amount[high if value > 0 else low] = abs(value)
    for whole in single:
        folder, name = whole.split("/")
        drawn = abs(rng.normal(0, DEVIATIONS[folder]))
        if folder == "head":
            drawn = min(abs(rng.normal(0, 0.22)), 0.4) * (rng.random() < 0.3)
        elif folder == "ears":
            drawn = both_sides(folder, name, abs(rng.normal(0, 0.3)) * (rng.random() < 0.4))
        amount[whole] = drawn
    base = assets.base.copy()
    # MakeHuman's brows look angry: calm ones are higher at their inner ends.
    calm = {"browInnerUp": rng.uniform(0.0, 0.22), "browOuterUpLeft": rng.uniform(-0.1, 0.15)}
    calm["browOuterUpRight"] = calm["browOuterUpLeft"]
    calm["eyeWideLeft"] = calm["eyeWideRight"] = rng.uniform(-0.2, 0.25)
    for name, value in calm.items():
        vertices, moves = assets.units[name]
        base[vertices] += moves * np.float32(value)
    base[LEFT_EYE], base[RIGHT_EYE] = assets.base[LEFT_EYE], assets.base[RIGHT_EYE]
    for name, value in amount.items():
        if value > 1e-3 and name in assets.shapes:
            vertices, moves = assets.shapes[name]
            base[vertices] += moves * np.float32(value)
    return base


def measures(assets: Assets, base: np.ndarray) -> dict[str, float]:
    """Measures of a head (N, 3) over the distance of its eyes; see `RANGES`."""
    table = vertex_table(assets)
    eyes = np.stack([base[assets.joints[f"eye.{letter}"]].mean(0) for letter in "LR"])
    unit = float(np.linalg.norm(eyes[0] - eyes[1]))
    level = float(eyes[:, 1].mean())

    def at(name: str) -> np.ndarray:
        return base[table[name]].astype(float)

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(at(a) - at(b)))

    left, right, _ = RULERS[0]
    return {
        name: value / unit
        for name, value in {
            "mouth": apart("left mouth corner", "right mouth corner"),
            "lips to chin": at("lower lip")[1] - at("chin")[1],
            "eyes to chin": level - at("chin")[1],
            "eyes to crown": at("crown")[1] - level,
            "bridge to nose tip": apart("nose bridge", "nose tip"),
            "face": abs(float(base[left, 0] - base[right, 0])),
            "ears": apart("left ear middle", "right ear middle"),
            "nose before lips": at("nose tip")[2] - at("upper lip")[2],
            "chin behind lips": at("upper lip")[2] - at("chin")[2],
        }.items()
    }


def unlikely(assets: Assets, base: np.ndarray) -> float:
    """How far a head's measures lie outside `RANGES`, in widths of these: 0 for one that people have."""
    found = measures(assets, base)
    return sum(
        max(low - found[name], found[name] - high, 0.0) / (high - low) for name, (low, high) in RANGES.items()
    )


def _choose(rng: np.random.Generator, names: list[str], weights=None) -> str | None:
    if not names:
        return None
    if weights is not None:
        weights = np.asarray(weights, float)
        weights = weights / weights.sum()
    return names[int(rng.choice(len(names), p=weights))]


def _colour(rng: np.random.Generator, saturation: float = 0.9) -> np.ndarray:
    grey = rng.random()
    return np.clip(grey + (rng.random(3) - grey) * rng.random() * saturation, 0, 1) ** 1.7


#: Colours of lips that are painted, linear RGB.
LIPSTICKS = np.array(
    [
        [0.36, 0.035, 0.045],
        [0.25, 0.030, 0.050],
        [0.42, 0.12, 0.11],
        [0.38, 0.10, 0.13],
        [0.30, 0.075, 0.060],
        [0.17, 0.020, 0.045],
        [0.45, 0.16, 0.14],
    ]
)


def _draw_look(assets: Assets, origin: Origin, rng: np.random.Generator) -> Look:
    look = Look(seed=int(rng.integers(1 << 31)))
    ethnicity = max(origin.ethnicity, key=origin.ethnicity.__getitem__)
    male = origin.male
    african = origin.ethnicity["african"]
    fits = [name for name in assets.skins if ethnicity in name]
    age = "old" if origin.old > 0.6 else "middleage" if origin.old > 0.2 else "young"
    sex = [name for name in fits if ("_male" in name) == male] or fits
    aged = [name for name in sex if name.startswith(age)] or sex
    look.skin = _choose(rng, aged if rng.random() < 0.7 else sex)
    light, dark = np.array([0.62, 0.36, 0.25]), np.array([0.10, 0.048, 0.028])
    depth = np.clip(
        0.75 * african + 0.25 * origin.ethnicity["asian"] * rng.random() + rng.normal(0.1, 0.12), 0, 1
    )
    look.tone = light ** (1 - depth) * dark**depth * rng.normal(1, 0.03, 3)
    mixed = max(origin.ethnicity.values())
    # Skins of one ethnicity are lightened or darkened where people are mixed.
    swing = rng.normal(0, 0.10 + 0.25 * (1 - mixed))
    look.gain = np.exp(swing + rng.normal(0, [0.02, 0.02, 0.04])) * np.ones(3)
    if "african" in (look.skin or ""):
        # The dark skins' textures are red: bring them to where people are, who are no less warm for it.
        look.gain = look.gain * np.array([0.84, 1.0, 1.06])
    # Skin that is darkened alone would turn orange.
    look.gain = look.gain * np.minimum(look.gain.mean(), 1.0) ** np.array([0.0, -0.10, -0.22])
    look.gain = look.gain.clip(0.6, 1.5)
    if "old_african" in (look.skin or ""):
        # Of these textures the old one is orange.
        look.gain = look.gain * np.array([0.90, 1.04, 1.35])
    old = origin.old
    look.details = {
        "blotches": rng.uniform(0.3, 1.0),
        "redness": max(0.0, rng.normal(0.35, 0.3)) * (1 - 0.6 * african),
        "freckles": (rng.random() < 0.16 * (1 - african)) * rng.uniform(0.3, 1.0),
        "moles": float(rng.integers(0, 6)),
        "pores": rng.uniform(0.3, 1.0) * (1 - 0.7 * origin.child),
        "wrinkles": float(np.clip(rng.normal(0.95 * old - 0.08, 0.12), 0, 1)),
        "circles": max(0.0, rng.normal(0.3, 0.25)),
        "stubble": max(0.0, rng.normal(0.15, 0.4)) * male * (origin.child < 0.2),
        "lips": (rng.random() < 0.3) * rng.uniform(0.25, 0.8) * (not male) * (origin.child < 0.2),
        "shadow": (rng.random() < 0.4) * rng.uniform(0.1, 0.7) * (not male) * (origin.child < 0.4),
        "liner": (rng.random() < 0.4) * rng.uniform(0.3, 1.0) * (not male) * (origin.child < 0.4),
        "blush": (rng.random() < 0.4) * rng.uniform(0.1, 0.6) * (not male),
        "grey scalp": 0.0,
    }
    rng.random(3)
    look.details["shadow colour"] = _colour(rng) * 0.6
    brown = rng.random() < (0.93 if ethnicity != "caucasian" else 0.4)
    if brown:
        iris = np.array([0.11, 0.055, 0.025]) * rng.uniform(0.35, 1.5)
    else:
        iris = np.array(
            [
                [0.16, 0.28, 0.42],
                [0.20, 0.30, 0.20],
                [0.30, 0.34, 0.36],
                [0.28, 0.22, 0.09],
                [0.10, 0.20, 0.38],
            ]
        )[rng.integers(5)] * rng.uniform(0.6, 1.3)
    # Nor do the irises of dark faces glow.
    iris = iris * (1 - 0.45 * african)
    look.iris = {
        "colour": iris,
        "size": rng.uniform(0.455, 0.52),
        "pupil": rng.uniform(0.30, 0.55),
        "ring": rng.uniform(0.55, 0.95),
        "red": rng.uniform(0, 0.6),
        "white": rng.uniform(0.45, 0.70),
    }
    chance = HAIR_LIGHT if ethnicity == "caucasian" else HAIR_DARK
    if old > 0.4:
        chance = chance * HAIR_OLD
    look.hair = HAIR[rng.choice(8, p=chance / chance.sum())] * rng.uniform(0.75, 1.3)
    # Where a camera brightens a dark face, pale hair would glow.
    look.hair = look.hair * min(1.0, (0.13 + 0.85 * float(look.tone.mean())) / float(look.hair.mean()))
    look.beard = look.hair
    if rng.random() < 0.03:
        look.hair = _colour(rng)
    look.hair_tips = look.hair * (rng.uniform(1.1, 2.2) if rng.random() < 0.3 else 1.0)
    look.brow = np.minimum(look.hair * 0.6, 0.14) if rng.random() < 0.8 else np.array([0.03, 0.022, 0.018])
    # Of their own seed, so that all else about a person stays as it was in earlier versions.
    fine = np.random.default_rng([look.seed, 6])
    # Real brows are from sparse to solid; the meshes' lashes are made up, most people's are not.
    look.brow *= fine.uniform(0.6, 1.3)
    look.brow_density = fine.uniform(0.65, 1.0)
    look.lash_density = fine.uniform(0.2, 0.6) if male or fine.random() < 0.5 else fine.uniform(0.55, 0.95)
    look.brows = draw_brows(fine, male, old)
    look.lip_tint = (
        np.array([0.86, 0.60, 0.60]) * fine.normal(1, 0.07) * np.exp(fine.normal(0, [0.02, 0.07, 0.07]))
    )
    # Paint keeps to the skin: what glows on a dark face is a lighter face's colour.
    paint_of = LIPSTICKS[fine.integers(len(LIPSTICKS))] * np.exp(fine.normal(0, 0.12, 3))
    look.lip_colour = paint_of * (1 - 0.55 * max(african - 0.2, 0))
    look.details["lip gloss"] = fine.uniform(0.4, 1.0) if look.details["lips"] else fine.uniform(0.0, 0.35)
    look.teeth = (
        np.array([0.92, 0.865, 0.785]) * rng.uniform(0.82, 1.0) * np.array([1, 1, rng.uniform(0.90, 1.06)])
    )
    look.cloth, look.cloth_second = _colour(rng), _colour(rng)
    look.cloth_textured = rng.random() < 0.5
    turn, pale = fine.uniform(0, 2 * np.pi), fine.uniform(0.15, 1.0)
    look.cloth_hue = np.array([pale * np.cos(turn), pale * np.sin(turn), np.exp(fine.normal(0, 0.3))])
    look.cloth_pattern = int(rng.choice(7, p=[0.46, 0.12, 0.1, 0.1, 0.08, 0.07, 0.07]))
    look.cloth_scale = rng.uniform(3, 16)
    look.gloss = rng.uniform(0.15, 0.8)
    return look


def _draw_framing(rng: np.random.Generator) -> Framing:
    """As webcams and portraits show people: eyes 45 to 68 of 256 pixels apart, seldom less."""
    eyes = rng.uniform(0.175, 0.265) if rng.random() < 0.8 else rng.uniform(0.13, 0.19)
    # Nearer than an arm's length noses swell and ears hide.
    away = rng.uniform(4.3, 7.5) if rng.random() < 0.6 else rng.uniform(8.0, 16.0)
    return Framing(
        eyes=eyes,
        view=2 * float(np.arctan(0.5 * extras.EYES_APART / eyes / away)),
        place=(
            float(np.clip(rng.normal(0, 0.09), -0.3, 0.3)),
            float(np.clip(rng.normal(-0.14, 0.10), -0.4, 0.15)),
        ),
        height=rng.normal(0, 0.09),
        side=rng.normal(0, 0.06),
        roll=rng.normal(0, 0.025),
    )


def draw_person(assets: Assets, seed: int, drawn: bool = False) -> Person:
    """The person of a seed.

    Args:
        assets: see `assets.load_assets`.
        seed: of everything about the person.
        drawn: a character with the proportions and colours of drawings; see `stylise`.
    """
    rng = np.random.default_rng([seed, 771])
    origin = _draw_origin(rng)
    base = _shape(assets, origin, rng)
    far = unlikely(assets, base)
    for again in range(REDRAWN):
        if far == 0:
            break
        # By generators of their own: all else about the person stays as it is.
        other = _shape(assets, origin, np.random.default_rng([seed, 772, again]))
        if unlikely(assets, other) < far:
            base, far = other, unlikely(assets, other)
    look = _draw_look(assets, origin, rng)
    parts = extras.draw_parts(assets, base, origin, look, rng, drawn)
    person = Person(assets, base, parts, look, _draw_framing(rng))
    person.origin = origin  # type: ignore[attr-defined]
    if drawn:
        from livepuppet.train.people import stylise

        stylise.apply(person, rng)
    return person
