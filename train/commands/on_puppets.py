"""`livepuppet train lite-256 --puppets POOL|stream`: the default model's stages on procedural puppets."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from livepuppet.model import checkpoint
from livepuppet.train.commands.runs import Run, say, warn
from livepuppet.train.loop.distributed import rank
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.puppets.pairs import Puppets


@dataclass(frozen=True)
class Stage:
    """One part of a training on puppets.

    Attributes:
        share: of a time budget.
        rate: peak learning rate.
        batch, large_batch: on a processor and on a graphics card.
        half_size: pictures of half the size are enough.
    """

    share: float
    rate: float
    batch: int
    large_batch: int
    half_size: bool = False


#: In their order. The detector and dense motion look at pictures of half and a quarter of the size.
STAGES = {
    "detector": Stage(0.25, 2e-3, 16, 64, half_size=True),
    "motion": Stage(0.25, 1e-3, 16, 64, half_size=True),
    "animator": Stage(0.35, 6e-4, 8, 32),
    "polish": Stage(0.15, 2e-4, 8, 32),
}

#: Stages whose model is whole, so that checkpoints can be chosen among.
WHOLE = ("animator", "polish")

#: Shards drawn before training on a pool starts, and where those of half the size lie in it.
FIRST_SHARDS, SMALL = 4, "half-size"

#: Groups that a stream holds, groups drawn at once, and steps from one such batch to the next.
RING = {"cuda": (1024, 64, 8)}
RING_ELSEWHERE = (24, 2, 8)

#: What is judged by: puppets drawn for nothing else. Identities per factor; pictures for the detector; seeds.
PROBES, PROBE_SEED = 4, 7
TRUTH, TRUTH_SEED = 48, 5


@dataclass(frozen=True)
class Source:
    """Where puppets to train on come from.

    Attributes:
        folder: of a pool; None for a stream, which draws them on the device while training.
        setting: which puppets.
        shards: to draw into the pool, per size.
        drawers: processes that draw them meanwhile.
        compiled: let a stream compile the renderer.
    """

    folder: Path | None
    setting: str
    shards: int = 64
    drawers: int = 1
    compiled: bool = False


def train_on_puppets(
    model, source: Source, run: Run, stages: tuple[str, ...], faces: Path | None = None
) -> None:
    """Train the stages named; choose the best checkpoint among those of the last ones.

    After each checkpoint the averaged model is judged (`train.measure.judge`), on puppets that no training draws and, if
    `faces` is given, on clips of real faces; the best so far is `best.safetensors`, why is in `best.json`. Judging counts
    as part of a time budget.

    Args:
        model: the preset's, on `run.device`.
        source: of puppets.
        run: the budget, device and so on; its precision is that of convolutions.
        stages: some of `STAGES`, in their order.
        faces: folder of clips, to judge by alone.

    Raises:
        TrainingError, PoolError, DataError, OSError: as everywhere.
    """
    from livepuppet.train.puppets.pool import keep_freed_memory

    if run.precision.name == "fp16":
        raise TrainingError("puppets are trained on in bf16 or fp32: give --precision bf16, or --half.")
    keep_freed_memory()
    stages = tuple(name for name in STAGES if name in stages)
    size = model.preset.size
    judge = Judge(model, source, run, size, any(name in WHOLE for name in stages), faces)
    total = sum(STAGES[name].share for name in stages)
    # Tasks put their own convolutions in 16 bits; positions and the puppets' truth stay exact.
    exact = replace(run, precision=Precision("fp32", run.device))
    with _drawing(source, size, stages):
        for name in stages:
            stage = STAGES[name]
            batch = run.batch or (stage.large_batch if run.device.type == "cuda" else stage.batch)
            puppets = _puppets(source, size, name, run)
            task = _task(name, model, puppets, batch, run.precision.name == "bf16")
            trainer = exact.trainer(
                task,
                steps=run.steps,
                minutes=None if run.minutes is None else run.minutes * stage.share / total,
                learning_rate=run.learning_rate or stage.rate,
                on_save=judge.look,
                facts={
                    "network": model.preset.name,
                    "batch": batch,
                    "seed": run.seed,
                    "precision": run.precision.name,
                    "puppets": _described(puppets),
                },
            )
            try:
                exact.go(trainer)
            except torch.OutOfMemoryError as error:
                raise TrainingError(
                    f"The memory of {run.device} is too small for {name} with batches of {batch}: give a smaller --batch, and "
                    "another --output folder."
                ) from error
            speed = getattr(puppets, "speed", dict)()
            if speed.get("drawn"):
                say(
                    f"{name}: {trainer.step} steps; {speed['drawn']:.0f} puppets drawn meanwhile, {speed['drawn/s']:.0f} per second."
                )
    judge.conclude()


def _task(name: str, model, puppets: Puppets, batch: int, half: bool):
    from livepuppet.train.lite.animator import AnimatorTask
    from livepuppet.train.lite.detector import DetectorTask

    if name == "detector":
        model.requires_grad_(True)
        task = DetectorTask(model, puppets, batch)
    else:
        task = AnimatorTask(
            model, puppets, batch, motion_only=name == "motion", half=half, adversarial=name == "polish"
        )
    if hasattr(puppets, "state"):
        _remember(task, puppets)
    return task


def _remember(task, puppets) -> None:
    """Keep a stream's place with the task's checkpoints."""
    own_state = getattr(task, "state", dict)
    own_load = getattr(task, "load_state", None)

    def load(state: dict) -> None:
        puppets.load_state(state["puppets"])
        if own_load is not None:
            own_load(state["task"])

    task.state = lambda: {"puppets": puppets.state(), "task": own_state()}
    task.load_state = load


# -------------------------------------------------------------------------------------------------------------- puppets


def _small_folder(source: Source, size: int) -> Path:
    """Where a pool's pictures of half the size lie: with the others, if there are enough of them already."""
    from livepuppet.train.puppets.pool import read_stamp

    there = sorted(source.folder.glob("puppets-*.npz"))
    if there and (len(there) >= source.shards or read_stamp(there[0]).size == size // 2):
        return source.folder
    return source.folder / SMALL


def _puppets(source: Source, size: int, stage: str, run: Run) -> Puppets:
    from livepuppet.train.puppets.pool import PoolError, PuppetPool
    from livepuppet.train.puppets.stream import PuppetStream

    side = size // 2 if STAGES[stage].half_size else size
    if source.folder is None:
        hold, fresh, every = RING.get(run.device.type, RING_ELSEWHERE)
        number = len(STAGES) * run.seed + list(STAGES).index(stage)
        return PuppetStream(
            run.device,
            side,
            size // 4,
            source.setting,
            number,
            hold,
            fresh,
            every,
            compiled=source.compiled,
            part=rank(),
        )
    folder = _small_folder(source, size) if STAGES[stage].half_size else source.folder
    pool = PuppetPool(folder, device=run.device, setting=source.setting)
    if not len(pool):
        raise PoolError(f"There are no puppets in {folder}: draw some with --shards.")
    if pool.shards[0].stamp.size < side:
        raise PoolError(
            f"The pictures in {folder} have {pool.shards[0].stamp.size} pixels, and {stage} needs {side}: give another folder, "
            "or only the stages detector and motion."
        )
    return pool


def _described(puppets: Puppets) -> str:
    if hasattr(puppets, "state"):
        kept = puppets.state()
        return "stream: " + ", ".join(f"{name} {value}" for name, value in kept.items() if name != "steps")
    return f"pool: {puppets.setting}"


@contextmanager
def _drawing(source: Source, size: int, stages: tuple[str, ...]) -> Iterator[None]:
    """Draw what a pool lacks: a few shards at once, the rest by processes that end with the training."""
    from livepuppet.train.puppets.pool import FIRST_SEED, draw_jobs

    jobs = []
    if source.folder is not None:
        sizes = {STAGES[name].half_size for name in stages}
        for half in sorted(sizes, reverse=True):
            folder = _small_folder(source, size) if half else source.folder
            side = size // 2 if half and folder != source.folder else size
            if half and folder == source.folder and any(folder.glob("puppets-*.npz")):
                continue
            jobs.append(
                [
                    (folder, FIRST_SEED + k, side, size // 4, source.setting)
                    for k in range(source.shards)
                    if not (folder / f"puppets-{FIRST_SEED + k:08d}.npz").exists()
                ]
            )
    first = [job for some in jobs for job in some[:FIRST_SHARDS]]
    rest = [job for some in jobs for job in some[FIRST_SHARDS:]]
    if first:
        say(f"Drawing {64 * len(first)} puppets to begin with ...")
        draw_jobs(first)
    drawers = min(source.drawers, len(rest))
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


# -------------------------------------------------------------------------------------------------------------- judging


@dataclass
class Judge:
    """Looks at a training after each checkpoint, and keeps the best model.

    Attributes:
        model: in training.
        whole: whether a stage is trained whose model can be chosen.
        best: what is in `best.json`; empty before there is one.
    """

    model: torch.nn.Module
    source: Source
    run: Run
    size: int
    whole: bool
    folder: Path | None
    best: dict = field(default_factory=dict)

    def __post_init__(self):
        from livepuppet.train.lite.responses import draw_probes
        from livepuppet.train.measure.judge import read_faces
        from livepuppet.train.puppets.stream import PuppetStream

        self.faces, self.probes = None, []
        self.truth = None
        if rank():
            return
        if self.folder is not None:
            skipped: list[str] = []
            self.faces = read_faces(self.folder, self.size, skipped=skipped)
            for sentence in skipped:
                warn(sentence)
        if self.whole:
            self.probes = draw_probes(PROBES, PROBE_SEED, self.size, setting=self.source.setting)
        held_out = PuppetStream(
            "cpu", self.size, self.size // 4, self.source.setting, -TRUTH_SEED, TRUTH, TRUTH, poses=1
        )
        drawn = held_out.pictures_with_truth(TRUTH, torch.Generator().manual_seed(TRUTH_SEED))
        self.truth = tuple(value.to(self.run.device) for value in drawn)
        self.looked: dict[str, int] = {}
        if self.run.resume:
            try:
                self.best = json.loads(self._record.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self.best = {}

    @property
    def _record(self) -> Path:
        return self.run.output / "best.json"

    def look(self, trainer: Trainer) -> None:
        """Judge the average as it is now; its time is the training's."""
        began, name = time.monotonic(), trainer.task.name
        if self.looked.get(name) == trainer.step:
            return
        self.looked[name] = trainer.step
        record = {"stage": name, "step": trainer.step, "minutes": round(trainer.elapsed / 60, 2)}
        speed = getattr(trainer.task.pool, "speed", dict)()
        if speed.get("drawn"):
            record |= {"drawn/s": round(speed["drawn/s"], 1), "drawing s": round(speed["drawing s"], 1)}
        with trainer.averaged():
            record |= self._figures(name, trainer)
        record["judging s"] = round(time.monotonic() - began, 1)
        trainer.journal.write(record)
        trainer.elapsed += time.monotonic() - began

    def _figures(self, name: str, trainer: Trainer) -> dict:
        from livepuppet.train.lite.detector import detector_error
        from livepuppet.train.measure.judge import judge
        from livepuppet.train.sheets import probe_sheet, write

        if name == "detector":
            return detector_error(self.model, *self.truth)
        if name not in WHOLE:
            return {}
        score = judge(self.model, self.probes, self.faces)
        figures = {"score": round(score.total, 4), **score.details}
        sheet = probe_sheet(self.model, self.probes, 1)
        write(self.run.output / "sheet.png", sheet)
        trainer.journal.picture(sheet, trainer.step)
        if score.total > self.best.get("score", -1.0):
            self._keep({"score": score.total, "stage": name, "step": trainer.step, **score.details})
        return figures

    def _keep(self, best: dict) -> None:
        path = self.run.output / "best.safetensors"
        facts = {"stage": best["stage"], "step": str(best["step"]), "score": f"{best['score']:.4f}"}
        checkpoint.save(self.model, path, **facts, **self.run.facts())
        self._record.write_text(json.dumps(best, indent=2) + "\n", encoding="utf-8")
        self.best = best

    def conclude(self) -> None:
        """Say which is the best."""
        if self.best and not rank():
            say(
                f"Best: {self.run.output / 'best.safetensors'}, of {self.best['stage']} at step {self.best['step']} "
                f"(score {self.best['score']:.3f}; why is in {self._record.name}, pictures in sheet.png)."
            )
