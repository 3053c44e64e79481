"""The patch discriminator of both papers (after Isola et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from livepuppet.model.blocks import channels

#: Side of the convolutions' kernels.
KERNEL = 4


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of a discriminator. The defaults are FOMM's; Monkey-Net's is `monkeynet`.

    Attributes:
        expansion, maximum: block i is min(maximum, expansion 2^(i+1)) wide.
        blocks: how many.
        spectral_norm: convolutions are divided by their largest singular value (Miyato et al.,
            2018).
        heatmaps: channels of keypoint heat-maps that are seen beside the image; 0 for none.
        variance: of those heat-maps where they have no covariances of their own, in squared units
            of [-1, 1].
        padded: images are padded by repeating their edge, so that blocks halve them exactly.
        pool_last: the last block pools like the others.
        image_first: the image itself is the first of the feature maps, so that a feature-matching
            loss has a term in colours.
    """

    expansion: int = 32
    maximum: int = 512
    blocks: int = 4
    spectral_norm: bool = False
    heatmaps: int = 0
    variance: float = 0.01
    padded: bool = False
    pool_last: bool = False
    image_first: bool = False

    @classmethod
    def monkeynet(cls, **changes) -> DiscriminatorConfig:
        """Monkey-Net's: edges repeated, pooled after every block, the image as the first feature
        map.
        """
        return cls(**{"padded": True, "pool_last": True, "image_first": True} | changes)

    def side(self, size: int) -> int:
        """Side of the prediction map for images of `size`.

        Raises:
            ValueError: images are smaller than the last block's receptive field.
        """
        side = size
        for block in range(self.blocks):
            side -= 0 if self.padded else KERNEL - 1
            # Instance norm divides by the deviation over the map: of one pixel there is none.
            if side < (2 if block else 1):
                raise ValueError(
                    f"a discriminator of {self.blocks} blocks does not fit on images of {size} pixels: "
                    f"give it fewer blocks, or larger images."
                )
            if self.pool_last or block < self.blocks - 1:
                side //= 2
        if side < 1:
            raise ValueError(
                f"a discriminator of {self.blocks} blocks does not fit on images of {size} pixels: "
                f"give it fewer blocks, or larger images."
            )
        return side


class Block(nn.Module):
    """4x4 convolution, instance norm, leaky ReLU, 2x2 average pooling."""

    def __init__(self, in_channels: int, out_channels: int, norm: bool, pool: bool, padded: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, KERNEL)
        self.norm = nn.InstanceNorm2d(out_channels, affine=True) if norm else None
        self.pool, self.padded = pool, padded

    def forward(self, x: Tensor) -> Tensor:
        if self.padded:
            # An even kernel has no centre: one pixel more before than after.
            before, after = KERNEL // 2, KERNEL // 2 - 1
            x = F.pad(x, (before, after, before, after), mode="replicate")
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        x = F.leaky_relu(x, 0.2)
        return F.avg_pool2d(x, 2) if self.pool else x


class Discriminator(nn.Module):
    """Tells generated images from real ones, patch by patch.

    Args:
        config: its shape.
    """

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig()):
        super().__init__()
        self.config = config
        widths = [3 + config.heatmaps] + [
            channels(config.expansion, config.maximum, block + 1) for block in range(config.blocks)
        ]
        last = config.blocks - 1
        self.blocks = nn.ModuleList(
            Block(before, after, block != 0, config.pool_last or block != last, config.padded)
            for block, (before, after) in enumerate(pairwise(widths))
        )
        self.head = nn.Conv2d(widths[-1], 1, 1)
        if config.spectral_norm:
            for convolution in [*(block.conv for block in self.blocks), self.head]:
                spectral_norm(convolution)

    def forward(self, image: Tensor, heatmaps: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Judge images (B, 3, H, W), RGB in [0, 1].

        Args:
            image: the images.
            heatmaps: (B, C, H, W) of the keypoints, where the config has C of them.

        Returns:
            the feature maps of the blocks, fine to coarse (the image before them with
            `image_first`), and the prediction map (B, 1, h, w), unbounded: 1 is real, 0 is
            generated (LSGAN; Mao et al., 2017).

        Raises:
            ValueError: heat-maps are missing, are too many, or the image is too small.
        """
        given = 0 if heatmaps is None else heatmaps.shape[1]
        if given != self.config.heatmaps:
            raise ValueError(f"the discriminator sees {self.config.heatmaps} heat-maps, {given} were given")
        self.config.side(min(image.shape[2:]))
        maps = [image] if self.config.image_first else []
        x = image if heatmaps is None else torch.cat([image, heatmaps.to(image.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps, self.head(x)
