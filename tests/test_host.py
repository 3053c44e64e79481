"""The measurement of the host's own work, with a tiny model: what it goes through, not how long that takes here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_bundle
from click.testing import CliRunner

from livepuppet.benchmarks import host
from livepuppet.benchmarks.commands import bench
from livepuppet.realtime.engines import load_engine


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture(scope="module")
def engine(bundle):
    return load_engine("onnx", bundle, threads=1)


def test_what_is_replayed_is_what_the_model_made(engine):
    recording = host.record(engine, 352, 240, 6)
    replay = host.Replay(engine, recording)
    assert len(recording.frames) == 6 and recording.frames[0].shape == (240, 352, 3)
    assert replay.detect(recording.avatar.image) is recording.keypoints
    for index in (0, 1, 2, 3, 4, 5, 0):
        assert replay.detect(recording.frames[index]) is recording.driving[index]
        picture, grid = replay.render_deformation(None, recording.keypoints, recording.moved[index])
        assert picture is recording.pictures[index] and grid is recording.grids[index]
    expected = engine.render(engine.encode(recording.avatar.image), recording.keypoints, recording.moved[3])
    assert np.array_equal(expected, recording.pictures[3])


def test_the_loop_turns_as_often_as_asked(engine):
    recording = host.record(engine, 352, 240, 4)
    turns = host.loop_times(engine, recording, (352, 240), 12)
    assert len(turns) >= 10 and (turns > 0).all()


def test_the_command_prints_a_table_and_writes_its_figures(bundle, tmp_path):
    arguments = ["host", "--size", "352x240", "--repeats", "12", "--model", str(bundle)]
    result = CliRunner().invoke(bench, [*arguments, "--json", str(tmp_path / "host.json")])
    assert result.exit_code == 0, result.output
    assert "| compose |" in result.output and "with default settings" in result.output
    facts = json.loads((tmp_path / "host.json").read_text())
    assert facts["frame_ms"]["default"] > 0
    default = [step["name"] for step in facts["steps"] if step["default"]]
    assert len(default) == 5 and all(step["median_ms"] >= 0 for step in facts["steps"])
