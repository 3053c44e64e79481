"""`livepuppet export`. Puts parts together that know nothing of each other: graphs, the live path's pictures and engines."""

from __future__ import annotations

import click
import numpy as np

from livepuppet.export.bundle import export_bundle
from livepuppet.export.graphs import ExportError
from livepuppet.model.checkpoint import CheckpointError, load
from livepuppet.realtime import bundled
from livepuppet.realtime.framing.square import centred_square, cut
from livepuppet.realtime.inputs.clips import open_clip
from livepuppet.realtime.pictures import read_picture

#: Frames of the bundled clip that go into the reference: looking ahead, and turned to either side.
FRAMES = (0, 60, 118)


@click.command(short_help="Turn weights into an ONNX bundle and check its pixels.")
@click.argument("weights", type=click.Path())
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(),
    metavar="BUNDLE",
    help="Folder to create or to replace.",
)
def export(weights, output):
    """Turn WEIGHTS (.safetensors) into a bundle that runs without PyTorch.

    The bundle's pixels are compared with PyTorch's; when they differ, nothing is written.
    """
    try:
        model = load(weights)
        parity = export_bundle(model, output, weights=weights, pictures=bundled_pictures(model.preset.size))
    except (CheckpointError, ExportError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Wrote {output} ({model.preset.name}).")
    click.echo(
        f"Against PyTorch, on {parity.cases} pictures and motions: keypoints within {parity.keypoints:.1e}, "
        f"pixels within {parity.pixels_max:.0f} of 255 levels, {parity.pixels_mean:.5f} on average."
    )


def bundled_pictures(size: int) -> list[np.ndarray]:
    """The puppet that comes with the package, then `FRAMES` of the clip of another: RGB uint8 (size, size, 3)."""
    clip = open_clip(bundled.DRIVING)
    frames = [
        frame.picture for index, frame in zip(range(max(FRAMES) + 1), clip, strict=False) if index in FRAMES
    ]
    clip.close()
    pictures = [read_picture(bundled.AVATAR), *frames]
    return [cut(picture, centred_square(*picture.shape[:2]), size) for picture in pictures]
