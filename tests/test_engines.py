"""The seam: both engines draw the same, and everything that is not a model gets one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny_bundle as by_hand

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.realtime.engines import OnnxEngine, TorchEngine, cores, load_engine, loading, usable_cores


@pytest.fixture(scope="module")
def pair(tiny_bundle):
    return OnnxEngine(tiny_bundle / "bundle", threads=1), TorchEngine(
        tiny_bundle / "weights.safetensors", device="cpu", threads=1
    )


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def test_engines_say_what_they_are(pair):
    onnx, torch = pair
    assert (onnx.name, onnx.provider) == ("onnx", "CPUExecutionProvider")
    assert (torch.name, torch.provider) == ("torch", "PyTorch cpu")
    for engine in pair:
        assert (engine.model_name, engine.size, engine.num_keypoints, engine.keypoint_names) == (
            "tiny",
            64,
            4,
            (),
        )


def test_engines_agree(pair, pictures):
    onnx, torch = pair
    avatar, first, second = pictures
    results = []
    for engine in (onnx, torch):
        features = engine.encode(avatar)
        own, moved = engine.detect(avatar), engine.detect(first)
        assert own.points.shape == (4, 2) and own.points.dtype == np.float32
        assert own.jacobians.shape == (4, 2, 2) and own.jacobians.dtype == np.float32
        assert own.confidence.shape == (4,) and own.confidence.dtype == np.float32
        # The same features serve any number of frames.
        drawn = [engine.render(features, own, moved), engine.render(features, own, engine.detect(second))]
        drawn.append(engine.render(features, own, moved))
        assert (drawn[0] == drawn[2]).all()
        assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in drawn)
        results.append((own, moved, drawn))
    for mine, theirs in zip(results[0][:2], results[1][:2], strict=True):
        np.testing.assert_allclose(mine.points, theirs.points, atol=1e-4)
        np.testing.assert_allclose(mine.jacobians, theirs.jacobians, atol=1e-4)
        np.testing.assert_allclose(mine.confidence, theirs.confidence, atol=1e-4)
    for mine, theirs in zip(results[0][2], results[1][2], strict=True):
        assert np.abs(mine.astype(int) - theirs).max() <= 1


def test_engines_agree_on_the_deformation(pair, pictures):
    grids = []
    for engine in pair:
        features, own, moved = (
            engine.encode(pictures[0]),
            engine.detect(pictures[0]),
            engine.detect(pictures[1]),
        )
        picture, grid = engine.render_deformation(features, own, moved)
        assert np.array_equal(picture, engine.render(features, own, moved))
        assert grid.shape == (16, 16, 2) and grid.dtype == np.float32
        grids.append(grid)
    np.testing.assert_allclose(*grids, atol=1e-3)


def test_a_deformation_tells_where_in_the_avatar_a_place_came_from(tmp_path):
    engine = OnnxEngine(by_hand.write_bundle(tmp_path), threads=1)
    picture = np.zeros((64, 64, 3), np.uint8)
    still = engine.detect(picture)
    right = Keypoints(still.points + np.float32([0.25, 0]), still.jacobians)
    _, grid = engine.render_deformation(engine.encode(picture), still, right)
    assert grid[0, 0] == pytest.approx([-1.25, -1]) and grid[0, -1] == pytest.approx([0.75, -1])


def test_bundles_of_older_livepuppets_still_run(tmp_path):
    engine = OnnxEngine(by_hand.write_bundle(tmp_path, confidence=None, deformation=False), threads=1)
    picture = np.zeros((64, 64, 3), np.uint8)
    keypoints, features = engine.detect(picture), engine.encode(picture)
    assert keypoints.confidence is None
    assert engine.render(features, keypoints, keypoints).shape == picture.shape
    with pytest.raises(UserError, match="export it again with 'livepuppet export'"):
        engine.render_deformation(features, keypoints, keypoints)


def test_pictures_need_not_be_contiguous_nor_keypoints_float32(pair, pictures):
    for engine in pair:
        flipped = pictures[0][:, ::-1, ::-1]
        keypoints = engine.detect(flipped)
        assert np.array_equal(keypoints.points, engine.detect(np.ascontiguousarray(flipped)).points)
        double = Keypoints(keypoints.points.astype(np.float64), keypoints.jacobians.astype(np.float64))
        engine.render(engine.encode(flipped), double, keypoints)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((32, 64, 3), np.uint8),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        None,
    ],
    ids=["size", "gray", "alpha", "float", "none"],
)
def test_other_pictures_are_refused(pair, picture):
    for engine in pair:
        with pytest.raises(ValueError, match=r"RGB uint8 \(64, 64, 3\), not"):
            engine.detect(picture)
        with pytest.raises(ValueError, match="RGB uint8"):
            engine.encode(picture)


def test_keypoints_of_another_model_are_refused(pair, pictures):
    for engine in pair:
        own = engine.detect(pictures[0])
        foreign = Keypoints(np.zeros((10, 2), np.float32), np.zeros((10, 2, 2), np.float32))
        with pytest.raises(ValueError, match="4 keypoints"):
            engine.render(engine.encode(pictures[0]), own, foreign)


def test_the_onnx_engine_needs_no_torch(tiny_bundle):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from livepuppet.realtime.engines import load_engine\n"
        "import numpy as np\n"
        f"engine = load_engine('onnx', {str(tiny_bundle / 'bundle')!r}, threads=1)\n"
        "picture = np.zeros((64, 64, 3), np.uint8)\n"
        "keypoints = engine.detect(picture)\n"
        "engine.render(engine.encode(picture), keypoints, keypoints)\n"
        "assert 'onnx' not in sys.modules\n"
        "from livepuppet.core.errors import UserError\n"
        "try:\n"
        f"    load_engine('torch', {str(tiny_bundle / 'weights.safetensors')!r})\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "needs the package 'torch'" in done.stdout and "pip install" in done.stdout


# --- choosing ---


def test_the_engine_follows_the_model(tiny_bundle):
    assert load_engine(None, tiny_bundle / "bundle", threads=1).name == "onnx"
    assert load_engine(None, tiny_bundle / "weights.safetensors", threads=1, device="cpu").name == "torch"


def test_the_default_model_of_each_engine(tiny_bundle, tmp_path, monkeypatch):
    default = tmp_path / "lite-256"
    monkeypatch.setattr(loading, "MODEL", default)
    with pytest.raises(UserError, match="install livepuppet again"):
        load_engine()
    shutil.copytree(tiny_bundle / "bundle", default)
    shutil.copy(tiny_bundle / "weights.safetensors", default / "lite-256.safetensors")
    assert load_engine(threads=1).name == "onnx"
    assert load_engine("onnx", threads=1).name == "onnx"
    assert load_engine("torch", threads=1, device="cpu").name == "torch"


@pytest.mark.parametrize(
    ("name", "model", "sentence"),
    [
        ("onnx", "weights.safetensors", "livepuppet export"),
        ("torch", "bundle", "--engine onnx"),
        ("tensorflow", "bundle", "use onnx, openvino, torch, tensorrt"),
        ("torch", "none.safetensors", "There is no file"),
        ("torch", "bundle/render.onnx", "an ONNX graph"),
        ("onnx", "none", "check the path"),
        ("onnx", "bundle/render.onnx", "is a file"),
    ],
)
def test_models_that_do_not_suit_the_engine(tiny_bundle, name, model, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        load_engine(name, tiny_bundle / model)
    assert "\n" not in str(caught.value)


def test_devices_that_are_not_there(tiny_bundle):
    torch = pytest.importorskip("torch")
    for device in ("nonsense", *(["cuda"] if not torch.cuda.is_available() else [])):
        with pytest.raises(UserError, match=f"device '{device}'") as caught:
            TorchEngine(tiny_bundle / "weights.safetensors", device=device)
        assert "\n" not in str(caught.value)


# --- bundles that are none ---


def _facts(change):
    def apply(folder):
        facts = json.loads((folder / "bundle.json").read_text())
        change(facts)
        (folder / "bundle.json").write_text(json.dumps(facts))

    return apply


def _half(name):
    def apply(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return apply


def _bad_graph_with_its_checksum(folder):
    (folder / "render.onnx").write_bytes(b"not a graph")
    facts = json.loads((folder / "bundle.json").read_text())
    import hashlib

    facts["graphs"]["render"]["sha256"] = hashlib.sha256(b"not a graph").hexdigest()
    (folder / "bundle.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "bundle.json").unlink(), "has no bundle.json"),
        (lambda f: (f / "bundle.json").write_text("{"), "is damaged"),
        (lambda f: (f / "bundle.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
        (lambda f: (f / "bundle.json").write_text("[]"), "another program"),
        (_facts(lambda facts: facts.update(format="other")), "another program"),
        (_facts(lambda facts: facts.update(version=2)), "update livepuppet"),
        (_facts(lambda facts: facts.pop("size")), "is incomplete"),
        (_facts(lambda facts: facts["graphs"].pop("encode")), "is incomplete"),
        (lambda f: (f / "encode.onnx").unlink(), "encode.onnx of the model bundle cannot be read"),
        (_half("render.onnx"), "is not the file that the model bundle was made with"),
        (_bad_graph_with_its_checksum, "onnxruntime cannot run"),
    ],
)
def test_damaged_bundles_are_refused(tiny_bundle, tmp_path, damage, sentence):
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle / "bundle", folder)
    damage(folder)
    with pytest.raises(UserError, match=sentence) as caught:
        load_engine("onnx", folder, threads=1)
    assert "\n" not in str(caught.value)


def test_graphs_are_opened_when_they_run(tiny_bundle):
    engine = OnnxEngine(tiny_bundle / "bundle", threads=1)
    assert engine.providers == dict.fromkeys(("detect", "encode", "render"), "CPUExecutionProvider")
    engine.detect(np.zeros((engine.size, engine.size, 3), np.uint8))
    assert list(engine._sessions) == ["detect"]
    assert engine.deforms and list(engine._sessions) == ["detect", "render"]


def test_usable_cores_are_no_more_than_this_process_may_use(monkeypatch):
    assert 1 <= usable_cores() <= cores.MOST_THREADS
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert usable_cores() == 1
    monkeypatch.delattr(cores.os, "sched_getaffinity")
    assert usable_cores() == 0


# Monkey-Net: covariances where others have Jacobians.


@pytest.fixture(scope="module")
def monkeys(monkey_bundle):
    return OnnxEngine(monkey_bundle / "bundle", threads=1), TorchEngine(
        monkey_bundle / "weights.safetensors", device="cpu", threads=1
    )


def test_engines_say_what_their_matrices_are(pair, monkeys):
    assert [engine.matrices for engine in pair] == ["jacobian", "jacobian"]
    assert [engine.matrices for engine in monkeys] == ["covariance", "covariance"]


def test_engines_agree_on_a_monkeynet(monkeys, pictures):
    results = []
    for engine in monkeys:
        features, own, moved = engine.encode(pictures[0]), *map(engine.detect, pictures[:2])
        # Symmetric, and no smaller than the detector lets them be.
        assert np.array_equal(own.jacobians, own.jacobians.swapaxes(1, 2))
        assert np.linalg.eigvalsh(own.jacobians).min() > 0.0009
        drawn, grid = engine.render_deformation(features, own, moved)
        wide = Keypoints(moved.points, 4 * moved.jacobians)
        assert not np.array_equal(drawn, engine.render(features, own, wide)), "covariances are looked at"
        results.append((own.points, own.jacobians, own.confidence, grid, drawn / 255))
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1 / 254)
    assert np.std(results[0][-1]) > 0.05


def test_bundles_that_do_not_say_have_jacobians(monkey_bundle, tmp_path):
    folder = shutil.copytree(monkey_bundle / "bundle", tmp_path / "bundle")
    facts = json.loads((folder / "bundle.json").read_text())
    assert facts.pop("matrices") == "covariance"
    (folder / "bundle.json").write_text(json.dumps(facts))
    assert OnnxEngine(folder).matrices == "jacobian"
    (folder / "bundle.json").write_text(json.dumps({**facts, "matrices": "quaternion"}))
    with pytest.raises(UserError, match="of a kind that this livepuppet does not know"):
        OnnxEngine(folder)


def test_detect_leaves_a_core_to_the_thread_that_paints(tiny_bundle, monkeypatch):
    monkeypatch.setattr("livepuppet.realtime.engines.onnx.usable_cores", lambda: 4)
    assert OnnxEngine(tiny_bundle / "bundle")._threads == {"detect": 3, "encode": 4, "render": 4}
    assert set(OnnxEngine(tiny_bundle / "bundle", threads=2)._threads.values()) == {2}
    monkeypatch.setattr("livepuppet.realtime.engines.onnx.usable_cores", lambda: 1)
    assert set(OnnxEngine(tiny_bundle / "bundle")._threads.values()) == {1}
