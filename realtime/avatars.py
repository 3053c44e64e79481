"""The still pictures that are moved: read from files, and watched while the tool runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.images import list_pictures, natural_key, read_picture_and_alpha, split_alpha
from livepuppet.core.square import Square, centred_square, cut, parse_square
from livepuppet.realtime.engines.store import cache_folder, key_of
from livepuppet.realtime.framing.faces import find_face, square_around, square_for

#: Longest side of the whole picture that is kept beside the square, in pixels: more than any output shows.
LONGEST_SIDE = 2048

#: Seconds between two looks at the files.
POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Avatar:
    """A still picture: the square that the model moves, and the whole picture around it.

    Attributes:
        name: its file's name.
        picture: the square, uint8 RGB (S, S, 3).
        path: of the file, or None.
        original: the whole picture, upright, uint8 RGB (H, W, 3), its longer side at most `LONGEST_SIDE`. By default
            the square itself.
        square: where `picture` lies in `original`, in its pixels; it may reach beyond the edges. By default all of it.
        matte: the file's transparency, uint8 (H, W) like `original`, 255 where the figure is; None for an opaque file.
    """

    name: str
    picture: np.ndarray
    path: Path | None = None
    original: np.ndarray | None = None
    square: Square | None = None
    matte: np.ndarray | None = None

    def __post_init__(self):
        if self.original is None:
            object.__setattr__(self, "original", self.picture)
        if self.square is None:
            object.__setattr__(self, "square", centred_square(*self.original.shape[:2]))


def choose_square(picture: np.ndarray, crop: str) -> Square:
    """The square of `picture` uint8 RGB (H, W, 3) that `crop` asks for; see `load_avatar`. Raises UserError."""
    height, width = picture.shape[:2]
    if crop == "center":
        return centred_square(height, width)
    if crop not in ("auto", "face"):
        return parse_square(crop)
    face = _face_of(picture)
    if crop == "auto":
        return square_for([face] if face else [], height, width)
    return square_around(face, height, width) if face else centred_square(height, width)


def _face_of(picture: np.ndarray) -> Square | None:
    """`find_face`, which takes up to half a second, of this very picture only once: the next start remembers it."""
    facts = {
        "picture": [picture.shape, hashlib.blake2b(np.ascontiguousarray(picture)).hexdigest()],
        "versions": [cv2.__version__, importlib.metadata.version("livepuppet")],
    }
    try:
        memory = cache_folder("faces") / f"{key_of(facts)}.json"
        stored = json.loads(memory.read_text(encoding="utf-8"))
        return Square(*(float(value) for value in stored)) if stored else None
    except (OSError, ValueError, TypeError, UserError):
        face = find_face(picture)
    # It is only looked for again where it cannot be kept.
    with suppress(OSError, UserError):
        memory = cache_folder("faces") / f"{key_of(facts)}.json"
        part = memory.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps([face.x, face.y, face.side] if face else []), encoding="utf-8")
        part.replace(memory)
    return face


def load_avatar(path: str | os.PathLike, size: int = 256, crop: str = "auto") -> Avatar:
    """Read any picture and cut a square of it.

    Args:
        path: of the picture.
        size: S, the model's side in pixels. A picture of exactly that size is taken pixel by pixel.
        crop: `auto` (as `face`, but a square picture that a face fills stays whole), `face` (the head with margin, where
            a face is found; else the centre), `center` (the largest centred square) or `X,Y,SIDE` in pixels of the
            upright picture.

    Raises:
        UserError: if the picture cannot be read or the crop lies outside it.
    """
    path = Path(path)
    picture, matte = read_picture_and_alpha(path)
    return _cut_avatar(path.name, picture, matte, size, crop, path)


def avatar_of(picture: np.ndarray, size: int, crop: str = "auto", name: str = "picture") -> Avatar:
    """As `load_avatar`, of pixels instead of a file.

    Args:
        picture: uint8 RGB (H, W, 3), or RGBA with straight alpha (H, W, 4).

    Raises:
        UserError: if it is neither, or the crop lies outside it.
    """
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8 or not picture.size:
        raise UserError(
            f"An avatar has to be RGB or RGBA uint8 (H, W, 3 or 4), not {picture.dtype} {picture.shape}: convert it first."
        )
    if picture.shape[2] == 3:
        return _cut_avatar(name, np.ascontiguousarray(picture), None, size, crop)
    return _cut_avatar(name, *split_alpha(picture), size, crop)


def _cut_avatar(
    name: str, picture: np.ndarray, matte: np.ndarray | None, size: int, crop: str, path: Path | None = None
) -> Avatar:
    square = choose_square(picture, crop)
    # `cut` takes whole pixels: what it took is what has to be put back.
    square = Square(round(square.x), round(square.y), max(1, round(square.side)))
    small = cut(picture, square, size)
    factor = LONGEST_SIDE / max(picture.shape[:2])
    if factor < 1:
        extent = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
        picture = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA)
        matte = None if matte is None else cv2.resize(matte, extent, interpolation=cv2.INTER_AREA)
        square = square.scaled(factor)
    return Avatar(name, small, path, picture, square, matte)


def load_avatars(path: Path, size: int, crop: str = "auto") -> tuple[list[Avatar], list[str]]:
    """One picture, or every picture of a folder in natural order.

    Returns:
        The avatars, at least one, and a sentence for each file of a folder that was skipped.

    Raises:
        UserError: if there is not a single readable picture.
    """
    path = Path(path)
    if not path.is_dir():
        return [load_avatar(path, size, crop)], []
    avatars, skipped = [], []
    for file in list_pictures(path):
        try:
            avatars.append(load_avatar(file, size, crop))
        except UserError as error:
            skipped.append(str(error))
    if not avatars:
        raise _nothing_readable(path)
    return avatars, skipped


def _nothing_readable(folder: Path) -> UserError:
    return UserError(f"No picture in the folder {folder} can be read: put PNG or JPEG files into it.")


@dataclass(frozen=True)
class Change:
    """One thing that happened to the row of avatars, to be done in the order given.

    Attributes:
        kind: `added` (put in at `index`, what was there moves up), `changed` (takes the place at `index`) or `removed`.
        index: in the row as the changes before this one left it.
        avatar: the new one; for `removed`, the one that goes.
    """

    kind: str
    index: int
    avatar: Avatar


#: What tells one state of a file from another: time of the last change in ns, and size in bytes.
Signature = tuple[int, int]


class AvatarFolder:
    """The avatars of one file or folder, all loaded at once, and then kept up with what happens to the files.

    Reading and face finding go on in a thread of its own. What it finds is fetched with `changes` by the thread that
    owns the engine, which has to encode them.

    Args:
        path: a picture, or a folder of them (natural order, sub-folders left out).
        size: S, the model's side in pixels.
        crop: see `load_avatar`.
        progress: called after each file at the start with how many are done and how many there are.
        poll: seconds between two looks; None starts no thread (call `look` instead).

    Attributes:
        avatars: the row, at least one, as handed over so far.

    Raises:
        UserError: if there is not a single readable picture.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        crop: str = "auto",
        progress: Callable[[int, int], None] = lambda done, total: None,
        poll: float | None = POLL_SECONDS,
    ):
        self.path, self._size, self._crop = Path(path), size, crop
        self._watches_folder = self.path.is_dir()
        self._sentences: deque[str] = deque()
        self._lock = threading.Lock()
        self._wanted: dict[Path, Avatar] = {}
        self._read: dict[Path, Signature] = {}
        self._seen: dict[Path, Signature | None] = {}
        self._load_all(progress)
        self.avatars = list(self._wanted.values())
        self._stopped = threading.Event()
        self._thread = None
        if poll is not None:
            self._thread = threading.Thread(target=self._watch, args=(poll,), name="avatars", daemon=True)
            self._thread.start()

    def changes(self, shown: int | None = None) -> list[Change]:
        """What happened to the row since the last call, to be done in this order; `avatars` has it done already.

        Args:
            shown: index of the avatar in use. Where its file is gone it stays in the row until another is in use, and
                the last one stays anyway.
        """
        with self._lock:
            wanted = dict(self._wanted)
        found: list[Change] = []
        for avatar in list(self.avatars):
            index = self.avatars.index(avatar)
            if avatar.path not in wanted:
                if index != shown and len(self.avatars) > 1:
                    del self.avatars[index]
                    shown = shown - 1 if shown is not None and index < shown else shown
                    found.append(Change("removed", index, avatar))
            elif wanted[avatar.path] is not avatar:
                self.avatars[index] = wanted[avatar.path]
                found.append(Change("changed", index, wanted[avatar.path]))
        present = {avatar.path for avatar in self.avatars}
        for path in sorted(wanted.keys() - present, key=natural_key):
            index = sum(natural_key(avatar.path) <= natural_key(path) for avatar in self.avatars)
            shown = shown + 1 if shown is not None and index <= shown else shown
            self.avatars.insert(index, wanted[path])
            found.append(Change("added", index, wanted[path]))
        return found

    def sentences(self) -> list[str]:
        """What people should know of files that were skipped, each said once."""
        said = []
        while self._sentences:
            said.append(self._sentences.popleft())
        return said

    def look(self) -> None:
        """Look at the files once, and read what changed.

        A file is read once two looks in a row found it the same: one that is still being copied would come out half
        gray. One that is missing is given up after two looks, because programs save by removing and renaming.
        """
        now = self._signatures()
        if now is None:
            return
        for path in {**now, **self._read, **self._seen}:
            signature = now.get(path)
            settled = self._seen.get(path, ()) == signature
            self._seen[path] = signature
            if signature is None and path not in self._read:
                del self._seen[path]
                continue
            if not settled or self._read.get(path) == signature:
                continue
            if signature is None:
                del self._read[path]
                with self._lock:
                    self._wanted.pop(path, None)
            else:
                self._read_one(path, signature)

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, poll: float) -> None:
        while not self._stopped.wait(poll):
            try:
                self.look()
            except Exception as error:
                # A folder on a network drive may answer anything; the avatars at hand stay in use.
                self._say(f"The avatars in {self.path} cannot be looked after at the moment ({error}).")

    def _say(self, sentence: str) -> None:
        if sentence not in self._sentences:
            self._sentences.append(sentence)

    def _load_all(self, progress: Callable[[int, int], None]) -> None:
        if not self._watches_folder:
            signature = (self._signatures() or {}).get(self.path)
            self._wanted[self.path] = load_avatar(self.path, self._size, self._crop)
            self._read[self.path] = signature
            progress(1, 1)
            return
        files = list_pictures(self.path)
        signatures = self._signatures() or {}
        for done, file in enumerate(files, 1):
            self._read_one(file, signatures.get(file))
            progress(done, len(files))
        if not self._wanted:
            raise _nothing_readable(self.path)

    def _read_one(self, path: Path, signature: Signature | None) -> None:
        self._read[path] = signature
        try:
            avatar = load_avatar(path, self._size, self._crop)
        except UserError as error:
            self._say(str(error))
        except Exception as error:
            self._say(f"{path} was skipped ({error}): save it anew as PNG or JPEG.")
        else:
            with self._lock:
                self._wanted[path] = avatar

    def _signatures(self) -> dict[Path, Signature] | None:
        """Of the files that are there now; None where the folder itself is away, as a drive may be for a while."""
        if self._watches_folder and not self.path.is_dir():
            return None
        try:
            files = list_pictures(self.path) if self._watches_folder else [self.path]
        except UserError:
            return {}
        found = {}
        for file in files:
            try:
                status = file.stat()
            except OSError:
                continue
            found[file] = (status.st_mtime_ns, status.st_size)
        return found
