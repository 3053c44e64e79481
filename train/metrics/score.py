"""The score by which checkpoints are chosen: response, explained change, sharpness, and real faces.

Never L1 on puppets alone: a blurred mean eye has a good L1 and shows no blink. And a detector that
gets better on puppets may get worse on real faces, which only clips of faces reveal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from livepuppet.train.metrics.faces.clips import FaceClip, read_clips
from livepuppet.train.metrics.faces.following import follow, pooled
from livepuppet.train.metrics.responses import Probe, at_rest, grouped, mean_rows, responses

#: Weights of the parts; normalised over those that are measured.
WEIGHTS = {"response": 0.50, "explained": 0.10, "sharpness": 0.10, "faces": 0.30}


@dataclass(frozen=True)
class Score:
    """How good a model is; every part but `details` is in [0, 1], 1 is right.

    Attributes:
        total: the weighted mean of the parts by `WEIGHTS`.
        response: mean of head, mouth and eyes (`responses.GROUPS`), each the mean of its factors'
            responses to another puppet's motion, clipped to [0, 1].
        explained: share of the squared change that the output explains, mean over factors, each
            clipped to [0, 1]. The response alone ignores whatever else changes.
        sharpness: of the avatar relative to the input, under keypoint noise, at most 1.
        faces: on clips of real faces: the mean of the smaller correlation with optical flow, the
            closeness of the slopes to 1, and the gain of the dense motion over none; None without
            clips.
        details: figures by name, for a log.
    """

    total: float
    response: float
    explained: float
    sharpness: float
    faces: float | None
    details: dict[str, float] = field(default_factory=dict)


def score_model(model, probes: list[Probe], faces: list[FaceClip] | None = None) -> Score:
    """Score a model.

    Args:
        model: with the three calls, on any device.
        probes: of `responses.draw_probes`; four identities and all factors take about 20 s on one
            core.
        faces: of `read_faces`; ten clips of six pairs take about 10 s.
    """
    table = responses(model, probes)
    groups = grouped(table)
    rest = mean_rows(at_rest(model, probes[0].source))
    response = sum(groups.values()) / len(groups)
    explained = sum(_held(row["explained"]) for row in table.values()) / len(table)
    parts = {
        "response": response,
        "explained": explained,
        "sharpness": min(rest["trembling sharpness"], 1.0),
    }
    details = {name: round(row["cross"], 3) for name, row in table.items()}
    details |= {f"{name} response": round(value, 3) for name, value in groups.items()}
    if faces:
        real = pooled([follow(model, clip) for clip in faces])
        parts["faces"] = faces_score(real)
        details |= {name: round(value, 3) for name, value in real.items()}
    weights = {name: WEIGHTS[name] for name in parts}
    total = sum(weights[name] * value for name, value in parts.items()) / sum(weights.values())
    return Score(
        total, parts["response"], parts["explained"], parts["sharpness"], parts.get("faces"), details
    )


def faces_score(figures: dict[str, float]) -> float:
    """One number in [0, 1] of the figures of `faces.following.pooled`."""
    correlation = _held(min(figures["correlation x"], figures["correlation y"]))
    slope = sum(_held(1 - abs(1 - figures[f"slope {axis}"])) for axis in "xy") / 2
    parts = [correlation, slope]
    if "flow error px" in figures:
        parts.append(_held(1 - figures["flow error px"] / max(figures["no motion px"], 1e-6)))
    return sum(parts) / len(parts)


def read_faces(
    folder: Path, size: int = 256, pairs: int = 6, skipped: list[str] | None = None
) -> list[FaceClip]:
    """The clips of a folder, for `score_model` to use again and again; sentences about unreadable
    ones go to `skipped`.

    Raises:
        DataError: there is no folder, or no clip in it.
    """
    return list(read_clips(folder, size, [] if skipped is None else skipped, pairs=pairs))


def _held(value: float) -> float:
    return min(max(value, 0.0), 1.0)
