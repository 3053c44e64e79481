"""train/tasks/fomm.py, adversarial.py and recipes.py."""

from dataclasses import replace

import pytest
import torch

from livepuppet.model.discriminator import DiscriminatorConfig
from livepuppet.model.geometry import make_grid
from livepuppet.model.presets import PRESETS, Preset, build
from livepuppet.train.losses.adversarial import discriminator_loss, feature_matching, generator_loss
from livepuppet.train.losses.perceptual import VGG19, FeatureLoss
from livepuppet.train.losses.reconstruction import pyramid_l1
from livepuppet.train.losses.weights import LossWeights
from livepuppet.train.recipes.published import RECIPES
from livepuppet.train.tasks import fomm
from livepuppet.train.tasks.fomm import ABLATIONS, FommTask, ablate

ADVERSARIAL = LossWeights(generator_gan=1.0)
SMALL_RIVAL = DiscriminatorConfig(expansion=4, maximum=16, heatmaps=4)


class Discs:
    """Clips of a disc on black, as a ClipSet gives them; a choice is (source, driving, seed of the colour)."""

    size = 64

    def draw(self, batch, rng):
        return torch.rand(batch, 5, generator=rng).tolist()

    def load(self, choices):
        grid = make_grid(64, 64)
        values = torch.tensor(choices)
        images = []
        for x, y in ((values[:, 0], values[:, 1]), (values[:, 2], values[:, 3])):
            centre = torch.stack([x, y], -1)[:, None, None] * 1.2 - 0.6
            inside = torch.sigmoid((0.2 - (grid - centre).norm(dim=-1)) * 40)[:, None]
            colour = torch.stack([values[:, 4], 1 - values[:, 4], torch.ones(len(values))], 1)
            images.append(inside * colour[:, :, None, None])
        return images[0], images[1]


@pytest.fixture
def task(tiny_model):
    """With everything on: perceptual, adversarial with heat-maps, equivariance."""
    torch.manual_seed(0)
    return FommTask(tiny_model, Discs(), 4, ADVERSARIAL, discriminator=SMALL_RIVAL)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_parts_and_weights(task):
    task.prepare()
    parts = task.losses(rng())
    assert set(parts) == {
        "pyramid",
        "gradients",
        "ssim",
        "adversarial",
        "features",
        "equivariance value",
        "equivariance jacobian",
    }
    assert all(part.dim() == 0 and part.item() > 0 for part in parts.values())
    task.model.eval()
    task.discriminator.eval()
    once = task.losses(rng())
    task.weights = replace(
        ADVERSARIAL,
        generator_gan=2.0,
        feature_matching=(20.0,) * 4,
        equivariance_value=20.0,
        equivariance_jacobian=20.0,
    )
    twice = task.losses(rng())
    for name in ("adversarial", "features", "equivariance value", "equivariance jacobian"):
        torch.testing.assert_close(twice[name], 2 * once[name])


def test_no_adversarial_loss_no_rival(tiny_model):
    """As in the published code: feature matching has weights, and is not computed."""
    task = FommTask(tiny_model, Discs(), 2)
    assert task.discriminator is None
    assert "features" not in task.losses(rng())


def test_vgg_in_place_of_the_substitute(tiny_model):
    task = FommTask(tiny_model, Discs(), 2, perceptual=FeatureLoss(VGG19.random(0, 32), "random"))
    assert set(task.losses(rng())) == {"perceptual", "equivariance value", "equivariance jacobian"}
    task.weights = replace(task.weights, perceptual=(0.0,) * 5)
    assert "perceptual" not in task.losses(rng())


def test_warped_is_the_source_under_the_flow_alone(tiny_model, monkeypatch):
    """With the identity flow it is ten times the pyramid L1 of the two frames, whatever is painted."""
    task = FommTask(tiny_model, Discs(), 2, LossWeights(warped=10.0))
    still = {"prediction": torch.rand(2, 3, 64, 64), "deformation": make_grid(16, 16).expand(2, -1, -1, -1)}
    monkeypatch.setattr(task.model, "render", lambda *_: still)
    source, driving = task.data.load(task.data.draw(2, rng()))
    expected = 10 * pyramid_l1(source, driving)
    assert expected > 0.1
    torch.testing.assert_close(task.losses(rng())["warped"], expected, rtol=1e-3, atol=1e-4)


def test_generator_and_rival_do_not_teach_each_other(task):
    task.prepare()
    parts = task.losses(rng())
    sum(parts.values()).backward()
    assert all(parameter.grad is None for parameter in task.discriminator.parameters())
    assert all(parameter.grad is not None for parameter in task.model.generator.parameters())
    task.model.zero_grad(set_to_none=True)
    sum(task.discriminator_losses().values()).backward()
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert all(parameter.grad is not None for parameter in task.discriminator.parameters())


def test_keypoints_do_not_learn_to_please_the_rival(task, monkeypatch):
    """With an image that nobody can change, nothing is left to learn from the discriminator."""
    monkeypatch.setattr(task.model, "render", lambda *_: {"prediction": torch.rand(4, 3, 64, 64)})
    parts = task.losses(rng())
    assert not parts["adversarial"].requires_grad
    assert not parts["features"].requires_grad
    assert parts["equivariance value"].requires_grad


def test_the_rival_sees_the_keypoints(task):
    task.discriminator.eval()
    task.losses(rng())
    before = task.discriminator_losses()["discriminator"]
    task._last["points"] = -task._last["points"]
    assert not torch.isclose(task.discriminator_losses()["discriminator"], before)


def test_discriminator_wins_against_an_idle_generator(task):
    """Its loss falls when only it learns: real and drawn are told apart the right way round."""
    task.prepare()
    task.losses(rng())
    optimiser = torch.optim.Adam(task.discriminator.parameters(), 2e-3, betas=(0.5, 0.999))
    values = []
    for _ in range(8):
        loss = task.discriminator_losses()["discriminator"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]
    heatmaps = task._heatmaps(task.discriminator, task._last["points"])
    real = task.discriminator(task._last["driving"], heatmaps)[1].mean()
    drawn = task.discriminator(task._last["prediction"], heatmaps)[1].mean()
    assert real > drawn


def test_a_step_of_learning_helps(tiny_model):
    task = FommTask(tiny_model, Discs(), 2)
    optimiser = torch.optim.Adam(tiny_model.parameters(), 2e-3, betas=(0.5, 0.999))
    task.prepare()
    values = []
    for _ in range(8):
        loss = sum(task.losses(rng(3)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.85 * values[0]


def test_two_processes_share_a_batch(task, monkeypatch):
    """The mean of two halves is the whole: the same pairs, and the same deformation for each pair."""
    task.model.eval()  # batch statistics are the trainer's to convert_sync_batchnorm
    task.discriminator.eval()
    whole = task.losses(rng())
    state = rng()
    task.losses(state)
    halves = []
    for part in (slice(0, 2), slice(2, 4)):
        monkeypatch.setattr(fomm, "rank_slice", lambda batch, part=part: part)
        own = rng()
        halves.append(task.losses(own))
        assert torch.equal(own.get_state(), state.get_state())
    for name, value in whole.items():
        mean = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-5, msg=name)
        assert not torch.isclose(halves[0][name], halves[1][name], rtol=1e-5)


def test_signs(task):
    assert task.diagnostics() == {}
    task.losses(rng())
    spread = task.diagnostics()["spread"]
    assert 0 < spread < 1
    task._last["points"] = torch.zeros(4, 4, 2)
    task._last["jacobians"] = 3 * torch.eye(2).expand(4, 4, 2, 2).clone()
    task._last["jacobians"][1, 2] = torch.tensor([[0.0, -5.0], [-4.0, 0.0]])
    assert task.diagnostics() == pytest.approx({"spread": 0.0, "determinant": 20.0})


def test_sixteen_bits(task):
    task.prepare()
    with torch.autocast("cpu", torch.bfloat16):
        parts = task.losses(rng())
        loss = sum(parts.values()) + sum(task.discriminator_losses().values())
    loss.backward()
    assert torch.isfinite(loss)
    assert parts["equivariance value"].dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in task.model.parameters())


def test_sentences(tiny_model, tiny_preset):
    with pytest.raises(ValueError, match="sees 10 keypoints and tiny has 4"):
        FommTask(tiny_model, Discs(), 2, ADVERSARIAL, discriminator=DiscriminatorConfig(heatmaps=10))
    with pytest.raises(ValueError, match="4 weights of feature matching for 3 blocks"):
        FommTask(tiny_model, Discs(), 2, ADVERSARIAL, discriminator=DiscriminatorConfig(blocks=3))
    with pytest.raises(ValueError, match="does not fit on images of 64 pixels"):
        FommTask(tiny_model, Discs(), 2, ADVERSARIAL, discriminator=DiscriminatorConfig(blocks=5))
    with pytest.raises(ValueError, match="no ablation is called 'pyramids'; there are baseline"):
        ablate(tiny_preset, "pyramids")
    with pytest.raises(ValueError, match="lite-256 is no first-order model"):
        ablate(PRESETS["lite-256"], "full")


def test_table_1(tiny_preset):
    """Each row adds one thing; the preset says so too, so that a checkpoint does."""
    rows = {}
    for name in ABLATIONS:
        preset, weights = ablate(tiny_preset, name)
        assert Preset.from_json(preset.to_json()) == preset
        rows[name] = (
            weights.pyramid_levels,
            preset.config.occlusion,
            preset.config.jacobian_maps,
            weights.equivariance_jacobian,
        )
    assert rows == {
        "baseline": (1, False, 0, 0.0),
        "pyramid": (4, False, 0, 0.0),
        "occlusion": (4, True, 0, 0.0),
        "jacobian-without-eq12": (4, True, 4, 0.0),
        "full": (4, True, 4, 10.0),
    }


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablated_networks_learn(tiny_preset, name):
    """Everything in the network that is there is taught, and only the whole method has Eq. 12's part."""
    preset, weights = ablate(tiny_preset, name)
    torch.manual_seed(0)
    task = FommTask(build(preset), Discs(), 2, weights)
    task.prepare()
    parts = task.losses(rng())
    assert ("equivariance jacobian" in parts) == (name == "full")
    sum(parts.values()).backward()
    untaught = [n for n, p in task.model.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before a batch norm changes nothing, and nor does one that a softmax takes away.
    assert not [n for n in untaught if not n.endswith("bias")]
    assert any("occlusion" in n for n, _ in task.model.named_parameters()) == preset.config.occlusion


def test_losses_that_judge():
    one, zero = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    assert generator_loss(one) == 0
    assert generator_loss(zero) == 1
    assert discriminator_loss(real=one, drawn=zero) == 0
    assert discriminator_loss(real=zero, drawn=one) == 2
    maps = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 2, 2)]
    moved = [torch.full((1, 2, 4, 4), 0.5), torch.full((1, 4, 2, 2), -2.0)]
    assert feature_matching(maps, moved, (10.0, 1.0)).item() == pytest.approx(7.0)
    assert feature_matching(maps, moved, (0.0, 1.0)).item() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="1 weights of feature matching for 2 maps"):
        feature_matching(maps, moved, (1.0,))


@pytest.mark.parametrize(
    "recipe", [recipe for recipe in RECIPES.values() if recipe.network.startswith("fomm")]
)
def test_recipes_can_be_trained(recipe):
    assert recipe.preset.name == recipe.network
    assert recipe.discriminator.side(recipe.preset.size) >= 1
    assert recipe.discriminator.heatmaps in (0, recipe.preset.num_keypoints)
    assert len(recipe.weights.feature_matching) == recipe.discriminator.blocks
    assert len(recipe.weights.perceptual) == 5
    assert all(0 < milestone < recipe.epochs for milestone in recipe.milestones)
    assert recipe.starts_from in {"", *RECIPES}
    assert recipe.published == recipe.name.endswith("-256")


def test_published_schedules():
    """Epochs, repeats, batch, adversarial weight: the figures of the authors' configurations."""
    assert {
        name: (recipe.epochs, recipe.repeats, recipe.batch, recipe.weights.generator_gan)
        for name, recipe in RECIPES.items()
        if recipe.published and recipe.network == "fomm-256"
    } == {
        "vox-256": (100, 75, 40, 0),
        "vox-adv-256": (150, 75, 36, 1),
        "taichi-256": (100, 150, 30, 0),
        "mgif-256": (100, 25, 36, 1),
        "nemo-256": (100, 8, 36, 1),
        "bair-256": (20, 1, 36, 1),
        "fashion-256": (100, 50, 27, 1),
    }
    assert RECIPES["mgif-256"].preset.config.jacobian_maps == 1
    assert RECIPES["vox-256"].preset == PRESETS["fomm-256"]
