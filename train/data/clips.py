"""Pairs of frames from a folder of clips: what FOMM and Monkey-Net learn from."""

from __future__ import annotations

import csv
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from livepuppet.train.data.augment import Augment
from livepuppet.train.data.reading import Clip, DataError, at_size, list_clips, part_of, read_frames

#: Frames kept of one video, evenly spaced: enough for every pose in it, and hours of it fit in
#: memory.
FRAMES_PER_VIDEO = 96

#: Bytes of decoded frames that are kept.
MEMORY = 2_000_000_000

#: More clips than this share must be readable, or training stops.
LARGEST_BROKEN_SHARE = 0.5


@dataclass(frozen=True)
class Choice:
    """Which two frames make a pair.

    Attributes:
        clip: number of the clip.
        source, driving: numbers of the two frames, ascending in time.
        seed: of this pair's augmentation.
    """

    clip: int
    source: int
    driving: int
    seed: int


class ClipSet:
    """The clips of a folder; frames are decoded on demand and cached up to a limit.

    Args:
        folder: every video, animated or stacked image and every folder of frames in it is one clip.
        size: side to which frames are resized, in pixels.
        augment: how pairs are varied.
        id_sampling: clips named `identity#rest` belong together; identities are drawn first, then
            one of their clips, so that somebody with many clips is not seen more often (FOMM's
            `id_sampling`).
        part: "train" or "test": the sub-folder of that name if there is one. None takes `folder`
            itself.
        most: frames kept of one video, evenly spaced; None keeps all. Folders and stacked images
            keep all of theirs.
        memory: bytes of decoded frames that are kept.

    Attributes:
        clips: what the headers say of each.
        names: file names, as in pair lists.
        skipped: a sentence for everything that could not be used; it grows when damage is found
            later.
        folder: where the clips lie.
        size: as given.

    Raises:
        DataError: if nothing in the folder can be used.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        augment: Augment | None = None,
        id_sampling: bool = False,
        part: str | None = "train",
        most: int | None = FRAMES_PER_VIDEO,
        memory: int = MEMORY,
    ):
        self.folder, self.size = part_of(folder, part), size
        self.augment = Augment() if augment is None else augment
        self.clips, self.skipped = list_clips(self.folder)
        self.names = [clip.name for clip in self.clips]
        self._kept = [_kept(clip, most) for clip in self.clips]
        self._groups = _groups(self.clips) if id_sampling else [[k] for k in range(len(self.clips))]
        self._broken: dict[int, str] = {}
        self._cache = _Cache(memory)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    @property
    def identities(self) -> int:
        """What an epoch passes over: identities with `id_sampling`, else clips."""
        return len(self._groups)

    def length(self, k: int) -> int:
        """Number of frames of clip `k`, known without decoding it."""
        return len(self._kept[k])

    def epoch_steps(self, batch: int, repeats: int = 1) -> int:
        """Steps in which every clip (or identity) was drawn `repeats` times, on average."""
        return max(1, math.ceil(self.identities * repeats / batch))

    def frames(self, k: int) -> np.ndarray:
        """All frames of clip `k`, uint8 RGB (T, S, S, 3). Raises DataError."""
        return at_size(self._read(k, range(self.length(k))), self.size)

    def draw(self, batch: int, rng: torch.Generator) -> list[Choice]:
        """Which frames the next `batch` pairs are made of: two different ones of one clip each, the
        earlier one first.

        Clips are drawn with replacement, unlike the papers' shuffled epochs: a training can then go
        on from the state of `rng` alone.
        """
        numbers = torch.randint(2**40, (batch, 5), generator=rng).tolist()
        choices = []
        for a, b, c, d, seed in numbers:
            group = self._groups[a % len(self._groups)]
            clip = group[b % len(group)]
            length = self.length(clip)
            first = c % length
            second = (first + 1 + d % (length - 1)) % length
            choices.append(Choice(clip, min(first, second), max(first, second), seed % 2**31))
        return choices

    def load(self, choices: Sequence[Choice]) -> tuple[Tensor, Tensor]:
        """The chosen pairs, augmented: source and driving, float32 (B, 3, S, S) RGB in [0, 1].

        A clip that turns out to be damaged is named in `skipped`, and the next one stands in for
        it. The same choices give the same images.

        Raises:
            DataError: too many clips are damaged for training to make sense.
        """
        pairs = np.stack([self._pair(choice) for choice in choices])
        tensor = torch.from_numpy(np.ascontiguousarray(pairs.transpose(1, 0, 4, 2, 3))).float().div_(255)
        return tensor[0], tensor[1]

    def pairs(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """`load` of `draw`."""
        return self.load(self.draw(batch, rng))

    def _pair(self, choice: Choice) -> np.ndarray:
        clip, source, driving = choice.clip, choice.source, choice.driving
        while True:
            try:
                pair = at_size(self._read(clip, (source, driving)), self.size)
                return self.augment(pair, choice.seed)
            except DataError as error:
                self._leave_out(clip, error)
            clip = (clip + 1) % len(self)
            # Others may be shorter; two different frames stay two different frames.
            source, driving = source % self.length(clip), driving % self.length(clip)
            if source == driving:
                source, driving = 0, self.length(clip) - 1

    def _leave_out(self, clip: int, error: DataError) -> None:
        if clip not in self._broken:
            self._broken[clip] = str(error)
            self.skipped.append(str(error))
        if len(self._broken) > LARGEST_BROKEN_SHARE * len(self):
            raise DataError(
                f"{len(self._broken)} of {len(self)} clips in {self.folder} are damaged; the first problem: "
                f"{next(iter(self._broken.values()))}"
            ) from error

    def _read(self, k: int, numbers: Sequence[int]) -> np.ndarray:
        """Some frames of clip `k`, no larger than `size`."""
        if k in self._broken:
            raise DataError(self._broken[k])
        clip, kept = self.clips[k], self._kept[k]
        if clip.kind == "frames":
            # Each frame is a file, so only the requested ones are decoded.
            return np.concatenate(
                [
                    self._cache.get((k, number), lambda n=number: read_frames(clip, [kept[n]], self.size))
                    for number in numbers
                ]
            )
        frames = self._cache.get((k,), lambda: read_frames(clip, kept, self.size))
        return frames[list(numbers)]


def _kept(clip: Clip, most: int | None) -> Sequence[int]:
    if most is None or clip.length <= most or clip.kind in ("frames", "stacked"):
        return range(clip.length)
    return np.linspace(0, clip.length - 1, most).round().astype(int).tolist()


def _groups(clips: Sequence[Clip]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        groups.setdefault(clip.identity, []).append(number)
    return list(groups.values())


class _Cache:
    """Arrays by key, the least recently used given up when they take more than `limit` bytes; for
    several threads.
    """

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self._arrays: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple, make) -> np.ndarray:
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = make()
        array.setflags(write=False)
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = array
                self.bytes += array.nbytes
            while self.bytes > self.limit and len(self._arrays) > 1:
                self.bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array


def read_pairs(path: Path, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Which clip drives which image: a CSV with the columns `source` and `driving`, as FOMM's
    `pairs_list`.

    Args:
        names: of the clips there are; names in the list may leave out the suffix.

    Returns:
        (source, driving) names, as in `names` where that is given.

    Raises:
        DataError: if it cannot be read, lacks a column, is empty or names a clip that is not there.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = {(column or "").strip().lower(): column for column in reader.fieldnames or []}
            if not {"source", "driving"} <= set(columns):
                raise DataError(
                    f"{path} has no columns 'source' and 'driving': write them in its first line, separated by a comma."
                )
            rows = [
                ((row[columns["source"]] or "").strip(), (row[columns["driving"]] or "").strip())
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The pair list {path} cannot be read ({error}): give a CSV file.") from error
    pairs = [row for row in rows if any(row)]
    if not pairs:
        raise DataError(f"{path} lists no pairs: write one 'source,driving' per line.")
    if names is None:
        return pairs
    known = {Path(name).stem: name for name in names} | {name: name for name in names}
    missing = sorted({name for pair in pairs for name in pair if name not in known})
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{path} names clips that are not in the data ({', '.join(missing[:3])}{more}): correct the list, or add them."
        )
    return [(known[source], known[driving]) for source, driving in pairs]
