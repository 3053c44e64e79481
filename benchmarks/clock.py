"""A clock that a machine reads off a picture: painted where the frame is made, read where it
arrives.

Bits are black and white cells along the upper edge, so large that chroma subsampling, MJPEG, H.264
and resizing leave them readable; a checksum tells a picture without a clock, or with a damaged one,
from a good reading.
"""

from __future__ import annotations

import time

import cv2
import numpy as np

#: The clock counts in these seconds. 36 bits of them last 190 hours.
TICK = 1e-5
TIME_BITS, CHECK_BITS = 36, 8
CELLS = TIME_BITS + CHECK_BITS

#: Height of the strip in heights of the picture. At 720p a cell is 29 x 36 pixels.
STRIP = 0.05

#: Cells are read as white above, as black below; anything near the middle is no clock.
MIDDLE, LEAST_CONTRAST = 128, 40


def now() -> int:
    """Ticks of the clock that `Frame.captured` is read from; on Linux it is the same in every
    process.
    """
    return int(time.perf_counter() / TICK)


def _check(ticks: int) -> int:
    """CRC-8 (polynomial 0x07) of the time's bits."""
    remainder = ticks << CHECK_BITS
    for bit in range(TIME_BITS - 1, -1, -1):
        if remainder >> (bit + CHECK_BITS) & 1:
            remainder ^= 0x107 << bit
    return (remainder & 0xFF) ^ 0xA5


def strip_of(picture: np.ndarray) -> np.ndarray:
    """The part of `picture` (H, W, ...) that holds the clock, as a view."""
    return picture[: max(2, round(picture.shape[0] * STRIP))]


def paint(picture: np.ndarray, ticks: int) -> None:
    """Write `ticks` into the upper edge of `picture` uint8 (H, W, 3) or (H, W), in place.

    Raises:
        ValueError: if the picture has fewer than four pixels per cell.
    """
    if picture.shape[1] < 4 * CELLS:
        raise ValueError(f"a clock needs a picture at least {4 * CELLS} pixels wide")
    ticks &= (1 << TIME_BITS) - 1
    word = ticks << CHECK_BITS | _check(ticks)
    bits = np.array([word >> (CELLS - 1 - cell) & 1 for cell in range(CELLS)], np.uint8) * 255
    row = bits[np.arange(picture.shape[1]) * CELLS // picture.shape[1]]
    # Whole rows are copied ten times as fast as pixel by pixel.
    strip_of(picture)[:] = np.repeat(row, 3).reshape(-1, 3) if picture.ndim == 3 else row


def read(picture: np.ndarray) -> int | None:
    """The ticks painted into `picture` uint8 (H, W, 3) or luma (H, W); None where there is no
    readable clock.
    """
    strip = strip_of(picture)
    if strip.ndim == 3:
        strip = strip[..., 1]
    height, width = strip.shape
    # The middle of each cell: edges are blurred by codecs.
    rows = strip[height // 4 : max(height // 4 + 1, 3 * height // 4)]
    centres = ((np.arange(CELLS) + 0.5) * width / CELLS).astype(int)
    reach = max(1, width // CELLS // 5)
    columns = centres[:, None] + np.arange(-reach, reach + 1)
    values = rows.sum(axis=0, dtype=np.int64)[columns].mean(axis=1) / len(rows)
    if np.abs(values - MIDDLE).min() < LEAST_CONTRAST:
        return None
    word = 0
    for value in values:
        word = word << 1 | int(value > MIDDLE)
    ticks, check = word >> CHECK_BITS, word & 0xFF
    return ticks if check == _check(ticks) else None


def carry(source: np.ndarray, target: np.ndarray) -> None:
    """Copy the strip from one picture to another of any size, in place: the clock's way round the
    network.
    """
    strip = strip_of(target)
    part = strip_of(source)
    if strip.shape == part.shape:
        strip[:] = part
    else:
        strip[..., :3] = cv2.resize(
            part[..., :3], (strip.shape[1], strip.shape[0]), interpolation=cv2.INTER_NEAREST
        )


def seconds_since(ticks: int) -> float:
    """Age of a reading, in seconds."""
    return ((now() - ticks) & ((1 << TIME_BITS) - 1)) * TICK
