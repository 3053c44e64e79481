"""What a rig holds once it is made, and sessions that have one together."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from livepuppet.benchmarks.rig import held_bytes
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.bundled import AVATAR, MODEL
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.rig.amounts import NAMES, amounts
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.finding import contours_of
from livepuppet.realtime.rig.patches import Patch
from livepuppet.realtime.rig.pose import HeadPose, joined
from livepuppet.realtime.rig.rig import Face, Rig
from livepuppet.realtime.rig.sharing import shared


@pytest.fixture(scope="module")
def shown():
    """The bundled avatar and its face."""
    engine = load_engine("onnx", MODEL, precision="float32", use="detect")
    avatar = load_avatar(AVATAR, engine.size)
    contours, _ = contours_of(engine, avatar.original, avatar.square, None)
    names = tuple(engine.keypoint_names)
    return avatar, Face(engine.detect(avatar.image), names, engine.size, avatar.square, contours)


def motion(face: Face, number: int) -> RigMotion:
    random = np.random.default_rng(number)
    told = amounts(**{name: float(value**2) for name, value in zip(NAMES, random.random(52), strict=True)})
    turn = 0.25 * random.uniform(-1, 1, 3)
    pose = HeadPose(1.0, joined(turn[:2], turn[2]), 3 * turn[:2]) if number % 3 else HeadPose.rest()
    return RigMotion(pose, np.zeros((len(face.names), 2)), told)


@pytest.mark.parametrize("background", [None, "alpha"])
def test_a_rig_without_what_made_it_draws_the_same(shown, background):
    avatar, face = shown
    rigs = [Rig(avatar.original, face, avatar.square, None, background) for _ in range(2)]
    rigs[1].shrink()
    assert held_bytes(rigs[1]) < 0.6 * held_bytes(rigs[0])
    for number in range(9):
        one, other = (np.empty(rig.shape, np.uint8) for rig in rigs)
        for rig, out in zip(rigs, (one, other), strict=True):
            rig.draw(motion(face, number), out)
        if background:
            # Of what is not seen colours do not matter.
            one[one[..., 3] < 8] = other[other[..., 3] < 8] = 0
        off = np.abs(one.astype(int) - other)
        # Where pixels come from is rounded otherwise.
        assert off.max() <= 8 and (off > 0).mean() < 1e-3


def test_sessions_with_the_same_avatar_have_one_rig(shown):
    avatar, face = shown
    first, second, larger = Compositor(256, 256), Compositor(256, 256), Compositor(288, 288)
    avatars = [replace(avatar), replace(avatar), replace(avatar)]
    for canvas, own in zip((first, second, larger), avatars, strict=True):
        canvas.set_avatar(own)
        canvas.prepare(own, wait=True, face=face)
    rigs = [canvas.rig(own, face) for canvas, own in zip((first, second, larger), avatars, strict=True)]
    assert rigs[0] is not None and rigs[0] is rigs[1] and rigs[2] is not rigs[0]
    # In turn, each draws as if alone.
    frames = [motion(face, number) for number in range(6)]

    def drawn(canvas: Compositor, moved: RigMotion) -> np.ndarray:
        out = np.empty(canvas.shape, np.uint8)
        canvas.compose_rig(rigs[0], moved, out)
        return out

    together = [
        (drawn(first, one), drawn(second, other)) for one, other in zip(frames[:3], frames[3:], strict=True)
    ]
    for number, (one, other) in enumerate(together):
        np.testing.assert_array_equal(one, drawn(first, frames[number]))
        np.testing.assert_array_equal(other, drawn(second, frames[number + 3]))


def test_eyes_and_mouth_over_a_models_picture_change_nothing_that_others_show(shown):
    avatar, _ = shown
    canvases = [Compositor(256, 256), Compositor(256, 256)]
    grid = np.dstack(np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8))).astype(np.float32)
    patch = Patch(np.full((9, 9, 3), 255, np.uint8), None, 100, 100)
    for canvas in canvases:
        canvas.set_avatar(avatar)
    assert canvases[0]._layers is canvases[1]._layers
    plain, patched, again = (np.empty(canvases[0].shape, np.uint8) for _ in range(3))
    canvases[1].compose(avatar.image, grid, plain)
    canvases[0].compose(avatar.image, grid, patched, [patch])
    canvases[1].compose(avatar.image, grid, again)
    assert (patched[101:108, 101:108] == 255).all()
    np.testing.assert_array_equal(plain, again)


def test_a_rig_is_made_once_and_forgotten_with_its_last_session():
    class Made:
        pass

    made, found = [], []

    def make():
        made.append(None)
        return Made()

    threads = [threading.Thread(target=lambda: found.append(shared("a", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len({id(one) for one in found}) == 1
    found.clear()
    assert shared("a", make) is not None and len(made) == 2
    assert shared(None, make) is not None and len(made) == 3
    assert shared("b", lambda: None) is None
