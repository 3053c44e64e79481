"""Contours changed by hand: a few handles, each of which takes the curve beside it along."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from livepuppet.realtime.rig.contours import POINTS, Contours

#: Points of a curve that have a handle: corners, quarters and the middle.
_PLACES = (0, POINTS // 4, POINTS // 2, POINTS - 1 - POINTS // 4, POINTS - 1)

_CURVES = {
    "left": ("upper", "lower", "crease"),
    "right": ("upper", "lower", "crease"),
    "mouth": ("outer_upper", "inner_upper", "inner_lower", "outer_lower"),
}

#: Curves of one part that share their corners.
_SHARED = {
    "left": ("upper", "lower"),
    "right": ("upper", "lower"),
    "mouth": ("outer_upper", "inner_upper", "inner_lower", "outer_lower"),
}


@dataclass(frozen=True)
class Handle:
    """Something to drag.

    Attributes:
        part: `left`, `right` or `mouth`.
        name: of the curve; `iris` (moves it), `radius` (its rim) or `chin`.
        index: of the curve's point; 0 for the others.
        at: (x, y) in the picture.
    """

    part: str
    name: str
    index: int
    at: tuple[float, float]


def handles(contours: Contours) -> list[Handle]:
    """All handles of all parts that there are."""
    found = []
    for part, curves in _CURVES.items():
        shape = getattr(contours, part)
        if shape is None:
            continue
        for curve in curves:
            points = getattr(shape, curve)
            # Corners once; a crease is dragged by its middle.
            places = _PLACES if curve == _SHARED[part][0] else _PLACES[1:-1]
            places = (POINTS // 2,) if curve == "crease" else places
            found += [Handle(part, curve, k, tuple(points[k].tolist())) for k in places]
        if part == "mouth":
            found.append(Handle(part, "chin", 0, tuple(shape.chin.tolist())))
        else:
            x, y = shape.iris.tolist()
            found += [Handle(part, "iris", 0, (x, y)), Handle(part, "radius", 0, (x + shape.radius, y))]
    return found


def nearest(contours: Contours, x: float, y: float, reach: float) -> Handle | None:
    """The handle that is meant by a click at (x, y): the nearest within `reach` pixels."""
    found = handles(contours)
    if not found:
        return None
    best = min(found, key=lambda handle: np.hypot(handle.at[0] - x, handle.at[1] - y))
    return best if np.hypot(best.at[0] - x, best.at[1] - y) <= reach else None


def moved(contours: Contours, handle: Handle, x: float, y: float) -> Contours:
    """The contours with a handle dragged to (x, y), which is kept in the picture; the part is sure from then on."""
    x, y = float(np.clip(x, 0, contours.width - 1)), float(np.clip(y, 0, contours.height - 1))
    shape = getattr(contours, handle.part)
    if handle.name == "radius":
        longest = float(np.hypot(*(shape.upper[-1] - shape.upper[0])))
        radius = float(np.clip(np.hypot(x - shape.iris[0], y - shape.iris[1]), 1.0, max(longest, 1.0)))
        changed = {"radius": radius}
    elif handle.name in ("iris", "chin"):
        changed = {handle.name: np.array([x, y], np.float32)}
    else:
        by = np.array([x, y], np.float32) - getattr(shape, handle.name)[handle.index]
        corner = handle.index in (0, POINTS - 1)
        names = _CURVES[handle.part] if corner else (handle.name,)
        changed = {
            name: (getattr(shape, name) + _weights(handle.index)[:, None] * by).astype(np.float32)
            for name in names
        }
    return replace(contours, **{handle.part: replace(shape, **changed, sure=True, reason="")})


def switched(contours: Contours, part: str) -> Contours:
    """The contours with a part moved by the rig where it was not, and the other way round."""
    shape = getattr(contours, part)
    if shape is None:
        return contours
    reason = "it was switched off by hand" if shape.sure else ""
    return replace(contours, **{part: replace(shape, sure=not shape.sure, reason=reason)})


def _weights(index: int) -> np.ndarray:
    """How far each point of a curve goes along with one handle: all of it there, none at the handles beside it."""
    weights = np.interp(np.arange(POINTS), _PLACES, [float(place == index) for place in _PLACES])
    return (weights * weights * (3 - 2 * weights)).astype(np.float32)
