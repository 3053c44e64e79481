"""Write the site: the page, the model, the runtime and the pictures, and what hosts have to be told."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.avatar import Avatar
from livepuppet.core.bundle import BUNDLE_FILE, read_bundle, reference_of, variants_of
from livepuppet.core.engine import STAGES
from livepuppet.core.errors import UserError
from livepuppet.core.files import npz_bytes, write_atomically
from livepuppet.realtime.app.web.example import example_file
from livepuppet.realtime.app.web.halves import halved, quartered
from livepuppet.realtime.app.web.runtime import LICENCE, WASM, runtime_files
from livepuppet.realtime.app.web.translate import rig_maker
from livepuppet.realtime.avatars import load_avatars
from livepuppet.realtime.bundled import DRIVING, EXAMPLE, MODEL
from livepuppet.realtime.compositing.matte import figure_colours
from livepuppet.realtime.engines import Engine, load_engine
from livepuppet.realtime.outputs.badge import BADGE_TEXT, COMMENT, XMP
from livepuppet.realtime.rig.close_ups import default_avatar_eyes, default_close_ups
from livepuppet.realtime.rig.closed_eyes import default_closed_eye
from livepuppet.realtime.rig.finding import contours_of
from livepuppet.realtime.rig.matting import default_matting
from livepuppet.realtime.rig.rig import Face, Rig
from livepuppet.realtime.rig.shut_mouth import at_rest
from livepuppet.realtime.rig.tables import reading_file, rig_file, sheets_file

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"

#: What the page has in common with the studio's.
SHARED = Path(__file__).parents[1] / "studio" / "static"
SHARED_FILES = ("studio.css", "dom.js", "icon.svg", "numbers.js", "slider.js", "theme.js")

#: The file that names all others, and tells a site from any other folder.
FILES_FILE = "files.js"

#: Comments of JavaScript that have lines of their own: a quarter of what a visitor would download of it.
COMMENTS = re.compile(rb"^[ \t]*(?://[^\n]*|/\*(?:(?!\*/).)*\*/[ \t]*)\n", re.MULTILINE | re.DOTALL)

#: The runtime as the page fetches it.
RUNTIME = "runtime/ort-wasm-simd-threaded.packed"

#: What moves pictures before anybody does.
MOTION = "avatars/example.npz"

#: Where what makes rigs of visitors' pictures lies.
ENCODING = "encoding/"

#: Without these no browser gives WebAssembly threads. (A service worker sets them where a host does not.)
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

#: Quality of pictures, 0 to 100, and their longest side in pixels: rigs draw each of them.
QUALITY, LONGEST = 92, 720

#: OpenCV's quality of WebP without loss.
LOSSLESS = 101

#: What the bundle's reference tells of finding faces; the rest is of drawing them.
OF_FACES = ("pictures", "points", "matrices")

#: The graphs' precision that a page loads first.
FIRST = "int8"


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        folder: where.
        files: number of files.
        bytes: of all that a browser downloads to move a picture.
        packed: the same as gzip sends it.
        sentences: what was left out, for the person.
    """

    folder: Path
    files: int
    bytes: int
    packed: int
    sentences: tuple[str, ...]


def write_site(
    folder: Path,
    avatars: Sequence[Path] = (),
    model: Path | None = None,
    runtime: Path | None = None,
    clip: Path | None = DRIVING,
) -> Site:
    """Write a site into `folder`, which has to be empty, or hold a site, which is replaced.

    Args:
        avatars: pictures, or folders of pictures, that the page offers; by default the bundled one.
        model: a bundle with landmarks, in float32 and possibly int8; by default the bundled one.
        runtime: see `runtime_files`.
        clip: an MP4 (H.264) to try it with; None for none.

    Raises:
        UserError: a picture or the model cannot be used, the runtime cannot be had, or the folder not be written.
    """
    before = _known_files(folder)
    bundle = model or MODEL
    pictures = _loaded(avatars or [EXAMPLE], read_bundle(bundle)["size"])
    files = _page()
    for name, data in runtime_files(runtime).items():
        # Not every host packs it on its way.
        if name == WASM:
            files[RUNTIME] = gzip.compress(data, mtime=0)
        else:
            files[f"runtime/{name}"] = data
    files["runtime/LICENSE.txt"] = LICENCE.encode()
    graphs, loaded = _model(bundle)
    files.update(graphs)
    engine = load_engine("onnx", bundle, precision="float32", use="detect")
    entries, sentences = [], []
    for number, avatar in enumerate(pictures):
        made, entry = _avatar_files(avatar, f"{number:02d}", engine)
        files.update(made)
        entries.append(entry)
        if "figure" not in entry:
            sentences.append(f"{avatar.name}: no figure stands out, so its background stays as it is.")
    if clip is not None:
        files[MOTION] = example_file(clip, engine)
    told = {
        "avatars": entries,
        "clip": None,
        "bytes": sum(len(files[name]) for name in {RUNTIME, *loaded}),
        "synthetic": {"badge": BADGE_TEXT, "comment": COMMENT, "xmp": XMP.decode()},
    }
    if clip is not None:
        told["clip"] = "clip.mp4"
        files["avatars/clip.mp4"] = clip.read_bytes()
    files["site.json"] = _json(told)
    files.update(_for_hosts())
    # What visitors' own pictures take, a precision that passed needs no more, or the network alone draws with.
    later = graphs.keys() - loaded
    later |= {name for name in files if name.startswith(ENCODING)}
    later |= {f"avatars/{entry['small']}" for entry in entries if "rig" in entry}
    files[FILES_FILE] = _file_list(files, later)
    try:
        for name, data in files.items():
            write_atomically(folder / name, data)
        for name in before - files.keys():
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"The site cannot be written into {folder} ({error.strerror}): choose another --output."
        ) from error
    first = {name: data for name, data in files.items() if name not in later}
    return Site(
        folder,
        len(files),
        sum(map(len, first.values())),
        sum(len(gzip.compress(data)) for data in first.values()),
        tuple(sentences),
    )


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _known_files(folder: Path) -> set[str]:
    """The files of the site that `folder` holds; none where there is nothing yet. Raises UserError where it holds another
    thing.
    """
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return set()
        text = (folder / FILES_FILE).read_text(encoding="utf-8")
        told = json.loads(re.sub(r"^self\.SITE = |;\s*$", "", text))
        names = {*told["shell"], *told["rest"], *told["later"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{folder} is no empty folder and no site of livepuppet: choose another --output, so that nothing is lost."
        ) from error
    return {name for name in names if ".." not in name and not name.startswith("/")}


def _loaded(paths: Sequence[Path], size: int) -> list[Avatar]:
    found: list[Avatar] = []
    for path in paths:
        several, skipped = load_avatars(path, size)
        found += several
        for sentence in skipped:
            logger.warning("%s", sentence)
    return found


def _page() -> dict[str, bytes]:
    files = {
        path.relative_to(STATIC).as_posix(): path.read_bytes()
        for path in sorted(STATIC.rglob("*"))
        if path.is_file()
    }
    files.update({name: (SHARED / name).read_bytes() for name in SHARED_FILES})
    files[f"{ENCODING}modules.js"] = rig_maker().encode()
    files.update({name: COMMENTS.sub(b"", data) for name, data in files.items() if name.endswith(".js")})
    return files


def _model(bundle: Path) -> tuple[dict[str, bytes], set[str]]:
    """The files of a bundle and of what reads faces closely, and the names of those that are loaded first."""
    metadata = read_bundle(bundle)
    reference = reference_of(bundle, metadata)
    if (
        not metadata["keypoint_names"]
        or metadata.get("matrices", "jacobian") != "jacobian"
        or reference is None
    ):
        raise UserError(
            f"{bundle} cannot be used on a page, which needs landmarks with Jacobians and reference pictures: leave --model out."
        )
    kept = {key: metadata[key] for key in ("size", "num_keypoints", "keypoint_names")}
    fastest = metadata["variants"][FIRST] if FIRST in variants_of(metadata) else metadata["graphs"]
    # Pictures that come with the page are drawn by their rigs: what the network draws with is loaded with the first that has none.
    with np.load(reference[0]) as arrays:
        of_faces = {name: arrays[name] for name in OF_FACES}
        of_pictures = {name: arrays[name] for name in arrays.files if name not in OF_FACES}
    first = {
        "detect.half": halved((bundle / metadata["graphs"]["detect"]["file"]).read_bytes()),
        "reference.npz": npz_bytes(of_faces),
        "close-ups.half": halved(default_close_ups().read_bytes()),
        "reading.npz": reading_file(),
    }
    drawing = {
        entry["file"]: (bundle / entry["file"]).read_bytes()
        for graphs in (metadata["graphs"], fastest)
        for entry in (graphs[stage] for stage in STAGES if stage != "detect")
    }
    files = {**first, **drawing, "drawn.npz": npz_bytes(of_pictures)}
    files["avatar-eyes.half"] = halved(default_avatar_eyes().read_bytes())
    files["closed-eye.quarter"] = quartered(default_closed_eye().read_bytes())
    files["matting.quarter"] = quartered(default_matting().read_bytes())

    def told(name: str) -> dict[str, str]:
        return {"file": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    def chosen(graphs: Mapping) -> dict:
        own = {stage: told(graphs[stage]["file"]) for stage in STAGES if stage != "detect"}
        return {"detect": told("detect.half"), **own}

    kept |= {"graphs": chosen(metadata["graphs"]), "variants": {}}
    if fastest is not metadata["graphs"]:
        kept["variants"][FIRST] = chosen(fastest)
    kept |= {
        "reference": told("reference.npz"),
        "drawn": told("drawn.npz"),
        "matting": told("matting.quarter"),
    }
    first[BUNDLE_FILE] = files[BUNDLE_FILE] = _json(kept)
    return {f"model/{name}": data for name, data in files.items()}, {f"model/{name}" for name in first}


def _avatar_files(avatar: Avatar, stem: str, engine: Engine) -> tuple[dict[str, bytes], dict]:
    """The files of a picture, and what the page has to know of it."""
    contours, _ = contours_of(engine, avatar.original, avatar.square, avatar.path)
    names, keypoints = tuple(engine.keypoint_names), engine.detect(avatar.image)
    face = Face(keypoints, names, engine.size, avatar.square, contours, others=avatar.others)
    if face.usable:
        avatar, face = at_rest(engine, avatar, face)
    picture, square, matte = avatar.original, avatar.square, avatar.matte
    factor = min(LONGEST / max(picture.shape[:2]), 1.0)
    if factor < 1:
        extent = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
        picture, square = cv2.resize(picture, extent, interpolation=cv2.INTER_AREA), square.scaled(factor)
        matte = None if matte is None else cv2.resize(matte, extent, interpolation=cv2.INTER_AREA)
    files = {
        f"avatars/{stem}.webp": _webp(picture),
        # What the model sees, to the bit as Python has it.
        f"avatars/{stem}-square.webp": _webp(avatar.image, LOSSLESS),
    }
    entry = {
        "name": Path(avatar.name).stem,
        "picture": f"{stem}.webp",
        "small": f"{stem}-square.webp",
        "square": {"x": square.x, "y": square.y, "side": square.side},
    }
    rig = None
    if face.usable:
        with suppress(ValueError):
            rig = Rig(picture, face, square, matte)
    if rig is not None and rig.head is not None:
        matte = rig.head.layers.matte if matte is None else matte
        files[f"avatars/{stem}-rig.npz"] = rig_file(rig, face)
        entry["rig"] = f"{stem}-rig.npz"
        if (sheets := sheets_file(rig)) is not None:
            files[f"avatars/{stem}-sheets.npz"] = sheets
            entry["sheets"] = f"{stem}-sheets.npz"
    if matte is not None and matte.min() < 250 <= matte.max():
        files[f"avatars/{stem}-figure.webp"] = _webp(np.dstack([figure_colours(picture, matte), matte]))
        entry["figure"] = f"{stem}-figure.webp"
    return files, entry


def _webp(picture: np.ndarray, quality: int = QUALITY) -> bytes:
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode(".webp", cv2.cvtColor(picture, order), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise UserError("OpenCV cannot write WebP here: install opencv-python from PyPI.")
    return data.tobytes()


def _for_hosts() -> Mapping[str, bytes]:
    """What tells the usual hosts to send `HEADERS`: Netlify and Cloudflare Pages, Apache, Vercel. GitHub Pages cannot."""
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    apache = [f'  Header set {name} "{value}"' for name, value in HEADERS.items()]
    types = [
        "AddType text/javascript .mjs",
        "AddType application/wasm .wasm",
        "AddType application/manifest+json .webmanifest",
    ]
    vercel = {
        "headers": [
            {"source": "/(.*)", "headers": [{"key": name, "value": value} for name, value in HEADERS.items()]}
        ]
    }
    return {
        "_headers": "\n".join(["/*", *(f"  {line}" for line in lines), ""]).encode(),
        ".htaccess": "\n".join([*types, "<IfModule mod_headers.c>", *apache, "</IfModule>", ""]).encode(),
        "vercel.json": _json(vercel),
        # GitHub Pages would leave out names that begin with an underscore.
        ".nojekyll": b"",
    }


def _file_list(files: Mapping[str, bytes], later: set[str]) -> bytes:
    """`files.js` for the service worker: its version changes with any file's content."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    hosts = set(_for_hosts())
    first = [name for name in sorted(files) if name not in later | hosts and name != "sw.js"]
    heavy = [name for name in first if name.startswith(("model/", "runtime/", "avatars/"))]
    told = {
        "version": digest.hexdigest()[:16],
        "shell": [name for name in first if name not in heavy],
        "rest": heavy,
        "later": sorted(later | hosts | {"sw.js"}),
    }
    return f"self.SITE = {json.dumps(told, indent=1)};\n".encode()
