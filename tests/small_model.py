"""A lite network in small: every part there, a training step in milliseconds."""

import torch

from livepuppet.model.lite import LANDMARKS, LiteConfig, LitePuppet
from livepuppet.model.presets import Preset

SIZE = 64


def small_model() -> LitePuppet:
    torch.manual_seed(0)
    config = LiteConfig(
        size=SIZE,
        detector_channels=(8, 8, 16, 16, 16),
        motion_channels=(8, 16),
        generator_channels=(16, 16),
        generator_blocks=(1, 1),
        head_channels=8,
        mask_prior=True,
        non_rigid_threshold=0.1,
    )
    model = LitePuppet(config)
    model.preset = Preset("small", SIZE, len(LANDMARKS), config, LANDMARKS)
    return model
