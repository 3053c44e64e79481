"""The rectangle around one eye, with the eye's own coordinates and what its picture is like there."""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.realtime.rig.closed_eyes import closed_eye
from livepuppet.realtime.rig.contours import EyeContours
from livepuppet.realtime.rig.ramps import smooth
from livepuppet.realtime.rig.rims import Rims

#: Columns at which the skin's colours are measured, in u.
NODES = np.linspace(-0.2, 1.2, 33).astype(np.float32)


class EyeCrop:
    """One eye's rectangle of the picture. What is found in it later are attributes of the classes that build on this one.

    Args:
        picture: uint8 RGB (H, W, 3).
        eye: its contours in the picture's pixels.
        side: `left` or `right`, of the picture.
        rims: of glasses, in the whole picture.
        level: (2,), from the left eye to the right one: both look aside along it, however their corners lie.
        closed: what `closed_eyes.closed_eye` says of it; None to ask.

    Attributes:
        u, v: each pixel's place, float32 (h, w): from corner to corner, and in pixels below the line through both.
        up, low, crease: heights (v) of both lids' edges and of the crease over every pixel.
        lab, light: the crop's colours and lightness, float32.
        soft: over how many pixels edges go.
    """

    def __init__(
        self,
        picture: np.ndarray,
        eye: EyeContours,
        side: str,
        rims: Rims | None = None,
        level: np.ndarray | None = None,
        closed: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        self.side = side
        self._closed_eye = closed_eye(picture, eye, side) if closed is None else closed
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
        self.lab = cv2.cvtColor(self.crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        self.light = self.lab[..., 0]
        self.soft = self._softness()

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

    def _column(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A field that depends on u alone, as (u, value) of some columns."""
        order = np.argsort(self.u.ravel())
        at = np.linspace(-0.1, 1.1, 61)
        picked = np.searchsorted(self.u.ravel()[order], at).clip(0, self.u.size - 1)
        return at, field.ravel()[order][picked]

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

    def _edge_band(self, half: float) -> np.ndarray:
        """Pixels within so many widths above and below the upper lid's edge, bool (h, w)."""
        return (np.abs(self.v - self.up) < half * self.width) & (self.u > -0.02) & (self.u < 1.02)

    def _thin(self) -> np.ndarray:
        """By how much each pixel is darker than what is around anything as thin as a lash or fold, float32 (h, w)."""
        # What is dark at the rectangle's edge goes on beyond it.
        pad = round(0.2 * self.width) + 1
        padded = cv2.copyMakeBorder(self.light, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        return cv2.morphologyEx(padded, cv2.MORPH_BLACKHAT, disc(0.15 * self.width))[pad:-pad, pad:-pad]


def bounds(wanted: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns between which bool (h, w) is anywhere true; of nothing the first pixel."""
    found = []
    for axis in (1, 0):
        at = np.flatnonzero(wanted.any(axis))
        found.append(slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 1))
    return found[0], found[1]


def disc(radius: float) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(round(radius), 1) + 1,) * 2)


def filled(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
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


def membrane(picture: np.ndarray, known: np.ndarray, width: float) -> np.ndarray:
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
    value = filled(even, held_at)
    fixed, kept = (held_at > 0.5).astype(np.uint8), value.copy()
    kernel = np.float32([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])
    for _ in range(100):
        value = cv2.filter2D(value, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        cv2.copyTo(kept, fixed, value)
    return cv2.resize(value, (w, h), interpolation=cv2.INTER_CUBIC)
