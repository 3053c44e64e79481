"""What every kind of training that the command line starts has in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import torch

from livepuppet.train.loop.distributed import rank
from livepuppet.train.loop.journal import Journal
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.trainer import Trainer, TrainingError


@dataclass(frozen=True)
class Run:
    """How a training runs, whatever it trains.

    Attributes:
        output: folder for checkpoints, sheets, the log and weights.
        device, precision: where and in how many bits.
        minutes, steps, epochs: the budget; at most one, the others None.
        batch, learning_rate: None for the usual ones.
        seed: of all draws.
        resume: go on from the checkpoint in `output`.
        save_every: seconds between checkpoints.
        tensorboard: write event files.
        stop_on_alarm: end when training goes wrong.
    """

    output: Path
    device: torch.device
    precision: Precision
    minutes: float | None = None
    steps: int | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    resume: bool = False
    save_every: float = 180.0
    tensorboard: bool = False
    stop_on_alarm: bool = False

    def trainer(self, task, **settings) -> Trainer:
        """A trainer of `task` under these conditions; `settings` go to `Trainer`."""
        return Trainer(
            task,
            self.output,
            seed=self.seed,
            save_every=self.save_every,
            precision=self.precision,
            journal=Journal(self.output, task.name, tensorboard=self.tensorboard),
            stop_on_alarm=self.stop_on_alarm,
            **settings,
        )

    def go(self, trainer: Trainer) -> None:
        """Train to the end; the model is left with its running average, in evaluation mode.

        Raises:
            TrainingError: also if the folder holds a training that was not asked to go on.
        """
        if self.resume:
            if trainer.resume():
                say(f"{trainer.task.name}: going on from step {trainer.step}.")
            else:
                say(f"{trainer.task.name}: no checkpoint in {self.output} yet; starting.")
        elif trainer.checkpoint.exists():
            raise TrainingError(
                f"{self.output} holds a training already ({trainer.checkpoint.name}): give --resume to go on with it, "
                "or another --output folder."
            )
        trainer.run()
        trainer.task.trained.load_state_dict(trainer.average)
        trainer.task.model.eval()


def say(text: str) -> None:
    """Print a line, in the first process alone."""
    if rank() == 0:
        click.echo(text)


def warn(text: str) -> None:
    """Print a line on standard error, in the first process alone."""
    if rank() == 0:
        click.echo(text, err=True)
