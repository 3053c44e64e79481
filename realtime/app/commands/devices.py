"""`livepuppet devices`: what can drive, and where the picture can go."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import click

from livepuppet.realtime.inputs.cameras import CameraInfo, first_real, list_cameras
from livepuppet.realtime.inputs.screen import list_monitors
from livepuppet.realtime.outputs.virtual_camera import VIRTUAL_CAMERA_HELP

#: What fits on a line.
_SIZES_PER_LINE, _FORMATS_PER_LINE = 8, 8


def _first(texts: list[str], most: int) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def mode_lines(camera: CameraInfo) -> list[str]:
    """One line per list of sizes, with the pixel formats that have it; the largest size first, at
    its highest rate.
    """
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


def report(
    cameras: list[CameraInfo],
    system: str,
    monitors: Sequence[tuple[int, int]] = (),
    microphones: Sequence[str] = (),
) -> list[str]:
    """The whole answer, line by line.

    Args:
        cameras: of `list_cameras`.
        system: `platform.system()`.
        monitors: of `list_monitors`.
        microphones: of `list_microphones`.
    """
    real = [camera for camera in cameras if not camera.virtual]
    virtual = [camera for camera in cameras if camera.virtual]
    chosen = first_real(cameras)
    lines = ["Cameras" + (f" (--driving auto takes {chosen.number})" if chosen else "")]
    for camera in real:
        state = f" - cannot be opened ({camera.problem})" if camera.problem else ""
        twins = [other for other in real if other.name == camera.name]
        where = f"  at {camera.bus}" if len(twins) > 1 and camera.bus else ""
        lines.append(f"  {camera.number}  {camera.name}{where}{state}")
        lines += [f"       {line}" for line in mode_lines(camera)]
    if not real:
        lines.append(
            "  none: plug one in, close other programs that use it, and allow camera access in the system's"
        )
        lines.append(
            "  privacy settings; a video file drives as well (--driving FILE), and so does your voice"
        )
        lines.append("  (--driving microphone)")
    if monitors:
        lines += ["", "Screens (or a part of one: --driving screen:X,Y,WxH)"]
        lines += [
            f"  {width}x{height}  (--driving screen:{number})"
            for number, (width, height) in enumerate(monitors, 1)
        ]
    if microphones:
        lines += ["", "Microphones (--driving microphone, or microphone:NAME; --sound microphone:NAME)"]
        lines += [f"  {name}" for name in microphones]
    lines += ["", "Virtual cameras"]
    lines += [_virtual_line(camera, system) for camera in virtual]
    if not virtual:
        lines.append(f"  none: {VIRTUAL_CAMERA_HELP.get(system, 'see docs/outputs.md')}")
    return lines


def _virtual_line(camera: CameraInfo, system: str) -> str:
    if system != "Linux":
        return f"  {camera.name}  {camera.name}  (installed; --output virtual)"
    if camera.problem:
        return f"  {camera.path}  {camera.name}  (cannot be opened: {camera.problem})"
    if camera.capture and not camera.output:
        # Taken by whoever feeds it; as a camera like any other it may drive, but only if it is
        # asked for.
        return f"  {camera.path}  {camera.name}  (fed by a program, so taken; --driving {camera.number} reads it)"
    # Both at once means that it was loaded without exclusive_caps; browsers then do not take it for
    # a camera.
    hint = "; browsers need exclusive_caps=1" if camera.capture else ""
    return f"  {camera.path}  {camera.name}  (free{hint}; --output virtual:{camera.path})"


@click.command(short_help="List cameras and virtual cameras.")
def devices() -> None:
    """List cameras with their modes, screens, microphones and virtual cameras, and say what to do where there is
    none.
    """
    from livepuppet.realtime.outputs.microphone import list_microphones

    for line in report(list_cameras(), platform.system(), list_monitors(), list_microphones()):
        click.echo(line)
