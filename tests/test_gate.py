"""The quality gate: real engines pass, engines broken for real do not, and nothing is tried twice."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from livepuppet.core.errors import UserError
from livepuppet.core.reference import THRESHOLDS, Quality, Reference, compare
from livepuppet.export.reference import draw
from livepuppet.model.checkpoint import load
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import PRECISIONS, load_engine, read_bundle
from livepuppet.realtime.engines import quality_gate as gating

PERFECT = Quality(0.0, 0.0, 0.0, 0.0, float("inf"), 5)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Every test starts with nothing remembered."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def calls(monkeypatch):
    """The engines that were compared."""
    seen = []

    def counted(engine, reference):
        seen.append(engine.name)
        return compare(engine, reference)

    monkeypatch.setattr(gating, "compare", counted)
    return seen


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle / "bundle", tmp_path / "copy")


@pytest.fixture
def sampling(monkey_bundle, tmp_path):
    """A copy of a bundle with GridSample in it: Monkey-Net's, where the others have gathers."""
    return shutil.copytree(monkey_bundle / "bundle", tmp_path / "sampling")


def rewrite(folder: Path, stage: str, change) -> None:
    """Change a bundle's graph as another exporter would have: the checksum is that of what lies there."""
    graph = onnx.load(folder / f"{stage}.onnx")
    change(graph.graph)
    onnx.save(graph, folder / f"{stage}.onnx")
    facts = json.loads((folder / "bundle.json").read_text())
    facts["graphs"][stage]["sha256"] = hashlib.sha256((folder / f"{stage}.onnx").read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(facts))


def sample_nearest(graph) -> None:
    modes = [
        entry
        for node in graph.node
        for entry in node.attribute
        if node.op_type == "GridSample" and entry.name == "mode"
    ]
    assert modes
    for mode in modes:
        mode.s = b"nearest"


def scale_kernels(graph) -> None:
    for tensor in graph.initializer:
        if len(tensor.dims) == 4:
            values = onnx.numpy_helper.to_array(tensor) * np.float32(1.02)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_sound_engines_pass(name, tiny_bundle, calls):
    if name == "openvino":
        pytest.importorskip("openvino", reason="the openvino engine is an extra")
    engine = load_engine(name, tiny_bundle / "bundle", threads=1, precision="float32")
    assert calls == [name]
    quality = gating.remembered(engine, read_bundle(tiny_bundle / "bundle")["reference"]["sha256"])
    assert quality.pixels_max <= 1 and quality.psnr > 70 and quality.keypoints < 1e-4
    assert quality.pictures == 5


def test_the_default_model_passes(calls):
    if "reference" not in read_bundle(bundled.MODEL):
        pytest.skip("the bundled model was exported without a reference")
    load_engine("onnx", threads=1)
    assert calls == ["onnx"]


@pytest.mark.parametrize(
    ("stage", "change", "sentence"),
    [
        ("render", scale_kernels, "pixel"),
        ("encode", scale_kernels, "pixel"),
        ("detect", scale_kernels, "keypoints differ"),
    ],
)
def test_broken_engines_are_refused(stage, change, sentence, copy):
    rewrite(copy, stage, change)
    with pytest.raises(UserError, match="does not draw what float32 PyTorch draws") as caught:
        load_engine("onnx", copy, threads=1)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert "--precision" in str(caught.value)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_nearest_sampling_is_refused(name, sampling):
    if name == "openvino":
        pytest.importorskip("openvino", reason="the openvino engine is an extra")
    load_engine(name, sampling, threads=1, precision="float32")
    rewrite(sampling, "render", sample_nearest)
    with pytest.raises(UserError, match=rf"engine {name} .* does not draw .* pixel"):
        load_engine(name, sampling, threads=1, precision="float32")


def test_an_engine_that_breaks_down_is_refused(tiny_bundle, monkeypatch):
    def breaks(engine, reference):
        raise RuntimeError("index 4096 is out of bounds.\nand more")

    monkeypatch.setattr(gating, "compare", breaks)
    with pytest.raises(
        UserError, match=r"fails on the model's own pictures: index 4096 is out of bounds\. Use"
    ):
        load_engine("onnx", tiny_bundle / "bundle", threads=1)


def test_what_was_found_once_is_not_tried_again(tiny_bundle, calls):
    for _ in range(3):
        load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert calls == ["onnx"]
    load_engine("onnx", tiny_bundle / "bundle", threads=1, gate=False)
    assert calls == ["onnx"]


def test_failures_are_remembered_too(copy, calls):
    rewrite(copy, "render", scale_kernels)
    for _ in range(2):
        with pytest.raises(UserError, match="does not draw"):
            load_engine("onnx", copy, threads=1)
    assert calls == ["onnx"]


def test_thresholds_are_those_of_today_not_those_of_the_day_it_was_found(tiny_bundle, calls, monkeypatch):
    load_engine("onnx", tiny_bundle / "bundle", threads=1)
    stricter = replace(THRESHOLDS["float32"], keypoints=-1.0)
    monkeypatch.setitem(THRESHOLDS, "float32", stricter)
    with pytest.raises(UserError, match="keypoints differ"):
        load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert calls == ["onnx"]


def test_changed_graphs_are_compared_anew(copy, calls):
    load_engine("onnx", copy, threads=1)

    def rename(graph):
        graph.name = "another"

    rewrite(copy, "render", rename)
    load_engine("onnx", copy, threads=1)
    assert calls == ["onnx", "onnx"]


@pytest.mark.parametrize("what", ["_processor", "_cards", "_versions"])
def test_another_machine_or_version_is_compared_anew(what, tiny_bundle, calls, monkeypatch):
    load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert gating._versions()["onnxruntime"] == importlib.metadata.version("onnxruntime")
    monkeypatch.setattr(gating, what, lambda: "another")
    load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert calls == ["onnx", "onnx"]


def test_a_cache_that_cannot_be_made_is_no_hindrance(tiny_bundle, cache, calls):
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert calls == ["onnx", "onnx"]


def test_a_full_cache_is_no_hindrance(tiny_bundle, cache, calls, monkeypatch):
    def full(path, *_, **__):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert calls == ["onnx", "onnx"]


def test_a_damaged_memory_is_no_hindrance(tiny_bundle, cache, calls):
    load_engine("onnx", tiny_bundle / "bundle", threads=1)
    (stored,) = (path for path in cache.rglob("*.json"))
    for content in ("{", "[]", '{"quality": {"psnr": 1}}'):
        stored.write_text(content)
        load_engine("onnx", tiny_bundle / "bundle", threads=1)
    assert len(calls) == 4


@pytest.mark.parametrize("damage", ["missing", "another", "cut"])
def test_a_damaged_reference_is_one_sentence(damage, copy):
    path = copy / "reference.npz"
    if damage == "missing":
        path.unlink()
    elif damage == "another":
        path.write_bytes(b"something else")
    else:
        # With its checksum entered, so that reading it fails, too.
        path.write_bytes(path.read_bytes()[:1000])
        facts = json.loads((copy / "bundle.json").read_text())
        facts["reference"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (copy / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="export or download it again") as caught:
        load_engine("onnx", copy, threads=1)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_bundles_without_a_reference_still_run(copy, calls):
    facts = json.loads((copy / "bundle.json").read_text())
    del facts["reference"]
    (copy / "bundle.json").write_text(json.dumps(facts))
    load_engine("onnx", copy, threads=1)
    assert calls == []


def test_what_export_draws_comes_back_from_the_file(tiny_bundle, tmp_path):
    """The picture at rest is among what is drawn."""
    model = load(tiny_bundle / "weights.safetensors")
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    drawn = draw(model, pictures[0], pictures[1:])
    drawn.save(tmp_path / "r.npz")
    reference = Reference.load(tmp_path / "r.npz")
    for name, value in vars(drawn).items():
        stored = getattr(reference, name)
        assert stored.dtype == value.dtype and np.array_equal(stored, value), name
    assert reference.avatars.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(reference.driving_points[0], reference.points[0])
    # Eq. 14 from the first frame on: where the source is the first frame itself, the movement is absolute.
    np.testing.assert_allclose(reference.driving_points[3], reference.points[2], atol=1e-6)
    np.testing.assert_allclose(reference.driving_matrices[3], reference.matrices[2], atol=1e-4)


def test_a_monkeynets_reference_keeps_the_avatars_covariances(monkey_bundle):
    reference = Reference.load(monkey_bundle / "bundle" / "reference.npz")
    for index, matrices in zip(reference.avatars, reference.driving_matrices, strict=True):
        assert np.array_equal(matrices, reference.matrices[index])
    load_engine("onnx", monkey_bundle / "bundle", threads=1)


def test_every_precision_has_thresholds_that_loosen_with_its_bits():
    assert set(THRESHOLDS) == set(PRECISIONS)
    exact, half, brain = (THRESHOLDS[name] for name in ("float32", "float16", "bfloat16"))
    for name in ("keypoints", "matrices", "pixels_max", "pixels_mean"):
        assert getattr(exact, name) < getattr(half, name) < getattr(brain, name)
    assert exact.psnr > half.psnr > brain.psnr > THRESHOLDS["int8"].psnr


def test_not_a_number_is_refused_and_stays_the_worst():
    for name in ("keypoints", "matrices", "pixels_max", "pixels_mean", "psnr"):
        bad = replace(PERFECT, **{name: float("nan")})
        assert len(bad.failures(THRESHOLDS["int8"])) == 1, name
        assert len(bad.with_worse(PERFECT).failures(THRESHOLDS["int8"])) == 1
        assert len(PERFECT.with_worse(bad).failures(THRESHOLDS["int8"])) == 1
    assert PERFECT.failures(THRESHOLDS["float32"]) == []
    worse = PERFECT.with_worse(Quality(0.1, 0.2, 3.0, 0.4, 50.0, 4))
    assert worse == Quality(0.1, 0.2, 3.0, 0.4, 50.0, 9)
