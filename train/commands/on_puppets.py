"""`livepuppet train lite-256 --puppets POOL`: the default model's stages on procedural puppets."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch

from livepuppet.train.commands.runs import Run
from livepuppet.train.loop.trainer import Trainer

#: Share of a time budget that each stage of training on puppets gets, and its peak learning rate and batch.
STAGES = {
    "detector": (0.20, 2e-3, 16),
    "motion": (0.15, 1e-3, 16),
    "animator": (0.65, 6e-4, 8),
}

#: Shards drawn before training on puppets starts, and seeds kept for validation.
FIRST_SHARDS, VALIDATION_SEEDS = 4, (1, 2)


def train_on_puppets(
    model, puppets: Path, run: Run, stages: tuple[str, ...], shards: int, drawers: int
) -> None:
    """Train the stages named, drawing `shards` shards into the pool with `drawers` processes meanwhile."""
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
                task = DetectorTask(model, pool, run.batch or size)
            else:
                task = AnimatorTask(model, pool, run.batch or size, motion_only=name == "motion")

            def report(trainer: Trainer, name=name) -> None:
                record = {"stage": name, "step": trainer.step, "minutes": round(trainer.elapsed / 60, 2)}
                with trainer.averaged():
                    if name == "detector":
                        record |= detector_error(model, *truth)
                    elif name == "animator":
                        table = responses(model, probes)
                        record |= {factor: round(row["cross"], 3) for factor, row in table.items()}
                        sheet = probe_sheet(model, probes, 1)
                        write(run.output / "sheet.png", sheet)
                        trainer.journal.picture(sheet, trainer.step)
                trainer.journal.write(record)

            run.go(
                run.trainer(
                    task,
                    steps=run.steps,
                    minutes=None if run.minutes is None else run.minutes * share / total,
                    learning_rate=run.learning_rate or rate,
                    on_save=report,
                    facts={"network": model.preset.name, "batch": task.batch, "seed": run.seed},
                )
            )
    finally:
        for worker in workers:
            worker.terminate()
