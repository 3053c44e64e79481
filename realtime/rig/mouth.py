"""The mouth as layers: lips that move along their four curves, a chin that drops, and what shows between them.

Every column of the face runs from the nose to below the chin through knots (outer and inner edge of both lips, chin). An
expression moves the corners aside and the knots up or down; the picture between knots is stretched in proportion. Where
the lips part stand the teeth: the upper ones go with the head, the lower ones with the jaw, and neither is stretched.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

import cv2
import numpy as np

from livepuppet.realtime.rig.amounts import INDEX
from livepuppet.realtime.rig.contours import Contours, MouthContours
from livepuppet.realtime.rig.lattice import Lattice, box_of
from livepuppet.realtime.rig.patches import Patch, lay_over
from livepuppet.realtime.rig.ramps import held, smooth
from livepuppet.realtime.rig.sampling import Sampler

#: Amounts below this change nothing that can be seen.
NOTHING = 1e-4

#: Nodes of lattices per mouth width.
_NODES_PER_WIDTH = 20

#: Places along the mouth at which curves are tabled: s is -1 and 1 at the corners.
_NODES = np.linspace(-2.6, 2.6, 313).astype(np.float32)

# The drawn teeth (see data/rig/README.md): pixels per mouth width of 40 mm, and where the middle and the edges are.
_PER_WIDTH, _MIDDLE, _UPPER_EDGE, _LOWER_EDGE = 250.0, 143.5, 126.0, 115.0


@cache
def _teeth(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower teeth of a kind: float32 (252, 288, 4), light, gum, nearness, alpha in [0, 1]."""
    rows = []
    for name in ("upper", "lower"):
        data = resources.files("livepuppet.realtime").joinpath(f"data/rig/{kind}-{name}.png").read_bytes()
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        rows.append(np.ascontiguousarray(picture[..., [2, 1, 0, 3]]).astype(np.float32) / 255)
    return rows[0], rows[1]


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
    press: float
    upper_up: float
    lower_down: float
    aside: float
    jaw_aside: float
    shrug: float

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
            0.5 * (value("mouthPressLeft") + value("mouthPressRight")),
            0.5 * (value("mouthUpperUpLeft") + value("mouthUpperUpRight")),
            0.5 * (value("mouthLowerDownLeft") + value("mouthLowerDownRight")),
            # To the face's own left is to the picture's right.
            value("mouthLeft") - value("mouthRight"),
            value("jawLeft") - value("jawRight"),
            0.5 * (value("mouthShrugLower") + value("mouthShrugUpper")),
        )

    @property
    def most(self) -> float:
        return max(abs(getattr(self, field.name)) for field in fields(self))


class Mouth:
    """The mouth of an avatar.

    Args:
        picture: uint8 RGB (H, W, 3).
        contours: in its pixels.
    """

    def __init__(self, picture: np.ndarray, contours: Contours):
        mouth = contours.mouth
        self._strength = contours.strength.get("mouth", 1.0)
        self.layers = MouthLayers(picture, mouth) if mouth is not None and mouth.sure else None

    def motion(self, amounts: np.ndarray) -> MouthMotion | None:
        """What `amounts` float32 (52,) ask for; None for a mouth at rest."""
        if self.layers is None:
            return None
        wanted = MouthAmounts.of(amounts, self._strength)
        return MouthMotion(self.layers, wanted) if wanted.most > NOTHING else None

    def draw(self, amounts: np.ndarray) -> list[Patch]:
        """The patch that `amounts` float32 (52,) ask for; none for a mouth at rest."""
        motion = self.motion(amounts)
        return [] if motion is None else [motion.layers.draw(motion.amounts)]


@dataclass
class _Knots:
    """The knots of each column at `_NODES`, as rests and offsets, both (N,) in pixels below the corners' line."""

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
        to_upper, to_lower: pixels below the upper lip, and above the lower one.
    """

    layers: MouthLayers
    amounts: MouthAmounts
    lattice: Lattice
    upper: np.ndarray
    lower: np.ndarray
    s: np.ndarray
    across: np.ndarray
    down: np.ndarray
    to_upper: np.ndarray
    to_lower: np.ndarray

    def shift(self, scale: float = 1.0) -> np.ndarray:
        """How far what each pixel of the lattice shows comes from, times `scale`, float32 (h, w, 2)."""
        lattice, to_upper, to_lower = self.lattice, self.to_upper, self.to_lower
        upper, lower = (np.float32(scale) * plane for plane in (self.upper, self.lower))
        # Above the middle of the opening the upper lip, below it the lower one.
        shift = lattice.enlarged(np.where((to_upper < to_lower)[..., None], upper, lower))
        lips = self._lips()
        if lips is not None:
            planes = (to_upper - to_lower, upper, lower)
            between, upper, lower = (lattice.enlarged(plane, lips) for plane in planes)
            region = shift[lattice.pixels(lips)]
            np.copyto(region, lower)
            cv2.copyTo(upper, cv2.compare(between, 0, cv2.CMP_LT), region)
        return shift

    def paint(self, out: np.ndarray) -> None:
        """Draw what shows between the lips into the lattice's pixels `out`, uint8 RGB (h, w, 3) or RGBA; may be cut off."""
        lips = self._lips()
        if lips is None:
            return
        region = out[self.lattice.pixels(lips)]
        planes = (self.s, self.to_upper, self.to_lower, self.across, self.down)
        height, width = region.shape[:2]
        if height and width:
            large = (self.lattice.enlarged(plane, lips)[:height, :width] for plane in planes)
            self.layers.paint(self.amounts, region, *large)

    def _lips(self) -> tuple[slice, slice] | None:
        """The nodes in which both lips, or what is between them, may be seen."""
        near = (np.minimum(self.to_upper, self.to_lower) > -1.5 * self.lattice.block) & (np.abs(self.s) < 1.1)
        return self.lattice.around(near)


class MouthLayers:
    """The layers of one mouth.

    Args:
        picture: uint8 RGB (H, W, 3).
        mouth: its contours in the picture's pixels.
    """

    def __init__(self, picture: np.ndarray, mouth: MouthContours):
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
        # A mouth opens as far as the chin can go: not by more than its own width, nor than the chin is long.
        line = float(local[2][len(local[2]) // 2, 1])
        self.drop = min(0.68 * width, 0.95 * (self.chin - line))
        self.gap = float((local[2][:, 1] - local[1][:, 1]).max())
        self._cut(picture, middle, highest, line)
        self._table(local, highest)
        self._colours(picture, mouth)
        self._find_own()
        middle = float(np.median(0.5 * (self._rest[:, 2] + self._rest[:, 3])))
        self._line = middle
        self._sampler = Sampler(self.crop)

    # What is done once.

    def _cut(self, picture: np.ndarray, middle: np.ndarray, highest: float, line: float) -> None:
        w = self.width
        above, below = highest - 0.62 * w, self.chin + self.drop + 0.55 * w
        corners = np.array(
            [middle + a * self.along + b * self.down for a in (-1.2 * w, 1.2 * w) for b in (above, below)]
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
        self.s, self.v = self._place(x, y)
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

    def _place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the picture in the mouth's own coordinates: s along it, and pixels below the corners' line."""
        x, y = x - np.float32(self.left + self.origin[0]), y - np.float32(self.top + self.origin[1])
        return (x * self.along[0] + y * self.along[1]) / np.float32(self.half), x * self.down[
            0
        ] + y * self.down[1]

    def _table(self, local: list[np.ndarray], highest: float) -> None:
        curves = []
        for points in local:
            order = np.argsort(points[:, 0], kind="stable")
            curve = np.interp(_NODES, points[order, 0], points[order, 1])
            curves.append(np.where(np.abs(_NODES) >= 1, 0.0, curve))
        outer_up, upper, lower, outer_low = curves
        lower = np.maximum(lower, upper)
        outer_up, outer_low = np.minimum(outer_up, upper), np.maximum(outer_low, lower)
        # Beside the mouth the skin is one piece; the knots of both lips part slowly, so that nothing bends sharply.
        beside = 0.10 * self.width * (1 - np.exp(-np.maximum(np.abs(_NODES) - 0.9, 0) / 0.25))
        outer_up = np.minimum(outer_up, upper - 0.02 * self.width - beside)
        outer_low = np.maximum(outer_low, lower + 0.02 * self.width + beside)
        n = len(_NODES)
        # The chin's edge rises to the sides, along the jaw.
        chin = self.chin - 0.25 * self.width * np.minimum(_NODES / 2, 1) ** 2
        chin = np.maximum(chin, outer_low + 0.1 * self.width)
        self.rest = _Knots(
            np.full(n, highest - 0.42 * self.width), outer_up, upper, lower, outer_low, chin, chin + 0.0
        )
        self.rest.bottom = chin + self.drop + 0.35 * self.width
        self._rest = self.rest.stack()
        inner = np.maximum(1 - _NODES**2, 0)
        self._inner = inner
        self._bow = inner**0.9
        far = np.maximum(np.abs(_NODES) - 0.55, 0)
        self._jaw = np.exp(-(far**2) / (2 * 0.75**2))
        outside = np.exp(-((np.maximum(np.abs(_NODES) - 1, 0) / 0.7) ** 2))
        clipped = np.clip(_NODES, -1, 1)
        self._to_left, self._to_right = ((1 - clipped) / 2) * outside, ((1 + clipped) / 2) * outside
        self._up_left, self._up_right = (
            ((1 - clipped) / 2) ** 1.7 * outside,
            ((1 + clipped) / 2) ** 1.7 * outside,
        )

    def _colours(self, picture: np.ndarray, mouth: MouthContours) -> None:
        """Colours of lips, skin, teeth; and whether the picture is drawn: flat, with outlines."""
        crop = self.crop.astype(np.float32)
        h, w = self.crop.shape[:2]
        s, v = self._place(
            *np.meshgrid(
                np.arange(w, dtype=np.float32) + self.left, np.arange(h, dtype=np.float32) + self.top
            )
        )
        nodes = [np.interp(s.ravel(), _NODES, k).reshape(s.shape) for k in self._rest.T]
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
        # Teeth are a little yellower than white, in the light of the face.
        self.teeth = np.clip(
            0.42 * bright + 0.58 * bright.max() * np.array([1.0, 0.97, 0.91]), 0, 245
        ).astype(np.float32)
        rough = np.abs(crop - cv2.GaussianBlur(crop, (0, 0), 1.0)).mean(2)
        flat = float(np.median(rough[skin])) if skin.sum() > 8 else 1.0
        calm = float((rough[skin] < 0.35).mean()) if skin.sum() > 8 else 0.0
        self.drawn = mouth.teeth == "drawn" or (mouth.teeth == "auto" and flat < 0.35 and calm > 0.55)
        band = (np.abs(v - lower) < 0.02 * self.width + 1) & (np.abs(s) < 0.95)
        dark = crop[band]
        line = np.percentile(dark, 8, axis=0) if len(dark) else self.lip * 0.4
        self.line = np.minimum(line, 0.75 * self.lip).astype(np.float32)
        hue = self.lip / max(float(self.lip.mean()), 1.0)
        self.dark = (np.clip(hue, 0.6, 1.6) * 24 + np.array([6.0, 1, 2])).astype(np.float32)
        if self.drawn:
            self.dark = (0.35 * self.lip + 0.65 * self.line).astype(np.float32)
        colourful = float(np.ptp(self.lip)) > 14
        self.tongue = (0.72 * self.lip + np.array([26.0, 4, 8]) if colourful else 0.7 * self.lip + 10).astype(
            np.float32
        )
        self.kind = mouth.teeth if mouth.teeth in ("even", "broad", "pointed") else "even"
        self.no_teeth = mouth.teeth == "none"
        self._upper_teeth, self._lower_teeth = self._tinted(self.kind)

    def _tinted(self, kind: str) -> list[np.ndarray]:
        """Teeth and gums in the face's light, premultiplied: uint8 (252, 288, 4)."""
        result = []
        gums = np.clip(0.75 * self.lip + np.array([40.0, 10, 14]), 0, 255)
        if np.ptp(self.lip) <= 14:
            gums = self.lip * 0.9
        for sprite in _teeth(kind):
            light, gum, near, alpha = (sprite[..., k : k + 1] for k in range(4))
            # The palate is the throat's dark.
            alpha = alpha * smooth(0.3, 0.5, near)
            # What parts teeth is a soft shade, no gap.
            light = 1 - 0.6 * (1 - np.minimum(1.18 * light, 1.05))
            colour = light * (self.teeth * (1 - gum) + gums * 1.3 * gum)
            colour = colour * (0.35 + 0.65 * near)
            sprite = np.concatenate([colour * alpha, 255 * alpha], 2)
            result.append(np.clip(np.rint(sprite), 0, 255).astype(np.uint8))
        return result

    def _find_own(self) -> None:
        """Whether the avatar's mouth is open, and how far down its own upper teeth reach in each column."""
        self.own = self.gap > 0.045 * self.width
        self.teeth_end = self._rest[:, 2].copy()
        self.shows_teeth = False
        if not self.own:
            return
        lab = cv2.cvtColor(self.crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        lip = cv2.cvtColor(self.lip.clip(0, 255).astype(np.uint8).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[
            0, 0
        ].astype(np.float32)
        levels = np.linspace(0.04, 0.98, 28, dtype=np.float32)
        upper, lower = self._rest[:, 2], self._rest[:, 3]
        at = upper[:, None] + (lower - upper)[:, None] * levels[None]
        x = self.origin[0] + _NODES[:, None] * self.half * self.along[0] + at * self.down[0]
        y = self.origin[1] + _NODES[:, None] * self.half * self.along[1] + at * self.down[1]
        colours = cv2.remap(
            lab, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        chroma = np.hypot(colours[..., 1] - 128, colours[..., 2] - 128)
        lip_chroma = float(np.hypot(lip[1] - 128, lip[2] - 128))
        open_columns = (lower - upper) > 0.25 * self.gap
        light = colours[..., 0]
        high = float(np.percentile(light[open_columns], 92)) if open_columns.any() else 255.0
        tooth = (light > max(0.72 * high, lip[0] + 8)) & (chroma < max(0.9 * lip_chroma, 18))
        tooth[~open_columns] = False
        # From the top down to the last tooth before something else for once.
        reach = np.zeros(len(_NODES), np.float32)
        for k in np.flatnonzero(open_columns):
            row = np.flatnonzero(tooth[k])
            if len(row) and row[0] < 9:
                gaps = np.flatnonzero(np.diff(row) > 4)
                reach[k] = levels[row[gaps[0]] if len(gaps) else row[-1]]
        share = float((reach[open_columns] > 0.1).mean()) if open_columns.any() else 0.0
        self.shows_teeth = share > 0.35
        if self.shows_teeth:
            # A row of teeth ends in one line: columns that say otherwise are misread.
            wide = 20
            rows = [
                reach[max(k - wide, 0) : k + wide + 1][open_columns[max(k - wide, 0) : k + wide + 1]]
                for k in range(len(reach))
            ]
            reach = np.array([np.percentile(row, 70) if len(row) else 0.0 for row in rows], np.float32)
            reach = cv2.GaussianBlur(reach[None], (0, 0), 3)[0]
            self.teeth_end = (upper + (lower - upper) * np.where(reach > 0.9, 1.0, reach)).astype(np.float32)

    # What is done per frame.

    def _offsets(self, a: MouthAmounts) -> tuple[np.ndarray, np.ndarray]:
        """How far each column's knots move down, (N, 7), and how far the columns move aside, (N,); in pixels."""
        w = self.width
        if a.open >= 0:
            gap = a.open * max(self.drop - 0.5 * self.gap, 0.3 * self.drop)
        else:
            gap = a.open * self.gap
        gap -= np.clip(a.close, 0, 1) * (self.gap + max(gap, 0.0) * 0.9)
        jaw = max(a.open, 0.0) * self.drop
        narrow = 0.20 * a.pucker + 0.15 * a.funnel + 0.11 * max(a.open, 0.0)
        lefts = (0.09 * a.smile_left + 0.12 * a.stretch_left - narrow) * w
        rights = (0.09 * a.smile_right + 0.12 * a.stretch_right - narrow) * w
        shift = 0.13 * a.aside * w
        aside = -lefts * self._to_left + rights * self._to_right + shift * (self._to_left + self._to_right)
        lift_left = (-0.11 * a.smile_left + 0.10 * a.frown_left) * w
        lift_right = (-0.11 * a.smile_right + 0.10 * a.frown_right) * w
        base = lift_left * self._up_left + lift_right * self._up_right
        # Lips that hardly part do so in the middle; an open mouth is round, its corners half-way down.
        lens = self._inner ** (1.5 - 0.9 * min(max(2.2 * gap / w, 0.0), 1.0))
        sink = 0.42 * jaw
        base = base + sink * np.exp(-((_NODES / 1.6) ** 2)) - 0.05 * a.shrug * w * self._bow
        part = 0.05 * a.funnel * w * lens
        up = (1.05 * sink + 0.10 * max(gap, 0.0)) * lens + 0.07 * a.upper_up * w * self._bow + part
        low = (gap - 0.75 * sink) * lens + 0.08 * a.lower_down * w * lens + part
        rest = self._rest
        thick = 1 + 0.28 * a.pucker + 0.22 * a.funnel - 0.30 * a.press
        upper_lip = (rest[:, 2] - rest[:, 1]) * (thick * (1 - 0.75 * np.clip(a.roll_upper, 0, 1)) - 1)
        lower_lip = (rest[:, 4] - rest[:, 3]) * (thick * (1 - 0.75 * np.clip(a.roll_lower, 0, 1)) - 1)
        smile = 0.5 * (a.smile_left + a.smile_right)
        upper_lip = upper_lip - (rest[:, 2] - rest[:, 1]) * 0.12 * smile
        inner_up, inner_low = base - up, base + low
        # Lips meet, and do not pass through one another.
        meet = rest[:, 3] + inner_low - rest[:, 2] - inner_up
        inner_low = inner_low - np.minimum(meet, 0)
        offset = np.stack(
            [
                np.zeros_like(base),
                inner_up - upper_lip * self._bow,
                inner_up,
                inner_low,
                inner_low + lower_lip * self._bow,
                0.9 * jaw * self._jaw
                + 0.25 * np.minimum(gap, 0) * self._jaw
                - 0.04 * a.shrug * w * self._jaw,
                np.zeros_like(base),
            ],
            1,
        )
        return offset.astype(np.float32), aside.astype(np.float32)

    def _lookup(self, table: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Values (C, ...) of a table (C, N) at s, linear between nodes."""
        at = (s + np.float32(2.6)) * np.float32((len(_NODES) - 1) / 5.2)
        at = np.minimum(np.maximum(at, 0), np.float32(len(_NODES) - 1.001))
        low = at.astype(np.intp)
        first, part = table.take(low, axis=1, mode="clip"), at - low
        first += (table.take(low + 1, axis=1, mode="clip") - first) * part
        return first

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

    def bend(self, a: MouthAmounts, lattice: Lattice, x: np.ndarray, y: np.ndarray) -> MouthBend | None:
        """See `MouthMotion.on`."""
        offset, aside = self._offsets(a)
        # Against the movement: which column comes to this place, by fixed-point steps; aside fades away from the lips.
        s, v = self._place(x, y)
        inside = self._lattice.sampled(self.inside, x, y)
        source_s = s
        if aside.any() or a.jaw_aside:
            window = np.exp(-np.square((v - np.float32(self._line)) / np.float32(0.75 * self.width))) * inside
            jaw = inside * (
                np.float32(0.10 * a.jaw_aside * self.width)
                * smooth(0, self.chin, v)
                * smooth(2 * self.chin, self.chin, v)
            )
            for _ in range(3):
                moved = self._lookup(aside[None], source_s)[0] * window + jaw
                source_s = s - moved / np.float32(self.half)
        knots = self._lookup(np.concatenate([self._rest.T, offset.T]), source_s)
        rest = knots[:7]
        now = rest + knots[7:] * inside

        def through(first: int, last: int) -> np.ndarray:
            """How far down the source lies by the knots `first` to `last`; beyond them by the end's offset."""
            result = rest[first] - now[first]
            for k in range(first, last):
                slope = (rest[k + 1] - rest[k]) / np.maximum(now[k + 1] - now[k], np.float32(1e-3))
                below = v - now[k]
                np.copyto(result, slope * below + rest[k] - v, where=below >= 0)
            np.copyto(result, rest[last] - now[last], where=v >= now[last])
            return result

        up, low = np.minimum(through(0, 2), rest[2] - v), np.maximum(through(3, 6), rest[3] - v)
        to_upper, to_lower = v - now[2], now[3] - v
        aside = (source_s - s) * np.float32(self.half)
        moves = np.abs(aside) + np.abs(np.where(to_upper < to_lower, up, low))
        part = lattice.around((moves > 0.03) | (np.minimum(to_upper, to_lower) > -1) & (inside > 0))
        if part is None:
            return None

        def turned(down: np.ndarray) -> np.ndarray:
            across, down = aside[part], down[part]
            return np.dstack([across * self.along[k] + down * self.down[k] for k in (0, 1)])

        planes = (source_s, s * np.float32(self.half), v, to_upper, to_lower)
        return MouthBend(
            self, a, lattice.part(part), turned(up), turned(low), *(plane[part] for plane in planes)
        )

    def paint(self, a: MouthAmounts, rgb: np.ndarray, s, to_upper, to_lower, across, down) -> None:
        """What shows between the lips, laid over `rgb` uint8 (h, w, 3 or 4) where they are apart; see `MouthBend` for the planes."""
        gap = to_upper + to_lower
        apart = (np.minimum(to_upper, to_lower) > -1) & (gap > 0.4) & (np.abs(s) < 1)
        part = box_of(apart)
        if part is None:
            return
        s, gap, depth, height, across, v = (
            np.ascontiguousarray(plane[part]) for plane in (s, gap, to_upper, to_lower, across, down)
        )
        mask = held(depth + 0.5) * held(height + 0.5)
        mask *= held((gap - 0.4) / 1.2) * (np.abs(s) < 1.0)
        # Where the lips run steeply, a pixel's height says little of how much of it is inside.
        mask = cv2.blur(mask, (3, 3))
        # The lower lip's edge in the middle.
        column = int(np.abs(s).min(axis=0).argmin())
        row = int(np.abs(height[:, column]).argmin())
        inside = self._generic(across, v, s, depth, height, gap, float(v[row, column] + height[row, column]))
        if self.own:
            inside = self._with_own(inside, v, s, depth, gap)
        around = np.ascontiguousarray(rgb[part][..., :3])
        rgb[part][..., :3] = cv2.blendLinear(inside, around, mask, 1 - mask)

    def _generic(self, across, v, s, depth, height, gap, lower_edge: float) -> np.ndarray:
        """Throat, tongue and teeth that the picture does not show, uint8 (h, w, 3)."""
        w = self.width
        tall = max(float(gap.max()), 1.0)
        line = float(np.median(self._rest[140:173, 2]))
        if self.drawn:
            return self._drawn_inside(s, depth, height, tall)
        out, shade = self._throat(across, s, depth, height, tall)
        if not self.no_teeth:
            # Upper teeth with the head; lower ones with the jaw, whose lip hides most of them, and in
            # whose shadow they lie.
            bared = 0.10 * w * float(smooth(0.16 * w, 0.5 * w, tall))
            lower, upper = min(0.45 + 0.6 * tall / (0.4 * w), 0.9), min(0.86 + 0.3 * tall / (0.3 * w), 1.04)
            for sprite, edge_row, edge, light in (
                (self._lower_teeth, _LOWER_EDGE, lower_edge - bared, lower),
                (self._upper_teeth, _UPPER_EDGE, line + 0.045 * w, upper),
            ):
                k = np.float32(_PER_WIDTH / w)
                mx, my = across * k + np.float32(_MIDDLE), v * k + np.float32(edge_row - edge * k)
                teeth = cv2.remap(sprite, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
                lay_over(out, teeth, light)
        return cv2.multiply(out, cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB), scale=1 / 255)

    def _drawn_inside(self, s, depth, height, tall: float) -> np.ndarray:
        """The inside of a drawn mouth, uint8 (h, w, 3): flat, one white band, an outline."""
        w = self.width
        out = np.empty((*s.shape, 3), np.uint8)
        out[...] = np.rint(self.dark)
        if tall > 0.12 * w:
            _over(out, self.tongue, held(0.5 - self._ridge(s, height, tall)))
        if not self.no_teeth and not self.shows_teeth:
            band = min(0.16 * w, 0.34 * tall)
            white = held(band - depth + 0.5) * held((0.93 - np.abs(s)) * (w * 0.25) + 0.5)
            _over(out, np.minimum(self.teeth * 1.06, 250), white)
        _over(out, self.line, held(max(0.012 * w, 1.0) + 0.5 - np.minimum(depth, height)))
        return out

    def _ridge(self, s, height, tall: float) -> np.ndarray:
        """Pixels above the tongue's edge."""
        bulge = 1 - 0.9 * np.square(np.minimum(np.abs(s), 1))
        return height - (0.20 * self.width * min(tall / (0.45 * self.width), 1.0)) * bulge

    def _throat(self, across, s, depth, height, tall: float) -> tuple[np.ndarray, np.ndarray]:
        """The dark and the tongue, uint8 (h, w, 3), and the lips' shadows over all of the inside, uint8 (h, w).

        All of it is smooth, and worked out for every other pixel.
        """
        w, full = self.width, s.shape[::-1]
        across, s, depth, height = (plane[::2, ::2] for plane in (across, np.abs(s), depth, height))
        # The tongue lies behind the lower teeth.
        ridge = self._ridge(s, height, tall)
        tongue = held(0.5 - ridge / (0.03 * w + 1)) * held((0.85 - s) / 0.2)
        groove = 1 - 0.22 * np.exp(-np.square(across / (0.035 * w))) - 0.35 * held(ridge / (-0.25 * w))
        lit = min(max(0.35 + 0.8 * tall / (0.5 * w), 0.35), 0.85)
        light = np.maximum(groove, 0.3) * lit
        share = 0.9 * tongue
        out = cv2.merge(
            [
                (dark + (colour * light - dark) * share).astype(np.uint8)
                for dark, colour in zip(self.dark.tolist(), self.tongue.tolist(), strict=True)
            ]
        )
        near, below = np.exp(np.maximum(depth, 0) * (-50 / w)), np.exp(np.maximum(height, 0) * (-50 / w))
        side = held((s - 0.45) / 0.55)
        shade = (1 - 0.5 * near - 0.15 * below) * (1 - 0.45 * side * np.sqrt(side))
        return cv2.resize(out, full), cv2.resize((255 * shade).astype(np.uint8), full)

    def _with_own(self, generic, v, s, depth, gap) -> np.ndarray:
        """The avatar's own inside: its upper teeth stay where they are, what is below them is stretched."""
        upper, lower, end = self._lookup(np.stack([self._rest[:, 2], self._rest[:, 3], self.teeth_end]), s)
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
        # Where its own shows nothing but teeth, what is below them is drawn; so is what would be stretched to streaks.
        thin = (room < 0.035 * self.width) & (np.abs(s) < 0.85)
        edge = np.where(thin, held((v - np.minimum(end, lower) + 0.5) / 1.5), np.float32(0))
        if self.gap < 0.25 * self.width and (self.shows_teeth or not self.drawn):
            edge = np.maximum(edge, smooth(1.5, 2.6, beyond / np.maximum(room, 1)) * smooth(-1, 1, v - end))
        return cv2.blendLinear(generic, inside, edge, 1 - edge)


def _over(out: np.ndarray, colour: np.ndarray, share: np.ndarray) -> None:
    """Lay `share` float32 (h, w) of a colour (3,) over `out` uint8 (h, w, 3)."""
    layer = np.empty_like(out)
    layer[...] = np.rint(colour)
    cv2.blendLinear(layer, out, share, 1 - share, dst=out)
