"""Numbers that people and programs give: one parser for the command line, settings, control and
Python.
"""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import Any

from livepuppet.core.errors import UserError

#: Letters of the longest text that is taken for a number.
LONGEST = 64

#: Whole numbers without a limit of their own lie within this.
LARGEST_WHOLE = 2**63 - 1

_FORM = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE_FORM = re.compile(r"[+-]?\d+", re.ASCII)


def number_of(value: Any, low: float | None = None, high: float | None = None, whole: bool = False) -> Any:
    """A finite number, from a number or its text in ASCII digits, without underscores.

    Args:
        value: text, or a number of any type; truth values are none.
        low, high: limits, both included; None where there is none.
        whole: wanted as an int. 8.0 is whole.

    Returns:
        An int where `whole`, else a float.

    Raises:
        ValueError: it is none, is not finite, or lies outside.
    """
    number: Any
    if isinstance(value, str):
        text = value.strip()
        if len(text) > LONGEST or not _FORM.fullmatch(text):
            raise ValueError("no number")
        number = int(text) if _WHOLE_FORM.fullmatch(text) else float(text)
    elif isinstance(value, Real) and not isinstance(value, bool):
        number = value
    else:
        raise ValueError("no number")
    try:
        if not math.isfinite(number):
            raise ValueError("not finite")
        if whole:
            if number != int(number):
                raise ValueError("not whole")
            number = int(number)
            if abs(number) > LARGEST_WHOLE:
                raise ValueError("too large")
        else:
            number = float(number)
    except (OverflowError, TypeError) as error:
        raise ValueError("too large") from error
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError("out of range")
    return number


def is_whole(text: str) -> bool:
    """Whether a text is a whole number in ASCII digits, without a sign, that `int` may be given."""
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST


def checked_number(
    name: str, value: Any, low: float | None = None, high: float | None = None, whole: bool = False
) -> Any:
    """`number_of`, or a UserError that says what `name` has to be."""
    try:
        return number_of(value, low, high, whole)
    except ValueError:
        raise UserError(f"{name} has to be {range_of(low, high, whole)}, not {quoted(value)}.") from None


def range_of(low: float | None = None, high: float | None = None, whole: bool = False) -> str:
    """`a number from 0 to 2`, in the words of messages."""
    kind = "a whole number" if whole else "a number"
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    if low is not None:
        return f"{kind}, at least {low:g}"
    return kind if high is None else f"{kind}, at most {high:g}"


def quoted(value: Any) -> str:
    """A value as messages quote it, at most 60 letters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python writes no whole number of more than 4300 digits.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."
