"""What is drawn over the picture for the person at the tool, and what stands on it when something
is wrong.

The loop makes an `Overlay`, a snapshot of values, with every frame; the window's thread draws it
with `draw`. All sizes follow the picture's, so that one design serves from 320x240 to 4K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, groupby, pairwise

import cv2
import numpy as np

from livepuppet.core.square import Square
from livepuppet.realtime.app.overlay.text import (
    Colour,
    blend,
    draw_text,
    line_height,
    rounded,
    shortened,
    text_width,
    wrapped,
)

#: Colours are RGB. One accent; red is for what is broken.
PANEL, TEXT, DIM = (15, 17, 22), (244, 245, 247), (158, 165, 176)
ACCENT, ALERT, TRACK = (86, 214, 170), (255, 108, 92), (62, 67, 78)
PANEL_OPACITY = 0.76

#: Size of letters and distances, in pixels of a picture 720 high.
SMALL, NORMAL, LARGE, HUGE = 16, 19, 27, 64
GAP, EDGE, RADIUS = 12, 20, 12

#: How strongly the avatar's light and shade lie over the camera.
GHOST = 0.6

#: Height of the driver in the corner, and share of the picture's height that the calibration
#: screen's square takes.
PREVIEW_HEIGHT, CALIBRATION_HEIGHT = 194, 0.6

#: Height of the whole camera picture beside the driver's, in heights of that.
BESIDE = 0.6

#: From which fit on it is called so.
FIT_WORDS = ((0.8, "good"), (0.6, "fair"), (0.0, "not yet"))

#: What the modes are called on the picture; the others need no words.
MODE_BANNERS = {
    "at rest": "The avatar rests",
    "frozen": "Frozen",
    "lost": "No face to be seen",
}


@dataclass(frozen=True)
class OutputLine:
    """How one output fares: its name, a few words or figures, and whether it is out of order."""

    name: str
    text: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Status:
    """Figures of the status panel.

    Attributes:
        fps, camera_fps: pictures per second, out and in.
        delay: from the camera to the output, p50, p95 and p99 in milliseconds.
        stages: name and milliseconds of each, in order.
        dropped, repeated, errors: frames left out, pictures sent twice, frames that failed.
        outputs: one line each.
        engine: what runs the model, and why.
        reduced: what is left out for want of time.
    """

    fps: float = 0.0
    camera_fps: float = 0.0
    delay: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stages: tuple[tuple[str, float], ...] = ()
    dropped: int = 0
    repeated: int = 0
    errors: int = 0
    outputs: tuple[OutputLine, ...] = ()
    engine: str = ""
    reduced: tuple[str, ...] = ()


@dataclass(frozen=True)
class CameraView:
    """The whole camera picture, uint8 RGB (H, W, 3), and the crop in its pixels (None while there
    is none).
    """

    picture: np.ndarray
    square: Square | None = None


@dataclass(frozen=True)
class Slider:
    """A value between two ends; `chosen` is the one that keys change."""

    name: str
    value: float
    low: float = 0.0
    high: float = 1.0
    chosen: bool = False


@dataclass(frozen=True)
class Overlay:
    """A snapshot of what to show. Everything left out is not drawn.

    Attributes:
        mode: `live`, `looking` (for the face) or `counting` (before the neutral pose is taken),
            which show the calibration screen; `at rest`, `frozen`, `lost`, `no picture`, which get
            a banner.
        trouble: one sentence on what is wrong with the source; a banner.
        message: one line at the bottom.
        status: figures, in the upper left corner.
        camera: the whole camera picture, to be shown with the crop in it. Large pictures are shrunk
            here, once per drawing: a thumbnail of 480 pixels does.
        driver: the crop itself, uint8 RGB (S, S, 3).
        ghost: the avatar's square, uint8 RGB (S, S, 3), to be laid over the driver, or None.
        flip: draw camera, driver and ghost like a mirror. Values stay in unflipped pixels.
        fit: how well the driver's pose fits the avatar's, 0 to 1, or None.
        hint: one short sentence on how to sit, for the calibration screen.
        countdown: seconds left and seconds in all, or None.
        help: (heading, label of the keys, what they do), in order.
        sliders: while they are being changed.
    """

    mode: str = "live"
    trouble: str | None = None
    message: str = ""
    status: Status | None = None
    camera: CameraView | None = None
    driver: np.ndarray | None = None
    ghost: np.ndarray | None = None
    flip: bool = False
    fit: float | None = None
    hint: str = ""
    countdown: tuple[float, float] | None = None
    help: tuple[tuple[str, str, str], ...] = ()
    sliders: tuple[Slider, ...] = ()


def draw(picture: np.ndarray, overlay: Overlay) -> None:
    """Draw `overlay` over `picture` uint8 RGB (H, W, 3), in place."""
    if overlay.help:
        draw_help(picture, overlay.help)
        return
    calibrates = overlay.mode in ("looking", "counting") and not overlay.trouble
    if calibrates:
        draw_calibration(picture, overlay)
    elif overlay.status is None or _Scale(picture).unit > 0.45:
        # On very small pictures figures leave no room for it.
        draw_preview(picture, overlay)
    if overlay.sliders:
        draw_sliders(picture, overlay.sliders)
    if overlay.status is not None:
        draw_status(picture, overlay.status)
    if overlay.trouble:
        draw_banner(picture, overlay.trouble, alert=True)
    elif overlay.mode in MODE_BANNERS:
        draw_banner(picture, MODE_BANNERS[overlay.mode])
    if overlay.message and not calibrates:
        draw_message(picture, overlay.message, _preview_width(picture, overlay))


# Measures and shapes


class _Scale:
    """Turns sizes of the design, which is 1280 x 720, into pixels of this picture."""

    def __init__(self, picture: np.ndarray):
        self.height, self.width = picture.shape[:2]
        self.unit = min(self.height / 720, self.width / 960)

    def __call__(self, length: float) -> int:
        return max(1, round(length * self.unit))

    def font(self, size: float) -> int:
        """Letters stay legible on small pictures."""
        return max(11, round(size * self.unit))


def panel(
    picture: np.ndarray,
    x: int,
    y: int,
    width: int,
    height: int,
    radius: int,
    colour: Colour = PANEL,
    opacity: float = PANEL_OPACITY,
) -> None:
    """A dark rectangle with round corners on `picture` uint8 RGB (H, W, 3), in place; cut off at
    the edges.
    """
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, picture.shape[1]), min(y + height, picture.shape[0])
    if left >= right or top >= bottom:
        return
    part = picture[top:bottom, left:right]
    radius = min(radius, width // 2, height // 2)
    if (left, top, right, bottom) != (x, y, x + width, y + height) or radius < 1:
        blend(picture, rounded(width, height, max(radius, 0)), x, y, colour, opacity)
        return
    corners = [
        (rows, columns)
        for rows in (slice(0, radius), slice(-radius, None))
        for columns in (slice(0, radius), slice(-radius, None))
    ]
    before = [part[corner].copy() for corner in corners]
    # OpenCV mixes ten times as fast as the general way, and only the corners need a mask.
    cv2.addWeighted(part, 1 - opacity, _plain(bottom - top, right - left, colour), opacity, 0, dst=part)
    mask = rounded(width, height, radius)
    for corner, old in zip(corners, before, strict=True):
        share = mask[corner].astype(np.float32)[..., None] / 255
        part[corner] = np.rint(old + (part[corner].astype(np.float32) - old) * share)


@lru_cache(maxsize=16)
def _plain(height: int, width: int, colour: Colour) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def _bar(picture: np.ndarray, x: int, y: int, width: int, height: int, share: float, colour: Colour) -> None:
    """A track, filled from the left as far as `share` in [0, 1] says."""
    blend(picture, rounded(width, height, height // 2), x, y, TRACK)
    filled = round(width * min(max(share, 0.0), 1.0))
    if filled >= height:
        blend(picture, rounded(filled, height, height // 2), x, y, colour)


def _image(
    picture: np.ndarray, image: np.ndarray, x: int, y: int, width: int, height: int, radius: int
) -> None:
    """`image` uint8 RGB at (x, y), resized, with round corners."""
    shrinks = image.shape[1] > width
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    part = picture[y : y + height, x : x + width]
    image = image[: part.shape[0], : part.shape[1]]
    mask = rounded(width, height, radius)[: part.shape[0], : part.shape[1]]
    radius = max(1, min(radius, width // 2, height // 2))
    for rows in (slice(0, radius), slice(max(height - radius, radius), height)):
        for columns in (slice(0, radius), slice(max(width - radius, radius), width)):
            share = mask[rows, columns].astype(np.float32)[..., None] / 255
            old, new = part[rows, columns], image[rows, columns]
            new[...] = np.rint(old + (new.astype(np.float32) - old) * share)
    part[...] = image


def _tint(share: float) -> Colour:
    """From gray to the accent."""
    red, green, blue = (round(dim + (bright - dim) * share) for dim, bright in zip(DIM, ACCENT, strict=True))
    return red, green, blue


# The screens


def draw_status(picture: np.ndarray, status: Status) -> None:
    """Rates, delays, stages and outputs in the upper left corner of `picture` uint8 RGB, in place."""
    scale = _Scale(picture)
    small, normal, large = scale.font(SMALL), scale.font(NORMAL), scale.font(LARGE)
    gap, edge = scale(GAP), scale(EDGE)
    width = min(
        max(scale(300), text_width("output of some name, some state", small)), picture.shape[1] - 2 * edge
    )
    step = line_height(small)
    stage_rows = -(-len(status.stages) // 2)
    failed = {
        line.name: wrapped(line.text, small, width - 2 * gap - small)[:2]
        for line in status.outputs
        if line.failed
    }
    counts = [("dropped", status.dropped), ("repeated", status.repeated), ("failed", status.errors)]
    counts = counts if status.errors else counts[:2]
    rows_of_outputs = sum(1 + len(failed.get(line.name, ())) for line in status.outputs)
    height = 2 * gap + line_height(large) + line_height(normal) + 2 * step + gap // 2
    height += stage_rows * step + (gap if stage_rows else 0)
    told = [(text, DIM) for text in (status.engine,) if text] + [(text, ALERT) for text in status.reduced]
    height += len(told) * step + gap if told else 0
    height += rows_of_outputs * step + (gap if status.outputs else 0)
    panel(picture, edge, edge, width, height, scale(RADIUS))
    x, y, right = edge + gap, edge + gap, edge + width - gap

    used = draw_text(picture, f"{status.fps:.1f}", x, y, large, ACCENT)
    draw_text(picture, "FPS", x + used + gap // 2, y + large - small, small, DIM)
    if status.camera_fps:
        draw_text(picture, f"camera {status.camera_fps:.1f}", right, y + large - small, small, DIM, "right")
    y += line_height(large)

    # Three columns of equal width, so that nothing moves while the figures change.
    draw_text(picture, "delay, ms", x, y + normal - small, small, DIM)
    column = (right - x) // 4
    for place, (name, value) in enumerate(zip(("p50", "p95", "p99"), status.delay, strict=True)):
        end = right - (2 - place) * column
        draw_text(picture, f"{value:.0f}", end, y, normal, TEXT, "right")
        draw_text(picture, name, end, y + line_height(normal) - small // 4, small, DIM, "right")
    y += line_height(normal) + step + gap // 2

    share = (right - x) / len(counts)
    for place, (name, count) in enumerate(counts):
        start = x + round(place * share)
        used = draw_text(picture, name, start, y, small, DIM)
        draw_text(picture, f"{count}", start + used + gap // 2, y, small, ALERT if name == "failed" else TEXT)
    y += step

    if stage_rows:
        y = _rule(picture, x, y, right, gap)
        half = (right - x - gap) // 2
        for index, (name, value) in enumerate(status.stages):
            start = x + (index // stage_rows) * (half + gap)
            row = y + (index % stage_rows) * step
            draw_text(picture, name, start, row, small, DIM)
            draw_text(picture, f"{value:.1f}", start + half, row, small, TEXT, "right")
        y += stage_rows * step
    if told:
        y = _rule(picture, x, y, right, gap)
        for text, colour in told:
            draw_text(picture, shortened(text, small, right - x), x, y, small, colour)
            y += step
    if status.outputs:
        y = _rule(picture, x, y, right, gap)
        dot = max(4, small // 2)
        for line in status.outputs:
            mark = rounded(dot, dot, dot // 2)
            blend(picture, mark, x, y + (step - dot) // 2, ALERT if line.failed else ACCENT)
            start = x + dot + gap // 2
            used = 0
            if not line.failed:
                used = draw_text(picture, line.text, right, y, small, DIM, "right") + gap
            draw_text(picture, shortened(line.name, small, right - start - used), start, y, small, TEXT)
            y += step
            for sentence in failed.get(line.name, ()):
                draw_text(picture, sentence, start, y, small, ALERT)
                y += step


def _rule(picture: np.ndarray, x: int, y: int, right: int, gap: int) -> int:
    """A thin line. Returns where to go on."""
    picture[y + gap // 2 : y + gap // 2 + 1, x:right] = TRACK
    return y + gap


def draw_help(picture: np.ndarray, rows: Sequence[tuple[str, str, str]]) -> None:
    """The list of keys in the middle of `picture` uint8 RGB, in place.

    Args:
        rows: (heading, label of the keys, what they do); rows of one heading follow each other.
    """
    scale = _Scale(picture)
    groups = [
        (heading, [row[1:] for row in found]) for heading, found in groupby(rows, key=lambda row: row[0])
    ]
    # The largest letters with which it fits, in as few columns as it takes.
    for size in range(scale.font(SMALL + 1), 5, -1):
        for columns in (1, 2, 3):
            layout = _help_layout(groups, size, columns)
            if layout[1] <= scale.width * 0.97 and layout[2] <= scale.height * 0.97:
                break
        else:
            continue
        break
    parts, width, height = layout
    left, top = (scale.width - width) // 2, (scale.height - height) // 2
    cv2.convertScaleAbs(picture, dst=picture, alpha=0.6)
    panel(picture, left, top, width, height, scale(RADIUS), opacity=0.92)
    gap, step = size, round(size * 1.5)
    x = left + gap
    for column, label_width, column_width in parts:
        y = top + gap
        for heading, entries in column:
            draw_text(picture, heading, x, y, size, ACCENT)
            y += step
            for label, text in entries:
                draw_text(picture, label, x, y, size, TEXT)
                draw_text(picture, text, x + label_width + gap, y, size, DIM)
                y += step
            y += step // 2
        x += column_width + 2 * gap


def _help_layout(groups, size: int, columns: int):
    """Groups shared out over columns: [(groups, width of the labels, width)], and the whole width
    and height.
    """
    step, gap = round(size * 1.5), size

    def tall(part) -> int:
        return sum(step * (len(entries) + 1) + step // 2 for _, entries in part)

    # Few groups, so every way to cut them into columns is tried; the lowest panel is the best.
    cuts = combinations(range(1, len(groups)), min(columns, len(groups)) - 1)
    ways = ([groups[i:j] for i, j in pairwise((0, *cut, len(groups)))] for cut in cuts)
    shared = min(ways, key=lambda way: max(map(tall, way)))
    parts = []
    for part in shared:
        entries = [entry for _, found in part for entry in found]
        label = max((text_width(entry[0], size) for entry in entries), default=0)
        text = max((text_width(entry[1], size) for entry in entries), default=0)
        heading = max((text_width(found, size) for found, _ in part), default=0)
        parts.append((part, label, max(label + gap + text, heading)))
    width = sum(part[2] for part in parts) + 2 * gap * len(parts)
    return parts, width, max(map(tall, shared)) - step // 2 + 2 * gap


def _preview_width(picture: np.ndarray, overlay: Overlay) -> int:
    """Pixels that the preview takes of the lower edge, from the left."""
    scale = _Scale(picture)
    height = scale(PREVIEW_HEIGHT)
    width = 0.0 if overlay.driver is None else height + scale(GAP)
    if overlay.camera is not None:
        shape = overlay.camera.picture.shape
        width += height * (BESIDE if overlay.driver is not None else 1) * shape[1] / shape[0] + scale(GAP)
    return round(width)


def draw_message(picture: np.ndarray, text: str, taken: int = 0) -> None:
    """A few words at the bottom of `picture` uint8 RGB, in the middle, in place.

    Args:
        taken: width of what is in the lower left corner, in pixels.
    """
    scale = _Scale(picture)
    size, gap, edge = scale.font(NORMAL), scale(GAP), scale(EDGE)
    free_from = edge + taken
    if picture.shape[1] - free_from < picture.shape[1] * 0.4:
        free_from = edge
    lines = wrapped(text, size, picture.shape[1] - free_from - edge - 3 * gap)[:3]
    width = max(text_width(line, size) for line in lines) + 3 * gap if lines else 0
    height = line_height(size) * len(lines) + 2 * (gap // 2 + 1)
    # In the middle of the picture where there is room for that.
    x = max((picture.shape[1] - width) // 2, free_from)
    y = picture.shape[0] - edge - height
    panel(picture, x, y, width, height, scale(RADIUS))
    for row, line in enumerate(lines):
        draw_text(
            picture, line, x + width // 2, y + gap // 2 + 1 + row * line_height(size), size, TEXT, "center"
        )


def draw_banner(picture: np.ndarray, text: str, alert: bool = False) -> None:
    """A sentence at the top of `picture`, in place, fit to be seen by those at the other end too.

    Args:
        picture: uint8 RGB (H, W, 3), or RGBA (H, W, 4), where the banner becomes opaque.
        alert: mark it in red rather than in the accent colour.
    """
    if not text:
        return
    if picture.shape[2] == 4:
        rgb = np.ascontiguousarray(picture[..., :3])
        before = rgb.copy()
        draw_banner(rgb, text, alert)
        changed = (rgb != before).any(axis=2)
        picture[..., :3] = rgb
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if rows.size:
            picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 3] = 255
        return
    scale = _Scale(picture)
    size, gap, edge = scale.font(NORMAL + 2), scale(GAP), scale(EDGE)
    dot = max(4, size // 2)
    lines = wrapped(text, size, round(picture.shape[1] * 0.7) - 3 * gap - dot)[:3]
    width = max(text_width(line, size) for line in lines) + dot + round(3.5 * gap)
    height = line_height(size) * len(lines) + 2 * (round(0.7 * gap) + 1)
    x, y = (picture.shape[1] - width) // 2, edge
    panel(picture, x, y, width, height, scale(RADIUS), opacity=0.85)
    start = y + round(0.7 * gap) + 1
    blend(
        picture,
        rounded(dot, dot, dot // 2),
        x + round(1.2 * gap),
        start + (line_height(size) - dot) // 2,
        ALERT if alert else ACCENT,
    )
    for row, line in enumerate(lines):
        draw_text(picture, line, x + round(2.1 * gap) + dot, start + row * line_height(size), size, TEXT)


def draw_sliders(picture: np.ndarray, sliders: Sequence[Slider]) -> None:
    """Names, bars and values in the lower right corner of `picture` uint8 RGB, in place."""
    scale = _Scale(picture)
    size, gap, edge = scale.font(SMALL), scale(GAP), scale(EDGE)
    names = max(text_width(slider.name, size) for slider in sliders)
    values = text_width("00.00", size)
    bar, step = scale(150), line_height(size) + scale(6)
    width, height = names + bar + values + 4 * gap, step * len(sliders) + 2 * gap - scale(6)
    x, y = picture.shape[1] - edge - width, picture.shape[0] - edge - height
    panel(picture, x, y, width, height, scale(RADIUS))
    thick = max(4, size // 3)
    for row, slider in enumerate(sliders):
        line = y + gap + row * step
        colour = ACCENT if slider.chosen else DIM
        draw_text(picture, slider.name, x + gap, line, size, TEXT if slider.chosen else DIM)
        share = (slider.value - slider.low) / max(slider.high - slider.low, 1e-9)
        middle = line + line_height(size) // 2
        _bar(picture, x + names + 2 * gap, middle - thick // 2, bar, thick, share, colour)
        if slider.chosen:
            knob = 2 * thick + 1
            at = x + names + 2 * gap + round(bar * min(max(share, 0), 1))
            blend(picture, rounded(knob, knob, knob // 2), at - knob // 2, middle - knob // 2, TEXT)
        draw_text(
            picture,
            f"{slider.value:.2f}",
            x + width - gap,
            line,
            size,
            TEXT if slider.chosen else DIM,
            "right",
        )


def _haunted(driver: np.ndarray, ghost: np.ndarray, strength: float = GHOST) -> np.ndarray:
    """`driver` uint8 RGB (S, S, 3) with the light and shade of `ghost`, tinted; new.

    Only how the avatar departs from its own mean is laid over, so that the driver keeps its
    brightness and colours.
    """
    side = driver.shape[0]
    shrinks = side < ghost.shape[0]
    gray = cv2.cvtColor(ghost, cv2.COLOR_RGB2GRAY)
    gray = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    shade = gray.astype(np.float32) - np.float32(cv2.mean(gray)[0])
    tints = [shade * np.float32(strength * level / max(ACCENT)) for level in ACCENT]
    return cv2.add(cv2.convertScaleAbs(driver, alpha=0.9), cv2.merge(tints), dtype=cv2.CV_8U)


def _with_ghost(driver: np.ndarray, ghost: np.ndarray | None, flip: bool) -> np.ndarray:
    """The driver's square with the avatar's ghost over it, uint8 RGB (S, S, 3), new."""
    mixed = driver.copy()
    if ghost is not None:
        mixed = _haunted(driver, ghost)
    return cv2.flip(mixed, 1) if flip else mixed


def draw_preview(picture: np.ndarray, overlay: Overlay) -> None:
    """The driver in the lower left corner of `picture` uint8 RGB, in place, and the camera with the
    crop beside it.
    """
    scale = _Scale(picture)
    edge, height = scale(EDGE), scale(PREVIEW_HEIGHT)
    x, bottom = edge, picture.shape[0] - edge
    if overlay.driver is not None:
        image = _with_ghost(overlay.driver, overlay.ghost, overlay.flip)
        y = _tile(picture, image, x, bottom, height, scale)
        if overlay.fit is not None:
            thick, inset = max(4, scale(6)), scale(10)
            _bar(
                picture,
                x + inset,
                y + height - inset - thick,
                height - 2 * inset,
                thick,
                overlay.fit,
                _tint(overlay.fit),
            )
        x, height = x + height + scale(GAP), round(height * BESIDE)
    if overlay.camera is not None:
        ghost = overlay.ghost if overlay.driver is None else None
        _tile(picture, _framed(overlay.camera, ghost, overlay.flip, height), x, bottom, height, scale)


def _tile(picture: np.ndarray, image: np.ndarray, x: int, bottom: int, height: int, scale: _Scale) -> int:
    """`image` with a dark rim, its lower left corner at (x, bottom). Returns its top."""
    width = min(round(height * image.shape[1] / image.shape[0]), picture.shape[1] - x)
    border = max(2, scale(3))
    panel(
        picture,
        x - border,
        bottom - height - border,
        width + 2 * border,
        height + 2 * border,
        scale(RADIUS) + border,
    )
    _image(picture, image, x, bottom - height, width, height, scale(RADIUS))
    return bottom - height


def _framed(camera: CameraView, ghost: np.ndarray | None, flip: bool, height: int) -> np.ndarray:
    """The whole camera picture, `height` high, the crop marked and the rest darkened; uint8 RGB,
    new.
    """
    factor = height / camera.picture.shape[0]
    width = max(1, round(camera.picture.shape[1] * factor))
    shrinks = factor < 1
    image = cv2.resize(
        camera.picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    if camera.square is not None:
        square = camera.square.scaled(factor)
        left, top, side = round(square.x), round(square.y), max(2, round(square.side))
        rows = slice(max(top, 0), max(top + side, 0))
        columns = slice(max(left, 0), max(left + side, 0))
        inside = image[rows, columns].copy()
        image = cv2.convertScaleAbs(image, alpha=0.5)
        if ghost is not None and inside.size:
            whole = np.zeros((side, side, 3), np.uint8)
            place = (slice(rows.start - top, None), slice(columns.start - left, None))
            part = whole[place][: inside.shape[0], : inside.shape[1]]
            part[...] = inside
            whole = _haunted(whole, ghost)
            inside = whole[place][: inside.shape[0], : inside.shape[1]]
        image[rows, columns] = inside
        cv2.rectangle(
            image, (left, top), (left + side - 1, top + side - 1), ACCENT, max(1, height // 110), cv2.LINE_AA
        )
    return cv2.flip(image, 1) if flip else image


def draw_calibration(picture: np.ndarray, overlay: Overlay) -> None:
    """The screen before the neutral pose is taken, over `picture` uint8 RGB, in place.

    The driver large with the avatar's ghost, what to do, how well the pose fits, and the countdown.
    """
    scale = _Scale(picture)
    gap, normal, small, large = scale(1.6 * GAP), scale.font(NORMAL), scale.font(SMALL), scale.font(LARGE)
    cv2.convertScaleAbs(picture, dst=picture, alpha=0.45)
    side = round(min(picture.shape[0] * CALIBRATION_HEIGHT, picture.shape[1] * 0.42))
    if overlay.driver is not None and (overlay.mode == "counting" or overlay.camera is None):
        image = _with_ghost(overlay.driver, overlay.ghost, overlay.flip)
    elif overlay.camera is not None:
        image = _framed(overlay.camera, overlay.ghost, overlay.flip, side)
    else:
        image = None
    image_width = (
        0
        if image is None
        else min(round(side * image.shape[1] / image.shape[0]), round(picture.shape[1] * 0.5))
    )
    image_height = 0 if image is None else round(image_width * image.shape[0] / image.shape[1])
    column = min(scale(330), picture.shape[1] - image_width - 3 * gap - 2 * scale(EDGE))
    width = image_width + column + (3 if image_width else 2) * gap
    height = side + 2 * gap
    x, y = (picture.shape[1] - width) // 2, (picture.shape[0] - height) // 2
    panel(picture, x, y, width, height, scale(1.5 * RADIUS), opacity=0.9)
    if image is not None:
        top = y + gap + (side - image_height) // 2
        _image(picture, image, x + gap, top, image_width, image_height, scale(RADIUS))
        x += image_width + gap
    x, y, bottom = x + gap, y + gap, y + gap + side

    title = "Take your neutral pose" if overlay.mode == "counting" else "Looking for your face"
    hint = overlay.hint or (
        "Line your face up with the ghost, mouth closed, eyes open."
        if overlay.mode == "counting"
        else "Look straight ahead, in good light, with your whole head in the picture."
    )
    titles, hints = wrapped(title, large, column), wrapped(hint, normal, column)
    if overlay.countdown is None and overlay.fit is None:
        y += (bottom - y - len(titles) * line_height(large) - len(hints) * line_height(normal)) // 2
    for line in titles:
        draw_text(picture, line, x, y, large, TEXT)
        y += line_height(large)
    y += gap // 3
    for line in hints:
        draw_text(picture, line, x, y, normal, DIM)
        y += line_height(normal)
    if overlay.countdown is not None:
        left, total = overlay.countdown
        radius = min(scale(62), (bottom - y) // 3, column // 3)
        if radius > 12:
            fit_room = 2 * line_height(small) + gap if overlay.fit is not None else 0
            middle = y + (bottom - fit_room - y) // 2
            _ring(picture, x + column // 2, middle, radius, left, total)
    if overlay.fit is not None:
        word = next(word for least, word in FIT_WORDS if overlay.fit >= least)
        thick = max(5, scale(9))
        y = bottom - thick
        _bar(picture, x, y, column, thick, overlay.fit, _tint(overlay.fit))
        y -= line_height(small) + gap // 4
        draw_text(picture, "Fit with the avatar", x, y, small, DIM)
        draw_text(picture, word, x + column, y, small, _tint(overlay.fit), "right")


def _ring(picture: np.ndarray, x: int, y: int, radius: int, left: float, total: float) -> None:
    """A ring that empties, with the seconds left in it."""
    share = min(max(left / max(total, 1e-6), 0.0), 1.0)
    thick = max(3, radius // 8)
    cv2.circle(picture, (x, y), radius, TRACK, thick, cv2.LINE_AA)
    if share > 0:
        cv2.ellipse(picture, (x, y), (radius, radius), -90, 0, 360 * share, ACCENT, thick, cv2.LINE_AA)
    size = round(radius * 1.0)
    draw_text(
        picture, f"{int(np.ceil(max(left, 0)))}", x, y - round(line_height(size) * 0.52), size, TEXT, "center"
    )
