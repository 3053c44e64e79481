"""`livepuppet run`: a camera moves a picture, live."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from livepuppet.core.errors import UserError
from livepuppet.core.names import keep_apart
from livepuppet.realtime.app import early
from livepuppet.realtime.app import settings as remembered
from livepuppet.realtime.app.commands.options import settings_options
from livepuppet.realtime.app.session import Session, inputs_of
from livepuppet.realtime.app.settings import Settings
from livepuppet.realtime.engines import Engine, Precision, load_engine

if TYPE_CHECKING:
    from livepuppet.core.avatar import Avatar
    from livepuppet.realtime.remote.call import CallSender

#: What the next session takes over from the command line of this one: what a person chooses once.
KEPT = (
    "driving",
    "camera_size",
    "camera_rate",
    "pixel_format",
    "crop",
    "avatar",
    "avatar_crop",
    "size",
    "fit",
)


def run_live(
    settings: Settings,
    model: Path | None = None,
    engine: str | None = None,
    frames: int | None = None,
    stats: Path | None = None,
    pixel_format: str = "i420",
    *,
    threads: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    server: str | None = None,
    renderer: Callable[[Engine], CallSender] | None = None,
    avatar: Callable[[Engine], Avatar] | None = None,
    opened: Callable[[Session], None] = lambda session: None,
    **parts: Any,
) -> Session:
    """Drive an avatar until stopped. Returns the session, ended and released, with its figures.

    Every device is released and every file finished before this returns or raises, Ctrl-C and
    SIGTERM included.

    Args:
        settings: everything that people choose.
        model, engine, threads, device, precision: see `load_engine`; engine may be `remote`.
        server: see `load_remote`; with another engine it can be switched to.
        frames: end after so many animated frames.
        stats: file for the figures.
        pixel_format: of a virtual camera.
        renderer: makes what frames are sent to; by default as `engine` says.
        avatar: makes what is shown instead of the settings' avatar.
        opened: called once everything is open, before the first frame.
        parts: of `Session`.

    Raises:
        UserError: for bad input, a device that fails, a driving file that is damaged. The
            statistics are written nevertheless.
    """
    if stats is not None:
        if not Path(stats).parent.is_dir():
            raise UserError(
                f"The folder {Path(stats).parent} does not exist: make it, or choose another --stats."
            )
        outputs = {f"the output {text}": text for text in settings.output.outputs}
        keep_apart(stats, {**inputs_of(settings), **outputs})
    early.begin()
    use = "detect" if settings.picture.rig == "on" else "frame"
    with ExitStack() as stack:
        if engine == "remote":
            from livepuppet.realtime.app.rendering import WHAT_LEAVES
            from livepuppet.realtime.remote.engine import load_remote, server_address

            parts.get("notify", notify)(WHAT_LEAVES.format(place=server_address(server).place))
            remote = load_remote(server, model, threads, device, precision)
            stack.callback(remote.close)
            machine: Engine = remote
        else:
            machine = load_engine(engine, model, threads, device, precision, use=use)
        if renderer is not None:
            from livepuppet.realtime.remote.engine import RemoteEngine

            sending = RemoteEngine(machine, renderer(machine))
            stack.callback(sending.close)
            machine = sending
        if avatar is not None:
            parts["avatar"] = avatar(machine)
        return _run_with(machine, settings, frames, stats, pixel_format, opened, {"server": server, **parts})


def _run_with(
    machine: Engine,
    settings: Settings,
    frames: int | None,
    stats: Path | None,
    pixel_format: str,
    opened: Callable[[Session], None],
    parts: Mapping[str, Any],
) -> Session:
    with Session(
        settings, machine, frames=frames, pixel_format=pixel_format, **{"notify": notify, **parts}
    ) as session:
        try:
            opened(session)
            session.run()
        finally:
            if stats is not None:
                write_stats(stats, session)
    return session


def notify(text: str) -> None:
    """One sentence for the person, on standard error so that standard output stays clean."""
    click.echo(text, err=True)


def write_stats(path: Path, session: Session) -> None:
    """The session's figures as JSON. Raises UserError if the file cannot be written."""
    machine, live = session.animator.engine, session.live
    metadata = {
        **live.stats.as_dict(),
        "engine": machine.name,
        "provider": machine.provider,
        "precision": machine.precision,
        "engine_reason": machine.reason,
        "model": machine.model_name,
        "model_size": machine.size,
        "driving": session.source.name,
        "camera_fps": live.capture.measured_rate,
        "output": list(session.settings.output.outputs),
        "outputs": [state.as_dict() for state in live.fanout.states()],
        "size": [live.compositor.width, live.compositor.height],
    }
    renderer = session.animator.renderer
    if renderer is not None:
        metadata["remote"] = renderer.figures()
    counts = getattr(session.source, "counts", None)
    if counts is not None:
        metadata["driving_packets"] = counts()
    try:
        Path(path).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --stats.") from error


def _told(engine: Engine) -> str:
    """What ran, and why."""
    why = f", {engine.reason}" if engine.reason else ""
    return f"{engine.name} {engine.precision}, {engine.provider}{why}"


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line said of the settings."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


@click.command(short_help="Drive a picture live, into a virtual camera, window or file.")
@settings_options
@click.option("--profile", metavar="NAME", help="Use and remember the settings under this name.")
@click.option(
    "--remember/--no-remember",
    default=None,
    help="Keep camera, avatar, crop, sliders and neutral pose for the next session. [default: where keys can be pressed]",
)
@click.option(
    "--virtual-format",
    type=click.Choice(["i420", "nv12"]),
    default="i420",
    show_default=True,
    help="Pixel format of the virtual camera.",
)
@click.option(
    "--neutral",
    metavar="auto|first|SECONDS|PICTURE",
    help="The neutral pose of a driving file. auto: the moment of its first minute in which the face is most at rest; first: the "
    "first frame; or a moment (3.2, 0:03.2), or a picture of the driver. [default: auto for files, a countdown for cameras]",
)
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many animated frames.")
@click.option(
    "--stats",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Write the figures there at the end.",
)
def run(
    model: Path | None,
    engine: str | None,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
    server: str | None,
    profile: str | None,
    remember: bool | None,
    virtual_format: str,
    neutral: str | None,
    frames: int | None,
    stats: Path | None,
    **options: Any,
) -> None:
    """Drive a picture live, into a virtual camera, a window or a file.

    Look straight ahead with a neutral expression when it starts: the avatar moves by how you move
    away from that pose. Press X to take it anew, H for all keys. What is not given here comes from
    the settings file (livepuppet settings).
    """
    before = remembered.load(profile, notify)
    chosen = given(options)
    settings = remembered.merge(before, chosen)
    session = run_live(
        settings,
        model,
        engine,
        frames,
        stats,
        virtual_format,
        threads=threads,
        device=device,
        precision=precision,
        server=server,
        neutral=neutral,
    )
    finish(session, before, settings, chosen, profile, remember)


def finish(
    session: Session,
    before: Settings,
    settings: Settings,
    chosen: Mapping[str, Any],
    profile: str | None,
    remember: bool | None,
) -> None:
    """Tell how it went, and keep what the next session takes over.

    Args:
        session: ended.
        before: the settings file's, when it began.
        settings: with what the command line said.
        chosen: by the command line.
        profile: to remember under.
        remember: None where keys could be pressed.

    Raises:
        UserError: nothing could be animated, or a recording failed.
    """
    live = session.live
    if live.stats.frames:
        notify(live.stats.sentence() + f" Engine {_told(live.animator.engine)}.")
        if live.animator.renderer is not None:
            notify(live.animator.renderer.sentence())
    if remember or (remember is None and session.interactive):
        kept = remembered.merge(before, {name: chosen[name] for name in KEPT if name in chosen})
        problem = remembered.remember(before, _with_changes(kept, settings, session.settings_now()), profile)
        if problem:
            notify(problem)
    if not live.stats.frames and not live.stopping:
        raise UserError(
            f"{session.settings.source.driving} ended before a single frame could be animated: give a longer one, or one with a face."
        )
    for state in live.fanout.states():
        if state.kept and state.failed is not None:
            # It was said when it happened; whoever looks at the end, or at the status, hears it, too.
            raise UserError(state.failed)
    sys.stdout.flush()


def _with_changes(kept: Settings, before: Settings, after: Settings) -> Settings:
    """`kept`, and what was changed by keys between `before` and `after`."""
    return remembered.merge(kept, remembered.changed(before, after))
