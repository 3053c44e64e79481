"""`livepuppet bench`: that it measures what it says, with tiny models; never how fast this machine is."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle as by_hand
from bench_object import InProcess
from click.testing import CliRunner
from media import write_clip

from livepuppet.benchmarks import (
    live,
    machine,
    model_times,
    peaks,
    plots,
    speed_commands,
    startup,
    streams,
    subjects,
    timing,
    work,
    workers,
)
from livepuppet.benchmarks.commands import bench
from livepuppet.core import memory
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.video import open_video
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import Offer, load_engine

SIZE = "352x240"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return by_hand.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def in_process(monkeypatch):
    for module in (workers, model_times, live, streams):
        monkeypatch.setattr(module, "Worker", InProcess)
    monkeypatch.setattr(peaks, "SECONDS", 0.001)
    monkeypatch.setattr(peaks, "SIDE", {"cpu": 64})
    monkeypatch.setattr(peaks, "COPIED", 1 << 16)


# Milliseconds


def test_a_block_is_as_long_as_it_says_and_never_empty():
    calls = []
    assert len(timing.block(lambda: calls.append(1), 0.0)) == timing.FEWEST == len(calls)
    assert len(timing.block(lambda: None, 100.0, most=7)) == 7


def test_a_ratio_of_blocks_in_turn_does_not_see_the_machine_slow_down():
    slower = np.array([1.0, 3.0, 9.0])
    ours, theirs = [[2.0 * s, 2.2 * s, 50 * s] for s in slower], [[6.0 * s, 6.6 * s, 9 * s] for s in slower]
    assert timing.ratio(ours, theirs) == pytest.approx(3.0)
    assert timing.summary([1, 2, 3, 4, 100])["median"] == 3


# Work


def test_work_of_a_graph_is_counted_by_hand(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    def numbers(name, *shape):
        return helper.make_tensor(name, TensorProto.FLOAT, shape, np.ones(shape, np.float32).ravel())

    nodes = [
        helper.make_node("Conv", ["x", "dense"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "grouped"], ["b"], group=6, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "product"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 4, 5])],
        [numbers("dense", 6, 3, 3, 3), numbers("grouped", 6, 1, 3, 3), numbers("product", 4, 5)],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    found = work.of_graph(path)
    dense, grouped, product = 6 * 8 * 8 * 3 * 9, 6 * 4 * 4 * 9, 6 * 4 * 5 * 4
    assert found.flop == 2 * (dense + grouped + product)
    moved = (6 * 64 + 3 * 64 + 6 * 3 * 9) + (6 * 16 + 6 * 64 + 6 * 9) + (6 * 4 * 5 + 6 * 4 * 4 + 4 * 5)
    assert found.values == moved


def test_graphs_and_pytorch_count_the_same_network_alike(tiny_bundle):
    subject = subjects.Subject("tiny", tiny_bundle / "bundle", tiny_bundle / "weights.safetensors")
    graph, torch = (subjects.work_of(subject, engine) for engine in ("onnx", "torch"))
    for stage in ("detect", "encode", "render"):
        # Graphs may be rewritten to compute less, and matrices of a few numbers are products here and not there.
        assert 0.3 * torch[stage].flop < graph[stage].flop <= 1.1 * torch[stage].flop
        assert torch[stage].values > 0


def test_without_the_packages_that_count_there_is_no_work(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert subjects.work_of(subjects.Subject("tiny", bundle, None), "onnx") == {}


# Processes of their own


@pytest.fixture(scope="module")
def there():
    return {"PYTHONPATH": str(Path(__file__).parent)}


def test_an_object_in_another_process(there):
    with workers.Worker("bench_object:Thing", there, name="thing") as thing:
        assert thing.ready["name"] == "thing" and thing.ready["process"] != os.getpid()
        assert thing("double", value=2.5) == 5.0
        with pytest.raises(UserError, match="Give another one"):
            thing("refuse")
        with pytest.raises(workers.WorkerError, match="KeyError: 'lost'"):
            thing("stumble")
        # It is still there after errors, and a crash is one, too.
        assert thing("double", value=1) == 2
        with pytest.raises(workers.WorkerError, match=r"status 3 \(the driver is gone\)"):
            thing("crash")


def test_an_object_that_cannot_be_made(there):
    with pytest.raises(UserError, match="There is no thing"):
        workers.Worker("bench_object:Thing", there, name="thing", fails=True)


def test_memory_is_what_the_process_took():
    before, peak = memory.resident_bytes(), memory.peak_bytes()
    if not before:
        pytest.skip("this system does not tell resident memory")
    # Of the system itself: an array may get memory that earlier tests left with the process.
    with mmap.mmap(-1, 64_000_000) as block:
        block.write(bytes(64_000_000))
        assert memory.resident_bytes() - before > 50e6 and memory.peak_bytes() - before > 50e6
    assert memory.peak_bytes() >= peak > 1e6


# The three calls


class FakeEngine:
    """Counts its calls."""

    name, device, precision, provider = "fake", "cpu", "float32", "nobody"
    model_name, size, num_keypoints, keypoint_names, matrices = "tiny", 64, 4, (), "jacobian"

    def __init__(self):
        self.calls = []

    def _keypoints(self, frame):
        return Keypoints(
            np.full((4, 2), frame.mean() / 255, np.float32), np.stack([np.eye(2, dtype=np.float32)] * 4)
        )

    def detect(self, frame):
        self.calls.append(("detect", frame.shape))
        return self._keypoints(frame)

    def encode(self, avatar):
        self.calls.append(("encode", avatar.shape))
        return "features"

    def render(self, features, own, driving):
        self.calls.append(("render", features, float(driving.points[0, 0])))

    def detect_many(self, frames):
        self.calls.append(("detect_many", frames.shape))
        return [self._keypoints(frame) for frame in frames]

    def render_many(self, features, own, driving):
        assert len(features) == len(own) == len(driving)
        self.calls.append(("render_many", len(features)))


def test_a_frame_is_detect_transfer_and_render_of_pictures_that_move():
    engine = FakeEngine()
    calls = model_times.calls_of(engine)
    engine.calls.clear()
    for _ in range(5):
        calls["frame"]()
    assert [call[0] for call in engine.calls] == ["detect", "render"] * 5
    assert len({call[2] for call in engine.calls if call[0] == "render"}) > 1
    engine.calls.clear()
    for name in ("detect", "encode", "render"):
        calls[name]()
    assert [call[0] for call in engine.calls] == ["detect", "encode", "render"]


@pytest.mark.parametrize("batch", [3, 100])
def test_a_batch_is_so_many_people_at_once(batch):
    engine = FakeEngine()
    calls = model_times.calls_of(engine, batch)
    engine.calls.clear()
    calls["frame"]()
    assert engine.calls == [("detect_many", (batch, 64, 64, 3)), ("render_many", batch)]


def test_a_row_holds_together(in_process, bundle):
    subject = subjects.Subject("tiny", bundle, None)
    found = peaks.Peaks("cpu", 1).ready
    yardstick = InProcess(
        "livepuppet.benchmarks.model_times:Timed", engine="onnx", model=str(bundle), threads=1
    )
    arguments = {"threads": 1, "yardstick": yardstick, "machine_peaks": found, "blocks": 2, "seconds": 0.01}
    row = model_times.measure(subject, "onnx", "cpu", "float32", **arguments)
    assert row.error is None and row.provider == "CPUExecutionProvider" and row.memory_mb >= 0
    assert row.fps == pytest.approx(1000 / row.ms["frame"]["median"], rel=0.01)
    assert row.ratio > 0 and row.ms["frame"]["p95"] >= row.ms["frame"]["median"] > 0
    assert model_times.line(row).count("|") == model_times.heading()[0].count("|")
    missing = model_times.measure(subject, "onnx", "cuda", "float32", threads=1)
    assert "CUDAExecutionProvider" in missing.error
    assert model_times.line(missing).count("|") == model_times.heading()[0].count("|")


def test_rates_are_the_work_of_one_person_in_the_time_of_one(monkeypatch):
    works = {
        "detect": work.Work(10**9, 10**6),
        "encode": work.Work(9**9, 9),
        "render": work.Work(3 * 10**9, 3 * 10**6),
    }
    monkeypatch.setattr(model_times, "work_of", lambda subject, engine: works)
    found = {"gflops": {"float32": {"torch": 100.0, "openvino": 200.0}}, "gbytes": 16.0}
    rates = model_times._rates(None, "onnx", "float32", {}, 40.0, found)
    assert rates == {
        "gflop": 4.0,
        "gflops": 100.0,
        "gbytes": 0.4,
        "share_of_peak": 0.5,
        "share_of_bandwidth": 0.025,
    }
    assert "share_of_peak" not in model_times._rates(None, "onnx", "int8", {}, 40.0, found)


def test_peaks_say_who_reached_them():
    found = {"gflops": {"float32": {"torch": 84.1, "openvino": 105.8}, "bfloat16": {}}}
    assert peaks.best(found, "float32") == (105.8, "openvino")
    assert peaks.best(found, "bfloat16") is None is peaks.best(None, "float32")


def test_what_was_asked_for_is_measured_or_refused():
    offers = [
        Offer("onnx", "cpu", "float32", None),
        Offer("onnx", "cuda", "float32", "No CUDA: install it."),
        Offer("torch", "cpu", "float32", None),
    ]
    assert speed_commands.chosen(offers, (), (), ()) == [offers[0], offers[2]]
    assert speed_commands.chosen(offers, ("onnx",), (), ()) == [offers[0]]
    with pytest.raises(UserError, match="No CUDA: install it"):
        speed_commands.chosen(offers, (), ("cpu", "cuda"), ())
    with pytest.raises(UserError, match="No engine here has the precision 'int8'"):
        speed_commands.chosen(offers, (), (), ("int8",))


def test_presets_are_built_and_said_to_be_random(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript", reason="exporting needs the extra 'export'")
    exported = []

    def export(model, output, weights):
        exported.append((model.preset.name, Path(weights).exists()))
        by_hand.write_bundle(output)

    monkeypatch.setattr("livepuppet.export.bundle.export_bundle", export)
    subject = subjects.subject_of_preset("monkeynet-64", tmp_path)
    assert subject.random and exported == [("monkeynet-64", True)]
    assert {offer.name for offer in subject.offers()} >= {"onnx", "openvino", "torch", "tensorrt"}
    with pytest.raises(UserError, match="There is no preset 'fomm-2': choose among"):
        subjects.subject_of_preset("fomm-2", tmp_path)
    assert not subjects.subject_of_preset("lite-256", tmp_path).random


def test_weights_are_measured_as_a_bundle_too(tmp_path, monkeypatch, tiny_bundle):
    monkeypatch.setattr("livepuppet.export.bundle.export_bundle", lambda model, output, weights: None)
    weights = tiny_bundle / "weights.safetensors"
    subject = subjects.subject_of_path(weights, tmp_path)
    assert (subject.name, subject.weights, subject.random) == ("tiny", weights, False)
    with pytest.raises(UserError, match="nowhere"):
        subjects.subject_of_path(tmp_path / "nowhere.safetensors", tmp_path)
    with pytest.raises(UserError, match="no model bundle"):
        subjects.subject_of_path(tmp_path / "nowhere", tmp_path)


def test_the_command_for_models(in_process, bundle, tmp_path):
    path = tmp_path / "model.json"
    fixed = "model --engine onnx --device cpu --no-plain --blocks 1 --seconds 0.01 --threads 1"
    arguments = [
        *fixed.split(),
        "--model",
        str(bundle),
        "--json",
        str(path),
        "--plot",
        str(tmp_path / "model.png"),
    ]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "| tiny | onnx | cpu | float32 | 1 |" in result.output and "GFLOP/s in float32" in result.output
    facts = json.loads(path.read_text())
    assert facts["command"] == "model" and facts["machine"]["cores"] >= 1
    assert facts["rows"][0]["engine"] == "onnx" and facts["peaks"]["cpu"]["gbytes"] > 0
    assert (tmp_path / "model.png").stat().st_size > 10_000


def test_every_way_to_run_a_model_is_compared_with_plain_pytorch(in_process, tiny_bundle, tmp_path):
    both, path = shutil.copytree(tiny_bundle / "bundle", tmp_path / "both"), tmp_path / "model.json"
    shutil.copy(tiny_bundle / "weights.safetensors", both)
    fixed = (
        "model --engine onnx --engine torch --device cpu --precision float32 --batch 1 --batch 2 --blocks 1"
    )
    arguments = [
        *fixed.split(),
        "--seconds",
        "0.01",
        "--threads",
        "1",
        "--model",
        str(both),
        "--json",
        str(path),
    ]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["rows"]
    found = [(row["engine"], row["plain"], row["batch"]) for row in rows]
    assert found == [("torch", True, 1), ("onnx", False, 1), ("torch", False, 1), ("torch", False, 2)]
    assert all(row["error"] is None and row["ratio"] > 0 and row["gflop"] > 0 for row in rows)
    assert "| tiny | torch, plain | cpu |" in result.output
    assert "plain" in rows[0]["provider"] and "plain" not in rows[2]["provider"]


def test_nothing_is_measured_in_vain(bundle, tmp_path, monkeypatch):
    def run(*arguments):
        with pytest.raises(UserError) as caught:
            CliRunner().invoke(bench, ["model", *map(str, arguments)], catch_exceptions=False)
        return str(caught.value)

    assert "does not exist" in run("--json", tmp_path / "nowhere" / "a.json")
    assert "does not exist" in run("--plot", tmp_path / "nowhere" / "a.png")
    assert "ends in .png" in run("--plot", tmp_path / "a.txt")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'livepuppet[bench]'" in run("--plot", tmp_path / "a.png")


# The live loop


@pytest.mark.parametrize("rate", [None, 20.0])
def test_a_live_run(bundle, rate, monkeypatch):
    monkeypatch.setattr(live, "LOOK_EVERY", 0.0)
    run = live.LiveRun("onnx", str(bundle), threads=1, rate=rate, seconds=3, size=SIZE, skip=0.0).ready
    assert run["frames"] > 2 and run["fps"] > 0 and run["memory_mb"] > 10
    assert len(run["delays_ms"]) == len(live.PERCENTILES) and run["delays_ms"] == sorted(run["delays_ms"])
    assert run["delay_ms"]["p50"] == run["delays_ms"][live.PERCENTILES.index(50)]
    if sys.platform == "linux":
        cores = run["core_ms"]
        assert {"live", "capture", "others", "all"} <= set(cores)
        assert cores["all"] == pytest.approx(sum(cores.values()) - cores["all"], abs=0.2)
    if rate is None:
        # Nothing is overtaken by a camera that waits for the loop.
        assert run["dropped"] == 0


def test_the_busy_process_is_there_during_the_run_and_gone_afterwards(monkeypatch):
    began, running = [], []
    popen = subprocess.Popen

    def start(command, **facts):
        began.append(popen(command, **facts))
        return began[-1]

    class Run:
        def __init__(self, target, **arguments):
            running.append([process.poll() is None for process in began])
            raise workers.WorkerError("it crashed")

    monkeypatch.setattr(live.subprocess, "Popen", start)
    monkeypatch.setattr(live, "Worker", Run)
    row = live.measure(busy=True, engine="onnx", rate=30.0)
    assert row == {"engine": "onnx", "rate": 30.0, "busy": True, "error": "it crashed"}
    assert running == [[True]] and began[0].poll() is not None
    assert live.line(row).count("|") == live.heading()[0].count("|")
    live.measure(busy=False, engine="onnx", rate=30.0)
    assert len(began) == 1


def test_the_command_for_live_runs(in_process, bundle, tmp_path):
    path = tmp_path / "live.json"
    fixed = f"live --engine onnx --seconds 3 --rate 20 --no-eager --size {SIZE} --threads 1"
    arguments = [
        *fixed.split(),
        "--model",
        str(bundle),
        "--json",
        str(path),
        "--plot",
        str(tmp_path / "live.png"),
    ]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    # A starved machine may get no frame through after the first second and a half; it says so then.
    assert "| onnx | cpu | float32 | 20 FPS | - |" in result.output or "Too few frames" in result.output
    assert json.loads(path.read_text())["command"] == "live" and (tmp_path / "live.png").exists()


# Starting


def test_phases_lie_between_marks():
    marks = {
        "python": 10.1,
        "imports": 10.5,
        "model": 10.7,
        "first animated": 12.0,
        "face": 11.5,
        "unknown": 50.0,
    }
    found = startup.phases(marks, 10.0)
    assert found["total"] == 2.0
    assert found["phases"] == pytest.approx(
        {"python": 0.1, "imports": 0.4, "model": 0.2, "face": 0.8, "first animated": 0.5}
    )


def test_a_start_is_seen_phase_by_phase(bundle, tmp_path):
    arguments = ("--engine", "onnx", "--model", str(bundle), "--crop", "full", "--threads", "1")
    start = startup.once(arguments, tmp_path / "cache", tmp_path)
    # Whoever renames a function that is watched finds out here.
    assert set(start["phases"]) == set(startup.PHASES)
    assert all(seconds >= 0 for seconds in start["phases"].values())
    assert start["total"] == pytest.approx(sum(start["phases"].values()), abs=0.01)
    assert start["memory_mb"] is None or start["memory_mb"] > 20
    with pytest.raises(UserError, match=r"did not start: livepuppet: There is no model bundle at .*nowhere"):
        startup.once(("--model", str(tmp_path / "nowhere")), tmp_path / "cache", tmp_path)


def test_starts_are_cold_and_then_warm(monkeypatch):
    caches = []

    def once(arguments, cache, home):
        cold = cache not in caches
        caches.append(cache)
        return {
            "phases": {"model": 2.0 if cold else 1.0},
            "total": 2.0 if cold else 1.0,
            "memory_mb": 100.0,
            "processor_seconds": 0.8,
        }

    monkeypatch.setattr(startup, "once", once)
    facts = startup.measure((), runs=3)
    assert facts["cold"]["totals"] == [2.0] * 3 and facts["warm"]["totals"] == [1.0] * 3
    lines = startup.lines("onnx", facts)
    assert lines[1] == "| onnx | warm | 1.00 (1.00 - 1.00) | model loaded 1.00 | 0.80 | 100 |"


# Streams


def test_streams_count_only_in_time():
    assert streams.figures(8, [10.0] * 20) | {"ms": None} == {
        "ms": None,
        "fps": 800.0,
        "in_time": True,
        "streams": 26,
    }
    late = streams.figures(8, [10.0] * 18 + [50.0] * 2)
    assert late["fps"] == 800.0 and not late["in_time"] and late["streams"] == 0


def test_the_sweep_ends_where_memory_or_patience_does(monkeypatch):
    def measure(batch, **arguments):
        if batch > 16:
            return {"batch": batch, "device": "cpu", "precision": None, "error": "out of memory"}
        return {"batch": batch, **streams.figures(batch, [2.0 + batch] * 9)}

    monkeypatch.setattr(streams, "measure", measure)
    rows = list(streams.sweep(device="cpu"))
    assert [row["batch"] for row in rows] == [1, 2, 4, 8, 16, 32] and "error" in rows[-1]
    assert streams.best(rows)["batch"] == 16
    monkeypatch.setattr(
        streams, "measure", lambda batch, **rest: {"batch": batch, **streams.figures(batch, [400.0])}
    )
    assert len(list(streams.sweep(device="cpu"))) == 1
    # Sizes that somebody asked for are measured, however long they take.
    assert len(list(streams.sweep((1, 2), device="cpu"))) == 2


def test_batches_run_for_real(in_process, tiny_bundle, tmp_path):
    path = tmp_path / "streams.json"
    fixed = "streams --device cpu --precision float32 --batch 1 --batch 2 --seconds 0.01 --threads 1"
    weights = str(tiny_bundle / "weights.safetensors")
    drawn = str(tmp_path / "streams.png")
    arguments = [*fixed.split(), "--model", weights, "--json", str(path), "--plot", drawn]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["rows"]
    assert [row["batch"] for row in rows] == [1, 2] and all(row["fps"] > 0 for row in rows)
    assert "streams of 30 frames per second" in result.output and Path(drawn).exists()


def test_quality_beside_float32(tmp_path):
    path = tmp_path / "quality.json"
    arguments = ["quality", "--seconds", "0.5", "--side", "160", "--json", str(path)]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = {row["setup"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == ["float32", "int8", "first step", "both steps"]
    same = rows["float32"]
    assert (same["response"], same["levels"], same["sharpness"]) == (pytest.approx(1), 0, 1)
    assert 0 < rows["first step"]["amounts"] < 0.1
    assert rows["both steps"]["levels"] > rows["first step"]["levels"]


@pytest.fixture(scope="module")
def short_clip(tmp_path_factory):
    """A second of the bundled clip, with an open mouth at first."""
    with open_video(bundled.DRIVING) as video:
        frames = [frame.image for frame in video.frames(set(range(270, 295)))]
    return str(
        write_clip(tmp_path_factory.mktemp("clip") / "short.mp4", [frame[::2, ::2] for frame in frames])
    )


def test_a_neutral_pose_is_worth_something(short_clip, tmp_path):
    path = tmp_path / "neutral.json"
    arguments = ["neutral", short_clip, "--engine", "onnx", "--threads", "1", "--json", str(path)]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["rows"]
    assert [(row["begins"], row["neutral"]) for row in rows[:2]] == [("", "auto"), ("", "first")]
    assert {row["neutral"] for row in rows if row["begins"] == "mouth"} == {"whole", "auto", "first"}
    assert rows[0]["correlation"]["open"][0] > 0.9
    assert "Worse with `auto` than with `first`:" in result.output


def test_smoothing_leaves_what_moves(short_clip, tmp_path):
    path = tmp_path / "smoothing.json"
    arguments = ["smoothing", short_clip, "--engine", "onnx", "--threads", "1", "--json", str(path)]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(path.read_text())["rows"]
    count, height, lag = row["peaks"]["syllable"]
    assert count >= 1 and height > 0.9 and abs(lag) < 0.2
    assert row["still"] > 0 and all(0 < value < 10 for value in row["trembling"].values())
    assert "| median |" in result.output


# Pictures


def texts_of(figure) -> str:
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def row_of(engine, fps, **facts):
    ms = 1000 / fps
    spread = {
        "detect": {"median": 0.2 * ms},
        "render": {"median": 0.8 * ms},
        "frame": {"median": ms, "p95": 1.3 * ms},
    }
    plain = {
        "model": "lite-256",
        "engine": engine,
        "device": "cpu",
        "precision": "float32",
        "batch": 1,
        "plain": False,
    }
    return {**plain, "random": False, "fps": fps, "ms": spread, "ratio": 2.0, "error": None, **facts}


def check_png(figure, path, labels):
    import cv2

    texts = texts_of(figure)
    assert all(label in texts for label in labels), texts
    plots.save(figure, path)
    picture = cv2.imread(str(path))
    assert 300 < picture.shape[0] < 2000 and picture.shape[1] == plots.WIDTH * plots.RESOLUTION
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_a_picture_of_times(tmp_path):
    rows = [
        row_of("onnx", 22.0),
        row_of("openvino", 31.0, precision="bfloat16"),
        row_of("torch", 11.0, plain=True),
        row_of("torch", 1.5, model="fomm-256", batch=8, random=True),
        {"model": "lite-256", "engine": "tensorrt", "error": "not here"},
    ]
    labels = (
        "onnx, cpu",
        "bfloat16",
        "plain torch",
        "31 FPS",
        "fomm-256 (random weights)",
        "batch 8",
        "detect",
        "Ryzen",
    )
    figure = plots.model_figure(rows, "A Ryzen, 2 cores")
    check_png(figure, tmp_path / "model.png", labels)
    assert "tensorrt" not in texts_of(figure)
    # The fastest stands on top.
    first = figure.axes[0]
    assert first.get_yticklabels()[0].get_text().startswith("openvino") and first.yaxis_inverted()


def test_a_picture_of_delays(tmp_path):
    delays = list(np.linspace(20, 60, len(live.PERCENTILES)))
    base = {
        "precision": "float32",
        "size": "1280x720",
        "rate": 30.0,
        "fps": 29.9,
        "delays_ms": delays,
        "delay_ms": {"p95": 58.0},
    }
    rows = [{**base, "engine": "onnx", "busy": False}, {**base, "engine": "onnx", "busy": True}]
    rows += [{"engine": "torch", "busy": False, "rate": 30.0, "error": "gone"}]
    labels = (
        "onnx float32: 30 of 30 FPS, p95 58 ms",
        "beside a busy process",
        "delay from camera to output, ms",
    )
    check_png(plots.live_figure(rows, "A Ryzen"), tmp_path / "live.png", labels)


def test_a_picture_of_streams_and_of_starts(tmp_path):
    rows = [
        {"batch": batch, **streams.figures(batch, [4.0 + batch] * 9)} for batch in (1, 2, 4, 8, 16, 32, 64)
    ]
    labels = ("people per batch", "16 people", "done before the next frame", "lite-256", "32")
    labels = (labels[0], f"{streams.figures(8, [12.0])['streams']} people", *labels[2:])
    check_png(plots.streams_figure(rows, "A Ryzen", "lite-256"), tmp_path / "streams.png", labels)
    one = {"total": 2.5, "phases": {"imports": 1.0, "model": 1.5}}
    labels = ("onnx, cold cache", "onnx, warm cache", "imports", "model loaded", "2.50 s")
    figure = plots.startup_figure({"onnx": {"cold": one, "warm": one}}, "A Ryzen " * 60)
    check_png(figure, tmp_path / "startup.png", labels)


# The machine


def test_a_machine_in_a_line(monkeypatch, tmp_path):
    facts = machine.describe()
    assert facts["cores"] >= 1 and isinstance(facts["flags"], list)
    assert facts["numpy"] == np.__version__
    named = {
        **facts,
        "processor": "Ryzen",
        "cores": 1,
        "flags": ["avx2"],
        "gpus": ["NVIDIA H200 (driver 580)"],
    }
    assert machine.sentence(named).startswith("Ryzen (avx2), 1 core, NVIDIA H200 (driver 580)")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.65'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine.graphics_cards() == ["NVIDIA H200 (driver 580.65)"]
    tool.write_text("#!/bin/sh\necho 'no driver'; exit 9\n")
    assert machine.graphics_cards() == []


def test_the_engine_that_is_measured_is_the_one_that_runs(bundle):
    timed = model_times.Timed("onnx", str(bundle), threads=1, only=["detect"])
    assert timed.ready["provider"] == load_engine("onnx", bundle, threads=1).provider
    assert len(timed.block("detect", 0.0)) == timing.FEWEST and timed.memory() >= 0
    with pytest.raises(UserError, match="one picture at a time"):
        model_times.Timed("onnx", str(bundle), threads=1, batch=2)


# Speech


def test_what_follows_a_voice_is_found_behind_it():
    from voices import RATE, talk

    from livepuppet.benchmarks.speech import followed, level_at

    sound = talk(6, seed=2)
    times = np.arange(0.5, 5.5, 1 / 30)
    found = followed(sound, RATE, times, level_at(sound, RATE, times - 0.12))
    assert found.correlation == pytest.approx(1.0) and found.lag_ms == pytest.approx(120, abs=5)
    assert followed(sound, RATE, times, np.zeros(len(times))).correlation == 0


def test_a_mouth_in_the_picture_follows_a_voice(tmp_path):
    from voices import talk, write_wave

    from livepuppet.benchmarks.speech import frame_by_frame

    path = write_wave(tmp_path / "talk.wav", talk(4, seed=3))
    found = frame_by_frame(load_engine("onnx", threads=1), path, 15)
    assert found["amount"].correlation > 0.7 and found["amount"].lag_ms < 80
    assert found["picture"].correlation > 0.7 and found["picture"].lag_ms < 80
    assert found["picture"].frames == 59


def test_without_espeak_speech_says_what_to_do(monkeypatch, bundle):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="--sound FILE"):
        CliRunner().invoke(bench, ["speech", "--model", str(bundle)], catch_exceptions=False)


# Files: two passes beside one.


def test_files_in_two_passes_and_in_one(tmp_path):
    from livepuppet.core.video import open_video
    from livepuppet.realtime import bundled

    with open_video(bundled.DRIVING) as video:
        clip = write_clip(tmp_path / "clip.mp4", [frame.image for frame in video.frames(range(4))])
    arguments = [
        "files",
        str(clip),
        "--rounds",
        "1",
        "--engine",
        "onnx",
        "--threads",
        "1",
        "--json",
        str(tmp_path / "a.json"),
    ]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "| 4 | 256x256 | side by side |" in result.output
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["side_by_side"] for row in rows] == [False, True] and all(row["ratio"] > 0 for row in rows)
