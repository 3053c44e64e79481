"""The user's cache: what takes long to work out, by everything that it depends on. It may be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.files import replacing, write_atomically

#: So many sets of arrays are kept of a kind, those that were used last.
KEPT_ARRAYS = 12


def cache_folder(kind: str) -> Path:
    """A folder of the user's cache, made if need be.

    Raises:
        UserError: it cannot be made.
    """
    try:
        import platformdirs
    except ModuleNotFoundError as error:
        raise UserError(
            "Keeping a cache needs the package 'platformdirs': pip install platformdirs."
        ) from error
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


def remembered_arrays(kind: str, inputs: dict) -> dict[str, np.ndarray]:
    """The arrays that were remembered for these inputs, by name. Raises KeyError where there are none
    that can be read.
    """
    try:
        path = cache_folder(kind) / f"{key_of(inputs)}.npz"
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        with suppress(OSError):
            path.touch()
        return found
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, UserError) as error:
        raise KeyError(kind) from error


def remember_arrays(kind: str, inputs: dict, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays for these inputs, uncompressed, and forget those that were not used for longest."""
    with suppress(OSError, UserError):
        folder = cache_folder(kind)
        with replacing(folder / f"{key_of(inputs)}.npz") as part, open(part, "wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType] - no array has that name
        kept = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-KEPT_ARRAYS]:
            old.unlink(missing_ok=True)
