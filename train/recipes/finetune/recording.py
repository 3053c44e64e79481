"""A person's recording: its parts, its frames, and whether there is something to learn from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.lite import LitePuppet
from livepuppet.train.data.reading import DataError
from livepuppet.train.metrics.inference import batches, evaluating

#: Shortest recording in seconds and in frames; frames that are kept, evenly spaced.
SHORTEST, LEAST_FRAMES, MOST_FRAMES = 5.0, 20, 300

#: Where the training and validation parts end, as shares of the frames; the rest is for the test.
#: Neighbouring frames look alike, so a gap is left after the training part.
TRAIN_END, GAP, VALIDATION_END = 0.70, 0.02, 0.85

#: A frame shows a face if the detector's mean confidence is at least this; share of frames that
#: must.
FACE_CONFIDENCE, FACE_SHARE = 0.4, 0.8

#: Deviation in pixels of 256 that the liveliest keypoint has to show. Talking faces have 4 to 20,
#: noise about 0.5.
LEAST_MOTION = 1.5

#: Mean difference of neighbouring frames, in [0, 1], that only a cut makes: in ten clips at most
#: 0.06, or 0.10 at a third of a second apart; between two people at least 0.12.
CUT_DIFFERENCE = 0.12


@dataclass(frozen=True)
class Recording:
    """A person in front of their webcam, framed as the live path frames them.

    Attributes:
        name: for messages.
        frames: uint8 RGB (T, S, S, 3), evenly spaced in time.
        seconds: its length.
    """

    name: str
    frames: np.ndarray
    seconds: float

    @property
    def train(self) -> np.ndarray:
        """The frames to learn from."""
        return self.frames[: round(TRAIN_END * len(self.frames))]

    @property
    def validation(self) -> np.ndarray:
        """The frames by which candidates are compared."""
        count = len(self.frames)
        return self.frames[round((TRAIN_END + GAP) * count) : round(VALIDATION_END * count)]

    @property
    def test(self) -> np.ndarray:
        """The frames by which the best candidate is accepted or rejected."""
        return self.frames[round(VALIDATION_END * len(self.frames)) :]


class UniformFrameSampler:
    """Evenly spaced frames of a stream of unknown length, in bounded memory.

    Whenever twice too many frames are held, every second one is dropped.

    Args:
        most: frames in the result.
    """

    def __init__(self, most: int = MOST_FRAMES):
        self.most, self.every, self.seen = most, 1, 0
        self.frames: list[np.ndarray] = []

    def wants_next(self) -> bool:
        """Whether to `add` the next frame. Call it once per frame, in order."""
        self.seen += 1
        return (self.seen - 1) % self.every == 0

    def add(self, frame: np.ndarray) -> None:
        """Keep a frame."""
        self.frames.append(frame)
        if len(self.frames) >= 2 * self.most:
            self.frames, self.every = self.frames[::2], 2 * self.every

    def result(self) -> np.ndarray:
        """The frames (T, ...), at most `most`; at least one must have been added."""
        count = min(self.most, len(self.frames))
        picked = np.linspace(0, len(self.frames) - 1, count).round().astype(int)
        return np.stack([self.frames[k] for k in picked])


def check_recording(recording: Recording, points: Tensor, confidence: Tensor) -> None:
    """Check that there is something to learn from a recording.

    Args:
        points: (T, K, 2) in [-1, 1], detected in its frames.
        confidence: (T, K) in [0, 1], of the same.

    Raises:
        DataError: it is too short, shows no face, a face that does not move, or is cut from several
            takes.
    """
    name, frames = recording.name, recording.frames
    if len(frames) < LEAST_FRAMES:
        raise DataError(
            f"{name} holds {len(frames)} frames: record at least {SHORTEST:.0f} seconds, better a minute, of yourself."
        )
    if recording.seconds < SHORTEST:
        raise DataError(
            f"{name} lasts {recording.seconds:.1f} seconds: record at least {SHORTEST:.0f}, better a minute, of yourself "
            "talking, looking around and blinking."
        )
    seen = (confidence.mean(1) >= FACE_CONFIDENCE).float().mean().item()
    if seen < FACE_SHARE:
        raise DataError(
            f"{name} shows a face in {100 * seen:.0f} % of its frames only: record yourself from the front in good "
            "light, or give the square of your face with --crop X,Y,SIDE."
        )
    pixels = points.std(0).norm(dim=-1).max().item() * 127.5
    if pixels < LEAST_MOTION:
        raise DataError(
            f"The face in {name} does not move: talk, turn your head, blink and smile while you record."
        )
    thumbnails = frames[:, ::8, ::8].astype(np.float32) / 255
    jumps = np.abs(np.diff(thumbnails, axis=0)).mean((1, 2, 3))
    if jumps.max() > CUT_DIFFERENCE:
        when = recording.seconds * (int(jumps.argmax()) + 1) / len(frames)
        raise DataError(
            f"{name} jumps to another picture after {when:.1f} seconds: give one take of one person, cut it there."
        )


@torch.no_grad()
def detect_recording(model: LitePuppet, frames: np.ndarray) -> tuple[Tensor, Tensor]:
    """Points (T, K, 2) and confidence (T, K) of frames uint8 RGB (T, S, S, 3)."""
    with evaluating(model):
        found = [model.detect_with_confidence(batch) for batch in batches(frames)]
    return torch.cat([one[0] for one in found]), torch.cat([one[2] for one in found])
