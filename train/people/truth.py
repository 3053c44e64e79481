"""What is known exactly about pictures of one person: landmarks, flow, visibility, labels, depth.

Conventions are the puppets': positions in [-1, 1] with pixel i of S at -1 + 2 i / (S - 1), x to the right, y down.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from livepuppet.model.lite import LANDMARKS
from livepuppet.train.people import landmarks
from livepuppet.train.people.assets import Assets
from livepuppet.train.people.draw import Renderer
from livepuppet.train.people.motion import amounts_row
from livepuppet.train.people.person import EYE_DISTANCE, Person, Posed, project
from livepuppet.train.people.scene import Scene

#: Labels of pixels.
LABELS = (
    "background",
    "skin",
    "neck",
    "body",
    "hair",
    "left eye",
    "right eye",
    "lips",
    "mouth inside",
    "teeth",
    "tongue",
    "left ear",
    "right ear",
    "beard",
    "hat",
    "glasses",
    "thing",
)

#: Part kind -> label.
LABEL_OF = {
    "skin": "skin",
    "cloth": "body",
    "hair": "hair",
    "teeth": "teeth",
    "tongue": "tongue",
    "hat": "hat",
    "glasses": "glasses",
    "phones": "thing",
    "ring": "thing",
    "hand": "thing",
    "microphone": "thing",
}

#: The puppets' layer of each label: 0 background, 1 body, 2 rigid, 3 skin, 4 eyeball, 5 mouth.
LAYER_OF = np.array([0, 3, 1, 1, 2, 4, 4, 3, 5, 5, 5, 2, 2, 3, 2, 2, 2], np.uint8)

#: A point this much (decimetres) behind what its pixel shows is hidden.
BEHIND = 0.08

#: Directions in which the head's outline is kept.
OUTLINE = 32


def triangle_labels(assets: Assets, person: Person) -> np.ndarray:
    """Label of each triangle, uint8 (t,)."""
    found = np.zeros(len(person.triangles), np.uint8)
    for part, (first, last) in zip(person.parts, person.ranges, strict=True):
        rows = slice(first, last)
        if part.kind == "eye":
            left = person.rest[person.faces[rows]][..., 0].mean(1) < 0
            found[rows] = np.where(left, LABELS.index("left eye"), LABELS.index("right eye"))
        elif part.kind == "fur":
            found[rows] = LABELS.index("hair" if part.name == "shorn" else "beard")
        elif part.kind in LABEL_OF:
            found[rows] = LABELS.index(LABEL_OF[part.kind])
        if part.kind == "skin":
            own = skin_labels(assets)[person.skin_rows]
            plain = own == LABELS.index("skin")
            own[plain & (np.arange(len(own)) >= person.head_triangles)] = LABELS.index("neck")
            found[rows] = own
    return found


def skin_labels(assets: Assets) -> np.ndarray:
    """Label of each triangle of the skin's mesh, uint8; the neck's is the face's."""
    found = assets.__dict__.get("_skin_labels")
    if found is None:
        body = assets.meshes["body"]
        masks = {name: assets.mask(name, 512) for name in ("lips", "inside-mouth", "ears")}
        at = (body.uv[body.triangles].mean(1) * 511).astype(int)
        inside = {name: mask[at[:, 1], at[:, 0]] > 0.5 for name, mask in masks.items()}
        found = np.full(len(body.triangles), LABELS.index("skin"), np.uint8)
        found[inside["lips"]] = LABELS.index("lips")
        found[inside["inside-mouth"]] = LABELS.index("mouth inside")
        # Vertices of the bare base head say where a triangle lies.
        places = assets.base[body.anchors[:, 0]][body.corners[body.triangles]].mean(1)
        found[inside["ears"] & (places[:, 0] < 0)] = LABELS.index("left ear")
        found[inside["ears"] & (places[:, 0] > 0)] = LABELS.index("right ear")
        assets.__dict__["_skin_labels"] = found
    return found


def weights_of(person: Person, posed: Posed, triangle: np.ndarray) -> np.ndarray:
    """Where in its triangle each pixel of a picture lies: barycentric coordinates (C, C, 3) of triangles (C, C), -1 for none."""
    there = triangle >= 0
    rows = person.camera[0][[0, 1, 3]]
    corners = np.take(posed.vertices, person.faces[triangle[there]], 0) @ rows[:, :3].T + rows[:, 3]
    x, y = still(len(triangle))[there].T
    ray = np.stack([x, -y, np.ones_like(x)], 1)
    # Corners times weights lie on the pixel's ray.
    found = np.stack(
        [
            np.einsum("ij,ij->i", np.cross(corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]), ray)
            for k in range(3)
        ],
        1,
    )
    total = found.sum(1, keepdims=True)
    weights = np.zeros((*triangle.shape, 3))
    weights[there] = found / np.where(np.abs(total) < 1e-12, 1e-12, total)
    return weights


def flow(
    person: Person, triangle: np.ndarray, weights: np.ndarray, other: Posed, other_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where what one picture shows lies in another pose's picture.

    Args:
        triangle, weights: of the first picture, (C, C) and (C, C, 3).
        other: the other pose.
        other_depth: (L, L) linear depth of the other pose's picture, infinite for the background.

    Returns:
        (C, C, 2) places in [-1, 1], and (C, C) whether the other picture shows them. Background stays where it is.
    """
    there = triangle >= 0
    corners = np.take(other.vertices, person.faces[triangle[there]], 0)
    places = np.einsum("ijk,ij->ik", corners, weights[there])
    # The last of clip coordinates is the distance along the camera's axis.
    clip = places @ person.camera[0][[0, 1, 3], :3].T + person.camera[0][[0, 1, 3], 3]
    points = still(len(there)).copy()
    points[there] = clip[:, :2] / (clip[:, 2:] * np.array([1, -1]))
    shown = sampled(other_depth, points)
    visible = np.isinf(shown)
    visible[there] = clip[:, 2] <= shown[there] + BEHIND
    return points, visible & (np.abs(points).max(-1) <= 1)


@functools.lru_cache(maxsize=8)
def still(side: int) -> np.ndarray:
    """Where each pixel of a picture lies, (side, side, 2) in [-1, 1]."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.stack(np.meshgrid(line, line), -1)


def sampled(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The nearest pixel of a picture (L, L) at points (..., 2)."""
    side = len(picture)
    cell = np.rint((points + 1) / 2 * (side - 1)).clip(0, side - 1).astype(np.intp)
    return np.take(picture, cell[..., 1] * side + cell[..., 0])


def seen_points(
    person: Person, names: tuple[str, ...], places: np.ndarray, labels: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """Which landmarks a picture shows: (K,) bool.

    Args:
        places: (K, 3) in the room.
        labels, depth: (L, L) of the picture; depth is linear, infinite for the background.
    """
    points, own = project(person.camera[0], places)
    # The furthest of the neighbouring pixels: landmarks lie on edges of lids and lips.
    furthest = cv2.dilate(np.minimum(depth, 1e4).astype(np.float32), np.ones((3, 3), np.uint8))
    seen = (own <= sampled(furthest, points) + BEHIND) & (np.abs(points) <= 1).all(-1)
    label = sampled(labels, points)
    eyes = (LABELS.index("left eye"), LABELS.index("right eye"))
    for k, name in enumerate(names):
        if "iris" in name:
            seen[k] &= label[k] in eyes
        elif name == "collar":
            # Mostly under cloth: it is seen where the body is.
            seen[k] = (np.abs(points[k]) <= 1).all() and label[k] in (2, 3)
        elif "teeth" in name:
            seen[k] &= label[k] == LABELS.index("teeth")
        elif "tongue" in name:
            seen[k] &= label[k] == LABELS.index("tongue")
    return seen


def outline(head: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The head's outline (OUTLINE, 2): the furthest point of its matte (S, S) uint8 in each direction from a centre, clockwise from the right."""
    side = len(head)
    angle = np.arange(OUTLINE) / OUTLINE * 2 * np.pi
    ray = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    length = np.linspace(0, 2.8, 2 * side, dtype=np.float32)
    points = centre + ray[:, None] * length[None, :, None]
    inside = (sampled(head, points) > 127) & (np.abs(points) <= 1).all(-1)
    last = inside.shape[1] - 1 - np.argmax(inside[:, ::-1], 1)
    last = np.where(inside.any(1), last, 0)
    return points[np.arange(OUTLINE), last].astype(np.float32)


def draw_group(
    renderer: Renderer,
    person: Person,
    scene: Scene,
    motions: np.ndarray,
    coarse: int,
) -> dict[str, np.ndarray]:
    """One person in P poses, with everything that is known about the pictures.

    Args:
        motions: (P, len(COLUMNS)).
        coarse: C, side of flow. Labels and depth have the side L = 2 C - 1, whose every second pixel is one of C.

    Returns:
        "pictures": (P, S, S, 3) uint8. "alphas": (P, S, S, 3) uint8: of the figure, of its head, and of the body without the head.
        "plates": (P, S, S, 3) uint8 what is seen without the head; "background": (S, S, 3).
        "points", "jacobians", "seen": (P, K, 2), (P, K, 2, 2), (P, K) of `LANDMARKS`.
        "fine": (P, F, 3) points of `landmarks.FINE`, and whether they are seen. "outline": (P, OUTLINE, 2).
        "amounts": (P, 52) of ARKit's units. "pose": (P, 3, 4) the head's motion from rest, camera's axes, decimetres.
        "labels": (P, L, L) uint8 of `LABELS`. "depth": (P, L, L) float16, distance before the eyes' plane in head units;
        the background has -inf.
        "places": (P, P, C, C, 2) float16, [a, b]: where what picture a shows lies in picture b.
        "shown": (P, P, C, C) bool, whether b shows it.
    """
    poses, fine = len(motions), 2 * coarse - 1
    found: dict[str, list] = {}
    posed = [person.pose(motion) for motion in motions]
    of_triangles = np.append(triangle_labels(renderer.assets, person), 0)
    seen_at: list[tuple[np.ndarray, np.ndarray]] = []
    depths: list[np.ndarray] = []
    unit = float(np.linalg.norm(person.joints["eye.L"] - person.joints["eye.R"])) / EYE_DISTANCE
    for motion, one in zip(motions, posed, strict=True):
        drawn = renderer.draw(person, one, scene)
        at = renderer.points(person, one, fine)
        depth, labels = at.depth, of_triangles[at.triangle]
        points, jacobians = person.coarse_points(one)
        places, fine_points = person.fine_points(one)
        coarse_places = person.coarse_places(one)
        fine_seen = seen_points(person, landmarks.FINE, places, labels, depth)
        view = camera_rotation(person)
        row = {
            "pictures": drawn.colour,
            "alphas": drawn.alpha,
            "plates": drawn.plate,
            "points": points,
            "jacobians": jacobians,
            "seen": seen_points(person, LANDMARKS, coarse_places, labels, depth),
            "fine": np.concatenate([fine_points, fine_seen[:, None]], 1).astype(np.float32),
            "outline": outline(drawn.alpha[..., 1], fine_points[landmarks.FINE.index("nose bridge")]),
            "amounts": amounts_row(motion),
            "pose": np.concatenate([view @ one.head[:, :3] @ view.T, view @ one.head[:, 3:]], 1).astype(
                np.float32
            ),
            "labels": labels.astype(np.uint8),
            "depth": ((person.distance - depth) / unit).astype(np.float16),
        }
        for name, value in row.items():
            found.setdefault(name, []).append(value)
        small = at.triangle[::2, ::2]
        seen_at.append((small, weights_of(person, one, small)))
        depths.append(depth)
    arrays = {name: np.stack(values) for name, values in found.items()}
    arrays["places"] = np.zeros((poses, poses, coarse, coarse, 2), np.float16)
    arrays["shown"] = np.zeros((poses, poses, coarse, coarse), bool)
    for a in range(poses):
        for b in range(poses):
            if a == b:
                arrays["places"][a, a], arrays["shown"][a, a] = still(coarse), True
                continue
            places, shown = flow(person, *seen_at[a], posed[b], depths[b])
            arrays["places"][a, b] = places.clip(-30, 30)
            arrays["shown"][a, b] = shown
    arrays["background"] = renderer.background(scene)
    return arrays


def camera_rotation(person: Person) -> np.ndarray:
    """Turns the room's axes to the camera's (3, 3)."""
    from livepuppet.train.people.person import rotation

    framing = person.framing
    return rotation(0, 0, framing.roll) @ rotation(framing.height, framing.side, 0)
