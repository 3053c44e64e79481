"""An eye with closed lids, as the network of `model.closed_eye` draws it, once per picture.

The network sees the eye upright, its inner corner on the left, in a frame that spans two widths of the eye. It draws skin alone:
lashes are the picture's own, and so is what is finer than the frame's pixels.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

from livepuppet.realtime.rig.contours import EyeContours
from livepuppet.realtime.rig.ramps import smooth

#: The frame, in pixels; of these, how many an eye is wide; and where the frame begins, in widths from the inner corner.
WIDTH, HEIGHT, PER_WIDTH, LEFT, TOP = 128, 80, 64, -0.5, -0.72

#: From where to where eyes are round: how deep the lower lid hangs, in widths.
ROUND = 0.24, 0.38


@functools.cache
def _session(path: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def close_closed_eye() -> None:
    """Close the network until it is needed again: kept open it takes 14 MB."""
    _session.cache_clear()


def default_closed_eye() -> Path:
    """The network that comes with livepuppet."""
    return Path(__file__).parent.parent / "data" / "rig" / "closed-eye.onnx"


def frame_of(inner: np.ndarray, outer: np.ndarray, side: str) -> np.ndarray:
    """The frame's axes, (2, 3) from its pixels to the picture's.

    Args:
        inner, outer: the eye's corners (2,), the inner one towards the other eye.
        side: `left` or `right`, of the picture.
    """
    along = (outer - inner).astype(np.float64)
    down = np.array([-along[1], along[0]]) * (1 if side == "right" else -1)
    return np.stack([along / PER_WIDTH, down / PER_WIDTH, inner + LEFT * along + TOP * down], 1)


def where_lids_meet(low: np.ndarray, width: float) -> np.ndarray:
    """Heights below the line through the corners at which closed lids meet, (N,) in pixels, evenly from corner to corner.

    One smooth curve, close to the lower lid, which rises to meet the upper one; in round eyes it hangs less.

    Args:
        low: the same of the lower lid of the open eye.
    """
    u = np.linspace(0, 1, len(low))
    deep = max(float(low.max()), 1e-3)
    least = 0.2 * width
    hangs = min(deep, least + 0.35 * max(deep - least, 0))
    arc = 1 - np.square(2 * u - 1)
    share = 0.85 - 0.2 * float(smooth(*ROUND, deep / width))
    closed = share * np.where(low > 0, low * (hangs / deep), low) + 0.045 * width * arc
    closed = cv2.GaussianBlur(closed[None], (0, 0), len(low) / 24, borderType=cv2.BORDER_REPLICATE)[0]
    return closed - (closed[0] + (closed[-1] - closed[0]) * u)


def cut_frame(picture: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The frame with these axes out of a picture (H, W, 3), (HEIGHT, WIDTH, 3); beyond its edges their pixels."""
    return cv2.warpAffine(
        picture,
        axes,
        (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def closed_eye(picture: np.ndarray, eye: EyeContours, side: str) -> tuple[np.ndarray, np.ndarray]:
    """The eye's frame with closed lids and without lashes, and as the picture shows it, float32 (HEIGHT, WIDTH, 3) in [0, 255].

    Args:
        picture: uint8 RGB (H, W, 3).
        eye: its contours in the picture's pixels.
        side: `left` or `right`, of the picture.
    """
    inner, outer = (eye.upper[0], eye.upper[-1]) if side == "right" else (eye.upper[-1], eye.upper[0])
    axes = frame_of(inner, outer, side)
    back = np.linalg.inv(np.vstack([axes, np.float64([[0, 0, 1]])]))[:2]
    seen = _sampled(picture, axes)
    columns = np.arange(WIDTH).astype(np.float32)
    rows = np.arange(HEIGHT).astype(np.float32)[:, None]

    def curve(points: np.ndarray) -> np.ndarray:
        at = points @ back[:, :2].T + back[:, 2]
        order = np.argsort(at[:, 0], kind="stable")
        return np.interp(columns, at[order, 0], at[order, 1]).astype(np.float32)

    upper, lower = curve(eye.upper), curve(eye.lower)
    first, line = round(-LEFT * PER_WIDTH), -TOP * PER_WIDTH
    within = slice(first, first + PER_WIDTH + 1)
    lid = np.zeros((HEIGHT, WIDTH), np.float32)
    meet = line + where_lids_meet(np.maximum(lower, upper)[within] - line, PER_WIDTH)
    lid[:, within] = np.clip(meet[None] - rows + 0.5, 0, 1)
    opening = np.zeros((HEIGHT, WIDTH), np.float32)
    opening[:, within] = (np.clip(rows - upper + 0.5, 0, 1) * np.clip(lower - rows + 0.5, 0, 1))[:, within]
    shown = np.dstack([seen, opening, lid]).transpose(2, 0, 1)[None]
    drawn = _seen(shown.astype(np.float32))
    return 255 * drawn[:3].transpose(1, 2, 0).clip(0, 1), 255 * seen


def _seen(shown: np.ndarray) -> np.ndarray:
    """What the network draws of (1, 5, HEIGHT, WIDTH): (4, HEIGHT, WIDTH)."""
    return _session(str(default_closed_eye())).run(["closed"], {"eye": np.ascontiguousarray(shown)})[0][0]


def _sampled(picture: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The frame of the picture, float32 (HEIGHT, WIDTH, 3) in [0, 1]."""
    scale = float(np.hypot(*axes[:, 0]))
    corners = axes[:, :2] @ np.float64([[0, WIDTH, 0, WIDTH], [0, 0, HEIGHT, HEIGHT]]) + axes[:, 2:]
    limits = picture.shape[1], picture.shape[0]
    left, top = (
        int(np.clip(np.floor(v - 2 * scale - 2), 0, n - 1))
        for v, n in zip(corners.min(1), limits, strict=True)
    )
    right, bottom = (
        int(np.clip(np.ceil(v + 2 * scale + 2), low + 1, n))
        for v, low, n in zip(corners.max(1), (left, top), limits, strict=True)
    )
    part = picture[top:bottom, left:right].astype(np.float32) / 255
    if scale > 1.3:
        part = cv2.GaussianBlur(part, (0, 0), 0.45 * scale)
    moved = axes.copy()
    moved[:, 2] -= (left, top)
    return cut_frame(part, moved)
