"""Close-up networks: where crops lie, what mirrors into what, and that a few steps learn a drawn eye."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.reading import (
    EYE_AMOUNTS,
    EYE_NUMBERS,
    EYE_POINTS,
    HEAD_AMOUNTS,
    HEAD_MEASURES,
    HEAD_NUMBERS,
    HEAD_POINTS,
    MOUTH_AMOUNTS,
    MOUTH_NUMBERS,
    MOUTH_POINTS,
    FaceReading,
)
from livepuppet.core.square import Square
from livepuppet.export.close_ups import export_close_ups, export_eyes
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
from livepuppet.realtime.animator import in_frame, in_square
from livepuppet.realtime.app.settings import NeutralPose
from livepuppet.realtime.framing.follow import reexpressed
from livepuppet.realtime.motion.retargeter import blend
from livepuppet.realtime.motion.smoothing import Smoother
from livepuppet.realtime.rig import eye_fit
from livepuppet.realtime.rig.amounts import (
    CLOSE_BARED,
    CLOSE_OPEN,
    CLOSE_SIDEWAYS,
    INDEX,
    SHAPE,
    STRONGEST,
    CloseUpReader,
)
from livepuppet.realtime.rig.blendshapes import mouth_blendshapes
from livepuppet.realtime.rig.close_ups import (
    EYE_AT,
    PLACING,
    brow_heights,
    crop_maps,
    cut_crop,
    default_close_ups,
)
from livepuppet.realtime.rig.close_ups import CloseUps as LookCloser
from livepuppet.realtime.rig.pose import CLOSE_TURN_GAIN, PoseTracker, joined
from livepuppet.realtime.rig.template import head_template
from livepuppet.train.recipes import close_up as close_up_recipe
from livepuppet.train.recipes.close_up import of_graph, train_close_up
from livepuppet.train.tasks.close_up import KINDS, CloseUpTask, CropPool, Crops, close_up_scores, framed

STORED = KINDS["eye"].stored


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
    """A pool whose eyes are drawn, and whose mouths and heads show nothing."""
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
            heads=rng.integers(0, 255, (count, 24, 24, 3), dtype=np.uint8),
            head_points=np.zeros((count, len(HEAD_POINTS), 2), np.float16),
            head_amounts=np.zeros((count, len(HEAD_AMOUNTS)), np.float32),
            head_seen=np.ones(count, np.float32),
        )
    return root


@pytest.mark.parametrize("config", [EYE, MOUTH, HEAD])
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
    sizes = (EYE.size, EYE.size, MOUTH.size, HEAD.size)
    crops = [cut_crop(picture, affine, size) for affine, size in zip(maps, sizes, strict=True)]
    inputs = (np.stack(some) for some in (crops[:2], crops[2:3], crops[3:]))
    with torch.no_grad():
        eye, amounts, _, mouth, *_, head, _, _ = networks(*map(torch.from_numpy, inputs))
    # Softmax over a thousand cells, in float32.
    assert np.allclose(seen.reading.eyes[:, 3:12], amounts.numpy(), atol=1e-4)
    for found, points, affine in ((seen.eyes[1], eye[1], maps[1]), (seen.mouth, mouth[0], maps[2])):
        assert np.allclose(found, points.numpy() @ affine[:, :2].T + affine[:, 2], atol=0.01)
    assert np.allclose(seen.head, head[0].numpy() @ maps[3][:, :2].T + maps[3][:, 2], atol=0.01)
    # A mirrored picture is read as the mirrored face, the eyes trading places.
    flipped = np.ascontiguousarray(picture[:, ::-1])
    other = [name.replace("left", "@").replace("right", "left").replace("@", "right") for name in PLACING]
    places = np.array([[259 - at[name][0], at[name][1]] for name in other])
    mirrored = look(flipped, places)
    # Pixels that are averaged in pairs are other pairs in the flipped picture, which is noise here.
    asked = look(picture, places, mirrored=True)
    assert np.allclose(mirrored.reading.numbers(), asked.reading.numbers(), atol=1e-2)
    assert np.allclose(mirrored.reading.eyes[::-1], seen.reading.eyes, atol=2e-2)


def test_eyes_of_avatars_are_read_by_a_network_of_their_own(tmp_path):
    torch.manual_seed(0)
    networks = CloseUps(CloseUp(EYE), CloseUp(MOUTH), CloseUp(HEAD)).eval()
    other = CloseUps(CloseUp(EYE).eval(), networks.mouth, networks.head)
    export_close_ups(networks, tmp_path / "close-ups.onnx")
    export_close_ups(other, tmp_path / "other.onnx")
    export_eyes(other.eye, tmp_path / "eyes.onnx")
    picture = np.random.default_rng(0).integers(0, 255, (240, 260, 3), dtype=np.uint8)
    at = _face(np.eye(2), (120, 90))
    points = np.array([at[name] for name in PLACING])
    drivers, others, avatars = (
        LookCloser(PLACING, tmp_path / graph, eyes=eyes)(picture, points)
        for graph, eyes in (
            ("close-ups.onnx", None),
            ("other.onnx", None),
            ("close-ups.onnx", tmp_path / "eyes.onnx"),
        )
    )
    assert np.allclose(avatars.reading.numbers(), others.reading.numbers(), atol=1e-4)
    assert np.allclose(avatars.eyes, others.eyes, atol=0.01)
    assert not np.allclose(avatars.reading.eyes, drivers.reading.eyes, atol=0.01)


def test_a_heap_of_landmarks_is_not_looked_at(tmp_path):
    export_close_ups(CloseUps(CloseUp(EYE), CloseUp(MOUTH), CloseUp(HEAD)).eval(), tmp_path / "c.onnx")
    look = LookCloser(PLACING, tmp_path / "c.onnx")
    assert look(np.zeros((64, 64, 3), np.uint8), np.full((len(PLACING), 2), 20.0)) is None
    with pytest.raises(ValueError, match="left upper lid"):
        LookCloser(["nose tip"])


def test_a_reading_goes_there_and_back_as_numbers():
    numbers = np.arange(2 * 13 + 34 + 18, dtype=np.float32)
    reading = FaceReading.of_numbers(numbers)
    assert np.array_equal(reading.numbers(), numbers)
    rolled = reading.mapped(lambda points: points, 1.0)
    assert np.allclose(reading.towards(rolled, 0.5).head[2], reading.head[2] + 0.5)
    # With anchors; those of a version without them stay readable.
    longer = FaceReading.of_numbers(np.concatenate([numbers, np.arange(16, dtype=np.float32)]))
    assert longer.anchors.shape == (8, 2) and len(longer.numbers()) == len(numbers) + 16
    assert np.array_equal(longer.mapped(lambda points: points + 1).anchors, longer.anchors + 1)
    assert longer.towards(reading, 0.5).anchors is None
    for bad in (numbers[:-1], np.where(numbers == 3, np.nan, numbers)):
        with pytest.raises(ValueError):
            FaceReading.of_numbers(bad)


def test_framing_moves_points_with_the_image(folder):
    """The darkest place of a framed crop is where the iris's point went."""
    rng = torch.Generator().manual_seed(1)
    pairs = CropPool(folder / "training", "eye").pairs(8, rng)
    open_eyes = pairs.amounts[:, 0] < 0.4
    crops = Crops(*(value[open_eyes] for value in (pairs.picture, pairs.points, pairs.amounts, pairs.seen)))
    plain = framed(crops, 64, rng, wild=False)
    dark = (0.35 - plain.picture.mean(1)).clamp_min(0)
    line = torch.linspace(-1, 1, 64)
    total = dark.sum((1, 2))
    x, y = (dark.sum(1) @ line) / total, (dark.sum(2) @ line) / total
    assert (torch.stack([x, y], 1) - plain.points[:, EYE_POINTS.index("iris")]).abs().max() < 0.06


def test_a_training_leaves_a_checkpoint_and_goes_on_from_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(close_up_recipe, "close_up_scores", partial(close_up_scores, batches=1))
    first = train_close_up("eye", folder, tmp_path, steps=2, batch=4)
    again = train_close_up("eye", folder, tmp_path, steps=3, batch=4, resume=True)
    assert first.keys() == again.keys() and first != again
    assert all(np.isfinite(value) for value in again.values())
    assert list((tmp_path / "eye").glob("*.checkpoint.pt"))


@pytest.mark.parametrize("kind", list(KINDS))
def test_losses_follow_from_the_seed(folder, kind):
    task = CloseUpTask(CropPool(folder / "training", kind), batch=6)
    first, again = (task.losses(torch.Generator().manual_seed(4)) for _ in range(2))
    for name, part in first.items():
        assert torch.isfinite(part) and part == again[name]


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_step_on_a_device_neither_mixes_nor_waits(folder, kind, monkeypatch):
    """Tensors without contents fail where a number of theirs is asked for, and beside the processor's."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind=None: False)
    pool = CropPool(folder / "training", kind)
    pool.device = torch.device("meta")
    for name in ("pictures", "points", "amounts", "seen"):
        setattr(pool, name, getattr(pool, name).to("meta"))
    task = CloseUpTask(pool, batch=64)
    parts = task.losses(torch.Generator().manual_seed(0))
    assert all(part.is_meta for part in parts.values())
    sum(parts.values()).backward()
    with pytest.raises((RuntimeError, NotImplementedError)):
        parts["sure"].item()


def test_shards_of_two_versions_are_refused(folder, tmp_path):
    with np.load(folder / "validation" / "crops-000001.npz") as shard:
        arrays = dict(shard)
    np.savez(tmp_path / "crops-000001.npz", **arrays)
    np.savez(tmp_path / "crops-000002.npz", **arrays | {"mouths": arrays["mouths"][:, ::2, ::2]})
    with pytest.raises(UserError, match="several versions"):
        CropPool(tmp_path, "mouth")
    (tmp_path / "crops-000001.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="000001"):
        CropPool(tmp_path, "mouth")
    with pytest.raises(UserError, match="draw some"):
        CropPool(tmp_path / "none", "mouth")


def test_pairs_are_of_one_identity_however_many_poses_a_shard_has(folder, tmp_path):
    with np.load(folder / "validation" / "crops-000001.npz") as shard:
        arrays = {name: value[:12] for name, value in shard.items() if value.ndim}
    for seed, poses in ((1, 4), (2, 2)):
        identity = np.arange(12) // poses + 10 * seed
        arrays["mouth_seen"] = (identity + np.arange(12) / 100).astype(np.float32)
        np.savez(tmp_path / f"crops-{seed:06d}.npz", **arrays, poses=np.array(poses))
    crops = CropPool(tmp_path, "mouth").pairs(200, torch.Generator().manual_seed(0))
    one, other = crops.seen[:200], crops.seen[200:]
    assert (one.int() == other.int()).all() and (one != other).all()
    assert len(crops.seen.unique()) == 24


def test_the_graph_that_ships_is_read():
    """Whatever the sizes of its crops are."""
    at = _face(np.eye(2), (120, 90))
    look = LookCloser(PLACING)(np.full((240, 260, 3), 90, np.uint8), np.array([at[name] for name in PLACING]))
    assert np.isfinite(look.reading.numbers()).all() and look.head.shape == (len(HEAD_POINTS), 2)


def test_training_goes_on_from_the_graph_that_ships(folder, tmp_path):
    """With norms of their own again, in the training's way too, networks return what the graph returns."""
    session = onnxruntime.InferenceSession(str(default_close_ups()), providers=["CPUExecutionProvider"])
    crops = np.random.default_rng(0).integers(0, 256, (2, EYE.size, EYE.size, 3), np.uint8)
    feed = {one.name: np.zeros(one.shape, np.uint8) for one in session.get_inputs()} | {"eyes": crops}
    points, amounts, _ = session.run(["eye_points", "eye_amounts", "eye_logits"], feed)
    network = of_graph(default_close_ups(), "eye", CropPool(folder / "training", "eye"), batches=1, pairs=8)
    with torch.no_grad():
        own = network(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255)
    assert np.abs(own[0].numpy() - points).max() < 1e-3 and np.abs(own[1].numpy() - amounts).max() < 1e-3
    norms = [one for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    assert norms and all(
        float(one.running_var.min()) >= 0 and float(one.running_mean.abs().max()) > 0 for one in norms
    )
    (tmp_path / "other.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="no graph of close-up networks"):
        of_graph(tmp_path / "other.onnx", "eye", CropPool(folder / "training", "eye"))


@pytest.mark.slow
def test_a_drawn_eye_is_learnt(folder, tmp_path):
    scores = train_close_up("eye", folder, tmp_path, steps=140, batch=32, learning_rate=4e-3)
    assert scores["eyeBlink r"] > 0.5 and scores["iris"] < 0.12
    assert (tmp_path / "eye").is_dir()


def _reading(**numbers: float) -> FaceReading:
    """A face at rest, with some of its numbers changed: eye=, iris=, blink= of the left eye, jaw=, yaw=, pitch=, roll=."""
    eyes = np.zeros((2, EYE_NUMBERS), np.float32)
    eyes[:, 0] = 0.3
    mouth, head = np.zeros(MOUTH_NUMBERS, np.float32), np.zeros(HEAD_NUMBERS, np.float32)
    eyes[0, 0] = numbers.get("eye", 0.3)
    eyes[0, 1] = numbers.get("iris", 0.0)
    eyes[0, EYE_AT["eyeBlink"]] = numbers.get("blink", 0.0)
    mouth[4 + MOUTH_AMOUNTS.index("jawOpen")] = numbers.get("jaw", 0.0)
    mouth[0] = CLOSE_OPEN * numbers.get("jaw", 0.0)
    head[:3] = numbers.get("yaw", 0.0), numbers.get("pitch", 0.0), numbers.get("roll", 0.0)
    return FaceReading(eyes, mouth, head)


def test_amounts_are_relative_to_the_drivers_neutral_face():
    reader = CloseUpReader()
    reader.set_neutral(_reading(eye=0.2, iris=0.1, blink=0.2, jaw=0.3))
    rest = reader.read(_reading(eye=0.2, iris=0.1, blink=0.2, jaw=0.3))
    assert not rest.any()
    shut = reader.read(_reading(eye=0.03, iris=0.1, blink=1.0, jaw=0.8))
    # The picture's left is the face's right.
    assert shut[INDEX["eyeBlinkRight"]] > 0.95 and shut[INDEX["eyeBlinkLeft"]] < 0.1
    assert 0.4 < shut[INDEX["jawOpen"]] <= 0.5
    inwards = reader.read(_reading(eye=0.2, iris=0.2, blink=0.2, jaw=0.3))
    assert inwards[INDEX["eyeLookInRight"]] > 0.1 and not inwards[INDEX["eyeLookOutRight"]]
    assert np.abs(reader.read(_reading(eye=0.2, iris=0.1, blink=0.2, jaw=0.32))).max() < 0.02


def test_bared_teeth_are_no_open_mouth():
    reader = CloseUpReader()
    reader.set_neutral(_reading())
    bared, parted = _reading(), _reading(jaw=0.3)
    # Lips part as far as an upper lip that is drawn up and a lower one that is drawn down part them.
    bared.mouth[0] = sum(CLOSE_BARED.values())
    for name in CLOSE_BARED:
        for side in ("Left", "Right"):
            bared.mouth[4 + MOUTH_AMOUNTS.index(name + side)] = 1.0
    shown = reader.read(bared)
    assert abs(shown[INDEX["jawOpen"]]) < 0.03 and shown[INDEX["mouthUpperUpLeft"]] > 0.9
    assert reader.read(parted)[INDEX["jawOpen"]] > 0.27


def test_brows_are_those_of_their_own_side_and_noise_moves_none():
    rest, reader = _reading(), CloseUpReader()
    reader.set_neutral(rest)

    def read(middle: float = 0.0, inner: float = 0.0, eye: float = 0.0, pitch: float = 0.0) -> np.ndarray:
        """With the picture's left brow higher by as much, raised as its eye's close-up sees it, and a head that nods."""
        eyes, numbers = rest.eyes.copy(), rest.head.copy()
        eyes[0, EYE_AT["browOuterUp"]] += eye
        for name, change in (("left brow", middle), ("left inner brow", inner)):
            numbers[len(HEAD_AMOUNTS) + HEAD_MEASURES.index(name)] += change
        numbers[HEAD_AMOUNTS.index("pitch")] += pitch
        return reader.read(FaceReading(eyes, rest.mouth, numbers))

    raised = read(0.1, 0.1)
    assert raised[INDEX["browOuterUpRight"]] > 0.8 > raised[INDEX["browInnerUp"]] > 0.3
    assert not raised[INDEX["browOuterUpLeft"]] and not raised[INDEX["browDownRight"]]
    frown = read(0.0, -0.08)
    assert frown[INDEX["browDownRight"]] > 0.9 and not frown[INDEX["browDownLeft"]]
    assert read(eye=0.35)[INDEX["browOuterUpRight"]] > 0.3
    assert read(0.01, 0.01, 0.02).max() < 0.06
    # A head that nods by ten degrees lowers its brows by so much, and they are at rest.
    assert read(-0.044, -0.044, pitch=0.175)[INDEX["browDownRight"]] < 0.02
    assert read(1.0, 1.0, 1.0).max() == pytest.approx(STRONGEST)


def test_brows_stay_while_eyes_are_shut_and_do_not_rise_as_the_head_turns():
    rest, reader = _reading(), CloseUpReader()
    reader.set_neutral(rest)
    at = [len(HEAD_AMOUNTS) + HEAD_MEASURES.index(name) for name in ("left brow", "right brow")]

    def read(brows: tuple[float, float], shut: tuple[int, ...] = (), turn: float = 0.0) -> np.ndarray:
        """`browOuterUp` of the picture's left and right, with eyes of these sides shut."""
        eyes, numbers = rest.eyes.copy(), rest.head.copy()
        for place in shut:
            eyes[place, 0], eyes[place, EYE_AT["eyeBlink"]] = 0.0, 1.0
        numbers[at] += brows
        found = reader.read(FaceReading(eyes, rest.mouth, numbers), turn=turn)
        return found[[INDEX["browOuterUpRight"], INDEX["browOuterUpLeft"]]]

    np.testing.assert_array_equal(read((0.1, 0.1), shut=(0, 1)), 0)
    raised = read((0.08, 0.08))
    assert raised.min() > 0.7
    np.testing.assert_allclose(read((-0.1, 0.2), shut=(0, 1)), raised, rtol=0.06)
    # Of one who winks, both brows are as that of the open eye.
    np.testing.assert_allclose(read((0.3, 0.08), shut=(0,)), raised, atol=1e-6)
    assert not read((0.0, 0.0)).any()
    assert 0 < read((0.08, 0.08), turn=0.25).max() < 0.6 * raised.max()
    assert not read((0.08, 0.08), turn=-0.4).any()
    read((0.08, 0.08))
    reader.set_neutral(rest)
    assert not read((0.08, 0.08), shut=(0, 1)).any()


def test_brows_are_as_high_in_a_face_that_rolls_is_larger_or_turns_aside(tmp_path):
    def heights(turn: np.ndarray, yaw: float = 0.0, narrower: float = 1.0) -> np.ndarray:
        """Of two eyes 100 apart and brows 40 and 30 above them."""
        eyes, head = np.zeros((2, 9, 2)), np.zeros((len(HEAD_POINTS), 2))
        eyes[:, 0], eyes[:, 4] = [(-65, 0), (35, 0)], [(-35, 0), (65, 0)]
        for side, sign in (("left", -1), ("right", 1)):
            head[HEAD_POINTS.index(f"{side} brow")] = (sign * 50, -40)
            head[HEAD_POINTS.index(f"{side} brow inner end")] = (sign * 20, -30)
        squeezed = turn * [narrower, 1]
        return brow_heights(*(eyes @ squeezed.T), head @ squeezed.T, yaw)

    expected = (0.4, 0.3, 0.4, 0.3)
    cosine, sine = np.cos(0.4), np.sin(0.4)
    assert np.allclose(heights(np.eye(2)), expected)
    assert np.allclose(heights(2.5 * np.array([[cosine, -sine], [sine, cosine]])), expected)
    assert np.allclose(heights(np.eye(2), 0.5, np.cos(0.5)), expected)


def _lips(
    units: dict[str, float], yaw: float = 0.0, pitch: float = 0.0, seed: int | None = None
) -> FaceReading:
    """A face at rest but for units of its mouth, its head turned, its lips seen with a camera's noise."""
    shapes = mouth_blendshapes()
    angles = np.linspace(-np.pi, np.pi, 12, endpoint=False)
    outline = np.stack([0.37 * np.cos(angles), 0.15 * np.sin(angles)], 1)
    places = np.column_stack(
        [np.concatenate([outline, 0.6 * outline[[0, 1, 3, 5, 6, 7, 9, 11]]]), shapes.depth]
    )
    for name, amount in units.items():
        places = places + amount * shapes.moves[shapes.names.index(name)]
    reading = _reading(yaw=yaw, pitch=pitch)
    lips = (places @ joined(np.array([-pitch, yaw]), 0.0).T)[:, :2]
    if seed is not None:
        lips = lips + np.random.default_rng(seed).normal(0, 0.004, lips.shape)
    return replace(reading, lips=lips.astype(np.float32))


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.25)])
@pytest.mark.parametrize(
    "unit",
    [
        "mouthSmileLeft",
        "mouthFrownRight",
        "mouthPucker",
        "mouthFunnel",
        "mouthDimpleLeft",
        "mouthUpperUpRight",
    ],
)
def test_amounts_of_the_mouth_put_its_points_where_they_are(unit, yaw, pitch):
    reader, shapes = CloseUpReader(), mouth_blendshapes()
    reader.set_neutral(_lips({}, yaw=0.1))

    def read(amount: float) -> dict[str, float]:
        found = reader.read(_lips({unit: amount}, yaw, pitch, seed=3))
        return {name: float(found[INDEX[name]]) for name in shapes.names}

    mouth = read(1.0)
    # Units that look alike share what is read; together they explain it.
    assert mouth[unit] > 0.15
    moved = shapes.moves[shapes.names.index(unit)][:, :2]
    put = np.tensordot(list(mouth.values()), shapes.moves[..., :2], 1)
    left = (moved - moved.mean(0)) - (put - put.mean(0))
    assert (left**2).sum() < 0.5 * ((moved - moved.mean(0)) ** 2).sum()
    assert 0.2 * mouth[unit] < read(0.5)[unit] < 0.7 * mouth[unit]


@pytest.mark.parametrize(("yaw", "pitch"), [(0.35, 0.0), (-0.35, 0.1), (0.0, -0.3), (0.0, 0.3)])
def test_a_head_that_turns_or_nods_moves_no_mouth(yaw, pitch):
    reader = CloseUpReader()
    reader.set_neutral(_lips({}))
    found = reader.read(_lips({}, yaw, pitch, seed=5))
    assert np.abs(found[[INDEX[name] for name in mouth_blendshapes().names]]).max() < 0.12


def test_where_a_smile_of_d1_ends_nobody_frowns_or_puckers():
    smiles = {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7}
    begun = _lips(smiles)
    for name in smiles:
        begun.mouth[4 + MOUTH_AMOUNTS.index(name)] = 0.6
    reader = CloseUpReader()
    reader.set_neutral(begun)
    found = reader.read(_lips({}))
    assert max(found[INDEX[name]] for name in ("mouthFrownLeft", "mouthFrownRight", "mouthPucker")) < 0.25
    # Of lips that are not known there are the network's amounts.
    reader.set_neutral(replace(begun, lips=None))
    assert not reader.read(_lips({}))[INDEX["mouthFrownLeft"]]


def test_mouths_go_aside_by_landmarks_unless_the_head_turns():
    reader = CloseUpReader(SHAPE)
    reader.set_neutral(_reading())

    def left(across: float, nose: float = 0.0, turn: float = 0.0) -> float:
        beyond = np.array([(across, 0.0), (across, 0.0), (across, 0.0), (nose, 0.0)])
        return float(reader.read(_reading(), beyond, turn)[INDEX["mouthLeft"]])

    assert 0.6 < left(0.12) < 1 and left(-0.12) == 0
    assert left(0.03) < 0.1 and left(0.12, nose=0.12) < 0.5
    assert left(0.12, turn=0.5) == 0


def test_who_looks_down_has_lowered_lids():
    rest, reader = _reading(), CloseUpReader()
    reader.set_neutral(rest)

    def down(lowered: float) -> float:
        eyes = rest.eyes.copy()
        eyes[:, EYE_AT["eyeLookDown"]] += 1.0
        eyes[:, 0] *= 1 - lowered
        return float(reader.read(FaceReading(eyes, rest.mouth, rest.head))[INDEX["eyeLookDownLeft"]])

    assert down(0.0) == pytest.approx(0.3, abs=0.01) and down(0.4) == pytest.approx(1.0, abs=0.01)


def test_both_eyes_look_the_same_way_unless_they_cross_or_one_is_shut():
    rest, reader = _reading(), CloseUpReader()
    reader.set_neutral(rest)

    def right(aside: tuple[float, float], shut: float = 0.0) -> tuple[float, float]:
        """To the picture's right, as both eyes are read where each looks there by so much; the right one is shut."""
        eyes = rest.eyes.copy()
        for place, inward in enumerate((1, -1)):
            eyes[place, 1] += inward * aside[place] * CLOSE_SIDEWAYS
            name = "eyeLookIn" if inward * aside[place] > 0 else "eyeLookOut"
            eyes[place, EYE_AT[name]] += abs(aside[place])
        eyes[1, 0] -= 0.29 * shut
        eyes[1, EYE_AT["eyeBlink"]] += shut
        found = reader.read(FaceReading(eyes, rest.mouth, rest.head))
        pick = {name: float(found[INDEX[name]]) for name in INDEX if "eyeLook" in name}
        one = pick["eyeLookInRight"] - pick["eyeLookOutRight"]
        return one, pick["eyeLookOutLeft"] - pick["eyeLookInLeft"]

    assert right((0.5, 0.5)) == pytest.approx((0.5, 0.5), abs=1e-5)
    one, other = right((0.4, 0.6))
    assert 0.46 < one < 0.5 < other < 0.54
    # Crossed.
    assert right((0.6, -0.6)) == pytest.approx((0.6, -0.6), abs=1e-5)
    # What is read of a shut eye does not turn the other.
    one, other = right((0.5, -0.3), shut=1.0)
    assert one > 0.45 and other > 0.4


@pytest.mark.parametrize("start", [{}, {"yaw": 0.2, "pitch": -0.1}])
def test_turns_are_those_that_close_ups_read(start):
    """Landmarks of a head that turns by half of what close-ups see: the pose follows the close-ups."""
    names = tuple(head_template().landmarks)
    places = np.array([head_template().landmarks[name] for name in names])
    matrices = np.tile(np.eye(2, dtype=np.float32), (len(names), 1, 1))

    def seen(yaw: float, reading: FaceReading) -> Keypoints:
        turned = places @ joined(np.array([0.0, yaw]), 0.0).T
        return Keypoints((0.2 * turned[:, :2]).astype(np.float32), matrices, reading=reading)

    still = seen(0.0, _reading(**start))
    tracker = PoseTracker(names, still)
    turned = seen(0.15, _reading(**{**start, "yaw": start.get("yaw", 0.0) + 0.3}))
    yaw, pitch, _ = tracker.pose(turned).angles
    # By what close-ups read less than heads do, more.
    assert abs(yaw - CLOSE_TURN_GAIN * 0.3) < 0.05 and abs(pitch) < 0.05
    assert not any(tracker.pose(seen(0.0, still.reading)).angles)


def test_anchors_hold_the_head_still_while_lids_close():
    """A blink moves what landmarks there are; corners of eyes and the nose do not move, so neither does the head."""
    names = tuple(head_template().landmarks)
    points = np.array([head_template().landmarks[name][:2] for name in names]) * 0.2
    matrices = np.tile(np.eye(2, dtype=np.float32), (len(names), 1, 1))
    eyes = [[-0.75, 0.0], [-0.25, 0.02], [0.75, 0.0], [0.25, 0.02]]
    anchors = 0.2 * np.array([*eyes, [0, 0.1], [0, 0.6], [-0.15, 0.65], [0.15, 0.65]], np.float32)

    def seen(lids: float, growth: float, with_anchors: bool) -> Keypoints:
        shown = growth * points
        for k, name in enumerate(names):
            if "lid" in name or "iris" in name:
                shown[k, 1] += lids
        reading = replace(_reading(), anchors=np.float32(growth) * anchors if with_anchors else None)
        return Keypoints(shown.astype(np.float32), np.float32(growth) * matrices, reading=reading)

    scales = {}
    for with_anchors in (False, True):
        tracker = PoseTracker(names, seen(0.0, 1.0, with_anchors))
        scales[with_anchors] = abs(np.log(tracker.pose(seen(0.02, 1.0, with_anchors)).scale))
        assert tracker.pose(seen(0.0, 1.1, with_anchors)).scale == pytest.approx(1.1, abs=0.01)
    assert scales[True] < 0.7 * scales[False]


def test_anchors_go_with_the_square_and_through_the_filter():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (6, 2)).astype(np.float32)
    matrices = np.tile(np.eye(2, dtype=np.float32), (6, 1, 1))
    anchors = rng.uniform(-0.3, 0.3, (8, 2)).astype(np.float32)
    keypoints = Keypoints(points, matrices, reading=replace(_reading(), anchors=anchors))
    # An anchor at a keypoint's place stays there.
    anchors[0] = points[0]
    moved = reexpressed(keypoints, Square(0, 0, 100), Square(20, -10, 130))
    assert np.allclose(moved.reading.anchors[0], moved.points[0], atol=1e-6)
    smoother, noise, seen = Smoother(), [], []
    for k in range(60):
        one = anchors + rng.normal(0, 0.004, anchors.shape).astype(np.float32)
        found = smoother(replace(keypoints, reading=replace(keypoints.reading, anchors=one)), k / 30)
        noise.append(one - anchors)
        seen.append(found.reading.anchors - anchors)
    assert np.std(seen[20:]) < 0.6 * np.std(noise[20:])
    # Off is off.
    assert smoother(keypoints, 3.0, 0.0) is keypoints


@pytest.mark.parametrize("mirrored", [False, True])
def test_pixels_and_keypoints_of_a_square_are_each_other_s_reverse(mirrored):
    points = np.random.default_rng(1).uniform(-1, 1, (5, 2))
    place = Square(20, 10, 64), 32, 100, mirrored
    assert np.allclose(in_square(in_frame(points, *place), *place), points)


@pytest.mark.parametrize("mirrored", [False, True])
def test_keypoints_of_a_square_lie_in_the_frame(mirrored):
    """The centres of a square's corner pixels, cut at half its size, are between those of the frame."""
    square = Square(20, 10, 64)
    corners = np.array([[-1.0, -1.0], [1.0, 1.0]], np.float32)
    left = 100 - 20 - 64 if mirrored else 20
    expected = [[left + 0.5, 10.5], [left + 62.5, 72.5]]
    assert np.allclose(in_frame(corners, square, 32, 100, mirrored), expected)


def test_readings_go_with_the_keypoints(tmp_path):
    matrices = np.tile(np.eye(2, dtype=np.float32), (16, 1, 1))
    points = np.zeros((16, 2), np.float32)
    one, other = (Keypoints(points, matrices, reading=_reading(jaw=jaw)) for jaw in (0.0, 1.0))
    jaw = 4 + MOUTH_AMOUNTS.index("jawOpen")
    assert blend(one, other, 0.25).reading.mouth[jaw] == 0.25
    assert blend(replace(one, reading=None), other, 0.25).reading.mouth[jaw] == 1.0
    saved = NeutralPose.of(other, "lite-256")
    assert saved.keypoints("lite-256", 16).reading.mouth[jaw] == 1.0
    assert replace(saved, reading=(1.0, 2.0)).keypoints("lite-256", 16).reading is None


def test_what_close_ups_saw_of_an_eye_is_an_eye_of_the_fit():
    """Points on a known eye's curves give that eye back; looks that disagree are trusted less."""
    theta = np.array([[0.02, -0.03, 0.22, 0.09, 0.06, 0.1, 0.1, 0.85, 0.03, -0.02, 0.1]], np.float32)
    upper, lower = eye_fit.heights(theta)
    u = np.array([-1, -0.5, 0, 0.5, 1, 0.5, 0, -0.5], np.float32)
    rows = [np.interp(u[k], eye_fit.U, (upper if k < 5 else lower)[0]) for k in range(8)]
    x, y = eye_fit.place(theta, u[None], np.array([rows], np.float32))
    points = (np.stack([x[0], y[0]], 1) - (eye_fit.WIDTH / 2, eye_fit.HEIGHT / 2)) / eye_fit.PER_D
    points = np.concatenate([points, theta[:, 8:10]])
    seen = eye_fit.Seen.of([points, points, points])
    assert np.allclose(seen.theta[:6], theta[0, :6], atol=0.02)
    assert np.allclose(seen.theta[8:], theta[0, 8:10], atol=1e-6)
    assert seen.off(theta)[0] < 1 < seen.off(theta + 0.05)[0]
    unsure = eye_fit.Seen.of([points, points + 0.06, points - 0.06])
    assert (unsure.sigma[[0, 1]] > 2 * seen.sigma[[0, 1]]).all()


def test_several_looks_lie_about_the_face(tmp_path):
    torch.manual_seed(0)
    export_close_ups(CloseUps(CloseUp(EYE), CloseUp(MOUTH), CloseUp(HEAD)).eval(), tmp_path / "c.onnx")
    look = LookCloser(PLACING, tmp_path / "c.onnx")
    picture = np.random.default_rng(0).integers(0, 255, (240, 260, 3), dtype=np.uint8)
    at = _face(np.eye(2), (120, 90))
    looks = look.several(picture, np.array([at[name] for name in PLACING]))
    assert len(looks) == 6
    assert all(np.isfinite(part).all() for one in looks for part in one.parts)
    assert look.several(picture, np.full((len(PLACING), 2), 20.0)) == []
