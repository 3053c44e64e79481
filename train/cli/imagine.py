"""`livepuppet imagine`: one image, no driving video, and a model that has learned how its kind of
thing moves.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import numpy as np
import torch

from livepuppet.train.cli.errors import click_error
from livepuppet.train.cli.options import device_option, show_log, threads_option
from livepuppet.train.loop.trainer import TrainingError
from livepuppet.train.metrics import continuation
from livepuppet.train.recipes import imagine as recipe
from livepuppet.train.recipes.imagine import HINT, LearnConfig, Scores


@click.command(short_help="Let an image move by itself, as clips have taught it.")
@click.option("--avatar", type=click.Path(path_type=Path), help="The image to move, of any format.")
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
    default="auto",
    show_default=True,
    metavar="auto|face|center|X,Y,SIDE",
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
@click.option("--batch", default=LearnConfig.batch, show_default=True, type=click.IntRange(min=1))
@click.option("--learning-rate", default=LearnConfig.learning_rate, show_default=True, type=float)
@click.option(
    "--hidden",
    default=LearnConfig.hidden,
    show_default=True,
    type=click.IntRange(min=1),
    help="Units, learning.",
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
    help="Learn how Jacobians or covariances continue, too; without, they stay as in the first frame (as published).",
)
@click.option(
    "--offsets",
    is_flag=True,
    help="Learn offsets from the first frame instead of positions: for few clips, or small movements.",
)
@click.option("--resume", is_flag=True, help="Go on learning where a stopped --learn left off.")
@click.option("--seed", default=0, show_default=True, help="Of learning; videos need none.")
@click.option(
    "--score", type=click.Path(path_type=Path), metavar="FOLDER", help="Metric a predictor on a folder."
)
@click.option(
    "--images",
    "--pictures",
    "images",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    help="Clips to score images on; 0 for keypoints only.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@device_option
@threads_option
def imagine(avatar, learn, score, device, threads, json_path, **options):
    """Let an image move by itself: image-to-video as in Monkey-Net.

    \b
    livepuppet imagine --learn CLIPS --model WEIGHTS --output P.safetensors
    livepuppet imagine --score CLIPS --model WEIGHTS --predictor P.safetensors
    livepuppet imagine --avatar IMAGE --model WEIGHTS --predictor P.safetensors --output FILE.mp4

    A recurrent network learns from clips how keypoints continue after the first frame; --avatar
    then continues those of an image. The same image always gives the same video: the network
    predicts the median of what it has seen, and stands still where the first frame does not show
    what comes. --learn and --score tell whether it is any better than that.
    """
    if sum(mode is not None for mode in (avatar, learn, score)) != 1:
        raise click.UsageError("Give one of --avatar IMAGE, --learn FOLDER and --score FOLDER.")
    if threads:
        torch.set_num_threads(threads)
    show_log()
    try:
        if learn is not None:
            _learn(learn, device, json_path, **options)
        elif score is not None:
            _score(score, device, json_path, **options)
        else:
            _imagine(avatar, **options)
    except (TrainingError, ValueError) as error:
        raise click_error(error) from error
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or options['output']} cannot be read or written ({error.strerror or error}): check the "
            "path and the space left."
        ) from error


def _learn(folder, device, json_path, output, frames, **options) -> None:
    if output is None:
        raise click.UsageError("--learn needs --output PREDICTOR.safetensors.")
    names = LearnConfig.__dataclass_fields__.keys() & options.keys()
    scores = recipe.learn(
        LearnConfig(
            folder,
            output,
            frames=frames or LearnConfig.frames,
            device=device,
            command=" ".join(["livepuppet", *sys.argv[1:]]),
            **{name: options[name] for name in names},
        )
    )
    _show(scores)
    click.echo(
        f"These are the {scores.clips} clips held back, on which the predictor was also chosen (step "
        f"{scores.predictor.metadata['step']}); 'livepuppet imagine --score' measures it on clips of your own choice."
    )
    _write(json_path, scores, folder)
    model = f" --model {options['model']}" if options["model"] else ""
    click.echo(
        f"Predictor: {output}. Next: livepuppet imagine --avatar IMAGE{model} --predictor {output} "
        "--output FILE.mp4."
    )


def _score(folder, device, json_path, model, predictor, images, **_) -> None:
    scores = recipe.score(folder, _given(predictor), model, images, device)
    _show(scores)
    if scores.images is not None:
        config = scores.predictor.config
        shown = continuation.horizons(config.frames - config.from_frames)
        heading = f"images, L1 x 255 ({scores.image_clips})"
        click.echo(continuation.short_table(scores.images, shown, 255.0, heading))
        better = continuation.where_better(scores.images["predicted"], scores.images["copying"], ahead=shown)
        click.echo(
            f"Its images are nearer to the true ones than a copy of the first is at {better} frames ahead."
            if better
            else "Its images are nowhere nearer to the true ones than a copy of the first is."
        )
    _write(json_path, scores, folder)


def _imagine(avatar, model, predictor, output, frames, rate, avatar_crop, driving_first, engine, **_) -> None:
    if output is None:
        raise click.UsageError("--avatar needs --output FILE.mp4 or a folder.")
    if predictor is None:
        raise click.UsageError(f"--avatar needs --predictor PREDICTOR.safetensors; {HINT}.")
    count, movement = recipe.imagine(
        avatar, predictor, output, model, frames, rate, avatar_crop, driving_first, engine
    )
    click.echo(
        f"Wrote {count} frames to {output}; the keypoints move by {movement:.1f} pixels at most, on average."
    )


def _given(predictor: Path | None) -> Path:
    if predictor is None:
        raise click.UsageError(f"Give --predictor PREDICTOR.safetensors; {HINT}.")
    return predictor


def _show(scores: Scores) -> None:
    preset, errors = scores.preset, scores.keypoints
    points = {name: values for name, values in errors.items() if "matrices" not in name}
    click.echo(continuation.table(points, (preset.size - 1) / 2, f"keypoints, px of {preset.size}"))
    if scores.predictor.config.from_frames == 1:
        click.echo("(Constant velocity is shown the second frame, too.)")
    matrices = {name: values for name, values in errors.items() if name not in points}
    if matrices:
        renamed = {"predicted": matrices["matrices"], "held": matrices["matrices held"]}
        click.echo(continuation.table(renamed, 1.0, preset.matrices))
    click.echo(continuation.verdict(errors))


def _write(path: Path | None, scores: Scores, folder: Path) -> None:
    if path is None:
        return
    predictor = scores.predictor
    predicted = predictor.config.frames - predictor.config.from_frames
    report: dict[str, object] = {
        "data": folder.name,
        "predictor": {name: value for name, value in predictor.metadata.items() if name != "command"},
        "frames_ahead": {
            "keypoints": list(range(1, predicted + 1)),
            "images": continuation.horizons(predicted),
        },
        "units": {
            "keypoints": "mean absolute error, [-1, 1]",
            "images": "mean absolute error, [0, 1]",
        },
    }
    results: dict[str, dict[str, np.ndarray]] = {"keypoints": scores.keypoints}
    if scores.images is not None:
        results["images"] = scores.images
    for name, errors in results.items():
        report[name] = {row: [round(float(value), 6) for value in values] for row, values in errors.items()}
    path.write_text(json.dumps(report, indent=1) + "\n")
