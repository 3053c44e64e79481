"""Layers of avatars from the cache: cutting a figure out is the longest part of making its rig."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cv2
import numpy as np

from livepuppet.core.cache import remember_arrays, remembered_arrays
from livepuppet.core.square import Square
from livepuppet.realtime.compositing import matte as mattes
from livepuppet.realtime.rig.layers import FigureLayers
from livepuppet.realtime.rig.rig import Face


def layers_key(picture: np.ndarray, square: Square, face: Face, matte: np.ndarray | None) -> dict:
    """Everything that the layers of a picture uint8 RGB (H, W, 3) depend on, for the cache.

    Args:
        square, face, matte: as `Rig` has them.
    """
    points = np.asarray(face.keypoints.points, np.float32)
    return {
        "code": _code(),
        "opencv": cv2.__version__,
        "picture": [_checksum(picture), *picture.shape],
        "square": [square.x, square.y, square.side],
        "points": [_checksum(points), face.size, *face.names],
        "others": [[other.x, other.y, other.side] for other in face.others_on(square)],
        "matte": None if matte is None else _checksum(matte),
    }


def remembered_layers(key: dict) -> FigureLayers | None:
    """The layers that were remembered, or None."""
    try:
        return _restored(FigureLayers, remembered_arrays("layers", key), "")
    except KeyError:
        return None


def remember_layers(key: dict, layers: FigureLayers) -> None:
    """Have the next start find them. A cache that cannot be written is no error."""
    remember_arrays("layers", key, _arrays(layers, ""))


def _arrays(value: Any, prefix: str) -> dict[str, np.ndarray]:
    """The fields of a dataclass, and of those in it, by name; None is left out."""
    found = {}
    for field in fields(value):
        name, part = prefix + field.name, getattr(value, field.name)
        if is_dataclass(part):
            found[name] = np.array(True)
            found |= _arrays(part, f"{name}.")
        elif part is not None:
            found[name] = np.asarray(part)
    return found


def _restored(kind: type, arrays: dict[str, np.ndarray], prefix: str) -> Any:
    """What `_arrays` took apart."""
    values = {}
    for name, hint in get_type_hints(kind).items():
        array = arrays.get(prefix + name)
        inner = next((part for part in (*get_args(hint), hint) if is_dataclass(part)), None)
        if array is None:
            values[name] = None
        elif inner is not None:
            values[name] = _restored(inner, arrays, f"{prefix}{name}.")
        else:
            values[name] = array if array.ndim else array.item()
    return kind(**values)


def _checksum(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


@cache
def _code() -> str:
    """Of all that makes layers: whoever changes a line, or a network, has them made anew."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    with suppress(OSError):
        for path in sorted([*here.glob("*.py"), Path(mattes.__file__)]):
            digest.update(path.read_bytes())
        for path in sorted((here.parent / "data" / "rig").glob("*.onnx")):
            digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()
