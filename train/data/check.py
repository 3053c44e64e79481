"""Check a folder of clips before hours of training are spent on it."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np
from tqdm import tqdm

from livepuppet.train.data.reading import (
    UNREADABLE,
    Clip,
    DataError,
    broken_frame,
    entries,
    image_size,
    list_clips,
    mixed_sizes,
    nothing_in,
    part_of,
    sample_frames,
)

#: Seconds after which no further clip is looked into, and frames that are compared of each.
SECONDS, SAMPLES = 40.0, 4

#: Frames whose headers are read of one folder of frames.
HEADERS = 200

#: Mean difference of two frames, of 1, below which nothing moves: less than one level of 255.
STILL = 0.5 / 255

#: Levels of 255 by which a pixel has to differ to have changed.
CHANGED = 25

#: Clips of fewer frames give few pairs.
FEW_FRAMES = 8

#: Names shown of a group of files.
SHOWN = 5

#: Bytes that a run takes at least: two checkpoints of a large network, sheets and the weights.
ROOM = 3_000_000_000


@dataclass
class Report:
    """What `check_folder` found.

    Attributes:
        folder: where the clips lie.
        size: of the network's images.
        clips: that can be used.
        looked: how many of them were decoded in part.
        skipped: a sentence for everything that cannot be used.
        still, short, small, tall: names of clips without motion, with few frames, with frames
            smaller than `size`, and with frames so far from square that more than a third is cut
            off.
        difference: mean difference of two frames of a clip, of 1; the median clip.
        changed: share of the image that changes between two frames; the median clip.
        identities: number of names before `#`.
        test: number of entries in the test part, or None if there is none.
        shared: identities that are in both parts.
        free: bytes left where the run will write, or None.
    """

    folder: Path
    size: int
    clips: list[Clip] = field(default_factory=list)
    looked: int = 0
    skipped: list[str] = field(default_factory=list)
    still: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    small: list[str] = field(default_factory=list)
    tall: list[str] = field(default_factory=list)
    difference: float = 0.0
    changed: float = 0.0
    identities: int = 0
    test: int | None = None
    shared: list[str] = field(default_factory=list)
    free: int | None = None

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that does not prevent training, but should be known."""
        found = []
        if self.still:
            found.append(f"nothing moves in {_named(self.still)}: nothing can be learnt from that.")
        if self.short:
            found.append(f"fewer than {FEW_FRAMES} frames: {_named(self.short)}.")
        if self.small:
            found.append(
                f"frames smaller than the network's {self.size} pixels will be blurred: {_named(self.small)}."
            )
        if self.tall:
            found.append(
                f"only the centred square of a frame is used, which cuts off more than a third of {_named(self.tall)}: "
                "crop them, or let livepuppet prepare do it."
            )
        if self.shared:
            found.append(
                f"in train/ as well as in test/, so that scores will flatter: {_named(self.shared)}."
            )
        if self.free is not None and self.free < ROOM:
            found.append(
                f"{_bytes(self.free)} are left where the run will write; a run takes up to {_bytes(ROOM)}."
            )
        return found

    def text(self) -> str:
        """The report as people read it."""
        kinds = Counter(clip.kind for clip in self.clips)
        sizes = Counter(f"{clip.width}x{clip.height}" for clip in self.clips)
        lengths = sorted(clip.length for clip in self.clips)
        frames = sum(lengths)
        lines = [
            f"{self.folder}: {len(self.clips):,} clips ({', '.join(f'{n:,} {KINDS[k]}' for k, n in kinds.most_common())}), "
            f"{frames:,} frames.",
            f"frames per clip: {lengths[0]:,} to {lengths[-1]:,}, median {lengths[len(lengths) // 2]:,}",
            f"frame sizes: {_counted(sizes)}; the network sees {self.size}x{self.size}",
        ]
        if self.identities < len(self.clips):
            lines.append(f"identities (names before #): {self.identities:,}")
        if self.test is not None:
            lines.append(f"test part: {self.test:,} entries")
        lines.append(
            f"motion: two frames of a clip differ by {self.difference:.3f} (of 1) on average, and in "
            f"{self.changed:.0%} of the image (median clip)"
        )
        if self.looked < len(self.clips):
            lines.append(
                f"decoded: parts of {self.looked:,} clips, drawn at random; of the others only the headers were read"
            )
        if self.free is not None:
            lines.append(f"space left for the run: {_bytes(self.free)}")
        if self.skipped:
            lines.append(f"skipped, {len(self.skipped):,}:")
            lines += [f"  {sentence}" for sentence in self.skipped[:20]]
            if len(self.skipped) > 20:
                lines.append(f"  and {len(self.skipped) - 20:,} more")
        lines += [f"note: {sentence}" for sentence in self.warnings]
        good = not self.skipped and not self.warnings
        lines.append("Ready for training." if good else "Can be trained on; see above for what may be wrong.")
        return "\n".join(lines)


KINDS = {
    "video": "videos",
    "animation": "animated images",
    "frames": "folders of frames",
    "stacked": "stacked images",
}


def check_folder(
    folder: Path, size: int, output: Path | None = None, part: str | None = "train", seconds: float = SECONDS
) -> Report:
    """Look through a folder of clips: every header, and into as many clips as `seconds` allow.

    Args:
        size: of the network's images.
        output: where the run will write, for the space that is left there.

    Raises:
        DataError: if nothing in it can be trained on.
    """
    folder = Path(folder)
    report = Report(part_of(folder, part), size)
    clips, report.skipped = list_clips(report.folder)
    usable, differences, changes = [], [], []
    # In an order that says something about all of them when there is no time for all.
    order, ends = np.random.default_rng(0).permutation(len(clips)).tolist(), monotonic() + seconds
    broken: set[int] = set()
    for number in tqdm(order, desc="Checking", unit="clip", disable=None, leave=False):
        if monotonic() > ends and report.looked:
            break
        clip = clips[number]
        try:
            _check_headers(clip)
            frames = sample_frames(clip, SAMPLES, 128)
        except DataError as error:
            report.skipped.append(str(error))
            broken.add(number)
            continue
        report.looked += 1
        gaps = np.abs(np.diff(frames.astype(np.int16), axis=0))
        differences.append(float(gaps.mean()) / 255)
        changes.append(float((gaps.max(-1) > CHANGED).mean()))
        if gaps.mean(axis=(1, 2, 3)).max() < STILL * 255:
            report.still.append(clip.name)
    usable = [clip for number, clip in enumerate(clips) if number not in broken]
    if not usable:
        raise nothing_in(report.folder, report.skipped)
    if len(report.still) == len(usable):
        raise DataError(f"Nothing moves in any clip of {report.folder}: training needs frames that differ.")
    report.clips = usable
    report.difference, report.changed = float(np.median(differences)), float(np.median(changes))
    report.still.sort()
    report.short = [clip.name for clip in usable if clip.length < FEW_FRAMES]
    report.small = [clip.name for clip in usable if min(clip.width, clip.height) < size]
    report.tall = [
        clip.name for clip in usable if min(clip.width, clip.height) < max(clip.width, clip.height) * 2 / 3
    ]
    known = {clip.identity for clip in usable}
    report.identities = len(known)
    if part == "train" and report.folder != folder and (folder / "test").is_dir():
        test = entries(folder / "test")
        report.test = len(test)
        report.shared = sorted(known & {Clip(path, "", 0, 0, 0).identity for path in test})
    if output is not None:
        report.free = space_left(output)
    return report


def space_left(folder: Path) -> int:
    """Bytes left where `folder` is or will be made. Raises OSError."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _check_headers(clip: Clip) -> None:
    """Raise DataError for a folder whose frames differ in size, or that holds images which are
    none.
    """
    if clip.kind != "frames":
        return
    for number in np.unique(np.linspace(0, clip.length - 1, min(HEADERS, clip.length)).astype(int)).tolist():
        name = clip.files[number]
        try:
            size = image_size(clip.path / name)
        except UNREADABLE as error:
            raise broken_frame(clip.path, name, error) from error
        if size != (clip.width, clip.height):
            raise mixed_sizes(clip.path, clip.files[0], (clip.width, clip.height), name, size)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _counted(counter: Counter) -> str:
    shown = [f"{name} ({count:,})" for name, count in counter.most_common(4)]
    more = len(counter) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _bytes(count: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.1f} {units[0]}" if count % 1 else f"{count:.0f} {units[0]}"
