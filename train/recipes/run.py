"""What every training has in common: where it writes, its budget, its device, and how it is
started.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from livepuppet.core.processor import processor_name
from livepuppet.train.loop import files
from livepuppet.train.loop.distributed import barrier_or_fail, process_group, rank, world_size
from livepuppet.train.loop.precision import Precision, choose_device, choose_precision
from livepuppet.train.loop.task import Task
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.loop.training_log import TrainingLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunConfig:
    """How a training runs: folder, budget, device.

    Attributes:
        output: folder for checkpoints, sheets, the log and weights.
        minutes, steps, epochs: the budget; at most one, the others None. Steps are per stage.
        batch, learning_rate: None for the recipe's own.
        seed: of all draws.
        resume: go on from the checkpoints in `output`.
        save_every: seconds between checkpoints.
        device: "auto", "cpu", "cuda" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        threads: of the CPU; None for PyTorch's choice.
        tensorboard: write event files.
        stop_on_alarm: end when a health check fails.
        command: kept in the weights, so that people know how they came about.
    """

    output: Path
    minutes: float | None = None
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    resume: bool = False
    save_every: float = 180.0
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    tensorboard: bool = False
    stop_on_alarm: bool = False
    command: str = ""


@dataclass(frozen=True)
class StageTime:
    """Steps taken and seconds spent in a stage, over all resumed runs."""

    steps: int
    seconds: float


@dataclass
class Run:
    """A training that has started.

    Attributes:
        config: as asked for.
        device, precision: as chosen for it.
        done: stage -> what it took; filled by `train`.
    """

    config: RunConfig
    device: torch.device
    precision: Precision
    done: dict[str, StageTime] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """Folder for everything that the training writes."""
        return self.config.output

    def trainer(self, task: Task, precision: Precision | None = None, **settings) -> Trainer:
        """A trainer of `task` under these conditions; `settings` go to `Trainer`."""
        config = self.config
        return Trainer(
            task,
            self.output,
            **{"seed": config.seed, "save_every": config.save_every} | settings,
            precision=precision or self.precision,
            log=TrainingLog(self.output, task.name, tensorboard=config.tensorboard),
            stop_on_alarm=config.stop_on_alarm,
        )

    def train(self, trainer: Trainer) -> None:
        """Train to the end; the model is left with its EMA weights, in evaluation mode.

        Raises:
            TrainingError: also if the folder holds a training that was not to be resumed.
        """
        name = trainer.task.name
        if self.config.resume:
            if trainer.resume():
                inform(f"{name}: going on from step {trainer.step}.")
            else:
                inform(f"{name}: no checkpoint in {self.output} yet; starting.")
        else:
            taken = rank() == 0 and any(
                path.exists() for path in (trainer.checkpoint, files.previous(trainer.checkpoint))
            )
            barrier_or_fail(
                f"{self.output} holds a training already ({trainer.checkpoint.name}): give --resume to go on with it, "
                "or another --output folder."
                if taken
                else None
            )
        trainer.run()
        trainer.task.trained.load_state_dict(trainer.ema_state)
        trainer.task.model.eval()
        self.done[name] = StageTime(trainer.step, trainer.elapsed)

    def metadata(self) -> dict[str, Any]:
        """What is kept beside the weights: how they came about."""
        threads = torch.get_num_threads()
        if self.device.type == "cuda":
            machine = torch.cuda.get_device_name(self.device)
        else:
            machine = f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"
        return {
            "seed": self.config.seed,
            "torch": torch.__version__,
            "steps": ", ".join(str(stage.steps) for stage in self.done.values()),
            "hours": f"{sum(stage.seconds for stage in self.done.values()) / 3600:.2f}",
            "machine": f"{machine}, {world_size()} processes" if world_size() > 1 else machine,
            "command": self.config.command,
        }


@contextmanager
def start(config: RunConfig) -> Iterator[Run]:
    """Set seed and threads, join the other processes where `torchrun` started several, choose
    device and precision.

    Raises:
        TrainingError: the device is not there, or the processes do not reach each other.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    with process_group(choose_device(config.device)) as device:
        try:
            yield Run(config, device, choose_precision(config.precision, device))
        except TrainingError:
            # What all processes find out together is reported once.
            if rank():
                raise SystemExit(2) from None
            raise


def inform(message: str) -> None:
    """Log what happens, in the first process alone."""
    if rank() == 0:
        logger.info("%s", message)


def warn(message: str) -> None:
    """Log a warning, in the first process alone."""
    if rank() == 0:
        logger.warning("%s", message)
