"""`livepuppet devices`: what can drive, and where the picture can go."""

from __future__ import annotations

import platform

import click

from livepuppet.realtime.inputs.cameras import CameraInfo, list_cameras
from livepuppet.realtime.outputs.virtual_camera import VIRTUAL_CAMERA_HELP

#: What fits on a line.
_SIZES_PER_LINE, _FORMATS_PER_LINE = 8, 8


def _first(texts: list[str], most: int) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def mode_lines(camera: CameraInfo) -> list[str]:
    """One line per list of sizes, with the pixel formats that have it; the largest size first, at its highest rate."""
    formats: dict[str, dict[tuple[int, int], float]] = {}
    for mode in camera.modes:
        sizes = formats.setdefault(mode.pixel_format, {})
        size = (mode.width, mode.height)
        sizes[size] = max(sizes.get(size, 0.0), *mode.rates, 0.0)
    names_of: dict[str, list[str]] = {}
    for name, sizes in formats.items():
        ordered = sorted(sizes.items(), key=lambda item: item[0][0] * item[0][1], reverse=True)
        texts = [f"{width}x{height}" + (f" at {rate:g}" if rate else "") for (width, height), rate in ordered]
        names_of.setdefault(_first(texts, _SIZES_PER_LINE), []).append(name)
    return [f"{_first(names, _FORMATS_PER_LINE)}: {sizes}" for sizes, names in names_of.items()]


def report(cameras: list[CameraInfo], system: str) -> list[str]:
    """The whole answer, line by line.

    Args:
        cameras: of `list_cameras`.
        system: `platform.system()`.
    """
    real = [camera for camera in cameras if not camera.virtual]
    virtual = [camera for camera in cameras if camera.virtual]
    lines = ["Cameras"]
    for camera in real:
        state = f" - cannot be opened ({camera.problem})" if camera.problem else ""
        lines.append(f"  {camera.number}  {camera.name}{state}")
        lines += [f"       {line}" for line in mode_lines(camera)]
    if not real:
        lines.append(
            "  none: plug one in, close other programs that use it, and allow camera access in the system's"
        )
        lines.append("  privacy settings; a video file drives as well (--driving FILE)")
    lines += ["", "Virtual cameras"]
    for camera in virtual:
        name = camera.path or camera.name
        state = "fed by a program, can be read" if camera.capture and system == "Linux" else "free"
        use = f"--output virtual:{name}" if system == "Linux" else "--output virtual"
        lines.append(f"  {name}  {camera.name}  ({state if system == 'Linux' else 'installed'}; {use})")
    if not virtual:
        lines.append(f"  none: {VIRTUAL_CAMERA_HELP.get(system, 'see the README')}")
    return lines


@click.command(short_help="List cameras and virtual cameras.")
def devices() -> None:
    """List cameras with their modes, and virtual cameras, and say what to do where there is none."""
    for line in report(list_cameras(), platform.system()):
        click.echo(line)
