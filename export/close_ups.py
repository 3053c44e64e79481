"""The close-up networks as one ONNX graph, as the live path reads it.

python -m livepuppet.export.close_ups FOLDER close-ups.onnx
python -m livepuppet.export.close_ups FOLDER avatar-eyes.onnx --eyes
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from livepuppet.core.errors import UserError
from livepuppet.export.graphs import write_graph
from livepuppet.model.close_up import EYE, HEAD, MOUTH, CloseUp, CloseUps, Eyes

#: Kinds of crops, in the order of the graph's outputs.
CONFIGS = {"eye": EYE, "mouth": MOUTH, "head": HEAD}

#: Inputs of the graph: crops of both eyes, the mouth and the head.
INPUTS = ("eyes", "mouth", "head")

#: Outputs of the graph: of each kind its points, amounts and logits.
OUTPUTS = tuple(f"{kind}_{what}" for kind in CONFIGS for what in ("points", "amounts", "logits"))


def load_close_up(folder: Path, kind: str) -> CloseUp:
    """The network of "eye", "mouth" or "head" whose weights `train.recipes.close_up` wrote to `folder`.

    Raises:
        UserError: there are none, or another network's.
    """
    from safetensors.torch import load_file

    network, path = CloseUp(CONFIGS[kind]), folder / f"{kind}.safetensors"
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be used: {reason}; train the {kind}'s network first.") from error
    return network.eval()


def load_close_ups(folder: Path) -> CloseUps:
    """All three of them.

    Raises:
        UserError: as above.
    """
    return CloseUps(*(load_close_up(folder, kind) for kind in CONFIGS)).eval()


def export_close_ups(networks: CloseUps, path: Path) -> None:
    """Write the graph, weights inside.

    Raises:
        ExportError: the exporter failed, or wrote something that other runtimes may read
            differently.
    """
    crops = tuple(
        torch.zeros(count, network.config.size, network.config.size, 3, dtype=torch.uint8)
        for count, network in ((2, networks.eye), (1, networks.mouth), (1, networks.head))
    )
    write_graph(networks, crops, path, list(INPUTS), list(OUTPUTS))


def export_eyes(eye: CloseUp, path: Path) -> None:
    """Write the graph of an eye's network alone.

    Raises:
        ExportError: as above.
    """
    size = eye.config.size
    write_graph(
        Eyes(eye), (torch.zeros(2, size, size, 3, dtype=torch.uint8),), path, ["eyes"], list(OUTPUTS[:3])
    )


if __name__ == "__main__":
    folder, path = map(Path, sys.argv[1:3])
    if "--eyes" in sys.argv[3:]:
        export_eyes(load_close_up(folder, "eye"), path)
    else:
        export_close_ups(load_close_ups(folder), path)
