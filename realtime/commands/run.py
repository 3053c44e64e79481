"""`livepuppet run`: a camera moves a picture, live."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from tqdm import tqdm

from livepuppet.realtime import keys
from livepuppet.realtime.avatars import load_avatars
from livepuppet.realtime.commands.options import model_options
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.framing.crop import Framing
from livepuppet.realtime.inputs.cameras import find_camera, is_camera
from livepuppet.realtime.inputs.capture import Camera, Capture, LiveSource, Playback
from livepuppet.realtime.inputs.clips import is_url
from livepuppet.realtime.loop import Live, close_all
from livepuppet.realtime.outputs.base import Output, open_live_output
from livepuppet.realtime.puppet import Puppet
from livepuppet.realtime.view.display import Canvas

#: Limits of the output's size, in pixels: cameras and encoders take no more.
SMALLEST_SIZE, LARGEST_SIZE = 16, 4096


def parse_size(text: str) -> tuple[int, int]:
    """Width and height from `1280x720`; even, as cameras and videos need. Raises UserError."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UserError(f"The size '{text}' is not WIDTHxHEIGHT in pixels, as in 1280x720.")
    size = int(width), int(height)
    if any(side % 2 or not SMALLEST_SIZE <= side <= LARGEST_SIZE for side in size):
        raise UserError(
            f"The size {text} cannot be sent: give even numbers from {SMALLEST_SIZE} to {LARGEST_SIZE}, as in 1280x720."
        )
    return size


def open_source(driving: str, camera_size: tuple[int, int], camera_rate: float, loop: bool) -> LiveSource:
    """A camera (number, /dev/video0, camera:NAME or just a part of its name), a file, a folder or a URL.

    Raises:
        UserError: if it cannot be opened.
    """
    if not is_camera(driving) and (is_url(driving) or Path(driving).exists()):
        return Playback(driving, loop)
    looks_like_a_file = "." in Path(driving).name or "/" in driving or "\\" in driving
    if not is_camera(driving) and looks_like_a_file:
        raise UserError(
            f"There is no file {driving}: check its name, or give a camera (livepuppet devices lists them)."
        )
    return Camera(find_camera(driving), *camera_size, camera_rate)


def run_live(
    avatar: Path,
    driving: str,
    output: tuple[str, ...],
    model: Path | None = None,
    engine: str | None = None,
    absolute: bool = False,
    no_adapt_scale: bool = False,
    crop: str = "auto",
    avatar_crop: str = "center",
    size: str = "1280x720",
    camera_size: str = "1280x720",
    camera_rate: float = 30.0,
    mirror: bool = False,
    loop: bool = False,
    frames: int | None = None,
    stats: Path | None = None,
) -> Live:
    """Drive `avatar` (a picture or a folder of them) with `driving` until stopped. Returns the finished session.

    Every device is released and every file finished before this returns or raises, Ctrl-C and SIGTERM included.

    Raises:
        UserError: for bad input, a device that fails, a driving file that is damaged. The statistics are written
            nevertheless.
    """
    width, height = parse_size(size)
    if stats is not None and not Path(stats).parent.is_dir():
        raise UserError(
            f"The folder {Path(stats).parent} does not exist: make it, or choose another --stats."
        )
    _keep_own_output_out(driving, output)
    machine = load_engine(engine, model)
    avatars, skipped = load_avatars(avatar, machine.size, avatar_crop)
    for sentence in skipped:
        say(sentence)
    with tqdm(
        avatars, desc="Preparing avatars", disable=None if len(avatars) > 1 else True, leave=False
    ) as bar:
        puppet = Puppet(machine, avatars, not absolute, not no_adapt_scale, progress=lambda _: bar.update())
    puppet.warm_up()
    framing = Framing(crop)
    with ExitStack() as stack:
        source = open_source(driving, parse_size(camera_size), camera_rate, loop)
        outputs: list[Output] = []
        capture = None
        # From here on the source belongs to the thread that reads it.
        stack.callback(lambda: capture.close() if capture else source.close())
        stack.callback(close_all, outputs)
        for text in output:
            outputs.append(open_live_output(text, width, height, source.rate))
        terminal = keys.TerminalKeys()
        stack.callback(terminal.close)
        capture = Capture(source)
        live = Live(puppet, capture, framing, outputs, Canvas(width, height), mirror, frames, terminal, say)
        if terminal.active or live.window:
            say("Press H for the list of keys, X to take your neutral pose anew, Q to quit.")
        try:
            with stopped_by_signals(live):
                live.run()
        finally:
            if stats is not None:
                write_stats(stats, live, source.name, output)
    return live


def _keep_own_output_out(driving: str, output: tuple[str, ...]) -> None:
    for text in output:
        kind, _, device = text.partition(":")
        number = device.removeprefix("/dev/video")
        if kind == "virtual" and device and number == driving.removeprefix("/dev/video"):
            raise UserError(f"{device} is the output: drive from another camera.")
        if kind != "virtual" and Path(text).is_file() and Path(text).resolve() == Path(driving).resolve():
            raise UserError(f"The output {text} is the driving video itself: choose another --output.")


def say(text: str) -> None:
    """One sentence for the person, on standard error so that standard output stays clean."""
    click.echo(text, err=True)


def write_stats(path: Path, live: Live, driving: str, output: tuple[str, ...]) -> None:
    """The session's figures as JSON. Raises UserError if the file cannot be written."""
    machine = live.puppet.engine
    facts = {
        **live.stats.as_dict(),
        "engine": machine.name,
        "provider": machine.provider,
        "model": machine.model_name,
        "model_size": machine.size,
        "driving": driving,
        "output": list(output),
        "size": [live.canvas.width, live.canvas.height],
    }
    try:
        Path(path).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --stats.") from error


@contextmanager
def stopped_by_signals(live: Live) -> Iterator[None]:
    """Ctrl-C and SIGTERM end `live` after the frame in hand; a second Ctrl-C interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        if live.stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        live.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command(short_help="Drive a picture live, into a virtual camera, window or file.")
@click.option(
    "--avatar",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PICTURE|FOLDER",
    help="The picture to move, or a folder of pictures to switch between.",
)
@click.option(
    "--driving",
    default="0",
    show_default=True,
    metavar="CAMERA|FILE|URL",
    help="A camera's number or a part of its name, a video or folder of pictures (played at its own pace), or a stream.",
)
@click.option(
    "--output",
    multiple=True,
    metavar="virtual[:DEVICE]|window|FILE.mp4|FOLDER|none",
    help="Where the moving picture goes; may be given several times. [default: window]",
)
@model_options
@click.option(
    "--size",
    default="1280x720",
    show_default=True,
    metavar="WxH",
    help="Size of the outputs; the square is set in the middle.",
)
@click.option(
    "--camera-size", default="1280x720", show_default=True, metavar="WxH", help="Size to ask of the camera."
)
@click.option(
    "--camera-rate",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1, 240),
    help="Frames per second to ask of the camera.",
)
@click.option("--mirror", is_flag=True, help="Move like a mirror image of the driver.")
@click.option("--loop", is_flag=True, help="Play a driving file again and again.")
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many animated frames.")
@click.option(
    "--stats",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the figures there at the end.",
)
def run(output: tuple[str, ...], **options) -> None:
    """Drive a picture live, into a virtual camera, a window or a file.

    The first frames find your face; look straight ahead with a neutral expression, as the avatar moves by how you move
    away from that pose. Press X to take it anew, H for all keys.
    """
    live = run_live(output=output or ("window",), **options)
    say(live.stats.sentence() + f" Engine {live.puppet.engine.name}, {live.puppet.engine.provider}.")
    if not live.stats.frames and not live.stopping:
        raise UserError(
            f"{options['driving']} ended before a single frame could be animated: give a longer one."
        )
    sys.stdout.flush()
