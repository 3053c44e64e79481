"""The training loop: one place for schedule, averaging, checkpoints, resume, progress, sheets and alarms.

A *task* says what is trained and with which losses (`DetectorTask`, `AnimatorTask`, `VideoTask`); the loop is the same
for all of them.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from tqdm import tqdm

#: Steps without a finite loss after which training stops.
MOST_BAD_STEPS = 20


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one sentence that says why and what to do."""


def _agree_finite(loss: Tensor) -> bool:
    """Whether the loss is a number in every process, so that all of them step or none does."""
    finite = torch.isfinite(loss.detach()).float().reshape(1)
    if distributed.is_initialized():
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite.item())


def _average_gradients(module: nn.Module) -> None:
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class Task(Protocol):
    """What the loop needs to know of a training task."""

    name: str
    model: nn.Module
    trained: nn.Module

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]: ...


def _atomically(path: Path, write) -> None:
    """Write through a temporary file beside `path`, so that a kill or a full disk leaves the old file whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def rank() -> int:
    """Which of the processes that train together this is; 0 where there is only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def _agree(value: float) -> float:
    """What the first process says."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(shared, 0)
    return shared.item()


class Trainer:
    """Trains one task.

    Several processes train together when `torch.distributed` is initialised: each draws its own pairs, gradients are
    averaged, and the first process alone decides on the schedule and writes files.

    Args:
        task: what to train.
        folder: where `checkpoint.pt` and sheets go; created.
        steps: how many optimiser steps; or
        minutes: how long, wall clock, over all resumed runs together.
        learning_rate: peak; warmed up over 100 steps (a tenth of a short run), then cosine to 2 % of it.
        seed: of every random draw.
        save_every: seconds between checkpoints.
        on_save: called with the trainer after each checkpoint (sheets, validation).
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        steps: int | None = None,
        minutes: float | None = None,
        learning_rate: float = 1e-3,
        seed: int = 0,
        save_every: float = 120.0,
        on_save=None,
    ):
        if (steps is None) == (minutes is None):
            raise ValueError("give either steps or minutes")
        self.task, self.folder = task, folder
        self.total_steps, self.minutes = steps, minutes
        self.learning_rate, self.save_every, self.on_save = learning_rate, save_every, on_save
        self.rng = torch.Generator().manual_seed(seed + 7919 * rank())
        self.optimiser = torch.optim.Adam(task.trained.parameters(), lr=learning_rate, betas=(0.9, 0.99))
        self.average = {name: value.detach().clone() for name, value in task.trained.state_dict().items()}
        self.warm_up = 100 if steps is None else max(1, min(100, steps // 10))
        self.step, self.elapsed, self.bad_steps = 0, 0.0, 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.task.name}.checkpoint.pt"

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0 to 1."""
        if self.total_steps is not None:
            return min(self.step / max(self.total_steps, 1), 1.0)
        return min(self.elapsed / (60 * self.minutes), 1.0)

    def save(self) -> None:
        """Write everything needed to go on exactly here."""
        state = {
            "task": self.task.name,
            "step": self.step,
            "elapsed": self.elapsed,
            "trained": self.task.trained.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
        }
        _atomically(self.checkpoint, lambda path: torch.save(state, path))

    def resume(self) -> bool:
        """Continue from the folder's checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return False
        try:
            state = torch.load(self.checkpoint, weights_only=True)
            self.task.trained.load_state_dict(state["trained"])
            self.optimiser.load_state_dict(state["optimiser"])
        except Exception as error:
            raise TrainingError(
                f"{self.checkpoint} does not continue this training ({type(error).__name__}): "
                "give another --output folder or delete the file."
            ) from error
        self.average = state["average"]
        self.step, self.elapsed = state["step"], state["elapsed"]
        if rank() == 0:
            self.rng.set_state(state["rng"])
            torch.set_rng_state(state["torch_rng"])
        else:
            # Its own state was not kept: draws that no process has seen yet.
            self.rng.manual_seed(self.rng.initial_seed() + 104729 * (self.step + 1))
        return True

    @contextlib.contextmanager
    def averaged(self):
        """Inside, the trained modules hold their running average, which is what is shipped."""
        current = {name: value.detach().clone() for name, value in self.task.trained.state_dict().items()}
        self.task.trained.load_state_dict(self.average)
        try:
            yield
        finally:
            self.task.trained.load_state_dict(current)

    def _save_and_report(self) -> None:
        self.save()
        if self.on_save:
            self.on_save(self)

    def _one_step(self) -> dict[str, float]:
        progress = _agree(self.progress)
        for group in self.optimiser.param_groups:
            warm = min(1.0, (self.step + 1) / self.warm_up)
            group["lr"] = self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        parts = self.task.losses(self.rng)
        loss = sum(parts.values())
        self.optimiser.zero_grad(set_to_none=True)
        if _agree_finite(loss):
            self.bad_steps = 0
        else:
            self.bad_steps += 1
            if self.bad_steps >= MOST_BAD_STEPS:
                worst = ", ".join(name for name, part in parts.items() if not torch.isfinite(part))
                raise TrainingError(
                    f"the loss was not a number {MOST_BAD_STEPS} times in a row ({worst}): resume from the last "
                    "checkpoint with a lower --learning-rate, and check the pictures with a sheet."
                )
            return {name: part.item() for name, part in parts.items()}
        loss.backward()
        _average_gradients(self.task.trained)
        nn.utils.clip_grad_norm_(self.task.trained.parameters(), 5.0)
        self.optimiser.step()
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.task.trained.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1 - decay)
                else:
                    self.average[name].copy_(value)
        self.step += 1
        return {name: part.item() for name, part in parts.items()}

    def run(self, quiet: bool = False) -> None:
        """Train to the end. Ctrl-C and SIGTERM save a checkpoint first."""
        stop = []
        previous = {}
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, lambda *_: stop.append(True))
        bar = tqdm(
            total=100,
            disable=quiet or rank() > 0,
            unit="%",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        )
        bar.set_description(self.task.name)
        means: dict[str, float] = {}
        saved = time.monotonic()
        try:
            while not _agree(float(self.progress >= 1 or bool(stop))):
                begin = time.monotonic()
                if hasattr(self.task, "prepare"):
                    self.task.prepare()
                parts = self._one_step()
                seconds = time.monotonic() - begin
                self.elapsed += seconds
                for name, value in parts.items():
                    means[name] = 0.98 * means.get(name, value) + 0.02 * value
                means["s/step"] = 0.95 * means.get("s/step", seconds) + 0.05 * seconds
                bar.n = round(100 * self.progress, 1)
                if self.step % 10 == 0:
                    bar.set_postfix_str(
                        f"step {self.step} " + " ".join(f"{k} {v:.3f}" for k, v in means.items())
                    )
                if rank() == 0 and time.monotonic() - saved > self.save_every:
                    self._save_and_report()
                    saved = time.monotonic()
            if rank() == 0:
                self._save_and_report()
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if stop and self.progress < 1:
            raise TrainingError(
                f"stopped at step {self.step}: the same command with --resume goes on from {self.checkpoint}."
            )
