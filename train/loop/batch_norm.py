"""Batch normalisation whose statistics are shared by all processes, on any device.

`torch.nn.SyncBatchNorm` runs on GPUs alone, and is used there. The class below does the same on
CPUs, where two processes must compute what one does with the whole batch (and a test says so).
"""

from __future__ import annotations

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from livepuppet.train.loop.distributed import all_reduce_sum, rank, world_size


class _AllReduceSum(torch.autograd.Function):
    """The sum over processes. Every process's loss depends on it, so its gradient is the sum of
    theirs.
    """

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        return all_reduce_sum(value.contiguous().clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return all_reduce_sum(gradient.contiguous().clone())


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` with the statistics of all processes' batches together while training.

    One exchange each way: every process fills its row of a table of means and variances, and the
    table is summed. (Summing squares would need one row only, but cancels where a mean is large.)
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and distributed.is_initialized() and world_size() > 1):
            return super().forward(x)
        exact = x.float()
        count = exact.numel() // exact.shape[1]
        variance, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
        table = exact.new_zeros(world_size(), 2, len(mean))
        own_row = torch.zeros_like(table)
        own_row[rank()] = 1
        table = _AllReduceSum.apply(table + own_row * torch.stack([mean, variance]))
        assert isinstance(table, Tensor)
        means, variances = table.unbind(1)
        # Batches are equal, so plain means over the processes (Chan et al., 1979).
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                total = count * world_size()
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                momentum = 0.1 if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                unbiased = variance * (total / max(total - 1, 1))
                self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale if not self.affine else self.bias - mean * scale
        return (exact * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def convert_sync_batchnorm(model: nn.Module) -> None:
    """Make every `BatchNorm2d` share its statistics, in place; names, parameters and values stay.

    Classes are swapped, where `nn.SyncBatchNorm.convert_sync_batchnorm` makes new modules: what
    holds a module, as exporters do, then still holds it afterwards.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            if module.weight is not None and module.weight.is_cuda:
                module.__class__ = nn.SyncBatchNorm  # pyright: ignore[reportAttributeAccessIssue]
                module.process_group = None  # the default group  # pyright: ignore
            else:
                module.__class__ = SyncBatchNorm2d


def revert_sync_batchnorm(model: nn.Module) -> None:
    """Undo `convert_sync_batchnorm`."""
    for module in model.modules():
        if type(module) in (SyncBatchNorm2d, nn.SyncBatchNorm):
            module.__class__ = nn.BatchNorm2d
