"""`livepuppet bench everything`: a row for every way, whatever becomes of it; never how fast this machine is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench_object import InProcess
from click.testing import CliRunner

from livepuppet.benchmarks import everything, subjects, workers
from livepuppet.benchmarks.commands import bench
from livepuppet.benchmarks.everything import BATCHES, Measuring, Row, Trial, Way
from livepuppet.core.errors import UserError
from livepuppet.realtime.engines import Offer, TorchEngine

CARD = [
    Offer("onnx", "cpu", "float32", None),
    Offer("onnx", "cpu", "int8", None),
    Offer("onnx", "cuda", "float32", "No CUDA: install it."),
    Offer("torch", "cuda", "float32", None),
    Offer("torch", "cuda", "float16", None),
    Offer("tensorrt", "cuda", "float16", "No TensorRT: install it."),
]


@pytest.fixture
def card(monkeypatch):
    """A machine with a card, as far as offers tell."""
    monkeypatch.setattr(subjects.Subject, "offers", lambda self: list(CARD))


def test_every_way_is_there_and_the_usual_ones_come_first(card):
    found = everything.ways(["lite-256", "monkeynet-64"])
    names = [(way.preset, way.engine, way.device, way.precision, way.mode) for way in found]
    assert len(set(names)) == len(names)
    cuda = {(way.precision, way.mode) for way in found if way.preset == "lite-256" and way.engine == "torch"}
    graphs = {("float32", "CUDA graphs"), ("tf32", "CUDA graphs"), ("float16", "CUDA graphs")}
    assert cuda == graphs | {("float32", "plain"), ("float16", "eager"), ("float16", "compiled")}
    here = [way for way in found if not way.missing]
    first = {(way.device, way.precision, way.mode) for way in here[:2]}
    assert first == {("cuda", "float16", "CUDA graphs"), ("cuda", "float32", "plain")}
    assert [way.compiles for way in here] == sorted(way.compiles for way in here)
    # Graphs in fewer bits are made with pictures of faces, which random weights have no use for.
    assert not any(way.precision == "int8" for way in found if way.preset == "monkeynet-64")
    assert {way.device for way in everything.ways(["lite-256"], ["cpu"])} == {"cpu"}
    assert everything.ways(["lite-256"], ["abacus"]) == []


class Pretender:
    """A worker whose engine fails in a way that its precision tells."""

    made = 0

    def __init__(self, target, **arguments):
        type(self).made += 1
        self.ready = {}

    def within(self, limit, method, **arguments):
        assert limit > 0
        if method == "load":
            self.precision = arguments["precision"]
            if self.precision == "int8":
                raise UserError("This has no int8.")
            return {"provider": "pretended", "start_s": 0.5}
        if method == "people" and self.precision == "float16" and arguments["batch"] == 64:
            raise workers.WorkerError("OutOfMemoryError: CUDA out of memory\nof 80 GB")
        ms = {"median": 1.0, "p95": 2.0, "least": 0.5, "repeats": 9}
        return {
            "times": dict.fromkeys(("detect", "render", "frame"), ms),
            "device": {**ms, "median": 0.25},
            "quality": {"gate": "passed", "psnr": 70.0},
            "can_batch": True,
            "people": {"ms": ms, "fps": 1000.0, "device_ms": ms, "device_fps": 9999.0},
            "memory": 12.0,
        }[method]

    def close(self):
        pass


WAYS = [
    Way("lite-256", "torch", "cuda", "float16", "CUDA graphs"),
    Way("lite-256", "torch", "cuda", "int8", "CUDA graphs"),
    Way("lite-256", "torch", "cuda", "float32", "compiled"),
    Way("lite-256", "onnx", "cuda", "float32", missing="No CUDA: install it."),
]


def test_what_fails_is_a_row_with_its_reason_and_keeps_what_was_measured(monkeypatch):
    monkeypatch.setattr(everything, "Worker", Pretender)
    Pretender.made = 0
    with Measuring(10) as measuring:
        rows = {(row.way.engine, row.way.precision): row for row in measuring.rows(WAYS)}
    assert len(rows) == len(WAYS)
    assert rows["onnx", "float32"].reason == "No CUDA: install it."
    broken = rows["torch", "float16"]
    assert broken.reason == "OutOfMemoryError: CUDA out of memory" and sorted(broken.batches) == [4, 16]
    assert rows["torch", "int8"].reason == "This has no int8." and not rows["torch", "int8"].ms
    # A process in which a card failed is not used again; one that refused is.
    assert Pretender.made == 2
    # Every size would be compiled for a minute.
    assert sorted(rows["torch", "float32"].batches) == [64] and rows["torch", "float32"].reason is None
    columns = everything.heading()[0].count("|")
    assert all(everything.line(row).count("|") == columns for row in rows.values())
    text = everything.document("a machine", list(rows.values()), 10)
    assert "0.250 ms on the card alone" in text and "9,999 frames per second" in text
    assert "* onnx on cuda, float32: No CUDA: install it." in text


def test_time_is_shared_and_ends(monkeypatch):
    now, limits = [0.0], []

    class Slow(Pretender):
        def within(self, limit, method, **arguments):
            if method == "load":
                limits.append(limit)
            now[0] += 6.0
            return super().within(limit, method, **arguments)

    monkeypatch.setattr(everything, "Worker", Slow)
    many = [Way("lite-256", "torch", "cuda", "float32", mode) for mode in "abcdefgh"]
    with Measuring(2, batches=(), clock=lambda: now[0]) as measuring:
        rows = list(measuring.rows(many))
    assert limits[0] == everything.FLOOR and all(limit <= everything.FLOOR for limit in limits)
    late = [row for row in rows if row.reason]
    assert late and all(
        "share of the time" in row.reason or "2 minutes were over" in row.reason for row in late
    )
    assert rows[0].ms and rows[-1].reason == "not measured: the 2 minutes were over"


def test_a_worker_that_hangs_is_ended():
    there = {"PYTHONPATH": str(Path(__file__).parent)}
    with workers.Worker("bench_object:Thing", there, name="thing") as thing:
        assert thing.within(60, "double", value=2) == 4
        with pytest.raises(workers.WorkerError, match=r"not done in 0 s"):
            thing.within(0.2, "sleep", seconds=60)


def test_a_preset_is_measured_and_compared_with_pytorch():
    trial = Trial("torch", 1)
    facts = {"preset": "monkeynet-64", "device": "cpu", "precision": "float32", "mode": "eager"}
    assert trial.load(engine="torch", path=None, **facts)["provider"] == "PyTorch cpu"
    assert set(trial.times(0.0)) == {"detect", "render", "frame"}
    judged = trial.quality(**facts)
    assert judged["gate"].startswith("random weights") and (judged["psnr"] is None or judged["psnr"] > 60)
    assert trial.can_batch() and trial.device() == {} and trial.memory() is None
    people = trial.people(2, 0.0)
    assert people["fps"] == pytest.approx(2000 / people["ms"]["median"], rel=0.01)


def test_the_default_model_passes_its_gate():
    trial = Trial("onnxruntime", 1)
    facts = {"preset": "lite-256", "device": "cpu", "precision": "float32", "mode": ""}
    path = str(subjects.default_subject().bundle)
    trial.load(engine="onnx", path=path, **facts)
    assert trial.quality(**facts)["gate"] == "passed" and not trial.can_batch()


def test_kernels_are_started_one_by_one_where_no_graph_is_wanted():
    trial = Trial("torch", 1)
    eager = TorchEngine(trial._random("monkeynet-64"), device="cpu", graph=False)
    assert eager.model_name == "monkeynet-64" and "graphs" not in eager.provider
    with pytest.raises(ValueError, match="nothing of 1 people is recorded"):
        eager.device_milliseconds(1, 3)


def test_the_command_writes_table_picture_and_figures(monkeypatch, tmp_path, card):
    class Fast(InProcess):
        def within(self, limit, method, **arguments):
            return self(method, **arguments)

    monkeypatch.setattr(everything, "Worker", Fast)
    monkeypatch.setattr(
        everything, "ways", lambda *_: [Way("monkeynet-64", "torch", "cpu", "float32", "plain")]
    )
    monkeypatch.setattr(everything, "MOST_SECONDS", 0.01)
    output = tmp_path / "new" / "folder"
    arguments = ["everything", "--output", str(output), "--minutes", "0.1", "--threads", "1"]
    result = CliRunner().invoke(bench, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "| monkeynet-64 (random weights) | torch, cpu, plain |" in result.output
    facts = json.loads((output / "everything.json").read_text())
    row = Row.from_dict(facts["rows"][0])
    assert row.as_dict() == {**facts["rows"][0], "batches": row.batches} and row.ms["frame"]["median"] > 0
    assert "| monkeynet-64 (random weights) |" in (output / "everything.md").read_text()
    (output / "everything.png").unlink()
    CliRunner().invoke(bench, [*arguments, "--redraw"], catch_exceptions=False)
    assert (output / "everything.png").stat().st_size > 10_000
    with pytest.raises(UserError, match="There is no preset fomm-2"):
        CliRunner().invoke(bench, [*arguments, "--preset", "fomm-2"], catch_exceptions=False)
    with pytest.raises(UserError, match="without --redraw first"):
        CliRunner().invoke(
            bench, ["everything", "--output", str(tmp_path), "--redraw"], catch_exceptions=False
        )


#: A machine with PyTorch, onnxruntime, OpenCV and what they need, and nothing else.
BARE = """
import sys
from importlib.machinery import PathFinder

HERE = {"livepuppet", "torch", "onnxruntime", "numpy", "cv2", "tqdm", "click", "PIL", "psutil", "sympy", "mpmath",
        "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "triton", "typing_extensions", "torchgen",
        "functorch", "flatbuffers", "packaging", "google"}

def hidden(finder):
    class Bare:
        @staticmethod
        def find_spec(name, path=None, target=None):
            first = name.split(".")[0]
            if first in sys.stdlib_module_names or first in HERE or first.startswith("_"):
                return finder.find_spec(name, path, target)
            return None
    return Bare

sys.meta_path[:] = [hidden(finder) for finder in sys.meta_path]
from livepuppet.benchmarks import everything, speed_commands
from livepuppet.benchmarks.everything import Trial

names = {(way.engine, way.device, way.missing is None) for way in everything.ways()}
assert ("openvino", "cpu", False) in names and ("torch", "cpu", True) in names and ("onnx", "cpu", True) in names
path = str(everything.default_subject().weights)
trial = Trial("torch", 1)
facts = {"preset": "lite-256", "device": "cpu", "precision": "float32", "mode": "plain"}
trial.load(engine="torch", path=path, **facts)
facts["preset"] = "monkeynet-64"
trial.load(engine="torch", path=None, **facts)
trial.times(0.0)
assert trial.quality(**facts)["gate"].startswith("random")
for name in ("av", "openvino", "safetensors", "yaml", "tomlkit", "platformdirs", "matplotlib", "onnx", "pyvirtualcam"):
    assert name not in sys.modules, name
print("measured")
"""


def test_engines_are_timed_where_nothing_but_pytorch_and_onnxruntime_is_installed():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout.strip().endswith("measured"), done.stderr[-2000:]


def test_weights_are_read_as_safetensors_reads_them(tmp_path):
    from safetensors.torch import load_file, save_file

    from livepuppet.model.file_types import CheckpointError, read_safetensors_header, read_tensors

    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.arange(5),
        "c": torch.randn(2, 1, 3).half(),
        "d": torch.tensor(2.5),
        "e": torch.zeros(0, 3),
        "f": torch.tensor([True, False, True]),
        "g": torch.randn(7).bfloat16(),
    }
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata={"format": "x"})
    found, expected = read_tensors(path, read_safetensors_header(path)), load_file(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)
    header = read_safetensors_header(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(path, header)


def test_batches_are_those_that_the_table_has():
    row = Row(WAYS[0], ms={"frame": {"median": 1.0}}, batches={4: {"ms": {"median": 2.0}}})
    assert everything._expected_ms(row, 16) == 4.0
    assert everything.heading()[0].count("people") == len(BATCHES)
