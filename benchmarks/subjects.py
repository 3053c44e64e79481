"""What is measured: a model as a bundle, as weights, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from livepuppet.benchmarks.work import Work, of_call, of_graph
from livepuppet.core.errors import UserError
from livepuppet.realtime import bundled
from livepuppet.realtime.engines import ENGINES, STAGES, Offer, offers, read_bundle

#: Of presets whose weights are made up: speed does not depend on what the numbers are.
SEED = 0


@dataclass(frozen=True)
class Subject:
    """One model to measure.

    Attributes:
        name: the preset's.
        bundle: its graphs; None where there are only weights.
        weights: its .safetensors; None where there are only graphs.
        random: whether nobody trained it.
    """

    name: str
    bundle: Path | None
    weights: Path | None
    random: bool = False

    def path_for(self, engine: str) -> Path | None:
        """What that engine runs; None where there is no such form of the model."""
        return self.bundle if ENGINES[engine] == "bundle" else self.weights

    def offers(self) -> list[Offer]:
        """Every way to run it, with what this machine lacks."""
        found = offers(self.bundle) if self.bundle else []
        if self.weights:
            found += [offer for offer in offers(self.weights) if ENGINES[offer.name] == "weights"]
        return found


def default_subject() -> Subject:
    """The bundled model."""
    weights = bundled.MODEL / f"{bundled.MODEL.name}.safetensors"
    return Subject(_name_of(bundled.MODEL), bundled.MODEL, weights if weights.exists() else None)


def subject_of_path(path: Path, folder: Path | None) -> Subject:
    """A bundle, with the weights that lie in it; or weights, with a bundle that is made of them.

    Args:
        folder: for that bundle; None makes none.

    Raises:
        UserError: it is neither.
    """
    if path.suffix != ".safetensors":
        beside = sorted(path.glob("*.safetensors")) if path.is_dir() else []
        return Subject(_name_of(path), path, beside[0] if len(beside) == 1 else None)
    _needs("export", "torch", "safetensors", *(("onnx", "onnxscript") if folder else ()))
    from livepuppet.model.checkpoint import CheckpointError, load

    try:
        model = load(path)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    if folder is None:
        return Subject(model.preset.name, None, path)
    from livepuppet.export.bundle import export_bundle

    export_bundle(model, folder / "bundle", path)
    return Subject(model.preset.name, folder / "bundle", path)


def subject_of_preset(name: str, folder: Path, bundle: bool = True) -> Subject:
    """A preset with random weights, written into `folder`; the default model itself for its own
    preset.

    Args:
        bundle: also export it.

    Raises:
        UserError: there is no such preset, or what makes it is not installed.
    """
    default = default_subject()
    if name == default.name:
        return default
    _needs("export", "torch", "safetensors", *(("onnx", "onnxscript") if bundle else ()))
    import torch

    from livepuppet.model.checkpoint import save
    from livepuppet.model.presets import PRESETS, build

    if name not in PRESETS:
        raise UserError(f"There is no preset '{name}': choose among {', '.join(PRESETS)}.")
    torch.manual_seed(SEED)
    model = build(name).eval()
    weights = folder / f"{name}.safetensors"
    save(model, weights)
    if not bundle:
        return Subject(name, None, weights, random=True)
    from livepuppet.export.bundle import export_bundle

    export_bundle(model, folder / name, weights)
    return Subject(name, folder / name, weights, random=True)


def work_of(subject: Subject, engine: str) -> dict[str, Work]:
    """What each of the three calls computes in that engine; empty where the package that counts it
    is missing.

    Graphs may compute less than the readable network does: `livepuppet bench savings` tells.
    """
    try:
        if ENGINES[engine] == "bundle":
            assert subject.bundle is not None
            graphs = read_bundle(subject.bundle)["graphs"]
            return {stage: of_graph(subject.bundle / graphs[stage]["file"]) for stage in STAGES}
        assert subject.weights is not None
        return _work_of_weights(subject.weights)
    except ModuleNotFoundError:
        return {}


def _work_of_weights(path: Path) -> dict[str, Work]:
    import torch

    from livepuppet.model.checkpoint import load

    model = load(path)
    picture = torch.zeros(1, 3, model.preset.size, model.preset.size)
    with torch.no_grad():
        features, keypoints = model.encode(picture), model.detect_with_confidence(picture)[:2]
    return {
        "detect": of_call(lambda: model.detect_with_confidence(picture)),
        "encode": of_call(lambda: model.encode(picture)),
        "render": of_call(lambda: model.render(features, *keypoints, *keypoints)),
    }


def _name_of(bundle: Path) -> str:
    return read_bundle(bundle)["preset"]["name"]


def _needs(extra: str, *packages: str) -> None:
    import importlib.util

    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"Measuring a model that is no bundle needs the package '{package}': pip install 'livepuppet[{extra}]'."
            )
