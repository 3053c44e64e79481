"""The eight ways in which a picture may be stored turned or mirrored, by the numbers that EXIF gives
them.
"""

from __future__ import annotations

import struct

import numpy as np

#: What makes a stored picture (H, W, ...) upright.
_UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}

#: The same as matrices (a, b, c, d): the pixel at (x, y) is shown at (a x + c y, b x + d y), y down.
_MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """`stored` (H, W, ...) turned and mirrored by EXIF's `orientation`, 1 to 8; any other number says
    nothing.
    """
    if orientation == 1 or orientation not in _UPRIGHT:
        return stored
    return np.ascontiguousarray(_UPRIGHT[orientation](stored))


def of_display_matrix(matrix: bytes) -> int:
    """EXIF's number for a display matrix as FFmpeg has it: nine int32, a b u c d v x y w in rows.

    Of a turn by any other angle the nearest of the eight; a matrix that maps everything to one
    point, as some muxers write, says nothing.
    """
    if len(matrix) < 36:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    alike = {
        number: a * other[0] + b * other[1] + c * other[2] + d * other[3]
        for number, other in _MATRICES.items()
    }
    best = max(alike, key=lambda number: alike[number])
    return best if alike[best] > 0 else 1
