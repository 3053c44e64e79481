"""Continuing keypoints: the network, its data, its baselines and its scores."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from livepuppet.model import checkpoint
from livepuppet.model.file_types import CheckpointError
from livepuppet.model.prediction import (
    MotionPredictor,
    PredictorConfig,
    load_predictor,
    loss_parts,
    save_predictor,
)
from livepuppet.train.data import sequences
from livepuppet.train.data.reading import DataError, open_clip
from livepuppet.train.data.sequences import (
    Sequences,
    even_windows,
    find_sequences,
    long_enough,
    split,
)
from livepuppet.train.metrics import continuation
from livepuppet.train.tasks.continuation import ContinuationTask, note_means

SIZE = 32


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def eyes(*shape: int) -> torch.Tensor:
    return torch.eye(2).expand(*shape, 2, 2).clone()


def clips_of(points: torch.Tensor) -> Sequences:
    """Clips (C, T, K, 2) with identity matrices."""
    count, frames, keypoints = points.shape[:3]
    return Sequences(
        points.reshape(-1, keypoints, 2),
        eyes(count * frames, keypoints),
        (frames,) * count,
        tuple(f"clip{k}" for k in range(count)),
    )


def to_the_middle(count: int, frames: int = 8) -> Sequences:
    """One point that starts anywhere and goes half of the way to the middle: the first frame says everything."""
    start = torch.rand(count, 1, 1, 2) * 1.6 - 0.8
    return clips_of(start * torch.linspace(1, 0.5, frames)[:, None, None])


def walks(count: int, frames: int = 8) -> Sequences:
    """One point that walks at random: the first frame says nothing."""
    return clips_of((0.05 * torch.randn(count, frames, 1, 2)).cumsum(1))


def learn(data: Sequences, steps: int, **options) -> MotionPredictor:
    config = PredictorConfig(1, hidden=16, frames=8, **options)
    predictor = MotionPredictor(config)
    note_means(predictor, data)
    task = ContinuationTask(predictor, data, batch=32)
    rng = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(predictor.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(task.losses(rng).values()).backward()
        optimiser.step()
    return predictor.eval()


# The network


@pytest.mark.parametrize("matrices", ["held", "jacobian", "covariance"])
def test_a_fresh_predictor_of_offsets_stands_still(matrices):
    predictor = MotionPredictor(PredictorConfig(3, 8, 6, from_frames=2, matrices=matrices))
    points = torch.rand(2, 2, 3, 2) * 2 - 1
    given = 0.1 * eyes(2, 2, 3) + 0.02
    told, continued = predictor(points, given)
    assert told.shape == (2, 6, 3, 2) and continued.shape == (2, 6, 3, 2, 2)
    assert torch.equal(told[:, :2], points) and torch.equal(continued[:, :2], given)
    torch.testing.assert_close(told[:, 2:], points[:, 1:].expand(-1, 4, -1, -1))
    torch.testing.assert_close(continued[:, 2:], given[:, 1:].expand(-1, 4, -1, -1, -1))


def test_published_positions_stay_in_the_image_and_covariances_stay_covariances():
    predictor = MotionPredictor(PredictorConfig(3, 8, 6, matrices="covariance", offsets=False))
    with torch.no_grad():
        predictor.head.weight.normal_(0, 5)
    points, matrices = predictor(torch.rand(4, 1, 3, 2), 0.1 * eyes(4, 1, 3))
    assert points.abs().max() <= 1
    torch.testing.assert_close(matrices, matrices.transpose(-1, -2))
    assert torch.linalg.eigvalsh(matrices.double()).min() > -1e-6


def test_it_can_go_on_for_longer_than_it_learned_and_says_the_same_until_there():
    predictor = MotionPredictor(PredictorConfig(2, 8, 6, offsets=False)).eval()
    points, matrices = torch.rand(1, 1, 2, 2), eyes(1, 1, 2)
    short, long = predictor(points, matrices)[0], predictor(points, matrices, 15)[0]
    assert long.shape[1] == 15
    torch.testing.assert_close(long[:, :6], short)


def test_it_takes_as_many_frames_as_it_learned_from():
    predictor = MotionPredictor(PredictorConfig(2, 8, 6, from_frames=2))
    with pytest.raises(ValueError, match="takes 2 frames of 2 keypoints, not 1 of 2"):
        predictor(torch.zeros(1, 1, 2, 2), eyes(1, 1, 2))


@pytest.mark.parametrize(
    "wrong", [{"matrices": "none"}, {"hidden": 0}, {"frames": 3, "from_frames": 3}, {"num_keypoints": 0}]
)
def test_what_no_predictor_can_be(wrong):
    with pytest.raises(ValueError):
        PredictorConfig(**({"num_keypoints": 2} | wrong))


def test_the_loss_is_l1_over_what_was_not_given():
    config = PredictorConfig(1, 4, 3, matrices="jacobian")
    truth, matrices = torch.zeros(1, 3, 1, 2), eyes(1, 3, 1)
    told = torch.tensor([9.0, 0.2, 0.4]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    parts = loss_parts(told, matrices + 0.5, truth, matrices, config)
    assert parts["points"].item() == pytest.approx(0.3) and parts["matrices"].item() == pytest.approx(0.5)
    assert "matrices" not in loss_parts(told, matrices, truth, matrices, PredictorConfig(1, 4, 3))


def test_on_disk_it_stays_the_same(tmp_path):
    predictor = MotionPredictor(PredictorConfig(2, 8, 6, offsets=False)).eval()
    predictor.mean_offset.normal_()
    save_predictor(predictor, tmp_path / "p.safetensors", model="tiny", step=3)
    again = load_predictor(tmp_path / "p.safetensors")
    assert (
        again.config == predictor.config
        and again.metadata["model"] == "tiny"
        and again.metadata["step"] == "3"
    )
    points, matrices = torch.rand(1, 1, 2, 2), eyes(1, 1, 2)
    assert torch.equal(again(points, matrices)[0], predictor(points, matrices)[0])
    assert torch.equal(again.mean_offset, predictor.mean_offset)


def test_other_files_are_no_predictors(tmp_path, tiny_model):
    path = tmp_path / "p.safetensors"
    checkpoint.save(tiny_model, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no motion predictor; make one with"):
        load_predictor(tmp_path / "weights.safetensors")
    path.write_text("no")
    with pytest.raises(CheckpointError):
        load_predictor(path)
    save_predictor(MotionPredictor(PredictorConfig(2, 8, 6)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        load_predictor(path)
    path.write_bytes(whole.replace(b'\\"hidden\\": 8', b'\\"hidden\\": 9'))
    with pytest.raises(CheckpointError, match=r"p\.safetensors has"):
        load_predictor(path)


# Learning


@pytest.mark.parametrize("offsets", [True, False])
def test_it_learns_what_the_first_frame_says(offsets):
    data = to_the_middle(200)
    errors = continuation.keypoint_errors(learn(data, 100, offsets=offsets), to_the_middle(100))
    assert errors["predicted"].mean() < 0.5 * errors["standing still"].mean()
    assert errors["predicted"].mean() < 0.5 * errors["mean motion"].mean()
    sentence = continuation.verdict(errors)
    assert sentence.startswith("Better than standing still at") and "than mean motion at no" not in sentence


def test_where_nothing_can_be_known_it_says_that_it_is_of_no_use():
    predictor = learn(walks(300), 40, offsets=True)
    assert "of no use" in continuation.verdict(continuation.keypoint_errors(predictor, walks(300)))


def test_two_frames_say_more_than_one():
    start = 0.02 * torch.randn(200, 1, 1, 2)
    way = 0.1 * (1 - 2 * torch.randint(2, (200, 1, 1, 2)))
    data = clips_of(start + way * torch.arange(8)[:, None, None])
    one = continuation.keypoint_errors(learn(data, 120), data)
    two = continuation.keypoint_errors(learn(data, 120, from_frames=2), data)
    assert two["predicted"][-1] < 0.5 * one["predicted"][-1]


def test_windows_stay_within_a_clip():
    points = torch.cat([torch.full((length, 1, 2), float(k)) for k, length in enumerate((8, 20, 9))])
    data = Sequences(points, eyes(37, 1), (8, 20, 9), ("a", "b", "c"))
    seen = []

    class Watching(MotionPredictor):
        def forward(self, points, matrices, frames=None):
            seen.append(points)
            return super().forward(points, matrices, frames)

    task = ContinuationTask(Watching(PredictorConfig(1, 4, 8)), data, 64)
    windows = []
    data_windows = Sequences.windows

    def watched(self, rows, frames):
        windows.append(data_windows(self, rows, frames)[0])
        return data_windows(self, rows, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sequences, "windows", watched)
        task.losses(torch.Generator().manual_seed(0))
    (drawn,) = windows
    assert (drawn == drawn[:, :1]).all() and set(drawn[:, 0, 0, 0].tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(seen[0], drawn[:, :1])
    assert even_windows(data, 8).tolist() == [0, 8, 16, 28]
    assert even_windows(data, 8, most=2).tolist() == [0, 28]


def test_clips_are_chosen_by_length_and_split():
    data = Sequences(torch.zeros(30, 1, 2), eyes(30, 1), (4, 10, 16), ("short", "b", "c"), 12.0)
    kept, short = long_enough(data, 8)
    assert kept.names == ("b", "c") and short == ["short"] and kept.rate == 12.0
    with pytest.raises(DataError, match="None of the 3 clips has the 17 frames"):
        long_enough(data, 17)
    first, second = split(kept)
    assert {*first.names, *second.names} == {"b", "c"} and len(first) == len(second) == 1
    with pytest.raises(DataError, match="only one clip"):
        split(first)


# Baselines and scores


def test_baselines_are_exact_where_they_are_right():
    frames = torch.arange(8)[:, None, None]
    start, way = torch.rand(20, 1, 1, 2) - 0.5, 0.05 * torch.randn(20, 1, 1, 2)
    straight = clips_of(start + way * frames)
    predictor = learn(straight, 0)
    errors = continuation.keypoint_errors(predictor, straight)
    assert errors["constant velocity"].max() < 1e-6 < errors["standing still"].min()
    alike = clips_of(start + 0.03 * frames.expand(-1, 1, 2))
    errors = continuation.keypoint_errors(learn(alike, 0), alike)
    assert errors["mean motion"].max() < 1e-6 < errors["mean place"].min()
    np.testing.assert_allclose(errors["standing still"], 0.03 * np.arange(1, 8), rtol=1e-4)
    np.testing.assert_allclose(errors["predicted"], errors["standing still"])
    same = clips_of((0.1 * torch.randn(8, 1, 2)).expand(20, 8, 1, 2))
    assert continuation.keypoint_errors(learn(same, 0), same)["mean place"].max() < 1e-6


def test_matrices_are_scored_where_they_are_predicted():
    data = to_the_middle(5)
    errors = continuation.keypoint_errors(learn(data, 0, matrices="jacobian"), data)
    assert errors["matrices held"].max() == 0 and errors["matrices"].max() < 1e-6


def test_where_it_is_better():
    ours = np.array([1.0, 0.5, 0.5, 1.0, 0.5])
    assert continuation.where_better(ours, np.ones(5)) == "2-3, 5"
    assert continuation.where_better(ours[:3], np.ones(3), ahead=[1, 8, 16]) == "8-16"
    assert continuation.where_better(np.ones(5), np.ones(5)) == ""
    assert continuation.horizons(31) == [1, 2, 4, 8, 16, 24, 31]
    text = continuation.table({"predicted": ours, "standing still": np.ones(5)}, 2.0)
    assert text.splitlines()[1].split() == ["predicted", "2.000", "1.000", "2.000", "1.000", "1.400"]


class Dot(nn.Module):
    """A model of one keypoint: the middle of what is bright; it draws a dot in the source's colour there."""

    class preset:
        name, size, num_keypoints, matrices = "dot", SIZE, 1, "covariance"

    def __init__(self):
        super().__init__()
        self.register_buffer("line", torch.linspace(-1, 1, SIZE))
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls = 0

    def detect(self, frames):
        self.calls += 1
        light = frames.mean(1) / frames.mean(1).sum((1, 2), keepdim=True)
        x, y = (light.sum(1) * self.line).sum(1), (light.sum(2) * self.line).sum(1)
        return torch.stack([x, y], -1)[:, None], 0.01 * eyes(len(frames), 1)

    def encode(self, avatars):
        return {"colour": avatars.amax((2, 3))}

    def render(self, features, source_points, source_matrices, points, matrices):
        squares = (self.line - points[..., :1]).square()[:, :, None] + (
            self.line[:, None] - points[..., 1:, None]
        ).square()
        return {"prediction": features["colour"][:, :, None, None] * torch.exp(-squares / 0.02)}


def dots(folder, count: int, frames: int = 8, seed: int = 0):
    """Stacked images of a dot that moves straight on, as `Dot` draws them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, line = np.random.default_rng(seed), np.linspace(-1, 1, SIZE)
    for k in range(count):
        start, way = rng.uniform(-0.3, 0.3, 2), rng.uniform(-0.05, 0.05, 2)
        images = []
        for t in range(frames):
            x, y = start + t * way
            squares = (line - x)[None] ** 2 + (line - y)[:, None] ** 2
            images.append(np.repeat(255 * np.exp(-squares / 0.02)[..., None], 3, -1))
        cv2.imwrite(str(folder / f"{k}.png"), np.concatenate(images, 1).round().astype(np.uint8))
    return folder


def test_images_are_scored_against_copying_and_the_true_keypoints(tmp_path):
    folder = dots(tmp_path / "clips", 3)
    clips = [open_clip(path) for path in sorted(folder.iterdir())]
    errors = continuation.image_errors(Dot(), MotionPredictor(PredictorConfig(1, 4, 8)), clips, batch=3)
    assert len(errors["copying"]) == len([1, 2, 4, 7]) and errors["copying"][-1] > 2 * errors["copying"][0]
    assert errors["true keypoints"].max() < 0.003
    # A fresh predictor stands still, and so does its image.
    np.testing.assert_allclose(errors["predicted"], errors["copying"], atol=0.003)
    with pytest.raises(DataError, match="the 9 frames"):
        continuation.image_errors(Dot(), MotionPredictor(PredictorConfig(1, 4, 9)), clips)


# Keypoints of clips


def test_keypoints_are_those_of_the_frames_and_found_once(tmp_path):
    folder, cache = dots(tmp_path / "clips", 3), tmp_path / "cache.npz"
    model = Dot()
    found = find_sequences(model, "aa", folder, cache, batch=3)
    assert found.names == ("0.png", "1.png", "2.png") and found.lengths == (8, 8, 8)
    points, _ = found.clip(1)
    ways = points[1:] - points[:-1]
    torch.testing.assert_close(ways, ways.mean(0).expand_as(ways), atol=4e-3, rtol=0)
    calls = model.calls
    again = find_sequences(model, "aa", folder, cache)
    assert model.calls == calls and torch.equal(again.points, found.points)
    # Another model, or another file of the same name, is looked at anew.
    find_sequences(model, "bb", folder, cache)
    assert model.calls > calls
    calls = model.calls
    dots(folder, 1, seed=5)
    changed = find_sequences(model, "bb", folder, cache)
    assert model.calls == calls + 1 and not torch.equal(changed.clip(0)[0], found.clip(0)[0])
    cache.write_bytes(cache.read_bytes()[:100])
    assert torch.equal(find_sequences(model, "bb", folder, cache).points, changed.points)


def test_a_stopped_search_goes_on(tmp_path, monkeypatch):
    folder, cache = dots(tmp_path / "clips", 4), tmp_path / "cache.npz"
    monkeypatch.setattr(sequences, "SAVE_EVERY", -1.0)

    class Stopping(Dot):
        def detect(self, frames):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().detect(frames)

    with pytest.raises(KeyboardInterrupt):
        find_sequences(Stopping(), "aa", folder, cache)
    model = Dot()
    found = find_sequences(model, "aa", folder, cache)
    assert model.calls == 2 and len(found) == 4
    assert sorted(tmp_path.iterdir()) == [cache, folder]


def test_clips_that_cannot_be_used_are_named(tmp_path, train_log):
    folder = dots(tmp_path / "clips", 2)
    (folder / "broken.png").write_bytes(b"no image")
    found = find_sequences(Dot(), "aa", folder)
    assert len(found) == 2 and "skipped: broken.png" in train_log.text
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="is empty"):
        find_sequences(Dot(), "aa", empty)


def test_the_part_of_a_split_folder(tmp_path):
    dots(tmp_path / "set" / "train", 2)
    dots(tmp_path / "set" / "test", 1)
    assert len(find_sequences(Dot(), "aa", tmp_path / "set")) == 2
    assert len(find_sequences(Dot(), "aa", tmp_path / "set", part="test")) == 1


def test_a_cache_runs_no_code(tmp_path):
    folder, cache = dots(tmp_path / "clips", 2), tmp_path / "cache.npz"

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    facts = json.dumps({"format": sequences.FORMAT, "model_sha256": "aa", "stamps": []})
    trap = np.array([Trap()], dtype=object)
    np.savez(cache, facts=np.array(facts), points=trap, matrices=trap, lengths=trap)
    assert len(find_sequences(Dot(), "aa", folder, cache)) == 2
