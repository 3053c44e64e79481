"""A picture whose mouth stands open, with its mouth shut: so it rests while its driver's mouth is shut.

Motion is relative (Eq. 14): shut lips of the driver leave the avatar as its picture has it, and one that laughs in it would never
stop. So the picture is changed once, before anything is made of it (LivePortrait calls this lip normalization).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.square import cut
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.contours import POINTS, Contours, MouthContours
from livepuppet.realtime.rig.finding import find
from livepuppet.realtime.rig.mouth import GAPES, MIDDLE, NODES, Mouth, MouthLayers
from livepuppet.realtime.rig.ramps import held, smooth
from livepuppet.realtime.rig.rig import Face

#: Mouths are looked at more closely from this share of their width on.
LEAST = 0.05

#: Which share of its opening, as it is seen afterwards, a mouth may have that has been shut.
STILL_OPEN = 0.25

#: How far shut lips smile: corners that were drawn down by the jaw would hang.
SMILING = 0.35

#: How far from the line between shut lips something of the inside may be left, and further at the corners, in mouth widths; at most
#: so much of a lip's height.
#: Drawn mouths without lips are all inside.
LEFT_OVER, CORNER, OF_LIP, DRAWN, LIPLESS = 0.08, 0.07, 0.5, 0.28, 0.1

#: How broad the line is of photographs and of drawings, in mouth widths, and what of the lips' light it has.
LINE, DRAWN_LINE, LIGHT = 0.016, 0.012, 0.5

#: Over how much of half of the mouth's width the line is smoothed.
SMOOTHED = 0.22


def at_rest(engine: Engine, avatar: Avatar, face: Face) -> tuple[Avatar, Face]:
    """The avatar as it is to rest, and its face: with its mouth shut, if that stands open and the rig draws it.

    Args:
        engine: detects the keypoints of what was changed, and finds its contours to check it.
        face: of `avatar`.
    """
    if face.contours is None or face.mode in ("off", "eyes"):
        return avatar, face
    found = shut_mouth(avatar.original, face.contours)
    if found is None:
        return avatar, face
    picture, contours = found
    # Something in front of a mouth, or misread lips, leave one that is not shut: then the picture stays.
    seen = find(engine, picture, avatar.square).mouth
    if seen is None or not seen.sure or _gap(seen) > STILL_OPEN * _gap(face.contours.mouth):
        return avatar, face
    size = avatar.image.shape[0]
    avatar = replace(avatar, original=picture, image=cut(picture, avatar.square, size))
    return avatar, replace(face, keypoints=engine.detect(avatar.image), contours=contours)


def _inside(mouth: MouthContours, picture: np.ndarray) -> bool:
    """Whether all of it is in the picture, with the chin."""
    points = np.concatenate([mouth.outer_upper, mouth.outer_lower, mouth.chin[None]])
    return bool((points > 0).all() and (points < picture.shape[1::-1]).all())


def _gap(mouth: MouthContours | None) -> float:
    """The largest distance between both lips, in pixels."""
    assert mouth is not None
    return float(np.linalg.norm(mouth.inner_lower - mouth.inner_upper, axis=1).max())


def shut_mouth(picture: np.ndarray, contours: Contours) -> tuple[np.ndarray, Contours] | None:
    """The picture with its mouth shut, and its contours; None where the mouth is not open, or its sidecar says that what shows
    between the lips is the avatar's `own`.

    Args:
        picture: uint8 RGB (H, W, 3).
        contours: in its pixels.
    """
    if contours.mouth is None or contours.mouth.teeth == "own" or not _inside(contours.mouth, picture):
        return None
    if _gap(contours.mouth) < LEAST * np.ptp(contours.mouth.inner_upper[:, 0]):
        return None
    mouth = Mouth(picture, contours)
    layers = mouth.layers
    if layers is None or layers.plain or layers.gap < GAPES * layers.drop:
        return None
    shut = amounts(jawOpen=-1.0, mouthSmileLeft=SMILING, mouthSmileRight=SMILING)
    (patch,) = mouth.draw(shut)
    knots = layers.knots(shut)
    picture = picture.copy()
    picture[patch.place] = _cleaned(patch.rgb, patch.left, patch.top, layers, knots)
    return picture, replace(contours, mouth=_contours(contours.mouth, layers, knots))


def _cleaned(rgb: np.ndarray, left: int, top: int, layers: MouthLayers, knots: np.ndarray) -> np.ndarray:
    """`rgb` uint8 (h, w, 3) at (left, top) of the picture without what of the inside is left beside the lips' line, which is drawn,
    and with lips that end at its corners.
    """
    height, width = rgb.shape[:2]
    x, y = np.meshgrid(
        np.arange(left, left + width, dtype=np.float32), np.arange(top, top + height, dtype=np.float32)
    )
    s, v = layers.place(x, y)
    was, now = _curves(knots), _tapered(_curves(knots), layers.width)
    first, upper, line, lower, last = layers.lookup(was, s)
    thin_upper, thin_lower = layers.lookup(now[[1, 3]], s)
    off = v - line
    thick = np.where(off < 0, line - upper, lower - line)
    unit = np.float32(layers.width)
    # Of the corners more is left, where lips ran steeply.
    most = (LEFT_OVER + CORNER * smooth(0.7, 0.95, np.abs(s))) * unit
    reach = np.minimum(most, np.maximum(OF_LIP * thick, most - np.float32(0.5 * LEFT_OVER) * unit))
    if layers.drawn:
        reach = np.where(thick < LIPLESS * unit, DRAWN * unit, reach)
    # Lips get thinner towards their corners.
    source = v.copy()
    for start, end, start_was, end_was in (
        (first, thin_upper, first, upper),
        (thin_upper, line, upper, line),
        (line, thin_lower, line, lower),
        (thin_lower, last, lower, last),
    ):
        within = (v >= start) & (v < end)
        steep = (end_was - start_was) / np.maximum(end - start, np.float32(1e-3))
        np.copyto(source, start_was + (v - start) * steep, where=within)
    # Beside the line lips go on as in a mirror: nothing ends sharply.
    beyond = source - line
    near = np.abs(beyond) < reach
    mirrored = np.where(near, line + np.copysign(2 * reach - np.abs(beyond), beyond), source)
    share = smooth(1.1, 0.98, np.abs(s))
    down = source - v + share * (mirrored - source)
    along, across = layers.down.tolist()
    out = cv2.remap(
        rgb,
        x - left + np.float32(along) * down,
        y - top + np.float32(across) * down,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float32)
    broad = max((DRAWN_LINE if layers.drawn else LINE) * layers.width, 0.7)
    dark = np.exp(-np.square(off / broad)) * held((1.0 - np.abs(s)) * (6 if layers.drawn else 2.5))
    colour = np.minimum(layers.line, LIGHT * out) if layers.drawn else LIGHT * out
    out += dark[..., None].astype(np.float32) * (colour - out)
    return np.rint(out).clip(0, 255).astype(np.uint8)


def _curves(knots: np.ndarray) -> np.ndarray:
    """Where the skin begins to move, the upper lip's outer edge, the line between both lips, the lower one's outer edge, and the
    chin, float32 (5, N).
    """
    first, outer_upper, upper, lower, outer_lower, chin = knots[:, :6].T
    line = 0.5 * (upper + lower)
    # Where a mouth stands open its edges run as no shut one's do.
    sigma = SMOOTHED / float(NODES[1] - NODES[0])
    line = cv2.GaussianBlur(line[None].astype(np.float32), (0, 0), sigmaX=sigma, sigmaY=0.1)[0]
    curves = first, np.minimum(outer_upper, line), line, np.maximum(outer_lower, line), chin
    return np.stack(curves).astype(np.float32)


def _tapered(curves: np.ndarray, width: float) -> np.ndarray:
    """`_curves` of lips that are no thicker towards their corners than a lens."""
    lens = np.maximum(1 - np.square(NODES), 0) ** 0.8
    first, upper, line, lower, last = curves
    thick_upper, thick_lower = (float(np.median(thick[MIDDLE])) for thick in (line - upper, lower - line))
    least = 0.03 * width
    # Beside the corners there are no lips.
    share = smooth(1.1, 0.98, np.abs(NODES))
    upper = upper + share * np.maximum(line - np.maximum(thick_upper * lens, least) - upper, 0)
    lower = lower - share * np.maximum(lower - line - np.maximum(thick_lower * lens, least), 0)
    return np.stack([first, upper, line, lower, last]).astype(np.float32)


def _contours(mouth: MouthContours, layers: MouthLayers, knots: np.ndarray) -> MouthContours:
    along = np.linspace(-1, 1, POINTS).astype(np.float32)
    curves = _tapered(_curves(knots), layers.width)
    upper, line, lower, chin = layers.lookup(curves[1:], along[None])

    def points(down: np.ndarray) -> np.ndarray:
        return layers.pixels(along, down[0])

    # All four share the corners.
    curves = [points(curve) for curve in (upper, line, line, lower)]
    for curve in curves:
        curve[[0, -1]] = curves[1][[0, -1]]
    outer_upper, inner_upper, inner_lower, outer_lower = curves
    return replace(
        mouth,
        outer_upper=outer_upper,
        inner_upper=inner_upper,
        inner_lower=inner_lower,
        outer_lower=outer_lower,
        chin=points(chin)[POINTS // 2],
    )
