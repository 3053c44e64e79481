"""`livepuppet imagine`, run as people run it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_bundle
import torch
from media import gradient, read_clip, red_picture, write_picture

from livepuppet.core.files import sha256
from livepuppet.core.images import read_image
from livepuppet.model import checkpoint
from livepuppet.model.prediction import MotionPredictor, PredictorConfig, load_predictor, save_predictor
from livepuppet.realtime.app import cli

SIZE = tiny_bundle.SIZE


@pytest.fixture
def weights(tmp_path, tiny_model):
    checkpoint.save(tiny_model, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def bundle(tmp_path):
    return tiny_bundle.write_bundle(tmp_path / "bundle")


@pytest.fixture
def avatar(tmp_path):
    return write_picture(tmp_path / "avatar.png", gradient(SIZE, SIZE) // 2 + 40)


@pytest.fixture
def clips(tmp_path):
    """Stacked images of a square that moves to the right, and one that is too short."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k, frames in enumerate((6, 6, 6, 3)):
        images = np.zeros((SIZE, frames * SIZE, 3), np.uint8)
        x, y = rng.integers(0, 24, 2)
        for t in range(frames):
            images[y : y + 14, t * SIZE + x + 3 * t : t * SIZE + x + 3 * t + 14] = 80 + 50 * k
        write_picture(folder / f"{k}.png", images)
    return folder


def livepuppet(capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    capsys.readouterr()
    status = 0
    try:
        cli.main(["imagine", *map(str, arguments)])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out, said.err


def ramp(path, model="tiny", sha="", from_frames=1, way=0.05, frames=5) -> None:
    """A predictor that moves every point to the right by a steady `way` in tanh's argument, whatever it sees."""
    predictor = MotionPredictor(PredictorConfig(4, 1, frames, from_frames))
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.zero_()
        predictor.head.bias.copy_(torch.tensor([way, 0.0] * 4))
    save_predictor(predictor, path, model=model, model_sha256=sha, rate=10)


LEARN = ("--frames", 6, "--steps", 4, "--hidden", 8, "--batch", 4, "--threads", 1)


def test_from_clips_to_a_video(capsys, tmp_path, weights, clips, avatar):
    predictor = tmp_path / "p.safetensors"
    figures = tmp_path / "learned.json"
    status, out, err = livepuppet(
        capsys, "--learn", clips, "--model", weights, "--output", predictor, "--json", figures, *LEARN
    )
    assert status == 0, err
    assert "2 clips to learn from, 1 held back" in out and "standing still" in out
    assert "1 clips of fewer than 6 frames (3.png)" in err
    facts = load_predictor(predictor).metadata
    assert facts["model_sha256"] == sha256(weights) and facts["model"] == "tiny"
    assert len(json.loads(figures.read_text())["keypoints"]["predicted"]) == 5

    scored = tmp_path / "scored.json"
    status, out, err = livepuppet(
        capsys, "--score", clips, "--model", weights, "--predictor", predictor, "--json", scored
    )
    assert status == 0, err
    assert "3 clips; 1 shorter" in out and "true keypoints" in out
    results = json.loads(scored.read_text())
    assert results["frames_ahead"]["images"] == [1, 2, 4, 5] and len(results["images"]["copying"]) == 4
    assert "/" not in json.dumps(results["predictor"]["model"])

    film = tmp_path / "film.mp4"
    arguments = ("--avatar", avatar, "--model", weights, "--predictor", predictor)
    status, out, err = livepuppet(capsys, *arguments, "--output", film, "--frames", 8)
    assert status == 0 and "Wrote 8 frames" in out and "trained on 6 frames" in err, err
    assert len(read_clip(film)[0]) == 8


def test_the_bundle_renders_what_the_predictor_says(capsys, tmp_path, bundle, avatar):
    ramp(tmp_path / "p.safetensors")
    status, _, err = livepuppet(
        *(capsys, "--avatar", avatar, "--model", bundle, "--predictor", tmp_path / "p.safetensors"),
        *("--output", tmp_path / "frames"),
    )
    assert status == 0 and not err, err
    files = sorted((tmp_path / "frames").iterdir())
    assert len(files) == 5
    first, last = (read_image(file).astype(int) for file in (files[0], files[-1]))
    image = gradient(SIZE, SIZE) // 2 + 40
    # The first frame is the avatar at rest; then the tiny bundle brightens by how far the points went to the right.
    assert np.abs(first - image).max() <= 1
    assert np.abs(last - np.clip(image + 0.05 * tiny_bundle.GAIN, 0, 255)).max() <= 1


def test_a_clip_can_begin_the_movement(capsys, tmp_path, bundle, avatar):
    ramp(tmp_path / "p.safetensors", from_frames=3, way=0.0)
    driving = tmp_path / "driving"
    driving.mkdir()
    for k, level in enumerate((100, 130, 160, 220)):
        write_picture(driving / f"{k}.png", red_picture(level, SIZE))
    arguments = ("--avatar", avatar, "--model", bundle, "--predictor", tmp_path / "p.safetensors")
    status, _, err = livepuppet(capsys, *arguments, "--output", tmp_path / "no")
    assert status == 2 and "give a clip that begins the movement with --driving-first" in err
    status, _, err = livepuppet(
        capsys, *arguments, "--output", tmp_path / "frames", "--driving-first", driving
    )
    assert status == 0, err
    means = [read_image(file).mean() for file in sorted((tmp_path / "frames").iterdir())]
    step = 30 / 255 * tiny_bundle.SHIFT * tiny_bundle.GAIN
    np.testing.assert_allclose(np.diff(means), [step, step, 0, 0], atol=1)
    (driving / "2.png").unlink()
    (driving / "3.png").unlink()
    status, _, err = livepuppet(capsys, *arguments, "--output", tmp_path / "few", "--driving-first", driving)
    assert status == 2 and "fewer than the 3 frames needed" in err and not (tmp_path / "few").exists()


def test_learning_goes_on_where_it_was_stopped(capsys, tmp_path, weights, clips, monkeypatch):
    from livepuppet.train.tasks.continuation import ContinuationTask

    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    arguments = ("--learn", clips, "--model", weights, "--output")
    assert livepuppet(capsys, *arguments, whole, *LEARN)[0] == 0

    real, calls = ContinuationTask.losses, []

    def losses(self, rng):
        calls.append(1)
        if len(calls) == 3:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, rng)

    with monkeypatch.context() as patch:
        patch.setattr(ContinuationTask, "losses", losses)
        status, _, err = livepuppet(capsys, *arguments, stopped, *LEARN)
    assert status == 2 and "--resume goes on" in err
    # What was reached until then is there, and usable.
    assert load_predictor(stopped).metadata["step"] == "3"
    status, out, err = livepuppet(capsys, *arguments, stopped, *LEARN, "--resume")
    assert status == 0 and "Going on from step 3" in out, err
    states = [
        torch.load(folder / "motion.checkpoint.pt", weights_only=True)["trained"]
        for folder in (tmp_path / "whole.learning", tmp_path / "stopped.learning")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    status, _, err = livepuppet(capsys, *arguments, stopped, *LEARN, "--resume", "--hidden", 9)
    assert status == 2 and "another predictor" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Give one of --avatar IMAGE, --learn FOLDER and --score FOLDER"),
        (("--avatar", "A", "--model", "B"), "--avatar needs --output"),
        (("--avatar", "A", "--model", "B", "--output", "out"), "make one with 'livepuppet imagine --learn"),
        (
            ("--avatar", "A", "--model", "B", "--output", "o.avi", "--predictor", "P"),
            "no video this tool writes",
        ),
        (("--avatar", "none.png", "--model", "B", "--output", "out", "--predictor", "P"), "none.png"),
        (("--avatar", "A", "--model", "B", "--output", "out", "--predictor", "none"), "none"),
        (
            ("--avatar", "A", "--model", "B", "--output", "out", "--predictor", "W"),
            "holds no motion predictor",
        ),
        (("--avatar", "A", "--model", "W", "--output", "out", "--predictor", "P"), "of another model"),
        (("--learn", "C", "--model", "W"), "--learn needs --output PREDICTOR.safetensors"),
        (("--learn", "C", "--model", "B", "--output", "p.safetensors"), "is a bundle"),
        (("--learn", "C", "--model", "none.safetensors", "--output", "p.safetensors"), "none.safetensors"),
        (("--learn", "E", "--model", "W", "--output", "p.safetensors"), "is empty"),
        (("--learn", "none", "--model", "W", "--output", "p.safetensors"), "There is no folder"),
        (
            ("--learn", "C", "--model", "W", "--output", "p.safetensors"),
            "None of the 4 clips has the 32 frames",
        ),
        (
            ("--learn", "C", "--model", "W", "--output", "p.safetensors", "--frames", 2, "--from-frames", 2),
            "leave nothing to predict",
        ),
        (("--learn", "C", "--model", "W", "--output", "A/p.safetensors"), "cannot be read or written"),
        (("--score", "C", "--model", "W"), "Give --predictor"),
        (("--score", "C", "--model", "W", "--predictor", "P"), "of another model"),
    ],
)
def test_what_people_get_wrong_ends_in_one_sentence(
    capsys, tmp_path, monkeypatch, weights, bundle, clips, avatar, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ramp(tmp_path / "p.safetensors.there", sha="0" * 64)
    names = {"A": avatar, "B": bundle, "W": weights, "C": clips, "E": tmp_path / "empty"}
    names["P"] = tmp_path / "p.safetensors.there"
    names["A/p.safetensors"] = avatar / "p.safetensors"
    status, _, err = livepuppet(capsys, *(names.get(argument, argument) for argument in arguments))
    assert status == 2 and sentence in err and "Traceback" not in err, err
    assert not (tmp_path / "out").exists() and not (tmp_path / "p.safetensors").exists()


def test_weights_retrained_under_the_same_name_are_another_model(
    capsys, tmp_path, weights, avatar, tiny_model
):
    ramp(tmp_path / "p.safetensors", sha="1" * 64)
    status, _, err = livepuppet(
        *(capsys, "--avatar", avatar, "--model", weights, "--predictor", tmp_path / "p.safetensors"),
        *("--output", tmp_path / "out"),
    )
    assert status == 2 and "continues the keypoints of another model (tiny, weights 111111111111" in err
