"""Fold batch norm into the preceding convolution (inference only)."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livepuppet.model import blocks
from livepuppet.model.lite import ConvNorm


class ScaleAndShift(nn.Module):
    """Batch norm in evaluation mode: `scale * x + shift` per channel, in the precision of x.

    Strictly typed runtimes (TensorRT) have no batch norm of a 16 bit input with 32 bit statistics.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        self.register_buffer("scale", scale.detach()[:, None, None])
        self.register_buffer("shift", shift.detach()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype) + self.shift.to(x.dtype)


#: The module that was given.
M = TypeVar("M", bound=nn.Module)


def fold(model: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into it, in place.

    ONNX's exporter and runtimes do so by themselves; PyTorch does not.
    """
    for module in list(model.modules()):
        if isinstance(module, blocks.SameBlock):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.add_module("norm", nn.Identity())
        elif isinstance(module, blocks.ResidualBlock):
            module.conv1 = fuse_conv_bn_eval(module.conv1, module.norm2)
            module.add_module("norm2", nn.Identity())
        elif isinstance(module, ConvNorm):
            convolution, norm = module[0], module[1]
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            module[0], module[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


def without_norms(model: M) -> M:
    """Replace every batch norm, in place: folded, or by a `ScaleAndShift`; returns the model in
    evaluation mode.

    Outputs are the same up to rounding. A batch norm before its convolution cannot be folded,
    because zero padding comes between the two.
    """
    fold(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, ScaleAndShift(child))
    return model.eval()
