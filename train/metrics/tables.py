"""Evaluations as Markdown tables, so that no figure in the documentation is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from livepuppet.core.errors import LivePuppetError

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

#: About the training: column -> key of the weights' metadata.
TRAINING = {"steps": "steps", "hours": "hours", "trained on": "machine"}


#: Of evaluations on puppets: column -> figure's name, for the table of a single file.
PUPPETS = {
    "self": "self",
    "cross": "cross",
    "warp": "warp",
    "true flow": "true flow",
    "L1": "l1",
    "copy L1": "copy",
    "true flow L1": "true flow l1",
    "keypoint slope": "keypoint slope",
    "flow px": "cross flow px",
    "no motion px": "still px",
}

#: Of evaluations on clips of faces.
FACES = {
    "moves px": "movement px",
    "L1": "L1",
    "warp L1": "warp L1",
    "copy L1": "copy L1",
    "r x": "correlation x",
    "r y": "correlation y",
    "slope x": "slope x",
    "slope y": "slope y",
    "flow px": "flow error px",
    "no motion px": "no motion px",
    "better than none": "better than no motion",
    "lip gap px": "lip gap px",
    "mouth response": "open mouth response",
    "still px": "still wander px",
    "noise px": "noise wander px",
    "confidence": "confidence",
    "shuffled": "confidence, shuffled",
}


class TableError(LivePuppetError, ValueError):
    """A file that is no evaluation; the message is one sentence."""


def table(paths: Sequence[Path]) -> str:
    """Tables of files that `livepuppet evaluate --json FILE` wrote.

    Of `--data ...`: one row per file, then the commands that trained the weights. On puppets: the
    responses to another puppet's motion, one row per file and setting; and all figures, where there
    is but one file. On faces: one row per file; and one per clip, where there is but one file.

    Raises:
        TableError: a file cannot be read, or is something else.
    """
    read = [_read(path) for path in paths]
    parts = []
    if papers := [report for report in read if "data" in report]:
        parts.append(_of_papers(papers))
    if puppets := [report for report in read if "settings" in report]:
        parts += _of_puppets(puppets)
    if faces := [report for report in read if "faces" in report]:
        parts += _of_faces(faces)
    return "\n\n".join(parts)


def _of_puppets(files: Sequence[dict]) -> list[str]:
    rows = []
    for report in files:
        for setting, found in report["settings"].items():
            responses = found["responses"]
            row = {"weights": _cell(report["file"]), "puppets": setting}
            row |= {factor: f"{figures['cross']:.2f}" for factor, figures in responses.items()}
            row |= {name: f"{value:.2f}" for name, value in found["groups"].items()}
            whole = responses.get("free", {})
            if "still px" in whole:
                row["flow px (no motion)"] = f"{whole['cross flow px']:.1f} ({whole['still px']:.1f})"
            if found["landmarks"]:
                row["landmarks px"] = f"{found['landmarks']['mean px']:.1f}"
            row["levels"] = f"{found['identity']['levels']:.2f}"
            row["sharpness"] = f"{found['identity']['sharpness']:.2f}"
            row["trembling"] = f"{found['identity']['trembling sharpness']:.2f}"
            rows.append(row)
    parts = [_markdown(rows)]
    if len(files) == 1:
        for setting, found in files[0]["settings"].items():
            parts.append(f"{setting}:\n\n" + _markdown(_figures(found["responses"], PUPPETS, "factor")))
    return parts


def _of_faces(files: Sequence[dict]) -> list[str]:
    rows = []
    for report in files:
        # Motion is judged over the pairs of all clips: in one that hardly moves a correlation says
        # little.
        shown = report["faces"]["mean"] | report["faces"]["together"]
        clips = report["faces"]["clips"].values()
        better = [clip.get("better than no motion", False) for clip in clips if clip["moves"]]
        row = _figures({_cell(report["file"]): shown}, FACES, "weights")[0]
        row["better than none"] = f"{sum(better)} of {len(better)}"
        if "confidence without a face" in report["faces"]:
            row["no face"] = f"{report['faces']['confidence without a face']['mean']:.2f}"
        rows.append(row)
    parts = [_markdown(rows)]
    if len(files) == 1:
        parts.append(_markdown(_figures(files[0]["faces"]["clips"], FACES, "clip")))
        parts.append(
            _markdown(_figures(files[0]["faces"]["keypoints"], dict(list(FACES.items())[4:8]), "keypoint"))
        )
    return parts


def _figures(found: dict[str, dict], columns: dict[str, str], first: str) -> list[dict[str, str]]:
    """A row of texts per entry: L1 with four digits, pixels with one, the rest with two."""

    def text(column: str, value) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        digits = 4 if "L1" in column else 1 if column in ("moves px", "lip gap px") else 2
        return f"{value:.{digits}f}"

    return [
        {first: _cell(name)} | {column: text(column, row.get(key)) for column, key in columns.items()}
        for name, row in found.items()
    ]


def _markdown(rows: Sequence[dict[str, str]]) -> str:
    """Rows of one table; a column that no row fills is left out."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns = [column for column in columns if any(row.get(column) for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _of_papers(files: Sequence[dict]) -> str:
    rows, commands = [], []
    for report in files:
        trained = report.get("trained by", {})
        row = {
            "weights": _cell(report["file"]),
            "set": report["data"],
            "mode": ", ".join(filter(None, (report["mode"], report.get("transfer")))),
        }
        row |= {column: _cell(trained.get(key, "")) for column, key in TRAINING.items()}
        row |= {"clips": str(report["clips"]), "frames": str(report["frames"])}
        row |= {column: _number(report["figures"].get(name), column) for column, name in FIGURES.items()}
        rows.append(row)
        commands.append(f"- `{report['file']}`: `{trained.get('command', 'unknown command')}`")
    return "\n".join([_markdown(rows), "", *dict.fromkeys(commands)])


def _read(path: Path) -> dict:
    try:
        report = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TableError(
            f"{path} cannot be read as JSON: give files of 'livepuppet evaluate --json'."
        ) from error
    known = ({"data", "mode", "figures"}, {"settings"}, {"faces"})
    if (
        not isinstance(report, dict)
        or "file" not in report
        or not any(names <= set(report) for names in known)
    ):
        raise TableError(f"{path} is not what 'livepuppet evaluate WEIGHTS ... --json' writes.")
    return report


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
