"""How errors reach the command line."""

from __future__ import annotations

import click

from livepuppet.train.loop.errors import error_message


def click_error(error: Exception, output: str = "--output folder") -> click.ClickException:
    """One sentence on standard error, exit status 2 (`realtime/app/cli.py` sets it).

    Args:
        output: what the command calls the folder that it writes.
    """
    return click.ClickException(error_message(error, output))
