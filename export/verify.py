"""Does every engine that this machine has draw what float32 PyTorch draws?

Engines and thresholds are the live path's own (`realtime/engines`), so this is a part of the
command, not of the library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from livepuppet.core.bundle import check_file, reference_of
from livepuppet.core.engine import Engine, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.core.reference import THRESHOLDS, Quality, Reference, compare
from livepuppet.export.graphs import ExportError, check_graph
from livepuppet.export.reference import draw
from livepuppet.export.variants import Verdict
from livepuppet.model.checkpoint import load
from livepuppet.realtime.engines import OnnxEngine, load_engine, offers, read_bundle
from livepuppet.realtime.engines.quality_gate import remember


@dataclass(frozen=True)
class Row:
    """What became of one engine, device and precision.

    Attributes:
        way: `onnx cpu float32`.
        precision: the last of these.
        verdict: PASS, REFUSED, or "not here".
        quality: None where nothing was drawn.
        reasons: what is off, or what lacks.
    """

    way: str
    precision: Precision
    verdict: str
    quality: Quality | None
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """For JSON: numbers as they are, an infinite PSNR as null."""
        quality = asdict(self.quality) if self.quality else None
        if quality and not np.isfinite(quality["psnr"]):
            quality["psnr"] = None
        return {"engine": self.way, "verdict": self.verdict, "quality": quality, "reasons": self.reasons}


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        against: what engines were compared with.
        pictures: how many were drawn by each.
        rows: one per engine, device and precision.
        graphs: what is wrong with the graphs themselves, as sentences.
    """

    against: str
    pictures: int
    rows: tuple[Row, ...]
    graphs: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.graphs) or any(row.verdict == "REFUSED" for row in self.rows)

    def to_dict(self) -> dict:
        """For JSON, with the thresholds."""
        return {
            "against": self.against,
            "pictures": self.pictures,
            "graphs": self.graphs,
            "rows": [row.to_dict() for row in self.rows],
            "thresholds": {precision: asdict(allowed) for precision, allowed in THRESHOLDS.items()},
        }

    def to_markdown(self) -> str:
        """Tables of what passes and what does not, then one line per reason for which others are
        not here.
        """
        lines = [
            f"Against {self.against}, the worst of {self.pictures} pictures (in brackets what passes):",
            "",
            "| engine | keypoints | Jacobians | largest | mean | PSNR | |",
            "|---|---|---|---|---|---|---|",
        ]
        lacking: dict[str, list[str]] = {}
        for row in self.rows:
            if row.verdict == "not here":
                lacking.setdefault(row.reasons[0], []).append(row.way)
                continue
            cells = [row.way]
            allowed = THRESHOLDS[row.precision]
            for name, digits in (
                ("keypoints", "{:.1e}"),
                ("matrices", "{:.1e}"),
                ("pixels_max", "{:.0f}"),
                ("pixels_mean", "{:.4f}"),
                ("psnr", "{:.1f} dB"),
            ):
                found = digits.format(getattr(row.quality, name)) if row.quality else "-"
                cells.append(f"{found} ({getattr(allowed, name):g})")
            lines.append(f"| {' | '.join([*cells, row.verdict])} |")
        refused = [f"- {row.way}: {'; '.join(row.reasons)}" for row in self.rows if row.verdict == "REFUSED"]
        refused += [f"- {sentence}" for sentence in self.graphs]
        if refused:
            lines += ["", "Refused:", "", *refused]
        if lacking:
            lines += ["", "Not here:", ""]
            lines += [f"- {', '.join(ways)}: {reason}" for reason, ways in lacking.items()]
        return "\n".join(lines)


def verify(
    bundle: Path,
    weights: Path | None,
    sets: Sequence[Sequence[np.ndarray]],
    notify: Callable[[str], None] = lambda sentence: None,
) -> Report:
    """Compare every engine, device and precision that is here, and have the gate remember what was
    found.

    Args:
        bundle: folder that `livepuppet export` wrote.
        weights: that it was exported from; by default a .safetensors file in the folder whose
            checksum is the bundle's. Where there is none, engines are compared with the bundle's
            own reference, and those that run weights are left out.
        sets: pictures to draw, each an avatar and frames of one clip, RGB uint8 (S, S, 3); used
            with weights only.
        notify: told of the progress.

    Raises:
        UserError: the folder is no bundle, or has neither weights nor a reference.
    """
    metadata = read_bundle(bundle)
    stored = reference_of(bundle, metadata)
    weights = weights or _weights_of(bundle, metadata)
    if weights:
        model, references = load(weights).eval(), []
        for index, (avatar, *frames) in enumerate(sets):
            notify(f"PyTorch draws set {index + 1} of {len(sets)}")
            references.append(draw(model, avatar, frames))
        against = f"float32 PyTorch with {weights.name}"
    elif stored:
        check_file(*stored)
        references = [Reference.load(stored[0])]
        against = "what float32 PyTorch drew at export (the weights are not here)"
    else:
        raise UserError(
            f"{bundle} was exported by an older livepuppet and the weights are not beside it, so there is nothing to compare "
            "with; export it again, or put the .safetensors file into the folder."
        )
    rows = []
    for model, offer in [
        *((bundle, offer) for offer in offers(bundle)),
        *((weights, offer) for offer in (offers(weights) if weights else ())),
    ]:
        way = f"{offer.name} {offer.device} {offer.precision}"
        if offer.missing:
            rows.append(Row(way, offer.precision, "not here", None, (offer.missing,)))
            continue
        notify(f"{way} draws")
        rows.append(_examine(way, model, offer, references, stored))
    return Report(
        against,
        sum(len(reference.drawn) for reference in references),
        tuple(rows),
        _wrong_graphs(bundle, metadata),
    )


def judge(folder: Path, precision: Precision, references: Sequence[Reference]) -> Verdict:
    """What the gate says of a variant of an unfinished bundle, run by onnxruntime on the processor."""
    try:
        engine = OnnxEngine(folder, precision=precision)
        quality = _worst(engine, references)
    except Exception as error:  # of the runtime, whose exceptions share no base class
        return Verdict([_first_line(error)], -np.inf)
    allowed = THRESHOLDS[precision]
    return Verdict(quality.failures(allowed), quality.psnr - allowed.psnr)


def _examine(way: str, model: Path, offer, references: list[Reference], stored) -> Row:
    try:
        engine = load_engine(offer.name, model, device=offer.device, precision=offer.precision, gate=False)
        quality = _worst(engine, references)
    except Exception as error:  # of the engine's runtime, whose exceptions share no base class
        return Row(way, offer.precision, "REFUSED", None, (_first_line(error),))
    if stored:
        remember(engine, stored[1], quality)
    failures = quality.failures(THRESHOLDS[engine.precision])
    return Row(way, offer.precision, "REFUSED" if failures else "PASS", quality, tuple(failures))


def _worst(engine: Engine, references: Sequence[Reference]) -> Quality:
    first, *others = (compare(engine, reference) for reference in references)
    for other in others:
        first = first.with_worse(other)
    return first


def _wrong_graphs(bundle: Path, metadata: dict) -> tuple[str, ...]:
    """Sentences on graphs, variants included, that runtimes are known to read differently."""
    entries = [*metadata["graphs"].values()]
    for variant in metadata.get("variants", {}).values():
        entries += variant.values()
    found = []
    for name in sorted({entry["file"] for entry in entries}):
        try:
            check_graph(onnx.load(bundle / name), name)
        except ExportError as error:
            found.append(str(error))
    return tuple(found)


def _weights_of(bundle: Path, metadata: dict) -> Path | None:
    for path in sorted(bundle.glob("*.safetensors")):
        if sha256(path) == metadata.get("weights_sha256"):
            return path
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
