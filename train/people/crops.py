"""Close-ups of rendered people: crops of eyes, mouths and heads with exact points and amounts, to train `model.close_up` on.

People are drawn large, as a camera sees a face, and only the crops are kept: they take a quarter of the bytes of the
picture, 0.2 MB. One shard follows from its seed, setting and renderer. Several processes may draw into one folder, each its
own seeds.
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

from livepuppet.core.reading import (
    EYE_AMOUNTS,
    EYE_POINTS,
    HEAD_AMOUNTS,
    HEAD_POINTS,
    MOUTH_AMOUNTS,
)
from livepuppet.model.lite import LANDMARKS
from livepuppet.realtime.rig.close_ups import crop_maps, cut_crop
from livepuppet.realtime.rig.pose import HeadPose
from livepuppet.train.people import landmarks
from livepuppet.train.people.assets import assets_folder, load_assets
from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import COLUMNS, draw_vivid_groups
from livepuppet.train.people.person import project
from livepuppet.train.people.shards import person_and_scene
from livepuppet.train.people.truth import camera_rotation, seen_points, triangle_labels
from livepuppet.train.tasks.close_up import KINDS, MARGIN

logger = logging.getLogger(__name__)

#: Side of the pictures that crops are cut from.
LARGE = 512

#: Identities per shard, and poses of each.
GROUPS, POSES = 16, 6

_EYE_ROWS = {
    side: [landmarks.FINE.index(f"{side} eye {name}") for name in EYE_POINTS[:-1]]
    + [landmarks.FINE.index(f"{side} iris")]
    for side in landmarks.SIDES
}
_MOUTH_ROWS = [landmarks.FINE.index(f"mouth outside {k}") for k in range(12)] + [
    landmarks.FINE.index(f"mouth inside {k}") for k in range(8)
]


def draw_crops(
    renderer, seed: int, setting: str, groups: int = GROUPS, poses: int = POSES
) -> dict[str, np.ndarray]:
    """The arrays of one shard, as `train.tasks.close_up.CropPool` reads them.

    Args:
        renderer: of pictures of any size, better large.

    Raises:
        RuntimeError: no identity of the shard can be drawn.
    """
    motions = draw_vivid_groups(groups, poses, torch.Generator().manual_seed(seed)).values.numpy()
    motions = motions.reshape(groups, poses, -1)
    rows: dict[str, list] = {}
    for g in range(groups):
        try:
            person, scene = person_and_scene(renderer, seed * groups + g, setting)
            labels_of = np.append(triangle_labels(renderer.assets, person), 0)
            found = [_crops_of_pose(renderer, person, scene, motion, labels_of) for motion in motions[g]]
        except Exception:  # One of ten thousand people is no reason to lose a night's work.
            logger.exception("Identity %d of shard %d is left out", g, seed)
            continue
        for name in found[0]:
            rows.setdefault(name, []).extend(one[name] for one in found)
    if not rows:
        raise RuntimeError(f"No identity of shard {seed} can be drawn.")
    return {name: np.stack(values) for name, values in rows.items()} | {
        "poses": np.array(poses),
        "stamp": np.array(f"{setting} {seed} {renderer.name}"),
    }


def _crops_of_pose(renderer, person, scene, motion, labels_of) -> dict[str, np.ndarray]:
    posed = person.pose(motion)
    picture = renderer.colour(person, posed, scene)
    at = renderer.points(person, posed, renderer.size // 2)
    places, fine = person.fine_points(posed)
    seen = seen_points(person, landmarks.FINE, places, labels_of[at.triangle], at.depth)
    coarse, _ = project(person.camera[0], person.coarse_places(posed))
    maps = crop_maps(dict(zip(LANDMARKS, coarse, strict=True)))
    by_name = dict(zip(landmarks.FINE, fine, strict=True)) | dict(zip(LANDMARKS, coarse, strict=True))
    units = posed.units
    told = dict(zip(COLUMNS, motion.tolist(), strict=True))
    eyes, eye_points, eye_amounts, eye_seen = [], [], [], []
    for k, (side, own) in enumerate((("left", "Right"), ("right", "Left"))):
        eyes.append(_wide(picture, maps[k], "eye"))
        eye_points.append(_within(fine[_EYE_ROWS[side]], maps[k]))
        # Shut is 1 on every face, however far its units have to go for that.
        values = {name: units.get(name + own, 0.0) for name in EYE_AMOUNTS}
        values["eyeBlink"] = min(max(told[f"blink_{side}"], 0.0), 1.0)
        eye_amounts.append([values[name] for name in EYE_AMOUNTS])
        # An iris behind its own lid is no reason to distrust the lids.
        eye_seen.append(seen[_EYE_ROWS[side][:-1]].mean())
    return {
        "eyes": np.stack(eyes),
        "eye_points": np.stack(eye_points).astype(np.float16),
        "eye_amounts": np.array(eye_amounts, np.float32),
        "eye_seen": np.array(eye_seen, np.float32),
        "mouths": _wide(picture, maps[2], "mouth"),
        "mouth_points": _within(fine[_MOUTH_ROWS], maps[2]).astype(np.float16),
        "mouth_amounts": np.array([units.get(name, 0.0) for name in MOUTH_AMOUNTS], np.float32),
        "mouth_seen": np.float32(seen[_MOUTH_ROWS[:12]].mean()),
        "heads": _wide(picture, maps[3], "head"),
        "head_points": _within(np.stack([by_name[name] for name in HEAD_POINTS]), maps[3]).astype(np.float16),
        "head_amounts": np.array(
            [*_pose_in(person, posed, maps[3]), *(units.get(name, 0.0) for name in HEAD_AMOUNTS[3:])],
            np.float32,
        ),
        "head_seen": np.float32(1.0),
    }


def _pose_in(person, posed, affine: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of the head against a crop's axes, in radians, as `realtime.rig.pose.HeadPose.angles` has them."""
    # Room and mesh have y up, pictures have it down.
    up = np.diag([1.0, -1.0, 1.0])
    turn = up @ camera_rotation(person) @ posed.head[:3, :3] @ up
    angle = np.arctan2(affine[1, 0], affine[0, 0])
    return HeadPose(1.0, rotation_about_z(-angle) @ turn, np.zeros(2)).angles


def rotation_about_z(angle: float) -> np.ndarray:
    """Clockwise in a picture, (3, 3)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _wide(picture: np.ndarray, affine: np.ndarray, kind: str) -> np.ndarray:
    wide = affine.copy()
    wide[:, :2] *= MARGIN
    # Pixel i of S lies at -1 + 2 i / (S - 1).
    wide[:, 2] += 1
    return cut_crop(picture, wide * ((len(picture) - 1) / 2), KINDS[kind].stored)


def _within(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points of the picture in the stored crop's [-1, 1]."""
    return (points - affine[:, 2]) @ np.linalg.inv(affine[:, :2] * MARGIN).T


def write_shard(folder: Path, renderer, seed: int, setting: str) -> Path:
    """Draw the shard of a seed, unless it is there already."""
    path = folder / f"crops-{seed:06d}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = draw_crops(renderer, seed, setting)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **arrays)
        partial.replace(path)
    return path


def draw_shards(folder: Path, seeds: Iterable[int], setting: str = "people-mix") -> None:
    """Draw shards, one after the other, and say so in the log; one that fails is left out.

    Raises:
        AssetsError: people cannot be drawn here.
    """
    renderer = Renderer(load_assets(assets_folder()), LARGE, 1)
    for seed in seeds:
        began = time.perf_counter()
        try:
            path = write_shard(folder, renderer, seed, setting)
        except RuntimeError:
            logger.exception("Shard %d is left out", seed)
            continue
        logger.info("%s after %.1f s", path.name, time.perf_counter() - began)


if __name__ == "__main__":
    # Processes are what there are several of.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    draw_shards(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
