"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's evaluation data (clips, avatars, golden numbers), which is not part of the repository."""
    folder = Path(os.environ.get("LIVEPUPPET_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "parity").is_dir():
        pytest.skip(f"no shared evaluation data at {folder} (set LIVEPUPPET_SHARED to its folder)")
    return folder
