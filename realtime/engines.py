"""The seam: three calls that run a model, whatever runs it.

    engine = load_engine()
    features = engine.encode(avatar)               # once per avatar
    avatar_keypoints = engine.detect(avatar)
    keypoints = engine.detect(frame)               # once per frame; `motion.transfer` goes here
    picture = engine.render(features, avatar_keypoints, keypoints)

An engine belongs to one thread at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np

from livepuppet.realtime.bundled import MODEL
from livepuppet.realtime.errors import UserError
from livepuppet.realtime.keypoints import Keypoints
from livepuppet.realtime.motion.matrices import Matrices

BUNDLE_FORMAT = "livepuppet-bundle"
BUNDLE_VERSION = 1

#: Networks this small share out badly among many threads (a guess beyond 2, which were measured), and the camera, the
#: encoder and the browser want cores too.
MOST_THREADS = 8

#: What `encode` returns: known to the engine that made it, and to nobody else.
Features = Any


class Engine(Protocol):
    """Runs one model.

    Attributes:
        name: `onnx` or `torch`.
        provider: what really computes, as its runtime calls it.
        model_name: the preset's name.
        size: S, side of the square pictures in pixels.
        num_keypoints: K.
        keypoint_names: K names where keypoints are landmarks, else empty.
        matrices: what `Keypoints.jacobians` holds: "jacobian", or "covariance" for a Monkey-Net.
        deforms: whether `render_deformation` can be called; bundles of an older livepuppet do not tell.
    """

    name: str
    provider: str
    model_name: str
    size: int
    num_keypoints: int
    keypoint_names: tuple[str, ...]
    matrices: Matrices
    deforms: bool

    def detect(self, frame: np.ndarray) -> Keypoints:
        """Keypoints of a picture, RGB uint8 (S, S, 3). ValueError for any other shape or type.

        Their mean confidence tells a face (lite-256: 0.7 to 0.85, in the dark 0.55) from none (below 0.5, mostly 0.3).
        """

    def encode(self, avatar: np.ndarray) -> Features:
        """Everything that depends on the avatar alone, RGB uint8 (S, S, 3). ValueError for any other shape or type."""

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """The avatar of `features`, which has `avatar_keypoints`, moved to `keypoints`: RGB uint8 (S, S, 3)."""

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `render` returns, and where in the avatar each place of it came from.

        Returns:
            RGB uint8 (S, S, 3); float32 (h, w, 2), a sampling grid at the model's own resolution: (x, y) in the avatar's
            square, -1 and 1 being the centres of the outermost pixels, which it may leave.

        Raises:
            UserError: the bundle is of an older livepuppet, whose graphs did not tell.
        """


def load_engine(
    name: str | None = None,
    model: str | os.PathLike | None = None,
    threads: int | None = None,
    device: str | None = None,
) -> Engine:
    """The engine that people asked for, with the model that they asked for.

    Args:
        name: `onnx`, `torch`, or None for the one that the model is made for.
        model: a bundle (folder) for `onnx`, weights (.safetensors) for `torch`; None is the default model.
        threads: of the CPU; all that are worth it by default.
        device: of PyTorch, `cpu` or `cuda`; the fastest there is by default.

    Raises:
        UserError: the two do not go together, the model cannot be read, or PyTorch is missing.
    """
    if name not in (None, "onnx", "torch"):
        raise UserError(f"There is no engine called '{name}'; use onnx or torch.")
    if model is None:
        path = MODEL / f"{MODEL.name}.safetensors" if name == "torch" else MODEL
        if not path.exists():
            raise UserError(
                f"The default model is missing from this installation ({path}); install livepuppet again."
            )
    else:
        path = Path(model)
    weights = path.suffix == ".safetensors"
    if name == "onnx" and weights:
        raise UserError(
            f"{path} holds weights, which the onnx engine cannot run; turn them into a bundle with "
            f"'livepuppet export {path} --output BUNDLE', or use --engine torch."
        )
    if name == "torch" and path.is_dir():
        raise UserError(
            f"{path} is a folder, and the torch engine runs weights; give the .safetensors file that the bundle was "
            "exported from, or use --engine onnx."
        )
    if name == "torch" or (name is None and weights):
        return TorchEngine(path, device=device, threads=threads)
    return OnnxEngine(path, threads=threads)


class OnnxEngine:
    """Runs a bundle with onnxruntime on the CPU. Needs no PyTorch.

    Args:
        bundle: folder that `livepuppet export` wrote.
        threads: of the CPU; `usable_cores()` by default.

    Raises:
        UserError: the folder is no bundle, is damaged, or is of a newer livepuppet.
    """

    name = "onnx"

    def __init__(self, bundle: str | os.PathLike, threads: int | None = None):
        folder = Path(bundle)
        facts = read_bundle(folder)
        self.model_name: str = facts["preset"]["name"]
        self.size: int = facts["size"]
        self.num_keypoints: int = facts["num_keypoints"]
        self.keypoint_names: tuple[str, ...] = tuple(facts["keypoint_names"])
        self.matrices: Matrices = facts.get("matrices", "jacobian")
        self._feature_names: list[str] = [feature["name"] for feature in facts["features"]]
        threads = usable_cores() if threads is None else threads
        graphs = {name: folder / entry["file"] for name, entry in facts["graphs"].items()}
        self._detect, self._encode, self._render = (
            _session(graphs[name], threads) for name in ("detect", "encode", "render")
        )
        self.provider: str = self._render.get_providers()[0]
        # Bundles of older livepuppets lack the last output of each graph; everything else of them is the same.
        self._detected = [output.name for output in self._detect.get_outputs() if output.name in _DETECTED]
        self.deforms = any(output.name == "deformation" for output in self._render.get_outputs())
        self._folder = folder

    def detect(self, frame: np.ndarray) -> Keypoints:
        """See `Engine.detect`. Without confidence if the bundle is of an older livepuppet."""
        values = self._detect.run(self._detected, {"frame": _picture(frame, self.size)})
        return Keypoints(**dict(zip(self._detected, values, strict=True)))

    def encode(self, avatar: np.ndarray) -> Features:
        """See `Engine.encode`."""
        values = self._encode.run(self._feature_names, {"avatar": _picture(avatar, self.size)})
        return dict(zip(self._feature_names, values, strict=True))

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """See `Engine.render`."""
        return self._run(["prediction"], features, avatar_keypoints, keypoints)[0]

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.render_deformation`."""
        if not self.deforms:
            raise UserError(
                f"The bundle {self._folder} is of an older livepuppet and does not tell how the picture was bent; "
                "export it again with 'livepuppet export'."
            )
        picture, deformation = self._run(["prediction", "deformation"], features, avatar_keypoints, keypoints)
        return picture, deformation

    def _run(self, outputs: list[str], features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints):
        source_points, source_jacobians = _numbers(avatar_keypoints, self.num_keypoints)
        driving_points, driving_jacobians = _numbers(keypoints, self.num_keypoints)
        inputs = {
            **features,
            "source_points": source_points,
            "source_jacobians": source_jacobians,
            "driving_points": driving_points,
            "driving_jacobians": driving_jacobians,
        }
        return self._render.run(outputs, inputs)


class TorchEngine:
    """Runs weights with PyTorch, on a GPU where there is one.

    Args:
        weights: file that `livepuppet train` or `livepuppet import` wrote.
        device: `cpu`, `cuda`, ...; by default `cuda` where PyTorch can use it.
        threads: of the CPU, for the whole process; PyTorch's own choice by default.

    Raises:
        UserError: PyTorch is missing, the device is, or the file is not such weights.
    """

    name = "torch"
    deforms = True

    def __init__(self, weights: str | os.PathLike, device: str | None = None, threads: int | None = None):
        try:
            import torch

            from livepuppet.model.checkpoint import CheckpointError, load
        except ModuleNotFoundError as error:
            raise UserError(
                f"The torch engine needs the package '{error.name}': install it with pip install 'livepuppet[train]', "
                "or use --engine onnx."
            ) from error
        self._torch = torch
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self._model = load(weights).to(self._device)
        except CheckpointError as error:
            raise UserError(str(error)) from error
        except (
            RuntimeError,
            AssertionError,
        ) as error:  # what torch says of devices that it does not know or have
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"PyTorch cannot use the device '{device}': {reason}; use --device cpu."
            ) from error
        preset = self._model.preset
        self.model_name: str = preset.name
        self.size: int = preset.size
        self.num_keypoints: int = preset.num_keypoints
        self.keypoint_names: tuple[str, ...] = tuple(preset.keypoint_names)
        self.matrices: Matrices = preset.matrices
        self.provider: str = f"PyTorch {self._device}"

    def detect(self, frame: np.ndarray) -> Keypoints:
        """See `Engine.detect`."""
        with self._torch.inference_mode():
            found = self._model.detect_with_confidence(self._to_model(frame))
        points, jacobians, confidence = (value[0].float().cpu().numpy() for value in found)
        return Keypoints(points, jacobians, confidence)

    def encode(self, avatar: np.ndarray) -> Features:
        """See `Engine.encode`."""
        with self._torch.inference_mode():
            return self._model.encode(self._to_model(avatar))

    def render(self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints) -> np.ndarray:
        """See `Engine.render`."""
        return self.render_deformation(features, avatar_keypoints, keypoints)[0]

    def render_deformation(
        self, features: Features, avatar_keypoints: Keypoints, keypoints: Keypoints
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.render_deformation`."""
        numbers = _numbers(avatar_keypoints, self.num_keypoints) + _numbers(keypoints, self.num_keypoints)
        with self._torch.inference_mode():
            batch = [self._torch.from_numpy(array)[None].to(self._device) for array in numbers]
            drawn = self._model.render(features, *batch)
            picture = drawn["prediction"][0].permute(1, 2, 0) * 255
            picture = picture.round().clamp(0, 255).to(self._torch.uint8)
            return picture.cpu().numpy(), drawn["deformation"][0].float().cpu().numpy()

    def _to_model(self, picture: np.ndarray):
        tensor = self._torch.from_numpy(_picture(picture, self.size)).to(self._device)
        return tensor.permute(2, 0, 1)[None].float() / 255


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
        graphs = {name: (facts["graphs"][name]["file"], facts["graphs"][name]["sha256"]) for name in _GRAPHS}
    except (KeyError, TypeError):
        raise UserError(f"{folder / 'bundle.json'} is incomplete; {again}.") from None
    if facts.get("matrices", "jacobian") not in get_args(Matrices):
        raise UserError(
            f"{folder} has keypoints of a kind that this livepuppet does not know; update livepuppet or export the bundle again."
        )
    for file, checksum in graphs.values():
        path = folder / file
        try:
            with path.open("rb") as stream:
                digest = hashlib.sha256()
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise UserError(
                f"{path} of the model bundle cannot be read ({error.strerror}); {again}."
            ) from error
        if digest.hexdigest() != checksum:
            raise UserError(f"{path} is not the file that the model bundle was made with; {again}.")
    return facts


_GRAPHS = ("detect", "encode", "render")
_DETECTED = ("points", "jacobians", "confidence")


def usable_cores() -> int:
    """Physical cores that this process may use, at most `MOST_THREADS`; 0, onnxruntime's own choice, if unknown.

    Two threads on one core's hyper-threads slow dense convolutions down, so siblings count once.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(cpu)
    count = len(cores)
    # A container's share of the machine, as "quota period" in microseconds per period, or "max period".
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(quota) // int(period)))
    return min(count, MOST_THREADS)


def _session(path: Path, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads spin, and take the cores from the next session's call and from the camera and encoder: spinning
    # freely, `detect` of fomm-256 took 43 ms between renders, against 16 ms with a stop after each call. On two busy
    # cores lite-256 took 206 ms with that stop alone, and 110 to 140 ms when threads spin for 50 us at most.
    # (Older onnxruntimes ignore the second setting.)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = str(error).splitlines()[0]
        raise UserError(
            f"onnxruntime cannot run {path}: {reason}; update onnxruntime or export it again."
        ) from error


def _picture(picture: np.ndarray, size: int) -> np.ndarray:
    if not isinstance(picture, np.ndarray) or picture.shape != (size, size, 3) or picture.dtype != np.uint8:
        found = (
            f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        )
        raise ValueError(f"a picture has to be RGB uint8 ({size}, {size}, 3), not {found}")
    return np.ascontiguousarray(picture)


def _numbers(keypoints: Keypoints, count: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.ascontiguousarray(keypoints.points, dtype=np.float32)
    jacobians = np.ascontiguousarray(keypoints.jacobians, dtype=np.float32)
    if points.shape != (count, 2) or jacobians.shape != (count, 2, 2):
        raise ValueError(
            f"this model has {count} keypoints, so points ({count}, 2) and matrices ({count}, 2, 2), "
            f"not {points.shape} and {jacobians.shape}"
        )
    return points, jacobians
