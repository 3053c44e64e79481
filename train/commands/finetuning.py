"""`livepuppet train lite-256 --finetune MY_RECORDING.mp4 --output MINE`."""

from __future__ import annotations

import copy
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.export.bundle import export_bundle
from livepuppet.export.graphs import ExportError
from livepuppet.model import checkpoint
from livepuppet.realtime.bundled import MODEL
from livepuppet.train.commands.runs import Run, say, warn
from livepuppet.train.data.reading import DataError
from livepuppet.train.finetune import (
    PersonAnimatorTask,
    PersonDetectorTask,
    Recording,
    Thinned,
    Verdict,
    check_recording,
    few,
    judge_animator,
    judge_detector,
    sheet,
    state_of,
    watch,
)
from livepuppet.train.loop.schedules import Cosine
from livepuppet.train.loop.trainer import TrainingError

#: Share of the time, peak learning rate and batch of each stage.
STAGES = {"detector": (0.25, 3e-4, 8), "animator": (0.75, 2e-4, 4)}

#: Minutes without a budget given; steps of warming up; seconds between checkpoints at most.
MINUTES, WARM_UP, SAVE_EVERY = 5.0, 20, 20.0

#: Puppets to stay with: shards of 64 pictures, and the identities and pictures by which manners are measured.
SHARDS, PROBES, TRUTH = 4, 4, 48

#: Seeds of those; 77 and 78 are the model card's.
PROBE_SEED, TRUTH_SEED = 77, 78

#: Bytes that puppets, checkpoints, weights and bundle take together.
ROOM = 200e6

#: Frames of a clip of another person by which is measured what is kept.
KEPT_FRAMES = 13


def finetune(
    path: Path,
    run: Run,
    init: Path | None = None,
    keep: tuple[Path, ...] = (),
    crop: str = "auto",
    command: str = "",
) -> list[Verdict]:
    """Adapt the default model to the person in a recording; write weights and bundle into `run.output`.

    What made things worse is not kept: then the folder holds the weights as they were, and works all the same.

    Args:
        path: the recording, anything that `livepuppet animate --driving` takes.
        run: the budget, folder and so on. On the CPU, in 32 bits.
        init: weights to start from; None for the default's.
        keep: clips of other people, with whom the model may not get worse.
        crop: as `livepuppet run --crop`.
        command: kept in the weights.

    Raises:
        DataError, UserError: the recording or a clip cannot be used.
        TrainingError, CheckpointError, OSError: as everywhere.
    """
    from livepuppet.train.lite.detector import draw_test
    from livepuppet.train.lite.responses import draw_probes
    from livepuppet.train.puppets.pool import FIRST_SEED, PuppetPool, draw_shard, keep_freed_memory
    from livepuppet.train.sheets import write

    keep_freed_memory()
    began = time.monotonic()
    weights = init or MODEL / f"{MODEL.name}.safetensors"
    model = checkpoint.load(weights).to(memory_format=torch.channels_last)
    if model.preset.kind != "lite":
        raise DataError(
            f"{weights} holds {model.preset.name}, and --finetune is for lite-256, whose keypoints are landmarks: train "
            "others with --data FOLDER."
        )
    original = copy.deepcopy(model)
    recording = framed(path, weights, model.preset.size, crop)
    check_recording(recording, *watch(model, recording.frames))
    clips = {
        clip.stem: few(framed(clip, weights, model.preset.size, crop).frames, KEPT_FRAMES) for clip in keep
    }
    say(
        f"{recording.name}: {recording.seconds:.1f} seconds, {len(recording.frames)} frames kept, "
        f"{len(recording.learn)} to learn from, the rest to choose and to judge by."
    )
    run.output.mkdir(parents=True, exist_ok=True)
    _check_room(run.output)

    folder = run.output / "puppets"
    say(f"Drawing {SHARDS * 64} puppets to stay with ...")
    for number in range(SHARDS):
        draw_shard(folder, FIRST_SEED + number, model.preset.size)
    pool = PuppetPool(folder)
    truth = draw_test(TRUTH, TRUTH_SEED, model.preset.size)
    probes = draw_probes(PROBES, PROBE_SEED, model.preset.size)

    facts = {"weights": sha256(weights), "recording": _fingerprint(recording), "crop": crop}
    verdicts = []
    before = state_of(model.detector)
    task = PersonDetectorTask(model, recording.learn, pool, run.batch or STAGES["detector"][2], seed=run.seed)
    steps = {"detector": _train(run, task, facts)}
    say("Measuring the detector ...")
    verdicts.append(judge_detector(model, before, task, recording, truth, clips))
    say(verdicts[-1].why)

    task = PersonAnimatorTask(model, recording.learn, pool, run.batch or STAGES["animator"][2])
    before = state_of(task.trained)
    # A continuation is one of the same detector: that follows from the facts, as its training is kept too.
    steps["animator"] = _train(run, task, facts | {"detector": str(verdicts[0].kept)})
    say("Measuring dense motion and painting ...")
    verdicts.append(judge_animator(model, before, task, recording, probes, clips))
    say(verdicts[-1].why)

    model.eval()
    write(run.output / "sheet.png", sheet(original, model, recording))
    _ship(model, run.output, command, verdicts)
    shutil.rmtree(folder, ignore_errors=True)
    facts = {
        "recording": recording.name,
        "seconds": round(recording.seconds, 2),
        "frames": len(recording.frames),
        "kept": [verdict.stage for verdict in verdicts if verdict.kept],
        "steps": steps,
        "minutes in all": round((time.monotonic() - began) / 60, 1),
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    (run.output / "finetune.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    say("")
    for line in table(verdicts):
        say(line)
    say(f"\n{closing(verdicts, run.output)}")
    return verdicts


def _train(run: Run, task, facts: dict[str, str]) -> int:
    """Train one stage; the model is left with its running average. Returns the steps done."""
    share, rate, _ = STAGES[task.name]
    minutes = None if run.steps is not None else (run.minutes or MINUTES) * share
    every = SAVE_EVERY if minutes is None else min(SAVE_EVERY, 60 * minutes / 8)
    trainer = run.trainer(
        task,
        steps=run.steps,
        minutes=minutes,
        learning_rate=run.learning_rate or rate,
        schedule=Cosine(WARM_UP if run.steps is None else max(1, min(WARM_UP, run.steps // 10))),
        on_save=task.snapshots,
        facts=facts | {"batch": str(task.batch), "seed": str(run.seed)},
    )
    trainer.save_every = min(trainer.save_every, every)
    run.go(trainer)
    return trainer.step


# ------------------------------------------------------------------------------------------------------------ reading


def framed(path: Path, weights: Path, size: int, crop: str = "auto") -> Recording:
    """A recording cut like the live path cuts: one square, held from the first to the last frame.

    Raises:
        UserError: it cannot be read.
        DataError: no face was found in it, where one was to be looked for.
    """
    from livepuppet.core.video import open_video
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.framing.crop import Framing

    clip = open_video(path)
    framing = Framing(crop, engine=load_engine("torch", weights, device="cpu"))
    first, thinned, end = [], Thinned(), 0.0
    try:
        for frame in clip:
            end = float(frame.time + 1 / clip.rate)
            if not framing.settled:
                # All that were looked at wait for the square that they settle together.
                first.append(frame.image.copy())
                framing.look(frame.image)
                continue
            for picture in [*first, frame.image]:
                if thinned.wanted():
                    thinned.add(framing.cut(picture, size))
            first = []
        if first:
            framing.settle(first[-1])
            for picture in first:
                thinned.add(framing.cut(picture, size))
    finally:
        clip.close()
    if not thinned.frames:
        raise DataError(f"{path} has no frames: give a recording of yourself.")
    if crop == "auto" and not framing.faces:
        raise DataError(
            f"No face is seen at the beginning of {path}: record yourself from the front in good light, or give the "
            "square of your face with --crop X,Y,SIDE."
        )
    if clip.broken:
        warn(f"{clip.broken}; what could be read is used.")
    return Recording(str(path), thinned.result(), end)


def _fingerprint(recording: Recording) -> str:
    import hashlib

    return hashlib.sha256(np.ascontiguousarray(recording.frames).tobytes()).hexdigest()[:16]


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < ROOM:
        raise TrainingError(
            f"{folder} has {free / 1e6:.0f} MB left, and {ROOM / 1e6:.0f} are needed: make room there, or choose another "
            "--output folder."
        )


# ------------------------------------------------------------------------------------------------------------ writing


def _ship(model, output: Path, command: str, verdicts: list[Verdict]) -> None:
    """Write weights and bundle into `output`; what another run left there stays until its successor is whole."""
    path = output / f"{model.preset.name}.safetensors"
    stages = "; ".join(f"{verdict.stage}: {verdict.kept or 'as it was'}" for verdict in verdicts)
    building = output / "bundle.part"
    with _one_sentence(output):
        shutil.rmtree(building, ignore_errors=True)
        checkpoint.save(model, path, command=command, finetuned=stages, torch=torch.__version__)
        export_bundle(checkpoint.load(path), building, path)
        # bundle.json last: it names the others' checksums.
        for file in sorted(building.iterdir(), key=lambda file: file.name == "bundle.json"):
            os.replace(file, output / file.name)
        building.rmdir()


@contextmanager
def _one_sentence(output: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ExportError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TrainingError(
            f"The result could not be written to {output} ({why}): make room there; the same command with --resume "
            "writes it without training again."
        ) from error


def table(verdicts: list[Verdict]) -> list[str]:
    """Figures before and after, one line each."""
    lines = [f"{'':28} {'before':>9} {'after':>9}"]
    for verdict in verdicts:
        tried = "" if verdict.kept else ", tried and not kept"
        lines.append(f"{verdict.stage}{tried}")
        lines += [
            f"  {name:26} {verdict.before[name]:9.4f} {value:9.4f}" for name, value in verdict.after.items()
        ]
    return lines


def closing(verdicts: list[Verdict], output: Path) -> str:
    """What a person should know and do now."""
    if not any(verdict.kept for verdict in verdicts):
        return (
            f"It did not help: {output} holds the weights as they were. A longer recording, more light or more --minutes "
            "may do better."
        )
    return f"Yours: livepuppet run --model {output} --avatar PICTURE; before and after are in {output / 'sheet.png'}."


__all__ = ["DataError", "UserError", "finetune", "framed", "table"]
