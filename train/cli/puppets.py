"""`livepuppet puppets`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from livepuppet.train.cli.errors import click_error
from livepuppet.train.puppets.identities import PEOPLE, SETTINGS
from livepuppet.train.puppets.pool import FIRST_SEED, SETTING, draw_shards


def _setting(default: str):
    return click.option(
        "--setting",
        type=click.Choice(SETTINGS + PEOPLE),
        default=default,
        show_default=True,
        help="Which puppets: those of old, those to train on, those for evaluation only; or people of meshes, photo-like, "
        "drawn, or three to one.",
    )


def _assets(command):
    """An option that names MakeHuman's assets to everything that draws people."""

    def use(context, parameter, folder):
        if folder is not None:
            os.environ["LIVEPUPPET_PEOPLE_ASSETS"] = str(folder)

    return click.option(
        "--assets",
        type=click.Path(path_type=Path, file_okay=False),
        callback=use,
        expose_value=False,
        help="For people: the folder of skins, hair and clothes (else $LIVEPUPPET_PEOPLE_ASSETS; without, they are shorn).",
    )(command)


@click.group()
def puppets():
    """Draw procedural puppets: sheets, portraits, driving clips, pools to train on."""


@puppets.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True)
@_setting("plain")
@click.option(
    "--rows", default=4, show_default=True, type=click.IntRange(min=1), help="For people: rows of pictures."
)
@click.option("--columns", default=8, show_default=True, type=click.IntRange(min=1), help="Pictures per row.")
@click.option(
    "--strips", is_flag=True, help="For people: a named row per factor and unit, one person from end to end."
)
@_assets
def sheet(file, seed, setting, rows, columns, strips):
    """A contact sheet (PNG): identities in columns, neutral and in three poses; of people, each in
    a pose of its own.
    """
    from livepuppet.train.puppets.clips import contact_sheet
    from livepuppet.train.sheets.tiles import write

    try:
        if setting in PEOPLE:
            from livepuppet.train.people.sheets import people_sheet, strip_sheet

            picture = (
                strip_sheet(seed, setting, columns) if strips else people_sheet(seed, setting, columns, rows)
            )
        else:
            picture = contact_sheet(seed, columns, rows, setting=setting)
        write(file, picture)
    except (OSError, ValueError) as error:
        raise click_error(error) from error


@puppets.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Of the identity.")
@click.option(
    "--row", default=0, show_default=True, help="Which of the identities that the seed draws (0-39)."
)
@click.option("--size", default=256, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Length, for a clip.")
@click.option("--performance-seed", default=0, show_default=True, help="Of the motion, for a clip.")
@click.option(
    "--scene", type=int, help="Seed of the light and background, for people.  [default: the person's own]"
)
@_setting("plain")
@_assets
def draw(file, seed, row, size, seconds, performance_seed, scene, setting):
    """One puppet: a portrait (FILE.png) or a driving clip (FILE.mp4)."""
    from livepuppet.train.puppets.clips import neutral, performance, supersampled, write_clip
    from livepuppet.train.puppets.identities import draw_identities, generator
    from livepuppet.train.sheets.tiles import write

    if setting in PEOPLE:
        from livepuppet.train.people.sheets import people_performance, portrait

        try:
            if file.suffix.lower() == ".mp4":
                frames = people_performance(
                    seed, setting, round(25 * seconds), 25, size, performance_seed, scene
                )
                write_clip(file, frames, 25)
            else:
                write(file, portrait(seed, setting, size, scene))
        except (OSError, ValueError) as error:
            raise click_error(error) from error
        return
    identity = draw_identities(40, generator(seed), setting)[row : row + 1]
    if not len(identity):
        raise click.UsageError("--row goes from 0 to 39.")
    try:
        if file.suffix.lower() == ".mp4":
            write_clip(file, performance(identity, round(25 * seconds), 25, size, performance_seed), 25)
        else:
            write(file, supersampled(identity, neutral(), size))
    except OSError as error:
        raise click_error(error) from error


@puppets.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--shards", default=16, show_default=True, help="Shards of 64 images.")
@click.option("--first", default=FIRST_SEED, show_default=True, help="First seed.")
@click.option(
    "--size", default=256, show_default=True, type=click.IntRange(min=32), help="Side of the images."
)
@click.option(
    "--coarse",
    default=None,
    type=click.IntRange(min=8),
    help="Side of the true flow.  [default: a quarter of the size]",
)
@_setting(SETTING)
@_assets
def pool(folder, shards, first, size, coarse, setting):
    """Draw a pool for training, or add to it; several of these may run at once with different
    --first.
    """
    try:
        draw_shards(folder, range(first, first + shards), size, coarse, setting)
    except (OSError, ValueError) as error:
        raise click_error(error, "FOLDER") from error


@puppets.command()
@click.option(
    "--size", default=256, show_default=True, type=click.IntRange(min=16), help="Side of the images."
)
@click.option(
    "--batch", default=16, show_default=True, type=click.IntRange(min=1), help="Images drawn at once."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps.")
@click.option("--seconds", default=3.0, show_default=True, help="To measure for, per setting.")
@click.option("--setting", type=click.Choice(PEOPLE), help="Measure people instead of the puppets' settings.")
@_assets
def speed(size, batch, device, seconds, setting):
    """Images per second, per setting."""
    import torch

    from livepuppet.train.puppets.speed import pictures_per_second

    if setting:
        from livepuppet.train.people.sheets import people_per_second

        try:
            name, pictures, processor = people_per_second(setting, size, seconds)
        except ValueError as error:
            raise click_error(error) from error
        click.echo(f"{size} x {size}, one process, {name}")
        click.echo(
            f"{setting:12} {pictures:8.1f} pictures/s with all truth   {1000 * processor:8.0f} ms of processor each"
        )
        return
    try:
        where = torch.device(device)
        torch.zeros(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise click.UsageError(f"There is no device {device!r} here; use --device cpu.") from error
    threads = f", {torch.get_num_threads()} threads" if where.type == "cpu" else ""
    click.echo(f"{size} x {size}, {batch} at once, {device}{threads}")
    try:
        for setting, images, identities in pictures_per_second(size, batch, where, seconds):
            click.echo(
                f"{setting:8} {images:8.1f} images/s   {identities:8.1f} identities/s drawn on the CPU"
            )
    except torch.OutOfMemoryError as error:
        raise click.UsageError(
            f"{batch} images of {size} do not fit into memory; use a smaller --batch."
        ) from error
