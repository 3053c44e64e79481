"""Fine-tuning the default model: read the recording, train two stages, accept or reject them, write
a bundle.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from livepuppet.core.files import sha256
from livepuppet.core.processor import processor_name
from livepuppet.export.bundle import export_bundle
from livepuppet.export.graphs import ExportError
from livepuppet.model import checkpoint
from livepuppet.model.lite import LitePuppet
from livepuppet.realtime.bundled import MODEL
from livepuppet.train.data.reading import DataError
from livepuppet.train.loop.schedules import Cosine
from livepuppet.train.loop.trainer import TrainingError
from livepuppet.train.metrics.faces.clips import subsample
from livepuppet.train.recipes.finetune.acceptance import (
    Decision,
    decide_animator,
    decide_detector,
    sheet,
    state_of,
)
from livepuppet.train.recipes.finetune.recording import (
    Recording,
    UniformFrameSampler,
    check_recording,
    detect_recording,
)
from livepuppet.train.recipes.finetune.tasks import PersonAnimatorTask, PersonDetectorTask, PersonTask
from livepuppet.train.recipes.run import Run, RunConfig, inform, start, warn

#: Share of the time, peak learning rate and batch of each stage.
STAGES = {"detector": (0.25, 3e-4, 8), "animator": (0.75, 2e-4, 4)}

#: Minutes where no budget is given; warm-up steps; seconds between checkpoints at most.
MINUTES, WARM_UP, SAVE_EVERY = 5.0, 20, 20.0

#: Puppets against forgetting: shards of 64 images to train on; identities and images to measure by.
SHARDS, PROBES, TEST_IMAGES = 4, 4, 48

#: Seeds of those to measure by; the model card's are 77 and 78, too.
PROBE_SEED, TEST_SEED = 77, 78

#: Bytes that puppets, checkpoints, weights and bundle take together.
REQUIRED_SPACE = 200e6

#: Frames of another person's clip by which forgetting is measured.
RETENTION_FRAMES = 13


@dataclass(frozen=True)
class FinetuneConfig:
    """Whose recording the default model is fine-tuned on.

    Attributes:
        recording: a video, or a folder of frames.
        init: weights to start from; None for the bundled model's.
        keep: clips of other people, on whom the model may not get worse.
        crop: the square of the recording: "auto" (the face), "full" or "X,Y,SIDE".
    """

    recording: Path
    init: Path | None = None
    keep: tuple[Path, ...] = ()
    crop: str = "auto"


def finetune(config: FinetuneConfig, run_config: RunConfig) -> list[Decision]:
    """Adapt the default model to the person in a recording; write weights and a bundle into
    `output`.

    A stage that made things worse is rejected. Where both are, the folder holds the weights as they
    were, and works all the same.

    Args:
        config: recording and weights.
        run_config: the budget (5 minutes without one), folder and so on. Runs on the CPU in 32
            bits, whatever device and precision say.

    Returns:
        A decision per stage: what was accepted, and the metrics before and after.

    Raises:
        DataError, UserError: the recording or a clip cannot be used.
        ValueError: settings do not go together, or weights cannot be used.
        TrainingError, OSError: training cannot go on, or its result cannot be written.
    """
    from livepuppet.train.metrics.responses import draw_probes
    from livepuppet.train.puppets.pool import FIRST_SEED, PuppetPool, draw_shard, keep_freed_memory
    from livepuppet.train.sheets.tiles import write
    from livepuppet.train.tasks.lite_detector import draw_test

    if run_config.epochs is not None or (run_config.minutes is not None and run_config.steps is not None):
        raise ValueError("To fine-tune give --minutes or --steps.")
    with start(replace(run_config, device="cpu", precision="fp32")) as run:
        keep_freed_memory()
        began = time.monotonic()
        weights = config.init or MODEL / f"{MODEL.name}.safetensors"
        model = checkpoint.load(weights)
        if not isinstance(model, LitePuppet):
            raise DataError(
                f"{weights} holds {model.preset.name}, and only lite-256, whose keypoints are landmarks, can be "
                "fine-tuned: train others with livepuppet train videos."
            )
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        original, size = copy.deepcopy(model), model.preset.size
        recording = read_recording(config.recording, weights, size, config.crop)
        check_recording(recording, *detect_recording(model, recording.frames))
        clips = {
            clip.stem: subsample(read_recording(clip, weights, size, config.crop).frames, RETENTION_FRAMES)
            for clip in config.keep
        }
        inform(
            f"{recording.name}: {recording.seconds:.1f} seconds, {len(recording.frames)} frames kept, "
            f"{len(recording.train)} to learn from, the rest for validation and test."
        )
        run.output.mkdir(parents=True, exist_ok=True)
        _check_space(run.output)

        folder = run.output / "puppets"
        inform(f"Drawing {SHARDS * 64} puppets against forgetting ...")
        for number in range(SHARDS):
            draw_shard(folder, FIRST_SEED + number, size)
        pool = PuppetPool(folder)
        truth = draw_test(TEST_IMAGES, TEST_SEED, size)
        probes = draw_probes(PROBES, PROBE_SEED, size)

        fingerprint: dict[str, object] = {
            "weights": sha256(weights),
            "recording": _fingerprint(recording),
            "crop": config.crop,
        }
        decisions = []
        before = state_of(model.detector)
        batch = run.config.batch
        task = PersonDetectorTask(
            model, recording.train, pool, batch or STAGES["detector"][2], seed=run.config.seed
        )
        steps = {"detector": _train(run, task, fingerprint)}
        inform("Measuring the detector ...")
        decisions.append(decide_detector(model, before, task, recording, truth, clips))
        inform(decisions[-1].why)

        task = PersonAnimatorTask(model, recording.train, pool, batch or STAGES["animator"][2])
        before = state_of(task.trained)
        # Resuming needs the same detector, which follows from the rest, as its training is kept
        # too.
        steps["animator"] = _train(run, task, fingerprint | {"detector": str(decisions[0].accepted)})
        inform("Measuring dense motion and generator ...")
        decisions.append(decide_animator(model, before, task, recording, probes, clips))
        inform(decisions[-1].why)

        model.eval()
        write(run.output / "sheet.png", sheet(original, model, recording))
        _write_bundle(model, run.output, run.config.command, decisions)
        shutil.rmtree(folder, ignore_errors=True)
        report = {
            "recording": recording.name,
            "seconds": round(recording.seconds, 2),
            "frames": len(recording.frames),
            "kept": [decision.stage for decision in decisions if decision.accepted],
            "steps": steps,
            "minutes in all": round((time.monotonic() - began) / 60, 1),
            "threads": torch.get_num_threads(),
            "processor": processor_name(),
            "verdicts": [asdict(decision) for decision in decisions],
        }
        text = json.dumps(report, indent=2) + "\n"
        (run.output / "finetune.json").write_text(text, encoding="utf-8")
    return decisions


def _train(run: Run, task: PersonTask, fingerprint: dict[str, object]) -> int:
    """Train one stage; the model is left with its EMA weights. Returns the steps done."""
    share, rate, _ = STAGES[task.name]
    config = run.config
    minutes = None if config.steps is not None else (config.minutes or MINUTES) * share
    every = SAVE_EVERY if minutes is None else min(SAVE_EVERY, 60 * minutes / 8)
    warm_up = WARM_UP if config.steps is None else max(1, min(WARM_UP, config.steps // 10))
    trainer = run.trainer(
        task,
        steps=config.steps,
        minutes=minutes,
        learning_rate=config.learning_rate or rate,
        schedule=Cosine(warm_up),
        save_every=min(config.save_every, every),
        on_save=task.snapshots,
        fingerprint=fingerprint | {"batch": task.batch, "seed": config.seed},
    )
    run.train(trainer)
    return trainer.step


# ---------------------------------------------------------------------------------------- input


def read_recording(path: Path, weights: Path, size: int, crop: str = "auto") -> Recording:
    """A recording, framed as the live path frames it: one square, held from the first to the last
    frame.

    Args:
        path: of the recording.
        weights: of the model whose detector finds the face.
        size: side of the frames in pixels.
        crop: see `FinetuneConfig`.

    Raises:
        UserError: it cannot be read.
        DataError: it has no frames, or no face where one is looked for.
    """
    from livepuppet.core.video import open_video
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.framing.crop import Framing

    clip = open_video(path)
    framing = Framing(crop, engine=load_engine("torch", weights, device="cpu"))
    waiting, sampler, end = [], UniformFrameSampler(), 0.0
    try:
        for frame in clip:
            end = float(frame.time + 1 / clip.rate)
            if not framing.settled:
                # The first frames wait for the square that they settle together.
                waiting.append(frame.image.copy())
                framing.look(frame.image)
                continue
            for image in [*waiting, frame.image]:
                if sampler.wants_next():
                    sampler.add(framing.cut(image, size))
            waiting = []
        if waiting:
            framing.settle(waiting[-1])
            for image in waiting:
                sampler.add(framing.cut(image, size))
    finally:
        clip.close()
    if not sampler.frames:
        raise DataError(f"{path} has no frames: give a recording of yourself.")
    if crop == "auto" and not framing.faces:
        raise DataError(
            f"No face is seen at the beginning of {path}: record yourself from the front in good light, or give the "
            "square of your face with --crop X,Y,SIDE."
        )
    if clip.broken:
        warn(f"{clip.broken}; what could be read is used.")
    return Recording(str(path), sampler.result(), end)


def _fingerprint(recording: Recording) -> str:
    return hashlib.sha256(np.ascontiguousarray(recording.frames).tobytes()).hexdigest()[:16]


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < REQUIRED_SPACE:
        raise TrainingError(
            f"{folder} has {free / 1e6:.0f} MB left, and {REQUIRED_SPACE / 1e6:.0f} are needed: make room there, or "
            "choose another --output folder."
        )


# --------------------------------------------------------------------------------------- output


def _write_bundle(model: LitePuppet, output: Path, command: str, decisions: list[Decision]) -> None:
    """Write weights and bundle into `output`; those of an earlier run stay until the new ones are
    whole.
    """
    path = output / f"{model.preset.name}.safetensors"
    stages = "; ".join(f"{decision.stage}: {decision.accepted or 'as it was'}" for decision in decisions)
    building = output / "bundle.part"
    with _writing(output):
        shutil.rmtree(building, ignore_errors=True)
        checkpoint.save(model, path, command=command, finetuned=stages, torch=torch.__version__)
        export_bundle(checkpoint.load(path), building, path)
        # bundle.json last: it names the others' checksums.
        for file in sorted(building.iterdir(), key=lambda file: file.name == "bundle.json"):
            os.replace(file, output / file.name)
        building.rmdir()


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ExportError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise TrainingError(
            f"The result could not be written to {output} ({why}): make room there; the same command with --resume "
            "writes it without training again."
        ) from error


def table(decisions: list[Decision]) -> list[str]:
    """Metrics before and after as text, one line each."""
    lines = [f"{'':28} {'before':>9} {'after':>9}"]
    for decision in decisions:
        rejected = "" if decision.accepted else ", rejected"
        lines.append(f"{decision.stage}{rejected}")
        lines += [
            f"  {name:26} {decision.before[name]:9.4f} {value:9.4f}" for name, value in decision.after.items()
        ]
    return lines


def next_step(decisions: list[Decision], output: Path) -> str:
    """What a person should do now."""
    if not any(decision.accepted for decision in decisions):
        return (
            f"It did not help: {output} holds the weights as they were. A longer recording, more light or more --minutes "
            "may do better."
        )
    return f"Yours: livepuppet run --model {output} --avatar PICTURE; before and after are in {output / 'sheet.png'}."
