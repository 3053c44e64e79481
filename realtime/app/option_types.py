"""Numbers and paths on the command line, the same for every command: finite, in range, in plain
digits; `~` expanded, and no address where a file is wanted.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import click
from click.types import FloatParamType, FloatRange, IntParamType, IntRange

from livepuppet.core.errors import UserError
from livepuppet.core.names import STDIN, local_path
from livepuppet.core.numbers import checked_number, quoted


def make_strict(command: click.Command) -> click.Command:
    """Have all options of a command, and of those in its group, take numbers and paths as above."""
    for parameter in command.params:
        parameter.type = _strict(parameter.type)
    for inner in getattr(command, "commands", {}).values():
        make_strict(inner)
    return command


def _strict(kind: click.ParamType) -> click.ParamType:
    if isinstance(kind, _Number | _Path):
        return kind
    if isinstance(kind, IntRange):
        return _WholeRange(kind.min, kind.max, kind.min_open, kind.max_open, kind.clamp)
    if isinstance(kind, FloatRange):
        return _FloatRange(kind.min, kind.max, kind.min_open, kind.max_open, kind.clamp)
    if isinstance(kind, IntParamType):
        return _Whole()
    if isinstance(kind, FloatParamType):
        return _Float()
    if type(kind) is click.Path:
        strict = copy.copy(kind)
        strict.__class__ = _Path
        return strict
    return kind


class _Number(click.ParamType):
    """Mixed into click's types, which take `nan`, `1_000` and the digits of all scripts."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, whole = _name(param), isinstance(self, IntParamType)
        low, high = getattr(self, "min", None), getattr(self, "max", None)
        number = checked_number(name, value, low, high, whole)
        if (getattr(self, "min_open", False) and number == low) or (
            getattr(self, "max_open", False) and number == high
        ):
            raise UserError(f"{name} has to lie between its limits, not at {quoted(value)}.")
        return number


class _Whole(_Number, IntParamType):
    pass


class _Float(_Number, FloatParamType):
    pass


class _WholeRange(_Number, IntRange):
    pass


class _FloatRange(_Number, FloatRange):
    pass


class _Path(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = _name(param)
        if value == STDIN:
            raise UserError(f"{name} cannot be '-': give a file, or ./- for one that is called so.")
        if isinstance(value, (str, os.PathLike)):
            value = os.fspath(local_path(value, name))
        return super().convert(value, param, ctx)


def _name(parameter: click.Parameter | None) -> str:
    if parameter is None:
        return "The value"
    return parameter.opts[0] if isinstance(parameter, click.Option) else (parameter.human_readable_name)
