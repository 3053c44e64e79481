"""One rig, and one of everything else that is only read, for all sessions of a process that draw the same avatar at the same size:
that is many times what a session holds.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.realtime.rig.rig import Face, Rig
from livepuppet.realtime.rig.sidecar import to_json


class _Making:
    """Who holds its lock makes the rig; the others wait for it."""

    def __init__(self):
        self.lock = threading.Lock()


_guard = threading.Lock()
_rigs: WeakValueDictionary[str, Rig] = WeakValueDictionary()
_makings: WeakValueDictionary[str, _Making] = WeakValueDictionary()
_drawing: WeakKeyDictionary[Rig, threading.Lock] = WeakKeyDictionary()
_avatars: WeakValueDictionary[str, Avatar] = WeakValueDictionary()
_of_avatars: WeakKeyDictionary[Avatar, WeakValueDictionary[Hashable, Any]] = WeakKeyDictionary()

Made = TypeVar("Made")


def rig_key(layers: dict, picture: np.ndarray, face: Face, background: str) -> str | None:
    """Everything that a rig depends on; None where it cannot be shared: where a model draws the head, the rig's patches are read
    after they are drawn, and a new background is a canvas's own.

    Args:
        layers: see `layers_key`.
        picture: uint8 RGB (H, W, 3), as `Rig` has it.
        background: `as-is`, `alpha` or another.
    """
    if face.mode != "on" or background not in ("as-is", "alpha"):
        return None
    contours = None if face.contours is None else to_json(face.contours, picture)
    points = np.asarray(face.keypoints.jacobians, np.float32).tobytes()
    told = json.dumps([layers, contours, background, [face.square.x, face.square.y, face.square.side]])
    return hashlib.sha256(told.encode() + points).hexdigest()


def shared(key: str | None, make: Callable[[], Rig | None]) -> Rig | None:
    """The rig with this key, made once for as long as anybody holds it."""
    if key is None:
        return make()
    with _guard:
        making = _makings.setdefault(key, _Making())
    with making.lock:
        with _guard:
            rig = _rigs.get(key)
        if rig is None:
            rig = make()
            if rig is not None:
                with _guard:
                    _rigs[key], _drawing[rig] = rig, threading.Lock()
        return rig


def drawing(rig: Rig) -> AbstractContextManager:
    """Held while a rig draws that others may have, too."""
    with _guard:
        return _drawing.get(rig) or nullcontext()


def one_avatar(digest: str, avatar: Avatar) -> Avatar:
    """The avatar with this hash that somebody holds already, or this one."""
    with _guard:
        return _avatars.setdefault(digest, avatar)


def of_avatar(avatar: Avatar, kind: Hashable, make: Callable[[], Made]) -> Made:
    """What of this kind depends on the avatar alone, and nobody writes to: made once for as long as anybody holds it."""
    with _guard:
        kinds = _of_avatars.setdefault(avatar, WeakValueDictionary())
        made = kinds.get(kind)
    if made is None:
        made = make()
        with _guard:
            made = kinds.setdefault(kind, made)
    return made
