"""The training loop: one place for schedule, averaging, checkpoints, resume, progress, sheets and alarms.

A *task* says what is trained and with which losses (`FommTask`, `MonkeyNetTask`, `DetectorTask`, ...); the loop is the
same for all of them.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from livepuppet.core.files import discard_leftovers
from livepuppet.train.loop import batch_norm, distributed, files
from livepuppet.train.loop.alarms import Alarms
from livepuppet.train.loop.distributed import rank, world
from livepuppet.train.loop.errors import TrainingError
from livepuppet.train.loop.journal import Journal, Progress
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.schedules import Cosine, Milestones

__all__ = ["MOST_BAD_STEPS", "Task", "Trainer", "TrainingError"]

#: Steps without a finite loss after which training stops.
MOST_BAD_STEPS = 20


class Task(Protocol):
    """What the loop needs to know of a training task.

    Attributes:
        name: of the checkpoint's file.
        model: the network with the three calls; what is shipped and shown.
        trained: everything that training moves and has to save, except the rival.

    Optional attributes, with what holds without them:
        rival (None): a discriminator, trained in turn, by an optimiser of its own.
        same_draws (False): whether all processes draw the same numbers and take their share of each batch. Only then do
            they share batch statistics too.
        betas ((0.9, 0.99)): of Adam; the papers use (0.5, 0.999).
        clip (5.0): largest norm of `trained`'s gradient; None for no limit, as the papers have none.
    """

    name: str
    model: nn.Module
    trained: nn.Module

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """Weighted parts, whose sum is minimised. Optional beside it:

        `prepare()` before each step; `rival_losses() -> dict[str, Tensor]`, called right after the step of `trained`, on
        the batch that `losses` saw last; `signs() -> dict[str, float]`, figures of that batch for `alarms`;
        `state() -> dict` and `load_state(dict)`, tensors and plain values to keep with a checkpoint.
        """
        ...


class Trainer:
    """Trains one task.

    Several processes train together when `torch.distributed` is initialised: gradients are averaged, and the first
    process alone decides on the schedule and writes files. Tasks with `same_draws` compute then what one process would
    with the whole batch; the others draw pairs of their own in each process.

    Every step draws from a generator seeded by `seed` and the step's number. So a resumed training sees what an
    undisturbed one would, and (in steps, on a CPU) ends in the same weights bit by bit. A budget of minutes makes the
    schedule depend on the clock; such a training is continued, but not repeatable.

    Args:
        task: what to train.
        folder: where `checkpoint.pt` and sheets go; created.
        steps: how many optimiser steps; or
        minutes: how long, wall clock, over all resumed runs together.
        learning_rate: peak. Of single children of `task.trained`: `{"name": rate, "": rate of the rest}`.
        seed: of every random draw.
        save_every: seconds between checkpoints.
        on_save: called with the trainer after each checkpoint (sheets, validation).
        schedule: of the learning rate; None for a warm-up over 100 steps (a tenth of a short run), then a cosine to 2 %.
        rival_rate: peak learning rate of the rival; None for the largest of the others.
        precision: of the computations; None for 32 bits on whatever device the task is.
        facts: what must not change when this training is resumed: name, as people know it -> value.
        journal: what is said; None for one of the standard kind.
        alarms: None for the standard ones.
        stop_on_alarm: end with a checkpoint when one goes off.
    """

    def __init__(
        self,
        task: Task,
        folder: Path,
        steps: int | None = None,
        minutes: float | None = None,
        learning_rate: float | dict[str, float] = 1e-3,
        seed: int = 0,
        save_every: float = 120.0,
        on_save: Callable[[Trainer], None] | None = None,
        *,
        schedule: Cosine | Milestones | None = None,
        rival_rate: float | None = None,
        precision: Precision | None = None,
        facts: dict[str, str] | None = None,
        journal: Journal | None = None,
        alarms: Alarms | None = None,
        stop_on_alarm: bool = False,
    ):
        if (steps is None) == (minutes is None):
            raise ValueError("give either steps or minutes")
        self.task, self.folder, self.seed = task, folder, seed
        self.total_steps, self.minutes = steps, minutes
        self.save_every, self.on_save = save_every, on_save
        self.same_draws = getattr(task, "same_draws", False)
        warm_up = 100 if steps is None else max(1, min(100, steps // 10))
        self.schedule = schedule or Cosine(warm_up)
        self.device = next(task.trained.parameters()).device
        self.precision = precision or Precision("fp32", self.device)
        self.facts = {name: str(value) for name, value in (facts or {}).items()}
        self.journal = journal or Journal(folder, task.name)
        self.alarms, self.stop_on_alarm = alarms or Alarms(), stop_on_alarm

        self.clip = getattr(task, "clip", 5.0)
        betas = getattr(task, "betas", (0.9, 0.99))
        groups = _groups(task.trained, learning_rate)
        self.peaks = [group["lr"] for group in groups]
        self.optimiser = torch.optim.Adam(groups, betas=betas)
        self.rival: nn.Module | None = getattr(task, "rival", None)
        self.rival_peak = rival_rate or max(self.peaks)
        self.rival_optimiser = (
            None
            if self.rival is None
            else torch.optim.Adam(self.rival.parameters(), lr=self.rival_peak, betas=betas)
        )
        if world() > 1:
            for module in filter(None, (task.trained, self.rival)):
                distributed.same_start(module)
                if self.same_draws:
                    batch_norm.synchronise(module)
        self.average = {name: value.detach().clone() for name, value in task.trained.state_dict().items()}
        self.rng = torch.Generator().manual_seed(seed)
        self.step, self.draws, self.elapsed, self.bad_steps = 0, 0, 0.0, 0
        self.saved_step: int | None = None
        self._seed_draws(self.rng, 0)
        if rank() == 0:
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
        """Write everything needed to go on exactly here; the checkpoint before is kept as `.previous`.

        Raises:
            OSError: nothing on disk was changed.
        """
        state = {
            "task": self.task.name,
            "facts": self.facts,
            "step": self.step,
            "draws": self.draws,
            "elapsed": self.elapsed,
            "trained": self.task.trained.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }
        if self.rival is not None:
            state["rival"] = self.rival.state_dict()
            state["rival_optimiser"] = self.rival_optimiser.state_dict()
        if hasattr(self.task, "state"):
            state["own"] = self.task.state()
        files.write(self.checkpoint, state)
        self.saved_step = self.step

    def resume(self) -> bool:
        """Continue from the folder's checkpoint, if there is one; from the one before it where it is damaged.

        Raises:
            TrainingError: if what is there is no checkpoint of this training.
        """
        data, problem = None, None
        if rank() == 0:
            try:
                data = self._read_checkpoint()
            except TrainingError as error:
                problem = str(error)
        distributed.all_ready(problem)
        data = distributed.first_sends(data)
        if data is None:
            return False
        try:
            state = files.decode(data)
            self._check_facts(state.get("facts", {}))
            self._load(state)
        except TrainingError:
            raise
        except Exception as error:
            raise TrainingError(
                f"{self.checkpoint} does not continue this training ({type(error).__name__}): "
                "give another --output folder or delete the file."
            ) from error
        return True

    def _read_checkpoint(self) -> bytes | None:
        discard_leftovers(self.checkpoint)
        candidates = [path for path in (self.checkpoint, files.previous(self.checkpoint)) if path.exists()]
        damage = []
        for path in candidates:
            try:
                data = files.read_whole(path)
            except (ValueError, OSError) as error:
                damage.append(f"{path} does not continue this training: {error}")
                continue
            for sentence in damage:
                self.journal.note(f"{sentence}; going on from the checkpoint before it, {path.name}.")
            return data
        if damage:
            raise TrainingError(f"{damage[0]}; give another --output folder or delete the file.")
        return None

    def _check_facts(self, before: dict[str, str]) -> None:
        for name in sorted(before.keys() | self.facts.keys() if before else ()):
            was, now = before.get(name, "none"), self.facts.get(name, "none")
            if was == now:
                continue
            # What stands for much more than fits into a sentence begins with '#'.
            values = "" if now.startswith("#") else f" ({_brief(was)}, now {_brief(now)})"
            other = "other" if name.endswith(("data", "s")) else "another"
            raise TrainingError(
                f"{self.checkpoint} was trained with {other} {name}{values}: resume with the same, or give another "
                "--output folder."
            )

    def _load(self, state: dict) -> None:
        self.task.trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.rival is not None:
            self.rival.load_state_dict(state["rival"])
            self.rival_optimiser.load_state_dict(state["rival_optimiser"])
        self.precision.scaler.load_state_dict(state["scaler"])
        for name, value in self.average.items():
            value.copy_(state["average"][name])
        self.step, self.draws, self.elapsed = state["step"], state["draws"], state["elapsed"]
        self.saved_step = self.step
        if hasattr(self.task, "load_state"):
            self.task.load_state(state["own"])
        torch.set_rng_state(state["torch_rng"])

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the trained modules hold their running average, which is what is shipped.

        Its memory grows with the training, to 500 steps: a short run's average is one of its last tenth.
        """
        current = {name: value.detach().clone() for name, value in self.task.trained.state_dict().items()}
        self.task.trained.load_state_dict(self.average)
        try:
            yield
        finally:
            self.task.trained.load_state_dict(current)

    def _save_and_report(self, last: bool = False) -> None:
        """A disk that is full or gone stops no training: it is said, and tried again in time."""
        try:
            self.save()
        except OSError as error:
            why = error.strerror or str(error)
            if last:
                raise TrainingError(
                    f"The last checkpoint could not be written to {self.folder} ({why}): make room there; the same "
                    f"command with --resume goes on from step {self.saved_step or 0}."
                ) from error
            self.journal.note(
                f"The checkpoint of step {self.step} could not be written ({why}): make room on that disk. Training "
                f"goes on and tries again in {self.save_every:.0f} s; the one of step {self.saved_step or 0} is safe."
            )
        if self.on_save is None:
            return
        modes = [(module, module.training) for module in self.task.model.modules()]
        drawn = torch.get_rng_state()
        try:
            self.on_save(self)
        except OSError as error:
            self.journal.note(f"The sheet could not be written ({error.strerror or error}).")
        finally:
            # Looking at a training must not change it.
            torch.set_rng_state(drawn)
            for module, training in modes:
                module.training = training

    def _seed_draws(self, rng: torch.Generator, draw: int) -> torch.Generator:
        own = 0 if self.same_draws else rank()
        return rng.manual_seed(_mixed(self.seed, draw, own))

    def _one_step(self) -> dict[str, float]:
        progress = distributed.first_says(self.progress)
        factor = self.schedule.factor(self.step, progress)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self._seed_draws(self.rng, self.draws)
        self.draws += 1
        with self.precision.autocast():
            parts = self.task.losses(self.rng)
        data = getattr(self.task, "data", None)
        if hasattr(data, "look_ahead"):
            data.look_ahead(self._seed_draws(torch.Generator(), self.draws))
        loss = sum(parts.values())
        if not self._descend(loss, self.task.trained, self.optimiser, self.clip):
            values = _numbers(parts)
            self.bad_steps += 1
            if self.bad_steps >= MOST_BAD_STEPS:
                worst = ", ".join(name for name, value in values.items() if not math.isfinite(value))
                raise TrainingError(
                    f"the loss was not a number {MOST_BAD_STEPS} times in a row ({worst or 'its gradient'}): resume "
                    "from the last checkpoint with a lower --learning-rate, and check the pictures with a sheet."
                )
            return values
        self.bad_steps = 0
        self._follow()
        if self.rival is not None:
            self.rival_optimiser.param_groups[0]["lr"] = self.rival_peak * factor
            with self.precision.autocast():
                rival_parts = self.task.rival_losses()
            self._descend(sum(rival_parts.values()), self.rival, self.rival_optimiser, None)
            parts = parts | rival_parts
        if self.precision.scaler.is_enabled():
            self.precision.scaler.update()
        self.step += 1
        return _numbers(parts)

    def _descend(self, loss: Tensor, module: nn.Module, optimiser, clip: float | None) -> bool:
        """One step of an optimiser, or none in any process if the loss or its gradient is no number in one of them."""
        optimiser.zero_grad(set_to_none=True)
        if not distributed.all_finite(loss):
            return False
        scaler = self.precision.scaler
        scaler.scale(loss).backward(inputs=[p for p in module.parameters() if p.requires_grad])
        distributed.average_gradients(module)
        if scaler.is_enabled():
            # Gradients beyond fp16 are no accident: the scaler leaves such a step out and scales less from then on.
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(module.parameters(), clip or math.inf)
            scaler.step(optimiser)
            return True
        norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        if not torch.isfinite(norm):
            return False
        if clip is not None:
            nn.utils.clip_grads_with_norm_(module.parameters(), clip, norm)
        optimiser.step()
        return True

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow the weights."""
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        averages, values = [], []
        for name, value in self.task.trained.state_dict().items():
            if value.dtype.is_floating_point:
                averages.append(self.average[name])
                values.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def _report(self, parts: dict[str, float], seconds: float) -> Progress:
        self._pace = seconds if self._pace is None else 0.95 * self._pace + 0.05 * seconds
        if self.total_steps is None:
            left = 60 * self.minutes - self.elapsed
        else:
            left = (self.total_steps - self.step) * self._pace
        signs = self.task.signs() if hasattr(self.task, "signs") else {}
        return Progress(
            step=self.step,
            total=self.total_steps,
            minutes=self.elapsed / 60,
            left=left,
            share=self.progress,
            parts=parts,
            signs=signs,
            rate=max(group["lr"] for group in self.optimiser.param_groups),
            pictures=getattr(self.task, "batch", 1) / seconds,
        )

    def run(self, quiet: bool = False) -> None:
        """Train to the end. Ctrl-C and SIGTERM save a checkpoint first.

        Raises:
            TrainingError: if training was stopped or cannot go on; what was reached is in the checkpoint.
        """
        stop: list[str] = []
        handlers = {}
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                handlers[number] = signal.signal(number, lambda *_: stop.append("stopped"))
        first = rank() == 0
        self.journal.quiet = self.journal.quiet or quiet
        if first:
            discard_leftovers(self.checkpoint)
            self.journal.begin(self.step)
        self._pace: float | None = None
        saved = time.monotonic()
        report = None
        try:
            while not distributed.first_says(float(self.progress >= 1 or bool(stop))):
                begin = time.monotonic()
                if hasattr(self.task, "prepare"):
                    self.task.prepare()
                parts = self._one_step()
                seconds = time.monotonic() - begin
                self.elapsed += seconds
                if not first:
                    continue
                report = self._report(parts, seconds)
                self.journal.step(report)
                for sentence in self.alarms.look(sum(parts.values()), report.signs):
                    self.journal.note(sentence)
                    self.journal.write({"stage": self.task.name, "step": self.step, "alarm": sentence})
                    if self.stop_on_alarm:
                        stop.append("stopped by --stop-on-alarm")
                if time.monotonic() - saved > self.save_every:
                    self.journal.log(report)
                    self._save_and_report()
                    saved = time.monotonic()
            if first:
                if report is not None:
                    self.journal.log(report)
                self._save_and_report(last=True)
        finally:
            if first:
                self.journal.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for module in filter(None, (self.task.trained, self.rival)):
                batch_norm.separate(module)
        if stop and self.progress < 1:
            raise TrainingError(
                f"{stop[0]} at step {self.step}: the same command with --resume goes on from {self.checkpoint}."
            )


def _groups(module: nn.Module, rate: float | dict[str, float]) -> list[dict]:
    """Adam's parameter groups: one, or one per named child and one for the rest."""
    rates = rate if isinstance(rate, dict) else {"": rate}
    groups = {name: [] for name in rates}
    for name, parameter in module.named_parameters():
        group = next((key for key in rates if key and name.startswith(f"{key}.")), "")
        if group not in groups:
            raise ValueError(f"no learning rate is given for {name}")
        groups[group].append(parameter)
    return [{"params": members, "lr": rates[key]} for key, members in groups.items() if members]


def _numbers(parts: dict[str, Tensor]) -> dict[str, float]:
    # Together: every single one would wait for the GPU.
    values = torch.stack([part.detach().float() for part in parts.values()]).tolist()
    return dict(zip(parts, values, strict=True))


def _mixed(*numbers: int) -> int:
    """One seed from several numbers, such that neighbours have nothing in common (SplitMix64)."""
    mask, state = (1 << 64) - 1, 0
    for number in numbers:
        state = (state ^ (number & mask)) + 0x9E3779B97F4A7C15 & mask
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ state >> 27) * 0x94D049BB133111EB & mask
        state ^= state >> 31
    return state >> 1


def _brief(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
