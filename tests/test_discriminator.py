"""model/discriminator.py."""

import pytest
import torch

from livepuppet.model.discriminator import Discriminator, DiscriminatorConfig


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(
    "config",
    [
        DiscriminatorConfig(expansion=4, maximum=16),
        DiscriminatorConfig(expansion=4, maximum=16, spectral_norm=True),
        DiscriminatorConfig.monkeynet(expansion=4, maximum=16),
    ],
)
def test_maps(config, size):
    image = torch.rand(2, 3, size, size)
    maps, prediction = Discriminator(config)(image)
    assert prediction.shape == (2, 1, config.side(size), config.side(size))
    assert len(maps) == config.blocks + config.image_first
    if config.image_first:
        assert maps[0] is image
        assert [m.shape[-1] for m in maps] == [size // 2**k for k in range(5)]
    assert [m.shape[1] for m in maps[-4:]] == [8, 16, 16, 16]


def test_published_layout():
    """Names aside, the tensors of the published discriminator: unpadded 4x4, no norm first, a 1x1 head."""
    network = Discriminator(DiscriminatorConfig(heatmaps=10))
    shapes = [tuple(value.shape) for value in network.parameters() if value.dim() == 4]
    assert shapes == [(64, 13, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 1, 1)]
    assert [block.norm is None for block in network.blocks] == [True, False, False, False]
    assert [block.pool for block in network.blocks] == [True, True, True, False]
    # 256 -> 253 -> 126 -> 123 -> 61 -> 58 -> 29 -> 26
    assert network.config.side(256) == 26


def test_a_patch_is_all_it_sees():
    """A pixel changes only the predictions of the patches around it (no norm looks further: one block)."""
    network = Discriminator(DiscriminatorConfig(expansion=4, blocks=1))
    image = torch.rand(1, 3, 32, 32)
    changed = image.clone()
    changed[..., 0, 0] = 1 - changed[..., 0, 0]
    difference = (network(image)[1] - network(changed)[1]).abs() > 0
    assert difference[..., 0, 0].all()
    assert difference.sum() == 1


def test_spectral_norm_bounds_every_convolution():
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(expansion=4, maximum=16, spectral_norm=True)).train()
    with torch.no_grad():
        for block in network.blocks:
            block.conv.parametrizations.weight.original.mul_(7)
    # Each pass brings the power iteration one step nearer.
    for _ in range(100):
        network(torch.rand(1, 3, 64, 64))
    network.eval()
    for convolution in [*(block.conv for block in network.blocks), network.head]:
        largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.05)


def test_sentences():
    with pytest.raises(ValueError, match="does not fit on images of 32 pixels: give it fewer blocks"):
        Discriminator(DiscriminatorConfig())(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="sees 4 heat-maps, 0 were given"):
        Discriminator(DiscriminatorConfig(heatmaps=4))(torch.rand(1, 3, 64, 64))


def test_every_size_that_is_promised_works():
    for blocks in (1, 2, 3, 4):
        for base in (DiscriminatorConfig(), DiscriminatorConfig.monkeynet()):
            config = DiscriminatorConfig(
                expansion=2,
                maximum=4,
                blocks=blocks,
                padded=base.padded,
                pool_last=base.pool_last,
                image_first=base.image_first,
            )
            fitting = 0
            for size in (4, 7, 10, 13, 18, 22, 28, 31, 37, 46, 49, 53, 61, 64, 71):
                try:
                    side = config.side(size)
                except ValueError:
                    assert not fitting, "larger images fit where smaller ones do"
                    continue
                fitting += 1
                assert Discriminator(config)(torch.rand(1, 3, size, size))[1].shape[-1] == side
            assert fitting
