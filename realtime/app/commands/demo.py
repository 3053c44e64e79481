"""`livepuppet demo`: no arguments, no set-up."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.app.commands.animate import with_progress
from livepuppet.realtime.app.commands.run import notify, run_live
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.app.window import display_problem
from livepuppet.realtime.inputs.cameras import CameraInfo, list_cameras

VIDEO_NAME = "livepuppet-demo.mp4"

#: Side of each of its three pictures in pixels: the bundled avatar's own.
DEMO_SIDE = 512


def first_camera() -> CameraInfo | None:
    """The first camera that is not fed by a program, or None."""
    with suppress(Exception):
        return next(
            (
                camera
                for camera in list_cameras()
                if camera.capture and not camera.virtual and not camera.problem
            ),
            None,
        )
    return None


def place_for_video() -> Path:
    """In the current folder, or in the temporary one where nothing can be written here."""
    here = Path.cwd()
    folder = here if os.access(here, os.W_OK) else Path(tempfile.gettempdir())
    return folder / VIDEO_NAME


def write_demo_video(output: Path) -> None:
    """Animate the bundled avatar with the bundled clip, side by side, and say where it lies and how
    fast it was.
    """
    result = with_progress(
        bundled.AVATAR, str(bundled.DRIVING), str(output), side_by_side=True, side=DEMO_SIDE
    )
    click.echo(
        f"Wrote {output}: the driver, the picture, and the picture moved by the driver, {result.frames} frames in "
        f"{result.seconds:.1f} s ({result.frames / max(result.seconds, 1e-9):.0f} frames per second, {result.provider})."
    )


@click.command(short_help="Try it: live with a webcam, else a video of the bundled avatar.")
def demo() -> None:
    """Try it. With a webcam and a screen, you move a puppet in a window; without, a video of it is
    written here.
    """
    camera = first_camera()
    problem = "there is no camera" if camera is None else display_problem()
    if camera is not None and problem is None:
        try:
            wanted = merge(
                Settings(), {"driving": str(camera.number), "outputs": ("window",), "mirror": True}
            )
            notify(run_live(wanted).live.stats.sentence())
            return
        except UserError as error:
            problem = str(error).rstrip(".")
    notify(f"No live window ({problem}), so a video is made instead.")
    write_demo_video(place_for_video())
