"""Import published `.pth.tar` checkpoints of the first-order model, read as data only."""

from __future__ import annotations

import os
import pickle
import pickletools
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from livepuppet.model.base import Model
from livepuppet.model.file_types import CheckpointError, describe_file, describe_names, load_strictly
from livepuppet.model.fomm import FommConfig
from livepuppet.model.presets import PRESETS, Preset, build

PARTS = ("generator", "kp_detector")
EXPECTED = (
    "expected a published first-order-model checkpoint, a PyTorch file with 'generator' and 'kp_detector'"
)

#: A pickle's reference to code, as PyTorch's errors name it.
_GLOBAL = re.compile(r"(?:GLOBAL|[Uu]nsupported (?:global|class):?(?: GLOBAL)?) ([\w.]+)")

#: Beginnings of the file that PyTorch wrote before its zip format: a pickled number of its own.
_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

#: Settings that tensors' shapes do not determine; the configuration decides about these.
_NOT_IN_SHAPES = {
    "size",
    "temperature",
    "detector_padding",
    "motion_variance",
    "detector_maximum",
    "motion_maximum",
    "generator_maximum",
}


def read_official(path: str | os.PathLike, config_yaml: str | os.PathLike | None = None) -> Model:
    """The model in a published checkpoint, in float32 on the CPU, in evaluation mode.

    The file is a pickle; nothing in it is ever executed. Nearly every setting follows from the
    tensors' shapes. What does not (the softmax's temperature, the size of the frames) is the same
    in all published models, and is read from the official configuration where one is given.

    Args:
        path: PyTorch file, of the zip format or of the one before, with parts `generator` and
            `kp_detector`.
        config_yaml: the YAML file that belongs to the checkpoint (`vox-256.yaml` ...).

    Raises:
        CheckpointError: the file is something else, holds more than data, is damaged, or does not
            fit the configuration.
    """
    parts = read_parts(path)
    try:
        config = infer_config(parts["generator"], parts["kp_detector"])
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path} resembles a first-order model but has another shape ({error}); {EXPECTED}."
        ) from error
    if config_yaml is not None:
        config = apply_yaml(config, config_yaml, path)
    known = next((preset for preset in PRESETS.values() if preset.config == config), None)
    model = build(known or Preset(f"fomm-{config.size}", config.size, config.num_keypoints, config))
    for part in PARTS:
        load_strictly(getattr(model, part), parts[part], f"'{part}' in {path}")
    return model.eval()


def read_parts(path: str | os.PathLike) -> dict[str, dict[str, Tensor]]:
    """The tensors of `generator` and `kp_detector`, by part and name; nothing in the file is
    executed.

    Raises:
        CheckpointError: the file is not a PyTorch file, holds more than data, is damaged, or has
            other parts.
    """
    looks = describe_file(path)
    if looks not in ("a PyTorch file", "a pickle"):
        raise CheckpointError(f"{path} is {looks}; {EXPECTED}.")
    if looks == "a pickle":
        with open(path, "rb") as file:
            if file.read(len(_LEGACY_MAGIC)) != _LEGACY_MAGIC:
                raise CheckpointError(f"{path} is a pickle, but PyTorch did not write it; {EXPECTED}.")
    content = _load_data(path)
    names, shapes = _flatten(content)
    known = describe_names(names, shapes)
    if known != "a first-order model's checkpoint":
        raise CheckpointError(f"{path} looks like {known}; {EXPECTED}.")
    for part in PARTS:
        tensors = content.get(part)
        if not (isinstance(tensors, dict) and tensors and all(map(_is_named_tensor, tensors.items()))):
            raise CheckpointError(f"{path} has no tensors called '{part}'; {EXPECTED}.")
    # Training on several GPUs leaves a prefix.
    return {
        part: {name.removeprefix("module."): value for name, value in content[part].items()} for part in PARTS
    }


def infer_config(generator: dict[str, Tensor], detector: dict[str, Tensor]) -> FommConfig:
    """The shape of a model from its tensors; what they do not tell is as published.

    Raises:
        KeyError, IndexError, ValueError: they are not of a first-order model.
    """
    default = FommConfig()
    num_keypoints = detector["kp.weight"].shape[0]
    heads = detector["jacobian.weight"].shape[0] if "jacobian.weight" in detector else 0
    detector_shape = _hourglass(detector, "predictor.", default.detector_maximum)
    motion_shape = _hourglass(generator, "dense_motion_network.hourglass.", default.motion_maximum)
    widths = _widths(generator, "down_blocks.")
    expansion = generator["first.conv.weight"].shape[0]
    reduction = _reduction(generator.get("dense_motion_network.down.weight"))
    return FommConfig(
        # Every published model estimates its motion at 64 x 64.
        size=64 * reduction,
        num_keypoints=num_keypoints,
        **{f"detector_{name}": value for name, value in detector_shape.items()},
        detector_reduction=_reduction(detector.get("down.weight")),
        jacobian_maps=heads // 4,
        **{f"motion_{name}": value for name, value in motion_shape.items()},
        motion_reduction=reduction,
        occlusion="dense_motion_network.occlusion.weight" in generator,
        generator_expansion=expansion,
        generator_maximum=_maximum([expansion, *widths], default.generator_maximum),
        generator_down_blocks=len(widths),
        generator_residual_blocks=len(_widths(generator, "bottleneck.r", ".conv1.weight")),
    )


def apply_yaml(config: FommConfig, config_yaml: str | os.PathLike, path: str | os.PathLike) -> FommConfig:
    """A config with what an official configuration file says put in.

    Args:
        config: of `infer_config`.
        config_yaml: official YAML file, of which `model_params` and the frames' shape are read.
        path: the checkpoint, for messages.

    Raises:
        CheckpointError: the file is not such a configuration, or belongs to another checkpoint.
    """
    said = _read_yaml(config_yaml)
    own = {field.name: getattr(config, field.name) for field in fields(config)}
    for name, value in said.items():
        if name not in _NOT_IN_SHAPES and own[name] != value:
            raise CheckpointError(
                f"{config_yaml} does not belong to {path}: it says {name} = {value}, and the checkpoint has {own[name]}."
            )
    try:
        return replace(config, **said)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{config_yaml} describes a model that cannot be built: {error}.") from error


def _load_data(path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = str(error)
        if not _broke_off(path) and re.search(
            r"[Uu]nsupported|GLOBAL|not an allowed|Can only|Trying to", message
        ):
            found = _GLOBAL.search(message)
            what = f" ({found.group(1)})" if found else ""
            raise CheckpointError(
                f"{path} holds code or objects{what}, which could do anything if it were loaded, and was not; "
                "expected nothing but tensors and plain containers."
            ) from error
        raise CheckpointError(f"{path} is a damaged PyTorch file; download it again.") from error
    except (
        Exception
    ) as error:  # a damaged file fails in many ways: EOFError, RuntimeError, UnicodeDecodeError, ...
        raise CheckpointError(f"{path} is a damaged PyTorch file; download it again.") from error


def _is_named_tensor(entry: tuple) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], Tensor)


def _broke_off(path) -> bool:
    """Whether a file of the old format ends within its description of the tensors. (Zip files
    notice it themselves.)
    """
    with open(path, "rb") as file:
        if file.read(len(_LEGACY_MAGIC)) != _LEGACY_MAGIC:
            return False
        file.seek(0)
        try:
            # Number, version, machine, content: read through without being executed.
            for _ in range(4):
                for _ in pickletools.genops(file):
                    pass
        except ValueError:
            return True
    return False


def _flatten(content, prefix: str = "", depth: int = 2) -> tuple[list[str], list[tuple[int, ...]]]:
    """Names and shapes of what is in a checkpoint, two levels deep."""
    names, shapes = [], []
    if not isinstance(content, dict):
        return names, shapes
    for key, value in content.items():
        name = f"{prefix}{key}".removeprefix("module.")
        names.append(name)
        if isinstance(value, Tensor):
            shapes.append(tuple(value.shape))
        elif isinstance(value, dict) and depth > 1 and not name.startswith("optimizer"):
            inner = _flatten(value, f"{name}.", depth - 1)
            names += inner[0]
            shapes += inner[1]
    return names, shapes


def _widths(tensors: dict[str, Tensor], prefix: str, suffix: str = ".conv.weight") -> list[int]:
    """Output channels of the convolutions `prefix`0, `prefix`1, ..."""
    widths = []
    while (name := f"{prefix}{len(widths)}{suffix}") in tensors:
        widths.append(tensors[name].shape[0])
    return widths


def _hourglass(tensors: dict[str, Tensor], prefix: str, published_maximum: int) -> dict[str, int]:
    down = _widths(tensors, f"{prefix}encoder.down_blocks.")
    expansion = _widths(tensors, f"{prefix}decoder.up_blocks.")[-1]
    return {
        "expansion": expansion,
        "maximum": _maximum([expansion, *down], published_maximum),
        "blocks": len(down),
    }


def _maximum(widths: list[int], published: int) -> int:
    """The cap on widths that double; where none of them reached it, the published one or more."""
    capped = any(wide != 2 * narrow for narrow, wide in pairwise(widths))
    return max(widths) if capped else max(*widths, published)


def _reduction(kernel: Tensor | None) -> int:
    """The factor that an anti-aliasing kernel is made for; no kernel, no reduction."""
    if kernel is None:
        return 1
    for reduction in range(2, 33):
        if kernel.shape[-1] == 2 * round(4 * (reduction - 1) / 2) + 1:
            return reduction
    raise ValueError(f"an anti-aliasing kernel of {kernel.shape[-1]} pixels")


#: Where an official configuration holds what, below `model_params`, and how it is called here.
_SETTINGS = {
    "common_params": {"num_kp": "num_keypoints"},
    "kp_detector_params": {
        "temperature": "temperature",
        "block_expansion": "detector_expansion",
        "max_features": "detector_maximum",
        "num_blocks": "detector_blocks",
        "scale_factor": "detector_reduction",
        "pad": "detector_padding",
    },
    "generator_params": {
        "block_expansion": "generator_expansion",
        "max_features": "generator_maximum",
        "num_down_blocks": "generator_down_blocks",
        "num_bottleneck_blocks": "generator_residual_blocks",
        "estimate_occlusion_map": "occlusion",
    },
    "dense_motion_params": {
        "block_expansion": "motion_expansion",
        "max_features": "motion_maximum",
        "num_blocks": "motion_blocks",
        "scale_factor": "motion_reduction",
        "kp_variance": "motion_variance",
    },
}

#: Settings that are handled explicitly, or that change nothing here.
_HANDLED = {"num_channels", "estimate_jacobian", "single_jacobian_map", "dense_motion_params"}


def _read_yaml(config_yaml: str | os.PathLike) -> dict:
    """What an official configuration says, as fields of `FommConfig`."""
    import yaml

    try:
        content = yaml.safe_load(Path(config_yaml).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{config_yaml} cannot be read ({error.strerror}); check --config.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{config_yaml} is not a YAML file; check --config.") from error
    expected = "expected the official YAML configuration of a first-order model, with 'model_params'"
    try:
        params = content["model_params"]
        sections = {
            "common_params": params["common_params"],
            "kp_detector_params": params["kp_detector_params"],
            "generator_params": params["generator_params"],
            "dense_motion_params": params["generator_params"]["dense_motion_params"],
        }
        said = {}
        for section, values in sections.items():
            for key, value in values.items():
                if key in _SETTINGS[section]:
                    said[_SETTINGS[section][key]] = value
                elif key not in _HANDLED:
                    raise CheckpointError(
                        f"{config_yaml} has {section}.{key}, which no published model has; {expected}."
                    )
        for name in ("detector_reduction", "motion_reduction"):
            if name in said:
                said[name] = _whole(1 / said[name], f"1 / scale_factor in {config_yaml}")
        jacobians = sections["common_params"].get("estimate_jacobian", False)
        single = sections["kp_detector_params"].get("single_jacobian_map", False)
        said["jacobian_maps"] = (1 if single else said["num_keypoints"]) if jacobians else 0
        frames = content.get("dataset_params") or {}
        shape = frames.get("frame_shape") or frames.get("image_shape")
        if shape:
            if shape[0] != shape[1]:
                raise CheckpointError(
                    f"{config_yaml} has frames of {shape[1]} x {shape[0]}; only square ones work."
                )
            said["size"] = shape[0]
    except (KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"{config_yaml} lacks a part; {expected}.") from error
    return said


def _whole(value: float, what: str) -> int:
    if abs(value - round(value)) > 1e-6:
        raise CheckpointError(f"{what} is {value:.4g}; only whole factors work.")
    return round(value)
