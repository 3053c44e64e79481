"""Puppets drawn while training: the ring, and how it is continued."""

import pytest
import torch

from livepuppet.train.puppets.identities import generator
from livepuppet.train.puppets.pool import PoolError
from livepuppet.train.puppets.renderer import Rendering, render, true_flow
from livepuppet.train.puppets.rig import landmarks
from livepuppet.train.puppets.stream import PuppetStream


def small(**settings) -> PuppetStream:
    settings = {
        "size": 16,
        "coarse": 16,
        "seed": 3,
        "hold": 4,
        "fresh": 2,
        "every": 2,
        "poses": 2,
        **settings,
    }
    return PuppetStream("cpu", **settings)


def look(stream, step):
    stream.refresh_sometimes(generator(step))
    return stream.pairs(6, generator(step))


def same(first, second) -> bool:
    names = ("source", "driving", "flow", "visible", "source_points", "driving_jacobians")
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_a_stream_follows_from_its_seed():
    assert same(look(small(), 0), look(small(), 0))
    assert not same(look(small(), 0), look(small(seed=4), 0))


def test_the_oldest_groups_make_room_for_fresh_ones():
    stream = small()
    look(stream, 0)
    first = stream._rows("pictures", torch.arange(8))
    look(stream, 1)
    assert torch.equal(stream._rows("pictures", torch.arange(8)), first) and stream.clock.count == 8
    look(stream, 2)
    now = stream._rows("pictures", torch.arange(8))
    assert not torch.equal(now[:4], first[:4]) and torch.equal(now[4:], first[4:])
    assert stream.clock.count == 12 and len(stream) == 8


@pytest.mark.parametrize("stopped", [1, 4])
def test_a_stream_that_goes_on_holds_what_an_undisturbed_one_does(stopped):
    whole = small()
    for step in range(stopped):
        look(whole, step)
    again = small()
    again.load_state(whole.state())
    for step in range(stopped, stopped + 3):
        assert same(look(whole, step), look(again, step))


def test_another_stream_does_not_go_on():
    with pytest.raises(PoolError, match="with seed 3, and this one has 4: resume it with the same"):
        small(seed=4).load_state(small().state())


def test_pairs_carry_the_exact_truth():
    stream = small(size=32, coarse=32, poses=3, hold=2)
    stream.refresh_sometimes(generator(0))
    pairs = stream.pairs(5, generator(1), still=0.3)
    points, jacobians = landmarks(pairs.identity, pairs.driving_motion)
    assert torch.allclose(pairs.driving_points, points, atol=1e-5)
    assert torch.allclose(pairs.driving_jacobians, jacobians, atol=1e-5)
    # The ring keeps 8 and 16 bits; beside that the flow is the renderer's own.
    flat, names = stream._numbers(0)
    assert flat.shape[0] == 2 and dict(names)[""] == (3, 15)
    identities, motions = stream._drawn(0)
    seen = [render(identities[:1], motions[k : k + 1], 32) for k in range(2)]
    ring = [
        Rendering(
            None,
            stream._rows("surfaces", torch.tensor([k])).float(),
            stream._rows("layers", torch.tensor([k])).long(),
            None,
            None,
        )
        for k in range(2)
    ]
    exact = true_flow(identities[:1], seen[1], motions[:1], seen[0])
    kept = true_flow(identities[:1], ring[1], motions[:1], ring[0])
    assert (exact[0] - kept[0]).abs().max() < 0.01
    pictures = stream._pictures(torch.tensor([0, 1]))
    assert (pictures - torch.cat([one.picture for one in seen])).abs().max() < 0.501 / 255


def test_positions_stay_exact_where_the_training_around_runs_in_16_bits():
    with torch.autocast("cpu", torch.bfloat16):
        half = look(small(), 0)
    assert same(half, look(small(), 0))


def test_a_ring_takes_whole_batches_alone():
    with pytest.raises(ValueError, match="whole number of batches"):
        small(hold=5)


def test_a_renderer_that_cannot_be_compiled_works_as_it_is(monkeypatch):
    def cannot(*_, **__):
        def fails(*_):
            raise RuntimeError("no compiler here")

        return fails

    monkeypatch.setattr(torch, "compile", cannot)
    stream = small(compiled=True)
    with pytest.warns(UserWarning, match=r"could not be compiled \(no compiler here\)"):
        pairs = look(stream, 0)
    assert same(pairs, look(small(), 0))


def test_it_says_how_fast_it_draws():
    stream = small()
    look(stream, 0)
    said = stream.speed()
    assert said["drawn"] == 8 and said["drawing s"] > 0
    assert said["drawn/s"] == pytest.approx(8 / said["drawing s"])
