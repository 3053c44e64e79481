"""Training checkpoints on disk: written atomically, the previous one kept, read as data."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import IO, cast

import torch

from livepuppet.core.files import replacing


def previous(path: Path) -> Path:
    """Path of the previous checkpoint."""
    return path.with_name(path.name + ".previous")


def write(path: Path, state: dict) -> None:
    """Write `state` so that a kill, a power cut or a full disk at any moment leaves a whole
    checkpoint behind.

    The file at `path`, if there is one, becomes `previous(path)`.

    Raises:
        OSError: nothing was changed.
    """
    with replacing(path, durable=True) as part, part.open("wb") as file:
        keeping = _ErrorKeepingFile(file)
        try:
            torch.save(state, cast(IO[bytes], keeping))
        except RuntimeError as error:
            raise keeping.error or OSError(str(error).splitlines()[0]) from error
        file.flush()
        os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous(path))


class _ErrorKeepingFile:
    """A file that remembers the system's error, which PyTorch's writer hides."""

    def __init__(self, file):
        self.file = file
        self.error: OSError | None = None

    def write(self, data) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def read_whole(path: Path) -> bytes:
    """A checkpoint's bytes, checked against the CRCs in them.

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
