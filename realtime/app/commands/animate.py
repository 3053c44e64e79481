"""`livepuppet animate`: one picture, one driving video, one finished video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from livepuppet.core.transfer import Variance
from livepuppet.realtime.animate import OFFLINE, Progress, Summary, animate, animate_many, are_many
from livepuppet.realtime.app.commands.options import model_options
from livepuppet.realtime.rig.rig import MODES

#: Looking at a frame is half of what has to be done for it.
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def with_progress(avatar: Path, driving: str, output: str, **options: Any) -> Summary:
    """`animate` with a progress bar. Raises UserError."""
    with _bar(Path(avatar).name) as bar:
        return animate(avatar, driving, output, progress=_shown_by(bar), **options)


def _bar(name: str) -> tqdm:
    return tqdm(desc=f"Animating {name}", unit="frame", disable=None, bar_format=BAR)


def _shown_by(bar: tqdm) -> Progress:
    def progress(done: float, total: int | None) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress


def _several(avatar: Path, driving: str, output: str, **options: Any) -> None:
    """`animate_many` with a progress bar for each, and a table at the end. Exit status 1 where some
    failed.
    """
    bars: list[tqdm] = []

    def begins(target: Path) -> Progress:
        if bars:
            bars[-1].close()
        bars.append(_bar(target.name))
        return _shown_by(bars[-1])

    try:
        made = animate_many(avatar, driving, output, begins=begins, **options)
    finally:
        if bars:
            bars[-1].close()
    width = max(len(one.output.name) for one in made)
    for one in made:
        said = (
            f"{one.summary.frames:6d} frames  {one.summary.seconds:6.1f} s  {' '.join(one.summary.sentences)}"
            if one.summary
            else f"not made: {one.problem}"
        )
        click.echo(f"{one.output.name:{width}}  {said.rstrip()}")
    failed = sum(one.summary is None for one in made)
    click.echo(f"Wrote {len(made) - failed} of {len(made)} videos to {output}.")
    if failed:
        raise SystemExit(1)


@click.command("animate", short_help="Animate a picture with a driving video, offline.")
@click.option(
    "--avatar",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PICTURE|FOLDER",
    help="The picture to move, of any format; or a folder of pictures, for a video of each.",
)
@click.option(
    "--driving",
    required=True,
    metavar="VIDEO|FOLDER|GIF|SOUND",
    help="The video of the face that moves it, also as a folder of pictures; or a folder of videos, for a video of each. A file of "
    "sound alone (WAV, MP3...) moves the mouth to its voice.",
)
@click.option(
    "--output",
    required=True,
    metavar="FILE.mp4|FOLDER",
    help="H.264 video with the driving video's sound, or PNGs.",
)
@model_options
@click.option(
    "--neutral",
    default="auto",
    metavar="auto|first|SECONDS|PICTURE",
    help="The driver's neutral pose, from which movement is measured. auto: the moment in which the face is most at rest; "
    "first: the first frame with a face. Or a moment (3.2, 0:03.2), or a picture of the driver. [default: auto]",
)
@click.option(
    "--face",
    default="largest",
    metavar="largest|left|right|N",
    help="Which of several faces drives; N counts from the left. [default: largest]",
)
@click.option(
    "--as-published",
    is_flag=True,
    help="As the papers have it: the first frame is the neutral pose, both squares are centred, nothing is smoothed, and "
    "the model draws all, at its own size.",
)
@click.option(
    "--side-by-side", is_flag=True, help="Show driving frame, avatar and result next to each other."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0.1, max=1000),
    help="Frames per second of a folder, or of a talk from sound alone. [default: 25, 30]",
)
@click.option(
    "--side",
    type=click.IntRange(64, 2048),
    help="Side of the finished square in pixels: above the model's it is the avatar's own pixels that are bent, so that it "
    "stays as sharp as its file. [default: the avatar's own square, up to 1080]",
)
@click.option(
    "--rig",
    type=click.Choice(MODES),
    default="on",
    show_default=True,
    help="Draw the whole head turned in depth (on), or eyes and mouth (face, eyes, mouth), at the picture's own sharpness "
    "instead of by the model.",
)
def animate_command(
    avatar: Path,
    driving: str,
    output: str,
    absolute: bool,
    no_adapt_scale: bool,
    variance: Variance | None,
    **options: Any,
) -> None:
    """Animate a picture with a driving video: one frame for each of its frames, at the same rate,
    with its sound.
    """
    settings = replace(
        OFFLINE, relative=not absolute, adapt_scale=not no_adapt_scale, variance=variance or OFFLINE.variance
    )
    if are_many(avatar, driving):
        _several(avatar, driving, output, settings=settings, **options)
        return
    result = with_progress(avatar, driving, output, settings=settings, **options)
    for sentence in result.sentences:
        click.echo(sentence)
    click.echo(
        f"Wrote {result.frames} frame{'s' * (result.frames != 1)} to {output} in {result.seconds:.1f} s "
        f"({result.frames / max(result.seconds, 1e-9):.1f} frames per second, {result.provider})."
    )
