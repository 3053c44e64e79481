"""The command `livepuppet`. Sub-commands are imported when they are called, so that `run` never
waits for torch.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys

import click

from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.packages import failed_package, import_sentence
from livepuppet.core.streams import make_streams_unfailing
from livepuppet.realtime.app.option_types import make_strict

#: Sub-command -> "module:attribute" of its click command, one-line help. Names only: a downward
#: import of `train` or `export` from here would break the folders' order, and would load torch for
#: people who never train.
COMMANDS = {
    "demo": (
        "livepuppet.realtime.app.commands.demo:demo",
        "Try it: live with a webcam, else a video of the bundled avatar.",
    ),
    "run": (
        "livepuppet.realtime.app.commands.run:run",
        "Drive a picture live, into a virtual camera, window or file.",
    ),
    "studio": (
        "livepuppet.realtime.app.commands.studio:studio",
        "As run, from one page in the browser: avatars, cameras, outputs, sliders.",
    ),
    "serve": (
        "livepuppet.realtime.app.commands.serve:serve",
        "Render for the camera of another machine (run --engine remote there).",
    ),
    "service": (
        "livepuppet.realtime.app.commands.service:service",
        "Render for many people, on many workers.",
    ),
    "send": (
        "livepuppet.realtime.app.commands.send:send",
        "Call someone whose machine draws your avatar (receive there): numbers alone are sent.",
    ),
    "receive": (
        "livepuppet.realtime.app.commands.receive:receive",
        "Draw the avatar of someone who calls with livepuppet send.",
    ),
    "animate": (
        "livepuppet.realtime.app.commands.animate:animate_command",
        "Animate a picture with a driving video, offline.",
    ),
    "web": (
        "livepuppet.realtime.app.commands.web:web",
        "Write a static site that moves a picture in the browser itself.",
    ),
    "rig": (
        "livepuppet.realtime.app.commands.rig:rig",
        "Find a picture's eyes and mouth, look at what they do, keep where they are.",
    ),
    "devices": ("livepuppet.realtime.app.commands.devices:devices", "List cameras and virtual cameras."),
    "doctor": (
        "livepuppet.realtime.app.commands.doctor:doctor",
        "Look for what is wrong here, and write a report to paste.",
    ),
    "settings": (
        "livepuppet.realtime.app.commands.settings:settings",
        "Show and change what is remembered: camera, framing, sliders, profiles.",
    ),
    "control": (
        "livepuppet.realtime.app.commands.control:control",
        "Have the running session switch avatars, reset, ... from a script.",
    ),
    "import": (
        "livepuppet.model.commands:import_checkpoint",
        "Read a published FOMM checkpoint, as data only.",
    ),
    "export": ("livepuppet.export.commands:export", "Turn weights into an ONNX bundle and check its pixels."),
    "prepare": (
        "livepuppet.train.cli.prepare:prepare_command",
        "Cut recordings into clips for training, around the face.",
    ),
    "train": ("livepuppet.train.cli.train:train", "Train a model."),
    "imagine": (
        "livepuppet.train.cli.imagine:imagine",
        "Let a picture move by itself, as clips have taught it.",
    ),
    "bench": ("livepuppet.benchmarks.commands:bench", "Measure speed on this machine."),
    "evaluate": ("livepuppet.train.cli.evaluate:evaluate", "Measure what a model transfers."),
    "puppets": (
        "livepuppet.train.cli.puppets:puppets",
        "Draw a contact sheet or a clip of procedural puppets.",
    ),
}


#: Folder of a command -> what installs the packages that only it needs.
_EXTRAS = {"model": "train", "export": "export", "train": "train", "benchmarks": "train"}


class LazyGroup(click.Group):
    """A click group whose commands are imported on first use."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, 1)
            ctx.fail(f"There is no command '{name}'{f': did you mean {near[0]}?' if near else '.'}")
        module, attribute = COMMANDS[name][0].split(":")
        try:
            return make_strict(getattr(importlib.import_module(module), attribute))
        except ImportError as error:
            package = failed_package(error)
            if package is None:
                raise
            if isinstance(error, ModuleNotFoundError) and module.split(".")[1] in _EXTRAS:
                raise UserError(
                    f"'livepuppet {name}' needs the package '{package}': install it with pip install "
                    f"'livepuppet[{_EXTRAS[module.split('.')[1]]}]'."
                ) from error
            raise UserError(import_sentence(error) or str(error)) from error

    def format_commands(self, ctx, formatter):
        # From the table, so that --help is instant and works without the extras.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="livepuppet")
def cli():
    """Move any picture with your face, live."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. A `LivePuppetError` becomes one sentence on standard error and exit
    status 2.
    """
    # OpenCV reports every camera that does not open in its own words, beside the sentence that says
    # what to do.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    make_streams_unfailing()
    _show_log()
    try:
        cli.main(args=arguments, prog_name="livepuppet", standalone_mode=False)
    except LivePuppetError as error:
        print(f"livepuppet: {error}", file=sys.stderr)
        sys.exit(2)
    except ImportError as error:
        # Of a package that is imported when it is first used.
        sentence = import_sentence(error)
        if sentence is None:
            raise
        print(f"livepuppet: {sentence}", file=sys.stderr)
        sys.exit(2)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        # How the commands of model, export and train, which know nothing of this folder, say the
        # same thing.
        print(f"livepuppet: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("livepuppet: stopped.", file=sys.stderr)
        sys.exit(130)


class _ToStandardError(logging.Handler):
    """Messages as they are; to whatever standard error is at that moment, so that tests can capture
    it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)


def _show_log() -> None:
    """What the library logs from warnings upwards, for the person at the terminal."""
    logger = logging.getLogger("livepuppet")
    if not any(isinstance(handler, _ToStandardError) for handler in logger.handlers):
        logger.addHandler(_ToStandardError(logging.WARNING))
        logger.propagate = False


if __name__ == "__main__":
    main()
