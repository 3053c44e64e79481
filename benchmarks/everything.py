"""`livepuppet bench everything`: every engine, precision and preset that a machine can run, within
minutes, as one table, one picture and one JSON.

Nothing that goes wrong ends it: an engine that is missing, refused or crashes is a row with the
reason.
"""

from __future__ import annotations

import gc
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from livepuppet.benchmarks import model_times, timing
from livepuppet.benchmarks.streams import RATE
from livepuppet.benchmarks.subjects import SEED, default_subject, subject_of_preset
from livepuppet.benchmarks.workers import Worker, WorkerError
from livepuppet.core.bundle import read_bundle, reference_of
from livepuppet.core.engine import ENGINES, first_line
from livepuppet.core.errors import LivePuppetError, UserError
from livepuppet.core.images import read_image
from livepuppet.core.reference import THRESHOLDS, Reference, compare
from livepuppet.core.square import centred_square, cut
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import load_engine, offers, usable_cores

#: The default first, then the paper's network, then the small ones.
PRESETS = ("lite-256", "fomm-256", "monkeynet-64", "monkeynet-128", "fomm-64", "fomm-128")

#: Presets of which everything is measured before the rest of the others.
FOREMOST = PRESETS[:2]

#: People at a time.
BATCHES = (4, 16, 64, 256)

#: The one that is also tried where every size takes a minute of compiling.
COMPILED_BATCH = 64

#: Modes of the torch engine: as it comes (float32, on a card TF32 in convolutions, every kernel
#: started by Python), in the engine's own form without and with CUDA graphs, and with kernels that
#: `torch.compile` writes.
PLAIN, EAGER, GRAPHS, COMPILED = "plain", "eager", "CUDA graphs", "compiled"

#: Seconds that a way may take whatever its share is, so that none is begun in vain; and how large
#: its share is beside the others'.
FLOOR, COMPILING_FLOOR = 25.0, 150.0
WEIGHT, COMPILING_WEIGHT = 1.0, 6.0

#: A call is timed for a share of its way's time, between so many seconds.
LEAST_SECONDS, MOST_SECONDS = 0.15, 2.0

#: A batch that takes longer is nobody's live picture, and larger ones are not tried.
LONGEST_BATCH_MS = 10 * 1000 / RATE

#: Frames that a card draws in a row when it is timed alone.
DEVICE_FRAMES = 200


@dataclass(frozen=True)
class Way:
    """One way to run a preset.

    Attributes:
        preset, engine, device: names.
        precision: of `core.engine.PRECISIONS`, or tf32.
        mode: of the torch engine; empty for others.
        missing: why it cannot be had here.
    """

    preset: str
    engine: str
    device: str
    precision: str
    mode: str = ""
    missing: str | None = None

    @property
    def compiles(self) -> bool:
        """Whether the first call takes minutes."""
        return self.mode == COMPILED or self.engine == "tensorrt"

    def rank(self) -> tuple:
        """What is measured first: the foremost presets' usual way, then all of theirs, then the
        other presets; cards before processors; what compiles for minutes last.
        """
        usual = (self.mode, self.precision) in ((GRAPHS, "float16"), ("", "float32")) or self.mode == PLAIN
        foremost = self.preset in FOREMOST
        wave = 3 if self.compiles else 2 if not foremost else 0 if usual else 1
        return wave, not usual, self.device == "cpu", _place(self.preset)


def _place(preset: str) -> int:
    return PRESETS.index(preset) if preset in PRESETS else len(PRESETS)


@dataclass
class Row:
    """What was found of a `Way`.

    Attributes:
        way: which.
        random: whether the weights are made up.
        provider: what computes, as its runtime calls it.
        gate: "passed", "refused: ..." with what is off, or why nobody judged.
        psnr: of the worst picture beside float32 PyTorch on the processor, in dB; None where equal.
        start_s: seconds from weights or graphs to the first picture, without importing packages.
        ms: "detect", "render" and "frame" from host memory to host memory: median, p95, least,
            repeats.
        device_ms: the same of a frame on the card alone; empty where that cannot be told.
        batches: per number of people: ms of the batch as in `ms`, fps of all together, device_fps.
        memory_mb: the most that PyTorch held on the card.
        reason: why figures are missing.
    """

    way: Way
    random: bool = False
    provider: str = ""
    gate: str = ""
    psnr: float | None = None
    start_s: float | None = None
    ms: dict[str, dict[str, float]] = field(default_factory=dict)
    device_ms: dict[str, float] = field(default_factory=dict)
    batches: dict[int, dict[str, Any]] = field(default_factory=dict)
    memory_mb: float | None = None
    reason: str | None = None

    @property
    def fps(self) -> float | None:
        """Frames per second of one person."""
        return 1000 / self.ms["frame"]["median"] if "frame" in self.ms else None

    def as_dict(self) -> dict:
        """For JSON; `from_dict` reads it."""
        facts = asdict(self)
        return {**facts.pop("way"), **facts}

    @classmethod
    def from_dict(cls, facts: dict) -> Row:
        """The row that `as_dict` turned into JSON."""
        names = Way.__dataclass_fields__
        rest = {name: value for name, value in facts.items() if name not in names}
        rest["batches"] = {int(count): one for count, one in rest["batches"].items()}
        return cls(Way(**{name: facts[name] for name in names}), **rest)


def ways(presets: Sequence[str] = (), devices: Sequence[str] = ()) -> list[Way]:
    """Every way to run every preset, what is missing here with its reason, in the order in which
    they are measured.

    Args:
        presets: only these.
        devices: only these: cpu, cuda, ...
    """
    found = []
    for preset in presets or PRESETS:
        for offer in _offers(preset):
            if devices and offer.device not in devices:
                continue
            if offer.name == "torch":
                modes = _modes(offer.device, offer.precision)
            else:
                modes = [(offer.precision, "")]
            found += [
                Way(preset, offer.name, offer.device, precision, mode, offer.missing)
                for precision, mode in modes
            ]
    return sorted(found, key=Way.rank)


def _offers(preset: str) -> list:
    """Of the default model, all; presets with random weights have the same, except for graphs in
    fewer bits, which are made with pictures of faces.
    """
    subject = default_subject()
    found = subject.offers()
    if subject.weights is None:
        found += [offer for offer in offers() if ENGINES[offer.name] == "weights"]
    if preset == subject.name:
        return found
    return [offer for offer in found if ENGINES[offer.name] == "weights" or offer.precision == "float32"]


def _modes(device: str, precision: str) -> list[tuple[str, str]]:
    """Precisions and modes in which the torch engine is measured, for one that it offers."""
    if device != "cuda":
        modes = [(precision, EAGER), (precision, COMPILED)]
        return [(precision, PLAIN), *modes] if precision == "float32" else modes
    modes = [(precision, GRAPHS)]
    if precision == "float32":
        modes += [("tf32", GRAPHS), ("float32", PLAIN)]
    elif precision == "float16":
        modes += [(precision, EAGER), (precision, COMPILED)]
    return modes


class Trial:
    """Runs one way after another, in a `Worker`: importing PyTorch and waking a card up takes
    longer than most of them.

    Args:
        package: that the engines of this process need.
        threads: of the CPU.
    """

    def __init__(self, package: str, threads: int | None = None):
        begin = time.perf_counter()
        importlib.import_module(package)
        self.ready = {"import_s": round(time.perf_counter() - begin, 3)}
        self._threads = threads
        self._engine: Any = None
        self._models: dict[str, Any] = {}
        self._references: dict[str, Reference] = {}

    def load(
        self, preset: str, engine: str, device: str, precision: str, mode: str, path: str | None
    ) -> dict:
        """Start an engine and draw a first picture: provider and seconds.

        Args:
            path: of the bundle or weights; None for a preset's random weights in this process.
        """
        self._engine = None
        gc.collect()
        self._clear_card(device)
        weights = Path(path) if path else self._random(preset)
        begin = time.perf_counter()
        self._engine = self._made(weights, engine, device, precision, mode)
        avatar = _avatar(self._engine.size)
        keypoints = self._engine.detect(avatar)
        self._engine.render(self._engine.encode(avatar), keypoints, keypoints)
        seconds = time.perf_counter() - begin
        return {"provider": self._engine.provider, "start_s": round(seconds, 3)}

    def _made(self, weights: Any, engine: str, device: str, precision: str, mode: str) -> Any:
        tf32 = precision == "tf32"
        exact: Any = "float32" if tf32 else precision
        if engine != "torch":
            return load_engine(engine, weights, self._threads, device, exact, gate=False)
        import torch

        from livepuppet.realtime.engines.pytorch import TorchEngine

        if mode == COMPILED:
            torch.compiler.reset()  # each process compiles a function so many times, then no more
        return TorchEngine(
            weights,
            device=device,
            threads=self._threads,
            precision=exact,
            plain=mode == PLAIN,
            compile=mode == COMPILED,
            graph=mode != EAGER,
            tf32=tf32,
        )

    def quality(self, preset: str, precision: str, mode: str, device: str) -> dict:
        """Whether the engine draws what float32 PyTorch on the processor draws: gate, psnr."""
        found = compare(self._engine, self._reference(preset))
        psnr = round(found.psnr, 1) if found.psnr != float("inf") else None
        if preset != default_subject().name:
            return {"gate": "random weights: not judged", "psnr": psnr}
        # TF32 has no more bits of mantissa than float16.
        rounded = precision == "tf32" or (mode == PLAIN and device == "cuda")
        limits = THRESHOLDS["float16" if rounded else precision]  # pyright: ignore[reportArgumentType]
        failures = found.failures(limits)
        return {"gate": f"refused: {'; '.join(failures)}" if failures else "passed", "psnr": psnr}

    def _reference(self, preset: str) -> Reference:
        if preset not in self._references:
            self._references[preset] = self._drawn(preset)
        return self._references[preset]

    def _drawn(self, preset: str) -> Reference:
        if preset == default_subject().name:
            found = reference_of(bundled.MODEL, read_bundle(bundled.MODEL))
            assert found is not None
            return Reference.load(found[0])
        from livepuppet.export.reference import draw

        model = self._random(preset)
        avatar, frames = model_times.moving_pictures(model.preset.size)
        return draw(model, avatar, [frames[0], frames[len(frames) // 4]])

    def _random(self, preset: str) -> Any:
        """A preset with random weights, always the same; a copy that may be changed."""
        import copy

        import torch

        if preset not in self._models:
            from livepuppet.model.presets import build

            torch.manual_seed(SEED)
            self._models[preset] = build(preset).eval()
        return copy.deepcopy(self._models[preset])

    def export(self, preset: str, folder: str) -> str:
        """A bundle of a preset with random weights: its path."""
        subject = subject_of_preset(preset, Path(folder))
        assert subject.bundle is not None
        return str(subject.bundle)

    def save(self, preset: str, folder: str) -> str:
        """A preset's random weights: the path of their file."""
        subject = subject_of_preset(preset, Path(folder), bundle=False)
        assert subject.weights is not None
        return str(subject.weights)

    def times(self, seconds: float) -> dict:
        """Milliseconds of `detect`, `render` and a whole frame of one person, from host memory to
        host memory.
        """
        calls = model_times.calls_of(self._engine)
        return {name: self._summary(calls[name], seconds) for name in ("detect", "render", "frame")}

    def device(self, batch: int = 1) -> dict:
        """Milliseconds of a frame of so many people on the card alone; empty where that cannot be
        told.
        """
        alone = getattr(self._engine, "device_milliseconds", None)
        if alone is None:
            return {}
        try:
            alone(batch, 3)
            return timing.summary(alone(batch, DEVICE_FRAMES if batch < 16 else DEVICE_FRAMES // 10))
        except ValueError:
            return {}

    def people(self, batch: int, seconds: float) -> dict:
        """So many people at a time: milliseconds of the batch, frames per second of all."""
        frame = model_times.calls_of(self._engine, batch)["frame"]
        ms = self._summary(frame, seconds)
        facts = {"ms": ms, "fps": round(1000 * batch / ms["median"], 1)}
        alone = self.device(batch)
        if alone:
            facts["device_ms"] = alone
            facts["device_fps"] = round(1000 * batch / alone["median"], 1)
        return facts

    def can_batch(self) -> bool:
        """Whether the engine takes several people's frames at once."""
        return hasattr(self._engine, "render_many")

    def memory(self) -> float | None:
        """MB that PyTorch held on the card at most since `load`; None on processors."""
        if self._engine is None or not self._engine.device.startswith("cuda") or self._engine.name != "torch":
            return None
        import torch

        return round(torch.cuda.max_memory_allocated() / 1e6, 1)

    def _summary(self, call: Callable[[], object], seconds: float) -> dict[str, float]:
        for _ in range(timing.FEWEST):  # caches, buffers, recordings, clocks
            call()
        return timing.summary(timing.block(call, seconds))

    def _clear_card(self, device: str) -> None:
        if device.startswith("cuda") and importlib.util.find_spec("torch"):
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def _avatar(size: int):
    image = read_image(bundled.AVATAR)
    return cut(image, centred_square(*image.shape[:2]), size)


#: Which package an engine cannot do without.
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch", "tensorrt": "torch"}


class Measuring:
    """Measures ways until time is up. A way that crashes takes its process along, and the next one
    gets another.

    Args:
        minutes: for everything.
        threads: of the CPU; as `livepuppet run` by default.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        minutes: float,
        threads: int | None = None,
        batches: Sequence[int] = BATCHES,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._minutes, self._batches, self._clock = minutes, batches, clock
        self._threads = threads or usable_cores() or None
        self._end = clock() + 60 * minutes
        self._workers: dict[str, Worker] = {}
        self._made: dict[tuple[str, str], str | LivePuppetError] = {}
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Measuring:
        return self

    def __exit__(self, *error) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
        self._folder.cleanup()

    def rows(self, ways: Sequence[Way]) -> Iterator[Row]:
        """A row per way: first what is missing, then what is measured, as soon as it is."""
        default = default_subject().name
        for way in ways:
            if way.missing:
                yield Row(way, random=way.preset != default, reason=way.missing)
        here = [way for way in ways if not way.missing]
        for number, way in enumerate(here):
            row = Row(way, random=way.preset != default)
            left = self._end - self._clock()
            if left <= 1:
                row.reason = f"not measured: the {self._minutes:g} minutes were over"
            else:
                shares = sum(COMPILING_WEIGHT if other.compiles else WEIGHT for other in here[number:])
                share = left * (COMPILING_WEIGHT if way.compiles else WEIGHT) / shares
                self._measure(row, share, min(left, max(share, COMPILING_FLOOR if way.compiles else FLOOR)))
            yield row

    def _measure(self, row: Row, share: float, limit: float) -> None:
        """Fill the row, as far as it gets in `limit` seconds; each call is timed for a part of
        `share`.
        """
        way, end = row.way, self._clock() + limit
        seconds = min(MOST_SECONDS, max(LEAST_SECONDS, share / (2 * (3 + len(self._batches)))))

        def ask(method: str, **arguments: Any) -> Any:
            left = end - self._clock()
            if left <= 0:
                raise WorkerError("its share of the time was over")
            return self._worker(way).within(left, method, **arguments)

        try:
            path = self._path(way, ask)
            names = {"preset": way.preset, "precision": way.precision, "mode": way.mode, "device": way.device}
            started = ask("load", engine=way.engine, path=path, **names)
            row.provider, row.start_s = started["provider"], started["start_s"]
            row.ms = ask("times", seconds=seconds)
            row.device_ms = ask("device")
            judged = self._quality(ask, names)
            row.gate, row.psnr = judged["gate"], judged["psnr"]
            if ask("can_batch"):
                for batch in self._batches:
                    if _expected_ms(row, batch) > LONGEST_BATCH_MS:
                        break
                    if way.compiles and batch != COMPILED_BATCH:
                        continue
                    row.batches[batch] = ask("people", batch=batch, seconds=seconds)
            row.memory_mb = ask("memory")
        except UserError as error:
            row.reason = str(error)
        except WorkerError as error:
            row.reason = first_line(error)
            self._give_up(way)

    def _quality(self, ask: Callable, names: dict) -> dict:
        """The gate's verdict. Without what draws a reference there is none."""
        try:
            return ask("quality", **names)
        except UserError as error:
            return {"gate": f"not judged: {error}", "psnr": None}

    def _path(self, way: Way, ask: Callable) -> str | None:
        """What the engine runs: the default model's own files, or what is made of a preset."""
        subject = default_subject()
        kind = ENGINES[way.engine]
        if way.preset == subject.name:
            path = subject.path_for(way.engine)
            if path is None:
                raise UserError("The default model's weights are not part of this installation.")
            return str(path)
        if way.engine == "torch":
            return None
        if (way.preset, kind) not in self._made:
            method = "export" if kind == "bundle" else "save"
            folder = Path(self._folder.name) / f"{way.preset}-{kind}"
            folder.mkdir(exist_ok=True)
            try:
                self._made[way.preset, kind] = ask(method, preset=way.preset, folder=str(folder))
            except LivePuppetError as error:
                self._made[way.preset, kind] = error
        made = self._made[way.preset, kind]
        if isinstance(made, LivePuppetError):
            raise made
        return made

    def _worker(self, way: Way) -> Worker:
        package = PACKAGES[way.engine]
        if package not in self._workers:
            self._workers[package] = Worker(
                "livepuppet.benchmarks.everything:Trial", package=package, threads=self._threads
            )
        return self._workers[package]

    def _give_up(self, way: Way) -> None:
        """End the process: after an error on a card, nothing in it can be trusted."""
        worker = self._workers.pop(PACKAGES[way.engine], None)
        if worker is not None:
            worker.close()


def _expected_ms(row: Row, batch: int) -> float:
    """Milliseconds of a batch, if people take as long as in the last one that was measured; cards
    take them in at next to nothing at first, so half of it.
    """
    last = max(row.batches, default=1)
    before = row.batches[last]["ms"] if row.batches else row.ms["frame"]
    return 0.5 * before["median"] * batch / last


def heading(batches: Sequence[int] = BATCHES) -> list[str]:
    """The first lines of the Markdown table."""
    people = "".join(f" FPS of {batch} people (p95 ms) |" for batch in batches)
    return [
        "| model | engine | precision | quality gate | first picture s | detect ms | render ms | frame ms (p95) | "
        f"FPS | card alone ms |{people}",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|" + "--:|" * len(batches),
    ]


def line(row: Row, batches: Sequence[int] = BATCHES) -> str:
    """A row of it."""
    way = row.way
    name = f"{way.preset} (random weights)" if row.random else way.preset
    engine = ", ".join(part for part in (way.engine, way.device, way.mode) if part)
    cells = [name, engine, way.precision]
    reason = (row.reason or "").replace("|", "/").replace("\n", " ")
    if "frame" not in row.ms:
        return f"| {' | '.join([*cells, reason])} |" + " |" * (6 + len(batches))
    judged = row.gate.partition(":")[0] if row.gate.startswith("random") else row.gate.replace("|", "/")
    if row.psnr is not None:
        judged += f" ({row.psnr:.0f} dB)"
    frame = row.ms["frame"]
    cells += [
        f"{judged}; {reason}" if reason else judged,
        "-" if row.start_s is None else f"{row.start_s:.2f}",
        *(_ms(row.ms[call]["median"]) for call in ("detect", "render")),
        f"{_ms(frame['median'])} ({_ms(frame['p95'])})",
        _rate(1000 / frame["median"]),
        _ms(row.device_ms["median"]) if row.device_ms else "-",
    ]
    for batch in batches:
        found = row.batches.get(batch)
        if found is None:
            cells.append("-")
            continue
        alone = f", card alone {_rate(found['device_fps'])}" if "device_fps" in found else ""
        cells.append(f"{_rate(found['fps'])} ({_ms(found['ms']['p95'])}){alone}")
    return f"| {' | '.join(cells)} |"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}"


def best_lines(rows: Sequence[Row]) -> list[str]:
    """Per preset and device, a sentence of each: the fastest frame, and the most frames per second,
    of what the gate lets through.
    """
    told = []
    good = [row for row in rows if "frame" in row.ms and not row.gate.startswith("refused")]
    for preset, device in dict.fromkeys((row.way.preset, row.way.device) for row in good):
        own = [row for row in good if (row.way.preset, row.way.device) == (preset, device)]
        fastest = min(own, key=lambda row: row.ms["frame"]["median"])
        told.append(
            f"{preset} on {device}: {_ms(fastest.ms['frame']['median'])} ms per frame from memory to memory "
            f"({_named(fastest)})"
        )
        alone = [row for row in own if row.device_ms]
        if alone:
            least = min(alone, key=lambda row: row.device_ms["median"])
            told[-1] += f", {least.device_ms['median']:.3f} ms on the card alone ({_named(least)})"
        for key, words in (("fps", "from memory to memory"), ("device_fps", "on the card alone")):
            many = [(one[key], batch, row) for row in own for batch, one in row.batches.items() if key in one]
            if many:
                rate, batch, row = max(many, key=lambda one: one[0])
                told[-1] += f"; {_rate(rate)} frames per second of {batch} people {words} ({_named(row)})"
        told[-1] += "."
    return told


def _named(row: Row) -> str:
    return " ".join(part for part in (row.way.engine, row.way.precision, row.way.mode) if part)


def document(machine: str, rows: Sequence[Row], minutes: float) -> str:
    """The Markdown for the docs: machine, table, the best of it, and what is missing here."""
    measured = [row for row in rows if not row.way.missing]
    lines = [f"> {machine}", "", f"`livepuppet bench everything --minutes {minutes:g}`", ""]
    lines += [*heading(), *(line(row) for row in sorted(measured, key=_order)), ""]
    lines += [
        "A frame is `detect`, motion transfer and `render` of one person, from host memory to host memory; *card alone* is "
        "the two networks without copies. *First picture* is without importing packages. Random weights are as fast as "
        "trained ones, and no gate can judge them; their dB are beside float32 PyTorch on the processor.",
        "",
        *(f"* {text}" for text in best_lines(rows)),
    ]
    missing = dict.fromkeys(
        f"* {row.way.engine} on {row.way.device}, {row.way.precision}: {row.way.missing}"
        for row in rows
        if row.way.missing
    )
    if missing:
        lines += ["", "Not here:", "", *missing]
    return "\n".join(lines) + "\n"


def _order(row: Row) -> tuple:
    way = row.way
    return _place(way.preset), way.device, way.engine, row.ms["frame"]["median"] if row.ms else float("inf")
