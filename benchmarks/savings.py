"""What each exact rewrite of `export.optimise` saves: the three calls with all of them, and with
one left out, in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from livepuppet.benchmarks import timing, work
from livepuppet.core.errors import UserError
from livepuppet.export.graphs import DETECT_OUTPUTS, RENDER_OUTPUTS, Detect, Encode, Render, write_graphs
from livepuppet.export.optimise import optimise, rewrites
from livepuppet.export.parity import sample_pictures
from livepuppet.model.base import Model
from livepuppet.model.presets import build
from livepuppet.realtime.engines import onnx as onnx_engine
from livepuppet.realtime.engines import openvino as openvino_engine
from livepuppet.realtime.engines import usable_cores

#: Which rewrites an engine runs.
TARGETS = {"onnx": "onnxruntime", "openvino": "onnxruntime", "torch": "torch"}

#: The calls of every frame.
CALLS = ("detect", "render")

#: The name of the row that leaves out all rewrites.
EVERYTHING = "all of them"


@dataclass
class Row:
    """What one rewrite saves in one engine.

    Attributes:
        preset, engine: what was measured.
        rewrite: its name in `optimise.REWRITES`, or `EVERYTHING`.
        flop: per call, floating-point operations with all rewrites and without this one.
        ms: per call, the least with all rewrites and without this one: what else the machine does
            only ever adds.
        ratio: per call, how many times as fast it is for this rewrite; the least over the least.
    """

    preset: str
    engine: str
    rewrite: str
    flop: dict[str, tuple[int, int]] = field(default_factory=dict)
    ms: dict[str, tuple[float, float]] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


class Variant:
    """A preset with some rewrites left out, ready to run in some engines.

    Args:
        model: with random weights; speed is the same.
        target: of `optimise`.
        without: the rewrites left out.
        engines: of `TARGETS`, all of that target.
        threads: of the CPU.
    """

    def __init__(
        self, model: Model, target: str, without: Collection[str], engines: Collection[str], threads: int
    ):
        self.flop: dict[str, int] = {}
        self.calls: dict[tuple[str, str], Callable[[], object]] = {}
        made = optimise(model, target, without)
        picture = sample_pictures(model.preset.size, 1)[0]
        if "torch" in engines:
            self._in_torch(made, picture)
        if graphs := [engine for engine in engines if engine != "torch"]:
            with tempfile.TemporaryDirectory() as folder:
                write_graphs(made, Path(folder))
                self.flop = {call: work.of_graph(Path(folder, f"{call}.onnx")).flop for call in CALLS}
                for engine in graphs:
                    run = {"onnx": _onnx, "openvino": _openvino}[engine]
                    stages = {
                        stage: run(Path(folder, f"{stage}.onnx"), threads) for stage in ("encode", *CALLS)
                    }
                    self._in_runtime(engine, stages, picture)

    def _in_torch(self, made: Model, picture: np.ndarray) -> None:
        frame = torch.from_numpy(picture)
        with torch.no_grad():
            encode = Encode(made)(frame)
            points, matrices, _ = (value[0] for value in Detect(made)(frame))
        render = Render(made, list(made.encode(torch.zeros(1, 3, *picture.shape[:2]))))
        keypoints = (points, matrices, points + 0.05, matrices)
        calls = {"detect": lambda: Detect(made)(frame), "render": lambda: render(*encode, *keypoints)}
        for call, run in calls.items():
            self.calls["torch", call] = torch.no_grad()(run)
            self.flop[call] = work.of_call(run).flop

    def _in_runtime(self, engine: str, stages: dict[str, Callable], picture: np.ndarray) -> None:
        found = stages["detect"]({"frame": picture}, DETECT_OUTPUTS)
        points, matrices = found["points"][0], found["jacobians"][0]
        inputs = {
            **stages["encode"]({"avatar": picture}, None),
            "source_points": points,
            "source_jacobians": matrices,
            "driving_points": points + np.float32(0.05),
            "driving_jacobians": matrices,
        }
        self.calls[engine, "detect"] = lambda: stages["detect"]({"frame": picture}, DETECT_OUTPUTS)
        self.calls[engine, "render"] = lambda: stages["render"](inputs, RENDER_OUTPUTS[:1])


def _onnx(path: Path, threads: int) -> Callable:
    session = onnx_engine._session(path, threads, "cpu")
    every = [output.name for output in session.get_outputs()]

    def run(inputs: dict, names) -> dict:
        names = list(names or every)
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


def _openvino(path: Path, threads: int) -> Callable:
    if missing := openvino_engine.unavailable_reason("cpu"):
        raise UserError(missing)
    # As the engine's, without the cache of compiled models, which nobody would use again.
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = openvino_engine._core().compile_model(str(path), "CPU", settings).create_infer_request()

    def run(inputs: dict, names) -> dict:
        request.infer(inputs, share_inputs=True, share_outputs=True)
        names = names or [name for output in request.model_outputs for name in output.get_names()]
        return {name: np.array(request.get_tensor(name).data) for name in names}

    return run


def savings(
    preset: str,
    engines: Collection[str],
    seconds: float = 4.0,
    threads: int | None = None,
    rounds: int = 8,
    only: Collection[str] = (),
) -> Iterator[Row]:
    """A row per rewrite and engine, as soon as it has been measured.

    The two variants are called in turn, block by block, so that whatever else the machine does
    slows both.

    Args:
        preset: a name of `presets.PRESETS`.
        engines: of `TARGETS`.
        seconds: for each call of each row.
        threads: of the CPU; as the engines take by default.
        rounds: blocks that they are divided into.
        only: rewrites to measure, or `EVERYTHING`; all rows by default.

    Raises:
        UserError: an engine is not installed, or there is no such preset.
    """
    threads = threads or usable_cores()
    torch.set_num_threads(threads or torch.get_num_threads())
    torch.manual_seed(0)
    try:
        model = build(preset).eval()
    except ValueError as error:
        raise UserError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    for target in dict.fromkeys(TARGETS[engine] for engine in engines):
        taking = [engine for engine in engines if TARGETS[engine] == target]
        every = rewrites(model, target)
        rows = [EVERYTHING, *every] if len(every) > 1 else every
        best = Variant(model, target, (), taking, threads)
        for name in [name for name in rows if not only or name in only]:
            other = Variant(model, target, every if name == EVERYTHING else {name}, taking, threads)
            for engine in taking:
                row = Row(preset, engine, name)
                for call in CALLS:
                    row.flop[call] = best.flop[call], other.flop[call]
                    pair = best.calls[engine, call], other.calls[engine, call]
                    ours, theirs = _in_turn(*pair, seconds, rounds)
                    row.ms[call] = min(ours), min(theirs)
                    row.ratio[call] = min(theirs) / min(ours)
                yield row


def _in_turn(first: Callable, second: Callable, seconds: float, rounds: int) -> tuple[list, list]:
    """Milliseconds of both."""
    for call in (first, second):
        call()
    ours, theirs = [], []
    for index in range(rounds):
        order = ((first, ours), (second, theirs))
        for call, times in order if index % 2 else reversed(order):
            times += timing.block(call, seconds / rounds / 2)
    return ours, theirs


def heading() -> list[str]:
    """Of the table that `line` continues."""
    return [
        "| preset | engine | rewrite | GMAC per frame: without, with | detect ms: without, with, ratio "
        "| render ms: without, with, ratio |",
        "|---|---|---|---|---|---|",
    ]


def line(row: Row) -> str:
    """A row of the Markdown table."""
    with_it, without = (sum(row.flop[call][i] for call in CALLS) / 2e9 for i in (0, 1))
    times = " | ".join(
        f"{row.ms[call][1]:.1f}, {row.ms[call][0]:.1f}, {row.ratio[call]:.2f}x" for call in CALLS
    )
    return f"| {row.preset} | {row.engine} | {row.rewrite} | {without:.2f}, {with_it:.2f} | {times} |"
