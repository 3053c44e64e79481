"""`livepuppet train`, `evaluate` and `puppets` as people call them, bad input included."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_model import small_model

from livepuppet.model import checkpoint
from livepuppet.realtime.app.cli import main
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.recipes import videos
from livepuppet.train.recipes.videos import VideoConfig


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "data" / "clip"
    folder.mkdir(parents=True)
    for t in range(4):
        image = np.full((48, 64, 3), 30 * t, np.uint8)
        image[10:30, 10 + 5 * t : 30 + 5 * t] = 200
        cv2.imwrite(str(folder / f"{t}.png"), image)
    return folder.parent


def test_training_on_a_folder_writes_weights_a_sheet_and_resumes(frames, tmp_path, capsys, monkeypatch):
    # The real command on a small network under the preset's name: the real one takes seconds per step.
    monkeypatch.setattr(videos, "build", lambda preset: _named(small_model()))
    run = tmp_path / "run"
    common = ["train", "videos", "lite-256", str(frames), "--output", str(run), "--batch", "2"]
    main([*common, "--steps", "2"])
    weights = run / "lite-256.safetensors"
    assert weights.exists() and cv2.imread(str(run / "sheet.png")) is not None
    assert checkpoint.read_metadata(weights)["seed"] == "0"
    main([*common, "--steps", "3", "--resume"])
    assert "going on from step 2" in capsys.readouterr().out


def test_a_recipe_of_the_papers_trains_by_its_name(frames, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(videos, "build", lambda preset: _named(small_model()))
    run, seen = tmp_path / "run", []
    monkeypatch.setattr(Trainer, "run", lambda trainer: seen.append(trainer))
    main(
        [
            "train",
            "videos",
            "vox-adv-256",
            str(frames),
            "--output",
            str(run),
            "--batch",
            "3",
            "--no-adversarial",
        ]
    )
    main(["train", "videos", "taichi-256", str(frames), "--output", str(run / "b"), "--epochs", "2"])
    # One clip, 75 times an epoch, by threes; then 150 times, by thirties.
    assert [trainer.total_steps for trainer in seen] == [150 * 25, 2 * 5]
    assert [trainer.schedule.shares for trainer in seen] == [(), (0.6, 0.9)]
    assert all(trainer.optimiser.defaults["betas"] == (0.5, 0.999) for trainer in seen)
    assert all(trainer.peaks == [2e-4] and trainer.task.clip_norm is None for trainer in seen)
    assert "150 epochs of 25 steps" in capsys.readouterr().out and (run / "vox-adv-256.safetensors").exists()


def test_a_folder_that_holds_a_training_is_not_written_over(frames, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(videos, "build", lambda preset: _named(small_model()))
    common = ["train", "videos", "lite-256", str(frames), "--output", str(tmp_path / "run"), "--steps", "1"]
    main([*common, "--batch", "2"])
    before = (tmp_path / "run" / "fomm.checkpoint.pt").read_bytes()
    assert "holds a training already" in fails(capsys, *common, "--batch", "2")
    assert "another batch (2, now 1)" in fails(capsys, *common, "--batch", "1", "--resume")
    (frames / "another").mkdir()
    for t in range(3):
        cv2.imwrite(str(frames / "another" / f"{t}.png"), np.full((32, 32, 3), 40 * t, np.uint8))
    assert "other data: resume with the same" in fails(capsys, *common, "--batch", "2", "--resume")
    assert (tmp_path / "run" / "fomm.checkpoint.pt").read_bytes() == before


def test_ablations_recipes_and_numbers_of_keypoints_change_the_network():
    full, bare = (
        videos.plan(VideoConfig("fomm-64", Path("clips"))),
        videos.plan(VideoConfig("fomm-64", Path("clips"), ablation="baseline")),
    )
    assert full.preset.config.occlusion and not bare.preset.config.occlusion
    assert bare.weights.pyramid_levels == 1 and full.weights.pyramid_levels == 4
    assert videos.plan(VideoConfig("mgif-256", Path("clips"))).preset.config.jacobian_maps == 1
    assert (
        videos.plan(VideoConfig("monkeynet-64", Path("clips"), ablation="no-residual")).preset.config.residual
        is False
    )
    assert (
        videos.plan(VideoConfig("fomm-64", Path("clips"), recipe="vox-256", keypoints=5)).preset.num_keypoints
        == 5
    )
    assert not videos.plan(VideoConfig("mgif-256", Path("clips"), adversarial=False)).weights.generator_gan
    with pytest.raises(ValueError, match="trains a fomm, and monkeynet-64 is a monkeynet"):
        videos.plan(VideoConfig("monkeynet-64", Path("clips"), recipe="vox-256"))


def _named(model):
    object.__setattr__(model.preset, "name", "lite-256")
    return model


def test_evaluate_prints_a_row_per_factor_and_writes_json(tmp_path, capsys):
    weights = tmp_path / "small.safetensors"
    checkpoint.save(small_model(), weights)
    figures = tmp_path / "figures.json"
    main(
        [
            "evaluate",
            str(weights),
            "--identities",
            "1",
            "--setting",
            "plain",
            "--json",
            str(figures),
            "--sheet",
            str(tmp_path / "sheet.png"),
        ]
    )
    said = capsys.readouterr().out
    assert "blink" in said and "no motion in: " in said
    main(["evaluate", "--table", str(figures)])
    printed = capsys.readouterr().out
    assert "| small.safetensors | plain |" in printed and "| gaze |" in printed
    facts = json.loads(figures.read_text())["settings"]["plain"]
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
    assert facts["responses"].keys() >= {"yaw", "open", "gaze"}
    # By construction, whatever the weights: what does not move comes back.
    assert facts["identity"]["levels"] < 0.1 and facts["identity"]["sharpness"] > 0.99


def test_a_puppet_can_be_drawn(tmp_path):
    main(["puppets", "draw", str(tmp_path / "one.png"), "--size", "48", "--row", "3"])
    assert cv2.imread(str(tmp_path / "one.png")).shape == (48, 48, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "videos", "lite-256", "--output", "run", "--steps", "1"], "Missing argument 'FOLDER'"),
        (["train", "videos", "lite-256", "nowhere", "--output", "run"], "either --minutes, --steps or"),
        (
            ["train", "videos", "lite-256", "nowhere", "--output", "run", "--steps", "1"],
            "There is no folder nowhere",
        ),
        (
            ["train", "videos", "fomm-64", ".", "--output", "run", "--steps", "1", "--device", "cuda"],
            "--device cpu",
        ),
        (
            ["train", "videos", "fomm-64", "x", "--output", "file/run", "--steps", "1"],
            "file/run: Not a directory",
        ),
        (["train", "check", "nowhere"], "There is no folder nowhere"),
        (["train", "default", "--output", "run"], "either --minutes or --steps"),
        (
            ["train", "videos", "fomm-64", "x", "--output", "r", "--ablation", "no-flow", "--steps", "1"],
            "no-flow",
        ),
        (
            ["train", "default", "--output", "run", "--steps", "1", "--init", "no.safetensors"],
            "no.safetensors",
        ),
        (["train", "lite-256", "--puppets", "p", "--output", "r"], "'livepuppet train default --puppets"),
        (["train", "lite-256", "--finetune", "me.mp4"], "'livepuppet train finetune RECORDING"),
        (["train", "vox-256", "--data", "x", "--check-data"], "'livepuppet train check FOLDER"),
        (["train", "vox-256", "--data", "x"], "'livepuppet train videos PRESET FOLDER"),
        (["evaluate", "no.safetensors"], "no.safetensors"),
        (["puppets", "draw", "one.png", "--row", "99"], "--row goes from"),
    ],
)
def test_bad_input_gets_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").write_text("")
    assert sentence in fails(capsys, *arguments)
