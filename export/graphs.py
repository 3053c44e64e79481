"""The three calls of a model as ONNX graphs, with unbatched uint8 pictures in and out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

#: GridSample of opset 20 is silently sampled with *nearest* by TensorRT's parser; up to 19 every runtime is right.
OPSET = 18

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

DETECT_OUTPUTS = ("points", "jacobians", "confidence")
RENDER_OUTPUTS = ("prediction", "deformation")
KEYPOINT_INPUTS = ("source_points", "source_jacobians", "driving_points", "driving_jacobians")


class ExportError(RuntimeError):
    """An export that failed or came out wrong. The message is one sentence."""


def to_model(picture: Tensor) -> Tensor:
    """RGB uint8 (S, S, 3) to a batch of one, float (1, 3, S, S) in [0, 1]."""
    return picture.permute(2, 0, 1)[None].float() / 255


def to_picture(batch: Tensor) -> Tensor:
    """Float (1, 3, S, S) in [0, 1] to RGB uint8 (S, S, 3), rounded to the nearest level."""
    return (batch[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)


class Detect(nn.Module):
    """`frame` uint8 (S, S, 3) to `points` (K, 2), `jacobians` (K, 2, 2) and `confidence` (K,)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, jacobians, confidence = self.model.detect_with_confidence(to_model(frame))
        return points[0], jacobians[0], confidence[0]


class Encode(nn.Module):
    """`avatar` uint8 (S, S, 3) to the model's features, in the order of their names, with their batch of one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, avatar: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.encode(to_model(avatar)).values())


class Render(nn.Module):
    """The features, then `KEYPOINT_INPUTS` without a batch, to `RENDER_OUTPUTS`: uint8 (S, S, 3) and float (h, w, 2)."""

    def __init__(self, model: nn.Module, feature_names: list[str]):
        super().__init__()
        self.model = model
        self.feature_names = feature_names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        count = len(self.feature_names)
        features = dict(zip(self.feature_names, inputs[:count], strict=True))
        keypoints = [tensor[None] for tensor in inputs[count:]]
        drawn = self.model.render(features, *keypoints)
        return to_picture(drawn["prediction"]), drawn["deformation"][0]


@torch.no_grad()
def write_graphs(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Write `detect.onnx`, `encode.onnx` and `render.onnx`, weights inside, and check what came out.

    Args:
        model: in evaluation mode, on the CPU, in float32.
        folder: exists already.

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

    _write(Detect(model), (picture,), folder / "detect.onnx", ["frame"], list(DETECT_OUTPUTS))
    _write(Encode(model), (picture,), folder / "encode.onnx", ["avatar"], names)
    _write(
        Render(model, names),
        (*features.values(), *motion),
        folder / "render.onnx",
        [*names, *KEYPOINT_INPUTS],
        list(RENDER_OUTPUTS),
    )
    return features


def _write(module: nn.Module, example: tuple, path: Path, inputs: list[str], outputs: list[str]) -> None:
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
            graph = program.model_proto
    except Exception as error:  # the exporter raises dozens of kinds
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"PyTorch could not export {path.name}: {reason[0]}") from error
    strip(graph)
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


def check_graph(graph: onnx.ModelProto, name: str) -> None:
    """Refuse what runtimes are known to read differently.

    Raises:
        ExportError: another opset, an operator of another domain, control flow, weights outside the file, or a
            GridSample that is not bilinear with aligned corners.
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
