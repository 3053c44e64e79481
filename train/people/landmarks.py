"""Which vertices of the base mesh are landmarks, found from its geometry, its edges and from what expression units move.

The coarse ones are `model.lite.LANDMARKS`, where the procedural puppets have them; the finer ones serve close-ups.
"Left" and "right" are the picture's, as everywhere; ARKit's and MakeHuman's are the person's.
"""

from __future__ import annotations

import numpy as np

from livepuppet.core.reading import EYE_POINTS
from livepuppet.train.people.assets import LOWER_TEETH, TONGUE, UPPER_TEETH, Assets

SIDES = ("left", "right")

#: Around an eye, from the corner at the temple over the upper lid: what close-ups read, but for the iris.
EYE = EYE_POINTS[:-1]

#: Points of the mouth, from the left corner over the upper lip, and of the jaw, from the left ear over the chin.
MOUTH_OUTSIDE, MOUTH_INSIDE, JAW = 12, 8, 17

#: Where the puppets have them, in eye distances below the eyes (above is negative).
HEIGHTS = {"nose tip": 0.48, "forehead": -0.714}

#: All finer landmarks, in their order in shards.
FINE = (
    *(f"{side} eye {name}" for side in SIDES for name in EYE),
    "left iris",
    "right iris",
    *(f"mouth outside {k}" for k in range(MOUTH_OUTSIDE)),
    *(f"mouth inside {k}" for k in range(MOUTH_INSIDE)),
    *(f"{row} teeth {place}" for row in ("upper", "lower") for place in ("left", "middle", "right")),
    "tongue tip",
    *(f"{side} brow {end}" for side in SIDES for end in ("outer end", "inner end")),
    *(f"{side} ear {end}" for side in SIDES for end in ("top", "middle", "lobe")),
    *(f"jaw {k}" for k in range(JAW)),
    *(f"{side} shoulder" for side in SIDES),
    "nose bridge",
    "left nostril",
    "right nostril",
    "crown",
)

#: Landmarks that ride on an eyeball instead of lying at a vertex.
IRISES = ("left iris", "right iris")


class Mesh:
    """Walks on the quads of the skin."""

    def __init__(self, quads: np.ndarray):
        self.faces: dict[tuple[int, int], list[int]] = {}
        self.near: dict[int, set[int]] = {}
        for number, quad in enumerate(quads.tolist()):
            for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
                self.faces.setdefault((min(a, b), max(a, b)), []).append(number)
                self.near.setdefault(a, set()).add(b)
                self.near.setdefault(b, set()).add(a)

    def loop(self, first: int, second: int, longest: int = 400) -> list[int]:
        """The edge loop that starts with an edge: straight on at every vertex of four edges; ends where it began or cannot go on."""
        walked = [first, second]
        while len(walked) < longest:
            a, b = walked[-2:]
            own = set(self.faces[min(a, b), max(a, b)])
            ahead = [c for c in self.near[b] if not own & set(self.faces[min(b, c), max(b, c)])]
            if len(ahead) != 1:
                break
            if ahead[0] == first:
                return walked
            walked.append(ahead[0])
        return walked


def _nearest(places: np.ndarray, among: np.ndarray, target) -> int:
    return int(among[np.argmin(((places[among] - np.asarray(target, np.float32)) ** 2).sum(1))])


def _along(places: np.ndarray, walk: list[int], count: int) -> list[int]:
    """`count` vertices of a walk, its ends among them, at even steps of its length."""
    steps = np.linalg.norm(np.diff(places[walk], axis=0), axis=1)
    length = np.concatenate([[0], np.cumsum(steps)])
    return [walk[int(np.argmin(np.abs(length - t)))] for t in np.linspace(0, length[-1], count)]


def find(assets: Assets) -> dict[str, int]:
    """Base vertex of each landmark of `LANDMARKS` and `FINE` that lies at one."""
    base = assets.base
    body = assets.meshes["body"]
    used = body.anchors[np.unique(body.corners), 0]
    eyes = {
        side: base[assets.joints[f"eye.{letter}"]].mean(0) for side, letter in (("right", "L"), ("left", "R"))
    }
    distance = float(np.linalg.norm(eyes["left"] - eyes["right"]))
    level = float((eyes["left"] + eyes["right"])[1] / 2)

    def height(name: str) -> float:
        return level - HEIGHTS[name] * distance

    def moved(unit: str) -> np.ndarray:
        moves = np.zeros_like(base)
        vertices, by = assets.units[unit]
        moves[vertices] = by
        return moves

    middle = used[np.abs(base[used, 0]) < 0.012]
    face = middle[(base[middle, 2] > 0.8) & (base[middle, 1] > 6.0)]
    found: dict[str, int] = {}

    def at_height(name: str, among: np.ndarray, front: float = 0.0) -> int:
        error = np.abs(base[among, 1] - height(name)) - front * base[among, 2]
        return int(among[np.argmin(error)])

    foremost = int(face[np.argmax(base[face, 2])])
    nose = face[np.abs(base[face, 1] - base[foremost, 1]) < 0.2]
    nose = nose[base[nose, 2] > base[foremost, 2] - 0.15]
    found["nose tip"] = at_height("nose tip", nose)

    # Lips part where the jaw's motion begins.
    jaw = -moved("jawOpen")[:, 1]
    below = base[face, 1] - base[foremost, 1]
    lips = face[(below < -0.1) & (below > -0.75)]
    front = base[lips, 2].max() - 0.22
    still = lips[(jaw[lips] < 0.06) & (base[lips, 2] > front)]
    moving = lips[(jaw[lips] > 0.12) & (base[lips, 2] > front)]
    found["upper lip"] = int(still[np.argmin(base[still, 1])])
    found["lower lip"] = int(moving[np.argmax(base[moving, 1])])
    chin = face[(base[face, 1] < base[found["lower lip"], 1] - 0.25) & (base[face, 2] > 1.3)]
    found["chin"] = int(chin[np.argmin(base[chin, 1] - 0.6 * base[chin, 2])])
    jaw_bottom = float(base[chin, 1].min())
    found["forehead"] = at_height("forehead", face[base[face, 1] > level], 0.2)
    # The pit of the neck, where most clothes begin.
    throat = middle[(base[middle, 1] < 6.2) & (base[middle, 2] > 0.2)]
    pit = base[assets.joints["neck01"]].mean(0)[1] - 0.15
    found["collar"] = int(throat[np.argmin(np.abs(base[throat, 1] - pit))])
    found["crown"] = int(middle[np.argmax(base[middle, 1])])
    bridge = face[np.abs(base[face, 1] - level) < 0.1]
    found["nose bridge"] = int(bridge[np.argmin(np.abs(base[bridge, 1] - level))])

    mesh = Mesh(assets.quads)
    for side, sign, letter in (("right", 1, "Left"), ("left", -1, "Right")):
        _eye(assets, mesh, found, side, sign, eyes[side], moved(f"eyeBlink{letter}"), used)
        _brow_and_ear(assets, found, side, sign, eyes[side], used)
        at_shoulder = used[np.abs(base[used, 0] - 1.5 * sign) < 0.15]
        found[f"{side} shoulder"] = int(at_shoulder[np.argmax(base[at_shoulder, 1])])
        target = base[found["nose tip"]] + np.array([0.16 * sign, -0.02, -0.17])
        found[f"{side} nostril"] = _nearest(base, used, target)
    _mouth(assets, mesh, found)
    _jaw(assets, found, used, jaw_bottom)
    for row, span in (("upper", UPPER_TEETH), ("lower", LOWER_TEETH)):
        teeth = np.arange(span.start, span.stop)
        edge = base[teeth, 1].min() if row == "upper" else base[teeth, 1].max()
        for place, x in (("left", -0.13), ("middle", 0.0), ("right", 0.13)):
            cost = np.abs(base[teeth, 0] - x) + np.abs(base[teeth, 1] - edge) - 0.4 * base[teeth, 2]
            found[f"{row} teeth {place}"] = int(teeth[np.argmin(cost)])
    tongue = np.arange(TONGUE.start, TONGUE.stop)
    found["tongue tip"] = int(tongue[np.argmax(base[tongue, 2] - 0.5 * np.abs(base[tongue, 0]))])
    for side in SIDES:
        found[f"{side} upper lid"], found[f"{side} lower lid"] = (
            found[f"{side} eye upper"],
            found[f"{side} eye lower"],
        )
    return found


def _eye(assets, mesh: Mesh, found, side, sign, eye, blink, used) -> None:
    base = assets.base
    moves = np.linalg.norm(blink, axis=1)
    near = used[(np.abs(base[used] - eye).max(1) < 0.3) & (base[used, 2] > eye[2])]
    column = near[np.abs(base[near, 0] - eye[0]) < 0.05]
    upper = column[(base[column, 1] > eye[1]) & (moves[column] > 0.5 * moves.max())]
    start = int(upper[np.argmin(base[upper, 1] - 0.8 * base[upper, 2])])
    beside = max(
        mesh.near[start],
        key=lambda v: (base[v, 0] - base[start, 0]) * sign - 0.5 * abs(base[v, 1] - base[start, 1]),
    )
    loop = mesh.loop(start, beside)
    places = base[loop]
    outer, inner = int(np.argmax(places[:, 0] * sign)), int(np.argmin(places[:, 0] * sign))
    outer, inner = loop[outer], loop[inner]
    upper = [
        v
        for v in loop
        if base[v, 1]
        >= np.interp(
            base[v, 0] * sign,
            [base[inner, 0] * sign, base[outer, 0] * sign],
            [base[inner, 1], base[outer, 1]],
        )
    ]
    lower = [v for v in loop if v not in upper]
    width = (base[outer, 0] - base[inner, 0]) * sign
    columns = {"outer": eye[0] + sign * 0.27 * width, "": eye[0], "inner": eye[0] - sign * 0.27 * width}
    found[f"{side} eye outer corner"], found[f"{side} eye inner corner"] = outer, inner
    for name, lid in (("upper", upper), ("lower", lower)):
        for end, x in columns.items():
            vertex = min(lid, key=lambda v, x=x: abs(base[v, 0] - x))
            found[f"{side} eye {name} {end}".strip()] = vertex


def _brow_and_ear(assets, found, side, sign, eye, used) -> None:
    base = assets.base
    # The brow's line is fixed to the base mesh, as MakeHuman's brows are: 0.235 dm above the eye's middle.
    target = {"": (0, 0.235), "outer end": (0.17 * sign, 0.185), "inner end": (-0.18 * sign, 0.17)}
    front = used[base[used, 2] > eye[2]]
    for end, (dx, dy) in target.items():
        cost = np.hypot(base[front, 0] - eye[0] - dx, base[front, 1] - eye[1] - dy) - 0.05 * base[front, 2]
        found[f"{side} brow {end}".strip()] = int(front[np.argmin(cost)])
    ears = used[(base[used, 1] > 6.4) & (base[used, 1] < 8.2)]
    middle = int(ears[np.argmax(base[ears, 0] * sign)])
    found[f"{side} ear middle"] = middle
    ear = used[
        (np.linalg.norm(base[used] - base[middle], axis=1) < 0.45)
        & (base[used, 0] * sign > base[middle, 0] * sign - 0.2)
    ]
    # Skin of the skull beside the ear reaches higher.
    outer = ear[base[ear, 0] * sign > base[middle, 0] * sign - 0.11]
    found[f"{side} ear top"] = int(outer[np.argmax(base[outer, 1])])
    found[f"{side} ear lobe"] = int(ear[np.argmin(base[ear, 1])])


def _sideways(base: np.ndarray, mesh: Mesh, start: int) -> int:
    """The neighbour on the picture's left at the same height."""
    return min(
        mesh.near[start],
        key=lambda v: base[v, 0] - base[start, 0] + 0.5 * abs(base[v, 1] - base[start, 1]),
    )


def halves(base: np.ndarray, loop: list[int]) -> tuple[list[int], list[int]]:
    """A loop of the mouth that starts at the upper middle, from the left corner to the right over the upper lip, and back below."""
    left, right = int(np.argmin(base[loop, 0])), int(np.argmax(base[loop, 0]))
    return loop[: left + 1][::-1] + loop[: right - 1 : -1], loop[left : right + 1][::-1]


def mouth_loops(assets: Assets, upper: int, mesh: Mesh | None = None) -> tuple[list[int], list[int]]:
    """Base vertices round the mouth, from the upper middle to the left: where the lips meet, and where their red ends."""
    base, body, mesh = assets.base, assets.meshes["body"], mesh or Mesh(assets.quads)
    # The lips' outer edge is where their mask in the skin's texture ends.
    mask = assets.mask("lips", 1024)
    red = np.zeros(len(base), np.float32)
    at = (body.uv * 1023).astype(int)
    red[body.anchors[body.corners, 0]] = mask[at[:, 1], at[:, 0]]
    border = upper
    for _ in range(12):
        up = [v for v in mesh.near[border] if abs(base[v, 0]) < 0.012 and base[v, 1] > base[border, 1]]
        if not up or (red[border] < 0.5 and border != upper):
            break
        border = max(up, key=lambda v: base[v, 1] + base[v, 2])
    return mesh.loop(upper, _sideways(base, mesh, upper)), mesh.loop(border, _sideways(base, mesh, border))


def _mouth(assets, mesh: Mesh, found) -> None:
    base = assets.base

    def split(loop: list[int], count: int) -> list[int]:
        """`count` vertices round a loop: from the left corner over the upper lip."""
        over, under = halves(base, loop)
        half = count // 2 + 1
        return _along(base, over, half)[:-1] + _along(base, under, count - half + 2)[:-1]

    inner, outer = mouth_loops(assets, found["upper lip"], mesh)
    for k, vertex in enumerate(split(inner, MOUTH_INSIDE)):
        found[f"mouth inside {k}"] = vertex
    found["left mouth corner"], found["right mouth corner"] = (
        found["mouth inside 0"],
        found[f"mouth inside {MOUTH_INSIDE // 2}"],
    )
    found["lower lip"] = min(inner[1:], key=lambda v: abs(base[v, 0]))
    for k, vertex in enumerate(split(outer, MOUTH_OUTSIDE)):
        found[f"mouth outside {k}"] = vertex


def _jaw(assets, found, used, bottom: float) -> None:
    """The lower face's outline as seen from the front."""
    base = assets.base
    centre = np.array([0.0, base[found["left ear lobe"], 1] + 0.15])
    low = used[(base[used, 2] > 0.35) & (base[used, 1] > bottom - 0.01) & (np.abs(base[used, 0]) < 0.8)]
    offset = base[low, :2] - centre
    radius, angle = np.hypot(*offset.T), np.arctan2(offset[:, 0], -offset[:, 1])
    ends = np.linspace(-1, 1, JAW) * np.radians(88)
    for k, wanted in enumerate(ends):
        near = np.abs(angle - wanted) < 0.12
        # Further to the middle only the chin's front: the neck is behind it.
        near &= base[low, 2] > 0.35 + 0.7 * np.cos(wanted) ** 2
        score = np.where(near, radius - 0.8 * np.abs(angle - wanted) + 0.15 * base[low, 2], -9)
        found[f"jaw {k}"] = int(low[np.argmax(score)])
