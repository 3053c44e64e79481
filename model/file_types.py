"""What a file that is not the expected one looks like, in a few words for an error message."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from livepuppet.core.errors import LivePuppetError


class CheckpointError(LivePuppetError, ValueError):
    """A file of weights that cannot be used. The message is one sentence: what it looks like, what
    was expected.
    """


def describe_file(path: str | os.PathLike) -> str:
    """What a file looks like by its first bytes, with an article: "a web page", "a PNG image", ...

    Raises:
        CheckpointError: there is no such file, or it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"There is no file {path}; check the path.")
    if path.is_dir():
        return "a folder" + (" with an exported bundle" if (path / "bundle.json").exists() else "")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not head:
        return "an empty file"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, as a download that ended at a consent or log-in page leaves"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file that it stands for (run git lfs pull)"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return "an MP4 video"
    if head[257:262] == b"ustar":
        return "a tar archive, not the PyTorch file that the published checkpoints are in spite of their name"
    if head.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    if is_safetensors(head, path.stat().st_size):
        return "a safetensors file"
    if int.from_bytes(head[:8], "little") < 100_000_000 and head[8:10] == b'{"':
        return "a safetensors file that broke off"
    if head.startswith(b"\x80") and len(head) > 1 and 2 <= head[1] <= 5:
        return "a pickle"
    if head.startswith(b"\x08") and b"pytorch" in head[:64]:
        return "an ONNX graph"
    if _is_text(head):
        return "a text file"
    return "a binary file of an unknown kind"


_MAGIC = [
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a WebP image or AVI video"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"GGUF", "a GGUF model"),
]


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file that starts with `head` and has `size` bytes has a safetensors header that
    fits into it.
    """
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and 2 <= length <= size - 8 and head[8:9] == b"{"


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a zip file that broke off, as an interrupted download leaves"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program"
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file"
    if any(name.endswith(".npy") for name in names):
        return "a NumPy archive"
    return f"a zip archive (of {names[0]} ...)" if names else "an empty zip archive"


def _is_text(head: bytes) -> bool:
    try:
        head[:1024].decode("utf-8")
    except UnicodeDecodeError as error:
        # A character that the cut went through is still text.
        if error.start < 1020:
            return False
    return b"\0" not in head[:1024]


#: Beginnings of tensor or part names -> whose they are. The first that matches anything wins.
_MODELS = [
    (("appearance_encoder.", "generator.appearance_encoder."), "a Monkey-Net checkpoint"),
    (("avd_network", "region_predictor"), "an Articulated Animation (MRAA) checkpoint"),
    (("inpainting_network", "tps_net"), "a Thin-Plate-Spline Motion Model checkpoint"),
    (("he_estimator", "hpe_estimator"), "a face-vid2vid checkpoint"),
    (
        (
            "resblocks_3d.",
            "third.",
            "detector.fc_kp",
            "G_middle_0.",
            "retarget_shoulder",
            "retarget_eye",
            "retarget_mouth",
        ),
        "a LivePortrait checkpoint",
    ),
    (("model.diffusion_model.", "first_stage_model."), "a Stable Diffusion checkpoint"),
]


def describe_names(names: Collection[str], shapes: Collection[tuple[int, ...]] = ()) -> str:
    """Which known model tensors of these names (and shapes) belong to, with an article.

    Args:
        names: of the file's parts and tensors, joined by dots: `generator.first.conv.weight`.
        shapes: of the tensors. Three-dimensional kernels give away LivePortrait's parts.
    """
    for prefixes, description in _MODELS:
        if any(name.startswith(prefixes) for name in names):
            return description
    if any(name.startswith("dense_motion_network.") for name in names) and any(len(s) == 5 for s in shapes):
        return "a LivePortrait or face-vid2vid checkpoint"
    parts = {name.split(".")[0] for name in names}
    if parts & {"generator", "kp_detector"}:
        return "a first-order model's checkpoint"
    if not names:
        return "an empty state dict"
    first = ", ".join(sorted(names)[:3])
    return f"the weights of some other network ({len(names)} entries: {first} ...)"


def read_safetensors_header(path: str | os.PathLike) -> SafetensorsHeader:
    """The header of a safetensors file, every entry of which has been found to fit the file.

    Raises:
        CheckpointError: the file is not one; says what it looks like instead, or what is wrong.
    """
    looks = describe_file(path)
    if looks != "a safetensors file":
        raise CheckpointError(f"{path} is {looks}; expected weights in a .safetensors file.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if length > LARGEST_HEADER:
                raise _WrongError(f"its header has {length} bytes")
            header = _header_of(file.read(length), size - 8 - length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except _WrongError as error:
        raise CheckpointError(
            f"{path} is damaged, or is not weights of livepuppet: {error}; download or write it again."
        ) from error
    return header


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a safetensors file says of itself.

    Attributes:
        metadata: texts by name.
        entries: of the tensors, by name.
    """

    metadata: dict[str, str]
    entries: dict[str, Entry]


@dataclass(frozen=True)
class Entry:
    """A tensor in a safetensors file: its values lie from byte `begin` to `end` behind the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class _WrongError(ValueError):
    """What is wrong with a header, as a part of a sentence."""


def _header_of(text: bytes, room: int) -> SafetensorsHeader:
    """Everything in a header checked. `room` is how many bytes of values there are."""
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _WrongError("its header is no JSON") from error
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        raise _WrongError("its header is no list of tensors")
    metadata = header.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _WrongError("its metadata are no texts by name")
    return SafetensorsHeader(metadata, {name: _entry_of(name, found, room) for name, found in header.items()})


def _entry_of(name: str, found: object, room: int) -> Entry:
    what = f"its entry '{name[:60]}'"
    if not isinstance(found, dict):
        raise _WrongError(f"{what} describes no tensor")
    dtype, shape, offsets = (found.get(part) for part in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _WrongError(f"{what} has values of an unknown type")
    if not isinstance(shape, list) or not _are_whole(shape) or len(shape) > MOST_AXES:
        raise _WrongError(f"{what} has no shape")
    if not isinstance(offsets, list) or not _are_whole(offsets) or len(offsets) != 2:
        raise _WrongError(f"{what} does not say where its values lie")
    begin, end = offsets
    if end > room or end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise _WrongError(f"{what} does not fit the file")
    return Entry(_DTYPES[dtype], tuple(shape), begin, end)


def _are_whole(values: list) -> bool:
    """Whether these are whole numbers from 0 that a file can have."""
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


#: Bytes of the longest header that is read; those of our models have 60000. Tensors and axes are bounded, too.
LARGEST_HEADER, MOST_TENSORS, MOST_AXES = 4_000_000, 20_000, 8


#: Types of values in a safetensors file, by the format's names.
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensors(path: str | os.PathLike, header: SafetensorsHeader) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Args:
        header: of `read_safetensors_header`.

    Raises:
        CheckpointError: the header does not fit the file.
    """
    try:
        with open(path, "rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            content = bytearray(file.read())
        return {name: _tensor_of(content, entry) for name, entry in header.entries.items()}
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is a damaged safetensors file; download or write it again.") from error


def _tensor_of(content: bytearray, entry: Entry) -> Tensor:
    count = math.prod(entry.shape)
    if not count:
        return torch.empty(entry.shape, dtype=entry.dtype)
    return torch.frombuffer(content, dtype=entry.dtype, count=count, offset=entry.begin).reshape(entry.shape)


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Copy tensors into a module, every name and shape of which has to agree; float16 becomes
    float32.

    Raises:
        CheckpointError: they do not agree; `origin`, the file, begins the message.
    """
    own = module.state_dict()
    if missing := [name for name in own if name not in tensors]:
        raise CheckpointError(
            f"{origin} lacks {_some(missing)}, which this model has; it is incomplete or of another model."
        )
    if surplus := [name for name in tensors if name not in own]:
        raise CheckpointError(
            f"{origin} has {_some(surplus)}, which this model has not; it is of another model."
        )
    for name, value in own.items():
        if tensors[name].shape != value.shape:
            raise CheckpointError(
                f"{origin} has {name} of shape {tuple(tensors[name].shape)}; expected {tuple(value.shape)}."
            )
        if tensors[name].is_floating_point() != value.is_floating_point():
            raise CheckpointError(f"{origin} has {name} as {tensors[name].dtype}; expected {value.dtype}.")
    module.load_state_dict(tensors, strict=True)


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors"
