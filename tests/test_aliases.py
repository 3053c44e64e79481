"""Weights, bundles and predictors of before a renaming still load."""

import json
from dataclasses import fields

import torch
from safetensors.torch import load_file, save_file

from livepuppet.model import aliases, checkpoint
from livepuppet.model.file_types import read_safetensors_header
from livepuppet.model.lite import LANDMARKS, LiteConfig
from livepuppet.model.prediction import (
    MotionPredictor,
    PredictorConfig,
    load_predictor,
    save_predictor,
)
from livepuppet.model.presets import KINDS, PRESETS, Preset, build
from livepuppet.realtime import bundled

WEIGHTS = bundled.MODEL / f"{bundled.MODEL.name}.safetensors"


def test_every_alias_leads_to_a_name_of_today():
    for kind, names in aliases.SETTINGS.items():
        now = {field.name for field in fields(KINDS[kind][0])}
        assert set(names.values()) <= now and not set(names) & now
    tensors = build("lite-256").state_dict()
    assert all(any(name.startswith(now) for name in tensors) for now in aliases.TENSORS["lite"].values())


def test_the_shipped_weights_load_whatever_their_names():
    stored = load_file(WEIGHTS)
    model = checkpoint.load(WEIGHTS)
    assert model.preset.config == PRESETS["lite-256"].config
    loaded, renamed = model.state_dict(), aliases.rename_tensors("lite", stored)
    assert loaded.keys() == renamed.keys()
    assert all(torch.equal(loaded[name], value.float()) for name, value in renamed.items())


def test_the_shipped_bundle_carries_a_preset_that_is_known():
    preset = json.loads((bundled.MODEL / "bundle.json").read_text())["preset"]
    assert Preset.from_json(json.dumps(preset)) == PRESETS["lite-256"]


def test_a_model_with_names_of_before_loads_like_one_of_today(tmp_path):
    torch.manual_seed(0)
    config = LiteConfig(size=64, detector_channels=(8,) * 5, motion_channels=(8, 8), head_channels=8)
    config = LiteConfig(**{**vars(config), "mask_prior": True, "non_rigid_threshold": 0.1})
    model = build(Preset("small", 64, len(LANDMARKS), config, LANDMARKS))
    checkpoint.save(model, tmp_path / "now.safetensors")
    metadata = checkpoint.read_metadata(tmp_path / "now.safetensors")
    tensors = load_file(tmp_path / "now.safetensors")
    for before, now in aliases.SETTINGS["lite"].items():
        metadata["preset"] = metadata["preset"].replace(f'"{now}"', f'"{before}"')
    for before, now in aliases.TENSORS["lite"].items():
        tensors = {name.replace(now, before): value for name, value in tensors.items()}
    assert "motion.homes.strength" in tensors and "close_window" in metadata["preset"]
    save_file(tensors, tmp_path / "before.safetensors", metadata)
    loaded = checkpoint.load(tmp_path / "before.safetensors")
    assert loaded.preset == model.preset
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_predictor_with_names_of_before_loads(tmp_path):
    predictor = MotionPredictor(PredictorConfig(2, 4, 8))
    predictor.mean_offset.fill_(0.5)
    save_predictor(predictor, tmp_path / "now.safetensors", model="tiny")
    metadata = read_safetensors_header(tmp_path / "now.safetensors").metadata
    tensors = load_file(tmp_path / "now.safetensors")
    tensors["mean_way"], tensors["mean_place"] = tensors.pop("mean_offset"), tensors.pop("mean_position")
    save_file(tensors, tmp_path / "before.safetensors", metadata)
    assert load_predictor(tmp_path / "before.safetensors").mean_offset.min() == 0.5
