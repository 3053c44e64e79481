"""The papers' measures, on coloured things that a perfect model and broken ones move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from livepuppet.model.geometry import make_grid, warp
from livepuppet.train.measure import evaluation, reenact, things
from livepuppet.train.measure.drawing import sheet
from livepuppet.train.measure.figures import Pixels
from livepuppet.train.measure.things import ThingMeasure

SIDE = 32


def thing(left: int, top: int, colour=(200, 40, 120), side: int = 8) -> np.ndarray:
    """A square on black, RGB uint8 (SIDE, SIDE, 3)."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[top : top + side, left : left + side] = colour
    return picture


class Clips:
    """Things that move by whole pixels; what `evaluation.Clips` asks for."""

    names = ("across.png", "down.png", "aslant.png")
    skipped: ClassVar[list[str]] = []
    paths = (
        [(4 + 2 * t, 12) for t in range(6)],
        [(12, 20 - 2 * t) for t in range(6)],
        [(8 + t, 9 + t) for t in range(6)],
    )
    colours = ((200, 40, 120), (30, 90, 60), (255, 255, 255))

    def __len__(self):
        return len(self.names)

    def frames(self, k):
        return np.stack([thing(x, y, self.colours[k]) for x, y in self.paths[k]])


class Mover(nn.Module):
    """Finds the thing exactly and shifts the whole picture by its motion: a perfect puppeteer of things on black.

    Args:
        gain: share of the motion that it makes; 1 is right.
        show: what it does to the moved picture.
    """

    preset = SimpleNamespace(size=SIDE, matrices="jacobian")

    def __init__(self, gain=1.0, show=lambda picture: picture):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.gain, self.show = gain, show

    def detect(self, frames):
        there = (frames.amax(1) > 0.1).float()
        weight = there / there.sum((1, 2), keepdim=True)
        centre = (weight[..., None] * make_grid(SIDE, SIDE)).sum((1, 2))
        # The second keypoint stays where it is, on the background.
        points = torch.stack([centre, torch.zeros_like(centre)], 1)
        return points, torch.eye(2).expand(len(frames), 2, 2, 2)

    def encode(self, avatars):
        return {"picture": avatars}

    def render(self, features, source_points, source_matrices, driving_points, driving_matrices):
        shift = self.gain * (source_points - driving_points)[:, :1, None]
        grid = make_grid(SIDE, SIDE) + shift
        return {"prediction": self.show(warp(features["picture"], grid)), "deformation": grid}


def figures(model, mode="reconstruction", measures=(Pixels, ThingMeasure), **options):
    clips = Clips()
    if mode == "reconstruction":
        shown = evaluation.reconstructions(model, clips, range(3), batch=4, **options)
    else:
        shown = evaluation.animations(
            model, clips, [(0, 1), (1, 2), (2, 0)], mode == "relative", batch=4, **options
        )
    return evaluation.score(shown, [measure() for measure in measures])[0]


def test_a_perfect_reconstruction_scores_perfectly():
    found = figures(Mover())
    assert found["L1"] < 1e-4 and found["L1 warp"] < 1e-4
    assert found["AKD px"] < 1e-3 and found["landing px"] < 1e-3
    assert found["MKR"] == 0 and found["colour error"] < 1e-3
    assert found["area ratio"] == pytest.approx(1)
    # The keypoint on the thing follows it exactly; the one on the background does not at all.
    assert found["follow correlation best"] == pytest.approx(1)
    assert found["follow slope best"] == pytest.approx(1)
    assert found["follow slope median"] == pytest.approx(0.5)


def test_copying_the_source_scores_as_the_baseline_says():
    found = figures(Mover(gain=0.0))
    assert found["L1"] == pytest.approx(found["L1 copy"]) and found["L1"] > 0.01
    assert found["AKD px"] == pytest.approx(found["AKD copy px"]) and found["AKD px"] > 1
    assert found["landing px"] == pytest.approx(found["landing copy px"], abs=1e-3)
    clips = Clips()
    byhand = np.mean([np.abs(clips.frames(k) / 255 - clips.frames(k)[:1] / 255).mean() for k in range(3)])
    assert found["L1 copy"] == pytest.approx(byhand, rel=1e-5)


def test_half_the_motion_lands_half_way():
    found = figures(Mover(gain=0.5))
    assert found["landing px"] == pytest.approx(found["landing copy px"] / 2, abs=1e-3)
    assert found["AKD px"] == pytest.approx(found["AKD copy px"] / 2, abs=0.3)


def test_a_thing_that_is_gone_is_missing_and_a_wrong_colour_an_error():
    assert figures(Mover(show=lambda picture: picture * 0.1))["MKR"] == 1
    assert figures(Mover(show=lambda picture: picture + 0.5))["MKR"] == 1
    assert figures(Mover(show=lambda picture: picture.flip(1)))["colour error"] > 0.1


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_animation_moves_the_thing_by_or_to_the_drivers(mode):
    found = figures(Mover(), mode)
    assert "L1" not in found and "landing px" not in found
    assert found["AKD px"] < 1e-3 and found["AKD copy px"] > 1 and found["MKR"] == 0
    assert found["colour error"] < 1e-3
    # The truth of one way is not that of the other.
    shown = next(iter(evaluation.animations(Mover(), Clips(), [(0, 1)], mode == "relative")))
    other = figures_of([shown.__class__(**{**shown.__dict__, "relative": not shown.relative})])
    assert other["AKD px"] > 1


def figures_of(shown):
    return evaluation.score(shown, [ThingMeasure()])[0]


def test_batches_and_thinning_change_nothing_but_the_count():
    whole = next(iter(evaluation.reconstructions(Mover(), Clips(), [0], batch=6)))
    parts = next(iter(evaluation.reconstructions(Mover(), Clips(), [0], batch=4)))
    assert np.array_equal(whole.result, parts.result) and np.allclose(whole.l1, parts.l1)
    thinned = next(iter(evaluation.reconstructions(Mover(), Clips(), [0], every=2, batch=4)))
    assert np.array_equal(thinned.result, whole.result[::2])


def test_relative_motion_keeps_the_source_at_rest():
    rng = torch.Generator().manual_seed(0)

    def keypoints(count):
        return torch.rand(count, 3, 2, generator=rng), torch.eye(2) + 0.2 * torch.rand(
            count, 3, 2, 2, generator=rng
        )

    source, initial, driving = keypoints(1), keypoints(1), keypoints(4)
    rest = reenact.relative_motion(source, initial, initial)
    assert torch.allclose(rest[0], source[0], atol=1e-6) and torch.allclose(rest[1], source[1], atol=1e-5)
    moved = reenact.relative_motion(source, initial, driving, "covariance")
    assert torch.equal(moved[1], driving[1]) and torch.allclose(moved[0], source[0] + driving[0] - initial[0])


def test_random_pairs_are_of_different_clips_and_follow_from_the_seed():
    pairs = evaluation.random_pairs(4, 50, 1)
    assert len(set(pairs)) == 12 and all(a != b and 0 <= b < 4 for a, b in pairs)
    assert evaluation.random_pairs(100, 5, 1) == evaluation.random_pairs(100, 5, 1)
    assert evaluation.random_pairs(100, 5, 1) != evaluation.random_pairs(100, 5, 2)
    with pytest.raises(ValueError, match="two"):
        evaluation.random_pairs(1, 5, 1)


def test_things_refuse_pictures_without_a_black_background():
    black, white = np.zeros((3, SIDE, SIDE, 3), np.uint8), np.full((3, SIDE, SIDE, 3), 255, np.uint8)
    for frames, word in ((black, "shows none"), (white, "background")):
        with pytest.raises(things.ThingError, match=word):
            figures_of([reenact.show(Mover(), "clip", frames[0], frames)])


def test_a_sheet_shows_source_driving_result():
    shown = list(evaluation.reconstructions(Mover(), Clips(), [0, 1]))
    picture = sheet(shown)
    assert picture.dtype == np.uint8 and picture.shape == (4 * 128, 4 * 128, 3)
    # The last column's clean result is the driving frame, enlarged.
    assert np.array_equal(
        picture[384:511, 384:511], shown[1].driving[-1].repeat(4, 0).repeat(4, 1)[:127, :127]
    )
