"""Several processes that train one model together, on one machine or many (`torchrun`).

All of them draw the same numbers from the same seed and each works on its share of every batch, so that two processes
compute what one would have with the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as distributed
from torch import Tensor


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


def first_says(value: float) -> float:
    """What the first process says."""
    if not distributed.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(shared, 0)
    return shared.item()


def all_finite(loss: Tensor) -> bool:
    """Whether the loss is a number in every process, so that all of them step or none does."""
    finite = torch.isfinite(loss.detach()).float().reshape(1)
    if distributed.is_initialized():
        distributed.all_reduce(finite, distributed.ReduceOp.MIN)
    return bool(finite.item())
