"""Options that `animate` and `run` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

#: In the order in which --help shows them.
_MODEL_OPTIONS = (
    click.option(
        "--model",
        type=click.Path(path_type=Path),
        help="An exported bundle (folder), or weights (.safetensors) for --engine torch. [default: the bundled model]",
    ),
    click.option(
        "--engine", type=click.Choice(["onnx", "torch"]), help="What runs the model. [default: onnx]"
    ),
    click.option(
        "--absolute",
        is_flag=True,
        help="Take the driver's pose itself instead of the movement since the first frame. For pictures that already "
        "match the driver's face, and for models of things that are not faces.",
    ),
    click.option(
        "--no-adapt-scale",
        is_flag=True,
        help="Do not scale movement by the ratio of the two faces' sizes.",
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
        default="center",
        metavar="center|face|X,Y,SIDE",
        help="The square of the avatar: the largest in the middle, the head (for pictures with a small face), or a "
        "square in pixels. [default: center]",
    ),
)


def model_options(command: Callable) -> Callable:
    """Add the options for model, transfer and crops to a click command."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command
