"""What `--driving` means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from livepuppet.core.errors import UserError
from livepuppet.core.names import is_pipe, is_url, path_of, readable
from livepuppet.realtime.inputs.cameras import find_camera, is_camera
from livepuppet.realtime.inputs.capture import Capture, LiveSource
from livepuppet.realtime.inputs.playback import open_playback
from livepuppet.realtime.inputs.screen import Screen, is_screen
from livepuppet.realtime.inputs.webcam import Camera


def open_source(
    driving: str,
    camera_size: tuple[int, int] = (1280, 720),
    camera_rate: float = 30.0,
    pixel_format: str = "MJPG",
    loop: bool = False,
    not_these: Sequence[str] = (),
) -> LiveSource:
    """Open what drives.

    Args:
        driving: a camera (`auto`, its number, /dev/video0, `camera:NAME` or just a part of its
            name), a video file, a folder of pictures, an address (RTSP, MJPEG or a video over
            HTTP), a pipe (`-` is standard input), or the screen (`screen`, `screen:N`,
            `screen:X,Y,WxH`). An existing file wins over a camera of that name.
        camera_size: width and height to ask of a camera.
        camera_rate: frames per second to ask of a camera, and to read the screen with.
        pixel_format: to ask of a camera, as four letters.
        loop: play files and folders again and again.
        not_these: device files, numbers or names of our own virtual cameras, which must not drive.

    Raises:
        UserError: if it cannot be opened.
    """
    driving = readable(path_of(driving, "what drives"))
    if not is_camera(driving) and (is_url(driving) or is_pipe(driving) or Path(driving).exists()):
        return open_playback(driving, loop)
    if is_screen(driving):
        return Screen(driving, camera_rate)
    looks_like_a_file = "." in Path(driving).name or "/" in driving or "\\" in driving
    if not is_camera(driving) and looks_like_a_file:
        raise UserError(
            f"There is no file {driving}: check its name, or give a camera (livepuppet devices lists them)."
        )
    return Camera(find_camera(driving, not_these), *camera_size, camera_rate, pixel_format)


def open_camera(
    camera: int | str = "auto",
    size: tuple[int, int] = (1280, 720),
    rate: float = 30.0,
    pixel_format: str = "MJPG",
) -> Capture:
    """Open a camera. Iterate over it for its newest frames; those that come while nobody asks are
    skipped.

        with open_camera() as camera:
            for frame in camera:
                frame.image, frame.time        # RGB uint8 (H, W, 3), seconds since the first frame

    Args:
        camera: its number, `/dev/video0`, a part of its name, or `auto` for the first real one; an
            address (RTSP, MJPEG) or `screen` as well.
        size, rate, pixel_format: to ask of the camera, in pixels, frames per second and as four
            letters.

    Raises:
        UserError: it cannot be opened.
    """
    return Capture(open_source(str(camera), size, rate, pixel_format))
