"""The loop's parts: schedules, alarms, journal, loading ahead, 16 bit, several processes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import BATCH, SIZE, draw_clips, small_task, small_trainer
from torch import nn

from livepuppet.train.data.clips import ClipSet
from livepuppet.train.loop import batch_norm
from livepuppet.train.loop.errors import TrainingError
from livepuppet.train.loop.health import PATIENCE, WINDOW, HealthChecks
from livepuppet.train.loop.precision import Precision, choose_device, choose_precision
from livepuppet.train.loop.prefetch import Prefetcher
from livepuppet.train.loop.schedules import Cosine, Milestones
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.loop.training_log import Progress, TrainingLog, tensorboard_writer, time_left
from livepuppet.train.sheets.motion import motion_sheet

PROGRAM = Path(__file__).with_name("small_training.py")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_clips(tmp_path_factory.mktemp("clips"))


def test_milestones_take_a_tenth_and_the_cosine_warms_up_and_ends_low():
    published = Milestones((0.6, 0.9))
    assert [published.factor(0, p) for p in (0, 0.59, 0.6, 0.95)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = Cosine(warm_up=10)
    assert cosine.factor(0, 0) == pytest.approx(0.1)
    assert cosine.factor(50, 0.5) == pytest.approx(0.51)
    assert cosine.factor(99, 1) == pytest.approx(0.02)


def test_single_modules_have_rates_of_their_own(data, tmp_path):
    task = small_task(data)
    trainer = Trainer(task, tmp_path, 3, learning_rate={"kp_detector": 1e-3, "": 1e-4})
    counts = [sum(p.numel() for p in group["params"]) for group in trainer.optimiser.param_groups]
    assert counts[0] == sum(p.numel() for p in task.model.kp_detector.parameters())
    assert sum(counts) == sum(p.numel() for p in task.model.parameters())
    assert trainer.peaks == [1e-3, 1e-4]


def test_the_rival_learns_by_its_own_optimiser_and_stays_out_of_the_average(data, tmp_path):
    trainer = small_trainer(data, tmp_path, 2)
    discriminator = {name: value.clone() for name, value in trainer.task.discriminator.state_dict().items()}
    trainer.run(quiet=True)
    moved = trainer.task.discriminator.state_dict()
    assert any(not torch.equal(discriminator[name], moved[name]) for name in discriminator)
    assert trainer.ema_state.keys() == trainer.task.model.state_dict().keys()
    assert trainer.discriminator_optimiser.defaults["betas"] == (0.5, 0.999)


def watch(
    alarms: HealthChecks, steps: int, loss=lambda step: 1 / (1 + 0.01 * step), **diagnostics
) -> list[str]:
    return [sentence for step in range(steps) for sentence in alarms.update(loss(step), diagnostics)]


def test_a_healthy_training_sets_no_alarm_off():
    rng = np.random.default_rng(0)
    alarms = HealthChecks()
    said = [
        sentence
        for step in range(3 * PATIENCE)
        for sentence in alarms.update(
            (1 + 0.3 * rng.standard_normal()) / (1 + 0.003 * step), {"spread": 0.2, "determinant": 4.0}
        )
    ]
    assert not said


@pytest.mark.parametrize(
    ("sentence", "steps", "sick"),
    [
        ("Keypoints have collapsed", PATIENCE, {"spread": 0.01}),
        ("Jacobians explode", WINDOW, {"determinant": 90.0}),
        ("The loss is stuck", PATIENCE, {"loss": lambda step: 1.0}),
        ("The loss diverges", 2 * PATIENCE, {"loss": lambda step: 1.0 if step < PATIENCE / 2 else 9.0}),
    ],
)
def test_each_illness_is_said_once_and_not_before_its_time(sentence, steps, sick):
    alarms = HealthChecks()
    assert not watch(alarms, WINDOW // 2, **sick)
    said = watch(alarms, steps, **sick)
    assert len([text for text in said if sentence in text]) == 1
    assert not [text for text in watch(alarms, steps, **sick) if sentence in text]


def test_stop_on_alarm_ends_with_a_checkpoint_and_a_log_entry(data, tmp_path, train_log):
    trainer = small_trainer(data, tmp_path, 9, stop_on_alarm=True, save_every=1e9)
    trainer.health.update = lambda loss, diagnostics: (
        ["Keypoints have collapsed."] * (diagnostics["spread"] >= 0)
    )
    with pytest.raises(TrainingError, match=r"--stop-on-alarm at step 1.*--resume"):
        trainer.run(quiet=True)
    assert "collapsed" in train_log.text
    assert "collapsed" in (tmp_path / "log.jsonl").read_text()
    assert small_trainer(data, tmp_path, 9).resume()


def test_the_log_says_parts_speed_rate_and_time_left(tmp_path, train_log):
    log = TrainingLog(tmp_path, "fomm", every=0.0)
    log.begin(10)
    for step in (11, 12):
        log.step(
            Progress(step, 20, 1.5, 8000.0, 0.6, {"pyramid": 3.0, "ssim": 1.0}, {"spread": 0.2}, 2e-4, 12.3)
        )
    log.close()
    said = [record.getMessage() for record in train_log.records]
    assert "step 12/20 loss 4.000 (pyramid 3.000 ssim 1.000)" in said[-1]
    assert "12.3 images/s" in said[-1] and "rate 2.0e-04" in said[-1] and "2 h 13 min left" in said[-1]
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 12 and last["pyramid"] == 3 and last["spread"] == 0.2 and last["images/s"] == 12.3
    assert [time_left(s) for s in (40, 720, math.pi * 3600)] == ["40 s", "12 min", "3 h 08 min"]


def test_tensorboard_without_its_package_gets_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r"pip install 'livepuppet\[tensorboard\]'"):
        tensorboard_writer(tmp_path, 0)


def test_the_sheet_shows_what_is_asked_and_leaves_the_model_as_it_was(data):
    task = small_task(data)
    task.prepare()
    task.model.generator.eval()
    source, driving = task.data.pairs(2, torch.Generator().manual_seed(0))
    sheet = motion_sheet(task.model, source, driving)
    assert sheet.shape == (5 * 128, 2 * 128, 3) and sheet.dtype == np.uint8
    assert task.model.kp_detector.training and not task.model.generator.training
    away_from_keypoints = np.abs(
        sheet[:128, :128:4][::4].astype(float) - (source[0] * 255).permute(1, 2, 0).numpy().round()
    )
    assert np.median(away_from_keypoints) == 0


def test_what_is_loaded_ahead_is_what_would_have_been_loaded(data):
    plain = ClipSet(data, SIZE)
    ahead = Prefetcher(ClipSet(data, SIZE), BATCH)
    loads = []
    load = ahead._data.load
    ahead._data.load = lambda choices: (loads.append(choices), load(choices))[1]
    for step in range(3):
        rng = torch.Generator().manual_seed(step)
        expected = plain.pairs(BATCH, torch.Generator().manual_seed(step))
        assert all(torch.equal(a, b) for a, b in zip(ahead.pairs(BATCH, rng), expected, strict=True))
        ahead.prefetch(torch.Generator().manual_seed(step + 1))
    assert ahead.names == plain.names and len(ahead) == len(plain)
    assert len(loads) == 4, "something was loaded twice"
    other = plain.pairs(2, torch.Generator().manual_seed(9))
    assert torch.equal(ahead.pairs(2, torch.Generator().manual_seed(9))[0], other[0])


def test_sixteen_bits_train_and_leave_keypoints_and_flow_in_thirty_two(data, tmp_path):
    task = small_task(data)
    precision = choose_precision("bf16", torch.device("cpu"))
    trainer = Trainer(task, tmp_path, 2, precision=precision)
    trainer.run(quiet=True)
    assert all(
        value.dtype != torch.bfloat16 and torch.isfinite(value).all() for value in trainer.ema_state.values()
    )
    source, driving = task.data.pairs(2, torch.Generator().manual_seed(0))
    model = task.model.eval()
    exact = model.detect(source)
    with torch.no_grad(), precision.autocast():
        source_keypoints, keypoints = model.detect(source), model.detect(driving)
        features = model.encode(source)
        output = model.render(features, *source_keypoints, *keypoints)
    assert features["source_features"].dtype == torch.bfloat16  # else nothing is tested here
    assert all(torch.equal(a, b) for a, b in zip(exact, source_keypoints, strict=True))
    assert output["deformation"].dtype == torch.float32


def test_fp16_scales_its_loss_and_keeps_the_scale_in_the_checkpoint(data, tmp_path):
    def trainer():
        return small_trainer(data, tmp_path, 3, precision=Precision("fp16", torch.device("cpu")))

    first = trainer()
    first.task.prepare()
    first._one_step()
    first.precision.scaler._scale.fill_(1234.0)
    first.save()
    again = trainer()
    assert again.resume() and again.precision.scaler.get_scale() == 1234.0


def test_a_device_that_is_not_there_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    assert choose_precision("auto", torch.device("cpu")).name == "fp32"
    with pytest.raises(TrainingError, match="--device cpu"):
        choose_device("cuda")


def test_synchronising_and_separating_changes_no_name_and_no_number():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    x = torch.rand(2, 3, 8, 8)
    names, before = list(model.state_dict()), model.eval()(x)
    batch_norm.convert_sync_batchnorm(model)
    assert type(model[1]) is batch_norm.SyncBatchNorm2d and list(model.state_dict()) == names
    assert torch.equal(model(x), before)
    batch_norm.revert_sync_batchnorm(model)
    assert type(model[1]) is nn.BatchNorm2d


def test_two_processes_compute_what_one_does_with_the_whole_batch(data, tmp_path):
    # Two halves of a batch sum in another order than the whole. A gradient, at most about 1 here, sums some 10^4 products (pixels
    # times a few channels), through about 10 layers with norms there and 10 back: sqrt(10^4) * 20 roundings of 6e-8 are 1.2e-4.
    # Adam multiplies what is beside its eps, 1e-2, by rate / eps = 0.1, once per step: 3.6e-5 for three steps. What a wrong
    # average would do is of the rate's own size, 1e-3 a step. Measured: 1.4e-5 with AVX-512, under 1e-5 with AVX2.
    steps, allowed = 3, 3.6e-5
    one = small_trainer(data, tmp_path / "one", steps)
    one.run(quiet=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = [*launch, str(PROGRAM), str(data), str(tmp_path / "two"), str(steps)]
    ran = subprocess.run(
        program, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=280, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    two = small_trainer(data, tmp_path / "two", steps)
    assert two.resume() and two.step == steps
    start = small_task(data)
    for name, ours, theirs, first in (
        ("model", one.task.trained, two.task.trained, start.trained),
        ("discriminator", one.task.discriminator, two.task.discriminator, start.discriminator),
    ):
        theirs, first = theirs.state_dict(), first.state_dict()
        moved = 0.0
        for key, value in ours.state_dict().items():
            difference = (value - theirs[key]).abs().max().item()
            assert difference < allowed * max(1, value.abs().max().item()), f"{name} {key}: {difference}"
            moved = max(moved, (value - first[key]).abs().max().item())
        assert moved > 1e-3, f"the {name} did not move"
    # What is wrong with one of them ends both, said by the first alone.
    assert (tmp_path / "two" / "ends0").read_text() == "TrainingError In process 1: no clips here"
    assert (tmp_path / "two" / "ends1").read_text() == "SystemExit 2"
