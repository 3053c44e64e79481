"""Batch norm, whose statistics stand still in evaluation mode, as part of the convolution before it."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livepuppet.export.optimise.convolutions import shaped
from livepuppet.model import blocks
from livepuppet.model.lite import ConvNorm


def fold(model: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into its weights, in place.

    ONNX exporter and runtimes do the same: a gain for PyTorch only. The first norm of a residual block, which stands before
    its convolution, cannot go: zero padding comes after its ReLU, and the ReLU after it.
    """
    for module in model.modules():
        if isinstance(module, blocks.SameBlock):
            module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
        elif isinstance(module, blocks.ResidualBlock):
            module.conv1, module.norm2 = fuse_conv_bn_eval(module.conv1, module.norm2), nn.Identity()
        elif isinstance(module, ConvNorm):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()


def scale_and_shift(model: nn.Module) -> None:
    """The norms that are left (`fold`) as convolutions of one weight per channel, in place.

    onnxruntime keeps a picture in blocks of channels between convolutions, and puts it back in order for a batch norm.
    """
    for module in model.modules():
        if isinstance(module, blocks.ResidualBlock) and isinstance(module.norm1, nn.BatchNorm2d):
            norm = module.norm1
            scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
            shift = norm.bias.detach() - norm.running_mean * scale
            module.norm1 = shaped(scale[:, None, None, None], shift, groups=len(scale))
