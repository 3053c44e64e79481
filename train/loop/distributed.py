"""Several processes that train one model together, on one machine or many (`torchrun`).

Gradients are averaged by torch's `DistributedDataParallel`, which sends them while the backward
pass still runs. Where the processes draw the same numbers from the same seed and each works on its
slice of every batch, two of them compute what one would with the whole batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from livepuppet.train.loop.errors import TrainingError


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did; yields the device to train on.

    GPUs of one machine are assigned by `LOCAL_RANK`. CPU tensors travel by gloo, GPU tensors by
    NCCL.

    Raises:
        TrainingError: the processes cannot reach each other, or there are more of them than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield device
        return
    backend = "gloo"
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise TrainingError(
                f"This machine has {torch.cuda.device_count()} GPUs for more processes than that: "
                "give torchrun --nproc-per-node their number."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"The processes of this training do not reach each other ({_first_line(error)}): start them with torchrun, "
            "on several machines with the same --rdzv-endpoint."
        ) from error
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number among those that train together; 0 where there is only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank_slice(batch: int) -> slice:
    """This process's slice of a batch.

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    count = world_size()
    if batch % count:
        raise ValueError(
            f"A batch of {batch} does not split into {count} equal parts: give a multiple of {count}."
        )
    part = batch // count
    return slice(rank() * part, (rank() + 1) * part)


class _LossModule(nn.Module):
    """Losses as a module's forward pass, which is where `DistributedDataParallel` hooks in."""

    def __init__(self, module: nn.Module, losses: Callable[..., dict[str, Tensor]]):
        super().__init__()
        self.module, self._losses = module, losses

    def forward(self, *arguments) -> dict[str, Tensor]:
        return self._losses(*arguments)


def data_parallel(
    module: nn.Module, losses: Callable[..., dict[str, Tensor]]
) -> Callable[..., dict[str, Tensor]]:
    """`losses`, whose backward pass leaves gradients of `module` that are means over all processes.

    Every process starts with the first one's parameters and buffers. Alone, `losses` is returned as
    it is.
    """
    if world_size() == 1:
        return losses
    for buffer in module.buffers():
        shared = buffer.detach().contiguous()
        with report_lost_peer():
            distributed.broadcast(shared, 0)
        buffer.copy_(shared)
    # Buffers are batch statistics: shared already (`batch_norm`), or each process's own.
    return DistributedDataParallel(
        _LossModule(module, losses), broadcast_buffers=False, gradient_as_bucket_view=True
    )


@contextlib.contextmanager
def report_lost_peer() -> Iterator[None]:
    """Turn the network error that a process's end causes in the others into what it means.

    Raises:
        TrainingError: in place of a `RuntimeError`, where several processes train.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not distributed.is_initialized():
            raise
        raise TrainingError(
            f"Another process of this training ended ({_first_line(error)}): its own message says why; the same "
            "command with --resume goes on from the last checkpoint."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum of all processes' values, in place."""
    if distributed.is_initialized():
        with report_lost_peer():
            distributed.all_reduce(values)
    return values


def broadcast_scalar(value: float) -> float:
    """The first process's number."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    with report_lost_peer():
        distributed.broadcast(shared, 0)
    return shared.item()


def broadcast_bytes(data: bytes | None) -> bytes | None:
    """The first process's bytes, or None where it has none."""
    if not distributed.is_initialized():
        return data
    length = int(broadcast_scalar(-1 if data is None else len(data)))
    if length < 0:
        return None
    shared = torch.zeros(length, dtype=torch.uint8)
    if rank() == 0 and data:
        shared = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    with report_lost_peer():
        distributed.broadcast(shared, 0)
    return shared.numpy().tobytes()


def all_gather_text(text: str) -> list[str]:
    """Each process's text, in the order of their ranks."""
    if not distributed.is_initialized():
        return [text]
    texts = [""] * world_size()
    with report_lost_peer():
        distributed.all_gather_object(texts, text)
    return texts


def barrier_or_fail(problem: str | None) -> None:
    """Wait for all processes before training starts, so that a problem of one ends all and is
    reported once.

    Raises:
        TrainingError: in the first process, with the first problem any process has.
        SystemExit: in the others, with status 2, silently.
    """
    problems = [(k, text) for k, text in enumerate(all_gather_text(problem or "")) if text]
    if not problems:
        return
    if rank():
        raise SystemExit(2)
    where, text = problems[0]
    raise TrainingError(text if where == 0 else f"In process {where}: {text}")


def all_finite(loss: Tensor) -> bool:
    """Whether the loss is finite in every process, so that all of them step or none does."""
    finite = torch.isfinite(loss.detach()).float().reshape(1).cpu()
    if distributed.is_initialized():
        with report_lost_peer():
            distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite.item())
