"""`livepuppet rig`: find the eyes and the mouth of a picture, look at what they do, and keep where
they are.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import click
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.images import write_png
from livepuppet.core.names import keep_apart
from livepuppet.realtime.app.commands.options import engine_options
from livepuppet.realtime.avatars import Avatar, load_avatar
from livepuppet.realtime.engines import Engine, load_engine
from livepuppet.realtime.rig.contours import Contours
from livepuppet.realtime.rig.finding import find
from livepuppet.realtime.rig.rig import Face
from livepuppet.realtime.rig.sheet import draw_contours, draw_sheet
from livepuppet.realtime.rig.shut_mouth import at_rest
from livepuppet.realtime.rig.sidecar import read_sidecar, sidecar_path, write_sidecar


@click.command()
@click.argument("picture", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the contours in this file. Beside the picture, as me.rig.json for me.png, it is used from then on.",
)
@click.option(
    "--sheet", type=click.Path(path_type=Path, dir_okay=False), help="Write a PNG of what the rig does."
)
@click.option(
    "--contours",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a PNG of where the contours are.",
)
@click.option("--edit", is_flag=True, help="Open a window to drag the contours.")
@click.option(
    "--again", is_flag=True, help="Find the contours anew, though a file beside the picture has them."
)
@engine_options
def rig(picture, output, sheet, contours, edit, again, model, engine, device, precision, threads):
    """Find the eyes and the mouth of PICTURE, so that they move at its own sharpness.

    Says of each part whether it moves. Where the contours are wrong, --edit opens a window to drag
    them.
    """
    # As a session has it: huge pictures are made smaller, and a rig belongs to the pixels.
    for written in (output, sheet, contours):
        if written is not None:
            keep_apart(written, {"the picture": picture})
    avatar = load_avatar(picture, crop="face")
    image = avatar.original
    beside = sidecar_path(picture)

    @functools.cache
    def machine() -> Engine:
        return load_engine(engine, model, threads, device, precision)

    if os.path.exists(beside) and not again:
        found = read_sidecar(beside, image)
        click.echo(f"Contours from {beside}.")
    else:
        found = find(machine(), image, avatar.square)
    sure = [
        name
        for name, part in (("left eye", found.left), ("right eye", found.right), ("mouth", found.mouth))
        if part is not None and part.sure
    ]
    if sure:
        click.echo(f"Moved by the rig: {', '.join(sure)}.")
    for note in found.notes:
        click.echo(note)
    if edit:
        from livepuppet.realtime.app.rig_window import edit as edit_in_window

        changed = edit_in_window(image, found)
        if changed is None:
            click.echo("Left without saving.")
            return
        found, output = changed, output or beside
    for path, drawn in (
        (sheet, lambda: _sheet(machine(), avatar, found)),
        (contours, lambda: draw_contours(image, found)),
    ):
        if path is not None:
            try:
                write_png(path, drawn())
            except OSError as error:
                raise UserError(
                    f"{path} cannot be written ({error.strerror}): choose another name."
                ) from error
    if output is not None:
        write_sidecar(output, found, image)
        click.echo(f"Written to {output}.")


def _sheet(machine: Engine, avatar: Avatar, contours: Contours) -> np.ndarray:
    """What the rig makes of `avatar`, all of which it draws: of the picture at rest, as it is animated."""
    names = tuple(machine.keypoint_names)
    keypoints = machine.detect(avatar.image)
    face = Face(keypoints, names, machine.size, avatar.square, contours, others=avatar.others)
    avatar, face = at_rest(machine, avatar, face)
    assert face.contours is not None
    return draw_sheet(avatar.original, face.contours, face, avatar.matte)
