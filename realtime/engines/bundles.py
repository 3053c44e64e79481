"""What engines that run a bundle's graphs have in common."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np

from livepuppet.core.engine import Features, checked_image, checked_numbers
from livepuppet.core.errors import UserError
from livepuppet.core.keypoints import Keypoints
from livepuppet.core.matrices import Matrices

#: Outputs of the graph `detect`, which are the fields of `Keypoints`, and how many axes these have.
DETECTED = {"points": 2, "jacobians": 3, "confidence": 1}


class BundleEngine:
    """What engines that run a bundle's graphs have in common; a runtime gives `_run` and `_names_of`,
    and sets the attributes of `Engine`.

    Bundles of older livepuppets lack the last output of `detect` and `render`, leave the batch of
    one out of all outputs, and may have inputs in `render` that it does not use, which some
    runtimes take out.

    Args:
        folder: the bundle.
        metadata: of `read_bundle`.
    """

    def __init__(self, folder: Path, metadata: dict):
        self.reason = ""
        self.model_name: str = metadata["preset"]["name"]
        self.size: int = metadata["size"]
        self.num_keypoints: int = metadata["num_keypoints"]
        self.keypoint_names: tuple[str, ...] = tuple(metadata["keypoint_names"])
        self.matrices: Matrices = metadata.get("matrices", "jacobian")
        self._feature_names: list[str] = [feature["name"] for feature in metadata["features"]]
        self._folder = folder
        #: Of everything that is run, so that the gate knows a changed model.
        self.fingerprint = json.dumps([metadata["graphs"], metadata.get("variants", {})], sort_keys=True)

    @property
    def deforms(self) -> bool:
        """See `Engine`."""
        return "deformation" in self._drawn

    @cached_property
    def _drawn(self) -> frozenset[str]:
        return frozenset(self._names_of("render")[1])

    @cached_property
    def _detected(self) -> list[str]:
        outputs = self._names_of("detect")[1]
        return [name for name in DETECTED if name in outputs]

    @cached_property
    def _taken(self) -> frozenset[str]:
        return frozenset(self._names_of("render")[0])

    def _names_of(self, stage: str) -> tuple[list[str], list[str]]:
        """Inputs and outputs of one of `STAGES`, as the runtime has them."""
        raise NotImplementedError

    def _run(self, stage: str, outputs: list[str], inputs: dict) -> list:
        """Outputs of one of `STAGES`, as arrays of their own; of `encode`, in whatever form
        `render` takes them best.
        """
        raise NotImplementedError

    def detect(self, frame: np.ndarray) -> Keypoints:
        """See `Engine.detect`. Without confidence if the bundle is of an older livepuppet."""
        values = self._run("detect", self._detected, {"frame": checked_image(frame, self.size)})
        named = zip(self._detected, values, strict=True)
        found = {name: _without_batch(value, DETECTED[name]) for name, value in named}
        return Keypoints(found["points"], found["jacobians"], found.get("confidence"))

    def encode(self, avatar: np.ndarray) -> Features:
        """See `Engine.encode`."""
        values = self._run("encode", self._feature_names, {"avatar": checked_image(avatar, self.size)})
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
