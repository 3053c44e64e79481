"""What a file that is not the expected one looks like, in a few words for an error message."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Collection
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


def read_safetensors_header(path: str | os.PathLike) -> dict:
    """The JSON header of a safetensors file: tensor names to types and shapes, and `__metadata__`.

    Raises:
        CheckpointError: the file is not one; says what it looks like instead.
    """
    looks = describe_file(path)
    if looks != "a safetensors file":
        raise CheckpointError(f"{path} is {looks}; expected weights in a .safetensors file.")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            return json.loads(file.read(length))
        except ValueError as error:
            raise CheckpointError(
                f"{path} is a damaged safetensors file; download or write it again."
            ) from error


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


def read_tensors(path: str | os.PathLike, header: dict) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Args:
        header: of `read_safetensors_header`.

    Raises:
        CheckpointError: the header does not fit the file.
    """
    tensors = {}
    try:
        with open(path, "rb") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            content = bytearray(file.read())
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            count = math.prod(shape)
            if begin < 0 or end > len(content) or end - begin != count * dtype.itemsize:
                raise ValueError("its header does not fit it")
            flat = torch.frombuffer(content, dtype=dtype, count=count, offset=begin) if count else None
            tensors[name] = torch.empty(shape, dtype=dtype) if flat is None else flat.reshape(shape)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is a damaged safetensors file; download or write it again.") from error
    return tensors


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
