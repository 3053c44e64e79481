"""Bundles: the folders that `livepuppet export` writes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import get_args

import numpy as np

from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices
from livepuppet.realtime.engines.seam import STAGES, Features, Precision, checked_numbers, checked_picture

BUNDLE_FORMAT = "livepuppet-bundle"
BUNDLE_VERSION = 1

#: Outputs of the graph `detect`, which are the fields of `Keypoints`, and how many axes these have.
DETECTED = {"points": 2, "jacobians": 3, "confidence": 1}


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
        facts = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no bundle.json, so it is not a model bundle; make one with 'livepuppet export'."
        ) from None
    except OSError as error:
        raise UserError(f"{folder / 'bundle.json'} cannot be read ({error.strerror}).") from error
    except ValueError:
        raise UserError(f"{folder / 'bundle.json'} is damaged; {again}.") from None
    if not isinstance(facts, dict) or facts.get("format") != BUNDLE_FORMAT:
        raise UserError(f"{folder} belongs to another program; make a bundle with 'livepuppet export'.")
    version = facts.get("version")
    if version != BUNDLE_VERSION:
        raise UserError(
            f"{folder} is a bundle of version {version}, and this livepuppet reads version {BUNDLE_VERSION}; "
            "update livepuppet or export the bundle again."
        )
    try:
        # Also proves that everything that the engine will look up is there.
        _ = facts["preset"]["name"], facts["size"], facts["num_keypoints"], facts["keypoint_names"]
        _ = [feature["name"] for feature in facts["features"]]
        graphs = {name: (facts["graphs"][name]["file"], facts["graphs"][name]["sha256"]) for name in STAGES}
    except (KeyError, TypeError):
        raise UserError(f"{folder / 'bundle.json'} is incomplete; {again}.") from None
    if facts.get("matrices", "jacobian") not in get_args(Matrices):
        raise UserError(
            f"{folder} has keypoints of a kind that this livepuppet does not know; update livepuppet or export the bundle again."
        )
    for file, checksum in graphs.values():
        check_file(folder / file, checksum)
    return facts


def check_file(path: Path, checksum: str) -> None:
    """Raises UserError unless the file's SHA-256 is `checksum`."""
    again = "export or download it again"
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path} of the model bundle cannot be read ({error.strerror}); {again}.") from error
    if found != checksum:
        raise UserError(f"{path} is not the file that the model bundle was made with; {again}.")


def sha256_of(path: Path) -> str:
    """The file's SHA-256, in hexadecimal. Raises OSError. (`hashlib.file_digest` is of Python 3.11.)"""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def graphs_of(folder: Path, facts: dict, variant: Precision = "float32") -> dict[str, Path]:
    """The file of each stage. Graphs of another variant than float32 are there where `livepuppet export` was told to.

    Args:
        facts: of `read_bundle`.
        variant: `float32`, or one of `variants_of`.

    Raises:
        UserError: the bundle has no such graphs, or they are damaged.
    """
    if variant == "float32":
        return {stage: folder / facts["graphs"][stage]["file"] for stage in STAGES}
    if variant not in variants_of(facts):
        raise UserError(
            f"The bundle {folder} has no {variant} graphs: make them with 'livepuppet export WEIGHTS --output BUNDLE "
            f"--{variant}', or choose another --precision."
        )
    entries = facts["variants"][variant]
    for stage in STAGES:
        check_file(folder / entries[stage]["file"], entries[stage]["sha256"])
    return {stage: folder / entries[stage]["file"] for stage in STAGES}


def variants_of(facts: dict) -> tuple[str, ...]:
    """Which graphs the bundle has beside those in float32: `int8`, `float16`."""
    return tuple(facts.get("variants", {}))


def reference_of(folder: Path, facts: dict) -> tuple[Path, str] | None:
    """The file of what float32 PyTorch draws, for the gate, and its SHA-256; None in bundles of an older livepuppet."""
    entry = facts.get("reference")
    return (folder / entry["file"], entry["sha256"]) if entry else None


class BundleEngine:
    """What engines that run a bundle's graphs have in common; a runtime gives `_run` and sets the attributes of `Engine`.

    Bundles of older livepuppets lack the last output of `detect` and `render`, leave the batch of one out of all outputs, and may
    have inputs in `render` that it does not use, which some runtimes take out.

    Args:
        folder: the bundle.
        facts: of `read_bundle`.
        detected: outputs of the graph `detect`.
        taken: inputs of the graph `render`, as the runtime has them.
        drawn: outputs of the graph `render`.
    """

    def __init__(
        self, folder: Path, facts: dict, detected: list[str], taken: Collection[str], drawn: Collection[str]
    ):
        self.model_name: str = facts["preset"]["name"]
        self.size: int = facts["size"]
        self.num_keypoints: int = facts["num_keypoints"]
        self.keypoint_names: tuple[str, ...] = tuple(facts["keypoint_names"])
        self.matrices: Matrices = facts.get("matrices", "jacobian")
        self.deforms = "deformation" in drawn
        self._detected = [name for name in DETECTED if name in detected]
        self._taken = frozenset(taken)
        self._feature_names: list[str] = [feature["name"] for feature in facts["features"]]
        self._folder = folder
        #: Of everything that is run, so that the gate knows a changed model.
        self.fingerprint = json.dumps([facts["graphs"], facts.get("variants", {})], sort_keys=True)

    def _run(self, stage: str, outputs: list[str], inputs: dict) -> list:
        """Outputs of one of `STAGES`, as arrays of their own; of `encode`, in whatever form `render` takes them best."""
        raise NotImplementedError

    def detect(self, frame: np.ndarray) -> Keypoints:
        """See `Engine.detect`. Without confidence if the bundle is of an older livepuppet."""
        values = self._run("detect", self._detected, {"frame": checked_picture(frame, self.size)})
        named = zip(self._detected, values, strict=True)
        return Keypoints(**{name: _without_batch(value, DETECTED[name]) for name, value in named})

    def encode(self, avatar: np.ndarray) -> Features:
        """See `Engine.encode`."""
        values = self._run("encode", self._feature_names, {"avatar": checked_picture(avatar, self.size)})
        return dict(zip(self._feature_names, values, strict=True))

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """See `Engine.render`."""
        return self._draw(["prediction"], features, avatar_keypoints, keypoints)[0]

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.render_deformation`."""
        if not self.deforms:
            raise UserError(
                f"The bundle {self._folder} is of an older livepuppet and does not tell how the picture was bent; "
                "export it again with 'livepuppet export'."
            )
        picture, deformation = self._draw(
            ["prediction", "deformation"], features, avatar_keypoints, keypoints
        )
        return picture, _without_batch(deformation, 3)

    def _draw(
        self, outputs: list[str], features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ):
        source_points, source_jacobians = checked_numbers(avatar_keypoints, self.num_keypoints)
        driving_points, driving_jacobians = checked_numbers(keypoints, self.num_keypoints)
        inputs = {
            **features,
            "source_points": source_points,
            "source_jacobians": source_jacobians,
            "driving_points": driving_points,
            "driving_jacobians": driving_jacobians,
        }
        return self._run(
            "render", outputs, {name: value for name, value in inputs.items() if name in self._taken}
        )


def _without_batch(value: np.ndarray, axes: int) -> np.ndarray:
    return value[0] if value.ndim > axes else value
