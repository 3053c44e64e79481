"""How errors reach the command line."""

from __future__ import annotations

import click

from livepuppet.train.loop.errors import error_message


def click_error(error: Exception) -> click.ClickException:
    """One sentence on standard error, exit status 2 (`realtime/app/cli.py` sets it)."""
    return click.ClickException(error_message(error))
