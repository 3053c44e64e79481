"""`livepuppet animate`: one picture, one driving video, one finished video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import click
import numpy as np
from tqdm import tqdm

from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.commands.options import model_options
from livepuppet.realtime.engines import Precision, load_engine
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.inputs.clips import Clip, Frame, PictureSequence, is_url, open_clip
from livepuppet.realtime.motion.mover import NO_VARIANCE, MotionSettings, Mover
from livepuppet.realtime.motion.transfer import Variance
from livepuppet.realtime.outputs.base import Output, PictureFolder, check_file_output, is_video_name
from livepuppet.realtime.outputs.sound import Soundtrack
from livepuppet.realtime.outputs.video import VideoFile
from livepuppet.realtime.puppet import Puppet, Step
from livepuppet.realtime.view.stage import Stage


@dataclass(frozen=True)
class Result:
    """What `animate_clip` made.

    Attributes:
        frames: pictures written.
        seconds: time that reading, animating and writing took, the model's loading not counted.
        engine, provider: what ran the model.
    """

    frames: int
    seconds: float
    engine: str
    provider: str


def animate_clip(
    avatar: Path,
    driving: str,
    output: str,
    model: Path | None = None,
    engine: str | None = None,
    absolute: bool = False,
    no_adapt_scale: bool = False,
    side_by_side: bool = False,
    crop: str = "auto",
    avatar_crop: str = "center",
    rate: Fraction | None = None,
    side: int | None = None,
    variance: Variance | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
) -> Result:
    """Animate the picture `avatar` with the clip `driving`, into the file or folder `output`.

    One picture per driving frame, at the same times, with the same sound. D1 is the first frame. Only the few frames
    in which the face is looked for are held in memory.

    Raises:
        UserError: for bad input. What had been animated until then is kept, and plays.
    """
    check_file_output(output)
    if not is_url(driving) and Path(output).exists() and Path(output).resolve() == Path(driving).resolve():
        raise UserError(f"The output {output} is the driving video itself: choose another --output.")
    with ExitStack() as stack:
        clip = open_clip(driving, rate)
        stack.callback(clip.close)
        machine = load_engine(engine, model, threads, device, precision)
        framing = Framing(crop, engine=machine)
        # Offline, every movement is wanted as it is: no filter, no countdown, D1 is the first frame.
        plain = MotionSettings(
            smoothing=0,
            countdown=0,
            lost_to_neutral=False,
            relative=not absolute,
            adapt_scale=not no_adapt_scale,
            variance=variance or MotionSettings.variance,
        )
        if variance and machine.matrices != "covariance":
            click.echo(NO_VARIANCE.format(machine.model_name), err=True)
        puppet = Puppet(
            machine,
            [load_avatar(avatar, machine.size, avatar_crop)],
            Mover(machine.keypoint_names, plain, matrices=machine.matrices),
        )
        began, count, sink = time.perf_counter(), 0, None
        bar = stack.enter_context(
            tqdm(desc=f"Animating {Path(avatar).name}", total=clip.length, unit="frame", disable=None)
        )
        show = _Show(puppet, side or machine.size)
        for frame in _after_framing(clip, framing):
            square = framing.cut(frame.picture, machine.size)
            picture = show.moved(puppet.move(square, float(frame.time), show.sharp))
            if side_by_side:
                picture = np.hstack([framing.cut(frame.picture, show.side), show.avatar, picture])
            if sink is None:
                sink = _open_output(output, picture.shape, clip)
                # What was written is finished whatever comes; an error on the way has the first word.
                stack.push(_finish(sink))
            sink.write(picture, frame.time, frame.duration)
            count += 1
            bar.update()
        if sink is not None:
            sink.close()
        seconds = time.perf_counter() - began
    if clip.broken:
        kept = f"what was animated until there is in {output}" if count else "nothing could be animated"
        raise UserError(f"{clip.broken}; {kept}; repair or replace the driving video for the rest.")
    if not count:
        raise UserError(f"{driving} has no frames: give a video, a GIF or a folder of pictures.")
    return Result(count, seconds, machine.name, machine.provider)


class _Show:
    """Pictures of the wanted size: the model's own, or the avatar's own pixels bent as the model says.

    Attributes:
        sharp: whether the model's deformation is wanted.
        avatar: the avatar at rest, uint8 RGB (side, side, 3).
    """

    def __init__(self, puppet: Puppet, side: int):
        self.side, self.sharp = side, side != puppet.engine.size
        self.avatar = puppet.avatar.picture
        if self.sharp:
            self._stage = Stage(side, side, paste=False)
            self._stage.set_avatar(puppet.avatar)
            self.avatar = np.empty(self._stage.shape, np.uint8)
            self._stage.at_rest(self.avatar)

    def moved(self, step: Step) -> np.ndarray:
        """uint8 RGB (side, side, 3)."""
        if not self.sharp:
            return step.picture
        picture = np.empty(self._stage.shape, np.uint8)
        self._stage.compose(step.picture, step.deformation, picture)
        return picture


def _after_framing(clip: Clip | PictureSequence, framing: Framing) -> Iterator[Frame]:
    """All frames of `clip`, after its first ones have been looked at until the square is settled."""
    frames, first = iter(clip), []
    for frame in frames:
        first.append(frame)
        if framing.look(frame.picture):
            break
    framing.settle(first[-1].picture if first else None)
    return chain(first, frames)


def _open_output(output: str, shape: tuple[int, int, int], clip: Clip | PictureSequence) -> Output:
    if not is_video_name(output):
        return PictureFolder(Path(output))
    sound = None
    if clip.has_sound:
        # A soundtrack that cannot be read must not cost the picture.
        with suppress(av.FFmpegError, OSError, IndexError):
            sound = Soundtrack(clip.name, clip.start)
    return VideoFile(Path(output), shape[1], shape[0], clip.rate, clip.time_base, sound=sound)


def _finish(sink: Output):
    """An exit callback that closes `sink` and, when an error is on its way already, keeps its own to itself."""

    def leave(kind, error, traceback):
        if kind is None:
            sink.close()
        else:
            with suppress(UserError):
                sink.close()
        return False

    return leave


@click.command(short_help="Animate a picture with a driving video, offline.")
@click.option(
    "--avatar", required=True, type=click.Path(path_type=Path), help="The picture to move, of any format."
)
@click.option(
    "--driving", required=True, metavar="VIDEO|FOLDER|GIF", help="The video of the face that moves it."
)
@click.option(
    "--output",
    required=True,
    metavar="FILE.mp4|FOLDER",
    help="H.264 video with the driving video's sound, or PNGs.",
)
@model_options
@click.option(
    "--side-by-side", is_flag=True, help="Show driving frame, avatar and result next to each other."
)
@click.option(
    "--rate", type=click.FloatRange(min=0.1, max=1000), help="Frames per second of a folder. [default: 25]"
)
@click.option(
    "--side",
    type=click.IntRange(64, 2048),
    help="Side of the finished square in pixels: above the model's it is the avatar's own pixels that are bent, so that it "
    "stays as sharp as its file. [default: the model's]",
)
def animate(output: str, rate: float | None, **options) -> None:
    """Animate a picture with a driving video: one frame for each of its frames, at the same rate, with its sound."""
    result = animate_clip(
        output=output, rate=Fraction(rate).limit_denominator(1001) if rate else None, **options
    )
    click.echo(
        f"Wrote {result.frames} frames to {output} in {result.seconds:.1f} s "
        f"({result.frames / max(result.seconds, 1e-9):.1f} frames per second, {result.provider})."
    )
