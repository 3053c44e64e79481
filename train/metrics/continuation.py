"""Scores of continued keypoints, beside those of predictions that need no learning, above all of
standing still.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.base import Model
from livepuppet.model.prediction import MotionPredictor
from livepuppet.train.data.reading import Clip, DataError
from livepuppet.train.data.sequences import Sequences, batches, detect_frames, even_windows, frames_of

#: An error has to be smaller by this share to count as better.
MARGIN = 0.02

#: Predictions to be better than; "constant velocity" sees one frame more where only one is given.
BASELINES = ("standing still", "constant velocity", "mean motion", "mean place")


def baseline(name: str, predictor: MotionPredictor, points: Tensor) -> Tensor:
    """The prediction of one of `BASELINES` for windows `points` (B, T, K, 2), of which it sees the
    first n frames.
    """
    frames, last = points.shape[1], predictor.config.from_frames - 1
    if name == "standing still":
        return points[:, last : last + 1].expand_as(points)
    if name == "constant velocity":
        last = max(last, 1)
        ahead = torch.arange(frames, device=points.device)[:, None, None] - last
        return points[:, last : last + 1] + ahead * (points[:, last] - points[:, last - 1])[:, None]
    if name == "mean motion":
        return points[:, last : last + 1] + predictor.mean_offset
    if name == "mean place":
        return predictor.mean_position.expand_as(points)
    raise ValueError(f"no baseline is called {name}")


@torch.no_grad()
def keypoint_errors(predictor: MotionPredictor, data: Sequences) -> dict[str, np.ndarray]:
    """Mean absolute error of positions at each predicted frame, in units of [-1, 1].

    Returns:
        "predicted" and each of `BASELINES`: float64 (T - n,), 1 to T - n frames after the last
        given one. Where matrices are predicted also "matrices" and "matrices held".
    """
    config, was = predictor.config, predictor.training
    predictor.eval()
    sums: dict[str, Tensor] = {}
    rows = even_windows(data, config.frames)
    later = slice(config.from_frames, None)
    for some in rows.split(256):
        points, matrices = data.windows(some.to(data.points.device), config.frames)
        given = config.from_frames
        predicted, predicted_matrices = predictor(points[:, :given], matrices[:, :given])
        guesses = {"predicted": predicted} | {name: baseline(name, predictor, points) for name in BASELINES}
        errors = {name: (guess - points).abs() for name, guess in guesses.items()}
        if config.matrices != "held":
            errors["matrices"] = (predicted_matrices - matrices).abs().flatten(3)
            errors["matrices held"] = (matrices[:, given - 1 : given] - matrices).abs().flatten(3)
        for name, error in errors.items():
            sums[name] = sums.get(name, 0) + error[:, later].double().mean((2, 3)).sum(0)
    predictor.train(was)
    return {name: (total / len(rows)).cpu().numpy() for name, total in sums.items()}


@torch.no_grad()
def image_errors(
    model: Model, predictor: MotionPredictor, clips: Sequence[Clip], batch: int = 32
) -> dict[str, np.ndarray]:
    """Mean absolute error of images in [0, 1] at `horizons` of the first T frames of clips.

    Returns:
        float64, one for each of `horizons(T - n)`: "predicted", the continuation rendered from the
        last given frame; "copying", that frame itself; "true keypoints", rendered with the
        keypoints found in the true frames: what a perfect prediction would give.

    Raises:
        DataError: if no clip can be read and is long enough.
    """
    config = predictor.config
    first, frames = config.from_frames, config.frames
    shown = [first - 1 + ahead for ahead in horizons(frames - first)]
    device = next(model.parameters()).device
    sums: dict[str, np.ndarray] = {}
    count = 0
    for clip in clips:
        try:
            images = frames_of(clip, model.preset.size, frames)
        except DataError:
            continue
        if len(images) < frames:
            continue
        points, matrices = detect_frames(model, images, batch)
        predicted = predictor(
            points[None, :first].to(predictor.mean_offset.device),
            matrices[None, :first].to(predictor.mean_offset.device),
        )
        predicted = [value[0].cpu() for value in predicted]
        source = next(batches(images[first - 1 : first], 1, device))
        features = model.encode(source)
        own = points[first - 1 : first].to(device), matrices[first - 1 : first].to(device)
        errors: dict[str, list[Tensor]] = {"predicted": [], "copying": [], "true keypoints": []}
        for some in torch.tensor(shown).split(batch):
            truth = next(batches(images[some.numpy()], len(some), device))
            repeated = {
                name: value.expand(len(truth), *value.shape[1:]).contiguous()
                for name, value in features.items()
            }
            source_keypoints = [value.expand(len(truth), *value.shape[1:]) for value in own]
            for name, keypoints in (("predicted", predicted), ("true keypoints", (points, matrices))):
                driving = [value[some].to(device) for value in keypoints]
                drawn = model.render(repeated, *source_keypoints, *driving)["prediction"]
                errors[name].append((drawn - truth).abs().mean((1, 2, 3)))
            errors["copying"].append((source - truth).abs().mean((1, 2, 3)))
        for name, parts in errors.items():
            sums[name] = sums.get(name, 0) + torch.cat(parts).double().cpu().numpy()
        count += 1
    if not count:
        raise DataError(
            f"None of the clips can be read and has the {frames} frames that the predictor takes."
        )
    return {name: total / count for name, total in sums.items()}


def where_better(
    errors: np.ndarray, others: np.ndarray, margin: float = MARGIN, ahead: Sequence[int] | None = None
) -> str:
    """At how many frames ahead `errors` (H,) are smaller than `others` (H,): "1-31", "4, 6-12", or
    "" for nowhere.

    Args:
        margin: by what share they have to be smaller.
        ahead: how many frames ahead each is; 1 to H by default.
    """
    ahead = list(ahead or range(1, len(errors) + 1))
    runs: list[list[int]] = []
    open_run = False
    for frames, ours, other in zip(ahead, errors, others, strict=True):
        better = ours < (1 - margin) * other
        if better and open_run:
            runs[-1][1] = frames
        elif better:
            runs.append([frames, frames])
        open_run = better
    return ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in runs)


def verdict(errors: dict[str, np.ndarray]) -> str:
    """What the prediction is worth: at which horizons it is better than standing still and than the
    means.
    """
    ours = errors["predicted"]
    if not where_better(ours, errors["standing still"]):
        return (
            "The prediction is nowhere better than standing still: it is of no use. What comes next may not follow from "
            "the frames given; try more --from-frames, more clips or longer training."
        )
    clauses = []
    for name in ("standing still", "mean motion", "mean place"):
        where = where_better(ours, errors[name])
        gain = 100 * (1 - ours.mean() / max(errors[name].mean(), 1e-12))
        clauses.append(f"than {name} at {where or 'no'} frames ahead ({gain:+.0f} % over all)")
    return f"Better {'; '.join(clauses)}."


def horizons(count: int) -> list[int]:
    """Which of 1 to `count` frames ahead a table shows."""
    shown = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128]
    return sorted({*[h for h in shown if h < count], count})


def table(errors: dict[str, np.ndarray], factor: float = 1.0, head: str = "frames ahead") -> str:
    """Rows of `errors` (H,), 1 to H frames ahead, at some horizons and over all of them, multiplied
    by `factor`.
    """
    shown = horizons(len(next(iter(errors.values()))))
    picked = {name: values[[h - 1 for h in shown]] for name, values in errors.items()}
    return short_table(picked, shown, factor, head, {name: values.mean() for name, values in errors.items()})


def short_table(
    errors: dict[str, np.ndarray],
    shown: Sequence[int],
    factor: float,
    head: str,
    means: dict[str, float] | None = None,
) -> str:
    """The same of errors that are known at horizons `shown` alone; the last column is `means`, by
    default theirs.
    """
    lines = [f"{head:22}" + "".join(f"{h:>8}" for h in shown) + f"{'mean':>8}"]
    for name, values in errors.items():
        cells = [*values, means[name] if means else values.mean()]
        lines.append(f"{name:22}" + "".join(f"{factor * value:8.3f}" for value in cells))
    return "\n".join(lines)
