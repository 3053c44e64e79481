"""What a training says while it runs: a progress line, a log to read by machine, and TensorBoard's files."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from livepuppet.train.loop.errors import TrainingError

#: Seconds between entries of the log, and between lines where there is no terminal.
EVERY = 20.0

#: How slowly the shown means follow: the share that a step leaves of what was before.
INERTIA = 0.98


@dataclass
class Progress:
    """Where a training is after a step.

    Attributes:
        step: steps done; total: of how many, None for a budget of time.
        minutes: spent so far, over all runs.
        left: seconds to the end, as far as one can say.
        share: of the training that is done, 0 to 1.
        parts: the loss's parts, this step's.
        signs: further figures of the step (see `alarms`).
        rate: the learning rate.
        pictures: per second.
    """

    step: int
    total: int | None
    minutes: float
    left: float
    share: float
    parts: dict[str, float]
    signs: dict[str, float]
    rate: float
    pictures: float


def tensorboard_writer(folder: Path, step: int):
    """A writer of event files into `folder`/tensorboard that continues at `step`.

    Raises:
        TrainingError: if the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "--tensorboard needs the package 'tensorboard': install it with pip install 'livepuppet[tensorboard]'."
        ) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)


@dataclass
class Journal:
    """Says how one training goes.

    Attributes:
        folder: where `log.jsonl` and TensorBoard's files go.
        name: of the task.
        quiet: print nothing; the log is written.
        tensorboard: write event files too.
        say: how a line is printed.
    """

    folder: Path
    name: str
    quiet: bool = False
    tensorboard: bool = False
    every: float = EVERY
    say: Callable[[str], None] = field(default=lambda text: print(text, file=sys.stderr, flush=True))

    def begin(self, step: int) -> None:
        """Before the first step of this run, which continues at `step`."""
        self.means: dict[str, float] = {}
        self.seen = 0
        self.last_said = self.last_logged = time.monotonic()
        self.events = tensorboard_writer(self.folder, step) if self.tensorboard else None
        self.bar = None
        if not self.quiet and sys.stderr.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}"
            self.bar = tqdm(total=100, unit="%", bar_format=form, desc=self.name)

    def step(self, progress: Progress) -> None:
        """After every step."""
        self.seen += 1
        keep = min(INERTIA, 1 - 1 / self.seen)
        loss = {"loss": sum(progress.parts.values())}
        for name, value in (loss | progress.parts | progress.signs | {"/s": progress.pictures}).items():
            self.means[name] = keep * self.means.get(name, value) + (1 - keep) * value
        now = time.monotonic()
        if self.bar is not None:
            self.bar.n = round(100 * progress.share, 1)
            if self.seen % 10 == 1:
                self.bar.set_postfix_str(self._line(progress))
        elif not self.quiet and now - self.last_said > self.every:
            self.say(f"{self.name} {100 * progress.share:5.1f} % {self._line(progress)}")
            self.last_said = now
        if now - self.last_logged > self.every:
            self.log(progress)
            self.last_logged = now

    def log(self, progress: Progress) -> None:
        """Write where the training is into the log, and TensorBoard's files."""
        if not self.means:
            return
        rounded = {name: _short(value) for name, value in self.means.items() if name != "/s"}
        record = {
            "stage": self.name,
            "step": progress.step,
            "minutes": round(progress.minutes, 2),
            "learning rate": progress.rate,
            "pictures/s": _short(self.means["/s"]),
            "left min": round(progress.left / 60, 1),
            **rounded,
        }
        self.write(record)
        if self.events is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self.events.add_scalar(f"{self.name}/{name}", value, progress.step)

    def picture(self, picture, step: int) -> None:
        """Put a sheet, uint8 RGB (H, W, 3), into TensorBoard's files."""
        if getattr(self, "events", None) is not None:
            self.events.add_image(f"{self.name}/sheet", picture, step, dataformats="HWC")

    def write(self, record: dict) -> None:
        """One line of the log. A full disk is no reason to stop: checkpoints say so where it matters."""
        try:
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
        except OSError as error:
            if not getattr(self, "log_lost", False):
                self.note(f"The log cannot be written ({error.strerror}); training goes on.")
            self.log_lost = True

    def note(self, sentence: str) -> None:
        """Say a sentence now, above the progress line; never left out."""
        if getattr(self, "bar", None) is not None:
            self.bar.clear()
        self.say(sentence)

    def close(self) -> None:
        """After the last step."""
        if getattr(self, "bar", None) is not None:
            self.bar.close()
        if getattr(self, "events", None) is not None:
            self.events.close()

    def _line(self, progress: Progress) -> str:
        of = f"/{progress.total}" if progress.total else ""
        parts = " ".join(
            f"{name} {value:.3f}" for name, value in self.means.items() if name in progress.parts
        )
        return (
            f"step {progress.step}{of} loss {self.means['loss']:.3f} ({parts}) "
            f"{self.means['/s']:.1f} pictures/s, rate {progress.rate:.1e}, {time_left(progress.left)} left"
        )


def time_left(seconds: float) -> str:
    """ "3 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    return f"{round(seconds / 60)} min" if seconds >= 90 else f"{max(0, round(seconds))} s"


def _short(value: float) -> float:
    return float(f"{value:.5g}")
