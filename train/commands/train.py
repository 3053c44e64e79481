"""`livepuppet train`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import torch

from livepuppet.model import checkpoint
from livepuppet.model.presets import PRESETS
from livepuppet.train.commands import on_videos
from livepuppet.train.commands.failing import as_click_error
from livepuppet.train.commands.on_puppets import STAGES, Source, train_on_puppets
from livepuppet.train.commands.runs import Run, say
from livepuppet.train.loop import distributed
from livepuppet.train.loop.precision import PRECISIONS, choose_device, choose_precision
from livepuppet.train.loop.trainer import TrainingError
from livepuppet.train.papers import fomm, monkeynet
from livepuppet.train.papers.recipes import RECIPES
from livepuppet.train.puppets.pool import SETTING

NAMES = sorted({*PRESETS, *RECIPES})

#: The word for puppets that are drawn while training, and the settings that may be trained on; "foreign" is for evaluation.
STREAM, TRAINING_SETTINGS = "stream", ("rich", "plain")
ABLATIONS = sorted({*fomm.ABLATIONS, *monkeynet.ABLATIONS})


@click.command()
@click.argument("preset", type=click.Choice(NAMES), metavar="PRESET")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for checkpoints, sheets and weights.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Your own videos: a folder of clips. Self-supervised."
)
@click.option(
    "--puppets",
    metavar="POOL|stream",
    help="Procedural puppets (lite-256): a pool folder, drawn as needed, or 'stream', drawn on the device while training.",
)
@click.option(
    "--setting",
    type=click.Choice(TRAINING_SETTINGS),
    default=SETTING,
    show_default=True,
    help="Which puppets to train on.",
)
@click.option(
    "--faces",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With --puppets: clips of real faces, by which checkpoints are judged, too; never trained on.",
)
@click.option(
    "--finetune",
    type=click.Path(path_type=Path),
    metavar="RECORDING",
    help="A recording of yourself, to which the default model (lite-256, or --init) is adapted.",
)
@click.option(
    "--keep",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="CLIP",
    help="With --finetune: another person's clip, on which the model may not get worse.",
)
@click.option(
    "--crop",
    default="auto",
    show_default=True,
    metavar="auto|full|X,Y,SIDE",
    help="With --finetune: which square of the recording.",
)
@click.option("--shards", default=64, show_default=True, help="Shards of 64 pictures to draw into the pool.")
@click.option("--compile-renderer", is_flag=True, help="With --puppets stream: compile the renderer first.")
@click.option(
    "--drawers", default=1, show_default=True, help="Processes that draw puppets while training goes on."
)
@click.option(
    "--stage", "stages", multiple=True, type=click.Choice(list(STAGES)), help="Only these stages on puppets."
)
@click.option(
    "--recipe", type=click.Choice(sorted(RECIPES)), help="Schedule and losses of this recipe, on --data."
)
@click.option("--ablation", type=click.Choice(ABLATIONS), help="A row of the papers' ablation tables.")
@click.option("--keypoints", type=click.IntRange(min=1), help="Number of keypoints, if not the preset's.")
@click.option("--no-adversarial", is_flag=True, help="Train without a discriminator, whatever the recipe.")
@click.option("--vgg", type=click.Path(path_type=Path), help="torchvision's file of VGG-19's weights.")
@click.option("--download-vgg", is_flag=True, help="Fetch that file (548 MB) into torch's cache.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Time budget for everything, wall clock."
)
@click.option("--steps", type=click.IntRange(min=1), help="Steps per stage, instead of a time budget.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over --data; a recipe's own by default.")
@click.option("--batch", type=click.IntRange(min=1), help="Pairs per step, all processes together.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate.")
@click.option("--init", type=click.Path(path_type=Path), help="Start from these weights (.safetensors).")
@click.option("--resume", is_flag=True, help="Go on from the checkpoints in --output.")
@click.option("--save-every", default=3.0, show_default=True, help="Minutes between checkpoints and sheets.")
@click.option("--check-data", is_flag=True, help="Say what is wrong with --data, and train nothing.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Of convolutions: auto is bf16 on GPUs that have it, else fp32.",
)
@click.option("--half", is_flag=True, help="Short for --precision bf16.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's event files.")
@click.option(
    "--stop-on-alarm", is_flag=True, help="End when keypoints clump, Jacobians explode and the like."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads; all by default.")
def train(
    preset,
    output,
    data,
    puppets,
    setting,
    faces,
    finetune,
    keep,
    crop,
    shards,
    compile_renderer,
    drawers,
    stages,
    recipe,
    ablation,
    keypoints,
    no_adversarial,
    vgg,
    download_vgg,
    minutes,
    steps,
    epochs,
    batch,
    learning_rate,
    init,
    resume,
    save_every,
    check_data,
    device,
    precision,
    half,
    tensorboard,
    stop_on_alarm,
    seed,
    threads,
):
    """Train a model, on procedural puppets or on your own videos.

    `livepuppet train lite-256 --puppets POOL --output RUN --minutes 120` trains the default from nothing but code:
    first the detector on exact landmarks, then dense motion, then everything that paints. On a GPU give `--puppets stream
    --device cuda --half --minutes 25`. RUN/best.safetensors is the best of all checkpoints. With `--data FOLDER` any
    preset learns from unlabelled videos as in the papers. PRESET is also a recipe's name: `livepuppet train vox-256
    --data FOLDER --output RUN` trains fomm-256 by the published schedule.

    Checkpoints are written whole or not at all; a training that was killed goes on with --resume, and ends in the same
    weights as an undisturbed one when its budget is --steps or --epochs (with --minutes the schedule follows the
    clock).

    Several GPUs: `torchrun --nproc-per-node 4 -m livepuppet train ...` computes the same as one GPU with
    the same --batch. Several machines: the same with torchrun's --nnodes and --rdzv-endpoint on each; --data must be
    the same everywhere, --output is the first machine's.

    With `--finetune RECORDING` the default model adapts to your face and webcam, in --minutes (5) on a laptop's CPU.
    What makes it worse on the rest of the recording or elsewhere is not kept; --output is ready for `livepuppet run --model`.
    """
    if sum(way is not None for way in (data, puppets, finetune)) != 1:
        raise click.UsageError(
            "Give one of --data FOLDER (your videos), --puppets POOL (procedural puppets) and --finetune RECORDING."
        )
    if half:
        if precision not in ("auto", "bf16"):
            raise click.UsageError("Give either --half or --precision.")
        precision = "bf16"
    if faces is not None and puppets is None:
        raise click.UsageError("--faces judges a training on --puppets.")
    if puppets is not None and preset != "lite-256":
        raise click.UsageError(
            f"--puppets trains lite-256, whose keypoints are landmarks; {preset} takes --data."
        )
    if threads:
        torch.set_num_threads(threads)
    if finetune is not None:
        if epochs is not None or (minutes is not None and steps is not None):
            raise click.UsageError("With --finetune give --minutes or --steps.")
        run = Run(
            output,
            torch.device("cpu"),
            choose_precision("fp32", torch.device("cpu")),
            minutes,
            steps,
            None,
            batch,
            learning_rate,
            seed,
            resume,
            60 * save_every,
            tensorboard,
        )
        _finetune(preset, finetune, run, init, keep, crop)
        return
    try:
        planned = on_videos.plan(preset, recipe, ablation, keypoints, not no_adversarial)
    except ValueError as error:
        raise as_click_error(error) from error
    if check_data:
        _check_data(data, planned.preset.size, output)
        return
    given = [budget for budget in (minutes, steps, epochs) if budget is not None]
    if len(given) > 1 or (not given and (planned.recipe is None or puppets is not None)):
        raise click.UsageError("Give either --minutes or --steps, or --epochs with --data.")
    if puppets is not None and epochs is not None:
        raise click.UsageError("--epochs counts passes over --data; on puppets give --minutes or --steps.")

    source = None
    if puppets is not None:
        folder = None if puppets == STREAM else Path(puppets)
        source = Source(folder, setting, shards, drawers, compile_renderer)
    torch.manual_seed(seed)
    try:
        with distributed.joined(choose_device(device)) as place:
            run = Run(
                output,
                place,
                choose_precision(precision, place),
                minutes,
                steps,
                epochs,
                batch,
                learning_rate,
                seed,
                resume,
                60 * save_every,
                tensorboard,
                stop_on_alarm,
            )
            try:
                _train(preset, planned, run, data, source, stages, faces, init, vgg, download_vgg)
            except TrainingError:
                # What all processes find out together is said once.
                if distributed.rank():
                    sys.exit(2)
                raise
    except (TrainingError, ValueError, OSError) as error:
        raise as_click_error(error) from error


def _train(preset, planned, run, data, source, stages, faces, init, vgg, download_vgg) -> None:
    problem, model, prepared = None, None, None
    try:
        model = on_videos.network(planned, init)
        if distributed.rank() == 0:
            run.output.mkdir(parents=True, exist_ok=True)
        model.to(run.device, memory_format=torch.channels_last)
        say(f"{planned.preset.name} on {run.precision}.")
        if data is not None:
            prepared = on_videos.prepare(model, planned, data, run, vgg, download_vgg, fresh=init is None)
    except (ValueError, OSError) as error:
        problem = as_click_error(error).message
    distributed.all_ready(problem)
    if prepared is not None:
        on_videos.train_on_videos(prepared, run)
    else:
        train_on_puppets(model, source, run, stages or tuple(STAGES), faces)
    if distributed.rank():
        return
    path = run.output / f"{preset}.safetensors"
    checkpoint.save(
        model,
        path,
        command=" ".join(["livepuppet", *sys.argv[1:]]),
        **run.facts(),
    )
    say(f"Weights: {path}. Next: livepuppet evaluate {path}; livepuppet export {path} --output BUNDLE.")


def _finetune(preset: str, recording: Path, run: Run, init, keep, crop) -> None:
    from livepuppet.core.errors import UserError
    from livepuppet.export.graphs import ExportError
    from livepuppet.train.commands.finetuning import finetune

    if preset != "lite-256":
        raise click.UsageError(f"--finetune adapts lite-256; {preset} takes --data.")
    torch.manual_seed(run.seed)
    try:
        finetune(recording, run, init, keep, crop, " ".join(["livepuppet", *sys.argv[1:]]))
    except (TrainingError, UserError, ExportError, ValueError, OSError) as error:
        raise as_click_error(error) from error


def _check_data(data: Path | None, size: int, output: Path) -> None:
    from livepuppet.train.data.check import check_folder

    if data is None:
        raise click.UsageError("--check-data looks at --data FOLDER.")
    try:
        click.echo(check_folder(data, size, output).text())
    except ValueError as error:
        raise as_click_error(error) from error
