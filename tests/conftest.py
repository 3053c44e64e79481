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


@pytest.fixture(scope="session")
def tiny_preset():
    """A first-order model of the published shape in small: every part there, milliseconds to run."""
    from livepuppet.model.fomm import FommConfig
    from livepuppet.model.presets import Preset

    config = FommConfig(
        size=64,
        num_keypoints=4,
        jacobian_maps=4,
        detector_expansion=8,
        detector_maximum=32,
        detector_blocks=2,
        motion_expansion=8,
        motion_maximum=32,
        motion_blocks=2,
        generator_expansion=8,
        generator_maximum=32,
        generator_residual_blocks=2,
    )
    return Preset("tiny", 64, 4, config)


@pytest.fixture
def tiny_model(tiny_preset):
    """A tiny model in evaluation mode whose seeded weights make every stage carry signal."""
    import torch

    from livepuppet.model.presets import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build(tiny_preset)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
        torch.nn.init.normal_(model.kp_detector.jacobian.weight, std=0.05)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_bundle(tiny_preset, tmp_path_factory):
    """A folder with the tiny model as `weights.safetensors` and as `bundle/`, exported once. Copy it to damage it."""
    import torch

    from livepuppet.export.bundle import export_bundle
    from livepuppet.model.checkpoint import load, save
    from livepuppet.model.presets import build

    torch.set_num_threads(1)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("tiny")
    save(build(tiny_preset), folder / "weights.safetensors")
    export_bundle(load(folder / "weights.safetensors"), folder / "bundle", folder / "weights.safetensors")
    return folder
