"""The papers' perceptual loss on VGG-19's features, and a substitute without its weights.

VGG-19's weights are not ours to ship. They are read from torchvision's file, as data, if the user
names it, has it in torch's cache, or asks for the download. The network is written here because
torchvision is pinned to one release of torch (and with it every extra that needs torch), and builds
143 million weights of which 13 million are used; a test compares the features with a copy of
torchvision's layers.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livepuppet.core.errors import LivePuppetError
from livepuppet.model.blocks import AntiAlias
from livepuppet.train.losses.reconstruction import gradient_loss, pyramid_l1, ssim_loss

#: torchvision's file of VGG-19 (Simonyan and Zisserman, 2014) trained on ImageNet; its name carries
#: its hash.
VGG_FILE = "vgg19-dcbf9e9d.pth"
VGG_URL = f"https://download.pytorch.org/models/{VGG_FILE}"

#: Width of VGG-19's convolutions, stage by stage, up to the last one that is used; stages are
#: pooled in between.
STAGES = ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512,))

#: Mean and deviation of ImageNet's images, RGB, with which VGG-19 was trained.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PerceptualError(LivePuppetError, ValueError):
    """VGG-19's weights cannot be had; the message is one sentence that says what to do."""


class VGG19(nn.Module):
    """VGG-19 up to relu5_1. Ours, not torchvision's: thirteen convolutions, against a dependency
    that holds PyTorch to one version; and it stops at the last layer used. Parameters are named as
    in torchvision's `vgg19().features`, and are never trained.

    Args:
        divisor: widths are divided by this whole number; 1 is the network itself.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, divisor: int = 1):
        super().__init__()
        widths = [3] + [width // divisor for stage in STAGES for width in stage]
        convolutions = [nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)]
        self.features = nn.ModuleDict(dict(zip(_places(), convolutions, strict=True)))
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def random(cls, seed: int, divisor: int = 1) -> VGG19:
        """The untrained network with orthogonal weights, which keep a signal's size from layer to
        layer.
        """
        network = cls(divisor)
        rng = torch.Generator().manual_seed(seed)
        for convolution in network.features.values():
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            nn.init.orthogonal_(convolution.weight, gain=math.sqrt(2), generator=rng)
            nn.init.zeros_(convolution.bias)
        return network

    def forward(self, image: Tensor) -> list[Tensor]:
        """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of images (B, 3, H, W), RGB in [0, 1].

        Fewer where a small image has nothing left to pool.
        """
        x = (image - self.mean) / self.deviation
        convolutions = iter(self.features.values())
        found = []
        for number, stage in enumerate(STAGES):
            if number:
                if min(x.shape[2:]) < 2:
                    break
                x = F.max_pool2d(x, 2)
            for layer in range(len(stage)):
                x = F.relu(next(convolutions)(x))
                if layer == 0:
                    found.append(x)
        return found


def _places() -> list[str]:
    """Where torchvision's `features` keeps the convolutions: it counts ReLUs and pools too."""
    places, place = [], 0
    for stage in STAGES:
        for _ in stage:
            places.append(str(place))
            place += 2
        place += 1
    return places


def read_vgg(path: Path) -> VGG19:
    """VGG-19 with the weights of torchvision's file, read as data.

    Raises:
        PerceptualError: there is no such file, or something else is in it.
    """
    hint = f"give --vgg the file {VGG_FILE} of torchvision"
    if not path.is_file():
        raise PerceptualError(f"There is no file {path}: {hint}, or use --download-vgg.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise PerceptualError(
            f"{path} cannot be read as weights ({type(error).__name__}): {hint}."
        ) from error
    network = VGG19()
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if not isinstance(state, dict):
        raise PerceptualError(f"{path} holds no table of weights: {hint}.")
    for name, shape in wanted.items():
        value = state.get(name)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            has = tuple(value.shape) if isinstance(value, Tensor) else "nothing"
            raise PerceptualError(
                f"{path} is not VGG-19: '{name}' should be {shape} and is {has}; {hint} (not vgg19_bn)."
            )
        if not torch.isfinite(value).all():
            raise PerceptualError(f"{path} holds numbers that are not finite in '{name}': {hint}.")
    network.load_state_dict({name: state[name].float() for name in wanted})
    return network


def cached_vgg() -> Path | None:
    """torchvision's file in torch's own cache, where an earlier download left it; None if it is not
    there.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / VGG_FILE
    return path if path.is_file() else None


def download_vgg() -> Path:
    """Fetch torchvision's file (548 MB) into torch's cache, check its hash, and say where it is.

    Only on the user's word: nothing else here reaches for the network.

    Raises:
        PerceptualError: it cannot be fetched, or what came is not the file.
    """
    if (path := cached_vgg()) is not None:
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / VGG_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed only when its hash is right.
        torch.hub.download_url_to_file(VGG_URL, str(path), hash_prefix=VGG_FILE.split("-")[1].split(".")[0])
    except (OSError, RuntimeError, ValueError) as error:
        raise PerceptualError(
            f"VGG-19's weights could not be fetched from {VGG_URL} ({error}): "
            "fetch that file in another way and give it with --vgg, or train without it."
        ) from error
    return path


class FeatureLoss(nn.Module):
    """The papers' loss (FOMM, section 3.4): L1 between a network's features, over a pyramid of
    images.

    Args:
        network: gives a list of feature maps for images (B, 3, H, W), RGB in [0, 1].
        description: what the log calls it.
        weights: one per feature map.
    """

    def __init__(
        self, network: nn.Module, description: str, weights: Sequence[float] = (10.0,) * len(STAGES)
    ):
        super().__init__()
        self.network, self.description, self.weights = network.eval(), description, tuple(weights)
        # The pyramid of the published training: one Gaussian blur per level, straight from the full
        # image.
        self.pyramid = nn.ModuleList(AntiAlias(3, 2**level) for level in range(4))

    def forward(self, prediction: Tensor, target: Tensor, levels: int = 4) -> dict[str, Tensor]:
        """Weighted parts; `levels` 1 is the loss at full resolution alone, 4 adds 1/2, 1/4, 1/8."""
        total = prediction.new_zeros(())
        for resize in self.pyramid[:levels]:
            with torch.no_grad():
                wanted = self.network(resize(target))
            drawn = self.network(resize(prediction))
            for weight, a, b in zip(self.weights, drawn, wanted, strict=False):
                if weight:
                    total = total + weight * (a - b).abs().mean()
        return {"perceptual": total}


class PyramidLoss(nn.Module):
    """Substitute for VGG-19's features: L1, gradients and SSIM over a pyramid.

    Chosen with `livepuppet bench losses` on moving shapes: at equal steps it draws unseen clips
    better than L1 alone and than features of an untrained VGG-19, which cost more; keypoints land
    equally well with all three.

    Args:
        colours: weight of L1 over an average-pooling pyramid.
        edges: weight of L1 between horizontal and vertical differences over a pyramid.
        structure: weight of 1 - SSIM at full resolution.
    """

    def __init__(self, colours: float = 10.0, edges: float = 5.0, structure: float = 1.0):
        super().__init__()
        self.colours, self.edges, self.structure = colours, edges, structure
        named = [
            name for weight, name in ((colours, "L1"), (edges, "gradients"), (structure, "SSIM")) if weight
        ]
        listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        self.description = f"none of VGG's weights; pyramid of {listed} instead"

    def forward(self, prediction: Tensor, target: Tensor, levels: int = 4) -> dict[str, Tensor]:
        """Weighted parts; `levels` 1 is the loss at full resolution alone."""
        parts = {}
        if self.colours:
            parts["pyramid"] = self.colours * pyramid_l1(prediction, target, levels)
        if self.edges:
            parts["gradients"] = self.edges * gradient_loss(prediction, target, min(levels, 3))
        if self.structure:
            parts["ssim"] = self.structure * ssim_loss(prediction, target)
        return parts


def choose(
    path: Path | None = None, download: bool = False, weights: Sequence[float] = (10.0,) * len(STAGES)
) -> FeatureLoss | PyramidLoss:
    """The perceptual loss there is: the papers' where VGG-19's weights are to be had, else the
    substitute.

    Args:
        path: torchvision's file; if None, torch's cache is looked at.
        download: fetch the file into torch's cache if it is not there.
        weights: of the five feature maps.

    Returns:
        a module `loss(prediction, target, levels) -> dict[str, Tensor]` of weighted parts, whose
        attribute `description` is for the log, after "perceptual loss: ".

    Raises:
        PerceptualError: the file cannot be fetched or read.
    """
    if path is None:
        path = download_vgg() if download else cached_vgg()
    if path is None:
        return PyramidLoss()
    return FeatureLoss(read_vgg(path), f"features of VGG-19 ({path})", weights)
