"""A square bent as the model bent it, at the canvas's resolution: the avatar's own pixels, and what
the model painted.

    bent(avatar) + enlarged(model's picture - bent(model's avatar))

Most of a live frame's time outside the network goes here, so every pass over the canvas's pixels
counts:

- The model's coarse grid is turned into places, not shifts, before it is enlarged: no grid has to be added at full size.
- What the model painted is added only where there is something, in bands as wide as that needs: adding signed numbers to a
  picture costs a third of bending it.
- Everything is written straight into the canvas, and no picture is ever made of floating-point numbers; the places are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

#: Width of the soft edge of a square that lies inside a larger picture, in shares of its side.
FEATHER = 0.16

#: Bands of the model's picture in each of which only the columns with paint are added.
BANDS = 16

#: Differences of so many levels are rounding, not paint. (A network draws an unmoved avatar within
#: one level.)
ROUNDING = 1

#: Up to so many cells are added before a grid, to bring it within this part of a pixel of where it
#: belongs.
MOST_ADDED, NEAR = 12, 0.06


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


class Buffers:
    """Memory that is used again for every picture: fresh pages cost more than what is written to
    them.
    """

    def __init__(self):
        self._held: dict[str, np.ndarray] = {}

    def __call__(self, name: str, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """The array of that name, with whatever it holds; a new one where its shape or type has
        changed.
        """
        held = self._held.get(name)
        if held is None or held.shape != shape or held.dtype != kind:
            held = self._held[name] = np.empty(shape, kind)
        return held


@dataclass(frozen=True, eq=False)
class Bend:
    """What is bent, and where to. Boxes are in the canvas's pixels.

    Attributes:
        small: the model's avatar, uint8 (S, S, C).
        figure: the whole avatar at the canvas's scale, uint8 (H, W, C): RGB, or RGBA whose alpha is
            bent alike.
        picture: where `figure` lies.
        square: where the model's square lies.
        seen: the part of `square` that is wanted.
        edges: at which of the square's edges (left, top, right, bottom) the bending fades out.
    """

    small: np.ndarray
    figure: np.ndarray
    picture: Box
    square: Box
    seen: Box
    edges: tuple[bool, bool, bool, bool]

    def into(self, out: np.ndarray, square: np.ndarray, grid: np.ndarray, buffers: Buffers) -> None:
        """Write the bent part into `out`.

        Args:
            out: uint8 (h, w, C), as large as `seen`; may be a view.
            square: the model's picture, uint8 (S, S, C). Where C is 4, its alpha is `small`'s.
            grid: float32 (rows, columns, 2), where in the avatar each place of `square` came from,
                as (x, y) in [-1, 1].
            buffers: kept from call to call.
        """
        size, extent = len(square), self.square
        rows, columns = grid.shape[:2]
        # In pixels of the model's square.
        shift = (grid - _identity(rows, columns)) * np.float32((size - 1) / 2)
        painted, mask = self._painted(square, shift, buffers)

        scale = (extent.width / size, extent.height / size)
        shift *= _gain(rows, columns, scale, self.edges)
        # The figure's origin is the picture's corner.
        origin = (extent.left - self.picture.left, extent.top - self.picture.top)
        places = _places(shift, (extent.width, extent.height), size, origin, buffers, "places")
        cv2.remap(  # pyright: ignore[reportCallIssue]
            self.figure,
            self.seen.of(places, extent),
            None,  # pyright: ignore[reportArgumentType]
            cv2.INTER_LINEAR,
            dst=out,
            borderMode=cv2.BORDER_REPLICATE,
        )
        enlarged = buffers("enlarged", (extent.height, extent.width, square.shape[2]), np.int16)
        resize(painted, (extent.width, extent.height), enlarged, cv2.INTER_LINEAR)
        for band in _bands(mask, extent, size):
            band = band.common(self.seen)
            if band.width and band.height:
                part = band.of(out, self.seen)
                cv2.add(part, band.of(enlarged, extent), dst=part, dtype=cv2.CV_8U)

    def _painted(
        self, square: np.ndarray, shift: np.ndarray, buffers: Buffers
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the model painted, int16 (S, S, C), and its size, uint8 (S, S, C)."""
        size = len(square)
        places = _places(shift, (size, size), size, (0, 0), buffers, "small places")
        bent = buffers("bent", square.shape, np.uint8)
        cv2.remap(  # pyright: ignore[reportCallIssue]
            self.small,
            places,
            None,  # pyright: ignore[reportArgumentType]
            cv2.INTER_LINEAR,
            dst=bent,
            borderMode=cv2.BORDER_REPLICATE,
        )
        painted = buffers("painted", square.shape, np.int16)
        cv2.subtract(square, bent, dst=painted, dtype=cv2.CV_16S)
        if any(self.edges):
            cv2.multiply(painted, _soft_levels(size, self.edges, square.shape[2]), dst=painted, scale=1 / 256)
        mask = buffers("paint mask", square.shape, np.uint8)
        return painted, cv2.absdiff(square, bent, dst=mask)


def resize(
    picture: np.ndarray, extent: tuple[int, int], out: np.ndarray, larger: int = cv2.INTER_CUBIC
) -> None:
    """Resize to (width, height) into `out`, which may be a view. The same size is copied, pixel by
    pixel.
    """
    if picture.shape[1::-1] == tuple(extent):
        np.copyto(out, picture)
    else:
        shrinks = extent[0] < picture.shape[1]
        cv2.resize(picture, extent, dst=out, interpolation=cv2.INTER_AREA if shrinks else larger)


@lru_cache(maxsize=16)
def soft_edges(width: int, height: int, edges: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """float32 (height, width): 1 within, falling smoothly to 0 at the edges (left, top, right,
    bottom) named.
    """

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
def _soft_levels(size: int, edges: tuple[bool, bool, bool, bool], channels: int) -> np.ndarray:
    """`soft_edges` as int16 (size, size, channels) from 0 to 256."""
    weight = np.rint(256 * soft_edges(size, size, edges)).astype(np.int16)
    return np.ascontiguousarray(np.repeat(weight[..., None], channels, axis=2))


@lru_cache(maxsize=16)
def _gain(
    rows: int, columns: int, scale: tuple[float, float], edges: tuple[bool, bool, bool, bool]
) -> np.ndarray:
    """float32 (rows, columns, 2): the canvas's pixels per pixel of the model's square, fading out
    at the edges.
    """
    return np.array(scale, np.float32) * soft_edges(columns, rows, edges)[..., None]


@lru_cache(maxsize=8)
def _identity(rows: int, columns: int) -> np.ndarray:
    """The grid that bends nothing, float32 (rows, columns, 2), (x, y) from -1 to 1."""
    across, down = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    return np.dstack([across, down]).astype(np.float32)


@dataclass(frozen=True)
class _Line:
    """How a row of cells is enlarged to the pixels of a square's side.

    The outermost cells sit on the centres of the model's outermost pixels, while `cv2.resize` takes
    cells for areas and whole pixels: so cells are repeated beyond both ends, the row is enlarged by
    the exact factor, and the square is taken out of it. It begins somewhere between two pixels, and
    before it there are as many cells as bring that near to one.

    Attributes:
        before, after: cells added.
        pixels: per cell.
        start: first pixel of the square.
        late: by how many cells that is too late.
    """

    before: int
    after: int
    pixels: float
    start: int
    late: float

    @classmethod
    def of(cls, cells: int, side: int, size: int) -> _Line:
        """For `cells` cells of a square that was `size` pixels for the model and has `side`."""
        pixels = side / size * (size - 1) / max(cells - 1, 1)
        # At least two pixels at either end, as the whole enlarged row is rounded.
        least = 1 + int(2 / pixels) + (cells == 1)

        def start(before: int) -> float:
            return pixels * (before + 0.5) - 0.5 * side / size

        def away(before: int) -> float:
            return abs(round(start(before)) - start(before))

        choice = range(least, least + MOST_ADDED)
        before = next((count for count in choice if away(count) < NEAR), min(choice, key=away))
        first = round(start(before))
        return cls(before, least, pixels, first, (first - start(before)) / pixels)

    def still(self, cells: int, side: int, size: int) -> np.ndarray:
        """The pixel at which each cell stands, those added too, when nothing moves."""
        place = np.arange(self.before + cells + self.after) - self.before - self.late
        return place * self.pixels + 0.5 * side / size - 0.5


@lru_cache(maxsize=32)
def _lines(rows: int, columns: int, extent: tuple[int, int], size: int) -> tuple[_Line, _Line]:
    """Of a grid's columns, (x), and rows, (y)."""
    return _Line.of(columns, extent[0], size), _Line.of(rows, extent[1], size)


@lru_cache(maxsize=32)
def _still(
    rows: int, columns: int, extent: tuple[int, int], size: int, origin: tuple[int, int]
) -> np.ndarray:
    """Where the cells of a grid and those added to it are when nothing moves; float32 (h, w, 2)."""
    x, y = _lines(rows, columns, extent, size)
    across = x.still(columns, extent[0], size) + origin[0]
    down = y.still(rows, extent[1], size) + origin[1]
    return np.dstack(np.meshgrid(across, down)).astype(np.float32)


def _places(
    shift: np.ndarray,
    extent: tuple[int, int],
    size: int,
    origin: tuple[int, int],
    buffers: Buffers,
    name: str,
) -> np.ndarray:
    """Where each pixel of a square comes from, float32 (height, width, 2), a view into a buffer.

    Places are interpolated between the cells as shifts would be, since what stands still makes a
    straight line.

    Args:
        shift: float32 (rows, columns, 2), in pixels of the result.
        extent: its width and height.
        size: the square's side for the model.
        origin: added to all places.
    """
    rows, columns = shift.shape[:2]
    x, y = _lines(rows, columns, extent, size)
    cells = cv2.copyMakeBorder(shift, y.before, y.after, x.before, x.after, cv2.BORDER_REPLICATE)
    cells += _still(rows, columns, extent, size, origin)
    whole = round(cells.shape[1] * x.pixels), round(cells.shape[0] * y.pixels)
    places = buffers(name, (whole[1], whole[0], 2), np.float32)
    cv2.resize(cells, None, dst=places, fx=x.pixels, fy=y.pixels, interpolation=cv2.INTER_LINEAR)
    return places[y.start : y.start + extent[1], x.start : x.start + extent[0]]


def _bands(mask: np.ndarray, extent: Box, size: int) -> Iterator[Box]:
    """Boxes that together hold all that is painted, none twice.

    Args:
        mask: uint8 (size, size, C), contiguous: how many levels were painted.
        extent: what the picture is enlarged to.
    """
    if size % BANDS or extent.width < size or extent.height < size:
        yield extent
        return
    rows = mask.reshape(BANDS, size // BANDS, -1)
    strongest = rows.max(axis=1)
    # Enlarging mixes neighbours, of the next band too.
    np.maximum(strongest[1:], rows[:-1, -1], out=strongest[1:])
    np.maximum(strongest[:-1], rows[1:, 0], out=strongest[:-1])
    painted = (strongest > ROUNDING).reshape(BANDS, size, -1).any(axis=2)
    firsts, lasts = painted.argmax(axis=1).tolist(), painted[:, ::-1].argmax(axis=1).tolist()
    across, down = extent.width / size, extent.height / BANDS
    for band, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        if painted[band, first]:
            yield Box(
                extent.left + max(0, int((first - 1) * across)),
                extent.top + round(band * down),
                extent.left + min(extent.width, int((size - last + 1) * across) + 1),
                extent.top + round((band + 1) * down),
            )
