"""A fresh generator paints the mean colour of its data."""

import cv2
import numpy as np
import torch

from livepuppet.model.presets import build
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.tasks.initialisation import start_from_mean_colour


def test_a_fresh_generator_paints_the_mean_colour(tmp_path):
    torch.set_num_threads(1)
    for clip in ("a", "b"):
        (tmp_path / clip).mkdir()
        for frame in range(3):
            # BGR on disk: red 230 of 255, green 100, and hardly any blue.
            image = np.full((64, 64, 3), (2, 100, 230), np.uint8)
            cv2.imwrite(str(tmp_path / clip / f"{frame}.png"), image)
    data = ClipSet(tmp_path, 64)
    for name in ("fomm-64", "monkeynet-64"):
        torch.manual_seed(0)
        model = build(name)
        with torch.no_grad():
            model.generator.final.weight.zero_()
        start_from_mean_colour(model, data)
        model.eval()
        source, driving = data.pairs(1, torch.Generator().manual_seed(0))
        with torch.no_grad():
            drawn = model.render(model.encode(source), *model.detect(source), *model.detect(driving))
        wanted = torch.tensor([230 / 255, 100 / 255, 0.05])  # blue is held at the bound
        torch.testing.assert_close(drawn["prediction"].mean((0, 2, 3)), wanted, atol=1e-3, rtol=0)


def test_other_networks_are_left_as_they_are(tmp_path):
    model = torch.nn.Linear(2, 2)
    before = model.weight.clone()
    start_from_mean_colour(model, None)
    assert torch.equal(model.weight, before)
