"""Bending at the canvas's resolution, against the same formula written out plainly in double precision."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from livepuppet.realtime.compositing import warp
from livepuppet.realtime.compositing.warp import Bend, Box, Buffers

SIZE = 64
NO_EDGES = (False, False, False, False)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB with soft shapes, as pictures have."""
    noise = (
        np.random.default_rng(seed).integers(0, 255, (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    )
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def wavy(cells: int, amount: float = 2.0, size: int = SIZE) -> np.ndarray:
    """A grid in which everything moves by up to `amount` of the model's pixels, this way here and that way there."""
    across, down = np.meshgrid(np.linspace(-1, 1, cells), np.linspace(-1, 1, cells))
    shift = 2 * amount / (size - 1) * np.dstack([np.sin(3 * down + 1), np.cos(4 * across)])
    return (np.dstack([across, down]) + shift).astype(np.float32)


def enlarged(values: np.ndarray, side: int, size: int) -> np.ndarray:
    """(side, side, C) float64 from (cells, cells, C) whose outermost sit on the centres of the model's outermost pixels."""
    cells = len(values)
    place = np.clip(((np.arange(side) + 0.5) * size / side - 0.5) * (cells - 1) / (size - 1), 0, cells - 1)
    first = np.minimum(place.astype(int), max(cells - 2, 0))
    share = (place - first)[:, None, None]
    second = np.minimum(first + 1, cells - 1)
    rows = values[first] * (1 - share) + values[second] * share
    columns = rows.transpose(1, 0, 2)
    return (columns[first] * (1 - share) + columns[second] * share).transpose(1, 0, 2)


def plainly(of: Bend, square: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """What `Bend.into` writes, for a square that is all of the picture and all seen: no buffers, bands or tricks."""
    size, side, cells = len(square), of.square.width, len(grid)
    axis = np.linspace(-1, 1, cells)
    shift = (grid - np.dstack(np.meshgrid(axis, axis))) * (size - 1) / 2

    def bent(picture: np.ndarray, side: int, shift: np.ndarray) -> np.ndarray:
        pixels = np.arange(side)
        places = np.dstack(np.meshgrid(pixels, pixels)) + enlarged(shift, side, size)
        return cv2.remap(
            picture,
            places.astype(np.float32),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )

    painted = square.astype(np.int16) - bent(of.small, size, shift)
    painted = cv2.resize(painted, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.clip(bent(of.figure, side, shift * side / size) + painted, 0, 255).astype(np.uint8)


def whole(figure: np.ndarray, small: np.ndarray) -> Bend:
    box = Box(0, 0, figure.shape[1], figure.shape[0])
    return Bend(small, figure, box, box, box, NO_EDGES)


def portrait(side: int) -> Bend:
    figure = smooth(side, side)
    return whole(figure, cv2.resize(figure, (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def painted_on(small: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The model's picture: `small` bent a little differently, and a patch that the avatar does not have."""
    square = cv2.warpAffine(
        small, np.float32([[1, 0, 1], [0, 1, 0]]), (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE
    )
    square[20:27, 30:50] = (250, 30, 90)
    return square


@pytest.mark.parametrize("cells", [16, 64])
@pytest.mark.parametrize("side", [64, 150, 181, 360])
def test_the_result_is_the_formulas(side, cells):
    of, grid = portrait(side), wavy(cells)
    square = painted_on(of.small, grid)
    # In the middle of a canvas that holds something else.
    canvas = np.full((side + 20, side + 40, 3), 99, np.uint8)
    of.into(canvas[10 : side + 10, 30 : side + 30], square, grid, Buffers())
    off = np.abs(canvas[10 : side + 10, 30 : side + 30].astype(int) - plainly(of, square, grid))
    # Rounding, and what is 1/32 of a pixel beside the right place.
    assert off.mean() < 0.2 and off.max() <= 2
    canvas[10 : side + 10, 30 : side + 30] = 99
    assert (canvas == 99).all()


@pytest.mark.parametrize("cells", [1, 2, 7, 16, 64])
@pytest.mark.parametrize("side", [24, 64, 97, 180, 563])
def test_places_are_where_the_grid_says(side, cells):
    shift = np.zeros((cells, cells, 2), np.float32)
    pixels = np.arange(side)
    still = np.dstack(np.meshgrid(pixels + 3, pixels + 5))
    places = warp._places(shift, (side, side), SIZE, (3, 5), Buffers(), "places")
    # 1/32 of a pixel is what `cv2.remap` tells apart: within half of that a still avatar comes back exactly.
    assert np.abs(places - still).max() < 1 / 100
    if cells > 1:
        shift[..., 0] = np.linspace(-30, 30, cells)
        shift[..., 1] = np.linspace(10, -20, cells)[:, None]
        places = warp._places(shift, (side, side), SIZE, (3, 5), Buffers(), "places")
        # A sixteenth of a pixel along the slope; a quarter for grids whose cells are halves of pixels apart.
        aside = 1 / 16 if cells in (16, 64) else 1 / 4
        assert np.abs(places - still - enlarged(shift, side, SIZE)).max() < 1.1 * aside * 60 / side


def test_paint_is_found_wherever_it_is():
    box = Box(0, 0, 150, 150)
    for row, column in [(0, 0), (3, 63), (4, 31), (15, 16), (16, 15), (63, 63), (47, 2)]:
        mask = np.zeros((SIZE, SIZE, 3), np.uint8)
        mask[row, column, 1] = 9
        covered = np.zeros((150, 150), int)
        bands = list(warp._bands(mask, box, SIZE))
        for band in bands:
            band.of(covered, box)[:] += 1
        reached = cv2.resize(mask.astype(np.int16), (150, 150), interpolation=cv2.INTER_LINEAR).any(axis=2)
        assert reached.any() and (covered[reached] == 1).all() and covered.max() == 1
        assert covered.mean() < 0.1


def test_no_paint_costs_nothing_and_rounding_is_none():
    box = Box(0, 0, 150, 150)
    assert not list(warp._bands(np.full((SIZE, SIZE, 3), warp.ROUNDING, np.uint8), box, SIZE))
    everywhere = list(warp._bands(np.full((SIZE, SIZE, 3), warp.ROUNDING + 1, np.uint8), box, SIZE))
    assert sum(band.width * band.height for band in everywhere) == 150 * 150


def test_alpha_is_bent_like_the_colours():
    side, grid = 150, wavy(16, 3.0)
    plain = portrait(side)
    matte = cv2.circle(np.zeros((side, side), np.uint8), (75, 75), 50, 255, -1, cv2.LINE_AA)
    rgba = whole(np.dstack([plain.figure, matte]), cv2.cvtColor(plain.small, cv2.COLOR_RGB2RGBA))
    square = painted_on(plain.small, grid)
    colours, both = np.empty((side, side, 3), np.uint8), np.empty((side, side, 4), np.uint8)
    plain.into(colours, square, grid, Buffers())
    rgba.into(both, cv2.cvtColor(square, cv2.COLOR_RGB2RGBA), grid, Buffers())
    assert np.abs(both[..., :3].astype(int) - colours).max() <= 1
    alone = whole(matte[..., None].repeat(3, 2), np.zeros((SIZE, SIZE, 3), np.uint8))
    moved = np.empty((side, side, 3), np.uint8)
    alone.into(moved, alone.small, grid, Buffers())
    assert np.abs(both[..., 3].astype(int) - moved[..., 0]).max() <= 1
    assert np.abs(both[..., 3].astype(int) - matte).max() > 100


def test_memory_is_used_again(monkeypatch):
    of, grid, buffers = portrait(150), wavy(16), Buffers()
    out = np.empty((150, 150, 3), np.uint8)
    of.into(out, of.small, grid, buffers)
    held = {name: array.ctypes.data for name, array in buffers._held.items()}
    assert len(held) >= 4
    before = out.copy()
    of.into(out, of.small[::-1].copy(), wavy(16, 4.0), buffers)
    of.into(out, of.small, grid, buffers)
    assert {name: array.ctypes.data for name, array in buffers._held.items()} == held
    # OpenCV writes elsewhere where a buffer does not fit, and says nothing.
    assert np.array_equal(out, before)
    asked: list[tuple[np.ndarray, np.ndarray]] = []
    real = cv2.resize

    def resize(*arguments, dst, **options):
        result = real(*arguments, dst=dst, **options)
        asked.append((dst, result))
        return result

    monkeypatch.setattr(cv2, "resize", resize)
    of.into(out, of.small, grid, buffers)
    assert len(asked) == 3 and all(np.shares_memory(*pair) for pair in asked)


def test_towards_edges_inside_the_picture_it_fades_out():
    figure = smooth(200, 200)
    inside = Box(40, 40, 160, 160)
    small = cv2.resize(figure[40:160, 40:160], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    of = Bend(small, figure, Box(0, 0, 200, 200), inside, inside, (True, True, True, True))
    out = np.empty((120, 120, 3), np.uint8)
    of.into(out, painted_on(small, wavy(16)), wavy(16, 3.0), Buffers())
    off = np.abs(out.astype(int) - figure[40:160, 40:160]).max(axis=2)
    rim = np.ones((120, 120), bool)
    rim[1:-1, 1:-1] = False
    assert off[40:80, 40:80].mean() > 20 and off[rim].mean() < 12
    of = Bend(small, figure, Box(0, 0, 200, 200), inside, inside, NO_EDGES)
    of.into(out, painted_on(small, wavy(16)), wavy(16, 3.0), Buffers())
    assert np.abs(out.astype(int) - figure[40:160, 40:160]).max(axis=2)[rim].mean() > 20
