"""Whether new weights are accepted: metrics before and after, rules for them, and the candidates
tried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.lite import LitePuppet
from livepuppet.train.metrics.faces.clips import subsample
from livepuppet.train.metrics.faces.reconstruction import reconstruction
from livepuppet.train.metrics.faces.stability import tracking_metrics
from livepuppet.train.metrics.inference import evaluating, optical_flow, to_batch
from livepuppet.train.metrics.responses import Probe, responses
from livepuppet.train.recipes.finetune.recording import Recording
from livepuppet.train.recipes.finetune.tasks import WHOLE, PersonAnimatorTask, PersonDetectorTask
from livepuppet.train.sheets.tiles import to_image
from livepuppet.train.tasks.lite_detector import detector_error


def forgetting_metrics(
    model: LitePuppet, probes: list[Probe], keep: dict[str, np.ndarray]
) -> dict[str, float]:
    """What the model can do with other faces.

    Args:
        model: in any mode.
        probes: puppets, of `draw_probes`.
        keep: name -> uint8 RGB (T, S, S, 3), other people's clips.

    Returns:
        "response": mean over factors of the response to another puppet's motion; "response FACTOR"
        of each; "puppets L1"; "kept NAME L1" of each clip.
    """
    table = responses(model, probes)
    metrics = {f"response {factor}": row["cross"] for factor, row in table.items()}
    metrics = {"response": float(np.mean(list(metrics.values())))} | metrics
    metrics["puppets L1"] = float(np.mean([row["l1"] for row in table.values()]))
    return metrics | retention_errors(model, keep)


def retention_errors(model: LitePuppet, keep: dict[str, np.ndarray]) -> dict[str, float]:
    """ "kept NAME L1" of each clip, uint8 RGB (T, S, S, 3): its frames reconstructed from its first."""
    return {
        f"kept {name} L1": reconstruction(model, frames[:1], frames[1:])["L1"]
        for name, frames in keep.items()
    }


@dataclass(frozen=True)
class AcceptanceRule:
    """How a metric may change.

    Attributes:
        higher: whether more is better.
        gain: by how much it has to improve, or
        loss: by how much it may get worse.
        absolute: whether these are differences; otherwise they are shares of the value before.
    """

    higher: bool = False
    gain: float = 0.0
    loss: float = 0.0
    absolute: bool = False

    def violation(self, name: str, before: float, after: float) -> str | None:
        """How the metric breaks the rule, or None."""
        better = (after - before) * (1 if self.higher else -1)
        if not self.absolute:
            better /= max(abs(before), 1e-6)
        unit = "" if self.absolute else " %"
        times = 1 if self.absolute else 100
        # Written so that NaN breaks the rule.
        if self.gain and not better >= self.gain:
            return (
                f"{name} got better by {times * better:.2g}{unit} only, where {times * self.gain:.2g}{unit} are asked"
                if better > 0
                else f"{name} did not get better ({before:.4g}, now {after:.4g})"
            )
        if not self.gain and not better >= -self.loss:
            return f"{name} got worse ({before:.4g}, now {after:.4g})"
        return None


#: Rules by metric. One whose name ends in a space is for every metric that begins so.
DETECTOR_RULES = {
    "wander px": AcceptanceRule(gain=0.03),
    "flow error px": AcceptanceRule(loss=0.02),
    "flow slope": AcceptanceRule(higher=True, loss=0.03, absolute=True),
    "lip range px": AcceptanceRule(higher=True, loss=0.10),
    "lid range px": AcceptanceRule(higher=True, loss=0.10),
    "landmark error px": AcceptanceRule(loss=0.03),
    "L1": AcceptanceRule(loss=0.01),
    "mouth response": AcceptanceRule(higher=True, loss=0.02, absolute=True),
    "kept ": AcceptanceRule(loss=0.02),
}
ANIMATOR_RULES = {
    "L1": AcceptanceRule(gain=0.02),
    "face L1": AcceptanceRule(loss=0.0),
    "mouth response": AcceptanceRule(higher=True, loss=0.02, absolute=True),
    "response": AcceptanceRule(higher=True, loss=0.02, absolute=True),
    "response ": AcceptanceRule(higher=True, loss=0.10, absolute=True),
    "puppets L1": AcceptanceRule(loss=0.05),
    "kept ": AcceptanceRule(loss=0.02),
}


def violations(
    rules: dict[str, AcceptanceRule], before: dict[str, float], after: dict[str, float]
) -> list[str]:
    """The rules that new weights break. Metrics without a rule, or missing in `after`, break none."""
    found = []
    for name, value in after.items():
        rule = rules.get(name) or next(
            (rule for key, rule in rules.items() if key.endswith(" ") and name.startswith(key)), None
        )
        if rule and (violation := rule.violation(name, before[name], value)):
            found.append(violation)
    return found


@dataclass
class Decision:
    """What became of a stage.

    Attributes:
        stage: its name.
        accepted: name of the candidate that is used from now on; None for the weights before.
        why: a sentence for people.
        before, after: metrics, of the test part where they are of the recording. `after` is of the
            candidate that came closest, even if it was rejected.
        candidates: name -> its metrics of the validation part.
    """

    stage: str
    accepted: str | None
    why: str
    before: dict[str, float]
    after: dict[str, float]
    candidates: dict[str, dict[str, float]] = field(default_factory=dict)


def weight_interpolations(
    before: dict[str, Tensor], snapshots: dict[str, dict[str, Tensor]], shares: tuple[float, ...] = (0.7, 0.4)
) -> dict[str, dict[str, Tensor]]:
    """Candidates: the snapshots, and the weights before moved towards the last snapshot by some
    shares.
    """
    candidates = dict(snapshots)
    for share in shares:
        candidates[f"{100 * share:.0f} % of the change"] = {
            name: torch.lerp(value, snapshots[WHOLE][name], share)
            if value.dtype.is_floating_point
            else snapshots[WHOLE][name]
            for name, value in before.items()
        }
    return candidates


#: Measures the model as it is.
Measure = Callable[[], dict[str, float]]


def choose(
    stage: str,
    module: torch.nn.Module,
    before: dict[str, Tensor],
    candidates: dict[str, dict[str, Tensor]],
    rules: dict[str, AcceptanceRule],
    main: str,
    validate: Measure,
    general: Measure,
    test: Measure,
) -> Decision:
    """Accept the best candidate if it is better than the weights before; `module` is left with what
    is used.

    Candidates are tried from the best in validation down, until one breaks no rule there and in
    general. That one alone is tested, and accepted if it breaks no rule there either.

    Args:
        stage: its name.
        module: what candidates are weights of.
        before: its state as it was.
        candidates: name -> state.
        rules: by metric.
        main: metric of `validate` that ranks candidates, lower is better.
        validate, test: measure on the validation and on the test part.
        general: measures forgetting.
    """
    module.load_state_dict(before)
    validation_before, general_before, test_before = validate(), general(), test()
    metrics: dict[str, dict[str, float]] = {}
    for name, state in candidates.items():
        module.load_state_dict(state)
        metrics[name] = validate()
    ranked = sorted(metrics, key=lambda name: metrics[name][main])
    closest, fewest = ranked[0], None
    for name in ranked:
        module.load_state_dict(candidates[name])
        broken = violations(rules, validation_before, metrics[name])
        elsewhere = general() if not broken else {}
        metrics[name] |= elsewhere
        broken += violations(rules, general_before, elsewhere)
        if fewest is None or (elsewhere and len(broken) < len(fewest)):
            closest, fewest = name, broken
        if not broken:
            break
    module.load_state_dict(candidates[closest])
    if all(name in metrics[closest] for name in general_before):
        elsewhere = {name: metrics[closest][name] for name in general_before}
    else:
        elsewhere = general()
    test_after = test()
    before_all, after_all = test_before | general_before, test_after | elsewhere
    broken = fewest or violations(rules, test_before, test_after)
    if broken:
        module.load_state_dict(before)
        why = f"{stage}: it did not help ({'; '.join(broken)}), so the weights stay as they were."
        return Decision(stage, None, why, before_all, after_all, metrics)
    gain = 100 * (1 - after_all[main] / before_all[main])
    why = f"{stage}: {main} on the held-out end of the recording is {gain:.1f} % lower ({closest})."
    return Decision(stage, closest, why, before_all, after_all, metrics)


def decide_detector(
    model: LitePuppet,
    before: dict[str, Tensor],
    task: PersonDetectorTask,
    recording: Recording,
    truth: tuple[Tensor, Tensor, Tensor],
    keep: dict[str, np.ndarray],
) -> Decision:
    """`choose` for the detector. `truth`: puppets' images, points and Jacobians, of `draw_test`."""

    def general() -> dict[str, float]:
        return {"landmark error px": detector_error(model, *truth)["mean px"]} | retention_errors(model, keep)

    def test() -> dict[str, float]:
        shown = reconstruction(model, sources_of(recording), subsample(recording.test))
        images = {name: shown[name] for name in ("L1", "mouth response")}
        return tracking_metrics(model, recording.test, test_flow) | images

    validation_flow, test_flow = optical_flow(recording.validation), optical_flow(recording.test)
    return choose(
        "detector",
        model.detector,
        before,
        weight_interpolations(before, task.snapshots.kept),
        DETECTOR_RULES,
        "wander px",
        lambda: tracking_metrics(model, recording.validation, validation_flow),
        general,
        test,
    )


def decide_animator(
    model: LitePuppet,
    before: dict[str, Tensor],
    task: PersonAnimatorTask,
    recording: Recording,
    probes: list[Probe],
    keep: dict[str, np.ndarray],
) -> Decision:
    """`choose` for dense motion and generator."""
    sources = sources_of(recording)
    return choose(
        "animator",
        task.trained,
        before,
        weight_interpolations(before, task.snapshots.kept),
        ANIMATOR_RULES,
        "L1",
        lambda: reconstruction(model, sources, subsample(recording.validation)),
        lambda: forgetting_metrics(model, probes, keep),
        lambda: reconstruction(model, sources, subsample(recording.test)),
    )


def sources_of(recording: Recording) -> np.ndarray:
    """Two frames of the training part, from which others are reconstructed."""
    return recording.train[[0, len(recording.train) // 2]]


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state."""
    return copy.deepcopy(module.state_dict())


@torch.no_grad()
def sheet(before: LitePuppet, after: LitePuppet, recording: Recording, count: int = 6) -> np.ndarray:
    """Held-out frames, uint8 RGB (5 S, count S, 3). Rows: source, the frame, before, after, the
    bare warp after.
    """
    frames = to_batch(subsample(recording.test, count))
    source = to_batch(recording.train[:1])
    rows = [source.expand_as(frames), frames]
    for model in (before, after):
        with evaluating(model):
            avatar, features = model.detect(source), model.encode(source)
            shown = [model.render(features, *avatar, *model.detect(frame[None])) for frame in frames]
        rows.append(torch.cat([one["prediction"] for one in shown]))
    rows.append(torch.cat([one["warped"] for one in shown]))
    return np.concatenate([to_image(row) for row in rows])
