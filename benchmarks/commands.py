"""`livepuppet bench`: the figures of the README."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from livepuppet.benchmarks.machine import describe
from livepuppet.realtime.errors import UserError


@click.group()
def bench():
    """Measure speed on this machine."""


def _report(facts: dict, path: Path | None) -> None:
    if path:
        try:
            path.write_text(json.dumps(facts, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): choose another --json.") from error


@bench.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Bundle or weights; the default model if none.",
)
@click.option(
    "--engine", type=click.Choice(["onnx", "torch"]), multiple=True, help="Engines for the default model."
)
@click.option("--repeats", default=200, show_default=True)
@click.option("--threads", type=click.IntRange(min=1))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def model(model, engine, repeats, threads, json_path):
    """Milliseconds of the three calls and of a whole frame, per engine. Prints a Markdown table."""
    from livepuppet.benchmarks.speed import model_times

    jobs = [(None, path) for path in model] + [
        (name, None) for name in engine or (() if model else ("onnx",))
    ]
    machine = describe()
    click.echo(f"{machine['processor']}, {machine['cores']} cores, onnxruntime {machine['onnxruntime']}\n")
    click.echo("| model | engine | detect ms | encode ms | render ms | frame ms (p95) | frames per second |")
    click.echo("|---|---|---|---|---|---|---|")
    rows = []
    for name, path in jobs:
        row = model_times(name, path, repeats, threads)
        rows.append(row)
        ms = row["ms"]
        click.echo(
            f"| {row['model']} | {row['engine']} ({row['provider']}) | {ms['detect']['median']:.1f} | "
            f"{ms['encode']['median']:.1f} | {ms['render']['median']:.1f} | {ms['frame']['median']:.1f} "
            f"({ms['frame']['p95']:.1f}) | {1000 / ms['frame']['median']:.0f} |"
        )
    _report({"machine": machine, "rows": rows}, json_path)


@bench.command()
@click.option("--frames", default=500, show_default=True, help="Frames to animate.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def live(frames, json_path):
    """The whole live loop at 1280x720 with the bundled clip as camera (25 frames per second) and no output."""
    from livepuppet.benchmarks.speed import live_figures

    with tempfile.TemporaryDirectory() as folder:
        stats = live_figures(frames, Path(folder) / "stats.json")
    machine = describe()
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {stats['model_size']} px, {stats['provider']}"
    )
    click.echo(json.dumps(stats, indent=1))
    _report({"machine": machine, "live": stats}, json_path)
