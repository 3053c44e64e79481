"""People with their mattes, depth and what they hide, to train `model.matting` on.

python -m livepuppet.train.people.mattes FOLDER FIRST LAST [SETTING]
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from livepuppet.core.errors import LivePuppetError
from livepuppet.model.lite import LANDMARKS
from livepuppet.train.people.assets import assets_folder, load_assets
from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import draw_people_groups
from livepuppet.train.people.person import Framing, project
from livepuppet.train.people.shards import person_and_scene

logger = logging.getLogger(__name__)

#: Side of the pictures, and of their depth.
SIDE, DEPTH_SIDE = 256, 128

#: Identities per shard, and poses of each.
GROUPS, POSES = 32, 3

_IRISES = [LANDMARKS.index("left iris"), LANDMARKS.index("right iris")]


def draw_mattes(
    renderer: Renderer, seed: int, setting: str, groups: int = GROUPS, poses: int = POSES
) -> dict[str, np.ndarray]:
    """The arrays of one shard: N = groups x poses rows of

    "pictures", "plates", "backgrounds": uint8 (N, S, S, 3), as `truth.draw_group` has them.
    "alphas": uint8 (N, S, S, 3), of the figure, its head, and the body without the head.
    "depth": float16 (N, C, C) before the plane of the eyes, in eye distances; nothing to see is NaN.
    "faces": float32 (N, 3), the middle between the irises in [-1, 1], and their distance.
    """
    motions = draw_people_groups(groups, poses, torch.Generator().manual_seed(seed)).values.numpy()
    motions = motions.reshape(groups, poses, -1)
    rows: dict[str, list] = {}
    for g in range(groups):
        person, scene = person_and_scene(renderer, seed * groups + g, setting)
        person.framing = _framing(np.random.default_rng([seed * groups + g, 3319]), person.framing)
        unit = float(np.linalg.norm(person.joints["eye.L"] - person.joints["eye.R"]))
        for motion in motions[g]:
            posed = person.pose(motion)
            drawn = renderer.draw(person, posed, scene)
            depth = renderer.points(person, posed, DEPTH_SIDE).depth
            points, away = project(person.camera[0], person.coarse_places(posed)[_IRISES])
            left, right = points
            # The eyes of a turned head are nearer to each other than those of the template.
            across = max(float(np.linalg.norm(right - left)), 0.75 * 2 * person.framing.eyes)
            values = {
                "pictures": drawn.colour,
                "plates": drawn.plate,
                "backgrounds": renderer.background(scene),
                "alphas": drawn.alpha,
                "depth": np.where(np.isfinite(depth), (away.mean() - depth) / unit, np.nan).astype(
                    np.float16
                ),
                "faces": np.array([*((left + right) / 2), across], np.float32),
            }
            for name, value in values.items():
                rows.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in rows.items()}


def _framing(rng: np.random.Generator, usual: Framing) -> Framing:
    """As avatars show people: from the whole upper body to the face alone."""
    eyes = float(rng.uniform(0.075, 0.25))
    # The smaller the face, the higher.
    high = np.interp(eyes, [0.08, 0.2], [-0.38, -0.12])
    place = (float(np.clip(rng.normal(0, 0.12), -0.35, 0.35)), float(rng.normal(high, 0.09)))
    return replace(usual, eyes=eyes, place=place)


def draw_shards(folder: Path, seeds: Iterable[int], setting: str = "people-mix") -> None:
    """Draw the shards of these seeds that are not there yet.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    renderer = Renderer(load_assets(assets_folder()), SIDE)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f"mattes-{seed:06d}.npz"
        if path.exists():
            continue
        began = time.perf_counter()
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **draw_mattes(renderer, seed, setting))
        partial.replace(path)
        logger.info("%s after %.0f s", path.name, time.perf_counter() - began)


def main() -> None:
    """The command in the module's docstring."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cv2.setNumThreads(1)
    first, last = int(sys.argv[2]), int(sys.argv[3])
    try:
        draw_shards(Path(sys.argv[1]), range(first, last), *sys.argv[4:])
    except LivePuppetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
