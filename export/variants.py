"""A bundle's graphs in fewer bits, beside those in float32.

`float16` is for graphics cards, by way of onnxruntime's CUDA, TensorRT and DirectML: convolutions
and what lies between them. Everything about positions stays float32: 16 bits of a coordinate are
off by a pixel of 256.

`int8` is for processors: the convolutions of `render` that bear it. Its ranges are measured on
pictures (static quantisation); which convolutions bear it is found out by quantising each alone.
Keypoints stay float32: in int8 they tremble, and `detect` is a tenth of the work.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, shape_inference

from livepuppet.core.bundle import BUNDLE_FILE, write_bundle_file
from livepuppet.core.engine import Precision
from livepuppet.core.files import sha256
from livepuppet.core.reference import Reference
from livepuppet.export.graphs import KEYPOINT_INPUTS, ExportError

#: The variants there are.
VARIANTS = ("float16", "int8")

STAGES = ("detect", "encode", "render")

#: Operators that may compute in 16 bits where they lie between two convolutions. All others stay in
#: 32: sums and softmaxes over whole maps, exponentials, and GridSample, which onnxruntime has in
#: float32 only.
FP16_OPS = {
    *("Relu", "LeakyRelu", "Add", "Mul", "BatchNormalization", "AveragePool", "MaxPool"),
    *("Resize", "Concat", "Pad", "Expand", "DepthToSpace", "SpaceToDepth", "Transpose", "Reshape", "Slice"),
    *("Squeeze", "Unsqueeze"),
}

#: Of these, operators that bring features together, of which some may come from elsewhere: warped
#: ones, a residual's other arm.
MERGE_OPS = {"Add", "Mul", "Concat"}

#: A convolution with fewer dB to spare, when it alone is quantised, stays float32. In lite-256 that
#: is all of the network for motion (a flow that is off moves outlines) and the two convolutions
#: before the pixels; those of the generator have 21 and more. On clips of people, which are harder
#: than the bundled one, the worst then has 55 dB if other clips (of rich puppets) are calibrated
#: on, too, and 39, which the gate refuses, if not. With 15 here there were 10 dB less on earlier
#: weights, for a `render` 1.53 instead of 1.37 times as fast as in float32 (OpenVINO, without
#: VNNI).
MIN_MARGIN_DB = 20.5


@dataclass(frozen=True)
class Verdict:
    """What the quality gate says of a variant.

    Attributes:
        failures: what is off, as phrases; empty where it passes.
        margin: dB by which the worst picture is better than the least that passes.
    """

    failures: list[str]
    margin: float


#: Runs a variant: of the bundle's folder, the variant's name, and what PyTorch draws (see
#: `reference.draw`).
Judge = Callable[[Path, Precision, Sequence[Reference]], Verdict]


def add_float16(
    folder: Path, references: Sequence[Reference], judge: Judge, sources: Path | None = None
) -> None:
    """Add float16 graphs to a bundle. `encode`, once per avatar, stays float32.

    Args:
        references: of `reference.draw`.
        sources: a folder with the graphs to convert; the bundle's own by default.

    Raises:
        ExportError: they do not draw well enough. The bundle is then not to be used.
    """
    graphs = {
        stage: to_float16(onnx.load((sources or folder) / f"{stage}.onnx")) for stage in ("detect", "render")
    }
    # Processors compute float16 graphs in float32, so what the rounding does shows in a graph that
    # rounds.
    _enter(folder, "float16", {stage: rounded(graph) for stage, graph in graphs.items()})
    _accept(judge(folder, "float16", references), "float16")
    _enter(folder, "float16", graphs)
    _accept(judge(folder, "float16", references), "float16")


def add_int8(
    folder: Path,
    references: Sequence[Reference],
    judge: Judge,
    notify: Callable[[str], None] = lambda sentence: None,
    sources: Path | None = None,
) -> None:
    """Add int8 graphs to a bundle: as many of the convolutions of `render` as the gate lets pass.

    Args:
        references: of `reference.draw`; the more different the pictures, the truer the ranges. The
            first alone tells how sensitive each convolution is.
        notify: told of the progress, which takes minutes.
        sources: a folder with the graph to convert; the bundle's own by default.

    Raises:
        ExportError: fewer than a quarter of the convolutions bear it. The bundle is then not to be
            used.
    """
    source = (sources or folder) / "render.onnx"
    names = [node.name for node in onnx.load(source).graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "render.onnx"

        def verdict(chosen: list[str], references: Sequence[Reference]) -> Verdict:
            _quantise(source, path, chosen, render_feeds(folder, references))
            _enter(folder, "int8", {"render": onnx.load(path)})
            return judge(folder, "int8", references)

        margins = {}
        for index, name in enumerate(names):
            margins[name] = verdict([name], references[:1]).margin
            notify(f"int8: convolution {index + 1} of {len(names)} alone has {margins[name]:.0f} dB to spare")
        order = sorted(names, key=margins.__getitem__)
        left_out = sum(margin < MIN_MARGIN_DB for margin in margins.values())
        while True:
            if 4 * left_out > 3 * len(names):
                raise ExportError(
                    f"In int8 this model draws too badly: {left_out} of its {len(names)} convolutions would have to stay "
                    "float32; leave --int8 out; nothing was written."
                )
            chosen = [name for name in names if name not in order[:left_out]]
            found = verdict(chosen, references)
            notify(
                f"int8: with {left_out} of {len(names)} convolutions in float32 there are {found.margin:.1f} dB to spare"
            )
            if not found.failures:
                return
            left_out += max(1, len(names) // 12)


def _accept(verdict: Verdict, name: str) -> None:
    if verdict.failures:
        raise ExportError(
            f"The {name} graphs do not draw what PyTorch draws: {'; '.join(verdict.failures)}; leave --{name} out; nothing "
            "was written."
        )


def _enter(folder: Path, name: str, graphs: dict[str, onnx.ModelProto]) -> None:
    """Write a variant's graphs and enter them in `bundle.json`; stages without one keep the float32
    graph.
    """
    metadata = json.loads((folder / BUNDLE_FILE).read_text(encoding="utf-8"))
    entries = dict(metadata["graphs"])
    for stage, graph in graphs.items():
        path = folder / f"{stage}.{name}.onnx"
        onnx.save(graph, path)
        onnx.checker.check_model(str(path))
        entries[stage] = {"file": path.name, "sha256": sha256(path)}
    metadata.setdefault("variants", {})[name] = entries
    write_bundle_file(folder, metadata)


# float16

#: Ends the names of tensors in 16 bits.
HALF = ".float16"


def to_float16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with convolutions, and what lies between them alone, in float16; inputs and outputs
    as they were.

    The last convolutions, behind which no other comes (heat-maps, flow, masks, pixels), stay
    float32: of a few channels each, they cost little, and in float16 they more than double the
    error of keypoints.
    """
    model = shape_inference.infer_shapes(graph)
    nodes = list(model.graph.node)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
    } | {name: tensor.data_type for name, tensor in weights.items()}
    chosen = _between_convolutions(nodes, types, weights, {value.name for value in model.graph.output})

    made, halves = [], {}

    def half(name: str) -> str:
        """The name of a tensor's float16 form, made where it is asked for first."""
        if name not in halves:
            halves[name] = f"{name}{HALF}"
            if name in weights:
                values = numpy_helper.to_array(weights[name]).astype(np.float16)
                model.graph.initializer.append(numpy_helper.from_array(values, halves[name]))
            else:
                made.append(helper.make_node("Cast", [name], [halves[name]], to=TensorProto.FLOAT16))
        return halves[name]

    outside = {name for index, node in enumerate(nodes) if index not in chosen for name in node.input}
    outside |= {value.name for value in model.graph.output}
    for index, node in enumerate(nodes):
        if index not in chosen:
            made.append(node)
            continue
        places = _data(node, types)
        inputs = [half(name) if place in places else name for place, name in enumerate(node.input)]
        name = node.output[0]
        halves[name] = f"{name}{HALF}"
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        converted.input[:], converted.output[:] = inputs, [halves[name]]
        made.append(converted)
        if name in outside:
            made.append(helper.make_node("Cast", [halves[name]], [name], to=TensorProto.FLOAT))
    del model.graph.node[:]
    model.graph.node.extend(made)
    del model.graph.value_info[:]
    used = {name for node in made for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _data(node: onnx.NodeProto, types: dict[str, int]) -> list[int]:
    """Which of a node's inputs are numbers to compute with: of Resize, the scales are not."""
    count = 1 if node.op_type == "Resize" else len(node.input)
    return [place for place, name in enumerate(node.input[:count]) if types.get(name) == TensorProto.FLOAT]


def _between_convolutions(nodes: list, types: dict[str, int], weights: dict, outputs: set[str]) -> set[int]:
    """Indices of nodes that compute in 16 bits: convolutions but for the last, and what lies
    between such alone.
    """
    users = defaultdict(list)
    for index, node in enumerate(nodes):
        for name in node.input:
            users[name].append(index)

    def fed(index: int, chosen: set[int]) -> bool:
        name = nodes[index].output[0]
        return bool(users[name]) and name not in outputs and all(user in chosen for user in users[name])

    def lies_between(index: int, chosen: set[int], made: set[str]) -> bool:
        known = [
            nodes[index].input[place] in made
            for place in _data(nodes[index], types)
            if nodes[index].input[place] not in weights
        ]
        enough = any if nodes[index].op_type in MERGE_OPS else all
        return bool(known) and enough(known) and fed(index, chosen)

    chosen = {index for index, node in enumerate(nodes) if node.op_type in {"Conv", *FP16_OPS}}
    while True:
        made = {nodes[index].output[0] for index in chosen}
        kept = {
            index for index in chosen if nodes[index].op_type == "Conv" or lies_between(index, chosen, made)
        }
        if kept == chosen:
            return {index for index in chosen if fed(index, chosen)}
        chosen = kept


def rounded(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A graph of `to_float16` in float32, with every value rounded to float16's 11 bits where the
    graph has float16.

    Runtimes on processors without 16-bit arithmetic leave casts to and fro out, and with them the
    rounding. (Dekker's: c = 8193 x, c - (c - x) has the upper 11 bits of x. Float16's smallest
    numbers are left out of it.)
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    model.graph.initializer.append(numpy_helper.from_array(np.array(8193, np.float32), "dekker"))
    made = []
    for node in graph.graph.node:
        name = node.output[0]
        if not name.endswith(HALF):
            # Casts back have nothing left to do.
            back = node.op_type == "Cast" and node.input[0].endswith(HALF)
            made.append(helper.make_node("Identity", node.input, node.output) if back else node)
            continue
        raw = node.input[0]
        if node.op_type != "Cast":
            raw = f"{name}.raw"
            exact = onnx.NodeProto()
            exact.CopyFrom(node)
            exact.output[0] = raw
            made.append(exact)
        made.append(helper.make_node("Mul", [raw, "dekker"], [f"{name}.c"]))
        made.append(helper.make_node("Sub", [f"{name}.c", raw], [f"{name}.d"]))
        made.append(helper.make_node("Sub", [f"{name}.c", f"{name}.d"], [name]))
    del model.graph.node[:]
    model.graph.node.extend(made)
    return model


# int8


def render_feeds(folder: Path, references: Sequence[Reference]) -> Iterator[dict[str, np.ndarray]]:
    """What `render` gets as inputs when it draws the references, features from the bundle's own
    `encode`.
    """
    encode = onnxruntime.InferenceSession(str(folder / "encode.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in encode.get_outputs()]
    for reference in references:
        features = {}
        moved = zip(reference.avatars, reference.driving_points, reference.driving_matrices, strict=True)
        for index, *motion in moved:
            if index not in features:
                drawn = encode.run(names, {"avatar": reference.pictures[index]})
                features[index] = dict(zip(names, drawn, strict=True))
            own = reference.points[index], reference.matrices[index]
            yield features[index] | dict(zip(KEYPOINT_INPUTS, (*own, *motion), strict=True))


def _quantise(source: Path, target: Path, chosen: list[str], feeds: Iterator[dict]) -> None:
    """Write the graph with some convolutions in int8: activations 8 bits unsigned, weights 7 bits
    and per channel.

    With 8 bits of weights the sums of pairs overflow their 16 bits on processors without VNNI (27
    dB instead of 36 where all convolutions are quantised).
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader

    taken = {entry.name for entry in onnx.load(source, load_external_data=False).graph.input}

    class Reader(CalibrationDataReader):
        def get_next(self):
            feed = next(feeds, None)
            return feed and {name: value for name, value in feed.items() if name in taken}

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it asks for a pre-processing that these graphs do not need
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=chosen,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Percentiles and entropy drew no better.
                calibrate_method=CalibrationMethod.MinMax,
            )
    finally:
        logging.getLogger().setLevel(level)
