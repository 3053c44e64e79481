"""Where engines keep what takes long to make: compiled models, and what the quality gate found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from livepuppet.core.errors import UserError


def cache_folder(kind: str) -> Path:
    """A folder of the user's cache, made if need be. Everything in it can be deleted at any time.

    Raises:
        UserError: it cannot be made.
    """
    import platformdirs

    folder = platformdirs.user_cache_path("livepuppet", appauthor=False) / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): make room, or set XDG_CACHE_HOME to another folder."
        ) from error
    return folder


def key_of(facts: dict) -> str:
    """A file name that differs when any fact does."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
