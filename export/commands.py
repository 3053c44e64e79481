"""`livepuppet export`."""

from __future__ import annotations

import click

from livepuppet.export.bundle import export_bundle
from livepuppet.export.graphs import ExportError
from livepuppet.model.checkpoint import CheckpointError, load


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
        parity = export_bundle(model, output, weights=weights)
    except (CheckpointError, ExportError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Wrote {output} ({model.preset.name}).")
    click.echo(
        f"Against PyTorch, on {parity.cases} pictures and motions: keypoints within {parity.keypoints:.1e}, "
        f"pixels within {parity.pixels_max:.0f} of 255 levels, {parity.pixels_mean:.5f} on average."
    )
