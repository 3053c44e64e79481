"""`me.rig.json` beside `me.png`: the rig's contours as a small file of points, which a person may have dragged.

A sidecar is input like any other. What is read from it is bounded, belongs to the very picture, and lies in it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.files import write_atomically
from livepuppet.realtime.rig.contours import POINTS, Contours, EyeContours, MouthContours

#: Of the format. A reader takes this one only.
VERSION = 1

#: Largest file that is read, in bytes. A written one has about 6000.
LARGEST = 65536

#: How far outside of the picture a point may lie, as a share of its longer side: faces are cut off by edges.
MARGIN = 0.25

#: Kinds of teeth that a sidecar may name.
TEETH = ("auto", "own", "even", "broad", "pointed", "drawn", "none")

_STRENGTHS = ("left", "right", "mouth")
_LONGEST_REASON = 200
_STRONGEST = 1.5


def sidecar_path(picture: Path) -> Path:
    """Where the sidecar of a picture lies: `me.png` has `me.rig.json`."""
    return Path(picture).with_suffix(".rig.json")


def checksum(picture: np.ndarray) -> str:
    """Of the pixels uint8 RGB (H, W, 3), as read: a file saved anew without loss keeps its rig."""
    return hashlib.blake2b(np.ascontiguousarray(picture), digest_size=16).hexdigest()


def to_json(contours: Contours, picture: np.ndarray) -> str:
    """The text of a sidecar. Points have two decimals."""

    def part(value):
        if value is None:
            return None
        return {
            name.name: np.round(np.asarray(data, np.float64), 2).tolist()
            if isinstance(data := getattr(value, name.name), np.ndarray | float)
            else data
            for name in fields(value)
        }

    text = {
        "livepuppet rig": VERSION,
        "picture": {"width": contours.width, "height": contours.height, "checksum": checksum(picture)},
        "left": part(contours.left),
        "right": part(contours.right),
        "mouth": part(contours.mouth),
        "strength": contours.strength,
    }
    return json.dumps(text, separators=(",", ":")).replace(',"', ',\n"') + "\n"


def write_sidecar(path: Path, contours: Contours, picture: np.ndarray) -> None:
    """Write a sidecar whole or not at all.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        write_atomically(path, to_json(contours, picture))
    except OSError as error:
        raise UserError(
            f"The rig {path} cannot be written ({error.strerror}): choose another --output."
        ) from error


def read_sidecar(path: Path, picture: np.ndarray) -> Contours:
    """The contours of `picture` uint8 RGB (H, W, 3), from its sidecar.

    Raises:
        UserError: if it cannot be read, is damaged, of another version, of another picture, or says what cannot be.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(
            f"The rig {path} cannot be read ({error.strerror}): check its name and permissions."
        ) from error
    try:
        return from_json(data, picture)
    except _WrongError as error:
        raise UserError(
            f"The rig {path} is not used, because {error}: make it anew with 'livepuppet rig'."
        ) from error


class _WrongError(ValueError):
    """What is wrong with a sidecar, as a part of a sentence."""


def from_json(data: bytes, picture: np.ndarray) -> Contours:
    """`read_sidecar`'s work on bytes. Raises ValueError with a part of a sentence."""
    if len(data) > LARGEST:
        raise _WrongError("it is larger than any rig")
    try:
        text = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _WrongError("it is no JSON") from error
    if not isinstance(text, dict) or "livepuppet rig" not in text:
        raise _WrongError("it is no rig")
    if text["livepuppet rig"] != VERSION or isinstance(text["livepuppet rig"], bool):
        raise _WrongError("another version of livepuppet wrote it")
    height, width = picture.shape[:2]
    about = text.get("picture")
    if not isinstance(about, dict) or (about.get("width"), about.get("height")) != (width, height):
        raise _WrongError("it belongs to a picture of another size")
    if about.get("checksum") != checksum(picture):
        raise _WrongError("it belongs to another picture")
    eyes = {side: _part(text.get(side), EyeContours, side, width, height) for side in ("left", "right")}
    mouth = _part(text.get("mouth"), MouthContours, "mouth", width, height)
    for side, eye in eyes.items():
        if eye is not None:
            _check_eye(eye, side)
    if mouth is not None:
        _check_mouth(mouth)
    return Contours(width, height, eyes["left"], eyes["right"], mouth, _strength(text.get("strength", {})))


def _strength(found) -> dict[str, float]:
    if not isinstance(found, dict) or not set(found) <= set(_STRENGTHS):
        raise _WrongError("its strengths are not those of left, right and mouth")
    return {name: _number(value, "strength", 0.0, _STRONGEST) for name, value in found.items()}


def _part(found, kind: type, name: str, width: int, height: int):
    """One `EyeContours` or `MouthContours` from what JSON held."""
    if found is None:
        return None
    if not isinstance(found, dict) or set(found) != {field.name for field in fields(kind)}:
        raise _WrongError(f"its {name} lacks something")
    values, longest = {}, max(width, height)
    for field in fields(kind):
        value, label = found[field.name], f"{name} {field.name}".replace("_", " ")
        if field.name == "sure":
            if not isinstance(value, bool):
                raise _WrongError(f"its {label} is neither true nor false")
        elif field.name == "reason":
            if not isinstance(value, str) or len(value) > _LONGEST_REASON or not value.isprintable():
                raise _WrongError(f"its {label} is no short text")
        elif field.name == "teeth":
            if value not in TEETH:
                raise _WrongError(f"its {label} are none of {', '.join(TEETH)}")
        elif field.name == "radius":
            value = _number(value, label, 0.25, longest)
        else:
            count = 1 if field.name in ("iris", "chin") else POINTS
            value = _points([value] if count == 1 else value, count, label, width, height)
            value = value[0] if count == 1 else value
        values[field.name] = value
    return kind(**values)


def _number(value, label: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _WrongError(f"its {label} is no number")
    if not low <= value <= high:
        raise _WrongError(f"its {label} is out of range")
    return float(value)


def _points(value, count: int, label: str, width: int, height: int) -> np.ndarray:
    if not isinstance(value, list) or len(value) != count:
        raise _WrongError(f"its {label} has not {count} points")
    margin = MARGIN * max(width, height)
    rows = []
    for point in value:
        if not isinstance(point, list) or len(point) != 2:
            raise _WrongError(f"its {label} holds something that is no point")
        rows.append(
            [
                _number(point[0], label, -margin, width + margin),
                _number(point[1], label, -margin, height + margin),
            ]
        )
    return np.array(rows, np.float32)


def _along(first: np.ndarray, last: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Unit vectors along and across (down) a line between two corners, and its length."""
    line = (last - first).astype(np.float64)
    length = float(np.hypot(*line))
    if length < 2:
        raise _WrongError(f"its {label} has no width")
    along = line / length
    return along, np.array([-along[1], along[0]]), length


def _check_order(curves: list[np.ndarray], label: str) -> float:
    """That curves run from left to right and do not cross; returns their width."""
    along, down, length = _along(curves[0][0], curves[0][-1], label)
    heights = []
    for curve in curves:
        offset = curve - curves[0][0]
        if np.any(np.diff(offset @ along) < 0):
            raise _WrongError(f"its {label} turns back")
        heights.append(np.interp(np.linspace(0, length, POINTS), offset @ along, offset @ down))
    for upper, lower in itertools.pairwise(heights):
        # Corners dragged by hand and rounded numbers: a small overlap is mended by the layers.
        if np.any(lower - upper < -0.05 * length):
            raise _WrongError(f"its {label} is upside down")
    if max(np.ptp(height) for height in heights) > 3 * length:
        raise _WrongError(f"its {label} is higher than an eye or a mouth can be")
    return length


def _check_eye(eye: EyeContours, side: str) -> None:
    length = _check_order([eye.crease, eye.upper, eye.lower], f"{side} eye")
    if eye.radius > 1.5 * length:
        raise _WrongError(f"its {side} iris is larger than the eye")


def _check_mouth(mouth: MouthContours) -> None:
    _check_order([mouth.outer_upper, mouth.inner_upper, mouth.inner_lower, mouth.outer_lower], "mouth")
    _, down, length = _along(mouth.inner_upper[0], mouth.inner_upper[-1], "mouth")
    lowest = float(((mouth.outer_lower - mouth.inner_upper[0]) @ down).max())
    if not lowest < float((mouth.chin - mouth.inner_upper[0]) @ down) < 6 * length + lowest:
        raise _WrongError("its chin is not below the mouth")
