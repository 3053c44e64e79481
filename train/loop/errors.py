"""What ends a training before its end."""

from __future__ import annotations

from livepuppet.core.errors import LivePuppetError


class TrainingError(LivePuppetError, RuntimeError):
    """Training cannot go on; the message is one sentence that says why and what to do."""
