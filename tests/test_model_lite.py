"""The lite network: its three calls, what holds by construction, and its work per frame."""

import copy
import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from livepuppet.export.optimise import optimise
from livepuppet.model.geometry import gaussian_heatmaps, make_grid, map_softmax, peak_confidence, warp
from livepuppet.model.lite import LANDMARKS, REFINED_KEYPOINTS, LiteConfig, depth_map, rigid_motion
from livepuppet.model.presets import PRESETS, Preset, build


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build("lite-256").eval()
    # Fresh heads are nearly zero; give them signal so that every path shows.
    with torch.no_grad():
        for name in (
            "motion.head.weight",
            "motion.head_motion.network.4.weight",
            "motion.mask_prior.strength",
            "generator.last.weight",
            "detector.jacobians.weight",
        ):
            dict(model.named_parameters())[name].normal_(0, 0.05)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_three_calls_have_the_shapes_of_the_seam(model, images):
    points, jacobians = model.detect(images)
    assert points.shape == (2, len(LANDMARKS), 2) and jacobians.shape == (2, len(LANDMARKS), 2, 2)
    assert points.abs().max() <= 1
    output = model.render(model.encode(images), points, jacobians, points.flip(0), jacobians.flip(0))
    assert output["prediction"].shape == images.shape
    assert output["deformation"].shape == (2, 64, 64, 2)
    assert output["mask"].shape == (2, len(LANDMARKS) + 2, 64, 64)
    assert torch.allclose(output["mask"].sum(1), torch.ones(2, 64, 64), atol=1e-5)
    assert output["prediction"].min() >= 0 and output["prediction"].max() <= 1


@torch.no_grad()
def test_confidence_comes_beside_the_same_keypoints(model, images):
    points, jacobians, confidence = model.detect_with_confidence(images)
    assert all(torch.equal(a, b) for a, b in zip((points, jacobians), model.detect(images), strict=True))
    assert confidence.shape == (2, len(LANDMARKS)) and confidence.min() >= 0 and confidence.max() <= 1


def test_confidence_is_how_far_a_peak_stands_out_whatever_the_scale():
    rng = torch.Generator().manual_seed(4)
    noise = torch.randn(1, 1, 64, 64, generator=rng)
    peak = gaussian_heatmaps(torch.tensor([[[0.2, -0.3]]]), make_grid(64, 64), 0.005)
    logits = torch.cat([noise + strength * peak for strength in (0.0, 4.0, 20.0)], 1)
    none, some, full = peak_confidence(logits)[0].tolist()
    assert none < some < full and full > 0.9
    torch.testing.assert_close(peak_confidence(7 * logits - 100), peak_confidence(logits), atol=1e-4, rtol=0)
    assert peak_confidence(torch.full((1, 2, 8, 8), 3.0)).tolist() == [[0, 0]]


def peaks(points: torch.Tensor, height: float = 20.0) -> torch.Tensor:
    """Heat-maps before any temperature with one peak each, at points (B, K, 2)."""
    return height * gaussian_heatmaps(points, make_grid(64, 64), 0.01)


#: Half a cell of the heat-map.
HALF = 1 / 63


@torch.no_grad()
def test_a_keypoint_moves_with_its_peak_and_not_from_cell_to_cell(model):
    steps = torch.linspace(0, 2 * HALF, 9)[:, None, None]
    truth = (torch.tensor([0.1, -0.2]) + steps).expand(-1, 16, 2)
    found = model.detector.locate(peaks(truth))
    assert (found - truth).abs().max() < HALF / 5
    assert torch.diff(found, dim=0).min() > HALF / 10  # in every step, every keypoint follows
    # What training reads stays on the cells, and so the bound can fail.
    sharp = (peaks(truth) / model.config.temperature).flatten(2).softmax(-1) @ model.detector.grid.flatten(
        0, 1
    )
    assert torch.diff(sharp, dim=0).min() < HALF / 10


@torch.no_grad()
def test_the_second_look_does_not_see_a_far_peak(model):
    true, other = torch.tensor([-0.3, -0.1]), torch.tensor([0.4, 0.5])
    maps = peaks(true.expand(1, 16, 2), 8.0) + peaks(other.expand(1, 16, 2), 3.0)
    away = (model.detector.locate(maps)[0] - true).norm(dim=-1)
    far = [index for index in range(16) if index not in REFINED_KEYPOINTS]
    assert away[list(REFINED_KEYPOINTS)].max() < 0.5 * away[far].min()


def test_heat_maps_hold_no_denormal_numbers():
    logits = torch.linspace(-95, 0, 4096).flip(0).expand(1, 16, -1)
    usual, map_ = logits.softmax(-1), map_softmax(logits)
    least = torch.finfo(torch.float32).tiny
    assert ((usual > 0) & (usual < least)).any() and map_.min() > least
    assert torch.allclose(usual, map_, rtol=0, atol=1e-20)


@torch.no_grad()
def test_training_reads_what_the_loss_shapes(model, images):
    evaluated = model.detect(images)[0]
    detector = copy.deepcopy(model.detector).train()
    for module in detector.modules():  # batch norm would change the maps themselves
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    points, _, logits = detector(images)
    grid = detector.grid.flatten(0, 1)
    assert torch.allclose(points, logits.flatten(2).softmax(-1) @ grid, atol=1e-5)
    assert not torch.allclose(points, evaluated, atol=1e-3)


def test_weights_of_before_the_second_look_are_read_like_new_ones():
    text = PRESETS["lite-256"].to_json()
    values = json.loads(text)
    for name in ("softargmax_temperature", "refinement_temperature", "refinement_window"):
        del values["config"][name]
    assert Preset.from_json(json.dumps(values)).config == PRESETS["lite-256"].config


def test_weights_of_before_head_network_and_homes_still_load():
    values = json.loads(PRESETS["lite-256"].to_json())
    for name in ("head_channels", "mask_prior", "non_rigid_threshold"):
        del values["config"][name]
    older = Preset.from_json(json.dumps(values))
    assert older.config == LiteConfig() and build(older).motion.head_motion is None


def test_a_head_network_and_homes_that_have_learned_nothing_changes_nothing(images):
    torch.manual_seed(0)
    plain, turning = build(Preset("lite-256", 256, 16, LiteConfig())), build("lite-256")
    turning.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.zeros_(turning.motion.mask_prior.strength)  # some start with something
    rng = torch.Generator().manual_seed(3)
    source, driving = (0.5 * torch.randn(2, 16, 2, generator=rng) for _ in range(2))
    jacobians = torch.eye(2).expand(2, 16, 2, 2)
    thumbnail = images[:, :, ::4, ::4]
    with torch.no_grad():
        before = plain.eval().motion(thumbnail, source, jacobians, driving, jacobians)["deformation"]
        after = turning.eval().motion(thumbnail, source, jacobians, driving, jacobians)["deformation"]
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


@torch.no_grad()
def test_parallax_is_deepest_in_the_middle_of_a_head_and_none_outside():
    """A turned head's frame: an ellipse about the middle, whatever the roll."""
    grid = make_grid(65, 65)
    angle = torch.tensor(0.4)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    middle = torch.tensor([[0.25, -0.125]])
    radii = torch.tensor([0.4, 0.6])
    depth = depth_map(middle, (turn / radii[:, None])[None], grid[0, :, 0], grid[:, 0, 1])[0]
    assert depth.max() == depth[28, 40] and depth.max() > 0.95  # the cell of the middle
    outside = (((grid - middle[0]) @ turn.T) / radii).norm(dim=-1) > 1
    assert depth[outside].abs().max() < 1e-6
    half = middle[0] + turn.T @ torch.tensor([0.2, 0.0])
    column, row = ((half + 1) * 32).round().int().tolist()
    assert depth[row, column] == pytest.approx(0.75**0.5, abs=0.05)


@torch.no_grad()
@pytest.mark.parametrize("way", [0.0, 0.5, 3.0])
def test_a_keypoint_moves_on_its_own_if_it_moves_otherwise_than_the_head(way):
    motion = build("lite-256").motion
    torch.manual_seed(0)
    source, jacobians = 0.3 * torch.randn(1, 16, 2), torch.eye(2).expand(1, 16, 2, 2)
    turn = torch.tensor([[0.9, 0.2], [-0.1, 1.1]])
    driving = (source - 0.1) @ turn.T
    expected = torch.zeros(1, 16)
    # Not of those that show how the head moves.
    for index in (k for k, name in enumerate(LANDMARKS) if "iris" in name):
        source[:, index, 0] += way * motion.non_rigid_threshold
        expected[:, index] = min(way, 1.0)
    *_, own = motion.candidates(source, jacobians, driving, jacobians)
    # The fit is held back a little towards no change.
    torch.testing.assert_close(own, expected, atol=0.2, rtol=0)


def turning_head(threshold: float, moved: float):
    """A motion network whose head turns with parallax, and two sets of keypoints `moved` apart: the arguments of its `candidates`."""
    torch.manual_seed(0)
    motion = build("lite-256").motion
    torch.nn.init.normal_(motion.head_motion.network[-1].bias, std=0.3)
    motion.non_rigid_threshold = threshold
    source, jacobians = 0.3 * torch.randn(1, 16, 2), torch.eye(2).expand(1, 16, 2, 2)
    return motion, (source, jacobians, source + moved * torch.randn(1, 16, 2), jacobians)


@torch.no_grad()
def test_what_moves_on_its_own_is_told_exactly_among_16_bits():
    motion, keypoints = turning_head(1.0, 0.003)
    *_, exact = motion.candidates(*keypoints)
    with torch.autocast("cpu", torch.bfloat16):
        *_, own = motion.candidates(*keypoints)
    torch.testing.assert_close(own, exact, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_turning_head_takes_its_keypoints_along_by_their_depth():
    motion, keypoints = turning_head(10.0, 0.02)
    source, _, driving, _ = keypoints
    affine, shift, _, parallax, depth, own = motion.candidates(*keypoints)
    carried = driving @ affine[:, -1].transpose(1, 2) + shift[:, -1:]
    flat = (source - carried).norm(dim=-1)
    carried = carried + warp(depth[:, None], driving[:, None])[:, 0, 0, :, None] * parallax[:, None]
    assert (flat - 10 * own).abs().max() > 0.02
    torch.testing.assert_close(10 * own, (source - carried).norm(dim=-1), atol=0.01, rtol=0)


@torch.no_grad()
def test_an_avatar_that_does_not_move_comes_back_exactly(model, images):
    keypoints = model.detect(images)
    back = model.render(model.encode(images), *keypoints, *keypoints)["prediction"]
    # The identity grid's rounding on white noise, a twentieth of a level, is all that is left.
    assert (back - images).abs().max() < 0.5 / 255


@torch.no_grad()
def test_a_small_motion_changes_little(model, images):
    points, jacobians = model.detect(images)
    smooth = torch.nn.functional.avg_pool2d(images, 33, 1, 16)
    features = model.encode(smooth)
    moved = model.render(features, points, jacobians, points + 1e-4, jacobians)["prediction"]
    assert (moved - smooth).abs().max() < 0.02


@torch.no_grad()
def test_jacobians_are_bounded(model, images):
    model = optimise(model)
    model.detector.jacobians.weight.mul_(1000)
    _, jacobians = model.detect(images)
    assert (jacobians - torch.eye(2)).abs().max() <= 1.5 + 1e-5


@torch.no_grad()
def test_the_work_per_live_frame_stays_in_the_budget(model, images):
    one = images[:1]
    keypoints, features = model.detect(one), model.encode(one)
    with FlopCounterMode(display=False) as counter:
        model.detect(one)
        model.render(features, *keypoints, *keypoints)
    assert counter.get_total_flops() / 2 < 2.4e9


@torch.no_grad()
def test_the_optimised_copy_draws_the_same_and_leaves_the_original_alone(model, images):
    fast = optimise(model)
    one = images[:1]
    keypoints, other = model.detect(one), model.detect(images[1:])
    expected = model.render(model.encode(one), *keypoints, *other)["prediction"]
    got = fast.render(fast.encode(one), *keypoints, *other)["prediction"]
    assert torch.allclose(expected, got, atol=1e-4)
    assert not any(a is b for a in model.modules() for b in fast.modules())


def test_the_rigid_motion_is_the_one_that_all_landmarks_share():
    rng = torch.Generator().manual_seed(3)
    driving = torch.rand(4, len(LANDMARKS), 2, generator=rng) - 0.5
    assert torch.equal(rigid_motion(driving, driving)[0].round(decimals=6), torch.eye(2).expand(4, 2, 2))
    turn = torch.eye(2) + 0.2 * torch.randn(4, 2, 2, generator=rng)
    source = driving @ turn.transpose(1, 2) + 0.1
    matrix, offset = rigid_motion(source, driving)
    assert torch.allclose(matrix, turn, atol=0.02)
    assert torch.allclose((driving @ matrix.transpose(1, 2) + offset[:, None]), source, atol=0.02)
