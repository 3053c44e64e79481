"""Puppets as files: contact sheets, portraits and driving clips. The bundled demo pictures come
from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from livepuppet.core.video_writer import write_video
from livepuppet.train.puppets.identities import (
    Identity,
    Motion,
    draw_groups,
    draw_identities,
    generator,
    scripted_clip,
)
from livepuppet.train.puppets.pool import keep_freed_memory
from livepuppet.train.puppets.renderer import render
from livepuppet.train.sheets.tiles import to_image


def supersampled(identity: Identity, motion: Motion, size: int) -> np.ndarray:
    """One puppet drawn at twice the size and brought down: uint8 RGB (size, size, 3)."""
    keep_freed_memory()
    large = to_image(render(identity, motion, 2 * size).picture[:1])
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)


def neutral(count: int = 1) -> Motion:
    """Looking straight ahead with open eyes and a closed mouth."""
    return scripted_clip(1)[torch.zeros(count, dtype=torch.long)]


def contact_sheet(
    seed: int, columns: int = 8, rows: int = 4, size: int = 160, setting: str = "plain"
) -> np.ndarray:
    """Identities in columns, each neutral and in three poses; two rows of identities per four rows
    of pictures.
    """
    groups = columns * max(1, rows // 4)
    rng = generator(seed)
    identities, motions = draw_identities(groups, rng, setting), draw_groups(groups, 3, rng, setting)
    blocks = []
    for k in range(groups):
        poses = [neutral(), *[motions[3 * k + p : 3 * k + p + 1] for p in range(3)]]
        blocks.append(
            np.concatenate([supersampled(identities[k : k + 1], pose, size) for pose in poses], axis=0)
        )
    return np.concatenate(
        [np.concatenate(blocks[k : k + columns], axis=1) for k in range(0, groups, columns)], axis=0
    )


def performance(identity: Identity, frames: int, rate: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """The frames of a scripted performance, uint8 RGB (size, size, 3)."""
    motion = scripted_clip(frames, rate, seed)
    for k in range(frames):
        yield supersampled(identity, motion[k : k + 1], size)


def write_clip(path: Path, frames: Iterator[np.ndarray], rate: int | Fraction) -> None:
    """Write frames uint8 RGB (H, W, 3) as a small H.264 file. Raises as
    `core.video_writer.VideoWriter`.
    """
    write_video(path, frames, rate, quality=20, preset="slow")
