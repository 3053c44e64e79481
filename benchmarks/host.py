"""What one live frame costs beside the network and the camera: every step on the real objects, the
model's results canned.

The model runs once over some seconds of the bundled clip, before anything is measured; afterwards
an engine that only hands those results out stands in its place. So what is left is the host's own
work, and nothing of the model's threads is in it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.engine import STAGES, Precision
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.core.square import Square, cut
from livepuppet.core.video import Frame, open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.animator import Animator
from livepuppet.realtime.app.loop import LiveLoop
from livepuppet.realtime.app.session import parse_size
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.compositing.compositor import Compositor
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.motion.retargeter import Retargeter
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.fanout import Fanout
from livepuppet.realtime.outputs.pool import FramePool
from livepuppet.realtime.outputs.yuv import Yuv420

#: So many frames of the bundled clip are gone through, over and over.
CLIP_FRAMES = 50

#: Side of the face's square in the camera's picture, in heights of that: a face at arm's length.
FACE_SIDE = 0.78


@dataclass(frozen=True)
class Recording:
    """What the model made of the clip's frames.

    Attributes:
        avatar, keypoints: the still picture and its keypoints.
        frames: the camera's pictures, uint8 RGB (H, W, 3).
        square: where the face is in them.
        driving, moved: keypoints per frame, as detected and as rendered.
        pictures, grids: per frame, as of `Engine.render_deformation`; grids are None where the
            engine does not tell.
    """

    avatar: Avatar
    keypoints: Keypoints
    frames: list[np.ndarray]
    square: Square
    driving: list[Keypoints]
    moved: list[Keypoints]
    pictures: list[np.ndarray]
    grids: list[np.ndarray | None]  # None where the engine does not say


class Replay:
    """An engine that hands out what another one made, frame after frame, at no cost. See
    `engines.Engine`.
    """

    name, device, provider = "replay", "cpu", "nothing"

    def __init__(self, engine: Engine, recording: Recording):
        self.precision: Precision = engine.precision
        self.providers: dict[str, str] = dict.fromkeys(STAGES, self.provider)
        self.size, self.num_keypoints, self.model_name = engine.size, engine.num_keypoints, engine.model_name
        self.keypoint_names, self.deforms = engine.keypoint_names, engine.deforms
        self.matrices: Matrices = engine.matrices
        self.reason = ""
        self._recording, self._index = recording, -1

    def detect(self, frame: np.ndarray) -> Keypoints:
        if frame is self._recording.avatar.image:
            return self._recording.keypoints
        self._index = (self._index + 1) % len(self._recording.driving)
        return self._recording.driving[self._index]

    def encode(self, avatar: np.ndarray) -> None:
        return None

    def render(self, features: None, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        return self._recording.pictures[self._index]

    def render_deformation(
        self, features: None, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        grid = self._recording.grids[self._index]
        assert grid is not None  # `deforms` is the recorded engine's
        return self._recording.pictures[self._index], grid


def record(engine: Engine, width: int, height: int, count: int = CLIP_FRAMES) -> Recording:
    """Run `engine` over the bundled clip, as a camera of that size would show it."""
    avatar = load_avatar(bundled.AVATAR, engine.size)
    keypoints, features = engine.detect(avatar.image), engine.encode(avatar.image)
    side = round(FACE_SIDE * height)
    square = Square((width - side) // 2, (height - side) // 2, side)
    frames = [
        _as_webcam(frame.image, width, height, side)
        for frame in itertools.islice(open_video(bundled.DRIVING), count)
    ]
    mover = Retargeter(engine.keypoint_names, MotionSettings(countdown=0.0), matrices=engine.matrices)
    mover.set_avatar(keypoints)
    driving, moved, pictures, grids = [], [], [], []
    for index, frame in enumerate(frames):
        driving.append(engine.detect(cut(frame, square, engine.size)))
        moved.append(mover.move(driving[-1], index / 25))
        if engine.deforms:
            picture, grid = engine.render_deformation(features, keypoints, moved[-1])
        else:
            picture, grid = engine.render(features, keypoints, moved[-1]), None
        pictures.append(picture)
        grids.append(grid)
    return Recording(avatar, keypoints, frames, square, driving, moved, pictures, grids)


def _as_webcam(picture: np.ndarray, width: int, height: int, side: int) -> np.ndarray:
    """The clip's square in the middle of a camera's picture."""
    frame = cv2.resize(cv2.blur(picture, (31, 31)), (width, height), interpolation=cv2.INTER_LINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    frame[top : top + side, left : left + side] = cv2.resize(
        picture, (side, side), interpolation=cv2.INTER_CUBIC
    )
    return frame


def pasted(avatar: Avatar, width: int, height: int) -> Avatar:
    """The same square, in the middle of a larger picture of the canvas's shape."""
    side = round(FACE_SIDE * height)
    original = _as_webcam(avatar.original, width, height, side)
    square = Square((width - side) // 2, (height - side) // 2, side)
    return replace(
        avatar,
        image=cut(original, square, avatar.image.shape[0]),
        original=original,
        square=square,
        matte=None,
    )


class _Frames:
    """A source that always has the next frame ready, and notes when the loop comes for it."""

    source, trouble, ended, measured_rate = None, None, False, None

    def __init__(self, recording: Recording):
        self._recording, self._count = recording, 0
        self.asked: list[float] = []
        self.given: list[float] = []

    def take(self, timeout: float) -> Frame:
        self.asked.append(time.perf_counter())
        picture = self._recording.frames[self._count % len(self._recording.frames)]
        self._count += 1
        now = time.perf_counter()
        self.given.append(now)
        return Frame(picture, Fraction(self._count, 25), now)

    def counts(self) -> tuple[int, int]:
        return self._count, 0


class _Nowhere(Output):
    """An output that takes every picture and does nothing with it."""

    name = "nowhere"

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        pass

    def close(self) -> None:
        pass


def loop_times(engine: Engine, recording: Recording, size: tuple[int, int], repeats: int, sharp: bool = True):
    """Seconds of each turn of the real live loop: from a frame that is there until it asks for the
    next one, (N,).
    """
    square = recording.square
    animator = Animator(
        recording.avatar,
        engine=Replay(engine, recording),
        settings=MotionSettings(countdown=0.0),
        crop=Framing(f"{square.x},{square.y},{square.side}"),
        size=Compositor(*size, sharp=sharp),
    )
    source, fanout = _Frames(recording), Fanout([_Nowhere()], lambda sentence: None)
    try:
        live = LiveLoop(
            animator,
            source,  # pyright: ignore[reportArgumentType] - what the loop asks of a Capture it has
            fanout,
            frames=repeats + 10,
            notify=lambda sentence: None,
        )
        live.run()
    finally:
        fanout.close()
    return (np.array(source.asked[1:]) - np.array(source.given[:-1]))[10:]


@dataclass(frozen=True)
class Step:
    """One line of the table.

    Attributes:
        name: what is done.
        milliseconds: of each repeat, (N,).
        counts: whether it is in every frame of a live session with default settings.
    """

    name: str
    milliseconds: np.ndarray
    counts: bool

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))

    @property
    def p95(self) -> float:
        return float(np.percentile(self.milliseconds, 95))


def host_steps(
    engine: Engine, size: str = "1280x720", repeats: int = 300
) -> tuple[list[Step], dict[str, float]]:
    """Every step of the host, alone, and the turns of the real loop.

    Returns:
        The steps; and by `default` and `no sharp` the median milliseconds of a whole frame: a turn
        of the loop and the conversion for the virtual camera.
    """
    width, height = parse_size(size)
    recording = record(engine, width, height)
    # In the order of the clip again and again; one after another, so that each finds the caches as
    # the others leave them.
    fanout = Fanout([_Nowhere()], lambda sentence: None)
    jobs = _jobs(engine, recording, width, height, fanout)
    times: dict[str, list[float]] = {name: [] for name, _, _ in jobs}
    try:
        for index in range(repeats + 5):
            for name, _, job in jobs:
                began = time.perf_counter()
                job(index)
                if index >= 5:
                    times[name].append(time.perf_counter() - began)
    finally:
        fanout.close()
    steps = [Step(name, 1000 * np.array(times[name]), counts) for name, counts, _ in jobs]
    whole = {}
    conversion = next(step.median for step in steps if step.name.endswith("I420"))
    for name, sharp in (("default", True), ("no sharp", False)):
        turns = Step(
            f"a whole turn of the loop ({name})",
            1000 * loop_times(engine, recording, (width, height), repeats, sharp),
            False,
        )
        steps.append(turns)
        whole[name] = turns.median + conversion
    return steps, whole


def _jobs(
    engine: Engine, recording: Recording, width: int, height: int, fanout: Fanout
) -> list[tuple[str, bool, Callable[[int], object]]]:
    """(name, in every default frame, what to do for frame number n) of every step."""
    count, avatar = len(recording.frames), recording.avatar
    framing = Framing(f"{recording.square.x},{recording.square.y},{recording.square.side}")
    framing.look(recording.frames[0])
    small = framing.cut(recording.frames[0], engine.size)
    mover = Retargeter(engine.keypoint_names, MotionSettings(countdown=0.0), matrices=engine.matrices)
    mover.set_avatar(recording.keypoints)

    def compose(stage: Compositor, avatar: Avatar) -> Callable[[int], None]:
        stage.prepare(avatar, wait=True)
        stage.set_avatar(avatar)
        pool = FramePool(stage.shape)

        def step(index: int) -> None:
            lease = pool.take()
            grid = recording.grids[index % count] if stage.needs_deformation else None
            stage.compose(recording.pictures[index % count], grid, lease.picture)
            lease.release()

        return step

    finished = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    planar, interleaved = Yuv420(width, height), Yuv420(width, height, "nv12")
    pool = FramePool((height, width, 3))

    def hand_over(index: int) -> None:
        lease = pool.take()
        fanout.submit(lease, Fraction(index, 25), None)
        lease.release()

    large = pasted(avatar, width, height)
    return [
        (
            "cut and shrink the face",
            True,
            lambda index: framing.cut(recording.frames[index % count], engine.size),
        ),
        ("mirror", False, lambda index: cv2.flip(small, 1)),
        (
            "keypoints: filter, transfer, lids, limits",
            True,
            lambda index: mover.move(recording.driving[index % count], index / 25),
        ),
        ("compose", True, compose(Compositor(width, height), avatar)),
        ("compose, --no-sharp", False, compose(Compositor(width, height, sharp=False), avatar)),
        ("compose into a larger picture", False, compose(Compositor(width, height), large)),
        (
            "compose into a larger picture, --no-sharp",
            False,
            compose(Compositor(width, height, sharp=False), large),
        ),
        ("compose, --background blur", False, compose(Compositor(width, height, background="blur"), avatar)),
        (
            "compose, --background alpha",
            False,
            compose(Compositor(width, height, background="alpha"), avatar),
        ),
        ("hand over to an output", True, hand_over),
        ("convert to I420", True, lambda index: planar.convert(finished)),
        ("convert to NV12", False, lambda index: interleaved.convert(finished)),
    ]


def table(steps: list[Step], whole: dict[str, float], size: str) -> list[str]:
    """The Markdown table, and what it says."""
    lines = ["| step | median ms | p95 ms | in a default frame |", "|---|---|---|---|"]
    lines += [
        f"| {step.name} | {step.median:.2f} | {step.p95:.2f} | {'yes' if step.counts else ''} |"
        for step in steps
    ]
    total = sum(step.median for step in steps if step.counts)
    lines += [
        "",
        f"One {size} frame with default settings: {total:.2f} ms, the steps added up; {whole['default']:.2f} ms as the "
        f"loop really turns, with its bookkeeping, and the conversion ({whole['no sharp']:.2f} ms with --no-sharp).",
        "In it: everything between the camera's decoded picture and the planes that a virtual camera takes. Not in it: the "
        "network, the camera's JPEG, the driver's own copy, recordings and windows.",
    ]
    return lines


def as_json(steps: list[Step], whole: dict[str, float]) -> dict:
    """The same as plain values."""
    return {
        "steps": [
            {"name": step.name, "median_ms": step.median, "p95_ms": step.p95, "default": step.counts}
            for step in steps
        ],
        "frame_ms": whole,
    }
