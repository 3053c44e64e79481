"""Rewrites: each computes the same as what it replaces, and changes what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from small_model import small_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from livepuppet.export.optimise import REWRITES, TARGETS, optimise, rewrites
from livepuppet.export.optimise.convolutions import PairedConvolution, PhaseConvolution
from livepuppet.export.optimise.lite import FusedMotionMath
from livepuppet.export.optimise.phases import interleave, spread, spreading
from livepuppet.export.optimise.planes import blended_maps
from livepuppet.export.optimise.sampling import Grid, Patches, Rows
from livepuppet.model.geometry import inverse_2x2, make_grid, warp
from livepuppet.model.presets import build


@pytest.fixture(autouse=True)
def _in_64_bits(monkeypatch):
    """Random heat-maps are sharp, and their softmax makes much of the last digits of 32 bits."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def lively(model: nn.Module) -> nn.Module:
    """Seeded weights and statistics of batch norms with which every part carries signal."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.dim() == 4 and not name.endswith("down.weight"):
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape) * 0.1)
    return model.eval().double()


@pytest.fixture(
    scope="module",
    params=["fomm-64", "one map", "no occlusion", "lite", "plain lite", "earlier lite", "monkeynet-64"],
)
def model(request):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if request.param == "lite":
        return lively(small_model())
    if request.param in ("plain lite", "earlier lite"):
        # As lite models were before they had a network for the head; and before they asked what moves on its own.
        preset = small_model().preset
        plain = request.param == "plain lite"
        changes = {"head_channels": 0, "mask_prior": False} if plain else {"non_rigid_threshold": 0.0}
        return lively(build(replace(preset, config=replace(preset.config, **changes))))
    if request.param in ("one map", "no occlusion"):
        # As published for moving GIFs; and as without the occlusion map, with a motion smaller than the features.
        changes = {"jacobian_maps": 1} if request.param == "one map" else {"occlusion": False}
        preset = build("fomm-64").preset
        config = replace(preset.config, motion_reduction=2, motion_blocks=2, **changes)
        return lively(build(replace(preset, config=config)))
    return lively(build(request.param))


@torch.no_grad()
def drawn(model: nn.Module) -> dict[str, torch.Tensor]:
    """What the three calls return of a seeded picture, moved far enough to look outside of it."""
    rng = torch.Generator().manual_seed(2)
    size = model.preset.size
    coarse = torch.rand(1, 3, 6, 6, generator=rng).double()
    picture = F.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    points, matrices, confidence = model.detect_with_confidence(picture)
    moved = points + torch.randn(points.shape, generator=rng) * 0.3
    turned = matrices
    if model.preset.matrices == "jacobian":
        turned = matrices + 0.1 * torch.randn(matrices.shape, generator=rng)
    result = model.render(model.encode(picture), points, matrices, moved, turned)
    return {
        "points": points,
        "matrices": matrices,
        "confidence": confidence,
        **{name: result[name] for name in ("prediction", "deformation")},
    }


def difference(expected: dict, got: dict) -> float:
    """The largest one, in shares of the largest value."""
    return max(
        float((expected[name] - got[name]).abs().max() / expected[name].abs().max()) for name in expected
    )


@pytest.mark.parametrize("target", TARGETS)
def test_the_copy_computes_the_same_and_the_model_stays(model, target):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = drawn(model)
    assert expected["prediction"].std() > 0.02
    assert difference(expected, drawn(optimise(model, target))) < 1e-8
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert difference(expected, drawn(model)) == 0


def test_each_rewrite_alone_computes_the_same_by_other_means(model):
    expected, every = drawn(model), set(rewrites(model))
    plain = optimise(model, without=every)
    assert difference(expected, drawn(plain)) == 0 and types(plain) == types(model)
    for name in every:
        assert difference(expected, drawn(optimise(model, without=every - {name}))) < 1e-8, name
        assert types(optimise(model, without={name})) != types(optimise(model)), name


def types(model: nn.Module) -> list:
    """What a model is made of, down to the shapes of its weights."""
    parts = [type(module).__name__ for module in model.modules()]
    ways = [type(getattr(module, "sampling", None)).__name__ for module in model.modules()]
    return [*parts, *ways, *(tuple(value.shape) for value in model.state_dict().values())]


def test_every_rewrite_is_of_some_target_and_says_what_it_does():
    for name, (what, kinds) in REWRITES.items():
        assert what and kinds and any(name in names for names in TARGETS.values())


@torch.no_grad()
def test_a_batch_norm_that_is_not_folded_would_be_noticed():
    """The check of sameness itself: another running mean, and it fails."""
    model = lively(build("fomm-64"))
    fast = optimise(model)
    model.generator.bottleneck.r0.norm2.running_mean.add_(0.01)
    assert difference(drawn(model), drawn(fast)) > 1e-8


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (5, 4)])
def test_doubling_by_phases_is_exact_up_to_the_borders(height, width):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(5, 7, 3, padding=1), torch.randn(2, 5, height, width)
    expected = conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    phases = PhaseConvolution(conv, relu=False)
    assert torch.allclose(phases(x), expected, atol=1e-6)
    with FlopCounterMode(display=False) as before:
        conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    with FlopCounterMode(display=False) as after:
        phases(x)
    assert before.get_total_flops() == 2.25 * after.get_total_flops()


@torch.no_grad()
@pytest.mark.parametrize("side", [3, 7])
def test_squares_of_pixels_are_the_same_convolution(side):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(5, 3, side, padding=side // 2), torch.randn(2, 5, 8, 12)
    assert torch.allclose(PairedConvolution(conv)(x), conv(x), atol=1e-6)


def test_interleaving_is_pixel_shuffle():
    x = torch.randn(2, 12, 3, 5)
    assert torch.equal(interleave(x), F.pixel_shuffle(x, 2))


@pytest.mark.parametrize("align_corners", [True, False])
def test_spreading_is_bilinear_interpolation_by_phase(align_corners):
    maps = torch.randn(8, 8).double()
    expected = F.interpolate(maps[None, None], size=32, mode="bilinear", align_corners=align_corners)
    got = spread(maps, spreading(8, 32, align_corners)).reshape(1, 4, 16, 16)
    assert torch.allclose(F.pixel_shuffle(got, 2), expected, atol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("way", [Grid, Rows, Patches])
def test_every_way_of_sampling_is_the_warp(way, padding):
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 9, 9)
    # Inside, outside, far outside, and exactly on the corners and the pixels beside them.
    places = torch.cat(
        [
            torch.randn(6, 8, 2),
            torch.tensor([-1e9, -1.26, -1.0, -0.75, 0.0, 1.0, 1.2, 1e9])[None, :, None].expand(1, -1, 2),
        ]
    )
    sampling = way(9, padding)
    table = sampling.table(picture)
    got = sampling.sample(table, places[..., 0], places[..., 1])
    expected = warp(picture, places[None], padding)[0]
    assert torch.allclose(got, expected, atol=1e-5)
    share = torch.rand(places.shape[:-1])
    got = sampling.sample(table, places[..., 0], places[..., 1], share)
    assert torch.allclose(got, expected * share, atol=1e-5)
    assert torch.equal(sampling.picture(table, 3), picture)


def test_motions_of_nothing_blend_to_nothing(monkeypatch):
    monkeypatch.undo()
    torch.manual_seed(0)
    grid = make_grid(16, 16)
    table = torch.cat([grid.permute(2, 0, 1), torch.ones(1, 16, 16), torch.rand(1, 16, 16)]).flatten(1)
    still = torch.eye(2, 4)[:, None].expand(-1, 5, -1)
    # Also where one logit is far beyond what an exponential holds.
    logits = torch.randn(6, 16, 16) * 10
    logits[2, :4] = 1e4
    x, y = blended_maps(logits, still, table)
    assert torch.allclose(torch.stack([x, y], -1), grid, atol=1e-6)


def test_few_steps_turn_matrices_round_as_elsewhere():
    steps = FusedMotionMath(small_model().double().motion)
    singular = torch.tensor([[[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [0.0, 1e-9]], [[1.0, 0.0], [0.0, -1e-9]]])
    matrices = torch.cat([torch.randn(8, 2, 2), singular]).double()
    assert torch.allclose(steps._inverse(matrices), inverse_2x2(matrices))
