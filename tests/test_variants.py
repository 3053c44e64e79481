"""Graphs in fewer bits: where the bits may be few, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper, shape_inference

from livepuppet.core.bundle import graphs_of
from livepuppet.core.files import sha256
from livepuppet.core.reference import Reference
from livepuppet.export import bundle as bundling
from livepuppet.export import variants
from livepuppet.export.graphs import ExportError, check_graph, write_graphs
from livepuppet.export.optimise import NOT_IN_FEW_BITS, optimise
from livepuppet.export.variants import FP16_OPS, HALF, Verdict, add_int8, render_feeds, rounded, to_float16
from livepuppet.export.verify import judge
from livepuppet.model.checkpoint import load
from livepuppet.realtime.engines import OnnxEngine, read_bundle


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle / "bundle", tmp_path / "copy")


@pytest.fixture(scope="module")
def reference(tiny_bundle):
    return Reference.load(tiny_bundle / "bundle" / "reference.npz")


def session(graph):
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@cache
def without_winograd(weights: Path) -> onnx.ModelProto:
    """The `render` that variants are made of: without Winograd's matrix products, of which `detect` has none."""
    with tempfile.TemporaryDirectory() as folder:
        write_graphs(optimise(load(weights), without=NOT_IN_FEW_BITS), Path(folder), ["render"])
        return onnx.load(Path(folder) / "render.onnx")


# float16


@pytest.mark.parametrize("bundle", ["tiny_bundle", "monkey_bundle"])
@pytest.mark.parametrize("stage", ["detect", "render"])
def test_float16_stays_between_convolutions(bundle, stage, request):
    """No position is ever in 16 bits: neither a sampling grid, nor a gather's index, nor a heat-map's softmax."""
    folder = request.getfixturevalue(bundle)
    if stage == "render":
        graph = without_winograd(folder / "weights.safetensors")
    else:
        graph = onnx.load(folder / "bundle" / "detect.onnx")
    converted = to_float16(graph)
    onnx.checker.check_model(converted, full_check=True)
    check_graph(converted, stage)
    typed = shape_inference.infer_shapes(converted, strict_mode=True).graph
    halves = {v.name for v in typed.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    halves |= {t.name for t in typed.initializer if t.data_type == TensorProto.FLOAT16}
    assert halves and all(name.endswith(HALF) for name in halves)
    readers = {node.op_type for node in typed.node if halves & set(node.input)}
    assert "Conv" in readers and readers <= {"Conv", "Cast", *FP16_OPS}
    assert not readers & {"GridSample", "Softmax", "Gather", "MatMul", "Exp", "Floor", "Tanh", "Sigmoid"}
    # Most of the work is in 16 bits, the heads are not, and the calls are the same from outside.
    made = {name for node in typed.node for name in node.output}
    convolutions = [node for node in typed.node if node.op_type == "Conv"]
    assert sum(node.output[0] in halves for node in convolutions) >= len(convolutions) / 2
    users = {name: [node for node in typed.node if name in node.input] for name in made}
    for node in convolutions:
        if node.output[0] in halves:
            assert any(user.op_type != "Cast" for user in users[node.output[0]]), "a head in 16 bits"
    for before, after in zip(
        (*graph.graph.input, *graph.graph.output),
        (*converted.graph.input, *converted.graph.output),
        strict=True,
    ):
        assert before == after
    # (The Jacobians' weights, which meet features averaged under heat-maps, stay as they are.)
    assert len(converted.SerializeToString()) < 0.8 * len(graph.SerializeToString())


def test_float16_runs_and_rounding_shows(tiny_bundle, reference):
    graph = onnx.load(tiny_bundle / "bundle" / "detect.onnx")
    half = to_float16(graph)
    feed = {"frame": reference.pictures[0]}
    exact, cast, rounding = (session(g).run(["points"], feed)[0] for g in (graph, half, rounded(half)))
    assert 0 < np.abs(rounding - exact).max() < 2e-2
    assert np.abs(cast - exact).max() < 2e-2
    # What onnxruntime makes of the casts on a processor is not what a card computes.
    assert not np.array_equal(rounding, cast)


def test_rounding_is_float16s():
    """Dekker's splitting against NumPy's own float16."""
    convolution = onnx.helper.make_node("Conv", ["x", "w"], ["a"])
    last = onnx.helper.make_node("Conv", ["a", "w"], ["y"])
    shape = [1, 1, 64, 64]
    info = onnx.helper.make_tensor_value_info
    one = numpy_helper.from_array(np.float32([[[[1.0]]]]), "w")
    graph = onnx.helper.make_model(
        onnx.helper.make_graph([convolution, last], "g", [info("x", 1, shape)], [info("y", 1, shape)], [one]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=9,
    )
    values = np.random.default_rng(0).normal(0, 30, shape).astype(np.float32)
    (drawn,) = session(rounded(to_float16(graph))).run(None, {"x": values})
    assert np.array_equal(drawn, values.astype(np.float16).astype(np.float32))
    assert not np.array_equal(drawn, values)


# int8


def convolutions(folder):
    return [node.name for node in onnx.load(folder / "render.onnx").graph.node if node.op_type == "Conv"]


def test_int8_is_per_channel_and_in_seven_bits(copy, reference):
    chosen = convolutions(copy)[-6:-3]
    variants._quantise(copy / "render.onnx", copy / "q.onnx", chosen, render_feeds(copy, [reference]))
    graph = onnx.load(copy / "q.onnx")
    check_graph(graph, "render")
    kernels = [numpy_helper.to_array(t) for t in graph.graph.initializer if t.data_type == TensorProto.INT8]
    kernels = [kernel for kernel in kernels if kernel.ndim == 4]
    assert len(kernels) == len(chosen)
    # Products of 8 and 7 bits, two by two, stay within 16: processors without VNNI add them up so.
    assert all(np.abs(kernel.astype(int)).max() <= 64 for kernel in kernels)
    scales = [t for t in graph.graph.initializer if t.name.endswith("_scale") and len(t.dims) == 1]
    assert len([t for t in scales if t.dims[0] > 1]) >= len(chosen)
    feeds = list(render_feeds(copy, [reference]))
    exact = session(onnx.load(copy / "render.onnx"))
    quantised = session(graph)
    error = [
        np.abs(exact.run(["prediction"], f)[0].astype(int) - quantised.run(["prediction"], f)[0]).mean()
        for f in feeds
    ]
    assert 0 < max(error) < 5


def test_feeds_are_what_the_reference_was_drawn_from(copy, reference):
    render = session(onnx.load(copy / "render.onnx"))
    feeds = list(render_feeds(copy, [reference, reference]))
    assert len(feeds) == 2 * len(reference.drawn)
    for feed, expected in zip(feeds, reference.drawn, strict=False):
        assert np.abs(render.run(["prediction"], feed)[0].astype(int) - expected).max() <= 2


@pytest.fixture
def search(copy, reference, monkeypatch):
    """`add_int8` with quantisation replaced: a judge that knows how much every convolution costs."""
    names = convolutions(copy)
    tried = []

    def quantise(source, target, chosen, feeds):
        tried.append(list(chosen))
        shutil.copy(source, target)

    def run(margins, least):
        def verdict(folder, name, references):
            assert name == "int8" and graphs_of(folder, read_bundle(folder), "int8")
            chosen = tried[-1]
            if len(chosen) == 1:
                return Verdict([], margins[names.index(chosen[0])])
            bad = sum(margins[names.index(name)] < least for name in chosen)
            return Verdict([f"{bad} bad"] * bool(bad), 1.0)

        add_int8(copy, [reference, reference], verdict)
        return [names.index(name) for name in tried[-1]]

    monkeypatch.setattr(variants, "_quantise", quantise)
    run.count = len(names)
    run.tried = tried
    return run


def test_sensitive_convolutions_stay_float32(search):
    margins = [30.0] * search.count
    margins[2], margins[5] = 3.0, variants.MIN_MARGIN_DB - 0.1
    assert search(margins, least=0) == [i for i in range(search.count) if i not in (2, 5)]
    assert len(search.tried) == search.count + 1


def test_more_are_left_out_until_it_passes_worst_first(search):
    margins = [30.0 + i for i in range(search.count)]
    kept = search(margins, least=33.5)
    assert kept == list(range(search.count - len(kept), search.count)) and 0 < search.count - len(kept) < 8


def test_a_model_that_does_not_bear_it_is_refused(search):
    with pytest.raises(ExportError, match="leave --int8 out; nothing was written"):
        search([1.0] * search.count, least=0)


# In bundles


@pytest.fixture
def exporter(tiny_bundle, ready_graphs):
    """`export_bundle` of the tiny model."""
    return partial(bundling.export_bundle, load(tiny_bundle / "weights.safetensors"))


def test_variants_are_entered_and_run(exporter, tmp_path):
    # Untrained, the model's pixels are sharper than any real one's: what counts is that the judge is asked, and of what.
    asked = []

    def lenient(folder, name, references):
        constants = {tensor.name for tensor in onnx.load(folder / f"render.{name}.onnx").graph.initializer}
        asked.append((name, "dekker" in constants, len(references)))
        return Verdict([], judge(folder, name, references).margin)

    pictures = list(np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8))
    exporter(tmp_path / "b", variants=["float16"], judge=lenient, clips=[pictures])
    assert asked == [("float16", True, 2), ("float16", False, 2)]
    facts = read_bundle(tmp_path / "b")
    entries = facts["variants"]["float16"]
    assert entries["encode"] == facts["graphs"]["encode"]
    assert entries["render"]["sha256"] == sha256(tmp_path / "b" / "render.float16.onnx")
    engine = OnnxEngine(tmp_path / "b", threads=1, precision="float16")
    exact = OnnxEngine(tmp_path / "b", threads=1)
    own = exact.detect(pictures[0])
    drawn, expected = (e.render(e.encode(pictures[0]), own, own).astype(int) for e in (engine, exact))
    assert 0 < np.abs(drawn - expected).mean() < 5

    # Exported again without them, older graphs do not stay behind.
    exporter(tmp_path / "b")
    assert "variants" not in read_bundle(tmp_path / "b")
    assert sorted(os.listdir(tmp_path / "b")) == [
        *("bundle.json", "detect.onnx", "encode.onnx", "reference.npz", "render.onnx")
    ]


def test_a_variant_that_draws_badly_leaves_no_trace(copy, exporter):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def strict(folder, name, references):
        return Verdict(["pixels differ by 9 levels on average (at most 0.1 is right)"], -3.0)

    with pytest.raises(
        ExportError, match=r"float16 graphs do not draw .* leave --float16 out; nothing was written"
    ):
        exporter(copy, variants=["float16"], judge=strict)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert os.listdir(copy.parent) == ["copy"]


def test_the_judge_refuses_what_does_not_run(copy, reference):
    facts = json.loads((copy / "bundle.json").read_text())
    facts["variants"] = {"int8": facts["graphs"]}
    (copy / "bundle.json").write_text(json.dumps(facts))
    assert judge(copy, "int8", [reference]).failures == []
    assert judge(copy, "float16", [reference]).failures
