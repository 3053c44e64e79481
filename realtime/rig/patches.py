"""What a rig draws per frame: small pictures that are laid over the avatar's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Patch:
    """A piece of picture over the avatar's own pixels, at whole pixels, so that nothing is sampled to lay it there.

    Attributes:
        rgb: uint8 (h, w, 3).
        alpha: uint8 (h, w), 0 where the avatar stays as it is; None where all of the patch counts.
        left, top: the avatar's pixel under the patch's first one. All of the patch lies inside the picture.

    The arrays are the rig's own buffers: the next `draw` fills them anew, and gives another patch. The same patch is the same
    picture.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    left: int
    top: int

    @property
    def matrix(self) -> np.ndarray:
        """The affine map from the patch's pixels to the avatar's, float32 (2, 3)."""
        return np.array([[1, 0, self.left], [0, 1, self.top]], np.float32)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the avatar under it."""
        height, width = self.rgb.shape[:2]
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def paste(canvas: np.ndarray, patches: Sequence[Patch]) -> np.ndarray:
    """Lay patches over `canvas` uint8 RGB (H, W, 3), in place, in their order. Returns it."""
    for patch in patches:
        under = canvas[patch.place]
        if patch.alpha is None:
            under[...] = patch.rgb
        else:
            # Exact at both ends: alpha 0 keeps, alpha 255 replaces.
            alpha = patch.alpha[..., None].astype(np.uint16)
            mixed = under * (255 - alpha) + patch.rgb * alpha + 127
            under[...] = (mixed // 255).astype(np.uint8)
    return canvas


def lay_over(out: np.ndarray, layer: np.ndarray) -> None:
    """Lay `layer` uint8 RGBA (h, w, 4), premultiplied, over `out` uint8 RGB (h, w, 3), in place."""
    clear = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(layer, 3)), cv2.COLOR_GRAY2RGB)
    cv2.multiply(out, clear, dst=out, scale=1 / 255)
    cv2.add(out, cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB), dst=out)


def mix_in(out: np.ndarray, other: np.ndarray, share: np.ndarray) -> None:
    """Go `share` float32 (h, w) of the way to `other` uint8 RGB (h, w, 3) in `out`, of the same shape, in place."""
    cv2.blendLinear(other, out, share, 1 - share, dst=out)
