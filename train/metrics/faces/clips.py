"""Clips of real faces, and pairs of their frames with optical flow between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.train.data.reading import DataError, at_size, list_clips, part_of, read_frames
from livepuppet.train.metrics.inference import flow_between, gray

#: Frames that motion is measured over: a fifth of a second at 25 a second, so that it is larger
#: than the flow's own error.
STEP = 5

#: Most frames of a clip that are looked at.
MOST_FRAMES = 300

#: Optical flow is trusted where following it there and back returns to within this many pixels of
#: 256.
AGREE = 1.5

#: In pixels of 256: root mean square flow over `STEP` frames from which on a clip "moves", and mean
#: flow between neighbouring frames below which a face holds still.
MOVES, STILL = 1.0, 0.25


@dataclass(frozen=True)
class FaceClip:
    """A clip of one face, and pairs of its frames with the optical flow between them.

    Attributes:
        name: its file's name.
        frames: uint8 RGB (T, S, S, 3).
        first: (N,) numbers of the pairs' earlier frames; the later ones are `step` on.
        step: frames between the two.
        there, back: float32 (N, S, S, 2) in pixels, flow from the earlier frame to the later one
            and back.
        there_agrees, back_agrees: bool (N, S, S), whether the two undo each other.
    """

    name: str
    frames: np.ndarray
    first: np.ndarray
    step: int
    there: np.ndarray
    back: np.ndarray
    there_agrees: np.ndarray
    back_agrees: np.ndarray

    @property
    def movement(self) -> float:
        """Root mean square of the flow in the middle of the image, in pixels of 256."""
        inside = middle(self.frames.shape[1])
        return float(np.sqrt(np.square(self.back[:, inside]).sum(-1).mean()) * 256 / self.frames.shape[1])

    @property
    def moves(self) -> bool:
        return self.movement >= MOVES


def face_clip(name: str, frames: np.ndarray, pairs: int = 24, step: int = STEP) -> FaceClip:
    """Pair frames uint8 RGB (T, S, S, 3), T >= 2, evenly over the clip, and compute the flow
    between them.
    """
    step = min(step, len(frames) - 1)
    last = len(frames) - 1 - step
    first = np.unique(np.linspace(0, last, min(pairs, last + 1)).round().astype(int))
    earlier, later = gray(frames[first]), gray(frames[first + step])
    there = np.stack([flow_between(a, b) for a, b in zip(earlier, later, strict=True)])
    back = np.stack([flow_between(b, a) for a, b in zip(earlier, later, strict=True)])
    limit = AGREE * frames.shape[1] / 256
    return FaceClip(
        name, frames, first, step, there, back, agreeing(there, back, limit), agreeing(back, there, limit)
    )


def agreeing(there: np.ndarray, back: np.ndarray, limit: float) -> np.ndarray:
    """bool (N, S, S): where `back`, taken where `there` leads, returns to within `limit` pixels;
    both (N, S, S, 2).
    """
    side = there.shape[1]
    place = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).astype(np.float32)
    agrees = np.empty(there.shape[:3], bool)
    for k, (one, other) in enumerate(zip(there, back, strict=True)):
        at = place + one
        returned = cv2.remap(other, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        outside = ((at < 0) | (at > side - 1)).any(-1)
        agrees[k] = (np.linalg.norm(one + returned, axis=-1) < limit) & ~outside
    return agrees


def read_clips(
    folder: Path, size: int, skipped: list[str], limit: int | None = None, pairs: int = 24
) -> Iterator[FaceClip]:
    """The clips of a folder, framed square by their middle; a sentence about each unreadable one
    goes to `skipped`.

    Raises:
        DataError: there is no folder, or no clip in it.
    """
    clips, unreadable = list_clips(part_of(folder, None))
    skipped += unreadable
    for clip in clips[:limit]:
        try:
            wanted = range(min(clip.length, MOST_FRAMES))
            frames = at_size(read_frames(clip, wanted, size), size)
        except DataError as error:
            skipped.append(str(error))
            continue
        yield face_clip(clip.name, frames, pairs)


def middle(side: int) -> np.ndarray:
    """bool (side, side): the ellipse in which the face of a clip framed square lies, most of the
    time.
    """
    y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    return (x / 0.72) ** 2 + (y / 0.84) ** 2 < 1


def subsample(frames: np.ndarray, count: int = 16) -> np.ndarray:
    """At most `count` of the frames, evenly spaced."""
    return frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)]
