"""Animate one picture with one driving video, into a finished video."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np
from av.error import FFmpegError

from livepuppet.core.errors import UserError
from livepuppet.core.video import Frame, Video, is_url, open_video
from livepuppet.realtime.animator import Animator, AvatarLike
from livepuppet.realtime.engines import Engine, Precision, load_engine
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.motion.retargeter import NO_VARIANCE
from livepuppet.realtime.motion.settings import MotionSettings
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.folder import ImageFolder
from livepuppet.realtime.outputs.opening import check_file_output, is_video_name
from livepuppet.realtime.outputs.sound import Soundtrack
from livepuppet.realtime.outputs.video import VideoFile

logger = logging.getLogger(__name__)

#: Offline, every movement is wanted as it is: no filter, no countdown, no rest when the face is
#: lost.
OFFLINE = MotionSettings(smoothing=0, countdown=0, lost_to_neutral=False)


@dataclass(frozen=True)
class Summary:
    """What `animate` made.

    Attributes:
        frames: pictures written.
        seconds: that reading, animating and writing took, the model's loading not counted.
        engine, provider: what ran the model.
    """

    frames: int
    seconds: float
    engine: str
    provider: str


def animate(
    avatar: AvatarLike,
    driving: str | os.PathLike,
    output: str | os.PathLike,
    model: str | os.PathLike | None = None,
    *,
    engine: str | Engine | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    settings: MotionSettings = OFFLINE,
    crop: str = "auto",
    avatar_crop: str = "auto",
    side: int | None = None,
    side_by_side: bool = False,
    rate: float | Fraction | None = None,
    rig: str | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Summary:
    """Animate a picture with a driving video: one frame for each of its frames, at the same times,
    with its sound.

    D1 is the first frame. Memory does not grow with the video's length.

    Args:
        avatar, model, engine, device, precision, threads, crop, avatar_crop, rig: see `Animator`.
        driving: a video, a GIF, a folder of pictures or an address.
        output: `FILE.mp4` (H.264), or a folder for PNGs.
        settings: how the driver's motion is shown.
        side: of the finished square, in pixels; the model's by default. Above that the avatar's own
            pixels are moved.
        side_by_side: show driving frame, avatar and result next to each other.
        rate: frames per second of a folder of pictures; 25 by default.
        progress: called with the frames written so far and their number, as far as that is known.

    Raises:
        LivePuppetError: for bad input. What had been animated until then is kept, and plays.
    """
    driving, output = os.fspath(driving), os.fspath(output)
    check_file_output(output)
    if not is_url(driving) and Path(output).exists() and Path(output).resolve() == Path(driving).resolve():
        raise UserError(f"The output {output} is the driving video itself: choose another --output.")
    with ExitStack() as stack:
        clip = stack.enter_context(open_video(driving, rate))
        if engine is None or isinstance(engine, str):
            engine = load_engine(engine, model, threads, device, precision)
        if settings.variance != MotionSettings.variance and engine.matrices != "covariance":
            logger.warning(NO_VARIANCE.format(engine.model_name))
        animator = Animator(
            avatar,
            engine=engine,
            settings=settings,
            crop=Framing(crop, engine=engine),
            avatar_crop=avatar_crop,
            size=None if side in (None, engine.size) else side,
            rig=rig,
        )
        began, count, sink = time.perf_counter(), 0, None
        at_rest = animator.draw_at_rest()
        for frame in _after_framing(clip, animator.framing):
            picture = animator.step(frame).image
            if side_by_side:
                picture = np.hstack([animator.cut(frame.image, len(picture)), at_rest, picture])
            if sink is None:
                sink = _open_output(output, picture.shape, clip)
                # What was written is finished whatever comes; an error on the way has the first
                # word.
                stack.push(_finish(sink))
            sink.write(picture, frame.time, frame.duration)
            count += 1
            progress(count, clip.length)
        if sink is not None:
            sink.close()
        seconds = time.perf_counter() - began
    if clip.broken:
        kept = f"what was animated until there is in {output}" if count else "nothing could be animated"
        raise UserError(f"{clip.broken}; {kept}; repair or replace the driving video for the rest.")
    if not count:
        raise UserError(f"{driving} has no frames: give a video, a GIF or a folder of pictures.")
    return Summary(count, seconds, engine.name, engine.provider)


def _after_framing(clip: Video, framing: Framing) -> Iterator[Frame]:
    """All frames of `clip`, after its first ones have been looked at until the square is settled."""
    frames, first = iter(clip), []
    for frame in frames:
        first.append(frame)
        if framing.look(frame.image):
            break
    framing.settle(first[-1].image if first else None)
    return chain(first, frames)


def _open_output(output: str, shape: tuple[int, ...], clip: Video) -> Output:
    if not is_video_name(output):
        return ImageFolder(Path(output))
    sound = None
    if clip.has_sound:
        # A soundtrack that cannot be read must not cost the picture.
        with suppress(FFmpegError, OSError, IndexError):
            sound = Soundtrack(clip.name, clip.start or Fraction(0))
    return VideoFile(Path(output), shape[1], shape[0], clip.rate, clip.time_base, sound=sound)


def _finish(sink: Output):
    """An exit callback that closes `sink` and, when an error is on its way already, keeps its own
    to itself.
    """

    def leave(kind, error, traceback):
        if kind is None:
            sink.close()
        else:
            with suppress(UserError):
                sink.close()
        return False

    return leave
