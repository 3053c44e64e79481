"""Exact rewrites that make a model faster in the runtimes it is exported for; the readable network
stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

from livepuppet.export.optimise import convolutions
from livepuppet.export.optimise.fomm import PlanarMotion, PooledDetector, RowsGenerator
from livepuppet.export.optimise.lite import FastLite
from livepuppet.export.optimise.winograd import Chain
from livepuppet.model import norms
from livepuppet.model.base import Model
from livepuppet.model.fomm import FOMM
from livepuppet.model.lite import LitePuppet
from livepuppet.model.monkeynet import MonkeyNet

#: What each rewrite does, by name, and for which kinds of networks there is one. Measured as well,
#: and no gain: norms that cannot be folded as convolutions of one weight per channel, the
#: background's heat-map (zero everywhere) left out, which makes 43 channels of 44, and phases for
#: the doubling in the lite generator, whose pieces take as long to put together as the convolution.
REWRITES = {
    "batch norm": ("folded into the convolution before it", {"fomm", "lite", "monkeynet"}),
    "upsampling": ("doubling and 3x3 convolution as four 2x2 convolutions", {"fomm", "monkeynet"}),
    "squares": ("the last convolution, of three outputs, for 2x2 pixels at once", {"fomm"}),
    "Winograd": ("residual blocks by minimal filtering", {"fomm", "monkeynet"}),
    "pooled Jacobians": ("features averaged under heat-maps before their convolution", {"fomm"}),
    "planes": ("motions from a few numbers each, in few steps, x and y apart", {"fomm", "lite"}),
    "phases": ("the full picture sampled and blended by phase", {"lite"}),
    "gathers": ("pictures and features sampled by gathers", {"fomm", "lite"}),
}

#: What wins, by the runtime it is for: "onnxruntime" (and OpenVINO, which runs the same graphs) and
#: "torch". PyTorch computes batches of several people, and warps fast.
TARGETS = {
    "onnxruntime": tuple(REWRITES),
    "torch": ("batch norm",),
}

#: Rewrites to leave out of graphs that are to compute in 16 or 8 bits: they round too much.
NOT_IN_FEW_BITS = ("Winograd",)


def rewrites(model: Model, target: str = "onnxruntime") -> list[str]:
    """Names of the rewrites that `optimise` applies to this model."""
    names = [name for name in TARGETS[target] if model.preset.kind in REWRITES[name][1]]
    if isinstance(model, FOMM) and model.config.jacobian_maps != model.config.num_keypoints:
        # A single map that all keypoints read is cheaper as it is.
        return [name for name in names if name != "pooled Jacobians"]
    return names


def optimise(model: Model, target: str = "onnxruntime", without: Collection[str] = ()) -> Model:
    """A copy of the model that computes the same, in evaluation mode, in forms that its runtime
    runs fast.

    For "onnxruntime" its features may be tables instead of pictures, its `render` may return fewer
    maps, and a batch is of one.

    Args:
        model: is left alone.
        target: one of `TARGETS`.
        without: names of `REWRITES` to leave out, so that their gain can be measured.
    """
    model = copy.deepcopy(model).eval()
    chosen = [name for name in rewrites(model, target) if name not in without]
    if "batch norm" in chosen:
        norms.fold(model)
    if "upsampling" in chosen:
        convolutions.split_upsampling(model)
    if "Winograd" in chosen:
        _by_winograd(model)
    if isinstance(model, FOMM):
        _rewrite_fomm(model, chosen)
    elif isinstance(model, LitePuppet) and {"planes", "phases"} & set(chosen):
        model = FastLite(model, **{name: name in chosen for name in ("planes", "phases", "gathers")})
    return model.eval()


def _rewrite_fomm(model: FOMM, chosen: list[str]) -> None:
    # `add_module` replaces as an assignment does, and says that the new part need not be of the old
    # one's class.
    generator = model.generator
    if "pooled Jacobians" in chosen:
        model.add_module("kp_detector", PooledDetector(model.kp_detector))
    if "squares" in chosen:
        generator.add_module("final", convolutions.PairedConvolution(generator.final))
    if "planes" in chosen:
        motion = PlanarMotion(generator.dense_motion_network, "gathers" in chosen)
        generator.add_module("dense_motion_network", motion)
    if "gathers" in chosen:
        model.add_module("generator", RowsGenerator(generator))


def _by_winograd(model: Model) -> None:
    """Not of `lite-256`: a fifteenth of its time is not worth three times the file, whose filters
    grow fourfold.
    """
    size = model.config.size
    if isinstance(model, FOMM):
        generator = model.generator
        chain = Chain(generator.bottleneck, size // 2 ** len(generator.down_blocks))
        generator.add_module("bottleneck", chain)
    elif isinstance(model, MonkeyNet):
        model.generator.add_module("refinement", Chain(model.generator.refinement, size))
