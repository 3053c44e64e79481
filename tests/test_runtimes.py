"""Every preset is drawn rightly by every engine: each goes through the quality gate, and is named where it does not pass.

Presets of 64 pixels and the shipped bundle in each run; the others with `-m slow`. int8 is checked on the shipped bundle
alone: seeded weights do not tolerate it, and the exporter refuses them (`test_variants`).
"""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.realtime import bundled
from livepuppet.realtime.engines import load_engine, offers

#: Of `model.presets`, which needs PyTorch, while the bundle that is shipped does not.
PRESETS = ("fomm-64", "fomm-128", "fomm-256", "lite-256", "monkeynet-64", "monkeynet-128")
#: Exported in seconds.
SMALL = ("fomm-64", "monkeynet-64")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle of a preset, exported once: lite-256 of its weights, the others of seeded ones."""
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    from lively import lively

    from livepuppet.export.bundle import export_bundle
    from livepuppet.export.verify import judge
    from livepuppet.model import presets
    from livepuppet.model.checkpoint import load

    assert set(PRESETS) == set(presets.PRESETS)
    folders = {}

    def export(name):
        if name not in folders:
            torch.set_num_threads(1)
            if name == bundled.MODEL.name:
                model = load(bundled.MODEL / f"{name}.safetensors")
            else:
                model = lively(presets.build(name), seed=1)
                if hasattr(model, "motion"):
                    with torch.no_grad():  # a flow that stays in the picture
                        model.motion.residual.weight.mul_(0.05)
            folder = tmp_path_factory.mktemp(name) / "bundle"
            export_bundle(model, folder, judge=judge)
            folders[name] = folder
        return folders[name]

    return export


def pass_on_every_engine(folder, precision):
    """The gate, by way of all engines that run bundles on this processor."""
    ways = [
        offer
        for offer in offers(folder, weights=False)
        if (offer.device, offer.precision, offer.missing) == ("cpu", precision, None)
    ]
    assert any(way.name == "onnx" for way in ways)
    for way in ways:
        engine = load_engine(way.name, folder, threads=1, device="cpu", precision=precision)
        # A picture of something, so that passing says something.
        picture = np.random.default_rng(0).integers(0, 256, (engine.size,) * 2 + (3,), dtype=np.uint8)
        own = engine.detect(picture)
        assert engine.render(engine.encode(picture), own, own).std() > 10


@pytest.mark.parametrize(
    "name", [name if name in SMALL else pytest.param(name, marks=slow) for name in PRESETS]
)
def test_every_preset_passes_the_gate_on_every_engine(name, exported):
    pass_on_every_engine(exported(name), "float32")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_bundle_that_is_shipped_passes_the_gate_on_every_engine(precision):
    pass_on_every_engine(bundled.MODEL, precision)
