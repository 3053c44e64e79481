"""A model learns from unlabelled clips, as in the papers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from livepuppet.model import checkpoint
from livepuppet.model.base import Model
from livepuppet.model.presets import PRESETS, Preset, build
from livepuppet.train.data.augment import Augment
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.loop import distributed
from livepuppet.train.loop.errors import error_message
from livepuppet.train.loop.prefetch import Prefetcher
from livepuppet.train.loop.schedules import Milestones
from livepuppet.train.loop.task import Task
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.losses import perceptual
from livepuppet.train.losses.weights import MONKEYNET, LossWeights
from livepuppet.train.recipes.published import RECIPES, Recipe
from livepuppet.train.recipes.run import Run, RunConfig, inform, start, warn
from livepuppet.train.tasks import fomm, monkeynet
from livepuppet.train.tasks.initialisation import start_from_mean_colour

#: Pairs per step and peak learning rate of a training without a recipe.
BATCH, RATE = 4, 2e-4

#: How pairs are varied without a recipe.
AUGMENT = Augment(flip=True, time_flip=True)

#: Pairs on the sheet.
SHEET_PAIRS = 6


@dataclass(frozen=True)
class VideoConfig:
    """What is trained on which clips.

    Attributes:
        preset: name of a preset or of a recipe.
        data: folder of clips.
        recipe: schedule and losses of this recipe; None for the one called `preset`, if there is
            one.
        ablation: a row of FOMM's Table 1 or Monkey-Net's Table 2.
        keypoints: their number, if not the preset's.
        adversarial: False trains without a discriminator.
        init: weights to start from.
        vgg: torchvision's file of VGG-19's weights.
        download_vgg: fetch that file into torch's cache.
    """

    preset: str
    data: Path
    recipe: str | None = None
    ablation: str | None = None
    keypoints: int | None = None
    adversarial: bool = True
    init: Path | None = None
    vgg: Path | None = None
    download_vgg: bool = False


@dataclass(frozen=True)
class Plan:
    """The network and the schedule that a `VideoConfig` asks for.

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


def plan(config: VideoConfig) -> Plan:
    """Resolve names.

    Raises:
        ValueError: preset, recipe and ablation do not go together.
    """
    name = config.preset
    recipe = RECIPES[config.recipe] if config.recipe else RECIPES.get(name)
    preset = PRESETS.get(name) or (recipe.preset if recipe else None)
    if preset is None:
        raise ValueError(f"no preset or recipe is called '{name}'; there are {', '.join(names())}")
    if recipe is not None:
        if recipe.preset.kind != preset.kind:
            raise ValueError(
                f"The recipe {recipe.name} trains a {recipe.preset.kind}, and {name} is a {preset.kind}: give one that fits."
            )
        preset = replace(preset, config=replace(preset.config, **dict(recipe.network_changes)))
        weights = recipe.weights
    else:
        weights = MONKEYNET if preset.kind == "monkeynet" else LossWeights()
    if config.keypoints is not None:
        preset = monkeynet.with_keypoints(preset, config.keypoints)
    if config.ablation:
        if preset.kind == "monkeynet":
            preset = monkeynet.ablate(preset, config.ablation)
        else:
            preset, weights = fomm.ablate(preset, config.ablation, weights)
    if not config.adversarial:
        if preset.kind == "monkeynet":
            weights = monkeynet.without_discriminator(weights)
        else:
            weights = replace(weights, generator_gan=0.0)
    return Plan(preset, recipe, weights, config.ablation or "")


def names() -> list[str]:
    """What `VideoConfig.preset` can be: presets and recipes."""
    return sorted({*PRESETS, *RECIPES})


def train_on_videos(config: VideoConfig, run_config: RunConfig) -> Path:
    """Train on a folder of clips.

    Several processes train together where `torchrun` started them; all of them call this.

    Args:
        config: network, data and losses.
        run_config: where, how long, on what. Without a budget, a recipe's own epochs.

    Returns:
        Path of the weights, `run_config.output`/PRESET.safetensors.

    Raises:
        ValueError: settings do not go together, or clips or weights cannot be used.
        TrainingError: training was stopped or cannot go on.
        OSError: something cannot be written.
    """
    planned = plan(config)
    given = [budget for budget in (run_config.minutes, run_config.steps, run_config.epochs) if budget]
    if len(given) > 1 or (not given and planned.recipe is None):
        raise ValueError("Give either --minutes, --steps or --epochs.")
    path = run_config.output / f"{config.preset}.safetensors"
    with start(run_config) as run:
        prepared, problem = None, None
        try:
            prepared = prepare(planned, config, run)
        except (ValueError, OSError) as error:
            problem = error_message(error)
        distributed.barrier_or_fail(problem)
        assert prepared is not None
        _train(prepared, run)
        if distributed.rank() == 0:
            checkpoint.save(prepared.model, path, **run.metadata())
            inform(
                f"Weights: {path}. Next: livepuppet evaluate {path}; livepuppet export {path} --output BUNDLE."
            )
    return path


def network(planned: Plan, init: Path | None) -> Model:
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
        model: the network in it.
        settings: of the trainer.
        data: the clips' fingerprint.
    """

    clips: ClipSet
    task: Task
    model: Model
    settings: dict
    data: str


def prepare(planned: Plan, config: VideoConfig, run: Run) -> Prepared:
    """Look at the clips of a folder and build all that training on them needs.

    Every process does so on its own; none waits for another here.

    Raises:
        ValueError, OSError: some of it cannot be used.
    """
    model = network(planned, config.init)
    if distributed.rank() == 0:
        run.output.mkdir(parents=True, exist_ok=True)
    model.to(run.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    inform(f"{planned.preset.name} on {run.precision}.")
    recipe, preset = planned.recipe, model.preset
    several = distributed.world_size() > 1
    if config.download_vgg and config.vgg is None and several and perceptual.cached_vgg() is None:
        raise ValueError("--download-vgg is for one process: fetch the file first, or give it with --vgg.")
    clips = ClipSet(
        config.data,
        preset.size,
        recipe.augment if recipe else AUGMENT,
        id_sampling=bool(recipe and recipe.id_sampling),
    )
    for sentence in clips.skipped[:20]:
        warn(f"skipped: {sentence}")
    if len(clips.skipped) > 20:
        warn(f"skipped: {len(clips.skipped) - 20} more; livepuppet train check names them all.")
    lengths = [clips.length(k) for k in range(len(clips))]
    inform(f"{len(clips)} clips, {sum(lengths)} frames, in {clips.folder}.")
    batch = run.config.batch or (recipe.batch if recipe else BATCH)
    distributed.rank_slice(batch)
    if len(clips) < batch:
        warn(f"Fewer clips ({len(clips)}) than pairs in a batch ({batch}): some pairs are of the same clip.")

    data = _hash(*(f"{name} {length}" for name, length in zip(clips.names, lengths, strict=True)))
    steps = run.config.steps
    if run.config.minutes is None and steps is None:
        epochs = run.config.epochs or (recipe.epochs if recipe else 1)
        epoch = clips.epoch_steps(batch, recipe.repeats if recipe else 1)
        steps = epochs * epoch
        inform(f"{epochs} epochs of {epoch} steps.")

    shown = clips.load(clips.draw(SHEET_PAIRS, torch.Generator().manual_seed(1)))
    if config.init is None:
        start_from_mean_colour(model, clips)
    task, loss_name = _task(model, planned, Prefetcher(clips, batch), batch, config)

    def write_sheet(trainer: Trainer) -> None:
        from livepuppet.train.sheets.motion import motion_sheet
        from livepuppet.train.sheets.tiles import write

        with trainer.ema_weights():
            image = motion_sheet(model, *shown)
        write(run.output / "sheet.png", image)
        trainer.log.image(image, trainer.step)

    fingerprint = {
        "network": preset.name,
        "settings": "#" + _hash(preset.to_json()),
        "recipe": recipe.name if recipe else "none",
        "ablation": planned.ablation or "full",
        "losses": "#" + _hash(repr(planned.weights), loss_name),
        "batch": batch,
        "seed": run.config.seed,
        "data": "#" + data,
    }
    shares = tuple(milestone / recipe.epochs for milestone in recipe.milestones) if recipe else ()
    rate = run.config.learning_rate
    settings = {
        "steps": steps,
        "minutes": run.config.minutes,
        "learning_rate": rate or (recipe.learning_rate if recipe else RATE),
        "discriminator_rate": rate or (recipe.discriminator_rate if recipe else RATE),
        "schedule": Milestones(shares) if recipe else None,
        "on_save": write_sheet,
        "fingerprint": fingerprint,
    }
    return Prepared(clips, task, model, settings, data)


def _train(prepared: Prepared, run: Run) -> None:
    if len(set(distributed.all_gather_text(prepared.data))) > 1:
        raise TrainingError("The processes see different clips: give all machines the same folder.")
    known = len(prepared.clips.skipped)
    run.train(run.trainer(prepared.task, **prepared.settings))
    for sentence in prepared.clips.skipped[known:]:
        warn(f"skipped: {sentence}")


def _task(model, planned: Plan, data: Prefetcher, batch: int, config: VideoConfig) -> tuple[Task, str]:
    """The task, and the name of its perceptual loss."""
    recipe, weights = planned.recipe, planned.weights
    discriminator = recipe.discriminator if recipe else None
    if planned.preset.kind == "monkeynet":
        task, loss_name = monkeynet.MonkeyNetTask(model, data, batch, weights, discriminator), ""
    else:
        loss = perceptual.choose(config.vgg, config.download_vgg, weights.perceptual)
        inform(f"perceptual loss: {loss.description}")
        loss_name = loss.description.split(" (")[0]
        task = fomm.FommTask(model, data, batch, weights, loss, discriminator)
    task.betas = recipe.betas if recipe else (0.5, 0.999)
    if recipe:
        task.clip_norm = None
    return task, loss_name


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
