"""Raw pictures for another program: through standard output, or a named pipe."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.names import local_path
from livepuppet.core.streams import was_closed
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.yuv import Yuv420

#: Layouts of a picture in the pipe, by FFmpeg's names. The YUV ones are BT.601 in limited range.
FORMATS = ("rgb24", "rgba", "yuv420p", "nv12")

#: Bytes the system may keep between us and the reader: fewer, longer steps, and still less than a
#: picture.
_ROOM = 1 << 20


class RawPipe(Output):
    """Pictures without any header, one after the other, top row first, at the pace of the source.

    Args:
        width, height: of the pictures, in pixels; even for the YUV formats.
        pixel_format: one of `FORMATS`. Where a picture without alpha goes out as rgba, it is
            opaque.
        path: of a named pipe, which is made where it is missing; None for standard output. Whatever
            else would be printed there goes to standard error from now on.

    Raises:
        UserError: if standard output is a terminal, or the named pipe cannot be made.
    """

    def __init__(self, width: int, height: int, pixel_format: str = "rgb24", path: Path | None = None):
        if pixel_format not in FORMATS:
            raise UserError(
                f"There is no pixel format '{pixel_format}' for a pipe: give one of {', '.join(FORMATS)}."
            )
        self._format, self._path = pixel_format, path
        self._yuv = None
        if pixel_format in ("yuv420p", "nv12"):
            self._yuv = Yuv420(width, height, "i420" if pixel_format == "yuv420p" else "nv12")
        self._rgba = np.empty((height, width, 4), np.uint8) if pixel_format == "rgba" else None
        self.takes_alpha = pixel_format == "rgba"
        self._file: int | None = None
        if path is None:
            self.name = "pipe"
            self._file = _take_standard_output()
            _make_roomy(self._file)
        else:
            self.name = f"pipe:{path}"
            # Readers of a named pipe come and go.
            self.retry = 1.0
            _make_pipe(path)

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        if self._file is None:
            self.reopen()
        file = self._file
        assert file is not None
        rest = self._converted(picture).data.cast("B")
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError as error:
            self.close()
            again = (
                "start it again"
                if self._path
                else "end with Ctrl-C, and start both again if that was not meant"
            )
            raise UserError(
                f"The program that read the pictures from {self._path or 'standard output'} is gone "
                f"({error.strerror}): {again}."
            ) from error

    def _converted(self, picture: np.ndarray) -> np.ndarray:
        if self._yuv is not None:
            return self._yuv.convert(picture)
        if self._rgba is not None and picture.shape[2] == 3:
            return cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA, dst=self._rgba)
        return np.ascontiguousarray(picture)

    def reopen(self) -> None:
        assert self._path is not None  # standard output is never opened again
        try:
            # Otherwise this would wait for a reader.
            self._file = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise UserError(f"Nobody reads {self._path} yet: start the program that shall.") from error
        os.set_blocking(self._file, True)
        _make_roomy(self._file)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)


def _take_standard_output() -> int:
    """A descriptor of standard output for us alone; prints go to standard error from now on."""
    sys.stdout.flush()
    try:
        if was_closed(1):
            raise OSError(0, "it is closed")
        if os.isatty(1):
            raise UserError(
                "Standard output is a terminal: pipe it into a program, as in livepuppet run --output pipe | ffplay ..., "
                "or give pipe:PATH."
            )
        file = os.dup(1)
        os.dup2(2, 1)
    except OSError as error:
        raise UserError(
            f"There is no standard output to write to ({error.strerror}): give pipe:PATH."
        ) from error
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(file, os.O_BINARY)
    return file


def _make_pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        raise UserError("This system has no named pipes in folders: use --output pipe.")
    try:
        if not Path(path).exists():
            os.mkfifo(path)
    except OSError as error:
        raise UserError(
            f"The pipe {path} cannot be made ({error.strerror}): choose another place."
        ) from error
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        raise UserError(f"{path} is there already and no pipe: choose another place.")


def _make_roomy(file: int) -> None:
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, _ROOM)


def parse_pipe(text: str) -> tuple[str, Path | None]:
    """Pixel format and path from what follows `pipe:`; a format, a path, FORMAT:PATH, or nothing."""
    first, _, rest = text.partition(":")
    if first in FORMATS:
        return first, local_path(rest, "the pipe") if rest else None
    return "rgb24", local_path(text, "the pipe") if text else None
