"""Clips on disk: list a folder by headers alone, and read the frames of a clip on demand.

Pictures and videos are decoded by `core.images` and `core.video`; this is what a data set adds:
which files are clips, white under transparency, squares, and one sentence for what cannot be used.

A clip is a video, an animated image, a folder of frames or a *stacked image*: one image whose
square frames lie side by side, first to last, as Monkey-Net's data sets are stored.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

from livepuppet.core import images
from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.images import BEHIND_ALPHA_IN_TRAINING, natural_key
from livepuppet.core.video import DEFAULT_RATE, AnimatedWebP, ImageSequence, open_video
from livepuppet.core.video import Clip as VideoClip

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
UNREADABLE = (
    *(FFmpegError, UnidentifiedImageError, Image.DecompressionBombError, OSError, EOFError),
    *(SyntaxError, ValueError, IndexError, cv2.error),
)

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
    with _opened(path) as video:
        return Clip(path, "video", video.count(), video.width, video.height)


def _opened(path: Path) -> VideoClip | AnimatedWebP:
    """The clip's reader, transparency on white. Raises DataError."""
    try:
        video = open_video(path, behind=BEHIND_ALPHA_IN_TRAINING)
    except UserError as error:
        reason = _reason(error.__cause__) if isinstance(error.__cause__, Exception) else "it has no picture"
        raise DataError(f"{path.name} cannot be read ({reason}): replace or remove it.") from error
    assert not isinstance(video, ImageSequence)
    return video


def frame_rate(clip: Clip) -> Fraction:
    """Frames per second as the file says, or 25: of images, and of files that do not say."""
    rate = DEFAULT_RATE
    if clip.kind in ("video", "animation"):
        with contextlib.suppress(DataError), _opened(clip.path) as video:
            rate = video.rate
    return rate if 1 <= rate <= 1000 else DEFAULT_RATE


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
        images = [_square(frame, side) for frame in _frames(clip, wanted)]
    except UNREADABLE as error:
        raise _unreadable(clip, error) from error
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
        raise _unreadable(clip, error) from error
    if len(images) < 2:
        raise DataError(f"{clip.name} is damaged: fewer than two of its {clip.length} frames can be decoded.")
    return np.stack(images)


def _jumped(clip: Clip, count: int) -> Iterator[np.ndarray]:
    with _opened(clip.path) as video:
        assert isinstance(video, VideoClip)
        for share in np.linspace(0, 1, count, endpoint=False):
            image = video.image_at(float(share) * (video.seconds or 0.0), SHORT)
            if image is not None:
                yield image


def all_frames(clip: Clip) -> Iterator[np.ndarray]:
    """Every frame in its full size, one after the other: uint8 RGB (H, W, 3). A damaged end is left
    out.

    Raises:
        DataError: if nothing can be decoded.
    """
    count = 0
    try:
        for image in _frames(clip, range(clip.length) if clip.kind in ("stacked", "frames") else None):
            count += 1
            yield image
    except UNREADABLE as error:
        if count < 2:
            raise _unreadable(clip, error) from error
    if count < 2:
        raise DataError(f"{clip.name} is damaged: fewer than two of its {clip.length} frames can be decoded.")


def _unreadable(clip: Clip, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    return DataError(f"{clip.name} cannot be read ({_reason(error)}): replace or remove it.")


def _frames(clip: Clip, wanted: Sequence[int] | None) -> Iterator[np.ndarray]:
    """The `wanted` frames in their full size, uint8 RGB (H, W, 3); None is every frame that a video
    has.
    """
    if clip.kind == "stacked":
        assert wanted is not None
        yield from _stacked(clip, wanted)
    elif clip.kind == "frames":
        assert wanted is not None
        for number in wanted:
            yield _frame_of_folder(clip, number)
    else:
        numbers = None if wanted is None else set(wanted)
        left = None if numbers is None else len(numbers)
        with _opened(clip.path) as video:
            for frame in video.frames(numbers):
                yield frame.image
                if left is not None:
                    left -= 1
                    if not left:
                        # Not read any further than needed.
                        return


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


def read_image(path: Path) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), transparency on white. Raises OSError or ValueError."""
    try:
        return images.read_image(path, BEHIND_ALPHA_IN_TRAINING, strict=True)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise ValueError("it is damaged or no image") from error


def _stacked(clip: Clip, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    image, side = read_image(clip.path), clip.height
    return (image[:, number * side : (number + 1) * side] for number in wanted)


def _frame_of_folder(clip: Clip, number: int) -> np.ndarray:
    path = clip.path / clip.files[number]
    try:
        image = read_image(path)
    except UNREADABLE as error:
        raise broken_frame(clip.path, path.name, error) from error
    if min(image.shape[:2]) != min(clip.width, clip.height):
        raise mixed_sizes(clip.path, clip.files[0], (clip.width, clip.height), path.name, image.shape[1::-1])
    return image
