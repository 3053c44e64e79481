"""Pictures of the figures, as PNG: times by engine, delays of live runs, streams by batch, starts
by phase.

Colours are of Okabe and Ito's set, which people of any colour vision tell apart; what they say
stands in words, too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livepuppet.core.errors import UserError

if TYPE_CHECKING:
    from livepuppet.benchmarks.everything import Row

BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW, BLACK = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#000000"),
)
LINES = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)

#: Width of every picture in inches, and its dots per inch.
WIDTH, RESOLUTION = 9.0, 130

#: Letters of a line of the machine's description.
LINE = 165

#: A live picture at 30 frames per second has so many milliseconds.
FRAME_MS = 1000 / 30


def check(path: Path | None) -> None:
    """Say before hours of measuring what would keep the picture from being drawn. Raises UserError."""
    if path is None:
        return
    _pyplot_parts()
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"{path} is no picture file that can be drawn: give --plot a name that ends in .png.")
    if not path.parent.is_dir():
        raise UserError(f"The folder {path.parent} does not exist: make it, or choose another --plot.")


def save(figure: Any, path: Path) -> None:
    """Write a figure. Raises UserError where that cannot be done."""
    try:
        figure.savefig(path, dpi=RESOLUTION)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --plot.") from error


def model_figure(rows: Sequence[dict], machine: str):
    """Milliseconds per frame by engine: detect and render stacked, and how far slow frames (p95)
    reach.

    Args:
        rows: of `model_times.Row.as_dict`; those with an error are left out.
        machine: of `machine.sentence`.
    """
    rows = [row for row in rows if not row.get("error")]
    groups = list(dict.fromkeys(row["model"] for row in rows))

    def draw(figure) -> None:
        heights = [sum(row["model"] == group for row in rows) for group in groups]
        axes = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for group, axis in zip(groups, axes, strict=True):
            _bars(axis, group, [row for row in rows if row["model"] == group])
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)

    return _figure(
        0.55 * len(rows) + 0.75 * len(groups) + 1.1, "Milliseconds per frame, by engine", machine, draw
    )


def _bars(axis, group: str, rows: Sequence[dict]) -> None:
    rows = sorted(rows, key=lambda row: row["ms"]["frame"]["median"] / row["batch"])
    places = np.arange(len(rows))
    # Of a batch, each person's share.
    detect, render, frame, slow = (
        np.array([row["ms"][call][key] / row["batch"] for row in rows])
        for call, key in (("detect", "median"), ("render", "median"), ("frame", "median"), ("frame", "p95"))
    )
    axis.barh(places, detect, 0.62, color=ORANGE, label="detect")
    axis.barh(places, render, 0.62, left=detect, color=SKY, label="render")
    whisker = np.stack([np.zeros_like(frame), np.maximum(slow - frame, 0)])
    axis.errorbar(
        frame,
        places,
        xerr=whisker,
        fmt="d",
        color=BLACK,
        markersize=5,
        capsize=4,
        label="whole frame, to p95",
    )
    most = float(max(slow.max(), (detect + render).max()))
    ends = np.maximum(slow, detect + render)
    for place, end, row in zip(places, ends, rows, strict=True):
        ratio = f", {row['ratio']:.1f}× plain PyTorch" if row.get("ratio") else ""
        axis.annotate(
            f"{row['fps']:,.0f} FPS{ratio}" if row["fps"] >= 10 else f"{row['fps']:.1f} FPS{ratio}",
            (end, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axis.set_yticks(places, [_name(row) for row in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, most * 1.45)
    axis.set_title(group + (" (random weights)" if rows[0].get("random") else ""), loc="left", fontsize=10)
    if most > FRAME_MS / 3:
        axis.axvline(FRAME_MS, color=RED, linestyle="--", linewidth=1, label="30 FPS", zorder=0)
    axis.set_xlabel("ms")


def _name(row: dict) -> str:
    batch = f", batch {row['batch']}" if row["batch"] > 1 else ""
    plain = "plain " if row.get("plain") else ""
    return f"{plain}{row['engine']}, {row['device']}\n{row['precision']}{batch}"


def live_figure(rows: Sequence[dict], machine: str):
    """The share of frames that were out of the loop within so many milliseconds of their capture, a
    line per run.

    Args:
        rows: of `live.measure`. Runs as fast as it goes are left out: their frames wait for each
            other by intention.
    """
    from livepuppet.benchmarks.live import PERCENTILES

    rows = [row for row in rows if "error" not in row and row["rate"] is not None]
    size = rows[0]["size"] if rows else "any size"

    def draw(figure) -> None:
        axis = figure.subplots()
        for index, row in enumerate(rows):
            beside = ", beside a busy process" if row["busy"] else ""
            axis.plot(
                row["delays_ms"],
                PERCENTILES,
                color=LINES[index // 2 % len(LINES)],
                linestyle="--" if row["busy"] else "-",
                label=f"{row['engine']} {row['precision']}{beside}: {row['fps']:.0f} of {row['rate']:g} FPS, "
                f"p95 {row['delay_ms']['p95']:.0f} ms",
            )
        axis.axvline(FRAME_MS, color=BLACK, linewidth=0.8, linestyle=":", label="33 ms, one frame at 30 FPS")
        axis.axhline(95, color=BLACK, linewidth=0.5, alpha=0.4)
        axis.set_xlim(left=0)
        axis.set_ylim(0, 100)
        axis.set_xlabel("delay from camera to output, ms")
        axis.set_ylabel("frames within it, %")
        figure.legend(loc="outside lower center", frameon=False, fontsize=9)

    return _figure(4.4 + 0.24 * (len(rows) + 1), f"Delay of the live loop at {size}", machine, draw)


def streams_figure(rows: Sequence[dict], machine: str, name: str = ""):
    """Frames per second of all people, and milliseconds per batch, by people per batch.

    Args:
        rows: of `streams.measure`.
        name: the model's.
    """
    rows = [row for row in rows if "error" not in row]
    batches = [row["batch"] for row in rows]

    def draw(figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(batches, [row["fps"] for row in rows], "o-", color=BLUE)
        for row in rows:
            text = f"{row['fps']:,.0f}" + (f"\n{row['streams']} people" if row["streams"] else "")
            above.annotate(
                text,
                (row["batch"], row["fps"]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        above.set_ylim(0, 1.35 * max(row["fps"] for row in rows))
        above.set_ylabel("frames per second")
        below.plot(batches, [row["ms"]["median"] for row in rows], "o-", color=BLUE, label="median")
        below.plot(batches, [row["ms"]["p95"] for row in rows], "^--", color=ORANGE, label="p95")
        below.axhline(FRAME_MS, color=RED, linestyle=":", label="33 ms: done before the next frame")
        below.set_ylim(bottom=0)
        below.set_ylabel("ms per batch")
        below.set_xscale("log", base=2)
        below.set_xticks(batches, [str(batch) for batch in batches])
        below.minorticks_off()
        below.margins(x=0.08)
        below.set_xlabel("people per batch")
        figure.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)

    return _figure(
        6.2,
        f"People at a time on one device: {name}" if name else "People at a time on one device",
        machine,
        draw,
    )


def everything_figure(rows: Sequence[Row], machine: str):
    """Milliseconds per frame of every way to run each preset, fastest first; below, frames per
    second by people at a time.

    Args:
        rows: of `everything.Measuring`; those without figures are left out.
    """
    from livepuppet.benchmarks.everything import PRESETS

    rows = sorted((row for row in rows if row.ms), key=lambda row: row.ms["frame"]["median"])
    groups = sorted({row.way.preset for row in rows}, key=PRESETS.index)
    batching = [
        max((row for row in rows if row.way.preset == group and row.batches), key=_most, default=None)
        for group in groups
    ]
    lines = [row for row in batching if row is not None]
    heights = [0.55 + 0.3 * sum(row.way.preset == group for row in rows) for group in groups]
    heights += [3.4] if lines else []

    def draw(figure) -> None:
        axes = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for group, axis in zip(groups, axes, strict=False):
            _ways(axis, group, [row for row in rows if row.way.preset == group])
        if lines:
            _people(axes[-1], lines)

    return _figure(sum(heights) + 1.0, "Milliseconds per frame, from memory to memory", machine, draw)


def _most(row: Row) -> float:
    return max(one["fps"] for one in row.batches.values())


def _ways(axis, group: str, rows: Sequence[Row]) -> None:
    places = np.arange(len(rows))
    frame, slow = (np.array([row.ms["frame"][key] for row in rows]) for key in ("median", "p95"))
    colours = ["#bbbbbb" if row.gate.startswith("refused") else SKY for row in rows]
    axis.barh(places, frame, 0.7, color=colours)
    axis.errorbar(
        frame,
        places,
        xerr=np.stack([0 * frame, np.maximum(slow - frame, 0)]),
        fmt="none",
        ecolor=BLACK,
        capsize=3,
    )
    for place, row in zip(places, rows, strict=True):
        alone = row.device_ms.get("median")
        if alone is not None:
            axis.plot(alone, place, "D", color=RED, markersize=5)
        told = f"{frame[place]:.3g} ms" + (f", card alone {alone:.3g} ms" if alone is not None else "")
        told += ", refused by the gate" if row.gate.startswith("refused") else ""
        axis.annotate(
            told,
            (max(slow[place], frame[place]), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    names = [
        ", ".join(part for part in (row.way.engine, row.way.device, row.way.precision, row.way.mode) if part)
        for row in rows
    ]
    axis.set_yticks(places, names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.5 * float(slow.max()))
    axis.set_title(group + (" (random weights)" if rows[0].random else ""), loc="left", fontsize=10)


def _people(axis, rows: Sequence[Row]) -> None:
    from matplotlib.ticker import LogLocator

    for row, colour in zip(rows, LINES, strict=False):
        name = f"{row.way.preset}, {row.way.engine} {row.way.device} {row.way.precision}"
        counts = sorted(row.batches)
        # One person's frames go through the same calls.
        rates = [row.fps, *(row.batches[count]["fps"] for count in counts)]
        axis.plot([1, *counts], rates, "o-", color=colour, label=name)
        alone = [
            (count, row.batches[count]["device_fps"])
            for count in counts
            if "device_fps" in row.batches[count]
        ]
        if row.device_ms:
            alone.insert(0, (1, 1000 / row.device_ms["median"]))
        if alone:
            axis.plot(
                *zip(*alone, strict=True), "D--", color=colour, markersize=4, label=f"{name}, card alone"
            )
    counts = sorted({1, *(count for row in rows for count in row.batches)})
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.minorticks_off()
    axis.set_xlabel("people per batch")
    axis.set_title("Frames per second of all people", loc="left", fontsize=10)
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.22), ncols=2, frameon=False, fontsize=8)


def startup_figure(facts: dict[str, dict], machine: str):
    """Seconds from the command to the first animated picture, phase by phase.

    Args:
        facts: name of the engine -> of `startup.measure`.
    """
    from livepuppet.benchmarks.startup import PHASES

    bars = [
        (f"{engine}, {cache} cache", one[cache])
        for engine, one in facts.items()
        for cache in ("cold", "warm")
    ]
    colours = (BLACK, BLUE, ORANGE, YELLOW, SKY, PURPLE, "#999999", GREEN, RED, "#AA4499")

    def draw(figure) -> None:
        axis = figure.subplots()
        left = np.zeros(len(bars))
        for (phase, words), colour in zip(PHASES.items(), colours, strict=True):
            seconds = np.array([one["phases"].get(phase, 0.0) for _, one in bars])
            if seconds.max() < 0.005:
                continue  # too narrow to be seen; its name would only take room
            axis.barh(
                np.arange(len(bars)), seconds, 0.62, left=left, color=colour, label=words, edgecolor="white"
            )
            left += seconds
        for place, (_, one) in enumerate(bars):
            axis.annotate(
                f"{one['total']:.2f} s",
                (left[place], place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axis.set_yticks(np.arange(len(bars)), [name for name, _ in bars])
        axis.invert_yaxis()
        axis.set_xlim(0, 1.15 * left.max())
        axis.set_xlabel("seconds since the command")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)

    return _figure(0.55 * len(bars) + 2.3, "From the command to the first animated picture", machine, draw)


def call_figure(panels: Sequence[tuple[str, dict, Sequence[dict]]], machine: str):
    """How good pictures are at which rate: numbers, which the far side draws, beside H.264.

    Args:
        panels: what pictures are compared with; of the numbers, and of H.264 at each of its qualities, `payload` in kbit/s, `ms_ssim`,
            and `akd` in pixels.
        machine: of `machine.sentence`.
    """

    def draw(figure) -> None:
        axes = figure.subplots(2, len(panels), squeeze=False)
        for column, (title, call, video) in enumerate(panels):
            for row, (name, label) in enumerate((("ms_ssim", "MS-SSIM"), ("akd", "AKD, pixels of 256"))):
                axis = axes[row][column]
                rates = [point["payload"] for point in video]
                axis.plot(
                    rates,
                    [point[name] for point in video],
                    "o-",
                    color=ORANGE,
                    label="H.264 (x264, no delay)",
                )
                axis.plot([call["payload"]], [call[name]], "D", color=BLUE, markersize=9, label="numbers")
                axis.axvline(call["payload"], color=BLUE, linewidth=0.8, linestyle=":")
                axis.set(xscale="log", ylabel=label)
                axis.set_title(title if row == 0 else "", fontsize=10, loc="left")
            axes[1][column].set_xlabel("kbit/s, without headers")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)

    return _figure(6.2, "A call in numbers, and in H.264", machine, draw)


def _figure(height: float, title: str, machine: str, draw: Callable):
    """A figure with title and machine on top, laid out after `draw` has filled it; no window is
    ever opened.
    """
    figure_class, canvas_class = _pyplot_parts()
    figure = figure_class(figsize=(WIDTH, height), layout="constrained")
    canvas_class(figure)
    lines = textwrap.wrap(machine, LINE) or [""]
    # Room is made for title and machine by the empty lines below the title.
    figure.suptitle(title + "\n" * len(lines), x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.text(0.01, 1 - 0.34 / height, "\n".join(lines), ha="left", va="top", fontsize=7, color="#555555")
    draw(figure)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure


def _pyplot_parts():
    """Matplotlib's figure and the canvas that needs no screen. Raises UserError where it is not
    installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError(
            "Drawing needs the package 'matplotlib': pip install 'livepuppet[bench]', or leave --plot out."
        ) from error
    return Figure, FigureCanvasAgg
