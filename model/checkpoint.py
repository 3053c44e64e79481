"""Weights on disk: safetensors files that carry their preset."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from livepuppet.core.files import replacing
from livepuppet.model.aliases import rename_tensors
from livepuppet.model.base import Model
from livepuppet.model.file_types import (
    CheckpointError,
    describe_names,
    load_strictly,
    read_safetensors_header,
    read_tensors,
)
from livepuppet.model.fomm_import import read_official
from livepuppet.model.presets import Preset, build

__all__ = ["CheckpointError", "load", "read_metadata", "read_official", "save"]

FORMAT = "livepuppet-model"
VERSION = 1


def save(model: Model, path: str | os.PathLike, *, half: bool = False, **metadata: object) -> None:
    """Write a model's weights and preset, atomically: an existing file is replaced only by a
    complete one.

    Args:
        model: of `presets.build`, on any device.
        half: store convolution kernels as float16, for half the bytes. Vectors (biases, norms) stay
            float32.
        metadata: more to keep in the file, as strings, such as the command and seed that made it.
    """
    path = Path(path)
    tensors = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu()
        value = value.half() if half and value.is_floating_point() and value.dim() > 1 else value
        # Contiguous copies: the format has neither strides nor shared memory.
        tensors[name] = value.clone(memory_format=torch.contiguous_format)
    header = {"format": FORMAT, "version": str(VERSION), "preset": model.preset.to_json()}
    header.update({name: str(value) for name, value in metadata.items()})

    write_safetensors(path, tensors, header)


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
    """Write contiguous tensors on the CPU with metadata, atomically."""
    from safetensors.torch import save_file  # only here: running weights takes PyTorch alone

    # Names of files need not be UTF-8, as texts in there have to.
    header = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in header.items()}
    with replacing(path) as part:
        save_file(tensors, part, metadata=header)


def load(path: str | os.PathLike) -> Model:
    """The model that `save` wrote, in float32 on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is something else, is damaged, or does not fit its own preset.
    """
    header = read_safetensors_header(path)
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        looks = describe_names(list(header.entries), [entry.shape for entry in header.entries.values()])
        raise CheckpointError(
            f"{path} is a safetensors file with {looks}; expected one that 'livepuppet train' or "
            "'livepuppet import' wrote."
        )
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(
            f"{path} has version {metadata.get('version')} of the weights' format, this livepuppet reads {VERSION}; "
            "update livepuppet."
        )
    try:
        model = build(Preset.from_json(metadata.get("preset", "")))
    except Exception as error:  # numbers that are each in range need not go together
        raise CheckpointError(f"{path} carries a preset that cannot be built: {error}.") from error
    load_strictly(model, rename_tensors(model.preset.kind, read_tensors(path, header)), str(path))
    return model.eval()


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata given to `save`, and `format`, `version` and `preset`.

    Raises:
        CheckpointError: the file is not a safetensors file.
    """
    return dict(read_safetensors_header(path).metadata)
