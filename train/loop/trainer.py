"""The training loop: schedule, EMA, checkpoints, resume, progress and health checks, for every
`Task`.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from livepuppet.core.files import discard_leftovers
from livepuppet.train.loop import batch_norm, distributed, files
from livepuppet.train.loop.distributed import rank, report_lost_peer, world_size
from livepuppet.train.loop.errors import TrainingError
from livepuppet.train.loop.health import HealthChecks
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.schedules import Cosine, Milestones
from livepuppet.train.loop.task import Task
from livepuppet.train.loop.training_log import Progress, TrainingLog

__all__ = ["MOST_BAD_STEPS", "Task", "Trainer", "TrainingError"]

#: Consecutive steps without a finite loss after which training stops.
MOST_BAD_STEPS = 20

#: Version of the checkpoint's contents.
FORMAT = 2

#: The EMA's largest decay: a memory of 500 steps.
EMA_DECAY = 0.998


class Trainer:
    """Trains one task.

    Several processes train together when `torch.distributed` is initialised: gradients are
    averaged, and the first process alone decides on the schedule and writes files. Tasks with
    `shared_batches` then compute what one process would with the whole batch; the others draw pairs
    of their own in each process.

    Every step draws from a generator seeded by `seed` and the step's number. So a resumed training
    sees what an undisturbed one would and, with a budget of steps on a CPU, ends in the same
    weights bit by bit. A budget of minutes makes the schedule depend on the clock: such a training
    resumes, but does not repeat.

    Args:
        task: what to train.
        folder: where the checkpoint goes; created.
        steps: how many optimiser steps; or
        minutes: how long, wall clock, over all resumed runs together.
        learning_rate: peak. For single children of `task.trained`: `{"name": rate, "": the others'
            rate}`.
        seed: of every random draw.
        save_every: seconds between checkpoints.
        on_save: called with the trainer after each checkpoint (sheets, validation).
        schedule: of the learning rate; None for a warm-up over 100 steps (a tenth of a short run),
            then a cosine to 2 %.
        discriminator_rate: the discriminator's peak; None for the largest of the others.
        precision: of the computations; None for 32 bits on the task's device.
        fingerprint: what must not change when this training is resumed: name, as people know it ->
            value.
        log: where progress is reported; None for a `TrainingLog` in `folder`.
        health: None for the standard checks.
        stop_on_alarm: end with a checkpoint when a health check fails.

    Attributes:
        ema: exponential moving average of `task.trained`, parameters and buffers.
        step, elapsed: optimiser steps done and seconds spent, over all resumed runs.
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
        discriminator_rate: float | None = None,
        precision: Precision | None = None,
        fingerprint: dict[str, object] | None = None,
        log: TrainingLog | None = None,
        health: HealthChecks | None = None,
        stop_on_alarm: bool = False,
    ):
        if (steps is None) == (minutes is None):
            raise ValueError("give either steps or minutes")
        self.task, self.folder, self.seed = task, folder, seed
        self.total_steps, self.minutes = steps, minutes
        self.save_every, self.on_save = save_every, on_save
        warm_up = 100 if steps is None else max(1, min(100, steps // 10))
        self.schedule = schedule or Cosine(warm_up)
        self.device = next(task.trained.parameters()).device
        self.precision = precision or Precision("fp32", self.device)
        self.fingerprint = {name: str(value) for name, value in (fingerprint or {}).items()}
        self.log = log or TrainingLog(folder, task.name)
        self.health, self.stop_on_alarm = health or HealthChecks(), stop_on_alarm

        groups = _parameter_groups(task.trained, learning_rate)
        self.peaks: list[float] = [group["lr"] for group in groups]
        self.optimiser = torch.optim.Adam(groups, betas=task.betas)
        self.discriminator_peak = discriminator_rate or max(self.peaks)
        self.discriminator_optimiser: torch.optim.Adam | None = None
        if task.discriminator is not None:
            parameters = task.discriminator.parameters()
            self.discriminator_optimiser = torch.optim.Adam(
                parameters, lr=self.discriminator_peak, betas=task.betas
            )
        if world_size() > 1 and task.shared_batches:
            for module in self._modules():
                batch_norm.convert_sync_batchnorm(module)
        # The methods are looked up in every step, so that a task may replace them.
        self._losses = distributed.data_parallel(task.trained, lambda rng: task.losses(rng))
        self._discriminator_losses = task.discriminator_losses
        if task.discriminator is not None:
            self._discriminator_losses = distributed.data_parallel(
                task.discriminator, lambda: task.discriminator_losses()
            )
        self.ema = AveragedModel(task.trained, multi_avg_fn=self._average, use_buffers=True)
        # The average starts from the initial weights, not from those after the first step.
        self.ema.n_averaged.fill_(1)
        self.rng = torch.Generator().manual_seed(seed)
        self.step, self.draws, self.elapsed, self.bad_steps = 0, 0, 0.0, 0
        self.saved_step: int | None = None
        self._step_seconds: float | None = None
        self._seed_draws(self.rng, 0)
        if rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)

    def _modules(self) -> list[nn.Module]:
        return [module for module in (self.task.trained, self.task.discriminator) if module is not None]

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / f"{self.task.name}.checkpoint.pt"

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0 to 1."""
        if self.minutes is None:
            return min(self.step / max(self.total_steps or 1, 1), 1.0)
        return min(self.elapsed / (60 * self.minutes), 1.0)

    # ---------------------------------------------------------------------------------- EMA

    @property
    def ema_state(self) -> dict[str, Tensor]:
        """The average as a state dict of `task.trained`; its tensors are the average's own."""
        return self.ema.module.state_dict()

    def _average(self, averages, values, _count) -> None:
        """Update tensors of one type, in place. The decay grows with the training up to
        `EMA_DECAY`.
        """
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)  # pyright: ignore[reportPrivateImportUsage]
            return
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(averages, values, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Inside, `task.trained` holds the average, which is what is shipped."""
        current = {name: value.detach().clone() for name, value in self.task.trained.state_dict().items()}
        self.task.trained.load_state_dict(self.ema_state)
        try:
            yield
        finally:
            self.task.trained.load_state_dict(current)

    # -------------------------------------------------------------------------- checkpoints

    def save(self) -> None:
        """Write everything needed to resume exactly here; the previous checkpoint is kept as
        `.previous`.

        Raises:
            OSError: nothing on disk was changed.
        """
        state = {
            "format": FORMAT,
            "task": self.task.name,
            "fingerprint": self.fingerprint,
            "step": self.step,
            "draws": self.draws,
            "elapsed": self.elapsed,
            "trained": self.task.trained.state_dict(),
            "ema": self.ema_state,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "task_state": self.task.state(),
        }
        if self.task.discriminator is not None and self.discriminator_optimiser is not None:
            state["discriminator"] = self.task.discriminator.state_dict()
            state["discriminator_optimiser"] = self.discriminator_optimiser.state_dict()
        files.write(self.checkpoint, state)
        self.saved_step = self.step

    def resume(self) -> bool:
        """Continue from the folder's checkpoint, if there is one; from the previous one where it is
        damaged.

        Raises:
            TrainingError: what is there is not a checkpoint of this training.
        """
        data, problem = None, None
        if rank() == 0:
            try:
                data = self._read_checkpoint()
            except TrainingError as error:
                problem = str(error)
        distributed.barrier_or_fail(problem)
        data = distributed.broadcast_bytes(data)
        if data is None:
            return False
        try:
            state = files.decode(data)
            if state.get("format", 1) != FORMAT:
                raise TrainingError(
                    f"{self.checkpoint} was written by another version of livepuppet: finish that training with it, or "
                    "give another --output folder."
                )
            self._check_fingerprint(state["fingerprint"])
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
            for message in damage:
                self.log.warn(f"{message}; going on from the checkpoint before it, {path.name}.")
            return data
        if damage:
            raise TrainingError(f"{damage[0]}; give another --output folder or delete the file.")
        return None

    def _check_fingerprint(self, before: dict[str, str]) -> None:
        for name in sorted(before.keys() | self.fingerprint.keys() if before else ()):
            was, now = before.get(name, "none"), self.fingerprint.get(name, "none")
            if was == now:
                continue
            # Hashes, which begin with '#', say nothing to people.
            values = "" if now.startswith("#") else f" ({_brief(was)}, now {_brief(now)})"
            other = "other" if name.endswith(("data", "s")) else "another"
            raise TrainingError(
                f"{self.checkpoint} was trained with {other} {name}{values}: resume with the same, or give another "
                "--output folder."
            )

    def _load(self, state: dict) -> None:
        self.task.trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.task.discriminator is not None and self.discriminator_optimiser is not None:
            self.task.discriminator.load_state_dict(state["discriminator"])
            self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.ema.module.load_state_dict(state["ema"])
        self.step, self.draws, self.elapsed = state["step"], state["draws"], state["elapsed"]
        self.saved_step = self.step
        self.task.load_state(state["task_state"])
        torch.set_rng_state(state["torch_rng"])

    def _save_and_report(self, last: bool = False) -> None:
        """Save, then call `on_save`. A disk that is full or gone stops no training: saving is tried
        again later.
        """
        try:
            self.save()
        except OSError as error:
            why = error.strerror or str(error)
            if last:
                raise TrainingError(
                    f"The last checkpoint could not be written to {self.folder} ({why}): make room there; the same "
                    f"command with --resume goes on from step {self.saved_step or 0}."
                ) from error
            self.log.warn(
                f"The checkpoint of step {self.step} could not be written ({why}): make room on that disk. Training "
                f"goes on and tries again in {self.save_every:.0f} s; the one of step {self.saved_step or 0} is safe."
            )
        if self.on_save is None:
            return
        modes = [(module, module.training) for module in self.task.model.modules()]
        rng_state = torch.get_rng_state()
        try:
            self.on_save(self)
        except OSError as error:
            self.log.warn(f"The sheet could not be written ({error.strerror or error}).")
        finally:
            # Looking at a training must not change it.
            torch.set_rng_state(rng_state)
            for module, training in modes:
                module.training = training

    # -------------------------------------------------------------------------------- steps

    def _seed_draws(self, rng: torch.Generator, draw: int) -> torch.Generator:
        own = 0 if self.task.shared_batches else rank()
        return rng.manual_seed(_mix_seeds(self.seed, draw, own))

    def _one_step(self) -> dict[str, float]:
        progress = distributed.broadcast_scalar(self.progress)
        factor = self.schedule.factor(self.step, progress)
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self._seed_draws(self.rng, self.draws)
        self.draws += 1
        with self.precision.autocast():
            parts = self._losses(self.rng)
        if self.task.prefetcher is not None:
            self.task.prefetcher.prefetch(self._seed_draws(torch.Generator(), self.draws))
        if not self._optimiser_step(_total(parts), self.task.trained, self.optimiser, self.task.clip_norm):
            values = _numbers(parts)
            self.bad_steps += 1
            if self.bad_steps >= MOST_BAD_STEPS:
                worst = ", ".join(name for name, value in values.items() if not math.isfinite(value))
                raise TrainingError(
                    f"the loss was not a number {MOST_BAD_STEPS} times in a row ({worst or 'its gradient'}): resume "
                    "from the last checkpoint with a lower --learning-rate, and check the images with a sheet."
                )
            return values
        self.bad_steps = 0
        self.ema.update_parameters(self.task.trained)
        if self.task.discriminator is not None and self.discriminator_optimiser is not None:
            self.discriminator_optimiser.param_groups[0]["lr"] = self.discriminator_peak * factor
            with self.precision.autocast():
                discriminator_parts = self._discriminator_losses()
            self._optimiser_step(
                _total(discriminator_parts), self.task.discriminator, self.discriminator_optimiser, None
            )
            parts = parts | discriminator_parts
        if self.precision.scaler.is_enabled():
            self.precision.scaler.update()
        self.step += 1
        return _numbers(parts)

    def _optimiser_step(
        self, loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer, clip: float | None
    ) -> bool:
        """One step, or none in any process if the loss or its gradient is not finite in one of
        them.
        """
        optimiser.zero_grad(set_to_none=True)
        if not distributed.all_finite(loss):
            return False
        scaler = self.precision.scaler
        with report_lost_peer():
            scaler.scale(loss).backward(inputs=[p for p in module.parameters() if p.requires_grad])
        if scaler.is_enabled():
            # In fp16 an infinite gradient is expected: the scaler skips the step and scales less
            # from then on.
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

    def _report(self, parts: dict[str, float], seconds: float) -> Progress:
        before = seconds if self._step_seconds is None else self._step_seconds
        self._step_seconds = 0.95 * before + 0.05 * seconds
        if self.minutes is not None:
            left = 60 * self.minutes - self.elapsed
        else:
            left = ((self.total_steps or 0) - self.step) * self._step_seconds
        return Progress(
            step=self.step,
            total=self.total_steps,
            minutes=self.elapsed / 60,
            left=left,
            share=self.progress,
            parts=parts,
            diagnostics=self.task.diagnostics(),
            rate=max(group["lr"] for group in self.optimiser.param_groups),
            images=self.task.batch / seconds,
        )

    def run(self, quiet: bool = False) -> None:
        """Train to the end. Ctrl-C and SIGTERM save a checkpoint first.

        Args:
            quiet: show no progress.

        Raises:
            TrainingError: training was stopped or cannot go on; what was reached is in the
                checkpoint.
        """
        stop: list[str] = []
        handlers = {}
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                handlers[number] = signal.signal(number, lambda *_: stop.append("stopped"))
        first = rank() == 0
        self.log.quiet = self.log.quiet or quiet
        if first:
            discard_leftovers(self.checkpoint)
            self.log.begin(self.step)
        self._step_seconds = None
        saved = time.monotonic()
        report = None
        try:
            while not distributed.broadcast_scalar(float(self.progress >= 1 or bool(stop))):
                begin = time.monotonic()
                self.task.prepare()
                parts = self._one_step()
                seconds = time.monotonic() - begin
                self.elapsed += seconds
                if not first:
                    continue
                report = self._report(parts, seconds)
                self.log.step(report)
                for message in self.health.update(sum(parts.values()), report.diagnostics):
                    self.log.warn(message)
                    self.log.write({"stage": self.task.name, "step": self.step, "alarm": message})
                    if self.stop_on_alarm:
                        stop.append("stopped by --stop-on-alarm")
                if time.monotonic() - saved > self.save_every:
                    self.log.log(report)
                    self._save_and_report()
                    saved = time.monotonic()
            if first:
                if report is not None:
                    self.log.log(report)
                self._save_and_report(last=True)
        finally:
            if first:
                self.log.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for module in self._modules():
                batch_norm.revert_sync_batchnorm(module)
        if stop and self.progress < 1:
            raise TrainingError(
                f"{stop[0]} at step {self.step}: the same command with --resume goes on from {self.checkpoint}."
            )


def _parameter_groups(module: nn.Module, rate: float | dict[str, float]) -> list[dict]:
    """Adam's parameter groups: one, or one per named child and one for the rest."""
    rates = rate if isinstance(rate, dict) else {"": rate}
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in module.named_parameters():
        group = next((key for key in rates if key and name.startswith(f"{key}.")), "")
        if group not in groups:
            raise ValueError(f"no learning rate is given for {name}")
        groups[group].append(parameter)
    return [{"params": members, "lr": rates[key]} for key, members in groups.items() if members]


def _total(parts: dict[str, Tensor]) -> Tensor:
    # One after the other: another order would round differently than in earlier trainings.
    first, *others = parts.values()
    for part in others:
        first = first + part
    return first


def _numbers(parts: dict[str, Tensor]) -> dict[str, float]:
    # All in one copy: each would wait for the GPU.
    values = torch.stack([part.detach().float() for part in parts.values()]).tolist()
    return dict(zip(parts, values, strict=True))


def _mix_seeds(*numbers: int) -> int:
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
