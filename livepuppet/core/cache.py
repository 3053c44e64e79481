"""The user's cache: what takes long to work out, by everything that it depends on. It may be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from livepuppet.core.errors import UserError
from livepuppet.core.files import write_atomically


def cache_folder(kind: str) -> Path:
    """A folder of the user's cache, made if need be.

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


def key_of(inputs: dict) -> str:
    """A file name that differs when any part of what something depends on does."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def remembered(kind: str, inputs: dict) -> Any:
    """The JSON value that was remembered for these inputs. Raises KeyError where there is none that
    can be read.
    """
    try:
        return json.loads((cache_folder(kind) / f"{key_of(inputs)}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, UserError) as error:
        raise KeyError(kind) from error


def remember(kind: str, inputs: dict, value: Any) -> None:
    """Keep a JSON value for these inputs. A cache that cannot be written costs the next start its
    time, no more.
    """
    with suppress(OSError, UserError):
        write_atomically(cache_folder(kind) / f"{key_of(inputs)}.json", json.dumps(value, indent=1))
