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

#: Blurs are worked out in pixels so large that they are at least so many of those wide.
SMALLEST_BLUR = 1.5

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
            return one_layer(
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
        return one_layer(picture, "No figure stands out in this picture, so it moves as one layer.")
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
    vague = cv2.erode(((share > 0.1) & (share < 0.9)).astype(np.uint8), _disc(wide))
    if vague.any():
        decided = (_smoothed(share.astype(np.float32), band / 4) > 0.5).astype(np.float32)
        decided = cv2.GaussianBlur(decided, (0, 0), 1.0)
        share = np.where(_grown(vague > 0, 2 * wide + 1), decided, share)
    # Slivers of head along the outline of neck and shoulders are those of the body.
    sliver = max(1, round(SLIVER * band))
    near = _grown(behind_head > 100, sliver)
    box = box_of(near)
    if box is not None:
        inner, outer = _around(box, share.shape, 2 * sliver)
        whole = cv2.morphologyEx(_in_levels(share[outer]), cv2.MORPH_OPEN, _disc(sliver))[inner]
        share[box] = np.where(near[box], whole.astype(np.float32) / 255, share[box])
    share[theirs] = 0
    share = _outlined(_in_one_piece(share, layers.matte), layers.matte)
    own = _own_colours(layers, picture)
    body = _body_behind(share, None, layers, own, behind_head, near, band)
    share = _beyond_the_body(share, picture, body.ground, body.up, near, band)
    share[theirs] = 0
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
    hidden = _grown(of_head, margin)
    if picture is not None:
        hidden = _without_beside(hidden, of_head, picture, margin)
    below = _first_below(hidden)
    up = below - np.arange(height, dtype=np.int32)[:, None]
    alpha, colours, torso = layers.alpha.copy(), layers.colours.copy(), own
    box = box_of(hidden)
    if box is not None:
        # A neck goes up behind the head as wide as it comes out below; where nothing is seen below, nothing is known.
        inner, seen = hidden[box], below[box] < height
        at = np.minimum(below[box], height - 1), np.arange(share.shape[1])[box[1]]
        widest = np.where(seen, layers.alpha[at], 255)
        close = (up[box] < CUT * band) & near[box] & seen
        behind_head = np.minimum(np.where(close, layers.alpha[box], behind_head[box]), widest)
        behind_head = np.maximum(behind_head, np.rint((1 - share[box]) * layers.matte[box]))
        alpha[box] = np.where(inner, behind_head, alpha[box])
        torso = _torso(own, layers.alpha, hidden, below, band)
        shown = cv2.multiply(torso[box], cv2.cvtColor(alpha[box], cv2.COLOR_GRAY2RGB), scale=1 / 255)
        colours[box] = cv2.copyTo(shown, inner.astype(np.uint8), colours[box])
    return _Body(alpha, torso, colours, cv2.add(colours, behind(layers.plate, alpha)), up)


def _without_beside(hidden: np.ndarray, of_head: np.ndarray, picture: np.ndarray, margin: int) -> np.ndarray:
    """Which pixels of the `hidden`, bool (H, W), are `of_head`, or have a colour that is not also close by and not hidden.

    Args:
        margin: how wide what is hidden may be there, in pixels.
    """
    box = box_of(hidden)
    if box is None:
        return hidden
    inner, outer = _around(box, hidden.shape, 2 * margin)
    part, disc, clear = picture[outer], _disc(2 * margin), (~hidden[outer]).astype(np.uint8)
    least = cv2.erode(cv2.copyTo(part, clear, np.full_like(part, 255)), disc)
    most = cv2.dilate(cv2.copyTo(part, clear), disc)
    # By how much it is darker or brighter than those.
    off = cv2.max(cv2.subtract(least, part), cv2.subtract(part, most))
    alike = cv2.max(cv2.max(off[..., 0], off[..., 1]), off[..., 2]) <= ALIKE
    result = hidden.copy()
    result[box] &= of_head[box] | ~alike[inner]
    return result


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
    rows = np.where(hidden, np.int32(len(hidden)), np.arange(len(hidden), dtype=np.int32)[:, None])
    return np.minimum.accumulate(rows[::-1], axis=0)[::-1]


def _own_colours(layers: FigureLayers, picture: np.ndarray) -> np.ndarray:
    """The figure's colours, uint8 RGB (H, W, 3), in soft outlines without the plate's."""
    assert layers.alpha is not None
    own = cv2.copyTo(layers.colours, (layers.alpha > 0).astype(np.uint8), picture.copy())
    soft = (layers.alpha > 0) & (layers.alpha < 255)
    share = layers.alpha[soft][:, None].astype(np.float32) / 255
    own[soft] = np.clip(np.rint(layers.colours[soft] / share), 0, 255).astype(np.uint8)
    return own


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
    columns = np.arange(width)[box[1]]
    # Of every other row: what is below is the same for many.
    half = below[::2]
    at = np.minimum(half, height - 1), columns
    weight = np.where(inner[::2] & (half < height), alpha[at], 0).astype(np.uint8)
    packed = np.dstack(
        [cv2.multiply(own[at], cv2.cvtColor(weight, cv2.COLOR_GRAY2RGB), scale=1 / 255), weight]
    )
    packed = cv2.resize(packed, (_extent(packed, 2)[0], len(half)), interpolation=cv2.INTER_AREA)
    packed = packed.astype(np.float32)
    extent, small = packed.shape[1::-1], _extent(packed, COARSE // 2)
    coarse = cv2.resize(packed, small, interpolation=cv2.INTER_AREA)
    away = (below - np.arange(height)[box[0], None]).astype(np.float32)
    distance = away[::2, ::2]
    result = smoothed = None
    for reach, size in ((0.4 * band, band / 6), (1.5 * band, band / 2), (4.0 * band, 1.5 * band)):
        if size < COARSE:
            smoothed = cv2.GaussianBlur(packed, (0, 0), size / 2)
        else:
            smoothed = cv2.GaussianBlur(coarse, (0, 0), size / COARSE)
            smoothed = cv2.resize(smoothed, extent, interpolation=cv2.INTER_LINEAR)
        smoothed = smoothed[..., :3] * (255 / np.maximum(smoothed[..., 3:], 0.255))
        if result is None:
            result = smoothed
        else:
            result = result + held(distance / np.float32(reach))[..., None] * (smoothed - result)
    assert result is not None and smoothed is not None
    found = packed[..., 3]
    if (inner & (below >= height)).any():
        # Where nothing is seen below, what is seen around; between both no edge stands upright.
        nearby = cv2.resize(255 * known.astype(np.uint8), _extent(own, COARSE), interpolation=cv2.INTER_AREA)
        around = fill(cv2.resize(own, _extent(own, COARSE), interpolation=cv2.INTER_AREA), nearby < 253)
        around = cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR)[box][::2, ::2]
        seen = cv2.resize(found, small, interpolation=cv2.INTER_AREA) / 255
        seen = cv2.resize(cv2.GaussianBlur(seen, (0, 0), 1.5 * band / COARSE), extent)[..., None]
        far = np.where(found > 0, held(distance / np.float32(4.0 * band)), 1)[..., None]
        result = np.where((found > 0)[..., None], result, smoothed)
        result = result + far * (1 - seen) * (around - result)
    result = np.clip(np.rint(result), 0, 255).astype(np.uint8)
    result = cv2.resize(result, inner.shape[::-1], interpolation=cv2.INTER_LINEAR)
    # Close to what is seen every column goes on as it is.
    near = inner & (away < 0.4 * band) & (below < height)
    rows, places = np.nonzero(near)
    colours = own[below[rows, places], columns[places]].astype(np.float32)
    share = held(away[rows, places] / np.float32(0.4 * band))[:, None]
    result[rows, places] = np.rint(colours + share * (result[rows, places] - colours)).astype(np.uint8)
    torso = own.copy()
    torso[box] = cv2.copyTo(result, inner.astype(np.uint8), torso[box])
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
    box = box_of((share > 0) & (up < 2 * CUT * band))
    if box is None:
        return share
    disc = max(1, round(SLIVER * band))
    # What is below counts as well.
    inner, outer = _around((slice(box[0].start, len(share)), box[1]), share.shape, 4 * disc)
    unlike = cv2.GaussianBlur(_difference(picture[outer], ground[outer]).astype(np.float32), (0, 0), 1.0)
    unlike = smooth(*UNLIKE, unlike)
    unlike = np.maximum.accumulate(unlike[::-1], axis=0)[::-1]
    sure = held((up[outer] / np.float32(CUT * band) - 0.5) * 2)
    found = np.minimum(share[outer], np.maximum(unlike, sure)).astype(np.float32)
    # Columns were looked at one by one: the cut has neither notches nor spikes.
    even = cv2.morphologyEx(_in_levels(found), cv2.MORPH_CLOSE, _disc(disc))
    even = cv2.morphologyEx(even, cv2.MORPH_OPEN, _disc(disc))[inner].astype(np.float32) / 255
    box = slice(box[0].start, len(share)), box[1]
    result = share.copy()
    evened = near[box] & (up[box] < 2 * CUT * band)
    result[box] = np.where(evened, np.minimum(even, share[box]), found[inner])
    return result


def _around(
    box: tuple[slice, slice], shape: tuple[int, ...], margin: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """A box with so many pixels more on each side, within `shape` (H, W): where the box lies in that, and that itself."""
    outer = tuple(
        slice(max(part.start - margin, 0), min(part.stop + margin, size))
        for part, size in zip(box, shape, strict=True)
    )
    inner = tuple(
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(box, outer, strict=True)
    )
    return inner, outer


def _in_levels(share: np.ndarray) -> np.ndarray:
    """Shares in [0, 1] as uint8."""
    return np.rint(255 * share).astype(np.uint8)


def _chosen(labels: np.ndarray, count: int, which: np.ndarray) -> np.ndarray:
    """Where `labels` int32 (H, W), all less than `count`, are some of `which`: bool (H, W)."""
    table = np.zeros(count, bool)
    table[which] = True
    return table[labels]


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
        theirs = _chosen(labels, len(facts), labels[beside & head & ~mine])
        share, head = np.where(theirs, 0, share), head & ~theirs
    # Nor are there rims of such pieces.
    count, labels = cv2.connectedComponents((firm & (share > RIM)).astype(np.uint8), connectivity=8)
    return np.where((labels > 0) & ~_chosen(labels, count, labels[head]), 0, share)


def _enclosed(body: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Pieces of the `body`, bool (H, W), that touch neither its largest nor the outline of the figure in `matte` nor an edge."""
    _, labels, facts, _ = cv2.connectedComponentsWithStats(body.astype(np.uint8), connectivity=8)
    if len(facts) <= 2:
        return np.zeros_like(body)
    beside = cv2.dilate((matte <= 127).astype(np.uint8), NEAR) > 0
    beside[[0, -1]] = beside[:, [0, -1]] = True
    largest = 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    return ~_chosen(labels, len(facts), np.append(labels[beside], [0, largest]))


def _over_exactly(picture: np.ndarray, below: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied colours uint8 (H, W, 3), and an alpha (H, W) of `alpha` at least, that give `picture` over `below` to the bit."""
    alpha = alpha.copy()
    thin = (alpha < 255) & (_difference(picture, below) > 0)
    seen, ground = picture[thin].astype(np.float32), below[thin].astype(np.float32)
    alpha[thin] = np.maximum(alpha[thin], _least_alpha(seen, ground).astype(np.uint8))
    colours = cv2.subtract(picture, behind(below, alpha))
    left = _difference(cv2.add(colours, behind(below, alpha)), picture)
    alpha[left > 0] = 255
    return cv2.subtract(picture, behind(below, alpha)), alpha


def _least_alpha(seen: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The least alpha in levels, float32 (...), with which something makes float32 `ground` (..., 3) look as what is `seen`.

    Premultiplied colours may add `GLOW` levels to what is behind them: before a white wall, noise would be opaque otherwise.
    """
    darker = 1 - (seen + 0.5) / np.maximum(ground, 1)
    brighter = (seen - ground - 0.5 - GLOW) / np.maximum(255 - ground, 1)
    least = np.ceil(255 * np.clip(np.maximum(darker, brighter).max(axis=-1), 0, 1))
    return np.maximum(least, (np.abs(seen - ground).max(axis=-1) > 0.5).astype(np.float32))


def one_layer(picture: np.ndarray, why: str | None = None) -> FigureLayers:
    """`picture` uint8 RGB (H, W, 3) as one layer, because of what the sentence `why` says."""
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
    alpha = np.where(hole, matte, 0).astype(np.uint8)
    thin = hole & (alpha < 255)
    seen, ground = picture[thin].astype(np.float32), plate[thin].astype(np.float32)
    alpha[thin] = np.maximum(alpha[thin], _least_alpha(seen, ground).astype(np.uint8))
    # Rounding leaves a level over at most; the plate takes it where it is seen.
    colours = cv2.subtract(picture, behind(plate, alpha))
    left = _difference(cv2.add(colours, behind(plate, alpha)), picture)
    alpha[left > 0] = 255
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
    seen = (more > 127) & (half | (matte > 127))
    count, labels = cv2.connectedComponents(seen.astype(np.uint8))
    mine = seen & _chosen(labels, count, labels[matte > FIRM])
    return np.where(_grown(mine, max(1, band // 4)), more, matte)


def _with_solid_parts(
    picture: np.ndarray, plate: np.ndarray, matte: np.ndarray, hole: np.ndarray, band: int, may: np.ndarray
) -> np.ndarray:
    """`matte` uint8 (H, W) with what hangs on the figure, is wide, and unlike the plate: no background shines through there.

    Args:
        hole: bool (H, W), where the plate is not the picture.
        may: bool (H, W), where such parts may be.
    """
    unlike = _difference(picture, plate)
    rough = _difference(picture, _smoothed(picture, max(2.0, band / 2.5)))
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
    close = _grown(matte > 8, max(2, round(CLOSE * band)))
    empty = (matte <= 8).astype(np.uint8)
    size = max(1.0, band / 5)
    near = cv2.cvtColor(np.maximum(_smoothed(255 * empty, size), 1), cv2.COLOR_GRAY2RGB)
    calm = cv2.divide(_smoothed(cv2.copyTo(picture, empty), size), near, scale=255)
    rough = _difference(picture, calm)
    outside = (~hole) & _grown(hole, 2 * band)
    if outside.any() and (rough[outside] > STRAND).mean() > BUSY:
        return close
    usual = float(np.percentile(rough[outside], 80)) if outside.any() else TELLING
    strands = ((rough > max(2.0 * usual, STRAND)) & (matte <= 8)).astype(np.uint8)
    strands = cv2.morphologyEx(strands, cv2.MORPH_CLOSE, _disc(max(1, band // 6)))
    if usual < STRAND / 2:
        # Before a calm background they are followed further.
        reach = _grown(hole, 2 * band).astype(np.uint8)
        strands &= reach
        count, labels = cv2.connectedComponents(strands, connectivity=8)
        strands &= _chosen(labels, count, labels[hole]).astype(np.uint8)
    else:
        strands &= hole
    return close | _grown(strands > 0, max(1, band // 5))


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
    # Within the hole nothing is seen of what is finer than two pixels: colours times weight, and weight, of twice as large ones.
    known = (~hole).astype(np.uint8)
    extent = _extent(known, 2)
    colour = cv2.resize(cv2.copyTo(picture, known), extent, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(255 * known, extent, interpolation=cv2.INTER_AREA)
    levels = [_bounded(cv2.GaussianBlur(np.dstack([colour, weight]).astype(np.float32), (3, 3), 0.5))]
    while min(levels[-1].shape[:2]) > 1 and (levels[-1][..., 3] < 127.5).any():
        level = levels[-1]
        # Smoothed before it is halved, so that the fill has no blocks.
        level = cv2.resize(
            cv2.GaussianBlur(level, (5, 5), 1.0), _extent(level, 2), interpolation=cv2.INTER_AREA
        )
        levels.append(_bounded(level))
    level = levels.pop()
    filled = level[..., :3] * (255 / np.maximum(level[..., 3:], 1e-6))
    while levels:
        level = levels.pop()
        wide = cv2.resize(filled, level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        filled = level[..., :3] + wide * (1 - level[..., 3:] / 255)
    filled = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
    filled = cv2.resize(filled, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.copyTo(picture, known, filled)


def _bounded(level: np.ndarray) -> np.ndarray:
    """Colours times weight, and weight, float32 (h, w, 4): half known is as good as known."""
    return level * (255 / np.maximum(level[..., 3:], 127.5))


def _extent(picture: np.ndarray, step: int) -> tuple[int, int]:
    """Columns and rows of a `picture` (H, W[, C]) in pixels so many times as large."""
    return -(-picture.shape[1] // step), -(-picture.shape[0] // step)


def _smoothed(values: np.ndarray, size: float) -> np.ndarray:
    """A Gaussian blur of `values` (H, W[, C]), worked out in pixels as large as it leaves nothing finer than."""
    step = min(COARSE, int(size / SMALLEST_BLUR))
    if step < 2:
        return cv2.GaussianBlur(values, (0, 0), size)
    coarse = cv2.resize(values, _extent(values, step), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), size / step)
    return cv2.resize(coarse, values.shape[1::-1], interpolation=cv2.INTER_LINEAR)


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
    figure = fill(picture, ~inner)[unsure].astype(np.float32)
    ground = fill(picture, outer)[unsure].astype(np.float32)
    seen = picture[unsure].astype(np.float32)
    inside = _smoothed(255 * cut, max(0.8, band / 3))[unsure].astype(np.float32) / 255
    known = matte[unsure].astype(np.float32) / 255
    apart = figure - ground
    square = (apart * apart).sum(1)
    share = np.clip(((seen - ground) * apart).sum(1) / np.maximum(square, 1e-3), 0, 1)
    # A colour that is neither's is the figure's, unless it lies far outside.
    odd = np.sqrt(np.square(seen - ground - share[:, None] * apart).sum(1))
    unlike_ground = np.sqrt(np.square(seen - ground).sum(1))
    share = np.maximum(
        share, np.clip(unlike_ground / (2.2 * TELLING) - 0.6, 0, 1) * np.clip(1.6 * inside, 0, 1)
    )
    share = (share - NOTHING) / (EVERYTHING - NOTHING)
    told = square / (square + TELLING**2) * np.exp(-np.square(odd / 90))
    # Far outside the cut only what is clearly not background counts.
    near = np.clip(2.2 * inside, 0, 1)
    mixed = told * np.clip(share, 0, 1) * near + (1 - told) * known
    mixed = np.where(inside > 0.85, np.maximum(mixed, known), mixed)
    fine = np.where(matte < 0.04 * 255, 0, matte)
    fine[unsure] = np.rint(255 * np.where(mixed < 0.04, 0, np.clip(mixed, 0, 1))).astype(np.uint8)
    return fine
