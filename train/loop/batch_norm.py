"""Batch normalisation over the batches of all processes, on any device (PyTorch's own is for CUDA alone)."""

from __future__ import annotations

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from livepuppet.train.loop.distributed import add_up, rank, world


class _Sum(torch.autograd.Function):
    """The sum over processes. Every process's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        return add_up(value.contiguous().clone())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return add_up(gradient.contiguous().clone())


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` whose statistics in training are those of all processes' parts together.

    One exchange each way: every process fills its row of a table with means and squared deviations, and the table is
    summed. (Sums of squares would be one row, and cancel where a mean is large.)
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and distributed.is_initialized() and world() > 1):
            return super().forward(x)
        exact = x.float()
        count = exact.numel() // exact.shape[1]
        variance, mean = torch.var_mean(exact, dim=(0, 2, 3), correction=0)
        table = exact.new_zeros(world(), 2, len(mean))
        own = torch.zeros_like(table)
        own[rank()] = 1
        means, variances = _Sum.apply(table + own * torch.stack([mean, variance])).unbind(1)
        # Equal shares, so plain means over the processes (Chan et al., 1979).
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if self.track_running_stats:
            with torch.no_grad():
                whole = count * world()
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                unbiased = variance * (whole / max(whole - 1, 1))
                self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale if not self.affine else self.bias - mean * scale
        return (exact * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def synchronise(model: nn.Module) -> None:
    """Turn every `BatchNorm2d` in place into one that all processes share; names and values stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d


def separate(model: nn.Module) -> None:
    """Undo `synchronise`."""
    for module in model.modules():
        if type(module) is SyncedBatchNorm2d:
            module.__class__ = nn.BatchNorm2d
