"""A pool of rendered puppets on disk: drawn once, used many times.

Drawing at 256 x 256 takes longer than a training step on a CPU. So puppets are drawn in *shards*, a
few identities in a few poses each, by as many processes as one likes, before or during training;
every ordered pair of poses of one identity is a training pair. A shard follows from its seed, its
setting and its sizes alone, says which they were, and is written atomically.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from livepuppet.core.errors import LivePuppetError
from livepuppet.core.files import replacing
from livepuppet.train.device import send
from livepuppet.train.puppets.identities import (
    PEOPLE,
    Identity,
    Motion,
    draw_groups,
    draw_identities,
    generator,
)
from livepuppet.train.puppets.pairs import Pairs, Puppets, chunks, geometry
from livepuppet.train.puppets.renderer import RENDERER, render
from livepuppet.train.puppets.rig import landmarks

__all__ = [
    "FIRST_SEED",
    "GROUPS",
    "POSES",
    "Pairs",
    "PoolError",
    "PuppetPool",
    "draw_jobs",
    "draw_shard",
    "draw_shards",
]

#: First seed of training shards; lower ones are for validation and tests.
FIRST_SEED = 1000

#: Identities per shard and poses of each.
GROUPS, POSES = 16, 4

#: Which puppets are drawn where nothing is said. Those of "plain" stay what they were in every
#: version of the renderer.
SETTING, UNCHANGING = "rich", "plain"


#: Arrays of people that are kept packed, since few ask for them.
PACKED = frozenset(["alphas", "plates", "backgrounds", "labels", "depth", "shown"])

#: Arrays of a shard of people that pairs are made of; the others are read where they are asked for.
OF_PEOPLE = (
    *("pictures", "places", "shown", "motions", "points", "jacobians", "seen"),
    *("other_points", "other_jacobians"),
)


class PoolError(LivePuppetError, ValueError):
    """A shard that cannot be used here; the message says why and what to do."""


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks.

    The renderer makes thousands of short-lived planes; handing each back to the kernel and faulting
    it in again takes half of its time. Other C libraries are left alone.
    """
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


# --------------------------------------------------------------------------------------------------------------
# shards


def version(setting: str) -> int:
    """Of the renderer that draws a setting."""
    if setting in PEOPLE:
        from livepuppet.train.people.draw import RENDERER as PEOPLE_RENDERER

        return PEOPLE_RENDERER
    return RENDERER


@dataclass(frozen=True)
class Stamp:
    """What a shard was drawn with.

    Attributes:
        setting: one of `identities.SETTINGS` or `PEOPLE`.
        renderer: `version` of the program that drew it; 0 for shards from before there were stamps.
        size: side of the pictures.
        coarse: side of surfaces and layers, where the true flow is.
    """

    setting: str
    renderer: int
    size: int
    coarse: int

    def check(self, path: Path) -> None:
        """Raises PoolError if this program would draw other puppets from the shard's seed."""
        if self.setting in PEOPLE:
            from livepuppet.train.people.draw import READABLE

            if self.renderer in READABLE:
                return
        if self.setting != UNCHANGING and self.renderer != version(self.setting):
            raise PoolError(
                f"{path} was drawn by version {self.renderer} of the puppet renderer and this is version "
                f"{version(self.setting)}: delete that folder, or give another one, and its puppets are drawn anew."
            )


def shard_path(folder: Path, seed: int) -> Path:
    return folder / f"puppets-{seed:08d}.npz"


def draw_shard(
    folder: Path, seed: int, size: int = 256, coarse: int | None = None, setting: str = SETTING
) -> Path:
    """Draw the shard of a seed and write it, unless it is there already.

    Args:
        folder: of the pool.
        seed: of the shard.
        size: side of the pictures. Detector and dense motion need no more than 128.
        coarse: side at which the true flow is kept, where the dense motion network works; a quarter
            of `size` if None.
        setting: which puppets; see `identities.SETTINGS` and `PEOPLE`.

    Raises:
        PoolError: another shard of that seed is there already.
    """
    coarse = coarse or size // 4
    path = shard_path(folder, seed)
    wanted = Stamp(setting, version(setting), size, coarse)
    if path.exists():
        stamp = read_stamp(path)
        stamp.check(path)
        if (stamp.setting, stamp.size, stamp.coarse) != (setting, size, coarse):
            raise PoolError(
                f"{path} holds puppets of setting {stamp.setting} at {stamp.size} pixels (flow at {stamp.coarse}), and "
                f"{setting} at {size} ({coarse}) are wanted: give another folder."
            )
        return path
    draw = _people if setting in PEOPLE else _puppets
    arrays = draw(seed, size, coarse, setting)
    arrays |= {"setting": np.array(setting), "renderer": np.array(wanted.renderer)}
    with replacing(path) as part, part.open("wb") as file:
        _write(file, arrays)
    return path


def _puppets(seed: int, size: int, coarse: int, setting: str) -> dict[str, np.ndarray]:
    """The arrays of a shard of puppets."""
    rng = generator(seed)
    identities = draw_identities(GROUPS, rng, setting)
    motions = draw_groups(GROUPS, POSES, rng, setting)
    pictures = np.empty((GROUPS * POSES, size, size, 3), np.uint8)
    surfaces = np.empty((GROUPS * POSES, 3, coarse, coarse), np.float16)
    layers = np.empty((GROUPS * POSES, coarse, coarse), np.uint8)
    for rows in chunks(GROUPS * POSES, size):
        picture = render(identities[rows // POSES], motions[rows], size).picture
        pictures[rows] = (picture * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for rows in chunks(GROUPS * POSES, coarse):
        small = render(identities[rows // POSES], motions[rows], coarse)
        surfaces[rows], layers[rows] = small.surface.numpy(), small.layer.numpy()
    return {
        "pictures": pictures,
        "surfaces": surfaces,
        "layers": layers,
        "motions": motions.values.numpy(),
        **{f"identity.{name}": value.numpy() for name, value in geometry(identities).fields.items()},
    }


def _people(seed: int, size: int, coarse: int, setting: str) -> dict[str, np.ndarray]:
    """The arrays of a shard of people."""
    from livepuppet.train.people.shards import draw

    return draw(seed, GROUPS, POSES, size, coarse, setting)


def _write(file, arrays: dict[str, np.ndarray]) -> None:
    """An .npz file. Mattes and labels, which are mostly even, are packed; pictures, which are read
    often, are not.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = zipfile.ZIP_DEFLATED if name in PACKED else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"))


def draw_shards(
    folder: Path, seeds: Iterable[int], size: int = 256, coarse: int | None = None, setting: str = SETTING
) -> None:
    """Draw several shards in this process, on one thread: where many are wanted, processes share
    them out.
    """
    torch.set_num_threads(1)
    draw_jobs((folder, number, size, coarse, setting) for number in seeds)


def draw_jobs(jobs: Iterable[tuple], aside: bool = False) -> None:
    """Draw shards; each job is the arguments of `draw_shard`. `aside`: in a process of its own,
    which yields to others.
    """
    keep_freed_memory()
    if aside:
        torch.set_num_threads(1)
        with contextlib.suppress(OSError, AttributeError):
            os.nice(5)
    for job in jobs:
        draw_shard(*job)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with np.load(path) as shard:
            yield shard
    except PoolError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, AttributeError, EOFError) as error:
        raise PoolError(
            f"{path} is damaged or no shard of puppets: delete it, and it is drawn anew."
        ) from error


def _stamp(shard) -> Stamp:
    with shard.zip.open("pictures.npy") as file:
        np.lib.format.read_magic(file)
        size = np.lib.format.read_array_header_1_0(file)[0][1]
    coarse = int(shard["coarse"]) if "coarse" in shard else shard["layers"].shape[-1]
    if "setting" not in shard:
        return Stamp(UNCHANGING, 0, size, coarse)
    return Stamp(str(shard["setting"]), int(shard["renderer"]), size, coarse)


def read_stamp(path: Path) -> Stamp:
    """What the shard at `path` was drawn with.

    Raises:
        PoolError: it is damaged.
    """
    with _opened(path) as shard:
        return _stamp(shard)


@dataclass
class _Shard:
    """One shard in memory: arrays by name, and the geometry of its identities (of puppets)."""

    stamp: Stamp
    arrays: dict[str, np.ndarray]
    identities: Identity | None
    groups: int


def _read(path: Path, extras: tuple[str, ...] = ()) -> _Shard:
    with _opened(path) as shard:
        stamp = _stamp(shard)
        stamp.check(path)
        if stamp.setting in PEOPLE:
            arrays = {name: shard[name] for name in (*OF_PEOPLE, *extras)}
            return _Shard(stamp, arrays, None, int(shard["groups"]))
        arrays = {name: shard[name] for name in ("pictures", "surfaces", "layers", "motions")}
        fields = {
            name.removeprefix("identity."): torch.from_numpy(shard[name])
            for name in shard.files
            if name.startswith("identity.")
        }
    if not fields:  # from before shards held their identities
        seed = int(path.stem.split("-")[1])
        fields = geometry(draw_identities(GROUPS, generator(seed), stamp.setting)).fields
    identities = Identity(fields)
    poses = len(arrays["motions"]) // len(identities)
    each = identities[torch.arange(len(identities)).repeat_interleave(poses)]
    points, jacobians = landmarks(each, Motion(torch.from_numpy(arrays["motions"])))
    arrays |= {"points": points.numpy(), "jacobians": jacobians.numpy()}
    return _Shard(stamp, arrays, identities, len(identities))


# ----------------------------------------------------------------------------------------------------------------
# pool


class PuppetPool(Puppets):
    """Shards in memory, from which pairs are drawn.

    Args:
        folder: where the shards lie.
        limit: most shards to hold; further ones are ignored.
        device: where batches go; the shards stay in the computer's memory.
        setting: which the shards must be of; None for that of the first.
        extras: further arrays of shards of people to hold, by the names of
            `people.truth.draw_group`; `rows` gives them.

    Raises:
        PoolError: a shard is damaged, of another renderer or setting, or unlike the others.
    """

    def __init__(
        self,
        folder: Path,
        limit: int | None = None,
        device: torch.device | str = "cpu",
        setting: str | None = None,
        extras: tuple[str, ...] = (),
    ):
        self.extras = extras
        self.folder, self.limit, self.device = folder, limit, torch.device(device)
        self.names: list[str] = []
        self.refused: set[str] = set()
        self.shards: list[_Shard] = []
        self.setting = setting or ""
        self.poses, self.groups = POSES, GROUPS
        self._load()

    def _load(self, strict: bool = True) -> None:
        for path in sorted(self.folder.glob("puppets-*.npz")):
            if self.limit is not None and len(self.names) >= self.limit:
                break
            if path.name in self.names or path.name in self.refused:
                continue
            try:
                self._add(path)
            except PoolError as error:
                if strict:
                    raise
                # Hours of training do not end because somebody put a file there.
                self.refused.add(path.name)
                warnings.warn(f"{error} It is left out.", stacklevel=2)

    def _add(self, path: Path) -> None:
        shard = _read(path, self.extras)
        groups = shard.groups
        if self.setting and shard.stamp.setting != self.setting:
            raise PoolError(
                f"{path} holds puppets of setting {shard.stamp.setting}, and {self.setting} are wanted: give another "
                "folder, or delete that one, and they are drawn."
            )
        if self.shards:
            first = self.shards[0].stamp
            if (shard.stamp.size, shard.stamp.coarse, groups) != (first.size, first.coarse, self.groups):
                raise PoolError(
                    f"{path} has pictures of {shard.stamp.size} pixels (flow at {shard.stamp.coarse}), others in that "
                    f"folder {first.size} ({first.coarse}): keep different sizes in different folders."
                )
        self.groups, self.poses = groups, len(shard.arrays["motions"]) // groups
        self.setting = shard.stamp.setting
        self.shards.append(shard)
        self.names.append(path.name)

    def refresh(self) -> int:
        """Load shards that appeared since; unusable ones are named and left out. Returns how many
        pictures there are.
        """
        self._load(strict=False)
        return len(self)

    def refresh_sometimes(self, rng: torch.Generator) -> None:
        """Look for new shards on about every hundredth call."""
        if torch.rand((), generator=rng) < 0.01:
            self.refresh()

    def __len__(self) -> int:
        return len(self.shards) * self.groups * self.poses

    def _send(self, rows: Tensor) -> Tensor:
        return rows

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        each = self.groups if name == "backgrounds" else self.groups * self.poses
        picked = np.stack([self.shards[row // each].arrays[name][row % each] for row in rows.tolist()])
        return send(torch.from_numpy(picked), self.device)

    def rows(self, name: str, rows: Tensor) -> Tensor:
        """Rows of any array that the pool holds: one per picture, or "backgrounds", one per group."""
        return self._rows(name, self._send(rows))

    def _identities(self, groups: Tensor) -> Identity | None:
        if self.setting in PEOPLE:
            return None
        rows = [(self.shards[g // self.groups].identities.fields, g % self.groups) for g in groups.tolist()]
        names = rows[0][0]
        return Identity(
            {name: send(torch.stack([fields[name][k] for fields, k in rows]), self.device) for name in names}
        )

    # People's truth is kept as it was found: a mesh is not drawn again to say where its points lie.

    def _seen(self, rows: Tensor, points: Tensor) -> Tensor:
        if self.setting not in PEOPLE:
            return super()._seen(rows, points)
        return self._rows("seen", rows).float()

    def _flow(self, identity, driving: Tensor, source: Tensor, source_motion) -> tuple[Tensor, Tensor]:
        if self.setting not in PEOPLE:
            return super()._flow(identity, driving, source, source_motion)
        each = self.groups * self.poses
        places, shown = [], []
        for row, pose in zip(driving.tolist(), (source % self.poses).tolist(), strict=True):
            arrays = self.shards[row // each].arrays
            places.append(arrays["places"][row % each, pose])
            shown.append(arrays["shown"][row % each, pose])
        flow, visible = (send(torch.from_numpy(np.stack(some)), self.device) for some in (places, shown))
        return flow.float(), visible.float()

    def _others(self, identity, source: Tensor, driving: Tensor, motions) -> tuple[Tensor, ...]:
        if self.setting not in PEOPLE:
            return super()._others(identity, source, driving, motions)
        return tuple(
            self._rows(name, rows)
            for rows in (source, driving)
            for name in ("other_points", "other_jacobians")
        )
