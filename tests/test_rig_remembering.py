"""Layers of avatars are kept in the cache, whole, and for this very picture, face and code."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from media import gradient

from livepuppet.core import cache
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.square import Square
from livepuppet.realtime.compositing import compositor
from livepuppet.realtime.rig import matting, remembering
from livepuppet.realtime.rig.layers import FigureLayers, compose_layers
from livepuppet.realtime.rig.remembering import layers_key, remember_layers, remembered_layers
from livepuppet.realtime.rig.rig import Face

SQUARE = Square(4, 2, 40)
PICTURE = gradient(48, 60)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def face(shift: float = 0.0) -> Face:
    points = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2) + np.float32(shift)
    return Face(Keypoints(points, np.zeros((4, 2, 2), np.float32)), ("a", "b", "c", "d"), 64, SQUARE)


def alike(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_layers_come_back_to_the_bit():
    matte = np.zeros((48, 60), np.uint8)
    matte[10:40, 15:45] = 255
    layers = compose_layers(PICTURE, matte, 3)
    key = layers_key(PICTURE, SQUARE, face(), None)
    assert remembered_layers(key) is None
    remember_layers(key, layers)
    found = remembered_layers(key)
    assert found is not None and alike(found, layers) and found.why is None


def test_a_picture_of_one_layer_comes_back_with_its_sentence():
    key = layers_key(PICTURE, SQUARE, face(), None)
    remember_layers(key, FigureLayers(None, PICTURE, PICTURE, why="No figure."))
    found = remembered_layers(key)
    assert found is not None and found.why == "No figure." and found.matte is None and found.alpha is None
    assert np.array_equal(found.plate, PICTURE)


@dataclass(frozen=True, eq=False)
class Inner:
    share: np.ndarray


@dataclass(frozen=True, eq=False)
class Outer:
    matte: np.ndarray | None
    inner: Inner | None = None


def test_layers_in_layers_come_back(monkeypatch):
    share = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = remembering._restored(Outer, remembering._arrays(Outer(None, Inner(share)), ""), "")
    assert found.matte is None and np.array_equal(found.inner.share, share)
    assert remembering._restored(Outer, remembering._arrays(Outer(share), ""), "").inner is None


def test_other_pictures_faces_mattes_and_code_have_layers_of_their_own(monkeypatch):
    matte = np.full((48, 60), 255, np.uint8)
    keys = [
        layers_key(PICTURE, SQUARE, face(), None),
        layers_key(PICTURE // 2, SQUARE, face(), None),
        layers_key(PICTURE, SQUARE.shifted(0.1, 0), face(), None),
        layers_key(PICTURE, SQUARE, face(0.1), None),
        layers_key(PICTURE, SQUARE, face(), matte),
    ]
    monkeypatch.setattr(remembering, "_code", lambda: "changed")
    keys.append(layers_key(PICTURE, SQUARE, face(), None))
    assert len({cache.key_of(key) for key in keys}) == len(keys)


def test_a_damaged_file_is_made_anew():
    key = layers_key(PICTURE, SQUARE, face(), None)
    remember_layers(key, FigureLayers(None, PICTURE, PICTURE))
    (file,) = cache.cache_folder("layers").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert remembered_layers(key) is None


def test_what_a_rig_was_made_with_is_closed():
    def build(*_):
        matting._session(str(matting.default_matting()))

    rigs, avatar = compositor._Rigs(build), SimpleNamespace(name="one")
    rigs.begin(("key",), avatar, face())
    end = time.monotonic() + 60
    while rigs._working and time.monotonic() < end:
        time.sleep(0.01)
    assert not rigs._working and matting._session.cache_info().currsize == 0
