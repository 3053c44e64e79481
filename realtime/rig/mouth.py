"""The mouth as layers: lips that move along their four curves, a chin that drops, and what shows between them.

Every column of the face runs from the nose to below the chin through knots (outer and inner edge of both lips, chin). An
expression moves the corners aside and the knots up or down; the picture between knots is stretched in proportion. Where
the lips part stand the teeth: the upper ones go with the head, the lower ones with the jaw, and neither is stretched.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import cv2
import numpy as np

from livepuppet.realtime.rig.amounts import INDEX
from livepuppet.realtime.rig.contours import Contours, EyeContours, MouthContours
from livepuppet.realtime.rig.lattice import Lattice, box_of
from livepuppet.realtime.rig.patches import Patch, lay_over
from livepuppet.realtime.rig.ramps import held, smooth
from livepuppet.realtime.rig.sampling import Sampler
from livepuppet.realtime.rig.teeth import draw_row

#: Amounts below this change nothing that can be seen.
NOTHING = 1e-4

#: Nodes of lattices per mouth width.
_NODES_PER_WIDTH = 16

#: Places along the mouth at which curves are tabled: s is -1 and 1 at the corners.
NODES = np.linspace(-5.2, 5.2, 625).astype(np.float32)

#: The nodes between which the mouth's middle lies.
MIDDLE = slice(296, 329)

#: Millimetres between the irises, and of a mouth's width, of the face that teeth are made for.
_EYES_MM, _MOUTH_MM = 62.0, 46.0

#: A mouth that is open as far as it goes, in distances between the eyes; and the least and the most of that in mouth widths.
LARGEST_GAP, LEAST_GAP, MOST_GAP = 0.62, 0.5, 1.15

#: How far expressions go, in mouth widths, about as far as those of rendered people: a smile takes corners aside and up, a stretch
#: aside and down, a frown down; a pucker takes them in, a funnel in, and parts both lips.
SMILE, STRETCH, FROWN, PUCKER, FUNNEL = (0.15, 0.33), (0.11, 0.05), 0.14, 0.14, (0.14, 0.085, 0.21)

#: How far lips that are pressed take corners aside and up, and a mouth that goes aside takes the one in front up, in smiles; how far
#: puffed cheeks take them in, and a jaw goes aside, in mouth widths.
PRESS, ASIDE_UP, PUFF, JAW_ASIDE = (0.8, 0.42), 0.12, 0.1, 0.15

#: The same of a mouth without lips, in mouth widths; and what of its line stays shut at each corner.
PLAIN_GAP, PLAIN_CORNER = 0.62, 0.14

#: How wide pursed lips are that smile at rest, in distances between the eyes.
PURSED = 0.6

#: How broad the line between lips is that are apart at rest, where they meet, in mouth widths.
SEAM = 0.018

#: What goes aside with the corners of a mouth fades between these distances from its middle, in eye distances, or over the third one
#: beyond the corners of a broad mouth.
OUTLINE = 0.5, 1.05, 0.5

#: How far beyond a mouth's corners the skin goes along that they draw in as they narrow, and down as they sink, in halves of its width.
NARROWS, SINKS = 0.4, 0.5

#: By how much flatter than its lower edge the upper one of an opening is.
FLATTER = 0.75

#: Skin that is pushed together is drawn no narrower than this share of it.
LEAST_SLOPE = 0.2

#: How far the upper edge of a wide opening hangs down in the middle, in mouth widths.
HANG = 0.09

#: How far hairs hang over such an opening from above, and stand into it from below, in mouth widths.
FRINGES = 0.10, 0.045

#: The chin's least share of the lower lip's way down.
CHIN = 0.55

#: What of the room between an upper lip and the nose, which stays, a full smile takes at most.
MOST_UP = 0.7

#: Dark lines between what is seen in a mouth that tell that it is teeth.
LEAST_PARTINGS = 3

#: The skin's median roughness in shares of its 90th percentile, below which a picture is drawn: 0.10 at most of drawings with
#: noise, 0.15 at least of what is none.
FLAT = 0.12

#: The share of the skin's light below which what should be lips is a line.
TOOTHLESS = 0.3

#: How light teeth are in the shade of lips that hardly part; and the most of such an opening that they fill.
SHADED, FILLED = 0.3, 0.6

#: How much darker the skin is along the fold beside a whole smile; that fold's width, and nodes of its table, across and down.
FOLD, FOLD_WIDTH, FOLD_NODES = 0.25, 0.06, (48, 56)

#: How far around it lips that are pushed forward smooth a fold, how broad such a valley of the skin may be, in distances between the eyes, and
#: by how much it gets lighter at most, in shares of the skin's light.
UNFOLDED, VALLEY, MOST_UNFOLDED = 0.14, 0.14, 0.6

#: Shapes of an opening: its edges' steepness where lips hardly part, and where it is wide; each also as pushed forward lips form it.
LENSES, STEEP = ("narrow", "wide", "narrow_forward", "wide_forward"), (1.3, 0.68)

#: How columns move, as one linear form: by each of `MouthLayers._shares`, what of a column, by which of `MouthLayers.fields`, times
#: what. A column goes `aside`; down go the inner edges of both lips, with what their outer ones go further, and the chin.
MOVES = (
    ("left", "aside", "to_left", -1.0),
    ("right", "aside", "to_right", 1.0),
    ("shift", "aside", "shifts", 1.0),
    ("left_in", "aside", "in_left", 1.0),
    ("right_in", "aside", "in_right", -1.0),
    ("puff", "aside", "cheeks", 1.0),
    *(
        move
        for lip in ("upper", "lower")
        for move in (
            ("corner_left", lip, "up_left", 1.0),
            ("corner_right", lip, "up_right", 1.0),
            ("sink", lip, "sinks", 1.0),
            ("shrug", lip, "bow", -1.0),
        )
    ),
    # Closing lips meet along their whole length, the upper one coming down a little.
    ("shut", "upper", "apart", -0.15),
    ("shut", "lower", "apart", 0.85),
    ("upper_left", "upper", "raised_left", -0.1),
    ("upper_right", "upper", "raised_right", -0.1),
    ("lower_left", "lower", "lowered_left", 0.09),
    ("lower_right", "lower", "lowered_right", 0.09),
    ("funnel_up", "upper", "round", -FUNNEL[1]),
    ("funnel", "lower", "round", FUNNEL[2]),
    ("bared", "upper", "inner", -0.35),
    ("bared", "lower", "inner", 0.65),
    ("hang", "upper", "bow", 1.0),
    *((f"over_{lens}", "upper", f"flat_{lens}", -1.0) for lens in LENSES),
    *((f"under_{lens}", "lower", f"lens_{lens}", 1.0) for lens in LENSES),
    ("thick_upper", "upper_rim", "upper_lip", -1.0),
    ("thick_lower", "lower_rim", "lower_lip", 1.0),
    # Of a ring, and of one that shuts, the lower lip is as thick as in its middle, where it runs steeply at rest, too.
    ("ring", "lower_rim", "flank", -1.0),
    ("chin", "chin", "jaw", 1.0),
)

#: Names of what moves, of fields, and of shares, in their order.
MOVED = ("aside", "upper", "lower", "upper_rim", "lower_rim", "chin")
FIELDS, _SHARES = (tuple({move[k]: None for move in MOVES}) for k in (2, 0))

#: `MOVES` as what shares are multiplied by to have each field's part in what moves.
_MIX = np.zeros((len(MOVED), len(FIELDS), len(_SHARES)))
for _share, _moved, _field, _factor in MOVES:
    _MIX[MOVED.index(_moved), FIELDS.index(_field), _SHARES.index(_share)] += _factor

#: From which shares on an opening jaw, lips that bare teeth, a funnel and a tongue keep lips apart that are shut at rest; of the
#: mouth's amounts of both sides the mean. Less than the last share of all that is the reader's noise.
PARTS_OPEN, PARTS_BARED, PARTS_FUNNEL, PARTS_TONGUE, PARTS_BEGIN = 0.15, 0.4, 0.5, 0.4, 0.25

#: By which share lips that are pushed forward draw the far corner of a half-turned head in less.
FAR_STAYS = 0.6

#: From which share of how far it opens on a mouth gapes.
GAPES = 0.25

#: How far upper teeth reach over the lower ones, in mouth widths.
OVERBITE = 0.02

#: How far lower teeth reach over a lip that is drawn down in an open mouth, in mouth widths.
LOWER_BARED = 0.08

#: Half the width of the tongue's end, in mouth widths.
TONGUE = 0.25


@dataclass(frozen=True)
class MouthAmounts:
    """What the mouth does, in shares; sides are the picture's."""

    open: float
    close: float
    pucker: float
    funnel: float
    smile_left: float
    smile_right: float
    frown_left: float
    frown_right: float
    stretch_left: float
    stretch_right: float
    roll_lower: float
    roll_upper: float
    press_left: float
    press_right: float
    upper_left: float
    upper_right: float
    lower_left: float
    lower_right: float
    aside: float
    jaw_aside: float
    shrug_lower: float
    shrug_upper: float
    puff: float
    tongue: float

    @classmethod
    def of(cls, vector: np.ndarray, strength: float = 1.0) -> MouthAmounts:
        def value(name: str) -> float:
            return float(vector[INDEX[name]]) * strength

        def side(name: str, which: str) -> float:
            return value(name + ("Right" if which == "left" else "Left"))

        return cls(
            value("jawOpen"),
            value("mouthClose"),
            value("mouthPucker"),
            value("mouthFunnel"),
            side("mouthSmile", "left") + 0.4 * side("mouthDimple", "left"),
            side("mouthSmile", "right") + 0.4 * side("mouthDimple", "right"),
            side("mouthFrown", "left"),
            side("mouthFrown", "right"),
            side("mouthStretch", "left"),
            side("mouthStretch", "right"),
            value("mouthRollLower"),
            value("mouthRollUpper"),
            side("mouthPress", "left"),
            side("mouthPress", "right"),
            # A sneer draws the lip up at its side.
            *(side("mouthUpperUp", which) + 0.7 * side("noseSneer", which) for which in ("left", "right")),
            *(side("mouthLowerDown", which) for which in ("left", "right")),
            # To the face's own left is to the picture's right.
            value("mouthLeft") - value("mouthRight"),
            value("jawLeft") - value("jawRight"),
            value("mouthShrugLower"),
            value("mouthShrugUpper"),
            value("cheekPuff"),
            value("tongueOut"),
        )

    @property
    def press(self) -> float:
        return 0.5 * (self.press_left + self.press_right)

    @property
    def most(self) -> float:
        return max(abs(getattr(self, field.name)) for field in fields(self))

    def shut(self) -> MouthAmounts:
        """The same of a mouth that bares its teeth in the picture, and is to be shut unless something parts its lips."""
        bared = 0.25 * sum(
            _held(lip) for lip in (self.upper_left, self.upper_right, self.lower_left, self.lower_right)
        )
        parts = (
            _held(self.open) / PARTS_OPEN
            + bared / PARTS_BARED
            + _held(self.funnel) / PARTS_FUNNEL
            + _held(self.tongue) / PARTS_TONGUE
        )
        parts = (parts - PARTS_BEGIN) / (1 - PARTS_BEGIN)
        return replace(self, close=max(self.close, 1 - _held(parts)))


class Mouth:
    """The mouth of an avatar.

    Args:
        picture: uint8 RGB (H, W, 3).
        contours: in its pixels.
    """

    def __init__(self, picture: np.ndarray, contours: Contours):
        mouth = contours.mouth
        self._strength = contours.strength.get("mouth", 1.0)
        self.layers: MouthLayers | None = None
        if mouth is not None and mouth.sure:
            eyes = [eye for eye in (contours.left, contours.right) if eye is not None]
            unit = float(np.hypot(*(eyes[0].iris - eyes[1].iris))) if len(eyes) == 2 else None
            whites = [white for white in (_white_of(picture, eye) for eye in eyes) if white is not None]
            self.layers = MouthLayers(
                picture,
                mouth,
                unit,
                np.max(whites, axis=0) if whites else None,
                _turn(contours),
                np.concatenate([eye.lower for eye in eyes]) if len(eyes) == 2 else None,
            )

    def motion(self, amounts: np.ndarray) -> MouthMotion | None:
        """What `amounts` float32 (52,) ask for; None for a mouth that is as in the picture."""
        if self.layers is None:
            return None
        wanted = MouthAmounts.of(amounts, self._strength)
        if self.layers.shuts:
            wanted = wanted.shut()
        return MouthMotion(self.layers, wanted) if wanted.most > NOTHING else None

    def draw(self, amounts: np.ndarray) -> list[Patch]:
        """The patch that `amounts` float32 (52,) ask for; none for a mouth that is as in the picture."""
        motion = self.motion(amounts)
        return [] if motion is None else [motion.layers.draw(motion.amounts)]


@dataclass
class _Knots:
    """The knots of each column at `NODES`, as rests and offsets, both (N,) in pixels below the corners' line."""

    top: np.ndarray
    outer_upper: np.ndarray
    inner_upper: np.ndarray
    inner_lower: np.ndarray
    outer_lower: np.ndarray
    chin: np.ndarray
    bottom: np.ndarray

    def stack(self) -> np.ndarray:
        return np.stack([getattr(self, field.name) for field in fields(self)], 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class MouthMotion:
    """A mouth with amounts, to be drawn wherever its picture is sampled."""

    layers: MouthLayers
    amounts: MouthAmounts

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of all that may move, in pixels of the picture."""
        layers = self.layers
        height, width = layers.crop.shape[:2]
        return layers.left, layers.top, layers.left + width, layers.top + height

    @property
    def block(self) -> int:
        """Pixels between the nodes of a lattice that is fine enough."""
        return self.layers.block

    def on(self, lattice: Lattice, x: np.ndarray, y: np.ndarray) -> MouthBend | None:
        """The motion on a lattice whose nodes show the picture's pixels (x, y), float32 (rows, columns) each, when the mouth is
        at rest; None where nothing moves.
        """
        return self.layers.bend(self.amounts, lattice, x, y)


@dataclass(frozen=True, eq=False)
class MouthBend:
    """A mouth in motion on one lattice. Planes are float32 (rows, columns).

    Attributes:
        upper, lower: float32 (rows, columns, 2), how far the pixels that are seen come from, by the upper and by the lower lip.
        s, across, down: place along the mouth, -1 and 1 at its corners, before it moved; and now, in pixels from its middle.
        inside: 1 where the mouth moves as it likes.
        to_upper, to_lower: pixels below the upper lip, and above the lower one.
        edges: float32 (1, N, 4), both lips' inner edges at `NODES`: at rest, and by how much they have moved.
    """

    layers: MouthLayers
    amounts: MouthAmounts
    lattice: Lattice
    upper: np.ndarray
    lower: np.ndarray
    s: np.ndarray
    across: np.ndarray
    down: np.ndarray
    inside: np.ndarray
    to_upper: np.ndarray
    to_lower: np.ndarray
    edges: np.ndarray

    def shift(self, scale: float = 1.0) -> np.ndarray:
        """How far what each pixel of the lattice shows comes from, times `scale`, float32 (h, w, 2)."""
        lattice, to_upper, to_lower = self.lattice, self.to_upper, self.to_lower
        upper, lower = (np.float32(scale) * plane for plane in (self.upper, self.lower))
        # Above the middle of the opening the upper lip, below it the lower one.
        shift = lattice.enlarged(np.where((to_upper < to_lower)[..., None], upper, lower))
        lips, fine = self._lips, self._fine
        if lips is not None and fine is not None:
            upper, lower = (lattice.enlarged(plane, lips) for plane in (upper, lower))
            region = shift[lattice.pixels(lips)]
            np.copyto(region, lower)
            cv2.copyTo(upper, cv2.compare(fine.to_upper, fine.to_lower, cv2.CMP_LT), region)
        return shift

    def paint(self, out: np.ndarray) -> None:
        """Draw what shows between the lips, and the shade beside a smile, into the lattice's pixels `out`, uint8 RGB (h, w, 3) or
        RGBA; may be cut off.
        """
        if self.layers.folds is not None:
            a = self.amounts
            forward = _held(max(a.pucker, a.funnel))
            for side, smile in enumerate((a.smile_left, a.smile_right)):
                if smile > NOTHING:
                    self._shade_fold(out, side, min(smile, 1.0))
                if forward > NOTHING:
                    self._unfold(out, side, forward)
        lips, fine = self._lips, self._fine
        if lips is None or fine is None:
            return
        region = out[self.lattice.pixels(lips)]
        height, width = region.shape[:2]
        if height and width:
            self.layers.paint(self.amounts, region, fine.part(slice(0, height), slice(0, width)))

    def _shade_fold(self, out: np.ndarray, side: int, smile: float) -> None:
        """Darken the skin along the fold beside the left (0) or right (1) corner."""
        assert self.layers.folds is not None
        found = self._beside(out, self.layers.folds, self.layers.fold_ends, side, smile)
        if found is None:
            return
        region, share = found
        # What is darker stays as it is.
        skin = np.ascontiguousarray(region[..., :3])
        colour = np.rint(self.layers.fold_colours[side]).tolist()
        lighter = cv2.subtract(skin, (*colour, 0.0))
        region[..., :3] = cv2.subtract(skin, cv2.multiply(lighter, share, dst=share, scale=1 / 255))

    def _unfold(self, out: np.ndarray, side: int, forward: float) -> None:
        """Lighten the picture's own folds beside a corner, which lips that are pushed forward would squeeze."""
        found = self._beside(out, self.layers.unfolds, self.layers.unfold_ends, side, forward)
        if found is None:
            return
        # All colours by as much: shade is warmer than skin.
        region, lighter = found
        region[..., :3] = cv2.add(np.ascontiguousarray(region[..., :3]), lighter)

    def _beside(
        self,
        out: np.ndarray,
        table: np.ndarray,
        ends: list[tuple[float, float, float, float]],
        side: int,
        much: float,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """The part of `out` beside the left (0) or right (1) corner that a `table` like `MouthLayers.folds` with these `ends` is for, and
        `much` of that there, in levels: uint8 (h, w, 3) each; None where nothing of it is seen.
        """
        layers, lattice = self.layers, self.lattice
        (left, top), (across, down) = layers.fold_start.tolist(), layers.fold_step.tolist()
        # Where what is seen there was at rest: it is the skin that is shaded.
        x = (self.s * np.float32((2 * side - 1) * layers.half) - np.float32(left)) * np.float32(1 / across)
        upper, lower = (plane @ layers.down for plane in (self.upper, self.lower))
        y = self.down + np.where(self.to_upper < self.to_lower, upper, lower)
        y = (y - np.float32(top)) * np.float32(1 / down)
        least_x, least_y, most_x, most_y = ends[side]
        part = lattice.around((x > least_x) & (x < most_x) & (y > least_y) & (y < most_y))
        if part is None:
            return None
        region = out[lattice.pixels(part)]
        height, width = region.shape[:2]
        if not (height and width):
            return None
        x, y = (lattice.enlarged(plane, part)[:height, :width] for plane in (x, y))
        share = cv2.remap(table[side], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return region, cv2.cvtColor(cv2.convertScaleAbs(share, alpha=255 * much), cv2.COLOR_GRAY2RGB)

    @cached_property
    def _fine(self) -> _Opening | None:
        """The opening at every pixel near the lips. A lattice's nodes are too far apart for its corners."""
        lips = self._lips
        if lips is None:
            return None
        planes = (self.s, self.across, self.down, self.inside)
        s, across, down, inside = (self.lattice.enlarged(plane, lips) for plane in planes)
        at = _node_at(s)
        edges = cv2.remap(
            self.edges, at, np.zeros_like(at), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        # Planes of their own would take longer to make than to use.
        upper, lower, upper_moved, lower_moved = (edges[..., k] for k in range(4))
        return _Opening(
            s, across, down, down - upper - upper_moved * inside, lower + lower_moved * inside - down
        )

    @cached_property
    def _lips(self) -> tuple[slice, slice] | None:
        """The nodes in which both lips, or what is between them, may be seen."""
        near = (np.minimum(self.to_upper, self.to_lower) > -1.5 * self.lattice.block) & (np.abs(self.s) < 1.1)
        if self.amounts.tongue > 0:
            near |= self.layers.reached(self.across, self.to_upper, self.to_lower)
        return self.lattice.around(near)


@dataclass(frozen=True, eq=False)
class _TintedRow:
    """Teeth and gums as a layer: uint8 RGBA (h, w, 4), premultiplied, with the row's middle column and its edge's row; the same in
    the mouth's shadow; and its last channel.
    """

    layer: np.ndarray
    shaded: np.ndarray
    alpha: np.ndarray
    middle: float
    edge: float


@dataclass(frozen=True, eq=False)
class _PlacedRow:
    """A row of teeth in a mouth: where the first ones' edge is, in pixels below the corners' line, how much of the light they get,
    and how far aside they are.
    """

    teeth: _TintedRow
    upper: bool
    edge: float
    light: float
    aside: float

    def seen(self, plane: np.ndarray, opening: _Opening) -> np.ndarray:
        """`plane` uint8 (h, w, C), one of the row's own, at an opening's pixels."""
        left, top = np.float32(self.teeth.middle - self.aside), np.float32(self.teeth.edge - self.edge)
        x, y = opening.across + left, opening.down + top
        return cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


@dataclass(frozen=True, eq=False)
class _Opening:
    """What lies between the lips, at some pixels; see `MouthBend` for the planes, float32 (h, w) each."""

    s: np.ndarray
    across: np.ndarray
    down: np.ndarray
    to_upper: np.ndarray
    to_lower: np.ndarray

    def part(self, rows: slice, columns: slice) -> _Opening:
        return _Opening(*(np.ascontiguousarray(plane[rows, columns]) for plane in vars(self).values()))


class MouthLayers:
    """The layers of one mouth.

    Args:
        picture: uint8 RGB (H, W, 3).
        mouth: its contours in the picture's pixels.
        unit: distance of the irises in pixels, if known.
        white: colour of the eyes' white (3,), which tells the light that teeth are in, if known.
        turn: how far the head is turned to the left, 0 not at all, about 0.3 half-way to a profile; negative to the right.
        lids: points of both eyes' lower lids in the picture's pixels, (2 N, 2), the left eye's first, if known: what is above stays.
    """

    def __init__(
        self,
        picture: np.ndarray,
        mouth: MouthContours,
        unit: float | None = None,
        white: np.ndarray | None = None,
        turn: float = 0.0,
        lids: np.ndarray | None = None,
    ):
        start, end = mouth.inner_upper[0].astype(np.float64), mouth.inner_upper[-1].astype(np.float64)
        self.width = width = max(float(np.hypot(*(end - start))), 6.0)
        self.half = width / 2
        along = (end - start) / width
        down = np.array([-along[1], along[0]])
        middle = (start + end) / 2
        self.along, self.down = along.astype(np.float32), down.astype(np.float32)
        curves = [mouth.outer_upper, mouth.inner_upper, mouth.inner_lower, mouth.outer_lower]
        local = [np.column_stack([(c - middle) @ along / self.half, (c - middle) @ down]) for c in curves]
        chin = float((mouth.chin - middle) @ down)
        lowest, highest = float(local[3][:, 1].max()), float(local[0][:, 1].min())
        self.chin = max(chin, lowest + 0.15 * width)
        self.unit = unit = width / 0.85 if unit is None else unit
        # By how much the right corner hangs lower than the left one, in mouth widths, in the axes of the eyes.
        self._tilt = 0.0
        if lids is not None:
            eyes = lids[len(lids) // 2 :].mean(0) - lids[: len(lids) // 2].mean(0)
            self._tilt = float(np.clip(-(eyes @ down) / max(eyes @ along, 1e-3), -0.1, 0.1))
        # How far above the mouth eyes end, and the nose, which expressions leave where it is.
        self._eyes_above = (
            1.05 * unit if lids is None else max(-float(((lids - middle) @ down).max()), 0.2 * unit)
        )
        self._nose_above = 0.3 * self._eyes_above
        # Expressions go as far as faces are large; those of small mouths less.
        self._span = min(width, 0.8 * unit)
        self._small = float(smooth(0.7, 0.45, width / unit))
        # Mouths that are wide, since they smile, purse further.
        self._pucker = float(np.clip(0.5 - 0.5 * PURSED * unit / width, PUCKER, 1.5 * PUCKER))
        # A mouth opens as far as people's do, whatever its width; small ones less, and not further than the chin is long.
        line = float(local[2][len(local[2]) // 2, 1])
        self.drop = float(np.clip(LARGEST_GAP * unit, LEAST_GAP * width, MOST_GAP * width))
        # Muzzles, and mouths under a moustache, have no lips that could be drawn in: they open along their line.
        self.plain = mouth.teeth == "none"
        if self.plain:
            self.drop = min(self.drop, max(PLAIN_GAP * width, 0.36 * unit))
        self.drop = min(self.drop, 1.2 * (self.chin - line))
        # Where it is short it goes further down with the lip, which leaves it at least half of its height.
        self._chin_share = max(CHIN, 1 - 0.5 * (self.chin - lowest) / max(self.drop, 1e-3))
        self.tongue_length = min(0.36 * self._span, 0.75 * (self.chin - line))
        self._white = white
        # A half-turned head's mouth goes out of sight on its far side: there it does not reach as far.
        self._far = tuple(float(smooth(0.12, 0.26, side * turn)) for side in (1, -1))
        self.gap = float((local[2][:, 1] - local[1][:, 1]).max())
        self._cut(picture, middle, highest, line)
        self._table(local, highest)
        self._colours(picture, mouth)
        self._find_own()
        self._measure_lips()
        self._find_folds()
        # As lips meet that are apart at rest, so much is left between them: their line.
        self._seam = min(max(SEAM * width, 1.2), 0.6 * self.gap) if self.own else 0.0
        # Lips that are shut by their driver's stay apart in a picture that bares its teeth, or hardly parts them: unless they are
        # shut, too. What gapes is shut in the picture itself, where it can be (`shut_mouth`).
        self.shuts = self.own and not self.plain and mouth.teeth != "own" and self.gap < GAPES * self.drop
        middle = float(np.median(0.5 * (self._rest[:, 2] + self._rest[:, 3])))
        self._line = middle
        self._above = max(1.3 * self._nose_above, 1.6 * (middle - highest)) * (0.6 if self.plain else 1)
        self._sampler = Sampler(self.crop)

    def shrink(self) -> None:
        """Forget what no `bend` is drawn with; there is no `draw` any more."""
        # Only its size is asked for.
        self.crop = np.broadcast_to(self.crop[:1, :1].copy(), self.crop.shape)
        for name in ("rest", "s", "v", *([] if self.own else ["_sampler"])):
            del self.__dict__[name]

    # What is done once.

    def _cut(self, picture: np.ndarray, middle: np.ndarray, highest: float, line: float) -> None:
        w = self.width
        # Cheeks go along with the corners further up than the nose with the middle.
        self._cheek = float(np.clip(min(0.62 * self.unit, 0.6 * self._eyes_above + highest) / w, 0.1, 0.8))
        above, below = highest - (self._cheek + 0.2) * w, self.chin + self.drop + 0.55 * w
        beside = max(1.2 * w, 0.95 * self.unit)
        corners = np.array(
            [middle + a * self.along + b * self.down for a in (-beside, beside) for b in (above, below)]
        )
        low, high = corners.min(0), corners.max(0)
        height, wide = picture.shape[:2]
        self.left, self.top = (
            int(np.clip(np.floor(v), 0, n - 1)) for v, n in zip(low, (wide, height), strict=True)
        )
        right, bottom = (
            int(np.clip(np.ceil(v) + 1, 1, n)) for v, n in zip(high, (wide, height), strict=True)
        )
        self.crop = np.ascontiguousarray(
            picture[self.top : max(bottom, self.top + 1), self.left : max(right, self.left + 1)]
        )
        tall, wide_ = self.crop.shape[:2]
        self.origin = (middle - (self.left, self.top)).astype(np.float32)
        self.block = max(round(w / _NODES_PER_WIDTH), 1)
        self._lattice = Lattice.over(self.left, self.top, self.left + wide_, self.top + tall, self.block)
        x, y = np.meshgrid(*self._lattice.nodes)
        self.s, self.v = self.place(x, y)
        # Nothing moves at the rectangle's edge, where the patch ends; the picture's own edge may.
        inside = np.ones(x.shape, np.float32)
        fade = max(wide_, tall) * 0.07
        for distance, moves in (
            (x - self.left, self.left == 0),
            (self.left + wide_ - 1 - x, self.left + wide_ == wide),
            (y - self.top, self.top == 0),
            (self.top + tall - 1 - y, self.top + tall == height),
        ):
            if not moves:
                inside *= smooth(0, fade, distance)
        self.inside = inside.astype(np.float32)

    def knots(self, amounts: np.ndarray) -> np.ndarray:
        """Where `amounts` float32 (52,) take each column's knots, float32 (N, 7), in pixels below the corners' line."""
        return self._rest + self._offsets(MouthAmounts.of(amounts))[0]

    def pixels(self, s: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Places of the mouth (see `place`) in the picture: float32 (N, 2)."""
        along, down = (s * self.half)[:, None] * self.along, v[:, None] * self.down
        return (along + down + self.origin + (self.left, self.top)).astype(np.float32)

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the picture in the mouth's own coordinates: s along it, and pixels below the corners' line."""
        x, y = x - np.float32(self.left + self.origin[0]), y - np.float32(self.top + self.origin[1])
        return (x * self.along[0] + y * self.along[1]) / np.float32(self.half), x * self.down[
            0
        ] + y * self.down[1]

    def _seen(self, image: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
        """`image` (H, W, 3), as large as the crop, at places along the mouth and pixels below the corners' line."""
        along = s * self.half
        x, y = (
            (self.origin[k] + along * self.along[k] + v * self.down[k]).astype(np.float32) for k in (0, 1)
        )
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _table(self, local: list[np.ndarray], highest: float) -> None:
        curves = []
        for points in local:
            order = np.argsort(points[:, 0], kind="stable")
            curve = np.interp(NODES, points[order, 0], points[order, 1])
            curves.append(np.where(np.abs(NODES) >= 1, 0.0, curve))
        outer_up, upper, lower, outer_low = curves
        lower = np.maximum(lower, upper)
        outer_up, outer_low = np.minimum(outer_up, upper), np.maximum(outer_low, lower)
        # Beside the mouth the skin is one piece; the knots of both lips part slowly, so that nothing bends sharply.
        beside = 0.10 * self.width * (1 - np.exp(-np.maximum(np.abs(NODES) - 0.9, 0) / 0.25))
        outer_up = np.minimum(outer_up, upper - 0.02 * self.width - beside)
        outer_low = np.maximum(outer_low, lower + 0.02 * self.width + beside)
        # The chin's edge rises to the sides, along the jaw.
        away = np.abs(NODES) * self.half / self.unit
        chin = self.chin - 0.25 * self.unit * np.minimum(away, 1) ** 2
        chin = np.maximum(chin, outer_low + 0.1 * self.width)
        nose = float(np.clip((self._nose_above + highest) / self.width, 0.1, self._cheek))
        top = nose + (self._cheek - nose) * smooth(0.45, 1.25, np.abs(NODES))
        self.rest = _Knots(highest - top * self.width, outer_up, upper, lower, outer_low, chin, chin + 0.0)
        self.rest.bottom = chin + self.drop + 0.35 * self.width
        self._rest = self.rest.stack()
        inner = np.maximum(1 - NODES**2, 0)
        # Lips that form a funnel stay together at the corners, those that stand open less.
        self._meet = 0.97 + 0.03 * held(self.gap / (0.05 * self.width))
        self._round = np.maximum(1 - np.square(NODES / self._meet), 0) ** 0.75
        # Whether they stand wide open.
        self._stands = float(smooth(0.2, 0.45, self.gap / self.width))
        # How far the line hangs below the corners in the middle.
        self._sag = float(np.interp(0.0, NODES, upper))
        self._sinks = np.exp(-((np.maximum(np.abs(NODES) - 0.9, 0) / SINKS) ** 2))
        # Jaws are as wide as faces are, whatever the mouth's width.
        self._jaw = np.exp(-(np.maximum(away - 0.26, 0) ** 2) / (2 * 0.33**2)).astype(np.float32)
        beyond = np.maximum(np.abs(NODES) - 1, 0)
        # Beyond the corners the skin goes along over half a mouth's width, without a crease.
        outside = np.exp(-((beyond / (1.4 if self.plain else 0.95)) ** 2))
        # Where a turned head's outline is near they go less far aside, and do not bend it.
        far = np.where(NODES < 0, *self._far)
        shifts = np.exp(-((beyond / ((1.4 if self.plain else 0.95) * (1 - 0.6 * far))) ** 2))
        # The face's outline stays, however near a broad mouth's corners are.
        corner = max(self.half / self.unit, OUTLINE[0])
        stays = smooth(max(OUTLINE[1], corner + OUTLINE[2]), corner, away)
        clipped = np.clip(NODES, -1, 1)
        aside = np.exp(-((beyond / 0.75) ** 2)) * stays
        to_left, to_right = ((1 - clipped) / 2) * aside, ((1 + clipped) / 2) * aside
        # What draws corners in stretches the skin beside them, and leaves the folds of the cheeks where they are.
        aside = np.exp(-((beyond / NARROWS) ** 2)) * stays
        in_left, in_right = ((1 - clipped) / 2) * aside, ((1 + clipped) / 2) * aside
        # Smiles and frowns move the corners most, and the middle less than half as far as both of them, least of a mouth
        # that is bent downwards.
        share = 0.2 - 0.8 * min(max(-self._sag / self.width, 0.0), 0.15)
        self._up_left, self._up_right = (
            (share + (1 - share) * np.square(np.maximum(sign * clipped, 0)))
            * outside
            * (1 - smooth(0, 0.99, -sign * clipped))
            for sign in (-1, 1)
        )
        # Fixed ends: lips that smile at rest have less of the way before them, and those that hang more.
        hangs = self._sag + 0.5 * float(np.interp(0.0, NODES, lower - upper))
        self._smile = (
            (0.5 if self.plain else 1.0)
            * SMILE[1]
            * (1 - float(np.clip((hangs / self.width - 0.02) / 0.22, -0.1, 0.6)))
        )
        # Noses stay: lips that smile leave some of the skin below them.
        way = 0.85 * self._span * self._smile * (self._up_left + self._up_right)
        room = np.maximum(outer_up - self.rest.top, 0)
        fits = np.minimum(MOST_UP * room / np.maximum(way, 1e-3), 1).astype(np.float32)
        fits = cv2.GaussianBlur(cv2.erode(fits[None], np.ones((1, 17))), (0, 0), 6)[0]
        self._up_left, self._up_right = self._up_left * fits, self._up_right * fits
        bow = inner**0.9
        # Upper lips are drawn up a little more beside the middle (rendered people).
        sides = bow + inner * np.square(np.minimum(np.abs(NODES), 1))
        found = {
            "to_left": to_left,
            "to_right": to_right,
            "shifts": shifts * stays,
            "in_left": in_left,
            "in_right": in_right,
            # Cheeks bulge beside the mouth.
            "cheeks": np.sign(NODES) * np.exp(-np.square((away - 0.62) / 0.24)),
            "up_left": self._up_left,
            "up_right": self._up_right,
            "sinks": self._sinks,
            "bow": bow,
            # How far lips are apart, in shares of the largest gap.
            "apart": (lower - upper) / max(float((lower - upper).max()), 1e-3),
            "raised_left": to_left * sides,
            "raised_right": to_right * sides,
            "lowered_left": to_left * bow,
            "lowered_right": to_right * bow,
            "round": self._round,
            "inner": inner,
            "upper_lip": (upper - outer_up) / self.width * bow,
            "lower_lip": (outer_low - lower) / self.width * bow,
            "flank": np.minimum(8 * inner, 1)
            * (outer_low - lower - float(np.interp(0.0, NODES, outer_low - lower)) * self._round)
            / self.width,
            "jaw": self._jaw,
        }
        # Where lips are pushed forward the corners stay together. Of a mouth without lips the jaw goes down as a whole.
        corner = np.minimum(np.abs(NODES) / (1 - PLAIN_CORNER), 1)
        for lens, steep, meet in zip(LENSES, (*STEEP, *STEEP), (1, 1, self._meet, self._meet), strict=True):
            shape = np.maximum(1 - np.square(NODES / meet), 0) ** steep
            plain = (1 - corner**2.6) ** 0.9
            shapes = (plain, plain) if self.plain else (shape, shape**FLATTER)
            found[f"lens_{lens}"], found[f"flat_{lens}"] = shapes
        self.fields = np.stack([found[name] for name in FIELDS]).astype(np.float32)

    def _colours(self, picture: np.ndarray, mouth: MouthContours) -> None:
        """Colours of lips, skin, teeth; and whether the picture is drawn: flat, with outlines."""
        crop = self.crop.astype(np.float32)
        h, w = self.crop.shape[:2]
        s, v = self.place(
            *np.meshgrid(
                np.arange(w, dtype=np.float32) + self.left, np.arange(h, dtype=np.float32) + self.top
            )
        )
        nodes = [np.interp(s.ravel(), NODES, k).reshape(s.shape) for k in self._rest.T]
        _, outer_up, upper, lower, outer_low, chin, _ = nodes
        edge = 0.12 * np.maximum(outer_low - lower, 1)
        lips = (v > lower + edge) & (v < outer_low - edge) & (np.abs(s) < 0.7)
        lips |= (
            (v < upper - 0.15 * (upper - outer_up))
            & (v > outer_up + 0.2 * (upper - outer_up))
            & (np.abs(s) < 0.6)
        )
        skin = (
            (np.abs(s) < 1.7) & (v < chin) & ~((v > outer_up - 2) & (v < outer_low + 2) & (np.abs(s) < 1.1))
        )
        self.lip = np.median(crop[lips], axis=0) if lips.sum() > 8 else np.array([150.0, 80, 80])
        bright = np.percentile(crop[skin], 85, axis=0) if skin.sum() > 8 else np.array([220.0, 190, 170])
        colourful = float(np.ptp(self.lip)) > 14
        rough = np.abs(crop - cv2.GaussianBlur(crop, (0, 0), 1.0)).mean(2)
        flat = float(np.median(rough[skin])) if skin.sum() > 8 else 1.0
        calm, still = (
            (float((rough[skin] < most).mean()) if skin.sum() > 8 else 0.0) for most in (0.35, 0.12)
        )
        band = (np.abs(v - lower) < 0.02 * self.width + 1) & (np.abs(s) < 0.95)
        dark = crop[band]
        line = np.percentile(dark, 8, axis=0) if len(dark) else self.lip * 0.4
        self.line = np.minimum(line, 0.75 * self.lip).astype(np.float32)
        # Drawings are flat, and have outlines or nothing but flat colours; smooth skin alone is no drawing. Where a little
        # noise lies over all of it, it still is flat beside its few edges.
        outlined = self.line.mean() < 0.5 * self.lip.mean()
        drawn = flat < 0.35 and calm > 0.5 and still > (0.15 if outlined else 0.38)
        drawn |= bool(skin.any()) and flat < FLAT * float(np.percentile(rough[skin], 90))
        self.drawn = mouth.teeth == "drawn" or (mouth.teeth == "auto" and drawn)
        # Teeth are a little yellower than white, in the light of the face.
        tint = np.array([1.0, 0.96, 0.895]) if colourful else np.ones(3)
        white = 0.42 * bright + 0.58 * bright.max() * tint
        if self._white is not None:
            white = np.maximum(
                white, 0.93 * self._white.max() * (0.5 * tint + 0.5 * self._white / self._white.max())
            )
        white = white + (0.5 if self.drawn else 0.3) * (248 * tint - white)
        # Lips and eyes of the skin's own colour are carved or cast, and so are teeth. Lips alone may have it on living faces.
        others = [self.lip] if self._white is None else [self.lip, self._white]
        hues = [colour / max(float(colour.mean()), 1.0) for colour in (bright, *others)]
        unlike = max(float(np.abs(hue - hues[0]).max()) for hue in hues[1:])
        carved = float(smooth(0.07, 0.035, unlike)) * colourful
        white = white + carved * (bright + 0.6 * (248 * bright / bright.max() - bright) - white)
        self.teeth = np.clip(white, 0, 245).astype(np.float32)
        self.soft = self._softness(v, upper, lower, s)
        hue = self.lip / max(float(self.lip.mean()), 1.0)
        # How light it is, and by how much lighter to the right than to the left, in shares, at the mouth's corners.
        self._level = float(np.clip(bright.mean() / 200, 0.25, 1.2))
        sides = [
            crop[skin & (np.abs(s - side) < 0.6)].mean() if (skin & (np.abs(s - side) < 0.6)).any() else 1.0
            for side in (-0.8, 0.8)
        ]
        self._slant = float(np.clip((sides[1] - sides[0]) / max(sum(sides), 1.0), -0.25, 0.25))
        # The inside is red, under gray lips, too, where the picture has colours.
        painted = colourful or float(np.percentile(np.ptp(crop, axis=2), 90)) > 12
        self.dark = (np.clip(hue, 0.6, 1.6) * 22 + np.array([12.0, 0, 1]) * painted).astype(np.float32)
        # It is redder than lips are, which may be painted.
        flesh = np.array([214.0, 108, 110]) * self._level
        # A muzzle's rim is dark, and its tongue is not.
        lip = 0.85 * flesh if self.plain and painted else self.lip
        self.flesh = 0.5 * lip + 0.5 * flesh if painted else np.maximum(0.95 * lip, 0.5 * bright)
        self.tongue_out = self.flesh
        # Inside it is no lighter than the picture is dark around the mouth.
        around = (np.abs(s) < 1) & (np.abs(v - 0.5 * (upper + lower)) < 0.3 * self.width)
        if around.any():
            deep, usual = np.percentile(crop[around].mean(1), [10, 50])
            beside = usual if self.plain and painted else self.lip.mean()
            most = 1.06 * float(np.sqrt(max(beside, 1.0) * max(usual, 1.0)))
            self.flesh = self.flesh * min(most / max(float(self.flesh.mean()), 1.0), 1.0)
            self.dark *= np.float32(np.clip(0.7 * deep / max(float(self.dark.mean()), 1.0), 0.5, 1.0))
        self.shadow = (0.5 * self.dark + 0.2 * self.flesh).astype(np.float32)
        self.tongue = (0.85 * self.flesh).astype(np.float32)
        if self.drawn:
            # Painted with few colours: a deep red, a lighter one for the tongue.
            hue = self.lip / max(float(self.lip.max()), 1.0)
            self.dark = (max(0.5 * float(self.lip.max()), 44.0) * hue**2.2).astype(np.float32)
            tongue = max(0.85 * float(self.lip.max()), 90.0) * hue**1.5
            # Drawings' light is flat, whatever the skin's own colour.
            flesh = np.array([222.0, 104, 104]) * max(self._level, 0.85)
            self.tongue = (0.35 * tongue + 0.65 * np.minimum(flesh, 235) if painted else tongue).astype(
                np.float32
            )
        self.outlined = bool(self.line.mean() < 0.45 * bright.mean())
        # What is as dark as a line is no lip, and what opens there, as in drawings of animals, shows no teeth.
        self._toothless = self.plain or bool(self.lip.mean() < TOOTHLESS * bright.mean())
        self.kind = mouth.teeth if mouth.teeth in ("even", "broad", "pointed") else "even"
        self._teeth_line = float(np.median(self._rest[MIDDLE, 2])) + 0.055 * self.width
        self._upper_teeth, self._lower_teeth = (self._tinted(upper) for upper in (True, False))

    def _softness(self, v: np.ndarray, upper: np.ndarray, lower: np.ndarray, s: np.ndarray) -> float:
        """Over how many pixels edges go in this picture, which may have been enlarged: the opening's are as soft."""
        light = cv2.cvtColor(self.crop, cv2.COLOR_RGB2GRAY)
        dx, dy = (cv2.Sobel(light, cv2.CV_32F, *axis, scale=0.125) for axis in ((1, 0), (0, 1)))
        near = (np.abs(v - 0.5 * (upper + lower)) < 0.5 * (lower - upper) + 0.2 * self.width) & (
            np.abs(s) < 1
        )
        least, most = 1.0, max(0.03 * self.width, 1.0)
        if near.sum() < 8:
            return least
        dark, bright = np.percentile(light[near], [3, 97])
        steepest = float(np.percentile(np.hypot(dx, dy)[near], 98))
        return float(np.clip((bright - dark) / max(steepest, 1.0) / 2, least, most))

    def _tinted(self, upper: bool) -> _TintedRow:
        """A row of teeth in the face's light."""
        per_mm = float(np.sqrt(self.width / _MOUTH_MM * self.unit / _EYES_MM))
        row = draw_row(self.kind, upper, per_mm, self.soft)
        gums = np.clip(0.75 * self.lip + np.array([40.0, 10, 14]) * (np.ptp(self.lip) > 14), 0, 255)
        light, gum, alpha = (plane[..., None] for plane in (row.light, row.gum, row.alpha))
        # In the shade teeth are as warm as the mouth is: what light they get has fallen on lips and tongue before.
        warm = self.flesh / max(float(self.flesh.max()), 1.0)
        lit = self.teeth * light * warm ** (0.7 * (1 - light))
        colour = lit + (0.8 * light * gums - lit) * gum
        shaded = SHADED * colour * warm**1.4
        layers = [
            np.clip(np.rint(np.concatenate([planes * alpha, 255 * alpha], 2)), 0, 255).astype(np.uint8)
            for planes in (colour, shaded)
        ]
        return _TintedRow(*layers, np.ascontiguousarray(layers[0][..., 3]), row.middle, row.edge)

    def _across_lips(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours of the upper and the lower lip at `NODES`, float32 (N, len(shares), 3) each, at these shares of their
        thickness from the line between them.
        """
        rest, found = self._rest, []
        for inner, outer in ((2, 1), (3, 4)):
            v = rest[:, inner, None] + (rest[:, outer] - rest[:, inner])[:, None] * shares
            found.append(self._seen(self.crop, NODES[:, None], v).astype(np.float32))
        return found[0], found[1]

    def _measure_lips(self) -> None:
        """The lips' colours along the mouth; and how thick the dark line between shut ones is on either side, or what of the
        inside is seen beside the contours of open ones, in pixels.
        """
        shares = np.linspace(0, 0.45, 19).astype(np.float32)
        middle = np.abs(NODES) < 0.85
        lips = self._across_lips(np.linspace(0.35, 0.75, 5).astype(np.float32))
        tables = []
        for seen in lips:
            colour = np.median(seen, axis=1)
            colour = np.stack([np.interp(NODES, NODES[middle], plane[middle]) for plane in colour.T], 1)
            tables.append(cv2.GaussianBlur(colour.astype(np.float32)[None], (0, 0), sigmaX=8, sigmaY=0.1))
        self._lip_colours = np.concatenate(tables)
        lines = np.zeros((2, len(NODES)), np.float32)
        rest = self._rest
        thick = rest[:, 2] - rest[:, 1], rest[:, 4] - rest[:, 3]
        for k, seen in enumerate(self._across_lips(shares)):
            light = seen.mean(2)
            lip = np.percentile(light[:, len(shares) // 2 :], 60, axis=1)[:, None]
            # Beside an opening it is teeth as well as the dark.
            off = np.abs(light - lip) if self.own else lip - light
            most = off[:, :3].max(axis=1)
            within = off < 0.25 * most[:, None]
            until = shares[np.where(within.any(1), within.argmax(1), len(shares) - 1)]
            lines[k] = np.where(most > 10, until * thick[k], 0) * (np.abs(NODES) < 1)
        # Of a line whose breadth changes, as pens draw them, none of it is to be left.
        lines = cv2.dilate(np.minimum(lines, 0.05 * self.width), np.ones((1, 13)))
        lines = cv2.GaussianBlur(lines, (0, 0), sigmaX=6, sigmaY=0.1)
        self._lines = lines
        if self.plain:
            # The rim of a muzzle's lips is dark.
            self._lip_colours = (0.25 * self._lip_colours + 0.75 * self.line).astype(np.float32)
            self._fringes = [self._fringe(k, share * self.width) for k, share in enumerate(FRINGES)]

    def _fringe(self, side: int, longest: float) -> np.ndarray:
        """The hairs at one edge of a mouth without lips, the upper one's (0) or the lower one's: uint8 RGBA, premultiplied
        (rows, N, 4), from the edge inwards, at `NODES`.
        """
        sign = (1, -1)[side]
        count = max(round(longest), 2)
        depth = np.arange(count, dtype=np.float32)
        # What is seen in a mirror at the line: hairs go on as they run beside it.
        v = self._rest[:, 2 + side, None] - sign * (self._lines[side][:, None] + 1.5 + 0.8 * depth)
        colour = self._seen(self.crop, NODES[:, None], v).transpose(1, 0, 2).astype(np.float32)
        # Lighter streaks are hairs, longer than what is between them.
        light = colour.mean(2)
        streaks = cv2.GaussianBlur(light[: max(count // 2, 1)].mean(0)[None], (0, 0), 1.0)[0]
        streaks = streaks - cv2.GaussianBlur(streaks[None], (0, 0), 5)[0]
        # Each by those beside it: where dark fur meets light fur there is no longer tuft.
        streaks /= np.maximum(np.sqrt(cv2.GaussianBlur(np.square(streaks)[None], (0, 0), 12)[0]), 1.0)
        length = longest * np.clip(0.45 + 0.14 * streaks, 0.1, 0.9) * smooth(1.0, 0.7, np.abs(NODES))
        alpha = 0.92 * smooth(1.0, 0.0, depth[:, None] / np.maximum(length, 0.5)[None])
        # They are in the opening's shade.
        colour *= (1 - 0.45 * depth / count)[:, None, None]
        layer = np.concatenate([colour * alpha[..., None], 255 * alpha[..., None]], 2)
        return np.clip(np.rint(layer), 0, 255).astype(np.uint8)

    def _find_folds(self) -> None:
        """The shade along the folds beside a smile: how much of it, float32 (2, rows, columns), from `fold_start` pixels aside and below
        the middle, in steps of so many, and its colours (2, 3). Drawings and animals have none.
        """
        self.folds: np.ndarray | None = None
        self.unfolds = np.zeros((2, 2, 2), np.float32)
        self.fold_colours = np.zeros((2, 3), np.float32)
        # From beside the nose in a bow to beside the corner.
        unit, nose = self.unit, -self._nose_above
        high, low = (
            np.array([0.29 * unit, nose - 0.06 * unit]),
            # As lips smile it is lifted: at rest it goes down past the corner.
            np.array([self.half + 0.12 * unit, 0.16 * unit]),
        )
        self.fold_start = np.array([0.05 * unit, high[1] - 0.15 * unit], np.float32)
        end = np.array([self.half + 0.45 * unit, 0.36 * unit - 0.4 * nose])
        self.fold_step = ((end - self.fold_start) / (np.array(FOLD_NODES) - 1)).astype(np.float32)
        if self._toothless or self.drawn:
            return
        x, y = np.meshgrid(
            *(
                start + step * np.arange(n)
                for start, step, n in zip(self.fold_start, self.fold_step, FOLD_NODES, strict=True)
            )
        )
        way = (y - high[1]) / (low[1] - high[1])
        bow = 0.055 * unit * np.sin(np.pi * np.clip(way, 0, 1))
        steep = (low[0] - high[0]) / (low[1] - high[1])
        off = (
            (x - high[0] - (low[0] - high[0]) * np.clip(way, -0.3, 1.5) - bow) / np.sqrt(1 + steep**2) / unit
        )
        # Sharp where the cheek hangs over it, soft towards the mouth; and a dimple beside the corner.
        shade = 0.55 * np.exp(-np.square(off / (0.7 * FOLD_WIDTH)))
        shade += 0.45 * np.exp(-np.square((off + 0.7 * FOLD_WIDTH) / (1.5 * FOLD_WIDTH)))
        shade *= smooth(0.0, 0.5, way) * smooth(1.3, 0.65, way)
        corner = np.square((x - self.half - 0.07 * unit) / (0.035 * unit)) + np.square(
            (y / unit + 0.01) / 0.07
        )
        shade = np.maximum(shade, 0.7 * np.exp(-corner))
        shade[[0, -1]] = shade[:, [0, -1]] = 0
        # Less of it where lips smile at rest, and on the far side of a turned head.
        much = FOLD * float(np.clip(self._smile / SMILE[1], 0.3, 1.0))
        self.folds = np.stack([shade * much * (1 - far) for far in self._far]).astype(np.float32)
        # Around the fold and the corner, but not on lips and nose.
        around = np.exp(-np.square(off / UNFOLDED)) * smooth(-0.1, 0.3, way) * smooth(1.6, 1.0, way)
        around = np.maximum(around, np.exp(-0.15 * corner)) * smooth(0.0, 0.06 * unit, x - self.half * 0.8)
        around[[0, -1]] = around[:, [0, -1]] = 0
        unfolds = []
        for side in (0, 1):
            seen = self._seen(self.crop, (2 * side - 1) * x / self.half, y)
            self.fold_colours[side] = np.median(seen[shade > 0.3], axis=0) * np.array([0.74, 0.54, 0.50])
            light = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY).astype(np.float32)
            # As light as the skin on both sides of them.
            size = 2 * round(0.5 * VALLEY * unit / float(self.fold_step[0])) + 1
            filled = cv2.morphologyEx(light, cv2.MORPH_CLOSE, np.ones((size, size)))
            filled = cv2.GaussianBlur(filled, (0, 0), 0.3 * size)
            most = MOST_UNFOLDED * float(np.median(light[around > 0.5]))
            unfolds.append(around * np.clip(filled - light, 0, most) / 255 * (1 - self._far[side]))
        self.unfolds = np.stack(unfolds).astype(np.float32)
        self.fold_ends, self.unfold_ends = (
            [self._ends_of(fold) for fold in table] for table in (self.folds, self.unfolds)
        )

    def _ends_of(self, fold: np.ndarray) -> tuple[float, float, float, float]:
        """Least x and y, and most, in a fold's nodes, between which it darkens anything by half a level, and a block more; all that
        there is at most.
        """
        box = box_of(fold > 0.499 / 255)
        if box is None:
            return 0.0, 0.0, 0.0, 0.0
        more = np.ceil(self.block / self.fold_step) + 1
        ends = [
            (max(part.start - beside, 0.0), min(part.stop - 1 + beside, count - 1.0))
            for part, beside, count in zip(box, reversed(more.tolist()), fold.shape, strict=True)
        ]
        (top, bottom), (left, right) = ends
        return left, top, right, bottom

    def _find_own(self) -> None:
        """Whether the avatar's mouth is open, and how far down its own upper teeth reach in each column."""
        self.own = self.gap > 0.045 * self.width
        self.teeth_end = self._rest[:, 2].copy()
        self.shows_teeth = self._hides_teeth = False
        if not self.own:
            return
        self._find_flesh()
        lab = cv2.cvtColor(self.crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        lip = cv2.cvtColor(self.lip.clip(0, 255).astype(np.uint8).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[
            0, 0
        ].astype(np.float32)
        levels = np.linspace(0.04, 0.98, 28, dtype=np.float32)
        upper, lower = self._rest[:, 2], self._rest[:, 3]
        at = upper[:, None] + (lower - upper)[:, None] * levels[None]
        colours = self._seen(lab, NODES[:, None], at)
        chroma = np.hypot(colours[..., 1] - 128, colours[..., 2] - 128)
        lip_chroma = float(np.hypot(lip[1] - 128, lip[2] - 128))
        open_columns = (lower - upper) > 0.25 * self.gap
        light = colours[..., 0]
        high = float(np.percentile(light[open_columns], 92)) if open_columns.any() else 255.0
        tooth = (light > max(0.72 * high, lip[0] + 8)) & (chroma < max(0.9 * lip_chroma, 18))
        tooth[~open_columns] = False
        # From the top down to the last tooth before something else for once.
        reach = np.zeros(len(NODES), np.float32)
        for k in np.flatnonzero(open_columns):
            row = np.flatnonzero(tooth[k])
            if len(row) and row[0] < 9:
                gaps = np.flatnonzero(np.diff(row) > 2)
                reach[k] = levels[row[gaps[0]] if len(gaps) else row[-1]]
        share = float((reach[open_columns] > 0.1).mean()) if open_columns.any() else 0.0
        self.shows_teeth = share > 0.35
        if not self.shows_teeth and self.gap < 0.25 * self.width and _rows_of_teeth(light[:, 3:20].mean(1)):
            # Dark or coloured, but apart: what shows between lips that hardly part is teeth.
            self.shows_teeth, reach = True, np.where(open_columns, np.float32(0.98), 0)
        if self.shows_teeth:
            # A row of teeth ends in one smooth curve: columns that say otherwise are misread.
            self.teeth_end = self._teeth_curve(upper + (lower - upper) * reach, reach > 0.1)
            # The other row is like it, but for what is darker than lips and as red: that is a lip's shade.
            shown = levels[None] < reach[:, None]
            seen = cv2.cvtColor(colours.clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)[shown]
            own = np.percentile(seen, 80, axis=0).astype(np.float32)
            if own.mean() < 0.5 * self.lip.mean():
                # In such a shade nobody would show them.
                self.shows_teeth, self.teeth_end = False, self._rest[:, 2].copy()
                return
            redder = own / max(float(own.mean()), 1.0) - self.lip / max(float(self.lip.mean()), 1.0)
            if own.mean() > self.lip.mean() or redder[0] < -0.05:
                self.teeth = own
            self._upper_teeth, self._lower_teeth = (self._tinted(upper) for upper in (True, False))
            # Of teeth of which only the uppermost part shows, the rest comes out from behind the lower lip.
            shown = self.teeth_end[MIDDLE] - upper[MIDDLE]
            self._hides_teeth = float(np.median(shown)) < 0.06 * self._span
            self._teeth_line += 0.02 * self._span * self._hides_teeth

    def _find_flesh(self) -> None:
        """What is red in the lower half of an open mouth is its tongue."""
        columns = NODES[np.abs(NODES) < 0.5]
        upper, lower = (np.interp(columns, NODES, self._rest[:, k]) for k in (2, 3))
        at = upper[:, None] + (lower - upper)[:, None] * np.linspace(0.55, 0.92, 8)
        seen = self._seen(self.crop, columns[:, None], at).reshape(-1, 3)
        colour = np.median(seen, axis=0)
        if colour[0] > 60 and colour[0] > 1.2 * max(colour[1], colour[2]):
            if self.drawn:
                self.tongue = colour.astype(np.float32)
            else:
                self.tongue_out = 0.5 * (self.tongue_out + colour)

    def _teeth_curve(self, end: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The parabola over the columns that most of `end` (N,) lies on, as far as it is `known`; within the opening."""
        upper, lower = self._rest[:, 2], self._rest[:, 3]
        basis = np.stack([np.ones_like(NODES), NODES, NODES**2], 1)
        weight = known.astype(np.float64)
        fit = np.zeros(3)
        for _ in range(8):
            weighted = basis * weight[:, None]
            fit = np.linalg.solve(
                weighted.T @ basis + np.diag([1e-6, 0.3, 1e-2]) * weight.sum(), weighted.T @ end
            )
            off = (end - basis @ fit) / (0.02 * self.width + 0.5)
            weight = known / (1 + off * off)
        return np.clip(basis @ fit, upper, lower).astype(np.float32)

    # What is done per frame.

    def _shares(self, a: MouthAmounts) -> tuple[dict[str, float], float]:
        """What of `MOVES` amounts ask for, most of it in pixels; and by how much the lips part, or shut if they stand open."""
        w = self.width
        # Of a muzzle little would be seen of the first part of the way: hairs hang over it.
        opened = max(a.open, 0.0) * (1 + 0.5 * self.plain * (1 - min(max(a.open, 0.0), 1.0)))
        if a.open >= 0:
            gap = opened * max(self.drop - 0.5 * self.gap, 0.3 * self.drop)
        else:
            gap = a.open * self.gap
        # A tongue needs room.
        gap = max(gap, min(a.tongue, 1.0) * (0.24 * w - self.gap)) if a.tongue > 0 else gap
        gap -= _held(a.close) * (self.gap + max(gap, 0.0) * 0.9)
        # Lips that are pushed forward meet.
        stands = max(self.gap + min(gap, 0.0), 0.0)
        gap -= _held(a.pucker) * _held(1 - a.funnel) * (0.4 * stands + 0.6 * min(stands, 0.12 * w))
        gap = max(gap, self._seam - self.gap)
        shut, parted = min(gap, 0.0), max(gap, 0.0)
        jaw = opened * self.drop
        # An opening mouth becomes a lens of one shape, however its line runs at rest; one that stands open keeps its own.
        round_ = _smooth(0, 0.32 * w, parted) * parted / (parted + 2 * self.gap + 1e-3)
        round_ *= not self.plain
        inward = (
            (0.06 + 0.25 * max(self._sag / w, 0.0))
            * round_
            * min(0.75 * w / max(parted + self.gap, 1.0), 1.0)
        )
        # Pursed lips are drawn in already.
        inward *= 1 - _held(a.pucker)
        # Small ones grow broader, as faces that have them are drawn.
        inward -= (0.16 * round_ + 0.11 * self.plain * min(parted / (0.6 * w), 1.0)) * self._small
        # Muzzles are stiffer than lips.
        drawn_in = (0.5 if self.plain else 1.0) * (
            self._pucker * a.pucker + FUNNEL[0] * a.funnel + PUFF * a.puff
        )
        # Lips that hardly part do so in the middle; an open mouth is round, its corners half-way down.
        rise = 0.05 * parted * (not self.plain)
        sink = (0.4 if self.plain else 1) * (1 - round_) * 0.25 * jaw + round_ * (
            self._sag - rise + 0.33 * (parted + self.gap)
        )
        funnel = max(a.funnel, 0.0) ** 1.25 * w
        smile = 0.5 * (a.smile_left + a.smile_right)
        # Broad smiles part lips a little; what bares teeth are lips that are raised and lowered.
        bared = 0.025 * self._span * _smooth(0.45, 1.0, smile) * (1 - _held(max(self.gap, gap) / (0.12 * w)))
        bared *= not (self.plain or self.shows_teeth)
        bared *= (
            (1 - _held(1.5 * (a.upper_left + a.upper_right))) * (1 - _held(a.press)) * (1 - _held(a.close))
        )
        # A mouth that shows its teeth has bared most of them, and one without any has nothing to bare.
        bares = (0.25 if self.shows_teeth else 0.4 if self._toothless else 1.0) * w
        # Of lips that are pushed forward the upper one turns outwards; a smile and an open mouth stretch both.
        thick = 1 - 0.4 * a.press - 0.05 * a.puff - 0.15 * smile - 0.3 * min(parted / (0.6 * w), 1.0)
        # A chin that is raised pushes the lower lip over the upper one.
        upper = thick - 0.05 * smile + 0.4 * a.pucker - 0.5 * _held(a.shrug_lower) + 0.35 * a.shrug_upper
        lower = thick + 0.05 * a.pucker - 0.25 * a.funnel
        left, right = (
            self._span
            * (SMILE[0] * (smile + PRESS[0] * press * _held(1 - smile)) + STRETCH[0] * stretch)
            * (1 - 0.7 * far)
            for smile, stretch, press, far in (
                (a.smile_left, a.stretch_left, a.press_left, self._far[0]),
                (a.smile_right, a.stretch_right, a.press_right, self._far[1]),
            )
        )
        corner_left, corner_right = self._corner_shares(a)
        shares = {
            "left": left,
            "right": right,
            "shift": (0.08 if self.plain else 0.2) * a.aside * self._span,
            # On the far side of a turned head corners are close to the outline, and lips that are pushed forward go towards it.
            "left_in": w * (drawn_in * (1 - FAR_STAYS * self._far[0]) + inward),
            "right_in": w * (drawn_in * (1 - FAR_STAYS * self._far[1]) + inward),
            "puff": 0.075 * a.puff * self.unit,
            "corner_left": corner_left,
            "corner_right": corner_right,
            # Lips that are pushed forward meet a little further down.
            "sink": sink + 0.03 * a.pucker * w * (not self.shows_teeth),
            "shrug": (0.11 * a.shrug_lower + 0.06 * a.shrug_upper) * w,
            "shut": shut,
            "upper_left": a.upper_left * bares,
            "upper_right": a.upper_right * bares,
            "lower_left": a.lower_left * bares,
            "lower_right": a.lower_right * bares,
            "funnel_up": funnel * (not self.plain),
            "funnel": funnel,
            "bared": bared,
            # An upper edge without a lip hangs over the opening in a bow.
            "hang": HANG * self._span * _smooth(0, 0.35 * w, parted) * self.plain,
            "thick_upper": w * (upper * (1 - 0.75 * _held(a.roll_upper)) - 1),
            "thick_lower": w * (lower * (1 - 0.75 * _held(a.roll_lower)) - 1),
            "ring": w * max(self._ring(a), self._stands * _held(-a.open)),
            "chin": self._chin_share * jaw
            + shut * (0.25 + 0.6 * _smooth(0.15, 0.4, self.gap / w))
            - 0.07 * a.shrug_lower * w,
        }
        wide, forward = min(1.8 * parted / w, 1.0), _held(max(a.funnel, a.pucker))
        for lens, share in zip(
            LENSES,
            ((1 - wide) * (1 - forward), wide * (1 - forward), (1 - wide) * forward, wide * forward),
            strict=True,
        ):
            shares[f"over_{lens}"], shares[f"under_{lens}"] = (
                share * (sink + rise),
                share * (parted - rise - sink),
            )
        return shares, gap

    def _offsets(self, a: MouthAmounts) -> tuple[np.ndarray, np.ndarray]:
        """How far each column's knots move down, (N, 7), and how far the columns move aside, (N,); in pixels."""
        shares, gap = self._shares(a)
        mixed = (_MIX @ np.array([shares[name] for name in _SHARES])).astype(np.float32)
        aside, inner_up, inner_low, upper_rim, lower_rim, chin = mixed @ self.fields
        rest = self._rest
        # Lips that stand wide open do not meet as they are pushed forward, but form a ring.
        ring = self._ring(a)
        if ring > 0:
            open_ = 0.5 * (self.gap + min(gap, 0.0))
            middle = (self._sag + 0.05 * self.width + open_) * self._sinks
            inner_up = inner_up + ring * (middle - open_ * self._round - rest[:, 2] - inner_up)
            inner_low = inner_low + ring * (middle + open_ * self._round - rest[:, 3] - inner_low)
        # Lips meet, and do not pass through one another.
        inner_low = np.maximum(inner_low, rest[:, 2] - rest[:, 3] + inner_up)
        still = np.zeros_like(chin)
        offset = [still, inner_up + upper_rim, inner_up, inner_low, inner_low + lower_rim, chin, still]
        return np.stack(offset, 1).astype(np.float32), aside

    def _ring(self, a: MouthAmounts) -> float:
        """How far lips that stand wide open are pushed forward to a ring."""
        return _held(a.pucker) * _held(1 - a.funnel) * self._stands

    def _jaw_aside(self, a: MouthAmounts) -> float:
        """How far the jaw moves aside, in pixels."""
        # Without lips to move, the jaw does it.
        return (JAW_ASIDE * a.jaw_aside + 0.1 * a.aside * self.plain) * self._span

    def _corner_shares(self, a: MouthAmounts) -> tuple[float, float]:
        """How far smiles and frowns take the left and the right corner down, in pixels."""
        left, right = (
            -self._smile * (smile * (1 - 0.15 * _held(smile)) + up * _held(1 - smile))
            + FROWN * frown
            + STRETCH[1] * stretch
            for smile, frown, stretch, up in (
                (
                    a.smile_left,
                    a.frown_left,
                    a.stretch_left,
                    PRESS[1] * a.press_left + ASIDE_UP * _held(-a.aside),
                ),
                (
                    a.smile_right,
                    a.frown_right,
                    a.stretch_right,
                    PRESS[1] * a.press_right + ASIDE_UP * _held(a.aside),
                ),
            )
        )
        # Lips that smile on both sides are as level as the eyes.
        even = 0.5 * self._tilt * _held(min(a.smile_left, a.smile_right))
        return self._span * (left + even), self._span * (right - even)

    def _corners(self, a: MouthAmounts) -> np.ndarray:
        """How far smiles and frowns take each column down, (N,) in pixels."""
        left, right = self._corner_shares(a)
        return left * self._up_left + right * self._up_right

    def lookup(self, table: np.ndarray, s: np.ndarray) -> list[np.ndarray]:
        """Values of a table (C, N) at s float32 (h, w), linear between nodes: C planes (h, w)."""
        at = _node_at(s)
        row, found = np.zeros_like(at), list(np.empty((len(table), *at.shape), np.float32))
        # cv2.remap knows no more than four channels, and is faster than NumPy's `take`.
        for first in range(0, len(table), 4):
            part, planes = table[first : first + 4], found[first : first + 4]
            part = np.ascontiguousarray(part.T, np.float32)[None]
            if len(planes) == 1:
                found[first] = cv2.remap(part, at, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                continue
            values = cv2.remap(part, at, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            # Into planes that are there: those that it makes itself take three times as long.
            cv2.split(values, planes)
        return found

    def draw(self, a: MouthAmounts) -> Patch:
        """The mouth with these amounts, as a patch over its rectangle."""
        bend = self.bend(a, self._lattice, *np.meshgrid(*self._lattice.nodes))
        if bend is None:
            return Patch(self.crop[:1, :1], None, self.left, self.top)
        left, top = bend.lattice.left - self.left, bend.lattice.top - self.top
        shift = bend.shift()[: self.crop.shape[0] - top, : self.crop.shape[1] - left]
        height, width = shift.shape[:2]
        x = shift[..., 0] + np.arange(left, left + width, dtype=np.float32)
        y = shift[..., 1] + np.arange(top, top + height, dtype=np.float32)[:, None]
        rgb = cv2.cvtColor(self._sampler.at(x, y), cv2.COLOR_RGBA2RGB)
        bend.paint(rgb)
        return Patch(rgb, None, bend.lattice.left, bend.lattice.top)

    def reached(self, across: np.ndarray, to_upper: np.ndarray, to_lower: np.ndarray) -> np.ndarray:
        """Where the tongue and its shadow may be, bool of the planes' shape; see `MouthBend` for those."""
        below = to_lower > -1.2 * self.tongue_length - self.block
        return (np.abs(across) < 3.2 * TONGUE * self._span) & (to_upper > 0) & below

    def bend(self, a: MouthAmounts, lattice: Lattice, x: np.ndarray, y: np.ndarray) -> MouthBend | None:
        """See `MouthMotion.on`."""
        offset, aside = self._offsets(a)
        # Against the movement: which column comes to this place, by Newton's steps; aside fades away from the lips.
        s, v = self.place(x, y)
        inside = self._lattice.sampled(self.inside, x, y)
        source_s = s
        if aside.any() or a.jaw_aside:
            # The nose stays, and the chin goes along a little.
            off = v - np.float32(self._line)
            window = np.exp(-np.square(np.maximum(off, 0) * np.float32(2 / self.width))) * inside
            # Newton's steps begin where they would end if all of the face went aside as far as the lips.
            begin = np.interp(NODES, np.maximum.accumulate(NODES + aside / self.half), NODES)
            (begin,) = self.lookup(begin[None], s)
            window *= smooth(self._above, 0.15 * self._above, -off)
            # The jaw takes the lower lip and the chin along, less the further away from it.
            jaw = inside * np.float32(self._jaw_aside(a))
            jaw *= smooth(-0.1 * self.width, 0.25 * self.width, off) * smooth(2 * self.chin, self.chin, v)
            table = np.stack([aside, self._jaw]) / self.half
            table = np.concatenate([table, np.gradient(table, NODES, axis=1)]).astype(np.float32)
            source_s = s + window * (begin - s)
            for _ in range(3):
                moved, along, moved_slope, along_slope = self.lookup(table, source_s)
                over = source_s - s + moved * window + along * jaw
                slope = 1 + moved_slope * window + along_slope * jaw
                source_s = source_s - over / np.maximum(slope, np.float32(LEAST_SLOPE))
        # The dark line between shut lips belongs to neither: where they part it is left out; and so is what open ones have of the
        # inside, where they move.
        gap = offset[:, 3] - offset[:, 2]
        gap = np.abs(gap) if self.own else np.maximum(gap, 0)
        lines = self._lines * held(gap / (3 * self._lines + np.float32(1e-3)))
        knots = self.lookup(np.concatenate([self._rest.T, offset.T, lines]), source_s)
        rest = knots[:7]
        now = [knot + offset * inside for knot, offset in zip(rest, knots[7:14], strict=True)]
        rest[2], rest[3] = rest[2] - knots[14] * inside, rest[3] + knots[15] * inside

        def through(first: int, last: int) -> np.ndarray:
            """How far down the source lies by the knots `first` to `last`; beyond them by the end's offset."""
            result = rest[first] - now[first]
            for k in range(first, last):
                slope = (rest[k + 1] - rest[k]) / np.maximum(now[k + 1] - now[k], np.float32(1e-3))
                below = v - now[k]
                np.copyto(result, slope * below + rest[k] - v, where=below >= 0)
            np.copyto(result, rest[last] - now[last], where=v >= now[last])
            return result

        edges = np.concatenate([self._rest[:, 2:4], offset[:, 2:4]], 1)[None]
        # Lips that part show nothing beyond their edges; those that do not go on over the line, or it would be doubled.
        slack = np.maximum(np.float32(1.5 * self.block) - (now[3] - now[2]), 0)
        up = np.minimum(through(0, 2), rest[2] - v + slack)
        low = np.maximum(through(3, 6), rest[3] - v - slack)
        to_upper, to_lower = v - now[2], now[3] - v
        aside = (source_s - s) * np.float32(self.half)
        moves = np.abs(aside) + np.abs(np.where(to_upper < to_lower, up, low))
        shown = (np.minimum(to_upper, to_lower) > -1) & (inside > 0)
        if a.tongue > 0:
            shown |= self.reached(s * np.float32(self.half), to_upper, to_lower)
        part = lattice.around((moves > 0.03) | shown)
        if part is None:
            return None

        def turned(down: np.ndarray) -> np.ndarray:
            across, down = aside[part], down[part]
            return np.dstack([across * self.along[k] + down * self.down[k] for k in (0, 1)])

        planes = (source_s, s * np.float32(self.half), v, inside, to_upper, to_lower)
        return MouthBend(
            self, a, lattice.part(part), turned(up), turned(low), *(plane[part] for plane in planes), edges
        )

    def paint(self, a: MouthAmounts, rgb: np.ndarray, opening: _Opening) -> None:
        """What shows between the lips, laid over `rgb` uint8 (h, w, 3 or 4) where they are apart."""
        depth, height = opening.to_upper, opening.to_lower
        gap = depth + height
        part = box_of((np.minimum(depth, height) > -self.soft) & (gap > 0.2) & (np.abs(opening.s) < 1))
        if part is None:
            return
        whole, every = opening, rgb
        opening = opening.part(*part)
        s, depth, height = opening.s, opening.to_upper, opening.to_lower
        gap = depth + height
        # Where lips run steeply a pixel is nearer to them than it lies below or above.
        soft = np.float32(1 / self.soft)
        near_upper, near_lower = (plane * _steepness(plane) for plane in (depth, height))
        mask = held(near_upper * soft + np.float32(0.5)) * held(near_lower * soft + np.float32(0.5))
        mask *= held((gap - np.float32(0.2)) * np.float32(0.6)) * (np.abs(s) < 1)
        # The lower lip's edge in the middle.
        column = int(np.abs(s).min(axis=0).argmin())
        row = int(np.abs(height[:, column]).argmin())
        lower_edge = float(opening.down[row, column] + height[row, column])
        upper_edge = lower_edge - float(gap[:, column].max())
        tall, rows = float(gap.max()), self._placed_teeth(a, float(gap.max()), upper_edge, lower_edge)
        inside = self._generic(a, opening, near_upper, near_lower, tall, rows)
        if self.own:
            inside = self._with_own(
                inside, opening, gap, self._corners(a), float(smooth(0.2, 0.8, self._ring(a)))
            )
            # Of lips that are about to meet there is nothing to be seen but their line.
            begins = max(min(0.06 * self.width, 0.8 * self.gap) * (not self.drawn), 1.8 * self._seam)
            # Drawings have no teeth behind a veil.
            shut = float(smooth(begins, (1.7 if self.drawn else 1.2) * self._seam, tall))
            if shut > 0:
                line = np.empty_like(inside)
                line[...] = np.rint(self.line)
                inside = cv2.addWeighted(line, shut, inside, 1 - shut, 0)
        # A mouth that stands wide open shows them itself.
        if not self.drawn and self.gap < 0.25 * self.width:
            parted = tall - self.gap * self.own
            self._line_with_lips(inside, opening, near_upper, near_lower, parted)
        if self.plain:
            at = _node_at(s)
            for fringe, edge in zip(self._fringes, (depth, height), strict=True):
                hairs = cv2.remap(fringe, at, edge, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
                lay_over(inside, hairs)
        around = np.ascontiguousarray(rgb[part][..., :3])
        rgb[part][..., :3] = cv2.blendLinear(inside, around, mask, 1 - mask)
        if a.tongue > NOTHING:
            middle = float(opening.across[row, column] - s[row, column] * self.half)
            upper_rows = [placed for placed in rows if placed.upper]
            self._put_out(a, every, whole, upper_edge, lower_edge, middle, upper_rows)

    def _put_out(
        self,
        a: MouthAmounts,
        rgb: np.ndarray,
        opening: _Opening,
        top: float,
        edge: float,
        middle: float,
        teeth: list[_PlacedRow],
    ) -> None:
        """The tongue over the lower lip and below the upper `teeth`, on `rgb` uint8 (h, w, 3 or 4).

        Args:
            top, edge: the opening's edges in its middle.
            middle: where that is, in pixels aside.
        """
        # Lips that are pushed forward make it narrow.
        half = np.float32(TONGUE * self._span * (1 - 0.35 * min(max(a.funnel, a.pucker, 0.0), 1.0)))
        much = min(a.tongue, 1.0)
        length, room = np.float32(self.tongue_length), np.float32(max(edge - top, 1.0))
        # Before it comes out, its tip is behind the lower lip.
        tip = edge + (1.3 * much - 0.3) * length
        broad = tip - max(1.12 * much * length, 0.8 * half)
        across = opening.across - np.float32(middle)
        part = box_of(
            (np.abs(across) < 2.1 * half) & (opening.down > top) & (opening.down < tip + 0.7 * half)
        )
        if part is None:
            return
        opening = opening.part(*part)
        y, across = opening.down, np.ascontiguousarray(across[part])
        # It is broadest where it comes over the teeth, and grows narrower from there to its round tip.
        deep = min((1.0 if self.drawn else 1.3) * float(room), 0.45 * self._span)
        out, into = (y - edge) / length, held((edge - y) / np.float32(deep))
        # In a mouth that shows its own inside it comes out of that.
        stands = self.gap >= 0.25 * self.width and not self.drawn
        x = across / half
        along = (y - np.float32(broad)) / np.float32(tip - broad)

        def inward(along: np.ndarray) -> np.ndarray:
            """0 at its edge, 1 in its middle, -1 as far outside."""
            along = np.square(np.maximum(along, np.float32(0)))
            return 1 - np.sqrt(np.square(x) * (0.8 + 0.2 * np.square(x)) + along * (0.75 + 0.25 * along))

        off = inward(along)
        within = held(off * (half / (1.2 * self.soft)) + 0.5)
        within *= held(opening.to_upper * np.float32(1 / self.soft) + 0.5)
        # Between the corners, and not all at once.
        within *= smooth(1.0, 0.8, np.abs(opening.s)) * smooth(0.0, 0.2, much)
        region = rgb[part]
        around = np.ascontiguousarray(region[..., :3])
        if self.drawn:
            layer = np.empty_like(around)
            layer[...] = np.rint(self.tongue)
            soft, line = np.float32(1 / self.soft), max(0.012 * self.width, 1.2 * self.soft)
            groove = held((0.6 * line - np.abs(across)) * soft + 0.5)
            _over(layer, 0.78 * self.tongue, groove * smooth(0.6, 0.5, out) * smooth(0.5, 0.3, into))
            outline = self.line if self.outlined else 0.72 * self.tongue
            _over(layer, outline, held((line - off * half) * soft + 0.5) * smooth(0.5, 0.1, into))
            back = np.sqrt(np.square(0.5 * x) + np.square(into))
            share = within * held((0.6 - back) * room * soft + 0.5)
            if self.shows_teeth:
                share *= held(self._past_own(opening, self._corners(a)) * soft + 0.5)
        else:
            far = np.sqrt(np.square(x * smooth(0.0, 0.5, into)) + np.square(into)) if stands else into
            share = within * smooth(0.95, 0.45 if stands else 0.3, far)
            if stands:
                share *= 1 - smooth(0.0, 0.4, into) * smooth(0.5, 0.0, off)
            for row in teeth:
                share *= 1 - row.seen(row.teeth.alpha, opening) * np.float32(1 / 255)
            if self.shows_teeth:
                share *= smooth(-self.soft, self.soft, self._past_own(opening, self._corners(a)))
            layer = self._lit_tongue(x, out, held(off), into * (0.3 if stands else 1.0), opening.to_upper)
            # It lies on the lip, and casts its shadow downwards.
            shade = smooth(-0.18, 0.15, inward(along - np.float32(0.1)))
            shade *= smooth(0.02 * self.width, -0.1 * self.width, opening.to_lower) * smooth(0.1, 0.4, much)
            _over(around, 0.3 * self.lip, 0.4 * shade)
        region[..., :3] = cv2.blendLinear(
            layer, around, share.astype(np.float32), (1 - share).astype(np.float32)
        )

    def _past_own(self, opening: _Opening, corners: np.ndarray) -> np.ndarray:
        """Pixels below the picture's own upper teeth, float32 (h, w)."""
        table = np.stack([self._rest[:, 2], self.teeth_end, corners]).astype(np.float32)
        upper, end, bent = self.lookup(table, opening.s)
        v = opening.down - bent
        return v + np.maximum(upper - (v - opening.to_upper), 0) - end

    def _lit_tongue(self, x, out, within, into, below) -> np.ndarray:
        """The tongue in the face's light, uint8 (h, w, 3).

        Args:
            x: across it, -1 and 1 at its sides.
            out: 0 at the lip, 1 at the tip.
            within: 0 at its edge, 1 in the middle.
            into: 0 at the lip, 1 under the upper one.
            below: pixels below the upper lip, which shades it.
        """
        # Round, it turns away to the sides and at the tip, and is lightest where it bends over the lip.
        bend = np.exp(-np.square((out - 0.12) / 0.35))
        light = 0.64 + 0.27 * smooth(0.0, 0.6, within) + 0.12 * bend
        groove = np.exp(-np.square(x / 0.09)) * smooth(0.8, 0.2, out) * smooth(0.3, 0.0, into)
        light -= 0.11 * groove
        light *= (1 + np.float32(self._slant) * x) * (1 - 0.8 * smooth(0.0, 0.85, into))
        light *= 1 - 0.75 * smooth(0.2 * self._span, 0.0, below)
        # It is wet.
        shine = np.exp(-np.square((np.abs(x) - 0.36) / 0.22) - np.square((out - 0.22) / 0.26))
        shine = 16 * shine * np.float32(self._level) * (1 + np.float32(3 * self._slant) * x)
        planes = [
            np.minimum(np.maximum(colour * light + shine, 0), 255).astype(np.uint8)
            for colour in self.tongue_out.tolist()
        ]
        return cv2.merge(planes)

    def _placed_teeth(
        self, a: MouthAmounts, tall: float, upper_edge: float, lower_edge: float
    ) -> list[_PlacedRow]:
        """The rows of teeth that the picture does not show, the one in front last; the edges are the opening's in its middle."""
        if self.drawn or self._toothless:
            return []
        w = self.width
        # Upper teeth with the head; lower ones with the jaw, whose lip hides most of them, and in whose shadow they lie.
        bared = 0.05 * w * float(smooth(0.2 * w, 0.55 * w, tall))
        # Lips that hardly part shade them; lips that are drawn off them do not, and those pushed forward cover them, too.
        raised = held(0.75 * (a.upper_left + a.upper_right))
        # A tongue lies over the lower ones.
        bares = float(smooth(0.02, 0.3, 0.5 * (a.lower_left + a.lower_right))) * held(1 - 4 * a.tongue)
        # Lips that smile are drawn off them, too, as far as they part.
        smile = held(0.5 * (a.smile_left + a.smile_right))
        off = max(smile * float(smooth(0.03 * w, 0.1 * w, tall)), raised)
        open_ = max(float(smooth(0.03 * w, 0.19 * w, tall)), off)
        forward = min(max(a.funnel, a.pucker, 0.0), 1.0)
        dim = 1 - 0.15 * forward
        # Their row rises to its sides, which between lips that hardly part would show alone.
        edge = lower_edge - bared + 0.1 * w * float(smooth(0.4 * w, 0.12 * w, tall))
        # Behind a lip that is drawn down they stand where the jaw has them: just behind the upper ones where it is shut.
        shut = self._teeth_line - OVERBITE * w + max(a.open, 0.0) * self.drop
        edge -= bares * max(edge - shut, LOWER_BARED * w * float(smooth(0.15 * w, 0.45 * w, tall)))
        light = max(0.75 * open_, 0.9 * bares) * dim
        rows = [_PlacedRow(self._lower_teeth, False, edge, light, self._jaw_aside(a))]
        if not self.shows_teeth or self._hides_teeth:
            # A smile takes lips up in the middle, too, further than teeth are long: gums stay hidden.
            risen = min(float(self._corners(a)[len(NODES) // 2]), 0.0)
            edge = self._teeth_line + risen - 0.06 * w * forward
            # Below their edge an opening is dark, unless lips are drawn off them.
            seen = max(off, bares)
            filled = FILLED + (1 - FILLED) * seen
            edge = min(edge, upper_edge + filled * (lower_edge - upper_edge) + w * seen)
            light = (0.25 + 0.75 * max(open_, bares)) * dim
            rows.append(_PlacedRow(self._upper_teeth, True, edge, light, 0.0))
        return rows

    def _generic(
        self,
        a: MouthAmounts,
        opening: _Opening,
        near_upper: np.ndarray,
        near_lower: np.ndarray,
        tall: float,
        rows: list[_PlacedRow],
    ) -> np.ndarray:
        """Throat, tongue and teeth that the picture does not show, uint8 (h, w, 3)."""
        if self.drawn:
            return self._drawn_inside(a, opening, near_upper, near_lower, tall)
        out, shade = self._throat(opening, near_upper, near_lower, tall)
        for row in rows:
            teeth = row.teeth
            lit = cv2.addWeighted(teeth.layer, row.light, teeth.shaded, 1 - row.light, 0)
            lay_over(out, row.seen(lit, opening))
        # Shade goes over into the mouth's own dark, not into gray.
        dark = np.empty_like(out)
        dark[...] = np.rint(self.shadow)
        cv2.blendLinear(out, dark, shade, 1 - shade, dst=out)
        return out

    def _line_with_lips(
        self, out: np.ndarray, opening: _Opening, near_upper, near_lower, parted: float
    ) -> None:
        """Draw the lips' inner sides, which shut lips hide, along the opening's edge in `out` uint8 (h, w, 3): narrow in its
        middle, broad at its corners, and darker the further in.
        """
        opened = np.float32(self.width * min(max(parted / (0.45 * self.width), 0.0), 1.0))
        if opened < 1e-3 * self.width:
            return
        # A muzzle's are narrow all along.
        corner = np.float32(not self.plain) * smooth(0.4, 1.0, np.abs(opening.s))
        broad_upper, broad_lower = opened * (0.010 + 0.02 * corner), opened * (0.026 + 0.01 * corner)
        upper, lower = near_upper / (broad_upper + 1e-3), near_lower / (broad_lower + 1e-3)
        upper, lower = np.maximum(upper, 0), np.maximum(lower, 0)
        # Round where both meet.
        into = upper * lower / np.maximum(np.sqrt(np.square(upper) + np.square(lower)), np.float32(1e-3))
        share = held(
            (1 - into) * np.where(upper < lower, broad_upper, broad_lower) * np.float32(1 / self.soft) + 0.5
        )
        inner = 0.8 * np.square(np.minimum(into, 1))
        at = _node_at(opening.s)
        row = held(0.5 + upper - lower)
        lips = cv2.remap(self._lip_colours, at, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        lips *= (0.96 - inner)[..., None]
        lips += inner[..., None] * (0.68 * np.minimum(self.flesh, 1.15 * self.lip))
        cv2.blendLinear(lips.astype(np.uint8), out, share, 1 - share, dst=out)

    def _drawn_inside(
        self, a: MouthAmounts, opening: _Opening, near_upper, near_lower, tall: float
    ) -> np.ndarray:
        """The inside of a drawn mouth, uint8 (h, w, 3): flat, one white band, an outline."""
        w, s, depth, height = self.width, opening.s, opening.to_upper, opening.to_lower
        out = np.empty((*s.shape, 3), np.uint8)
        out[...] = np.rint(self.dark)
        soft = np.float32(1 / self.soft)
        if tall > 0.08 * w:
            _over(out, self.tongue, held(0.5 - self._ridge(s, height, tall) * soft))
        if not self.plain and not self.shows_teeth:
            # As tall as they are, however far the mouth opens; lips pushed forward cover them.
            band = min(0.12 * w, tall) * (1 - held(2 * max(a.pucker, 0.0) + 0.6 * max(a.funnel, 0.0)))
            # Its edge is flatter than an arched lip.
            upper = opening.down - depth
            middle = float(upper[:, int(np.abs(s).min(axis=0).argmin())].mean())
            edge = band + 0.65 * np.minimum(upper, np.float32(middle)) + 0.35 * upper
            white = held((edge - opening.down) * soft + 0.5)
            _over(out, self.teeth, white)
        if self.outlined:
            line = max(0.012 * w, 1.0)
            _over(out, self.line, held((line - np.minimum(near_upper, near_lower)) * soft + 0.5))
        return out

    def _ridge(self, s, height, tall: float) -> np.ndarray:
        """Pixels above the tongue's edge."""
        bulge = 1 - (0.9 if self.drawn else 1.3) * np.square(np.minimum(np.abs(s), 1))
        tongue = (
            0.62 * (tall - 0.08 * self.width)
            if self.drawn or self.plain
            else 0.3 * self.width * min(tall / (0.6 * self.width), 1.0)
        )
        return height - tongue * bulge

    def _throat(
        self, opening: _Opening, near_upper, near_lower, tall: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The dark and the tongue, uint8 (h, w, 3), and how much of the light all of the inside gets, float32 (h, w).

        All of it is smooth, and worked out for every other pixel.
        """
        w, full = self.width, opening.s.shape[::-1]
        s, height, upper, lower = (
            plane[::2, ::2] for plane in (np.abs(opening.s), opening.to_lower, near_upper, near_lower)
        )
        # The tongue lies behind the lower teeth: lightest where it bulges, in the dark further back.
        ridge = self._ridge(s, height, tall)
        back, front = (0.1, 0.1) if self.plain else (0.11, 0.1)
        tongue = smooth(back * w, -front * w, ridge) * held((0.95 - s) / 0.35)
        lit = min(max(0.35 + 0.8 * tall / (0.5 * w), 0.35), 1.05)
        light = lit * (1 - 0.3 * held(ridge / (-0.3 * w)) - 0.25 * s)
        # It is wet, and bends most where it comes out of the dark.
        shine = np.exp(-np.square(ridge / (0.07 * w) + 1.3) - np.square((s - 0.22) / 0.2))
        light += 0.13 * lit * shine
        light *= 1 - 0.12 * np.exp(-np.square(s / 0.07)) * held(ridge * (-8 / w))
        share = 0.9 * tongue
        # Above it the palate is not quite dark.
        palate = 0.15 * lit * np.exp(-np.square((opening.to_upper[::2, ::2] - 0.16 * w) / (0.17 * w)))
        palate *= np.maximum(1 - np.square(s), 0) * (1 - share)
        # Into the corners goes the cheek, as the lips' inside is lit.
        cheek = 0.6 * smooth(0.75, 1.0, s)
        out = cv2.merge(
            [
                (
                    dark
                    + (colour * light - dark) * share
                    + lip * palate
                    + (0.42 * lip - dark) * cheek * (1 - share)
                ).astype(np.uint8)
                for dark, colour, lip in zip(
                    self.dark.tolist(), self.tongue.tolist(), self.flesh.tolist(), strict=True
                )
            ]
        )
        above, below = np.exp(np.maximum(upper, 0) * (-20 / w)), np.exp(np.maximum(lower, 0) * (-24 / w))
        shade = (1 - 0.30 * above - 0.12 * below) * (1 - 0.35 * smooth(0.5, 1.0, s))
        # Little light gets in where lips hardly part.
        shade = shade * (0.3 + 0.7 * smooth(0, 0.07 * w, opening.to_upper[::2, ::2] + height))
        return cv2.resize(out, full), cv2.resize(shade.astype(np.float32), full)

    def _with_own(
        self, generic: np.ndarray, opening: _Opening, gap: np.ndarray, corners: np.ndarray, ring: float
    ) -> np.ndarray:
        """The avatar's own inside: its upper teeth stay where they are, what is below them is stretched.

        Args:
            corners: `_corners`; a smile or frown bends what is between the lips along with them.
            ring: how far lips that stood wide open are a ring before what is drawn.
        """
        s, depth = opening.s, opening.to_upper
        table = np.stack([self._rest[:, 2], self._rest[:, 3], self.teeth_end, corners])
        upper, lower, end, bent = self.lookup(table.astype(np.float32), s)
        v = opening.down - bent
        # Where the lip rises above the teeth that the picture shows, they go along.
        v = v + np.maximum(upper - (v - depth), 0)
        bottom = v + (gap - depth)
        # Below the teeth: from their end to the lower lip, as far as that is now.
        room, beyond = np.maximum(lower - end, 0), bottom - end
        source = np.where(v <= end, v, end + (v - end) / np.maximum(beyond, 1e-3) * room)
        source = np.minimum(np.maximum(source, upper + 0.5), np.maximum(lower - 0.5, upper + 0.5))
        along = s * np.float32(self.half)
        x, y = (self.origin[k] + along * self.along[k] + source * self.down[k] for k in (0, 1))
        inside = cv2.cvtColor(self._sampler.at(x, y), cv2.COLOR_RGBA2RGB)
        # What would be stretched to streaks is drawn instead, and so is what is below teeth that fill the mouth.
        past = smooth(-0.5 * self.soft, 1.5 * self.soft, v - end)
        if self.shows_teeth:
            # There is little to be stretched where teeth fill it.
            tall = np.float32(0.3) * np.maximum(lower - upper, 1)
            if self.drawn:
                edge = past * held((beyond - room) * np.float32(1 / self.soft))
            else:
                edge = past * smooth(1.06, 2.0, (beyond + tall) / (room + tall))
        elif self.gap < 0.25 * self.width and not self.drawn:
            edge = past * smooth(1.15, 1.8, beyond / np.maximum(room, 1))
        elif not self.drawn:
            # What stands wide open is squeezed where it shuts: at last too little of it is left to be known.
            edge = np.full_like(gap, max(float(smooth(0.45, 0.2, gap.max() / self.gap)), ring))
        else:
            return inside
        return cv2.blendLinear(generic, inside, edge, 1 - edge)


def _held(value: float) -> float:
    """`held` of one number, without NumPy."""
    return min(max(value, 0.0), 1.0)


def _smooth(low: float, high: float, value: float) -> float:
    """`smooth` of one number, without NumPy."""
    t = _held((value - low) / (high - low))
    return t * t * (3 - 2 * t)


def _node_at(s: np.ndarray) -> np.ndarray:
    """Where in `NODES` places along the mouth are."""
    return (s - NODES[0]) * np.float32((len(NODES) - 1) / (NODES[-1] - NODES[0]))


def _turn(contours: Contours) -> float:
    """How far a head is turned, by its eyes' widths: see `MouthLayers`."""
    eyes = contours.left, contours.right
    if None in eyes:
        return 0.0
    left, right = (float(np.hypot(*(eye.upper[-1] - eye.upper[0]))) for eye in eyes)
    return float(np.log(max(right, 1.0) / max(left, 1.0)))


def _over(out: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Lay `share` float32 (h, w) of a colour (3,) over `out` uint8 (h, w, 3)."""
    layer = np.empty_like(out)
    layer[...] = np.rint(colour)
    cv2.blendLinear(layer, out, share, 1 - share, dst=out)


def _rows_of_teeth(light: np.ndarray) -> bool:
    """Whether lightness `light` (N,) at `NODES` goes down and up again as often as it does along a row of teeth."""
    line = light[np.abs(NODES) < 0.75]
    line = cv2.GaussianBlur(line[None].astype(np.float32), (0, 0), 1.0)[0]
    depth, dips, high, low = max(12.0, 0.25 * float(np.ptp(line))), 0, float(line[0]), float(line[0])
    for value in line.tolist():
        low = min(low, value)
        if high - low > depth and value - low > depth:
            dips, high, low = dips + 1, value, value
        elif low == value or value > high:
            high = max(high, value) if high - low <= depth else high
    return dips >= LEAST_PARTINGS


def _steepness(plane: np.ndarray) -> np.ndarray:
    """By what a height above or below an edge, float32 (h, w), is to be multiplied to be the distance from it."""
    across = cv2.Sobel(plane, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    return 1 / np.sqrt(1 + np.square(across))


def _white_of(picture: np.ndarray, eye: EyeContours) -> np.ndarray | None:
    """The colour of what is lightest in an eye's opening beside its iris, (3,): white in the light that falls on the face."""
    outline = np.rint(np.concatenate([eye.upper, eye.lower[::-1]])).astype(np.int32)
    low, high = np.maximum(outline.min(0), 0), np.minimum(outline.max(0) + 1, picture.shape[1::-1])
    if (high - low).min() < 3:
        return None
    mask = np.zeros((high - low)[::-1], np.uint8)
    cv2.fillPoly(mask, [outline - low], 1)
    centre = np.rint(eye.iris - low).astype(int)
    cv2.circle(mask, (int(centre[0]), int(centre[1])), round(1.05 * eye.radius), 0, -1)
    chosen = picture[low[1] : high[1], low[0] : high[0]][mask > 0].astype(np.float32)
    if len(chosen) < 6:
        return None
    bright = chosen[chosen.mean(1) >= np.percentile(chosen.mean(1), 75)]
    return np.median(bright, axis=0)
