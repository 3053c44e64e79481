"""Rows of teeth for mouths that show none: rigid layers, drawn once per mouth at the size at which they are seen.

What tells teeth in a face of a few hundred pixels is a light, even band with a slightly scalloped edge that darkens to the
sides; gaps drawn any harder look like a comb. Lengths are in millimetres of a face whose irises are 62 apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.realtime.rig.ramps import smooth

#: Widths, as seen from the front, from the middle outwards; how far each edge stands back from the first one's; how tall teeth
#: are; and from where the row's side lies in the dark.
_UPPER = (8.4, 6.4, 6.2, 4.4, 3.4, 2.6), (0.0, 0.7, 0.3, 1.2, 1.9, 2.6), 10.0, 23.0
_LOWER = (5.2, 5.4, 5.6, 4.8, 4.0, 3.0), (0.0, 0.1, 0.3, 0.9, 1.6, 2.2), 9.0, 21.0

#: By kind: factors on the first three widths, and how much further their third tooth reaches.
_KINDS = {
    "even": ((1.0, 1.0, 1.0), 0.0),
    "broad": ((1.12, 1.1, 1.05), -0.2),
    "pointed": ((0.96, 0.92, 1.0), 1.6),
}

#: What parts two teeth takes this much of the light, over this many millimetres.
_PARTING, _PARTED = 0.10, 0.42

#: Half of the width that a row is drawn in, its height beyond the teeth, where gums are, and beyond the first teeth's edge.
_HALF, _GUMS, _ABOVE = 32.0, 6.0, 14.0


@dataclass(frozen=True, eq=False)
class Row:
    """One row of teeth.

    Attributes:
        light: float32 (h, w), 1 on the front of the first teeth.
        gum: float32 (h, w), 1 where there are gums.
        alpha: float32 (h, w).
        middle, edge: column of the row's middle, and row of the first teeth's edge.
    """

    light: np.ndarray
    gum: np.ndarray
    alpha: np.ndarray
    middle: float
    edge: float


def draw_row(kind: str, upper: bool, per_mm: float, soft: float = 1.0) -> Row:
    """A row of teeth of `kind` (`even`, `broad` or `pointed`).

    Args:
        upper: the upper one, whose edge is below; else the lower one.
        per_mm: pixels per millimetre.
        soft: over how many pixels its edge goes.
    """
    widths, back, tall, dark = _UPPER if upper else _LOWER
    factors, longer = _KINDS[kind]
    widths = np.array(widths) * np.concatenate([factors, np.ones(3)])
    back = np.array(back) - longer * (np.arange(6) == 2) * upper
    bounds = np.concatenate([[0.0], np.cumsum(widths)])
    columns, rows = round(2 * _HALF * per_mm) + 1, round((tall + _GUMS + _ABOVE) * per_mm) + 1
    x = np.abs(np.arange(columns) / per_mm - _HALF)
    # Millimetres from the edge of the first teeth into the row.
    y = (np.arange(rows) / per_mm - _ABOVE)[:, None]
    which = np.clip(np.searchsorted(bounds, x, side="right") - 1, 0, 5)
    place = np.clip((x - bounds[which]) / widths[which], 0, 1) * 2 - 1
    # Each tooth's corners are round; the third one ends in a blunt tip.
    edge = back[which] + 0.75 * np.abs(place) ** 4 + 0.5 * (which == 2) * np.abs(place)
    if not upper:
        # One looks down on the lower row: it rises to the sides.
        edge = edge - 0.017 * np.square(x)
    edge = cv2.GaussianBlur(edge[None].astype(np.float32), (0, 0), max(0.25 * per_mm, 0.3))[0]
    alpha = np.clip((y - edge) * per_mm / soft + 0.5, 0, 1) * (x < bounds[-1])
    nearest = np.abs(x[None] - bounds[1:-1, None]).min(0)
    nearest = np.minimum(nearest, x)
    parted = _PARTING * np.exp(-np.square(nearest / max(_PARTED, 0.7 / per_mm))) * (x < dark)
    # They are round, and lie deeper to the sides.
    light = (1 - parted) * (1 - 0.05 * place**2) * (1 - 0.62 * smooth(4.0, dark + 3, x))
    # The upper ones shade the lower ones' edges.
    light = light * (1 - (0.10 if upper else 0.3) * smooth(2.5, 0.0, y - edge))
    necks = tall - 1.2 * place**2 - 0.6 * back[which]
    gum = smooth(-0.6, 0.6, y - necks)
    if upper:
        # Drawn from its edge into the row, which is upwards.
        light, gum, alpha = (np.broadcast_to(plane, (rows, columns))[::-1] for plane in (light, gum, alpha))
    planes = (
        np.ascontiguousarray(np.broadcast_to(p, (rows, columns)), np.float32) for p in (light, gum, alpha)
    )
    return Row(*planes, _HALF * per_mm, (rows - 1 - _ABOVE * per_mm) if upper else _ABOVE * per_mm)
