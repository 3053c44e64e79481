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
from livepuppet.core.numbers import quoted

BUNDLE_FORMAT = "livepuppet-bundle"
BUNDLE_VERSION = 1

#: Bytes of the largest `bundle.json` that is read; ours have 10000.
LARGEST_FILE = 1 << 20

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
        with open(folder / BUNDLE_FILE, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise ValueError("too large")
        metadata = json.loads(data.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no bundle.json, so it is not a model bundle; make one with 'livepuppet export'."
        ) from None
    except OSError as error:
        raise UserError(f"{folder / 'bundle.json'} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError):
        raise UserError(f"{folder / 'bundle.json'} is damaged; {again}.") from None
    if not isinstance(metadata, dict) or metadata.get("format") != BUNDLE_FORMAT:
        raise UserError(f"{folder} belongs to another program; make a bundle with 'livepuppet export'.")
    version = metadata.get("version")
    if version != BUNDLE_VERSION:
        raise UserError(
            f"{folder} is a bundle of version {quoted(version)}, and this livepuppet reads version {BUNDLE_VERSION}; "
            "update livepuppet or export the bundle again."
        )
    try:
        graphs = _checked(metadata)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder / 'bundle.json'} is incomplete; {again}.") from None
    if metadata.get("matrices", "jacobian") not in get_args(Matrices):
        raise UserError(
            f"{folder} has keypoints of a kind that this livepuppet does not know; update livepuppet or export the bundle again."
        )
    for file, checksum in graphs.values():
        check_file(folder / file, checksum)
    return metadata


def _checked(metadata: dict) -> dict[str, tuple[str, str]]:
    """File and SHA-256 of each stage, once everything that will be looked up has been found there and
    of the right type. Raises LookupError, TypeError, ValueError or AttributeError.
    """
    size, count, names = metadata["size"], metadata["num_keypoints"], metadata["keypoint_names"]
    if type(size) is not int or type(count) is not int or not (8 <= size <= 4096 and 1 <= count <= 4096):
        raise ValueError("size or number of keypoints")
    if not isinstance(names, list) or len(names) not in (0, count):
        raise ValueError("names of keypoints")
    texts = [metadata["preset"]["name"], *names, *(feature["name"] for feature in metadata["features"])]
    entries = [metadata["graphs"][stage] for stage in STAGES]
    for variant in metadata.get("variants", {}).values():
        entries += [variant[stage] for stage in STAGES]
    if metadata.get("reference"):
        entries.append(metadata["reference"])
    for entry in entries:
        texts += [entry["file"], entry["sha256"]]
        if os.path.basename(entry["file"]) != entry["file"] or "\0" in entry["file"]:
            raise ValueError("a file elsewhere")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("texts")
    return {
        stage: (metadata["graphs"][stage]["file"], metadata["graphs"][stage]["sha256"]) for stage in STAGES
    }


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
