"""A training that is killed, damaged or out of disk space goes on as if nothing had happened."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_training import draw_clips, small_trainer

from livepuppet.train.loop import files
from livepuppet.train.loop.trainer import TrainingError

PROGRAM = Path(__file__).with_name("small_training.py")
STEPS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    trainer = small_trainer(data, tmp_path_factory.mktemp("whole"), STEPS, save_every=1e9)
    trainer.run(quiet=True)
    return trainer


def weights(trainer) -> dict[str, torch.Tensor]:
    return {
        f"{part} {name}": value.clone()
        for part, state in (
            ("ema", trainer.ema_state),
            ("model", trainer.task.trained.state_dict()),
            ("discriminator", trainer.task.discriminator.state_dict()),
        )
        for name, value in state.items()
    }


def assert_same_training(one, two) -> None:
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def at(data, folder, step: int, **settings):
    """A trainer that was stopped after `step` steps, its checkpoint on disk."""
    trainer = small_trainer(data, folder, STEPS, **settings)
    trainer.task.prepare()
    while trainer.step < step:
        trainer._one_step()
        trainer.save()
    return trainer


def test_a_killed_training_ends_in_the_same_weights_bit_by_bit(data, undisturbed, tmp_path):
    program = [sys.executable, str(PROGRAM), str(data), str(tmp_path), str(STEPS), "4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run(program, env=environment, timeout=240).returncode == -signal.SIGKILL
    trainer = small_trainer(data, tmp_path, STEPS)
    before = weights(trainer)
    assert trainer.resume() and trainer.step == 4
    assert any(not torch.equal(value, weights(trainer)[name]) for name, value in before.items())
    trainer.run(quiet=True)
    assert_same_training(trainer, undisturbed)


def test_sheets_and_checkpoints_leave_no_trace_in_a_training(data, undisturbed, tmp_path):
    def look(trainer):
        torch.rand(3)
        with trainer.ema_weights():
            trainer.task.model.eval()

    trainer = small_trainer(data, tmp_path, STEPS, on_save=look)
    trainer.run(quiet=True)
    assert_same_training(trainer, undisturbed)


@pytest.mark.parametrize("damage", ["cut off", "one bit", "emptied"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage, data, tmp_path, undisturbed, train_log):
    path = at(data, tmp_path, 3).checkpoint
    whole = path.read_bytes()
    if damage == "one bit":
        middle = len(whole) // 2
        whole = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"cut off": whole[: len(whole) // 2], "one bit": whole, "emptied": b""}[damage])
    trainer = small_trainer(data, tmp_path, STEPS)
    assert trainer.resume() and trainer.step == 2
    assert "going on from the checkpoint before it" in train_log.text
    trainer.run(quiet=True)
    assert_same_training(trainer, undisturbed)


def test_a_checkpoint_that_only_left_its_predecessor_is_found(data, tmp_path):
    path = at(data, tmp_path, 2).checkpoint
    path.unlink()  # a kill between the two renames
    trainer = small_trainer(data, tmp_path, STEPS)
    assert trainer.resume() and trainer.step == 1


def test_a_full_disk_is_said_and_training_goes_on(data, undisturbed, tmp_path, monkeypatch, train_log):
    trainer = at(data, tmp_path, 2)
    before = trainer.checkpoint.read_bytes()
    sync, full = os.fsync, [True]

    def fsync(handle):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    trainer._save_and_report()
    said = train_log.text
    assert "No space left on device" in said and "Training goes on" in said and "step 2 is safe" in said
    assert trainer.checkpoint.read_bytes() == before and not list(tmp_path.glob("*.part"))
    with pytest.raises(TrainingError, match=r"last checkpoint could not be written.*No space left"):
        trainer.run(quiet=True)
    full[0] = False
    again = small_trainer(data, tmp_path, STEPS)
    assert again.resume() and again.step == 2
    again.run(quiet=True)
    assert_same_training(again, undisturbed)


def test_a_writer_that_runs_out_of_room_says_what_the_system_said(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "one.pt"
    files.write(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError) as failed:
            files.write(path, {"step": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.value.errno == errno.EFBIG
    assert files.decode(files.read_whole(path)) == {"step": 1} and [p.name for p in tmp_path.iterdir()] == [
        path.name
    ]


def test_what_a_killed_writer_left_is_removed(data, tmp_path):
    trainer = at(data, tmp_path, 1)
    (tmp_path / f".{trainer.checkpoint.name}.abc.part").write_bytes(b"half")
    assert small_trainer(data, tmp_path, STEPS).resume()
    assert not list(tmp_path.glob("*.part"))


def test_another_training_is_not_continued_and_the_difference_is_named(data, tmp_path):
    at(data, tmp_path, 1, fingerprint={"batch": 4, "recipe": "ours", "data": "#12ab"})
    for facts, sentence in (
        ({"batch": 8, "recipe": "ours", "data": "#12ab"}, r"another batch \(4, now 8\)"),
        ({"batch": 4, "recipe": "ours", "data": "#77"}, "with other data: resume"),
        ({"batch": 4, "data": "#12ab"}, r"another recipe \(ours, now none\)"),
    ):
        with pytest.raises(TrainingError, match=sentence):
            small_trainer(data, tmp_path, STEPS, fingerprint=facts).resume()
    assert small_trainer(
        data, tmp_path, 9, fingerprint={"batch": 4, "recipe": "ours", "data": "#12ab"}
    ).resume()


def test_a_checkpoint_is_data_and_never_code(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"trained": Code()}, tmp_path / "evil.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only|[Uu]nsupported"):
        files.decode(files.read_whole(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()
