"""What was asked of onnxruntime is what runs: it falls back to the processor without an error, we do not."""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.core.errors import UserError
from livepuppet.realtime.engines import OnnxEngine, load_engine, onnx


class FakeSession:
    """A session as onnxruntime makes it where a provider cannot start: without it, without an error."""

    def __init__(self, path, options, providers):
        self.asked = [provider if isinstance(provider, str) else provider[0] for provider in providers]

    def get_providers(self):
        return ["CPUExecutionProvider"]


class Part:
    def __init__(self, ep_name, nodes):
        self.ep_name, self._nodes = ep_name, nodes

    def get_nodes(self):
        return [None] * self._nodes


class Shared:
    """A session whose operators were shared out among two providers."""

    def get_provider_graph_assignment_info(self):
        return [
            Part("CUDAExecutionProvider", 290),
            Part("CPUExecutionProvider", 8),
            Part("CUDAExecutionProvider", 2),
        ]


@pytest.mark.parametrize("device", [name for name in onnx.PROVIDERS if name != "cpu"])
def test_a_provider_that_is_not_installed(tiny_bundle, monkeypatch, device):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="pip install") as caught:
        load_engine("onnx", tiny_bundle / "bundle", device=device)
    assert onnx.PROVIDERS[device][0] in str(caught.value) and "\n" not in str(caught.value)


def test_a_provider_that_does_not_start(tiny_bundle, monkeypatch):
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr("onnxruntime.InferenceSession", FakeSession)
    with pytest.raises(UserError, match="could not start it"):
        load_engine("onnx", tiny_bundle / "bundle", device="cuda")


def test_a_device_that_nobody_knows(tiny_bundle):
    with pytest.raises(UserError, match="no device called 'quantum'"):
        load_engine("onnx", tiny_bundle / "bundle", device="quantum")


def test_operators_that_the_processor_took_over_are_said():
    assert onnx._active_provider(Shared()) == (
        "CUDAExecutionProvider (292 of 300 operators), CPUExecutionProvider (8 of 300 operators)"
    )


def test_features_stay_in_the_devices_memory(tiny_bundle):
    """The way of cards, on the processor: the same results, and features that are no arrays."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    engines = [OnnxEngine(tiny_bundle / "bundle", threads=1) for _ in range(2)]
    engines[1]._memory = "cpu"
    drawn = []
    for engine in engines:
        features = engine.encode(pictures[0])
        own, moved = engine.detect(pictures[0]), engine.detect(pictures[1])
        drawn.append((*engine.render_deformation(features, own, moved), moved.points))
    assert not isinstance(next(iter(features.values())), np.ndarray)
    for first, second in zip(*drawn, strict=True):
        assert (first == second).all()
