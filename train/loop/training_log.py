"""What a training reports while it runs: a progress line, a machine-readable log, TensorBoard's
event files.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from livepuppet.train.loop.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

#: Seconds between entries of the log, and between progress lines where there is no terminal.
EVERY = 20.0

#: Smoothing of the means shown: the share that a step leaves of the mean before it.
INERTIA = 0.98


@dataclass
class Progress:
    """Where a training stands after a step.

    Attributes:
        step: steps done.
        total: steps to do; None for a budget of time.
        minutes: spent so far, over all resumed runs.
        left: estimated seconds to the end.
        share: of the training that is done, 0 to 1.
        parts: of this step's loss.
        diagnostics: further figures of the step (see `HealthChecks`).
        rate: the learning rate.
        images: pairs per second.
    """

    step: int
    total: int | None
    minutes: float
    left: float
    share: float
    parts: dict[str, float]
    diagnostics: dict[str, float]
    rate: float
    images: float


def tensorboard_writer(folder: Path, step: int):
    """A writer of event files into `folder`/tensorboard that continues at `step`.

    Raises:
        TrainingError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "--tensorboard needs the package 'tensorboard': install it with pip install 'livepuppet[tensorboard]'."
        ) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step)


class TrainingLog:
    """Reports one training: to `logging`, to `log.jsonl` and, if asked, to TensorBoard.

    Args:
        folder: where `log.jsonl` and TensorBoard's files go.
        name: of the task.
        quiet: no progress bar and no progress lines; `log.jsonl` is written all the same.
        tensorboard: write event files.
        every: seconds between entries of the log and between progress lines.
    """

    def __init__(
        self, folder: Path, name: str, quiet: bool = False, tensorboard: bool = False, every: float = EVERY
    ):
        self.folder, self.name, self.quiet, self.every = folder, name, quiet, every
        self._tensorboard, self._events = tensorboard, None
        self._bar: tqdm | None = None
        self._means: dict[str, float] = {}
        self._seen, self._lost = 0, False
        self._last_line = self._last_entry = time.monotonic()

    def begin(self, step: int) -> None:
        """Before the first step of this run, which continues at `step`."""
        self._means, self._seen = {}, 0
        self._last_line = self._last_entry = time.monotonic()
        self._events = tensorboard_writer(self.folder, step) if self._tensorboard else None
        if not self.quiet and sys.stderr.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}"
            self._bar = tqdm(total=100, unit="%", bar_format=form, desc=self.name)

    def step(self, progress: Progress) -> None:
        """After every step."""
        self._seen += 1
        keep = min(INERTIA, 1 - 1 / self._seen)
        loss = {"loss": sum(progress.parts.values())}
        values = loss | progress.parts | progress.diagnostics | {"/s": progress.images}
        for name, value in values.items():
            self._means[name] = keep * self._means.get(name, value) + (1 - keep) * value
        now = time.monotonic()
        if self._bar is not None:
            self._bar.n = round(100 * progress.share, 1)
            if self._seen % 10 == 1:
                self._bar.set_postfix_str(self._line(progress))
        elif not self.quiet and now - self._last_line > self.every:
            logger.info("%s %5.1f %% %s", self.name, 100 * progress.share, self._line(progress))
            self._last_line = now
        if now - self._last_entry > self.every:
            self.log(progress)
            self._last_entry = now

    def log(self, progress: Progress) -> None:
        """Write where the training stands into the log and TensorBoard's files."""
        if not self._means:
            return
        rounded = {name: _short(value) for name, value in self._means.items() if name != "/s"}
        record = {
            "stage": self.name,
            "step": progress.step,
            "minutes": round(progress.minutes, 2),
            "learning rate": progress.rate,
            "images/s": _short(self._means["/s"]),
            "left min": round(progress.left / 60, 1),
            **rounded,
        }
        self.write(record)
        if self._events is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._events.add_scalar(f"{self.name}/{name}", value, progress.step)

    def image(self, image: np.ndarray, step: int) -> None:
        """Put a sheet, uint8 RGB (H, W, 3), into TensorBoard's files."""
        if self._events is not None:
            self._events.add_image(f"{self.name}/sheet", image, step, dataformats="HWC")

    def write(self, record: dict) -> None:
        """Append a line to the log. A full disk is no reason to stop: checkpoints report it where
        it matters.
        """
        try:
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
        except OSError as error:
            if not self._lost:
                self.warn(f"The log cannot be written ({error.strerror}); training goes on.")
            self._lost = True

    def warn(self, message: str) -> None:
        """Report a problem now, above the progress bar."""
        if self._bar is not None:
            self._bar.clear()
        logger.warning("%s", message)

    def close(self) -> None:
        """After the last step."""
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            self._events.close()

    def _line(self, progress: Progress) -> str:
        of = f"/{progress.total}" if progress.total else ""
        parts = " ".join(
            f"{name} {value:.3f}" for name, value in self._means.items() if name in progress.parts
        )
        return (
            f"step {progress.step}{of} loss {self._means['loss']:.3f} ({parts}) "
            f"{self._means['/s']:.1f} images/s, rate {progress.rate:.1e}, {time_left(progress.left)} left"
        )


def time_left(seconds: float) -> str:
    """Rounded for people: "3 h 05 min", "12 min", "40 s"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    return f"{round(seconds / 60)} min" if seconds >= 90 else f"{max(0, round(seconds))} s"


def _short(value: float) -> float:
    return float(f"{value:.5g}")
