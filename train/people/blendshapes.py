"""What expression units do to the points of a mouth, in the mean of people, for `realtime.rig.blendshapes`.

python -m livepuppet.train.people.blendshapes realtime/data/rig/mouth-blendshapes.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from livepuppet.core.reading import MOUTH_POINTS
from livepuppet.train.people import landmarks
from livepuppet.train.people.assets import Assets, assets_folder, load_assets
from livepuppet.train.people.person import Person, draw_person

#: Units that are told apart by their points, and by how much more people move by them than MakeHuman's units do.
UNITS = {
    "jawOpen": 1.0,
    "jawLeft": 1.0,
    "jawRight": 1.0,
    "mouthFunnel": 1.0,
    "mouthPucker": 2.0,
    "mouthLeft": 1.0,
    "mouthRight": 1.0,
    "mouthSmileLeft": 1.0,
    "mouthSmileRight": 1.0,
    "mouthFrownLeft": 1.0,
    "mouthFrownRight": 1.0,
    "mouthDimpleLeft": 1.0,
    "mouthDimpleRight": 1.0,
    "mouthStretchLeft": 0.75,
    "mouthStretchRight": 0.75,
    "mouthRollLower": 1.0,
    "mouthRollUpper": 0.6,
    "mouthLowerDownLeft": 1.0,
    "mouthLowerDownRight": 1.0,
    "mouthUpperUpLeft": 1.0,
    "mouthUpperUpRight": 1.0,
}

_ROWS = [
    landmarks.FINE.index(f"mouth {name.replace('outer lip', 'outside').replace('inner lip', 'inside')}")
    for name in MOUTH_POINTS
]
_CORNERS = [
    [landmarks.FINE.index(f"{side} eye {name}") for name in ("outer corner", "inner corner")]
    for side in landmarks.SIDES
]


def measure(assets: Assets, people: int = 24, first: int = 800_000) -> tuple[np.ndarray, np.ndarray]:
    """Float64 (U, 20, 3), by how much each of `UNITS` at 1 moves the mouth's points, and (20,), how near they are to the viewer at rest;
    in face units, x to the picture's right, y down.

    Args:
        people: how many there are, from the seed `first` on.
    """
    moves, depths = [], []
    for seed in range(first, first + people):
        person = draw_person(assets, seed)
        rest = _places(person, {})
        eyes = rest[_CORNERS].mean(1)
        mouth = rest[_ROWS]
        apart = np.linalg.norm(eyes[1] - eyes[0])
        deep = np.linalg.norm(eyes.mean(0) - (mouth[0] + mouth[6]) / 2)
        # As `close_ups.face_frame` has it.
        unit = max(apart, 0.95 * deep)
        moves.append(
            [(_places(person, {name: 1.0})[_ROWS] - mouth) * (more / unit) for name, more in UNITS.items()]
        )
        depths.append((mouth[:, 2] - mouth[:, 2].mean()) / unit)
    return np.mean(moves, 0) * (1, -1, 1), np.mean(depths, 0)


def _places(person: Person, units: dict[str, float]) -> np.ndarray:
    """Places (F, 3) of `landmarks.FINE` on the skin before the head turns; x to the picture's right, y up, z towards the viewer."""
    places, _, _ = person.express(units, (0.0, 0.0))
    return places[np.maximum(person.own[np.maximum(person.fine_base, 0)], 0)].astype(np.float64)


if __name__ == "__main__":
    found, depth = measure(load_assets(assets_folder()))
    np.savez_compressed(
        Path(sys.argv[1]),
        names=np.array(tuple(UNITS)),
        moves=found.astype(np.float32),
        depth=depth.astype(np.float32),
    )
