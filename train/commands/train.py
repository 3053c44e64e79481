"""`livepuppet train`."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import click
import torch

from livepuppet.model import checkpoint
from livepuppet.model.presets import PRESETS, build
from livepuppet.train.commands.failing import as_click_error
from livepuppet.train.loop.trainer import Trainer, TrainingError

#: Share of a time budget that each stage of training on puppets gets, and its peak learning rate and batch.
STAGES = {
    "detector": (0.20, 2e-3, 16),
    "motion": (0.15, 1e-3, 16),
    "animator": (0.65, 6e-4, 8),
}

#: Shards drawn before training on puppets starts, and seeds kept for validation.
FIRST_SHARDS, VALIDATION_SEEDS = 4, (1, 2)


@click.command()
@click.argument("preset", type=click.Choice(sorted(PRESETS)))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for checkpoints, sheets and weights.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Your own videos: a folder of clips. Self-supervised."
)
@click.option(
    "--puppets",
    type=click.Path(path_type=Path),
    help="Pool folder of procedural puppets (lite-256), drawn as needed.",
)
@click.option("--shards", default=64, show_default=True, help="Shards of 64 pictures to draw into the pool.")
@click.option(
    "--drawers", default=1, show_default=True, help="Processes that draw puppets while training goes on."
)
@click.option(
    "--stage", "stages", multiple=True, type=click.Choice(list(STAGES)), help="Only these stages on puppets."
)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Time budget for everything, wall clock."
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps per stage, instead of a time budget.")
@click.option("--batch", type=click.IntRange(min=1), help="Pairs per step.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--init", type=click.Path(path_type=Path), help="Start from these weights (.safetensors).")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints in --output.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all by default.")
def train(
    preset,
    output,
    data,
    puppets,
    shards,
    drawers,
    stages,
    minutes,
    steps,
    batch,
    learning_rate,
    init,
    resume,
    seed,
    threads,
):
    """Train a model, on procedural puppets or on your own videos.

    `livepuppet train lite-256 --puppets POOL --output RUN --minutes 120` trains the default from nothing but code:
    first the detector on exact landmarks, then dense motion, then everything that paints. With `--data FOLDER` any
    preset learns from unlabelled videos as in the paper.
    """
    if (data is None) == (puppets is None):
        raise click.UsageError(
            "Give either --data FOLDER (your videos) or --puppets POOL (procedural puppets)."
        )
    if (minutes is None) == (steps is None):
        raise click.UsageError("Give either --minutes or --steps.")
    if puppets is not None and not preset.startswith("lite"):
        raise click.UsageError(
            f"--puppets trains lite-256, whose keypoints are landmarks; {preset} takes --data."
        )
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    try:
        model = checkpoint.load(init) if init else build(preset)
    except checkpoint.CheckpointError as error:
        raise as_click_error(error) from error
    if model.preset.name != preset:
        raise click.UsageError(f"{init} holds {model.preset.name}, not {preset}.")
    model.to(memory_format=torch.channels_last)
    settings = {"resume": resume, "seed": seed, "batch": batch, "learning_rate": learning_rate}
    try:
        output.mkdir(parents=True, exist_ok=True)
        if data is not None:
            _train_on_videos(model, data, output, minutes, steps, **settings)
        else:
            chosen = stages or tuple(STAGES)
            _train_on_puppets(model, puppets, output, minutes, steps, chosen, shards, drawers, **settings)
    except (TrainingError, ValueError, OSError) as error:
        raise as_click_error(error) from error
    path = output / f"{preset}.safetensors"
    checkpoint.save(
        model, path, command=" ".join(["livepuppet", *sys.argv[1:]]), seed=seed, torch=torch.__version__
    )
    click.echo(
        f"Weights: {path}. Next: livepuppet evaluate {path}; livepuppet export {path} --output BUNDLE."
    )


def _train_on_videos(model, data, output, minutes, steps, resume, seed, batch, learning_rate):
    from livepuppet.train.sheets import to_picture, write
    from livepuppet.train.videos import VideoFolder, VideoTask

    clips = VideoFolder(data, model.preset.size)
    for sentence in clips.skipped:
        click.echo(f"skipped: {sentence}", err=True)
    click.echo(f"{len(clips.clips)} clips, {sum(map(len, clips.clips))} frames.")
    task = VideoTask(model, clips, batch or 4)

    @torch.no_grad()
    def sheet(trainer: Trainer) -> None:
        source, driving = clips.pairs(6, torch.Generator().manual_seed(1))
        with trainer.averaged():
            model.eval()
            moved = model.render(model.encode(source), *model.detect(source), *model.detect(driving))[
                "prediction"
            ]
        rows = [to_picture(pictures) for pictures in (source, driving, moved)]
        write(output / "sheet.png", _stack(rows))

    trainer = Trainer(task, output, steps, minutes, learning_rate or 2e-4, seed, on_save=sheet)
    _go(trainer, resume, model)


def _train_on_puppets(
    model, puppets, output, minutes, steps, stages, shards, drawers, resume, seed, batch, learning_rate
):
    from livepuppet.train.lite.animator import AnimatorTask
    from livepuppet.train.lite.detector import DetectorTask, detector_error
    from livepuppet.train.lite.responses import draw_probes, responses
    from livepuppet.train.puppets.pool import (
        FIRST_SEED,
        PuppetPool,
        draw_shard,
        draw_shards,
        keep_freed_memory,
    )
    from livepuppet.train.sheets import probe_sheet, write

    keep_freed_memory()
    validation = puppets / "validation"
    for number in VALIDATION_SEEDS:
        draw_shard(validation, number)
    for number in range(min(FIRST_SHARDS, shards)):
        draw_shard(puppets, FIRST_SEED + number)
    workers = [
        multiprocessing.get_context("spawn").Process(
            target=draw_shards,
            args=(puppets, range(FIRST_SEED + k, FIRST_SEED + shards, drawers)),
            daemon=True,
        )
        for k in range(drawers)
    ]
    for worker in workers:
        worker.start()
    pool, held_out = PuppetPool(puppets), PuppetPool(validation)
    probes = draw_probes(4, seed=7) if "animator" in stages else []
    truth = held_out.pictures_with_truth(64, torch.Generator().manual_seed(5))
    total = sum(STAGES[name][0] for name in stages)
    try:
        for name in stages:
            share, rate, size = STAGES[name]
            if name == "detector":
                model.requires_grad_(True)
                task = DetectorTask(model, pool, batch or size)
            else:
                task = AnimatorTask(model, pool, batch or size, motion_only=name == "motion")

            def report(trainer: Trainer, name=name) -> None:
                record = {"stage": name, "step": trainer.step, "minutes": round(trainer.elapsed / 60, 2)}
                with trainer.averaged():
                    if name == "detector":
                        record |= detector_error(model, *truth)
                    elif name == "animator":
                        table = responses(model, probes)
                        record |= {factor: round(row["cross"], 3) for factor, row in table.items()}
                        write(output / "sheet.png", probe_sheet(model, probes, 1))
                with (output / "log.jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")

            trainer = Trainer(
                task,
                output,
                steps,
                None if minutes is None else minutes * share / total,
                learning_rate or rate,
                seed,
                save_every=300,
                on_save=report,
            )
            _go(trainer, resume, model)
    finally:
        for worker in workers:
            worker.terminate()


def _go(trainer: Trainer, resume: bool, model) -> None:
    if resume and trainer.resume():
        click.echo(f"{trainer.task.name}: going on from step {trainer.step}.")
    trainer.run(quiet=not sys.stderr.isatty())
    trainer.task.trained.load_state_dict(trainer.average)
    model.eval()


def _stack(rows):
    import numpy as np

    return np.concatenate(rows, axis=0)
