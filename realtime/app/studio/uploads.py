"""Pictures that come in by the page: bounded, decoded as data, and stored in the avatars' folder
alone.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import unicodedata
from pathlib import Path

from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.core.images import IMAGE_SUFFIXES, list_images, read_still_image
from livepuppet.realtime.app import settings

#: Bytes of one picture; the reader bounds its pixels before it decodes any.
LARGEST_UPLOAD = 32 << 20

#: Pictures that the folder takes.
MOST_AVATARS = 200

#: Letters of a name, without its suffix.
LONGEST_NAME = 80

#: Where removed pictures go, inside the avatars' folder. Folders of it are not listed.
REMOVED = "removed"

#: One picture is decoded at a time: a large one takes hundreds of megabytes on the way.
_decoding = threading.Lock()

#: Names that Windows keeps for devices, whatever follows.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_name(name: str) -> str:
    """The name under which a picture is stored: no folders, no dots in front, letters, digits,
    spaces, `-`, `_`, `(`, `)` and `.` alone.

    Raises:
        UserError: it is not that of a picture.
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"'{name[:60]}' is not named like a picture: choose a PNG, JPEG or WebP file.")
    stem = "".join(letter if letter.isalnum() or letter in " -_()." else "_" for letter in stem)
    stem = stem.strip(" .")[:LONGEST_NAME].strip(" .")
    if not stem or _DEVICES.match(stem):
        stem = f"avatar {stem}".strip()
    return stem + suffix.lower()


def free_path(folder: Path, name: str) -> Path:
    """A path in `folder` that nothing has yet: `name`, or with a number."""
    stem, suffix = os.path.splitext(name)
    path, number = folder / name, 1
    while path.exists() or path.is_symlink():
        number += 1
        path = folder / f"{stem} {number}{suffix}"
    return path


class Upload:
    """One picture on its way into `folder`. Write what comes, then `store` or `discard` it.

    Args:
        folder: of the avatars.
        name: as the page gave it.
        declared: bytes that were announced; None where none were.

    Raises:
        UserError: it is too large, not named like a picture, or there are too many.
    """

    def __init__(self, folder: Path, name: str, declared: int | None = None):
        self._folder, self._name = folder, safe_name(name)
        self.size = 0
        self._check_size(declared or 0)
        if count_images(folder) >= MOST_AVATARS:
            raise UserError(f"There are {MOST_AVATARS} avatars already: remove some first.")
        # Hidden, so that the watched folder does not show it before it is known to be a picture.
        self._part = folder / f".upload-{os.urandom(8).hex()}.part"
        try:
            self._file = self._part.open("xb")
        except OSError as error:
            raise UserError(
                f"Nothing can be stored in {folder} ({error.strerror}): make it writable, or free some space."
            ) from error

    def _check_size(self, size: int) -> None:
        if size > LARGEST_UPLOAD:
            raise TooLarge(
                f"{self._name} is larger than {LARGEST_UPLOAD >> 20} MB: save it smaller, as JPEG or WebP."
            )

    def write(self, data: bytes) -> None:
        """Raises UserError once it is too large, or the disk is full."""
        self.size += len(data)
        self._check_size(self.size)
        try:
            self._file.write(data)
        except OSError as error:
            raise UserError(f"{self._name} cannot be stored ({error.strerror}): free some space.") from error

    def store(self) -> str:
        """Decode it, and put it in its place. Returns its name.

        Raises:
            UserError: it is no picture that can be read.
        """
        self._file.close()
        try:
            with _decoding:
                read_still_image(self._part, strict=True)
        except UserError as error:
            # It speaks of our temporary file.
            raise UserError(str(error).replace(str(self._part), self._name)) from None
        path = free_path(self._folder, self._name)
        os.replace(self._part, path)
        return path.name

    def discard(self) -> None:
        """Leave nothing behind. Safe to call after `store`."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class TooLarge(UserError):
    """More bytes than are taken."""


def count_images(folder: Path) -> int:
    try:
        return len(list_images(folder))
    except UserError:
        return 0


def remove(folder: Path, name: str) -> None:
    """Put a picture aside, into the folder `removed` beside it: nothing is deleted.

    Raises:
        UserError: there is none of that name.
    """
    path = _inside(folder, name)
    aside = folder / REMOVED
    try:
        aside.mkdir(exist_ok=True)
        os.replace(path, free_path(aside, path.name))
    except OSError as error:
        raise UserError(f"{name} cannot be removed ({error.strerror}): make {folder} writable.") from error


def restore(folder: Path, name: str) -> None:
    """Take a picture back that was removed. Raises UserError."""
    path = _inside(folder / REMOVED, name)
    try:
        os.replace(path, free_path(folder, path.name))
    except OSError as error:
        raise UserError(
            f"{name} cannot be brought back ({error.strerror}): make {folder} writable."
        ) from error


def _inside(folder: Path, name: str) -> Path:
    """The picture of that very name directly in `folder`. Raises UserError."""
    try:
        return next(path for path in list_images(folder) if path.name == name)
    except (StopIteration, UserError):
        raise UserError(f"There is no picture '{name[:80]}' here.") from None


def own_folder(picture: Path, given: bool) -> tuple[Path, str]:
    """The folder of avatars that belongs to the settings, with `picture` in it, where no folder was
    chosen.

    Args:
        picture: to begin with.
        given: the person named it; else it is only put in where there is no other.

    Returns:
        The folder, and the name of the picture there; empty where it was not put in.

    Raises:
        UserError: it cannot be written.
    """
    folder = settings.config_folder() / "avatars"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not given and count_images(folder):
            return folder, ""
        name = safe_name(picture.name if picture.suffix else f"{picture.name}.png")
        there = folder / name
        if not (there.is_file() and sha256(there) == sha256(picture)):
            there = free_path(folder, name)
            shutil.copyfile(picture, there)
    except OSError as error:
        raise UserError(
            f"The avatars' folder {folder} cannot be written ({error.strerror}): choose one with --avatar FOLDER."
        ) from error
    return folder, there.name
