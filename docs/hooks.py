"""MkDocs hook: shows mkdocstrings the sources as the package that an installation makes of them.

The repository's folders become sub-packages of `livepuppet` only when setup.cfg's `package_dir` is
applied, and mkdocstrings reads files without importing them. So it gets a folder of links in that
layout.
"""

from __future__ import annotations

import configparser
import tempfile
from pathlib import Path

from mkdocs.plugins import event_priority

_ROOT = Path(__file__).resolve().parents[1]
_links = tempfile.TemporaryDirectory()


# Before mkdocstrings reads its configuration.
@event_priority(100)
def on_config(config):
    package = Path(_links.name) / "livepuppet"
    if not package.exists():
        _link(package)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [_links.name]
    return config


def _link(package: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(_ROOT / "setup.cfg")
    folders = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    package.mkdir()
    for name, folder in folders.items():
        if name == "livepuppet":
            for path in (_ROOT / folder).iterdir():
                (package / path.name).symlink_to(path)
        else:
            (package / name.removeprefix("livepuppet.")).symlink_to(_ROOT / folder)
