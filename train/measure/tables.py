"""Evaluations as one Markdown table: figures of the documents are printed by a command, never typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

#: Column -> figure's name in the JSON. A column that no file fills is left out.
FIGURES = {
    "L1": "L1",
    "copy": "L1 copy",
    "warp": "L1 warp",
    "AKD px": "AKD px",
    "AKD copy px": "AKD copy px",
    "MKR": "MKR",
    "AED": "AED",
    "FID": "FID",
    "colour error": "colour error",
    "landing px": "landing px",
    "landing copy px": "landing copy px",
    "follow r": "follow correlation best",
    "follow slope": "follow slope best",
}

#: What is said of the training: column -> key of the weights' own metadata (or of the JSON, if somebody added it).
TRAINING = {"steps": "steps", "hours": "hours", "trained on": "machine"}


class TableError(ValueError):
    """A file that is no evaluation; the message is one sentence."""


def table(paths: Sequence[Path]) -> str:
    """One row per file that `livepuppet evaluate --data ... --json FILE` wrote, then the commands that trained the weights.

    Raises:
        TableError: a file cannot be read, or is something else.
    """
    rows, commands = [], []
    for path in paths:
        facts = _read(path)
        trained = facts.get("trained by", {})
        row = {
            "weights": _cell(facts["file"]),
            "set": facts["data"],
            "mode": ", ".join(filter(None, (facts["mode"], facts.get("transfer")))),
        }
        row |= {column: _cell(trained.get(key, "")) for column, key in TRAINING.items()}
        row |= {"clips": str(facts["clips"]), "frames": str(facts["frames"])}
        row |= {column: _number(facts["figures"].get(name), column) for column, name in FIGURES.items()}
        rows.append(row)
        commands.append(f"- `{facts['file']}`: `{trained.get('command', 'unknown command')}`")
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", *dict.fromkeys(commands)])


def _read(path: Path) -> dict:
    try:
        facts = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TableError(
            f"{path} cannot be read as JSON: give files of 'livepuppet evaluate --json'."
        ) from error
    if not isinstance(facts, dict) or not {"file", "data", "mode", "figures"} <= set(facts):
        raise TableError(f"{path} is not what 'livepuppet evaluate WEIGHTS --data FOLDER --json' writes.")
    return facts


def _cell(value: object) -> str:
    return str(value).replace("|", "/")


def _number(value: float | None, column: str) -> str:
    if value is None:
        return ""
    return (
        f"{value:.1%}"
        if column == "MKR"
        else f"{value:.2f}"
        if "px" in column or column == "FID"
        else f"{value:.4f}"
    )
