"""Exact rewrites that make a model faster in the runtimes it is exported for; the readable network stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Collection

from torch import nn

from livepuppet.export.optimise import convolutions, norms
from livepuppet.export.optimise.fomm import JoinedDetector, PlanarMotion, RowsGenerator
from livepuppet.export.optimise.lite import FastLite
from livepuppet.model.fomm import FOMM
from livepuppet.model.lite import LitePuppet

#: What each rewrite does, by name, and for which kinds of networks there is one.
REWRITES = {
    "batch norm": ("folded into the convolution before it", {"fomm", "lite", "monkeynet"}),
    "norm as convolution": ("what cannot be folded, as a convolution of one weight per channel", {"fomm"}),
    "upsampling": ("doubling and 3x3 convolution as four 2x2 convolutions", {"fomm", "monkeynet"}),
    "squares": ("the last convolution, of three outputs, for 2x2 pixels at once", {"fomm"}),
    "heads": ("two convolutions of the same features as one", {"fomm"}),
    "planes": ("motions from six numbers each, x and y apart", {"fomm", "lite"}),
    "phases": ("the full picture sampled and blended by phase", {"lite"}),
    "gathers": ("pictures and features sampled by gathers", {"fomm", "lite"}),
    "fill": ("inputs filled up to a multiple of four channels", {"fomm", "lite"}),
}

#: What wins, by the runtime it is for: "onnxruntime" (and OpenVINO, which runs the same graphs) and "torch".
#: PyTorch computes batches of several people, and warps fast.
TARGETS = {
    "onnxruntime": tuple(REWRITES),
    "torch": ("batch norm",),
}


def rewrites(model: nn.Module, target: str = "onnxruntime") -> list[str]:
    """Names of the rewrites that `optimise` applies to this model."""
    return [name for name in TARGETS[target] if model.preset.kind in REWRITES[name][1]]


def optimise(model: nn.Module, target: str = "onnxruntime", without: Collection[str] = ()) -> nn.Module:
    """A copy of the model that computes the same, in evaluation mode, in forms that its runtime runs fast.

    For "onnxruntime" its features may be tables instead of pictures, its `render` may return fewer maps, and a batch is
    of one.

    Args:
        model: is left alone.
        target: one of `TARGETS`.
        without: names of `REWRITES` to leave out, so that their gain can be measured.
    """
    model = copy.deepcopy(model).eval()
    chosen = [name for name in rewrites(model, target) if name not in without]
    if "batch norm" in chosen:
        norms.fold(model)
    if "norm as convolution" in chosen:
        norms.scale_and_shift(model)
    if "upsampling" in chosen:
        convolutions.split_upsampling(model)
    if isinstance(model, FOMM):
        _rewrite_fomm(model, chosen)
    elif isinstance(model, LitePuppet) and {"planes", "phases"} & set(chosen):
        model = FastLite(model, **{name: name in chosen for name in ("planes", "phases", "gathers", "fill")})
    return model.eval()


def _rewrite_fomm(model: FOMM, chosen: list[str]) -> None:
    generator = model.generator
    if "heads" in chosen and model.kp_detector.jacobian_maps:
        model.kp_detector = JoinedDetector(model.kp_detector, "fill" in chosen)
    if "squares" in chosen:
        generator.final = convolutions.PairedConvolution(generator.final)
    if "planes" in chosen:
        generator.dense_motion_network = PlanarMotion(generator.dense_motion_network, "gathers" in chosen)
    if "gathers" in chosen:
        model.generator = RowsGenerator(generator)
