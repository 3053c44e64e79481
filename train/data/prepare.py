"""Cut raw recordings into clips as the papers train on: a fixed square around the face in each
clip.

FOMM's sets are made so: the crop stays where it is as long as the face stays in it, so that the
head's movement is in the clip; when the face leaves, or the scene cuts, another clip begins.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError

from livepuppet.core.errors import UserError
from livepuppet.core.square import Square, cut
from livepuppet.core.video_writer import VideoWriter
from livepuppet.train.data.reading import DataError, all_frames, frame_rate, open_clip

#: Seconds between two face detections.
LOOK_SECONDS = 0.2

#: Seconds without a face after which the clip has ended where it was seen last.
LOST_SECONDS = 0.6

#: A face is still in the clip's square while its own square overlaps the first one by at least so
#: much (intersection over union), and all of them together fit into a square this much larger than
#: their median.
LEAST_OVERLAP, LARGEST_GROWTH = 0.33, 1.5

#: What of a face's square holds the head itself, without the margin.
HEAD = 0.8

#: A cut of the scene: 32 x 32 thumbnails differ by this much (of 1), and by this many times the
#: median of the last second.
CUT, CUT_TIMES = 0.12, 4.0

#: Of the clips' coding: visually lossless.
QUALITY = 12


class OutputError(DataError):
    """Clips cannot be written: the trouble is not with one recording."""


#: Finds the square around the face in uint8 RGB (H, W, 3), near the one that was found last; None
#: where there is none.
Find = Callable[[np.ndarray, Square | None], Square | None]


@dataclass(frozen=True)
class Rules:
    """What becomes a clip.

    Attributes:
        size: side of the clips' frames in pixels, even.
        every: keep every n-th frame.
        shortest, longest: seconds of a clip; longer stretches are split evenly.
        smallest: squares with a smaller side, in pixels, would be blurred, and are dropped. None is
            half of `size`.
        margin: the square's side as a multiple of the usual.

    Raises:
        DataError: if `size` is odd.
    """

    size: int = 256
    every: int = 1
    shortest: float = 2.0
    longest: float = 30.0
    smallest: float | None = None
    margin: float = 1.0

    def __post_init__(self):
        if self.size % 2:
            raise DataError(f"H.264 images have an even side: {self.size} is odd, take {self.size + 1}.")


@dataclass
class Stretch:
    """Frames `first` to `last` (inclusive) of a recording, in which the face stays in one square.

    Attributes:
        faces: the squares found at the looks.
        held: the square that is cut; None before it is settled.
    """

    first: int
    last: int
    faces: list[Square] = field(default_factory=list)
    held: Square | None = None


@dataclass(frozen=True)
class Dropped:
    """Seconds `begin` to `end` of a recording that became no clip, and why."""

    begin: float
    end: float
    why: str


@dataclass
class Prepared:
    """What became of one recording.

    Attributes:
        name: of the recording.
        seconds: its length.
        clips: the files written.
        kept: seconds in them.
        dropped: what is in none of them.
    """

    name: str
    seconds: float = 0.0
    clips: list[Path] = field(default_factory=list)
    kept: float = 0.0
    dropped: list[Dropped] = field(default_factory=list)

    def text(self) -> str:
        """One line per recording, and one for each part that was dropped."""
        lines = [
            f"{self.name}: {counted(len(self.clips))}, {self.kept:.1f} of {self.seconds:.1f} seconds kept"
            + ("." if not self.dropped else "; dropped:")
        ]
        lines += [f"  {part.begin:.1f} to {part.end:.1f} s: {part.why}" for part in self.dropped]
        return "\n".join(lines)


def prepare(
    recording: Path,
    output: Path,
    find: Find,
    rules: Rules | None = None,
    progress: Callable[[Iterator, int], Iterator] = lambda frames, _: frames,
    stem: str | None = None,
) -> Prepared:
    """Cut a recording into `output/STEM#001.mp4`, ...: one identity with several clips, by FOMM's
    convention.

    Each clip appears under its name only when it is whole; one of the same name is replaced.

    Args:
        recording: a video, an animated image or a folder of frames.
        find: the face.
        progress: wraps an iteration over frames, given their number, for a progress bar.
        stem: of the clips' names; the recording's own by default.

    Raises:
        DataError: it cannot be read. OutputError: nothing can be written.
    """
    rules = rules or Rules()
    recording, output = Path(recording), Path(output)
    if not recording.exists():
        raise DataError(f"There is no file {recording}: check the name of the recording.")
    clip = open_clip(recording)
    rate = frame_rate(clip)
    report = Prepared(recording.name)
    stretches, count, shape = look_through(
        progress(all_frames(clip), clip.length), rate, find, report.dropped
    )
    report.seconds = float(count / rate)
    kept = settled(stretches, rate, rules, shape, report.dropped)
    try:
        output.mkdir(parents=True, exist_ok=True)
        stem = (stem or recording.stem).replace("#", "-").lstrip(".")
        names = (output / f"{stem}#{number:03d}.mp4" for number in range(1, len(kept) + 1))
        _write(progress(all_frames(clip), clip.length), kept, names, rate, rules, report)
    except UserError as error:  # no encoder
        raise OutputError(str(error)) from error
    except (OSError, FFmpegError) as error:
        raise _not_written(output, error, len(report.clips)) from error
    report.dropped.sort(key=lambda part: part.begin)
    return report


def counted(clips: int) -> str:
    """A number of clips, in words."""
    return "1 clip" if clips == 1 else f"{clips} clips"


def look_through(
    frames: Iterator[np.ndarray], rate: Fraction, find: Find, dropped: list[Dropped]
) -> tuple[list[Stretch], int, tuple[int, int]]:
    """Where in a recording a face stays in its place.

    Returns:
        The stretches in order, the number of frames, and their height and width.
    """
    looks = max(1, round(LOOK_SECONDS * rate))
    stretches: list[Stretch] = []
    current: Stretch | None = None
    nothing_since: int | None = 0
    number, shape, cuts = -1, (0, 0), _Cuts(rate)
    for number, frame in enumerate(frames):
        shape = frame.shape[:2]
        cut = cuts.at(frame)
        if cut and current is not None:
            current.last = number - 1
            current = None
        if number % looks and not cut:
            continue
        face = find(frame, current.faces[-1] if current is not None else None)
        if face is None:
            if current is not None and number - current.last > LOST_SECONDS * rate:
                nothing_since, current = current.last + 1, None
            elif current is None and nothing_since is None:
                nothing_since = number
            continue
        if nothing_since is not None and number > nothing_since:
            dropped.append(Dropped(float(nothing_since / rate), float(number / rate), "no face was found"))
        nothing_since = None
        if current is None or not _stays(current, face):
            if current is not None:
                current.last = number - 1
            current = Stretch(number, number)
            stretches.append(current)
        current.faces.append(face)
        current.last = number
    count = number + 1
    if current is not None:
        if count - current.last <= 2 * looks:
            # The face was there at the last look.
            current.last = count - 1
        else:
            nothing_since = current.last + 1
    if nothing_since is not None and count > nothing_since:
        dropped.append(Dropped(float(nothing_since / rate), float(count / rate), "no face was found"))
    return stretches, count, shape


class _Cuts:
    """Detects scene cuts from thumbnails of consecutive frames."""

    def __init__(self, rate: Fraction):
        self._before: np.ndarray | None = None
        self._recent: list[float] = []
        self._memory = max(3, round(rate))

    def at(self, frame: np.ndarray) -> bool:
        """Whether `frame` uint8 RGB (H, W, 3) begins another scene. To be called with every frame
        in turn.
        """
        small = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        before, self._before = self._before, small
        if before is None:
            return False
        change = float(np.abs(small - before).mean())
        usual = float(np.median(self._recent)) if self._recent else 0.0
        cut = change > CUT and change > CUT_TIMES * usual
        self._recent = [] if cut else [*self._recent[1 - self._memory :], change]
        return cut


def _stays(stretch: Stretch, face: Square) -> bool:
    faces = [*stretch.faces, face]
    median = float(np.median([one.side for one in faces]))
    return stretch.faces[0].overlap(face) >= LEAST_OVERLAP and _union(faces).side <= LARGEST_GROWTH * median


def _union(faces: list[Square]) -> Square:
    """The smallest square that holds the heads in all these, with the margin of the median one."""
    edges = []
    for one in faces:
        margin = (1 - HEAD) / 2 * one.side
        edges.append((one.x + margin, one.y + margin, one.x + one.side - margin, one.y + one.side - margin))
    left, top = np.min(edges, axis=0)[:2]
    right, bottom = np.max(edges, axis=0)[2:]
    margin = (1 - HEAD) * float(np.median([one.side for one in faces]))
    side = max(right - left, bottom - top) + margin
    return Square(float(left + right - side) / 2, float(top + bottom - side) / 2, float(side))


def settled(
    stretches: list[Stretch], rate: Fraction, rules: Rules, shape: tuple[int, int], dropped: list[Dropped]
) -> list[Stretch]:
    """The stretches that become clips, each with the square that is cut; reasons for the others go
    to `dropped`.
    """
    smallest = rules.size / 2 if rules.smallest is None else rules.smallest
    kept = []
    for stretch in stretches:
        begin, end = float(stretch.first / rate), float((stretch.last + 1) / rate)
        held = _inside(_union(stretch.faces), rules.margin, shape)
        if end - begin < rules.shortest - 1e-6:
            dropped.append(
                Dropped(begin, end, f"the face stays for less than {rules.shortest:g} s (--shortest)")
            )
        elif held.side < smallest:
            dropped.append(
                Dropped(begin, end, f"the face is small, a square of {held.side:.0f} pixels (--smallest)")
            )
        else:
            pieces = max(1, int(np.ceil((end - begin) / rules.longest - 1e-6)))
            edges = np.linspace(stretch.first, stretch.last + 1, pieces + 1).round().astype(int).tolist()
            kept += [
                Stretch(first, after - 1, stretch.faces, held) for first, after in itertools.pairwise(edges)
            ]
    return kept


def _inside(square: Square, margin: float, shape: tuple[int, int]) -> Square:
    """`square` with a margin, wholly inside the image: repeated edges are nothing to learn from."""
    height, width = shape
    side = float(round(min(square.side * margin, height, width)))
    x = square.x + square.side / 2 - side / 2
    y = square.y + square.side / 2 - side / 2
    return Square(float(np.clip(round(x), 0, width - side)), float(np.clip(round(y), 0, height - side)), side)


def _write(
    frames: Iterator[np.ndarray],
    kept: list[Stretch],
    names: Iterator[Path],
    rate: Fraction,
    rules: Rules,
    report: Prepared,
) -> None:
    """Cut and encode, in one pass over the recording."""
    waiting = iter(kept)
    stretch, file = next(waiting, None), None
    try:
        for number, frame in enumerate(frames):
            if stretch is None:
                break
            if number < stretch.first:
                continue
            if file is None:
                file = VideoWriter(next(names), rate / rules.every, QUALITY)
            if (number - stretch.first) % rules.every == 0:
                assert stretch.held is not None
                file.write(cut(frame, stretch.held, rules.size))
            if number == stretch.last:
                _finish(file, stretch, rate, report)
                stretch, file = next(waiting, None), None
        if file is not None and stretch is not None:
            # The second reading ended earlier than the first; what there is, is whole.
            _finish(file, stretch, rate, report)
            file = None
    finally:
        if file is not None:
            file.discard()


def _finish(file: VideoWriter, stretch: Stretch, rate: Fraction, report: Prepared) -> None:
    file.close()
    report.clips.append(file.path)
    report.kept += float((stretch.last + 1 - stretch.first) / rate)


def _not_written(output: Path, error: Exception, done: int) -> OutputError:
    kept = f"; {counted(done)} of this recording had been finished, and stay whole" if done else ""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return OutputError(
            f"No space is left for {output}: free some, or choose another --output, and run it again{kept}."
        )
    reason = getattr(error, "strerror", None) or error
    return OutputError(
        f"Clips cannot be written to {output} ({reason}): choose another --output, or free the place{kept}."
    )
