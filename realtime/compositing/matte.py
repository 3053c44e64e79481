"""The alpha matte of a still image: how much of each pixel is the figure. Found once per avatar,
for new backgrounds.
"""

from __future__ import annotations

import base64
import hashlib

import cv2
import numpy as np

from livepuppet.core.cache import remember, remembered
from livepuppet.core.square import Square
from livepuppet.realtime.framing.faces import FACE_HEIGHT

#: The cut is made on a picture of this longer side, in pixels, and then fitted to the fine edges.
#: 0.1 to 0.4 s.
CUT_SIDE = 256
CUT_ROUNDS = 4

#: Of the way figures are cut. Another one forgets what was remembered.
CUTTER = 2

#: Pictures with a shorter side, in pixels, or less contrast, as standard deviation in levels, hold
#: no figure.
SMALLEST_SIDE, PLAIN = 12, 2.0

#: Longer side of the picture in which the figure's own colours are estimated, in pixels.
COLOURS_SIDE = 400

#: How unlike every colour of the surely-background a colour must be to start as figure, in CIE Lab
#: units, and how many colours the background may have.
UNLIKE, BACKGROUND_COLOURS = 16.0, 6

#: How unlike them pieces that hang on the figure are, and the largest share of such pixels around it
#: in a plain background.
ODD, PLAIN_BACKGROUND = 22.0, 0.16

#: Radius of the fit, in shares of the longer side, and how much contrast counts as an edge, in
#: levels.
FIT_RADIUS, FIT_CONTRAST = 0.008, 9.0

#: Largest side, in pixels, of what that is worked out in.
COARSEST = 4


def find_matte(picture: np.ndarray, square: Square) -> np.ndarray:
    """Cut the figure out of `picture` by its colours (GrabCut, Rother et al., SIGGRAPH 2004).

    Args:
        picture: uint8 RGB (H, W, 3).
        square: the face crop in its pixels: a head in the middle, shoulders below. It seeds the
            cut.

    Returns:
        uint8 (H, W), 255 in the figure, 0 in the background, soft at the edge. All 255 where no
        figure stands out.
    """
    height, width = picture.shape[:2]
    factor = min(1.0, CUT_SIDE / max(height, width))
    extent = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA)
    if min(extent) < SMALLEST_SIDE or small.std(axis=(0, 1)).max() < PLAIN:
        return np.full((height, width), 255, np.uint8)
    figure = _cut(small, square.scaled(factor))
    if figure is None:
        return np.full((height, width), 255, np.uint8)
    return _fit_to_edges(figure, picture)


def _cut(picture: np.ndarray, square: Square) -> np.ndarray | None:
    """The figure in a small picture, uint8 (H, W) of 0 and 1; None where none stands out.
    Remembered: it is the longest part of a start.
    """
    inputs = {
        "cutter": [CUTTER, cv2.__version__],
        "picture": [hashlib.sha256(picture.tobytes()).hexdigest(), *picture.shape],
        "square": [square.x, square.y, square.side],
    }
    try:
        kept = remembered("figures", inputs)
        return None if kept is None else _unpacked(kept, picture.shape[:2])
    except (KeyError, TypeError, ValueError):
        figure = _cut_anew(picture, square)
    remember(
        "figures",
        inputs,
        None if figure is None else base64.b64encode(np.packbits(figure).tobytes()).decode(),
    )
    return figure


def _unpacked(text: str, shape: tuple[int, int]) -> np.ndarray:
    bits = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape)


def _cut_anew(picture: np.ndarray, square: Square) -> np.ndarray | None:
    try:
        # Its start is random, and the same picture should give the same cut.
        cv2.setRNGSeed(0)
        labels = _seeds(picture, square)
        cv2.grabCut(  # pyright: ignore[reportCallIssue]
            cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
            labels,
            None,  # pyright: ignore[reportArgumentType]
            np.zeros((1, 65)),
            np.zeros((1, 65)),
            CUT_ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )
    except cv2.error:
        # Too little of one kind of seeds.
        return None
    figure = _one_piece(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    if not 0.02 < figure.mean() < 0.98:
        return None
    return _one_piece(_with_what_hangs_on(figure, picture, square))


def _seeds(picture: np.ndarray, square: Square) -> np.ndarray:
    """What GrabCut starts from, uint8 (H, W): where heads and shoulders are, and what is unlike the
    picture's sides.

    The face is surely figure, the picture's edges beside the head surely background. Hair is
    neither: it starts as figure where its colour is none of those at the edges.
    """
    height, width = picture.shape[:2]
    side = square.side
    x, y = square.x + side / 2, square.y + FACE_HEIGHT * side
    labels = np.full((height, width), cv2.GC_PR_BGD, np.uint8)

    def ellipse(mask: np.ndarray, value: int, across: float, down: float, lower: float = 0.0) -> None:
        centre = (round(x), round(y + lower * side))
        cv2.ellipse(
            mask, centre, (max(1, round(across * side)), max(1, round(down * side))), 0, 0, 360, value, -1
        )

    # Shoulders widen towards the lower edge.
    shoulders = np.array([(-0.16, 0.25), (0.16, 0.25), (0.55, 0.5), (0.7, 3.0), (-0.7, 3.0), (-0.55, 0.5)])
    shoulders = np.rint(shoulders * side + (x, y)).astype(np.int32)
    cv2.fillPoly(labels, [shoulders], cv2.GC_PR_FGD)
    ellipse(labels, cv2.GC_PR_FGD, 0.33, 0.43, -0.04)

    edges = _surely_background(picture.shape[:2], square)
    if edges.any():
        near = np.zeros((height, width), np.uint8)
        cv2.fillPoly(near, [shoulders], 1)
        ellipse(near, 1, 0.48, 0.6, -0.05)
        labels[(near > 0) & (_unlikeness(picture, edges) > UNLIKE)] = cv2.GC_PR_FGD
    labels[edges] = cv2.GC_BGD
    ellipse(labels, cv2.GC_FGD, 0.17, 0.23)
    return labels


def _surely_background(shape: tuple[int, int], square: Square) -> np.ndarray:
    """The picture's edges beside and above the head, bool (H, W)."""
    height, width = shape
    x, y = square.x + square.side / 2, square.y + FACE_HEIGHT * square.side
    edges = np.zeros((height, width), bool)
    margin = max(2, round(0.03 * width))
    beside = max(1, min(round(y), height))
    edges[:beside, :margin] = edges[:beside, width - margin :] = True
    edges[: max(2, round(0.02 * height))] = True
    edges[:, np.abs(np.arange(width) - x) <= 0.36 * square.side] = False
    return edges


def _with_what_hangs_on(figure: np.ndarray, picture: np.ndarray, square: Square) -> np.ndarray:
    """`figure` uint8 (H, W) with pieces next to it that are unlike a plain background: ears,
    scarves, hats of other colours.
    """
    edges = _surely_background(picture.shape[:2], square)
    if not edges.any():
        return figure
    odd = ((_unlikeness(picture, edges) > ODD) & (figure == 0)).astype(np.uint8)
    if odd[figure == 0].mean() > PLAIN_BACKGROUND:
        return figure
    odd = cv2.morphologyEx(odd, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts = cv2.connectedComponents(odd)
    touching = np.unique(parts[(cv2.dilate(figure, np.ones((5, 5), np.uint8)) > 0) & (odd > 0)])
    odd[~np.isin(parts, touching)] = 0
    return figure | odd


def _unlikeness(picture: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Distance of every pixel's colour from the nearest of the main colours at `edges` (bool), in
    CIE Lab; (H, W).
    """
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    samples = np.ascontiguousarray(lab[edges])
    count = min(BACKGROUND_COLOURS, len(samples))
    criteria = (cv2.TERM_CRITERIA_COUNT, 10, 0)
    _, _, centres = cv2.kmeans(  # pyright: ignore[reportCallIssue]
        samples,
        count,
        None,  # pyright: ignore[reportArgumentType]
        criteria,
        1,
        cv2.KMEANS_PP_CENTERS,
    )
    return np.min([np.linalg.norm(lab - centre, axis=2) for centre in centres], axis=0)


def _one_piece(figure: np.ndarray) -> np.ndarray:
    """The largest connected part of `figure` uint8 (H, W) of 0 and 1, its holes closed."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(figure)
    if count > 1:
        figure = (parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    outlines, _ = cv2.findContours(figure, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(figure), outlines, -1, 1, cv2.FILLED)


def _fit_to_edges(figure: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """`figure` of a small picture, on the full one and along its edges."""
    rough = cv2.resize(figure.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    # A little inwards: a rim of background is uglier than a thinner figure.
    fitted = fit_to_edges(rough, picture)
    return np.rint(np.clip((fitted - 0.25) / 0.6, 0, 1) * 255).astype(np.uint8)


def fit_to_edges(rough: np.ndarray, picture: np.ndarray, radius: float = FIT_RADIUS) -> np.ndarray:
    """A rough matte, float32 (H, W), along the edges of its picture (guided filter, He et al., ECCV
    2010).

    Args:
        picture: uint8 RGB (H, W, 3).
        radius: how far edges are looked for, in shares of the longer side.
    """
    reach = max(2, round(radius * max(rough.shape)))
    # How both go together is smooth: it is worked out in larger pixels (He and Sun, "Fast Guided Filter", 2015).
    step = min(reach // 2, COARSEST)
    guide = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    extent = -(-rough.shape[1] // step), -(-rough.shape[0] // step)
    coarse = cv2.resize(guide, extent, interpolation=cv2.INTER_AREA).astype(np.float32)
    shown = cv2.resize(rough, extent, interpolation=cv2.INTER_AREA)
    size = 2 * round(reach / step) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (size, size))

    guide_mean, rough_mean = mean(coarse), mean(shown)
    slope = (mean(coarse * shown) - guide_mean * rough_mean) / (
        mean(coarse * coarse) - guide_mean**2 + FIT_CONTRAST**2
    )
    offset = mean(rough_mean - slope * guide_mean)
    slope, offset = (
        cv2.resize(plane, rough.shape[::-1], interpolation=cv2.INTER_LINEAR)
        for plane in (mean(slope), offset)
    )
    return slope * guide + offset


def figure_colours(picture: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The figure's own colours, where soft edges have the old background mixed in.

    Two steps of blurred averages (Forte, "Approximate Fast Foreground Colour Estimation", ICIP
    2021).

    Args:
        picture: uint8 RGB (H, W, 3).
        matte: uint8 (H, W).

    Returns:
        uint8 RGB (H, W, 3): `picture` where the matte is 255, estimated elsewhere.
    """
    height, width = picture.shape[:2]
    # Colours are wanted only under soft edges, where nothing fine is known of them: little
    # resolution will do.
    factor = min(1.0, COLOURS_SIDE / max(height, width))
    extent = (max(1, round(width * factor)), max(1, round(height * factor)))
    pixels = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = cv2.resize(matte, extent, interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
    own, other = pixels, pixels
    for size in (max(3, max(extent) // 16), 3):
        share = cv2.blur(alpha, (size, size))[..., None]
        figure = cv2.blur(own * alpha, (size, size)) / (share + 1e-4)
        behind = cv2.blur(other * (1 - alpha), (size, size)) / (1 - share + 1e-4)
        own = np.clip(figure + alpha * (pixels - alpha * figure - (1 - alpha) * behind), 0, 255)
        other = np.clip(behind, 0, 255)
    own = cv2.resize(np.rint(own).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    sure = cv2.compare(matte, 255, cv2.CMP_EQ)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return cv2.copyTo(picture, sure, own)


def blurred_background(picture: np.ndarray, matte: np.ndarray | None, strength: float) -> np.ndarray:
    """`picture` out of focus, the figure left out so that no halo of it is seen round the moving
    one.

    Args:
        picture: uint8 RGB (H, W, 3).
        matte: uint8 (H, W), or None for no figure.
        strength: standard deviation of the blur in shares of the longer side.

    Returns:
        uint8 RGB (H, W, 3).
    """
    height, width = picture.shape[:2]
    # Nothing fine is left, so an eighth of the resolution does.
    extent = (max(1, width // 8), max(1, height // 8))
    pixels = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA).astype(np.float32)
    sigma = strength * max(extent)
    if matte is not None:
        small = cv2.resize(matte, extent, interpolation=cv2.INTER_AREA)
        # Clear of the figure's soft rim.
        small = cv2.dilate(small, np.ones((3, 3), np.uint8), iterations=2)
        share = (1 - small.astype(np.float32) / 255)[..., None]
        seen = pixels * share
        pixels = np.zeros_like(pixels)
        weight = np.zeros(share.shape, np.float32)
        # Wider and wider averages: the middle of the figure is filled from afar.
        for scale in (1, 4, 16):
            blurred = cv2.GaussianBlur(seen, (0, 0), sigma * scale)
            near = cv2.GaussianBlur(share, (0, 0), sigma * scale)[..., None]
            pixels = pixels + blurred / (near + 1e-3) * np.clip(near * 4, 0, 1) * (1 - weight)
            weight = weight + np.clip(near * 4, 0, 1) * (1 - weight)
        pixels = pixels / np.maximum(weight, 1e-3)
    small = np.clip(cv2.GaussianBlur(pixels, (0, 0), sigma), 0, 255).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
