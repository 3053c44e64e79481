"""Brows: their inner and outer ends go up, they go down and together, each side by itself; eyes and rims below stay.

What moves is the skin of the forehead as a field on the head's grid: with the brow, less and less up to the hair, and down to
where the eye or the rim of glasses begins.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from livepuppet.realtime.rig.amounts import BROW_DOWN, BROW_UP, INDEX
from livepuppet.realtime.rig.ramps import held, smooth
from livepuppet.realtime.rig.surface import Surface

# Lengths are in eye distances.

#: From the face's middle outwards: where a side begins to move, where the inner end goes over into the outer one, and where
#: that ends.
MIDDLE, ENDS, TEMPLE = (-0.14, 0.20), (0.20, 0.75), (0.90, 1.30)

#: Half a brow's height, and how far above it the forehead goes along.
HALF, FOREHEAD = 0.06, 0.62

#: Shares of an inner end's rise that the outer one makes, of the outer one's that the inner one makes, and of a wide eye's.
INNER_TO_OUTER, OUTER_TO_INNER, WIDE = 0.25, 0.50, 0.3

#: Shares of a brow's fall at its outer end, and that a brow goes towards the other one.
OUTER_DOWN, TOGETHER = 0.8, 0.45

#: A brow comes down by at most this share of the skin between it and what is below, and goes up by at most that share of it:
#: what is stretched further looks like rubber.
ROOM, STRETCH = 0.55, 1.1


class Brows:
    """Both brows of one avatar, on its head's grid.

    Args:
        surface: the head's.
        landmarks: float (K, 2), in pixels.
        names: of the landmarks.
        upright: float (2, 2), a row vector in the face's own axes in the picture's.
        limits: for `left` and `right`, points (N, 2) in pixels above which skin moves: the upper lid's edge or a rim's.
    """

    def __init__(
        self,
        surface: Surface,
        landmarks: np.ndarray,
        names: list[str],
        upright: np.ndarray,
        limits: Mapping[str, np.ndarray],
    ):
        self._shape = surface.depth.shape
        self._upright = upright.astype(np.float32)
        self._unit = unit = surface.unit
        #: Of a side's inner end how much of a motion each cell makes, in pixels of an eye distance, and the same times how far it
        #: rises; then of its outer end: float32 (4, rows x columns).
        self._planes: dict[str, np.ndarray] = {}
        self._down: dict[str, float] = {}
        turn = upright.T / unit
        places = np.dstack([surface.across, surface.down]) - surface.centre
        x, y = (places @ turn[:, k] for k in (0, 1))
        for side, sign in (("left", -1.0), ("right", 1.0)):
            name = f"{side} brow"
            if name not in names:
                continue
            brow = (landmarks[names.index(name)] - surface.centre) @ turn
            if not np.isfinite(brow).all():
                continue
            out = sign * x
            ridge = float(brow[1])
            if side in limits and len(limits[side]):
                edge = (limits[side] - surface.centre) @ turn
                order = np.argsort(edge[:, 0])
                limit = np.interp(x, edge[order, 0], edge[order, 1]) - 0.03
            else:
                limit = np.full(x.shape, -0.12)
            limit = np.maximum(limit, ridge - HALF)
            above = smooth(ridge - FOREHEAD, ridge - 2 * HALF, y)
            # Down to the limit the skin is stretched evenly.
            start = np.minimum(ridge + HALF, limit - 0.03)
            below = held((limit - y) / np.maximum(limit - start, 0.03))
            width = 2 * max(round(0.12 * unit / surface.cell), 1) + 1
            least = cv2.erode((limit - start).astype(np.float32), np.ones((width, width), np.uint8))
            rise = np.minimum(STRETCH * cv2.blur(least, (width, width)), BROW_UP)
            window = above * below * smooth(*MIDDLE, out) * smooth(*reversed(TEMPLE), out)
            outer = smooth(*ENDS, out)
            ends = [window * share * unit for share in (1 - outer, outer)]
            planes = [plane for end in ends for plane in (end, end * rise)]
            self._planes[side] = np.stack(planes).reshape(4, -1).astype(np.float32)
            near = (np.abs(out - sign * float(brow[0])) < 0.2).ravel()
            room = float(np.median((limit - ridge).ravel()[near])) if near.any() else 0.2
            self._down[side] = min(BROW_DOWN, ROOM * max(room, 0.05))

    def field(self, amounts: np.ndarray) -> np.ndarray | None:
        """By how far each cell goes, float32 (rows, columns, 2) in pixels; None where none does.

        Args:
            amounts: float32 (52,).
        """

        def value(name: str) -> float:
            return float(amounts[INDEX[name]])

        field = None
        for side, planes in self._planes.items():
            # The picture's left is the face's right.
            own = "Right" if side == "left" else "Left"
            inner, outer, down = value("browInnerUp"), value(f"browOuterUp{own}"), value(f"browDown{own}")
            wide = WIDE * value(f"eyeWide{own}")
            # Ends hang together.
            rises = (
                max(inner + OUTER_TO_INNER * outer * (1 - inner), wide),
                max(outer + INNER_TO_OUTER * inner * (1 - outer), wide),
            )
            if max(*rises, down) < 1e-4:
                continue
            towards = TOGETHER * self._down[side] * down * (1 if side == "left" else -1)
            fall = self._down[side] * down
            # In the face's own axes: aside, and down.
            steps = np.array(
                [[towards, fall], [0, -rises[0]], [0.4 * towards, OUTER_DOWN * fall], [0, -rises[1]]],
                np.float32,
            )
            moved = (steps @ self._upright).T @ planes
            field = moved if field is None else field + moved
        if field is None:
            return None
        return np.ascontiguousarray(field.T).reshape(*self._shape, 2)
