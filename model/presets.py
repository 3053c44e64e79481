"""Presets: named network configurations, and building a network from one."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from livepuppet.core.matrices import Matrices
from livepuppet.model.aliases import rename_settings
from livepuppet.model.base import Model
from livepuppet.model.fomm import FommConfig
from livepuppet.model.lite import LANDMARKS, LiteConfig
from livepuppet.model.monkeynet import MonkeyNetConfig

#: Kind of network -> its config, and "module:class" of the network, which takes that config.
KINDS: dict[str, tuple[type, str]] = {
    "fomm": (FommConfig, "livepuppet.model.fomm:FOMM"),
    "lite": (LiteConfig, "livepuppet.model.lite:LitePuppet"),
    "monkeynet": (MonkeyNetConfig, "livepuppet.model.monkeynet:MonkeyNet"),
}


@dataclass(frozen=True)
class Preset:
    """What is needed to build a model, and what its callers need to know.

    Attributes:
        name: of the preset.
        size: side S of the square images, in pixels.
        num_keypoints: K.
        config: a frozen dataclass of plain values, of one of the types in `KINDS`.
        keypoint_names: K names where keypoints are landmarks, else empty.
    """

    name: str
    size: int
    num_keypoints: int
    config: Any
    keypoint_names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.keypoint_names and len(self.keypoint_names) != self.num_keypoints:
            raise ValueError(f"{len(self.keypoint_names)} names for {self.num_keypoints} keypoints")

    @property
    def kind(self) -> str:
        """Which of `KINDS` the config belongs to."""
        for kind, (config_type, _) in KINDS.items():
            if type(self.config) is config_type:
                return kind
        raise ValueError(f"no network takes a config of type {type(self.config).__name__}")

    @property
    def matrices(self) -> Matrices:
        """What the 2x2 matrices beside the points are: "jacobian" (FOMM), or "covariance" of
        heat-maps (Monkey-Net).
        """
        return "covariance" if self.kind == "monkeynet" else "jacobian"

    def to_json(self) -> str:
        """One line of JSON, from which `from_json` makes an equal preset."""
        return json.dumps({"kind": self.kind, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Preset:
        """The preset written by `to_json`.

        Raises:
            ValueError: the text is not a preset of this version of livepuppet.
        """
        try:
            values = json.loads(text)
            kind = values.pop("kind")
            config_type = KINDS[kind][0]
            known = {field.name for field in fields(config_type)}
            # JSON has lists only; the dataclasses hold tuples, so that they can be compared and
            # hashed.
            settings = rename_settings(kind, values.pop("config"))
            config = {name: _tuples(value) for name, value in settings.items()}
            if unknown := set(config) - known:
                raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
            check_sizes(config_type, config)
            check_sizes(cls, values)
            return cls(
                config=config_type(**config), **{name: _tuples(value) for name, value in values.items()}
            )
        except (
            *(KeyError, TypeError, AttributeError, ValueError),
            *(ZeroDivisionError, OverflowError, RecursionError),
        ) as error:
            raise ValueError(f"not a model preset that this version of livepuppet knows: {error}") from error


def _named(name: str, config, keypoint_names: tuple[str, ...] = ()) -> Preset:
    return Preset(name, config.size, config.num_keypoints, config, keypoint_names)


FOMM_64 = FommConfig(
    size=64,
    num_keypoints=4,
    detector_expansion=8,
    detector_maximum=64,
    detector_blocks=4,
    detector_reduction=1,
    detector_padding=3,
    jacobian_maps=4,
    motion_expansion=8,
    motion_maximum=64,
    motion_blocks=3,
    motion_reduction=1,
    generator_expansion=16,
    generator_maximum=64,
    # Features at 32 x 32: at a quarter of the size, as in the large one, a shape would be two of
    # them wide.
    generator_down_blocks=1,
    generator_residual_blocks=3,
)
FOMM_128 = FommConfig(
    size=128,
    num_keypoints=10,
    detector_expansion=32,
    detector_maximum=512,
    detector_blocks=5,
    detector_reduction=2,
    detector_padding=3,
    # One map of matrices for all keypoints, as published for moving GIFs.
    jacobian_maps=1,
    motion_expansion=32,
    motion_maximum=512,
    motion_blocks=4,
    motion_reduction=2,
    generator_expansion=32,
    generator_maximum=128,
    generator_residual_blocks=4,
)
MONKEYNET_64 = MonkeyNetConfig(
    size=64,
    num_keypoints=4,
    detector_expansion=8,
    detector_maximum=64,
    detector_blocks=4,
    detector_reduction=1,
    motion_expansion=8,
    motion_maximum=64,
    motion_blocks=3,
    motion_reduction=1,
    generator_expansion=16,
    generator_maximum=128,
    generator_blocks=4,
    refinement_blocks=2,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        # The paper's network, as in the published `vox-256` and `vox-adv-256`.
        _named("fomm-256", FommConfig()),
        # The default: the same mathematics at a tenth of the cost.
        _named(
            "lite-256",
            LiteConfig(head_channels=64, mask_prior=True, non_rigid_threshold=0.02),
            tuple(LANDMARKS),
        ),
        # Small FOMMs for images of 64 and 128 pixels, as wide as the Monkey-Nets of that size for
        # comparison.
        _named("fomm-64", FOMM_64),
        _named("fomm-128", FOMM_128),
        # The zeroth-order ancestor: small for moving shapes, and as published for moving GIFs.
        _named("monkeynet-64", MONKEYNET_64),
        _named("monkeynet-128", MonkeyNetConfig()),
    )
}


#: Largest whole number in a preset's config, and of layers: what is larger is damage, and would be built for
#: hours.
LARGEST, MOST_BLOCKS = 1024, 16


def check_sizes(kind: type, values: dict[str, Any]) -> None:
    """Raises ValueError where a value from a file is not of the type that a config's field has, or
    too large for any model.
    """
    kinds = {field.name: str(field.type) for field in fields(kind)}
    for name, value in values.items():
        declared = kinds.get(name, "")
        most = MOST_BLOCKS if name.endswith("_blocks") else LARGEST
        parts = value if isinstance(value, (list, tuple)) else [value]
        if declared.startswith("tuple") != isinstance(value, (list, tuple)) or len(parts) > LARGEST:
            raise ValueError(f"{name} has to be {declared}")
        if "int" in declared and not parts:
            raise ValueError(f"{name} is empty")
        for part in parts:
            if "int" in declared and (type(part) is not int or not 0 <= part <= most):
                raise ValueError(f"{name} has to be whole numbers from 0 to {most}")
            if declared == "float" and (
                isinstance(part, bool) or not isinstance(part, (int, float)) or not math.isfinite(part)
            ):
                raise ValueError(f"{name} has to be a number")
            if declared == "bool" and not isinstance(part, bool):
                raise ValueError(f"{name} has to be true or false")
            if "str" in declared and not isinstance(part, str):
                raise ValueError(f"{name} has to be text")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def build(preset: Preset | str) -> Model:
    """A freshly initialised model, in training mode, with its `preset` attribute set.

    Raises:
        ValueError: no preset has that name.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise ValueError(f"no preset is called '{preset}'; there are {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    module, name = KINDS[preset.kind][1].split(":")
    model = getattr(importlib.import_module(module), name)(preset.config)
    model.preset = preset
    return model
