"""What was aimed at, and what the measured files say was reached."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from livepuppet.core.errors import UserError

#: A measured value, and the words that say how it came about.
Found = tuple[float, str]


@dataclass(frozen=True)
class Aim:
    """One line of the table.

    Attributes:
        where: kind of machine.
        preset: model; empty for any.
        what: is measured.
        value: to reach.
        unit: of it.
        least: whether `value` is the least that counts as reached (frames per second), not the most (milliseconds).
        find: all values in one file, which is a dictionary as the commands write it.
    """

    where: str
    preset: str
    what: str
    value: float
    unit: str
    least: bool
    find: Callable[[dict], Iterator[Found]]


def _rows(facts: dict, command: str) -> list[dict]:
    """Good rows of a file that `livepuppet bench COMMAND` wrote."""
    if facts.get("command") != command:
        return []
    return [row for row in facts["rows"] if not row.get("error")]


def _cores(facts: dict, count: int) -> bool:
    return facts["machine"].get("cores") == count


def _how(row: dict) -> str:
    return f"{row['engine']} {row['device']} {row['precision']}"


def _live_fps(engine: str | None = None) -> Callable[[dict], Iterator[Found]]:
    def find(facts: dict) -> Iterator[Found]:
        for row in _rows(facts, "live"):
            alone = row["rate"] is None and not row["busy"] and row["size"] == "1280x720"
            ours = row["model"] == "lite-256" and row["device"] == "cpu" and engine in (None, row["engine"])
            if alone and ours and _cores(facts, 2):
                yield row["fps"], _how(row)

    return find


def _live_p95_beside_a_busy_core(facts: dict) -> Iterator[Found]:
    for row in _rows(facts, "live"):
        ours = row["model"] == "lite-256" and row["device"] == "cpu" and _cores(facts, 2)
        if ours and row["busy"] and row["rate"] == 30:
            yield row["delay_ms"]["p95"], f"{_how(row)}, {row['fps']:.1f} FPS"


def _frames(
    preset: str, key: str, gpu: str | None = None, cores: int | None = None
) -> Callable[[dict], Iterator[Found]]:
    """Of `bench model` at batch 1: `fps`, `ms` per frame, or `ratio`."""

    def find(facts: dict) -> Iterator[Found]:
        for row in _rows(facts, "model"):
            if row["model"] != preset or row["plain"] or row["batch"] != 1 or not _on(facts, row, gpu, cores):
                continue
            value = row["ms"]["frame"]["median"] if key == "ms" else row[key]
            if value is not None:
                yield value, _how(row)

    return find


def _on(facts: dict, row: dict, gpu: str | None, cores: int | None) -> bool:
    if gpu is not None:
        named = any(gpu in card for card in facts["machine"].get("gpus", ()))
        return named and row["device"].split(":")[0] in ("cuda", "tensorrt")
    return row["device"] == "cpu" and (cores is None or _cores(facts, cores))


def _batched_fps(facts: dict) -> Iterator[Found]:
    for row in _rows(facts, "streams"):
        if row["model"] == "lite-256" and _on(facts, row, "H200", None):
            yield row["fps"], f"{_how(row)}, batch {row['batch']}, {row['streams']} people"


def _start(facts: dict) -> Iterator[Found]:
    for row in _rows(facts, "startup"):
        # On the processor, and with nothing but the command's own doing counted: see `startup`.
        if row.get("device", "cpu") == "cpu":
            warm = row["warm"]
            names = list(warm["phases"])
            until = names.index("first picture") + 1 if "first picture" in names else 0
            at_rest = sum(list(warm["phases"].values())[:until])
            how = f"{row['engine']}, to the first animated picture"
            yield warm["total"], how + (f" (to the first at all: {at_rest:.2f} s)" if at_rest else "")


def _memory(facts: dict) -> Iterator[Found]:
    runs = [row for row in _rows(facts, "live") if row["device"] == "cpu" and row["memory_mb"]]
    if runs:
        # Every one of them has to keep to it.
        worst = max(runs, key=lambda row: row["memory_mb"])
        yield worst["memory_mb"], f"{_how(worst)}, the most of {len(runs)} runs"


CPU, H200 = "2 CPU cores", "H200"
AIMS = (
    Aim(CPU, "lite-256", "end to end at 720p, best engine", 60, "FPS", True, _live_fps()),
    Aim(CPU, "lite-256", "end to end at 720p, plain onnxruntime", 30, "FPS", True, _live_fps("onnx")),
    Aim(CPU, "lite-256", "p95 with one core busy elsewhere", 33, "ms", False, _live_p95_beside_a_busy_core),
    Aim(
        CPU, "fomm-256", "frames per second, best engine", 8, "FPS", True, _frames("fomm-256", "fps", cores=2)
    ),
    Aim(H200, "fomm-256", "per frame at batch 1", 0.6, "ms", False, _frames("fomm-256", "ms", "H200")),
    Aim(
        H200, "fomm-256", "times the plain float32 path", 10, "×", True, _frames("fomm-256", "ratio", "H200")
    ),
    Aim(H200, "lite-256", "per frame at batch 1", 0.25, "ms", False, _frames("lite-256", "ms", "H200")),
    Aim(H200, "lite-256", "frames per second, batched", 10_000, "FPS", True, _batched_fps),
    Aim("anywhere", "", "start to first frame, CPU, cached engine", 1.5, "s", False, _start),
    Aim("anywhere", "", "peak memory of a live CPU run", 400, "MB", False, _memory),
)


def read(path: Path) -> dict:
    """A file that a command of `livepuppet bench` wrote with --json. Raises UserError if it is something else."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not {"command", "machine", "rows"} <= set(facts):
        raise UserError(
            f"{path} is no file of 'livepuppet bench model', live, startup or streams: write one with --json."
        )
    return facts


def best(aim: Aim, files: Sequence[dict]) -> tuple[Found, dict] | None:
    """The value that comes nearest to the aim or goes farthest beyond it, and the machine; None if nobody measured it."""
    found = [(one, facts["machine"]) for facts in files for one in aim.find(facts)]
    choose = max if aim.least else min
    return choose(found, key=lambda one: one[0][0], default=None)


def distance(aim: Aim, value: float) -> str:
    """Of a value from the aim, in words."""
    if value >= aim.value if aim.least else value <= aim.value:
        return "reached"
    share = value / aim.value if aim.least else aim.value / value
    return f"{100 * share:.0f}% of the way, {1 / share:.2f}× missing"


def table(files: Sequence[dict]) -> list[str]:
    """Markdown: the aims, what was reached, how, where, and the distance."""
    lines = ["| where | preset | aim | reached | by | on | distance |", "|---|---|---|--:|---|---|---|"]
    for aim in AIMS:
        head = f"| {aim.where} | {aim.preset} | {aim.what}: {'at least' if aim.least else 'at most'} {aim.value:,g} {aim.unit} |"
        one = best(aim, files)
        if one is None:
            lines.append(f"{head} not measured | | | |")
            continue
        (value, how), machine = one
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        lines.append(
            f"{head} {value:,.{digits}f} {aim.unit} | {how} | {_short(machine)} | {distance(aim, value)} |"
        )
    return lines


def _short(machine: dict) -> str:
    cards = machine.get("gpus") or []
    widest = next((flag for flag in ("amx_bf16", "avx512f", "avx2") if flag in machine.get("flags", ())), "")
    return ", ".join([f"{machine['processor']} {widest}".strip(), f"{machine['cores']} cores", *cards])
