"""`livepuppet prepare`: from raw recordings to clips for training."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from livepuppet.core.square import Square, centred_square, cut, parse_square
from livepuppet.train.cli.errors import click_error
from livepuppet.train.data.prepare import Find, OutputError, Prepared, Rules, counted, prepare
from livepuppet.train.data.reading import VIDEOS, DataError

#: Below this mean confidence of the landmarks the face that was followed is gone: faces have 0.5
#: and more.
FOLLOWED = 0.4


@click.command(name="prepare", short_help="Cut recordings into clips for training, around the face.")
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder that the clips go to.")
@click.option(
    "--crop",
    default="auto",
    show_default=True,
    metavar="auto|full|X,Y,SIDE",
    help="auto: around the face. full: the largest square in the middle, for things without a face. Or a square in pixels.",
)
@click.option(
    "--size",
    type=click.IntRange(32, 1024),
    default=256,
    show_default=True,
    help="Side of the clips in pixels.",
)
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Keep every so many-th frame."
)
@click.option(
    "--shortest",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds that a clip has at least.",
)
@click.option(
    "--longest",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds after which a clip is split.",
)
@click.option(
    "--smallest",
    type=click.FloatRange(min=1),
    help="Side in pixels of the smallest square that is kept. [default: half of --size]",
)
@click.option(
    "--margin",
    type=click.FloatRange(0.5, 3),
    default=1.0,
    show_default=True,
    help="Side of the square as a multiple of the usual.",
)
def prepare_command(recordings, output, crop, **rules):
    """Cut raw recordings (videos, or folders of them) into clips as the papers train on.

    The face is found, and a square around it is held over a clip as long as the face stays in it;
    when it leaves, or the scene cuts, another clip begins. Clips are named RECORDING#001.mp4 and so
    on, so that training with id sampling knows that they show the same person.
    """
    try:
        rules = Rules(**rules)
    except DataError as error:
        raise click_error(error) from error
    found = _recordings(recordings)
    find = face_finder() if crop == "auto" else fixed_finder(crop)
    reports: list[Prepared] = []
    for path, stem in found:
        try:
            report = prepare(path, output, find, rules, _bar(path), stem)  # pyright: ignore[reportArgumentType]
        except DataError as error:
            if isinstance(error, OutputError) or len(found) == 1:
                raise click_error(error) from error
            click.echo(f"skipped: {error}", err=True)
            continue
        reports.append(report)
        click.echo(report.text())
    clips, seconds = sum(len(report.clips) for report in reports), sum(report.kept for report in reports)
    if not clips:
        raise click.ClickException(
            f"No clip was made of {len(found)} recording{'s' * (len(found) > 1)}: the lines above say why; --crop full takes things without a face."
        )
    click.echo(
        f"{counted(clips)}, {seconds:.1f} seconds in {output}. Next: livepuppet train PRESET --data {output} --check-data"
    )


def _recordings(paths) -> list[tuple[Path, str]]:
    """Recordings and the stems of their clips, each its own; folders that hold videos stand for
    these.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        videos = [
            one for one in inside if one.suffix.lower() in VIDEOS | {".gif"} and not one.name.startswith(".")
        ]
        found += videos or [path]
    stems: dict[str, int] = {}
    named = []
    for path in found:
        stem = path.stem.replace("#", "-")
        stems[stem] = stems.get(stem, 0) + 1
        named.append((path, stem if stems[stem] == 1 else f"{stem}-{stems[stem]}"))
    return named


def _bar(path: Path):
    passes = iter(("Looking through", "Cutting"))
    return lambda frames, count: tqdm(
        frames,
        desc=f"{next(passes, 'Reading')} {path.name}",
        total=count,
        unit="frame",
        disable=None,
        leave=False,
    )


def fixed_finder(crop: str) -> Find:
    """The same square in every frame: `full` or `X,Y,SIDE`. Raises UserError, as `livepuppet run`
    does.
    """
    given = None if crop == "full" else parse_square(crop)

    def find(image: np.ndarray, last: Square | None) -> Square:
        height, width = image.shape[:2]
        square = given or centred_square(height, width)
        if min(square.x, square.y) < 0 or square.x + square.side > width or square.y + square.side > height:
            raise DataError(
                f"The crop {crop} does not lie inside the image of {width}x{height} pixels: choose another --crop."
            )
        return square

    return find


def face_finder(engine=None) -> Find:
    """How the live tool finds faces: cascades, confirmed and put right by the default model's
    landmarks.

    Args:
        engine: of `realtime.engines`, the default model's by default.
    """
    from livepuppet.realtime.engines import load_engine
    from livepuppet.realtime.framing.crop import Framing
    from livepuppet.realtime.framing.refine import face_middle, refined_square
    from livepuppet.realtime.framing.seek import confidence

    engine = engine or load_engine()
    names = engine.keypoint_names

    def _followed(image: np.ndarray, square: Square) -> Square | None:
        for _ in range(3):
            keypoints = engine.detect(cut(image, square, engine.size))
            if confidence(keypoints) < FOLLOWED or face_middle(keypoints, names) is None:
                return None
            moved = refined_square(square, keypoints, names)
            if moved != square:
                return moved
            # Beyond its limits. Where to is believed, and looked at again; how large is not: on
            # small, blurred faces the landmarks would shrink the square until they see nothing.
            there = refined_square(square, keypoints, names, limited=False)
            right = (there.x + there.side / 2 - square.x) / square.side - 0.5
            down = (there.y + there.side / 2 - square.y) / square.side - 0.5
            square = square.shifted(right, down)
            if np.hypot(right, down) < 0.05:
                return square
        return None

    def find(image: np.ndarray, last: Square | None) -> Square | None:
        if last is not None:
            # A few milliseconds where a search takes fifty: the landmarks find the head that has
            # moved.
            followed = _followed(image, last)
            if followed is not None:
                return followed
        framing = Framing("auto", looks=1, patience=1, engine=engine)
        framing.look(image)
        return framing.square if framing.faces else None

    return find
