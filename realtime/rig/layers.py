"""A still picture in layers: the head and the body with soft outlines, and the plate behind them; or head and body as one.

Colours are premultiplied, C = I - (1 - alpha) P in whole levels, with I the picture and P the plate. So the figure at rest over
its plate is the picture itself, to the bit, whatever matte and plate are worth; and away from the figure the plate is the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from livepuppet.core.square import Square
from livepuppet.realtime.compositing.matte import fit_to_edges
from livepuppet.realtime.rig.lattice import box_of
from livepuppet.realtime.rig.matting import REACH, SIDE, Portrait, find_portrait
from livepuppet.realtime.rig.ramps import held, smooth

#: Half the width of the band along the cut in which the matte is estimated from colours, in shares of the head's size (2.6 eye
#: distances), and the least in pixels.
BAND, SMALLEST_BAND = 0.075, 3

#: Shares of head below and above which a pixel is all body, all head: what lies between both (an outline, a shadow) is the head's.
SHARES = 0.3, 0.55

#: Parts of a head over its body that are thinner than twice this, in widths of the band, are none.
SLIVER = 0.35

#: What is neither head nor body over more than twice this, in widths of the band, is made one of them.
VAGUE = 0.25

#: How far above the cut what is below the head is compared with it, in widths of the band; and by how many levels they differ where
#: it begins to be the head's own, and is.
CUT, UNLIKE = 1.2, (6.0, 22.0)

#: What is smooth is worked out in pixels so many times as large.
COARSE = 4

#: A pixel and those around it.
NEAR = np.ones((3, 3), np.uint8)

#: What lies this close to the head, in widths of the band, goes with it where the body behind does not explain it.
MARGIN = 0.15

#: By how many levels colours differ that are the same.
ALIKE = 6

#: Shares of head above which a pixel shows some of it.
RIM = 0.02

#: Levels of a matte above which a pixel is all figure.
FIRM = 240

#: How far, in pixels of the network's picture, what a soft outline belongs to is looked for within.
OUTLINE_WIDTH = 2.5

#: Pixels of the picture to one of the head's relief, and over how many pixels of the network's picture that is smoothed.
RELIEF, RELIEF_SMOOTH = 4, 1.0

#: Colours of figure and background that differ by this much, in levels, tell how much of each a pixel has.
TELLING = 26.0

#: Shares of a pixel below and above which it is all background, all figure.
NOTHING, EVERYTHING = 0.07, 0.95

#: Side of a face's box, in eye distances.
FACE_BOX = 2.6

#: Around a sure matte this share of the band is the figure's edge, and what differs from its surroundings by so many levels is a
#: strand.
CLOSE, STRAND = 0.3, 12.0

#: Where more than this share of the surroundings differs from its own, they are full of things.
BUSY = 0.05

#: Levels that may be added to what is behind.
GLOW = 12.0

#: What differs from the background by so many levels, and by so many times its own roughness, is nothing that it shines through,
#: where it is wider than twice this share of the band.
SOLID, SOLID_TIMES, SOLID_WIDTH = 26.0, 4.0, 0.25

#: What the network has seen at so many levels at least may be figure.
HALF_SEEN = 16


@dataclass(frozen=True, eq=False)
class FigureLayers:
    """Figure and plate of one picture.

    Attributes:
        matte: uint8 (H, W), 255 in the figure; None for a picture that moves as one layer.
        plate: uint8 RGB (H, W, 3), the picture without the figure.
        colours: uint8 RGB (H, W, 3), the figure's colours times `alpha`, see above; the picture itself for one layer.
        alpha: uint8 (H, W), the matte, and what else differs from the plate close to it; None for one layer.
        why: the sentence that says why there is one layer only; None otherwise.
        head: head and body apart, where that is known.
        relief: float32 (h, w, 2), as many rows and columns as `RELIEF` goes into the picture's: the head's depth towards the viewer,
            in eye distances from the plane of the eyes, and how surely there is head, in [0, 1]; None where nothing has seen it.
    """

    matte: np.ndarray | None
    plate: np.ndarray
    colours: np.ndarray
    alpha: np.ndarray | None = None
    why: str | None = None
    head: HeadLayers | None = None
    relief: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class HeadLayers:
    """The figure as two: its body, whole also behind the head, and its head.

    Attributes:
        share: uint8 (H, W), how much of the figure's pixel is head.
        body_alpha, head_alpha: uint8 (H, W).
        torso: uint8 RGB (H, W, 3), the body's own colours.
        body: uint8 RGBA (H, W, 4), premultiplied: over the plate it shows the figure without its head.
        head: uint8 RGBA (H, W, 4), premultiplied: over that it shows the picture, to the bit.
    """

    share: np.ndarray
    body_alpha: np.ndarray
    head_alpha: np.ndarray
    torso: np.ndarray
    body: np.ndarray
    head: np.ndarray

    def torso_on(self, colours: np.ndarray) -> np.ndarray:
        """The body's colours where the head hides it, `colours` uint8 RGB (H, W, 3) of the figure elsewhere."""
        return np.where((self.share > 5)[..., None], self.torso, colours)


def split_layers(
    picture: np.ndarray,
    square: Square,
    landmarks: np.ndarray | None = None,
    unit: float | None = None,
    matte: np.ndarray | None = None,
    centre: np.ndarray | None = None,
    others: Sequence[Square] = (),
) -> FigureLayers:
    """Cut `picture` uint8 RGB (H, W, 3) into head, body and plate.

    Args:
        square: the face crop, in its pixels.
        landmarks: float (K, 2) of the face in its pixels: a figure or head without them is none.
        unit: eye distance of the face in pixels.
        matte: uint8 (H, W), where the figure is known (the file's own transparency, say).
        centre: float (2,), the middle between the irises; without it and `landmarks` head and body stay one, and only a known
            matte makes layers.
        others: boxes of other people's faces. What is nearer to them is none of this figure's.
    """
    unit = square.side / 4 if unit is None else unit
    band = max(SMALLEST_BAND, round(BAND * 2.6 * unit))
    portrait = None
    if landmarks is not None and centre is not None:
        portrait = find_portrait(picture, centre, unit)
        portrait = portrait if portrait.sure and portrait.holds(landmarks) else None
    if matte is None:
        if portrait is None:
            # What colours alone tell apart need not be the figure: a cushion, or half of what is behind it, would go along.
            return _one_layer(
                picture, "The figure cannot be told from its background, so the picture moves as one layer."
            )
        matte = _matte_of(picture, portrait, centre, unit)
        matte = _with_half_seen_parts(picture, portrait, matte, band)
        matte = refine(picture, matte, band)
    middle = np.asarray(
        centre if centre is not None else (square.x + square.side / 2, square.y + square.side / 2)
    )
    theirs = _theirs(picture.shape[:2], middle, FACE_BOX * unit, others)
    matte = np.where(theirs, 0, matte).astype(np.uint8)
    if matte.min() > 0 or matte.max() == 0:
        return _one_layer(picture, "No figure stands out in this picture, so it moves as one layer.")
    half = None if portrait is None else _half_seen(portrait, picture.shape[:2])
    layers = compose_layers(picture, matte, band, portrait is not None, half)
    if portrait is None:
        return layers
    head = _split_head(picture, layers, portrait, band, theirs)
    return replace(layers, head=head, relief=_relief(portrait, picture.shape[:2]))


def _relief(portrait: Portrait, shape: tuple[int, int]) -> np.ndarray:
    """See `FigureLayers.relief`."""
    share = portrait.alpha[..., 1].astype(np.float32) / 255 * portrait.inside
    # What lies beside the head has another depth.
    near = cv2.GaussianBlur(share, (0, 0), RELIEF_SMOOTH)
    depth = cv2.GaussianBlur(portrait.depth * share, (0, 0), RELIEF_SMOOTH) / np.maximum(near, 1e-3)
    planes = portrait.on(np.dstack([depth, near]).astype(np.float32), shape)
    extent = tuple(-(-size // RELIEF) for size in shape[::-1])
    return cv2.resize(planes, extent, interpolation=cv2.INTER_AREA)


def _theirs(shape: tuple[int, int], middle: np.ndarray, side: float, others: Sequence[Square]) -> np.ndarray:
    """Which pixels of a picture of `shape` (H, W) are nearer to `others`' faces than to the one with
    a box of `side` about `middle`, in sides of each: bool (H, W).
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    theirs = np.zeros(shape, bool)
    own = np.hypot(columns - middle[0], rows - middle[1]) / side
    for other in others:
        x, y = other.x + other.side / 2, other.y + other.side / 2
        if y > middle[1] + 0.8 * side and abs(x - middle[0]) < 1.5 * side:
            continue  # on the figure's own chest: a print, or a mistake
        theirs |= np.hypot(columns - x, rows - y) / other.side < own
    return theirs


def _matte_of(picture: np.ndarray, portrait: Portrait, centre: np.ndarray, unit: float) -> np.ndarray:
    """The figure in the whole picture, uint8 (H, W), along its edges."""
    shape = picture.shape[:2]
    rough = portrait.on(portrait.alpha[..., 0], shape).astype(np.float32) / 255
    share = portrait.shows(shape)
    if max(shape) > REACH * unit:
        # Beyond what was seen closely, a look at everything.
        wide = find_portrait(picture, centre, unit, math.inf)
        rough = share * rough + (1 - share) * wide.on(wide.alpha[..., 0], shape).astype(np.float32) / 255
    fitted = fit_to_edges(rough, picture, max(shape) / SIDE * 1.5 / max(shape))
    return np.rint(255 * np.clip((fitted - 0.12) / 0.8, 0, 1)).astype(np.uint8)


def _split_head(
    picture: np.ndarray, layers: FigureLayers, portrait: Portrait, band: int, theirs: np.ndarray
) -> HeadLayers:
    """Head and body of the figure; nothing of it is `theirs`, bool (H, W)."""
    assert layers.matte is not None and layers.alpha is not None
    shape = picture.shape[:2]
    figure, head, body = (portrait.alpha[..., k].astype(np.float32) / 255 for k in range(3))
    # A soft outline is of that whose outline it is: the share is carried on from within.
    firm = np.where((figure > 0.9) & portrait.inside, figure, 0)
    carried = (head > body).astype(np.float32)
    for width in (4 * OUTLINE_WIDTH, OUTLINE_WIDTH):
        near = [cv2.GaussianBlur(values, (0, 0), width) for values in (head * firm, figure * firm)]
        weight = held(near[1] / 1e-3)
        carried = weight * near[0] / np.maximum(near[1], 1e-6) + (1 - weight) * carried
    known = cv2.GaussianBlur(firm, (0, 0), 0.7)
    own = known * head / np.maximum(figure, 0.1) + (1 - known) * carried
    share = np.clip(fit_to_edges(portrait.on(own.astype(np.float32), shape), picture, 1.5 / SIDE), 0, 1)
    share = np.clip((share - SHARES[0]) / (SHARES[1] - SHARES[0]), 0, 1)
    behind_head = portrait.on(portrait.alpha[..., 2], shape)
    # Nothing is half a head over more than a seam's width.
    wide = max(2, round(VAGUE * band))
    vague = cv2.morphologyEx(((share > 0.1) & (share < 0.9)).astype(np.uint8), cv2.MORPH_OPEN, _disc(wide))
    decided = (cv2.GaussianBlur(share.astype(np.float32), (0, 0), band / 4) > 0.5).astype(np.float32)
    share = np.where(cv2.dilate(vague, _disc(wide + 1)) > 0, cv2.GaussianBlur(decided, (0, 0), 1.0), share)
    # Slivers of head along the outline of neck and shoulders are those of the body.
    whole = cv2.morphologyEx(share.astype(np.float32), cv2.MORPH_OPEN, _disc(max(1, round(SLIVER * band))))
    near = cv2.dilate(behind_head, _disc(max(1, round(SLIVER * band)))) > 100
    share = np.where(theirs, 0, np.where(near, whole, share))
    share = _outlined(_in_one_piece(share, layers.matte), layers.matte)
    own = _own_colours(layers, picture)
    body = _body_behind(share, None, layers, own, behind_head, near, band)
    share = np.where(theirs, 0, _beyond_the_body(share, picture, body.ground, body.up, near, band))
    body = _body_behind(share, picture, layers, own, behind_head, near, band)
    head_alpha = np.rint(share * layers.alpha).astype(np.uint8)
    head_colours, over = _over_exactly(picture, body.ground, head_alpha)
    return HeadLayers(
        np.rint(255 * share).astype(np.uint8),
        body.alpha,
        np.rint(share * layers.matte).astype(np.uint8),
        body.torso,
        np.dstack([body.colours, body.alpha]),
        np.dstack([head_colours, over]),
    )


@dataclass(frozen=True, eq=False)
class _Body:
    """The body as it goes on behind a head.

    Attributes:
        alpha: uint8 (H, W).
        torso: see `HeadLayers`.
        colours: uint8 RGB (H, W, 3), premultiplied.
        ground: uint8 RGB (H, W, 3), plate and body without the head.
        up: int (H, W), how many pixels above what the head does not hide; H and more where it hides all that is below.
    """

    alpha: np.ndarray
    torso: np.ndarray
    colours: np.ndarray
    ground: np.ndarray
    up: np.ndarray


def _body_behind(
    share: np.ndarray,
    picture: np.ndarray | None,
    layers: FigureLayers,
    own: np.ndarray,
    behind_head: np.ndarray,
    near: np.ndarray,
    band: int,
) -> _Body:
    """The body without the head, of which each pixel has this `share` (H, W).

    Args:
        picture: in which what is close to the head may be told to be body by its colours; None where all of that goes with the head.
        own: the figure's own colours, uint8 RGB (H, W, 3).
        behind_head: uint8 (H, W), the body's alpha as it was seen to go on behind the head; `near`: bool (H, W), where that may be.
    """
    assert layers.matte is not None and layers.alpha is not None
    height = len(share)
    # What is left of the head's outline beside it would stay behind.
    margin = max(1, round(MARGIN * band))
    of_head = share > RIM
    hidden = cv2.dilate(of_head.astype(np.uint8), _disc(margin)) > 0
    if picture is not None:
        hidden &= of_head | ~_as_beside(picture, hidden, margin)
    below = _first_below(hidden)
    up = below - np.arange(height)[:, None]
    at = np.minimum(below, height - 1), np.arange(share.shape[1])
    # A neck goes up behind the head as wide as it comes out below; where nothing is seen below, nothing is known.
    widest = np.where(below < height, layers.alpha[at], 255)
    close = (up < CUT * band) & near & (below < height)
    behind_head = np.minimum(np.where(close, layers.alpha, behind_head), widest)
    alpha = np.where(hidden, np.maximum(behind_head, (1 - share) * layers.matte), layers.alpha)
    alpha = np.rint(alpha).astype(np.uint8)
    torso = _torso(own, layers.alpha, hidden, below, band)
    colours = cv2.multiply(torso, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    colours = np.where(hidden[..., None], colours, layers.colours)
    return _Body(alpha, torso, colours, cv2.add(colours, behind(layers.plate, alpha)), up)


def _as_beside(picture: np.ndarray, hidden: np.ndarray, margin: int) -> np.ndarray:
    """Where a picture has no colour that is not also close by and not `hidden`, bool (H, W).

    Args:
        margin: how wide what is hidden may be there, in pixels.
    """
    disc, clear = _disc(2 * margin), ~hidden[..., None]
    least = cv2.erode(np.where(clear, picture, 255).astype(np.uint8), disc)
    most = cv2.dilate(np.where(clear, picture, 0).astype(np.uint8), disc)
    return (cv2.add(picture, (ALIKE, ALIKE, ALIKE, 0)) >= least).all(axis=2) & (
        cv2.subtract(picture, (ALIKE, ALIKE, ALIKE, 0)) <= most
    ).all(axis=2)


def _outlined(share: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """`share` (H, W) in which a pixel of the figure's soft outline, or beyond it, is of what the nearest firm one is of.

    Args:
        matte: uint8 (H, W), the figure.
    """
    firm = matte > FIRM
    if not firm.any():
        return share
    _, label = cv2.distanceTransformWithLabels(
        (~firm).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of = np.zeros(int(label.max()) + 1, share.dtype)
    of[label[firm]] = share[firm]
    return of[label]


def _first_below(hidden: np.ndarray) -> np.ndarray:
    """The row of the first pixel at or below each one, in its column, that is not `hidden`, bool (H, W); H where there is none."""
    rows = np.where(hidden, len(hidden), np.arange(len(hidden))[:, None])
    return np.minimum.accumulate(rows[::-1], axis=0)[::-1]


def _own_colours(layers: FigureLayers, picture: np.ndarray) -> np.ndarray:
    """The figure's colours, uint8 RGB (H, W, 3), in soft outlines without the plate's."""
    assert layers.alpha is not None
    share = np.maximum(layers.alpha, 1)[..., None].astype(np.float32) / 255
    own = np.clip(np.rint(layers.colours / share), 0, 255).astype(np.uint8)
    return np.where(layers.alpha[..., None] > 0, own, picture)


def _torso(
    own: np.ndarray, alpha: np.ndarray, hidden: np.ndarray, below: np.ndarray, band: int
) -> np.ndarray:
    """The body's colours, uint8 RGB (H, W, 3): the figure's `own`, and where they are `hidden` those of what is seen below go on
    upwards, ever more smoothly.

    Args:
        alpha: uint8 (H, W), of the figure.
        below: see `_first_below`.
    """
    known = (alpha > FIRM) & ~hidden
    box = box_of(hidden)
    if box is None or not known.any():
        return own
    height, width = hidden.shape
    inner, below = hidden[box], below[box]
    at = np.minimum(below, height - 1), np.arange(width)[box[1]]
    found = np.where(inner & (below < height), alpha[at], 0)
    colours = own[at].astype(np.float32)
    weight = found.astype(np.float32)[..., None] / 255
    away = (below - np.arange(height)[box[0], None]).astype(np.float32)
    packed = np.dstack([colours * weight, weight])
    extent, small = packed.shape[1::-1], tuple(-(-size // COARSE) for size in packed.shape[1::-1])
    coarse = cv2.resize(packed, small, interpolation=cv2.INTER_AREA)
    result = colours
    for reach, size in ((0.4 * band, band / 6), (1.5 * band, band / 2), (4.0 * band, 1.5 * band)):
        if size < COARSE:
            smoothed = cv2.GaussianBlur(packed, (0, 0), size)
        else:
            smoothed = cv2.GaussianBlur(coarse, (0, 0), size / COARSE)
            smoothed = cv2.resize(smoothed, extent, interpolation=cv2.INTER_LINEAR)
        smoothed = smoothed[..., :3] / np.maximum(smoothed[..., 3:], 1e-3)
        result = result + held(away / np.float32(reach))[..., None] * (smoothed - result)
    if ((found == 0) & inner).any():
        # Where nothing is seen below, what is seen around; between both no edge stands upright.
        tiny = tuple(-(-size // COARSE) for size in (width, height))
        nearby = cv2.resize(known.astype(np.float32), tiny, interpolation=cv2.INTER_AREA) > 0.99
        around = fill(cv2.resize(own, tiny, interpolation=cv2.INTER_AREA), ~nearby)
        around = cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR)[box]
        seen = cv2.resize(weight[..., 0], small, interpolation=cv2.INTER_AREA)
        seen = cv2.resize(cv2.GaussianBlur(seen, (0, 0), 1.5 * band / COARSE), extent)[..., None]
        far = np.where(found > 0, held(away / np.float32(4.0 * band)), 1)[..., None]
        result = np.where((found > 0)[..., None], result, smoothed)
        result = result + far * (1 - seen) * (around - result)
    result = np.clip(np.rint(result), 0, 255).astype(np.uint8)
    torso = own.copy()
    torso[box] = np.where(inner[..., None], result, own[box])
    return torso


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By how many levels two pictures, uint8 RGB (H, W, 3), differ: uint8 (H, W), of the channel that differs most."""
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    return cv2.max(cv2.max(red, green), blue)


def _beyond_the_body(
    share: np.ndarray, picture: np.ndarray, ground: np.ndarray, up: np.ndarray, near: np.ndarray, band: int
) -> np.ndarray:
    """`share` (H, W) of the head without what close above the cut is the body's: as far as it looks as what goes on from below.

    The cut along a jaw is vague. A strip of neck that goes with the head would stick out at the neck's outline.

    Args:
        ground, up: see `_Body`.
        near: bool (H, W), where there may be body behind the head.
    """
    unlike = cv2.GaussianBlur(_difference(picture, ground).astype(np.float32), (0, 0), 1.0)
    unlike = smooth(*UNLIKE, unlike)
    unlike = np.maximum.accumulate(unlike[::-1], axis=0)[::-1]
    sure = held((up / np.float32(CUT * band) - 0.5) * 2)
    found = np.minimum(share, np.maximum(unlike, sure)).astype(np.float32)
    # Columns were looked at one by one: the cut has neither notches nor spikes.
    disc = _disc(max(1, round(SLIVER * band)))
    even = cv2.morphologyEx(cv2.morphologyEx(found, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc)
    return np.where(near & (up < 2 * CUT * band), np.minimum(even, share), found)


def _in_one_piece(share: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """`share` (H, W) of the one head of the figure in `matte` uint8 (H, W): pieces of it within the body are the body's, and those
    of the body within it are its own.
    """
    firm = matte > FIRM
    head = firm & (share > 0.5)
    # Spots of body within the head are the head's.
    spots = _enclosed((matte > 127) & ~head, matte)
    share, head = np.where(spots, 1, share).astype(share.dtype), head | spots
    _, labels, facts, _ = cv2.connectedComponentsWithStats(head.astype(np.uint8), connectivity=4)
    if len(facts) > 2:
        mine = labels == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
        beside = cv2.dilate((firm & ~head).astype(np.uint8), NEAR) > 0
        theirs = np.unique(labels[beside & head & ~mine])
        share, head = np.where(np.isin(labels, theirs), 0, share), head & ~np.isin(labels, theirs)
    # Nor are there rims of such pieces.
    _, labels = cv2.connectedComponents((firm & (share > RIM)).astype(np.uint8), connectivity=8)
    return np.where((labels > 0) & ~np.isin(labels, np.unique(labels[head])), 0, share)


def _enclosed(body: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Pieces of the `body`, bool (H, W), that touch neither its largest nor the outline of the figure in `matte` nor an edge."""
    _, labels, facts, _ = cv2.connectedComponentsWithStats(body.astype(np.uint8), connectivity=8)
    if len(facts) <= 2:
        return np.zeros_like(body)
    beside = cv2.dilate((matte <= 127).astype(np.uint8), NEAR) > 0
    beside[[0, -1]] = beside[:, [0, -1]] = True
    open_ = np.append(np.unique(labels[beside]), [0, 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())])
    return ~np.isin(labels, open_)


def _over_exactly(picture: np.ndarray, below: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied colours uint8 (H, W, 3), and an alpha (H, W) of `alpha` at least, that give `picture` over `below` to the bit."""
    seen, ground = picture.astype(np.float32), below.astype(np.float32)
    least = _least_alpha(seen, ground).astype(np.uint8)
    alpha = np.maximum(alpha, np.where((picture != below).any(axis=2), least, 0)).astype(np.uint8)
    colours = cv2.subtract(picture, behind(below, alpha))
    left = cv2.add(colours, behind(below, alpha)) != picture
    alpha[left.any(axis=2)] = 255
    return cv2.subtract(picture, behind(below, alpha)), alpha


def _least_alpha(seen: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The least alpha in levels, float32 (...), with which something makes float32 `ground` (..., 3) look as what is `seen`.

    Premultiplied colours may add `GLOW` levels to what is behind them: before a white wall, noise would be opaque otherwise.
    """
    darker = 1 - (seen + 0.5) / np.maximum(ground, 1)
    brighter = (seen - ground - 0.5 - GLOW) / np.maximum(255 - ground, 1)
    least = np.ceil(255 * np.clip(np.maximum(darker, brighter).max(axis=-1), 0, 1))
    return np.maximum(least, (np.abs(seen - ground).max(axis=-1) > 0.5).astype(np.float32))


def _one_layer(picture: np.ndarray, why: str) -> FigureLayers:
    return FigureLayers(None, picture, picture, why=why)


def compose_layers(
    picture: np.ndarray, matte: np.ndarray, band: int, sure: bool = False, half: np.ndarray | None = None
) -> FigureLayers:
    """Plate and colours for a matte, uint8 (H, W), that is as good as it will be.

    Args:
        sure: whether the matte's outline is the figure's. What lies beyond it and is smooth then is background.
        half: bool (H, W), where there may be figure that the matte has not; None for anywhere.
    """
    # What the cut missed (a strand of hair, a rim) would stay behind as a ghost: the plate is made from clear of it, and what
    # differs from it there goes along with the figure, as thinly as explains it.
    hole = _grown(matte > 8, band)
    if sure:
        hole = _with_strands(picture, matte, hole, band)
    plate = fill(picture, hole)
    if sure:
        may = hole if half is None else hole & _grown(half, max(1, round(CLOSE * band)))
        matte = _with_solid_parts(picture, plate, matte, hole, band, may)
    seen, ground = picture[hole].astype(np.float32), plate[hole].astype(np.float32)
    alpha = matte.copy()
    alpha[hole] = np.maximum(alpha[hole], _least_alpha(seen, ground).astype(np.uint8))
    alpha[~hole] = 0
    # Rounding leaves a level over at most; the plate takes it where it is seen.
    colours = cv2.subtract(picture, behind(plate, alpha))
    left = cv2.add(colours, behind(plate, alpha)) != picture
    alpha[left.any(axis=2)] = 255
    colours = cv2.subtract(picture, behind(plate, alpha))
    return FigureLayers(matte, plate, colours, alpha)


def _half_seen(portrait: Portrait, shape: tuple[int, int]) -> np.ndarray:
    """Where the network has seen some figure at least, bool (H, W)."""
    return portrait.on(portrait.alpha[..., 0], shape) > HALF_SEEN


def _with_half_seen_parts(
    picture: np.ndarray, portrait: Portrait, matte: np.ndarray, band: int
) -> np.ndarray:
    """`matte` uint8 (H, W) with what the network has half seen, if it is unlike a calm background: an ear of an animal, a hat.

    Beyond the reach of the band it would stay behind, in the plate.
    """
    half = _half_seen(portrait, picture.shape[:2])
    hole = _grown((matte > 8) | half, band)
    if hole.all():
        return matte
    more = _with_solid_parts(picture, fill(picture, hole), matte, hole, band, half)
    _, labels = cv2.connectedComponents(((more > 127) & (half | (matte > 127))).astype(np.uint8))
    mine = np.setdiff1d(np.unique(labels[matte > FIRM]), [0])
    return np.where(_grown(np.isin(labels, mine), max(1, band // 4)), more, matte)


def _with_solid_parts(
    picture: np.ndarray, plate: np.ndarray, matte: np.ndarray, hole: np.ndarray, band: int, may: np.ndarray
) -> np.ndarray:
    """`matte` uint8 (H, W) with what hangs on the figure, is wide, and unlike the plate: no background shines through there.

    Args:
        hole: bool (H, W), where the plate is not the picture.
        may: bool (H, W), where such parts may be.
    """
    unlike = _difference(picture, plate)
    rough = _difference(picture, cv2.GaussianBlur(picture, (0, 0), max(2.0, band / 2.5)))
    outside = (~hole) & _grown(hole, 2 * band)
    usual = float(np.percentile(rough[outside], 80)) if outside.any() else SOLID
    if outside.any() and (rough[outside] > STRAND).mean() > BUSY:
        return matte
    solid = (unlike > max(SOLID, SOLID_TIMES * usual)) & may
    disc = _disc(max(2, round(SOLID_WIDTH * band)))
    open_ = (solid & (matte < FIRM)).astype(np.uint8)
    wide = (cv2.dilate(cv2.morphologyEx(open_, cv2.MORPH_OPEN, disc), disc) & open_) > 0
    if not wide.any():
        return matte
    firm = np.where(wide, 255, matte).astype(np.uint8)
    return np.maximum(matte, cv2.GaussianBlur(firm, (0, 0), 0.7))


def _with_strands(picture: np.ndarray, matte: np.ndarray, hole: np.ndarray, band: int) -> np.ndarray:
    """Of the `hole`, bool (H, W), around a sure matte what is close to it or has strands, and the strands that go on from there.

    A glow or a wall's shading around a head belongs to the wall: as a part of the figure it would show where the hole ends. Where
    a room is full of edges, strands are its lines, which must not go along.
    """
    close = cv2.dilate((matte > 8).astype(np.uint8), _disc(max(2, round(CLOSE * band))))
    empty = (matte <= 8).astype(np.float32)
    size = max(1.0, band / 5)
    near = cv2.GaussianBlur(empty, (0, 0), size)[..., None]
    calm = cv2.GaussianBlur(picture * empty[..., None], (0, 0), size) / np.maximum(near, 1e-3)
    rough = np.abs(picture - calm).max(axis=2)
    outside = (~hole) & _grown(hole, 2 * band)
    if outside.any() and (rough[outside] > STRAND).mean() > BUSY:
        return close > 0
    usual = float(np.percentile(rough[outside], 80)) if outside.any() else TELLING
    strands = ((rough > max(2.0 * usual, STRAND)) & (matte <= 8)).astype(np.uint8)
    strands = cv2.morphologyEx(strands, cv2.MORPH_CLOSE, _disc(max(1, band // 6)))
    if usual < STRAND / 2:
        # Before a calm background they are followed further.
        reach = _grown(hole, 2 * band).astype(np.uint8)
        _, labels = cv2.connectedComponents(strands & reach, connectivity=8)
        strands = np.isin(labels, np.setdiff1d(np.unique(labels[hole]), [0])).astype(np.uint8)
    else:
        strands &= hole
    return (close | cv2.dilate(strands, _disc(max(1, band // 5)))) > 0


def behind(plate: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """What of the plate is seen past the figure, uint8 RGB (H, W, 3): (1 - matte) plate, rounded as when it is drawn."""
    clear = cv2.cvtColor(cv2.bitwise_not(matte), cv2.COLOR_GRAY2RGB)
    return cv2.multiply(plate, clear, dst=clear, scale=1 / 255)


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """What is within `radius` pixels of a `mask`, bool (H, W). For large radii faster than a dilation."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) <= radius


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
    inner, outer = ~_grown(cut == 0, max(2, round(0.7 * band))), _grown(cut > 0, band)
    # Beyond the picture's edge the figure goes on.
    unsure = outer & ~inner
    if not unsure.any() or not inner.any() or outer.all():
        return matte
    figure = fill(picture, ~inner).astype(np.float32)
    ground = fill(picture, outer).astype(np.float32)
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
