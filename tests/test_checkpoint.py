"""Weights on disk: our own files, published checkpoints, and everything that people mistake for either."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from livepuppet.model import checkpoint
from livepuppet.model.checkpoint import CheckpointError
from livepuppet.model.commands import import_checkpoint
from livepuppet.model.presets import Preset, build


def same(first, second) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


# --- our own files ---


def test_what_was_saved_is_loaded(tiny_model, tmp_path):
    path = tmp_path / "new folder" / "model.safetensors"
    checkpoint.save(tiny_model, path, command="livepuppet train", seed=7)
    loaded = checkpoint.load(path)
    assert same(loaded, tiny_model)
    assert loaded.preset == tiny_model.preset
    assert not loaded.training
    assert checkpoint.read_metadata(path)["seed"] == "7"
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_half_precision_files_are_smaller_and_load_as_float32(tiny_model, tmp_path):
    checkpoint.save(tiny_model, tmp_path / "full.safetensors")
    checkpoint.save(tiny_model, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (
        tmp_path / "full.safetensors"
    ).stat().st_size
    loaded = checkpoint.load(tmp_path / "half.safetensors")
    for name, value in loaded.state_dict().items():
        assert value.dtype == tiny_model.state_dict()[name].dtype
        torch.testing.assert_close(value, tiny_model.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_a_failed_save_leaves_the_old_file(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    checkpoint.save(tiny_model, path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        Path(args[1]).write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError):
        checkpoint.save(tiny_model, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def _rewritten(model, path, change, **metadata):
    """Save a model, then write the file again with changed tensors and metadata."""
    checkpoint.save(model, path)
    facts = {**checkpoint.read_metadata(path), **metadata}
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata=facts)
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("generator.final.bias"), "lacks generator.final.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "has extra, which this model has not"),
        (lambda t: t.update({"generator.final.bias": torch.zeros(4)}), r"shape \(4,\); expected \(3,\)"),
        (lambda t: t.update({"generator.final.bias": torch.zeros(3, dtype=torch.int64)}), "int64; expected"),
    ],
)
def test_names_and_shapes_are_strict(tiny_model, tmp_path, change, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        checkpoint.load(_rewritten(tiny_model, tmp_path / "m.safetensors", change))


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"version": "2"}, "update livepuppet"),
        ({"format": "other"}, "a first-order model's checkpoint; expected one that"),
        ({"preset": "{}"}, "preset that cannot be built"),
    ],
)
def test_foreign_safetensors_are_refused(tiny_model, tmp_path, metadata, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        checkpoint.load(_rewritten(tiny_model, tmp_path / "m.safetensors", lambda t: None, **metadata))


def test_a_cut_off_safetensors_file_is_refused(tiny_model, tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoint.save(tiny_model, path)
    content = path.read_bytes()
    for length in (9, 200, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"broke off|damaged|unknown kind|expected"):
            checkpoint.load(path)


# --- published checkpoints ---


def official(model) -> dict:
    """A model's weights as the published checkpoints hold them."""
    return {
        "generator": model.generator.state_dict(),
        "kp_detector": model.kp_detector.state_dict(),
        "discriminator": {"discs.1.conv.weight": torch.zeros(1, 35, 1, 1)},
        "optimizer_generator": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
            "param_groups": [{"lr": 2e-4}],
        },
        "epoch": 99,
    }


@pytest.fixture
def narrow(tiny_preset):
    """A model of 256 x 256 pixels, as the published ones, with few channels."""
    torch.manual_seed(2)
    config = replace(tiny_preset.config, size=256, detector_maximum=16)
    return build(Preset("narrow", 256, 4, config)).eval()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before zip"])
def test_shapes_are_enough_to_read_a_published_checkpoint(narrow, tmp_path, zipped):
    path = tmp_path / "vox-cpk.pth.tar"
    torch.save(official(narrow), path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped
    model = checkpoint.read_official(path)
    assert same(model, narrow)
    assert (model.preset.size, model.preset.num_keypoints) == (256, 4)
    frames = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        for mine, theirs in zip(model.detect(frames), narrow.detect(frames), strict=True):
            assert torch.equal(mine, theirs)


def test_names_of_parallel_training_are_understood(narrow, tmp_path):
    content = official(narrow)
    content["generator"] = {f"module.{name}": value for name, value in content["generator"].items()}
    torch.save(content, tmp_path / "x.pth.tar")
    assert same(checkpoint.read_official(tmp_path / "x.pth.tar"), narrow)


MGIF = """
dataset_params: {{image_shape: [{size}, {size}, 3]}}
model_params:
  common_params: {{num_kp: 4, num_channels: 3, estimate_jacobian: True}}
  kp_detector_params:
     {{temperature: {temperature}, block_expansion: 8, max_features: 16, scale_factor: 0.25, num_blocks: 2,
      single_jacobian_map: {single}}}
  generator_params:
    block_expansion: 8
    max_features: 32
    num_down_blocks: 2
    num_bottleneck_blocks: 2
    estimate_occlusion_map: True
    dense_motion_params: {{block_expansion: 8, max_features: 32, num_blocks: 2, scale_factor: 0.25}}
  discriminator_params: {{scales: [1], sn: True}}
train_params: {{num_epochs: 100}}
"""


@pytest.mark.parametrize("with_config", [True, False])
def test_the_single_jacobian_map_of_mgif(narrow, tmp_path, with_config):
    single = build(replace(narrow.preset, config=replace(narrow.preset.config, jacobian_maps=1))).eval()
    assert single.kp_detector.jacobian.weight.shape[0] == 4
    torch.save(official(single), tmp_path / "mgif.pth.tar")
    config = tmp_path / "mgif-256.yaml"
    config.write_text(MGIF.format(size=256, temperature=0.1, single=True))
    model = checkpoint.read_official(tmp_path / "mgif.pth.tar", config if with_config else None)
    assert model.preset.config.jacobian_maps == 1
    assert same(model, single)


def test_the_configuration_says_what_shapes_do_not(narrow, tmp_path):
    torch.save(official(narrow), tmp_path / "x.pth.tar")
    config = tmp_path / "x.yaml"
    config.write_text(MGIF.format(size=128, temperature=0.2, single=False))
    model = checkpoint.read_official(tmp_path / "x.pth.tar", config)
    assert (model.preset.config.temperature, model.preset.size) == (0.2, 128)
    assert model.kp_detector.temperature == 0.2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MGIF.format(size=256, temperature=0.1, single=True), "does not belong to .* jacobian_maps = 1"),
        (MGIF.format(size=100, temperature=0.1, single=False), "cannot be built"),
        ("hello", "expected the official YAML"),
        ("a: [1", "not a YAML file"),
        ("!!python/object/apply:os.system ['touch executed']", "not a YAML file"),
        ("model_params: {common_params: {num_kp: 10}}", "expected the official YAML"),
    ],
)
def test_wrong_configurations_are_refused(narrow, tmp_path, monkeypatch, text, sentence):
    monkeypatch.chdir(tmp_path)
    torch.save(official(narrow), tmp_path / "x.pth.tar")
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=sentence):
        checkpoint.read_official(tmp_path / "x.pth.tar", tmp_path / "x.yaml")
    assert not (tmp_path / "executed").exists()


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


class SomeObject:
    """Harmless, but not data."""


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before zip"])
def test_code_in_a_checkpoint_is_refused_and_not_run(narrow, tmp_path, zipped):
    target = tmp_path / "executed"
    content = {**official(narrow), "extra": Malicious(target)}
    path = tmp_path / "x.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"holds code or objects \(.*open\).*was not"):
        checkpoint.read_official(path)
    assert not target.exists()
    # The trap works: a careless reader would have sprung it.
    torch.load(path, weights_only=False)
    assert target.exists()


@pytest.mark.parametrize(
    "thing", [SomeObject(), torch.nn.Linear(2, 2), np.float64(1)], ids=["object", "module", "numpy"]
)
def test_objects_in_a_checkpoint_are_refused(narrow, tmp_path, thing):
    torch.save({**official(narrow), "extra": thing}, tmp_path / "x.pth.tar")
    with pytest.raises(CheckpointError, match="holds code or objects"):
        checkpoint.read_official(tmp_path / "x.pth.tar")


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html><title>Google Drive", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a git-lfs pointer"),
        (b"put your checkpoint here\n", "a text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"\0\0\0\x20ftypisom" + bytes(50), "an MP4 video"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive"),
        (b"PK\x03\x04" + bytes(100), "a zip file that broke off"),
        (b"\x1f\x8b\x08" + bytes(50), "a gzip archive"),
        (pickle.dumps({"generator": 1}), "a pickle, but PyTorch did not write it"),
        (b"\x00\x01\x02\x03" * 100, "a binary file of an unknown kind"),
    ],
)
def test_other_files_are_named(tmp_path, content, looks):
    path = tmp_path / "vox-cpk.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_official(path)
    message = str(caught.value)
    assert looks in message and "expected a published first-order-model checkpoint" in message
    assert "\n" not in message
    with pytest.raises(CheckpointError, match="expected weights"):
        checkpoint.load(path)


def _tensors(*names):
    return {name: torch.zeros(1) for name in names}


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (
            {
                "generator": _tensors("appearance_encoder.down_blocks.0.conv.weight"),
                "kp_detector": _tensors("kp.weight"),
                "epoch": 1,
            },
            "a Monkey-Net checkpoint",
        ),
        (
            {
                "generator": _tensors("first.conv.weight"),
                "kp_detector": {},
                "he_estimator": _tensors("fc.weight"),
            },
            "a face-vid2vid checkpoint",
        ),
        (
            {
                "inpainting_network": _tensors("first.conv.weight"),
                "kp_detector": _tensors("fg_encoder.conv1.weight"),
            },
            "a Thin-Plate-Spline Motion Model checkpoint",
        ),
        (
            {"generator": _tensors("first.conv.weight"), "region_predictor": _tensors("regions.weight")},
            "an Articulated Animation (MRAA) checkpoint",
        ),
        (_tensors("first.conv.weight", "resblocks_3d.3dr0.conv1.weight"), "a LivePortrait checkpoint"),
        ({"retarget_shoulder": _tensors("module.mlp.0.weight")}, "a LivePortrait checkpoint"),
        (_tensors("conv1.weight", "fc.weight"), "the weights of some other network (2 entries: conv1.weight"),
        ({}, "an empty state dict"),
        ({"generator": {0: torch.zeros(1)}, "kp_detector": {}}, "has no tensors called 'generator'"),
        ({"generator": _tensors("first.conv.weight")}, "has no tensors called 'kp_detector'"),
        (
            {"generator": _tensors("first.conv.weight"), "kp_detector": _tensors("kp.weight")},
            "resembles a first-order model",
        ),
    ],
)
def test_other_models_are_named(tmp_path, content, looks):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_official(tmp_path / "x.pth")
    assert looks in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before zip"])
def test_a_download_that_broke_off_is_refused(narrow, tmp_path, zipped):
    path = tmp_path / "x.pth.tar"
    torch.save(official(narrow), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for share in (0.02, 0.1, 0.5, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError, match=r"broke off|damaged"):
            checkpoint.read_official(path)


def test_missing_files_and_other_things_of_ours(tiny_bundle, tmp_path):
    with pytest.raises(CheckpointError, match="There is no file"):
        checkpoint.read_official(tmp_path / "nothing.pth.tar")
    with pytest.raises(CheckpointError, match="a safetensors file; expected"):
        checkpoint.read_official(tiny_bundle / "weights.safetensors")
    with pytest.raises(CheckpointError, match="a folder with an exported bundle"):
        checkpoint.load(tiny_bundle / "bundle")
    with pytest.raises(CheckpointError, match="an ONNX graph"):
        checkpoint.load(tiny_bundle / "bundle" / "render.onnx")


# --- the command ---


def test_import_command(narrow, tmp_path):
    torch.save(official(narrow), tmp_path / "x.pth.tar")
    output = tmp_path / "x.safetensors"
    result = CliRunner().invoke(import_checkpoint, [str(tmp_path / "x.pth.tar"), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "4 keypoints, 256 x 256" in result.output
    assert same(checkpoint.load(output), narrow)
    assert checkpoint.read_metadata(output)["imported_from"] == "x.pth.tar"


def test_import_command_says_one_sentence(livepuppet, tmp_path):
    (tmp_path / "x.pth.tar").write_text("<html>")
    done = livepuppet("import", tmp_path / "x.pth.tar", "--output", tmp_path / "x.safetensors")
    assert done.returncode == 2
    assert done.stderr.startswith("livepuppet: ") and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["x.pth.tar"]


def test_import_command_refuses_other_outputs(narrow, tmp_path):
    torch.save(official(narrow), tmp_path / "x.pth.tar")
    (tmp_path / "file").write_text("")
    for output, sentence in (
        (tmp_path / "x.onnx", "safetensors"),
        (tmp_path / "file" / "x.safetensors", "written"),
    ):
        result = CliRunner().invoke(import_checkpoint, [str(tmp_path / "x.pth.tar"), "--output", str(output)])
        assert result.exit_code == 1 and sentence in result.output


# --- the whole way ---


@pytest.fixture(scope="module")
def published(shared, tmp_path_factory):
    """The parity set's weights, made into an official checkpoint and imported with the command."""
    folder = tmp_path_factory.mktemp("published")
    parity = shared / "parity"
    spec = importlib.util.spec_from_file_location("make_weights", parity / "make_weights.py")
    make_weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_weights)
    make_weights.main([str(parity / "vox-256.layout.json"), "--pth", str(folder / "vox.pth.tar")])
    output = folder / "vox.safetensors"
    result = CliRunner().invoke(import_checkpoint, [str(folder / "vox.pth.tar"), "--output", str(output)])
    assert result.exit_code == 0, result.output
    (folder / "vox.pth.tar").unlink()
    assert json.loads(checkpoint.read_metadata(output)["preset"])["name"] == "fomm-256"
    return output


@pytest.mark.parametrize(
    ("options", "mode"), [([], "r1a1"), (["--no-adapt-scale"], "r1a0"), (["--absolute"], "r0a0")]
)
def test_an_imported_checkpoint_animates_as_published(shared, published, tmp_path, options, mode):
    import cv2

    from livepuppet.realtime.app.commands.animate import animate_command

    parity = shared / "parity"
    driving = tmp_path / "driving"
    driving.mkdir()
    for index, name in enumerate(("driving_initial", "driving")):
        (driving / f"{index}.png").write_bytes((parity / f"{name}.png").read_bytes())
    arguments = [
        "--avatar",
        parity / "source.png",
        "--driving",
        driving,
        "--output",
        tmp_path / "out",
        "--avatar-crop",
        "center",
    ]
    arguments += ["--engine", "torch", "--model", published, *options]
    result = CliRunner().invoke(animate_command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    images = sorted((tmp_path / "out").glob("*.png"))
    assert len(images) == 2
    drawn = cv2.imread(str(images[1]))[..., ::-1].astype(int)
    golden = np.load(parity / "golden_vox-256.npz")[f"prediction_{mode}_u8"]
    assert np.abs(drawn - golden).max() <= 1
