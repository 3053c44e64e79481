"""Training on puppets: its stages, their places in a stream, judging, and a GPU that is not there."""

import contextlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from pretend_device import CARD, OnCard, card
from small_model import SIZE, small_model

from livepuppet.model import checkpoint
from livepuppet.train.cli.train import train as command
from livepuppet.train.loop.precision import Precision
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.metrics.score import Score
from livepuppet.train.people.assets import AssetsError
from livepuppet.train.puppets import pool
from livepuppet.train.puppets.pool import PoolError, draw_shard
from livepuppet.train.puppets.stream import PuppetStream
from livepuppet.train.recipes import default_model
from livepuppet.train.recipes.default_model import (
    STAGES,
    DefaultModelConfig,
    Validation,
    _task,
    train_stages,
)
from livepuppet.train.recipes.run import Run, RunConfig, StageTime


def small_stream(**settings) -> PuppetStream:
    settings = {
        "size": SIZE // 2,
        "coarse": SIZE // 4,
        "hold": 4,
        "fresh": 2,
        "every": 2,
        "poses": 2,
    } | settings
    return PuppetStream(settings.pop("device", "cpu"), setting="plain", **settings)


def small_run(output, **settings) -> Run:
    place = torch.device("cpu")
    return Run(RunConfig(output, **{"steps": 2} | settings), place, Precision("fp32", place))


def plain(**settings) -> DefaultModelConfig:
    return DefaultModelConfig(setting="plain", **settings)


def on_card(model):
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(value.detach().to(CARD))
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = value.to(CARD)
    return model


def test_a_step_mixes_no_places_and_a_pair_is_picked_without_waiting(monkeypatch):
    """On a card that only pretends, with the real numbers: what a real one would refuse, and where it would wait."""
    with card(monkeypatch) as there:
        puppets = small_stream(device=CARD, size=SIZE, hold=1, fresh=1)
        puppets.refresh_sometimes()
        # Per call of the renderer, not per image.
        assert sum(there.waited.values()) <= 6
        there.waited.clear()
        pairs = puppets.pairs(3, torch.Generator().manual_seed(0))
        assert isinstance(pairs.flow, OnCard) and isinstance(pairs.source, OnCard)
        assert not there.waited
        for stage in STAGES:
            task = _task(stage, on_card(small_model()), puppets, 2, half=False)
            task.prepare()
            parts = task.losses(torch.Generator().manual_seed(1))
            assert all(isinstance(part, OnCard) and part.here.isfinite() for part in parts.values())
            if stage == "detector":
                assert not there.waited
            sum(parts.values()).backward()
            grown = [p.grad for p in task.trained.parameters() if p.requires_grad and p.grad is not None]
            assert grown and all(isinstance(value, OnCard) for value in grown), stage


def test_the_pretended_card_does_notice(monkeypatch):
    with card(monkeypatch) as there:
        on = torch.ones(3).to(CARD)
        with pytest.raises(RuntimeError, match="one on the processor"):
            on + torch.ones(3)
        assert (on + torch.tensor(1.0)).here.tolist() == [2, 2, 2]
        on[0].item()
        on[[0, 1]]
        assert sum(there.waited.values()) == 2


def test_a_resumed_stage_sees_the_puppets_that_an_undisturbed_one_sees(tmp_path):
    def trainer(folder, steps):
        task = _task("detector", small_model(), small_stream(), 2, half=False)
        return Trainer(task, folder, steps, seed=3)

    whole = trainer(tmp_path / "whole", 6)
    whole.run(quiet=True)
    part = trainer(tmp_path / "part", 6)
    part.save_every = 0.0

    def killed(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt

    part.on_save = killed
    with contextlib.suppress(KeyboardInterrupt):
        part.run(quiet=True)
    again = trainer(tmp_path / "part", 6)
    assert again.resume() and again.step == 3 and again.task.pool.steps == 3
    again.run(quiet=True)
    assert again.task.pool.state() == whole.task.pool.state()
    for name, value in whole.ema_state.items():
        assert torch.equal(value, again.ema_state[name]), name


@pytest.fixture
def quick(monkeypatch):
    """Everything small, and judging by what a list says."""
    monkeypatch.setattr(default_model, "RING_ELSEWHERE", (2, 2, 2))
    monkeypatch.setattr(default_model, "VALIDATION_IMAGES", 2)
    monkeypatch.setattr("livepuppet.train.metrics.responses.draw_probes", lambda *_, **__: [])
    monkeypatch.setattr(
        "livepuppet.train.sheets.probes.probe_sheet",
        lambda *_: torch.zeros(4, 4, 3, dtype=torch.uint8).numpy(),
    )
    scores = []

    def judged(model, probes, faces):
        total = scores.pop(0)
        return Score(total, total, total, total, None, {"open": total})

    monkeypatch.setattr("livepuppet.train.metrics.score.score_model", judged)
    monkeypatch.setattr(checkpoint, "save", lambda model, path, **facts: path.write_text(facts["score"]))
    return scores


def test_all_stages_run_and_the_best_is_kept(tmp_path, quick):
    quick[:] = [0.4, 0.3]
    run = small_run(tmp_path, batch=2)
    train_stages(small_model(), plain(), run)
    assert list(run.done) == list(STAGES) and all(
        isinstance(stage, StageTime) and stage.steps == 2 for stage in run.done.values()
    )
    best = json.loads((tmp_path / "best.json").read_text())
    assert (best["stage"], best["step"], best["score"]) == ("animator", 2, 0.4)
    assert (tmp_path / "best.safetensors").read_text() == "0.4000" and (tmp_path / "sheet.png").exists()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    judged = {entry["stage"]: entry for entry in log if "validation s" in entry}
    assert judged["detector"]["mean px"] > 0 and judged["polish"]["score"] == 0.3
    assert judged["motion"]["drawn/s"] > 0
    # Ended stages stay; what another judge would say of them later beats only what is there.
    quick[:] = [0.35, 0.45]
    again = small_run(tmp_path, batch=2, resume=True)
    train_stages(small_model(), plain(), again)
    assert json.loads((tmp_path / "best.json").read_text())["stage"] == "polish"


def test_another_ring_or_setting_does_not_go_on(tmp_path, quick, monkeypatch):
    train_stages(small_model(), plain(stages=("detector",)), small_run(tmp_path, batch=2))
    monkeypatch.setattr(default_model, "RING_ELSEWHERE", (4, 2, 2))
    with pytest.raises(TrainingError, match=r"trained with other puppets .*resume with the same"):
        run = small_run(tmp_path, batch=2, resume=True)
        train_stages(small_model(), plain(stages=("detector",)), run)


def test_judging_is_part_of_a_time_budget(tmp_path, quick, monkeypatch):
    clock = iter(range(0, 1000, 100))
    monkeypatch.setattr(default_model.time, "monotonic", lambda: float(next(clock)))
    validation = Validation(small_model(), plain(), small_run(tmp_path), False)
    task = SimpleNamespace(name="motion", pool=None)
    trainer = SimpleNamespace(task=task, step=3, elapsed=5.0, ema_weights=contextlib.nullcontext)
    trainer.log = SimpleNamespace(write=lambda record: None)
    validation(trainer)
    assert trainer.elapsed > 100


def test_a_pool_gets_images_of_both_sizes(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(pool, "GROUPS", 2)
    quick[:] = [0.1]
    source = plain(pool=tmp_path / "pool", shards=1, drawers=1)
    train_stages(
        small_model(), replace(source, stages=("detector", "animator")), small_run(tmp_path / "run", batch=2)
    )
    (small,) = (tmp_path / "pool" / default_model.HALF_SIZE_FOLDER).glob("*.npz")
    (large,) = (tmp_path / "pool").glob("*.npz")
    assert pool.read_stamp(small).size == SIZE // 2 and pool.read_stamp(large).size == SIZE
    assert pool.read_stamp(small).coarse == pool.read_stamp(large).coarse == SIZE // 4


def test_people_are_mixed_in_by_their_share(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(pool, "GROUPS", 2)
    quick[:] = [0.1]
    with pytest.raises(PoolError, match=r"There are no people in .*puppets pool"):
        draw_shard(tmp_path / "puppets", 1000, SIZE, SIZE // 4, "plain")
        train_stages(
            small_model(),
            plain(
                pool=tmp_path / "puppets",
                shards=1,
                drawers=1,
                people=tmp_path / "puppets",
                stages=("detector",),
            ),
            small_run(tmp_path / "run", batch=2),
        )
    try:
        draw_shard(tmp_path / "people", 3, SIZE, SIZE // 4, "people")
    except AssetsError as error:
        pytest.skip(str(error))
    mixed = plain(
        pool=tmp_path / "puppets", shards=1, drawers=1, people=tmp_path / "people", people_share=0.75
    )
    run = small_run(tmp_path / "mixed", batch=4)
    train_stages(small_model(), replace(mixed, stages=("detector",)), run)
    assert list(run.done) == ["detector"]


def test_a_pool_of_small_images_is_for_the_first_stages(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(pool, "GROUPS", 2)
    folder = tmp_path / "pool"
    draw_shard(folder, 1000, SIZE // 2, SIZE // 4, "plain")
    source = plain(pool=folder, shards=1)
    train_stages(small_model(), replace(source, stages=("detector",)), small_run(tmp_path / "run", batch=2))
    with pytest.raises(PoolError, match="give another folder"):
        train_stages(
            small_model(), replace(source, stages=("animator",)), small_run(tmp_path / "other", batch=2)
        )


def test_memory_that_is_too_small_ends_in_a_sentence(tmp_path, quick, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("livepuppet.train.tasks.lite_detector.DetectorTask.losses", full)
    with pytest.raises(
        TrainingError, match="too small for detector with batches of 2: give a smaller --batch"
    ):
        train_stages(small_model(), plain(stages=("detector",)), small_run(tmp_path, batch=2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--half", "--precision", "fp32"], "either --half or --precision"),
        (["--setting", "foreign"], "'foreign' is not one of"),
        (["--precision", "fp16"], "bf16 or fp32"),
        (["--faces", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(options, sentence, tmp_path):
    from click.testing import CliRunner

    base = ["default", "--puppets", "stream", "--steps", "1", "--device", "cpu", "--output", str(tmp_path)]
    result = CliRunner().invoke(command, [*base, *options])
    assert result.exit_code and sentence in result.output and "Traceback" not in result.output
