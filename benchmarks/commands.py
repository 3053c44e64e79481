"""`livepuppet bench`: the figures of docs/speed.md."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import cv2

from livepuppet.benchmarks import speed_commands
from livepuppet.benchmarks.machine import describe
from livepuppet.core.errors import UserError
from livepuppet.realtime.app.commands.options import engine_options


@click.group()
def bench():
    """Measure speed on this machine."""


def _engine(model, engine, device, precision, threads):
    """What was chosen by `engine_options`."""
    from livepuppet.realtime.engines import load_engine

    return load_engine(engine, model, threads, device, precision)


def _report(facts: dict, path: Path | None) -> None:
    speed_commands.report(path, facts)


for command in (
    speed_commands.model,
    speed_commands.live,
    speed_commands.startup,
    speed_commands.streams,
    speed_commands.everything_command,
):
    bench.add_command(command)


_SECONDS = click.option("--seconds", default=20.0, show_default=True, help="Length of each run.")
_SIZE = click.option(
    "--size", default="1280x720", show_default=True, metavar="WxH", help="Of camera and output."
)
_JSON = click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON."
)


@bench.command()
@_SECONDS
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.FloatRange(1, 240),
    help="Frames per second of the camera; several runs if given several times. [default: 15 and 30]",
)
@_SIZE
@click.option("--sharp/--no-sharp", default=True, show_default=True, help="As of livepuppet run.")
@engine_options
@click.option(
    "--devices",
    nargs=2,
    metavar="CAMERA OUTPUT",
    help="Two v4l2loopback devices: one is fed as the camera, one read as the virtual camera. [default: a camera and an "
    "output inside this process]",
)
@click.option(
    "--page",
    is_flag=True,
    help="Until the studio's page has drawn it, in Chromium (needs playwright); beside the loop without a studio, with the "
    "live window, with a studio that nobody looks at, and with the panel.",
)
@click.option(
    "--remote",
    is_flag=True,
    help="What it adds to have livepuppet serve render, in another process of this machine, beside JPEG both ways.",
)
@click.option(
    "--browser",
    is_flag=True,
    help="From a browser's camera until livepuppet serve's page has drawn the picture, in Chromium (needs playwright), beside "
    "JPEG both ways.",
)
@click.option(
    "--round-trip",
    type=click.FloatRange(0, 1000),
    help="With --browser: over a wire of so many milliseconds, instead of loopback (Linux, root).",
)
@click.option(
    "--loss", type=click.FloatRange(0, 50), default=0.0, help="Percent of packets that the wire loses."
)
@click.option("--runs", type=click.IntRange(1, 100), default=1, help="With --browser: so many of each way.")
@_JSON
def latency(
    seconds,
    rates,
    size,
    sharp,
    devices,
    page,
    remote,
    browser,
    round_trip,
    loss,
    runs,
    json_path,
    **choice,
):
    """Delay from camera to output, end to end, by a clock in the picture that goes around the
    network.

    Prints a Markdown table, and the number to type into OBS for the sound.
    """
    from livepuppet.benchmarks.latency import through_a_loopback, through_devices

    engine, machine = _engine(**choice), describe()
    if page:
        _page_latency(engine, machine, seconds, rates or (30.0,), size, json_path)
        return
    if browser:
        _browser_latency(engine, machine, seconds, round_trip, loss, runs, json_path)
        return
    if remote:
        _remote_latency(engine, machine, seconds, rates or (30.0,), size, json_path)
        return
    way = f"{devices[0]} to {devices[1]}" if devices else "simulated camera to loopback output"
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {engine.model_name} ({engine.provider}), {size}, {way}\n"
    )
    click.echo(
        "| camera FPS | frames | dropped | delay p50 / p95 / p99 ms | model p50 / p95 ms | camera's JPEG p50 ms | the rest "
        "p50 / p95 / p99 ms | jitter ms | first / last tenth ms |"
    )
    click.echo("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for rate in rates or (15.0, 30.0):
        if devices:
            camera, output = devices
            row = through_devices(engine, camera, output, seconds, rate, size)
        else:
            row = through_a_loopback(engine, seconds, rate, size, sharp)
        rows.append(row)
        click.echo(_latency_row(row))
    known = [row["delay_ms"]["p50"] for row in rows if row["delay_ms"]]
    if not known:
        raise UserError("No picture with a clock arrived: give a longer --seconds.")
    click.echo(
        f"\nFor the sound, in OBS: Advanced Audio Properties, microphone, Sync Offset {round(known[-1] / 10) * 10} ms, plus "
        "what your camera itself takes (a webcam: about 30 to 60 ms, which no program can see)."
    )
    _report({"machine": machine, "rows": rows}, json_path)


def _page_latency(engine, machine, seconds, rates, size, json_path) -> None:
    from livepuppet.benchmarks import page as pages

    rows = []
    for rate in rates:
        click.echo(f"{machine['processor']}, {machine['cores']} cores, camera {size} at {rate:g} FPS\n")
        for text in pages.HEADING:
            click.echo(text)
        for kind in pages.KINDS:
            rows.append(pages.through_a_page(engine, seconds, rate, size, kind))
            click.echo(pages.line(rows[-1]))
    _report({"machine": machine, "rows": rows}, json_path)


def _browser_latency(engine, machine, seconds, round_trip, loss, runs, json_path) -> None:
    from livepuppet.benchmarks import browser, remote

    way = "loopback" if round_trip is None else f"{round_trip:g} ms round trip, {loss:g} % lost"
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {engine.model_name} ({engine.provider}), {way}\n"
    )
    rows = []
    click.echo("\n".join(browser.HEADING))
    for _ in range(runs):
        for row in browser.in_a_browser(seconds, browser.WAYS, round_trip, loss):
            rows.append(row)
            click.echo(browser.line(row))
    if runs > 1:
        click.echo("\n".join(("", *browser.summary(rows))))
    if round_trip is None:
        steps = remote.frame_to_picture(engine, seconds, 30.0, browser.CAMERA)
        click.echo("\n".join(("", *remote.STEP_HEADING, *map(remote.step_line, steps))))
        rows += steps
    _report({"machine": machine, "rows": rows}, json_path)


def _remote_latency(engine, machine, seconds, rates, size, json_path) -> None:
    from livepuppet.benchmarks import remote
    from livepuppet.realtime.app.session import parse_size

    rows = []
    for rate in rates:
        click.echo(
            f"{machine['processor']}, {machine['cores']} cores, {engine.model_name} ({engine.provider}), {size} at {rate:g} FPS\n"
        )
        steps = remote.frame_to_picture(engine, seconds, rate, parse_size(size))
        click.echo("\n".join((*remote.STEP_HEADING, *map(remote.step_line, steps), "")))
        lives = remote.live(engine, seconds, rate, size)
        click.echo("\n".join((*remote.LIVE_HEADING, *map(remote.live_line, lives), "")))
        click.echo(remote.stages_line(lives[-1]))
        again = remote.recoveries(engine, parse_size(size))
        click.echo("\n".join(map(remote.recovery_line, again)))
        rows += steps + lives + again
    _report({"machine": machine, "rows": rows}, json_path)


def _latency_row(row: dict) -> str:
    def spread(key: str, *percents: int) -> str:
        return " / ".join(f"{row[key][f'p{percent}']:.1f}" for percent in percents) if row[key] else "-"

    if not row["frames"]:
        return f"| {row['rate']:g} | 0 | {row['dropped']} | - | - | - | - | - | - |"
    return (
        f"| {row['rate']:g} | {row['frames']} | {row['dropped']} | {spread('delay_ms', 50, 95, 99)} | "
        f"{spread('model_ms', 50, 95)} | {spread('decode_ms', 50)} | {spread('added_ms', 50, 95, 99)} | "
        f"{row['jitter_ms']['interval_deviation']:.1f} | {row['first_ms']:.1f} / {row['last_ms']:.1f} |"
    )


@bench.command("network")
@click.option(
    "--runs", default=20, show_default=True, type=click.IntRange(1), help="Of each way at each loss."
)
@click.option("--seconds", default=6.0, show_default=True, type=click.FloatRange(1), help="Of each run.")
@click.option(
    "--round-trip",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, 1000),
    help="Of the wire, in milliseconds.",
)
@click.option(
    "--loss",
    "losses",
    multiple=True,
    type=click.FloatRange(0, 50),
    help="Percent of packets that it loses; several if given several times. [default: 3 and 5]",
)
@click.option(
    "--way",
    "ways",
    multiple=True,
    help="Several if given several times. [default: all, as the table names them]",
)
@_JSON
def network_command(runs, seconds, round_trip, losses, ways, json_path):
    """How every way to another machine bears a network that loses packets: delay from camera to picture and the longest pause, in
    many runs. Prints a Markdown table.

    Needs Linux, root, /dev/net/tun and, for the ways in a browser, the package playwright.
    """
    from livepuppet.benchmarks import network

    speed_commands.check_json(json_path)
    unknown = set(ways) - set(network.WAYS)
    if unknown:
        raise UserError(f"--way {min(unknown)} is none of: {'; '.join(network.WAYS)}.")
    machine = describe()
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores, {round_trip:g} ms round trip, {seconds:g} s a run\n"
    )
    click.echo("\n".join(network.HEADING))
    rows = []
    for way in ways or network.WAYS:
        for loss in losses or (3.0, 5.0):
            own: list[dict] = []
            for row in network.measure(way, runs, seconds, round_trip, loss):
                own.append(row)
                told = f"{way}, {loss:g} %, run {len(own)}: p95 {row['p95']:.0f} ms, longest pause {row['pause_ms']:.0f} ms"
                click.echo(told, err=True)
            click.echo(network.line(own))
            rows += own
    _report({"machine": machine, "rows": rows}, json_path)


@bench.command("web")
@_SECONDS
@click.option(
    "--runtime",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="onnxruntime-web, as of livepuppet web.",
)
@_JSON
def web_command(seconds, runtime, json_path):
    """Speed and delay of the page of livepuppet web, in Chromium on this machine, beside Python. Prints a Markdown table.

    Needs the package playwright.
    """
    from livepuppet.benchmarks import web

    speed_commands.check_json(json_path)
    machine = describe()
    width, height = web.CAMERA
    click.echo(f"{machine['processor']}, {machine['cores']} cores, camera {width}x{height}\n")
    for text in web.HEADING:
        click.echo(text)
    rows = []
    for row in web.measure(seconds, runtime):
        rows.append(row)
        click.echo(web.line(row))
    _report({"machine": machine, "rows": rows}, json_path)


@bench.command()
@_SIZE
@click.option("--repeats", default=300, show_default=True, type=click.IntRange(min=10))
@engine_options
@_JSON
def host(size, repeats, json_path, **choice):
    """Milliseconds of everything in one live frame that is neither network nor camera. Prints a
    Markdown table.

    The model runs only to make what is gone through; its time is in none of the figures.
    """
    from livepuppet.benchmarks.host import as_json, host_steps, table

    steps, whole = host_steps(_engine(**choice), size, repeats)
    machine = describe()
    click.echo(f"{machine['processor']}, {machine['cores']} cores, OpenCV {machine['opencv-python']}\n")
    for line in table(steps, whole, size):
        click.echo(line)
    _report({"machine": machine, **as_json(steps, whole)}, json_path)


@bench.command("quality")
@click.argument("clips", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--engine", default="onnx", show_default=True, help="As of livepuppet run.")
@click.option(
    "--seconds", default=4.0, show_default=True, type=click.FloatRange(min=0.2), help="Of each clip."
)
@click.option("--side", default=720, show_default=True, type=click.IntRange(64, 2048), help="Of the picture.")
@_JSON
def quality_command(clips, engine, seconds, side, json_path):
    """What int8 and the load control's steps change in what the live path shows, beside float32 with every frame looked at.

    CLIPS show faces; by default the bundled one. Prints a Markdown table.
    """
    from livepuppet.benchmarks import quality

    speed_commands.check_json(json_path)
    rows = quality.measure(clips, engine, seconds, side)
    for text in (*quality.heading(), *map(quality.line, rows)):
        click.echo(text)
    kept = [
        row.as_dict() if isinstance(row, quality.Quality) else dict(zip(("setup", "error"), row, strict=True))
        for row in rows
    ]
    _report({"machine": describe(), "rows": kept}, json_path)


@bench.command()
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(min=0.05))
@click.option("--rate", default=30.0, show_default=True, help="Frames per second of the simulated camera.")
@click.option("--interval", default=60.0, show_default=True, help="Seconds per line.")
@click.option("--output", multiple=True, help="Further outputs, as of livepuppet run.")
@click.option(
    "--guest",
    type=click.FloatRange(min=0.1),
    help="Beside it a process that keeps one core busy, away and there for so many seconds in turn.",
)
@_SIZE
@engine_options
@_JSON
def soak(minutes, rate, interval, output, guest, size, json_path, **choice):
    """Run for long, and see whether memory, delay or losses grow. Prints a line per interval and a
    verdict.
    """
    from livepuppet.benchmarks.soak import soak as run_soak

    click.echo(
        "| minute | memory MB | frames | dropped | delay p50 / p95 ms | threads | files | guest | steps down |"
    )
    click.echo("|---|---|---|---|---|---|---|---|---|")

    def show(sample) -> None:
        click.echo(
            f"| {sample.minute:g} | {sample.memory / 1e6:.1f} | {sample.frames} | {sample.dropped} | "
            f"{sample.p50:.1f} / {sample.p95:.1f} | {sample.threads} | {sample.files} | "
            f"{'there' if sample.beside else '-'} | {sample.reduced} |"
        )

    facts = run_soak(_engine(**choice), minutes, rate, size, output, interval, show, guest)
    machine = describe()
    _report({"machine": machine, **facts}, json_path)
    click.echo(f"\n{machine['processor']}, {machine['cores']} cores")
    click.echo(json.dumps({key: value for key, value in facts.items() if key != "samples"}, indent=1))


@bench.command()
@click.option(
    "--clips",
    type=click.Path(path_type=Path),
    help="A folder of clips of faces, cut as in the papers, beside the bundled one.",
)
@click.option(
    "--strength", default=1.0, show_default=True, type=click.FloatRange(0, 2), help="Of the smoothing."
)
@engine_options
@_JSON
def jitter(clips, strength, json_path, **choice):
    """How much steadier smoothing makes a still face, and how much later a moving one. Prints a
    Markdown table.
    """
    from livepuppet.benchmarks.jitter import jitter_figures, jitter_lines

    facts = jitter_figures(clips, strength, engine=_engine(**choice))
    for line in jitter_lines(facts):
        click.echo(line)
    _report({"machine": describe(), **facts}, json_path)


@bench.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--loss", "losses", multiple=True, help="Only these, by the table's names.")
@click.option("--seeds", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--steps", default=120, show_default=True, type=click.IntRange(min=4))
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
@_JSON
def losses(folder, losses, seeds, steps, batch, threads, json_path):
    """What to train with where VGG's weights are not to be had: small models trained alike but for
    the loss.

    FOLDER holds clips of one bright thing on black, in `train` and `test`. Prints a Markdown table,
    a line as each model is done.
    """
    import torch

    from livepuppet.benchmarks.losses import CANDIDATES, USUAL, as_json, closing_line, compare, heading, line

    if unknown := set(losses) - set(CANDIDATES):
        raise UserError(
            f"There is no loss called {', '.join(sorted(unknown))}: choose among {', '.join(CANDIDATES)}."
        )
    torch.set_num_threads(threads)
    for text in heading():
        click.echo(text)
    rows = []
    try:
        for row in compare(folder, losses or USUAL, seeds, steps, batch):
            rows.append(row)
            click.echo(line(row))
            _report({"machine": describe(), "rows": as_json(rows)}, json_path)
    except ValueError as error:
        raise UserError(str(error)) from error
    click.echo(closing_line(rows))


@bench.command()
@click.option("--preset", "presets", multiple=True, help="Of these shapes. [default: lite-256 and fomm-256]")
@click.option(
    "--engine",
    "engines",
    type=click.Choice(["onnx", "openvino", "torch"]),
    multiple=True,
    help="[default: onnx]",
)
@click.option("--rewrite", "rewrites", multiple=True, help="Only these, by the table's names.")
@click.option("--seconds", default=4.0, show_default=True, help="For each figure of the table.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU. [default: as livepuppet run]")
@_JSON
def savings(presets, engines, rewrites, seconds, threads, json_path):
    """What each exact rewrite of the exported network saves: with it and without it, in turn.
    Prints a Markdown table.
    """
    from livepuppet.benchmarks.savings import EVERYTHING, heading, line
    from livepuppet.benchmarks.savings import savings as measure
    from livepuppet.export.optimise import REWRITES

    speed_commands.check_json(json_path)
    if unknown := set(rewrites) - {EVERYTHING, *REWRITES}:
        raise UserError(
            f"There is no rewrite called {', '.join(sorted(unknown))}: choose among {', '.join([EVERYTHING, *REWRITES])}."
        )
    rows = []
    for text in heading():
        click.echo(text)
    for preset in presets or ("lite-256", "fomm-256"):
        for row in measure(preset, engines or ("onnx",), seconds, threads, only=rewrites):
            rows.append(row.as_dict())
            click.echo(line(row))
            _report({"machine": describe(), "rows": rows}, json_path)
    click.echo()
    for name, (what, kinds) in REWRITES.items():
        click.echo(f"* {name}: {what} ({', '.join(sorted(kinds))})")


@bench.command("rig")
@click.argument("pictures", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--side",
    type=click.IntRange(64, 2048),
    default=720,
    show_default=True,
    help="Longer side of the pictures.",
)
@click.option(
    "--puppets",
    type=click.IntRange(0, 200),
    default=0,
    show_default=True,
    help="Also the response on so many puppets.",
)
@_JSON
@engine_options
def rig_command(pictures, side, puppets, json_path, **choice):
    """What the rig of PICTURES costs, and how sharp the moving face stays; by default of the
    bundled avatar.

    Times are of one core, at best and usually. With --puppets: how much of each head motion is
    shown, given the true pose (1 is right).
    """

    from livepuppet.benchmarks.rig import measure, responses
    from livepuppet.realtime import bundled
    from livepuppet.realtime.avatars import load_avatar

    machine, rows = _engine(**choice), {}
    cv2.setNumThreads(1)
    click.echo(
        f"{'picture':34} {'make s':>7} {'find s':>7} {'head ms':>8} {'+ eyes':>7} {'+ mouth':>8} {'all ms':>7} {'median':>7}"
        f" {'MB':>6} {'sharpness':>10}"
    )
    for path in pictures or (bundled.AVATAR,):
        figures = measure(machine, load_avatar(path, machine.size, "auto"), side)
        rows[path.name] = asdict(figures)
        click.echo(
            f"{path.name:34} {figures.making:7.2f} {figures.contours:7.2f} {figures.head:8.1f} {figures.eyes:7.1f} "
            f"{figures.mouth:8.1f} {figures.all:7.1f} {figures.usual:7.1f} {figures.megabytes:6.1f} {figures.sharpness:10.2f}"
        )
    facts = {"side": side, "avatars": rows}
    if puppets:
        facts["responses"] = responses(puppets)
        click.echo("response, true pose: " + ", ".join(f"{k} {v:.2f}" for k, v in facts["responses"].items()))
    _report(facts, json_path)


@bench.command("service")
@click.option(
    "--people", default=2, show_default=True, type=click.IntRange(2, 64), help="Of the service that is hurt."
)
@click.option(
    "--rate", default=10.0, show_default=True, type=click.FloatRange(0.5, 60), help="Frames a second of each."
)
@click.option(
    "--ray", is_flag=True, help="Lose one of two nodes of a Ray cluster instead of workers; no simulation."
)
@click.option("--cores", default=32, show_default=True, type=click.IntRange(1), help="Of a socket.")
@click.option(
    "--many", default=10_000, show_default=True, type=click.IntRange(1), help="People at once in the evening."
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    metavar="SIZE:MS",
    help="Milliseconds of a card's batch, as bench streams prints them; once for each size.",
)
@click.option("--no-kills", is_flag=True, help="The simulation alone.")
@_JSON
def service_command(people, rate, ray, cores, many, batches, no_kills, json_path):
    """A service of livepuppet service on this machine: workers are killed, stopped and drained while people use them. Then a
    simulation with measured times: people a core, a socket and a card carry, and what many at once need.
    """
    from livepuppet.benchmarks import service
    from livepuppet.realtime.engines import load_engine

    speed_commands.check_json(json_path)
    try:
        curve = {int(size): float(ms) for size, _, ms in (text.partition(":") for text in batches)}
    except ValueError:
        raise UserError("Write batches as SIZE:MS, --batch 8:12.5 for example.") from None
    machine = describe()
    click.echo(f"{machine['processor']}, {machine['cores']} cores\n")
    report: dict = {"machine": machine}
    if ray:
        report["rows"] = [service.lose_a_node(people, rate)]
        click.echo("\n".join((*service.HEADING, *map(service.line, report["rows"]))))
        _report(report, json_path)
        return
    if not no_kills:
        report.update(service.hurt(people, rate), megabytes=service.memory())
        click.echo("\n".join((*service.HEADING, *map(service.line, report["rows"]))))
        click.echo(
            f"\nOne too many hears of it after {report['busy_ms']} ms. A worker's first session takes {report['megabytes']['first']} MB, a "
            f"further one with the same avatar {report['megabytes']['same']}, with an avatar of its own {report['megabytes']['own']}.\n"
        )
    report["simulated"] = []
    for text in service.simulated(load_engine("onnx", threads=1), curve, cores, many):
        report["simulated"].append(text)
        click.echo(text)
    _report(report, json_path)


@bench.command("call")
@click.argument("clips", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--avatar", type=click.Path(path_type=Path), help="The picture that is moved. [default: the bundled one]"
)
@click.option("--side", default=256, show_default=True, help="Of the square that is drawn, in pixels.")
@click.option(
    "--frames", default=125, show_default=True, type=click.IntRange(10), help="Of each clip, at most."
)
@click.option(
    "--live",
    is_flag=True,
    help="Instead, how late a call is whose two ends are processes of this machine; with --round-trip over a wire of TUN devices "
    "(Linux, root).",
)
@click.option("--seconds", default=20.0, show_default=True, help="Of each --live call.")
@click.option(
    "--round-trip",
    type=click.FloatRange(0),
    help="In milliseconds. [default: 20 for rates, loopback for --live]",
)
@click.option(
    "--loss", default=0.0, show_default=True, type=click.FloatRange(0, 50), help="Of the wire, in percent."
)
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1), help="Calls with --live.")
@click.option("--stream", is_flag=True, help="--live without datagrams, over the TLS connection alone.")
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw rates and qualities there."
)
@engine_options
@_JSON
def call(
    clips, avatar, side, frames, live, seconds, round_trip, loss, runs, stream, plot, json_path, **choice
):
    """What livepuppet send needs for clips of faces, and H.264 for pictures as good, beside the drawn pictures and beside the real ones."""
    from livepuppet.realtime import bundled

    speed_commands.check_json(json_path)
    machine = describe()
    click.echo(f"{machine['processor']}, {machine['cores']} cores\n")
    if live:
        from livepuppet.benchmarks import call_live

        rows = []
        click.echo("\n".join(call_live.HEADING))
        for _ in range(runs):
            rows.append(
                call_live.measure(seconds, "640x480", round_trip, loss, "connection" if stream else "")
            )
            click.echo(call_live.line(rows[-1]))
        _report({"machine": machine, "rows": rows}, json_path)
        return
    from livepuppet.benchmarks import call_rates, plots

    plots.check(plot)
    engine, delay = _engine(**choice), (20.0 if round_trip is None else round_trip) / 1000
    drawn, faces = [], []
    click.echo("\n".join(call_rates.HEADING))
    for clip in clips or (bundled.DRIVING,):
        drawn.append(call_rates.measure(engine, clip, avatar or bundled.AVATAR, side, frames, delay))
        click.echo(call_rates.line(drawn[-1]))
        faces.append(call_rates.measure_face(engine, clip, frames, delay))
    panels = []
    for title, rows in (("beside what unpacked numbers draw", drawn), ("beside the real face", faces)):
        of_call, of_video = call_rates.mean_points(rows)
        lines = call_rates.mean_lines(of_call, of_video)
        click.echo("\n".join(("", f"Means, {title}:", "", *call_rates.MEAN_HEADING, *lines)))
        panels.append((title, call_rates.as_dict(of_call), [call_rates.as_dict(one) for one in of_video]))
    if plot is not None:
        plots.save(plots.call_figure(panels, f"{machine['processor']}, {len(drawn)} clips"), plot)
    facts = [{"title": title, "call": one, "video": video} for title, one, video in panels]
    _report({"machine": machine, "panels": facts}, json_path)


@bench.command()
@click.option(
    "--sound",
    type=click.Path(path_type=Path),
    help="A file with a voice in it. [default: a text that espeak-ng says in three voices]",
)
@click.option(
    "--avatar", type=click.Path(path_type=Path), help="The picture that talks. [default: the bundled one]"
)
@click.option(
    "--rate", default=30.0, show_default=True, type=click.FloatRange(5, 240), help="Frames per second."
)
@click.option(
    "--live/--no-live", default=True, show_default=True, help="Also in a live session, in real time."
)
@click.option(
    "--strip",
    "strip_path",
    type=click.Path(path_type=Path),
    help="Draw pictures of the talk of --sound into this file instead.",
)
@engine_options
@_JSON
def speech(sound, avatar, rate, live, strip_path, json_path, **choice):
    """How well a mouth that a voice alone moves follows it, measured on the drawn pictures. Prints a
    Markdown table.
    """
    from livepuppet.benchmarks.speech import measure, strip
    from livepuppet.realtime.bundled import AVATAR

    speed_commands.check_json(json_path)
    machine = describe()
    if strip_path is not None:
        if sound is None:
            raise UserError("--strip draws one talk: give its --sound FILE.")
        strip(_engine(**choice), sound, strip_path, avatar=avatar or AVATAR)
        return
    rows = measure(_engine(**choice), sound, rate, live, avatar or AVATAR)
    click.echo(
        f"{machine['processor']}, {machine['cores']} cores; correlation with the sound's amplitude, at the best lag\n"
    )
    click.echo(
        "| voice | frames | amount drawn | mouth gap in the picture | with loudness in dB | live, at the output |"
    )
    click.echo("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        cells = [
            f"{row[part]['correlation']:.2f} at {row[part]['lag_ms']:.0f} ms" if part in row else "-"
            for part in ("amount", "picture", "live")
        ]
        click.echo(
            f"| {row['voice']} | {row['picture']['frames']} | {cells[0]} | {cells[1]} | {row['picture']['loudness']:.2f} | {cells[2]} |"
        )
    _report({"machine": machine, "rows": rows}, json_path)


@bench.command("neutral")
@click.argument(
    "clips", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--avatar",
    "avatars",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A picture, or a folder of pictures; may be given more than once.  [default: the bundled one]",
)
@click.option(
    "--every", default=4, show_default=True, type=click.IntRange(1), help="Of so many frames one is drawn."
)
@engine_options
@_JSON
def neutral_command(clips, avatars, every, json_path, **choice):
    """What the neutral pose of a file is worth: CLIPS of faces drawn with --neutral auto and first, and begun at their worst moments.

    How well the drawn faces follow the driver is the correlation of what the same networks read in both. Prints Markdown tables.
    """
    from livepuppet.benchmarks import neutral
    from livepuppet.core.images import list_images
    from livepuppet.realtime.bundled import AVATAR

    speed_commands.check_json(json_path)
    engine, machine, rows = _engine(**choice), describe(), []
    pictures = [
        one for path in avatars or (AVATAR,) for one in (list_images(path) if path.is_dir() else [path])
    ]
    for row in neutral.measure(engine, clips, pictures, every):
        if row.begins == "" and row.neutral == "auto":
            click.echo(f"{row.clip}: {row.sentence or 'the neutral pose is the first frame.'}", err=True)
        rows.append(row)
    click.echo(f"{len(clips)} clips, {len(pictures)} avatars, {engine.model_name} ({engine.provider})\n")
    for text in neutral.tables(rows):
        click.echo(text)
    _report({"machine": machine, "rows": [asdict(row) for row in rows]}, json_path)


@bench.command("smoothing")
@click.argument(
    "clips", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@engine_options
@_JSON
def smoothing_command(clips, json_path, **choice):
    """How steady heads of CLIPS are that hold still, beside their own motion by optical flow; and what smoothing leaves of blinks and
    syllables. Prints Markdown tables.
    """
    from livepuppet.benchmarks import smoothing

    speed_commands.check_json(json_path)
    engine, machine, rows = _engine(**choice), describe(), []
    for text in smoothing.HEADING:
        click.echo(text)
    for row in smoothing.measure(engine, clips):
        rows.append(row)
        click.echo(smoothing.line(row))
    click.echo(smoothing.medians(rows))
    _report({"machine": machine, "rows": [asdict(row) for row in rows]}, json_path)


@bench.command("files")
@click.argument("video", metavar="VIDEO")
@click.option("--avatar", metavar="PICTURE", help="[default: the bundled one]")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Each way, in turn.")
@engine_options
@_JSON
def files_command(video, avatar, rounds, json_path, **choice):
    """What it takes to look a file through before it is drawn: animate in two passes, beside one. Prints a Markdown table."""
    from livepuppet.benchmarks import files
    from livepuppet.realtime.bundled import AVATAR

    speed_commands.check_json(json_path)
    engine, machine = _engine(**choice), describe()
    click.echo(f"{machine['processor']}, {machine['cores']} cores, {engine.model_name} ({engine.provider})\n")
    for text in files.HEADING:
        click.echo(text)
    rows = []
    for row in files.measure(engine, avatar or AVATAR, video, rounds):
        rows.append(asdict(row))
        click.echo(files.line(row))
    _report({"machine": machine, "rows": rows}, json_path)
