"""Where the moving picture goes: a virtual camera, a window, a video file, a folder of PNGs, or nowhere."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from livepuppet.realtime.errors import UserError
from livepuppet.realtime.outputs.video import VideoFile
from livepuppet.realtime.outputs.virtual_camera import VirtualCamera
from livepuppet.realtime.outputs.window import Window
from livepuppet.realtime.pictures import write_png

#: Video files that can be written. Others would need other codecs than H.264 and AAC.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")


class Output(Protocol):
    """Takes finished pictures, in order.

    Attributes:
        name: how to speak of it.
    """

    name: str

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        """Hand over uint8 RGB (H, W, 3) of one fixed size.

        Args:
            time: seconds since the first picture, growing.
            duration: seconds it is to be shown, where known (it matters for the last one).

        Raises:
            UserError: if it can take no more.
        """

    def close(self) -> None:
        """Finish and release everything. Safe to call twice."""


class Nowhere:
    """Takes pictures and forgets them: for measuring, and for driving only the statistics."""

    name = "none"

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        pass

    def close(self) -> None:
        pass


class PictureFolder:
    """Lossless PNGs, 000000.png and on, in a folder that is made if needed.

    Raises:
        UserError: if the folder cannot be made, or frames of an earlier run lie in it.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.name = str(folder)
        self.count = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {folder} cannot be made ({error.strerror}): choose another --output."
            ) from error
        if self._path(0).exists():
            raise UserError(
                f"The folder {folder} already holds frames: empty it, or choose another --output."
            )

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.png"

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        path = self._path(self.count)
        try:
            write_png(path, picture)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space or choose another --output; the "
                f"{self.count} frames before it stay there."
            ) from error
        self.count += 1

    def close(self) -> None:
        pass


def is_video_name(text: str) -> bool:
    return Path(text).suffix.lower() in VIDEO_SUFFIXES


def check_file_output(text: str) -> None:
    """Raise UserError unless `text` can name a video file or a folder of PNGs."""
    suffix = Path(text).suffix.lower()
    if (
        suffix
        and suffix not in VIDEO_SUFFIXES
        and not Path(text).is_dir()
        and not text.endswith(("/", os.sep))
    ):
        raise UserError(
            f"The output {text} is no video this tool writes: give a name in {' or '.join(VIDEO_SUFFIXES)}, or a folder."
        )


def open_live_output(text: str, width: int, height: int, rate: float) -> Output:
    """`virtual[:DEVICE]`, `window`, `none`, a video file or a folder, for pictures of `width` x `height` pixels.

    Raises:
        UserError: if it cannot be opened.
    """
    kind, _, rest = text.partition(":")
    if kind == "virtual":
        return VirtualCamera(rest or None, width, height, rate)
    if text == "window":
        return Window(width, height)
    if text == "none":
        return Nowhere()
    check_file_output(text)
    if is_video_name(text):
        return VideoFile(Path(text), width, height, Fraction(rate).limit_denominator(1001), live=True)
    return PictureFolder(Path(text))
