"""`livepuppet studio`: everything from one page in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Any

import click

from livepuppet.realtime.app import settings as remembered
from livepuppet.realtime.app.commands.options import settings_options
from livepuppet.realtime.app.commands.run import finish, given, notify, run_live
from livepuppet.realtime.app.live_outputs import is_studio
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.engines import Precision

#: What other machines are told of before they may connect.
_LISTENING = (
    "Other machines can reach this session at {address}. It is encrypted with a certificate of its own: a browser "
    "warns of it once, and the fingerprint that it shows has to be\n  {fingerprint}\nWhoever has the address with its "
    "token sees your camera and can change everything: keep it to yourself."
)


@click.command(short_help="As run, from one page in the browser: avatars, cameras, outputs, sliders.")
@settings_options
@click.option("--profile", metavar="NAME", help="Use and remember the settings under this name.")
@click.option("--open/--no-open", "opens", default=True, help="Open the page in the browser.")
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Let other machines of the network use the page, with the token and TLS: an address of this computer, or "
    "0.0.0.0 for all of them. [default: this computer alone]",
)
def studio(
    model: Path | None,
    engine: str | None,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
    server: str | None,
    profile: str | None,
    opens: bool,
    listen: str | None,
    **options: Any,
) -> None:
    """Drive a picture live, with everything on one page in the browser: avatars, cameras, outputs, sliders.

    Takes the options of livepuppet run. The page shows the session and does not own it: close it, open it again,
    open it twice.
    """
    before = remembered.load(profile, notify)
    chosen = given(options)
    settings = remembered.merge(before, chosen)
    outputs = tuple(text for text in settings.output.outputs if text != "window")
    if "outputs" in chosen:
        outputs = chosen["outputs"]
    if not any(is_studio(text) for text in outputs):
        outputs = ("studio", *outputs)
    settings = remembered.merge(settings, {"outputs": outputs})

    def opened(session: Session) -> None:
        assert session.studio is not None
        page = session.studio.address_of("/studio")
        if listen is not None:
            told = {"address": session.studio.address, "fingerprint": session.studio.fingerprint}
            notify(_LISTENING.format(**told))
        notify(f"The studio is at {page}")
        if opens and not _opens(page):
            notify("No browser could be started: open that address in one.")

    session = run_live(
        settings,
        model,
        engine,
        threads=threads,
        device=device,
        precision=precision,
        server=server,
        listen=listen,
        opened=opened,
    )
    finish(session, before, settings, chosen, profile, remember=True)


def _opens(page: str) -> bool:
    try:
        return webbrowser.open(page)
    except (webbrowser.Error, OSError):
        return False
