"""Rims of glasses: what crosses the bridge of the nose, and goes on around both eyes in the same colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Lengths are in eye distances.

#: Pixels per eye distance of the upright crop in which rims are looked for, and its half width and its heights.
PER_D, ASIDE, ABOVE, BELOW = 150, 1.05, 0.55, 0.75

#: Where a bridge is looked for, on both sides of the middle, and above and below the eyes.
BRIDGE_ASIDE, BRIDGE_ABOVE, BRIDGE_BELOW = (0.07, 0.15), 0.40, 0.35

#: By how much a bridge differs from the skin above and below it, and both its sides at most from one another (CIELAB of 8 bits).
STANDS_OUT, ALIKE = 26.0, 32.0

#: How much of an eye's width rims pass over.
SPAN = 0.8

#: No rims are thicker: a bridge is skin again within this.
THICK = 0.30


#: Rims of less than this share of the skin's lightness are as dark as lashes.
DARK = 0.45


@dataclass(frozen=True, eq=False)
class Rims:
    """Rims in a picture.

    Attributes:
        mask: where they are, and what hangs together with them in their colour; bool (H, W).
        dark: whether they are as dark as lashes.
    """

    mask: np.ndarray
    dark: bool


def find_rims(picture: np.ndarray, left: np.ndarray, right: np.ndarray) -> Rims | None:
    """The rims in `picture` uint8 RGB (H, W, 3), if there are any.

    Args:
        left, right: middles of the eyes (2,), in its pixels.
    """
    line = np.asarray(right, np.float64) - left
    distance = float(np.hypot(*line))
    if distance < 8:
        return None
    along = line / distance * PER_D / distance
    turn = np.array([along, [-along[1], along[0]]])
    width, height = round(2 * ASIDE * PER_D), round((ABOVE + BELOW) * PER_D)
    middle = np.array([width / 2, ABOVE * PER_D])
    to_crop = np.column_stack([turn, middle - turn @ ((np.asarray(left, np.float64) + right) / 2)])
    flags = cv2.INTER_AREA if distance > PER_D else cv2.INTER_LINEAR
    source = picture
    if distance > 1.5 * PER_D:
        source = cv2.GaussianBlur(picture, (0, 0), 0.4 * distance / PER_D)
    crop = cv2.warpAffine(source, to_crop, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    found = _bridge(lab, middle)
    if found is None:
        return None
    colour, seeds, off, skin = found
    alike = np.linalg.norm(lab - colour, axis=2) < max(14.0, 0.55 * off)
    # Lights on it do not end it.
    alike = cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(alike, connectivity=8)
    chosen = np.isin(labels, [k for k in {int(labels[y, x]) for x, y in seeds} if k])
    for sign in (-1, 1):
        # They pass over each eye, or under it.
        x = middle[0] + sign * 0.5 * PER_D
        columns = chosen[:, round(x - 0.22 * PER_D) : round(x + 0.22 * PER_D)]
        if not len(columns) or columns.any(0).mean() < SPAN:
            return None
    if chosen.mean() > 0.4:
        return None
    back = cv2.warpAffine(
        chosen.astype(np.uint8) * 255,
        to_crop,
        picture.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return Rims(back > 100, bool(colour[0] < DARK * skin))


def _bridge(
    lab: np.ndarray, middle: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int]], float, float] | None:
    """The colour of what crosses the nose's bridge, where it does (x, y) on both sides, how far that is from the skin's, and how
    light the skin is.
    """
    top, bottom = round(middle[1] - BRIDGE_ABOVE * PER_D), round(middle[1] + BRIDGE_BELOW * PER_D)
    sides = []
    for sign in (-1, 1):
        at = sorted(round(middle[0] + sign * k * PER_D) for k in BRIDGE_ASIDE)
        profile = np.median(lab[:, at[0] : at[1] + 1], axis=1)
        skin = np.median(profile[top : bottom + round(0.2 * PER_D)], axis=0)
        off = np.linalg.norm(profile - skin, axis=1)
        y = top + int(off[top:bottom].argmax())
        if off[y] < STANDS_OUT:
            return None
        # The middle of its thickness.
        strong = off > 0.7 * off[y]
        first = y - int((~strong[:y][::-1]).argmax())
        last = y + int((~strong[y:]).argmax())
        y = (first + last) // 2
        # It is a line: above and below there is skin.
        reach = round(THICK * PER_D)
        for part in (off[max(y - reach, 0) : y], off[y + 1 : y + reach + 1]):
            if not len(part) or part.min() > 0.5 * off[y]:
                return None
        sides.append((profile[y], (round(sum(at) / 2), y), float(off[y]), float(skin[0])))
    (one, here, off, light), (other, there, further, lighter) = sides
    if np.linalg.norm(one - other) > ALIKE or abs(here[1] - there[1]) > 0.15 * PER_D:
        return None
    seeds = []
    colour = (one + other) / 2
    for x, y in (here, there):
        box = np.linalg.norm(lab[y - 2 : y + 3, x - 4 : x + 5] - colour, axis=2)
        dy, dx = np.unravel_index(int(box.argmin()), box.shape)
        seeds.append((x - 4 + int(dx), y - 2 + int(dy)))
    return colour, seeds, min(off, further), max(light, lighter)
