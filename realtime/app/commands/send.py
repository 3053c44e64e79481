"""`livepuppet send`: a call in which the far side draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import settings as remembered
from livepuppet.realtime.app.commands.options import engine_options, setting_options
from livepuppet.realtime.app.commands.run import finish, given, notify, run_live
from livepuppet.realtime.engines import Precision

#: What leaves this machine, before it does.
WHAT_LEAVES = (
    "{place} draws: your avatar's picture goes there once, and stays for as long as the call lasts; then the pose of your face, some "
    "40 bytes a frame. Your camera's picture stays here, and no sound is sent."
)

#: Sections of the settings that a sender has.
SECTIONS = ("source", "framing", "avatar", "motion", "neutral", "control")


@click.command(
    short_help="Call someone whose machine draws your avatar (receive there): numbers alone are sent."
)
@click.option(
    "--to",
    required=True,
    metavar="https://...",
    envvar="LIVEPUPPET_RECEIVER",
    help="The address that livepuppet receive prints there. Better given as the variable LIVEPUPPET_RECEIVER, which other users of "
    "this computer cannot read.",
)
@setting_options(*SECTIONS)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="window|none",
    help="window: see your camera's picture, the countdown, and what is wrong. Your avatar is not drawn here. [default: none]",
)
@click.option(
    "--neutral",
    metavar="auto|first|SECONDS|PICTURE",
    help="The neutral pose of a driving file, see livepuppet run --help.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option(
    "--stats",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the figures there at the end.",
)
@engine_options
def send(
    to: str,
    outputs: tuple[str, ...],
    neutral: str | None,
    frames: int | None,
    stats: Path | None,
    model: Path | None,
    engine: str | None,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
    **options: Any,
) -> None:
    """Call someone whose machine draws your avatar: what your face does is sent as numbers, at most 12 kbit/s of them.

    livepuppet receive prints the address there. Look straight ahead with a neutral expression when it starts; press X to take that
    pose anew.
    """
    from livepuppet.realtime.remote.call import CallSender
    from livepuppet.realtime.remote.connection import ServerAddress

    if set(outputs) - {"window", "none"}:
        raise UserError(
            "A sender draws nothing: give its --output window or none, and the others to livepuppet receive."
        )
    before = remembered.load(None, notify)
    chosen = given(options)
    settings = remembered.merge(before, chosen)
    settings = replace(
        settings,
        output=replace(settings.output, outputs=outputs or ("none",), sound="none"),
        # What is drawn, and how, is the receiver's to say.
        picture=replace(settings.picture, rig="on", background="as-is"),
    )
    address = ServerAddress.parse(to)
    notify(WHAT_LEAVES.format(place=address.place))
    session = run_live(
        settings,
        model,
        engine,
        frames,
        stats,
        threads=threads,
        device=device,
        precision=precision,
        neutral=neutral,
        renderer=lambda engine: CallSender(address, engine.model_name),
    )
    finish(session, before, settings, chosen, None, remember=False)
