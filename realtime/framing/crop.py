"""Which square of a picture goes to the model: find the face, cut like the papers do, hold it steady."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from livepuppet.realtime.errors import UserError

#: Side of the square in widths of the face box. In crops made as the papers do, the box of OpenCV's frontal face
#: detector is 0.51 to 0.67 of the side (ten clips, median 0.60); a little more margin leaves room to move.
SIDE_PER_FACE = 1.8

#: The tightest crop that still holds a head, for faces that nearly fill the picture.
SMALLEST_SIDE_PER_FACE = 1.5

#: By how much of its side a square is moved to stay inside the picture.
LARGEST_SHIFT = 0.18

#: Where the centre of that box sits in the square, as a share of its height (0.44 to 0.59, median 0.54).
FACE_HEIGHT = 0.54

#: A square picture whose face box is at least this share of its side is a face crop already.
FACE_FILLS = 0.4

#: Faces smaller than this share of the picture's shorter side are not looked for.
SMALLEST_FACE = 0.09

#: Larger pictures are shrunk to this side for the detector: faces of 70 pixels in a VGA frame are still found.
DETECTOR_SIDE = 480


@dataclass(frozen=True)
class Square:
    """A square of a picture, in its pixels; it may reach beyond the edges.

    Attributes:
        x, y: left and top edge.
        side: width and height, at least 1.
    """

    x: float
    y: float
    side: float

    def scaled(self, factor: float) -> Square:
        """The same square of a picture `factor` times as large."""
        return Square(self.x * factor, self.y * factor, self.side * factor)

    def zoomed(self, factor: float) -> Square:
        """About the same centre, `factor` times as large (below 1: the face appears larger)."""
        side = max(16.0, self.side * factor)
        return Square(self.x + (self.side - side) / 2, self.y + (self.side - side) / 2, side)

    def shifted(self, right: float, down: float) -> Square:
        """Moved by shares of its own side."""
        return replace(self, x=self.x + right * self.side, y=self.y + down * self.side)


def centred_square(height: int, width: int) -> Square:
    """The largest square in the middle of a picture."""
    side = min(height, width)
    return Square((width - side) // 2, (height - side) // 2, side)


def parse_square(text: str) -> Square:
    """`X,Y,SIDE` in pixels. Raises UserError if it is anything else."""
    try:
        x, y, side = (float(part) for part in text.split(","))
    except ValueError:
        side = 0.0
    if not side >= 1:
        raise UserError(f"The crop '{text}' is not X,Y,SIDE in pixels, as in 420,40,560.")
    return Square(x, y, side)


def cut(picture: np.ndarray, square: Square, size: int) -> np.ndarray:
    """The square of `picture` uint8 (H, W, 3), resized to uint8 (size, size, 3).

    Beyond the edges the outermost pixels are repeated. A square that already has the right size is copied, not
    resampled, so that its pixels stay as they are.
    """
    height, width = picture.shape[:2]
    side = max(1, round(square.side))
    left, top = round(square.x), round(square.y)
    inner = picture[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if inner.size == 0:
        raise UserError(f"The crop {left},{top},{side} lies outside the picture of {width}x{height} pixels.")
    border = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
    if any(border):
        # Shrink first: repeating edges is then a matter of `size` pixels, not of the camera's.
        scale = size / side
        if scale < 1:
            before = [round(edge * scale) for edge in (border[0], border[2])]
            extent = [
                max(1, min(round(length * scale), size - start))
                for length, start in zip(inner.shape[:2], before, strict=True)
            ]
            small = cv2.resize(inner, (extent[1], extent[0]), interpolation=cv2.INTER_AREA)
            return cv2.copyMakeBorder(
                small,
                before[0],
                size - before[0] - extent[0],
                before[1],
                size - before[1] - extent[1],
                cv2.BORDER_REPLICATE,
            )
        inner = cv2.copyMakeBorder(inner, *border, cv2.BORDER_REPLICATE)
    if side == size:
        return np.ascontiguousarray(inner)
    return cv2.resize(inner, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


@cache
def _cascade(name: str) -> cv2.CascadeClassifier | None:
    """One of OpenCV's bundled cascades, or None where the installed OpenCV has none (version 5)."""
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    path = Path(folder) / f"haarcascade_{name}.xml"
    if not path.is_file() or not hasattr(cv2, "CascadeClassifier"):
        return None
    cascade = cv2.CascadeClassifier(str(path))
    return None if cascade.empty() else cascade


def _detect(gray: np.ndarray, cascade: str, neighbours: int) -> list[Square]:
    """Face boxes of one cascade in `gray` uint8 (H, W)."""
    classifier = _cascade(cascade)
    if classifier is None:
        return []
    smallest = max(20, round(SMALLEST_FACE * min(gray.shape)))
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
    """The driver's face in `picture` uint8 RGB (H, W, 3): the detector's box in its pixels, or None.

    No single cascade can be trusted: each misses faces and sees some in folds of cloth. Five looks vote (frontal,
    frontal with the contrast evened out for dark rooms and light from behind, another frontal, both profiles), and
    the largest face near the middle that two of them agree on, or that the most careful one saw, is the driver's.
    About 40 ms for a webcam frame in the plain case, 150 ms in others.
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
        return careful[0].scaled(1 / scale)
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

    # Frontal boxes first: where votes are equal, their place in the face is the one `SIDE_PER_FACE` was measured on.
    best = max((box for boxes in looks[:3] for box in boxes), key=weight, default=None)
    if best is None or weight(best) == 0:
        best = max((box for boxes in looks[3:] for box in boxes), key=weight, default=None)
    if best is None or weight(best) == 0:
        return None
    return best.scaled(1 / scale)


def square_around(face: Square, height: int, width: int) -> Square:
    """The papers' kind of crop around a face box in a picture: the whole head with margin.

    It is kept inside the picture as far as the head allows: a little smaller or aside rather than filled up with
    repeated edges.
    """
    side = max(min(face.side * SIDE_PER_FACE, height, width), face.side * SMALLEST_SIDE_PER_FACE)
    x = face.x + face.side / 2 - side / 2
    y = face.y + face.side / 2 - side * FACE_HEIGHT
    slack = side * LARGEST_SHIFT
    x += float(np.clip(np.clip(x, 0, max(width - side, 0)) - x, -slack, slack))
    y += float(np.clip(np.clip(y, 0, max(height - side, 0)) - y, -slack, slack))
    return Square(x, y, side)


def square_for(faces: Sequence[Square], height: int, width: int) -> Square:
    """The crop for a picture in which `faces` (of one person, in several frames) were found; their median decides.

    A square picture that the face fills, or in which there is none, is a crop already and stays whole. Without a
    face, any other picture gives its middle.
    """
    if not faces:
        return centred_square(height, width)
    face = Square(*np.median([(face.x, face.y, face.side) for face in faces], axis=0).tolist())
    if height == width and face.side >= FACE_FILLS * width:
        return centred_square(height, width)
    return square_around(face, height, width)


class Framing:
    """The square that is cut from every driving frame of one session.

    It is settled from the first frames and then stays, because a square that follows the face would take the very
    motion away that is to be transferred, and put its own jitter in.

    Args:
        crop: `auto` (find the face), `full` (the largest centred square) or `X,Y,SIDE` in pixels.
        looks: how many faces settle the square.
        patience: after so many frames it is settled with the faces found until then, if any.
    """

    def __init__(self, crop: str = "auto", looks: int = 5, patience: int = 15):
        self.fixed = None if crop in ("auto", "full") else parse_square(crop)
        self.crop, self.looks, self.patience = crop, looks, patience
        self.search_again()

    def search_again(self) -> None:
        """Forget the square and the person's adjustments, and look for the face anew."""
        self.square: Square | None = None
        self.faces: list[Square] = []
        self._frames = 0
        self._shape: tuple[int, int] | None = None

    @property
    def settled(self) -> bool:
        return self.square is not None

    @property
    def from_face(self) -> bool:
        """Whether the square was put around a face, rather than given or taken whole."""
        return bool(self.faces) and self.settled and self.square != centred_square(*self._shape)

    def look(self, picture: np.ndarray) -> bool:
        """Take one more frame uint8 RGB (H, W, 3) into account. Returns whether the square is settled.

        Costs a face detection per frame until then and nothing afterwards. A source that changes its size in
        between starts over.
        """
        height, width = picture.shape[:2]
        if self._shape not in (None, (height, width)):
            self.search_again()
        self._shape = (height, width)
        if self.settled:
            return True
        if self.fixed is not None:
            self.square = self.fixed
        elif self.crop == "full":
            self.square = centred_square(height, width)
        else:
            self._frames += 1
            face = find_face(picture)
            if face is not None:
                self.faces.append(face)
            if len(self.faces) >= self.looks or self._frames >= self.patience:
                self.settle()
        return self.settled

    def settle(self) -> None:
        """Decide with what was seen so far (a clip shorter than the patience). Needs at least one look."""
        if not self.settled and self._shape is not None:
            self.square = square_for(self.faces, *self._shape)

    def zoom(self, factor: float) -> None:
        """Make a settled square `factor` times as large, within a twentieth and twice the picture's longer side."""
        if self.square is not None:
            longest = max(self._shape)
            side = np.clip(self.square.side * factor, longest / 20, longest * 2)
            self.square = self.square.zoomed(side / self.square.side)

    def shift(self, right: float, down: float) -> None:
        """Move a settled square by shares of its side, its centre staying inside the picture."""
        if self.square is not None:
            moved = self.square.shifted(right, down)
            height, width = self._shape
            half = moved.side / 2
            self.square = replace(
                moved,
                x=float(np.clip(moved.x + half, 0, width) - half),
                y=float(np.clip(moved.y + half, 0, height) - half),
            )

    def cut(self, picture: np.ndarray, size: int) -> np.ndarray:
        """The settled square (until then the middle) of `picture`, as uint8 RGB (size, size, 3)."""
        return cut(picture, self.square or centred_square(*picture.shape[:2]), size)
