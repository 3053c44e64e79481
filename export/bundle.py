"""A bundle: the folder that runs a model without PyTorch."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from livepuppet.core.bundle import (
    BUNDLE_FILE,
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    REFERENCE_FILE,
    write_bundle_file,
)
from livepuppet.core.engine import STAGES
from livepuppet.core.files import beginning_of, sha256
from livepuppet.export.graphs import OPSET, ExportError, write_graphs
from livepuppet.export.optimise import NOT_IN_FEW_BITS, optimise
from livepuppet.export.parity import Parity, Tolerances, measure, sample_pictures
from livepuppet.export.reference import draw
from livepuppet.export.variants import VARIANTS, Judge, add_float16, add_int8
from livepuppet.model.base import Model


def export_bundle(
    model: Model,
    output: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    tolerances: Tolerances | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    variants: Sequence[str] = (),
    judge: Judge | None = None,
    clips: Sequence[Sequence[np.ndarray]] = (),
    notify: Callable[[str], None] = lambda sentence: None,
) -> Parity:
    """Write a model's bundle and check its pixels. Whatever goes wrong, an existing bundle stays as it was.

    What the model draws is kept in the bundle (`reference.npz`), so that engines can be compared with it where no
    PyTorch is.

    Args:
        model: of `checkpoint.load`; is put into evaluation mode.
        output: folder to create, or an older bundle to replace; other files in it are kept.
        weights: the file that the model came from, whose checksum goes into the bundle.
        tolerances: between PyTorch and onnxruntime; the usual ones by default.
        pictures: for the reference, RGB uint8 (S, S, 3): an avatar, then at least two frames of one clip that differ in
            pose. Seeded noise with ellipses by default, in which a detector of faces finds little.
        variants: of `VARIANTS`, graphs to add.
        judge: says what is wrong with a variant; needed for variants, since the gate is the live path's.
        clips: more sets like `pictures`, by which int8's ranges are measured and variants are judged.
        notify: told of the progress of what takes minutes.

    Returns:
        The differences that were measured.

    Raises:
        ExportError: the output cannot be written, the export failed, or the graphs or a variant do not draw what PyTorch
            draws.
    """
    # Resolved, so that a link stays a link and "." has a name to put a temporary folder beside.
    output = Path(output).resolve()
    _check_output(output)
    model = model.eval()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Beside the output, so that the last step is a rename on one file system.
        building = Path(tempfile.mkdtemp(prefix=beginning_of(output.name), suffix=".part", dir=output.parent))
    except OSError as error:
        raise ExportError(
            f"{output} cannot be written ({error.strerror}); choose another --output."
        ) from error
    try:
        features = write_graphs(optimise(model), building)
        parity = measure(model, building)
        if failures := parity.failures(tolerances or Tolerances()):
            raise ExportError(
                f"The exported graphs do not draw what PyTorch draws: {'; '.join(failures)}; nothing was written."
            )
        avatar, *frames = pictures or sample_pictures(model.preset.size, 4)
        references = [draw(model, avatar, frames)]
        references[0].save(building / REFERENCE_FILE)
        metadata = describe(model, building, features, parity, weights)
        write_bundle_file(building, metadata)
        if variants:
            if judge is None:
                raise TypeError("variants need a judge")
            references += [draw(model, avatar, frames) for avatar, *frames in clips]
            with tempfile.TemporaryDirectory() as sources:
                # Convolutions that few bits suffice for, and that hardware has in few bits.
                plain = optimise(model, without=NOT_IN_FEW_BITS)
                write_graphs(plain, Path(sources), ("detect", "render"))
                if "float16" in variants:
                    add_float16(building, references, judge, Path(sources))
                if "int8" in variants:
                    add_int8(building, references, judge, notify, Path(sources))
        building.chmod(0o755)  # mkdtemp's own mode hides it from everyone else
        _swap(building, output)
    except OSError as error:
        raise ExportError(f"{output} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return parity


def describe(
    model: Model,
    folder: Path,
    features: dict[str, torch.Tensor],
    parity: Parity,
    weights: str | os.PathLike | None,
) -> dict:
    """The content of `bundle.json`."""
    preset = model.preset
    return {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "preset": json.loads(preset.to_json()),
        "size": preset.size,
        "num_keypoints": preset.num_keypoints,
        "keypoint_names": list(preset.keypoint_names),
        # What the graphs call Jacobians may be covariances; without this key they are Jacobians.
        "matrices": preset.matrices,
        "features": [{"name": name, "shape": list(value.shape)} for name, value in features.items()],
        "opset": OPSET,
        "weights_sha256": sha256(weights) if weights else None,
        "graphs": {
            name: {"file": f"{name}.onnx", "sha256": sha256(folder / f"{name}.onnx")} for name in STAGES
        },
        "reference": {"file": REFERENCE_FILE, "sha256": sha256(folder / REFERENCE_FILE)},
        "parity": parity.to_dict(),
        "tools": {
            name: importlib.metadata.version(name)
            for name in ("livepuppet", "torch", "onnx", "onnxscript", "onnxruntime")
        },
    }


def _check_output(output: Path) -> None:
    if output.is_dir():
        if any(output.iterdir()) and not (output / BUNDLE_FILE).exists():
            raise ExportError(
                f"{output} is a folder with other things in it; choose a new or empty --output folder."
            )
    elif output.exists():
        raise ExportError(f"{output} is a file; a bundle is a folder, choose another --output.")


def _swap(building: Path, output: Path) -> None:
    """Put the finished bundle in its place; what else lay there (the weights, say) comes along, but no older graphs."""
    if not output.exists():
        building.rename(output)
        return
    older = {f"{stage}.{name}.onnx" for stage in STAGES for name in VARIANTS}
    for entry in output.iterdir():
        if entry.name not in older and not (building / entry.name).exists():
            copy = shutil.copytree if entry.is_dir() else shutil.copy2
            copy(entry, building / entry.name)
    old = Path(tempfile.mkdtemp(prefix=beginning_of(output.name), suffix=".old", dir=output.parent))
    output.rename(old / output.name)
    try:
        building.rename(output)
    except OSError:
        (old / output.name).rename(output)
        raise
    finally:
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
