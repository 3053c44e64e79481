"""Batch norm, whose statistics stand still in evaluation mode, as part of the convolution before it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livepuppet.model import blocks
from livepuppet.model.lite import ConvNorm


class ScaleAndShift(nn.Module):
    """What a batch norm computes in evaluation mode, `scale * x + shift` per channel, in the precision of x.

    Runtimes that take every tensor's type at its word (TensorRT) have no batch norm of a 16 bit picture and 32 bit
    statistics.
    """

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        self.register_buffer("scale", scale.detach()[:, None, None])
        self.register_buffer("shift", shift.detach()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype) + self.shift.to(x.dtype)


def fold(model: nn.Module) -> None:
    """Make every batch norm that follows a convolution a part of it, in place.

    ONNX exporter and runtimes do the same by themselves; PyTorch does not.
    """
    for module in list(model.modules()):
        if isinstance(module, blocks.SameBlock):
            module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
        elif isinstance(module, blocks.ResidualBlock):
            module.conv1, module.norm2 = fuse_conv_bn_eval(module.conv1, module.norm2), nn.Identity()
        elif isinstance(module, ConvNorm):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()


def without_norms(model: nn.Module) -> nn.Module:
    """The model, in evaluation mode, changed in place: every batch norm folded, or a scale and a shift.

    The same numbers but for rounding. Those that stand before their convolution cannot be folded, for zero padding comes
    between the two.
    """
    fold(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, ScaleAndShift(child))
    return model.eval()
