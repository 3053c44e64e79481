"""`livepuppet serve`: render for the camera of another machine."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.commands.options import engine_options
from livepuppet.realtime.app.commands.run import notify
from livepuppet.realtime.bundled import AVATAR
from livepuppet.realtime.engines import Precision, load_engine

#: What to do on the other machine.
_INVITATION = (
    "On the machine with the camera{person} open this address in a browser, where nothing needs to be installed:\n  {address}\n"
    "or have livepuppet send numbers instead of the camera's picture:\n"
    "  livepuppet run --engine remote --server '{address}'"
)

#: Where it listens by default.
PORT = 7471


@click.command(short_help="Render for the camera of another machine (run --engine remote there).")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="An address of this computer that the other machine reaches, or 0.0.0.0 for all; with TLS. [default: this "
    "computer alone]",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one."
)
@click.option(
    "--certificate",
    "own",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --listen: a certificate of your own (PEM, with those between it and its authority), for a name that browsers then "
    "open without a warning. [default: one that livepuppet makes]",
)
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key (PEM).")
@click.option(
    "--places", type=click.IntRange(1, 64), default=2, show_default=True, help="Sessions at the same time."
)
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="NAME",
    help="Print an address for this person alone; without the name at the next start it is no longer valid. May be given "
    "several times. [default: one address]",
)
@click.option(
    "--avatar",
    "avatars",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PICTURE",
    help="A picture, or a folder of pictures, that the page in the browser offers beside people's own. May be given several "
    "times. [default: the one that comes with livepuppet]",
)
@click.option(
    "--qr/--no-qr",
    default=None,
    help="Print the address as a QR code for phones. [default: with --listen, on a terminal]",
)
@engine_options
def serve(
    listen: str | None,
    port: int,
    own: Path | None,
    key: Path | None,
    places: int,
    people: tuple[str, ...],
    avatars: tuple[Path, ...],
    qr: bool | None,
    model: Path | None,
    engine: str | None,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
) -> None:
    """Render for the camera of another machine, until stopped.

    There, a browser sends its camera's picture, or livepuppet run --engine remote reads the driver's face and sends some 50 bytes
    a frame; the picture comes back.
    """
    try:
        from livepuppet.realtime.app.remote_page.pictures import load_offered
        from livepuppet.realtime.app.remote_page.qr import qr_code
        from livepuppet.realtime.app.remote_page.session import Offered
        from livepuppet.realtime.app.render_server import RenderServer, token_for
        from livepuppet.realtime.app.studio.studio import checked_address, reachable
        from livepuppet.realtime.app.studio.tls import certificate, own_certificate
    except ImportError as error:
        raise UserError(
            "The server needs the packages of the studio: pip install 'livepuppet[studio]'."
        ) from error

    if (own is None) != (key is None) or (own is not None and listen is None):
        raise UserError("--certificate FILE and --key FILE belong together, and to --listen.")
    files = fingerprint = None
    names: tuple[str, ...] = ()
    address = "127.0.0.1"
    if listen is not None:
        address = checked_address(listen)
        if own is not None and key is not None:
            files = own, key
            fingerprint, names = own_certificate(own, key)
        else:
            *made, fingerprint = certificate(address)
            files = made[0], made[1]
    tokens = {person: token_for(person) for person in people or ("",)}
    machine = load_engine(engine, model, threads, device, precision)
    offered, skipped = load_offered(avatars or (AVATAR,), machine.size)
    for sentence in skipped:
        notify(sentence)
    page = [Offered(*one) for one in offered]
    server = RenderServer(
        machine, tuple(tokens.values()), address, port, files, places, page=page, names=names
    )
    host = names[0] if names else reachable(address)
    stopped = threading.Event()
    with suppress(ValueError):
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        for person, token in tokens.items():
            invitation = server.address(host, token, fingerprint)
            notify(_INVITATION.format(address=invitation, person=f" ({person})" if person else ""))
            if (listen is not None and sys.stderr.isatty()) if qr is None else qr:
                notify(qr_code(invitation))
        while not stopped.wait(0.5):
            pass
    except KeyboardInterrupt:
        raise UserError("stopped.") from None
    finally:
        server.close()
