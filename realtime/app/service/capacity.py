"""How many sessions a worker has places for: measured, not believed."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.core.engine import Engine
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.render_session import SharedEngine
from livepuppet.realtime.app.service.worker import GIVEN_AWAY
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.remote.video import open_encoder
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.pose import HeadPose, joined

#: Frames a second of a session, and width and height of its canvas.
RATE, CANVAS = 30.0, (640, 480)

#: Pictures that are measured, after those that warm up.
MEASURED, WARMING = 40, 5


def measured_places(engine: Engine) -> int:
    """How many sessions this process renders in time, times `GIVEN_AWAY`; at least 1."""
    return places(statistics.median(service_seconds(engine)))


def places(seconds: float, rate: float = RATE) -> int:
    """For pictures that take so many seconds each."""
    return max(int(GIVEN_AWAY / (rate * seconds)), 1)


def service_seconds(engine: Engine, avatar: Path | None = None, count: int = MEASURED) -> list[float]:
    """Seconds of rendering and encoding of each picture of `CANVAS`, for somebody who moves the head.

    Args:
        engine: loaded.
        avatar: a picture; the bundled one by default.
        count: of pictures.
    """
    width, height = CANVAS
    shared: Any = SharedEngine(engine)
    animator = Animator(avatar or bundled.AVATAR, engine=shared, size=Compositor(width, height))
    keypoints = None if animator.drawn_by_rig else shared.detect(animator.avatar.image)
    encoder = open_encoder((height, width, 3), 1)
    out = np.empty((height, width, 3), np.uint8)
    spent = []
    for number in range(WARMING + count):
        began = time.perf_counter()
        animator.render_request(_moving(number, engine.num_keypoints), keypoints, False, out)
        encoder.encode(out, number == 0)
        spent.append(time.perf_counter() - began)
    return spent[WARMING:]


def _moving(number: int, keypoints: int) -> RigMotion:
    """Head and face as a smooth driver moves them."""
    wave = np.sin(0.1 * number + np.arange(max(2 * keypoints, 52)))
    pose = HeadPose(1 + 0.1 * wave[0], joined(0.2 * wave[1:3], 0.1 * wave[3]), 0.1 * wave[4:6])
    residuals = 0.02 * wave[: 2 * keypoints].reshape(keypoints, 2)
    return RigMotion(pose, residuals, np.clip(wave[:52], 0, 1).astype(np.float32))
