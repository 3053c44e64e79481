"""Fine-tuning on one person's recording: what is learned, how it is measured, and when it is not kept."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_model import SIZE, small_model

from livepuppet.core.files import sha256
from livepuppet.model import checkpoint
from livepuppet.model.lite import LANDMARKS
from livepuppet.realtime.app.cli import main
from livepuppet.train.data.reading import DataError
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.metrics.faces.reconstruction import around_mouth, reconstruction
from livepuppet.train.metrics.faces.stability import tracking_metrics
from livepuppet.train.puppets import pool
from livepuppet.train.puppets.clips import write_clip
from livepuppet.train.puppets.identities import draw_identities, generator, scripted_clip
from livepuppet.train.puppets.pool import PuppetPool, draw_shard
from livepuppet.train.puppets.renderer import render
from livepuppet.train.recipes.finetune import acceptance, recipe
from livepuppet.train.recipes.finetune import recording as recordings
from livepuppet.train.recipes.finetune.acceptance import (
    AcceptanceRule,
    choose,
    violations,
    weight_interpolations,
)
from livepuppet.train.recipes.finetune.recipe import FinetuneConfig, finetune
from livepuppet.train.recipes.finetune.recording import Recording, UniformFrameSampler, check_recording
from livepuppet.train.recipes.finetune.tasks import (
    HALF,
    WHOLE,
    PersonAnimatorTask,
    PersonDetectorTask,
    augmented_keypoints,
)
from livepuppet.train.recipes.run import RunConfig
from livepuppet.train.sheets.tiles import to_image

#: Frames of the recording, at four a second.
COUNT = 24


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def frames():
    """A puppet that moves: uint8 RGB (COUNT, SIZE, SIZE, 3)."""
    torch.set_num_threads(1)
    puppet, motion = draw_identities(1, generator(4)), scripted_clip(COUNT, 4, 1)
    return np.stack([to_image(render(puppet, motion[k : k + 1], SIZE).picture) for k in range(COUNT)])


@pytest.fixture(autouse=True, scope="module")
def _few_puppets():
    """Shards of four identities, which are drawn in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "GROUPS", 4)
        yield


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("pool")
    draw_shard(folder, 1000, SIZE)
    return folder


def recording(frames, seconds=8.0) -> Recording:
    return Recording("me.mp4", frames, seconds)


# ---------------------------------------------------------------------------------------------------------- recording


def test_frames_are_kept_evenly_and_memory_is_bounded():
    kept = UniformFrameSampler(10)
    for number in range(107):
        if kept.wants_next():
            kept.add(np.full((1, 1), number))
        assert len(kept.frames) < 20
    numbers = kept.result().ravel()
    assert len(numbers) == 10
    assert numbers[0] == 0 and numbers[-1] >= 96
    assert np.diff(numbers).max() <= 2 * np.diff(numbers).min()


def test_the_parts_of_a_recording_follow_each_other_and_share_nothing():
    whole = recording(np.arange(100))
    assert whole.train.max() < whole.validation.min() <= whole.validation.max() < whole.test.min()
    assert len(whole.train) == 70 and whole.test[-1] == 99


def seen(count=COUNT):
    """Points that move, and confidence, of a good recording."""
    rng = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(count, 16, 2, generator=rng), torch.full((count, 16), 0.8)


def test_a_good_recording_passes(frames):
    check_recording(recording(frames), *seen())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r, p, c: (recording(r.frames, 3.2), p, c), "lasts 3.2 seconds"),
        (lambda r, p, c: (recording(r.frames[:5]), p[:5], c[:5]), "holds 5 frames"),
        (
            lambda r, p, c: (r, p, c * (torch.arange(COUNT) < COUNT // 2)[:, None]),
            "a face in 50 % of its frames",
        ),
        (lambda r, p, c: (r, p * 0.01, c), "does not move"),
        (
            lambda r, p, c: (recording(np.concatenate([r.frames[:12], 255 - r.frames[12:]])), p, c),
            "jumps to another picture after 4.0 seconds",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_said_in_one_sentence(frames, spoil, says):
    with pytest.raises(DataError, match=says):
        check_recording(*spoil(recording(frames), *seen()))


# -------------------------------------------------------------------------------------------------------------- tasks


def one_of(places, name):
    """The left place for a "left" landmark, the right one for a "right" one, else the middle."""
    left, right = places
    return left if "left" in name else right if "right" in name else (left + right) / 2


class TwoDots:
    """A detector without faults: finds two white dots, and takes them for the left and the right landmarks."""

    training = False

    def modules(self):
        return []

    def eval(self):
        return self

    @property
    def detector(self):
        return self

    def from_half(self, images):
        gray = images.mean(1).square()
        side = gray.shape[-1]
        line = torch.linspace(-1, 1, side)
        centres = []
        for columns in (line < 0, line >= 0):
            part = gray * columns
            mass = part.sum((1, 2)).clamp_min(1e-6)
            centres.append(
                torch.stack([(part * line).sum((1, 2)) / mass, (part * line[:, None]).sum((1, 2)) / mass], -1)
            )
        points = torch.stack([one_of(centres, name) for name in LANDMARKS], 1)
        return points, torch.eye(2).expand(len(images), len(LANDMARKS), 2, 2)


def dots(*places, size=128):
    """A black image with soft white dots at (x, y) in [-1, 1]."""
    line = np.linspace(-1, 1, size)
    image = sum(np.exp(-((line - x) ** 2 + (line[:, None] - y) ** 2) / 0.004) for x, y in places)
    return np.repeat((255 * image.clip(0, 1)).astype(np.uint8)[..., None], 3, -1)


def test_many_looks_agree_on_where_a_keypoint_is_and_on_left_and_right():
    places = [(-0.4, -0.1), (0.3, 0.2)]
    points, jacobians = augmented_keypoints(TwoDots(), np.stack([dots(*places)] * 3), views=4, seed=0)
    truth = torch.stack([one_of(torch.tensor(places), name) for name in LANDMARKS])
    assert (points - truth).abs().max() < 0.02
    assert (jacobians - torch.eye(2)).abs().mean() < 0.1


def test_the_detector_task_moves_the_detector_alone(frames, pool_folder):
    model = small_model()
    task = PersonDetectorTask(model, frames, PuppetPool(pool_folder), batch=2, views=2)
    task.prepare()
    parts = task.losses(torch.Generator().manual_seed(0))
    assert any("person" in name for name in parts) and any("puppet" in name for name in parts)
    sum(parts.values()).backward()
    assert all(parameter.grad is not None for parameter in model.detector.parameters())
    assert all(
        parameter.grad is None for parameter in [*model.motion.parameters(), *model.generator.parameters()]
    )
    assert not any(module.training for module in model.modules())  # statistics of batches are left alone


def test_the_animator_task_holds_the_detector(frames, pool_folder):
    model = small_model()
    task = PersonAnimatorTask(model, frames, PuppetPool(pool_folder), batch=2)
    task.prepare()
    parts = task.losses(torch.Generator().manual_seed(0))
    sum(parts.values()).backward()
    assert all(parameter.grad is None for parameter in model.detector.parameters())
    assert sum(parameter.grad is not None for parameter in task.trained.parameters()) > 10


def test_snapshots_come_back_with_a_checkpoint(frames, pool_folder, tmp_path):
    def trainer(steps):
        task = PersonAnimatorTask(small_model(), frames, PuppetPool(pool_folder), batch=1)
        return Trainer(task, tmp_path, steps=steps, save_every=0.0, on_save=task.snapshots)

    whole = trainer(4)
    whole.run(quiet=True)
    assert list(whole.task.snapshots.kept) == [HALF, WHOLE]
    again = trainer(4)
    assert again.resume()
    assert torch.equal(*(one.task.snapshots.kept[HALF]["0.head.bias"] for one in (whole, again)))
    again.task.snapshots.kept.pop(WHOLE, None)  # as after a kill before the last checkpoint
    again.run(quiet=True)
    for name, value in whole.task.snapshots.kept[WHOLE].items():
        assert torch.equal(again.task.snapshots.kept[WHOLE][name], value)


# ------------------------------------------------------------------------------------------------------------ figures


def test_reconstruction_is_zero_for_the_truth_and_the_copy_for_a_copy(frames):
    class Perfect(torch.nn.Module):
        def detect(self, image):
            return torch.zeros(1, 16, 2), image

        def encode(self, image):
            return {"picture": image}

        def render(self, features, _, __, ___, driving):
            return {"prediction": driving, "warped": features["picture"]}

    figures = reconstruction(Perfect(), frames[:1], frames[5:8])
    assert figures["L1"] == figures["face L1"] == 0
    assert figures["warp L1"] == figures["copy L1"] > 0
    assert figures["mouth response"] == pytest.approx(1)

    class Still(Perfect):
        def render(self, features, *_):
            return {"prediction": features["picture"], "warped": features["picture"]}

    assert reconstruction(Still(), frames[:1], frames[5:8])["mouth response"] == 0


def test_the_mouths_weight_lies_around_the_mouth():
    points = torch.zeros(1, 16, 2)
    points[:, :, 1] = -0.9  # whatever else there is lies at the top
    for name, place in (
        ("left mouth corner", (0.2, 0.4)),
        ("right mouth corner", (0.6, 0.4)),
        ("upper lip", (0.4, 0.35)),
        ("lower lip", (0.4, 0.45)),
    ):
        points[0, LANDMARKS.index(name)] = torch.tensor(place)
    weight = around_mouth(points, 64)
    row, column = divmod(int(weight[0, 0].argmax()), 64)
    assert (column, row) == (round(1.4 * 31.5), round(1.4 * 31.5))
    assert weight[0, 0, 5, 5] < 1e-3


def test_keypoints_that_go_with_the_image_have_slope_one_and_frozen_ones_none():
    # 2.54 pixels a step: an exact shift in [-1, 1], and flow that says the same.
    move = 0.02
    images = np.stack([dots((-0.5 + move * k, 0.1), (0.3 + move * k, -0.2), size=256) for k in range(8)])
    flow = np.zeros((7, 256, 256, 2), np.float32)
    flow[..., 0] = move * 255 / 2
    good = tracking_metrics(TwoDots(), images, flow)
    assert good["flow slope"] == pytest.approx(1, abs=0.05)
    assert good["flow error px"] < 0.2

    class Frozen(TwoDots):
        def from_half(self, images):
            points, jacobians = super().from_half(images)
            return torch.zeros_like(points), jacobians

    bad = tracking_metrics(Frozen(), images, flow)
    assert bad["flow slope"] == pytest.approx(0, abs=0.01)
    assert violations(acceptance.DETECTOR_RULES, good, bad)


# ----------------------------------------------------------------------------------------------------------- decision


@pytest.mark.parametrize(
    ("rule", "before", "after", "fine"),
    [
        (AcceptanceRule(gain=0.02), 1.0, 0.97, True),
        (AcceptanceRule(gain=0.02), 1.0, 0.99, False),
        (AcceptanceRule(gain=0.02), 1.0, 1.1, False),
        (AcceptanceRule(loss=0.05), 1.0, 1.04, True),
        (AcceptanceRule(loss=0.05), 1.0, 1.06, False),
        (AcceptanceRule(loss=0.05), 1.0, float("nan"), False),
        (AcceptanceRule(gain=0.02), 1.0, float("nan"), False),
        (AcceptanceRule(higher=True, loss=0.1, absolute=True), 0.5, 0.41, True),
        (AcceptanceRule(higher=True, loss=0.1, absolute=True), 0.5, 0.39, False),
    ],
)
def test_a_rule_complains_when_it_should(rule, before, after, fine):
    assert (rule.violation("figure", before, after) is None) == fine


def test_a_rule_that_ends_in_a_space_is_for_all_figures_that_begin_so():
    rules = {
        "response": AcceptanceRule(higher=True, loss=0.02, absolute=True),
        "response ": AcceptanceRule(higher=True, loss=0.1),
    }
    before = {"response": 0.5, "response yaw": 0.5, "other": 1.0}
    assert not violations(rules, before, {"response": 0.49, "response yaw": 0.46, "other": 9.0})
    assert len(violations(rules, before, {"response": 0.47, "response yaw": 0.40})) == 2


def decide(learned, general, judged, rules=None):
    """`choose` for one number that was 0 and trained to 1; the functions give the figures at a number."""
    module = torch.nn.Linear(1, 1, bias=False)
    before = {"weight": torch.zeros(1, 1)}
    snapshots = {HALF: {"weight": torch.full((1, 1), 0.5)}, WHOLE: {"weight": torch.ones(1, 1)}}
    calls = []

    def at(function, name):
        def measure():
            calls.append((name, round(module.weight.item(), 3)))
            return function(module.weight.item())

        return measure

    rules = rules or {
        "error": AcceptanceRule(gain=0.02),
        "forgetting_metrics": AcceptanceRule(higher=True, loss=0.1),
    }
    verdict = choose(
        "stage",
        module,
        before,
        weight_interpolations(before, snapshots),
        rules,
        "error",
        at(learned, "choose"),
        at(general, "general"),
        at(judged, "judge"),
    )
    return verdict, round(module.weight.item(), 3), calls


def falls(w):
    return {"error": 1 - 0.3 * w}


def test_the_best_candidate_is_taken_where_nothing_speaks_against_it():
    verdict, weight, calls = decide(falls, lambda w: {"forgetting_metrics": 1.0}, falls)
    assert (verdict.accepted, weight) == (WHOLE, 1.0)
    assert verdict.before["error"] == 1 and verdict.after["error"] == pytest.approx(0.7)
    # The judging part is looked at twice: before, and at the one that was chosen.
    assert [call for call in calls if call[0] == "judge"] == [("judge", 0.0), ("judge", 1.0)]


def test_less_of_the_change_is_taken_where_all_of_it_costs_too_much():
    verdict, weight, _ = decide(falls, lambda w: {"forgetting_metrics": 1 - 0.13 * w}, falls)
    assert (verdict.accepted, weight) == ("70 % of the change", 0.7)


@pytest.mark.parametrize(
    ("learned", "general", "judged", "says"),
    [
        (
            lambda w: {"error": 1 + w},
            lambda w: {"forgetting_metrics": 1.0},
            falls,
            "error did not get better",
        ),
        (falls, lambda w: {"forgetting_metrics": 1 - w}, falls, "forgetting_metrics got worse"),
        (
            falls,
            lambda w: {"forgetting_metrics": 1.0},
            lambda w: {"error": 1 + w},
            "error did not get better",
        ),
        (
            lambda w: {"error": 1 - 0.01 * w},
            lambda w: {"forgetting_metrics": 1.0},
            falls,
            "where 2 % are asked",
        ),
    ],
)
def test_the_weights_stay_where_it_did_not_help(learned, general, judged, says):
    verdict, weight, _ = decide(learned, general, judged)
    assert verdict.accepted is None and weight == 0
    assert says in verdict.why and "stay as they were" in verdict.why


# -------------------------------------------------------------------------------------------------------- the command


def bundle_without_graphs(model, output, weights):
    """What export leaves, at once: its own tests are elsewhere."""
    output.mkdir()
    for name in ("bundle.json", "detect.onnx"):
        (output / name).write_text(sha256(weights))


@pytest.fixture
def in_small(frames, tmp_path, monkeypatch):
    """A recording as a file, weights of a small model, and measures to match: (recording, weights, folder)."""
    # Of work this small a second thread only takes time.
    torch.set_num_threads(1)
    path = tmp_path / "me.mp4"
    write_clip(path, frames, 4)
    weights = tmp_path / "small.safetensors"
    checkpoint.save(small_model(), weights)
    for name, value in {"SHARDS": 1, "PROBES": 1, "TEST_IMAGES": 2, "REQUIRED_SPACE": 1e6}.items():
        monkeypatch.setattr(recipe, name, value)
    monkeypatch.setattr(recipe, "export_bundle", bundle_without_graphs)
    # An untrained detector is sure of nothing, and sees nothing move.
    monkeypatch.setattr(recordings, "FACE_CONFIDENCE", 0.0)
    monkeypatch.setattr(recordings, "LEAST_MOTION", 0.0)
    return path, weights, tmp_path / "mine"


def run_of(folder, **settings):
    return RunConfig(folder, steps=2, batch=1, **settings)


def test_what_did_not_help_leaves_the_weights_as_they_were(in_small, monkeypatch, capsys):
    path, weights, folder = in_small
    monkeypatch.setattr(acceptance, "DETECTOR_RULES", {"wander px": AcceptanceRule(gain=0.99)})
    monkeypatch.setattr(acceptance, "ANIMATOR_RULES", {"L1": AcceptanceRule(gain=0.99)})
    decisions = finetune(FinetuneConfig(path, weights, (path,), "full"), run_of(folder))
    assert not any(decision.accepted for decision in decisions)
    assert "It did not help" in recipe.next_step(decisions, folder)
    was, now = (
        checkpoint.load(weights).state_dict(),
        checkpoint.load(folder / "small.safetensors").state_dict(),
    )
    assert all(torch.equal(was[name], now[name]) for name in was)
    for name in ("bundle.json", "detect.onnx"):
        assert (folder / name).read_text() == sha256(folder / "small.safetensors")
    facts = json.loads((folder / "finetune.json").read_text())
    assert facts["kept"] == [] and facts["steps"] == {"detector": 2, "animator": 2}
    assert "kept me L1" in facts["verdicts"][1]["before"]
    assert (folder / "sheet.png").exists()
    assert not (folder / "puppets").exists() and not (folder / "bundle.part").exists()
    with pytest.raises(TrainingError, match="--resume"):
        finetune(FinetuneConfig(path, weights, crop="full"), run_of(folder))


def test_what_helped_is_shipped(in_small, monkeypatch, capsys):
    path, weights, folder = in_small
    monkeypatch.setattr(acceptance, "DETECTOR_RULES", {})
    monkeypatch.setattr(acceptance, "ANIMATOR_RULES", {})
    decisions = finetune(FinetuneConfig(path, weights, crop="full"), run_of(folder))
    assert f"livepuppet run --model {folder}" in recipe.next_step(decisions, folder)
    was, now = (
        checkpoint.load(weights).state_dict(),
        checkpoint.load(folder / "small.safetensors").state_dict(),
    )
    for part in ("detector", "motion", "generator"):
        assert any(not torch.equal(was[name], now[name]) for name in was if name.startswith(part)), part


def test_a_full_disk_is_said_before_hours_are_spent(in_small, monkeypatch):
    path, weights, folder = in_small
    monkeypatch.setattr(recipe.shutil, "disk_usage", lambda _: SimpleNamespace(free=123456))
    with pytest.raises(TrainingError, match="0 MB left"):
        finetune(FinetuneConfig(path, weights, crop="full"), run_of(folder))


def test_a_disk_that_fills_at_the_end_loses_nothing(in_small, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    model, (_, _, folder) = small_model(), in_small
    folder.mkdir()
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*--resume"):
        recipe._write_bundle(model, folder, "", [])


# -------------------------------------------------------------------------------------------------------------- people


def said_on_failing(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "finetune", *map(str, arguments)])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_bad_recordings_end_in_one_sentence(tmp_path, capsys):
    mine = ("--output", tmp_path / "mine", "--steps", 1)
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    assert "cannot be read as a video" in said_on_failing(capsys, text, *mine)
    assert "There is no file" in said_on_failing(capsys, tmp_path / "none.mp4", *mine)
    wall, glance = tmp_path / "wall.mp4", tmp_path / "glance.mp4"
    write_clip(glance, [np.full((96, 128, 3), 120, np.uint8)] * 2, 1)
    assert "No face is seen" in said_on_failing(capsys, glance, *mine)
    write_clip(wall, [np.full((96, 128, 3), 120, np.uint8)] * 24, 4)
    assert "a face in 0 %" in said_on_failing(capsys, wall, "--crop", "full", *mine)
    assert not (tmp_path / "mine").exists()


def test_two_budgets_are_one_too_many(tmp_path, capsys):
    mine = (tmp_path / "me.mp4", "--output", tmp_path / "mine")
    assert "--minutes or --steps" in said_on_failing(capsys, *mine, "--minutes", 2, "--steps", 1)
