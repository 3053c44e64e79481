"""What an installation must hold: an editable one hides what is missing from it."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
