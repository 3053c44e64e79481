"""The network that closes an avatar's eyes as an ONNX graph, its weights in 16 bits, as the live path reads it.

python -m livepuppet.export.closed_eye WEIGHTS.safetensors OUTPUT.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import torch

from livepuppet.export.graphs import with_weights, write_graph
from livepuppet.export.matting import halve_weights
from livepuppet.model.closed_eye import INPUTS, ClosedEye
from livepuppet.realtime.rig.closed_eyes import HEIGHT, WIDTH

#: Input and output of the graph, as `model.closed_eye.ClosedEye.forward` has them.
INPUT, OUTPUT = "eye", "closed"


def load_closed_eye(path: Path) -> ClosedEye:
    """The network whose weights `train.recipes.closed_eye` wrote.

    Raises:
        UserError: the file is missing or of another network.
    """
    return with_weights(ClosedEye(), path, "the network of closed eyes")


def export_closed_eye(network: ClosedEye, path: Path) -> None:
    """Write the graph, weights inside.

    Raises:
        ExportError: the exporter failed, or wrote something that other runtimes may read
            differently.
    """
    write_graph(network, (torch.zeros(1, INPUTS, HEIGHT, WIDTH),), path, [INPUT], [OUTPUT])
    graph = onnx.load(path)
    halve_weights(graph)
    onnx.save(graph, path)
    onnx.checker.check_model(str(path))


if __name__ == "__main__":
    export_closed_eye(load_closed_eye(Path(sys.argv[1])), Path(sys.argv[2]))
