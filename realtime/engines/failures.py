"""Engines that failed here when nobody had asked for them: left out at the next start, so that it
is not slow and broken again.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from livepuppet.core.cache import cache_folder, remembered
from livepuppet.core.cache import remember as remember_value
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.realtime.engines.quality_gate import machine_info

KIND = "broken-engines"

#: What is asked of an engine: its name, device and precision.
Asked = tuple[str, str, str]


def reason_of(asked: Asked, model: Path) -> str | None:
    """Why this engine failed with this model, these versions and this processor; None where it did
    not, or was not tried.
    """
    if _any():
        with suppress(KeyError, OSError):
            return remembered(KIND, _inputs(asked, model))
    return None


def remember(asked: Asked, model: Path, reason: str) -> None:
    """Have `reason_of` tell this from now on."""
    with suppress(OSError):
        remember_value(KIND, _inputs(asked, model), reason)


def forget(asked: Asked, model: Path) -> None:
    """The engine works after all."""
    if reason_of(asked, model) is not None:
        remember_value(KIND, _inputs(asked, model), None)


def _any() -> bool:
    """Whether there is anything to look up: this takes less time than to put together what to look
    for.
    """
    with suppress(OSError, UserError):
        return next(cache_folder(KIND).iterdir(), None) is not None
    return False


def _inputs(asked: Asked, model: Path) -> dict:
    content = model / "bundle.json" if model.is_dir() else model
    return {"engine": asked, "model": sha256(content), **machine_info()}
