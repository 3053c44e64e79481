"""The measurements of delay and of long runs, with a tiny model: what they measure, not how fast this machine is."""

from __future__ import annotations

import json
import threading
import time

import pytest
import tiny_bundle
from click.testing import CliRunner

from livepuppet.benchmarks import clock, latency, soak
from livepuppet.benchmarks.commands import bench
from livepuppet.realtime.engines import load_engine

SIZE = "352x240"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


def test_the_simulated_camera_paints_the_time_it_says():
    camera = latency.ClockCamera(352, 240, 50, 0.3)
    frames = list(camera.frames(threading.Event()))
    assert 3 <= len(frames) == camera.made <= 15
    assert camera.made + camera.lost == 15
    for frame in frames:
        assert frame.image.shape == (240, 352, 3)
        assert clock.read(frame.image) == int(frame.captured / clock.TICK)


def test_the_far_end_measures_delay_and_ignores_repetitions():
    far = latency.Loopback()
    picture = next(latency.ClockCamera(352, 240, 50, 0.1).frames(threading.Event())).image
    ticks = clock.now() - 25_000
    clock.paint(picture, ticks)
    for _ in range(3):
        far.write(picture, 0)
    far.write(picture * 0, 0)
    assert len(far.readings) == 1 and far.unreadable == 1
    assert far.readings[0][0] == ticks
    # A quarter of a second old when it arrived, and no hour older.
    assert 0.25 <= far.readings[0][1] < 10


def test_figures_separate_the_model_from_what_is_added():
    readings = [(tick, 0.040 if tick < 50 else 0.060, 10 + tick / 30) for tick in range(100)]
    model = dict.fromkeys(range(100), 0.03) | {1000: 5.0}
    facts = latency.figures([(5000, 9.0, 10.0), *readings], model, dict.fromkeys(range(100), 0.004), skip=0.0)
    assert facts["frames"] == 100
    assert facts["delay_ms"]["p50"] == pytest.approx(50, abs=11) and facts["delay_ms"]["p99"] == 60
    assert facts["model_ms"]["p95"] == 30
    assert facts["added_ms"] == {
        "p50": pytest.approx(16, abs=11),
        "p95": pytest.approx(26),
        "p99": pytest.approx(26),
    }
    assert latency.figures(readings, model, skip=0.0)["added_ms"]["p99"] == pytest.approx(30)
    assert (facts["first_ms"], facts["last_ms"]) == (40, 60)
    assert latency.figures([], {})["frames"] == 0


def test_a_live_session_end_to_end(bundle):
    engine = load_engine("onnx", bundle, threads=1)
    # Ended by its frames, so that a starved machine only takes longer.
    facts = latency.through_a_loopback(engine, 120, 20, SIZE, frames=30, skip=0.0)
    assert facts["frames"] > 10 and facts["unreadable"] == 0
    assert facts["delay_ms"]["p50"] > facts["model_ms"]["p50"] > 0
    assert facts["added_ms"]["p50"] > 0


def test_memory_and_delay_over_time(bundle):
    # It ends between two samples, not with one.
    facts = soak.soak(load_engine("onnx", bundle, threads=1), 4.5 / 60, 20, SIZE, ("none",), interval=1.0)
    assert len(facts["samples"]) >= 3
    assert facts["frames"] > 3 and facts["errors"] == 0
    # The first sample may still see the thread that looks for a face; more than that would be a leak.
    assert facts["memory_mb"][0] > 10 and facts["threads"][1] <= facts["threads"][0]


def test_a_guest_comes_and_goes():
    seen = []
    with soak.Guest(0.05) as guest:
        end = time.monotonic() + 30
        while (not seen or seen != [False, True, False]) and time.monotonic() < end:
            if not seen or guest.there != seen[-1]:
                seen.append(guest.there)
            time.sleep(0.002)
    assert seen == [False, True, False] and not guest.there
    stayed = guest.stayed()
    assert 0.05 <= stayed == guest.stayed()


def test_a_leak_would_be_seen():
    samples = [
        soak.Sample(minute, 100_000_000 + minute * 1_000_000, 30, 1, 20 + minute, 40, 5, 9)
        for minute in range(60)
    ]
    facts = soak.verdict(samples)
    assert facts["memory_mb_per_hour"] == pytest.approx(60, rel=0.01)
    assert facts["memory_mb"][1] - facts["memory_mb"][0] > 40
    assert facts["p50_ms"][1] - facts["p50_ms"][0] > 40
    assert facts["frames"] == 1800 and facts["dropped"] == 60


def test_the_command_prints_a_table_and_the_number_for_obs(bundle, tmp_path):
    arguments = ("latency", "--seconds", "6", "--rate", "10", "--size", SIZE, "--model", bundle)
    result = CliRunner().invoke(
        bench, [str(argument) for argument in (*arguments, "--json", tmp_path / "delay.json")]
    )
    assert result.exit_code == 0, result.output
    assert "| 10 |" in result.output and "Sync Offset" in result.output
    facts = json.loads((tmp_path / "delay.json").read_text())
    assert facts["rows"][0]["frames"] > 0 and facts["machine"]["cores"] >= 1
