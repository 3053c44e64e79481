"""`livepuppet receive`: draw the avatar of someone who sends numbers alone."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import settings as remembered
from livepuppet.realtime.app.commands.options import engine_options, setting_options
from livepuppet.realtime.app.commands.run import finish, given, notify, run_live
from livepuppet.realtime.app.live_outputs import is_studio
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.engines import Precision

#: What to do on the other machine.
_INVITATION = "On the machine with the camera:\n  livepuppet send --avatar me.png --to '{address}'"

#: Where it listens by default.
PORT = 7472


@click.command(short_help="Draw the avatar of someone who calls with livepuppet send.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="An address of this computer that the other machine reaches, or 0.0.0.0 for all; with TLS. [default: this "
    "computer alone]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="TCP and UDP. 0 takes a free one.",
)
@setting_options("picture", "output", "control", without=("output.sound",))
@click.option(
    "--virtual-format",
    type=click.Choice(["i420", "nv12"]),
    default="i420",
    show_default=True,
    help="Pixel format of the virtual camera.",
)
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many animated frames.")
@click.option(
    "--stats",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the figures there at the end.",
)
@engine_options
def receive(
    listen: str | None,
    port: int,
    virtual_format: str,
    frames: int | None,
    stats: Path | None,
    model: Path | None,
    engine: str | None,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
    **options: Any,
) -> None:
    """Draw the avatar of someone who calls with livepuppet send, into a window, a virtual camera or a file, until stopped.

    Prints the address to call. One sender at a time; when it has left, the next one may come.
    """
    try:
        from livepuppet.realtime.app.call_server import WAITING, CallServer, call_token, nobody
        from livepuppet.realtime.app.studio.studio import checked_address, reachable
        from livepuppet.realtime.app.studio.tls import certificate
    except ImportError as error:
        raise UserError(
            "Receiving needs the packages of the studio: pip install 'livepuppet[studio]'."
        ) from error
    from livepuppet.realtime.remote.receiving import CallSource

    before = remembered.load(None, notify)
    chosen = given(options)
    settings = remembered.merge(before, chosen)
    if any(is_studio(text) for text in settings.output.outputs):
        raise UserError(
            "The studio is for who drives: give --output window, or http for a page with the picture."
        )
    settings = replace(
        settings,
        output=replace(settings.output, sound="none"),
        source=replace(settings.source, driving="auto", mirror=False),
        neutral=replace(settings.neutral, reuse=False),
        motion=replace(settings.motion, countdown=0.0),
    )
    files = fingerprint = None
    address = "127.0.0.1"
    if listen is not None:
        address = checked_address(listen)
        certificate_file, key, fingerprint = certificate(address)
        files = certificate_file, key
    token, source = call_token(), CallSource(WAITING)
    with ExitStack() as stack:

        def opened(session: Session) -> None:
            # There is no camera's picture to show.
            session.live.show.preview = False
            server = CallServer(session.live, source, token, address, port, files)
            stack.callback(server.close)
            notify(_INVITATION.format(address=server.address(reachable(address), token, fingerprint)))

        session = run_live(
            settings,
            model,
            engine,
            frames,
            stats,
            virtual_format,
            threads=threads,
            device=device,
            precision=precision,
            opened=opened,
            source=source,
            avatar=lambda engine: nobody(engine.size),
        )
    finish(session, before, settings, chosen, None, remember=False)
