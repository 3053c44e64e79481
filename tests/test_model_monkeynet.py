"""Monkey-Net: covariances of heat-maps, flow from movements, the three calls, the ablations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from livepuppet.model import checkpoint
from livepuppet.model.geometry import (
    covariance_heatmaps,
    make_grid,
    resize_grid,
    soft_argmax,
    soft_covariance,
)
from livepuppet.model.monkeynet import MonkeyNet, MonkeyNetConfig
from livepuppet.model.presets import PRESETS, Preset, build

SMALL = MonkeyNetConfig(
    size=32,
    num_keypoints=3,
    detector_expansion=4,
    detector_maximum=8,
    detector_blocks=2,
    detector_reduction=1,
    motion_expansion=4,
    motion_maximum=8,
    motion_blocks=2,
    motion_reduction=2,
    generator_expansion=4,
    generator_maximum=8,
    generator_blocks=3,
    refinement_blocks=1,
)


def small(**changes) -> MonkeyNet:
    torch.manual_seed(0)
    config = replace(SMALL, **changes)
    model = MonkeyNet(config).eval()
    model.preset = Preset("small", config.size, config.num_keypoints, config)
    return model


def frames(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_a_gaussian_becomes_a_heatmap_and_comes_back():
    points = torch.tensor([[[0.2, -0.1], [-0.3, 0.25]]])
    covariances = torch.tensor([[[[0.02, 0.01], [0.01, 0.03]], [[0.015, -0.004], [-0.004, 0.01]]]])
    grid = make_grid(128, 128)
    heat = covariance_heatmaps(points, covariances, grid)
    assert heat.amax() <= 1 and heat.amax() > 0.99
    heat = heat / heat.sum((2, 3), keepdim=True)
    mean = soft_argmax(heat, grid)
    torch.testing.assert_close(mean, points, atol=1e-4, rtol=0)
    torch.testing.assert_close(soft_covariance(heat, mean, grid), covariances, atol=2e-4, rtol=0)


def test_the_form_of_the_gaussian_is_that_of_the_paper():
    """exp(-1/2 (z - p)^T Sigma^-1 (z - p)), written with NumPy's inverse."""
    sigma = np.array([[0.02, 0.01], [0.01, 0.03]])
    grid = make_grid(9, 7)
    z = grid.numpy().astype(np.float64) - np.array([0.1, -0.2])
    truth = np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", z, np.linalg.inv(sigma), z))
    found = covariance_heatmaps(
        torch.tensor([[[0.1, -0.2]]]), torch.tensor(sigma, dtype=torch.float32)[None, None], grid
    )
    np.testing.assert_allclose(found[0, 0], truth, atol=1e-5)


def test_a_heatmap_of_one_pixel_is_a_small_disc_and_can_be_learned_from():
    grid = make_grid(16, 16)
    heat = torch.zeros(1, 1, 16, 16)
    heat[..., 5, 9] = 1
    heat.requires_grad_()
    found = soft_covariance(heat, soft_argmax(heat, grid), grid, smallest=0.001)
    torch.testing.assert_close(found[0, 0], 0.001 * torch.eye(2), atol=1e-5, rtol=0)
    found.sum().backward()
    assert torch.isfinite(heat.grad).all()


def test_a_resized_identity_is_the_identity():
    grid = make_grid(8, 8)[None]
    torch.testing.assert_close(resize_grid(grid, 32, 32)[0], make_grid(32, 32))
    torch.testing.assert_close(resize_grid(grid, 4, 4)[0], make_grid(4, 4))


def test_the_three_calls_and_their_shapes():
    model, images = small(), frames()
    points, covariances = model.detect(images)
    assert points.shape == (2, 3, 2) and covariances.shape == (2, 3, 2, 2)
    assert (torch.linalg.eigvalsh(covariances) > 0.99 * SMALL.smallest_variance).all()
    confidence = model.detect_with_confidence(images)[2]
    assert confidence.shape == (2, 3) and (confidence >= 0).all() and (confidence <= 1).all()
    features = model.encode(images)
    drawn = model.render(features, points, covariances, points.flip(0), covariances.flip(0))
    assert drawn["prediction"].shape == (2, 3, 32, 32) and drawn["deformation"].shape == (2, 16, 16, 2)
    assert drawn["mask"].shape == (2, 4, 16, 16)
    torch.testing.assert_close(drawn["mask"].sum(1), torch.ones(2, 16, 16))


def test_without_movement_an_untrained_network_leaves_every_pixel_where_it_is():
    model, images = small(), frames()
    keypoints = model.detect(images)
    drawn = model.render(model.encode(images), *keypoints, *keypoints)
    torch.testing.assert_close(drawn["warped"], images, atol=1e-4, rtol=0)


def test_the_coarse_flow_is_the_masked_movement_of_the_keypoints():
    """Where one candidate has all the weight, the image moves by that keypoint's movement."""
    model, images = small(), frames()
    with torch.no_grad():
        model.motion.mask.bias[2] = 50.0  # the second keypoint
    points, covariances = model.detect(images)
    moved = points + torch.tensor([0.25, -0.125])
    drawn = model.render(model.encode(images), points, covariances, moved, covariances)
    offset = drawn["deformation"] - model.grid
    torch.testing.assert_close(offset, torch.tensor([-0.25, 0.125]).expand_as(offset), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"flow": False},
        {"residual": False},
        {"coarse": False},
        {"covariance": False},
        {"source_in_motion": False},
        {"num_keypoints": 1},
    ],
)
def test_every_ablation_draws_learns_and_survives_the_disk(changes, tmp_path):
    model, images = small(**changes), frames()
    keypoints = model.detect(images)
    drawn = model.render(
        model.encode(images), *keypoints, *(value.flip(0).contiguous() for value in keypoints)
    )
    (drawn["prediction"] - images.flip(0)).abs().mean().backward()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not silent
    checkpoint.save(model, tmp_path / "m.safetensors")
    again = checkpoint.load(tmp_path / "m.safetensors")
    assert again.config == model.config
    with torch.no_grad():
        expected = model.render(model.encode(images), *keypoints, *keypoints)["prediction"]
        found = again.render(again.encode(images), *keypoints, *keypoints)["prediction"]
    torch.testing.assert_close(found, expected)


def test_the_shifted_sources_reach_the_motion_network():
    """Two sources that differ must give different flows, but not where the sources are kept from the network."""
    for shown in (True, False):
        model, images = small(source_in_motion=shown), frames()
        with torch.no_grad():
            model.motion.mask.weight.normal_(0, 0.5)
        points, covariances = (value[:1].expand(2, *value.shape[1:]) for value in model.detect(images))
        drawn = model.render(model.encode(images), points, covariances, points + 0.2, covariances)
        same = torch.allclose(drawn["deformation"][0], drawn["deformation"][1], atol=1e-6)
        assert same is not shown


def test_presets_say_what_their_matrices_are():
    assert PRESETS["monkeynet-64"].matrices == PRESETS["monkeynet-128"].matrices == "covariance"
    assert PRESETS["fomm-256"].matrices == PRESETS["lite-256"].matrices == "jacobian"
    model = build("monkeynet-64")
    assert model.preset.num_keypoints == 4
    assert Preset.from_json(model.preset.to_json()) == model.preset


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 32, which the detector needs"):
        MonkeyNetConfig(size=72, detector_reduction=1, generator_blocks=2)
    with pytest.raises(ValueError, match="coarse or its residual"):
        MonkeyNetConfig(coarse=False, residual=False)
