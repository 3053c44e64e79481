"""Close-up networks: where crops lie, what mirrors into what, and that a few steps learn a drawn eye."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from livepuppet.model.close_up import (
    EYE,
    EYE_AMOUNTS,
    EYE_POINTS,
    MOUTH,
    MOUTH_AMOUNTS,
    MOUTH_MIRROR,
    MOUTH_POINTS,
    CloseUp,
    crop_affine,
    face_frame,
)
from livepuppet.train.recipes.close_up import train_close_up
from livepuppet.train.tasks.close_up import MOUTH_POINT_MIRROR, STORED, CropPool, Crops, framed


def _eye(opening: float, gaze: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A drawn eye (STORED, STORED, 3), its points in [-1, 1] and its amounts."""
    scale = (STORED - 1) / 2
    image = np.full((STORED, STORED, 3), rng.integers(120, 220, 3), np.uint8)
    width, height = 0.4, 0.25 * opening
    t = np.linspace(np.pi, -np.pi, 9)[:-1]
    lids = np.stack([width * np.cos(t), -height * np.sin(t)], 1)
    opened = np.zeros((STORED, STORED), np.uint8)
    fine = np.linspace(0, 2 * np.pi, 64)
    outline = np.stack([width * np.cos(fine), height * np.sin(fine)], 1)
    cv2.fillPoly(opened, [np.rint((outline + 1) * scale).astype(np.int32)], 255)
    ball = np.full_like(image, 240)
    iris = np.array([0.2 * gaze, 0.0])
    cv2.circle(
        ball, tuple(np.rint((iris + 1) * scale).astype(int).tolist()), int(0.16 * scale), (60, 40, 20), -1
    )
    image = np.where(opened[..., None] > 0, ball, image)
    amounts = np.zeros(len(EYE_AMOUNTS), np.float32)
    amounts[EYE_AMOUNTS.index("eyeBlink")] = 1 - opening
    amounts[EYE_AMOUNTS.index("eyeLookIn")] = max(gaze, 0.0)
    amounts[EYE_AMOUNTS.index("eyeLookOut")] = max(-gaze, 0.0)
    return image, np.concatenate([lids, iris[None]]), amounts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pool whose eyes are drawn, and whose mouths show nothing."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("crops")
    for name, groups in (("training", 24), ("validation", 8)):
        eyes = [
            [_eye(rng.uniform(0.05, 1), rng.uniform(-1, 1), rng) for _ in range(2)] for _ in range(4 * groups)
        ]
        (root / name).mkdir()
        count = len(eyes)
        np.savez(
            root / name / "crops-000001.npz",
            eyes=np.array([[one[0] for one in both] for both in eyes]),
            eye_points=np.array([[one[1] for one in both] for both in eyes], np.float16),
            eye_amounts=np.array([[one[2] for one in both] for both in eyes]),
            eye_seen=np.ones((count, 2), np.float32),
            mouths=np.zeros((count, STORED, STORED, 3), np.uint8),
            mouth_points=np.zeros((count, 20, 2), np.float16),
            mouth_amounts=np.zeros((count, len(MOUTH_AMOUNTS)), np.float32),
            mouth_seen=np.zeros(count, np.float32),
        )
    return root


@pytest.mark.parametrize("config", [EYE, MOUTH])
def test_what_a_network_returns(config):
    points, amounts, seen = CloseUp(config).eval()(torch.rand(2, 3, config.size, config.size))
    assert points.shape == (2, config.points, 2) and amounts.shape == (2, config.amounts)
    assert seen.shape == (2, 1) and points.abs().max() <= 1


def test_mirrors_undo_themselves():
    for mirror, count in ((MOUTH_MIRROR, len(MOUTH_AMOUNTS)), (MOUTH_POINT_MIRROR, len(MOUTH_POINTS))):
        assert [mirror[k] for k in mirror] == list(range(count))


def test_crops_follow_a_turned_face():
    """Turned by a right angle and twice as large, the face has the same place in its crops."""
    points = torch.tensor([[[-0.2, 0.0], [0.2, 0.0], [0.0, 0.4]]])
    turn = 2 * torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = points @ turn.T
    for side, mirrored in ((0.8, False), (1.25, True)):
        places = []
        for eyes in (points, turned):
            across, unit = face_frame(eyes[:, 0], eyes[:, 1], eyes[:, 2])
            assert torch.allclose(across.norm(dim=-1), unit[:, 0])
            affine = crop_affine(eyes[:, 1], across, side, mirrored)
            places.append(torch.linalg.solve(affine[:, :, :2], (eyes - affine[:, None, :, 2]).mT).mT)
        assert torch.allclose(*places, atol=1e-6)


def test_framing_moves_points_with_the_image(folder):
    """The darkest place of a framed crop is where the iris's point went."""
    rng = torch.Generator().manual_seed(1)
    pairs = CropPool(folder / "training").pairs(8, rng, "eye")
    open_eyes = pairs.amounts[:, 0] < 0.4
    crops = Crops(*(value[open_eyes] for value in (pairs.picture, pairs.points, pairs.amounts, pairs.seen)))
    plain = framed(crops, 64, rng, wild=False)
    dark = (0.35 - plain.picture.mean(1)).clamp_min(0)
    line = torch.linspace(-1, 1, 64)
    total = dark.sum((1, 2))
    x, y = (dark.sum(1) @ line) / total, (dark.sum(2) @ line) / total
    assert (torch.stack([x, y], 1) - plain.points[:, EYE_POINTS.index("iris")]).abs().max() < 0.06


@pytest.mark.slow
def test_a_drawn_eye_is_learnt(folder, tmp_path):
    scores = train_close_up("eye", folder, tmp_path, steps=140, batch=32, learning_rate=4e-3)
    assert scores["eyeBlink r"] > 0.5 and scores["iris"] < 0.12
    assert (tmp_path / "eye").is_dir()
