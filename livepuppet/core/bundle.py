"""The bundle: the folder that `livepuppet export` writes and that runs a model without PyTorch.

It holds a graph for each of the three calls (`detect.onnx`, `encode.onnx`, `render.onnx`), variants
of them in fewer bits (`render.int8.onnx`), `reference.npz` (see `core.reference`) and
`bundle.json`, which names every file with its SHA-256.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args

from livepuppet.core.engine import STAGES, Precision
from livepuppet.core.errors import UserError
from livepuppet.core.files import sha256, write_atomically
from livepuppet.core.matrices import Matrices

BUNDLE_FORMAT = "livepuppet-bundle"
BUNDLE_VERSION = 1

#: What is in it, and what float32 PyTorch draws.
BUNDLE_FILE, REFERENCE_FILE = "bundle.json", "reference.npz"


def read_bundle(folder: str | os.PathLike) -> dict:
    """The content of a bundle's `bundle.json`, once every graph's checksum has been found right.

    Raises:
        UserError: the folder is no bundle, is damaged, or is of a newer livepuppet.
    """
    folder = Path(folder)
    again = "export or download it again"
    if not folder.exists():
        raise UserError(
            f"There is no model bundle at {folder}; check the path, or leave --model out for the default."
        )
    if not folder.is_dir():
        raise UserError(
            f"{folder} is a file, and a model bundle is a folder that 'livepuppet export' writes."
        )
    try:
        metadata = json.loads((folder / BUNDLE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no bundle.json, so it is not a model bundle; make one with 'livepuppet export'."
        ) from None
    except OSError as error:
        raise UserError(f"{folder / 'bundle.json'} cannot be read ({error.strerror}).") from error
    except ValueError:
        raise UserError(f"{folder / 'bundle.json'} is damaged; {again}.") from None
    if not isinstance(metadata, dict) or metadata.get("format") != BUNDLE_FORMAT:
        raise UserError(f"{folder} belongs to another program; make a bundle with 'livepuppet export'.")
    version = metadata.get("version")
    if version != BUNDLE_VERSION:
        raise UserError(
            f"{folder} is a bundle of version {version}, and this livepuppet reads version {BUNDLE_VERSION}; "
            "update livepuppet or export the bundle again."
        )
    try:
        # Also proves that everything that the engine will look up is there.
        _ = (
            metadata["preset"]["name"],
            metadata["size"],
            metadata["num_keypoints"],
            metadata["keypoint_names"],
        )
        _ = [feature["name"] for feature in metadata["features"]]
        graphs = {
            name: (metadata["graphs"][name]["file"], metadata["graphs"][name]["sha256"]) for name in STAGES
        }
    except (KeyError, TypeError):
        raise UserError(f"{folder / 'bundle.json'} is incomplete; {again}.") from None
    if metadata.get("matrices", "jacobian") not in get_args(Matrices):
        raise UserError(
            f"{folder} has keypoints of a kind that this livepuppet does not know; update livepuppet or export the bundle again."
        )
    for file, checksum in graphs.values():
        check_file(folder / file, checksum)
    return metadata


def write_bundle_file(folder: Path, metadata: dict) -> None:
    """Write `bundle.json`, once the files that it names are there. Raises OSError."""
    write_atomically(folder / BUNDLE_FILE, json.dumps(metadata, indent=2) + "\n")


def check_file(path: Path, checksum: str) -> None:
    """Raises UserError unless the file's SHA-256 is `checksum`."""
    again = "export or download it again"
    try:
        found = sha256(path)
    except OSError as error:
        raise UserError(f"{path} of the model bundle cannot be read ({error.strerror}); {again}.") from error
    if found != checksum:
        raise UserError(f"{path} is not the file that the model bundle was made with; {again}.")


def graphs_of(folder: Path, metadata: dict, variant: Precision = "float32") -> dict[str, Path]:
    """The file of each stage. Graphs of another variant than float32 are there where `livepuppet
    export` was told to.

    Args:
        metadata: of `read_bundle`.
        variant: `float32`, or one of `variants_of`.

    Raises:
        UserError: the bundle has no such graphs, or they are damaged.
    """
    if variant == "float32":
        return {stage: folder / metadata["graphs"][stage]["file"] for stage in STAGES}
    if variant not in variants_of(metadata):
        raise UserError(
            f"The bundle {folder} has no {variant} graphs: make them with 'livepuppet export WEIGHTS --output BUNDLE "
            f"--{variant}', or choose another --precision."
        )
    entries = metadata["variants"][variant]
    for stage in STAGES:
        check_file(folder / entries[stage]["file"], entries[stage]["sha256"])
    return {stage: folder / entries[stage]["file"] for stage in STAGES}


def variants_of(metadata: dict) -> tuple[str, ...]:
    """Which graphs the bundle has beside those in float32: `int8`, `float16`."""
    return tuple(metadata.get("variants", {}))


def reference_of(folder: Path, metadata: dict) -> tuple[Path, str] | None:
    """The file of what float32 PyTorch draws, for the gate, and its SHA-256; None in bundles of an
    older livepuppet.
    """
    entry = metadata.get("reference")
    return (folder / entry["file"], entry["sha256"]) if entry else None
