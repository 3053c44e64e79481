"""How much there is to compute in a call: floating-point operations, and values that have to be
moved.

Counted are convolutions and matrix products, a multiplication with its addition as two; the rest is
a few percent. Values are what these operators read (weights too) and write, each once: the least
that has to move when operators run one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """Of one call.

    Attributes:
        flop: floating-point operations.
        values: read and written.
    """

    flop: int = 0
    values: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.values + other.values)


def of_graph(path: Path) -> Work:
    """The work in an ONNX graph of fixed shapes. Raises ModuleNotFoundError where `onnx` is not
    installed.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    total = Work()
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvInteger", "QLinearConv", "MatMul", "Gemm"):
            continue
        output = math.prod(shapes[node.output[0]])
        first, second = (shapes[name] for name in node.input[:2])
        if "Conv" in node.op_type:
            # Each output is a sum over one filter: (input channels per group) x height x width.
            each = math.prod(second[1:])
        elif node.op_type == "Gemm":
            transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
            each = first[0] if transposed else first[1]
        else:
            each = first[-1]
        total += Work(2 * output * each, output + math.prod(first) + math.prod(second))
    return total


def of_call(call) -> Work:
    """The work that PyTorch does in `call()`, wherever it runs."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        total = Work()

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            out = function(*arguments, **(keywords or {}))
            rule = flop_registry.get(function.overloadpacket)
            if rule is not None:
                tensors = [leaf for leaf in tree_leaves((arguments, out)) if isinstance(leaf, torch.Tensor)]
                values = sum(tensor.numel() for tensor in tensors)
                self.total += Work(rule(*arguments, **(keywords or {}), out_val=out), values)
            return out

    with Counter() as counter, torch.no_grad():
        call()
    return counter.total
