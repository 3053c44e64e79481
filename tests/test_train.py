"""Deformations, losses, the loop, and one step of every training task, in small."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from small_model import SIZE, small_model

from livepuppet.model.lite import LANDMARKS, REFINED_KEYPOINTS
from livepuppet.train.data.clips import ClipSet
from livepuppet.train.deform import Deformation, mirror
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.losses import reconstruction as losses
from livepuppet.train.losses.equivariance import equivariance_loss
from livepuppet.train.metrics.responses import response
from livepuppet.train.puppets.identities import generator
from livepuppet.train.puppets.pool import PuppetPool, draw_shard, shard_path
from livepuppet.train.tasks.fomm import FommTask
from livepuppet.train.tasks.lite_animator import AnimatorTask, scaled_transfer
from livepuppet.train.tasks.lite_detector import PARTNER, DetectorTask, detector_error, undershoot
from livepuppet.train.webcam import webcam


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pool(tmp_path_factory) -> PuppetPool:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pool")
    draw_shard(folder, 3, SIZE)
    return PuppetPool(folder)


def test_a_deformation_knows_its_derivative():
    change = Deformation.random(3, generator(1), torch.zeros(1, dtype=torch.float64), affine=0.1, spline=0.02)
    z = (torch.rand(3, 7, 2, generator=generator(2)) * 1.6 - 0.8).double()
    h = 1e-6
    for axis in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = h
        numeric = (change.points(z + step) - change.points(z - step)) / (2 * h)
        assert torch.allclose(change.jacobians(z)[..., axis], numeric, atol=1e-6)


def test_a_deformed_image_shows_at_z_what_was_at_t_of_z():
    x = torch.linspace(-1, 1, 65)
    ramp = torch.stack([x[None, :].expand(65, 65), x[:, None].expand(65, 65), 0 * x[None, :].expand(65, 65)])[
        None
    ]
    change = Deformation.random(1, generator(4), ramp, affine=0.03, spline=0.002)
    shown = change.warp_image(ramp)[0, :2, 8:-8:8, 8:-8:8]
    z = torch.stack(torch.meshgrid(x[8:-8:8], x[8:-8:8], indexing="xy"), -1).reshape(1, -1, 2)
    assert torch.allclose(shown.permute(1, 2, 0).reshape(1, -1, 2), change.points(z), atol=5e-3)


def test_equivariance_is_nothing_for_keypoints_that_follow_and_something_for_others():
    change = Deformation.random(2, generator(5), torch.zeros(1))
    deformed = torch.rand(2, 6, 2, generator=generator(6)) - 0.5
    points = change.points(deformed)
    deformed_jacobians = torch.eye(2).expand(2, 6, 2, 2)
    jacobians = change.jacobians(deformed) @ deformed_jacobians
    good = equivariance_loss(change, points, jacobians, deformed, deformed_jacobians)
    bad = equivariance_loss(change, points + 0.1, 2 * jacobians, deformed, deformed_jacobians)
    assert max(good) < 1e-5
    assert bad[0] > 0.09 and bad[1] > 0.2


def test_losses_are_nothing_for_equal_images_and_weigh_where_they_are_told():
    image = torch.rand(2, 3, 32, 32, generator=generator(7))
    other = image.clone()
    other[:, :, :16] = 1 - other[:, :, :16]
    top = torch.zeros(2, 1, 32, 32)
    top[:, :, :16] = 1
    for loss in (losses.pyramid_l1, losses.gradient_loss, losses.ssim_loss):
        assert loss(image, image) < 1e-6
        assert loss(image, other) > 0.05
        assert loss(image, other, weight=top + 1e-3) > loss(image, other, weight=1 - top + 1e-3)


def test_mirroring_twice_changes_nothing():
    rng = generator(8)
    image, points = torch.rand(2, 3, 8, 8, generator=rng), torch.rand(2, len(LANDMARKS), 2, generator=rng)
    jacobians = torch.rand(2, len(LANDMARKS), 2, 2, generator=rng)
    twice = mirror(*mirror(image, points, jacobians, PARTNER), PARTNER)
    assert all(torch.equal(a, b) for a, b in zip(twice, (image, points, jacobians), strict=True))
    assert LANDMARKS[PARTNER[LANDMARKS.index("left brow")]] == "right brow"


def test_webcam_effects_stay_in_range_and_follow_the_seed():
    image = torch.rand(4, 3, 32, 32, generator=generator(9))
    first, second = webcam(image, generator(1)), webcam(image, generator(1))
    assert torch.equal(first, second)
    assert first.min() >= 0 and first.max() <= 1 and not torch.equal(first, image)


def test_shards_follow_from_their_seed_and_are_not_drawn_twice(tmp_path, pool):
    again = draw_shard(tmp_path, 3, SIZE)
    with np.load(again) as one, np.load(shard_path(pool.folder, 3)) as two:
        assert all(np.array_equal(one[name], two[name]) for name in one.files)
    before = again.stat().st_mtime_ns
    assert draw_shard(tmp_path, 3, SIZE).stat().st_mtime_ns == before
    assert not list(tmp_path.glob("*.part"))


def test_pairs_of_the_pool_carry_their_truth(pool):
    pairs = pool.pairs(24, generator(1), still=0.5)
    still = (pairs.source_motion.values == pairs.driving_motion.values).all(1)
    assert still.any() and not still.all()
    assert torch.equal(pairs.source[still], pairs.driving[still])
    assert torch.equal(pairs.source_points[still], pairs.driving_points[still])
    assert pairs.flow.shape == (24, SIZE // 4, SIZE // 4, 2)


@pytest.mark.parametrize(
    ("matrices", "variance"), [("jacobian", "source"), ("covariance", "source"), ("covariance", "driving")]
)
def test_eq_14_15_in_pytorch_is_that_in_numpy(matrices, variance):
    from livepuppet.core.keypoints import Keypoints
    from livepuppet.core.transfer import transfer as in_numpy
    from livepuppet.model.transfer import transfer as in_torch

    rng = generator(10)
    sets = [
        (
            torch.rand(1, 6, 2, generator=rng) - 0.5,
            torch.eye(2) + 0.2 * torch.randn(1, 6, 2, 2, generator=rng),
        )
        for _ in range(3)
    ]
    sets[1][1][0, 0] = torch.tensor([[1.0, 2.0], [2.0, 4.0]])  # no inverse: both hold the determinant
    ours = in_torch(*sets, 1.7, matrices, variance)
    arrays = (Keypoints(points[0].numpy(), jacobians[0].numpy()) for points, jacobians in sets)
    theirs = in_numpy(*arrays, 1.7, matrices=matrices, variance=variance)
    assert np.allclose(ours[0][0].numpy(), theirs.points, atol=1e-6)
    assert np.allclose(ours[1][0].numpy(), theirs.jacobians, rtol=1e-4, atol=1e-4)


def test_training_scales_movement_by_the_sizes_of_the_faces():
    rng = generator(11)
    points, jacobians = torch.rand(2, 6, 2, generator=rng) - 0.5, torch.eye(2).expand(2, 6, 2, 2)
    moved, _ = scaled_transfer((points + 0.1, jacobians), (points, jacobians), (3 * points, jacobians))
    assert torch.allclose(moved, 3 * points + 0.3, atol=1e-4)


def test_response_is_one_for_the_truth_and_nothing_for_a_blur():
    rng = generator(11)
    source, truth = torch.rand(2, 3, 16, 16, generator=rng), torch.rand(2, 3, 16, 16, generator=rng)
    mean = (source + truth) / 2
    assert response(source, truth, source, truth) == pytest.approx(1)
    assert response(mean, mean, source, truth) == pytest.approx(0)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["detector", "motion", "animator", "polish"])
def test_each_stage_on_puppets_learns(stage, pool, tmp_path):
    model = small_model()
    task = (
        DetectorTask(model, pool, 8)
        if stage == "detector"
        else AnimatorTask(model, pool, 4, stage == "motion", adversarial=stage == "polish")
    )
    held = {name: value.clone() for name, value in model.detector.state_dict().items()}
    if stage != "detector":
        # The detector of this small model knows nothing yet; the exact keypoints stand in for a trained one.
        task.keypoints = lambda pairs, rng: (
            (pairs.source_points, pairs.source_jacobians),
            (pairs.driving_points, pairs.driving_jacobians),
        )
    trainer = Trainer(task, tmp_path, steps=40, learning_rate=2e-3)
    task.prepare()
    first = sum(part.item() for part in task.losses(generator(0)).values())
    trainer.run(quiet=True)
    assert sum(part.item() for part in task.losses(generator(0)).values()) < 0.9 * first
    changed = any(not torch.equal(held[name], value) for name, value in model.detector.state_dict().items())
    assert changed == (stage == "detector")


def test_only_falling_short_is_an_undershoot():
    true = torch.tensor([[3.0, 4.0]]).repeat(5, 1)
    found = torch.tensor([[3.0, 4.0], [6.0, 8.0], [0.0, 0.0], [-3.0, -4.0], [3.0 - 4.0, 4.0 + 3.0]])
    assert undershoot(found, true).tolist() == pytest.approx([0, 0, 5, 10, 0], abs=1e-5)
    assert undershoot(found, torch.zeros(5, 2)).abs().max() < 1e-5


def test_changes_of_a_face_that_cannot_be_seen_are_hardly_learnt(pool):
    model = small_model().train()

    class Hiding:
        def __init__(self, seen: float):
            self.seen = seen

        def refresh_sometimes(self, rng):
            pass

        def pairs(self, *arguments, **settings):
            pairs = pool.pairs(*arguments, **settings)
            seen = torch.full_like(pairs.source_seen, self.seen)
            return replace(pairs, source_seen=seen, driving_seen=seen)

    def learnt(seen: float) -> dict[str, torch.Tensor]:
        model.zero_grad()
        parts = DetectorTask(model, Hiding(seen), 8).losses(generator(1))
        parts["changes"].backward()
        return parts, model.detector.heatmaps.weight.grad.abs().amax((1, 2, 3))

    hidden, by_hidden = learnt(0.0)
    shown, by_shown = learnt(1.0)
    assert hidden["expression"] == 0 and shown["expression"] > 0
    # Places are learnt as ever, and so are changes of the skull.
    assert hidden["points"] == shown["points"]
    close = torch.tensor([k in REFINED_KEYPOINTS for k in range(len(by_hidden))])
    assert (by_shown > 0).all() and (by_hidden[~close] > by_shown[~close]).all()
    assert (by_hidden[close] < by_shown[close]).all()


def test_the_detector_error_is_in_pixels(pool):
    model = small_model()
    image, points, jacobians = pool.pictures_with_truth(4, generator(1))
    model.detect = lambda _: (points + torch.tensor([2 / (SIZE - 1), 0.0]), jacobians)
    error = detector_error(model, image, points, jacobians)
    assert error["mean px"] == pytest.approx(1, abs=1e-3)
    assert error["jacobian"] < 1e-3


def test_a_resumed_training_ends_with_the_same_weights(pool, tmp_path):
    def trained(folder, *parts):
        torch.manual_seed(1)
        for steps in parts:
            task = DetectorTask(small_model(), pool, 4)
            trainer = Trainer(task, folder, steps=8)
            trainer.resume()
            if steps < 8:
                # A kill after `steps`: what the checkpoint holds is all that survives.
                for _ in range(steps - trainer.step):
                    trainer._one_step()
                trainer.save()
            else:
                trainer.run(quiet=True)
        return trainer.ema_state

    whole, broken = trained(tmp_path / "a", 8), trained(tmp_path / "b", 3, 8)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_foreign_checkpoint_is_refused_with_a_sentence(pool, tmp_path):
    trainer = Trainer(DetectorTask(small_model(), pool, 4), tmp_path, steps=8)
    trainer.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="does not continue this training"):
        trainer.resume()


def test_a_loss_that_is_not_a_number_stops_training_without_spoiling_weights(pool, tmp_path):
    task = DetectorTask(small_model(), pool, 2)
    task.losses = lambda rng: {"points": torch.tensor(float("nan"), requires_grad=True)}
    trainer = Trainer(task, tmp_path, steps=50)
    with pytest.raises(TrainingError, match="not a number"):
        trainer.run(quiet=True)
    assert all(torch.isfinite(value.float()).all() for value in task.trained.state_dict().values())


@pytest.fixture
def clips(tmp_path):
    """Two folders of frames: a bright square that wanders over a textured ground."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "data" / name).mkdir(parents=True)
        ground = rng.integers(0, 120, (80, 96, 3), np.uint8)
        for t in range(6):
            image = ground.copy()
            image[20:40, 10 + 6 * t : 30 + 6 * t] = 220
            cv2.imwrite(str(tmp_path / "data" / name / f"{t:03d}.png"), image)
    (tmp_path / "data" / "broken.mp4").write_bytes(b"no video")
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["lite", "fomm"])
def test_self_supervised_training_on_clips_runs_and_learns(kind, clips, tmp_path, tiny_preset):
    from livepuppet.model.presets import build

    torch.manual_seed(0)
    model = small_model() if kind == "lite" else build(tiny_preset)
    data = ClipSet(clips, SIZE)
    assert len(data) == 2 and len(data.skipped) == 1 and "broken.mp4" in data.skipped[0]
    task = FommTask(model, data, 2)
    task.prepare()
    first = sum(part.item() for part in task.losses(generator(0)).values())
    Trainer(task, tmp_path / "run", steps=10, learning_rate=1e-3).run(quiet=True)
    task.prepare()
    assert sum(part.item() for part in task.losses(generator(0)).values()) < first


def _train_together(rank, folder, port):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.manual_seed(1)
    task = DetectorTask(small_model(), PuppetPool(folder), 2)
    trainer = Trainer(task, folder / "run", steps=4)
    trainer.run(quiet=True)
    torch.save(trainer.ema_state, folder / f"rank{rank}.pt")
    torch.save(trainer.rng.get_state(), folder / f"draws{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_one_model_on_different_draws(pool, tmp_path):
    import shutil
    import socket

    shutil.copy(shard_path(pool.folder, 3), tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_train_together, (tmp_path, port), nprocs=2)
    weights = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    learned = [name for name in weights[0] if "running" not in name]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in learned)
    draws = [torch.load(tmp_path / f"draws{rank}.pt", weights_only=True) for rank in range(2)]
    assert not torch.equal(*draws)
