"""Eyes of rendered people as a picture shows them and the same with closed lids, without lashes, to train `model.closed_eye` on.

python -m livepuppet.train.people.closed_eyes FOLDER FIRST LAST [SETTING]
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch

from livepuppet.core.errors import LivePuppetError
from livepuppet.core.reading import EYE_POINTS
from livepuppet.realtime.rig.closed_eyes import cut_frame, frame_of
from livepuppet.train.people import landmarks
from livepuppet.train.people.assets import assets_folder, load_assets
from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import COLUMNS, draw_people_groups
from livepuppet.train.people.shards import person_and_scene
from livepuppet.train.people.truth import seen_points, triangle_labels

logger = logging.getLogger(__name__)

#: Side of the pictures that eyes are cut from.
LARGE = 512

#: Identities per shard, and poses of each.
GROUPS, POSES = 16, 4

#: Eyes are left out that are narrower than this, in pixels, or of which less than this share of the lids is seen.
LEAST_WIDTH, LEAST_SEEN = 22.0, 0.7

_ROWS = {
    side: [landmarks.FINE.index(f"{side} eye {name}") for name in EYE_POINTS[:-1]] for side in landmarks.SIDES
}
_OUTER, _INNER = EYE_POINTS.index("outer corner"), EYE_POINTS.index("inner corner")


def draw_pairs(
    renderer: Renderer, seed: int, setting: str, groups: int = GROUPS, poses: int = POSES
) -> dict[str, np.ndarray]:
    """The arrays of one shard: N eyes,

    "open", "closed": uint8 (N, 80, 128, 3), in the frame of `realtime.rig.closed_eyes`.
    "lids", "met": float32 (N, 8, 2), points of both lids in pixels of the frame, as `EYE_POINTS` names them; where they are in the one
        and in the other picture.
    """
    motions = draw_people_groups(groups, poses, torch.Generator().manual_seed(seed)).values.numpy()
    motions = motions.reshape(groups, poses, -1)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("open", "closed", "lids", "met")}
    for g in range(groups):
        number = seed * groups + g
        rng = np.random.default_rng([number, 4051])
        opened, shut = _motions(motions[g], rng)
        person, scene = person_and_scene(renderer, number, setting)
        labels_of = np.append(triangle_labels(renderer.assets, person), 0)
        before = []
        for motion in opened:
            posed = person.pose(motion)
            picture = renderer.colour(person, posed, scene)
            at = renderer.points(person, posed, renderer.size // 2)
            places, fine = person.fine_points(posed)
            seen = seen_points(person, landmarks.FINE, places, labels_of[at.triangle], at.depth)
            before.append((picture, fine, seen))
        bare, _ = person_and_scene(renderer, number, setting)
        bare.look.lash_density = 0.0
        bare.look.details["liner"] = 0.0
        for motion, (picture, fine, seen) in zip(shut, before, strict=True):
            posed = bare.pose(motion)
            closed, (_, met) = renderer.colour(bare, posed, scene), bare.fine_points(posed)
            for side, own in _ROWS.items():
                lids, line = ((one[own] + 1) * ((renderer.size - 1) / 2) for one in (fine, met))
                apart = float(np.hypot(*(lids[_OUTER] - lids[_INNER])))
                if apart < LEAST_WIDTH or seen[own].mean() < LEAST_SEEN:
                    continue
                axes = frame_of(lids[_INNER], lids[_OUTER], side)
                back = np.linalg.inv(np.vstack([axes, [0, 0, 1]]))[:2]
                for name, value in (
                    ("open", cut_frame(picture, axes)),
                    ("closed", cut_frame(closed, axes)),
                    ("lids", lids @ back[:, :2].T + back[:, 2]),
                    ("met", line @ back[:, :2].T + back[:, 2]),
                ):
                    rows[name].append(value)
    if not rows["open"]:
        raise RuntimeError(f"No eye of shard {seed} can be used.")
    return {
        name: np.stack(values).astype(np.float32 if name in ("lids", "met") else np.uint8)
        for name, values in rows.items()
    }


def _motions(motions: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What people do, most with eyes that are open; and the same with closed ones."""
    column = {name: k for k, name in enumerate(COLUMNS)}
    opened, shut = motions.copy(), motions.copy()
    for name in ("blink_left", "blink_right"):
        half = rng.uniform(0, 0.6, len(motions))
        opened[:, column[name]] = np.where(rng.random(len(motions)) < 0.75, 0, half)
        shut[:, column[name]] = 1
    for name in ("eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight"):
        shut[:, column[name]] = 0
    for name, k in column.items():
        if name.startswith("gaze"):
            shut[:, k] = 0
    return opened, shut


def draw_shards(folder: Path, seeds: Iterable[int], setting: str = "people-mix") -> None:
    """Draw the shards of these seeds that are not there yet.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    renderer = Renderer(load_assets(assets_folder()), LARGE, 1)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f"eyes-{seed:06d}.npz"
        if path.exists():
            continue
        began = time.perf_counter()
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **draw_pairs(renderer, seed, setting))
        partial.replace(path)
        logger.info("%s after %.0f s", path.name, time.perf_counter() - began)


def main() -> None:
    """The command in the module's docstring."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    first, last = int(sys.argv[2]), int(sys.argv[3])
    try:
        draw_shards(Path(sys.argv[1]), range(first, last), *sys.argv[4:])
    except LivePuppetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
