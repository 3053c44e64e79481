"""Image-to-video as in Monkey-Net: learn how keypoints continue, score that, and let a still image
move by itself.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from livepuppet.core.files import sha256
from livepuppet.model import checkpoint
from livepuppet.model.base import Model
from livepuppet.model.prediction import MotionPredictor, PredictorConfig, load_predictor, save_predictor
from livepuppet.model.presets import Preset
from livepuppet.train.data.reading import DataError, list_clips, part_of
from livepuppet.train.data.sequences import Sequences, find_sequences, long_enough, split
from livepuppet.train.loop.precision import choose_device
from livepuppet.train.loop.trainer import Trainer
from livepuppet.train.metrics import continuation
from livepuppet.train.tasks.continuation import BATCH, LEARNING_RATE, ContinuationTask, note_means

if TYPE_CHECKING:
    from livepuppet.core.keypoints import Keypoints
    from livepuppet.realtime.animator import Animator

logger = logging.getLogger(__name__)

#: Minutes of learning where no budget is given.
MINUTES = 10.0

HINT = "make one with 'livepuppet imagine --learn FOLDER --model WEIGHTS --output PREDICTOR.safetensors'"


@dataclass(frozen=True)
class LearnConfig:
    """How a predictor learns.

    Attributes:
        folder: clips to learn from.
        output: the predictor's file (.safetensors); keypoints and checkpoints are kept beside it.
        model: weights whose keypoints are continued; None for the bundled model's.
        frames: length of the windows to learn from.
        rate: frames per second; None for the clips'.
        minutes, steps: the budget; at most one, 10 minutes without.
        batch, learning_rate: of the training.
        hidden: units of the recurrent layer.
        from_frames: frames that are given.
        predict_matrices: learn how Jacobians or covariances continue, too.
        offsets: predict offsets from the last given keypoints instead of positions.
        resume: go on where a stopped training left off.
        seed: of the training.
        device: "auto", "cpu" or "cuda".
        command: kept in the predictor.
    """

    folder: Path
    output: Path
    model: Path | None = None
    frames: int = PredictorConfig.frames
    rate: float | None = None
    minutes: float | None = None
    steps: int | None = None
    batch: int = BATCH
    learning_rate: float = LEARNING_RATE
    hidden: int = PredictorConfig.hidden
    from_frames: int = PredictorConfig.from_frames
    predict_matrices: bool = False
    offsets: bool = False
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    command: str = ""


@dataclass(frozen=True)
class Scores:
    """How far a predictor's continuation is from the truth.

    Attributes:
        predictor: measured.
        preset: of the model whose keypoints it continues.
        keypoints: of `metrics.continuation.keypoint_errors`.
        images: of `metrics.continuation.image_errors`; None if not measured.
        clips: how many keypoints were scored on.
        image_clips: how many images were scored on.
    """

    predictor: MotionPredictor
    preset: Preset
    keypoints: dict[str, np.ndarray]
    images: dict[str, np.ndarray] | None
    clips: int
    image_clips: int = 0


def learn(config: LearnConfig) -> Scores:
    """Train a predictor; `config.output` holds the one that is best on clips held back.

    Returns:
        Its scores on those clips.

    Raises:
        ValueError: settings do not go together, or the model or the clips cannot be used.
        TrainingError: training was stopped or cannot go on.
        OSError: something cannot be written.
    """
    if config.output.suffix != ".safetensors":
        raise ValueError("--learn needs --output PREDICTOR.safetensors.")
    if config.minutes is not None and config.steps is not None:
        raise ValueError("Give either --minutes or --steps.")
    device = choose_device(config.device)
    weights, network = load_network(config.model, device)
    preset, digest = network.preset, sha256(weights)
    predictor_config = PredictorConfig(
        preset.num_keypoints,
        config.hidden,
        config.frames,
        config.from_frames,
        preset.matrices if config.predict_matrices else "held",
        config.offsets,
    )
    folder = cache_folder(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    found = find_sequences(
        network, digest, config.folder, folder / "keypoints.npz", batch=_frames_at_once(preset)
    )
    rate = config.rate or found.rate
    found, short = long_enough(found, config.frames)
    if short:
        logger.warning(
            "skipped: %d clips of fewer than %d frames (%s%s",
            len(short),
            config.frames,
            ", ".join(short[:5]),
            ", ...)." if len(short) > 5 else ").",
        )
    data, held_back = split(found)
    logger.info(
        "%d clips to learn from, %d held back; %d frames.", len(data), len(held_back), len(found.points)
    )
    torch.manual_seed(config.seed)
    predictor = MotionPredictor(predictor_config).to(device)
    data, held_back = data.to(device), held_back.to(device)
    note_means(predictor, data)
    metadata: dict[str, Any] = {
        "model": preset.name,
        "model_sha256": digest,
        "matrices": preset.matrices,
        "rate": rate,
        "command": config.command,
        "clips": len(data),
    }
    best = _Best(predictor, config.output, held_back, metadata)
    trainer = Trainer(
        ContinuationTask(predictor, data, config.batch),
        folder,
        config.steps,
        (config.minutes or MINUTES) if config.steps is None else None,
        config.learning_rate,
        config.seed,
        save_every=30,
        on_save=best,
        fingerprint={
            "predictor": predictor_config,
            "model": digest,
            "clips": " ".join(found.names),
            "batch": config.batch,
        },
    )
    if config.resume and trainer.resume():
        best.read()
        logger.info("Going on from step %d.", trainer.step)
    trainer.run(quiet=not sys.stderr.isatty())
    chosen = load_predictor(config.output)
    errors = continuation.keypoint_errors(chosen, held_back.to("cpu"))
    return Scores(chosen, preset, errors, None, len(held_back))


class _Best:
    """Keeps the predictor with the smallest error on clips held back, as a file. `on_save` of the
    trainer.
    """

    def __init__(self, predictor: MotionPredictor, path: Path, data: Sequences, metadata: dict[str, Any]):
        self.predictor, self.path, self.data, self.metadata = predictor, path, data, metadata
        self.error = float("inf")

    def read(self) -> None:
        """Continue with the one on disk, if it is there."""
        if self.path.exists():
            self.error = float(load_predictor(self.path).metadata.get("validation", "inf"))

    def __call__(self, trainer: Trainer) -> None:
        with trainer.ema_weights():
            error = float(continuation.keypoint_errors(self.predictor, self.data)["predicted"].mean())
            if error < self.error:
                self.error = error
                save_predictor(
                    self.predictor, self.path, validation=error, step=trainer.step, **self.metadata
                )


def score(
    folder: Path, predictor: Path, model: Path | None = None, images: int = 100, device: str = "auto"
) -> Scores:
    """Score a predictor on the clips of a folder (its test/ where it has one).

    Args:
        folder: clips.
        predictor: what `learn` wrote.
        model: weights that it belongs to; None for the bundled model's.
        images: clips to score images on; 0 for keypoints alone.
        device: "auto", "cpu" or "cuda".

    Raises:
        ValueError: model, predictor or clips cannot be used.
        OSError: keypoints cannot be cached.
    """
    weights, network = load_network(model, choose_device(device))
    digest = sha256(weights)
    preset = network.preset
    continuing = matching_predictor(predictor, preset.name, digest)
    frames, cache = continuing.config.frames, cache_folder(predictor) / "scored.npz"
    found = find_sequences(network, digest, folder, cache, "test", _frames_at_once(preset))
    found, short = long_enough(found, frames)
    logger.info("%d clips; %d shorter than %d frames left out.", len(found), len(short), frames)
    errors = continuation.keypoint_errors(continuing, found)
    if not images:
        return Scores(continuing, preset, errors, None, len(found))
    clips = [clip for clip in list_clips(part_of(folder, "test"))[0] if clip.name in found.names]
    clips = [clips[k] for k in sorted({*np.linspace(0, len(clips) - 1, images).round().astype(int)})]
    image_errors = continuation.image_errors(network, continuing, clips, _frames_at_once(preset))
    return Scores(continuing, preset, errors, image_errors, len(found), len(clips))


def imagine(
    avatar: Path,
    predictor: Path,
    output: Path,
    model: Path | None = None,
    frames: int | None = None,
    rate: float | None = None,
    avatar_crop: str = "auto",
    driving_first: str | None = None,
    engine: str | None = None,
) -> tuple[int, float]:
    """Let an image move by itself. The same image always gives the same video.

    Args:
        avatar: the image.
        predictor: what `learn` wrote.
        output: a video or a folder of PNGs.
        model: weights or a bundle; None for the bundled model.
        frames: length; None for what the predictor was trained on.
        rate: frames per second; None for the clips' that it was trained on.
        avatar_crop: the square of the avatar.
        driving_first: clip whose first movement is continued, for predictors that start from
            several frames.
        engine: "onnx" or "torch".

    Returns:
        Frames written, and the largest mean movement of the keypoints in pixels of the model's
        size.

    Raises:
        ValueError, UserError: something given cannot be used.
    """
    from livepuppet.core.keypoints import Keypoints
    from livepuppet.core.names import keep_apart
    from livepuppet.realtime.animator import Animator
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.outputs.opening import check_file_output

    check_file_output(str(output))
    keep_apart(
        output,
        {"the avatar": avatar, "the predictor": predictor, "the clip that it begins with": driving_first},
    )
    loaded = load_engine(engine, model)
    # Before the avatar is encoded: most of what can be wrong is the predictor.
    continuing = matching_predictor(predictor, loaded.model_name, _digest(model))
    config = continuing.config
    frames = frames or config.frames
    animator = Animator(avatar, engine=loaded, crop="full", avatar_crop=avatar_crop, rig="off")
    first = _first_keypoints(animator, config.from_frames, driving_first)
    given_points = torch.from_numpy(np.stack([keypoints.points for keypoints in first])[None])
    given_matrices = torch.from_numpy(np.stack([keypoints.jacobians for keypoints in first])[None])
    with torch.no_grad():
        points, matrices = (value[0].numpy() for value in continuing(given_points, given_matrices, frames))
    if frames > config.frames:
        logger.warning(
            "%s was trained on %d frames: it was never trained on what comes after them.",
            predictor,
            config.frames,
        )
    frame_rate = Fraction(rate or float(continuing.metadata.get("rate", 25))).limit_denominator(1001)
    drawn = (animator.draw(Keypoints(*pair)) for pair in zip(points, matrices, strict=True))
    _write_video(drawn, output, frame_rate)
    movement = np.abs(points - points[:1]).mean((1, 2)).max() * (loaded.size - 1) / 2
    return frames, float(movement)


def _first_keypoints(animator: Animator, count: int, driving_first: str | None) -> list[Keypoints]:
    """The keypoints that the avatar starts from: its own, or with a clip's first movement
    transferred to them.
    """
    from livepuppet.core.transfer import transfer
    from livepuppet.core.video import open_video

    engine, own = animator.engine, animator.keypoints
    if count == 1:
        if driving_first:
            raise DataError("This predictor starts from the image alone: leave out --driving-first.")
        return [own]
    if not driving_first:
        raise DataError(
            f"This predictor starts from {count} frames: give a clip that begins the movement with --driving-first CLIP."
        )
    with open_video(driving_first) as clip:
        frames = itertools.islice(clip, count)
        driven = [engine.detect(animator.cut(frame.image)) for frame in frames]
    if len(driven) < count:
        raise DataError(f"{driving_first} has fewer than the {count} frames needed: give a longer clip.")
    return [transfer(keypoints, driven[0], own, matrices=engine.matrices) for keypoints in driven]


def _write_video(images: Iterator[np.ndarray], output: Path, rate: Fraction) -> None:
    from livepuppet.realtime.outputs.folder import ImageFolder
    from livepuppet.realtime.outputs.opening import is_video_name
    from livepuppet.realtime.outputs.video import VideoFile

    sink = None
    try:
        for number, image in enumerate(images):
            if sink is None:
                sink = (
                    VideoFile(output, image.shape[1], image.shape[0], rate)
                    if is_video_name(str(output))
                    else ImageFolder(output)
                )
            sink.write(image, number / rate, 1 / rate)
    finally:
        if sink is not None:
            sink.close()


def cache_folder(predictor: Path) -> Path:
    """The folder of a predictor's cached keypoints and checkpoints."""
    return predictor.with_name(predictor.stem + ".learning")


def load_network(model: Path | None, device: torch.device) -> tuple[Path, Model]:
    """The weights' file and the network, in evaluation mode.

    Raises:
        ValueError: the weights are a bundle, or cannot be read.
    """
    if model is None:
        from livepuppet.realtime.bundled import MODEL

        model = MODEL / f"{MODEL.name}.safetensors"
    if model.is_dir():
        raise DataError(
            f"{model} is a bundle, which cannot be run on a whole folder of clips at once: give the weights "
            "(.safetensors) that it was exported from."
        )
    return model, checkpoint.load(model).to(device).eval()


def matching_predictor(path: Path, model_name: str, digest: str | None) -> MotionPredictor:
    """The predictor in a file.

    Args:
        path: of the file.
        model_name: preset of the model whose keypoints it must continue.
        digest: SHA-256 of that model's weights; None if unknown.

    Raises:
        ValueError: it cannot be read, or continues another model's keypoints.
    """
    predictor = load_predictor(path)
    theirs = predictor.metadata.get("model_sha256")
    if predictor.metadata.get("model") != model_name or (digest and theirs and digest != theirs):
        raise DataError(
            f"{path} continues the keypoints of another model ({predictor.metadata.get('model')}, weights "
            f"{(theirs or 'unknown')[:12]}; this is {model_name}, {(digest or 'unknown')[:12]}), and every training finds "
            f"keypoints of its own: give that model with --model, or {HINT}."
        )
    return predictor


def _digest(model: Path | None) -> str | None:
    """SHA-256 of the weights that are behind a bundle or in a file; None where a bundle does not
    tell.
    """
    from livepuppet.realtime.bundled import MODEL
    from livepuppet.realtime.engines import read_bundle

    model = MODEL if model is None else model
    return read_bundle(model).get("weights_sha256") if model.is_dir() else sha256(model)


def _frames_at_once(preset: Preset) -> int:
    """As many as keep a CPU busy without filling the memory."""
    return max(1, 32 * 64 * 64 // preset.size**2)
