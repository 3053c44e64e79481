"""The TensorRT engine up to TensorRT itself: exported programs, their types and operators, what is kept on disk."""

from __future__ import annotations

import logging
import os
import sys
import types

import numpy as np
import pytest
import torch
from small_model import small_model

from livepuppet.core.engine import STAGES
from livepuppet.core.errors import UserError
from livepuppet.export.parity import sample_pictures
from livepuppet.model.checkpoint import load
from livepuppet.model.norms import without_norms
from livepuppet.realtime.engines import load_engine, tensorrt
from livepuppet.realtime.engines.plans import PlannedModel, checked_program
from livepuppet.realtime.engines.programs import (
    CASTS,
    CONVERTIBLE,
    Call,
    convolution_types,
    examples,
    feature_names,
    not_convertible,
    operators,
    positions_in_16_bits,
    program_of,
)
from livepuppet.realtime.engines.pytorch import TorchEngine
from livepuppet.realtime.engines.tensorrt import plan_path, read_plan, unavailable_reason, write_plan

HALF = torch.float16


@pytest.fixture(scope="module")
def programs(tiny_bundle, monkey_bundle):
    """Of every kind of network: the model without batch norms, and programs in float16; all three calls of lite."""
    # PyTorch writes a page of trace per operator, which pytest would keep.
    logging.getLogger("torch.__trace").propagate = False
    torch.set_num_threads(1)
    made = {}
    for kind, model, stages in (
        ("fomm", load(tiny_bundle / "weights.safetensors"), ("encode", "render")),
        ("monkeynet", load(monkey_bundle / "weights.safetensors"), ("render",)),
        ("lite", small_model().eval(), STAGES),
    ):
        model = without_norms(model)
        made[kind] = model, {stage: checked_program(model, stage, HALF) for stage in stages}
    yield made
    logging.getLogger("torch.__trace").propagate = True


KINDS = ("fomm", "monkeynet", "lite")


# --- programs ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_operator_has_a_converter(programs, kind):
    for program in programs[kind][1].values():
        assert not_convertible(program) == []
        assert len(list(operators(program))) > 10, "operators are seen at all"


@pytest.mark.parametrize("kind", KINDS)
def test_networks_compute_in_16_bits_and_positions_in_32(programs, kind):
    found = programs[kind][1]
    for stage, program in found.items():
        assert set(convolution_types(program)) == {torch.float32 if stage == "detect" else HALF}
        assert positions_in_16_bits(program) == []
    kinds = [node.args[1].meta["val"].dtype for name, node in operators(found["render"]) if "grid" in name]
    assert kinds and set(kinds) == {torch.float32}
    outputs = next(node for node in found["render"].graph.nodes if node.op == "output").args[0]
    assert [value.meta["val"].dtype for value in outputs] == [torch.float32, torch.float32]


@pytest.mark.parametrize("kind", KINDS)
def test_no_batch_norm_and_no_input_handed_back_is_left(programs, kind):
    for program in programs[kind][1].values():
        assert not any("batch_norm" in name for name, _ in operators(program))
        outputs = next(node for node in program.graph.nodes if node.op == "output").args[0]
        assert not any(value.op == "placeholder" for value in outputs)


def test_programs_draw_what_the_model_draws(programs, tiny_bundle):
    model, found = programs["fomm"]
    planned = PlannedModel(
        model.preset,
        feature_names(model),
        {"detect": Call(model, "detect", [], HALF)} | {stage: one.module() for stage, one in found.items()},
    )
    plain = load(tiny_bundle / "weights.safetensors")
    frames = torch.from_numpy(np.stack(sample_pictures(64, 2))).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        keypoints = plain.detect_with_confidence(frames)
        for mine, theirs in zip(planned.detect_with_confidence(frames), keypoints, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-4)
        moved = (keypoints[0].flip(0), keypoints[1].flip(0))
        drawn = planned.render(planned.encode(frames), *keypoints[:2], *moved)
        expected = plain.render(plain.encode(frames), *keypoints[:2], *moved)
        for name in ("prediction", "deformation"):
            assert drawn[name].shape == expected[name].shape
            assert torch.allclose(drawn[name], expected[name], atol=0.02)
        assert expected["prediction"].std() > 0.05


def test_a_planned_model_needs_every_call():
    with pytest.raises(ValueError, match="no plan for encode, render"):
        PlannedModel(None, [], {"detect": lambda frames: ()})


class _Sampler(torch.nn.Module):
    """A model whose only fault is where its grid comes from."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, picture, grid):
        if self.fault == "through 16 bits":
            grid = grid.half().float().permute(0, 2, 1, 3)
        if self.fault == "in 16 bits":
            picture, grid = picture.half(), grid.half()
        drawn = torch.nn.functional.grid_sample(picture, grid, align_corners=True)
        if self.fault == "weights":
            drawn = drawn.half()
        return drawn.flatten(2).softmax(-1), drawn.to(torch.float64) if self.fault == "double" else drawn


@pytest.mark.parametrize(
    ("fault", "phrase"),
    [
        (None, None),
        ("through 16 bits", "was torch.float16 before"),
        ("in 16 bits", "is torch.float16"),
        ("weights", "weights of"),
    ],
)
def test_positions_in_16_bits_are_found(fault, phrase):
    inputs = torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8, 2)
    program = torch.export.export(_Sampler(fault), inputs).run_decompositions()
    found = positions_in_16_bits(program)
    assert (found == []) if phrase is None else any(phrase in one for one in found)


def test_casts_that_tensorrt_does_not_make_are_found():
    inputs = torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8, 2)
    program = torch.export.export(_Sampler("double"), inputs).run_decompositions()
    assert not_convertible(program) == ["_to_copy.default to torch.float64"]
    assert torch.uint8 not in CASTS and "nonsense.default" not in CONVERTIBLE


def test_a_model_that_tensorrt_cannot_compile_is_refused_with_the_reason(programs):
    model = programs["fomm"][0]

    class Odd(torch.nn.Module):
        preset = model.preset

        def __init__(self):
            super().__init__()
            self.inner = model

        def encode(self, avatars):
            return {name: torch.erfinv(value) for name, value in self.inner.encode(avatars).items()}

    with pytest.raises(UserError, match=r"TensorRT has no erfinv.default.*use --engine torch") as caught:
        checked_program(Odd(), "encode", HALF)
    assert "\n" not in str(caught.value)


def test_a_network_that_stays_in_32_bits_is_refused(programs, monkeypatch):
    model = programs["lite"][0]
    monkeypatch.setattr(Call, "_run", torch.autocast("cpu", enabled=False)(Call._run))
    with pytest.raises(UserError, match="convolutions compute in float32"):
        checked_program(model, "encode", HALF)


def test_float32_programs_have_no_other_types(programs):
    model = programs["lite"][0]
    program = program_of(model, "encode", None)
    kinds = {
        node.meta["val"].dtype
        for _, node in operators(program)
        if isinstance(node.meta.get("val"), torch.Tensor) and node.meta["val"].is_floating_point()
    }
    assert kinds == {torch.float32}
    assert all(value.dtype == torch.float32 for value in examples(model, "render", None))


# --- what is kept ---

FACTS = {
    "card": "NVIDIA H200",
    "capability": "9.0",
    "driver": "580.1",
    "tensorrt": "11.0.0",
    "torch_tensorrt": "2.13.0",
    "torch": "2.13.0",
    "livepuppet": "0.1.0",
    "weights": "ab" * 32,
    "precision": "float16",
    "stage": "render",
}


@pytest.mark.parametrize("fact", FACTS)
def test_another_card_version_or_model_is_another_plan(fact):
    assert plan_path(FACTS) == plan_path(dict(FACTS))
    assert plan_path({**FACTS, fact: FACTS[fact] + "x"}) != plan_path(FACTS)


def test_plans_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "one.plan"
    assert read_plan(path) is None
    write_plan(path, b"plan")
    assert read_plan(path) == b"plan" and [entry.name for entry in tmp_path.iterdir()] == ["one.plan"]

    def full(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorrt.os, "replace", full)
    write_plan(path, b"other")
    assert read_plan(path) == b"plan" and [entry.name for entry in tmp_path.iterdir()] == ["one.plan"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions of POSIX")
def test_plans_that_others_could_have_written_are_not_loaded(tmp_path, monkeypatch):
    path = tmp_path / "one.plan"
    write_plan(path, b"plan")
    path.chmod(0o666)
    assert read_plan(path) is None
    path.chmod(0o644)
    assert read_plan(path) == b"plan"
    monkeypatch.setattr(tensorrt.os, "getuid", lambda: os.stat(path).st_uid + 1)
    assert read_plan(path) is None


# --- the engine, with a TensorRT that is PyTorch ---


@pytest.fixture
def on_the_processor(monkeypatch, tmp_path):
    """Plans are calls of the model, run by PyTorch on the processor; everything else is the engine's own code."""
    from livepuppet.core import cache
    from livepuppet.realtime.engines import plans

    built, made = [], {}

    def build(model, stage, dtype, timing_cache):
        built.append(stage)
        made[stage] = Call(model, stage, feature_names(model), dtype)
        return b"plan of " + stage.encode()

    def plan(content, device, inputs):
        if content == b"damaged":
            raise ValueError("TensorRT cannot read this plan")
        return made[content.decode().removeprefix("plan of ")]

    monkeypatch.setattr(plans, "build_plan", build)
    monkeypatch.setattr(plans, "Plan", plan)
    monkeypatch.setattr(tensorrt, "cache_folder", lambda kind: tmp_path)
    monkeypatch.setattr(cache, "cache_folder", lambda kind: tmp_path)
    monkeypatch.setattr(tensorrt, "card_description", lambda device: {"card": "a card", "driver": "1"})
    monkeypatch.setattr(tensorrt, "unavailable_reason", lambda precision, device: None)
    monkeypatch.setattr(
        tensorrt.TensorRtEngine, "_active_provider", lambda self, plain, compile: "a stand-in"
    )
    return built


def test_the_engine_builds_once_and_draws_what_pytorch_draws(
    on_the_processor, tiny_bundle, tmp_path, monkeypatch, caplog
):
    said = []
    weights = tiny_bundle / "weights.safetensors"

    def start():
        return tensorrt.TensorRtEngine(weights, device="cpu", notify=said.append)

    engine = start()
    assert on_the_processor == list(STAGES) and len(said) == 3 and "takes a few minutes" in said[0]
    assert (engine.name, engine.precision, engine.model_name, engine.size) == (
        "tensorrt",
        "float16",
        "tiny",
        64,
    )
    plain = TorchEngine(weights, device="cpu", plain=True)
    avatar, frame = sample_pictures(64, 2)
    drawn = []
    for one in (engine, plain):
        own, moved = one.detect(avatar), one.detect(frame)
        drawn.append(one.render_deformation(one.encode(avatar), own, moved))
    assert np.abs(drawn[0][0].astype(int) - drawn[1][0]).max() <= 4
    assert np.abs(drawn[0][1] - drawn[1][1]).max() < 0.02 and drawn[1][0].std() > 10

    # What is there is not built again, unless it is damaged, or everything is another's.
    start()
    assert len(on_the_processor) == 3
    damaged = sorted(tmp_path.glob("*.plan"))[0]
    damaged.write_bytes(b"damaged")
    start()
    assert len(on_the_processor) == 4
    monkeypatch.setattr(logging.getLogger("livepuppet"), "propagate", True)
    tensorrt.TensorRtEngine(weights, device="cpu", precision="float32")
    assert len(on_the_processor) == 7
    assert "with TensorRT, once for this card and model" in caplog.text


def test_what_is_missing_says_what_to_do(monkeypatch, tiny_bundle):
    found = {"torch_tensorrt": None, "tensorrt": None}
    real = tensorrt.importlib.util.find_spec
    monkeypatch.setattr(
        tensorrt.importlib.util, "find_spec", lambda name: found[name] if name in found else real(name)
    )
    assert "pip install 'livepuppet[tensorrt]'" in unavailable_reason()
    with pytest.raises(UserError, match="is not installed"):
        load_engine("tensorrt", tiny_bundle / "weights.safetensors")
    found.update(dict.fromkeys(found, types.SimpleNamespace()))
    monkeypatch.setattr(tensorrt.importlib.metadata, "version", lambda name: "2.12.1+cu130")
    assert "2.13 or newer" in unavailable_reason()
    monkeypatch.setattr(tensorrt.importlib.metadata, "version", lambda name: "2.13.0")
    assert "NVIDIA cards alone" in unavailable_reason("float16", "cpu")
    assert "--precision float32, float16" in unavailable_reason("bfloat16")
    if not torch.cuda.is_available():
        assert "finds no CUDA card" in unavailable_reason()


def test_the_engine_imports_without_torch():
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from livepuppet.realtime.engines import tensorrt\n"
        "print(tensorrt.unavailable_reason())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "engine" in done.stdout, done.stderr


# --- onnxruntime's way to a card ---


def test_onnxruntime_keeps_a_graphs_tensorrt_engines_apart_and_its_types(tmp_path, monkeypatch):
    from livepuppet.core import cache
    from livepuppet.realtime.engines import onnx

    made = []
    monkeypatch.setattr(cache, "cache_folder", lambda kind: made.append(kind) or tmp_path / kind)
    graphs = [tmp_path / "first" / "render.onnx", tmp_path / "second" / "render.onnx"]
    for graph, content in zip(graphs, (b"weights", b"other weights"), strict=True):
        graph.parent.mkdir()
        graph.write_bytes(content)
    settings = [onnx._settings("tensorrt", graph) for graph in graphs]
    assert settings[0] == onnx._settings("tensorrt", graphs[0]) and made[0] == made[2] != made[1]
    assert settings[0]["trt_engine_cache_path"] != settings[1]["trt_engine_cache_path"]
    # With either of these, onnxruntime has TensorRT choose types, and positions among them.
    assert not {"trt_fp16_enable", "trt_int8_enable", "trt_bf16_enable"} & set(settings[0])
    assert onnx._settings("cuda", graphs[0])["use_tf32"] == "0" and onnx._settings("cpu", graphs[0]) == {}


def test_values_bound_to_a_devices_memory_are_the_same(tiny_bundle):
    from livepuppet.realtime.engines import OnnxEngine

    plain, bound = (OnnxEngine(tiny_bundle / "bundle", threads=1) for _ in range(2))
    bound._memory = "cpu"
    avatar, frame = sample_pictures(64, 2)
    drawn = []
    for engine in (plain, bound):
        features = engine.encode(avatar)
        own, moved = engine.detect(avatar), engine.detect(frame)
        first = engine.render_deformation(features, own, moved)
        engine.render(features, own, own)  # what was given stays as it was
        drawn.append((own.points, moved.jacobians, moved.confidence, *first))
    assert not any(isinstance(value, np.ndarray) for value in features.values()), (
        "features stay on the device"
    )
    for mine, theirs in zip(*drawn, strict=True):
        assert np.array_equal(mine, theirs)


# --- TensorRT itself ---


def _real_tensorrt():
    pytest.importorskip("torch_tensorrt", reason="torch-tensorrt is not installed")
    if missing := unavailable_reason():
        pytest.skip(missing)


def test_tensorrt_draws_what_pytorch_draws(tiny_bundle):
    _real_tensorrt()
    weights = tiny_bundle / "weights.safetensors"
    engine, plain = tensorrt.TensorRtEngine(weights), TorchEngine(weights, device="cpu", plain=True)
    avatar, frame = sample_pictures(64, 2)
    own, moved = plain.detect(avatar), plain.detect(frame)
    assert np.abs(engine.detect(frame).points - moved.points).max() < 2e-3
    drawn = engine.render(engine.encode(avatar), own, moved)
    assert np.abs(drawn.astype(int) - plain.render(plain.encode(avatar), own, moved)).max() <= 8


def test_the_table_of_converters_is_torch_tensorrts_own():
    _real_tensorrt()
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS

    known = {str(target).removeprefix("aten.") for target in DYNAMO_CONVERTERS.unique_targets()}
    assert known >= CONVERTIBLE
