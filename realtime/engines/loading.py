"""From what people ask for to the engine that runs it."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from livepuppet.core.bundle import read_bundle, reference_of, variants_of
from livepuppet.core.engine import (
    ENGINES,
    PRECISIONS,
    BrokenEngine,
    Engine,
    Precision,
    first_line,
)
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256
from livepuppet.core.names import local_path
from livepuppet.core.numbers import checked_number
from livepuppet.core.packages import import_sentence
from livepuppet.realtime.bundled import MODEL
from livepuppet.realtime.engines import failures, onnx, openvino, selection
from livepuppet.realtime.engines.quality_gate import check_engine, draw_once

logger = logging.getLogger(__name__)


#: Of the processor, that may be asked for.
MOST_THREADS = 1024


def load_engine(
    name: str | None = None,
    model: str | os.PathLike | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    gate: bool = True,
    use: selection.Use = "frame",
) -> Engine:
    """The engine that people asked for, with the model that they asked for.

    Nothing that was asked for is exchanged for something else. Only what nobody asked for is
    chosen. Of a bundle, the fastest of the engines, devices and precisions that draw right: timed
    once per machine, model and version, see `selection`. Of weights, a graphics card where PyTorch
    has one, and 16 bits where the device computes in them and the picture comes out right. An
    engine that draws wrong is a line in the log, and left out at the next start.

    Args:
        name: a key of `ENGINES`; None for the fastest that works.
        model: a bundle (folder), or weights (.safetensors) for `torch` and `tensorrt`; None is the
            default model.
        threads: of the CPU; all that are worth it by default.
        device: `cpu`, `cuda`, ...; the engine's own first choice by default.
        precision: of `PRECISIONS`; the engine's own first choice by default.
        gate: compare with what float32 PyTorch draws, the first time on this machine; see `gate`.
            Without it nothing is timed, and the first of `choices` runs.
        use: what will run per frame: all of the model, or `detect` alone where a rig draws.

    Raises:
        BrokenEngine: it raises, or draws something else than it should.
        UserError: what was asked for does not go together, is not there, or cannot be read.
    """
    if name is not None and name not in ENGINES:
        raise UserError(f"There is no engine called '{name}'; use {', '.join(ENGINES)}.")
    if precision is not None and precision not in PRECISIONS:
        raise UserError(f"There is no precision called '{precision}'; use {', '.join(PRECISIONS)}.")
    if threads is not None:
        threads = checked_number("threads", threads, 1, MOST_THREADS, whole=True)
    path = _path(name, model)
    weights = path.suffix == ".safetensors"
    if name is None and gate and not weights and selection.enabled():
        fastest = _fastest(path, threads, device, precision, use)
        if fastest is not None:
            return fastest
    if name is None:
        return _first_that_works(choices(weights, device), path, threads, device, precision, gate)
    if ENGINES[name] == "bundle" and weights:
        raise UserError(
            f"{path} holds weights, which the {name} engine cannot run; turn them into a bundle with "
            f"'livepuppet export {path} --output BUNDLE', or use --engine torch."
        )
    if ENGINES[name] == "weights" and path.is_dir():
        raise UserError(
            f"{path} is a folder, and the {name} engine runs weights; give the .safetensors file that the bundle was "
            "exported from, or use --engine onnx."
        )
    engine = _load(name, path, threads, device, precision, gate)
    engine.reason = "as asked for"
    if gate:
        failures.forget(_asked(name, device, precision), path)
    return engine


def choices(weights: bool = False, device: str | None = None) -> tuple[str, ...]:
    """The engines that are tried when none is asked for, the first first.

    onnxruntime before OpenVINO: it comes with every installation, so it is what most people run,
    and in float32 it was the faster of the two on the processors that we measured (AMD's; in int8
    it was not, and Intel's were not measured).

    Args:
        weights: the model is weights, not a bundle.
        device: that was asked for.
    """
    if weights:
        return ("torch",)
    if device in openvino.DEVICES and device not in onnx.PROVIDERS:
        return ("openvino",)
    installed = importlib.util.find_spec("openvino") is not None
    return ("onnx", "openvino") if installed and device in (None, "cpu") else ("onnx",)


def _first_that_works(
    names: Sequence[str],
    path: Path,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
    gate: bool,
) -> Engine:
    """The first engine that loads and draws right. Those that failed before come last: better a
    second try than none.
    """
    asked = {name: _asked(name, device, precision) for name in names}
    before = {name: failures.reason_of(asked[name], path) for name in names}
    failed: dict[str, UserError] = {}
    for name in sorted(names, key=lambda name: before[name] is not None):
        try:
            engine = _load(name, path, threads, device, precision, gate)
        except BrokenEngine as error:
            failed[name] = error
            if len(names) > 1:
                failures.remember(asked[name], path, str(error))
                logger.warning("The engine %s is left out: %s", name, error)
        except UserError as error:  # it lacks what was asked for
            failed[name] = error
        else:
            for other in (other for other in names if other not in failed and before[other]):
                logger.info("The engine %s is left out, as it failed before: %s", other, before[other])
            engine.reason = "the first that works"
            return engine
    raise failed[names[0]]


def _fastest(
    path: Path, threads: int | None, device: str | None, precision: Precision | None, use: selection.Use
) -> Engine | None:
    """The fastest engine that draws right, timed now or by an earlier start; None where nothing was
    to be had, or timed, so.
    """
    try:
        metadata = read_bundle(path)
        inputs = selection.inputs_of(path, device, precision, threads)
    except OSError:
        return None
    if "nose tip" not in metadata["keypoint_names"]:
        use = "frame"  # no rig takes such keypoints
    timings = _still_true(inputs, path)
    if timings is None:
        with selection.alone(inputs) as undisturbed:
            timings = _still_true(inputs, path)  # of the start that was waited for
            if timings is None:
                # Where nothing can be kept, every start would take these seconds.
                return _timed_now(inputs, path, threads, device, precision, use) if undisturbed else None
    return _first_of(timings, inputs, path, threads, use)


def _still_true(inputs: dict, path: Path) -> Sequence[selection.Timing] | None:
    """What an earlier start found, unless an engine that it left out has been mended since."""
    found = selection.kept(inputs)
    if found is None or any(failures.reason_of(_key(way), path) is None for way in found.left_out):
        return None
    return found.timings


def _first_of(
    timings: Sequence[selection.Timing], inputs: dict, path: Path, threads: int | None, use: selection.Use
) -> Engine | None:
    """The best of what was timed that still works. One that fails is left out, and the rest timed
    anew at the next start.
    """
    order = selection.ranking(timings, use)
    for timing in order:
        engine = _left_out_unless_it_works(timing.way, path, threads)
        if engine is not None:
            engine.reason = selection.reason(order, use)
            return engine
        selection.forget(inputs)
    return None


def _timed_now(
    inputs: dict,
    path: Path,
    threads: int | None,
    device: str | None,
    precision: Precision | None,
    use: selection.Use,
) -> Engine | None:
    """Time everything that is here and did not fail before; keep what was found, run the best."""
    crashed = selection.Journal(inputs).crashed()
    if crashed is not None:
        failures.remember(_key(crashed), path, f"The engine {crashed} ended the process.")
    ways = candidates(path, device, precision)
    sound = [way for way in ways if failures.reason_of(_key(way), path) is None]
    if len(sound) > 1:
        logger.warning("Timing %d engines, once on this machine; this takes some seconds.", len(sound))
    pairs = selection.load_and_time(sound, inputs, lambda way: _left_out_unless_it_works(way, path, threads))
    if not pairs:
        return None
    timings = [timing for _, timing in pairs]
    worked = [timing.way for timing in timings]
    failed = [way for way in ways if way not in worked and failures.reason_of(_key(way), path) is not None]
    selection.keep(inputs, timings, failed)
    order = selection.ranking(timings, use)
    best = next(engine for engine, timing in pairs if timing == order[0])
    best.reason = selection.reason(order, use)
    if len(order) > 1:
        logger.warning("%s runs: %s.", order[0].way, best.reason)
    return best


def _left_out_unless_it_works(way: selection.Way, path: Path, threads: int | None) -> Engine | None:
    """The engine; None, and a line in the log, where it fails or its graphs are damaged: the others
    may still work.
    """
    try:
        return _load(way.name, path, threads, way.device, way.precision, gate=True)
    except UserError as error:
        failures.remember(_key(way), path, str(error))
        logger.warning("The engine %s is left out: %s", way, error)
    return None


def _key(way: selection.Way) -> failures.Asked:
    return way.name, way.device, way.precision


def candidates(
    model: str | os.PathLike | None = None, device: str | None = None, precision: str | None = None
) -> list[selection.Way]:
    """Ways to run a bundle that are timed when no engine is asked for, the usual one first.

    onnxruntime's TensorRT compiles for minutes, so it has to be asked for.

    Args:
        model: a bundle; None is the default model.
        device, precision: only these.
    """
    return [
        selection.Way(offer.name, offer.device, offer.precision)
        for offer in offers(MODEL if model is None else model, weights=False)
        if offer.missing is None
        and (offer.device == device or (device is None and offer.device != "tensorrt"))
        and precision in (None, offer.precision)
    ]


def _asked(name: str, device: str | None, precision: Precision | None) -> failures.Asked:
    """The same whether an engine's first choice on processors was asked for or not."""
    return name, device or "cpu", precision or "float32"


def _load(
    name: str, path: Path, threads: int | None, device: str | None, precision: Precision | None, gate: bool
) -> Engine:
    """An engine that passed the gate, or raises BrokenEngine; of a bundle that cannot be read,
    UserError.
    """
    try:
        engine = _make(name, path, threads, device, precision)
    except UserError:
        raise
    except ImportError as error:
        reason = import_sentence(error) or f"The engine {name} cannot be loaded: {first_line(error)}."
        raise BrokenEngine(reason) from error
    except Exception as error:  # of the engine's runtime, whose exceptions share no base class
        raise BrokenEngine(
            f"The engine {name} cannot be started: {first_line(error)}. Use another --engine, or install it again."
        ) from error
    if not gate:
        return engine
    try:
        _pass(engine, path)
    except UserError:
        if precision is not None or engine.precision == "float32":
            raise
        # Nobody asked for 16 bits: where they come out wrong, they were the wrong choice.
        engine = _make(name, path, threads, device, "float32")
        _pass(engine, path)
    return engine


def _path(name: str | None, model: str | os.PathLike | None) -> Path:
    if model is not None:
        return local_path(model, "the model")
    path = (
        MODEL / f"{MODEL.name}.safetensors" if name is not None and ENGINES.get(name) == "weights" else MODEL
    )
    if not path.exists():
        raise UserError(
            f"The default model is missing from this installation ({path}); install livepuppet again."
        )
    return path


def _make(
    name: str, path: Path, threads: int | None, device: str | None, precision: Precision | None
) -> Engine:
    if name == "torch":
        from livepuppet.realtime.engines.pytorch import TorchEngine

        return TorchEngine(path, device=device, threads=threads, precision=precision)
    if name == "tensorrt":
        from livepuppet.realtime.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(path, device=device, precision=precision)
    make: Callable[..., Engine] = {"onnx": onnx.OnnxEngine, "openvino": openvino.OpenVinoEngine}[name]
    return make(path, threads=threads, device=device, precision=precision)


def _pass(engine: Engine, path: Path) -> None:
    """The gate, where the model has a reference: weights have the one of the bundle that they lie
    in.
    """
    if path.is_dir():
        found = reference_of(path, read_bundle(path))
    elif engine.precision == "float32" and engine.device == "cpu":
        return  # this is what all others are compared with
    else:
        found = reference_of(path.parent, _bundle_of(path))
    if found is not None:
        check_engine(engine, *found)
    else:
        draw_once(engine)


def _bundle_of(weights: Path) -> dict:
    """Metadata of the bundle that was exported from these weights and lies around them; none
    otherwise.
    """
    if not (weights.parent / "bundle.json").exists():
        return {}
    metadata = read_bundle(weights.parent)
    return metadata if metadata.get("weights_sha256") == sha256(weights) else {}


@dataclass(frozen=True)
class Offer:
    """One way to run a model on this machine.

    Attributes:
        name, device, precision: see `load_engine`.
        missing: the sentence that says what lacks and how to come by it; None where it can be had.
    """

    name: str
    device: str
    precision: Precision
    missing: str | None


def offers(model: str | os.PathLike | None = None, weights: bool = True) -> list[Offer]:
    """Every engine, device and precision that livepuppet knows, and what each lacks here. Runs none
    of them.

    Args:
        model: a bundle or weights; None is the default model, which is both.
        weights: also engines that run weights, for which PyTorch is imported where it is installed.
    """
    folder = MODEL if model is None else Path(model)
    variants = ("float32", *variants_of(read_bundle(folder))) if folder.is_dir() else ()
    found = []
    if variants:
        for device in onnx.PROVIDERS:
            for precision in ("float32", "float16", "int8"):
                if precision == "float16" and device == "cpu":
                    continue  # onnxruntime casts every value back and forth there
                missing = onnx.unavailable_reason(device) or _no_variant(precision, variants)
                found.append(Offer("onnx", device, precision, missing))
        for device in openvino.DEVICES:
            for precision in ("float32", "float16", "bfloat16", "int8"):
                missing = openvino.unavailable_reason(device, precision)
                if precision == "int8":
                    missing = missing or _no_variant(precision, variants)
                found.append(Offer("openvino", device, precision, missing))
    if weights and (model is None or not folder.is_dir()):
        found += _of_weights()
    return found


def _no_variant(precision: str, variants: tuple[str, ...]) -> str | None:
    if precision in variants:
        return None
    return f"This bundle has no {precision} graphs: make them with 'livepuppet export WEIGHTS --output BUNDLE --{precision}'."


def _of_weights() -> list[Offer]:
    from livepuppet.realtime.engines import pytorch, tensorrt

    return [
        *(
            Offer("torch", device, precision, pytorch.unavailable_reason(device, precision))
            for device, precision in pytorch.CHOICES
        ),
        *(
            Offer("tensorrt", "cuda", precision, tensorrt.unavailable_reason(precision))
            for precision in tensorrt.PRECISIONS
        ),
    ]
