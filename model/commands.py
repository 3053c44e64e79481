"""`livepuppet import`."""

from __future__ import annotations

from pathlib import Path

import click

from livepuppet.core.files import sha256
from livepuppet.core.names import keep_apart
from livepuppet.model.checkpoint import CheckpointError, read_official, save


@click.command("import", short_help="Read a published FOMM checkpoint, as data only.")
@click.argument("checkpoint", type=click.Path())
@click.option(
    "--config",
    type=click.Path(),
    metavar="YAML",
    help="The official configuration that belongs to it; rarely needed.",
)
@click.option(
    "--output", "-o", required=True, type=click.Path(), metavar="FILE.safetensors", help="File to write."
)
def import_checkpoint(checkpoint, config, output):
    """Turn a published first-order-model CHECKPOINT (.pth.tar) into weights that livepuppet runs.

    Nothing in the file is executed: one that holds anything but tensors and plain containers is
    refused.
    """
    if Path(output).suffix != ".safetensors":
        raise click.ClickException(
            f"{output} has to end in .safetensors, which is the format of weights here."
        )
    keep_apart(output, {"the checkpoint": checkpoint, "the configuration": config})
    try:
        model = read_official(checkpoint, config)
        save(model, output, imported_from=Path(checkpoint).name, imported_sha256=sha256(checkpoint))
    except CheckpointError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{output} cannot be written ({error.strerror}); choose another --output."
        ) from error
    preset = model.preset
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    click.echo(
        f"Wrote {output}: {preset.num_keypoints} keypoints, {preset.size} x {preset.size} pixels, {count:.1f} M weights."
    )
    click.echo(
        f"Use it with --engine torch --model {output}, or turn it into a bundle with 'livepuppet export'."
    )
