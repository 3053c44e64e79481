"""Earlier names of settings and tensors, so that older weights and bundles still load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")

#: Kind of network -> earlier name of a setting -> its name now.
SETTINGS: dict[str, dict[str, str]] = {
    "lite": {
        "homes": "mask_prior",
        "own_threshold": "non_rigid_threshold",
        "reading_temperature": "softargmax_temperature",
        "close_temperature": "refinement_temperature",
        "close_window": "refinement_window",
    }
}

#: Kind of network -> earlier beginning of a tensor's name -> its beginning now.
TENSORS: dict[str, dict[str, str]] = {
    "lite": {"motion.homes.": "motion.mask_prior.", "motion.turning.": "motion.head_motion."},
    "predictor": {"mean_way": "mean_offset", "mean_place": "mean_position"},
}


def rename_settings(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network of some kind, under the names that they have now."""
    names = SETTINGS.get(kind, {})
    return {names.get(name, name): value for name, value in config.items()}


def rename_tensors(kind: str, tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The tensors of a network of some kind, under the names that they have now."""
    prefixes = TENSORS.get(kind, {})

    def now(name: str) -> str:
        for before, after in prefixes.items():
            if name.startswith(before):
                return after + name.removeprefix(before)
        return name

    return {now(name): value for name, value in tensors.items()}
