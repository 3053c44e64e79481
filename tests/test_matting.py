"""The matting network, its training on exact mattes, its graph, and what the rig makes of it."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest

from livepuppet.realtime.rig.layers import behind, split_layers
from livepuppet.realtime.rig.matting import SIDE, find_portrait

torch = pytest.importorskip("torch")


def person(size=256):
    """A picture of a head on shoulders before a wall; its face's centre and eye distance, and masks of figure and head."""
    rng = np.random.default_rng(3)
    unit, middle = 0.13 * size, np.array([0.52 * size, 0.4 * size])
    wall = np.full((size, size, 3), (150, 170, 185), np.float32) + rng.normal(0, 3, (size, size, 1))

    def ellipse(centre, across, down):
        mask = np.zeros((size, size), np.float32)
        centre = [round(16 * value) for value in centre]
        axes = (round(16 * across), round(16 * down))
        return cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA, 4)

    hair = ellipse(middle - np.array((0, 0.3 * unit)), 1.35 * unit, 1.75 * unit)
    face = ellipse(middle + np.array((0, 0.45 * unit)), 1.1 * unit, 1.6 * unit)
    neck = np.zeros_like(face)
    neck[round(middle[1] + unit) :, round(middle[0] - 0.6 * unit) : round(middle[0] + 0.6 * unit)] = 1
    body = ellipse(middle + np.array((0, 5.6 * unit)), 2.9 * unit, 2.9 * unit)
    picture = wall
    for mask, colour in (
        (neck, (190, 140, 115)),
        (body, (60, 70, 120)),
        (hair, (60, 40, 30)),
        (face, (215, 165, 140)),
    ):
        picture = picture + mask[..., None] * (np.array(colour) - picture)
    for side in (-1, 1):
        eye = ellipse(middle + np.array((side * unit / 2, 0)), 0.2 * unit, 0.1 * unit)
        iris = ellipse(middle + np.array((side * unit / 2, 0)), 0.08 * unit, 0.09 * unit)
        picture = picture + eye[..., None] * (np.array((235, 235, 235)) - picture)
        picture = picture + iris[..., None] * (np.array((60, 40, 20)) - picture)
    mouth = ellipse(middle + np.array((0, 1.15 * unit)), 0.4 * unit, 0.1 * unit)
    picture = picture + mouth[..., None] * (np.array((170, 70, 70)) - picture)
    head = np.maximum(hair, face)
    return picture.clip(0, 255).astype(np.uint8), middle, unit, np.maximum(head, np.maximum(neck, body)), head


def test_figure_head_and_body_are_told_apart():
    picture, middle, unit, figure, head = person()
    found = find_portrait(picture, middle, unit)
    assert found.sure
    assert np.abs(found.alpha[..., 0] / 255.0 - figure).mean() < 0.03
    assert np.abs(found.alpha[..., 1] / 255.0 - head).mean() < 0.04
    # The body goes on behind the chin.
    x, y = round(middle[0]), round(middle[1] + 1.7 * unit)
    assert head[y, x] == 1 and found.alpha[y, x, 2] > 200
    # The nose is nearer than the ears.
    assert found.depth[round(middle[1] + 0.5 * unit), x] > found.depth[y - round(unit), x + round(unit)]


def test_a_face_in_a_large_picture_is_looked_at_closely():
    picture, middle, unit, *_ = person()
    large = np.full((900, 1200, 3), 200, np.uint8)
    large[600:856, 30:286] = picture
    found = find_portrait(large, middle + np.array((30, 600)), unit)
    assert found.inside.mean() > 0.5
    seen = found.on(found.alpha, large.shape[:2])
    assert seen[round(600 + middle[1]), round(30 + middle[0]), 1] > 250
    # Its square is of ten eye distances.
    assert found.affine[0, 0] == pytest.approx((SIDE - 1) / (10 * unit), rel=1e-6)


def test_a_neck_goes_up_behind_the_head_as_wide_as_it_is_and_its_outline_stays_with_it():
    picture, middle, unit, figure, head = person(512)
    # Drawn with dark outlines.
    for mask in (figure - head, head):
        contours, _ = cv2.findContours(
            (mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, contours, -1, (25, 15, 10), 4, cv2.LINE_AA)
    landmarks = middle + unit * np.array([(-0.5, 0), (0.5, 0), (0, 0.6), (0, 1.15), (0, 1.9)])
    layers = split_layers(picture, _square(), landmarks, unit, centre=middle).head
    assert layers is not None
    left, right = (round(middle[0] + side * 0.6 * unit) for side in (-1, 1))
    jaw = int(np.flatnonzero(head[:, left] > 0.5)[-1])
    # The jaw's own outline ends a few pixels further down.
    stubs = layers.head[jaw + 15 : jaw + 40, :, 3]
    assert stubs[:, left - 5 : left + 2].max() < 40 and stubs[:, right - 1 : right + 6].max() < 40
    behind_head = layers.body_alpha[: jaw - 4]
    assert behind_head[:, : left - 6].max() < 40 and behind_head[:, right + 6 :].max() < 40


def test_layers_give_the_picture_back_to_the_bit():
    picture, middle, unit, _, head = person()
    landmarks = middle + unit * np.array(
        [[-0.5, 0], [0.5, 0], [0, 0.6], [0, 1.15], [-0.4, 1.15], [0.4, 1.15]]
    )
    layers = split_layers(picture, _square(), landmarks, unit, centre=middle)
    split = layers.head
    assert split is not None and layers.matte is not None

    def over(flat, below):
        return cv2.add(np.ascontiguousarray(flat[..., :3]), behind(below, flat[..., 3]))

    below = over(split.body, layers.plate)
    np.testing.assert_array_equal(over(split.head, below), picture)
    # Without the head, its place shows neck or wall, and no face.
    face = picture[round(middle[1] + 0.6 * unit), round(middle[0] + 0.2 * unit)].astype(int)
    shown = below[round(middle[1] + 0.6 * unit), round(middle[0] + 0.2 * unit)].astype(int)
    assert np.abs(face - shown).max() > 15
    # No line of the head is left along the shoulders.
    shoulders = (head == 0) & (np.arange(256)[:, None] > middle[1] + 3.2 * unit)
    assert split.share[shoulders].max() == 0


def _square():
    from livepuppet.core.square import Square

    return Square(0, 0, 256)


def test_the_graph_draws_what_the_network_does(tmp_path):
    import onnxruntime

    from livepuppet.export.matting import export_matting
    from livepuppet.model.matting import INPUTS, Matting, MattingConfig

    torch.manual_seed(0)
    network = Matting(MattingConfig(size=64, stem=4, channels=(8, 8, 8))).eval()
    export_matting(network, tmp_path / "matting.onnx")
    inputs = torch.rand(1, INPUTS, 64, 64)
    session = onnxruntime.InferenceSession(str(tmp_path / "matting.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for found, true in zip(session.run(None, {"square": inputs.numpy()}), network(inputs), strict=True):
            # Large weights are kept in 16 bits; these are small.
            np.testing.assert_allclose(found, true.numpy(), atol=2e-3)


def pool(tmp_path, count=4):
    from livepuppet.train.tasks.matting import MattePool

    rng = np.random.default_rng(5)
    folder = tmp_path / "training"
    folder.mkdir()
    background = np.repeat(rng.integers(0, 256, (count, 1, 1, 3), np.uint8), 256, 1).repeat(256, 2)
    figure = np.zeros((count, 256, 256), np.float32)
    figure[:, 80:, 90:170] = 1
    figure = np.stack([cv2.GaussianBlur(one, (0, 0), 2) for one in figure])
    head, body = figure.copy(), figure.copy()
    head[:, 160:], body[:, :130] = 0, 0
    colour = np.array([200, 120, 90])
    pictures = figure[..., None] * colour + (1 - figure[..., None]) * background
    plates = body[..., None] * colour + (1 - body[..., None]) * background
    np.savez(
        folder / "mattes-000001.npz",
        pictures=pictures.round().astype(np.uint8),
        plates=plates.round().astype(np.uint8),
        backgrounds=background,
        alphas=(255 * np.stack([figure, head, body], -1)).round().astype(np.uint8),
        depth=np.where(figure[:, ::2, ::2] > 0.5, 0.3, np.nan).astype(np.float16),
        faces=np.tile(np.float32([0, -0.1, 0.3]), (count, 1)),
    )
    return MattePool([folder])


def test_figures_before_other_backgrounds_stay_themselves(tmp_path):
    from livepuppet.train.tasks.matting import before_others

    rows = pool(tmp_path).rows(torch.arange(4))
    was = {field.name: getattr(rows, field.name).clone() for field in fields(rows)}
    new = before_others(rows, torch.Generator().manual_seed(1))
    solid = was["alphas"][:, :1].expand(-1, 3, -1, -1) > 0.999
    assert (new.pictures - was["pictures"]).abs()[solid].max() < 0.02
    moved = (new.backgrounds - was["backgrounds"]).abs().amax((1, 2, 3)) > 0.05
    assert moved.any()
    away = was["alphas"][:, :1].expand(-1, 3, -1, -1) == 0
    assert (new.pictures - new.backgrounds).abs()[away].max() < 0.02


def test_framing_keeps_face_and_truth_together(tmp_path):
    from livepuppet.train.tasks.matting import framed

    rows = pool(tmp_path).rows(torch.arange(4))
    # A dot where the face is.
    rows.pictures[:] = 0
    y, x = ((rows.faces[0, :2].flip(0) + 1) * 127.5).round().long().tolist()
    rows.pictures[:, :, y - 2 : y + 3, x - 2 : x + 3] = 1
    rows.alphas[:] = rows.pictures
    new = framed(rows, torch.Generator().manual_seed(2))
    for k in range(4):
        if new.faces[k, :2].abs().max() > 0.95:
            continue
        y, x = ((new.faces[k, :2].flip(0) + 1) * 127.5).round().long().tolist()
        assert new.alphas[k, 0, y, x] > 0.9
        assert new.pictures[k, 0, y, x] > 0.9


def test_training_learns(tmp_path):
    from livepuppet.model.matting import MattingConfig
    from livepuppet.train.tasks.matting import MattingTask

    torch.manual_seed(0)
    task = MattingTask(pool(tmp_path), None, 2, MattingConfig(256, 4, (4, 8, 8)))
    optimiser = torch.optim.Adam(task.trained.parameters(), 2e-2)
    totals = []
    for step in range(14):
        losses = task.losses(torch.Generator().manual_seed(step))
        total = sum(losses.values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(losses["alpha"].item())
    assert np.isfinite(totals).all()
    assert np.mean(totals[-3:]) < 0.8 * totals[0]
