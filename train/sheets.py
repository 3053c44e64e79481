"""Picture sheets: what training and evaluation look like, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from livepuppet.model.lite import LANDMARKS
from livepuppet.train.lite.animator import transfer
from livepuppet.train.lite.responses import GROUPS, Probe
from livepuppet.train.measure.watching import device_of, evaluating

#: Factors that change the face alone.
CLOSE = (*GROUPS["mouth"], *GROUPS["eyes"])

#: Side of a picture on a sheet of many, in pixels.
SIDE = 176


def to_picture(batch: Tensor) -> np.ndarray:
    """(B, 3, H, W) RGB in [0, 1] to uint8 RGB (H, B * W, 3), side by side."""
    pictures = (batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.concatenate(list(pictures), axis=1)


def write(path: Path, picture: np.ndarray) -> None:
    """Write uint8 RGB as a PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise OSError(f"cannot write {path}")


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """A copy of uint8 RGB (H, W, 3) with a short text in its upper left corner, white with a dark edge."""
    picture = np.ascontiguousarray(picture)
    if picture.flags.writeable is False or picture.base is not None:
        picture = picture.copy()
    scale = picture.shape[0] / 360
    place = (round(14 * scale), round(38 * scale))
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
    return picture


def small(picture: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A square picture uint8 RGB brought to (side, side, 3)."""
    if picture.shape[0] == side:
        return picture
    way = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(picture, (side, side), interpolation=way)


def tiled(rows: Sequence[Sequence[np.ndarray | None]], side: int = SIDE, line: int = 2) -> np.ndarray:
    """Square pictures uint8 RGB in rows and columns, thin white lines between them; None leaves a place white."""
    height = len(rows) * (side + line) - line
    width = max(len(row) for row in rows) * (side + line) - line
    sheet = np.full((height, width, 3), 255, np.uint8)
    for top, row in enumerate(rows):
        for left, picture in enumerate(row):
            if picture is not None:
                y, x = top * (side + line), left * (side + line)
                sheet[y : y + side, x : x + side] = small(picture, side)
    return sheet


def middle_of(picture: np.ndarray, points: Tensor) -> np.ndarray:
    """The square of uint8 RGB (S, S, 3) around the inner face, by keypoints (K, 2) in [-1, 1] that are landmarks."""
    inner = [k for k, name in enumerate(LANDMARKS) if name not in ("collar", "chin", "forehead")]
    places = (points[inner].numpy() + 1) * (picture.shape[0] - 1) / 2
    low, high = places.min(0), places.max(0)
    side = int(min(1.45 * (high - low).max() + 8, picture.shape[0]))
    left, top = np.clip((low + high) / 2 - side / 2, 0, picture.shape[0] - side).astype(int)
    return picture[top : top + side, left : left + side]


@torch.no_grad()
def probe_sheet(model, probes: list[Probe], count: int = 2) -> np.ndarray:
    """A column per factor; rows for each of `count` puppets: avatar, driver, truth, driven by the other puppet, by its own
    change, the bare warp of that, and the avatar under the true flow. Where only the face changes, it is shown larger.
    """
    device = device_of(model)
    names = ("avatar", "driver", "truth", "cross", "self", "warp", "true flow")
    rows = [[] for _ in range(count * len(names))]
    with evaluating(model):
        for probe in probes:
            for k in range(min(count, len(probe.source))):
                one = slice(k, k + 1)
                source, truth, driver, after = (
                    picture[one].to(device)
                    for picture in (probe.source, probe.truth, probe.driver, probe.driver_after)
                )
                avatar, own = model.detect(source), model.detect(truth)
                moved = transfer(avatar, model.detect(driver), model.detect(after))
                features = model.encode(source)
                itself = model.render(features, *avatar, *own)
                across = model.render(features, *avatar, *moved)["prediction"]
                shown = (
                    source,
                    after,
                    truth,
                    across,
                    itself["prediction"],
                    itself.get("warped", across),
                    probe.warped[one],
                )
                for row, (name, picture) in enumerate(zip(names, shown, strict=True)):
                    picture = to_picture(picture)
                    if probe.factor in CLOSE:
                        points = probe.driver_points if name == "driver" else probe.points
                        picture = middle_of(picture, points[k])
                    picture = small(picture)
                    text = (
                        probe.factor if name == "avatar" else name if not rows[k * len(names) + row] else ""
                    )
                    rows[k * len(names) + row].append(labelled(picture, text) if text else picture)
    return tiled([row for row in rows if row])


@torch.no_grad()
def rest_sheet(model, pictures: Tensor) -> np.ndarray:
    """Columns of pictures (B, 3, S, S); rows: as they are, when nothing moves, and with keypoints that tremble."""
    from livepuppet.train.lite.responses import JITTER

    rng, rows = torch.Generator().manual_seed(5), [[], [], []]
    with evaluating(model):
        for picture in pictures.to(device_of(model)).split(1):
            points, jacobians = model.detect(picture)
            features = model.encode(picture)
            noise = JITTER * 2 / 255 * torch.randn(points.shape, generator=rng).to(points)
            for row, moved in zip(rows[1:], (points, points + noise), strict=True):
                row.append(
                    to_picture(model.render(features, points, jacobians, moved, jacobians)["prediction"])
                )
            rows[0].append(to_picture(picture))
    return tiled(rows)
