"""The user's cache: what takes long to work out, by everything that it depends on. It may be
deleted at any time.

Several processes share it. An entry appears whole, under its name, and is never changed; what was
damaged since is not believed but made anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.files import replacing, write_atomically

#: So many large entries are kept of a kind, those that were used last.
KEPT = 12

#: Name of the part that tells which inputs a set of arrays belongs to.
_KEY = "key"

#: Bytes of the checksum in front of remembered bytes.
_DIGEST = 32


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
    can be read, whole and as it was written.
    """
    try:
        entry = json.loads((cache_folder(kind) / f"{key_of(inputs)}.json").read_text(encoding="utf-8"))
        if entry["checksum"] != _checksum(inputs, entry["value"]):
            raise ValueError("damaged")
        return entry["value"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError, UserError) as error:
        raise KeyError(kind) from error


def remember(kind: str, inputs: dict, value: Any) -> None:
    """Keep a JSON value for these inputs. A cache that cannot be written costs the next start its
    time, no more.
    """
    # As it will be read: tuples become lists.
    value = json.loads(json.dumps(value))
    with suppress(OSError, UserError):
        entry = {"checksum": _checksum(inputs, value), "value": value}
        write_atomically(cache_folder(kind) / f"{key_of(inputs)}.json", json.dumps(entry, indent=1))


def _checksum(inputs: dict, value: Any) -> str:
    return key_of({"inputs": key_of(inputs), "value": value})


def remembered_arrays(kind: str, inputs: dict) -> dict[str, np.ndarray]:
    """The arrays that were remembered for these inputs, by name. Raises KeyError where there are none
    that can be read, whole and as they were written.
    """
    try:
        path = _entry(kind, inputs, ".npz")
        with zipfile.ZipFile(path) as stored:
            # `read` compares each part with its CRC before anything in it is believed.
            found = {name.removesuffix(".npy"): _array(stored.read(name)) for name in stored.namelist()}
        if found.pop(_KEY).tobytes() != key_of(inputs).encode():
            raise ValueError("of other inputs")
    except Exception as error:  # damage may look like anything: wrong sizes, methods, names
        raise KeyError(kind) from error
    with suppress(OSError):
        path.touch()
    return found


def _array(data: bytes) -> np.ndarray:
    """What is in a .npy file, without a copy."""
    file = io.BytesIO(data)
    major, _ = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("objects are not read")
    flat = np.frombuffer(bytearray(memoryview(data)[file.tell() :]), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def remember_arrays(kind: str, inputs: dict, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays for these inputs, uncompressed, and forget those that were not used for longest."""
    with suppress(OSError, UserError):
        key = np.frombuffer(key_of(inputs).encode(), np.uint8)
        with replacing(_entry(kind, inputs, ".npz")) as part, open(part, "wb") as file:
            np.savez(file, **{_KEY: key}, **arrays)  # pyright: ignore[reportArgumentType] - no array has that name
        _forget_oldest(cache_folder(kind), ".npz", KEPT)


def remembered_bytes(kind: str, inputs: dict) -> bytes:
    """The bytes that were remembered for these inputs. Raises KeyError where there are none, whole
    and as they were written.
    """
    try:
        path = _entry(kind, inputs, ".bin")
        with path.open("rb") as file:
            checksum, content = file.read(_DIGEST), file.read()
        if checksum != _digest(inputs, content):
            raise ValueError("damaged")
    except (OSError, ValueError, UserError) as error:
        raise KeyError(kind) from error
    with suppress(OSError):
        path.touch()
    return content


def remember_bytes(kind: str, inputs: dict, data: bytes, most: int = KEPT) -> None:
    """Keep bytes for these inputs, and forget those that were not used for longest, beyond `most`."""
    with suppress(OSError, UserError):
        with replacing(_entry(kind, inputs, ".bin")) as part, open(part, "wb") as file:
            file.write(_digest(inputs, data))
            file.write(data)
        _forget_oldest(cache_folder(kind), ".bin", most)


def _digest(inputs: dict, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST, key=key_of(inputs).encode()).digest()


def _entry(kind: str, inputs: dict, suffix: str) -> Path:
    return cache_folder(kind) / f"{key_of(inputs)}{suffix}"


def _forget_oldest(folder: Path, suffix: str, most: int) -> None:
    """Other processes may do the same at the same time."""
    ages = []
    for path in folder.glob(f"*{suffix}"):
        with suppress(OSError):
            ages.append((path.stat().st_mtime, path))
    for _, old in sorted(ages)[:-most]:
        with suppress(OSError):
            old.unlink()
