"""A still picture in two layers: the figure with a soft outline, and the plate behind it.

Colours are premultiplied, C = I - (1 - alpha) P in whole levels, with I the picture and P the plate. So the figure at rest over
its plate is the picture itself, to the bit, whatever matte and plate are worth; and away from the figure the plate is the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.core.square import Square
from livepuppet.realtime.compositing.matte import find_matte

#: Half the width of the band along the cut in which the matte is estimated from colours, in shares of the head's size (2.6 eye
#: distances), and the least in pixels.
BAND, SMALLEST_BAND = 0.075, 3

#: Colours of figure and background that differ by this much, in levels, tell how much of each a pixel has.
TELLING = 26.0

#: Shares of a pixel below and above which it is all background, all figure.
NOTHING, EVERYTHING = 0.07, 0.95

#: A figure is believed if it holds at least this much of the face, and its outline stands out: the share of it along which colours
#: inside and outside differ by `STANDS_OUT` levels.
HOLDS_FACE, STANDS_OUT, OUTLINE_SEEN = 0.9, 14.0, 0.45


@dataclass(frozen=True, eq=False)
class FigureLayers:
    """Figure and plate of one picture.

    Attributes:
        matte: uint8 (H, W), 255 in the figure; None for a picture that moves as one layer.
        plate: uint8 RGB (H, W, 3), the picture without the figure.
        colours: uint8 RGB (H, W, 3), the figure's colours times `alpha`, see above; the picture itself for one layer.
        alpha: uint8 (H, W), the matte, and what else differs from the plate close to it; None for one layer.
        why: the sentence that says why there is one layer only; None otherwise.
    """

    matte: np.ndarray | None
    plate: np.ndarray
    colours: np.ndarray
    alpha: np.ndarray | None = None
    why: str | None = None


def split_layers(
    picture: np.ndarray,
    square: Square,
    landmarks: np.ndarray | None = None,
    unit: float | None = None,
    skull: np.ndarray | None = None,
    matte: np.ndarray | None = None,
) -> FigureLayers:
    """Cut `picture` uint8 RGB (H, W, 3) into figure and plate.

    Args:
        square: the face crop, in its pixels.
        landmarks: float (K, 2) of the face in its pixels: a figure without them is none.
        unit: eye distance of the face in pixels.
        skull: float (N, 2), points whose hull is surely figure too.
        matte: uint8 (H, W), where the figure is known (the file's own transparency, say).
    """
    unit = square.side / 4 if unit is None else unit
    given = matte is not None
    if matte is None:
        matte = find_matte(picture, square, skull)
    if matte.min() > 0 or matte.max() == 0:
        return _one_layer(picture, "No figure stands out in this picture, so it moves as one layer.")
    band = max(SMALLEST_BAND, round(BAND * 2.6 * unit))
    if not given:
        if not _believable(picture, matte, landmarks, band):
            return _one_layer(
                picture, "The figure cannot be told from its background, so the picture moves as one layer."
            )
        matte = refine(picture, matte, band)
    return compose_layers(picture, matte, band)


def _one_layer(picture: np.ndarray, why: str) -> FigureLayers:
    return FigureLayers(None, picture, picture, why=why)


def compose_layers(picture: np.ndarray, matte: np.ndarray, band: int) -> FigureLayers:
    """Plate and colours for a matte, uint8 (H, W), that is as good as it will be."""
    # What the cut missed (a strand of hair, a rim) would stay behind as a ghost: the plate is made from clear of it, and what
    # differs from it there goes along with the figure, as thinly as explains it.
    hole = cv2.dilate((matte > 8).astype(np.uint8), _disc(band)) > 0
    plate = fill(picture, hole)
    seen, ground = picture[hole].astype(np.float32), plate[hole].astype(np.float32)
    darker = 1 - (seen + 0.5) / np.maximum(ground, 1)
    brighter = (seen - ground - 0.5) / np.maximum(255 - ground, 1)
    least = np.ceil(255 * np.clip(np.maximum(darker, brighter).max(axis=1), 0, 1))
    alpha = matte.copy()
    alpha[hole] = np.maximum(alpha[hole], least.astype(np.uint8))
    alpha[~hole] = 0
    # Rounding leaves a level over at most; the plate takes it where it is seen.
    colours = cv2.subtract(picture, behind(plate, alpha))
    left = cv2.add(colours, behind(plate, alpha)) != picture
    alpha[left.any(axis=2)] = 255
    colours = cv2.subtract(picture, behind(plate, alpha))
    return FigureLayers(matte, plate, colours, alpha)


def behind(plate: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """What of the plate is seen past the figure, uint8 RGB (H, W, 3): (1 - matte) plate, rounded as when it is drawn."""
    clear = cv2.cvtColor(cv2.bitwise_not(matte), cv2.COLOR_GRAY2RGB)
    return cv2.multiply(plate, clear, dst=clear, scale=1 / 255)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def fill(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """`picture` uint8 RGB (H, W, 3) with its `hole`, bool (H, W), filled smoothly from around it.

    Averages over ever larger neighbourhoods (push and pull, Gortler et al., SIGGRAPH 1996): no streaks, and nothing of the
    figure.
    """
    if not hole.any():
        return picture.copy()
    if hole.all():
        return np.broadcast_to(picture.reshape(-1, 3).mean(0).astype(np.uint8), picture.shape).copy()
    levels = [(picture.astype(np.float32) * ~hole[..., None], (~hole).astype(np.float32))]
    while min(levels[-1][1].shape) > 1 and (levels[-1][1] < 0.5).any():
        colour, weight = levels[-1]
        extent = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        # Smoothed before it is halved, so that the fill has no blocks.
        weight = cv2.resize(cv2.GaussianBlur(weight, (5, 5), 1.0), extent, interpolation=cv2.INTER_AREA)
        colour = cv2.resize(cv2.GaussianBlur(colour, (5, 5), 1.0), extent, interpolation=cv2.INTER_AREA)
        share = np.minimum(weight, 0.5) / np.maximum(weight, 1e-9)
        levels.append((colour * (2 * share)[..., None], weight * 2 * share))
    colour, weight = levels.pop()
    filled = colour / np.maximum(weight, 1e-9)[..., None]
    while levels:
        colour, weight = levels.pop()
        wide = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        filled = colour + wide * (1 - np.minimum(weight, 1.0))[..., None]
    return np.where(hole[..., None], np.clip(np.rint(filled), 0, 255), picture).astype(np.uint8)


def refine(picture: np.ndarray, matte: np.ndarray, band: int) -> np.ndarray:
    """`matte` uint8 (H, W) with single hairs: in a band along its edge each pixel's share of the figure is estimated.

    In the band a pixel is a mixture of the figure's colour nearby and the background's nearby. Where the two are alike nothing
    can be told, and the matte stays.
    """
    cut = (matte > 127).astype(np.uint8)
    disc = _disc(band)
    inner, outer = cv2.erode(cut, _disc(max(2, round(0.7 * band)))), cv2.dilate(cut, disc)
    # Beyond the picture's edge the figure goes on.
    unsure = (outer > 0) & (inner == 0)
    if not unsure.any() or not inner.any() or outer.all():
        return matte
    figure = fill(picture, inner == 0).astype(np.float32)
    ground = fill(picture, outer > 0).astype(np.float32)
    seen = picture.astype(np.float32)
    apart = figure - ground
    square = (apart * apart).sum(2)
    share = np.clip(((seen - ground) * apart).sum(2) / np.maximum(square, 1e-3), 0, 1)
    # A colour that is neither's is the figure's, unless it lies far outside.
    odd = np.sqrt(np.square(seen - ground - share[..., None] * apart).sum(2))
    inside = cv2.GaussianBlur(cut.astype(np.float32), (0, 0), max(0.8, band / 3))
    unlike_ground = np.sqrt(np.square(seen - ground).sum(2))
    share = np.maximum(
        share, np.clip(unlike_ground / (2.2 * TELLING) - 0.6, 0, 1) * np.clip(1.6 * inside, 0, 1)
    )
    share = (share - NOTHING) / (EVERYTHING - NOTHING)
    told = square / (square + TELLING**2) * np.exp(-np.square(odd / 90))
    known = matte.astype(np.float32) / 255
    # Far outside the cut only what is clearly not background counts.
    near = np.clip(2.2 * inside, 0, 1)
    mixed = told * np.clip(share, 0, 1) * near + (1 - told) * known
    mixed = np.where(inside > 0.85, np.maximum(mixed, known), mixed)
    fine = np.where(unsure, np.clip(mixed, 0, 1), known)
    fine = np.where((fine < 0.04), 0, fine)
    return np.rint(255 * fine).astype(np.uint8)


def _believable(picture: np.ndarray, matte: np.ndarray, landmarks: np.ndarray | None, band: int) -> bool:
    """Whether the cut is a figure with a face, and along an edge of the picture."""
    cut = (matte > 127).astype(np.uint8)
    if landmarks is not None:
        height, width = matte.shape
        x = np.clip(np.rint(landmarks[:, 0]), 0, width - 1).astype(int)
        y = np.clip(np.rint(landmarks[:, 1]), 0, height - 1).astype(int)
        if cut[y, x].mean() < HOLDS_FACE:
            return False
    smooth = cv2.GaussianBlur(picture, (0, 0), max(1.0, band / 4)).astype(np.float32)
    kernel = _disc(max(2, band // 2))
    inner, outer = cv2.erode(cut, kernel), cv2.dilate(cut, kernel)
    inside, outside = fill_mean(smooth, inner, band), fill_mean(smooth, 1 - outer, band)
    edge = cv2.morphologyEx(cut, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    edge[[0, -1]] = edge[:, [0, -1]] = False
    if not edge.any():
        return False
    differs = np.linalg.norm(inside - outside, axis=2)[edge]
    return bool((differs > STANDS_OUT).mean() > OUTLINE_SEEN)


def fill_mean(values: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray:
    """Means of `values` float32 (H, W, C) over the nearby part of `mask` uint8 (H, W)."""
    weight = cv2.blur(mask.astype(np.float32), (4 * size + 1, 4 * size + 1))
    total = cv2.blur(values * mask[..., None], (4 * size + 1, 4 * size + 1))
    return total / np.maximum(weight, 1e-4)[..., None]
