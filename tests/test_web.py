"""What `livepuppet web` writes, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import gradient, write_picture

from livepuppet.benchmarks import web as bench_web
from livepuppet.core.bundle import read_bundle
from livepuppet.core.errors import UserError
from livepuppet.core.reference import THRESHOLDS
from livepuppet.realtime.app import web
from livepuppet.realtime.app.web import runtime
from livepuppet.realtime.app.web.halves import halved
from livepuppet.realtime.app.web.serve import open_server
from livepuppet.realtime.app.web.site import HEADERS, write_site
from livepuppet.realtime.avatars import load_avatar
from livepuppet.realtime.bundled import AVATAR, EXAMPLE, MODEL
from livepuppet.realtime.rig.close_ups import default_close_ups

STATIC = Path(web.__file__).parent / "static"


@pytest.fixture
def runtime_folder(tmp_path, monkeypatch) -> Path:
    """A folder that holds something for each of the runtime's files, in place of 14 MB."""
    folder = tmp_path / "onnxruntime-web" / "dist"
    folder.mkdir(parents=True)
    known = {}
    for name in runtime.FILES:
        (folder / name).write_bytes(name.encode())
        known[name] = hashlib.sha256(name.encode()).hexdigest()
    monkeypatch.setattr(runtime, "FILES", known)
    return folder.parent


def told(folder: Path) -> dict:
    """What the service worker is told."""
    return json.loads((folder / "files.js").read_text().removeprefix("self.SITE = ").rstrip(";\n"))


def test_a_site_is_whole(tmp_path, runtime_folder):
    site = write_site(tmp_path / "site", runtime=runtime_folder)
    folder = site.folder
    for name in (
        "index.html",
        "main.js",
        "worker.js",
        "motion/retargeter.js",
        "studio.css",
        "sw.js",
        "_headers",
    ):
        assert (folder / name).is_file()
    named = told(folder)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {*named["shell"], *named["rest"], *named["later"], "files.js"}
    assert len(written) == site.files
    # What the page needs to move its own picture is kept for later; what the network draws with is not.
    assert {
        "avatars/clip.mp4",
        "avatars/example.npz",
        "model/close-ups.half",
        "model/detect.half",
        "runtime/ort-wasm-simd-threaded.packed",
        "avatars/00-rig.npz",
    } <= set(named["rest"])
    later = set(named["later"])
    assert {"model/render.onnx", "model/render.int8.onnx", "model/drawn.npz"} <= later
    # What makes rigs of visitors' pictures fits into what the issue allows, too.
    makes = {
        "model/matting.quarter",
        "model/avatar-eyes.half",
        "model/closed-eye.quarter",
        "encoding/maker.js",
        "encoding/modules.js",
    }
    assert makes <= later
    assert site.bytes + sum((folder / name).stat().st_size for name in makes) < 15e6 - 3.7e6
    metadata = json.loads((folder / "model/bundle.json").read_text())
    for stage, entry in metadata["variants"]["int8"].items():
        assert (
            hashlib.sha256((folder / "model" / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        ), stage
    # The runtime, which is not here, has 3.7 MB either way: the 15 and 8 are for both.
    assert site.bytes < 15e6 - 3.7e6 and site.packed < 8e6 - 3.7e6

    # The picture that the model sees is Python's, to the bit.
    [entry] = json.loads((folder / "site.json").read_text())["avatars"]
    avatar = load_avatar(EXAMPLE)
    small = cv2.imread(str(folder / "avatars" / entry["small"]))[..., ::-1]
    assert np.array_equal(small, avatar.image)
    figure = cv2.imread(str(folder / "avatars" / entry["figure"]), cv2.IMREAD_UNCHANGED)
    assert figure.shape == (*avatar.original.shape[:2], 4) and figure[..., 3].min() == 0

    for name in HEADERS:
        assert all(name in (folder / file).read_text() for file in ("_headers", ".htaccess", "vercel.json"))


def test_a_site_is_replaced_and_nothing_else(tmp_path, runtime_folder):
    picture = tmp_path / "plain picture.png"
    write_picture(picture, gradient(40, 60))
    folder = tmp_path / "site"
    write_site(folder, [AVATAR, picture], runtime=runtime_folder)
    version = told(folder)["version"]
    (folder / "CNAME").write_text("example.org")
    site = write_site(folder, [picture], runtime=runtime_folder, clip=None)
    assert told(folder)["version"] != version
    assert not (folder / "avatars/01.webp").exists() and not (folder / "avatars/clip.mp4").exists()
    assert (folder / "CNAME").exists()
    assert any("plain picture.png: no figure stands out" in sentence for sentence in site.sentences)

    other = tmp_path / "photos"
    other.mkdir()
    (other / "one.txt").write_text("mine")
    with pytest.raises(UserError, match="no empty folder and no site"):
        write_site(other, runtime=runtime_folder)
    assert [path.name for path in other.iterdir()] == ["one.txt"]


def test_what_cannot_be_had_is_said_at_once(tmp_path, runtime_folder, monkeypatch, livepuppet):
    (runtime_folder / "dist" / "ort.wasm.min.mjs").write_bytes(b"another version")
    with pytest.raises(UserError, match=r"ort\.wasm\.min\.mjs in .* is not that of onnxruntime-web"):
        write_site(tmp_path / "site", runtime=runtime_folder)
    with pytest.raises(UserError, match="npm install onnxruntime-web"):
        write_site(tmp_path / "site", runtime=tmp_path / "nowhere")
    # Nobody listens there.
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    failed = livepuppet("web", "--output", tmp_path / "site")
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert "cannot be fetched" in failed.stderr and "--runtime" in failed.stderr
    failed = livepuppet("web", "--output", tmp_path / "site", "--avatar", tmp_path / "missing.png")
    assert failed.returncode == 2 and "missing.png" in failed.stderr
    assert not (tmp_path / "site").exists()


def test_a_package_that_is_not_the_one_pinned_is_refused(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime-web" / "-").mkdir(parents=True)
    (tmp_path / "onnxruntime-web" / "-" / f"onnxruntime-web-{runtime.VERSION}.tgz").write_bytes(
        b"something else"
    )
    server = open_server(tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/")
    monkeypatch.setattr(runtime, "FILES", {"new.wasm": "none is kept of this"})
    try:
        with pytest.raises(UserError, match="SHA-512 differs"):
            runtime.runtime_files()
    finally:
        server.shutdown()
        server.server_close()


def test_the_server_isolates_the_page(tmp_path):
    (tmp_path / "a.mjs").write_text("export {};")
    server = open_server(tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    try:
        assert server.server_address[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/a.mjs") as response:
            assert response.headers["Content-Type"] == "text/javascript"
            assert all(response.headers[name] == value for name, value in HEADERS.items())
        with pytest.raises(UserError, match=f"Port {port} cannot be used"):
            open_server(tmp_path, port)
    finally:
        server.shutdown()
        server.server_close()


def test_the_page_asks_nobody_else():
    html = (STATIC / "index.html").read_text()
    policy = html.split('Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'") and "http" not in policy and "*" not in policy
    for path in STATIC.rglob("*"):
        if path.suffix in (".js", ".css", ".html", ".webmanifest"):
            addresses = [word for word in path.read_text().split() if "://" in word]
            assert not [word for word in addresses if "localhost" not in word], path.name


def test_the_gate_is_pythons():
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js to run the page's modules with")
    source = (STATIC / "engine.js").read_text()
    table = source[source.index("export const THRESHOLDS = ") :].split(";\n")[0].removeprefix("export ")
    script = f"{table}; process.stdout.write(JSON.stringify(THRESHOLDS))"
    found = json.loads(
        subprocess.run([node, "-e", script], capture_output=True, check=True, text=True).stdout
    )
    for precision, allowed in found.items():
        python = THRESHOLDS[precision]
        names = {"pixelsMax": "pixels_max", "pixelsMean": "pixels_mean"}
        assert allowed == {name: getattr(python, names.get(name, name)) for name in allowed}


def test_the_reference_is_read_as_numpy_reads_it():
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js to run the page's modules with")
    path = MODEL / read_bundle(MODEL)["reference"]["file"]
    script = f"""
        import fs from "node:fs";
        import {{ readNpz }} from "{(STATIC / "npz.js").as_uri()}";
        const data = fs.readFileSync("{path.as_posix()}");
        const arrays = await readNpz(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
        const told = Object.entries(arrays).map(([name, {{ shape, values }}]) =>
          [name, {{ shape, sum: Array.from(values, Number).reduce((sum, one) => sum + one, 0) }}]);
        process.stdout.write(JSON.stringify(Object.fromEntries(told)));
    """
    done = subprocess.run(
        [node, "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with np.load(path) as stored:
        assert set(found) == set(stored)
        for name in stored:
            assert found[name]["shape"] == list(stored[name].shape)
            assert found[name]["sum"] == pytest.approx(float(stored[name].astype(np.float64).sum()), rel=1e-9)


def test_weights_on_their_way_are_the_graphs(tmp_path):
    onnx, node = pytest.importorskip("onnx"), shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js to run the page's modules with")
    graph = default_close_ups().read_bytes()
    (tmp_path / "graph.half").write_bytes(halved(graph))
    script = f"""
        import fs from "node:fs";
        import {{ unhalved }} from "{(STATIC / "halves.js").as_uri()}";
        const data = fs.readFileSync("{tmp_path}/graph.half");
        const graph = unhalved(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
        fs.writeFileSync("{tmp_path}/graph.onnx", new Uint8Array(graph));
    """
    subprocess.run([node, "--input-type=module", "-e", script], check=True, timeout=60)
    assert (tmp_path / "graph.half").stat().st_size < 0.52 * len(graph)
    before, after = onnx.load_from_string(graph), onnx.load(tmp_path / "graph.onnx")
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        own, half = onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other)
        shortened = own.dtype == np.float32 and own.nbytes >= 256
        np.testing.assert_array_equal(half, own.astype(np.float16).astype(own.dtype) if shortened else own)


def test_the_modules_types_hold():
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("there is no TypeScript: npm install --global typescript")
    done = subprocess.run([tsc, "-p", STATIC.parent / "tsconfig.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_bench_has_python_beside_the_page():
    frames = [np.full((720, 1280, 3), level, np.uint8) for level in (90, 100)]
    for way in ("rig", "int8"):
        row = bench_web.in_python(frames, way, 1, 0)
        assert row["render_ms"] > 0 and bench_web.line(row).startswith(f"| Python | {way} | 1 | ")
    assert bench_web.line(row).count("|") == bench_web.HEADING[0].count("|")
