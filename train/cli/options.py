"""Options that several training commands share, and their way into a `RunConfig`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from tqdm import tqdm

from livepuppet.train.loop.precision import PRECISIONS
from livepuppet.train.recipes.run import RunConfig

Command = TypeVar("Command", bound=Callable[..., Any])

DEVICES = ("auto", "cpu", "cuda", "mps")

#: Any folder or file; what is wrong with it is reported by whoever opens it.
PATH = click.Path(path_type=Path)

threads_option = click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all by default.")
device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="auto is CUDA's GPU if there is one.",
)

_OUTPUT = click.option(
    "--output", type=PATH, required=True, help="Folder for checkpoints, sheets and weights."
)
_MINUTES = click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Time budget for everything, wall clock."
)
_STEPS = click.option(
    "--steps", type=click.IntRange(min=1), help="Steps per stage, instead of a time budget."
)
_SHARED = (
    click.option("--batch", type=click.IntRange(min=1), help="Pairs per step, all processes together."),
    click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate."),
    click.option("--init", type=PATH, help="Start from these weights (.safetensors)."),
    click.option("--resume", is_flag=True, help="Go on from the checkpoints in --output."),
    click.option("--seed", default=0, show_default=True, help="Of every random draw."),
    threads_option,
)
_LONG = (
    click.option(
        "--save-every", default=3.0, show_default=True, help="Minutes between checkpoints and sheets."
    ),
    device_option,
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="Of convolutions: auto is bf16 on GPUs that have it, else fp32.",
    ),
    click.option("--half", is_flag=True, help="Short for --precision bf16."),
    click.option("--tensorboard", is_flag=True, help="Write TensorBoard's event files."),
    click.option(
        "--stop-on-alarm", is_flag=True, help="End when keypoints collapse, Jacobians explode and the like."
    ),
)


def run_options(long: bool = True) -> Callable[[Command], Command]:
    """The options of a `RunConfig`. `long`: also those of trainings that take hours."""

    def decorate(command: Command) -> Command:
        options = (_OUTPUT, _MINUTES, _STEPS, *_SHARED, *(_LONG if long else ()))
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def run_config(
    output: Path,
    save_every: float = 3.0,
    precision: str = "auto",
    half: bool = False,
    **values: Any,
) -> RunConfig:
    """A `RunConfig` of the options' values."""
    if half:
        if precision not in ("auto", "bf16"):
            raise click.UsageError("Give either --half or --precision.")
        precision = "bf16"
    command = " ".join(["livepuppet", *sys.argv[1:]])
    return RunConfig(output, save_every=60 * save_every, precision=precision, command=command, **values)


class _Console(logging.Handler):
    """Messages above any progress bar: on standard output, warnings on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        # Looked up in every call, so that tests can capture them.
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        tqdm.write(self.format(record), file=stream)
        stream.flush()


def show_log() -> None:
    """Show what `livepuppet.train` logs to the person at the terminal."""
    logger = logging.getLogger("livepuppet.train")
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_Console())
        logger.setLevel(logging.INFO)
        logger.propagate = False
