"""What is read of a driver, measured against a puppet's own exact performance."""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.rig.amounts import INDEX

torch = pytest.importorskip("torch")


def test_a_performance_is_measured_against_its_own_truth(monkeypatch):
    from livepuppet.train.metrics import reading
    from livepuppet.train.metrics.reconstruct import to_images
    from livepuppet.train.puppets.identities import FACTORS, Motion, draw_identities, generator
    from livepuppet.train.puppets.renderer import render

    torch.set_num_threads(1)
    monkeypatch.setattr(reading, "STILL", 16)
    monkeypatch.setattr(reading, "SETTLING", 6)
    turn = 0.35 * np.sin(np.linspace(0, 2 * np.pi, 24))
    puppet, frames = draw_identities(1, generator(7), "rich"), []
    for yaw in turn:
        motion = Motion(torch.zeros(1, len(FACTORS))).replace(yaw=float(yaw))
        frames.append(to_images(render(puppet, motion, 256).picture)[0])
    angles = np.stack([turn, 0 * turn, 0 * turn], 1)
    one = reading.Performance(np.stack(frames), angles, np.zeros((24, len(INDEX)), np.float32))
    table = reading.reading_figures([one], load_engine("onnx", threads=1))
    assert table["turn"]["r"] > 0.8 and 0.4 < table["turn"]["response"] < 1.8
    # It never smiles, so nothing can be said of likeness.
    assert np.isnan(table["smile"]["r"]) and 0 <= table["smile"]["stray"] < 0.5
    assert 0 <= table["turn"]["trembling"] < 0.02


def test_scores_tell_strength_from_likeness_and_rest():
    from livepuppet.train.metrics.reading import _scores

    true = np.array([0.0, 0.0, 0.5, 1.0])
    scores = _scores([(0.5 * true, true), (true + np.array([0.1, -0.1, 0, 0]), true)])
    assert scores["response"] == pytest.approx(0.75) and 0.98 < scores["r"] < 1
    assert scores["stray"] == pytest.approx(0.1 / np.sqrt(2))


def test_a_bad_start_is_compared_with_a_neutral_one(monkeypatch):
    from livepuppet.train.metrics import starts
    from livepuppet.train.metrics.reading import Performance
    from livepuppet.train.metrics.reconstruct import to_images
    from livepuppet.train.puppets.identities import FACTORS, Motion, draw_identities, generator
    from livepuppet.train.puppets.renderer import render

    torch.set_num_threads(1)
    puppet = draw_identities(1, generator(7), "rich")

    def drawn(yaw: float) -> np.ndarray:
        return to_images(render(puppet, Motion(torch.zeros(1, len(FACTORS))).replace(yaw=yaw), 256).picture)[
            0
        ]

    turn = 0.3 * np.sin(np.linspace(0, 2 * np.pi, 16))
    angles = np.stack([turn, 0 * turn, 0 * turn], 1)
    performance = Performance(
        np.stack([drawn(float(yaw)) for yaw in turn]), angles, np.zeros((16, len(INDEX)), np.float32)
    )
    begun = {"neutral": np.stack([drawn(0.0)] * 2), "turned": np.stack([drawn(0.5)] * 2)}
    found = {
        (neutral, name): row["turn"]
        for neutral, name, row in starts.start_responses(
            [starts.Started(performance, begun)], load_engine("onnx", threads=1)
        )
    }
    assert set(found) == {(one, name) for one in ("auto", "first") for name in begun}
    assert all(0.4 < one < 1.8 for one in found.values())
    assert abs(found["auto", "turned"] - found["auto", "neutral"]) < 0.1
