"""A picture that takes over the movement of driving frames: an engine, its avatars, and what moves them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from livepuppet.realtime.avatars import Avatar
from livepuppet.realtime.engines import Engine, Features
from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.mover import Mover


@dataclass(frozen=True)
class Step:
    """What one driving frame gave.

    Attributes:
        picture: the moved avatar, uint8 RGB (S, S, 3).
        driving: the driver's keypoints, as detected.
        deformation: float32 (h, w, 2), where each place of the picture came from in the avatar's, or None where it was
            not asked for or nothing moved.
        detect_seconds, render_seconds: time in the model.
        moved: False where the avatar is at rest, for want of a neutral pose.
    """

    picture: np.ndarray
    driving: Keypoints
    deformation: np.ndarray | None
    detect_seconds: float
    render_seconds: float
    moved: bool


@dataclass(frozen=True)
class _Prepared:
    """An avatar, and all that depends on it alone."""

    avatar: Avatar
    features: Features
    keypoints: Keypoints


class Puppet:
    """Moves one of several avatars, each encoded once.

    Args:
        engine: runs the model.
        avatars: at least one, cut to the engine's size.
        mover: turns the driver's keypoints into the avatar's.
        progress: called with each avatar once it is encoded.
    """

    def __init__(
        self,
        engine: Engine,
        avatars: Sequence[Avatar],
        mover: Mover,
        progress: Callable[[Avatar], None] = lambda avatar: None,
    ):
        self.engine, self.mover = engine, mover
        self._prepared: list[_Prepared] = []
        for avatar in avatars:
            self._prepared.append(self._prepare(avatar))
            progress(avatar)
        self._current = 0
        self.select(0)

    def _prepare(self, avatar: Avatar) -> _Prepared:
        return _Prepared(avatar, self.engine.encode(avatar.picture), self.engine.detect(avatar.picture))

    def __len__(self) -> int:
        return len(self._prepared)

    @property
    def index(self) -> int:
        """Number of the present avatar, from 0."""
        return self._current

    @property
    def avatar(self) -> Avatar:
        return self._prepared[self._current].avatar

    @property
    def keypoints(self) -> Keypoints:
        """Of the present avatar."""
        return self._prepared[self._current].keypoints

    @property
    def names(self) -> list[str]:
        """Of all avatars, in order."""
        return [prepared.avatar.name for prepared in self._prepared]

    def select(self, index: int) -> None:
        """Switch to another avatar, counted round the end. D1 stays: it belongs to the driver."""
        self._current = index % len(self._prepared)
        self.mover.set_avatar(self.keypoints)

    def add(self, index: int, avatar: Avatar) -> None:
        """Encode one more avatar and put it at `index`. The selection stays on the same picture."""
        self._prepared.insert(index, self._prepare(avatar))
        self._current += index <= self._current

    def replace(self, index: int, avatar: Avatar) -> None:
        """Encode `avatar` and put it in the place of another."""
        self._prepared[index] = self._prepare(avatar)
        if index == self._current:
            self.select(index)

    def remove(self, index: int) -> None:
        """Forget an avatar. The last one, and the present one, stay."""
        if len(self._prepared) > 1 and index != self._current:
            del self._prepared[index]
            self._current -= index < self._current

    def warm_up(self) -> None:
        """Run the model once, so that the first frame is not the slow one. Leaves D1 alone."""
        prepared = self._prepared[self._current]
        self.engine.render(prepared.features, prepared.keypoints, self.engine.detect(prepared.avatar.picture))

    def move(self, frame: np.ndarray, at: float = 0.0, deformation: bool = False) -> Step:
        """Move the present avatar as in the driving `frame`.

        Args:
            frame: uint8 RGB (S, S, 3).
            at: when it was captured, in seconds of any clock; growing from call to call.
            deformation: wanted in the step, where the engine tells it.
        """
        began = time.perf_counter()
        driving = self.engine.detect(frame)
        detected = time.perf_counter()
        keypoints = self.mover.move(driving, at)
        prepared = self._prepared[self._current]
        if keypoints is None:
            return Step(prepared.avatar.picture, driving, None, detected - began, 0.0, False)
        transferred = time.perf_counter()
        grid = None
        if deformation and self.engine.deforms:
            picture, grid = self.engine.render_deformation(prepared.features, prepared.keypoints, keypoints)
        else:
            picture = self.engine.render(prepared.features, prepared.keypoints, keypoints)
        return Step(picture, driving, grid, detected - began, time.perf_counter() - transferred, True)
