"""What `--output` means."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from livepuppet.core.errors import UserError
from livepuppet.core.names import path_of
from livepuppet.core.numbers import is_whole
from livepuppet.realtime.outputs.base import Output
from livepuppet.realtime.outputs.folder import ImageFolder
from livepuppet.realtime.outputs.live_sound import LiveSound, SoundFeed
from livepuppet.realtime.outputs.opening import Nowhere, check_file_output, is_video_name
from livepuppet.realtime.outputs.video import VideoFile

#: How the outputs of a live run are written, in the words of its help; `window` belongs to the main
#: thread, `studio` to the session.
OUTPUT_KINDS = "virtual[:DEVICE]|window|studio[:PORT]|FILE.mp4|FOLDER|http[:PORT]|pipe[:FORMAT][:PATH]|none"


def is_file_output(text: str) -> bool:
    """Whether an output is a recording: a file or a folder."""
    kind = text.partition(":")[0]
    return text not in ("window", "none") and kind not in ("virtual", "http", "pipe", "studio")


def is_studio(text: str) -> bool:
    """Whether an output is the studio, see `app.studio`."""
    return text.partition(":")[0] == "studio"


def open_live_output(
    text: str,
    width: int,
    height: int,
    rate: float,
    *,
    synthetic: bool = True,
    sound: SoundFeed | None = None,
    pixel_format: str = "i420",
) -> Output:
    """One of `OUTPUT_KINDS` but the window and the studio, for pictures of `width` x `height` pixels.

    Args:
        rate: pictures per second to announce, where that is done.
        synthetic: recordings say in the picture and in their tags that they are synthetic.
        sound: for a video file, which closes it. Each recording needs a feed of its own.
        pixel_format: of a virtual camera, `i420` or `nv12`.

    Raises:
        UserError: if it cannot be opened.
    """
    kind, _, rest = text.partition(":")
    if kind == "virtual":
        from livepuppet.realtime.outputs.virtual_camera import VirtualCamera

        return VirtualCamera(width, height, rate, rest or None, pixel_format)
    if kind == "http":
        from livepuppet.realtime.app.http_stream import DEFAULT_PORT, HttpStream

        if rest and not (is_whole(rest) and 0 < int(rest) < 65_536):
            raise UserError(f"The output {text} has no port: give http, or a number as in http:8643.")
        return HttpStream(width, height, int(rest) if rest else DEFAULT_PORT)
    if kind == "pipe":
        from livepuppet.realtime.outputs.pipe import RawPipe, parse_pipe

        return RawPipe(width, height, *parse_pipe(rest))
    if text == "none":
        return Nowhere()
    if text == "window":
        raise ValueError("a window belongs to the main thread: use app.window.Window")
    check_file_output(text)
    name = path_of(text, "the output")
    if not is_video_name(name):
        return ImageFolder(Path(name), synthetic)
    try:
        return VideoFile(
            Path(name),
            width,
            height,
            Fraction(rate).limit_denominator(1001),
            live=True,
            sound=LiveSound(sound) if sound is not None else None,
            synthetic=synthetic,
        )
    except UserError:
        if sound is not None:
            sound.close()
        raise
