"""What ends a training before its end, and how errors read to people."""

from __future__ import annotations

import errno

from livepuppet.core.errors import LivePuppetError

#: What helps against errors of the system.
REMEDIES = {
    errno.ENOSPC: "make room on that disk, or give another {output}",
    errno.EROFS: "give a folder that can be written to",
    errno.EACCES: "give one that you may use",
    errno.EPERM: "give one that you may use",
}


class TrainingError(LivePuppetError, RuntimeError):
    """Training cannot go on; the message is one sentence that says why and what to do."""


def error_message(error: Exception, output: str = "--output folder") -> str:
    """An error as one sentence with its remedy; `output` is what the command calls the folder that it writes."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        remedy = REMEDIES.get(error.errno or 0, "give another file or folder")
        return f"{where}{error.strerror}; {remedy.format(output=output)}."
    return str(error)
