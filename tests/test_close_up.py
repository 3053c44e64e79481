"""Close-up networks: where crops lie, what mirrors into what, and that a few steps learn a drawn eye."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from livepuppet.core.reading import (
    EYE_AMOUNTS,
    EYE_POINTS,
    HEAD_AMOUNTS,
    HEAD_POINTS,
    MOUTH_AMOUNTS,
    MOUTH_POINTS,
    FaceReading,
)
from livepuppet.export.close_ups import export_close_ups
from livepuppet.model.close_up import (
    EYE,
    HEAD,
    HEAD_MIRROR,
    HEAD_POINT_MIRROR,
    MOUTH,
    MOUTH_MIRROR,
    MOUTH_POINT_MIRROR,
    CloseUp,
    CloseUps,
)
from livepuppet.realtime.rig.close_ups import PLACING, crop_maps, cut_crop
from livepuppet.realtime.rig.close_ups import CloseUps as LookCloser
from livepuppet.train.recipes.close_up import train_close_up
from livepuppet.train.tasks.close_up import STORED, CropPool, Crops, framed


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
    for mirror, count in (
        (MOUTH_MIRROR, len(MOUTH_AMOUNTS)),
        (MOUTH_POINT_MIRROR, len(MOUTH_POINTS)),
        (HEAD_MIRROR, len(HEAD_AMOUNTS)),
        (HEAD_POINT_MIRROR, len(HEAD_POINTS)),
    ):
        assert [mirror[k] for k in mirror] == list(range(count))


def _face(turn: np.ndarray, shift: tuple[float, float]) -> dict[str, np.ndarray]:
    at = {
        "left upper lid": (-30, -4),
        "left lower lid": (-30, 4),
        "right upper lid": (30, -4),
        "right lower lid": (30, 4),
        "left mouth corner": (-20, 60),
        "right mouth corner": (20, 60),
        "upper lip": (0, 56),
        "lower lip": (0, 66),
    }
    return {name: turn @ np.array(place, float) + shift for name, place in at.items()}


TURN = 2 * np.array([[0.0, -1.0], [1.0, 0.0]])


def test_crops_follow_a_turned_face():
    """Turned by a right angle and twice as large, the face has the same place in its crops."""
    upright, turned = _face(np.eye(2), (90, 80)), _face(TURN, (150, 140))
    for one, other in zip(crop_maps(upright), crop_maps(turned), strict=True):
        for name in upright:
            places = [
                np.linalg.solve(affine[:, :2], at[name] - affine[:, 2])
                for affine, at in ((one, upright), (other, turned))
            ]
            assert np.allclose(*places, atol=1e-9)


def test_a_crop_shows_the_same_of_a_face_twice_as_large():
    rng = np.random.default_rng(0)
    small = cv2.GaussianBlur(rng.integers(0, 255, (160, 180, 3), dtype=np.uint8), (0, 0), 4)
    large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    affine = crop_maps(_face(np.eye(2), (90, 70)))[3]
    scaled = 4 * affine
    scaled[:, 2] += 1.5
    one, other = cut_crop(small, affine, 64), cut_crop(large, scaled, 64)
    assert np.abs(one.astype(int) - other).max() <= 4


def test_close_ups_in_onnxruntime_read_what_pytorch_reads(tmp_path):
    torch.manual_seed(0)
    networks = CloseUps(CloseUp(EYE), CloseUp(MOUTH), CloseUp(HEAD)).eval()
    export_close_ups(networks, tmp_path / "close-ups.onnx")
    look = LookCloser(PLACING, tmp_path / "close-ups.onnx")
    picture = np.random.default_rng(0).integers(0, 255, (240, 260, 3), dtype=np.uint8)
    at = _face(np.eye(2), (120, 90))
    seen = look(picture, np.array([at[name] for name in PLACING]))
    maps = crop_maps(at)
    crops = np.stack([cut_crop(picture, affine, 64) for affine in maps])
    with torch.no_grad():
        eye, amounts, _, mouth, *_, head, _, _ = networks(torch.from_numpy(crops))
    # Softmax over a thousand cells, in float32.
    assert np.allclose(seen.reading.eyes[:, 3:12], amounts.numpy(), atol=1e-4)
    for found, points, affine in ((seen.eyes[1], eye[1], maps[1]), (seen.mouth, mouth[0], maps[2])):
        assert np.allclose(found, points.numpy() @ affine[:, :2].T + affine[:, 2], atol=0.01)
    assert np.allclose(seen.head, head[0].numpy() @ maps[3][:, :2].T + maps[3][:, 2], atol=0.01)
    # A mirrored picture is read as the mirrored face, the eyes trading places.
    flipped = np.ascontiguousarray(picture[:, ::-1])
    other = [name.replace("left", "@").replace("right", "left").replace("@", "right") for name in PLACING]
    mirrored = look(flipped, np.array([[259 - at[name][0], at[name][1]] for name in other]))
    assert np.allclose(mirrored.reading.eyes[::-1], seen.reading.eyes, atol=2e-2)


def test_a_heap_of_landmarks_is_not_looked_at(tmp_path):
    export_close_ups(CloseUps(CloseUp(EYE), CloseUp(MOUTH), CloseUp(HEAD)).eval(), tmp_path / "c.onnx")
    look = LookCloser(PLACING, tmp_path / "c.onnx")
    assert look(np.zeros((64, 64, 3), np.uint8), np.full((len(PLACING), 2), 20.0)) is None
    with pytest.raises(ValueError, match="left upper lid"):
        LookCloser(["nose tip"])


def test_a_reading_goes_there_and_back_as_numbers():
    numbers = np.arange(2 * 13 + 34 + 14, dtype=np.float32)
    reading = FaceReading.of_numbers(numbers)
    assert np.array_equal(reading.numbers(), numbers)
    assert np.allclose(reading.towards(reading.rolled(1.0), 0.5).head[2], reading.head[2] + 0.5)
    for bad in (numbers[:-1], np.where(numbers == 3, np.nan, numbers)):
        with pytest.raises(ValueError):
            FaceReading.of_numbers(bad)


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
