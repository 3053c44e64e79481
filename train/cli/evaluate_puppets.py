"""`livepuppet evaluate WEIGHTS` without a folder: what a model transfers on puppets it never saw,
where truth is known.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import click

#: What is quoted: the setting that is trained on, with identities never seen, and one that is never
#: trained on.
QUOTED = ("rich", "foreign")

#: Columns of the table: heading, name in the JSON, format.
COLUMNS = (
    ("self", "self", "7.2f"),
    ("cross", "cross", "7.2f"),
    ("warp", "warp", "7.2f"),
    ("ceiling", "true flow", "8.2f"),
    ("L1", "l1", "8.4f"),
    ("copy", "copy", "8.4f"),
    ("ceil L1", "true flow l1", "8.4f"),
    ("kp slope", "keypoint slope", "9.2f"),
    ("flow px", "cross flow px", "8.2f"),
    ("still px", "still px", "9.2f"),
)


def on_puppets(model, identities: int, seed: int, settings: tuple[str, ...], sheet: Path | None) -> dict:
    """Metric, print and return the figures of each renderer setting."""
    from livepuppet.train.puppets.identities import PEOPLE, SETTINGS
    from livepuppet.train.puppets.pool import keep_freed_memory

    settings = settings or QUOTED
    known = SETTINGS + PEOPLE
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise click.UsageError(f"There is no setting {unknown[0]}; use {', '.join(known)}.")
    keep_freed_memory()
    found = {}
    for setting in settings:
        place = sheet
        if sheet and len(settings) > 1:
            place = sheet.with_stem(f"{sheet.stem}-{setting}")
        found[setting] = _in_setting(model, identities, seed, setting, place)
    return {"identities": identities, "settings": found}


#: Columns of the pipeline's table.
PIPELINE_COLUMNS = (
    ("response", "cross", "9.2f"),
    ("L1", "l1", "8.4f"),
    ("copy", "copy", "8.4f"),
    ("outline", "outline", "9.4f"),
    ("left alone", "outline copy", "11.4f"),
    ("background", "background", "11.4f"),
)


def on_pipeline(
    weights: Path, identities: int, seed: int, settings: tuple[str, ...], sheet: Path | None
) -> dict:
    """Measure, print and return what `train.metrics.pipeline` says of each setting."""
    from livepuppet.realtime.engines import load_engine
    from livepuppet.train.metrics.pipeline import pipeline_responses, pipeline_sheet
    from livepuppet.train.metrics.responses import CHANGES, FREE, draw_probes, grouped
    from livepuppet.train.puppets.identities import PEOPLE
    from livepuppet.train.sheets.tiles import write

    engine, found = load_engine("torch", weights), {}
    for setting in settings or QUOTED:
        _say_if_shorn(setting)
        draw = draw_probes
        if setting in PEOPLE:
            from livepuppet.train.people.evaluation import draw_people_probes as draw
        probes = draw(identities, seed, engine.size, (*CHANGES, FREE), setting)
        click.echo(f"the pipeline's pictures, {setting}, seed {seed}, {identities} per factor")
        rows: list = []
        table = pipeline_responses(
            probes, engine=engine, shown=lambda *row, rows=rows: rows.append(row) if sheet else None
        )
        _print(table, PIPELINE_COLUMNS)
        groups = grouped(table)
        click.echo("response to another: " + ", ".join(f"{k} {v:.2f}" for k, v in groups.items()))
        found[setting] = {"responses": table, "groups": groups}
        if sheet:
            several = len(settings or QUOTED) > 1
            write(sheet.with_stem(f"{sheet.stem}-{setting}") if several else sheet, pipeline_sheet(rows))
    return {"pipeline": found, "identities": identities}


#: Columns of what is read: heading, name in the JSON, format. Angles are in radians.
READING_COLUMNS = (
    ("response", "response", "9.2f"),
    ("r", "r", "6.2f"),
    ("stray", "stray", "8.3f"),
    ("trembling", "trembling", "10.4f"),
)


def on_reading(weights: Path, identities: int, seed: int, settings: tuple[str, ...]) -> dict:
    """Measure, print and return what `train.metrics.reading` says of each setting of people."""
    from livepuppet.realtime.engines import load_engine
    from livepuppet.train.metrics.reading import reading_figures
    from livepuppet.train.people.evaluation import draw_performances

    engine, found = load_engine("torch", weights), {}
    for setting in _of_people(settings, "--reading"):
        _say_if_shorn(setting)
        performances = draw_performances(identities, seed, engine.size, setting)
        click.echo(f"what is read of a driver, {setting}, seed {seed}, {identities} performances")
        found[setting] = reading_figures(performances, engine)
        _print(found[setting], READING_COLUMNS)
    return {"reading": found, "identities": identities}


def on_starts(weights: Path, identities: int, seed: int, settings: tuple[str, ...]) -> dict:
    """Measure, print and return what `train.metrics.starts` says of each setting of people."""
    from livepuppet.realtime.engines import load_engine
    from livepuppet.train.metrics.starts import COMPARED, LENGTH, WITHIN, start_responses
    from livepuppet.train.people.evaluation import draw_starts

    engine, found = load_engine("torch", weights), {}
    for setting in _of_people(settings, "--starts"):
        _say_if_shorn(setting)
        people = draw_starts(identities, seed, engine.size, LENGTH, setting)
        click.echo(f"clips that begin at a bad moment, {setting}, seed {seed}, {identities} performances")
        rows: dict[str, dict[str, list[dict[str, float]]]] = {}
        for neutral, name, row in start_responses(people, engine):
            rows.setdefault(neutral, {}).setdefault(name, []).append(row)
        for neutral, starts in rows.items():
            begun = starts.pop("neutral")
            off = {
                name: {
                    key: [abs(one[key] - base[key]) for one, base in zip(own, begun, strict=True)]
                    for key in COMPARED
                }
                for name, own in starts.items()
            }
            click.echo(
                f"--neutral {neutral}: mean response (off a neutral start's; clips within {WITHIN} of theirs)"
            )
            click.echo(f"{'start':10}" + "".join(f"{key:>22}" for key in COMPARED))
            usual = {key: fmean(one[key] for one in begun) for key in COMPARED}
            click.echo(f"{'neutral':10}" + "".join(f"{usual[key]:>22.2f}" for key in COMPARED))
            for name, own in starts.items():
                cells = (_beside([one[key] for one in own], usual[key], off[name][key]) for key in COMPARED)
                click.echo(f"{name:10}" + "".join(f"{cell:>22}" for cell in cells))
            found.setdefault(setting, {})[neutral] = {"neutral start": begun, "off": off}
    return {"starts": found, "identities": identities}


def _beside(responses: list[float], usual: float, off: list[float]) -> str:
    """The mean response, by how much it is off `usual`, and how many clips are within `WITHIN` of theirs."""
    from livepuppet.train.metrics.starts import WITHIN

    mean = fmean(responses)
    return f"{mean:.2f} ({mean - usual:+.3f}; {sum(value <= WITHIN for value in off)}/{len(off)})"


def _of_people(settings: tuple[str, ...], option: str) -> tuple[str, ...]:
    from livepuppet.train.puppets.identities import PEOPLE

    settings = settings or ("people",)
    if unknown := [name for name in settings if name not in PEOPLE]:
        raise click.UsageError(
            f"{option} is of people: give --setting {' or '.join(PEOPLE)}, not {unknown[0]}."
        )
    return settings


def _say_if_shorn(setting: str) -> None:
    from livepuppet.train.puppets.identities import PEOPLE

    if setting in PEOPLE:
        from livepuppet.train.people.assets import VARIABLE, assets_folder

        if assets_folder() is None:
            click.echo(
                f"${VARIABLE} is not set: people have neither hair nor brows, and figures are of those."
            )


def _in_setting(model, identities: int, seed: int, setting: str, sheet: Path | None) -> dict:
    from livepuppet.model.lite import LANDMARKS
    from livepuppet.train.metrics.responses import (
        CHANGES,
        FREE,
        at_rest,
        grouped,
        mean_rows,
        responses,
    )
    from livepuppet.train.puppets.identities import PEOPLE
    from livepuppet.train.sheets.probes import probe_sheet
    from livepuppet.train.sheets.tiles import write
    from livepuppet.train.tasks.lite_detector import detector_error

    people = setting in PEOPLE
    if people:
        from livepuppet.train.people.evaluation import draw_people_probes as draw_probes
    else:
        from livepuppet.train.metrics.responses import draw_probes
    _say_if_shorn(setting)
    click.echo(f"{'people' if people else 'puppets'} of seed {seed}, {setting}, {identities} per factor")
    probes = draw_probes(identities, seed, model.preset.size, (*CHANGES, FREE), setting)
    table = responses(model, probes)
    _print(table)
    groups = grouped(table)
    click.echo("response to another puppet: " + ", ".join(f"{k} {v:.2f}" for k, v in groups.items()))
    landmarks = {}
    if model.preset.keypoint_names == LANDMARKS:
        whole = table[FREE]
        if "still px" in whole:
            click.echo(
                f"flow at landmarks, any pose to any other: {whole['cross flow px']:.1f} px off driven by another, "
                f"{whole['flow px']:.1f} by itself, {whole['still px']:.1f} without motion "
                f"(1/{whole['still px'] / max(whole['cross flow px'], 1e-6):.1f})"
            )
        if people:
            landmarks = _landmarks_of_people(model, 4 * identities, seed + 1, setting)
        else:
            landmarks = detector_error(
                model, *test_images(4 * identities, seed + 1, model.preset.size, setting)
            )
        click.echo(
            "landmark error in pixels: "
            + ", ".join(f"{k.removesuffix(' px')} {v:.1f}" for k, v in landmarks.items() if "px" in k)
        )
    bands = {}
    if people:
        bands = _bands(model, probes)
    rest = mean_rows(at_rest(model, probes[0].source))
    click.echo(rest_sentence(rest))
    if sheet:
        write(sheet, probe_sheet(model, probes))
    found = {"responses": table, "groups": groups, "landmarks": landmarks, "identity": rest}
    return found | ({"edges": bands} if people else {})


def _landmarks_of_people(model, count: int, seed: int, setting: str) -> dict[str, float | dict[str, float]]:
    from livepuppet.train.people.evaluation import held_out_pictures, landmark_errors
    from livepuppet.train.tasks.lite_detector import detector_error

    pictures, points, jacobians, seen = held_out_pictures(count, seed, model.preset.size, setting)
    shares = landmark_errors(model, pictures, points, seen)
    click.echo(
        "error at landmarks that can be seen, in eye distances: "
        + ", ".join(f"{name} {value:.3f}" for name, value in shares.items() if "px" not in name)
    )
    whole = detector_error(model, pictures, points, jacobians)
    return whole | {"visible": shares}


def _bands(model, probes) -> dict[str, dict[str, float]]:
    from livepuppet.train.people.evaluation import edges

    found = edges(model, probes)
    for factor, row in found.items():
        click.echo(
            f"{factor:8} within 8 px of the head's outline {row['outline']:.4f} off (left alone {row['outline copy']:.4f}); "
            f"unmoved background {row['background']:.4f}"
        )
    return found


def _print(table: dict[str, dict[str, float]], columns=COLUMNS) -> None:
    def width(form: str) -> int:
        return int(form.split(".")[0])

    longest = max(8, *(len(name) + 1 for name in table))
    click.echo(f"{'factor':{longest}}" + "".join(f"{heading:>{width(form)}}" for heading, _, form in columns))
    for factor, row in table.items():
        cells = [
            f"{row[name]:{form}}" if name in row else "-".rjust(width(form)) for _, name, form in columns
        ]
        click.echo(f"{factor:{longest}}" + "".join(cells))


def rest_sentence(rest: dict[str, float]) -> str:
    """One line about figures of `responses.at_rest`."""
    return (
        f"no motion in: {rest['levels']:.2f} levels off on average, {rest['sharpness']:.2f} of the avatar's sharpness; "
        f"keypoints trembling: {rest['trembling levels']:.2f} levels, {rest['trembling sharpness']:.2f}"
    )


def test_images(count: int, seed: int, size: int, setting: str):
    """Images (B, 3, S, S) of puppets in poses of their own, with exact points and Jacobians, as
    `detector.draw_test`.
    """
    import torch

    from livepuppet.train.puppets.identities import draw_identities, draw_motions, generator
    from livepuppet.train.puppets.renderer import render

    rng = generator(seed)
    identities, motions = draw_identities(count, rng, setting), draw_motions(count, rng)
    drawn = [render(identities[k : k + 1], motions[k : k + 1], size) for k in range(count)]
    return tuple(
        torch.cat([getattr(one, name) for one in drawn]) for name in ("picture", "points", "jacobians")
    )
