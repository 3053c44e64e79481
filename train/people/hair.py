"""What hair looks like near by: strands that run as the texture's do, ends that part into strands, and where strands point.

MakeHuman's hair is painted on smooth shells, with highlights of a light that is not there. What is taken from a texture is where
strands run.
"""

from __future__ import annotations

import cv2
import numpy as np

from livepuppet.train.people.assets import Assets, Mesh

#: Side of the textures made here.
SIDE = 512

#: How far strands reach beyond one another where hair ends, in decimetres.
FRINGE = 0.15

#: Meshes that are combed back from the forehead: above this height of the base head, and before this depth, they begin there.
COMBED_BACK, ROOTS_ABOVE, ROOTS_BEFORE = frozenset(["long01", "ponytail01", "short01", "short04"]), 7.30, 0.45

#: How far hair is thin where it begins, in decimetres.
THIN = 0.14

#: Meshes that look like hair without their own textures.
PAINTED = frozenset(["bob01"])

#: Whence hair hangs, on the base head.
CROWN = np.array([0, 8.55, 0.2])

#: Steps of a streamline to each side, and how long one is, in texels.
STREAM, STEP = 9, 2.0


def _directions(brightness: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Where strands run (SIDE, SIDE, 2): cosine and sine of twice the gradient's angle, by the structure tensor of what is inside."""
    inside = cv2.erode(inside, np.ones((7, 7))).astype(np.float32)
    dx, dy = (cv2.Scharr(brightness, cv2.CV_32F, *order) * inside for order in ((1, 0), (0, 1)))
    # Strands run across the gradient; where nothing is painted, along columns.
    xx, xy, yy = (cv2.GaussianBlur(value, (0, 0), 4.0) for value in (dx * dx, dx * dy, dy * dy))
    even = 0.02 * float((xx + yy).mean()) + 1e-6
    cosine, sine = xx - yy + even, 2 * xy
    length = np.maximum(np.hypot(cosine, sine), 1e-9)
    return np.dstack([cosine / length, sine / length])


def _streaked(noise: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Noise smeared along a field of directions (line integral convolution), [0, 1] with a deviation of 0.22."""
    x0, y0 = np.meshgrid(*[np.arange(SIDE, dtype=np.float32)] * 2)
    half = 0.5 * np.arctan2(field[..., 1], field[..., 0])
    # Twice the angle is that of the gradient's axis; strands are at right angles to it.
    across = np.dstack([-np.sin(half), np.cos(half)]).astype(np.float32)
    total = noise.copy()
    for sign in (1.0, -1.0):
        x, y, last = x0, y0, np.float32(sign) * across
        for _ in range(STREAM):
            x, y = x + STEP * last[..., 0], y + STEP * last[..., 1]
            total += cv2.remap(noise, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            there = cv2.remap(across, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            last = there * np.sign((there * last).sum(2, keepdims=True))
    total -= total.mean()
    return np.clip(0.5 + 0.22 * total / total.std(), 0, 1)


def _edges(mesh: Mesh, places: np.ndarray) -> np.ndarray:
    """Edges of the surface where it ends away from the crown, and no seams of it or its texture: pairs of corners (n, 2)."""
    _, same = np.unique(places.round(3), axis=0, return_inverse=True)
    pairs = np.concatenate([mesh.triangles[:, [k, (k + 1) % 3]] for k in range(3)])
    ends = np.sort(same.reshape(-1)[mesh.corners[pairs]], 1)
    _, index, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    third = np.concatenate([mesh.triangles[:, (k + 2) % 3] for k in range(3)])
    away = np.linalg.norm(places - CROWN, axis=1)[mesh.corners]
    return pairs[(count[index.reshape(-1)] == 1) & (away[pairs].mean(1) > away[third])]


def _texels_per_decimetre(mesh: Mesh, places: np.ndarray) -> float:
    def area(points: np.ndarray) -> float:
        u, v = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
        if points.shape[2] == 2:
            return float(np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum())
        return float(np.linalg.norm(np.cross(u, v), axis=1).sum())

    of_texture = area(mesh.uv[mesh.triangles].astype(np.float64))
    return SIDE * np.sqrt(of_texture / max(area(places[mesh.corners[mesh.triangles]]), 1e-9))


def painted() -> np.ndarray:
    """A texture for a mesh that has none, whose strands run up and down: uint8 RGBA (SIDE, SIDE, 4)."""
    noise = np.random.default_rng(0).standard_normal((2, SIDE, SIDE)).astype(np.float32)
    # Locks, and strands in them.
    locks = cv2.GaussianBlur(noise[0], (0, 0), sigmaX=7, sigmaY=90)
    streaks = cv2.GaussianBlur(noise[1], (0, 0), sigmaX=0.8, sigmaY=40)
    streaks = locks / locks.std() + 0.8 * streaks / streaks.std()
    picture = np.full((SIDE, SIDE, 4), 255, np.uint8)
    picture[..., :3] = np.clip(120 + 40 * streaks / streaks.std(), 0, 255)[..., None]
    return picture


def strands(mesh: Mesh, places: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The texture by which a mesh of hair is drawn, and where its strands run.

    Args:
        places: (n, 3) of its vertices on the base head.
        picture: its texture, uint8 RGBA, row 0 is v = 0.

    Returns:
        uint8 RGBA (SIDE, SIDE, 4): brightness without painted lights (128 is the mean), fine strands, locks, opacity; and per
        corner (m, 2) the direction of strands in texture coordinates.
    """
    rng = np.random.default_rng(len(places))
    texels = (mesh.uv * SIDE - 0.5).astype(np.float32)
    covered = np.zeros((SIDE, SIDE), np.uint8)
    for triangle in mesh.triangles:
        cv2.fillPoly(covered, [(16 * texels[triangle]).round().astype(np.int32)], 255, cv2.LINE_8, 4)
    picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    bright = picture[..., :3].mean(2).astype(np.float32) + 4
    opaque = picture[..., 3]
    # Beyond its seams the surface goes on elsewhere.
    opaque = np.where(covered > 0, opaque, cv2.dilate(opaque * (covered > 0), np.ones((9, 9))))
    inside = ((opaque > 110) | (covered == 0)).astype(np.uint8)
    field = _directions(bright, inside)
    noise = rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    # Strands of one texel would be rows of beads where they lie across the texture's grid.
    fine = _streaked(cv2.GaussianBlur(noise, (0, 0), 0.8), field)
    locks = _streaked(cv2.GaussianBlur(noise.T, (0, 0), 3.0), field)
    # Painted highlights are broader than strands and locks are.
    even = 0.5 * bright / cv2.GaussianBlur(bright, (0, 0), 14.0) + 0.5 * (bright / bright.mean()) ** 0.25
    at = texels.round().astype(int).clip(0, SIDE - 1)
    half = 0.5 * np.arctan2(*field[at[:, 1], at[:, 0]].T[::-1])
    directions = np.stack([-np.sin(half), np.cos(half)], 1)
    edges = _edges(mesh, places)
    # Hair ends where an edge lies across its strands. Those along them are sides of locks, which lie upon others.
    edge = texels[edges[:, 1]] - texels[edges[:, 0]]
    across = np.abs((edge * directions[edges[:, 0]]).sum(1)) < 0.7 * np.linalg.norm(edge, axis=1)
    middle = places[mesh.corners[edges]].mean(1)
    roots = (middle[:, 1] > ROOTS_ABOVE) & (middle[:, 2] > ROOTS_BEFORE) & (mesh.name in COMBED_BACK)
    begins = np.ones_like(inside)
    for some, into in ((across & ~roots, inside), (roots, begins)):
        for ends in (16 * texels[edges[some]]).round().astype(int).tolist():
            cv2.line(into, *ends, 0, 1, cv2.LINE_8, 4)
    within = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    scale = _texels_per_decimetre(mesh, places)
    fringe = FRINGE * scale
    # Narrow locks keep most of their width.
    reach = np.clip(0.35 * cv2.dilate(within, np.ones((25, 25))), 1.0, fringe)
    longest = 0.65 * fine + 0.35 * locks
    parted = np.clip((within - reach * np.clip(1.6 * longest - 0.4, 0, 1)) / (0.22 * reach + 0.8), 0, 1)
    # A hairline is no edge: single hairs, then more of them.
    rooted = cv2.distanceTransform(begins, cv2.DIST_L2, 5) / (THIN * scale)
    rooted = np.clip(1.25 * rooted - 0.25 * fine, 0, 1)
    alpha = np.minimum(opaque, 255 * np.minimum(parted, rooted))
    planes = [np.clip(128 * even, 0, 255), 255 * fine, 255 * locks, alpha]
    return np.ascontiguousarray(np.dstack(planes).astype(np.uint8)), directions


def strands_of(assets: Assets, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`strands` of a mesh of the assets, once per set of these."""
    known = assets.__dict__.setdefault("_strands", {})
    if name not in known:
        mesh, picture = assets.meshes[name], assets.texture(f"hair/{name}")
        known[name] = strands(mesh, mesh.place(assets.base), painted() if picture is None else picture)
    return known[name]


def spread(mesh: Mesh, places: np.ndarray, texture: np.ndarray, count: int = 150_000) -> np.ndarray:
    """Points (m, 3) evenly all over what is to be seen of a mesh of hair, for vertices at places (n, 3); `texture` as of `strands`."""
    rng = np.random.default_rng(len(places))
    corner = places[mesh.corners[mesh.triangles]].astype(np.float64)
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    which = rng.choice(len(area), count, p=area / area.sum())
    share = rng.dirichlet([1, 1, 1], count)[..., None]
    texel = SIDE * (share * mesh.uv[mesh.triangles[which]]).sum(1) - 0.5
    column, row = texel.round().astype(int).clip(0, SIDE - 1).T
    return (share * corner[which]).sum(1)[texture[row, column, 3] > 128]


def along(mesh: Mesh, places: np.ndarray, directions: np.ndarray, crown: np.ndarray) -> np.ndarray:
    """Unit vectors (m, 3) along the strands at each corner, away from the crown (3,), for vertices at places (n, 3)."""
    triangles = mesh.triangles
    corner = places[mesh.corners[triangles]].astype(np.float64)
    e1, e2 = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    uv = mesh.uv[triangles].astype(np.float64)
    d1, d2 = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    # Up to the sign of the triangle's turn in the texture; its size weighs triangles by their area.
    turn = np.sign(d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0])[:, None]
    by_u = turn * (e1 * d2[:, 1:] - e2 * d1[:, 1:])
    by_v = turn * (e2 * d1[:, :1] - e1 * d2[:, :1])
    found = np.zeros((len(mesh.uv), 3))
    for k in range(3):
        c = triangles[:, k]
        step = directions[c, :1] * by_u + directions[c, 1:] * by_v
        step *= np.where(((corner[:, k] - crown) * step).sum(1, keepdims=True) < 0, -1, 1)
        for axis in range(3):
            found[:, axis] += np.bincount(c, step[:, axis], len(found))
    # Corners of one vertex on two sides of a seam agree.
    total = np.stack([np.bincount(mesh.corners, found[:, axis], len(places)) for axis in range(3)], 1)
    found = total[mesh.corners]
    return (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def depth(places: np.ndarray, skull: np.ndarray) -> np.ndarray:
    """How open to light vertices (n, 3) of a head of hair are, by how far they lie below its outside: (n,) in [0.3, 1]."""
    offset = places - skull
    angle = np.arctan2(offset[:, 0], offset[:, 2])
    out = np.where(offset[:, 1] > 0, np.linalg.norm(offset, axis=1), np.hypot(offset[:, 0], offset[:, 2]))
    rise = np.arctan2(offset[:, 1], np.hypot(offset[:, 0], offset[:, 2]))
    column = np.floor((angle / (2 * np.pi) + 0.5) * 20).astype(int) % 20
    row = np.where(
        offset[:, 1] > 0, np.floor(rise / (0.5 * np.pi) * 6), -1 - np.floor(-offset[:, 1] / 0.3)
    ).astype(int)
    cell = (row - row.min()) * 20 + column
    outermost = np.zeros(cell.max() + 1)
    np.maximum.at(outermost, cell, out)
    return np.clip(1 - 2.2 * np.maximum(outermost[cell] - out - 0.08, 0), 0.3, 1).astype(np.float32)
