"""`livepuppet train`, `evaluate` and `puppets` as people call them, bad input included."""

import json

import cv2
import numpy as np
import pytest
import torch
from small_model import small_model

from livepuppet.model import checkpoint
from livepuppet.realtime.cli import main
from livepuppet.train.commands import on_videos


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
        picture = np.full((48, 64, 3), 30 * t, np.uint8)
        picture[10:30, 10 + 5 * t : 30 + 5 * t] = 200
        cv2.imwrite(str(folder / f"{t}.png"), picture)
    return folder.parent


def test_training_on_a_folder_writes_weights_a_sheet_and_resumes(frames, tmp_path, capsys, monkeypatch):
    # The real command on a small network under the preset's name: the real one takes seconds per step.
    monkeypatch.setattr(on_videos, "build", lambda preset: _named(small_model()))
    run = tmp_path / "run"
    common = ["train", "lite-256", "--data", str(frames), "--output", str(run), "--batch", "2"]
    main([*common, "--steps", "2"])
    weights = run / "lite-256.safetensors"
    assert weights.exists() and cv2.imread(str(run / "sheet.png")) is not None
    assert checkpoint.read_metadata(weights)["seed"] == "0"
    main([*common, "--steps", "3", "--resume"])
    assert "going on from step 2" in capsys.readouterr().out


def _named(model):
    object.__setattr__(model.preset, "name", "lite-256")
    return model


def test_evaluate_prints_a_row_per_factor_and_writes_json(tmp_path, capsys):
    weights = tmp_path / "small.safetensors"
    checkpoint.save(small_model(), weights)
    figures = tmp_path / "figures.json"
    main(["evaluate", str(weights), "--identities", "1", "--json", str(figures)])
    said = capsys.readouterr().out
    assert "blink" in said and "no motion in: " in said
    facts = json.loads(figures.read_text())
    assert facts["responses"].keys() >= {"yaw", "open", "gaze"}
    # By construction, whatever the weights: what does not move comes back.
    assert facts["identity"]["levels"] < 0.1 and facts["identity"]["sharpness"] > 0.99


def test_a_puppet_can_be_drawn(tmp_path):
    main(["puppets", "draw", str(tmp_path / "one.png"), "--size", "48", "--row", "3"])
    assert cv2.imread(str(tmp_path / "one.png")).shape == (48, 48, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "lite-256", "--output", "run", "--steps", "1"], "either --data FOLDER"),
        (["train", "lite-256", "--data", "nowhere", "--output", "run"], "either --minutes or --steps"),
        (
            ["train", "lite-256", "--data", "nowhere", "--output", "run", "--steps", "1"],
            "There is no folder nowhere",
        ),
        (["train", "fomm-256", "--puppets", "pool", "--output", "run", "--steps", "1"], "takes --data"),
        (
            [
                "train",
                "lite-256",
                "--data",
                ".",
                "--output",
                "run",
                "--steps",
                "1",
                "--init",
                "no.safetensors",
            ],
            "no.safetensors",
        ),
        (["evaluate", "no.safetensors"], "no.safetensors"),
        (["puppets", "draw", "one.png", "--row", "99"], "--row goes from"),
    ],
)
def test_bad_input_gets_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sentence in fails(capsys, *arguments)
