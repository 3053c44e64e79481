"""`livepuppet export`. Puts parts together that know nothing of each other: graphs, the live path's
pictures and engines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.images import IMAGE_SUFFIXES, natural_key, read_image
from livepuppet.core.square import centred_square, cut
from livepuppet.core.video import open_video
from livepuppet.export.bundle import export_bundle
from livepuppet.export.graphs import ExportError
from livepuppet.export.verify import judge, verify
from livepuppet.model.checkpoint import CheckpointError, load
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import read_bundle

#: Frames of the bundled clip that go into the reference: looking ahead, and turned to either side.
FRAMES = (0, 60, 118)

#: Of a folder of clips: how many are used, evenly spread, and how many frames of each are looked
#: at.
MOST_CLIPS, LONGEST = 16, 300

VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".gif", ".webp"}


@click.command(short_help="Turn weights into an ONNX bundle and check its pixels.")
@click.argument("weights", type=click.Path(), metavar="WEIGHTS")
@click.option("--output", "-o", type=click.Path(), metavar="BUNDLE", help="Folder to create or to replace.")
@click.option(
    "--verify",
    "verifying",
    is_flag=True,
    help="Compare every engine and precision that is here with float32 PyTorch. Also of a bundle that exists: "
    "livepuppet export BUNDLE --verify.",
)
@click.option(
    "--clips",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Videos (and pictures, which become avatars) to draw besides the bundled ones, for --verify, --float16 and --int8. "
    "The middle square of each is used.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what --verify finds as JSON.")
@click.option("--float16", is_flag=True, help="Add graphs in float16, for graphics cards.")
@click.option("--int8", is_flag=True, help="Add graphs in int8, calibrated on the clips; takes minutes.")
def export(weights, output, verifying, clips, as_json, float16, int8):
    """Turn WEIGHTS (.safetensors) into a bundle that runs without PyTorch.

    The bundle's pixels are compared with PyTorch's; when they differ, nothing is written.
    """
    existing = verifying and output is None and Path(weights).is_dir()
    if existing and (float16 or int8):
        raise click.UsageError("--float16 and --int8 need the weights: give them, and --output BUNDLE.")
    if output is None and not existing:
        raise click.UsageError("Missing option '--output' / '-o': the folder to create or to replace.")
    try:
        if existing:
            size, sets = read_bundle(weights)["size"], []
        else:
            model = load(weights)
            size = model.preset.size
        sets = [bundled_pictures(size), *(pictures_of(clips, size) if clips else ())]
        if not existing:
            assert output is not None
            _write(
                model,
                output,
                weights,
                sets,
                [n for n, on in (("float16", float16), ("int8", int8)) if on],
                as_json,
            )
        if not verifying:
            return
        report = verify(
            Path(weights if existing or output is None else output),
            None if existing else Path(weights),
            sets,
            _notify,
        )
    except (CheckpointError, ExportError, UserError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.to_markdown())
    if report.refused:
        sys.exit(1)


def _write(model, output: str, weights: str, sets: list, variants: list[str], quiet: bool) -> None:
    parity = export_bundle(
        model,
        output,
        weights=weights,
        pictures=sets[0],
        variants=variants,
        judge=judge,
        clips=sets[1:],
        notify=_notify,
    )
    click.echo(f"Wrote {output} ({model.preset.name}).", err=quiet)
    click.echo(
        f"Against PyTorch, on {parity.cases} pictures and motions: keypoints within {parity.keypoints:.1e}, "
        f"pixels within {parity.pixels_max:.0f} of 255 levels, {parity.pixels_mean:.5f} on average.",
        err=quiet,
    )


def _notify(sentence: str) -> None:
    """Progress goes to standard error; what is asked for goes to standard output."""
    click.echo(f"{sentence} ...", err=True)


def bundled_pictures(size: int) -> list[np.ndarray]:
    """The puppet that comes with the package, then `FRAMES` of the clip of another: RGB uint8
    (size, size, 3).
    """
    frames = _frames(bundled.DRIVING, max(FRAMES) + 1)
    return _squares([read_image(bundled.AVATAR), *(frames[index] for index in FRAMES)], size)


def pictures_of(folder: Path, size: int) -> list[list[np.ndarray]]:
    """An avatar and three frames for each clip in a folder: RGB uint8 (size, size, 3).

    Avatars are the folder's pictures in turn; where it has none, the first frame of the next clip.

    Raises:
        UserError: there is no such folder, it has no clips, or one cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: check --clips.")
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=natural_key)
    clips = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if not clips:
        raise UserError(f"{folder} has no videos in it; give --clips a folder of recordings.")
    clips = [
        clips[index] for index in np.unique(np.linspace(0, len(clips) - 1, MOST_CLIPS).round().astype(int))
    ]
    pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES - VIDEO_SUFFIXES]
    sets = []
    for path in clips:
        frames = _frames(path, LONGEST)
        if len(frames) < 3:
            raise UserError(
                f"{path} has fewer than three frames: take it out of the folder that --clips names."
            )
        sets.append([frames[0], frames[len(frames) // 3], frames[2 * len(frames) // 3]])
    avatars = (
        [read_image(pictures[index % len(pictures)]) for index in range(len(clips))]
        if pictures
        else [sets[(index + 1) % len(sets)][0] for index in range(len(sets))]
    )
    return [_squares([avatar, *frames], size) for avatar, frames in zip(avatars, sets, strict=True)]


def _frames(path: Path, most: int) -> list[np.ndarray]:
    clip = open_video(path)
    frames = [frame.image for _, frame in zip(range(most), clip, strict=False)]
    clip.close()
    return frames


def _squares(pictures: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """The middle of each, at the model's size."""
    return [cut(picture, centred_square(*picture.shape[:2]), size) for picture in pictures]
