"""Figure, head and body of an avatar by the matting network (`model.matting`), once per picture.

The network sees a square of 256 pixels about the face; its mattes are fitted to the picture's own edges.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.cache import remember, remembered
from livepuppet.realtime.rig.close_ups import cut_crop

#: Of the network's weights and of how it is asked. Another one forgets what was remembered.
WEIGHTS = 4

#: Side of what the network sees, in pixels; the most that it covers, in eye distances, and where the middle between the irises
#: then lies in it.
SIDE, REACH, EYES_AT = 256, 10.0, 0.42

#: Width of the bell that says where the face is, in eye distances; as in training.
FACE_WIDTH = 0.8

#: A matte is sure of itself where few pixels are neither figure nor background: their share of the figure's outline, in pixels
#: of the network's picture; and where the figure holds this much of the face, and the head: landmarks of the jaw are read on the
#: neck at times. A background that is no more than this share of the picture is left in shreds by who fills it.
UNSURE, HOLDS_FACE, HEAD_HOLDS_FACE, SHREDS = 5.0, 0.9, 0.8, 0.12


@dataclass(frozen=True, eq=False)
class Portrait:
    """What the network sees in a picture.

    Attributes:
        alpha: uint8 (S, S, 3): figure; head with hair and hat; body as it goes on behind the head.
        depth: float32 (S, S), the figure's towards the viewer from the plane of the eyes, in eye distances.
        affine: float64 (2, 3), from pixels of the picture to pixels of these.
        inside: bool (S, S), what lies within the picture.
    """

    alpha: np.ndarray
    depth: np.ndarray
    affine: np.ndarray
    inside: np.ndarray

    @property
    def sure(self) -> bool:
        """Whether the figure stands out."""
        figure = self.alpha[..., 0]
        cut = (figure > 127).astype(np.uint8)
        outline = int(((cut > 0) & (cv2.erode(cut, np.ones((3, 3), np.uint8)) == 0) & self.inside).sum())
        vague = int(((figure > 40) & (figure < 215) & self.inside).sum())
        share = float(cut[self.inside].mean())
        return bool(0 < share < 1 - SHREDS and vague < UNSURE * max(outline, 1))

    def holds(self, landmarks: np.ndarray) -> bool:
        """Whether most of the `landmarks` (K, 2), in pixels of the picture, are the figure's and the head's."""
        places = landmarks @ self.affine[:, :2].T + self.affine[:, 2]
        x, y = np.clip(np.rint(places), 0, SIDE - 1).astype(int).T
        figure, head = (self.alpha[y, x, :2] > 127).mean(0)
        return bool(figure >= HOLDS_FACE and head >= HEAD_HOLDS_FACE)

    def on(self, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Values (S, S[, C]) of the square on the picture of `shape` (H, W), smoothly; beyond it as at its edge."""
        return cv2.warpAffine(
            values,
            self.affine,
            shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def shows(self, shape: tuple[int, int]) -> np.ndarray:
        """How far each pixel of a picture of `shape` (H, W) lies within the square: 1 there, 0 beyond, float32, soft at its edge."""
        near = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]).astype(np.float32) / (SIDE / 16)
        weight = np.minimum(1, np.minimum(near[:, None], near[None]))
        return cv2.warpAffine(
            weight, self.affine, shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(0,)
        )


@functools.cache
def _session(path: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What it takes while it looks is given back at once.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def close_matting() -> None:
    """Close the network until it is needed again, which takes .1 s: kept open it takes 50 MB."""
    _session.cache_clear()


def default_matting() -> Path:
    """The network that comes with livepuppet."""
    return Path(__file__).parent.parent / "data" / "rig" / "matting.onnx"


def find_portrait(picture: np.ndarray, centre: np.ndarray, unit: float, reach: float = REACH) -> Portrait:
    """Look at the figure whose face is at `centre` (2,), the middle between the irises, with eye distance `unit`, in pixels.

    Args:
        picture: uint8 RGB (H, W, 3).
        reach: the most that is looked at, in eye distances.
    """
    height, width = picture.shape[:2]
    side = float(max(height, width))
    corner = np.array([(width - side) / 2, (height - side) / 2])
    if side > reach * unit:
        side = reach * unit
        for axis, (length, at) in enumerate(((width, 0.5), (height, EYES_AT))):
            low, high = sorted((0.0, length - side))
            corner[axis] = (
                (length - side) / 2 if length < side else min(max(centre[axis] - at * side, low), high)
            )
    half = side / 2
    to_picture = np.array([[half, 0, corner[0] + half - 0.5], [0, half, corner[1] + half - 0.5]])
    scale = (SIDE - 1) / side
    shift = (SIDE - 1) / 2 - scale * to_picture[:, 2]
    affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    seen = cut_crop(picture, to_picture, SIDE)
    line = np.arange(SIDE)
    x, y = (line - affine[0, 2]) / scale, (line - affine[1, 2]) / scale
    inside = ((y > -0.5) & (y < height - 0.5))[:, None] & ((x > -0.5) & (x < width - 0.5))[None]
    bell = np.exp(
        -(np.square(x - centre[0])[None] + np.square(y - centre[1])[:, None]) / (2 * (FACE_WIDTH * unit) ** 2)
    )

    def levels() -> np.ndarray:
        colours = np.where(inside[..., None], seen.astype(np.float32) / 255, np.float32(0.5))
        return _levels(np.dstack([colours, bell, inside]).astype(np.float32).transpose(2, 0, 1)[None])

    values = _kept(seen, [float(value) for value in (*centre, unit, reach)], levels)
    alpha = np.ascontiguousarray(values[..., :3])
    alpha[~inside] = 0
    return Portrait(alpha, (values[..., 3].astype(np.float32) / 255 - 0.5) * 8, affine, inside)


def _kept(seen: np.ndarray, face: list[float], levels: Callable[[], np.ndarray]) -> np.ndarray:
    """`levels`, uint8 (S, S, 4), remembered by what is `seen` and where its `face` is."""
    key = {"weights": WEIGHTS, "picture": hashlib.sha256(seen.tobytes()).hexdigest(), "face": face}
    try:
        kept = zlib.decompress(base64.b64decode(remembered("portraits", key)))
        return np.frombuffer(kept, np.uint8).reshape(SIDE, SIDE, 4)
    except (KeyError, TypeError, ValueError, zlib.error):
        values = levels()
        remember("portraits", key, base64.b64encode(zlib.compress(values.tobytes(), 6)).decode())
        return values


def _levels(square: np.ndarray) -> np.ndarray:
    """What the network is shown, float32 (1, 5, S, S), in its mattes and depth, in levels: uint8 (S, S, 4)."""
    # Mirrored it is seen once more. Looks differ where one of them misses a part of the figure: an ear, a lock of hair.
    (alpha, depth), (other, deep) = _seen(square), _seen(square[..., ::-1])
    other, deep = other[..., ::-1], deep[..., ::-1]
    figure = np.maximum(alpha[:1], other[:1])
    share = 0.5 * (alpha[1:2] / np.maximum(alpha[:1], 0.05) + other[1:2] / np.maximum(other[:1], 0.05))
    alpha = np.concatenate([figure, figure * share, 0.5 * (alpha[2:] + other[2:])]).clip(0, 1)
    depth = 0.5 * (depth + deep)
    levels = np.concatenate([alpha, np.clip(depth / 8 + 0.5, 0, 1)]).transpose(1, 2, 0)
    return np.rint(255 * levels).astype(np.uint8)


def _seen(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alpha float32 (3, S, S) and depth (1, S, S) of what the network is shown, (1, 5, S, S)."""
    alpha, depth = _session(str(default_matting())).run(
        ["alpha", "depth"], {"square": np.ascontiguousarray(square)}
    )
    return alpha[0], depth[0]
