"""The contours of an avatar: from its sidecar where there is one, else found, once per picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from livepuppet.core.cache import remember, remembered
from livepuppet.core.errors import UserError
from livepuppet.core.square import Square
from livepuppet.realtime.engines import Engine
from livepuppet.realtime.rig.close_ups import PLACING, CloseUps, default_avatar_eyes
from livepuppet.realtime.rig.contours import Contours, find_contours
from livepuppet.realtime.rig.looks import look
from livepuppet.realtime.rig.sidecar import checksum, from_json, read_sidecar, sidecar_path, to_json

#: Of the way contours are found, close-ups' weights included. Another one forgets what was remembered.
FINDER = 17

#: Of landmarks of a face, the middle confidence is mostly above 0.6, and the looks agree on most of them to within this
#: much, in distances between the eyes.
LEAST_CONFIDENCE, LARGEST_SPREAD = 0.35, 0.15


def find(engine: Engine, picture: np.ndarray, square: Square) -> Contours:
    """The contours of the face in `square` of `picture` uint8 RGB (H, W, 3); without parts where there is no face."""
    names = set(engine.keypoint_names)
    if not {"left iris", "right iris", "left mouth corner", "chin", "left upper lid"} <= names:
        return find_contours(picture, None)
    landmarks = look(engine, picture, square)
    apart = float(np.linalg.norm(landmarks["left iris"] - landmarks["right iris"]))
    face = (
        float(np.median(landmarks.confidence)) >= LEAST_CONFIDENCE
        and float(np.median(landmarks.spread)) <= LARGEST_SPREAD * apart
    )
    if not face:
        return find_contours(picture, None)
    looks = []
    if set(PLACING) <= names:
        looks = CloseUps(landmarks.names, eyes=default_avatar_eyes()).several(picture, landmarks.points)
    return find_contours(picture, landmarks, looks)


def contours_of(
    engine: Engine, picture: np.ndarray, square: Square, path: Path | None = None
) -> tuple[Contours, list[str]]:
    """The contours of an avatar, and what to say of them.

    Args:
        picture: uint8 RGB (H, W, 3).
        square: where its face is.
        path: of the picture's file; its sidecar beside it has the first word, unless it is not right.

    Returns:
        The contours, and a sentence for a sidecar that is not used and for each part that is not moved.
    """
    sentences = []
    if path is not None and os.path.exists(sidecar_path(path)):
        try:
            contours = read_sidecar(sidecar_path(path), picture)
            return contours, contours.notes
        except UserError as error:
            sentences.append(str(error))
    inputs = {
        "finder": FINDER,
        "picture": checksum(picture),
        "square": [square.x, square.y, square.side],
        "model": [engine.model_name, list(engine.keypoint_names), engine.size],
    }
    try:
        contours = from_json(remembered("rigs", inputs).encode(), picture)
    except (KeyError, ValueError, AttributeError):
        contours = find(engine, picture, square)
        remember("rigs", inputs, to_json(contours, picture))
    return contours, sentences + contours.notes
