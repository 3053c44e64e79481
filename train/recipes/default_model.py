"""The default model, trained on procedural puppets alone."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from livepuppet.model import checkpoint
from livepuppet.model.lite import LitePuppet
from livepuppet.model.presets import PRESETS
from livepuppet.train.loop import distributed
from livepuppet.train.loop.distributed import rank
from livepuppet.train.loop.errors import error_message
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.puppets.pairs import Puppets
from livepuppet.train.recipes import videos
from livepuppet.train.recipes.run import Run, RunConfig, inform, start, warn
from livepuppet.train.tasks.puppets import PuppetTask

#: Name of the preset that is trained.
PRESET = "lite-256"


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        share: of a time budget.
        rate: peak learning rate.
        batch, large_batch: on a CPU and on a GPU.
        half_size: images of half the size are enough.
    """

    share: float
    rate: float
    batch: int
    large_batch: int
    half_size: bool = False


#: In their order. The detector and dense motion see images of half and a quarter of the size.
STAGES = {
    "detector": Stage(0.25, 2e-3, 16, 64, half_size=True),
    "motion": Stage(0.25, 1e-3, 16, 64, half_size=True),
    "animator": Stage(0.35, 6e-4, 8, 32),
    "polish": Stage(0.15, 2e-4, 8, 32),
}

#: Stages that train whole models, among whose checkpoints the best can be chosen.
COMPLETE_STAGES = ("animator", "polish")

#: Shards drawn before training on a pool starts, and the folder of those of half the size in it.
FIRST_SHARDS, HALF_SIZE_FOLDER = 4, "half-size"

#: Groups that a stream holds, groups drawn at once, and steps from one such batch to the next.
RING = {"cuda": (1024, 64, 8)}
RING_ELSEWHERE = (24, 2, 8)

#: Puppets drawn for validation alone: identities per factor and their seed; images for the detector
#: and theirs.
PROBES, PROBE_SEED = 4, 7
VALIDATION_IMAGES, VALIDATION_SEED = 48, 5


@dataclass(frozen=True)
class DefaultModelConfig:
    """Which puppets the default model is trained on.

    Attributes:
        pool: folder of a pool on disk; None for a stream, which draws puppets on the device
            meanwhile.
        setting: which puppets; see `train.puppets.identities.SETTINGS`.
        shards: to draw into the pool, per size.
        drawers: processes that draw them meanwhile.
        compile_renderer: let a stream compile the renderer.
        stages: some of `STAGES`, in their order.
        faces: folder of clips of real faces, for validation alone.
        init: weights to start from.
        people: folder of a pool of people (`train.people`) to mix in, and the share of examples
            that come from it.
    """

    pool: Path | None = None
    setting: str = "rich"
    shards: int = 64
    drawers: int = 1
    compile_renderer: bool = False
    stages: tuple[str, ...] = tuple(STAGES)
    faces: Path | None = None
    init: Path | None = None
    people: Path | None = None
    people_share: float = 0.5


def train_default(config: DefaultModelConfig, run_config: RunConfig) -> Path:
    """Train the default model: first the detector on exact landmarks, then dense motion, then
    everything.

    After each checkpoint the EMA model is validated (`train.metrics.score`), on puppets that no
    training draws and, if `config.faces` is given, on clips of real faces; the best so far is
    `best.safetensors`, its figures are in `best.json`. Validation counts as part of a time budget.

    Several processes train together where `torchrun` started them; all of them call this.

    Args:
        config: the puppets and stages.
        run_config: where, how long, on what.

    Returns:
        Path of the last weights, `run_config.output`/lite-256.safetensors.

    Raises:
        ValueError: settings do not go together, or weights, clips or a pool cannot be used.
        TrainingError: training was stopped or cannot go on.
        OSError: something cannot be written.
    """
    if run_config.epochs is not None:
        raise ValueError("--epochs counts passes over clips; on puppets give --minutes or --steps.")
    if (run_config.minutes is None) == (run_config.steps is None):
        raise ValueError("Give either --minutes or --steps.")
    path = run_config.output / f"{PRESET}.safetensors"
    with start(run_config) as run:
        model, problem = None, None
        try:
            model = videos.network(videos.Plan(PRESETS[PRESET], None, videos.LossWeights()), config.init)
            if rank() == 0:
                run.output.mkdir(parents=True, exist_ok=True)
            model.to(run.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            inform(f"{PRESET} on {run.precision}.")
        except (ValueError, OSError) as error:
            problem = error_message(error)
        distributed.barrier_or_fail(problem)
        assert isinstance(model, LitePuppet)
        train_stages(model, config, run)
        if rank() == 0:
            checkpoint.save(model, path, **run.metadata())
            inform(
                f"Weights: {path}. Next: livepuppet evaluate {path}; livepuppet export {path} --output BUNDLE."
            )
    return path


def train_stages(model: LitePuppet, config: DefaultModelConfig, run: Run) -> None:
    """Train `config.stages` one after the other; see `train_default`.

    Args:
        model: on `run.device`.
        config: the puppets and stages.
        run: the budget, device and so on; its precision is that of convolutions.
    """
    from livepuppet.train.puppets.pool import keep_freed_memory

    if run.precision.name == "fp16":
        raise TrainingError("puppets are trained on in bf16 or fp32: give --precision bf16, or --half.")
    keep_freed_memory()
    stages = tuple(name for name in STAGES if name in config.stages)
    size = model.preset.size
    validation = Validation(model, config, run, any(name in COMPLETE_STAGES for name in stages))
    total = sum(STAGES[name].share for name in stages)
    # Tasks put their own convolutions in 16 bits; positions and the puppets' truth stay exact.
    exact = Precision("fp32", run.device)
    with _drawing(config, size, stages):
        for name in stages:
            stage = STAGES[name]
            batch = run.config.batch or (stage.large_batch if run.device.type == "cuda" else stage.batch)
            puppets = _mixed(config, _puppets(config, size, name, run))
            task = _task(name, model, puppets, batch, run.precision.name == "bf16")
            minutes = run.config.minutes
            trainer = run.trainer(
                task,
                exact,
                steps=run.config.steps,
                minutes=None if minutes is None else minutes * stage.share / total,
                learning_rate=run.config.learning_rate or stage.rate,
                on_save=validation,
                fingerprint={
                    "network": model.preset.name,
                    "batch": batch,
                    "seed": run.config.seed,
                    "precision": run.precision.name,
                    "puppets": _description(puppets),
                },
            )
            try:
                run.train(trainer)
            except torch.OutOfMemoryError as error:
                raise TrainingError(
                    f"The memory of {run.device} is too small for {name} with batches of {batch}: give a smaller --batch, and "
                    "another --output folder."
                ) from error
            speed = puppets.speed()
            if speed.get("drawn"):
                inform(
                    f"{name}: {trainer.step} steps; {speed['drawn']:.0f} puppets drawn meanwhile, "
                    f"{speed['drawn/s']:.0f} per second."
                )
    validation.report_best()


def _task(name: str, model: LitePuppet, puppets: Puppets, batch: int, half: bool) -> PuppetTask:
    from livepuppet.train.tasks.lite_animator import AnimatorTask
    from livepuppet.train.tasks.lite_detector import DetectorTask

    if name == "detector":
        model.requires_grad_(True)
        return DetectorTask(model, puppets, batch)
    return AnimatorTask(
        model, puppets, batch, motion_only=name == "motion", half=half, adversarial=name == "polish"
    )


# -------------------------------------------------------------------------------------- puppets


def _half_size_folder(config: DefaultModelConfig, pool: Path, size: int) -> Path:
    """Where a pool's images of half the size are: with the others, if enough of them are there
    already.
    """
    from livepuppet.train.puppets.pool import read_stamp

    there = sorted(pool.glob("puppets-*.npz"))
    if there and (len(there) >= config.shards or read_stamp(there[0]).size == size // 2):
        return pool
    return pool / HALF_SIZE_FOLDER


def _puppets(config: DefaultModelConfig, size: int, stage: str, run: Run) -> Puppets:
    from livepuppet.train.puppets.pool import PoolError, PuppetPool
    from livepuppet.train.puppets.stream import PuppetStream

    half_size = STAGES[stage].half_size
    side = size // 2 if half_size else size
    if config.pool is None:
        hold, fresh, every = RING.get(run.device.type, RING_ELSEWHERE)
        number = len(STAGES) * run.config.seed + list(STAGES).index(stage)
        return PuppetStream(
            run.device,
            side,
            size // 4,
            config.setting,
            number,
            hold,
            fresh,
            every,
            compiled=config.compile_renderer,
            part=rank(),
        )
    folder = _half_size_folder(config, config.pool, size) if half_size else config.pool
    pool = PuppetPool(folder, device=run.device, setting=config.setting)
    if not len(pool):
        raise PoolError(f"There are no puppets in {folder}: draw some with --shards.")
    if pool.shards[0].stamp.size < side:
        raise PoolError(
            f"The images in {folder} have {pool.shards[0].stamp.size} pixels, and {stage} needs {side}: give another folder, "
            "or only the stages detector and motion."
        )
    return pool


def _mixed(config: DefaultModelConfig, puppets: Puppets) -> Puppets:
    """The puppets, and people among them where there is a pool of these."""
    from livepuppet.train.puppets.identities import PEOPLE
    from livepuppet.train.puppets.mixture import Mixture
    from livepuppet.train.puppets.pool import PoolError, PuppetPool

    if config.people is None:
        return puppets
    people = PuppetPool(config.people, device=puppets.device)
    if not len(people) or people.setting not in PEOPLE:
        raise PoolError(
            f"There are no people in {config.people}: draw some with  livepuppet puppets pool {config.people} "
            "--setting people-mix."
        )
    return Mixture([puppets, people], [1 - config.people_share, config.people_share])


def _description(puppets: Puppets) -> str:
    state = puppets.state()
    if not state:
        return f"pool: {puppets.setting}"
    return "stream: " + ", ".join(f"{name} {value}" for name, value in state.items() if name != "steps")


@contextmanager
def _drawing(config: DefaultModelConfig, size: int, stages: tuple[str, ...]) -> Iterator[None]:
    """Draw what a pool lacks: a few shards now, the rest by processes that end with the training."""
    from livepuppet.train.puppets.pool import FIRST_SEED, draw_jobs

    jobs = []
    if config.pool is not None:
        sizes = {STAGES[name].half_size for name in stages}
        for half in sorted(sizes, reverse=True):
            folder = _half_size_folder(config, config.pool, size) if half else config.pool
            side = size // 2 if half and folder != config.pool else size
            if half and folder == config.pool and any(folder.glob("puppets-*.npz")):
                continue
            jobs.append(
                [
                    (folder, FIRST_SEED + k, side, size // 4, config.setting)
                    for k in range(config.shards)
                    if not (folder / f"puppets-{FIRST_SEED + k:08d}.npz").exists()
                ]
            )
    first = [job for some in jobs for job in some[:FIRST_SHARDS]]
    rest = [job for some in jobs for job in some[FIRST_SHARDS:]]
    if first:
        inform(f"Drawing {64 * len(first)} puppets to begin with ...")
        draw_jobs(first)
    drawers = min(config.drawers, len(rest))
    workers = [
        multiprocessing.get_context("spawn").Process(
            target=draw_jobs, args=(rest[k::drawers], True), daemon=True
        )
        for k in range(drawers)
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()


# ----------------------------------------------------------------------------------- validation


@dataclass
class Validation:
    """Validates a training after each checkpoint, and keeps the best model. `on_save` of the
    trainer.

    Attributes:
        model: in training.
        config, run: of the training.
        complete: whether a stage is trained among whose checkpoints the best can be chosen.
        best: what is in `best.json`; empty before there is one.
    """

    model: LitePuppet
    config: DefaultModelConfig
    run: Run
    complete: bool
    best: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        from livepuppet.train.metrics.responses import draw_probes
        from livepuppet.train.metrics.score import read_faces
        from livepuppet.train.puppets.stream import PuppetStream

        self.faces, self.probes, self.truth = None, [], None
        self.validated: dict[str, int] = {}
        if rank():
            return
        size, setting = self.model.preset.size, self.config.setting
        if self.config.faces is not None:
            skipped: list[str] = []
            self.faces = read_faces(self.config.faces, size, skipped=skipped)
            for sentence in skipped:
                warn(sentence)
        if self.complete:
            self.probes = draw_probes(PROBES, PROBE_SEED, size, setting=setting)
        count = VALIDATION_IMAGES
        held_out = PuppetStream("cpu", size, size // 4, setting, -VALIDATION_SEED, count, count, poses=1)
        drawn = held_out.pictures_with_truth(count, torch.Generator().manual_seed(VALIDATION_SEED))
        images, points, jacobians = (value.to(self.run.device) for value in drawn)
        self.truth = images, points, jacobians
        if self.run.config.resume:
            try:
                self.best = json.loads(self._record.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self.best = {}

    @property
    def _record(self) -> Path:
        return self.run.output / "best.json"

    def __call__(self, trainer: Trainer) -> None:
        """Validate the EMA model as it is now; the time this takes is the training's."""
        began, name = time.monotonic(), trainer.task.name
        if self.validated.get(name) == trainer.step:
            return
        self.validated[name] = trainer.step
        record = {"stage": name, "step": trainer.step, "minutes": round(trainer.elapsed / 60, 2)}
        speed = trainer.task.pool.speed() if isinstance(trainer.task, PuppetTask) else {}
        if speed.get("drawn"):
            record |= {"drawn/s": round(speed["drawn/s"], 1), "drawing s": round(speed["drawing s"], 1)}
        with trainer.ema_weights():
            record |= self._metrics(name, trainer)
        record["validation s"] = round(time.monotonic() - began, 1)
        trainer.log.write(record)
        trainer.elapsed += time.monotonic() - began

    def _metrics(self, name: str, trainer: Trainer) -> dict[str, Any]:
        from livepuppet.train.metrics.score import score_model
        from livepuppet.train.sheets.probes import probe_sheet
        from livepuppet.train.sheets.tiles import write
        from livepuppet.train.tasks.lite_detector import detector_error

        if name == "detector" and self.truth is not None:
            return detector_error(self.model, *self.truth)
        if name not in COMPLETE_STAGES:
            return {}
        score = score_model(self.model, self.probes, self.faces)
        metrics = {"score": round(score.total, 4), **score.details}
        sheet = probe_sheet(self.model, self.probes, 1)
        write(self.run.output / "sheet.png", sheet)
        trainer.log.image(sheet, trainer.step)
        if score.total > self.best.get("score", -1.0):
            self._keep({"score": score.total, "stage": name, "step": trainer.step, **score.details})
        return metrics

    def _keep(self, best: dict[str, Any]) -> None:
        path = self.run.output / "best.safetensors"
        metadata = {"stage": best["stage"], "step": str(best["step"]), "score": f"{best['score']:.4f}"}
        checkpoint.save(self.model, path, **metadata, **self.run.metadata())
        self._record.write_text(json.dumps(best, indent=2) + "\n", encoding="utf-8")
        self.best = best

    def report_best(self) -> None:
        """Log which checkpoint is the best."""
        if self.best and not rank():
            inform(
                f"Best: {self.run.output / 'best.safetensors'}, of {self.best['stage']} at step {self.best['step']} "
                f"(score {self.best['score']:.3f}; why is in {self._record.name}, images in sheet.png)."
            )
