"""How errors of this folder reach the command line."""

from __future__ import annotations

import errno

import click

#: What helps against what the system says.
WHAT_TO_DO = {
    errno.ENOSPC: "make room on that disk, or give another --output folder",
    errno.EROFS: "give a folder that can be written to",
    errno.EACCES: "give one that you may use",
    errno.EPERM: "give one that you may use",
}


def as_click_error(error: Exception) -> click.ClickException:
    """One sentence on standard error, exit status 2 (see `realtime/app/cli.py`)."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        what_to_do = WHAT_TO_DO.get(error.errno, "give another file or folder")
        return click.ClickException(f"{where}{error.strerror}; {what_to_do}.")
    return click.ClickException(str(error))
