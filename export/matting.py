"""The matting network as an ONNX graph, its weights in 16 bits, as the live path reads it.

python -m livepuppet.export.matting WEIGHTS.safetensors OUTPUT.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch

from livepuppet.export.graphs import with_weights, write_graph
from livepuppet.model.matting import INPUTS, Matting

#: Inputs and outputs of the graph, as `model.matting.Matting.forward` has them.
INPUT, OUTPUT_NAMES = "square", ("alpha", "depth", "torso")


def load_matting(path: Path) -> Matting:
    """The network whose weights `train.recipes.matting` wrote.

    Raises:
        UserError: the file is missing or of another network.
    """
    return with_weights(Matting(), path, "the matting network")


def export_matting(network: Matting, path: Path) -> None:
    """Write the graph, weights inside.

    Raises:
        ExportError: the exporter failed, or wrote something that other runtimes may read
            differently.
    """
    size = network.config.size
    write_graph(network, (torch.zeros(1, INPUTS, size, size),), path, [INPUT], list(OUTPUT_NAMES))
    graph = onnx.load(path)
    halve_weights(graph)
    onnx.save(graph, path)
    onnx.checker.check_model(str(path))


def halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 weights in 16 bits. Runtimes widen them once, when they load the graph."""
    graph, casts = model.graph, []
    for weight in graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < 1024:
            continue
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name} in 16 bits"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)


if __name__ == "__main__":
    export_matting(load_matting(Path(sys.argv[1])), Path(sys.argv[2]))
