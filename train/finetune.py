"""Fine-tuning: the default model learns one person's face and webcam from a recording, and stays what it was elsewhere.

Two short stages, each kept only if it helped (`Rule`, `choose`):

* *detector*. Keypoints of the lite model are named landmarks that the live path reads eyes and mouth from, so they may
  not wander off to wherever reconstruction is easiest. Each frame's target is therefore the detector's own answer,
  averaged over several turned, scaled and mirrored looks at the frame: steadier than one look, and in the same places.
  Half of the loss are procedural puppets with exact landmarks.
* *animator*. The detector held, dense motion and painting reconstruct the recording's frames from each other (FOMM,
  Section 3.2). Half of the loss are procedural puppets with true flow (`AnimatorTask`), which is what keeps the
  model's manners with other faces, and motion between faces.

The recording is split by time: the first 70 % are learned from, then a part chooses among candidates, and the last part,
looked at only once, judges. Candidates are the weights' averages half-way and at the end, and mixtures of the latter
with the weights before (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022, mix so): less of the new,
less lost of the old.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.lite import LitePuppet
from livepuppet.train.data.reading import DataError
from livepuppet.train.deform import Deformation, mirror, webcam
from livepuppet.train.lite.animator import AnimatorTask, importance
from livepuppet.train.lite.detector import PARTNER, DetectorTask, detector_error
from livepuppet.train.lite.responses import Probe, responses
from livepuppet.train.losses import dissimilarity, gradients, pyramid_l1, shrink, weighted_mean
from livepuppet.train.measure.faces import few, reconstruction, steadiness
from livepuppet.train.measure.watching import batches, evaluating, optical_flow, to_batch
from livepuppet.train.puppets.pool import PuppetPool

#: Seconds that a recording has to last and frames it has to hold, and frames of it that are kept, evenly spaced.
SHORTEST, LEAST_FRAMES, MOST_FRAMES = 5.0, 20, 300

#: Where the parts of a recording end, as shares of its frames: learned from, choosing, judging. Neighbouring frames
#: look alike, so a little is left out between what is learned and what is asked.
LEARN, GAP, CHOOSE = 0.70, 0.02, 0.85

#: A frame shows a face if the detector's mean confidence is at least this, and so many frames have to.
SURE, SEEN = 0.4, 0.8

#: Deviation in pixels of 256 that the liveliest keypoint has to show. Talking faces have 4 to 20, noise about 0.5.
LEAST_MOTION = 1.5

#: Mean difference of neighbouring frames, in [0, 1], that only a cut to another picture makes: in ten clips at most 0.06, or
#: 0.10 at a third of a second apart; between two people at least 0.12.
CUT = 0.12


# ---------------------------------------------------------------------------------------------------------- recording


@dataclass(frozen=True)
class Recording:
    """A person in front of their webcam, framed as the live path frames them.

    Attributes:
        name: how to speak of it.
        frames: uint8 RGB (T, S, S, 3), evenly spaced in time.
        seconds: how long it lasts.
    """

    name: str
    frames: np.ndarray
    seconds: float

    @property
    def learn(self) -> np.ndarray:
        return self.frames[: round(LEARN * len(self.frames))]

    @property
    def choose(self) -> np.ndarray:
        count = len(self.frames)
        return self.frames[round((LEARN + GAP) * count) : round(CHOOSE * count)]

    @property
    def judge(self) -> np.ndarray:
        return self.frames[round(CHOOSE * len(self.frames)) :]


class Thinned:
    """Frames kept evenly from a stream of unknown length: every second one is dropped whenever twice too many are held."""

    def __init__(self, most: int = MOST_FRAMES):
        self.most, self.every, self.seen = most, 1, 0
        self.frames: list[np.ndarray] = []

    def wanted(self) -> bool:
        """Whether the next frame is one to keep. To be asked once per frame, in order."""
        self.seen += 1
        return (self.seen - 1) % self.every == 0

    def add(self, frame: np.ndarray) -> None:
        self.frames.append(frame)
        if len(self.frames) >= 2 * self.most:
            self.frames, self.every = self.frames[::2], 2 * self.every

    def result(self) -> np.ndarray:
        """The frames (T, ...), at most `most`. At least one has to have been added."""
        count = min(self.most, len(self.frames))
        picked = np.linspace(0, len(self.frames) - 1, count).round().astype(int)
        return np.stack([self.frames[k] for k in picked])


def check_recording(recording: Recording, points: Tensor, confidence: Tensor) -> None:
    """Whether there is something to learn from a recording.

    Args:
        points: (T, K, 2) in [-1, 1], detected in its frames.
        confidence: (T, K) in [0, 1], of the same.

    Raises:
        DataError: it is too short, shows no face, a face that does not move, or is cut from several takes.
    """
    name, frames = recording.name, recording.frames
    if len(frames) < LEAST_FRAMES:
        raise DataError(
            f"{name} holds {len(frames)} frames: record at least {SHORTEST:.0f} seconds, better a minute, of yourself."
        )
    if recording.seconds < SHORTEST:
        raise DataError(
            f"{name} lasts {recording.seconds:.1f} seconds: record at least {SHORTEST:.0f}, better a minute, of yourself "
            "talking, looking around and blinking."
        )
    seen = (confidence.mean(1) >= SURE).float().mean().item()
    if seen < SEEN:
        raise DataError(
            f"{name} shows a face in {100 * seen:.0f} % of its frames only: record yourself from the front in good "
            "light, or give the square of your face with --crop X,Y,SIDE."
        )
    pixels = points.std(0).norm(dim=-1).max().item() * 127.5
    if pixels < LEAST_MOTION:
        raise DataError(
            f"The face in {name} does not move: talk, turn your head, blink and smile while you record."
        )
    thumbnails = frames[:, ::8, ::8].astype(np.float32) / 255
    jumps = np.abs(np.diff(thumbnails, axis=0)).mean((1, 2, 3))
    if jumps.max() > CUT:
        when = recording.seconds * (int(jumps.argmax()) + 1) / len(frames)
        raise DataError(
            f"{name} jumps to another picture after {when:.1f} seconds: give one take of one person, cut it there."
        )


@torch.no_grad()
def watch(model: LitePuppet, frames: np.ndarray) -> tuple[Tensor, Tensor]:
    """Points (T, K, 2) and confidence (T, K) of frames uint8 RGB (T, S, S, 3)."""
    with evaluating(model):
        found = [model.detect_with_confidence(batch) for batch in batches(frames)]
    return torch.cat([one[0] for one in found]), torch.cat([one[2] for one in found])


# -------------------------------------------------------------------------------------------------------------- tasks


HALF, WHOLE = "half of the training", "all of the training"


class Snapshots:
    """Averages of a training half-way and at its end, kept with its checkpoint. `on_save` of the trainer."""

    def __init__(self):
        self.kept: dict[str, dict[str, Tensor]] = {}

    def __call__(self, trainer) -> None:
        name = WHOLE if trainer.progress >= 1 else HALF if trainer.progress >= 0.5 else None
        if name and name not in self.kept:
            self.kept[name] = {name: value.clone() for name, value in trainer.average.items()}


class PersonDetectorTask:
    """The detector on the recording, anchored to its own steady answers, and on puppets.

    It stays in evaluation mode: its statistics are those of all that it has seen, and points are read as they are in
    use (`KeypointDetector.locate`), which is differentiable.

    Args:
        model: whose `detector` is trained.
        frames: uint8 RGB (T, S, S, 3) to learn from.
        pool: puppets to stay with.
        batch: pictures of the recording, and as many of puppets, per step.
        looks: over which each frame's target is averaged.
        seed: of these looks.
    """

    name = "detector"

    def __init__(
        self,
        model: LitePuppet,
        frames: np.ndarray,
        pool: PuppetPool,
        batch: int = 8,
        looks: int = 6,
        seed: int = 0,
    ):
        self.model, self.frames, self.batch = model, frames, batch
        self.trained = model.detector
        model.detector.requires_grad_(True)
        self.points, self.jacobians = steady_keypoints(model, frames, looks, seed)
        self.puppets = DetectorTask(model, pool, batch)
        self.snapshots = Snapshots()

    def prepare(self) -> None:
        self.model.eval()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        rows = torch.randint(len(self.frames), (self.batch,), generator=rng)
        points, jacobians = self.points[rows], self.jacobians[rows]
        picture = shrink(to_batch(self.frames[rows.numpy()]), 2)
        change = Deformation.similarity(self.batch, rng, points, angle=0.2, log_scale=0.15, shift=0.08)
        found, found_jacobians = self.model.detector.from_half(webcam(change.picture(picture), rng, 0.6))
        inside = (points.abs().amax(-1, keepdim=True) < 1).float()
        # FOMM's Eq. 11 and 12 with the steady answer in place of one look's.
        carried = change.jacobians(found.detach()) @ found_jacobians
        parts = {
            "person points": 20 * ((change.points(found) - points).abs() * inside).mean(),
            "person jacobians": ((carried - jacobians).abs() * inside[..., None]).mean(),
        }
        return parts | {f"puppet {name}": part for name, part in self.puppets.losses(rng).items()}

    def state(self) -> dict:
        return self.snapshots.kept

    def load_state(self, state: dict) -> None:
        self.snapshots.kept = state


@torch.no_grad()
def steady_keypoints(model: LitePuppet, frames: np.ndarray, looks: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points (T, K, 2) and Jacobians (T, K, 2, 2) of frames, means over several looks at each.

    Half of the looks are mirrored, all are turned, scaled and shifted a little. On six real clips the keypoints' motion
    was 15 to 25 % nearer to optical flow than that of single looks in four, and as near in the others.
    """
    rng = torch.Generator().manual_seed(seed)
    all_points, all_jacobians = [], []
    with evaluating(model):
        for picture in batches(frames):
            picture = shrink(picture, 2)
            points, jacobians = 0.0, 0.0
            for look in range(looks):
                change = Deformation.similarity(len(picture), rng, picture, 0.12, 0.12, 0.06)
                seen = change.picture(picture)
                if look % 2:
                    found = model.detector.from_half(seen.flip(-1))
                    _, *found = mirror(seen, *found, PARTNER)
                else:
                    found = model.detector.from_half(seen)
                points = points + change.points(found[0]) / looks
                jacobians = jacobians + change.jacobians(found[0]) @ found[1] / looks
            all_points.append(points)
            all_jacobians.append(jacobians)
    return torch.cat(all_points), torch.cat(all_jacobians)


class PersonAnimatorTask:
    """Dense motion and painting: the recording's frames from each other, and puppets, the detector held.

    Args:
        model: whose `motion` and `generator` are trained.
        frames: uint8 RGB (T, S, S, 3) to learn from.
        pool: puppets to stay with.
        batch: pairs of the recording, and as many of puppets, per step.
    """

    name = "animator"

    def __init__(self, model: LitePuppet, frames: np.ndarray, pool: PuppetPool, batch: int = 4):
        self.model, self.frames, self.batch = model, frames, batch
        self.puppets = AnimatorTask(model, pool, batch, half=False)
        self.trained = self.puppets.trained
        self.trained.requires_grad_(True)
        self.snapshots = Snapshots()

    def prepare(self) -> None:
        self.puppets.prepare()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        rows = torch.randint(len(self.frames), (2 * self.batch,), generator=rng).numpy()
        pictures = to_batch(self.frames[rows])
        if torch.rand((), generator=rng) < 0.5:
            pictures = pictures.flip(-1)
        with torch.no_grad():
            points, jacobians = self.model.detector.from_half(webcam(shrink(pictures, 2), rng, 0.3))
        (source, driving), (source_points, driving_points) = pictures.chunk(2), points.chunk(2)
        source_jacobians, driving_jacobians = jacobians.chunk(2)
        motion = self.model.motion(
            shrink(source, 4), source_points, source_jacobians, driving_points, driving_jacobians
        )
        # The window's cells are those of the flow.
        top, left, cells = window = self.puppets.window(rng, motion["deformation"].shape[1])
        painted = self.model.generator(self.model.generator.encode(source), source, motion, window)
        rows, columns = slice(4 * top, 4 * (top + cells)), slice(4 * left, 4 * (left + cells))
        target = driving[:, :, rows, columns]
        weight = importance(driving_points, driving.shape[-1])[:, :, rows, columns]
        prediction, blend = painted["prediction"], painted["blend"]
        parts = {
            "person pyramid": 10 * pyramid_l1(prediction, target, weight=weight),
            "person gradients": 8 * gradients(prediction, target, weight=weight),
            "person ssim": 0.7 * dissimilarity(prediction, target, weight=weight),
            # There is no true flow: the bare warp has to come near by itself, or painting would hide its faults.
            "person warp": 4 * pyramid_l1(painted["warped"], target, weight=weight),
            "person painted": 2
            * weighted_mean((painted["painted"] - target).abs(), weight * (0.1 + blend.detach())),
        }
        return parts | {f"puppet {name}": part for name, part in self.puppets.losses(rng).items()}

    def state(self) -> dict:
        return self.snapshots.kept

    def load_state(self, state: dict) -> None:
        self.snapshots.kept = state


# ------------------------------------------------------------------------------------------------------------ figures


def manners(model: LitePuppet, probes: list[Probe], keep: dict[str, np.ndarray]) -> dict[str, float]:
    """What the model can do with other faces.

    Args:
        probes: puppets, of `draw_probes`.
        keep: name -> uint8 RGB (T, S, S, 3), other people's clips.

    Returns:
        "response": mean over factors of the response to another puppet's motion, "response FACTOR" of each; "puppets
        L1"; "kept NAME L1" of each clip.
    """
    table = responses(model, probes)
    figures = {f"response {factor}": row["cross"] for factor, row in table.items()}
    figures = {"response": float(np.mean(list(figures.values())))} | figures
    figures["puppets L1"] = float(np.mean([row["l1"] for row in table.values()]))
    return figures | kept_errors(model, keep)


def kept_errors(model: LitePuppet, keep: dict[str, np.ndarray]) -> dict[str, float]:
    """ "kept NAME L1" of each clip, uint8 RGB (T, S, S, 3): its frames reconstructed from its first."""
    return {
        f"kept {name} L1": reconstruction(model, frames[:1], frames[1:])["L1"]
        for name, frames in keep.items()
    }


# ----------------------------------------------------------------------------------------------------------- decision


@dataclass(frozen=True)
class Rule:
    """What may become of a figure.

    Attributes:
        higher: whether more is better.
        gain: by how much it has to get better, or
        loss: by how much it may get worse.
        absolute: whether these are differences, instead of shares of what it was.
    """

    higher: bool = False
    gain: float = 0.0
    loss: float = 0.0
    absolute: bool = False

    def complaint(self, name: str, before: float, after: float) -> str | None:
        """Why the figure speaks against the new weights, or None."""
        better = (after - before) * (1 if self.higher else -1)
        if not self.absolute:
            better /= max(abs(before), 1e-6)
        unit = "" if self.absolute else " %"
        times = 1 if self.absolute else 100
        # Written so that a figure that is no number speaks against them, too.
        if self.gain and not better >= self.gain:
            return (
                f"{name} got better by {times * better:.2g}{unit} only, where {times * self.gain:.2g}{unit} are asked"
                if better > 0
                else f"{name} did not get better ({before:.4g}, now {after:.4g})"
            )
        if not self.gain and not better >= -self.loss:
            return f"{name} got worse ({before:.4g}, now {after:.4g})"
        return None


#: Rules per figure. Of `manners`, the last of matching prefixes counts.
DETECTOR_RULES = {
    "wander px": Rule(gain=0.03),
    "flow error px": Rule(loss=0.02),
    "flow slope": Rule(higher=True, loss=0.03, absolute=True),
    "lip range px": Rule(higher=True, loss=0.10),
    "lid range px": Rule(higher=True, loss=0.10),
    "landmark error px": Rule(loss=0.03),
    "L1": Rule(loss=0.01),
    "mouth response": Rule(higher=True, loss=0.02, absolute=True),
    "kept ": Rule(loss=0.02),
}
ANIMATOR_RULES = {
    "L1": Rule(gain=0.02),
    "face L1": Rule(loss=0.0),
    "mouth response": Rule(higher=True, loss=0.02, absolute=True),
    "response": Rule(higher=True, loss=0.02, absolute=True),
    "response ": Rule(higher=True, loss=0.10, absolute=True),
    "puppets L1": Rule(loss=0.05),
    "kept ": Rule(loss=0.02),
}


def complaints(rules: dict[str, Rule], before: dict[str, float], after: dict[str, float]) -> list[str]:
    """What speaks against new weights. Figures that no rule names, or that are missing after, say nothing.

    A rule whose name ends in a space is for every figure that begins so.
    """
    found = []
    for name, value in after.items():
        rule = rules.get(name) or next(
            (rule for key, rule in rules.items() if key.endswith(" ") and name.startswith(key)), None
        )
        if rule and (complaint := rule.complaint(name, before[name], value)):
            found.append(complaint)
    return found


@dataclass
class Verdict:
    """What became of a stage.

    Attributes:
        stage: its name.
        kept: the candidate that is used from now on; None for the weights before.
        why: a sentence for a person.
        before, after: figures, of the judging part where they are of the recording. `after` is of the candidate that
            came nearest, also where it was not kept.
        candidates: name -> its figures of the choosing part.
    """

    stage: str
    kept: str | None
    why: str
    before: dict[str, float]
    after: dict[str, float]
    candidates: dict[str, dict[str, float]] = field(default_factory=dict)


def mixtures(
    before: dict[str, Tensor], snapshots: dict[str, dict[str, Tensor]], shares: tuple[float, ...] = (0.7, 0.4)
) -> dict[str, dict[str, Tensor]]:
    """Candidates: the snapshots, and mixtures of the last one with the weights before, by the share of the new."""
    candidates = dict(snapshots)
    for share in shares:
        candidates[f"{100 * share:.0f} % of the change"] = {
            name: torch.lerp(value, snapshots[WHOLE][name], share)
            if value.dtype.is_floating_point
            else snapshots[WHOLE][name]
            for name, value in before.items()
        }
    return candidates


def choose(
    stage: str,
    module: torch.nn.Module,
    before: dict[str, Tensor],
    candidates: dict[str, dict[str, Tensor]],
    rules: dict[str, Rule],
    main: str,
    asked: Callable[[], dict[str, float]],
    general: Callable[[], dict[str, float]],
    judged: Callable[[], dict[str, float]],
) -> Verdict:
    """Take the best of the candidates if it is better than the weights before; leave `module` holding the one taken.

    Candidates are tried from the best on the choosing part down, until one breaks no rule there and in general. That one
    alone is then measured on the judging part, and taken if it breaks no rule there either.

    Args:
        before: state of `module` as it was.
        main: figure of `asked` that says which is best, lower is better.
        asked, judged: measure on the choosing and on the judging part.
        general: measures elsewhere.
    """
    module.load_state_dict(before)
    asked_before, general_before, judged_before = asked(), general(), judged()
    figures = {}
    for name, state in candidates.items():
        module.load_state_dict(state)
        figures[name] = asked()
    best_complaints, nearest = None, None
    for name in sorted(figures, key=lambda name: figures[name][main]):
        module.load_state_dict(candidates[name])
        against = complaints(rules, asked_before, figures[name])
        elsewhere = general() if not against else {}
        figures[name] |= elsewhere
        against += complaints(rules, general_before, elsewhere)
        if best_complaints is None or (elsewhere and len(against) < len(best_complaints)):
            best_complaints, nearest = against, name
        if not against:
            break
    module.load_state_dict(candidates[nearest])
    elsewhere = {name: figures[nearest].get(name) for name in general_before}
    if None in elsewhere.values():
        elsewhere = general()
    judged_after = judged()
    before_all, after_all = judged_before | general_before, judged_after | elsewhere
    against = best_complaints or complaints(rules, judged_before, judged_after)
    if against:
        module.load_state_dict(before)
        why = f"{stage}: it did not help ({'; '.join(against)}), so the weights stay as they were."
        return Verdict(stage, None, why, before_all, after_all, figures)
    gain = 100 * (1 - after_all[main] / before_all[main])
    why = f"{stage}: {main} on the held-out end of the recording is {gain:.1f} % lower ({nearest})."
    return Verdict(stage, nearest, why, before_all, after_all, figures)


def judge_detector(
    model: LitePuppet,
    before: dict[str, Tensor],
    task: PersonDetectorTask,
    recording: Recording,
    truth: tuple[Tensor, Tensor, Tensor],
    keep: dict[str, np.ndarray],
) -> Verdict:
    """`choose` for the detector. `truth`: puppets' pictures, points and Jacobians, of `draw_test`."""

    def elsewhere() -> dict[str, float]:
        return {"landmark error px": detector_error(model, *truth)["mean px"]} | kept_errors(model, keep)

    def judged() -> dict[str, float]:
        shown = reconstruction(model, sources_of(recording), few(recording.judge))
        pictures = {name: shown[name] for name in ("L1", "mouth response")}
        return steadiness(model, parts["judge"], flows["judge"]) | pictures

    parts = {"choose": recording.choose, "judge": recording.judge}
    flows = {name: optical_flow(frames) for name, frames in parts.items()}
    return choose(
        "detector",
        model.detector,
        before,
        mixtures(before, task.snapshots.kept),
        DETECTOR_RULES,
        "wander px",
        lambda: steadiness(model, parts["choose"], flows["choose"]),
        elsewhere,
        judged,
    )


def judge_animator(
    model: LitePuppet,
    before: dict[str, Tensor],
    task: PersonAnimatorTask,
    recording: Recording,
    probes: list[Probe],
    keep: dict[str, np.ndarray],
) -> Verdict:
    """`choose` for dense motion and painting."""
    sources = sources_of(recording)
    return choose(
        "animator",
        task.trained,
        before,
        mixtures(before, task.snapshots.kept),
        ANIMATOR_RULES,
        "L1",
        lambda: reconstruction(model, sources, few(recording.choose)),
        lambda: manners(model, probes, keep),
        lambda: reconstruction(model, sources, few(recording.judge)),
    )


def sources_of(recording: Recording) -> np.ndarray:
    """Two frames of the learned part from which others are reconstructed."""
    return recording.learn[[0, len(recording.learn) // 2]]


def state_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state."""
    return copy.deepcopy(module.state_dict())


@torch.no_grad()
def sheet(before: LitePuppet, after: LitePuppet, recording: Recording, count: int = 6) -> np.ndarray:
    """Held-out frames, uint8 RGB (5 S, count S, 3). Rows: source, the frame, before, after, the bare warp after."""
    from livepuppet.train.sheets import to_picture

    frames = to_batch(few(recording.judge, count))
    source = to_batch(recording.learn[:1])
    rows = [source.expand_as(frames), frames]
    for model in (before, after):
        with evaluating(model):
            avatar, features = model.detect(source), model.encode(source)
            shown = [model.render(features, *avatar, *model.detect(frame[None])) for frame in frames]
        rows.append(torch.cat([one["prediction"] for one in shown]))
    rows.append(torch.cat([one["warped"] for one in shown]))
    return np.concatenate([to_picture(row) for row in rows])
