"""Clips on disk: list a folder by headers alone, and decode the frames of a clip on demand.

A clip is a video, an animated image, a folder of frames or a *stacked image*: one image whose
square frames lie side by side, first to last, as Monkey-Net's data sets are stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from livepuppet.core import images
from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.images import BEHIND_ALPHA_IN_TRAINING, frame_to_rgb, natural_key, over_gray

VIDEOS = {
    *(
        ".mp4",
        ".m4v",
        ".mov",
        ".webm",
        ".mkv",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
    ),
    *(".ogv", ".3gp"),
}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
ANIMATIONS = {".gif", ".apng"}

#: Files beside clips (lists, licences and the like), which are ignored silently.
NOT_CLIPS = {
    ".txt",
    ".md",
    ".json",
    ".jsonl",
    ".csv",
    ".tsv",
    ".yaml",
    ".yml",
    ".py",
    ".toml",
    ".npz",
    ".npy",
}

#: What an image's decoder, a video's decoder and the system raise about files that are damaged or
#: out of reach.
DAMAGED = (FFmpegError, UnidentifiedImageError, Image.DecompressionBombError, OSError, EOFError)
UNREADABLE = (*DAMAGED, SyntaxError, ValueError, IndexError, cv2.error)

#: Videos of up to this many frames are decoded in full instead of seeking.
SHORT = 300


class DataError(LivePuppetError, ValueError):
    """Data that cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Clip:
    """One clip, by its header.

    Attributes:
        path: the file or the folder of frames.
        kind: `video`, `animation`, `frames` (a folder) or `stacked`.
        length: number of frames; a damaged video may yield fewer.
        width, height: of one frame, in pixels.
        files: names of the frames, for a folder.
    """

    path: Path
    kind: str
    length: int
    width: int
    height: int
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """File or folder name, with its suffix: what pair lists call it."""
        return self.path.name

    @property
    def identity(self) -> str:
        """Who is shown: the part of the name before `#`, by FOMM's convention, or the name's stem."""
        return self.path.name.split("#")[0] if "#" in self.path.name else self.path.stem


def part_of(folder: Path, part: str | None) -> Path:
    """Where the clips of `part` ("train", "test") lie: the sub-folder of that name, or `folder` if
    it is not split.

    Raises:
        DataError: if there is no such folder, or it is split and lacks that part.
    """
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"There is no folder {folder}: give one that holds videos or folders of frames.")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file: give the folder that holds the clips.")
    if part is None:
        return folder
    if (folder / part).is_dir():
        return folder / part
    other = {"train": "test", "test": "train"}.get(part)
    if other and (folder / other).is_dir():
        raise DataError(
            f"{folder} has a folder {other}/ but no {part}/: make one, or give a folder of clips."
        )
    return folder


def entries(folder: Path) -> list[Path]:
    """Everything in `folder` that claims to be a clip, sorted by name. Raises DataError."""
    return [
        folder / entry.name
        for entry in _listed(folder)
        if entry.is_dir() or os.path.splitext(entry.name)[1].lower() not in NOT_CLIPS
    ]


def _listed(folder: Path) -> list[os.DirEntry]:
    try:
        found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be read ({error.strerror}): check its permissions."
        ) from error
    return sorted(found, key=lambda entry: natural_key(entry.name))


def open_clip(path: Path) -> Clip:
    """What `path` holds, by its header or its list of frames; nothing is decoded.

    Raises:
        DataError: if it is no clip of at least two frames.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            clip = _open_folder(path)
        elif suffix in VIDEOS:
            clip = _open_video(path)
        elif suffix in IMAGES | ANIMATIONS:
            clip = _open_image(path)
        else:
            raise DataError(f"{path.name} is neither a video, nor an image, nor a folder of frames.")
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name} cannot be read ({_reason(error)}): replace or remove it.") from error
    if clip.length < 2:
        if clip.kind == "stacked":
            raise DataError(
                f"{path.name} is a single image: put the frames of a clip into a folder of their own."
            )
        raise DataError(f"{path.name} holds fewer than two frames.")
    return clip


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else ""
    # Without the path that some of them repeat.
    return re.split(r":? ['\"<]", text)[0].rstrip(".") or type(error).__name__


def _open_folder(path: Path) -> Clip:
    names = tuple(entry.name for entry in _listed(path) if os.path.splitext(entry.name)[1].lower() in IMAGES)
    if not names:
        raise DataError(f"{path.name}/ holds no images.")
    width, height = _size_in(path, names[0])
    # The ends are enough to notice most weight_interpolations; the rest is found when it is
    # decoded, or by --check-data.
    for name in {names[len(names) // 2], names[-1]}:
        other = _size_in(path, name)
        if other != (width, height):
            raise mixed_sizes(path, names[0], (width, height), name, other)
    return Clip(path, "frames", len(names), width, height, names)


def _size_in(folder: Path, name: str) -> tuple[int, int]:
    try:
        return image_size(folder / name)
    except UNREADABLE as error:
        raise broken_frame(folder, name, error) from error


def broken_frame(folder: Path, name: str, error: Exception) -> DataError:
    """The error about a frame that cannot be decoded."""
    return DataError(f"{folder.name}/{name} cannot be read ({_reason(error)}): replace or remove it.")


def mixed_sizes(folder: Path, name: str, size: tuple, other_name: str, other: tuple) -> DataError:
    """The error about a folder whose frames differ in size."""
    return DataError(
        f"{folder.name}/ mixes frames of different sizes ({name} is {size[0]}x{size[1]}, {other_name} "
        f"{other[0]}x{other[1]}): keep one clip with one size per folder."
    )


def _open_video(path: Path) -> Clip:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        # Many formats do not say; counting packets reads the file, but decodes nothing.
        count = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
    return Clip(path, "video", count, width, height)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height by the header. Raises one of `UNREADABLE`."""
    with Image.open(path) as image:
        return image.size


def _open_image(path: Path) -> Clip:
    with Image.open(path) as image:
        width, height = image.size
        count = getattr(image, "n_frames", 1)
        if count > 1 or path.suffix.lower() in ANIMATIONS:
            return Clip(path, "animation", count, width, height)
    count = width // height if width % height == 0 else 1
    return Clip(path, "stacked", count, height if count > 1 else width, height)


def list_clips(folder: Path) -> tuple[list[Clip], list[str]]:
    """The clips directly inside `folder`, sorted by name, and a sentence for each entry that is
    none.

    Raises:
        DataError: if the folder cannot be listed, or holds no clip at all.
    """
    clips, skipped = [], []
    for path in entries(folder):
        try:
            clips.append(open_clip(path))
        except DataError as error:
            skipped.append(str(error))
    if not clips:
        raise nothing_in(folder, skipped)
    return clips, skipped


def nothing_in(folder: Path, skipped: Sequence[str]) -> DataError:
    """The error about a folder without a single usable clip."""
    if not skipped:
        return DataError(
            f"{folder} is empty: put videos, folders of frames or stacked images into it, one per clip."
        )
    more = f" ({len(skipped) - 1} more like it)" if len(skipped) > 1 else ""
    return DataError(f"{folder} holds no clip that can be used; the first problem{more}: {skipped[0]}")


def read_frames(clip: Clip, wanted: Sequence[int] | None = None, side: int | None = None) -> np.ndarray:
    """Decode frames.

    Args:
        wanted: their numbers, ascending; all by default.
        side: frames whose shorter edge is longer are shrunk to it. Smaller ones stay as they are
            (see `at_size`).

    Returns:
        uint8 RGB (T, s, s, 3), the centred square of each frame, transparency on white as in MGif.
        Where a damaged video ends early, its last frame stands for those that are missing.

    Raises:
        DataError: if it cannot be decoded.
    """
    wanted = range(clip.length) if wanted is None else wanted
    try:
        if clip.kind == "stacked":
            frames = _stacked(clip, wanted)
        elif clip.kind == "frames":
            frames = (_frame_of_folder(clip, number) for number in wanted)
        else:
            frames = _picked(_decoded(clip), wanted)
        images = [_square(frame, side) for frame in frames]
    except UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{clip.name} cannot be read ({_reason(error)}): replace or remove it.") from error
    if not images or (len(images) < 2 <= len(wanted)):
        raise DataError(f"{clip.name} is damaged: fewer than two of its {clip.length} frames can be decoded.")
    images += [images[-1]] * (len(wanted) - len(images))
    return np.stack(images)


def sample_frames(clip: Clip, count: int, side: int) -> np.ndarray:
    """`count` frames spread over the clip, or fewer: uint8 RGB (T, s, s, 3). Long videos are jumped
    through, not decoded.

    Raises:
        DataError: if fewer than two can be decoded.
    """
    wanted = np.linspace(0, clip.length - 1, min(count, clip.length)).round().astype(int).tolist()
    if clip.kind != "video" or clip.length <= SHORT:
        return read_frames(clip, wanted, side)
    try:
        images = [_square(frame, side) for frame in _jumped(clip, len(wanted))]
    except UNREADABLE as error:
        raise DataError(f"{clip.name} cannot be read ({_reason(error)}): replace or remove it.") from error
    if len(images) < 2:
        raise DataError(f"{clip.name} is damaged: fewer than two of its {clip.length} frames can be decoded.")
    return np.stack(images)


def _jumped(clip: Clip, count: int) -> Iterator[np.ndarray]:
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        begin, duration = (container.start_time or 0) / av.time_base, (container.duration or 0) / av.time_base
        for share in np.linspace(0, 1, count, endpoint=False):
            target = begin + float(share) * duration
            container.seek(int(target * av.time_base))
            # A jump ends at the key frame before; identical frames would look like a clip without
            # motion.
            for number, frame in enumerate(container.decode(stream)):
                if number >= SHORT or frame.time is None or frame.time >= target:
                    yield frame_to_rgb(frame, BEHIND_ALPHA_IN_TRAINING)
                    break


def all_frames(clip: Clip) -> Iterator[np.ndarray]:
    """Every frame in its full size, one after the other: uint8 RGB (H, W, 3). A damaged end is left
    out.

    Raises:
        DataError: if nothing can be decoded.
    """
    count = 0
    try:
        if clip.kind == "stacked":
            frames = ((lambda f=frame: f) for frame in _stacked(clip, range(clip.length)))
        elif clip.kind == "frames":
            frames = ((lambda n=number: _frame_of_folder(clip, n)) for number in range(clip.length))
        else:
            frames = _decoded(clip)
        for frame in frames:
            image = frame()
            count += 1
            yield image
    except UNREADABLE as error:
        if count < 2:
            reason = str(error) if isinstance(error, DataError) else _reason(error)
            raise DataError(f"{clip.name} cannot be read ({reason}): replace or remove it.") from error


def at_size(frames: np.ndarray, size: int) -> np.ndarray:
    """Square frames uint8 (T, s, s, 3) in another size: areas are ema_weights when they downsample,
    cubic when they grow.
    """
    if frames.shape[1] == size:
        return frames
    return np.stack([_resized(frame, size) for frame in frames])


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    way = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_CUBIC
    return cv2.resize(image, (size, size), interpolation=way)


def _square(image: np.ndarray, side: int | None) -> np.ndarray:
    edge = min(image.shape[:2])
    top, left = (image.shape[0] - edge) // 2, (image.shape[1] - edge) // 2
    image = image[top : top + edge, left : left + edge]
    return _resized(image, side) if side is not None and edge > side else image


def _picked(frames: Iterator[Callable[[], np.ndarray]], wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """The `wanted` ones of a stream of frames, which is not read any further than needed."""
    last, numbers = wanted[-1], set(wanted)
    try:
        for number, frame in enumerate(frames):
            if number in numbers:
                yield frame()
            if number >= last:
                return
    except DAMAGED:
        # What was decoded until here is good; `read_frames` decides whether it is enough.
        return


def _decoded(clip: Clip) -> Iterator:
    """A function per frame, in order, that gives its pixels: those that are not wanted need not be
    converted.
    """
    if clip.kind == "animation":
        with Image.open(clip.path) as image:
            for number in range(clip.length):
                image.seek(number)
                yield lambda: over_gray(np.asarray(image.convert("RGBA")), BEHIND_ALPHA_IN_TRAINING)
    else:
        with av.open(str(clip.path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                yield lambda frame=frame: frame_to_rgb(frame, BEHIND_ALPHA_IN_TRAINING)


def read_picture(path: Path) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), transparency on white. Raises OSError or ValueError."""
    try:
        return images.read_picture(path, BEHIND_ALPHA_IN_TRAINING, strict=True)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise ValueError("it is damaged or no image") from error


def _stacked(clip: Clip, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    image, side = read_picture(clip.path), clip.height
    return (image[:, number * side : (number + 1) * side] for number in wanted)


def _frame_of_folder(clip: Clip, number: int) -> np.ndarray:
    path = clip.path / clip.files[number]
    try:
        image = read_picture(path)
    except UNREADABLE as error:
        raise broken_frame(clip.path, path.name, error) from error
    if min(image.shape[:2]) != min(clip.width, clip.height):
        raise mixed_sizes(clip.path, clip.files[0], (clip.width, clip.height), path.name, image.shape[1::-1])
    return image
