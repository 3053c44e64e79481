"""The first-order model: its mathematics, its three calls, and the published layout and numbers."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch

from livepuppet.core.keypoints import Keypoints
from livepuppet.core.transfer import movement_scale, transfer
from livepuppet.model.blocks import AntiAlias
from livepuppet.model.dense_motion import DenseMotion
from livepuppet.model.fomm import FommConfig
from livepuppet.model.geometry import MINIMUM_DETERMINANT, inverse_2x2, make_grid, warp
from livepuppet.model.presets import PRESETS, Preset, build

# --- mathematics ---


@pytest.mark.parametrize("size", [7, 64, 256])
def test_identity_flow_reproduces_the_image(size):
    image = torch.randint(0, 256, (1, 3, size, size), generator=torch.Generator().manual_seed(0)).float()
    moved = warp(image, make_grid(size, size)[None])
    assert torch.equal(moved.round(), image)
    assert (moved - image).abs().max() < 0.01  # of 255 levels: float32's rounding of coordinates


def test_warp_puts_the_ends_of_the_range_on_pixel_centres():
    image = torch.arange(5.0).reshape(1, 1, 1, 5)
    grid = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [-0.75, 0.0]]).reshape(1, 1, 4, 2)
    assert warp(image, grid).flatten().tolist() == [0.0, 2.0, 4.0, 0.5]


def test_inverse_2x2_is_the_inverse():
    matrices = torch.randn(50, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(inverse_2x2(matrices), torch.linalg.inv(matrices))


@pytest.mark.parametrize(
    "matrix", [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [2.0, 4.0]], [[1e-9, 0.0], [0.0, -1.0]]]
)
def test_inverse_2x2_of_a_singular_matrix_is_finite(matrix):
    inverse = inverse_2x2(torch.tensor(matrix))
    assert inverse.isfinite().all()
    assert inverse.abs().max() <= 4 / MINIMUM_DETERMINANT


def test_anti_alias_keeps_flat_images_and_subsamples_from_the_first_pixel():
    down = AntiAlias(3, 4)
    assert down.weight.shape == (3, 1, 13, 13)
    flat = down(torch.full((1, 3, 64, 64), 0.5))
    assert flat.shape == (1, 3, 16, 16)
    torch.testing.assert_close(flat[..., 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.5))
    spot = torch.zeros(1, 3, 64, 64)
    spot[..., 32, 32] = 1
    assert down(spot)[0, 0].argmax() == 8 * 16 + 8
    assert AntiAlias(3, 1)(spot) is spot


def test_local_motions_map_driving_keypoints_to_source_keypoints():
    motion = DenseMotion(
        size=32, num_keypoints=2, expansion=4, maximum=8, num_blocks=1, reduction=1, variance=0.01
    )
    motion.grid = make_grid(3, 3)  # so that (0, 0) and the corners are grid points
    driving, source = torch.zeros(1, 2, 2), torch.tensor([[[0.2, -0.1], [0.0, 0.3]]])
    source_jacobians = torch.tensor([[[0.5, 0.0], [0.0, 2.0]], [[0.0, -1.0], [1.0, 0.0]]])[None]
    driving_jacobians = 2 * torch.eye(2).expand(1, 2, 2, 2)
    flow = motion.sparse_motions(source, source_jacobians, driving, driving_jacobians)
    assert flow.shape == (1, 2, 3, 3, 2)
    torch.testing.assert_close(flow[0, :, 1, 1], source[0])
    torch.testing.assert_close(flow[0, 0, 2, 2], source[0, 0] + torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(flow[0, 1, 2, 2], source[0, 1] + torch.tensor([-0.5, 0.5]))


# --- the three calls ---


def test_shapes_and_ranges_of_the_three_calls(tiny_model):
    frames = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        points, jacobians = tiny_model.detect(frames)
        features = tiny_model.encode(frames)
        out = tiny_model.render(features, points, jacobians, points.flip(0), jacobians.flip(0))
    assert points.shape == (2, 4, 2) and points.abs().max() <= 1
    assert jacobians.shape == (2, 4, 2, 2)
    assert out["prediction"].shape == (2, 3, 64, 64)
    assert out["prediction"].min() >= 0 and out["prediction"].max() <= 1
    assert out["deformation"].shape == (2, 16, 16, 2)
    assert out["occlusion_map"].shape == (2, 1, 16, 16)
    assert out["mask"].shape == (2, 5, 16, 16)
    torch.testing.assert_close(out["mask"].sum(1), torch.ones(2, 16, 16))
    assert list(features) == ["source_features", "thumbnail"]


def test_images_of_a_batch_do_not_mix(tiny_model):
    frames = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        together = tiny_model.render(
            tiny_model.encode(frames), *tiny_model.detect(frames), *_moved(frames, tiny_model)
        )
        one = frames[1:2]
        alone = tiny_model.render(tiny_model.encode(one), *tiny_model.detect(one), *_moved(one, tiny_model))
    torch.testing.assert_close(together["prediction"][1:2], alone["prediction"], atol=1e-5, rtol=1e-5)


def _moved(frames, model):
    points, jacobians = model.detect(frames.flip(-1))
    return points, jacobians


def test_no_motion_is_the_identity_flow(tiny_model):
    frames = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        keypoints = tiny_model.detect(frames)
        out = tiny_model.render(tiny_model.encode(frames), *keypoints, *keypoints)
    torch.testing.assert_close(out["deformation"][0], make_grid(16, 16), atol=1e-5, rtol=0)


def test_training_reaches_every_parameter(tiny_preset):
    torch.manual_seed(0)
    model = build(tiny_preset)
    assert model.training
    frames = torch.rand(4, 3, 64, 64)
    source, driving = frames[:2], frames[2:]
    out = model.render(model.encode(source), *model.detect(source), *model.detect(driving))
    before = model.generator.first.norm.running_mean.clone()
    ((out["prediction"] - driving) ** 2).mean().backward()
    without = [name for name, value in model.named_parameters() if value.grad is None]
    assert without == []
    assert all(value.grad.isfinite().all() for value in model.parameters())
    assert not torch.equal(before, torch.zeros_like(before))  # batch norm learned its statistics


def test_variants_without_jacobians_or_occlusion(tiny_preset):
    for change in ({"jacobian_maps": 0}, {"jacobian_maps": 1}, {"occlusion": False}):
        config = FommConfig(**{**vars(tiny_preset.config), **change})
        model = build(Preset("variant", 64, 4, config)).eval()
        frames = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            keypoints = model.detect(frames)
            out = model.render(model.encode(frames), *keypoints, *keypoints)
        assert keypoints[1].shape == (1, 4, 2, 2)
        if change.get("jacobian_maps") == 0:
            assert torch.equal(keypoints[1][0], torch.eye(2).expand(4, 2, 2))
        if not config.occlusion:
            assert torch.equal(out["occlusion_map"], torch.ones(1, 1, 16, 16))


@pytest.mark.parametrize("change", [{"size": 100}, {"size": 0}, {"jacobian_maps": 3}])
def test_impossible_configurations_are_refused(change):
    with pytest.raises(ValueError):
        FommConfig(**change)


# --- presets ---


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_survive_json(name):
    preset = PRESETS[name]
    again = Preset.from_json(preset.to_json())
    assert again == preset
    assert hash(again.config) == hash(preset.config)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"kind": "other"}', '{"kind": "fomm", "config": {"sise": 1}}', '{"kind": "fomm"}'],
)
def test_foreign_presets_are_refused(text):
    with pytest.raises(ValueError, match="not a model preset"):
        Preset.from_json(text)


def test_unknown_preset_names_are_refused():
    with pytest.raises(ValueError, match="fomm-256"):
        build("fomm-9000")


# --- the published model ---


@pytest.fixture(scope="module")
def parity(shared):
    """The published network with the parity set's weights, the set's folder, and its results."""
    folder = shared / "parity"
    spec = importlib.util.spec_from_file_location("make_weights", folder / "make_weights.py")
    make_weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_weights)
    layout = json.loads((folder / "vox-256.layout.json").read_text())
    model = build("fomm-256")
    for part, tensors in make_weights.state_dicts(layout).items():
        own = getattr(model, part).state_dict()
        assert {name: list(value.shape) for name, value in own.items()} == layout[part]
        getattr(model, part).load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}, strict=True
        )
    return model.eval(), folder, np.load(folder / "golden_vox-256.npz")


def _image(path):
    import cv2

    return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def detected(parity):
    """`Keypoints` of the three images, by name."""
    model, folder, _ = parity
    found = {}
    with torch.no_grad():
        for name in ("source", "driving_initial", "driving"):
            points, jacobians = model.detect(_image(folder / f"{name}.png"))
            found[name] = Keypoints(points[0].numpy(), jacobians[0].numpy())
    return found


def test_the_built_in_anti_alias_kernel_is_the_published_one(parity):
    model = parity[0]
    np.testing.assert_allclose(AntiAlias(3, 4).weight, model.kp_detector.down.weight, atol=1e-8)


@pytest.mark.parametrize("name", ["source", "driving_initial", "driving"])
def test_parity_of_keypoints(parity, detected, name):
    golden = parity[2]
    np.testing.assert_allclose(detected[name].points, golden[f"kp_{name}_value"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(detected[name].jacobians, golden[f"kp_{name}_jacobian"], atol=2e-5, rtol=0)


def test_parity_of_heatmaps_and_features(parity):
    model, folder, golden = parity
    image = _image(folder / "source.png")
    with torch.no_grad():
        heatmaps = model.kp_detector(image)[2][0]
        features = model.encode(image)["source_features"][0].flatten(1)
    np.testing.assert_allclose(heatmaps, golden["heatmap_source"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(features.mean(1), golden["encoder_channel_mean"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(
        features.std(1, correction=0), golden["encoder_channel_std"], atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("adapt", [True, False])
def test_parity_of_images(parity, detected, relative, adapt):
    model, folder, golden = parity
    avatar, initial = detected["source"], detected["driving_initial"]
    scale = movement_scale(avatar, initial) if adapt else 1.0
    moved = transfer(detected["driving"], initial, avatar, scale, relative=relative)
    mode = f"r{relative:d}a{adapt:d}"
    np.testing.assert_allclose(moved.points, golden[f"kp_norm_{mode}_value"], atol=2e-5, rtol=0)
    np.testing.assert_allclose(moved.jacobians, golden[f"kp_norm_{mode}_jacobian"], atol=2e-5, rtol=0)
    if f"deformation_{mode}" not in golden:
        return  # the scale counts in relative mode only: the set has no second image of absolute mode

    arrays = (avatar.points, avatar.jacobians, moved.points, moved.jacobians)
    with torch.no_grad():
        features = model.encode(_image(folder / "source.png"))
        out = model.render(features, *(torch.from_numpy(array)[None] for array in arrays))
    np.testing.assert_allclose(out["deformation"][0], golden[f"deformation_{mode}"], atol=5e-5, rtol=0)
    np.testing.assert_allclose(out["occlusion_map"][0], golden[f"occlusion_map_{mode}"], atol=1e-4, rtol=0)
    prediction = out["prediction"][0].permute(1, 2, 0).numpy()
    assert np.abs(prediction * 255 - golden[f"prediction_{mode}_u8"]).max() <= 1.1
    if mode == "r1a1":
        np.testing.assert_allclose(out["mask"][0], golden["mask_r1a1"], atol=1e-4, rtol=0)
        np.testing.assert_allclose(
            out["sparse_deformed"][0], golden["sparse_deformed_r1a1"], atol=1e-3, rtol=0
        )
        np.testing.assert_allclose(prediction, golden["prediction_r1a1_f32"], atol=2e-4, rtol=0)
        assert np.abs(prediction - golden["prediction_r1a1_f32"]).mean() < 1e-5
