"""The files of onnxruntime-web: fetched from npm when a site is written, never when a person opens it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from livepuppet.core.cache import remember_bytes, remembered_bytes
from livepuppet.core.errors import UserError

#: The version that the page's modules are written and tested for, and the SHA-512 of its package on npm.
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

#: What the page loads of it, and the SHA-256 of each: the build for processors alone, a seventh of the package.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}

#: The largest of them.
WASM = "ort-wasm-simd-threaded.wasm"

REGISTRY = "https://registry.npmjs.org"

#: Bytes of the largest package that is read; it has 33 million.
LARGEST_PACKAGE = 80 << 20

#: Seconds without an answer.
PATIENCE = 30

LICENCE = f"""onnxruntime-web {VERSION}, https://github.com/microsoft/onnxruntime

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files
(the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge,
publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do
so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE
FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def runtime_files(folder: str | os.PathLike | None = None) -> dict[str, bytes]:
    """The content of each of `FILES`.

    Args:
        folder: where they lie already (`node_modules/onnxruntime-web`, or its `dist`); None takes them from the cache, else
            from npm.

    Raises:
        UserError: they are not there, are others, or npm cannot be reached.
    """
    if folder is not None:
        return _from_folder(Path(folder))
    try:
        return {name: remembered_bytes("web-runtime", _key(name)) for name in FILES}
    except KeyError:
        files = _unpacked(_fetched())
    for name, data in files.items():
        remember_bytes("web-runtime", _key(name), data, most=2 * len(FILES))
    return files


def _key(name: str) -> dict:
    return {"package": PACKAGE, "version": VERSION, "file": name, "sha256": FILES[name]}


def _checked(name: str, data: bytes, where: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        raise UserError(
            f"{name} in {where} is not that of {PACKAGE} {VERSION}: get that version, or leave --runtime out."
        )
    return data


def _from_folder(folder: Path) -> dict[str, bytes]:
    inner = folder / "dist" if (folder / "dist").is_dir() else folder
    found = {}
    for name in FILES:
        try:
            found[name] = _checked(name, (inner / name).read_bytes(), str(inner))
        except OSError as error:
            raise UserError(
                f"{inner / name} cannot be read ({error.strerror}): give the folder that 'npm install {PACKAGE}@{VERSION}' "
                f"makes, node_modules/{PACKAGE}."
            ) from error
    return found


def _fetched() -> bytes:
    """The package, as npm has it. Goes by the usual proxy variables."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    address = f"{registry}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    if not address.startswith(("https://", "http://")):
        raise UserError(f"The npm registry {registry} is no web address: unset NPM_CONFIG_REGISTRY.")
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as response:
            data = response.read(LARGEST_PACKAGE)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{PACKAGE} {VERSION} cannot be fetched from {registry} ({reason}): connect to the internet once (it is kept), or "
            f"give its folder with --runtime, as 'npm install {PACKAGE}@{VERSION}' makes it."
        ) from error
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
        raise UserError(
            f"What {registry} sent is not {PACKAGE} {VERSION} (its SHA-512 differs): try again, or use --runtime."
        )
    return data


def _unpacked(package: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        found = {}
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, "the checksum says that it is there"
            found[name] = _checked(name, member.read(), PACKAGE)
    return found
