"""A folder of lossless pictures."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.images import encode_png
from livepuppet.realtime.outputs.badge import Badge, tagged_png
from livepuppet.realtime.outputs.base import Output


class ImageFolder(Output):
    """Lossless PNGs, 000000.png and on, in a folder that is made if needed; with alpha where there
    is any.

    Args:
        folder: where to.
        synthetic: draw the badge into every picture, and say in its text chunks and XMP that it is
            synthetic.

    Raises:
        UserError: if the folder cannot be made, or frames of an earlier run lie in it.
    """

    takes_alpha = True
    queue = 8
    kept = True

    def __init__(self, folder: Path, synthetic: bool = False):
        self.folder = Path(folder)
        self.name = str(folder)
        self.count = 0
        self._synthetic = synthetic
        self._badge: Badge | None = None
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
            data = self._encode(picture)
            # Frames of an earlier run, and avatars, stay.
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            raise UserError(
                f"{path} is there already: choose an empty folder for --output; the {self.count} frames before it stay "
                "there."
            ) from None
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise UserError(
                f"{path} cannot be written ({error.strerror}): free some space or choose another --output; the "
                f"{self.count} frames before it stay there."
            ) from error
        self.count += 1

    def _encode(self, picture: np.ndarray) -> bytes:
        if self._synthetic:
            if self._badge is None:
                self._badge = Badge(picture.shape[1], picture.shape[0])
            picture = picture.copy()
            self._badge.draw(picture)
        data = encode_png(picture)
        return tagged_png(data) if self._synthetic else data
