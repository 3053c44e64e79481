"""A model's three calls as exported programs, in the form and the precision in which TensorRT
compiles them.

Pictures are float here: TensorRT has no operators on bytes, and a card turns one into the other in
microseconds. Everything up to TensorRT itself runs and is tested without it; what TensorRT will
find is checked here, since it takes every tensor's type at its word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node

from livepuppet.model.base import Model

#: Operators with a converter in torch-tensorrt 2.13.0, by reading what `dynamo_tensorrt_converter`
#: registers in torch_tensorrt/dynamo/conversion (the documentation's "Operators Supported" lists
#: the same).
_CONVERTERS = """
    _adaptive_avg_pool2d.default _adaptive_avg_pool3d.default _cdist_forward.default
    _embedding_bag.default _native_batch_norm_legit.no_stats
    _native_batch_norm_legit_no_training.default _pad_circular.default _pdist_forward.default
    _prelu_kernel.default _reshape_copy.default _scaled_dot_product_cudnn_attention.default
    _scaled_dot_product_efficient_attention.default _scaled_dot_product_flash_attention.default
    _softmax.default _to_copy.default abs.default acos.default acosh.default adaptive_avg_pool1d.default
    adaptive_avg_pool2d.default adaptive_avg_pool3d.default add.Scalar add.Tensor addmm.default
    amax.default amin.default any.default any.dim any.dims arange.start_step argmax.default
    argmin.default as_strided.default asin.default asinh.default atan.default atan2.default atan2.out
    atanh.default avg_pool1d.default avg_pool2d.default avg_pool3d.default batch_norm.default
    bitwise_and.Scalar bitwise_and.Scalar_Tensor bitwise_and.Tensor bitwise_not.default
    bitwise_or.Scalar bitwise_or.Scalar_Tensor bitwise_or.Tensor bitwise_xor.Scalar
    bitwise_xor.Scalar_Tensor bitwise_xor.Tensor bmm.default cat.default ceil.default clamp.Tensor
    clamp.default clip.Tensor clip.default clone.default constant_pad_nd.default convolution.default
    copy.default cos.default cosh.default cumsum.default detach.default diagonal.default div.Scalar
    div.Scalar_mode div.Tensor div.Tensor_mode dot.default elu.default embedding.default
    embedding_bag.default empty.memory_format eq.Scalar eq.Tensor erf.default exp.default expand.default
    expm1.default flip.default floor.default floor_divide.Scalar floor_divide.default fmod.Scalar
    fmod.Tensor full.default gather.default ge.Scalar ge.Tensor gelu.default grid_sampler.default
    grid_sampler_2d.default gt.Scalar gt.Tensor hardsigmoid.default hardtanh.default index.Tensor
    index_put.default index_select.default isinf.default isnan.default le.Scalar le.Tensor
    leaky_relu.default linear.default log.default log10.default log1p.default log2.default
    logical_and.default logical_not.default logical_or.default logical_xor.default lt.Scalar lt.Tensor
    matmul.default max.default max.dim max_pool1d.default max_pool2d.default max_pool3d.default
    maximum.default mean.default mean.dim min.default min.dim minimum.default mm.default mul.Scalar
    mul.Tensor mv.default native_batch_norm.default native_dropout.default native_group_norm.default
    native_layer_norm.default ne.Scalar ne.Tensor neg.default nonzero.default pad.default
    permute.default pixel_shuffle.default pixel_unshuffle.default pow.Scalar pow.Tensor_Scalar
    pow.Tensor_Tensor prod.default prod.dim_int rand.default randn.default randperm.default
    reciprocal.default reflection_pad1d.default reflection_pad2d.default reflection_pad3d.default
    relu.default remainder.Scalar remainder.Tensor replication_pad1d.default replication_pad2d.default
    replication_pad3d.default reshape.default resize_.default roll.default round.default rsqrt.default
    scalar_tensor.default scaled_dot_product_attention.default scatter.src scatter.value select.int
    sigmoid.default sign.default sin.default sinh.default slice.Tensor softplus.default sort.default
    split.Tensor split.sizes split_with_sizes.default sqrt.default squeeze.dim squeeze.dims sub.Scalar
    sub.Tensor sum.default sum.dim_IntList sym_numel.default sym_size.int tan.default tanh.default
    tile.default topk.default trunc.default unsqueeze.default upsample_bicubic2d.vec
    upsample_bilinear2d.vec upsample_linear1d.vec upsample_nearest1d.vec upsample_nearest2d.vec
    upsample_nearest3d.vec upsample_trilinear3d.vec view.default where.self
"""
CONVERTIBLE = frozenset(_CONVERTERS.split())

#: Types that its converter of `_to_copy` casts to.
CASTS = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int8,
    torch.int32,
    torch.int64,
    torch.bool,
)

#: Operators that torch-tensorrt 2.13.0 takes out or apart before that (its
#: `TORCH_TRT_DECOMPOSITIONS` and lowering passes).
LOWERED = {
    "_assert_tensor_metadata.default",
    "_unsafe_view.default",
    "alias.default",
    "full_like.default",
    "lift_fresh_copy.default",
    "silu.default",
}

#: What it takes as a whole, while PyTorch's own decompositions would take it apart.
WHOLE = (
    torch.ops.aten.upsample_nearest2d.vec,
    torch.ops.aten.upsample_bilinear2d.vec,
    torch.ops.aten.pixel_shuffle.default,
    torch.ops.aten.pixel_unshuffle.default,
    torch.ops.aten.matmul.default,
)

#: Operators that move numbers about, and change none but by interpolation.
MOVES = {
    "permute",
    "view",
    "reshape",
    "unsqueeze",
    "squeeze",
    "expand",
    "clone",
    "upsample_bilinear2d",
    "slice",
}


class Call(nn.Module):
    """One of the three calls as a module of tensors alone, in evaluation mode.

    Args:
        model: of `checkpoint.load`.
        stage: `detect`: frames (1, 3, S, S) in [0, 1] to points, matrices and confidence. `encode`:
            the same to features, in their order. `render`: features and four tensors of keypoints
            to pictures (1, 3, S, S) in [0, 1] and deformations.
        names: of the features.
        dtype: what `torch.autocast` computes in, or None for float32.
    """

    def __init__(self, model: Model, stage: str, names: list[str], dtype: torch.dtype | None):
        super().__init__()
        self.model, self.stage, self.names, self.dtype = model, stage, names, dtype

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        kind = next(self.model.parameters()).device.type
        with torch.autocast(kind, dtype=self.dtype, enabled=self.dtype is not None, cache_enabled=False):
            return self._run(*inputs)

    def _run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.stage == "detect":
            return tuple(value.float() for value in self.model.detect_with_confidence(*inputs))
        if self.stage == "encode":
            # TensorRT cannot give back an input as an output, and the avatar itself may be a
            # feature.
            found = self.model.encode(*inputs).values()
            return tuple(value * 1.0 if value is inputs[0] else value for value in found)
        features = dict(zip(self.names, inputs, strict=False))
        drawn = self.model.render(features, *inputs[len(self.names) :])
        return drawn["prediction"].float(), drawn["deformation"].float()


def feature_names(model: Model) -> list[str]:
    """Names of the model's features, in their order."""
    from livepuppet.model.calls import example_inputs, to_model

    with torch.no_grad():
        return list(model.encode(to_model(example_inputs(model)["encode"][0])))


@torch.no_grad()
def examples(model: Model, stage: str, dtype: torch.dtype | None) -> tuple[Tensor, ...]:
    """Inputs of `Call` of the right shapes, types and device."""
    from livepuppet.model.calls import example_inputs, to_model

    inputs = example_inputs(model)
    picture = to_model(inputs["detect"][0]).contiguous()
    if stage != "render":
        return (picture,)
    names = feature_names(model)
    features = Call(model, "encode", names, dtype)(picture)
    keypoints = [value[None] for value in inputs["render"][len(names) :]]
    # An avatar's picture is its own feature: copied, so that no two inputs share memory.
    return tuple(value.contiguous().clone() for value in (*features, *keypoints))


@torch.no_grad()
def program_of(model: Model, stage: str, dtype: torch.dtype | None) -> ExportedProgram:
    """The call as a graph of operators that TensorRT has, where each cast of `torch.autocast` is an
    operator of its own.

    Args:
        model: in evaluation mode, in float32, on the device for which it is compiled.
        stage: `detect`, `encode` or `render`.
        dtype: see `Call`.
    """
    call = Call(model, stage, feature_names(model), dtype).eval()
    program = torch.export.export(call, examples(model, stage, dtype), strict=False)
    table = torch.export.default_decompositions()
    for operator in WHOLE:
        table.pop(operator, None)
    return program.run_decompositions(table)


def operators(program: ExportedProgram) -> Iterator[tuple[str, Node]]:
    """Name ("relu.default") and node of every operator of PyTorch in the program."""
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
            yield str(node.target).removeprefix("aten."), node


def not_convertible(program: ExportedProgram) -> list[str]:
    """Operators that TensorRT would have to leave to PyTorch, by `CONVERTIBLE` and `CASTS`."""
    found = set()
    for name, node in operators(program):
        if name == "_to_copy.default" and node.kwargs.get("dtype") not in CASTS:
            found.add(f"{name} to {node.kwargs.get('dtype')}")
        elif name not in CONVERTIBLE and name not in LOWERED:
            found.add(name)
    return sorted(found)


def convolution_types(program: ExportedProgram) -> Counter:
    """How many convolutions compute in each type."""
    return Counter(node.meta["val"].dtype for name, node in operators(program) if name.startswith("conv"))


def positions_in_16_bits(program: ExportedProgram) -> list[str]:
    """Where positions would be rounded to 16 bits, as phrases; none in a program that draws what it
    should.

    A position of 16 bits is off by up to a pixel of 256. So sampling grids are float32 and come
    from float32, and so do the weights by which positions are averaged, which a softmax makes.
    """
    found = []
    for name, node in operators(program):
        if name.startswith("grid_sampler"):
            grid = _argument(node, 1)
            if _type(grid) != torch.float32:
                found.append(f"the grid of {node.name} is {_type(grid)}")
            elif (origin := _origin(grid)) is not None:
                found.append(f"the grid of {node.name} was {origin} before")
        if name.startswith(("_softmax", "softmax")) and _type(_argument(node, 0)) != torch.float32:
            found.append(f"the weights of {node.name} are {_type(_argument(node, 0))}")
    return found


def _argument(node: Node, index: int) -> Node:
    found = node.args[index]
    assert isinstance(found, Node)
    return found


def _type(node: Node) -> torch.dtype:
    return node.meta["val"].dtype


def _origin(node: Node) -> torch.dtype | None:
    """The 16 bit type from which these numbers were cast, before they were only moved about; None
    where there is none.
    """
    while (
        isinstance(node.target, torch._ops.OpOverload)
        and node.target._schema.name.removeprefix("aten::") in MOVES
    ):
        node = _argument(node, 0)
    if node.op != "call_function" or node.target != torch.ops.aten._to_copy.default:
        return None
    before = _type(_argument(node, 0))
    return before if before in (torch.float16, torch.bfloat16) else None
