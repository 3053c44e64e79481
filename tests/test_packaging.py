"""What an installation must hold: an editable one hides what is missing from it."""

import configparser
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from livepuppet.core import packages

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("realtime", "model", "export", "train", "benchmarks", "livepuppet")


def test_every_folder_with_code_is_a_listed_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    parts = {
        code.parent.relative_to(ROOT).parts for folder in FOLDERS for code in (ROOT / folder).rglob("*.py")
    }
    found = {".".join(part if part[0] == "livepuppet" else ("livepuppet", *part)) for part in parts}
    assert listed == found


def test_imports_point_downwards(tmp_path):
    """The contract of pyproject.toml: core < model and the rooms of realtime < Animator < app, export, train < benchmarks."""
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    package = tmp_path / "livepuppet"
    shutil.copytree(ROOT / "livepuppet", package)
    for folder in FOLDERS[:-1]:
        shutil.copytree(
            ROOT / folder,
            package / folder,
            ignore=shutil.ignore_patterns("__pycache__", "*.onnx", "*.safetensors"),
        )
    lint = "from importlinter.cli import lint_imports_command as lint; lint()"
    result = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache", "--config", str(ROOT / "pyproject.toml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_versions_are_those_of_the_metadata(tmp_path, monkeypatch):
    for name in ("livepuppet", "numpy", "onnxruntime", "opencv-python"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        assert packages.version_of(name) == version
    for name in ("Some_Name-1.2+cpu.dist-info", "old-3.0-py3.10.egg-info", "old-0.1.dist-info.txt", "none"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    packages._installed.cache_clear()
    assert packages._installed() == {"some-name": "1.2+cpu", "old": "3.0"}
    assert packages.version_of("some.name") == "1.2+cpu" and packages.version_of("none") is None
    packages._installed.cache_clear()


def test_a_start_does_not_import_what_it_can_do_without():
    """The least of these takes three quarters of what OpenCV does."""
    code = (
        "import sys; from livepuppet.realtime import animator; from livepuppet.realtime.app import cli, session; "
        "from livepuppet.realtime.app.commands import run; "
        "print([name for name in ('torch', 'importlib.metadata', 'email', 'asyncio', 'starlette') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
