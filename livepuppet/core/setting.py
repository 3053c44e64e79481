"""Settings as fields of dataclasses: what each does, and what it may be, stands beside its default."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

from livepuppet.core.numbers import checked_number


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with a default and metadata.

    Args:
        help: what it does, one sentence, for the reference and --help.
        limits: `low`, `high`, `step`, `choices`, `form`; see `realtime.app.settings.Rule`.
    """
    return field(default=default, metadata={"help": help, **limits})


def check_numbers(settings: Any) -> None:
    """Raises UserError unless every number of a dataclass of settings is finite and within its
    limits.
    """
    for known in fields(settings):
        if isinstance(known.default, (int, float)) and not isinstance(known.default, bool):
            limits = known.metadata.get("low"), known.metadata.get("high")
            checked_number(known.name, getattr(settings, known.name), *limits)
