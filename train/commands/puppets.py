"""`livepuppet puppets`."""

from __future__ import annotations

from pathlib import Path

import click

from livepuppet.train.commands.failing import as_click_error
from livepuppet.train.puppets.identities import SETTINGS
from livepuppet.train.puppets.pool import FIRST_SEED, SETTING, draw_shards


def _setting(default: str):
    return click.option(
        "--setting",
        type=click.Choice(SETTINGS),
        default=default,
        show_default=True,
        help="Which puppets: those of old, those to train on, or those for evaluation only.",
    )


@click.group()
def puppets():
    """Draw procedural puppets: sheets, portraits, driving clips, pools to train on."""


@puppets.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True)
@_setting("plain")
def sheet(file, seed, setting):
    """A contact sheet (PNG): identities in columns, neutral and in three poses."""
    from livepuppet.train.puppets.clips import contact_sheet
    from livepuppet.train.sheets import write

    try:
        write(file, contact_sheet(seed, setting=setting))
    except OSError as error:
        raise as_click_error(error) from error


@puppets.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Of the identity.")
@click.option(
    "--row", default=0, show_default=True, help="Which of the identities that the seed draws (0-39)."
)
@click.option("--size", default=256, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Length, for a clip.")
@click.option("--performance-seed", default=0, show_default=True, help="Of the motion, for a clip.")
@_setting("plain")
def draw(file, seed, row, size, seconds, performance_seed, setting):
    """One puppet: a portrait (FILE.png) or a driving clip (FILE.mp4)."""
    from livepuppet.train.puppets.clips import neutral, performance, supersampled, write_clip
    from livepuppet.train.puppets.identities import draw_identities, generator
    from livepuppet.train.sheets import write

    identity = draw_identities(40, generator(seed), setting)[row : row + 1]
    if not len(identity):
        raise click.UsageError("--row goes from 0 to 39.")
    try:
        if file.suffix.lower() == ".mp4":
            write_clip(file, performance(identity, round(25 * seconds), 25, size, performance_seed), 25)
        else:
            write(file, supersampled(identity, neutral(), size))
    except OSError as error:
        raise as_click_error(error) from error


@puppets.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--shards", default=16, show_default=True, help="Shards of 64 pictures.")
@click.option("--first", default=FIRST_SEED, show_default=True, help="First seed.")
@click.option(
    "--size", default=256, show_default=True, type=click.IntRange(min=32), help="Side of the pictures."
)
@click.option(
    "--coarse",
    default=None,
    type=click.IntRange(min=8),
    help="Side of the true flow.  [default: a quarter of the size]",
)
@_setting(SETTING)
def pool(folder, shards, first, size, coarse, setting):
    """Draw a pool for training, or add to it; several of these may run at once with different --first."""
    try:
        draw_shards(folder, range(first, first + shards), size, coarse, setting)
    except (OSError, ValueError) as error:
        raise as_click_error(error) from error


@puppets.command()
@click.option(
    "--size", default=256, show_default=True, type=click.IntRange(min=16), help="Side of the pictures."
)
@click.option(
    "--batch", default=16, show_default=True, type=click.IntRange(min=1), help="Pictures drawn at once."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option("--seconds", default=3.0, show_default=True, help="To measure for, per setting.")
def speed(size, batch, device, seconds):
    """Pictures per second, per setting."""
    import torch

    from livepuppet.train.puppets.speed import pictures_per_second

    try:
        where = torch.device(device)
        torch.zeros(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise click.UsageError(f"There is no device {device!r} here; use --device cpu.") from error
    threads = f", {torch.get_num_threads()} threads" if where.type == "cpu" else ""
    click.echo(f"{size} x {size}, {batch} at once, {device}{threads}")
    try:
        for setting, pictures, identities in pictures_per_second(size, batch, where, seconds):
            click.echo(
                f"{setting:8} {pictures:8.1f} pictures/s   {identities:8.1f} identities/s drawn on the CPU"
            )
    except torch.OutOfMemoryError as error:
        raise click.UsageError(
            f"{batch} pictures of {size} do not fit into memory; use a smaller --batch."
        ) from error
