"""How errors of this folder reach the command line."""

from __future__ import annotations

import click


def as_click_error(error: Exception) -> click.ClickException:
    """One sentence on standard error, exit status 2 (see `realtime/cli.py`)."""
    return click.ClickException(str(error))
