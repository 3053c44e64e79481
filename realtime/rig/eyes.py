"""Eyes as layers: the white, the iris under fixed catch-lights, lids with their lashes; cut out once, moved per frame.

Everything lives on the avatar's own pixels in a small rectangle around each eye. What an open eye hides is completed
once: the iris by its mirror and its rings, the white by a smooth surface, a closed lid by the skin above and below. A
frame then is a few remaps of those layers between the moved edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.realtime.rig.amounts import INDEX
from livepuppet.realtime.rig.closed_eyes import closed_eye
from livepuppet.realtime.rig.contours import Contours, EyeContours
from livepuppet.realtime.rig.eye_balls import SHADED, EyeBall
from livepuppet.realtime.rig.eye_crop import bounds, disc
from livepuppet.realtime.rig.patches import Patch, lay_over, mix_in
from livepuppet.realtime.rig.ramps import held, smooth
from livepuppet.realtime.rig.rims import Rims, find_rims
from livepuppet.realtime.rig.sampling import OFFSET, SCALE, Sampler

#: Amounts below this change nothing that can be seen.
NOTHING = 1e-4

#: Amounts that differ by no more show the same: a fifth of a pixel in an eye of a hundred. Eyes tremble by as much while they rest,
#: and drawing both takes a fifth of a frame.
ALIKE = 0.01

#: Amounts are told apart by this much: what an eye showed last is shown again where it has not changed.
_STEP = 1 / 256

#: Over this much of a blink (or gaze) the picture's own pixels go over into the layers, which differ by a level or two.
_ONSET = 0.12

#: So much of the iris's way its catch-lights go along; half of it on a real cornea, where they leave small irises.
GLINT = 0.5

#: So far, in its radii, the middle of an iris that turns up goes under a lid that comes down.
UP_UNDER = 0.4

#: How fast a lid's shade on the eyeball fades, in e-folds per width of the eye.
SHADE = 16.0


@dataclass(frozen=True)
class EyeAmounts:
    """What one eye does: lids in shares of their way, gaze in shares of the way to its ends (right and down positive)."""

    blink: float
    wide: float
    squint: float
    across: float
    down: float

    @classmethod
    def of(cls, vector: np.ndarray, side: str, strength: float = 1.0) -> EyeAmounts:
        """Of the picture's left or right eye; the picture's left is the face's right."""
        name = "Right" if side == "left" else "Left"

        def value(prefix: str) -> float:
            return float(vector[INDEX[prefix + name]])

        # The picture's left eye looks in when it looks to the right.
        inward = value("eyeLookIn") - value("eyeLookOut")
        across = inward if side == "left" else -inward
        down = value("eyeLookDown") - value("eyeLookUp")

        def bounded(value: float, least: float = 0.0) -> float:
            return _STEP * round(min(max(strength * value, least), 1.0) / _STEP)

        # A cheek that rises takes the lower lid along.
        squint = max(value("eyeSquint"), 0.6 * value("cheekSquint"))
        lids = (bounded(amount) for amount in (value("eyeBlink"), value("eyeWide"), squint))
        return cls(*lids, bounded(across, -1.0), bounded(down, -1.0))

    @property
    def still(self) -> bool:
        return max(self.blink, self.wide, self.squint, abs(self.across), abs(self.down)) < NOTHING

    def looks_like(self, other: EyeAmounts) -> bool:
        """Whether nobody sees the difference."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(abs(one - two) <= ALIKE for one, two in pairs)


class Eyes:
    """Both eyes of an avatar.

    Args:
        picture: uint8 RGB (H, W, 3).
        contours: in its pixels.
    """

    def __init__(self, picture: np.ndarray, contours: Contours):
        self._strength = contours.strength
        sure = {
            side: eye
            for side, eye in (("left", contours.left), ("right", contours.right))
            if eye is not None and eye.sure
        }
        rims = level = None
        if contours.left is not None and contours.right is not None:
            middles = [(eye.upper[0] + eye.upper[-1]) / 2 for eye in (contours.left, contours.right)]
            rims = find_rims(picture, *middles)
            level = middles[1] - middles[0]

        def cut_out(side: str, *known: bool | float | None) -> EyeLayers:
            return EyeLayers(picture, sure[side], side, rims, level, closed[side], *known)

        closed = {side: closed_eye(picture, eye, side) for side, eye in sure.items()}
        self.layers = {side: cut_out(side) for side in sure}
        both = list(self.layers.values())
        if len({layers.has_white for layers in both}) == 2:
            # Both eyes are of one kind: where one is in the dark, the irises' size in the openings decides; irises of which one
            # is much darker than the other are none.
            share = np.mean([2 * layers.radius / layers.width for layers in both])
            white = bool(share < 0.6 and abs(both[0].darkness - both[1].darkness) < 0.3)
            self.layers = {side: cut_out(side, white) for side in sure}
            both = list(self.layers.values())
        if len(both) == 2 and both[0].has_white and both[1].has_white:
            # If the skin around one is a real one's, so is that around the other, which less may be seen of.
            real = max(layers.real for layers in both)
            for side, layers in list(self.layers.items()):
                if layers.real < real - 0.2:
                    self.layers[side] = cut_out(side, True, None, real)
            both = list(self.layers.values())
            # What little is seen of one white may lie in the lids' shade; beside their skin both are about as light.
            lightest = max(layers.whiteness for layers in both)
            least = [
                0.85 * min(lightest, 1.1) if layers.whiteness < 0.85 * lightest else None for layers in both
            ]
            skins = [float(layers.cheek_colour.mean()) for layers in both]
            tone = None
            if min(skins) > 0.6 * max(skins):
                # In about the same light they are of one colour.
                tone = 0.5 * (both[0].white_tone + both[1].white_tone)
            for side, lift in zip(list(self.layers), least, strict=True):
                if lift is not None:
                    self.layers[side] = cut_out(side, True, lift, real)
                if tone is not None:
                    self.layers[side].tint(tone)

    def draw(self, amounts: np.ndarray) -> list[Patch]:
        """The patches that `amounts` float32 (52,) ask for: none for eyes at rest."""
        patches = []
        for side, layers in self.layers.items():
            wanted = EyeAmounts.of(amounts, side, self._strength.get(side, 1.0))
            if not wanted.still:
                patches.append(layers.draw(wanted))
        return patches


#: Arrays of `EyeLayers` whose rows are `lash_rows` and whose columns are `lash_u`.
_OF_LASHES = "lash_rgb", "lash_alpha", "hang_alpha"


class EyeLayers(EyeBall):
    """The layers of one eye.

    Args:
        picture: uint8 RGB (H, W, 3).
        eye: its contours in the picture's pixels.
        side: `left` or `right`, of the picture.
        rims: of glasses, in the whole picture.
        level: (2,), from the left eye to the right one: both look aside along it, however their corners lie.
        closed: what `closed_eyes.closed_eye` says of it; None to ask.
        white: whether it has any white, where that is known.
        least_white: how light it is at least, beside the skin below.
        real: how far it is a real one, where that is known.
    """

    def __init__(
        self,
        picture: np.ndarray,
        eye: EyeContours,
        side: str,
        rims: Rims | None = None,
        level: np.ndarray | None = None,
        closed: tuple[np.ndarray, np.ndarray] | None = None,
        white: bool | None = None,
        least_white: float | None = None,
        real: float | None = None,
    ):
        super().__init__(picture, eye, side, rims, level, closed)
        self._white_known, self._least_white, self._real_known = white, least_white, real
        self._build()
        self.skin_ends = self._skin_ends()
        self._trim()
        self._settle()
        self._lids = tuple(Sampler(layer) for layer in (self.upper_lid, self.lower_lid))
        self._ball = None if self.has_white else Sampler(self.ball)
        self._rgb = self.crop.copy()
        self._alpha = np.zeros(self.crop.shape[:2], np.uint8)
        self._last: tuple[EyeAmounts, Patch] | None = None

    # What is done once.

    def _build(self) -> None:
        picture = self.crop.astype(np.float32)
        self._lower_edge()
        self._find_skin(picture)
        self._find_lashes(picture)
        #: Whether it is a real one, 1, or drawn, 0. Eyes as tall as the round ones of comics are drawn.
        self.real = float(smooth(*SHADED, self.shaded) * smooth(0.59, 0.53, self.tall / self.width))
        if self._real_known is not None:
            self.real = self._real_known
        self._find_white(picture)
        #: The same of its lashes.
        self.fine = self.real if self.has_white else 0.0
        self._shut(picture)
        self._lift(picture)
        self._find_iris(picture)
        self._find_ends()
        self._rest(picture)
        self._hold_gaze()

    def _trim(self) -> None:
        """Keep of everything the rectangle in which a frame may differ from the picture."""
        moves = self.v > self.up - (self.rigid + self.gives_way)
        moves &= (self.v < self.low + 0.30 * self.width) & (self.inside_u > 0)
        moves |= self.cover > 0.01
        rows, columns = np.flatnonzero(moves.any(1)), np.flatnonzero(moves.any(0))
        if not len(rows):
            return
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        shape = self.u.shape
        for name, value in list(vars(self).items()):
            # Lashes have rows and columns of their own, of tiny eyes perhaps as many.
            if isinstance(value, np.ndarray) and value.shape[:2] == shape and name not in _OF_LASHES:
                setattr(self, name, np.ascontiguousarray(value[box]))
        # Rows and columns are counted from the new corner.
        self.x, self.y = self.x - np.float32(columns[0]), self.y - np.float32(rows[0])
        self.iris_x, self.iris_y = self.iris_x - float(columns[0]), self.iris_y - float(rows[0])
        self.left, self.top = self.left + int(columns[0]), self.top + int(rows[0])

    def _settle(self) -> None:
        """Bring what frames need into the form in which they take it: colours in whole levels, layers premultiplied."""
        self.white, self.skin = (cv2.convertScaleAbs(colours) for colours in (self.white, self.skin))
        self.iris = cv2.convertScaleAbs(
            np.dstack([self.iris * self.iris_alpha[..., None], 255 * self.iris_alpha])
        )
        self._settle_lashes()
        self._still_lids = tuple(
            np.ascontiguousarray(lid[..., :3]) for lid in (self.upper_lid, self.lower_lid)
        )
        self._covers = tuple(
            lid[..., 3].astype(np.float32) * np.float32(1 / 255) for lid in (self.upper_lid, self.lower_lid)
        )
        self.aside = np.maximum(smooth(0.005, -0.01, self.u), smooth(0.995, 1.01, self.u))
        lower_cover = np.maximum(self._covers[1], self.aside)
        self._covers = self._covers[0], lower_cover.astype(np.float32)
        self.lower_lid[..., 3] = np.rint(255 * lower_cover)
        # Lower lashes and rim that go under a closed lid.
        under = held(1 - np.maximum(self.closed - self.v, self.v - self.low) * (10 / self.width))
        self.under = np.maximum(self.beside, under)
        # A ball turns least at its sides; its edges under the lids stay what the picture shows, and so does skin within a round outline.
        # Lights belong to it.
        ball = np.minimum(self.v - self.up, self.low - self.v) > np.float32(0.5 * self.soft)
        ball &= (self.u > 0) & (self.u < 1) & (self.light < 0.75 * float(np.median(self.cheek_colour)))
        ball = cv2.morphologyEx(ball.astype(np.uint8), cv2.MORPH_CLOSE, disc(0.08 * self.width))
        deep = cv2.distanceTransform(
            cv2.copyMakeBorder(ball, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5
        )
        deep = cv2.GaussianBlur(deep[1:-1, 1:-1], (0, 0), max(0.03 * self.width, 0.7))
        self._turns = held((deep - 0.02 * self.width) / max(float(deep.max()), 1.0)).astype(np.float32)
        self._places = tuple(
            np.float32(SCALE) * place.astype(np.float32) + np.float32(OFFSET) for place in (self.x, self.y)
        )
        self.within = self.inside_u * smooth(0.30 * self.width, 0.22 * self.width, self.v - self.low)
        ends = self.up - np.float32(self.rigid + self.gives_way)
        self._mask = self.within * smooth(0, np.float32(0.04 * self.width), self.v - ends)
        self._find_places()
        self._glint = np.ascontiguousarray(self.glint[self._ball_at])
        self._settle_ball()
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.dtype == np.float64:
                setattr(self, name, value.astype(np.float32))

    def _settle_lashes(self) -> None:
        """The lashes of a lid that has come down, uint8 RGBA over u and the distance below its edge, and where frames find them."""
        # Where lids meet steeply, their distance is less than that straight down.
        slope = cv2.Sobel(self.closed, cv2.CV_32F, 1, 0, scale=0.125) * self.along[0]
        slope += cv2.Sobel(self.closed, cv2.CV_32F, 0, 1, scale=0.125) * self.along[1]
        per_row = np.float32((len(self.lash_rows) - 1) / (2 * self.reach))
        self.steep = per_row / np.sqrt(1 + slope * slope)
        self.lash_x = (self.u + np.float32(0.1)) * np.float32((len(self.lash_u) - 1) / 1.2)
        alpha = self._lash_band()
        self.lashes = cv2.convertScaleAbs(np.dstack([alpha[..., None] * self.line_tone, 255 * alpha]))

    def _settle_ball(self) -> None:
        """The white as frames take it: with the shade on it, on the pixels of `_ball_at`."""
        rows, columns = self._ball_at
        if self.has_white:
            white = np.dstack([self.white, cv2.convertScaleAbs(self.shade, alpha=255)])
            self._white_ball = np.ascontiguousarray(white[self._ball_at])
            self._opaque = np.full(self._white_ball.shape[:2], 255, np.uint8)
            self._white_still = np.ascontiguousarray(self._white_ball[..., :3])
            shade = cv2.extractChannel(self._white_ball, 3)
            self._shade_still = cv2.merge([shade, shade, shade, self._opaque])
        starts = columns.start, rows.start
        self._ball_places = [
            (place - np.float32(start), float(step))
            for place, start, step in zip((self.x, self.y), starts, self.down, strict=True)
        ]

    def _find_places(self) -> None:
        """The rows in which a frame can change each layer, and the rectangle in which the eyeball is seen."""
        v, w, soft = self.v, self.width, 2 * self.soft
        deepest = np.maximum(self.closed, self.low)
        highest = np.minimum(self.closed, self.low - self.squint * self.span)
        opening = v > self.up - self.rise - soft
        opening &= (v < self.low + 0.4 * self.to_down + 0.05 * self.tall + soft) & (
            np.abs(self.u - 0.5) < 0.54
        )
        self._ball_at = bounds(opening)
        self._low_rows = bounds(v > highest - soft)[0]
        self._up_rows = bounds(v < deepest + 0.06 * w + soft)[0]
        self._lash_rows_at = bounds((v > self.up - soft) & (v < self.closed + self.reach + soft))[0]
        self._front_rows = bounds(self.front > 0)[0]

    def tint(self, tone: np.ndarray) -> None:
        """Give the white that the picture does not show the colour `tone` (3,)."""
        ratio = np.clip(tone / np.maximum(self.white_tone, 1.0), 0.8, 1.25)
        ratio = 1 + (ratio - 1) * (1 - self.white_seen[..., None])
        self.white = np.clip(self.white * ratio, 0, 255).astype(np.uint8)
        self._settle_ball()

    def shrink(self) -> None:
        """Forget what no frame is drawn with."""
        made_with = (
            "_closed_eye lab light cheek_colour lid_colour texture x y u crease inside_u thick solid start lash_up away from_edge rim cut stroke "
            "beside upper_lid lower_lid glint white ball white_seen shade iris_alpha lash_rgb lash_alpha hang_alpha shows"
        )
        if not self.has_front:
            made_with += " crop front"
        if self.has_white:
            made_with += " _turns"
        for name in made_with.split():
            self.__dict__.pop(name, None)

    # What is done per frame.

    def draw(self, wanted: EyeAmounts) -> Patch:
        """The eye with these amounts, as a patch over its rectangle. What it showed last is the same object, and so is what looks
        like that.
        """
        if self._last is None or not self._last[0].looks_like(wanted):
            self._draw(wanted)
            self._last = wanted, Patch(self._rgb, self._alpha, self.left, self.top)
        return self._last[1]

    def _draw(self, wanted: EyeAmounts) -> None:
        blink, out, soft = wanted.blink, self._rgb, np.float32(1 / self.soft)
        upper, lower = self._edges(wanted)
        lowered = self._lowered(wanted)
        # From bottom to top: eyeball, lower lid, upper lid, lashes. Beside the corners there is skin alone.
        shows = blink < 0.995
        out[self._ball_at] = self._draw_ball(wanted, upper, lower) if shows else self.skin[self._ball_at]
        shut = float(smooth(0.30, 0.95, blink))
        rows = self._low_rows
        part, below = out[rows], lower[rows]
        colours, cover = self._lower_lid(rows, below, lower is self.low)
        if shut > 0:
            closed = held((self.v[rows] - below) * soft + np.float32(0.5))
            cover = np.maximum(np.maximum(cover, closed * np.float32(shut)), self.aside[rows])
        mix_in(part, colours, cover)
        if shut > 0:
            # Lower lashes and the dark rim go under a closed lid.
            gone = shut if self.has_white else float(smooth(0.1, 0.5, blink))
            mix_in(part, self.skin[rows], self.under[rows] * np.float32(gone) * cover)
        rows = self._up_rows
        part, above = out[rows], upper[rows]
        if lowered > min(self.bares[0], 0.1):
            # The skin that unfolds.
            mix_in(part, self.skin[rows], held((above - self.v[rows]) * soft + np.float32(0.5)))
        colours, mask = self._upper_lid(rows, above, lowered)
        mix_in(part, colours, mask)
        lashes = float(smooth(*self.lashes_come, lowered))
        if lashes > 0:
            self._draw_lashes(out, upper, lashes)
        if self.has_front:
            part = out[self._front_rows]
            mix_in(part, self.crop[self._front_rows], self.front[self._front_rows])
        self._frame(wanted, upper, shut)

    def _draw_ball(self, wanted: EyeAmounts, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """The eyeball in this gaze and the lids' shade, uint8 RGB of `_ball_at`; a blink's shade is deeper."""
        at = self._ball_at
        if self.has_white and upper is self.up and lower is self.low:
            out = self._white_still.copy()
            self._draw_iris(out, wanted, self._shade_still)
        elif self.has_white:
            # Its shades and corners stay between the lids.
            above, up, span = upper[at], self.up[at], self.span[at]
            share = (self.v[at] - above) / np.maximum(lower[at] - above, np.float32(0.5))
            shift = up + np.minimum(np.maximum(share, np.float32(-0.1)), np.float32(1.1)) * span - self.v[at]
            x, y = (place[at] + shift * np.float32(step) for place, step in self._ball_places)
            white = cv2.remap(self._white_ball, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            out = cv2.cvtColor(white, cv2.COLOR_RGBA2RGB)
            shade = cv2.extractChannel(white, 3)
            self._draw_iris(out, wanted, cv2.merge([shade, shade, shade, self._opaque]))
        else:
            out = self._turned(wanted)
        # What is left of it between lids that nearly meet is dark.
        begins, most = self.dims
        most *= float(smooth(begins, 0.8, wanted.blink))
        if most > 0:
            v, fade = self.v[at], np.float32(-SHADE / self.width)
            dark = cv2.exp(np.maximum(v - upper[at], 0) * fade)
            dark += cv2.exp(np.maximum(lower[at] - v, 0) * (2 * fade)) * np.float32(0.5)
            light = cv2.convertScaleAbs(dark, alpha=255 * most)
            cv2.multiply(
                out, cv2.cvtColor(cv2.bitwise_not(light), cv2.COLOR_GRAY2RGB), dst=out, scale=1 / 255
            )
        return out

    def _upper_lid(self, rows: slice, upper: np.ndarray, lowered: float) -> tuple[np.ndarray, np.ndarray]:
        """These rows of what moves with the upper lid with its edge at `upper`, uint8 RGB, and where it covers the eye, float32.

        A lid that goes up pushes the skin above it. One that comes down is stretched between its lashes, which sink, and its
        crease, until unfolded skin takes its place down to the line along its edge.
        """
        if lowered == 0:
            return self._still_lids[0][rows].copy(), self._covers[0][rows].copy()
        away, shift = upper - self.v[rows], upper - self.up[rows]
        if lowered < 0:
            away -= self.rigid
            return self._slid(0, rows, shift * held(1 - away * np.float32(1 / self.gives_way_above)))
        away = np.maximum(away, 0)
        bare, late = float(smooth(*self.bares, lowered)), float(smooth(*self.leaves, lowered))
        left = 1.0
        if bare > 0:
            left = held(2 - away / (self.line_tall[rows] * np.float32(1 - 0.6 * late))) * self.between[rows]
            left *= 1 - np.float32(late) * self.tapers[rows]
            # What hangs beside the corners goes first.
            sooner = np.float32(smooth(0.1, 0.5, lowered) * (1 - bare))
            left = left * np.float32(bare) + np.float32(1 - bare) - sooner * (1 - self.between[rows])
        # What hangs over the corners goes along a little.
        far = self.follow[rows] * np.float32(lowered)
        far += self.follow_arch[rows] * np.float32(lowered * max(1 - lowered, 0))
        shift += (far - shift) * np.minimum(away * np.float32(1 / (0.12 * self.width)), 1)
        sunk, band = 1 - 0.6 * float(smooth(0, 0.8, lowered)), self.stiff - self.line
        away -= np.float32(self.line)
        shift += np.minimum(np.maximum(away, 0) * np.float32(1 / sunk - 1), np.float32(band * (1 - sunk)))
        away -= np.float32(band * sunk)
        colours, cover = self._slid(0, rows, shift * held(1 - away / (self.room[rows] + shift)))
        return colours, cover * left

    def _lower_lid(self, rows: slice, lower: np.ndarray, still: bool) -> tuple[np.ndarray, np.ndarray]:
        """The same of the lower one."""
        if still:
            return self._still_lids[1][rows], self._covers[1][rows]
        away = self.v[rows] - lower - np.float32(0.02 * self.width)
        shift = (lower - self.low[rows]) * held(1 - away * np.float32(1 / self.gives_way_below))
        return self._slid(1, rows, shift)

    def _slid(self, lid: int, rows: slice, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a lid's layer drawn `shift` pixels further down."""
        x, y = (self._places[k][rows] - shift * np.float32(SCALE * self.down[k]) for k in (0, 1))
        found = self._lids[lid].at_enlarged(x, y)
        cover = cv2.extractChannel(found, 3) * np.float32(1 / 255)
        return cv2.cvtColor(found, cv2.COLOR_RGBA2RGB), cover

    def _lowered(self, wanted: EyeAmounts) -> float:
        """The share of its way to closed that the upper lid has gone: lids follow the eyes down, and
        a little up.
        """
        down, wide, squint = wanted.down, wanted.wide, wanted.squint
        follow = (
            0.6 * self.to_down / max(self.tall, 1.0) * max(down, 0.0)
            - 0.3 * self.to_up / max(self.tall, 1.0) * max(-down, 0.0)
            - self.rise / max(self.tall, 1.0) * wide
            + 0.1 * squint
        )
        return follow * (1 - wanted.blink) + wanted.blink

    def _edges(self, wanted: EyeAmounts) -> tuple[np.ndarray, np.ndarray]:
        """Heights of both lids' edges at every pixel."""
        blink, down = wanted.blink, wanted.down
        lowered = self._lowered(wanted)
        rise = self.squint * wanted.squint * (1 - blink)
        # The lower lid gives way to an eye that looks down, and follows one that looks up.
        follow = 0.55 * self.to_up * max(-down, 0.0) * max(1 - 2 * blink, 0.0)
        follow -= 0.2 * self.to_down * max(down, 0.0)
        if self.has_white:
            rise += follow / max(self.tall, 1.0) * (1 - blink)
        lower = self.low
        if blink > 0 or rise:
            lower = lower + (np.minimum(self.closed, lower) - lower) * np.float32(blink)
            lower -= self.span * np.float32(rise)
        if lowered == 0:
            return self.up, lower
        way = np.float32(lowered)
        if lowered > 0:
            # Its edge stays an arch for a while: an opening gets narrower as well.
            way = way + self.arch * np.float32(lowered * max(1 - lowered, 0))
        upper = self.up + (self.closed - self.up) * way
        # It comes to lie over the lower one.
        most = lower + np.float32(0.3)
        if blink > 0.5:
            most += np.maximum(self.closed - lower, 0) * np.float32(2 * blink - 1)
        return np.minimum(upper, most), lower

    def _gaze(self, wanted: EyeAmounts) -> tuple[float, float]:
        """How far the iris goes, in pixels of the crop."""
        far, turn = (self.to_right, self.turn_right) if wanted.across > 0 else (self.to_left, self.turn_left)
        across = far * wanted.across * turn / (1 + (turn - 1) * abs(wanted.across))
        down = wanted.down * (self.to_down if wanted.down > 0 else self.to_up)
        if self.has_white:
            if down < 0:
                # Of an iris that turns up a third is seen below a lid that comes down, as long as so much is at rest: white below
                # it says where it looks.
                edge, way, arch = self.before_iris
                lowered = max(self._lowered(wanted), 0.0)
                hidden = edge + way * lowered * (1 + arch * max(1 - lowered, 0.0)) - self.iris_v
                hidden -= UP_UNDER * self.radius
                down = max(down, min(hidden, 0.0))
            # A lid that closes turns the eye a little down.
            down += 0.16 * self.tall * wanted.blink
        x, y = self._aside
        return across * x - down * y, across * y + down * x

    def _turned(self, wanted: EyeAmounts) -> np.ndarray:
        """An eye without a white in this gaze, uint8 (h, w, 3): its own pixels, which go along least at its corners."""
        at = self._ball_at
        x, y = (
            place[at] - self._turns[at] * np.float32(SCALE * step)
            for place, step in zip(self._places, self._gaze(wanted), strict=True)
        )
        return cv2.cvtColor(self._ball.at_enlarged(x, y), cv2.COLOR_RGBA2RGB)

    def _draw_iris(self, out: np.ndarray, wanted: EyeAmounts, shade: np.ndarray) -> None:
        """The iris with this gaze, in `shade` uint8 (h, w, 4) and under the catch-lights, on the pixels of `_ball_at`."""
        dx, dy = self._gaze(wanted)
        rows, columns = self._ball_at
        extent = out.shape[1::-1]
        # A ball turns: the disc narrows towards the side.
        squeeze = 1.0 / max(1 - 0.10 * wanted.across**2, 0.5)
        along = self.along.astype(np.float64)
        turn = np.eye(2) + (squeeze - 1) * np.outer(along, along)
        centre = np.array([self.iris_x + dx - columns.start, self.iris_y + dy - rows.start])
        matrix = np.column_stack([turn, self.iris_size - turn @ centre])
        iris = cv2.warpAffine(self.iris, matrix, extent, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        cover = cv2.extractChannel(iris, 3)
        lay_over(out, cv2.multiply(iris, shade, scale=1 / 255))
        if self.has_glint:
            # The cornea is a ball in front of the iris: its lights go less far.
            step = np.float32([[1, 0, GLINT * dx], [0, 1, GLINT * dy]])
            lights = cv2.warpAffine(self._glint, step, extent)
            lay_over(out, cv2.multiply(lights, cv2.merge([cover] * 4), scale=1 / 255))

    def _draw_lashes(self, out: np.ndarray, upper: np.ndarray, seen: float) -> None:
        """The band of lashes along the moved edge; `seen` is how much of it there is, 0 to 1."""
        at = self._lash_rows_at
        # They are short as long as they point forward.
        my = (self.v[at] - upper[at]) * (self.steep[at] * np.float32(1 / (0.5 + 0.5 * seen)))
        my += np.float32(0.5 * (self.lashes.shape[0] - 1))
        lashes = cv2.remap(self.lashes, self.lash_x[at], my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        lay_over(out[at], lashes if seen == 1 else cv2.convertScaleAbs(lashes, alpha=seen))

    def _frame(self, wanted: EyeAmounts, upper: np.ndarray, shut: float) -> None:
        """Around the eye the picture stays as it is."""
        most = max(wanted.blink, wanted.wide, wanted.squint, abs(wanted.across), abs(wanted.down))
        mask = self._mask
        if self._lowered(wanted) < 0:
            ends = upper - np.float32(self.rigid + self.gives_way_above)
            mask = self.within * smooth(0, np.float32(0.04 * self.width), self.v - ends)
        if shut > 0 or self._lowered(wanted) > 0:
            mask = np.maximum(mask, self.cover)
        cv2.convertScaleAbs(mask, self._alpha, alpha=255 * float(smooth(0, _ONSET, most)))
