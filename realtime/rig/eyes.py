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
from livepuppet.realtime.rig.contours import Contours, EyeContours
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

#: Lashes and lines hang over an eye by no more than this, in its widths.
LASH_TALL = 0.2

#: Up to so uneven, in percent of its light, skin is drawn, and from the second on real: then lashes are fine.
SHADED = 1.15, 1.4

#: So much of the iris's way its catch-lights go along; half of it on a real cornea, where they leave small irises.
GLINT = 0.5

#: Of the skin's colour, as far as it differs from gray, a real white has no more than this share.
SKIN_IN_WHITE = 0.42

#: Eyes without a white whose iris is as light as this beside their skin are of stone, and look nowhere.
STONE = 0.7

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

        def cut_out(side: str, *white: bool | float | None) -> EyeLayers:
            return EyeLayers(picture, sure[side], side, rims, level, *white)

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
                    self.layers[side] = cut_out(side, True, lift)
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


class EyeLayers:
    """The layers of one eye.

    Args:
        picture: uint8 RGB (H, W, 3).
        eye: its contours in the picture's pixels.
        side: `left` or `right`, of the picture.
        rims: of glasses, in the whole picture.
        level: (2,), from the left eye to the right one: both look aside along it, however their corners lie.
        white: whether it has any white, where that is known.
        least_white: how light it is at least, beside the skin below.
    """

    def __init__(
        self,
        picture: np.ndarray,
        eye: EyeContours,
        side: str,
        rims: Rims | None = None,
        level: np.ndarray | None = None,
        white: bool | None = None,
        least_white: float | None = None,
    ):
        self.side = side
        self._white_known, self._least_white = white, least_white
        corner, end = eye.upper[0].astype(np.float64), eye.upper[-1].astype(np.float64)
        self.width = width = max(float(np.hypot(*(end - corner))), 4.0)
        along = (end - corner) / width
        down = np.array([-along[1], along[0]])
        everything = np.concatenate([eye.crease, eye.upper, eye.lower])
        tall = float(((eye.lower - corner) @ down).max() - ((eye.upper - corner) @ down).min())
        margin = np.array([0.36 * width, 0.26 * width + 0.1 * tall])
        low, high = everything.min(0) - margin, everything.max(0) + margin
        h, w = picture.shape[:2]
        self.left, self.top = (int(np.clip(np.floor(v), 0, n - 1)) for v, n in zip(low, (w, h), strict=True))
        right, bottom = (int(np.clip(np.ceil(v) + 1, 1, n)) for v, n in zip(high, (w, h), strict=True))
        crop = picture[self.top : max(bottom, self.top + 1), self.left : max(right, self.left + 1)]
        self.crop = np.ascontiguousarray(crop)
        self.rims = rims.mask[self.top :, self.left :][: crop.shape[0], : crop.shape[1]] if rims else None
        self.dark_rims = rims is not None and rims.dark
        y, x = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]].astype(np.float32)
        x0, y0 = corner - (self.left, self.top)
        self.x, self.y = x, y
        self.down = down.astype(np.float32)
        # Place in the eye's own coordinates: u from corner to corner, v in pixels below their line.
        u = ((x - x0) * along[0] + (y - y0) * along[1]) / width
        self.u, self.v = u.astype(np.float32), ((x - x0) * down[0] + (y - y0) * down[1]).astype(np.float32)

        def curve(points: np.ndarray) -> np.ndarray:
            """A curve's height (v) over every pixel; beyond the corners the corners' own."""
            offset = points - corner
            at, height = offset @ along / width, offset @ down
            order = np.argsort(at, kind="stable")
            return np.interp(self.u.ravel(), at[order], height[order]).reshape(u.shape).astype(np.float32)

        self.up, self.low = curve(eye.upper), curve(eye.lower)
        self.low = np.maximum(self.low, self.up + 0.02)
        # The crease joins the corners outside of them, so that the lid's skin has no hard end there.
        fade = np.clip(1.0 - np.maximum(np.abs(self.u - 0.5) - 0.5, 0) / 0.16, 0, 1)
        self.crease = np.minimum(curve(eye.crease), self.up - 0.03 * width)
        self.tall = tall
        self.inside_u = smooth(-0.16, 0.0, self.u) * smooth(1.16, 1.0, self.u) * fade
        self.span = self.low - self.up
        self.radius = float(eye.radius)
        centre = eye.iris - corner
        self.iris_u, self.iris_v = float(centre @ along), float(centre @ down)
        self.iris_x, self.iris_y = (float(k) for k in eye.iris - (self.left, self.top))
        self.along = along.astype(np.float32)
        aside = along
        if level is not None:
            length = float(np.hypot(*level))
            if length > 0 and float(level @ along) > 0.7 * length:
                aside = np.asarray(level, np.float64) / length
        self._aside = float(aside[0]), float(aside[1])
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
        self.lab = cv2.cvtColor(self.crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        self.light = self.lab[..., 0]
        self.soft = self._softness()
        self._lower_edge()
        self._find_skin(picture)
        self._find_lashes(picture)
        #: Whether it is a real one, 1, or drawn, 0. Eyes as tall as the round ones of comics are drawn.
        self.real = float(smooth(*SHADED, self.shaded) * smooth(0.59, 0.53, self.tall / self.width))
        self._find_white(picture)
        #: The same of its lashes.
        self.fine = self.real if self.has_white else 0.0
        self._shut(picture)
        self._lift(picture)
        self._find_iris(picture)
        self._find_ends()
        self._rest(picture)

    def _softness(self) -> float:
        """Over how many pixels edges go in this picture, which may have been enlarged: drawn ones
        are as soft.
        """
        dx, dy = (cv2.Sobel(self.light, cv2.CV_32F, *axis, scale=0.125) for axis in ((1, 0), (0, 1)))
        inside = (self.v > self.up - 0.1 * self.width) & (self.v < self.low + 0.1 * self.width)
        inside &= (self.u > 0) & (self.u < 1)
        least, most = max(0.012 * self.width, 0.7), max(0.09 * self.width, 0.7)
        if not inside.any():
            return least
        dark, bright = np.percentile(self.light[inside], [3, 97])
        steepest = float(np.percentile(np.hypot(dx, dy)[inside], 98))
        return float(np.clip(0.7 * (bright - dark) / max(steepest, 1.0), least, most))

    def _lower_edge(self) -> None:
        """Move the upper edge from where skin ends to where the lashes above the eye do, so that these go with the lid."""
        w, iris = self.width, (self.iris_x, self.iris_y)
        self.thick = self.solid = np.zeros(self.u.shape, np.float32)
        u = np.linspace(0, 1, 41)
        edge = np.interp(u, *self._edge_table())
        tall = np.maximum(np.interp(u, *self._column(self.low)) - edge, 1e-3)

        def seen(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """How light places (N, 41) are, and how far from the iris's middle, in its radii."""
            mx, my = self._at(np.broadcast_to(u * w, heights.shape), heights)
            light = cv2.remap(self.light, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            return cv2.blur(light, (3, 1)), np.hypot(mx - iris[0], my - iris[1]) / self.radius

        inside, far = seen(edge + np.linspace(0.25, 0.9, 16)[:, None] * tall)
        offs = np.arange(-0.05, LASH_TALL, max(0.01, 0.5 / w)) * w
        light, _ = seen(edge + offs[:, None])
        light[offs[:, None] > 0.45 * tall] = 255
        first = light[offs < 0.6 * LASH_TALL * w].argmin(0)
        columns = np.arange(len(u))
        dark = light[first, columns]
        # Before the iris, whose top is as dark as they are, lashes are as thick as beside it.
        bright = np.percentile(inside, 75, axis=0)
        clear = (bright - dark > 25) & ((far < 1.1).mean(0) < 0.15) & (u > 0.06) & (u < 0.94)
        if clear.sum() < 4:
            return
        below = np.arange(len(offs))[:, None] > first
        behind = (far < 1.1).mean(0) >= 0.15
        bright = np.where(behind, np.percentile(inside, 50, axis=0), bright)
        ends = ((light > dark + 0.5 * (bright - dark)) & below).argmax(0)
        # A line is as dark all through, a shadow gets lighter.
        solid = ((light < dark + 0.25 * (bright - dark)) & (np.arange(len(offs))[:, None] < ends)).sum(0)
        curves = []
        for value in (np.maximum(offs[ends], 0), solid * (offs[1] - offs[0])):
            plain = np.interp(u, u[clear], value[clear])
            # Where they stand out from the iris they may be thicker, but not than elsewhere.
            most = np.minimum(value, 1.1 * np.percentile(value[clear], 80))
            stands = behind & (bright - dark > 40)
            value = np.where(stands, np.maximum(most, plain), plain)
            value = np.array([np.median(value[max(k - 5, 0) : k + 6]) for k in columns])
            value = np.minimum(value, 0.45 * tall) * smooth(0.0, 0.12, np.minimum(u, 1 - u))
            value = cv2.GaussianBlur(value[None].astype(np.float32), (0, 0), 2.5)[0]
            curves.append(np.interp(self.u.ravel(), u, value).reshape(self.u.shape).astype(np.float32))
        self.thick, self.solid = curves
        # The iris and the shade below a lid are dark as well.
        self.thick = np.minimum(self.thick, np.maximum(self.solid, 0.18 * (self.low - self.up)))
        self.up = self.up + self.thick
        self.low = np.maximum(self.low, self.up + 0.02)
        self.span = self.low - self.up
        middle = (self.u > 0.02) & (self.u < 0.98)
        self.tall = max(float(self.span[middle].max()), 1.0) if middle.any() else self.tall

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
            if isinstance(value, np.ndarray) and value.shape[:2] == shape:
                setattr(self, name, np.ascontiguousarray(value[box]))
        # Rows and columns are counted from the new corner.
        self.x, self.y = self.x - np.float32(columns[0]), self.y - np.float32(rows[0])
        self.iris_x, self.iris_y = self.iris_x - float(columns[0]), self.iris_y - float(rows[0])
        self.left, self.top = self.left + int(columns[0]), self.top + int(rows[0])

    def _settle(self) -> None:
        """Bring what frames need into the form in which they take it: colours in whole levels, layers premultiplied."""
        self.white, self.skin = (cv2.convertScaleAbs(colours) for colours in (self.white, self.skin))
        self.iris, self.lashes = (
            cv2.convertScaleAbs(np.dstack([colours * alpha[..., None], 255 * alpha]))
            for colours, alpha in ((self.iris, self.iris_alpha), (self.hang_rgb, self.hang_alpha))
        )
        self.line_tone = cv2.convertScaleAbs(np.broadcast_to(self.line_tone, self.crop.shape).copy())
        # They get finer towards the corners.
        self.taper = 1 / np.maximum(smooth(-0.10, 0.18, self.u) * smooth(1.10, 0.82, self.u), 0.1)
        # Where they meet steeply, their distance is less than that straight down.
        slope = cv2.Sobel(self.closed, cv2.CV_32F, 1, 0, scale=0.125) * self.along[0]
        slope += cv2.Sobel(self.closed, cv2.CV_32F, 0, 1, scale=0.125) * self.along[1]
        self.steep = 1 / np.sqrt(1 + slope * slope)
        self.taper = self.taper * self.steep
        # Real ones are thickest at the outer side.
        outward = self.u if self.side == "right" else 1 - self.u
        bold = (
            smooth(-0.05, 0.35, self.u) * smooth(1.05, 0.65, self.u) * (0.7 + 0.4 * smooth(0.2, 0.8, outward))
        )
        swells = self.fine if self.has_white else 0.8
        self.steep = self.steep / (1 - swells * (1 - np.maximum(bold, 0.3)))
        middle = np.abs(self.u - 0.5) < 0.3
        solid = float(np.median(self.solid[middle])) / self.width if middle.any() else 0.0
        thick = 0.014 + (1 - self.fine) * np.clip(0.5 * solid - 0.014, 0.006, 0.026)
        thick = max((thick if self.has_white else 0.03) * self.width, 0.9)
        self.line_thick = float(np.hypot(thick, 0.5 * self.soft))
        self.line_alpha = self.line_alpha * (thick / self.line_thick) ** 0.5
        self.line_alpha = self.line_alpha + self.fine * (0.72 - self.line_alpha)
        if not self.has_white:
            # Dark rims meet.
            self.line_alpha = max(self.line_alpha, 0.85 * (thick / self.line_thick) ** 0.5)
        begins, ends = (-0.02, 0.1) if self.has_white else (-0.1, 0.12)
        self.line_alpha = self.line_alpha * smooth(begins, ends, 0.5 - np.abs(self.u - 0.5))
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
        self.lash_x = (self.u + np.float32(0.1)) * np.float32((self.lashes.shape[1] - 1) / 1.2)
        # A ball turns least at its sides; its edges under the lids stay what the picture shows, and so does skin within a round outline.
        # Lights belong to it.
        ball = np.minimum(self.v - self.up, self.low - self.v) > np.float32(0.5 * self.soft)
        ball &= (self.u > 0) & (self.u < 1) & (self.light < 0.75 * float(np.median(self.cheek_colour)))
        ball = cv2.morphologyEx(ball.astype(np.uint8), cv2.MORPH_CLOSE, _disc(0.08 * self.width))
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
        self._ball_at = _bounds(opening)
        self._low_rows = _bounds(v > highest - soft)[0]
        self._up_rows = _bounds(v < deepest + 0.06 * w + soft)[0]
        self._lash_rows_at = _bounds((v > self.up - soft) & (v < self.closed + self.reach + soft))[0]
        self._front_rows = _bounds(self.front > 0)[0]

    def _band_colour(
        self, picture: np.ndarray, chosen: np.ndarray, like: np.ndarray | None = None
    ) -> np.ndarray:
        """The colour of a band of skin over u, (33, 3), at `NODES`.

        Args:
            like: a colour (3,): the pixels nearest to it count, since rims, hair and brows lie in the band too.
        """
        u, colour, light = self.u[chosen], picture[chosen], self.light[chosen]
        if len(u) < 8:
            return np.broadcast_to(
                np.median(picture, axis=(0, 1)) if like is None else like, (len(NODES), 3)
            ).copy()
        if like is None:
            middle = np.percentile(light, 60)
            weight = np.exp(-(((light - middle) / 25) ** 2))
        else:
            off = np.linalg.norm(colour - like, axis=1)
            near = max(float(np.percentile(off, 8)), 14.0)
            weight = 1 / (1 + (off / near) ** 4)
        kernel = np.exp(-0.5 * ((NODES[:, None] - u[None]) / 0.09) ** 2) * weight[None]
        # Where the band is covered, the skin of its other parts.
        kernel += 0.02 * weight[None] * np.exp(-0.5 * ((NODES[:, None] - u[None]) / 0.35) ** 2)
        return (kernel @ colour / np.maximum(kernel.sum(1, keepdims=True), 1e-6)).astype(np.float32)

    def _spread(self, colours: np.ndarray) -> np.ndarray:
        """Colours over u, (33, 3), at every pixel."""
        u = self.u.ravel()
        return np.stack([np.interp(u, NODES, colours[:, k]) for k in range(3)], -1).reshape(*self.u.shape, 3)

    def _find_skin(self, picture: np.ndarray) -> None:
        """The lid's skin where the eye is open now: from the lid above to the skin below, smoothly."""
        room = self.up - self.crease
        self.start = self.crease - 0.5 * room
        sides = (self.u > -0.1) & (self.u < 1.1)
        above = (self.v > self.start) & (self.v < self.up - 0.4 * room) & sides
        below = (self.v > self.low + 0.09 * self.width) & (self.v < self.low + 0.22 * self.width) & sides
        cheek = self._band_colour(picture, below)
        self.cheek_colour = self._spread(cheek)
        self.lid_colour = self._spread(self._band_colour(picture, above, cheek.mean(0)))
        # Where lids meet is one smooth curve, close to the lower lid; in round eyes it hangs less.
        deep = max(float(self.low.max()), 1e-3)
        least = 0.2 * self.width
        hangs = min(deep, least + 0.35 * max(deep - least, 0))
        # The lower lid rises to meet the upper one, which comes to lie a little above its edge.
        u = np.linspace(0, 1, 97)
        low = np.interp(u, *self._column(self.low))
        arc = 1 - np.square(2 * u - 1)
        round_eye = float(smooth(0.24, 0.38, deep / self.width))
        share, hang = 0.85 - 0.2 * round_eye, 0.045
        closed = share * np.where(low > 0, low * (hangs / deep), low) + hang * self.width * arc
        closed = cv2.GaussianBlur(closed[None], (0, 0), 4.0, borderType=cv2.BORDER_REPLICATE)[0]
        # Corners stay where they are, and beside them nothing comes down.
        closed -= closed[0] + (closed[-1] - closed[0]) * u
        ends = np.interp([0, 1], *self._edge_table())
        closed += ends[0] + (ends[1] - ends[0]) * u
        closed = np.interp(self.u.ravel(), u, closed).reshape(self.u.shape)
        # How much sooner than its share an edge comes down: beside the corners, and of lids that are not round all over.
        sooner = 0.35 * (1 - round_eye)
        self.arch = sooner + (1 - sooner) * np.square(2 * np.clip(self.u, 0, 1) - 1).astype(np.float32)
        inside = (self.u > 0) & (self.u < 1)
        self.closed = np.where(inside, np.maximum(closed, self.up), self.up).astype(np.float32)
        rough = picture - cv2.GaussianBlur(picture, (0, 0), 1.0)
        self.grain = float(np.median(np.abs(rough[below]))) if below.any() else 0.0
        self.flat = self.grain < 0.35
        # How uneven the skin below is: drawn skin is one colour or a smooth gradient.
        # Without rims that cross it.
        plain = below
        if self.rims is not None:
            plain = below & (cv2.dilate(self.rims.astype(np.uint8), _disc(0.05 * self.width)) == 0)
            plain = plain if plain.sum() > 0.2 * below.sum() else below
        known = plain.astype(np.float32)
        usual, weight = (cv2.GaussianBlur(v, (0, 0), 0.12 * self.width) for v in (self.light * known, known))
        rough = self.light - usual / np.maximum(weight, 1e-3)
        level = max(float(self.cheek_colour.mean()), 1.0)
        self.shaded = 100 * float(np.percentile(np.abs(rough[plain]), 25)) / level if plain.any() else 0.0

    def _shut(self, picture: np.ndarray) -> None:
        """The picture with closed lids but for their lashes: opening and lashes filled smoothly from the skin around."""
        w = self.width
        edge = self._edge_band(max(0.01, 0.8 / w))
        self.from_edge = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5)
        lashes = self._old_lashes()
        reach = np.maximum(self.lash_up, 0.02 * w) + 0.03 * w
        zone = (
            (self.v > self.up - reach) & (self.v < self.low + 0.07 * w) & (self.u > -0.04) & (self.u < 1.04)
        )
        # Round eyes are steep beside their corners.
        opening = (self.v > self.up) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
        zone |= cv2.dilate(opening.astype(np.uint8), _disc(0.07 * w)) > 0
        # Between the corners lashes hang together with the edge all the way; folds lie beyond skin.
        folds = (self.v < self.up - self.lash_up - 0.16 * w) & (self.u > 0.02) & (self.u < 0.98)
        lashes[folds] = 0
        # There are hardly any beside the inner corner, and beside the outer one they do not go down.
        inward = self.u - 1 if self.side == "left" else -self.u
        beyond, deep = (lashes > 0) & (inward < -1.04), self.v > self.up + 0.06 * w
        if (beyond & deep).sum() > 0.3 * beyond.sum():
            # A fold that runs down past the corner is none.
            lashes[(inward < -1) | ((inward < -0.86) & (self.from_edge > 0.06 * w))] = 0
        lashes[(inward > 0.05) | ((inward < -1) & (self.v > self.up + 0.05 * w))] = 0
        if not self.has_white:
            # Dark eyes go on into their corners.
            near = cv2.dilate(opening.astype(np.uint8), _disc(0.12 * w)) > 0
            dark = self.light < 0.6 * float(np.median(self.cheek_colour))
            lashes |= (near & dark & (np.abs(self.u - 0.5) > 0.42)).astype(np.uint8)
        grow = _disc(0.03 * w)
        hole = zone | (cv2.dilate(lashes, grow) > 0)
        thin = self._thin()
        # What is in front of the eye.
        if self.rims is None:
            self.rim = np.zeros(self.u.shape, np.float32)
        else:
            rim = self._thick_rims() if self.dark_rims else self._coloured_rims()
            self.rim = cv2.dilate(rim, _disc(0.015 * w))
        still = np.maximum(self.rim, self._dark_around(lashes, thin))
        self.front = cv2.GaussianBlur(still.astype(np.float32), (0, 0), max(0.7, 0.5 * self.soft))
        self.front[self.front < 0.03] = 0
        self.has_front = bool(self.front.max() > 0.2)
        self._find_fold(lashes)
        if self.has_fold:
            # A fold that meets the lashes somewhere is none; they are darker than a faint one.
            faint = thin < 2.2 * self.fold_depth
            lashes[faint & (self.v < self.cut) & (self.u > 0.02) & (self.u < 0.98)] = 0
            lashes[(self.v < self.cut - 0.03 * w) & (np.abs(self.u - 0.5) > 0.35)] = 0
        # Lashes are short, and longer at the outer side; what is less dark is a shadow.
        far = self.up - self.v
        outward = self.u - 0.5 if self.side == "right" else 0.5 - self.u
        longest = (0.15 + 0.12 * smooth(0.2, 0.45, outward) - 0.09 * smooth(0.1, 0.4, -outward)) * w
        foot = (lashes > 0) & (far < 0.05 * w)
        black = float(np.percentile(thin[foot], 70)) if foot.any() else 0.0
        dense = (
            cv2.blur((lashes > 0).astype(np.float32), (2 * round(0.08 * w) + 1, 2 * round(0.03 * w) + 1))
            > 0.6
        )
        shadow = (far > 0.06 * w) & (thin < np.where(dense, 0.8, 0.4) * black)
        lashes[((far > longest) | shadow) & (outward < 0.48)] = 0
        # What belongs to the open eye, and to neither skin nor fold, with its blur.
        blur = 0.5 * max(self.soft - 0.02 * w, 0)
        line = blur + 0.03 * w if self.has_fold else np.maximum(self.lash_up, 0.02 * w) + 0.015 * w + blur
        bar = (self.v > self.up - line) & (self.v <= self.up)
        bar &= (self.u > 0.0) & (self.u < 1.0)
        strokes = cv2.dilate(lashes, _disc(0.03 * w + blur)) > 0
        if not self.has_white:
            # Nor do the dark rims of eyes without one.
            near = cv2.dilate(opening.astype(np.uint8), _disc(0.2 * w)) > 0
            dark = self.light < 0.8 * float(np.median(self.cheek_colour))
            rims = cv2.morphologyEx((near & dark).astype(np.uint8), cv2.MORPH_OPEN, _disc(0.01 * w)) > 0
            strokes |= cv2.dilate(rims.astype(np.uint8), _disc(0.03 * w)) > 0
        gone = strokes | bar | (cv2.dilate(opening.astype(np.uint8), _disc(0.05 * w + blur)) > 0)
        # Nor do tips that are left.
        tips = (cv2.dilate(strokes.astype(np.uint8), _disc(0.06 * w)) > 0) & (thin > max(0.2 * black, 6.0))
        tips &= (self.v < self.up) & (self.v > (self.cut if self.has_fold else self.up - 0.3 * w))
        tips &= (outward > -0.46) & (outward < (0.46 if self.fine > 0.5 else 0.62))
        gone |= cv2.dilate(tips.astype(np.uint8), _disc(0.02 * w)) > 0
        strokes = strokes | (gone & (self.v < self.up))
        gone &= self.front < 0.5
        # Nor does the lower lid's rim with its shade.
        rim = (self.v > self.low) & (self.v < self.low + 0.10 * w) & (self.u > -0.02) & (self.u < 1.02)
        known = (~gone & ~rim & (self.front < 0.05)).astype(np.float32)
        around = ~gone & (self.front < 0.3)
        behind = _filled(picture, around.astype(np.float32)) if around.any() else picture
        behind = cv2.GaussianBlur(behind, (0, 0), max(0.02 * w, 0.7))
        # Shadows around an eye and the dark behind a face say little of its lid.
        usual = float(np.median(self.cheek_colour.mean(2)))
        known *= 0.02 + 0.98 * smooth(0.3, 0.6, picture.mean(2) / max(usual, 1.0)).astype(np.float32)
        clean = _filled(picture, known) if known.any() else picture
        clean = cv2.GaussianBlur(clean, (0, 0), max(0.02 * w, 0.7))
        self.texture = self._texture_beside(picture, hole)
        # Specks that are left of them are no skin.
        close = cv2.dilate(gone.astype(np.uint8), _disc(0.15 * w)) > 0
        specks = (thin > 6) & ~gone & (self.v > self.up - 0.3 * w) & (self.v < self.up) & (self.front < 0.3)
        specks &= np.abs(self.u - 0.5) < 0.7
        _, labels, stats, _ = cv2.connectedComponentsWithStats(specks.astype(np.uint8), connectivity=8)
        small = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) < 0.2 * w
        small[0] = False
        gone |= (cv2.dilate(small[labels].astype(np.uint8), _disc(0.03 * w)) > 0) & close
        changed = cv2.morphologyEx((gone | rim).astype(np.uint8), cv2.MORPH_CLOSE, _disc(0.05 * w)) > 0
        fresh = cv2.GaussianBlur(changed.astype(np.float32), (0, 0), max(0.015 * w, 0.7))
        # Wide shadows beside an eye go on over its lid, hair and rims do not.
        wide = cv2.dilate(((self.rim > 0) | (thin > 10)).astype(np.uint8), _disc(0.02 * w)) == 0
        wide &= np.abs(self.u - 0.5) > 0.5
        free = (~changed & ((self.front < 0.05) | wide)).astype(np.float32)
        if self.fine < 0.5:
            # A drawn line says nothing of the colours beside it.
            lines = cv2.morphologyEx(self.light, cv2.MORPH_BLACKHAT, _disc(0.04 * w)) > max(8, 5 * self.grain)
            free[cv2.dilate(lines.astype(np.uint8), _disc(0.02 * w)) > 0] = 0
        own = self._own_lid(picture, known, clean, thin) if self.has_fold else None
        seeds, colours = free, picture
        if own is not None:
            # What is seen of a lid under its fold counts, however thin it is.
            strip = (self.v > self.cut) & (self.v < self.cut + 0.06 * w) & (np.abs(self.u - 0.5) < 0.42)
            seeds, colours = np.maximum(free, strip), np.where(strip[..., None], own, picture)
        lid = clean
        if free.any():
            # The lid's skin goes down to where lids meet.
            lid = _membrane(colours, seeds, w)
            above = _membrane(colours, seeds * (self.v < self.closed), w)
            over = smooth(0.01 * w, -0.03 * w, self.v - self.closed) * (0.6 if self.has_fold else 0.3)
            over *= smooth(0.6, 0.44, np.abs(self.u - 0.5))
            lid = lid + (above - lid) * over[..., None]
        whole = np.zeros_like(known)
        if self.fine > 0.5 or (self.has_fold and self.has_white):
            lid, whole = self._unrolled(picture, known, lid)
        lid = lid + self.texture
        # Where lashes were outside of the lid there is skin.
        away = cv2.GaussianBlur((strokes | bar).astype(np.float32), (0, 0), max(0.012 * w, 0.6))
        away = held(1.6 * away) * (1 - self.front)
        inner = smooth(0.0, 0.12, 0.5 - np.abs(self.u - 0.5))
        # Those that hang together with hair stay for good.
        hair = cv2.GaussianBlur(self.front, (0, 0), max(0.06 * w, 1.0))
        stays = smooth(0.25, 0.05, hair)
        beyond = strokes & (np.abs(self.u - 0.5) > 0.5)
        keeps = self.fine < 0.5 and bool(beyond.any()) and float((stays[beyond] < 0.5).mean()) > 0.15
        if keeps:
            # A drawn one of which a part would be left stays as a whole.
            outer = smooth(0.1, 0.3, outward)
            stays = stays * (1 - outer)
        away *= np.maximum(inner, stays)
        skin = picture + (behind + self.texture - picture) * away[..., None]
        feather = max(0.02 * w, 0.7)
        if self.has_fold:
            fresh = fresh * smooth(-feather, feather, self.v - self.cut)
        share = (
            np.maximum(held(2.5 * fresh), whole) * (1 - self.front) * smooth(0.82, 0.7, np.abs(self.u - 0.5))
        )
        if keeps:
            share *= np.maximum(inner, 1 - outer)
        self.skin = np.clip(skin + (lid - skin) * share[..., None], 0, 255).astype(np.float32)
        # How much of each pixel is lash, before the skin behind it.
        light, own = behind.mean(2), picture.mean(2)
        depth = max(float(np.percentile((light - own)[strokes], 90)) if strokes.any() else 0.0, 20.0)
        # Real ones are as soft as they are, drawn ones are there or not.
        least, most = 0.12 - 0.07 * self.fine, 0.6 + 0.35 * self.fine
        self.stroke = held((light - own - least * depth) / (most * depth)) * held(
            1.6 * cv2.GaussianBlur(strokes.astype(np.float32), (0, 0), max(0.012 * w, 0.6))
        )
        self.stroke *= (self.v < self.up + 0.5 * self.soft) * (1 - self.front)
        self.stroke *= smooth(longest, 0.75 * longest, far) * smooth(0.0, 0.03, 0.5 - np.abs(self.u - 0.5))
        if self.fine:
            # Towards the corners, past which they do not come down, they get shorter.
            most = (0.01 + 0.6 * (0.5 - np.abs(self.u - 0.5))) * w
            self.stroke *= 1 - self.fine * (1 - smooth(1.3 * most, 0.5 * most, far))
        if not self.has_white:
            self.stroke[:] = 0
        self._take_lashes(strokes | bar)
        self.cover = np.maximum(away, share)
        if self.fine > 0.5:
            self._smooth_out()
        self.tapers = smooth(0.22, 0.02, 0.5 - np.abs(self.u - 0.5)).astype(np.float32)
        aside = np.maximum(smooth(0.04, -0.04, self.u), smooth(0.96, 1.04, self.u))
        self.beside = smooth(0.0, 0.1, self.cover) * (aside if self.has_white else 1.0)

    def _take_lashes(self, strokes: np.ndarray) -> None:
        """The lashes as they hang down from a closed lid's edge: a band over u and the distance from the edge."""
        w = self.width
        strokes = strokes & (self.v < self.up)
        dark = strokes & (self.light <= np.percentile(self.light[strokes], 30)) if strokes.any() else strokes
        tone = np.median(self.crop[dark], axis=0) if dark.any() else self.line_tone
        edge = self._edge_table()
        uu, rr = np.meshgrid(self.lash_u, self.lash_rows)
        mx, my = self._at(uu * w, np.interp(uu.ravel(), *edge).reshape(uu.shape) + rr)
        alpha = cv2.remap(
            self.stroke.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        # On the edge they begin.
        foot = np.abs(self.lash_rows) < 0.03 * w
        most = alpha[foot].max(0)
        alpha[self.lash_rows > -0.02 * w] = most
        alpha *= smooth(0.04 * w, 0.01 * w, self.lash_rows)[:, None] if self.has_white else 0
        alpha *= (smooth(0.0, 0.06, self.lash_u) * smooth(1.0, 0.94, self.lash_u))[None]
        alpha *= np.clip((self.reach - np.abs(self.lash_rows)) / (0.25 * self.reach), 0, 1)[:, None]
        self.hang_alpha = ((1 - 0.65 * self.fine) * alpha).astype(np.float32)
        self.hang_rgb = np.broadcast_to(tone, (*alpha.shape, 3)).astype(np.float32)
        # A dark line on a lid is of the lid's hue.
        lid = self.lid_colour.mean((0, 1))
        dark = np.minimum(self.line_tone, tone)
        self.line_tone = (lid * (dark.mean() / max(float(lid.mean()), 1.0))).astype(np.float32)
        band = self._edge_band(0.06)
        if not self.has_white and band.any():
            # Rims have their own.
            darkest = band & (self.light <= np.percentile(self.light[band], 25))
            self.line_tone = np.median(self.crop[darkest], axis=0).astype(np.float32)

    def _find_fold(self, lashes: np.ndarray) -> None:
        """Where the lid's own skin ends and what hangs over it begins: `cut`, float32 (h, w), heights. A fold that is seen ends it;
        without one, skin begins right above the lashes.
        """
        w = self.width
        u = np.linspace(0.04, 0.96, 47)
        top = np.interp(u, *self._column(self.lash_up))
        edge = np.interp(u, *self._edge_table())
        offs = np.arange(0.0, 0.26 * w, max(0.01 * w, 0.5))
        rows = edge[None] - offs[:, None]
        mx, my = self._at(np.broadcast_to(u * w, rows.shape), rows)
        line = cv2.morphologyEx(self.light, cv2.MORPH_BLACKHAT, _disc(0.08 * w))
        seen = cv2.remap(line, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        # Folds go along the edge, lashes across.
        seen = cv2.blur(seen, (7, 1), borderType=cv2.BORDER_REPLICATE)
        front = cv2.remap(self.front, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1)
        # Hair, brows and rims are no folds.
        blocked = np.maximum.accumulate(front > 0.3, axis=0)
        seen[blocked] = 0
        # A line of the lashes' own foot is none either: a fold has skin below it.
        seen -= np.minimum.accumulate(np.vstack([seen[:1], seen[:-1]]), axis=0)
        usual = float(np.median(line))
        cost = -np.minimum(seen, 40.0)
        step = 2
        total, back = cost.copy(), np.zeros(cost.shape, int)
        for k in range(1, cost.shape[1]):
            best = np.full(cost.shape[0], np.inf)
            for d in range(-step, step + 1):
                shifted = np.full(cost.shape[0], np.inf)
                lo, hi = max(d, 0), cost.shape[0] + min(d, 0)
                shifted[lo:hi] = total[lo - d : hi - d, k - 1] + 1.5 * abs(d)
                better = shifted < best
                best[better], back[better, k] = shifted[better], -d
            total[:, k] += best
        path = np.zeros(cost.shape[1], int)
        path[-1] = int(total[:, -1].argmin())
        for k in range(cost.shape[1] - 1, 0, -1):
            path[k - 1] = path[k] + back[path[k], k]
        depth = seen[path, np.arange(len(path))]
        self.fold_depth = float(np.median(depth))
        self.has_fold = bool(np.mean(depth > max(7.0, 1.2 * usual)) > 0.6)
        if self.fine < 0.5:
            # Nor is the upper rim of a drawn line.
            self.has_fold &= bool(np.median(offs[path]) > 0.06 * w)
        # Lashes that go on above it make none.
        mx, my = self._at(u * w, rows[path, np.arange(len(path))] - 0.06 * w)
        over = cv2.remap(lashes, mx[None], my[None], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
        self.has_fold &= bool(over.mean() < 0.3)
        # Below it there is skin, as above.
        fold = np.interp(self.u.ravel(), u, rows[path, np.arange(len(path))]).reshape(self.u.shape)
        middle = (self.u > 0.1) & (self.u < 0.9)
        lid = middle & (self.v > fold) & (self.v < self.up - 0.03 * w)
        skin = middle & (self.v < fold - 0.06 * w) & (self.v > fold - 0.14 * w) & (self.front < 0.3)
        if lid.any() and skin.any():
            self.has_fold &= bool(np.percentile(self.light[lid], 70) > 0.75 * np.median(self.light[skin]))
        bottom = edge - top - 0.02 * w
        if self.has_fold:
            # To the fold's lower end.
            ends = path.copy()
            for k in range(len(path)):
                while ends[k] > 0 and seen[ends[k], k] > 0.3 * depth[k]:
                    ends[k] -= 1
            at = cv2.medianBlur(offs[ends].astype(np.float32)[None], 5)[0]
            fold = edge - cv2.GaussianBlur(at[None], (0, 0), 1.5)[0]
            bottom = np.minimum(fold, edge - 0.04 * w)
        bottom = cv2.GaussianBlur(
            bottom[None].astype(np.float32), (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE
        )[0]
        self.cut = np.interp(self.u.ravel(), u, bottom).reshape(self.u.shape).astype(np.float32)

    def _column(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A field that depends on u alone, as (u, value) of some columns."""
        order = np.argsort(self.u.ravel())
        at = np.linspace(-0.1, 1.1, 61)
        picked = np.searchsorted(self.u.ravel()[order], at).clip(0, self.u.size - 1)
        return at, field.ravel()[order][picked]

    def _own_lid(
        self, picture: np.ndarray, known: np.ndarray, clean: np.ndarray, thin: np.ndarray
    ) -> np.ndarray | None:
        """The colours of the skin that is seen between a fold and the lashes, over u alone, float32 (h, w, 3); None where none is."""
        w = self.width
        room = self.up - self.cut
        room = room - np.minimum(0.4 * room, self.lash_up)
        inside = (self.u > -0.05) & (self.u < 1.05)
        strip = inside & (self.v > self.cut + 0.25 * room) & (self.v < self.cut + 0.9 * room)
        above = inside & (self.v < self.cut - 0.07 * w)
        above &= self.v > self.cut - 0.16 * w
        # A lid may be darker than what is around it, by make-up; folds and the feet of lashes are darker still.
        clear = strip & (known > 0)
        usual = float(np.percentile(thin[clear], 25)) if clear.any() else 0.0
        dark = np.maximum(thin - np.where(strip, usual, 0.0), 0)
        weight = known * np.exp(-np.square(dark / 12.0))
        weight *= 2.0 * strip + 0.01 * above
        weight = weight.ravel()
        chosen = weight > 0
        if chosen.sum() < 20:
            return None
        u, colour, weight = self.u.ravel()[chosen], picture.reshape(-1, 3)[chosen], weight[chosen]
        # A lid's light half: what is dark is a fold's shadow or the foot of a lash.
        order = np.argsort(colour.mean(1))
        nodes, sure = [], []
        for node in NODES:
            off = np.square(u - node)
            near = weight * (np.exp(-0.5 * off / 0.09**2) + 0.12 * np.exp(-0.5 * off / 0.3**2) + 1e-4)
            along = np.cumsum(near[order]) / near.sum()
            pick = order[(along > 0.4) & (along < 0.95)]
            pick = pick if len(pick) else order
            nodes.append((near[pick, None] * colour[pick]).sum(0) / near[pick].sum())
            sure.append(near.sum())
        base = self._spread(np.float32(nodes))
        # What little is seen says little.
        sure = held(np.float32(sure) / (0.002 * w * w)).astype(np.float32)
        sure = np.interp(self.u.ravel(), NODES, sure).reshape(self.u.shape).astype(np.float32)
        # It is no lighter than what is around.
        base *= np.minimum(1.03 * clean.mean(2) / np.maximum(base.mean(2), 1), 1)[..., None]
        return clean + (base - clean) * sure[..., None]

    def _smooth_out(self) -> None:
        """Fade creases and folds of `skin` above where lids meet: a lid that closes pulls them smooth."""
        w = self.width
        light = cv2.GaussianBlur(self.skin.mean(2), (0, 0), max(0.02 * w, 0.7))
        pad = round(0.2 * w) + 1
        padded = cv2.copyMakeBorder(light, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        deep = cv2.morphologyEx(padded, cv2.MORPH_BLACKHAT, _disc(0.15 * w))[pad:-pad, pad:-pad]
        where = smooth(0.0, 0.06 * w, self.closed - self.v) * smooth(0.34 * w, 0.24 * w, self.up - self.v)
        where *= smooth(0.62, 0.45, np.abs(self.u - 0.5))
        where *= smooth(0.4, 0.05, cv2.GaussianBlur(self.front, (0, 0), 0.08 * w))
        deep = cv2.GaussianBlur(deep, (0, 0), max(0.01 * w, 0.5))
        self.skin *= (1 + 0.75 * where * deep / np.maximum(light, 8.0))[..., None]
        self.skin = self.skin.clip(0, 255).astype(np.float32)
        self.cover = np.maximum(self.cover, where * held(deep * 0.5)).astype(np.float32)

    def _unrolled(
        self, picture: np.ndarray, known: np.ndarray, lid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`lid` float32 (h, w, 3) with the skin between crease and lashes drawn out down to where lids meet, and where that is, (h, w):
        at the crease it is the picture's own, so that nothing shows where it begins.

        Args:
            known: how much of each pixel is skin, float32 (h, w).
        """
        w = self.width
        top = self.cut if self.has_fold else self.crease
        at, heights = self._column(top)
        heights = cv2.GaussianBlur(
            heights[None].astype(np.float32), (0, 0), 3.0, borderType=cv2.BORDER_REPLICATE
        )[0]
        top = np.interp(self.u.ravel(), at, heights).reshape(self.u.shape).astype(np.float32)
        room = np.maximum(0.6 * (self.up - top - 0.6 * self.lash_up), 0.02 * w)
        deep = np.maximum(self.v - top, 0)
        # One to one at first, then ever more drawn out.
        back = room * (1 - np.exp(-deep / room)) - deep
        x, y = (
            place + back * np.float32(step) for place, step in zip((self.x, self.y), self.down, strict=True)
        )
        # What is much darker than around is a lash or a fold.
        usual = lid.mean(2)
        known = known * (0.03 + 0.97 * smooth(0.6, 0.85, picture.mean(2) / np.maximum(usual, 1.0))).astype(
            np.float32
        )
        weighted = np.dstack([picture * known[..., None], known])
        drawn = cv2.remap(weighted, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Without the streaks that this makes.
        inside = self.v < self.closed + 0.1 * w
        if self.has_fold:
            # Above a fold there is skin of another colour.
            inside &= self.v > top
        drawn *= inside[..., None].astype(np.float32)
        wide = cv2.GaussianBlur(drawn, (0, 0), sigmaX=0.08 * w, sigmaY=0.03 * w)
        near = cv2.GaussianBlur(drawn, (0, 0), max(0.015 * w, 0.6))
        total = near + (wide - near) * smooth(0.02 * w, 0.12 * w, deep)[..., None]
        # Where little is seen of it, as what is around.
        least = np.float32(0.03 if self.has_fold else 0.2)
        total = total + np.dstack([lid, np.ones_like(known)]) * least
        unrolled = total[..., :3] / total[..., 3:]
        # It is a ball that is covered: less light falls on its sides and on its edge.
        tall = np.maximum(self.closed - top, 1.0)
        way = np.clip(deep / tall, 0, 1)
        light = 0.06 * np.sin(np.pi * way) ** 2 * smooth(0.5, 0.15, np.abs(self.u - 0.5))
        light -= 0.10 * smooth(0.12 * w, 0.0, self.closed - self.v)
        # It is hardly darker than the cheek below it, whatever shade lies on the fold above.
        middle = (np.abs(self.u - 0.5) < 0.3) & (self.v > self.up) & (self.v < self.closed)
        cheek = float(self.cheek_colour[middle].mean()) if middle.any() else 0.0
        lacks = 0.9 * cheek / max(float(unrolled[middle].mean()), 1.0) if middle.any() else 1.0
        light += 0.7 * max(min(lacks, 1.3) - 1, 0.0) * smooth(0.0, 0.5, way)
        unrolled *= (1 + light)[..., None]
        within = smooth(0.0, 0.06 * w, self.v - top) * smooth(0.02 * w, -0.02 * w, self.v - self.closed)
        within *= smooth(0.52, 0.40, np.abs(self.u - 0.5))
        return lid + (unrolled - lid) * within[..., None], within.astype(np.float32)

    def _lift(self, picture: np.ndarray) -> None:
        """Both lids as layers that slide with their edges, uint8 RGBA (h, w, 4): the picture without what is in front of it;
        alpha ends at the edge, and goes on in lashes.
        """
        soft = np.float32(1 / self.soft)
        bare = picture
        if self.has_front:
            clear = (self.front < 0.02).astype(np.float32)
            bare = picture + (_filled(picture, clear) - picture) * self.front[..., None]
        # Lashes in the crop's own place, by their band.
        rows, columns = self.lash_alpha.shape
        per_row = (rows - 1) / (2 * self.reach)
        my = (self.v - self.up + np.float32(self.reach)) * np.float32(per_row)
        mx = (self.u + np.float32(0.1)) * np.float32((columns - 1) / 1.2)
        tone = cv2.remap(self.lash_rgb, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # From the edge down it gets less.
        alpha = np.maximum.accumulate(self.lash_alpha[::-1])[::-1]
        alpha = cv2.remap(alpha, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        if not self.has_white:
            alpha[:] = 0
        alpha[self.v < self.up] = 1
        skin = held((self.up - self.v) * soft + np.float32(0.5))
        # Close to an edge the picture is half white, half lid: there the lid's colours are those a little further away.
        fringes = [
            edge * np.float32(0.9 * self.soft) * smooth(1.1 * self.soft, 0.2 * self.soft, np.abs(off))
            for edge, off in ((-1, self.v - self.up), (1, self.v - self.low))
        ]
        above, below = (
            cv2.remap(
                bare,
                self.x + shift * self.down[0],
                self.y + shift * self.down[1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for shift in fringes
        )
        above = self._without_iris(above)
        hangs = smooth(-0.3 * self.soft, 0.7 * self.soft, self.v - self.up)[..., None]
        colours = above + (tone - above) * hangs
        upper = np.dstack([colours, 255 * np.maximum(skin, alpha)])
        lower = np.dstack([below, 255 * held((self.v - self.low) * soft + np.float32(0.5))])
        self.upper_lid, self.lower_lid = (np.clip(lid, 0, 255).astype(np.uint8) for lid in (upper, lower))
        self._find_ways()

    def _find_ways(self) -> None:
        """How a lid's skin and lashes go along with its edge as it comes down."""
        w = self.width
        middle = np.abs(self.u - 0.5) < 0.4
        usual = float(np.percentile(self.lash_up[middle], 75)) if middle.any() else 0.0
        #: Above its edge a line goes along as it is, lashes up to `stiff` sink, and over `room` more the skin stretches.
        solid = float(np.median(self.solid[middle])) / w if middle.any() else 0.0
        self.line = float(0.03 + (1 - self.fine) * np.clip(1.2 * solid - 0.03, 0.0, 0.05)) * w
        self.stiff = float(np.clip(usual + 0.01 * w, self.line + 0.01 * w, 0.16 * w))
        room = cv2.GaussianBlur(self.up - (self.cut if self.has_fold else self.crease), (0, 0), 0.05 * w)
        self.room = np.maximum(room - self.stiff, 0.08 * w).astype(np.float32)
        #: How far what is above the corners goes: times the lid's share of its way, and times that and what is left of it.
        way = (self.closed - self.up).astype(np.float32)
        self.follow, self.follow_arch = (
            cv2.GaussianBlur(one, (0, 0), 0.1 * w) for one in (way, way * self.arch)
        )
        #: The lid's edge before the iris, how far it goes there, and how much sooner than its share.
        self.before_iris = tuple(
            float(np.interp(self.iris_u / w, *self._column(field)))
            for field in (self.up, self.closed - self.up, self.arch)
        )
        #: Of a lid's way, from where to where the skin that unfolds takes the place of what is seen now. Fur stretches well.
        later = 0.06 * (1 - self.fine)
        self.bares = (0.06 + later, 0.55 + later) if self.has_white else (0.35, 0.85)
        # The line between the corners is left until the lid is nearly closed, and has one of its own.
        self.leaves = 0.6, 0.95
        inwards = 0.5 - np.abs(self.u - 0.5)
        self.between = smooth(-0.02, 0.06, inwards).astype(np.float32)
        self.line_tall = (self.line * (0.4 + 0.6 * smooth(0.0, 0.25, inwards))).astype(np.float32)
        self.tapers = np.maximum(self.tapers, np.float32(0.85))
        #: Of a blink, where lids begin to dim what is between them, and how much they do at last: drawn ones less.
        self.dims = float(0.45 - 0.2 * self.fine), float(0.4 + 0.25 * self.fine)
        #: How long hanging lashes are at the end, as a share.
        self.hangs = float(0.35 + 0.2 * self.fine)
        #: Up to so far above its edge a lid that opens wide goes along as it is: with its lashes.
        self.rigid = np.float32(np.clip(np.percentile(self.lash_up, 75), 0.02 * w, 0.09 * w))

    def _without_iris(self, lid: np.ndarray) -> np.ndarray:
        """A lid's colours without what shows of the iris between its lashes: there they are as beside it."""
        w, off = self.width, self.v - self.up
        zone = (off > -(LASH_TALL + 0.05) * w) & (self.away < 1.12 * self.radius + self.soft)
        if not self.has_white or not zone.any():
            return lid
        reach = 1.15 * self.radius / w
        u = np.clip(np.array([self.iris_u / w - reach, self.iris_u / w + reach]), 0.02, 0.98)
        edge = np.interp(u, *self._edge_table())
        sides = []
        for at, top in zip(u, edge, strict=True):
            x, y = self._at(np.broadcast_to(np.float64(at * w), off.shape), top + off)
            sides.append(cv2.remap(lid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        share = np.clip((self.u - u[0]) / max(u[1] - u[0], 1e-3), 0, 1).astype(np.float32)[..., None]
        beside = sides[0] * (1 - share) + sides[1] * share
        # Lashes before it are darker.
        lighter = smooth(-8.0, 8.0, lid.mean(2) - beside.mean(2)) * smooth(
            0, 0.1 * self.radius, 1.12 * self.radius + self.soft - self.away
        )
        lighter *= smooth(-0.03 * w, 0.0, off + self.thick + 0.02 * w)
        return lid + (beside - lid) * lighter[..., None].astype(np.float32)

    def _skin_ends(self) -> np.ndarray:
        """Where skin above the eye ends, at the upper lid's edge or at a rim, (N, 2) in pixels of the picture."""
        u = np.linspace(-0.35, 1.35, 35)
        order = np.argsort(self.u.ravel())
        sorted_u, sorted_up = self.u.ravel()[order], self.up.ravel()[order]
        height = sorted_up[np.searchsorted(sorted_u, u).clip(0, self.u.size - 1)]
        if self.rim.any():
            rows, columns = np.nonzero(self.rim)
            at, v = self.u[rows, columns], self.v[rows, columns]
            for k, place in enumerate(u):
                near = np.abs(at - place) < 0.06
                height[k] = min(height[k], float(v[near].min())) if near.any() else height[k]
        x, y = self._at(u * self.width, height)
        return np.column_stack([x + self.left, y + self.top])

    def _dark_around(self, lashes: np.ndarray, thin: np.ndarray) -> np.ndarray:
        """What is much darker than the lid and does not move with it, float32 (h, w) of 0 and 1: a brow, hair, the dark beside a face
        that is half turned away.
        """
        w = self.width
        lid = cv2.cvtColor(self.lid_colour.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)[..., 0]
        beside = cv2.dilate(lashes, _disc(0.06 * w)) > 0
        brow = (self.light < 0.62 * lid) & (self.v < self.up - 0.15 * w) & ~beside
        brow = cv2.morphologyEx(brow.astype(np.uint8), cv2.MORPH_OPEN, _disc(0.02 * w))
        if self.dark_rims:
            # What is dark up there hangs together with the rims, which are known.
            brow[:] = 0
        # Brows go higher than folds.
        _, labels = cv2.connectedComponents(brow, connectivity=8)
        high = (self.v < self.up - 0.26 * w) & (brow > 0)
        high[0] |= brow[0] > 0
        brow = np.isin(labels, np.unique(labels[high])) & (brow > 0)
        outside = (self.v < self.up) | (self.u < 0) | (self.u > 1)
        dark = (self.light < 0.4 * lid) & (thin < 10) & outside & (self.from_edge > 0.1 * w) & ~beside
        if not self.has_white:
            # The rim of an eye that is dark itself belongs to it.
            opening = (self.v > self.up) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
            dark &= cv2.dilate(opening.astype(np.uint8), _disc(0.2 * w)) == 0
        dark = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, _disc(0.08 * w))
        return (brow | dark).astype(np.float32)

    def _coloured_rims(self) -> np.ndarray:
        """Rims of another colour than lashes, float32 (h, w) of 0 and 1: not what is alike of the eye itself."""
        w = self.width
        outward = self.u - 1 if self.side == "right" else -self.u
        eye = (self.v > self.up - 0.14 * w) & (self.v < self.low + 0.02 * w) & (np.abs(self.u - 0.5) < 0.38)
        lashes = (self.from_edge < 0.17 * w) & (outward > -0.15)
        lashes |= (self.from_edge < 0.1 * w) & (np.abs(self.u - 0.5) < 0.56)
        rims = (self.rims & ~(eye | lashes)).astype(np.uint8)
        # What is left of an eye's own outline is small.
        _, labels, stats, _ = cv2.connectedComponentsWithStats(rims, connectivity=8)
        large = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) > 0.3 * w
        return (large[labels] & (rims > 0)).astype(np.float32)

    def _thick_rims(self) -> np.ndarray:
        """Rims that are dark, thicker than lashes and pass over the eye, float32 (h, w); 1 also close to its edge."""
        w = self.width
        light = cv2.cvtColor(self.lid_colour.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)[..., 0]
        dark = (self.light < 0.45 * light).astype(np.uint8)
        # With the light that lies on them.
        dark = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, _disc(0.02 * w))
        thick = cv2.morphologyEx(dark, cv2.MORPH_OPEN, _disc(0.045 * w))
        thick = cv2.dilate(thick, _disc(0.02 * w)) & dark
        thick[(self.from_edge < 0.17 * w) | ((self.v > self.up) & (self.u > -0.1) & (self.u < 1.1))] = 0
        _, labels = cv2.connectedComponents(thick, connectivity=4)
        # They pass over the whole eye; hair and lashes beside it do not.
        found = np.zeros(thick.shape, np.float32)
        for label in range(1, int(labels.max()) + 1):
            part = labels == label
            if np.ptp(self.u[part]) > 1:
                found[part] = 1
        return found if found.mean() < 0.5 else np.zeros_like(found)

    def _old_lashes(self) -> np.ndarray:
        """What is dark and hangs together with the upper lid's edge, uint8 (h, w): lashes and lines, also beyond the corners.

        What goes on beyond their reach is hair, a brow or a rim; of that only what is close to the edge counts.
        """
        w, edge = self.width, self._edge_band(0.045)
        if not edge.any():
            return np.zeros(self.u.shape, np.uint8)
        # Thin dark things stand out from what lies around them, shadows do not.
        off = self._thin()
        depth = max(float(np.percentile(off[edge], 85)), 12.0)
        near = (
            (self.u > -0.34) & (self.u < 1.34) & (self.v > self.up - 0.26 * w) & (self.v < self.up + 0.2 * w)
        )
        opening = (self.v > self.up + 0.03 * w) & (self.v < self.low) & (self.u > 0) & (self.u < 1)
        dark = ((off > 0.3 * depth) & near & ~opening).astype(np.uint8)
        # What comes together beside a corner, a fold and a line of lashes, is not one.
        corner = np.minimum(np.abs(self.u), np.abs(self.u - 1)) < 0.015
        dark[corner & ~edge] = 0
        _, labels = cv2.connectedComponents(dark, connectivity=8)
        tips = near & ((self.v < self.up - 0.24 * w) | (self.u < -0.33) | (self.u > 1.33))
        tips[[0, -1]] |= near[[0, -1]]
        tips[:, [0, -1]] |= near[:, [0, -1]]
        out = np.zeros(self.u.shape, np.uint8)
        # Those beside the corners begin there.
        start = (np.abs(self.v - self.up) < 0.045 * w) & (self.u > -0.08) & (self.u < 1.08)
        for label in set(np.unique(labels[start & (dark > 0)]).tolist()) - {0}:
            part = labels == label
            if (part & tips).any():
                # Most of it is lash, and hangs together with something else by chance; or hardly any is.
                close = part & (self.from_edge < 0.30 * w)
                between = (self.from_edge < 0.1 * w) & (np.abs(self.u - 0.5) < 0.46)
                part = close if close.sum() > 0.85 * part.sum() else part & between
            out |= part.astype(np.uint8)
        return out

    def _thin(self) -> np.ndarray:
        """By how much each pixel is darker than what is around anything as thin as a lash or fold, float32 (h, w)."""
        # What is dark at the rectangle's edge goes on beyond it.
        pad = round(0.2 * self.width) + 1
        padded = cv2.copyMakeBorder(self.light, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        return cv2.morphologyEx(padded, cv2.MORPH_BLACKHAT, _disc(0.15 * self.width))[pad:-pad, pad:-pad]

    def _edge_band(self, half: float) -> np.ndarray:
        """Pixels within so many widths above and below the upper lid's edge, bool (h, w)."""
        return (np.abs(self.v - self.up) < half * self.width) & (self.u > -0.02) & (self.u < 1.02)

    def _texture_beside(self, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """What the skin has on its colours, pores, cracks, strokes or fur, float32 (h, w, 3): that below the eye, or that above
        where the picture ends, at the eye's place.
        """
        w = self.width
        free = (~hole) & (self.front < 0.1) & (cv2.dilate(hole.astype(np.uint8), _disc(0.03 * w)) == 0)

        def finer(coarse: float) -> tuple[np.ndarray, float]:
            """What is finer than so many widths, and how much of it there is."""
            fine = picture - cv2.GaussianBlur(picture, (0, 0), max(coarse * w, 0.8))
            return fine, float(np.median(np.abs(fine[free]))) if free.sum() > 20 else 0.0

        if self.has_white:
            fine, usual = finer(0.02)
            # Wrinkles and folds are more than grain; cracks and strokes of paint are all over.
            rough = float(smooth(3.0, 5.0, usual))
            if rough > 0:
                fine, usual = finer(0.02 + 0.04 * rough)
            most = (1.5 + 4 * rough) * usual + 0.3
        else:
            fine, usual = finer(0.06)
            most = 3.5 * usual + 0.3
        best, known = np.zeros_like(fine), np.zeros(hole.shape, np.float32)
        tall = self.tall + 0.16 * w
        # Without seams, nor where the picture ends.
        clear = cv2.copyMakeBorder(free[1:-1, 1:-1].astype(np.float32), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        clear = cv2.GaussianBlur(clear, (0, 0), max(0.05 * w, 1.0), borderType=cv2.BORDER_CONSTANT)
        clear = held(2 * clear - 1)
        below, beside = self.down * tall, self.along * w
        shifts = [below, 0.7 * below]
        shifts += [sign * far * beside for far in (0.6, 1.0, 0.35) for sign in (1, -1)]
        # Above there are brows.
        shifts += [-0.8 * below, -1.2 * below]
        for dx, dy in shifts:
            x, y = (self.x + np.float32(dx)), (self.y + np.float32(dy))
            seen = cv2.remap(fine, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            there = cv2.remap(clear, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            share = there * (1 - known)
            best += seen * share[..., None]
            known += share
        return np.clip(best, -most, most)

    def _find_lashes(self, picture: np.ndarray) -> None:
        """What is dark along the upper lid's edge, as a band that moves with it: alpha and colour around the edge."""
        reach = 0.13 * self.width
        self.reach = reach
        lid = cv2.cvtColor(self.lid_colour.clip(0, 255).astype(np.uint8)[:, :], cv2.COLOR_RGB2LAB)[
            ..., 0
        ].astype(np.float32)
        offset = self.v - self.up
        band = (np.abs(offset) < 0.05 * self.width) & (self.u > 0.05) & (self.u < 0.95)
        dark = float(np.percentile(self.light[band], 8)) if band.any() else 0.0
        depth = np.maximum(lid - dark, 12.0)
        alpha = np.clip((lid - self.light - 0.12 * depth) / (0.75 * depth), 0, 1)
        # Along the edge's own coordinates: rows are offsets from it, columns u.
        rows = max(round(2 * reach), 8)
        self.lash_rows = np.linspace(-reach, reach, rows, dtype=np.float32)
        self.lash_u = np.linspace(-0.1, 1.1, max(round(1.2 * self.width), 12), dtype=np.float32)
        edge = self._edge_table()
        uu, rr = np.meshgrid(self.lash_u, self.lash_rows)
        height = np.interp(uu.ravel(), edge[0], edge[1]).reshape(uu.shape) + rr
        mx, my = self._at(uu * self.width, height)
        self.lash_rgb = cv2.remap(picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        a = cv2.remap(alpha.astype(np.float32), mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # From the darkest place near the edge upwards it is lash until it is skin for once: the fold above is none.
        middle = int(np.searchsorted(self.lash_rows, 0.0))
        step = 2 * reach / (rows - 1)
        near = slice(
            max(middle - max(round(0.09 * self.width / step), 1), 0),
            middle + max(round(0.03 * self.width / step), 1),
        )
        tops = np.zeros(a.shape[1], np.float32)
        for k in range(a.shape[1]):
            strong = near.start + np.flatnonzero(a[near, k] >= 0.6 * a[near, k].max())
            first = int(strong[np.abs(strong - middle).argmin()])
            clear = np.flatnonzero(a[:first, k] < 0.2)
            # What is dark all the way up is a rim or a brow.
            top = int(clear[-1]) if len(clear) else max(first - round(0.035 * self.width / step), 0)
            tops[k] = -self.lash_rows[top] if a[first, k] > 0.3 else 0.0
        # Few columns reach further than those beside them.
        wide = max(round(0.06 * len(tops)), 1)
        usual = np.array(
            [np.median(tops[max(k - wide, 0) : k + wide + 1]) for k in range(len(tops))], np.float32
        )
        usual = cv2.GaussianBlur(usual[None], (0, 0), max(0.5 * wide, 0.5))[0]
        above = -self.lash_rows[:, None] - usual[None]
        a *= smooth(0.05 * self.width, 0.02 * self.width, above)
        self._lash_tops = np.maximum(usual, 0.0)
        # Below the edge an iris is as dark as lashes: there the band is that of the columns beside it.
        far = np.hypot(mx - self.iris_x, my - self.iris_y)
        iris = (far < 1.12 * self.radius) & (rr > -0.01 * self.width)
        known = ~iris
        for row in range(middle, rows):
            if known[row].any() and not known[row].all():
                a[row] = np.interp(self.lash_u, self.lash_u[known[row]], a[row][known[row]])
        below = np.maximum(self.lash_rows, 0)[:, None]
        # A line that the iris or a light interrupts goes on.
        wide = max(round(0.22 * a.shape[1]), 1)
        columns = np.clip(
            np.arange(-wide, wide + 1)[:, None] + np.arange(a.shape[1])[None], 0, a.shape[1] - 1
        )
        a = np.maximum(a, np.median(a[:, columns], axis=1)).astype(np.float32)
        a *= np.exp(-((below / max(0.034 * self.width, 0.8)) ** 4))
        a *= np.clip((reach - np.abs(self.lash_rows)) / (0.25 * reach), 0, 1)[:, None]
        a *= (smooth(-0.1, 0.0, self.lash_u) * smooth(1.1, 1.0, self.lash_u))[None]
        # No sharper than the picture.
        self.lash_alpha = cv2.GaussianBlur(a, (0, 0), max(0.3 * self.soft, 0.5))
        weight = a + 1e-4
        # One colour per column, the darkest's: what shows through thin lashes is not theirs.
        weight = weight**3 * np.where(iris, 0.02, 1.0)
        tone = (self.lash_rgb * weight[..., None]).sum(0) / weight.sum(0)[:, None]
        tone = cv2.GaussianBlur(tone[None], (0, 0), max(0.04 * self.width, 1.0))[0]
        own = (np.clip(a, 0, 1) ** 0.5 * ~iris)[..., None]
        self.lash_rgb = (self.lash_rgb * own + tone[None] * (1 - own)).astype(np.float32)
        strong = float(np.percentile(a.max(0), 60))
        # Lashes or a drawn line of at least this darkness show where lids meet.
        self.line_tone = np.minimum(tone.mean(0), self.lid_colour.mean((0, 1)) * 0.4).astype(np.float32)
        self.line_alpha = (0.95 if self.flat else 0.8) - 0.25 * strong
        tops = cv2.dilate(self._lash_tops[None], np.ones((1, 2 * wide + 1)))[0]
        tops = cv2.GaussianBlur(tops[None], (0, 0), max(0.5 * wide, 0.5))[0]
        self.lash_up = np.interp(self.u.ravel(), self.lash_u, tops).reshape(self.u.shape).astype(np.float32)

    def _edge_table(self) -> tuple[np.ndarray, np.ndarray]:
        """The upper edge as (u, v) of some columns."""
        at = np.linspace(-0.1, 1.1, 61)
        order = np.argsort(self.u.ravel())
        picked = np.searchsorted(self.u.ravel()[order], at).clip(0, self.u.size - 1)
        return at, self.up.ravel()[order][picked]

    def _at(self, along: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crop coordinates of places in the eye's own (both in pixels)."""
        x0 = self.iris_x - self.iris_u * self.along[0] - self.iris_v * self.down[0]
        y0 = self.iris_y - self.iris_u * self.along[1] - self.iris_v * self.down[1]
        x = x0 + along * self.along[0] + down * self.down[0]
        y = y0 + along * self.along[1] + down * self.down[1]
        return x.astype(np.float32), y.astype(np.float32)

    def _find_white(self, picture: np.ndarray) -> None:
        """The eyeball without its iris: own pixels where it shows, a smooth surface where not."""
        edge = max(0.035 * self.width, 1.0)
        self.shows = (
            (self.v > self.up + edge) & (self.v < self.low - 0.6 * edge) & (self.u > 0.03) & (self.u < 0.97)
        )
        away = np.hypot(self.x - self.iris_x, self.y - self.iris_y)
        self.away = away
        white = self.shows & (away > 1.14 * self.radius)
        disc = self.shows & (away < 0.9 * self.radius)
        disc_light = float(np.median(self.light[disc])) if disc.any() else 60.0
        enough = white.sum() > max(0.08 * self.shows.sum(), 6)
        skin_light = float(np.median(self.cheek_colour))
        #: Of the iris, beside the skin's.
        self.darkness = disc_light / max(skin_light, 1.0)
        # Round eyes that the iris fills have none, nor have those of statues, whose irises are as light. In the shade of lids
        # a white is dark, but not as dark as the eye of a dog beside its fur.
        self.whiteness, self.has_white = 0.0, False
        if enough and disc.any() and self.radius < 0.35 * self.width:
            middle, high, most = np.percentile(self.light[white], [62, 80, 75])
            lighter = middle > disc_light + 12 or high > max(0.4 * skin_light, disc_light - 4)
            bright = self.light[white] >= middle
            off = np.median(self.lab[white][bright], axis=0) - np.median(self.lab[disc], axis=0)
            # What looks like the iris is none.
            differs = float(np.linalg.norm(off)) > 0.12 * skin_light
            self.has_white = bool(differs and lighter and most > max(0.5 * skin_light, disc_light + 2))
        if self._white_known is not None:
            self.has_white = self._white_known and bool(white.any())
        if not self.has_white:
            self._find_ball(picture)
            return
        self.white, self.white_seen = self._whole_white(picture)
        middle = self.shows & (np.abs(self.u - 0.5) < 0.4)
        light = self.white.mean(2)
        albedo = max(float(np.percentile(light[middle if middle.any() else self.shows], 88)), 1.0)
        self.white_tone = np.median(self.white[self.shows & (light > 0.85 * albedo)], axis=0)
        self.whiteness = albedo / max(skin_light, 1.0)
        # In the shade of lids it is never much darker than the skin.
        least = max(self._least_white or 0, 0.6 + 0.35 * self.real) * skin_light
        if least > albedo:
            lift = 1 + (least / albedo - 1) * (1 - self.white_seen)
            self.white = self.white * lift[..., None]
        # What lies on the eyeball, lids' and corners' shade, lies on the iris as well, but less is seen of it there.
        shade = cv2.GaussianBlur(self.white.mean(2), (0, 0), max(0.05 * self.width, 0.7))
        disc = self.shows & (self.away < 0.8 * self.radius)
        usual = float(np.median(shade[disc])) if disc.any() else max(albedo, least)
        self.shade = (np.clip(shade / max(usual, 1.0), 0.4, 1.0) ** 0.6).astype(np.float32)
        self.white = np.clip(self.white, 0, 255).astype(np.float32)

    def _whole_white(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The eyeball without its iris, float32 (h, w, 3), and where that is the picture's own (h, w), 0 to 1. What the picture does not
        show goes on from what it does, at the same share of the way from lid to lid, so that lids' shade goes on, too.
        """
        w, r = self.width, self.radius
        rim = max(0.10 * r, 1.2 * self.soft, 1.0)
        inside = (self.v > self.up) & (self.v < self.low) & (self.u > 0.0) & (self.u < 1.0)
        share, hue = self._white_share(inside & (self.away > r + 0.5 * rim), rim)
        # Over shares of the way across and down.
        rows, columns = np.linspace(0, 1, 33), np.linspace(0.0, 1.0, 97)
        edge = np.interp(columns, *self._edge_table())
        tall = np.maximum(np.interp(columns, *self._column(self.low)) - edge, 1e-3)
        mx, my = self._at(np.broadcast_to(columns * w, (33, 97)), edge + rows[:, None] * tall)
        # A ball is darker to its sides, and under its lid, but in flat drawings; where they are seen they are as they are.
        shade = 0.22 * smooth(0.2, 0.5, np.abs(self.u - 0.5))
        shade = shade + 0.30 * np.exp(-np.maximum(self.v - self.up, 0) / (0.07 * w))
        shade = 1 - smooth(0.3, 1.2, self.shaded) * shade
        # Where less light falls on the skin less falls on the ball.
        skin = self.cheek_colour.mean(2)
        shade = shade * np.clip(skin / max(float(np.median(skin[inside])), 1.0), 0.5, 1.5) ** 0.5
        shade = shade[..., None].astype(np.float32)
        colour = cv2.remap(picture / shade, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = cv2.remap(share, mx, my, cv2.INTER_LINEAR) ** 2
        weight *= np.minimum(tall / (0.06 * w), 1)
        if weight.sum() < 1:
            colour[:], weight = 0.9 * self.cheek_colour.mean((0, 1)), np.ones_like(weight)
        # Veins and lashes are darker than the white around them.
        light = colour.mean(2)
        usual = float(np.average(light, weights=weight))
        weight = weight * smooth(0.5, 0.9, light / max(usual, 1.0)) + 1e-9
        # Shade that is none does not make it much lighter than it is anywhere.
        seen = cv2.remap(picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).mean(2)
        usual = min(float(np.average(light, weights=weight)), 1.2 * float(np.average(seen, weights=weight)))
        fill, total = np.zeros_like(colour), np.zeros_like(weight)
        # Close to what is seen as there; far from it as all of it.
        for across, down, part in ((5.0, 2.0, 1.0), (16.0, 4.0, 0.02), (60.0, 12.0, 1e-3)):

            def spread(value: np.ndarray, sigmas: tuple[float, float] = (across, down)) -> np.ndarray:
                return cv2.GaussianBlur(
                    value, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT
                )

            fill += part * spread((colour * weight[..., None]).astype(np.float32))
            total += part * spread(weight.astype(np.float32))
        fill /= total[..., None]
        deep = np.clip((self.v - self.up) / np.maximum(self.span, 1e-3), 0, 1)
        at = np.clip(self.u, 0, 1) * np.float32(96), deep * np.float32(32)
        fill = cv2.remap(fill, *(k.astype(np.float32) for k in at), cv2.INTER_LINEAR)
        # It is no lighter than most of it, and in drawings hardly.
        most = (1.08 - 0.08 * smooth(*SHADED, self.shaded)) * usual
        fill *= np.minimum(most / np.maximum(fill.mean(2, keepdims=True), 1.0), 1)
        # What is red at its ends is not the white's own.
        fill += 0.6 * (hue * fill.mean(2, keepdims=True) - fill)
        fill = self._neutral(fill) * shade
        share = cv2.GaussianBlur(share, (0, 0), max(0.5 * self.soft, 0.5))
        return (fill + (picture - fill) * share[..., None]).astype(np.float32), share

    def _white_share(self, outside: np.ndarray, rim: float) -> tuple[np.ndarray, np.ndarray]:
        """How much of each pixel `outside` the iris, bool (h, w), is white, float32 (h, w): skin, the corner's red and lashes are none;
        and the white's colour (3,), of a mean of 1.
        """
        share = cv2.erode(outside.astype(np.uint8), _disc(max(0.4 * self.soft, 1.0))).astype(np.float32)
        chosen = share > 0
        if chosen.sum() < 6:
            return share, np.ones(3, np.float32)
        light, hue = self.light, self.lab[..., 1:]
        bright = chosen & (light >= np.percentile(light[chosen], 50))
        # Of what is bright the part that is least coloured.
        chroma = np.ptp(self.crop.astype(np.float32), axis=2)
        bright &= chroma <= np.percentile(chroma[bright], 50)
        colour = np.median(self.crop[bright], axis=0).astype(np.float32)
        usual, white = float(np.median(light[bright])), np.median(hue[bright], axis=0)
        share *= smooth(0.6, 0.82, light / max(usual, 1.0)) * smooth(1.5, 1.25, light / max(usual, 1.0))
        skin = cv2.cvtColor(self.cheek_colour.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)
        skin = np.median(skin[chosen].astype(np.float32), axis=0)[1:]
        way = skin - white
        length = float(np.hypot(*way))
        if length > 5:
            # Deeper in the white more of it may be red.
            along = ((hue - white) @ way) / length**2
            share *= smooth(1.0, 0.6, cv2.GaussianBlur(along, (0, 0), max(0.4 * self.soft, 0.6)))
        # Beside the iris, what is darker than the white is still iris.
        near = smooth(1.2, 2.0, self.away / (self.radius + rim))
        share *= np.maximum(
            smooth(0.62, 0.85, cv2.erode(light, _disc(0.015 * self.width)) / max(usual, 1.0)), near
        )
        return share.astype(np.float32), colour / max(float(colour.mean()), 1.0)

    def _neutral(self, white: np.ndarray) -> np.ndarray:
        """The colours of a real white float32 (h, w, 3) without the skin's that is mixed into a narrow one's few pixels: under any
        light it is less red.
        """
        skin = np.median(self.cheek_colour, axis=(0, 1))
        skin = skin / max(float(skin.mean()), 1.0)
        light = white.mean(2, keepdims=True)
        usual = white[self.shows] if self.shows.any() else white.reshape(-1, 3)
        usual = usual.mean(0) / max(float(usual.mean()), 1.0)
        off = skin - 1
        # How much of the skin's colour it has.
        has = float((usual - 1) @ off) / max(float(off @ off), 1e-4)
        less = max(has - SKIN_IN_WHITE, 0.0) * self.real
        return white - light * np.float32(less * off)

    def tint(self, tone: np.ndarray) -> None:
        """Give the white that the picture does not show the colour `tone` (3,)."""
        ratio = np.clip(tone / np.maximum(self.white_tone, 1.0), 0.8, 1.25)
        ratio = 1 + (ratio - 1) * (1 - self.white_seen[..., None])
        self.white = np.clip(self.white * ratio, 0, 255).astype(np.uint8)
        self._settle_ball()

    def _find_ball(self, picture: np.ndarray) -> None:
        """An eye without a white as it goes on behind its lids, uint8 RGB (h, w, 3)."""
        edge = self.shows & (self.v < self.low - 0.035 * self.width)
        filled = _filled(picture, edge.astype(np.float32)) if edge.any() else picture
        share = cv2.GaussianBlur(edge.astype(np.float32), (0, 0), max(0.02 * self.width, 0.7))[..., None]
        share = np.clip(2 * share - 1, 0, 1)
        self.ball = np.clip(filled + (picture - filled) * share, 0, 255).astype(np.uint8)
        self.white = self.ball.astype(np.float32)

    def _find_iris(self, picture: np.ndarray) -> None:
        """The iris as a whole disc, and the catch-lights that stay while it turns."""
        r = self.radius
        size = int(np.ceil(1.35 * r)) + 1
        self.iris_size = size
        dy, dx = np.mgrid[-size : size + 1, -size : size + 1].astype(np.float32)
        far = np.hypot(dx, dy)
        mx, my = self.iris_x + dx, self.iris_y + dy
        tex = cv2.remap(picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # Lashes hang over its top.
        hang = min((0.03 + 0.03 * self.fine) * self.width + 0.4 * self.soft, 0.18 * self.tall)
        clear = (self.v > self.up + hang) & (self.v < self.low - min(0.7 * self.soft, 0.18 * self.tall))
        clear &= (self.u > 0.02) & (self.u < 0.98)
        clear = clear if (clear & (self.away < r)).sum() > 20 else self.shows
        seen = cv2.remap(clear.astype(np.float32), mx, my, cv2.INTER_LINEAR) > 0.95
        # Up to the line along the lid's edge there may be iris, or lashes.
        maybe = (
            (self.v > self.up - self.thick + self.solid + 0.4 * self.soft) & (self.u > 0.02) & (self.u < 0.98)
        )
        maybe &= clear | (self.v < self.up + hang)
        maybe = (cv2.remap(maybe.astype(np.float32), mx, my, cv2.INTER_LINEAR) > 0.95) & ~seen
        if self.has_white:
            # Without the shade on it, which stays with the lids.
            shade = cv2.remap(self.shade, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            tex = tex / np.maximum(shade, 0.5)[..., None]
        light = tex.mean(2)
        if self.has_white:
            r *= self._disc_share(tex, (seen | maybe) & (np.abs(dy) < 0.5 * far))
        # The median over each ring, from what is seen; lower than the middle, so that catch-lights do not count.
        rings = np.arange(0, size + 2, 0.5, dtype=np.float32)
        profile = np.zeros((len(rings), 3), np.float32)
        last = None
        for k, ring in enumerate(rings):
            ringed = (np.abs(far - ring) < 1.0) & (far < 1.02 * r)
            near = seen & ringed
            if near.sum() < 0.2 * ringed.sum():
                near = (seen | maybe) & ringed
            if near.sum() > 3:
                order = np.argsort(light[near])
                middle = order[
                    int(0.25 * len(order)) : max(int(0.6 * len(order)), int(0.25 * len(order)) + 1)
                ]
                last = tex[near][middle].mean(0)
            if last is not None:
                profile[k] = last
        if last is None:
            profile[:] = (50, 42, 38)
        else:
            first = int(np.argmax(profile.any(1)))
            profile[:first] = profile[first]
        profile = cv2.GaussianBlur(profile[None], (0, 0), 1.2, borderType=cv2.BORDER_REPLICATE)[0]
        # At its rim the picture is half white, and a light in its middle is none of it.
        pure = max(r - 0.8 * max(self.soft, 0.1 * r), 0.6 * r)
        inner = int(np.searchsorted(rings, pure))
        darkest = int(profile[: inner + 1].mean(1).argmin())
        if self.real > 0.5:
            profile[:darkest] = profile[darkest]
        lighter = profile[inner:].mean(1) > profile[inner].mean()
        profile[inner:][lighter] = profile[inner]
        guess = np.stack([np.interp(far, rings, profile[:, k]) for k in range(3)], -1).astype(np.float32)
        over = light - guess.mean(2)
        span = float(np.percentile(light[seen], 95) - np.percentile(light[seen], 20)) if seen.any() else 60.0
        limit = float(np.clip(0.4 * span, 24.0, 40.0))
        within = (seen | maybe) & (far < 0.75 * r)
        if self.real > 0.5 and within.any():
            # In a dark one less is a light.
            lower = min(limit, max(0.5 * float(np.percentile(light[within], 50)), 18.0))
            # From above.
            limit = np.where(dy < 0.1 * r, np.float32(lower), np.float32(limit))
        # They are seen between lashes, too.
        open_ = (self.v > self.up - 0.9 * self.thick + 0.5 * self.soft) & (
            self.v < self.low - 0.4 * self.soft
        )
        open_ = cv2.remap(open_.astype(np.float32), mx, my, cv2.INTER_LINEAR) > 0.95
        spot = np.clip((over - 0.6 * limit) / (0.6 * limit), 0, 1) * open_ * (far < 0.97 * r)
        # What lies about the rim is the white beside it.
        count, parts = cv2.connectedComponents((spot > 0.2).astype(np.uint8), connectivity=8)
        white = [k for k in range(1, count) if np.median(far[parts == k]) > 0.72 * r]
        if self.real > 0.5 and count > 1:
            # Specks beside them are the picture's grain.
            sizes = np.array([float(spot[parts == k].sum()) for k in range(1, count)])
            white += [k + 1 for k in np.flatnonzero(sizes < 0.2 * sizes.max()).tolist()]
            # Below the middle there are lights of the iris's own.
            white += [
                k
                for k in range(1, count)
                if np.median(dy[parts == k]) > 0.15 * r and over[parts == k].max() < 2.2 * np.max(limit)
            ]
        spot *= (parts > 0) & ~np.isin(parts, white)
        # Drawn lights are a part of the drawn iris.
        lit = float((spot > 0.5).sum())
        many = lit > 0.22 * max(float((seen & (far < r)).sum()), 1.0) and lit > 0.2 * np.pi * r * r
        if many or not self.fine:
            spot = np.zeros_like(spot)
        spot = cv2.GaussianBlur(spot, (0, 0), 0.6)
        around = cv2.dilate(spot, _disc(max(0.07 * r, 0.03 * r + 0.6 * self.soft)))
        own = seen & (around < 0.08) & (far < 1.02 * r)
        # Beside its rim the white or a lid may show: what is lighter than the rest of its ring is none of it.
        beside = (far > 0.72 * r) & (over > max(0.35 * span, 14.0))
        if self.has_white:
            # Unless it looks more like the iris than like the white.
            white = cv2.remap(self.white, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            own_lab, *others = (
                cv2.cvtColor(k.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB).astype(np.float32)
                for k in (tex, white, guess)
            )
            # By hue more than by shade.
            far_off = [
                np.linalg.norm((own_lab - other) * np.float32((0.5, 2, 2)), axis=2) for other in others
            ]
            beside &= far_off[0] < far_off[1]
        own &= ~beside
        own &= (far < pure) | (over < 4)
        # Lashes are darker than its rings.
        if self.real > 0.5:
            own |= maybe & (around < 0.08) & (far < pure) & (np.abs(over) < max(0.12 * span, 10.0))
        mirror = own[:, ::-1] & ~own
        off = np.where(own[..., None], tex - guess, (tex - guess)[:, ::-1])
        # What is hidden goes on from what is seen.
        known = own + 0.35 * mirror
        near = guess + _filled(off, known.astype(np.float32))
        texture = np.where(own[..., None], tex, np.where(mirror[..., None], 0.5 * (off + guess + near), near))
        keep = cv2.GaussianBlur(own.astype(np.float32), (0, 0), max(0.04 * r, 0.7))[..., None]
        keep = np.clip(2.0 * keep - 1.0, 0, 1)
        self.iris = np.clip(texture * keep + near * (1 - keep), 0, 255).astype(np.float32)
        soft = max(0.10 * r, 1.0, self.soft)
        self.iris_alpha = np.clip((1.03 * r - far) / soft + 0.5, 0, 1).astype(np.float32)
        # Catch-lights in the crop's own place.
        whole = np.zeros(self.u.shape, np.float32)
        back_x, back_y = self.x - self.iris_x + size, self.y - self.iris_y + size
        whole = cv2.remap(
            spot.astype(np.float32), back_x, back_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        self.glint = cv2.convertScaleAbs(np.dstack([picture * whole[..., None], 255 * whole]))
        if whole.max() > 0.5:
            # Those that shine through lashes come out below them.
            hidden = float(np.percentile((self.up + 0.5 * self.soft - self.v)[whole > 0.5], 80))
            if hidden > 0:
                x, y = (
                    place - np.float32(min(hidden, 0.5 * r) * k)
                    for place, k in zip((self.x, self.y), self.down, strict=True)
                )
                self.glint = cv2.remap(self.glint, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        self.has_glint = bool(whole.max() > 0.1)

    def _disc_share(self, tex: np.ndarray, beside: np.ndarray) -> float:
        """How much smaller than its contour the iris is in a soft picture: where, on the mean, its colour is half-way to the white's.

        Args:
            tex: the iris and what is around it, float32 (n, n, 3).
            beside: which of it is to be seen left and right of the middle, bool (n, n).
        """
        n = tex.shape[0] // 2
        y, x = np.mgrid[-n : n + 1, -n : n + 1].astype(np.float32) / self.radius
        far, shares = np.hypot(x, y), []
        steps = np.arange(0.6, 1.32, 0.04, dtype=np.float32)
        for side in (beside & (x < 0), beside & (x > 0)):
            rings = [side & (np.abs(far - step) < 0.05) for step in steps]
            if min(ring.sum() for ring in rings) < 2:
                continue
            colours = np.stack([np.median(tex[ring], axis=0) for ring in rings])
            iris = np.median(colours[:5], axis=0)
            way = colours[-1] - iris
            length = float(way @ way)
            if length < 30.0**2:
                continue
            at = (colours - iris) @ way / length
            # The last place that looks more like the iris.
            half = int(np.flatnonzero(at <= 0.5)[-1]) + 1
            if 0 < half < len(steps):
                before, after = float(at[half - 1]), float(at[half])
                shares.append(float(steps[half - 1]) + 0.04 * (0.5 - before) / max(after - before, 1e-3))
        return float(np.clip(np.mean(shares), 0.78, 1.0)) if shares else 1.0

    def _rest(self, picture: np.ndarray) -> None:
        """Make the lids over an eye at rest the picture: what it shows before the eyeball, lashes, their shade, the corner's red and
        skin, belongs to the lids and stays while the eye moves.
        """
        if self.has_white:
            # As rough as what is around.
            unseen = 0.7 * self.fine * (1 - self.white_seen)[..., None]
            self.white = np.clip(self.white + self.texture * unseen, 0, 255).astype(np.float32)
            size = self.iris_size
            at = [
                (place - middle + size).astype(np.float32)
                for place, middle in ((self.x, self.iris_x), (self.y, self.iris_y))
            ]
            iris = cv2.remap(self.iris, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            disc = cv2.remap(self.iris_alpha, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[
                ..., None
            ]
            ball = self.white + (iris * self.shade[..., None] - self.white) * disc
            light = self.glint[..., 3:].astype(np.float32) * (disc / 255)
            ball = ball * (1 - light) + self.glint[..., :3] * disc
        else:
            ball = self.ball.astype(np.float32)
        w, soft = self.width, self.soft
        inside = smooth(-0.02, 0.02, self.u) * smooth(1.02, 0.98, self.u)
        corner = smooth(0.22, 0.1, np.minimum(self.u, 1 - self.u))
        # By how much of the way to skin a colour is another one.
        skin = np.linalg.norm(self.cheek_colour - self.white, axis=2) if self.has_white else 60.0
        enough = np.clip(0.5 * skin, 14.0, 50.0)
        unlike = 1 - self.white_seen if self.has_white else 1.0
        # Shade is a little of the darkest that there is.
        band = self._edge_band(0.05)
        dark = (
            picture[band][self.light[band] <= np.percentile(self.light[band], 5)].mean(0)
            if band.any()
            else 0.0
        )
        lids = []
        for lid, edge, sign in ((self.lower_lid, self.low, -1), (self.upper_lid, self.up, 1)):
            deep = sign * (self.v - edge)
            own = cv2.GaussianBlur(lid[..., 3].astype(np.float32) / 255, (0, 0), max(0.3 * soft, 0.5))
            at_edge = smooth(-1.5 * soft, -0.5 * soft, deep) * inside
            off = picture - ball
            # Lashes and lines are darker than the eyeball, skin and wet rims may be lighter.
            black = np.maximum((ball - dark).mean(2), 20.0)
            darker, lighter = held((-off.mean(2) - 3) / black), held((np.abs(off).max(2) - 4) / enough)
            reach = (0.08 + 0.06 * corner) * w + 0.5 * soft
            need = darker * smooth(reach, 0.4 * reach, deep)
            shade = need * smooth(1.0, 0.5, lighter * corner) * at_edge
            reach = np.maximum(0.04, 0.2 * corner) * w + 0.3 * soft
            lighter = lighter * smooth(reach, 0.5 * reach, deep) * unlike
            need = np.maximum(need, lighter if sign < 0 else lighter * corner) * at_edge
            # No sharper than the picture: what is seen of rims moves.
            need = cv2.GaussianBlur(need, (0, 0), (0.3 if self.has_white else 0.5) * soft)
            cover = np.maximum(own, need)
            # The colour with which it covers what is behind it as the picture shows.
            solved = (picture - (1 - cover[..., None]) * ball) / np.maximum(cover, 0.02)[..., None]
            solved = np.minimum(solved, np.maximum(picture, lid[..., :3]) + 10)
            solved = lid[..., :3] + (solved.clip(0, 255) - lid[..., :3]) * at_edge[..., None]
            if self.has_white:
                # Before the iris there are lashes and shade as beside it.
                layer, weight = self._beside_iris(np.dstack([solved * shade[..., None], shade]), edge)
                there = np.maximum(layer[..., 3], own)
                colours = (lid[..., :3] * own[..., None] + layer[..., :3]) / np.maximum(
                    own + layer[..., 3], 1e-3
                )[..., None]
                weight = (weight * at_edge)[..., None]
                solved, cover = solved + (colours - solved) * weight, cover + (there - cover) * weight[..., 0]
            lid = np.rint(np.dstack([solved.clip(0, 255), 255 * cover])).astype(np.uint8)
            lids.append(lid)
            ball = ball + (lid[..., :3] - ball) * (lid[..., 3:].astype(np.float32) / 255)
        self.lower_lid, self.upper_lid = lids

    def _beside_iris(self, layer: np.ndarray, edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Before the iris what `layer` float32 (h, w, n) shows beside it, as far from the lid's `edge`; and where that is, (h, w)."""
        w = self.width
        reach = (1.12 * self.radius + 0.8 * self.soft) / w
        at, height = self._column(edge)
        u = np.array([self.iris_u / w - reach, self.iris_u / w + reach])
        sides, trust = [], smooth(0.02, 0.12, np.array([u[0], 1 - u[1]]))
        for k, top in zip(np.clip(u, 0.05, 0.95), np.interp(np.clip(u, 0.05, 0.95), at, height), strict=True):
            x, y = self._at(np.broadcast_to(np.float64(k * w), edge.shape), top + self.v - edge)
            sides.append(cv2.remap(layer, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        across = np.clip((self.u - u[0]) / max(u[1] - u[0], 1e-3), 0, 1)
        shares = np.stack([(1 - across) * (trust[0] + 1e-3), across * (trust[1] + 1e-3)])
        shares = (shares / np.maximum(shares.sum(0), 1e-6)).astype(np.float32)
        last = (1.12 + 0.15 * self.fine) * self.radius + (0.8 + 0.4 * self.fine) * self.soft
        weight = smooth(last, last - 0.1 * self.radius - 0.3 * self.soft, self.away)
        return sides[0] * shares[0][..., None] + sides[1] * shares[1][..., None], weight.astype(np.float32)

    def _find_ends(self) -> None:
        """How far the iris goes to each side: to the corners, and under both lids."""
        r, w = self.radius, self.width
        # Its edge comes to the corner. In narrow eyes hardly any white is seen: there little of it shows.
        open_ = float(smooth(0.9, 1.4, self.tall / r))
        room, most = 0.95 * min(r, 0.3 * w), (1.15 + 0.3 * open_) * r
        self.to_right = float(np.clip(w - room - self.iris_u, 0.2 * r, most))
        self.to_left = float(np.clip(self.iris_u - room, 0.2 * r, most))
        # An eye turns as far as any, and is held softly where its corner is near.
        self.turn_right, self.turn_left = (
            float(min(most / far, 2.0)) for far in (self.to_right, self.to_left)
        )
        # How high the upper lid goes, and how far above it the skin gives way: real ones by a sixth, to half as tall as wide.
        self.rise = float(np.clip(0.5 * w - self.tall, 0.12 * self.tall, 0.17 * self.tall))
        if self.has_white:
            # It goes on covering the iris.
            covered = float(np.interp(self.iris_u / w, *self._edge_table())) - (self.iris_v - r)
            self.rise = float(np.clip(covered - 0.1 * r, 0.12 * self.tall, self.rise))
        # How far the lower one comes up.
        self.squint = min(0.24, 0.10 * w / max(self.tall, 1.0))
        close = (
            (self.rim > 0)
            & (self.v > self.low)
            & (self.v < self.low + 0.12 * w)
            & (np.abs(self.u - 0.5) < 0.4)
        )
        if close.any():
            # A rim that lies on the lower lid would go along.
            self.squint *= 0.35
        self.gives_way = np.float32(max(0.34 * w, 0.95 * float(self.span.max())))
        # Brows stay where they are.
        self.gives_way_above = np.float32(max(min(self.gives_way, 0.2 * w), 1.7 * self.rise))
        comes_up = float(np.maximum(self.low - self.closed, 0).max())
        self.gives_way_below = max(0.28 * w, 1.5 * comes_up)
        self.to_up = min(0.60 * r, (0.30 + 0.12 * open_) * self.tall)
        self.to_down = min(0.72 * r, 0.45 * self.tall)
        if not self.has_white:
            # Eyes that are all iris turn a little behind their lids.
            self.rise = min(self.rise, 0.05 * w)
            self.to_right = self.to_left = 0.12 * w
            self.turn_right = self.turn_left = 1.0
            self.to_up = self.to_down = min(0.10 * w, 0.12 * self.tall)
            if self.darkness > STONE:
                self.to_right = self.to_left = self.to_up = self.to_down = 0.0

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
        if shut > 0:
            self._draw_lashes(out, upper, shut)
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
            + 0.06 * squint
        )
        return follow * (1 - wanted.blink) + wanted.blink

    def _edges(self, wanted: EyeAmounts) -> tuple[np.ndarray, np.ndarray]:
        """Heights of both lids' edges at every pixel."""
        blink, down = wanted.blink, wanted.down
        lowered = self._lowered(wanted)
        rise = self.squint * wanted.squint * (1 - blink)
        # The lower lid gives way to an eye that looks down, and follows one that looks up.
        follow = 0.35 * self.to_up * max(-down, 0.0) * max(1 - 2 * blink, 0.0)
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
                # Of an iris that turns up half is seen below a lid that comes down, as long as that is so at rest.
                edge, way, arch = self.before_iris
                lowered = max(self._lowered(wanted), 0.0)
                hidden = edge + way * lowered * (1 + arch * max(1 - lowered, 0.0)) - self.iris_v
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

    def _draw_lashes(self, out: np.ndarray, upper: np.ndarray, shut: float) -> None:
        """The band of lashes along the moved edge, hanging down, and the line where lids meet."""
        at = self._lash_rows_at
        part, offset = out[at], self.v[at] - upper[at]
        hang = float(smooth(0.6, 1.0, shut))
        if hang > 0:
            rows = self.lashes.shape[0]
            per_row = (rows - 1) / (2 * self.reach)
            my = offset * (self.taper[at] * np.float32(per_row / (-0.1 - (self.hangs - 0.1) * shut)))
            my += np.float32(self.reach * per_row)
            lashes = cv2.remap(
                self.lashes, self.lash_x[at], my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
            )
            lay_over(part, lashes if hang == 1 else cv2.convertScaleAbs(lashes, alpha=hang))
        # One line from corner to corner, whatever the lashes are.
        line = cv2.exp(np.square(offset * self.steep[at]) * np.float32(-1 / self.line_thick**2))
        mix_in(part, self.line_tone[at], line * (self.line_alpha[at] * np.float32(shut)))

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


def _bounds(wanted: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns between which bool (h, w) is anywhere true; of nothing the first pixel."""
    found = []
    for axis in (1, 0):
        at = np.flatnonzero(wanted.any(axis))
        found.append(slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 1))
    return found[0], found[1]


def _disc(radius: float) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(round(radius), 1) + 1,) * 2)


#: Columns at which the skin's colours are measured, in u.
NODES = np.linspace(-0.2, 1.2, 33).astype(np.float32)


def _filled(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`picture` float32 (h, w, 3) where `known` (h, w) is 1; elsewhere the smooth continuation of that (pull and push)."""
    colour, weight = picture * known[..., None], known.astype(np.float32)
    levels = []
    while min(weight.shape) > 2:
        levels.append((colour, weight))
        colour, weight = cv2.pyrDown(colour), cv2.pyrDown(weight)
    value = colour.sum((0, 1)) / max(float(weight.sum()), 1e-6) * np.ones_like(colour)
    value = np.where(weight[..., None] > 1e-4, colour / np.maximum(weight, 1e-4)[..., None], value)
    for colour, weight in reversed(levels):
        value = cv2.resize(value, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.clip(1.5 * weight, 0, 1)[..., None]
        own = colour / np.maximum(weight, 1e-4)[..., None]
        value = value * (1 - share) + own * share
    return value


def _membrane(picture: np.ndarray, known: np.ndarray, width: float) -> np.ndarray:
    """`picture` float32 (h, w, 3) where `known` (h, w) is 1; elsewhere the smoothest surface from rim to rim, which no edge betrays.

    Args:
        width: of the eye, in pixels: the finer ones are left out.
    """
    h, w = known.shape
    k = min(44.0 / width, 1.0)
    size = max(round(k * w), 3), max(round(k * h), 3)
    sure = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    colours = cv2.resize(picture * known[..., None], size, interpolation=cv2.INTER_AREA)
    small = np.where(sure[..., None] > 0.5, colours / np.maximum(sure, 0.5)[..., None], 0)
    # Grain at the rim would make streaks.
    held_at = (sure > 0.5).astype(np.float32)
    near = cv2.GaussianBlur(held_at, (0, 0), 1.1)
    even = cv2.GaussianBlur(small, (0, 0), 1.1) / np.maximum(near, 1e-3)[..., None]
    value = _filled(even, held_at)
    fixed, kept = (held_at > 0.5).astype(np.uint8), value.copy()
    kernel = np.float32([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])
    for _ in range(100):
        value = cv2.filter2D(value, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        cv2.copyTo(kept, fixed, value)
    return cv2.resize(value, (w, h), interpolation=cv2.INTER_CUBIC)
