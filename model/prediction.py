"""Image-to-video: a recurrent network that continues keypoints (Monkey-Net, arXiv 1812.08861,
image-to-video translation).

Its input are the keypoints of the first frame or first few, its output those of all later frames.
It sees no images: a model with the three calls detects the first keypoints and renders the others.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.model.aliases import rename_tensors
from livepuppet.model.checkpoint import write_safetensors
from livepuppet.model.file_types import CheckpointError, load_strictly, read_safetensors_header, read_tensors
from livepuppet.model.presets import check_sizes

FORMAT = "livepuppet-predictor"
VERSION = 1


@dataclass(frozen=True)
class PredictorConfig:
    """Shape of a predictor; by default the published one, but for `offsets`.

    Attributes:
        num_keypoints: K.
        hidden: units of the single recurrent layer.
        frames: T, the length that it is trained on, the given frames among them.
        from_frames: n, how many first frames are given.
        matrices: "jacobian", "covariance", or "held": those of the last given frame are kept (as
            published for moving GIFs), and only positions are predicted.
        offsets: predict offsets from the last given keypoints instead of positions, so that an
            untrained predictor stands still. False is as published.
    """

    num_keypoints: int
    hidden: int = 1024
    frames: int = 32
    from_frames: int = 1
    matrices: str = "held"
    offsets: bool = True

    def __post_init__(self):
        if self.matrices not in ("jacobian", "covariance", "held"):
            raise ValueError(f"matrices is '{self.matrices}'; it can be jacobian, covariance or held")
        if min(self.num_keypoints, self.hidden, self.from_frames) < 1:
            raise ValueError("num_keypoints, hidden and from_frames have to be 1 or more")
        if self.frames <= self.from_frames:
            raise ValueError(
                f"{self.frames} frames of which {self.from_frames} are given leave nothing to predict"
            )

    @classmethod
    def from_json(cls, text: str) -> PredictorConfig:
        """Raises ValueError for what is no config of this version of livepuppet."""
        try:
            values = json.loads(text)
            check_sizes(cls, values)
            return cls(**values)
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"not a predictor's config that this version of livepuppet knows: {error}"
            ) from error


class MotionPredictor(nn.Module):
    """A single-layer GRU that reads the given keypoints, then zeros, and predicts the keypoints of
    every frame.

    Args:
        config: its shape.

    Attributes:
        metadata: what `save_predictor` was given, as strings.
        mean_offset, mean_position: (T, K, 2), means over the training data at each frame, of the
            offset from the last given frame and of the position: baselines for a prediction.
    """

    mean_offset: Tensor
    mean_position: Tensor

    def __init__(self, config: PredictorConfig):
        super().__init__()
        self.config = config
        self.metadata: dict[str, str] = {}
        width = config.num_keypoints * (2 if config.matrices == "held" else 6)
        self.gru = nn.GRU(width, config.hidden, batch_first=True)
        self.head = nn.Linear(config.hidden, width)
        if config.offsets:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        for name in ("mean_offset", "mean_position"):
            self.register_buffer(name, torch.zeros(config.frames, config.num_keypoints, 2))

    def forward(self, points: Tensor, matrices: Tensor, frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Continue keypoints.

        Args:
            points: (B, n, K, 2) in [-1, 1] as (x, y), of the given frames.
            matrices: (B, n, K, 2, 2), their Jacobians or covariances.
            frames: of the result; T by default. It was not trained on more than T.

        Returns:
            Points (B, frames, K, 2) in [-1, 1] and matrices (B, frames, K, 2, 2); the first n are
            the given ones.
        """
        frames = self.config.frames if frames is None else frames
        batch, given, keypoints = points.shape[:3]
        if given != self.config.from_frames or keypoints != self.config.num_keypoints:
            raise ValueError(
                f"this predictor takes {self.config.from_frames} frames of {self.config.num_keypoints} keypoints, "
                f"not {given} of {keypoints}"
            )
        inputs = self._inputs(points, matrices)
        zeros = inputs.new_zeros(batch, max(frames - given, 0), inputs.shape[-1])
        hidden, _ = self.gru(torch.cat([inputs, zeros], 1))
        predicted = self.head(hidden[:, given:]).view(
            batch, -1, keypoints, self.head.out_features // keypoints
        )
        later = self._points(predicted[..., :2], points[:, -1:])
        last = matrices[:, -1:]
        if self.config.matrices == "held":
            continued = last.expand(-1, predicted.shape[1], -1, -1, -1)
        else:
            continued = self._matrices(predicted[..., 2:].unflatten(-1, (2, 2)), last)
        return torch.cat([points, later], 1)[:, :frames], torch.cat([matrices, continued], 1)[:, :frames]

    def _inputs(self, points: Tensor, matrices: Tensor) -> Tensor:
        if self.config.matrices == "held":
            return points.flatten(2)
        if self.config.matrices == "jacobian":
            matrices = matrices - torch.eye(2, dtype=matrices.dtype, device=matrices.device)
        return torch.cat([points, matrices.flatten(3)], -1).flatten(2)

    def _points(self, predicted: Tensor, last: Tensor) -> Tensor:
        if not self.config.offsets:
            return torch.tanh(predicted)
        # Measured against an offset under the tanh, which bends near the edge: the plain sum learns
        # twice as fast.
        return last + predicted

    def _matrices(self, predicted: Tensor, last: Tensor) -> Tensor:
        if self.config.matrices == "jacobian":
            return predicted + (
                last if self.config.offsets else torch.eye(2, dtype=predicted.dtype, device=predicted.device)
            )
        # A^T A is symmetric and positive semidefinite whatever A is.
        root = predicted + _upper_root(last) if self.config.offsets else predicted
        return root.transpose(-1, -2) @ root


def _upper_root(covariances: Tensor) -> Tensor:
    """A upper triangular with A^T A = covariances (..., 2, 2), in closed form."""
    a = covariances[..., 0, 0].clamp_min(1e-8).sqrt()
    b = covariances[..., 0, 1] / a
    c = (covariances[..., 1, 1] - b.square()).clamp_min(1e-8).sqrt()
    return torch.stack([torch.stack([a, b], -1), torch.stack([torch.zeros_like(a), c], -1)], -2)


def loss_parts(
    points: Tensor, matrices: Tensor, true_points: Tensor, true_matrices: Tensor, config: PredictorConfig
) -> dict[str, Tensor]:
    """L1 over the predicted frames, of positions and, where they are predicted, of matrices."""
    later = slice(config.from_frames, None)
    parts = {"points": F.l1_loss(points[:, later], true_points[:, later])}
    if config.matrices != "held":
        parts["matrices"] = F.l1_loss(matrices[:, later], true_matrices[:, later])
    return parts


def save_predictor(predictor: MotionPredictor, path: str | os.PathLike, **metadata: object) -> None:
    """Write a predictor with its config, atomically. `metadata` are kept beside it as strings.

    `model_sha256` and `model` (the preset's name) tell whose keypoints it continues.
    """
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in predictor.state_dict().items()
    }
    texts = {"format": FORMAT, "version": str(VERSION), "config": json.dumps(asdict(predictor.config))}
    write_safetensors(Path(path), tensors, texts | {name: str(value) for name, value in metadata.items()})


def load_predictor(path: str | os.PathLike) -> MotionPredictor:
    """What `save_predictor` wrote, on the CPU, in evaluation mode; read as data.

    Raises:
        CheckpointError: the file is something else, is damaged, or is of another version.
    """
    header = read_safetensors_header(path)
    metadata = header.metadata
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds no motion predictor; make one with 'livepuppet imagine --learn'."
        )
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(
            f"{path} is a predictor of version {metadata.get('version')}, and this livepuppet reads {VERSION}; "
            "update livepuppet."
        )
    try:
        predictor = MotionPredictor(PredictorConfig.from_json(metadata.get("config", "")))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be built: {error}.") from error
    load_strictly(predictor, rename_tensors("predictor", read_tensors(path, header)), str(path))
    predictor.metadata = dict(metadata)
    return predictor.eval()
