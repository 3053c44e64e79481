"""`livepuppet evaluate`."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import click

from livepuppet.model import checkpoint
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.commands.failing import as_click_error


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--identities", default=12, show_default=True, help="Puppets per factor.")
@click.option("--seed", default=77, show_default=True, help="Of the puppets; never one of training.")
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a picture sheet (PNG).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def evaluate(weights, identities, seed, sheet, json_path):
    """Measure what a model transfers, on puppets it never saw.

    For each factor of motion: the response (1 is the true change, 0 nothing) when the puppet is driven by its own
    motion and by another puppet's, that of the bare warp, and the mean absolute error against copying the avatar.
    Then what comes back when nothing moves, and the detector's error at each landmark.
    """
    from livepuppet.train.lite.detector import detector_error, draw_test
    from livepuppet.train.lite.responses import draw_probes, identity_error, responses
    from livepuppet.train.sheets import probe_sheet, write

    try:
        model = checkpoint.load(weights)
    except checkpoint.CheckpointError as error:
        raise as_click_error(error) from error
    probes = draw_probes(identities, seed, model.preset.size)
    table = responses(model, probes)
    error, sharpness = identity_error(model, probes)
    click.echo(f"{'factor':8} {'self':>7} {'cross':>7} {'warp':>7} {'L1':>8} {'copy':>8}")
    for factor, row in table.items():
        warp = f"{row['warp']:7.2f}" if "warp" in row else "      -"
        click.echo(
            f"{factor:8} {row['self']:7.2f} {row['cross']:7.2f} {warp} {row['l1']:8.4f} {row['copy']:8.4f}"
        )
    click.echo(f"no motion in: {error:.2f} levels off on average, {sharpness:.2f} of the avatar's sharpness")
    landmarks = {}
    if model.preset.keypoint_names == LANDMARKS:
        landmarks = detector_error(model, *draw_test(8 * identities, seed + 1, model.preset.size))
        click.echo(
            "landmark error in pixels: "
            + ", ".join(f"{k.removesuffix(' px')} {v:.1f}" for k, v in landmarks.items() if "px" in k)
        )
    if sheet:
        write(sheet, probe_sheet(model, probes))
    if json_path:
        facts = {
            "weights": checkpoint.sha256(weights),
            "seed": seed,
            "identities": identities,
            "machine": platform.processor() or platform.machine(),
            "responses": table,
            "landmarks": landmarks,
            "identity": {"levels": error, "sharpness": sharpness},
        }
        json_path.write_text(json.dumps(facts, indent=1) + "\n")
