"""Several processes that train one model together, on one machine or many (`torchrun`).

All of them draw the same numbers from the same seed and each works on its share of every batch, so that two processes
compute what one would have with the whole batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import chain

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from livepuppet.train.loop.errors import TrainingError


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Inside, this process is one of those that `torchrun` started, if it did; yields the device to train on.

    Several GPUs of one machine are handed out by `LOCAL_RANK`. Numbers on the CPU travel by gloo, those on a GPU by
    NCCL.

    Raises:
        TrainingError: if the processes cannot reach each other, or there are more of them than GPUs.
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
    """Which of the processes that train together this is; 0 where there is only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share(batch: int) -> slice:
    """The part of a batch that is this process's.

    Raises:
        ValueError: if the batch cannot be split evenly.
    """
    count = world()
    if batch % count:
        raise ValueError(
            f"A batch of {batch} does not split into {count} equal parts: give a multiple of {count}."
        )
    part = batch // count
    return slice(rank() * part, (rank() + 1) * part)


@contextlib.contextmanager
def _in_company() -> Iterator[None]:
    """A process that ended takes the others' calls down with an error of the network: said as what it is."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"Another process of this training ended ({_first_line(error)}): its own message says why; the same "
            "command with --resume goes on from the last checkpoint."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def add_up(values: Tensor) -> Tensor:
    """The sum of all processes' values, in place."""
    if distributed.is_initialized():
        with _in_company():
            distributed.all_reduce(values)
    return values


def first_says(value: float) -> float:
    """What the first process says."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    with _in_company():
        distributed.broadcast(shared, 0)
    return shared.item()


def first_sends(data: bytes | None) -> bytes | None:
    """The first process's bytes, or None where it has none."""
    if not distributed.is_initialized():
        return data
    length = int(first_says(-1 if data is None else len(data)))
    if length < 0:
        return None
    shared = torch.zeros(length, dtype=torch.uint8)
    if rank() == 0 and length:
        shared = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    with _in_company():
        distributed.broadcast(shared, 0)
    return shared.numpy().tobytes()


def all_say(text: str) -> list[str]:
    """What each process says, in the order of their ranks."""
    if not distributed.is_initialized():
        return [text]
    texts: list[str | None] = [None] * world()
    with _in_company():
        distributed.all_gather_object(texts, text)
    return texts


def all_ready(problem: str | None) -> None:
    """Wait for all processes before training starts, so that what is wrong with one ends all, said once.

    Raises:
        TrainingError: in the first process, with the first problem any process has.
        SystemExit: in the others, with status 2, silently.
    """
    problems = [(k, text) for k, text in enumerate(all_say(problem or "")) if text]
    if not problems:
        return
    if rank():
        raise SystemExit(2)
    where, text = problems[0]
    raise TrainingError(text if where == 0 else f"In process {where}: {text}")


def all_finite(loss: Tensor) -> bool:
    """Whether the loss is a number in every process, so that all of them step or none does."""
    finite = torch.isfinite(loss.detach()).float().reshape(1).cpu()
    if distributed.is_initialized():
        with _in_company():
            distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite.item())


def average_gradients(module: nn.Module) -> None:
    """Replace every gradient by its mean over the processes: that of the whole batch's mean loss."""
    if not distributed.is_initialized():
        return
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    add_up(flat)
    flat /= world()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def same_start(module: nn.Module) -> None:
    """Give every process the first one's weights."""
    if not distributed.is_initialized():
        return
    with torch.no_grad(), _in_company():
        for tensor in chain(module.parameters(), module.buffers()):
            shared = tensor.detach().contiguous()
            distributed.broadcast(shared, 0)
            tensor.copy_(shared)
