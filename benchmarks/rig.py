"""What a rig costs per picture, how sharp what it moves stays, and how much of a head's motion it
shows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.square import Square
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.rig.amounts import amounts
from livepuppet.realtime.rig.driver import RigMotion
from livepuppet.realtime.rig.finding import contours_of
from livepuppet.realtime.rig.head import Head, HeadState
from livepuppet.realtime.rig.pose import HeadPose, joined
from livepuppet.realtime.rig.rig import Face, Rig

#: Poses gone through: yaw, pitch, roll (radians), shift across and down (eye distances). None at
#: whole pixels.
POSES = (
    (0.05, 0.02, 0.01, 0.033, 0.017),
    (-0.08, 0.03, -0.04, -0.071, 0.043),
    (0.12, -0.06, 0.06, 0.113, -0.037),
    (-0.16, -0.05, -0.02, -0.13, 0.09),
    (0.02, 0.10, 0.08, 0.02, 0.11),
    (0.22, 0.04, -0.05, 0.21, 0.06),
)

#: Motions of puppets, and what changes: as `train.metrics.responses.CHANGES`.
HEAD_FACTORS = ("yaw", "pitch", "roll", "shift", "scale")


@dataclass(frozen=True)
class RigFigures:
    """One avatar's.

    Attributes:
        making, contours: seconds (of a core) to make the rig, and to find eyes and mouth before
            that.
        head, eyes, mouth, all: milliseconds (of a core) per picture, at best, which is what an idle
            machine shows: the head alone, what moving eyes and a moving mouth add, and everything.
            Means of the poses.
        usual: median milliseconds for everything.
        megabytes: that its arrays take while it draws. Sessions with the same avatar on a canvas of
            the same size share them.
        sharpness: variance of the Laplacian over the moving face, as a share of the still
            picture's; median of the poses.
    """

    making: float
    contours: float
    head: float
    eyes: float
    mouth: float
    all: float
    usual: float
    megabytes: float
    sharpness: float


def measure(engine: Engine, avatar: Avatar, side: int, repeats: int = 20) -> RigFigures:
    """Figures of the avatar at `side` pixels of its longer side."""
    factor = side / max(avatar.original.shape[:2])
    extent = [max(1, round(length * factor)) for length in avatar.original.shape[1::-1]]
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(avatar.original, extent, interpolation=way)
    matte = None if avatar.matte is None else cv2.resize(avatar.matte, extent, interpolation=way)
    began = time.thread_time()
    contours, _ = contours_of(engine, avatar.original, avatar.square, None)
    found = time.thread_time()
    keypoints = engine.detect(avatar.image)
    face = Face(keypoints, tuple(engine.keypoint_names), engine.size, avatar.square, contours)
    square = Square(avatar.square.x * factor, avatar.square.y * factor, avatar.square.side * factor)
    middle = time.thread_time()
    rig = Rig(picture, face, square, matte)
    made = time.thread_time() - middle
    rig.shrink()
    assert rig.head is not None and rig.head.surface is not None
    out = np.empty(rig.shape, np.uint8)
    unit = rig.head.surface.unit / face.unit(square.side)
    nothing = np.zeros((len(face.names), 2))
    poses = [
        HeadPose(1.0, joined(np.array([-pitch, yaw]), roll), unit * np.array([x, y]))
        for yaw, pitch, roll, x, y in POSES
    ]
    # Amounts differ from picture to picture, as those of a driver do.
    looks = [
        {"eyeBlinkLeft": blink, "eyeBlinkRight": blink, "eyeLookInLeft": 0.3, "eyeLookOutRight": 0.3}
        for blink in np.linspace(0.2, 0.8, len(POSES))
    ]
    words = [{"jawOpen": opening} for opening in np.linspace(0.1, 0.6, len(POSES))]
    stages = {
        "head": [None for _ in POSES],
        "eyes": [amounts(**look) for look in looks],
        "mouth": [amounts(**word) for word in words],
        "all": [amounts(**look, **word) for look, word in zip(looks, words, strict=True)],
    }
    times = {stage: np.empty((repeats, len(POSES))) for stage in stages}
    for repeat in range(repeats):
        for stage, moving in stages.items():
            for index, pose in enumerate(poses):
                start = time.thread_time()
                rig.draw(RigMotion(pose, nothing, moving[index]), out)
                times[stage][repeat, index] = 1e3 * (time.thread_time() - start)
    best = {stage: float(found.min(axis=0).mean()) for stage, found in times.items()}
    shares = []
    for pose in poses:
        rig.draw(RigMotion(pose, nothing), out)
        shares.append(_sharpness(out, rig, pose, face.unit(square.side)))
    return RigFigures(
        made,
        found - began,
        best["head"],
        best["eyes"] - best["head"],
        best["mouth"] - best["head"],
        best["all"],
        float(np.median(times["all"])),
        held_bytes(rig) / 1e6,
        float(np.median(shares)),
    )


def held_bytes(rig: Rig) -> int:
    """Bytes of all arrays that a rig holds, each once."""
    arrays: dict[int, int] = {}
    known: set[int] = set()
    waiting: list[object] = [rig]
    while waiting:
        one = waiting.pop()
        if id(one) in known or isinstance(one, type):
            continue
        known.add(id(one))
        if isinstance(one, np.ndarray):
            while isinstance(one.base, np.ndarray):
                one = one.base
            arrays[id(one)] = one.nbytes
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif hasattr(one, "__dict__"):
            waiting += vars(one).values()
    return sum(arrays.values())


def _sharpness(out: np.ndarray, rig: Rig, pose: HeadPose, unit: float) -> float:
    """Of the face in `out`, as a share of the still picture's, where the same skin is seen in both."""
    assert rig.head is not None and rig.head.surface is not None
    surface = rig.head.surface
    across, down = np.meshgrid(np.arange(out.shape[1]), np.arange(out.shape[0]))

    def variance(picture: np.ndarray, centre: np.ndarray) -> float:
        inside = np.hypot(
            (across - centre[0]) / (0.9 * surface.unit), (down - centre[1]) / (1.3 * surface.unit)
        )
        gray = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_RGB2GRAY)
        return float(cv2.Laplacian(gray, cv2.CV_32F)[inside < 1].var())

    middle = surface.centre + np.array([0, 0.6 * surface.unit])
    return variance(out, middle + pose.shift * unit) / max(variance(rig.head.rest, middle), 1e-9)


def responses(puppets: int, seed: int = 77, size: int = 256, setting: str = "rich") -> dict[str, float]:
    """The change shown, projected on the true one, per factor of head motion: given the puppets'
    true poses. 1 is right.

    See `livepuppet evaluate`, which says the same of a model that has to read the pose from another
    puppet.
    """
    from livepuppet.model.lite import LANDMARKS
    from livepuppet.train.metrics.responses import CHANGES, draw_probes

    found = {}
    for probe in draw_probes(puppets, seed, size, HEAD_FACTORS, setting):
        change = CHANGES[probe.factor]
        rotation = joined(
            np.array([-change.get("pitch", 0.0), change.get("yaw", 0.0)]), change.get("roll", 0.0)
        )
        shares = []
        for k in range(puppets):
            picture, truth = (_levels(pictures[k]) for pictures in (probe.source, probe.truth))
            points, after = (
                tensor[k].numpy().astype(np.float64) for tensor in (probe.points, probe.points_after)
            )
            landmarks = (points + 1) * (size - 1) / 2
            try:
                head = Head(picture, Square(0, 0, size), landmarks, LANDMARKS)
            except ValueError:
                continue
            eyes = [LANDMARKS.index("left iris"), LANDMARKS.index("right iris")]
            shift = (after - points)[eyes].mean(0) * (size - 1) / 2
            out = np.empty_like(picture)
            head.draw(HeadState(HeadPose(float(np.exp(change.get("scale", 0.0))), rotation, shift)), out)
            true = truth.astype(np.float64) - picture
            shares.append(
                float(((out.astype(np.float64) - picture) * true).sum() / max((true**2).sum(), 1e-6))
            )
        found[probe.factor] = float(np.mean(shares))
    return found


def _levels(picture) -> np.ndarray:
    """A picture (3, H, W) in [0, 1] as uint8 RGB (H, W, 3)."""
    return np.ascontiguousarray(np.rint(255 * picture.permute(1, 2, 0).clamp(0, 1).numpy()).astype(np.uint8))
