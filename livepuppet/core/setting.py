"""Settings as fields of dataclasses: what each does, and what it may be, stands beside its default."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with a default and metadata.

    Args:
        help: what it does, one sentence, for the reference and --help.
        limits: `low`, `high`, `step`, `choices`, `form`; see `realtime.app.settings.Rule`.
    """
    return field(default=default, metadata={"help": help, **limits})
