"""What a person wears and grows: which parts are chosen, and those that are built here (fur, strands, glasses, ...)."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from livepuppet.train.people import hair
from livepuppet.train.people.assets import FINGERS, HAND_BONES, Assets, Mesh

#: How often a mesh of hair is chosen among those of its length, by how it looks from the front.
OFTEN = {
    "long01": 1.0,
    "braid01": 0.9,
    "bob01": 0.45,
    "bob02": 0.55,
    "ponytail01": 0.15,
    "short01": 1.0,
    "short02": 0.9,
    "short03": 0.25,
    "short04": 0.3,
}

#: How often teeth and lashes are chosen: few people's teeth have gaps or are pointed, and few lashes are false.
USUAL = {
    "teeth_shape01": 0.1,
    "teeth_shape04": 0.5,
    "teeth_shape05": 0.1,
    "eyelashes02": 0.6,
    "eyelashes03": 0.7,
    "eyelashes04": 0.08,
}

#: Hair that lies close to the skull: it cannot be fuller without standing off.
SLEEK = frozenset(["ponytail01", "short04"])

#: Shares of people with a hand and with a microphone before them.
HANDS, MICROPHONES = 0.02, 0.05

#: Share of people in a knitted cap.
HATS = 0.04

#: Distance of the base head's eyes, in decimetres.
EYES_APART = 0.6155

#: How far above the scalp's border the first hairs begin where hair is combed back, in decimetres.
FIRST_HAIRS = 0.08

#: Layers of short fur and of tall, and the most strands that stray from a head of hair.
LAYERS, TALL_LAYERS, STRAYS = 5, 13, 220


def rigid(
    name: str, kind: str, places: np.ndarray, triangles: np.ndarray, uv: np.ndarray | None = None
) -> Mesh:
    """A part that hangs on nothing but the bones: its places are those of the rest pose."""
    count = len(places)
    return Mesh(
        name,
        kind,
        np.zeros((count, 3), np.int32),
        np.zeros((count, 3), np.float32),
        np.asarray(places, np.float32),
        np.arange(count, dtype=np.int32),
        np.zeros((count, 2), np.float32) if uv is None else np.asarray(uv, np.float32),
        np.asarray(triangles, np.int32).reshape(-1, 3),
    )


def merged(name: str, kind: str, pieces: list[tuple[np.ndarray, np.ndarray]]) -> Mesh:
    """One rigid part of several (places, triangles)."""
    shift = np.cumsum([0] + [len(places) for places, _ in pieces])
    return rigid(
        name,
        kind,
        np.concatenate([places for places, _ in pieces]),
        np.concatenate([triangles + s for (_, triangles), s in zip(pieces, shift, strict=False)]),
    )


def tube(path: np.ndarray, radius: float | np.ndarray, sides: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A tube round a path (n, 3)."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    across = np.cross(along, [0, 0, 1.0])
    flat = np.linalg.norm(across, axis=1, keepdims=True) < 0.2
    across = np.where(flat, np.cross(along, [0, 1.0, 0]), across)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    other = np.cross(along, across)
    angle = np.arange(sides) / sides * 2 * np.pi
    ring = np.cos(angle)[None, :, None] * across[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    radius = np.broadcast_to(np.asarray(radius, float).reshape(-1, 1, 1), (len(path), 1, 1))
    places = (path[:, None] + radius * ring).reshape(-1, 3)
    triangles = []
    for i in range(len(path) - 1):
        for j in range(sides):
            a, b = i * sides + j, i * sides + (j + 1) % sides
            triangles += [[a, b, a + sides], [b, b + sides, a + sides]]
    return places, np.array(triangles)


def ellipsoid(centre, radii, rows: int = 7, columns: int = 10) -> tuple[np.ndarray, np.ndarray]:
    theta = np.linspace(0.01, np.pi - 0.01, rows)
    phi = np.arange(columns) / columns * 2 * np.pi
    unit = np.stack(
        [
            np.sin(theta)[:, None] * np.cos(phi)[None],
            np.cos(theta)[:, None] * np.ones(columns),
            np.sin(theta)[:, None] * np.sin(phi)[None],
        ],
        -1,
    )
    places = np.asarray(centre) + unit.reshape(-1, 3) * np.asarray(radii)
    triangles = []
    for i in range(rows - 1):
        for j in range(columns):
            a, b = i * columns + j, i * columns + (j + 1) % columns
            triangles += [[a, b, a + columns], [b, b + columns, a + columns]]
    return places, np.array(triangles)


def smooth(low: float, high: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# ------------------------------------------------------------------------------------------------------- regions of skin


def scalp(places: np.ndarray, temples: float = 0.10) -> np.ndarray:
    """How thickly hair grows at places of the base mesh at rest (n, 3): 0 to 1; how far the hairline goes back at the temples, in decimetres."""
    x, y, z = places.T
    line = np.interp(z, [-0.6, 0.2, 0.45, 0.62, 0.85, 1.15, 1.45], [6.25, 6.5, 7.0, 7.15, 7.43, 7.89, 7.985])
    line = line + temples * np.exp(-(((np.abs(x) - 0.42) / 0.14) ** 2)) * (z > 0.9)
    ear = np.exp(-(((np.abs(x) - 0.84) / 0.10) ** 2) - ((z - 0.42) / 0.22) ** 2) * smooth(7.47, 7.40, y)
    return smooth(-0.10, 0.11, y - line) * (1 - np.clip(1.6 * ear, 0, 1))


def beard(places: np.ndarray) -> np.ndarray:
    """How thickly a beard grows: chin, jaw, cheeks up to the ears, upper lip."""
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    # Upper border: from the sideburns along the cheek to the mouth's corner; the upper lip is apart.
    border = np.interp(x, [0.0, 0.2, 0.32, 0.55, 0.75, 0.85], [6.42, 6.46, 6.60, 6.78, 6.98, 7.05])
    # Lower border: below the jaw, from the throat up to the ear.
    low = np.interp(z, [0.3, 0.55, 0.8, 1.1, 1.35], [6.75, 6.50, 6.22, 6.05, 5.95])
    cheeks = smooth(-0.20, 0.17, border - y) * smooth(-0.14, 0.26, y - low) * smooth(0.26, 0.70, z)
    # None on the lobe of the ear.
    cheeks = cheeks * (
        1 - np.clip(1.8 * np.exp(-(((x - 0.84) / 0.13) ** 2) - ((z - 0.42) / 0.24) ** 2), 0, 1)
    )
    # A moustache falls towards the corners and is thin under the nose's middle.
    high = 6.775 - 0.45 * x**1.5
    lip = smooth(0.03, -0.02, y - high) * smooth(6.58, 6.62, y) * smooth(0.36, 0.24, x) * (z > 1.2)
    lip = lip * (1 - 0.4 * np.exp(-((x / 0.022) ** 2)))
    mouth = np.exp(-((x / 0.26) ** 4) - ((y - 6.585) / 0.040) ** 2) * (z > 1.1)
    return np.clip(cheeks + lip, 0, 1) * (1 - mouth)


def about_beard(places: np.ndarray) -> np.ndarray:
    """Where layers of hair are needed for `beard`, whose border is finer than the mesh."""
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    mouth = smooth(6.92, 6.84, y) * smooth(6.45, 6.5, y) * smooth(0.46, 0.38, x) * (z > 1.15)
    return np.maximum(smooth(0.0, 0.3, beard(places)), mouth)


def about_scalp(places: np.ndarray) -> np.ndarray:
    """The same for `scalp`."""
    return smooth(0.0, 0.3, scalp(places + np.array([0, 0.06, 0])))


def normals_of(places: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (n, 3) of vertices from triangles (t, 3)."""
    corners = [np.ascontiguousarray(faces[:, k]) for k in range(3)]
    a, b, c = ([np.take(axis, corner) for axis in np.ascontiguousarray(places.T)] for corner in corners)
    u, v = ([q - p for p, q in zip(a, other, strict=True)] for other in (b, c))
    face = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
    total = np.stack([sum(np.bincount(corner, axis, len(places)) for corner in corners) for axis in face], 1)
    length = np.sqrt(np.einsum("ij,ij->i", total, total))[:, None]
    return (total / np.maximum(length, 1e-9)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------------ hair


def fur(assets: Assets, base: np.ndarray, region, height: float, name: str, thin: float = 1.0) -> Mesh | None:
    """Short hair: copies of the skin, each a little further out, of which the shader shows hairs."""
    body = assets.meshes["body"]
    rest = assets.base[body.anchors[:, 0]]
    density = region(rest).astype(np.float32)
    faces = body.corners[body.triangles]
    keep = density[faces].max(1) > 0.03
    if not keep.any():
        return None
    normal = normals_of(base[body.anchors[:, 0]], faces)
    # Hair lies down the further it is from its root.
    lying = np.array([0, -0.35, 0.05], np.float32)
    used_corners, index = np.unique(body.triangles[keep], return_inverse=True)
    used, corner = np.unique(body.corners[used_corners], return_inverse=True)
    count = LAYERS if height < 0.2 else TALL_LAYERS
    layers = np.linspace(1 / count, 1, count)
    grown = height * (0.35 + 0.65 * density[used, None])
    return Mesh(
        name,
        "fur",
        np.tile(body.anchors[used], (count, 1)),
        np.tile(body.weights[used], (count, 1)),
        np.concatenate([grown * t * (normal[used] + t * lying) for t in layers]).astype(np.float32),
        np.concatenate([corner.reshape(-1) + k * len(used) for k in range(count)]).astype(np.int32),
        np.tile(body.uv[used_corners], (count, 1)),
        np.concatenate([index.reshape(-1, 3) + k * len(used_corners) for k in range(count)]).astype(np.int32),
        extra=np.concatenate(
            [
                np.stack([np.full(len(used_corners), t), thin * density[body.corners[used_corners]]], 1)
                for t in layers
            ]
        ).astype(np.float32),
    )


def _off_the_eyes(places: np.ndarray, eyes: np.ndarray, brows: float) -> np.ndarray:
    """Hair (n, 3) whose fringe ends at the brows' height instead of hanging over an eye; `eyes` (2, 3)."""
    unit = float(np.linalg.norm(eyes[1] - eyes[0]))
    x, y, z = places.T
    before = smooth(1.12, 0.80, np.abs(x) / unit) * smooth(-0.35, -0.05, (z - eyes[:, 2].mean()) / unit)
    found = places.copy()
    # All that lies over the forehead is drawn together, not the ends alone: these would be a dark fold.
    level = brows + 0.62 * unit
    lowest = y[before > 0.9].min(initial=brows)
    if lowest < brows:
        share = (level - brows) / (level - max(lowest, brows - 0.8 * unit))
        low = np.maximum(brows - 0.8 * unit - y, 0)
        squeezed = level - (level - np.maximum(y, brows - 0.8 * unit)) * share - 0.1 * low
        rise = before * np.where(y < level, squeezed - y, 0)
        # Foreheads lean back.
        found[:, 1] += rise
        found[:, 2] -= 0.28 * rise
    return found


def restyled(
    mesh: Mesh, base: np.ndarray, skull: np.ndarray, rng: np.random.Generator, eyes: np.ndarray, brows: float
) -> Mesh:
    """A head of hair made another: mirrored, fuller, longer, wavy, leaning. Its fringe ends above the eyes (2, 3), at the brows."""
    places = mesh.place(base).astype(np.float64)
    if mesh.name not in hair.COMBED_BACK:
        places = _off_the_eyes(places, eyes, brows)
    triangles = mesh.triangles
    offset = places - skull
    if rng.random() < 0.5:
        offset[:, 0] *= -1
        triangles = triangles[:, ::-1]
    sleek = mesh.name in SLEEK
    fuller = np.clip(rng.normal(0.02, 0.025, 3), -0.005, 0.09)
    offset *= 1 + fuller + (0.0 if sleek else np.array([0.03, 0.02, 0.01]))
    if not sleek:
        # Fuller above the ears, where skulls are narrow.
        offset[:, 0] *= 1 + 0.06 * smooth(0.1, 0.6, offset[:, 1])
    low = np.clip(-(offset[:, 1] + 0.25) / 1.2, 0, None)
    if low.max() > 0.3:
        offset[:, 1] -= rng.uniform(-0.35, 0.30) * low
        for axis in (0, 2):
            wave = np.sin(offset[:, 1] * rng.uniform(5, 11) + rng.uniform(0, 6.3))
            offset[:, axis] += rng.uniform(0, 0.05) * np.minimum(low * 2, 1) * wave
    top = np.clip(offset[:, 1] - 0.6, 0, None)
    lift = 0.06 if "short" in mesh.name else -0.02
    offset[:, 1] += (rng.uniform(-0.12, 0.12) + lift) * top
    offset[:, 0] += rng.normal(0, 0.05) * top
    grain = np.sin(offset @ rng.normal(0, 14, (3, 6)) + rng.uniform(0, 6.3, 6)).sum(1, keepdims=True)
    offset *= 1 + rng.uniform(0, 0.006) * grain
    found = rigid(mesh.name, mesh.kind, skull + offset, triangles, mesh.uv)
    # Corners that share a vertex keep sharing it: normals are smooth across seams of the texture.
    found.corners = mesh.corners
    return found


def _ribbons(
    roots: np.ndarray,
    along: np.ndarray,
    normal: np.ndarray,
    length: np.ndarray,
    rng: np.random.Generator,
    **how,
) -> tuple[np.ndarray, ...]:
    """Hairs or locks from roots (n, 3): places, triangles, texture coordinates and directions.

    Args:
        along, normal: (n, 3) unit vectors.
        length: (n,).
        how: `steps`; `lift` (n,), how far they leave the surface, over their length; `round`, radius of the surface that they
            follow; `curl`; `fall`, over the squared length; `width` (n,), half of it at the root; `flat`, 1 for those that
            lie on the surface, 0 for those that face the camera.
    """
    count, steps = len(roots), how["steps"]
    t = np.linspace(0, 1, steps)[None, :, None]
    reach = length[:, None, None] * t
    path = roots[:, None] + reach * along[:, None]
    path += normal[:, None] * (
        0.006 + how["lift"][:, None, None] * 2 * reach * (1 - 0.6 * t) - reach**2 / (2 * how["round"])
    )
    path += how["curl"] * rng.normal(0, 1, (count, 1, 3)) * reach * t
    path[..., 1] -= how["fall"] * (reach * t)[..., 0]
    ahead = np.gradient(path, axis=1)
    front = how["flat"] * normal[:, None] + (1 - how["flat"]) * np.array([0, 0, 1.0])
    across = np.cross(ahead, front)
    across /= np.maximum(np.linalg.norm(across, axis=2, keepdims=True), 1e-6)
    half = how["width"][:, None, None] * (1 - 0.5 * t)
    places = np.stack([path - half * across, path + half * across], 2).reshape(-1, 3)
    first = np.arange(count)[:, None] * 2 * steps + np.arange(steps - 1)[None] * 2
    quads = (first.reshape(-1, 1) + np.array([[0, 1, 2, 1, 3, 2]])).reshape(-1, 3)
    # Along, and the number of the lock with the place across it; single hairs are no wider than a sample.
    u = np.broadcast_to(t, (count, steps, 1)).repeat(2, 2)
    sides = np.array([0.02, 0.98]) if how["flat"] else np.array([0.5, 0.5])
    v = np.arange(count)[:, None, None] % 64 + np.broadcast_to(sides, (count, steps, 2))
    ahead /= np.maximum(np.linalg.norm(ahead, axis=2, keepdims=True), 1e-6)
    return places, quads, np.stack([u, v], -1).reshape(-1, 2), ahead.repeat(2, 1).reshape(-1, 3)


def strays(assets: Assets, of: Mesh, base: np.ndarray, skull: np.ndarray, rng: np.random.Generator) -> Mesh:
    """What makes a head of hair of a smooth shell: single hairs that leave its outline, locks that lie on it and hang out
    below its ends, and the first hairs of the hairline.
    """
    count = int(rng.integers(60, STRAYS))
    places = of.offsets.astype(float)
    normal = normals_of(of.offsets, of.corners[of.triangles])
    outwards = places - skull
    away = np.linalg.norm(outwards, axis=1)
    outwards /= np.maximum(away, 1e-6)[:, None]
    normal *= np.where((normal * outwards).sum(1, keepdims=True) < 0, -1, 1)
    texture, directions = hair.strands_of(assets, of.name)
    found = hair.along(of, places, directions, skull + np.array([0, 1, 0]))
    # Surfaces reach beyond what is to be seen of them.
    side = len(texture)
    column, row = (of.uv * side - 0.5).round().astype(int).clip(0, side - 1).T
    there = np.zeros(len(places), bool)
    there[of.corners[texture[row, column, 3] > 128]] = True
    flow = np.zeros_like(places)
    flow[of.corners] = found
    # Those far from the skull are the outer ones; behind the head nobody sees them.
    weight = np.clip(away - 0.7, 0.02, 1) * (places[:, 2] > -0.6) * there
    # Nor do hairs grow over the face.
    weight = weight * np.where((places[:, 2] > skull[2] + 0.25) & (places[:, 1] < skull[1] + 0.75), 0.02, 1)
    short = "short" in of.name
    at = rng.choice(len(places), count, p=weight / weight.sum())
    ahead = np.array([0, -1.0, 0]) + rng.normal(0, 0.45, (count, 3))
    ahead = ahead - (ahead * normal[at]).sum(1, keepdims=True) * normal[at]
    pieces = [
        _ribbons(
            places[at],
            ahead,
            normal[at],
            rng.uniform(0.10, 0.5, count) * rng.uniform(0.5, 1.2) * (0.4 if short else 1),
            rng,
            steps=6,
            lift=rng.uniform(0.02, 0.22, count),
            round=9.0,
            curl=0.12,
            fall=0.15,
            # As wide as a sample, and the more transparent: thinner ones would be dotted.
            width=rng.uniform(0.004, 0.007, count),
            flat=0.0,
        )
    ]
    # Locks: half of them where hair ends, of each direction the lowest.
    own = np.random.default_rng([len(places), int(rng.integers(1 << 31))])
    column = np.floor((np.arctan2(outwards[:, 0], outwards[:, 2]) / (2 * np.pi) + 0.5) * 28).astype(int) % 28
    lowest = np.full(28, np.inf)
    np.minimum.at(lowest, column[there], places[there, 1])
    seen = there & (places[:, 2] > skull[2] - 0.7) & (away > 0.75)
    ends = seen & (places[:, 1] < lowest[column] + (0.25 if short else 0.5))
    for chosen, many, long in ((ends, 70, (0.12, 0.34)), (seen, 110 if short else 60, (0.2, 0.6))):
        rows = np.flatnonzero(chosen)
        if not len(rows):
            continue
        at = own.choice(rows, many)
        ahead = flow[at] + own.normal(0, 0.14, (many, 3))
        ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
        # They begin above the vertex: their roots are hidden in the hair.
        length = own.uniform(*long, many) * (0.6 if short else 1)
        pieces.append(
            _ribbons(
                places[at] - 0.4 * length[:, None] * ahead,
                ahead,
                normal[at],
                length,
                own,
                steps=5,
                lift=own.uniform(0.02, 0.12, many),
                round=0.9,
                curl=0.07,
                fall=0.10,
                width=own.uniform(0.008, 0.021, many),
                flat=1.0,
            )
        )
    pieces.append(_first_hairs(assets, base, of.name in hair.COMBED_BACK, own))
    shift = np.cumsum([0] + [len(piece[0]) for piece in pieces])
    result = rigid(
        "strands",
        "strands",
        np.concatenate([piece[0] for piece in pieces]),
        np.concatenate([piece[1] + first for piece, first in zip(pieces, shift, strict=False)]),
        np.concatenate([piece[2] for piece in pieces]),
    )
    result.extra = np.concatenate([piece[3] for piece in pieces]).astype(np.float32)
    return result


def _first_hairs(
    assets: Assets, base: np.ndarray, combed_back: bool, rng: np.random.Generator, count: int = 130
) -> tuple[np.ndarray, ...]:
    """Short fine hairs where the scalp begins, as `_ribbons` has them."""
    body = assets.meshes["body"]
    rows = body.anchors[:, 0]
    rest, faces = assets.base[rows], body.corners[body.triangles]
    dense = scalp(rest - np.array([0, FIRST_HAIRS * combed_back, 0]))
    edge = (dense[faces].max(1) > 0.3) & (dense[faces].min(1) < 0.75) & (rest[faces][..., 2].min(1) > 0.3)
    if not combed_back:
        # What a fringe hides stays hidden.
        edge &= rest[faces][..., 2].max(1) < 0.95
    faces = faces[edge]
    places = base[rows].astype(float)
    share = rng.dirichlet([1, 1, 1], count)[..., None]
    chosen = faces[rng.integers(len(faces), size=count)]
    corner = places[chosen]
    u, v = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    normal = np.cross(u, v)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    root = (share * corner).sum(1)
    # Up and back, at the temples back; under a fringe down to the side.
    ahead = np.array([0, 0.8, -0.7]) if combed_back else np.array([0, -0.4, -0.8])
    ahead = (
        ahead
        + np.stack([0.5 * root[:, 0], 0 * root[:, 0], 0 * root[:, 0]], 1)
        + rng.normal(0, 0.3, (count, 3))
    )
    ahead -= (ahead * normal).sum(1, keepdims=True) * normal
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)
    return _ribbons(
        root,
        ahead,
        normal,
        rng.uniform(0.05, 0.17, count),
        rng,
        steps=4,
        lift=rng.uniform(0.02, 0.12, count),
        round=1.2,
        curl=0.10,
        fall=0.0,
        width=rng.uniform(0.0015, 0.0032, count),
        flat=0.0,
    )


# ------------------------------------------------------------------------------------------------------------ things worn


def glasses(
    eyes: list[np.ndarray],
    ears: list[np.ndarray],
    nose: np.ndarray,
    rng: np.random.Generator,
    skin: np.ndarray,
    before: float = 0.0,
) -> list[Mesh]:
    """Rims, bridge and temples, and lenses; `eyes` and `ears` first on the picture's left, `skin` (n, 3) is what they clear."""
    unit = float(np.linalg.norm(eyes[1] - eyes[0]))
    front = max(eyes[0][2], eyes[1][2]) + 0.36 * unit
    front = max(front, nose[2] - 0.13 * unit) + before * unit
    half_width, half_height = rng.uniform(0.38, 0.46) * unit, rng.uniform(0.22, 0.34) * unit
    power, thick = rng.uniform(2, 4.5), rng.uniform(0.010, 0.027) * unit
    drop = rng.uniform(0.02, 0.08) * unit
    # Lenses are further apart than pupils.
    apart = 0.05 * unit
    # Neither brows nor cheeks come through.
    for eye in eyes:
        offset = skin - eye + np.array([0, drop, 0])
        near = (np.abs(offset[:, 0]) < 1.1 * half_width) & (np.abs(offset[:, 1]) < 1.15 * half_height)
        if near.any():
            out = (skin[near, 2] + 0.30 * skin[near, 0] ** 2 / unit).max()
            front = max(front, out + 0.03 * unit + before * unit)
    pieces, lenses = [], []
    angle = np.linspace(0, 2 * np.pi, 29)

    def curve(x: np.ndarray) -> np.ndarray:
        return front - 0.30 * x**2 / unit

    for eye in eyes:
        middle_x = eye[0] + np.sign(eye[0]) * apart
        x = middle_x + np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power) * half_width
        y = eye[1] - drop + np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power) * half_height
        rim = np.stack([x, y, curve(x)], 1)
        pieces.append(tube(rim, thick))
        middle = np.array([[middle_x, eye[1] - drop, curve(np.array([middle_x]))[0] + 0.012 * unit]])
        fan = np.concatenate([middle, rim[:-1]])
        k = np.arange(1, 29)
        lenses.append((fan, np.stack([np.zeros(28, int), k, np.roll(k, -1)], 1)))
    level = eyes[0][1] + 0.06 * unit
    inner = [eyes[0][0] - apart + half_width * 0.95, eyes[1][0] + apart - half_width * 0.95]
    if inner[0] < inner[1]:
        x = np.linspace(inner[0], inner[1], 5)
        y = level + 0.04 * unit * np.sin(np.linspace(0, np.pi, 5))
        pieces.append(tube(np.stack([x, y, curve(x) + 0.01 * unit], 1), thick))
    for eye, ear in zip(eyes, ears, strict=True):
        sign = np.sign(eye[0])
        x = eye[0] + sign * (apart + 0.97 * half_width)
        start = np.array([x, level, curve(np.array([x]))[0]])
        # The hinge stands just beside the temple.
        back = start[2] - 0.22 * unit
        beside = (np.abs(skin[:, 1] - level) < 0.15 * unit) & (skin[:, 2] > back - 0.05 * unit)
        temple = np.abs(skin[beside & (skin[:, 0] * sign > 0), 0]).max(initial=0.0) + 1.5 * thick
        hinge = np.array([sign * max(abs(x) + 0.03 * unit, temple), level, back])
        end = np.array([ear[0] * 0.95, ear[1] + 0.08, ear[2]])
        bend = end + np.array([0, -0.10, -0.18])
        # Round the temple, not through it.
        path = hinge + np.linspace(0, 1, 5)[:, None] * (end - hinge)
        for place in path[:4]:
            near = (np.abs(skin[:, 1:] - place[1:]) < 0.16).all(1) & (skin[:, 0] * sign > 0)
            if near.any():
                place[0] = sign * max(abs(place[0]), np.abs(skin[near, 0]).max() + thick)
        pieces.append(tube(np.concatenate([start[None], path, bend[None]]), thick * 0.9))
    return [merged("glasses", "glasses", pieces), merged("lenses", "lens", lenses)]


def headphones(
    ears: list[np.ndarray], crown: np.ndarray, mouth: np.ndarray, rng: np.random.Generator
) -> Mesh:
    """Cushions and cups at the ears, a band over the head; now and then a microphone on a boom before the cheek."""
    size, thick = rng.uniform(0.26, 0.36), rng.uniform(0.045, 0.07)
    turn = np.linspace(0, 2 * np.pi, 23)
    pieces = []
    for ear in ears:
        sign = np.sign(ear[0])
        middle = ear + np.array([sign * 0.04, 0.02, 0.0])
        ring = np.stack([0 * turn, size * np.cos(turn), 0.86 * size * np.sin(turn)], 1)
        pieces.append(tube(middle + 0.84 * ring, thick + 0.02, 10))
        # A cup: a rim, a step and a lid.
        steps = np.array(
            [[0.05, 0.98], [0.13, 0.94], [0.17, 0.80], [0.175, 0.60], [0.165, 0.55], [0.17, 0.05]]
        )
        places = np.concatenate(
            [middle + np.array([sign * out, 0, 0]) + share * ring[:-1] for out, share in steps]
        )
        k = np.arange(22)
        rows = (np.arange(len(steps) - 1) * 22)[:, None]
        a, b = (rows + k).reshape(-1), (rows + (k + 1) % 22).reshape(-1)
        pieces.append(
            (places, np.concatenate([np.stack([a, b, a + 22], 1), np.stack([b, b + 22, a + 22], 1)]))
        )
    angle = np.linspace(-1.45, 1.45, 21)
    width = abs(ears[0][0] - ears[1][0]) / 2 + 0.13
    rise = crown[1] + 0.10 - ears[0][1]
    path = np.stack(
        [
            np.sin(angle) * width * 1.02,
            ears[0][1] + np.cos(angle) * rise,
            np.full(21, (ears[0][2] + ears[1][2]) / 2),
        ],
        1,
    )
    pieces.append(tube(path, rng.uniform(0.045, 0.085), 8))
    if rng.random() < 0.5:
        ear = ears[int(rng.integers(2))]
        sign = np.sign(ear[0])
        begin = ear + np.array([sign * 0.16, -0.6 * size, 0.15])
        tip = mouth + np.array(
            [sign * rng.uniform(0.28, 0.42), rng.uniform(-0.22, -0.08), rng.uniform(0.02, 0.10)]
        )
        elbow = np.array([sign * abs(begin[0]), tip[1] + 0.02, 0.55 * begin[2] + 0.45 * tip[2]])
        t = np.linspace(0, 1, 9)[:, None]
        pieces.append(tube((1 - t) ** 2 * begin + 2 * t * (1 - t) * elbow + t * t * tip, 0.022, 6))
        pieces.append(ellipsoid(tip, (0.085, 0.06, 0.06)))
    return merged("headphones", "phones", pieces)


def beanie(
    places: np.ndarray, skull: np.ndarray, ears: list[np.ndarray], brows: float, rng: np.random.Generator
) -> Mesh:
    """A knitted cap pulled over the head, ribbed, with a hem that is turned up; `places` (n, 3) is the skin of head and neck."""
    columns, rows = 72, 20
    low_front = brows + rng.uniform(0.24, 0.42)
    low_back = ears[0][1] - rng.uniform(0.0, 0.25)
    phi = np.arange(columns) / columns * 2 * np.pi
    # From the hem to the top, from the ears' height over which it lies.
    front = 0.5 + 0.5 * np.cos(phi)
    level = low_back + (low_front - low_back) * smooth(0.25, 0.9, front)
    offset = places - skull
    rise = np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2]))
    around = np.arctan2(offset[:, 0], offset[:, 2])
    # Ears lie under it.
    is_ear = np.min([np.linalg.norm(places - ear, axis=1) for ear in ears], 0) < 0.34
    far = np.linalg.norm(offset, axis=1)
    cells = np.zeros((15, 36))
    inside = (rise > -0.5) & ~is_ear
    i = ((rise[inside] + 0.5) / (np.pi / 2 + 0.5) * 14.99).astype(int)
    j = ((around[inside] / (2 * np.pi) + 0.5) * 36).astype(int) % 36
    np.maximum.at(cells, (i, j), far[inside])
    # Cells without a vertex take what is beside them.
    for _ in range(8):
        wide = np.pad(cells, ((1, 1), (1, 1)), mode="edge")
        wide[1:-1, 0], wide[1:-1, -1] = cells[:, -1], cells[:, 0]
        near = np.max([wide[a : a + 15, b : b + 36] for a in range(3) for b in range(3)], 0)
        cells = np.where(cells > 0, cells, near)
    wide = np.concatenate([cells[:, -6:], cells, cells[:, :6]], 1).astype(np.float32)
    cells = cv2.GaussianBlur(wide, (0, 0), 1.2, borderType=cv2.BORDER_REPLICATE)[:, 6:-6]

    start = np.arctan2(level - skull[1], 0.95)
    s = np.linspace(0, 1, rows)[:, None]
    theta = start + (np.pi / 2 - start) * s
    u = np.broadcast_to(((phi + np.pi) / (2 * np.pi) * 36 - 0.5) % 36, theta.shape).astype(np.float32)
    v = ((theta + 0.5) / (np.pi / 2 + 0.5) * 15 - 0.5).astype(np.float32)
    padded = np.concatenate([cells, cells[:, :1]], 1).astype(np.float32)
    radius = cv2.remap(padded, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # All columns meet at the top.
    at_top = smooth(0.55, 1.0, s)
    radius = radius + at_top * (radius[-1].mean() - radius)
    slack = rng.uniform(0.0, 0.16)
    hem = s < rng.uniform(0.2, 0.3)
    ribs = 0.010 * np.cos(phi * 36 / 2)[None] * (1 - s**4)
    radius = radius + 0.06 + 0.045 * hem + ribs + slack * s * s * (3 - 2 * s)
    found = skull + radius[..., None] * np.stack(
        [np.cos(theta) * np.sin(phi), np.sin(theta), np.cos(theta) * np.cos(phi)], -1
    )
    # The hem ends inside, on the skin.
    found = np.concatenate([skull + (found[:1] - skull) * (1 - 0.10 / radius[:1, :, None]), found])
    k = np.arange((rows + 1) * columns).reshape(rows + 1, columns)
    a, b, c, d = (part.reshape(-1) for part in (k[:-1], np.roll(k, -1, 1)[:-1], k[1:], np.roll(k, -1, 1)[1:]))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])
    return rigid("beanie", "hat", found.reshape(-1, 3), triangles)


def earrings(lobes: list[np.ndarray], rng: np.random.Generator) -> Mesh:
    if rng.random() < 0.5:
        pieces = [
            ellipsoid(lobe + np.array([0, -0.03, 0.02]), np.full(3, rng.uniform(0.03, 0.05)), 6, 8)
            for lobe in lobes
        ]
    else:
        radius = rng.uniform(0.06, 0.15)
        angle = np.linspace(0, 2 * np.pi, 17)
        pieces = [
            tube(
                lobe + np.stack([0 * angle, -radius + radius * np.cos(angle), radius * np.sin(angle)], 1),
                0.013,
            )
            for lobe in lobes
        ]
    return merged("earrings", "ring", pieces)


# -------------------------------------------------------------------------------------------------- things before the face


def hand(assets: Assets, target: np.ndarray, side: float, size: float, rng: np.random.Generator) -> Mesh:
    """A hand and its forearm, which come from below and the side (-1 or 1), the palm at a place (3,); its fingers curl."""
    own = assets.hand
    places = own.places.astype(float)
    along = own.joints[HAND_BONES.index("finger3-1.L")] - own.joints[0]
    along /= np.linalg.norm(along)
    across = own.joints[HAND_BONES.index("finger2-1.L")] - own.joints[HAND_BONES.index("finger5-1.L")]
    palm = np.cross(along, across)
    palm /= np.linalg.norm(palm)
    # At rest fingers are bent to the palm a little.
    second, third = (own.joints[HAND_BONES.index(bone)] for bone in FINGERS[2][1:])
    palm *= np.sign(((third - second) / np.linalg.norm(third - second) - along) @ palm)
    curl, spread = rng.uniform(-0.15, 1.0) ** 2, rng.normal(0.0, 0.10)
    found = own.skinning[:, :1] * places
    for k, finger in enumerate(FINGERS):
        last = np.eye(4)
        bend = curl * rng.uniform(0.85, 1.15) + rng.normal(0, 0.05)
        for j, bone in enumerate(finger):
            at = HAND_BONES.index(bone)
            ahead = own.joints[at + 1] - own.joints[at] if j < 2 else own.joints[at] - own.joints[at - 1]
            axis = np.cross(ahead, palm)
            turn = turned(axis, bend * ((0.25, 0.3, 0.4) if k == 0 else (0.75, 1.0, 0.7))[j])
            if j == 0 and k > 0:
                turn = turned(palm, spread * (k - 2.5)) @ turn
            last = last @ about_point(turn, own.joints[at])
            found += own.skinning[:, at, None] * (places @ last[:3, :3].T + last[:3, 3])
    up = np.array([-0.45 * side + rng.normal(0, 0.25), 1.0, rng.normal(0, 0.2)])
    up /= np.linalg.norm(up)
    front = np.array([0.3 * side, 0.1, 1.0])
    front -= (front @ up) * up
    front /= np.linalg.norm(front)
    # The mesh is the left hand, on the picture's right; the other one is its image in a mirror.
    mirror = np.array([side, 1, 1])
    local = np.stack([along, palm, np.cross(along, palm)])
    wanted = np.stack([up * mirror, -front * mirror, np.cross(up * mirror, -front * mirror)])
    offset = (found - own.joints[0]) @ (wanted.T @ local).T * size
    result = rigid(
        "hand",
        "hand",
        target - 0.85 * size * up + offset * mirror,
        own.triangles if side > 0 else own.triangles[:, ::-1],
        own.uv,
    )
    result.corners = own.corners
    return result


def turned(axis: np.ndarray, angle: float) -> np.ndarray:
    """A turn (3, 3) about an axis (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def about_point(turn: np.ndarray, centre: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, centre - turn @ centre
    return matrix


def microphone(mouth: np.ndarray, rng: np.random.Generator) -> Mesh:
    """A microphone on its stand, from a side or from below: a grille or a windscreen, a ring, and a body that narrows."""
    side = rng.choice([-1.0, 1.0])
    centre = mouth + np.array(
        # Below the lips, as who speaks into one holds it: before the face it has no owner.
        [side * abs(rng.normal(0.22, 0.25)), rng.uniform(-0.85, -0.40), rng.uniform(0.5, 0.9)]
    )
    radius = rng.uniform(0.15, 0.21)
    axis = np.array([side * rng.uniform(0.2, 1.0), -1.0, rng.uniform(0.0, 0.6)])
    axis /= np.linalg.norm(axis)
    long = rng.uniform(0.7, 1.5)
    # Its outline from the tip to the body's end: distances along the axis and radii, over the head's radius.
    outline = (
        np.array([[-1, 0.05], [-0.92, 0.4], [-0.7, 0.72], [-0.35, 0.94], [0, 1], [0.4, 0.97], [0.75, 0.86]])
        if rng.random() < 0.6
        else np.array(
            [[-1.5, 0.05], [-1.46, 0.5], [-1.3, 0.8], [-1.0, 0.95], [-0.4, 1], [0.3, 1], [0.7, 0.96]]
        )
    )
    body = np.array(
        [[0.78, 0.95], [0.80, 0.98], [0.98, 0.98], [1.0, 0.74], [1.3, 0.66], [1 + long / radius, 0.48]]
    )
    head = tube(centre + radius * outline[:, :1] * axis, radius * outline[:, 1], 32)
    rest = tube(centre + radius * body[:, :1] * axis, radius * body[:, 1], 32)
    end = centre + (radius + long) * axis
    foot = end + np.array([side * rng.uniform(0.2, 2.5), -5.0, rng.normal(0, 0.5)])
    stand = tube(end + np.linspace(-0.05, 1, 5)[:, None] * (foot - end), 0.055, 8)
    result = merged("microphone", "microphone", [head, rest, stand])
    #: Where the grille is.
    result.extra = (np.arange(len(result.offsets)) < len(head[0])).astype(np.float32)
    return result


def before_the_face(assets: Assets, at, look, size: float, rng: np.random.Generator) -> list[Mesh]:
    """Hands and microphones, now and then; `at` gives places of landmarks at rest."""
    parts = []
    if rng.random() < HANDS:
        side = float(rng.choice([-1.0, 1.0]))
        name, shift = (
            ("chin", (0.25, -0.15, 0.35)),
            ("chin", (0.45, 0.25, 0.0)),
            ("left ear lobe" if side < 0 else "right ear lobe", (0.15, 0.0, 0.35)),
            ("lower lip", (0.2, 0.0, 0.45)),
            ("nose bridge", (0.75, 0.7, 0.2)),
            ("collar", (0.7, 0.9, 1.2)),
        )[int(rng.integers(6))]
        place = at(name) + np.array(shift) * [side, 1, 1] + rng.normal(0, 0.12, 3)
        parts.append(hand(assets, place, side, size, rng))
    if rng.random() < MICROPHONES:
        parts.append(microphone(0.5 * (at("upper lip") + at("lower lip")), rng))
        grey = rng.uniform(0.008, 0.04) if rng.random() < 0.75 else rng.uniform(0.12, 0.35)
        look.part_colours["microphone"] = grey * (1 + 0.08 * rng.normal(size=3))
    return parts


# ---------------------------------------------------------------------------------------------------------------- choices


def draw_parts(
    assets: Assets, base: np.ndarray, origin, look, rng: np.random.Generator, drawn: bool
) -> list[Mesh]:
    """The parts of a person, the skin first. Colours of what is worn are put into `look.part_colours`."""
    from livepuppet.train.people.person import _choose, _colour, vertex_table

    table = vertex_table(assets)

    def at(name: str) -> np.ndarray:
        return base[table[name]].astype(float)

    joints = {
        side: base[assets.joints[f"eye.{letter}"]].mean(0) for side, letter in (("right", "L"), ("left", "R"))
    }
    skull = base[assets.joints["head"]].mean(0) + np.array([0, 0.55, 0.35])
    male, child = origin.male, origin.child
    pick = functools.partial(_choose, rng)
    meshes = assets.meshes
    parts = [meshes["body"], meshes.get("eyes") or meshes["plain eyes"]]
    for kind in ("teeth", "tongue", "lash"):
        names = assets.of_kind(kind)
        pick(names)
        # By a generator of their own: what else people are does not depend on them.
        likely = [USUAL.get(name, 1.0) for name in names]
        parts.append(meshes[_choose(np.random.default_rng([look.seed, 13]), names, likely)])
    # By a generator of its own, too.
    own = np.random.default_rng([look.seed, 10])
    cloth = assets.of_kind("cloth")
    worn = [name for name in cloth if name.startswith("female") != male] or cloth
    if not male and own.random() < 0.4:
        worn = [name for name in cloth if name.startswith("male_casual")] or worn
    parts.append(meshes[pick(worn)])

    # Without its texture a mesh of hair is a block, but for some.
    hairs = [name for name in assets.of_kind("hair") if assets.has_texture(name) or name in hair.PAINTED]
    usual = male if rng.random() < 0.9 else not male
    hairs = [name for name in hairs if ("short" in name or "afro" in name) == usual] or hairs
    if male and not usual:
        # What men wear long hangs down.
        hairs = [name for name in hairs if "long" in name] or hairs
    kind = rng.random()
    bald = male and (rng.random() < 0.10) and child < 0.2
    # Hair on the skin itself: shorn heads, and the roots under every other hair.
    shorn = not hairs or kind < (0.18 if male else 0.02)
    look.details["scalp"] = 0.0
    if bald and not drawn:
        look.details["scalp"] = rng.uniform(0, 0.35)
    elif shorn:
        # Tall hair stands up only where it curls.
        curls = origin.ethnicity["african"] > 0.5
        heights = [0.03, 0.07, 0.13, 0.18 if curls else 0.10, 0.25 if curls else 0.05]
        height = rng.choice(heights, p=[0.24, 0.32, 0.26, 0.10, 0.08]) * rng.uniform(0.8, 1.2)
        grown = fur(assets, base, about_scalp, height, "shorn", rng.uniform(0.75, 1.0))
        if grown is not None:
            parts.append(grown)
        look.details["scalp"] = 0.95
    else:
        name = pick(hairs, [OFTEN.get(name, 1.0) for name in hairs])
        brows = 0.5 * float(at("left brow")[1] + at("right brow")[1])
        eyes = np.stack([joints["left"], joints["right"]])
        styled = restyled(meshes[name], base, skull, rng, eyes, brows)
        parts.append(styled)
        parts.append(strays(assets, styled, base, skull, rng))
        # Nothing of the skin shines through: a fifth of it would make black hair's roots brown.
        look.details["scalp"] = 1.0
        look.combed_back = name if name in hair.COMBED_BACK else None
    if male and child < 0.1 and rng.random() < 0.28 and origin.sex["male"] > 0.75:
        whole = rng.random() < 0.88

        def region(places: np.ndarray) -> np.ndarray:
            grown = about_beard(places)
            if whole:
                return grown
            return grown * smooth(0.42, 0.30, np.abs(places[:, 0])) * (places[:, 2] > 1.0)

        height = rng.choice([0.015, 0.035, 0.07], p=[0.45, 0.37, 0.18]) * rng.uniform(0.8, 1.3)
        grown = fur(assets, base, region, height, "beard", rng.uniform(0.5, 0.9) * (1 if whole else 0.7))
        if grown is not None:
            parts.append(grown)
        look.details["stubble"] = max(look.details["stubble"], 1.0 if whole else 0.6)
        # Skin does not shine through a beard of some length.
        look.details["bearded"] = float(whole and height > 0.012)
    ears = [at("left ear middle"), at("right ear middle")]
    # By a generator of its own: what else people are does not depend on it.
    own = np.random.default_rng([look.seed, 8])
    if rng.random() < HATS:
        parts = [part for part in parts if part.kind != "strands"]
        if not any(part.kind == "fur" for part in parts) and look.details["scalp"] >= 0.4:
            grown = fur(assets, base, about_scalp, 0.03, "shorn", 0.95)
            parts += [grown] if grown is not None else []
            look.details["scalp"] = 0.95
        skin = base[np.unique(meshes["body"].anchors[:, 0])].astype(float)
        brow = 0.5 * float(at("left brow")[1] + at("right brow")[1])
        worn_hat = beanie(skin, skull, ears, brow, own)
        # All hair is under it: what hangs out below its brim would be cut off there.
        parts = [part for part in parts if part.kind != "hair"] + [worn_hat]
        look.part_colours["hat"] = _colour(rng, 0.5) * 0.35
    if rng.random() < 0.20:
        parts += glasses(
            [joints["left"], joints["right"]],
            [at("left ear top"), at("right ear top")],
            at("nose bridge"),
            rng,
            base[np.unique(meshes["body"].anchors[:, 0])],
            0.12 * drawn,
        )
        look.part_colours["glasses"] = (
            rng.random(3) ** 2 * 0.12 if rng.random() < 0.93 else rng.random(3) ** 2
        )
        tint = rng.random() < 0.12
        look.part_colours["lens"] = np.append(
            _colour(rng) * 0.15, rng.uniform(0.5, 0.95) if tint else rng.uniform(0.02, 0.12)
        )
    if rng.random() < 0.07:
        # Over the hair, not through it.
        above = at("crown")
        for part in parts:
            if part.kind == "hair":
                away = part.offsets.astype(float)
                for ear in ears:
                    beside = away[
                        (np.abs(away[:, 1:] - ear[1:]) < 0.22).all(1) & (away[:, 0] * ear[0] > 0), 0
                    ]
                    ear[0] = np.sign(ear[0]) * max(abs(ear[0]), np.abs(beside).max(initial=0.0) - 0.05)
                top = away[np.abs(away[:, 2] - ears[0][2]) < 0.3, 1]
                above[1] = max(above[1], top.max(initial=0.0) - 0.06)
        mouth = 0.5 * (at("upper lip") + at("lower lip"))
        parts.append(headphones([ear.copy() for ear in ears], above, mouth, rng))
        look.part_colours["phones"] = _colour(rng, 0.5)
    elif not male and rng.random() < 0.25:
        parts.append(earrings([at("left ear lobe"), at("right ear lobe")], rng))
        look.part_colours["ring"] = (
            np.array([0.8, 0.62, 0.25]) if rng.random() < 0.5 else np.array([0.75, 0.75, 0.78])
        )
    # By a generator of their own: what else people are does not depend on them.
    size = float(np.linalg.norm(joints["right"] - joints["left"])) / EYES_APART
    return parts + before_the_face(assets, at, look, size, np.random.default_rng([look.seed, 5]))
