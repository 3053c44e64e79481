"""Webcam effects and framing: what they do to images, and what they leave alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from livepuppet.model.geometry import make_grid
from livepuppet.train import webcam as effects
from livepuppet.train.deform import Deformation, blurred_others, mirror
from livepuppet.train.webcam import compress, webcam


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def portraits(count=6, side=64):
    """A soft disc with two dark eyes on a slope of light."""
    grid = make_grid(side, side)

    def disc(x, y, radius):
        return torch.sigmoid((radius - (grid - torch.tensor([x, y])).norm(dim=-1)) * 40)

    face = 0.3 + 0.15 * grid[..., 0] + 0.4 * disc(0, 0, 0.6) - 0.5 * disc(-0.25, -0.1, 0.1)
    face = face - 0.5 * disc(0.25, -0.1, 0.1)
    return face.clamp(0, 1).expand(count, 3, -1, -1) * torch.tensor([1.0, 0.85, 0.7])[:, None, None]


class Middle(effects._RandomTable):
    """Every amount in the middle of its range."""

    def __init__(self, batch):
        super().__init__(batch, seeded(), torch.device("cpu"))
        self.there = torch.full_like(self.here, 0.6)


def sharpness(image):
    return image.diff(dim=-1).square().mean() + image.diff(dim=-2).square().mean()


def test_a_seed_means_the_same_images_and_the_given_ones_are_left_alone():
    image = portraits()
    kept = image.clone()
    first, again, other = (webcam(image, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(image, kept) and torch.equal(first, again) and not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 1 and first.isfinite().all()


def test_no_strength_is_no_effect_and_less_is_milder():
    image = portraits(32)
    assert torch.equal(webcam(image, seeded(), 0.0), image)
    mild, strong = ((webcam(image, seeded(3), s) - image).abs().mean() for s in (0.3, 1.0))
    assert 0 < mild < 0.7 * strong


def test_memory_layout_changes_nothing():
    image = webcam(portraits(), seeded(4))
    strided = portraits().contiguous(memory_format=torch.channels_last)
    assert torch.allclose(webcam(strided, seeded(4)), image, atol=1e-5)


def test_faces_can_still_be_seen():
    """Light, noise and compression together leave the eyes darker than the face around them, nearly always."""
    seen = 0
    for seed in range(8):
        shown = webcam(portraits(16), seeded(seed)).mean(1)
        eyes = torch.cat([shown[:, 27:31, 22:26].flatten(1), shown[:, 27:31, 38:42].flatten(1)], 1).mean(1)
        cheeks = torch.cat([shown[:, 36:42, 20:28].flatten(1), shown[:, 36:42, 36:44].flatten(1)], 1).mean(1)
        seen += (cheeks - eyes > 0.02).sum().item()
    assert seen > 0.9 * 8 * 16


@pytest.mark.parametrize("effect", [effects._smear, effects._soft, effects._coarse])
def test_what_blurs_blurs_and_keeps_the_light(effect):
    image = portraits(2)
    result = effect(image, Middle(2))
    assert sharpness(result) < 0.9 * sharpness(image)
    assert result.mean().item() == pytest.approx(image.mean().item(), abs=0.01)


@pytest.mark.parametrize("effect", [effects._smear, effects._soft, effects._coarse, effects._light])
def test_what_blurs_or_lights_does_not_move(effect):
    """Keypoints stay valid: a dot's centre of mass stays within a fifth of a pixel."""
    dot = torch.zeros(1, 3, 64, 64)
    dot[:, :, 28:32, 28:32] = 1
    grid = make_grid(64, 64)
    shown = effect(dot, Middle(1))[0, 0]
    centre = (shown[..., None] * grid).sum((0, 1)) / shown.sum() * 31.5 + 31.5
    assert (centre - 29.5).abs().max() < 0.2


def test_dark_is_darker_bright_clips_bands_run_across_and_corners_fall_off():
    image = portraits(1)
    assert effects._dark(image, Middle(1)).mean() < 0.8 * image.mean()
    assert effects._overexposed(image, Middle(1)).max() == 1
    gray = torch.full((1, 3, 64, 64), 0.5)
    bands = effects._bands(gray, Middle(1))
    assert bands.std(-1).max() < 1e-6 < 0.01 < bands.std(-2).max()
    shaded = effects._vignette(gray, Middle(1))
    assert shaded[0, 0, 0, 0] < shaded[0, 0, 32, 32] - 0.1
    assert effects._few_levels(image, Middle(1)).unique().numel() < 50
    lit = effects._light(gray, Middle(1))
    assert lit.max() - lit.min() > 0.1


@pytest.mark.parametrize("side", [4, 8])
def test_compression_rounds_cosines_in_blocks(side):
    noise = torch.rand(2, 3, 32, 32, generator=seeded())
    fine = compress(noise, torch.full((2, 1, 1, 1), 1e-6), side)
    assert (fine - noise).abs().max() < 0.03  # a level of 255 in each coefficient is left
    coarse = compress(noise, torch.full((2, 1, 1, 1), 3.0), side)
    assert 0.05 < (coarse - noise).abs().mean() < 0.3
    flat = torch.full((1, 3, 32, 32), 0.5)
    assert torch.allclose(compress(flat, torch.full((1, 1, 1, 1), 3.0), side), flat, atol=1e-6)
    # Whole blocks, each for itself: a change in one leaves the others.
    changed = noise.clone()
    changed[:, :, :side, :side] = 0
    difference = (compress(changed, torch.full((2, 1, 1, 1), 3.0), side) - coarse).abs().amax((0, 1))
    assert difference[:side, :side].max() > 0.1 and difference[side:].max() < 1e-5


def test_compression_keeps_brightness_better_than_colour():
    """Of the same noise more is left in gray than in blue against yellow."""
    noise = 0.1 * torch.randn(4, 1, 32, 32, generator=seeded())
    gray = 0.5 + noise.expand(-1, 3, -1, -1)
    colour = 0.5 + torch.cat([-0.114 * noise, -0.114 * noise, 0.886 * noise], 1)
    coarseness = torch.ones(4, 1, 1, 1)
    left = [(compress(image, coarseness) - 0.5).std() / image.std() for image in (gray, colour)]
    assert left[0] > 0.7 and left[1] < 0.6 * left[0]


def test_positions_of_points_in_a_deformed_image():
    change = Deformation.random(3, seeded(1), torch.zeros(1), affine=0.08, spline=0.005)
    there = 0.6 * (2 * torch.rand(3, 5, 2, generator=seeded(2)) - 1)
    assert torch.allclose(change.sources(change.points(there)), there, atol=2e-3)
    still = Deformation(torch.eye(2, 3).expand(1, 2, 3))
    points = torch.tensor([[[0.0, 0.9], [1.2, 0.0]]])
    assert still.inside(points)[0, :, 0].tolist() == [1, 0]


def test_bad_framing_is_as_rare_as_wanted_and_makes_faces_small_large_and_cut():
    good = Deformation.framing(400, seeded(0), torch.zeros(1), bad=0.0)
    scale = torch.linalg.det(good.affine[:, :, :2]).sqrt()
    assert scale.max() <= math.exp(0.25) + 1e-4 and good.affine[:, :, 2].abs().max() <= 0.15
    bad = Deformation.framing(400, seeded(0), torch.zeros(1), bad=1.0)
    scale = torch.linalg.det(bad.affine[:, :, :2]).sqrt()
    # The map's scale: above 1 faces are small, below 1 they are large.
    assert (scale > 1.2).float().mean() > 0.25 and (scale < 0.8).float().mean() > 0.2
    chin = torch.tensor([[[0.0, 0.75]]]).expand(400, 1, 2)
    assert 0.1 < (1 - bad.inside(chin)).mean() < 0.5 and good.inside(chin).mean() > 0.95
    some = Deformation.framing(400, seeded(0), torch.zeros(1), bad=0.25)
    scale = torch.linalg.det(some.affine[:, :, :2]).sqrt()
    assert 0.05 < ((scale > 1.3) | (scale < 0.77)).float().mean() < 0.25


def test_something_else_may_be_seen_beyond_the_edge():
    image, behind = torch.ones(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    smaller = Deformation(torch.tensor([[[2.0, 0, 0], [0, 2.0, 0]]]))
    shown = smaller.warp_image(image, behind)[0, 0]
    assert shown[16, 16] == 1 and shown[2, 2] == 0 and 0.2 < shown.mean() < 0.3
    assert smaller.warp_image(image)[0, 0].min() == 1  # mirrored
    others = blurred_others(portraits(3) * torch.tensor([1.0, 0.5, 0.2])[:, None, None, None])
    assert others.shape == (3, 3, 64, 64) and sharpness(others) < 0.3 * sharpness(portraits(3))
    assert others[0].mean() < 0.5 * others[1].mean()


def test_a_mirror_swaps_partners():
    points = torch.tensor([[[0.2, 0.1], [-0.3, 0.4]]])
    jacobians = torch.tensor([[[1.0, 0.2], [0.3, 1.0]]]).expand(1, 2, 2, 2)
    image, flipped, turned = mirror(portraits(1), points, jacobians, [1, 0])
    assert torch.equal(image, portraits(1).flip(-1))
    assert torch.allclose(flipped, torch.tensor([[[0.3, 0.4], [-0.2, 0.1]]]))
    assert torch.allclose(turned[0, 0], torch.tensor([[1.0, -0.2], [-0.3, 1.0]]))
    assert F.mse_loss(image.flip(-1), portraits(1)) == 0
