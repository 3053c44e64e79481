"""What the tests share."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

# With pytest-xdist every process has a core of its own: as many threads in each would only wait for one another.
# Before NumPy and PyTorch are imported, which read it once.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from lively import lively


@pytest.fixture(autouse=True, scope="session")
def _own_settings(tmp_path_factory):
    """No test reads or writes the settings or the cache of whoever runs it; what it starts inherits this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVEPUPPET_CONFIG", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # The engine that a test gets must not depend on what else this machine is doing.
        patch.setenv("LIVEPUPPET_TIMING", "off")
        yield


@pytest.fixture
def livepuppet(capfd):
    """The command line in this process: what a process of its own would give, without the seconds of its imports.

    For what commands do and say. Signals, exit of the interpreter and what gets imported need a real process.
    """
    from livepuppet.realtime.app import cli

    logger = logging.getLogger("livepuppet")

    def run(*arguments) -> subprocess.CompletedProcess:
        handlers, propagate, status = list(logger.handlers), logger.propagate, 0
        capfd.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code or 0
        finally:
            # As before, so that `caplog` still sees what the library logs.
            logger.handlers[:], logger.propagate = handlers, propagate
        said = capfd.readouterr()
        return subprocess.CompletedProcess(["livepuppet", *arguments], status, said.out, said.err)

    return run


@pytest.fixture
def train_log(caplog):
    """`caplog` of what `livepuppet.train` logs, whether or not a command has set up the console before."""
    logger = logging.getLogger("livepuppet.train")
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


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
    """A tiny model in evaluation mode in which every stage carries signal."""
    import torch

    from livepuppet.model.presets import build

    torch.set_num_threads(1)
    return lively(build(tiny_preset), seed=0)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_preset, tmp_path_factory):
    """A folder with the tiny model as `weights.safetensors` and as `bundle/`, exported once. Copy it to damage it."""
    import torch

    from livepuppet.export.bundle import export_bundle
    from livepuppet.model.checkpoint import load, save
    from livepuppet.model.presets import build

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    save(lively(build(tiny_preset), seed=1), folder / "weights.safetensors")
    export_bundle(load(folder / "weights.safetensors"), folder / "bundle", folder / "weights.safetensors")
    return folder


@pytest.fixture
def ready_graphs(tiny_bundle, monkeypatch):
    """`export_bundle` of the tiny model without the seconds that PyTorch's exporter takes: its graphs lie there already."""
    import torch

    from livepuppet.core.engine import STAGES
    from livepuppet.export import bundle

    def write_graphs(optimised, folder, stages=STAGES):
        for stage in stages:
            shutil.copy(tiny_bundle / "bundle" / f"{stage}.onnx", folder)
        return optimised.encode(torch.zeros(1, 3, 64, 64))

    monkeypatch.setattr(bundle, "write_graphs", write_graphs)


@pytest.fixture(scope="session")
def monkey_bundle(tmp_path_factory):
    """A tiny Monkey-Net, as `tiny_bundle` has a first-order model: `weights.safetensors` and `bundle/`."""
    import torch

    from livepuppet.export.bundle import export_bundle
    from livepuppet.model.checkpoint import load, save
    from livepuppet.model.monkeynet import MonkeyNetConfig
    from livepuppet.model.presets import Preset, build

    config = MonkeyNetConfig(
        size=64,
        num_keypoints=4,
        detector_expansion=8,
        detector_maximum=32,
        detector_blocks=2,
        motion_expansion=8,
        motion_maximum=32,
        motion_blocks=2,
        generator_expansion=8,
        generator_maximum=32,
        generator_blocks=2,
        refinement_blocks=1,
    )
    torch.set_num_threads(1)
    model = lively(build(Preset("monkey", 64, 4, config)), seed=3)
    with torch.no_grad():
        # A flow that stays in the picture, of which every part is seen.
        model.motion.residual.weight.mul_(0.05)
    folder = tmp_path_factory.mktemp("monkey")
    save(model, folder / "weights.safetensors")
    export_bundle(load(folder / "weights.safetensors"), folder / "bundle", folder / "weights.safetensors")
    return folder
