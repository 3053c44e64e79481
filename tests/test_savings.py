"""The table of what each rewrite saves: which rows there are, what they compare, and what is said of wrong names."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from lively import lively

from livepuppet.benchmarks import savings as module
from livepuppet.benchmarks.commands import bench
from livepuppet.benchmarks.savings import EVERYTHING, Row, Variant, savings
from livepuppet.core.errors import UserError
from livepuppet.export.optimise import rewrites
from livepuppet.model.presets import build


@pytest.fixture(autouse=True)
def tiny(tiny_preset, monkeypatch):
    """The tiny model in place of any preset that exists."""
    torch.set_num_threads(1)

    def small(name):
        return lively(build(tiny_preset), seed=0) if name == "fomm-256" else build(name)

    monkeypatch.setattr(module, "build", small)


def test_there_is_a_row_per_rewrite_and_one_for_all_of_them(monkeypatch, tiny_model):
    left_out = []

    class Counted:
        def __init__(self, model, target, without, engines, threads):
            left_out.append(list(without))
            self.flop = dict.fromkeys(("detect", "render"), 10 + len(without))
            self.calls = {(engine, call): int for engine in engines for call in self.flop}

    monkeypatch.setattr(module, "Variant", Counted)
    rows = list(savings("fomm-256", ["onnx", "openvino"], seconds=0.001, threads=1, rounds=1))
    every = rewrites(tiny_model)
    assert [row.rewrite for row in rows] == [name for name in (EVERYTHING, *every) for _ in range(2)]
    assert [row.engine for row in rows] == ["onnx", "openvino"] * (len(every) + 1)
    assert left_out == [[], every, *([name] for name in every)]
    assert rows[0].flop["detect"] == (10, 10 + len(every)) and rows[-1].flop["render"] == (10, 11)
    assert all(row.ratio[call] == row.ms[call][1] / row.ms[call][0] for row in rows for call in row.ratio)


@pytest.mark.slow
def test_every_engine_runs_the_variants_and_finds_the_same(tiny_model):
    """The calls that are timed do what the network does."""
    pytest.importorskip("openvino", reason="the openvino engine is not installed")
    whole = Variant(tiny_model, "onnxruntime", (), ["onnx", "openvino"], threads=1)
    plain = Variant(tiny_model, "torch", (), ["torch"], threads=1)
    expected = plain.calls["torch", "detect"]()[0].numpy()
    picture = plain.calls["torch", "render"]()[0].numpy().astype(int)
    assert picture.std() > 10
    assert all(whole.flop[call] < 0.95 * plain.flop[call] for call in ("detect", "render"))
    for engine in ("onnx", "openvino"):
        assert abs(whole.calls[engine, "detect"]()["points"] - expected).max() < 1e-4
        assert abs(whole.calls[engine, "render"]()["prediction"] - picture).max() <= 1


def test_pytorch_has_its_own_rewrites():
    rows = list(savings("fomm-256", ["torch"], seconds=0.01, threads=1, rounds=1))
    assert [row.rewrite for row in rows] == ["batch norm"]
    assert rows[0].engine == "torch" and rows[0].flop["render"][0] > 0


def test_the_command_prints_a_table_and_writes_json(tmp_path, monkeypatch):
    def two_rows(preset, engines, seconds, threads, only):
        for name in only:
            times = {"detect": (1.0, 2.0), "render": (10.0, 15.0)}
            ratio = {"detect": 2.0, "render": 1.5}
            flop = {"detect": (10**9, 2 * 10**9), "render": (10**9, 10**9)}
            yield Row(preset, engines[0], name, flop, times, ratio)

    monkeypatch.setattr(module, "savings", two_rows)
    options = ["savings", "--preset", "fomm-256", "--rewrite", EVERYTHING, "--rewrite", "squares"]
    done = CliRunner().invoke(bench, [*options, "--json", str(tmp_path / "a.json")])
    assert done.exit_code == 0, done.output
    assert (
        "| fomm-256 | onnx | squares | 1.50, 1.00 | 2.0, 1.0, 2.00x | 15.0, 10.0, 1.50x |"
        in done.output.splitlines()
    )
    facts = json.loads((tmp_path / "a.json").read_text())
    assert [row["rewrite"] for row in facts["rows"]] == [EVERYTHING, "squares"]
    assert facts["machine"]["processor"]


def test_wrong_names_end_in_one_sentence():
    with pytest.raises(UserError, match="there are fomm-256"):
        list(savings("fomm-1", ["onnx"]))
    failed = CliRunner().invoke(bench, ["savings", "--rewrite", "magic"])
    assert "There is no rewrite called magic" in str(failed.exception or failed.output)
