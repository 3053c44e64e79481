"""The three calls of a model as ONNX graphs, with unbatched uint8 pictures in and out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

import onnx
import torch
from torch import Tensor, nn

from livepuppet.core.engine import STAGES
from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.model.base import Model
from livepuppet.model.calls import (
    DETECT_OUTPUTS,
    KEYPOINT_INPUTS,
    RENDER_OUTPUTS,
    Detect,
    Encode,
    Render,
    to_model,
)

#: GridSample of opset 20 is silently sampled with *nearest* by TensorRT's parser; up to 19 every runtime is right.
OPSET = 18

#: Operators that give a value another shape and, in most runtimes, no memory of its own.
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}

#: Control flow and sequences: signs of an export gone wrong, slow or unknown in other runtimes.
FORBIDDEN_OPERATORS = {
    "Loop",
    "If",
    "Scan",
    "SequenceConstruct",
    "SequenceAt",
    "SplitToSequence",
    "RandomNormal",
}

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class ExportError(LivePuppetError, RuntimeError):
    """An export that failed or came out wrong. The message is one sentence."""


@torch.no_grad()
def write_graphs(model: Model, folder: Path, stages: Collection[str] = STAGES) -> dict[str, Tensor]:
    """Write `detect.onnx`, `encode.onnx` and `render.onnx`, weights inside, and check what came out.

    Args:
        model: in evaluation mode, on the CPU, in float32.
        folder: exists already.
        stages: the graphs wanted; each takes seconds.

    Returns:
        The features of a black avatar, by name, whose order and shapes are those of the graphs.

    Raises:
        ExportError: the exporter failed, or wrote something that other runtimes may read differently.
    """
    size, keypoints = model.preset.size, model.preset.num_keypoints
    picture = torch.zeros(size, size, 3, dtype=torch.uint8)
    features = model.encode(to_model(picture))
    names = list(features)
    points = torch.zeros(keypoints, 2)
    jacobians = torch.eye(2).repeat(keypoints, 1, 1)
    # Four separate tensors: the exporter would take two arguments that share memory for one.
    motion = (points, jacobians, points.clone(), jacobians.clone())

    calls = {
        "detect": (Detect(model), (picture,), ["frame"], list(DETECT_OUTPUTS)),
        "encode": (Encode(model), (picture,), ["avatar"], names),
        "render": (
            Render(model, names),
            (*features.values(), *motion),
            [*names, *KEYPOINT_INPUTS],
            list(RENDER_OUTPUTS),
        ),
    }
    for stage in stages:
        module, example, inputs, outputs = calls[stage]
        write_graph(module, example, folder / f"{stage}.onnx", inputs, outputs)
    return features


def write_graph(module: nn.Module, example: tuple, path: Path, inputs: list[str], outputs: list[str]) -> None:
    """Write one module as a graph, weights inside, and check what came out.

    Raises:
        ExportError: the exporter failed, or wrote something that other runtimes may read differently.
    """
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                example,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None  # with `dynamo`
            graph = program.model_proto
    except Exception as error:  # the exporter raises dozens of kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"PyTorch could not export {path.name}: {reason[0]}") from error
    strip(graph)
    drop_unused_inputs(graph)
    check_graph(graph, path.name)
    onnx.save(graph, path)
    onnx.checker.check_model(str(path))


def strip(graph: onnx.ModelProto) -> None:
    """Take out the exporter's notes: stack traces with paths of the machine that exported, many times the graph's size."""
    graph.doc_string = ""
    graph.graph.doc_string = ""
    for message in (graph, graph.graph):
        del message.metadata_props[:]
    for entry in (
        *graph.graph.node,
        *graph.graph.value_info,
        *graph.graph.initializer,
        *graph.graph.input,
        *graph.graph.output,
    ):
        entry.doc_string = ""
        del entry.metadata_props[:]


def drop_unused_inputs(graph: onnx.ModelProto) -> None:
    """Take out inputs that no node reads (a Monkey-Net without flow asks for no thumbnail): some OpenVINOs refuse them."""
    read = {name for node in graph.graph.node for name in node.input}
    kept = [entry for entry in graph.graph.input if entry.name in read]
    del graph.graph.input[:]
    graph.graph.input.extend(kept)


def aliases(graph: onnx.ModelProto) -> list[str]:
    """Names of the outputs that share memory with a value that other nodes read, or with another output.

    A runtime has one piece of memory for a value and its views, and a caller's piece for an output. Where these meet,
    OpenVINO 2026.4 on AVX-512 reads from memory that nobody wrote. An output that other nodes read under its own name
    is right everywhere, and so is one at the end of views that nobody else looks at.
    """
    nodes = graph.graph.node
    single = {entry.name for entry in graph.graph.initializer if onnx.numpy_helper.to_array(entry).size == 1}
    sources: dict[str, str] = {}
    for node in nodes:
        if node.op_type in VIEWS or (node.op_type == "Gather" and _takes_one(node, single)):
            sources[node.output[0]] = node.input[0]
    outputs = {entry.name for entry in graph.graph.output}
    found = []
    for output in outputs:
        # Every value that is the same memory: up to where it was computed, and down to all views of that.
        root = output
        while root in sources:
            root = sources[root]
        same, before = {root}, 0
        while len(same) > before:
            before = len(same)
            same |= {view for view, source in sources.items() if source in same}
        if len(same) == 1:
            continue
        readers = [node for node in nodes if set(node.input) & same and node.output[0] not in same]
        # A chain of views has one that none is made of.
        ends = same - {sources[view] for view in same if view in sources}
        if readers or ends != {output}:
            found.append(output)
    return sorted(found)


def _takes_one(node: onnx.NodeProto, single: set[str]) -> bool:
    """Whether a Gather takes one element along its first axis, which runtimes turn into a view where there is but one."""
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
    return axis == 0 and node.input[1] in single


def check_graph(graph: onnx.ModelProto, name: str) -> None:
    """Refuse what runtimes are known to read differently.

    Raises:
        ExportError: another opset, an operator of another domain, control flow, weights outside the file, a
            GridSample that is not bilinear with aligned corners, or an output that shares memory with an inner value.
    """
    domains = {entry.domain: entry.version for entry in graph.opset_import}
    if domains.get("") != OPSET or any(domain not in ("", "ai.onnx") for domain in domains):
        raise ExportError(f"{name} came out at opsets {domains} instead of {OPSET}.")
    operators = Counter(node.op_type for node in graph.graph.node)
    if bad := FORBIDDEN_OPERATORS & set(operators):
        raise ExportError(f"{name} came out with {', '.join(sorted(bad))}, which not every runtime runs.")
    if any(entry.data_location == onnx.TensorProto.EXTERNAL for entry in graph.graph.initializer):
        raise ExportError(f"{name} keeps its weights in another file.")
    for node in graph.graph.node:
        if node.op_type != "GridSample":
            continue
        values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        # "linear" is the name of the same mode from opset 20 on.
        if (
            values.get("mode", b"bilinear") not in (b"bilinear", b"linear")
            or values.get("align_corners") != 1
        ):
            raise ExportError(f"{name} has a GridSample that is not bilinear with aligned corners.")
    if shared := aliases(graph):
        raise ExportError(
            f"{name} has outputs ({', '.join(shared)}) that are views of values that it goes on with, which OpenVINO "
            "computes wrongly on some processors; export it again with this livepuppet."
        )


@contextlib.contextmanager
def _quiet():
    """The exporter reports its progress and its optional packages in four ways; people wait for one sentence."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def with_weights(network: NetworkT, path: Path, name: str) -> NetworkT:
    """`network` with the weights of a .safetensors file, in evaluation mode.

    Args:
        name: what people call it.

    Raises:
        UserError: the file is missing, damaged or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be used: {reason}; train {name} first.") from error
    return network.eval()
