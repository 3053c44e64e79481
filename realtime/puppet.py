"""A picture that takes over the movement of driving frames: an engine, its avatars, and D1."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from livepuppet.realtime.avatars import Avatar
from livepuppet.realtime.engines import Engine, Features
from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.transfer import movement_scale, transfer


@dataclass(frozen=True)
class Step:
    """What one driving frame gave.

    Attributes:
        picture: the moved avatar, uint8 RGB (S, S, 3).
        driving: the driver's keypoints.
        detect_seconds, render_seconds: time in the model.
    """

    picture: np.ndarray
    driving: Keypoints
    detect_seconds: float
    render_seconds: float


@dataclass(frozen=True)
class _Prepared:
    """An avatar, and all that depends on it alone."""

    avatar: Avatar
    features: Features
    keypoints: Keypoints


class Puppet:
    """Moves one of several avatars, each encoded once, at the start.

    Args:
        engine: runs the model.
        avatars: at least one, cut to the engine's size.
        relative: transfer movement since D1 (Eq. 14-15); False takes the driver's keypoints as they are.
        adapt_scale: scale movement by the faces' sizes.
        progress: called with each avatar once it is encoded.
    """

    def __init__(
        self,
        engine: Engine,
        avatars: Sequence[Avatar],
        relative: bool = True,
        adapt_scale: bool = True,
        progress: Callable[[Avatar], None] = lambda avatar: None,
    ):
        self.engine, self.relative, self.adapt_scale = engine, relative, adapt_scale
        self._prepared: list[_Prepared] = []
        for avatar in avatars:
            features, keypoints = engine.encode(avatar.picture), engine.detect(avatar.picture)
            self._prepared.append(_Prepared(avatar, features, keypoints))
            progress(avatar)
        self._current = 0
        self.initial: Keypoints | None = None
        self._scale = 1.0

    def __len__(self) -> int:
        return len(self._prepared)

    @property
    def index(self) -> int:
        """Number of the present avatar, from 0."""
        return self._current

    @property
    def avatar(self) -> Avatar:
        return self._prepared[self._current].avatar

    def select(self, index: int) -> None:
        """Switch to another avatar, counted round the end. D1 stays: it belongs to the driver."""
        self._current = index % len(self._prepared)
        self._match_sizes()

    def reset(self) -> None:
        """Take the next frame for D1."""
        self.initial = None

    def _match_sizes(self) -> None:
        if self.initial is not None and self.adapt_scale:
            self._scale = movement_scale(self._prepared[self._current].keypoints, self.initial)

    def warm_up(self) -> None:
        """Run the model once, so that the first frame is not the slow one. Leaves D1 alone."""
        prepared = self._prepared[self._current]
        self.engine.render(prepared.features, prepared.keypoints, self.engine.detect(prepared.avatar.picture))

    def move(self, frame: np.ndarray) -> Step:
        """Move the present avatar as in the driving `frame`, uint8 RGB (S, S, 3). The first frame becomes D1."""
        began = time.perf_counter()
        driving = self.engine.detect(frame)
        detected = time.perf_counter()
        if self.initial is None:
            self.initial = driving
            self._match_sizes()
        prepared = self._prepared[self._current]
        keypoints = transfer(driving, self.initial, prepared.keypoints, self._scale, self.relative)
        transferred = time.perf_counter()
        picture = self.engine.render(prepared.features, prepared.keypoints, keypoints)
        return Step(picture, driving, detected - began, time.perf_counter() - transferred)
