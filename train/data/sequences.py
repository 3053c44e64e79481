"""Keypoints of whole clips, detected once by a trained model and cached on disk: a motion
predictor's data.
"""

from __future__ import annotations

import json
import logging
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from livepuppet.core.files import replacing
from livepuppet.model.base import Model
from livepuppet.train.data.reading import (
    Clip,
    DataError,
    at_size,
    frame_rate,
    list_clips,
    part_of,
    read_frames,
)

logger = logging.getLogger(__name__)

#: Frames read of one clip, from its beginning and without gaps: a predictor needs the time between
#: frames to stay the same.
MOST_FRAMES = 2000

#: Frames per second of clips that do not say, such as folders of frames.
RATE = 25.0

#: Seconds between two writes of what was found until then.
SAVE_EVERY = 60.0

#: Share of the clips that a predictor is chosen on, and never trained on.
VALIDATION = 0.1

#: Most windows that a score is made of.
MOST_WINDOWS = 4096

FORMAT = "livepuppet-keypoints 1"


@dataclass(frozen=True)
class Sequences:
    """Keypoints of clips, one after the other.

    Attributes:
        points: float32 (N, K, 2) in [-1, 1] as (x, y).
        matrices: float32 (N, K, 2, 2): Jacobians or covariances.
        lengths: frames of each clip; their sum is N.
        names: of the clips.
        rate: frames per second, the median of the clips that say.
    """

    points: Tensor
    matrices: Tensor
    lengths: tuple[int, ...]
    names: tuple[str, ...]
    rate: float = RATE

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.lengths)

    @property
    def starts(self) -> list[int]:
        """Row of each clip's first frame."""
        return [0, *np.cumsum(self.lengths)[:-1].tolist()] if self.lengths else []

    def clip(self, k: int) -> tuple[Tensor, Tensor]:
        """Points (T, K, 2) and matrices (T, K, 2, 2) of clip `k`."""
        rows = slice(self.starts[k], self.starts[k] + self.lengths[k])
        return self.points[rows], self.matrices[rows]

    def windows(self, rows: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Runs of `frames` frames that begin at `rows` (B,): points (B, T, K, 2) and matrices (B,
        T, K, 2, 2).
        """
        index = rows[:, None] + torch.arange(frames, device=rows.device)
        return self.points[index], self.matrices[index]

    def choose(self, clips: list[int]) -> Sequences:
        """Only these clips."""
        parts = [self.clip(k) for k in clips]
        return Sequences(
            torch.cat([points for points, _ in parts]),
            torch.cat([matrices for _, matrices in parts]),
            tuple(self.lengths[k] for k in clips),
            tuple(self.names[k] for k in clips),
            self.rate,
        )

    def to(self, device: torch.device | str) -> Sequences:
        return Sequences(
            self.points.to(device), self.matrices.to(device), self.lengths, self.names, self.rate
        )


def find_sequences(
    model: Model,
    model_sha256: str,
    folder: Path,
    cache: Path | None = None,
    part: str | None = "train",
    batch: int = 32,
    most: int | None = None,
) -> Sequences:
    """The keypoints that `model.detect` finds in all clips of a folder.

    Args:
        model: with the three calls, in evaluation mode.
        model_sha256: of its weights: keypoints of another model are not taken from the cache.
        folder: every video, animated or stacked image and every folder of frames in it is one clip.
        cache: file (.npz) that keeps the keypoints clip by clip, so that none are detected twice,
            even after a kill.
        part: sub-folder to take where the folder is split into `train` and `test`.
        batch: frames at a time.
        most: clips, the first ones in the order of their names; all by default.

    Raises:
        DataError: if no clip can be used.
        OSError: if the cache cannot be written.
    """
    folder = part_of(folder, part)
    clips, skipped = list_clips(folder)
    for sentence in skipped:
        logger.warning("skipped: %s", sentence)
    clips = clips[:most]
    found = _read_cache(cache, model_sha256) if cache else {}
    stamps = {clip.name: _stamp(clip) for clip in clips}
    problems = []
    saved, dirty = time.monotonic(), False
    for clip in tqdm(clips, desc="Finding keypoints", unit="clip", disable=None):
        key = stamps[clip.name]
        if key in found:
            continue
        try:
            found[key] = _detect(model, clip, batch)
        except DataError as error:
            problems.append(str(error))
            logger.warning("skipped: %s", error)
            continue
        dirty = True
        if cache and time.monotonic() - saved > SAVE_EVERY:
            _write_cache(cache, model_sha256, found)
            saved, dirty = time.monotonic(), False
    if cache and dirty:
        _write_cache(cache, model_sha256, found)
    usable = [clip for clip in clips if stamps[clip.name] in found]
    if not usable:
        raise DataError(f"{folder} holds no clip that can be used; the first problem: {problems[0]}")
    values = [found[stamps[clip.name]] for clip in usable]
    return Sequences(
        torch.from_numpy(np.concatenate([points for points, _ in values])),
        torch.from_numpy(np.concatenate([matrices for _, matrices in values])),
        tuple(len(points) for points, _ in values),
        tuple(clip.name for clip in usable),
        _median_rate(usable),
    )


def frames_of(clip: Clip, size: int, most: int = MOST_FRAMES) -> np.ndarray:
    """The first frames of a clip without gaps, uint8 RGB (T, size, size, 3). Raises DataError."""
    frames = at_size(read_frames(clip, range(min(clip.length, most)), size), size)
    if clip.kind == "video":
        # Where a video ends before its header says, its last frame was repeated.
        last = len(frames)
        while last > 2 and np.array_equal(frames[last - 1], frames[last - 2]):
            last -= 1
        frames = frames[:last]
    return frames


def batches(frames: np.ndarray, batch: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """uint8 RGB (T, S, S, 3) as float32 (B, 3, S, S) in [0, 1], `batch` at a time."""
    for first in range(0, len(frames), batch):
        some = torch.from_numpy(np.ascontiguousarray(frames[first : first + batch])).to(device)
        yield some.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def detect_frames(model: Model, frames: np.ndarray, batch: int = 32) -> tuple[Tensor, Tensor]:
    """Points (T, K, 2) and matrices (T, K, 2, 2), on the CPU, of frames uint8 RGB (T, S, S, 3)."""
    device = next(model.parameters()).device
    found = [model.detect(some) for some in batches(frames, batch, device)]
    points, matrices = (torch.cat(values).float().cpu() for values in zip(*found, strict=True))
    return points, matrices


def _detect(model: Model, clip: Clip, batch: int) -> tuple[np.ndarray, np.ndarray]:
    points, matrices = detect_frames(model, frames_of(clip, model.preset.size), batch)
    return points.numpy(), matrices.numpy()


def _stamp(clip: Clip) -> str:
    """Identifies this version of a clip."""
    about = clip.path.stat()
    size = len(clip.files) or about.st_size
    return f"{clip.path.resolve()}|{size}|{about.st_mtime_ns}"


def _median_rate(clips: list[Clip]) -> float:
    rates = []
    # A few are enough: the clips of one folder mostly come from one camera.
    for clip in [clip for clip in clips if clip.kind == "video"][:20]:
        rates.append(float(frame_rate(clip)))
    return float(Fraction(float(np.median(rates))).limit_denominator(1001)) if rates else RATE


def _read_cache(path: Path, model_sha256: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What a cache holds of this model; nothing where it is damaged or another's, which only costs
    time.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["metadata"]))
            if header.get("format") != FORMAT or header.get("model_sha256") != model_sha256:
                return {}
            points, matrices, lengths = file["points"], file["matrices"], file["lengths"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    ends = np.cumsum(lengths)
    return {
        stamp: (points[end - length : end], matrices[end - length : end])
        for stamp, length, end in zip(header["stamps"], lengths, ends, strict=True)
    }


def _write_cache(path: Path, model_sha256: str, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    header = {"format": FORMAT, "model_sha256": model_sha256, "stamps": list(found)}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(
            file,
            metadata=np.array(json.dumps(header)),
            points=np.concatenate([points for points, _ in found.values()]),
            matrices=np.concatenate([matrices for _, matrices in found.values()]),
            lengths=np.array([len(points) for points, _ in found.values()]),
        )


def long_enough(data: Sequences, frames: int) -> tuple[Sequences, list[str]]:
    """The clips of at least `frames` frames, and the names of the others.

    Raises:
        DataError: if none is.
    """
    keep = [k for k, length in enumerate(data.lengths) if length >= frames]
    short = [name for name, length in zip(data.names, data.lengths, strict=True) if length < frames]
    if not keep:
        raise DataError(
            f"None of the {len(data)} clips has the {frames} frames that a continuation takes; the longest has "
            f"{max(data.lengths)}: give longer clips, or fewer --frames."
        )
    return data.choose(keep), short


def split(data: Sequences, seed: int = 0) -> tuple[Sequences, Sequences]:
    """Clips to learn from and clips to choose the predictor on.

    Raises:
        DataError: for a single clip.
    """
    if len(data) < 2:
        raise DataError(
            "There is only one clip, and learning needs another one to tell whether it helps: cut the recording into several."
        )
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    count = max(1, round(VALIDATION * len(data)))
    return data.choose(sorted(order[count:])), data.choose(sorted(order[:count]))


def even_windows(data: Sequences, frames: int, most: int = MOST_WINDOWS) -> Tensor:
    """Rows at which runs of `frames` frames begin, side by side in each clip; evenly thinned to
    `most`.
    """
    rows = [
        start + first
        for start, length in zip(data.starts, data.lengths, strict=True)
        for first in range(0, length - frames + 1, frames)
    ]
    if len(rows) > most:
        rows = [rows[k] for k in np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return torch.tensor(rows)
