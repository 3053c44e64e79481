"""What every kind of training that the command line starts has in common."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path

import click
import torch

from livepuppet.train.loop import files
from livepuppet.train.loop.distributed import all_ready, rank, world
from livepuppet.train.loop.journal import Journal
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.trainer import Trainer


def processor() -> str:
    """The processor's name, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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
        done: stage -> steps taken and seconds spent, over all resumed parts; filled by `go`.
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
    done: dict[str, tuple[int, float]] = field(default_factory=dict)

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
        else:
            taken = rank() == 0 and any(
                path.exists() for path in (trainer.checkpoint, files.previous(trainer.checkpoint))
            )
            all_ready(
                f"{self.output} holds a training already ({trainer.checkpoint.name}): give --resume to go on with it, "
                "or another --output folder."
                if taken
                else None
            )
        trainer.run()
        trainer.task.trained.load_state_dict(trainer.average)
        trainer.task.model.eval()
        self.done[trainer.task.name] = trainer.step, trainer.elapsed

    def facts(self) -> dict[str, object]:
        """What is kept beside the weights: how they came about."""
        threads = torch.get_num_threads()
        if self.device.type == "cuda":
            machine = torch.cuda.get_device_name(self.device)
        else:
            machine = f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"
        return {
            "seed": self.seed,
            "torch": torch.__version__,
            "steps": ", ".join(str(steps) for steps, _ in self.done.values()),
            "hours": f"{sum(seconds for _, seconds in self.done.values()) / 3600:.2f}",
            "machine": f"{machine}, {world()} processes" if world() > 1 else machine,
        }


def say(text: str) -> None:
    """Print a line, in the first process alone."""
    if rank() == 0:
        click.echo(text)


def warn(text: str) -> None:
    """Print a line on standard error, in the first process alone."""
    if rank() == 0:
        click.echo(text, err=True)
