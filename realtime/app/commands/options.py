"""Options of the commands: those that `animate` and `run` share, and one for every setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from livepuppet.core.engine import ENGINES, PRECISIONS
from livepuppet.core.errors import UserError
from livepuppet.core.transfer import VARIANCES
from livepuppet.realtime.app.settings import RULES, Rule

_MODEL = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="An exported bundle (folder), or weights (.safetensors) for --engine torch. [default: the bundled model]",
)
_ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(tuple(ENGINES)),
        help="What runs the model; livepuppet doctor lists what is here. [default: the fastest here, timed at the "
        "first start; torch for weights]",
    ),
    click.option(
        "--device",
        metavar="cpu|cuda|gpu|directml|...",
        help="Where it runs. [default: the fastest here; with torch, a graphics card if there is one]",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="What the networks compute in. [default: the fastest here that draws as well]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        help="Of the processor, for the model. [default: one per core, at most 8]",
    ),
)

#: In the order in which --help shows them.
_ANIMATE_OPTIONS = (
    _MODEL,
    *_ENGINE,
    click.option(
        "--absolute",
        is_flag=True,
        help="Take the driver's pose itself instead of the movement since the first frame. For pictures that already "
        "match the driver's face, and for models of things that are not faces.",
    ),
    click.option(
        "--no-adapt-scale",
        is_flag=True,
        help="Do not scale movement by the ratio of the two faces' sizes. (It never is with a Monkey-Net.)",
    ),
    click.option(
        "--variance",
        type=click.Choice(VARIANCES),
        help="Extent of the keypoints of a Monkey-Net: the avatar's own, the driver's, or the avatar's changed as the "
        "driver's changes. [default: source]",
    ),
    click.option(
        "--crop",
        default="auto",
        metavar="auto|full|X,Y,SIDE",
        help="The square of the driving picture. auto: around the face, as found in the first frames; a square video "
        "that a face fills stays whole. full: the largest square in the middle. Or a square in pixels. "
        "[default: auto]",
    ),
    click.option(
        "--avatar-crop",
        default="auto",
        metavar="auto|face|left|right|N|center|X,Y,SIDE",
        help="The square of the avatar that moves: auto (the head where there is one), face, center, or X,Y,SIDE in "
        "pixels; of several faces left, right, or its number from the left. [default: auto]",
    ),
)

#: Settings that are no options: livepuppet writes them, or keys do.
NOT_OPTIONS = (
    *("framing.crop_zoom", "framing.crop_right", "framing.crop_down", "framing.square", "avatar.selected"),
    *("neutral.of_model", "neutral.points", "neutral.jacobians"),
)

#: Options that are not called like their settings.
FLAGS = {
    "output.outputs": "--output",
    "motion.relative": "--relative/--absolute",
    "neutral.reuse": "--reuse-neutral/--new-neutral",
    "control.enabled": "--control/--no-control",
    "control.port": "--control-port",
}

_METAVARS = {
    "source.driving": "CAMERA|FILE|URL|screen|microphone|mouse|phone:ADDRESS|openseeface",
    "source.face_listen": "ADDRESS",
    "framing.crop": "auto|full|X,Y,SIDE",
    "avatar.avatar": "PICTURE|FOLDER",
    "avatar.avatar_crop": "auto|face|left|right|N|center|X,Y,SIDE",
    "picture.background": "as-is|blur|#RRGGBB|alpha",
    "output.outputs": "virtual[:DEVICE]|window|studio[:PORT]|FILE.mp4|FOLDER|http[:PORT]|pipe[:FORMAT]|none",
    "output.sound": "auto|none|microphone[:NAME]",
}


def _apply(options: tuple[Callable, ...], command: Callable) -> Callable:
    for option in reversed(options):
        command = option(command)
    return command


def model_options(command: Callable) -> Callable:
    """Add the options for model, transfer and crops to a click command."""
    return _apply(_ANIMATE_OPTIONS, command)


def engine_options(command: Callable) -> Callable:
    """Add the options for model, engine, device, precision and threads to a click command."""
    return _apply((_MODEL, *_ENGINE), command)


def _not_empty(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """What an unset variable of a shell leaves is no name of a file."""
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and not text.strip():
            raise UserError(f"{option.opts[0]} is empty: give a name, or leave it out.")
    return value


def option_of(rule: Rule) -> Callable:
    """The click option of one setting. None where it was not given, so that the settings file
    counts.
    """
    words = rule.name.replace("_", "-")
    metadata: dict[str, Any] = {"help": f"{rule.help} [{rule.section}]", "default": None}
    if isinstance(rule.default, bool):
        return click.option(FLAGS.get(rule.key, f"--{words}/--no-{words}"), rule.name, **metadata)
    if isinstance(rule.default, (int, float)):
        # Whole numbers' limits are whole.
        low, high = rule.low, rule.high
        if isinstance(rule.default, int):
            metadata["type"] = click.IntRange(
                None if low is None else int(low), None if high is None else int(high)
            )
        else:
            metadata["type"] = click.FloatRange(low, high)
    elif isinstance(rule.default, tuple):
        metadata.update(multiple=True, help=f"{rule.help} May be given several times. [{rule.section}]")
        del metadata["default"]
    elif rule.choices and rule.form == "text":
        metadata["type"] = click.Choice(rule.choices)
    if rule.form in ("path", "source", "texts"):
        metadata["callback"] = _not_empty
    if rule.key in _METAVARS:
        metadata["metavar"] = _METAVARS[rule.key]
    elif rule.form == "size":
        metadata["metavar"] = "WxH"
    return click.option(FLAGS.get(rule.key, f"--{words}"), rule.name, **metadata)


_ENGINE_OR_REMOTE = click.option(
    "--engine",
    type=click.Choice((*ENGINES, "remote")),
    help="What runs the model; livepuppet doctor lists what is here. remote: another machine renders. [default: the fastest "
    "here, timed at the first start; torch for weights]",
)

_SERVER = click.option(
    "--server",
    metavar="https://...",
    envvar="LIVEPUPPET_SERVER",
    callback=_not_empty,
    help="The machine that renders for --engine remote, or that livepuppet control render remote switches to: the address "
    "that livepuppet serve prints there. Better given as the variable LIVEPUPPET_SERVER, which other users of this computer "
    "cannot read.",
)


def setting_options(*sections: str, without: Sequence[str] = ()) -> Callable[[Callable], Callable]:
    """Add an option for every setting of some sections to a click command, but for those `without`."""
    skipped = (*NOT_OPTIONS, *without)
    rules = [
        option_of(rule) for key, rule in RULES.items() if rule.section in sections and key not in skipped
    ]
    return lambda command: _apply(tuple(rules), command)


def settings_options(command: Callable) -> Callable:
    """Add an option for every setting, then those for model and engine, to a click command."""
    rules = [option_of(rule) for key, rule in RULES.items() if key not in NOT_OPTIONS]
    return _apply((*rules, _MODEL, _ENGINE_OR_REMOTE, _SERVER, *_ENGINE[1:]), command)
