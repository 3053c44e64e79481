"""The face in a picture, by OpenCV's cascades, and the square around it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from livepuppet.core.square import Square, centred_square

#: Side of the square in widths of the face box. In crops made as the papers do, the box of OpenCV's
#: frontal face detector is 0.51 to 0.67 of the side (ten clips, median 0.60); a little more margin
#: leaves room to move.
SIDE_PER_FACE = 1.8

#: The tightest crop that still holds a head, for faces that nearly fill the picture.
SMALLEST_SIDE_PER_FACE = 1.5

#: By how much of its side a square is moved to stay inside the picture.
LARGEST_SHIFT = 0.18

#: Where the centre of that box sits in the square, as a share of its height (0.44 to 0.59, median
#: 0.54).
FACE_HEIGHT = 0.54

#: A square picture whose face box is at least this share of its side is a face crop already.
FACE_FILLS = 0.4

#: Faces smaller than this share of the picture's shorter side are not looked for.
SMALLEST_FACE = 0.09

#: Larger pictures are shrunk to this side for the detector: faces of 70 pixels in a VGA frame are
#: still found.
DETECTOR_SIDE = 480


_one_at_a_time = threading.Lock()


@cache
def _cascade(name: str) -> cv2.CascadeClassifier | None:
    """One of OpenCV's bundled cascades, or None where the installed OpenCV has none (version 5)."""
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / f"haarcascade_{name}.xml"
    if not path.is_file() or not hasattr(cv2, "CascadeClassifier"):
        return None
    cascade = cv2.CascadeClassifier(str(path))
    return None if cascade.empty() else cascade


def read_cascades() -> None:
    """Read what the plain case of `find_faces` needs, so that the first face is found sooner."""
    _cascade("frontalface_alt2")


def _detect(gray: np.ndarray, cascade: str, neighbours: int) -> list[Square]:
    """Face boxes of one cascade in `gray` uint8 (H, W)."""
    classifier = _cascade(cascade)
    if classifier is None:
        return []
    smallest = max(20, round(SMALLEST_FACE * min(gray.shape)))
    # One cascade cannot be run by two threads at once: the live loop's search, and a new avatar.
    with _one_at_a_time:
        boxes = classifier.detectMultiScale(gray, 1.1, neighbours, minSize=(smallest, smallest))
    return [Square(float(x), float(y), float(width)) for x, y, width, _ in boxes]


def _agree(one: Square, other: Square) -> bool:
    """Whether two boxes show the same face."""
    apart = np.hypot(
        one.x + one.side / 2 - other.x - other.side / 2, one.y + one.side / 2 - other.y - other.side / 2
    )
    larger, smaller = max(one.side, other.side), min(one.side, other.side)
    return bool(apart < 0.3 * larger and larger < 1.5 * smaller)


def find_face(picture: np.ndarray) -> Square | None:
    """The driver's face in `picture` uint8 RGB (H, W, 3): the detector's box in its pixels, or
    None. The first of `find_faces`.
    """
    return next(iter(find_faces(picture)), None)


def find_faces(picture: np.ndarray) -> list[Square]:
    """The faces in `picture` uint8 RGB (H, W, 3), the likeliest driver's first: boxes of the
    detector in its pixels.

    No single cascade can be trusted: each misses faces and sees some in folds of cloth. Five looks
    vote (frontal, frontal with the contrast evened out for dark rooms and light from behind,
    another frontal, both profiles), and a face is what two of them agree on, or what the most
    careful one saw; large ones near the middle come first. About 40 ms for a webcam frame in the
    plain case, 150 ms in others.
    """
    height, width = picture.shape[:2]
    scale = float(np.clip(DETECTOR_SIDE / max(height, width), None, 1.0 if max(height, width) > 200 else 4.0))
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if scale != 1:
        gray = cv2.resize(
            gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
    height, width = gray.shape
    even = cv2.createCLAHE(3.0, (8, 8)).apply(gray)
    careful, evened = _detect(gray, "frontalface_alt2", 3), _detect(even, "frontalface_alt2", 3)
    if len(careful) == len(evened) == 1 and _agree(careful[0], evened[0]):
        # The plain case, four times as fast: one face, whatever the light.
        return [careful[0].scaled(1 / scale)]
    other_profile = [
        replace(box, x=width - box.x - box.side) for box in _detect(even[:, ::-1].copy(), "profileface", 4)
    ]
    looks = [
        careful,
        evened,
        _detect(even, "frontalface_default", 5),
        _detect(even, "profileface", 4),
        other_profile,
    ]

    def weight(box: Square) -> float:
        away = np.hypot(
            (box.x + box.side / 2) / width - 0.5, ((box.y + box.side / 2) / height - 0.45) * height / width
        )
        votes = sum(any(_agree(box, other) for other in boxes) for boxes in looks)
        return votes * box.side * np.exp(-2.0 * away) if votes > 1 or box in careful else 0.0

    found: list[Square] = []
    # Frontal boxes first: where votes are equal, their place in the face is the one `SIDE_PER_FACE`
    # was measured on.
    for kind in (looks[:3], looks[3:]):
        for box in sorted((box for boxes in kind for box in boxes), key=weight, reverse=True):
            if weight(box) > 0 and not any(_same_head(box, other) for other in found):
                found.append(box)
    return [box.scaled(1 / scale) for box in found]


def _same_head(one: Square, other: Square) -> bool:
    """Whether two boxes lie on one head, so that they cannot be two people."""
    larger, smaller = max(one.side, other.side), min(one.side, other.side)
    apart = np.hypot(
        one.x + one.side / 2 - other.x - other.side / 2, one.y + one.side / 2 - other.y - other.side / 2
    )
    return bool(apart < 0.5 * (larger + 0.2 * smaller))


def square_around(face: Square, height: int, width: int) -> Square:
    """The papers' kind of crop around a face box in a picture: the whole head with margin.

    It is kept inside the picture as far as the head allows: a little smaller or aside rather than
    filled up with repeated edges.
    """
    side = max(min(face.side * SIDE_PER_FACE, height, width), face.side * SMALLEST_SIDE_PER_FACE)
    x = face.x + face.side / 2 - side / 2
    y = face.y + face.side / 2 - side * FACE_HEIGHT
    slack = side * LARGEST_SHIFT
    x += float(np.clip(np.clip(x, 0, max(width - side, 0)) - x, -slack, slack))
    y += float(np.clip(np.clip(y, 0, max(height - side, 0)) - y, -slack, slack))
    return Square(x, y, side)


def face_of(square: Square) -> Square:
    """The face box that `square_around` would put `square` around, edges of the picture apart."""
    side = square.side / SIDE_PER_FACE
    return Square(square.x + (square.side - side) / 2, square.y + square.side * FACE_HEIGHT - side / 2, side)


def square_for(faces: Sequence[Square], height: int, width: int) -> Square:
    """The crop for a picture in which `faces` (of one person, in several frames) were found; their
    median decides.

    A square picture that the face fills, or in which there is none, is a crop already and stays
    whole. Without a face, any other picture gives its middle.
    """
    if not faces:
        return centred_square(height, width)
    face = Square(*np.median([(face.x, face.y, face.side) for face in faces], axis=0).tolist())
    if height == width and face.side >= FACE_FILLS * width:
        return centred_square(height, width)
    return square_around(face, height, width)
