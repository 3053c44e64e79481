"""Eyes that are all iris, as animals' and many drawn ones: a dark spot of its own shape in lighter fur or skin.

The family of openings that `eye_fit` searches has pointed corners and a white; round dark eyes have neither. Their outline is
where the dark ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.realtime.rig.eye_fit import PER_D, EyeMaps

#: Irises of at least this share of their opening, both eyes' mean, may be all that there is of an eye; people's have 0.45 to 0.62,
#: dark ones under dark lashes the most, animals' 0.69 to 0.93.
ALL_IRIS = 0.65

#: A spot fills this share of its hull, and of what is around the iris's middle; it is as high as this share of its width, and
#: darker than what is around by this share of that.
SOLID, OVER, ROUND, DARKER = 0.88, 0.55, 0.5, 0.5

#: Its edge is where so much of its darkness is left: the first that makes an eye, since irises are lighter than their pupils.
EDGES = (0.4, 0.5, 0.6)

#: Both eyes are of one size: where their areas differ by more than the first factor, a shadow may be part of one, unless no two
#: edges of theirs agree to within the second.
UNLIKE, ALIKE = 1.25, 1.1

#: Its width in distances between the eyes.
NARROWEST, WIDEST = 0.14, 0.75


@dataclass(frozen=True, eq=False)
class DarkEye:
    """One eye of the crop.

    Attributes:
        upper, lower: edges, float32 (N, 2) each in its pixels, from its left corner to its right one, which both share.
        middle: float32 (2,).
    """

    upper: np.ndarray
    lower: np.ndarray
    middle: np.ndarray

    @property
    def width(self) -> float:
        return float(np.hypot(*(self.upper[-1] - self.upper[0])))


def dark_eyes(maps: Sequence[EyeMaps], irises: Sequence[np.ndarray]) -> list[DarkEye] | None:
    """The dark spots about both `irises` (2,), each in pixels of its crop; None where one of them has not an eye's shape."""
    found = [_spots(*one) for one in zip(maps, irises, strict=True)]
    if not all(found):
        return None
    pairs = list(itertools.product(*found))
    areas = [[cv2.contourArea(hull.astype(np.float32)) for hull in pair] for pair in pairs]
    ratios = [max(area) / max(min(area), 1.0) for area in areas]
    best = int(np.argmin(ratios))
    chosen = best if ratios[0] > UNLIKE and ratios[best] < ALIKE else 0
    return [_outline(hull) for hull in pairs[chosen]]


def _spots(maps: EyeMaps, iris: np.ndarray) -> list[np.ndarray]:
    """The hulls (N, 2) of the dark spot about `iris` at those `EDGES` at which it has an eye's shape."""
    height, width = maps.light.shape
    y, x = np.mgrid[0:height, 0:width]
    near = np.hypot(x - iris[0], y - iris[1]) < 0.10 * PER_D
    if not near.any():
        return []
    core, skin = float(np.percentile(maps.light[near], 30)), float(np.median(maps.skin[..., 0][near]))
    if core > (1 - DARKER) * skin:
        return []
    hulls = (_spot(maps.light < skin - share * (skin - core), near) for share in EDGES)
    return [hull for hull in hulls if hull is not None]


def _spot(dark: np.ndarray, near: np.ndarray) -> np.ndarray | None:
    """The hull (N, 2) of what is dark, bool (h, w), about the pixels `near`; None where it has not an eye's shape."""
    height, width = dark.shape
    spots = dark.astype(np.uint8)
    # Lights in it belong to it; lines of fur, lashes and brows beside it do not.
    for kind, size in ((cv2.MORPH_CLOSE, 0.04), (cv2.MORPH_OPEN, 0.07)):
        side = 2 * round(size * PER_D / 2) + 1
        spots = cv2.morphologyEx(spots, kind, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    outlines, _ = cv2.findContours(spots, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    best, most = None, OVER
    for outline in outlines:
        over = float((cv2.fillPoly(np.zeros_like(spots), [outline], 1)[near] > 0).mean())
        if over > most:
            best, most = outline, over
    if best is None:
        return None
    hull = cv2.convexHull(best)
    left, top, wide, high = cv2.boundingRect(best)
    touches = left == 0 or top == 0 or left + wide == width or top + high == height
    solid = cv2.contourArea(best) / max(cv2.contourArea(hull), 1.0)
    if touches or solid < SOLID or high < ROUND * wide or not NARROWEST < wide / PER_D < WIDEST:
        return None
    return hull[:, 0].astype(np.float64)


def _outline(hull: np.ndarray) -> DarkEye:
    """Upper and lower edge of a convex outline (N, 2), smoothly."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(np.vstack([hull, hull[:1]]), axis=0).T))])
    at = np.linspace(0, length[-1], 257)[:-1]
    closed = np.vstack([hull, hull[:1]])
    even = np.column_stack([np.interp(at, length, closed[:, k]) for k in (0, 1)])
    # Round the polygon's corners.
    sigma = 6
    kernel = cv2.getGaussianKernel(6 * sigma + 1, sigma)[:, 0]
    wrapped = np.vstack([even[-3 * sigma :], even, even[: 3 * sigma]])
    even = np.column_stack([np.convolve(wrapped[:, k], kernel, mode="valid") for k in (0, 1)])
    # A corner is the middle of a side.
    low, high = even[:, 0].min(), even[:, 0].max()
    corners = []
    for side in (even[:, 0] < low + 0.15 * (high - low), even[:, 0] > high - 0.15 * (high - low)):
        corners.append(int(np.where(side, np.abs(even[:, 1] - even[side, 1].mean()), np.inf).argmin()))
    left, right = corners

    def walk(start: int, stop: int) -> np.ndarray:
        return even[np.arange(start, stop + (len(even) if stop < start else 0) + 1) % len(even)]

    one, other = walk(left, right), walk(right, left)[::-1]
    upper, lower = (one, other) if one[:, 1].mean() < other[:, 1].mean() else (other, one)
    return DarkEye(upper.astype(np.float32), lower.astype(np.float32), even.mean(0).astype(np.float32))
