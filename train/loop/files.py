"""Checkpoints on disk: written whole or not at all, the one before kept, read as data."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

import torch


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` lies."""
    return path.with_name(path.name + ".previous")


def write(path: Path, state: dict) -> None:
    """Write `state` so that a kill, a power cut or a full disk at any moment leaves a whole checkpoint behind.

    The file at `path`, if there is one, becomes `previous(path)`.

    Raises:
        OSError: nothing was changed.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            watched = _Watched(file)
            try:
                torch.save(state, watched)
            except RuntimeError as error:
                # PyTorch's writer hides what the system said.
                raise watched.error or OSError(str(error).splitlines()[0]) from error
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous(path))
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


class _Watched:
    """A file to write to that remembers why it could not be."""

    def __init__(self, file):
        self.file, self.error = file, None

    def write(self, data) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def forget_unfinished(path: Path) -> None:
    """Remove what killed writers of `path` left beside it."""
    for rest in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(OSError):
            rest.unlink()


def read_whole(path: Path) -> bytes:
    """A checkpoint's bytes, checked against their own sums.

    Raises:
        ValueError: if the file is damaged; the message says how.
        OSError: if it cannot be read.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise ValueError("it is cut off or no checkpoint") from error
    if damaged:
        raise ValueError(f"its part {damaged} is damaged")
    return data


def decode(data: bytes) -> dict:
    """What `write` wrote, as data (no code is run), on the CPU."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
