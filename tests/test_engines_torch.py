"""The torch engine: static buffers, batches of people, 16 bits that leave positions alone, nothing that waits for the card."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_model import small_model
from torch.utils._python_dispatch import TorchDispatchMode

from livepuppet.core.errors import UserError
from livepuppet.export.parity import sample_pictures
from livepuppet.model.checkpoint import load, save
from livepuppet.realtime.engines import TorchEngine, load_engine, pytorch
from livepuppet.realtime.engines.graphed_callables import GraphedCallable, Stream, batch_buffers
from livepuppet.realtime.engines.pytorch import keep_weights_in, unavailable_reason

KINDS = ("fomm", "monkeynet", "lite")


@pytest.fixture(scope="module")
def weights(tiny_bundle, monkey_bundle, tmp_path_factory):
    """Files of weights, by kind of network."""
    torch.set_num_threads(1)
    lite = tmp_path_factory.mktemp("lite") / "weights.safetensors"
    save(small_model().eval(), lite)
    return {
        "fomm": tiny_bundle / "weights.safetensors",
        "monkeynet": monkey_bundle / "weights.safetensors",
        "lite": lite,
    }


@pytest.fixture
def with_bfloat16(monkeypatch):
    """A processor that has the instructions, or passes for one: PyTorch computes the same without them, slowly."""
    monkeypatch.setattr(pytorch, "_processor_has_bfloat16", lambda: True)


PICTURES = sample_pictures(64, 3)


def _drawn(engine):
    """Each picture as an avatar, moved as the next one: keypoints and drawings."""
    keypoints = [engine.detect(picture) for picture in PICTURES]
    features = [engine.encode(picture) for picture in PICTURES]
    moved = keypoints[1:] + keypoints[:1]
    return (
        keypoints,
        features,
        moved,
        [engine.render(*one) for one in zip(features, keypoints, moved, strict=True)],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_fast_path_draws_what_the_plain_one_draws(weights, kind):
    fast = TorchEngine(weights[kind], device="cpu")
    plain = TorchEngine(weights[kind], device="cpu", plain=True)
    assert (fast.provider, plain.provider) == ("PyTorch cpu", "PyTorch cpu plain")
    assert fast.precision == plain.precision == "float32"
    mine, theirs = _drawn(fast), _drawn(plain)
    for a, b in zip(mine[0], theirs[0], strict=True):
        assert np.abs(a.points - b.points).max() < 1e-4
        assert np.abs(a.jacobians - b.jacobians).max() < 1e-4
        assert np.abs(a.confidence - b.confidence).max() < 1e-4
        assert a.points.shape == (fast.num_keypoints, 2) and a.points.dtype == np.float32
    for a, b in zip(mine[3], theirs[3], strict=True):
        assert a.dtype == np.uint8 and a.shape == (64, 64, 3)
        assert np.abs(a.astype(int) - b).max() <= 1 and b.std() > 5


@pytest.mark.parametrize("plain", [False, True])
def test_a_batch_of_people_is_what_each_gets_alone(weights, plain):
    engine = TorchEngine(weights["fomm"], device="cpu", plain=plain)
    keypoints, features, moved, alone = _drawn(engine)
    together = engine.detect_many(np.stack(PICTURES))
    for a, b in zip(together, keypoints, strict=True):
        assert np.abs(a.points - b.points).max() < 1e-4 and np.abs(a.jacobians - b.jacobians).max() < 1e-4
        assert np.abs(a.confidence - b.confidence).max() < 1e-4
    batch = engine.render_many(features, keypoints, moved)
    assert batch.shape == (3, 64, 64, 3) and batch.dtype == np.uint8
    assert np.abs(batch.astype(int) - np.stack(alone)).max() <= 1
    # People change places, and one of them leaves.
    order = [2, 0]
    fewer = engine.render_many(*([values[i] for i in order] for values in (features, keypoints, moved)))
    again = engine.render_many(*(values[::-1] for values in (features, keypoints, moved)))
    assert np.abs(fewer.astype(int) - np.stack(alone)[order]).max() <= 1
    assert np.abs(again.astype(int) - np.stack(alone)[::-1]).max() <= 1
    with pytest.raises(ValueError, match="2 avatars' features and 3"):
        engine.render_many(features[:2], keypoints, moved)
    with pytest.raises(ValueError, match="RGB uint8"):
        engine.detect_many(np.zeros((2, 32, 32, 3), np.uint8))


def test_buffers_stay_where_they_are_and_results_belong_to_the_caller(weights):
    engine = TorchEngine(weights["lite"], device="cpu")
    keypoints, features, moved, drawn = _drawn(engine)
    call = engine._render_calls[1]
    places = [buffer.data_ptr() for buffer in (*call.held, *call._given, *call._outputs, *call._returned)]
    kept = drawn[0].copy()
    other = engine.render(features[1], keypoints[1], moved[1])
    assert np.array_equal(drawn[0], kept) and not np.array_equal(drawn[0], other)
    drawn[0][:] = 0
    assert np.array_equal(engine.render(features[0], keypoints[0], moved[0]), kept)
    assert engine._render_calls == {1: call}
    assert places == [
        buffer.data_ptr() for buffer in (*call.held, *call._given, *call._outputs, *call._returned)
    ]


def test_an_avatar_is_copied_once_not_with_every_frame(weights):
    engine = TorchEngine(weights["lite"], device="cpu")
    keypoints, features, moved, _ = _drawn(engine)
    engine.render(features[0], keypoints[0], moved[0])
    with torch.inference_mode():
        for buffer in engine._render_calls[1].held:
            buffer.zero_()  # whoever copied the features anew with every frame would put this right
    black = engine.render(features[0], keypoints[0], moved[0])
    engine.render(features[1], keypoints[1], moved[1])
    right = engine.render(features[0], keypoints[0], moved[0])
    assert black.std() < 1 and right.std() > 5


class _Seen(TorchDispatchMode):
    """Remembers the grids and softmax inputs that PyTorch computes with, behind autocast."""

    def __init__(self):
        super().__init__()
        self.grids, self.weights = [], []

    def __torch_dispatch__(self, function, kinds, arguments=(), settings=None):
        name = function._schema.name
        if "grid_sampler" in name:
            self.grids.append(arguments[1])
        if name.endswith("softmax"):
            self.weights.append(arguments[0])
        return function(*arguments, **(settings or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_16_bits_leave_positions_alone(weights, kind, with_bfloat16):
    engine = TorchEngine(weights[kind], device="cpu", precision="bfloat16")
    assert engine.provider == "PyTorch cpu bfloat16"
    plain = TorchEngine(weights[kind], device="cpu", plain=True)
    _drawn(engine)  # buffers are made with empty pictures, whose grids are the identity
    with _Seen() as seen:
        _, _, _, drawn = _drawn(engine)
    assert seen.grids and seen.weights
    for value in seen.grids + seen.weights:
        assert value.dtype == torch.float32
    for grid in seen.grids:
        # Numbers that had been through 16 bits would all survive another time.
        assert (grid == grid.bfloat16().float()).float().mean() < 0.5
    # The whole detector computes in 32 bits.
    for picture in PICTURES:
        assert np.abs(engine.detect(picture).points - plain.detect(picture).points).max() < 1e-4
    # ... and the rest does not, or none of this would prove anything.
    kinds = {module.weight.dtype for module in engine._model.modules() if isinstance(module, torch.nn.Conv2d)}
    assert kinds == {torch.float32, torch.bfloat16}
    for a, b in zip(drawn, _drawn(plain)[3], strict=True):
        assert np.abs(a.astype(int) - b).mean() < 3


@pytest.mark.parametrize("kind", KINDS)
def test_weights_kept_in_16_bits_give_autocasts_own_numbers(weights, kind):
    frames = torch.from_numpy(np.stack(PICTURES[:1])).permute(0, 3, 1, 2).float() / 255
    drawn = []
    for kept in (False, True):
        model = load(weights[kind])
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            if kept:
                keep_weights_in(torch, model, torch.device("cpu"), torch.bfloat16)
            points, matrices, _ = model.detect_with_confidence(frames)
            drawn.append(model.render(model.encode(frames), points, matrices, points + 0.1, matrices))
    assert torch.equal(drawn[0]["prediction"], drawn[1]["prediction"])
    assert torch.equal(drawn[0]["deformation"], drawn[1]["deformation"])


class _NoWaiting(TorchDispatchMode):
    """Fails where a card would have to be waited for, or something be copied to it, in the middle of a call.

    Args:
        known: what is on the card before. Whatever else operators take and none gave was made of Python's numbers: an
            index by a list, say.
    """

    def __init__(self, known):
        super().__init__()
        self._known = {id(value): value for value in known}

    def __torch_dispatch__(self, function, kinds, arguments=(), settings=None):
        name = function._schema.name
        for value in torch.utils._pytree.tree_leaves(arguments):
            if isinstance(value, torch.Tensor) and id(value) not in self._known:
                raise AssertionError(f"{name} takes a tensor made of Python's numbers")
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"):
            raise AssertionError(f"{name} waits for the card")
        result = function(*arguments, **(settings or {}))
        self._known.update((id(value), value) for value in torch.utils._pytree.tree_leaves(result))
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_no_call_waits_for_the_card(weights, kind, monkeypatch):
    """On the device "meta", which has shapes and no values: whatever asks for a value fails there by itself."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)  # it knows no such device
    model = load(weights[kind]).to("meta")
    count = model.preset.num_keypoints
    frames = torch.empty(2, 3, 64, 64, device="meta")
    numbers = [torch.empty(2, count, *rest, device="meta") for rest in ((2,), (2, 2), (2,), (2, 2))]
    known = [frames, *numbers, *model.parameters(), *model.buffers()]
    with torch.inference_mode(), _NoWaiting(known):
        points, _, _ = model.detect_with_confidence(frames)
        drawn = model.render(model.encode(frames), *numbers)
    assert points.shape == (2, count, 2) and drawn["prediction"].shape == (2, 3, 64, 64)


@pytest.mark.parametrize(
    "waits",
    [
        lambda points: points[:, [0, 1]],
        lambda points: points + torch.tensor([1.0, 2.0], device="meta"),
        lambda points: points[points > 0],
        lambda points: points.sum().item(),
    ],
    ids=["list", "constant", "mask", "value"],
)
def test_what_waits_for_the_card_is_seen(waits):
    points = torch.empty(3, 2, 2, device="meta")
    with pytest.raises((AssertionError, RuntimeError)), _NoWaiting([points]):
        waits(points)
    with _NoWaiting([points]):
        assert (points.index_select(1, torch.zeros_like(points[0, :, 0], dtype=torch.int64)) * 2).shape == (
            3,
            2,
            2,
        )


# --- static calls ---


class _Graph:
    """A recording that is replayed by calling the function, into the buffers of the recording."""

    def __init__(self, call):
        self._call, self.replays = call, 0

    def replay(self):
        self.replays += 1
        for buffer, value in zip(self._call._outputs, self._call._call(), strict=True):
            buffer.copy_(value)


def test_a_static_call_writes_and_reads_the_same_buffers():
    stream = Stream(torch.device("cpu"))
    held = torch.full((2,), 3.0)
    call = GraphedCallable(lambda given, kept: (given + kept, given * kept), [torch.zeros(2)], [held], stream)
    call._graph = _Graph(call)
    first = call.run(np.float32([1, 2]))
    second = call.run(np.float32([5, 6]), wanted=1)
    assert [value.tolist() for value in first] == [[4, 5], [3, 6]], "own arrays, not the buffers"
    assert len(second) == 1 and second[0].tolist() == [8, 9]
    call.held[0].fill_(10)
    assert call.run(np.float32([1, 2]))[0].tolist() == [11, 12] and call._graph.replays == 3
    assert held.tolist() == [3, 3], "examples are not the buffers"


def test_batch_buffers_keep_a_features_layout():
    plain, last = torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 4, 4).to(memory_format=torch.channels_last)
    assert batch_buffers(plain, 3).is_contiguous() and batch_buffers(plain, 3).shape == (3, 8, 4, 4)
    assert batch_buffers(last, 3).is_contiguous(memory_format=torch.channels_last)
    assert batch_buffers(torch.zeros(1, 5, dtype=torch.float16), 2).dtype == torch.float16


# --- what is asked for and is not there ---


def test_precisions_that_are_not_to_be_had(weights, monkeypatch):
    monkeypatch.setattr(pytorch, "_processor_has_bfloat16", lambda: False)
    with pytest.raises(UserError, match=r"no instructions for bfloat16.*--precision float32"):
        load_engine("torch", weights["fomm"], device="cpu", precision="bfloat16")
    with pytest.raises(UserError, match="--precision float32, bfloat16"):
        TorchEngine(weights["fomm"], device="cpu", precision="float16")
    with pytest.raises(UserError, match="int8"):
        TorchEngine(weights["fomm"], device="cpu", precision="int8")
    with pytest.raises(ValueError, match="plain is float32"):
        TorchEngine(weights["fomm"], device="cpu", precision="bfloat16", plain=True)


def test_cards_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert unavailable_reason("cuda:1", "float16") is None and unavailable_reason("cuda", "float32") is None
    assert "finds 2 CUDA cards" in unavailable_reason("cuda:2", "float16")
    assert "--precision float16" in unavailable_reason("cuda", "bfloat16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device 'cuda:1'" in unavailable_reason("cuda:1", "float16")


def test_compiling_is_done_when_asked_for(weights, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **settings: asked.append(settings) or function)
    engine = TorchEngine(weights["lite"], device="cpu", compile=True)
    assert asked == [{"fullgraph": True, "dynamic": False}] * 2 and engine.provider.endswith("compiled")
    engine.detect(PICTURES[0])
    TorchEngine(weights["lite"], device="cpu")
    assert len(asked) == 2


# --- a card ---


def test_cuda_graphs_draw_what_the_processor_draws(weights):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA card")
    plain = TorchEngine(weights["fomm"], device="cpu", plain=True)
    for precision, levels in (("float32", 2), ("float16", 8)):
        engine = TorchEngine(weights["fomm"], device="cuda", precision=precision)
        expected = _drawn(plain)
        found = _drawn(engine)
        for mine, theirs in zip(found[3], expected[3], strict=True):
            assert np.abs(mine.astype(int) - theirs).max() <= levels
        batch = engine.render_many(*found[1:2], *found[0:1], *found[2:3])
        assert np.abs(batch.astype(int) - np.stack(found[3])).max() <= 1
