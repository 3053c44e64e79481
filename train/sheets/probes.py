"""Sheets of probes (puppets of which one factor changes) and of avatars at rest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from livepuppet.model.lite import LANDMARKS
from livepuppet.model.transfer import transfer
from livepuppet.train.metrics.inference import device_of, evaluating
from livepuppet.train.metrics.responses import GROUPS, JITTER, Probe
from livepuppet.train.sheets.tiles import labelled, small, tiled, to_image

#: Factors that change the face alone.
FACIAL_FACTORS = (*GROUPS["mouth"], *GROUPS["eyes"])


def crop_face(image: np.ndarray, points: Tensor) -> np.ndarray:
    """The square of uint8 RGB (S, S, 3) around the inner face, by keypoints (K, 2) in [-1, 1] that
    are landmarks.
    """
    inner = [k for k, name in enumerate(LANDMARKS) if name not in ("collar", "chin", "forehead")]
    places = (points[inner].numpy() + 1) * (image.shape[0] - 1) / 2
    low, high = places.min(0), places.max(0)
    side = int(min(1.45 * (high - low).max() + 8, image.shape[0]))
    left, top = np.clip((low + high) / 2 - side / 2, 0, image.shape[0] - side).astype(int)
    return image[top : top + side, left : left + side]


@torch.no_grad()
def probe_sheet(model, probes: list[Probe], count: int = 2) -> np.ndarray:
    """A column per factor; rows for each of `count` puppets: avatar, driver, truth, driven by the
    other puppet, by its own change, the bare warp of that, and the avatar under the true flow.
    Where only the face changes, it is shown larger.
    """
    device = device_of(model)
    names = ("avatar", "driver", "truth", "cross", "self", "warp", "true flow")
    rows = [[] for _ in range(count * len(names))]
    with evaluating(model):
        for probe in probes:
            for k in range(min(count, len(probe.source))):
                one = slice(k, k + 1)
                source, truth, driver, after = (
                    image[one].to(device)
                    for image in (probe.source, probe.truth, probe.driver, probe.driver_after)
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
                for row, (name, image) in enumerate(zip(names, shown, strict=True)):
                    image = to_image(image)
                    if probe.factor in FACIAL_FACTORS:
                        points = probe.driver_points if name == "driver" else probe.points
                        image = crop_face(image, points[k])
                    image = small(image)
                    text = (
                        probe.factor if name == "avatar" else name if not rows[k * len(names) + row] else ""
                    )
                    rows[k * len(names) + row].append(labelled(image, text) if text else image)
    return tiled([row for row in rows if row])


@torch.no_grad()
def rest_sheet(model, images: Tensor) -> np.ndarray:
    """Columns of images (B, 3, S, S); rows: as they are, when nothing moves, and with keypoints
    that tremble.
    """
    rng, rows = torch.Generator().manual_seed(5), [[], [], []]
    with evaluating(model):
        for image in images.to(device_of(model)).split(1):
            points, jacobians = model.detect(image)
            features = model.encode(image)
            noise = JITTER * 2 / 255 * torch.randn(points.shape, generator=rng).to(points)
            for row, moved in zip(rows[1:], (points, points + noise), strict=True):
                row.append(
                    to_image(model.render(features, points, jacobians, moved, jacobians)["prediction"])
                )
            rows[0].append(to_image(image))
    return tiled(rows)
