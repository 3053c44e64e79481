"""The finished picture: the moved square in the whole avatar, sharp where the model is soft, on the background wanted."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from livepuppet.realtime.avatars import Avatar
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing.square import Square, cut
from livepuppet.realtime.view.matte import blurred_background, figure_colours, find_matte

#: Width of the soft edge of a square that lies inside a larger picture, in shares of its side.
FEATHER = 0.16

#: Blur of the background, as standard deviation in shares of the longer side.
BLUR = 0.022

#: So many avatars are kept ready for the canvas; others take some milliseconds when they are switched to.
KEPT_LAYERS, KEPT_MATTES = 10, 64

FITS = ("letterbox", "fill")

#: Names that people use, and what they stand for.
_ALIASES = {"green": "#00ff00", "blue": "#0000ff", "as is": "as-is", "transparent": "alpha"}


def parse_background(text: str) -> str:
    """`as-is`, `blur`, `alpha` or a colour as `#rrggbb`, in lower case, from how people write it. Raises UserError."""
    background = text.strip().lower()
    background = _ALIASES.get(background, background)
    if background not in ("as-is", "blur", "alpha") and not re.fullmatch("#[0-9a-f]{6}", background):
        raise UserError(
            f"The background '{text}' is unknown: use as-is, blur, alpha, green, blue or a colour as #00ff00."
        )
    return background


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels, its right and lower edge left out."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def common(self, other: Box) -> Box:
        """What both cover; empty where nothing is."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        return Box(
            left, top, max(left, min(self.right, other.right)), max(top, min(self.bottom, other.bottom))
        )

    def of(self, picture: np.ndarray, whole: Box) -> np.ndarray:
        """This part of `picture`, which covers `whole`. A view."""
        return picture[
            self.top - whole.top : self.bottom - whole.top, self.left - whole.left : self.right - whole.left
        ]


@dataclass(frozen=True)
class Layers:
    """What one avatar needs on one canvas, worked out once. Boxes are in the canvas's pixels.

    Attributes:
        rest: the finished picture at rest, uint8 (H, W, 3 or 4).
        picture: where the whole avatar goes; may reach beyond the canvas.
        square: where the model's square goes; may reach beyond both.
        seen: the part of it that is in the picture and on the canvas.
        figure: the avatar at the canvas's scale, uint8 RGB, as large as `picture`. This is what is bent.
        edges: which edges of the square lie inside the picture: left, top, right, bottom.
        matte: uint8, as large as `picture`, 255 where the figure is; None where the background stays as it is.
        behind: the new background under `seen`, uint8 RGB; None without one.
        detailed: whether the canvas shows more than the model paints.
    """

    rest: np.ndarray
    picture: Box
    square: Box
    seen: Box
    figure: np.ndarray
    edges: tuple[bool, bool, bool, bool]
    matte: np.ndarray | None
    behind: np.ndarray | None
    detailed: bool


class Stage:
    """Sets moved squares into canvases of one size.

    Where the engine tells how it bent the avatar, the avatar's own pixels are bent at the canvas's resolution, and what
    the model painted is added: `warp(avatar) + enlarged(model's picture - warp(model's avatar))`. So the avatar stays
    as sharp as its file, comes back exactly when nothing moves, and the bending fades out towards the square's edges;
    one picture fading into another would show outlines twice.

    One thread composes; only the search for figures goes on in another.

    Args:
        width, height: of the canvas, in pixels.
        fit: `letterbox` (everything is seen) or `fill` (no bars, edges may be cut off).
        paste: show the whole avatar picture; else the moving square alone.
        background: see `parse_background`. `alpha` makes canvases RGBA for as long as the stage lives.
        sharp: bend the avatar's own pixels as above.

    Attributes:
        shape: of the canvases, (H, W, 3) or (H, W, 4).

    Raises:
        UserError: for another background or fit.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fit: str = "letterbox",
        paste: bool = True,
        background: str = "as-is",
        sharp: bool = True,
    ):
        if fit not in FITS:
            raise UserError(f"The fit '{fit}' is unknown: use letterbox or fill.")
        self.width, self.height, self.fit, self.sharp = width, height, fit, sharp
        self._paste, self._background = paste, parse_background(background)
        self.shape = (height, width, 4 if self._background == "alpha" else 3)
        self._avatar: Avatar | None = None
        self._layers: Layers | None = None
        self._waits = False
        self._kept: OrderedDict[tuple, tuple[Avatar, Layers]] = OrderedDict()
        self._mattes = _Mattes(max(width, height))
        self._buffers: dict[str, np.ndarray] = {}

    @property
    def paste(self) -> bool:
        """Whether the whole avatar picture is shown. May be set at any time."""
        return self._paste

    @paste.setter
    def paste(self, wanted: bool) -> None:
        self._paste = wanted
        if self._avatar is not None:
            self.set_avatar(self._avatar)

    @property
    def background(self) -> str:
        """May be set at any time; until the figure is found (part of a second) the old background stays.

        Raises:
            UserError: it is unknown, or `alpha` where the canvases are RGB.
        """
        return self._background

    @background.setter
    def background(self, text: str) -> None:
        background = parse_background(text)
        if background == "alpha" and self.shape[2] == 3:
            raise UserError(
                "A transparent background has to be chosen at the start: restart with --background alpha."
            )
        self._background = background
        if self._avatar is not None:
            self.set_avatar(self._avatar)

    def prepare(self, avatar: Avatar, wait: bool = False) -> None:
        """Do now what showing `avatar` would need later.

        Args:
            wait: for its figure too, where the background needs it (up to half a second). Otherwise the search goes on
                in a thread, one avatar after another, those that are shown first.
        """
        if self._background != "as-is":
            self._mattes.find(avatar) if wait else self._mattes.begin(avatar)
        self._layers_of(avatar, shown=False)

    def set_avatar(self, avatar: Avatar) -> None:
        """Show this avatar from the next picture on."""
        self._avatar = avatar
        self._layers, self._waits = self._layers_of(avatar)

    @property
    def needs_deformation(self) -> bool:
        """Whether the present avatar looks better with the engine's deformation."""
        layers = self._layers
        return layers is not None and (
            layers.matte is not None or (self.sharp and (layers.detailed or any(layers.edges)))
        )

    def at_rest(self, out: np.ndarray) -> None:
        """Write the avatar itself into `out` uint8 (H, W, 3 or 4)."""
        np.copyto(out, self._newest_layers().rest)

    def compose(self, square: np.ndarray, deformation: np.ndarray | None, out: np.ndarray) -> None:
        """Write the finished picture into `out`.

        Args:
            square: the moved avatar, uint8 RGB (S, S, 3).
            deformation: float32 (h, w, 2), where in the avatar's square each place of `square` came from, as (x, y) in
                [-1, 1], -1 and 1 being the centres of the outermost pixels; None where the engine does not say.
            out: uint8 RGB (H, W, 3), or RGBA with straight alpha (H, W, 4).
        """
        layers = self._newest_layers()
        np.copyto(out, layers.rest)
        if not layers.seen.width or not layers.seen.height:
            return
        region = layers.seen.of(out, Box(0, 0, self.width, self.height))
        if deformation is None or not self.needs_deformation:
            moved, matte = self._enlarge(layers, square), layers.matte
            matte = None if matte is None else layers.seen.of(matte, layers.picture)
        else:
            moved, matte = self._bend(layers, square, deformation)
        self._put(layers, moved, matte, region)

    def _newest_layers(self) -> Layers:
        if self._waits and self._mattes.get(self._avatar) is not None:
            self.set_avatar(self._avatar)
        return self._layers

    def _enlarge(self, layers: Layers, square: np.ndarray) -> np.ndarray:
        """The model's picture itself, faded into the avatar at rest where it has edges inside it."""
        extent = layers.square
        moved = self._buffer("square", (extent.height, extent.width, 3), np.uint8)
        _resize(square, (extent.width, extent.height), moved)
        moved = layers.seen.of(moved, extent)
        if any(layers.edges):
            rest = layers.seen.of(layers.figure, layers.picture)
            weight = layers.seen.of(_soft_edges(extent.width, extent.height, layers.edges), extent)
            for rows, columns in _strips(layers):
                part = weight[rows, columns]
                moved[rows, columns] = cv2.blendLinear(
                    moved[rows, columns], rest[rows, columns], part, 1 - part
                )
        return moved

    def _bend(
        self, layers: Layers, square: np.ndarray, deformation: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The avatar's own pixels bent, with what the model painted, and the matte bent alike."""
        size, extent, seen = square.shape[0], layers.square, layers.seen
        rows, columns = deformation.shape[:2]
        # In pixels of the model's square.
        shift = (deformation - _identity(rows, columns)) * np.float32((size - 1) / 2)

        place = self._buffer("small place", (size, size, 2), np.float32)
        cv2.add(_spread(shift, size, size, size), _pixel_grid(size, size), dst=place)
        bent = self._buffer("bent", (size, size, 3), np.uint8)
        cv2.remap(
            self._avatar.picture, place, None, cv2.INTER_LINEAR, dst=bent, borderMode=cv2.BORDER_REPLICATE
        )
        painted = cv2.subtract(square, bent, dtype=cv2.CV_16S)

        shift *= np.float32([extent.width / size, extent.height / size])
        if any(layers.edges):
            shift *= _soft_edges(columns, rows, layers.edges)[..., None]
            cv2.multiply(painted, _soft_pixels(size, layers.edges), dst=painted, scale=1 / 256)
        # The grid's origin is the seen part's corner; the avatar's is its own.
        shift += np.float32([seen.left - layers.picture.left, seen.top - layers.picture.top])
        place = self._buffer("place", (seen.height, seen.width, 2), np.float32)
        spread = seen.of(_spread(shift, extent.width, extent.height, size), extent)
        cv2.add(spread, _pixel_grid(seen.width, seen.height), dst=place)
        moved = self._buffer("moved", (seen.height, seen.width, 3), np.uint8)
        cv2.remap(layers.figure, place, None, cv2.INTER_LINEAR, dst=moved, borderMode=cv2.BORDER_REPLICATE)
        added = self._buffer("added", (extent.height, extent.width, 3), np.int16)
        _resize(painted, (extent.width, extent.height), added, cv2.INTER_LINEAR)
        cv2.add(moved, seen.of(added, extent), dst=moved, dtype=cv2.CV_8U)
        if layers.matte is None:
            return moved, None
        matte = self._buffer("matte", (seen.height, seen.width), np.uint8)
        cv2.remap(layers.matte, place, None, cv2.INTER_LINEAR, dst=matte, borderMode=cv2.BORDER_REPLICATE)
        return moved, matte

    def _put(self, layers: Layers, moved: np.ndarray, matte: np.ndarray | None, region: np.ndarray) -> None:
        """Write `moved` into the canvas: over the new background, beside its matte, or as it is."""
        if matte is not None and layers.behind is not None:
            share = self._buffer("share", matte.shape, np.float32)
            rest = self._buffer("rest", matte.shape, np.float32)
            cv2.multiply(matte, 1 / 255, dst=share, dtype=cv2.CV_32F)
            cv2.subtract(1.0, share, dst=rest)
            moved = np.ascontiguousarray(moved)
            if region.shape[2] == 3:
                cv2.blendLinear(moved, layers.behind, share, rest, dst=region)
                return
            moved, matte = cv2.blendLinear(moved, layers.behind, share, rest), None
        if region.shape[2] == 3:
            np.copyto(region, moved)
            return
        if matte is None:
            matte = np.full(moved.shape[:2], 255, np.uint8)
        cv2.mixChannels(
            [np.ascontiguousarray(moved), np.ascontiguousarray(matte)], [region], [0, 0, 1, 1, 2, 2, 3, 3]
        )

    def _buffer(self, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """Memory that is used again for every picture: fresh pages cost more than what is written to them."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape:
            buffer = self._buffers[name] = np.empty(shape, kind)
        return buffer

    def _layers_of(self, avatar: Avatar, shown: bool = True) -> tuple[Layers, bool]:
        """The layers, and whether they lack a matte that is being looked for."""
        matte = None if self._background == "as-is" else self._mattes.get(avatar)
        if matte is None and shown and self._background != "as-is":
            self._mattes.begin(avatar, first=True)
        waits = matte is None and self._background != "as-is"
        key = (id(avatar), self._paste, "as-is" if waits else self._background)
        if key not in self._kept:
            # The avatar is kept with its layers, so that no other can come by its id.
            self._kept[key] = avatar, self._build(avatar, matte)
            while len(self._kept) > KEPT_LAYERS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][1], waits

    def _build(self, avatar: Avatar, matte: np.ndarray | None) -> Layers:
        canvas = Box(0, 0, self.width, self.height)
        original, place = avatar.original, avatar.square
        if matte is not None and matte.shape != original.shape[:2]:
            matte = cv2.resize(matte, original.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        if not self._paste:
            side = max(1, round(place.side))
            original = cut(original, place, side)
            matte = None if matte is None else cut(matte, place, side)
            place = Square(0, 0, side)
        picture, square = _places(self.width, self.height, self.fit, original.shape, place)
        figure = np.empty((picture.height, picture.width, 3), np.uint8)
        if place.side == avatar.picture.shape[0] == square.width and not self._paste:
            np.copyto(figure, avatar.picture)
        else:
            _resize(original, (picture.width, picture.height), figure)
        seen = square.common(picture).common(canvas)
        edges = (
            square.left > picture.left + 1,
            square.top > picture.top + 1,
            square.right < picture.right - 1,
            square.bottom < picture.bottom - 1,
        )
        behind = None
        if matte is not None:
            matte = cv2.resize(
                matte,
                (picture.width, picture.height),
                interpolation=cv2.INTER_AREA if picture.width < matte.shape[1] else cv2.INTER_LINEAR,
            )
            behind = self._new_background(figure, matte, picture)
            figure = figure_colours(figure, matte)
        rest = self._rest(figure, matte, behind, picture)
        return Layers(
            rest,
            picture,
            square,
            seen,
            figure,
            edges,
            matte,
            None if behind is None else np.ascontiguousarray(seen.of(behind, canvas)),
            detailed=place.side > avatar.picture.shape[0] < square.width,
        )

    def _new_background(self, figure: np.ndarray, matte: np.ndarray, picture: Box) -> np.ndarray | None:
        """uint8 RGB (H, W, 3) of the whole canvas, or None for a transparent one."""
        if self._background == "alpha":
            return None
        if self._background == "blur":
            # Beside the picture its edges go on, so that bars are as blurred as the rest.
            return blurred_background(
                _on_canvas(figure, picture, self.width, self.height),
                _on_canvas(matte, picture, self.width, self.height),
                BLUR,
            )
        colour = [int(self._background[place : place + 2], 16) for place in (1, 3, 5)]
        return np.full((self.height, self.width, 3), colour, np.uint8)

    def _rest(
        self, figure: np.ndarray, matte: np.ndarray | None, behind: np.ndarray | None, picture: Box
    ) -> np.ndarray:
        canvas = Box(0, 0, self.width, self.height)
        rest = np.zeros(self.shape, np.uint8)
        shown = picture.common(canvas)
        transparent = matte is not None and behind is None
        if behind is not None:
            rest[..., :3] = behind
        if rest.shape[2] == 4 and not transparent:
            rest[..., 3] = 255
        target, figure = shown.of(rest, canvas), shown.of(figure, picture)
        matte = None if matte is None else shown.of(matte, picture)
        if behind is not None:
            share = cv2.multiply(matte, 1 / 255, dtype=cv2.CV_32F)
            figure = cv2.blendLinear(
                np.ascontiguousarray(figure), np.ascontiguousarray(target[..., :3]), share, 1 - share
            )
        target[..., :3] = figure
        if transparent:
            target[..., 3] = matte
        return rest


class _Mattes:
    """The figures of avatars, each looked for once, in a thread that lives while there is something to look for.

    Args:
        longest: side of the pictures they are found in, in pixels: no canvas shows more.
    """

    def __init__(self, longest: int):
        self._longest = longest
        self._found: OrderedDict[int, tuple[Avatar, np.ndarray]] = OrderedDict()
        self._wanted: OrderedDict[int, Avatar] = OrderedDict()
        self._lock = threading.Lock()
        self._working = False

    def get(self, avatar: Avatar) -> np.ndarray | None:
        """The matte, uint8, of any scale; None where it is not found yet."""
        if avatar.matte is not None:
            return avatar.matte
        with self._lock:
            found = self._found.get(id(avatar))
        return found[1] if found else None

    def begin(self, avatar: Avatar, first: bool = False) -> None:
        """Have it looked for, before all others where it comes `first`."""
        if self.get(avatar) is not None:
            return
        with self._lock:
            self._wanted.setdefault(id(avatar), avatar)
            if first:
                self._wanted.move_to_end(id(avatar), last=False)
            if self._working:
                return
            self._working = True
        threading.Thread(target=self._work, name="mattes", daemon=True).start()

    def find(self, avatar: Avatar) -> None:
        """Look for it now."""
        if self.get(avatar) is not None:
            return
        picture, square = avatar.original, avatar.square
        factor = self._longest / max(picture.shape[:2])
        if factor < 1:
            extent = [max(1, round(side * factor)) for side in picture.shape[1::-1]]
            picture, square = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA), square.scaled(factor)
        try:
            matte = find_matte(picture, square)
        except Exception:
            # Whatever is wrong with this picture, it can be shown as it is.
            matte = np.full(picture.shape[:2], 255, np.uint8)
        with self._lock:
            self._found[id(avatar)] = avatar, matte
            while len(self._found) > KEPT_MATTES:
                self._found.popitem(last=False)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._working = False
                    return
                avatar = next(iter(self._wanted.values()))
            self.find(avatar)
            with self._lock:
                self._wanted.pop(id(avatar), None)


def _resize(
    picture: np.ndarray, extent: tuple[int, int], out: np.ndarray, larger: int = cv2.INTER_CUBIC
) -> None:
    """Resize to (width, height) into `out`. The same size is copied, pixel by pixel."""
    if picture.shape[1::-1] == tuple(extent):
        np.copyto(out, picture)
    else:
        shrinks = extent[0] < picture.shape[1]
        cv2.resize(picture, extent, dst=out, interpolation=cv2.INTER_AREA if shrinks else larger)


def _places(width: int, height: int, fit: str, shape: tuple[int, ...], square: Square) -> tuple[Box, Box]:
    """Where a picture of `shape` and its `square` go on a canvas.

    Filling keeps the square's middle as near to the canvas's as the picture reaches.
    """
    scale = (min if fit == "letterbox" else max)(width / shape[1], height / shape[0])
    extent = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    left, top = (width - extent[0]) // 2, (height - extent[1]) // 2
    if fit == "fill":
        left = int(np.clip(round(width / 2 - (square.x + square.side / 2) * scale), width - extent[0], 0))
        top = int(np.clip(round(height / 2 - (square.y + square.side / 2) * scale), height - extent[1], 0))
    across, down = extent[0] / shape[1], extent[1] / shape[0]
    place = Box(
        left + round(square.x * across),
        top + round(square.y * down),
        left + round((square.x + square.side) * across),
        top + round((square.y + square.side) * down),
    )
    return Box(left, top, left + extent[0], top + extent[1]), place


def _on_canvas(pixels: np.ndarray, picture: Box, width: int, height: int) -> np.ndarray:
    """`pixels`, which cover `picture`, on the whole canvas; its edges are repeated beside it."""
    canvas = Box(0, 0, width, height)
    shown = picture.common(canvas)
    return cv2.copyMakeBorder(
        np.ascontiguousarray(shown.of(pixels, picture)),
        shown.top,
        height - shown.bottom,
        shown.left,
        width - shown.right,
        cv2.BORDER_REPLICATE,
    )


@lru_cache(maxsize=8)
def _identity(rows: int, columns: int) -> np.ndarray:
    """The grid that bends nothing, float32 (rows, columns, 2), (x, y) from -1 to 1."""
    across, down = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    return np.dstack([across, down]).astype(np.float32)


@lru_cache(maxsize=8)
def _pixel_grid(width: int, height: int) -> np.ndarray:
    """Every pixel's own place, float32 (height, width, 2)."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.dstack([across, down]).astype(np.float32)


def _spread(shift: np.ndarray, width: int, height: int, size: int) -> np.ndarray:
    """A grid's values float32 (h, w, 2) for all pixels of a square that was `size` pixels: (height, width, 2).

    The outermost cells sit on the centres of the model's outermost pixels, while `cv2.resize` takes cells for areas:
    so it is made a little too large and the middle is taken.
    """

    def full(cells: int, side: int) -> int:
        wanted = side * cells / max(cells - 1, 1) * (size - 1) / size
        return max(side, side + 2 * round((wanted - side) / 2))

    extent = full(shift.shape[1], width), full(shift.shape[0], height)
    left, top = (extent[0] - width) // 2, (extent[1] - height) // 2
    spread = cv2.resize(shift, extent, interpolation=cv2.INTER_LINEAR)
    return spread[top : top + height, left : left + width]


@lru_cache(maxsize=16)
def _soft_edges(width: int, height: int, edges: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """float32 (height, width): 1 within, falling smoothly to 0 at the edges (left, top, right, bottom) named."""

    def ramp(count: int, first: bool, last: bool) -> np.ndarray:
        place = (np.arange(count) + 0.5) / count
        weight = np.ones(count)
        for wanted, distance in ((first, place), (last, 1 - place)):
            share = np.clip(distance / FEATHER, 0, 1) if wanted else np.ones(count)
            weight = weight * share * share * (3 - 2 * share)
        return weight

    left, top, right, bottom = edges
    return np.outer(ramp(height, top, bottom), ramp(width, left, right)).astype(np.float32)


@lru_cache(maxsize=8)
def _soft_pixels(size: int, edges: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """`_soft_edges` as int16 (size, size, 3) from 0 to 256."""
    weight = np.rint(256 * _soft_edges(size, size, edges)).astype(np.int16)
    return np.ascontiguousarray(np.repeat(weight[..., None], 3, axis=2))


def _strips(layers: Layers) -> list[tuple[slice, slice]]:
    """The parts of what is seen of the square in which it is not fully shown, as rows and columns, none twice."""
    square, seen = layers.square, layers.seen
    band = int(np.ceil(FEATHER * max(square.width, square.height)))
    inner = Box(square.left + band, square.top + band, square.right - band, square.bottom - band).common(seen)
    left, top, right, bottom = layers.edges
    start = inner.top - seen.top if top else 0
    stop = inner.bottom - seen.top if bottom else seen.height
    first = inner.left - seen.left if left else 0
    last = inner.right - seen.left if right else seen.width
    rows = slice(start, stop)
    strips = [
        (slice(0, start), slice(None)),
        (slice(stop, None), slice(None)),
        (rows, slice(0, first)),
        (rows, slice(last, None)),
    ]
    return [
        strip
        for strip in strips
        if len(range(*strip[0].indices(seen.height))) and len(range(*strip[1].indices(seen.width)))
    ]
