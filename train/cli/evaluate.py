"""`livepuppet evaluate`."""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path

import click
from av.error import FFmpegError

from livepuppet.core.files import sha256
from livepuppet.model import checkpoint
from livepuppet.train.cli.errors import click_error
from livepuppet.train.cli.evaluate_faces import on_avatars, on_faces, score
from livepuppet.train.cli.evaluate_puppets import on_pipeline, on_puppets, on_reading, on_starts
from livepuppet.train.cli.options import device_option, threads_option
from livepuppet.train.loop.errors import TrainingError
from livepuppet.train.loop.precision import choose_device


@click.command()
@click.argument("files", metavar="WEIGHTS", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), help="A folder of clips (its test/ where it has one)."
)
@click.option(
    "--mode",
    type=click.Choice(["reconstruction", "animation"]),
    default="reconstruction",
    show_default=True,
    help="With --data: each clip from its own first frame, or a frame of one clip moved by another.",
)
@click.option(
    "--pairs", type=click.Path(path_type=Path), help="CSV with the columns source,driving: clips' names."
)
@click.option("--count", default=50, show_default=True, help="Random pairs, without --pairs.")
@click.option(
    "--absolute", is_flag=True, help="Animation with the driver's own keypoints (the papers do, on mgif)."
)
@click.option(
    "--landmarks",
    help="For AKD and MKR: 'shapes' (one coloured thing on black), 'lite' (faces), FILE.onnx or MODULE:FUNCTION.",
)
@click.option("--embedding", help="For AED: an identity's embedding, FILE.onnx or MODULE:FUNCTION.")
@click.option("--inception", help="For FID: activations, FILE.onnx or MODULE:FUNCTION.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many clips, spread over the set.")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="One frame of so many."
)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Frames at a time.")
@threads_option
@device_option
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="plain|rich|foreign|people|people-drawn",
    help="Renderer setting of the puppets, or people (docs/training/people.md); several may be given.  [default: rich and foreign]",
)
@click.option(
    "--faces", type=click.Path(path_type=Path), help="A folder of clips of one face each, framed square."
)
@click.option(
    "--avatars",
    type=click.Path(path_type=Path),
    help="A folder of images: what comes back when nothing moves; with --faces, what the clips move.",
)
@click.option(
    "--videos",
    type=click.Path(path_type=Path),
    help="With --faces and --avatars: a folder for one video per clip, driver and avatars side by side.",
)
@click.option(
    "--score", "scored", is_flag=True, help="Only the one number by which training chooses (with --faces)."
)
@click.option("--identities", default=12, show_default=True, help="Puppets per factor, without --data.")
@click.option(
    "--seed", default=77, show_default=True, help="Of puppets and random pairs; never one of training."
)
@click.option(
    "--pipeline",
    is_flag=True,
    help="What a person sees: everything between frame and picture (close-ups, rig, layers), not the networks alone.",
)
@click.option(
    "--reading",
    is_flag=True,
    help="What is read of people who perform before a webcam: turns and amounts against exact truth, and trembling.",
)
@click.option(
    "--starts",
    is_flag=True,
    help="Of clips of people that begin at a bad moment: how near `animate` comes to a neutral start.",
)
@click.option("--sheet", type=click.Path(path_type=Path), help="Write an image sheet (PNG).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option(
    "--table", is_flag=True, help="Print a Markdown table of JSON files, given in place of weights."
)
def evaluate(
    files,
    data,
    identities,
    seed,
    settings,
    faces,
    avatars,
    videos,
    scored,
    pipeline,
    reading,
    starts,
    sheet,
    json_path,
    table,
    threads,
    device,
    **options,
):
    """Metric a model: on puppets it never saw, on clips of real faces, or by the papers' figures on
    a folder of clips.

    Without a folder, for each factor of motion: the response (1 is the true change, 0 nothing) when
    the puppet is driven by its own motion and by another puppet's, that of the bare warp, and that
    of the avatar under the true flow, which is the ceiling of any warp; mean absolute errors; how
    far the detected keypoints go (1 is as far as the true ones); how far the model's motion is off
    at the landmarks. Then what comes back when nothing moves, and the detector's error at each
    landmark.

    With --pipeline, the same of the pictures that `animate` would hand over, driven by another: the
    responses and errors, and of people the errors round the head's true outline and where the
    background does not move.

    With --reading, of people: what the live path reads of a driver who performs before a webcam, with its
    smoothing on, against exact truth: response, correlation, what is read where nothing moves, and trembling.

    With --starts, of people: clips that begin with an open mouth, shut eyes, a head turned by 30 degrees, or in blur, and how far
    the responses of `animate` are off those after a neutral start.

    With --faces: each frame from its clip's first beside the bare warp and a copy, keypoints'
    motion and the dense motion against optical flow, opened mouths, tracking_metrics, and
    confidence, also where there is no face. With --avatars too, --sheet and --videos show what the
    clips make of the images. With --avatars alone: what comes back when nothing moves.

    With --data, as FOMM's and Monkey-Net's papers do: L1 of reconstruction (images in [0, 1])
    beside that of copying the source and of the bare warp; AKD and MKR, AED, FID where you supply
    what they need (train/metrics/external.py says which inputs and outputs). --mode animation has
    no truth: what is measured is FID, the distance of the result's identity from the source's, and
    on coloured things whether they moved as they should.
    """
    import torch

    if table:
        from livepuppet.train.metrics.tables import TableError
        from livepuppet.train.metrics.tables import table as as_table

        try:
            click.echo(as_table(files))
        except TableError as error:
            raise click_error(error) from error
        return
    if len(files) > 1:
        raise click.UsageError("Give one file of weights (several files go with --table).")
    weights = files[0]
    if videos and not (faces and avatars):
        raise click.UsageError("--videos needs --faces and --avatars: clips, and images for them to move.")

    if threads:
        torch.set_num_threads(threads)
    try:
        model = checkpoint.load(weights)
    except checkpoint.CheckpointError as error:
        raise click_error(error) from error
    try:
        place = choose_device(device)
    except TrainingError as error:
        raise click_error(error) from error
    model = model.to(place)
    try:
        if data is not None:
            report = _on_clips(model, data, seed, sheet, **options)
        elif pipeline:
            report = on_pipeline(weights, identities, seed, settings, sheet)
        elif reading:
            report = on_reading(weights, identities, seed, settings)
        elif starts:
            report = on_starts(weights, identities, seed, settings)
        elif scored:
            report = {"score": score(model, faces, settings[0] if settings else None)}
        elif faces is not None:
            chosen = options["limit"], options["every"]
            report = {"faces": on_faces(model, faces, avatars, weights, place.type, *chosen, sheet, videos)}
        elif avatars is not None:
            report = {"avatars": on_avatars(model, avatars, sheet)}
        else:
            report = on_puppets(model, identities, seed, settings, sheet)
    except (ValueError, OSError, FFmpegError) as error:
        raise click_error(error) from error
    if json_path:
        report = {
            "weights": sha256(weights),
            "file": weights.name,
            "preset": model.preset.name,
            "trained by": checkpoint.read_metadata(weights),
            "seed": seed,
            "machine": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            **report,
        }
        try:
            json_path.write_text(json.dumps(report, indent=1) + "\n")
        except OSError as error:
            raise click_error(error) from error


def _on_clips(
    model,
    data,
    seed,
    sheet,
    mode,
    pairs,
    count,
    absolute,
    landmarks,
    embedding,
    inception,
    limit,
    every,
    batch,
) -> dict[str, object]:
    from tqdm import tqdm

    from livepuppet.train.data.clips import ClipSet, read_pairs
    from livepuppet.train.metrics import evaluation, external
    from livepuppet.train.metrics.distances import FrechetMetric, IdentityMetric, LandmarkMetric
    from livepuppet.train.metrics.pixels import PixelMetric
    from livepuppet.train.metrics.puppet_clips import PuppetClips
    from livepuppet.train.metrics.shapes import ShapeMetric

    measures: list = [PixelMetric()]
    if landmarks == "shapes":
        measures.append(ShapeMetric())
    elif landmarks:
        measures.append(LandmarkMetric(external.landmark_finder(landmarks)))
    if embedding:
        measures.append(IdentityMetric(external.embedding(embedding)))
    if inception:
        measures.append(FrechetMetric(external.embedding(inception)))
    if data == Path("puppets") and not data.exists():
        clips = PuppetClips(model.preset.size, seed)
    else:
        # Two clips at a time are enough; only training comes back to a clip.
        clips = ClipSet(data, model.preset.size, part="test", memory=100_000_000)
    if mode == "reconstruction":
        numbers = evaluation.spread(len(clips), limit)
        shown = evaluation.reconstructions(model, clips, numbers, every, batch)
    else:
        if pairs:
            named = read_pairs(pairs, clips.names)
            numbers = [(clips.names.index(source), clips.names.index(driving)) for source, driving in named][
                :limit
            ]
        else:
            numbers = evaluation.random_pairs(len(clips), limit or count, seed)
        shown = evaluation.animations(model, clips, numbers, not absolute, every, batch)
    start = time.perf_counter()
    with tqdm(total=len(numbers), unit="clip", disable=not sys.stderr.isatty()) as bar:
        try:
            figures, counts, kept = evaluation.score(shown, measures, 8 if sheet else 0, bar.update)
        finally:
            for sentence in clips.skipped:
                bar.write(f"skipped: {sentence}", file=sys.stderr)
    seconds = time.perf_counter() - start
    if sheet:
        from livepuppet.train.sheets.clips import sheet as draw
        from livepuppet.train.sheets.tiles import write

        write(sheet, draw(kept))
    click.echo(f"{mode}, {counts['clips']} clips, {counts['frames']} frames")
    for name, value in figures.items():
        click.echo(f"{name:26} {value:9.4f}")
    for note in (note for measure in measures for note in getattr(measure, "notes", ())):
        click.echo(note, err=True)
    return {
        "data": data.resolve().name,
        "mode": mode,
        "transfer": None if mode == "reconstruction" else "absolute" if absolute else "relative",
        "landmark detector": _name(landmarks),
        "embedding": _name(embedding),
        "inception": _name(inception),
        **counts,
        "skipped": len(clips.skipped),
        "every": every,
        "seconds": round(seconds, 1),
        "figures": figures,
    }


def _name(given: str | None) -> str | None:
    """What a detector is called in a report: never a path of somebody's machine."""
    return Path(given).name if given else None
