"""Training on people's own videos, with no labels at all: FOMM's self-supervision (its Section 3.2)."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from livepuppet.train.deform import Deformation
from livepuppet.train.losses import dissimilarity, equivariance, gradients, pyramid_l1

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}

#: Frames kept of one clip, evenly spaced: enough for every pose in it, and hours of video fit in memory.
FRAMES_PER_CLIP = 96


class DataError(ValueError):
    """A data folder that cannot be trained on; the message is one sentence."""


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    picture = picture[top : top + side, left : left + side]
    shrink = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(picture, (size, size), interpolation=shrink))


def read_clip(path: Path, size: int, most: int = FRAMES_PER_CLIP) -> np.ndarray:
    """A video file or a folder of frames as uint8 RGB (T, size, size, 3), the centred square of each frame.

    Raises:
        DataError: if fewer than two frames can be read.
    """
    frames: list[np.ndarray] = []
    if path.is_dir():
        names = sorted(name for name in path.iterdir() if name.suffix.lower() in PICTURES)
        picked = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int) if names else []
        for k in picked:
            picture = cv2.imread(str(names[k]), cv2.IMREAD_COLOR)
            if picture is not None:
                frames.append(_square(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), size))
    else:
        # Thinned by half whenever twice too many have come, so that memory is bounded whatever the length.
        every = 1
        try:
            with av.open(str(path)) as container:
                for k, frame in enumerate(container.decode(video=0)):
                    if k % every:
                        continue
                    frames.append(_square(frame.to_ndarray(format="rgb24"), size))
                    if len(frames) >= 2 * most:
                        frames, every = frames[::2], every * 2
        except (av.FFmpegError, OSError, IndexError) as error:
            if len(frames) < 2:
                raise DataError(f"{path} cannot be read as a video ({error}).") from error
        if len(frames) > most:
            frames = [frames[k] for k in np.linspace(0, len(frames) - 1, most).round().astype(int)]
    if len(frames) < 2:
        raise DataError(f"{path} holds fewer than two frames.")
    return np.stack(frames)


class VideoFolder:
    """Clips in memory: every video file, and every sub-folder with pictures in it, is one clip.

    Args:
        folder: the data.
        size: side that frames are brought to.

    Attributes:
        clips: uint8 RGB (T, S, S, 3) each.
        skipped: a sentence for each file that could not be used.

    Raises:
        DataError: if nothing in the folder can be used.
    """

    def __init__(self, folder: Path, size: int):
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}: give one that holds videos or folders of frames.")
        self.clips: list[np.ndarray] = []
        self.skipped: list[str] = []
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.suffix.lower() in PICTURES | {
                ".txt",
                ".md",
                ".json",
                ".csv",
                ".yaml",
            }:
                continue
            try:
                self.clips.append(read_clip(path, size))
            except DataError as error:
                self.skipped.append(str(error))
        if not self.clips:
            why = f" First problem: {self.skipped[0]}" if self.skipped else ""
            raise DataError(f"{folder} holds no video and no folder of frames that can be read.{why}")

    def pairs(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two frames of one clip each: source and driving, (B, 3, S, S) in [0, 1]; mirrored in half of the pairs."""
        sources, drivings = [], []
        for _ in range(batch):
            clip = self.clips[int(torch.randint(len(self.clips), (), generator=rng))]
            first, second = torch.randperm(len(clip), generator=rng)[:2].tolist()
            pair = clip[[first, second]]
            if torch.rand((), generator=rng) < 0.5:
                pair = pair[:, :, ::-1]
            pair = torch.from_numpy(np.ascontiguousarray(pair)).permute(0, 3, 1, 2).float() / 255
            sources.append(pair[0])
            drivings.append(pair[1])
        return torch.stack(sources), torch.stack(drivings)


class VideoTask:
    """FOMM's training: reconstruct the driving frame from the source frame, and equivariance (Eq. 11-13).

    Args:
        model: any model with the three calls.
        data: the clips.
        batch: pairs per step.
    """

    name = "video"

    def __init__(self, model: torch.nn.Module, data: VideoFolder, batch: int = 4):
        self.model, self.trained, self.data, self.batch = model, model, data, batch

    def prepare(self) -> None:
        self.model.train()

    def losses(self, rng: torch.Generator) -> dict[str, Tensor]:
        """One step's loss parts."""
        source, driving = self.data.pairs(self.batch, rng)
        source_keypoints, keypoints = self.model.detect(source), self.model.detect(driving)
        output = self.model.render(self.model.encode(source), *source_keypoints, *keypoints)
        change = Deformation.random(self.batch, rng, driving)
        deformed = self.model.detect(change.picture(driving))
        value, jacobian = equivariance(change, *keypoints, *deformed)
        prediction = output["prediction"]
        return {
            "pyramid": 10 * pyramid_l1(prediction, driving),
            "gradients": 5 * gradients(prediction, driving),
            "ssim": dissimilarity(prediction, driving),
            "equivariance value": 10 * value,
            "equivariance jacobian": 10 * jacobian,
        }
