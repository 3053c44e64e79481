"""Monkey-Net's training: what its losses weigh, who learns from what, its ablations and recipes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from livepuppet.model.discriminator import DiscriminatorConfig
from livepuppet.model.monkeynet import MonkeyNetConfig
from livepuppet.model.presets import PRESETS, Preset, build
from livepuppet.train.recipes.published import MONKEYNET, RECIPES
from livepuppet.train.tasks.monkeynet import (
    ABLATIONS,
    MonkeyNetTask,
    ablate,
    needs_discriminator,
    with_keypoints,
    without_discriminator,
)

SIZE = 32
CONFIG = MonkeyNetConfig(
    size=SIZE,
    num_keypoints=3,
    detector_expansion=8,
    detector_maximum=16,
    detector_blocks=2,
    motion_expansion=8,
    motion_maximum=16,
    motion_blocks=2,
    generator_expansion=8,
    generator_maximum=16,
    generator_blocks=2,
    refinement_blocks=1,
)
SMALL = Preset("small", SIZE, 3, CONFIG)

#: A discriminator of two blocks, so weights for the image and two maps.
DISCRIMINATOR = DiscriminatorConfig.monkeynet(expansion=4, maximum=8, blocks=2, heatmaps=3)
WEIGHTS = replace(MONKEYNET, feature_matching=(10.0, 10.0, 1.0))


class MovingSquares:
    """A set of clips in which a bright square jumps; draws and loads like `ClipSet`."""

    def draw(self, batch, rng):
        places = torch.randint(4, SIZE - 10, (batch, 2, 2), generator=rng)
        return [SimpleNamespace(places=places[row]) for row in range(batch)]

    def load(self, choices):
        images = torch.zeros(2, len(choices), 3, SIZE, SIZE)
        for row, choice in enumerate(choices):
            for side in (0, 1):
                x, y = choice.places[side].tolist()
                images[side, row, :, y : y + 8, x : x + 8] = torch.tensor([0.9, 0.5, 0.2])[:, None, None]
        return images[0], images[1]


def task(weights=WEIGHTS, preset=SMALL, batch=4, **options) -> MonkeyNetTask:
    torch.manual_seed(0)
    made = MonkeyNetTask(build(preset), MovingSquares(), batch, weights, **options)
    made.prepare()
    return made


def gradient_loss(parts, module) -> float:
    """Length of the gradient that the sum of `parts` leaves in `module`."""
    module.zero_grad(set_to_none=True)
    sum(parts.values()).backward()
    return sum(float(p.grad.square().sum()) for p in module.parameters() if p.grad is not None) ** 0.5


def rng(seed=1):
    return torch.Generator().manual_seed(seed)


def test_parts_of_the_loss_are_the_papers():
    made = task(discriminator=DISCRIMINATOR)
    made.model.eval()
    parts = made.losses(rng())
    assert set(parts) == {"reconstruction", "adversarial"}
    # The same by hand: Eq. 6 over the image and the discriminator's two maps, and (1 - D)^2.
    source, driving = made.data.load(made.data.draw(4, rng()))
    model, discriminator = made.model, made.discriminator
    with torch.no_grad():
        points, covariances = model.detect(driving)
        prediction = model.render(model.encode(source), *model.detect(source), points, covariances)[
            "prediction"
        ]
        line = torch.linspace(-1, 1, SIZE)
        heatmaps = model.heatmaps(
            points, covariances, torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
        )
        maps, score = discriminator(prediction, heatmaps)
        real, _ = discriminator(driving, heatmaps)
    expected = sum(w * (a - b).abs().mean() for w, a, b in zip((10, 10, 1), maps, real, strict=True))
    assert maps[0] is prediction
    torch.testing.assert_close(parts["reconstruction"].detach(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        parts["adversarial"].detach(), (1 - score).square().mean(), rtol=1e-4, atol=1e-6
    )


def test_without_a_rival_it_is_ten_times_the_difference():
    weights = without_discriminator(MONKEYNET)
    assert needs_discriminator(MONKEYNET) and not needs_discriminator(weights)
    made = task(replace(weights, warped=5.0))
    assert made.discriminator is None
    made.model.eval()
    parts = made.losses(rng())
    source, driving = made.data.load(made.data.draw(4, rng()))
    with torch.no_grad():
        drawn = made.model.render(
            made.model.encode(source), *made.model.detect(source), *made.model.detect(driving)
        )
    torch.testing.assert_close(
        parts["reconstruction"].detach(),
        10 * (drawn["prediction"] - driving).abs().mean(),
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(
        parts["warped"].detach(), 5 * (drawn["warped"] - driving).abs().mean(), rtol=1e-4, atol=1e-6
    )


def test_who_learns_from_what():
    made = task(discriminator=DISCRIMINATOR)
    parts = made.losses(rng())
    assert gradient_loss(parts, made.discriminator) == 0, (
        "the generator's loss must leave the discriminator alone"
    )
    assert gradient_loss(made.losses(rng()), made.model.generator) > 0

    # Keypoints learn through what the discriminator sees of them: even where the prediction is none of theirs.
    made.losses(rng())
    rival_parts = made.discriminator_losses()
    assert set(rival_parts) == {"discriminator"}
    made.model.zero_grad(set_to_none=True)
    assert gradient_loss(rival_parts, made.discriminator) > 0
    assert all(p.grad is None for p in made.model.parameters()), (
        "the discriminator's loss must not move keypoints"
    )


def test_keypoints_learn_through_the_discriminators_heatmaps():
    made = task(replace(WEIGHTS, feature_matching=(0.0, 0.0, 0.0)), discriminator=DISCRIMINATOR)
    render = made.model.render
    made.model.render = lambda *inputs: {name: value.detach() for name, value in render(*inputs).items()}
    assert gradient_loss(made.losses(rng()), made.model.kp_detector) > 0


def test_processes_take_their_shares(monkeypatch):
    """Losses are means, so those of two halves of a batch average to the whole one's (batch statistics apart)."""
    made = task(discriminator=DISCRIMINATOR)
    made.model.eval()
    with torch.no_grad():
        whole = made.losses(rng())
        halves = []
        for half in (slice(0, 2), slice(2, 4)):
            monkeypatch.setattr("livepuppet.train.tasks.monkeynet.rank_slice", lambda batch, half=half: half)
            halves.append(made.losses(rng()))
    for name, value in whole.items():
        torch.testing.assert_close(value, (halves[0][name] + halves[1][name]) / 2)
    assert halves[0]["reconstruction"] != halves[1]["reconstruction"]


def test_the_image_comes_nearer():
    made = task(replace(without_discriminator(WEIGHTS), warped=10.0), batch=8)
    optimiser = torch.optim.Adam(made.trained.parameters(), lr=3e-3, betas=made.betas)
    figures = []
    for step in range(15):
        parts = made.losses(rng(step))
        loss = sum(parts.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        figures.append(parts["reconstruction"].item())
    assert sum(figures[-5:]) < 0.6 * sum(figures[:5])
    assert 0 < made.diagnostics()["spread"] < 1


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_train(name):
    preset = ablate(SMALL, name)
    made = task(discriminator=DISCRIMINATOR, preset=preset, batch=2)
    parts = made.losses(rng())
    assert gradient_loss(parts, made.model) > 0
    assert all(torch.isfinite(part) for part in {**parts, **made.discriminator_losses()}.values())
    assert (made.model.motion is None) == (name == "no-flow")
    assert preset == Preset.from_json(preset.to_json()), "a checkpoint says which row it is"
    assert (preset == SMALL) == (name == "full")


def test_what_cannot_be_ablated_is_said():
    with pytest.raises(ValueError, match="no ablation is called 'no-thing'; there are no-flow, "):
        ablate(SMALL, "no-thing")
    with pytest.raises(ValueError, match="fomm-64 is no Monkey-Net"):
        ablate(PRESETS["fomm-64"], "full")
    with pytest.raises(ValueError, match="is no Monkey-Net, whose training this is"):
        MonkeyNetTask(build("fomm-64"), MovingSquares(), 2)


@pytest.mark.parametrize("name", ["monkeynet-64", "fomm-64", "fomm-128"])
def test_another_number_of_keypoints(name):
    preset = with_keypoints(PRESETS[name], 2)
    assert preset.num_keypoints == preset.config.num_keypoints == 2
    model = build(preset).eval()
    with torch.no_grad():
        points, matrices = model.detect(torch.rand(1, 3, preset.size, preset.size))
    assert (points.shape, matrices.shape) == ((1, 2, 2), (1, 2, 2, 2))


def test_numbers_of_keypoints_that_cannot_be():
    with pytest.raises(ValueError, match="at least one"):
        with_keypoints(SMALL, 0)
    with pytest.raises(ValueError, match="lite-256 are landmarks"):
        with_keypoints(PRESETS["lite-256"], 4)


def test_recipes_fit_their_networks():
    published = RECIPES["monkeynet-128"]
    ours = RECIPES["monkeynet-64"]
    for recipe, preset in (
        (published, published.preset),
        (published, with_keypoints(published.preset, 4)),
        (ours, ours.preset),
    ):
        with torch.device("meta"):  # Shapes alone: to draw the weights of these would take seconds.
            model = build(preset)
            made = MonkeyNetTask(model, MovingSquares(), 2, recipe.weights, recipe.discriminator)
        assert (made.discriminator is None) == (recipe.weights.generator_gan == 0)
        if made.discriminator is not None:
            # The recipe's discriminator sees as many keypoints as there are.
            assert made.discriminator.config.heatmaps == preset.num_keypoints


def test_a_discriminator_that_does_not_fit_is_said():
    with pytest.raises(ValueError, match="3 weights of the reconstruction for 5 maps"):
        task(discriminator=replace(DISCRIMINATOR, blocks=4))
    with pytest.raises(ValueError, match="does not fit on images of 32 pixels"):
        task(replace(WEIGHTS, feature_matching=(1.0,) * 8), discriminator=replace(DISCRIMINATOR, blocks=7))
