"""`livepuppet puppets`."""

from __future__ import annotations

from pathlib import Path

import click

from livepuppet.train.commands.failing import as_click_error
from livepuppet.train.puppets.identities import SETTINGS
from livepuppet.train.puppets.pool import FIRST_SEED, draw_shards


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
def pool(folder, shards, first):
    """Draw a pool for training, or add to it; several of these may run at once with different --first."""
    try:
        draw_shards(folder, range(first, first + shards))
    except OSError as error:
        raise as_click_error(error) from error
