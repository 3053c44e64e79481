"""Lips that are put forward: a round opening, which the meshes' own units leave a triangle."""

from __future__ import annotations

import numpy as np

from livepuppet.train.people.assets import Assets
from livepuppet.train.people.landmarks import halves, mouth_loops

#: A funnel's opening: half its width and height over the mouth's width at rest, how thick the lips are round it, and how far its sides
#: lie behind its middle, over the same; how far round the mouth skin follows, in decimetres.
WIDE, HIGH, THICK, BEHIND = 0.27, 0.23, (0.155, 0.19), 0.20
REACH = (0.50, 0.235, 0.36)


def _loops(assets: Assets, upper: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of where the lips meet and of where their red ends: base vertices, and their angles round the mouth, each half evenly by its length."""
    known = assets.__dict__.get("_lips")
    if known is None:
        known = []
        for loop in mouth_loops(assets, upper):
            rows, angles = [], []
            for half, (begin, end) in zip(
                halves(assets.base, loop), ((np.pi, 0.0), (0.0, -np.pi)), strict=True
            ):
                length = np.append(0, np.cumsum(np.linalg.norm(np.diff(assets.base[half], axis=0), axis=1)))
                # The corners belong to both halves.
                rows += half[:-1]
                angles += (begin + (end - begin) * length / length[-1])[:-1].tolist()
            known.append((np.array(rows), np.array(angles)))
        assets.__dict__["_lips"] = known
    return known


def rounded(assets: Assets, base: np.ndarray, upper: int, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What makes a funnel round.

    Args:
        base: (N, 3) the person's base mesh.
        upper: base vertex of the upper lip's middle.
        moved: (N, 3) what the meshes' units do to it for a whole funnel.

    Returns:
        base vertices (n,), and what moves them besides (n, 3).
    """
    there = base + moved
    inner, outer = _loops(assets, upper)
    width = float(np.ptp(base[inner[0], 0]))
    ends = there[inner[0], 1]
    middle = np.array([there[inner[0], 0].mean(), 0.5 * (ends.max() + ends.min())])
    front = there[inner[0], 2].max()
    known, wanted = [], []
    for (rows, angle), above, below in ((inner, 0.0, 0.0), (outer, *THICK)):
        cosine, sine = np.cos(angle), np.sin(angle)
        thick = np.where(sine > 0, above, below) * sine**2 + 0.75 * min(above, below) * cosine**2
        across, up = (WIDE + thick) * width * cosine, (HIGH + thick) * width * sine
        # The red of both lips comes forward together; at the sides it lies further back.
        depth = front - BEHIND * width * cosine**2 - np.where(sine < 0, 0.10, 0.02) * width * sine**2
        depth -= 0.4 * thick * width
        known.append(there[rows])
        wanted.append(np.stack([middle[0] + across, middle[1] + up, depth], 1))
    # Skin further away stays.
    body = np.unique(assets.meshes["body"].anchors[:, 0])
    offset = (assets.base[body] - assets.base[inner[0]].mean(0)) * (1, 1, 0.8)
    below = offset[:, 1] < 0
    far = np.hypot(offset[:, 0] / REACH[0], offset[:, 1] / np.where(below, REACH[2], REACH[1]))
    far = np.hypot(far, offset[:, 2] / 0.45)
    still = body[(far > 1.0) & (far < 1.35)][::6]
    known.append(there[still])
    wanted.append(there[still])
    known, wanted = (np.concatenate(values).astype(np.float64) for values in (known, wanted))
    # Biharmonic splines with a little slack: lips have vertices that nearly coincide.
    apart = np.linalg.norm(known[:, None] - known[None], axis=2)
    share = np.linalg.solve(apart - 0.004 * np.eye(len(known)), wanted - known)
    near = body[far < 1.2]
    window = np.clip((1.2 - far[far < 1.2]) / 0.35, 0, 1)[:, None]
    found = np.linalg.norm(there[near][:, None] - known[None], axis=2) @ share
    return near, (found * window * window * (3 - 2 * window)).astype(np.float32)
