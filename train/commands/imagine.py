"""`livepuppet imagine`: one picture, no driving video, and a model that has learned how its kind of thing moves."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import torch

from livepuppet.core.files import sha256
from livepuppet.model import checkpoint
from livepuppet.model.prediction import MotionPredictor, PredictorConfig, load_predictor, save_predictor
from livepuppet.train.commands.failing import as_click_error
from livepuppet.train.loop.trainer import Trainer, TrainingError
from livepuppet.train.papers import prediction
from livepuppet.train.papers.sequences import find_sequences

#: Minutes of learning when nothing is said.
MINUTES = 10.0

HOW = "make one with 'livepuppet imagine --learn FOLDER --model WEIGHTS --output PREDICTOR.safetensors'"


@click.command(short_help="Let a picture move by itself, as clips have taught it.")
@click.option("--avatar", type=click.Path(path_type=Path), help="The picture to move, of any format.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Weights (.safetensors), or for --avatar also a bundle. [default: the bundled model]",
)
@click.option("--predictor", type=click.Path(path_type=Path), help="What --learn wrote for this model.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.mp4|FOLDER|PREDICTOR",
    help="The video, a folder of PNGs, or for --learn the predictor (.safetensors).",
)
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    help="Length of the video, or for --learn of the clips to learn from, in frames. [default: as learned; 32]",
)
@click.option(
    "--rate", type=click.FloatRange(min=0.1, max=1000), help="Frames per second. [default: the clips']"
)
@click.option(
    "--avatar-crop",
    default="center",
    show_default=True,
    metavar="center|face|auto|X,Y,SIDE",
    help="The square of the avatar.",
)
@click.option(
    "--driving-first",
    metavar="VIDEO|FOLDER",
    help="Start with the movement of this clip's first frames, for a predictor that was learned with --from-frames 2 or more.",
)
@click.option("--engine", type=click.Choice(["onnx", "torch"]), help="What runs the model, for --avatar.")
@click.option(
    "--learn", type=click.Path(path_type=Path), metavar="FOLDER", help="Learn from a folder of clips."
)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Time to learn, wall clock. [default: 10]"
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps to learn, instead of minutes.")
@click.option("--batch", default=prediction.BATCH, show_default=True, type=click.IntRange(min=1))
@click.option("--learning-rate", default=prediction.LEARNING_RATE, show_default=True, type=float)
@click.option(
    "--hidden", default=1024, show_default=True, type=click.IntRange(min=1), help="Units, learning."
)
@click.option(
    "--from-frames",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Learn to continue from that many frames.",
)
@click.option(
    "--predict-matrices",
    is_flag=True,
    help="Learn how Jacobians or covariances go on, too; without, they stay as in the first frame (as published).",
)
@click.option(
    "--offsets",
    is_flag=True,
    help="Learn the way from the first frame instead of places: for few clips, or small movements.",
)
@click.option("--resume", is_flag=True, help="Go on learning where a stopped --learn left off.")
@click.option("--seed", default=0, show_default=True, help="Of learning. The video knows no chance.")
@click.option(
    "--score", type=click.Path(path_type=Path), metavar="FOLDER", help="Measure a predictor on a folder."
)
@click.option(
    "--pictures",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    help="Clips to score pictures on; 0 for keypoints only.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]), show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all by default.")
def imagine(
    avatar,
    learn,
    score,
    device,
    threads,
    json_path,
    **options,
):
    """Let a picture move by itself: image-to-video as in Monkey-Net.

    \b
    livepuppet imagine --learn CLIPS --model WEIGHTS --output P.safetensors
    livepuppet imagine --score CLIPS --model WEIGHTS --predictor P.safetensors
    livepuppet imagine --avatar PICTURE --model WEIGHTS --predictor P.safetensors --output FILE.mp4

    A recurrent network learns, from clips, how the keypoints go on after the first frame; --avatar then continues those of
    a picture. The same picture always gives the same video: the network tells the median of what it has seen, and stands
    still where the first frame does not say what comes. --learn and --score tell whether it is any better than that.
    """
    if sum(mode is not None for mode in (avatar, learn, score)) != 1:
        raise click.UsageError("Give one of --avatar PICTURE, --learn FOLDER and --score FOLDER.")
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("PyTorch finds no CUDA device here: leave --device out.")
    try:
        if learn is not None:
            _learn(learn, device, json_path, **options)
        elif score is not None:
            _score(score, device, json_path, **options)
        else:
            _imagine(avatar, **options)
    except (TrainingError, ValueError) as error:
        raise as_click_error(error) from error
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or options['output']} cannot be read or written ({error.strerror or error}): check the "
            "path and the space left."
        ) from error


def _learn(
    folder, device, json_path, model, output, frames, rate, minutes, steps, batch, learning_rate, **options
):
    if output is None or output.suffix != ".safetensors":
        raise click.UsageError("--learn needs --output PREDICTOR.safetensors.")
    if minutes is not None and steps is not None:
        raise click.UsageError("Give either --minutes or --steps.")
    weights, network = _weights(model, device)
    preset, digest = network.preset, sha256(weights)
    frames = frames or PredictorConfig.frames
    config = PredictorConfig(
        preset.num_keypoints,
        options["hidden"],
        frames,
        options["from_frames"],
        preset.matrices if options["predict_matrices"] else "held",
        options["offsets"],
    )
    room = prediction.beside(output)
    room.mkdir(parents=True, exist_ok=True)
    found = find_sequences(
        network, digest, folder, room / "keypoints.npz", say=_complain, batch=_batch(preset)
    )
    rate = rate or found.rate
    found, short = prediction.long_enough(found, frames)
    if short:
        _complain(
            f"skipped: {len(short)} clips of fewer than {frames} frames ({', '.join(short[:5])}"
            + (", ...)." if len(short) > 5 else ").")
        )
    data, held_back = prediction.split(found)
    click.echo(f"{len(data)} clips to learn from, {len(held_back)} held back; {len(found.points)} frames.")

    torch.manual_seed(options["seed"])
    predictor = MotionPredictor(config).to(device)
    data, held_back = data.to(device), held_back.to(device)
    prediction.note_means(predictor, data)
    facts = {
        "model": preset.name,
        "model_sha256": digest,
        "matrices": preset.matrices,
        "rate": rate,
        "command": " ".join(["livepuppet", *sys.argv[1:]]),
        "clips": len(data),
    }
    best = _Best(output, held_back, facts)
    trainer = Trainer(
        prediction.ContinuationTask(predictor, data, batch),
        room,
        steps,
        (minutes or MINUTES) if steps is None else None,
        learning_rate,
        options["seed"],
        save_every=30,
        on_save=best.look,
        facts={"predictor": config, "model": digest, "clips": " ".join(found.names), "batch": batch},
    )
    if options["resume"] and trainer.resume():
        best.read(output)
        click.echo(f"Going on from step {trainer.step}.")
    trainer.run(quiet=not sys.stderr.isatty())

    chosen = load_predictor(output)
    errors = prediction.keypoint_errors(chosen, held_back.to("cpu"))
    _show(errors, preset, config.from_frames)
    click.echo(prediction.verdict(errors))
    click.echo(
        f"These are the {len(held_back)} clips held back, on which the predictor was also chosen (step "
        f"{chosen.facts['step']}); 'livepuppet imagine --score' measures it on clips of your own choice."
    )
    _write(json_path, chosen, {"keypoints": errors}, folder)
    click.echo(
        f"Predictor: {output}. Next: livepuppet imagine --avatar PICTURE --model {weights} --predictor {output} "
        "--output FILE.mp4."
    )


class _Best:
    """Keeps the predictor with the smallest error on the clips held back, as a file: what a kill leaves behind is usable."""

    def __init__(self, path: Path, data, facts: dict):
        self.path, self.data, self.facts = path, data, facts
        self.error = float("inf")

    def read(self, path: Path) -> None:
        """Go on from the one on disk, if it is there."""
        if path.exists():
            self.error = float(load_predictor(path).facts.get("validation", "inf"))

    def look(self, trainer: Trainer) -> None:
        predictor = trainer.task.model
        with trainer.averaged():
            error = float(prediction.keypoint_errors(predictor, self.data)["predicted"].mean())
            if error < self.error:
                self.error = error
                save_predictor(predictor, self.path, validation=error, step=trainer.step, **self.facts)


def _score(folder, device, json_path, model, predictor, pictures, **options):
    weights, network = _weights(model, device)
    continuing = _predictor(predictor, network.preset.name, sha256(weights))
    frames = continuing.config.frames
    from livepuppet.train.data.reading import list_clips, part_of

    cache = prediction.beside(predictor) / "scored.npz"
    found = find_sequences(
        network, sha256(weights), folder, cache, "test", _batch(network.preset), say=_complain
    )
    found, short = prediction.long_enough(found, frames)
    click.echo(f"{len(found)} clips; {len(short)} shorter than {frames} frames left out.")
    result = {"keypoints": prediction.keypoint_errors(continuing, found)}
    _show(result["keypoints"], network.preset, continuing.config.from_frames)
    click.echo(prediction.verdict(result["keypoints"]))
    if pictures:
        clips, _ = list_clips(part_of(folder, "test"))
        clips = [clip for clip in clips if clip.name in found.names]
        clips = [clips[k] for k in sorted({*np.linspace(0, len(clips) - 1, pictures).round().astype(int)})]
        drawn = prediction.picture_errors(network, continuing, clips, _batch(network.preset))
        shown = prediction.horizons(frames - continuing.config.from_frames)
        click.echo(prediction.short_table(drawn, shown, 255.0, f"pictures, L1 x 255 ({len(clips)})"))
        better = prediction.where_better(drawn["predicted"], drawn["copying"], ahead=shown)
        click.echo(
            f"Its pictures are nearer to the true ones than a copy of the first is at {better} frames ahead."
            if better
            else "Its pictures are nowhere nearer to the true ones than a copy of the first is."
        )
        result["pictures"] = drawn
    _write(json_path, continuing, result, folder)


def _imagine(avatar, model, predictor, output, frames, rate, avatar_crop, driving_first, engine, **_) -> None:
    # Reading pictures and writing videos is what `animate` does; a command may reach up for it.
    from livepuppet.core.keypoints import Keypoints
    from livepuppet.realtime.avatars import load_avatar
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.outputs.opening import check_file_output

    if output is None:
        raise click.UsageError("--avatar needs --output FILE.mp4 or a folder.")
    if predictor is None:
        raise click.UsageError(f"--avatar needs --predictor PREDICTOR.safetensors; {HOW}.")
    check_file_output(str(output))
    machine = load_engine(engine, model)
    continuing = _predictor(predictor, machine.model_name, _digest(model))
    config = continuing.config
    frames = frames or config.frames
    picture = load_avatar(avatar, machine.size, avatar_crop).picture
    own = machine.detect(picture)
    first = _first_keypoints(machine, own, config.from_frames, driving_first)
    points = torch.from_numpy(np.stack([keypoints.points for keypoints in first])[None])
    matrices = torch.from_numpy(np.stack([keypoints.jacobians for keypoints in first])[None])
    with torch.no_grad():
        points, matrices = (value[0].numpy() for value in continuing(points, matrices, frames))
    if frames > config.frames:
        _complain(
            f"{predictor} was trained on {config.frames} frames: what comes after them is its guess at what it never saw."
        )
    rate = Fraction(rate or float(continuing.facts.get("rate", 25))).limit_denominator(1001)
    features = machine.encode(picture)
    drawn = (machine.render(features, own, Keypoints(*pair)) for pair in zip(points, matrices, strict=True))
    _film(drawn, output, rate)
    movement = np.abs(points - points[:1]).mean((1, 2)).max() * (machine.size - 1) / 2
    click.echo(
        f"Wrote {frames} frames to {output}; the keypoints move by {movement:.1f} pixels of {machine.size} at most, on average."
    )


def _first_keypoints(machine, own, count: int, driving_first: str | None) -> list:
    """The keypoints that the avatar starts from: its own, or with a clip's first movement put onto them."""
    from livepuppet.core.keypoints import Keypoints
    from livepuppet.core.transfer import transfer
    from livepuppet.core.video import open_video
    from livepuppet.realtime.framing.crop import Framing

    if count == 1:
        if driving_first:
            raise click.ClickException(
                "This predictor starts from the picture alone: leave out --driving-first."
            )
        return [own]
    if not driving_first:
        raise click.ClickException(
            f"This predictor starts from {count} frames: give a clip that begins the movement with --driving-first CLIP."
        )
    clip, framing, driven = open_video(driving_first), Framing("full"), []
    try:
        for frame in clip:
            driven.append(machine.detect(framing.cut(frame.image, machine.size)))
            if len(driven) == count:
                break
    finally:
        clip.close()
    if len(driven) < count:
        raise click.ClickException(
            f"{driving_first} has fewer than the {count} frames needed: give a longer clip."
        )
    if getattr(machine, "matrices", "jacobian") == "covariance":
        return [Keypoints(own.points + k.points - driven[0].points, own.jacobians) for k in driven]
    return [transfer(keypoints, driven[0], own, matrices=machine.matrices) for keypoints in driven]


def _film(pictures: Iterator[np.ndarray], output: Path, rate: Fraction) -> None:
    from livepuppet.realtime.outputs.folder import PictureFolder
    from livepuppet.realtime.outputs.opening import is_video_name
    from livepuppet.realtime.outputs.video import VideoFile

    sink = None
    try:
        for number, picture in enumerate(pictures):
            if sink is None:
                sink = (
                    VideoFile(output, picture.shape[1], picture.shape[0], rate)
                    if is_video_name(str(output))
                    else PictureFolder(output)
                )
            sink.write(picture, number / rate, 1 / rate)
    finally:
        if sink is not None:
            sink.close()


def _weights(model: Path | None, device: str):
    """The weights' file and the network, in evaluation mode."""
    if model is None:
        from livepuppet.realtime.bundled import MODEL

        model = MODEL / f"{MODEL.name}.safetensors"
    if model.is_dir():
        raise click.ClickException(
            f"{model} is a bundle, which cannot be run on a whole folder of clips at once: give the weights "
            "(.safetensors) that it was exported from."
        )
    return model, checkpoint.load(model).to(device).eval()


def _digest(model: Path | None) -> str | None:
    """SHA-256 of the weights that are behind a bundle or in a file; None where a bundle does not tell."""
    from livepuppet.realtime.bundled import MODEL
    from livepuppet.realtime.engines import read_bundle

    model = MODEL if model is None else model
    return read_bundle(model).get("weights_sha256") if model.is_dir() else sha256(model)


def _predictor(path: Path | None, model_name: str, digest: str | None) -> MotionPredictor:
    if path is None:
        raise click.UsageError(f"Give --predictor PREDICTOR.safetensors; {HOW}.")
    predictor = load_predictor(path)
    theirs = predictor.facts.get("model_sha256")
    if predictor.facts.get("model") != model_name or (digest and theirs and digest != theirs):
        raise click.ClickException(
            f"{path} continues the keypoints of another model ({predictor.facts.get('model')}, weights "
            f"{(theirs or 'unknown')[:12]}; this is {model_name}, {(digest or 'unknown')[:12]}), and every training finds "
            f"keypoints of its own: give that model with --model, or {HOW}."
        )
    return predictor


def _batch(preset) -> int:
    """Frames at a time: as many as keep a processor busy without filling the memory."""
    return max(1, 32 * 64 * 64 // preset.size**2)


def _show(errors: dict[str, np.ndarray], preset, given: int) -> None:
    points = {name: values for name, values in errors.items() if "matrices" not in name}
    click.echo(prediction.table(points, (preset.size - 1) / 2, f"keypoints, px of {preset.size}"))
    if given == 1:
        click.echo("(Constant velocity is shown the second frame, too.)")
    matrices = {name: values for name, values in errors.items() if name not in points}
    if matrices:
        renamed = {"predicted": matrices["matrices"], "held": matrices["matrices held"]}
        click.echo(prediction.table(renamed, 1.0, preset.matrices))


def _write(path: Path | None, predictor: MotionPredictor, results: dict, folder: Path) -> None:
    if path is None:
        return
    predicted = predictor.config.frames - predictor.config.from_frames
    facts = {
        "data": folder.name,
        "predictor": {name: value for name, value in predictor.facts.items() if name != "command"},
        "frames_ahead": {
            "keypoints": list(range(1, predicted + 1)),
            "pictures": prediction.horizons(predicted),
        },
        "units": {
            "keypoints": "mean absolute error, [-1, 1]",
            "pictures": "mean absolute error, [0, 1]",
        },
    }
    for name, errors in results.items():
        facts[name] = {row: [round(float(value), 6) for value in values] for row, values in errors.items()}
    path.write_text(json.dumps(facts, indent=1) + "\n")


def _complain(text: str) -> None:
    click.echo(text, err=True)
