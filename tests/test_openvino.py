"""The OpenVINO engine draws what onnxruntime draws, and says what it lacks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from livepuppet.core.errors import UserError
from livepuppet.realtime.engines import OnnxEngine, OpenVinoEngine, load_engine, openvino

pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")


@pytest.fixture(scope="module")
def engine(tiny_bundle):
    return OpenVinoEngine(tiny_bundle / "bundle", threads=1, precision="float32")


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)


def test_it_draws_what_onnxruntime_draws(engine, tiny_bundle, pictures):
    other = OnnxEngine(tiny_bundle / "bundle", threads=1)
    features = [each.encode(pictures[0]) for each in (engine, other)]
    own = [each.detect(pictures[0]) for each in (engine, other)]
    moved = [each.detect(pictures[1]) for each in (engine, other)]
    for name in ("points", "jacobians", "confidence"):
        np.testing.assert_allclose(getattr(moved[0], name), getattr(moved[1], name), atol=1e-4)
    # From the same keypoints: what differs then is how they draw.
    drawn = [
        each.render_deformation(given, own[1], moved[1])
        for each, given in zip((engine, other), features, strict=True)
    ]
    assert np.abs(drawn[0][0].astype(int) - drawn[1][0]).max() <= 1
    np.testing.assert_allclose(drawn[0][1], drawn[1][1], atol=1e-4)
    assert drawn[0][0].std() > 10


def test_results_are_not_overwritten_by_the_next_call(engine, pictures):
    first_features, own = engine.encode(pictures[0]), engine.detect(pictures[0])
    kept = own.points.copy()
    moved = engine.detect(pictures[2])
    first = engine.render(first_features, own, moved)
    copy = first.copy()
    other_features = engine.encode(pictures[1])
    engine.render(other_features, own, engine.detect(pictures[3]))
    assert (own.points == kept).all() and (first == copy).all()
    assert (engine.render(first_features, own, moved) == copy).all()
    assert (engine.render(other_features, own, moved) != copy).any()


def test_it_says_what_it_is(engine):
    assert (engine.name, engine.device, engine.precision) == ("openvino", "cpu", "float32")
    assert engine.provider == "OpenVINO CPU f32"
    assert engine.providers == dict.fromkeys(("detect", "encode", "render"), "OpenVINO CPU f32")


def test_compiled_models_are_kept_and_made_anew_where_damaged(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    points = OpenVinoEngine(tiny_bundle / "bundle", threads=1).detect(picture).points
    kept = {path: path.read_bytes() for path in tmp_path.rglob("openvino/*.bin")}
    assert len(kept) == 3

    def detected_without_compiling():
        with monkeypatch.context() as patch:
            patch.setattr(type(openvino._core()), "compile_model", lambda *arguments: pytest.fail("compiled"))
            return OpenVinoEngine(tiny_bundle / "bundle", threads=1).detect(picture).points

    assert (detected_without_compiling() == points).all()
    for damage in (lambda data: data[: len(data) // 2], lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        for path, data in kept.items():
            path.write_bytes(damage(data))
        assert (OpenVinoEngine(tiny_bundle / "bundle", threads=1).detect(picture).points == points).all()
        assert (detected_without_compiling() == points).all()


@pytest.mark.parametrize(
    ("device", "precision", "sentence"),
    [
        ("npu", "float32", "finds no npu"),
        ("cuda", "float32", "no device called 'cuda'"),
        ("cpu", "int8", "--int8"),
    ],
)
def test_what_is_not_there_is_said(tiny_bundle, device, precision, sentence):
    if device == "npu" and "NPU" in openvino._core().available_devices:
        pytest.skip("this computer has an NPU")
    with pytest.raises(UserError, match=sentence) as caught:
        load_engine("openvino", tiny_bundle / "bundle", device=device, precision=precision)
    assert "\n" not in str(caught.value) and "--" in str(caught.value)


def test_16_bits_are_the_first_choice_on_cards(monkeypatch):
    monkeypatch.setattr(openvino, "unavailable_reason", lambda device, precision: None)
    assert openvino.fastest_precision("cpu") == "float32"
    assert openvino.fastest_precision("gpu") == "float16"
    monkeypatch.setattr(openvino, "unavailable_reason", lambda device, precision: "no")
    assert openvino.fastest_precision("gpu") == "float32"


def test_without_the_package(tiny_bundle, monkeypatch):
    monkeypatch.setattr(openvino.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'livepuppet\[openvino\]'"):
        load_engine("openvino", tiny_bundle / "bundle")
    assert load_engine(None, tiny_bundle / "bundle", threads=1).name == "onnx"


def test_a_graph_that_is_none(tiny_bundle, tmp_path):
    import hashlib
    import json
    import shutil

    shutil.copytree(tiny_bundle / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle" / "render.onnx").write_bytes(b"not a graph")
    facts = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    facts["graphs"]["render"]["sha256"] = hashlib.sha256(b"not a graph").hexdigest()
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="OpenVINO cannot run") as caught:
        load_engine("openvino", tmp_path / "bundle")
    assert "\n" not in str(caught.value)


def test_a_start_does_not_wait_for_openvinos_converters():
    code = (
        "import sys; from livepuppet.realtime.engines.openvino import _core; _core(); "
        "print('openvino.tools.ovc.convert' in sys.modules, 'openvino.tools.ovc' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]
