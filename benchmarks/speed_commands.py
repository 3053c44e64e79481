"""`livepuppet bench model`, `live`, `startup`, `streams` and `everything`: how fast everything is,
as tables, JSON and pictures.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from livepuppet.benchmarks.machine import describe, sentence
from livepuppet.core.engine import PRECISIONS
from livepuppet.core.errors import UserError

_NAMES = ("onnx", "openvino", "torch", "tensorrt")

_ENGINES = click.option(
    "--engine",
    "engines",
    type=click.Choice(_NAMES),
    multiple=True,
    help="Only these. [default: all that are here]",
)
_THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="Of the CPU. [default: as livepuppet run]"
)
_JSON = click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the figures as JSON."
)
_PLOT = click.option(
    "--plot", "plot_path", type=click.Path(path_type=Path), help="Draw the figures into a PNG."
)
_PRESETS = click.option(
    "--preset", "presets", multiple=True, help="Of these shapes, with random weights: speed is the same."
)
_MODELS = click.option(
    "--model", "models", type=click.Path(path_type=Path), multiple=True, help="Bundles or weights."
)


def check_json(path: Path | None) -> None:
    """Say before long measuring that a file cannot be written. Raises UserError."""
    if path is not None and not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} does not exist: make it, or choose another --json.")


def report(path: Path | None, facts: dict) -> None:
    """Write the figures as JSON. Raises UserError where that cannot be done."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --json.") from error


def _draw(path: Path | None, make: Callable) -> None:
    if path is not None:
        from livepuppet.benchmarks import plots

        plots.save(make(plots), path)


def _before_measuring(json_path: Path | None, plot_path: Path | None) -> None:
    from livepuppet.benchmarks.plots import check

    check_json(json_path)
    check(plot_path)


def subjects_of(models: Sequence[Path], presets: Sequence[str], folder: Path, bundles: bool = True) -> list:
    """The models to measure: the default one if none is named.

    Args:
        folder: for what has to be made.
        bundles: make bundles of weights.
    """
    from livepuppet.benchmarks.subjects import default_subject, subject_of_path, subject_of_preset

    found = []
    for number, path in enumerate(models):
        (folder / str(number)).mkdir()
        found.append(subject_of_path(path, folder / str(number) if bundles else None))
    for name in presets:
        click.echo(f"Building {name} with random weights.", err=True)
        found.append(subject_of_preset(name, folder, bundles))
    return found or [default_subject()]


def chosen(
    offers: Sequence, engines: Sequence[str], devices: Sequence[str], precisions: Sequence[str]
) -> list:
    """The offers that were asked for and can be had here.

    Raises:
        UserError: of something that was asked for, nothing can be had; with the remedy.
    """
    wanted = {"name": engines, "device": devices, "precision": precisions}
    fitting = [
        offer
        for offer in offers
        if all(not names or getattr(offer, key) in names for key, names in wanted.items())
    ]
    for key, names in wanted.items():
        for name in names:
            ways = [offer for offer in fitting if getattr(offer, key) == name]
            if not any(offer.missing is None for offer in ways):
                raise UserError(
                    ways[0].missing if ways else f"No engine here has the {key} '{name}' for this model."
                )
    return [offer for offer in fitting if offer.missing is None]


@click.command()
@_PRESETS
@_MODELS
@_ENGINES
@click.option(
    "--device", "devices", multiple=True, help="Only these: cpu, cuda, ... [default: all that are here]"
)
@click.option("--precision", "precisions", type=click.Choice(PRECISIONS), multiple=True, help="Only these.")
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="People at a time; above 1 with torch only.",
)
@click.option(
    "--plain/--no-plain", default=True, show_default=True, help="Compare with float32 PyTorch as it comes."
)
@click.option(
    "--blocks", default=5, show_default=True, type=click.IntRange(min=1), help="Everything so often, in turn."
)
@click.option("--seconds", default=1.0, show_default=True, help="Of a block of frames.")
@_THREADS
@_JSON
@_PLOT
def model(
    presets,
    models,
    engines,
    devices,
    precisions,
    batches,
    plain,
    blocks,
    seconds,
    threads,
    json_path,
    plot_path,
):
    """Milliseconds of the three calls and of a whole frame, per engine, device, precision and
    batch.

    Every engine runs in a process of its own, in turn with plain float32 PyTorch on the same
    device. Prints a Markdown table, a line as each is measured.
    """
    from livepuppet.benchmarks import model_times
    from livepuppet.benchmarks.workers import Worker
    from livepuppet.realtime.engines import ENGINES, usable_cores

    _before_measuring(json_path, plot_path)
    threads = threads or usable_cores()
    machine, rows, peaks = describe(), [], {}

    def show(row: model_times.Row) -> None:
        rows.append(row.as_dict())
        click.echo(model_times.line(row))
        report(json_path, {"command": "model", "machine": machine, "peaks": peaks, "rows": rows})

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        jobs = [
            (subject, offer)
            for subject in subjects_of(models, presets, Path(folder))
            for offer in chosen(subject.offers(), engines, devices, precisions)
        ]
        for device in dict.fromkeys(_torch_device(offer.device) for _, offer in jobs):
            if device in ("cpu", "cuda"):
                kinds = dict.fromkeys(
                    offer.precision for _, offer in jobs if _torch_device(offer.device) == device
                )
                asked = {
                    "device": device,
                    "threads": threads,
                    "precisions": ["float32", *(set(kinds) - {"float32"})],
                }
                with Worker("livepuppet.benchmarks.peaks:Peaks", **asked) as worker:
                    peaks[device] = worker.ready
        click.echo(f"{sentence(machine)}, {threads} threads\n{_peak_lines(peaks)}")
        for text in model_times.heading():
            click.echo(text)
        yardstick, standing_for = None, None
        for subject, offer in jobs:
            device = _torch_device(offer.device)
            if (
                plain
                and device
                and subject.weights
                and standing_for != (subject.name, subject.weights, device)
            ):
                stack.pop_all().close()
                yardstick = _yardstick(subject, device, threads, stack)
                standing_for = (subject.name, subject.weights, device)
                if yardstick is not None:
                    show(_measured(subject, None, device, 1, threads, yardstick, peaks, blocks, seconds))
            compared = (
                yardstick if device and standing_for == (subject.name, subject.weights, device) else None
            )
            for batch in batches or (1,):
                if batch > 1 and ENGINES[offer.name] == "bundle":
                    continue  # their graphs are for one picture
                show(_measured(subject, offer, device, batch, threads, compared, peaks, blocks, seconds))
    _draw(plot_path, lambda plots: plots.model_figure(rows, sentence(machine)))


def _torch_device(device: str) -> str | None:
    """What PyTorch calls the device that an engine runs on; None where it cannot use it."""
    return {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda", "mps": "mps"}.get(device.split(":")[0])


def _yardstick(subject, device: str, threads: int, stack: ExitStack):
    """Plain PyTorch in a process of its own, until the stack ends; None, and a sentence, where it
    cannot be had.
    """
    from livepuppet.benchmarks.workers import Worker, WorkerError

    asked = {
        "engine": "torch",
        "model": str(subject.weights),
        "device": device,
        "threads": threads,
        "plain": True,
    }
    try:
        return stack.enter_context(Worker("livepuppet.benchmarks.model_times:Timed", only=["frame"], **asked))
    except (UserError, WorkerError) as error:
        click.echo(f"No ratios for {subject.name} on {device}: {error}", err=True)
        return None


def _measured(subject, offer, device, batch, threads, yardstick, peaks, blocks, seconds):
    """A row; of plain PyTorch itself where there is no offer."""
    from livepuppet.benchmarks import model_times

    names = ("torch", device, "float32") if offer is None else (offer.name, offer.device, offer.precision)
    return model_times.measure(
        subject, *names, batch, threads, yardstick, peaks.get(device), blocks, seconds, plain=offer is None
    )


def _peak_lines(peaks: dict) -> str:
    from livepuppet.benchmarks.peaks import best

    lines = ""
    for device, found in peaks.items():
        products = []
        for precision in found["gflops"]:
            one = best(found, precision)
            if one:
                products.append(f"{one[0]:,.0f} GFLOP/s in {precision} ({one[1]})")
        lines += (
            f"Measured peak, {device}: {', '.join(products) or 'none'}; {found['gbytes']:,.0f} GB/s copied.\n"
        )
    return lines


@click.command()
@_ENGINES
@click.option("--device", help="Of the engines.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(PRECISIONS),
    multiple=True,
    help="Of the engines. [default: their own first choice]",
)
@click.option(
    "--model",
    "model_path",
    type=click.Path(path_type=Path),
    help="Bundle or weights; the default model if none.",
)
@click.option(
    "--rate", "rates", type=click.FloatRange(1, 240), multiple=True, help="Of the camera. [default: 30]"
)
@click.option("--eager/--no-eager", default=True, show_default=True, help="Also as fast as it goes.")
@click.option("--busy", is_flag=True, help="Also beside a process that keeps one core busy.")
@click.option("--seconds", default=15.0, show_default=True, type=click.FloatRange(min=2), help="Of each run.")
@click.option("--size", default="1280x720", show_default=True, metavar="WxH", help="Of camera and output.")
@click.option("--sharp/--no-sharp", default=True, show_default=True, help="As of livepuppet run.")
@click.option("--adapt/--no-adapt", default=True, show_default=True, help="As of livepuppet run.")
@_THREADS
@_JSON
@_PLOT
def live(
    engines,
    device,
    precisions,
    model_path,
    rates,
    eager,
    busy,
    seconds,
    size,
    sharp,
    adapt,
    threads,
    json_path,
    plot_path,
):
    """The whole live loop per engine: camera to output, with frames per second, delays and memory.

    A simulated webcam sends MJPEG frames of the bundled clip; the delay is read off a clock in the
    picture. Prints a Markdown table, a line as each run ends.
    """
    from livepuppet.benchmarks import live as runs

    _before_measuring(json_path, plot_path)
    machine, rows = describe(), []
    click.echo(f"{sentence(machine)}, {size}\n")
    for text in runs.heading():
        click.echo(text)
    ways = itertools.product(
        engines or installed_engines(),
        precisions or (None,),
        (False, True) if busy else (False,),
        (*(rates or (30.0,)), *((None,) if eager else ())),
    )
    for engine, precision, beside, rate in ways:
        row = runs.measure(
            beside,
            engine=engine,
            model=str(model_path) if model_path else None,
            device=device,
            precision=precision,
            threads=threads,
            rate=rate,
            seconds=seconds,
            size=size,
            sharp=sharp,
            adapt=adapt,
        )
        rows.append(row)
        click.echo(runs.line(row))
        report(json_path, {"command": "live", "machine": machine, "rows": rows})
    _draw(plot_path, lambda plots: plots.live_figure(rows, sentence(machine)))


def installed_engines() -> tuple[str, ...]:
    """The engines that need no PyTorch and are here."""
    import importlib.util

    return ("onnx", *(("openvino",) if importlib.util.find_spec("openvino") else ()))


@click.command()
@_ENGINES
@click.option("--device", help="Of the engines.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Of the engines.")
@click.option(
    "--crop", default="auto", show_default=True, help="As of livepuppet run: full looks for no face."
)
@click.option("--runs", default=5, show_default=True, type=click.IntRange(min=1), help="Starts of each kind.")
@_JSON
@_PLOT
def startup(engines, device, precision, crop, runs, json_path, plot_path):
    """Seconds from the command `livepuppet run` to the first animated picture, and where they go.

    In a fresh process each time: cold, with nothing kept by engines, and warm. The countdown, which
    is the person's, is left out; finding the driver's face is in. Prints a Markdown table.
    """
    from livepuppet.benchmarks import startup as starts

    _before_measuring(json_path, plot_path)
    machine, rows = describe(), []
    click.echo(f"{sentence(machine)}\n")
    for text in starts.heading():
        click.echo(text)
    for engine in engines or installed_engines():
        arguments = ["--engine", engine, "--crop", crop]
        arguments += ["--device", device] if device else []
        arguments += ["--precision", precision] if precision else []
        facts = {"engine": engine, "device": device or "cpu", "crop": crop, **starts.measure(arguments, runs)}
        rows.append(facts)
        for text in starts.lines(engine, facts):
            click.echo(text)
        report(json_path, {"command": "startup", "machine": machine, "rows": rows})
    _draw(
        plot_path, lambda plots: plots.startup_figure({row["engine"]: row for row in rows}, sentence(machine))
    )


@click.command()
@click.option("--preset", help="Of this shape, with random weights: speed is the same.")
@click.option(
    "--model",
    "weights",
    type=click.Path(path_type=Path),
    help="Weights (.safetensors); the default model's if none.",
)
@click.option("--device", help="cuda, cpu, ... [default: cuda where there is one]")
@click.option("--precision", type=click.Choice(PRECISIONS), help="[default: the device's own first choice]")
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="People at a time. [default: 1 to 256]",
)
@click.option("--seconds", default=3.0, show_default=True, help="Of each batch size.")
@_THREADS
@_JSON
@_PLOT
def streams(preset, weights, device, precision, batches, seconds, threads, json_path, plot_path):
    """How many people one device can move at once, at 30 frames per second each, their frames in
    batches.

    Prints a Markdown table, a line as each batch size is measured.
    """
    from livepuppet.benchmarks import streams as batched

    _before_measuring(json_path, plot_path)
    machine, rows = describe(), []
    with tempfile.TemporaryDirectory() as folder:
        named = ([weights] if weights else [], [preset] if preset else [])
        subject = subjects_of(*named, Path(folder), bundles=False)[0]
        if subject.weights is None:
            raise UserError(
                f"{weights} holds no weights, which batches need: give a .safetensors file as --model."
            )
        click.echo(f"{sentence(machine)}\n")
        for text in batched.heading():
            click.echo(text)
        asked = {"weights": subject.weights, "device": device, "precision": precision, "threads": threads}
        for row in batched.sweep(batches, seconds=seconds, gate=not subject.random, **asked):
            rows.append(row)
            click.echo(batched.line(subject.name, row))
            report(json_path, {"command": "streams", "machine": machine, "rows": rows})
    top = batched.best(rows)
    if top is None:
        raise UserError(rows[0]["error"])
    click.echo(f"\n{top['streams']} streams of 30 frames per second, in batches of {top['batch']}.")
    _draw(plot_path, lambda plots: plots.streams_figure(rows, sentence(machine), subject.name))


@click.command("everything")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Folder for table, picture and JSON."
)
@click.option(
    "--minutes", default=10.0, show_default=True, type=click.FloatRange(min=0.05), help="For all of it."
)
@click.option("--preset", "presets", multiple=True, help="Only these. [default: all]")
@click.option("--device", "devices", multiple=True, help="Only these: cpu, cuda, ... [default: all]")
@_THREADS
@click.option(
    "--redraw", is_flag=True, help="Measure nothing: table and picture anew from the folder's JSON."
)
def everything_command(output, minutes, presets, devices, threads, redraw):
    """Every engine, precision and preset that this machine can run: gate, times, people at a time.

    Writes everything.md, a table to paste, everything.png and everything.json; what is measured is
    kept when you interrupt it. An engine that is missing, refused or fails is a row with the reason.
    """
    from livepuppet.benchmarks import everything

    path = output / "everything.json"
    if redraw:
        machine, rows, minutes = _kept(path)
        _write_everything(output, machine, rows, minutes)
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output} cannot be made ({error.strerror}): choose another --output.") from error
    if unknown := set(presets) - set(everything.PRESETS):
        raise UserError(
            f"There is no preset {', '.join(sorted(unknown))}: choose among {', '.join(everything.PRESETS)}."
        )
    found = everything.ways(presets, devices)
    if not found:
        raise UserError(f"No engine knows the device {', '.join(devices)}: leave --device out.")
    machine, rows = describe(), []
    click.echo(f"{sentence(machine)}\n")
    for text in everything.heading():
        click.echo(text)
    try:
        with everything.Measuring(minutes, threads) as measuring:
            for row in measuring.rows(found):
                rows.append(row)
                if not row.way.missing:
                    click.echo(everything.line(row))
                facts = {"command": "everything", "minutes": minutes, "machine": machine}
                report(path, {**facts, "rows": [one.as_dict() for one in rows]})
    except KeyboardInterrupt:
        click.echo("Stopped; what was measured is kept.", err=True)
    finally:  # also of what was measured until somebody had enough
        _write_everything(output, machine, rows, minutes)


def _kept(path: Path) -> tuple[dict, list, float]:
    """Machine, rows and minutes of an earlier run."""
    from livepuppet.benchmarks.everything import Row

    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return facts["machine"], [Row.from_dict(one) for one in facts["rows"]], facts["minutes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read: run 'livepuppet bench everything' without --redraw first."
        ) from error


def _write_everything(output: Path, machine: dict, rows: list, minutes: float) -> None:
    """Table and picture; without matplotlib the table alone."""
    from livepuppet.benchmarks import everything, plots

    if not rows:
        return
    text = everything.document(sentence(machine), rows, minutes)
    (output / "everything.md").write_text(text, encoding="utf-8")
    click.echo("\n" + "\n".join(everything.best_lines(rows)))
    try:
        plots.save(plots.everything_figure(rows, sentence(machine)), output / "everything.png")
    except UserError as error:
        click.echo(
            f"No picture: {error} Then 'livepuppet bench everything --output {output} --redraw' draws it, "
            "on any machine.",
            err=True,
        )
