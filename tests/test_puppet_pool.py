"""Pools of puppets on disk: what a shard says of itself, and what is refused."""

import functools

import numpy as np
import pytest
import torch

from livepuppet.train.puppets import pool
from livepuppet.train.puppets.identities import Motion, draw_identities, generator
from livepuppet.train.puppets.pairs import geometry
from livepuppet.train.puppets.pool import PoolError, PuppetPool, read_stamp
from livepuppet.train.puppets.rig import landmarks

SIZE = 32

draw_shard = functools.partial(pool.draw_shard, setting="plain")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(pool, "GROUPS", 2)


def rewrite(path, **changes):
    """The same shard with some arrays changed; None leaves one out."""
    with np.load(path) as shard:
        arrays = {name: shard[name] for name in shard.files} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_a_shard_says_what_it_was_drawn_with(tmp_path):
    path = draw_shard(tmp_path, 1000, SIZE, coarse=16)
    stamp = read_stamp(path)
    assert (stamp.setting, stamp.size, stamp.coarse) == ("plain", SIZE, 16)
    pairs = PuppetPool(tmp_path).pairs(3, generator(0))
    assert pairs.source.shape == (3, 3, SIZE, SIZE) and pairs.flow.shape == (3, 16, 16, 2)
    assert draw_shard(tmp_path, 1000, SIZE, coarse=16) == path


def test_another_size_in_the_same_place_is_refused(tmp_path):
    draw_shard(tmp_path, 1000, SIZE)
    with pytest.raises(PoolError, match="give another folder"):
        draw_shard(tmp_path, 1000, 2 * SIZE)
    draw_shard(tmp_path, 1001, 16)
    with pytest.raises(PoolError, match="different folders"):
        PuppetPool(tmp_path)


def test_another_setting_is_refused(tmp_path):
    draw_shard(tmp_path, 1000, SIZE)
    with pytest.raises(PoolError, match=r"setting plain, and rich are wanted"):
        PuppetPool(tmp_path, setting="rich")


def test_a_shard_of_another_renderer_is_refused_unless_its_puppets_never_change(tmp_path):
    path = draw_shard(tmp_path, 1000, SIZE)
    rewrite(path, renderer=np.array(-1))
    assert len(PuppetPool(tmp_path)) == 8
    rewrite(path, setting=np.array("rich"))  # of rich puppets only the version that drew them knows them
    with pytest.raises(PoolError, match=r"version -1 of the puppet renderer .* delete that folder"):
        PuppetPool(tmp_path)


def test_a_shard_from_before_there_were_stamps_is_plain(tmp_path):
    path = draw_shard(tmp_path, 1000, SIZE)
    new = PuppetPool(tmp_path).pairs(4, generator(3))
    with np.load(path) as shard:
        own = {name: None for name in shard.files if name.startswith("identity.")}
    rewrite(path, setting=None, renderer=None, **own)
    assert read_stamp(path).setting == "plain"
    old = PuppetPool(tmp_path).pairs(4, generator(3))
    assert torch.equal(old.flow, new.flow) and torch.equal(old.source_points, new.source_points)


def test_truth_comes_with_the_shard_and_not_from_drawing_identities_again(tmp_path, monkeypatch):
    draw_shard(tmp_path, 1000, SIZE)
    drawn = draw_identities(2, generator(1000))
    monkeypatch.setattr(pool, "draw_identities", lambda *_: draw_identities(2, generator(5), "plain"))
    held = PuppetPool(tmp_path)
    assert torch.equal(held.shards[0].identities.eye_x, drawn.eye_x)
    motions = torch.from_numpy(held.shards[0].arrays["motions"])
    points, _ = landmarks(drawn[torch.arange(2).repeat_interleave(4)], Motion(motions))
    assert np.allclose(held.shards[0].arrays["points"], points.numpy())


def test_geometry_leaves_textures_out_and_keypoints_as_they_are():
    identity = draw_identities(3, generator(0))
    small = geometry(identity)
    assert "texture" not in small.fields and "light" in small.fields
    motion = Motion(torch.zeros(3, 15))
    assert torch.equal(landmarks(small, motion)[0], landmarks(identity, motion)[0])


def test_a_damaged_shard_is_refused_in_a_sentence_and_later_ones_are_left_out(tmp_path):
    draw_shard(tmp_path, 1000, SIZE)
    held = PuppetPool(tmp_path)
    bad = tmp_path / "puppets-00001001.npz"
    bad.write_bytes((tmp_path / "puppets-00001000.npz").read_bytes()[:5000])
    with pytest.warns(UserWarning, match="left out"):
        assert held.refresh() == 8
    held.refresh()  # said once
    with pytest.raises(PoolError, match="damaged or no shard"):
        PuppetPool(tmp_path)


def test_nothing_is_left_of_a_shard_that_could_not_be_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pool, "_write", full)
    with pytest.raises(OSError, match="No space"):
        draw_shard(tmp_path, 1000, SIZE)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_with_the_commands_own_argument(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from livepuppet.train.cli.puppets import puppets

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pool, "_write", full)
    result = CliRunner().invoke(puppets, ["pool", str(tmp_path), "--shards", "1", "--size", "32"])
    assert result.exit_code
    assert "or give another FOLDER." in result.output and "--output" not in result.output


def test_pairs_are_of_one_identity_and_some_are_still(tmp_path):
    draw_shard(tmp_path, 1000, SIZE)
    held = PuppetPool(tmp_path)
    pairs = held.pairs(64, generator(2), still=0.5)
    still = (pairs.source_motion.values == pairs.driving_motion.values).all(1)
    assert 15 < still.sum() < 50
    assert torch.equal(pairs.source[still], pairs.driving[still])
    expected = landmarks(pairs.identity, pairs.driving_motion)
    assert torch.allclose(pairs.driving_points, expected[0], atol=1e-6)
    assert torch.allclose(pairs.driving_jacobians, expected[1], atol=1e-5)


def test_training_draws_rich_puppets_unless_told_otherwise(tmp_path):
    path = pool.draw_shard(tmp_path, 1000, 16)
    assert (read_stamp(path).setting, read_stamp(path).renderer) == ("rich", pool.RENDERER)
    assert PuppetPool(tmp_path).setting == "rich"


def test_a_mixture_draws_from_its_pools_by_their_shares(tmp_path):
    from livepuppet.train.puppets.mixture import Mixture

    pools = []
    for k, setting in enumerate(("plain", "rich")):
        # Pictures of two sides are brought to the smaller one.
        draw_shard(tmp_path / setting, 1000 + k, SIZE * (k + 1), SIZE // 4, setting=setting)
        pools.append(PuppetPool(tmp_path / setting))
    mixed = Mixture(pools, [3, 1])
    assert len(mixed) == len(pools[0]) + len(pools[1])
    pairs = mixed.pairs(32, generator(3))
    assert pairs.source.shape[0] == pairs.flow.shape[0] == len(pairs.source_motion) == 32
    assert len(pairs.others) == 4 and pairs.others[0].shape == pairs.source_points.shape
    assert sum(mixed._counts(400, generator(4))[:1]) in range(260, 340)
    assert mixed.pictures_with_truth(5, generator(5))[1].shape[0] == 5
    with pytest.raises(ValueError, match="one positive share"):
        Mixture(pools, [1])
