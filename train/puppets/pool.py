"""A pool of rendered puppets on disk: drawn once, used many times.

Drawing at 256 x 256 takes longer than a training step on a CPU. So puppets are drawn in *shards*, a few identities in
a few poses each, by as many processes as one likes, before or during training; every ordered pair of poses of one
identity is a training pair. A shard follows from its seed alone and is written atomically.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from livepuppet.train.puppets.identities import Identity, Motion, draw_groups, draw_identities, generator
from livepuppet.train.puppets.renderer import Rendering, render, true_flow
from livepuppet.train.puppets.rig import landmarks

#: First seed of training shards; lower ones are for validation and tests.
FIRST_SEED = 1000

#: Identities per shard and poses of each.
GROUPS, POSES = 16, 4


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks.

    The renderer makes thousands of short-lived planes; handing each back to the kernel and faulting it in again takes
    half of its time. Other C libraries are left alone.
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def shard_path(folder: Path, seed: int) -> Path:
    return folder / f"puppets-{seed:08d}.npz"


def draw_shard(folder: Path, seed: int, size: int = 256) -> Path:
    """Draw the shard of a seed and write it, unless it is there already.

    The true flow is kept at a quarter of the size, where the dense motion network works.
    """
    coarse = size // 4
    path = shard_path(folder, seed)
    if path.exists():
        return path
    rng = generator(seed)
    identities = draw_identities(GROUPS, rng)
    motions = draw_groups(GROUPS, POSES, rng)
    pictures = np.empty((GROUPS * POSES, size, size, 3), np.uint8)
    surfaces = np.empty((GROUPS * POSES, 3, coarse, coarse), np.float16)
    layers = np.empty((GROUPS * POSES, coarse, coarse), np.uint8)
    for k in range(GROUPS * POSES):
        identity, motion = identities[k // POSES : k // POSES + 1], motions[k : k + 1]
        picture = render(identity, motion, size).picture[0]
        pictures[k] = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        small = render(identity, motion, coarse)
        surfaces[k], layers[k] = small.surface[0].numpy(), small.layer[0].numpy()
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, pictures=pictures, surfaces=surfaces, layers=layers, motions=motions.values.numpy())
    os.replace(temporary, path)
    return path


@dataclass
class Pairs:
    """A batch of training pairs of the same identities.

    Attributes:
        identity: B rows.
        source, driving: (B, 3, S, S) RGB in [0, 1].
        source_motion, driving_motion: B rows.
        flow: (B, S/4, S/4, 2) true sampling grid from the driving picture into the source.
        visible: (B, S/4, S/4) whether the source shows the point.
        source_points, ...: exact keypoints (B, K, 2) and Jacobians (B, K, 2, 2).
    """

    identity: Identity
    source: Tensor
    driving: Tensor
    source_motion: Motion
    driving_motion: Motion
    flow: Tensor
    visible: Tensor
    source_points: Tensor
    source_jacobians: Tensor
    driving_points: Tensor
    driving_jacobians: Tensor


def draw_shards(folder: Path, seeds) -> None:
    """Draw several shards in this process, on one thread: where many are wanted, processes share them out."""
    torch.set_num_threads(1)
    keep_freed_memory()
    for number in seeds:
        draw_shard(folder, number)


class PuppetPool:
    """Shards in memory, from which pairs are drawn.

    Args:
        folder: where the shards lie.
        limit: most shards to hold; further ones are ignored.
    """

    def __init__(self, folder: Path, limit: int | None = None):
        self.folder, self.limit = folder, limit
        self.names: list[str] = []
        self.pictures: list[np.ndarray] = []
        self.surfaces: list[np.ndarray] = []
        self.layers: list[np.ndarray] = []
        self.motions: list[np.ndarray] = []
        self.identities: list[Identity] = []
        self.refresh()

    def refresh(self) -> int:
        """Load shards that appeared since. Returns how many pictures the pool holds."""
        known = set(self.names)
        for path in sorted(self.folder.glob("puppets-*.npz")):
            if self.limit is not None and len(self.names) >= self.limit:
                break
            if path.name in known:
                continue
            with np.load(path) as shard:
                self.pictures.append(shard["pictures"])
                self.surfaces.append(shard["surfaces"])
                self.layers.append(shard["layers"])
                self.motions.append(shard["motions"])
            self.identities.append(draw_identities(GROUPS, generator(int(path.stem.split("-")[1]))))
            self.names.append(path.name)
        return len(self)

    def refresh_sometimes(self, rng: torch.Generator) -> None:
        """Look for new shards on about every hundredth call."""
        if torch.rand((), generator=rng) < 0.01:
            self.refresh()

    def __len__(self) -> int:
        return len(self.names) * GROUPS * POSES

    def _pick(self, array: list[np.ndarray], shard: Tensor, row: Tensor) -> np.ndarray:
        return np.stack([array[s][r] for s, r in zip(shard.tolist(), row.tolist(), strict=True)])

    def pictures_with_truth(self, batch: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Random pictures (B, 3, S, S) with their exact points and Jacobians, for the detector."""
        shard = torch.randint(len(self.names), (batch,), generator=rng)
        row = torch.randint(GROUPS * POSES, (batch,), generator=rng)
        identity = self._identities(shard, row // POSES)
        motion = Motion(torch.from_numpy(self._pick(self.motions, shard, row)))
        points, jacobians = landmarks(identity, motion)
        return self._pictures(shard, row), points, jacobians

    def pairs(self, batch: int, rng: torch.Generator, still: float = 0.12) -> Pairs:
        """Random pairs; a share `still` of them shows no motion at all."""
        shard = torch.randint(len(self.names), (batch,), generator=rng)
        group = torch.randint(GROUPS, (batch,), generator=rng)
        source = torch.randint(POSES, (batch,), generator=rng)
        step = torch.randint(1, POSES, (batch,), generator=rng)
        step = torch.where(torch.rand(batch, generator=rng) < still, 0, step)
        source_row = group * POSES + source
        driving_row = group * POSES + (source + step) % POSES
        identity = self._identities(shard, group)
        source_motion = Motion(torch.from_numpy(self._pick(self.motions, shard, source_row)))
        driving_motion = Motion(torch.from_numpy(self._pick(self.motions, shard, driving_row)))
        source_truth, driving_truth = landmarks(identity, source_motion), landmarks(identity, driving_motion)

        def seen(row: Tensor) -> Rendering:
            surface = torch.from_numpy(self._pick(self.surfaces, shard, row)).float()
            layer = torch.from_numpy(self._pick(self.layers, shard, row)).long()
            return Rendering(surface, surface, layer, surface, surface)

        flow, visible = true_flow(identity, seen(driving_row), source_motion, seen(source_row))
        return Pairs(
            identity,
            self._pictures(shard, source_row),
            self._pictures(shard, driving_row),
            source_motion,
            driving_motion,
            flow,
            visible,
            *source_truth,
            *driving_truth,
        )

    def _pictures(self, shard: Tensor, row: Tensor) -> Tensor:
        pictures = torch.from_numpy(self._pick(self.pictures, shard, row))
        return pictures.permute(0, 3, 1, 2).float() / 255

    def _identities(self, shard: Tensor, group: Tensor) -> Identity:
        rows = [self.identities[s][g : g + 1] for s, g in zip(shard.tolist(), group.tolist(), strict=True)]
        return Identity({name: torch.cat([row.fields[name] for row in rows]) for name in rows[0].fields})
