"""Write files whole or not at all, and tell one file's content from another's."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

#: Bytes of a name up to which temporary ones beside it repeat it. Most file systems take 255, some
#: that encrypt names 143.
_LONGEST_REPEATED = 100


def beginning_of(name: str) -> str:
    """How the names of temporary files beside `name` begin: one that people understand, where there
    is room.
    """
    data = os.fsencode(name)
    if len(data) > _LONGEST_REPEATED:
        name = hashlib.blake2b(data, digest_size=8).hexdigest()
    return f".{name}."


class Replacement:
    """A file that takes another's place once it is complete. A crash at any moment leaves the old
    one.

    Args:
        path: its folder is made where needed. A link stays one: what it points to is replaced.
        mode: permissions; by default those of the file before, or what the umask allows where there
            was none.

    Attributes:
        path: what is replaced.
        part: where to write; empty at first, in the same folder.

    Raises:
        OSError: the folder or the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike, mode: int | None = None):
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode is None and path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
        # Not tempfile, whose files nobody else may read.
        self.path, self.part = path, path.with_name(f"{beginning_of(path.name)}{os.urandom(6).hex()}.part")
        handle = os.open(self.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else mode)
        os.close(handle)
        if mode is not None:
            os.chmod(self.part, mode)

    def commit(self, durable: bool = False) -> None:
        """Put the new file in the old one's place.

        Args:
            durable: make sure that it survives a power cut, too.

        Raises:
            OSError: that failed; the old file is untouched and the new one gone.
        """
        try:
            if durable:
                with open(self.part, "rb+") as file:
                    os.fsync(file.fileno())
            os.replace(self.part, self.path)
        except BaseException:
            self.discard()
            raise
        if durable:
            _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave the old file, and nothing beside it."""
        with contextlib.suppress(OSError):
            self.part.unlink()


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, durable: bool = False, mode: int | None = None) -> Iterator[Path]:
    """Write to the path that this yields; leaving the block without an error puts it in the place
    of `path`.

    Raises:
        OSError: see `Replacement`.
    """
    replacement = Replacement(path, mode)
    try:
        yield replacement.part
    except BaseException:
        replacement.discard()
        raise
    replacement.commit(durable)


def write_atomically(
    path: str | os.PathLike, data: bytes | str, *, durable: bool = False, mode: int | None = None
) -> None:
    """Replace the content of `path`; text as UTF-8. Raises OSError like `Replacement`, which has
    the arguments.
    """
    with replacing(path, durable=durable, mode=mode) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file. Raises OSError."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def discard_leftovers(path: str | os.PathLike) -> None:
    """Remove what processes that were killed while they replaced `path` left beside it."""
    path = Path(path)
    for part in path.parent.glob(f"{glob.escape(beginning_of(path.name))}*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def _sync_folder(folder: Path) -> None:
    """The new name, too, has to survive a power cut. Not every system can."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of an .npz file with these arrays, as small as deflate makes it: NumPy's own are up to two hundredths larger."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, array in arrays.items():
            with packed.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return file.getvalue()
