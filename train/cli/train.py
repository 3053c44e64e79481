"""`livepuppet train default|videos|finetune|check`."""

from __future__ import annotations

import click

from livepuppet.core.names import local_path
from livepuppet.train.cli.errors import click_error
from livepuppet.train.cli.options import PATH, run_config, run_options, show_log
from livepuppet.train.loop.trainer import TrainingError
from livepuppet.train.recipes import videos as video_recipe
from livepuppet.train.recipes.default_model import STAGES, DefaultModelConfig, train_default
from livepuppet.train.recipes.published import RECIPES
from livepuppet.train.recipes.videos import VideoConfig, train_on_videos
from livepuppet.train.tasks import fomm, monkeynet

#: The word for puppets that are drawn while training, and the settings to train on; "foreign" is
#: for evaluation.
STREAM, TRAINING_SETTINGS = "stream", ("rich", "plain")
ABLATIONS = sorted({*fomm.ABLATIONS, *monkeynet.ABLATIONS})


class _Verbs(click.Group):
    """Says how to spell a command of before there were verbs: `livepuppet train PRESET --data
    FOLDER`.
    """

    def resolve_command(self, ctx: click.Context, args: list[str]):
        name, given = args[0], " ".join(args)
        if name not in self.commands and (name in video_recipe.names() or name.startswith("-")):
            if "--puppets" in given:
                new = "livepuppet train default --puppets POOL"
            elif "--finetune" in given:
                new = "livepuppet train finetune RECORDING"
            elif "--check-data" in given:
                new = "livepuppet train check FOLDER"
            else:
                new = "livepuppet train videos PRESET FOLDER"
            raise click.UsageError(f"That is now spelled '{new} ...': see livepuppet train --help.", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs)
def train():
    """Train a model: the default one on procedural puppets, any on your own videos, the default one
    on your face.

    Checkpoints are written whole or not at all. A training that was killed goes on with --resume,
    and ends in the same weights as an undisturbed one when its budget is --steps or --epochs (with
    --minutes the schedule follows the clock).

    Several GPUs: `torchrun --nproc-per-node 4 -m livepuppet train ...` computes the same as one GPU
    with
    the same --batch. Several machines: the same with torchrun's --nnodes and --rdzv-endpoint on
    each; clips must be the same everywhere, --output is the first machine's.
    """


@train.command()
@run_options()
@click.option(
    "--puppets",
    default=STREAM,
    show_default=True,
    metavar="POOL|stream",
    help="A pool folder, drawn as needed, or 'stream', drawn on the device while training.",
)
@click.option(
    "--setting",
    type=click.Choice(TRAINING_SETTINGS),
    default=DefaultModelConfig.setting,
    show_default=True,
    help="Which puppets to train on.",
)
@click.option(
    "--faces",
    type=PATH,
    metavar="FOLDER",
    help="Clips of real faces, by which checkpoints are chosen, too; never trained on.",
)
@click.option(
    "--shards",
    default=DefaultModelConfig.shards,
    show_default=True,
    help="Shards of 64 images to draw into a pool.",
)
@click.option(
    "--drawers",
    default=DefaultModelConfig.drawers,
    show_default=True,
    help="Processes that draw a pool's shards while training goes on.",
)
@click.option(
    "--people",
    type=PATH,
    metavar="POOL",
    help="A pool of people to mix in; `livepuppet puppets pool` draws it.",
)
@click.option(
    "--people-share",
    default=DefaultModelConfig.people_share,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of examples that show people, with --people.",
)
@click.option("--compile-renderer", is_flag=True, help="With --puppets stream: compile the renderer first.")
@click.option("--stage", "stages", multiple=True, type=click.Choice(list(STAGES)), help="Only these stages.")
def default(
    puppets, setting, faces, shards, drawers, people, people_share, compile_renderer, stages, init, **run
):
    """Train lite-256, the default model, from nothing but procedural puppets.

    `livepuppet train default --output RUN --minutes 120`: first the detector learns exact
    landmarks, then dense motion, then everything that paints. On a GPU give `--device cuda --half
    --minutes 25`; on a CPU `--puppets POOL` draws puppets once and uses them often.
    RUN/best.safetensors is the best of all checkpoints.
    """
    config = DefaultModelConfig(
        pool=None if puppets == STREAM else local_path(puppets, "--puppets"),
        setting=setting,
        shards=shards,
        drawers=drawers,
        compile_renderer=compile_renderer,
        stages=stages or tuple(STAGES),
        faces=faces,
        init=init,
        people=people,
        people_share=people_share,
    )
    show_log()
    try:
        train_default(config, run_config(**run))
    except (TrainingError, ValueError, OSError) as error:
        raise click_error(error) from error


@train.command()
@click.argument("preset", type=click.Choice(video_recipe.names()), metavar="PRESET")
@click.argument("data", type=PATH, metavar="FOLDER")
@run_options()
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over FOLDER; a recipe's own by default.")
@click.option(
    "--recipe", type=click.Choice(sorted(RECIPES)), help="Schedule and losses of this recipe for PRESET."
)
@click.option("--ablation", type=click.Choice(ABLATIONS), help="A row of the papers' ablation tables.")
@click.option("--keypoints", type=click.IntRange(min=1), help="Number of keypoints, if not the preset's.")
@click.option("--no-adversarial", is_flag=True, help="Train without a discriminator, whatever the recipe.")
@click.option("--vgg", type=PATH, help="torchvision's file of VGG-19's weights.")
@click.option("--download-vgg", is_flag=True, help="Fetch that file (548 MB) into torch's cache.")
def videos(preset, data, recipe, ablation, keypoints, no_adversarial, vgg, download_vgg, init, **run):
    """Train PRESET on the clips in FOLDER, unlabelled, as in the papers.

    PRESET is a network (give --minutes, --steps or --epochs) or a recipe's name: `livepuppet train
    videos vox-256 CLIPS --output RUN` trains fomm-256 by the published schedule.
    """
    config = VideoConfig(
        preset, data, recipe, ablation, keypoints, not no_adversarial, init, vgg, download_vgg
    )
    show_log()
    try:
        train_on_videos(config, run_config(**run))
    except (TrainingError, ValueError, OSError) as error:
        raise click_error(error) from error


@train.command()
@click.argument("recording", type=PATH)
@run_options(long=False)
@click.option(
    "--keep",
    multiple=True,
    type=PATH,
    metavar="CLIP",
    help="Another person's clip, on which the model may not get worse.",
)
@click.option(
    "--crop",
    default="auto",
    show_default=True,
    metavar="auto|full|X,Y,SIDE",
    help="Which square of the recording.",
)
def finetune(recording, keep, crop, init, **run):
    """Adapt the default model (or --init) to your face and webcam, by a RECORDING of yourself.

    Takes --minutes (5) on a laptop's CPU. What makes the model worse on the rest of the recording
    or on other faces is rejected; --output is ready for `livepuppet run --model`.
    """
    from livepuppet.core.errors import UserError
    from livepuppet.export.graphs import ExportError
    from livepuppet.train.recipes.finetune import recipe

    config = recipe.FinetuneConfig(recording, init, keep, crop)
    show_log()
    try:
        decisions = recipe.finetune(config, run_config(**run))
    except (TrainingError, UserError, ExportError, ValueError, OSError) as error:
        raise click_error(error) from error
    click.echo("")
    for line in recipe.table(decisions):
        click.echo(line)
    click.echo(f"\n{recipe.next_step(decisions, run['output'])}")


@train.command()
@click.argument("data", type=PATH, metavar="FOLDER")
@click.option(
    "--size", type=click.IntRange(min=32), default=256, show_default=True, help="The network's image size."
)
@click.option("--output", type=PATH, help="Where the training will write, for the space that is left there.")
def check(data, size, output):
    """Report what is wrong with the clips in FOLDER, before hours are spent on them."""
    from livepuppet.train.data.check import check_folder

    try:
        click.echo(check_folder(data, size, output).text())
    except (ValueError, OSError) as error:
        raise click_error(error) from error
