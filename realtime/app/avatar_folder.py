"""The avatars of a folder, kept up with what happens to the files while the tool runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from livepuppet.core.avatar import Avatar
from livepuppet.core.errors import UserError
from livepuppet.core.images import list_images, natural_key
from livepuppet.realtime.avatars import load_avatar, nothing_readable

#: Seconds between two looks at the files.
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Change:
    """One thing that happened to the row of avatars, to be done in the order given.

    Attributes:
        kind: `added` (put in at `index`, what was there moves up), `changed` (takes the place at
            `index`) or `removed`.
        index: in the row as the changes before this one left it.
        avatar: the new one; for `removed`, the one that goes.
    """

    kind: str
    index: int
    avatar: Avatar


#: What tells one state of a file from another: time of the last change in ns, and size in bytes.
Signature = tuple[int, int]


class AvatarFolder:
    """The avatars of one file or folder, all loaded at once, and then kept up with what happens to
    the files.

    Reading and face finding go on in a thread of its own. What it finds is fetched with `changes`
    by the thread that owns the engine, which has to encode them.

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
        self._messages: deque[str] = deque()
        self._lock = threading.Lock()
        self._wanted: dict[Path, Avatar] = {}
        self._read: dict[Path, Signature | None] = {}
        self._seen: dict[Path, Signature | None] = {}
        self._load_all(progress)
        self.avatars = list(self._wanted.values())
        self._stopped = threading.Event()
        self._thread = None
        if poll is not None:
            self._thread = threading.Thread(target=self._watch, args=(poll,), name="avatars", daemon=True)
            self._thread.start()

    def changes(self, shown: int | None = None) -> list[Change]:
        """What happened to the row since the last call, to be done in this order; `avatars` has it
        done already.

        Args:
            shown: index of the avatar in use. Where its file is gone it stays in the row until
                another is in use, and the last one stays anyway.
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
            index = sum(natural_key(avatar.path or "") <= natural_key(path) for avatar in self.avatars)
            shown = shown + 1 if shown is not None and index <= shown else shown
            self.avatars.insert(index, wanted[path])
            found.append(Change("added", index, wanted[path]))
        return found

    def messages(self) -> list[str]:
        """What people should know of files that were skipped, each said once."""
        said = []
        while self._messages:
            said.append(self._messages.popleft())
        return said

    def look(self) -> None:
        """Look at the files once, and read what changed.

        A file is read once two looks in a row found it the same: one that is still being copied
        would come out half gray. One that is missing is given up after two looks, because programs
        save by removing and renaming.
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
                self._notify(f"The avatars in {self.path} cannot be looked after at the moment ({error}).")

    def _notify(self, sentence: str) -> None:
        if sentence not in self._messages:
            self._messages.append(sentence)

    def _load_all(self, progress: Callable[[int, int], None]) -> None:
        if not self._watches_folder:
            signature = (self._signatures() or {}).get(self.path)
            self._wanted[self.path] = load_avatar(self.path, self._size, self._crop)
            self._read[self.path] = signature
            progress(1, 1)
            return
        files = list_images(self.path)
        signatures = self._signatures() or {}
        for done, file in enumerate(files, 1):
            self._read_one(file, signatures.get(file))
            progress(done, len(files))
        if not self._wanted:
            raise nothing_readable(self.path)

    def _read_one(self, path: Path, signature: Signature | None) -> None:
        self._read[path] = signature
        try:
            avatar = load_avatar(path, self._size, self._crop)
        except UserError as error:
            self._notify(str(error))
        except Exception as error:
            self._notify(f"{path} was skipped ({error}): save it anew as PNG or JPEG.")
        else:
            with self._lock:
                self._wanted[path] = avatar

    def _signatures(self) -> dict[Path, Signature] | None:
        """Of the files that are there now; None where the folder itself is away, as a drive may be
        for a while.
        """
        if self._watches_folder and not self.path.is_dir():
            return None
        try:
            files = list_images(self.path) if self._watches_folder else [self.path]
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
