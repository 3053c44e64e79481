"""`livepuppet train PRESET --data FOLDER`: a model learns from unlabelled clips, as in the papers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from livepuppet.model import checkpoint
from livepuppet.model.presets import PRESETS, Preset, build
from livepuppet.train.commands.runs import Run, say, warn
from livepuppet.train.data.augment import Augment
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.loop import distributed
from livepuppet.train.loop.ahead import Ahead
from livepuppet.train.loop.schedules import Milestones
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.papers import fomm, monkeynet, perceptual
from livepuppet.train.papers.recipes import MONKEYNET, RECIPES, LossWeights, Recipe
from livepuppet.train.papers.start import paint_mean_colour

#: Pairs per step and peak learning rate of a training without a recipe.
BATCH, RATE = 4, 2e-4

#: How pairs are varied without a recipe.
AUGMENT = Augment(flip=True, time_flip=True)

#: Pairs on the sheet.
SHOWN = 6


@dataclass(frozen=True)
class Plan:
    """What is trained, and by which schedule.

    Attributes:
        preset: the network, with the ablation's changes.
        recipe: the schedule; None for a budget of one's own.
        weights: of the loss parts, with the ablation's changes.
        ablation: a row of the papers' tables, or "".
    """

    preset: Preset
    recipe: Recipe | None
    weights: LossWeights
    ablation: str = ""


def plan(
    name: str,
    recipe: str | None = None,
    ablation: str | None = None,
    keypoints: int | None = None,
    adversarial: bool = True,
) -> Plan:
    """What `livepuppet train NAME --recipe ... --ablation ...` means.

    Args:
        name: of a preset or a recipe.
        recipe: of another preset's schedule.
        ablation: a row of FOMM's Table 1 or Monkey-Net's Table 2.
        keypoints: their number, if not the preset's.
        adversarial: False trains without a discriminator.

    Raises:
        ValueError: if these do not go together.
    """
    chosen = RECIPES[recipe] if recipe else RECIPES.get(name)
    preset = PRESETS.get(name, chosen.preset if chosen else None)
    if chosen is not None:
        if chosen.preset.kind != preset.kind:
            raise ValueError(
                f"The recipe {chosen.name} trains a {chosen.preset.kind}, and {name} is a {preset.kind}: give one that fits."
            )
        preset = replace(preset, config=replace(preset.config, **dict(chosen.network_changes)))
        weights = chosen.weights
    else:
        weights = MONKEYNET if preset.kind == "monkeynet" else LossWeights()
    if keypoints is not None:
        preset = monkeynet.with_keypoints(preset, keypoints)
    if ablation:
        if preset.kind == "monkeynet":
            preset = monkeynet.ablate(preset, ablation)
        else:
            preset, weights = fomm.ablate(preset, ablation, weights)
    if not adversarial:
        if preset.kind == "monkeynet":
            weights = monkeynet.without_rival(weights)
        else:
            weights = replace(weights, generator_gan=0.0)
    return Plan(preset, chosen, weights, ablation or "")


def network(planned: Plan, init: Path | None) -> torch.nn.Module:
    """The network to train, fresh or from weights.

    Raises:
        CheckpointError: the weights cannot be read.
        ValueError: they are another network's.
    """
    if init is None:
        return build(planned.preset)
    model = checkpoint.load(init)
    if model.preset.config != planned.preset.config:
        raise ValueError(f"{init} holds {model.preset.name}, which is not the network to train here.")
    return model


@dataclass(frozen=True)
class Prepared:
    """A training that can start.

    Attributes:
        clips: to learn from.
        task: what the trainer trains.
        settings: of the trainer.
        data: the clips' fingerprint.
    """

    clips: ClipSet
    task: object
    settings: dict
    data: str


def prepare(
    model,
    planned: Plan,
    data: Path,
    run: Run,
    vgg: Path | None = None,
    download_vgg: bool = False,
    fresh: bool = True,
) -> Prepared:
    """Look at the clips of a folder and build all that training `model` on them needs.

    Every process does so on its own; none waits for another here. `fresh` says that the model was never trained.

    Raises:
        ValueError, OSError: if something of it cannot be used.
    """
    recipe, preset = planned.recipe, model.preset
    if download_vgg and vgg is None and distributed.world() > 1 and perceptual.cached_vgg() is None:
        raise ValueError("--download-vgg is for one process: fetch the file first, or give it with --vgg.")
    clips = ClipSet(
        data,
        preset.size,
        recipe.augment if recipe else AUGMENT,
        id_sampling=bool(recipe and recipe.id_sampling),
    )
    for sentence in clips.skipped[:20]:
        warn(f"skipped: {sentence}")
    if len(clips.skipped) > 20:
        warn(f"skipped: {len(clips.skipped) - 20} more; livepuppet train --check-data names them all.")
    lengths = [clips.length(k) for k in range(len(clips))]
    say(f"{len(clips)} clips, {sum(lengths)} frames, in {clips.folder}.")
    batch = run.batch or (recipe.batch if recipe else BATCH)
    distributed.share(batch)
    if len(clips) < batch:
        warn(f"Fewer clips ({len(clips)}) than pairs in a batch ({batch}): some pairs are of the same clip.")

    fingerprint = _hash(*(f"{name} {length}" for name, length in zip(clips.names, lengths, strict=True)))
    steps = run.steps
    if run.minutes is None and steps is None:
        epoch = clips.epoch_steps(batch, recipe.repeats if recipe else 1)
        steps = (run.epochs or recipe.epochs) * epoch
        say(f"{run.epochs or recipe.epochs} epochs of {epoch} steps.")

    shown = clips.load(clips.draw(SHOWN, torch.Generator().manual_seed(1)))
    if fresh:
        paint_mean_colour(model, clips)
    task, seen = _task(model, planned, Ahead(clips, batch), batch, vgg, download_vgg)

    def sheet(trainer: Trainer) -> None:
        from livepuppet.train.loop.pictures import motion_sheet
        from livepuppet.train.sheets import write

        with trainer.averaged():
            picture = motion_sheet(model, *shown)
        write(run.output / "sheet.png", picture)
        trainer.journal.picture(picture, trainer.step)

    facts = {
        "network": preset.name,
        "settings": "#" + _hash(preset.to_json()),
        "recipe": recipe.name if recipe else "none",
        "ablation": planned.ablation or "full",
        "losses": "#" + _hash(repr(planned.weights), seen),
        "batch": batch,
        "seed": run.seed,
        "data": "#" + fingerprint,
    }
    shares = tuple(milestone / recipe.epochs for milestone in recipe.milestones) if recipe else ()
    settings = {
        "steps": steps,
        "minutes": run.minutes,
        "learning_rate": run.learning_rate or (recipe.learning_rate if recipe else RATE),
        "rival_rate": run.learning_rate or (recipe.discriminator_rate if recipe else RATE),
        "schedule": Milestones(shares) if recipe else None,
        "on_save": sheet,
        "facts": facts,
    }
    return Prepared(clips, task, settings, fingerprint)


def train_on_videos(prepared: Prepared, run: Run) -> None:
    """Train what is prepared, with all processes.

    Raises:
        TrainingError: if they see different clips, or training cannot go on.
    """
    if len(set(distributed.all_say(prepared.data))) > 1:
        raise TrainingError("The processes see different clips: give all machines the same --data folder.")
    known = len(prepared.clips.skipped)
    run.go(run.trainer(prepared.task, **prepared.settings))
    for sentence in prepared.clips.skipped[known:]:
        warn(f"skipped: {sentence}")


def _task(model, planned: Plan, data, batch: int, vgg: Path | None, download: bool):
    """The task, and what its pictures are compared by."""
    recipe, weights = planned.recipe, planned.weights
    discriminator = recipe.discriminator if recipe else None
    if planned.preset.kind == "monkeynet":
        task, seen = monkeynet.MonkeyNetTask(model, data, batch, weights, discriminator), ""
    else:
        compared = perceptual.choose(vgg, download, weights.perceptual)
        say(f"perceptual loss: {compared.says}")
        seen = compared.says.split(" (")[0]
        task = fomm.FommTask(model, data, batch, weights, compared, discriminator)
    task.betas = recipe.betas if recipe else (0.5, 0.999)
    if recipe:
        task.clip = None
    return task, seen


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
