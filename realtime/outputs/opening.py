"""Where the moving picture goes: a virtual camera, a video file, a folder of PNGs, a browser, a
pipe, or nowhere.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.names import STDIN, is_url, path_of
from livepuppet.realtime.outputs.base import Output

#: Video files that can be written. Others would need other codecs than H.264 and AAC.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")


class Nowhere(Output):
    """Takes pictures and forgets them: for measuring, and for driving only the statistics."""

    name = "none"
    takes_alpha = True

    def write(self, picture: np.ndarray, time: Fraction, duration: Fraction | None = None) -> None:
        pass


def is_video_name(text: str) -> bool:
    return Path(text).suffix.lower() in VIDEO_SUFFIXES


def check_file_output(text: str) -> None:
    """Raise UserError unless `text` can name a video file or a folder of PNGs."""
    path_of(text, "the output")
    if text == STDIN:
        raise UserError("'-' is no name of an output: give a file, or ./- for a folder of that name.")
    if is_url(text):
        raise UserError(f"The output {text} is an address: give a file or a folder.")
    suffix = Path(text).suffix.lower()
    if (
        suffix
        and suffix not in VIDEO_SUFFIXES
        and not os.path.isdir(os.path.expanduser(text))
        and not text.endswith(("/", os.sep))
    ):
        raise UserError(
            f"The output {text} is no video this tool writes: give a name in {' or '.join(VIDEO_SUFFIXES)}, or a folder."
        )
