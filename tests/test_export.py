"""Bundles: the graphs that come out, the check of their pixels, and exports that must fail without a trace."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from lively import lively
from small_model import small_model

from livepuppet.export import bundle as bundling
from livepuppet.export.bundle import export_bundle, sha256
from livepuppet.export.commands import export
from livepuppet.export.graphs import (
    OPSET,
    ExportError,
    aliases,
    check_graph,
    drop_unused_inputs,
    write_graphs,
)
from livepuppet.export.optimise import optimise
from livepuppet.export.parity import Parity, Tolerances, measure, sample_motions, sample_pictures
from livepuppet.model.checkpoint import load
from livepuppet.model.presets import Preset, build
from livepuppet.realtime import bundled


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return load(tiny_bundle / "weights.safetensors")


@pytest.fixture
def graphs(tiny_bundle):
    return {
        name: onnx.load(tiny_bundle / "bundle" / f"{name}.onnx") for name in ("detect", "encode", "render")
    }


def signature(values):
    types = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}
    return [
        (
            value.name,
            types[value.type.tensor_type.elem_type],
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    ]


#: Tables to gather from, of 16 x 16 pixels in a frame of zeros: all channels of a pixel, and four pixels of three colours.
FEATURES = [("source_features", "float32", (18 * 18, 32)), ("thumbnail", "float32", (18 * 18, 4 * 3))]


def test_graphs_have_unbatched_uint8_pictures(graphs):
    picture = ("uint8", (64, 64, 3))
    points, jacobians = ("float32", (4, 2)), ("float32", (4, 2, 2))
    assert signature(graphs["detect"].graph.input) == [("frame", *picture)]
    # What the networks go on with keeps its batch of one, see `graphs.aliases`; engines drop it.
    assert signature(graphs["detect"].graph.output) == [
        ("points", "float32", (1, 4, 2)),
        ("jacobians", "float32", (1, 4, 2, 2)),
        ("confidence", "float32", (1, 4)),
    ]
    assert signature(graphs["encode"].graph.input) == [("avatar", *picture)]
    assert signature(graphs["encode"].graph.output) == FEATURES
    assert signature(graphs["render"].graph.input) == [
        *FEATURES,
        ("source_points", *points),
        ("source_jacobians", *jacobians),
        ("driving_points", *points),
        ("driving_jacobians", *jacobians),
    ]
    assert signature(graphs["render"].graph.output) == [
        ("prediction", *picture),
        ("deformation", "float32", (1, 16, 16, 2)),
    ]


def test_graphs_are_opset_18_and_say_nothing_of_this_machine(graphs, tiny_bundle):
    for name, graph in graphs.items():
        assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 18)]
        check_graph(graph, name)
        content = (tiny_bundle / "bundle" / f"{name}.onnx").read_bytes()
        assert os.path.dirname(bundling.__file__).encode() not in content
        assert b"stack_trace" not in content and b"site-packages" not in content
    # Sampled by gathers: onnxruntime's own sampling is slow on a processor.
    assert not any(node.op_type == "GridSample" for node in graphs["render"].graph.node)
    assert not any(
        node.op_type in ("LinearInverse", "Inverse", "Det") for node in graphs["render"].graph.node
    )


def test_no_graph_has_a_batch_norm(graphs):
    for name, graph in graphs.items():
        assert not any(node.op_type == "BatchNormalization" for node in graph.graph.node), name


def test_what_depends_on_the_avatar_alone_is_not_in_render(graphs, model):
    stored = {tensor.name for tensor in graphs["render"].graph.initializer}
    encoder = onnx.numpy_helper.to_array
    first = model.generator.first.conv.weight.shape
    assert not any(encoder(t).shape == tuple(first) for t in graphs["render"].graph.initializer), stored


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [("align_corners", 0, "aligned corners"), ("mode", "nearest", "bilinear"), (None, None, "opsets")],
)
def test_wrong_graphs_are_refused(monkey_bundle, attribute, value, sentence):
    graph = onnx.load(monkey_bundle / "bundle" / "render.onnx")  # it has kept its GridSamples
    if attribute is None:
        graph.opset_import[0].version = 20
    for node in graph.graph.node:
        if node.op_type == "GridSample" and attribute:
            kept = [entry for entry in node.attribute if entry.name != attribute]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(attribute, value)])
    with pytest.raises(ExportError, match=sentence):
        check_graph(graph, "render.onnx")


def small_graph(nodes, outputs):
    """A graph of inputs a and b (1, 4, 4, 2), a scalar `zero` and a `shape`."""
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [make(kind, inputs, [output]) for kind, inputs, output in nodes],
        "small",
        [info(name, onnx.TensorProto.FLOAT, (1, 4, 4, 2)) for name in "ab"],
        [info(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [
            onnx.numpy_helper.from_array(np.array(0), "zero"),
            onnx.numpy_helper.from_array(np.array([4, 4, 2]), "shape"),
            onnx.numpy_helper.from_array(np.arange(4), "many"),
        ],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])


SUM = ("Add", ["a", "b"], "s")


@pytest.mark.parametrize(
    ("nodes", "shared"),
    [
        # What OpenVINO gets wrong: `s` goes on to `y`, and leaves as a view.
        ([SUM, ("Reshape", ["s", "shape"], "d"), ("Exp", ["s"], "y")], ["d"]),
        ([SUM, ("Gather", ["s", "zero"], "d"), ("Exp", ["s"], "y")], ["d"]),
        # The same the other way round, through two views, and as a second output.
        ([("Add", ["a", "b"], "d"), ("Reshape", ["d", "shape"], "v"), ("Exp", ["v"], "y")], ["d"]),
        ([SUM, ("Identity", ["s"], "v"), ("Squeeze", ["v"], "d"), ("Exp", ["v"], "y")], ["d"]),
        ([SUM, ("Identity", ["s"], "d"), ("Flatten", ["s"], "y")], ["d", "y"]),
        # Right everywhere: the value itself, a value of its own, views that nobody else looks at, and picking rows.
        ([("Add", ["a", "b"], "d"), ("Exp", ["d"], "y")], []),
        ([SUM, ("Add", ["s", "s"], "d"), ("Exp", ["s"], "y")], []),
        ([SUM, ("Reshape", ["s", "shape"], "v"), ("Gather", ["v", "zero"], "d"), ("Exp", ["a"], "y")], []),
        ([SUM, ("Gather", ["s", "many"], "d"), ("Exp", ["s"], "y")], []),
    ],
)
def test_outputs_that_are_views_of_inner_values_are_refused(nodes, shared):
    graph = small_graph(nodes, ["y", "d"])
    assert aliases(graph) == shared
    if shared:
        with pytest.raises(ExportError, match=rf"outputs \({', '.join(shared)}\) that are views"):
            check_graph(graph, "render.onnx")
    else:
        check_graph(graph, "render.onnx")


def test_inputs_that_nobody_reads_are_dropped():
    graph = small_graph([("Exp", ["b"], "y")], ["y"])
    drop_unused_inputs(graph)
    assert [entry.name for entry in graph.graph.input] == ["b"]


def test_the_bundled_model_is_exported_so():
    for path in sorted(bundled.MODEL.glob("*.onnx")):
        check_graph(onnx.load(path), path.name)
        assert path.stat().st_size < 20_000_000


def test_bundle_json_tells_everything(tiny_bundle, tiny_preset):
    folder = tiny_bundle / "bundle"
    facts = json.loads((folder / "bundle.json").read_text())
    assert (facts["format"], facts["version"], facts["opset"]) == ("livepuppet-bundle", 1, 18)
    assert Preset.from_json(json.dumps(facts["preset"])) == tiny_preset
    assert (facts["size"], facts["num_keypoints"], facts["keypoint_names"]) == (64, 4, [])
    assert [feature["name"] for feature in facts["features"]] == ["source_features", "thumbnail"]
    assert facts["weights_sha256"] == sha256(tiny_bundle / "weights.safetensors")
    for entry in facts["graphs"].values():
        assert entry["sha256"] == sha256(folder / entry["file"])
    assert facts["parity"]["contrast"] > 20, (
        "the tiny model draws too little for its pixels to prove anything"
    )
    assert facts["parity"]["pixels_max"] <= 2 and facts["parity"]["keypoints"] <= 1e-4
    assert facts["parity"]["deformation"] <= 1e-3
    assert set(facts["tools"]) >= {"torch", "onnx", "onnxruntime", "livepuppet"}
    assert sorted(os.listdir(folder)) == [
        *("bundle.json", "detect.onnx", "encode.onnx", "reference.npz", "render.onnx")
    ]
    assert facts["reference"]["sha256"] == sha256(folder / "reference.npz")
    assert (folder.stat().st_mode & 0o777) == 0o755


# --- the check of the pixels ---


def test_test_pictures_and_motions_are_seeded_and_varied():
    pictures = sample_pictures(64, 3, seed=5)
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures)
    assert all(20 < picture.std() < 110 for picture in pictures)
    assert all((a == b).all() for a, b in zip(pictures, sample_pictures(64, 3, seed=5), strict=True))
    points, jacobians = np.zeros((4, 2), np.float32), np.tile(np.eye(2, dtype=np.float32), (4, 1, 1))
    motions = sample_motions(points, jacobians, 4)
    assert np.abs(motions[0][0] - points).max() == 0
    assert np.abs(motions[3][0] - points).max() > 0.2
    assert all(m[0].dtype == np.float32 and m[1].shape == (4, 2, 2) for m in motions)


def test_wrong_weights_in_a_graph_are_noticed(tiny_bundle, model, tmp_path):
    """Each graph's weights are changed a little, in turn; the check has to see each."""
    for name in ("detect", "encode", "render"):
        folder = tmp_path / name
        shutil.copytree(tiny_bundle / "bundle", folder)
        graph = onnx.load(folder / f"{name}.onnx")
        kernel = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = onnx.numpy_helper.to_array(kernel) * 1.05
        kernel.CopyFrom(onnx.numpy_helper.from_array(values, kernel.name))
        onnx.save(graph, folder / f"{name}.onnx")
        parity = measure(model, folder)
        failures = " ".join(parity.failures(Tolerances()))
        assert ("keypoints" if name == "detect" else "pixel") in failures, (name, parity)


def test_nearest_sampling_is_noticed(monkey_bundle, tmp_path):
    """What TensorRT's parser makes of newer opsets: right shapes, plausible pictures, wrong pixels."""
    shutil.copytree(monkey_bundle / "bundle", tmp_path / "b")
    graph = onnx.load(tmp_path / "b" / "render.onnx")
    for node in graph.graph.node:
        for entry in node.attribute:
            if node.op_type == "GridSample" and entry.name == "mode":
                entry.s = b"nearest"
    onnx.save(graph, tmp_path / "b" / "render.onnx")
    assert measure(load(monkey_bundle / "weights.safetensors").eval(), tmp_path / "b").failures(Tolerances())


def test_not_a_number_fails_the_check():
    for name in ("keypoints", "deformation", "pixels_max", "pixels_mean"):
        values = dict.fromkeys(("keypoints", "deformation", "pixels_max", "pixels_mean"), 0.0)
        assert not Parity(**values, contrast=50, cases=1).failures(Tolerances())
        assert Parity(**values | {name: float("nan")}, contrast=50, cases=1).failures(Tolerances())


# --- exports that fail ---


def test_an_export_that_is_off_leaves_no_trace(model, ready_graphs, tmp_path):
    strict = Tolerances(keypoints=-1.0)
    with pytest.raises(ExportError, match="do not draw what PyTorch draws: keypoints differ") as caught:
        export_bundle(model, tmp_path / "b", tolerances=strict)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_export_that_is_off_leaves_the_old_bundle(tiny_bundle, model, ready_graphs, tmp_path, monkeypatch):
    shutil.copytree(tiny_bundle / "bundle", tmp_path / "b")
    before = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}

    def damaged(model, folder):
        features = write(model, folder)
        graph = onnx.load(folder / "render.onnx")
        for tensor in graph.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
                values = onnx.numpy_helper.to_array(tensor) * 1.5
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(graph, folder / "render.onnx")
        return features

    write = bundling.write_graphs
    monkeypatch.setattr(bundling, "write_graphs", damaged)
    with pytest.raises(ExportError, match="pixel"):
        export_bundle(model, tmp_path / "b")
    assert os.listdir(tmp_path) == ["b"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()} == before


def test_a_bundle_is_replaced_and_its_neighbours_kept(tiny_bundle, model, ready_graphs, tmp_path):
    shutil.copytree(tiny_bundle / "bundle", tmp_path / "b")
    shutil.copy(tiny_bundle / "weights.safetensors", tmp_path / "b")
    (tmp_path / "b" / "notes").mkdir()
    (tmp_path / "b" / "notes" / "a.txt").write_text("mine")
    (tmp_path / "b" / "render.onnx").write_text("old")
    export_bundle(model, tmp_path / "b", weights=tmp_path / "b" / "weights.safetensors")
    facts = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert facts["weights_sha256"] == sha256(tmp_path / "b" / "weights.safetensors")
    assert facts["graphs"]["render"]["sha256"] == sha256(tmp_path / "b" / "render.onnx")
    assert (tmp_path / "b" / "notes" / "a.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["b"]


def test_other_folders_and_files_are_not_overwritten(model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("mine")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="other things in it"):
        export_bundle(model, tmp_path / "photos")
    with pytest.raises(ExportError, match="is a file"):
        export_bundle(model, tmp_path / "file")
    with pytest.raises(ExportError, match="cannot be written"):
        export_bundle(model, tmp_path / "file" / "b")
    assert sorted(os.listdir(tmp_path)) == ["file", "photos"]


def test_export_command(tiny_bundle, ready_graphs, tmp_path):
    runner = CliRunner()
    output = tmp_path / "b"
    done = runner.invoke(export, [str(tiny_bundle / "weights.safetensors"), "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "pixels within" in done.output
    assert (output / "bundle.json").exists()
    for weights, sentence in (
        (tmp_path / "none", "There is no file"),
        (output, "a folder with an exported bundle"),
    ):
        failed = runner.invoke(export, [str(weights), "--output", str(tmp_path / "c")])
        assert failed.exit_code == 1 and sentence in failed.output
    assert os.listdir(tmp_path) == ["b"]


def test_lite_exports(tmp_path):
    """The default's architecture in small; `test_runtimes` exports the default itself, marked slow."""
    torch.set_num_threads(1)
    model = lively(small_model(), seed=0)
    write_graphs(optimise(model), tmp_path)
    parity = measure(model, tmp_path, pictures=1, motions=3)
    assert parity.failures(Tolerances()) == [] and parity.contrast > 20


def test_graphs_in_few_bits_come_from_convolutions(model, ready_graphs, tmp_path, monkeypatch):
    """Winograd's matrix products round too much for them."""
    counted, write = {}, bundling.write_graphs

    def count(optimised, folder, *stages):
        counted[folder] = sum(isinstance(module, torch.nn.Conv2d) for module in optimised.modules())
        return write(optimised, folder, *stages)

    def float16(folder, references, judge, sources):
        assert (counted[folder], counted[sources]) == tuple(counted.values())
        assert {path.name for path in sources.iterdir()} == {"detect.onnx", "render.onnx"}

    monkeypatch.setattr(bundling, "write_graphs", count)
    monkeypatch.setattr(bundling, "add_float16", float16)
    export_bundle(model, tmp_path / "b", variants=("float16",), judge=lambda *_: None)
    exact, few_bits = counted.values()
    # Two residual blocks of two.
    assert few_bits == exact + 4


# Monkey-Net.


def test_a_monkeynet_exports_and_draws_the_same(monkey_bundle):
    facts = json.loads((monkey_bundle / "bundle" / "bundle.json").read_text())
    assert facts["matrices"] == "covariance"
    parity = facts["parity"]
    assert parity["pixels_max"] <= 2 and parity["keypoints"] <= 1e-4 and parity["deformation"] <= 1e-3
    assert parity["contrast"] > 20, "the tiny model draws too little for its pixels to prove anything"
    render = onnx.load(monkey_bundle / "bundle" / "render.onnx")
    check_graph(render, "render")
    assert (
        sum(node.op_type == "GridSample" for node in render.graph.node) >= 4
    )  # shifted sources, three skips
    # Not larger than the picture: an avatar of any size can be bent by it.
    assert signature(render.graph.output)[1] == ("deformation", "float32", (1, 32, 32, 2))


@pytest.mark.slow
def test_a_monkeynet_without_flow_exports(monkey_bundle, tmp_path):
    """The row of its ablations with a graph of another shape: nothing is warped."""
    preset = load(monkey_bundle / "weights.safetensors").preset
    torch.manual_seed(0)
    model = build(replace(preset, config=replace(preset.config, flow=False)))
    assert not export_bundle(model, tmp_path / "bundle").failures(Tolerances())


def test_a_monkeynet_that_draws_otherwise_is_found(monkey_bundle):
    """The check sees an error in the covariances alone, which a FOMM's motions would not show."""
    model = load(monkey_bundle / "weights.safetensors").eval()
    assert not measure(model, monkey_bundle / "bundle", 1, 4).failures(Tolerances())
    heatmaps = model.heatmaps
    model.heatmaps = lambda points, covariances, grid=None: heatmaps(points, 1.1 * covariances, grid)
    assert measure(model, monkey_bundle / "bundle", 1, 4).failures(Tolerances())


def test_sampled_covariances_are_covariances():
    points, own = np.zeros((4, 2)), np.tile(np.diag([0.02, 0.1]), (4, 1, 1))
    motions = sample_motions(points, own, 6, matrices="covariance")
    for _, moved in motions:
        np.testing.assert_allclose(moved, moved.swapaxes(1, 2), atol=1e-6)
        assert np.linalg.eigvalsh(moved.astype(float)).min() > 1e-4
    assert not np.allclose(motions[1][1], own)
